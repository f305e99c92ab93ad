/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Validate: is the definition there, does the keeper take it, and is it fit for this resource? */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ocf-call.h"
#include "cli/programs.h"
#include "codec/conf.h"

struct found {
	const char *node;
	bool is_managed;
	bool has_node; /* it is one of the hosts */
	unsigned int n_hosts;
};

static int take_item(void *data, const struct hf_conf_item *item,
		     struct hf_err *err __attribute__((unused)))
{
	struct found *f = data;
	bool is_host = !item->key && strcmp(item->kind, "host") == 0;

	f->n_hosts += is_host;
	f->has_node |= is_host && strcmp(item->name, f->node) == 0;
	if (item->key && strcmp(item->key, "manager") == 0)
		f->is_managed = strcmp(item->value, HF_OCF_MANAGER) == 0;
	return 0;
}

static int read_whole(const char *path, char *ret, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got = 1;

	if (fd < 0)
		return -errno;
	while (n < size && (got = read(fd, ret + n, size - n)) > 0)
		n += (size_t)got;
	(void)close(fd);
	return got < 0 ? -EIO : (int)n;
}

static enum hf_ocf look_inside(struct hf_ocf_call *c, const char *path, struct found *f)
{
	char *text = malloc(HF_CONF_FILE_MAX);
	struct hf_err err = { "" };
	int n = text ? read_whole(path, text, HF_CONF_FILE_MAX) : -ENOMEM;
	int r = n < 0 ? n : hf_conf_parse(path, text, (size_t)n, take_item, f, &err);

	free(text);
	if (r == 0)
		return HF_OCF_SUCCESS;
	return err.text[0] ? hf_ocf_say(c, HF_OCF_ERR_INSTALLED, "%s", err.text)
			   : hf_ocf_say(c, HF_OCF_ERR_INSTALLED, "%s: %s", path, strerror(-r));
}

static enum hf_ocf check_fitness(struct hf_ocf_call *c, const char *path, const struct found *f)
{
	if (!f->is_managed)
		return hf_ocf_say(c, HF_OCF_ERR_INSTALLED,
				  "%s does not say manager = " HF_OCF_MANAGER, path);
	if (c->is_promotable && f->n_hosts != 2)
		return hf_ocf_say(
			c, HF_OCF_ERR_INSTALLED,
			"%s has no two hosts: a promotable clone is for a VM with a standby", path);
	if (!c->is_promotable && f->n_hosts)
		return hf_ocf_say(c, HF_OCF_ERR_INSTALLED,
				  "%s has hosts: a VM with a standby needs a promotable clone",
				  path);
	return HF_OCF_SUCCESS;
}

/* By the keeper's own reader. */
static enum hf_ocf check_whole(struct hf_ocf_call *c, const char *path, const struct found *f)
{
	char program[PATH_MAX], file[PATH_MAX], name[HF_NAME_MAX + 1], node[256];
	char host[] = "--host";
	char *argv[] = {
		program, (char[]){ "check" }, name, (char[]){ "--config" }, file, NULL, NULL, NULL
	};
	char *text = NULL;
	enum hf_ocf rc;
	int r;

	(void)snprintf(file, sizeof(file), "%s", path);
	(void)snprintf(name, sizeof(name), "%s", c->vm);
	(void)snprintf(node, sizeof(node), "%s", c->node);
	(void)hf_program_path(HF_PROGRAM_KEEPER, program, sizeof(program));
	if (f->has_node) {
		argv[5] = host;
		argv[6] = node;
	}
	r = hf_program_run(argv, c->deadline_ns, &text);
	if (r < 0)
		return hf_ocf_say(c, r == -ETIMEDOUT ? HF_OCF_ERR_GENERIC : HF_OCF_ERR_INSTALLED,
				  "%s: %s", program, strerror(-r));
	text[strcspn(text, "\n")] = '\0';
	rc = r ? hf_ocf_say(c, HF_OCF_ERR_INSTALLED, "%s", text)
	       : hf_ocf_say(c, HF_OCF_SUCCESS, "%s", "");
	free(text);
	return rc;
}

enum hf_ocf hf_ocf_do_validate(struct hf_ocf_call *c)
{
	struct found f = { .node = c->node };
	char path[PATH_MAX];
	enum hf_ocf rc;

	(void)snprintf(path, sizeof(path), "%s/%s.conf", c->vms_dir, c->vm);
	rc = look_inside(c, path, &f);
	if (rc == HF_OCF_SUCCESS)
		rc = check_fitness(c, path, &f);
	return rc == HF_OCF_SUCCESS ? check_whole(c, path, &f) : rc;
}
