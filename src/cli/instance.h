/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What people call an instance of a VM: NAME, or NAME@ID of a frozen one, the ID maybe shortened. Layer:
 * cli. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"

#define HF_INSTANCE_ID 8 /* hex digits, of HF_CERTIFICATE_ID */
#define HF_INSTANCE_TEXT (HF_NAME_MAX + 1 + HF_INSTANCE_ID + 1)

struct hf_instance {
	char vm[HF_NAME_MAX + 1];
	char id[HF_INSTANCE_ID + 1]; /* "": none was given */
};

/* 0; -EINVAL with @err: it cannot be a name, and why. */
int hf_instance_parse(const char *text, struct hf_instance *ret, struct hf_err *err) HF_MUST_CHECK;

/* "web" or "web@3fa20c11". Returns @buf of HF_INSTANCE_TEXT bytes. */
const char *hf_instance_format(const struct hf_instance *i, char *buf);
