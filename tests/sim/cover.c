/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which transitions of the two machines a run has seen, against the list of those that are legal.
 * The list is written out here once more and not taken from src/core, for it is what the core has to
 * be held against.
 */
#include "cover.h"

#include <stdio.h>

#define P(state) (1u << HF_PRIMARY_##state)
#define S(state) (1u << HF_STANDBY_##state)

static const unsigned int p_legal[HF_PRIMARY_STATE_COUNT] = {
	[HF_PRIMARY_ALONE] = P(SYNCING) | P(FINISHED),
	[HF_PRIMARY_SYNCING] = P(ALONE) | P(PROTECTED) | P(FINISHED),
	[HF_PRIMARY_PROTECTED] = P(HOLDING) | P(ALONE) | P(LEAVING) | P(HANDING_OVER) | P(DEAD) |
				 P(ENDING) | P(SUPERSEDED),
	[HF_PRIMARY_HOLDING] = P(PROTECTED) | P(ALONE) | P(SYNCING) | P(LEAVING) | P(DEAD) |
			       P(ENDING) | P(SUPERSEDED),
	[HF_PRIMARY_LEAVING] = P(ALONE) | P(DEAD) | P(ENDING) | P(SUPERSEDED),
	[HF_PRIMARY_HANDING_OVER] = P(HANDED_OVER) | P(HOLDING) | P(PROTECTED) | P(ALONE) |
				    P(LEAVING) | P(DEAD) | P(ENDING) | P(SUPERSEDED),
	[HF_PRIMARY_HANDED_OVER] = P(SUPERSEDED) | P(FINISHED),
	[HF_PRIMARY_DEAD] = P(SUPERSEDED) | P(FINISHED),
	[HF_PRIMARY_ENDING] = P(SUPERSEDED) | P(FINISHED),
};

/*
 * Legal, but no driver that keeps its rules gets there: HOLDING to SYNCING needs a standby that still
 * names our session after losing its link without a whole epoch; HANDING_OVER to ALONE needs proof of
 * death while the connection stands, and drivers look for proof when it is gone.
 */
static const unsigned int p_unreachable[HF_PRIMARY_STATE_COUNT] = {
	[HF_PRIMARY_HOLDING] = P(SYNCING),
	[HF_PRIMARY_HANDING_OVER] = P(ALONE),
};

static const unsigned int s_legal[HF_STANDBY_STATE_COUNT] = {
	[HF_STANDBY_IDLE] = S(SYNCING),
	[HF_STANDBY_SYNCING] = S(IDLE) | S(READY),
	[HF_STANDBY_READY] = S(LOST) | S(IDLE) | S(PROMOTING),
	[HF_STANDBY_LOST] = S(READY) | S(IDLE) | S(PROMOTING),
	[HF_STANDBY_PROMOTING] = S(PROMOTED) | S(FAILED),
};

static unsigned int p_missing(const struct sim_stats *s, bool does_print)
{
	unsigned int missing = 0;

	for (unsigned int from = 0; from < HF_PRIMARY_STATE_COUNT; from++) {
		for (unsigned int to = 0; to < HF_PRIMARY_STATE_COUNT; to++) {
			if (!(p_legal[from] & ~p_unreachable[from] & 1u << to) ||
			    s->p_edge[from][to])
				continue;
			missing++;
			if (does_print)
				(void)printf("not covered: primary %s -> %s\n",
					     hf_primary_state_name(from),
					     hf_primary_state_name(to));
		}
	}
	return missing;
}

static unsigned int s_missing(const struct sim_stats *s, bool does_print)
{
	unsigned int missing = 0;

	for (unsigned int from = 0; from < HF_STANDBY_STATE_COUNT; from++) {
		for (unsigned int to = 0; to < HF_STANDBY_STATE_COUNT; to++) {
			if (!(s_legal[from] & 1u << to) || s->s_edge[from][to])
				continue;
			missing++;
			if (does_print)
				(void)printf("not covered: standby %s -> %s\n",
					     hf_standby_state_name(from),
					     hf_standby_state_name(to));
		}
	}
	return missing;
}

static unsigned int illegal(const struct sim_stats *s)
{
	unsigned int n = 0;

	for (unsigned int from = 0; from < HF_PRIMARY_STATE_COUNT; from++)
		for (unsigned int to = 0; to < HF_PRIMARY_STATE_COUNT; to++)
			if (from != to && s->p_edge[from][to] && !(p_legal[from] & 1u << to)) {
				(void)printf("not legal: primary %s -> %s\n",
					     hf_primary_state_name(from),
					     hf_primary_state_name(to));
				n++;
			}
	for (unsigned int from = 0; from < HF_STANDBY_STATE_COUNT; from++)
		for (unsigned int to = 0; to < HF_STANDBY_STATE_COUNT; to++)
			if (from != to && s->s_edge[from][to] && !(s_legal[from] & 1u << to)) {
				(void)printf("not legal: standby %s -> %s\n",
					     hf_standby_state_name(from),
					     hf_standby_state_name(to));
				n++;
			}
	return n;
}

static void count_pairs(const uint64_t *cells, unsigned int n, unsigned int *ret_seen)
{
	*ret_seen = 0;
	for (unsigned int i = 0; i < n; i++)
		*ret_seen += cells[i] != 0;
}

bool sim_cover_report(const struct sim_stats *s, bool is_required)
{
	unsigned int p_seen, s_seen, missing;
	unsigned int p_all = HF_PRIMARY_STATE_COUNT * HF_PRIMARY_EVENT_COUNT;
	unsigned int s_all = HF_STANDBY_STATE_COUNT * HF_STANDBY_EVENT_COUNT;

	count_pairs(&s->p_cover[0][0], p_all, &p_seen);
	count_pairs(&s->s_cover[0][0], s_all, &s_seen);
	missing = p_missing(s, is_required) + s_missing(s, is_required);
	(void)printf("(state, event) pairs seen: primary %u of %u, standby %u of %u; legal "
		     "transitions not seen: %u\n",
		     p_seen, p_all, s_seen, s_all, missing);
	return !illegal(s) && (!is_required || !missing);
}

static void print_unseen(const char *who, const char *state, const char *event)
{
	(void)printf("pair not seen: %s %s + %s\n", who, state, event);
}

void sim_cover_list(const struct sim_stats *s)
{
	for (unsigned int st = 0; st < HF_PRIMARY_STATE_COUNT; st++)
		for (unsigned int ev = 0; ev < HF_PRIMARY_EVENT_COUNT; ev++)
			if (!s->p_cover[st][ev])
				print_unseen("primary", hf_primary_state_name(st),
					     sim_primary_event_names[ev]);
	for (unsigned int st = 0; st < HF_STANDBY_STATE_COUNT; st++)
		for (unsigned int ev = 0; ev < HF_STANDBY_EVENT_COUNT; ev++)
			if (!s->s_cover[st][ev])
				print_unseen("standby", hf_standby_state_name(st),
					     sim_standby_event_names[ev]);
}
