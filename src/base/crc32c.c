/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/crc32c.h"

#include <pthread.h>
#include <string.h>

#include "base/bytes.h"

#define POLY 0x82F63B78u

static uint32_t tables[8][256];

/* "Slicing by eight": tables[k][b] is the effect of byte b followed by k zero bytes. */
static void fill_tables(void)
{
	for (uint32_t b = 0; b < 256; b++) {
		uint32_t crc = b;

		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ POLY : crc >> 1;
		tables[0][b] = crc;
	}
	for (uint32_t b = 0; b < 256; b++)
		for (int k = 1; k < 8; k++)
			tables[k][b] = tables[k - 1][b] >> 8 ^ tables[0][tables[k - 1][b] & 0xff];
}

uint32_t hf_crc32c_table(uint32_t crc, const void *data, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint8_t *p = data;

	(void)pthread_once(&once, fill_tables);
	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		uint32_t lo = crc ^ hf_le32_get(p);
		uint32_t hi = hf_le32_get(p + 4);

		crc = tables[7][lo & 0xff] ^ tables[6][lo >> 8 & 0xff] ^
		      tables[5][lo >> 16 & 0xff] ^ tables[4][lo >> 24] ^ tables[3][hi & 0xff] ^
		      tables[2][hi >> 8 & 0xff] ^ tables[1][hi >> 16 & 0xff] ^ tables[0][hi >> 24];
	}
	for (; len; len--, p++)
		crc = crc >> 8 ^ tables[0][(crc ^ *p) & 0xff];
	return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc32, const uint8_t *p,
							       size_t len)
{
	uint64_t crc = ~crc32;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t v;

		memcpy(&v, p, sizeof(v));
		crc = __builtin_ia32_crc32di(crc, v);
	}
	for (; len; len--, p++)
		crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
	return ~(uint32_t)crc;
}

uint32_t hf_crc32c(uint32_t crc, const void *data, size_t len)
{
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(crc, data, len);
	return hf_crc32c_table(crc, data, len);
}
#else
uint32_t hf_crc32c(uint32_t crc, const void *data, size_t len)
{
	return hf_crc32c_table(crc, data, len);
}
#endif
