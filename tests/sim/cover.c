/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cover.h"

#include <stdio.h>

#define P_STATES HF_PRIMARY_STATE_COUNT
#define S_STATES HF_STANDBY_STATE_COUNT

static bool is_seen(const uint64_t *by_target, unsigned int n)
{
	for (unsigned int to = 0; to < n; to++)
		if (by_target[to])
			return true;
	return false;
}

void sim_cover_report(const struct sim_stats *s)
{
	unsigned int p_seen = 0, s_seen = 0;

	for (unsigned int st = 0; st < P_STATES; st++)
		for (unsigned int ev = 0; ev < HF_PRIMARY_EVENT_COUNT; ev++)
			p_seen += is_seen(s->p_edge[st][ev], P_STATES);
	for (unsigned int st = 0; st < S_STATES; st++)
		for (unsigned int ev = 0; ev < HF_STANDBY_EVENT_COUNT; ev++)
			s_seen += is_seen(s->s_edge[st][ev], S_STATES);
	(void)printf("(state, event) pairs seen: primary %u of %u, standby %u of %u\n", p_seen,
		     (unsigned int)P_STATES * HF_PRIMARY_EVENT_COUNT, s_seen,
		     (unsigned int)S_STATES * HF_STANDBY_EVENT_COUNT);
}

static void list_primary(const struct sim_stats *s, unsigned int from, unsigned int ev)
{
	const uint64_t *by_target = s->p_edge[from][ev];
	const char *state = hf_primary_state_name(from), *event = sim_primary_event_names[ev];

	if (!is_seen(by_target, P_STATES))
		(void)printf("unseen primary %s %s\n", state, event);
	for (unsigned int to = 0; to < P_STATES; to++)
		if (by_target[to] && to != from)
			(void)printf("took primary %s %s %s %llu\n", state, event,
				     hf_primary_state_name(to), (unsigned long long)by_target[to]);
}

static void list_standby(const struct sim_stats *s, unsigned int from, unsigned int ev)
{
	const uint64_t *by_target = s->s_edge[from][ev];
	const char *state = hf_standby_state_name(from), *event = sim_standby_event_names[ev];

	if (!is_seen(by_target, S_STATES))
		(void)printf("unseen standby %s %s\n", state, event);
	for (unsigned int to = 0; to < S_STATES; to++)
		if (by_target[to] && to != from)
			(void)printf("took standby %s %s %s %llu\n", state, event,
				     hf_standby_state_name(to), (unsigned long long)by_target[to]);
}

void sim_cover_list(const struct sim_stats *s)
{
	for (unsigned int st = 0; st < P_STATES; st++)
		for (unsigned int ev = 0; ev < HF_PRIMARY_EVENT_COUNT; ev++)
			list_primary(s, st, ev);
	for (unsigned int st = 0; st < S_STATES; st++)
		for (unsigned int ev = 0; ev < HF_STANDBY_EVENT_COUNT; ev++)
			list_standby(s, st, ev);
}
