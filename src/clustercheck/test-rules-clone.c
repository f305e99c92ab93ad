/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mistakes of promotable clones, and of what does not fit the definition, one by one. */
#include "clustercheck/test-clustercheck.h"

#define WITH_CLONE_META(pairs) CIB(CLONE_OF(META("cm", pairs), CLONED_VM))
#define WITH_CLONE_OPS(ops)                                                                        \
	CIB(CLONE_OF(CLONE_META, VM_OF("web", GOOD_PARAMS CLONE_PRIORITY OPS(ops))))
#define PROMOTABLE NV("c1", "promotable", "true")
#define NOTIFY NV("c2", "notify", "true")
#define MAX2 NV("c3", "clone-max", "2")
#define AVOID                                                                                      \
	"<constraints><rsc_location id='l' rsc='web-clone' node='hostC' score='-INFINITY'/>"       \
	"</constraints>"

TEST(a_clone_that_is_not_promotable)
{
	finds((struct look){ .cib = CIB(
				     CLONE_OF("", VM_OF("web", GOOD_PARAMS GOOD_META GOOD_OPS))) },
	      ERR, "not-promotable", "web-clone");
}

TEST(the_old_element_is_promotable)
{
	finds_nothing((struct look){
		.cib = CIB("<master id='ms'>" META("cm", NOTIFY MAX2) CLONED_VM "</master>"),
		.definition = DEFINITION_PAIR });
}

TEST(a_vm_in_a_bundle)
{
	look((struct look){ .cib = CIB("<bundle id='b'>" GOOD_VM "</bundle>") });
	CHECK_EQ(found.n, 1);
	CHECK_STR(found.v[0].code, "bundle");
}

TEST(more_instances_than_hosts)
{
	finds((struct look){ .cib = WITH_CLONE_META(PROMOTABLE NOTIFY NV("x", "clone-max", "3")) },
	      ERR, "clone-max", "x");
	finds((struct look){ .cib = WITH_CLONE_META(PROMOTABLE NOTIFY NV("x", "clone-max", "1")) },
	      ERR, "clone-max", "x");
	finds_nothing((struct look){ .cib = WITH_CLONE_META(PROMOTABLE NOTIFY) });
	finds((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES3,
					   FENCE CLONE_OF(META("cm", PROMOTABLE NOTIFY), CLONED_VM),
					   "") },
	      ERR, "clone-max", "web-clone");
}

TEST(it_would_run_twice)
{
	finds((struct look){ .cib = WITH_CLONE_META(
				     PROMOTABLE NOTIFY MAX2 NV("x", "promoted-max", "2")) },
	      ERR, "promoted-max", "x");
	finds((struct look){ .cib = WITH_CLONE_META(
				     PROMOTABLE NOTIFY MAX2 NV("x", "master-max", "2")) },
	      ERR, "promoted-max", "x");
	finds((struct look){ .cib = WITH_CLONE_META(
				     PROMOTABLE NOTIFY MAX2 NV("x", "clone-node-max", "2")) },
	      ERR, "clone-node-max", "x");
	finds((struct look){ .cib = WITH_CLONE_META(
				     PROMOTABLE NOTIFY MAX2 NV("x", "globally-unique", "true")) },
	      ERR, "globally-unique", "x");
}

TEST(demote_does_not_know_where_to)
{
	finds((struct look){ .cib = WITH_CLONE_META(PROMOTABLE MAX2) }, ERR, "notify", "web-clone");
}

TEST(no_new_standby_after_a_failure)
{
	finds((struct look){ .cib = WITH_CLONE_META(
				     PROMOTABLE NOTIFY MAX2 NV("x", "migration-threshold", "1")) },
	      WARN, "threshold-clone", "x");
	finds_nothing((struct look){
		.cib = WITH_CLONE_META(PROMOTABLE NOTIFY MAX2 NV("x", "failure-timeout", "60")) });
}

