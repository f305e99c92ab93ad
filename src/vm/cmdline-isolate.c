/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A line made fit for an examination: the machine stays the same, so that the saved device state fits,
 * and what it is attached to outside is exchanged for something that leads nowhere.
 *
 * Theory of operation. The walls are revive-box.c's: a network namespace without a way out, file
 * systems that cannot be written to, no capabilities. This list is not what isolation rests on; it is there
 * so that QEMU starts inside of these walls at all, and so that nobody's monitor socket or console is
 * taken away from the VM that runs now.
 *
 * The kind of a back end may be part of the device state: slirp saves its own, and a virtio-net that had
 * a TAP with vnet_hdr refuses the state on anything else. So netdevs of type user stay, without their
 * forwardings, and a TAP stays one, in the namespace where nothing else is; the others become a port of a hub
 * that has no other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vm/cmdline-internal.h"

enum rule {
	RULE_DROP,
	RULE_REFUSE,
	RULE_NULL, /* a character device that goes nowhere */
};

/* Options that are passed on in a life, but not here. */
static const struct {
	const char *name;
	enum rule rule;
	const char *text;
} rules[] = {
	{ "D", RULE_DROP, NULL },
	{ "S", RULE_DROP, NULL },
	{ "add-fd", RULE_REFUSE, "a descriptor that QEMU was given is not there any more" },
	{ "chroot", RULE_DROP, NULL },
	{ "d", RULE_DROP, NULL },
	{ "debugcon", RULE_NULL, NULL },
	{ "dfilter", RULE_DROP, NULL },
	{ "display", RULE_DROP, NULL },
	{ "dump-vmstate", RULE_DROP, NULL },
	{ "full-screen", RULE_DROP, NULL },
	{ "gdb", RULE_DROP, NULL },
	{ "iscsi", RULE_DROP, NULL },
	{ "jitdump", RULE_DROP, NULL },
	{ "loadvm", RULE_DROP, NULL },
	{ "mon", RULE_DROP, NULL },
	{ "monitor", RULE_DROP, NULL },
	{ "nographic", RULE_DROP, NULL },
	{ "overcommit", RULE_DROP, NULL },
	{ "parallel", RULE_NULL, NULL },
	{ "perfmap", RULE_DROP, NULL },
	{ "pidfile", RULE_DROP, NULL },
	{ "plugin", RULE_DROP, NULL },
	{ "qmp", RULE_DROP, NULL },
	{ "qmp-pretty", RULE_DROP, NULL },
	{ "qtest", RULE_DROP, NULL },
	{ "qtest-log", RULE_DROP, NULL },
	{ "run-with", RULE_DROP, NULL },
	{ "runas", RULE_DROP, NULL },
	{ "s", RULE_DROP, NULL },
	{ "sandbox", RULE_DROP, NULL },
	{ "semihosting", RULE_DROP, NULL },
	{ "semihosting-config", RULE_DROP, NULL },
	{ "spice", RULE_DROP, NULL },
	{ "tpmdev", RULE_REFUSE, "its state is in another process, which is not kept" },
	{ "trace", RULE_DROP, NULL },
	{ "vnc", RULE_DROP, NULL },
};

