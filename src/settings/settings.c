/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line of a keeper, and how its parts come together. */
#include "settings/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/text.h"
#include "codec/words.h"
#include "settings/settings-file.h"
#include "settings/settings-table.h"

#define OPTIONS_MAX 256

/* An option as it was given; they are applied after the file. */
struct given {
	const struct hf_setting *row;
	const char *value;
};

struct line {
	char *const *rest; /* what is not read yet */
	const char *role;
	const char *name;
	char *const *qemu; /* after "--"; NULL when there is none */
	struct given given[OPTIONS_MAX];
	size_t count;
};

static int fail_option(struct hf_err *err, const char *option, const char *what)
{
	hf_err_set(err, "%s %s (see --help)", option, what);
	return -EINVAL;
}

static int take_option(struct line *l, struct hf_err *err)
{
	const char *word = *l->rest++;
	const char *name = word + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] == '=' ? name + len + 1 : NULL;
	int i = hf_setting_find(name, len);
	const struct hf_setting *row = i < 0 ? NULL : hf_setting_at((size_t)i);

	if (!row || !(row->places & HF_IN_OPTIONS))
		return fail_option(err, word, "is no option");
	if (row->type == HF_SETTING_FLAG && value)
		return fail_option(err, word, "is given a value, but takes none");
	if (row->type != HF_SETTING_FLAG && !value) {
		value = *l->rest;
		if (!value || strcmp(value, "--") == 0)
			return fail_option(err, word, "needs a value");
		l->rest++;
	}
	for (size_t k = 0; k < l->count; k++)
		if (l->given[k].row == row && !row->is_repeatable)
			return fail_option(err, word, "is given twice");
	if (l->count == OPTIONS_MAX)
		return fail_option(err, word, "is one option too many");
	l->given[l->count++] = (struct given){ row, value };
	return 0;
}

static int take_word(struct line *l, struct hf_err *err)
{
	const char *word = *l->rest;

	if (strcmp(word, "--") == 0) {
		l->qemu = l->rest + 1;
		return 0;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		return HF_SETTINGS_E_HELP;
	if (strcmp(word, "--version") == 0)
		return HF_SETTINGS_E_VERSION;
	if (strncmp(word, "--", 2) == 0)
		return take_option(l, err);
	if (word[0] == '-' && word[1])
		return fail_option(err, word,
				   "is no option; options begin with two dashes, and QEMU's come "
				   "after --");
	if (l->role && l->name)
		return fail_option(err, word,
				   "is one word too many; QEMU's command line comes after --");
	if (!l->role)
		l->role = word;
	else
		l->name = word;
	l->rest++;
	return 0;
}

static int read_line(struct line *l, struct hf_err *err)
{
	int r = 0;

	while (!r && !l->qemu && *l->rest)
		r = take_word(l, err);
	return r;
}

static int take_role(struct hf_settings *s, const struct line *l, struct hf_err *err)
{
	static const char *const roles[] = { [HF_ROLE_RUN] = "run",
					     [HF_ROLE_STANDBY] = "standby",
					     [HF_ROLE_FROZEN] = "frozen",
					     [HF_ROLE_CHECK] = "check" };
	size_t i = 0;

	if (!l->role)
		return fail_option(err, "'run' or 'standby'", "is missing");
	while (i < sizeof(roles) / sizeof(roles[0]) && strcmp(l->role, roles[i]) != 0)
		i++;
	if (i == sizeof(roles) / sizeof(roles[0]))
		return fail_option(err, l->role, "is neither run nor standby, frozen or check");
	s->role = (enum hf_role)i;
	if (!l->name)
		return fail_option(err, l->role, "needs the name of the VM");
	if (!hf_is_valid_name(l->name))
		return fail_option(err, l->name,
				   "cannot be the name of a VM: up to 63 letters, digits and "
				   "._-, not first a . or -");
	s->name = strdup(l->name);
	return s->name ? 0 : -ENOMEM;
}

static int apply_option(struct hf_settings *s, const struct given *g, struct hf_err *err)
{
	size_t offset;
	int r = hf_setting_apply(g->row, s, g->value ? g->value : "", /* is_file= */ false, &offset,
				 err);

	if (r < 0)
		hf_err_prefix(err, "--%s: ", g->row->name);
	return r;
}

/* Those that say which file to read, and as whom. */
static bool is_early(const struct hf_setting *row)
{
	return strcmp(row->name, "config") == 0 || strcmp(row->name, "host") == 0;
}

static int apply_early_options(struct hf_settings *s, const struct line *l, struct hf_err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < l->count; i++)
		if (is_early(l->given[i].row))
			r = apply_option(s, &l->given[i], err);
	return r;
}

static int apply_late_options(struct hf_settings *s, const struct line *l, struct hf_err *err)
{
	int r = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->given[i].row->is_repeatable)
			hf_setting_clear(l->given[i].row, s);
	for (size_t i = 0; !r && i < l->count; i++)
		if (!is_early(l->given[i].row))
			r = apply_option(s, &l->given[i], err);
	return r;
}

/* What the file says is not undone by an option: it says that this start is the manager's. */
static int take_managers_order(struct hf_settings *s, const struct line *l, struct hf_err *err)
{
	for (size_t i = 0; i < l->count; i++) {
		if (strcmp(l->given[i].row->name, "manager") != 0)
			continue;
		if (s->manager == HF_MANAGER_NONE)
			return fail_option(err, "--manager", "can only be pacemaker");
		s->is_managers_order = true;
	}
	return 0;
}

