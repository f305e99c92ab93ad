/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `holdfast ocf table`: what is answered for which state, as ocf_holdfast_vm(7) prints it. */
#include <stdio.h>

#include "cli/ocf-call.h"

struct row {
	const char *text;
	struct hf_ocf_facts facts;
};

#define IS(s, ...)                                                                                 \
	{                                                                                          \
		.state = HF_VM_##s, .is_known = true, ##__VA_ARGS__                                \
	}
#define LIVE(s, ...) IS(s, .is_alive = true, .is_primary = true, ##__VA_ARGS__)
#define STANDBY(...) IS(STANDBY, .is_alive = true, ##__VA_ARGS__)

static const struct row rows[] = {
	{ "running", LIVE(RUNNING) },
	{ "running, but not promoted yet", LIVE(RUNNING, .is_assigned_standby = true) },
	{ "starting, or taking a state in", LIVE(STARTING) },
	{ "being handed to another host", LIVE(MIGRATING) },
	{ "paused by its user, or the guest sleeps", LIVE(PAUSED, .is_pause_by_user = true) },
	{ "paused by its user, with paused=failed",
	  LIVE(PAUSED, .is_pause_by_user = true, .is_paused_failure = true) },
	{ "paused by a fault", LIVE(PAUSED, .is_pause_fault = true) },
	{ "paused, its lease has run out", LIVE(PAUSED) },
	{ "freezing", LIVE(FREEZING) },
	{ "QEMU or keeper does not answer", LIVE(RUNNING, .is_hung = true) },
	{ "its state cannot be told", { .state = HF_VM_RUNNING, .is_primary = true } },
	{ "ended, but a process of it lives", IS(SHUT_OFF, .is_alive = true) },
	{ "frozen", IS(FROZEN) },
	{ "shut off", IS(SHUT_OFF) },
	{ "saved", IS(SAVED) },
	{ "crashed", IS(CRASHED) },
	{ "failed", IS(FAILED) },
	{ "standby, synchronised", STANDBY(.has_epoch = true, .is_in_touch = true) },
	{ "standby, being filled", STANDBY(.is_in_touch = true) },
	{ "standby that can go live, out of touch", STANDBY(.has_epoch = true) },
	{ "standby out of touch, it runs on elsewhere",
	  STANDBY(.has_epoch = true, .is_peer_running = true) },
	{ "standby, empty, it ran here last", STANDBY(.has_run_last = true) },
	{ "standby, empty", STANDBY() },
	{ "standby that does not answer", STANDBY(.has_epoch = true, .is_hung = true) },
};

int hf_ocf_print_table(void)
{
	struct hf_ocf_verdict plain, clone;
	struct hf_ocf_facts f;

	printf("%-44s %6s %6s %6s\n", "STATE", "PLAIN", "CLONE", "SCORE");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		f = rows[i].facts;
		hf_ocf_monitor(&f, &plain);
		f.is_promotable = true;
		hf_ocf_monitor(&f, &clone);
		printf("%-44s %6d %6d %6d\n", rows[i].text, (int)plain.rc, (int)clone.rc,
		       clone.score);
	}
	return 0;
}
