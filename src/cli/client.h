/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One conversation with a keeper's control socket, or with holdfastd's. Layer: cli. Blocks.
 */
#pragma once

#include <json-c/json_object.h>

#include "base/error.h"
#include "codec/varlink.h"

struct hf_client {
	int fd;
	const char *interface; /* "org.holdfast.Keeper" */
	const char *who; /* "the keeper", for messages */
	char error[HF_VARLINK_NAME_MAX + 1]; /* of the last call that was refused: its last part */
	struct hf_varlink_parser parser;
};

/* @vm: HF_RUNDIR_HOST for holdfastd. Return: 0; -ESRCH: no such keeper; other -errno. @err is fit for
 * the user. */
int hf_client_open(const char *run_dir, const char *vm, struct hf_client *ret,
		   struct hf_err *err) HF_MUST_CHECK;
void hf_client_close(struct hf_client *c);

/* @method without its interface; @parameters stays the caller's, may be NULL. 0 or -errno. */
int hf_client_call(struct hf_client *c, const char *method, struct json_object *parameters,
		   bool is_more, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_client_reply() - wait for the next reply
 * @ret: its parameters, to be released with json_object_put(); may be NULL for none
 * Return: 0; -ECONNRESET: the keeper has gone; -EREMOTE: the keeper says why not, in @err,
 * and c->error names the error; -errno.
 */
int hf_client_reply(struct hf_client *c, struct json_object **ret,
		    struct hf_err *err) HF_MUST_CHECK;
