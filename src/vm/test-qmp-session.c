/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json_util.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "codec/json.h"
#include "sys/fd.h"
#include "sys/process.h"
#include "vm/qmp-session.h"

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "         \
	"\"package\": \"\"}, \"capabilities\": []}}\r\n"

/* What callbacks saw. */
struct seen {
	unsigned int replies, errors, lost, events;
	char last_class[64], last_desc[256], last_event[64];
	int64_t last_id_returned;
};

static void on_reply(void *ctx, struct json_object *ret, const char *error_class,
		     const char *error_desc)
{
	struct seen *s = ctx;

	s->replies++;
	if (error_class) {
		s->errors++;
		s->lost += strcmp(error_class, HF_QMP_CLASS_LOST) == 0;
		(void)snprintf(s->last_class, sizeof(s->last_class), "%s", error_class);
		(void)snprintf(s->last_desc, sizeof(s->last_desc), "%s", error_desc);
		CHECK(ret == NULL);
	} else if (json_object_is_type(ret, json_type_int)) {
		s->last_id_returned = json_object_get_int64(ret);
	}
}

static void on_event(void *ctx, const char *name, struct json_object *data, uint64_t timestamp_us)
{
	struct seen *s = ctx;

	(void)data;
	(void)timestamp_us;
	s->events++;
	(void)snprintf(s->last_event, sizeof(s->last_event), "%s", name);
}

static int step(struct hf_qmp *q, struct hf_err *err)
{
	struct pollfd p = { .fd = hf_qmp_fd(q), .events = POLLIN };

	CHECK_EQ(poll(&p, 1, 10000), 1);
	return hf_qmp_dispatch(q, err);
}

/* ---- against a stand-in for QEMU that the test plays itself ---- */

static struct hf_qmp *open_pair(int *ret_peer, struct seen *s)
{
	struct hf_qmp *q;
	int fds[2];

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK_EQ(hf_qmp_open(fds[0], on_event, s, &q), 0);
	*ret_peer = fds[1];
	return q;
}

static void say(int peer, const char *text)
{
	size_t n;

	CHECK_EQ(hf_fd_send(peer, text, strlen(text), &n), 0);
	CHECK_EQ(n, strlen(text));
}

static const char *hear(int peer)
{
	static char buf[65536];
	size_t n = 0;

	CHECK_EQ(hf_fd_read(peer, buf, sizeof(buf) - 1, &n), 0);
	buf[n] = '\0';
	return buf;
}

TEST(answers_find_their_caller_in_any_order)
{
	struct seen a = { 0 }, b = { 0 }, s = { 0 };
	struct hf_err err;
	struct hf_qmp *q;
	int peer;

	q = open_pair(&peer, &s);
	CHECK_STR(hear(peer), "{\"execute\":\"qmp_capabilities\",\"id\":1}\r\n");
	CHECK_EQ(hf_qmp_call(q, "one", NULL, on_reply, &a), 0);
	CHECK_STR(hear(peer), "{\"execute\":\"one\",\"id\":2}\r\n");
	CHECK_EQ(hf_qmp_call(q, "two", NULL, on_reply, &b), 0);
	CHECK_EQ(hf_qmp_events(q), EPOLLIN);
	say(peer, GREETING "{\"return\": {}, \"id\": 1}\r\n");
	CHECK_EQ(step(q, &err), 0);
	CHECK_STR(hf_qmp_version(q), "7.2.22");
	say(peer,
	    "{\"return\": 33, \"id\": 3}\r\n{\"timestamp\": {\"seconds\": 1, \"microseconds\": "
	    "2}, \"event\": \"STOP\"}\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": "
	    "\"no\"}, \"id\": 2}\r\n");
	CHECK_EQ(step(q, &err), 0);
	CHECK_EQ(a.replies, 1);
	CHECK_STR(a.last_class, "GenericError");
	CHECK_STR(a.last_desc, "no");
	CHECK_EQ(b.replies, 1);
	CHECK_EQ(b.errors, 0);
	CHECK_EQ(b.last_id_returned, 33);
	CHECK_EQ(s.events, 1);
	CHECK_STR(s.last_event, "STOP");
	hf_qmp_close(q);
	hf_fd_close(&peer);
}

