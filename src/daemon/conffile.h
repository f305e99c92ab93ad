/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A configuration file's text, as a whole. Layer: daemon. Blocks as the file system does. */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* @ret: *ret_len bytes, for free(). Return: 0; -ENOENT; -EFBIG; -EINVAL: no regular file; other -errno;
 * @err names the file. */
int hf_conffile_read(const char *path, char **ret, size_t *ret_len,
		     struct hf_err *err) HF_MUST_CHECK;
