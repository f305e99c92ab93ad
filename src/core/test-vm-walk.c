/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every event in every state that can be reached, under every policy word: breadth first, until nothing
 * new turns up. Time passes in two ways: within a window of restarts, or beyond it.
 */
#include "../../tests/test.h"
#include "core/vm.h"

#define WINDOW_NS 1000ULL
#define RESTARTS_MAX 2u
#define NODES_MAX 40000u
#define TABLE 131072u

static struct hf_vm nodes[NODES_MAX];
static unsigned int n_nodes;
static unsigned int table[TABLE]; /* of 1 + index; 0: free */
static bool is_seen[HF_VM_STATE_COUNT][HF_VM_EVENT_COUNT];

static bool is_same(const struct hf_vm *a, const struct hf_vm *b)
{
	return a->state == b->state && a->cause == b->cause && a->severity == b->severity &&
	       a->pause == b->pause && a->is_failing_over == b->is_failing_over &&
	       a->is_ending == b->is_ending && a->is_restarting == b->is_restarting &&
	       a->is_saving == b->is_saving && a->restarts == b->restarts &&
	       (!a->restarts || a->window_began_ns == b->window_began_ns);
}

static unsigned int hash(const struct hf_vm *v)
{
	uint64_t h = v->state;

	h = h * 31 + v->cause;
	h = h * 31 + v->severity;
	h = h * 31 + v->pause;
	h = h * 2 + v->is_failing_over;
	h = h * 2 + v->is_ending;
	h = h * 2 + v->is_restarting;
	h = h * 2 + v->is_saving;
	h = h * 5 + v->restarts;
	return (unsigned int)((h * 0x9e3779b97f4a7c15u) >> 40) % TABLE;
}

static void add(const struct hf_vm *v)
{
	unsigned int at = hash(v);

	while (table[at]) {
		if (is_same(&nodes[table[at] - 1], v))
			return;
		at = (at + 1) % TABLE;
	}
	CHECK(n_nodes < NODES_MAX);
	nodes[n_nodes++] = *v;
	table[at] = n_nodes;
}

static bool is_live(enum hf_vm_state s)
{
	return s == HF_VM_RUNNING || s == HF_VM_PAUSED || s == HF_VM_MIGRATING;
}

static bool has_qemu(enum hf_vm_state s)
{
	return is_live(s) || s == HF_VM_STARTING || s == HF_VM_INCOMING || s == HF_VM_STANDBY;
}

static void check_node(const struct hf_vm *v)
{
	CHECK_EQ(v->pause != HF_VM_PAUSE_NONE, v->state == HF_VM_PAUSED);
	CHECK(!v->is_ending || has_qemu(v->state));
	CHECK(!v->is_restarting || v->is_ending);
	CHECK(!v->is_saving ||
	      ((v->state == HF_VM_RUNNING || v->state == HF_VM_PAUSED) && !v->is_ending));
	CHECK(v->restarts <= RESTARTS_MAX);
	if (v->state == HF_VM_FREEZING || v->state == HF_VM_FROZEN)
		CHECK(v->cause != HF_VM_CAUSE_NONE && v->is_failing_over);
}

static void check_freezing(const struct hf_vm *was, const struct hf_vm_event *ev,
			   enum hf_vm_action action, const struct hf_vm *is)
{
	bool was_freezing = was->state == HF_VM_FREEZING || was->state == HF_VM_FROZEN;

	CHECK_EQ(action == HF_VM_DO_FREEZE,
		 is->state == HF_VM_FREEZING && was->state != HF_VM_FREEZING);
	if (action == HF_VM_DO_FREEZE)
		CHECK(is_live(was->state));
	if (!was_freezing) {
		CHECK(is->state != HF_VM_FROZEN);
		return;
	}
	CHECK(action == HF_VM_DO_NOTHING || action == HF_VM_DO_REFUSE);
	if (ev->kind == HF_VM_EV_RELEASED)
		CHECK_EQ(is->state, HF_VM_SHUT_OFF);
	else if (was->state == HF_VM_FREEZING && ev->kind == HF_VM_EV_FROZEN)
		CHECK_EQ(is->state, HF_VM_FROZEN);
	else
		CHECK(is_same(was, is));
}

static void check_end(const struct hf_vm *was, const struct hf_vm_event *ev,
		      enum hf_vm_action action, const struct hf_vm *is)
{
	if (action == HF_VM_DO_END)
		CHECK(has_qemu(was->state) && !was->is_ending && is->is_ending);
	else
		CHECK(!is->is_ending || was->is_ending);
	if (action == HF_VM_DO_FAIL_OVER)
		CHECK(ev->kind == HF_VM_EV_ENDED && is->state == HF_VM_CRASHED &&
		      is->is_failing_over);
	if (ev->kind == HF_VM_EV_ENDED && has_qemu(is->state))
		CHECK(action == HF_VM_DO_RESTART && is->state == HF_VM_STARTING);
	if (action == HF_VM_DO_RESTART)
		CHECK(ev->kind == HF_VM_EV_ENDED && is_live(was->state) && is->restarts);
	if (action == HF_VM_DO_RESET)
		CHECK(is->state == HF_VM_RUNNING && is->restarts && was->state != HF_VM_MIGRATING);
}