TEST(every_pending_caller_is_told_once)
{
	struct seen a = { 0 }, s = { 0 };
	struct hf_err err;
	struct hf_qmp *q;
	int peer;

	q = open_pair(&peer, &s);
	for (int i = 0; i < HF_QMP_OUTSTANDING_MAX; i++)
		CHECK_EQ(hf_qmp_call(q, "stop", NULL, on_reply, &a), 0);
	CHECK_EQ(hf_qmp_call(q, "stop", NULL, on_reply, &a), -ENOBUFS);
	hf_fd_close(&peer);
	CHECK_EQ(step(q, &err), -EPIPE);
	CHECK_CONTAINS(err.text, "QEMU closed");
	CHECK_EQ(a.replies, HF_QMP_OUTSTANDING_MAX);
	CHECK_EQ(a.lost, HF_QMP_OUTSTANDING_MAX);
	CHECK_EQ(hf_qmp_events(q), 0);
	CHECK_EQ(hf_qmp_dispatch(q, &err), -EPIPE);
	CHECK_EQ(hf_qmp_call(q, "stop", NULL, on_reply, &a), -EPIPE);
	CHECK_EQ(a.replies, HF_QMP_OUTSTANDING_MAX);
	hf_qmp_close(q);
}

TEST(a_broken_pipe_is_found_by_the_writer_too)
{
	struct seen a = { 0 }, s = { 0 };
	struct hf_err err;
	struct hf_qmp *q;
	int peer;

	q = open_pair(&peer, &s);
	hf_fd_close(&peer);
	CHECK_EQ(hf_qmp_call(q, "stop", NULL, on_reply, &a), 0);
	CHECK_EQ(a.replies, 0); /* never from within the call */
	CHECK(step(q, &err) < 0);
	CHECK_EQ(a.lost, 1);
	hf_qmp_close(q);
}

