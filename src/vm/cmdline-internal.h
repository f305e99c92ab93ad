/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of cmdline share. Layer: vm, private to cmdline.
 *
 * Each part looks over the entries and says what is to become of those it knows. None of them fails:
 * what is wrong becomes a problem, and running out of memory is remembered in has_failed, so that
 * the parts read as rules.
 */
#pragma once

#include "codec/keyval.h"
#include "vm/cmdline-opts.h"
#include "vm/cmdline.h"

enum hf_cmdline_fate {
	HF_FATE_KEEP,
	HF_FATE_DROP,
	HF_FATE_NET, /* becomes a stream netdev: the one numbered net */
	HF_FATE_RAM, /* becomes our memory backend */
};

/* One option of the line. @arg is NULL when it has none, @kv filled when the option is_keyval. */
struct hf_cmdline_entry {
	const struct hf_cmdline_opt *opt;
	char *word;
	char *arg;
	struct hf_keyval kv;
	enum hf_cmdline_fate fate;
	size_t net;
};

/* The next entry of this kind, or NULL. Start with NULL for @after. */
struct hf_cmdline_entry *hf_cmdline_next(struct hf_cmdline *cmd, enum hf_cmdline_kind kind,
					 const struct hf_cmdline_entry *after);

bool hf_cmdline_has(struct hf_cmdline *cmd, enum hf_cmdline_kind kind);

/* strdup() and asprintf() which remember in @cmd that they failed, and then return NULL. */
char *hf_cmdline_dup(struct hf_cmdline *cmd, const char *text);
char *hf_cmdline_text(struct hf_cmdline *cmd, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void hf_cmdline_note(struct hf_cmdline *cmd, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* @format completes the sentence "WHAT 'ID': ...". Memory and options can never be let through. */
void hf_cmdline_problem(struct hf_cmdline *cmd, const char *what, const char *id,
			const char *format, ...) __attribute__((format(printf, 4, 5)));

/* QEMU's rule for ids (util/id.c): a letter, then letters, digits and -._ */
bool hf_cmdline_is_valid_id(const char *id);

/* The parts. */
void hf_cmdline_check_ram(struct hf_cmdline *cmd, const struct hf_cmdline_want *want);
void hf_cmdline_check_nets(struct hf_cmdline *cmd, const struct hf_cmdline_want *want);
void hf_cmdline_check_disks(struct hf_cmdline *cmd);
void hf_cmdline_check_devices(struct hf_cmdline *cmd);
