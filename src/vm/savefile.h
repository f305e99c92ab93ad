/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM whose state is in files: STATE_DIR/NAME/saved/{save.json,device-state,ram}. Layer: vm. Any thread; file
 * system calls, which BLOCK as long as the storage does.
 *
 *   saved.new	being written; whoever finds one may remove it
 *   saved	whole and durable
 *   saved.used	being resumed, or was: it is never resumed again
 *
 * A folder changes its name as a whole, so each state is resumed at most once.
 */
#pragma once

#include "codec/savenote.h"
#include "sys/sparsefile.h"

/* Is there room for so much RAM and state? Makes the folders. 0; -ENOSPC; -errno; with @err. */
int hf_savefile_prepare(const char *state_dir, const char *vm, uint64_t bytes,
			struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_savefile_write() - RAM, device state and note into saved.new, durable on return
 * @note: device_state_bytes and device_state_crc are filled in
 * Nothing is saved yet: that is hf_savefile_commit(). Return: 0; -ECANCELED; -errno with @err.
 */
int hf_savefile_write(const char *state_dir, struct hf_savenote *note, int ram_fd,
		      const uint8_t *state, size_t state_len, hf_sparse_progress *progress,
		      void *ctx, struct hf_err *err) HF_MUST_CHECK;

/* saved.new becomes saved, in place of an older one, durable on return. */
int hf_savefile_commit(const char *state_dir, const char *vm, struct hf_err *err) HF_MUST_CHECK;
/* Takes back what write() has begun. */
void hf_savefile_drop_new(const char *state_dir, const char *vm);

/* The images are as they will stay: note->image is filled in from their locations, and the note of `saved` replaced.
 * Those of which @location is relative are looked for in the current folder. */
int hf_savefile_settle(const char *state_dir, struct hf_savenote *note,
		       struct hf_err *err) HF_MUST_CHECK;

/* Replaces the note of `saved`, durable on return. */
int hf_savefile_update(const char *state_dir, const struct hf_savenote *note,
		       struct hf_err *err) HF_MUST_CHECK;

/* 0; -ENOENT: nothing is saved; -errno with @err. */
int hf_savefile_find(const char *state_dir, const char *vm, struct hf_savenote *ret,
		     struct hf_err *err) HF_MUST_CHECK;

/* Are the images as the note says? 0; -ESTALE with @err: which is not, and how. */
int hf_savefile_check_images(const struct hf_savenote *note, struct hf_err *err) HF_MUST_CHECK;

/* Into RAM that is all zero, and into a new buffer that the caller frees. 0; -EBADMSG: damaged; -errno. */
int hf_savefile_load(const char *state_dir, const struct hf_savenote *note, int ram_fd,
		     uint8_t **ret_state, size_t *ret_len, struct hf_err *err) HF_MUST_CHECK;

/* saved becomes saved.used, durable on return: from here on it cannot be resumed again. */
int hf_savefile_use(const char *state_dir, const char *vm, struct hf_err *err) HF_MUST_CHECK;
/* The resumed guest did not get as far as running: saved.used becomes saved again. */
int hf_savefile_give_back(const char *state_dir, const char *vm, struct hf_err *err) HF_MUST_CHECK;
void hf_savefile_remove_used(const char *state_dir, const char *vm);
/* Is there one left by a keeper that died in the middle? */
bool hf_savefile_has_used(const char *state_dir, const char *vm);

/* An operator does not want it any more. 0, also when there is none; -errno. */
int hf_savefile_discard(const char *state_dir, const char *vm, struct hf_err *err) HF_MUST_CHECK;
