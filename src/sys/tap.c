/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/process.h"

#define TUN_DEVICE "/dev/net/tun"

static void set_ifname(struct ifreq *ifr, const char *name)
{
	*ifr = (struct ifreq){ 0 };
	memcpy(ifr->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
}

/* dev_valid_name() in linux/net/core/dev.c; '%' would make the kernel number it. */
static bool is_ifname(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < IFNAMSIZ && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       strcspn(name, "/: \t\n\v\f\r%") == n;
}

static const char *why_not_attached(int error)
{
	switch (error) {
	case EBUSY:
		return "another process is attached to it, or it is a device of another kind";
	case EINVAL:
		return "it exists and is not a TAP interface with a single queue";
	case EPERM:
		return "this needs the capability CAP_NET_ADMIN, or an interface made for this "
		       "user "
		       "with ip tuntap add";
	default:
		return strerror(error);
	}
}

static int attach(int fd, const char *name)
{
	struct ifreq ifr;

	set_ifname(&ifr, name);
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

int hf_tap_open(const char *name, struct hf_tap *ret, struct hf_err *err)
{
	struct hf_tap tap = HF_TAP_NONE;
	int r;

	if (!is_ifname(name)) {
		hf_err_set(err,
			   "'%.64s' is not an interface name: 1 to %d characters without '/', ':', "
			   "'%%' "
			   "and spaces",
			   name, IFNAMSIZ - 1);
		return -EINVAL;
	}
	tap.fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap.fd < 0) {
		r = -errno;
		hf_err_set(err, "cannot open " TUN_DEVICE " for the TAP interface '%s': %s", name,
			   strerror(-r));
		return r;
	}
	r = attach(tap.fd, name);
	if (r < 0) {
		hf_err_set(err, "cannot use '%s' as TAP interface: %s", name, why_not_attached(-r));
		hf_tap_close(&tap);
		return r;
	}
	memcpy(tap.name, name, strlen(name));
	*ret = tap;
	return 0;
}

/* An ioctl about interfaces wants any socket. */
static int interface_ioctl(unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	r = ioctl(fd, request, ifr) < 0 ? -errno : 0;
	hf_fd_close(&fd);
	return r;
}

/* Is the interface a port of just that bridge? The kernel says so in sysfs only by a folder. */
static bool is_in_bridge(const struct hf_tap *tap, const char *bridge)
{
	char path[64 + 2 * IFNAMSIZ];

	(void)snprintf(path, sizeof(path), "/sys/class/net/%s/brif/%s", bridge, tap->name);
	return access(path, F_OK) == 0;
}

int hf_tap_join_bridge(const struct hf_tap *tap, const char *bridge, struct hf_err *err)
{
	struct ifreq ifr;
	int r;

	if (!is_ifname(bridge)) {
		hf_err_set(err, "'%.64s' is not an interface name and so no bridge", bridge);
		return -EINVAL;
	}
	set_ifname(&ifr, bridge);
	ifr.ifr_ifindex = (int)if_nametoindex(tap->name);
	r = ifr.ifr_ifindex ? interface_ioctl(SIOCBRADDIF, &ifr) : -errno;
	if (r == -EBUSY && is_in_bridge(tap, bridge))
		return 0;
	if (r < 0)
		hf_err_set(err, "cannot make '%s' a port of the bridge '%s': %s", tap->name, bridge,
			   r == -EBUSY        ? "it is a port of another one"
			   : r == -ENODEV     ? "there is no interface of that name"
			   : r == -EOPNOTSUPP ? "that interface is not a bridge"
					      : strerror(-r));
	return r;
}

int hf_tap_set_up(const struct hf_tap *tap, struct hf_err *err)
{
	struct ifreq ifr;
	int r;

	set_ifname(&ifr, tap->name);
	r = interface_ioctl(SIOCGIFFLAGS, &ifr);
	if (r == 0 && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
		r = interface_ioctl(SIOCSIFFLAGS, &ifr);
	}
	if (r < 0)
		hf_err_set(err, "cannot set the interface '%s' up: %s", tap->name, strerror(-r));
	return r;
}

/* Waits for the end of the script, and ends it itself when the time is over. */
static int await_script(struct hf_process *p, int timeout_ms, struct hf_process_exit *ret)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };
	int n, r = 0;

	do
		n = poll(&pfd, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0) {
		r = hf_process_kill(p, SIGKILL);
		if (r == 0)
			r = -ETIMEDOUT;
		while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
			continue;
	}
	n = hf_process_reap(p, ret);
	hf_process_close(p);
	return r < 0 ? r : n;
}

int hf_tap_run_script(const struct hf_tap *tap, const char *script, int timeout_ms,
		      struct hf_err *err)
{
	const char *const argv[] = { script, tap->name, NULL };
	struct hf_process_spec spec = { .argv = argv };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_process_exit e = { 0 };
	char text[HF_PROCESS_EXIT_TEXT];
	int r = hf_process_spawn(&spec, &p, err);

	if (r == 0)
		r = await_script(&p, timeout_ms, &e);
	else
		hf_err_prefix(err, "the network script for '%s'", tap->name);
	if (r == -ETIMEDOUT)
		hf_err_set(err, "the network script '%.200s %s' did not end within %d ms", script,
			   tap->name, timeout_ms);
	if (r == 0 && (e.is_signal || e.code != 0)) {
		hf_err_set(err, "the network script '%.200s %s' failed: %s", script, tap->name,
			   hf_process_exit_format(&e, text, sizeof(text)));
		r = -EIO;
	}
	return r;
}

int hf_tap_detach(int fd)
{
	struct ifreq ifr = { .ifr_flags = 0 };

	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return -errno;
	if (ifr.ifr_flags & IFF_PERSIST)
		return 0;
	return ioctl(fd, TUNSETPERSIST, 1) < 0 ? -errno : 1;
}

void hf_tap_remove(const char *name)
{
	struct hf_tap tap;

	if (hf_tap_open(name, &tap, NULL) < 0)
		return;
	(void)ioctl(tap.fd, TUNSETPERSIST, 0);
	hf_tap_close(&tap);
}

void hf_tap_close(struct hf_tap *tap)
{
	hf_fd_close(&tap->fd);
}

int hf_tap_read(int fd, void *frame, size_t size, size_t *ret_len)
{
	ssize_t n;

	do
		n = read(fd, frame, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? HF_TAP_AGAIN : -errno;
	if (n == 0) /* only a stand-in for a TAP can do this, by closing */
		return -EBADFD;
	*ret_len = (size_t)n;
	return 0;
}

/* tun_get_user(): EIO when the interface is down, EINVAL when the frame is too short or too long,
 * and the allocator's errors. To wait for any of them would hold up all frames behind it. */
static bool is_refusal(int error)
{
	return error == EIO || error == EINVAL || error == EMSGSIZE || error == ENOBUFS ||
	       error == ENOMEM;
}

int hf_tap_write(int fd, const void *frame, size_t len)
{
	ssize_t n;

	do
		n = write(fd, frame, len);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	if (errno == EAGAIN)
		return HF_TAP_AGAIN;
	return is_refusal(errno) ? HF_TAP_DROPPED : -errno;
}
