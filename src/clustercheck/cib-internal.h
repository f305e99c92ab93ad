/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the CIB's reader share. Layer: clustercheck. */
#pragma once

#include <libxml/tree.h>

#include "clustercheck/cib.h"

/* What rules about resources and operations are evaluated for. NULL: there is none. */
struct hf_cib_ctx {
	const char *class, *provider, *type;
	const char *op_name;
	const char *op_interval;
	const char *node; /* of an expression about #uname */
};

enum hf_cib_truth { HF_CIB_FALSE, HF_CIB_TRUE, HF_CIB_UNKNOWN };

/* An attribute's text, "" if it is empty; NULL: there is none. */
const char *hf_cib_attr(const xmlNode *n, const char *name);
bool hf_cib_is_called(const xmlNode *n, const char *name);
/* The first child element of that name (NULL: any), or the next one behind @after. */
xmlNode *hf_cib_child(const xmlNode *n, const char *name);
xmlNode *hf_cib_next(const xmlNode *after, const char *name);
/* @n, or what its id-ref points to; NULL: nothing of the same kind. */
const xmlNode *hf_cib_deref(const struct hf_cib *c, const xmlNode *n);
const xmlNode *hf_cib_by_id(const struct hf_cib *c, const char *id);

/* All rules of a set; one without a rule is true. */
enum hf_cib_truth hf_cib_rule(const struct hf_cib *c, const xmlNode *rule,
			      const struct hf_cib_ctx *ctx);

/* The sets called @kind of one owner, which may be NULL. */
struct hf_cib_value hf_cib_find(const struct hf_cib *c, const xmlNode *owner, const char *kind,
				const char *name, const struct hf_cib_ctx *ctx);

struct hf_cib_ctx hf_cib_rsc_ctx(const struct hf_cib_rsc *r);
