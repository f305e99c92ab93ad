/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pace.h"

#include <assert.h>
#include <string.h>

/* Below this an early scan saves less than it costs. */
#define PRESCAN_MIN_BYTES (8u << 20)
#define PRESCAN_RETRY_EPOCHS 32
/* Looking at the size of the epoch more often than this is not worth the walk. */
#define PEEK_MIN_NS 10000000u

void hf_pace_init(struct hf_pace *p, const struct hf_pace_settings *set)
{
	assert(set->stop_share >= 1);
	assert(set->stop_share <= 90);
	assert(set->interval_ns);
	memset(p, 0, sizeof(*p));
	p->set = *set;
}

void hf_pace_epoch_begins(struct hf_pace *p, uint64_t now_ns, uint64_t pause_ns,
			  uint64_t dirty_bytes)
{
	p->dirty_span_ns = p->started_ns && now_ns > p->started_ns ? now_ns - p->started_ns : 0;
	p->dirty_bytes = dirty_bytes;
	p->is_running = true;
	p->is_output_held = false;
	p->is_over_bound = false;
	p->started_ns = now_ns;
	p->pause_ns = pause_ns;
}

void hf_pace_epoch_ends(struct hf_pace *p)
{
	p->is_running = false;
}

void hf_pace_output_held(struct hf_pace *p)
{
	p->is_output_held = true;
}

void hf_pace_over_bound(struct hf_pace *p)
{
	p->is_over_bound = true;
}

uint64_t hf_pace_deadline_ns(const struct hf_pace *p)
{
	/* pause / (pause + run) <= share  <=>  run >= pause * (100 - share) / share */
	uint64_t run_ns = p->pause_ns * (100 - p->set.stop_share) / p->set.stop_share;

	if (!p->is_running)
		return UINT64_MAX;
	if (!p->is_output_held && !p->is_over_bound && run_ns < p->set.interval_ns)
		run_ns = p->set.interval_ns;
	return p->started_ns + run_ns;
}

uint64_t hf_pace_peek_ns(const struct hf_pace *p, uint64_t now_ns)
{
	uint64_t wait_ns;

	if (!p->is_running || p->is_over_bound || !p->dirty_span_ns || !p->dirty_bytes)
		return UINT64_MAX;
	/* At the last epoch's rate half of the bound would be reached after: */
	wait_ns = (uint64_t)((double)p->set.epoch_bytes / 2 * (double)p->dirty_span_ns /
			     (double)p->dirty_bytes);
	if (wait_ns < PEEK_MIN_NS)
		wait_ns = PEEK_MIN_NS;
	if (wait_ns >= p->set.interval_ns)
		return UINT64_MAX;
	return now_ns + wait_ns;
}

bool hf_pace_wants_prescan(struct hf_pace *p)
{
	if (p->dirty_bytes < PRESCAN_MIN_BYTES)
		return false;
	if (p->is_prescan_on)
		return true;
	if (p->prescan_tries) {
		p->prescan_tries--;
		return false;
	}
	return true;
}

void hf_pace_prescanned(struct hf_pace *p, uint64_t early_pages, uint64_t late_pages)
{
	/* It paid if most of what was dirty did not have to be copied while the VM stood still. */
	p->is_prescan_on = early_pages > 2 * late_pages;
	p->prescan_tries = p->is_prescan_on ? 0 : PRESCAN_RETRY_EPOCHS;
}
