/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection to Pacemaker's controller on this node. Layer: pacemaker. Main thread only; each call waits until the
 * controller has carried it out, HF_PCMK_ANSWER_MS at most. After an error the connection is of no use: close it, and
 * what was not carried out yet never is.
 */
#pragma once

#include "base/error.h"

#define HF_CTRLLINK_SERVER "crmd"
#define HF_CTRLLINK_NODE_MAX 255

struct hf_ctrllink;

/* 0; -ENOTCONN; -ETIMEDOUT; -ENOMEM. Asks for this node's name. It has answered just now (knock.h), or this may never
 * return. */
int hf_ctrllink_open(struct hf_ctrllink **ret) HF_MUST_CHECK;
/* Takes NULL. */
void hf_ctrllink_close(struct hf_ctrllink *l);

/* This node's, as the cluster calls it. */
const char *hf_ctrllink_node(const struct hf_ctrllink *l);

/* Reads what came unasked. 0, or -ENOTCONN: it has ended. */
int hf_ctrllink_take(struct hf_ctrllink *l) HF_MUST_CHECK;

/* @resource on this node has failed. @instance: its name in a clone, or the same. 0: it is recorded; -errno. */
int hf_ctrllink_fail(struct hf_ctrllink *l, const char *resource,
		     const char *instance) HF_MUST_CHECK;

/* What is recorded of @resource on this node is forgotten, and asked of its agent anew. 0 or -errno. */
int hf_ctrllink_refresh(struct hf_ctrllink *l, const char *resource,
			const char *instance) HF_MUST_CHECK;
