/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages for the tests of links, plain and over TLS, and a log of what has arrived. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../tests/test.h"
#include "cluster/link.h"
#include "codec/wire-bulk.h"

enum { MESSAGES_MAX = 8192 };

/* What has arrived: the token of a PING, or 1000 + the first page of a PAGES. */
struct log {
	unsigned int n;
	uint64_t what[MESSAGES_MAX];
	unsigned int stop_after; /* return false after so many */
	struct hf_link *pause, *answer;
};

static bool on_message(void *ctx, const struct hf_wire_view *view)
{
	struct log *log = ctx;
	struct hf_wire_msg msg = { .type = HF_WIRE_PONG };
	struct hf_wire_pages pages;
	struct hf_wire_pages_cursor cursor = { 0 };
	struct hf_wire_run run;

	CHECK(log->n < MESSAGES_MAX);
	if (view->type == HF_WIRE_PAGES) {
		CHECK_EQ(hf_wire_pages_decode(view, &pages, NULL), 0);
		CHECK(hf_wire_pages_next(&pages, &cursor, &run));
		log->what[log->n++] = 1000 + run.first_page;
		for (size_t i = 0; i < (size_t)run.n_pages * 4096; i += 512)
			CHECK_EQ(run.data[i], (uint8_t)run.first_page);
	} else {
		CHECK_EQ(hf_wire_decode(view, &msg, NULL), 0);
		log->what[log->n++] = view->type == HF_WIRE_PING ? msg.ping.token : 0;
	}
	if (log->pause)
		hf_link_pause(log->pause, /* is_paused= */ true);
	if (log->answer)
		CHECK_EQ(hf_link_send(log->answer, &msg, NULL), 0);
	return log->n != log->stop_after;
}

static struct hf_wire_msg ping(uint64_t token)
{
	return (struct hf_wire_msg){ .type = HF_WIRE_PING, .ping.token = token };
}

static void send_ping(struct hf_link *link, uint64_t token)
{
	struct hf_wire_msg msg = ping(token);

	CHECK_EQ(hf_link_send(link, &msg, NULL), 0);
}

/* An unsealed PAGES message of @n pages from @first on. Caller frees. */
static uint8_t *pages_message(uint64_t first, uint32_t n, size_t *ret_len)
{
	uint8_t *buf = malloc(HF_WIRE_MESSAGE_MAX), *data;
	struct hf_wire_pages_builder b;
	uint32_t taken;

	CHECK(buf);
	hf_wire_pages_begin(&b, buf);
	data = hf_wire_pages_add_data(&b, first, n, &taken);
	CHECK_EQ(taken, n);
	memset(data, (int)first, (size_t)n * 4096);
	*ret_len = hf_wire_pages_finish(&b);
	return buf;
}
