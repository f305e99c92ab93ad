/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resources: where they are, what they are told, and where they may be. */
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clustercheck/cib-internal.h"

#define PATTERN_MAX 256 /* of a constraint's rsc-pattern; longer ones are not looked at */

static const char *const set_names[] = {
	[HF_CIB_PARAMS] = "instance_attributes",
	[HF_CIB_META] = "meta_attributes",
};

/* ---- finding them ---- */

struct finding {
	const struct hf_cib *c;
	const char *class, *provider, *type;
	struct hf_cib_rsc *found;
	size_t n;
	int r;
};

/* Of a primitive, or of its template. */
static const char *agent_part(const struct hf_cib_rsc *r, const char *name)
{
	const char *own = hf_cib_attr(r->primitive, name);

	return own || !r->template ? own : hf_cib_attr(r->template, name);
}

static bool is_agent(const struct finding *f, const struct hf_cib_rsc *r)
{
	const char *class = agent_part(r, "class");
	const char *provider = agent_part(r, "provider");
	const char *type = agent_part(r, "type");

	return class && strcmp(class, f->class) == 0 &&
	       (!f->provider || (provider && strcmp(provider, f->provider) == 0)) &&
	       (!f->type || (type && strcmp(type, f->type) == 0));
}

static xmlNode *find_template(const struct hf_cib *c, const xmlNode *primitive)
{
	const char *id = hf_cib_attr(primitive, "template");
	const xmlNode *found = id ? hf_cib_by_id(c, id) : NULL;

	return found && hf_cib_is_called(found, "template") ? (xmlNode *)(uintptr_t)found : NULL;
}

static void add_primitive(struct finding *f, struct hf_cib_rsc r)
{
	struct hf_cib_rsc *grown;

	r.template = find_template(f->c, r.primitive);
	r.id = hf_cib_attr(r.primitive, "id");
	r.id = r.id ? r.id : "";
	r.top_id = r.top_id ? r.top_id : r.id;
	if (!is_agent(f, &r))
		return;
	if (f->n == HF_CIB_VMS_MAX) {
		f->r = -E2BIG;
		return;
	}
	if ((f->n & (f->n - 1)) == 0) {
		grown = reallocarray(f->found, f->n ? 2 * f->n : 1, sizeof(*grown));
		if (!grown) {
			f->r = -ENOMEM;
			return;
		}
		f->found = grown;
	}
	f->found[f->n++] = r;
}

static void find_in_group(struct finding *f, struct hf_cib_rsc r, xmlNode *n)
{
	if (hf_cib_is_called(n, "primitive")) {
		r.primitive = n;
		add_primitive(f, r);
		return;
	}
	r.group = n;
	r.top_id = r.top_id ? r.top_id : hf_cib_attr(n, "id");
	for (xmlNode *p = hf_cib_child(n, "primitive"); p && f->r == 0;
	     p = hf_cib_next(p, "primitive")) {
		r.primitive = p;
		add_primitive(f, r);
	}
}

static void find_in_clone(struct finding *f, xmlNode *clone)
{
	struct hf_cib_rsc r = { .top_id = hf_cib_attr(clone, "id"), .clone = clone };

	r.shape = HF_CIB_CLONE;
	if (hf_cib_is_called(clone, "master") ||
	    hf_cib_is_true(hf_cib_clone_value(f->c, &r, "promotable").text))
		r.shape = HF_CIB_PROMOTABLE;
	for (xmlNode *n = hf_cib_child(clone, NULL); n && f->r == 0; n = hf_cib_next(n, NULL))
		if (hf_cib_is_called(n, "primitive") || hf_cib_is_called(n, "group"))
			find_in_group(f, r, n);
}

static void find_in_bundle(struct finding *f, xmlNode *bundle)
{
	struct hf_cib_rsc r = { .top_id = hf_cib_attr(bundle, "id"), .shape = HF_CIB_BUNDLE };

	r.primitive = hf_cib_child(bundle, "primitive");
	if (r.primitive)
		add_primitive(f, r);
}

int hf_cib_resources(const struct hf_cib *c, const char *class, const char *provider,
		     const char *type, struct hf_cib_rsc **ret, size_t *ret_n)
{
	struct finding f = { .c = c, .class = class, .provider = provider, .type = type };

	for (xmlNode *n = hf_cib_child(c->resources, NULL); n && f.r == 0;
	     n = hf_cib_next(n, NULL)) {
		if (hf_cib_is_called(n, "primitive") || hf_cib_is_called(n, "group"))
			find_in_group(&f, (struct hf_cib_rsc){ .shape = HF_CIB_PLAIN }, n);
		else if (hf_cib_is_called(n, "clone") || hf_cib_is_called(n, "master"))
			find_in_clone(&f, n);
		else if (hf_cib_is_called(n, "bundle"))
			find_in_bundle(&f, n);
	}
	if (f.r < 0) {
		free(f.found);
		return f.r;
	}
	*ret = f.found;
	*ret_n = f.n;
	return 0;
}

/* ---- what they are told ---- */

struct hf_cib_ctx hf_cib_rsc_ctx(const struct hf_cib_rsc *r)
{
	return (struct hf_cib_ctx){ .class = agent_part(r, "class"),
				    .provider = agent_part(r, "provider"),
				    .type = agent_part(r, "type") };
}

const char *hf_cib_rsc_type(const struct hf_cib_rsc *r)
{
	const char *type = agent_part(r, "type");

	return type ? type : "";
}

