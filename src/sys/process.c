/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Everything that allocates or searches is done by the parent, before the
 * child exists: the path of the program, its environment, the list of descriptors. The child comes
 * from clone3() with CLONE_PIDFD and without shared memory, and until execve() it makes system
 * calls only, because other threads of the parent may have held any lock when it was made.
 *
 * Signals are blocked from before the clone until the child has put all handlers back to their
 * default, so that no handler of the parent ever runs in the child.
 *
 * Descriptors: first all of them are marked close-on-exec; then each wanted one is copied to a
 * number above all targets, so that no copy can overwrite a source; then from there to its target,
 * and dup2() leaves close-on-exec clear. What happens to be open in between is closed by execve().
 *
 * Failure: a close-on-exec pipe. If execve() works the parent reads its end, else it reads which
 * step failed and the errno.
 */
#include "sys/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum step { STEP_DEATH_SIGNAL, STEP_CGROUP, STEP_DESCRIPTORS, STEP_EXEC };

/* What the child tells the parent through the pipe when it fails. */
struct report {
	int step;
	int error;
};

struct plan {
	const struct hf_process_spec *spec;
	char path[PATH_MAX];
	char **env;
	/* "NAME=1234", one of env: the child writes the number into its own copy of this memory. */
	char env_pid[HF_PROCESS_ENV_PID_MAX + 16];
	int report_fd; /* the child's end of the pipe */
	pid_t parent;
};

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static int find_program(const char *name, char ret[PATH_MAX], struct hf_err *err)
{
	const char *search = getenv("PATH");

	if (strchr(name, '/')) {
		if (snprintf(ret, PATH_MAX, "%s", name) < PATH_MAX)
			return 0; /* execve() knows best what is wrong with it */
		hf_err_set(err, "the path of the program is longer than %d bytes", PATH_MAX - 1);
		return -ENAMETOOLONG;
	}
	if (!search || !*search)
		search = DEFAULT_PATH;
	for (const char *p = search; *name;) {
		size_t n = strcspn(p, ":");

		if (n > 0 && n < PATH_MAX &&
		    snprintf(ret, PATH_MAX, "%.*s/%s", (int)n, p, name) < PATH_MAX &&
		    is_program(ret))
			return 0;
		if (p[n] == '\0')
			break;
		p += n + 1;
	}
	hf_err_set(err, "there is no program '%.100s' in PATH (%.300s)", name, search);
	return -ENOENT;
}

