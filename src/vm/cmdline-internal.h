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
	HF_FATE_ARG, /* keeps its name and gets the argument `instead` */
	HF_FATE_DISK, /* its node at @leaf becomes an NBD client: the disk numbered disk */
};

/* One option of the line. @arg is NULL when it has none, @kv filled when the option is_keyval. */
struct hf_cmdline_entry {
	const struct hf_cmdline_opt *opt;
	char *word;
	char *arg;
	struct hf_keyval kv;
	enum hf_cmdline_fate fate;
	size_t net;
	size_t disk;
	char *leaf;
	char *instead;
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
void hf_cmdline_check_disks(struct hf_cmdline *cmd, const struct hf_cmdline_want *want);
void hf_cmdline_check_devices(struct hf_cmdline *cmd);
/* For an examination: what leads outside goes, or is refused. After all others. */
void hf_cmdline_isolate(struct hf_cmdline *cmd);

/* Why a device of this driver has a part of itself outside of QEMU; NULL: it has not. */
const char *hf_cmdline_foreign_device(const char *driver);

/* Hubs of which nobody else has a port. */
#define HF_CMDLINE_HUB_FIRST ((size_t)100000)

/*
 * A node of QEMU's block graph as an option spells it: its keys begin with @prefix, "" or "file." or
 * "file.file."...
 */
#define HF_CMDLINE_PREFIX_MAX 128
struct hf_cmdline_node {
	struct hf_cmdline_entry *e;
	char prefix[HF_CMDLINE_PREFIX_MAX];
};

const char *hf_cmdline_node_get(const struct hf_cmdline_node *node, const char *key);

/* Where an image is, in the form of hf_cmdline_disk.location, to be freed: of a name that QEMU would
 * look into for a protocol ("nbd://..."), or of the keys of a node. NULL: the reason is a problem of @id. */
char *hf_cmdline_image_of_name(struct hf_cmdline *cmd, const char *id, const char *name);
char *hf_cmdline_image_of_file(struct hf_cmdline *cmd, const char *id, const char *path);
char *hf_cmdline_image_of_nbd(struct hf_cmdline *cmd, const char *id,
			      const struct hf_cmdline_node *node);

/* Can the node at @leaf be exchanged? Not when its option is JSON of a form that QEMU refuses. */
bool hf_cmdline_may_swap_disk(const struct hf_cmdline_entry *e, const char *leaf);

/* The argument of an entry whose fate is HF_FATE_DISK, to be freed. 0; -ENOMEM, -E2BIG. */
int hf_cmdline_swap_disk(const struct hf_cmdline_entry *e, const char *socket,
			 char **ret) HF_MUST_CHECK;

/* Says so, and what is left out. */
void hf_cmdline_note_swap(struct hf_cmdline *cmd, const struct hf_cmdline_entry *e);
