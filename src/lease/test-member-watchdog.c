/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When the watchdog is petted, on a device that only takes notes; and what is no watchdog, for real. */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lease/member-watchdog.h"

#define MS UINT64_C(1000000)
#define FENCE_MS 10000u

struct device {
	char calls[64]; /* O open, I identify, T time-out, K keep alive, V disarmed, C closed */
	uint32_t options, least_s, timeout_s;
	int open_r, timeout_r, keep_r;
	/* what a tick sees */
	uint64_t now_ns;
	bool is_used;
	unsigned int asked;
	/* what happens between its two looks at the clock */
	struct hf_watchdog *dog;
	uint64_t renewed_meanwhile;
	bool may_publish;
};

static void note(struct device *d, char c)
{
	size_t n = strlen(d->calls);

	CHECK(n + 1 < sizeof(d->calls));
	d->calls[n] = c;
}

static int dev_open(void *ctx, const char *path)
{
	struct device *d = ctx;

	CHECK_STR(path, "/dev/dog");
	note(d, 'O');
	return d->open_r < 0 ? d->open_r : 1000;
}

static int dev_identify(void *ctx, int fd, uint32_t *ret_options)
{
	struct device *d = ctx;

	CHECK_EQ(fd, 1000);
	note(d, 'I');
	*ret_options = d->options;
	return 0;
}

static int dev_set_timeout(void *ctx, int fd, uint32_t *seconds)
{
	struct device *d = ctx;

	CHECK_EQ(fd, 1000);
	note(d, 'T');
	d->timeout_s = *seconds < d->least_s ? d->least_s : *seconds;
	*seconds = d->timeout_s;
	return d->timeout_r;
}

static int dev_keep_alive(void *ctx, int fd)
{
	struct device *d = ctx;

	CHECK_EQ(fd, 1000);
	note(d, 'K');
	return d->keep_r;
}

static void dev_close(void *ctx, int fd, bool is_disarming)
{
	CHECK_EQ(fd, 1000);
	if (is_disarming)
		note(ctx, 'V');
	note(ctx, 'C');
}

static const struct hf_watchdog_ops ops = {
	.open = dev_open,
	.identify = dev_identify,
	.set_timeout = dev_set_timeout,
	.keep_alive = dev_keep_alive,
	.close = dev_close,
};

static uint64_t view_now(void *ctx)
{
	const struct device *d = ctx;

	return d->now_ns;
}

static bool view_used(void *ctx)
{
	struct device *d = ctx;

	d->asked++;
	if (d->renewed_meanwhile)
		d->may_publish = hf_watchdog_may_publish(d->dog, d->renewed_meanwhile);
	return d->is_used;
}

static struct device new_device(void)
{
	return (struct device){
		.options = WDIOF_SETTIMEOUT | WDIOF_KEEPALIVEPING | WDIOF_MAGICCLOSE, .least_s = 1
	};
}

