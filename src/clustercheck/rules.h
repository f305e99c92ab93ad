/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The usual mistakes of clusters that run VMs of holdfast: what is looked at, and what looks. Layer: clustercheck. One
 * thread; nothing blocks; findings allocate.
 *
 * An error lets a VM run twice, not be recovered, or not be started at all; a warning makes recovery slower or takes
 * more down than need be; a note is worth knowing. What is right gives no finding.
 */
#pragma once

#include "clustercheck/cib.h"
#include "clustercheck/corosync.h"
#include "clustercheck/definition.h"
#include "clustercheck/findings.h"

/* What the daemon of this host says. */
struct hf_clustercheck_host {
	const char *name; /* of the host, as holdfastd calls it; NULL: not known */
	const char *daemon; /* "answers", "silent", "dead", "absent", "forbidden" */
	uint64_t dead_after_ms; /* a silent host's leases are free after that; 0: no leases */
	bool is_fencing_ignored; /* [pacemaker] fencing = ignore */
	/* VMs whose definition is another one on their other host. */
	const char *const *differing;
	size_t n_differing;
};

struct hf_clustercheck {
	const struct hf_cib *cib;
	struct hf_cib_rsc *vms; /* of ocf:holdfast:vm */
	size_t n_vms;
	struct hf_cib_rsc *fences;
	size_t n_fences;
	const struct hf_definition
		*definitions; /* of this host, by name; NULL: not to be looked at */
	size_t n_definitions;
	const char *vms_dir; /* their folder, for messages */
	const struct hf_corosync *corosync; /* NULL: not to be read */
	const struct hf_clustercheck_host
		*host; /* NULL: another cluster's configuration, or not asked */
	struct hf_findings *found;
};

/* Finds the resources, then all mistakes. The rest of @c is given. 0; -E2BIG; -ENOMEM. */
int hf_clustercheck_run(struct hf_clustercheck *c) HF_MUST_CHECK;
void hf_clustercheck_fini(struct hf_clustercheck *c);

/* ---- its parts ---- */

void hf_clustercheck_cluster(const struct hf_clustercheck *c); /* fencing, quorum */
void hf_clustercheck_corosync(const struct hf_clustercheck *c);
void hf_clustercheck_daemon(const struct hf_clustercheck *c);
void hf_clustercheck_unused(
	const struct hf_clustercheck *c); /* definitions that no resource names */

void hf_clustercheck_params(const struct hf_clustercheck *c, const struct hf_cib_rsc *r);
void hf_clustercheck_meta(const struct hf_clustercheck *c, const struct hf_cib_rsc *r);
void hf_clustercheck_ops(const struct hf_clustercheck *c, const struct hf_cib_rsc *r);
void hf_clustercheck_clone(const struct hf_clustercheck *c, const struct hf_cib_rsc *r);
void hf_clustercheck_definition(const struct hf_clustercheck *c, const struct hf_cib_rsc *r);

/* The parameter vm, "" if there is none. */
const char *hf_clustercheck_vm_name(const struct hf_clustercheck *c, const struct hf_cib_rsc *r);
/* NULL: not there, or not to be looked at. */
const struct hf_definition *hf_clustercheck_find_definition(const struct hf_clustercheck *c,
							    const char *vm);

/* As hf_findings_add(), of a resource; @where NULL: itself. */
struct hf_finding *hf_clustercheck_tell(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
					enum hf_found severity, const char *code, const char *where,
					const char *format, ...)
	__attribute__((format(printf, 6, 7)));
