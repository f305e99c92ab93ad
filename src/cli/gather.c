/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/gather.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/peek.h"
#include "cli/rows.h"
#include "cli/shelf.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define ASKED_MAX 4096
#define CALLS_MAX 4
#define FULL_BACKLOG_NS 20000000ull /* for one that takes no connections now */
#define MARGIN_NS 200000000ull /* of the time limit, for what comes after the answers */

/* One service, and the answers to the calls that were sent to it, which come in their order. */
struct asked {
	struct hf_instance at; /* of a keeper */
	struct hf_client client;
	struct json_object *answer[CALLS_MAX];
	struct hf_err why[CALLS_MAX];
	unsigned int n_calls, n_answers;
	bool is_open, is_silent;
};

struct asking {
	const struct hf_verb_options *o;
	const struct hf_instance *only;
	struct hf_gather *g;
	uint64_t deadline_ns;
	struct asked daemon;
	struct asked *keepers;
	size_t n_keepers;
};

static void add_trouble(struct hf_gather *g, const char *text)
{
	json_object_array_add(g->troubles, json_object_new_string(text));
}

/* ---- asking ---- */

static int open_one(struct asking *a, const char *name, struct asked *s, struct hf_err *err)
{
	uint64_t soon = hf_client_now_ns() + FULL_BACKLOG_NS;
	int r = hf_client_open_by(a->o->run_dir, name,
				  soon < a->deadline_ns ? soon : a->deadline_ns, &s->client, err);

	s->is_open = r == 0;
	s->is_silent = r == -ETIMEDOUT;
	return r;
}

static void call(struct asked *s, const char *method)
{
	if (s->is_open && hf_client_call(&s->client, method, NULL, false, NULL) == 0)
		s->n_calls++;
}

static void end(struct asked *s)
{
	if (s->is_open)
		hf_client_close(&s->client);
	s->is_open = false;
}

/* All that has come. */
static void take_answers(struct asked *s)
{
	struct json_object *answer;
	int r = 1;

	while (s->n_answers < s->n_calls && r != 0) {
		answer = NULL;
		r = hf_client_poll(&s->client, &answer, &s->why[s->n_answers]);
		if (r == 0)
			return;
		if (r > 0)
			s->answer[s->n_answers] = answer;
		else if (r != -EREMOTE)
			s->n_calls = s->n_answers; /* it has ended, or makes no sense */
		s->n_answers += s->n_answers < s->n_calls;
	}
	end(s);
}

static size_t collect(struct asking *a, struct pollfd *fds, struct asked **whose)
{
	size_t n = 0;

	for (size_t i = 0; i <= a->n_keepers; i++) {
		struct asked *s = i ? &a->keepers[i - 1] : &a->daemon;

		if (!s->is_open)
			continue;
		fds[n] = (struct pollfd){ .fd = s->client.fd, .events = POLLIN };
		whose[n++] = s;
	}
	return n;
}

static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = hf_client_now_ns();

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

static void take_all(struct asking *a)
{
	struct pollfd *fds = calloc(a->n_keepers + 1, sizeof(*fds));
	struct asked **whose = calloc(a->n_keepers + 1, sizeof(struct asked *));
	size_t n;
	int left;

	while (fds && whose && (n = collect(a, fds, whose)) > 0) {
		left = left_ms(a->deadline_ns);
		if (poll(fds, n, left) == 0 && left == 0)
			break;
		for (size_t i = 0; i < n; i++)
			if (fds[i].revents)
				take_answers(whose[i]);
	}
	free(fds);
	free(whose);
}

/* ---- whom to ask ---- */

static bool is_wanted(const struct asking *a, const struct hf_instance *at)
{
	return !a->only || strcmp(a->only->vm, at->vm) == 0;
}

static void ask_keeper(struct asking *a, const struct hf_instance *at, const char *name)
{
	struct asked *s = &a->keepers[a->n_keepers];
	struct hf_err err = { "" };
	int r;

	*s = (struct asked){ .at = *at };
	r = open_one(a, name, s, &err);
	/* A folder that a dead one has left behind is nobody's. */
	if (r < 0 && r != -ETIMEDOUT) {
		if (r != -ESRCH)
			add_trouble(a->g, err.text);
		a->g->is_forbidden |= r == -EACCES || r == -EPERM;
		return;
	}
	a->n_keepers++;
	call(s, "Status");
}

