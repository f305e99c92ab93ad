/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. One table says of each member where it is and of what kind; the encoder here and
 * the decoder in certificate-decode.c walk through it, so that they cannot come apart. What has no form
 * of its own in the table (the steps by name, the interfaces) is in both by hand.
 *
 * Texts come from other processes: QEMU's words for a broken disk, a path on the command line. What is
 * not UTF-8 is written as '?', for a certificate that could not be read again would be worse.
 */
#include "codec/certificate.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/certificate-internal.h"
#include "codec/utf8.h"
#include "codec/words.h"

_Static_assert(sizeof(enum hf_remains) == sizeof(unsigned int), "words are read as unsigned int");
_Static_assert(sizeof(enum hf_vm_cause) == sizeof(unsigned int), "the same");
_Static_assert(sizeof(enum hf_freeze_result) == sizeof(unsigned int), "the same");

static const char *cause_name(unsigned int value)
{
	return hf_vm_cause_name((enum hf_vm_cause)value);
}

static const char *severity_name(unsigned int value)
{
	return hf_vm_severity_name((enum hf_vm_severity)value);
}

static const char *result_name(unsigned int value)
{
	return hf_freeze_result_name((enum hf_freeze_result)value);
}

static const char *remains_name(unsigned int value)
{
	static const char *const names[] = { "none", "process", "file" };

	return names[value];
}

static const struct hf_member_words causes = { cause_name, HF_VM_CAUSE_COUNT };
static const struct hf_member_words severities = { severity_name, HF_VM_FATAL + 1 };
static const struct hf_member_words results = { result_name, HF_FREEZE_FAILED + 1 };
static const struct hf_member_words remains = { remains_name, HF_REMAINS_FILE + 1 };

#define AT(type, member) .offset = offsetof(struct type, member)
#define TEXT(type, member) AT(type, member), .size = sizeof(((struct type *)NULL)->member)

const struct hf_member hf_certificate_members[] = {
	{ "vm", HF_MEMBER_NAME, TEXT(hf_certificate, vm) },
	{ "id", HF_MEMBER_TEXT, TEXT(hf_certificate, id) },
	{ "host", HF_MEMBER_NAME, TEXT(hf_certificate, host) },
	{ "instance", HF_MEMBER_ID, AT(hf_certificate, instance) },
	{ "boot_id", HF_MEMBER_TEXT, TEXT(hf_certificate, boot_id) },
	{ "cause", HF_MEMBER_WORD, AT(hf_certificate, cause), .words = &causes },
	{ "severity", HF_MEMBER_WORD, AT(hf_certificate, severity), .words = &severities },
	{ "cause_text", HF_MEMBER_TEXT, TEXT(hf_certificate, cause_text) },
	{ "topology", HF_MEMBER_TEXT, TEXT(hf_certificate, topology) },
	{ "cause_time_ns", HF_MEMBER_U64, AT(hf_certificate, cause_time_ns) },
	{ "frozen_time_ns", HF_MEMBER_U64, AT(hf_certificate, frozen_time_ns) },
	{ "awakenings", HF_MEMBER_UINT, AT(hf_certificate, awakenings) },
	{ "keeper", HF_MEMBER_PROCESS, AT(hf_certificate, keeper) },
	{ "qemu", HF_MEMBER_PROCESS, AT(hf_certificate, qemu) },
	{ "disks", HF_MEMBER_PROCESS, AT(hf_certificate, disks) },
	{ "qemu_fate", HF_MEMBER_WORD, AT(hf_certificate, qemu_fate), .words = &remains },
	{ "cgroup", HF_MEMBER_TEXT, TEXT(hf_certificate, cgroup) },
	{ "cgroup_id", HF_MEMBER_U64, AT(hf_certificate, cgroup_id) },
	{ "lease", HF_MEMBER_TEXT, TEXT(hf_certificate, lease_fate) },
	{ "lver", HF_MEMBER_U64, AT(hf_certificate, lver) },
	{ "ram", HF_MEMBER_WORD, AT(hf_certificate, ram), .words = &remains },
	{ "ram_holder", HF_MEMBER_PROCESS, AT(hf_certificate, ram_holder) },
	{ "ram_fd", HF_MEMBER_FD, AT(hf_certificate, ram_fd) },
	{ "ram_bytes", HF_MEMBER_U64, AT(hf_certificate, ram_bytes) },
	{ "page_bytes", HF_MEMBER_U64, AT(hf_certificate, page_bytes) },
	{ "device_state", HF_MEMBER_WORD, AT(hf_certificate, device_state), .words = &remains },
	{ "device_state_bytes", HF_MEMBER_U64, AT(hf_certificate, device_state_bytes) },
	{ "qemu_version", HF_MEMBER_TEXT, TEXT(hf_certificate, qemu_version) },
	{ "machine", HF_MEMBER_TEXT, TEXT(hf_certificate, machine) },
	{ "cwd", HF_MEMBER_TEXT, TEXT(hf_certificate, cwd) },
	{ "argv", HF_MEMBER_LIST, AT(hf_certificate, argv) },
	{ "hold_net", HF_MEMBER_LIST, AT(hf_certificate, hold_net) },
	{ "unprotected", HF_MEMBER_LIST, AT(hf_certificate, unprotected) },
	{ NULL },
};

