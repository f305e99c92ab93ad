/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walking over a lease area: what stands where. Layer: cli. Blocks as storage does; reads only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/leasedisk.h"
#include "lease/store.h"

#define HF_SCAN_STEP_BYTES ((uint64_t)1024 * 1024) /* the least size of an area */
#define HF_SCAN_HEAD_BYTES 4096u

struct hf_scan {
	struct hf_store *store;
	uint8_t *bytes; /* of 8 MiB: the area found last */
	uint64_t size_bytes; /* of the storage */
	uint64_t next, end; /* the index says how far it reaches */
	struct hf_lease_geometry geometry; /* of what was found first */
};

/* Something that is not nothing. */
struct hf_scan_area {
	enum hf_lease_kind kind;
	uint64_t offset;
	struct hf_lease_geometry geometry; /* all zero: it says an impossible one */
	const uint8_t
		*bytes; /* geometry.align_bytes, until the next call; NULL: there are not so many */
	const uint8_t *head; /* its first HF_SCAN_HEAD_BYTES */
};

/* 0, or -errno with @err; @path: as for hf_store_open(). */
int hf_scan_open(struct hf_scan *s, const char *path, struct hf_err *err) HF_MUST_CHECK;
void hf_scan_close(struct hf_scan *s);

/* 1: here is one; 0: that was all; -errno with @err. What is foreign is shown only where
 * something of the known geometry could begin. */
int hf_scan_next(struct hf_scan *s, struct hf_scan_area *ret, struct hf_err *err) HF_MUST_CHECK;

/* Reads the area of the last hf_scan_next() anew. */
int hf_scan_again(struct hf_scan *s, const struct hf_scan_area *area,
		  struct hf_err *err) HF_MUST_CHECK;

/* A name from the disk, fit for terminals and for JSON: what is not printable ASCII becomes '?'. */
const char *hf_scan_printable(char *name);
