/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The form of a resource, and whether it fits the VM's definition. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clustercheck/rules.h"

static void set_meta(struct hf_finding *f, const char *id, const char *name, const char *value)
{
	hf_finding_crm(f, "crm resource meta %s set %s %s", id, name, value);
	hf_finding_pcs(f, "pcs resource meta %s %s=%s", id, name, value);
}

static void check_form(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_finding *f;

	if (r->shape == HF_CIB_BUNDLE) {
		f = hf_clustercheck_tell(
			c, r, HF_FOUND_ERROR, "bundle", r->top_id,
			"a VM in a bundle: within a container there is no holdfastd");
		hf_finding_mend(f, "a primitive, or a promotable clone, outside of bundles");
	}
	if (r->shape == HF_CIB_CLONE)
		set_meta(hf_clustercheck_tell(
				 c, r, HF_FOUND_ERROR, "not-promotable", r->top_id,
				 "a clone that is not promotable: Pacemaker starts the same VM on "
				 "several nodes"),
			 r->top_id, "promotable", "true");
}

/* A number of the clone that has to be @wanted. */
static void check_number(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
			 const char *name, const char *old_name, const char *code, const char *what)
{
	struct hf_cib_value v = hf_cib_clone_value(c->cib, r, name);

	if (!v.text && old_name)
		v = hf_cib_clone_value(c->cib, r, old_name);
	if (!v.text || strcmp(v.text, "1") == 0)
		return;
	set_meta(hf_clustercheck_tell(c, r, HF_FOUND_ERROR, code, v.id, "%s=%.20s: %s", name,
				      v.text, what),
		 r->top_id, name, "1");
}

static void check_flags(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value notify = hf_cib_clone_value(c->cib, r, "notify");
	struct hf_cib_value unique = hf_cib_clone_value(c->cib, r, "globally-unique");

	if (!hf_cib_is_true(notify.text))
		set_meta(
			hf_clustercheck_tell(
				c, r, HF_FOUND_ERROR, "notify", notify.id ? notify.id : r->top_id,
				"without notify=true a demote does not know where the VM goes, and "
				"shuts its guest down instead of handing it over"),
			r->top_id, "notify", "true");
	if (hf_cib_is_true(unique.text))
		set_meta(hf_clustercheck_tell(
				 c, r, HF_FOUND_ERROR, "globally-unique", unique.id,
				 "globally-unique=true: both instances may be put on one node"),
			 r->top_id, "globally-unique", "false");
}

static void check_clone_max(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_clone_value(c->cib, r, "clone-max");
	int max = v.text ? hf_cib_score(v.text) : (int)hf_cib_count_nodes(c->cib);

	if (max < 2 && v.text)
		set_meta(hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "clone-max", v.id,
					      "clone-max=%.20s: there is never a standby", v.text),
			 r->top_id, "clone-max", "2");
	if (max > 2)
		set_meta(hf_clustercheck_tell(
				 c, r, HF_FOUND_ERROR, "clone-max", v.id ? v.id : r->top_id,
				 "up to %d instances: a VM has two, one that runs and its standby",
				 max),
			 r->top_id, "clone-max", "2");
}

void hf_clustercheck_clone(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	check_form(c, r);
	if (r->shape != HF_CIB_PROMOTABLE)
		return;
	check_clone_max(c, r);
	check_number(c, r, "promoted-max", "master-max", "promoted-max",
		     "a VM runs on one node only");
	check_number(c, r, "promoted-node-max", "master-node-max", "promoted-max",
		     "a VM runs once only");
	check_number(c, r, "clone-node-max", NULL, "clone-node-max",
		     "a standby beside its own VM protects from nothing");
	check_flags(c, r);
}

/* ---- the definition ---- */

static bool may_run_here(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	return !c->host || !c->host->name || !hf_cib_has_node(c->cib, c->host->name) ||
	       hf_cib_may_be_on(c->cib, r, c->host->name);
}

static void path_of(const struct hf_clustercheck *c, const char *vm, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s/%s.conf", c->vms_dir, vm);
}

static void check_missing(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
			  const char *vm)
{
	char path[512];
	struct hf_finding *f;

	if (!may_run_here(c, r))
		return;
	path_of(c, vm, path, sizeof(path));
	f = hf_clustercheck_tell(
		c, r, HF_FOUND_ERROR, "definition-missing", path,
		"the definition of the VM %s is not on this node, where it may have to run", vm);
	hf_finding_mend(f, "copy it from the other node, or keep the resource away from this one");
}

static void check_managed(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
			  const struct hf_definition *d)
{
	char path[512];

	if (d->is_managed)
		return;
	path_of(c, d->name, path, sizeof(path));
	hf_finding_mend(hf_clustercheck_tell(
				c, r, HF_FOUND_ERROR, "definition-unmanaged", path,
				"the definition does not say that Pacemaker manages the VM: every "
				"action is refused, and holdfastd decides by itself"),
			"manager = pacemaker in [vm], on all nodes");
}

