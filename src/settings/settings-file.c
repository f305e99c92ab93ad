/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. The file is the same on both hosts, so it is read into a list first; then the
 * own host is chosen, and the items are applied in the order of precedence, not of the file: [vm] and
 * [protection], then the own [host]. The other [host] is applied to settings of its own, of which only
 * the address is used: as the peer.
 */
#include "settings/settings-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "codec/conf.h"
#include "settings/settings-table.h"

#define HOSTS_MAX 2

struct item {
	unsigned int place; /* HF_IN_* */
	int host; /* index, of HF_IN_HOST */
	const struct hf_setting *row;
	char *value;
	unsigned int line;
	unsigned int value_column;
};

struct host {
	char name[HF_NAME_MAX + 1];
	unsigned int line;
};

struct file {
	const char *name;
	struct item *items;
	size_t count;
	unsigned int vm_line; /* 0: there is none */
	unsigned int protection_line;
	struct host hosts[HOSTS_MAX];
	int host_count;
};

__attribute__((format(printf, 5, 6))) static int fail(const struct file *f, struct hf_err *err,
						      unsigned int line, unsigned int column,
						      const char *format, ...)
{
	char what[HF_ERR_MAX / 2];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	hf_err_set(err, "%s:%u:%u: %s", f->name, line, column, what);
	return -EINVAL;
}

static int open_once(struct file *f, const struct hf_conf_item *it, unsigned int *line,
		     struct hf_err *err)
{
	if (it->name[0])
		return fail(f, err, it->line, 1, "[%s] has no name of its own, so not '%s'",
			    it->kind, it->name);
	if (*line)
		return fail(f, err, it->line, 1, "[%s] again: it is already in line %u", it->kind,
			    *line);
	*line = it->line;
	return 0;
}

static int open_host(struct file *f, const struct hf_conf_item *it, struct hf_err *err)
{
	if (!hf_is_valid_name(it->name))
		return fail(f, err, it->line, 1, "a host is written [host NAME]");
	for (int i = 0; i < f->host_count; i++)
		if (strcmp(f->hosts[i].name, it->name) == 0)
			return fail(f, err, it->line, 1,
				    "[host %s] again: it is already in line %u", it->name,
				    f->hosts[i].line);
	if (f->host_count == HOSTS_MAX)
		return fail(f, err, it->line, 1, "a third host: there are two, in lines %u and %u",
			    f->hosts[0].line, f->hosts[1].line);
	f->hosts[f->host_count].line = it->line;
	(void)snprintf(f->hosts[f->host_count++].name, sizeof(f->hosts[0].name), "%s", it->name);
	return 0;
}

static unsigned int place_of(const char *kind)
{
	return strcmp(kind, "vm") == 0           ? HF_IN_VM
	       : strcmp(kind, "protection") == 0 ? HF_IN_PROTECTION
	       : strcmp(kind, "host") == 0       ? HF_IN_HOST
						 : 0;
}

static int open_section(struct file *f, const struct hf_conf_item *it, struct hf_err *err)
{
	switch (place_of(it->kind)) {
	case HF_IN_VM:
		return open_once(f, it, &f->vm_line, err);
	case HF_IN_PROTECTION:
		return open_once(f, it, &f->protection_line, err);
	case HF_IN_HOST:
		return open_host(f, it, err);
	default:
		return fail(f, err, it->line, 1,
			    "no section is called [%s]: there are [vm], [protection] and "
			    "[host NAME]",
			    it->kind);
	}
}

static int misplaced(const struct file *f, const struct hf_conf_item *it,
		     const struct hf_setting *row, struct hf_err *err)
{
	if (!row)
		return fail(f, err, it->line, 1, "no setting is called '%s'", it->key);
	if (row->places == HF_IN_OPTIONS)
		return fail(f, err, it->line, 1, "'%s' can only be given on the command line",
			    it->key);
	return fail(f, err, it->line, 1, "'%s' belongs into [%s], not into [%s]", it->key,
		    row->places & HF_IN_VM           ? "vm"
		    : row->places & HF_IN_PROTECTION ? "protection"
						     : "host NAME",
		    it->kind);
}