/* Whoever does not run a VM comes to run it by an order alone. */
static void check_order(const struct hf_vm *was, const struct hf_vm_event *ev,
			enum hf_vm_action action, const struct hf_vm *is)
{
	bool is_start = ev->kind == HF_VM_EV_START || ev->kind == HF_VM_EV_START_STANDBY ||
			ev->kind == HF_VM_EV_START_SAVED;

	if (action == HF_VM_DO_REFUSE)
		CHECK(is_same(was, is));
	if (!has_qemu(was->state) && has_qemu(is->state))
		CHECK(is_start && action == HF_VM_DO_START);
	if (action == HF_VM_DO_START)
		CHECK(is_start && !has_qemu(was->state));
	if (was->state == HF_VM_FAILED && is->state != HF_VM_FAILED)
		CHECK_EQ(ev->kind, HF_VM_EV_CLEARED);
	if (was->state == HF_VM_CRASHED && is->state != HF_VM_CRASHED)
		CHECK(ev->kind == HF_VM_EV_CLEARED || is->state == HF_VM_STANDBY);
	if (ev->kind == HF_VM_EV_FAULT && ev->cause < HF_VM_CAUSE_PANIC)
		CHECK(action == HF_VM_DO_NOTHING && is_same(was, is));
	CHECK_EQ(is->state != was->state, is->since_ns != was->since_ns);
}

static void try_event(unsigned int node, struct hf_vm_event ev)
{
	const struct hf_vm was = nodes[node];

	is_seen[was.state][ev.kind] = true;
	for (int is_later = 0; is_later < 2; is_later++) {
		struct hf_vm is = was;
		enum hf_vm_action action;

		ev.now_ns = is_later ? 2 + 2 * WINDOW_NS : 2;
		if (was.restarts)
			ev.now_ns += was.window_began_ns;
		action = hf_vm_step(&is, &ev);
		check_node(&is);
		check_freezing(&was, &ev, action, &is);
		check_end(&was, &ev, action, &is);
		check_order(&was, &ev, action, &is);
		if (action == HF_VM_DO_RESET || action == HF_VM_DO_RESTART)
			CHECK(is_later || !was.restarts || is.restarts == was.restarts ||
			      is.restarts == was.restarts + 1);
		is.window_began_ns = 0; /* times count from there */
		is.since_ns = 0;
		add(&is);
	}
}

static void try_kind(unsigned int node, enum hf_vm_event_kind kind)
{
	bool has_cause = kind == HF_VM_EV_FAULT || kind == HF_VM_EV_ENDED ||
			 kind == HF_VM_EV_STOPPED || kind == HF_VM_EV_ORDER_FREEZE ||
			 kind == HF_VM_EV_START_FAILED;
	bool has_severity = kind == HF_VM_EV_FAULT || kind == HF_VM_EV_ORDER_FREEZE;
	bool has_pause = kind == HF_VM_EV_STOPPED || kind == HF_VM_EV_STARTED ||
			 kind == HF_VM_EV_PROMOTED || kind == HF_VM_EV_FAULT;

	for (unsigned int cause = 0; cause < (has_cause ? HF_VM_CAUSE_COUNT : 1u); cause++)
		for (unsigned int s = 0; s < (has_severity ? HF_VM_SEVERITY_COUNT : 1u); s++)
			for (unsigned int p = 0; p < (has_pause ? HF_VM_PAUSE_COUNT : 1u); p++)
				for (unsigned int bits = 0; bits < 4; bits++)
					try_event(node,
						  (struct hf_vm_event){ .kind = kind,
									.cause = cause,
									.severity = s,
									.pause = p,
									.is_running = bits & 1,
									.has_standby = bits & 2 });
}

static void walk(enum hf_vm_policy_word word)
{
	struct hf_vm_policy policy;
	struct hf_vm vm;

	n_nodes = 0;
	memset(table, 0, sizeof(table));
	hf_vm_policy_default(&policy);
	for (unsigned int cause = 0; word < HF_VM_POLICY_COUNT && cause < HF_VM_CAUSE_COUNT;
	     cause++)
		policy.on[cause] = (uint8_t)word;
	policy.restarts_max = RESTARTS_MAX;
	policy.restart_window_ns = WINDOW_NS;
	hf_vm_init(&vm, &policy);
	add(&vm);
	for (unsigned int node = 0; node < n_nodes; node++)
		for (unsigned int kind = 0; kind < HF_VM_EVENT_COUNT; kind++)
			try_kind(node, kind);
	printf("# policy %s: %u states\n",
	       word < HF_VM_POLICY_COUNT ? hf_vm_policy_name(word) : "as by default", n_nodes);
}

TEST(every_event_in_every_state)
{
	for (unsigned int word = 0; word <= HF_VM_POLICY_COUNT; word++)
		walk(word);
	for (unsigned int s = 0; s < HF_VM_STATE_COUNT; s++)
		for (unsigned int k = 0; k < HF_VM_EVENT_COUNT; k++)
			CHECK(is_seen[s][k]);
}
