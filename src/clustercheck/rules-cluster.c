/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What concerns all resources: fencing, quorum, Corosync's part of it, and this host's daemon. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "clustercheck/rules.h"

#define HOST_LIST_MAX 4096

/* Agents that cut a node off from storage or network: it runs on. */
static const char *const fabric_agents[] = { "fence_scsi",           "fence_mpath",
					     "fence_brocade",        "fence_sanbox2",
					     "fence_cisco_mds",      "fence_ifmib",
					     "fence_heuristics_ping" };

static struct hf_finding *tell(const struct hf_clustercheck *c, enum hf_found severity,
			       const char *code, const char *where, const char *what)
{
	return hf_findings_add(c->found, severity, code, where, "%s", what);
}

static const char *property(const struct hf_clustercheck *c, const char *name, const char **ret_id)
{
	struct hf_cib_value v = hf_cib_property(c->cib, name);

	*ret_id = v.id ? v.id : name;
	return v.text;
}

static void set_property(struct hf_finding *f, const char *name, const char *value)
{
	hf_finding_crm(f, "crm configure property %s=%s", name, value);
	hf_finding_pcs(f, "pcs property set %s=%s", name, value);
}

static const char *param(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
			 const char *name)
{
	return hf_cib_rsc_value(c->cib, r, HF_CIB_PARAMS, name).text;
}

static bool is_in_use(const struct hf_clustercheck *c, const struct hf_cib_rsc *fence)
{
	const char *role = hf_cib_rsc_value(c->cib, fence, HF_CIB_META, "target-role").text;

	return !role || strcasecmp(role, "Stopped") != 0;
}

/* ---- is a lost node made sure of? ---- */

static bool is_fencing_by_watchdog(const struct hf_clustercheck *c)
{
	const char *id, *timeout = property(c, "stonith-watchdog-timeout", &id);
	uint64_t ms;

	return c->cib->has_watchdog && timeout &&
	       (timeout[0] == '-' || (hf_cib_time_ms(timeout, &ms) == 0 && ms > 0));
}

static bool has_word(const char *list, const char *word, const char *separators)
{
	size_t n;

	for (; list && *list; list += n) {
		list += strspn(list, separators);
		n = strcspn(list, separators);
		if (n == strlen(word) && strncasecmp(list, word, n) == 0)
			return true;
		list += n;
		n = strspn(list, separators);
		if (list[0] == ':' || list[0] == '=') /* of a map: "node:port;..." */
			n = strcspn(list, "; ");
	}
	return false;
}

/* As far as the configuration tells: a device that says itself whom it fences may fence anybody. */
static bool may_fence(const struct hf_clustercheck *c, const struct hf_cib_rsc *fence,
		      const char *node)
{
	const char *list = param(c, fence, "pcmk_host_list");
	const char *map = param(c, fence, "pcmk_host_map");
	const char *check = param(c, fence, "pcmk_host_check");

	if (check && strcasecmp(check, "static-list") != 0)
		return true;
	if (!list && !map)
		return true;
	return has_word(list, node, " ,;\t") || has_word(map, node, " ;:=\t");
}

static void check_covered(const struct hf_clustercheck *c, const char *node)
{
	struct hf_finding *f;

	for (size_t i = 0; i < c->n_fences; i++)
		if (is_in_use(c, &c->fences[i]) && may_fence(c, &c->fences[i], node))
			return;
	f = hf_findings_add(
		c->found, HF_FOUND_ERROR, "stonith-node", node,
		"no fence device fences the node %s: when it is lost, nothing is recovered "
		"until somebody confirms that it is off",
		node);
	hf_finding_mend(f, "add a device for it, or add it to a device's pcmk_host_list");
}

static void check_fabric(const struct hf_clustercheck *c, const struct hf_cib_rsc *fence)
{
	const char *type = hf_cib_rsc_type(fence);
	struct hf_finding *f;

	if (!c->host || c->host->is_fencing_ignored)
		return;
	for (size_t i = 0; i < sizeof(fabric_agents) / sizeof(fabric_agents[0]); i++) {
		if (strcmp(type, fabric_agents[i]) != 0)
			continue;
		f = hf_findings_add(
			c->found, HF_FOUND_ERROR, "stonith-fabric", fence->id,
			"%s leaves a fenced node running, but holdfastd takes fencing for "
			"proof of its death: a protected VM could run twice",
			type);
		hf_finding_mend(f,
				"fencing = ignore in [pacemaker] of holdfastd.conf on all nodes, "
				"or fence by power");
	}
}

