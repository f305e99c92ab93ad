/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "codec/netframe.h"
#include "sys/fd.h"
#include "vm/nettap.h"

/* A tap between two sockets that the test holds the other ends of. A SOCK_DGRAM pair stands for the
 * TAP: like it, one frame for each read and write, and EAGAIN when the other end does not read. */
struct rig {
	struct hf_nettap *t;
	int net, guest;
	unsigned int first_held, over_limit;
	uint64_t sent, arrived; /* frames: by the guest as wholes; at the network, in order */
	uint64_t in_sent, in_arrived; /* the other direction */
	uint8_t out[HF_NETFRAME_BUFFER_MIN]; /* of the guest's, not yet in the socket */
	size_t out_start, out_end;
	uint8_t in[2 * HF_NETFRAME_BUFFER_MIN];
	struct hf_netframe_parser parser;
	bool is_cut;
};

static void on_first_held(void *ctx)
{
	((struct rig *)ctx)->first_held++;
}

static void on_over_limit(void *ctx)
{
	((struct rig *)ctx)->over_limit++;
}

static bool may_send(void *ctx)
{
	return !((struct rig *)ctx)->is_cut;
}

static void open_rig(struct rig *g, enum hf_nettap_mode mode, uint64_t limit_bytes)
{
	struct hf_nettap_config c = { .mode = mode,
				      .limit_bytes = limit_bytes,
				      .on_first_held = on_first_held,
				      .on_over_limit = on_over_limit,
				      .may_send = may_send,
				      .ctx = g };
	int net[2], guest[2], small = 16384;

	*g = (struct rig){ .net = -1 };
	CHECK_EQ(hf_fd_pair(SOCK_DGRAM, net), 0);
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, guest), 0);
	for (int i = 0; i < 2; i++) {
		int big = 200000; /* a datagram has to fit whole */

		CHECK_EQ(setsockopt(net[i], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big)), 0);
		CHECK_EQ(setsockopt(guest[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	}
	c.tap_fd = net[0];
	c.qemu_fd = guest[0];
	CHECK_EQ(hf_nettap_new(&c, &g->t, NULL), 0);
	g->net = net[1];
	g->guest = guest[1];
	hf_netframe_parser_init(&g->parser, g->in, sizeof(g->in));
}

static void close_rig(struct rig *g)
{
	hf_nettap_free(g->t);
	hf_fd_close(&g->net);
	hf_fd_close(&g->guest);
}

/* One turn of an event loop; false when neither side had anything to do. */
static bool turn(struct rig *g)
{
	uint32_t te = hf_nettap_tap_events(g->t), qe = hf_nettap_qemu_events(g->t);
	struct pollfd p[2] = {
		{ .fd = te ? hf_nettap_tap_fd(g->t) : -1, .events = (short)te },
		{ .fd = qe ? hf_nettap_qemu_fd(g->t) : -1, .events = (short)qe },
	};
	struct hf_err err = { "" };

	CHECK_EQ(POLLIN, EPOLLIN);
	CHECK_EQ(POLLOUT, EPOLLOUT);
	CHECK(poll(p, 2, 0) >= 0);
	if (p[0].revents)
		CHECK_EQ(hf_nettap_dispatch_tap(g->t, &err), 0);
	if (p[1].revents)
		CHECK_EQ(hf_nettap_dispatch_qemu(g->t, &err), 0);
	CHECK_STR(err.text, "");
	return p[0].revents || p[1].revents;
}

static void settle(struct rig *g)
{
	for (int i = 0; turn(g); i++)
		CHECK(i < 100000); /* a busy loop else */
}

/* Frame number n: its number, then bytes that follow from it. */
static void fill(uint8_t *frame, uint64_t n, size_t len)
{
	hf_le64_put(frame, n);
	for (size_t i = 8; i < len; i++)
		frame[i] = (uint8_t)(n + i);
}

static void check_frame(const uint8_t *frame, uint64_t n, size_t len)
{
	CHECK(len >= 8);
	CHECK_EQ(hf_le64_get(frame), n);
	for (size_t i = 8; i < len; i++)
		CHECK_EQ(frame[i], (uint8_t)(n + i));
}

/* The guest puts up to @max_bytes more of its frame into the socket; false: the socket is full. */
static bool guest_push(struct rig *g, size_t max_bytes)
{
	size_t len = g->out_end - g->out_start, n;
	int r;

	if (len == 0)
		return true;
	r = hf_fd_send(g->guest, g->out + g->out_start, len < max_bytes ? len : max_bytes, &n);
	if (r != 0) {
		CHECK_EQ(r, HF_FD_AGAIN);
		return false;
	}
	g->out_start += n;
	g->sent += g->out_start == g->out_end;
	return true;
}

static bool is_guest_idle(const struct rig *g)
{
	return g->out_start == g->out_end;
}

static void guest_begin(struct rig *g, size_t len)
{
	CHECK(is_guest_idle(g));
	hf_netframe_encode_header(g->out, len);
	fill(g->out + 4, g->sent, len);
	g->out_start = 0;
	g->out_end = len + 4;
}

static void guest_send(struct rig *g, size_t len)
{
	guest_begin(g, len);
	while (!is_guest_idle(g))
		CHECK(guest_push(g, SIZE_MAX));
}

/* The network takes one frame, which must be the next one; false when there is none. */
static bool net_take(struct rig *g)
{
	static uint8_t frame[HF_NETFRAME_MAX];
	size_t n;
	int r = hf_fd_read(g->net, frame, sizeof(frame), &n);

	if (r != 0)
		return false;
	check_frame(frame, g->arrived, n);
	g->arrived++;
	return true;
}

static void net_take_all(struct rig *g)
{
	do
		settle(g);
	while (net_take(g));
}

static bool net_send(struct rig *g, size_t len)
{
	static uint8_t frame[HF_NETFRAME_MAX];
	size_t n;

	fill(frame, g->in_sent, len);
	if (hf_fd_send(g->net, frame, len, &n) != 0)
		return false;
	g->in_sent++;
	return true;
}

/* The guest reads at most @max_bytes; false when there was nothing. */
static bool guest_take(struct rig *g, size_t max_bytes)
{
	const uint8_t *frame;
	size_t room, len, n;
	uint8_t *to;

	hf_netframe_parser_space(&g->parser, &to, &room);
	if (hf_fd_read(g->guest, to, room < max_bytes ? room : max_bytes, &n) != 0)
		return false;
	hf_netframe_parser_commit(&g->parser, n);
	while (hf_netframe_parser_next(&g->parser, &frame, &len, NULL) > 0)
		check_frame(frame, g->in_arrived++, len);
	return true;
}

TEST(pass_mode_goes_both_ways)
{
	struct hf_nettap_stats s;
	struct rig g;

	open_rig(&g, HF_NETTAP_PASS, 0);
	for (int i = 0; i < 1000; i++) {
		guest_send(&g, 60 + (size_t)i);
		CHECK(net_send(&g, 1060 - (size_t)i));
		settle(&g);
		CHECK(net_take(&g));
		CHECK(guest_take(&g, SIZE_MAX));
	}
	CHECK_EQ(g.arrived, 1000);
	CHECK_EQ(g.in_arrived, 1000);
	CHECK_EQ(g.first_held, 0);
	hf_nettap_get_stats(g.t, &s);
	CHECK_EQ(s.out_frames, 1000);
	CHECK_EQ(s.in_frames, 1000);
	CHECK_EQ(s.held_frames, 0);
	close_rig(&g);
}

TEST(frames_wait_for_their_epoch)
{
	struct hf_nettap_stats s;
	const uint8_t *bytes, *frame;
	size_t len, n, pos = 0;
	uint64_t frames;
	struct rig g;

	open_rig(&g, HF_NETTAP_HOLD, 0);
	guest_send(&g, 60);
	settle(&g);
	CHECK_EQ(g.first_held, 1);
	guest_send(&g, 61);
	settle(&g);
	CHECK_EQ(g.first_held, 1); /* once for an epoch */
	guest_send(&g, 62);
	CHECK_EQ(hf_nettap_drain(g.t, NULL), 0);
	CHECK_EQ(hf_nettap_mark(g.t, 1), 0);
	guest_send(&g, 63);
	settle(&g);
	CHECK_EQ(g.first_held, 2);
	CHECK(!net_take(&g));
	hf_nettap_get_stats(g.t, &s);
	CHECK_EQ(s.held_frames, 4);
	CHECK_EQ(s.held_bytes, 60 + 61 + 62 + 63);

	bytes = hf_nettap_epoch(g.t, 1, &len, &frames);
	CHECK_EQ(frames, 3);
	for (uint64_t i = 0; i < 3; i++) {
		CHECK_EQ(hf_nettap_next_frame(bytes, len, &pos, &frame, &n, NULL), 1);
		CHECK_EQ(n, 60 + i);
		check_frame(frame, i, n);
	}
	CHECK_EQ(hf_nettap_next_frame(bytes, len, &pos, &frame, &n, NULL), 0);

	CHECK_EQ(hf_nettap_release(g.t, 1, NULL), 0);
	net_take_all(&g);
	CHECK_EQ(g.arrived, 3);
	CHECK_EQ(hf_nettap_mark(g.t, 2), 0);
	CHECK_EQ(hf_nettap_set_mode(g.t, HF_NETTAP_PASS, NULL), 0);
	guest_send(&g, 64);
	net_take_all(&g);
	CHECK_EQ(g.arrived, 5);
	hf_nettap_get_stats(g.t, &s);
	CHECK(s.longest_hold_ns > 0);
	CHECK_EQ(s.held_bytes, 0);
	close_rig(&g);
}

TEST(at_the_limit_the_guest_is_held_up_and_nothing_is_lost)
{
	const uint64_t limit = HF_NETTAP_LIMIT_MIN_BYTES;
	struct hf_nettap_stats s;
	struct rig g;

	open_rig(&g, HF_NETTAP_HOLD, limit);
	for (;;) {
		if (is_guest_idle(&g))
			guest_begin(&g, 1514);
		if (guest_push(&g, SIZE_MAX))
			continue;
		if (!turn(&g))
			break;
	}
	CHECK_EQ(hf_nettap_qemu_events(g.t) & EPOLLIN, 0);
	CHECK_EQ(g.over_limit, 1);
	CHECK_EQ(g.first_held, 1);
	hf_nettap_get_stats(g.t, &s);
	CHECK(s.held_bytes <= limit);
	CHECK(s.held_bytes > limit - 3000);
	CHECK_EQ(s.over_limit_count, 1);

	/* A drain takes what is in the socket all the same: it belongs to this epoch. */
	CHECK_EQ(hf_nettap_drain(g.t, NULL), 0);
	CHECK_EQ(hf_nettap_mark(g.t, 5), 0);
	hf_nettap_get_stats(g.t, &s);
	CHECK_EQ(s.held_frames, g.sent);
	CHECK(s.held_bytes > limit);
	CHECK_EQ(hf_nettap_release(g.t, 5, NULL), 0);
	net_take_all(&g);
	CHECK_EQ(g.arrived, g.sent);
	CHECK(hf_nettap_qemu_events(g.t) & EPOLLIN);

	/* The frame that was cut by the full socket comes whole, in its turn. */
	while (!is_guest_idle(&g))
		CHECK(guest_push(&g, SIZE_MAX));
	CHECK_EQ(hf_nettap_drain(g.t, NULL), 0);
	CHECK_EQ(hf_nettap_mark(g.t, 6), 0);
	CHECK_EQ(hf_nettap_release(g.t, 6, NULL), 0);
	net_take_all(&g);
	CHECK_EQ(g.arrived, g.sent);
	close_rig(&g);
}

TEST(the_limits_limits)
{
	struct hf_nettap_config c = { .tap_fd = -1, .qemu_fd = -1, .limit_bytes = 1 };
	struct hf_nettap *t = NULL;
	struct hf_err err;

	CHECK_EQ(hf_nettap_new(&c, &t, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "a queue of 1 bytes");
	c.limit_bytes = HF_NETTAP_LIMIT_MAX_BYTES + 1;
	CHECK_EQ(hf_nettap_new(&c, &t, &err), -EINVAL);
	CHECK(t == NULL);
	hf_nettap_free(NULL);
}

TEST(a_slow_guest_stops_the_tap_from_being_read)
{
	struct rig g;

	open_rig(&g, HF_NETTAP_PASS, 0);
	for (int i = 0; i < 100000; i++) {
		if (!net_send(&g, 1514)) {
			if (!turn(&g))
				break;
		}
	}
	CHECK(!net_send(&g, 1514));
	CHECK_EQ(hf_nettap_tap_events(g.t), 0);
	CHECK(hf_nettap_qemu_events(g.t) & EPOLLOUT);
	/* The other direction is not held up by it. */
	guest_send(&g, 60);
	settle(&g);
	CHECK(net_take(&g));
	while (g.in_arrived < g.in_sent) {
		settle(&g);
		CHECK(guest_take(&g, 7000));
	}
	close_rig(&g);
}

TEST(the_standby_throws_away_what_comes_in)
{
	struct hf_nettap_stats s;
	uint8_t frame[60];
	struct rig g;

	open_rig(&g, HF_NETTAP_STANDBY, 0);
	for (int i = 0; i < 50; i++) {
		CHECK(net_send(&g, 1000));
		settle(&g);
	}
	hf_nettap_get_stats(g.t, &s);
	CHECK_EQ(s.in_discarded_frames, 50);
	CHECK(!guest_take(&g, SIZE_MAX));
	guest_send(&g, 60);
	settle(&g);
	CHECK(!net_take(&g)); /* held */

	/* Failover: the last epoch's frames again, then what the guest itself sends. */
	g.sent = 2;
	for (uint64_t i = 0; i < 2; i++) {
		fill(frame, i, sizeof(frame));
		CHECK_EQ(hf_nettap_inject(g.t, frame, sizeof(frame), NULL), 0);
	}
	settle(&g);
	CHECK(net_take(&g));
	CHECK(net_take(&g));
	CHECK(!net_take(&g));
	g.arrived = 0; /* the held one is number 0 again */
	CHECK_EQ(hf_nettap_set_mode(g.t, HF_NETTAP_PASS, NULL), 0);
	CHECK(net_take(&g));
	g.in_arrived = g.in_sent;
	CHECK(net_send(&g, 70));
	settle(&g);
	CHECK(guest_take(&g, SIZE_MAX));
	CHECK_EQ(hf_nettap_inject(g.t, frame, 0, NULL), -EINVAL);
	CHECK_EQ(hf_nettap_inject(g.t, frame, HF_NETFRAME_MAX + 1, NULL), -EINVAL);
	close_rig(&g);
}

TEST(what_is_discarded_never_leaves)
{
	struct hf_nettap_stats s;
	struct rig g;

	open_rig(&g, HF_NETTAP_HOLD, 0);
	for (int i = 0; i < 10; i++)
		guest_send(&g, 100);
	settle(&g);
	CHECK_EQ(hf_nettap_mark(g.t, 1), 0);
	guest_send(&g, 100);
	settle(&g);
	hf_nettap_discard(g.t);
	CHECK_EQ(hf_nettap_release(g.t, 1, NULL), 0);
	CHECK_EQ(hf_nettap_set_mode(g.t, HF_NETTAP_PASS, NULL), 0);
	settle(&g);
	CHECK(!net_take(&g));
	hf_nettap_get_stats(g.t, &s);
	CHECK_EQ(s.discarded_frames, 11);
	g.arrived = 11;
	guest_send(&g, 100);
	settle(&g);
	CHECK(net_take(&g));
	close_rig(&g);
}

TEST(garbage_and_the_end_of_qemu)
{
	static const uint8_t bad[][8] = { { 0, 0, 0, 0, 1 },
					  { 0xff, 0xff, 0xff, 0xff },
					  { 0, 1, 0x10, 1 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hf_err err = { "" };
		struct rig g;
		size_t n;

		open_rig(&g, HF_NETTAP_HOLD, 0);
		guest_send(&g, 60);
		CHECK_EQ(hf_fd_send(g.guest, bad[i], 8, &n), 0);
		CHECK_EQ(hf_nettap_dispatch_qemu(g.t, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, "out of step");
		CHECK_EQ(hf_nettap_qemu_events(g.t), 0);
		CHECK_EQ(hf_nettap_dispatch_qemu(g.t, &err), 0);
		CHECK_EQ(hf_nettap_drain(g.t, &err), 0);
		close_rig(&g);
	}
}

TEST(committed_frames_leave_after_qemu_died)
{
	struct hf_err err = { "" };
	struct rig g;

	open_rig(&g, HF_NETTAP_HOLD, 0);
	guest_send(&g, 60);
	settle(&g);
	CHECK_EQ(hf_nettap_mark(g.t, 1), 0);
	guest_send(&g, 60);
	CHECK(net_send(&g, 60));
	hf_fd_close(&g.guest);
	CHECK_EQ(hf_nettap_dispatch_qemu(g.t, &err), HF_NETTAP_CLOSED);
	CHECK_CONTAINS(err.text, "QEMU closed");
	CHECK_EQ(hf_nettap_dispatch_qemu(g.t, &err), 0);
	CHECK_EQ(hf_nettap_release(g.t, 1, &err), 0);
	settle(&g); /* also reads what nobody will get any more */
	CHECK(net_take(&g));
	CHECK(!net_take(&g));
	close_rig(&g);
}

TEST(what_may_leave_has_not_left_yet)
{
	struct rig g;

	open_rig(&g, HF_NETTAP_HOLD, 0);
	for (int i = 0; i < 2000; i++) {
		guest_send(&g, 60);
		settle(&g);
	}
	CHECK_EQ(hf_nettap_mark(g.t, 1), 0);
	CHECK(hf_nettap_is_flushed(g.t)); /* what is held must stay */
	CHECK_EQ(hf_nettap_release(g.t, 1, NULL), 0);
	CHECK(!hf_nettap_is_flushed(g.t)); /* it writes no more than some of them at once */
	while (!hf_nettap_is_flushed(g.t)) {
		CHECK_EQ(hf_nettap_flush(g.t, NULL), 0);
		while (net_take(&g))
			;
	}
	CHECK_EQ(g.arrived, 2000);
	close_rig(&g);
}

/* Without the right to send, what may leave by its epoch waits as well; the tap does not spin. */
TEST(without_permission_nothing_leaves_in_any_mode)
{
	struct rig g;

	open_rig(&g, HF_NETTAP_PASS, 0);
	g.is_cut = true;
	guest_send(&g, 100);
	settle(&g);
	CHECK(!net_take(&g));
	CHECK_EQ(hf_nettap_set_mode(g.t, HF_NETTAP_HOLD, NULL), 0);
	guest_send(&g, 100);
	settle(&g);
	CHECK_EQ(hf_nettap_mark(g.t, 1), 0);
	CHECK_EQ(hf_nettap_release(g.t, 1, NULL), 0);
	CHECK_EQ(hf_nettap_flush(g.t, NULL), 0);
	CHECK(!net_take(&g));
	CHECK(net_send(&g, 60)); /* the other direction goes on */
	settle(&g);
	CHECK(guest_take(&g, SIZE_MAX));
	g.is_cut = false;
	net_take_all(&g);
	CHECK_EQ(g.arrived, 2);
	close_rig(&g);
}

TEST(a_damaged_list_of_frames)
{
	static const uint8_t list[] = { 0, 0, 0, 2, 7, 7, 0, 0, 0, 3, 7, 7 };
	const uint8_t *frame;
	size_t pos = 0, len;
	struct hf_err err;

	CHECK_EQ(hf_nettap_next_frame(list, sizeof(list), &pos, &frame, &len, &err), 1);
	CHECK_EQ(hf_nettap_next_frame(list, sizeof(list), &pos, &frame, &len, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "byte 6 of 12");
	CHECK_EQ(hf_nettap_next_frame(list, 8, &pos, &frame, &len, &err), -EBADMSG);
}

/* ---- random schedules against a model ---- */

static uint64_t random_state;

static unsigned int dice(unsigned int n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned int)((random_state >> 11) % n);
}

#define EPOCHS_MAX 8192

/* What the model knows: which frames may be at the network by now. */
struct model {
	uint64_t epoch, released; /* numbers of the last ones */
	uint64_t sent_at[EPOCHS_MAX]; /* frames sent before the mark of that epoch */
	uint64_t allowed; /* frames below this one may have arrived */
	enum hf_nettap_mode mode;
};

static size_t random_length(void)
{
	return dice(50) == 0 ? 8 + dice(HF_NETFRAME_MAX - 8) : 8 + dice(1600);
}

/* The boundary of an epoch: the guest stands still, all it has sent is read, then the mark. */
static void random_mark(struct rig *g, struct model *m)
{
	CHECK(m->epoch + 1 < EPOCHS_MAX);
	if (m->epoch - m->released >= 60)
		return;
	CHECK_EQ(hf_nettap_drain(g->t, NULL), 0);
	CHECK_EQ(hf_nettap_mark(g->t, ++m->epoch), 0);
	m->sent_at[m->epoch] = g->sent;
}

static void random_release(struct rig *g, struct model *m)
{
	if (m->released == m->epoch)
		return;
	m->released += 1 + dice((unsigned int)(m->epoch - m->released));
	if (m->sent_at[m->released] > m->allowed)
		m->allowed = m->sent_at[m->released];
	CHECK_EQ(hf_nettap_release(g->t, m->released, NULL), 0);
}

static void random_mode(struct rig *g, struct model *m)
{
	m->mode = m->mode == HF_NETTAP_PASS ? HF_NETTAP_HOLD : HF_NETTAP_PASS;
	m->allowed = g->sent; /* what was sent before may be there in both cases */
	CHECK_EQ(hf_nettap_set_mode(g->t, m->mode, NULL), 0);
}

static void random_step(struct rig *g, struct model *m)
{
	unsigned int d = dice(100);

	if (d < 35) {
		if (is_guest_idle(g))
			guest_begin(g, random_length());
		(void)guest_push(g, dice(3) ? SIZE_MAX : 1 + dice(2000));
	} else if (d < 55) {
		(void)turn(g);
	} else if (d < 70) {
		(void)net_take(g);
	} else if (d < 80) {
		(void)net_send(g, random_length());
	} else if (d < 88) {
		(void)guest_take(g, 1 + dice(20000));
	} else if (d < 93) {
		random_mark(g, m);
	} else if (d < 98) {
		random_release(g, m);
	} else if (dice(20) == 0) {
		random_mode(g, m);
	}
	CHECK(m->mode == HF_NETTAP_PASS || g->arrived <= m->allowed);
}

static void end_epoch(struct rig *g, struct model *m)
{
	random_mark(g, m);
	m->released = m->epoch;
	CHECK_EQ(hf_nettap_release(g->t, m->epoch, NULL), 0);
	net_take_all(g);
}

static void finish(struct rig *g, struct model *m)
{
	end_epoch(g, m);
	while (!is_guest_idle(g)) {
		if (!guest_push(g, SIZE_MAX))
			end_epoch(g, m); /* the limit may be reached: only an epoch makes room */
	}
	end_epoch(g, m);
	/* If the network was slow the ring was full, and the last frames fell to one epoch more. */
	end_epoch(g, m);
	CHECK_EQ(g->arrived, g->sent);
	do
		settle(g);
	while (guest_take(g, SIZE_MAX));
	CHECK_EQ(g->in_arrived, g->in_sent);
}

TEST(random_schedules_against_the_model)
{
	const char *seed = getenv("HF_TEST_SEED"), *rounds = getenv("HF_TEST_ROUNDS");
	unsigned long first = seed ? strtoul(seed, NULL, 10) : 1;
	unsigned long n = rounds ? strtoul(rounds, NULL, 10) : 30;
	static struct model m;
	static struct rig g;

	for (unsigned long i = first; i < first + n; i++) {
		random_state = i * UINT64_C(0x9e3779b97f4a7c15);
		m = (struct model){ .mode = HF_NETTAP_HOLD };
		open_rig(&g, HF_NETTAP_HOLD, HF_NETTAP_LIMIT_MIN_BYTES);
		for (int k = 0; k < 8000; k++)
			random_step(&g, &m);
		finish(&g, &m);
		CHECK(g.sent > 100);
		close_rig(&g);
	}
}
