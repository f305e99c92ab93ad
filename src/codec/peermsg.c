/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/peermsg.h"

#include <errno.h>
#include <string.h>

#include "codec/json.h"

static const char *const haves[HF_HAVE_COUNT] = {
	[HF_HAVE_NOTHING] = "nothing",
	[HF_HAVE_RUNNING] = "running",
	[HF_HAVE_EMPTY_STANDBY] = "empty-standby",
	[HF_HAVE_STANDBY] = "standby",
};

/* ---- encoding ---- */

struct json_object *hf_peermsg_hello_encode(const struct hf_peermsg_hello *m)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "version", m->version);
	hf_json_add_str(o, "host", m->host);
	hf_json_add_str(o, "to", m->to);
	hf_json_add_u64(o, "instance", m->instance);
	hf_json_add_u64(o, "after", m->after);
	return o;
}

static struct json_object *encode_wanted(const struct hf_wanted *w)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_bool(o, "is_started", w->is_started);
	hf_json_add_str(o, "host", w->host);
	hf_json_add_u64(o, "version", w->version);
	hf_json_add_str(o, "by", w->by);
	hf_json_add_bool(o, "is_forced", w->is_forced);
	return o;
}

static struct json_object *encode_frozen(const struct hf_peermsg_vm *m)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < m->frozen_count && i < HF_PEERMSG_FROZEN_MAX; i++)
		json_object_array_add(list, json_object_new_string(m->frozen[i]));
	return list;
}

static struct json_object *encode_vm(const struct hf_peermsg_vm *m)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_str(o, "vm", m->vm);
	hf_json_add_bool(o, "is_defined", m->is_defined);
	hf_json_add_u64(o, "definition_crc", m->definition_crc);
	hf_json_add_bool(o, "may_run", m->may_run);
	hf_json_add_bool(o, "has_run_last", m->has_run_last);
	hf_json_add_bool(o, "is_protected", m->is_protected);
	hf_json_add_str(o, "have", haves[m->have]);
	json_object_object_add(o, "wanted", encode_wanted(&m->wanted));
	hf_json_add_str(o, "life", m->life);
	hf_json_add_str(o, "cause", m->cause);
	hf_json_add_str(o, "text", m->text);
	hf_json_add_u64(o, "frozen_count", m->frozen_count);
	json_object_object_add(o, "frozen", encode_frozen(m));
	return o;
}

struct json_object *hf_peermsg_tell_encode(const struct hf_peermsg_tell *m)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < m->n; i++)
		json_object_array_add(list, encode_vm(&m->vms[i]));
	hf_json_add_bool(o, "is_first", m->is_first);
	hf_json_add_bool(o, "is_last", m->is_last);
	json_object_object_add(o, "vms", list);
	return o;
}

static struct json_object *encode_event(const struct hf_peermsg_event *m)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_u64(o, "seq", m->seq);
	hf_json_add_u64(o, "time_ns", m->time_ns);
	hf_json_add_str(o, "event", m->event);
	hf_json_add_str(o, "vm", m->vm);
	hf_json_add_str(o, "id", m->id);
	hf_json_add_str(o, "cause", m->cause);
	hf_json_add_str(o, "text", m->text);
	return o;
}

struct json_object *hf_peermsg_notice_encode(const struct hf_peermsg_notice *m)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < m->n; i++)
		json_object_array_add(list, encode_event(&m->events[i]));
	json_object_object_add(o, "events", list);
	return o;
}

struct json_object *hf_peermsg_order_encode(const struct hf_peermsg_order *m)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_str(o, "vm", m->vm);
	hf_json_add_bool(o, "is_fresh", m->is_fresh);
	hf_json_add_u64(o, "lver", m->lver);
	hf_json_add_str(o, "id", m->id);
	hf_json_add_str(o, "cause", m->cause);
	return o;
}

/* ---- decoding ---- */

/* Printable, so that it can be logged as it is. */
static int get_text(const struct json_object *o, const char *key, char *ret, size_t size,
		    struct hf_err *err)
{
	int r = hf_json_copy_str(o, key, ret, size, err);

	for (size_t i = 0; !r && ret[i]; i++) {
		if ((unsigned char)ret[i] >= ' ' && ret[i] != 0x7f)
			continue;
		hf_err_set(err, "%s: byte %zu is a control character", key, i);
		r = -EINVAL;
	}
	return r;
}

static int get_name(const struct json_object *o, const char *key, char *ret, size_t size,
		    bool may_be_empty, struct hf_err *err)
{
	int r = get_text(o, key, ret, size, err);

	if (r < 0 || (may_be_empty && !ret[0]) || hf_is_valid_name(ret))
		return r;
	hf_err_set(err, "%s: '%.80s' is no name", key, ret);
	return -EINVAL;
}

