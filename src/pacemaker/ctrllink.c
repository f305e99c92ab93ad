/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pacemaker/ctrllink.h"

#include <crm/common/ipc_controld.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pacemaker/pcmk.h"
#include "service/loop.h"

struct hf_ctrllink {
	pcmk_ipc_api_t *api;
	char node[HF_CTRLLINK_NODE_MAX + 1];
	unsigned int n_replies; /* since the last call */
};

static void on_event(pcmk_ipc_api_t *api __attribute__((unused)), enum pcmk_ipc_event event,
		     crm_exit_t status, void *data, void *user)
{
	const pcmk_controld_api_reply_t *reply = data;
	struct hf_ctrllink *l = user;

	if (event != pcmk_ipc_event_reply)
		return;
	l->n_replies++;
	if (status != CRM_EX_OK || !reply || reply->reply_type != pcmk_controld_reply_info ||
	    !reply->data.node_info.uname)
		return;
	(void)snprintf(l->node, sizeof(l->node), "%s", reply->data.node_info.uname);
}

/* For the reply to the only call that is under way. */
static int wait_for_reply(struct hf_ctrllink *l)
{
	uint64_t until_ns = hf_now_ns() + HF_PCMK_ANSWER_MS * 1000000ull;
	uint64_t now_ns;

	while (!l->n_replies) {
		now_ns = hf_now_ns();
		if (now_ns >= until_ns)
			return -ETIMEDOUT;
		if (!pcmk_ipc_is_connected(l->api))
			return -ENOTCONN;
		if (pcmk_poll_ipc(l->api, (int)((until_ns - now_ns) / 1000000) + 1) == 0)
			pcmk_dispatch_ipc(l->api);
	}
	return 0;
}

/* @rc: how sending it went. */
static int finish(struct hf_ctrllink *l, int rc)
{
	int r = rc == 0 ? wait_for_reply(l) : -ENOTCONN;

	hf_pcmk_end();
	return r;
}

static void begin(struct hf_ctrllink *l)
{
	hf_pcmk_begin();
	l->n_replies = 0;
}

static int meet(struct hf_ctrllink *l)
{
	int r;

	begin(l);
	if (pcmk_new_ipc_api(&l->api, pcmk_ipc_controld) != 0) {
		hf_pcmk_end();
		return -ENOMEM;
	}
	pcmk_register_ipc_callback(l->api, on_event, l);
	r = pcmk_connect_ipc(l->api, pcmk_ipc_dispatch_poll);
	if (r == 0)
		r = pcmk_controld_api_node_info(l->api, 0);
	r = finish(l, r);
	return !r && !l->node[0] ? -EPROTO : r;
}

int hf_ctrllink_open(struct hf_ctrllink **ret)
{
	struct hf_ctrllink *l = calloc(1, sizeof(*l));
	int r = l ? meet(l) : -ENOMEM;

	if (r < 0)
		hf_ctrllink_close(l);
	else
		*ret = l;
	return r;
}

void hf_ctrllink_close(struct hf_ctrllink *l)
{
	if (!l)
		return;
	if (l->api) {
		pcmk_register_ipc_callback(l->api, NULL, NULL);
		pcmk_disconnect_ipc(l->api);
		pcmk_free_ipc_api(l->api);
	}
	free(l);
}

const char *hf_ctrllink_node(const struct hf_ctrllink *l)
{
	return l->node;
}

int hf_ctrllink_take(struct hf_ctrllink *l)
{
	hf_pcmk_begin();
	if (pcmk_poll_ipc(l->api, 0) == 0)
		pcmk_dispatch_ipc(l->api);
	hf_pcmk_end();
	return pcmk_ipc_is_connected(l->api) ? 0 : -ENOTCONN;
}

static const char *other_name(const char *resource, const char *instance)
{
	return instance[0] && strcmp(resource, instance) != 0 ? instance : NULL;
}

int hf_ctrllink_fail(struct hf_ctrllink *l, const char *resource, const char *instance)
{
	begin(l);
	return finish(l, pcmk_controld_api_fail(l->api, l->node, NULL, resource,
						other_name(resource, instance), "ocf", "holdfast",
						"vm"));
}

int hf_ctrllink_refresh(struct hf_ctrllink *l, const char *resource, const char *instance)
{
	begin(l);
	return finish(l, pcmk_controld_api_refresh(l->api, l->node, NULL, resource,
						   other_name(resource, instance), "ocf",
						   "holdfast", "vm", false));
}
