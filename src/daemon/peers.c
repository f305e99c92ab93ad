/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who the peers are, and what holds them together. What changes anywhere only marks VMs as touched:
 * they are looked at from the loop, so that nothing here is called from within itself.
 */
#include "daemon/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "codec/json.h"
#include "daemon/peers-internal.h"

#define NAMES_MAX HF_VMS_MAX
#define TLS_LOOK_NS (3600 * HF_PEER_SECOND)

/* ---- names ---- */

bool hf_names_add(struct hf_names *names, const char *name)
{
	char(*grown)[HF_NAME_MAX + 1];

	for (unsigned int i = 0; i < names->n; i++)
		if (strcmp(names->at[i], name) == 0)
			return true;
	if (names->n == names->room) {
		grown = names->room < NAMES_MAX
				? realloc(names->at, (names->room + 64) * sizeof(*grown))
				: NULL;
		if (!grown)
			return false;
		names->at = grown;
		names->room += 64;
	}
	(void)snprintf(names->at[names->n++], HF_NAME_MAX + 1, "%s", name);
	return true;
}

bool hf_names_take(struct hf_names *names, char *ret)
{
	if (!names->n)
		return false;
	memcpy(ret, names->at[--names->n], HF_NAME_MAX + 1);
	return true;
}

/* ---- who shares what ---- */

struct hf_peer_host *hf_peer_find(const struct hf_peers *ps, const char *name)
{
	for (struct hf_peer_host *p = ps->first; p; p = p->next)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

bool hf_peer_shares(const struct hf_peers *ps, const struct hf_vms_vm *vm, const char *host)
{
	if (!vm->has_file || strcmp(host, ps->d->conf.name) == 0)
		return false;
	if (vm->file.n_hosts == 2)
		return strcmp(vm->file.hosts[1 - vm->file.own].name, host) == 0;
	return hf_vmfile_position(&vm->file, host) >= 0;
}

struct hf_peer_host *hf_peer_of_pair(const struct hf_peers *ps, const struct hf_vms_vm *vm)
{
	if (!vm->has_file || vm->file.n_hosts != 2)
		return NULL;
	return hf_peer_find(ps, vm->file.hosts[1 - vm->file.own].name);
}

const struct hf_peermsg_vm *hf_peer_said(const struct hf_peer_host *p, const char *vm)
{
	for (const struct hf_peer_vm *v = p->vms; v; v = v->next)
		if (strcmp(v->said.vm, vm) == 0)
			return &v->said;
	return NULL;
}

/* ---- TLS ---- */

static void say_trouble(struct hf_peers *ps, const char *what, const char *why)
{
	if (strcmp(ps->trouble, why) != 0)
		hf_log(&ps->d->journal, HF_LOG_ERROR, "%s: %s", what, why);
	(void)snprintf(ps->trouble, sizeof(ps->trouble), "%s", why);
}

/* Files that cannot be used any more, or will soon: while a connection lasts nobody else would find out. */
static void look_at_tls(void *ctx)
{
	struct hf_peers *ps = ctx;
	struct hf_err note;

	if (hf_tls_note(ps->tls, &note))
		say_trouble(ps, "certificates for other hosts", note.text);
	else
		ps->trouble[0] = '\0';
	hf_timer_set(&ps->tls_timer, &ps->d->loop, hf_now_ns() + TLS_LOOK_NS, look_at_tls, ps);
}

bool hf_peers_get_tls(struct hf_peers *ps, struct hf_tls **ret, struct hf_err *err)
{
	*ret = NULL;
	if (ps->d->conf.is_plain)
		return true;
	if (!ps->tls && hf_tls_new(ps->d->conf.pki_dir, &ps->tls, err) < 0) {
		say_trouble(ps, "no other host's daemon can be reached, nor reach this one",
			    err->text);
		return false;
	}
	look_at_tls(ps);
	*ret = ps->tls;
	return true;
}

/* ---- looking at what has changed ---- */

/* What a look changes has its turn in the loop. */
static void look(struct hf_peers *ps, struct hf_vms_vm *vm)
{
	if (ps->is_looking)
		return;
	ps->is_looking = true;
	hf_peers_look(ps, vm);
	ps->is_looking = false;
}

static void on_work(void *ctx)
{
	struct hf_peers *ps = ctx;
	unsigned int n = ps->touched.n; /* what is touched meanwhile has its turn next */
	char name[HF_NAME_MAX + 1];

	while (n-- && hf_names_take(&ps->touched, name)) {
		struct hf_vms_vm *vm = hf_vms_find(ps->d, name);

		for (struct hf_peer_host *p = ps->first; p; p = p->next)
			if (!vm || hf_peer_shares(ps, vm, p->name) || hf_peer_said(p, name))
				(void)hf_names_add(&p->untold, name);
		if (vm)
			look(ps, vm);
		hf_peers_orders_look(ps, name);
	}
	for (struct hf_peer_host *p = ps->first; p; p = p->next)
		hf_peer_tell(p);
}

void hf_peers_touch(struct hf_peers *ps, const char *vm)
{
	(void)hf_names_add(&ps->touched, vm);
	hf_timer_set(&ps->work_timer, &ps->d->loop, hf_now_ns(), on_work, ps);
}

static void touch_shared(struct hf_peer_host *p)
{
	struct hf_peers *ps = p->peers;

	for (const struct hf_vms_vm *vm = hf_vms_next(ps->d, NULL); vm; vm = hf_vms_next(ps->d, vm))
		if (hf_peer_shares(ps, vm, p->name))
			hf_peers_touch(ps, vm->name);
}

void hf_peer_settle(struct hf_peer_host *p, const char *why)
{
	bool is_up = p->dial == HF_PEER_LISTENS && p->conn && p->is_synced;
	struct json_object *o;

	if (is_up == p->is_up)
		return;
	p->is_up = is_up;
	p->is_fenced = false;
	p->since_ns = hf_now_ns();
	o = json_object_new_object();
	json_object_object_add(o, "peer", json_object_new_string(p->name));
	if (is_up)
		hf_event(&p->peers->d->journal, "peer-up", o, "in touch with %s", p->name);
	else
		hf_event(&p->peers->d->journal, "peer-down", o, "out of touch with %s: %s", p->name,
			 why);
	touch_shared(p);
}

bool hf_peers_fenced(struct hf_daemon *d, const char *name, uint64_t fenced_ns)
{
	struct hf_peer_host *p = d->peers ? hf_peer_find(d->peers, name) : NULL;

	if (!p)
		return false;
	if (p->heard_ns >= fenced_ns || (p->is_up && p->since_ns >= fenced_ns))
		return true; /* it has booted since, or lives */
	hf_peer_drop_conn(p);
	hf_peer_hang_up(p, "it was fenced");
	p->is_fenced = true;
	touch_shared(p);
	return true;
}

const char *hf_peers_name(const struct hf_daemon *d, unsigned int i)
{
	const struct hf_peer_host *p = d->peers ? d->peers->first : NULL;

	while (p && i--)
		p = p->next;
	return p ? p->name : NULL;
}

/* ---- who the peers are ---- */

static void peer_free(struct hf_peer_host *p)
{
	hf_peer_dial_free(p);
	hf_peer_drop_conn(p);
	hf_peer_forget_vms(p);
	free(p->untold.at);
	free(p);
}

static struct hf_peer_host *peer_new(struct hf_peers *ps, const char *name)
{
	struct hf_peer_host *p;

