/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/json.h"
#include "keeper/keeper.h"
#include "keeper/saver.h"
#include "sys/fd.h"
#include "vm/savefile.h"

#define LOAD_MAX_NS 60000000000ull

struct hf_saved {
	struct hf_savenote note;
	bool is_used;
	uint64_t lver; /* ours, that follows the saved VM's; 0: none */
};

int hf_saver_find(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_saved *s;
	int r;

	if (k->set->is_saved_discarded) {
		hf_log(&k->journal, HF_LOG_INFO, "a saved state is discarded, if there is one");
		return hf_savefile_discard(k->set->state_dir, k->name, err);
	}
	if (hf_savefile_has_used(k->set->state_dir, k->name))
		hf_log(&k->journal, HF_LOG_ERROR,
		       "%s/%s/saved.used: a resume that did not come to its end has left it; the "
		       "VM "
		       "may have run since, so it is not used again",
		       k->set->state_dir, k->name);
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = hf_savefile_find(k->set->state_dir, k->name, &s->note, err);
	if (r < 0) {
		free(s);
		if (r == -ENOENT)
			return 0;
		hf_err_prefix(err, "the VM has a saved state that cannot be read; start it with "
				   "--discard-saved to boot it instead: ");
		return r;
	}
	k->saved = s;
	return 0;
}

static int check_lease(struct hf_keeper *k, struct hf_err *err)
{
	uint64_t saved = k->saved->note.lver;
	uint64_t now = k->ownership ? hf_ownership_lver(k->ownership) : 0;

	/* Each ownership has its number: ours must be the one after the saved VM's. */
	if (!saved || !now || now == saved + 1 || now == saved) {
		k->saved->lver = now;
		return 0;
	}
	hf_err_set(err,
		   "the VM has run elsewhere since it was saved (its lease has gone from version "
		   "%" PRIu64 " to %" PRIu64 ")",
		   saved, now);
	return -ESTALE;
}

int hf_saver_check(struct hf_keeper *k, struct hf_err *err)
{
	struct hf_err why = { "" };
	int r;

	if (!k->saved)
		return 0;
	r = check_lease(k, &why);
	if (!r)
		r = hf_savefile_check_images(&k->saved->note, &why);
	if (!r)
		return 0;
	if (k->set->is_forced) {
		hf_log(&k->journal, HF_LOG_ERROR, "resumed all the same, by force: %s", why.text);
		return 0;
	}
	hf_err_set(
		err,
		"the saved state does not fit any more: %s; --discard-saved boots the VM instead, "
		"--force resumes all the same",
		why.text);
	return r;
}

static int check_guest(const struct hf_keeper *k, struct hf_err *err)
{
	const struct hf_guest_identity *id = hf_guest_identity(k->guest);
	const struct hf_savenote *n = &k->saved->note;

	if (n->ram_bytes != id->ram_bytes || strcmp(n->machine, id->machine) != 0) {
		hf_err_set(err,
			   "the saved VM is a %s with %" PRIu64
			   " bytes of RAM, and the command line makes a %s with %" PRIu64,
			   n->machine, n->ram_bytes, id->machine, id->ram_bytes);
		return -EINVAL;
	}
	return 0;
}

/* QEMU reads as fast as we write. */
static int feed_state(struct hf_keeper *k, const uint8_t *state, size_t len)
{
	int fd = hf_guest_take_incoming_fd(k->guest);
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	uint64_t until = hf_now_ns() + LOAD_MAX_NS;
	size_t n;
	int r = 0;

	while (r >= 0 && len) {
		r = hf_fd_send(fd, state, len, &n);
		if (r == HF_FD_AGAIN && hf_now_ns() > until)
			r = -ETIMEDOUT;
		else if (r == HF_FD_AGAIN)
			(void)poll(&pfd, 1, 100);
		else if (r == 0) {
			state += n;
			len -= n;
		}
	}
	hf_fd_close(&fd);
	return r < 0 ? r : 0;
}

/* 1: done; 0: not yet. */
static int ask_progress(struct hf_keeper *k, struct hf_err *err)
{
	struct json_object *answer = NULL;
	const char *status = "";
	int r = hf_qmp_call_wait(hf_guest_qmp(k->guest), "query-migrate", NULL, 10000, &answer,
				 err);

	if (r < 0)
		return r;
	(void)!hf_json_str(answer, "status", &status, NULL);
	r = strcmp(status, "completed") == 0 ? 1 : strcmp(status, "failed") == 0 ? -EIO : 0;
	json_object_put(answer);
	if (r < 0)
		hf_err_set(err, "QEMU does not take the saved state; its own message is above");
	return r;
}

static int await_loaded(struct hf_keeper *k, struct hf_err *err)
{
	uint64_t until = hf_now_ns() + LOAD_MAX_NS;
	int r;

	while ((r = ask_progress(k, err)) == 0) {
		if (hf_now_ns() > until) {
			hf_err_set(err, "QEMU has not loaded the saved state in time");
			return -ETIMEDOUT;
		}
		(void)poll(NULL, 0, 5);
	}
	return r < 0 ? r : 0;
}

int hf_saver_load(struct hf_keeper *k, struct hf_err *err)
{
	uint8_t *state = NULL;
	size_t len;
	int r;

	if (!k->saved)
		return 0;
	r = check_guest(k, err);
	if (!r)
		r = hf_savefile_load(k->set->state_dir, &k->saved->note, hf_guest_ram(k->guest)->fd,
				     &state, &len, err);
	if (r < 0)
		return r;
	r = feed_state(k, state, len);
	free(state);
	if (r < 0)
		hf_err_set(err, "QEMU does not read the saved state: %s", strerror(-r));
	if (!r)
		r = await_loaded(k, err);
	if (!r)
		r = hf_savefile_use(k->set->state_dir, k->name, err);
	if (!r)
		k->saved->is_used = true;
	return r;
}

bool hf_saver_was_running(const struct hf_keeper *k)
{
	return !k->saved || k->saved->note.was_running;
}

void hf_saver_resumed(struct hf_keeper *k)
{
	if (!k->saved)
		return;
	hf_savefile_remove_used(k->set->state_dir, k->name);
	hf_event(&k->journal, "resumed", NULL, "the VM goes on from its saved state");
	free(k->saved);
	k->saved = NULL;
}

void hf_saver_take_back(struct hf_keeper *k)
{
	struct hf_saved *s = k->saved;
	struct hf_err err = { "" };
	int r = 0;

	if (!s)
		return;
	if (s->is_used)
		r = hf_savefile_give_back(k->set->state_dir, k->name, &err);
	/* The lease was ours in between, and nothing ran under it. */
	if (!r && s->lver && s->note.lver && s->lver != s->note.lver) {
		s->note.lver = s->lver;
		r = hf_savefile_update(k->set->state_dir, &s->note, &err);
	}
	if (r < 0)
		hf_log(&k->journal, HF_LOG_ERROR, "the saved state cannot be kept: %s", err.text);
	s->is_used = false;
}
