/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client.h"

#define FIRST_BYTES 65536
#define COMPLAINT_MAX 300
#define MS 1000000

/* ---- a descriptor, to its end ---- */

struct text {
	char *at;
	size_t len, size;
};

static int grow(struct text *t, size_t max)
{
	size_t size = t->size ? 2 * t->size : FIRST_BYTES;
	char *grown;

	if (t->len + 1 < t->size)
		return 0;
	if (t->len > max)
		return -EFBIG;
	grown = realloc(t->at, size);
	if (!grown)
		return -ENOMEM;
	t->at = grown;
	t->size = size;
	return 0;
}

static int wait_for(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = hf_client_now_ns();

	if (now >= deadline_ns)
		return -ETIMEDOUT;
	if (poll(&p, 1, (int)((deadline_ns - now) / MS) + 1) < 0 && errno != EINTR)
		return -errno;
	return p.revents ? 1 : 0;
}

static int take_all(int fd, size_t max, uint64_t deadline_ns, struct text *t)
{
	ssize_t got;
	int r;

	for (;;) {
		r = wait_for(fd, deadline_ns);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		r = grow(t, max);
		if (r < 0)
			return r;
		got = read(fd, t->at + t->len, t->size - 1 - t->len);
		if (got < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (got == 0)
			break;
		t->len += got > 0 ? (size_t)got : 0;
	}
	t->at[t->len] = '\0';
	return t->len > max ? -EFBIG : 0;
}

static int give(struct text *t, int r, char **ret, size_t *ret_len)
{
	if (r < 0) {
		free(t->at);
		return r;
	}
	*ret = t->at;
	*ret_len = t->len;
	return 0;
}

static const char *why(int r)
{
	return r == -EFBIG       ? "it is too large"
	       : r == -ETIMEDOUT ? "it does not come to an end in time"
				 : strerror(-r);
}

int hf_capture_file(const char *path, size_t max_bytes, uint64_t deadline_ns, char **ret,
		    size_t *ret_len, struct hf_err *err)
{
	bool is_input = strcmp(path, "-") == 0;
	int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct text t = { 0 };
	int r = fd < 0 ? -errno : take_all(fd, max_bytes, deadline_ns, &t);

	if (fd >= 0 && !is_input)
		(void)close(fd);
	if (r < 0)
		hf_err_set(err, "cannot read %.300s: %s", is_input ? "the standard input" : path,
			   why(r));
	return give(&t, r, ret, ret_len);
}

/* ---- a program ---- */

int hf_capture_spawn(char *const *argv, int out, int complaints, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	int e = posix_spawn_file_actions_init(&actions);

	if (e)
		return -e;
	e = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!e)
		e = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (!e)
		e = posix_spawn_file_actions_adddup2(&actions, complaints, STDERR_FILENO);
	if (!e)
		e = posix_spawnp(ret, argv[0], &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -e;
}

/* The first line of what it said on its standard error: what follows is mostly a consequence. */
static void quote(int fd, const char *program, int status, struct hf_err *err)
{
	char said[COMPLAINT_MAX + 1];
	ssize_t n = pread(fd, said, COMPLAINT_MAX, 0);

	said[n > 0 ? n : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	for (char *c = said; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = ' ';
	if (WIFSIGNALED(status))
		hf_err_set(err, "%s was ended by signal %d", program, WTERMSIG(status));
	else
		hf_err_set(err, "%s: %s (exit status %d)", program,
			   said[0] ? said : "it says nothing", WEXITSTATUS(status));
}

static int run(char *const *argv, int out[2], int complaints, size_t max, uint64_t deadline_ns,
	       struct text *t, struct hf_err *err)
{
	pid_t pid = 0;
	int status = 0, r = hf_capture_spawn(argv, out[1], complaints, &pid);

	(void)close(out[1]);
	if (r < 0) {
		hf_err_set(err, "cannot run %s: %s", argv[0], strerror(-r));
		return r;
	}
	r = take_all(out[0], max, deadline_ns, t);
	if (r < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		hf_err_set(err, "%s: %s", argv[0], why(r));
	else if (status != 0) {
		quote(complaints, argv[0], status, err);
		r = -EREMOTE;
	}
	return r;
}

int hf_capture_program(char *const *argv, size_t max_bytes, uint64_t deadline_ns, char **ret,
		       size_t *ret_len, struct hf_err *err)
{
	int complaints = memfd_create("complaints", MFD_CLOEXEC);
	struct text t = { 0 };
	int out[2], r;

	if (complaints < 0 || pipe2(out, O_CLOEXEC) < 0) {
		r = -errno;
		if (complaints >= 0)
			(void)close(complaints);
		hf_err_set(err, "cannot run %s: %s", argv[0], strerror(-r));
		return r;
	}
	r = run(argv, out, complaints, max_bytes, deadline_ns, &t, err);
	(void)close(out[0]);
	(void)close(complaints);
	return give(&t, r, ret, ret_len);
}
