/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host was fenced: is that the death of the process that this one was connected to? Layer: core; pure, any thread,
 * no allocation, no clock. docs/replication.md, "Proof of death".
 *
 * Who fences says a time by the clock of the day; it is turned into one of the own monotonic clock at once, so that a clock
 * of the day that is set right later cannot make an old fencing a new one. The proof is about what was connected *before*
 * the fencing: whatever is met after it is of a host that has booted since.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* By so much the clock of who fenced may be ahead of ours. More is a mistake somewhere. */
#define HF_FENCED_AHEAD_MAX_NS 5000000000ull

enum hf_fenced_verdict {
	HF_FENCED_PROOF, /* what was connected is dead */
	HF_FENCED_WAIT, /* nothing was heard since, but it still counts as in touch: judge again when it does not */
	HF_FENCED_NEVER_MET, /* there never was a connection: nothing that could be dead is known */
	HF_FENCED_MET_SINCE, /* the connection was made after the fencing, or at that very time */
	HF_FENCED_HEARD_SINCE, /* it was heard after the fencing, or at that very time */
	HF_FENCED_VERDICT_COUNT
};

/* What is known of the other host. Times are of the own monotonic clock. */
struct hf_fenced_sight {
	uint64_t established_ns; /* the last connection was; 0: there never was one */
	uint64_t heard_ns; /* the last word on it was taken in */
	bool is_in_touch; /* there is one, and it is not silent */
};

/**
 * hf_fenced_place() - when was that by our monotonic clock?
 * @fenced_real_ns, @now_real_ns: CLOCK_REALTIME, of who fenced and our own; @now_ns: our monotonic clock now
 * A time that is a little ahead of ours is taken for now: what we have been told of has happened. Return: not 0, and
 * not above @now_ns; 0: it cannot be told, for it is no time, or too far ahead.
 */
uint64_t hf_fenced_place(uint64_t fenced_real_ns, uint64_t now_real_ns, uint64_t now_ns);

/* @fenced_ns: of hf_fenced_place(), not 0. */
enum hf_fenced_verdict hf_fenced_judge(const struct hf_fenced_sight *s, uint64_t fenced_ns);

/* A sentence's end for people: "it was heard after that". */
const char *hf_fenced_verdict_text(enum hf_fenced_verdict verdict);
