/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parameters and meta attributes of a resource. */
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "clustercheck/rules.h"

#define NAMES_MAX 4

/* Of the agent's meta-data. @words: what it may be; none: anything. */
struct param {
	const char *name;
	const char *words[NAMES_MAX];
};

static const struct param params[] = {
	{ "vm", { NULL } },
	{ "paused", { "running", "failed" } },
	{ "when_frozen", { "definition", "refuse", "fresh" } },
	{ "stop_failed", { "freeze", "kill" } },
	{ "shutdown_timeout", { NULL } },
	{ "program", { NULL } },
	{ "run_dir", { NULL } },
	{ "state_dir", { NULL } },
	{ "vms_dir", { NULL } },
};

#define N_PARAMS (sizeof(params) / sizeof(params[0]))

static const struct param *find_param(const char *name)
{
	for (size_t i = 0; i < N_PARAMS; i++)
		if (strcmp(params[i].name, name) == 0)
			return &params[i];
	return NULL;
}

struct looking {
	const struct hf_clustercheck *c;
	const struct hf_cib_rsc *r;
};

static void check_known(void *data, struct hf_cib_value v)
{
	const struct looking *l = data;
	struct hf_finding *f;

	if (find_param(v.text))
		return;
	f = hf_clustercheck_tell(l->c, l->r, HF_FOUND_WARNING, "param-unknown", v.id,
				 "ocf:holdfast:vm has no parameter '%.60s': it does nothing",
				 v.text);
	hf_finding_crm(f, "crm resource param %s delete %.60s", l->r->id, v.text);
	hf_finding_pcs(f, "pcs resource update %s %.60s=", l->r->id, v.text);
}

static bool is_word(const struct param *p, const char *text)
{
	for (size_t i = 0; i < NAMES_MAX && p->words[i]; i++)
		if (strcmp(p->words[i], text) == 0)
			return true;
	return !p->words[0];
}

static void check_word(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
		       const struct param *p)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_PARAMS, p->name);
	struct hf_finding *f;

	if (!v.text || is_word(p, v.text))
		return;
	f = hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "param-value", v.id,
				 "%s=%.60s: it is one of %s, %s%s%s", p->name, v.text, p->words[0],
				 p->words[1], p->words[2] ? ", " : "",
				 p->words[2] ? p->words[2] : "");
	hf_finding_crm(f, "crm resource param %s set %s %s", r->id, p->name, p->words[0]);
	hf_finding_pcs(f, "pcs resource update %s %s=%s", r->id, p->name, p->words[0]);
}

/* As the agent takes it: seconds, or a number and its unit. */
static bool is_time(const char *text)
{
	struct hf_err err;
	uint64_t ns;

	return (text[0] && strspn(text, "0123456789") == strlen(text)) ||
	       hf_parse_duration_ns(text, &ns, &err) == 0;
}

static void check_shutdown(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_PARAMS, "shutdown_timeout");
	struct hf_finding *f;

	if (!v.text || !v.text[0] || is_time(v.text))
		return;
	f = hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "param-value", v.id,
				 "shutdown_timeout=%.60s is no time: as 60s or 2min", v.text);
	hf_finding_crm(f, "crm resource param %s set shutdown_timeout 60s", r->id);
	hf_finding_pcs(f, "pcs resource update %s shutdown_timeout=60s", r->id);
}

static void check_twice(const struct hf_clustercheck *c, const struct hf_cib_rsc *r, const char *vm)
{
	struct hf_finding *f;

	for (const struct hf_cib_rsc *o = c->vms; o < r; o++) {
		if (strcmp(hf_clustercheck_vm_name(c, o), vm) != 0)
			continue;
		f = hf_clustercheck_tell(
			c, r, HF_FOUND_ERROR, "vm-twice", NULL,
			"the VM %s is another resource's, too: %s; each ends what the "
			"other one starts",
			vm, o->id);
		hf_finding_crm(f, "crm configure delete %s", r->id);
		hf_finding_pcs(f, "pcs resource delete %s", r->id);
		return;
	}
}

static void check_name(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_PARAMS, "vm");
	struct hf_finding *f;

	if (v.text && hf_is_valid_name(v.text)) {
		check_twice(c, r, v.text);
		return;
	}
	if (v.text)
		f = hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "vm-name", v.id,
					 "vm=%.60s cannot be the name of a VM", v.text);
	else
		f = hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "vm-missing", NULL,
					 "the parameter vm is missing: which VM is it?");
	hf_finding_crm(f, "crm resource param %s set vm NAME", r->id);
	hf_finding_pcs(f, "pcs resource update %s vm=NAME", r->id);
}

void hf_clustercheck_params(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct looking l = { c, r };

	check_name(c, r);
	hf_cib_each_param(c->cib, r, check_known, &l);
	for (size_t i = 0; i < N_PARAMS; i++)
		if (params[i].words[0])
			check_word(c, r, &params[i]);
	check_shutdown(c, r);
}

