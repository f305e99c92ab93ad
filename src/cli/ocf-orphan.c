/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Of a resource that was removed from the cluster's configuration while it ran, Pacemaker knows the name alone. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/ocf-call.h"

static bool is_its(const struct hf_assignment *a, const char *resource)
{
	return strcmp(a->resource, resource) == 0 || strcmp(a->instance, resource) == 0;
}

void hf_ocf_find_orphan(struct hf_ocf_call *c)
{
	static char vm[HF_NAME_MAX +
		       1]; /* as the command line's words it lives as long as the program */
	enum hf_place_assigned best = HF_ASSIGNED_NONE;
	struct hf_assignment a;
	char path[PATH_MAX];
	struct dirent *e;
	struct hf_err err;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/" HF_ASSIGNMENT_DIR, c->run_dir);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (!hf_is_valid_name(e->d_name) ||
		    hf_assignment_read(c->run_dir, e->d_name, &a, &err) < 0 ||
		    !is_its(&a, c->resource) || (vm[0] && a.place <= best))
			continue;
		(void)snprintf(vm, sizeof(vm), "%.*s", HF_NAME_MAX, e->d_name);
		best = a.place;
		c->is_promotable |= a.is_promotable;
	}
	if (dir)
		(void)closedir(dir);
	c->vm = vm;
}
