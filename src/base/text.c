/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Splits "12ms" into 12 and "ms". The number is plain decimal digits; no sign, no fraction. */
static int split_number(const char *text, uint64_t *ret_number, const char **ret_unit)
{
	char *end;
	unsigned long long n;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	*ret_number = n;
	*ret_unit = end;
	return 0;
}

static int parse_with_units(const char *text, const struct unit *units, uint64_t *ret)
{
	const char *name;
	uint64_t n;
	int r;

	r = split_number(text, &n, &name);
	if (r < 0)
		return r;
	for (; units->name; units++) {
		if (strcmp(units->name, name) != 0)
			continue;
		return __builtin_mul_overflow(n, units->factor, ret) ? -ERANGE : 0;
	}
	return -EINVAL;
}

int hf_parse_duration_ns(const char *text, uint64_t *ret_ns, struct hf_err *err)
{
	static const struct unit units[] = {
		{ "us", 1000 },         { "ms", 1000000 }, { "s", 1000000000 },
		{ "min", 60000000000 }, { NULL, 0 },
	};
	uint64_t ns = 0;
	int r = strcmp(text, "0") == 0 ? 0 : parse_with_units(text, units, &ns);

	if (r < 0)
		hf_err_set(err,
			   "'%s' is not a duration (write it with its unit: 500us, 20ms, 2s, 1min)",
			   text);
	else
		*ret_ns = ns;
	return r;
}

int hf_parse_size_bytes(const char *text, uint64_t *ret_bytes, struct hf_err *err)
{
	static const struct unit units[] = {
		{ "", 1 },           { "K", 1ull << 10 }, { "M", 1ull << 20 },
		{ "G", 1ull << 30 }, { "T", 1ull << 40 }, { NULL, 0 },
	};
	uint64_t n;
	int r = parse_with_units(text, units, &n);

	if (r < 0)
		hf_err_set(err, "'%s' is not a size (write 4096, 64K, 256M, 2G or 1T)", text);
	else
		*ret_bytes = n;
	return r;
}

int hf_parse_percent(const char *text, unsigned int *ret_percent, struct hf_err *err)
{
	static const struct unit units[] = { { "", 1 }, { "%", 1 }, { NULL, 0 } };
	uint64_t n;
	int r = parse_with_units(text, units, &n);

	if (!r && n > 100)
		r = -ERANGE;
	if (r < 0)
		hf_err_set(err, "'%s' is not a share (write 0%% to 100%%)", text);
	else
		*ret_percent = (unsigned int)n;
	return r;
}

int hf_parse_bool(const char *text, bool *ret, struct hf_err *err)
{
	static const char *const words[][2] = {
		{ "no", "yes" }, { "off", "on" }, { "false", "true" }, { "0", "1" }
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		for (int v = 0; v < 2; v++)
			if (strcmp(text, words[i][v]) == 0) {
				*ret = v;
				return 0;
			}
	hf_err_set(err, "'%s' is neither yes nor no", text);
	return -EINVAL;
}

const char *hf_format_duration(uint64_t ns, char *buf, size_t size)
{
	double v = (double)ns;

	if (ns < 1000000)
		(void)snprintf(buf, size, "%.0f us", v / 1e3);
	else if (ns < 1000000000)
		(void)snprintf(buf, size, "%.1f ms", v / 1e6);
	else
		(void)snprintf(buf, size, "%.1f s", v / 1e9);
	return buf;
}

const char *hf_format_size(uint64_t bytes, char *buf, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 1024 && u + 1 < sizeof(units) / sizeof(units[0]); u++)
		v /= 1024;
	(void)snprintf(buf, size, u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return buf;
}

bool hf_is_valid_name(const char *name)
{
	size_t n = strnlen(name, HF_NAME_MAX + 1);

	if (n == 0 || n > HF_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}

int hf_name_find(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}
