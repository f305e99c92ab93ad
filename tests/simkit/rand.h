/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A simulator's only source of chance: splitmix64, so that a seed replays exactly on any machine.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct simkit_rand {
	uint64_t state;
};

static inline uint64_t simkit_rand_next(struct simkit_rand *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 .. n-1; n > 0. The bias of the modulo does not matter here. */
static inline unsigned int simkit_rand_below(struct simkit_rand *r, unsigned int n)
{
	return (unsigned int)(simkit_rand_next(r) >> 33) % n;
}

static inline bool simkit_rand_percent(struct simkit_rand *r, unsigned int percent)
{
	return simkit_rand_below(r, 100) < percent;
}
