/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A frozen VM brought to life for an examination: a fresh QEMU with the frozen one's command line, isolated,
 * on a private copy of its RAM and with its device state. Layer: vm. Main thread; knows no event loop. The frozen
 * instance stays as it is.
 *
 *   RAM		the frozen instance's file, mapped privately: what is written is a copy of that page
 *   disks		nbdkit's cow filter over the image, which is opened for reading: writes go to a temporary
 *			file
 *   networks		their frames are thrown away; vm/cmdline-isolate.c
 *   QEMU itself	behind the walls of vm/revive-box.h
 *
 * It stands still once it is there; `cont` lets it go on, in so far as it can.
 */
#pragma once

#include "codec/certificate.h"
#include "sys/process.h"
#include "vm/cmdline.h"
#include "vm/qmp-session.h"

/* QEMU has to read the state; a large guest's RAM is not read. */
#define HF_REVIVE_MAX_MS 60000

/**
 * struct hf_revive_config - what to make it of
 * @certificate: of the frozen instance
 * @ram_fd: its RAM, of ram_bytes; stays the caller's
 * @state_fd: its device state from byte 0 on, a file; stays the caller's
 * @work_dir: an empty folder of ours, absolute, for sockets; whoever made it removes it
 * @box: words to be put in front of QEMU's line, which make the walls and then become the rest; NULL: none
 * @console_fd, @gdb_fd: see hf_cmdline_fds; -1: none. Stay the caller's
 * @on_event: QEMU's events; may be NULL
 */
struct hf_revive_config {
	const struct hf_certificate *certificate;
	int ram_fd;
	int state_fd;
	const char *work_dir;
	const char *const *box;
	int console_fd;
	int gdb_fd;
	hf_qmp_event *on_event;
	void *ctx;
};

struct hf_revived {
	struct hf_cmdline *cmdline; /* its notes say what was exchanged */
	struct hf_process qemu;
	struct hf_qmp *qmp;
	struct hf_process disk[HF_CERTIFICATE_DISKS_MAX];
	char *disk_socket[HF_CERTIFICATE_DISKS_MAX];
	size_t n_disks;
	int net_fd[HF_CERTIFICATE_NETS_MAX]; /* what it sends: to be read, and thrown away */
	size_t n_nets;
	bool has_loaded; /* the state, or that failed: as QEMU's events say */
	bool has_failed;
	hf_qmp_event *on_event;
	void *ctx;
};

/**
 * hf_revive() - start it all, load the state
 * BLOCKS until the machine stands still with its state (typically 0.1 to 0.5 s), at most HF_REVIVE_MAX_MS.
 * @ret: to be ended with hf_revive_end(); not touched on failure, and nothing is left behind
 * Return: 0; -EPERM: something in its line cannot be isolated; -ECHILD: QEMU or nbdkit ended; -ETIMEDOUT;
 * -EIO: QEMU does not take the state; -errno. @err says what, for each.
 */
int hf_revive(const struct hf_revive_config *config, struct hf_revived **ret,
	      struct hf_err *err) HF_MUST_CHECK;

/* Kills all of it, and waits for that. Takes NULL. */
void hf_revive_end(struct hf_revived *v);

/* Reads what the guest has sent and forgets it; to be called when one of net_fd is readable. */
void hf_revive_swallow(struct hf_revived *v);
