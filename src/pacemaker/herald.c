/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. For each VM there is what the daemon said of it last, what the cluster has decided (its file is
 * read anew at each look: it lies in a tmpfs), and the machine, which says what is owed. A look is taken after each change
 * of any of them: a VM's event, a file that was written (inotify), a connection that is there again.
 *
 * An action that fails loses its connection, which is made again, and then all VMs are looked at.
 */
#include "pacemaker/herald.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/announce.h"
#include "pacemaker/vmfacts.h"
#include "sys/fd.h"
#include "vm/assignment.h"

#define VMS_MAX 4096u
#define LOCK_MS 100u
#define AGAIN_NS 50000000ull
#define FRESH_NS 1000000000ull /* so long the manager may take to begin to deal with a failure */
#define ACTIONS_MAX 16u /* at one look; six would be all there is to do */
#define ATTRIBUTE_MAX (HF_ASSIGNMENT_TEXT_MAX + 32)

struct told {
	struct hf_vmfacts facts; /* .vm: its name */
	struct hf_assignment assignment;
	struct hf_announce machine;
	uint64_t seen_ns; /* on hf_now_ns()'s clock: when its trouble was first seen */
	uint64_t up_placed_ns; /* the decision under which it was last seen up */
	int assignment_rc;
	bool is_there; /* facts are what the daemon says */
	bool is_listed; /* by Vms(), while that is read */
};

struct hf_herald {
	struct hf_loop *loop;
	struct hf_journal *journal;
	const char *run_dir;
	struct hf_links *links;
	struct told **vms;
	unsigned int n_vms;
	int inotify_fd;
	struct hf_watch watch;
	struct hf_timer again_timer;
};

/* ---- one VM ---- */

static struct told *find(struct hf_herald *h, const char *vm)
{
	for (unsigned int i = 0; i < h->n_vms; i++)
		if (strcmp(h->vms[i]->facts.vm, vm) == 0)
			return h->vms[i];
	return NULL;
}

static struct told *find_or_add(struct hf_herald *h, const char *vm)
{
	struct told *t = find(h, vm);
	struct told **grown;

	if (t || h->n_vms == VMS_MAX)
		return t;
	grown = realloc(h->vms, (h->n_vms + 1) * sizeof(struct told *));
	if (!grown)
		return NULL;
	h->vms = grown;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	(void)snprintf(t->facts.vm, sizeof(t->facts.vm), "%s", vm);
	t->assignment_rc = -ENOENT;
	h->vms[h->n_vms++] = t;
	return t;
}

/* A file that went, or is damaged, leaves the resource's name as it was: there may be attributes to delete. */
static void read_assignment(struct hf_herald *h, struct told *t)
{
	struct hf_assignment a;
	struct hf_err err = { "" };
	int r = hf_assignment_read(h->run_dir, t->facts.vm, &a, &err);

	if (r < 0 && r != -ENOENT && t->assignment_rc != r)
		hf_log(h->journal, HF_LOG_ERROR, "%s: %s", t->facts.vm, err.text);
	t->assignment_rc = r;
	if (r < 0)
		return;
	if (strcmp(a.resource, t->assignment.resource) != 0)
		t->machine = (struct hf_announce){ 0 };
	t->assignment = a;
}

static bool is_up(enum hf_vm_state state)
{
	return state == HF_VM_RUNNING || state == HF_VM_PAUSED || state == HF_VM_STANDBY ||
	       state == HF_VM_MIGRATING;
}

static void gather(struct hf_herald *h, struct told *t, struct hf_announce_facts *ret)
{
	read_assignment(h, t);
	hf_vmfacts_announce(t->is_there ? &t->facts : NULL, &t->assignment, t->assignment_rc, ret);
	if (t->is_there && is_up(t->facts.state))
		t->up_placed_ns = t->assignment.time_ns;
	ret->is_unborn = t->up_placed_ns != t->assignment.time_ns;
	ret->is_fresh = hf_now_ns() - t->seen_ns < FRESH_NS;
}

static struct hf_announce_links what_is_there(const struct hf_herald *h)
{
	/* Whose node's attributes they are is known from the controller, and needed to ask. */
	return (struct hf_announce_links){
		.has_attributes = h->links->attributes && h->links->controller,
		.has_controller = h->links->controller,
	};
}

