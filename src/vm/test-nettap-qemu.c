/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network tap between a real QEMU and a real TAP interface, in a network namespace of its own.
 * The guest is firmware without a disk; the frames are those of QMP's announce-self (RARP).
 */
#include "../../tests/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/process.h"
#include "sys/tap.h"
#include "vm/nettap.h"
#include "vm/qmp-session.h"

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x68, 0x66, 0x01 };

static const char *qemu_program(void)
{
	const char *name = getenv("QEMU");

	return name && *name ? name : "qemu-system-x86_64";
}

static void skip_all(const char *reason)
{
	int n = (int)(__stop_hf_tests - __start_hf_tests);

	for (int i = 0; i < n; i++)
		printf("ok %d - %s # SKIP %s\n", i + 1, __start_hf_tests[i].name, reason);
	(void)fflush(stdout);
	exit(0);
}

static struct hf_process start_qemu(int qmp_fd, int net_fd)
{
	const char *const argv[] = { qemu_program(),
				     "-machine",
				     "pc,accel=tcg",
				     "-m",
				     "32",
				     "-nodefaults",
				     "-display",
				     "none",
				     "-chardev",
				     "socket,id=qmp,fd=3",
				     "-mon",
				     "chardev=qmp,mode=control",
				     "-netdev",
				     "stream,id=n0,server=off,addr.type=fd,addr.str=4",
				     "-device",
				     "e1000,netdev=n0,mac=52:54:00:68:66:01,romfile=",
				     NULL };
	struct hf_process_fd fds[] = { { qmp_fd, 3 }, { net_fd, 4 } };
	struct hf_process_spec spec = { .argv = argv, .fds = fds, .n_fds = 2 };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_err err;
	int r = hf_process_spawn(&spec, &p, &err);

	if (r == -ENOENT)
		skip_all("needs qemu-system-x86_64");
	if (r < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return p;
}

/* What a host on that network sees of the guest's announcements. */
static int packet_socket(const char *ifname)
{
	struct sockaddr_ll sll = { .sll_family = AF_PACKET,
				   .sll_protocol = htons(ETH_P_RARP),
				   .sll_ifindex = (int)if_nametoindex(ifname) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_RARP));

	CHECK(fd >= 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sll, sizeof(sll)), 0);
	return fd;
}

static bool takes_announcement(int sock)
{
	uint8_t frame[2048];
	size_t n;

	if (hf_fd_read(sock, frame, sizeof(frame), &n) != 0)
		return false;
	CHECK_EQ(n, 60);
	CHECK(memcmp(frame + 6, mac, 6) == 0);
	return true;
}

static void announce(struct hf_qmp *q)
{
	struct hf_qmp_command c = { .name = "announce-self",
				    .arguments_text =
					    "{\"initial\":1,\"max\":1,\"rounds\":1,\"step\":1}" };
	struct hf_err err;

	if (hf_qmp_wait(q, &c, 10000, NULL, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void wait_qemu(struct hf_nettap *t)
{
	struct pollfd p = { .fd = hf_nettap_qemu_fd(t), .events = POLLIN };

	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK_EQ(hf_nettap_dispatch_qemu(t, NULL), 0);
}

static uint64_t held(const struct hf_nettap *t)
{
	struct hf_nettap_stats s;

	hf_nettap_get_stats(t, &s);
	return s.held_frames;
}

/* QEMU 7.2 connects its stream netdev in a thread, even when it is given a connected descriptor;
 * what the guest sends before is dropped, as on a cable that is not plugged in. */
static void announce_until_connected(struct hf_nettap *t, struct hf_qmp *q)
{
	struct pollfd p = { .fd = hf_nettap_qemu_fd(t), .events = POLLIN };

	for (int i = 0; i < 500; i++) {
		announce(q);
		if (poll(&p, 1, 20) == 1)
			return;
	}
	CHECK(!"the network socket was never connected");
}

/* Two epochs; the VM is stopped at the boundary of each as the keeper does it. */
static void run_epochs(struct hf_nettap *t, struct hf_qmp *q, int sock)
{
	announce_until_connected(t, q);
	wait_qemu(t);
	CHECK_EQ(held(t), 1);
	CHECK(!takes_announcement(sock));
	CHECK_EQ(hf_qmp_call_wait(q, "stop", NULL, 10000, NULL, NULL), 0);
	CHECK_EQ(hf_nettap_drain(t, NULL), 0);
	CHECK_EQ(hf_nettap_mark(t, 1), 0);
	CHECK_EQ(hf_qmp_call_wait(q, "cont", NULL, 10000, NULL, NULL), 0);
	announce(q);
	wait_qemu(t);
	CHECK_EQ(held(t), 2);
	CHECK_EQ(hf_nettap_release(t, 1, NULL), 0);
	CHECK(takes_announcement(sock));
	CHECK(!takes_announcement(sock));
	CHECK_EQ(hf_nettap_set_mode(t, HF_NETTAP_PASS, NULL), 0);
	CHECK(takes_announcement(sock));
	announce(q);
	wait_qemu(t);
	CHECK(takes_announcement(sock));
}

TEST(a_real_guest_and_a_real_interface)
{
	struct hf_nettap_config c = { .mode = HF_NETTAP_HOLD };
	struct hf_tap tap = HF_TAP_NONE;
	struct hf_process qemu;
	struct hf_nettap *t;
	struct hf_qmp *q;
	struct hf_err err = { "" };
	int qmp[2], net[2], sock;
	struct pollfd p;

	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0 || unshare(CLONE_NEWNET) < 0)
		skip_all("needs root, /dev/net/tun and a network namespace");
	CHECK_EQ(hf_tap_open("hfq0", &tap, &err), 0);
	CHECK_EQ(hf_tap_set_up(&tap, &err), 0);
	sock = packet_socket("hfq0");
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, qmp), 0);
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, net), 0);
	qemu = start_qemu(qmp[1], net[1]);
	hf_fd_close(&qmp[1]);
	hf_fd_close(&net[1]);
	CHECK_EQ(hf_qmp_open(qmp[0], NULL, NULL, &q), 0);
	c.tap_fd = hf_fd_take(&tap.fd);
	c.qemu_fd = net[0];
	CHECK_EQ(hf_nettap_new(&c, &t, &err), 0);

	run_epochs(t, q, sock);

	CHECK_EQ(hf_process_kill(&qemu, SIGKILL), 0);
	p = (struct pollfd){ .fd = hf_nettap_qemu_fd(t), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK_EQ(hf_nettap_dispatch_qemu(t, &err), HF_NETTAP_CLOSED);
	CHECK_EQ(hf_nettap_qemu_events(t), 0);
	p = (struct pollfd){ .fd = qemu.pidfd, .events = POLLIN };
	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK_EQ(hf_process_reap(&qemu, &(struct hf_process_exit){ 0 }), 0);
	hf_process_close(&qemu);
	hf_nettap_free(t);
	hf_qmp_close(q);
	hf_fd_close(&sock);
	CHECK_EQ(if_nametoindex("hfq0"), 0);
}
