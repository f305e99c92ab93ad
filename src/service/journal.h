/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a service tells people: log lines on stderr (journald's or a terminal's), and events, which
 * are log lines that programs can read. Layer: service. Main thread only.
 *
 * Events are JSON objects {"seq", "time_ns", KEY, "event", "text", ...}, where KEY says whose they
 * are: "vm" in a keeper, "host" in the host's daemon. The newest are kept for those who join later.
 * Nothing here blocks for long: stderr is written with one write(2), and a line that stderr does not
 * take is dropped and counted.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "service/loglevel.h"

#define HF_EVENTS_KEPT 256 /* unless hf_journal_keep() says otherwise */

/* @event belongs to the journal: take a reference to keep it. */
typedef void hf_journal_listener(void *ctx, struct json_object *event);

struct hf_journal {
	const char *key; /* "vm" or "host" */
	char name[64]; /* its value */
	const char *program; /* in front of each line */
	enum hf_log_level level;
	bool is_for_journald; /* lines get a syslog priority in front */
	uint64_t seq; /* number of the newest event, 0: none yet */
	uint64_t dropped_lines;
	struct json_object **events; /* seq % n_kept */
	unsigned int n_kept;
	hf_journal_listener *listener;
	void *listener_ctx;
	hf_journal_listener *store; /* called first: who keeps events over a restart */
	void *store_ctx;
};

/* @program and @key are constants, @name is copied. */
void hf_journal_init(struct hf_journal *j, const char *program, const char *key, const char *name,
		     enum hf_log_level level);
void hf_journal_fini(struct hf_journal *j);

/* To be called before the first event. 0 or -ENOMEM. */
int hf_journal_keep(struct hf_journal *j, unsigned int n) __attribute__((warn_unused_result));

/* An event of an earlier run of this program, with a number above all that are there; neither logged
 * nor told to anybody. @event is taken over. */
void hf_journal_restore(struct hf_journal *j, uint64_t seq, struct json_object *event);

void hf_log(struct hf_journal *j, enum hf_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * hf_event() - log a line and tell listeners
 * @name: "protected", "promoted", ...: docs/man/holdfast.1 lists them
 * @details: further members, or NULL; the journal takes it over
 */
void hf_event(struct hf_journal *j, const char *name, struct json_object *details,
	      const char *format, ...) __attribute__((format(printf, 4, 5)));

/**
 * hf_event_forward() - an event of another program's journal, as one of this
 * It keeps its members and its time; its number becomes "keeper_seq", beside @keeper_pid. Not logged: it
 * has been, by whom it happened to.
 */
void hf_event_forward(struct hf_journal *j, const struct json_object *event, int keeper_pid);

/* The oldest event kept with a number above @after, or NULL. Borrowed. */
struct json_object *hf_journal_next(const struct hf_journal *j, uint64_t after, uint64_t *ret_seq);
