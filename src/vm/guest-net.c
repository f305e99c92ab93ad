/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host's side of the held netdevs: what QEMU would have done for `-netdev tap` and `-netdev
 * bridge`, done by holdfast, because QEMU now only has a socket.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sys/fd.h"
#include "vm/guest-internal.h"

#define SCRIPT_TIMEOUT_MS 30000

/* Room for what the guest sends while the keeper is busy. When it is used up QEMU keeps one frame in
 * a queue of its own, and what is there when the VM stops QEMU throws away (net.c: flush or purge). */
#define QEMU_SEND_BUFFER_BYTES (512 << 10)

/* Names to try for an interface without one; as many as a host could sensibly have. */
#define FREE_NAMES_MAX 4096

/* The first free tapN, as the kernel would choose it. Another may take it first: then the next. */
static int open_free_tap(struct hf_tap *ret, struct hf_err *err)
{
	char name[IFNAMSIZ];
	int r;

	for (unsigned int i = 0; i < FREE_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "tap%u", i);
		if (if_nametoindex(name) != 0)
			continue;
		r = hf_tap_open(name, ret, err);
		if (r != -EBUSY)
			return r;
	}
	hf_err_set(err, "no free name for a TAP interface: tap0 to tap%d exist",
		   FREE_NAMES_MAX - 1);
	return -EBUSY;
}

/* The order of QEMU: the script gets an interface that exists, and may do with it as it likes. */
static int bring_up(struct hf_guest_net *net, const struct hf_cmdline_net *from, struct hf_err *err)
{
	int r = 0;

	if (from->downscript) {
		net->downscript = strdup(from->downscript);
		if (!net->downscript)
			return -ENOMEM;
	}
	if (from->bridge)
		r = hf_tap_join_bridge(&net->tap, from->bridge, err);
	if (r == 0 && from->script)
		r = hf_tap_run_script(&net->tap, from->script, SCRIPT_TIMEOUT_MS, err);
	return r == 0 ? hf_tap_set_up(&net->tap, err) : r;
}

static int connect_tap(struct hf_guest_net *net, const struct hf_guest_config *config, int *ret_fd,
		       struct hf_err *err)
{
	struct hf_nettap_config tap = {
		.tap_fd = net->tap.fd,
		.limit_bytes = config->net_limit_bytes,
		.mode = config->is_standby ? HF_NETTAP_STANDBY : HF_NETTAP_HOLD,
		.on_first_held = config->on_first_held,
		.on_over_limit = config->on_over_limit,
		.may_send = config->may_send,
		.ctx = config->ctx,
	};
	int size = QEMU_SEND_BUFFER_BYTES;
	int pair[2], r;

	r = hf_fd_pair(SOCK_STREAM, pair);
	if (r < 0)
		return r;
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	tap.qemu_fd = pair[0];
	r = hf_nettap_new(&tap, &net->nettap, err);
	if (r < 0) {
		hf_fd_close(&pair[0]);
		hf_fd_close(&pair[1]);
		return r;
	}
	net->tap.fd = -1;
	*ret_fd = pair[1];
	return 0;
}

static int open_net(struct hf_guest_net *net, const struct hf_cmdline_net *from,
		    const struct hf_guest_config *config, int *ret_fd, struct hf_err *err)
{
	int r;

	net->id = strdup(from->id);
	if (!net->id)
		return -ENOMEM;
	r = from->ifname ? hf_tap_open(from->ifname, &net->tap, err)
			 : open_free_tap(&net->tap, err);
	if (r == 0)
		r = bring_up(net, from, err);
	if (r == 0)
		r = connect_tap(net, config, ret_fd, err);
	return r;
}

int hf_guest_nets_open(struct hf_guest *g, const struct hf_guest_config *config, int *ret_fds,
		       struct hf_err *err)
{
	const struct hf_cmdline *cmd = config->cmdline;
	struct hf_err own;
	int r = 0;

	g->net = calloc(cmd->net_count + 1, sizeof(*g->net)); /* one more: none may be NULL */
	if (!g->net)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < cmd->net_count; i++) {
		own.text[0] = '\0';
		g->net[i].tap = HF_TAP_NONE;
		g->net_count = i + 1;
		r = open_net(&g->net[i], &cmd->net[i], config, &ret_fds[i], &own);
		if (r < 0)
			hf_err_set(err, "netdev '%.64s': %s", cmd->net[i].id,
				   own.text[0] ? own.text : strerror(-r));
	}
	return r;
}

/* As at QEMU's end: the script runs while the interface still exists. Nobody could do anything
 * about a script that fails now. */
static void close_net(struct hf_guest_net *net)
{
	struct hf_err err;

	if (net->downscript)
		(void)!hf_tap_run_script(&net->tap, net->downscript, SCRIPT_TIMEOUT_MS, &err);
	hf_nettap_free(net->nettap);
	hf_tap_close(&net->tap);
	free(net->downscript);
	free(net->id);
}

void hf_guest_nets_close(struct hf_guest *g)
{
	hf_guest_remove_nets(g);
	for (size_t i = 0; i < g->net_count + g->cut_count; i++)
		close_net(&g->net[i]);
	free(g->net);
	g->net = NULL;
	g->net_count = g->cut_count = 0;
}

void hf_guest_cut_nets(struct hf_guest *g)
{
	for (size_t i = 0; i < g->net_count; i++) {
		g->net[i].is_detached = hf_tap_detach(hf_nettap_tap_fd(g->net[i].nettap)) == 1;
		hf_nettap_free(g->net[i].nettap);
		g->net[i].nettap = NULL;
	}
	g->cut_count += g->net_count;
	g->net_count = 0;
}

void hf_guest_remove_nets(struct hf_guest *g)
{
	struct hf_err err;

	for (size_t i = 0; i < g->cut_count; i++) {
		struct hf_guest_net *net = &g->net[i];

		if (net->downscript)
			(void)!hf_tap_run_script(&net->tap, net->downscript, SCRIPT_TIMEOUT_MS,
						 &err);
		free(net->downscript);
		net->downscript = NULL;
		if (net->is_detached)
			hf_tap_remove(net->tap.name);
		net->is_detached = false;
	}
}