static int apply_file(struct hf_settings *s, const char *nodename, struct hf_err *err)
{
	struct utsname uts;
	char *text = NULL;
	size_t len = 0;
	int r = hf_settings_read_file(s->config, &text, &len, err);

	if (r < 0)
		return r;
	if (!nodename)
		nodename = uname(&uts) < 0 ? "" : uts.nodename;
	r = hf_settings_apply_file(s, s->config, text, len, nodename, err);
	free(text);
	if (!r && s->file_name && strcmp(s->file_name, s->name) != 0) {
		hf_err_set(err, "%s defines the VM '%s', not '%s'", s->config, s->file_name,
			   s->name);
		r = -EINVAL;
	}
	return r;
}

static int find_file(struct hf_settings *s, const struct line *l, struct hf_err *err)
{
	char *path;

	if (s->config || l->qemu) {
		if (!s->config && s->host)
			return fail_option(err, "--host",
					   "chooses a [host] of a definition, which is not read "
					   "when QEMU's command line is given; add --config");
		return 0;
	}
	if (asprintf(&path, "%s/%s.conf", HF_SETTINGS_FOLDER, s->name) < 0)
		return -ENOMEM;
	s->config = path;
	if (access(path, F_OK) == 0 || errno != ENOENT)
		return 0;
	hf_err_set(err,
		   "there is no %s: write it, see holdfast.conf(5), or give QEMU's command "
		   "line after --",
		   path);
	return -ENOENT;
}

static int make_argv(struct hf_settings *s, const struct line *l, struct hf_err *err)
{
	char *const *words = l->qemu ? l->qemu : s->file_args;
	int r = 0;

	if (!l->qemu && !s->file_args) {
		hf_err_set(err, "%s has no args = for QEMU in its [vm]", s->config);
		return -EINVAL;
	}
	if (!words[0] && l->qemu)
		return fail_option(err, "--", "must be followed by QEMU's command line");
	if (!l->qemu)
		r = hf_words_append(&s->argv, s->file_qemu);
	for (; !r && *words; words++)
		r = hf_words_append(&s->argv, *words);
	if (r == -E2BIG) {
		hf_err_set(err, "QEMU's command line has more than %d words", HF_WORDS_MAX);
		r = -EINVAL;
	}
	return r;
}

static int check_whole(const struct hf_settings *s, struct hf_err *err)
{
	if (s->role == HF_ROLE_FROZEN && !s->frozen_id)
		return fail_option(err, "frozen", "needs --instance ID");
	if (s->peer.is_set && s->peer.addr.host[0] == '\0')
		return fail_option(err, "--peer", "needs a host, not only a port");
	if (s->role == HF_ROLE_STANDBY && !s->listen.is_set)
		return fail_option(err, "standby",
				   "needs --listen ADDR[:PORT], or a definition with two hosts");
	if (s->disk_layout == HF_DISK_LAYOUT_SHARED && !s->redo_journal)
		return fail_option(
			err, "disk-layout=shared",
			"needs redo-journal, the same for both hosts, on storage that both "
			"reach: a file beside the image, a block device or an NBD export");
	return 0;
}

/* As the commands that talk to a keeper do: counts more than the default, less than the rest. */
static int apply_environment(struct hf_settings *s, struct hf_err *err)
{
	const char *run_dir = getenv("HOLDFAST_RUN_DIR");
	const struct hf_setting *row;
	struct hf_err own;
	size_t offset;
	int r;

	if (!run_dir)
		return 0;
	row = hf_setting_at((size_t)hf_setting_find("run-dir", strlen("run-dir")));
	r = hf_setting_apply(row, s, run_dir, /* is_file= */ false, &offset, &own);
	if (r < 0)
		hf_err_set(err, "HOLDFAST_RUN_DIR: %s", own.text);
	return r;
}

static int assemble(struct hf_settings *s, const struct line *l, const char *nodename,
		    struct hf_err *err)
{
	int r = hf_setting_apply_defaults(s);

	if (!r)
		r = apply_environment(s, err);
	if (!r)
		r = take_role(s, l, err);
	if (!r)
		r = apply_early_options(s, l, err);
	if (!r && s->role != HF_ROLE_FROZEN)
		r = find_file(s, l, err);
	if (!r && s->config)
		r = apply_file(s, nodename, err);
	if (!r)
		r = apply_late_options(s, l, err);
	if (!r)
		r = take_managers_order(s, l, err);
	if (!r && s->role != HF_ROLE_FROZEN)
		r = make_argv(s, l, err);
	return r ? r : check_whole(s, err);
}

int hf_settings_parse(char *const *argv, const char *nodename, struct hf_settings *ret,
		      struct hf_err *err)
{
	struct line l = { .rest = argv[0] ? argv + 1 : argv };
	struct hf_settings s = { 0 };
	int r = read_line(&l, err);

	if (!r)
		r = assemble(&s, &l, nodename, err);
	if (r == -ENOMEM)
		hf_err_set(err, "out of memory");
	if (r != 0)
		hf_settings_fini(&s);
	else
		*ret = s;
	return r;
}

void hf_settings_fini(struct hf_settings *s)
{
	for (size_t i = 0; i < hf_setting_count(); i++)
		hf_setting_clear(hf_setting_at(i), s);
	free(s->name);
	free(s->other_host);
	hf_words_free(s->argv);
	*s = (struct hf_settings){ 0 };
}
