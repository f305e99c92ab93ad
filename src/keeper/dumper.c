/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/dumper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/json.h"
#include "keeper/keeper.h"
#include "service/varlink-server.h"
#include "service/worker.h"
#include "sys/fd.h"
#include "sys/sparsefile.h"

#define ERROR_NOT_POSSIBLE "org.holdfast.Keeper.NotPossible"
#define HEAD_ROOM_BYTES ((uint64_t)16 << 20)
#define QUIET_TRY_NS 5000000ull
#define QUIET_MAX_NS 10000000000ull
#define PROGRESS_NS 200000000ull

enum step { STEP_OPEN, STEP_QUIET, STEP_QEMU, STEP_KEEP };

/* What the worker has to itself: it may outlive the dump, if storage hangs. */
struct job {
	struct hf_dumper *dumper; /* for the loop alone */
	char file[PATH_MAX];
	char part[PATH_MAX]; /* "": there is none */
	uint64_t bytes;
	bool is_forced;
	bool is_keeping;
	int fd;
	struct hf_err err;
};

struct hf_dumper {
	struct hf_keeper *k;
	struct hf_varlink_request *rq; /* NULL: its client is gone */
	enum step step;
	char format[16];
	bool is_held; /* the role begins nothing with the guest */
	bool was_running;
	uint64_t began_ns;
	struct hf_timer timer;
	struct hf_worker *worker;
	struct job *job;
};

/* ---- the worker's part ---- */

static int complain(struct job *j, const char *path, int r)
{
	if (!j->err.text[0])
		hf_err_set(&j->err, "%.400s: %s", path, strerror(-r));
	return r;
}

static int open_file(struct job *j)
{
	char folder[PATH_MAX];
	struct stat st;
	int r;

	(void)snprintf(folder, sizeof(folder), "%s", j->file);
	strrchr(folder, '/')[1] = '\0';
	if (stat(j->file, &st) == 0 && (!S_ISREG(st.st_mode) || !j->is_forced)) {
		hf_err_set(&j->err,
			   S_ISREG(st.st_mode) ? "%.300s is there already; --force overwrites it"
					       : "%.300s is there, and is no file",
			   j->file);
		return -EEXIST;
	}
	r = hf_sparse_check_space(folder, j->bytes + HEAD_ROOM_BYTES, &j->err);
	if (r < 0)
		return r;
	if (snprintf(j->part, sizeof(j->part), "%s.part-%d", j->file, (int)getpid()) >=
	    (int)sizeof(j->part)) {
		j->part[0] = '\0';
		return complain(j, j->file, -ENAMETOOLONG);
	}
	j->fd = open(j->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j->fd >= 0)
		return 0;
	r = -errno;
	complain(j, j->part, r);
	j->part[0] = '\0';
	return r;
}

static int keep_file(struct job *j)
{
	if (fsync(j->fd) < 0)
		return complain(j, j->part, -errno);
	if (renameat2(AT_FDCWD, j->part, AT_FDCWD, j->file, j->is_forced ? 0 : RENAME_NOREPLACE) <
	    0)
		return complain(j, j->file, -errno);
	j->part[0] = '\0';
	return 0;
}

static int run_job(void *ctx)
{
	struct job *j = ctx;

	return j->is_keeping ? keep_file(j) : open_file(j);
}

/* Removing a name does not wait for what was written. */
static void free_job(void *ctx)
{
	struct job *j = ctx;

	if (!j)
		return;
	hf_fd_close(&j->fd);
	if (j->part[0])
		(void)unlink(j->part);
	free(j);
}

/* ---- how it ends ---- */

static void forget_client(void *data)
{
	struct hf_dumper *d = data;

	d->rq = NULL;
}

static void answer(struct hf_dumper *d, const char *why)
{
	struct hf_varlink_request *rq = d->rq;

	d->rq = NULL;
	if (!rq)
		return;
	hf_varlink_request_watch(rq, NULL, NULL);
	if (why)
		hf_varlink_refuse(rq, ERROR_NOT_POSSIBLE, why);
	else
		hf_varlink_done(rq, NULL);
}

static void free_dumper(struct hf_dumper *d)
{
	hf_timer_fini(&d->timer);
	if (d->worker)
		hf_worker_abandon(d->worker);
	else
		free_job(d->job);
	free(d);
}

/* @why: NULL: it is done. */
static void end(struct hf_dumper *d, const char *why)
{
	struct hf_keeper *k = d->k;
	bool is_held = d->is_held;

	if (why)
		hf_event(&k->journal, "dump-failed", NULL, "the dump was not written: %s", why);
	else
		hf_event(&k->journal, "dumped", NULL, "the VM's memory is in %s", d->job->file);
	answer(d, why);
	k->dumper = NULL;
	free_dumper(d);
	if (is_held && k->ops->hold)
		(void)k->ops->hold(k->role, /* is_held= */ false);
}