static bool is_equal(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; word && *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

static bool has_prefix_of(const char *word, const char *const *list)
{
	for (; word && *list; list++)
		if (strncmp(word, *list, strlen(*list)) == 0)
			return true;
	return false;
}

static void drop(struct hf_cmdline_entry *e)
{
	e->fate = HF_FATE_DROP;
}

/* @arg is taken over; NULL: there was no memory for it. */
static void replace(struct hf_cmdline *cmd, struct hf_cmdline_entry *e, char *arg)
{
	if (!arg)
		return;
	hf_cmdline_note(cmd, "%s %s: becomes %s", e->word, e->arg ? e->arg : "", arg);
	free(e->instead);
	e->instead = arg;
	e->fate = HF_FATE_ARG;
}

static void refuse(struct hf_cmdline *cmd, const struct hf_cmdline_entry *e, const char *why)
{
	hf_cmdline_problem(cmd, "option", e->word, "'%s' cannot be examined in isolation: %s",
			   e->arg ? e->arg : "", why);
}

static char *with_id(struct hf_cmdline *cmd, const char *type, const struct hf_keyval *kv)
{
	const char *id = hf_keyval_get(kv, "id");

	return id ? hf_cmdline_text(cmd, "%s,id=%s", type, id) : hf_cmdline_dup(cmd, type);
}

/* ---- networks ---- */

static char *format_without(struct hf_cmdline *cmd, const struct hf_keyval *kv,
			    const char *const *keys, const char *key, const char *value)
{
	struct hf_keyval out = { 0 };
	char *text = NULL;
	int r = 0;

	for (size_t i = 0; !r && i < kv->count; i++)
		if (!is_one_of(kv->pairs[i].key, keys) && !is_equal(kv->pairs[i].key, key))
			r = hf_keyval_add(&out, kv->pairs[i].key, kv->pairs[i].value);
	if (!r)
		r = hf_keyval_add(&out, key, value);
	if (!r)
		r = hf_keyval_format(&out, "type", &text);
	hf_keyval_fini(&out);
	if (r < 0)
		cmd->has_failed = true;
	return r < 0 ? NULL : text;
}

static const char *const outward_user_keys[] = { "restrict",  "hostfwd", "guestfwd", "smb",
						 "smbserver", "tftp",    "bootfile", NULL };
static const char *const outward_tap_keys[] = { "ifname",   "br",         "script", "downscript",
						"fd",       "fds",        "vhost",  "vhostfd",
						"vhostfds", "vhostforce", "helper", NULL };

/* A bridge is a TAP with vnet_hdr to the device. */
static char *isolated_tap(struct hf_cmdline *cmd, const struct hf_keyval *kv)
{
	if (is_equal(hf_keyval_get(kv, "type"), "bridge"))
		return with_id(cmd, "tap,script=no,downscript=no", kv);
	return format_without(cmd, kv, outward_tap_keys, "script", "no");
}

static void isolate_netdev(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	const char *type = hf_keyval_get(&e->kv, "type");
	bool is_tap = is_equal(type, "tap") || is_equal(type, "bridge");
	bool is_old = e->opt->kind != HF_OPT_NETDEV;

	if (e->fate != HF_FATE_KEEP || is_equal(type, "hubport") || is_equal(type, "none") ||
	    is_equal(type, "nic"))
		return;
	if (is_tap)
		cmd->has_tap = true;
	if (is_equal(type, "user"))
		replace(cmd, e, format_without(cmd, &e->kv, outward_user_keys, "restrict", "on"));
	else if (is_tap)
		replace(cmd, e, isolated_tap(cmd, &e->kv));
	else if (is_old)
		refuse(cmd, e, "a back end of this type in this form has no harmless stand-in");
	else
		replace(cmd, e,
			hf_cmdline_text(cmd, "hubport,id=%s,hubid=%zu",
					hf_keyval_get(&e->kv, "id") ? hf_keyval_get(&e->kv, "id")
								    : "none",
					HF_CMDLINE_HUB_FIRST + (size_t)(e - cmd->entry)));
}

/* ---- character devices ---- */

/* These live inside of QEMU. */
static const char *const inward_chardevs[] = { "null",     "ringbuf", "msmouse",
					       "wctablet", "testdev", NULL };

static void isolate_chardev(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	const char *id = hf_keyval_get(&e->kv, "id");

	if (is_one_of(hf_keyval_get(&e->kv, "backend"), inward_chardevs) || !id)
		return;
	if (is_equal(cmd->console_id, id))
		drop(e); /* the console takes its place */
	else
		replace(cmd, e,
			hf_cmdline_text(cmd, "null,id=%s%s", id,
					hf_keyval_is_on(&e->kv, "mux", false) ? ",mux=on" : ""));
}

static bool is_called(const struct hf_cmdline_entry *e, const char *name)
{
	return strcmp(e->opt->name, name) == 0;
}

static bool has_option(const struct hf_cmdline *cmd, const char *name)
{
	for (size_t i = 0; i < cmd->entry_count; i++)
		if (is_called(&cmd->entry[i], name))
			return true;
	return false;
}

/* The first port that something may be connected to is the console. */
static void isolate_serial(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	if (is_equal(e->arg, "none"))
		return;
	if (!cmd->has_console)
		replace(cmd, e, hf_cmdline_dup(cmd, "chardev:" HF_CMDLINE_CONSOLE_ID));
	else if (strncmp(e->arg, "chardev:", 8) != 0)
		replace(cmd, e, hf_cmdline_dup(cmd, "null"));
	cmd->has_console = true;
}

static const char *const console_devices[] = { "isa-serial", "virtconsole", "pci-serial", NULL };

/* Without -serial: a device made by hand; else the one that QEMU makes. */
static void find_console(struct hf_cmdline *cmd)
{
	const char *id;

	if (has_option(cmd, "serial"))
		return;
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_DEVICE, e));) {
		id = hf_keyval_get(&e->kv, "chardev");
		if (!id || !is_one_of(hf_keyval_get(&e->kv, "driver"), console_devices))
			continue;
		cmd->console_id = hf_cmdline_dup(cmd, id);
		cmd->has_console = true;
		return;
	}
	if (hf_cmdline_has(cmd, HF_OPT_NODEFAULTS))
		return;
	cmd->is_console_added = true;
	cmd->has_console = true;
}

