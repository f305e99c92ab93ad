/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast dump: a VM's memory and registers as a file that gdb and crash open.
 *
 * Of a frozen instance: QEMU itself writes it, one that was brought to life for that and never runs, so that all formats and
 * the registers of all vCPUs are there. Where that cannot be had the memory alone is written, and that is said. Of
 * a VM that runs: its keeper has QEMU write it.
 *
 * The file appears under its name when it is whole, never before.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/exam.h"
#include "cli/exit.h"
#include "cli/verb.h"
#include "codec/json.h"
#include "sys/fd.h"
#include "vm/elfcore.h"

#define HEAD_ROOM_BYTES ((uint64_t)16 << 20) /* headers, registers, tables of a kdump */
#define ANSWER_MS 30000

struct dump {
	struct hf_instance instance;
	const char *file;
	const char *format;
	const char *run_dir, *state_dir;
	bool is_forced;

	struct hf_exam x;
	int signal_fd;
	int out_fd;
	char part_path[PATH_MAX]; /* until it is whole; "": none */
	uint64_t total_bytes;
	bool is_completed;
	char failure[HF_ERR_MAX];
};

static const char *const formats[] = {
	"elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "raw", NULL
};

static bool is_format(const char *text)
{
	for (size_t i = 0; formats[i]; i++)
		if (strcmp(text, formats[i]) == 0)
			return true;
	return false;
}

/* ---- the file ---- */

/* Nothing is overwritten by mistake; and a device or a pipe is no place for this. */
static int check_target(const struct dump *d, struct hf_err *err)
{
	struct stat st;

	if (stat(d->file, &st) < 0)
		return 0;
	if (!S_ISREG(st.st_mode)) {
		hf_err_set(err, "%.300s is there, and is no file", d->file);
		return -EINVAL;
	}
	if (d->is_forced)
		return 0;
	hf_err_set(err, "%.300s is there already; --force overwrites it", d->file);
	return -EEXIST;
}

static int check_space(const struct dump *d, uint64_t bytes, struct hf_err *err)
{
	char folder[PATH_MAX];
	char *slash;

	(void)snprintf(folder, sizeof(folder), "%s", d->file);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder ? 1 : 0] = '\0';
	return hf_sparse_check_space(slash ? folder : ".", bytes, err);
}

static int open_out(struct dump *d, uint64_t bytes, struct hf_err *err)
{
	int r = check_target(d, err);

	if (!r)
		r = check_space(d, bytes, err);
	if (r < 0)
		return r;
	if (snprintf(d->part_path, sizeof(d->part_path), "%s.part-%d", d->file, (int)getpid()) >=
	    (int)sizeof(d->part_path)) {
		d->part_path[0] = '\0';
		return -ENAMETOOLONG;
	}
	d->out_fd = open(d->part_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->out_fd >= 0)
		return 0;
	r = -errno;
	hf_err_set(err, "%.300s: %s", d->part_path, strerror(-r));
	d->part_path[0] = '\0';
	return r;
}

