/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The test guest: the only process of a virtual machine, PID 1, doing what tests/lab can verify
 * from outside. This header joins its files; everything but work.c runs on the main thread.
 *
 * Services (all integers little-endian):
 *   TCP 7000  stream   client sends u64 seed, u32 limit in bytes per second (0: none); the guest
 *                      sends hf_pattern of that seed for ever
 *   TCP 7001  echo     client sends u64 seed, then hf_pattern of it; the guest checks each byte and
 *                      sends it back; on a wrong byte it says MISMATCH and closes
 *   UDP 7002  counter  see udp.c
 *   UDP 7003  control  "TOKEN command arguments" -> "TOKEN ok ..." or "TOKEN error ..."; see
 *                      control.c for the commands
 *   UDP 7004  ping     each datagram comes back as it is
 *   UDP 7005  durable  u64 nonce -> what is durable on the disks, to the guest's knowledge; see
 *                      udp.c
 */
#pragma once

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PORT_STREAM 7000
#define GUEST_PORT_ECHO 7001
#define GUEST_PORT_COUNTER 7002
#define GUEST_PORT_CONTROL 7003
#define GUEST_PORT_PING 7004
#define GUEST_PORT_DURABLE 7005

#define GUEST_TEXT_MAX 512

/* Something the main loop waits for. @fd is -1 while closed; @ready may then still be called once
 * for an event that was already taken from the kernel. */
struct guest_source {
	int fd;
	void (*ready)(struct guest_source *source, uint32_t events);
};

/* Counted since boot; written by their owners, read by "stat". */
struct guest_stats {
	_Atomic uint64_t counter;
	_Atomic uint64_t streamed_bytes;
	_Atomic uint64_t echoed_bytes;
	_Atomic uint64_t mismatches;
	_Atomic uint64_t pings;
	_Atomic bool is_violated;
	/* of disks */
	_Atomic uint64_t io_errors;
	_Atomic int io_errno; /* of the first */
};

extern struct guest_stats guest_stats;

/* init.c. Watch @source->fd for @events; a failure stops the guest with a line on the console. */
void guest_watch(struct guest_source *source, uint32_t events);
void guest_rewatch(struct guest_source *source, uint32_t events);
uint64_t guest_now_ns(void);
/* Random for each boot, so that the outside can tell a failover from a reboot. */
uint32_t guest_boot_id(void);
/* The value of hf.@name on the kernel command line in @ret, or false. */
bool guest_setting(const char *name, char *ret, size_t size);

/* net.c. Bring up lo and eth0 from hf.ip and hf.gw. 0 or -errno, having said what failed. */
int guest_net_up(void);

/* stream.c, udp.c, control.c, power.c. Open the services; -errno when a socket cannot be had. */
int guest_stream_open(void);
int guest_udp_open(void);
int guest_control_open(void);
void guest_power_open(void);
int guest_udp_bind(uint16_t port);

/* work.c: load that a test can ask for. Any thread. Each writes its answer, "ok ..." or "error
 * ...", to @reply of GUEST_TEXT_MAX bytes. */
void guest_work_start(void);
void guest_work_dirty(uint64_t pages_per_ms, char *reply);
void guest_work_dirty_max(uint64_t mib, char *reply);
void guest_work_spin(uint64_t threads, char *reply);
void guest_work_mem(uint64_t mib, char *reply);
void guest_work_memcheck(char *reply);
/* Pages dirtied and loops spun since boot, and pages in the buffer. */
void guest_work_counts(uint64_t *ret_dirtied, uint64_t *ret_spun, uint64_t *ret_pages);

/* disk.c: the file system at GUEST_MOUNT, and what the jobs below have in common. */
#define GUEST_MOUNT "/disk"
/* Counts what no disk may do to a guest, and says it on the console. */
void guest_io_error(const char *what, int error);
/* Nothing of the disks is in memory any more: what is read next comes from them. */
void guest_drop_caches(void);
/* @device: "vda"; @options: of the file system, "" for none. */
void guest_disk_mount(const char *device, const char *options, char *reply);
void guest_disk_unmount(char *reply);
void guest_disk_trim(char *reply);
/* New names at GUEST_MOUNT are durable. 0 or -errno. */
int guest_disk_sync_names(void);
/* A word becomes the durable content of a file; and is read from the disk, past the caches. */
void guest_disk_put(const char *name, const char *word, char *reply);
void guest_disk_get(const char *name, char *reply);

/* files.c: writers that make files durable, one version after the other. */
#define GUEST_FILES_MAX 64
/* @writers: 0 stops; @rate: versions per second of each writer, 0: as fast as it goes. */
void guest_files_start(uint64_t writers, uint64_t files, uint64_t max_kib, uint64_t rate,
		       char *reply);
/* Stops the writers, then reads everything. */
void guest_files_check(char *reply);
/* Stops the writers and forgets what they knew: another file system may come. */
void guest_files_forget(void);
/* The version of file @i that was made durable by this boot, and the one that a check has found. */
uint64_t guest_files_durable(unsigned int i);
uint64_t guest_files_found(unsigned int i);
uint64_t guest_files_count(void); /* versions written since boot */

/* raw.c: a job that writes blocks of a device without a file system. */
/* @batch: writes under way at a time, 0 stops; @rate: writes per second, 0: as fast as it goes. */
void guest_raw_start(const char *device, uint64_t mib, uint64_t batch, uint64_t rate, char *reply);
/* @told: the highest guest_raw_durable() that anybody outside has seen, of any boot. */
void guest_raw_check(const char *device, uint64_t mib, uint64_t told, char *reply);
uint64_t guest_raw_durable(void);
uint64_t guest_raw_count(void); /* blocks written since boot */

/* fault.c: what can befall a guest. */
/* "HOLDFAST-MARKER:@word" is in memory from now on, once. */
void guest_fault_marker(const char *word, char *reply);
/* Starts the i6300esb, and feeds it; 0: it is not fed any more. */
void guest_fault_watchdog(uint64_t period_ms, char *reply);
/* A moment later nothing works any more but the kernel's interrupts. */
void guest_fault_hang(char *reply);
