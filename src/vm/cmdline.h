/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The user's QEMU command line, made fit for protection. Layer: vm. Any thread; one at a time per
 * object. Allocates. Starts nothing and opens nothing: the only look at the system is the file
 * system type of a memory path, through a function that may be replaced.
 *
 * The line stays the user's own. What is changed or added is listed in words (notes); what cannot be
 * protected is listed as problems, each with a reason and a way out. Options that holdfast does not
 * know are passed on untouched.
 *
 * Two steps, because the size of RAM must be known before its file can be made, and the file must be
 * open before the line can name it: hf_cmdline_parse(), then hf_cmdline_render() with descriptors.
 *
 * Source of the syntax: QEMU's qemu-options.hx, vl.c and net/net.c, versions 7.2 and 10.0.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Ids that holdfast gives to what it adds. The user's line may not use them. */
#define HF_CMDLINE_QMP_ID "holdfast-qmp"
#define HF_CMDLINE_RAM_ID "holdfast-ram"
#define HF_CMDLINE_CONSOLE_ID "holdfast-console" /* of an examination */
#define HF_CMDLINE_GDB_ID "holdfast-gdb"

/* What QEMU gives a PC when the line has no -m (hw/i386: default_ram_size). */
#define HF_CMDLINE_RAM_DEFAULT_BYTES (UINT64_C(128) << 20)

/**
 * struct hf_cmdline_want - what the line is to become
 * @is_standby: QEMU waits for a state to come in instead of starting a guest
* @is_resumed: QEMU waits for a state and stands still when it has it: a saved VM's
 * @is_inspection: it is to be examined, isolated: QEMU waits for its state as a standby's does and stands
 *	still when it has it; RAM is a private copy of the file, what leads outside is exchanged for what leads
 *	nowhere, or refused; the first serial port is the console
 * @hold_net: ids of the netdevs whose frames are to be held; NULL-terminated; NULL: none
 * @unprotected: ids of problems that the user lets through; NULL-terminated; NULL: none
 * @page_bytes: size of the pages of guest RAM; 0: as the line says
 * @probe: tells on what a path of guest memory lies; NULL: statfs(2). Returns 0 with *ret_page_bytes
 *	the page size of a hugetlbfs, or 0 for other file systems in memory (tmpfs);
 *	HF_CMDLINE_E_ON_DISK when what is stored there would stay; -errno when it cannot tell
 */
struct hf_cmdline_want {
	bool is_standby;
	bool is_resumed;
	bool is_inspection;
	char *const *hold_net;
	char *const *unprotected;
	uint64_t page_bytes;
	int (*probe)(const char *path, uint64_t *ret_page_bytes);
};

enum { HF_CMDLINE_E_ON_DISK = 1 };

/**
 * struct hf_cmdline_net - a netdev that is held, and what it was before
 * @id: QEMU's id of it
 * @option: the user's option, "-netdev tap,id=net0", for messages
 * @ifname: name of the TAP device to make or to take; NULL: any free name
 * @bridge: bridge to put it on; NULL: none
 * @script, @downscript: programs to run with the interface's name as their argument once it exists,
 *	and before it goes; NULL: none. QEMU's defaults are filled in
 */
struct hf_cmdline_net {
	char *id;
	char *option;
	char *ifname;
	char *bridge;
	char *script;
	char *downscript;
};

/**
 * struct hf_cmdline_disk - a disk that the guest can write to, and where it was before
 *
 * QEMU reaches it as an NBD export, called HF_CMDLINE_EXPORT with its index in hf_cmdline.disk, at
 * hf_cmdline_fds.disk_socket. Whoever serves that opens @location.
 * @id: id of the drive, or name of the node on top; hf_is_valid_name(), different for each disk
 * @option: the user's option that names the image, "-drive file=...", for messages
 * @location: path as the user wrote it (maybe relative), or nbd://, nbd+unix:// URI
 * @format: "raw" or "qcow2": what QEMU reads in the export
 * @is_direct: it is to be past the host's page cache (cache=none, cache.direct=on)
 */
struct hf_cmdline_disk {
	char *id;
	char *option;
	char *location;
	const char *format;
	bool is_direct;
};

#define HF_CMDLINE_EXPORT "disk" /* and the index: "disk0" */

