/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper's status as text for people. Layer: cli. Does not block; writes to stdout.
 */
#pragma once

#include <json-c/json_object.h>

void hf_show_status(struct json_object *status);
