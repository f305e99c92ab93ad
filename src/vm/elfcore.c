/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/elfcore.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

#define EHDR_BYTES 64u
#define PHDR_BYTES 56u
#define NOTE_NAME_BYTES 12u /* with its end, rounded up to 4 */
#define ALIGN_BYTES 4096u

#define HEAD_MAX_BYTES                                                                             \
	(EHDR_BYTES + (1 + HF_CERTIFICATE_RAM_PARTS_MAX) * PHDR_BYTES + 12 + NOTE_NAME_BYTES +     \
	 HF_ELFCORE_NOTE_MAX_BYTES)

struct phdr {
	uint32_t type;
	uint64_t offset, address, bytes, align;
};

uint16_t hf_elfcore_machine(const char *program)
{
	static const struct {
		const char *suffix;
		uint16_t machine;
	} known[] = {
		{ "-x86_64", EM_X86_64 }, { "-i386", EM_386 },    { "-aarch64", EM_AARCH64 },
		{ "-riscv64", EM_RISCV }, { "-ppc64", EM_PPC64 }, { "-s390x", EM_S390 },
	};
	size_t n = strlen(program), m;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		m = strlen(known[i].suffix);
		if (n >= m && strcmp(program + n - m, known[i].suffix) == 0)
			return known[i].machine;
	}
	return EM_NONE;
}

static void put_ehdr(uint8_t *at, uint16_t machine, uint16_t n_phdrs)
{
	static const uint8_t ident[EI_NIDENT] = { ELFMAG0,    ELFMAG1,     ELFMAG2,   ELFMAG3,
						  ELFCLASS64, ELFDATA2LSB, EV_CURRENT };

	memcpy(at, ident, sizeof(ident));
	hf_le16_put(at + 16, ET_CORE);
	hf_le16_put(at + 18, machine);
	hf_le32_put(at + 20, EV_CURRENT);
	hf_le64_put(at + 32, EHDR_BYTES); /* of the program headers */
	hf_le16_put(at + 52, EHDR_BYTES);
	hf_le16_put(at + 54, PHDR_BYTES);
	hf_le16_put(at + 56, n_phdrs);
}

static void put_phdr(uint8_t *at, const struct phdr *p)
{
	hf_le32_put(at, p->type);
	hf_le32_put(at + 4, p->type == PT_LOAD ? PF_R | PF_W | PF_X : 0);
	hf_le64_put(at + 8, p->offset);
	hf_le64_put(at + 16, p->address);
	hf_le64_put(at + 24, p->address);
	hf_le64_put(at + 32, p->bytes);
	hf_le64_put(at + 40, p->type == PT_LOAD ? p->bytes : 0);
	hf_le64_put(at + 48, p->align);
}

/* Returns its bytes, a multiple of 4. */
static size_t put_note(uint8_t *at, const char *text)
{
	size_t n = strnlen(text, HF_ELFCORE_NOTE_MAX_BYTES - 4);

	hf_le32_put(at, sizeof(HF_ELFCORE_NOTE_NAME));
	hf_le32_put(at + 4, (uint32_t)n + 1);
	hf_le32_put(at + 8, HF_ELFCORE_NOTE_TYPE);
	memcpy(at + 12, HF_ELFCORE_NOTE_NAME, sizeof(HF_ELFCORE_NOTE_NAME));
	memcpy(at + 12 + NOTE_NAME_BYTES, text, n);
	return 12 + NOTE_NAME_BYTES + ((n + 1 + 3) & ~(size_t)3);
}

/* @ret_offset: of each part in the file. Returns how long the file is. */
static uint64_t build_head(const struct hf_elfcore *e, uint8_t *head, size_t *ret_head_bytes,
			   uint64_t *ret_offset)
{
	size_t note_at = EHDR_BYTES + (1 + e->n_parts) * PHDR_BYTES;
	size_t note_bytes = put_note(head + note_at, e->note);
	uint64_t at = (note_at + note_bytes + ALIGN_BYTES - 1) & ~(uint64_t)(ALIGN_BYTES - 1);
	struct phdr p = { .type = PT_NOTE, .offset = note_at, .bytes = note_bytes, .align = 4 };

	put_ehdr(head, e->machine, (uint16_t)(1 + e->n_parts));
	put_phdr(head + EHDR_BYTES, &p);
	for (size_t i = 0; i < e->n_parts; i++) {
		p = (struct phdr){ .type = PT_LOAD,
				   .offset = at,
				   .address = e->part[i].address,
				   .bytes = e->part[i].bytes,
				   .align = ALIGN_BYTES };
		put_phdr(head + EHDR_BYTES + (1 + i) * PHDR_BYTES, &p);
		ret_offset[i] = at;
		at += e->part[i].bytes;
	}
	*ret_head_bytes = note_at + note_bytes;
	return at;
}

struct part_progress {
	hf_sparse_progress *progress;
	void *ctx;
	uint64_t before_bytes;
};

static bool pass_on(void *ctx, uint64_t done_bytes)
{
	const struct part_progress *p = ctx;

	return !p->progress || p->progress(p->ctx, p->before_bytes + done_bytes);
}

int hf_elfcore_write(const struct hf_elfcore *e, int out_fd, hf_sparse_progress *progress,
		     void *ctx)
{
	struct part_progress pp = { .progress = progress, .ctx = ctx };
	uint64_t offset[HF_CERTIFICATE_RAM_PARTS_MAX], size;
	uint8_t head[HEAD_MAX_BYTES] = { 0 };
	size_t head_bytes;
	int r = 0;

	if (e->n_parts == 0 || e->n_parts > HF_CERTIFICATE_RAM_PARTS_MAX)
		return -EINVAL;
	size = build_head(e, head, &head_bytes, offset);
	if (ftruncate(out_fd, (off_t)size) < 0)
		return -errno;
	if (pwrite(out_fd, head, head_bytes, 0) != (ssize_t)head_bytes)
		return errno ? -errno : -EIO;
	for (size_t i = 0; !r && i < e->n_parts; i++) {
		r = hf_sparse_copy(e->ram_fd, e->part[i].offset, e->part[i].bytes, out_fd,
				   offset[i], pass_on, &pp);
		pp.before_bytes += e->part[i].bytes;
	}
	return r;
}
