/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/keeper.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/histogram.h"

/* One of them travels, the other lies on disks. */
_Static_assert((int)HF_WIRE_DISKS_OWNED == (int)HF_DISK_OWNED &&
		       (int)HF_WIRE_DISKS_HELD == (int)HF_DISK_HELD &&
		       (int)HF_WIRE_DISKS_REPLICATED == (int)HF_DISK_REPLICATED &&
		       (int)HF_WIRE_DISKS_PARTIAL == (int)HF_DISK_PARTIAL &&
		       (int)HF_WIRE_DISKS_CONDITION_COUNT == (int)HF_DISK_CONDITION_COUNT,
	       "a condition has one number");

void hf_keeper_describe(const struct hf_keeper *k, struct hf_wire_hello *ret)
{
	const struct hf_guest_identity *id = hf_guest_identity(k->guest);

	*ret = (struct hf_wire_hello){
		.version_min = HF_WIRE_VERSION_MIN,
		.version_max = HF_WIRE_VERSION_MAX,
		.instance = k->instance,
		.ram_bytes = id->ram_bytes,
		.page_bytes = HF_WIRE_PAGE_BYTES,
		.vcpus = id->vcpus,
		.holdfast = HF_VERSION,
		.vm = k->name,
		.machine = id->machine,
		.qemu = id->qemu_version,
		.lockspace = hf_ownership_lockspace(k->ownership),
	};
	if (k->disks) {
		ret->disk_condition = (uint8_t)k->disks->condition;
		ret->disk_session = k->disks->session;
	}
	for (size_t i = 0; k->disks && i < k->disks->n; i++)
		ret->disks.item[ret->disks.n++] = hf_disks_text(k->disks, i);
	for (size_t i = 0; i < id->device_count && i < HF_WIRE_DEVICES_MAX; i++)
		ret->devices.item[ret->devices.n++] = id->devices[i];
	for (size_t i = 0; i < hf_guest_net_count(k->guest) && i < HF_WIRE_NETDEVS_MAX; i++)
		ret->netdevs.item[ret->netdevs.n++] = hf_guest_net_id(k->guest, i);
}

struct hf_id hf_keeper_new_id(void)
{
	struct hf_id id = { 0 };

	/* Never short and never fails once the kernel has booted; asked again if it does. */
	while (hf_id_is_none(id))
		if (getrandom(&id, sizeof(id), 0) != sizeof(id))
			id = (struct hf_id){ 0 };
	return id;
}

const char *hf_id_format(struct hf_id id, char *buf)
{
	(void)snprintf(buf, HF_ID_TEXT, "%016" PRIx64 "%016" PRIx64, id.hi, id.lo);
	return buf;
}

struct json_object *hf_status_quantiles(const struct hf_histogram *h)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "n", json_object_new_uint64(h->count));
	json_object_object_add(o, "p50_ns", json_object_new_uint64(hf_histogram_quantile(h, 500)));
	json_object_object_add(o, "p99_ns", json_object_new_uint64(hf_histogram_quantile(h, 990)));
	json_object_object_add(o, "max_ns", json_object_new_uint64(h->max));
	return o;
}

void hf_keeper_held(const struct hf_keeper *k, uint64_t *ret_frames, uint64_t *ret_bytes)
{
	struct hf_nettap_stats stats;

	*ret_frames = *ret_bytes = 0;
	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++) {
		hf_nettap_get_stats(hf_guest_net(k->guest, i), &stats);
		*ret_frames += stats.held_frames;
		*ret_bytes += stats.held_bytes;
	}
}

void hf_keeper_flush_nets(struct hf_keeper *k)
{
	struct hf_err err;

	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++)
		if (hf_nettap_flush(hf_guest_net(k->guest, i), &err) < 0)
			hf_log(&k->journal, HF_LOG_ERROR, "netdev %s: %s",
			       hf_guest_net_id(k->guest, i), err.text);
}

bool hf_keeper_has_flushed_nets(const struct hf_keeper *k)
{
	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++)
		if (!hf_nettap_is_flushed(hf_guest_net(k->guest, i)))
			return false;
	return true;
}

void hf_keeper_set_net_mode(struct hf_keeper *k, enum hf_nettap_mode mode)
{
	struct hf_err err;

	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++)
		if (hf_nettap_set_mode(hf_guest_net(k->guest, i), mode, &err) < 0)
			hf_log(&k->journal, HF_LOG_ERROR, "netdev %s: %s",
			       hf_guest_net_id(k->guest, i), err.text);
}

void hf_keeper_prune_nets(struct hf_keeper *k)
{
	for (size_t i = 0; i < hf_guest_net_count(k->guest); i++)
		if (hf_nettap_qemu_fd(k->nets[i].tap) < 0)
			hf_watch_remove(&k->nets[i].qemu_watch);
}

static void on_reply(void *ctx, struct json_object *ret __attribute__((unused)),
		     const char *error_class, const char *error_desc)
{
	if (error_class && strcmp(error_class, HF_QMP_CLASS_LOST) != 0)
		hf_log(ctx, HF_LOG_ERROR, "QEMU: %s", error_desc);
}

void hf_keeper_qmp(struct hf_keeper *k, const char *command)
{
	int r;

	if (k->freezer && strcmp(command, "cont") == 0)
		return; /* it never runs again */
	r = hf_qmp_call(hf_guest_qmp(k->guest), command, NULL, on_reply, &k->journal);
	if (r < 0)
		hf_log(&k->journal, HF_LOG_ERROR, "QEMU does not take '%s': %s", command,
		       strerror(-r));
}

void hf_keeper_finish(struct hf_keeper *k, enum hf_keeper_exit code)
{
	if (hf_freezer_keeps(k->freezer))
		return;
	if (k->life.is_restart_wanted && code == HF_KEEPER_EXIT_VM_DIED)
		code = HF_KEEPER_EXIT_RESTART;
	hf_loop_exit(&k->loop, (int)code);
}

void hf_keeper_note(struct hf_keeper *k, const char *text)
{
	hf_log(&k->journal, HF_LOG_INFO, "%s", text);
	json_object_array_add(k->notes, json_object_new_string(text));
}
