/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/eventfeed.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/json.h"

/* So much may wait in a connection before it is given more: replaying everything must not be taken for
 * a client that does not read. */
#define QUEUE_BYTES (128u << 10)

struct follower {
	struct hf_eventfeed *feed;
	struct follower *next;
	struct hf_varlink_request *rq;
	uint64_t seq; /* of the last that was sent */
};

struct hf_eventfeed {
	struct hf_journal *journal;
	struct follower *followers;
};

static void send_event(struct hf_varlink_request *rq, struct json_object *event)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "event", json_object_get(event));
	hf_varlink_continue(rq, o);
}

/* As many as there is room for; the rest when the client has read. */
static void pump(void *data)
{
	struct follower *f = data;
	struct json_object *event;

	while (hf_varlink_request_queued_bytes(f->rq) < QUEUE_BYTES &&
	       (event = hf_journal_next(f->feed->journal, f->seq, &f->seq)))
		send_event(f->rq, event);
}

static void on_event(void *ctx, struct json_object *event __attribute__((unused)))
{
	struct hf_eventfeed *feed = ctx;

	for (struct follower *f = feed->followers; f; f = f->next)
		pump(f);
}

static void on_gone(void *data)
{
	struct follower *f = data;
	struct follower **at = &f->feed->followers;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	free(f);
}

void hf_eventfeed_follow(struct hf_eventfeed *feed, struct hf_varlink_request *rq,
			 const struct json_object *parameters)
{
	struct follower *f;
	struct hf_err err;
	uint64_t seq = 0;

	if (hf_json_has(parameters, "after") && hf_json_u64(parameters, "after", &seq, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	if (seq > feed->journal->seq) /* one that has not come yet: from now on */
		seq = feed->journal->seq;
	f = calloc(1, sizeof(*f));
	if (!f) {
		hf_varlink_done(rq, NULL);
		return;
	}
	*f = (struct follower){ .feed = feed, .next = feed->followers, .rq = rq, .seq = seq };
	feed->followers = f;
	hf_varlink_request_watch(rq, on_gone, f);
	hf_varlink_request_on_room(rq, pump, f);
	pump(f);
}

int hf_eventfeed_new(struct hf_journal *journal, struct hf_eventfeed **ret)
{
	struct hf_eventfeed *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->journal = journal;
	journal->listener = on_event;
	journal->listener_ctx = f;
	*ret = f;
	return 0;
}

void hf_eventfeed_free(struct hf_eventfeed *f)
{
	struct follower *next;

	if (!f)
		return;
	f->journal->listener = NULL;
	for (struct follower *at = f->followers; at; at = next) {
		next = at->next;
		free(at);
	}
	free(f);
}
