/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of core/supervise.h share: one machine, and the events by name. */
#pragma once

#include "../../tests/test.h"
#include "core/supervise.h"

#define S_NS 1000000000ULL
#define MIN_NS (60 * S_NS)

static struct hf_supervise s;
static uint64_t now_ns;

static inline enum hf_supervise_action feed(struct hf_supervise_event ev)
{
	ev.now_ns = now_ns;
	return hf_supervise_step(&s, &ev);
}

static inline enum hf_supervise_action tell(enum hf_supervise_event_kind kind)
{
	return feed((struct hf_supervise_event){ .kind = kind });
}

static inline enum hf_supervise_action up(enum hf_supervise_role role)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_UP, .role = role });
}

static inline enum hf_supervise_action ended(int code)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						 .end = { .code = code } });
}

static inline enum hf_supervise_action want(bool is_wanted)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_WANTED,
						 .is_wanted = is_wanted });
}

static inline enum hf_supervise_action frozen(unsigned int count)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_FROZEN, .count = count });
}

static inline enum hf_supervise_action froze(void)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_KEEPER_ENDED,
						 .end = { .is_frozen = true } });
}

static inline enum hf_supervise_action place(enum hf_supervise_place where)
{
	return feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_PLACE, .place = where });
}

static inline enum hf_supervise_action later(uint64_t ns)
{
	now_ns += ns;
	return tell(HF_SUPERVISE_EV_TIME);
}

static inline void begin(const struct hf_supervise_definition *d)
{
	now_ns = 1000 * S_NS;
	hf_supervise_init(&s);
	CHECK_EQ(feed((struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_DEFINED,
						   .definition = d }),
		 HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_OFF);
}

/* Runs, as after a boot. */
static inline void run(const struct hf_supervise_definition *d)
{
	begin(d);
	CHECK_EQ(want(true), HF_SUPERVISE_DO_START);
	CHECK_EQ(up(HF_SUPERVISE_RUN), HF_SUPERVISE_DO_NOTHING);
	CHECK_EQ(s.state, HF_SUPERVISE_UP);
}
