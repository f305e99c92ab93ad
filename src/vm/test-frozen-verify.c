/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The proof, with real processes in real cgroups: "QEMU" is a program that sleeps, or runs in a circle, with
 * descriptors that it was given. Each property is refuted by something that makes it untrue.
 */
#include "vm/test-frozen.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/process.h"
#include "sys/tap.h"

enum { P1 = 1, P2 = 2, P3 = 4 };

#define DEADLINE_MS 20000

static struct hf_cgroup cgroup = HF_CGROUP_NONE;

static void end_cgroup(void)
{
	if (cgroup.dir_fd < 0)
		return;
	(void)!hf_cgroup_kill(&cgroup);
	for (int left = DEADLINE_MS; left > 0 && hf_cgroup_is_empty(&cgroup) == 0; left -= 10)
		(void)usleep(10000);
	hf_cgroup_close(&cgroup, true);
}

static bool open_cgroup(bool is_v1)
{
	static bool is_registered;
	struct hf_err err = { "" };
	char folder[PATH_MAX], name[64];
	int r = hf_cgroup_own(is_v1, folder);

	if (!is_registered)
		CHECK_EQ(atexit(end_cgroup), 0);
	is_registered = true;
	end_cgroup();
	(void)snprintf(name, sizeof(name), "holdfast-verify-%d", (int)getpid());
	if (r == 0)
		r = hf_cgroup_open_in(folder, name, &cgroup, &err);
	if (r < 0)
		printf("# no cgroup %s here: %s %s\n", is_v1 ? "v1" : "v2", strerror(-r), err.text);
	return r == 0;
}

static bool open_any_cgroup(void)
{
	return open_cgroup(false) || open_cgroup(true);
}

static void freeze(bool is_wanted)
{
	CHECK_EQ(hf_cgroup_freeze(&cgroup, is_wanted), 0);
	for (int left = DEADLINE_MS; hf_cgroup_is_frozen(&cgroup) != is_wanted; left -= 10) {
		CHECK(left > 0);
		(void)usleep(10000);
	}
}

/* A child with our @fd as its descriptor 5, in the cgroup. */
static struct hf_process start(const char *script, int fd)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct hf_process_fd fds[1] = { { fd, 5 } };
	struct hf_process_spec spec = { .argv = argv,
					.fds = fds,
					.n_fds = fd >= 0,
					.has_cgroup = cgroup.dir_fd >= 0,
					.cgroup_procs_fd = hf_cgroup_procs_fd(&cgroup) };
	struct hf_process p = HF_PROCESS_NONE;
	struct hf_err err = { "" };

	if (hf_process_spawn(&spec, &p, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return p;
}

static void end(struct hf_process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };
	struct hf_process_exit e;

	(void)!hf_process_kill(p, SIGKILL);
	if (cgroup.is_v1)
		(void)!hf_cgroup_freeze(&cgroup, false);
	CHECK_EQ(poll(&pfd, 1, DEADLINE_MS), 1);
	CHECK_EQ(hf_process_reap(p, &e), 0);
	hf_process_close(p);
}

static void describe(struct hf_certificate *c, const struct hf_process *qemu)
{
	fill(c, "web", 1, false);
	c->keeper = hf_process_id_of(getpid());
	if (qemu)
		c->qemu = hf_process_id_of(qemu->pid);
	(void)snprintf(c->cgroup, sizeof(c->cgroup), "%s", cgroup.path);
	c->cgroup_id = cgroup.id;
}

static const struct hf_certificate_check *check_named(const struct hf_certificate *c,
						      const char *what)
{
	for (unsigned int i = 0; i < c->n_checks; i++)
		if (strcmp(c->check[i].what, what) == 0)
			return &c->check[i];
	hf_test_fail(__FILE__, __LINE__, "there is no check %s", what);
}

/* Holds one of these: @what is not ok and says so. */
static void refuted(struct hf_certificate *c, unsigned int want, const char *what, const char *text)
{
	CHECK_EQ(hf_frozen_verify(c), want);
	CHECK(!check_named(c, what)->is_ok);
	CHECK_CONTAINS(check_named(c, what)->text, text);
}

