/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "base/bytes.h"
#include "codec/netframe.h"
#include "vm/framequeue.h"

/* The smallest capacity that a parser allows is what makes the ring go round often. */
#define CAPACITY ((size_t)128 * 1024)

static void feed(struct hf_framequeue *q, const void *bytes, size_t n, uint64_t now_ns)
{
	size_t room;
	uint8_t *to = hf_framequeue_space(q, &room);

	CHECK(n <= room);
	memcpy(to, bytes, n);
	CHECK_EQ(hf_framequeue_commit(q, n, now_ns, NULL), 0);
}

/* One frame whose every byte is @mark. */
static void feed_frame(struct hf_framequeue *q, uint8_t mark, size_t len, uint64_t now_ns)
{
	static uint8_t buf[HF_NETFRAME_BUFFER_MIN];

	hf_be32_put(buf, (uint32_t)len);
	memset(buf + 4, mark, len);
	feed(q, buf, len + 4, now_ns);
}

static int next_mark(struct hf_framequeue *q)
{
	const uint8_t *frame;
	size_t len;
	int mark;

	if (!hf_framequeue_peek(q, &frame, &len))
		return -1;
	mark = frame[0];
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(frame[i], mark);
	hf_framequeue_pop(q);
	return mark;
}

TEST(nothing_leaves_before_its_epoch)
{
	struct hf_framequeue q;
	uint64_t frames;
	size_t len;

	CHECK_EQ(hf_framequeue_init(&q, CAPACITY), 0);
	feed_frame(&q, 1, 60, 100);
	feed_frame(&q, 2, 60, 200);
	CHECK(hf_framequeue_has_open(&q));
	CHECK_EQ(hf_framequeue_mark(&q, 7), 0);
	CHECK(!hf_framequeue_has_open(&q));
	CHECK_EQ(hf_framequeue_mark(&q, 8), 0); /* an epoch without frames */
	feed_frame(&q, 3, 60, 300);
	CHECK_EQ(hf_framequeue_mark(&q, 9), 0);
	feed_frame(&q, 4, 60, 400);
	CHECK_EQ(hf_framequeue_held_frames(&q), 4);
	CHECK_EQ(hf_framequeue_held_bytes(&q), 240);
	CHECK_EQ(next_mark(&q), -1);
	hf_framequeue_release(&q, 6, 500);
	CHECK_EQ(next_mark(&q), -1);
	CHECK(hf_framequeue_epoch(&q, 7, &len, &frames)[4] == 1);
	CHECK_EQ(len, 128);
	CHECK_EQ(frames, 2);
	(void)hf_framequeue_epoch(&q, 8, &len, &frames);
	CHECK_EQ(len, 0);
	CHECK(hf_framequeue_epoch(&q, 9, &len, &frames)[4] == 3);
	CHECK_EQ(len, 64);
	hf_framequeue_release(&q, 8, 1100);
	CHECK_EQ(q.longest_hold_ns, 1000);
	CHECK_EQ(next_mark(&q), 1);
	CHECK_EQ(next_mark(&q), 2);
	CHECK_EQ(next_mark(&q), -1);
	CHECK_EQ(hf_framequeue_held_frames(&q), 2);
	hf_framequeue_release(&q, 100, 1200);
	CHECK_EQ(next_mark(&q), 3);
	CHECK_EQ(next_mark(&q), -1);
	hf_framequeue_release_all(&q, 1300);
	CHECK_EQ(next_mark(&q), 4);
	CHECK_EQ(hf_framequeue_used_bytes(&q), 0);
	hf_framequeue_fini(&q);
	hf_framequeue_fini(&q);
}

TEST(a_partial_frame_outlives_a_discard)
{
	static const uint8_t start[] = { 0, 0, 0, 6, 9, 9 }, end[] = { 9, 9, 9, 9 };
	struct hf_framequeue q;

	CHECK_EQ(hf_framequeue_init(&q, CAPACITY), 0);
	feed_frame(&q, 1, 60, 1);
	CHECK_EQ(hf_framequeue_mark(&q, 1), 0);
	hf_framequeue_release(&q, 1, 2);
	feed_frame(&q, 2, 60, 3);
	CHECK_EQ(hf_framequeue_mark(&q, 2), 0);
	feed_frame(&q, 3, 60, 4);
	feed(&q, start, sizeof(start), 5);
	CHECK_EQ(hf_framequeue_discard(&q), 2);
	feed(&q, end, sizeof(end), 6);
	CHECK_EQ(next_mark(&q), 1); /* released before */
	CHECK_EQ(next_mark(&q), -1);
	CHECK_EQ(hf_framequeue_mark(&q, 3), 0);
	hf_framequeue_release(&q, 3, 7);
	CHECK_EQ(next_mark(&q), 9);
	CHECK_EQ(hf_framequeue_used_bytes(&q), 0);
	hf_framequeue_fini(&q);
}

