/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the user asked of a keeper: options, the definition file and the defaults, in one struct.
 * Layer: settings. Any thread. Allocates. Blocks only for reading the definition file.
 *
 * One table (settings-table.c) names each setting once: its option, its key in the file, its type,
 * range, default and help; parsing, --help and the manual page come from it.
 *
 * Order of precedence: the default, [vm] and [protection], the own [host], the command line. A list
 * given on the command line takes the place of the file's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/vm.h"
#include "service/loglevel.h"
#include "sys/addr.h"

#define HF_SETTINGS_PORT 7400
#define HF_SETTINGS_FOLDER "/etc/holdfast/vms"

/* FROZEN: guards a frozen instance whose keeper has died. CHECK: only reads the definition. */
enum hf_role { HF_ROLE_RUN, HF_ROLE_STANDBY, HF_ROLE_FROZEN, HF_ROLE_CHECK };

/* Does the VM run under a lease? AUTO: if this host has a daemon that keeps leases. */
enum hf_lease_use { HF_LEASE_USE_AUTO, HF_LEASE_USE_YES, HF_LEASE_USE_NO };
/* Where a VM's images are: each host has its own, or both reach the same. */
enum hf_disk_layout { HF_DISK_LAYOUT_REPLICATED, HF_DISK_LAYOUT_SHARED };

enum hf_encryption { HF_ENCRYPTION_TLS, HF_ENCRYPTION_PLAIN };
/* What a start does where a frozen instance is. */
enum hf_when_frozen { HF_WHEN_FROZEN_REFUSE, HF_WHEN_FROZEN_FRESH };
/* Who decides whether and where a VM runs, beside its lease and its vote. */
enum hf_manager { HF_MANAGER_NONE, HF_MANAGER_PACEMAKER };
enum hf_frozen_memory { HF_FROZEN_MEMORY_KEEP, HF_FROZEN_MEMORY_FILE, HF_FROZEN_MEMORY_DISCARD };

struct hf_settings_addr {
	bool is_set;
	struct hf_addr addr;
};

/**
 * struct hf_settings - all of it, owned by the struct; release with hf_settings_fini()
 * @name: of the VM, hf_is_valid_name()
 * @argv: QEMU's command line, NULL-terminated, the program first
 * @lease: enum hf_lease_use
 * @tracking: enum hf_tracker_mode (vm/tracker.h)
 * @log_level: enum hf_log_level
 * @hold_net, @unprotected: ids, NULL-terminated; NULL: none
 * @hugepage_bytes: 0: as QEMU's command line says
 * @thread_count: 0: one for each processor, within reason
 * @disk_layout: enum hf_disk_layout
 * @durability: enum hf_durability (core/disk.h)
 * @disk_buffer_bytes: of the log of what the guest writes, on each host
 * @on: enum hf_vm_policy_word of each cause that has one
 * @encryption: enum hf_encryption; @pki_dir; @peer_name: NULL: by @peer
 * @when_frozen, @frozen_memory: enums; @frozen_keep: at least 1
 * @frozen_id: HF_ROLE_FROZEN: which one
 * @is_autostarted, @restarts_max: the host's daemon's affair
 * @is_taken_over, @prefer: the host's daemon's affair
 * @manager: enum hf_manager; then neither @is_autostarted nor @is_taken_over
 * @state_dir: folder for what must outlive a keeper: STATE_DIR/NAME
 * @redo_journal: absolute path or NBD URI; NULL: a file in STATE_DIR/NAME. Set in the shared layout
 * @disk_plugin: path of nbdkit-holdfast-plugin.so; NULL: as with @preload
 * @nbdkit: the program, to be looked for in PATH
 * @preload: path of libholdfast-qemu.so; NULL: look in the library folder, and beside the program
 * @config: the file that was read; NULL: none
 * @host: name of the own [host]; NULL: the file names none
 * @other_host: of the other one
 */
struct hf_settings {
	enum hf_role role;
	unsigned int lease;
	char *name;
	char **argv;

	struct hf_settings_addr listen;
	struct hf_settings_addr peer;
	uint64_t peer_timeout_ns;
	unsigned int encryption;
	char *pki_dir;
	char *peer_name;

	unsigned int on[HF_VM_CAUSE_COUNT];
	uint64_t hang_timeout_ns;
	unsigned int restarts_max;
	unsigned int manager;
	unsigned int when_frozen;
	unsigned int frozen_memory;
	unsigned int frozen_keep;
	uint64_t frozen_space_bytes;
	char *frozen_id;

	char *prefer;

	char **hold_net;
	char **unprotected;
	uint64_t hugepage_bytes;

	uint64_t epoch_interval_ns;
	uint64_t epoch_memory_bytes;
	unsigned int stop_share_percent;
	unsigned int tracking;
	unsigned int thread_count;

	unsigned int disk_layout;
	unsigned int durability;
	unsigned int log_level;
	uint64_t disk_buffer_bytes;
	char *state_dir;
	char *redo_journal;
	char *disk_plugin;
	char *nbdkit;

	char *config;
	char *host;
	char *other_host;
	char *run_dir;
	char *preload;

	bool may_resend;
	bool is_taken_over;
	bool is_autostarted;
	bool is_detached;
	bool is_forced;
	bool is_managers_order; /* --manager: @manager's, or of somebody who knows better */
	bool is_saved_discarded; /* HF_ROLE_RUN: a saved state is removed instead of resumed */

	/* What the file says before it becomes the above. */
	char *file_name;
	char *file_qemu;
	char **file_args;
};

/* Positive results of hf_settings_parse(): the user asked for words, not for work. */
enum { HF_SETTINGS_E_HELP = 1, HF_SETTINGS_E_VERSION = 2 };

/**
 * hf_settings_parse() - read a keeper's command line, and the definition file if it calls for one
 * @argv: NULL-terminated: program, "run" or "standby", NAME, options, and maybe "--" and QEMU's line
 * @nodename: this machine's name, to find its [host] by; NULL: uname(2)
 * @ret: to be released with hf_settings_fini()
 * Without "--" the file is --config, or HF_SETTINGS_FOLDER/NAME.conf; with it, --config or none, and
 * QEMU's line of the file does not count.
 * Return: 0; HF_SETTINGS_E_HELP or HF_SETTINGS_E_VERSION, and the caller prints it; -EINVAL for a
 * mistake of the user's, -errno when the file cannot be read, both with @err; -ENOMEM.
 */
int hf_settings_parse(char *const *argv, const char *nodename, struct hf_settings *ret,
		      struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_settings_format_help() - the text of --help, at most 80 columns wide
 * @program: as it was called
 * @ret: to be freed by the caller
 * Return: 0; -ENOMEM.
 */
int hf_settings_format_help(const char *program, char **ret) HF_MUST_CHECK;

/* Takes a struct that is all zero, or half filled. */
void hf_settings_fini(struct hf_settings *s);
