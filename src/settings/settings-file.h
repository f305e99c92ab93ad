/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The definition file of a VM. Layer: settings. Any thread. Allocates; reading it
 * blocks.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "settings/settings.h"

/**
 * hf_settings_read_file() - read a file's text whole
 * @ret: @ret_len bytes, to be freed by the caller
 * Return: 0; -EINVAL when it is no regular file or larger than HF_CONF_FILE_MAX; -errno; @err says it.
 */
int hf_settings_read_file(const char *path, char **ret, size_t *ret_len,
			  struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_settings_apply_file() - take over what a file's text says
 * @file: its name, for messages
 * @nodename: to choose the own host by, unless @s->host is set; it is then set
 * The whole file is checked, also what is meant for the other host, so that it is refused on both
 * or on none. Return: 0; -EINVAL with @err = "FILE:LINE:COLUMN: what"; -ENOMEM.
 */
int hf_settings_apply_file(struct hf_settings *s, const char *file, const char *text, size_t len,
			   const char *nodename, struct hf_err *err) HF_MUST_CHECK;