static int check_id(const char *key, const char *id, bool may_be_empty, struct hf_err *err)
{
	size_t n = strspn(id, "0123456789abcdef");

	if (id[n] == '\0' && (n == HF_PEERMSG_ID_MAX || (n == 0 && may_be_empty)))
		return 0;
	hf_err_set(err, "%s: '%.80s' is not %d hexadecimal digits", key, id, HF_PEERMSG_ID_MAX);
	return -EINVAL;
}

static int get_id(const struct json_object *o, const char *key, char *ret, struct hf_err *err)
{
	int r = get_text(o, key, ret, HF_PEERMSG_ID_MAX + 1, err);

	return r < 0 ? r : check_id(key, ret, /* may_be_empty= */ true, err);
}

static int get_u32(const struct json_object *o, const char *key, uint32_t *ret, struct hf_err *err)
{
	uint64_t n;
	int r = hf_json_u64(o, key, &n, err);

	if (r < 0)
		return r;
	if (n > UINT32_MAX) {
		hf_err_set(err, "%s: more than 32 bits", key);
		return -EINVAL;
	}
	*ret = (uint32_t)n;
	return 0;
}

static int get_list(const struct json_object *o, const char *key, size_t max,
		    struct json_object **ret, struct hf_err *err)
{
	int r = hf_json_array(o, key, ret, err);

	if (r < 0 || json_object_array_length(*ret) <= max)
		return r;
	hf_err_set(err, "%s: more than %zu", key, max);
	return -EINVAL;
}

int hf_peermsg_hello_decode(const struct json_object *o, struct hf_peermsg_hello *ret,
			    struct hf_err *err)
{
	struct hf_peermsg_hello m = { .version = 0 };
	int r = get_u32(o, "version", &m.version, err);

	if (!r && m.version != HF_PEERMSG_VERSION) {
		hf_err_set(err, "version %u is spoken there, %d here", m.version,
			   HF_PEERMSG_VERSION);
		r = -EINVAL;
	}
	if (!r)
		r = get_name(o, "host", m.host, sizeof(m.host), false, err);
	if (!r)
		r = get_name(o, "to", m.to, sizeof(m.to), false, err);
	if (!r)
		r = hf_json_u64(o, "instance", &m.instance, err);
	if (!r)
		r = hf_json_u64(o, "after", &m.after, err);
	if (!r)
		*ret = m;
	return r;
}

static int decode_have(const struct json_object *o, enum hf_place_have *ret, struct hf_err *err)
{
	const char *s;
	int at, r = hf_json_str(o, "have", &s, err);

	if (r < 0)
		return r;
	at = hf_name_find(haves, HF_HAVE_COUNT, s);
	if (at < 0) {
		hf_err_set(err, "have: '%.40s' is not known", s);
		return -EINVAL;
	}
	*ret = (enum hf_place_have)at;
	return 0;
}

static int decode_wanted(const struct json_object *o, struct hf_wanted *ret, struct hf_err *err)
{
	struct json_object *w;
	int r = hf_json_obj(o, "wanted", &w, err);

	if (r < 0)
		return r;
	r = hf_json_bool(w, "is_started", &ret->is_started, err);
	if (!r)
		r = get_name(w, "host", ret->host, sizeof(ret->host), true, err);
	if (!r)
		r = hf_json_u64(w, "version", &ret->version, err);
	if (!r)
		r = get_name(w, "by", ret->by, sizeof(ret->by), true, err);
	if (!r)
		r = hf_json_bool(w, "is_forced", &ret->is_forced, err);
	if (!r && ret->version > HF_WANTED_VERSION_MAX) {
		hf_err_set(err, "version: larger than can be");
		r = -EINVAL;
	}
	if (r < 0)
		hf_err_prefix(err, "wanted: ");
	return r;
}

static int decode_frozen(const struct json_object *o, struct hf_peermsg_vm *m, struct hf_err *err)
{
	struct json_object *list;
	int r = get_u32(o, "frozen_count", &m->frozen_count, err);

	if (!r)
		r = get_list(o, "frozen", HF_PEERMSG_FROZEN_MAX, &list, err);
	if (r < 0)
		return r;
	if (json_object_array_length(list) !=
	    (m->frozen_count < HF_PEERMSG_FROZEN_MAX ? m->frozen_count : HF_PEERMSG_FROZEN_MAX)) {
		hf_err_set(err, "frozen: frozen_count says another number");
		return -EINVAL;
	}
	for (size_t i = 0; !r && i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);
		const char *id = json_object_is_type(one, json_type_string)
					 ? json_object_get_string(one)
					 : "";

		r = check_id("frozen", id, /* may_be_empty= */ false, err);
		if (!r)
			memcpy(m->frozen[i], id, HF_PEERMSG_ID_MAX + 1);
	}
	return r;
}

static int decode_flags(const struct json_object *o, struct hf_peermsg_vm *m, struct hf_err *err)
{
	int r = hf_json_bool(o, "is_defined", &m->is_defined, err);

	if (!r)
		r = get_u32(o, "definition_crc", &m->definition_crc, err);
	if (!r)
		r = hf_json_bool(o, "may_run", &m->may_run, err);
	if (!r)
		r = hf_json_bool(o, "has_run_last", &m->has_run_last, err);
	if (!r)
		r = hf_json_bool(o, "is_protected", &m->is_protected, err);
	return r;
}

