/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of guest share. Layer: vm, private to guest. Main thread.
 */
#pragma once

#include "sys/tap.h"
#include "vm/guest.h"

struct hf_guest_net {
	char *id;
	char *downscript; /* NULL: none, or nothing to undo yet */
	bool is_detached; /* cut, and its interface is still to be removed */
	struct hf_tap tap; /* its descriptor belongs to nettap once that exists */
	struct hf_nettap *nettap;
};

struct hf_guest {
	struct hf_ram ram;
	struct hf_process process;
	struct hf_qmp *qmp;
	int report_fd;
	int incoming_fd;
	struct hf_guest_net *net;
	size_t net_count;
	size_t cut_count; /* nets that were cut: only their downscripts are left */
	struct hf_guest_identity identity;
	struct hf_report report;
	struct hf_ram_part ram_part[HF_CERTIFICATE_RAM_PARTS_MAX];
	size_t ram_parts; /* 0: not known */
	bool has_disks;
	bool is_paused;
	int64_t deadline_ms; /* of the start */
};

/**
 * hf_guest_nets_open() - the TAPs of all held netdevs, up and on their bridges
 * @ret_fds: one for each: QEMU's end, the caller's to close; -1 for those not made
 * Runs scripts, so BLOCKS. What was made before a failure is undone by hf_guest_nets_close().
 */
int hf_guest_nets_open(struct hf_guest *g, const struct hf_guest_config *config, int *ret_fds,
		       struct hf_err *err) HF_MUST_CHECK;
void hf_guest_nets_close(struct hf_guest *g);

/* Once QEMU runs: asks what it is, whether it can be protected, and sets its migration up.
 * BLOCKS. */
int hf_guest_examine(struct hf_guest *g, const struct hf_guest_config *config,
		     struct hf_err *err) HF_MUST_CHECK;
void hf_guest_identity_fini(struct hf_guest_identity *id);

/* Without the library: finds where QEMU has mapped guest RAM. Sets address, length and offset of
 * @report. 0; -ENOENT: nowhere; -EMLINK: in more than one place; -errno. */
int hf_guest_find_ram(const struct hf_guest *g, struct hf_report *report,
		      struct hf_err *err) HF_MUST_CHECK;

/* Takes what the preloaded library has said by now. */
int hf_guest_read_report(struct hf_guest *g, struct hf_err *err) HF_MUST_CHECK;

/* Makes a standby wait for its state. */
int hf_guest_await_state(struct hf_guest *g, struct hf_err *err) HF_MUST_CHECK;

/* One command of the start, within its deadline. @arguments is JSON text or NULL; @ret may be
 * NULL. */
int hf_guest_ask(struct hf_guest *g, const char *command, const char *arguments,
		 struct json_object **ret, struct hf_err *err) HF_MUST_CHECK;
