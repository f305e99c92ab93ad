/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void hf_err_set(struct hf_err *err, const char *format, ...)
{
	int saved = errno;
	va_list ap;

	if (!err)
		return;
	va_start(ap, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, ap);
	va_end(ap);
	errno = saved;
}

void hf_err_prefix(struct hf_err *err, const char *format, ...)
{
	char head[HF_ERR_MAX];
	char tail[HF_ERR_MAX];
	va_list ap;
	size_t n;

	if (!err)
		return;
	va_start(ap, format);
	(void)vsnprintf(head, sizeof(head), format, ap);
	va_end(ap);
	memcpy(tail, err->text, sizeof(tail));
	n = strnlen(head, sizeof(head) - 1);
	memcpy(err->text, head, n);
	(void)snprintf(err->text + n, sizeof(err->text) - n, "%s", tail);
}
