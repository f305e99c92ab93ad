/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is known of a VM here. Its keeper knows best; holdfastd is listened to a little for what else there is to know, and
 * in earnest only where there is no keeper. Storage is not looked at: what it would say of a VM without a process is not
 * needed for the answer.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/ocf-call.h"
#include "cli/peek.h"
#include "cli/rows.h"
#include "codec/json.h"
#include "sys/rundir.h"

#define BESIDE_NS (100 * HF_OCF_MS) /* for the daemon, once the keeper has answered */
#define ENDING_NS (25 * HF_OCF_MS) /* and where it would not change what is done */
#define ALONE_NS (1500 * HF_OCF_MS) /* and where there is no keeper */
#define FULL_BACKLOG_NS (20 * HF_OCF_MS)

/* One who is asked one thing. */
struct asked {
	struct hf_client client;
	struct json_object *answer;
	enum hf_ocf_who who; /* SILENT: until it has answered */
	bool is_refused;
};

static void ask(const struct hf_ocf_call *c, const char *name, const char *method,
		struct json_object *p, uint64_t until_ns, struct asked *ret)
{
	uint64_t soon_ns = hf_client_now_ns() + FULL_BACKLOG_NS;
	struct hf_err err = { "" };
	int r;

	*ret = (struct asked){ .client = { .fd = -1 } };
	r = hf_client_open_by(c->run_dir, name, soon_ns < until_ns ? soon_ns : until_ns,
			      &ret->client, &err);
	if (r < 0)
		ret->client.fd = -1;
	if (!r)
		r = hf_client_call(&ret->client, method, p, false, &err);
	json_object_put(p);
	ret->who = r == 0 || r == -ETIMEDOUT || r == -EAGAIN ? HF_OCF_SILENT
		   : r == -EACCES || r == -EPERM             ? HF_OCF_FORBIDDEN
							     : HF_OCF_ABSENT;
}

static bool is_awaited(const struct asked *a)
{
	return a->client.fd >= 0 && a->who == HF_OCF_SILENT;
}

