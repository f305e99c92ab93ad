/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's options: which there are, which take an argument, and what they mean to holdfast. Layer: vm,
 * private to cmdline. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum hf_cmdline_kind {
	HF_OPT_PLAIN, /* passed on unseen */
	HF_OPT_MACHINE,
	HF_OPT_MEMORY,
	HF_OPT_OBJECT,
	HF_OPT_NUMA,
	HF_OPT_MEM_PATH,
	HF_OPT_MEM_PREALLOC,
	HF_OPT_NETDEV,
	HF_OPT_NIC,
	HF_OPT_NET,
	HF_OPT_DEVICE,
	HF_OPT_DRIVE,
	HF_OPT_BLOCKDEV,
	HF_OPT_DISK_FILE, /* the argument, or the word itself, is a writable image */
	HF_OPT_FILES, /* a folder of the host */
	HF_OPT_SNAPSHOT,
	HF_OPT_PAUSED,
	HF_OPT_NODEFAULTS,
	HF_OPT_CHARDEV,
	HF_OPT_SET,
	HF_OPT_CPU,
	HF_OPT_LOADVM,
	HF_OPT_REFUSED, /* text: the reason */
	HF_OPT_NOTED, /* text: what to know about it */
};

/**
 * struct hf_cmdline_opt - one option
 * @name: without dashes
 * @has_arg: takes the next word
 * @is_keyval: that word is keys and values
 * @implied: key of its first word, or NULL
 * @text: see the kinds
 */
struct hf_cmdline_opt {
	const char *name;
	enum hf_cmdline_kind kind;
	bool has_arg;
	bool is_keyval;
	const char *implied;
	const char *text;
};

/* The option called @name (without dashes), or NULL when it is unknown. */
const struct hf_cmdline_opt *hf_cmdline_opt_find(const char *name);

/* The table itself, for tests: entry @i of hf_cmdline_opt_count(). */
size_t hf_cmdline_opt_count(void);
const struct hf_cmdline_opt *hf_cmdline_opt_at(size_t i);

/* A bare word: QEMU takes it for the image of the first hard disk. */
extern const struct hf_cmdline_opt hf_cmdline_opt_image;
