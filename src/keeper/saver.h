/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Save: the VM's state into files, then QEMU ends in order; and resuming from them, once. Layer: keeper. Main
 * thread; what blocks on storage is done by a worker.
 *
 * Theory of operation. Nothing is begun with the guest any more (role op `hold`), the device state is taken by a
 * checkpoint that leaves the VM stopped, and a worker writes RAM and state beside each other, durable, into
 * saved.new. Until that is renamed to `saved` any failure, the client's end too, lets the VM go on as if nothing
 * had been. From then on it ends as by `stop --force`: QEMU quits, a standby is told that the VM has ended, disks
 * are written out, the lease is given back. A note without images says that this last part was not seen to its
 * end; hf_saver_settle() writes the one with them when it was.
 *
 * Resuming: the folder changes its name before the first instruction of the guest, so a second one cannot be.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>

#include "base/error.h"

struct hf_keeper;
struct hf_saver; /* a save; hf_keeper.saver, NULL: none is under way or done */
struct hf_saved; /* what is resumed from; hf_keeper.saved, NULL: the guest boots */
struct hf_varlink_request;

/*
 * ---- save ----
 * The method Save(): {"force": bool}. With "more": {"done_bytes", "total_bytes"} now and then. It is answered when the
 * state is durable, just before QEMU is told to quit: {"bytes"}. Errors: NotPossible(reason).
 */
void hf_saver_order(struct hf_keeper *k, struct hf_varlink_request *rq,
		    struct json_object *parameters);

/* To be given each of QEMU's events, and its end. Take a k->saver of NULL. */
void hf_saver_qmp_event(struct hf_keeper *k, const char *name, struct json_object *data);
void hf_saver_guest_gone(struct hf_keeper *k);

/* The VM is not to go on, and so cannot be resumed from what is being written: that is removed. Return: nothing of
 * it is under way in QEMU; else hf_freezer_role_is_quiet() follows. */
bool hf_saver_call_off(struct hf_keeper *k, const char *why);

/* Is the guest's standstill this save's? Then STOP is nobody's pause. */
bool hf_saver_is_at_work(const struct hf_keeper *k);
/* Is the VM saved? Then its end is no loss. */
bool hf_saver_is_done(const struct hf_keeper *k);

/* At the keeper's end, when QEMU and the disk process are dead and the images have all that was written. Nothing
 * if nothing was saved. BLOCKS. */
void hf_saver_settle(struct hf_keeper *k);

/*
 * ---- resume, at the start of a role that runs the VM; all BLOCK ----
 */

/* Is there something to be resumed? k->saved is set if so. With set->is_saved_discarded it is removed instead. 0;
 * -errno with @err: it is there and cannot be used; what to do is in the text. To be called before the command
 * line is parsed: hf_cmdline_want.is_resumed = k->saved != NULL, hf_guest_config.is_standby likewise. */
int hf_saver_find(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/* Is it still this VM's last state? To be called with the lease acquired, before the guest and the disk process are
 * started. Images that have changed, a lease that another host has had since: -ESTALE, unless set->is_forced. */
int hf_saver_check(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/* The guest waits for its state: RAM and state go in, QEMU stands still with them; then the state on disk is used up
 * (saved.used). 0 or -errno. */
int hf_saver_load(struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/* It ran when it was saved, so `cont` is due now. */
bool hf_saver_was_running(const struct hf_keeper *k);

/* It runs (or stands still as it did): what is left of the state is removed. */
void hf_saver_resumed(struct hf_keeper *k);
/* The start has failed after find(): it can be tried again. Nothing if there is nothing to take back. */
void hf_saver_take_back(struct hf_keeper *k);

void hf_saver_free(struct hf_keeper *k);
