/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pacemaker/vmfacts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/crc32c.h"
#include "codec/json.h"
#include "core/ocf.h"

#define SECOND 1000000000ull

/* ---- reading ---- */

static const char *text_of(const struct json_object *o, const char *key)
{
	const char *text = "";

	(void)!hf_json_str(o, key, &text, NULL);
	return text;
}

static bool is_set(const struct json_object *o, const char *key)
{
	bool value = false;

	(void)!hf_json_bool(o, key, &value, NULL);
	return value;
}

static uint64_t number_of(const struct json_object *o, const char *key)
{
	uint64_t value = 0;

	(void)!hf_json_u64(o, key, &value, NULL);
	return value;
}

static enum hf_vm_pause find_pause(const char *name)
{
	for (int i = 0; i < HF_VM_PAUSE_COUNT; i++)
		if (strcmp(hf_vm_pause_name((enum hf_vm_pause)i), name) == 0)
			return (enum hf_vm_pause)i;
	return HF_VM_PAUSE_NONE;
}

static bool is_live_name(const char *life)
{
	int state = hf_vm_state_find(life);

	return state == HF_VM_RUNNING || state == HF_VM_PAUSED || state == HF_VM_MIGRATING;
}

/* The newest is the last. */
static void read_id(const struct json_object *o, struct hf_vmfacts *v)
{
	struct json_object *ids;
	const char *id;
	size_t n;

	if (hf_json_array(o, "frozen", &ids, NULL) < 0)
		return;
	n = json_object_array_length(ids);
	id = n ? json_object_get_string(json_object_array_get_idx(ids, n - 1)) : NULL;
	if (id && strlen(id) < sizeof(v->id))
		(void)snprintf(v->id, sizeof(v->id), "%s", id);
}

static void read_rest(const struct json_object *o, struct hf_vmfacts *v)
{
	int cause = hf_vm_cause_find(text_of(o, "cause"));
	int severity = hf_vm_severity_find(text_of(o, "severity"));

	v->cause = cause < 0 ? HF_VM_CAUSE_NONE : (enum hf_vm_cause)cause;
	v->severity = severity < 0 ? HF_VM_INFO : (enum hf_vm_severity)severity;
	v->pause = find_pause(text_of(o, "pause"));
	v->is_silent = number_of(o, "silent_ms") > 0;
	v->is_standby = strcmp(text_of(o, "role"), "standby") == 0 || v->state == HF_VM_STANDBY;
	v->has_epoch = is_set(o, "has_epoch");
	v->is_in_touch = is_set(o, "connected");
	v->has_run_last = is_set(o, "has_run_last");
	v->is_peer_running = is_set(o, "peer_up") && is_live_name(text_of(o, "peer_life"));
	(void)snprintf(v->topology, sizeof(v->topology), "%s", text_of(o, "topology"));
	(void)snprintf(v->text, sizeof(v->text), "%s", text_of(o, "cause_text"));
	if (!v->text[0])
		(void)snprintf(v->text, sizeof(v->text), "%s", text_of(o, "reason"));
	read_id(o, v);
}

int hf_vmfacts_read(const struct json_object *vm, struct hf_vmfacts *ret, struct hf_err *err)
{
	struct hf_vmfacts v = { .since_ns = 0 };
	const char *life;
	int state;

	if (hf_json_copy_str(vm, "vm", v.vm, sizeof(v.vm), err) < 0 ||
	    hf_json_str(vm, "life", &life, err) < 0)
		return -EINVAL;
	if (!hf_is_valid_name(v.vm)) {
		hf_err_set(err, "vm: that is no name of a VM");
		return -EINVAL;
	}
	state = hf_vm_state_find(life);
	if (state < 0) {
		hf_err_set(err, "%s: '%.40s' is no state of a VM", v.vm, life);
		return -EINVAL;
	}
	v.state = (enum hf_vm_state)state;
	read_rest(vm, &v);
	*ret = v;
	return 0;
}

/* ---- what is told ---- */

enum hf_trouble hf_vmfacts_trouble(const struct hf_vmfacts *v)
{
	return hf_trouble_of(v->state, v->pause, v->cause, v->is_silent);
}

/* A letter of another alphabet becomes one '?'. */
static void make_printable(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		unsigned char c = (unsigned char)*from;

		if ((c & 0xc0) == 0x80)
			continue;
		*to++ = c >= 0x80 ? '?' : c < 0x20 || c == 0x7f ? ' ' : (char)c;
	}
	*to = '\0';
}

static const char *format_time(uint64_t ns, char *buf, size_t size)
{
	time_t t = (time_t)(ns / SECOND);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm))
		buf[0] = '\0';
	return buf;
}

