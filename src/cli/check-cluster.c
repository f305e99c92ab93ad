/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/check-cluster.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/capture.h"
#include "cli/gather.h"
#include "cli/look-verbs.h"
#include "cli/rows.h"
#include "clustercheck/rules.h"
#include "clustercheck/surroundings.h"
#include "codec/json.h"

#define VERB "check-cluster"
#define TIMEOUT_NS (20 * HF_VERB_SECOND)
#define ASK_NS (2 * HF_VERB_SECOND) /* what holdfastd and the keepers get of it */
#define DIFFERING_MAX 1024
#define DAEMONS_FILE "/etc/holdfast/holdfastd.conf"

struct options {
	struct hf_verb_options o; /* run_dir, vms_dir, deadline */
	const char *cib; /* NULL: of the cluster that this host belongs to */
	bool has_vms_dir, is_strict;
};

/* All that is looked at, with what it points to. */
struct world {
	struct hf_cib cib;
	struct hf_definition *definitions;
	struct hf_corosync corosync;
	struct hf_clustercheck_host host;
	struct hf_gather g;
	const char *differing[DIFFERING_MAX];
	struct hf_findings found;
	struct hf_clustercheck check;
	bool is_asked; /* @g is filled */
};

static const struct option long_options[] = {
	{ "cib", required_argument, NULL, 'c' },     { "json", no_argument, NULL, 'j' },
	{ "strict", no_argument, NULL, 's' },        { "vms", required_argument, NULL, 'V' },
	{ "run-dir", required_argument, NULL, 'r' }, { "timeout", required_argument, NULL, 't' },
	{ "help", no_argument, NULL, 'h' },          { 0 },
};

/* ---- the command line ---- */

static int take_timeout(const char *text, uint64_t *ret_ns)
{
	char seconds[32];
	struct hf_err err;

	(void)snprintf(seconds, sizeof(seconds), "%.20s%s", text,
		       strspn(text, "0123456789") == strlen(text) ? "s" : "");
	if (hf_parse_duration_ns(seconds, ret_ns, &err) == 0 && *ret_ns > 0 &&
	    *ret_ns <= 3600 * HF_VERB_SECOND)
		return 0;
	hf_err_set(&err, "--timeout: '%.20s' is no time up to an hour", text);
	return hf_exit_complain(VERB, HF_EXIT_USAGE, &err);
}

static int take_option(struct options *o, int option)
{
	switch (option) {
	case 'c':
		o->cib = optarg;
		return 0;
	case 'j':
		o->o.is_json = true;
		return 0;
	case 's':
		o->is_strict = true;
		return 0;
	case 'V':
		o->o.vms_dir = optarg;
		o->has_vms_dir = true;
		return 0;
	case 'r':
		o->o.run_dir = optarg;
		return 0;
	default:
		return take_timeout(optarg, &o->o.timeout_ns);
	}
}

/* 0; -1: help; else an exit status. */
static int parse(int argc, char **argv, struct options *ret)
{
	struct hf_err err;
	int option, r;

	hf_verb_defaults(&ret->o);
	ret->o.verb = VERB;
	ret->o.timeout_ns = TIMEOUT_NS;
	optind = 0;
	while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (option == 'h')
			return -1;
		if (option == '?' || option == ':')
			return hf_exit_refuse_option(VERB, argv[optind - 1], option);
		r = take_option(ret, option);
		if (r)
			return r;
	}
	if (optind < argc) {
		hf_err_set(&err, "one argument too many: '%.60s'", argv[optind]);
		return hf_exit_complain(VERB, HF_EXIT_USAGE, &err);
	}
	ret->o.deadline_ns = hf_client_now_ns() + ret->o.timeout_ns;
	return 0;
}

/* ---- what is looked at ---- */

static int complain_unread(int r, const struct hf_err *err)
{
	return hf_exit_complain(VERB, r == -ETIMEDOUT ? HF_EXIT_TIMED_OUT : HF_EXIT_NOT_THERE, err);
}

static int read_cib(const struct options *o, struct hf_cib *ret)
{
	char *argv[] = { (char[]){ "cibadmin" }, (char[]){ "--query" }, NULL };
	struct hf_err err = { "" };
	char *text;
	size_t len;
	int r;

	if (o->cib)
		r = hf_capture_file(o->cib, HF_CIB_BYTES_MAX, o->o.deadline_ns, &text, &len, &err);
	else
		r = hf_capture_program(argv, HF_CIB_BYTES_MAX, o->o.deadline_ns, &text, &len, &err);
	if (r < 0)
		return complain_unread(r, &err);
	r = hf_cib_parse(text, len, ret, &err);
	free(text);
	if (r == 0)
		return 0;
	if (!err.text[0])
		hf_err_set(&err, "%s", strerror(-r));
	hf_err_prefix(&err, "%.200s: ", o->cib ? o->cib : "cibadmin --query");
	return complain_unread(r, &err);
}

static int read_definitions(const struct options *o, struct world *w)
{
	struct hf_clustercheck *c = &w->check;
	struct hf_err err;
	int r;

	c->vms_dir = o->o.vms_dir;
	if (o->cib && !o->has_vms_dir)
		return 0;
	r = hf_definitions_read(o->o.vms_dir, &w->definitions, &c->n_definitions, &err);
	if (r == 0) {
		c->definitions = w->definitions;
		return 0;
	}
	return hf_exit_complain(VERB, HF_EXIT_NOT_THERE, &err);
}

static void take_differing(struct world *w)
{
	struct json_object *vms = w->g.vms;

	for (size_t i = 0; vms && i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);

		if (hf_rows_is_set(vm, "definitions_differ") && w->host.n_differing < DIFFERING_MAX)
			w->differing[w->host.n_differing++] = hf_rows_text(vm, "vm");
	}
	w->host.differing = w->differing;
}

