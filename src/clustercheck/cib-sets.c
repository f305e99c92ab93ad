/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets of attributes: which of them count, and which value of them. */
#include <string.h>

#include "clustercheck/cib-internal.h"

#define RULES_DEPTH_MAX 32
#define BOOTSTRAP "cib-bootstrap-options" /* counts before all other sets of properties */

static bool is_same(const char *wanted, const char *is)
{
	return !wanted || (is && strcmp(wanted, is) == 0);
}

static enum hf_cib_truth of_bool(bool is)
{
	return is ? HF_CIB_TRUE : HF_CIB_FALSE;
}

static enum hf_cib_truth rsc_expression(const xmlNode *e, const struct hf_cib_ctx *ctx)
{
	return of_bool(is_same(hf_cib_attr(e, "class"), ctx->class) &&
		       is_same(hf_cib_attr(e, "provider"), ctx->provider) &&
		       is_same(hf_cib_attr(e, "type"), ctx->type));
}

static enum hf_cib_truth op_expression(const xmlNode *e, const struct hf_cib_ctx *ctx)
{
	const char *interval = hf_cib_attr(e, "interval");
	uint64_t wanted, is;

	if (!is_same(hf_cib_attr(e, "name"), ctx->op_name))
		return HF_CIB_FALSE;
	if (!interval)
		return HF_CIB_TRUE;
	return of_bool(ctx->op_interval && hf_cib_time_ms(interval, &wanted) == 0 &&
		       hf_cib_time_ms(ctx->op_interval, &is) == 0 && wanted == is);
}

/* Only about the node's name: other attributes change while the cluster runs. */
static enum hf_cib_truth node_expression(const xmlNode *e, const struct hf_cib_ctx *ctx)
{
	const char *attribute = hf_cib_attr(e, "attribute");
	const char *operation = hf_cib_attr(e, "operation");
	const char *value = hf_cib_attr(e, "value");

	if (!ctx->node || !attribute || strcmp(attribute, "#uname") != 0 || !operation || !value)
		return HF_CIB_UNKNOWN;
	if (strcmp(operation, "eq") == 0)
		return of_bool(strcmp(value, ctx->node) == 0);
	if (strcmp(operation, "ne") == 0)
		return of_bool(strcmp(value, ctx->node) != 0);
	return HF_CIB_UNKNOWN;
}

static enum hf_cib_truth rule_at(const struct hf_cib *c, const xmlNode *rule,
				 const struct hf_cib_ctx *ctx, int depth);

static enum hf_cib_truth expression(const struct hf_cib *c, const xmlNode *e,
				    const struct hf_cib_ctx *ctx, int depth)
{
	if (hf_cib_is_called(e, "rule"))
		return rule_at(c, e, ctx, depth + 1);
	if (hf_cib_is_called(e, "rsc_expression"))
		return rsc_expression(e, ctx);
	if (hf_cib_is_called(e, "op_expression"))
		return op_expression(e, ctx);
	if (hf_cib_is_called(e, "expression"))
		return node_expression(e, ctx);
	return HF_CIB_UNKNOWN;
}

/* Of three values: one that decides counts whatever the unknown ones are. */
static enum hf_cib_truth rule_at(const struct hf_cib *c, const xmlNode *rule,
				 const struct hf_cib_ctx *ctx, int depth)
{
	/* Only a set's own rule may be a reference, so that none contains itself. */
	const xmlNode *at = depth ? rule : hf_cib_deref(c, rule);
	const char *op = at ? hf_cib_attr(at, "boolean-op") : NULL;
	bool is_or = op && strcmp(op, "or") == 0;
	enum hf_cib_truth deciding = is_or ? HF_CIB_TRUE : HF_CIB_FALSE;
	enum hf_cib_truth all = is_or ? HF_CIB_FALSE : HF_CIB_TRUE, one;

	if (!at || depth > RULES_DEPTH_MAX)
		return HF_CIB_UNKNOWN;
	if (!hf_cib_child(at, NULL))
		return HF_CIB_TRUE;
	for (const xmlNode *e = hf_cib_child(at, NULL); e; e = hf_cib_next(e, NULL)) {
		one = expression(c, e, ctx, depth);
		if (one == deciding)
			return one;
		if (one == HF_CIB_UNKNOWN)
			all = one;
	}
	return all;
}

enum hf_cib_truth hf_cib_rule(const struct hf_cib *c, const xmlNode *rule,
			      const struct hf_cib_ctx *ctx)
{
	return rule_at(c, rule, ctx, 0);
}

static bool does_count(const struct hf_cib *c, const xmlNode *set, const struct hf_cib_ctx *ctx)
{
	const xmlNode *rule = hf_cib_child(set, "rule");

	return !rule || hf_cib_rule(c, rule, ctx) == HF_CIB_TRUE;
}

static struct hf_cib_value find_in_set(const struct hf_cib *c, const xmlNode *set, const char *name)
{
	for (const xmlNode *n = hf_cib_child(set, "nvpair"); n; n = hf_cib_next(n, "nvpair")) {
		const xmlNode *at = hf_cib_deref(c, n);
		const char *own = hf_cib_attr(n, "name");

		own = own || !at ? own : hf_cib_attr(at, "name");
		if (at && own && strcmp(own, name) == 0 && hf_cib_attr(at, "value"))
			return (struct hf_cib_value){ hf_cib_attr(at, "value"),
						      hf_cib_attr(at, "id") };
	}
	return (struct hf_cib_value){ NULL, NULL };
}

static int set_score(const xmlNode *set)
{
	const char *id = hf_cib_attr(set, "id");

	if (id && strcmp(id, BOOTSTRAP) == 0)
		return HF_CIB_INFINITY + 1;
	return hf_cib_score(hf_cib_attr(set, "score"));
}

struct hf_cib_value hf_cib_find(const struct hf_cib *c, const xmlNode *owner, const char *kind,
				const char *name, const struct hf_cib_ctx *ctx)
{
	struct hf_cib_value best = { NULL, NULL }, one;
	int score, best_score = 0;

	if (!owner)
		return best;
	for (const xmlNode *n = hf_cib_child(owner, kind); n; n = hf_cib_next(n, kind)) {
		const xmlNode *set = hf_cib_deref(c, n);

		if (!set || !does_count(c, set, ctx))
			continue;
		one = find_in_set(c, set, name);
		score = set_score(set);
		if (one.text && (!best.text || score > best_score)) {
			best = one;
			best_score = score;
		}
	}
	return best;
}
