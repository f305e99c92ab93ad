/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * The start is a straight line: RAM, TAPs, sockets, the process, its answers. An object that got
 * stuck somewhere on it is a half-built one, and hf_guest_free() takes it apart in the opposite
 * order.
 *
 * QEMU gets its descriptors under fixed numbers, and its ends are closed here as soon as it runs,
 * so that the death of QEMU is the end of each of these sockets. While the start waits for an
 * answer that is how it learns of it; the exit status then tells a person more than "connection
 * closed".
 *
 * LD_PRELOAD: the user's own libraries keep their place in front of ours. Some insist on being the
 * first (sanitizers), and one that wraps mmap itself still ends up in ours.
 */
#include "vm/guest.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/text.h"
#include "codec/words.h"
#include "sys/fd.h"
#include "vm/guest-internal.h"

/* Numbers of the descriptors in QEMU. */
enum { QMP_FD = 3, REPORT_FD, RAM_FD, FIRST_NET_FD };

#define NETS_MAX (HF_PROCESS_FDS_MAX - 3)

/* How long after the end of its sockets a dying QEMU may take to have an exit status: a process
 * with much memory to give back dies slowly. */
#define DEATH_MS 5000

/* QEMU's ends of everything, until it runs. */
struct ends {
	int qmp;
	int report;
	int net[NETS_MAX];
};

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool is_ended_within(const struct hf_process *p, int timeout_ms)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };
	int64_t deadline = now_ms() + timeout_ms, left = timeout_ms;
	int n;

	while ((n = poll(&pfd, 1, (int)left)) < 0 && errno == EINTR) {
		left = deadline - now_ms();
		if (left < 0)
			return false;
	}
	return n > 0;
}

/* If the connection failed because QEMU ended, says so instead. Passes on @r otherwise. */
static int explain_end(struct hf_guest *g, int r, struct hf_err *err)
{
	struct hf_process_exit end;
	char text[HF_PROCESS_EXIT_TEXT];

	if (r == -EREMOTEIO || r == -ETIMEDOUT || g->process.pid < 0)
		return r;
	if (!is_ended_within(&g->process, DEATH_MS) || hf_process_reap(&g->process, &end) != 0)
		return r;
	hf_err_set(err, "QEMU %s before it was ready; its own message, if it had one, is above",
		   hf_process_exit_format(&end, text, sizeof(text)));
	return -ECHILD;
}

int hf_guest_ask(struct hf_guest *g, const char *command, const char *arguments,
		 struct json_object **ret, struct hf_err *err)
{
	struct hf_qmp_command c = { .name = command, .arguments_text = arguments };
	int64_t left = g->deadline_ms - now_ms();
	int r;

	r = hf_qmp_wait(g->qmp, &c, left > 1 ? (int)left : 1, ret, err);
	if (r == -ETIMEDOUT)
		hf_err_set(err, "QEMU has not become ready in time: it does not answer '%s'",
			   command);
	return r < 0 ? explain_end(g, r, err) : 0;
}

static int open_ram(struct hf_guest *g, const struct hf_guest_config *config, struct hf_err *err)
{
	const struct hf_cmdline *cmd = config->cmdline;
	enum hf_ram_pages pages = HF_RAM_PAGES_DEFAULT;
	char name[16 + HF_NAME_MAX];

	if (cmd->page_bytes == UINT64_C(2) << 20) {
		pages = HF_RAM_PAGES_2M;
	} else if (cmd->page_bytes == UINT64_C(1) << 30) {
		pages = HF_RAM_PAGES_1G;
	} else if (cmd->page_bytes != 0) {
		hf_err_set(err, "guest RAM in pages of %llu bytes is not possible: 2M or 1G",
			   (unsigned long long)cmd->page_bytes);
		return -EINVAL;
	}
	(void)snprintf(name, sizeof(name), "holdfast-%.*s", HF_NAME_MAX, config->name);
	return hf_ram_open(name, pages, cmd->ram_bytes, &g->ram, err);
}

static int open_ends(struct hf_guest *g, int *ret_qmp_fd, struct ends *ends,
		     const struct hf_guest_config *config)
{
	int pair[2];
	int r = hf_fd_pair(SOCK_STREAM, pair);

	if (r < 0)
		return r;
	*ret_qmp_fd = pair[0];
	ends->qmp = pair[1];
	if (!config->preload_path)
		return 0;
	/* One packet for each report, and none is lost: SEQPACKET. */
	r = hf_fd_pair(SOCK_SEQPACKET, pair);
	if (r < 0)
		return r;
	g->report_fd = pair[0];
	ends->report = pair[1];
	return 0;
}

static void close_ends(struct ends *ends)
{
	hf_fd_close(&ends->qmp);
	hf_fd_close(&ends->report);
	for (size_t i = 0; i < NETS_MAX; i++)
		hf_fd_close(&ends->net[i]);
}

