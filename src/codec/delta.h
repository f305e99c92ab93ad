/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device state of an epoch as a patch of the previous epoch's. Layer: codec. Any thread.
 * Nothing allocates or blocks.
 *
 * Two states of one VM are alike at the same offsets as long as no device's section changes its
 * length: between epochs of a guest in its firmware, QEMU 7.2 with virtio-net and virtio-blk, 3 of
 * 1143 blocks of 512 bytes differ (measured). So blocks are compared in place. Byte table:
 * docs/wire-format.md.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HF_DELTA_BLOCK_BYTES 512
#define HF_DELTA_STATE_MAX 67108864 /* 64 MiB */

/* A delta as long as the state itself has no point: send the whole state. */
enum { HF_DELTA_TOO_LONG = 1 };

/**
 * hf_delta_encode() - the patch that turns @prev into @cur
 * @prev, @cur: at most HF_DELTA_STATE_MAX bytes each; may differ in length; @prev_len may be 0
 * @patch: @patch_size bytes; @cur_len is always a sensible size
 * Return: 0, or HF_DELTA_TOO_LONG: it does not fit; @patch then holds nothing useful.
 */
int hf_delta_encode(const uint8_t *prev, size_t prev_len, const uint8_t *cur, size_t cur_len,
		    uint8_t *patch, size_t patch_size, size_t *ret_len) HF_MUST_CHECK;

/**
 * hf_delta_apply() - @prev patched, into @cur
 * @cur: @cur_size bytes, not overlapping @prev: until the epoch is whole, @prev is what a failover
 *       would need
 * Every length in @patch is checked; nothing beyond @cur_size is ever written. That @prev was the
 * right one is for the caller to verify, by EPOCH_END's checksum of the result.
 * Return: 0; -EBADMSG with @err: not a patch, or its result is larger than @cur_size. @cur is then
 * garbage.
 */
int hf_delta_apply(const uint8_t *prev, size_t prev_len, const uint8_t *patch, size_t patch_len,
		   uint8_t *cur, size_t cur_size, size_t *ret_len,
		   struct hf_err *err) HF_MUST_CHECK;
