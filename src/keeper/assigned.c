/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/assigned.h"

#include <errno.h>
#include <stdlib.h>

#include "keeper/keeper.h"
#include "vm/assignment.h"

static bool is_still(const struct hf_keeper *k, enum hf_place_assigned place)
{
	if (k->set->role == HF_ROLE_STANDBY)
		return place != HF_ASSIGNED_NONE;
	return place == HF_ASSIGNED_RUN;
}

/* Beside what the manager knows of, it would be a second one. */
int hf_assigned_check_order(const struct hf_keeper *k, struct hf_err *err)
{
	if (k->set->manager == HF_MANAGER_NONE || k->set->is_managers_order ||
	    getenv(HF_ASSIGNED_ENVIRONMENT))
		return 0;
	hf_err_set(err,
		   "not started: '%s' is managed by pacemaker: use crm or pcs, or "
		   "--manager pacemaker",
		   k->name);
	return -EPERM;
}

int hf_assigned_check(const struct hf_keeper *k, struct hf_err *err)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_NONE };
	struct hf_err why = { "" };

	if (!getenv(HF_ASSIGNED_ENVIRONMENT))
		return 0;
	(void)unsetenv(HF_ASSIGNED_ENVIRONMENT); /* not QEMU's affair */
	if (hf_assignment_read(k->set->run_dir, k->name, &a, &why) == 0 && is_still(k, a.place))
		return 0;
	hf_err_set(err, "not started: the cluster manager has decided otherwise meanwhile%s%s",
		   why.text[0] ? ": " : "", why.text);
	return -ECANCELED;
}
