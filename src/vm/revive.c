/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/revive.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "codec/json.h"
#include "codec/words.h"
#include "sys/fd.h"

/* Numbers of the descriptors in QEMU. */
enum { QMP_FD = 3, RAM_FD, CONSOLE_FD, GDB_FD, FIRST_NET_FD };

#define BOX_WORDS_MAX 8
#define END_MAX_MS 10000
#define STATE_MAX_BYTES (64 << 20) /* HF_CHECKPOINT_STATE_MAX_BYTES */

/* A start under way. */
struct start {
	const struct hf_revive_config *config;
	struct hf_revived *v;
	int qmp_fd; /* QEMU's ends, until it runs */
	int net_fd[HF_CERTIFICATE_NETS_MAX];
	int64_t deadline_ms;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int left_ms(const struct start *s)
{
	int64_t left = s->deadline_ms - now_ms();

	return left > 1 ? (int)left : 1;
}

/* ---- the line ---- */

/* Memory's place does not matter any more: it is there. */
static int probe_nothing(const char *path __attribute__((unused)), uint64_t *ret_page_bytes)
{
	*ret_page_bytes = 0;
	return 0;
}

static int read_line(struct start *s, struct hf_err *err)
{
	const struct hf_certificate *c = s->config->certificate;
	struct hf_cmdline_want want = {
		.is_inspection = true,
		.hold_net = c->hold_net,
		.unprotected = c->unprotected,
		.page_bytes = c->page_bytes,
		.probe = probe_nothing,
	};
	char *text;
	int r = hf_cmdline_parse(c->argv, &want, &s->v->cmdline, err);

	if (r < 0)
		return r;
	if (s->v->cmdline->refused_count) {
		if (hf_cmdline_refusal(s->v->cmdline, &text) < 0)
			return -ENOMEM;
		hf_err_set(err, "%.*s", (int)strcspn(text, "\n"), text);
		free(text);
		return -EPERM;
	}
	if (s->v->cmdline->ram_bytes != c->ram_bytes) {
		hf_err_set(err, "the kept RAM has %llu bytes, but the VM's command line says %llu",
			   (unsigned long long)c->ram_bytes,
			   (unsigned long long)s->v->cmdline->ram_bytes);
		return -EINVAL;
	}
	return 0;
}

/* ---- disks ---- */

static bool is_uri(const char *location)
{
	return strncmp(location, "nbd://", 6) == 0 || strncmp(location, "nbd+unix://", 11) == 0;
}

static int spawn_disk(struct start *s, size_t i, struct hf_err *err)
{
	const char *location = s->v->cmdline->disk[i].location;
	struct hf_process_spec spec = { .is_own_group = true };
	char temp[sizeof("TMPDIR=") + PATH_MAX], source[PATH_MAX + 16];
	const char *env[] = { temp, NULL };
	const char *argv[] = { "nbdkit",
			       "--foreground",
			       "--exit-with-parent",
			       "--unix",
			       s->v->disk_socket[i],
			       "--filter=cow",
			       is_uri(location) ? "nbd" : "file",
			       source,
			       NULL };

	(void)snprintf(temp, sizeof(temp), "TMPDIR=%s", s->config->work_dir);
	(void)snprintf(source, sizeof(source), "%s=%s", is_uri(location) ? "uri" : "file",
		       location);
	spec.argv = argv;
	spec.env_set = env;
	return hf_process_spawn(&spec, &s->v->disk[i], err);
}

static bool is_ended(const struct hf_process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

static bool is_served(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_there;

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	is_there = fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
	hf_fd_close(&fd);
	return is_there;
}

static int await_disk(struct start *s, size_t i, struct hf_err *err)
{
	const char *id = s->v->cmdline->disk[i].id;

	while (!is_served(s->v->disk_socket[i])) {
		if (is_ended(&s->v->disk[i])) {
			hf_err_set(
				err,
				"disk '%s': nbdkit ended before it served %s; its own message is "
				"above",
				id, s->v->cmdline->disk[i].location);
			return -ECHILD;
		}
		if (now_ms() > s->deadline_ms) {
			hf_err_set(err, "disk '%s': nbdkit does not serve %s in time", id,
				   s->v->cmdline->disk[i].location);
			return -ETIMEDOUT;
		}
		(void)poll(NULL, 0, 5);
	}
	return 0;
}

static int start_disks(struct start *s, struct hf_err *err)
{
	int r = 0;

	if (s->v->cmdline->disk_count > HF_CERTIFICATE_DISKS_MAX)
		return -E2BIG;
	for (size_t i = 0; !r && i < s->v->cmdline->disk_count; i++) {
		if (asprintf(&s->v->disk_socket[i], "%s/disk%zu", s->config->work_dir, i) < 0) {
			s->v->disk_socket[i] = NULL;
			return -ENOMEM;
		}
		r = spawn_disk(s, i, err);
		s->v->n_disks = i + 1;
	}
	for (size_t i = 0; !r && i < s->v->n_disks; i++)
		r = await_disk(s, i, err);
	return r;
}

/* ---- QEMU ---- */

static int make_nets(struct start *s)
{
	int pair[2];
	int r = 0;

	for (size_t i = 0; !r && i < s->v->cmdline->net_count; i++) {
		r = i < HF_CERTIFICATE_NETS_MAX ? hf_fd_pair(SOCK_STREAM, pair) : -E2BIG;
		if (r < 0)
			break;
		s->v->net_fd[i] = pair[0];
		s->net_fd[i] = pair[1];
		s->v->n_nets = i + 1;
	}
	return r;
}

static void add_fd(struct hf_process_fd *fds, size_t *n, int parent_fd, int child_fd)
{
	fds[(*n)++] = (struct hf_process_fd){ .parent_fd = parent_fd, .child_fd = child_fd };
}

static int run(const struct start *s, const char *const *argv, struct hf_err *err)
{
	const struct hf_revive_config *config = s->config;
	struct hf_process_fd fds[HF_PROCESS_FDS_MAX];
	char temp[sizeof("TMPDIR=") + PATH_MAX];
	const char *env[] = { temp, NULL };
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct hf_process_spec spec = {
		.argv = argv, .env_set = env, .fds = fds, .is_own_group = true
	};
	int r;

	if (null_fd < 0)
		return -errno;
	(void)snprintf(temp, sizeof(temp), "TMPDIR=%s", config->work_dir);
	add_fd(fds, &spec.n_fds, null_fd, STDIN_FILENO);
	add_fd(fds, &spec.n_fds, s->qmp_fd, QMP_FD);
	add_fd(fds, &spec.n_fds, config->ram_fd, RAM_FD);
	if (config->console_fd >= 0)
		add_fd(fds, &spec.n_fds, config->console_fd, CONSOLE_FD);
	if (config->gdb_fd >= 0)
		add_fd(fds, &spec.n_fds, config->gdb_fd, GDB_FD);
	for (size_t i = 0; i < s->v->n_nets && spec.n_fds < HF_PROCESS_FDS_MAX; i++)
		add_fd(fds, &spec.n_fds, s->net_fd[i], FIRST_NET_FD + (int)i);
	r = hf_process_spawn(&spec, &s->v->qemu, err);
	hf_fd_close(&null_fd);
	return r;
}

/* The box's words, then the line's. */
static int run_boxed(const struct start *s, char *const *line, struct hf_err *err)
{
	const char *const *box = s->config->box;
	size_t n = hf_words_count(line);
	const char **argv = calloc(BOX_WORDS_MAX + n + 2, sizeof(*argv));
	size_t at = 0;
	int r;

	if (!argv)
		return -ENOMEM;
	for (; box && box[at] && at < BOX_WORDS_MAX; at++)
		argv[at] = box[at];
	if (box && s->v->cmdline->has_tap)
		argv[at++] = "--tap";
	if (box)
		argv[at++] = "--";
	memcpy(&argv[at], line, n * sizeof(*line));
	r = run(s, argv, err);
	free(argv);
	return r;
}

static int spawn_qemu(struct start *s, struct hf_err *err)
{
	int net[HF_CERTIFICATE_NETS_MAX];
	struct hf_cmdline_fds numbers = {
		.qmp = QMP_FD,
		.ram = RAM_FD,
		.net = net,
		.disk_sockets = (const char *const *)s->v->disk_socket,
		.console = s->config->console_fd >= 0 ? CONSOLE_FD : 0,
		.gdb = s->config->gdb_fd >= 0 ? GDB_FD : 0,
	};
	char **line = NULL;
	int r;

	for (int i = 0; i < HF_CERTIFICATE_NETS_MAX; i++)
		net[i] = FIRST_NET_FD + i;
	r = hf_cmdline_render(s->v->cmdline, &numbers, &line, err);
	if (r < 0)
		return r;
	r = run_boxed(s, line, err);
	hf_words_free(line);
	return r;
}

/* ---- its answers ---- */

static void on_event(void *ctx, const char *name, struct json_object *data, uint64_t timestamp_us)
{
	struct hf_revived *v = ctx;
	const char *status;

	if (strcmp(name, "MIGRATION") == 0 && hf_json_str(data, "status", &status, NULL) == 0) {
		v->has_loaded |= strcmp(status, "completed") == 0;
		v->has_failed |= strcmp(status, "failed") == 0;
	}
	if (v->on_event)
		v->on_event(v->ctx, name, data, timestamp_us);
}

/* QEMU's end is what a person wants to hear of, not that of a connection. */
static int explain(struct start *s, int r, struct hf_err *err)
{
	struct pollfd pfd = { .fd = s->v->qemu.pidfd, .events = POLLIN };
	struct hf_process_exit end;
	char text[HF_PROCESS_EXIT_TEXT];

	if (r == -EREMOTEIO || r == -ETIMEDOUT || poll(&pfd, 1, 2000) <= 0 ||
	    hf_process_reap(&s->v->qemu, &end) != 0)
		return r;
	hf_err_set(err, "the examined QEMU %s; its own message, if it had one, is above",
		   hf_process_exit_format(&end, text, sizeof(text)));
	return -ECHILD;
}

static int ask(struct start *s, struct hf_qmp_command command, struct hf_err *err)
{
	int r = hf_qmp_wait(s->v->qmp, &command, left_ms(s), NULL, err);

	return r < 0 ? explain(s, r, err) : 0;
}

static int await_state(struct start *s, struct hf_err *err)
{
	struct pollfd pfd = { .fd = hf_qmp_fd(s->v->qmp), .events = POLLIN };
	int r = 0;

	while (!r && !s->v->has_loaded && !s->v->has_failed) {
		if (poll(&pfd, 1, left_ms(s)) <= 0 && now_ms() >= s->deadline_ms) {
			hf_err_set(err, "QEMU has not loaded the device state in time");
			return -ETIMEDOUT;
		}
		r = hf_qmp_dispatch(s->v->qmp, err);
	}
	if (r < 0)
		return explain(s, r, err);
	if (!s->v->has_failed)
		return 0;
	hf_err_set(err, "QEMU does not take the device state; its own message is above");
	return -EIO;
}

static int fill_stream(int from, int to, off_t left)
{
	off_t at = 0;

	while (left > 0) {
		ssize_t n = sendfile(to, from, &at, (size_t)left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		left -= n;
	}
	return 0;
}

/* The state as a stream, all of it in the socket's buffer: QEMU 10.0 warns of a descriptor that is a file. */
static int open_stream(int state_fd, int *ret)
{
	struct stat st;
	int pair[2];
	int size;
	int r;

	if (fstat(state_fd, &st) < 0)
		return -errno;
	size = (int)(st.st_size < STATE_MAX_BYTES ? st.st_size : STATE_MAX_BYTES) * 2 + (1 << 20);
	r = hf_fd_pair(SOCK_STREAM, pair);
	if (r < 0)
		return r;
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		r = -errno;
	if (!r)
		r = fill_stream(state_fd, pair[1], st.st_size);
	hf_fd_close(&pair[1]); /* what is in it stays */
	if (r < 0)
		hf_fd_close(&pair[0]);
	else
		*ret = pair[0];
	return r;
}

static int load_state(struct start *s, struct hf_err *err)
{
	int fd = -1;
	int r = ask(
		s,
		(struct hf_qmp_command){
			.name = "migrate-set-capabilities",
			.arguments_text =
				"{\"capabilities\":[{\"capability\":\"x-ignore-shared\","
				"\"state\":true},{\"capability\":\"events\",\"state\":true}]}" },
		err);

	if (!r) {
		r = open_stream(s->config->state_fd, &fd);
		if (r < 0)
			hf_err_set(err, "cannot read the device state: %s", strerror(-r));
	}
	if (!r)
		r = ask(s,
			(struct hf_qmp_command){ .name = "getfd",
						 .arguments_text = "{\"fdname\":\"state\"}",
						 .has_fd = true,
						 .fd = fd },
			err);
	hf_fd_close(&fd); /* the session has its own */
	if (!r)
		r = ask(s,
			(struct hf_qmp_command){ .name = "migrate-incoming",
						 .arguments_text = "{\"uri\":\"fd:state\"}" },
			err);
	return r ? r : await_state(s, err);
}

static int start_qemu(struct start *s, struct hf_err *err)
{
	int pair[2];
	int r = hf_fd_pair(SOCK_STREAM, pair);

	if (r < 0)
		return r;
	s->qmp_fd = pair[1];
	r = make_nets(s);
	if (!r)
		r = spawn_qemu(s, err);
	hf_fd_close(&s->qmp_fd);
	for (size_t i = 0; i < HF_CERTIFICATE_NETS_MAX; i++)
		hf_fd_close(&s->net_fd[i]);
	if (!r)
		r = hf_qmp_open(pair[0], on_event, s->v, &s->v->qmp);
	if (r < 0)
		hf_fd_close(&pair[0]);
	return r;
}

static struct hf_revived *new_revived(const struct hf_revive_config *config)
{
	struct hf_revived *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->qemu = HF_PROCESS_NONE;
	v->on_event = config->on_event;
	v->ctx = config->ctx;
	for (size_t i = 0; i < HF_CERTIFICATE_DISKS_MAX; i++)
		v->disk[i] = HF_PROCESS_NONE;
	for (size_t i = 0; i < HF_CERTIFICATE_NETS_MAX; i++)
		v->net_fd[i] = -1;
	return v;
}

int hf_revive(const struct hf_revive_config *config, struct hf_revived **ret, struct hf_err *err)
{
	struct start s = { .config = config,
			   .v = new_revived(config),
			   .qmp_fd = -1,
			   .deadline_ms = now_ms() + HF_REVIVE_MAX_MS };
	struct hf_err own = { "" };
	int r;

	if (!s.v)
		return -ENOMEM;
	for (size_t i = 0; i < HF_CERTIFICATE_NETS_MAX; i++)
		s.net_fd[i] = -1;
	r = read_line(&s, &own);
	if (!r)
		r = start_disks(&s, &own);
	if (!r)
		r = start_qemu(&s, &own);
	if (!r)
		r = load_state(&s, &own);
	if (!r) {
		*ret = s.v;
		return 0;
	}
	hf_err_set(err, "%s", own.text[0] ? own.text : strerror(-r));
	hf_revive_end(s.v);
	return r;
}

static void end_process(struct hf_process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };
	struct hf_process_exit end;

	if (p->pid >= 0 && hf_process_kill(p, SIGKILL) == 0 && poll(&pfd, 1, END_MAX_MS) > 0)
		(void)!hf_process_reap(p, &end);
	hf_process_close(p);
}

void hf_revive_end(struct hf_revived *v)
{
	if (!v)
		return;
	end_process(&v->qemu);
	hf_qmp_close(v->qmp);
	for (size_t i = 0; i < v->n_disks; i++) {
		end_process(&v->disk[i]);
		if (v->disk_socket[i])
			(void)unlink(v->disk_socket[i]);
	}
	for (size_t i = 0; i < HF_CERTIFICATE_DISKS_MAX; i++)
		free(v->disk_socket[i]);
	for (size_t i = 0; i < HF_CERTIFICATE_NETS_MAX; i++)
		hf_fd_close(&v->net_fd[i]);
	hf_cmdline_free(v->cmdline);
	free(v);
}

void hf_revive_swallow(struct hf_revived *v)
{
	char nowhere[16384];
	size_t n;

	for (size_t i = 0; i < v->n_nets; i++)
		while (hf_fd_read(v->net_fd[i], nowhere, sizeof(nowhere), &n) == 0)
			continue;
}
