/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orders: for verb.h's table. Layer: cli. The keeper of the instance is asked, which works without a
 * daemon; `stop` goes through holdfastd if that answers, which otherwise would start the VM again.
 */
#pragma once

#include "cli/instance.h"
#include "cli/progress.h"
#include "cli/verb.h"

int hf_order_pause(const struct hf_verb_options *o);
int hf_order_resume(const struct hf_verb_options *o);
int hf_order_promote(const struct hf_verb_options *o);
int hf_order_stop(const struct hf_verb_options *o);
int hf_order_freeze(const struct hf_verb_options *o);
int hf_order_release(const struct hf_verb_options *o);
int hf_order_offload(const struct hf_verb_options *o);

/* holdfastd's. */
int hf_order_start(const struct hf_verb_options *o);
int hf_order_clear(const struct hf_verb_options *o);
int hf_order_reload(const struct hf_verb_options *o);

/* ---- for them ---- */

/**
 * hf_order_open() - the keeper of what the first word names
 * @ret_at: what was meant, with its whole id
 * Return: HF_EXIT_DONE with @c open; else the status, and what is wrong has been said. @ret_row, if not
 * NULL: on HF_EXIT_NOT_THERE the row of what is there without a keeper (saying nothing then), the
 * caller's; or NULL.
 */
int hf_order_open(const struct hf_verb_options *o, struct hf_client *c, struct hf_instance *ret_at,
		  struct json_object **ret_row);

/**
 * hf_order_call() - one call to an open client until its last reply
 * @p: taken over, may be NULL. @is_more: progress is shown: {text}, {done_bytes, total_bytes},
 *	{step, result, text}
 * @ret: the last reply, may be NULL
 * Return: an exit status, told if not 0.
 */
int hf_order_call(const struct hf_verb_options *o, struct hf_client *c, const char *method,
		  struct json_object *p, bool is_more, struct json_object **ret);

/* The same at holdfastd's. */
int hf_order_ask_daemon(const struct hf_verb_options *o, const char *method, struct json_object *p,
			bool is_more, struct json_object **ret);

/**
 * hf_order_check_manager() - may this be ordered by hand?
 * @manager: of --manager, NULL: not given
 * Asks holdfastd, a second at most, and looks at what was assigned if that does not answer. Return:
 * HF_EXIT_DONE; HF_EXIT_REFUSED, and who is to be asked instead has been said.
 */
int hf_order_check_manager(const char *verb, const char *run_dir, const char *vm,
			   const char *manager);

/* Until the deadline for the end of the keeper, which is that of its connection. 0; -ETIMEDOUT; -errno. */
int hf_order_wait_end(const struct hf_verb_options *o, struct hf_client *c);
