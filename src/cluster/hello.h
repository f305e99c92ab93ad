/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Do two keepers fit together? Compares the HELLOs that they have sent each other. Layer: cluster.
 * Any thread. Nothing blocks or allocates. What a HELLO holds: codec/wire-msg.h.
 */
#pragma once

#include "codec/wire-msg.h"

enum { HF_HELLO_REFUSED = 1 };

/**
 * hf_hello_check() - may a session be made with the keeper that sent @theirs?
 * @mine: what this keeper has sent, or is going to send
 * @ret_code: why not; answer REFUSE with it
 *
 * Looked at in this order: a common version; the VM's name; that it is not this very keeper; RAM,
 * page size and vCPUs; machine type; QEMU's major and minor version; devices, in any order; held
 * netdevs, in order; disks (id, layout, format, size), in order; that not both sides would go live
 * when they lose each other. When one of the two is an inquirer only the first two are. When no version is common nothing else of @theirs is
 * read, so it may hold only hf_wire_hello_versions().
 *
 * Not looked at: whether the roles and states go together. That is the commit protocol's matter; a
 * primary may well meet the other primary that has taken its place.
 *
 * Return: 0: they fit; HF_HELLO_REFUSED: @err has one sentence of less than
 * HF_WIRE_REASON_TEXT_MAX bytes that names both values. It calls the sides by their roles, so it
 * may be sent to the other side as it is.
 */
int hf_hello_check(const struct hf_wire_hello *mine, const struct hf_wire_hello *theirs,
		   enum hf_wire_refusal *ret_code, struct hf_err *err) HF_MUST_CHECK;

/* A HELLO with its strings, which outlives the message that it came in. About 44 KiB. The strings
 * in hello lie in text, so it must not be copied by assignment or moved. */
struct hf_hello_own {
	struct hf_wire_hello hello;
	char text[HF_WIRE_HELLO_MAX];
};

/**
 * hf_hello_copy() - keep a HELLO
 * @from: a NULL string becomes ""; must not point into @ret
 * Return: 0; -EMSGSIZE: its strings are longer than any HELLO's (never for a decoded one), and
 * *@ret is untouched.
 */
int hf_hello_copy(const struct hf_wire_hello *from, struct hf_hello_own *ret) HF_MUST_CHECK;
