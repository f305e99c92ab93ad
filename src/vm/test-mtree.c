/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "vm/mtree.h"

#define GIB (UINT64_C(1) << 30)
#define PARTS_MAX 8

/* QEMU 7.2, q35 with 8 GiB, once its firmware has mapped RAM over the ROM's place; lines about other
 * things are left out, and QEMU ends its lines with both. */
static const char q35[] =
	"address-space: cpu-smm-0\r\n"
	"  0000000000000000-ffffffffffffffff (prio 0, i/o): memory\r\n"
	"    00000000000a0000-00000000000bffff (prio 2, ram): alias smram-low @holdfast-ram "
	"00000000000a0000-00000000000bffff\r\n"
	"\r\n"
	"address-space: cpu-memory-0\r\n"
	"address-space: memory\r\n"
	"  0000000000000000-ffffffffffffffff (prio 0, i/o): system\r\n"
	"    0000000000000000-000000007fffffff (prio 0, ram): alias ram-below-4g @holdfast-ram "
	"0000000000000000-000000007fffffff\r\n"
	"    0000000000000000-ffffffffffffffff (prio -1, i/o): pci\r\n"
	"      00000000000c0000-00000000000dffff (prio 1, rom): pc.rom\r\n"
	"    00000000000c0000-00000000000c3fff (prio 1, ram): alias pam-ram @holdfast-ram "
	"00000000000c0000-00000000000c3fff\r\n"
	"    00000000000c4000-00000000000c7fff (prio 1, ram): alias pam-ram @holdfast-ram "
	"00000000000c4000-00000000000c7fff [disabled]\r\n"
	"    00000000000c8000-00000000000cbfff (prio 1, i/o): alias pam-pci @pci "
	"00000000000c8000-00000000000cbfff\r\n"
	"    0000000100000000-000000027fffffff (prio 0, ram): alias ram-above-4g @holdfast-ram "
	"0000000080000000-00000001ffffffff\r\n"
	"\r\n"
	"address-space: I/O\r\n"
	"    0000000000000000-0000000000000fff (prio 0, ram): alias nothing @holdfast-ram x\r\n";

static int parse(const char *text, const char *id, uint64_t bytes, struct hf_ram_part *part,
		 size_t *n, struct hf_err *err)
{
	return hf_mtree_parse(text, strlen(text), id, bytes, part, PARTS_MAX, n, err);
}

static void check_part(const struct hf_ram_part *p, uint64_t address, uint64_t bytes,
		       uint64_t offset)
{
	CHECK_EQ(p->address, address);
	CHECK_EQ(p->bytes, bytes);
	CHECK_EQ(p->offset, offset);
}

TEST(two_parts_and_a_hole)
{
	struct hf_ram_part part[PARTS_MAX];
	struct hf_err err = { "" };
	size_t n = 0;

	CHECK_EQ(parse(q35, "holdfast-ram", 8 * GIB, part, &n, &err), 0);
	CHECK_EQ(n, 2);
	check_part(&part[0], 0, 2 * GIB, 0);
	check_part(&part[1], 4 * GIB, 6 * GIB, 2 * GIB);
}

/* Machines of before QEMU 4.0 name it by its path. */
TEST(path_of_the_object)
{
	static const char text[] =
		"address-space: memory\r\n"
		"    0000000000000000-000000003fffffff (prio 0, ram): alias ram-below-4g "
		"@/objects/mem 0000000000000000-000000003fffffff\r\n\r\n";
	struct hf_ram_part part[PARTS_MAX];
	size_t n = 0;

	CHECK_EQ(parse(text, "mem", GIB, part, &n, NULL), 0);
	CHECK_EQ(n, 1);
	check_part(&part[0], 0, GIB, 0);
	CHECK_EQ(parse(text, "me", GIB, part, &n, NULL), -EPROTO);
	CHECK_EQ(parse(text, "mem0", GIB, part, &n, NULL), -EPROTO);
}

/* Arm's virt: all of it, without an alias, and not at 0. */
TEST(without_an_alias)
{
	static const char text[] = "address-space: memory\n"
				   "    0000000040000000-000000007fffffff (prio 0, ram): ram0\n";
	struct hf_ram_part part[PARTS_MAX];
	size_t n = 0;

	CHECK_EQ(parse(text, "ram0", GIB, part, &n, NULL), 0);
	CHECK_EQ(n, 1);
	check_part(&part[0], GIB, GIB, 0);
}

#define LINE(range, rest) "address-space: memory\n  " range " (prio 0, ram): " rest "\n"
#define ALL "0000000000000000-000000003fffffff"

static const struct bad {
	const char *text, *why;
} bads[] = {
	{ "", "does not show all of the RAM" },
	{ "address-space: I/O\n  " ALL " (prio 0, ram): ram0\n", "does not show all" },
	{ LINE("0000000000000000-000000001fffffff", "ram0"), "does not show all of the RAM" },
	{ LINE("0000000000000000-000000007fffffff", "ram0"), "beyond the end of the RAM" },
	{ LINE(ALL, "alias x @ram0 0000000000000001-0000000040000000"), "beyond the end" },
	{ LINE(ALL, "alias x @ram0 0000000000000000-000000003ffffffe"), "cannot be understood" },
	{ LINE(ALL, "alias x @ram0"), "cannot be understood" },
	{ LINE(ALL, "alias x @ram0 0-3fffffff"), "cannot be understood" },
	{ LINE("0-3fffffff", "ram0"), "line 2: what it says about the RAM cannot be understood" },
	{ LINE("000000003fffffff-0000000000000000", "ram0"), "cannot be understood" },
	{ LINE("0000000000000000-ffffffffffffffff", "ram0"), "cannot be understood" },
	{ LINE("000000000000000g-000000003fffffff", "ram0"), "cannot be understood" },
	{ LINE(ALL, "ram0 [disabled]"), "does not show all of the RAM" },
	{ LINE(ALL, "ram00"), "does not show all of the RAM" },
};

TEST(bad_texts)
{
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		struct hf_ram_part part[PARTS_MAX];
		struct hf_err err = { "" };
		size_t n = 77;
		int r = parse(bads[i].text, "ram0", GIB, part, &n, &err);

		if (r != -EPROTO)
			hf_test_fail(__FILE__, __LINE__, "%s: %d", bads[i].text, r);
		CHECK_CONTAINS(err.text, bads[i].why);
		CHECK_EQ(n, 77);
	}
}

TEST(too_many)
{
	static char text[65536] = "address-space: memory\n";
	struct hf_ram_part part[PARTS_MAX];
	size_t n = 0, used = strlen(text);

	for (unsigned int i = 0; i < 9; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "  %016x-%016x (prio 0, ram): alias a @ram0 %016x-%016x\n",
					 i << 12, (i << 12) + 4095, i << 12, (i << 12) + 4095);
	CHECK_EQ(parse(text, "ram0", 8 << 12, part, &n, NULL), -EPROTO);
	CHECK_EQ(parse(text, "ram0", 9 << 12, part, &n, NULL), -E2BIG);
	for (unsigned int i = 0; i < 60; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "  %016x-%016x (prio 0, ram): alias a @ram0 %016x-%016x\n",
					 i << 12, (i << 12) + 4095, 0U, 4095U);
	CHECK_EQ(parse(text, "ram0", 9 << 12, part, &n, NULL), -E2BIG);
	CHECK_EQ(hf_mtree_parse(text, HF_MTREE_TEXT_MAX + 1, "ram0", 4096, part, PARTS_MAX, &n,
				NULL),
		 -E2BIG);
}