/* ---- by QEMU ---- */

static void on_query(void *ctx, struct json_object *ret, const char *error_class,
		     const char *error_desc __attribute__((unused)))
{
	struct hf_keeper *k = ctx;
	uint64_t done, total;
	struct json_object *o;

	if (error_class || !k->dumper || !k->dumper->rq ||
	    !hf_varlink_request_has_more(k->dumper->rq) ||
	    hf_json_u64(ret, "completed", &done, NULL) < 0 ||
	    hf_json_u64(ret, "total", &total, NULL) < 0)
		return;
	o = json_object_new_object();
	json_object_object_add(o, "done_bytes", json_object_new_uint64(done));
	json_object_object_add(o, "total_bytes", json_object_new_uint64(total));
	hf_varlink_continue(k->dumper->rq, o);
}

static void on_progress(void *ctx)
{
	struct hf_dumper *d = ctx;

	if (d->step == STEP_QEMU)
		(void)!hf_qmp_call(hf_guest_qmp(d->k->guest), "query-dump", NULL, on_query, d->k);
	hf_timer_set(&d->timer, &d->k->loop, hf_now_ns() + PROGRESS_NS, on_progress, d);
}

static void on_ordered(void *ctx, struct json_object *ret __attribute__((unused)),
		       const char *error_class, const char *error_desc)
{
	struct hf_keeper *k = ctx;

	if (error_class && k->dumper && k->dumper->step == STEP_QEMU)
		end(k->dumper, error_desc);
}

static void order_qemu(struct hf_dumper *d)
{
	struct hf_qmp_command getfd = { .name = "getfd",
					.arguments_text = "{\"fdname\":\"holdfast-dump\"}",
					.has_fd = true,
					.fd = d->job->fd,
					.on_reply = on_ordered,
					.ctx = d->k };
	struct hf_qmp_command dump = { .name = "dump-guest-memory",
				       .on_reply = on_ordered,
				       .ctx = d->k };
	struct hf_qmp *qmp = hf_guest_qmp(d->k->guest);
	char text[160];
	int r;

	(void)snprintf(text, sizeof(text),
		       "{\"paging\":false,\"protocol\":\"fd:holdfast-dump\",\"detach\":true,"
		       "\"format\":\"%s\"}",
		       d->format);
	dump.arguments_text = text;
	d->step = STEP_QEMU;
	d->was_running = d->k->is_guest_running;
	r = hf_qmp_submit(qmp, &getfd);
	if (!r)
		r = hf_qmp_submit(qmp, &dump);
	if (r < 0)
		end(d, strerror(-r));
	else
		on_progress(d);
}

static void try_quiet(void *ctx)
{
	struct hf_dumper *d = ctx;

	d->step = STEP_QUIET;
	d->is_held = true;
	if (!d->rq)
		end(d, "it was called off");
	else if (d->k->ops->hold(d->k->role, /* is_held= */ true))
		order_qemu(d);
	else if (hf_now_ns() - d->began_ns > QUIET_MAX_NS)
		end(d, "the checkpoint that is under way does not end");
	else
		hf_timer_set(&d->timer, &d->k->loop, hf_now_ns() + QUIET_TRY_NS, try_quiet, d);
}

/* ---- the order ---- */

static void on_job_done(void *ctx, int result)
{
	struct job *j = ctx;
	struct hf_dumper *d = j->dumper;

	d->worker = NULL;
	if (result < 0)
		end(d, j->err.text[0] ? j->err.text : strerror(-result));
	else if (j->is_keeping)
		end(d, NULL);
	else
		try_quiet(d);
}

static void start_job(struct hf_dumper *d)
{
	int r = hf_worker_start(&d->k->loop, run_job, on_job_done, free_job, d->job, &d->worker);

	if (r < 0) {
		d->worker = NULL;
		end(d, strerror(-r));
	}
}

static bool is_format(const char *text)
{
	static const char *const known[] = { "elf", "kdump-zlib", "kdump-lzo", "kdump-snappy" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], text) == 0)
			return true;
	return false;
}

