/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/client.h"
#include "codec/json.h"
#include "codec/words.h"
#include "sys/fd.h"
#include "vm/frozen.h"

#define TEXT_MAX_BYTES (64u << 20)
#define SUFFIX ".conf"

/* ---- the child: may hang ---- */

static void add_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void add_word(struct json_object *list, const char *word)
{
	json_object_array_add(list, json_object_new_string(word));
}

static struct json_object *summary(const struct hf_certificate *c)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "state", c->is_certified ? "frozen" : "freezing");
	add_string(o, "cause", hf_vm_cause_name(c->cause));
	add_string(o, "severity", hf_vm_severity_name(c->severity));
	add_string(o, "cause_text", c->cause_text);
	add_string(o, "host", c->host);
	json_object_object_add(o, "cause_time_ns", json_object_new_uint64(c->cause_time_ns));
	json_object_object_add(o, "frozen_time_ns", json_object_new_uint64(c->frozen_time_ns));
	return o;
}

static void add_frozen(struct json_object *list, const char *vm, const struct hf_frozen *f,
		       bool is_whole)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "vm", vm);
	add_string(o, "id", f->id);
	add_string(o, "path", f->path);
	json_object_object_add(o, "readable", json_object_new_boolean(f->is_readable));
	if (!f->is_readable)
		add_string(o, "trouble", f->trouble);
	else
		json_object_object_add(o, "certificate",
				       is_whole ? hf_certificate_encode(&f->certificate)
						: summary(&f->certificate));
	json_object_array_add(list, o);
}

static void look_frozen(const struct hf_shelf_query *q, const char *vm, struct json_object *list,
			struct json_object *trouble)
{
	struct hf_frozen *found;
	struct hf_err err = { "" };
	size_t n;

	if (hf_frozen_list(q->state_dir, vm, &found, &n, &err) < 0) {
		add_word(trouble, err.text);
		return;
	}
	for (size_t i = 0; i < n; i++)
		add_frozen(list, vm, &found[i], q->vm != NULL);
	hf_frozen_free(found, n);
}

static void look_all_frozen(const struct hf_shelf_query *q, struct json_object *list,
			    struct json_object *trouble)
{
	struct hf_err err = { "" };
	char **vms;

	if (q->vm) {
		look_frozen(q, q->vm, list, trouble);
		return;
	}
	if (hf_frozen_vms(q->state_dir, &vms, &err) < 0) {
		add_word(trouble, err.text);
		return;
	}
	for (size_t i = 0; vms && vms[i]; i++)
		look_frozen(q, vms[i], list, trouble);
	hf_words_free(vms);
}

static void say_unreadable(struct json_object *trouble, const char *folder)
{
	struct hf_err err;

	hf_err_set(&err, "cannot read %.300s: %s", folder, strerror(errno));
	add_word(trouble, err.text);
}

static bool has_saved(const char *state_dir, const char *vm)
{
	char path[PATH_MAX];
	struct stat st;

	return (size_t)snprintf(path, sizeof(path), "%s/%s/saved/save.json", state_dir, vm) <
		       sizeof(path) &&
	       stat(path, &st) == 0;
}

static void look_saved(const struct hf_shelf_query *q, struct json_object *list,
		       struct json_object *trouble)
{
	struct dirent **names;
	int n = scandir(q->state_dir, &names, NULL, alphasort);

