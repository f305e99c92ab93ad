/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QEMU Machine Protocol as bytes: what QEMU sends becomes messages, commands become bytes.
 * Layer: codec. One thread for each parser. Knows no socket; nothing blocks.
 *
 * Source of the format: QEMU's docs/interop/qmp-spec.txt (since 8.1 qmp-spec.rst); one JSON object
 * in each line, as QEMU writes it unless started with pretty=on.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/delim.h"

/* The longest reply known is query-qmp-schema with about 200 KiB. */
#define HF_QMP_LINE_MAX 1048576

enum hf_qmp_kind {
	HF_QMP_GREETING,
	HF_QMP_RETURN,
	HF_QMP_ERROR,
	HF_QMP_EVENT,
};

/* Strings and JSON values belong to `root`, which hf_qmp_msg_fini() releases. */
struct hf_qmp_msg {
	enum hf_qmp_kind kind;
	struct json_object *root;
	/* RETURN, ERROR: the command's id. QEMU cannot give one back when it could not read the
	 * command. */
	bool has_id;
	uint64_t id;
	union {
		struct {
			unsigned int major, minor, micro;
			const char *package; /* the distribution's version, "" when there is none */
		} greeting;
		struct json_object *value; /* RETURN: any JSON value, NULL for null */
		struct {
			const char *class;
			const char *desc;
		} error;
		struct {
			const char *name;
			struct json_object *data; /* an object, or NULL when the event has none */
			uint64_t timestamp_us; /* since the epoch by QEMU's clock; 0 unknown */
		} event;
	};
};

struct hf_qmp_parser {
	struct hf_delim lines;
};

void hf_qmp_parser_init(struct hf_qmp_parser *p);
void hf_qmp_parser_fini(struct hf_qmp_parser *p);

/* Where to read() to, once hf_qmp_parser_next() has returned 0; then how much has arrived.
 * Return: 0 or -ENOMEM. */
int hf_qmp_parser_space(struct hf_qmp_parser *p, char **ret, size_t *ret_n) HF_MUST_CHECK;
void hf_qmp_parser_commit(struct hf_qmp_parser *p, size_t n);

/**
 * hf_qmp_parser_next() - the next whole message
 * @ret: on 1 to be released with hf_qmp_msg_fini(); it does not depend on the parser
 * Return: 1 a message; 0 more bytes are needed; -EMSGSIZE a line above HF_QMP_LINE_MAX, -EBADMSG
 * something that is no QMP, both with @err: the connection is useless; -ENOMEM.
 */
int hf_qmp_parser_next(struct hf_qmp_parser *p, struct hf_qmp_msg *ret,
		       struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_qmp_decode() - one line, without its end, to a message; as hf_qmp_parser_next()
 * Return: 0, -EBADMSG or -ENOMEM.
 */
int hf_qmp_decode(const char *line, size_t len, struct hf_qmp_msg *ret,
		  struct hf_err *err) HF_MUST_CHECK;

void hf_qmp_msg_fini(struct hf_qmp_msg *msg);

/**
 * hf_qmp_encode() - a command as a line
 * @command: its name; it is the program's own, of [a-zA-Z0-9_-]
 * @arguments: an object, or NULL for none
 * @id: comes back with the answer
 * @buf: gets the line with its end, NUL-terminated (the NUL is not counted in @ret_len)
 * Return: 0; -ENOBUFS @size is too small; -ENOMEM.
 */
int hf_qmp_encode(char *buf, size_t size, const char *command, struct json_object *arguments,
		  uint64_t id, size_t *ret_len) HF_MUST_CHECK;

/* The same with the arguments as JSON text, which the caller vouches for. Does not allocate. */
int hf_qmp_encode_text(char *buf, size_t size, const char *command, const char *arguments,
		       uint64_t id, size_t *ret_len) HF_MUST_CHECK;