static void take_answer(struct asked *a)
{
	struct hf_err err = { "" };
	int r = hf_client_poll(&a->client, &a->answer, &err);

	if (r == 0)
		return;
	a->is_refused = r == -EREMOTE;
	a->who = r > 0 || a->is_refused ? HF_OCF_ANSWERS : HF_OCF_ABSENT;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Until when it is listened on, as far as is known now. */
static uint64_t patience(const struct asked *keeper, uint64_t begun_ns, bool is_ending,
			 uint64_t until_ns)
{
	if (is_awaited(keeper))
		return until_ns;
	if (is_ending)
		return earlier(until_ns, begun_ns + ENDING_NS);
	if (keeper->who == HF_OCF_ANSWERS)
		return earlier(until_ns, begun_ns + BESIDE_NS);
	return earlier(until_ns, begun_ns + ALONE_NS);
}

static void listen_to(struct asked *keeper, struct asked *daemon, bool is_ending, uint64_t until_ns)
{
	uint64_t begun_ns = hf_client_now_ns(), now_ns = begun_ns, by_ns;

	while (is_awaited(keeper) || is_awaited(daemon)) {
		struct pollfd fds[2] = {
			{ .fd = is_awaited(keeper) ? keeper->client.fd : -1, .events = POLLIN },
			{ .fd = is_awaited(daemon) ? daemon->client.fd : -1, .events = POLLIN },
		};

		by_ns = patience(keeper, begun_ns, is_ending, until_ns);
		(void)poll(fds, 2, by_ns > now_ns ? (int)((by_ns - now_ns) / HF_OCF_MS + 1) : 0);
		if (fds[0].revents)
			take_answer(keeper);
		if (fds[1].revents)
			take_answer(daemon);
		if (!fds[0].revents && !fds[1].revents && now_ns >= by_ns)
			return;
		now_ns = hf_client_now_ns();
	}
}

static void let_go(struct asked *a)
{
	hf_client_close(&a->client);
	json_object_put(a->answer);
}

static struct json_object *part(const struct asked *a, const char *key)
{
	struct json_object *value = NULL;

	if (a->answer)
		(void)!hf_json_obj(a->answer, key, &value, NULL);
	return json_object_get(value);
}

/* ---- facts ---- */

static enum hf_vm_state state_of(const char *name, enum hf_vm_state otherwise)
{
	int state = hf_vm_state_find(name);

	return state < 0 ? otherwise : (enum hf_vm_state)state;
}

static bool is_word(struct json_object *o, const char *key, const char *word)
{
	return strcmp(hf_rows_text(o, key), word) == 0;
}

static bool has_epoch(struct json_object *status)
{
	struct json_object *epochs;

	return (is_word(status, "state", "ready") || is_word(status, "state", "lost") ||
		is_word(status, "state", "promoting")) &&
	       hf_json_obj(status, "epochs", &epochs, NULL) == 0 &&
	       hf_rows_number(epochs, "committed") > 0;
}

/* Its images say so, where each host has its own. */
static bool has_run_last(struct json_object *status)
{
	struct json_object *disks;

	return hf_json_obj(status, "disks", &disks, NULL) == 0 &&
	       (is_word(disks, "condition", "owned") || is_word(disks, "condition", "held"));
}

/* One that is just starting does not say it yet. */
static bool is_standby_told(const struct hf_ocf_view *v)
{
	if (*hf_rows_text(v->status, "role"))
		return is_word(v->status, "role", "standby");
	return v->assignment.place == HF_ASSIGNED_STANDBY;
}

/* Its keeper's word. */
static void add_told(struct hf_ocf_view *v)
{
	struct hf_ocf_facts *f = &v->facts;
	struct json_object *s = v->status;
	bool is_standby = is_standby_told(v);

	f->state = state_of(hf_rows_text(s, "life"), is_standby ? HF_VM_STANDBY : HF_VM_RUNNING);
	f->is_known = true;
	f->is_alive = f->state != HF_VM_FROZEN;
	f->is_hung = f->state == HF_VM_RUNNING && is_word(s, "cause", "hang");
	f->is_primary = !is_standby;
	f->is_pause_by_user = is_word(s, "pause", "user") || is_word(s, "pause", "guest");
	f->is_pause_fault = is_word(s, "pause", "fault");
	f->has_epoch = is_standby && has_epoch(s);
	f->is_in_touch = is_standby && hf_rows_is_set(s, "connected");
	f->has_run_last |= has_run_last(s);
	(void)snprintf(v->trouble, sizeof(v->trouble), "%s",
		       is_word(s, "cause", "none") || is_word(s, "cause", "order")
			       ? ""
			       : hf_rows_text(s, "cause_text"));
}

/* There is a keeper that says nothing. */
static void add_silent(const struct hf_ocf_call *c, struct hf_ocf_view *v)
{
	struct hf_ocf_facts *f = &v->facts;
	struct hf_peek p;
	bool is_standby = v->vm ? is_word(v->vm, "role", "standby")
				: v->assignment.place == HF_ASSIGNED_STANDBY;

	hf_peek_at(c->run_dir, c->vm, &p);
	f->is_known = true;
	f->is_hung = f->is_alive = true;
	f->is_primary = !is_standby;
	f->state = is_standby ? HF_VM_STANDBY : HF_VM_RUNNING;
	(void)snprintf(v->trouble, sizeof(v->trouble), "the keeper has said nothing for %.1f s: %s",
		       (double)v->asked_ns / 1e9, p.text);
}

static enum hf_vm_state state_without_keeper(const struct hf_ocf_view *v)
{
	enum hf_vm_state state = state_of(v->vm ? hf_rows_text(v->vm, "life") : "",
					  v->frozen_id[0] ? HF_VM_FROZEN : HF_VM_SHUT_OFF);

	if (state == HF_VM_FROZEN || state == HF_VM_SAVED || state == HF_VM_CRASHED ||
	    state == HF_VM_FAILED)
		return state;
	/* What holdfastd has not heard of yet. */
	return v->frozen_id[0] ? HF_VM_FROZEN : HF_VM_SHUT_OFF;
}

/* Nobody speaks for it: what counts is whether a process of it lives. */
static void add_seen(struct hf_ocf_view *v)
{
	struct hf_ocf_facts *f = &v->facts;

	f->state = state_without_keeper(v);
	f->is_alive = v->processes.n > 0;
	/* Somebody holds its socket whom /proc does not show. One that just froze may, under its old name. */
	f->is_known &= v->keeper != HF_OCF_SILENT || f->state == HF_VM_FROZEN;
	(void)hf_ocf_processes_text(&v->processes, v->trouble, sizeof(v->trouble));
	if (v->vm && is_word(v->vm, "supervision", "starting")) {
		f->state = HF_VM_STARTING;
		f->is_primary = v->assignment.place == HF_ASSIGNED_RUN;
		f->is_alive = true;
	} else if (v->vm && !f->is_alive && f->state != HF_VM_SHUT_OFF) {
		(void)snprintf(v->trouble, sizeof(v->trouble), "%s",
			       hf_rows_text(v->vm, "cause_text"));
	}
}

static void add_daemons(struct hf_ocf_view *v)
{
	struct json_object *ids;
	size_t n;

	if (!v->vm)
		return;
	v->facts.has_run_last = hf_rows_is_set(v->vm, "has_run_last");
	v->facts.is_peer_running = *hf_rows_text(v->vm, "peer_host") &&
				   (is_word(v->vm, "peer_life", "running") ||
				    is_word(v->vm, "peer_life", "paused"));
	if (hf_json_array(v->vm, "frozen", &ids, NULL) < 0)
		return;
	n = json_object_array_length(ids);
	if (n)
		(void)snprintf(v->frozen_id, sizeof(v->frozen_id), "%s",
			       json_object_get_string(json_object_array_get_idx(ids, n - 1)));
}

/* Guarded by keepers, which have folders of their own: the newest one. */
static void find_frozen(const struct hf_ocf_call *c, struct hf_ocf_view *v)
{
	size_t n = strlen(c->vm);
	time_t newest = 0;
	struct dirent *e;
	struct stat st;
	DIR *dir = opendir(c->run_dir);

	while (dir && (e = readdir(dir))) {
		if (strncmp(e->d_name, c->vm, n) != 0 || e->d_name[n] != '@' ||
		    strlen(e->d_name + n + 1) >= sizeof(v->frozen_id) ||
		    fstatat(dirfd(dir), e->d_name, &st, 0) < 0 || st.st_mtime < newest)
			continue;
		newest = st.st_mtime;
		(void)snprintf(v->frozen_id, sizeof(v->frozen_id), "%.15s", e->d_name + n + 1);
	}
	if (dir)
		(void)closedir(dir);
}

static void add_facts(struct hf_ocf_call *c)
{
	struct hf_ocf_view *v = &c->view;
	struct hf_err err = { "" };
	int r = 0;

	add_daemons(v);
	if (!v->vm)
		find_frozen(c, v);
	if (v->keeper != HF_OCF_ANSWERS) {
		r = hf_ocf_processes_look(c->run_dir, c->vm, &v->processes, &err);
		v->facts.is_known = r == 0 && v->keeper != HF_OCF_FORBIDDEN;
	}
	if (v->keeper == HF_OCF_ANSWERS)
		add_told(v);
	else if (r < 0)
		(void)snprintf(v->trouble, sizeof(v->trouble), "%s", err.text);
	else if (v->keeper == HF_OCF_SILENT && v->processes.n)
		add_silent(c, v);
	else
		add_seen(v);
	if (v->keeper == HF_OCF_FORBIDDEN)
		(void)snprintf(v->trouble, sizeof(v->trouble),
			       "the keeper may not be asked by this user");
}

void hf_ocf_view_fini(struct hf_ocf_view *v)
{
	json_object_put(v->status);
	json_object_put(v->vm);
	*v = (struct hf_ocf_view){ .status = NULL };
}

void hf_ocf_view_take(struct hf_ocf_call *c, uint64_t until_ns)
{
	struct json_object *about = json_object_new_object();
	uint64_t begun_ns = hf_client_now_ns();
	struct hf_ocf_view *v = &c->view;
	struct asked keeper, daemon;
	struct hf_err err;

	hf_ocf_view_fini(v);
	json_object_object_add(about, "vm", json_object_new_string(c->vm));
	if (hf_assignment_read(c->run_dir, c->vm, &v->assignment, &err) < 0)
		v->assignment.place = HF_ASSIGNED_NONE;
	ask(c, c->vm, "Status", NULL, until_ns, &keeper);
	ask(c, HF_RUNDIR_HOST, "Vm", about, until_ns, &daemon);
	listen_to(&keeper, &daemon, c->is_ending, until_ns);
	v->asked_ns = hf_client_now_ns() - begun_ns;
	v->keeper = keeper.who;
	v->daemon = daemon.who;
	v->is_undefined = daemon.is_refused;
	v->status = part(&keeper, "status");
	v->vm = part(&daemon, "vm");
	let_go(&keeper);
	let_go(&daemon);
	v->facts = (struct hf_ocf_facts){
		.is_promotable = c->is_promotable,
		.is_probe = c->is_probe,
		.is_paused_failure = c->is_paused_failure,
		/* A cluster that has found it promoted, by a probe, does not promote it again. */
		.is_assigned_standby = v->assignment.place == HF_ASSIGNED_STANDBY &&
				       !c->is_believed_promoted,
	};
	add_facts(c);
}

enum hf_ocf hf_ocf_view_judge(struct hf_ocf_call *c, struct hf_ocf_verdict *ret)
{
	const struct hf_ocf_view *v = &c->view;
	const char *id = v->facts.state == HF_VM_FROZEN ? v->frozen_id : "";

	hf_ocf_monitor(&v->facts, ret);
	return hf_ocf_say(c, ret->rc, "%s%s%s%s%s", ret->reason, *id ? ", as " : "", id,
			  ret->reason[0] && v->trouble[0] ? ": " : "",
			  ret->reason[0] ? v->trouble : "");
}
