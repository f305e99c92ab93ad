/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "codec/json.h"

static const char *string_of(struct json_object *o, const char *key)
{
	const char *v;

	return hf_json_str(o, key, &v, NULL) == 0 ? v : "-";
}

static uint64_t number_of(struct json_object *o, const char *key)
{
	uint64_t v;

	return hf_json_u64(o, key, &v, NULL) == 0 ? v : 0;
}

static struct json_object *part_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return hf_json_obj(o, key, &v, NULL) == 0 ? v : NULL;
}

static void quantiles(const char *label, struct json_object *o)
{
	char p50[HF_TEXT_QUANTITY];
	char p99[HF_TEXT_QUANTITY];

	if (!o || !number_of(o, "n"))
		return;
	printf("  %-18s p50 %s, p99 %s (%" PRIu64 " times)\n", label,
	       hf_format_duration(number_of(o, "p50_ns"), p50, sizeof(p50)),
	       hf_format_duration(number_of(o, "p99_ns"), p99, sizeof(p99)), number_of(o, "n"));
}

static void show_sync(struct json_object *sync)
{
	char done[HF_TEXT_QUANTITY];
	char total[HF_TEXT_QUANTITY];
	char rate[HF_TEXT_QUANTITY];
	char left[HF_TEXT_QUANTITY];

	if (!sync)
		return;
	printf("  %-18s %s of %s, %s/s, %s left\n", "synchronising",
	       hf_format_size(number_of(sync, "done_bytes"), done, sizeof(done)),
	       hf_format_size(number_of(sync, "total_bytes"), total, sizeof(total)),
	       hf_format_size(number_of(sync, "rate_bytes_per_s"), rate, sizeof(rate)),
	       hf_format_duration(number_of(sync, "remaining_ns"), left, sizeof(left)));
}

static void show_epochs(struct json_object *e)
{
	char held[HF_TEXT_QUANTITY];
	char lag[HF_TEXT_QUANTITY];

	if (!e)
		return;
	printf("  %-18s %" PRIu64 " committed of %" PRIu64 "\n", "epoch", number_of(e, "committed"),
	       number_of(e, "captured"));
	quantiles("pause", part_of(e, "pause"));
	quantiles("commit", part_of(e, "commit"));
	printf("  %-18s %" PRIu64 " in the last epoch\n", "dirty pages",
	       number_of(e, "dirty_pages"));
	printf("  %-18s %s in %" PRIu64 " frames\n", "held",
	       hf_format_size(number_of(e, "held_bytes"), held, sizeof(held)),
	       number_of(e, "held_frames"));
	printf("  %-18s %s\n", "standby's lag",
	       hf_format_duration(number_of(e, "lag_ns"), lag, sizeof(lag)));
}

static void show_copy(struct json_object *copy)
{
	char done[HF_TEXT_QUANTITY];
	char total[HF_TEXT_QUANTITY];
	char rate[HF_TEXT_QUANTITY];
	char left[HF_TEXT_QUANTITY];
	uint64_t total_bytes = number_of(copy, "total_bytes");
	uint64_t left_bytes = number_of(copy, "left_bytes");
	uint64_t rate_bytes = number_of(copy, "rate_bytes_per_s");
	bool is_active = false;

	if (!copy || hf_json_bool(copy, "active", &is_active, NULL) < 0 || !is_active)
		return;
	/* The guest may write faster than the copy goes. */
	if (left_bytes > total_bytes)
		total_bytes = left_bytes;
	printf("  %-18s %s of %s", "copying disks",
	       hf_format_size(total_bytes - left_bytes, done, sizeof(done)),
	       hf_format_size(total_bytes, total, sizeof(total)));
	if (rate_bytes)
		printf(", %s/s, %s left", hf_format_size(rate_bytes, rate, sizeof(rate)),
		       hf_format_duration(number_of(copy, "remaining_ns"), left, sizeof(left)));
	printf("\n");
}