/* ---- other things ---- */

static void isolate_audio(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	struct hf_keyval kv = { 0 };
	struct hf_err err;
	const char *model;

	if (hf_keyval_parse(e->arg, "driver", &kv, &err) < 0) {
		refuse(cmd, e, err.text);
		return;
	}
	model = hf_keyval_get(&kv, "model");
	if (is_called(e, "audio") && model)
		replace(cmd, e, hf_cmdline_text(cmd, "none,model=%s", model));
	else
		replace(cmd, e, with_id(cmd, "none", &kv));
	hf_keyval_fini(&kv);
}

static const char *const inward_usb[] = { "mouse", "tablet", "wacom-tablet", "keyboard", NULL };

static const char *const outward_objects[] = { "filter-", "input-", "colo-compare",
					       "can-host-socketcan", NULL };
static const char *const lost_objects[] = { "x-remote-object", "vhost-user-backend",
					    "cryptodev-vhost-user", NULL };

static void isolate_object(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	const char *type = hf_keyval_get(&e->kv, "qom-type");

	if (e->fate == HF_FATE_KEEP && has_prefix_of(type, outward_objects))
		drop(e);
	else if (has_prefix_of(type, lost_objects))
		refuse(cmd, e, "its state is in another process, which is not kept");
}

static void isolate_device(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	const char *why = hf_cmdline_foreign_device(hf_keyval_get(&e->kv, "driver"));

	if (why)
		refuse(cmd, e, why);
}

/* Their names, with the rule for each; false: there is none. */
static bool apply_rule(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!is_called(e, rules[i].name))
			continue;
		if (rules[i].rule == RULE_REFUSE)
			refuse(cmd, e, rules[i].text);
		else if (rules[i].rule == RULE_DROP)
			drop(e);
		else if (!is_equal(e->arg, "none"))
			replace(cmd, e, hf_cmdline_dup(cmd, "null"));
		return true;
	}
	return false;
}

static void isolate_entry(struct hf_cmdline *cmd, struct hf_cmdline_entry *e)
{
	enum hf_cmdline_kind kind = e->opt->kind;

	if (apply_rule(cmd, e))
		return;
	if (kind == HF_OPT_NETDEV || kind == HF_OPT_NIC || kind == HF_OPT_NET)
		isolate_netdev(cmd, e);
	else if (kind == HF_OPT_CHARDEV)
		isolate_chardev(cmd, e);
	else if (kind == HF_OPT_OBJECT)
		isolate_object(cmd, e);
	else if (kind == HF_OPT_DEVICE)
		isolate_device(cmd, e);
	else if (kind == HF_OPT_FILES)
		refuse(cmd, e, "folders of the host cannot be given to it");
	else if (is_called(e, "serial"))
		isolate_serial(cmd, e);
	else if (is_called(e, "audiodev") || is_called(e, "audio"))
		isolate_audio(cmd, e);
	else if (is_called(e, "usbdevice") && !is_one_of(e->arg, inward_usb))
		refuse(cmd, e, "the device is the host's");
}

/* ---- disks that QEMU opens by itself ---- */

/* Those that --unprotected has let through. -snapshot puts a temporary overlay on what a -drive or -hda names;
 * it does nothing for a -blockdev. */
static void isolate_own_disks(struct hf_cmdline *cmd)
{
	size_t n = cmd->problem_count;

	for (size_t i = 0; i < n; i++) {
		const char *id = cmd->problem[i].id;
		bool is_node = false;

		if (!cmd->problem[i].is_passed || strcmp(cmd->problem[i].what, "disk") != 0)
			continue;
		for (struct hf_cmdline_entry *e = NULL;
		     (e = hf_cmdline_next(cmd, HF_OPT_BLOCKDEV, e));)
			is_node |= is_equal(hf_keyval_get(&e->kv, "node-name"), id) ||
				   is_equal(id, "blockdev");
		if (is_node)
			hf_cmdline_problem(
				cmd, "option", "-blockdev",
				"'%s' cannot be examined in isolation: the guest may write to "
				"it, and an overlay can only be put on a -drive",
				id);
		else
			cmd->is_snapshot_added = !hf_cmdline_has(cmd, HF_OPT_SNAPSHOT);
	}
}

void hf_cmdline_isolate(struct hf_cmdline *cmd)
{
	find_console(cmd);
	for (size_t i = 0; i < cmd->entry_count; i++)
		isolate_entry(cmd, &cmd->entry[i]);
	isolate_own_disks(cmd);
}
