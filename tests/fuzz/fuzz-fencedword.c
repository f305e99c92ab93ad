/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The word that a host was fenced. What is taken is a name, and fit for the log. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "codec/fencedword.h"
#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_object *o = NULL;
	struct hf_err err = { "" };
	struct hf_fencedword w;
	int r;

	if (hf_json_parse((const char *)data, size, &o, &err) < 0)
		return 0;
	r = hf_fencedword_read(o, &w, &err);
	FUZZ_CHECK(r == 0 || (r == -EINVAL && err.text[0]));
	if (r == 0) {
		FUZZ_CHECK(hf_is_valid_name(w.host));
		FUZZ_CHECK(w.begun_ns <= w.time_ns);
		FUZZ_CHECK(strlen(w.text) <= HF_FENCEDWORD_TEXT_MAX);
		for (const char *at = w.text; *at; at++)
			FUZZ_CHECK((unsigned char)*at >= 0x20 && *at != 0x7f);
	}
	json_object_put(o);
	return 0;
}
