/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"

static int say(const char *what)
{
	int r = -errno;

	printf("guest: %s: %s\n", what, strerror(errno));
	return r;
}

static struct sockaddr_in to_sockaddr(struct in_addr addr)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = addr };
}

/* Router solicitations and the like would make an idle guest talk by itself. */
static void disable_ipv6(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		(void)say("disable_ipv6");
	(void)close(fd);
}

static int set_flags_up(int fd, const char *name)
{
	struct ifreq req = { 0 };

	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
		return say(name);
	req.ifr_flags = (short)(req.ifr_flags | IFF_UP | IFF_RUNNING);
	return ioctl(fd, SIOCSIFFLAGS, &req) < 0 ? say(name) : 0;
}

/* "10.77.0.10/24" */
static int parse_cidr(char *text, struct in_addr *ret_addr, struct in_addr *ret_mask)
{
	char *slash = strchr(text, '/');
	long prefix = 24;

	if (slash) {
		*slash = '\0';
		prefix = strtol(slash + 1, NULL, 10);
	}
	if (prefix < 1 || prefix > 32 || inet_pton(AF_INET, text, ret_addr) != 1)
		return -EINVAL;
	ret_mask->s_addr = htonl(UINT32_MAX << (32 - prefix));
	return 0;
}

static int set_address(int fd, unsigned long request, struct in_addr addr)
{
	struct ifreq req = { .ifr_name = "eth0" };
	struct sockaddr_in sin = to_sockaddr(addr);

	memcpy(&req.ifr_addr, &sin, sizeof(sin));
	return ioctl(fd, request, &req) < 0 ? say("eth0 address") : 0;
}

static int add_default_route(int fd, const char *gateway)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct in_addr gw, any = { INADDR_ANY };
	struct sockaddr_in sin;

	if (inet_pton(AF_INET, gateway, &gw) != 1) {
		errno = EINVAL;
		return say("hf.gw");
	}
	sin = to_sockaddr(gw);
	memcpy(&route.rt_gateway, &sin, sizeof(sin));
	sin = to_sockaddr(any);
	memcpy(&route.rt_dst, &sin, sizeof(sin));
	memcpy(&route.rt_genmask, &sin, sizeof(sin));
	return ioctl(fd, SIOCADDRT, &route) < 0 ? say("default route") : 0;
}

static int configure(int fd)
{
	char ip[64] = "10.77.0.10/24", gw[64];
	struct in_addr addr, mask;
	int r;

	(void)guest_setting("ip", ip, sizeof(ip));
	if (parse_cidr(ip, &addr, &mask) < 0) {
		errno = EINVAL;
		return say("hf.ip");
	}
	r = set_flags_up(fd, "lo");
	if (r == 0)
		r = set_address(fd, SIOCSIFADDR, addr);
	if (r == 0)
		r = set_address(fd, SIOCSIFNETMASK, mask);
	if (r == 0)
		r = set_flags_up(fd, "eth0");
	if (r == 0 && guest_setting("gw", gw, sizeof(gw)))
		r = add_default_route(fd, gw);
	return r;
}

int guest_net_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return say("socket");
	disable_ipv6();
	r = configure(fd);
	(void)close(fd);
	return r;
}
