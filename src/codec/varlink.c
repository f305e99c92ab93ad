/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/varlink.h"

#include <assert.h>
#include <errno.h>
#include <json-c/linkhash.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

void hf_varlink_parser_init(struct hf_varlink_parser *p, size_t limit_bytes)
{
	hf_delim_init(&p->messages, '\0', limit_bytes);
}

void hf_varlink_parser_fini(struct hf_varlink_parser *p)
{
	if (p)
		hf_delim_fini(&p->messages);
}

int hf_varlink_parser_space(struct hf_varlink_parser *p, char **ret, size_t *ret_n)
{
	return hf_delim_space(&p->messages, ret, ret_n);
}

void hf_varlink_parser_commit(struct hf_varlink_parser *p, size_t n)
{
	hf_delim_commit(&p->messages, n);
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9');
}

/* [A-Za-z0-9]([-]*[A-Za-z0-9])*; the first part of an interface's name begins with a letter. */
static bool is_valid_part(const char *part, size_t len, bool is_first)
{
	if (len == 0 || !is_alnum(part[len - 1]))
		return false;
	if (is_first ? !is_letter(part[0]) : !is_alnum(part[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(part[i]) && part[i] != '-')
			return false;
	return true;
}

static bool is_valid_interface(const char *name, size_t len)
{
	size_t parts = 0;

	for (const char *end = name + len;; parts++) {
		const char *dot = memchr(name, '.', (size_t)(end - name));

		if (!is_valid_part(name, (size_t)((dot ? dot : end) - name), parts == 0))
			return false;
		if (!dot)
			return parts >= 1;
		name = dot + 1;
	}
}

bool hf_varlink_is_valid_member(const char *name)
{
	const char *dot = strrchr(name, '.');

	if (!dot || strlen(name) > HF_VARLINK_NAME_MAX)
		return false;
	if (dot[1] < 'A' || dot[1] > 'Z')
		return false;
	for (const char *p = dot + 1; *p; p++)
		if (!is_alnum(*p))
			return false;
	return is_valid_interface(name, (size_t)(dot - name));
}

static bool is_known_key(const char *key, const char *const *known)
{
	for (; *known; known++)
		if (strcmp(key, *known) == 0)
			return true;
	return false;
}

static int check_keys(struct json_object *root, const char *const *known, struct hf_err *err)
{
	if (!json_object_is_type(root, json_type_object)) {
		hf_err_set(err, "a JSON object is expected");
		return -EINVAL;
	}
	json_object_object_foreach(root, key, value)
	{
		(void)value;
		if (!is_known_key(key, known)) {
			hf_err_set(err, "the key \"%.64s\" is unknown", key);
			return -EINVAL;
		}
	}
	return 0;
}

static int get_name(struct json_object *root, const char *key, const char **ret, struct hf_err *err)
{
	int r = hf_json_str(root, key, ret, err);

	if (r < 0)
		return r;
	if (hf_varlink_is_valid_member(*ret))
		return 0;
	hf_err_set(err, "\"%s\" must be like \"org.example.Name\", not \"%.64s\"", key, *ret);
	return -EINVAL;
}

static int get_parameters(struct json_object *root, struct json_object **ret, struct hf_err *err)
{
	return hf_json_has(root, "parameters") ? hf_json_obj(root, "parameters", ret, err) : 0;
}

static int get_flag(struct json_object *root, const char *key, bool *ret, struct hf_err *err)
{
	return hf_json_has(root, key) ? hf_json_bool(root, key, ret, err) : 0;
}

static bool has_contradiction(const struct hf_varlink_call *call)
{
	return call->is_oneway + call->is_more + call->is_upgrade > 1;
}

static int read_call(struct hf_varlink_call *call, struct hf_err *err)
{
	static const char *const known[] = { "method", "parameters", "oneway",
					     "more",   "upgrade",    NULL };
	int r = check_keys(call->root, known, err);

	if (r == 0)
		r = get_name(call->root, "method", &call->method, err);
	if (r == 0)
		r = get_parameters(call->root, &call->parameters, err);
	if (r == 0)
		r = get_flag(call->root, "oneway", &call->is_oneway, err);
	if (r == 0)
		r = get_flag(call->root, "more", &call->is_more, err);
	if (r == 0)
		r = get_flag(call->root, "upgrade", &call->is_upgrade, err);
	if (r == 0 && has_contradiction(call)) {
		hf_err_set(err, "only one of \"oneway\", \"more\" and \"upgrade\" can be true");
		r = -EINVAL;
	}
	return r;
}

static int read_reply(struct hf_varlink_reply *reply, struct hf_err *err)
{
	static const char *const known[] = { "parameters", "continues", "error", NULL };
	int r = check_keys(reply->root, known, err);

	if (r == 0 && hf_json_has(reply->root, "error"))
		r = get_name(reply->root, "error", &reply->error, err);
	if (r == 0)
		r = get_parameters(reply->root, &reply->parameters, err);
	if (r == 0)
		r = get_flag(reply->root, "continues", &reply->is_continues, err);
	if (r == 0 && reply->is_continues && reply->error) {
		hf_err_set(err, "an error cannot have \"continues\"");
		r = -EINVAL;
	}
	return r;
}

static int bad_message(int r, const char *what, struct hf_err *err)
{
	if (r != -EINVAL)
		return r;
	hf_err_prefix(err, "this is no Varlink %s: ", what);
	return -EBADMSG;
}

int hf_varlink_decode_call(const char *text, size_t len, struct hf_varlink_call *ret,
			   struct hf_err *err)
{
	struct hf_varlink_call call = { .root = NULL };
	int r = hf_json_parse(text, len, &call.root, err);

	if (r == 0)
		r = read_call(&call, err);
	if (r == 0) {
		*ret = call;
		return 0;
	}
	hf_varlink_call_fini(&call);
	return bad_message(r, "call", err);
}

int hf_varlink_decode_reply(const char *text, size_t len, struct hf_varlink_reply *ret,
			    struct hf_err *err)
{
	struct hf_varlink_reply reply = { .root = NULL };
	int r = hf_json_parse(text, len, &reply.root, err);

	if (r == 0)
		r = read_reply(&reply, err);
	if (r == 0) {
		*ret = reply;
		return 0;
	}
	hf_varlink_reply_fini(&reply);
	return bad_message(r, "reply", err);
}

static int next_text(struct hf_varlink_parser *p, char **ret, size_t *ret_len, struct hf_err *err)
{
	int r = hf_delim_next(&p->messages, ret, ret_len);

	if (r == -EMSGSIZE)
		hf_err_set(err, "a Varlink message is longer than %zu bytes",
			   p->messages.limit_bytes);
	return r;
}

int hf_varlink_parser_next_call(struct hf_varlink_parser *p, struct hf_varlink_call *ret,
				struct hf_err *err)
{
	size_t len;
	char *text;
	int r = next_text(p, &text, &len, err);

	if (r <= 0)
		return r;
	r = hf_varlink_decode_call(text, len, ret, err);
	return r == 0 ? 1 : r;
}

int hf_varlink_parser_next_reply(struct hf_varlink_parser *p, struct hf_varlink_reply *ret,
				 struct hf_err *err)
{
	size_t len;
	char *text;
	int r = next_text(p, &text, &len, err);

	if (r <= 0)
		return r;
	r = hf_varlink_decode_reply(text, len, ret, err);
	return r == 0 ? 1 : r;
}

void hf_varlink_call_fini(struct hf_varlink_call *call)
{
	if (!call)
		return;
	json_object_put(call->root);
	*call = (struct hf_varlink_call){ .root = NULL };
}

void hf_varlink_reply_fini(struct hf_varlink_reply *reply)
{
	if (!reply)
		return;
	json_object_put(reply->root);
	*reply = (struct hf_varlink_reply){ .root = NULL };
}

/* Consumes @value whether or not it succeeds. */
static int add(struct json_object *root, const char *key, struct json_object *value)
{
	if (!value)
		return -ENOMEM;
	if (json_object_object_add(root, key, value) == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static int add_flag(struct json_object *root, const char *key, bool value)
{
	return value ? add(root, key, json_object_new_boolean(value)) : 0;
}

static int add_parameters(struct json_object *root, struct json_object *parameters)
{
	assert(!parameters || json_object_is_type(parameters, json_type_object));
	return parameters ? add(root, "parameters", json_object_get(parameters)) : 0;
}

static int to_message(struct json_object *root, size_t limit, char **ret, size_t *ret_len)
{
	size_t len;
	const char *text = json_object_to_json_string_length(root, JSON_C_TO_STRING_PLAIN, &len);
	char *copy;

	if (!text)
		return -ENOMEM;
	if (len > limit)
		return -EMSGSIZE;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, len + 1);
	*ret = copy;
	*ret_len = len + 1;
	return 0;
}

int hf_varlink_encode_call(const struct hf_varlink_call *call, char **ret, size_t *ret_len)
{
	struct json_object *root = json_object_new_object();
	int r;

	assert(hf_varlink_is_valid_member(call->method));
	assert(!has_contradiction(call));
	if (!root)
		return -ENOMEM;
	r = add(root, "method", json_object_new_string(call->method));
	if (r == 0)
		r = add_parameters(root, call->parameters);
	if (r == 0)
		r = add_flag(root, "oneway", call->is_oneway);
	if (r == 0)
		r = add_flag(root, "more", call->is_more);
	if (r == 0)
		r = add_flag(root, "upgrade", call->is_upgrade);
	if (r == 0)
		r = to_message(root, HF_VARLINK_CALL_MAX, ret, ret_len);
	json_object_put(root);
	return r;
}

int hf_varlink_encode_reply(const struct hf_varlink_reply *reply, char **ret, size_t *ret_len)
{
	struct json_object *root = json_object_new_object();
	int r = 0;

	assert(!reply->error || hf_varlink_is_valid_member(reply->error));
	assert(!reply->error || !reply->is_continues);
	if (!root)
		return -ENOMEM;
	if (reply->error)
		r = add(root, "error", json_object_new_string(reply->error));
	if (r == 0)
		r = add_parameters(root, reply->parameters);
	if (r == 0)
		r = add_flag(root, "continues", reply->is_continues);
	if (r == 0)
		r = to_message(root, HF_VARLINK_REPLY_MAX, ret, ret_len);
	json_object_put(root);
	return r;
}
