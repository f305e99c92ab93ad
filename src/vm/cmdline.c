/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading the line into entries, running the parts over them, and writing it out again.
 *
 * The order of the parts matters in one point: the check of the devices looks at ids of all options,
 * so it comes before the part for RAM, which takes the user's backend apart.
 */
#include "vm/cmdline.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/words.h"
#include "vm/cmdline-internal.h"

/* A line of more problems than this is not one that somebody reads to the end. */
#define PROBLEMS_MAX 256

struct hf_cmdline_entry *hf_cmdline_next(struct hf_cmdline *cmd, enum hf_cmdline_kind kind,
					 const struct hf_cmdline_entry *after)
{
	size_t i = after ? (size_t)(after - cmd->entry) + 1 : 0;

	for (; i < cmd->entry_count; i++)
		if (cmd->entry[i].opt->kind == kind)
			return &cmd->entry[i];
	return NULL;
}

bool hf_cmdline_has(struct hf_cmdline *cmd, enum hf_cmdline_kind kind)
{
	return hf_cmdline_next(cmd, kind, NULL) != NULL;
}

char *hf_cmdline_dup(struct hf_cmdline *cmd, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		cmd->has_failed = true;
	return copy;
}

__attribute__((format(printf, 2, 0))) static char *format_text(struct hf_cmdline *cmd,
							       const char *format, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, format, ap) < 0) {
		cmd->has_failed = true;
		return NULL;
	}
	return text;
}

char *hf_cmdline_text(struct hf_cmdline *cmd, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	text = format_text(cmd, format, ap);
	va_end(ap);
	return text;
}

void hf_cmdline_note(struct hf_cmdline *cmd, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	text = format_text(cmd, format, ap);
	va_end(ap);
	if (text && hf_words_append(&cmd->notes, text) == -ENOMEM)
		cmd->has_failed = true;
	free(text);
}

void hf_cmdline_problem(struct hf_cmdline *cmd, const char *what, const char *id,
			const char *format, ...)
{
	struct hf_cmdline_problem *grown;
	struct hf_cmdline_problem *p;
	va_list ap;
	char *why;

	cmd->refused_count++;
	if (cmd->problem_count == PROBLEMS_MAX)
		return;
	va_start(ap, format);
	why = format_text(cmd, format, ap);
	va_end(ap);
	grown = realloc(cmd->problem, (cmd->problem_count + 1) * sizeof(*grown));
	if (!why || !grown) {
		cmd->problem = grown ? grown : cmd->problem;
		cmd->has_failed = true;
		free(why);
		return;
	}
	cmd->problem = grown;
	p = &grown[cmd->problem_count++];
	*p = (struct hf_cmdline_problem){ .what = what, .id = hf_cmdline_dup(cmd, id) };
	p->may_pass = strcmp(what, "memory") != 0 && strcmp(what, "option") != 0;
	p->text = p->may_pass ? hf_cmdline_text(cmd,
						"%s '%s': %s, or let it through with "
						"--unprotected %s",
						what, id, why, id)
			      : hf_cmdline_text(cmd, "%s '%s': %s", what, id, why);
	free(why);
}

bool hf_cmdline_is_valid_id(const char *id)
{
	if (!isalpha((unsigned char)id[0]))
		return false;
	for (; *id; id++)
		if (!isalnum((unsigned char)*id) && !strchr("-._", *id))
			return false;
	return true;
}

/* QEMU takes one dash or two alike. */
static const char *option_name(const char *word)
{
	return word[1] == '-' ? word + 2 : word + 1;
}

static const struct hf_cmdline_opt unknown_flag = { .name = "(unknown)" };
static const struct hf_cmdline_opt unknown_word = { .name = "(unknown)", .has_arg = true };

static const struct hf_cmdline_opt *find_opt(struct hf_cmdline *cmd, const char *word,
					     const char *next)
{
	const struct hf_cmdline_opt *opt;

	if (word[0] != '-')
		return &hf_cmdline_opt_image;
	opt = hf_cmdline_opt_find(option_name(word));
	if (opt)
		return opt;
	opt = next && next[0] != '-' ? &unknown_word : &unknown_flag;
	hf_cmdline_note(cmd, "%s: not known to holdfast: passed on as it is%s%s", word,
			opt->has_arg ? ", with its argument " : "", opt->has_arg ? next : "");
	return opt;
}

