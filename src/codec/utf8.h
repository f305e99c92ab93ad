/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Strict UTF-8 (RFC 3629): no overlong form, no surrogate, nothing above U+10FFFF. Layer: codec.
 * Any thread. Nothing allocates or blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * hf_utf8_length() - length of the one character at @text
 * @end: first byte after the text; @text < @end
 * Return: 1 to 4 bytes, or 0 when what stands there is not a whole valid character.
 */
size_t hf_utf8_length(const uint8_t *text, const uint8_t *end);

/**
 * hf_utf8_put() - encode one character
 * @code: a Unicode scalar value: at most 0x10FFFF and no surrogate
 * @ret: room for 4 bytes
 * Return: bytes written, 1 to 4.
 */
size_t hf_utf8_put(uint32_t code, char *ret);

/**
 * hf_utf8_is_printable() - is this text fit to be shown to a person on one line?
 * Valid UTF-8 without control characters (C0, DEL, C1), so it can neither end a line nor move a
 * terminal's cursor.
 */
bool hf_utf8_is_printable(const char *text, size_t len_bytes);
