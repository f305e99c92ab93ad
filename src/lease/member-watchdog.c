/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lease/member-watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A renewal may take so long and still be followed by a pet: an eighth of the fence. */
#define ALLOWANCE_MIN_MS 250u
#define ALLOWANCE_MAX_MS 5000u
#define SLACK_NS UINT64_C(100000000)
#define NS_PER_S UINT64_C(1000000000)

struct hf_watchdog {
	const struct hf_watchdog_ops *ops;
	void *ctx;
	char *path;
	uint32_t fence_ms;
	int fd; /* -1: to be opened with the next renewal */
	_Atomic uint32_t timeout_s; /* what the device took, or will be asked for */
	/* Each side says what it is about to do before it looks at what the other has said. */
	_Atomic uint64_t fence_ns; /* until when something may be running */
	_Atomic uint64_t free_ns; /* when it was last petted freely */
	uint64_t petted_fence_ns; /* the renewal that was last petted for */
};

/* ---- the device ---- */

static int device_open(void *ctx, const char *path)
{
	struct stat st;
	int fd;

	(void)ctx;
	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode))
		return -ENOTTY;
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int device_identify(void *ctx, int fd, uint32_t *ret_options)
{
	struct watchdog_info info = { 0 };

	(void)ctx;
	if (ioctl(fd, WDIOC_GETSUPPORT, &info) < 0)
		return -errno;
	*ret_options = info.options;
	return 0;
}

static int device_set_timeout(void *ctx, int fd, uint32_t *seconds)
{
	int s = (int)*seconds;

	(void)ctx;
	if (ioctl(fd, WDIOC_SETTIMEOUT, &s) < 0 || ioctl(fd, WDIOC_GETTIMEOUT, &s) < 0)
		return -errno;
	*seconds = (uint32_t)s;
	return 0;
}

static int device_keep_alive(void *ctx, int fd)
{
	(void)ctx;
	return ioctl(fd, WDIOC_KEEPALIVE, NULL) < 0 ? -errno : 0;
}

/* Without the letter the device goes on counting (Linux Documentation/watchdog/watchdog-api.rst). */
static void device_close(void *ctx, int fd, bool is_disarming)
{
	(void)ctx;
	if (is_disarming)
		(void)!write(fd, "V", 1);
	(void)close(fd);
}

static const struct hf_watchdog_ops device_ops = {
	.open = device_open,
	.identify = device_identify,
	.set_timeout = device_set_timeout,
	.keep_alive = device_keep_alive,
	.close = device_close,
};

/* ---- opening and closing ---- */

uint32_t hf_watchdog_fit_s(uint32_t fence_ms)
{
	uint32_t allowance = fence_ms / 8;

	if (allowance < ALLOWANCE_MIN_MS)
		allowance = ALLOWANCE_MIN_MS;
	if (allowance > ALLOWANCE_MAX_MS)
		allowance = ALLOWANCE_MAX_MS;
	return fence_ms <= allowance ? 0 : (fence_ms - allowance) / 1000;
}

static int set_timeout(struct hf_watchdog *w, int fd, struct hf_err *err)
{
	uint32_t fit = hf_watchdog_fit_s(w->fence_ms), got = fit;
	int r = w->ops->set_timeout(w->ctx, fd, &got);

	if (r < 0) {
		hf_err_set(err,
			   "watchdog %s: it refuses a time-out of %u s, which a fence of %u ms "
			   "needs: %s",
			   w->path, fit, w->fence_ms, strerror(-r));
		return r;
	}
	if (got == 0 || got > fit) {
		hf_err_set(err,
			   "watchdog %s: its time-out is %u s; a fence of %u ms needs %u s or less",
			   w->path, got, w->fence_ms, fit);
		return -EINVAL;
	}
	w->timeout_s = got;
	return 0;
}

static int check_device(struct hf_watchdog *w, int fd, struct hf_err *err)
{
	uint32_t options = 0;
	int r = w->ops->identify(w->ctx, fd, &options);

	if (r < 0)
		hf_err_set(err, "%s is no watchdog: %s", w->path, strerror(-r));
	else if (!(options & WDIOF_SETTIMEOUT) || !(options & WDIOF_KEEPALIVEPING)) {
		hf_err_set(err, "watchdog %s: its time-out cannot be set", w->path);
		r = -EINVAL;
	}
	return r == -ENOTTY ? -EINVAL : r;
}

