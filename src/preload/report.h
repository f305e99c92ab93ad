/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the preloaded library tells the keeper: one message for each mapping of guest RAM that QEMU
 * makes. Layer: preload (uses base only); src/vm and src/keeper may include this one header. Any
 * thread, also in a signal handler: nothing allocates, blocks or fails.
 *
 * The message is one packet on a socketpair (SOCK_SEQPACKET or SOCK_DGRAM), little-endian:
 *
 *   offset size
 *   0      4    magic 0x48465231 ("1RFH" in memory)
 *   4      4    version, HF_REPORT_VERSION
 *   8      4    process id of QEMU
 *   12     4    0: writes are tracked; else the errno for which they are not
 *   16     8    address of the mapping in QEMU
 *   24     8    its length in bytes
 *   32     8    offset in the RAM file, in bytes
 *
 * A later version may only append; a reader takes the length it knows and ignores the rest.
 *
 * The environment through which the keeper talks to the library, removed by it at start:
 *   HOLDFAST_RAM        "dev:ino" of the RAM file, both hexadecimal, as in st_dev and st_ino
 *   HOLDFAST_REPORT_FD  decimal number of the inherited socket
 *   HOLDFAST_LD_PRELOAD the user's own LD_PRELOAD, put back by the library; absent if none
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define HF_REPORT_MAGIC 0x48465231u
#define HF_REPORT_VERSION 1u
#define HF_REPORT_BYTES 40

#define HF_REPORT_ENV_RAM "HOLDFAST_RAM"
#define HF_REPORT_ENV_FD "HOLDFAST_REPORT_FD"
#define HF_REPORT_ENV_PRELOAD "HOLDFAST_LD_PRELOAD"

struct hf_report {
	uint32_t pid;
	uint32_t tracking_errno; /* 0: tracked */
	uint64_t address;
	uint64_t length_bytes;
	uint64_t file_offset_bytes;
};

/* Writes HF_REPORT_BYTES to @buf. */
static inline void hf_report_encode(const struct hf_report *report, uint8_t *buf)
{
	hf_le32_put(buf, HF_REPORT_MAGIC);
	hf_le32_put(buf + 4, HF_REPORT_VERSION);
	hf_le32_put(buf + 8, report->pid);
	hf_le32_put(buf + 12, report->tracking_errno);
	hf_le64_put(buf + 16, report->address);
	hf_le64_put(buf + 24, report->length_bytes);
	hf_le64_put(buf + 32, report->file_offset_bytes);
}

static inline bool hf_report_is_sane(const struct hf_report *report)
{
	return report->pid > 0 && report->pid <= INT32_MAX && report->tracking_errno < 4096 &&
	       report->address % 4096 == 0 && report->length_bytes % 4096 == 0 &&
	       report->file_offset_bytes % 4096 == 0 && report->length_bytes > 0 &&
	       report->address <= INT64_MAX && report->file_offset_bytes <= INT64_MAX &&
	       report->length_bytes <= INT64_MAX - report->address &&
	       report->length_bytes <= INT64_MAX - report->file_offset_bytes;
}

/**
 * hf_report_decode() - read one message
 * @buf: what the socket gave, which may be anything: QEMU is not trusted
 * Return: whether it is a message of a version >= 1 with sound numbers (page-aligned, no overflow);
 * only then is @ret touched. Whether the range is really guest RAM is for the receiver to check.
 */
static inline bool hf_report_decode(const uint8_t *buf, size_t len_bytes, struct hf_report *ret)
{
	struct hf_report report;

	if (len_bytes < HF_REPORT_BYTES || hf_le32_get(buf) != HF_REPORT_MAGIC ||
	    hf_le32_get(buf + 4) < 1)
		return false;
	report.pid = hf_le32_get(buf + 8);
	report.tracking_errno = hf_le32_get(buf + 12);
	report.address = hf_le64_get(buf + 16);
	report.length_bytes = hf_le64_get(buf + 24);
	report.file_offset_bytes = hf_le64_get(buf + 32);
	if (!hf_report_is_sane(&report))
		return false;
	*ret = report;
	return true;
}
