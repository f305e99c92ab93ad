/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a fuzz target over the files of a folder, so that builds without clang check them too: each as
 * it is, and many times damaged. The damage depends on the file's name and the count only, so a run
 * that fails fails again. `make fuzz` searches with coverage.
 */
#include <dirent.h>
#include <string.h>

#include "fuzz.h"

#define FILE_MAX ((size_t)4 * 1024 * 1024)
#define DAMAGED_PER_FILE 5000
#define DAMAGES_MAX 8

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t hash_name(const char *name)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3u;
	return h;
}

/* One damage to @data of @n bytes, which never gets longer; the new length. */
static size_t damage(uint8_t *data, size_t n, uint64_t *state)
{
	static const uint8_t extremes[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '{', ',' };
	size_t at = (size_t)(next_random(state) % n), from = (size_t)(next_random(state) % n);
	size_t len = n - (at > from ? at : from);

	switch (next_random(state) % 5) {
	case 0:
		data[at] ^= (uint8_t)(1u << next_random(state) % 8);
		return n;
	case 1:
		data[at] = extremes[next_random(state) % sizeof(extremes)];
		return n;
	case 2: /* a piece of it, once more elsewhere */
		memmove(data + at, data + from, len < 64 ? len : 64);
		return n;
	case 3: /* a piece is missing */
		memmove(data + at, data + at + 1, n - at - 1);
		return n - 1;
	default: /* the end is missing */
		return next_random(state) % 4 ? n : at;
	}
}

static void run_damaged(const uint8_t *data, size_t n, uint64_t *state)
{
	uint8_t *copy = malloc(n + 1), *exact;
	uint64_t times = 1 + next_random(state) % DAMAGES_MAX;

	FUZZ_CHECK(copy);
	memcpy(copy, data, n);
	for (uint64_t i = 0; i < times && n > 0; i++)
		n = damage(copy, n, state);
	exact = realloc(copy, n + !n);
	FUZZ_CHECK(exact);
	(void)LLVMFuzzerTestOneInput(exact, n);
	free(exact);
}

static void replay_file(const char *folder, const char *name)
{
	uint8_t *data = malloc(FILE_MAX), *exact;
	uint64_t state = hash_name(name);
	char path[4096];
	FILE *f;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "rbe");
	FUZZ_CHECK(data && f);
	n = fread(data, 1, FILE_MAX, f);
	FUZZ_CHECK(feof(f));
	(void)fclose(f);
	exact = realloc(data, n + !n);
	FUZZ_CHECK(exact);
	(void)LLVMFuzzerTestOneInput(exact, n);
	for (unsigned int i = 0; i < DAMAGED_PER_FILE; i++)
		run_damaged(exact, n, &state);
	free(exact);
}

int main(int argc, char **argv)
{
	unsigned int n = 0;
	struct dirent *entry;
	DIR *dir;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	dir = opendir(argv[1]);
	if (!dir) {
		perror(argv[1]);
		return 1;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		replay_file(argv[1], entry->d_name);
		n++;
	}
	(void)closedir(dir);
	printf("%u inputs, each %d times damaged too\n", n, DAMAGED_PER_FILE);
	return n > 0 ? 0 : 1;
}
