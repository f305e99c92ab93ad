/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "leasesim.h"

const char *const ls_rule_names[LS_RULE_COUNT] = {
	[LS_RULE_NONE] = "none",
	[LS_RULE_ONE_OWNER] = "one owner",
	[LS_RULE_ONE_VALUE] = "one value",
	[LS_RULE_TRUE] = "results are true",
	[LS_RULE_NOT_ROBBED] = "not robbed alive",
	[LS_RULE_NOT_FREE] = "never free while given",
	[LS_RULE_GENERATION] = "generations",
	[LS_RULE_DAMAGE] = "damage",
	[LS_RULE_PROGRESS] = "progress",
};

const char *const ls_fault_names[LS_FAULT_COUNT] = {
	[LS_FAULT_PAUSE] = "pause",      [LS_FAULT_POWER] = "power",
	[LS_FAULT_HANG] = "hang-daemon", [LS_FAULT_KILL] = "kill-daemon",
	[LS_FAULT_CUT] = "cut-storage",  [LS_FAULT_SLOW] = "slow-storage",
	[LS_FAULT_ERRORS] = "io-errors", [LS_FAULT_DOUBLE] = "double-writes",
	[LS_FAULT_LOSE] = "lose-touch",  [LS_FAULT_FENCE] = "fence",
};

const char *const ls_point_names[LS_POINT_COUNT + 1] = {
	[LS_POINT_READ_SLOTS] = "read-slots",
	[LS_POINT_SLOT] = "write-slot",
	[LS_POINT_READ_AREA] = "read-lease",
	[LS_POINT_PHASE1] = "write-phase1",
	[LS_POINT_PHASE2] = "write-phase2",
	[LS_POINT_LEADER] = "write-leader",
	[LS_POINT_SLOTS_READ] = "slots-read",
	[LS_POINT_SLOT_WRITTEN] = "slot-written",
	[LS_POINT_AREA_READ] = "lease-read",
	[LS_POINT_PHASE1_WRITTEN] = "phase1-written",
	[LS_POINT_PHASE2_WRITTEN] = "phase2-written",
	[LS_POINT_LEADER_WRITTEN] = "leader-written",
	[LS_POINT_TIME] = "time",
};

const char *const ls_vm_state_names[LS_VM_STATE_COUNT] = {
	[LS_VM_NONE] = "none",           [LS_VM_ACQUIRING] = "acquiring",
	[LS_VM_RUNNING] = "running",     [LS_VM_STOPPED] = "stopped",
	[LS_VM_CLAIMING] = "claiming",   [LS_VM_GIVING] = "giving",
	[LS_VM_RELEASING] = "releasing", [LS_VM_PREPARING] = "preparing",
	[LS_VM_AWAITING] = "awaiting",   [LS_VM_STANDBY] = "standby",
	[LS_VM_VOTING] = "voting",       [LS_VM_HOLDING] = "holding",
};
