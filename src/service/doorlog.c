/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/doorlog.h"

#include <string.h>

#include "base/crc32c.h"

#define HOUR_NS 3600000000000ull

static uint32_t mark_of(const char *who, const char *why)
{
	uint32_t crc = hf_crc32c(hf_crc32c(0, who, strlen(who) + 1), why, strlen(why));

	return crc ? crc : 1;
}

static bool is_new(struct hf_doorlog *d, uint32_t mark)
{
	for (unsigned int i = 0; i < HF_DOORLOG_KEPT; i++)
		if (d->seen[i] == mark)
			return false;
	d->seen[d->next] = mark;
	d->next = (d->next + 1) % HF_DOORLOG_KEPT;
	return true;
}

bool hf_doorlog_tell(struct hf_doorlog *d, struct hf_journal *j, uint64_t now_ns, const char *who,
		     const char *why)
{
	if (!is_new(d, mark_of(who, why)))
		return false;
	if (d->n_lines == 0 || now_ns - d->hour_began_ns >= HOUR_NS) {
		d->hour_began_ns = now_ns;
		d->n_lines = 0;
	}
	if (++d->n_lines > HF_DOORLOG_LINES_PER_HOUR)
		return false;
	hf_log(j, HF_LOG_INFO, "%s was turned away: %s%s", who, why,
	       d->n_lines == HF_DOORLOG_LINES_PER_HOUR
		       ? " (for an hour from the first on no more of these are told)"
		       : "");
	return true;
}
