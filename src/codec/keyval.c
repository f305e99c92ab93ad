/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/keyval.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/linkhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

/* util/keyval.c has the same limit for each part of a dotted key; no option comes near it. */
#define KEY_MAX 127

void hf_keyval_fini(struct hf_keyval *kv)
{
	if (!kv)
		return;
	for (size_t i = 0; i < kv->count; i++) {
		free(kv->pairs[i].key);
		free(kv->pairs[i].value);
	}
	free(kv->pairs);
	*kv = (struct hf_keyval){ 0 };
}

/* Takes over key and value, also when it fails. */
static int push(struct hf_keyval *kv, char *key, char *value)
{
	struct hf_keyval_pair *grown;
	int r = key && value ? 0 : -ENOMEM;

	if (!r && kv->count == HF_KEYVAL_PAIRS_MAX)
		r = -E2BIG;
	/* Doubling: there is room unless the count is a power of two, also after a removal. */
	if (!r && (kv->count & (kv->count - 1)) == 0) {
		grown = realloc(kv->pairs, (kv->count ? 2 * kv->count : 1) * sizeof(*grown));
		if (!grown)
			r = -ENOMEM;
		else
			kv->pairs = grown;
	}
	if (r < 0) {
		free(key);
		free(value);
		return r;
	}
	kv->pairs[kv->count++] = (struct hf_keyval_pair){ key, value };
	return 0;
}

int hf_keyval_add(struct hf_keyval *kv, const char *key, const char *value)
{
	return push(kv, strdup(key), strdup(value));
}

size_t hf_keyval_remove(struct hf_keyval *kv, const char *key)
{
	size_t kept = 0;
	size_t count = kv->count;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(kv->pairs[i].key, key) != 0) {
			kv->pairs[kept++] = kv->pairs[i];
			continue;
		}
		free(kv->pairs[i].key);
		free(kv->pairs[i].value);
	}
	kv->count = kept;
	return count - kept;
}

const char *hf_keyval_get(const struct hf_keyval *kv, const char *key)
{
	for (size_t i = kv->count; i > 0; i--)
		if (strcmp(kv->pairs[i - 1].key, key) == 0)
			return kv->pairs[i - 1].value;
	return NULL;
}

bool hf_keyval_is_on(const struct hf_keyval *kv, const char *key, bool def)
{
	const char *v = hf_keyval_get(kv, key);

	if (!v)
		return def;
	return strcmp(v, "on") == 0 || strcmp(v, "yes") == 0 || strcmp(v, "true") == 0 ||
	       strcmp(v, "y") == 0;
}

static bool is_valid_key(const char *key, size_t len)
{
	if (len == 0 || len > KEY_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)key[i]) && !strchr("-_.:+[]", key[i]))
			return false;
	return true;
}

