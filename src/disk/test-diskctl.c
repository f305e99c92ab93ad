/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "base/bytes.h"
#include "disk/diskctl.h"

static const struct hf_id id_a = { .hi = 0x0123456789abcdef, .lo = 0xfedcba9876543210 };
static const struct hf_id id_b = { .hi = 1, .lo = UINT64_MAX };

static struct hf_diskctl_msg through(const struct hf_diskctl_msg *msg, size_t bytes)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	struct hf_diskctl_msg got;
	struct hf_err err = { "" };
	size_t len = hf_diskctl_encode(msg, buf);

	CHECK_EQ(len, bytes);
	if (hf_diskctl_decode(buf, len, &got, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK_EQ(got.type, msg->type);
	CHECK_EQ(got.number, msg->number);
	for (size_t cut = 0; cut < len; cut++) {
		CHECK_EQ(hf_diskctl_decode(buf, cut, &got, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, "it is too short for its type");
	}
	CHECK_EQ(hf_diskctl_decode(buf, len + 1, &got, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "it is too long for its type");
	CHECK_EQ(hf_diskctl_decode(buf, len, &got, &err), 0);
	return got;
}

static struct hf_diskctl_msg ready_msg(void)
{
	return (struct hf_diskctl_msg){
		.type = HF_DISKCTL_READY,
		.ready = { .condition = HF_DISK_HELD,
			   .session = id_a,
			   .map_session = id_b,
			   .is_map_trusted = true,
			   .recovered_epochs = 77,
			   .n_disks = 2,
			   .disk = { { 1 << 20, 512, true },
				     { HF_WIRE_DISK_BYTES_MAX, 1, false } } },
	};
}

TEST(orders)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_SET_STATE, .number = 7 };

	m.set_state.condition = HF_DISK_PARTIAL;
	m.set_state.session = id_a;
	m = through(&m, 32);
	CHECK_EQ(m.set_state.condition, HF_DISK_PARTIAL);
	CHECK(hf_id_is_equal(m.set_state.session, id_a));

	m = (struct hf_diskctl_msg){ .type = HF_DISKCTL_SYNC_START };
	m.sync_start.is_full = true;
	m.sync_start.session = id_b;
	m = through(&m, 32);
	CHECK(m.sync_start.is_full);
	CHECK(hf_id_is_equal(m.sync_start.session, id_b));

	m = (struct hf_diskctl_msg){ .type = HF_DISKCTL_SYNC_CONFIRMED, .mark = UINT64_MAX - 1 };
	CHECK_EQ(through(&m, 16).mark, UINT64_MAX - 1);
	for (int type = HF_DISKCTL_SYNC_STOP; type <= HF_DISKCTL_PING; type++) {
		m = (struct hf_diskctl_msg){ .type = (enum hf_diskctl_type)type };
		if (type == HF_DISKCTL_FLUSH_SYNC || type == HF_DISKCTL_PING)
			m.number = UINT32_MAX;
		if (type != HF_DISKCTL_SYNC_CONFIRMED)
			(void)through(&m, 8);
	}
}

TEST(answers)
{
	struct hf_diskctl_msg m = ready_msg();

	m = through(&m, 320);
	CHECK_EQ(m.ready.condition, HF_DISK_HELD);
	CHECK(hf_id_is_equal(m.ready.session, id_a));
	CHECK(hf_id_is_equal(m.ready.map_session, id_b));
	CHECK(m.ready.is_map_trusted);
	CHECK_EQ(m.ready.recovered_epochs, 77);
	CHECK_EQ(m.ready.n_disks, 2);
	CHECK_EQ(m.ready.disk[0].size_bytes, 1 << 20);
	CHECK_EQ(m.ready.disk[0].block_bytes, 512);
	CHECK(m.ready.disk[0].can_trim);
	CHECK_EQ(m.ready.disk[1].size_bytes, HF_WIRE_DISK_BYTES_MAX);
	CHECK(!m.ready.disk[1].can_trim);

	m = (struct hf_diskctl_msg){ .type = HF_DISKCTL_DONE, .number = 3 };
	m.done.error = -ENOSPC;
	memset(m.done.text, 'x', HF_DISKCTL_TEXT_MAX);
	m = through(&m, 224);
	CHECK_EQ(m.done.error, -ENOSPC);
	CHECK_EQ(strlen(m.done.text), HF_DISKCTL_TEXT_MAX);

	m = (struct hf_diskctl_msg){ .type = HF_DISKCTL_FAULT };
	m.fault.error = EIO;
	m.fault.disk = HF_WIRE_DISKS_MAX;
	m.fault.offset_bytes = 4096;
	(void)strcpy(m.fault.text, "the journal 'ö' fails");
	m = through(&m, 232);
	CHECK_EQ(m.fault.error, EIO);
	CHECK_EQ(m.fault.disk, HF_WIRE_DISKS_MAX);
	CHECK_EQ(m.fault.offset_bytes, 4096);
	CHECK_STR(m.fault.text, "the journal 'ö' fails");

	m = (struct hf_diskctl_msg){ .type = HF_DISKCTL_PONG, .number = 9 };
	(void)through(&m, 8);
}

TEST(text_is_made_fit_for_people)
{
	struct hf_diskctl_msg m = { .type = HF_DISKCTL_DONE };

	(void)strcpy(m.done.text, "a\nb\x1b[31m\xff");
	CHECK_STR(through(&m, 224).done.text, "a?b?[31m?");
}

struct bad {
	size_t at;
	uint32_t value;
	const char *what;
};

static void check_bad(const struct hf_diskctl_msg *msg, const struct bad *bad, size_t n)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];

	for (size_t i = 0; i < n; i++) {
		size_t len = hf_diskctl_encode(msg, buf);
		struct hf_diskctl_msg got = { .number = 4711 };
		struct hf_err err = { "" };

		hf_le32_put(buf + bad[i].at, bad[i].value);
		CHECK_EQ(hf_diskctl_decode(buf, len, &got, &err), -EBADMSG);
		CHECK_CONTAINS(err.text, bad[i].what);
		CHECK_EQ(got.number, 4711);
	}
}

