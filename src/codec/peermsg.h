/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemons of two hosts say to each other: the parameters of org.holdfast.Peer's methods.
 * Layer: codec. Any thread; allocates. docs/peers.md describes the members.
 *
 * Everything that arrives is another host's word: each text has a limit and is a name or printable,
 * each list has a limit, and what is not understood is refused with the member's name.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "core/recover.h"

#define HF_PEERMSG_VERSION 1
#define HF_PEERMSG_VMS_MAX 32 /* in one Tell: fits into a Varlink call */
#define HF_PEERMSG_EVENTS_MAX 16 /* in one Notice */
#define HF_PEERMSG_FROZEN_MAX 8 /* instances of a VM that are named; `frozen_count` counts all */
#define HF_PEERMSG_ID_MAX 8
#define HF_PEERMSG_TEXT 240

/* Hello, both ways. */
struct hf_peermsg_hello {
	uint32_t version;
	char host[HF_NAME_MAX + 1]; /* who speaks */
	char to[HF_NAME_MAX + 1]; /* who is meant */
	uint64_t
		instance; /* random, new with each start of a daemon: events are counted within it */
	uint64_t after; /* of the one addressed: events up to this one are known */
};

/* A VM as one host has it. */
struct hf_peermsg_vm {
	char vm[HF_NAME_MAX + 1];
	uint32_t definition_crc; /* CRC32C of the file */
	bool is_defined; /* a definition is in force; else definition_crc is 0 */
	bool may_run;
	bool has_run_last;
	bool is_protected;
	enum hf_place_have have;
	struct hf_wanted wanted;
	char life[24]; /* hf_vm_state_name() */
	char cause[24]; /* hf_vm_cause_name(), or "" */
	char text[HF_PEERMSG_TEXT]; /* why it does not run, if it should; or "" */
	uint32_t frozen_count;
	char frozen[HF_PEERMSG_FROZEN_MAX][HF_PEERMSG_ID_MAX + 1];
};

/* The frozen ones in the same order. */
bool hf_peermsg_vm_is_same(const struct hf_peermsg_vm *a, const struct hf_peermsg_vm *b);

struct hf_peermsg_tell {
	bool is_first; /* what was told before counts no more once is_last has come */
	bool is_last;
	unsigned int n;
	struct hf_peermsg_vm vms[HF_PEERMSG_VMS_MAX];
};

/* Of the sender's journal. */
struct hf_peermsg_event {
	uint64_t seq;
	uint64_t time_ns; /* CLOCK_REALTIME of the sender */
	char event[32];
	char vm[HF_NAME_MAX + 1];
	char id[HF_PEERMSG_ID_MAX + 1]; /* of a frozen instance, or "" */
	char cause[24]; /* or "" */
	char text[HF_PEERMSG_TEXT];
};

struct hf_peermsg_notice {
	unsigned int n;
	struct hf_peermsg_event events[HF_PEERMSG_EVENTS_MAX];
};

/* Start and Recover. */
struct hf_peermsg_order {
	char vm[HF_NAME_MAX + 1];
	bool is_fresh; /* beside a frozen instance; Start alone */
	uint64_t lver; /* of the lease when it was let go; 0: there is none. Recover alone */
	char id[HF_PEERMSG_ID_MAX + 1]; /* of the frozen instance, or "" */
	char cause[24]; /* why it does not run there any more, or "" */
};

/* Each encode: a new object for the caller. Each decode: 0, or -EINVAL with @err; @o: as a method gets
 * its parameters, may be NULL. */
struct json_object *hf_peermsg_hello_encode(const struct hf_peermsg_hello *m);
int hf_peermsg_hello_decode(const struct json_object *o, struct hf_peermsg_hello *ret,
			    struct hf_err *err) HF_MUST_CHECK;
struct json_object *hf_peermsg_tell_encode(const struct hf_peermsg_tell *m);
int hf_peermsg_tell_decode(const struct json_object *o, struct hf_peermsg_tell *ret,
			   struct hf_err *err) HF_MUST_CHECK;
struct json_object *hf_peermsg_notice_encode(const struct hf_peermsg_notice *m);
int hf_peermsg_notice_decode(const struct json_object *o, struct hf_peermsg_notice *ret,
			     struct hf_err *err) HF_MUST_CHECK;
struct json_object *hf_peermsg_order_encode(const struct hf_peermsg_order *m);
int hf_peermsg_order_decode(const struct json_object *o, struct hf_peermsg_order *ret,
			    struct hf_err *err) HF_MUST_CHECK;
