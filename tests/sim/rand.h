/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulator's only source of chance: splitmix64, so that a seed replays exactly on any machine.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_rand {
	uint64_t state;
};

static inline uint64_t sim_mix(uint64_t a, uint64_t b)
{
	uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint64_t sim_rand_next(struct sim_rand *r)
{
	r->state += 0x9e3779b97f4a7c15u;
	return sim_mix(r->state, 0);
}

/* 0 .. n-1; n > 0. The bias of the modulo does not matter here. */
static inline unsigned int sim_rand_below(struct sim_rand *r, unsigned int n)
{
	return (unsigned int)(sim_rand_next(r) >> 33) % n;
}

static inline bool sim_rand_percent(struct sim_rand *r, unsigned int percent)
{
	return sim_rand_below(r, 100) < percent;
}