	if (ps->n == HF_PEERS_MAX) {
		hf_log(&ps->d->journal, HF_LOG_ERROR,
		       "'%s' is left out: VMs are shared with %d other hosts already", name,
		       HF_PEERS_MAX);
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->peers = ps;
	p->fd = -1;
	p->since_ns = hf_now_ns();
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	p->next = ps->first;
	ps->first = p;
	ps->n++;
	return p;
}

static void want_peer(struct hf_peers *ps, const char *name, const char *host, uint16_t port)
{
	struct hf_peer_host *p = hf_peer_find(ps, name);
	const struct hf_hostconf_peer *given = hf_hostconf_find_peer(&ps->d->conf, name);
	struct hf_addr addr = { .port = port };

	if (strcmp(name, ps->d->conf.name) == 0)
		return;
	if (!p)
		p = peer_new(ps, name);
	if (!p || p->is_wanted)
		return;
	(void)snprintf(addr.host, sizeof(addr.host), "%s", host);
	if (given && given->addr.host[0])
		addr = given->addr;
	p->is_wanted = true;
	if (strcmp(addr.host, p->addr.host) == 0 && addr.port == p->addr.port)
		return;
	if (p->addr.host[0])
		hf_peer_hang_up(p, "its address has changed");
	p->addr = addr;
}

static void drop_unwanted(struct hf_peers *ps)
{
	struct hf_peer_host **at = &ps->first;
	struct hf_peer_host *p;

	while ((p = *at)) {
		if (p->is_wanted) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		ps->n--;
		peer_free(p);
	}
}

static void on_reloaded(struct hf_daemon *d)
{
	struct hf_peers *ps = d->peers;

	for (struct hf_peer_host *p = ps->first; p; p = p->next)
		p->is_wanted = false;
	for (const struct hf_vms_vm *vm = hf_vms_next(d, NULL); vm; vm = hf_vms_next(d, vm)) {
		const struct hf_vmfile_host *other;

		if (!vm->has_file || vm->file.n_hosts != 2)
			continue;
		other = &vm->file.hosts[1 - vm->file.own];
		want_peer(ps, other->name, other->addr.host, HF_PEERS_PORT);
	}
	for (unsigned int i = 0; i < d->conf.n_peers; i++)
		if (d->conf.peers[i].addr.host[0])
			want_peer(ps, d->conf.peers[i].name, "", 0);
	drop_unwanted(ps);
	hf_peers_listen(ps);
	for (struct hf_peer_host *p = ps->first; p; p = p->next) {
		hf_peer_tell_all(p);
		hf_peer_dial(p);
		touch_shared(p);
	}
	/* At once: at a boot nobody is to start what another host may be running. */
	for (struct hf_vms_vm *vm = hf_vms_next(d, NULL); vm; vm = hf_vms_next(d, vm))
		if (vm->has_file && vm->file.n_hosts == 2)
			look(ps, vm);
}

/* ---- what people see ---- */

static const char *dial_name(const struct hf_peer_host *p)
{
	if (p->is_up)
		return "up";
	if (p->dial == HF_PEER_LISTENS)
		return "half-up"; /* it listens, and does not speak */
	return p->dial == HF_PEER_IDLE ? "down" : "connecting";
}

static struct json_object *view_peer(const struct hf_peer_host *p)
{
	struct json_object *o = json_object_new_object();
	char text[HF_ADDR_TEXT];

