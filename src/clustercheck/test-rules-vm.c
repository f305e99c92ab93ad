/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mistakes of a plain resource, one by one. */
#include "clustercheck/test-clustercheck.h"

#define WITH_PARAMS(pairs) CIB(VM_OF("vm1", PARAMS("i", pairs) GOOD_META GOOD_OPS))
#define WITH_META(pairs) CIB(VM_OF("vm1", GOOD_PARAMS META("m", pairs) GOOD_OPS))
#define WITH_OPS(ops) CIB(VM_OF("vm1", GOOD_PARAMS GOOD_META OPS(ops)))
#define THRESHOLD NV("m1", "migration-threshold", "1")
#define STICKY NV("m2", "resource-stickiness", "100") NV("m3", "priority", "1")
#define NAME NV("i1", "vm", "web")

TEST(the_vm_is_not_named)
{
	finds((struct look){ .cib = WITH_PARAMS("") }, ERR, "vm-missing", "vm1");
	finds((struct look){ .cib = WITH_PARAMS(NV("n", "vm", "../etc")) }, ERR, "vm-name", "n");
}

TEST(two_resources_have_the_same_vm)
{
	finds((struct look){ .cib = CIB(GOOD_VM VM_OF(
				     "vm2",
				     "<instance_attributes "
				     "id-ref='i'/><meta_attributes "
				     "id-ref='m'/>" OPS(
					     OP("mon3", "monitor",
						"interval='10s' on-fail='restart'")
						     OP("s3", "start", "timeout='90s'")
							     OP("s4", "stop", "timeout='90s'")))) },
	      ERR, "vm-twice", "vm2");
	CHECK_STR(found.v[0].vm, "web");
}

TEST(a_parameter_that_does_not_exist)
{
	finds((struct look){ .cib = WITH_PARAMS(NAME NV("u", "when-frozen", "fresh")) }, WARN,
	      "param-unknown", "u");
}

TEST(a_parameter_that_cannot_be_so)
{
	finds((struct look){ .cib = WITH_PARAMS(NAME NV("u", "when_frozen", "maybe")) }, ERR,
	      "param-value", "u");
	finds((struct look){ .cib = WITH_PARAMS(NAME NV("u", "shutdown_timeout", "long")) }, ERR,
	      "param-value", "u");
	finds_nothing((struct look){
		.cib = WITH_PARAMS(NAME NV("a", "paused", "failed") NV("b", "stop_failed", "kill")
					   NV("c", "shutdown_timeout", "60")) });
}

TEST(failures_are_tried_again_on_the_same_node)
{
	finds((struct look){ .cib = WITH_META(STICKY) }, WARN, "threshold-missing", "vm1");
	finds((struct look){ .cib = WITH_META(STICKY NV("t", "migration-threshold", "INFINITY")) },
	      WARN, "threshold-missing", "t");
	finds((struct look){ .cib = WITH_META(STICKY NV("t", "migration-threshold", "0")) }, WARN,
	      "threshold-missing", "t");
	finds((struct look){ .cib = WITH_META(STICKY NV("t", "migration-threshold", "3")) }, NOTE,
	      "threshold-high", "t");
}

TEST(failures_are_forgotten_while_it_is_frozen)
{
	finds((struct look){ .cib = WITH_META(
				     THRESHOLD STICKY NV("f", "failure-timeout", "10min")) },
	      WARN, "failure-timeout", "f");
	finds_nothing((struct look){
		.cib = WITH_META(THRESHOLD STICKY NV("f", "failure-timeout", "0")) });
}

TEST(migration_is_asked_for)
{
	finds((struct look){ .cib = WITH_META(THRESHOLD STICKY NV("a", "allow-migrate", "true")) },
	      WARN, "allow-migrate", "a");
}

TEST(nothing_holds_it_where_it_is)
{
	finds((struct look){ .cib = WITH_META(THRESHOLD NV("m3", "priority", "1")) }, WARN,
	      "stickiness", "vm1");
}

TEST(it_does_not_wait_for_fencing)
{
	finds((struct look){ .cib = WITH_META(THRESHOLD STICKY NV("r", "requires", "quorum")) },
	      ERR, "requires", "r");
	finds_nothing(
		(struct look){ .cib = WITH_META(THRESHOLD STICKY NV("r", "requires", "fencing")) });
}

