/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations: is a VM looked at, what is done if it fails, and is there time for what has to be done. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "clustercheck/rules.h"

#define MONITOR_MS 10000 /* a monitor needs less than one second, on a node that is busy a few */
#define STOP_MS 60000 /* for a guest to shut down */
#define STOP_MARGIN_MS 15000u /* to end it by force, or to freeze it, after that */
#define START_MS 60000
#define START_MARGIN_MS 10000 /* beyond the time after which a lost host's lease is free */
#define PROMOTE_MS 30000
#define MS 1000000

struct ops {
	const struct hf_clustercheck *c;
	const struct hf_cib_rsc *r;
	struct hf_cib_op v[HF_CIB_OPS_MAX];
	size_t n;
};

/* What is to be added, and how. @op: "monitor interval=10s timeout=20s on-fail=restart" */
static void add_op(const struct ops *o, struct hf_finding *f, const char *op)
{
	hf_finding_pcs(f, "pcs resource op add %s %s", o->r->id, op);
	hf_finding_mend(f, "crm configure edit %s: add \"op %s\"", o->r->id, op);
}

static void change_op(const struct ops *o, struct hf_finding *f, const struct hf_cib_op *op,
		      const char *key, const char *value)
{
	char role[32] = "";

	if (op->role)
		(void)snprintf(role, sizeof(role), " role=%s", op->role);
	hf_finding_pcs(f, "pcs resource update %s op %s interval=%" PRIu64 "s%s %s=%s", o->r->id,
		       op->name, op->interval_ms / 1000, role, key, value);
	hf_finding_mend(f, "crm configure edit %s: %s=%s in \"op %s\"", o->r->id, key, value,
			op->name);
}

static bool is_monitor_of(const struct hf_cib_op *op, const char *role)
{
	if (strcmp(op->name, "monitor") != 0)
		return false;
	/* Without a role it is that of all that is active and not promoted. */
	if (!role || strcmp(role, "Promoted") == 0)
		return role ? op->role && strcmp(op->role, role) == 0
			    : !op->role || strcmp(op->role, "Started") == 0;
	return !op->role || strcmp(op->role, role) == 0;
}

static const struct hf_cib_op *find_monitor(const struct ops *o, const char *role)
{
	const struct hf_cib_op *any = NULL;

	for (size_t i = 0; i < o->n; i++) {
		if (!is_monitor_of(&o->v[i], role))
			continue;
		if (o->v[i].is_enabled && o->v[i].interval_ms)
			return &o->v[i];
		any = &o->v[i];
	}
	return any;
}

static void check_on_fail(const struct ops *o, const struct hf_cib_op *op)
{
	const char *word = op->on_fail;
	struct hf_finding *f;

	if (word && strcasecmp(word, "restart") == 0)
		return;
	if (!word)
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_NOTE, "monitor-on-fail-missing", op->id,
			"this monitor does not say on-fail: Pacemaker's default is restart");
	else if (strcasecmp(word, "ignore") == 0 || strcasecmp(word, "nothing") == 0 ||
		 strcasecmp(word, "block") == 0)
		f = hf_clustercheck_tell(o->c, o->r, HF_FOUND_ERROR, "monitor-on-fail", op->id,
					 "on-fail=%s: a VM that fails is not recovered", word);
	else if (strcasecmp(word, "fence") == 0)
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_WARNING, "monitor-on-fail", op->id,
			"on-fail=fence: the failure of one VM takes its node down, with all "
			"others and with the frozen instance");
	else
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_WARNING, "monitor-on-fail", op->id,
			"on-fail=%.20s: a VM that fails is not simply ended here and started "
			"elsewhere",
			word);
	change_op(o, f, op, "on-fail", "restart");
}

static void check_timeout(const struct ops *o, const struct hf_cib_op *op)
{
	uint64_t ms = op->has_timeout ? op->timeout_ms
				      : hf_cib_default_timeout_ms(o->c->cib, o->r, "monitor");

	if (ms >= MONITOR_MS)
		return;
	change_op(o,
		  hf_clustercheck_tell(o->c, o->r, HF_FOUND_WARNING, "monitor-timeout", op->id,
				       "a timeout of %" PRIu64
				       " ms: on a busy node a healthy VM's monitor may "
				       "take longer, and the VM is ended for it",
				       ms),
		  op, "timeout", "20s");
}

