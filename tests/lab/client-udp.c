/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The clients of the guest's UDP services: counter (format: tests/guest/udp.c) and ping.
 *
 * What the counter's replies prove. Each request carries a nonce. When it was first sent, the
 * client had seen the value `floor`; the guest knew of it or should have, so every answer to it
 * must be greater. No value may answer two nonces. Both hold whatever the network loses, repeats or
 * delays, so each breach is a violation: the guest was rolled back behind an output. The same
 * answer coming again is a duplicate and legal. A value lower than one already seen that breaks
 * neither rule came out of order: counted by itself, since a network may do that, but a single path
 * should not.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../guest/wire.h"
#include "client.h"

/* Requests and values remembered; what is older counts as late and is not judged. */
#define RING 65536
#define PING_HEADER_BYTES 16

struct asked {
	uint64_t nonce;
	uint64_t first_ns;
	uint64_t sent_ns;
	uint64_t floor;
	bool is_answered;
};

struct seen {
	uint64_t value;
	uint64_t nonce;
};

struct udp {
	struct client *c;
	int fd;
	bool is_counter;
	uint64_t next_nonce;
	uint64_t oldest_open;
	uint64_t next_send_ns;
	uint64_t highest;
	uint32_t boot;
	uint64_t replies, duplicates, reordered, retries, late, send_errors;
	uint64_t violations, reboots;
	struct hf_histogram latency;
	struct asked asked[RING];
	struct seen seen[RING];
};

static uint64_t initial_nonce(void)
{
	/* Nonces of an earlier client of the same port must not be taken for ours. */
	return client_now_ns() << 8;
}