static void avoid(struct hf_finding *f, const struct hf_cib_rsc *r, const char *node)
{
	hf_finding_crm(f, "crm configure location %.60s-not-on-%.60s %.60s -inf: %.60s", r->top_id,
		       node, r->top_id, node);
	hf_finding_pcs(f, "pcs constraint location %.60s avoids %.60s", r->top_id, node);
}

static bool is_host(const struct hf_definition *d, const char *node)
{
	for (unsigned int i = 0; i < d->n_hosts; i++)
		if (strcmp(d->hosts[i], node) == 0)
			return true;
	return false;
}

static void check_hosts(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
			const struct hf_definition *d)
{
	const char *node;
	struct hf_finding *f;

	for (unsigned int i = 0; i < d->n_hosts; i++) {
		if (hf_cib_has_node(c->cib, d->hosts[i]))
			continue;
		f = hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "host-no-node", d->hosts[i],
					 "[host %s] of the definition is no node of the cluster",
					 d->hosts[i]);
		hf_finding_mend(f, "give the host the name of its node, in the definition and in "
				   "holdfastd.conf");
	}
	for (size_t i = 0; d->n_hosts && (node = hf_cib_node(c->cib, i)); i++)
		if (!is_host(d, node) && hf_cib_may_be_on(c->cib, r, node))
			avoid(hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "node-no-host", node,
						   "the definition's hosts are %s and %s, but the "
						   "resource may be "
						   "put on %s, where it cannot be started",
						   d->hosts[0], d->hosts[1], node),
			      r, node);
}

static void check_fits(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
		       const struct hf_definition *d)
{
	struct hf_finding *f;

	if (r->shape == HF_CIB_PLAIN && d->n_hosts) {
		f = hf_clustercheck_tell(
			c, r, HF_FOUND_WARNING, "protection-unused", NULL,
			"the definition has two hosts, but the resource is no promotable clone: "
			"there is no standby, and the VM is not protected");
		hf_finding_crm(f,
			       "crm configure clone %s-clone %s meta promotable=true notify=true "
			       "clone-max=2",
			       r->id, r->id);
		hf_finding_pcs(f, "pcs resource promotable %s notify=true clone-max=2", r->id);
	}
	if (r->shape == HF_CIB_PROMOTABLE && !d->n_hosts) {
		f = hf_clustercheck_tell(
			c, r, HF_FOUND_ERROR, "no-hosts", r->top_id,
			"a promotable clone, but the definition names no hosts: there can be no "
			"standby");
		hf_finding_mend(f,
				"two [host NODE] sections in the definition of %s, or a plain "
				"primitive instead of the clone",
				d->name);
	}
}

static void check_differing(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
			    const char *vm)
{
	for (size_t i = 0; c->host && i < c->host->n_differing; i++)
		if (strcmp(c->host->differing[i], vm) == 0)
			hf_finding_mend(
				hf_clustercheck_tell(
					c, r, HF_FOUND_ERROR, "definitions-differ", vm,
					"the definition of %s is another one on the other "
					"node",
					vm),
				"copy the file to the other node, then holdfast reload there");
}

void hf_clustercheck_definition(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	const char *vm = hf_clustercheck_vm_name(c, r);
	const struct hf_definition *d = hf_clustercheck_find_definition(c, vm);
	struct hf_finding *f;
	char path[512];

	if (!c->definitions || !vm[0])
		return;
	check_differing(c, r, vm);
	if (!d || d->state == HF_DEFINITION_MISSING) {
		check_missing(c, r, vm);
		return;
	}
	if (d->state == HF_DEFINITION_INVALID) {
		path_of(c, vm, path, sizeof(path));
		f = hf_clustercheck_tell(c, r, HF_FOUND_ERROR, "definition-invalid", path, "%s",
					 d->error);
		hf_finding_mend(f, "holdfast check-config tells whether it is right");
		return;
	}
	check_managed(c, r, d);
	check_hosts(c, r, d);
	check_fits(c, r, d);
}

static bool is_used(const struct hf_clustercheck *c, const char *vm)
{
	for (size_t i = 0; i < c->n_vms; i++)
		if (strcmp(hf_clustercheck_vm_name(c, &c->vms[i]), vm) == 0)
			return true;
	return false;
}

void hf_clustercheck_unused(const struct hf_clustercheck *c)
{
	char path[512];
	struct hf_finding *f;

	for (size_t i = 0; c->definitions && i < c->n_definitions; i++) {
		const struct hf_definition *d = &c->definitions[i];

		if (!d->is_managed || is_used(c, d->name))
			continue;
		path_of(c, d->name, path, sizeof(path));
		f = hf_findings_add(
			c->found, HF_FOUND_WARNING, "no-resource", path,
			"the definition of %s says that Pacemaker manages the VM, but there "
			"is no resource of it: nobody starts it",
			d->name);
		(void)snprintf(f->vm, sizeof(f->vm), "%s", d->name);
		hf_finding_mend(f, "create one, or remove manager = pacemaker");
	}
}
