/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One conversation with a keeper's control socket, or with holdfastd's. Layer: cli. One thread. Blocks,
 * but not beyond the deadline if there is one: who is asked may be stopped.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/varlink.h"

struct hf_client {
	int fd;
	const char *interface; /* "org.holdfast.Keeper" */
	const char *who; /* "the keeper", for messages */
	char error[HF_VARLINK_NAME_MAX + 1]; /* of the last call that was refused: its last part */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none. May be changed at any time */
	bool is_continued; /* the last reply is not the call's last one */
	struct hf_varlink_parser parser;
};

uint64_t hf_client_now_ns(void);

/* @vm: HF_RUNDIR_HOST for holdfastd, "NAME@ID" for the keeper of a frozen instance. Return: 0; -ESRCH:
 * no such keeper; -EACCES; other -errno. @err is fit for the user. */
int hf_client_open(const char *run_dir, const char *vm, struct hf_client *ret,
		   struct hf_err *err) HF_MUST_CHECK;

/* As above, and -ETIMEDOUT: it does not take connections. The deadline stays that of the client. */
int hf_client_open_by(const char *run_dir, const char *vm, uint64_t deadline_ns,
		      struct hf_client *ret, struct hf_err *err) HF_MUST_CHECK;
/* Takes one that is all zero but for fd -1. */
void hf_client_close(struct hf_client *c);

/* @method without its interface; @parameters stays the caller's, may be NULL. 0 or -errno. */
int hf_client_call(struct hf_client *c, const char *method, struct json_object *parameters,
		   bool is_more, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_client_reply() - wait for the next reply
 * @ret: its parameters, to be released with json_object_put(); may be NULL for none
 * Return: 0; -ECONNRESET: the keeper has gone; -EREMOTE: the keeper says why not, in @err,
 * and c->error names the error; -ETIMEDOUT: not by the deadline; -errno.
 */
int hf_client_reply(struct hf_client *c, struct json_object **ret,
		    struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_client_poll() - take what has come, without waiting
 * Return: 1 with a reply as above; 0: there is none yet; else as hf_client_reply().
 */
int hf_client_poll(struct hf_client *c, struct json_object **ret, struct hf_err *err) HF_MUST_CHECK;
