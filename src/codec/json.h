/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * JSON text to json-c objects, strictly. Layer: codec. Any thread. The only place that parses JSON.
 *
 * json-c's own tokener accepts duplicate keys, clamps integers that do not fit and, unless told
 * otherwise, comments and single quotes; a peer could thus make two readers of one message see
 * different things. So the text is read here by RFC 8259 and json-c only holds the result.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HF_JSON_DEPTH_MAX 32
/* Values in one text: what a hostile text may cost in memory (about 100 bytes for each). */
#define HF_JSON_VALUES_MAX 131072

/**
 * hf_json_parse() - parse one whole text
 * @text: @len bytes, not necessarily NUL-terminated; stays the caller's
 * @ret: the value, to be released with json_object_put(); json-c's form of a bare "null" is NULL
 *
 * Refuses, beside what RFC 8259 refuses: invalid UTF-8, a key twice in one object, NUL also as
 * \u0000, unpaired surrogates, nesting deeper than HF_JSON_DEPTH_MAX, more than HF_JSON_VALUES_MAX
 * values, integers outside int64 and uint64, numbers beyond a double. Allocates; does not block.
 * Return: 0; -EINVAL with @err naming the fault and the byte it was found at; -ENOMEM.
 */
int hf_json_parse(const char *text, size_t len, struct json_object **ret,
		  struct hf_err *err) HF_MUST_CHECK;

/*
 * Members of an object. Each returns 0, or -EINVAL with @err naming the key and whether it is
 * missing or of which wrong type. What they return stays owned by @obj. A member that is null
 * counts as missing. @obj may be anything, also NULL: what is not an object has no members.
 */
bool hf_json_has(const struct json_object *obj, const char *key);
int hf_json_str(const struct json_object *obj, const char *key, const char **ret,
		struct hf_err *err) HF_MUST_CHECK;
/* A text that has to fit: into all of @size bytes of @ret, the rest being zero. @ret is touched only then. */
int hf_json_copy_str(const struct json_object *obj, const char *key, char *ret, size_t size,
		     struct hf_err *err) HF_MUST_CHECK;
int hf_json_i64(const struct json_object *obj, const char *key, int64_t *ret,
		struct hf_err *err) HF_MUST_CHECK;
int hf_json_u64(const struct json_object *obj, const char *key, uint64_t *ret,
		struct hf_err *err) HF_MUST_CHECK;
int hf_json_bool(const struct json_object *obj, const char *key, bool *ret,
		 struct hf_err *err) HF_MUST_CHECK;
int hf_json_obj(const struct json_object *obj, const char *key, struct json_object **ret,
		struct hf_err *err) HF_MUST_CHECK;
int hf_json_array(const struct json_object *obj, const char *key, struct json_object **ret,
		  struct hf_err *err) HF_MUST_CHECK;

/* One more member of @obj, which must not have it yet. */
void hf_json_add_str(struct json_object *obj, const char *key, const char *value);
void hf_json_add_u64(struct json_object *obj, const char *key, uint64_t value);
void hf_json_add_i64(struct json_object *obj, const char *key, int64_t value);
void hf_json_add_bool(struct json_object *obj, const char *key, bool value);
