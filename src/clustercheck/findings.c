/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clustercheck/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *hf_found_name(enum hf_found severity)
{
	static const char *const names[] = { "note", "warning", "error" };

	return names[severity];
}

static struct hf_finding *next(struct hf_findings *f)
{
	struct hf_finding *grown;

	if (f->n == HF_FINDINGS_MAX)
		return NULL;
	if ((f->n & (f->n - 1)) == 0) {
		grown = reallocarray(f->v, f->n ? 2 * f->n : 1, sizeof(*grown));
		if (!grown)
			return NULL;
		f->v = grown;
	}
	return &f->v[f->n++];
}

#define FORMAT_INTO(member)                                                                        \
	do {                                                                                       \
		va_list ap_;                                                                       \
		va_start(ap_, format);                                                             \
		(void)vsnprintf(member, sizeof(member), format, ap_);                              \
		va_end(ap_);                                                                       \
	} while (0)

struct hf_finding *hf_findings_add(struct hf_findings *f, enum hf_found severity, const char *code,
				   const char *where, const char *format, ...)
{
	struct hf_finding *new = next(f);

	f->count[severity]++;
	if (!new) {
		f->n_left_out++;
		new = &f->spare;
	}
	*new = (struct hf_finding){ .severity = severity, .code = code };
	(void)snprintf(new->where, sizeof(new->where), "%s", where ? where : "");
	FORMAT_INTO(new->what);
	return new;
}

void hf_finding_crm(struct hf_finding *f, const char *format, ...)
{
	FORMAT_INTO(f->crm);
}

void hf_finding_pcs(struct hf_finding *f, const char *format, ...)
{
	FORMAT_INTO(f->pcs);
}

void hf_finding_mend(struct hf_finding *f, const char *format, ...)
{
	FORMAT_INTO(f->mend);
}

/* One pass for each severity, which keeps the order of equals. */
void hf_findings_sort(struct hf_findings *f)
{
	struct hf_finding *sorted = f->n ? calloc(f->n, sizeof(*sorted)) : NULL;
	size_t n = 0;

	if (!sorted)
		return;
	for (int s = HF_FOUND_ERROR; s >= HF_FOUND_NOTE; s--)
		for (size_t i = 0; i < f->n; i++)
			if (f->v[i].severity == (enum hf_found)s)
				sorted[n++] = f->v[i];
	free(f->v);
	f->v = sorted;
	f->n = n;
}

void hf_findings_fini(struct hf_findings *f)
{
	free(f->v);
	*f = (struct hf_findings){ 0 };
}
