/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes and flags of the guest's datagrams, shared with tests/lab. Formats: udp.c. */
#pragma once

#include "base/bytes.h"

#define COUNTER_REQUEST_BYTES 20
#define COUNTER_REPLY_BYTES 24
#define COUNTER_VIOLATED 1u

#define PING_BYTES_MAX 9000

#define DURABLE_REQUEST_BYTES 8
#define DURABLE_HEAD_BYTES 32
#define DURABLE_FILES 64
#define DURABLE_REPLY_BYTES (DURABLE_HEAD_BYTES + DURABLE_FILES * 16)
