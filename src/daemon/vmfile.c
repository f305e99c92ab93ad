/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/vmfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "codec/conf.h"
#include "daemon/conffile.h"
#include "settings/settings-file.h"
#include "settings/settings-table.h"
#include "settings/settings.h"

static int take_prefer(struct hf_vmfile *f, const char *text, struct hf_err *err)
{
	size_t n;

	for (; *text; text += n) {
		n = strspn(text, ", \t\n");
		if (n)
			continue;
		n = strcspn(text, ", \t\n");
		if (f->n_prefer == HF_VMFILE_HOSTS_MAX) {
			hf_err_set(err, "more than %d hosts", HF_VMFILE_HOSTS_MAX);
			return -EINVAL;
		}
		if (n > HF_NAME_MAX) {
			hf_err_set(err, "a host's name is longer than %d bytes", HF_NAME_MAX);
			return -EINVAL;
		}
		memcpy(f->prefer[f->n_prefer], text, n);
		f->prefer[f->n_prefer][n] = '\0';
		if (!hf_is_valid_name(f->prefer[f->n_prefer++])) {
			hf_err_set(err, "'%.*s' cannot be the name of a host", (int)n, text);
			return -EINVAL;
		}
	}
	return 0;
}

struct reader {
	const char *file;
	struct hf_vmfile *f;
};

/* hf_conf_fn: what the settings do not keep, the hosts' order and the list of those that are preferred. */
static int take(void *data, const struct hf_conf_item *it, struct hf_err *err)
{
	struct reader *r = data;
	struct hf_err why;

	if (!it->key && strcmp(it->kind, "host") == 0 && r->f->n_hosts < 2)
		(void)snprintf(r->f->hosts[r->f->n_hosts++].name, sizeof(r->f->hosts[0].name), "%s",
			       it->name);
	if (!it->key || strcmp(it->kind, "vm") != 0 || strcmp(it->key, "prefer") != 0)
		return 0;
	if (take_prefer(r->f, it->value, &why) == 0)
		return 0;
	hf_err_set(err, "%.200s:%u:%u: %s: %.200s", r->file, it->line, it->value_column, it->key,
		   why.text);
	return -EINVAL;
}

static void take_hosts(struct hf_vmfile *f, const struct hf_settings *s)
{
	f->own = -1;
	for (int i = 0; i < (int)f->n_hosts; i++)
		if (s->host && strcmp(f->hosts[i].name, s->host) == 0)
			f->own = i;
	if (f->own < 0)
		return;
	f->hosts[f->own].addr = s->listen.addr;
	f->hosts[1 - f->own].addr = s->peer.addr;
}

static void take_settings(struct hf_vmfile *f, const struct hf_settings *s)
{
	take_hosts(f, s);
	f->is_autostarted = s->is_autostarted;
	f->is_taken_over = s->is_taken_over && f->n_hosts == 0; /* else its vote decides */
	f->is_managed = s->manager == HF_MANAGER_PACEMAKER;
	f->may_run_beside_frozen = s->when_frozen == HF_WHEN_FROZEN_FRESH;
	f->restarts_max = s->restarts_max;
	for (unsigned int i = 0; i < HF_VM_CAUSE_COUNT; i++)
		f->on[i] = (uint8_t)s->on[i];
	(void)snprintf(f->state_dir, sizeof(f->state_dir), "%s", s->state_dir ? s->state_dir : "");
}

static int check_qemu(const char *file, const struct hf_settings *s, struct hf_err *err)
{
	if (s->file_args)
		return 0;
	hf_err_set(err, "%s has no args = for QEMU in its [vm]", file);
	return -EINVAL;
}

static int check_name(const char *file, const struct hf_settings *s, const char *name,
		      struct hf_err *err)
{
	if (!s->file_name || strcmp(s->file_name, name) == 0)
		return 0;
	hf_err_set(err, "%s defines the VM '%s', not '%s'", file, s->file_name, name);
	return -EINVAL;
}

int hf_vmfile_parse(const char *file, const char *name, const char *host, const char *text,
		    size_t len, struct hf_vmfile *ret, struct hf_err *err)
{
	struct hf_vmfile f = { .own = -1 };
	struct reader reader = { .file = file, .f = &f };
	struct hf_settings s = { 0 };
	int r = hf_setting_apply_defaults(&s);

	if (!r)
		r = hf_settings_apply_file(&s, file, text, len, host, err);
	if (!r)
		r = check_name(file, &s, name, err);
	if (!r)
		r = check_qemu(file, &s, err);
	if (!r)
		r = hf_conf_parse(file, text, len, take, &reader, err);
	if (!r) {
		take_settings(&f, &s);
		(void)snprintf(f.name, sizeof(f.name), "%s", name);
		f.crc = hf_crc32c(0, text, len);
		*ret = f;
	}
	hf_settings_fini(&s);
	return r;
}

/* All that a keeper would check before it looks at anything else. */
static int check_as_keeper(const char *path, const char *name, const char *host, struct hf_err *err)
{
	char program[] = "holdfast", verb[] = "run", config_option[] = "--config";
	char vm[HF_NAME_MAX + 1], file[PATH_MAX];
	char *argv[] = { program, verb, vm, config_option, file, NULL };
	struct hf_settings s;
	int r;

	(void)snprintf(vm, sizeof(vm), "%s", name);
	(void)snprintf(file, sizeof(file), "%s", path);
	r = hf_settings_parse(argv, host, &s, err);
	if (r < 0)
		return r;
	hf_settings_fini(&s);
	return 0;
}

int hf_vmfile_read(const char *folder, const char *name, const char *host, struct hf_vmfile *ret,
		   struct hf_err *err)
{
	char path[PATH_MAX];
	char *text;
	size_t len;
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s.conf", folder, name);
	r = hf_conffile_read(path, &text, &len, err);
	if (r < 0)
		return r;
	r = hf_vmfile_parse(path, name, host, text, len, ret, err);
	free(text);
	return r < 0 ? r : check_as_keeper(path, name, host, err);
}

int hf_vmfile_position(const struct hf_vmfile *f, const char *host)
{
	for (unsigned int i = 0; i < f->n_prefer; i++)
		if (strcmp(f->prefer[i], host) == 0)
			return (int)i;
	return -1;
}
