/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What can befall a guest: it hangs, and its watchdog device (i6300esb; QEMU: hw/watchdog) runs out.
 *
 * Debian's cloud kernel has no driver for the device, so this is one: its registers are mapped from
 * sysfs. Intel 6300ESB datasheet, 2.8: two timers run out one after the other, the second one tells
 * QEMU. Before each write to timers and reload register the device wants two magic ones.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define PCI_DEVICES "/sys/bus/pci/devices"
#define WATCHDOG_ID "0x8086 0x25ab"

#define CONFIG_LOCK 0x68
#define LOCK_ENABLE 0x02
#define TIMER1 0x00
#define TIMER2 0x04
#define RELOAD 0x0c
#define RELOAD_NOW 0x0100
#define PERIOD_MS_MAX 60000

#define SPINNERS 8
#define MS_NS 1000000

/* In memory once, page-aligned, so that a dump can be searched for it. */
static char marker[4096] __attribute__((aligned(4096)));

static struct {
	volatile uint8_t *regs; /* NULL: not set up */
	uint64_t period_ms;
	_Atomic bool is_fed;
} watchdog;

void guest_fault_marker(const char *word, char *reply)
{
	/* In two parts: the text as a whole is nowhere but in `marker`. */
	(void)snprintf(marker, sizeof(marker), "%s-%s:%s", "HOLDFAST", "MARKER", word);
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok address=%p", (void *)marker);
}

static bool read_word(const char *device, const char *file, char *ret, size_t size)
{
	char path[320];
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", device, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, ret, size - 1);
		(void)close(fd);
	}
	ret[n > 0 ? n - 1 : 0] = '\0'; /* without the newline */
	return n > 0;
}

static bool find_watchdog(char *ret, size_t size)
{
	DIR *dir = opendir(PCI_DEVICES);
	char vendor[16], device[16], id[40];
	bool is_found = false;
	struct dirent *e;

	while (dir && !is_found && (e = readdir(dir))) {
		if (e->d_name[0] == '.' ||
		    !read_word(e->d_name, "vendor", vendor, sizeof(vendor)) ||
		    !read_word(e->d_name, "device", device, sizeof(device)))
			continue;
		(void)snprintf(id, sizeof(id), "%s %s", vendor, device);
		is_found = strcmp(id, WATCHDOG_ID) == 0;
		(void)snprintf(ret, size, "%s", e->d_name);
	}
	if (dir)
		(void)closedir(dir);
	return is_found;
}

/* A file of the device that is written, or -1 with errno. */
static int write_at(const char *device, const char *file, off_t at, const char *data, size_t len)
{
	char path[320];
	int fd, r;

	(void)snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", device, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = pwrite(fd, data, len, at) == (ssize_t)len ? 0 : -1;
	(void)close(fd);
	return r;
}

static void *map_registers(const char *device)
{
	char path[320];
	void *p = MAP_FAILED;
	int fd;

	(void)snprintf(path, sizeof(path), PCI_DEVICES "/%s/resource0", device);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd >= 0) {
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		(void)close(fd);
	}
	return p == MAP_FAILED ? NULL : p;
}

static void unlock(void)
{
	*(volatile uint16_t *)(watchdog.regs + RELOAD) = 0x80;
	*(volatile uint16_t *)(watchdog.regs + RELOAD) = 0x86;
}

static void feed(void)
{
	unlock();
	*(volatile uint16_t *)(watchdog.regs + RELOAD) = RELOAD_NOW;
}

/* As any program that feeds a watchdog: at no better priority than the guest's work. */
static void *feeder(void *unused)
{
	struct timespec nap = { 0, 0 };

	(void)unused;
	nap.tv_sec = (time_t)(watchdog.period_ms / 4 / 1000);
	nap.tv_nsec = (long)(watchdog.period_ms / 4 % 1000) * MS_NS;
	for (;;) {
		if (watchdog.is_fed)
			feed();
		(void)nanosleep(&nap, NULL);
	}
	return NULL;
}

static int set_up(const char *device)
{
	static const char enable = LOCK_ENABLE;
	pthread_t t;

	if (write_at(device, "enable", 0, "1", 1) < 0)
		return -errno;
	watchdog.regs = map_registers(device);
	if (!watchdog.regs)
		return -errno;
	/* In ticks of about a millisecond; half of the period each. */
	unlock();
	*(volatile uint32_t *)(watchdog.regs + TIMER1) = (uint32_t)watchdog.period_ms / 2;
	unlock();
	*(volatile uint32_t *)(watchdog.regs + TIMER2) = (uint32_t)watchdog.period_ms / 2;
	watchdog.is_fed = true;
	feed();
	if (write_at(device, "config", CONFIG_LOCK, &enable, 1) < 0)
		return -errno;
	return -pthread_create(&t, NULL, feeder, NULL);
}

/* @period_ms: it runs out so long after it was last fed; 0: it is not fed any more. */
void guest_fault_watchdog(uint64_t period_ms, char *reply)
{
	char device[256];
	int r;

	(void)snprintf(reply, GUEST_TEXT_MAX, "ok");
	if (period_ms == 0) {
		watchdog.is_fed = false;
		return;
	}
	if (watchdog.regs || period_ms < 100 || period_ms > PERIOD_MS_MAX) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error want 100 to %d ms, once",
			       PERIOD_MS_MAX);
		return;
	}
	if (!find_watchdog(device, sizeof(device))) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error there is no i6300esb");
		return;
	}
	watchdog.period_ms = period_ms;
	r = set_up(device);
	if (r < 0)
		(void)snprintf(reply, GUEST_TEXT_MAX, "error %s: %s", device, strerror(-r));
}

static void *spin(void *unused)
{
	struct sched_param best = { .sched_priority = sched_get_priority_max(SCHED_FIFO) };
	struct timespec grace = { 0, 100L * MS_NS };

	(void)unused;
	(void)nanosleep(&grace, NULL);
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &best) != 0)
		printf("GUEST: no realtime priority\n");
	for (;;)
		atomic_signal_fence(memory_order_seq_cst);
	return NULL;
}

/* Everything that is no interrupt stands still: the processors are taken for good. A little later,
 * so that the answer gets out. */
void guest_fault_hang(char *reply)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	int fd = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY | O_CLOEXEC);
	pthread_t t;

	/* Nothing is left to the others. */
	if (fd < 0 || write(fd, "-1", 2) != 2) {
		(void)snprintf(reply, GUEST_TEXT_MAX, "error sched_rt_runtime_us: %s",
			       strerror(errno));
		return;
	}
	(void)close(fd);
	for (long i = 0; i < n && i < SPINNERS; i++)
		(void)pthread_create(&t, NULL, spin, NULL);
	(void)snprintf(reply, GUEST_TEXT_MAX, "ok");
}
