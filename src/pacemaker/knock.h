/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Does a daemon of Pacemaker answer? A child connects to it, and is given up if that takes too long: the libraries'
 * connect has no limit of its own. Layer: pacemaker. Main thread only. Nothing here waits.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "service/loop.h"

#define HF_KNOCK_LIMIT_S 3

/* The answer; not called from inside of hf_knock_begin(). */
typedef void hf_knock_answer(void *ctx, bool is_there);

/* All zero: nobody knocks. */
struct hf_knock {
	struct hf_watch watch;
	pid_t pid;
	int pidfd;
	hf_knock_answer *answer;
	void *ctx;
};

/* @server: "crmd", "attrd", "stonith-ng". Return: 0; -errno: not even asked. Not while another one is under way. */
int hf_knock_begin(struct hf_knock *k, struct hf_loop *loop, const char *server,
		   hf_knock_answer *answer, void *ctx) HF_MUST_CHECK;
bool hf_knock_is_under_way(const struct hf_knock *k);
/* Gives up, without an answer. */
void hf_knock_end(struct hf_knock *k);