	if (n < 0 && errno != ENOENT)
		say_unreadable(trouble, q->state_dir);
	for (int i = 0; i < n; i++) {
		const char *vm = names[i]->d_name;

		if (hf_is_valid_name(vm) && (!q->vm || strcmp(q->vm, vm) == 0) &&
		    has_saved(q->state_dir, vm))
			add_word(list, vm);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static void look_defined(const struct hf_shelf_query *q, struct json_object *list,
			 struct json_object *trouble)
{
	struct dirent **names;
	int n = q->vms_dir ? scandir(q->vms_dir, &names, NULL, alphasort) : 0;

	if (n < 0 && errno != ENOENT)
		say_unreadable(trouble, q->vms_dir);
	for (int i = 0; i < n; i++) {
		char *vm = names[i]->d_name;
		char *end = vm + strlen(vm) - strlen(SUFFIX);

		if (end > vm && strcmp(end, SUFFIX) == 0) {
			*end = '\0';
			if (hf_is_valid_name(vm) && (!q->vm || strcmp(q->vm, vm) == 0))
				add_word(list, vm);
		}
		free(names[i]);
	}
	if (n > 0)
		free(names);
}

static struct json_object *look(const struct hf_shelf_query *q)
{
	struct json_object *o = json_object_new_object();
	struct json_object *frozen = json_object_new_array();
	struct json_object *saved = json_object_new_array();
	struct json_object *defined = json_object_new_array();
	struct json_object *trouble = json_object_new_array();

	look_all_frozen(q, frozen, trouble);
	look_saved(q, saved, trouble);
	look_defined(q, defined, trouble);
	json_object_object_add(o, "frozen", frozen);
	json_object_object_add(o, "saved", saved);
	json_object_object_add(o, "defined", defined);
	json_object_object_add(o, "trouble", trouble);
	return o;
}

static void write_all(int fd, const char *text)
{
	size_t n = strlen(text);
	ssize_t done;

	while (n) {
		done = write(fd, text, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		text += done;
		n -= (size_t)done;
	}
}

/* Holds on to nothing of its parent: who waits for the end of its output waits for the parent alone. */
static void be_child(const struct hf_shelf_query *q, int fd)
{
	struct json_object *o;

	(void)signal(SIGPIPE, SIG_DFL);
	for (int i = 0; i <= STDERR_FILENO; i++)
		if (i != fd)
			(void)close(i);
	o = look(q);
	write_all(fd, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	_exit(0);
}

/* ---- the parent ---- */

int hf_shelf_start(const struct hf_shelf_query *query, struct hf_shelf *ret)
{
	int fds[2];
	pid_t pid;
	int e;

	*ret = (struct hf_shelf){ .fd = -1 };
	if (pipe(fds) < 0)
		return -errno;
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)close(fds[0]);
		be_child(query, fds[1]);
	}
	e = errno;
	(void)close(fds[1]);
	if (pid < 0) {
		(void)close(fds[0]);
		return -e;
	}
	*ret = (struct hf_shelf){ .pid = pid, .fd = fds[0] };
	return 0;
}

static int wait_more(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now;
	int r;

	do {
		now = hf_client_now_ns();
		r = poll(&p, 1, now < deadline_ns ? (int)((deadline_ns - now) / 1000000 + 1) : 0);
	} while (r < 0 && errno == EINTR);
	return r > 0 ? 0 : r < 0 ? -errno : -ETIMEDOUT;
}

/* Until the child has closed its end. */
static int read_text(int fd, uint64_t deadline_ns, char **ret, size_t *ret_n)
{
	size_t room = 65536, n = 0;
	char *text = malloc(room);
	char *more;
	ssize_t got = 1;
	int r = 0;

	while (text && !r && got) {
		r = wait_more(fd, deadline_ns);
		got = r ? 0 : read(fd, text + n, room - n);
		if (got < 0 && errno != EINTR)
			r = -errno;
		n += got > 0 ? (size_t)got : 0;
		if (n < room)
			continue;
		more = room < TEXT_MAX_BYTES ? realloc(text, room *= 2) : NULL;
		if (!more)
			r = -ENOMEM;
		else
			text = more;
	}
	if (!r && text) {
		*ret = text;
		*ret_n = n;
		return 0;
	}
	free(text);
	return r ? r : -ENOMEM;
}

/* One that hangs in the kernel cannot be waited for. */
static void let_go(struct hf_shelf *s)
{
	hf_fd_close(&s->fd);
	(void)kill(s->pid, SIGKILL);
	(void)waitpid(s->pid, NULL, WNOHANG);
}

int hf_shelf_finish(struct hf_shelf *s, uint64_t deadline_ns, struct json_object **ret,
		    struct hf_err *err)
{
	struct hf_err why = { "" };
	size_t n = 0;
	char *text;
	int r = s->fd < 0 ? -EBADF : read_text(s->fd, deadline_ns, &text, &n);

	if (!r) {
		r = hf_json_parse(text, n, ret, &why);
		free(text);
	}
	if (s->fd >= 0)
		let_go(s);
	if (!r)
		return 0;
	*ret = json_object_new_object();
	if (r == -ETIMEDOUT)
		hf_err_set(err, "the disk with definitions and frozen instances does not answer");
	else
		hf_err_set(err, "definitions and frozen instances could not be looked at: %s",
			   why.text[0] ? why.text : strerror(-r));
	return r;
}

int hf_shelf_look(const struct hf_shelf_query *query, uint64_t deadline_ns,
		  struct json_object **ret, struct hf_err *err)
{
	struct hf_shelf s;
	int r = hf_shelf_start(query, &s);

	if (r < 0) {
		*ret = json_object_new_object();
		hf_err_set(err, "cannot look for frozen instances: %s", strerror(-r));
		return r;
	}
	return hf_shelf_finish(&s, deadline_ns, ret, err);
}