/**
 * struct hf_cmdline_problem - something that could not be protected
 * @what: "disk", "netdev", "device", "files", "memory", "option"
 * @id: by which --unprotected names it
 * @text: one sentence: what it is, why, and the way out
 * @may_pass: --unprotected can let it through; never so for memory and options
 * @is_passed: it has been let through
 */
struct hf_cmdline_problem {
	const char *what;
	char *id;
	char *text;
	bool may_pass;
	bool is_passed;
};

struct hf_cmdline_entry;

/**
 * struct hf_cmdline - what was found; read-only for others
 * @ram_bytes: size of the guest's RAM, a multiple of its pages
 * @page_bytes: size of the huge pages wanted for it; 0: normal pages
 * @is_paused: the user gave -S: the guest is not to be started
 * @net, @net_count: the held netdevs, in the order of the line; at most
 *	HF_WIRE_NETDEVS_MAX
 * @disk, @disk_count: the protected disks; at most HF_WIRE_DISKS_MAX
 * @has_tap: an examination needs the right to make a TAP in its own namespace
 * @problem, @problem_count: all of them, also those let through
 * @refused_count: those not let through: with any, the line cannot be rendered
 * @notes: what was added, changed and left out, a sentence each; NULL-terminated, may be NULL
 */
struct hf_cmdline {
	uint64_t ram_bytes;
	uint64_t page_bytes;
	bool is_paused;
	struct hf_cmdline_net *net;
	size_t net_count;
	struct hf_cmdline_disk *disk;
	size_t disk_count;
	bool has_tap;
	struct hf_cmdline_problem *problem;
	size_t problem_count;
	size_t refused_count;
	char **notes;

	/* Private from here on. */
	char *program;
	struct hf_cmdline_entry *entry;
	size_t entry_count;
	char *ram_id;
	char *ram_object; /* our -object, up to what render adds; not NULL when nothing is refused */
	bool is_ram_placed; /* it takes the place of the user's */
	bool is_ram_of_numa; /* a NUMA node names it, so -machine must not */
	bool is_standby;
	bool is_resumed;
	bool is_inspection;
	bool has_console;
	bool is_console_added; /* the serial port that QEMU would make by itself */
	char *console_id; /* chardev that the console takes the place of; NULL: our own id */
	bool is_snapshot_added;
	bool has_failed; /* out of memory at some point */
};

/* Descriptors that QEMU inherits: they must be open in the child, without close-on-exec.
 * @net has one for each of hf_cmdline.net, in that order.
 * @disk_socket: path of the unix socket on which the disks are served; may be NULL without disks
 * @disk_sockets: instead: one for each of hf_cmdline.disk
 * @console: of an examination: a connected socket for the first serial port; 0: it goes nowhere
 * @gdb: of an examination: a listening socket for gdb; 0: none */
struct hf_cmdline_fds {
	int qmp;
	int ram;
	const int *net;
	const char *disk_socket;
	const char *const *disk_sockets;
	int console;
	int gdb;
};

/**
 * hf_cmdline_parse() - read a line and find out what is to be done to it
 * @argv: NULL-terminated, the program first; stays the caller's
 * @ret: to be released with hf_cmdline_free(). It may hold problems: look at refused_count
 * Return: 0; -EINVAL when the line cannot be read, or @want names what does not exist, with @err
 * saying which word; -E2BIG; -ENOMEM.
 */
int hf_cmdline_parse(char *const *argv, const struct hf_cmdline_want *want, struct hf_cmdline **ret,
		     struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_cmdline_refusal() - the problems not let through, a line each
 * @ret: text to be freed by the caller; "" when there is none
 * Return: 0; -ENOMEM.
 */
int hf_cmdline_refusal(const struct hf_cmdline *cmd, char **ret) HF_MUST_CHECK;

/**
 * hf_cmdline_render() - the line to execute
 * @ret: NULL-terminated, to be released with hf_words_free()
 * Return: 0; -EPERM when something is refused, with the first in @err; -EINVAL when there are disks and
 * no socket for them; -ENOMEM; -E2BIG.
 */
int hf_cmdline_render(const struct hf_cmdline *cmd, const struct hf_cmdline_fds *fds, char ***ret,
		      struct hf_err *err) HF_MUST_CHECK;

/* Takes NULL. */
void hf_cmdline_free(struct hf_cmdline *cmd);
