/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"
#include "sys/rundir.h"

int hf_client_open(const char *run_dir, const char *vm, struct hf_client *ret, struct hf_err *err)
{
	bool is_host = strcmp(vm, HF_RUNDIR_HOST) == 0;
	int fd;
	int r = hf_rundir_connect(run_dir, vm, &fd, err);

	if (r < 0)
		return r;
	ret->fd = fd;
	ret->error[0] = '\0';
	ret->interface = is_host ? "org.holdfast.Host" : "org.holdfast.Keeper";
	ret->who = is_host ? "holdfastd" : "the keeper";
	hf_varlink_parser_init(&ret->parser, HF_VARLINK_REPLY_MAX);
	return 0;
}

void hf_client_close(struct hf_client *c)
{
	hf_varlink_parser_fini(&c->parser);
	hf_fd_close(&c->fd);
}

static int send_all(int fd, const char *data, size_t n)
{
	size_t sent;
	int r;

	while (n) {
		r = hf_fd_send(fd, data, n, &sent);
		if (r) /* HF_FD_AGAIN: of a socket that was made non-blocking, and is full */
			return r < 0 ? r : -EAGAIN;
		data += sent;
		n -= sent;
	}
	return 0;
}

int hf_client_call(struct hf_client *c, const char *method, struct json_object *parameters,
		   bool is_more, struct hf_err *err)
{
	char name[HF_VARLINK_NAME_MAX];
	struct hf_varlink_call call = { .method = name,
					.parameters = parameters,
					.is_more = is_more };
	char *text;
	size_t n;
	int r;

	(void)snprintf(name, sizeof(name), "%s.%s", c->interface, method);
	r = hf_varlink_encode_call(&call, &text, &n);
	if (!r) {
		r = send_all(c->fd, text, n);
		free(text);
	}
	if (r < 0)
		hf_err_set(err, "cannot ask %s: %s", c->who, strerror(-r));
	return r;
}

static void describe(struct hf_client *c, const struct hf_varlink_reply *reply, struct hf_err *err)
{
	const char *why;

	(void)snprintf(c->error, sizeof(c->error), "%s", strrchr(reply->error, '.') + 1);
	if (hf_json_str(reply->parameters, "reason", &why, NULL) == 0 ||
	    hf_json_str(reply->parameters, "parameter", &why, NULL) == 0)
		hf_err_set(err, "%s", why);
	else
		hf_err_set(err, "%s answered %s", c->who, reply->error);
}

static int fill(struct hf_client *c)
{
	ssize_t got;
	size_t n;
	char *at;
	int r = hf_varlink_parser_space(&c->parser, &at, &n);

	if (r < 0)
		return r;
	do
		got = read(c->fd, at, n);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return got ? -errno : -ECONNRESET;
	hf_varlink_parser_commit(&c->parser, (size_t)got);
	return 0;
}

int hf_client_reply(struct hf_client *c, struct json_object **ret, struct hf_err *err)
{
	struct hf_varlink_reply reply;
	int r;

	while ((r = hf_varlink_parser_next_reply(&c->parser, &reply, err)) == 0) {
		r = fill(c);
		if (r < 0) {
			hf_err_set(err, r == -ECONNRESET ? "%s has ended" : "cannot read from %s",
				   c->who);
			return r;
		}
	}
	if (r < 0)
		return r;
	r = 0;
	if (reply.error) {
		describe(c, &reply, err);
		r = -EREMOTE;
	} else {
		*ret = json_object_get(reply.parameters);
	}
	hf_varlink_reply_fini(&reply);
	return r;
}
