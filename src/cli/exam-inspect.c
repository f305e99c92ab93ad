/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast inspect: a frozen VM, brought to life on a private copy of its state, at this terminal.
 *
 * The guest's first serial port is the console; Ctrl-A x leaves, Ctrl-A Ctrl-A is a Ctrl-A for the guest. With
 * --paused it stands still, so there is nothing to type to, and Ctrl-C leaves. So it does after a guest's panic,
 * whose vCPUs have nothing left to do, unless --run is given. Whatever ends this program ends all of it.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/exam.h"
#include "cli/exit.h"
#include "cli/verb.h"
#include "sys/addr.h"
#include "sys/fd.h"
#include "sys/sock.h"

#define ESCAPE '\x01' /* Ctrl-A, as in QEMU's own console */
#define GDB_PORT 1234

struct inspect {
	struct hf_instance instance;
	const char *state_dir;
	const char *gdb; /* NULL: none; "": a socket of our own */
	bool is_paused, is_run;

	struct hf_exam x;
	int signal_fd;
	int console_fd; /* our end */
	int gdb_fd;
	char gdb_text[160];
	char gdb_path[128]; /* to be removed; "": none */
	struct termios before;
	bool is_raw;
	bool is_escaped; /* the last key was Ctrl-A */
	bool is_stdin_closed;
	bool is_over;
	char why[160]; /* it ended */
};

/* ---- gdb ---- */

static int listen_at_path(struct inspect *i, const char *path, struct hf_err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t mask = umask(0177);
	int r = 0;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		r = -ENAMETOOLONG;
	} else {
		memcpy(addr.sun_path, path, strlen(path) + 1);
		i->gdb_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (i->gdb_fd < 0 || bind(i->gdb_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
			r = -errno;
		else
			(void)snprintf(i->gdb_path, sizeof(i->gdb_path), "%s", path);
		if (!r && listen(i->gdb_fd, 1) < 0)
			r = -errno;
	}
	(void)umask(mask);
	if (r < 0)
		hf_err_set(err, "--gdb: %.300s: %s", path, strerror(-r));
	(void)snprintf(i->gdb_text, sizeof(i->gdb_text), "%.150s", path);
	return r;
}

static int listen_at_address(struct inspect *i, struct hf_err *err)
{
	struct hf_sockaddr at;
	struct hf_addr addr;
	char text[HF_ADDR_TEXT];
	int r = hf_addr_parse(i->gdb, GDB_PORT, &addr, err);

	if (!r)
		r = hf_addr_resolve(&addr, /* is_listening= */ true, &at, err);
	if (!r)
		r = hf_sock_listen(&at, NULL, &i->gdb_fd, err);
	if (!r && hf_sock_local(i->gdb_fd, &at) == 0)
		(void)snprintf(i->gdb_text, sizeof(i->gdb_text), "%.150s",
			       hf_sockaddr_format(&at, text, sizeof(text)));
	if (r < 0)
		hf_err_prefix(err, "--gdb: ");
	return r;
}

/* Made here, outside of the walls: QEMU's own network has no way in. */
static int open_gdb(struct inspect *i, struct hf_err *err)
{
	char path[160];
	int r;

	if (!i->gdb)
		return 0;
	if (i->gdb[0] == '/')
		return listen_at_path(i, i->gdb, err);
	if (i->gdb[0])
		return listen_at_address(i, err);
	r = hf_exam_work_dir(&i->x, err);
	(void)snprintf(path, sizeof(path), "%.120s/gdb", i->x.work_dir);
	return r ? r : listen_at_path(i, path, err);
}

/* ---- the terminal ---- */

static void restore_terminal(struct inspect *i)
{
	if (i->is_raw)
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &i->before);
	i->is_raw = false;
}

static void make_raw(struct inspect *i)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &i->before) < 0)
		return;
	raw = i->before;
	cfmakeraw(&raw);
	i->is_raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
}

static void finish(struct inspect *i, const char *why)
{
	i->is_over = true;
	(void)snprintf(i->why, sizeof(i->why), "%s", why);
}

static void to_guest(struct inspect *i, const char *data, size_t len)
{
	size_t n;

	/* A guest that does not read loses what is typed, as on a line. */
	if (len)
		(void)!hf_fd_send(i->console_fd, data, len, &n);
}

static void take_key(struct inspect *i, char key)
{
	bool was_escaped = i->is_escaped;

	i->is_escaped = false;
	if (i->is_raw && key == ESCAPE && !was_escaped)
		i->is_escaped = true;
	else if (was_escaped && key == 'x')
		finish(i, "");
	else if (!was_escaped || key == ESCAPE)
		to_guest(i, &key, 1);
}

