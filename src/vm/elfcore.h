/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest's memory as an ELF core file, where there is no QEMU that could write one. Layer: vm. Any thread;
 * blocks as long as the storage does.
 *
 * One PT_LOAD for each part of RAM, at its guest-physical address (as virtual and physical address, which
 * is QEMU's own form without paging), and one PT_NOTE of name "holdfast" with a text that says where this is from.
 * No registers: they were in the process that is gone. What was never written is a hole of the file.
 *
 * Source: the System V ABI, "Object Files" and "Program Loading"; elf(5).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/certificate.h"
#include "sys/sparsefile.h"

#define HF_ELFCORE_NOTE_NAME "holdfast"
#define HF_ELFCORE_NOTE_TYPE 1u
#define HF_ELFCORE_NOTE_MAX_BYTES 4096u

/**
 * struct hf_elfcore - what is to be written
 * @ram_fd: the RAM file
 * @part, @n_parts: at least one, at most HF_CERTIFICATE_RAM_PARTS_MAX
 * @machine: EM_X86_64...: of the guest, see hf_elfcore_machine()
 * @note: text; cut at HF_ELFCORE_NOTE_MAX_BYTES
 */
struct hf_elfcore {
	int ram_fd;
	const struct hf_ram_part *part;
	size_t n_parts;
	uint16_t machine;
	const char *note;
};

/* By the program's name, "qemu-system-x86_64"; EM_NONE: not known. */
uint16_t hf_elfcore_machine(const char *program);

/* Writes it to a new, empty file. @progress: see sys/sparsefile.h; its bytes are RAM's. Return: 0; -EINVAL: no parts, or
 * too many; -ECANCELED; -errno. Durable only after the caller's fsync(). */
int hf_elfcore_write(const struct hf_elfcore *e, int out_fd, hf_sparse_progress *progress,
		     void *ctx) HF_MUST_CHECK;
