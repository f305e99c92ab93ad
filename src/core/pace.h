/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When to start the next epoch. Layer: core; pure, any thread, no allocation, no clock.
 *
 * Three wishes pull at it: an output wants to leave (start at once), the standby's copy must not
 * grow too old nor an epoch too large (start after the largest interval, or when the bound is
 * near), and the guest wants to run (of all the time, at most a share may be spent standing still).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hf_pace_settings {
	uint64_t interval_ns; /* the largest interval between the starts of two epochs */
	unsigned int stop_share; /* percent, 1..90: largest share of time spent standing still */
	uint64_t epoch_bytes; /* an epoch larger than this is committed early */
};

/* All zero but for the settings is a valid start. */
struct hf_pace {
	struct hf_pace_settings set;
	bool is_running; /* an epoch runs that may be ended */
	bool is_output_held; /* one waits for its commit since started_ns */
	bool is_over_bound; /* pages or outputs of the running epoch are near their bound */
	uint64_t started_ns; /* when the running epoch began, i.e. the VM ran on */
	uint64_t pause_ns; /* how long the VM stood still before that */
	uint64_t dirty_bytes; /* size of the last epoch and the time that it took to grow */
	uint64_t dirty_span_ns;
	unsigned int prescan_tries; /* epochs until the early scan is tried again */
	bool is_prescan_on;
};

void hf_pace_init(struct hf_pace *p, const struct hf_pace_settings *set);

/* The VM runs on after standing still for @pause_ns; the last epoch had @dirty_bytes in pages. */
void hf_pace_epoch_begins(struct hf_pace *p, uint64_t now_ns, uint64_t pause_ns,
			  uint64_t dirty_bytes);

/* The VM is about to be stopped for a capture, or protection is off. */
void hf_pace_epoch_ends(struct hf_pace *p);

void hf_pace_output_held(struct hf_pace *p);
void hf_pace_over_bound(struct hf_pace *p);

/* When the next epoch is due, on the clock of @started_ns; UINT64_MAX while none runs. */
uint64_t hf_pace_deadline_ns(const struct hf_pace *p);

/*
 * When the size of the running epoch should be looked at, UINT64_MAX: not before its end. Asking
 * costs a walk over all page tables, so it is spaced by how fast the last epoch grew.
 */
uint64_t hf_pace_peek_ns(const struct hf_pace *p, uint64_t now_ns);

/*
 * Should the next capture collect pages once while the VM still runs? Pays when many pages are
 * written and few of them again right after; learnt from the last tries.
 */
bool hf_pace_wants_prescan(struct hf_pace *p);

/* What came of one: @early_pages were copied before the stop, @late_pages after it. */
void hf_pace_prescanned(struct hf_pace *p, uint64_t early_pages, uint64_t late_pages);
