/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which blocks of a disk the other host's copy may lack: a map that survives the processes (a file
 * mapped shared), and what of it is still to be sent. Layer: disk. Thread-safe. Format:
 * docs/disk-format.md.
 *
 * Theory of operation. A bit stands for HF_DIRTYMAP_BLOCK_BYTES. The file's bits are all that the
 * copy may lack. In memory there are three more sets, each a part of it:
 *
 *   current    written, or sent, since the last turn
 *   previous   the same, of the time before the last turn, until that is confirmed
 *   to send    on the list of what a first copy has yet to read
 *
 * The file's bit is cleared when what was in `previous` is confirmed and the block is in no other
 * set. A write that began before a turn may end after it, so its block may only be let go once it
 * has ended: hence hf_dirtymap_write_begin() and _end(). A block that is taken off the list counts
 * as sent from then on.
 *
 * After a start everything that the file says is on the list: what was sent or confirmed half is
 * sent again. The file is trusted by a successor when the machine has not booted since (boot id),
 * or when it was closed in order; otherwise everything may differ.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/commit.h"

#define HF_DIRTYMAP_BLOCK_BYTES 65536u
/* 1 PiB: a map of 2 GiB. */
#define HF_DIRTYMAP_DISK_MAX_BYTES ((uint64_t)1 << 50)

struct hf_dirtymap;

/**
 * hf_dirtymap_open() - open, or make if there is none
 * One process at a time. Room for all of it is taken on the file system now, never later. Blocks.
 * A file that is no map, damaged, or of a disk of another size is begun anew and not trusted:
 * then, as in a new one, every block is set and the session is none.
 * Return: 0; -EBUSY: another process has it; -EINVAL: no bytes, or too many; -ENOSPC, other -errno.
 */
int hf_dirtymap_open(const char *path, uint64_t disk_bytes, struct hf_dirtymap **ret,
		     struct hf_err *err) HF_MUST_CHECK;
/* In order: it can be trusted after a reboot, too. No writes may be under way. Takes NULL.
 * Blocks. */
void hf_dirtymap_close(struct hf_dirtymap *m);

bool hf_dirtymap_is_trusted(const struct hf_dirtymap *m);
/* The copy of this session lacks what is set; none: no copy is known. */
struct hf_id hf_dirtymap_session(const struct hf_dirtymap *m);

/**
 * hf_dirtymap_write_begin() - a range is going to be written, now
 * Return: a token for hf_dirtymap_write_end(), which must follow whatever comes of the write.
 * Between the two the range cannot be let go. Cheap when the blocks are set already.
 */
unsigned int hf_dirtymap_write_begin(struct hf_dirtymap *m, uint64_t offset_bytes,
				     uint64_t length_bytes);
void hf_dirtymap_write_end(struct hf_dirtymap *m, unsigned int token, uint64_t offset_bytes,
			   uint64_t length_bytes);
/* Both at once: for who makes sure himself that nothing is confirmed while he writes. The range
 * lies inside the disk (asserted), here and below. */
void hf_dirtymap_set(struct hf_dirtymap *m, uint64_t offset_bytes, uint64_t length_bytes);

/* As hf_dirtymap_set(), for what goes to the other host by itself: not put on the list. */
void hf_dirtymap_log(struct hf_dirtymap *m, uint64_t offset_bytes, uint64_t length_bytes);

/* Begin to send: everything (@is_full, or if the map is not trusted), or what is set. From now on
 * the map is relative to @session and trusted, and what is written is put on the list, too. */
void hf_dirtymap_send_begin(struct hf_dirtymap *m, bool is_full, struct hf_id session);
/* The next run of blocks to send, at or after *cursor, at most @max_bytes (but at least a block);
 * taken off the list: read it AFTER this call, so that a write in between puts it on again. *cursor
 * goes behind it. False: none up to the end. */
bool hf_dirtymap_send_next(struct hf_dirtymap *m, uint64_t *cursor, uint64_t max_bytes,
			   uint64_t *ret_offset, uint64_t *ret_length);
/* It could not be read or sent: back on the list. */
void hf_dirtymap_send_again(struct hf_dirtymap *m, uint64_t offset_bytes, uint64_t length_bytes);
/* No more is put on the list; what is on it stays set until the next hf_dirtymap_send_begin(). */
void hf_dirtymap_send_end(struct hf_dirtymap *m);
uint64_t hf_dirtymap_left_bytes(const struct hf_dirtymap *m); /* on the list */

/* The current generation ends here. False: the one before is not confirmed yet, or writes that
 * began before it ended are still under way: try later. */
bool hf_dirtymap_turn(struct hf_dirtymap *m);
/* What was written or sent before the last turn is durable on the other side. Takes effect when the
 * writes that began before that turn have ended: now, or with a later hf_dirtymap_confirm() or
 * _turn(). */
void hf_dirtymap_confirm(struct hf_dirtymap *m);
uint64_t hf_dirtymap_dirty_bytes(const struct hf_dirtymap *m);
