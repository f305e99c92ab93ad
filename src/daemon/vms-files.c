/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the file system tells: definitions, the folders of keepers, frozen instances. One inotify
 * descriptor for all; nothing is looked at without a cause. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/text.h"
#include "daemon/vmlink.h"
#include "daemon/vms.h"
#include "sys/fd.h"

#define SETTLE_NS 100000000ull /* an editor writes a file in several steps */

/* ---- definitions ---- */

/* "web.conf" -> "web"; false: no definition's name. */
static bool take_name(const char *file, char *name)
{
	size_t n = strlen(file);

	if (n < 6 || n - 5 > HF_NAME_MAX || strcmp(file + n - 5, ".conf") != 0)
		return false;
	(void)snprintf(name, HF_NAME_MAX + 1, "%.*s", (int)(n - 5), file);
	return hf_is_valid_name(name);
}

static void read_definition(struct hf_daemon *d, struct hf_vms_vm *vm)
{
	struct hf_err err = { "" };
	struct hf_vmfile file;
	int r = hf_vmfile_read(d->conf.vms, vm->name, d->conf.name, &file, &err);

	hf_vms_take_definition(vm, r, &file, &err);
}

unsigned int hf_vms_check_files(const struct hf_hostconf *conf, FILE *to)
{
	DIR *folder = opendir(conf->vms);
	char name[HF_NAME_MAX + 1];
	unsigned int n_wrong = 0;
	const struct dirent *e;
	struct hf_vmfile file;

	while (folder && (e = readdir(folder))) {
		struct hf_err err = { "" };

		if (!take_name(e->d_name, name) ||
		    hf_vmfile_read(conf->vms, name, conf->name, &file, &err) == 0)
			continue;
		(void)fprintf(to, "%s\n", err.text);
		n_wrong++;
	}
	if (folder)
		(void)closedir(folder);
	return n_wrong;
}

static void add_new(struct hf_daemon *d)
{
	DIR *folder = opendir(d->conf.vms);
	char name[HF_NAME_MAX + 1];
	const struct dirent *e;

	while (folder && (e = readdir(folder)))
		if (take_name(e->d_name, name))
			(void)hf_vms_get(d, name);
	if (folder)
		(void)closedir(folder);
}

static void watch_folder(struct hf_daemon *d)
{
	if (d->vms->file_wd < 0)
		d->vms->file_wd = inotify_add_watch(d->vms->inotify_fd, d->conf.vms,
						    IN_CLOSE_WRITE | IN_MOVE | IN_DELETE |
							    IN_ONLYDIR);
}

void hf_vms_reload(struct hf_daemon *d)
{
	watch_folder(d);
	add_new(d);
	for (struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next)
		read_definition(d, vm);
	if (d->vms->hooks.reloaded)
		d->vms->hooks.reloaded(d);
}

static void on_settled(void *ctx)
{
	hf_vms_reload(ctx);
}

/* ---- keepers ---- */

static pid_t read_pid(const char *lock)
{
	char text[32] = "";
	int fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	hf_fd_close(&fd);
	return (pid_t)strtol(text, NULL, 10);
}

/* Its lock file is open in it: a process of the same id that is another one has it not. */
static bool has_open(pid_t pid, const char *path)
{
	char folder[48], target[PATH_MAX];
	const struct dirent *e;
	bool is_found = false;
	ssize_t n;
	DIR *fds;

	(void)snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
	fds = opendir(folder);
	while (fds && !is_found && (e = readdir(fds))) {
		n = readlinkat(dirfd(fds), e->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		is_found = strcmp(target, path) == 0;
	}
	if (fds)
		(void)closedir(fds);
	return is_found;
}

/* "web" or "web@1a2b3c4d": a folder of a keeper, or what one that was killed has left. */
static void look_at_folder(struct hf_daemon *d, const char *folder)
{
	char name[HF_NAME_MAX + 1], id[HF_VMLINK_ID + 1] = "";
	char lock[PATH_MAX], real[PATH_MAX];
	size_t n = strcspn(folder, "@");
	struct hf_vms_vm *vm;
	pid_t pid;

	if (n > HF_NAME_MAX || strlen(folder + n) > HF_VMLINK_ID)
		return;
	(void)snprintf(name, sizeof(name), "%.*s", (int)n, folder);
	if (folder[n])
		(void)snprintf(id, sizeof(id), "%s", folder + n + 1);
	if (!hf_is_valid_name(name))
		return;
	vm = hf_vms_find(d, name);
	if (vm && !id[0])
		hf_vms_watch_vm(vm);
	(void)snprintf(lock, sizeof(lock), "%s/%s/lock", d->conf.run_dir, folder);
	pid = read_pid(lock);
	if (pid <= 0 || !realpath(lock, real) || !has_open(pid, real))
		return;
	vm = hf_vms_get(d, name);
	if (!vm)
		return;
	hf_vms_watch_vm(vm);
	hf_vms_found(vm, id, pid);
}

void hf_vms_look_for_keeper(struct hf_vms_vm *vm)
{
	look_at_folder(vm->d, vm->name);
}

void hf_vms_look_for_keepers(struct hf_daemon *d)
{
	DIR *folder = opendir(d->conf.run_dir);
	const struct dirent *e;

	while (folder && (e = readdir(folder)))
		if (e->d_name[0] != '.')
			look_at_folder(d, e->d_name);
	if (folder)
		(void)closedir(folder);
}

/* ---- frozen instances ---- */

static void frozen_folder(const struct hf_vms_vm *vm, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s/%s/frozen",
		       vm->file.state_dir[0] ? vm->file.state_dir : vm->d->conf.state_dir,
		       vm->name);
}