/* Reads one option at argv[*at] and moves *at past it. */
static int read_entry(struct hf_cmdline *cmd, char *const *argv, size_t *at, struct hf_err *err)
{
	struct hf_cmdline_entry *e = &cmd->entry[cmd->entry_count];
	const char *word = argv[*at];
	int r;

	if (word[0] == '-' && *option_name(word) == '\0') {
		hf_err_set(err, "word %zu of QEMU's command line is '%s', which is no option",
			   *at + 1, word);
		return -EINVAL;
	}
	*e = (struct hf_cmdline_entry){ .opt = find_opt(cmd, word, argv[*at + 1]) };
	cmd->entry_count++;
	e->word = hf_cmdline_dup(cmd, word);
	++*at;
	if (!e->opt->has_arg)
		return 0;
	if (!argv[*at]) {
		hf_err_set(err, "'%s', at the end of QEMU's command line, needs an argument", word);
		return -EINVAL;
	}
	e->arg = hf_cmdline_dup(cmd, argv[(*at)++]);
	if (!e->opt->is_keyval || !e->arg)
		return 0;
	r = hf_keyval_parse(e->arg, e->opt->implied, &e->kv, err);
	if (r < 0)
		hf_err_prefix(err, "word %zu of QEMU's command line (after %s): ", *at, word);
	return r;
}

static int read_line(struct hf_cmdline *cmd, char *const *argv, struct hf_err *err)
{
	size_t n = hf_words_count(argv);
	size_t at = 1;
	int r = 0;

	if (n == 0 || argv[0][0] == '\0' || argv[0][0] == '-') {
		hf_err_set(err,
			   "QEMU's command line must begin with its program, qemu-system-x86_64");
		return -EINVAL;
	}
	if (n > HF_WORDS_MAX) {
		hf_err_set(err, "QEMU's command line has more than %d words", HF_WORDS_MAX);
		return -E2BIG;
	}
	cmd->program = hf_cmdline_dup(cmd, argv[0]);
	cmd->entry = calloc(n, sizeof(*cmd->entry));
	if (!cmd->entry)
		return -ENOMEM;
	while (!r && at < n)
		r = read_entry(cmd, argv, &at, err);
	return r;
}

/* --unprotected ID lets every problem of that id through, and must find one. */
static int let_through(struct hf_cmdline *cmd, const char *id, struct hf_err *err)
{
	size_t found = 0;

	for (size_t i = 0; i < cmd->problem_count; i++) {
		struct hf_cmdline_problem *p = &cmd->problem[i];

		if (!p->may_pass || !p->id || strcmp(p->id, id) != 0)
			continue;
		found++;
		if (!p->is_passed)
			cmd->refused_count--;
		p->is_passed = true;
	}
	if (found)
		return 0;
	hf_err_set(err, "--unprotected %s: nothing of that id would need it", id);
	return -EINVAL;
}

static int check_held(struct hf_cmdline *cmd, const struct hf_cmdline_want *want, const char *id,
		      struct hf_err *err)
{
	const char *found;

	for (char *const *u = want->unprotected; u && *u; u++) {
		if (strcmp(*u, id) != 0)
			continue;
		hf_err_set(
			err,
			"'%s' is named by --hold-net and by --unprotected: it is one or the other",
			id);
		return -EINVAL;
	}
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_NETDEV, e));) {
		found = hf_keyval_get(&e->kv, "id");
		if (found && strcmp(found, id) == 0)
			return 0;
	}
	/* One of another form has its own problem, which says how to write it. */
	for (size_t i = 0; i < cmd->problem_count; i++)
		if (strcmp(cmd->problem[i].what, "netdev") == 0 && cmd->problem[i].id &&
		    strcmp(cmd->problem[i].id, id) == 0)
			return 0;
	hf_err_set(err, "--hold-net %s: there is no -netdev with that id", id);
	return -EINVAL;
}

static int apply_wishes(struct hf_cmdline *cmd, const struct hf_cmdline_want *want,
			struct hf_err *err)
{
	int r = 0;

	for (char *const *id = want->hold_net; !r && id && *id; id++)
		r = check_held(cmd, want, *id, err);
	for (char *const *id = want->unprotected; !r && id && *id; id++)
		r = let_through(cmd, *id, err);
	return r;
}

static void note_additions(struct hf_cmdline *cmd)
{
	if (!cmd->is_ram_placed && cmd->ram_object)
		hf_cmdline_note(
			cmd,
			"-object %s: added: the guest's memory, in a file that holdfast shares",
			cmd->ram_object);
	hf_cmdline_note(cmd,
			"-machine suppress-vmdesc=on: added: the device state is smaller without "
			"its description");
	hf_cmdline_note(cmd,
			"-chardev and -mon " HF_CMDLINE_QMP_ID ": added: holdfast's way to command "
			"QEMU, which nobody else can open");
	if (cmd->is_inspection)
		return;
	if (!cmd->is_paused && !cmd->is_standby)
		hf_cmdline_note(cmd, "-S: added: holdfast starts the guest once all is in place");
	if (cmd->is_standby || cmd->is_resumed)
		hf_cmdline_note(cmd, "-incoming defer: added: the guest comes from %s",
				cmd->is_standby ? "the other host" : "its saved state");
}

