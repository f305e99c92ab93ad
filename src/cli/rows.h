/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One row for each instance of a VM, made of what several sources say of it. Layer: cli. One thread. Pure
 * but for memory: nothing is asked here.
 *
 * Sources come in the order of their truth: first the keepers, then the certificates, then holdfastd,
 * then the definitions. A later one fills in what is missing.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>

#include "cli/instance.h"

/* @name: of the folder in RUN_DIR: NAME or NAME@ID. @status: of its keeper, borrowed. */
void hf_rows_add_keeper(struct json_object *rows, const struct hf_instance *at,
			struct json_object *status);

/* There is a keeper that does not answer. @text: what is seen of it from outside. 0: no process. */
void hf_rows_add_silent(struct json_object *rows, const struct hf_instance *at, const char *text,
			int keeper_pid, int qemu_pid);

/* @frozen: an element of "frozen" of shelf.h. Unknown to a keeper: nobody guards it. */
void hf_rows_add_frozen(struct json_object *rows, struct json_object *frozen);

/* Of holdfastd's Vms(); of a VM on this host, or that is only defined here. */
void hf_rows_add_daemons(struct json_object *rows, struct json_object *vm);

void hf_rows_add_saved(struct json_object *rows, const char *vm);
void hf_rows_add_defined(struct json_object *rows, const char *vm);

/* Fills in host and reason, and which frozen instances there are beside; sorts. */
void hf_rows_finish(struct json_object *rows, const char *host_name);

/* "managed by pacemaker (vm1)", in @buf; "": by nobody. */
#define HF_ROWS_MANAGER 320
const char *hf_rows_manager(struct json_object *row, char *buf, size_t size);

/* NULL: none. Borrowed. */
struct json_object *hf_rows_find(struct json_object *rows, const char *name);

/* Members as text; "" and 0 if they are missing. Borrowed. */
const char *hf_rows_text(struct json_object *o, const char *key);
int64_t hf_rows_number(struct json_object *o, const char *key);
bool hf_rows_is_set(struct json_object *o, const char *key);