static void ask_keepers(struct asking *a)
{
	struct dirent **names;
	struct hf_instance at;
	int n = scandir(a->o->run_dir, &names, NULL, alphasort);
	char text[512];

	if (n < 0 && errno != ENOENT) {
		(void)snprintf(text, sizeof(text), "cannot read %.300s: %s", a->o->run_dir,
			       strerror(errno));
		add_trouble(a->g, text);
		a->g->is_forbidden = true;
	}
	a->keepers = calloc(n > 0 ? (size_t)n : 1, sizeof(*a->keepers));
	for (int i = 0; i < n; i++) {
		if (a->keepers && i < ASKED_MAX && names[i]->d_name[0] != '.' &&
		    hf_instance_parse(names[i]->d_name, &at, NULL) == 0 && is_wanted(a, &at))
			ask_keeper(a, &at, names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static bool has_daemons_folder(const char *run_dir)
{
	char path[PATH_MAX];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", run_dir, HF_RUNDIR_HOST);
	return stat(path, &st) == 0;
}

static void ask_daemon(struct asking *a, bool is_whole)
{
	struct hf_gather *g = a->g;
	struct hf_err err = { "" };
	int r = open_one(a, HF_RUNDIR_HOST, &a->daemon, &err);

	g->daemon = r == 0 || r == -ETIMEDOUT           ? HF_GATHER_SILENT /* so far */
		    : r == -EACCES || r == -EPERM       ? HF_GATHER_FORBIDDEN
		    : has_daemons_folder(a->o->run_dir) ? HF_GATHER_DEAD
							: HF_GATHER_ABSENT;
	(void)snprintf(g->daemon_text, sizeof(g->daemon_text), "%s", err.text);
	call(&a->daemon, "Vms");
	call(&a->daemon, "Status"); /* for the name of this host */
	if (!is_whole)
		return;
	call(&a->daemon, "Hosts");
	call(&a->daemon, "Leases");
}

/* ---- what they said ---- */

static struct json_object *part(struct asked *s, unsigned int i, const char *key, bool is_array)
{
	struct json_object *value = NULL;

	if (is_array)
		(void)!hf_json_array(s->answer[i], key, &value, NULL);
	else
		(void)!hf_json_obj(s->answer[i], key, &value, NULL);
	return json_object_get(value);
}

static void add_silent(struct asking *a, const struct hf_instance *at)
{
	char name[HF_INSTANCE_TEXT];
	struct hf_peek p;

	hf_peek_at(a->o->run_dir, hf_instance_format(at, name), &p);
	hf_rows_add_silent(a->g->rows, at, p.text, p.pid, p.qemu_pid);
	a->g->is_late = true;
}

static void add_keepers(struct asking *a)
{
	struct json_object *status;

	for (size_t i = 0; i < a->n_keepers; i++) {
		struct asked *s = &a->keepers[i];

		status = part(s, 0, "status", false);
		if (status)
			hf_rows_add_keeper(a->g->rows, &s->at, status);
		else if (s->is_open || s->is_silent)
			add_silent(a, &s->at);
		/* else: it has ended since */
		json_object_put(status);
	}
}

static void add_daemons(struct asking *a)
{
	struct hf_gather *g = a->g;
	struct hf_peek p;

	if (a->daemon.n_answers > 0)
		g->daemon = HF_GATHER_ANSWERS;
	else if (g->daemon == HF_GATHER_SILENT && !a->daemon.is_open && !a->daemon.is_silent)
		g->daemon = HF_GATHER_DEAD; /* just now */
	g->vms = part(&a->daemon, 0, "vms", true);
	g->host = part(&a->daemon, 1, "host", false);
	g->hosts = part(&a->daemon, 2, "hosts", true);
	g->leases = part(&a->daemon, 3, "leases", true);
	if (g->daemon == HF_GATHER_SILENT) {
		hf_peek_at(a->o->run_dir, HF_RUNDIR_HOST, &p);
		(void)snprintf(g->daemon_text, sizeof(g->daemon_text),
			       "holdfastd does not answer: %s", p.text);
	}
	if (a->daemon.is_open || a->daemon.is_silent)
		g->is_late = true;
	if (*hf_rows_text(g->host, "host"))
		(void)snprintf(g->host_name, sizeof(g->host_name), "%s",
			       hf_rows_text(g->host, "host"));
	for (size_t i = 0; g->vms && i < json_object_array_length(g->vms); i++) {
		struct json_object *vm = json_object_array_get_idx(g->vms, i);

		if (!a->only || strcmp(a->only->vm, hf_rows_text(vm, "vm")) == 0)
			hf_rows_add_daemons(g->rows, vm);
	}
}

static void each_name(struct json_object *shelf, const char *key, struct json_object *rows,
		      void (*add)(struct json_object *rows, const char *vm))
{
	struct json_object *list;

	if (hf_json_array(shelf, key, &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		add(rows, json_object_get_string(json_object_array_get_idx(list, i)));
}

static void add_troubles_of(struct hf_gather *g, struct json_object *shelf)
{
	struct json_object *list;

	if (hf_json_array(shelf, "trouble", &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		add_trouble(g, json_object_get_string(json_object_array_get_idx(list, i)));
}

static void add_frozen(struct hf_gather *g, struct json_object *shelf)
{
	struct json_object *list;

	if (hf_json_array(shelf, "frozen", &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		hf_rows_add_frozen(g->rows, json_object_array_get_idx(list, i));
}

static struct json_object *take_shelf(struct asking *a, struct hf_shelf *s)
{
	struct json_object *shelf;
	struct hf_err err = { "" };
	int r = hf_shelf_finish(s, a->deadline_ns, &shelf, &err);

	if (r < 0)
		add_trouble(a->g, err.text);
	a->g->is_late |= r == -ETIMEDOUT;
	add_troubles_of(a->g, shelf);
	return shelf;
}

/* A descriptor for each keeper. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max < ASKED_MAX + 64 ? limit.rlim_max : ASKED_MAX + 64;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void forget(struct asked *s)
{
	end(s);
	for (unsigned int i = 0; i < CALLS_MAX; i++)
		json_object_put(s->answer[i]);
}

static void start(struct asking *a, const struct hf_instance *only)
{
	struct hf_gather *g = a->g;
	uint64_t limit_ns = a->o->timeout_ns;

	*g = (struct hf_gather){ .rows = json_object_new_array(),
				 .troubles = json_object_new_array() };
	(void)gethostname(g->host_name, sizeof(g->host_name) - 1);
	a->only = only;
	a->deadline_ns = a->o->deadline_ns - (limit_ns / 8 < MARGIN_NS ? limit_ns / 8 : MARGIN_NS);
	allow_descriptors();
}

void hf_gather_all(const struct hf_verb_options *o, const struct hf_instance *only, bool is_whole,
		   struct hf_gather *ret)
{
	struct hf_shelf_query query = { o->state_dir, o->vms_dir, only ? only->vm : NULL };
	struct asking a = { .o = o, .g = ret };
	struct json_object *on_disk;
	struct hf_shelf shelf;

	start(&a, only);
	(void)!hf_shelf_start(&query, &shelf);
	ask_daemon(&a, is_whole);
	ask_keepers(&a);
	take_all(&a);
	on_disk = take_shelf(&a, &shelf);
	add_keepers(&a);
	add_frozen(ret, on_disk);
	add_daemons(&a);
	each_name(on_disk, "saved", ret->rows, hf_rows_add_saved);
	each_name(on_disk, "defined", ret->rows, hf_rows_add_defined);
	hf_rows_finish(ret->rows, ret->host_name);
	json_object_put(on_disk);
	for (size_t i = 0; i < a.n_keepers; i++)
		forget(&a.keepers[i]);
	forget(&a.daemon);
	free(a.keepers);
}

void hf_gather_fini(struct hf_gather *g)
{
	json_object_put(g->rows);
	json_object_put(g->troubles);
	json_object_put(g->vms);
	json_object_put(g->host);
	json_object_put(g->hosts);
	json_object_put(g->leases);
}

const char *hf_gather_daemon_name(enum hf_gather_daemon d)
{
	static const char *const names[] = { "answers", "silent", "dead", "absent", "forbidden" };

	return names[d];
}

/* ---- which row ---- */

static bool is_candidate(struct json_object *row, const struct hf_instance *which)
{
	const char *id = hf_rows_text(row, "id");

	return strcmp(hf_rows_text(row, "vm"), which->vm) == 0 &&
	       (!which->id[0] || strncmp(id, which->id, strlen(which->id)) == 0) &&
	       (!which->id[0] || *id);
}

static void name_all(const struct hf_gather *g, const struct hf_instance *which, char *ret,
		     size_t size)
{
	size_t n = 0;

	*ret = '\0';
	for (size_t i = 0; i < json_object_array_length(g->rows); i++) {
		struct json_object *row = json_object_array_get_idx(g->rows, i);

		if (is_candidate(row, which) && hf_json_has(row, "id") && n < size)
			n += (size_t)snprintf(ret + n, size - n, "%s%s", n ? ", " : "",
					      hf_rows_text(row, "name"));
	}
}

/* A name without an id is that of what runs, or else of the only frozen one. */
static bool counts(struct json_object *row)
{
	return hf_json_has(row, "id") || hf_rows_number(row, "keeper_pid") > 0 ||
	       hf_json_has(row, "answers") || hf_rows_is_set(row, "saved");
}

int hf_gather_choose(const struct hf_gather *g, const struct hf_instance *which,
		     struct json_object **ret, struct hf_err *err)
{
	struct json_object *found = NULL, *idle = NULL;
	char names[256];
	unsigned int n = 0;

	for (size_t i = 0; i < json_object_array_length(g->rows); i++) {
		struct json_object *row = json_object_array_get_idx(g->rows, i);

		if (!is_candidate(row, which))
			continue;
		if (!hf_json_has(row, "id") && counts(row)) {
			*ret = row;
			return 0;
		}
		if (!counts(row)) {
			idle = row;
			continue;
		}
		found = row;
		n++;
	}
	if (n > 1) {
		name_all(g, which, names, sizeof(names));
		hf_err_set(err, "%s%s%s means any of %s: say which", which->vm,
			   which->id[0] ? "@" : "", which->id, names);
		return -EEXIST;
	}
	*ret = found ? found : idle;
	if (*ret)
		return 0;
	hf_err_set(err, "there is no '%s%s%s' on this host: `holdfast list` shows what is there",
		   which->vm, which->id[0] ? "@" : "", which->id);
	return -ESRCH;
}
