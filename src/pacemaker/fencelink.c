/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pacemaker/fencelink.h"

#include <crm/stonith-ng.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pacemaker/pcmk.h"

#define SECOND 1000000000ull
#define REBOOT_MAX_NS (600 * SECOND) /* none takes longer: stonith-timeout is 60 s, mostly */
#define FACTS_MAX 64u /* nodes; a cluster has fewer */

struct hf_fencelink {
	stonith_t *st;
	int fd;
};

static bool is_news; /* the library's callback has no context of ours */

static void on_fenced(stonith_t *st __attribute__((unused)),
		      stonith_event_t *event __attribute__((unused)))
{
	is_news = true;
}

static int meet(struct hf_fencelink *l)
{
	char name[] = "holdfast-pacemaker";
	int r;

	l->st = stonith_api_new();
	if (!l->st)
		return -ENOMEM;
	r = l->st->cmds->connect(l->st, name, &l->fd);
	if (r == 0)
		r = l->st->cmds->register_notification(l->st, T_STONITH_NOTIFY_FENCE, on_fenced);
	return r < 0 ? -ENOTCONN : 0;
}

int hf_fencelink_open(struct hf_fencelink **ret)
{
	struct hf_fencelink *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	hf_pcmk_begin();
	r = meet(l);
	hf_pcmk_end();
	if (r < 0)
		hf_fencelink_close(l);
	else
		*ret = l;
	return r;
}

void hf_fencelink_close(struct hf_fencelink *l)
{
	if (!l)
		return;
	if (l->st) {
		(void)l->st->cmds->disconnect(l->st);
		stonith_api_delete(l->st);
	}
	free(l);
}

int hf_fencelink_fd(const struct hf_fencelink *l)
{
	return l->fd;
}

int hf_fencelink_take(struct hf_fencelink *l)
{
	bool is_connected;

	is_news = false;
	hf_pcmk_begin();
	is_connected = stonith_dispatch(l->st);
	hf_pcmk_end();
	return is_connected ? is_news : -ENOTCONN;
}

/* ---- the history ---- */

static uint64_t time_of(const stonith_history_t *h)
{
	bool is_real = h->completed > 0 && h->completed_nsec >= 0 && h->completed_nsec < 1000000000;

	return is_real ? (uint64_t)h->completed * SECOND + (uint64_t)h->completed_nsec : 0;
}

static bool is_death(const stonith_history_t *h)
{
	return h->state == st_done && h->target && h->action &&
	       (strcmp(h->action, "off") == 0 || strcmp(h->action, "reboot") == 0) &&
	       strlen(h->target) <= HF_FENCELINK_TEXT_MAX;
}

/*
 * A reboot is over when its agent says so, which may wait long after the power was switched on again (power_wait, clouds
 * that wait for the guest). By then the node may have booted, and joined anew: what has is not what was cut off. When it
 * was is in no record. What was switched off has no power yet.
 */
static uint64_t begun_at(const stonith_history_t *h)
{
	uint64_t over_ns = time_of(h);

	if (strcmp(h->action, "off") == 0)
		return over_ns;
	return over_ns > REBOOT_MAX_NS ? over_ns - REBOOT_MAX_NS : 0;
}

static void note(struct hf_fencelink_fact *fact, const stonith_history_t *h)
{
	(void)snprintf(fact->node, sizeof(fact->node), "%s", h->target);
	(void)snprintf(fact->text, sizeof(fact->text), "%s by %s for %s", h->action,
		       h->delegate ? h->delegate : "?", h->client ? h->client : "?");
	fact->time_ns = time_of(h);
	fact->begun_ns = begun_at(h);
}

/* The last time of each node. Return: how many. */
static unsigned int sift(const stonith_history_t *history, uint64_t since_ns,
			 struct hf_fencelink_fact *facts)
{
	unsigned int n = 0, i;

	for (const stonith_history_t *h = history; h; h = h->next) {
		if (!is_death(h) || time_of(h) <= since_ns)
			continue;
		for (i = 0; i < n && strcmp(facts[i].node, h->target) != 0; i++)
			;
		if (i == FACTS_MAX || (i < n && facts[i].time_ns >= time_of(h)))
			continue;
		note(&facts[i], h);
		n += i == n;
	}
	return n;
}

static int by_time(const void *a, const void *b)
{
	const struct hf_fencelink_fact *x = a, *y = b;

	return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

int hf_fencelink_list(struct hf_fencelink *l, uint64_t since_ns, hf_fencelink_take_fact *take,
		      void *ctx)
{
	static struct hf_fencelink_fact facts[FACTS_MAX];
	stonith_history_t *history = NULL;
	unsigned int n;
	int r;

	hf_pcmk_begin();
	r = l->st->cmds->history(l->st, st_opt_none, NULL, &history, HF_PCMK_ANSWER_MS / 1000);
	hf_pcmk_end();
	n = r == 0 ? sift(history, since_ns, facts) : 0;
	stonith_history_free(history);
	if (r < 0)
		return -ENOTCONN;
	qsort(facts, n, sizeof(facts[0]), by_time);
	for (unsigned int i = 0; !r && i < n; i++)
		r = take(ctx, &facts[i]);
	return r;
}
