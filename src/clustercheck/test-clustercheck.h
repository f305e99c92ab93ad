/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A right configuration in parts, each of which a test may replace by a wrong one, and what is found then. For the tests
 * of the cluster's check alone.
 */
#pragma once

#include "../../tests/test.h"
#include "clustercheck/rules.h"

#define NV(id, name, value) "<nvpair id='" id "' name='" name "' value='" value "'/>"
#define PROPS(pairs)                                                                               \
	"<crm_config><cluster_property_set id='props'>" pairs "</cluster_property_set></"          \
	"crm_config>"
#define META(id, pairs) "<meta_attributes id='" id "'>" pairs "</meta_attributes>"
#define PARAMS(id, pairs) "<instance_attributes id='" id "'>" pairs "</instance_attributes>"
#define OP(id, name, more) "<op id='" id "' name='" name "' " more "/>"
#define OPS(list) "<operations>" list "</operations>"
#define VM_OF(id, inside)                                                                          \
	"<primitive id='" id "' class='ocf' provider='holdfast' type='vm'>" inside "</primitive>"

#define GOOD_PROPS                                                                                 \
	PROPS(NV("p1", "stonith-enabled", "true") NV("p2", "priority-fencing-delay", "15s"))
#define NODES2 "<nodes><node id='1' uname='hostA'/><node id='2' uname='hostB'/></nodes>"
#define NODES3                                                                                     \
	"<nodes><node id='1' uname='hostA'/><node id='2' uname='hostB'/><node id='3' "             \
	"uname='hostC'/></nodes>"
#define FENCE                                                                                      \
	"<primitive id='fence' class='stonith' type='fence_ipmilan'>" PARAMS(                      \
		"fp", NV("fh", "pcmk_host_list", "hostA hostB hostC")) "</primitive>"
#define GOOD_META                                                                                  \
	META("m", NV("m1", "migration-threshold", "1") NV("m2", "resource-stickiness", "100")      \
			  NV("m3", "priority", "1"))
#define GOOD_PARAMS PARAMS("i", NV("i1", "vm", "web"))
#define MONITOR OP("mon", "monitor", "interval='10s' timeout='20s' on-fail='restart'")
#define START OP("start", "start", "interval='0s' timeout='90s'")
#define STOP OP("stop", "stop", "interval='0s' timeout='90s'")
#define GOOD_OPS OPS(MONITOR START STOP)
#define GOOD_VM VM_OF("vm1", GOOD_PARAMS GOOD_META GOOD_OPS)

#define MONITORS                                                                                   \
	OP("mon1", "monitor", "interval='10s' timeout='20s' role='Promoted' on-fail='restart'")    \
	OP("mon2", "monitor", "interval='11s' timeout='20s' role='Unpromoted' on-fail='restart'")
#define PROMOTE OP("pro", "promote", "interval='0s' timeout='60s'")
#define DEMOTE OP("dem", "demote", "interval='0s' timeout='90s'")
#define CLONE_OPS OPS(MONITORS START STOP PROMOTE DEMOTE)
#define CLONE_META                                                                                 \
	META("cm",                                                                                 \
	     NV("c1", "promotable", "true") NV("c2", "notify", "true") NV("c3", "clone-max", "2"))
#define CLONE_OF(meta, inside) "<clone id='web-clone'>" meta inside "</clone>"
#define CLONE_PRIORITY META("m", NV("m3", "priority", "1"))
#define CLONED_VM VM_OF("web", GOOD_PARAMS CLONE_PRIORITY CLONE_OPS)
#define GOOD_CLONE CLONE_OF(CLONE_META, CLONED_VM)

#define CIB_OF(props, nodes, resources, rest)                                                      \
	"<cib><configuration>" props nodes "<resources>" resources "</resources>" rest             \
	"</configuration><status/></cib>"
#define CIB(resources) CIB_OF(GOOD_PROPS, NODES2, FENCE resources, "<constraints/>")

#define DEFINITION_PLAIN "[vm]\nmanager = pacemaker\nargs = -m 64\n"
#define DEFINITION_PAIR                                                                            \
	DEFINITION_PLAIN "[host hostA]\naddress = 10.0.0.1\n[host hostB]\naddress = 10.0.0.2\n"

/* What is looked at; all but the configuration may be left out. */
struct look {
	const char *cib;
	const char *definition; /* of the VM "web" */
	const struct hf_definition *other; /* one more */
	const char *corosync;
	const struct hf_clustercheck_host *host;
	bool is_without_web; /* the folder is looked at, but has no "web" */
};

static struct hf_findings found;

__attribute__((unused)) static void look(struct look l)
{
	struct hf_definition defs[2];
	struct hf_corosync q;
	struct hf_cib cib;
	struct hf_err err = { "" };
	struct hf_clustercheck c = {
		.cib = &cib, .found = &found, .host = l.host, .vms_dir = "/vms"
	};

	hf_findings_fini(&found);
	if (hf_cib_parse(l.cib, strlen(l.cib), &cib, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	if (l.definition)
		hf_definition_parse("web", "/vms/web.conf", l.definition, strlen(l.definition),
				    &defs[c.n_definitions++]);
	if (l.other)
		defs[c.n_definitions++] = *l.other;
	c.definitions = l.definition || l.other || l.is_without_web ? defs : NULL;
	if (l.corosync) {
		hf_corosync_parse(l.corosync, strlen(l.corosync), &q);
		c.corosync = &q;
	}
	CHECK_EQ(hf_clustercheck_run(&c), 0);
	for (size_t i = 0; i < found.n; i++)
		printf("# %s %s %s: %s\n", hf_found_name(found.v[i].severity), found.v[i].code,
		       found.v[i].where, found.v[i].what);
	hf_clustercheck_fini(&c);
	hf_cib_fini(&cib);
}

__attribute__((unused)) static void finds_nothing(struct look l)
{
	look(l);
	CHECK_EQ(found.n, 0);
}

/* That one, there, and nothing else; and it says how to mend it. */
__attribute__((unused)) static void finds(struct look l, enum hf_found severity, const char *code,
					  const char *where)
{
	look(l);
	CHECK_EQ(found.n, 1);
	CHECK_STR(found.v[0].code, code);
	CHECK_STR(found.v[0].where, where);
	CHECK_EQ(found.v[0].severity, severity);
	CHECK(found.v[0].what[0]);
	CHECK(found.v[0].crm[0] || found.v[0].mend[0]);
	CHECK_EQ(found.v[0].crm[0] && !found.v[0].pcs[0], 0);
}

#define ERR HF_FOUND_ERROR
#define WARN HF_FOUND_WARNING
#define NOTE HF_FOUND_NOTE
