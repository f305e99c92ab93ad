/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reference of the benchmarks: the same QEMU without protection.
 *
 * usage: bench-bare ID -- QEMU ARG...
 *
 * Starts the command line as the keeper would, memory backend and all, but with no library in it,
 * no tracking, no peer, and the netdev ID left to QEMU. Each line on standard input is an order
 * and is answered by a JSON line: "loop MS" takes a checkpoint MS milliseconds after the guest has
 * run on from the last one, throws the device state away and lets the guest run on at once; "rest"
 * stops that. Ends, and QEMU with it, at the end of standard input.
 *
 * It shares QMP session and checkpoint with the keeper, so that what a benchmark shows as the
 * keeper's cost is tracking, copying and the taps, and not another way of talking to QEMU.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vm/checkpoint.h"
#include "vm/cmdline.h"
#include "vm/guest.h"

#define MS_NS 1000000ull
#define START_MS 60000

struct bare {
	struct hf_guest *guest;
	struct hf_checkpoint checkpoint;
	bool is_looping;
	uint64_t interval_ns;
	uint64_t due_ns;
};

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "bench-bare: %s\n", what);
	exit(1);
}

static void must(int r, const struct hf_err *err)
{
	if (r < 0)
		die(err->text[0] ? err->text : strerror(-r));
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void on_event(void *ctx, const char *name, struct json_object *data,
		     uint64_t timestamp_us __attribute__((unused)))
{
	struct bare *b = ctx;

	hf_checkpoint_event(&b->checkpoint, name, data);
}

static void on_standstill(void *ctx)
{
	struct bare *b = ctx;

	hf_checkpoint_resume(&b->checkpoint);
}

static void on_running(void *ctx)
{
	struct bare *b = ctx;

	b->due_ns = now_ns() + b->interval_ns;
}

static void on_stream_end(void *ctx __attribute__((unused)))
{
}

static void on_failed(void *ctx __attribute__((unused)), const char *why)
{
	die(why);
}

static const struct hf_checkpoint_ops checkpoint_ops = {
	.on_standstill = on_standstill,
	.on_running = on_running,
	.on_stream_end = on_stream_end,
	.on_failed = on_failed,
};

static void start(struct bare *b, char *id, char **argv)
{
	char *unprotected[] = { id, NULL };
	struct hf_cmdline_want want = { .unprotected = unprotected };
	struct hf_guest_config config = { .name = "bare", .on_event = on_event, .ctx = b };
	struct hf_err err = { "" };
	struct hf_cmdline *cmdline;

	must(hf_cmdline_parse(argv, &want, &cmdline, &err), &err);
	config.cmdline = cmdline;
	must(hf_guest_start(&config, &b->guest, &err), &err);
	hf_cmdline_free(cmdline);
	hf_checkpoint_init(&b->checkpoint, hf_guest_qmp(b->guest), &checkpoint_ops, b);
	must(hf_qmp_call_wait(hf_guest_qmp(b->guest), "cont", NULL, START_MS, NULL, &err), &err);
}

static void answer(const char *event)
{
	printf("{\"event\":\"%s\"}\n", event);
	(void)fflush(stdout);
}

static void obey(struct bare *b, const char *order)
{
	if (strncmp(order, "loop ", 5) == 0) {
		b->interval_ns = strtoull(order + 5, NULL, 10) * MS_NS;
		b->due_ns = now_ns() + b->interval_ns;
		b->is_looping = true;
		answer("looping");
	} else if (strcmp(order, "rest\n") == 0) {
		b->is_looping = false;
		answer("resting");
	} else {
		die("want \"loop MS\" or \"rest\"");
	}
}

static bool is_due(const struct bare *b)
{
	return b->is_looping && b->checkpoint.step == HF_CHECKPOINT_IDLE && now_ns() >= b->due_ns;
}

/* Until something is to be read, or the next checkpoint is due. */
static void await(const struct bare *b, struct pollfd p[3])
{
	bool is_waiting = b->is_looping && b->checkpoint.step == HF_CHECKPOINT_IDLE;
	uint64_t now = now_ns();
	uint64_t left = b->due_ns > now ? b->due_ns - now : 0;
	struct timespec ts = { (time_t)(left / 1000000000), (long)(left % 1000000000) };

	p[0] = (struct pollfd){ .fd = hf_qmp_fd(hf_guest_qmp(b->guest)), .events = POLLIN };
	p[1] = (struct pollfd){ .fd = b->checkpoint.stream_fd, .events = POLLIN };
	p[2] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	if (ppoll(p, 3, is_waiting ? &ts : NULL, NULL) < 0 && errno != EINTR)
		die(strerror(errno));
}

/* False at the end of standard input. Orders come one by one, each after the last one's answer. */
static bool serve(struct bare *b)
{
	struct hf_err err = { "" };
	struct pollfd p[3];
	char order[64];
	ssize_t n;

	await(b, p);
	if (p[0].revents)
		must(hf_qmp_dispatch(hf_guest_qmp(b->guest), &err), &err);
	if (p[1].revents)
		hf_checkpoint_dispatch(&b->checkpoint);
	if (is_due(b))
		must(hf_checkpoint_begin(&b->checkpoint, /* was_running= */ true, &err), &err);
	if (!p[2].revents)
		return true;
	n = read(STDIN_FILENO, order, sizeof(order) - 1);
	if (n <= 0)
		return false;
	order[n] = '\0';
	obey(b, order);
	return true;
}

int main(int argc, char **argv)
{
	struct bare b = { .is_looping = false };

	if (argc < 4 || strcmp(argv[2], "--") != 0)
		die("usage: bench-bare ID -- QEMU ARG...");
	start(&b, argv[1], argv + 3);
	answer("ready");
	while (serve(&b))
		;
	hf_checkpoint_fini(&b.checkpoint);
	hf_guest_free(b.guest);
	return 0;
}
