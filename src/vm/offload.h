/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest RAM from memory to a file. Layer: vm. One thread at a time, not the main one: it BLOCKS as long as
 * the storage does.
 *
 * The file is sparse: what was never written, and pages full of zeros, take no space. It is written under
 * another name and renamed when it is whole and synced.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/certificate.h"

#define HF_OFFLOAD_STEP_BYTES (4u << 20)

/* @done_bytes of @total_bytes have been looked at. False: to be called off. */
typedef bool hf_offload_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

struct hf_offload;

/**
 * hf_offload_open() - begin to copy
 * @ram_fd: the memory; stays the caller's, who keeps it open
 * @path: of the file to be; "PATH.new" is made, and replaced if there is one
 * @space_bytes: that the copy may take at most; 0: no limit but the file system's
 * Return: 0; -ENOSPC with @err: how much is needed and how much there is; -errno.
 */
int hf_offload_open(int ram_fd, uint64_t ram_bytes, const char *path, uint64_t space_bytes,
		    struct hf_offload **ret, struct hf_err *err) HF_MUST_CHECK;

enum hf_offload_result {
	HF_OFFLOAD_MORE = 1,
};

/* Copies HF_OFFLOAD_STEP_BYTES or skips what is empty. 0: all is copied; HF_OFFLOAD_MORE; -errno with
 * @err. */
int hf_offload_step(struct hf_offload *o, struct hf_err *err) HF_MUST_CHECK;

/* How far it is, and how much of that had to be written. */
uint64_t hf_offload_done_bytes(const struct hf_offload *o);
uint64_t hf_offload_written_bytes(const struct hf_offload *o);

/* After the last step: the file is durable under its name on return. 0 or -errno with @err. */
int hf_offload_finish(struct hf_offload *o, struct hf_err *err) HF_MUST_CHECK;

/* Takes NULL; removes what is not finished. */
void hf_offload_free(struct hf_offload *o);

/**
 * hf_offload() - the RAM of a frozen instance: all of it, to the instance's folder
 * @c: as it is written there; ram becomes FILE and ram_holder none, durable, before the holder is ended.
 *	Whoever else has the memory open or mapped (QEMU) still keeps it from being free.
 * @space_bytes: frozen-space: what all frozen instances of this VM may take on disk together; 0: no limit
 * @on_progress: may be NULL
 * Return: 0; -ENOSPC; -ECANCELED: called off; -ENODATA: the memory is lost; -errno. @err says what; then
 * the memory is where it was.
 */
int hf_offload(const char *state_dir, struct hf_certificate *c, uint64_t space_bytes,
	       hf_offload_progress *on_progress, void *ctx, struct hf_err *err) HF_MUST_CHECK;