static int check_again(const struct file *f, const struct item *new, struct hf_err *err)
{
	if (new->row->is_repeatable)
		return 0;
	for (size_t i = 0; i < f->count; i++)
		if (f->items[i].row == new->row && f->items[i].place == new->place &&
		    f->items[i].host == new->host)
			return fail(f, err, new->line, 1, "'%s' again: it is already in line %u",
				    new->row->name, f->items[i].line);
	return 0;
}

/* hf_conf_fn */
static int take(void *data, const struct hf_conf_item *it, struct hf_err *err)
{
	struct file *f = data;
	struct item new = { .place = place_of(it->kind),
			    .host = f->host_count - 1,
			    .line = it->line,
			    .value_column = it->value_column };
	struct item *grown;
	int row;
	int r;

	if (!it->key)
		return open_section(f, it, err);
	row = hf_setting_find(it->key, strlen(it->key));
	new.row = row < 0 ? NULL : hf_setting_at((size_t)row);
	if (new.place != HF_IN_HOST)
		new.host = -1;
	if (!new.row || !(new.row->places &new.place))
		return misplaced(f, it, new.row, err);
	r = check_again(f, &new, err);
	if (r < 0)
		return r;
	grown = realloc(f->items, (f->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	f->items = grown;
	new.value = strdup(it->value);
	if (!new.value)
		return -ENOMEM;
	f->items[f->count++] = new;
	return 0;
}

static bool is_list(const struct hf_setting *row)
{
	return row->type == HF_SETTING_IDS || row->type == HF_SETTING_ARGS;
}

static int apply_item(const struct file *f, const struct item *item, struct hf_settings *s,
		      struct hf_err *err)
{
	const struct hf_conf_item place = { .value = item->value,
					    .line = item->line,
					    .value_column = item->value_column };
	struct hf_err why = { "" };
	unsigned int column;
	unsigned int line;
	size_t offset = 0;
	int r;

	if (!is_list(item->row) && strchr(item->value, '\n'))
		return fail(f, err, item->line + 1, 1,
			    "'%s' takes one line: this one is indented and so "
			    "goes on with it",
			    item->row->name);
	r = hf_setting_apply(item->row, s, item->value, /* is_file= */ true, &offset, &why);
	if (r >= 0 || r == -ENOMEM)
		return r;
	hf_conf_place(&place, offset, &line, &column);
	return fail(f, err, line, column, "%s: %s", item->row->name, why.text);
}

/* @host: -1: what is for both */
static int apply_items(const struct file *f, int host, struct hf_settings *s, struct hf_err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < f->count; i++)
		if (f->items[i].host == host)
			r = apply_item(f, &f->items[i], s, err);
	return r;
}

static bool is_same_host(const char *name, const char *nodename)
{
	size_t n = strcspn(nodename, ".");

	return strcmp(name, nodename) == 0 || (strncmp(name, nodename, n) == 0 && name[n] == '\0');
}

/* Returns the index of the own host. */
static int choose_host(const struct file *f, const char *wanted, const char *nodename, int *ret,
		       struct hf_err *err)
{
	int found = 0;

	for (int i = 0; i < f->host_count; i++)
		if (wanted ? strcmp(f->hosts[i].name, wanted) == 0
			   : is_same_host(f->hosts[i].name, nodename)) {
			*ret = i;
			found++;
		}
	if (found == 1)
		return 0;
	hf_err_set(err,
		   "%s: %s '%s', and the file's hosts are '%s' and '%s': choose one with --host",
		   f->name, wanted ? "the host asked for is" : "this machine is called",
		   wanted ? wanted : nodename, f->hosts[0].name, f->hosts[1].name);
	return -EINVAL;
}

static int apply_other_host(const struct file *f, int other, struct hf_settings *s,
			    struct hf_err *err)
{
	struct hf_settings scratch = { 0 };
	int r = apply_items(f, other, &scratch, err);

	if (!r && !scratch.listen.is_set)
		r = fail(f, err, f->hosts[other].line, 1,
			 "[host %s] lacks its address = ADDR[:PORT]", f->hosts[other].name);
	if (!r && scratch.listen.addr.host[0] == '\0')
		r = fail(f, err, f->hosts[other].line, 1,
			 "the address of [host %s] needs a host, for the "
			 "other one to find it",
			 f->hosts[other].name);
	if (!r)
		s->peer = scratch.listen;
	hf_settings_fini(&scratch);
	free(s->peer_name);
	s->peer_name = strdup(f->hosts[other].name);
	free(s->other_host);
	s->other_host = strdup(f->hosts[other].name);
	if (!r && (!s->peer_name || !s->other_host))
		r = -ENOMEM;
	return r;
}

static int apply_hosts(const struct file *f, const char *nodename, struct hf_settings *s,
		       struct hf_err *err)
{
	int own = -1;
	int r;

	if (f->host_count == 0 && !s->host)
		return 0;
	if (f->host_count != HOSTS_MAX) {
		hf_err_set(err, "%s: it has %d [host NAME] sections, but two are needed%s", f->name,
			   f->host_count, f->host_count ? ", or none" : " for --host");
		return -EINVAL;
	}
	r = choose_host(f, s->host, nodename, &own, err);
	if (!r)
		r = apply_other_host(f, 1 - own, s, err);
	if (!r)
		r = apply_items(f, own, s, err);
	if (!r && !s->listen.is_set)
		r = fail(f, err, f->hosts[own].line, 1, "[host %s] lacks its address = ADDR[:PORT]",
			 f->hosts[own].name);
	if (!r && !s->host) {
		s->host = strdup(f->hosts[own].name);
		r = s->host ? 0 : -ENOMEM;
	}
	return r;
}

static const struct item *find_item(const struct file *f, const char *name)
{
	size_t i = 0;

	while (i < f->count && strcmp(f->items[i].row->name, name) != 0)
		i++;
	return i < f->count ? &f->items[i] : NULL;
}

/* Two that decide would each undo what the other has done. */
static int check_manager(const struct file *f, const struct hf_settings *s, struct hf_err *err)
{
	const char *key = s->is_autostarted ? "autostart" : s->is_taken_over ? "takeover" : NULL;
	const struct item *item = key ? find_item(f, key) : NULL;

	if (s->manager == HF_MANAGER_NONE || !item)
		return 0;
	return fail(f, err, item->line, item->value_column,
		    "%s: with manager = pacemaker, Pacemaker alone decides where the VM is "
		    "started: leave this out",
		    key);
}

int hf_settings_apply_file(struct hf_settings *s, const char *file, const char *text, size_t len,
			   const char *nodename, struct hf_err *err)
{
	struct file f = { .name = file };
	int r = hf_conf_parse(file, text, len, take, &f, err);

	if (!r)
		r = apply_items(&f, -1, s, err);
	if (!r)
		r = check_manager(&f, s, err);
	if (!r)
		r = apply_hosts(&f, nodename, s, err);
	for (size_t i = 0; i < f.count; i++)
		free(f.items[i].value);
	free(f.items);
	return r;
}

static int read_all(int fd, char *buf, size_t size, size_t *ret_len)
{
	size_t len = 0;
	ssize_t n;

	while (len < size) {
		n = read(fd, buf + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return 0;
}

static int read_open_file(int fd, char **ret, size_t *ret_len, struct hf_err *err)
{
	struct stat st;
	char *text;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		hf_err_set(err, "it is no regular file");
		return -EINVAL;
	}
	/* One byte more than allowed shows that there is too much; it grows perhaps as it is read. */
	text = malloc(HF_CONF_FILE_MAX + 1);
	r = text ? read_all(fd, text, HF_CONF_FILE_MAX + 1, ret_len) : -ENOMEM;
	if (r < 0)
		free(text);
	else
		*ret = text;
	return r;
}

int hf_settings_read_file(const char *path, char **ret, size_t *ret_len, struct hf_err *err)
{
	struct hf_err why = { "" };
	/* Non-blocking, so that a FIFO does not hang us before fstat() can refuse it. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int r = fd < 0 ? -errno : read_open_file(fd, ret, ret_len, &why);

	if (fd >= 0)
		(void)close(fd);
	if (r < 0)
		hf_err_set(err, "cannot read the definition %s: %s", path,
			   why.text[0] ? why.text : strerror(-r));
	return r;
}
