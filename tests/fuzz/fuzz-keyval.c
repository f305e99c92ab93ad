/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An option argument: what is read can be written, and reads the same again. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "codec/keyval.h"

static void check_round_trip(const struct hf_keyval *kv)
{
	struct hf_keyval back = { 0 };
	char *text = NULL;

	FUZZ_CHECK(hf_keyval_format(kv, "type", &text) == 0);
	/* A doubled comma may have made it too long to be read. */
	if (strlen(text) <= HF_KEYVAL_TEXT_MAX) {
		FUZZ_CHECK(hf_keyval_parse(text, "type", &back, NULL) == 0);
		FUZZ_CHECK(back.count == kv->count);
		for (size_t i = 0; i < kv->count; i++) {
			FUZZ_CHECK(strcmp(kv->pairs[i].key, back.pairs[i].key) == 0);
			FUZZ_CHECK(strcmp(kv->pairs[i].value, back.pairs[i].value) == 0);
		}
		hf_keyval_fini(&back);
	}
	free(text);
}

static void check_change(struct hf_keyval *kv)
{
	size_t before = kv->count;
	size_t removed = hf_keyval_remove(kv, "id");

	FUZZ_CHECK(kv->count == before - removed);
	FUZZ_CHECK(hf_keyval_get(kv, "id") == NULL);
	if (kv->count < HF_KEYVAL_PAIRS_MAX) {
		FUZZ_CHECK(hf_keyval_add(kv, "id", "x") == 0);
		FUZZ_CHECK(strcmp(hf_keyval_get(kv, "id"), "x") == 0);
	}
	check_round_trip(kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_keyval kv = { 0 };
	struct hf_err err = { "" };
	uint64_t bytes = 0;
	char *text = malloc(size + 1);
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	r = hf_keyval_parse(text, "type", &kv, &err);
	FUZZ_CHECK(r == 0 || r == -EINVAL);
	FUZZ_CHECK((r == 0) == (err.text[0] == '\0'));
	if (r == 0) {
		check_round_trip(&kv);
		check_change(&kv);
	}
	hf_keyval_fini(&kv);
	(void)!hf_keyval_parse_size(text, 1 << 20, &bytes, NULL);
	free(text);
	return 0;
}
