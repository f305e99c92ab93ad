/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mistakes that concern the whole cluster, one by one. */
#include "clustercheck/test-clustercheck.h"

#define WITH_PROPS(pairs) CIB_OF(PROPS(pairs), NODES2, FENCE GOOD_VM, "")
#define DELAY NV("p2", "priority-fencing-delay", "15s")
#define COROSYNC(nodes, quorum)                                                                    \
	"totem {\n version: 2\n}\nnodelist {\n" nodes "}\nquorum {\n"                              \
	" provider: corosync_votequorum\n" quorum "}\n"
#define NODE " node {\n  ring0_addr: 10.0.0.1\n }\n"

TEST(a_right_configuration_gives_nothing)
{
	finds_nothing((struct look){ .cib = CIB(GOOD_VM), .definition = DEFINITION_PLAIN });
	finds_nothing((struct look){ .cib = CIB(GOOD_CLONE), .definition = DEFINITION_PAIR });
}

TEST(a_cluster_without_our_vms_is_not_judged)
{
	finds_nothing((struct look){
		.cib = CIB_OF(PROPS(NV("p", "stonith-enabled", "false")), NODES2, "", "") });
}

TEST(fencing_is_switched_off)
{
	finds((struct look){ .cib = WITH_PROPS(NV("off", "stonith-enabled", "false") DELAY) }, ERR,
	      "stonith-off", "off");
	CHECK_CONTAINS(found.v[0].what, "lease");
	finds((struct look){ .cib = WITH_PROPS(NV("off", "stonith-enabled", "no") DELAY),
			     .definition = DEFINITION_PLAIN "lease = no\n" },
	      ERR, "stonith-off", "off");
	CHECK_CONTAINS(found.v[0].what, "twice: web");
}

TEST(there_is_no_fence_device)
{
	finds((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES2, GOOD_VM, "") }, ERR, "stonith-none",
	      "resources");
}

TEST(a_fence_device_that_is_stopped_is_none)
{
	finds((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES2,
					   "<primitive id='f' class='stonith' "
					   "type='fence_x'>" META(
						   "fm", NV("ft", "target-role",
							    "Stopped")) "</primitive>" GOOD_VM,
					   "") },
	      ERR, "stonith-none", "resources");
}

TEST(a_watchdog_fences_too)
{
	finds_nothing((struct look){ .cib = "<cib have-watchdog='1'><configuration>" PROPS(NV(
					     "w", "stonith-watchdog-timeout", "10s") DELAY) NODES2
				     "<resources>" GOOD_VM "</resources></configuration></cib>" });
}

TEST(a_node_that_no_device_fences)
{
#define FENCE_OF(pairs)                                                                            \
	"<primitive id='f' class='stonith' type='fence_x'>" PARAMS("fp", pairs) "</primitive>"
	finds((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES2,
					   FENCE_OF(NV("l", "pcmk_host_list", "hostA")) GOOD_VM,
					   "") },
	      ERR, "stonith-node", "hostB");
	finds((struct look){ .cib = CIB_OF(GOOD_PROPS, NODES2,
					   FENCE_OF(NV("l", "pcmk_host_map", "hostA:hostB;c:3"))
						   GOOD_VM,
					   "") },
	      ERR, "stonith-node", "hostB");
	finds_nothing((struct look){
		.cib = CIB_OF(GOOD_PROPS, NODES2,
			      FENCE_OF(NV("l", "pcmk_host_map", "hostA:1;hostB:2")) GOOD_VM, "") });
	finds_nothing(
		(struct look){ .cib = CIB_OF(GOOD_PROPS, NODES2,
					     FENCE_OF(NV("l", "ip", "10.0.0.9")) GOOD_VM, "") });
}

TEST(fencing_that_leaves_the_node_running_is_no_proof)
{
	struct hf_clustercheck_host host = { .name = "hostA", .daemon = "answers" };
#define SCSI                                                                                       \
	CIB_OF(GOOD_PROPS, NODES2,                                                                 \
	       "<primitive id='scsi' class='stonith' type='fence_scsi'/>" GOOD_VM, "")

	finds((struct look){ .cib = SCSI, .host = &host }, ERR, "stonith-fabric", "scsi");
	host.is_fencing_ignored = true;
	finds_nothing((struct look){ .cib = SCSI, .host = &host });
}

TEST(nodes_unheard_of_are_not_fenced)
{
	finds((struct look){ .cib = WITH_PROPS(NV("s", "startup-fencing", "false") DELAY) }, WARN,
	      "startup-fencing", "s");
}