TEST(garbage_and_answers_to_nothing_end_the_session)
{
	static const struct {
		const char *text, *part;
	} table[] = {
		{ GREETING "hello\r\n", "no QMP" },
		{ GREETING "{\"return\": {}, \"id\": 99}\r\n", "not sent" },
		{ GREETING "{\"return\": {}, \"id\": 0}\r\n", "not sent" },
		{ GREETING "{\"return\": {}}\r\n", "not sent" },
		{ GREETING
		  "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n",
		  "JSON parse error" },
		{ GREETING "{\"error\": {\"class\": \"X\", \"desc\": \"never\"}, \"id\": 1}\r\n",
		  "refuses to negotiate" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct seen a = { 0 }, s = { 0 };
		struct hf_err err;
		struct hf_qmp *q;
		int peer;

		q = open_pair(&peer, &s);
		CHECK_EQ(hf_qmp_call(q, "stop", NULL, on_reply, &a), 0);
		say(peer, table[i].text);
		CHECK_EQ(step(q, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, table[i].part);
		CHECK_EQ(a.lost, 1);
		CHECK_EQ(a.replies, 1);
		hf_qmp_close(q);
		hf_fd_close(&peer);
	}
}

/* The bytes that came with a descriptor. The kernel may put bytes sent before it into the same
 * read, never bytes sent after. */
struct arrival {
	int fd;
	const char *from, *end;
};

/* Reads all that is in the socket. */
static size_t collect(int peer, char *buf, size_t size, struct arrival *a)
{
	size_t len = 0, n;
	int fd;

	while (hf_fd_receive(peer, buf + len, size - len, &n, &fd) == 0) {
		if (fd >= 0) {
			CHECK_EQ(a->fd, -1);
			*a = (struct arrival){ fd, buf + len, buf + len + n };
		}
		len += n;
	}
	return len;
}

TEST(a_full_socket_queues_and_keeps_the_descriptor_with_its_command)
{
	static char got[1024 * 1024];
	char args[8192];
	struct hf_qmp_command filler = { .name = "filler", .arguments_text = args };
	struct hf_qmp_command getfd = { .name = "getfd", .arguments_text = "{}", .has_fd = true };
	struct seen s = { 0 };
	struct arrival a = { .fd = -1 };
	const char *command;
	size_t len = 0;
	struct hf_err err;
	struct hf_qmp *q;
	int peer, r;

	(void)snprintf(args, sizeof(args), "{\"x\":\"%0*d\"}", (int)sizeof(args) - 16, 7);
	q = open_pair(&peer, &s);
	while (hf_qmp_events(q) == EPOLLIN)
		CHECK_EQ(hf_qmp_submit(q, &filler), 0);
	getfd.fd = peer;
	CHECK_EQ(hf_qmp_submit(q, &getfd), 0);
	do
		r = hf_qmp_submit(q, &filler);
	while (r == 0);
	CHECK_EQ(r, -ENOBUFS);
	do {
		len += collect(peer, got + len, sizeof(got) - 1 - len, &a);
		CHECK_EQ(hf_qmp_dispatch(q, &err), 0);
	} while (hf_qmp_events(q) & EPOLLOUT);
	len += collect(peer, got + len, sizeof(got) - 1 - len, &a);
	got[len] = '\0';
	CHECK(a.fd >= 0);
	command = strstr(got, "{\"execute\":\"getfd\"");
	CHECK(command >= a.from);
	CHECK(command < a.end);
	CHECK_EQ(got[len - 1], '\n');
	hf_fd_close(&a.fd);
	hf_fd_close(&peer);
	hf_qmp_close(q);
}

/* ---- against the real one ---- */

struct qemu {
	struct hf_process process;
	struct hf_qmp *q;
	struct seen s;
};

static const char *qemu_program(void)
{
	const char *name = getenv("QEMU");

	return name && *name ? name : "qemu-system-x86_64";
}

/* false, and says so, where there is no QEMU. */
static int start_qemu(struct qemu *vm)
{
	const char *const argv[] = { qemu_program(),
				     "-machine",
				     "none",
				     "-S",
				     "-nodefaults",
				     "-display",
				     "none",
				     "-chardev",
				     "socket,id=qmp,fd=3",
				     "-mon",
				     "chardev=qmp,mode=control",
				     NULL };
	struct hf_process_fd fds[1];
	struct hf_process_spec spec = { .argv = argv, .fds = fds, .n_fds = 1 };
	struct hf_err err;
	int pair[2], r;

	*vm = (struct qemu){ .process = HF_PROCESS_NONE };
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, pair), 0);
	fds[0] = (struct hf_process_fd){ pair[1], 3 };
	r = hf_process_spawn(&spec, &vm->process, &err);
	hf_fd_close(&pair[1]);
	if (r == -ENOENT) {
		printf("# not run: %s\n", err.text);
		hf_fd_close(&pair[0]);
		return 0;
	}
	CHECK_EQ(r, 0);
	CHECK_EQ(hf_qmp_open(pair[0], on_event, &vm->s, &vm->q), 0);
	return 1;
}

static struct hf_process_exit end_qemu(struct qemu *vm)
{
	struct pollfd p = { .fd = vm->process.pidfd, .events = POLLIN };
	struct hf_process_exit e;

	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK_EQ(hf_process_reap(&vm->process, &e), 0);
	hf_process_close(&vm->process);
	hf_qmp_close(vm->q);
	return e;
}

