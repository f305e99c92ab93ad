/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection to Pacemaker's keeper of node attributes, pacemaker-attrd. Layer: pacemaker. Main thread only; each call
 * waits for the answer, HF_PCMK_ANSWER_MS at most. After an error but -ENOENT the connection is of no use: close it.
 *
 * Attributes are those of this node, transient: they go with the node's membership, and with pacemaker-attrd itself (2.1.5
 * keeps none of this node's over its own restart), as do the counts of failures. So whoever has lost the connection
 * writes all of them again. The messages are those of attrd_updater(8), in the form that 2.0 to 3.0 take.
 */
#pragma once

#include <libxml/tree.h>
#include <stddef.h>

#include "base/error.h"

#define HF_ATTRLINK_SERVER "attrd"
#define HF_ATTRLINK_VALUE_MAX 255

struct hf_attrlink;

/* 0; -ENOTCONN; -ENOMEM. It has answered just now (knock.h), or this may never return. */
int hf_attrlink_open(struct hf_attrlink **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_attrlink_close(struct hf_attrlink *l);

/* Readable: something unasked-for came, which hf_attrlink_take() reads and forgets, or the connection has ended. */
int hf_attrlink_fd(const struct hf_attrlink *l);
/* 0, or -ENOTCONN: it has ended. */
int hf_attrlink_take(struct hf_attrlink *l) HF_MUST_CHECK;

/* @value NULL: deleted. Written without delay. 0: it was taken; -errno. */
int hf_attrlink_write(struct hf_attrlink *l, const char *name, const char *value) HF_MUST_CHECK;

/* What it is on @node. 0; -ENOENT: it has no value; -EMSGSIZE: one that does not fit; other -errno. */
int hf_attrlink_ask(struct hf_attrlink *l, const char *name, const char *node, char *ret,
		    size_t size) HF_MUST_CHECK;

/* No failure of @resource on @node counts any more. 0 or -errno. */
int hf_attrlink_forgive(struct hf_attrlink *l, const char *resource,
			const char *node) HF_MUST_CHECK;

/* The part of hf_attrlink_ask() that reads the answer, for tests. Return as there; -EBADMSG: it is none. */
int hf_attrlink_read_answer(xmlNode *answer, const char *name, const char *node, char *ret,
			    size_t size) HF_MUST_CHECK;