/* ---- what is done ---- */

static const char *attribute(const struct told *t, const char *before, const char *after, char *buf)
{
	(void)snprintf(buf, ATTRIBUTE_MAX, "%s%s%s", before, t->assignment.resource, after);
	return buf;
}

static int write_score(struct hf_herald *h, const struct told *t, const struct hf_announce_facts *f)
{
	char name[ATTRIBUTE_MAX], value[16];

	(void)snprintf(value, sizeof(value), "%d", f->score);
	return hf_attrlink_write(h->links->attributes, attribute(t, "master-", "", name),
				 f->score ? value : NULL);
}

static int write_trouble(struct hf_herald *h, const struct told *t,
			 const struct hf_announce_facts *f)
{
	char name[ATTRIBUTE_MAX];

	return hf_attrlink_write(h->links->attributes, attribute(t, "holdfast-", "", name),
				 f->trouble ? hf_trouble_name(f->trouble) : NULL);
}

static int write_reason(struct hf_herald *h, const struct told *t,
			const struct hf_announce_facts *f)
{
	char name[ATTRIBUTE_MAX], value[HF_VMFACTS_REASON_MAX + 1];

	if (f->reason)
		(void)hf_vmfacts_reason(&t->facts, value, sizeof(value));
	return hf_attrlink_write(h->links->attributes, attribute(t, "holdfast-", "-reason", name),
				 f->reason ? value : NULL);
}

/* A word that is not ours counts as none, and is replaced. */
static int ask(struct hf_herald *h, struct told *t)
{
	char name[ATTRIBUTE_MAX], value[32] = "";
	int r = hf_attrlink_ask(h->links->attributes, attribute(t, "holdfast-", "", name),
				hf_ctrllink_node(h->links->controller), value, sizeof(value));
	int trouble = r ? -1 : hf_trouble_find(value);

	if (r < 0 && r != -ENOENT && r != -EMSGSIZE)
		return r;
	hf_announce_asked(&t->machine, trouble < 0 ? HF_TROUBLE_NONE : (enum hf_trouble)trouble);
	return 0;
}

static int clean(struct hf_herald *h, const struct told *t)
{
	const struct hf_assignment *a = &t->assignment;
	int r = hf_attrlink_forgive(h->links->attributes, a->resource,
				    hf_ctrllink_node(h->links->controller));

	if (r < 0) {
		hf_links_drop(h->links, HF_LINKS_ATTRIBUTES, r);
		return r;
	}
	r = hf_ctrllink_refresh(h->links->controller, a->resource, a->instance);
	if (r < 0)
		hf_links_drop(h->links, HF_LINKS_CONTROLLER, r);
	else
		hf_log(h->journal, HF_LOG_INFO, "%s: its failures on this host are cleared",
		       t->facts.vm);
	return r;
}

static void on_again(void *ctx);

/* The timer may come early for one of several: then it is set again. */
static void look_again_in(struct hf_herald *h, uint64_t in_ns)
{
	hf_timer_set(&h->again_timer, h->loop, hf_now_ns() + in_ns, on_again, h);
}

/* With the lock held: if it has to be said still. 0: said; 1: not any more; -errno. */
static int fail_locked(struct hf_herald *h, struct told *t, struct hf_announce_facts *f)
{
	struct hf_announce_links links = what_is_there(h);
	const struct hf_assignment *a = &t->assignment;
	int r;

	gather(h, t, f);
	if (hf_announce_next(&t->machine, f, &links) != HF_ANNOUNCE_FAIL)
		return 1;
	r = hf_ctrllink_fail(h->links->controller, a->resource, a->instance);
	if (r < 0) /* before the lock goes: what was not taken yet never is */
		hf_links_drop(h->links, HF_LINKS_CONTROLLER, r);
	else
		hf_log(h->journal, HF_LOG_INFO,
		       "%s: Pacemaker was told that %s has failed here (%s)", t->facts.vm,
		       a->resource, hf_trouble_name(f->trouble));
	return r;
}