TEST(qemu_from_greeting_to_quit)
{
	struct json_object *ret = NULL, *version, *args;
	struct hf_process_exit e;
	struct hf_err err;
	struct qemu vm;
	uint64_t major;
	char want[32];
	int r;

	if (!start_qemu(&vm))
		return;
	CHECK_EQ(hf_qmp_call_wait(vm.q, "query-version", NULL, 10000, &ret, &err), 0);
	CHECK_EQ(hf_json_obj(ret, "qemu", &version, &err), 0);
	CHECK_EQ(hf_json_u64(version, "major", &major, &err), 0);
	(void)snprintf(want, sizeof(want), "%d.", (int)major);
	CHECK(strncmp(hf_qmp_version(vm.q), want, strlen(want)) == 0);
	json_object_put(ret);

	CHECK_EQ(hf_qmp_call_wait(vm.q, "no-such-command", NULL, 10000, NULL, &err), -EREMOTEIO);
	CHECK_CONTAINS(err.text, "QEMU refused 'no-such-command'");
	args = json_object_new_object();
	CHECK_EQ(json_object_object_add(args, "capability", json_object_new_string("\"\\\n")), 0);
	CHECK_EQ(hf_qmp_call_wait(vm.q, "qom-list", args, 10000, NULL, &err), -EREMOTEIO);
	CHECK_EQ(json_object_put(args), 1);

	CHECK_EQ(hf_qmp_call(vm.q, "quit", NULL, on_reply, &vm.s), 0);
	do
		r = step(vm.q, &err);
	while (r == 0);
	CHECK_EQ(r, -EPIPE);
	CHECK_EQ(vm.s.replies, 1);
	CHECK_EQ(vm.s.errors, 0);
	CHECK_STR(vm.s.last_event, "SHUTDOWN");
	e = end_qemu(&vm);
	CHECK(!e.is_signal);
	CHECK_EQ(e.code, 0);
}

TEST(qemu_gets_descriptors)
{
	struct hf_qmp_command getfd = { .name = "getfd", .has_fd = true };
	struct hf_err err;
	struct qemu vm;
	char args[64];

	if (!start_qemu(&vm))
		return;
	getfd.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Pipelined, so that each must find its own descriptor and not its neighbour's. */
	for (int i = 0; i < 10; i++) {
		(void)snprintf(args, sizeof(args), "{\"fdname\":\"hf%d\"}", i);
		getfd.arguments_text = args;
		getfd.on_reply = on_reply;
		getfd.ctx = &vm.s;
		CHECK_EQ(hf_qmp_submit(vm.q, &getfd), 0);
	}
	CHECK_EQ(hf_qmp_call_wait(vm.q, "query-status", NULL, 10000, NULL, &err), 0);
	CHECK_EQ(vm.s.replies, 10);
	if (vm.s.errors)
		hf_test_fail(__FILE__, __LINE__, "%u errors, last: %s", vm.s.errors,
			     vm.s.last_desc);
	getfd.has_fd = false;
	CHECK_EQ(hf_qmp_wait(vm.q, &getfd, 10000, NULL, &err), -EREMOTEIO);
	CHECK_CONTAINS(err.text, "No file descriptor");
	for (int i = 0; i < 10; i++) {
		(void)snprintf(args, sizeof(args), "{\"fdname\":\"hf%d\"}", i);
		getfd.name = "closefd";
		CHECK_EQ(hf_qmp_wait(vm.q, &getfd, 10000, NULL, &err), 0);
	}
	hf_fd_close(&getfd.fd);
	CHECK_EQ(hf_process_kill(&vm.process, SIGKILL), 0);
	(void)end_qemu(&vm);
}

TEST(qemu_is_killed_with_commands_pending)
{
	struct hf_process_exit e;
	struct seen a = { 0 };
	struct hf_err err;
	struct qemu vm;
	int r;

	if (!start_qemu(&vm))
		return;
	CHECK_EQ(hf_qmp_call_wait(vm.q, "query-status", NULL, 10000, NULL, &err), 0);
	CHECK_EQ(hf_process_kill(&vm.process, SIGSTOP), 0);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(hf_qmp_call(vm.q, "query-status", NULL, on_reply, &a), 0);
	CHECK_EQ(hf_qmp_call_wait(vm.q, "query-name", NULL, 30, NULL, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.text, "'query-name' within 30 ms");
	CHECK_EQ(hf_process_kill(&vm.process, SIGKILL), 0);
	do
		r = step(vm.q, &err);
	while (r == 0);
	CHECK_EQ(r, -EPIPE);
	CHECK_EQ(a.replies, 20);
	CHECK_EQ(a.lost + a.replies - a.errors, 20);
	CHECK(a.lost > 0);
	e = end_qemu(&vm);
	CHECK(e.is_signal);
	CHECK_EQ(e.code, SIGKILL);
}