/* Is @entry ("NAME=value") about the variable that @name ("NAME" or "NAME=value") is about? */
static bool is_same_variable(const char *entry, const char *name)
{
	size_t n = strcspn(name, "=");

	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static bool is_listed(const char *entry, const char *const *list)
{
	for (; list && *list; list++) {
		if (is_same_variable(entry, *list))
			return true;
	}
	return false;
}

static size_t count(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* An array of pointers to strings that belong to others. @pid_entry: "NAME=", or NULL. */
static char **build_env(const struct hf_process_spec *spec, char *pid_entry)
{
	const char *const pid_list[] = { pid_entry, NULL };
	size_t n = count((const char *const *)environ) + count(spec->env_set), used = 0;
	char **env = calloc(n + 2, sizeof(*env));

	if (!env)
		return NULL;
	for (char **e = environ; e && *e; e++) {
		if (!is_listed(*e, spec->env_set) && !is_listed(*e, spec->env_unset) &&
		    !is_listed(*e, pid_list))
			env[used++] = *e;
	}
	for (const char *const *s = spec->env_set; s && *s; s++) {
		if (!is_listed(*s, pid_list))
			memcpy(&env[used++], s, sizeof(*s));
	}
	env[used] = pid_entry;
	return env;
}

/* In the child, where nothing may be called that could wait for a lock. */
static void write_own_pid(char *entry)
{
	unsigned int pid = (unsigned int)getpid();
	char digits[16], *p = digits + sizeof(digits);

	*--p = '\0';
	do
		*--p = (char)('0' + pid % 10);
	while (pid /= 10);
	memcpy(strchr(entry, '\0'), p, (size_t)(digits + sizeof(digits) - p));
}

/* "0" is whoever writes it, in both versions (linux/kernel/cgroup/cgroup.c,
 * cgroup_procs_write_start()). */
static int enter_cgroup(const struct hf_process_spec *spec)
{
	return !spec->has_cgroup || write(spec->cgroup_procs_fd, "0", 1) == 1 ? 0 : -1;
}

/* Past libc, which does not let its own two real-time signals be touched: whoever started this
 * program may have left them ignored. All zeroes, whatever the layout, is SIG_DFL. */
static int set_default_signals(void)
{
	static const unsigned long dfl[16];
	sigset_t none;

	for (int sig = 1; sig < _NSIG; sig++) /* SIGKILL and SIGSTOP are refused */
		(void)syscall(SYS_rt_sigaction, sig, dfl, NULL, (size_t)(_NSIG - 1) / 8);
	(void)sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

static int place_fds(struct plan *plan)
{
	const struct hf_process_spec *spec = plan->spec;
	int copy[HF_PROCESS_FDS_MAX], floor = 3;

	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -1;
	for (size_t i = 0; i < spec->n_fds; i++)
		floor = spec->fds[i].child_fd >= floor ? spec->fds[i].child_fd + 1 : floor;
	plan->report_fd = fcntl(plan->report_fd, F_DUPFD_CLOEXEC, floor);
	if (plan->report_fd < 0)
		return -1;
	for (size_t i = 0; i < spec->n_fds; i++) {
		copy[i] = fcntl(spec->fds[i].parent_fd, F_DUPFD_CLOEXEC, floor);
		if (copy[i] < 0)
			return -1;
	}
	for (size_t i = 0; i < spec->n_fds; i++) {
		if (dup2(copy[i], spec->fds[i].child_fd) < 0)
			return -1;
	}
	return 0;
}

__attribute__((noreturn)) static void fail_child(int report_fd, enum step step)
{
	struct report report = { .step = (int)step, .error = errno };

	if (write(report_fd, &report, sizeof(report)) != sizeof(report))
		_exit(126);
	_exit(127);
}

/* execve() wants char *const *, and promises (POSIX) not to write to it. */
static char *const *as_exec_argv(const char *const *argv)
{
	char *const *out;

	memcpy(&out, &argv, sizeof(out));
	return out;
}

__attribute__((noreturn)) static void run_child(struct plan *plan)
{
	int report_fd = plan->report_fd; /* still good if moving it is what fails */

	(void)set_default_signals();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		fail_child(report_fd, STEP_DEATH_SIGNAL);
	/* A parent that died before the line above would never be noticed. */
	if (getppid() != plan->parent)
		_exit(127);
	if (plan->spec->is_own_group)
		(void)setpgid(0, 0); /* of one that was just made it cannot fail */
	if (enter_cgroup(plan->spec) < 0)
		fail_child(report_fd, STEP_CGROUP);
	if (place_fds(plan) < 0)
		fail_child(plan->report_fd >= 0 ? plan->report_fd : report_fd, STEP_DESCRIPTORS);
	if (plan->spec->env_pid)
		write_own_pid(plan->env_pid);
	(void)execve(plan->path, as_exec_argv(plan->spec->argv), plan->env);
	fail_child(plan->report_fd, STEP_EXEC);
}

static int clone_child(struct plan *plan, struct hf_process *ret)
{
	int pidfd = -1, r = 0;
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	sigset_t all, before;
	long pid;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		run_child(plan);
	if (pid < 0)
		r = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		*ret = (struct hf_process){ .pid = (pid_t)pid, .pidfd = pidfd };
	return r;
}

/* Did the child get as far as its program? 0, or what stopped it. */
static int read_report(int fd, const char *path, struct hf_err *err)
{
	static const char *const what[] = {
		[STEP_DEATH_SIGNAL] = "cannot tie it to this process",
		[STEP_CGROUP] = "cannot be put into its cgroup",
		[STEP_DESCRIPTORS] = "cannot pass it its descriptors",
		[STEP_EXEC] = "cannot be executed",
	};
	struct report report;
	ssize_t n;

	do
		n = read(fd, &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	assert(n == sizeof(report));
	hf_err_set(err, "'%.300s': %s: %s", path, what[report.step], strerror(report.error));
	return -report.error;
}

static void forget_child(struct hf_process *p)
{
	siginfo_t info;

	while (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0 && errno == EINTR)
		continue;
	p->pid = -1;
	hf_process_close(p);
}

static int start(struct plan *plan, struct hf_process *ret, struct hf_err *err)
{
	struct hf_process p = HF_PROCESS_NONE;
	int pipe_fds[2], r;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		r = -errno;
		hf_err_set(err, "cannot make a pipe: %s", strerror(-r));
		return r;
	}
	plan->report_fd = pipe_fds[1];
	r = clone_child(plan, &p);
	hf_fd_close(&pipe_fds[1]);
	if (r < 0)
		hf_err_set(err, "cannot make a process for '%.300s': %s", plan->path, strerror(-r));
	else
		r = read_report(pipe_fds[0], plan->path, err);
	hf_fd_close(&pipe_fds[0]);
	if (r < 0 && p.pidfd >= 0)
		forget_child(&p);
	if (r == 0)
		*ret = p;
	return r;
}

static int check_spec(const struct hf_process_spec *spec, struct hf_err *err)
{
	if (spec->n_fds > HF_PROCESS_FDS_MAX) {
		hf_err_set(err, "%zu descriptors for '%.100s' are too many: the limit is %d",
			   spec->n_fds, spec->argv[0], HF_PROCESS_FDS_MAX);
		return -EINVAL;
	}
	if (spec->env_pid && strlen(spec->env_pid) > HF_PROCESS_ENV_PID_MAX) {
		hf_err_set(err, "the variable '%.100s' for '%.100s' has more than %d letters",
			   spec->env_pid, spec->argv[0], HF_PROCESS_ENV_PID_MAX);
		return -EINVAL;
	}
	return 0;
}

int hf_process_spawn(const struct hf_process_spec *spec, struct hf_process *ret, struct hf_err *err)
{
	struct plan plan = { .spec = spec, .parent = getpid() };
	int r;

	assert(gettid() == getpid());
	assert(spec->argv[0]);
	r = check_spec(spec, err);
	if (r < 0)
		return r;
	r = find_program(spec->argv[0], plan.path, err);
	if (r < 0)
		return r;
	if (spec->env_pid)
		(void)snprintf(plan.env_pid, sizeof(plan.env_pid), "%s=", spec->env_pid);
	plan.env = build_env(spec, spec->env_pid ? plan.env_pid : NULL);
	if (!plan.env) {
		hf_err_set(err, "no memory for the environment of '%.300s'", plan.path);
		return -ENOMEM;
	}
	r = start(&plan, ret, err);
	free(plan.env);
	return r;
}

int hf_process_reap(struct hf_process *p, struct hf_process_exit *ret)
{
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) < 0)
		return -errno;
	if (info.si_pid == 0)
		return HF_PROCESS_RUNNING;
	p->pid = -1;
	ret->is_signal = info.si_code != CLD_EXITED;
	ret->code = info.si_status;
	return 0;
}

const char *hf_process_exit_format(const struct hf_process_exit *e, char *buf, size_t size)
{
	const char *name = e->is_signal ? sigdescr_np(e->code) : NULL;

	if (e->is_signal)
		(void)snprintf(buf, size, "killed by signal %d (%s)", e->code, name ? name : "?");
	else
		(void)snprintf(buf, size, "exited with status %d", e->code);
	return buf;
}

int hf_process_kill(const struct hf_process *p, int signal)
{
	if (p->pid < 0 || pidfd_send_signal(p->pidfd, signal, NULL, 0) == 0)
		return 0;
	return errno == ESRCH ? 0 : -errno;
}

void hf_process_close(struct hf_process *p)
{
	hf_fd_close(&p->pidfd);
	p->pid = -1;
}
