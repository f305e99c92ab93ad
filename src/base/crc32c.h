/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4). Layer: base. Any
 * thread. Uses the processor's instruction where it has one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Both start from 0 and may be chained: hf_crc32c(hf_crc32c(0, a), b) is the checksum of "ab". */
uint32_t hf_crc32c(uint32_t crc, const void *data, size_t len_bytes);

/* The table version, exposed so that a test can hold the two against each other. */
uint32_t hf_crc32c_table(uint32_t crc, const void *data, size_t len_bytes);
