/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an earlier daemon wrote down of what is wanted. What is taken is whole, and each VM once. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "daemon/wantedfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + !size);
	struct hf_wanted_all all;
	struct hf_err err = { "" };
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	r = hf_wantedfile_parse(text, size, &all, &err);
	FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -ENOMEM);
	FUZZ_CHECK(r == 0 || (err.text[0] && !all.vms && !all.n));
	for (size_t i = 0; i < all.n; i++) {
		const struct hf_wanted_entry *e = &all.vms[i];

		FUZZ_CHECK(hf_is_valid_name(e->vm));
		FUZZ_CHECK(!e->wanted.host[0] || hf_is_valid_name(e->wanted.host));
		FUZZ_CHECK(e->wanted.version <= HF_WANTED_VERSION_MAX);
		for (size_t k = 0; k < i; k++)
			FUZZ_CHECK(strcmp(all.vms[k].vm, e->vm) != 0);
	}
	hf_wantedfile_fini(&all);
	free(text);
	return 0;
}
