/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Varlink messages: calls and replies as JSON, each ended by a NUL byte. Layer: codec. One thread
 * for each parser. Knows no socket; nothing blocks. Source: varlink.org, "Protocol" and "Method
 * Call" / "Reply"; the grammar of names from its "Interface Definition".
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "codec/delim.h"

#define HF_VARLINK_CALL_MAX 65536
#define HF_VARLINK_REPLY_MAX 4194304
#define HF_VARLINK_NAME_MAX 255

/* Of oneway, more and upgrade at most one may be set: they contradict each other. */
struct hf_varlink_call {
	struct json_object *root; /* decoded: owns the rest; for encoding unused */
	const char *method; /* "interface.name.Method" */
	struct json_object *parameters; /* an object, or NULL for none */
	bool is_oneway; /* no reply is wanted */
	bool is_more; /* several replies are welcome */
	bool is_upgrade; /* another protocol takes over after the reply */
};

/* A reply that continues cannot be an error. */
struct hf_varlink_reply {
	struct json_object *root;
	const char *error; /* "interface.name.Error", or NULL for success */
	struct json_object *parameters; /* an object, or NULL for none */
	bool is_continues; /* more replies to the same call follow */
};

struct hf_varlink_parser {
	struct hf_delim messages;
};

/* @limit_bytes: HF_VARLINK_CALL_MAX in a server, HF_VARLINK_REPLY_MAX in a client. */
void hf_varlink_parser_init(struct hf_varlink_parser *p, size_t limit_bytes);
void hf_varlink_parser_fini(struct hf_varlink_parser *p);

/* Where to read() to, once the last next_call() or next_reply() has returned 0; then how much has
 * arrived. Return: 0 or -ENOMEM. */
int hf_varlink_parser_space(struct hf_varlink_parser *p, char **ret, size_t *ret_n) HF_MUST_CHECK;
void hf_varlink_parser_commit(struct hf_varlink_parser *p, size_t n);

/*
 * The next whole message. Return: 1 a message, to be released with its fini(); 0 more bytes are
 * needed; -EMSGSIZE above the limit or -EBADMSG no Varlink, both with @err: close the connection;
 * -ENOMEM.
 */
int hf_varlink_parser_next_call(struct hf_varlink_parser *p, struct hf_varlink_call *ret,
				struct hf_err *err) HF_MUST_CHECK;
int hf_varlink_parser_next_reply(struct hf_varlink_parser *p, struct hf_varlink_reply *ret,
				 struct hf_err *err) HF_MUST_CHECK;

void hf_varlink_call_fini(struct hf_varlink_call *call);
void hf_varlink_reply_fini(struct hf_varlink_reply *reply);

/*
 * One message without its NUL byte. A key that the protocol does not know is refused, so that a
 * mistyped one is not silently without effect. Return: 0, -EBADMSG with @err, or -ENOMEM.
 */
int hf_varlink_decode_call(const char *text, size_t len, struct hf_varlink_call *ret,
			   struct hf_err *err) HF_MUST_CHECK;
int hf_varlink_decode_reply(const char *text, size_t len, struct hf_varlink_reply *ret,
			    struct hf_err *err) HF_MUST_CHECK;

/*
 * A message with its NUL byte, which @ret_len counts. @ret is for the caller to free().
 * `parameters` stays the caller's. Names and flags that decode would refuse are the program's own
 * error.
 * Return: 0; -EMSGSIZE above the other side's limit; -ENOMEM.
 */
int hf_varlink_encode_call(const struct hf_varlink_call *call, char **ret,
			   size_t *ret_len) HF_MUST_CHECK;
int hf_varlink_encode_reply(const struct hf_varlink_reply *reply, char **ret,
			    size_t *ret_len) HF_MUST_CHECK;

/* "org.example.Ping": an interface of two or more parts and a member [A-Z][A-Za-z0-9]*. */
bool hf_varlink_is_valid_member(const char *name);
