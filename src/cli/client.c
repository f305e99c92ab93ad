/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/instance.h"
#include "codec/json.h"
#include "sys/fd.h"
#include "sys/rundir.h"

#define MS 1000000ull
#define FULL_WAIT_MS 10 /* until a full backlog is tried again: nothing tells when it has room */

uint64_t hf_client_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* For poll(2): -1 for ever; 0: the time is over. */
static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = hf_client_now_ns();
	uint64_t ms;

	if (!deadline_ns)
		return -1;
	if (now >= deadline_ns)
		return 0;
	ms = (deadline_ns - now + MS - 1) / MS;
	return ms > 3600000 ? 3600000 : (int)ms;
}

/* ---- connecting ---- */

static int explain_connect(int error, const char *vm, const char *path, struct hf_err *err)
{
	bool is_host = strcmp(vm, HF_RUNDIR_HOST) == 0;

	if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) {
		hf_err_set(err, "no %s%s%s is running on this host (nothing answers at %s)",
			   is_host ? "holdfastd" : "keeper for '", is_host ? "" : vm,
			   is_host ? "" : "'", path);
		return -ESRCH;
	}
	if (error == EACCES || error == EPERM)
		hf_err_set(err,
			   "no permission to talk to %s at %s: be root, or to look only, a member "
			   "of the group 'holdfast'",
			   is_host ? "holdfastd" : "the keeper", path);
	else
		hf_err_set(err, "cannot talk to %s at %s: %s", is_host ? "holdfastd" : "the keeper",
			   path, strerror(error));
	return -error;
}

static int set_address(const char *run_dir, const char *vm, struct sockaddr_un *ret,
		       struct hf_err *err)
{
	struct hf_instance at;
	int n;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strcmp(vm, HF_RUNDIR_HOST) != 0 && hf_instance_parse(vm, &at, err) < 0)
		return -EINVAL;
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s/%s", run_dir, vm,
		     HF_RUNDIR_SOCKET);
	if (n > 0 && (size_t)n < sizeof(ret->sun_path))
		return 0;
	hf_err_set(err, "%.200s/%.80s/%s is too long for the path of a socket", run_dir, vm,
		   HF_RUNDIR_SOCKET);
	return -ENAMETOOLONG;
}

/* The backlog of a process that is stopped fills up; connect(2) then says EAGAIN. */
static int connect_by(int fd, const struct sockaddr_un *to, uint64_t deadline_ns)
{
	int left;

	while (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		left = left_ms(deadline_ns);
		if (left == 0)
			return -ETIMEDOUT;
		(void)poll(NULL, 0, left > 0 && left < FULL_WAIT_MS ? left : FULL_WAIT_MS);
	}
	return 0;
}

static int set_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

static int no_answer(const struct hf_client *c, struct hf_err *err)
{
	hf_err_set(err, "%s does not answer in time: it may be stopped, or wait for storage",
		   c->who);
	return -ETIMEDOUT;
}

int hf_client_open_by(const char *run_dir, const char *vm, uint64_t deadline_ns,
		      struct hf_client *ret, struct hf_err *err)
{
	bool is_host = strcmp(vm, HF_RUNDIR_HOST) == 0;
	struct sockaddr_un to;
	int fd;
	int r = set_address(run_dir, vm, &to, err);

	if (r < 0)
		return r;
	*ret = (struct hf_client){ .fd = -1,
				   .interface = is_host ? "org.holdfast.Host"
							: "org.holdfast.Keeper",
				   .who = is_host ? "holdfastd" : "the keeper",
				   .deadline_ns = deadline_ns };
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : connect_by(fd, &to, deadline_ns);
	if (!r)
		r = set_blocking(fd);
	if (r < 0) {
		hf_fd_close(&fd);
		return r == -ETIMEDOUT ? no_answer(ret, err)
				       : explain_connect(-r, vm, to.sun_path, err);
	}
	ret->fd = fd;
	hf_varlink_parser_init(&ret->parser, HF_VARLINK_REPLY_MAX);
	return 0;
}

int hf_client_open(const char *run_dir, const char *vm, struct hf_client *ret, struct hf_err *err)
{
	return hf_client_open_by(run_dir, vm, 0, ret, err);
}

void hf_client_close(struct hf_client *c)
{
	if (c->fd < 0)
		return;
	hf_varlink_parser_fini(&c->parser);
	hf_fd_close(&c->fd);
}

/* ---- asking ---- */

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

/* ---- answers ---- */

/* @error is the whole name: an interface of Varlink's own says that the service is another version. */
static void describe(struct hf_client *c, const struct hf_varlink_reply *reply, struct hf_err *err)
{
	const char *why;

	(void)snprintf(c->error, sizeof(c->error), "%s", strrchr(reply->error, '.') + 1);
	if (hf_json_str(reply->parameters, "reason", &why, NULL) == 0 ||
	    hf_json_str(reply->parameters, "parameter", &why, NULL) == 0)
		hf_err_set(err, "%s", why);
	else if (strncmp(c->error, "MethodNot", 9) == 0)
		hf_err_set(err, "%s cannot do that: it is of another version than this program",
			   c->who);
	else if (strcmp(c->error, "PermissionDenied") == 0)
		hf_err_set(err, "%s does not take that from you: be root", c->who);
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

static int take(struct hf_client *c, struct hf_varlink_reply *reply, struct json_object **ret,
		struct hf_err *err)
{
	int r = 0;

	c->is_continued = reply->is_continues;
	if (reply->error) {
		describe(c, reply, err);
		r = -EREMOTE;
	} else {
		*ret = json_object_get(reply->parameters);
	}
	hf_varlink_reply_fini(reply);
	return r;
}

/* 1: there is something to read, or the end; 0: not by then. */
static int wait_readable(const struct hf_client *c, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int left;
	int r;

	do {
		left = left_ms(deadline_ns);
		r = poll(&p, 1, left);
	} while ((r < 0 && errno == EINTR) || (r == 0 && left != 0));
	return r < 0 ? -errno : r;
}

static int receive(struct hf_client *c, uint64_t deadline_ns, struct json_object **ret,
		   struct hf_err *err)
{
	struct hf_varlink_reply reply;
	int r;

	while ((r = hf_varlink_parser_next_reply(&c->parser, &reply, err)) == 0) {
		r = deadline_ns ? wait_readable(c, deadline_ns) : 1;
		if (r == 0)
			return -EAGAIN;
		if (r > 0)
			r = fill(c);
		if (r < 0) {
			hf_err_set(err, r == -ECONNRESET ? "%s has ended" : "cannot read from %s",
				   c->who);
			return r;
		}
	}
	return r < 0 ? r : take(c, &reply, ret, err);
}

int hf_client_reply(struct hf_client *c, struct json_object **ret, struct hf_err *err)
{
	int r = receive(c, c->deadline_ns, ret, err);

	return r == -EAGAIN && c->deadline_ns ? no_answer(c, err) : r;
}

int hf_client_poll(struct hf_client *c, struct json_object **ret, struct hf_err *err)
{
	int r = receive(c, /* long over: */ 1, ret, err);

	return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}