/* What is no watchdog must not be written to: only one that is gets disarmed. */
static int arm(struct hf_watchdog *w, int fd, struct hf_err *err)
{
	int r = check_device(w, fd, err);

	if (r < 0) {
		w->ops->close(w->ctx, fd, false);
		return r;
	}
	r = set_timeout(w, fd, err);
	if (r < 0)
		w->ops->close(w->ctx, fd, true);
	else
		w->fd = fd;
	return r;
}

static int open_and_arm(struct hf_watchdog *w, struct hf_err *err)
{
	int fd = w->ops->open(w->ctx, w->path);

	if (fd >= 0)
		return arm(w, fd, err);
	if (fd == -ENOTTY) {
		hf_err_set(err, "%s is no watchdog: it is no character device", w->path);
		return -EINVAL;
	}
	hf_err_set(err, "watchdog %s cannot be opened: %s", w->path, strerror(-fd));
	return fd;
}

static int check_fence(const struct hf_watchdog *w, struct hf_err *err)
{
	if (hf_watchdog_fit_s(w->fence_ms) > 0)
		return 0;
	hf_err_set(
		err,
		"watchdog %s: a fence of %u ms is too short for one: its time-out is 1 s at least",
		w->path, w->fence_ms);
	return -EINVAL;
}

int hf_watchdog_open(const char *path, uint32_t fence_ms, uint64_t fence_ns,
		     const struct hf_watchdog_ops *ops, void *ctx, struct hf_watchdog **ret,
		     struct hf_err *err)
{
	struct hf_watchdog *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->path = strdup(path);
	w->ops = ops ? ops : &device_ops;
	w->ctx = ctx;
	w->fence_ms = fence_ms;
	w->timeout_s = hf_watchdog_fit_s(fence_ms);
	w->fd = -1;
	w->petted_fence_ns = fence_ns;
	atomic_init(&w->fence_ns, fence_ns);
	atomic_init(&w->free_ns, 0);
	r = w->path ? check_fence(w, err) : -ENOMEM;
	if (r == 0 && fence_ns == 0)
		r = open_and_arm(w, err);
	if (r < 0)
		hf_watchdog_close(w, false);
	else
		*ret = w;
	return r;
}

void hf_watchdog_close(struct hf_watchdog *w, bool is_disarming)
{
	if (!w)
		return;
	if (w->fd >= 0)
		w->ops->close(w->ctx, w->fd, is_disarming);
	free(w->path);
	free(w);
}

uint32_t hf_watchdog_timeout_s(const struct hf_watchdog *w)
{
	return w->timeout_s;
}

/* ---- petting ---- */

/* Petted at @at_ns, does it fire before @fence_ns? */
static bool fires_before(const struct hf_watchdog *w, uint64_t at_ns, uint64_t fence_ns)
{
	return at_ns + w->timeout_s * NS_PER_S + SLACK_NS <= fence_ns;
}

bool hf_watchdog_may_publish(struct hf_watchdog *w, uint64_t fence_ns)
{
	uint64_t free_ns;

	atomic_store(&w->fence_ns, fence_ns);
	free_ns = atomic_load(&w->free_ns);
	return free_ns == 0 || fires_before(w, free_ns, fence_ns);
}

/* Opening it is the first pet. */
static int pet(struct hf_watchdog *w, struct hf_err *err)
{
	int r = w->fd < 0 ? open_and_arm(w, err) : w->ops->keep_alive(w->ctx, w->fd);

	if (r < 0 && w->fd >= 0)
		hf_err_set(err, "watchdog %s: it cannot be kept alive: %s", w->path,
			   strerrordesc_np(-r));
	return r;
}

static int pet_for_renewal(struct hf_watchdog *w, uint64_t now_ns, uint64_t fence_ns,
			   struct hf_err *err)
{
	if (fence_ns == w->petted_fence_ns || !fires_before(w, now_ns, fence_ns))
		return 0;
	w->petted_fence_ns = fence_ns;
	return pet(w, err);
}

int hf_watchdog_tick(struct hf_watchdog *w, const struct hf_watchdog_view *v, struct hf_err *err)
{
	uint64_t now = v->now_ns(v->ctx), fence = atomic_load(&w->fence_ns);

	if (fence > now)
		return pet_for_renewal(w, now, fence, err);
	if (v->is_used(v->ctx))
		return 0;
	now = v->now_ns(v->ctx);
	atomic_store(&w->free_ns, now);
	/* A renewal may have come just now: then this is none of the free ones. */
	fence = atomic_load(&w->fence_ns);
	return fence > now ? pet_for_renewal(w, now, fence, err) : pet(w, err);
}