static void check_monitor(const struct ops *o, const struct hf_cib_op *op)
{
	if (!op->interval_ms)
		change_op(
			o,
			hf_clustercheck_tell(o->c, o->r, HF_FOUND_ERROR, "monitor-interval", op->id,
					     "this monitor has no interval: it is never repeated"),
			op, "interval", "10s");
	if (!op->is_enabled)
		change_op(o,
			  hf_clustercheck_tell(o->c, o->r, HF_FOUND_ERROR, "monitor-disabled",
					       op->id, "this monitor is not enabled"),
			  op, "enabled", "true");
	check_on_fail(o, op);
	check_timeout(o, op);
}

static void check_plain_monitor(const struct ops *o)
{
	const struct hf_cib_op *op = find_monitor(o, NULL);

	if (op) {
		check_monitor(o, op);
		return;
	}
	add_op(o,
	       hf_clustercheck_tell(
		       o->c, o->r, HF_FOUND_ERROR, "monitor-missing", NULL,
		       "there is no monitor operation: what holdfast cannot announce, as the "
		       "end of its daemon and keeper at once, is never noticed"),
	       "monitor interval=10s timeout=20s on-fail=restart");
}

static const struct hf_cib_op *check_role(const struct ops *o, const char *role,
					  const char *interval)
{
	const struct hf_cib_op *op = find_monitor(o, role);
	char text[128];

	if (op) {
		check_monitor(o, op);
		return op;
	}
	(void)snprintf(text, sizeof(text),
		       "monitor interval=%s timeout=20s role=%s on-fail=restart", interval, role);
	add_op(o,
	       hf_clustercheck_tell(
		       o->c, o->r, HF_FOUND_ERROR, "monitor-role", NULL,
		       "there is no monitor operation of the role %s: instances in that role "
		       "are never looked at",
		       role),
	       text);
	return NULL;
}

static void check_promotable_monitors(const struct ops *o)
{
	const struct hf_cib_op *promoted = check_role(o, "Promoted", "10s");
	const struct hf_cib_op *unpromoted = check_role(o, "Unpromoted", "11s");

	if (!promoted || !unpromoted || !promoted->interval_ms ||
	    promoted->interval_ms != unpromoted->interval_ms)
		return;
	change_op(o,
		  hf_clustercheck_tell(
			  o->c, o->r, HF_FOUND_ERROR, "monitor-same-interval", unpromoted->id,
			  "the monitors of both roles have the same interval: Pacemaker takes "
			  "them for one, and looks at one role only"),
		  unpromoted, "interval", "11s");
}

/* ---- time for what has to be done ---- */

static const struct hf_cib_op *find_op(const struct ops *o, const char *name)
{
	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->v[i].name, name) == 0)
			return &o->v[i];
	return NULL;
}

static uint64_t timeout_of(const struct ops *o, const char *name, const char **ret_where)
{
	const struct hf_cib_op *op = find_op(o, name);

	*ret_where = op ? op->id : NULL;
	return op && op->has_timeout ? op->timeout_ms
				     : hf_cib_default_timeout_ms(o->c->cib, o->r, name);
}

static void set_timeout(const struct ops *o, struct hf_finding *f, const char *name, uint64_t ms)
{
	uint64_t s = (ms + 999) / 1000;

	hf_finding_pcs(f, "pcs resource update %s op %s interval=0s timeout=%" PRIu64 "s", o->r->id,
		       name, s);
	hf_finding_mend(f, "crm configure edit %s: \"op %s interval=0s timeout=%" PRIu64 "s\"",
			o->r->id, name, s);
}

static uint64_t shutdown_ms(const struct ops *o)
{
	struct hf_cib_value v = hf_cib_rsc_value(o->c->cib, o->r, HF_CIB_PARAMS,
						 "shutdown_timeout");
	struct hf_err err;
	uint64_t ns = 0;

	if (!v.text)
		return 0;
	if (hf_parse_duration_ns(v.text, &ns, &err) == 0)
		return ns / MS;
	return hf_cib_time_ms(v.text, &ns) == 0 ? ns : 0;
}

