/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The three connections to Pacemaker, made again whenever they are lost. Layer: pacemaker. Main thread only.
 */
#pragma once

#include <stdint.h>

#include "pacemaker/attrlink.h"
#include "pacemaker/ctrllink.h"
#include "pacemaker/fencelink.h"
#include "pacemaker/knock.h"
#include "service/journal.h"
#include "service/loop.h"

enum hf_links_which { HF_LINKS_CONTROLLER, HF_LINKS_ATTRIBUTES, HF_LINKS_FENCER, HF_LINKS_COUNT };

struct hf_links_ops {
	void (*up)(void *ctx, enum hf_links_which which);
	void (*down)(void *ctx, enum hf_links_which which);
	void (*fenced)(void *ctx); /* somebody was */
};

struct hf_links_one {
	struct hf_links *links;
	enum hf_links_which which;
	struct hf_knock knock;
	struct hf_watch watch;
	uint64_t next_ns, since_ns; /* tried again then; there, or not, since then */
	bool is_up;
};

struct hf_links {
	struct hf_loop *loop;
	struct hf_journal *journal;
	const struct hf_links_ops *ops;
	void *ctx;
	struct hf_timer timer;
	struct hf_links_one each[HF_LINKS_COUNT];
	struct hf_ctrllink *controller; /* NULL: not connected; so for the others */
	struct hf_attrlink *attributes;
	struct hf_fencelink *fencer;
};

/* Begins to connect. @ops, @loop and @journal outlive @l. @is_fencer_wanted: else that one is left alone. */
void hf_links_begin(struct hf_links *l, struct hf_loop *loop, struct hf_journal *journal,
		    bool is_fencer_wanted, const struct hf_links_ops *ops, void *ctx);
void hf_links_end(struct hf_links *l);

/* It was found to be of no use, for @error: closed, and made again. ops->down() is called from inside. */
void hf_links_drop(struct hf_links *l, enum hf_links_which which, int error);
