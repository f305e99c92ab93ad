/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU with everything that holdfast adds to it, as one object: the process, guest RAM, the QMP
 * session, the network taps, the preloaded library's report, and what the guest is made of. Layer:
 * vm. Main thread (the process dies with the thread that started it). Knows no event loop.
 *
 * The caller waits for: hf_qmp_fd() of hf_guest_qmp(), both descriptors of each hf_guest_net(), and
 * hf_guest_process()->pidfd, which becomes readable when QEMU has ended.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/certificate.h"
#include "preload/report.h"
#include "sys/cgroup.h"
#include "sys/memfd.h"
#include "sys/process.h"
#include "vm/cmdline.h"
#include "vm/nettap.h"
#include "vm/qmp-session.h"

struct hf_guest_config {
	const struct hf_cmdline
		*cmdline; /* parsed, nothing refused; needed only during the start */
	const char
		*preload_path; /* absolute, of libholdfast-qemu.so; NULL: tracking does without */
	const char *name; /* of the VM: a valid name by base/text.h */
	bool is_standby; /* as the line was parsed for */
	const char *disk_socket; /* where the disks are served; NULL: there are none to serve */
	uint64_t net_limit_bytes; /* of each tap; 0: the default, see nettap.h */
	const struct hf_cgroup *cgroup; /* in which QEMU is born; NULL: in the caller's */

	/* Each may be NULL. Events of the start come during hf_guest_start() already. */
	hf_qmp_event *on_event;
	void (*on_first_held)(void *ctx); /* see nettap.h */
	void (*on_over_limit)(void *ctx);
	bool (*may_send)(void *ctx); /* NULL: always */
	void *ctx;
};

/* What the two sides of a pair must agree on. */
struct hf_guest_identity {
	char machine[64]; /* with its version: "pc-q35-7.2" */
	char qemu_version[64]; /* "7.2.22" */
	uint32_t vcpus;
	uint64_t ram_bytes;
	char **devices; /* "id type" each, sorted, NULL-terminated; may be empty but is not NULL */
	size_t device_count;
};

struct hf_guest;

/**
 * hf_guest_start() - make RAM, TAPs and sockets, start QEMU and get it ready; at start-up only
 *
 * QEMU then stands still: before its first instruction as a primary (`cont` starts the guest), or
 * waiting for a state on hf_guest_incoming_fd() as a standby, which runs on by itself once it has
 * that state, unless the user gave -S. Taps begin in HF_NETTAP_HOLD mode, a
 * standby's in HF_NETTAP_STANDBY. Migration is set up for checkpoints: x-ignore-shared, events, and
 * limits that make it converge at once.
 *
 * BLOCKS until QEMU has answered: typically 0.1 to 1 second, at most HF_GUEST_START_MAX_MS and one
 * second more for each GiB of RAM; an early end of QEMU is noticed at once. QEMU's standard streams
 * are the caller's, so its own messages appear there.
 * Return: 0; -EPERM: QEMU says that the guest cannot be migrated, hence not protected; -ECHILD:
 * QEMU ended; -ETIMEDOUT: it did not answer in time; -EREMOTEIO: it refused a command; -EPROTO: an
 * answer, or the report about its memory, is not what it must be; -E2BIG: more devices or netdevs
 * than can be told to a peer; -errno. @err says what, for each. Nothing is left behind on failure.
 */
#define HF_GUEST_START_MAX_MS 60000
int hf_guest_start(const struct hf_guest_config *config, struct hf_guest **ret,
		   struct hf_err *err) HF_MUST_CHECK;

/* SIGKILL, without waiting. The proof that nothing of the guest runs any more is the pidfd becoming
 * readable, not this function's return. To a QEMU that has ended it is no error. 0 or -errno. */
int hf_guest_kill(struct hf_guest *g) HF_MUST_CHECK;

/**
 * hf_guest_free() - end of it all
 * Kills QEMU if it lives, BLOCKS until it has ended (at most HF_GUEST_END_MAX_MS: a process in an
 * uninterruptible wait of a broken disk is left to the kernel), runs the downscripts (each
 * bounded), closes everything. Takes NULL and half-built ones.
 */
#define HF_GUEST_END_MAX_MS 10000
void hf_guest_free(struct hf_guest *g);

/* All of these belong to the guest. */
struct hf_qmp *hf_guest_qmp(struct hf_guest *g);
struct hf_process *hf_guest_process(struct hf_guest *g); /* the caller may reap it */
struct hf_ram *hf_guest_ram(struct hf_guest *g);
const struct hf_guest_identity *hf_guest_identity(const struct hf_guest *g);

/* The held netdevs, in the order of the command line: @i < hf_guest_net_count(). */
size_t hf_guest_net_count(const struct hf_guest *g);
struct hf_nettap *hf_guest_net(struct hf_guest *g, size_t i);
const char *hf_guest_net_id(const struct hf_guest *g, size_t i); /* QEMU's id of it */
const char *hf_guest_net_ifname(const struct hf_guest *g, size_t i); /* its TAP interface */

/* Both sides of each tap are closed, for good: no frame leaves or comes any more. Afterwards there are no
 * nets. The descriptors must be out of the loop. */
void hf_guest_cut_nets(struct hf_guest *g);
/* After that: the downscripts, and the TAP devices that were ours go. BLOCKS. hf_guest_free() does it, too. */
void hf_guest_remove_nets(struct hf_guest *g);

/* Where RAM is mapped in QEMU. Without the library's word it was looked up from outside, and
 * tracking_errno is ENOSYS. */
const struct hf_report *hf_guest_report(const struct hf_guest *g);

/* Where guest-physical memory is in the RAM file, as of the start: @ret has room for @max parts. 0: not
 * known, or more than that. */
size_t hf_guest_ram_parts(const struct hf_guest *g, struct hf_ram_part *ret, size_t max);

/* Whether a disk is attached that the guest may write to. */
bool hf_guest_has_disks(const struct hf_guest *g);

/* The user gave -S: the guest is not to be started by us. */
bool hf_guest_is_paused_by_user(const struct hf_guest *g);

/* A standby's socket (non-blocking) to which the device state is to be written; -1 otherwise, and
 * once it has been taken: then it is the caller's to close. */
int hf_guest_incoming_fd(const struct hf_guest *g);
int hf_guest_take_incoming_fd(struct hf_guest *g);