TEST(an_inserted_frame_goes_between)
{
	static const uint8_t partial[] = { 0, 0, 0, 2, 5 }, rest[] = { 5 };
	uint8_t frame[70];
	struct hf_framequeue q;

	CHECK_EQ(hf_framequeue_init(&q, CAPACITY), 0);
	memset(frame, 9, sizeof(frame));
	/* All over the ring's end. */
	for (int i = 0; i < 4000; i++) {
		uint64_t epoch = 2 * (uint64_t)i;

		feed_frame(&q, 1, 60, 1);
		CHECK_EQ(hf_framequeue_mark(&q, epoch + 1), 0);
		hf_framequeue_release(&q, epoch + 1, 1);
		feed_frame(&q, 2, 60, 1);
		CHECK_EQ(hf_framequeue_mark(&q, epoch + 2), 0);
		feed(&q, partial, sizeof(partial), 1);
		CHECK_EQ(hf_framequeue_insert(&q, frame, sizeof(frame)), 0);
		CHECK_EQ(next_mark(&q), 1);
		CHECK_EQ(next_mark(&q), 9);
		CHECK_EQ(next_mark(&q), -1);
		hf_framequeue_release(&q, epoch + 2, 1);
		CHECK_EQ(next_mark(&q), 2);
		feed(&q, rest, sizeof(rest), 1);
		CHECK_EQ(next_mark(&q), -1);
		hf_framequeue_release_all(&q, 1);
		feed_frame(&q, 3, 60, 1);
		CHECK_EQ(next_mark(&q), 5);
		hf_framequeue_release_all(&q, 1);
		CHECK_EQ(next_mark(&q), 3);
	}
	feed_frame(&q, 1, HF_NETFRAME_MAX, 1);
	while (hf_framequeue_insert(&q, frame, sizeof(frame)) == 0)
		continue;
	CHECK_EQ(hf_framequeue_insert(&q, frame, sizeof(frame)), -ENOBUFS);
	CHECK(q.ring.size_bytes - hf_framequeue_used_bytes(&q) < sizeof(frame) + 4);
	hf_framequeue_fini(&q);
}

TEST(too_many_epochs_are_joined_with_the_next)
{
	struct hf_framequeue q;

	CHECK_EQ(hf_framequeue_init(&q, CAPACITY), 0);
	for (unsigned int i = 0; i < HF_FRAMEQUEUE_EPOCHS_MAX; i++) {
		feed_frame(&q, (uint8_t)i, 20, 1);
		CHECK_EQ(hf_framequeue_mark(&q, i + 1), 0);
	}
	feed_frame(&q, 200, 20, 1);
	CHECK_EQ(hf_framequeue_mark(&q, 100), -ENOBUFS);
	hf_framequeue_release(&q, 100, 1);
	for (int i = 0; i < HF_FRAMEQUEUE_EPOCHS_MAX; i++)
		CHECK_EQ(next_mark(&q), i);
	CHECK_EQ(next_mark(&q), -1);
	CHECK_EQ(hf_framequeue_mark(&q, 101), 0);
	hf_framequeue_release(&q, 101, 1);
	CHECK_EQ(next_mark(&q), 200);
	hf_framequeue_fini(&q);
}

TEST(a_stream_out_of_step)
{
	static const uint8_t bad[] = { 0, 1, 0x10, 1, 1, 1, 1 };
	struct hf_framequeue q;
	struct hf_err err = { "" };
	size_t room;
	uint8_t *to;

	CHECK_EQ(hf_framequeue_init(&q, CAPACITY), 0);
	feed_frame(&q, 1, 60, 1);
	to = hf_framequeue_space(&q, &room);
	memcpy(to, bad, sizeof(bad));
	CHECK_EQ(hf_framequeue_commit(&q, sizeof(bad), 1, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "69633");
	hf_framequeue_release_all(&q, 1);
	CHECK_EQ(next_mark(&q), 1);
	CHECK_EQ(next_mark(&q), -1);
	hf_framequeue_fini(&q);
}