	hf_json_add_str(o, "host", p->name);
	hf_json_add_str(o, "address", hf_addr_format(&p->addr, text, sizeof(text)));
	hf_json_add_str(o, "state", dial_name(p));
	json_object_object_add(o, "is_up", json_object_new_boolean(p->is_up));
	json_object_object_add(o, "since_ms",
			       json_object_new_uint64((hf_now_ns() - p->since_ns) / 1000000));
	hf_json_add_str(o, "text", p->is_up ? "" : p->trouble);
	json_object_object_add(o, "vms", json_object_new_uint64(p->n_vms));
	return o;
}

struct json_object *hf_peers_view(const struct hf_daemon *d)
{
	struct json_object *list;

	if (!d->peers || !d->peers->first)
		return NULL;
	list = json_object_new_array();
	for (const struct hf_peer_host *p = d->peers->first; p; p = p->next)
		json_object_array_add(list, view_peer(p));
	return list;
}

/* Of one VM: of those that share it the one that runs it, or the first that says anything. */
static void on_view(const struct hf_vms_vm *vm, struct json_object *o)
{
	const struct hf_peers *ps = vm->d->peers;
	const struct hf_peer_host *p, *best = hf_peer_of_pair(ps, vm);
	const struct hf_peermsg_vm *said;

	for (p = ps->first; p; p = p->next) {
		said = hf_peer_said(p, vm->name);
		if (said && (!best || (p->is_up && said->have == HF_HAVE_RUNNING)))
			best = p;
	}
	said = best ? hf_peer_said(best, vm->name) : NULL;
	if (hf_vms_have(vm) == HF_HAVE_RUNNING)
		hf_json_add_str(o, "host", ps->d->conf.name);
	else if (said && said->have == HF_HAVE_RUNNING)
		hf_json_add_str(o, "host", best->name);
	hf_json_add_str(o, "place_text", vm->place_text);
	if (!best)
		return;
	hf_json_add_str(o, "peer_host", best->name);
	json_object_object_add(o, "peer_up", json_object_new_boolean(best->is_up));
	if (!said)
		return;
	hf_json_add_str(o, "peer_life", said->life);
	hf_json_add_str(o, "peer_cause", said->cause);
	hf_json_add_str(o, "peer_text", said->text);
	json_object_object_add(o, "peer_frozen", json_object_new_uint64(said->frozen_count));
	if (vm->has_file && said->is_defined)
		json_object_object_add(
			o, "definitions_differ",
			json_object_new_boolean(said->definition_crc != vm->file.crc));
}

/* ---- the whole ---- */

/* At once, so that an order finds its place. */
static void on_changed(struct hf_vms_vm *vm)
{
	hf_peers_touch(vm->d->peers, vm->name);
	look(vm->d->peers, vm);
}

int hf_peers_new(struct hf_daemon *d, struct hf_err *err)
{
	static const struct hf_vms_hooks hooks = {
		.reloaded = on_reloaded,
		.changed = on_changed,
		.start_elsewhere = hf_peers_start_elsewhere,
		.given = hf_peers_give,
		.view = on_view,
	};
	struct hf_peers *ps = calloc(1, sizeof(*ps));

	if (!ps || getrandom(&ps->instance, sizeof(ps->instance), 0) != sizeof(ps->instance)) {
		hf_err_set(err, "no memory for the other hosts");
		free(ps);
		return -ENOMEM;
	}
	ps->d = d;
	ps->listen_fd = -1;
	d->peers = ps;
	hf_vms_set_hooks(d, &hooks);
	on_reloaded(d);
	return 0;
}

void hf_peers_free(struct hf_daemon *d)
{
	static const struct hf_vms_hooks none = { .changed = NULL };
	struct hf_peers *ps = d->peers;
	struct hf_peer_host *next;

	if (!ps)
		return;
	hf_vms_set_hooks(d, &none);
	hf_peers_orders_free(ps);
	for (struct hf_peer_host *p = ps->first; p; p = next) {
		next = p->next;
		peer_free(p);
	}
	hf_peers_serve_free(ps);
	hf_timer_fini(&ps->work_timer);
	hf_timer_fini(&ps->place_timer);
	hf_timer_fini(&ps->tls_timer);
	hf_tls_free(ps->tls);
	free(ps->touched.at);
	free(ps);
	d->peers = NULL;
}
