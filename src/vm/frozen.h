/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where frozen instances are kept: STATE_DIR/NAME/frozen/ID/, each with certificate.json, and maybe
 * device-state and ram. Layer: vm. Any thread; file system calls, which BLOCK as long as the storage
 * does: who must not wait calls from a thread of its own (sys/pool.h).
 *
 * Files are replaced as a whole: written beside, synced, renamed, folder synced. A crash leaves the old
 * or the new. A folder without a readable certificate counts as a frozen instance that nobody can
 * examine: it blocks a start like any other, and hf_frozen_list() says what is wrong with it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "codec/certificate.h"

#define HF_FROZEN_MAX 64 /* instances of one VM */

struct hf_frozen {
	char id[HF_CERTIFICATE_ID + 1];
	char path[PATH_MAX]; /* the instance's folder */
	uint64_t time_ns; /* CLOCK_REALTIME: of the cause; of the folder if that cannot be read */
	bool is_readable;
	struct hf_certificate certificate; /* if readable */
	char trouble[HF_ERR_MAX]; /* if not */
};

/* Makes the folders, writes the certificate, durable on return. 0; -errno with @err: file and reason. */
int hf_frozen_write(const char *state_dir, const struct hf_certificate *c,
		    struct hf_err *err) HF_MUST_CHECK;

/* The device state beside it, durable on return. To be called before the certificate that tells of it. */
int hf_frozen_write_state(const char *state_dir, const char *vm, const char *id,
			  const uint8_t *state, size_t len, struct hf_err *err) HF_MUST_CHECK;

/* Removes the device state, and what is half written beside it: for a file system that has no room for the
 * certificate. Not to be there is no error. 0; -errno with @err. */
int hf_frozen_drop_state(const char *state_dir, const char *vm, const char *id,
			 struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_frozen_list() - all instances of a VM, the oldest first
 * @ret: array to be released with hf_frozen_free(); NULL when there is none
 * Return: 0; -errno with @err. No folder is no error.
 */
int hf_frozen_list(const char *state_dir, const char *vm, struct hf_frozen **ret, size_t *ret_n,
		   struct hf_err *err) HF_MUST_CHECK;
void hf_frozen_free(struct hf_frozen *list, size_t n);

/* One of them: @id may be shortened as long as it is the only one, NULL or "": if there is but one.
 * -ENOENT, -EEXIST (more than one: @err names them). */
int hf_frozen_find(const char *state_dir, const char *vm, const char *id, struct hf_frozen *ret,
		   struct hf_err *err) HF_MUST_CHECK;
void hf_frozen_fini(struct hf_frozen *f);

/* Removes the instance's folder and all in it: certificate last. What crashed in between is finished by
 * the next call of this or of hf_frozen_write() for this VM. 0; -errno with @err. */
int hf_frozen_remove(const struct hf_frozen *f, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_frozen_release() - discards it: its processes, its memory, its folder
 * QEMU and the disk process are killed if they still live and are really those; nothing is thawed before
 * it is killed. BLOCKS until they have ended, HF_FROZEN_RELEASE_MAX_MS at most for each.
 * Return: 0; -EBUSY: its keeper lives and is not the caller: that one is to be asked; -ETIMEDOUT: a process
 * does not die; -errno. @err says what; then the instance is still there.
 */
#define HF_FROZEN_RELEASE_MAX_MS 10000
int hf_frozen_release(const struct hf_frozen *f, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_frozen_finish() - certifies what a keeper has latched and did not live to prove
 * QEMU and the disk process are killed as by hf_frozen_release(), the proof is looked at, the certificate
 * written. What of memory and device state is still there is in it. BLOCKS as that does.
 * Return: 0; -EBUSY: its keeper lives, or something that must be dead is not; -errno. @err says what.
 */
int hf_frozen_finish(const char *state_dir, struct hf_certificate *c,
		     struct hf_err *err) HF_MUST_CHECK;

/* What it takes: on disk, and in memory as long as its RAM is a process's. Best effort: 0 for what cannot
 * be looked at. */
uint64_t hf_frozen_used_bytes(const struct hf_frozen *f);

/**
 * hf_frozen_retire() - which are to go, by the limits of frozen-keep and frozen-space?
 * @list: as from hf_frozen_list(); the newest one always stays, and so does one that is not certified or
 *	cannot be read: of those nobody knows what they are needed for
 * @keep: instances that may stay; @space_bytes: that they may take together; 0: no limit
 * Return: how many of them, from the oldest on, have been set in @ret_is_over[@n].
 */
size_t hf_frozen_retire(const struct hf_frozen *list, size_t n, unsigned int keep,
			uint64_t space_bytes, bool *ret_is_over);

/* Names of all VMs under @state_dir that have frozen instances; NULL-terminated, to be released with
 * hf_words_free(). */
int hf_frozen_vms(const char *state_dir, char ***ret, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_frozen_open_ram() - its RAM for reading, wherever that is
 * Return: 0 with a descriptor (O_RDONLY) of ram_bytes; -ENODATA: it is lost, @err says why (another boot,
 * its holder has ended); -errno.
 */
int hf_frozen_open_ram(const struct hf_frozen *f, int *ret_fd, struct hf_err *err) HF_MUST_CHECK;

/* Is this process the one that is meant, and alive? */
bool hf_process_id_is_alive(const struct hf_process_id *p);
/* Of a living process; start_ticks 0 and pid 0 when there is none. */
struct hf_process_id hf_process_id_of(pid_t pid);

/**
 * hf_frozen_verify() - looks at P1 to P3 of core/freeze.h from outside
 * Fills c->check. QEMU, if it is alive: every thread stopped in a frozen cgroup, no descriptor open for
 * writing on a file or block device but RAM, no TAP device or other device of the host; if it is dead: what
 * it had started in its cgroup is frozen or dead, too; the disk process: dead; the TAP interfaces: not held
 * by any process of this VM. Does not wait for storage: what is looked at is the kernel's.
 * Return: a bit for each property that does not hold (bit 0: P1), 0: all hold.
 */
unsigned int hf_frozen_verify(struct hf_certificate *c);

/* Does a process have files (no memfd, socket, pipe...), block devices or other devices of the host (TAP,
 * VFIO, vhost, SCSI generic: all but terminals, KVM and /dev/null's kind) open for writing, other than
 * those on @but_fd's inode (-1: none) and its standard streams? 1: yes, the first is in @ret; 0; -errno. */
int hf_process_has_own_files(pid_t pid, int but_fd, char *ret, size_t size);
