/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What lies on this host's disks about its VMs: definitions, frozen and saved instances. Layer: cli. One
 * thread. A child process looks, so that storage that hangs costs its caller no more than its deadline.
 *
 * The result is an object:
 *   frozen    array of {vm, id, path, readable, trouble, certificate}; the last one if asked for or
 *             short: {state, cause, severity, cause_text, host, cause_time_ns, frozen_time_ns}
 *   saved     array of names of VMs
 *   defined   array of names of VMs
 *   trouble   array of sentences: what could not be looked at
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct hf_shelf {
	pid_t pid;
	int fd; /* -1: nothing is under way */
};

struct hf_shelf_query {
	const char *state_dir;
	const char *vms_dir; /* NULL: definitions are of no interest */
	const char *vm; /* NULL: all of them */
};

/* Starts to look. 0; -errno. */
int hf_shelf_start(const struct hf_shelf_query *query, struct hf_shelf *ret) HF_MUST_CHECK;

/**
 * hf_shelf_finish() - wait for what was found; the child is gone afterwards, or left to itself
 * @deadline_ns: CLOCK_MONOTONIC
 * Return: 0; -ETIMEDOUT with @err; -errno with @err. Then *ret is an empty object: it is always the
 * caller's.
 */
int hf_shelf_finish(struct hf_shelf *s, uint64_t deadline_ns, struct json_object **ret,
		    struct hf_err *err) HF_MUST_CHECK;

/* Both. */
int hf_shelf_look(const struct hf_shelf_query *query, uint64_t deadline_ns,
		  struct json_object **ret, struct hf_err *err) HF_MUST_CHECK;
