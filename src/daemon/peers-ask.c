/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orders from host to host. *Sent*: somebody here wants a VM to be started there. *Awaited*: a peer wants
 * one to be started here, and is answered when it runs, or will not. *Given*: one without a standby that
 * is frozen or has died here is to be started by another host; core/recover.h says whom to ask.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/peers-internal.h"

#define HOST_INTERFACE "org.holdfast.Host"
#define AWAIT_NS (25 * HF_PEER_SECOND) /* less than HF_RECOVER_ANSWER_NS */
#define LEASE_LOOK_NS 100000000ull
#define LAST_RESORT_NS (10 * HF_PEER_SECOND)
#define ORDERS_MAX 2048

enum kind { SENT, AWAITED, GIVEN };

struct hf_peer_order {
	struct hf_peer_order *next;
	struct hf_peers *peers;
	enum kind kind;
	char vm[HF_NAME_MAX + 1];
	uint64_t until_ns;
	bool is_over; /* to be freed, outside of whatever is under way */

	/* SENT, AWAITED */
	struct hf_varlink_request *rq; /* NULL: nobody waits any more */
	/* SENT; of GIVEN while it asks */
	struct hf_peer_host *peer;
	bool is_open; /* the call may still be answered, with this as its ctx */

	/* GIVEN */
	struct hf_recover recover;
	char hosts[HF_RECOVER_HOSTS_MAX][HF_NAME_MAX + 1];
	unsigned int n_hosts;
	char cause[24];
	bool is_begun;
	uint64_t begun_ns;
	bool is_last_resort_tried;
};

static void on_time(void *ctx);

/* ---- the list ---- */

static struct hf_peer_order *order_new(struct hf_peers *ps, enum kind kind, const char *vm)
{
	struct hf_peer_order *o = ps->n_orders < ORDERS_MAX ? calloc(1, sizeof(*o)) : NULL;

	if (!o)
		return NULL;
	ps->n_orders++;
	o->peers = ps;
	o->kind = kind;
	o->until_ns = UINT64_MAX;
	(void)snprintf(o->vm, sizeof(o->vm), "%s", vm);
	o->next = ps->orders;
	ps->orders = o;
	return o;
}

static void arm(struct hf_peers *ps)
{
	uint64_t first_ns = UINT64_MAX;

	for (const struct hf_peer_order *o = ps->orders; o; o = o->next) {
		uint64_t at_ns = o->is_over ? 0 : o->until_ns;

		first_ns = at_ns < first_ns ? at_ns : first_ns;
	}
	hf_timer_set(&ps->order_timer, &ps->d->loop, first_ns, on_time, ps);
}

/* One whose call is open lives until that is answered, or dropped. */
static void sweep(struct hf_peers *ps)
{
	struct hf_peer_order **at = &ps->orders;
	struct hf_peer_order *o;

	while ((o = *at)) {
		if (!o->is_over || o->is_open) {
			if (o->is_over)
				o->until_ns = UINT64_MAX;
			at = &o->next;
			continue;
		}
		*at = o->next;
		ps->n_orders--;
		free(o);
	}
}

static void on_rq_gone(void *data)
{
	struct hf_peer_order *o = data;

	o->rq = NULL;
	o->is_over = true;
	arm(o->peers);
}

static void finish(struct hf_peer_order *o, const char *error, const char *reason)
{
	struct hf_varlink_request *rq = o->rq;

	o->rq = NULL;
	o->is_over = true;
	arm(o->peers);
	if (!rq)
		return;
	hf_varlink_request_watch(rq, NULL, NULL);
	if (error)
		hf_varlink_refuse(rq, error, reason);
	else
		hf_varlink_done(rq, NULL);
}

static const char *reason_of(const struct hf_varlink_reply *reply)
{
	const char *s;

	if (hf_json_str(reply->parameters, "reason", &s, NULL) == 0 ||
	    hf_json_str(reply->parameters, "parameter", &s, NULL) == 0)
		return s;
	return reply->error;
}

