/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest of a few bytes for tests with the real QEMU: it counts in RAM at COUNTER, as fast as it can. */
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "../../tests/test.h"

#define COUNTER 0x1000
#define FIRMWARE_BYTES 65536

static char folder[] = "/tmp/test-guest-XXXXXX";
static char firmware[64];

static void forget_folder(void)
{
	if (firmware[0])
		(void)unlink(firmware);
	(void)rmdir(folder);
}

/*
 * xor ax,ax; mov ds,ax; xor ebx,ebx; again: inc ebx; mov [COUNTER],ebx; jmp again. The number lives
 * in a register, so a guest that began anew would show. The processor begins at 0xfff0.
 */
static void write_firmware(void)
{
	static const uint8_t code[] = { 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x31, 0xdb, 0x66,
					0x43, 0x66, 0x89, 0x1e, 0x00, 0x10, 0xeb, 0xf7 };
	static const uint8_t reset[] = { 0xe9, 0x0d, 0x00 }; /* jmp to 0, around the segment */
	static uint8_t image[FIRMWARE_BYTES];
	int fd;

	if (firmware[0])
		return;
	CHECK(mkdtemp(folder));
	(void)snprintf(firmware, sizeof(firmware), "%s/rom", folder);
	(void)atexit(forget_folder);
	memcpy(image, code, sizeof(code));
	memcpy(image + 0xfff0, reset, sizeof(reset));
	fd = open(firmware, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, image, sizeof(image)), sizeof(image));
	(void)close(fd);
}
