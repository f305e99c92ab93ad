/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/qmp.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"

void hf_qmp_parser_init(struct hf_qmp_parser *p)
{
	hf_delim_init(&p->lines, '\n', HF_QMP_LINE_MAX);
}

void hf_qmp_parser_fini(struct hf_qmp_parser *p)
{
	if (p)
		hf_delim_fini(&p->lines);
}

int hf_qmp_parser_space(struct hf_qmp_parser *p, char **ret, size_t *ret_n)
{
	return hf_delim_space(&p->lines, ret, ret_n);
}

void hf_qmp_parser_commit(struct hf_qmp_parser *p, size_t n)
{
	hf_delim_commit(&p->lines, n);
}

static int get_version_part(const struct json_object *qemu, const char *key, unsigned int *ret,
			    struct hf_err *err)
{
	uint64_t value;
	int r = hf_json_u64(qemu, key, &value, err);

	if (r < 0)
		return r;
	if (value > 9999) {
		hf_err_set(err, "\"%s\" is no part of a version: %" PRIu64, key, value);
		return -EINVAL;
	}
	*ret = (unsigned int)value;
	return 0;
}

static int decode_greeting(struct hf_qmp_msg *msg, struct hf_err *err)
{
	struct json_object *qmp, *version, *qemu;
	int r = hf_json_obj(msg->root, "QMP", &qmp, err);

	msg->kind = HF_QMP_GREETING;
	if (r == 0)
		r = hf_json_obj(qmp, "version", &version, err);
	if (r == 0)
		r = hf_json_obj(version, "qemu", &qemu, err);
	if (r == 0)
		r = get_version_part(qemu, "major", &msg->greeting.major, err);
	if (r == 0)
		r = get_version_part(qemu, "minor", &msg->greeting.minor, err);
	if (r == 0)
		r = get_version_part(qemu, "micro", &msg->greeting.micro, err);
	if (r == 0)
		r = hf_json_str(version, "package", &msg->greeting.package, err);
	return r;
}

static int decode_id(struct hf_qmp_msg *msg, struct hf_err *err)
{
	msg->has_id = hf_json_has(msg->root, "id");
	return msg->has_id ? hf_json_u64(msg->root, "id", &msg->id, err) : 0;
}

static int decode_return(struct hf_qmp_msg *msg, struct hf_err *err)
{
	msg->kind = HF_QMP_RETURN;
	(void)json_object_object_get_ex(msg->root, "return", &msg->value);
	return decode_id(msg, err);
}

static int decode_error(struct hf_qmp_msg *msg, struct hf_err *err)
{
	struct json_object *error;
	int r = hf_json_obj(msg->root, "error", &error, err);

	msg->kind = HF_QMP_ERROR;
	if (r == 0)
		r = hf_json_str(error, "class", &msg->error.class, err);
	if (r == 0)
		r = hf_json_str(error, "desc", &msg->error.desc, err);
	return r == 0 ? decode_id(msg, err) : r;
}

/* QEMU sends -1 in both when it could not read its clock. */
static int decode_timestamp(struct hf_qmp_msg *msg, struct hf_err *err)
{
	int64_t s = -1, us = -1;
	struct json_object *stamp;
	int r = hf_json_obj(msg->root, "timestamp", &stamp, err);

	if (r == 0)
		r = hf_json_i64(stamp, "seconds", &s, err);
	if (r == 0)
		r = hf_json_i64(stamp, "microseconds", &us, err);
	if (r < 0)
		return r;
	if (s >= 0 && s <= INT64_MAX / 1000000 - 1 && us >= 0 && us < 1000000)
		msg->event.timestamp_us = (uint64_t)s * 1000000 + (uint64_t)us;
	return 0;
}

static int decode_event(struct hf_qmp_msg *msg, struct hf_err *err)
{
	int r = hf_json_str(msg->root, "event", &msg->event.name, err);

	msg->kind = HF_QMP_EVENT;
	if (r == 0 && hf_json_has(msg->root, "data"))
		r = hf_json_obj(msg->root, "data", &msg->event.data, err);
	return r == 0 ? decode_timestamp(msg, err) : r;
}

static int decode_root(struct hf_qmp_msg *msg, struct hf_err *err)
{
	if (json_object_is_type(msg->root, json_type_object)) {
		if (json_object_object_get_ex(msg->root, "return", NULL))
			return decode_return(msg, err);
		if (hf_json_has(msg->root, "error"))
			return decode_error(msg, err);
		if (hf_json_has(msg->root, "event"))
			return decode_event(msg, err);
		if (hf_json_has(msg->root, "QMP"))
			return decode_greeting(msg, err);
	}
	hf_err_set(err, "neither greeting, return, error nor event");
	return -EINVAL;
}

int hf_qmp_decode(const char *line, size_t len, struct hf_qmp_msg *ret, struct hf_err *err)
{
	struct hf_qmp_msg msg = { .kind = HF_QMP_EVENT };
	int r = hf_json_parse(line, len, &msg.root, err);

	if (r == 0)
		r = decode_root(&msg, err);
	if (r == 0) {
		*ret = msg;
		return 0;
	}
	hf_qmp_msg_fini(&msg);
	if (r != -EINVAL)
		return r;
	hf_err_prefix(err, "QEMU sent what is no QMP message: ");
	return -EBADMSG;
}

void hf_qmp_msg_fini(struct hf_qmp_msg *msg)
{
	if (!msg)
		return;
	json_object_put(msg->root);
	*msg = (struct hf_qmp_msg){ .kind = HF_QMP_EVENT };
}

int hf_qmp_parser_next(struct hf_qmp_parser *p, struct hf_qmp_msg *ret, struct hf_err *err)
{
	size_t len;
	char *line;
	int r = hf_delim_next(&p->lines, &line, &len);

	if (r == -EMSGSIZE)
		hf_err_set(err, "QEMU sent a QMP line of more than %d bytes", HF_QMP_LINE_MAX);
	if (r <= 0)
		return r;
	r = hf_qmp_decode(line, len, ret, err);
	return r == 0 ? 1 : r;
}

int hf_qmp_encode_text(char *buf, size_t size, const char *command, const char *arguments,
		       uint64_t id, size_t *ret_len)
{
	int n;

	assert(command[0] && strspn(command, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					     "0123456789_-") == strlen(command));
	n = snprintf(buf, size, "{\"execute\":\"%s\"%s%s,\"id\":%" PRIu64 "}\r\n", command,
		     arguments ? ",\"arguments\":" : "", arguments ? arguments : "", id);
	if (n < 0 || (size_t)n >= size)
		return -ENOBUFS;
	*ret_len = (size_t)n;
	return 0;
}

int hf_qmp_encode(char *buf, size_t size, const char *command, struct json_object *arguments,
		  uint64_t id, size_t *ret_len)
{
	const char *text = NULL;

	assert(!arguments || json_object_is_type(arguments, json_type_object));
	if (arguments) {
		text = json_object_to_json_string_ext(arguments, JSON_C_TO_STRING_PLAIN);
		if (!text)
			return -ENOMEM;
	}
	return hf_qmp_encode_text(buf, size, command, text, id, ret_len);
}
