/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fencing.h. */
#include "daemon/fencing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/fencedword.h"
#include "core/fenced.h"
#include "daemon/jobs.h"
#include "daemon/membership.h"
#include "daemon/peers.h"
#include "daemon/vmlink.h"
#include "daemon/vms.h"

#define NOT_POSSIBLE HF_HOST_INTERFACE ".NotPossible"

struct word {
	struct hf_fencedword said;
	uint64_t now_ns, begun_ns, fenced_ns; /* of hf_now_ns()'s clock */
};

static int take_word(const struct json_object *p, struct word *ret, struct hf_err *err)
{
	int r = hf_fencedword_read(p, &ret->said, err);

	if (r < 0)
		return r;
	ret->now_ns = hf_now_ns();
	ret->fenced_ns = hf_fenced_place(ret->said.time_ns, hf_now_real_ns(), ret->now_ns);
	ret->begun_ns = hf_fenced_place(ret->said.begun_ns, hf_now_real_ns(), ret->now_ns);
	return 0;
}

/* ---- who is known ---- */

/* The other host of a VM that has two; NULL. */
static const char *other_host(const struct hf_vms_vm *vm)
{
	if (!vm->has_file || vm->file.n_hosts != 2)
		return NULL;
	return vm->file.hosts[1 - vm->file.own].name;
}

static void add_name(char *list, size_t size, const char *name)
{
	size_t n = strlen(list);

	if (name[0])
		(void)snprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
}

/* Those of the lockspace, and those that share VMs with this one. */
static void list_hosts(const struct hf_daemon *d, char *list, size_t size)
{
	const char *name;

	list[0] = '\0';
	for (unsigned int i = 0; (name = hf_peers_name(d, i)); i++)
		if (!hf_membership_find_host(d, name))
			add_name(list, size, name);
	for (uint64_t id = 1; id <= HF_LEASE_HOSTS_MAX; id++)
		if (id != d->conf.id)
			add_name(list, size, hf_membership_host_name(d, id));
}

static bool is_known(const struct hf_daemon *d, const char *host)
{
	const char *name;

	for (unsigned int i = 0; (name = hf_peers_name(d, i)); i++)
		if (strcmp(name, host) == 0)
			return true;
	for (uint64_t id = 1; id <= HF_LEASE_HOSTS_MAX; id++)
		if (strcmp(hf_membership_host_name(d, id), host) == 0)
			return true;
	return false;
}

static int check(const struct hf_daemon *d, const struct word *w, struct hf_err *err)
{
	char list[256];

	if (strcmp(w->said.host, d->conf.name) == 0) {
		hf_err_set(err, "%s is this host", w->said.host);
		return -EINVAL;
	}
	if (!is_known(d, w->said.host)) {
		list_hosts(d, list, sizeof(list));
		hf_err_set(err, "no host '%.64s' is known here: %s", w->said.host,
			   list[0] ? list : "nor any other one");
		return -ENOENT;
	}
	if (!w->fenced_ns) {
		hf_err_set(err,
			   "%.64s: that time is ahead of this host's clock, or none at all: it "
			   "proves nothing",
			   w->said.host);
		return -EINVAL;
	}
	return 0;
}

/* ---- passing it on ---- */

static unsigned int tell_keepers(const struct hf_daemon *d, const struct word *w)
{
	unsigned int n = 0;

	for (const struct hf_vms_vm *vm = hf_vms_next(d, NULL); vm; vm = hf_vms_next(d, vm)) {
		const char *other = other_host(vm);

		if (!vm->keeper || !other || strcmp(other, w->said.host) != 0)
			continue;
		hf_vmlink_peer_fenced(vm->keeper, w->said.host, w->said.time_ns, w->said.text);
		n++;
	}
	return n;
}

static struct json_object *about(const struct word *w, unsigned int keepers, const char *lease)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "host", json_object_new_string(w->said.host));
	json_object_object_add(o, "fenced_ns", json_object_new_uint64(w->said.time_ns));
	json_object_object_add(o, "by", json_object_new_string(w->said.text));
	json_object_object_add(o, "keepers", json_object_new_uint64(keepers));
	json_object_object_add(o, "lease", json_object_new_string(lease));
	return o;
}

/* By the clock of who fenced it may have been earlier than it was said. */
static uint64_t not_before(const struct word *w)
{
	return w->begun_ns > HF_FENCED_AHEAD_MAX_NS ? w->begun_ns - HF_FENCED_AHEAD_MAX_NS : 0;
}

void hf_fencing_do(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p)
{
	struct word w;
	struct hf_err err = { "" };
	enum hf_lease_fencing fencing;
	struct json_object *o;
	const char *lease;
	unsigned int n;

	if (take_word(p, &w, &err) < 0) {
		hf_varlink_invalid(rq, &err);
		return;
	}
	if (check(d, &w, &err) < 0) {
		hf_varlink_refuse(rq, NOT_POSSIBLE, err.text);
		return;
	}
	n = tell_keepers(d, &w);
	fencing = hf_membership_fenced(d, w.said.host, not_before(&w), w.now_ns);
	lease = hf_lease_fencing_text(fencing);
	hf_event(&d->journal, "host-fenced", about(&w, n, lease),
		 "%s was fenced %.1f s ago%s%s%s: %u keepers are told; its leases: %s", w.said.host,
		 (double)(w.now_ns - w.fenced_ns) / 1e9, w.said.text[0] ? " (" : "", w.said.text,
		 w.said.text[0] ? ")" : "", n, lease);
	(void)hf_peers_fenced(d, w.said.host, w.fenced_ns);
	o = json_object_new_object();
	json_object_object_add(o, "keepers", json_object_new_uint64(n));
	json_object_object_add(o, "lease", json_object_new_string(lease));
	hf_varlink_done(rq, o);
}