static void check_devices(const struct hf_clustercheck *c)
{
	const char *node;
	size_t n_in_use = 0;
	struct hf_finding *f;

	for (size_t i = 0; i < c->n_fences; i++) {
		n_in_use += is_in_use(c, &c->fences[i]);
		check_fabric(c, &c->fences[i]);
	}
	if (is_fencing_by_watchdog(c))
		return;
	for (size_t i = 0; n_in_use && (node = hf_cib_node(c->cib, i)); i++)
		check_covered(c, node);
	if (n_in_use)
		return;
	f = tell(c, HF_FOUND_ERROR, "stonith-none", "resources",
		 "there is no fence device: as long as stonith-enabled is true Pacemaker starts "
		 "nothing, and a lost node is never made sure of");
	hf_finding_crm(f, "crm configure primitive fence-NODE stonith:AGENT params "
			  "pcmk_host_list=NODE ...");
	hf_finding_pcs(f, "pcs stonith create fence-NODE AGENT pcmk_host_list=NODE ...");
}

static const struct hf_definition *without_lease(const struct hf_clustercheck *c)
{
	for (size_t i = 0; i < c->n_vms; i++) {
		const struct hf_definition *d =
			hf_clustercheck_find_definition(c, hf_clustercheck_vm_name(c, &c->vms[i]));

		if (d && d->has_no_lease)
			return d;
	}
	return NULL;
}

static void check_stonith(const struct hf_clustercheck *c)
{
	const char *id, *enabled = property(c, "stonith-enabled", &id);
	const struct hf_definition *open;
	struct hf_finding *f;

	if (!enabled || hf_cib_is_true(enabled)) {
		check_devices(c);
		return;
	}
	open = without_lease(c);
	f = hf_findings_add(
		c->found, HF_FOUND_ERROR, "stonith-off", id,
		"stonith-enabled=%s: Pacemaker takes a node that it cannot hear for dead. %s%s",
		enabled,
		open ? "The VM runs under no lease, so it would run twice: "
		     : "Only the lease then stands between a VM and a second one of it, and "
		       "nothing is started before it has run out",
		open ? open->name : "");
	set_property(f, "stonith-enabled", "true");
	hf_finding_mend(f, "and a fence device for each node");
}

static void check_startup(const struct hf_clustercheck *c)
{
	const char *id, *fencing = property(c, "startup-fencing", &id);

	if (fencing && !hf_cib_is_true(fencing))
		set_property(tell(c, HF_FOUND_WARNING, "startup-fencing", id,
				  "startup-fencing=false: a node that was never heard of since the "
				  "cluster's start is taken for off, whatever runs there"),
			     "startup-fencing", "true");
}

/* ---- two nodes ---- */

static bool has_delay(const struct hf_clustercheck *c)
{
	for (size_t i = 0; i < c->n_fences; i++)
		if (is_in_use(c, &c->fences[i]) && (param(c, &c->fences[i], "pcmk_delay_base") ||
						    param(c, &c->fences[i], "pcmk_delay_max")))
			return true;
	return false;
}

static bool has_priority(const struct hf_clustercheck *c)
{
	for (size_t i = 0; i < c->n_vms; i++) {
		const char *p = hf_cib_rsc_value(c->cib, &c->vms[i], HF_CIB_META, "priority").text;

		if (hf_cib_score(p) != 0)
			return true;
	}
	return false;
}

static void check_race(const struct hf_clustercheck *c)
{
	const char *id, *delay = property(c, "priority-fencing-delay", &id);
	struct hf_finding *f;
	uint64_t ms = 0;

	if (hf_cib_count_nodes(c->cib) != 2 || !c->n_fences || has_delay(c) ||
	    (c->corosync && c->corosync->has_qdevice))
		return;
	if (!delay || hf_cib_time_ms(delay, &ms) < 0 || !ms) {
		f = tell(c, HF_FOUND_WARNING, "fence-race", id,
			 "two nodes that lose each other fence each other at the same time, and "
			 "both "
			 "go down: nothing gives one of them a start");
		set_property(f, "priority-fencing-delay", "15s");
		hf_finding_mend(f,
				"and meta priority=1 for the VMs, so that the node that runs more "
				"wins; or pcmk_delay_base for one node's device");
		return;
	}
	if (has_priority(c))
		return;
	f = tell(c, HF_FOUND_WARNING, "fence-priority", id,
		 "priority-fencing-delay does nothing as long as no resource has a priority");
	hf_finding_crm(f, "crm configure rsc_defaults priority=1");
	hf_finding_pcs(f, "pcs resource defaults update priority=1");
}