static int examine(struct hf_cmdline *cmd, const struct hf_cmdline_want *want, struct hf_err *err)
{
	int r;

	cmd->is_paused = hf_cmdline_has(cmd, HF_OPT_PAUSED);
	hf_cmdline_check_devices(cmd);
	hf_cmdline_check_ram(cmd, want);
	hf_cmdline_check_nets(cmd, want);
	hf_cmdline_check_disks(cmd, want);
	note_additions(cmd);
	r = cmd->has_failed ? -ENOMEM : apply_wishes(cmd, want, err);
	if (!r && cmd->is_inspection)
		hf_cmdline_isolate(cmd);
	return r ? r : cmd->has_failed ? -ENOMEM : 0;
}

int hf_cmdline_parse(char *const *argv, const struct hf_cmdline_want *want, struct hf_cmdline **ret,
		     struct hf_err *err)
{
	struct hf_cmdline *cmd = calloc(1, sizeof(*cmd));
	int r;

	if (!cmd)
		return -ENOMEM;
	cmd->is_standby = want->is_standby;
	cmd->is_inspection = want->is_inspection;
	cmd->is_resumed = want->is_resumed;
	r = read_line(cmd, argv, err);
	if (!r)
		r = cmd->has_failed ? -ENOMEM : examine(cmd, want, err);
	if (r < 0)
		hf_cmdline_free(cmd);
	else
		*ret = cmd;
	return r;
}

static const struct hf_cmdline_problem *first_refused(const struct hf_cmdline *cmd)
{
	for (size_t i = 0; i < cmd->problem_count; i++)
		if (!cmd->problem[i].is_passed)
			return &cmd->problem[i];
	return NULL;
}

int hf_cmdline_refusal(const struct hf_cmdline *cmd, char **ret)
{
	char *text = NULL;
	size_t size = 0;
	size_t listed = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < cmd->problem_count; i++) {
		if (cmd->problem[i].is_passed)
			continue;
		(void)fprintf(out, "%s\n", cmd->problem[i].text);
		listed++;
	}
	if (cmd->refused_count > listed)
		(void)fprintf(out, "and %zu more\n", cmd->refused_count - listed);
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret = text;
	return 0;
}

/* A line under construction; the first failure sticks. */
struct writer {
	char **words;
	int result;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *format, ...)
{
	va_list ap;
	char *text = NULL;
	int n;

	if (w->result < 0)
		return;
	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	w->result = n < 0 ? -ENOMEM : hf_words_append(&w->words, text);
	if (n >= 0)
		free(text);
}

static void put_ram(struct writer *w, const struct hf_cmdline *cmd,
		    const struct hf_cmdline_fds *fds)
{
	put(w, "-object");
	if (cmd->is_inspection)
		put(w, "%s,mem-path=/proc/self/fd/%d,share=off%s", cmd->ram_object, fds->ram,
		    cmd->page_bytes ? ",reserve=off" : "");
	else
		put(w, "%s,mem-path=/proc/self/fd/%d,share=on", cmd->ram_object, fds->ram);
}

static void put_net(struct writer *w, const struct hf_cmdline_net *net, int fd)
{
	put(w, "-netdev");
	put(w, "stream,id=%s,server=off,addr.type=fd,addr.str=%d", net->id, fd);
}

static void put_disk(struct writer *w, const struct hf_cmdline_entry *e,
		     const struct hf_cmdline_fds *fds)
{
	char *arg = NULL;

	if (w->result < 0)
		return;
	w->result = hf_cmdline_swap_disk(
		e, fds->disk_sockets ? fds->disk_sockets[e->disk] : fds->disk_socket, &arg);
	put(w, "%s", e->word);
	put(w, "%s", arg);
	free(arg);
}

static void put_entry(struct writer *w, const struct hf_cmdline *cmd,
		      const struct hf_cmdline_entry *e, const struct hf_cmdline_fds *fds)
{
	switch (e->fate) {
	case HF_FATE_KEEP:
		put(w, "%s", e->word);
		if (e->arg)
			put(w, "%s", e->arg);
		break;
	case HF_FATE_NET:
		put_net(w, &cmd->net[e->net], fds->net[e->net]);
		break;
	case HF_FATE_ARG:
		put(w, "%s", e->word);
		put(w, "%s", e->instead);
		break;
	case HF_FATE_RAM:
		put_ram(w, cmd, fds);
		break;
	case HF_FATE_DISK:
		put_disk(w, e, fds);
		break;
	case HF_FATE_DROP:
		break;
	}
}

