/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * UDP 7002, 7004 and 7005.
 *
 * The counter is the oracle of output commit: it lives in guest RAM, and every value that left the
 * guest must be known to the guest for ever after. Formats, little-endian:
 *   request  u64 nonce, u64 highest value the client has seen, u32 boot id it saw (0: none yet)
 *   reply    u64 nonce, u64 counter after this increment, u32 flags, u32 boot id
 * A client that has seen more than the counter proves that the guest was rolled back behind an
 * output: COUNTER_VIOLATED is then set in this and in all further replies. A boot id of
 * another boot is no proof: a reboot may forget.
 *
 * "durable" is the oracle of the disks: what the guest says here is on its disks, and must be there
 * for ever after. Formats, little-endian:
 *   request  u64 nonce
 *   reply    u64 nonce, u32 boot id, u32 files (DURABLE_FILES), u64 raw: so many writes of raw.c
 *            are durable, u64 reserved; per file u64 version that is durable, u64 version that the
 *            last check found
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"
#include "wire.h"

#define BATCH 64

int guest_udp_bind(uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0) {
		int r = -errno;

		(void)close(fd);
		return r;
	}
	return fd;
}

static uint64_t count_one(uint64_t seen, uint32_t boot)
{
	uint64_t value = ++guest_stats.counter;

	if (boot == guest_boot_id() && seen >= value && !guest_stats.is_violated) {
		printf("guest: VIOLATION: client saw %llu, counter was %llu\n",
		       (unsigned long long)seen, (unsigned long long)(value - 1));
		guest_stats.is_violated = true;
	}
	return value;
}

static void counter_ready(struct guest_source *source, uint32_t events)
{
	(void)events;
	for (int i = 0; i < BATCH; i++) {
		uint8_t in[COUNTER_REQUEST_BYTES + 1], out[COUNTER_REPLY_BYTES];
		struct sockaddr_in peer;
		socklen_t peer_len = sizeof(peer);
		ssize_t n = recvfrom(source->fd, in, sizeof(in), 0, (struct sockaddr *)&peer,
				     &peer_len);

		if (n < 0)
			return;
		if (n != COUNTER_REQUEST_BYTES)
			continue;
		hf_le64_put(out, hf_le64_get(in));
		hf_le64_put(out + 8, count_one(hf_le64_get(in + 8), hf_le32_get(in + 16)));
		hf_le32_put(out + 16, guest_stats.is_violated ? COUNTER_VIOLATED : 0);
		hf_le32_put(out + 20, guest_boot_id());
		(void)sendto(source->fd, out, sizeof(out), 0, (struct sockaddr *)&peer, peer_len);
	}
}

static void ping_ready(struct guest_source *source, uint32_t events)
{
	static uint8_t buf[PING_BYTES_MAX];

	(void)events;
	for (int i = 0; i < BATCH; i++) {
		struct sockaddr_in peer;
		socklen_t peer_len = sizeof(peer);
		ssize_t n = recvfrom(source->fd, buf, sizeof(buf), 0, (struct sockaddr *)&peer,
				     &peer_len);

		if (n < 0)
			return;
		guest_stats.pings++;
		(void)sendto(source->fd, buf, (size_t)n, 0, (struct sockaddr *)&peer, peer_len);
	}
}

static void put_durable(uint8_t *out)
{
	_Static_assert(DURABLE_FILES == GUEST_FILES_MAX,
		       "the table is as long as the list of files");
	hf_le32_put(out + 8, guest_boot_id());
	hf_le32_put(out + 12, DURABLE_FILES);
	hf_le64_put(out + 16, guest_raw_durable());
	hf_le64_put(out + 24, 0);
	for (unsigned int i = 0; i < DURABLE_FILES; i++) {
		uint8_t *at = out + DURABLE_HEAD_BYTES + (size_t)i * 16;

		hf_le64_put(at, guest_files_durable(i));
		hf_le64_put(at + 8, guest_files_found(i));
	}
}

static void durable_ready(struct guest_source *source, uint32_t events)
{
	(void)events;
	for (int i = 0; i < BATCH; i++) {
		uint8_t in[DURABLE_REQUEST_BYTES + 1], out[DURABLE_REPLY_BYTES];
		struct sockaddr_in peer;
		socklen_t peer_len = sizeof(peer);
		ssize_t n = recvfrom(source->fd, in, sizeof(in), 0, (struct sockaddr *)&peer,
				     &peer_len);

		if (n < 0)
			return;
		if (n != DURABLE_REQUEST_BYTES)
			continue;
		hf_le64_put(out, hf_le64_get(in));
		put_durable(out);
		(void)sendto(source->fd, out, sizeof(out), 0, (struct sockaddr *)&peer, peer_len);
	}
}

static int serve(struct guest_source *source, uint16_t port)
{
	source->fd = guest_udp_bind(port);
	if (source->fd < 0)
		return source->fd;
	guest_watch(source, EPOLLIN);
	return 0;
}

int guest_udp_open(void)
{
	static struct guest_source counter = { -1, counter_ready }, ping = { -1, ping_ready };
	static struct guest_source durable = { -1, durable_ready };
	int r = serve(&counter, GUEST_PORT_COUNTER);

	if (r == 0)
		r = serve(&ping, GUEST_PORT_PING);
	return r < 0 ? r : serve(&durable, GUEST_PORT_DURABLE);
}
