/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What holdfastd is told: holdfastd.conf(5) and its options. Layer: daemon. Any thread. Allocates.
 *
 * One table names each setting once: its place in the file, its option, range, default and help.
 * Options count more than the file, the file more than the default.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/text.h"
#include "core/lease.h"
#include "service/loglevel.h"
#include "sys/addr.h"

#define HF_HOSTCONF_FILE "/etc/holdfast/holdfastd.conf"

#define HF_HOSTCONF_PEERS_MAX 64
#define HF_HOSTCONF_PEER_PORT 7399

enum hf_hostconf_auto { HF_HOSTCONF_AUTO, HF_HOSTCONF_YES, HF_HOSTCONF_NO };

/* [peer NAME] */
struct hf_hostconf_peer {
	char name[HF_NAME_MAX + 1];
	struct hf_addr addr; /* host "": not given */
};

struct hf_hostconf {
	char name[HF_LEASE_NAME_BYTES + 1];
	uint64_t id;
	char *area; /* absolute path or NBD URI; NULL: this host has no leases */
	char lockspace[HF_LEASE_NAME_BYTES + 1];
	uint64_t io_timeout_ns;
	uint64_t renew_ns;
	uint64_t fence_ns;
	uint64_t stop_ns;
	char *watchdog; /* NULL: none */
	char *run_dir;
	char *vms;
	char *state_dir;
	char *group; /* of those who may look; "": none */
	enum hf_log_level log_level;
	struct hf_addr peers_listen;
	bool is_plain; /* to peers: without TLS */
	char *pki_dir;
	enum hf_hostconf_auto bridge; /* holdfast-pacemaker */
	bool is_fencing_ignored; /* what Pacemaker has fenced counts as dead only if it is not */
	struct hf_hostconf_peer *peers;
	unsigned int n_peers;
};

enum hf_hostconf_verdict {
	HF_HOSTCONF_RUN, /* go ahead */
	HF_HOSTCONF_CHECK, /* only --check-config was asked for, and all is well */
	HF_HOSTCONF_HELP,
	HF_HOSTCONF_VERSION,
};

/**
 * hf_hostconf_load() - options, file and defaults
 * @nodename: the name of the host if nobody says another
 * Reads the file; an absent default file is an empty one.
 * Return: enum hf_hostconf_verdict; -EINVAL with @err that names option or file, line and column;
 * -ENOENT; -ENOMEM. @ret is to be released with hf_hostconf_fini() in any case.
 */
int hf_hostconf_load(int argc, char **argv, const char *nodename, struct hf_hostconf *ret,
		     struct hf_err *err) HF_MUST_CHECK;
void hf_hostconf_fini(struct hf_hostconf *c);

/* The parts of hf_hostconf_load(), for tests: one file's text on top of @c; what fits together. */
int hf_hostconf_apply_text(struct hf_hostconf *c, const char *file, const char *text, size_t len,
			   struct hf_err *err) HF_MUST_CHECK;
int hf_hostconf_check(const struct hf_hostconf *c, struct hf_err *err) HF_MUST_CHECK;

/* [peer NAME]; NULL: there is none. */
const struct hf_hostconf_peer *hf_hostconf_find_peer(const struct hf_hostconf *c, const char *name);

void hf_hostconf_help(FILE *to);
