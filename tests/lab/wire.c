/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lab-wire: a cable between two network interfaces, with a length, a width and holes.
 *
 * Needed because many kernels lack the netem scheduler. Each frame taken from one interface is put
 * on the other when its time has come: after the frames before it at the given rate, and after the
 * delay. What does not fit into the queue is dropped, as a switch would. Frames carry their
 * virtio_net_hdr along (packet(7), PACKET_VNET_HDR), so that large segments and checksums that are
 * still to be made pass as they are.
 *
 * Prints {"event":"ready"} when it forwards; ends by a signal.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES_MAX (sizeof(struct virtio_net_hdr) + 65536 + 64)
#define BATCH 64
#define SOCKET_BUFFER_BYTES (8 << 20)

struct frame {
	struct frame *next;
	uint64_t due_ns;
	size_t len;
	uint8_t data[];
};

/* From one interface to the other. */
struct direction {
	int from;
	int to;
	struct frame *first;
	struct frame **end;
	size_t queued_bytes;
	uint64_t free_ns;
};

static struct {
	uint64_t delay_ns;
	uint64_t rate_bits_per_s;
	uint64_t loss_permille;
	uint64_t queue_bytes;
} wire = { .queue_bytes = 4 << 20 };

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "lab-wire: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void set_option(int fd, int level, int option, const void *value, socklen_t size)
{
	if (setsockopt(fd, level, option, value, size) < 0)
		die("setsockopt");
}

static int open_interface(const char *name)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct packet_mreq all = { .mr_type = PACKET_MR_PROMISC };
	int one = 1, buffer = SOCKET_BUFFER_BYTES;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ll.sll_ifindex = (int)if_nametoindex(name);
	all.mr_ifindex = ll.sll_ifindex;
	if (fd < 0 || ll.sll_ifindex == 0)
		die(name);
	set_option(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one));
	set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	set_option(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all));
	set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	if (bind(fd, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		die(name);
	return fd;
}

static uint64_t due_ns(struct direction *d, size_t len)
{
	uint64_t start = now_ns();

	if (wire.rate_bits_per_s == 0)
		return start + wire.delay_ns;
	if (d->free_ns > start)
		start = d->free_ns;
	d->free_ns = start + len * 8 * UINT64_C(1000000000) / wire.rate_bits_per_s;
	return d->free_ns + wire.delay_ns;
}

static void queue_frame(struct direction *d, const uint8_t *data, size_t len)
{
	struct frame *f;

	if (d->queued_bytes + len > wire.queue_bytes)
		return;
	if (wire.loss_permille && (uint64_t)(random() % 1000) < wire.loss_permille)
		return;
	f = malloc(sizeof(*f) + len);
	if (!f)
		die("malloc");
	f->next = NULL;
	f->due_ns = due_ns(d, len);
	f->len = len;
	memcpy(f->data, data, len);
	*d->end = f;
	d->end = &f->next;
	d->queued_bytes += len;
}

static void take_frames(struct direction *d)
{
	static uint8_t buf[FRAME_BYTES_MAX];

	for (int i = 0; i < BATCH; i++) {
		ssize_t n = recv(d->from, buf, sizeof(buf), 0);

		if (n < 0)
			return;
		queue_frame(d, buf, (size_t)n);
	}
}

/* A frame that the interface does not take now is lost, like any frame on a full link. */
static void put_frames(struct direction *d)
{
	while (d->first && d->first->due_ns <= now_ns()) {
		struct frame *f = d->first;

		(void)send(d->to, f->data, f->len, 0);
		d->first = f->next;
		if (!d->first)
			d->end = &d->first;
		d->queued_bytes -= f->len;
		free(f);
	}
}

static uint64_t next_due_ns(const struct direction *d)
{
	uint64_t due = UINT64_MAX;

	for (int i = 0; i < 2; i++)
		if (d[i].first && d[i].first->due_ns < due)
			due = d[i].first->due_ns;
	return due;
}

static _Noreturn void forward(struct direction *d)
{
	struct pollfd p[2] = { { .fd = d[0].from, .events = POLLIN },
			       { .fd = d[1].from, .events = POLLIN } };

	for (;;) {
		uint64_t due = next_due_ns(d), now = now_ns();
		uint64_t left = due > now ? due - now : 0;
		struct timespec ts = { (time_t)(left / 1000000000), (long)(left % 1000000000) };

		(void)ppoll(p, 2, due == UINT64_MAX ? NULL : &ts, NULL);
		for (int i = 0; i < 2; i++) {
			if (p[i].revents)
				take_frames(&d[i]);
			put_frames(&d[i]);
		}
	}
}

static uint64_t to_u64(const char *text)
{
	char *end = NULL;
	uint64_t v = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-') {
		errno = EINVAL;
		die(text);
	}
	return v;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "delay-us", 1, NULL, 'd' },
		{ "rate", 1, NULL, 'r' },
		{ "loss-permille", 1, NULL, 'l' },
		{ "queue", 1, NULL, 'q' },
		{ 0 },
	};
	struct direction d[2] = { 0 };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			wire.delay_ns = to_u64(optarg) * 1000;
			break;
		case 'r':
			wire.rate_bits_per_s = to_u64(optarg);
			break;
		case 'l':
			wire.loss_permille = to_u64(optarg);
			break;
		case 'q':
			wire.queue_bytes = to_u64(optarg);
			break;
		default:
			optind = argc;
		}
	}
	if (argc - optind != 2) {
		(void)fprintf(stderr, "usage: lab-wire [--delay-us N] [--rate BITS_PER_S] "
				      "[--loss-permille N] [--queue BYTES] IF1 IF2\n");
		return 2;
	}
	d[0].from = d[1].to = open_interface(argv[optind]);
	d[1].from = d[0].to = open_interface(argv[optind + 1]);
	d[0].end = &d[0].first;
	d[1].end = &d[1].first;
	printf("{\"event\":\"ready\"}\n");
	(void)fflush(stdout);
	forward(d);
}
