/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between stream.c and stream-tls.c. Layer: sys. The functions are as hf_stream_*() promises. */
#pragma once

#include "sys/stream.h"

struct hf_tlsio;

/* @fd: non-blocking, and stays the caller's. */
int hf_tlsio_new(int fd, struct hf_tls *tls, enum hf_stream_side side, const char *const *names,
		 struct hf_tlsio **ret, struct hf_err *err) HF_MUST_CHECK;
void hf_tlsio_free(struct hf_tlsio *t);

uint32_t hf_tlsio_events(const struct hf_tlsio *t, bool wants_read, bool wants_write);
bool hf_tlsio_has_input(const struct hf_tlsio *t);
int hf_tlsio_read(struct hf_tlsio *t, void *buf, size_t size, size_t *ret_n) HF_MUST_CHECK;
int hf_tlsio_read_kept(struct hf_tlsio *t, void *buf, size_t size, size_t *ret_n) HF_MUST_CHECK;
int hf_tlsio_writev(struct hf_tlsio *t, const struct iovec *iov, int n,
		    size_t *ret_n) HF_MUST_CHECK;
size_t hf_tlsio_unsent_bytes(const struct hf_tlsio *t);
bool hf_tlsio_is_ready(const struct hf_tlsio *t);
const char *hf_tlsio_peer_name(const struct hf_tlsio *t);
bool hf_tlsio_peer_has_name(const struct hf_tlsio *t, const char *name);
const char *hf_tlsio_error(const struct hf_tlsio *t);

/* For tests: make new keys after each @bytes sent. */
void hf_stream_rekey_after(struct hf_stream *s, uint64_t bytes);
void hf_tlsio_rekey_after(struct hf_tlsio *t, uint64_t bytes);
