/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a peer is told: of each VM that it shares the present state, as often as that changes but one call
 * at a time, so that a slow peer gets the newest and nothing piles up; and those events of the
 * journal that people on its host want to see.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "daemon/peers-internal.h"

/* Of a VM's own keeper or of this daemon; the state of a VM is told by itself. */
static const char *const told_events[] = { "frozen", "freeze-stuck", "frozen-woken",    "released",
					   "saved",  "promoted",     "takeover-started" };

/* ---- events ---- */

static void get_text(const struct json_object *o, const char *key, char *ret, size_t size)
{
	const char *s;

	if (hf_json_str(o, key, &s, NULL) < 0)
		s = "";
	(void)snprintf(ret, size, "%s", s);
	for (char *c = ret; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

/* False: not for this peer. */
static bool describe_event(const struct hf_peer_host *p, const struct json_object *o,
			   struct hf_peermsg_event *ret)
{
	const struct hf_vms_vm *vm;
	bool is_told = false;

	memset(ret, 0, sizeof(*ret));
	if (hf_json_has(o, "peer") || hf_json_u64(o, "seq", &ret->seq, NULL) < 0 ||
	    hf_json_u64(o, "time_ns", &ret->time_ns, NULL) < 0)
		return false;
	get_text(o, "event", ret->event, sizeof(ret->event));
	get_text(o, "vm", ret->vm, sizeof(ret->vm));
	get_text(o, "cause", ret->cause, sizeof(ret->cause));
	get_text(o, "text", ret->text, sizeof(ret->text));
	get_text(o, "id", ret->id, sizeof(ret->id));
	if (strlen(ret->id) != HF_PEERMSG_ID_MAX)
		ret->id[0] = '\0';
	if (ret->cause[0] && !hf_is_valid_name(ret->cause))
		ret->cause[0] = '\0';
	for (size_t i = 0; i < sizeof(told_events) / sizeof(told_events[0]); i++)
		is_told = is_told || strcmp(ret->event, told_events[i]) == 0;
	vm = is_told ? hf_vms_find(p->peers->d, ret->vm) : NULL;
	return vm && hf_peer_shares(p->peers, vm, p->name);
}

static void on_noticed(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_peer_host *p = ctx;

	hf_peer_heard(p);
	p->is_noticing = false;
	if (!reply->error)
		hf_peer_tell(p);
}

static void notice(struct hf_peer_host *p)
{
	struct hf_peermsg_notice *m;
	struct json_object *o;

	if (p->is_noticing)
		return;
	m = calloc(1, sizeof(*m));
	while (m && m->n < HF_PEERMSG_EVENTS_MAX &&
	       (o = hf_journal_next(&p->peers->d->journal, p->noticed_seq, &p->noticed_seq)))
		m->n += describe_event(p, o, &m->events[m->n]);
	if (m && m->n)
		p->is_noticing = hf_varlink_client_call(p->client, HF_PEER_INTERFACE ".Notice",
							hf_peermsg_notice_encode(m), false,
							on_noticed, p) == 0;
	free(m);
}

/* ---- VMs ---- */

static void describe(const struct hf_peer_host *p, const char *name, struct hf_peermsg_vm *ret)
{
	const struct hf_vms_vm *vm = hf_vms_find(p->peers->d, name);

	if (vm && hf_peer_shares(p->peers, vm, p->name)) {
		hf_peer_describe(p->peers, vm, ret);
		return;
	}
	memset(ret, 0, sizeof(*ret));
	(void)snprintf(ret->vm, sizeof(ret->vm), "%s", name);
	(void)snprintf(ret->life, sizeof(ret->life), "shut-off");
}

static void on_told(void *ctx, const struct hf_varlink_reply *reply)
{
	struct hf_peer_host *p = ctx;

	hf_peer_heard(p);
	p->is_telling = false;
	if (reply->error)
		hf_peer_hang_up(p, "it does not take what it is told");
	else
		hf_peer_tell(p);
}

static void tell_vms(struct hf_peer_host *p)
{
	struct hf_peermsg_tell *m;
	char name[HF_NAME_MAX + 1];

	if (p->is_telling || !(p->untold.n || p->is_retelling))
		return;
	m = calloc(1, sizeof(*m));
	if (!m)
		return;
	m->is_first = p->is_retelling && !p->is_first_told;
	while (m->n < HF_PEERMSG_VMS_MAX && hf_names_take(&p->untold, name))
		describe(p, name, &m->vms[m->n++]);
	m->is_last = p->is_retelling && !p->untold.n;
	p->is_first_told = true;
	p->is_retelling = p->is_retelling && !m->is_last;
	p->is_telling = hf_varlink_client_call(p->client, HF_PEER_INTERFACE ".Tell",
					       hf_peermsg_tell_encode(m), false, on_told, p) == 0;
	free(m);
	if (!p->is_telling)
		hf_peer_hang_up(p, "it takes no more calls");
}

void hf_peer_tell(struct hf_peer_host *p)
{
	if (p->dial != HF_PEER_LISTENS)
		return;
	notice(p);
	tell_vms(p);
}

void hf_peer_tell_all(struct hf_peer_host *p)
{
	const struct hf_daemon *d = p->peers->d;

	if (p->dial != HF_PEER_LISTENS)
		return;
	for (const struct hf_vms_vm *vm = hf_vms_next(d, NULL); vm; vm = hf_vms_next(d, vm))
		if (hf_peer_shares(p->peers, vm, p->name))
			(void)hf_names_add(&p->untold, vm->name);
	p->is_retelling = true;
	p->is_first_told = false;
}

void hf_peer_forget_telling(struct hf_peer_host *p)
{
	p->untold.n = 0;
	p->is_telling = false;
	p->is_noticing = false;
	p->is_retelling = false;
}