static void append(char *buf, size_t size, const char *before, const char *text)
{
	size_t used = strlen(buf);

	if (text[0])
		(void)snprintf(buf + used, size - used, "%s%s", before, text);
}

/* Something runs, or stands by, beside it; or did, and its end is what was heard of last. */
static const char *reason_of_kept(const struct hf_vmfacts *v, char *buf, size_t size)
{
	append(buf, size, "", v->kept);
	if (!v->kept[0])
		append(buf, size, "frozen id=", v->id);
	return buf;
}

const char *hf_vmfacts_reason(const struct hf_vmfacts *v, char *buf, size_t size)
{
	enum hf_trouble trouble = hf_vmfacts_trouble(v);
	bool has_cause = v->cause != HF_VM_CAUSE_NONE;
	char at[32];

	buf[0] = '\0';
	if (!trouble || (trouble == HF_TROUBLE_FROZEN && !has_cause && v->kept[0]))
		return reason_of_kept(v, buf, size);
	if (trouble == HF_TROUBLE_SUSPENDED)
		append(buf, size, "", "lease-expired");
	else if (trouble == HF_TROUBLE_SILENT)
		append(buf, size, "", "keeper-silent");
	else if (trouble == HF_TROUBLE_FAILED && !has_cause)
		append(buf, size, "", "start-failed");
	else
		append(buf, size, "", has_cause ? hf_vm_cause_name(v->cause) : "unknown");
	if (has_cause)
		append(buf, size, " severity=", hf_vm_severity_name(v->severity));
	append(buf, size, " topology=", v->topology);
	if (trouble == HF_TROUBLE_FROZEN)
		append(buf, size, " id=", v->id);
	if (v->since_ns)
		append(buf, size, " at ", format_time(v->since_ns, at, sizeof(at)));
	append(buf, size, ": ", v->text);
	make_printable(buf);
	return buf;
}

/* Who has just been started has no role yet, and gets what was decided. */
static bool is_primary(const struct hf_vmfacts *v, const struct hf_assignment *a)
{
	bool is_new = v->state == HF_VM_STARTING || v->state == HF_VM_INCOMING;

	return !v->is_standby && !(is_new && a->place == HF_ASSIGNED_STANDBY);
}

int hf_vmfacts_score(const struct hf_vmfacts *v, const struct hf_assignment *a)
{
	struct hf_ocf_facts f = {
		.state = v->state,
		.is_known = true,
		.is_pause_by_user = v->pause == HF_VM_PAUSE_USER || v->pause == HF_VM_PAUSE_GUEST,
		.is_pause_fault = v->pause == HF_VM_PAUSE_FAULT,
		.is_hung = hf_vmfacts_trouble(v) == HF_TROUBLE_HUNG,
		.is_primary = is_primary(v, a),
		.has_epoch = v->has_epoch,
		.is_in_touch = v->is_in_touch,
		.has_run_last = v->has_run_last,
		.is_peer_running = v->is_peer_running,
		.is_promotable = a->is_promotable,
		.is_assigned_standby = a->place == HF_ASSIGNED_STANDBY,
	};
	struct hf_ocf_verdict verdict;

	hf_ocf_monitor(&f, &verdict);
	return verdict.score;
}

static enum hf_announce_place place_of(const struct hf_assignment *a, int assignment_rc)
{
	if (assignment_rc == -ENOENT)
		return HF_ANNOUNCE_AWAY;
	if (assignment_rc < 0)
		return HF_ANNOUNCE_UNKNOWN;
	return a->place == HF_ASSIGNED_NONE ? HF_ANNOUNCE_AWAY : HF_ANNOUNCE_HERE;
}

void hf_vmfacts_announce(const struct hf_vmfacts *v, const struct hf_assignment *a,
			 int assignment_rc, struct hf_announce_facts *ret)
{
	char reason[HF_VMFACTS_REASON_MAX + 1];

	*ret = (struct hf_announce_facts){
		.place = place_of(a, assignment_rc),
		.placed_ns = a->time_ns,
		.is_promotable = a->is_promotable,
	};
	if (!v)
		return;
	ret->trouble = hf_vmfacts_trouble(v);
	ret->trouble_ns = v->since_ns;
	ret->score = a->is_promotable ? hf_vmfacts_score(v, a) : 0;
	(void)hf_vmfacts_reason(v, reason, sizeof(reason));
	/* Never 0, which stands for none. */
	ret->reason = reason[0] ? hf_crc32c(0, reason, strlen(reason)) | 1 : 0;
}
