/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/programs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/capture.h"
#include "cli/client.h"
#include "cli/exit.h"

#define TEXT_MAX 65536

struct place {
	const char *variable;
	const char *beside; /* from the folder of this program, in a build folder */
	const char *installed;
};

static const struct place places[] = {
	[HF_PROGRAM_KEEPER] = { "HOLDFAST_KEEPER", "../keeper/holdfast-keeper",
				HF_LIBEXECDIR "/holdfast-keeper" },
	[HF_PROGRAM_DAEMON] = { "HOLDFASTD", "../daemon/holdfastd", HF_SBINDIR "/holdfastd" },
};

const char *hf_program_path(enum hf_program which, char *buf, size_t size)
{
	const struct place *p = &places[which];
	const char *given = getenv(p->variable);
	ssize_t n = readlink("/proc/self/exe", buf, size - 1);
	char *name;

	if (given) {
		(void)snprintf(buf, size, "%s", given);
		return buf;
	}
	buf[n > 0 ? n : 0] = '\0';
	name = strrchr(buf, '/');
	if (name && (size_t)(name + 1 - buf) + strlen(p->beside) < size) {
		(void)snprintf(name + 1, size - (size_t)(name + 1 - buf), "%s", p->beside);
		if (access(buf, X_OK) == 0)
			return buf;
	}
	(void)snprintf(buf, size, "%s", p->installed);
	return buf;
}

int hf_program_become_keeper(char **argv)
{
	char path[4096];

	argv[0] = (char[]){ "holdfast-keeper" };
	(void)execv(hf_program_path(HF_PROGRAM_KEEPER, path, sizeof(path)), argv);
	(void)fprintf(stderr, "holdfast: cannot start the keeper %s: %s\n", path, strerror(errno));
	return HF_EXIT_FAILED;
}

/* ---- running ---- */

/* Until it has closed its outputs; what is too much is read and forgotten. */
static int take_text(int fd, uint64_t deadline_ns, char *text)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char beyond[512];
	size_t n = 0;
	ssize_t got;
	uint64_t now;

	for (;;) {
		bool is_full = n + 1 >= TEXT_MAX;

		now = hf_client_now_ns();
		if (now >= deadline_ns ||
		    poll(&p, 1, (int)((deadline_ns - now) / 1000000) + 1) == 0)
			return -ETIMEDOUT;
		got = read(fd, is_full ? beyond : text + n,
			   is_full ? sizeof(beyond) : TEXT_MAX - 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 0;
		n += is_full ? 0 : (size_t)got;
		text[n] = '\0';
	}
}

int hf_program_run(char *const *argv, uint64_t deadline_ns, char **ret_text)
{
	char *text = calloc(1, TEXT_MAX);
	int fds[2];
	int status = 0;
	pid_t pid = 0;
	int r;

	if (!text)
		return -ENOMEM;
	if (pipe2(fds, O_CLOEXEC) < 0) {
		free(text);
		return -errno;
	}
	r = hf_capture_spawn(argv, fds[1], fds[1], &pid);
	(void)close(fds[1]);
	if (!r && pid > 0) {
		r = take_text(fds[0], deadline_ns, text);
		if (r < 0)
			(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
	}
	(void)close(fds[0]);
	if (r < 0) {
		free(text);
		return r;
	}
	*ret_text = text;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
