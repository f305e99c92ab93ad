/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Exit statuses of all commands but `run` and `standby`, whose are the keeper's. Layer: cli. Any
 * thread. holdfast(1) promises them; lease-verbs.h and host-call.h give the same numbers their names there.
 */
#pragma once

#include "cli/client.h"

enum hf_exit {
	HF_EXIT_DONE = 0, /* `status NAME`: the VM runs here */
	HF_EXIT_FAILED = 1,
	HF_EXIT_USAGE = 2,
	HF_EXIT_NOT_THERE = 3, /* no such VM, instance, keeper or daemon; `status NAME`: shut off */
	HF_EXIT_STORAGE = 4, /* of a lease area */
	HF_EXIT_OWNED = 5, /* another host, or another process, owns the lease */
	HF_EXIT_LEASE_LOST = 6,
	HF_EXIT_REFUSED = 7, /* not in this state */
	HF_EXIT_NO_PERMISSION = 8,
	HF_EXIT_TIMED_OUT = 9, /* or something that was asked does not answer */
	/* From here on of `status NAME` alone: what is here, if the VM does not run. */
	HF_EXIT_IS_STANDBY = 10,
	HF_EXIT_IS_STARTING = 11, /* or takes a state in */
	HF_EXIT_IS_PAUSED = 12,
	HF_EXIT_IS_FREEZING = 13,
	HF_EXIT_IS_FROZEN = 14,
	HF_EXIT_IS_SAVED = 15,
	HF_EXIT_IS_BROKEN = 16, /* crashed or failed: waits for an operator */
};

/* The one for what a function of client.h has returned, and for the error that was answered. */
int hf_exit_of(int r, const struct hf_client *c);

/* The one of `status NAME`, for a name of hf_vm_state_name(); TIMED_OUT: it is not known. */
int hf_exit_of_state(const char *state);

/* "holdfast VERB: TEXT" to stderr. Returns @code. */
int hf_exit_complain(const char *verb, int code, const struct hf_err *err);

/* @word: the option that getopt_long() answered with @c, ':' or '?'. Says so; returns HF_EXIT_USAGE. */
int hf_exit_refuse_option(const char *verb, const char *word, int c);