TEST(one_role_is_never_looked_at)
{
	finds((struct look){ .cib = WITH_CLONE_OPS(MONITOR START STOP PROMOTE DEMOTE) }, ERR,
	      "monitor-role", "web");
	CHECK_CONTAINS(found.v[0].what, "role Promoted");
	finds((struct look){ .cib = WITH_CLONE_OPS(
				     OP("x", "monitor",
					"interval='10s' role='Master' on-fail='restart'")
					     START STOP PROMOTE DEMOTE) },
	      ERR, "monitor-role", "web");
	CHECK_CONTAINS(found.v[0].what, "role Unpromoted");
}

TEST(both_roles_have_one_interval)
{
	finds((struct look){ .cib = WITH_CLONE_OPS(
				     OP("x", "monitor",
					"interval='10s' role='Promoted' on-fail='restart'")
					     OP("y", "monitor",
						"interval='10' role='Unpromoted' on-fail='restart'")
						     START STOP PROMOTE DEMOTE) },
	      ERR, "monitor-same-interval", "y");
}

TEST(demote_ends_the_resource_on_failure)
{
	finds(
		(struct look){
			.cib = WITH_CLONE_OPS(
				OP("x", "monitor",
				   "interval='10s' role='Promoted' on-fail='demote'")
					OP("y", "monitor",
					   "interval='11s' role='Unpromoted' on-fail='restart'")
						START STOP PROMOTE DEMOTE) },
		WARN, "monitor-on-fail", "x");
}

TEST(no_time_to_promote_or_demote)
{
	finds((struct look){ .cib = WITH_CLONE_OPS(MONITORS START STOP DEMOTE) }, WARN,
	      "promote-timeout", "web");
	finds((struct look){ .cib = WITH_CLONE_OPS(MONITORS START STOP PROMOTE OP(
				     "d", "demote", "timeout='20s'")) },
	      WARN, "stop-timeout", "d");
}

/* ---- the definition ---- */

TEST(the_definition_is_not_here)
{
	struct hf_clustercheck_host host = { .name = "hostC", .daemon = "answers" };

	finds((struct look){ .cib = CIB(GOOD_VM), .is_without_web = true }, ERR,
	      "definition-missing", "/vms/web.conf");
	/* Where it can never be it is not needed. */
	finds_nothing((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES3, FENCE GOOD_CLONE, AVOID),
				     .is_without_web = true,
				     .host = &host });
}

TEST(the_definition_is_wrong)
{
	finds((struct look){ .cib = CIB(GOOD_VM),
			     .definition = "[vm]\nargs = -m 1\nnonsense = 1\n" },
	      ERR, "definition-invalid", "/vms/web.conf");
	CHECK_CONTAINS(found.v[0].what, "/vms/web.conf:3:1");
	finds((struct look){ .cib = CIB(GOOD_VM), .definition = "[vm]\nmanager = pacemaker\n" },
	      ERR, "definition-invalid", "/vms/web.conf");
}

TEST(the_definition_is_not_pacemakers)
{
	finds((struct look){ .cib = CIB(GOOD_VM), .definition = "[vm]\nargs = -m 1\n" }, ERR,
	      "definition-unmanaged", "/vms/web.conf");
	finds((struct look){ .cib = CIB(GOOD_VM),
			     .definition = "[vm]\nargs = -m 1\nmanager = none\n" },
	      ERR, "definition-unmanaged", "/vms/web.conf");
}

TEST(nobody_starts_what_is_defined)
{
	struct hf_definition other = { .name = "db",
				       .state = HF_DEFINITION_GOOD,
				       .is_managed = true };

	finds((struct look){ .cib = CIB(GOOD_VM), .definition = DEFINITION_PLAIN, .other = &other },
	      WARN, "no-resource", "/vms/db.conf");
	CHECK_STR(found.v[0].vm, "db");
	other.is_managed = false;
	finds_nothing((struct look){
		.cib = CIB(GOOD_VM), .definition = DEFINITION_PLAIN, .other = &other });
}

