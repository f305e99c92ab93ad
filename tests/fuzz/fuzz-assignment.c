/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a cluster manager has decided about a VM: a file. What is taken is whole, and fit for a command line. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "vm/assignment.h"

#define BOOT "3f0f7c2e-0000-0000-0000-00000000000a" /* of the seeds */

static void check_text(const char *text, size_t size)
{
	FUZZ_CHECK(memchr(text, 0, size));
	for (; *text; text++)
		FUZZ_CHECK((unsigned char)*text >= 0x20 && *text != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_COUNT };
	char *text = malloc(size + !size);
	struct hf_err err = { "" };
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	r = hf_assignment_parse(text, size, BOOT, &a, &err);
	free(text);
	FUZZ_CHECK(r == 0 || r == -ENOENT || r == -EBADMSG || r == -ENOMEM);
	FUZZ_CHECK((r == 0) == (a.place != HF_ASSIGNED_COUNT));
	FUZZ_CHECK(r == 0 || err.text[0]);
	if (r < 0)
		return 0;
	FUZZ_CHECK(a.place < HF_ASSIGNED_COUNT && hf_place_assigned_name(a.place));
	check_text(a.manager, sizeof(a.manager));
	check_text(a.resource, sizeof(a.resource));
	check_text(a.instance, sizeof(a.instance));
	check_text(a.node, sizeof(a.node));
	return 0;
}