struct hf_cib_value hf_cib_rsc_value(const struct hf_cib *c, const struct hf_cib_rsc *r,
				     enum hf_cib_set set, const char *name)
{
	const xmlNode *owners[] = { r->primitive, r->template, r->group, r->clone,
				    c->rsc_defaults };
	struct hf_cib_ctx ctx = hf_cib_rsc_ctx(r);
	struct hf_cib_value v = { NULL, NULL };

	for (size_t i = 0; !v.text && i < sizeof(owners) / sizeof(owners[0]); i++)
		v = hf_cib_find(c, owners[i], set_names[set], name, &ctx);
	return v;
}

struct hf_cib_value hf_cib_clone_value(const struct hf_cib *c, const struct hf_cib_rsc *r,
				       const char *name)
{
	struct hf_cib_ctx ctx = { 0 }; /* a clone is of no agent */
	struct hf_cib_value v = hf_cib_find(c, r->clone, set_names[HF_CIB_META], name, &ctx);

	return v.text ? v : hf_cib_find(c, c->rsc_defaults, set_names[HF_CIB_META], name, &ctx);
}

void hf_cib_each_param(const struct hf_cib *c, const struct hf_cib_rsc *r,
		       void (*fn)(void *data, struct hf_cib_value name_at), void *data)
{
	const xmlNode *owners[] = { r->primitive, r->template };
	const char *kind = set_names[HF_CIB_PARAMS];

	for (size_t i = 0; i < 2 && owners[i]; i++)
		for (const xmlNode *s = hf_cib_child(owners[i], kind); s;
		     s = hf_cib_next(s, kind)) {
			const xmlNode *set = hf_cib_deref(c, s);

			for (const xmlNode *n = set ? hf_cib_child(set, "nvpair") : NULL; n;
			     n = hf_cib_next(n, "nvpair"))
				if (hf_cib_attr(n, "name"))
					fn(data, (struct hf_cib_value){ hf_cib_attr(n, "name"),
									hf_cib_attr(n, "id") });
		}
}

/* ---- where they may be ---- */

static bool does_match(const char *pattern, const char *id)
{
	bool is_inverted = pattern[0] == '!';
	regex_t re;
	bool is;

	if (strlen(pattern) > PATTERN_MAX ||
	    regcomp(&re, pattern + is_inverted, REG_EXTENDED | REG_NOSUB))
		return false;
	is = regexec(&re, id, 0, NULL, 0) == 0;
	regfree(&re);
	return is != is_inverted;
}

static bool is_of(const struct hf_cib_rsc *r, const char *id)
{
	return strcmp(id, r->id) == 0 || strcmp(id, r->top_id) == 0 ||
	       (r->group && hf_cib_attr(r->group, "id") &&
		strcmp(id, hf_cib_attr(r->group, "id")) == 0);
}

static bool is_in_sets(const xmlNode *location, const struct hf_cib_rsc *r)
{
	for (const xmlNode *s = hf_cib_child(location, "resource_set"); s;
	     s = hf_cib_next(s, "resource_set"))
		for (const xmlNode *e = hf_cib_child(s, "resource_ref"); e;
		     e = hf_cib_next(e, "resource_ref"))
			if (hf_cib_attr(e, "id") && is_of(r, hf_cib_attr(e, "id")))
				return true;
	return false;
}

static bool does_concern(const xmlNode *location, const struct hf_cib_rsc *r)
{
	const char *id = hf_cib_attr(location, "rsc");
	const char *pattern = hf_cib_attr(location, "rsc-pattern");
	const char *role = hf_cib_attr(location, "role");

	if (role && (strcasecmp(role, "Promoted") == 0 || strcasecmp(role, "Master") == 0))
		return false;
	return (id && is_of(r, id)) || (pattern && does_match(pattern, r->top_id)) ||
	       is_in_sets(location, r);
}

/* Of one constraint. *ret is left alone if it says nothing about the node. */
static void take_score(const struct hf_cib *c, const xmlNode *location, const char *node, int *ret,
		       bool *ret_is_said)
{
	const char *named = hf_cib_attr(location, "node");
	struct hf_cib_ctx ctx = { .node = node };
	int score = 0;
	bool is_said = false;

	if (named && strcasecmp(named, node) == 0) {
		score = hf_cib_score(hf_cib_attr(location, "score"));
		is_said = true;
	}
	for (const xmlNode *rule = hf_cib_child(location, "rule"); rule;
	     rule = hf_cib_next(rule, "rule")) {
		const xmlNode *at = hf_cib_deref(c, rule);

		if (!at || hf_cib_rule(c, at, &ctx) != HF_CIB_TRUE)
			continue;
		score += hf_cib_score(hf_cib_attr(at, "score"));
		is_said = true;
	}
	*ret_is_said |= is_said;
	if (score < *ret)
		*ret = score;
}

bool hf_cib_may_be_on(const struct hf_cib *c, const struct hf_cib_rsc *r, const char *node)
{
	struct hf_cib_value symmetric = hf_cib_property(c, "symmetric-cluster");
	bool is_said = !symmetric.text || hf_cib_is_true(symmetric.text);
	int lowest = HF_CIB_INFINITY;

	for (const xmlNode *l = hf_cib_child(c->constraints, "rsc_location"); l;
	     l = hf_cib_next(l, "rsc_location"))
		if (does_concern(l, r))
			take_score(c, l, node, &lowest, &is_said);
	return is_said && lowest > -HF_CIB_INFINITY;
}
