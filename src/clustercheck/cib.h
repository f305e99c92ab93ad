/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pacemaker's configuration (its CIB, as `cibadmin -Q` prints it), read as Pacemaker would. Layer: clustercheck. One
 * thread per object; nothing blocks; parsing allocates, looking does not.
 *
 * What counts of several places that name a value is decided by Pacemaker's rules ("Pacemaker Explained", 2.1): sets of a
 * higher score first, sets whose rule is not met not at all; a resource before its template before its group and clone
 * before the defaults; an operation's own properties before its sets before the defaults. Rules about resources and
 * operations are evaluated; of those about the time and of most about nodes the outcome is not known here, and a set
 * with such a rule counts as absent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HF_CIB_BYTES_MAX (16u << 20)
#define HF_CIB_VMS_MAX 4096
#define HF_CIB_OPS_MAX 64 /* of one resource; further ones are not looked at */
#define HF_CIB_INFINITY 1000000

struct _xmlDoc;
struct _xmlNode;
struct _xmlHashTable;

/* All strings of the following belong to this. */
struct hf_cib {
	struct _xmlDoc *doc;
	struct _xmlHashTable *ids;
	/* The parts of the configuration; NULL: there is no such. */
	struct _xmlNode *crm_config, *nodes, *resources, *constraints, *rsc_defaults, *op_defaults;
	bool has_watchdog; /* sbd's */
};

/* A value, and the id of the element that says so. text NULL: nothing does. */
struct hf_cib_value {
	const char *text;
	const char *id;
};

enum hf_cib_shape { HF_CIB_PLAIN, HF_CIB_CLONE, HF_CIB_PROMOTABLE, HF_CIB_BUNDLE };

/* A resource of ocf:holdfast:vm, or one that fences. */
struct hf_cib_rsc {
	const char *id;
	const char *
		top_id; /* of the clone, group or bundle around it, or its own: what constraints name */
	struct _xmlNode *primitive, *template, *group, *clone; /* NULL: none */
	enum hf_cib_shape shape;
};

struct hf_cib_op {
	const char *id, *name;
	const char *role; /* "Promoted", "Unpromoted", "Started", "Stopped"; NULL: not given */
	const char *on_fail; /* NULL: not given */
	uint64_t interval_ms, timeout_ms;
	bool has_timeout, is_enabled;
};

enum hf_cib_set { HF_CIB_PARAMS, HF_CIB_META };

/* Return: 0; -EINVAL with @err, which names the line; -EFBIG; -ENOMEM. A document with a DTD is refused. */
int hf_cib_parse(const char *text, size_t len, struct hf_cib *ret,
		 struct hf_err *err) HF_MUST_CHECK;
void hf_cib_fini(struct hf_cib *c); /* takes one that is all zero */

/* A property of the cluster. */
struct hf_cib_value hf_cib_property(const struct hf_cib *c, const char *name);

/* Names of the nodes, in the order of the configuration. NULL behind the last one. */
const char *hf_cib_node(const struct hf_cib *c, size_t i);
size_t hf_cib_count_nodes(const struct hf_cib *c);
bool hf_cib_has_node(const struct hf_cib *c, const char *name);

/* The primitives of that agent: "ocf", "holdfast", "vm"; "stonith", NULL, NULL: all. *ret: for free(). 0; -E2BIG; -ENOMEM. */
int hf_cib_resources(const struct hf_cib *c, const char *class, const char *provider,
		     const char *type, struct hf_cib_rsc **ret, size_t *ret_n) HF_MUST_CHECK;

/* "vm", "fence_ipmilan": of the agent; "": not said. */
const char *hf_cib_rsc_type(const struct hf_cib_rsc *r);

struct hf_cib_value hf_cib_rsc_value(const struct hf_cib *c, const struct hf_cib_rsc *r,
				     enum hf_cib_set set, const char *name);
/* What is said of the clone itself: clone-max and the like. */
struct hf_cib_value hf_cib_clone_value(const struct hf_cib *c, const struct hf_cib_rsc *r,
				       const char *name);

/* Calls @fn with each parameter that is given, also those that do not count. */
void hf_cib_each_param(const struct hf_cib *c, const struct hf_cib_rsc *r,
		       void (*fn)(void *data, struct hf_cib_value name_at), void *data);

/* Return: how many, at most HF_CIB_OPS_MAX. */
size_t hf_cib_rsc_ops(const struct hf_cib *c, const struct hf_cib_rsc *r,
		      struct hf_cib_op ret[HF_CIB_OPS_MAX]);

/* The timeout of an operation that is not among those: of op_defaults, else Pacemaker's own. */
uint64_t hf_cib_default_timeout_ms(const struct hf_cib *c, const struct hf_cib_rsc *r,
				   const char *op);

/* May the constraints let this resource be on that node? */
bool hf_cib_may_be_on(const struct hf_cib *c, const struct hf_cib_rsc *r, const char *node);

/* ---- how Pacemaker reads texts ---- */

/* "10s", "10", "500ms", "2min", "PT1M30S". 0 or -EINVAL. */
int hf_cib_time_ms(const char *text, uint64_t *ret) HF_MUST_CHECK;
bool hf_cib_is_true(const char *text); /* NULL is not */
/* "INFINITY", "-INFINITY", a number; anything else is 0. */
int hf_cib_score(const char *text);
