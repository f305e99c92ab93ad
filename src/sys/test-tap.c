/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/tap.h"

static void skip_all(const char *reason)
{
	int n = (int)(__stop_hf_tests - __start_hf_tests);

	for (int i = 0; i < n; i++)
		printf("ok %d - %s # SKIP %s\n", i + 1, __start_hf_tests[i].name, reason);
	(void)fflush(stdout);
	exit(0);
}

/* A network of our own, in which nothing of the host's can be disturbed. */
static void enter_private_network(void)
{
	static int is_inside;

	if (is_inside)
		return;
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0)
		skip_all("needs root and /dev/net/tun");
	if (unshare(CLONE_NEWNET) < 0)
		skip_all("needs a network namespace");
	is_inside = 1;
}

static void make_bridge(const char *name)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK_EQ(ioctl(fd, SIOCBRADDBR, name), 0);
	hf_fd_close(&fd);
}

/* A socket that sees and sends whole frames on one interface, as a host on that network would. */
static int packet_socket(const char *ifname)
{
	struct sockaddr_ll sll = { .sll_family = AF_PACKET,
				   .sll_protocol = htons(ETH_P_ALL),
				   .sll_ifindex = (int)if_nametoindex(ifname) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));

	CHECK(fd >= 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sll, sizeof(sll)), 0);
	return fd;
}

/* A frame of an experimental type (IEEE 802: 0x88b5), so that no protocol answers it. */
static size_t make_frame(uint8_t *frame, uint8_t mark)
{
	static const uint8_t source_and_type[] = { 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

	memset(frame, 0xff, 6);
	memcpy(frame + 6, source_and_type, sizeof(source_and_type));
	memset(frame + 14, mark, 100);
	return 114;
}

static int is_test_frame(const uint8_t *frame, size_t len, uint8_t mark)
{
	return len == 114 && frame[12] == 0x88 && frame[13] == 0xb5 && frame[50] == mark;
}

static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	CHECK_EQ(poll(&p, 1, 5000), 1);
}

TEST(frames_go_both_ways)
{
	struct hf_tap tap = HF_TAP_NONE;
	uint8_t frame[2048];
	size_t len;
	int sock;

	enter_private_network();
	CHECK_EQ(hf_tap_open("hft0", &tap, NULL), 0);
	CHECK_STR(tap.name, "hft0");
	len = make_frame(frame, 1);
	CHECK_EQ(hf_tap_write(tap.fd, frame, len), HF_TAP_DROPPED); /* it is down */
	CHECK_EQ(hf_tap_set_up(&tap, NULL), 0);
	CHECK_EQ(hf_tap_set_up(&tap, NULL), 0);
	sock = packet_socket("hft0");

	CHECK_EQ(hf_tap_write(tap.fd, frame, 5), HF_TAP_DROPPED); /* no Ethernet header */
	CHECK_EQ(hf_tap_write(tap.fd, frame, make_frame(frame, 2)), 0);
	do {
		ssize_t n;

		wait_readable(sock);
		n = recv(sock, frame, sizeof(frame), 0);
		CHECK(n > 0);
		len = (size_t)n;
	} while (!is_test_frame(frame, len, 2));

	len = make_frame(frame, 3);
	CHECK_EQ(send(sock, frame, len, 0), (ssize_t)len);
	do {
		wait_readable(tap.fd);
		CHECK_EQ(hf_tap_read(tap.fd, frame, sizeof(frame), &len), 0);
	} while (!is_test_frame(frame, len, 3));
	while (hf_tap_read(tap.fd, frame, sizeof(frame), &len) == 0)
		continue;
	CHECK_EQ(hf_tap_read(tap.fd, frame, sizeof(frame), &len), HF_TAP_AGAIN);
	hf_fd_close(&sock);
	hf_tap_close(&tap);
	CHECK_EQ(if_nametoindex("hft0"), 0); /* it was not persistent */
}