TEST(it_is_not_managed)
{
	finds((struct look){ .cib = WITH_META(THRESHOLD STICKY NV("r", "is-managed", "false")) },
	      NOTE, "unmanaged", "r");
}

/* ---- operations ---- */

TEST(there_is_no_monitor)
{
	finds((struct look){ .cib = WITH_OPS(START STOP) }, ERR, "monitor-missing", "vm1");
	CHECK_CONTAINS(found.v[0].pcs, "pcs resource op add vm1 monitor");
	/* A role that a plain resource never has. */
	finds((struct look){ .cib = WITH_OPS(START STOP OP("x", "monitor",
							   "interval='10s' role='Promoted'")) },
	      ERR, "monitor-missing", "vm1");
}

#define MONITOR_OF(more) WITH_OPS(START STOP OP("x", "monitor", more))

TEST(the_monitor_is_never_repeated)
{
	finds((struct look){ .cib = MONITOR_OF("interval='0s' on-fail='restart'") }, ERR,
	      "monitor-interval", "x");
	finds((struct look){ .cib = MONITOR_OF(
				     "interval='10s' on-fail='restart' enabled='false'") },
	      ERR, "monitor-disabled", "x");
}

TEST(a_monitor_that_leads_to_nothing)
{
	finds((struct look){ .cib = MONITOR_OF("interval='10s' on-fail='ignore'") }, ERR,
	      "monitor-on-fail", "x");
	finds((struct look){ .cib = MONITOR_OF("interval='10s' on-fail='block'") }, ERR,
	      "monitor-on-fail", "x");
	finds((struct look){ .cib = MONITOR_OF("interval='10s' on-fail='fence'") }, WARN,
	      "monitor-on-fail", "x");
	finds((struct look){ .cib = MONITOR_OF("interval='10s' on-fail='stop'") }, WARN,
	      "monitor-on-fail", "x");
	finds((struct look){ .cib = MONITOR_OF("interval='10s'") }, NOTE, "monitor-on-fail-missing",
	      "x");
}

TEST(a_monitor_without_time)
{
	finds((struct look){ .cib = MONITOR_OF("interval='10s' timeout='2s' on-fail='restart'") },
	      WARN, "monitor-timeout", "x");
	finds_nothing((struct look){ .cib = MONITOR_OF("interval='PT10S' on-fail='restart'") });
}

#define STOP_FENCES OP("st", "stop", "timeout='90s' on-fail='fence'")

TEST(defaults_of_operations_count)
{
#define DEFAULTS(more)                                                                             \
	"<op_defaults><meta_attributes id='od'>" more "</meta_attributes></op_defaults>"
#define WITH_DEFAULTS(ops, more)                                                                   \
	CIB_OF(GOOD_PROPS, NODES2, FENCE VM_OF("vm1", GOOD_PARAMS GOOD_META OPS(ops)),             \
	       DEFAULTS(more))
	finds((struct look){ .cib = WITH_DEFAULTS(
				     START STOP_FENCES OP("x", "monitor", "interval='10s'"),
				     NV("o", "on-fail", "ignore")) },
	      ERR, "monitor-on-fail", "x");
	finds_nothing((struct look){ .cib = WITH_DEFAULTS(MONITOR, NV("o", "timeout", "90s")) });
	/* Its own counts more. */
	finds((struct look){ .cib = WITH_DEFAULTS(START STOP OP("x", "monitor",
								"interval='10s' timeout='3s' "
								"on-fail='restart'"),
						  NV("o", "timeout", "90s")) },
	      WARN, "monitor-timeout", "x");
}

TEST(rules_of_defaults_are_evaluated)
{
#define RULE(inside) "<rule id='r' score='0'>" inside "</rule>"
	finds_nothing((struct look){
		.cib = WITH_DEFAULTS(START STOP OP("x", "monitor", "interval='10s'"),
				     RULE("<op_expression id='e' name='monitor'/><rsc_expression "
					  "id='e2' class='ocf' provider='holdfast' type='vm'/>")
					     NV("o", "on-fail", "restart")) });
	finds((struct look){ .cib = WITH_DEFAULTS(START STOP OP("x", "monitor", "interval='10s'"),
						  RULE("<op_expression id='e' name='monitor' "
						       "interval='30s'/>")
							  NV("o", "on-fail", "restart")) },
	      NOTE, "monitor-on-fail-missing", "x");
	/* What depends on the time is not counted on. */
	finds((struct look){ .cib = WITH_DEFAULTS(START STOP OP("x", "monitor", "interval='10s'"),
						  RULE("<date_expression id='e' operation='gt' "
						       "start='2020-01-01'/>")
							  NV("o", "on-fail", "restart")) },
	      NOTE, "monitor-on-fail-missing", "x");
}

