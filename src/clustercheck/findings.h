/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was found: a list of mistakes, and how each is mended. Layer: clustercheck. One thread per object. Allocates. */
#pragma once

#include <stddef.h>

#define HF_FINDINGS_MAX 20000

enum hf_found { HF_FOUND_NOTE, HF_FOUND_WARNING, HF_FOUND_ERROR, HF_FOUND_COUNT };

struct hf_finding {
	enum hf_found severity;
	const char *code; /* static: "monitor-missing" */
	char where[128]; /* id of the element, path of the file, or name of the host */
	char resource[128]; /* id of the primitive; "" */
	char vm[64]; /* "": it concerns all */
	char what[448];
	char crm[256], pcs[256]; /* commands; "": no command does it */
	char mend[320]; /* words, beside or instead of commands; "" */
};

struct hf_findings {
	struct hf_finding *v;
	size_t n, n_left_out; /* because there are more than HF_FINDINGS_MAX, or no memory */
	size_t count[HF_FOUND_COUNT]; /* those that were left out, too */
	struct hf_finding spare;
};

const char *hf_found_name(enum hf_found severity); /* "error", ... */

/* Return: the new one, never NULL, to be filled further until the next call. What is too long is cut. */
struct hf_finding *hf_findings_add(struct hf_findings *f, enum hf_found severity, const char *code,
				   const char *where, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* What mends it: in crmsh's words, pcs's, or people's. */
void hf_finding_crm(struct hf_finding *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void hf_finding_pcs(struct hf_finding *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void hf_finding_mend(struct hf_finding *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Errors first; else in the order in which they were added. */
void hf_findings_sort(struct hf_findings *f);
void hf_findings_fini(struct hf_findings *f);