static void holds(struct hf_certificate *c)
{
	unsigned int r = hf_frozen_verify(c);

	for (unsigned int i = 0; i < c->n_checks; i++) {
		if (r)
			printf("# %s: %d, %s\n", c->check[i].what, c->check[i].is_ok,
			       c->check[i].text);
		CHECK(c->check[i].time_ns > 0);
	}
	CHECK_EQ(r, 0);
}

static void check_frozen(bool is_v1)
{
	struct hf_certificate c;
	struct hf_process p;

	if (!open_cgroup(is_v1))
		return;
	p = start("while :; do :; done", -1);
	describe(&c, &p);
	refuted(&c, P1, "qemu-cgroup-frozen", "is not frozen");
	freeze(true);
	holds(&c);
	CHECK_CONTAINS(check_named(&c, "qemu-threads-stopped")->text, "1 thread of QEMU");
	freeze(false);
	refuted(&c, P1, "qemu-cgroup-frozen", "is not frozen");
	freeze(true);
	c.cgroup_id++;
	refuted(&c, P1, "qemu-cgroup-frozen", "has been removed and made anew");
	c.cgroup[0] = '\0';
	refuted(&c, P1, "qemu-cgroup-frozen", "has no cgroup of its own");
	end(&p);
	holds(&c);
	CHECK_CONTAINS(check_named(&c, "qemu-dead")->text, "has ended");
}

TEST(frozen_v2)
{
	check_frozen(false);
}

TEST(frozen_v1)
{
	check_frozen(true);
}

/* It lives, and the cgroup is frozen, but is not its own. */
TEST(in_another_cgroup)
{
	struct hf_certificate c;
	struct hf_process other, p;
	struct hf_cgroup mine;

	if (!open_any_cgroup())
		return;
	mine = cgroup;
	cgroup = HF_CGROUP_NONE;
	p = start("exec sleep 1000", -1);
	cgroup = mine;
	other = start("exec sleep 1000", -1);
	freeze(true);
	describe(&c, &p);
	refuted(&c, P1, "qemu-threads-stopped", "is not in the cgroup");
	CHECK(check_named(&c, "qemu-cgroup-frozen")->is_ok);
	end(&other);
	end(&p);
}

/* Tells who it is, and sleeps. */
static void *sleep_on(void *arg)
{
	pid_t tid = gettid();

	if (arg)
		(void)!write(*(int *)arg, &tid, sizeof(tid));
	while (pause() < 0)
		continue;
	return NULL;
}

/* A process of two threads; ends with this one. */
static pid_t start_threads(pid_t *ret_tid)
{
	pthread_t thread;
	int fds[2];
	pid_t pid;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(fds[1], 3);
		fds[1] = 3;
		(void)close_range(4, ~0u, 0);
		(void)pthread_create(&thread, NULL, sleep_on, &fds[1]);
		(void)sleep_on(NULL);
	}
	hf_fd_close(&fds[1]);
	CHECK_EQ(read(fds[0], ret_tid, sizeof(*ret_tid)), sizeof(*ret_tid));
	hf_fd_close(&fds[0]);
	return pid;
}

static void write_number(int fd, pid_t number)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", (int)number);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
}

