/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `holdfast lease acquire` and `holdfast lease await`: to own a lease, and run a command under it. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/host-call.h"
#include "cli/host-guard.h"
#include "cli/lease-show.h"
#include "codec/json.h"
#include "sys/rundir.h"

/* The page first: with its lock the daemon knows, also the next one, that something may run here. */
static int open_host(const char *verb, const struct hf_host_options *o, struct hf_client *c,
		     struct hf_lease_page **page)
{
	char path[PATH_MAX];
	struct hf_err err = { "" };
	int r = hf_client_open(o->run_dir, HF_RUNDIR_HOST, c, &err);

	if (r < 0)
		return hf_host_complain(verb, c, r, &err);
	(void)snprintf(path, sizeof(path), "%s/" HF_RUNDIR_HOST "/" HF_LEASE_PAGE_FILE, o->run_dir);
	r = hf_lease_page_open(path, page, &err);
	if (r == 0)
		return 0;
	hf_client_close(c);
	r = hf_host_complain(verb, c, r, &err);
	return r ? r : HF_LEASE_EXIT_FAILED;
}

/* One call on the connection that is to own the lease. Return: an exit status, told if not 0. */
static int ask(const char *verb, struct hf_client *c, const char *method, struct json_object *p,
	       struct json_object **ret)
{
	struct hf_err err = { "" };
	int r = hf_client_call(c, method, p, /* is_more= */ false, &err);

	json_object_put(p);
	if (!r)
		r = hf_client_reply(c, ret, &err);
	return r < 0 ? hf_host_complain(verb, c, r, &err) : 0;
}

static int run_owned(const char *verb, const struct hf_host_options *o, struct hf_client *c,
		     const struct hf_lease_page *page, struct json_object *owned)
{
	struct hf_guard_job job = {
		.run_dir = o->run_dir, .vm = o->vm, .command = o->command, .client = c, .page = page
	};
	struct hf_err err;
	int r = hf_json_u64(owned, "lver", &job.lver, &err);

	if (!r)
		r = hf_json_u64(owned, "tenure", &job.tenure, &err);
	json_object_put(owned);
	return r < 0 ? hf_host_complain(verb, c, r, &err) : hf_guard_run(&job);
}

int hf_host_acquire_run(int argc, char **argv)
{
	static const char verb[] = "lease acquire";
	struct json_object *owned = NULL;
	struct hf_lease_page *page = NULL;
	struct hf_host_options o;
	struct json_object *p;
	struct hf_client c;
	int r = hf_host_parse(verb, argc, argv, "wc", true, true, &o);

	if (r)
		return r > 0 ? -1 : HF_LEASE_EXIT_USAGE;
	r = open_host(verb, &o, &c, &page);
	if (r)
		return r;
	p = hf_host_about(&o);
	json_object_object_add(p, "create", json_object_new_boolean(o.is_creating));
	json_object_object_add(p, "wait_ms",
			       json_object_new_uint64(o.wait_ms == UINT64_MAX ? 0 : o.wait_ms));
	r = ask(verb, &c, "Acquire", p, &owned);
	if (!r)
		r = run_owned(verb, &o, &c, page, owned);
	hf_client_close(&c);
	hf_lease_page_close(page);
	return r;
}

/* What the other host's `lease transfer` has to be told. */
static int tell_prepared(const struct hf_host_options *o, struct json_object *prepared)
{
	struct hf_err err;
	uint64_t generation;
	uint64_t id;

	if (hf_json_u64(prepared, "host_id", &id, &err) < 0 ||
	    hf_json_u64(prepared, "generation", &generation, &err) < 0) {
		(void)fprintf(stderr, "holdfast lease await: %s\n", err.text);
		return HF_LEASE_EXIT_FAILED;
	}
	if (o->is_json)
		puts(json_object_to_json_string_ext(prepared, JSON_C_TO_STRING_PLAIN));
	else
		printf("ready: holdfast lease transfer %s --to %" PRIu64 " --generation %" PRIu64
		       "\n",
		       o->vm, id, generation);
	(void)fflush(stdout);
	return 0;
}

int hf_host_await_run(int argc, char **argv)
{
	static const char verb[] = "lease await";
	struct json_object *prepared = NULL;
	struct json_object *owned = NULL;
	struct hf_lease_page *page = NULL;
	struct hf_host_options o;
	struct json_object *p;
	struct hf_client c;
	uint64_t tenure;
	int r = hf_host_parse(verb, argc, argv, "tj", true, true, &o);

	if (r)
		return r > 0 ? -1 : HF_LEASE_EXIT_USAGE;
	r = open_host(verb, &o, &c, &page);
	if (r)
		return r;
	r = ask(verb, &c, "Prepare", hf_host_about(&o), &prepared);
	if (!r)
		r = tell_prepared(&o, prepared);
	p = hf_host_about(&o);
	if (!r && hf_json_u64(prepared, "tenure", &tenure, NULL) == 0)
		json_object_object_add(p, "tenure", json_object_new_uint64(tenure));
	json_object_put(prepared);
	if (o.wait_ms != UINT64_MAX)
		json_object_object_add(p, "timeout_ms", json_object_new_uint64(o.wait_ms));
	if (r)
		json_object_put(p);
	else
		r = ask(verb, &c, "Await", p, &owned);
	if (!r)
		r = run_owned(verb, &o, &c, page, owned);
	hf_client_close(&c);
	hf_lease_page_close(page);
	return r;
}
