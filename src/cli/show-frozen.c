/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/show-frozen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "cli/instance.h"
#include "cli/rows.h"
#include "cli/table.h"
#include "codec/certificate.h"
#include "codec/json.h"

#define SECOND_NS 1000000000ull
#define TIME_TEXT 48

static const char *format_time(uint64_t ns, char *buf)
{
	time_t seconds = (time_t)(ns / SECOND_NS);
	char text[32];
	struct tm tm;

	if (!localtime_r(&seconds, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
		text[0] = '\0';
	(void)snprintf(buf, TIME_TEXT, "%s.%03u %s", text, (unsigned int)(ns % SECOND_NS / 1000000),
		       tm.tm_zone ? tm.tm_zone : "");
	return buf;
}

static const char *format_age(uint64_t ns, char *buf, size_t size)
{
	struct timespec t;
	uint64_t now, s;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	now = (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
	s = now > ns ? (now - ns) / SECOND_NS : 0;
	if (s < 120)
		(void)snprintf(buf, size, "%" PRIu64 " s ago", s);
	else if (s < 7200)
		(void)snprintf(buf, size, "%" PRIu64 " min ago", s / 60);
	else if (s < 172800)
		(void)snprintf(buf, size, "%" PRIu64 " h ago", s / 3600);
	else
		(void)snprintf(buf, size, "%" PRIu64 " days ago", s / 86400);
	return buf;
}

static void show_cause(const struct hf_certificate *c)
{
	char when[TIME_TEXT];
	char took[HF_TEXT_QUANTITY];

	printf("  %-14s %s (%s)%s%s\n", "cause", hf_vm_cause_name(c->cause),
	       hf_vm_severity_name(c->severity), c->cause_text[0] ? ": " : "", c->cause_text);
	if (c->topology[0])
		printf("  %-14s %s\n", "where", c->topology);
	printf("  %-14s %s\n", "noticed", format_time(c->cause_time_ns, when));
	if (c->frozen_time_ns >= c->cause_time_ns && c->is_certified)
		printf("  %-14s %s\n", "frozen after",
		       hf_format_duration(c->frozen_time_ns - c->cause_time_ns, took,
					  sizeof(took)));
	if (c->awakenings)
		printf("  %-14s somebody woke it %u times after the proof; each time QEMU was "
		       "killed for it, the memory is as it was\n",
		       "woken", c->awakenings);
}

static void show_steps(const struct hf_certificate *c)
{
	static const char *const headings[] = { "STEP", "RESULT", "BEGAN", "TOOK", "REMARK", NULL };
	struct hf_table *t = hf_table_new(headings);
	char began[HF_TEXT_QUANTITY], took[HF_TEXT_QUANTITY];

	for (unsigned int i = 0; i < HF_FREEZE_STEP_COUNT; i++) {
		const struct hf_certificate_step *s = &c->step[i];
		bool has_begun = s->began_us || s->ended_us;
		bool has_ended = has_begun && s->ended_us >= s->began_us;

		hf_table_add(
			t, (const char *[]){ hf_freeze_step_name((enum hf_freeze_step)i),
					     hf_freeze_result_name(s->result),
					     has_begun ? hf_format_duration(s->began_us * 1000,
									    began, sizeof(began))
						       : "",
					     has_ended ? hf_format_duration(
								 (s->ended_us - s->began_us) * 1000,
								 took, sizeof(took))
						       : "",
					     s->text });
	}
	puts("\n  Steps, counted from the cause on");
	hf_table_print(t, "    ", true);
	hf_table_free(t);
}

static void show_checks(const struct hf_certificate *c)
{
	static const char *const headings[] = { "HOLDS", "CHECK", "SEEN", NULL };
	struct hf_table *t = hf_table_new(headings);

	if (!c->n_checks)
		puts("\n  Checks: none were made");
	else
		puts("\n  Checks, looked at from outside");
	for (unsigned int i = 0; i < c->n_checks; i++)
		hf_table_add(t, (const char *[]){ c->check[i].is_ok ? "yes" : "NO",
						  c->check[i].what, c->check[i].text });
	hf_table_print(t, "    ", c->n_checks > 0);
	hf_table_free(t);
}

static const char *lost_why(const struct hf_certificate *c, enum hf_freeze_step step)
{
	return c->step[step].text[0] ? c->step[step].text : "none was kept";
}

static void show_ram(const struct hf_certificate *c, const char *path)
{
	char size[HF_TEXT_QUANTITY];

	(void)hf_format_size(c->ram_bytes, size, sizeof(size));
	if (c->ram == HF_REMAINS_PROCESS)
		printf("    %-13s %s, held by process %d until this host's next boot; `holdfast "
		       "offload` writes it to a file\n",
		       "memory", size, (int)c->ram_holder.pid);
	else if (c->ram == HF_REMAINS_FILE)
		printf("    %-13s %s, in %s/ram\n", "memory", size, path);
	else
		printf("    %-13s none\n", "memory");
}

static void show_kept(const struct hf_certificate *c, const char *path)
{
	char size[HF_TEXT_QUANTITY];

	puts("\n  Kept");
	show_ram(c, path);
	if (c->device_state == HF_REMAINS_FILE)
		printf("    %-13s %s, in %s/device-state\n", "device state",
		       hf_format_size(c->device_state_bytes, size, sizeof(size)), path);
	else
		printf("    %-13s none: %s\n", "device state", lost_why(c, HF_FREEZE_STATE));
	if (c->qemu_fate == HF_REMAINS_PROCESS)
		printf("    %-13s process %d, never to be thawed, in %s\n", "QEMU",
		       (int)c->qemu.pid, c->cgroup[0] ? c->cgroup : "no cgroup");
	else
		printf("    %-13s dead\n", "QEMU");
	printf("    %-13s %s\n", "lease", c->lease_fate[0] ? c->lease_fate : "unknown");
	for (unsigned int i = 0; i < c->n_nets; i++)
		printf("    %-13s %s: closed\n", i ? "" : "network", c->net[i]);
	printf("    %-13s %s/certificate.json\n", "certificate", path);
}

static void offer(struct hf_table *t, const char *verb, const char *name, const char *more,
		  const char *what)
{
	char command[HF_INSTANCE_TEXT + 64];

	(void)snprintf(command, sizeof(command), "holdfast %s %s%s", verb, name, more);
	hf_table_add(t, (const char *[]){ command, what });
}

static void show_next(struct json_object *row, const struct hf_certificate *c)
{
	static const char *const headings[] = { "COMMAND", "EFFECT", NULL };
	const char *name = hf_rows_text(row, "name");
	bool has_all = c->ram != HF_REMAINS_NONE && c->device_state != HF_REMAINS_NONE;
	struct hf_table *t = hf_table_new(headings);

	if (c->ram != HF_REMAINS_NONE)
		offer(t, "dump", name, " FILE", "its memory and registers, for gdb or crash");
	if (has_all)
		offer(t, "inspect", name, "", "bring it to life, in isolation");
	if (c->ram == HF_REMAINS_PROCESS)
		offer(t, "offload", name, "", "move its memory to a file");
	offer(t, "release", name, "", "discard it for good");
	offer(t, "start", c->vm, " --fresh", "boot the VM anew beside it");
	puts("\n  What can be done");
	hf_table_print(t, "    ", false);
	hf_table_free(t);
}

static void show(struct json_object *row, const struct hf_certificate *c)
{
	const char *path = hf_rows_text(row, "path");
	char when[TIME_TEXT], age[32];
	unsigned int n_ok = 0;

	for (unsigned int i = 0; i < c->n_checks; i++)
		n_ok += c->check[i].is_ok;
	if (c->is_certified)
		printf("%s: frozen on %s, %s (%s)\n", hf_rows_text(row, "name"), c->host,
		       format_time(c->frozen_time_ns, when),
		       format_age(c->frozen_time_ns, age, sizeof(age)));
	else
		printf("%s: freezing on %s since %s (%s); NOT PROVEN YET\n",
		       hf_rows_text(row, "name"), c->host, format_time(c->cause_time_ns, when),
		       format_age(c->cause_time_ns, age, sizeof(age)));
	show_cause(c);
	printf("  %-14s %s: %u of %u checks hold\n", "runs again",
	       c->is_certified ? "never here" : "not decided", n_ok, c->n_checks);
	if (!hf_rows_is_set(row, "answers") && hf_rows_number(row, "keeper_pid") > 0)
		printf("  %-14s %s\n", "note", hf_rows_text(row, "reason"));
	else if (!hf_rows_is_set(row, "answers"))
		printf("  %-14s no keeper guards it now: %s\n", "note",
		       c->qemu_fate == HF_REMAINS_PROCESS
			       ? "its QEMU has died with the keeper, at the latest"
			       : "nothing of it is left that could run");
	show_steps(c);
	show_checks(c);
	show_kept(c, *path ? path : ".");
	show_next(row, c);
}

void hf_show_frozen(struct json_object *row)
{
	struct json_object *o = NULL;
	struct hf_certificate c;
	struct hf_err err = { "" };
	const char *text;

	if (hf_json_obj(row, "certificate", &o, &err) == 0) {
		text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
		if (hf_certificate_decode("the certificate", text, strlen(text), &c, &err) == 0) {
			show(row, &c);
			hf_certificate_fini(&c);
			return;
		}
	}
	printf("%s: frozen; it must not run here again\n", hf_rows_text(row, "name"));
	printf("  %-14s %s\n", "certificate",
	       *hf_rows_text(row, "trouble") ? hf_rows_text(row, "trouble") : err.text);
	if (*hf_rows_text(row, "path"))
		printf("  %-14s %s\n", "kept in", hf_rows_text(row, "path"));
	printf("  %-14s holdfast release %s\n", "to discard it", hf_rows_text(row, "name"));
}
