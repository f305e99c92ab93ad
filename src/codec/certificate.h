/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The certificate of a frozen instance: latch, proof, and where its remains are, as one JSON object in
 * STATE_DIR/NAME/frozen/ID/certificate.json. Layer: codec. Any thread; allocates. docs/life-cycle.md
 * tells every member.
 *
 * It is written first when the freeze begins (state "freezing": the latch), and replaced as a whole by
 * the proof (state "frozen"). Whoever finds one in a VM's folder knows that this instance must not run.
 */
#pragma once

#include <json-c/json_object.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/text.h"
#include "core/commit.h"
#include "core/freeze.h"
#include "core/vm.h"

#define HF_CERTIFICATE_MAX_BYTES (1u << 20)
#define HF_CERTIFICATE_TEXT 256
#define HF_CERTIFICATE_ID 8 /* hex digits: the first of the instance's id */
#define HF_CERTIFICATE_CHECKS_MAX 16
#define HF_CERTIFICATE_DISKS_MAX 16
#define HF_CERTIFICATE_NETS_MAX 32
#define HF_CERTIFICATE_RAM_PARTS_MAX 8
#define HF_CERTIFICATE_ARGV_MAX 4096

/* A process, so that another one with its number is not taken for it. */
struct hf_process_id {
	pid_t pid; /* 0: there was none */
	uint64_t start_ticks; /* /proc/PID/stat, field 22 */
};

enum hf_remains {
	HF_REMAINS_NONE, /* there is none, or it was lost: `text` says why */
	HF_REMAINS_PROCESS, /* RAM: a memfd that a process holds; QEMU: it is kept, frozen */
	HF_REMAINS_FILE, /* in the instance's folder */
};

struct hf_certificate_step {
	enum hf_freeze_result result;
	uint64_t began_us, ended_us; /* since cause_time; 0 and 0: not begun */
	char text[HF_CERTIFICATE_TEXT];
};

struct hf_certificate_check {
	char what[64]; /* "qemu-threads-frozen", "disk-process-dead", ... */
	bool is_ok;
	uint64_t time_ns; /* CLOCK_REALTIME */
	char text[HF_CERTIFICATE_TEXT];
};

/* Guest-physical memory [address, + bytes) is [offset, + bytes) of the RAM file. */
struct hf_ram_part {
	uint64_t address, bytes, offset;
};

struct hf_certificate {
	bool is_certified; /* "frozen"; else "freezing" */
	char vm[HF_NAME_MAX + 1];
	char id[HF_CERTIFICATE_ID + 1];
	char host[HF_NAME_MAX + 1];
	struct hf_id instance;
	char boot_id
		[37]; /* /proc/sys/kernel/random/boot_id: PROCESS remains are of this boot alone */
	enum hf_vm_cause cause;
	enum hf_vm_severity severity;
	char cause_text[HF_CERTIFICATE_TEXT];
	char topology[HF_CERTIFICATE_TEXT]; /* where in the hardware, or which disk; "" */
	uint64_t cause_time_ns; /* CLOCK_REALTIME, as all *_time_ns here */
	uint64_t frozen_time_ns; /* 0: not yet */
	struct hf_certificate_step step[HF_FREEZE_STEP_COUNT];
	struct hf_certificate_check check[HF_CERTIFICATE_CHECKS_MAX];
	unsigned int n_checks;
	unsigned int awakenings;

	struct hf_process_id keeper, qemu, disks;
	enum hf_remains qemu_fate; /* PROCESS or NONE */
	char cgroup[PATH_MAX]; /* directory; "": none */
	uint64_t cgroup_id; /* hf_cgroup.id: not to take one made anew for it */
	char net[HF_CERTIFICATE_NETS_MAX][16]; /* names of the TAP interfaces */
	unsigned int n_nets;
	char lease_fate[32]; /* "none", "released", "pledged", "held", "unknown" */
	uint64_t lver;

	enum hf_remains ram;
	struct hf_process_id ram_holder; /* PROCESS: it has the memfd open as ram_fd */
	int ram_fd;
	uint64_t ram_bytes;
	uint64_t page_bytes; /* of the RAM file; 0: normal */
	struct hf_ram_part ram_part[HF_CERTIFICATE_RAM_PARTS_MAX];
	unsigned int n_ram_parts;
	enum hf_remains device_state; /* FILE "device-state", or NONE */
	uint64_t device_state_bytes;

	char qemu_version[64];
	char machine[64];
	char cwd[PATH_MAX]; /* where relative paths of argv begin; "": not known */
	char **argv; /* the user's QEMU line; NULL-terminated, owned */
	char **hold_net; /* ids of the held netdevs; NULL-terminated or NULL, owned */
	char **unprotected; /* as above: what was let through */
};

/* A new object; NULL: no memory. */
struct json_object *hf_certificate_encode(const struct hf_certificate *c);

/**
 * hf_certificate_decode() - strict: a missing, double, unknown-valued or too long member is an error;
 * a member of a later version, which this one does not know, is passed over
 * @name: of the file, for messages
 * @ret: to be released with hf_certificate_fini()
 * Return: 0; -EINVAL with @err; -E2BIG; -ENOMEM.
 */
int hf_certificate_decode(const char *name, const char *text, size_t len,
			  struct hf_certificate *ret, struct hf_err *err) HF_MUST_CHECK;

void hf_certificate_fini(struct hf_certificate *c);