/* ---- meta attributes ---- */

static void set_meta(struct hf_finding *f, const char *id, const char *name, const char *value)
{
	hf_finding_crm(f, "crm resource meta %s set %s %s", id, name, value);
	hf_finding_pcs(f, "pcs resource meta %s %s=%s", id, name, value);
}

/* A standby is started beside a frozen instance, too, and promotion scores keep the VM away from there. */
static void check_clone_threshold(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
				  struct hf_cib_value v)
{
	struct hf_finding *f;

	if (hf_cib_score(v.text) != 1)
		return;
	f = hf_clustercheck_tell(
		c, r, HF_FOUND_WARNING, "threshold-clone", v.id,
		"migration-threshold=1 of a protected VM: after a failure there is no "
		"new standby on that node until the failure is cleared");
	hf_finding_crm(f, "crm resource meta %s delete migration-threshold", r->id);
	hf_finding_pcs(f, "pcs resource meta %s migration-threshold=", r->id);
}

static void check_threshold(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_META, "migration-threshold");
	struct hf_finding *f;

	if (r->shape == HF_CIB_PROMOTABLE) {
		check_clone_threshold(c, r, v);
		return;
	}
	if (hf_cib_score(v.text) == 1)
		return;
	if (v.text && hf_cib_score(v.text) > 1 && hf_cib_score(v.text) < HF_CIB_INFINITY)
		f = hf_clustercheck_tell(
			c, r, HF_FOUND_NOTE, "threshold-high", v.id,
			"migration-threshold=%.20s: a VM that fails is first tried again on "
			"the same node, which a frozen instance may refuse",
			v.text);
	else
		f = hf_clustercheck_tell(
			c, r, HF_FOUND_WARNING, "threshold-missing", v.id,
			"there is no migration-threshold: after a failure the VM is tried "
			"again on the same node first, where its frozen instance is");
	set_meta(f, r->id, "migration-threshold", "1");
}

static void check_failure_timeout(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_META, "failure-timeout");
	struct hf_finding *f;
	uint64_t ms = 0;

	if (r->shape == HF_CIB_PROMOTABLE || !v.text || hf_cib_time_ms(v.text, &ms) < 0 || !ms)
		return;
	f = hf_clustercheck_tell(
		c, r, HF_FOUND_WARNING, "failure-timeout", v.id,
		"failure-timeout=%.20s: the node counts as good again after that time, also "
		"while it keeps the frozen instance; holdfast clears the failure by itself "
		"when that is released",
		v.text);
	hf_finding_crm(f, "crm resource meta %s delete failure-timeout", r->id);
	hf_finding_pcs(f, "pcs resource meta %s failure-timeout=", r->id);
}

static void check_migrate(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_META, "allow-migrate");
	struct hf_finding *f;

	if (!hf_cib_is_true(v.text))
		return;
	f = hf_clustercheck_tell(
		c, r, HF_FOUND_WARNING, "allow-migrate", v.id,
		"allow-migrate=true: ocf:holdfast:vm has no migration actions; a protected "
		"VM moves by being promoted elsewhere");
	hf_finding_crm(f, "crm resource meta %s delete allow-migrate", r->id);
	hf_finding_pcs(f, "pcs resource meta %s allow-migrate=", r->id);
}

static void check_stickiness(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_META, "resource-stickiness");

	if (r->shape != HF_CIB_PLAIN || hf_cib_score(v.text) > 0)
		return;
	set_meta(hf_clustercheck_tell(
			 c, r, HF_FOUND_WARNING, "stickiness", v.id,
			 "there is no resource-stickiness: when a node comes back, VMs are shut "
			 "down to be started there"),
		 r->id, "resource-stickiness", "100");
}

static void check_requires(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_META, "requires");
	struct hf_finding *f;

	if (!v.text || strcasecmp(v.text, "fencing") == 0 || strcasecmp(v.text, "unfencing") == 0)
		return;
	f = hf_clustercheck_tell(
		c, r, HF_FOUND_ERROR, "requires", v.id,
		"requires=%.20s: the VM is started elsewhere before its lost node is fenced",
		v.text);
	set_meta(f, r->id, "requires", "fencing");
}

static void check_managed(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_META, "is-managed");

	if (v.text && !hf_cib_is_true(v.text))
		set_meta(hf_clustercheck_tell(c, r, HF_FOUND_NOTE, "unmanaged", v.id,
					      "is-managed=%.20s: it is not recovered", v.text),
			 r->id, "is-managed", "true");
}

void hf_clustercheck_meta(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	check_threshold(c, r);
	check_failure_timeout(c, r);
	check_migrate(c, r);
	check_stickiness(c, r);
	check_requires(c, r);
	check_managed(c, r);
}