TEST(hosts_that_are_no_nodes)
{
	look((struct look){
		.cib = CIB(GOOD_CLONE),
		.definition = DEFINITION_PLAIN
		"[host hostA]\naddress = 10.0.0.1\n[host beta]\naddress = 10.0.0.2\n" });
	CHECK_EQ(found.n, 2);
	CHECK_STR(found.v[0].code, "host-no-node");
	CHECK_STR(found.v[0].where, "beta");
	CHECK_STR(found.v[1].code, "node-no-host");
	CHECK_STR(found.v[1].where, "hostB");
}

TEST(a_node_that_is_no_host)
{
	finds((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES3, FENCE GOOD_CLONE, ""),
			     .definition = DEFINITION_PAIR },
	      ERR, "node-no-host", "hostC");
	finds_nothing((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES3, FENCE GOOD_CLONE, AVOID),
				     .definition = DEFINITION_PAIR });
}

#define LOCATION(inside) "<constraints>" inside "</constraints>"
#define WITH_LOCATION(inside) CIB_OF(GOOD_PROPS, NODES3, FENCE GOOD_CLONE, LOCATION(inside))

TEST(constraints_of_each_form_keep_a_node_free)
{
	static const char *const forms[] = {
		WITH_LOCATION("<rsc_location id='l' rsc='web-clone'><rule id='r' score='-INFINITY'>"
			      "<expression id='e' attribute='#uname' operation='eq' "
			      "value='hostC'/></rule></rsc_location>"),
		WITH_LOCATION("<rsc_location id='l' rsc-pattern='^web' node='hostC' "
			      "score='-INFINITY'/>"),
		WITH_LOCATION(
			"<rsc_location id='l' node='hostC' score='-INFINITY'><resource_set "
			"id='s'><resource_ref id='web-clone'/></resource_set></rsc_location>"),
		CIB_OF(PROPS(NV("sy", "symmetric-cluster", "false")), NODES3, FENCE GOOD_CLONE,
		       LOCATION("<rsc_location id='l1' rsc='web-clone' node='hostA' score='0'/>"
				"<rsc_location id='l2' rsc='web-clone' node='hostB' score='0'/>")),
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		finds_nothing((struct look){ .cib = forms[i], .definition = DEFINITION_PAIR });
}

TEST(constraints_that_keep_nothing_free)
{
	static const char *const forms[] = {
		WITH_LOCATION("<rsc_location id='l' rsc='web-clone' node='hostC' score='-1000'/>"),
		WITH_LOCATION("<rsc_location id='l' rsc='other' node='hostC' score='-INFINITY'/>"),
		WITH_LOCATION("<rsc_location id='l' rsc='web-clone' node='hostC' role='Promoted' "
			      "score='-INFINITY'/>"),
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		finds((struct look){ .cib = forms[i], .definition = DEFINITION_PAIR }, ERR,
		      "node-no-host", "hostC");
}

TEST(protection_that_is_not_used)
{
	finds((struct look){ .cib = CIB(GOOD_VM), .definition = DEFINITION_PAIR }, WARN,
	      "protection-unused", "vm1");
}

TEST(a_standby_that_cannot_be)
{
	finds((struct look){ .cib = CIB(GOOD_CLONE), .definition = DEFINITION_PLAIN }, ERR,
	      "no-hosts", "web-clone");
}

TEST(the_nodes_do_not_define_the_same)
{
	const char *const differing[] = { "other", "web" };
	struct hf_clustercheck_host host = { .daemon = "answers",
					     .differing = differing,
					     .n_differing = 2 };

	finds((struct look){ .cib = CIB(GOOD_VM), .definition = DEFINITION_PLAIN, .host = &host },
	      ERR, "definitions-differ", "web");
}
