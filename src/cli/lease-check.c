/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast lease check: opens read-only, and looks at everything. A lease area in use changes
 * while it is read: an area with problems is read once more, and only what is wrong then counts.
 */
#include "cli/lease-check.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/lease-show.h"
#include "cli/lease-verbs.h"

#define PROBLEMS_SHOWN 200
#define AGAIN_AFTER_NS 100000000

/* ---- collecting ---- */

void hf_check_no_memory(void)
{
	(void)fputs("holdfast lease check: no memory\n", stderr);
	exit(HF_LEASE_EXIT_FAILED);
}

static void *grow(void *array, size_t n, size_t *room, size_t member_bytes)
{
	if (n < *room)
		return array;
	*room = *room ? 2 * *room : 16;
	array = reallocarray(array, *room, member_bytes);
	if (!array)
		hf_check_no_memory();
	return array;
}

void hf_check_problem(struct hf_check *c, uint64_t offset, const char *format, ...)
{
	struct hf_check_problem *p;
	va_list ap;

	c->problems = grow(c->problems, c->n_problems, &c->room_problems, sizeof(*c->problems));
	p = &c->problems[c->n_problems++];
	p->offset = offset;
	p->sector_bytes = c->geometry.sector_bytes ? c->geometry.sector_bytes : 512;
	va_start(ap, format);
	(void)vsnprintf(p->text, sizeof(p->text), format, ap);
	va_end(ap);
}

void hf_check_note_found(struct hf_check *c, const struct hf_check_found *found)
{
	c->found = grow(c->found, c->n_found, &c->room_found, sizeof(*c->found));
	c->found[c->n_found++] = *found;
}

void hf_check_fini(struct hf_check *c)
{
	free(c->found);
	free(c->problems);
	free(c->index_bytes);
	memset(c, 0, sizeof(*c));
}

/* ---- the walk ---- */

static void check_once(struct hf_check *c, const struct hf_scan_area *a, size_t *ret_problems)
{
	const size_t before = c->n_problems;

	hf_check_area(c, a);
	*ret_problems = c->n_problems - before;
}

static int check_area(struct hf_check *c, struct hf_scan *scan, const struct hf_scan_area *a,
		      struct hf_err *err)
{
	const struct timespec moment = { .tv_nsec = AGAIN_AFTER_NS };
	const size_t n_found = c->n_found;
	size_t n;
	int r;

	check_once(c, a, &n);
	if (n == 0 || !a->bytes)
		return 0;
	(void)nanosleep(&moment, NULL);
	r = hf_scan_again(scan, a, err);
	if (r < 0)
		return r;
	c->n_problems -= n;
	c->n_found = n_found;
	check_once(c, a, &n);
	return 0;
}

static int walk(struct hf_check *c, struct hf_scan *scan, struct hf_err *err)
{
	struct hf_scan_area area;
	int r;

	c->size_bytes = scan->size_bytes;
	while ((r = hf_scan_next(scan, &area, err)) > 0) {
		c->geometry = scan->geometry;
		r = check_area(c, scan, &area, err);
		if (r < 0)
			return r;
	}
	if (r == 0)
		hf_check_together(c);
	return r;
}

/* ---- the answer ---- */

static void print_text(const struct hf_check *c, const char *path)
{
	for (size_t i = 0; i < c->n_problems && i < PROBLEMS_SHOWN; i++) {
		const struct hf_check_problem *p = &c->problems[i];

		printf("%s: offset %" PRIu64 " (sector %" PRIu64 "): %s\n", path, p->offset,
		       p->offset / p->sector_bytes, p->text);
	}
	if (c->n_problems > PROBLEMS_SHOWN)
		printf("%s: and %zu more\n", path, c->n_problems - PROBLEMS_SHOWN);
	printf("%s: %zu problem%s\n", path, c->n_problems, c->n_problems == 1 ? "" : "s");
}

static void print_object(const struct hf_check *c, const char *path)
{
	struct json_object *o = json_object_new_object(), *array = json_object_new_array();

	json_object_object_add(o, "area", json_object_new_string(path));
	json_object_object_add(o, "problems", array);
	for (size_t i = 0; i < c->n_problems; i++) {
		const struct hf_check_problem *p = &c->problems[i];
		struct json_object *member = json_object_new_object();

		json_object_object_add(member, "offset", json_object_new_uint64(p->offset));
		json_object_object_add(member, "sector",
				       json_object_new_uint64(p->offset / p->sector_bytes));
		json_object_object_add(member, "what", json_object_new_string(p->text));
		json_object_array_add(array, member);
	}
	hf_lease_print_json(o);
	json_object_put(o);
}

static int check(const char *path, bool is_json, struct hf_err *err)
{
	struct hf_check c = { 0 };
	struct hf_scan scan;
	int code, r = hf_scan_open(&scan, path, err);

	if (r < 0)
		return HF_LEASE_EXIT_STORAGE;
	r = walk(&c, &scan, err);
	hf_scan_close(&scan);
	if (r == 0 && is_json)
		print_object(&c, path);
	else if (r == 0)
		print_text(&c, path);
	code = c.n_problems ? HF_LEASE_EXIT_FAILED : HF_LEASE_EXIT_DONE;
	hf_check_fini(&c);
	return r < 0 ? HF_LEASE_EXIT_STORAGE : code;
}

int hf_lease_check_run(int argc, char **argv)
{
	char path[PATH_MAX];
	struct hf_err err = { "" };
	bool is_json;
	int code, r = hf_lease_read_options(argc, argv, &is_json, path, sizeof(path), &err);

	if (r > 0)
		return -1;
	if (r < 0)
		return hf_lease_complain("check", HF_LEASE_EXIT_USAGE, &err);
	code = check(path, is_json, &err);
	if (code == HF_LEASE_EXIT_STORAGE)
		(void)hf_lease_complain("check", code, &err);
	return code;
}