/* The rest of what makes an examination: see hf_cmdline_want. */
static void put_isolation(struct writer *w, const struct hf_cmdline *cmd,
			  const struct hf_cmdline_fds *fds)
{
	const char *console = cmd->console_id ? cmd->console_id : HF_CMDLINE_CONSOLE_ID;
	static const char *const words[] = {
		"-S",
		"-incoming",
		"defer",
		"-display",
		"none",
		"-monitor",
		"none",
		"-sandbox",
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		put(w, "%s", words[i]);
	put(w, "-chardev");
	if (fds->console)
		put(w, "socket,id=%s,fd=%d", console, fds->console);
	else
		put(w, "null,id=%s", console);
	if (cmd->is_console_added) {
		put(w, "-serial");
		put(w, "chardev:" HF_CMDLINE_CONSOLE_ID);
	}
	if (cmd->is_snapshot_added)
		put(w, "-snapshot");
	if (!fds->gdb)
		return;
	put(w, "-chardev");
	put(w, "socket,id=" HF_CMDLINE_GDB_ID ",fd=%d,server=on,wait=off", fds->gdb);
	put(w, "-gdb");
	put(w, "chardev:" HF_CMDLINE_GDB_ID);
}

static void put_additions(struct writer *w, const struct hf_cmdline *cmd,
			  const struct hf_cmdline_fds *fds)
{
	if (!cmd->is_ram_placed)
		put_ram(w, cmd, fds);
	put(w, "-machine");
	if (cmd->is_ram_of_numa)
		put(w, "suppress-vmdesc=on");
	else
		put(w, "memory-backend=%s,suppress-vmdesc=on", cmd->ram_id);
	put(w, "-chardev");
	put(w, "socket,id=" HF_CMDLINE_QMP_ID ",fd=%d", fds->qmp);
	put(w, "-mon");
	put(w, "chardev=" HF_CMDLINE_QMP_ID ",mode=control");
	if (cmd->is_inspection) {
		put_isolation(w, cmd, fds);
		return;
	}
	/* A standby's QEMU runs on by itself as soon as it has the state: no command's time is lost. */
	if (!cmd->is_paused && !cmd->is_standby)
		put(w, "-S");
	if (cmd->is_standby || cmd->is_resumed) {
		put(w, "-incoming");
		put(w, "defer");
	}
}

int hf_cmdline_render(const struct hf_cmdline *cmd, const struct hf_cmdline_fds *fds, char ***ret,
		      struct hf_err *err)
{
	const struct hf_cmdline_problem *first;
	struct writer w = { NULL, 0 };

	if (cmd->refused_count > 0) {
		/* None is found when only those are left that there was no room to list. */
		first = first_refused(cmd);
		hf_err_set(err, "%s",
			   first ? first->text : "QEMU's command line has too many problems");
		return -EPERM;
	}
	if (cmd->disk_count && !fds->disk_socket && !fds->disk_sockets) {
		hf_err_set(err, "disk '%s': nobody serves it", cmd->disk[0].id);
		return -EINVAL;
	}
	put(&w, "%s", cmd->program);
	for (size_t i = 0; i < cmd->entry_count; i++)
		put_entry(&w, cmd, &cmd->entry[i], fds);
	put_additions(&w, cmd, fds);
	if (w.result < 0)
		hf_words_free(w.words);
	else
		*ret = w.words;
	return w.result;
}

static void free_net(struct hf_cmdline_net *net)
{
	free(net->id);
	free(net->option);
	free(net->ifname);
	free(net->bridge);
	free(net->script);
	free(net->downscript);
}

static void free_disk(struct hf_cmdline_disk *disk)
{
	free(disk->id);
	free(disk->option);
	free(disk->location);
}

void hf_cmdline_free(struct hf_cmdline *cmd)
{
	if (!cmd)
		return;
	for (size_t i = 0; i < cmd->entry_count; i++) {
		free(cmd->entry[i].word);
		free(cmd->entry[i].arg);
		free(cmd->entry[i].leaf);
		free(cmd->entry[i].instead);
		hf_keyval_fini(&cmd->entry[i].kv);
	}
	for (size_t i = 0; i < cmd->problem_count; i++) {
		free(cmd->problem[i].id);
		free(cmd->problem[i].text);
	}
	for (size_t i = 0; i < cmd->net_count; i++)
		free_net(&cmd->net[i]);
	for (size_t i = 0; i < cmd->disk_count; i++)
		free_disk(&cmd->disk[i]);
	free(cmd->entry);
	free(cmd->disk);
	free(cmd->problem);
	free(cmd->net);
	hf_words_free(cmd->notes);
	free(cmd->program);
	free(cmd->ram_id);
	free(cmd->console_id);
	free(cmd->ram_object);
	free(cmd);
}
