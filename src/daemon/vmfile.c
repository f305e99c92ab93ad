/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/vmfile.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/conf.h"
#include "daemon/conffile.h"

struct reader {
	const char *file;
	struct hf_vmfile *f;
	bool has_hosts;
};

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

/* hf_conf_fn */
static int take(void *data, const struct hf_conf_item *it, struct hf_err *err)
{
	struct reader *r = data;
	struct hf_err why;
	int e = 0;

	if (strcmp(it->kind, "host") == 0)
		r->has_hosts = true;
	if (!it->key || strcmp(it->kind, "vm") != 0)
		return 0;
	if (strcmp(it->key, "takeover") == 0)
		e = hf_parse_bool(it->value, &r->f->is_taken_over, &why);
	else if (strcmp(it->key, "prefer") == 0)
		e = take_prefer(r->f, it->value, &why);
	if (e < 0) {
		hf_err_set(err, "%.200s:%u:%u: %s: %.200s", r->file, it->line, it->value_column,
			   it->key, why.text);
		e = -EINVAL;
	}
	return e;
}

int hf_vmfile_parse(const char *file, const char *text, size_t len, struct hf_vmfile *ret,
		    struct hf_err *err)
{
	struct hf_vmfile f = { .n_prefer = 0 };
	struct reader r = { .file = file, .f = &f };
	int e = hf_conf_parse(file, text, len, take, &r, err);

	if (e < 0)
		return e;
	if (r.has_hosts) /* a standby protects it, and its vote decides */
		f.is_taken_over = false;
	*ret = f;
	return 0;
}

int hf_vmfile_read(const char *folder, const char *name, struct hf_vmfile *ret, struct hf_err *err)
{
	char path[PATH_MAX];
	char *text;
	size_t len;
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s.conf", folder, name);
	r = hf_conffile_read(path, &text, &len, err);
	if (r < 0)
		return r;
	r = hf_vmfile_parse(path, text, len, ret, err);
	free(text);
	if (!r)
		(void)snprintf(ret->name, sizeof(ret->name), "%s", name);
	return r;
}

int hf_vmfile_position(const struct hf_vmfile *f, const char *host)
{
	for (unsigned int i = 0; i < f->n_prefer; i++)
		if (strcmp(f->prefer[i], host) == 0)
			return (int)i;
	return -1;
}