const struct hf_member hf_certificate_step_members[] = {
	{ "result", HF_MEMBER_WORD, AT(hf_certificate_step, result), .words = &results },
	{ "began_us", HF_MEMBER_U64, AT(hf_certificate_step, began_us) },
	{ "ended_us", HF_MEMBER_U64, AT(hf_certificate_step, ended_us) },
	{ "text", HF_MEMBER_TEXT, TEXT(hf_certificate_step, text) },
	{ NULL },
};

const struct hf_member hf_certificate_check_members[] = {
	{ "what", HF_MEMBER_TEXT, TEXT(hf_certificate_check, what) },
	{ "ok", HF_MEMBER_BOOL, AT(hf_certificate_check, is_ok) },
	{ "time_ns", HF_MEMBER_U64, AT(hf_certificate_check, time_ns) },
	{ "text", HF_MEMBER_TEXT, TEXT(hf_certificate_check, text) },
	{ NULL },
};

const struct hf_member hf_certificate_part_members[] = {
	{ "address", HF_MEMBER_U64, AT(hf_ram_part, address) },
	{ "bytes", HF_MEMBER_U64, AT(hf_ram_part, bytes) },
	{ "offset", HF_MEMBER_U64, AT(hf_ram_part, offset) },
	{ NULL },
};

const struct hf_member hf_certificate_process_members[] = {
	{ "pid", HF_MEMBER_FD, AT(hf_process_id, pid) },
	{ "start_ticks", HF_MEMBER_U64, AT(hf_process_id, start_ticks) },
	{ NULL },
};

const struct hf_member_table hf_certificate_tables[] = {
	{ "steps", hf_certificate_step_members, offsetof(struct hf_certificate, step),
	  sizeof(struct hf_certificate_step), HF_FREEZE_STEP_COUNT, 0 },
	{ "checks", hf_certificate_check_members, offsetof(struct hf_certificate, check),
	  sizeof(struct hf_certificate_check), HF_CERTIFICATE_CHECKS_MAX,
	  offsetof(struct hf_certificate, n_checks) },
	{ "ram_parts", hf_certificate_part_members, offsetof(struct hf_certificate, ram_part),
	  sizeof(struct hf_ram_part), HF_CERTIFICATE_RAM_PARTS_MAX,
	  offsetof(struct hf_certificate, n_ram_parts) },
	{ NULL },
};

/* ---- encoding ---- */

/* An object that is being built: a failure is remembered until the end. */
struct builder {
	bool is_failed;
};

static void put(struct builder *b, struct json_object *to, const char *key,
		struct json_object *value)
{
	if (value && to && json_object_object_add(to, key, value) == 0)
		return;
	json_object_put(value);
	b->is_failed = true;
}

static void append(struct builder *b, struct json_object *to, struct json_object *value)
{
	if (value && to && json_object_array_add(to, value) == 0)
		return;
	json_object_put(value);
	b->is_failed = true;
}

static struct json_object *new_text(const char *text)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);
	char *clean = malloc(strlen(text) + 1), *to = clean;
	struct json_object *value;

	if (!clean)
		return NULL;
	while (at < end) {
		size_t n = hf_utf8_length(at, end);

		if (n == 0)
			*to++ = '?';
		else
			memcpy(to, at, n);
		to += n;
		at += n ? n : 1;
	}
	value = json_object_new_string_len(clean, (int)(to - clean));
	free(clean);
	return value;
}

static struct json_object *new_id(struct hf_id id)
{
	char text[33];