TEST(an_interface_in_use_and_names_that_cannot_be)
{
	struct hf_tap tap = HF_TAP_NONE, second = HF_TAP_NONE;
	struct hf_err err;

	enter_private_network();
	CHECK_EQ(hf_tap_open("hft1", &tap, NULL), 0);
	CHECK_EQ(hf_tap_open("hft1", &second, &err), -EBUSY);
	CHECK_CONTAINS(err.text, "'hft1'");
	CHECK_CONTAINS(err.text, "another process is attached");
	CHECK_EQ(second.fd, -1);
	make_bridge("hfbr1");
	CHECK_EQ(hf_tap_open("hfbr1", &second, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "not a TAP interface");
	CHECK_EQ(hf_tap_open("sixteen-letters-", &second, &err), -EINVAL);
	CHECK_EQ(hf_tap_open("", &second, &err), -EINVAL);
	CHECK_EQ(hf_tap_open("a/b", &second, &err), -EINVAL);
	CHECK_EQ(hf_tap_open("tap%d", &second, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "'tap%d' is not an interface name");
	hf_tap_close(&tap);
}

TEST(bridges)
{
	struct hf_tap tap = HF_TAP_NONE;
	struct hf_err err;

	enter_private_network();
	make_bridge("hfbr2");
	make_bridge("hfbr3");
	CHECK_EQ(hf_tap_open("hft2", &tap, NULL), 0);
	CHECK_EQ(hf_tap_join_bridge(&tap, "hfbr9", &err), -ENODEV);
	CHECK_CONTAINS(err.text, "'hfbr9'");
	CHECK_EQ(hf_tap_join_bridge(&tap, "hfbr2", &err), 0);
	CHECK_EQ(hf_tap_join_bridge(&tap, "lo", &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.text, "not a bridge");
	CHECK_EQ(hf_tap_join_bridge(&tap, "a b", &err), -EINVAL);
	hf_tap_close(&tap);
}

TEST(joining_twice)
{
	struct hf_tap tap = HF_TAP_NONE;
	struct hf_err err;
	int r;

	enter_private_network();
	make_bridge("hfbr4");
	make_bridge("hfbr5");
	CHECK_EQ(hf_tap_open("hft4", &tap, NULL), 0);
	CHECK_EQ(hf_tap_join_bridge(&tap, "hfbr4", &err), 0);
	r = hf_tap_join_bridge(&tap, "hfbr5", &err);
	CHECK_EQ(r, -EBUSY);
	CHECK_CONTAINS(err.text, "port of another");
	hf_tap_close(&tap);
}

TEST(the_interface_is_deleted_under_us)
{
	struct hf_tap tap = HF_TAP_NONE;
	struct hf_tap again = HF_TAP_NONE;
	uint8_t frame[256];
	size_t len;

	enter_private_network();
	CHECK_EQ(hf_tap_open("hft5", &tap, NULL), 0);
	CHECK_EQ(hf_tap_set_up(&tap, NULL), 0);
	CHECK_EQ(system("ip link delete hft5"), 0);
	CHECK_EQ(hf_tap_read(tap.fd, frame, sizeof(frame), &len), -EBADFD);
	CHECK_EQ(hf_tap_write(tap.fd, frame, make_frame(frame, 1)), -EBADFD);
	CHECK(hf_tap_set_up(&tap, NULL) < 0);
	CHECK_EQ(hf_tap_open("hft5", &again, NULL), 0);
	hf_tap_close(&again);
	hf_tap_close(&tap);
}

static void write_script(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	CHECK(f != NULL);
	CHECK(fputs(text, f) >= 0);
	CHECK_EQ(fclose(f), 0);
	CHECK_EQ(chmod(path, 0755), 0);
}

TEST(scripts)
{
	struct hf_tap tap = HF_TAP_NONE;
	struct hf_err err;
	char dir[] = "/tmp/hf-test-tap.XXXXXX", path[64];

	enter_private_network();
	CHECK(mkdtemp(dir) != NULL);
	(void)snprintf(path, sizeof(path), "%s/ifup", dir);
	CHECK_EQ(hf_tap_open("hft6", &tap, NULL), 0);
	write_script(path, "#!/bin/sh\n[ $# = 1 ] && exec ip link set \"$1\" mtu 1400\n");
	CHECK_EQ(hf_tap_run_script(&tap, path, 10000, &err), 0);
	CHECK_EQ(system("ip link show hft6 | grep -q 'mtu 1400'"), 0);
	write_script(path, "#!/bin/sh\nexit 3\n");
	CHECK_EQ(hf_tap_run_script(&tap, path, 10000, &err), -EIO);
	CHECK_CONTAINS(err.text, "ifup hft6' failed: exited with status 3");
	write_script(path, "#!/bin/sh\nexec sleep 100\n");
	CHECK_EQ(hf_tap_run_script(&tap, path, 50, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.text, "50 ms");
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(hf_tap_run_script(&tap, path, 50, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "script for 'hft6'");
	CHECK_EQ(rmdir(dir), 0);
	hf_tap_close(&tap);
}
