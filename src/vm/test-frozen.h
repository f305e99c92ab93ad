/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of frozen instances share: a folder of their own, a certificate that makes sense. */
#pragma once

#include "../../tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/procstat.h"
#include "vm/frozen.h"

static char state_dir[64];
static char arg0[] = "qemu-system-x86_64", *test_argv[] = { arg0, NULL };

static void remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	char below[PATH_MAX];
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", path, e->d_name) < PATH_MAX)
			remove_tree(below);
	}
	if (dir)
		(void)closedir(dir);
	(void)remove(path);
}

static void remove_state_dir(void)
{
	remove_tree(state_dir);
}

/* Anew for each test. */
static void make_state_dir(void)
{
	if (*state_dir)
		remove_state_dir();
	else
		CHECK_EQ(atexit(remove_state_dir), 0);
	(void)snprintf(state_dir, sizeof(state_dir), "/tmp/holdfast-frozen-XXXXXX");
	CHECK(mkdtemp(state_dir));
}

/* @number becomes the id and the time. */
static void fill(struct hf_certificate *c, const char *vm, unsigned int number, bool is_certified)
{
	memset(c, 0, sizeof(*c));
	(void)snprintf(c->vm, sizeof(c->vm), "%s", vm);
	(void)snprintf(c->id, sizeof(c->id), "%08x", number);
	c->instance.hi = (uint64_t)number << 32;
	c->cause = HF_VM_CAUSE_PANIC;
	c->cause_time_ns = 1000 + number;
	c->is_certified = is_certified;
	c->frozen_time_ns = is_certified ? 2000 + number : 0;
	c->argv = test_argv;
	CHECK_EQ(hf_procstat_boot_id(c->boot_id), 0);
}

__attribute__((unused)) static void write_one(const struct hf_certificate *c)
{
	struct hf_err err = { "" };

	if (hf_frozen_write(state_dir, c, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

__attribute__((unused, format(printf, 1, 2))) static const char *path_in(const char *format, ...);
static const char *path_in(const char *format, ...)
{
	static char path[PATH_MAX];
	size_t n = (size_t)snprintf(path, sizeof(path), "%s/", state_dir);
	__builtin_va_list ap;

	__builtin_va_start(ap, format);
	(void)vsnprintf(path + n, sizeof(path) - n, format, ap);
	__builtin_va_end(ap);
	return path;
}
