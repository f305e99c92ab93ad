/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection to Pacemaker's fencer on this node: which node was switched off, and when. Layer: pacemaker. Main thread
 * only; calls wait for the fencer, HF_PCMK_ANSWER_MS at most.
 *
 * A notification says that something was done; what and when is in the fencer's own history, which also has what happened
 * while nobody listened. The time is when the fencer knew the node to be off: later than the truth, never earlier.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"

#define HF_FENCELINK_SERVER "stonith-ng"
#define HF_FENCELINK_TEXT_MAX 255

struct hf_fencelink;

struct hf_fencelink_fact {
	char node[HF_FENCELINK_TEXT_MAX + 1];
	uint64_t time_ns; /* CLOCK_REALTIME: it was over */
	uint64_t begun_ns; /* the same: the node had power until then, at least */
	char text[HF_FENCELINK_TEXT_MAX + 1]; /* "off by node2 for pacemaker-controld" */
};

/* Of one success; all in @fact is borrowed. Return: 0 to go on. */
typedef int hf_fencelink_take_fact(void *ctx, const struct hf_fencelink_fact *fact);

/* 0; -ENOTCONN; -ENOMEM. It has answered just now (knock.h), or this may never return. */
int hf_fencelink_open(struct hf_fencelink **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_fencelink_close(struct hf_fencelink *l);

int hf_fencelink_fd(const struct hf_fencelink *l);
/* After its descriptor was readable. 1: nodes were fenced; 0: nothing of interest; -ENOTCONN: it has ended. */
int hf_fencelink_take(struct hf_fencelink *l) HF_MUST_CHECK;

/* All that was switched off with success after @since_ns, oldest first, at most once for each node: the last time.
 * 0; what @take returned, if not 0; -errno: the connection is of no use. */
int hf_fencelink_list(struct hf_fencelink *l, uint64_t since_ns, hf_fencelink_take_fact *take,
		      void *ctx) HF_MUST_CHECK;
