/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The decoder behind hf_qcow2_probe(), for its tests. Layer: disk. Any thread; nothing blocks. */
#pragma once

#include <stddef.h>

#include "disk/image.h"

/* The name of a backing file stands in the first cluster, behind the header and its extensions:
 * QEMU puts it right there. With larger clusters a name further behind is refused. */
#define HF_QCOW2_HEAD_BYTES ((size_t)65536)

/* @buf: how the file begins, at most HF_QCOW2_HEAD_BYTES. As hf_qcow2_probe(); room_bytes is the
 * one of a file that can grow and has not yet. */
int hf_qcow2_parse(const uint8_t *buf, size_t len, struct hf_qcow2_info *ret,
		   struct hf_err *err) HF_MUST_CHECK;
