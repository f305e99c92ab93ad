/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promotion. QEMU has been waiting in `migrate-incoming` since its start. It is fed the device state
 * of the last whole epoch, byte for byte; meanwhile the frames that the primary may not have sent are
 * sent again. With QEMU's RESUME this keeper becomes the primary. QEMU itself tells the switches where
 * the guest is now: it announces each card after a migration.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "codec/json.h"
#include "keeper/primary.h"
#include "keeper/standby-side.h"
#include "sys/fd.h"

static void send_again(void *ctx, unsigned int netdev, const uint8_t *frame, size_t len)
{
	struct hf_standby_side *s = ctx;

	if (netdev < hf_guest_net_count(s->k->guest))
		(void)!hf_nettap_inject(hf_guest_net(s->k->guest, netdev), frame, len, NULL);
}

void hf_standby_load_failed(struct hf_standby_side *s, const char *why)
{
	hf_event(&s->k->journal, "load-failed", NULL, "QEMU could not load the VM's state: %s",
		 why);
	hf_watch_remove(&s->load_watch);
	hf_fd_close(&s->load_fd);
	hf_standby_feed(s, HF_STANDBY_LOAD_FAILED, 0);
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_FAILED);
}

static uint32_t load_wanted(void *ctx)
{
	struct hf_standby_side *s = ctx;
	size_t len;

	(void)hf_inbox_state(s->inbox, &len);
	return s->must_win && s->loaded_bytes + 1 >= len ? 0 : EPOLLOUT;
}

static void load_ready(void *ctx, uint32_t revents __attribute__((unused)))
{
	struct hf_standby_side *s = ctx;
	size_t len;
	size_t n;
	const uint8_t *state = hf_inbox_state(s->inbox, &len);
	/* QEMU runs the VM as soon as it has all: it lacks the last byte as long as it may not. */
	size_t end = s->must_win && len ? len - 1 : len;
	int r = 0;

	while (!r && s->loaded_bytes < end) {
		r = hf_fd_send(s->load_fd, state + s->loaded_bytes, end - s->loaded_bytes, &n);
		if (!r)
			s->loaded_bytes += n;
	}
	if (r == HF_FD_AGAIN || (!r && end < len))
		return;
	hf_watch_remove(&s->load_watch);
	hf_fd_close(&s->load_fd); /* its end is the stream's end */
	if (r < 0)
		hf_standby_load_failed(s, strerror(-r));
}

static void take_over(struct hf_standby_side *s)
{
	if (s->k->disks) {
		/* What frames say to be on the disk is in one memory now: they follow what is redone. */
		hf_keeper_set_net_mode(s->k, HF_NETTAP_HOLD);
		hf_disks_promote(s->k->disks);
		return;
	}
	hf_keeper_set_net_mode(s->k, HF_NETTAP_PASS);
	if (s->k->set->may_resend)
		hf_inbox_each_frame(s->inbox, send_again, s);
}

static void go_live(struct hf_standby_side *s)
{
	s->load_fd = hf_guest_take_incoming_fd(s->k->guest);
	if (hf_watch_add(&s->load_watch, &s->k->loop, s->load_fd, HF_PRIORITY_VM, load_wanted,
			 load_ready, s) < 0) {
		hf_standby_load_failed(s, "cannot wait for it");
		return;
	}
	load_ready(s, EPOLLOUT);
	if (!s->must_win)
		take_over(s);
}

void hf_standby_may_run(struct hf_standby_side *s)
{
	s->must_win = false;
	if (s->load_fd < 0)
		return; /* not begun yet: it waits for the write deadline */
	load_ready(s, EPOLLOUT);
	take_over(s);
}

/* QEMU's half-loaded state is of no use to anybody. */
void hf_standby_denied(struct hf_standby_side *s)
{
	hf_timer_fini(&s->live_timer);
	hf_watch_remove(&s->load_watch);
	hf_fd_close(&s->load_fd);
	hf_keeper_finish(s->k, HF_KEEPER_EXIT_SUPERSEDED);
}

static void on_deadline(void *ctx)
{
	go_live(ctx);
}

/* Without proof that the old path to a shared image is dead, its write deadline has to pass first. */
void hf_standby_go_live(struct hf_standby_side *s, bool must_wait, bool must_win)
{
	uint64_t deadline_ns = s->heard_ns + s->k->set->peer_timeout_ns / 4 * 5;

	s->proof_ns = hf_now_ns();
	s->must_win = must_win;
	hf_arbiter_hasten(&s->arbiter);
	if (!must_wait || deadline_ns <= s->proof_ns) {
		go_live(s);
		return;
	}
	hf_event(&s->k->journal, "write-deadline", NULL,
		 "waits %.1f s: until then the old primary may still write to the shared image",
		 (double)(deadline_ns - s->proof_ns) / 1e9);
	hf_timer_set(&s->live_timer, &s->k->loop, deadline_ns, on_deadline, s);
}

/* A connection to the old primary, kept only until that has read what we told it and has gone. */
struct farewell {
	struct hf_link *link;
	struct hf_watch watch;
};

static bool ignore_message(void *ctx __attribute__((unused)),
			   const struct hf_wire_view *view __attribute__((unused)))
{
	return true;
}

static uint32_t farewell_wanted(void *ctx)
{
	const struct farewell *f = ctx;

	return hf_link_events(f->link);
}