/* Only v1 lets a thread go elsewhere than its process: and then it runs on. */
TEST(one_thread_is_outside)
{
	struct hf_certificate c;
	char above[PATH_MAX];
	pid_t pid, tid = 0;
	int fd;

	if (!open_cgroup(true))
		return;
	pid = start_threads(&tid);
	write_number(hf_cgroup_procs_fd(&cgroup), pid);
	freeze(true);
	describe(&c, NULL);
	c.qemu = hf_process_id_of(pid);
	holds(&c);
	CHECK_CONTAINS(check_named(&c, "qemu-threads-stopped")->text, "2 threads of QEMU");

	freeze(false);
	CHECK(snprintf(above, sizeof(above), "%.*s/tasks",
		       (int)(strrchr(cgroup.path, '/') - cgroup.path), cgroup.path) > 0);
	fd = open(above, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	write_number(fd, tid);
	hf_fd_close(&fd);
	freeze(true);
	refuted(&c, P1, "qemu-threads-stopped", "is not in the cgroup");
	freeze(false);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

/* The proof about a frozen process that has @fd. */
static unsigned int verify_with(int fd, struct hf_certificate *c)
{
	struct hf_process p = start("exec sleep 1000", fd);
	unsigned int r;
	char found[128] = "";

	freeze(true);
	describe(c, &p);
	r = hf_frozen_verify(c);
	CHECK_EQ(hf_process_has_own_files(p.pid, -1, found, sizeof(found)), (r & P2) != 0);
	if (r & P2)
		CHECK_CONTAINS(found, "(descriptor 5)");
	CHECK_EQ(hf_process_has_own_files(p.pid, fd, found, sizeof(found)),
		 r & P2 && r & P3); /* devices count in any case */
	end(&p);
	freeze(false);
	return r;
}

TEST(files_of_its_own)
{
	struct hf_certificate c;
	char name[80];
	int fd;

	if (!open_any_cgroup())
		return;
	make_state_dir();
	(void)snprintf(name, sizeof(name), "%s/memfd:x", state_dir);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(verify_with(fd, &c), P2);
	CHECK_CONTAINS(check_named(&c, "qemu-own-files")->text, "/memfd:x (descriptor 5)");
	CHECK_EQ(unlink(name), 0); /* deleted is not closed */
	CHECK_EQ(verify_with(fd, &c), P2);
	hf_fd_close(&fd);

	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(verify_with(fd, &c), 0);
	hf_fd_close(&fd);
	fd = memfd_create("ram", MFD_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(verify_with(fd, &c), 0);
	hf_fd_close(&fd);
	CHECK_EQ(hf_process_has_own_files(c.qemu.pid, -1, name, sizeof(name)), -ESRCH);
}

TEST(devices_of_its_own)
{
	static const struct {
		const char *path;
		unsigned int want;
	} devices[] = {
		{ "/dev/null", 0 },
		{ "/dev/ptmx", 0 },
		{ "/dev/loop-control", P2 | P3 }, /* not on the list of the harmless */
		{ "/dev/loop0", P2 },
	};
	struct hf_certificate c;

	if (!open_any_cgroup())
		return;
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		int fd = open(devices[i].path, O_RDWR | O_NOCTTY | O_CLOEXEC);

		if (fd < 0)
			printf("# no %s here: %s\n", devices[i].path, strerror(errno));
		else
			CHECK_EQ(verify_with(fd, &c), devices[i].want);
		hf_fd_close(&fd);
	}
}

TEST(taps)
{
	struct hf_tap tap = HF_TAP_NONE;
	struct hf_certificate c;
	struct hf_err err = { "" };
	char name[16];

	(void)snprintf(name, sizeof(name), "hft%d", (int)getpid());
	if (!open_any_cgroup())
		return;
	if (hf_tap_open(name, &tap, &err) < 0) {
		printf("# %s\n", err.text);
		return;
	}
	CHECK_EQ(verify_with(tap.fd, &c), P2 | P3);
	CHECK_CONTAINS(check_named(&c, "qemu-own-devices")->text, "/dev/net/tun");
	describe(&c, NULL);
	holds(&c);
	CHECK_CONTAINS(check_named(&c, "taps-closed")->text, "it had no TAP interface");
	memcpy(c.net[0], "other", 6);
	c.n_nets = 1;
	holds(&c);
	memcpy(c.net[1], name, sizeof(name));
	c.n_nets = 2;
	refuted(&c, P3, "taps-closed", "its keeper");
	CHECK_CONTAINS(check_named(&c, "taps-closed")->text, name);
	hf_tap_close(&tap);
	holds(&c);
}

TEST(disk_process)
{
	struct hf_certificate c;
	struct hf_process p;

	end_cgroup();
	p = start("exec sleep 1000", -1);
	describe(&c, NULL);
	c.disks = hf_process_id_of(p.pid);
	refuted(&c, P2, "disk-process-dead", "lives");
	c.disks.start_ticks--; /* another one that had its number */
	holds(&c);
	c.disks.start_ticks++;
	c.boot_id[0] = c.boot_id[0] == '0' ? '1' : '0';
	holds(&c);
	c.boot_id[0] = '\0'; /* not known: it is taken for it */
	refuted(&c, P2, "disk-process-dead", "lives");
	end(&p);
	holds(&c);
}

TEST(what_qemu_had_started)
{
	struct hf_certificate c;
	struct hf_process p;

	if (!open_any_cgroup())
		return;
	p = start("sleep 1000 & exec sleep 1000", -1);
	describe(&c, &p);
	(void)usleep(50000);
	end(&p);
	if (hf_cgroup_is_empty(&cgroup) == 0) { /* the shell had come that far */
		refuted(&c, P1 | P2, "qemu-cgroup-quiet", "what QEMU had started still runs");
		freeze(true);
		holds(&c);
		CHECK_EQ(hf_cgroup_kill(&cgroup), 0);
	}
	for (int left = DEADLINE_MS; hf_cgroup_is_empty(&cgroup) == 0; left -= 10) {
		CHECK(left > 0);
		(void)usleep(10000);
	}
	freeze(false);
	holds(&c);
}

/* A keeper that died between its latch and its proof. */
static void check_finish(bool is_v1)
{
	struct hf_process qemu, disks;
	struct hf_certificate c;
	struct hf_err err = { "" };
	struct hf_frozen f;

	if (!open_cgroup(is_v1))
		return;
	make_state_dir();
	qemu = start("while :; do :; done", -1);
	disks = start("exec sleep 1000", -1);
	freeze(true);
	describe(&c, &qemu);
	c.disks = hf_process_id_of(disks.pid);
	c.keeper = hf_process_id_of(getppid());
	c.step[HF_FREEZE_LATCH].result = HF_FREEZE_DONE;
	c.step[HF_FREEZE_STOP].result = HF_FREEZE_BEGUN;
	c.ram = HF_REMAINS_PROCESS;
	c.ram_holder = c.disks; /* it dies, too: the memory is lost */
	write_one(&c);
	CHECK_EQ(hf_frozen_finish(state_dir, &c, &err), -EBUSY);
	CHECK_CONTAINS(err.text, "guards it: it has to be asked");
	CHECK(hf_process_id_is_alive(&c.qemu));

	c.keeper.start_ticks++;
	if (hf_frozen_finish(state_dir, &c, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	CHECK(!hf_process_id_is_alive(&c.qemu));
	CHECK(!hf_process_id_is_alive(&c.disks));
	CHECK_EQ(hf_frozen_find(state_dir, "web", NULL, &f, NULL), 0);
	CHECK(f.certificate.is_certified);
	CHECK(f.certificate.frozen_time_ns > 0);
	CHECK_EQ(f.certificate.ram, HF_REMAINS_NONE);
	CHECK_EQ(f.certificate.qemu_fate, HF_REMAINS_NONE);
	CHECK_EQ(f.certificate.step[HF_FREEZE_LATCH].result, HF_FREEZE_DONE);
	CHECK_EQ(f.certificate.step[HF_FREEZE_STOP].result, HF_FREEZE_FELL_BACK);
	CHECK_EQ(f.certificate.step[HF_FREEZE_LEASE].result, HF_FREEZE_FAILED);
	CHECK(check_named(&f.certificate, "qemu-dead")->is_ok);
	hf_frozen_fini(&f);
	end(&qemu);
	end(&disks);
}

TEST(finished_for_a_dead_keeper_v2)
{
	check_finish(false);
}

TEST(finished_for_a_dead_keeper_v1)
{
	check_finish(true);
}
