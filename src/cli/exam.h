/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The commands that look into a VM: dump, inspect, and save, which uses the same progress line. Layer: cli. One
 * thread; they block. docs/examination.md says what each does.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/client.h"
#include "cli/instance.h"
#include "vm/frozen.h"
#include "vm/revive.h"

/* argv[0] is the verb. Return: an exit status; HF_EXIT_USAGE: it has said what is wrong; negative: help. */
int hf_exam_dump(int argc, char **argv);
int hf_exam_inspect(int argc, char **argv);
int hf_exam_save(int argc, char **argv);
/* WORK_DIR [--tap] -- PROGRAM...: becomes it, behind walls (vm/revive-box.h). Nobody's but ours. */
int hf_exam_box(int argc, char **argv);

/* A frozen instance at hand. Descriptors are -1 when there is none. */
struct hf_exam {
	const char *verb;
	struct hf_instance instance;
	struct hf_frozen frozen;
	bool is_found;
	int ram_fd;
	int state_fd; /* -1: its device state is lost */
	char why_no_state[HF_CERTIFICATE_TEXT];
	char work_dir[128]; /* "": none yet */
	struct hf_revived *revived;
};

/**
 * hf_exam_open() - find it and its remains
 * Changes to the folder where relative paths of its command line begin, if that is known.
 * Return: 0; -ENOENT: no such instance; -EBUSY: it is not frozen yet; -ENODATA: its RAM is lost; -errno; @err
 * says which. To be closed with hf_exam_close() in any case.
 */
int hf_exam_open(const char *verb, const char *state_dir, const struct hf_instance *instance,
		 struct hf_exam *ret, struct hf_err *err) HF_MUST_CHECK;

/* Brings it to life in a folder of its own. @console_fd, @gdb_fd: -1: none. As hf_revive(); -ENODATA: there is
 * no device state. */
int hf_exam_revive(struct hf_exam *x, int console_fd, int gdb_fd, hf_qmp_event *on_event, void *ctx,
		   struct hf_err *err) HF_MUST_CHECK;

/* The folder for sockets and overlays, made on first use. 0 or -errno. */
int hf_exam_work_dir(struct hf_exam *x, struct hf_err *err) HF_MUST_CHECK;

void hf_exam_close(struct hf_exam *x);

/* SIGINT, SIGTERM and SIGHUP no longer end this program: they can be read from the descriptor that is returned, or
 * asked for. -errno. */
int hf_exam_take_signals(void);
bool hf_exam_is_called_off(int signal_fd);

/* What the keeper answers to a call with "more", shown as progress, until its last reply. As hf_client_reply(). */
int hf_exam_follow(struct hf_client *c, const char *what, struct hf_err *err) HF_MUST_CHECK;

/* "dumping: 43 %" on a terminal, over the last one; nothing elsewhere. @total 0: the end of it. */
void hf_exam_show_progress(const char *what, uint64_t done, uint64_t total);
