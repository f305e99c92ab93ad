/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `holdfast check-config [FILE...]`: for verb.h's table. Layer: cli. What would read the files says. */
#pragma once

#include "cli/verb.h"

int hf_config_check(const struct hf_verb_options *o);
