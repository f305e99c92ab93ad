/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `holdfast list`, `status`, `events`: for verb.h's table. Layer: cli. */
#pragma once

#include <json-c/json_object.h>

#include "cli/gather.h"
#include "cli/verb.h"

int hf_look_list(const struct hf_verb_options *o);
int hf_look_status(const struct hf_verb_options *o);
int hf_look_events(const struct hf_verb_options *o);

void hf_look_print_json(struct json_object *o);

/* The table of `list` and of `status` without a name. */
void hf_show_rows(struct json_object *rows, const char *indent, bool has_headings);

/* `status` without a name. */
void hf_show_all(const struct hf_gather *g);
/* What an administrator should see to: sentences. A new array. */
struct json_object *hf_show_troubles(const struct hf_gather *g);