static void check_end(const struct ops *o, const char *name)
{
	uint64_t wanted = shutdown_ms(o), is;
	const char *where;
	struct hf_finding *f;

	is = timeout_of(o, name, &where);
	if (wanted && is < wanted + STOP_MARGIN_MS) {
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_WARNING, "stop-timeout", where,
			"%s has %" PRIu64 " s, which is less than shutdown_timeout (%" PRIu64
			" s) and %u s for a forced end: the guest gets less time than it is "
			"meant to",
			name, is / 1000, wanted / 1000, STOP_MARGIN_MS / 1000);
		set_timeout(o, f, name, wanted + STOP_MARGIN_MS);
	} else if (!wanted && is < STOP_MS) {
		f = hf_clustercheck_tell(o->c, o->r, HF_FOUND_WARNING, "stop-timeout", where,
					 "%s has %" PRIu64
					 " s: few guests shut down in that time, and are "
					 "ended by force",
					 name, is / 1000);
		set_timeout(o, f, name, 90000);
	}
}

static void check_stop_on_fail(const struct ops *o)
{
	const struct hf_cib_op *op = find_op(o, "stop");
	struct hf_finding *f;

	if (!op || !op->on_fail || strcasecmp(op->on_fail, "fence") == 0)
		return;
	if (strcasecmp(op->on_fail, "ignore") == 0 || strcasecmp(op->on_fail, "nothing") == 0)
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_ERROR, "stop-on-fail", op->id,
			"on-fail=%s of stop: a VM that could not be ended counts as ended, and "
			"is started elsewhere",
			op->on_fail);
	else
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_WARNING, "stop-on-fail", op->id,
			"on-fail=%.20s of stop: a VM that cannot be ended is not recovered",
			op->on_fail);
	change_op(o, f, op, "on-fail", "fence");
}

/* After which a start has come to an end, one way or the other. A fenced host's leases are free at once. */
static uint64_t least_start_ms(const struct hf_clustercheck *c)
{
	const char *enabled = hf_cib_property(c->cib, "stonith-enabled").text;
	bool is_proven = !c->host ||
			 (!c->host->is_fencing_ignored && (!enabled || hf_cib_is_true(enabled)));

	if (is_proven || c->host->dead_after_ms + START_MARGIN_MS < START_MS)
		return START_MS;
	return c->host->dead_after_ms + START_MARGIN_MS;
}

static void check_start(const struct ops *o)
{
	const struct hf_clustercheck_host *h = o->c->host;
	uint64_t least = least_start_ms(o->c), is;
	const char *where;
	struct hf_finding *f;

	is = timeout_of(o, "start", &where);
	if (is >= least)
		return;
	if (least > START_MS)
		f = hf_clustercheck_tell(
			o->c, o->r, HF_FOUND_WARNING, "start-timeout", where,
			"start has %" PRIu64 " s; a lost host's lease is free after %" PRIu64
			" s, since fencing counts for nothing here: a start would fail before",
			is / 1000, h->dead_after_ms / 1000);
	else
		f = hf_clustercheck_tell(o->c, o->r, HF_FOUND_WARNING, "start-timeout", where,
					 "start has %" PRIu64
					 " s: it may have to wait for a lease, or for a "
					 "disk of another host",
					 is / 1000);
	set_timeout(o, f, "start", least > 90000 ? least : 90000);
}

static void check_promote(const struct ops *o)
{
	const char *where;
	uint64_t is = timeout_of(o, "promote", &where);

	if (is < PROMOTE_MS)
		set_timeout(o,
			    hf_clustercheck_tell(
				    o->c, o->r, HF_FOUND_WARNING, "promote-timeout", where,
				    "promote has %" PRIu64 " s: it may have to wait for the vote "
				    "of a lost primary",
				    is / 1000),
			    "promote", 60000);
}

void hf_clustercheck_ops(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct ops o = { .c = c, .r = r };

	o.n = hf_cib_rsc_ops(c->cib, r, o.v);
	if (r->shape == HF_CIB_PROMOTABLE)
		check_promotable_monitors(&o);
	else
		check_plain_monitor(&o);
	check_start(&o);
	check_end(&o, "stop");
	check_stop_on_fail(&o);
	if (r->shape != HF_CIB_PROMOTABLE)
		return;
	check_end(&o, "demote");
	check_promote(&o);
}
