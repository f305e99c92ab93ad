/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a freeze writes, and what may hang with the storage: all of it is a thread's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keeper/freezer.h"
#include "keeper/frozen-side.h"
#include "keeper/keeper.h"
#include "sys/fd.h"
#include "vm/frozen.h"

/* What a thread writes: a copy, since the certificate goes on changing. Its lists live as long as the
 * program. One after the other, so that a late latch cannot land over the certificate. */
struct paper {
	struct hf_freezer *f;
	struct paper *next;
	struct hf_certificate certificate;
	const char *state_dir;
	enum hf_freeze_step step;
	bool is_amendment; /* nobody waits for it */
	bool has_dropped_state; /* there was no room for both */
	uint8_t *state; /* owned */
	size_t state_len;
	struct hf_err err;
};

static void drop_paper(void *ctx)
{
	struct paper *p = ctx;

	free(p->state);
	free(p);
}

static int write_paper(void *ctx)
{
	struct paper *p = ctx;
	int r;

	if (p->step == HF_FREEZE_STATE)
		return hf_frozen_write_state(p->state_dir, p->certificate.vm, p->certificate.id,
					     p->state, p->state_len, &p->err);
	r = hf_frozen_write(p->state_dir, &p->certificate, &p->err);
	if (r != -ENOSPC || p->step != HF_FREEZE_CERTIFY ||
	    p->certificate.device_state != HF_REMAINS_FILE)
		return r;
	/* The certificate is worth more than the device state. */
	r = hf_frozen_drop_state(p->state_dir, p->certificate.vm, p->certificate.id, &p->err);
	if (r < 0)
		return r;
	p->certificate.device_state = HF_REMAINS_NONE;
	p->certificate.device_state_bytes = 0;
	p->certificate.step[HF_FREEZE_STATE].result = HF_FREEZE_FAILED;
	p->has_dropped_state = true;
	return hf_frozen_write(p->state_dir, &p->certificate, &p->err);
}

void hf_freezer_set_text(struct hf_freezer *f, enum hf_freeze_step step, const char *text)
{
	(void)snprintf(f->certificate.step[step].text, sizeof(f->certificate.step[step].text),
		       "%.*s", HF_CERTIFICATE_TEXT - 1, text);
}

static void write_next(struct hf_freezer *f);

static void on_written(void *ctx, int result)
{
	struct paper *p = ctx;
	struct hf_freezer *f = p->f;
	enum hf_freeze_step step = p->step;
	bool is_amendment = p->is_amendment;
	bool is_waited_for = step != HF_FREEZE_STATE && !is_amendment;

	f->worker = NULL;
	if (result < 0) {
		const char *text = p->err.text[0] ? p->err.text : strerror(-result);
		bool is_news = strncmp(f->certificate.step[step].text, text,
				       HF_CERTIFICATE_TEXT - 1) != 0;

		hf_freezer_set_text(f, step, text);
		if (is_news)
			hf_log(&f->k->journal, HF_LOG_ERROR, "freezing, %s: %s",
			       hf_freeze_step_name(step), f->certificate.step[step].text);
	} else if (step == HF_FREEZE_STATE) {
		f->certificate.device_state = HF_REMAINS_FILE;
		f->certificate.device_state_bytes = p->state_len;
	}
	if (p->has_dropped_state) {
		f->certificate.device_state = HF_REMAINS_NONE;
		f->certificate.device_state_bytes = 0;
		hf_freezer_set_text(f, HF_FREEZE_STATE, "dropped: there is no room for it");
	}
	drop_paper(p);
	write_next(f);
	if (!f->worker && f->is_released)
		hf_frozen_side_writer_is_idle(f->k);
	if (is_amendment)
		hf_freezer_amended(f);
	if (is_waited_for)
		hf_freezer_feed(f, result < 0 ? HF_FREEZE_EV_FAILED : HF_FREEZE_EV_DONE, step);
}

static void write_next(struct hf_freezer *f)
{
	struct paper *p = f->papers;
	enum hf_freeze_step step;

	if (f->worker || !p)
		return;
	f->papers = p->next;
	step = p->step;
	hf_freezer_update(f); /* the device state's file has been written since, or not */
	p->certificate = f->certificate;
	if (step == HF_FREEZE_CERTIFY) {
		p->certificate.is_certified = true;
		p->certificate.step[step].result = HF_FREEZE_DONE;
		p->certificate.step[step].ended_us = (hf_now_ns() - f->began_ns) / 1000;
	}
	if (hf_worker_start(&f->k->loop, write_paper, on_written, drop_paper, p, &f->worker) == 0)
		return;
	drop_paper(p);
	hf_freezer_set_text(f, step, "no thread could be started for it");
	hf_freezer_feed(f, HF_FREEZE_EV_FAILED, step);
}

/* @state: taken over */
void hf_freezer_write_down(struct hf_freezer *f, enum hf_freeze_step step, bool is_amendment,
			   uint8_t *state, size_t len)
{
	struct paper *p = calloc(1, sizeof(*p));
	struct paper **last = &f->papers;

	if (!p) {
		free(state);
		hf_freezer_feed(f, HF_FREEZE_EV_FAILED, step);
		return;
	}
	*p = (struct paper){ .f = f,
			     .state_dir = f->k->set->state_dir,
			     .step = step,
			     .is_amendment = is_amendment,
			     .state = state,
			     .state_len = len };
	while (*last)
		last = &(*last)->next;
	*last = p;
	write_next(f);
}

void hf_freezer_drop_papers(struct hf_freezer *f)
{
	struct paper *p;

	while ((p = f->papers) != NULL) {
		f->papers = p->next;
		drop_paper(p);
	}
	hf_worker_abandon(f->worker);
	f->worker = NULL;
}

/* What the disk process had written, and nobody had flushed, is the kernel's: it would reach a shared image at
 * any later time. */
struct images {
	struct hf_freezer *f;
	const struct hf_cmdline *cmdline;
};

static int sync_images(void *ctx)
{
	const struct images *im = ctx;
	int r = 0;

	for (size_t i = 0; i < im->cmdline->disk_count; i++) {
		int fd = open(im->cmdline->disk[i].location, O_RDONLY | O_CLOEXEC);

		if (fd >= 0 && fsync(fd) < 0)
			r = -errno;
		hf_fd_close(&fd); /* an NBD server's is no file here, and keeps nothing back */
	}
	return r;
}

static void on_images_synced(void *ctx, int result)
{
	struct images *im = ctx;
	struct hf_freezer *f = im->f;

	free(im);
	f->sync_worker = NULL;
	if (result < 0) /* what cannot be written now is not going to be */
		hf_freezer_set_text(f, HF_FREEZE_DISKS, strerror(-result));
	hf_freezer_feed(f, HF_FREEZE_EV_DISKS_DEAD, 0);
}

void hf_freezer_disks_dead(struct hf_freezer *f)
{
	struct images *im;

	if (!f || f->sync_worker || f->is_told)
		return;
	im = calloc(1, sizeof(*im));
	if (im)
		*im = (struct images){ .f = f, .cmdline = f->k->cmdline };
	if (im && hf_worker_start(&f->k->loop, sync_images, on_images_synced, free, im,
				  &f->sync_worker) == 0)
		return;
	free(im);
	(void)sync_images(&(struct images){ .f = f, .cmdline = f->k->cmdline });
	hf_freezer_feed(f, HF_FREEZE_EV_DISKS_DEAD, HF_FREEZE_DISKS);
}
