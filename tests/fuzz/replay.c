/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target over the files of a folder, so that builds without clang check them too. */
#include <dirent.h>
#include <string.h>

#include "fuzz.h"

#define FILE_MAX ((size_t)4 * 1024 * 1024)

static void replay_file(const char *folder, const char *name)
{
	uint8_t *data = malloc(FILE_MAX), *exact;
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
	printf("%u inputs\n", n);
	return n > 0 ? 0 : 1;
}
