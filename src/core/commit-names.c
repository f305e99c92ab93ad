/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/commit.h"

#include <assert.h>

static const char *const primary_names[HF_PRIMARY_STATE_COUNT] = {
	[HF_PRIMARY_ALONE] = "alone",
	[HF_PRIMARY_SYNCING] = "syncing",
	[HF_PRIMARY_PROTECTED] = "protected",
	[HF_PRIMARY_HOLDING] = "holding",
	[HF_PRIMARY_LEAVING] = "leaving",
	[HF_PRIMARY_HANDING_OVER] = "handing-over",
	[HF_PRIMARY_HANDED_OVER] = "handed-over",
	[HF_PRIMARY_DEAD] = "dead",
	[HF_PRIMARY_ENDING] = "ending",
	[HF_PRIMARY_SUPERSEDED] = "superseded",
	[HF_PRIMARY_FINISHED] = "finished",
};

const char *hf_primary_state_name(enum hf_primary_state state)
{
	assert(state < HF_PRIMARY_STATE_COUNT);
	return primary_names[state];
}

static const char *const standby_names[HF_STANDBY_STATE_COUNT] = {
	[HF_STANDBY_IDLE] = "idle",           [HF_STANDBY_SYNCING] = "syncing",
	[HF_STANDBY_READY] = "ready",         [HF_STANDBY_LOST] = "lost",
	[HF_STANDBY_PROMOTING] = "promoting", [HF_STANDBY_PROMOTED] = "promoted",
	[HF_STANDBY_FAILED] = "failed",       [HF_STANDBY_DENIED] = "denied",
};

const char *hf_standby_state_name(enum hf_standby_state state)
{
	assert(state < HF_STANDBY_STATE_COUNT);
	return standby_names[state];
}
