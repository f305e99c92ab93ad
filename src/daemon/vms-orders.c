/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Methods of org.holdfast.Host that are about VMs, and who waits for what they ordered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/jobs.h"
#include "daemon/vmlink.h"
#include "daemon/vms.h"

#define REFRESH_NS                                                                                 \
	1000000000ull /* what is known for longer is asked anew, for the next one who asks */
#define ORDERS_MAX 64 /* for one VM */

struct hf_vms_order {
	struct hf_vms_order *next;
	struct hf_vms_vm *vm;
	struct hf_varlink_request *rq;
	bool is_stop;
	char told[256];
};

static void not_possible(struct hf_varlink_request *rq, const char *reason)
{
	hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NotPossible", reason);
}

/* ---- parameters ---- */

static int take_flag(const struct json_object *p, const char *key, bool *ret, struct hf_err *err)
{
	return hf_json_has(p, key) ? hf_json_bool(p, key, ret, err) : 0;
}

/* Others are only remembered: their definition is gone, and nothing of them is here or wanted. */
static bool is_shown(const struct hf_vms_vm *vm)
{
	return vm->has_file || vm->file_error[0] || vm->keeper || vm->n_frozen || vm->sup.is_wanted;
}

/* NULL: it has been refused. */
static struct hf_vms_vm *take_vm(struct hf_daemon *d, struct hf_varlink_request *rq,
				 const struct json_object *p)
{
	struct hf_vms_vm *vm;
	struct hf_err err;
	const char *name;

	if (hf_json_str(p, "vm", &name, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return NULL;
	}
	vm = hf_vms_find(d, name);
	if (vm && is_shown(vm))
		return vm;
	hf_err_set(&err,
		   "no VM is called '%.80s' on this host: it would be defined by %s/%.80s.conf",
		   name, d->conf.vms, name);
	hf_varlink_refuse(rq, HF_HOST_INTERFACE ".NoVm", err.text);
	return NULL;
}

/* ---- looking ---- */

static void refresh(struct hf_vms_vm *vm)
{
	if (vm->keeper && vm->keeper->events && hf_now_ns() - vm->keeper->answered_ns > REFRESH_NS)
		hf_vmlink_refresh(vm->keeper);
}

void hf_vms_do_vms(struct hf_daemon *d, struct hf_varlink_request *rq,
		   struct json_object *p __attribute__((unused)))
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next) {
		if (!is_shown(vm))
			continue;
		json_object_array_add(list, hf_vms_view(vm));
		refresh(vm);
	}
	json_object_object_add(o, "vms", list);
	hf_varlink_done(rq, o);
}

void hf_vms_do_vm(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_vms_vm *vm = take_vm(d, rq, p);
	struct json_object *o;

	if (!vm)
		return;
	o = json_object_new_object();
	json_object_object_add(o, "vm", hf_vms_view(vm));
	hf_varlink_done(rq, o);
	refresh(vm);
}

/* ---- waiting ---- */

static void order_remove(struct hf_vms_order *order)
{
	struct hf_vms_order **at = &order->vm->orders;

	while (*at != order)
		at = &(*at)->next;
	*at = order->next;
	free(order);
}

static void on_gone(void *data)
{
	order_remove(data);
}

static void wait_for(struct hf_vms_vm *vm, struct hf_varlink_request *rq, bool is_stop)
{
	struct hf_vms_order *order = calloc(1, sizeof(*order));
	unsigned int n = 0;

	for (const struct hf_vms_order *o = vm->orders; o; o = o->next)
		n++;
	if (!order || n >= ORDERS_MAX) {
		free(order);
		not_possible(rq, "too many wait for this VM");
		return;
	}
	*order = (struct hf_vms_order){ .vm = vm, .rq = rq, .is_stop = is_stop };
	order->next = vm->orders;
	vm->orders = order;
	hf_varlink_request_watch(rq, on_gone, order);
}

/* Its request is the caller's to answer. */
static struct hf_varlink_request *take_request(struct hf_vms_order *order)
{
	struct hf_varlink_request *rq = order->rq;

	hf_varlink_request_watch(rq, NULL, NULL);
	order_remove(order);
	return rq;
}

static struct json_object *text_object(const char *key, const char *text)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, key, json_object_new_string(text));
	return o;
}

static void tell(struct hf_vms_order *order, const char *text)
{
	if (!text[0] || strcmp(order->told, text) == 0)
		return;
	(void)snprintf(order->told, sizeof(order->told), "%s", text);
	hf_varlink_continue(order->rq, text_object("text", text));
}

static const char *not_started_why(const struct hf_vms_vm *vm)
{
	const struct hf_supervise *s = &vm->sup;
	bool is_placed = s->why == HF_SUPERVISE_NOT_YET || !s->why;

	if (hf_vms_is_managed(vm) && is_placed && vm->place_text[0])
		return vm->place_text;
	return s->why ? hf_supervise_why_text(s->why) : "it has ended again";
}

