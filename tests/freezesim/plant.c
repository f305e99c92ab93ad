/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bugs on purpose: the proof that the observer can see. Each one is in a driver, or in what a driver hears
 * (the file of that driver asks for it by name): the machines that are tested are the ones that are
 * shipped. What VERIFY would find out is planted together with a VERIFY that is blind.
 */

#include "freezesim.h"

#define RULE(rule) (1u << FS_RULE_##rule)

const struct simkit_plant fs_plants[FS_PLANT_COUNT] = {
	[FS_PLANT_CGROUP_ASSUMED] = { "cgroup-assumed", RULE(STILL) | RULE(ONE),
				      "the cgroup is not waited for, nor looked at" },
	[FS_PLANT_DISKS_ASSUMED] = { "disks-assumed", RULE(DISKS) | RULE(ONE),
				     "a killed disk process is taken for dead" },
	[FS_PLANT_DISKS_FLUSHED] = { "disks-flushed", RULE(DISKS) | RULE(ONE),
				     "a disk process that has flushed is taken for dead" },
	[FS_PLANT_DEATH_ASSUMED] = { "death-assumed", RULE(DISKS) | RULE(STILL) | RULE(ONE),
				     "a killed QEMU is taken for dead" },
	[FS_PLANT_NETS_OPEN] = { "nets-open", RULE(NETS) | RULE(ONE), "taps stay open" },
	[FS_PLANT_BLIND] = { "blind", RULE(DISKS) | RULE(STILL) | RULE(ONE),
			     "nobody looks whether QEMU has files of its own" },
	[FS_PLANT_LATCH_ASSUMED] = { "latch-assumed", RULE(ONE), "the latch is not waited for" },
	[FS_PLANT_CERTIFY_ASSUMED] = { "certify-assumed", RULE(PROOF),
				       "the certificate is not waited for" },
	[FS_PLANT_TELL_EARLY] = { "tell-early", RULE(PROOF),
				  "others are told when the certificate is ordered" },
	[FS_PLANT_LEASE_FIRST] = { "lease-first", RULE(ONE),
				   "the lease is let go when the freeze begins" },
	[FS_PLANT_FILES_UNORDERED] = { "files-unordered", RULE(KEPT),
				       "a late latch lands over the certificate" },
	[FS_PLANT_WOKEN_IGNORED] = { "woken-ignored", RULE(STILL) | RULE(ONE),
				     "a thaw is not met" },
	[FS_PLANT_WOKEN_WHILE_PROVING] = { "woken-while-proving", RULE(STILL) | RULE(ONE),
					   "a thaw before the certificate is not met" },
	[FS_PLANT_NO_DEATH_SIGNAL] = { "no-death-signal", RULE(STILL) | RULE(ONE),
				       "QEMU outlives its keeper" },
	[FS_PLANT_LATCH_FORGOTTEN] = { "latch-forgotten", RULE(KEPT),
				       "the next keeper does not look for a latch" },
	[FS_PLANT_PIDS_FORGOTTEN] = { "pids-forgotten", RULE(DISKS) | RULE(STILL) | RULE(ONE),
				      "the next keeper takes what was left behind for dead" },
	[FS_PLANT_START_OBEYED] = { "start-obeyed", RULE(KEPT),
				    "who orders to start a frozen VM is obeyed" },
	[FS_PLANT_RESUME_OBEYED] = { "resume-obeyed", RULE(STILL) | RULE(ONE),
				     "who orders to resume a frozen VM is obeyed" },
	[FS_PLANT_NETS_REOPENED] = { "nets-reopened", RULE(NETS),
				     "who orders to resume a frozen VM gets its taps back" },
	[FS_PLANT_TIMER_LOST] = { "timer-lost", RULE(PROGRESS) | RULE(TOLD),
				  "limits pass unnoticed" },
	[FS_PLANT_DEATH_LOST] = { "death-lost", RULE(PROGRESS), "nobody hears of QEMU's death" },
	[FS_PLANT_RETRY_LOST] = { "retry-lost", RULE(PROGRESS),
				  "nobody hears that the certificate was not written" },
	[FS_PLANT_STUCK_SILENT] = { "stuck-silent", RULE(TOLD), "that it is stuck is not told" },
};
