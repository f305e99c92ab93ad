/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * A recursive descent over the text, one function for each production of RFC 8259, at most
 * HF_JSON_DEPTH_MAX deep. Strings are unescaped into `scratch`, one buffer as long as the text,
 * used as a stack: a key stays on it while its value is parsed. An unescaped string with its NUL is
 * never longer than its quoted form, so the stack cannot overflow. A value is always attached to
 * its parent as soon as it exists, so that giving up means releasing the root alone.
 */
#include "codec/json.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json_tokener.h>
#include <json-c/json_util.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/utf8.h"

struct parser {
	const uint8_t *start, *at, *end;
	char *scratch;
	size_t scratch_used;
	unsigned int depth;
	unsigned int values;
	struct hf_err *err;
};

static int parse_value(struct parser *p, struct json_object **ret);

static int fail_at(const struct parser *p, const uint8_t *where, const char *what)
{
	hf_err_set(p->err, "JSON: %s at byte %zu", what, (size_t)(where - p->start));
	return -EINVAL;
}

static int fail(const struct parser *p, const char *what)
{
	return fail_at(p, p->at, p->at == p->end ? "the text ends too early" : what);
}

static void skip_space(struct parser *p)
{
	while (p->at < p->end &&
	       (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
		p->at++;
}

static bool is_next(const struct parser *p, char c)
{
	return p->at < p->end && *p->at == (uint8_t)c;
}

static bool is_digit(const struct parser *p)
{
	return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

static void push(struct parser *p, const void *bytes, size_t n)
{
	assert(p->scratch_used + n <= (size_t)(p->end - p->start) + 1);
	memcpy(p->scratch + p->scratch_used, bytes, n);
	p->scratch_used += n;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The four digits after "\u". */
static int parse_hex4(struct parser *p, uint32_t *ret)
{
	uint32_t code = 0;

	for (int i = 0; i < 4; i++, p->at++) {
		int digit = p->at < p->end ? hex_digit(*p->at) : -1;

		if (digit < 0)
			return fail(p, "\\u needs four hexadecimal digits");
		code = code << 4 | (uint32_t)digit;
	}
	*ret = code;
	return 0;
}

static int parse_low_surrogate(struct parser *p, const uint8_t *where, uint32_t *code)
{
	uint32_t low;
	int r;

	if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u')
		return fail_at(p, where, "half a surrogate pair");
	p->at += 2;
	r = parse_hex4(p, &low);
	if (r < 0)
		return r;
	if (low < 0xDC00 || low > 0xDFFF)
		return fail_at(p, where, "half a surrogate pair");
	*code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
	return 0;
}

static int parse_unicode_escape(struct parser *p)
{
	const uint8_t *where = p->at;
	uint32_t code;
	char utf8[4];
	int r = parse_hex4(p, &code);

	if (r < 0)
		return r;
	if (code >= 0xDC00 && code <= 0xDFFF)
		return fail_at(p, where, "half a surrogate pair");
	if (code >= 0xD800 && code <= 0xDBFF)
		r = parse_low_surrogate(p, where, &code);
	if (r < 0)
		return r;
	if (code == 0)
		return fail_at(p, where, "a NUL character");
	push(p, utf8, hf_utf8_put(code, utf8));
	return 0;
}

/* After the backslash. */
static int parse_escape(struct parser *p)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (p->at == p->end)
		return fail(p, "");
	if (*p->at == 'u') {
		p->at++;
		return parse_unicode_escape(p);
	}
	found = *p->at ? strchr(from, *p->at) : NULL;
	if (!found)
		return fail(p, "an unknown escape");
	push(p, &to[found - from], 1);
	p->at++;
	return 0;
}

static int parse_char(struct parser *p)
{
	size_t n;

	if (*p->at == '\\') {
		p->at++;
		return parse_escape(p);
	}
	if (*p->at < 0x20)
		return fail(p, "a control character inside a string");
	n = hf_utf8_length(p->at, p->end);
	if (n == 0)
		return fail_at(p, p->at, "invalid UTF-8");
	push(p, p->at, n);
	p->at += n;
	return 0;
}

/* Leaves the string, NUL-terminated, on top of the scratch stack; the caller pops it. */
static int parse_string(struct parser *p, const char **ret, size_t *ret_len)
{
	size_t base = p->scratch_used;

	if (!is_next(p, '"'))
		return fail(p, "a string in double quotes is expected");
	p->at++;
	while (p->at < p->end && *p->at != '"') {
		int r = parse_char(p);

		if (r < 0)
			return r;
	}
	if (p->at == p->end)
		return fail(p, "");
	p->at++;
	*ret_len = p->scratch_used - base;
	push(p, "", 1);
	*ret = p->scratch + base;
	return 0;
}

static int parse_string_value(struct parser *p, struct json_object **ret)
{
	size_t base = p->scratch_used, len = 0;
	const char *text = "";
	int r = parse_string(p, &text, &len);

	if (r < 0)
		return r;
	*ret = json_object_new_string_len(text, (int)len);
	p->scratch_used = base;
	return *ret ? 0 : -ENOMEM;
}

static int parse_digits(struct parser *p)
{
	if (!is_digit(p))
		return fail(p, "a digit is expected");
	while (is_digit(p))
		p->at++;
	return 0;
}

/* RFC 8259: no leading zeros, digits on both sides of the point. */
static int scan_number(struct parser *p, bool *ret_is_integer)
{
	int r = 0;

	*ret_is_integer = true;
	if (is_next(p, '-'))
		p->at++;
	if (is_next(p, '0'))
		p->at++;
	else
		r = parse_digits(p);
	if (r == 0 && is_next(p, '.')) {
		*ret_is_integer = false;
		p->at++;
		r = parse_digits(p);
	}
	if (r == 0 && (is_next(p, 'e') || is_next(p, 'E'))) {
		*ret_is_integer = false;
		p->at++;
		if (is_next(p, '+') || is_next(p, '-'))
			p->at++;
		r = parse_digits(p);
	}
	return r;
}

static struct json_object *new_integer(const char *text)
{
	if (text[0] == '-') {
		int64_t value = strtoll(text, NULL, 10);

		return errno ? NULL : json_object_new_int64(value);
	}
	uint64_t value = strtoull(text, NULL, 10);

	if (errno)
		return NULL;
	return value <= INT64_MAX ? json_object_new_int64((int64_t)value)
				  : json_object_new_uint64(value);
}

/* By json-c, because it is careful about the locale's decimal point. */
static struct json_object *new_double(const char *text)
{
	struct json_object *value = json_tokener_parse(text);

	if (json_object_is_type(value, json_type_double) && isfinite(json_object_get_double(value)))
		return value;
	json_object_put(value);
	errno = ERANGE;
	return NULL;
}

static int parse_number(struct parser *p, struct json_object **ret)
{
	const uint8_t *where = p->at;
	size_t base = p->scratch_used;
	bool is_integer;
	int r = scan_number(p, &is_integer);

	if (r < 0)
		return r;
	push(p, where, (size_t)(p->at - where));
	p->scratch[p->scratch_used] = '\0';
	p->scratch_used = base;
	errno = 0;
	*ret = is_integer ? new_integer(p->scratch + base) : new_double(p->scratch + base);
	if (!*ret && errno == ERANGE)
		return fail_at(p, where,
			       is_integer ? "an integer that does not fit 64 bits"
					  : "a number that is too large");
	return *ret ? 0 : -ENOMEM;
}

static int parse_word(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
		return fail_at(p, p->at, "a value is expected");
	p->at += n;
	return 0;
}

static int parse_literal(struct parser *p, struct json_object **ret)
{
	bool is_true = is_next(p, 't');
	int r;

	if (is_next(p, 'n')) {
		*ret = NULL;
		return parse_word(p, "null");
	}
	r = parse_word(p, is_true ? "true" : "false");
	if (r < 0)
		return r;
	*ret = json_object_new_boolean(is_true);
	return *ret ? 0 : -ENOMEM;
}

/* After a member or an element: @ret_more tells whether another one follows. */
static int parse_separator(struct parser *p, char close, bool *ret_more)
{
	skip_space(p);
	*ret_more = is_next(p, ',');
	if (!*ret_more && !is_next(p, close))
		return fail(p, close == '}' ? "',' or '}' is expected" : "',' or ']' is expected");
	p->at++;
	skip_space(p);
	return 0;
}

static bool is_empty_container(struct parser *p, char close)
{
	p->at++;
	skip_space(p);
	if (!is_next(p, close))
		return false;
	p->at++;
	return true;
}

/* NOLINTBEGIN(misc-no-recursion): parse_container() bounds it. */
static int parse_element(struct parser *p, struct json_object *array)
{
	struct json_object *value;
	int r = parse_value(p, &value);

	if (r < 0)
		return r;
	if (json_object_array_add(array, value) == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static int parse_elements(struct parser *p, struct json_object *array)
{
	bool more = !is_empty_container(p, ']');

	while (more) {
		int r = parse_element(p, array);

		if (r == 0)
			r = parse_separator(p, ']', &more);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_key(struct parser *p, const struct json_object *object, const char **ret)
{
	const uint8_t *where = p->at;
	size_t len;
	int r = parse_string(p, ret, &len);

	if (r < 0)
		return r;
	if (json_object_object_get_ex(object, *ret, NULL)) {
		hf_err_set(p->err, "JSON: the key \"%.64s\" comes a second time at byte %zu", *ret,
			   (size_t)(where - p->start));
		return -EINVAL;
	}
	skip_space(p);
	if (!is_next(p, ':'))
		return fail(p, "':' is expected");
	p->at++;
	return 0;
}

static int parse_member(struct parser *p, struct json_object *object)
{
	size_t base = p->scratch_used;
	struct json_object *value;
	const char *key;
	int r = parse_key(p, object, &key);

	if (r == 0)
		r = parse_value(p, &value);
	if (r < 0)
		return r;
	r = json_object_object_add(object, key, value);
	p->scratch_used = base;
	if (r == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static int parse_members(struct parser *p, struct json_object *object)
{
	bool more = !is_empty_container(p, '}');

	while (more) {
		int r = parse_member(p, object);

		if (r == 0)
			r = parse_separator(p, '}', &more);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_container(struct parser *p, struct json_object **ret)
{
	bool is_object = is_next(p, '{');
	struct json_object *value;
	int r;

	if (p->depth == HF_JSON_DEPTH_MAX)
		return fail(p, "nesting is too deep");
	value = is_object ? json_object_new_object() : json_object_new_array();
	if (!value)
		return -ENOMEM;
	p->depth++;
	r = is_object ? parse_members(p, value) : parse_elements(p, value);
	p->depth--;
	if (r < 0) {
		json_object_put(value);
		return r;
	}
	*ret = value;
	return 0;
}

static int parse_value(struct parser *p, struct json_object **ret)
{
	skip_space(p);
	if (p->at == p->end)
		return fail(p, "");
	if (++p->values > HF_JSON_VALUES_MAX)
		return fail(p, "too many values");
	switch (*p->at) {
	case '{':
	case '[':
		return parse_container(p, ret);
	case '"':
		return parse_string_value(p, ret);
	case '-':
	case '0' ... '9':
		return parse_number(p, ret);
	default:
		return parse_literal(p, ret);
	}
}

/* NOLINTEND(misc-no-recursion) */

static int parse_text(struct parser *p, struct json_object **ret)
{
	struct json_object *value;
	int r = parse_value(p, &value);

	if (r < 0)
		return r;
	skip_space(p);
	if (p->at < p->end) {
		json_object_put(value);
		return fail(p, "something follows the value");
	}
	*ret = value;
	return 0;
}

int hf_json_parse(const char *text, size_t len, struct json_object **ret, struct hf_err *err)
{
	const uint8_t *start = (const uint8_t *)text;
	struct parser p = { .start = start, .at = start, .end = start + len, .err = err };
	int r;

	assert(text || len == 0);
	if (len >= INT32_MAX) {
		hf_err_set(err, "JSON: a text of %zu bytes is too long", len);
		return -EINVAL;
	}
	p.scratch = malloc(len + 1);
	if (!p.scratch)
		return -ENOMEM;
	r = parse_text(&p, ret);
	free(p.scratch);
	return r;
}

bool hf_json_has(const struct json_object *obj, const char *key)
{
	struct json_object *value;

	return json_object_is_type(obj, json_type_object) &&
	       json_object_object_get_ex(obj, key, &value) && value;
}

static const char *type_name(const struct json_object *value)
{
	if (json_object_is_type(value, json_type_null))
		return "null";
	return json_type_to_name(json_object_get_type(value));
}

static int get_member(const struct json_object *obj, const char *key, enum json_type type,
		      struct json_object **ret, struct hf_err *err)
{
	struct json_object *value;

	if (!json_object_is_type(obj, json_type_object)) {
		hf_err_set(err, "an object with \"%s\" is expected, not %s", key, type_name(obj));
		return -EINVAL;
	}
	if (!hf_json_has(obj, key)) {
		hf_err_set(err, "\"%s\" is missing", key);
		return -EINVAL;
	}
	(void)json_object_object_get_ex(obj, key, &value);
	if (!json_object_is_type(value, type)) {
		hf_err_set(err, "\"%s\" must be of type %s, not %s", key, json_type_to_name(type),
			   type_name(value));
		return -EINVAL;
	}
	*ret = value;
	return 0;
}

int hf_json_str(const struct json_object *obj, const char *key, const char **ret,
		struct hf_err *err)
{
	struct json_object *value;
	int r = get_member(obj, key, json_type_string, &value, err);

	if (r == 0)
		*ret = json_object_get_string(value);
	return r;
}

int hf_json_copy_str(const struct json_object *obj, const char *key, char *ret, size_t size,
		     struct hf_err *err)
{
	const char *text;
	int r = hf_json_str(obj, key, &text, err);

	if (r < 0)
		return r;
	if (strlen(text) >= size) {
		hf_err_set(err, "\"%s\" has more than %zu bytes", key, size - 1);
		return -EINVAL;
	}
	memset(ret, 0, size); /* so that equal ones are equal bytes */
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

int hf_json_i64(const struct json_object *obj, const char *key, int64_t *ret, struct hf_err *err)
{
	struct json_object *value;
	int r = get_member(obj, key, json_type_int, &value, err);

	if (r < 0)
		return r;
	if (json_object_get_uint64(value) > INT64_MAX) {
		hf_err_set(err, "\"%s\" is larger than %lld", key, (long long)INT64_MAX);
		return -EINVAL;
	}
	*ret = json_object_get_int64(value);
	return 0;
}

int hf_json_u64(const struct json_object *obj, const char *key, uint64_t *ret, struct hf_err *err)
{
	struct json_object *value;
	int r = get_member(obj, key, json_type_int, &value, err);

	if (r < 0)
		return r;
	if (json_object_get_int64(value) < 0) {
		hf_err_set(err, "\"%s\" must not be negative", key);
		return -EINVAL;
	}
	*ret = json_object_get_uint64(value);
	return 0;
}

int hf_json_bool(const struct json_object *obj, const char *key, bool *ret, struct hf_err *err)
{
	struct json_object *value;
	int r = get_member(obj, key, json_type_boolean, &value, err);

	if (r == 0)
		*ret = json_object_get_boolean(value) != 0;
	return r;
}

int hf_json_obj(const struct json_object *obj, const char *key, struct json_object **ret,
		struct hf_err *err)
{
	return get_member(obj, key, json_type_object, ret, err);
}

int hf_json_array(const struct json_object *obj, const char *key, struct json_object **ret,
		  struct hf_err *err)
{
	return get_member(obj, key, json_type_array, ret, err);
}

void hf_json_add_str(struct json_object *obj, const char *key, const char *value)
{
	json_object_object_add(obj, key, json_object_new_string(value));
}

void hf_json_add_u64(struct json_object *obj, const char *key, uint64_t value)
{
	json_object_object_add(obj, key, json_object_new_uint64(value));
}

void hf_json_add_i64(struct json_object *obj, const char *key, int64_t value)
{
	json_object_object_add(obj, key, json_object_new_int64(value));
}

void hf_json_add_bool(struct json_object *obj, const char *key, bool value)
{
	json_object_object_add(obj, key, json_object_new_boolean(value));
}
