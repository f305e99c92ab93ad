/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The numbers of the replication link in words. */
#include "codec/wire-msg.h"

static const char *name_of(const char *const *names, size_t n, uint32_t number)
{
	return number < n && names[number] ? names[number] : "?";
}

const char *hf_wire_vm_state_name(uint32_t state)
{
	static const char *const names[HF_WIRE_VM_STATE_COUNT] = {
		"starting",     "alone",       "syncing",   "protected", "holding",    "leaving",
		"handing over", "handed over", "dead",      "ended",     "superseded", "waiting",
		"ready",        "lost",        "promoting", "promoted",  "failed",
	};

	return name_of(names, HF_WIRE_VM_STATE_COUNT, state);
}

const char *hf_wire_refusal_name(uint32_t code)
{
	static const char *const names[HF_WIRE_REFUSE_COUNT] = {
		NULL,      "version",  "name", "role",  "size",     "machine", "qemu",
		"devices", "settings", "busy", "state", "protocol", "disks",
	};

	return name_of(names, HF_WIRE_REFUSE_COUNT, code);
}

const char *hf_wire_death_name(uint32_t code)
{
	static const char *const names[HF_WIRE_DEATH_COUNT] = {
		NULL, "QEMU killed", "QEMU exited", "QEMU hung", "frozen",
	};

	return name_of(names, HF_WIRE_DEATH_COUNT, code);
}

const char *hf_wire_ending_name(uint32_t code)
{
	static const char *const names[HF_WIRE_ENDING_COUNT] = {
		NULL,
		"guest shut down",
		"stopped by the operator",
		"guest panicked",
	};

	return name_of(names, HF_WIRE_ENDING_COUNT, code);
}
