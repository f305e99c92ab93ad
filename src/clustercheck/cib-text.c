/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts of the CIB, as Pacemaker's own library reads them: case does not matter, and blanks around a time do not. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clustercheck/cib.h"

#define YEAR_MS (366ull * 24 * 3600 * 1000)

struct unit {
	const char *name;
	uint64_t us;
};

static const struct unit units[] = {
	{ "", 1000000 },     { "us", 1 },         { "usec", 1 },        { "ms", 1000 },
	{ "msec", 1000 },    { "s", 1000000 },    { "sec", 1000000 },   { "m", 60000000 },
	{ "min", 60000000 }, { "h", 3600000000 }, { "hr", 3600000000 },
};

static const uint64_t *unit_us(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].name) == len && strncasecmp(units[i].name, name, len) == 0)
			return &units[i].us;
	return NULL;
}

/* At most a year: who says more means "for ever". */
static uint64_t bounded_ms(uint64_t n, uint64_t us)
{
	return n > YEAR_MS * 1000 / us ? YEAR_MS : n * us / 1000;
}

/* "PT1H2M3S", "P1D": what people write of ISO 8601. */
static int iso_ms(const char *text, uint64_t *ret)
{
	uint64_t sum = 0, us;
	bool is_time = false;
	char *end;

	for (text++; *text && !isspace((unsigned char)*text); text = end + 1) {
		if (*text == 'T' && !is_time) {
			is_time = true;
			end = (char *)(uintptr_t)text;
			continue;
		}
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		errno = 0;
		uint64_t n = strtoull(text, &end, 10);

		us = *end == 'D' && !is_time   ? 24 * 3600000000ull
		     : *end == 'H' && is_time  ? 3600000000ull
		     : *end == 'M' && is_time  ? 60000000ull
		     : *end == 'S' && is_time  ? 1000000ull
		     : *end == 'W' && !is_time ? 168 * 3600000000ull
					       : 0;
		if (!us || errno)
			return -EINVAL;
		sum += bounded_ms(n, us);
	}
	*ret = sum > YEAR_MS ? YEAR_MS : sum;
	return 0;
}

int hf_cib_time_ms(const char *text, uint64_t *ret)
{
	const uint64_t *us;
	uint64_t n;
	char *end;

	text += strspn(text, " \t");
	if (*text == 'P')
		return iso_ms(text, ret);
	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		n = UINT64_MAX;
	end += strspn(end, " \t");
	us = unit_us(end, strcspn(end, " \t"));
	if (!us)
		return -EINVAL;
	*ret = bounded_ms(n, *us);
	return 0;
}

bool hf_cib_is_true(const char *text)
{
	static const char *const words[] = { "true", "on", "yes", "y", "1" };

	for (size_t i = 0; text && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(text, words[i]) == 0)
			return true;
	return false;
}

int hf_cib_score(const char *text)
{
	long n;

	if (!text)
		return 0;
	if (strcasecmp(text, "-INFINITY") == 0)
		return -HF_CIB_INFINITY;
	if (strcasecmp(text, "INFINITY") == 0 || strcasecmp(text, "+INFINITY") == 0)
		return HF_CIB_INFINITY;
	n = strtol(text, NULL, 10);
	if (n > HF_CIB_INFINITY)
		n = HF_CIB_INFINITY;
	return n < -HF_CIB_INFINITY ? -HF_CIB_INFINITY : (int)n;
}