TEST(attributes_of_an_operations_own_set_count)
{
	finds((struct look){ .cib = WITH_OPS(START STOP
					     "<op id='x' name='monitor' interval='10s'>" META(
						     "xm", NV("xn", "on-fail", "block")) "</op>") },
	      ERR, "monitor-on-fail", "x");
}

TEST(a_guest_has_no_time_to_shut_down)
{
	finds((struct look){ .cib = WITH_OPS(MONITOR START) }, WARN, "stop-timeout", "vm1");
	finds((struct look){ .cib = WITH_OPS(MONITOR START OP("s", "stop", "timeout='30s'")) },
	      WARN, "stop-timeout", "s");
	finds((struct look){ .cib = WITH_PARAMS(NAME NV("t", "shutdown_timeout", "80s")) }, WARN,
	      "stop-timeout", "stop");
	finds_nothing((struct look){ .cib = WITH_PARAMS(NAME NV("t", "shutdown_timeout", "75")) });
}

TEST(a_vm_that_could_not_be_ended_counts_as_ended)
{
	finds((struct look){ .cib = WITH_OPS(MONITOR START OP("s", "stop",
							      "timeout='90s' on-fail='ignore'")) },
	      ERR, "stop-on-fail", "s");
	finds((struct look){ .cib = WITH_OPS(MONITOR START OP("s", "stop",
							      "timeout='90s' on-fail='block'")) },
	      WARN, "stop-on-fail", "s");
}

TEST(a_start_that_cannot_wait_for_its_lease)
{
	struct hf_clustercheck_host host = { .daemon = "answers", .dead_after_ms = 140000 };

	finds((struct look){ .cib = WITH_OPS(MONITOR STOP) }, WARN, "start-timeout", "vm1");
	finds_nothing((struct look){ .cib = CIB(GOOD_VM), .host = &host });
	host.is_fencing_ignored = true;
	finds((struct look){ .cib = CIB(GOOD_VM), .host = &host }, WARN, "start-timeout", "start");
	CHECK_CONTAINS(found.v[0].pcs, "timeout=150s");
}

/* ---- where values stand ---- */

TEST(templates_and_defaults_of_resources)
{
#define TEMPLATE                                                                                   \
	"<template id='t' class='ocf' provider='holdfast' type='vm'>" META("tm", THRESHOLD STICKY) \
		OPS(START STOP OP("tx", "monitor",                                                 \
				  "interval='10s' on-fail='ignore'")) "</template>"
	finds((struct look){ .cib = CIB(TEMPLATE "<primitive id='v' template='t'>" GOOD_PARAMS
						 "</primitive>") },
	      ERR, "monitor-on-fail", "tx");
	finds_nothing((struct look){
		.cib = CIB(TEMPLATE "<primitive id='v' template='t'>" GOOD_PARAMS OPS(
			MONITOR) "</primitive>") });
	finds_nothing((struct look){
		.cib = CIB_OF(GOOD_PROPS, NODES2, FENCE VM_OF("vm1", GOOD_PARAMS GOOD_OPS),
			      "<rsc_defaults>" META("rd", THRESHOLD STICKY) "</rsc_defaults>") });
}

TEST(a_set_of_a_higher_score_counts_first)
{
	finds((struct look){ .cib = CIB(VM_OF("vm1", GOOD_PARAMS GOOD_META GOOD_OPS
					      "<meta_attributes id='h' score='10'>" NV(
						      "hm", "migration-threshold",
						      "0") "</meta_attributes>")) },
	      WARN, "threshold-missing", "hm");
}

TEST(groups_are_looked_into)
{
	finds((struct look){ .cib = CIB("<group id='g'>" GOOD_VM
					"<primitive id='ip' class='ocf' provider='heartbeat' "
					"type='IPaddr2'/>" META(
						"gm", NV("ga", "allow-migrate", "1")) "</group>") },
	      WARN, "allow-migrate", "ga");
}

TEST(other_agents_are_none_of_ours)
{
	finds_nothing((struct look){ .cib = CIB(GOOD_VM "<primitive id='o' class='ocf' "
							"provider='heartbeat' type='Dummy'/>") });
}