static int keep_out(struct dump *d, struct hf_err *err)
{
	int r = fsync(d->out_fd) < 0 ? -errno : 0;

	if (!r && renameat2(AT_FDCWD, d->part_path, AT_FDCWD, d->file,
			    d->is_forced ? 0 : RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r < 0)
		hf_err_set(err, "%.300s: %s", d->file, strerror(-r));
	else
		d->part_path[0] = '\0';
	return r;
}

static void drop_out(struct dump *d)
{
	hf_fd_close(&d->out_fd);
	if (d->part_path[0])
		(void)unlink(d->part_path);
	d->part_path[0] = '\0';
}

/* ---- by QEMU ---- */

static void on_event(void *ctx, const char *name, struct json_object *data,
		     uint64_t timestamp_us __attribute__((unused)))
{
	struct dump *d = ctx;
	struct json_object *result;
	const char *text;

	if (strcmp(name, "DUMP_COMPLETED") != 0)
		return;
	d->is_completed = true;
	if (hf_json_str(data, "error", &text, NULL) == 0)
		(void)snprintf(d->failure, sizeof(d->failure), "%.400s", text);
	else if (hf_json_obj(data, "result", &result, NULL) < 0 ||
		 hf_json_str(result, "status", &text, NULL) < 0 || strcmp(text, "completed") != 0)
		(void)snprintf(d->failure, sizeof(d->failure), "QEMU did not complete it");
}

static void on_progress(void *ctx __attribute__((unused)), struct json_object *ret,
			const char *error_class __attribute__((unused)),
			const char *error_desc __attribute__((unused)))
{
	uint64_t done, total;

	if (hf_json_u64(ret, "completed", &done, NULL) == 0 &&
	    hf_json_u64(ret, "total", &total, NULL) == 0 && total)
		hf_exam_show_progress("dumping", done, total);
}

static int order_dump(struct dump *d, struct hf_err *err)
{
	struct hf_qmp *qmp = d->x.revived->qmp;
	struct hf_qmp_command getfd = { .name = "getfd",
					.arguments_text = "{\"fdname\":\"dump\"}",
					.has_fd = true,
					.fd = d->out_fd };
	struct hf_qmp_command dump = { .name = "dump-guest-memory" };
	char text[160];
	int r;

	(void)snprintf(text, sizeof(text),
		       "{\"paging\":false,\"protocol\":\"fd:dump\",\"detach\":true,"
		       "\"format\":\"%s\"}",
		       d->format);
	dump.arguments_text = text;
	r = hf_qmp_wait(qmp, &getfd, ANSWER_MS, NULL, err);
	return r ? r : hf_qmp_wait(qmp, &dump, ANSWER_MS, NULL, err);
}

static int await_dump(struct dump *d, struct hf_err *err)
{
	struct hf_qmp *qmp = d->x.revived->qmp;
	int r = 0;

	while (!r && !d->is_completed) {
		struct pollfd pfd[] = { { .fd = hf_qmp_fd(qmp), .events = POLLIN },
					{ .fd = d->signal_fd, .events = POLLIN } };

		if (poll(pfd, 2, 200) == 0)
			(void)!hf_qmp_call(qmp, "query-dump", NULL, on_progress, d);
		if (pfd[1].revents) {
			hf_err_set(err, "called off");
			return -ECANCELED;
		}
		r = hf_qmp_dispatch(qmp, err);
	}
	if (!r && d->failure[0]) {
		hf_err_set(err, "%s", d->failure);
		r = -EIO;
	}
	return r;
}

static int dump_by_qemu(struct dump *d, struct hf_err *err)
{
	int r = open_out(d, d->x.frozen.certificate.ram_bytes + HEAD_ROOM_BYTES, err);

	if (!r)
		r = order_dump(d, err);
	return r ? r : await_dump(d, err);
}

/* ---- of the file of RAM ---- */

static bool go_on(void *ctx, uint64_t done_bytes)
{
	struct dump *d = ctx;

	hf_exam_show_progress("dumping", done_bytes, d->total_bytes);
	return !hf_exam_is_called_off(d->signal_fd);
}

static int write_raw(struct dump *d)
{
	uint64_t bytes = d->x.frozen.certificate.ram_bytes;

	if (ftruncate(d->out_fd, (off_t)bytes) < 0)
		return -errno;
	return hf_sparse_copy(d->x.ram_fd, 0, bytes, d->out_fd, 0, go_on, d);
}

static void describe(const struct hf_certificate *c, char *text, size_t size)
{
	time_t at = (time_t)(c->cause_time_ns / 1000000000);
	char when[40] = "";
	struct tm tm;

	if (gmtime_r(&at, &tm))
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)snprintf(
		text, size,
		"VM %s, instance %s, of host %s, frozen for %s at %s (%s). QEMU %s, machine "
		"%s. Guest-physical memory without registers: written by holdfast " HF_VERSION
		".\n",
		c->vm, c->id, c->host, hf_vm_cause_name(c->cause), when, c->cause_text,
		c->qemu_version, c->machine);
}

static int write_elf(struct dump *d)
{
	const struct hf_certificate *c = &d->x.frozen.certificate;
	const struct hf_ram_part whole = { .bytes = c->ram_bytes };
	char note[1200];
	struct hf_elfcore e = {
		.ram_fd = d->x.ram_fd,
		.part = c->n_ram_parts ? c->ram_part : &whole,
		.n_parts = c->n_ram_parts ? c->n_ram_parts : 1,
		.machine = hf_elfcore_machine(c->argv && c->argv[0] ? c->argv[0] : ""),
		.note = note,
	};

	describe(c, note, sizeof(note));
	return hf_elfcore_write(&e, d->out_fd, go_on, d);
}

static int dump_by_us(struct dump *d, bool is_raw, struct hf_err *err)
{
	uint64_t bytes;
	int r = hf_sparse_data_bytes(d->x.ram_fd, d->x.frozen.certificate.ram_bytes, &bytes);

	d->total_bytes = d->x.frozen.certificate.ram_bytes;
	if (!r)
		r = open_out(d, bytes + HEAD_ROOM_BYTES, err);
	if (r < 0)
		return r;
	r = is_raw ? write_raw(d) : write_elf(d);
	if (r == -ECANCELED)
		hf_err_set(err, "called off");
	else if (r < 0)
		hf_err_set(err, "%.300s: %s", d->file, strerror(-r));
	return r;
}

