/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A frozen instance, told so that a person believes it: what befell it, each step with its time, each
 * check, what is kept where, what can be done. Layer: cli. Does not block; writes to stdout.
 */
#pragma once

#include <json-c/json_object.h>

/* @row: of rows.h, with the certificate as a whole. */
void hf_show_frozen(struct json_object *row);