	(void)snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, id.hi, id.lo);
	return json_object_new_string(text);
}

static struct json_object *new_list(struct builder *b, char *const *words)
{
	struct json_object *list = json_object_new_array();

	for (; *words; words++)
		append(b, list, new_text(*words));
	return list;
}

static unsigned int read_uint(const void *at)
{
	unsigned int value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t read_u64(const void *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void put_members(struct builder *b, struct json_object *to, const struct hf_member *members,
			const void *base);

static struct json_object *new_process(struct builder *b, const void *at)
{
	struct json_object *o = json_object_new_object();

	put_members(b, o, hf_certificate_process_members, at);
	return o;
}

/* A list that is not there is null, which json-c writes for NULL. */
static void put_list(struct builder *b, struct json_object *to, const char *key, char *const *words)
{
	if (words)
		put(b, to, key, new_list(b, words));
	else if (json_object_object_add(to, key, NULL) < 0)
		b->is_failed = true;
}

static struct json_object *new_word(const struct hf_member *m, unsigned int value)
{
	assert(value < m->words->count);
	return json_object_new_string(m->words->name(value));
}

static void put_member(struct builder *b, struct json_object *to, const struct hf_member *m,
		       const void *at)
{
	switch (m->kind) {
	case HF_MEMBER_TEXT:
	case HF_MEMBER_NAME:
		put(b, to, m->key, new_text(at));
		break;
	case HF_MEMBER_U64:
		put(b, to, m->key, json_object_new_uint64(read_u64(at)));
		break;
	case HF_MEMBER_UINT:
	case HF_MEMBER_FD:
		put(b, to, m->key, json_object_new_int64(read_uint(at)));
		break;
	case HF_MEMBER_BOOL:
		put(b, to, m->key, json_object_new_boolean(*(const bool *)at));
		break;
	case HF_MEMBER_ID:
		put(b, to, m->key, new_id(*(const struct hf_id *)at));
		break;
	case HF_MEMBER_WORD:
		put(b, to, m->key, new_word(m, read_uint(at)));
		break;
	case HF_MEMBER_PROCESS:
		put(b, to, m->key, new_process(b, at));
		break;
	case HF_MEMBER_LIST:
	default:
		put_list(b, to, m->key, *(char *const *const *)at);
	}
}

static void put_members(struct builder *b, struct json_object *to, const struct hf_member *members,
			const void *base)
{
	for (const struct hf_member *m = members; m->key; m++)
		put_member(b, to, m, (const char *)base + m->offset);
}

static struct json_object *new_table(struct builder *b, const struct hf_member_table *t,
				     const struct hf_certificate *c)
{
	const char *base = (const char *)c;
	size_t n = t->count_offset ? read_uint(base + t->count_offset) : t->max;
	struct json_object *list = json_object_new_array();

	assert(n <= t->max);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		if (!t->count_offset)
			put(b, o, "step",
			    json_object_new_string(hf_freeze_step_name((enum hf_freeze_step)i)));
		put_members(b, o, t->members, base + t->offset + i * t->stride);
		append(b, list, o);
	}
	return list;
}

static struct json_object *new_nets(struct builder *b, const struct hf_certificate *c)
{
	struct json_object *list = json_object_new_array();

	assert(c->n_nets <= HF_CERTIFICATE_NETS_MAX);
	for (unsigned int i = 0; i < c->n_nets; i++)
		append(b, list, new_text(c->net[i]));
	return list;
}

struct json_object *hf_certificate_encode(const struct hf_certificate *c)
{
	struct json_object *o = json_object_new_object();
	struct builder b = { .is_failed = !o };

	if (!o)
		return NULL;
	put(&b, o, "version", json_object_new_int64(HF_CERTIFICATE_VERSION));
	put(&b, o, "state", json_object_new_string(c->is_certified ? "frozen" : "freezing"));
	put_members(&b, o, hf_certificate_members, c);
	for (const struct hf_member_table *t = hf_certificate_tables; t->key; t++)
		put(&b, o, t->key, new_table(&b, t, c));
	put(&b, o, "nets", new_nets(&b, c));
	if (!b.is_failed)
		return o;
	json_object_put(o);
	return NULL;
}

void hf_certificate_fini(struct hf_certificate *c)
{
	hf_words_free(c->argv);
	hf_words_free(c->hold_net);
	hf_words_free(c->unprotected);
	c->argv = c->hold_net = c->unprotected = NULL;
}
