/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What we accept, json-c accepts too and reads the same; and it survives being written and read. */
#include "fuzz.h"

#include <json-c/json_tokener.h>
#include <string.h>

#include "codec/json.h"

static struct json_object *read_by_json_c(const char *text, size_t size)
{
	struct json_tokener *tokener = json_tokener_new_ex(HF_JSON_DEPTH_MAX + 2);
	struct json_object *value;

	FUZZ_CHECK(tokener);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	value = json_tokener_parse_ex(tokener, text, (int)size);
	/* A number at the very end might go on: the terminating NUL tells that it does not. */
	if (json_tokener_get_error(tokener) == json_tokener_continue)
		value = json_tokener_parse_ex(tokener, "", 1);
	FUZZ_CHECK(json_tokener_get_error(tokener) == json_tokener_success);
	json_tokener_free(tokener);
	return value;
}

/* json-c 0.16 makes U+FFFD of valid pairs like \ud837\ude00: there it cannot judge. */
static int has_surrogate_escape(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 3 < size; i++)
		if (data[i] == '\\' && data[i + 1] == 'u' && (data[i + 2] | 0x20) == 'd' &&
		    data[i + 3] >= '8')
			return 1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_object *value = NULL, *theirs, *again = NULL;
	struct hf_err err = { "" };
	const char *text;
	size_t len;

	if (hf_json_parse((const char *)data, size, &value, &err) != 0) {
		FUZZ_CHECK(err.text[0] != '\0');
		return 0;
	}
	theirs = read_by_json_c((const char *)data, size);
	FUZZ_CHECK(json_object_equal(value, theirs) || has_surrogate_escape(data, size));
	text = json_object_to_json_string_length(value, JSON_C_TO_STRING_PLAIN, &len);
	FUZZ_CHECK(hf_json_parse(text, len, &again, NULL) == 0);
	FUZZ_CHECK(json_object_equal(value, again));
	json_object_put(value);
	json_object_put(theirs);
	json_object_put(again);
	return 0;
}
