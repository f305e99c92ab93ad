/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/exit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct meaning {
	const char *name;
	int code;
};

/* Last parts of names of errors, of any interface. */
static const struct meaning errors[] = {
	{ "NotPossible", HF_EXIT_REFUSED },
	{ "NoVm", HF_EXIT_NOT_THERE },
	{ "NoStorage", HF_EXIT_STORAGE },
	{ "NotMember", HF_EXIT_STORAGE },
	{ "Owned", HF_EXIT_OWNED },
	{ "Lost", HF_EXIT_LEASE_LOST },
	{ "PermissionDenied", HF_EXIT_NO_PERMISSION },
	{ "TimedOut", HF_EXIT_TIMED_OUT },
};

static const struct meaning states[] = {
	{ "running", HF_EXIT_DONE },         { "migrating", HF_EXIT_DONE },
	{ "shut-off", HF_EXIT_NOT_THERE },   { "starting", HF_EXIT_IS_STARTING },
	{ "incoming", HF_EXIT_IS_STARTING }, { "paused", HF_EXIT_IS_PAUSED },
	{ "standby", HF_EXIT_IS_STANDBY },   { "freezing", HF_EXIT_IS_FREEZING },
	{ "frozen", HF_EXIT_IS_FROZEN },     { "saved", HF_EXIT_IS_SAVED },
	{ "crashed", HF_EXIT_IS_BROKEN },    { "failed", HF_EXIT_IS_BROKEN },
};

static int find(const struct meaning *table, size_t n, const char *name, int def)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].code;
	return def;
}

int hf_exit_of(int r, const struct hf_client *c)
{
	switch (r) {
	case 0:
		return HF_EXIT_DONE;
	case -ESRCH:
	case -ENOENT:
		return HF_EXIT_NOT_THERE;
	case -EACCES:
	case -EPERM:
		return HF_EXIT_NO_PERMISSION;
	case -ETIMEDOUT:
	case -EINPROGRESS:
		return HF_EXIT_TIMED_OUT;
	case -EREMOTE:
		return find(errors, sizeof(errors) / sizeof(errors[0]), c ? c->error : "",
			    HF_EXIT_FAILED);
	default:
		return HF_EXIT_FAILED;
	}
}

int hf_exit_of_state(const char *state)
{
	return find(states, sizeof(states) / sizeof(states[0]), state, HF_EXIT_TIMED_OUT);
}

int hf_exit_complain(const char *verb, int code, const struct hf_err *err)
{
	(void)fprintf(stderr, "holdfast %s: %s\n", verb, err->text);
	return code;
}

int hf_exit_refuse_option(const char *verb, const char *word, int c)
{
	(void)fprintf(stderr, "holdfast %s: %s: %s\n", verb, word,
		      c == ':' ? "needs a value" : "no such option");
	return HF_EXIT_USAGE;
}
