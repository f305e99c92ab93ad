/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All leases of the area, with what their first sectors say: who owns them, and what other hosts ask
 * for. Layer: daemon. Main thread; a thread of its own reads, with a store of its own.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "codec/leasedisk.h"
#include "service/loop.h"

struct hf_survey;

struct hf_survey_lease {
	char name[HF_LEASE_NAME_BYTES + 1];
	uint64_t offset;
	int r; /* 0, or why `leader` does not count: -EBADMSG, -EIO, ...; `error` says it */
	struct hf_lease_leader leader;
	bool has_request;
	struct hf_lease_request request;
	char error[160];
};

struct hf_survey_result {
	int r; /* 0; -errno with `error`: there is no list */
	struct hf_err error;
	unsigned int n;
	const struct hf_survey_lease *leases; /* valid during the call only */
};

typedef void hf_survey_done(void *ctx, const struct hf_survey_result *result);

int hf_survey_new(struct hf_loop *loop, const char *path, const char *space, struct hf_survey **ret,
		  struct hf_err *err) HF_MUST_CHECK;

/* -ETIMEDOUT: its thread hangs in the storage; the process has to end. Nobody is called back. */
int hf_survey_free(struct hf_survey *s) HF_MUST_CHECK;

/* @done once, from the loop. Those who ask while a scan is under way get the next one's result.
 * Return: 0; -EBUSY: too many are waiting. */
int hf_survey_start(struct hf_survey *s, hf_survey_done *done, void *ctx) HF_MUST_CHECK;

/* Who is not to be called back any more. */
void hf_survey_forget(struct hf_survey *s, const void *ctx);