static void look_at_start(struct hf_vms_order *order)
{
	const struct hf_vms_vm *vm = order->vm;
	const struct hf_supervise *s = &vm->sup;
	char text[HF_ERR_MAX + 256];

	switch (s->state) {
	case HF_SUPERVISE_UP:
		if (hf_supervise_is_pending(s)) {
			tell(order, vm->place_text[0] ? vm->place_text : "the standby makes room");
			break;
		}
		hf_varlink_done(take_request(order), text_object("role", vm->role));
		break;
	case HF_SUPERVISE_FAILED:
	case HF_SUPERVISE_HELD:
	case HF_SUPERVISE_OFF:
		(void)snprintf(text, sizeof(text), "'%s' was not started: %s%s%s", vm->name,
			       not_started_why(vm), vm->trouble[0] ? ": " : "", vm->trouble);
		not_possible(take_request(order), text);
		break;
	case HF_SUPERVISE_WAITING:
		(void)snprintf(text, sizeof(text), "is tried again%s%s", vm->trouble[0] ? ": " : "",
			       vm->trouble);
		tell(order, text);
		break;
	case HF_SUPERVISE_STARTING:
		tell(order,
		     s->role == HF_SUPERVISE_STANDBY ? "a standby is starting" : "is starting");
		break;
	case HF_SUPERVISE_STOPPING:
		tell(order, "is still stopping");
		break;
	case HF_SUPERVISE_STATE_COUNT:
		break;
	}
}

static void look_at_stop(struct hf_vms_order *order)
{
	const struct hf_vms_vm *vm = order->vm;
	/* A standby may have followed already. */
	bool has_ended = hf_vms_is_managed(vm) ? vm->sup.state != HF_SUPERVISE_STOPPING
					       : !hf_supervise_has_keeper(&vm->sup);

	if (has_ended)
		hf_varlink_done(take_request(order), NULL);
	else if (vm->sup.role == HF_SUPERVISE_STANDBY)
		tell(order, "the standby is stopping");
	else
		tell(order,
		     vm->is_stop_forced ? "is being ended" : "the guest is asked to shut down");
}

void hf_vms_orders_look(struct hf_vms_vm *vm)
{
	struct hf_vms_order *next;

	for (struct hf_vms_order *o = vm->orders; o; o = next) {
		next = o->next;
		if (o->is_stop)
			look_at_stop(o);
		else
			look_at_start(o);
	}
}

void hf_vms_orders_refused(struct hf_vms_vm *vm, const char *reason)
{
	struct hf_vms_order *next;

	for (struct hf_vms_order *o = vm->orders; o; o = next) {
		next = o->next;
		if (o->is_stop)
			not_possible(take_request(o), reason);
	}
}

void hf_vms_orders_free(struct hf_vms_vm *vm)
{
	while (vm->orders)
		not_possible(take_request(vm->orders), "holdfastd ends; what runs goes on");
}

/* ---- orders ---- */

/* -EINVAL: the call was wrong. */
static void refuse(struct hf_varlink_request *rq, int r, const struct hf_err *err)
{
	if (r == -EINVAL)
		hf_varlink_invalid(rq, err);
	else
		not_possible(rq, err->text);
}

static void start_here(struct hf_vms_vm *vm, struct hf_varlink_request *rq, bool is_fresh,
		       bool is_managers)
{
	struct hf_err err = { "" };
	int r = is_managers ? hf_vms_start_assigned(vm, is_fresh, &err)
			    : hf_vms_start(vm, is_fresh, &err);

	if (r < 0) {
		not_possible(rq, err.text);
		return;
	}
	wait_for(vm, rq, /* is_stop= */ false);
	hf_vms_orders_look(vm);
}

void hf_vms_do_start(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_vms_vm *vm = take_vm(d, rq, p);
	const char *host = "";
	bool is_fresh = false;
	bool is_managers = false;
	struct hf_err err;
	int r;

	if (!vm)
		return;
	r = take_flag(p, "fresh", &is_fresh, &err);
	if (!r && hf_json_has(p, "host"))
		r = hf_json_str(p, "host", &host, &err);
	if (!r)
		r = hf_vms_take_manager(vm, p, /* is_stop= */ false, &is_managers, &err);
	if (r < 0) {
		refuse(rq, r, &err);
	} else if (!host[0] || strcmp(host, d->conf.name) == 0) {
		start_here(vm, rq, is_fresh, is_managers);
	} else if (is_managers) {
		not_possible(rq, "a cluster manager's order is for the host that is asked");
	} else if (!d->vms->hooks.start_elsewhere ||
		   !d->vms->hooks.start_elsewhere(vm, host, is_fresh, rq)) {
		hf_err_set(&err, "host '%.80s' is not in touch with this one", host);
		not_possible(rq, err.text);
	}
}

void hf_vms_do_stop(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_vms_vm *vm = take_vm(d, rq, p);
	bool is_forced = false;
	bool is_managers = false;
	struct hf_err err;
	int r;

	if (!vm)
		return;
	r = take_flag(p, "force", &is_forced, &err);
	if (!r)
		r = hf_vms_take_manager(vm, p, /* is_stop= */ true, &is_managers, &err);
	if (r < 0) {
		refuse(rq, r, &err);
		return;
	}
	hf_vms_read_assignment(vm); /* news of it is no end yet */
	hf_vms_stop(vm, is_forced);
	wait_for(vm, rq, /* is_stop= */ true);
	hf_vms_orders_look(vm);
}

void hf_vms_do_clear(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p)
{
	struct hf_vms_vm *vm = take_vm(d, rq, p);

	if (!vm)
		return;
	(void)hf_vms_feed(vm, (struct hf_supervise_event){ .kind = HF_SUPERVISE_EV_CLEAR });
	hf_varlink_done(rq, NULL);
}

void hf_vms_do_reload(struct hf_daemon *d, struct hf_varlink_request *rq,
		      struct json_object *p __attribute__((unused)))
{
	struct json_object *o = json_object_new_object();
	struct json_object *errors = json_object_new_array();

	hf_vms_reload(d);
	for (const struct hf_vms_vm *vm = d->vms->first; vm; vm = vm->next)
		if (vm->file_error[0])
			json_object_array_add(errors, json_object_new_string(vm->file_error));
	json_object_object_add(o, "errors", errors);
	hf_varlink_done(rq, o);
}