static void farewell_ready(void *ctx, uint32_t revents)
{
	struct farewell *f = ctx;

	if (hf_link_dispatch(f->link, revents, ignore_message, NULL, NULL) == 0)
		return;
	hf_watch_remove(&f->watch);
	hf_link_free(f->link);
	free(f);
}

static void bid_farewell(struct hf_standby_side *s)
{
	struct farewell *f = calloc(1, sizeof(*f));

	hf_watch_remove(&s->link_watch);
	if (f) {
		f->link = s->link;
		if (hf_watch_add(&f->watch, &s->k->loop, hf_link_fd(f->link), HF_PRIORITY_LINK,
				 farewell_wanted, farewell_ready, f) == 0)
			return;
	}
	free(f);
	hf_link_free(s->link);
}

static void become_primary(struct hf_standby_side *s)
{
	struct hf_keeper *k = s->k;
	uint64_t epoch = s->machine.epoch;
	struct hf_err err = { "" };
	struct hf_inbox *resend = k->disks ? s->inbox : NULL;
	uint64_t question = s->machine.is_asking ? s->machine.lver : 0;

	if (s->link)
		bid_farewell(s);
	s->link = NULL;
	hf_timer_fini(&s->beat_timer);
	hf_timer_fini(&s->inquiry_timer);
	hf_timer_fini(&s->live_timer);
	hf_arbiter_fini(&s->arbiter);
	/* The guest lives; a keeper that cannot protect it is still better than none. */
	if (hf_primary_side_start(k, epoch, resend, &err) < 0)
		hf_event(&k->journal, "unprotectable", NULL,
			 "the VM runs on but cannot be protected: %s",
			 err.text[0] ? err.text : "no memory");
	if (question && k->role != s)
		hf_primary_inherit_question(k, question);
	if (k->role == s)
		return;
	if (!resend)
		hf_inbox_free(s->inbox);
	free(s);
}

static void on_live_timer(void *ctx)
{
	become_primary(ctx);
}

static void announce_live(struct hf_standby_side *s)
{
	struct json_object *details = json_object_new_object();
	uint64_t took_ns = hf_now_ns() - s->proof_ns;

	s->k->promoted_session = s->machine.session;
	s->k->promoted_epoch = s->machine.epoch;
	json_object_object_add(details, "epoch", json_object_new_uint64(s->machine.epoch));
	json_object_object_add(details, "took_ns", json_object_new_uint64(took_ns));
	hf_event(&s->k->journal, "live", details,
		 "the VM runs here, from epoch %" PRIu64 ", %.1f ms after the "
		 "decision",
		 s->machine.epoch, (double)took_ns / 1e6);
	hf_standby_feed(s, HF_STANDBY_LIVE, 0);
	/* Not from within the QMP session's dispatch, whose events change hands. */
	hf_timer_set(&s->live_timer, &s->k->loop, 0, on_live_timer, s);
}

/* QEMU refuses to run on a state that it has called an internal error, before a reset. */
static void on_refused(void *ctx, struct json_object *ret __attribute__((unused)),
		       const char *error_class, const char *error_desc)
{
	struct hf_keeper *k = ctx;

	if (!error_class || strcmp(error_class, HF_QMP_CLASS_LOST) == 0)
		return;
	hf_event(&k->journal, "vm-reset", NULL, "the guest is booted anew: QEMU says: %s",
		 error_desc);
	hf_keeper_qmp(k, "system_reset");
	hf_keeper_qmp(k, "cont");
}

static void let_run(struct hf_keeper *k)
{
	if (hf_qmp_call(hf_guest_qmp(k->guest), "cont", NULL, on_refused, k) < 0)
		hf_log(&k->journal, HF_LOG_ERROR, "QEMU does not take commands");
}

/* To go on from just before the guest failed would be to fail again. */
static void boot_anew(struct hf_standby_side *s)
{
	if (!s->is_reset_wanted)
		return;
	s->is_reset_wanted = false;
	s->k->life.is_reset_due = true;
	hf_event(&s->k->journal, "vm-reset", NULL,
		 "the guest is booted anew: it had failed by itself");
	hf_keeper_qmp(s->k, "system_reset");
	hf_keeper_qmp(s->k, "cont"); /* if it has failed again meanwhile */
}

void hf_standby_live_event(struct hf_standby_side *s, const char *name, struct json_object *data)
{
	const char *status;
	bool is_completed = false;

	if (strcmp(name, "MIGRATION") == 0 && hf_json_str(data, "status", &status, NULL) == 0) {
		is_completed = strcmp(status, "completed") == 0;
		if (strcmp(status, "failed") == 0)
			hf_standby_load_failed(s, "see its own message on stderr");
	}
	/* The user's -S is for the start of a VM, not for this; and a guest that was stopped while QEMU
	 * wrote the state (a freeze, a panic, somebody at its monitor) is in it as one that stands still. */
	if (is_completed && hf_inbox_is_vm_running(s->inbox) && !s->k->is_guest_running)
		let_run(s->k);
	if (strcmp(name, "RESUME") == 0)
		boot_anew(s);
	if (strcmp(name, "RESUME") == 0 || (is_completed && !hf_inbox_is_vm_running(s->inbox)))
		announce_live(s);
}
