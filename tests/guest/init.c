/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define EVENTS_MAX 16

struct guest_stats guest_stats;

static int epoll_fd = -1;
static uint32_t boot_id;
static uint64_t ticks;

static _Noreturn void die(const char *what)
{
	printf("GUEST FAILED: %s: %s\n", what, strerror(errno));
	(void)reboot(RB_POWER_OFF);
	for (;;)
		(void)pause();
}

uint64_t guest_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint32_t guest_boot_id(void)
{
	return boot_id;
}

static void watch(int op, struct guest_source *source, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = source };

	if (epoll_ctl(epoll_fd, op, source->fd, &e) < 0)
		die("epoll_ctl");
}

void guest_watch(struct guest_source *source, uint32_t events)
{
	watch(EPOLL_CTL_ADD, source, events);
}

void guest_rewatch(struct guest_source *source, uint32_t events)
{
	watch(EPOLL_CTL_MOD, source, events);
}

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = read(fd, buf, size - 1);
		(void)close(fd);
	}
	buf[n > 0 ? n : 0] = '\0';
	return n;
}

bool guest_setting(const char *name, char *ret, size_t size)
{
	char cmdline[2048], *save = NULL;
	size_t len = strlen(name);

	(void)read_file("/proc/cmdline", cmdline, sizeof(cmdline));
	for (char *w = strtok_r(cmdline, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
		if (strncmp(w, "hf.", 3) != 0 || strncmp(w + 3, name, len) != 0 ||
		    w[3 + len] != '=')
			continue;
		(void)snprintf(ret, size, "%s", w + 3 + len + 1);
		return true;
	}
	return false;
}

/* The kernel opened /dev/console for us before there was a /dev; take the one of devtmpfs. */
static void mount_all(void)
{
	int fd;

	(void)mkdir("/proc", 0755);
	(void)mkdir("/sys", 0755);
	(void)mkdir("/dev", 0755);
	(void)mount("proc", "/proc", "proc", 0, NULL);
	(void)mount("sys", "/sys", "sysfs", 0, NULL);
	(void)mount("dev", "/dev", "devtmpfs", 0, NULL);
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd >= 0) {
		for (int i = 0; i < 3; i++)
			(void)dup2(fd, i);
		if (fd > 2)
			(void)close(fd);
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
}

static void load_module(const char *name)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "/mods/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		printf("guest: module %s: %s\n", name, strerror(errno));
	if (fd >= 0)
		(void)close(fd);
}

/* tools/build-guest lists the modules in an order in which each finds what it needs. */
static void load_modules(void)
{
	char list[2048], *save = NULL;

	(void)read_file("/mods/order", list, sizeof(list));
	for (char *m = strtok_r(list, "\n", &save); m; m = strtok_r(NULL, "\n", &save))
		load_module(m);
}

static void tick(struct guest_source *source, uint32_t events)
{
	uint64_t expired;

	(void)events;
	if (read(source->fd, &expired, sizeof(expired)) == (ssize_t)sizeof(expired))
		printf("tick %llu\n", (unsigned long long)++ticks);
}

static void start_ticks(void)
{
	static struct guest_source source = { -1, tick };
	struct itimerspec each_second = { { 1, 0 }, { 1, 0 } };

	source.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (source.fd < 0 || timerfd_settime(source.fd, 0, &each_second, NULL) < 0)
		die("timerfd");
	guest_watch(&source, EPOLLIN);
}

static void open_services(void)
{
	if (guest_net_up() < 0)
		return;
	if (guest_stream_open() < 0 || guest_udp_open() < 0 || guest_control_open() < 0)
		die("services");
}

static _Noreturn void loop(void)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

		for (int i = 0; i < n; i++) {
			struct guest_source *s = events[i].data.ptr;

			s->ready(s, events[i].events);
		}
	}
}

int main(void)
{
	mount_all();
	(void)reboot(RB_DISABLE_CAD);
	/* The load of work.c must not starve the services that measure latency. */
	(void)setpriority(PRIO_PROCESS, 0, -10);
	load_modules();
	/* Without waiting for entropy: it only has to differ from the last boot's. */
	if (getrandom(&boot_id, sizeof(boot_id), GRND_INSECURE) != (ssize_t)sizeof(boot_id))
		boot_id = (uint32_t)guest_now_ns();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll");
	guest_work_start();
	open_services();
	guest_power_open();
	start_ticks();
	printf("GUEST UP\n");
	loop();
}
