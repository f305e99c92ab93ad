/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/utf8.h"

#include <assert.h>

/* Overlong forms, surrogates and what is too high all show in the second byte. */
static bool is_second_byte_valid(uint8_t first, uint8_t second)
{
	switch (first) {
	case 0xE0:
		return second >= 0xA0 && second <= 0xBF;
	case 0xED:
		return second >= 0x80 && second <= 0x9F;
	case 0xF0:
		return second >= 0x90 && second <= 0xBF;
	case 0xF4:
		return second >= 0x80 && second <= 0x8F;
	default:
		return second >= 0x80 && second <= 0xBF;
	}
}

static size_t announced_length(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xC2 && first <= 0xDF)
		return 2;
	if (first >= 0xE0 && first <= 0xEF)
		return 3;
	if (first >= 0xF0 && first <= 0xF4)
		return 4;
	return 0;
}

size_t hf_utf8_length(const uint8_t *text, const uint8_t *end)
{
	size_t n;

	assert(text < end);
	n = announced_length(text[0]);
	if (n > (size_t)(end - text))
		return 0;
	if (n > 1 && !is_second_byte_valid(text[0], text[1]))
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	return n;
}

size_t hf_utf8_put(uint32_t code, char *ret)
{
	assert(code <= 0x10FFFF);
	assert(code < 0xD800 || code > 0xDFFF);
	if (code < 0x80) {
		ret[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		ret[0] = (char)(0xC0 | code >> 6);
		ret[1] = (char)(0x80 | (code & 0x3F));
		return 2;
	}
	if (code < 0x10000) {
		ret[0] = (char)(0xE0 | code >> 12);
		ret[1] = (char)(0x80 | (code >> 6 & 0x3F));
		ret[2] = (char)(0x80 | (code & 0x3F));
		return 3;
	}
	ret[0] = (char)(0xF0 | code >> 18);
	ret[1] = (char)(0x80 | (code >> 12 & 0x3F));
	ret[2] = (char)(0x80 | (code >> 6 & 0x3F));
	ret[3] = (char)(0x80 | (code & 0x3F));
	return 4;
}

bool hf_utf8_is_printable(const char *text, size_t len_bytes)
{
	const uint8_t *p = (const uint8_t *)text, *end = p + len_bytes;

	while (p < end) {
		size_t n = hf_utf8_length(p, end);

		if (n == 0 || p[0] < 0x20 || p[0] == 0x7F)
			return false;
		if (p[0] == 0xC2 && p[1] < 0xA0)
			return false;
		p += n;
	}
	return true;
}
