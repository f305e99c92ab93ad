/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations of a resource: its own, and those of its template that it does not have itself. */
#include <string.h>
#include <strings.h>

#include "clustercheck/cib-internal.h"

#define TIMEOUT_MS 20000 /* Pacemaker's own default */

static const char *role_of(const char *text)
{
	static const char *const names[][2] = {
		{ "Promoted", "Promoted" },     { "Master", "Promoted" },
		{ "Unpromoted", "Unpromoted" }, { "Slave", "Unpromoted" },
		{ "Started", "Started" },       { "Stopped", "Stopped" },
	};

	for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(text, names[i][0]) == 0)
			return names[i][1];
	return NULL;
}

/* Properties of the element, then its sets, then the defaults. */
static const char *op_text(const struct hf_cib *c, const xmlNode *op, const struct hf_cib_ctx *ctx,
			   const char *name)
{
	const char *own = hf_cib_attr(op, name);
	struct hf_cib_value v;

	if (own)
		return own;
	v = hf_cib_find(c, op, "meta_attributes", name, ctx);
	if (!v.text)
		v = hf_cib_find(c, c->op_defaults, "meta_attributes", name, ctx);
	return v.text;
}

static struct hf_cib_op read_op(const struct hf_cib *c, const struct hf_cib_rsc *r,
				const xmlNode *op)
{
	struct hf_cib_ctx ctx = hf_cib_rsc_ctx(r);
	struct hf_cib_op o = { .id = hf_cib_attr(op, "id"), .name = hf_cib_attr(op, "name") };
	const char *text;

	ctx.op_name = o.name;
	ctx.op_interval = hf_cib_attr(op, "interval");
	o.id = o.id ? o.id : "";
	o.name = o.name ? o.name : "";
	text = op_text(c, op, &ctx, "interval");
	if (!text || hf_cib_time_ms(text, &o.interval_ms) < 0)
		o.interval_ms = 0;
	text = op_text(c, op, &ctx, "timeout");
	o.has_timeout = text && hf_cib_time_ms(text, &o.timeout_ms) == 0;
	o.role = role_of(op_text(c, op, &ctx, "role"));
	o.on_fail = op_text(c, op, &ctx, "on-fail");
	text = op_text(c, op, &ctx, "enabled");
	o.is_enabled = !text || hf_cib_is_true(text);
	return o;
}

static bool is_same_role(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool is_there(const struct hf_cib_op *ops, size_t n, const struct hf_cib_op *o)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(ops[i].name, o->name) == 0 && is_same_role(ops[i].role, o->role))
			return true;
	return false;
}

/* @n_own: those before count more. */
static size_t take_ops(const struct hf_cib *c, const struct hf_cib_rsc *r, const xmlNode *owner,
		       struct hf_cib_op *ret, size_t n, size_t n_own)
{
	for (const xmlNode *l = hf_cib_child(owner, "operations"); l;
	     l = hf_cib_next(l, "operations")) {
		const xmlNode *list = hf_cib_deref(c, l);

		for (const xmlNode *op = list ? hf_cib_child(list, "op") : NULL;
		     op && n < HF_CIB_OPS_MAX; op = hf_cib_next(op, "op")) {
			const xmlNode *at = hf_cib_deref(c, op);

			if (!at)
				continue;
			ret[n] = read_op(c, r, at);
			n += !is_there(ret, n_own, &ret[n]);
		}
	}
	return n;
}

size_t hf_cib_rsc_ops(const struct hf_cib *c, const struct hf_cib_rsc *r,
		      struct hf_cib_op ret[HF_CIB_OPS_MAX])
{
	size_t n = take_ops(c, r, r->primitive, ret, 0, 0);

	return r->template ? take_ops(c, r, r->template, ret, n, n) : n;
}

uint64_t hf_cib_default_timeout_ms(const struct hf_cib *c, const struct hf_cib_rsc *r,
				   const char *op)
{
	struct hf_cib_ctx ctx = hf_cib_rsc_ctx(r);
	struct hf_cib_value v;
	uint64_t ms;

	ctx.op_name = op;
	ctx.op_interval = "0";
	v = hf_cib_find(c, c->op_defaults, "meta_attributes", "timeout", &ctx);
	return v.text && hf_cib_time_ms(v.text, &ms) == 0 ? ms : TIMEOUT_MS;
}
