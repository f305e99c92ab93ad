/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/orders.h"

#include <errno.h>
#include <string.h>

#include "codec/json.h"
#include "keeper/frozen-side.h"
#include "keeper/keeper.h"
#include "keeper/offloader.h"

#define NOT_POSSIBLE "org.holdfast.Keeper.NotPossible"

struct freeze_order {
	const char *reason, *cause, *severity, *topology;
	bool is_kill_wanted;
};

static int take_text(const struct json_object *p, const char *key, const char **ret,
		     struct hf_err *err)
{
	int r = hf_json_has(p, key) ? hf_json_str(p, key, ret, err) : 0;

	if (!r && *ret && strlen(*ret) >= HF_CERTIFICATE_TEXT) {
		hf_err_set(err, "%s: more than %d bytes", key, HF_CERTIFICATE_TEXT - 1);
		r = -EINVAL;
	}
	return r;
}

static int take_freeze(const struct json_object *p, struct freeze_order *ret, struct hf_err *err)
{
	int r = take_text(p, "reason", &ret->reason, err);

	if (!r)
		r = take_text(p, "cause", &ret->cause, err);
	if (!r)
		r = take_text(p, "severity", &ret->severity, err);
	if (!r)
		r = take_text(p, "topology", &ret->topology, err);
	if (!r && hf_json_has(p, "kill"))
		r = hf_json_bool(p, "kill", &ret->is_kill_wanted, err);
	if (!r && ret->cause && hf_vm_cause_find(ret->cause) < 0) {
		hf_err_set(err, "cause: '%.40s' is none", ret->cause);
		r = -EINVAL;
	}
	if (!r && ret->severity && hf_vm_severity_find(ret->severity) < 0) {
		hf_err_set(err, "severity: '%.40s' is none", ret->severity);
		r = -EINVAL;
	}
	return r;
}

void hf_order_freeze(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_keeper *k = ctx;
	struct freeze_order o = { .reason = "ordered by an operator" };
	struct hf_err err = { "" };
	int cause;
	int severity;

	if (take_freeze(parameters, &o, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	cause = o.cause ? hf_vm_cause_find(o.cause) : HF_VM_CAUSE_ORDER;
	severity = o.severity ? hf_vm_severity_find(o.severity) : HF_VM_INFO;
	if (hf_life_order_freeze(k, (enum hf_vm_cause)cause, (enum hf_vm_severity)severity,
				 o.reason, o.topology, o.is_kill_wanted, &err) < 0)
		hf_varlink_refuse(rq, NOT_POSSIBLE, err.text);
	else if (!k->freezer)
		hf_varlink_refuse(rq, NOT_POSSIBLE, "the freeze could not be begun");
	else
		hf_freezer_wait(k->freezer, rq);
}

void hf_order_release(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *parameters __attribute__((unused)))
{
	struct hf_err err = { "" };

	if (hf_frozen_side_release(ctx, &err) < 0)
		hf_varlink_refuse(rq, NOT_POSSIBLE, err.text);
	else
		hf_varlink_done(rq, NULL);
}

void hf_order_hand_over(void *ctx, struct hf_varlink_request *rq,
			struct json_object *parameters __attribute__((unused)))
{
	struct hf_keeper *k = ctx;

	if (k->freezer)
		hf_varlink_refuse(rq, NOT_POSSIBLE, "the VM is frozen, or being frozen");
	else if (!k->ops->hand_over)
		hf_varlink_refuse(rq, NOT_POSSIBLE,
				  "this is a standby: there is nothing here to hand over");
	else
		k->ops->hand_over(k->role, rq);
}

void hf_order_offload(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *parameters __attribute__((unused)))
{
	hf_offloader_order(ctx, rq);
}
