/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Networks. A held netdev becomes "-netdev stream" over a descriptor, with the TAP device on the
 * keeper's side of it; every other way out for frames is a problem.
 *
 * The guest does not see the exchange, but for offloads: a stream netdev has none, so what the user
 * asked of the TAP in that respect is left out, and that is said.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/wire-msg.h"
#include "vm/cmdline-internal.h"

/* qemu-options.hx: defaults of -netdev tap and -netdev bridge. */
#define DEFAULT_SCRIPT "/etc/qemu-ifup"
#define DEFAULT_DOWNSCRIPT "/etc/qemu-ifdown"
#define DEFAULT_BRIDGE "br0"

static bool is_equal(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

static bool is_listed(char *const *list, const char *id)
{
	for (; list && *list; list++)
		if (strcmp(*list, id) == 0)
			return true;
	return false;
}

/* Keys of a tap that cannot be kept, each with the reason. */
static const struct {
	const char *key;
	const char *harmless; /* a value that changes nothing */
	const char *reason;
} refused_keys[] = {
	{ "vhost", "off", "with vhost=on the kernel takes frames past holdfast" },
	{ "vhostforce", "off", "with vhost the kernel takes frames past holdfast" },
	{ "vhostfd", NULL, "with vhost the kernel takes frames past holdfast" },
	{ "vhostfds", NULL, "with vhost the kernel takes frames past holdfast" },
	{ "fd", NULL,
	  "holdfast opens the TAP itself and cannot take over fd=; name it with ifname=" },
	{ "fds", NULL,
	  "holdfast opens the TAP itself and cannot take over fds=; name it with ifname=" },
	{ "queues", "1",
	  "a held netdev has one queue; leave queues= out, and mq=on of its device" },
	{ "helper", NULL, "holdfast opens the TAP itself, without a helper; leave helper= out" },
};

/* What may stand in a tap or bridge; those with a note are left out, and are said to be. */
static const struct {
	const char *key;
	bool is_left_out;
} known_keys[] = {
	{ "type", false },       { "id", false },      { "ifname", false }, { "script", false },
	{ "downscript", false }, { "br", false },      { "vhost", false },  { "vhostforce", false },
	{ "queues", false },     { "vnet_hdr", true }, { "sndbuf", true },  { "poll-us", true },
};

static bool is_refusing(struct hf_cmdline *cmd, const struct hf_keyval *kv, const char *id)
{
	size_t before = cmd->problem_count;
	const char *v;

	for (size_t i = 0; i < sizeof(refused_keys) / sizeof(refused_keys[0]); i++) {
		v = hf_keyval_get(kv, refused_keys[i].key);
		if (v && !(refused_keys[i].harmless && is_equal(v, refused_keys[i].harmless)))
			hf_cmdline_problem(cmd, "netdev", id, "it cannot be held: %s",
					   refused_keys[i].reason);
	}
	return cmd->problem_count != before;
}

static bool has_unknown_key(struct hf_cmdline *cmd, const struct hf_keyval *kv, const char *id)
{
	size_t i;
	size_t k;

	for (i = 0; i < kv->count; i++) {
		for (k = 0; k < sizeof(known_keys) / sizeof(known_keys[0]); k++)
			if (is_equal(kv->pairs[i].key, known_keys[k].key))
				break;
		if (k == sizeof(known_keys) / sizeof(known_keys[0])) {
			hf_cmdline_problem(cmd, "netdev", id,
					   "it cannot be held: holdfast does not know "
					   "what '%s=' should do there",
					   kv->pairs[i].key);
			return true;
		}
		if (known_keys[k].is_left_out)
			hf_cmdline_note(cmd,
					"netdev '%s': %s=%s is left out: a held netdev has nothing "
					"like it",
					id, kv->pairs[i].key, kv->pairs[i].value);
	}
	return false;
}

static char *program_of(struct hf_cmdline *cmd, const char *value, const char *def)
{
	if (!value)
		value = def;
	if (!value || !*value || is_equal(value, "no"))
		return NULL;
	return hf_cmdline_dup(cmd, value);
}

static void fill_net(struct hf_cmdline *cmd, struct hf_cmdline_net *net, const struct hf_keyval *kv)
{
	bool is_bridge = is_equal(hf_keyval_get(kv, "type"), "bridge");
	const char *bridge = hf_keyval_get(kv, "br");
	const char *ifname = hf_keyval_get(kv, "ifname");
	/* With a bridge named there is nothing left for the default script to do. */
	bool has_default = !is_bridge && !bridge;

	if (is_bridge && !bridge)
		bridge = DEFAULT_BRIDGE;
	if (ifname)
		net->ifname = hf_cmdline_dup(cmd, ifname);
	if (bridge)
		net->bridge = hf_cmdline_dup(cmd, bridge);
	net->script = program_of(cmd, hf_keyval_get(kv, "script"),
				 has_default ? DEFAULT_SCRIPT : NULL);
	net->downscript = program_of(cmd, hf_keyval_get(kv, "downscript"),
				     has_default ? DEFAULT_DOWNSCRIPT : NULL);
}

static void hold(struct hf_cmdline *cmd, struct hf_cmdline_entry *e, const char *id)
{
	struct hf_cmdline_net *grown;
	struct hf_cmdline_net *net;

	if (cmd->net_count == HF_WIRE_NETDEVS_MAX) {
		hf_cmdline_problem(cmd, "option", "--hold-net",
				   "'%s' is one too many: up to %d netdevs can be held", id,
				   HF_WIRE_NETDEVS_MAX);
		return;
	}
	if (!hf_cmdline_is_valid_id(id)) {
		hf_cmdline_problem(cmd, "netdev", id,
				   "it cannot be held: QEMU does not take this id");
		return;
	}
	if (is_refusing(cmd, &e->kv, id) || has_unknown_key(cmd, &e->kv, id))
		return;
	grown = realloc(cmd->net, (cmd->net_count + 1) * sizeof(*grown));
	if (!grown) {
		cmd->has_failed = true;
		return;
	}
	cmd->net = grown;
	net = &grown[cmd->net_count];
	*net = (struct hf_cmdline_net){ .id = hf_cmdline_dup(cmd, id) };
	net->option = hf_cmdline_text(cmd, "%s %s", e->word, e->arg);
	fill_net(cmd, net, &e->kv);
	e->fate = HF_FATE_NET;
	e->net = cmd->net_count++;
	hf_cmdline_note(cmd,
			"%s %s: becomes -netdev stream,id=%s: holdfast opens the TAP%s%s and holds "
			"every frame until its epoch is safe",
			e->word, e->arg, id, net->ifname ? " " : "",
			net->ifname ? net->ifname : "");
}

static bool is_holdable(const char *type)
{
	return is_equal(type, "tap") || is_equal(type, "bridge");
}

static void check_netdev(struct hf_cmdline *cmd, struct hf_cmdline_entry *e, char *const *hold_net)
{
	const char *type = hf_keyval_get(&e->kv, "type");
	const char *id = hf_keyval_get(&e->kv, "id");
	bool is_wanted = id && is_listed(hold_net, id);

	/* A hub's port sends nothing by itself; what is behind it is a netdev of its own. */
	if (is_equal(type, "hubport") && !is_wanted)
		return;
	if (is_wanted && is_holdable(type))
		hold(cmd, e, id);
	else if (is_wanted)
		hf_cmdline_problem(cmd, "netdev", id,
				   "only netdevs of type tap and bridge can be held, "
				   "and this is of type %s",
				   type ? type : "(none)");
	else if (is_holdable(type))
		hf_cmdline_problem(
			cmd, "netdev", id ? id : "netdev",
			"its frames would leave before the "
			"standby has the state that sent them; hold them with --hold-net %s",
			id ? id : "ID");
	else
		hf_cmdline_problem(
			cmd, "netdev", id ? id : "netdev",
			"frames of type %s cannot be held, "
			"and its connections end in this host; use -netdev tap or bridge with "
			"--hold-net",
			type ? type : "(none)");
}

/* -nic and -net make backend and device in one, without an id that could be relied on. */
static void check_old_form(struct hf_cmdline *cmd, const struct hf_cmdline_entry *e, size_t number,
			   char *const *hold_net)
{
	const char *type = hf_keyval_get(&e->kv, "type");
	const char *given = hf_keyval_get(&e->kv, "id");
	bool is_nic = e->opt->kind == HF_OPT_NIC;
	char *made = given ? NULL : hf_cmdline_text(cmd, "%s%zu", e->opt->name, number);
	const char *id = given ? given : made;
	bool is_wanted = id && is_listed(hold_net, id);

	if (id && !is_equal(type, "none") && (is_nic || !is_equal(type, "nic")))
		hf_cmdline_problem(cmd, "netdev", id,
				   "'%s %s' cannot be held%s; write it as -netdev "
				   "%s,id=net0,... -device virtio-net-pci,netdev=net0,... and add "
				   "--hold-net net0",
				   e->word, e->arg, is_wanted ? " in this form" : "",
				   is_holdable(type) ? type : "tap");
	free(made);
}

static void check_old_forms(struct hf_cmdline *cmd, enum hf_cmdline_kind kind,
			    char *const *hold_net)
{
	size_t number = 0;

	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, kind, e)); number++)
		check_old_form(cmd, e, number, hold_net);
}

void hf_cmdline_check_nets(struct hf_cmdline *cmd, const struct hf_cmdline_want *want)
{
	for (struct hf_cmdline_entry *e = NULL; (e = hf_cmdline_next(cmd, HF_OPT_NETDEV, e));)
		check_netdev(cmd, e, want->hold_net);
	check_old_forms(cmd, HF_OPT_NIC, want->hold_net);
	check_old_forms(cmd, HF_OPT_NET, want->hold_net);
	if (!hf_cmdline_has(cmd, HF_OPT_NODEFAULTS) && !hf_cmdline_has(cmd, HF_OPT_NETDEV) &&
	    !hf_cmdline_has(cmd, HF_OPT_NIC) && !hf_cmdline_has(cmd, HF_OPT_NET))
		hf_cmdline_problem(
			cmd, "netdev", "default-nic",
			"without -netdev, -nic or -nodefaults QEMU "
			"adds a network card of its own, of type user, which cannot be held; "
			"add -nic none, or a -netdev tap with --hold-net");
}