static int fail(struct hf_herald *h, struct told *t, struct hf_announce_facts *f)
{
	struct hf_err err = { "" };
	int lock = hf_assignment_lock(h->run_dir, t->facts.vm, LOCK_MS, &err);
	int r;

	if (lock < 0) {
		if (lock != -ETIMEDOUT)
			hf_log(h->journal, HF_LOG_ERROR, "%s: %s", t->facts.vm, err.text);
		look_again_in(h, AGAIN_NS);
		return lock;
	}
	r = fail_locked(h, t, f);
	hf_fd_close(&lock);
	return r;
}

/* 0: done; 1: nothing was; -errno: stop here. */
static int carry_out(struct hf_herald *h, struct told *t, enum hf_announce_action action,
		     struct hf_announce_facts *f)
{
	int r = -EINVAL;

	if (action == HF_ANNOUNCE_FAIL)
		return fail(h, t, f);
	if (action == HF_ANNOUNCE_CLEAN)
		return clean(h, t);
	if (action == HF_ANNOUNCE_ASK)
		r = ask(h, t);
	else if (action == HF_ANNOUNCE_SCORE)
		r = write_score(h, t, f);
	else if (action == HF_ANNOUNCE_TROUBLE)
		r = write_trouble(h, t, f);
	else if (action == HF_ANNOUNCE_REASON)
		r = write_reason(h, t, f);
	if (r < 0)
		hf_links_drop(h->links, HF_LINKS_ATTRIBUTES, r);
	return r;
}

static void look(struct hf_herald *h, struct told *t)
{
	enum hf_announce_action action;
	struct hf_announce_facts f;
	struct hf_announce_links links;
	int r = 0;

	for (unsigned int i = 0; r >= 0 && i < ACTIONS_MAX; i++) {
		gather(h, t, &f);
		if (!t->assignment.resource[0])
			return; /* nothing was ever decided about it */
		links = what_is_there(h);
		action = hf_announce_next(&t->machine, &f, &links);
		if (action == HF_ANNOUNCE_NOTHING)
			break;
		r = carry_out(h, t, action, &f);
		hf_log(h->journal, HF_LOG_DEBUG, "%s: %s: %d", t->facts.vm,
		       hf_announce_action_name(action), r);
		if (r == 0)
			hf_announce_done(&t->machine, &f, action);
	}
	if (r >= 0 && f.is_fresh && f.trouble)
		look_again_in(h, FRESH_NS / 4);
}

static void look_at_all(struct hf_herald *h)
{
	for (unsigned int i = 0; i < h->n_vms; i++)
		look(h, h->vms[i]);
}

static void on_again(void *ctx)
{
	look_at_all(ctx);
}

/* ---- what others say ---- */

/*
 * Since when it is in trouble: by the event for which it was asked for; 0 when it was so before anybody looked. A start
 * that has only been ordered leaves what was wrong before as it was, so that keeps its time.
 */
static uint64_t since(const struct told *t, const struct hf_vmfacts *now, uint64_t event_ns)
{
	enum hf_trouble trouble = hf_vmfacts_trouble(now);
	bool is_same = t->is_there && hf_vmfacts_trouble(&t->facts) == trouble &&
		       strcmp(t->facts.id, now->id) == 0;

	if (!trouble)
		return 0;
	if (is_same)
		return t->facts.since_ns;
	return t->is_there ? event_ns : 0;
}

/* Why the instance that is kept was frozen: what was said of it before anything else was here. */
static void keep_reason(const struct told *t, struct hf_vmfacts *now)
{
	bool is_same = t->is_there && strcmp(t->facts.id, now->id) == 0;

	now->kept[0] = '\0';
	if (!now->id[0])
		return;
	if (is_same && t->facts.kept[0])
		memcpy(now->kept, t->facts.kept, sizeof(now->kept));
	else if (hf_vmfacts_trouble(now) == HF_TROUBLE_FROZEN && now->cause != HF_VM_CAUSE_NONE)
		(void)hf_vmfacts_reason(now, now->kept, sizeof(now->kept));
}

/* @event_ns 0: unknown. */
static struct told *take(struct hf_herald *h, const struct json_object *vm, uint64_t event_ns)
{
	struct hf_err err = { "" };
	struct hf_vmfacts facts;
	struct told *t;

