/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clustercheck/definition.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/conf.h"
#include "settings/settings-file.h"
#include "settings/settings-table.h"

#define SUFFIX ".conf"

/* hf_conf_fn: the names of the hosts, and what the settings' own struct need not tell. */
static int take(void *data, const struct hf_conf_item *it, struct hf_err *err)
{
	struct hf_definition *d = data;

	(void)err;
	if (!it->key && strcmp(it->kind, "host") == 0 && d->n_hosts < 2)
		(void)snprintf(d->hosts[d->n_hosts++], sizeof(d->hosts[0]), "%s", it->name);
	if (it->key && strcmp(it->kind, "vm") == 0 && strcmp(it->key, "manager") == 0)
		d->is_managed = strcmp(it->value, "pacemaker") == 0;
	return 0;
}

/* As on its first host: whether this one is among them is looked at apart. */
static int read_settings(const struct hf_definition *d, const char *file, const char *text,
			 size_t len, struct hf_settings *s, struct hf_err *err)
{
	int r = hf_setting_apply_defaults(s);

	if (!r)
		r = hf_settings_apply_file(s, file, text, len, d->n_hosts ? d->hosts[0] : "", err);
	if (!r && s->file_name && strcmp(s->file_name, d->name) != 0) {
		hf_err_set(err, "%s defines the VM '%s', not '%s'", file, s->file_name, d->name);
		r = -EINVAL;
	}
	if (!r && !s->file_args) {
		hf_err_set(err, "%s has no args = for QEMU in its [vm]", file);
		r = -EINVAL;
	}
	return r;
}

static void take_settings(struct hf_definition *d, const struct hf_settings *s)
{
	d->state = HF_DEFINITION_GOOD;
	d->is_shared = s->disk_layout == HF_DISK_LAYOUT_SHARED;
	d->has_no_lease = s->lease == HF_LEASE_USE_NO;
}

void hf_definition_parse(const char *name, const char *file, const char *text, size_t len,
			 struct hf_definition *ret)
{
	struct hf_definition d = { .state = HF_DEFINITION_INVALID };
	struct hf_settings s = { 0 };
	struct hf_err err = { "" };
	int r;

	(void)snprintf(d.name, sizeof(d.name), "%s", name);
	r = hf_conf_parse(file, text, len, take, &d, &err);
	if (!r)
		r = read_settings(&d, file, text, len, &s, &err);
	if (!r)
		take_settings(&d, &s);
	else
		(void)snprintf(d.error, sizeof(d.error), "%s",
			       err.text[0] ? err.text : strerror(-r));
	hf_settings_fini(&s);
	*ret = d;
}

void hf_definition_read(const char *folder, const char *name, struct hf_definition *ret)
{
	char path[PATH_MAX];
	struct hf_err err = { "" };
	char *text = NULL;
	size_t len = 0;
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s" SUFFIX, folder, name);
	r = hf_settings_read_file(path, &text, &len, &err);
	if (!r) {
		hf_definition_parse(name, path, text, len, ret);
		free(text);
		return;
	}
	*ret = (struct hf_definition){ .state = r == -ENOENT ? HF_DEFINITION_MISSING
							     : HF_DEFINITION_INVALID };
	(void)snprintf(ret->name, sizeof(ret->name), "%s", name);
	(void)snprintf(ret->error, sizeof(ret->error), "%s", err.text);
}

/* Return: does the file define a VM? */
static bool take_name(const char *file, char name[HF_NAME_MAX + 1])
{
	size_t n = strlen(file);

	if (n <= strlen(SUFFIX) || strcmp(file + n - strlen(SUFFIX), SUFFIX) != 0 ||
	    n - strlen(SUFFIX) > HF_NAME_MAX)
		return false;
	memcpy(name, file, n - strlen(SUFFIX));
	name[n - strlen(SUFFIX)] = '\0';
	return hf_is_valid_name(name);
}

int hf_definitions_read(const char *folder, struct hf_definition **ret, size_t *ret_n,
			struct hf_err *err)
{
	char name[HF_NAME_MAX + 1];
	struct dirent **files;
	struct hf_definition *all;
	size_t n = 0;
	int found = scandir(folder, &files, NULL, alphasort), r;

	if (found < 0) {
		r = -errno;
		hf_err_set(err, "cannot read %.300s: %s", folder, strerror(-r));
		return r;
	}
	all = calloc((size_t)found + 1, sizeof(*all));
	for (int i = 0; i < found; i++) {
		if (all && take_name(files[i]->d_name, name))
			hf_definition_read(folder, name, &all[n++]);
		free(files[i]);
	}
	free(files);
	if (!all)
		return -ENOMEM;
	*ret = all;
	*ret_n = n;
	return 0;
}