/* Environment of the preloaded library, see preload/report.h. */
struct environment {
	char *set[5];
	size_t n_set;
	const char *unset[2];
};

__attribute__((format(printf, 2, 3))) static int put_env(struct environment *env,
							 const char *format, ...)
{
	__builtin_va_list ap;
	int n;

	assert(env->n_set < sizeof(env->set) / sizeof(env->set[0]) - 1);
	__builtin_va_start(ap, format);
	n = vasprintf(&env->set[env->n_set], format, ap);
	__builtin_va_end(ap);
	if (n < 0) {
		env->set[env->n_set] = NULL;
		return -ENOMEM;
	}
	env->n_set++;
	return 0;
}

static void free_env(struct environment *env)
{
	for (size_t i = 0; i < env->n_set; i++)
		free(env->set[i]);
}

/* The dynamic linker splits LD_PRELOAD at blanks and colons and knows no way to quote them. */
static int check_preload_path(const char *path, struct hf_err *err)
{
	if (path[0] == '/' && path[strcspn(path, ": ")] == '\0')
		return 0;
	hf_err_set(err,
		   "'%.300s' cannot be preloaded: it must be an absolute path without ':' and ' '",
		   path);
	return -EINVAL;
}

static int build_env(const struct hf_guest *g, const char *preload_path, struct environment *env,
		     struct hf_err *err)
{
	const char *former = getenv("LD_PRELOAD");
	struct stat st;
	int r;

	if (!preload_path)
		return 0;
	r = check_preload_path(preload_path, err);
	if (r == 0 && fstat(g->ram.fd, &st) < 0)
		r = -errno;
	if (r == 0)
		r = put_env(env, HF_REPORT_ENV_RAM "=%llx:%llx", (unsigned long long)st.st_dev,
			    (unsigned long long)st.st_ino);
	if (r == 0)
		r = put_env(env, HF_REPORT_ENV_FD "=%d", REPORT_FD);
	if (!former || !*former) {
		env->unset[0] = HF_REPORT_ENV_PRELOAD;
		return r == 0 ? put_env(env, "LD_PRELOAD=%s", preload_path) : r;
	}
	if (r == 0)
		r = put_env(env, HF_REPORT_ENV_PRELOAD "=%s", former);
	return r == 0 ? put_env(env, "LD_PRELOAD=%s:%s", former, preload_path) : r;
}

static size_t list_fds(const struct hf_guest *g, const struct ends *ends,
		       struct hf_process_fd fds[HF_PROCESS_FDS_MAX])
{
	size_t n = 0;

	fds[n++] = (struct hf_process_fd){ .parent_fd = ends->qmp, .child_fd = QMP_FD };
	fds[n++] = (struct hf_process_fd){ .parent_fd = g->ram.fd, .child_fd = RAM_FD };
	if (ends->report >= 0)
		fds[n++] = (struct hf_process_fd){ .parent_fd = ends->report,
						   .child_fd = REPORT_FD };
	for (size_t i = 0; i < g->net_count; i++)
		fds[n++] = (struct hf_process_fd){ .parent_fd = ends->net[i],
						   .child_fd = FIRST_NET_FD + (int)i };
	return n;
}

static int run_line(struct hf_guest *g, const struct hf_cgroup *cgroup, char **argv,
		    const struct ends *ends, const struct environment *env, struct hf_err *err)
{
	struct hf_process_fd fds[HF_PROCESS_FDS_MAX];
	struct hf_process_spec spec = {
		.argv = (const char *const *)argv,
		.env_set = (const char *const *)env->set,
		.env_unset = env->unset,
		.fds = fds,
		.n_fds = list_fds(g, ends, fds),
		.has_cgroup = cgroup,
		.cgroup_procs_fd = cgroup ? hf_cgroup_procs_fd(cgroup) : -1,
	};

	return hf_process_spawn(&spec, &g->process, err);
}

static int spawn(struct hf_guest *g, const struct hf_guest_config *config, const struct ends *ends,
		 struct hf_err *err)
{
	struct environment env = { .n_set = 0 };
	struct hf_cmdline_fds numbers = { .qmp = QMP_FD, .ram = RAM_FD };
	int net[NETS_MAX];
	char **argv = NULL;
	int r;

	for (int i = 0; i < NETS_MAX; i++)
		net[i] = FIRST_NET_FD + i;
	numbers.net = net;
	numbers.disk_socket = config->disk_socket;
	r = build_env(g, config->preload_path, &env, err);
	if (r == 0)
		r = hf_cmdline_render(config->cmdline, &numbers, &argv, err);
	if (r == 0)
		r = run_line(g, config->cgroup, argv, ends, &env, err);
	hf_words_free(argv);
	free_env(&env);
	return r;
}

