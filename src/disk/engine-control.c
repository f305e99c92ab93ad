/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Words from and to the keeper. The control thread answers PING and hears kicks whatever storage does; what may
 * take long is the orders thread's.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "disk/engine-internal.h"

#define SEND_MAX_MS 1000

/* A keeper that does not read for so long is about to kill us. */
void engine_say(struct hf_engine *e, const struct hf_diskctl_msg *msg)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	size_t len = hf_diskctl_encode(msg, buf);
	struct pollfd p = { .fd = e->control_fd, .events = POLLOUT };

	if (e->control_fd < 0)
		return;
	if (send(e->control_fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN &&
	    poll(&p, 1, SEND_MAX_MS) > 0)
		(void)!send(e->control_fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- faults ---- */

/* What still fails: errno, 0: nothing does. */
static int tell_worst(struct hf_engine *e)
{
	int error = 0;

	for (uint32_t i = 0; !error && i < ENGINE_FAULTS; i++)
		error = e->fault[i].error;
	atomic_store(&e->words->error, (uint32_t)error);
	if (e->has_keeper)
		hf_diskshm_notify(&e->shm);
	return error;
}

static uint8_t disk_of(uint32_t where)
{
	return (uint8_t)(where <= ENGINE_FAULT_JOURNAL ? where : (where - 1) % HF_WIRE_DISKS_MAX);
}

void engine_fault(struct hf_engine *e, uint32_t where, uint64_t offset_bytes, int error,
		  const char *format, ...)
{
	struct hf_diskctl_msg msg = { .type = error ? HF_DISKCTL_FAULT : HF_DISKCTL_WELL };
	bool is_new;
	int left = 0;
	va_list ap;

	pthread_mutex_lock(&e->lock);
	is_new = e->fault[where].error != -error;
	e->fault[where].error = -error;
	if (is_new)
		left = tell_worst(e);
	pthread_mutex_unlock(&e->lock);
	if (!is_new || (!error && left))
		return;
	msg.fault.error = -error;
	msg.fault.disk = disk_of(where);
	msg.fault.offset_bytes = offset_bytes;
	va_start(ap, format);
	if (error)
		(void)vsnprintf(msg.fault.text, sizeof(msg.fault.text), format, ap);
	else
		(void)snprintf(msg.fault.text, sizeof(msg.fault.text), "it goes again");
	va_end(ap);
	engine_say(e, &msg);
}

/* ---- orders ---- */

/* Until everything that was committed is settled, which the other threads see to. */
static int await_idle(struct hf_engine *e)
{
	bool is_idle;

	pthread_mutex_lock(&e->lock);
	while (!(is_idle = hf_disk_is_drained(&e->d)) && !e->is_stopping) {
		e->wants_settle = true;
		engine_signal(e);
		engine_wait(&e->changed, &e->lock, engine_now_ns() + 10 * ENGINE_MS_NS);
	}
	e->wants_settle = false;
	pthread_mutex_unlock(&e->lock);
	return is_idle ? 0 : -ECANCELED;
}

/* The copy is going to be filled: what the journal has is of no use any more. The word first: an image that
 * lacks what was in the journal is none to start from. */
static int set_partial(struct hf_engine *e, struct hf_id session, struct hf_err *err)
{
	int r = engine_may_work(e) ? await_idle(e) : 0;

	if (!r)
		r = engine_set_condition(e, HF_DISK_PARTIAL, session, err);
	if (!r) {
		pthread_mutex_lock(&e->redo_lock);
		r = hf_redo_reset(e->redo, err);
		atomic_store(&e->redo_used_bytes, hf_redo_used_bytes(e->redo));
		pthread_mutex_unlock(&e->redo_lock);
	}
	return r;
}

/* The keeper has found that the VM may run on what may be behind another host's: now it is redone. */
static int claim(struct hf_engine *e)
{
	bool is_stopping = false;

	atomic_store(&e->is_claimed, true);
	engine_poke(e);
	pthread_mutex_lock(&e->log_lock);
	while (atomic_load(&e->role) != HF_DISKSHM_OWNER && !is_stopping) {
		engine_wait(&e->log_changed, &e->log_lock, engine_now_ns() + ENGINE_S_NS);
		pthread_mutex_unlock(&e->log_lock);
		pthread_mutex_lock(&e->lock);
		is_stopping = e->is_stopping;
		pthread_mutex_unlock(&e->lock);
		pthread_mutex_lock(&e->log_lock);
	}
	pthread_mutex_unlock(&e->log_lock);
	return is_stopping ? -ECANCELED : 0;
}

/* Until what was written past the log is flushed, or will not be: false. */
static bool await_hold(struct hf_engine *e)
{
	const struct hf_diskshm_words *w = e->words;
	bool is_waiting = true;

	pthread_mutex_lock(&e->log_lock);
	while (is_waiting && atomic_load(&w->mode) == HF_DISKSHM_HOLD &&
	       atomic_load(&w->state) == HF_DISKSHM_DIRECT) {
		engine_wait(&e->log_changed, &e->log_lock, engine_now_ns() + ENGINE_S_NS);
		pthread_mutex_unlock(&e->log_lock);
		is_waiting = !engine_is_stopping(e);
		pthread_mutex_lock(&e->log_lock);
	}
	pthread_mutex_unlock(&e->log_lock);
	return is_waiting;
}

/* Who finds the images held counts on it that they have all that was written before, and nothing that was
 * written past the log since. So not before the flush, and not once a drain has begun: OWNED may stand there. */
static int set_held(struct hf_engine *e, struct hf_id session, struct hf_err *err)
{
	int r = 0;

	if (!await_hold(e))
		return -ECANCELED;
	pthread_mutex_lock(&e->redo_lock);
	if (atomic_load(&e->words->state) == HF_DISKSHM_HOLD) {
		r = hf_redo_set_state(e->redo, HF_DISK_HELD, session, err);
		if (!r)
			engine_note_condition(e, HF_DISK_HELD, session);
	}
	pthread_mutex_unlock(&e->redo_lock);
	return r;
}

static int set_state(struct hf_engine *e, const struct hf_diskctl_msg *order, struct hf_err *err)
{
	enum hf_disk_condition condition = order->set_state.condition;
	bool is_of_standby = condition == HF_DISK_PARTIAL || condition == HF_DISK_REPLICATED;
	int r = 0;

	if (!is_of_standby && atomic_load(&e->words->role) == HF_DISKSHM_OWNER)
		r = claim(e);
	if (r < 0)
		return r;
	if (is_of_standby != (atomic_load(&e->role) == HF_DISKSHM_REPLICA) && !e->is_shared) {
		hf_err_set(err, "the disks' condition cannot become '%s' in this role",
			   hf_disk_condition_name(condition));
		return -EINVAL;
	}
	if (condition == HF_DISK_PARTIAL)
		return set_partial(e, order->set_state.session, err);
	if (condition == HF_DISK_HELD)
		return set_held(e, order->set_state.session, err);
	if (condition == HF_DISK_REPLICATED)
		engine_maps_begin(e, order->set_state.session);
	return engine_set_condition(e, condition, order->set_state.session, err);
}

static int flush_copy(struct hf_engine *e)
{
	uint64_t head = hf_diskshm_head(&e->shm, HF_DISKSHM_COPY);
	int r = 0;

	pthread_mutex_lock(&e->lock);
	while (atomic_load(&e->words->copy_done) < head && !e->is_stopping)
		engine_wait(&e->changed, &e->lock, engine_now_ns() + ENGINE_S_NS);
	if (e->is_stopping)
		r = -ECANCELED;
	pthread_mutex_unlock(&e->lock);
	return r ? r : engine_flush_images(e);
}

static void carry_out(struct hf_engine *e, const struct hf_diskctl_msg *order)
{
	struct hf_diskctl_msg done = { .type = HF_DISKCTL_DONE, .number = order->number };
	struct hf_err err = { "" };
	int r;

	if (order->type == HF_DISKCTL_SYNC_START) {
		engine_sync_start(e, order->sync_start.is_full, order->sync_start.session);
		return;
	}
	if (order->type == HF_DISKCTL_SYNC_STOP) {
		engine_sync_stop(e);
		return;
	}
	r = order->type == HF_DISKCTL_SET_STATE ? set_state(e, order, &err) : flush_copy(e);
	if (r < 0 && !err.text[0])
		hf_err_set(&err, "%s", strerror(-r));
	done.done.error = r;
	(void)snprintf(done.done.text, sizeof(done.done.text), "%.*s", HF_DISKCTL_TEXT_MAX,
		       err.text);
	engine_say(e, &done);
}

void *engine_orders_thread(void *arg)
{
	struct hf_engine *e = arg;
	struct hf_diskctl_msg order;

	pthread_mutex_lock(&e->lock);
	while (!e->is_stopping) {
		if (e->n_orders == 0) {
			engine_wait(&e->changed, &e->lock, 0);
			continue;
		}
		order = e->order[0];
		memmove(e->order, e->order + 1, --e->n_orders * sizeof(order));
		pthread_mutex_unlock(&e->lock);
		carry_out(e, &order);
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- what comes in ---- */

static void queue(struct hf_engine *e, const struct hf_diskctl_msg *order)
{
	struct hf_diskctl_msg done = { .type = HF_DISKCTL_DONE, .number = order->number };
	bool is_queued;

	pthread_mutex_lock(&e->lock);
	is_queued = e->n_orders < ENGINE_ORDERS_MAX;
	if (is_queued)
		e->order[e->n_orders++] = *order;
	engine_signal(e);
	pthread_mutex_unlock(&e->lock);
	if (is_queued)
		return;
	done.done.error = -EBUSY;
	(void)snprintf(done.done.text, sizeof(done.done.text), "too many orders wait");
	engine_say(e, &done);
}

static void obey(struct hf_engine *e, const struct hf_diskctl_msg *msg)
{
	struct hf_diskctl_msg pong = { .type = HF_DISKCTL_PONG, .number = msg->number };

	switch (msg->type) {
	case HF_DISKCTL_PING:
		engine_say(e, &pong);
		break;
	case HF_DISKCTL_SYNC_CONFIRMED:
		engine_sync_confirmed(e, msg->mark);
		break;
	case HF_DISKCTL_SET_STATE:
	case HF_DISKCTL_SYNC_START:
	case HF_DISKCTL_SYNC_STOP:
	case HF_DISKCTL_FLUSH_SYNC:
		queue(e, msg);
		break;
	case HF_DISKCTL_READY:
	case HF_DISKCTL_DONE:
	case HF_DISKCTL_FAULT:
	case HF_DISKCTL_WELL:
	case HF_DISKCTL_PONG:
	default:
		break; /* not a keeper's */
	}
}

/* False: nothing will come any more. */
static bool hear(struct hf_engine *e)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX + 1];
	struct hf_diskctl_msg msg;
	ssize_t n = recv(e->control_fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (hf_diskctl_decode(buf, (size_t)n, &msg, NULL) == 0)
		obey(e, &msg);
	return true;
}

static void hear_kick(struct hf_engine *e)
{
	uint64_t n;

	(void)!read(e->shm.kick_fd, &n, sizeof(n));
	atomic_store(&e->words->direct_writes, atomic_load(&e->n_direct));
	engine_look_at_words(e);
	pthread_mutex_lock(&e->sync_lock);
	pthread_cond_broadcast(&e->sync_changed);
	pthread_mutex_unlock(&e->sync_lock);
}

void *engine_control_thread(void *arg)
{
	struct hf_engine *e = arg;
	struct pollfd p[3] = {
		{ .fd = e->stop_fd, .events = POLLIN },
		{ .fd = e->shm.kick_fd, .events = POLLIN },
		{ .fd = e->control_fd, .events = POLLIN },
	};

	for (;;) {
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return NULL;
		if (p[0].revents)
			return NULL;
		if (p[1].revents)
			hear_kick(e);
		if (p[2].revents && !hear(e))
			p[2].fd = -1;
	}
}
