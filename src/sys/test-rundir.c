/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fd.h"
#include "sys/procstat.h"
#include "sys/rundir.h"
#include "sys/sock.h"

/* A fresh folder for one test; its caller removes it. */
static const char *scratch(char buf[64])
{
	(void)snprintf(buf, 64, "/tmp/hf-test-rundir.XXXXXX");
	CHECK(mkdtemp(buf) != NULL);
	return buf;
}

static unsigned int mode_of(const char *dir, const char *rest)
{
	char path[256];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, rest);
	CHECK_EQ(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

TEST(folder_lock_and_socket)
{
	char dir[64], path[256];
	struct hf_rundir r = HF_RUNDIR_NONE, second = HF_RUNDIR_NONE;
	struct hf_err err;
	mode_t before = umask(0);
	struct hf_peer peer;
	int client = -1, server = -1;

	(void)snprintf(path, sizeof(path), "%s/run", scratch(dir));
	CHECK_EQ(hf_rundir_open(path, "vm1", &r, &err), 0);
	CHECK_EQ(hf_rundir_listen(&r, &err), 0);
	CHECK_EQ(mode_of(path, "vm1"), 0700);
	CHECK_EQ(mode_of(path, "vm1/control"), 0600);
	CHECK_EQ(mode_of(path, "vm1/lock"), 0600);
	(void)umask(before);

	CHECK_EQ(hf_rundir_open(path, "vm1", &second, &err), -EBUSY);
	(void)snprintf(path, sizeof(path), "pid %d", (int)getpid());
	CHECK_CONTAINS(err.text, path);
	CHECK_CONTAINS(err.text, "'vm1' is running already");

	(void)snprintf(path, sizeof(path), "%s/run", dir);
	CHECK_EQ(hf_sock_accept(r.listen_fd, &server, NULL), HF_SOCK_PENDING);
	CHECK_EQ(hf_rundir_connect(path, "vm1", &client, &err), 0);
	CHECK_EQ(hf_sock_accept(r.listen_fd, &server, NULL), 0);
	CHECK_EQ(hf_sock_peer(server, &peer), 0);
	CHECK_EQ(peer.pid, getpid());
	hf_fd_close(&client);
	hf_fd_close(&server);

	hf_rundir_close(&r);
	hf_rundir_close(&r);
	CHECK_EQ(rmdir(path), 0); /* nothing was left in it */
	CHECK_EQ(rmdir(dir), 0);
}

TEST(what_a_killed_keeper_left_is_replaced)
{
	char dir[64];
	struct hf_rundir r = HF_RUNDIR_NONE;
	struct hf_err err;
	int pipe_fds[2], client = -1;
	char byte = 0;
	pid_t child;

	(void)scratch(dir);
	CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		byte = hf_rundir_open(dir, "vm1", &r, NULL) == 0 && hf_rundir_listen(&r, NULL) == 0;
		if (write(pipe_fds[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			(void)pause();
	}
	CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);
	CHECK_EQ(byte, 1);
	CHECK_EQ(hf_rundir_open(dir, "vm1", &r, &err), -EBUSY);
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK_EQ(hf_rundir_connect(dir, "vm1", &client, &err), -ESRCH);
	CHECK_CONTAINS(err.text, "no keeper for 'vm1'");
	CHECK_EQ(hf_rundir_open(dir, "vm1", &r, &err), 0);
	CHECK_STR(err.text, "");
	CHECK_EQ(hf_rundir_listen(&r, &err), 0);
	CHECK_EQ(hf_rundir_connect(dir, "vm1", &client, &err), 0);
	hf_fd_close(&client);
	hf_rundir_close(&r);
	CHECK_EQ(hf_rundir_connect(dir, "vm1", &client, &err), -ESRCH);
	CHECK_EQ(rmdir(dir), 0);
	hf_fd_close(&pipe_fds[0]);
	hf_fd_close(&pipe_fds[1]);
}

TEST(names_and_paths_that_cannot_be)
{
	char dir[64], path[256];
	struct hf_rundir r = HF_RUNDIR_NONE;
	struct hf_err err;
	int client = -1;

	(void)scratch(dir);
	CHECK_EQ(hf_rundir_open(dir, "../vm", &r, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "'../vm' is not a name");
	CHECK_EQ(hf_rundir_connect(dir, "", &client, &err), -EINVAL);
	CHECK_EQ(hf_rundir_open("/no/such/place", "vm", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.text, "/no/such/place/vm");
	(void)snprintf(path, sizeof(path), "%s/%.90s", dir,
		       "a123456789b123456789c123456789d123456789e123456789f123456789g123456789");
	CHECK_EQ(hf_rundir_open(path, "vm", &r, &err), 0);
	CHECK_EQ(hf_rundir_listen(&r, &err), -ENAMETOOLONG);
	CHECK_CONTAINS(err.text, "107 bytes");
	hf_rundir_close(&r);
	CHECK_EQ(rmdir(path), 0);
	CHECK_EQ(rmdir(dir), 0);
}

TEST(a_folder_that_is_a_link_or_too_open)
{
	char dir[64], path[256];
	struct hf_rundir r = HF_RUNDIR_NONE;
	struct hf_err err;

	(void)snprintf(path, sizeof(path), "%s/vm", scratch(dir));
	CHECK_EQ(symlink("/tmp", path), 0);
	CHECK(hf_rundir_open(dir, "vm", &r, &err) < 0);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK_EQ(chmod(path, 0777), 0);
	CHECK_EQ(hf_rundir_open(dir, "vm", &r, &err), 0);
	CHECK_EQ(mode_of(dir, "vm"), 0700);
	hf_rundir_close(&r);
	if (geteuid() == 0) {
		CHECK_EQ(mkdir(path, 0700), 0);
		CHECK_EQ(chown(path, 12345, 12345), 0);
		CHECK_EQ(hf_rundir_open(dir, "vm", &r, &err), -EPERM);
		CHECK_CONTAINS(err.text, "user 12345");
		CHECK_EQ(rmdir(path), 0);
	}
	CHECK_EQ(rmdir(dir), 0);
}

TEST(children_are_known_as_long_as_they_live)
{
	char dir[64], path[256];
	struct hf_rundir r = HF_RUNDIR_NONE;
	struct hf_err err;
	uint64_t ticks = 0;
	pid_t child = fork(), pid = 0;

	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	(void)snprintf(path, sizeof(path), "%s/vm/disks.pid", scratch(dir));
	CHECK_EQ(hf_rundir_open(dir, "vm", &r, &err), 0);
	CHECK_EQ(hf_rundir_noted(dir, "vm", HF_RUNDIR_DISKS, &pid, &ticks), -ENOENT);
	CHECK_EQ(hf_rundir_note(&r, HF_RUNDIR_QEMU, getpid()), 0);
	CHECK_EQ(hf_rundir_note(&r, HF_RUNDIR_QEMU, child), 0);
	CHECK_EQ(hf_rundir_note(&r, HF_RUNDIR_DISKS, child), 0);
	CHECK_EQ(hf_rundir_noted(dir, "vm", HF_RUNDIR_DISKS, &pid, &ticks), 0);
	CHECK_EQ(pid, child);
	CHECK(hf_procstat_is_alive(pid, ticks));
	hf_rundir_close(&r);
	CHECK_EQ(hf_rundir_noted(dir, "vm", HF_RUNDIR_QEMU, &pid, &ticks), 0);
	CHECK_EQ(pid, child);
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK(!hf_procstat_is_alive(pid, ticks));
	CHECK_EQ(hf_rundir_note(&r, HF_RUNDIR_DISKS, child), -ESRCH);
	CHECK_EQ(hf_rundir_open(dir, "vm", &r, &err), 0);
	CHECK_EQ(truncate(path, 3), 0);
	CHECK_EQ(hf_rundir_noted(dir, "vm", HF_RUNDIR_DISKS, &pid, &ticks), -EBADMSG);
	hf_rundir_close(&r);
	CHECK_EQ(hf_rundir_noted(dir, "vm", HF_RUNDIR_QEMU, &pid, &ticks), -ENOENT);
	CHECK_EQ(rmdir(dir), 0);
}

TEST(an_instance_that_is_set_apart_leaves_its_name_free)
{
	struct hf_rundir frozen = HF_RUNDIR_NONE;
	struct hf_rundir fresh = HF_RUNDIR_NONE;
	struct hf_err err;
	char dir[64];
	int client = -1;

	(void)scratch(dir);
	CHECK_EQ(hf_rundir_open(dir, "vm", &frozen, &err), 0);
	CHECK_EQ(hf_rundir_listen(&frozen, &err), 0);
	CHECK_EQ(hf_rundir_rename(&frozen, "../x", &err), -EINVAL);
	CHECK_EQ(hf_rundir_rename(&frozen, "0123abcd", &err), 0);
	CHECK_EQ(hf_rundir_open(dir, "vm", &fresh, &err), 0);
	CHECK_EQ(hf_rundir_connect(dir, "vm", &client, &err), -ESRCH);
	CHECK_EQ(hf_rundir_connect(dir, "vm@0123abcd", &client, &err), 0);
	hf_fd_close(&client);
	CHECK_EQ(hf_rundir_connect(dir, "vm@0123", &client, &err), -EINVAL);
	hf_rundir_close(&frozen);
	hf_rundir_close(&fresh);
	CHECK_EQ(rmdir(dir), 0);
}
