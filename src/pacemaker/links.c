/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Each second all are looked at: who is not connected and due is knocked at, and is connected to when
 * that was answered. Where a descriptor is known its end is seen at once; the controller's is not, and is looked at each
 * second, or found out by who uses it. What is not there is tried each second at first, later less often: without
 * Pacemaker this costs three forks in four seconds.
 */
#include "pacemaker/links.h"

#include <string.h>
#include <sys/epoll.h>

#define SECOND 1000000000ull
#define TICK_NS SECOND
#define EAGER_NS (60 * SECOND) /* so long after an end it is tried at each tick */
#define RETRY_NS (4 * SECOND)

static const char *const servers[HF_LINKS_COUNT] = { HF_CTRLLINK_SERVER, HF_ATTRLINK_SERVER,
						     HF_FENCELINK_SERVER };
static const char *const names[HF_LINKS_COUNT] = { "controller", "attribute manager", "fencer" };

static void close_one(struct hf_links *l, enum hf_links_which which)
{
	hf_watch_remove(&l->each[which].watch);
	l->each[which].is_up = false;
	l->each[which].since_ns = hf_now_ns();
	l->each[which].next_ns = 0;
	if (which == HF_LINKS_CONTROLLER) {
		hf_ctrllink_close(l->controller);
		l->controller = NULL;
	} else if (which == HF_LINKS_ATTRIBUTES) {
		hf_attrlink_close(l->attributes);
		l->attributes = NULL;
	} else {
		hf_fencelink_close(l->fencer);
		l->fencer = NULL;
	}
}

void hf_links_drop(struct hf_links *l, enum hf_links_which which, int error)
{
	if (!l->each[which].is_up)
		return;
	hf_log(l->journal, HF_LOG_INFO, "the connection to Pacemaker's %s is lost: %s",
	       names[which], strerror(-error));
	close_one(l, which);
	l->each[which].next_ns = hf_now_ns() + TICK_NS / 2;
	l->ops->down(l->ctx, which);
}

/* ---- what comes ---- */

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static int take(struct hf_links *l, enum hf_links_which which)
{
	int r;

	if (which == HF_LINKS_CONTROLLER)
		return hf_ctrllink_take(l->controller);
	if (which == HF_LINKS_ATTRIBUTES)
		return hf_attrlink_take(l->attributes);
	r = hf_fencelink_take(l->fencer);
	if (r > 0)
		l->ops->fenced(l->ctx);
	return r < 0 ? r : 0;
}

static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_links_one *one = ctx;
	int r = take(one->links, one->which);

	if (r < 0)
		hf_links_drop(one->links, one->which, r);
}

/* ---- connecting ---- */

static int open_one(struct hf_links *l, enum hf_links_which which, int *ret_fd)
{
	int r;

	*ret_fd = -1;
	if (which == HF_LINKS_CONTROLLER)
		return hf_ctrllink_open(&l->controller);
	r = which == HF_LINKS_ATTRIBUTES ? hf_attrlink_open(&l->attributes)
					 : hf_fencelink_open(&l->fencer);
	if (!r)
		*ret_fd = which == HF_LINKS_ATTRIBUTES ? hf_attrlink_fd(l->attributes)
						       : hf_fencelink_fd(l->fencer);
	return r;
}

static void connect_one(struct hf_links *l, struct hf_links_one *one)
{
	int fd;
	int r = open_one(l, one->which, &fd);

	if (!r && fd >= 0)
		r = hf_watch_add(&one->watch, l->loop, fd, HF_PRIORITY_NET, wanted, ready, one);
	if (r < 0) {
		hf_log(l->journal, HF_LOG_DEBUG, "Pacemaker's %s: %s", names[one->which],
		       strerror(-r));
		close_one(l, one->which);
		return;
	}
	one->is_up = true;
	one->since_ns = hf_now_ns();
	hf_log(l->journal, HF_LOG_INFO, "connected to Pacemaker's %s", names[one->which]);
	l->ops->up(l->ctx, one->which);
}

static void on_answer(void *ctx, bool is_there)
{
	struct hf_links_one *one = ctx;

	if (is_there)
		connect_one(one->links, one);
}

static void look_after(struct hf_links *l, struct hf_links_one *one, uint64_t now_ns)
{
	if (one->is_up) {
		if (one->which == HF_LINKS_CONTROLLER)
			ready(one, 0);
		return;
	}
	if (now_ns < one->next_ns || hf_knock_is_under_way(&one->knock))
		return;
	one->next_ns = now_ns + (now_ns - one->since_ns < EAGER_NS ? TICK_NS / 2 : RETRY_NS);
	if (hf_knock_begin(&one->knock, l->loop, servers[one->which], on_answer, one) < 0)
		hf_log(l->journal, HF_LOG_ERROR, "no process can be started");
}

static void on_tick(void *ctx)
{
	struct hf_links *l = ctx;
	uint64_t now_ns = hf_now_ns();

	for (unsigned int i = 0; i < HF_LINKS_COUNT; i++)
		if (l->each[i].links)
			look_after(l, &l->each[i], now_ns);
	hf_timer_set(&l->timer, l->loop, now_ns + TICK_NS, on_tick, l);
}

void hf_links_begin(struct hf_links *l, struct hf_loop *loop, struct hf_journal *journal,
		    bool is_fencer_wanted, const struct hf_links_ops *ops, void *ctx)
{
	*l = (struct hf_links){ .loop = loop, .journal = journal, .ops = ops, .ctx = ctx };
	for (unsigned int i = 0; i < HF_LINKS_COUNT; i++) {
		if (i == HF_LINKS_FENCER && !is_fencer_wanted)
			continue;
		l->each[i].links = l;
		l->each[i].which = (enum hf_links_which)i;
		l->each[i].since_ns = hf_now_ns();
	}
	on_tick(l);
}

void hf_links_end(struct hf_links *l)
{
	hf_timer_fini(&l->timer);
	for (unsigned int i = 0; i < HF_LINKS_COUNT; i++) {
		hf_knock_end(&l->each[i].knock);
		close_one(l, (enum hf_links_which)i);
	}
}
