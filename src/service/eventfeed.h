/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The method Events(after: int) -> (event: object) of a Varlink service, with "more": the events
 * that the journal kept since, then each as it happens. Layer: service. Main thread only.
 */
#pragma once

#include "service/journal.h"
#include "service/varlink-server.h"

struct hf_eventfeed;

/* Becomes the listener of @journal. Return: 0 or -ENOMEM. Outlives the server that calls it. */
int hf_eventfeed_new(struct hf_journal *journal, struct hf_eventfeed **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_eventfeed_free(struct hf_eventfeed *f);

/* Answers @rq, or refuses it; the entry of the method table says needs_more. */
void hf_eventfeed_follow(struct hf_eventfeed *f, struct hf_varlink_request *rq,
			 const struct json_object *parameters);
