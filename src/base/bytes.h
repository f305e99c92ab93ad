/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Integers in bytes of a fixed order. Layer: base. Any thread. Disk and wire integers go through
 * these, never through a cast of a struct, so alignment and the host's byte order do not matter.
 */
#pragma once

#include <stdint.h>

static inline void hf_le16_put(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline uint16_t hf_le16_get(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void hf_le32_put(uint8_t *p, uint32_t v)
{
	hf_le16_put(p, (uint16_t)v);
	hf_le16_put(p + 2, (uint16_t)(v >> 16));
}

static inline uint32_t hf_le32_get(const uint8_t *p)
{
	return hf_le16_get(p) | (uint32_t)hf_le16_get(p + 2) << 16;
}

static inline void hf_le64_put(uint8_t *p, uint64_t v)
{
	hf_le32_put(p, (uint32_t)v);
	hf_le32_put(p + 4, (uint32_t)(v >> 32));
}

static inline uint64_t hf_le64_get(const uint8_t *p)
{
	return hf_le32_get(p) | (uint64_t)hf_le32_get(p + 4) << 32;
}

static inline void hf_be32_put(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static inline uint32_t hf_be32_get(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
