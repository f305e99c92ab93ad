/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What holdfastd tells about itself, the other hosts and the leases. Layer: daemon. Main thread. Each
 * returns a new object for the caller; docs/man/holdfastd.8 describes the members. */
#pragma once

#include <json-c/json_object.h>

#include "daemon/daemon.h"
#include "daemon/survey.h"

struct json_object *hf_hostview_status(const struct hf_daemon *d);
struct json_object *hf_hostview_hosts(const struct hf_daemon *d);
struct json_object *hf_hostview_leases(const struct hf_daemon *d,
				       const struct hf_survey_result *all);

/* {vm, offset, lver, owner_id, owner, generation, owner_life, free, held, pids, pledged} */
struct json_object *hf_hostview_lease(const struct hf_daemon *d, const char *vm,
				      const struct hf_work_result *result);

/* {lver, owner_id, owner, generation, life}: of an operation's result, or of this host itself. */
struct json_object *hf_hostview_owner(const struct hf_daemon *d,
				      const struct hf_work_result *result);
struct json_object *hf_hostview_self(const struct hf_daemon *d, uint64_t lver);
