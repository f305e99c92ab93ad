/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of a frozen instance's processes: when it is let go, and when its keeper died while freezing. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/memholder.h"
#include "sys/procstat.h"
#include "vm/frozen-internal.h"

static int await_end(int pidfd, const struct hf_process_id *p, const char *what, struct hf_err *err)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int n;

	do
		n = poll(&pfd, 1, HF_FROZEN_RELEASE_MAX_MS);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return 0;
	hf_err_set(err, "%s (process %d) does not end although it was killed", what, (int)p->pid);
	return -ETIMEDOUT;
}

static int end_process(const struct hf_process_id *p, const char *what, struct hf_err *err)
{
	int fd = hf_procstat_open(p->pid, p->start_ticks), r = 0;

	if (fd == -ESRCH)
		return 0;
	if (fd < 0 || pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0) {
		r = fd < 0 ? fd : -errno;
		hf_err_set(err, "cannot kill %s (process %d): %s", what, (int)p->pid, strerror(-r));
		r = r == -ESRCH ? 0 : r;
	}
	if (fd >= 0 && r == 0)
		r = await_end(fd, p, what, err);
	hf_fd_close(&fd);
	return r;
}

/* v1 keeps a frozen process's death for later: the whole cgroup is killed, and thawed then. That is safe
 * if QEMU is in it: nobody else's is. */
static int end_qemu(const struct hf_certificate *c, struct hf_err *err)
{
	struct hf_cgroup cgroup = HF_CGROUP_NONE;
	bool is_its = *c->cgroup && hf_process_id_is_alive(&c->qemu) &&
		      hf_cgroup_find(c->cgroup, &cgroup, NULL) == 0 &&
		      hf_cgroup_has_thread(&cgroup, c->qemu.pid) == 1;
	int r;

	if (is_its)
		(void)!hf_cgroup_kill(&cgroup);
	r = end_process(&c->qemu, "the frozen QEMU", err);
	hf_cgroup_close(&cgroup, is_its);
	return r;
}

static int check_keeper(const struct hf_certificate *c, struct hf_err *err)
{
	if (c->keeper.pid == getpid() || !hf_process_id_is_alive(&c->keeper))
		return 0;
	hf_err_set(err, "the keeper of %s@%s (process %d) guards it: it has to be asked", c->vm,
		   c->id, (int)c->keeper.pid);
	return -EBUSY;
}

/* All but the memory's. */
static int end_processes(const struct hf_certificate *c, struct hf_err *err)
{
	int r;

	if (!hf_frozen_is_of_this_boot(c))
		return 0;
	r = check_keeper(c, err);
	if (r == 0)
		r = end_qemu(c, err);
	return r < 0 ? r : end_process(&c->disks, "its disk process", err);
}

int hf_frozen_end_holder(const struct hf_certificate *c, struct hf_err *err)
{
	int r = 0;

	if (c->ram == HF_REMAINS_PROCESS && hf_frozen_is_of_this_boot(c))
		r = hf_memholder_end(c->ram_holder.pid, c->ram_holder.start_ticks);
	if (r < 0 && r != -ESRCH)
		hf_err_set(err, "cannot end the process that keeps the memory (%d): %s",
			   (int)c->ram_holder.pid, strerror(-r));
	return r == -ESRCH ? 0 : r;
}

int hf_frozen_release(const struct hf_frozen *f, struct hf_err *err)
{
	int r = f->is_readable ? end_processes(&f->certificate, err) : 0;

	if (r == 0 && f->is_readable)
		r = hf_frozen_end_holder(&f->certificate, err);
	return r < 0 ? r : hf_frozen_remove(f, err);
}

/* ---- a freeze that its keeper did not live to finish ---- */

static void finish_steps(struct hf_certificate *c)
{
	for (int i = 0; i < HF_FREEZE_STEP_COUNT; i++) {
		struct hf_certificate_step *s = &c->step[i];

		if (s->result != HF_FREEZE_NOT_YET && s->result != HF_FREEZE_BEGUN)
			continue;
		s->result = i == HF_FREEZE_LEASE || i == HF_FREEZE_STATE ? HF_FREEZE_FAILED
									 : HF_FREEZE_FELL_BACK;
		(void)snprintf(s->text, sizeof(s->text), "%s",
			       s->result == HF_FREEZE_FAILED
				       ? "its keeper died before it was done"
				       : "its keeper died: nothing of it lives any more");
	}
}

/* What lies in its folder is whole: it was renamed to its name. */
static void find_remains(const char *state_dir, struct hf_certificate *c)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct stat st;

	c->qemu_fate = HF_REMAINS_NONE;
	if (strcmp(c->lease_fate, "held") ==
	    0) /* by a keeper that is dead: holdfastd's to see to */
		(void)snprintf(c->lease_fate, sizeof(c->lease_fate), "unknown");
	if (c->ram == HF_REMAINS_PROCESS &&
	    (!hf_frozen_is_of_this_boot(c) || !hf_process_id_is_alive(&c->ram_holder)))
		c->ram = HF_REMAINS_NONE;
	if (hf_frozen_path(state_dir, c->vm, c->id, dir, NULL) < 0 ||
	    hf_frozen_join(dir, HF_FROZEN_STATE, path, NULL) < 0)
		return;
	c->device_state = HF_REMAINS_NONE;
	c->device_state_bytes = 0;
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return;
	c->device_state = HF_REMAINS_FILE;
	c->device_state_bytes = (uint64_t)st.st_size;
}

static void say_refuted(const struct hf_certificate *c, struct hf_err *err)
{
	for (unsigned int i = 0; i < c->n_checks; i++)
		if (!c->check[i].is_ok)
			hf_err_set(err, "%s@%s cannot be certified: %s", c->vm, c->id,
				   c->check[i].text);
}

int hf_frozen_finish(const char *state_dir, struct hf_certificate *c, struct hf_err *err)
{
	struct timespec now;
	int r = end_processes(c, err);

	if (r < 0)
		return r == -ETIMEDOUT ? -EBUSY : r;
	if (hf_frozen_verify(c) != 0) {
		say_refuted(c, err);
		return -EBUSY;
	}
	finish_steps(c);
	find_remains(state_dir, c);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	c->frozen_time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	c->is_certified = true;
	r = hf_frozen_write(state_dir, c, err);
	if (r < 0) {
		c->is_certified = false;
		c->frozen_time_ns = 0;
	}
	return r;
}