static void take_lease(struct world *w)
{
	struct json_object *hosts = w->g.hosts;

	for (size_t i = 0; hosts && i < json_object_array_length(hosts); i++) {
		struct json_object *h = json_object_array_get_idx(hosts, i);
		int64_t ms = hf_rows_number(h, "dead_after_ms");

		if (ms > 0 && (uint64_t)ms > w->host.dead_after_ms)
			w->host.dead_after_ms = (uint64_t)ms;
	}
}

static void ask_host(const struct options *o, struct world *w)
{
	struct hf_verb_options asking = o->o;
	uint64_t soon = hf_client_now_ns() + ASK_NS;

	if (soon < asking.deadline_ns)
		asking.deadline_ns = soon;
	asking.timeout_ns = ASK_NS;
	hf_gather_all(&asking, NULL, /* is_whole= */ true, &w->g);
	w->is_asked = true;
	w->host.name = w->g.host_name[0] && w->g.host ? w->g.host_name : NULL;
	w->host.daemon = hf_gather_daemon_name(w->g.daemon);
	w->host.is_fencing_ignored = hf_daemon_ignores_fencing(DAEMONS_FILE);
	take_differing(w);
	take_lease(w);
	w->check.host = &w->host;
	if (hf_corosync_read(HF_COROSYNC_FILE, &w->corosync, NULL) == 0)
		w->check.corosync = &w->corosync;
}

/* ---- what is said ---- */

static void add_text(struct json_object *o, const char *key, const char *text)
{
	if (text[0])
		hf_json_add_str(o, key, text);
}

static struct json_object *finding_json(const struct hf_finding *f)
{
	struct json_object *o = json_object_new_object(), *mend = json_object_new_object();

	hf_json_add_str(o, "severity", hf_found_name(f->severity));
	hf_json_add_str(o, "code", f->code);
	hf_json_add_str(o, "where", f->where);
	add_text(o, "resource", f->resource);
	add_text(o, "vm", f->vm);
	hf_json_add_str(o, "what", f->what);
	add_text(mend, "crm", f->crm);
	add_text(mend, "pcs", f->pcs);
	add_text(mend, "text", f->mend);
	json_object_object_add(o, "mend", mend);
	return o;
}

static void print_json(const struct world *w)
{
	const struct hf_findings *f = &w->found;
	struct json_object *all = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < f->n; i++)
		json_object_array_add(list, finding_json(&f->v[i]));
	hf_json_add_u64(all, "resources", w->check.n_vms);
	hf_json_add_u64(all, "errors", f->count[HF_FOUND_ERROR]);
	hf_json_add_u64(all, "warnings", f->count[HF_FOUND_WARNING]);
	hf_json_add_u64(all, "notes", f->count[HF_FOUND_NOTE]);
	hf_json_add_u64(all, "left_out", f->n_left_out);
	json_object_object_add(all, "findings", list);
	hf_look_print_json(all);
	json_object_put(all);
}

static void print_finding(const struct hf_finding *f)
{
	printf("%s: %s%s%s: %s [%s]\n", hf_found_name(f->severity), f->vm, f->vm[0] ? ": " : "",
	       f->where, f->what, f->code);
	if (f->crm[0])
		printf("    %s\n", f->crm);
	if (f->pcs[0])
		printf("    %s\n", f->pcs);
	if (f->mend[0])
		printf("    %s\n", f->mend);
}

static const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

static void print_text(const struct world *w)
{
	const struct hf_findings *f = &w->found;
	const size_t *n = f->count;

	for (size_t i = 0; i < f->n; i++)
		print_finding(&f->v[i]);
	if (f->n_left_out)
		printf("and %zu more\n", f->n_left_out);
	printf("%zu resource%s of ocf:holdfast:vm: %zu error%s, %zu warning%s, %zu note%s\n",
	       w->check.n_vms, plural(w->check.n_vms), n[HF_FOUND_ERROR], plural(n[HF_FOUND_ERROR]),
	       n[HF_FOUND_WARNING], plural(n[HF_FOUND_WARNING]), n[HF_FOUND_NOTE],
	       plural(n[HF_FOUND_NOTE]));
}

static int tell(const struct options *o, struct world *w)
{
	const size_t *n = w->found.count;

	if (o->o.is_json)
		print_json(w);
	else
		print_text(w);
	return n[HF_FOUND_ERROR] || (o->is_strict && n[HF_FOUND_WARNING]) ? HF_EXIT_FAILED
									  : HF_EXIT_DONE;
}

static int look(const struct options *o, struct world *w)
{
	struct hf_err err;
	int r = read_cib(o, &w->cib);

	if (!r)
		r = read_definitions(o, w);
	if (r)
		return r;
	if (!o->cib)
		ask_host(o, w);
	w->check.cib = &w->cib;
	w->check.found = &w->found;
	r = hf_clustercheck_run(&w->check);
	if (r == 0)
		return tell(o, w);
	if (r == -E2BIG)
		hf_err_set(&err, "more than %d resources of one kind", HF_CIB_VMS_MAX);
	else
		hf_err_set(&err, "%s", strerror(-r));
	return hf_exit_complain(VERB, HF_EXIT_FAILED, &err);
}

int hf_check_cluster_command(int argc, char **argv)
{
	struct options o = { .cib = NULL };
	struct world *w;
	int r = parse(argc, argv, &o);

	if (r)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return HF_EXIT_FAILED;
	r = look(&o, w);
	hf_clustercheck_fini(&w->check);
	hf_findings_fini(&w->found);
	hf_cib_fini(&w->cib);
	free(w->definitions);
	if (w->is_asked)
		hf_gather_fini(&w->g);
	free(w);
	return r;
}