TEST(two_nodes_shoot_at_the_same_time)
{
	finds((struct look){ .cib = WITH_PROPS(NV("s", "stonith-enabled", "true")) }, WARN,
	      "fence-race", "priority-fencing-delay");
	finds((struct look){ .cib = WITH_PROPS(NV("d", "priority-fencing-delay", "0")) }, WARN,
	      "fence-race", "d");
	finds_nothing((struct look){
		.cib = CIB_OF(PROPS(NV("s", "stonith-enabled", "true")), NODES2,
			      FENCE_OF(NV("l", "pcmk_delay_base", "5s")) GOOD_VM, "") });
	finds_nothing((struct look){ .cib = CIB_OF(PROPS(NV("s", "stonith-enabled", "true")),
						   NODES3, FENCE GOOD_VM, "") });
}

TEST(a_quorum_device_ends_the_race)
{
	finds_nothing(
		(struct look){ .cib = WITH_PROPS(NV("s", "stonith-enabled", "true")),
			       .corosync = COROSYNC(NODE NODE, " device {\n  votes: 1\n }\n") });
}

TEST(a_delay_by_priorities_that_nobody_has)
{
	finds((struct look){ .cib = CIB(VM_OF(
				     "vm1",
				     GOOD_PARAMS META("m", NV("m1", "migration-threshold", "1")
								   NV("m2", "resource-stickiness",
								      "1")) GOOD_OPS)) },
	      WARN, "fence-priority", "p2");
}

TEST(quorum_is_ignored)
{
	finds((struct look){ .cib = CIB_OF(PROPS(NV("q", "no-quorum-policy", "ignore")), NODES3,
					   FENCE GOOD_VM, "") },
	      ERR, "quorum-ignored", "q");
	finds_nothing(
		(struct look){ .cib = WITH_PROPS(NV("q", "no-quorum-policy", "ignore") DELAY) });
}

TEST(maintenance_is_forgotten)
{
	finds((struct look){ .cib = WITH_PROPS(NV("mm", "maintenance-mode", "true") DELAY) }, NOTE,
	      "maintenance", "mm");
}

TEST(the_bootstrap_set_counts_first)
{
	finds((struct look){ .cib = CIB_OF("<crm_config><cluster_property_set id='a' score='5'>" NV(
						   "q1", "maintenance-mode", "false") DELAY
					   "</cluster_property_set><cluster_property_set "
					   "id='cib-bootstrap-options'>" NV(
						   "q2", "maintenance-mode",
						   "true") "</cluster_property_set></crm_config>",
					   NODES2, FENCE GOOD_VM, "") },
	      NOTE, "maintenance", "q2");
}

TEST(corosync_leaves_one_of_two_without_quorum)
{
	finds((struct look){ .cib = CIB(GOOD_VM), .corosync = COROSYNC(NODE NODE, "") }, ERR,
	      "two-node-missing", "corosync.conf");
	finds_nothing((struct look){ .cib = CIB(GOOD_VM),
				     .corosync = COROSYNC(NODE NODE, " two_node: 1\n") });
	finds_nothing(
		(struct look){ .cib = CIB(GOOD_VM), .corosync = COROSYNC(NODE NODE NODE, "") });
}

TEST(two_node_with_three)
{
	finds((struct look){ .cib = CIB(GOOD_VM),
			     .corosync = COROSYNC(NODE NODE NODE, " two_node: 1\n") },
	      ERR, "two-node-wrong", "corosync.conf");
}

TEST(two_nodes_that_do_not_wait_for_each_other)
{
	finds((struct look){ .cib = CIB(GOOD_VM),
			     .corosync = COROSYNC(NODE NODE, " two_node: 1\n wait_for_all: 0\n") },
	      WARN, "wait-for-all", "corosync.conf");
}

TEST(the_daemon_does_not_run)
{
	struct hf_clustercheck_host host = { .daemon = "absent" };

	finds((struct look){ .cib = CIB(GOOD_VM), .host = &host }, ERR, "daemon", "holdfastd");
	host.daemon = "silent";
	finds((struct look){ .cib = CIB(GOOD_VM), .host = &host }, ERR, "daemon", "holdfastd");
	CHECK_CONTAINS(found.v[0].what, "does not answer");
	host.daemon = "answers";
	finds_nothing((struct look){ .cib = CIB(GOOD_VM), .host = &host });
}

TEST(the_host_has_another_name_than_the_node)
{
	struct hf_clustercheck_host host = { .name = "alpha", .daemon = "answers" };

	finds((struct look){ .cib = CIB(GOOD_VM), .host = &host }, ERR, "host-name", "alpha");
}
