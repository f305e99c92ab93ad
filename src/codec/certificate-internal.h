/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a certificate's encoder and decoder share: a table of members for each kind of object in it. Layer:
 * codec, private to certificate.
 */
#pragma once

#include "codec/certificate.h"

#define HF_CERTIFICATE_VERSION 1

enum hf_member_kind {
	HF_MEMBER_TEXT, /* char[size]; UTF-8 */
	HF_MEMBER_NAME, /* char[size]: valid by base/text.h, or "" */
	HF_MEMBER_U64,
	HF_MEMBER_UINT, /* unsigned int */
	HF_MEMBER_FD, /* int, not negative */
	HF_MEMBER_BOOL,
	HF_MEMBER_ID, /* struct hf_id: 32 hexadecimal digits */
	HF_MEMBER_WORD, /* an enum, as one of @words */
	HF_MEMBER_PROCESS, /* struct hf_process_id, as an object */
	HF_MEMBER_LIST, /* char **; null for NULL */
};

struct hf_member_words {
	const char *(*name)(unsigned int value);
	unsigned int count;
};

struct hf_member {
	const char *key;
	enum hf_member_kind kind;
	size_t offset;
	size_t size; /* of a text's array */
	const struct hf_member_words *words;
};

/* Members of the certificate itself, one of its steps, its checks and its parts of RAM. Each ends with a
 * NULL key. */
extern const struct hf_member hf_certificate_members[];
extern const struct hf_member hf_certificate_step_members[];
extern const struct hf_member hf_certificate_check_members[];
extern const struct hf_member hf_certificate_part_members[];
extern const struct hf_member hf_certificate_process_members[];

/* A table of structs inside the certificate, as an array of objects. */
struct hf_member_table {
	const char *key;
	const struct hf_member *members;
	size_t offset, stride, max;
	size_t count_offset; /* of the unsigned int that counts them; 0: there are always max */
};

extern const struct hf_member_table hf_certificate_tables[];
