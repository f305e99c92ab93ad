/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See certificate.c. What is read here may have been written by anything: nothing in it is believed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/certificate-internal.h"
#include "codec/json.h"
#include "codec/words.h"

/* Hexadecimal digits as they are written here: small ones. */
static bool is_hex(const char *text, size_t n)
{
	return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

static int take_text(const struct json_object *o, const struct hf_member *m, char *to,
		     struct hf_err *err)
{
	int r = hf_json_copy_str(o, m->key, to, m->size, err);

	if (r == 0 && m->kind == HF_MEMBER_NAME && *to && !hf_is_valid_name(to)) {
		hf_err_set(err, "\"%s\" is not a name", m->key);
		return -EINVAL;
	}
	return r;
}

static int take_number(const struct json_object *o, const char *key, uint64_t max, uint64_t *ret,
		       struct hf_err *err)
{
	int r = hf_json_u64(o, key, ret, err);

	if (r == 0 && *ret > max) {
		hf_err_set(err, "\"%s\" is larger than %llu", key, (unsigned long long)max);
		return -EINVAL;
	}
	return r;
}

static int take_uint(const struct json_object *o, const struct hf_member *m, void *to,
		     struct hf_err *err)
{
	uint64_t value = 0;
	int r = take_number(o, m->key, m->kind == HF_MEMBER_FD ? INT32_MAX : UINT32_MAX, &value,
			    err);
	unsigned int narrow = (unsigned int)value;

	if (r == 0)
		memcpy(to, &narrow, sizeof(narrow));
	return r;
}

static int take_id(const struct json_object *o, const char *key, struct hf_id *ret,
		   struct hf_err *err)
{
	const char *text;
	char half[17] = "";
	int r = hf_json_str(o, key, &text, err);

	if (r < 0)
		return r;
	if (!is_hex(text, 32)) {
		hf_err_set(err, "\"%s\" is not 32 hexadecimal digits", key);
		return -EINVAL;
	}
	memcpy(half, text, 16);
	ret->hi = strtoull(half, NULL, 16);
	ret->lo = strtoull(text + 16, NULL, 16);
	return 0;
}

static int take_word(const struct json_object *o, const struct hf_member *m, void *to,
		     struct hf_err *err)
{
	const char *text;
	int r = hf_json_str(o, m->key, &text, err);

	if (r < 0)
		return r;
	for (unsigned int i = 0; i < m->words->count; i++) {
		if (strcmp(m->words->name(i), text) != 0)
			continue;
		memcpy(to, &i, sizeof(i));
		return 0;
	}
	hf_err_set(err, "\"%s\" has the unknown value \"%.64s\"", m->key, text);
	return -EINVAL;
}

static int add_word(struct json_object *item, char ***words, const char *key, struct hf_err *err)
{
	int r = -EINVAL;

	if (json_object_is_type(item, json_type_string))
		r = hf_words_append(words, json_object_get_string(item));
	if (r == -EINVAL)
		hf_err_set(err, "\"%s\" must be a list of strings", key);
	else if (r == -E2BIG)
		hf_err_set(err, "\"%s\" has more than %d words", key, HF_CERTIFICATE_ARGV_MAX);
	return r;
}

/* An empty list is one with nothing but its NULL. */
static int begin_list(char ***ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static int take_list(struct json_object *o, const char *key, char ***ret, struct hf_err *err)
{
	struct json_object *list;
	size_t n;
	int r;

	if (json_object_object_get_ex(o, key, &list) && !list) {
		*ret = NULL;
		return 0;
	}
	r = hf_json_array(o, key, &list, err);
	n = r == 0 ? json_object_array_length(list) : 0;
	if (r == 0 && n == 0)
		r = begin_list(ret);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_word(json_object_array_get_idx(list, i), ret, key, err);
	return r;
}

static int take_members(struct json_object *o, const struct hf_member *members, void *base,
			struct hf_err *err);

static int take_process(struct json_object *o, const char *key, void *to, struct hf_err *err)
{
	struct json_object *process;
	int r = hf_json_obj(o, key, &process, err);

	if (r == 0)
		r = take_members(process, hf_certificate_process_members, to, err);
	if (r < 0)
		hf_err_prefix(err, "%s: ", key);
	return r;
}

static int take_member(struct json_object *o, const struct hf_member *m, void *to,
		       struct hf_err *err)
{
	switch (m->kind) {
	case HF_MEMBER_TEXT:
	case HF_MEMBER_NAME:
		return take_text(o, m, to, err);
	case HF_MEMBER_U64:
		return take_number(o, m->key, UINT64_MAX, to, err);
	case HF_MEMBER_UINT:
	case HF_MEMBER_FD:
		return take_uint(o, m, to, err);
	case HF_MEMBER_BOOL:
		return hf_json_bool(o, m->key, to, err);
	case HF_MEMBER_ID:
		return take_id(o, m->key, to, err);
	case HF_MEMBER_WORD:
		return take_word(o, m, to, err);
	case HF_MEMBER_PROCESS:
		return take_process(o, m->key, to, err);
	case HF_MEMBER_LIST:
	default:
		return take_list(o, m->key, to, err);
	}
}

static int take_members(struct json_object *o, const struct hf_member *members, void *base,
			struct hf_err *err)
{
	int r = 0;

	for (const struct hf_member *m = members; r == 0 && m->key; m++)
		r = take_member(o, m, (char *)base + m->offset, err);
	return r;
}

/* The steps stand in their order. */
static int check_step(struct json_object *o, size_t i, struct hf_err *err)
{
	const char *name = hf_freeze_step_name((enum hf_freeze_step)i), *text;
	int r = hf_json_str(o, "step", &text, err);

	if (r == 0 && strcmp(text, name) != 0) {
		hf_err_set(err, "\"step\" must be \"%s\", not \"%.64s\"", name, text);
		r = -EINVAL;
	}
	return r;
}

static int take_table(struct json_object *o, const struct hf_member_table *t,
		      struct hf_certificate *c, struct hf_err *err)
{
	struct json_object *list;
	int r = hf_json_array(o, t->key, &list, err);
	unsigned int n, i = 0;

	if (r < 0)
		return r;
	n = (unsigned int)json_object_array_length(list);
	if (n > t->max || (!t->count_offset && n < t->max)) {
		hf_err_set(err, "\"%s\" has %u entries: %s %zu are expected", t->key, n,
			   t->count_offset ? "at most" : "just", t->max);
		return n > t->max && t->count_offset ? -E2BIG : -EINVAL;
	}
	for (; r == 0 && i < n; i++) {
		struct json_object *entry = json_object_array_get_idx(list, i);

		r = t->count_offset ? 0 : check_step(entry, i, err);
		if (r == 0)
			r = take_members(entry, t->members, (char *)c + t->offset + i * t->stride,
					 err);
	}
	if (r < 0)
		hf_err_prefix(err, "%s[%u]: ", t->key, i - 1);
	else if (t->count_offset)
		memcpy((char *)c + t->count_offset, &n, sizeof(n));
	return r;
}

static int take_net(struct json_object *item, char ret[16])
{
	const char *name = json_object_is_type(item, json_type_string)
				   ? json_object_get_string(item)
				   : "";
	size_t n = strlen(name);

	if (n == 0 || n >= 16 || strchr(name, '/'))
		return -EINVAL;
	memcpy(ret, name, n + 1);
	return 0;
}

static int take_nets(struct json_object *o, struct hf_certificate *c, struct hf_err *err)
{
	struct json_object *list;
	int r = hf_json_array(o, "nets", &list, err);
	size_t n = r == 0 ? json_object_array_length(list) : 0;

	if (n > HF_CERTIFICATE_NETS_MAX) {
		hf_err_set(err, "\"nets\" has more than %d entries", HF_CERTIFICATE_NETS_MAX);
		return -E2BIG;
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = take_net(json_object_array_get_idx(list, i), c->net[i]);
		if (r < 0)
			hf_err_set(err, "nets[%zu] is not the name of an interface", i);
	}
	c->n_nets = (unsigned int)n;
	return r;
}

static int take_head(struct json_object *o, struct hf_certificate *c, struct hf_err *err)
{
	const char *state = "";
	uint64_t version = 0;
	int r = hf_json_u64(o, "version", &version, err);

	if (r == 0 && version != HF_CERTIFICATE_VERSION) {
		hf_err_set(err, "it has version %llu, which this holdfast does not know",
			   (unsigned long long)version);
		return -EINVAL;
	}
	if (r == 0)
		r = hf_json_str(o, "state", &state, err);
	if (r < 0)
		return r;
	c->is_certified = strcmp(state, "frozen") == 0;
	if (c->is_certified || strcmp(state, "freezing") == 0)
		return 0;
	hf_err_set(err, "\"state\" has the unknown value \"%.64s\"", state);
	return -EINVAL;
}

/* ---- does it make sense? ---- */

/* What is used as a path, or names a folder. */
static const char *bad_names(const struct hf_certificate *c)
{
	char id[33];

	(void)snprintf(id, sizeof(id), "%016llx%016llx", (unsigned long long)c->instance.hi,
		       (unsigned long long)c->instance.lo);
	if (!*c->vm)
		return "\"vm\" is empty";
	if (!is_hex(c->id, HF_CERTIFICATE_ID))
		return "\"id\" is not 8 hexadecimal digits";
	if (strncmp(c->id, id, HF_CERTIFICATE_ID) != 0)
		return "\"id\" is not the beginning of \"instance\"";
	if (*c->cgroup && *c->cgroup != '/')
		return "\"cgroup\" is not an absolute path";
	if (*c->cwd && *c->cwd != '/')
		return "\"cwd\" is not an absolute path";
	return NULL;
}

static const char *bad_remains(const struct hf_certificate *c)
{
	if (c->is_certified && c->frozen_time_ns == 0)
		return "it is frozen, but \"frozen_time_ns\" is 0";
	if (c->qemu_fate == HF_REMAINS_FILE)
		return "\"qemu_fate\" cannot be \"file\"";
	if (c->qemu_fate == HF_REMAINS_PROCESS && c->qemu.pid == 0)
		return "\"qemu_fate\" is \"process\", but there is no \"qemu\"";
	if (c->device_state == HF_REMAINS_PROCESS)
		return "\"device_state\" cannot be \"process\"";
	if (c->ram == HF_REMAINS_PROCESS && c->ram_holder.pid == 0)
		return "\"ram\" is \"process\", but there is no \"ram_holder\"";
	return NULL;
}

static const char *bad_parts(const struct hf_certificate *c)
{
	for (unsigned int i = 0; i < c->n_ram_parts; i++) {
		const struct hf_ram_part *p = &c->ram_part[i];

		if (p->bytes == 0 || p->bytes > c->ram_bytes || p->offset > c->ram_bytes - p->bytes)
			return "one of \"ram_parts\" is not within the RAM";
		if (p->bytes - 1 > UINT64_MAX - p->address)
			return "one of \"ram_parts\" goes beyond the address space";
	}
	return NULL;
}

static int check(const struct hf_certificate *c, struct hf_err *err)
{
	const char *bad = bad_names(c);

	if (!bad)
		bad = bad_remains(c);
	if (!bad)
		bad = bad_parts(c);
	if (bad)
		hf_err_set(err, "%s", bad);
	return bad ? -EINVAL : 0;
}

static int decode(struct json_object *o, struct hf_certificate *c, struct hf_err *err)
{
	int r = take_head(o, c, err);

	if (r == 0)
		r = take_members(o, hf_certificate_members, c, err);
	for (const struct hf_member_table *t = hf_certificate_tables; r == 0 && t->key; t++)
		r = take_table(o, t, c, err);
	if (r == 0)
		r = take_nets(o, c, err);
	if (r == 0)
		r = check(c, err);
	return r;
}

int hf_certificate_decode(const char *name, const char *text, size_t len,
			  struct hf_certificate *ret, struct hf_err *err)
{
	struct hf_certificate *c;
	struct json_object *o = NULL;
	int r;

	if (len > HF_CERTIFICATE_MAX_BYTES) {
		hf_err_set(err, "%.300s: %zu bytes are more than a certificate has (%u)", name, len,
			   HF_CERTIFICATE_MAX_BYTES);
		return -E2BIG;
	}
	c = calloc(1, sizeof(*c));
	r = c ? hf_json_parse(text, len, &o, err) : -ENOMEM;
	if (r == 0)
		r = decode(o, c, err);
	json_object_put(o);
	if (r == 0)
		*ret = *c;
	else if (c)
		hf_certificate_fini(c);
	free(c);
	if (r == -ENOMEM)
		hf_err_set(err, "no memory for the certificate");
	if (r < 0)
		hf_err_prefix(err, "%.300s: ", name);
	return r;
}