/* What cannot be read now has not gone: nothing is started beside it for that. */
void hf_vms_look_for_frozen(struct hf_vms_vm *vm)
{
	unsigned int before = vm->n_frozen;
	char path[PATH_MAX + 80];
	const struct dirent *e;
	DIR *folder;

	frozen_folder(vm, path, sizeof(path));
	folder = opendir(path);
	if (!folder && errno != ENOENT)
		return;
	vm->n_frozen = 0;
	while (folder && (e = readdir(folder)) && vm->n_frozen < HF_VMS_FROZEN_MAX)
		if (e->d_name[0] != '.' && strlen(e->d_name) <= HF_VMLINK_ID)
			(void)snprintf(vm->frozen[vm->n_frozen++], sizeof(vm->frozen[0]), "%s",
				       e->d_name);
	if (folder)
		(void)closedir(folder);
	if (vm->n_frozen != before)
		(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_FROZEN,
								   .count = vm->n_frozen });
}

/* ---- watching ---- */

/* Again and again the same: the kernel knows a folder that is watched already. */
void hf_vms_watch_vm(struct hf_vms_vm *vm)
{
	int fd = vm->d->vms->inotify_fd;
	char path[PATH_MAX + 80];

	(void)snprintf(path, sizeof(path), "%s/%s", vm->d->conf.run_dir, vm->name);
	vm->run_wd = inotify_add_watch(fd, path, IN_CREATE | IN_MODIFY | IN_ONLYDIR);
	frozen_folder(vm, path, sizeof(path));
	vm->frozen_wd = inotify_add_watch(fd, path, IN_CREATE | IN_MOVE | IN_DELETE | IN_ONLYDIR);
}

static void definitions_changed(struct hf_daemon *d)
{
	hf_timer_set(&d->vms->reload_timer, &d->loop, hf_now_ns() + SETTLE_NS, on_settled, d);
}

static void vm_changed(struct hf_daemon *d, int wd, const char *what)
{
	struct hf_vms_vm *vm = d->vms->first;

	while (vm && vm->run_wd != wd && vm->frozen_wd != wd)
		vm = vm->next;
	if (!vm)
		return;
	if (vm->frozen_wd == wd)
		hf_vms_look_for_frozen(vm);
	else if (strcmp(what, "control") == 0 || strcmp(what, "lock") == 0)
		look_at_folder(d, vm->name);
}

/* The folder is made with the first assignment. */
static void watch_assigned(struct hf_daemon *d)
{
	char path[PATH_MAX + 16];

	(void)snprintf(path, sizeof(path), "%s/" HF_ASSIGNMENT_DIR, d->conf.run_dir);
	d->vms->assigned_wd = inotify_add_watch(d->vms->inotify_fd, path,
						IN_MOVED_TO | IN_DELETE | IN_ONLYDIR);
}

static void assigned_changed(struct hf_daemon *d, const char *name)
{
	struct hf_vms_vm *vm = name[0] != '.' ? hf_vms_find(d, name) : NULL;

	if (vm)
		hf_vms_read_assignment(vm);
}

static void run_dir_changed(struct hf_daemon *d, const char *name)
{
	if (strcmp(name, HF_ASSIGNMENT_DIR) == 0) {
		watch_assigned(d);
		hf_vms_read_assignments(d);
	} else if (name[0] && name[0] != '.') {
		look_at_folder(d, name);
	}
}

static void take_event(struct hf_daemon *d, const struct inotify_event *e)
{
	const char *name = e->len ? e->name : "";

	if (e->mask & IN_Q_OVERFLOW) {
		definitions_changed(d);
		hf_vms_look_for_keepers(d);
		hf_vms_read_assignments(d);
		for (struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next)
			hf_vms_look_for_frozen(vm);
	} else if (e->wd == d->vms->file_wd) {
		if (e->mask & IN_IGNORED)
			d->vms->file_wd = -1;
		definitions_changed(d);
	} else if (e->wd == d->vms->run_wd) {
		run_dir_changed(d, name);
	} else if (e->wd == d->vms->assigned_wd && d->vms->assigned_wd >= 0) {
		if (e->mask & IN_IGNORED)
			d->vms->assigned_wd = -1;
		assigned_changed(d, name);
	} else if (!(e->mask & IN_IGNORED)) {
		vm_changed(d, e->wd, name);
	}
}

static uint32_t wanted(void *ctx __attribute__((unused)))
{
	return EPOLLIN;
}

static void ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_daemon *d = ctx;
	char buffer[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(d->vms->inotify_fd, buffer, sizeof(buffer));

	for (ssize_t at = 0; at < n;) {
		struct inotify_event e;

		memcpy(&e, buffer + at, sizeof(e));
		take_event(d, (const struct inotify_event *)(const void *)(buffer + at));
		at += (ssize_t)(sizeof(e) + e.len);
	}
}

int hf_vms_watch_open(struct hf_daemon *d, struct hf_err *err)
{
	struct hf_vms *v = d->vms;
	int r;

	v->file_wd = -1;
	v->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (v->inotify_fd < 0) {
		r = -errno;
		hf_err_set(err, "cannot watch folders: %s", strerror(-r));
		return r;
	}
	v->run_wd = inotify_add_watch(v->inotify_fd, d->conf.run_dir,
				      IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
	watch_assigned(d);
	return hf_watch_add(&v->watch, &d->loop, v->inotify_fd, HF_PRIORITY_CONTROL, wanted, ready,
			    d);
}

void hf_vms_watch_close(struct hf_daemon *d)
{
	hf_watch_remove(&d->vms->watch);
	hf_timer_fini(&d->vms->reload_timer);
	hf_fd_close(&d->vms->inotify_fd);
}
