/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All that is known on this host about its VMs, from whoever answers in time: each keeper (by RUN_DIR),
 * holdfastd, the disk, /proc. Layer: cli. One thread. Blocks until the deadline at most: all are asked at
 * once, and who does not answer is told about as seen from outside.
 *
 * A row is an object; holdfast(1) describes its members under LIST.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>

#include "cli/instance.h"
#include "cli/verb.h"

enum hf_gather_daemon {
	HF_GATHER_ANSWERS,
	HF_GATHER_SILENT, /* it is there */
	HF_GATHER_DEAD, /* it was there since the boot */
	HF_GATHER_ABSENT, /* this host has none */
	HF_GATHER_FORBIDDEN,
};

struct hf_gather {
	struct json_object *rows; /* array, sorted by name */
	struct json_object *troubles; /* array of sentences */
	/* What holdfastd has answered; NULL: nothing. The last three only if is_whole. */
	struct json_object *vms, *host, *hosts, *leases;
	enum hf_gather_daemon daemon;
	char daemon_text[256];
	char host_name[65];
	bool is_late; /* something did not answer in time */
	bool is_forbidden; /* something may not be looked at by this user */
};

/**
 * hf_gather_all() - look and ask
 * @only: rows of that VM alone, with certificates as a whole; NULL: all VMs
 * @is_whole: ask holdfastd about the host, too
 */
void hf_gather_all(const struct hf_verb_options *o, const struct hf_instance *only, bool is_whole,
		   struct hf_gather *ret);
void hf_gather_fini(struct hf_gather *g);

/* "answers", "silent"... */
const char *hf_gather_daemon_name(enum hf_gather_daemon d);

/**
 * hf_gather_choose() - the row that is meant
 * Return: 0; -ESRCH, -EEXIST with @err: none; several, named. *ret is borrowed.
 */
int hf_gather_choose(const struct hf_gather *g, const struct hf_instance *which,
		     struct json_object **ret, struct hf_err *err) HF_MUST_CHECK;
