/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM's definition, as daemon and keeper read it. What is taken is in its ranges; what is refused is
 * refused with a place in the file, or with its name.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "daemon/vmfile.h"

static void check(const struct hf_vmfile *f)
{
	FUZZ_CHECK(strcmp(f->name, "web") == 0);
	FUZZ_CHECK(f->n_hosts == 0 || f->n_hosts == 2);
	FUZZ_CHECK((f->own < 0) == (f->n_hosts == 0));
	FUZZ_CHECK(f->own < 0 || strcmp(f->hosts[f->own].name, "a") == 0);
	FUZZ_CHECK(!f->n_hosts || f->hosts[1 - f->own].addr.host[0]);
	FUZZ_CHECK(!f->is_taken_over || f->n_hosts == 0);
	FUZZ_CHECK(f->n_prefer <= HF_VMFILE_HOSTS_MAX);
	for (unsigned int i = 0; i < f->n_prefer; i++)
		FUZZ_CHECK(hf_is_valid_name(f->prefer[i]));
	for (unsigned int i = 0; i < HF_VM_CAUSE_COUNT; i++)
		FUZZ_CHECK(f->on[i] < HF_VM_POLICY_COUNT);
	FUZZ_CHECK(f->state_dir[0] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + !size);
	struct hf_vmfile f;
	struct hf_err err = { "" };
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	r = hf_vmfile_parse("fuzz", "web", "a", text, size, &f, &err);
	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -ENOMEM);
	FUZZ_CHECK(r != -EINVAL || strncmp(err.text, "fuzz", 4) == 0);
	if (r == 0)
		check(&f);
	free(text);
	return 0;
}