static void read_keys(struct inspect *i)
{
	char keys[1024];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n <= 0) {
		if (n < 0 && errno == EINTR)
			return;
		i->is_stdin_closed = true;
		if (i->is_raw)
			finish(i, "the terminal is gone");
		return;
	}
	for (ssize_t k = 0; k < n && !i->is_over; k++)
		take_key(i, keys[k]);
}

static void print_console(struct inspect *i)
{
	char text[4096];
	size_t n, put;
	int r = hf_fd_read(i->console_fd, text, sizeof(text), &n);

	if (r == HF_FD_EOF || r < 0) {
		finish(i, "QEMU has ended");
		return;
	}
	for (size_t at = 0; r == 0 && at < n; at += put) {
		ssize_t w = write(STDOUT_FILENO, text + at, n - at);

		if (w < 0 && errno != EINTR && errno != EAGAIN)
			finish(i, "the terminal is gone");
		if (i->is_over)
			return;
		put = w > 0 ? (size_t)w : 0;
	}
}

/* ---- the loop ---- */

static void on_event(void *ctx, const char *name, struct json_object *data __attribute__((unused)),
		     uint64_t timestamp_us __attribute__((unused)))
{
	struct inspect *i = ctx;

	if (strcmp(name, "GUEST_PANICKED") == 0)
		(void)fprintf(stderr, "\r\nholdfast inspect: the guest has panicked\r\n");
	else if (strcmp(name, "SHUTDOWN") == 0)
		finish(i, "the guest has shut down");
}

enum { FD_SIGNAL, FD_CONSOLE, FD_QMP, FD_QEMU, FD_STDIN, FD_NETS };

static nfds_t list_fds(const struct inspect *i, struct pollfd *fds)
{
	const struct hf_revived *v = i->x.revived;

	fds[FD_SIGNAL] = (struct pollfd){ .fd = i->signal_fd, .events = POLLIN };
	fds[FD_CONSOLE] = (struct pollfd){ .fd = i->console_fd, .events = POLLIN };
	fds[FD_QMP] = (struct pollfd){ .fd = hf_qmp_fd(v->qmp), .events = POLLIN };
	fds[FD_QEMU] = (struct pollfd){ .fd = v->qemu.pidfd, .events = POLLIN };
	fds[FD_STDIN] = (struct pollfd){ .fd = i->is_stdin_closed ? -1 : STDIN_FILENO,
					 .events = POLLIN };
	for (size_t n = 0; n < v->n_nets; n++)
		fds[FD_NETS + n] = (struct pollfd){ .fd = v->net_fd[n], .events = POLLIN };
	return FD_NETS + v->n_nets;
}

static void look_after(struct inspect *i)
{
	struct pollfd fds[FD_NETS + HF_CERTIFICATE_NETS_MAX];
	nfds_t n = list_fds(i, fds);
	struct hf_err err = { "" };

	if (poll(fds, n, -1) < 0)
		return;
	if (fds[FD_CONSOLE].revents)
		print_console(i);
	if (fds[FD_QMP].revents && hf_qmp_dispatch(i->x.revived->qmp, &err) < 0 && !i->is_over)
		finish(i, "QEMU has ended");
	if (fds[FD_STDIN].revents)
		read_keys(i);
	hf_revive_swallow(i->x.revived);
	if (fds[FD_QEMU].revents && !i->is_over)
		finish(i, "QEMU has ended");
	if (fds[FD_SIGNAL].revents)
		finish(i, "");
}

/* ---- the beginning ---- */

static void warn_of_images(const struct inspect *i)
{
	const struct hf_cmdline *cmd = i->x.revived->cmdline;
	/* The disks were written out while it was being frozen. */
	time_t frozen = (time_t)(i->x.frozen.certificate.frozen_time_ns / 1000000000u);
	struct stat st;

	for (size_t d = 0; d < cmd->disk_count; d++)
		if (stat(cmd->disk[d].location, &st) == 0 && S_ISREG(st.st_mode) &&
		    st.st_mtim.tv_sec > frozen + 1)
			(void)fprintf(stderr,
				      "holdfast inspect: disk '%s': %s has been changed since the "
				      "freeze: it does not fit this memory any more\n",
				      cmd->disk[d].id, cmd->disk[d].location);
}