/* Makes everything that QEMU is given, and QEMU. */
static int launch(struct hf_guest *g, const struct hf_guest_config *config, struct hf_err *err)
{
	struct ends ends = { .qmp = -1, .report = -1 };
	int qmp_fd = -1, r;

	for (size_t i = 0; i < NETS_MAX; i++)
		ends.net[i] = -1;
	r = open_ram(g, config, err);
	if (r == 0)
		r = hf_guest_nets_open(g, config, ends.net, err);
	if (r == 0)
		r = open_ends(g, &qmp_fd, &ends, config);
	if (r == 0)
		r = spawn(g, config, &ends, err);
	close_ends(&ends);
	if (r == 0)
		r = hf_qmp_open(qmp_fd, config->on_event, config->ctx, &g->qmp);
	if (r < 0)
		hf_fd_close(&qmp_fd);
	return r;
}

static int start(struct hf_guest *g, const struct hf_guest_config *config, struct hf_err *err)
{
	int r;

	if (config->cmdline->net_count > NETS_MAX) {
		hf_err_set(err, "%zu held netdevs are too many: the limit is %d",
			   config->cmdline->net_count, NETS_MAX);
		return -E2BIG;
	}
	r = launch(g, config, err);
	if (r < 0)
		return r;
	/* To clear the memory of a large guest, where the user wants it preallocated, takes its
	 * time. */
	g->deadline_ms = now_ms() + HF_GUEST_START_MAX_MS +
			 (int64_t)(config->cmdline->ram_bytes >> 30) * 1000;
	r = hf_guest_examine(g, config, err);
	if (r == 0 && config->is_standby)
		r = hf_guest_await_state(g, err);
	return r;
}

int hf_guest_start(const struct hf_guest_config *config, struct hf_guest **ret, struct hf_err *err)
{
	struct hf_guest *g = calloc(1, sizeof(*g));
	struct hf_err own = { "" };
	int r = -ENOMEM;

	if (g) {
		g->ram = HF_RAM_NONE;
		g->process = HF_PROCESS_NONE;
		g->report_fd = g->incoming_fd = -1;
		g->is_paused = config->cmdline->is_paused;
		r = start(g, config, &own);
	}
	if (r == 0) {
		*ret = g;
		return 0;
	}
	if (own.text[0] == '\0')
		hf_err_set(&own, "cannot start QEMU: %s", strerror(-r));
	hf_err_set(err, "%s", own.text);
	hf_guest_free(g);
	return r;
}

int hf_guest_kill(struct hf_guest *g)
{
	return hf_process_kill(&g->process, SIGKILL);
}

static void end_process(struct hf_guest *g)
{
	struct hf_process_exit end;

	if (g->process.pid >= 0 && hf_process_kill(&g->process, SIGKILL) == 0 &&
	    is_ended_within(&g->process, HF_GUEST_END_MAX_MS))
		(void)!hf_process_reap(&g->process, &end);
	hf_process_close(&g->process);
}

void hf_guest_free(struct hf_guest *g)
{
	if (!g)
		return;
	end_process(g);
	hf_qmp_close(g->qmp);
	hf_guest_nets_close(g);
	hf_fd_close(&g->report_fd);
	hf_fd_close(&g->incoming_fd);
	hf_ram_close(&g->ram);
	hf_guest_identity_fini(&g->identity);
	free(g);
}

struct hf_qmp *hf_guest_qmp(struct hf_guest *g)
{
	return g->qmp;
}

struct hf_process *hf_guest_process(struct hf_guest *g)
{
	return &g->process;
}

struct hf_ram *hf_guest_ram(struct hf_guest *g)
{
	return &g->ram;
}

const struct hf_guest_identity *hf_guest_identity(const struct hf_guest *g)
{
	return &g->identity;
}

size_t hf_guest_net_count(const struct hf_guest *g)
{
	return g->net_count;
}

struct hf_nettap *hf_guest_net(struct hf_guest *g, size_t i)
{
	assert(i < g->net_count);
	return g->net[i].nettap;
}

const char *hf_guest_net_id(const struct hf_guest *g, size_t i)
{
	assert(i < g->net_count);
	return g->net[i].id;
}

const char *hf_guest_net_ifname(const struct hf_guest *g, size_t i)
{
	assert(i < g->net_count);
	return g->net[i].tap.name;
}

const struct hf_report *hf_guest_report(const struct hf_guest *g)
{
	return &g->report;
}

size_t hf_guest_ram_parts(const struct hf_guest *g, struct hf_ram_part *ret, size_t max)
{
	if (g->ram_parts > max)
		return 0;
	memcpy(ret, g->ram_part, g->ram_parts * sizeof(*ret));
	return g->ram_parts;
}

bool hf_guest_has_disks(const struct hf_guest *g)
{
	return g->has_disks;
}

bool hf_guest_is_paused_by_user(const struct hf_guest *g)
{
	return g->is_paused;
}

int hf_guest_incoming_fd(const struct hf_guest *g)
{
	return g->incoming_fd;
}

int hf_guest_take_incoming_fd(struct hf_guest *g)
{
	return hf_fd_take(&g->incoming_fd);
}
