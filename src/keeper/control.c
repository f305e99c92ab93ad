/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/control.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/json.h"
#include "service/eventfeed.h"
#include "service/varlink-server.h"
#include "service/varlink-texts.h"

#define INTERFACE "org.holdfast.Keeper"

struct hf_control {
	const struct hf_control_ops *ops;
	void *ctx;
	struct hf_eventfeed *events;
	struct hf_varlink_server *server;
};

static void do_status(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *parameters __attribute__((unused)))
{
	struct hf_control *c = ctx;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "status", c->ops->status(c->ctx));
	hf_varlink_done(rq, o);
}

static void do_events(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	hf_eventfeed_follow(c->events, rq, parameters);
}

static void finish(struct hf_varlink_request *rq, int result, const struct hf_err *err)
{
	if (result < 0)
		hf_varlink_refuse(rq, INTERFACE ".NotPossible", err->text);
	else
		hf_varlink_done(rq, NULL);
}

static void do_order(struct hf_control *c, struct hf_varlink_request *rq,
		     const struct json_object *parameters,
		     int (*order)(void *ctx, bool is_forced, struct hf_err *err))
{
	struct hf_err err = { "" };
	bool is_forced = false;

	if (hf_json_has(parameters, "force") &&
	    hf_json_bool(parameters, "force", &is_forced, &err) < 0)
		hf_varlink_invalid(rq, &err);
	else
		finish(rq, order(c->ctx, is_forced, &err), &err);
}

static void do_promote(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	do_order(c, rq, parameters, c->ops->promote);
}

static void do_stop(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	do_order(c, rq, parameters, c->ops->stop);
}

static void do_resume(void *ctx, struct hf_varlink_request *rq,
		      struct json_object *parameters __attribute__((unused)))
{
	struct hf_control *c = ctx;
	struct hf_err err = { "" };
	int r = c->ops->resume(c->ctx, &err);

	finish(rq, r, &err);
}

static void do_pause(void *ctx, struct hf_varlink_request *rq,
		     struct json_object *parameters __attribute__((unused)))
{
	struct hf_control *c = ctx;
	struct hf_err err = { "" };
	int r = c->ops->pause(c->ctx, &err);

	finish(rq, r, &err);
}

static void do_freeze(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->freeze(c->ctx, rq, parameters);
}

static void do_release(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->release(c->ctx, rq, parameters);
}

static void do_offload(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->offload(c->ctx, rq, parameters);
}

static void do_save(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->save(c->ctx, rq, parameters);
}

static void do_dump(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->dump(c->ctx, rq, parameters);
}

static void do_hand_over(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->hand_over(c->ctx, rq, parameters);
}

static void do_peer_died(void *ctx, struct hf_varlink_request *rq, struct json_object *parameters)
{
	struct hf_control *c = ctx;

	c->ops->peer_died(c->ctx, rq, parameters);
}

static const struct hf_varlink_entry methods[] = {
	{ .name = INTERFACE ".Status", .call = do_status, .is_looking = true },
	{ .name = INTERFACE ".Events", .call = do_events, .is_looking = true, .needs_more = true },
	{ .name = INTERFACE ".Promote", .call = do_promote },
	{ .name = INTERFACE ".HandOver", .call = do_hand_over },
	{ .name = INTERFACE ".PeerDied", .call = do_peer_died },
	{ .name = INTERFACE ".Stop", .call = do_stop },
	{ .name = INTERFACE ".Resume", .call = do_resume },
	{ .name = INTERFACE ".Pause", .call = do_pause },
	{ .name = INTERFACE ".Freeze", .call = do_freeze },
	{ .name = INTERFACE ".Release", .call = do_release },
	{ .name = INTERFACE ".Offload", .call = do_offload },
	{ .name = INTERFACE ".Save", .call = do_save },
	{ .name = INTERFACE ".Dump", .call = do_dump },
};

static const struct hf_varlink_interface interfaces[] = {
	{ "org.varlink.service", hf_varlink_text_service },
	{ INTERFACE, hf_varlink_text_keeper },
};

static const struct hf_varlink_service service = {
	.methods = methods,
	.n_methods = sizeof(methods) / sizeof(methods[0]),
	.clients_max = HF_CONTROL_CLIENTS_MAX,
	.interfaces = interfaces,
	.n_interfaces = sizeof(interfaces) / sizeof(interfaces[0]),
};

int hf_control_new(struct hf_loop *loop, int listen_fd, struct hf_journal *journal,
		   const struct hf_control_ops *ops, void *ctx, struct hf_control **ret)
{
	struct hf_control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->ops = ops;
	c->ctx = ctx;
	r = hf_eventfeed_new(journal, &c->events);
	if (!r)
		r = hf_varlink_server_new(loop, listen_fd, journal, &service, c, &c->server);
	if (r < 0) {
		hf_control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void hf_control_free(struct hf_control *c)
{
	if (!c)
		return;
	hf_varlink_server_free(c->server);
	hf_eventfeed_free(c->events);
	free(c);
}
