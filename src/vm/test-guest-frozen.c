/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The real QEMU in a cgroup of its own: frozen as it runs, seen from outside, and killed in that state.
 * QEMU='program and first arguments' chooses another one. Without the preloaded library, which has no part
 * in it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "codec/words.h"
#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/memholder.h"
#include "sys/procstat.h"
#include "vm/frozen.h"
#include "vm/guest.h"
#include "vm/test-firmware.h"

#define RAM_BYTES (UINT64_C(64) << 20)
#define PATIENCE_MS 30000

struct world {
	struct hf_cgroup cgroup;
	struct hf_guest *g;
	struct hf_cmdline *cmd;
	char **argv;
};

/* A check that fails ends this program, and QEMU with it: what is left is the folder of the cgroup. */
static char cgroup_path[PATH_MAX];

static void remove_cgroup(void)
{
	(void)rmdir(cgroup_path);
}

static void parse(struct world *w)
{
	static const char *const words[] = { "-accel",   "tcg",  "-machine",    "pc",    "-m", "64",
					     "-display", "none", "-nodefaults", "-bios", NULL };
	const char *qemu = getenv("QEMU");
	struct hf_cmdline_want want = { .is_standby = false };
	struct hf_err err = { "" };
	size_t offset;

	write_firmware();
	CHECK_EQ(hf_words_split(qemu ? qemu : "qemu-system-x86_64", &w->argv, &offset, &err), 0);
	for (size_t i = 0; words[i]; i++)
		CHECK_EQ(hf_words_append(&w->argv, words[i]), 0);
	CHECK_EQ(hf_words_append(&w->argv, firmware), 0);
	if (hf_cmdline_parse(w->argv, &want, &w->cmd, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "cannot parse: %s", err.text);
}

static void end(struct world *w)
{
	hf_guest_free(w->g);
	hf_cmdline_free(w->cmd);
	hf_words_free(w->argv);
	hf_cgroup_close(&w->cgroup, true);
}

/* False: this machine has no QEMU, or no cgroups. */
static bool start(struct world *w, bool is_v1)
{
	struct hf_guest_config config = { .name = "vm1" };
	struct hf_err err = { "" };
	char folder_of_cgroups[PATH_MAX], name[64];
	int r;

	*w = (struct world){ .cgroup = HF_CGROUP_NONE };
	(void)snprintf(name, sizeof(name), "holdfast-test-guest-%d", (int)getpid());
	r = hf_cgroup_own(is_v1, folder_of_cgroups);
	if (r == 0)
		r = hf_cgroup_open_in(folder_of_cgroups, name, &w->cgroup, &err);
	if (r < 0) {
		printf("# skipped: no cgroup %s: %s\n", is_v1 ? "v1" : "v2", strerror(-r));
		return false;
	}
	if (!*cgroup_path)
		CHECK_EQ(atexit(remove_cgroup), 0);
	memcpy(cgroup_path, w->cgroup.path, sizeof(cgroup_path));
	parse(w);
	config.cmdline = w->cmd;
	config.cgroup = &w->cgroup;
	r = hf_guest_start(&config, &w->g, &err);
	if (r < 0 && r != -ENOENT)
		hf_test_fail(__FILE__, __LINE__, "cannot start: %s", err.text);
	if (r == 0)
		return true;
	printf("# skipped: %s\n", err.text);
	end(w);
	return false;
}

static uint32_t counter(struct world *w)
{
	uint32_t n;

	memcpy(&n, hf_guest_ram(w->g)->base + COUNTER, sizeof(n));
	return n;
}

static void await_count(struct world *w, uint32_t than)
{
	for (int left = PATIENCE_MS; counter(w) == than; left -= 10) {
		CHECK(left > 0);
		(void)usleep(10000);
	}
}

static void freeze(struct world *w)
{
	CHECK_EQ(hf_cgroup_freeze(&w->cgroup, true), 0);
	for (int left = PATIENCE_MS; hf_cgroup_is_frozen(&w->cgroup) != 1; left -= 10) {
		CHECK(left > 0);
		(void)usleep(10000);
	}
}

static void run(struct world *w)
{
	struct hf_qmp_command cont = { .name = "cont" };
	struct hf_err err = { "" };

	if (hf_qmp_wait(hf_guest_qmp(w->g), &cont, PATIENCE_MS, NULL, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "cont: %s", err.text);
	await_count(w, 0);
}

static void describe(struct world *w, struct hf_certificate *c)
{
	memset(c, 0, sizeof(*c));
	memcpy(c->vm, "vm1", 4);
	c->keeper = hf_process_id_of(getpid());
	c->qemu = hf_process_id_of(hf_guest_process(w->g)->pid);
	memcpy(c->cgroup, w->cgroup.path, sizeof(c->cgroup));
	c->cgroup_id = w->cgroup.id;
}

static void await_end(struct world *w)
{
	struct pollfd pfd = { .fd = hf_guest_process(w->g)->pidfd, .events = POLLIN };
	struct hf_process_exit exit_status;

	CHECK_EQ(poll(&pfd, 1, PATIENCE_MS), 1);
	CHECK_EQ(hf_process_reap(hf_guest_process(w->g), &exit_status), 0);
	CHECK(exit_status.is_signal);
	CHECK_EQ(exit_status.code, SIGKILL);
}

static void check_freeze(bool is_v1)
{
	struct hf_certificate c;
	struct world w;
	uint32_t n;

	if (!start(&w, is_v1))
		return;
	describe(&w, &c);
	CHECK_EQ(hf_frozen_verify(&c), 1); /* it only waits for `cont`: that is not enough */
	run(&w);
	CHECK_EQ(hf_frozen_verify(&c), 1);
	freeze(&w);
	n = counter(&w);
	if (hf_frozen_verify(&c) != 0)
		for (unsigned int i = 0; i < c.n_checks; i++)
			printf("# %d %s\n", c.check[i].is_ok, c.check[i].text);
	CHECK_EQ(hf_frozen_verify(&c), 0);
	(void)usleep(200000);
	CHECK_EQ(counter(&w), n);

	CHECK_EQ(hf_cgroup_kill(&w.cgroup), 0); /* v1 thaws it for that */
	await_end(&w);
	CHECK_EQ(counter(&w), n); /* and it did not run once more */
	CHECK_EQ(hf_frozen_verify(&c), 0);
	end(&w);
}

TEST(frozen_as_it_runs_v2)
{
	check_freeze(false);
}

TEST(frozen_as_it_runs_v1)
{
	check_freeze(true);
}

/* Where 64 MiB of a PC are: from 0 on, all in one. */
TEST(map_of_the_memory)
{
	struct hf_ram_part part[HF_CERTIFICATE_RAM_PARTS_MAX];
	struct world w;

	if (!start(&w, false) && !start(&w, true))
		return;
	CHECK_EQ(hf_guest_ram_parts(w.g, part, HF_CERTIFICATE_RAM_PARTS_MAX), 1);
	CHECK_EQ(part[0].address, 0);
	CHECK_EQ(part[0].bytes, RAM_BYTES);
	CHECK_EQ(part[0].offset, 0);
	CHECK_EQ(hf_guest_ram_parts(w.g, part, 0), 0);
	end(&w);
}

/* Its memory is there when it is not any more, and neither is who made it. */
TEST(memory_outlives_qemu)
{
	struct hf_certificate c;
	struct hf_procstat s;
	char path[64];
	struct world w;
	uint32_t n, kept = 0;
	pid_t holder;
	int fd;

	if (!start(&w, false) && !start(&w, true))
		return;
	run(&w);
	CHECK_EQ(hf_memholder_start(hf_guest_ram(w.g)->fd, "vm1", &holder, NULL), 0);
	freeze(&w);
	n = counter(&w);
	describe(&w, &c);
	CHECK_EQ(hf_guest_kill(w.g), 0);
	if (w.cgroup.is_v1)
		CHECK_EQ(hf_cgroup_kill(&w.cgroup), 0);
	await_end(&w);
	end(&w);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)holder, HF_MEMHOLDER_FD);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &kept, sizeof(kept), COUNTER), sizeof(kept));
	hf_fd_close(&fd);
	CHECK_EQ(hf_procstat_read(holder, 0, &s), 0);
	CHECK_EQ(hf_memholder_end(holder, s.start_ticks), 0);
	CHECK_EQ(kept, n);
}
