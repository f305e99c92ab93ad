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

void hf_show_status(struct json_object *s)
{
	struct json_object *notes;

	printf("%s: %s, %s\n", string_of(s, "vm"), string_of(s, "role"), string_of(s, "state"));
	printf("  %-18s %s\n", "protected", string_of(s, "protection"));
	printf("  %-18s %s\n", "guest", string_of(s, "guest"));
	printf("  %-18s %s\n", "peer", string_of(s, "peer"));
	show_sync(part_of(s, "sync"));
	show_epochs(part_of(s, "epochs"));
	printf("  %-18s keeper %" PRIu64 ", QEMU %" PRIu64 "\n", "process ids", number_of(s, "pid"),
	       number_of(s, "qemu_pid"));
	if (hf_json_array(s, "notes", &notes, NULL) == 0)
		for (size_t i = 0; i < json_object_array_length(notes); i++)
			printf("  note: %s\n",
			       json_object_get_string(json_object_array_get_idx(notes, i)));
}

void hf_show_row(struct json_object *s)
{
	if (!s)
		printf("%-20s %-9s %-14s %-10s %s\n", "NAME", "ROLE", "STATE", "EPOCH",
		       "PROTECTED");
	else
		printf("%-20s %-9s %-14s %-10" PRIu64 " %s\n", string_of(s, "vm"),
		       string_of(s, "role"), string_of(s, "state"),
		       number_of(part_of(s, "epochs"), "committed"), string_of(s, "protection"));
}
