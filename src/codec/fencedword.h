/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The word that a host was fenced, as the parameters of Host.Fenced and Keeper.PeerDied (data/varlink). Layer:
 * codec. Any thread; allocates nothing. core/fenced.h judges what it proves.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdint.h>

#include "base/error.h"

#define HF_FENCEDWORD_TEXT_MAX 255 /* bytes */

/* Texts are those of the object that was read, and live as long. */
struct hf_fencedword {
	const char *host; /* hf_is_valid_name() */
	uint64_t time_ns; /* CLOCK_REALTIME of who fenced: when it was done; anything */
	uint64_t begun_ns; /* the same: not before that; at most time_ns, which it is if not said */
	const char *text; /* printable: how, and by whom; may be "" */
};

/* 0; -EINVAL with @err: which member is wrong, and how. Other members are passed over. */
int hf_fencedword_read(const struct json_object *parameters, struct hf_fencedword *ret,
		       struct hf_err *err) HF_MUST_CHECK;
