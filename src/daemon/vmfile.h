/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What holdfastd has to know of the VMs' definitions (holdfast.conf(5)); the rest of a file is for the
 * keeper to judge. Layer: daemon. Any thread. Reads files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

#define HF_VMFILE_HOSTS_MAX 16

struct hf_vmfile {
	char name[HF_NAME_MAX + 1];
	bool is_taken_over; /* takeover=yes, and no second host that protects it */
	char prefer[HF_VMFILE_HOSTS_MAX][HF_NAME_MAX + 1];
	unsigned int n_prefer;
};

/* Return: 0; -EINVAL with @err: file, line and column; -ENOMEM. */
int hf_vmfile_parse(const char *file, const char *text, size_t len, struct hf_vmfile *ret,
		    struct hf_err *err) HF_MUST_CHECK;

/* FOLDER/NAME.conf; -ENOENT, ... */
int hf_vmfile_read(const char *folder, const char *name, struct hf_vmfile *ret,
		   struct hf_err *err) HF_MUST_CHECK;

/* From 0; -1: that host is not to take it over. */
int hf_vmfile_position(const struct hf_vmfile *f, const char *host);