static int read_wishes(const struct json_object *p, struct hf_dumper *d, struct hf_err *err)
{
	const char *file, *format = "elf";
	int r = hf_json_str(p, "file", &file, err);

	if (!r && hf_json_has(p, "format"))
		r = hf_json_str(p, "format", &format, err);
	if (!r && hf_json_has(p, "force"))
		r = hf_json_bool(p, "force", &d->job->is_forced, err);
	if (r < 0)
		return r;
	if (file[0] != '/' || strlen(file) >= sizeof(d->job->file)) {
		hf_err_set(err, "file: an absolute path is wanted");
		return -EINVAL;
	}
	if (!is_format(format)) {
		hf_err_set(err,
			   "format: '%.40s' cannot be had of a VM that runs; elf, kdump-zlib, "
			   "kdump-lzo or kdump-snappy can",
			   format);
		return -EINVAL;
	}
	(void)snprintf(d->job->file, sizeof(d->job->file), "%s", file);
	(void)snprintf(d->format, sizeof(d->format), "%s", format);
	return 0;
}

static int may_dump(struct hf_keeper *k, bool is_forced, struct hf_err *err)
{
	if (!k->ops || !k->ops->hold)
		hf_err_set(err, "this is the standby: the VM is to be dumped where it runs");
	else if (k->dumper)
		hf_err_set(err, "a dump of the VM is being written already");
	else if (k->saver || k->freezer)
		hf_err_set(err, "the VM is being saved or frozen");
	else if (k->ops->has_standby && k->ops->has_standby(k->role) && !is_forced)
		hf_err_set(err,
			   "the VM is protected, and what it sends would be held for as long as "
			   "the dump takes; --force does that");
	else
		return 0;
	return -EPERM;
}

static struct hf_dumper *new_dumper(struct hf_keeper *k)
{
	struct hf_dumper *d = calloc(1, sizeof(*d));
	struct job *j = calloc(1, sizeof(*j));

	if (!d || !j) {
		free(d);
		free(j);
		return NULL;
	}
	d->k = k;
	d->job = j;
	d->began_ns = hf_now_ns();
	j->dumper = d;
	j->fd = -1;
	j->bytes = hf_guest_identity(k->guest)->ram_bytes;
	return d;
}

void hf_dumper_order(struct hf_keeper *k, struct hf_varlink_request *rq,
		     struct json_object *parameters)
{
	struct hf_dumper *d = k->guest ? new_dumper(k) : NULL;
	struct hf_err err = { "" };

	if (!d) {
		hf_varlink_refuse(rq, ERROR_NOT_POSSIBLE, k->guest ? "no memory" : "QEMU is gone");
		return;
	}
	if (read_wishes(parameters, d, &err) < 0)
		hf_varlink_invalid(rq, &err);
	else if (may_dump(k, d->job->is_forced, &err) < 0)
		hf_varlink_refuse(rq, ERROR_NOT_POSSIBLE, err.text);
	else {
		d->rq = rq;
		k->dumper = d;
		hf_varlink_request_watch(rq, forget_client, d);
		hf_event(&k->journal, "dumping", NULL,
			 "the VM's memory is written to %s: it stands still meanwhile",
			 d->job->file);
		start_job(d);
		return;
	}
	free_dumper(d);
}

void hf_dumper_qmp_event(struct hf_keeper *k, const char *name, struct json_object *data)
{
	struct hf_dumper *d = k->dumper;
	struct json_object *result;
	const char *text;

	if (!d || d->step != STEP_QEMU || strcmp(name, "DUMP_COMPLETED") != 0)
		return;
	if (hf_json_str(data, "error", &text, NULL) == 0) {
		end(d, text);
	} else if (hf_json_obj(data, "result", &result, NULL) < 0 ||
		   hf_json_str(result, "status", &text, NULL) < 0 ||
		   strcmp(text, "completed") != 0) {
		end(d, "QEMU did not complete it");
	} else if (!d->rq) {
		end(d, "it was called off");
	} else {
		d->step = STEP_KEEP;
		d->job->is_keeping = true;
		start_job(d);
	}
}

void hf_dumper_call_off(struct hf_keeper *k, const char *why)
{
	if (k->dumper && k->dumper->step != STEP_KEEP)
		end(k->dumper, why);
}

void hf_dumper_guest_gone(struct hf_keeper *k)
{
	struct hf_dumper *d = k->dumper;

	if (!d || d->step == STEP_KEEP)
		return;
	d->is_held = false; /* nothing is to go on */
	end(d, "QEMU has ended");
}

bool hf_dumper_is_at_work(const struct hf_keeper *k)
{
	return k->dumper != NULL;
}

void hf_dumper_free(struct hf_keeper *k)
{
	if (!k->dumper)
		return;
	answer(k->dumper, "the keeper ends");
	free_dumper(k->dumper);
	k->dumper = NULL;
}
