/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Before a primary may start its guest: does the other host hold or run this VM already? Layer: keeper.
 * Main thread.
 */
#pragma once

#include "keeper/keeper.h"

/* How to meet others until the role of this keeper is settled. */
extern const struct hf_meeting_ops hf_question_ops;

/**
 * hf_question_ask() - ask the other host, unless --force was given
 * BLOCKS, serving the event loop, until it has answered or the time for an inquiry is over.
 * Return: 0: the VM may start here; -EEXIST: it runs there, or a standby there holds its state;
 * -EHOSTUNREACH: nobody knows; -errno. @err says which, and what to do.
 */
int hf_question_ask(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;
