/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The note of a saved VM. What is taken is within its limits, and is written and read as the same again. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "codec/savenote.h"

static void check_again(const struct hf_savenote *n)
{
	static struct hf_savenote again;
	struct json_object *o = hf_savenote_encode(n);
	struct hf_err err = { "" };
	const char *text;

	FUZZ_CHECK(o);
	text = json_object_to_json_string(o);
	FUZZ_CHECK(hf_savenote_decode("again", text, strlen(text), &again, &err) == 0);
	FUZZ_CHECK(memcmp(n, &again, sizeof(again)) == 0);
	json_object_put(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hf_savenote n;
	struct hf_err err = { "" };
	int r = hf_savenote_decode("input", (const char *)data, size, &n, &err);

	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -E2BIG || r == -ENOMEM);
	FUZZ_CHECK(r == 0 || r == -ENOMEM || err.text[0]);
	if (r < 0)
		return 0;
	FUZZ_CHECK(hf_is_valid_name(n.vm));
	FUZZ_CHECK(n.n_images <= HF_SAVENOTE_IMAGES_MAX);
	FUZZ_CHECK(n.ram_bytes > 0 && n.device_state_bytes > 0);
	check_again(&n);
	return 0;
}
