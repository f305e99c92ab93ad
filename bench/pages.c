/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast hf_pages_fill() takes written pages out of guest RAM, with one and two threads, against
 * plain memcpy() of the same pages by as many threads. The pages lie in runs of RUN_PAGES with gaps
 * in between, hold data, and are more than any cache holds. All memory has been touched before.
 *
 * usage: bench-pages [--json FILE]
 *
 * --json appends one object per line: name, value (median), unit, p99 (the rate that all but one in
 * a hundred rounds reached), n, reference (memcpy), ratio.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "vm/pages.h"

#define PAGE HF_WIRE_PAGE_BYTES
#define RAM_PAGES 65536u
#define RUN_PAGES 8u
#define STEP_PAGES 12u
#define ROUNDS 100

struct subject {
	struct hf_ram ram;
	struct hf_bitmap todo;
	uint64_t n_pages;
	uint64_t *page; /* the numbers of the set pages: memcpy need not search for them */
	uint8_t *copy;
	struct hf_pool *pool;
	struct hf_pages *pages;
};

struct result {
	const char *name;
	double fill, fill_p99, copy;
};

static void must(int r, const char *what)
{
	if (r == 0)
		return;
	(void)fprintf(stderr, "bench-pages: %s: %s\n", what, strerror(-r));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *map_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p == MAP_FAILED ? -errno : 0, "memory for the copy");
	(void)madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static void setup(struct subject *s)
{
	struct hf_err err = { "" };

	*s = (struct subject){ .ram = HF_RAM_NONE };
	must(hf_ram_open("bench-pages", HF_RAM_PAGES_DEFAULT, (uint64_t)RAM_PAGES * PAGE, &s->ram,
			 &err),
	     "guest RAM");
	must(hf_bitmap_init(&s->todo, RAM_PAGES), "bitmap");
	s->page = calloc(RAM_PAGES, sizeof(*s->page));
	must(s->page ? 0 : -ENOMEM, "list of pages");
	s->copy = map_memory((size_t)RAM_PAGES * PAGE);
	for (size_t i = 0; i < s->ram.size_bytes; i += sizeof(uint64_t))
		memcpy(s->ram.base + i, &(uint64_t){ i * UINT64_C(0x9e3779b97f4a7c15) + 1 },
		       sizeof(uint64_t));
	for (uint64_t at = 0; at + RUN_PAGES <= RAM_PAGES; at += STEP_PAGES) {
		hf_bitmap_set_range(&s->todo, at, RUN_PAGES);
		for (uint64_t i = 0; i < RUN_PAGES; i++)
			s->page[s->n_pages++] = at + i;
	}
}

static void teardown(struct subject *s)
{
	(void)munmap(s->copy, (size_t)RAM_PAGES * PAGE);
	free(s->page);
	hf_bitmap_fini(&s->todo);
	hf_ram_close(&s->ram);
}

#define COPY_TASK_PAGES 256u

static void copy_some(void *ctx, size_t task)
{
	struct subject *s = ctx;
	uint64_t end = (task + 1) * COPY_TASK_PAGES;

	if (end > s->n_pages)
		end = s->n_pages;
	for (uint64_t i = task * COPY_TASK_PAGES; i < end; i++)
		memcpy(s->copy + i * PAGE, s->ram.base + s->page[i] * PAGE, PAGE);
}

static uint64_t time_copy(struct subject *s)
{
	uint64_t began = now_ns();

	hf_pool_run(s->pool, copy_some, s, (s->n_pages + COPY_TASK_PAGES - 1) / COPY_TASK_PAGES);
	return now_ns() - began;
}

static uint64_t time_fill(struct subject *s)
{
	uint64_t began, took, cursor = 0, n;

	hf_pages_reset(s->pages);
	began = now_ns();
	n = hf_pages_fill(s->pages, &s->todo, &cursor, false);
	took = now_ns() - began;
	must(n == s->n_pages && cursor == RAM_PAGES ? 0 : -EIO, "not all pages were taken");
	return took;
}

static double rate(const struct subject *s, uint64_t ns)
{
	return (double)(s->n_pages * PAGE) / (1u << 30) / ((double)ns / 1e9);
}

static int compare_times(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* In turns, so that what else the machine does meets both alike. */
static struct result measure(struct subject *s, unsigned int n_threads, const char *name)
{
	uint64_t fill[ROUNDS], copy[ROUNDS];

	must(hf_pool_new(n_threads, &s->pool), "threads");
	must(hf_pages_new(&s->ram, s->pool, s->n_pages * PAGE * 2, &s->pages), "slots");
	for (unsigned int i = 0; i < 3; i++) {
		(void)time_copy(s);
		(void)time_fill(s);
	}
	for (unsigned int i = 0; i < ROUNDS; i++) {
		copy[i] = time_copy(s);
		fill[i] = time_fill(s);
	}
	qsort(fill, ROUNDS, sizeof(fill[0]), compare_times);
	qsort(copy, ROUNDS, sizeof(copy[0]), compare_times);
	hf_pages_free(s->pages);
	hf_pool_free(s->pool);
	return (struct result){ .name = name,
				.fill = rate(s, fill[ROUNDS / 2]),
				.fill_p99 = rate(s, fill[ROUNDS * 99 / 100]),
				.copy = rate(s, copy[ROUNDS / 2]) };
}

static void print_json(FILE *file, const struct result *r)
{
	(void)fprintf(file,
		      "{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"GiB/s\", \"p99\": %.4f, "
		      "\"n\": %d, \"reference\": %.4f, \"ratio\": %.4f}\n",
		      r->name, r->fill, r->fill_p99, ROUNDS, r->copy, r->fill / r->copy);
}

static void report(const struct result *results, size_t n, const char *json)
{
	FILE *file = json ? fopen(json, "ae") : NULL;

	must(json && !file ? -errno : 0, json);
	printf("%-16s %12s %12s %12s %8s\n", "GiB/s", "fill p50", "fill p99", "memcpy p50",
	       "ratio");
	for (size_t i = 0; i < n; i++) {
		printf("%-16s %12.2f %12.2f %12.2f %8.2f\n", results[i].name, results[i].fill,
		       results[i].fill_p99, results[i].copy, results[i].fill / results[i].copy);
		if (file)
			print_json(file, &results[i]);
	}
	if (file)
		must(fclose(file) == 0 ? 0 : -errno, json);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "json", required_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	const char *json = NULL;
	struct result results[2];
	struct subject s;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (c != 'j')
			return 2;
		json = optarg;
	}
	setup(&s);
	results[0] = measure(&s, 1, "pages_fill_1t");
	results[1] = measure(&s, 2, "pages_fill_2t");
	teardown(&s);
	report(results, 2, json);
	return 0;
}
