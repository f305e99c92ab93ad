/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "service/doorlog.h"

#define HOUR_NS 3600000000000ull

static struct hf_journal journal;

static struct hf_journal *quiet(void)
{
	hf_journal_init(&journal, "test", "vm", "x", HF_LOG_ERROR);
	return &journal;
}

TEST(each_reason_of_each_address_once)
{
	struct hf_doorlog d = { .next = 0 };
	struct hf_journal *j = quiet();

	CHECK(hf_doorlog_tell(&d, j, 5, "10.0.0.1", "no certificate"));
	for (uint64_t i = 0; i < 100; i++)
		CHECK(!hf_doorlog_tell(&d, j, i * HOUR_NS, "10.0.0.1", "no certificate"));
	CHECK(hf_doorlog_tell(&d, j, 6, "10.0.0.1", "expired"));
	CHECK(hf_doorlog_tell(&d, j, 6, "10.0.0.2", "expired"));
	CHECK(!hf_doorlog_tell(&d, j, 6, "10.0.0.1", "expired"));
	/* Where one ends and the other begins counts, too. */
	CHECK(hf_doorlog_tell(&d, j, 7, "a", "bc"));
	CHECK(hf_doorlog_tell(&d, j, 7, "ab", "c"));
}

static unsigned int told(struct hf_doorlog *d, struct hf_journal *j, uint64_t now_ns, int from)
{
	unsigned int n = 0;

	for (int i = from; i < from + 1000; i++) {
		char why[32];

		(void)snprintf(why, sizeof(why), "reason %d", i);
		n += hf_doorlog_tell(d, j, now_ns, "10.0.0.1", why);
	}
	return n;
}

TEST(so_many_an_hour)
{
	struct hf_doorlog d = { .next = 0 };
	struct hf_journal *j = quiet();

	CHECK_EQ(told(&d, j, 1, 0), HF_DOORLOG_LINES_PER_HOUR);
	CHECK_EQ(told(&d, j, HOUR_NS, 1000), 0);
	CHECK_EQ(told(&d, j, HOUR_NS + 1, 2000), HF_DOORLOG_LINES_PER_HOUR);
}
