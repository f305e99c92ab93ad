/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* holdfast save: the VM's state into files, from which `holdfast start` resumes it. The keeper does it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "cli/exam.h"
#include "cli/exit.h"
#include "cli/order-verbs.h"
#include "cli/verb.h"

/* It is saved when the keeper says so, and ended when the keeper has. */
static void await_end(struct hf_client *c)
{
	struct json_object *reply = NULL;
	struct hf_err err;

	while (hf_client_reply(c, &reply, &err) == 0) {
		json_object_put(reply);
		reply = NULL;
	}
}

static int save(const char *run_dir, const char *vm, const char *manager)
{
	struct hf_err err = { "" };
	struct hf_client c;
	int r = hf_client_open(run_dir, vm, &c, &err);

	if (r < 0)
		return hf_exit_complain("save", hf_exit_of(r, NULL), &err);
	r = hf_order_check_manager("save", run_dir, vm, manager);
	if (r) {
		hf_client_close(&c);
		return r;
	}
	r = hf_client_call(&c, "Save", NULL, /* is_more= */ true, &err);
	if (!r)
		r = hf_exam_follow(&c, "saving", &err);
	if (!r)
		await_end(&c);
	r = r ? hf_exit_complain("save", hf_exit_of(r, &c), &err) : HF_EXIT_DONE;
	hf_client_close(&c);
	return r;
}

int hf_exam_save(int argc, char **argv)
{
	static const struct option table[] = {
		{ "run-dir", required_argument, NULL, 'r' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "manager", required_argument, NULL, 'M' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct hf_verb_options o;
	struct hf_instance instance;
	struct hf_err err = { "" };
	int c;

	hf_verb_defaults(&o);
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (c == 'h')
			return -1;
		if (c == 's') /* for the sake of scripts: it is the keeper that knows */
			continue;
		if (c == 'M')
			o.manager = optarg;
		else if (c == 'r')
			o.run_dir = optarg;
		else
			return hf_exit_refuse_option("save", argv[optind - 1], c);
	}
	if (argc - optind != 1) {
		(void)fprintf(stderr, "holdfast save: the name of a VM is wanted\n");
		return HF_EXIT_USAGE;
	}
	if (hf_instance_parse(argv[optind], &instance, &err) < 0)
		return hf_exit_complain("save", HF_EXIT_USAGE, &err);
	if (instance.id[0]) {
		hf_err_set(&err, "%s is frozen: it is kept already, and can never run again",
			   argv[optind]);
		return hf_exit_complain("save", HF_EXIT_REFUSED, &err);
	}
	return save(o.run_dir, instance.vm, o.manager);
}
