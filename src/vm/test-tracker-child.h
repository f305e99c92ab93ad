/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands of the tracker's tests to the child that plays QEMU: one packet each on a SOCK_SEQPACKET
 * pair, each answered by one packet with an int64_t. Same machine, same build, so a struct as it is
 * will do.
 */
#pragma once

#include <stdint.h>

enum child_op {
	OP_ADDRESS, /* answer: where RAM is mapped */
	OP_WRITE, /* @value into pages first, first + stride, ..., by @threads threads */
	OP_READ_INTO, /* the kernel writes: read(2) from a pipe into one page */
	OP_TOUCH, /* only read @n pages from @first on */
	OP_DISCARD, /* MADV_DONTNEED on @n pages: their entries go, the content stays */
	OP_RACE_START, /* @threads threads write @value to each page, once */
	OP_RACE_PAUSE, /* answered when all stand still; 1: they are through */
	OP_RACE_RESUME,
	OP_RACE_END, /* answered when they are through */
	OP_CLOSE_FDS, /* everything but stdio and the socket: also the library's userfaultfd */
	OP_ENVIRONMENT, /* answer: 1 if our variables are there, + 2 if LD_PRELOAD is */
	OP_FORK_MAP, /* a forked child maps RAM too; answer: its exit status, 0 = it could */
	OP_UNMAP,
	OP_COUNT,
};

struct child_command {
	uint32_t op;
	uint32_t threads;
	uint64_t first;
	uint64_t n;
	uint64_t stride;
	uint64_t value;
};
