/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server and the asynchronous client against each other, and against raw bytes. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "codec/json.h"
#include "service/eventfeed.h"
#include "service/varlink-client.h"
#include "service/varlink-server.h"
#include "sys/fd.h"

#define PATIENCE_NS 60000000000ull

struct world {
	struct hf_loop loop;
	struct hf_journal journal;
	char folder[64];
	char path[96];
	int listen_fd;
	struct hf_varlink_server *server;
	struct hf_eventfeed *feed;
	struct hf_varlink_request *open; /* of Later */
	unsigned int n_closed, n_gone, n_counted;
	char closed_data[16];
	/* the client's side */
	struct hf_varlink_client *client;
	char said[4096]; /* each reply, ';' behind it */
	unsigned int n_said;
	int ended;
	bool is_told_to_close;
};

static void do_echo(void *ctx __attribute__((unused)), struct hf_varlink_request *rq,
		    struct json_object *parameters)
{
	hf_varlink_done(rq, json_object_get(parameters));
}

static void on_gone(void *data)
{
	struct world *w = data;

	w->n_gone++;
	w->open = NULL;
}

static void do_later(void *ctx, struct hf_varlink_request *rq,
		     struct json_object *parameters __attribute__((unused)))
{
	struct world *w = ctx;

	w->open = rq;
	hf_varlink_request_watch(rq, on_gone, w);
}

static void do_cancel(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *parameters __attribute__((unused)))
{
	struct world *w = ctx;

	if (w->open) {
		hf_varlink_refuse(w->open, "t.x.Cancelled", "as asked");
		w->open = NULL;
		hf_varlink_done(rq, NULL);
	} else {
		hf_varlink_refuse(rq, "t.x.NoneOpen", "nothing is open");
	}
}

static void do_count(void *ctx, struct hf_varlink_request *rq,
		     struct json_object *parameters __attribute__((unused)))
{
	struct world *w = ctx;

	w->n_counted++;
	hf_varlink_done(rq, NULL);
}

