/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Word that the other host was fenced: is that the death of the keeper there? core/fenced.h judges. Layer: keeper. Main
 * thread only.
 */
#pragma once

#include "service/varlink-server.h"

struct hf_keeper;

/* Keeper.PeerDied; @ctx is the keeper. */
hf_varlink_method hf_order_peer_died;

/* After each step of a role's machine: a word that came before the other host was silent for long enough
 * is judged again, and forgotten when it proves nothing any more. May feed the role's machine. */
void hf_peer_fenced_again(struct hf_keeper *k);