static void greet(const struct inspect *i, bool is_still)
{
	const struct hf_certificate *c = &i->x.frozen.certificate;

	(void)fprintf(stderr, "%s@%s, frozen for %s: a private copy, cut off from everything.\n",
		      c->vm, c->id, hf_vm_cause_name(c->cause));
	if (i->gdb)
		(void)fprintf(stderr, "gdb: target remote %s\n", i->gdb_text);
	if (is_still)
		(void)fprintf(stderr, "It stands still. Ctrl-C ends this.\n");
	else
		(void)fprintf(stderr, "This is its first serial port. Ctrl-A x ends this.\n");
}

static bool is_to_stand_still(const struct inspect *i)
{
	enum hf_vm_cause cause = i->x.frozen.certificate.cause;

	return i->is_paused ||
	       (!i->is_run && (cause == HF_VM_CAUSE_PANIC || cause == HF_VM_CAUSE_INTERNAL));
}

static int begin(struct inspect *i, struct hf_err *err)
{
	bool is_still = false;
	int pair[2] = { -1, -1 };
	int r = hf_exam_open("inspect", i->state_dir, &i->instance, &i->x, err);

	if (!r)
		r = open_gdb(i, err);
	if (!r)
		r = hf_fd_pair(SOCK_STREAM, pair);
	if (r < 0)
		return r;
	i->console_fd = pair[0];
	r = hf_exam_revive(&i->x, pair[1], i->gdb_fd, on_event, i, err);
	hf_fd_close(&pair[1]);
	if (r < 0)
		return r;
	warn_of_images(i);
	is_still = is_to_stand_still(i);
	greet(i, is_still);
	if (is_still)
		return 0;
	r = hf_qmp_call_wait(i->x.revived->qmp, "cont", NULL, 10000, NULL, err);
	if (!r)
		make_raw(i);
	return r;
}

static int run(struct inspect *i)
{
	struct hf_err err = { "" };
	bool is_found;
	int r;

	i->signal_fd = hf_exam_take_signals();
	if (i->signal_fd < 0)
		return HF_EXIT_FAILED;
	r = begin(i, &err);
	while (!r && !i->is_over)
		look_after(i);
	restore_terminal(i);
	is_found = i->x.is_found;
	if (!r && i->why[0])
		(void)fprintf(stderr, "\nholdfast inspect: %s\n", i->why);
	hf_fd_close(&i->gdb_fd);
	if (i->gdb_path[0])
		(void)unlink(i->gdb_path);
	hf_exam_close(&i->x);
	hf_fd_close(&i->console_fd);
	hf_fd_close(&i->signal_fd);
	if (r == 0)
		return HF_EXIT_DONE;
	return hf_exit_complain("inspect", is_found ? HF_EXIT_FAILED : HF_EXIT_NOT_THERE, &err);
}

/* ---- the command ---- */

static int read_options(int argc, char **argv, struct inspect *i)
{
	static const struct option table[] = {
		{ "gdb", optional_argument, NULL, 'g' },
		{ "paused", no_argument, NULL, 'p' },
		{ "run", no_argument, NULL, 'u' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (c == 'h')
			return 1;
		if (c == 'g')
			i->gdb = optarg ? optarg : "";
		else if (c == 'p')
			i->is_paused = true;
		else if (c == 'u')
			i->is_run = true;
		else if (c == 's')
			i->state_dir = optarg;
		else if (c != 'r') { /* taken for the sake of scripts; there is no keeper to ask */
			(void)hf_exit_refuse_option("inspect", argv[optind - 1], c);
			return -EINVAL;
		}
	}
	return 0;
}

int hf_exam_inspect(int argc, char **argv)
{
	struct inspect i = { .signal_fd = -1, .console_fd = -1, .gdb_fd = -1 };
	struct hf_verb_options defaults;
	struct hf_err err = { "" };
	int r;

	hf_verb_defaults(&defaults);
	i.state_dir = defaults.state_dir;
	i.x.ram_fd = i.x.state_fd = -1;
	r = read_options(argc, argv, &i);
	if (r)
		return r > 0 ? -1 : HF_EXIT_USAGE;
	if (argc - optind != 1) {
		(void)fprintf(stderr,
			      argc - optind < 1
				      ? "holdfast inspect: a frozen VM is wanted\n"
				      : "holdfast inspect: one VM, and no options of QEMU's: "
					"the machine must be the one that was frozen\n");
		return HF_EXIT_USAGE;
	}
	if (hf_instance_parse(argv[optind], &i.instance, &err) < 0)
		return hf_exit_complain("inspect", HF_EXIT_USAGE, &err);
	return run(&i);
}