static int dump_frozen(struct dump *d, struct hf_err *err)
{
	int r;

	if (strcmp(d->format, "raw") == 0)
		return dump_by_us(d, /* is_raw= */ true, err);
	r = hf_exam_revive(&d->x, -1, -1, on_event, d, err);
	if (r == 0)
		return dump_by_qemu(d, err);
	if (strcmp(d->format, "elf") != 0) {
		hf_err_prefix(err,
			      "--format %s needs QEMU, and it cannot be had (elf and raw do "
			      "without): ",
			      d->format);
		return r;
	}
	(void)fprintf(stderr, "holdfast dump: registers are missing, memory alone is written: %s\n",
		      err->text);
	return dump_by_us(d, /* is_raw= */ false, err);
}

static int run_frozen(struct dump *d)
{
	struct hf_err err = { "" };
	bool is_missing = false;
	int r;

	d->signal_fd = hf_exam_take_signals();
	if (d->signal_fd < 0)
		return HF_EXIT_FAILED;
	r = check_target(d, &err);
	if (!r) {
		r = hf_exam_open("dump", d->state_dir, &d->instance, &d->x, &err);
		is_missing = r < 0 && !d->x.is_found;
	}
	if (!r)
		r = dump_frozen(d, &err);
	hf_exam_show_progress("dumping", 0, 0);
	if (!r)
		r = keep_out(d, &err);
	drop_out(d);
	hf_exam_close(&d->x);
	hf_fd_close(&d->signal_fd);
	if (r == 0)
		return HF_EXIT_DONE;
	return hf_exit_complain("dump", is_missing ? HF_EXIT_NOT_THERE : HF_EXIT_FAILED, &err);
}

/* ---- of a VM that runs: by its keeper ---- */

/* The keeper's folder is another one. */
static struct json_object *wishes(const struct dump *d)
{
	struct json_object *o = json_object_new_object();
	char cwd[PATH_MAX / 2] = "", path[PATH_MAX];

	if (d->file[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		cwd[0] = '\0';
	(void)snprintf(path, sizeof(path), "%s%s%s", cwd, cwd[0] ? "/" : "", d->file);
	json_object_object_add(o, "file", json_object_new_string(path));
	json_object_object_add(o, "format", json_object_new_string(d->format));
	json_object_object_add(o, "force", json_object_new_boolean(d->is_forced));
	return o;
}

static int run_by_keeper(struct dump *d, struct hf_client *c)
{
	struct json_object *parameters = wishes(d);
	struct hf_err err = { "" };
	int r = hf_client_call(c, "Dump", parameters, /* is_more= */ true, &err);

	json_object_put(parameters);
	if (!r)
		r = hf_exam_follow(c, "dumping", &err);
	return r ? hf_exit_complain("dump", hf_exit_of(r, c), &err) : HF_EXIT_DONE;
}

static int run(struct dump *d)
{
	struct hf_err err = { "" };
	struct hf_client c;
	int code;
	int r = -ESRCH;

	if (!d->instance.id[0])
		r = hf_client_open(d->run_dir, d->instance.vm, &c, &err);
	if (r < 0)
		return run_frozen(d);
	code = run_by_keeper(d, &c);
	hf_client_close(&c);
	return code;
}

/* ---- the command ---- */

static int read_options(int argc, char **argv, struct dump *d)
{
	static const struct option table[] = {
		{ "format", required_argument, NULL, 'o' },
		{ "force", no_argument, NULL, 'f' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (c == 'h')
			return 1;
		if (c == 'o')
			d->format = optarg;
		else if (c == 'f')
			d->is_forced = true;
		else if (c == 'r')
			d->run_dir = optarg;
		else if (c == 's')
			d->state_dir = optarg;
		else {
			(void)hf_exit_refuse_option("dump", argv[optind - 1], c);
			return -EINVAL;
		}
	}
	return 0;
}

int hf_exam_dump(int argc, char **argv)
{
	struct hf_verb_options defaults;
	struct dump d = { .format = "elf", .signal_fd = -1, .out_fd = -1 };
	struct hf_err err = { "" };
	int r;

	hf_verb_defaults(&defaults);
	d.run_dir = defaults.run_dir;
	d.state_dir = defaults.state_dir;
	d.x.ram_fd = d.x.state_fd = -1;
	r = read_options(argc, argv, &d);
	if (r)
		return r > 0 ? -1 : HF_EXIT_USAGE;
	if (argc - optind != 2) {
		(void)fprintf(stderr, "holdfast dump: a VM and a file are wanted\n");
		return HF_EXIT_USAGE;
	}
	d.file = argv[optind + 1];
	if (!is_format(d.format)) {
		hf_err_set(&err,
			   "--format: '%.40s' is none of elf, kdump-zlib, kdump-lzo, "
			   "kdump-snappy, raw",
			   d.format);
		return hf_exit_complain("dump", HF_EXIT_USAGE, &err);
	}
	if (hf_instance_parse(argv[optind], &d.instance, &err) < 0)
		return hf_exit_complain("dump", HF_EXIT_USAGE, &err);
	return run(&d);
}