static int decode_vm(const struct json_object *o, struct hf_peermsg_vm *m, struct hf_err *err)
{
	int r = get_name(o, "vm", m->vm, sizeof(m->vm), false, err);

	if (!r)
		r = decode_flags(o, m, err);
	if (!r)
		r = decode_have(o, &m->have, err);
	if (!r)
		r = decode_wanted(o, &m->wanted, err);
	if (!r)
		r = get_name(o, "life", m->life, sizeof(m->life), false, err);
	if (!r)
		r = get_name(o, "cause", m->cause, sizeof(m->cause), true, err);
	if (!r)
		r = get_text(o, "text", m->text, sizeof(m->text), err);
	if (!r)
		r = decode_frozen(o, m, err);
	return r;
}

static bool is_same_wanted(const struct hf_wanted *a, const struct hf_wanted *b)
{
	return a->is_started == b->is_started && a->version == b->version &&
	       a->is_forced == b->is_forced && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->by, b->by) == 0;
}

static bool has_same_frozen(const struct hf_peermsg_vm *a, const struct hf_peermsg_vm *b)
{
	for (unsigned int i = 0; i < HF_PEERMSG_FROZEN_MAX; i++)
		if (strcmp(a->frozen[i], b->frozen[i]) != 0)
			return false;
	return a->frozen_count == b->frozen_count;
}

bool hf_peermsg_vm_is_same(const struct hf_peermsg_vm *a, const struct hf_peermsg_vm *b)
{
	return strcmp(a->vm, b->vm) == 0 && a->definition_crc == b->definition_crc &&
	       a->is_defined == b->is_defined && a->may_run == b->may_run &&
	       a->has_run_last == b->has_run_last && a->is_protected == b->is_protected &&
	       a->have == b->have && is_same_wanted(&a->wanted, &b->wanted) &&
	       strcmp(a->life, b->life) == 0 && strcmp(a->cause, b->cause) == 0 &&
	       strcmp(a->text, b->text) == 0 && has_same_frozen(a, b);
}

int hf_peermsg_tell_decode(const struct json_object *o, struct hf_peermsg_tell *ret,
			   struct hf_err *err)
{
	struct json_object *list;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = hf_json_bool(o, "is_first", &ret->is_first, err);
	if (!r)
		r = hf_json_bool(o, "is_last", &ret->is_last, err);
	if (!r)
		r = get_list(o, "vms", HF_PEERMSG_VMS_MAX, &list, err);
	for (size_t i = 0; !r && i < json_object_array_length(list); i++) {
		r = decode_vm(json_object_array_get_idx(list, i), &ret->vms[i], err);
		if (r < 0)
			hf_err_prefix(err, "vms[%zu]: ", i);
		ret->n = (unsigned int)i + 1;
	}
	return r;
}

static int decode_event(const struct json_object *o, struct hf_peermsg_event *m, struct hf_err *err)
{
	int r = hf_json_u64(o, "seq", &m->seq, err);

	if (!r)
		r = hf_json_u64(o, "time_ns", &m->time_ns, err);
	if (!r)
		r = get_name(o, "event", m->event, sizeof(m->event), false, err);
	if (!r)
		r = get_name(o, "vm", m->vm, sizeof(m->vm), false, err);
	if (!r)
		r = get_id(o, "id", m->id, err);
	if (!r)
		r = get_name(o, "cause", m->cause, sizeof(m->cause), true, err);
	if (!r)
		r = get_text(o, "text", m->text, sizeof(m->text), err);
	return r;
}

int hf_peermsg_notice_decode(const struct json_object *o, struct hf_peermsg_notice *ret,
			     struct hf_err *err)
{
	struct json_object *list;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = get_list(o, "events", HF_PEERMSG_EVENTS_MAX, &list, err);
	for (size_t i = 0; !r && i < json_object_array_length(list); i++) {
		r = decode_event(json_object_array_get_idx(list, i), &ret->events[i], err);
		if (r < 0)
			hf_err_prefix(err, "events[%zu]: ", i);
		ret->n = (unsigned int)i + 1;
	}
	return r;
}

int hf_peermsg_order_decode(const struct json_object *o, struct hf_peermsg_order *ret,
			    struct hf_err *err)
{
	struct hf_peermsg_order m = { .vm = "" };
	int r = get_name(o, "vm", m.vm, sizeof(m.vm), false, err);

	if (!r)
		r = hf_json_bool(o, "is_fresh", &m.is_fresh, err);
	if (!r)
		r = hf_json_u64(o, "lver", &m.lver, err);
	if (!r)
		r = get_id(o, "id", m.id, err);
	if (!r)
		r = get_name(o, "cause", m.cause, sizeof(m.cause), true, err);
	if (!r)
		*ret = m;
	return r;
}
