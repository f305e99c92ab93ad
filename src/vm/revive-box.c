/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/revive-box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "which architecture is this to seccomp?"
#endif

static int fail(struct hf_err *err, const char *what)
{
	int r = -errno;

	hf_err_set(err, "the VM cannot be isolated here: %s: %s", what, strerror(-r));
	return r;
}

/* mount_setattr(2) is in Linux since 5.12. */
static int set_read_only(const char *path, unsigned int flags, bool is_read_only)
{
	struct mount_attr attr = { 0 };

	if (is_read_only)
		attr.attr_set = MOUNT_ATTR_RDONLY;
	else
		attr.attr_clr = MOUNT_ATTR_RDONLY;
	return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attr, sizeof(attr));
}

static int enclose_files(const char *work_dir, struct hf_err *err)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, "mount namespace");
	if (mount(work_dir, work_dir, NULL, MS_BIND, NULL) < 0)
		return fail(err, work_dir);
	if (set_read_only("/", AT_RECURSIVE, true) < 0)
		return fail(err, "read-only file systems (mount_setattr)");
	if (set_read_only(work_dir, 0, false) < 0)
		return fail(err, work_dir);
	return 0;
}

static int drop_capabilities(bool has_tap, struct hf_err *err)
{
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (cap == CAP_DAC_READ_SEARCH || (has_tap && cap == CAP_NET_ADMIN))
			continue;
		/* EINVAL: this kernel does not have it. */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			return fail(err, "capabilities");
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return fail(err, "capabilities");
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? fail(err, "no new privileges") : 0;
}

/* EOPNOTSUPP, for which QEMU has another way where it writes to an overlay. */
static int forbid_fallocate(struct hf_err *err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? fail(err, "seccomp")
									      : 0;
}

int hf_revive_box(const char *work_dir, bool has_tap, char *const *argv, struct hf_err *err)
{
	int r;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC) < 0)
		return fail(err, "namespaces");
	r = enclose_files(work_dir, err);
	if (!r)
		r = drop_capabilities(has_tap, err);
	if (!r)
		r = forbid_fallocate(err);
	if (r < 0)
		return r;
	(void)execvp(argv[0], argv);
	r = -errno;
	hf_err_set(err, "'%.300s' cannot be executed: %s", argv[0], strerror(-r));
	return r;
}