/* Copies one value up to its end: the end of the text, or a comma that is not doubled. */
static char *take_value(const char **p)
{
	const char *s = *p;
	char *out = malloc(strlen(s) + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (; *s; s++) {
		if (*s == ',' && *++s != ',') {
			s--;
			break;
		}
		out[n++] = *s;
	}
	out[n] = '\0';
	*p = s;
	return out;
}

static int parse_one(struct hf_keyval *kv, const char **p, const char *implied, struct hf_err *err)
{
	size_t len = strcspn(*p, "=,");
	bool has_value = (*p)[len] == '=';
	char *key;

	if (!has_value && implied && len > 0)
		return push(kv, strdup(implied), take_value(p));
	if (!is_valid_key(*p, len)) {
		hf_err_set(err, "'%.*s' is not a key (a comma in a value is written ',,')",
			   (int)(len < 64 ? len : 64), *p);
		return -EINVAL;
	}
	key = strndup(*p, len);
	*p += len;
	if (!has_value)
		return push(kv, key, strdup("on"));
	++*p;
	return push(kv, key, take_value(p));
}

static int parse_pairs(struct hf_keyval *kv, const char *text, const char *implied,
		       struct hf_err *err)
{
	const char *p = text;
	int r;

	while (*p) {
		r = parse_one(kv, &p, p == text ? implied : NULL, err);
		if (r == -E2BIG)
			hf_err_set(err, "more than %d keys", HF_KEYVAL_PAIRS_MAX);
		if (r < 0)
			return r;
		if (*p == ',')
			p++;
	}
	return 0;
}

/* These call each other as deep as the text goes, which hf_json_parse() bounds. */
/* NOLINTBEGIN(misc-no-recursion) */
static int flatten(struct hf_keyval *kv, const char *key, struct json_object *v,
		   struct hf_err *err);

static int flatten_member(struct hf_keyval *kv, const char *prefix, const char *name,
			  struct json_object *v, struct hf_err *err)
{
	char *key = NULL;
	int r;

	if (!is_valid_key(name, strlen(name))) {
		hf_err_set(err, "'%.64s' is not a key", name);
		return -EINVAL;
	}
	if (asprintf(&key, "%s%s%s", prefix, *prefix ? "." : "", name) < 0)
		return -ENOMEM;
	/* The parts of a name may each be short and the whole too long. */
	r = -EINVAL;
	if (is_valid_key(key, strlen(key)))
		r = flatten(kv, key, v, err);
	else
		hf_err_set(err, "'%.64s...' is too long for a key", key);
	free(key);
	return r;
}

static int flatten_array(struct hf_keyval *kv, const char *key, struct json_object *v,
			 struct hf_err *err)
{
	char index[32];
	int r = 0;

	for (size_t i = 0; !r && i < json_object_array_length(v); i++) {
		(void)snprintf(index, sizeof(index), "%zu", i);
		r = flatten_member(kv, key, index, json_object_array_get_idx(v, i), err);
	}
	return r;
}

/* A null says that something is left out ("backing": null): it has no key. */
static int flatten(struct hf_keyval *kv, const char *key, struct json_object *v, struct hf_err *err)
{
	int r = 0;

	if (!v)
		return 0;
	if (json_object_is_type(v, json_type_array))
		return flatten_array(kv, key, v, err);
	if (json_object_is_type(v, json_type_boolean))
		return hf_keyval_add(kv, key, json_object_get_boolean(v) ? "on" : "off");
	if (!json_object_is_type(v, json_type_object))
		return hf_keyval_add(kv, key, json_object_get_string(v));
	json_object_object_foreach(v, name, member)
	{
		r = flatten_member(kv, key, name, member, err);
		if (r < 0)
			break;
	}
	return r;
}

/* NOLINTEND(misc-no-recursion) */

static int parse_json(struct hf_keyval *kv, const char *text, struct hf_err *err)
{
	struct json_object *root = NULL;
	int r = hf_json_parse(text, strlen(text), &root, err);

	if (!r)
		r = flatten(kv, "", root, err);
	if (r == -E2BIG)
		hf_err_set(err, "more than %d keys", HF_KEYVAL_PAIRS_MAX);
	json_object_put(root);
	return r;
}

int hf_keyval_parse(const char *text, const char *implied, struct hf_keyval *ret,
		    struct hf_err *err)
{
	struct hf_keyval kv = { 0 };
	int r;

	if (strnlen(text, HF_KEYVAL_TEXT_MAX + 1) > HF_KEYVAL_TEXT_MAX) {
		hf_err_set(err, "longer than %u bytes", HF_KEYVAL_TEXT_MAX);
		return -EINVAL;
	}
	r = text[0] == '{' ? parse_json(&kv, text, err) : parse_pairs(&kv, text, implied, err);
	if (r < 0)
		hf_keyval_fini(&kv);
	else
		*ret = kv;
	return r == -E2BIG ? -EINVAL : r;
}

static void put_value(FILE *out, const char *value)
{
	for (; *value; value++) {
		if (*value == ',')
			(void)fputc(',', out);
		(void)fputc(*value, out);
	}
}

/* A value that holds '=' before any comma would be taken for a pair: it needs its key. */
static bool may_stand_alone(const char *value)
{
	return *value && *value != '{' && *value != ',' && value[strcspn(value, "=,")] != '=';
}

int hf_keyval_format(const struct hf_keyval *kv, const char *implied, char **ret)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	const struct hf_keyval_pair *p = kv->pairs;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < kv->count; i++, p++) {
		if (i > 0)
			(void)fputc(',', out);
		if (i > 0 || !implied || strcmp(p->key, implied) != 0 || !may_stand_alone(p->value))
			(void)fprintf(out, "%s=", p->key);
		put_value(out, p->value);
	}
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret = text;
	return 0;
}

static int size_factor(char suffix, uint64_t default_unit, uint64_t *ret)
{
	static const char letters[] = "bkmgtpe";
	const char *found;

	if (suffix == '\0') {
		*ret = default_unit;
		return 0;
	}
	found = strchr(letters, tolower((unsigned char)suffix));
	if (!found)
		return -EINVAL;
	*ret = UINT64_C(1) << (10 * (found - letters));
	return 0;
}

/* "1.5G": digits after the point, as bytes. QEMU's double has no more precision than this. */
static double parse_fraction(const char **p)
{
	double fraction = 0;
	double place = 1;

	if (**p != '.')
		return 0;
	for (++*p; isdigit((unsigned char)**p); ++*p) {
		place /= 10;
		fraction += place * (**p - '0');
	}
	return fraction;
}

static int parse_size(const char *text, uint64_t unit, uint64_t *ret)
{
	bool is_hex = text[0] == '0' && tolower((unsigned char)text[1]) == 'x';
	const char *p;
	uint64_t factor;
	uint64_t n;
	double fraction;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, is_hex ? 16 : 10);
	if (errno)
		return -ERANGE;
	p = end;
	fraction = parse_fraction(&p);
	if (size_factor(*p, unit, &factor) < 0 || (*p && p[1]))
		return -EINVAL;
	/* Hexadecimal takes no unit (QEMU warns in 7.2, refuses later); half a byte is none. */
	if (is_hex ? factor != 1 || *end : fraction > 0 && factor == 1)
		return -EINVAL;
	if (__builtin_mul_overflow(n, factor, &n) ||
	    __builtin_add_overflow(n, (uint64_t)(fraction * (double)factor + 0.5), &n))
		return -ERANGE;
	*ret = n;
	return 0;
}

int hf_keyval_parse_size(const char *text, uint64_t default_unit, uint64_t *ret_bytes,
			 struct hf_err *err)
{
	int r = parse_size(text, default_unit, ret_bytes);

	if (r < 0)
		hf_err_set(err, "'%.64s' is not a size QEMU would take (write 512M, 4G, 1.5G)",
			   text);
	return r;
}
