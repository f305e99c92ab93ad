/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/instance.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int refuse(const char *text, struct hf_err *err)
{
	hf_err_set(err,
		   "'%.100s' cannot be the name of a VM: up to %d letters, digits and ._-, not "
		   "first a . or -",
		   text, HF_NAME_MAX);
	return -EINVAL;
}

int hf_instance_parse(const char *text, struct hf_instance *ret, struct hf_err *err)
{
	const char *at = strchr(text, '@');
	size_t n = at ? (size_t)(at - text) : strlen(text);
	struct hf_instance i = { .id = "" };

	if (n >= sizeof(i.vm))
		return refuse(text, err);
	memcpy(i.vm, text, n);
	if (!hf_is_valid_name(i.vm))
		return refuse(text, err);
	if (at) {
		n = strlen(at + 1);
		if (n < 1 || n > HF_INSTANCE_ID || strspn(at + 1, "0123456789abcdef") != n) {
			hf_err_set(
				err,
				"'%.100s': behind the @ stand 1 to %d of the digits 0-9 a-f: the "
				"beginning of a frozen instance's id; `holdfast list` shows them",
				text, HF_INSTANCE_ID);
			return -EINVAL;
		}
		memcpy(i.id, at + 1, n);
	}
	*ret = i;
	return 0;
}

const char *hf_instance_format(const struct hf_instance *i, char *buf)
{
	(void)snprintf(buf, HF_INSTANCE_TEXT, "%s%s%s", i->vm, i->id[0] ? "@" : "", i->id);
	return buf;
}