static void send_request(struct udp *u, struct asked *a)
{
	uint8_t data[PING_BYTES_MAX] = { 0 };
	size_t len = COUNTER_REQUEST_BYTES;

	a->sent_ns = client_now_ns();
	hf_le64_put(data, a->nonce);
	if (u->is_counter) {
		hf_le64_put(data + 8, u->highest);
		hf_le32_put(data + 16, u->boot);
	} else {
		hf_le64_put(data + 8, a->sent_ns);
		len = (size_t)u->c->size_bytes;
	}
	if (send(u->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		u->send_errors++;
}

static void ask_next(struct udp *u)
{
	uint64_t nonce = u->next_nonce++, now = client_now_ns();
	struct asked *a = &u->asked[nonce % RING];

	*a = (struct asked){ .nonce = nonce, .first_ns = now, .floor = u->highest };
	if (u->next_nonce - u->oldest_open > RING)
		u->oldest_open = u->next_nonce - RING;
	send_request(u, a);
	u->next_send_ns += u->c->interval_ns;
	if (u->next_send_ns < now)
		u->next_send_ns = now + u->c->interval_ns;
}

/* The oldest request without an answer, or NULL. */
static struct asked *oldest_open(struct udp *u)
{
	while (u->oldest_open < u->next_nonce && u->asked[u->oldest_open % RING].is_answered)
		u->oldest_open++;
	return u->oldest_open < u->next_nonce ? &u->asked[u->oldest_open % RING] : NULL;
}

static uint64_t retry_due_ns(struct udp *u)
{
	const struct asked *a = oldest_open(u);

	return a && u->is_counter ? a->sent_ns + u->c->retry_ns : UINT64_MAX;
}

/* One at a time: while the guest is away, a crowd of retries would only fill queues. */
static void ask_again(struct udp *u)
{
	struct asked *a = oldest_open(u);

	if (!a)
		return;
	u->retries++;
	send_request(u, a);
}

static void violated(struct udp *u, const char *what, uint64_t value, uint64_t nonce)
{
	if (u->violations++ == 0)
		client_wrong(u->c,
			     "%s: value %" PRIu64 " for request %" PRIu64 ", highest %" PRIu64,
			     what, value, nonce, u->highest);
}

static void note_answer(struct udp *u, struct asked *a)
{
	if (a->is_answered)
		return;
	a->is_answered = true;
	hf_histogram_add(&u->latency, client_now_ns() - a->first_ns);
}

/* The guest began anew: what it said before binds it no more. */
static void note_boot(struct udp *u, uint32_t boot)
{
	if (u->boot != 0 && u->boot != boot) {
		u->reboots++;
		if (!u->c->may_reboot)
			client_wrong(u->c, "the guest booted anew");
		u->highest = 0;
		memset(u->seen, 0, sizeof(u->seen));
		for (size_t i = 0; i < RING; i++)
			u->asked[i].floor = 0;
	}
	u->boot = boot;
}

static void judge_value(struct udp *u, struct asked *a, uint64_t value)
{
	struct seen *s = &u->seen[value % RING];

	if (s->value == value && s->nonce == a->nonce) {
		u->duplicates++;
		return;
	}
	if (s->value == value)
		violated(u, "one value for two requests", value, a->nonce);
	else if (value <= a->floor)
		violated(u, "the guest forgot a value", value, a->nonce);
	else if (value < u->highest)
		u->reordered++;
	if (value > s->value)
		*s = (struct seen){ value, a->nonce };
	if (value > u->highest)
		u->highest = value;
}

static struct asked *find_asked(struct udp *u, uint64_t nonce)
{
	struct asked *a = &u->asked[nonce % RING];

	if (a->nonce == nonce && a->first_ns != 0)
		return a;
	u->late++;
	return NULL;
}

static void counter_reply(struct udp *u, const uint8_t *data, size_t len)
{
	uint64_t nonce = hf_le64_get(data), value = hf_le64_get(data + 8);
	struct asked *a;

	if (len != COUNTER_REPLY_BYTES) {
		client_wrong(u->c, "a reply of %zu bytes", len);
		u->violations++;
		return;
	}
	a = find_asked(u, nonce);
	if (!a)
		return;
	note_boot(u, hf_le32_get(data + 20));
	judge_value(u, a, value);
	note_answer(u, a);
	if (hf_le32_get(data + 16) & COUNTER_VIOLATED)
		violated(u, "the guest says that it forgot", value, nonce);
}

static void ping_reply(struct udp *u, const uint8_t *data, size_t len)
{
	uint64_t nonce = hf_le64_get(data);
	struct asked *a = find_asked(u, nonce);

	if (len != u->c->size_bytes) {
		client_wrong(u->c, "a reply of %zu bytes", len);
		u->violations++;
	}
	if (!a)
		return;
	if (a->is_answered)
		u->duplicates++;
	else if (nonce < u->highest)
		u->reordered++;
	if (nonce > u->highest)
		u->highest = nonce;
	note_answer(u, a);
}

static void receive_all(struct udp *u)
{
	uint8_t data[PING_BYTES_MAX];
	ssize_t n;

	while ((n = recv(u->fd, data, sizeof(data), MSG_DONTWAIT)) >= 0) {
		if (n < PING_HEADER_BYTES)
			continue;
		client_progress(u->c);
		u->replies++;
		if (u->is_counter)
			counter_reply(u, data, (size_t)n);
		else
			ping_reply(u, data, (size_t)n);
	}
}

static uint64_t unanswered(const struct udp *u)
{
	uint64_t n = 0;

	for (size_t i = 0; i < RING; i++)
		n += u->asked[i].first_ns != 0 && !u->asked[i].is_answered;
	return n;
}

static void print_numbers(const struct udp *u, uint64_t first_nonce)
{
	printf(",\"requests\":%" PRIu64 ",\"replies\":%" PRIu64 ",\"unanswered\":%" PRIu64
	       ",\"duplicates\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"retries\":%" PRIu64
	       ",\"late\":%" PRIu64 ",\"send_errors\":%" PRIu64 ",\"violations\":%" PRIu64
	       ",\"reboots\":%" PRIu64 ",\"highest\":%" PRIu64,
	       u->next_nonce - first_nonce, u->replies, unanswered(u), u->duplicates, u->reordered,
	       u->retries, u->late, u->send_errors, u->violations, u->reboots,
	       u->is_counter ? u->highest : 0);
	client_print_latency(&u->latency);
	printf("}\n");
	(void)fflush(stdout);
}

static void loop(struct udp *u)
{
	uint64_t first_nonce = u->next_nonce;
	int woke = 0;

	while (!(woke & CLIENT_STOP)) {
		uint64_t retry_ns = retry_due_ns(u), now;

		woke = client_wait(u->c, u->fd, POLLIN,
				   retry_ns < u->next_send_ns ? retry_ns : u->next_send_ns);
		if (woke & CLIENT_READABLE)
			receive_all(u);
		now = client_now_ns();
		if (now >= u->next_send_ns)
			ask_next(u);
		if (now >= retry_due_ns(u))
			ask_again(u);
		if (woke & CLIENT_REPORT) {
			client_print_head(u->c, "progress");
			print_numbers(u, first_nonce);
		}
	}
}

static bool run(struct client *c, bool is_counter)
{
	struct udp *u = calloc(1, sizeof(*u));
	uint64_t first_nonce = initial_nonce();
	bool is_ok = false;

	if (!u)
		abort();
	u->c = c;
	u->is_counter = is_counter;
	u->next_nonce = first_nonce;
	u->oldest_open = first_nonce;
	u->next_send_ns = client_now_ns();
	u->fd = client_connect_udp(c);
	if (u->fd >= 0) {
		loop(u);
		is_ok = u->violations == 0 && u->replies > 0 && (u->reboots == 0 || c->may_reboot);
		(void)close(u->fd);
	}
	client_print_result(c, is_ok);
	print_numbers(u, first_nonce);
	free(u);
	return is_ok;
}

bool client_run_counter(struct client *c)
{
	return run(c, /* is_counter= */ true);
}

bool client_run_ping(struct client *c)
{
	if (c->size_bytes < PING_HEADER_BYTES || c->size_bytes > PING_BYTES_MAX) {
		client_wrong(c, "--size must be %d to %d", PING_HEADER_BYTES, PING_BYTES_MAX);
		return false;
	}
	return run(c, /* is_counter= */ false);
}