TEST(bad_ready)
{
	static const struct bad bad[] = {
		{ 0, 0, "there is no such type" },
		{ 0, 7, "there is no such type" },
		{ 0, 31, "there is no such type" },
		{ 0, 37, "there is no such type" },
		{ 0, UINT32_MAX, "there is no such type" },
		{ 4, 1, "its type has no number" },
		{ 8, HF_DISK_CONDITION_COUNT, "no such condition" },
		{ 12, 0, "number of disks" },
		{ 12, HF_WIRE_DISKS_MAX + 1, "number of disks" },
		{ 12, 1, "the size of a disk makes no sense" },
		{ 12, 3, "the size of a disk makes no sense" },
		{ 56, 2, "neither yes nor no" },
		{ 60, 1, "reserved" },
		{ 64, 0, "the size of a disk makes no sense" },
		{ 68, 0x40000000, "the size of a disk makes no sense" },
		{ 72, 0, "block size" },
		{ 72, 131072, "block size" },
		{ 72, 513, "no power of two" },
		{ 76, 2, "neither yes nor no" },
		{ 108, 1, "not there can trim" },
	};
	struct hf_diskctl_msg m = ready_msg();

	m.ready.disk[0].size_bytes = (uint32_t)1 << 20; /* so that byte 64 holds all of it */
	check_bad(&m, bad, sizeof(bad) / sizeof(bad[0]));
}

TEST(bad_others)
{
	static const struct bad bad_done[] = {
		{ 8, 1, "the error is none" },
		{ 8, (uint32_t)-4096, "the error is none" },
		{ 12, 1, "reserved" },
		{ 16, 'a' | '\n' << 8, "the text is none" },
		{ 16, 0xff, "the text is none" },
		{ 220, 'a', "the text is none" },
	};
	static const struct bad bad_fault[] = {
		{ 8, 0, "the error is none" },
		{ 8, 4096, "the error is none" },
		{ 12, HF_WIRE_DISKS_MAX + 1, "no such disk" },
		{ 20, 0x80000000, "offset" },
	};
	static const struct bad bad_state[] = { { 8, 5, "no such condition" },
						{ 12, 1, "reserved" } };
	static const struct bad bad_sync[] = { { 8, 2, "is unclear" }, { 12, 1, "reserved" } };
	struct hf_diskctl_msg done = { .type = HF_DISKCTL_DONE };
	struct hf_diskctl_msg fault = { .type = HF_DISKCTL_FAULT, .fault = { .error = EIO } };
	struct hf_diskctl_msg state = { .type = HF_DISKCTL_SET_STATE };
	struct hf_diskctl_msg sync = { .type = HF_DISKCTL_SYNC_START };

	check_bad(&done, bad_done, sizeof(bad_done) / sizeof(bad_done[0]));
	check_bad(&fault, bad_fault, sizeof(bad_fault) / sizeof(bad_fault[0]));
	check_bad(&state, bad_state, sizeof(bad_state) / sizeof(bad_state[0]));
	check_bad(&sync, bad_sync, sizeof(bad_sync) / sizeof(bad_sync[0]));
}

TEST(names)
{
	CHECK_STR(hf_disk_condition_name(HF_DISK_FRESH), "fresh");
	CHECK_STR(hf_disk_condition_name(HF_DISK_PARTIAL), "partial");
}