static void open_dog(struct device *d, uint64_t fence_ns)
{
	struct hf_err err = { "" };

	if (hf_watchdog_open("/dev/dog", FENCE_MS, fence_ns, &ops, d, &d->dog, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void tick(struct device *d, uint64_t now_ms, const char *calls)
{
	struct hf_watchdog_view v = { view_now, view_used, d };
	struct hf_err err = { "" };

	memset(d->calls, 0, sizeof(d->calls));
	d->now_ns = now_ms * MS;
	CHECK_EQ(hf_watchdog_tick(d->dog, &v, &err), d->keep_r);
	CHECK_STR(d->calls, calls);
	if (d->keep_r < 0)
		CHECK_CONTAINS(err.text, "/dev/dog");
}

TEST(the_time_out_fits_into_the_fence)
{
	CHECK_EQ(hf_watchdog_fit_s(0), 0);
	CHECK_EQ(hf_watchdog_fit_s(1249), 0);
	CHECK_EQ(hf_watchdog_fit_s(1250), 1);
	CHECK_EQ(hf_watchdog_fit_s(3000), 2);
	CHECK_EQ(hf_watchdog_fit_s(10000), 8);
	CHECK_EQ(hf_watchdog_fit_s(79000), 74);
	for (uint32_t ms = 0; ms < 200000; ms += 7)
		CHECK(hf_watchdog_fit_s(ms) * 1000 + (hf_watchdog_fit_s(ms) ? 250 : 0) <= ms);
}

static void expect_refusal(struct device *d, uint32_t fence_ms, int want, const char *text,
			   const char *calls)
{
	struct hf_watchdog *w;
	struct hf_err err = { "" };

	CHECK_EQ(hf_watchdog_open("/dev/dog", fence_ms, 0, &ops, d, &w, &err), want);
	CHECK_CONTAINS(err.text, text);
	CHECK_CONTAINS(err.text, "/dev/dog");
	CHECK_STR(d->calls, calls);
}

/* What has been armed is disarmed; what is no watchdog is not written to. */
TEST(devices_that_will_not_do)
{
	struct device d = new_device();

	expect_refusal(&d, 1200, -EINVAL, "too short", "");
	d.open_r = -EBUSY;
	expect_refusal(&d, FENCE_MS, -EBUSY, "cannot be opened", "O");
	d = new_device();
	d.options = WDIOF_KEEPALIVEPING;
	expect_refusal(&d, FENCE_MS, -EINVAL, "cannot be set", "OIC");
	d = new_device();
	d.timeout_r = -EINVAL;
	expect_refusal(&d, FENCE_MS, -EINVAL, "refuses a time-out of 8 s", "OITVC");
	d = new_device();
	d.least_s = 9;
	expect_refusal(&d, FENCE_MS, -EINVAL, "its time-out is 9 s", "OITVC");
}

static void expect_no_watchdog(const char *path, const char *text)
{
	struct hf_watchdog *w;
	struct hf_err err = { "" };

	CHECK_EQ(hf_watchdog_open(path, FENCE_MS, 0, NULL, NULL, &w, &err), -EINVAL);
	CHECK_CONTAINS(err.text, path);
	CHECK_CONTAINS(err.text, text);
}

TEST(files_that_are_no_watchdog)
{
	char path[] = "/tmp/test-watchdog-XXXXXX";
	struct hf_watchdog *w;
	struct hf_err err = { "" };
	struct stat st;
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	expect_no_watchdog(path, "no character device");
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 0);
	(void)close(fd);
	CHECK_EQ(unlink(path), 0);
	expect_no_watchdog("/dev/null", "is no watchdog");
	CHECK_EQ(hf_watchdog_open(path, FENCE_MS, 0, NULL, NULL, &w, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "cannot be opened");
}

/* Nothing runs under the lease: petted at every tick, and disarmed at the end. */
TEST(petted_freely_while_nothing_runs)
{
	struct device d = new_device();

	open_dog(&d, 0);
	CHECK_STR(d.calls, "OIT");
	CHECK_EQ(hf_watchdog_timeout_s(d.dog), 8);
	tick(&d, 1000, "K");
	tick(&d, 1001, "K");
	CHECK_EQ(d.asked, 2);
	memset(d.calls, 0, sizeof(d.calls));
	hf_watchdog_close(d.dog, true);
	CHECK_STR(d.calls, "VC");
}

TEST(petted_once_for_a_renewal_that_came_back_soon)
{
	struct device d = new_device();

	d.is_used = true;
	open_dog(&d, 0);
	CHECK(hf_watchdog_may_publish(d.dog, 20000 * MS)); /* issued at 10000 */
	tick(&d, 10100, "K");
	tick(&d, 10200, "");
	tick(&d, 11000, "");
	CHECK(hf_watchdog_may_publish(d.dog, 21000 * MS)); /* issued at 11000 */
	tick(&d, 12900, "K"); /* fires at 20900 */
	CHECK(hf_watchdog_may_publish(d.dog, 22000 * MS)); /* issued at 12000 */
	tick(&d, 13901, ""); /* would fire too late */
	tick(&d, 14000, "");
	CHECK(hf_watchdog_may_publish(d.dog, 23000 * MS));
	tick(&d, 14000, "K");
	CHECK_EQ(d.asked, 0);
	memset(d.calls, 0, sizeof(d.calls));
	hf_watchdog_close(d.dog, false);
	CHECK_STR(d.calls, "C");
}

TEST(never_petted_when_the_lease_is_over_and_used)
{
	struct device d = new_device();

	d.is_used = true;
	open_dog(&d, 0);
	tick(&d, 1, "");
	CHECK(hf_watchdog_may_publish(d.dog, 20000 * MS));
	tick(&d, 10100, "K");
	tick(&d, 19999, "");
	tick(&d, 20000, "");
	tick(&d, 30000, "");
	d.is_used = false;
	tick(&d, 30001, "K");
	hf_watchdog_close(d.dog, true);
}

/* A free pet during a renewal's write: what was issued before it is not published, for the device
 * would fire after its deadline. */
TEST(a_free_pet_spoils_the_renewal_under_way)
{
	struct device d = new_device();

	open_dog(&d, 0);
	tick(&d, 12000, "K");
	CHECK(!hf_watchdog_may_publish(d.dog, 20000 * MS));
	tick(&d, 12050, "");
	CHECK(hf_watchdog_may_publish(d.dog, 20100 * MS));
	tick(&d, 12050, "");
	CHECK(hf_watchdog_may_publish(d.dog, 22500 * MS));
	tick(&d, 12600, "K");
	hf_watchdog_close(d.dog, true);
}

/* The other order: the renewal is there before the pet, which is then none of the free ones. */
TEST(a_renewal_while_a_free_pet_is_prepared)
{
	struct device d = new_device();

	open_dog(&d, 0);
	d.renewed_meanwhile = 20000 * MS;
	tick(&d, 13000, "");
	CHECK(d.may_publish);
	d.renewed_meanwhile = 0;
	tick(&d, 20001, "K");
	d.renewed_meanwhile = 40000 * MS;
	tick(&d, 32000, "");
	d.renewed_meanwhile = 0;
	tick(&d, 40001, "K");
	d.renewed_meanwhile = 55000 * MS;
	tick(&d, 45500, "K");
	CHECK(d.may_publish);
	hf_watchdog_close(d.dog, true);
}

/* A daemon that finds VMs running under its lease: opening the device would put off the reset that
 * its predecessor has set. */
TEST(opened_with_the_first_renewal_when_something_runs)
{
	struct device d = new_device();

	d.is_used = true;
	open_dog(&d, 20000 * MS);
	CHECK_STR(d.calls, "");
	tick(&d, 11000, "");
	tick(&d, 21000, "");
	CHECK(hf_watchdog_may_publish(d.dog, 31000 * MS));
	tick(&d, 21100, "OIT");
	CHECK(hf_watchdog_may_publish(d.dog, 31500 * MS));
	tick(&d, 21600, "K");
	hf_watchdog_close(d.dog, false);
	CHECK_STR(d.calls, "KC");
}

TEST(a_device_that_fails_is_told_and_tried_again)
{
	struct device d = new_device();

	open_dog(&d, 0);
	d.keep_r = -EIO;
	tick(&d, 100, "K");
	d.keep_r = 0;
	tick(&d, 200, "K");
	hf_watchdog_close(d.dog, true);
}
