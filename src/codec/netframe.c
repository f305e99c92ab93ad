/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/netframe.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

void hf_netframe_parser_init(struct hf_netframe_parser *p, uint8_t *buf, size_t size)
{
	assert(size >= HF_NETFRAME_BUFFER_MIN);
	*p = (struct hf_netframe_parser){ .buf = buf, .cap = size };
}

void hf_netframe_parser_space(struct hf_netframe_parser *p, uint8_t **ret, size_t *ret_n)
{
	if (p->start > 0)
		memmove(p->buf, p->buf + p->start, p->end - p->start);
	p->end -= p->start;
	p->start = 0;
	assert(p->end < p->cap);
	*ret = p->buf + p->end;
	*ret_n = p->cap - p->end;
}

void hf_netframe_parser_commit(struct hf_netframe_parser *p, size_t n)
{
	assert(n <= p->cap - p->end);
	p->end += n;
}

int hf_netframe_parser_next(struct hf_netframe_parser *p, const uint8_t **ret, size_t *ret_len,
			    struct hf_err *err)
{
	size_t have = p->end - p->start, len;

	if (have < HF_NETFRAME_HEADER_BYTES)
		return 0;
	len = hf_be32_get(p->buf + p->start);
	if (len == 0 || len > HF_NETFRAME_MAX) {
		hf_err_set(
			err,
			"the guest's network stream is out of step: a frame of %zu bytes (1 to %d "
			"are possible)",
			len, HF_NETFRAME_MAX);
		return -EBADMSG;
	}
	if (have < HF_NETFRAME_HEADER_BYTES + len)
		return 0;
	*ret = p->buf + p->start + HF_NETFRAME_HEADER_BYTES;
	*ret_len = len;
	p->start += HF_NETFRAME_HEADER_BYTES + len;
	return 1;
}

void hf_netframe_encode_header(uint8_t ret[static HF_NETFRAME_HEADER_BYTES], size_t len_bytes)
{
	assert(len_bytes > 0);
	assert(len_bytes <= HF_NETFRAME_MAX);
	hf_be32_put(ret, (uint32_t)len_bytes);
}
