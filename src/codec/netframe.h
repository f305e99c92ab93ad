/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's framing of Ethernet on a stream: `-netdev stream` and `-netdev socket`. Each frame is its
 * length as a 32-bit big-endian integer, then the frame. Layer: codec. One thread for each parser.
 * Nothing allocates or blocks. Source: QEMU's net/stream.c, net/net.c net_fill_rstate(); the limit
 * is NET_BUFSIZE in its include/net/net.h.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HF_NETFRAME_HEADER_BYTES 4
#define HF_NETFRAME_MAX (4096 + 65536)
/* Smallest useful buffer of a parser. A larger one takes more frames with one read(). */
#define HF_NETFRAME_BUFFER_MIN (HF_NETFRAME_HEADER_BYTES + HF_NETFRAME_MAX)

struct hf_netframe_parser {
	uint8_t *buf; /* the caller's */
	size_t cap, start, end;
};

/* @buf: @size >= HF_NETFRAME_BUFFER_MIN bytes that the caller keeps as long as the parser. */
void hf_netframe_parser_init(struct hf_netframe_parser *p, uint8_t *buf, size_t size);

/* Where to read() to, once hf_netframe_parser_next() has returned 0; then how much has arrived.
 * Always offers at least one byte. Invalidates the frames given out. */
void hf_netframe_parser_space(struct hf_netframe_parser *p, uint8_t **ret, size_t *ret_n);
void hf_netframe_parser_commit(struct hf_netframe_parser *p, size_t n);

/**
 * hf_netframe_parser_next() - the next whole frame
 * @ret: into the buffer, without the header, valid until hf_netframe_parser_space()
 * Return: 1 a frame; 0 more bytes are needed; -EBADMSG with @err: a length of 0 or beyond
 * HF_NETFRAME_MAX, after which no frame can be found any more (and each further call says so).
 */
int hf_netframe_parser_next(struct hf_netframe_parser *p, const uint8_t **ret, size_t *ret_len,
			    struct hf_err *err) HF_MUST_CHECK;

/* The header of a frame of @len_bytes, 1 to HF_NETFRAME_MAX. */
void hf_netframe_encode_header(uint8_t ret[static HF_NETFRAME_HEADER_BYTES], size_t len_bytes);
