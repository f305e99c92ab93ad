/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where guest-physical memory is in the RAM file, from what QEMU's monitor says to `info mtree`. Layer:
 * vm. Any thread. Nothing allocates or blocks.
 *
 * The answer is text for people; there is no other. So it is read strictly, and what does not add up to
 * exactly the RAM counts as unknown. Source: QEMU's softmmu/memory.c (7.2), system/memory.c (10.0),
 * mtree_print_mr().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/certificate.h"

#define HF_MTREE_TEXT_MAX (8u << 20)

/**
 * hf_mtree_parse() - find the parts of the RAM
 * @text: the answer, @len bytes
 * @ram_id: id of the memory backend that is all of the RAM; of @ram_bytes
 * @ret: room for @max parts; set only on success, in the order of their addresses
 * @ret_n: at least 1
 * A part of the RAM that is seen in more than one place (the holes of old PCs) counts where the larger
 * window on it is.
 * Return: 0; -EPROTO with @err: a line about the RAM that cannot be understood; parts that are not just
 * all of the RAM, each once; -E2BIG: more windows or parts than anybody needs.
 */
int hf_mtree_parse(const char *text, size_t len, const char *ram_id, uint64_t ram_bytes,
		   struct hf_ram_part *ret, size_t max, size_t *ret_n,
		   struct hf_err *err) HF_MUST_CHECK;
