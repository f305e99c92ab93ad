/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What dump and check share, and a dump as text. Layer: cli. Prints to stdout.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* [--json] AREA. Return: 0; 1: help is wanted; negative with @err. */
int hf_lease_read_options(int argc, char **argv, bool *ret_json, char *ret_path, size_t size,
			  struct hf_err *err) HF_MUST_CHECK;

void hf_lease_print_json(struct json_object *o);

/* What `holdfast lease dump --json` prints, for people. */
void hf_show_leases(struct json_object *dump);
