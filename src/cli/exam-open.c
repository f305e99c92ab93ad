/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/exam.h"
#include "codec/json.h"
#include "sys/fd.h"

static int open_state(struct hf_exam *x, struct hf_err *err)
{
	const struct hf_certificate *c = &x->frozen.certificate;
	char path[PATH_MAX + 16];
	int r;

	if (c->device_state != HF_REMAINS_FILE) {
		(void)snprintf(x->why_no_state, sizeof(x->why_no_state),
			       "its device state was not saved: %.200s",
			       c->step[HF_FREEZE_STATE].text[0] ? c->step[HF_FREEZE_STATE].text
								: "QEMU could not do it any more");
		return 0;
	}
	(void)snprintf(path, sizeof(path), "%s/device-state", x->frozen.path);
	x->state_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (x->state_fd >= 0)
		return 0;
	r = -errno;
	hf_err_set(err, "%.400s: %s", path, strerror(-r));
	return r;
}

/* Paths of the command line may be relative; what cannot be found there QEMU will complain of. */
static void enter_folder(const struct hf_certificate *c)
{
	char path[64];
	bool is_there = c->cwd[0] && chdir(c->cwd) == 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/cwd", (int)c->keeper.pid);
	if (!is_there && hf_process_id_is_alive(&c->keeper))
		(void)!chdir(path);
}

int hf_exam_open(const char *verb, const char *state_dir, const struct hf_instance *instance,
		 struct hf_exam *ret, struct hf_err *err)
{
	int r;

	*ret = (struct hf_exam){
		.verb = verb, .instance = *instance, .ram_fd = -1, .state_fd = -1
	};
	r = hf_frozen_find(state_dir, instance->vm, instance->id, &ret->frozen, err);
	if (r < 0)
		return r;
	ret->is_found = true;
	(void)snprintf(ret->instance.id, sizeof(ret->instance.id), "%s", ret->frozen.id);
	if (!ret->frozen.is_readable) {
		hf_err_set(err, "%s@%s cannot be examined: %s", instance->vm, ret->frozen.id,
			   ret->frozen.trouble);
		return -EBADMSG;
	}
	if (!ret->frozen.certificate.is_certified) {
		hf_err_set(err,
			   "%s@%s is not frozen yet: wait for the end of that, or start it with "
			   "`holdfast start`",
			   instance->vm, ret->frozen.id);
		return -EBUSY;
	}
	r = hf_frozen_open_ram(&ret->frozen, &ret->ram_fd, err);
	if (!r)
		r = open_state(ret, err);
	if (!r)
		enter_folder(&ret->frozen.certificate);
	return r;
}

int hf_exam_work_dir(struct hf_exam *x, struct hf_err *err)
{
	const char *temp = getenv("TMPDIR");
	int r;

	if (x->work_dir[0])
		return 0;
	if (!temp || temp[0] != '/' || strlen(temp) > 40)
		temp = "/var/tmp"; /* sockets have names of 107 bytes at most */
	(void)snprintf(x->work_dir, sizeof(x->work_dir), "%s/holdfast-%s.XXXXXX", temp, x->verb);
	if (mkdtemp(x->work_dir))
		return 0;
	r = -errno;
	x->work_dir[0] = '\0';
	hf_err_set(err, "cannot make a folder in %s: %s", temp, strerror(-r));
	return r;
}

int hf_exam_revive(struct hf_exam *x, int console_fd, int gdb_fd, hf_qmp_event *on_event, void *ctx,
		   struct hf_err *err)
{
	const char *box[] = { "/proc/self/exe", "exam-box", x->work_dir, NULL };
	struct hf_revive_config config = {
		.certificate = &x->frozen.certificate,
		.ram_fd = x->ram_fd,
		.state_fd = x->state_fd,
		.work_dir = x->work_dir,
		.box = box,
		.console_fd = console_fd,
		.gdb_fd = gdb_fd,
		.on_event = on_event,
		.ctx = ctx,
	};
	int r;

	if (x->state_fd < 0) {
		hf_err_set(err, "%s", x->why_no_state);
		return -ENODATA;
	}
	r = hf_exam_work_dir(x, err);
	return r ? r : hf_revive(&config, &x->revived, err);
}

/* Sockets, and what a program that was killed has left there. */
static void remove_work_dir(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			(void)unlinkat(dirfd(dir), d->d_name, 0);
	if (dir)
		(void)closedir(dir);
	(void)rmdir(path);
}

void hf_exam_close(struct hf_exam *x)
{
	hf_revive_end(x->revived);
	x->revived = NULL;
	if (x->work_dir[0])
		remove_work_dir(x->work_dir);
	hf_fd_close(&x->ram_fd);
	hf_fd_close(&x->state_fd);
	if (x->is_found)
		hf_frozen_fini(&x->frozen);
	x->is_found = false;
}

/* ---- what they share at the terminal ---- */

int hf_exam_take_signals(void)
{
	sigset_t set;
	int fd;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

bool hf_exam_is_called_off(int signal_fd)
{
	struct pollfd pfd = { .fd = signal_fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

void hf_exam_show_progress(const char *what, uint64_t done, uint64_t total)
{
	static int last = -1;
	int percent = total ? (int)((double)done * 100.0 / (double)total) : -1;

	if (!isatty(STDERR_FILENO) || percent == last)
		return;
	last = percent;
	if (total)
		(void)fprintf(stderr, "\r%s: %d %%", what, percent > 100 ? 100 : percent);
	else
		(void)fputs("\r\033[K", stderr);
	(void)fflush(stderr);
}

int hf_exam_follow(struct hf_client *c, const char *what, struct hf_err *err)
{
	struct json_object *reply;
	uint64_t done, total;
	int r;

	do {
		reply = NULL;
		r = hf_client_reply(c, &reply, err);
		if (!r && hf_json_u64(reply, "done_bytes", &done, NULL) == 0 &&
		    hf_json_u64(reply, "total_bytes", &total, NULL) == 0 && total)
			hf_exam_show_progress(what, done, total);
		json_object_put(reply);
	} while (!r && c->is_continued);
	hf_exam_show_progress(what, 0, 0);
	return r;
}
