/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a person is told about the disks: docs/man/holdfast.1 describes the members. */
#include "codec/json.h"
#include "keeper/disks.h"
#include "keeper/keeper.h"

static void add_copy(const struct hf_disks *d, struct json_object *o)
{
	struct json_object *y = json_object_new_object();
	uint64_t until_ns = d->is_copying ? hf_now_ns() : d->sync_ended_ns;
	uint64_t spent_ns = until_ns - d->sync_started_ns;
	uint64_t left = hf_disks_copy_left_bytes(d);
	uint64_t rate = spent_ns ? (uint64_t)((double)d->sync_bytes * 1e9 / (double)spent_ns) : 0;

	json_object_object_add(y, "active", json_object_new_boolean(d->is_copying));
	json_object_object_add(y, "mode", json_object_new_string(d->is_delta ? "changes" : "full"));
	hf_json_add_u64(y, "total_bytes", atomic_load(&d->shm.words->sync_total_bytes));
	hf_json_add_u64(y, "left_bytes", left);
	hf_json_add_u64(y, "sent_bytes", d->sync_bytes);
	hf_json_add_u64(y, "rate_bytes_per_s", rate);
	hf_json_add_u64(y, "remaining_ns",
			rate ? (uint64_t)((double)left * 1e9 / (double)rate) : 0);
	json_object_object_add(o, "sync", y);
}

static struct json_object *list_disks(const struct hf_disks *d)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < d->n; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "id", json_object_new_string(d->id[i]));
		json_object_object_add(o, "format", json_object_new_string(d->format[i]));
		hf_json_add_u64(o, "bytes", d->size_bytes[i]);
		json_object_array_add(list, o);
	}
	return list;
}

struct json_object *hf_disks_status(const struct hf_disks *d)
{
	static const char *const modes[] = { "direct", "hold", "drain" };
	struct hf_diskshm_words *w = d->shm.words;
	struct json_object *o = json_object_new_object();
	uint32_t state = atomic_load(&w->state);

	json_object_object_add(o, "layout",
			       json_object_new_string(d->is_shared ? "shared" : "replicated"));
	json_object_object_add(o, "durability",
			       json_object_new_string(d->k->set->durability == HF_DURABILITY_DISK
							      ? "disk"
							      : "memory"));
	json_object_object_add(o, "pid", json_object_new_int64(d->process.pid));
	json_object_object_add(o, "mode", json_object_new_string(state < 3 ? modes[state] : "?"));
	json_object_object_add(o, "condition",
			       json_object_new_string(hf_disk_condition_name(d->condition)));
	hf_json_add_u64(o, "logged_bytes", atomic_load(&w->logged_bytes));
	hf_json_add_u64(o, "journaled", atomic_load(&w->journaled));
	hf_json_add_u64(o, "applied", atomic_load(&w->applied));
	hf_json_add_u64(o, "settled", atomic_load(&w->settled));
	hf_json_add_u64(o, "writes", atomic_load(&w->n_writes));
	hf_json_add_u64(o, "written_bytes", atomic_load(&w->written_bytes));
	hf_json_add_u64(o, "journal_bytes", atomic_load(&w->journal_bytes));
	hf_json_add_u64(o, "applied_bytes", atomic_load(&w->applied_bytes));
	hf_json_add_u64(o, "merged_bytes", atomic_load(&w->merged_bytes));
	hf_json_add_u64(o, "redo_ns", atomic_load(&w->redo_ns));
	json_object_object_add(o, "error",
			       d->has_fault ? json_object_new_string(d->fault_text) : NULL);
	if (d->sync_started_ns) /* this one, or the last */
		add_copy(d, o);
	json_object_object_add(o, "disk", list_disks(d));
	return o;
}
