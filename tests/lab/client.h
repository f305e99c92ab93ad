/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lab-client: what stands outside the guest and sees whether it keeps its word. This header joins
 * the parts: client.c (options, waiting, reporting) and one file per kind of client. One thread.
 *
 * Each client prints JSON lines: {"event":"connected"}, "progress" every --report, "gap" when
 * nothing came for longer than --gap, "wrong" for a broken promise, and "result" last. Times are
 * CLOCK_MONOTONIC, which all processes of a machine share.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"

#define MS_NS UINT64_C(1000000)

struct client {
	const char *mode;
	struct sockaddr_in peer;
	uint64_t seed;
	uint64_t limit_bytes_per_s;
	uint64_t bytes_max;
	uint64_t time_ns;
	uint64_t report_ns;
	uint64_t gap_ns;
	uint64_t interval_ns;
	uint64_t retry_ns;
	uint64_t size_bytes;
	bool may_reboot;

	int signal_fd;
	bool is_stdin_watched;
	uint64_t started_ns;
	uint64_t next_report_ns;

	/* Kept by client_progress(). */
	uint64_t last_ns;
	uint64_t longest_gap_ns;
	uint64_t longest_gap_start_ns;
};

enum {
	CLIENT_STOP = 1,
	CLIENT_READABLE = 2,
	CLIENT_WRITABLE = 4,
	CLIENT_REPORT = 8,
};

uint64_t client_now_ns(void);

/* Wait until @fd is ready for @events (POLLIN, POLLOUT), @until_ns, a report is due, or it is time
 * to stop: SIGTERM, SIGINT, the end of a piped stdin, --time. A set of the flags above. */
int client_wait(struct client *c, int fd, short events, uint64_t until_ns);

/* A connected non-blocking TCP socket, or -1 having printed "wrong". */
int client_connect_tcp(struct client *c);
int client_connect_udp(struct client *c);

/* Something arrived: gaps are measured between these calls, beginning with the first. */
void client_progress(struct client *c);
/* {"event":"wrong",...} with a sentence. */
void client_wrong(struct client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Begin the line of the result with what all have in common; the caller adds members and "}\n". */
void client_print_head(struct client *c, const char *event);
void client_print_result(struct client *c, bool is_ok);
void client_print_latency(const struct hf_histogram *h);

/* The clients. Return whether all promises were kept. Each prints its result. */
bool client_run_stream(struct client *c);
bool client_run_echo(struct client *c);
bool client_run_counter(struct client *c);
bool client_run_ping(struct client *c);
