/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Carries out core/announce.h for all VMs of this host that a cluster decides about. Layer: pacemaker. Main thread only.
 * Calls of links.h wait for Pacemaker's answer; nothing else here does.
 */
#pragma once

#include <json-c/json_object.h>

#include "base/error.h"
#include "pacemaker/links.h"
#include "service/journal.h"
#include "service/loop.h"

struct hf_herald;

/* @run_dir, @links, @loop and @journal outlive it. 0; -errno with @err. */
int hf_herald_new(struct hf_loop *loop, struct hf_journal *journal, const char *run_dir,
		  struct hf_links *links, struct hf_herald **ret, struct hf_err *err) HF_MUST_CHECK;
/* Takes NULL. */
void hf_herald_free(struct hf_herald *h);

/* What the host's daemon says: hf_hostlink_ops. */
void hf_herald_take_vm(struct hf_herald *h, const struct json_object *vm, uint64_t event_ns);
void hf_herald_take_gone(struct hf_herald *h, const char *vm);
void hf_herald_take_all(struct hf_herald *h, struct json_object *vms);

/* hf_links_ops, of the controller and the attributes. */
void hf_herald_up(struct hf_herald *h);
void hf_herald_down(struct hf_herald *h, enum hf_links_which which);