/* ---- quorum ---- */

static void check_quorum(const struct hf_clustercheck *c)
{
	const char *id, *policy = property(c, "no-quorum-policy", &id);
	struct hf_finding *f;

	if (!policy || strcasecmp(policy, "ignore") != 0 || hf_cib_count_nodes(c->cib) < 3)
		return;
	f = tell(c, HF_FOUND_ERROR, "quorum-ignored", id,
		 "no-quorum-policy=ignore with three nodes or more: each part of a split cluster "
		 "fences the other one and starts everything, also a part of one node");
	set_property(f, "no-quorum-policy", "stop");
}

static void check_maintenance(const struct hf_clustercheck *c)
{
	const char *id, *is = property(c, "maintenance-mode", &id);

	if (is && hf_cib_is_true(is))
		set_property(tell(c, HF_FOUND_NOTE, "maintenance", id,
				  "maintenance-mode is on: no VM is recovered"),
			     "maintenance-mode", "false");
}

void hf_clustercheck_cluster(const struct hf_clustercheck *c)
{
	check_stonith(c);
	check_startup(c);
	check_race(c);
	check_quorum(c);
	check_maintenance(c);
}

void hf_clustercheck_corosync(const struct hf_clustercheck *c)
{
	static const char *const file = "corosync.conf";
	const struct hf_corosync *q = c->corosync;
	const char *id, *policy = property(c, "no-quorum-policy", &id);
	struct hf_finding *f;

	if (!q)
		return;
	if (q->n_nodes > 2 && q->is_two_node) {
		f = tell(c, HF_FOUND_ERROR, "two-node-wrong", file,
			 "two_node: 1 with more than two nodes: one node alone has quorum");
		hf_finding_mend(f, "remove two_node from quorum { } of corosync.conf on all nodes");
	}
	if (q->n_nodes != 2 || q->has_qdevice || (policy && strcasecmp(policy, "ignore") == 0))
		return;
	if (!q->is_two_node) {
		f = tell(c, HF_FOUND_ERROR, "two-node-missing", file,
			 "two nodes without two_node: 1 or a quorum device: the one that is left "
			 "has "
			 "no quorum, and stops all VMs instead of recovering them");
		hf_finding_mend(f, "two_node: 1 in quorum { } of corosync.conf on both nodes");
	} else if (q->has_wait_for_all && !q->is_wait_for_all) {
		f = tell(c, HF_FOUND_WARNING, "wait-for-all", file,
			 "wait_for_all: 0 with two nodes: one that is started without a way to the "
			 "other one fences it, and then the other way round, without end");
		hf_finding_mend(f, "remove wait_for_all from quorum { } of corosync.conf on both "
				   "nodes");
	}
}

void hf_clustercheck_daemon(const struct hf_clustercheck *c)
{
	const struct hf_clustercheck_host *h = c->host;
	struct hf_finding *f;

	if (!h)
		return;
	if (strcmp(h->daemon, "answers") != 0 && strcmp(h->daemon, "forbidden") != 0) {
		f = hf_findings_add(c->found, HF_FOUND_ERROR, "daemon", "holdfastd",
				    "holdfastd %s on this host: no VM can be started here, and no "
				    "failure is announced",
				    strcmp(h->daemon, "silent") == 0 ? "does not answer"
								     : "does not run");
		hf_finding_mend(f, "systemctl enable --now holdfastd");
	}
	if (h->name && hf_cib_count_nodes(c->cib) && !hf_cib_has_node(c->cib, h->name)) {
		f = hf_findings_add(
			c->found, HF_FOUND_ERROR, "host-name", h->name,
			"holdfastd calls this host %s, and no node of the cluster has that "
			"name: what is known of the one is not known of the other",
			h->name);
		hf_finding_mend(f, "name = NODE in [host] of holdfastd.conf, with the node's name "
				   "as crm_node -n prints it");
	}
}
