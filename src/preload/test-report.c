/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "preload/report.h"

static const struct hf_report sample = {
	.pid = 0x01020304,
	.tracking_errno = 22,
	.address = 0x7f1122334000,
	.length_bytes = 0x40000000,
	.file_offset_bytes = 0x1000,
};

TEST(layout_is_fixed)
{
	static const uint8_t want[HF_REPORT_BYTES] = {
		0x31, 0x52, 0x46, 0x48, 1,    0,    0,    0,    4, 3, 2, 1, 22, 0,
		0,    0,    0x00, 0x40, 0x33, 0x22, 0x11, 0x7f, 0, 0, 0, 0, 0,  0x40,
		0,    0,    0,    0,    0,    0x10, 0,    0,    0, 0, 0, 0,
	};
	uint8_t buf[HF_REPORT_BYTES];

	hf_report_encode(&sample, buf);
	CHECK(memcmp(buf, want, sizeof(want)) == 0);
}

TEST(survives_the_round_trip)
{
	uint8_t buf[HF_REPORT_BYTES + 8] = { 0 };
	struct hf_report got = { 0 };

	hf_report_encode(&sample, buf);
	CHECK(hf_report_decode(buf, HF_REPORT_BYTES, &got));
	CHECK(memcmp(&got, &sample, sizeof(got)) == 0);
	/* a later version may be longer */
	buf[4] = 2;
	CHECK(hf_report_decode(buf, sizeof(buf), &got));
}

static void check_refused(struct hf_report report)
{
	uint8_t buf[HF_REPORT_BYTES];
	struct hf_report got = sample;

	hf_report_encode(&report, buf);
	CHECK(!hf_report_decode(buf, sizeof(buf), &got));
	CHECK(memcmp(&got, &sample, sizeof(got)) == 0);
}

#define CHECK_REFUSED(field, bad)                                                                  \
	do {                                                                                       \
		struct hf_report report = sample;                                                  \
		report.field = (bad);                                                              \
		check_refused(report);                                                             \
	} while (0)

TEST(refuses_nonsense)
{
	CHECK_REFUSED(pid, 0);
	CHECK_REFUSED(pid, 0x80000000u);
	CHECK_REFUSED(tracking_errno, 4096);
	CHECK_REFUSED(address, 0x7f1122334001);
	CHECK_REFUSED(address, UINT64_MAX - 4095);
	CHECK_REFUSED(length_bytes, 0);
	CHECK_REFUSED(length_bytes, 4097);
	CHECK_REFUSED(length_bytes, UINT64_MAX - 4095);
	CHECK_REFUSED(length_bytes, INT64_MAX - 4095);
	CHECK_REFUSED(file_offset_bytes, 1);
	CHECK_REFUSED(file_offset_bytes, UINT64_MAX - 4095);
}

TEST(refuses_what_is_no_message)
{
	uint8_t buf[HF_REPORT_BYTES];
	struct hf_report got;

	hf_report_encode(&sample, buf);
	for (size_t len = 0; len < HF_REPORT_BYTES; len++)
		CHECK(!hf_report_decode(buf, len, &got));
	buf[0] ^= 1;
	CHECK(!hf_report_decode(buf, sizeof(buf), &got));
	buf[0] ^= 1;
	buf[4] = 0;
	CHECK(!hf_report_decode(buf, sizeof(buf), &got));
}
