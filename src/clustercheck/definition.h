/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a VM's definition on this host says that a cluster's configuration has to fit. Layer: clustercheck. Any thread. Reads files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

enum hf_definition_state { HF_DEFINITION_MISSING, HF_DEFINITION_INVALID, HF_DEFINITION_GOOD };

struct hf_definition {
	char name[HF_NAME_MAX + 1];
	enum hf_definition_state state;
	char error[HF_ERR_MAX]; /* of one that is not GOOD */
	bool is_managed; /* manager = pacemaker */
	bool is_shared; /* disk-layout = shared */
	bool has_no_lease; /* lease = no */
	char hosts[2][HF_NAME_MAX + 1];
	unsigned int n_hosts; /* 0 or 2 */
};

/* @text: of the file called @file. */
void hf_definition_parse(const char *name, const char *file, const char *text, size_t len,
			 struct hf_definition *ret);
/* FOLDER/NAME.conf */
void hf_definition_read(const char *folder, const char *name, struct hf_definition *ret);

/* All of a folder, by name. *ret: for free(). 0; -ENOENT; other -errno with @err. */
int hf_definitions_read(const char *folder, struct hf_definition **ret, size_t *ret_n,
			struct hf_err *err) HF_MUST_CHECK;