	if (hf_vmfacts_read(vm, &facts, &err) < 0) {
		hf_log(h->journal, HF_LOG_ERROR, "what the host's daemon says: %s", err.text);
		return NULL;
	}
	t = find_or_add(h, facts.vm);
	if (!t)
		return NULL;
	facts.since_ns = since(t, &facts, event_ns);
	keep_reason(t, &facts);
	if (!t->is_there || hf_vmfacts_trouble(&facts) != hf_vmfacts_trouble(&t->facts))
		t->seen_ns = hf_now_ns();
	t->facts = facts;
	t->is_there = t->is_listed = true;
	return t;
}

void hf_herald_take_vm(struct hf_herald *h, const struct json_object *vm, uint64_t event_ns)
{
	struct told *t = take(h, vm, event_ns);

	if (t)
		look(h, t);
}

void hf_herald_take_gone(struct hf_herald *h, const char *vm)
{
	struct told *t = find(h, vm);

	if (!t)
		return;
	t->is_there = false;
	look(h, t);
}

void hf_herald_take_all(struct hf_herald *h, struct json_object *vms)
{
	size_t n = json_object_array_length(vms);

	for (unsigned int i = 0; i < h->n_vms; i++)
		h->vms[i]->is_listed = false;
	for (size_t i = 0; i < n; i++)
		(void)take(h, json_object_array_get_idx(vms, i), hf_now_real_ns());
	for (unsigned int i = 0; i < h->n_vms; i++)
		h->vms[i]->is_there = h->vms[i]->is_listed;
	look_at_all(h);
}

void hf_herald_up(struct hf_herald *h)
{
	look_at_all(h);
}

void hf_herald_down(struct hf_herald *h, enum hf_links_which which)
{
	for (unsigned int i = 0; i < h->n_vms; i++) {
		if (which == HF_LINKS_ATTRIBUTES)
			hf_announce_lost_attributes(&h->vms[i]->machine);
		else if (which == HF_LINKS_CONTROLLER)
			hf_announce_lost_controller(&h->vms[i]->machine);
	}
}

/* ---- files that change ---- */

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void on_files(void *ctx, uint32_t revents __attribute__((unused)))
{
	char buf[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct hf_herald *h = ctx;
	const struct inotify_event *e;
	struct told *t;
	ssize_t n = read(h->inotify_fd, buf, sizeof(buf));

	for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(*e) + e->len)) {
		e = (const struct inotify_event *)(const void *)(buf + at);
		if (e->mask & IN_Q_OVERFLOW)
			look_at_all(h);
		t = e->len ? find(h, e->name) : NULL;
		if (t)
			look(h, t);
	}
}

static int watch_files(struct hf_herald *h, struct hf_err *err)
{
	char folder[PATH_MAX];
	int r;

	(void)snprintf(folder, sizeof(folder), "%s/" HF_ASSIGNMENT_DIR, h->run_dir);
	if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
		r = -errno;
		hf_err_set(err, "%s: %s", folder, strerror(-r));
		return r;
	}
	h->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (h->inotify_fd < 0 || inotify_add_watch(h->inotify_fd, folder,
						   IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE) < 0) {
		r = -errno;
		hf_err_set(err, "%s cannot be watched: %s", folder, strerror(-r));
		return r;
	}
	return hf_watch_add(&h->watch, h->loop, h->inotify_fd, HF_PRIORITY_NET, wanted, on_files,
			    h);
}

int hf_herald_new(struct hf_loop *loop, struct hf_journal *journal, const char *run_dir,
		  struct hf_links *links, struct hf_herald **ret, struct hf_err *err)
{
	struct hf_herald *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->loop = loop;
	h->journal = journal;
	h->run_dir = run_dir;
	h->links = links;
	h->inotify_fd = -1;
	r = watch_files(h, err);
	if (r < 0)
		hf_herald_free(h);
	else
		*ret = h;
	return r;
}

void hf_herald_free(struct hf_herald *h)
{
	if (!h)
		return;
	hf_watch_remove(&h->watch);
	hf_timer_fini(&h->again_timer);
	hf_fd_close(&h->inotify_fd);
	for (unsigned int i = 0; i < h->n_vms; i++)
		free(h->vms[i]);
	free(h->vms);
	free(h);
}
