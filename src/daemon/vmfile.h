/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM's definition (holdfast.conf(5)) as holdfastd needs it, read by the keeper's own parser: what is
 * wrong for the one is wrong for the other. Layer: daemon. Any thread. Reads files.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "core/vm.h"
#include "sys/addr.h"

#define HF_VMFILE_HOSTS_MAX 16

struct hf_vmfile_host {
	char name[HF_NAME_MAX + 1];
	struct hf_addr addr; /* of its keepers; a daemon is at the same host, by its own port */
};

struct hf_vmfile {
	char name[HF_NAME_MAX + 1];
	uint32_t crc; /* CRC32C of the file: equal on both hosts if the files are */
	struct hf_vmfile_host
		hosts[2]; /* in the file's order: the first runs it if nothing decides */
	unsigned int n_hosts; /* 0 or 2 */
	int own; /* index of this host; -1: n_hosts is 0 */
	bool is_autostarted;
	bool is_taken_over; /* takeover=yes, and no second host that protects it */
	bool is_managed; /* manager=pacemaker */
	bool may_run_beside_frozen;
	uint32_t restarts_max;
	uint8_t on[HF_VM_CAUSE_COUNT]; /* enum hf_vm_policy_word */
	char state_dir[PATH_MAX];
	char prefer[HF_VMFILE_HOSTS_MAX][HF_NAME_MAX + 1];
	unsigned int n_prefer;
};

/* @host: this one's name. Return: 0; -EINVAL with @err: file, line and column; -ENOMEM. */
int hf_vmfile_parse(const char *file, const char *name, const char *host, const char *text,
		    size_t len, struct hf_vmfile *ret, struct hf_err *err) HF_MUST_CHECK;

/* FOLDER/NAME.conf; -ENOENT, ... */
int hf_vmfile_read(const char *folder, const char *name, const char *host, struct hf_vmfile *ret,
		   struct hf_err *err) HF_MUST_CHECK;

/* From 0; -1: that host is not to take it over. */
int hf_vmfile_position(const struct hf_vmfile *f, const char *host);