/* Another host's words, in a line of ours. */
static void cite(struct hf_err *err, const char *host, const char *reason)
{
	hf_err_set(err, "%s says: %.300s", host, reason);
	for (char *c = err->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

/* ---- sent ---- */

static void on_started(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_peer_order *o = ctx;
	struct hf_err err;

	hf_peer_heard(o->peer);
	o->is_open = false;
	if (!reply->error) {
		finish(o, NULL, NULL);
		return;
	}
	cite(&err, o->peer->name, reason_of(reply));
	finish(o, HOST_INTERFACE ".NotPossible", err.text);
}

static int send_order(struct hf_peer_order *o, const char *method, const struct hf_peermsg_order *m,
		      hf_varlink_answer *answer)
{
	o->is_open = hf_varlink_client_call(o->peer->client, method, hf_peermsg_order_encode(m),
					    false, answer, o) == 0;
	return o->is_open ? 0 : -1;
}

bool hf_peers_start_elsewhere(struct hf_vms_vm *vm, const char *host, bool is_fresh,
			      struct hf_varlink_request *rq)
{
	struct hf_peers *ps = vm->d->peers;
	struct hf_peermsg_order m = { .is_fresh = is_fresh };
	struct hf_peer_host *p = hf_peer_find(ps, host);
	struct hf_peer_order *o;

	if (!p || p->dial != HF_PEER_LISTENS || !hf_peer_shares(ps, vm, host))
		return false;
	o = order_new(ps, SENT, vm->name);
	if (!o)
		return false;
	o->peer = p;
	o->rq = rq;
	o->until_ns = hf_now_ns() + HF_PEER_CALL_NS;
	(void)snprintf(m.vm, sizeof(m.vm), "%s", vm->name);
	hf_varlink_request_watch(rq, on_rq_gone, o);
	if (send_order(o, HF_PEER_INTERFACE ".Start", &m, on_started) < 0)
		finish(o, HOST_INTERFACE ".NotPossible", "the other host takes no more calls");
	arm(ps);
	return true;
}

/* ---- awaited ---- */

static bool is_under_way(const struct hf_vms_vm *vm)
{
	enum hf_supervise_state state = vm->sup.state;

	return hf_supervise_has_keeper(&vm->sup) || state == HF_SUPERVISE_WAITING ||
	       (state == HF_SUPERVISE_HELD && vm->sup.why == HF_SUPERVISE_NOT_YET);
}

static void look_at_awaited(struct hf_peer_order *o)
{
	const struct hf_vms_vm *vm = hf_vms_find(o->peers->d, o->vm);
	const char *why;

	if (vm && vm->sup.state == HF_SUPERVISE_UP && vm->sup.role == HF_SUPERVISE_RUN) {
		finish(o, NULL, NULL);
	} else if (!vm || !is_under_way(vm)) {
		why = !vm              ? "it is not defined any more"
		      : vm->trouble[0] ? vm->trouble
				       : hf_supervise_why_text(vm->sup.why);
		finish(o, HF_PEER_INTERFACE ".Refused", why);
	}
}

void hf_peers_await(struct hf_peers *ps, const struct hf_vms_vm *vm, struct hf_varlink_request *rq)
{
	struct hf_peer_order *o = order_new(ps, AWAITED, vm->name);

	if (!o) {
		hf_varlink_refuse(rq, HF_PEER_INTERFACE ".Refused", "out of memory");
		return;
	}
	o->rq = rq;
	o->until_ns = hf_now_ns() + AWAIT_NS;
	hf_varlink_request_watch(rq, on_rq_gone, o);
	hf_peers_touch(ps, vm->name);
	arm(ps);
}

/* ---- given ---- */

static struct json_object *about(const struct hf_peer_order *o, const char *peer)
{
	struct json_object *details = json_object_new_object();

	json_object_object_add(details, "vm", json_object_new_string(o->vm));
	if (peer)
		json_object_object_add(details, "peer", json_object_new_string(peer));
	return details;
}

static void step(struct hf_peer_order *o, enum hf_recover_event_kind kind, unsigned int host);

static unsigned int index_of(const struct hf_peer_order *o, const char *host)
{
	unsigned int i = 0;

	while (i < o->n_hosts && strcmp(o->hosts[i], host) != 0)
		i++;
	return i;
}

static void on_recovered(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_peer_order *o = ctx;
	unsigned int host = index_of(o, o->peer->name);
	struct hf_err err;

	hf_peer_heard(o->peer);
	o->is_open = false;
	if (o->is_over) {
		arm(o->peers);
		return;
	}
	if (reply->error) {
		cite(&err, o->peer->name, reason_of(reply));
		hf_log(&o->peers->d->journal, HF_LOG_INFO, "'%s' is not started elsewhere: %s",
		       o->vm, err.text);
	}
	step(o, reply->error ? HF_RECOVER_EV_REFUSED : HF_RECOVER_EV_STARTED, host);
}

static void ask(struct hf_peer_order *o, unsigned int host)
{
	struct hf_vms_vm *vm = hf_vms_find(o->peers->d, o->vm);
	struct hf_peermsg_order m = { .lver = 0 };

	o->peer = hf_peer_find(o->peers, o->hosts[host]);
	if (o->is_open || !vm || !o->peer || o->peer->dial != HF_PEER_LISTENS) {
		step(o, HF_RECOVER_EV_DOWN, host);
		return;
	}
	(void)snprintf(m.vm, sizeof(m.vm), "%s", o->vm);
	(void)snprintf(m.cause, sizeof(m.cause), "%s", o->cause);
	if (vm->n_frozen && strlen(vm->frozen[vm->n_frozen - 1]) == HF_PEERMSG_ID_MAX)
		memcpy(m.id, vm->frozen[vm->n_frozen - 1], HF_PEERMSG_ID_MAX);
	hf_event(&o->peers->d->journal, "recover-asked", about(o, o->peer->name),
		 "%s is asked to start '%s'", o->peer->name, o->vm);
	if (send_order(o, HF_PEER_INTERFACE ".Recover", &m, on_recovered) < 0)
		step(o, HF_RECOVER_EV_DOWN, host);
}

/* It is that host's now: nothing here may want it back, whatever becomes of this daemon. */
static void given_away(struct hf_peer_order *o)
{
	struct hf_vms_vm *vm = hf_vms_find(o->peers->d, o->vm);
	const char *host = o->hosts[o->recover.asked];
	struct hf_wanted newer;

	o->is_over = true;
	hf_event(&o->peers->d->journal, "recovered", about(o, host), "'%s' goes on on %s", o->vm,
		 host);
	if (!vm)
		return;
	newer = vm->wanted;
	hf_wanted_order(&newer, false, host, vm->d->conf.name);
	(void)hf_vms_take_wanted(vm, &newer);
}

/* Nobody else does it: here, if it may. */
static void last_resort(struct hf_peer_order *o)
{
	struct hf_vms_vm *vm = hf_vms_find(o->peers->d, o->vm);
	struct hf_err err = { "" };

	o->is_last_resort_tried = true;
	if (vm && hf_vms_recover(vm, "no other host has taken it over", &err) < 0)
		hf_log(&o->peers->d->journal, HF_LOG_ERROR,
		       "no other host starts '%s', nor this one: %s", o->vm, err.text);
}

/* No host can be asked: that alone is no reason to leave it down for long. */
static bool is_in_vain(const struct hf_peer_order *o)
{
	return o->recover.state == HF_RECOVER_WAITING && !o->is_last_resort_tried;
}

static uint64_t given_deadline_ns(const struct hf_peer_order *o)
{
	uint64_t at_ns = hf_recover_deadline_ns(&o->recover);
	uint64_t last_ns = o->begun_ns + LAST_RESORT_NS;

	return is_in_vain(o) && last_ns < at_ns ? last_ns : at_ns;
}

static void step(struct hf_peer_order *o, enum hf_recover_event_kind kind, unsigned int host)
{
	const struct hf_recover_event ev = {
		.kind = kind,
		.host = host < HF_RECOVER_HOSTS_MAX ? host : 0,
		.n_hosts = o->n_hosts,
		.has_lease = o->peers->d->conf.area != NULL,
		.now_ns = hf_now_ns(),
	};
	int next = hf_recover_step(&o->recover, &ev);

	if (next >= 0)
		ask(o, (unsigned int)next);
	else if (o->recover.state == HF_RECOVER_DONE && !o->is_over)
		given_away(o);
	else if (is_in_vain(o) &&
		 (kind == HF_RECOVER_EV_REFUSED || ev.now_ns >= o->begun_ns + LAST_RESORT_NS))
		last_resort(o);
	if (o->is_begun && !o->is_over)
		o->until_ns = given_deadline_ns(o);
	arm(o->peers);
}

static void tell_hosts(struct hf_peer_order *o)
{
	for (unsigned int i = 0; i < o->n_hosts && !o->is_over; i++) {
		const struct hf_peer_host *p = hf_peer_find(o->peers, o->hosts[i]);
		const struct hf_peermsg_vm *said = p ? hf_peer_said(p, o->vm) : NULL;
		bool is_up = p && p->is_up;

		if (is_up != o->recover.host[i].is_up)
			step(o, is_up ? HF_RECOVER_EV_UP : HF_RECOVER_EV_DOWN, i);
		if (is_up && said && said->have == HF_HAVE_RUNNING && o->is_begun &&
		    strcmp(said->life, "starting") != 0)
			step(o, HF_RECOVER_EV_STARTED, i);
	}
}

/* The lease goes first: who is asked would be refused by it. */
static void begin_if_free(struct hf_peer_order *o)
{
	if (o->is_begun)
		return;
	if (hf_held_find(&o->peers->d->held, o->vm)) {
		o->until_ns = hf_now_ns() + LEASE_LOOK_NS;
		arm(o->peers);
		return;
	}
	o->is_begun = true;
	o->begun_ns = hf_now_ns();
	step(o, HF_RECOVER_EV_BEGIN, 0);
}

static struct hf_peer_order *find_given(const struct hf_peers *ps, const char *vm)
{
	for (struct hf_peer_order *o = ps->orders; o; o = o->next)
		if (o->kind == GIVEN && !o->is_over && strcmp(o->vm, vm) == 0)
			return o;
	return NULL;
}

static struct hf_peer_order *give(struct hf_peers *ps, const struct hf_vms_vm *vm,
				  const char *cause)
{
	struct hf_peer_order *o;
	unsigned int n = 0;

	for (unsigned int i = 0; i < vm->file.n_prefer; i++)
		n += hf_peer_find(ps, vm->file.prefer[i]) != NULL;
	o = n && vm->file.is_taken_over ? order_new(ps, GIVEN, vm->name) : NULL;
	if (!o)
		return NULL;
	hf_recover_init(&o->recover);
	(void)snprintf(o->cause, sizeof(o->cause), "%s", cause);
	for (unsigned int i = 0; i < vm->file.n_prefer; i++)
		if (hf_peer_find(ps, vm->file.prefer[i]))
			(void)snprintf(o->hosts[o->n_hosts++], sizeof(o->hosts[0]), "%s",
				       vm->file.prefer[i]);
	hf_peers_touch(ps, vm->name);
	return o;
}

bool hf_peers_give(struct hf_vms_vm *vm, enum hf_vm_cause cause)
{
	struct hf_peers *ps = vm->d->peers;

	return find_given(ps, vm->name) ||
	       give(ps, vm, cause == HF_VM_CAUSE_NONE ? "" : hf_vm_cause_name(cause));
}

void hf_peers_give_look(struct hf_peers *ps, struct hf_vms_vm *vm)
{
	struct hf_peer_order *o = find_given(ps, vm->name);
	bool is_wanted = vm->wanted.is_started || vm->sup.is_wanted;
	bool is_idle = is_wanted && hf_vms_have(vm) == HF_HAVE_NOTHING;

	if (!o && is_idle && vm->n_frozen && !hf_peers_may_run(vm)) /* e.g. after our restart */
		o = give(ps, vm, vm->cause);
	if (!o)
		return;
	if (!is_idle) {
		o->is_over = true;
		arm(ps);
		return;
	}
	tell_hosts(o);
	begin_if_free(o);
}

/* ---- all ---- */

void hf_peers_orders_look(struct hf_peers *ps, const char *vm)
{
	for (struct hf_peer_order *o = ps->orders; o; o = o->next)
		if (o->kind == AWAITED && !o->is_over && strcmp(o->vm, vm) == 0)
			look_at_awaited(o);
}

static void on_order_time(struct hf_peer_order *o)
{
	switch (o->kind) {
	case SENT:
		finish(o, HOST_INTERFACE ".TimedOut",
		       "the other host has not said whether it is started there");
		break;
	case AWAITED:
		finish(o, HF_PEER_INTERFACE ".Refused", "it has not started yet");
		break;
	case GIVEN:
		if (o->is_begun)
			step(o, HF_RECOVER_EV_TIME, 0);
		else
			begin_if_free(o);
		break;
	}
}

static void on_time(void *ctx)
{
	struct hf_peers *ps = ctx;
	uint64_t now_ns = hf_now_ns();

	for (struct hf_peer_order *o = ps->orders; o; o = o->next)
		if (!o->is_over && o->until_ns <= now_ns)
			on_order_time(o);
	sweep(ps);
	arm(ps);
}

void hf_peer_orders_drop(struct hf_peer_host *p)
{
	for (struct hf_peer_order *o = p->peers->orders; o; o = o->next) {
		if (o->peer != p)
			continue;
		o->is_open = false;
		o->peer = NULL;
		if (o->kind == SENT && !o->is_over)
			finish(o, HOST_INTERFACE ".NotPossible",
			       "the connection to the other host has ended: whether it is started "
			       "there is not known");
		else if (o->kind == GIVEN && !o->is_over)
			step(o, HF_RECOVER_EV_DOWN, index_of(o, p->name));
	}
	arm(p->peers);
}

void hf_peers_orders_free(struct hf_peers *ps)
{
	struct hf_peer_order *next;

	for (struct hf_peer_order *o = ps->orders; o; o = next) {
		next = o->next;
		if (o->rq)
			hf_varlink_request_watch(o->rq, NULL, NULL);
		free(o);
	}
	ps->orders = NULL;
	hf_timer_fini(&ps->order_timer);
}