static void show_each_disk(struct json_object *disks)
{
	char size[HF_TEXT_QUANTITY];
	struct json_object *list;

	if (hf_json_array(disks, "disk", &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *disk = json_object_array_get_idx(list, i);

		printf("  disk %-13s %s, %s\n", string_of(disk, "id"),
		       hf_format_size(number_of(disk, "bytes"), size, sizeof(size)),
		       string_of(disk, "format"));
	}
}

static void show_disks(struct json_object *disks)
{
	char logged[HF_TEXT_QUANTITY];
	char redo[HF_TEXT_QUANTITY];

	if (!disks)
		return;
	printf("  %-18s %s, durability=%s, %s\n", "disks", string_of(disks, "layout"),
	       string_of(disks, "durability"), string_of(disks, "mode"));
	show_each_disk(disks);
	printf("  %-18s %s waiting; epochs %" PRIu64 " in the journal, %" PRIu64
	       " written, %" PRIu64 " durable\n",
	       "disk writes",
	       hf_format_size(number_of(disks, "logged_bytes"), logged, sizeof(logged)),
	       number_of(disks, "journaled"), number_of(disks, "applied"),
	       number_of(disks, "settled"));
	if (number_of(disks, "redo_ns"))
		printf("  %-18s %s\n", "last redo",
		       hf_format_duration(number_of(disks, "redo_ns"), redo, sizeof(redo)));
	show_copy(part_of(disks, "sync"));
	if (hf_json_has(disks, "error"))
		printf("  %-18s %s\n", "disk error", string_of(disks, "error"));
}

static void show_lease(struct json_object *lease)
{
	const char *trouble;

	if (!lease)
		return;
	trouble = string_of(lease, "trouble");
	printf("  %-18s %s, tenure %" PRIu64 " in lockspace %s%s%s\n", "lease",
	       string_of(lease, "state"), number_of(lease, "lver"), string_of(lease, "lockspace"),
	       *trouble ? ": " : "", trouble);
}

static void show_processes(struct json_object *s)
{
	struct json_object *disks = part_of(s, "disks");

	printf("  %-18s keeper %" PRIu64 ", QEMU %" PRIu64, "process ids", number_of(s, "pid"),
	       number_of(s, "qemu_pid"));
	if (disks)
		printf(", disks %" PRIu64, number_of(disks, "pid"));
	printf("\n");
}

static void show_life(struct json_object *s)
{
	const char *life = string_of(s, "life");
	const char *cause = string_of(s, "cause");
	const char *text = string_of(s, "cause_text");
	const char *pause = string_of(s, "pause");
	bool has_cause = strcmp(cause, "-") != 0 && strcmp(cause, "none") != 0;

	if (strcmp(life, "-") == 0)
		return;
	printf("  %-18s %s", "life", life);
	if (strcmp(pause, "-") != 0 && strcmp(pause, "none") != 0)
		printf(" (%s)", pause);
	if (has_cause)
		printf(", %s", cause);
	if (has_cause && strcmp(text, "-") != 0 && *text)
		printf(": %s", text);
	printf("\n");
}

void hf_show_status(struct json_object *s)
{
	struct json_object *notes;

	printf("%s: %s, %s\n", string_of(s, "vm"), string_of(s, "role"), string_of(s, "state"));
	show_life(s);
	printf("  %-18s %s\n", "protected", string_of(s, "protection"));
	printf("  %-18s %s\n", "guest", string_of(s, "guest"));
	printf("  %-18s %s\n", "peer", string_of(s, "peer"));
	show_lease(part_of(s, "lease"));
	show_sync(part_of(s, "sync"));
	show_epochs(part_of(s, "epochs"));
	show_disks(part_of(s, "disks"));
	show_processes(s);
	if (hf_json_array(s, "notes", &notes, NULL) == 0)
		for (size_t i = 0; i < json_object_array_length(notes); i++)
			printf("  note: %s\n",
			       json_object_get_string(json_object_array_get_idx(notes, i)));
}