static void do_remember(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct world *w = ctx;
	struct hf_err err;
	const char *what;

	if (hf_json_str(parameters, "what", &what, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	(void)snprintf(w->closed_data, sizeof(w->closed_data), "%s", what);
	hf_varlink_conn_set_data(hf_varlink_request_conn(rq), w->closed_data);
	hf_varlink_done(rq, NULL);
}

static void do_flood(void *ctx __attribute__((unused)), struct hf_varlink_request *rq,
		     struct json_object *parameters __attribute__((unused)))
{
	static char text[65536];
	struct json_object *o;

	memset(text, 'x', sizeof(text) - 1);
	for (int i = 0; i < 64; i++) {
		o = json_object_new_object();
		json_object_object_add(o, "text", json_object_new_string(text));
		hf_varlink_continue(rq, o);
	}
	hf_varlink_done(rq, NULL);
}

static void do_events(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct world *w = ctx;

	hf_eventfeed_follow(w->feed, rq, parameters);
}

static void on_closed(void *ctx, struct hf_varlink_conn *conn)
{
	struct world *w = ctx;

	w->n_closed++;
	if (hf_varlink_conn_data(conn))
		w->closed_data[0] = '!';
}

static const struct hf_varlink_entry methods[] = {
	{ .name = "t.x.Echo", .call = do_echo },
	{ .name = "t.x.Later", .call = do_later },
	{ .name = "t.x.Count", .call = do_count },
	{ .name = "t.x.Cancel", .call = do_cancel },
	{ .name = "t.x.Remember", .call = do_remember },
	{ .name = "t.x.Flood", .call = do_flood, .needs_more = true },
	{ .name = "t.x.Events", .call = do_events, .needs_more = true },
};

static const struct hf_varlink_service service = {
	.methods = methods,
	.n_methods = sizeof(methods) / sizeof(methods[0]),
	.clients_max = 4,
	.closed = on_closed,
};

static void start(struct world *w)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	memset(w, 0, sizeof(*w));
	(void)snprintf(w->folder, sizeof(w->folder), "/tmp/test-varlink-XXXXXX");
	CHECK(mkdtemp(w->folder));
	(void)snprintf(w->path, sizeof(w->path), "%s/control", w->folder);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", w->path);
	w->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CHECK_EQ(bind(w->listen_fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	CHECK_EQ(listen(w->listen_fd, 16), 0);
	CHECK_EQ(hf_loop_init(&w->loop), 0);
	hf_journal_init(&w->journal, "test", "host", "h1", HF_LOG_ERROR);
	CHECK_EQ(hf_eventfeed_new(&w->journal, &w->feed), 0);
	CHECK_EQ(
		hf_varlink_server_new(&w->loop, w->listen_fd, &w->journal, &service, w, &w->server),
		0);
}

static void stop(struct world *w)
{
	hf_varlink_client_close(w->client);
	hf_varlink_server_free(w->server);
	hf_eventfeed_free(w->feed);
	hf_journal_fini(&w->journal);
	hf_loop_fini(&w->loop);
	(void)close(w->listen_fd);
	(void)unlink(w->path);
	(void)rmdir(w->folder);
}

/* One round of the loop, as hf_loop_run() would do it; false: the patience is over. */
static bool turn(struct world *w, uint64_t begun_ns)
{
	for (unsigned int i = 0; i < w->loop.n_watches;
	     i++) { /* the loop does it after a dispatch */
		struct hf_watch *watch = w->loop.watches[i];
		uint32_t mask = watch->wanted(watch->ctx);

		if (mask != watch->mask) {
			(void)sd_event_source_set_io_events(watch->source, mask);
			(void)sd_event_source_set_enabled(watch->source,
							  mask ? SD_EVENT_ON : SD_EVENT_OFF);
			watch->mask = mask;
		}
	}
	(void)sd_event_run(w->loop.event, 100000);
	return hf_now_ns() - begun_ns < PATIENCE_NS;
}

#define WAIT_FOR(w, cond)                                                                          \
	do {                                                                                       \
		uint64_t begun_ = hf_now_ns();                                                     \
		while (!(cond))                                                                    \
			CHECK(turn(w, begun_));                                                    \
	} while (0)

static void on_answer(void *ctx, const struct hf_varlink_reply *reply)
{
	struct world *w = ctx;
	size_t n = strlen(w->said);

	(void)snprintf(w->said + n, sizeof(w->said) - n, "%s%.60s%s;",
		       reply->error ? reply->error : "",
		       reply->parameters ? json_object_to_json_string_ext(reply->parameters,
									  JSON_C_TO_STRING_PLAIN)
					 : "",
		       reply->is_continues ? "..." : "");
	w->n_said++;
	if (w->is_told_to_close) {
		hf_varlink_client_close(w->client);
		w->client = NULL;
	}
}

static void on_ended(void *ctx, int error, const char *why)
{
	struct world *w = ctx;

	CHECK(why[0]);
	w->ended = error;
}

static void connect_client(struct world *w)
{
	struct hf_err err;

	CHECK_EQ(hf_varlink_client_open(&w->loop, w->path, on_ended, w, &w->client, &err), 0);
}

static int call(struct world *w, const char *method, const char *json, bool is_more)
{
	struct json_object *parameters = NULL;
	struct hf_err err;

	if (json)
		CHECK_EQ(hf_json_parse(json, strlen(json), &parameters, &err), 0);
	return hf_varlink_client_call(w->client, method, parameters, is_more, on_answer, w);
}

TEST(calls_and_errors)
{
	struct world w;

	start(&w);
	connect_client(&w);
	CHECK_EQ(call(&w, "t.x.Echo", "{\"a\":1}", false), 0);
	CHECK_EQ(call(&w, "t.x.Nothing", NULL, false), 0);
	CHECK_EQ(call(&w, "t.x.Events", NULL, false), 0);
	CHECK_EQ(call(&w, "t.x.Remember", "{}", false), 0);
	WAIT_FOR(&w, w.n_said == 4);
	CHECK_STR(w.said, "{\"a\":1};"
			  "org.varlink.service.MethodNotFound{\"method\":\"t.x.Nothing\"};"
			  "org.varlink.service.ExpectedMore;"
			  "org.varlink.service.InvalidParameter"
			  "{\"parameter\":\"\\\"what\\\" is missing\"};");
	stop(&w);
}

/* However many of them come at once, the others have their turn; and all are heard, also if their client
 * has gone. */
TEST(many_calls_at_once_block_nobody)
{
	static const char text[] = "{\"method\":\"t.x.Count\",\"oneway\":true}";
	static char all[1000 * sizeof(text)];
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	unsigned int before, most = 0;
	struct world w;
	int fd;

	for (size_t i = 0; i < 1000; i++)
		memcpy(all + i * sizeof(text), text, sizeof(text));
	start(&w);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", w.path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	CHECK_EQ(write(fd, all, sizeof(all)), (ssize_t)sizeof(all));
	CHECK_EQ(close(fd), 0);
	for (uint64_t begun_ns = hf_now_ns(); !w.n_closed;) {
		before = w.n_counted;
		CHECK(turn(&w, begun_ns));
		most = w.n_counted - before > most ? w.n_counted - before : most;
	}
	CHECK_EQ(w.n_counted, 1000);
	CHECK(most <= 32);
	stop(&w);
}

/* A later call is handled at once, and answered in its turn. */
TEST(a_later_call_cancels_an_open_one)
{
	struct world w;

	start(&w);
	connect_client(&w);
	CHECK_EQ(call(&w, "t.x.Later", NULL, false), 0);
	CHECK_EQ(call(&w, "t.x.Echo", "{\"n\":1}", false), 0);
	WAIT_FOR(&w, w.open);
	CHECK_EQ(w.n_said, 0);
	CHECK_EQ(call(&w, "t.x.Cancel", NULL, false), 0);
	CHECK_EQ(call(&w, "t.x.Echo", "{\"n\":2}", false), 0);
	WAIT_FOR(&w, w.n_said == 4);
	CHECK_STR(w.said, "t.x.Cancelled{\"reason\":\"as asked\"};{\"n\":1};;{\"n\":2};");
	stop(&w);
	CHECK_EQ(w.n_gone, 0);
}

TEST(the_end_of_a_connection_is_told)
{
	struct world w;

	start(&w);
	connect_client(&w);
	CHECK_EQ(call(&w, "t.x.Remember", "{\"what\":\"it\"}", false), 0);
	CHECK_EQ(call(&w, "t.x.Later", NULL, false), 0);
	CHECK_EQ(call(&w, "t.x.Echo", "{}", false), 0);
	WAIT_FOR(&w, w.open && w.n_said == 1);
	hf_varlink_client_close(w.client);
	w.client = NULL;
	WAIT_FOR(&w, w.n_closed);
	CHECK_EQ(w.n_gone, 1);
	CHECK(!w.open);
	CHECK_STR(w.closed_data, "!t");
	stop(&w);
}

TEST(a_client_may_close_inside_of_an_answer)
{
	struct world w;

	start(&w);
	connect_client(&w);
	w.is_told_to_close = true;
	CHECK_EQ(call(&w, "t.x.Echo", "{}", false), 0);
	CHECK_EQ(call(&w, "t.x.Echo", "{}", false), 0);
	WAIT_FOR(&w, w.n_closed);
	CHECK_EQ(w.n_said, 1);
	CHECK_EQ(w.ended, 0);
	stop(&w);
}

TEST(the_end_of_the_service_is_told)
{
	struct world w;

	start(&w);
	connect_client(&w);
	CHECK_EQ(call(&w, "t.x.Later", NULL, false), 0);
	WAIT_FOR(&w, w.open);
	hf_varlink_server_free(w.server);
	w.server = NULL;
	WAIT_FOR(&w, w.ended);
	CHECK_EQ(w.ended, -ECONNRESET);
	CHECK_EQ(w.n_said, 0);
	CHECK_EQ(call(&w, "t.x.Echo", NULL, false), -ENOTCONN);
	stop(&w);
}

TEST(nobody_there)
{
	struct world w;
	struct hf_err err;
	char path[200];

	start(&w);
	CHECK_EQ(hf_varlink_client_open(&w.loop, "/tmp/no-such-socket", on_ended, &w, &w.client,
					&err),
		 -ENOENT);
	CHECK_CONTAINS(err.text, "/tmp/no-such-socket");
	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	CHECK_EQ(hf_varlink_client_open(&w.loop, path, on_ended, &w, &w.client, &err),
		 -ENAMETOOLONG);
	stop(&w);
}

TEST(events_are_followed)
{
	struct world w;

	start(&w);
	hf_event(&w.journal, "one", NULL, "%s", "first");
	connect_client(&w);
	CHECK_EQ(call(&w, "t.x.Events", NULL, true), 0);
	WAIT_FOR(&w, w.n_said == 1);
	hf_event(&w.journal, "two", NULL, "%s", "second");
	WAIT_FOR(&w, w.n_said == 2);
	CHECK_CONTAINS(w.said, "...;{\"event\":{\"seq\":2");
	stop(&w);
}

/* Somebody who writes bytes himself. */
static int raw(struct world *w, const char *text, size_t n)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", w->path);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	if (n)
		CHECK_EQ(write(fd, text, n), n);
	return fd;
}

TEST(no_varlink_is_closed)
{
	struct world w;
	int fd;

	start(&w);
	fd = raw(&w, "hello\0", 6);
	WAIT_FOR(&w, w.n_closed == 1);
	(void)close(fd);
	stop(&w);
}

TEST(a_oneway_call_has_no_reply)
{
	static const char text[] = "{\"method\":\"t.x.Remember\",\"oneway\":true,"
				   "\"parameters\":{\"what\":\"w\"}}\0"
				   "{\"method\":\"t.x.Echo\"}";
	struct world w;
	char got[64];
	int fd;

	start(&w);
	fd = raw(&w, text, sizeof(text));
	WAIT_FOR(&w, recv(fd, got, sizeof(got), MSG_DONTWAIT | MSG_PEEK) > 0);
	CHECK_EQ(recv(fd, got, sizeof(got), 0), 3);
	CHECK_STR(got, "{}");
	CHECK_STR(w.closed_data, "w");
	(void)close(fd);
	stop(&w);
}

TEST(too_many_open_calls_end_a_connection)
{
	static const char text[] = "{\"method\":\"t.x.Later\"}";
	struct world w;
	int fd;

	start(&w);
	fd = raw(&w, "", 0);
	for (int i = 0; i < HF_VARLINK_SERVER_REQUESTS_MAX; i++)
		CHECK_EQ(write(fd, text, sizeof(text)), sizeof(text));
	WAIT_FOR(&w, w.open);
	for (int i = 0; i < 10; i++)
		(void)turn(&w, hf_now_ns());
	CHECK_EQ(w.n_closed, 0);
	CHECK_EQ(write(fd, text, sizeof(text)), sizeof(text));
	WAIT_FOR(&w, w.n_closed == 1);
	CHECK_EQ(w.n_gone, HF_VARLINK_SERVER_REQUESTS_MAX);
	(void)close(fd);
	stop(&w);
}

TEST(who_does_not_read_is_let_go)
{
	static const char text[] = "{\"method\":\"t.x.Flood\",\"more\":true}";
	struct world w;
	int fd;

	start(&w);
	fd = raw(&w, text, sizeof(text));
	WAIT_FOR(&w, w.n_closed == 1);
	(void)close(fd);
	stop(&w);
}

/* The queue counts for all requests together, also what is held back behind an open one. */
TEST(what_is_held_back_counts)
{
	static const char text[] =
		"{\"method\":\"t.x.Later\"}\0{\"method\":\"t.x.Flood\",\"more\":true}";
	struct world w;
	int fd;

	start(&w);
	fd = raw(&w, text, sizeof(text));
	WAIT_FOR(&w, w.n_closed == 1);
	CHECK_EQ(w.n_gone, 1);
	(void)close(fd);
	stop(&w);
}

TEST(clients_have_a_limit)
{
	struct world w;
	int fds[5];
	char byte;

	start(&w);
	for (int i = 0; i < 5; i++)
		fds[i] = raw(&w, "", 0);
	WAIT_FOR(&w, recv(fds[4], &byte, 1, MSG_DONTWAIT) == 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(recv(fds[i], &byte, 1, MSG_DONTWAIT), -1);
	for (int i = 0; i < 5; i++)
		(void)close(fds[i]);
	WAIT_FOR(&w, w.n_closed == 4);
	stop(&w);
}

TEST(a_client_has_limits)
{
	struct world w;
	int n = 0;

	start(&w);
	connect_client(&w);
	while (call(&w, "t.x.Later", NULL, false) == 0)
		n++;
	CHECK_EQ(n, HF_VARLINK_CLIENT_CALLS_MAX);
	CHECK_EQ(call(&w, "t.x.Later", NULL, false), -EBUSY);
	stop(&w);
}
