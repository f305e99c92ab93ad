/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfastd, as its parts see each other. Layer: daemon. Main thread only: the threads that wait for
 * the storage are those of src/lease and of survey.c, and see none of this.
 *
 * membership.c  this host's place in the lockspace, and what is known of the others
 * held.c        which leases something on this host holds, and its processes
 * jobs*.c       what was asked for and takes a ballot, or a look at the disk
 * hostctl.c     the control socket: calls become jobs
 * hostview.c    what people and programs see
 * survey.c        all leases of the area
 * takeover.c      VMs whose lease is taken over when their host has died
 * vms*.c, vmlink.c, spawn.c   the VMs themselves: what is started, followed, restarted
 * peers*.c        daemons of other hosts with which VMs are shared
 * bridge.c        what talks to Pacemaker
 * eventstore.c    events over a restart of the daemon
 */
#pragma once

#include "daemon/held.h"
#include "daemon/hostconf.h"
#include "lease/member.h"
#include "lease/work.h"
#include "service/journal.h"
#include "service/loop.h"
#include "sys/leasepage.h"
#include "sys/rundir.h"

struct hf_bridge;
struct hf_hostctl;
struct hf_job;
struct hf_survey;
struct hf_starter;
struct hf_takeover;
struct hf_vms;
struct hf_eventstore;
struct hf_peers;

/* What was last told of another host. */
struct hf_neighbour {
	enum hf_lease_life life;
	uint64_t generation;
};

struct hf_daemon {
	struct hf_hostconf conf;
	struct hf_loop loop;
	struct hf_journal journal;
	struct hf_rundir rundir;
	struct hf_lease_page *page; /* NULL: this host has no leases */
	struct hf_hostctl *control;
	struct hf_survey *survey;
	struct hf_takeover *takeover;
	struct hf_vms *vms;
	struct hf_eventstore *eventstore;
	struct hf_peers *peers; /* other hosts' daemons */
	struct hf_bridge *bridge; /* NULL: none */
	struct hf_held_table held;
	bool is_ending;

	/* membership.c */
	struct hf_member *member; /* NULL: the storage could not be opened yet */
	struct hf_workshop *workshop; /* as long as the member */
	struct hf_starter *starter; /* opens the storage: NULL: not now */
	struct hf_member_status status; /* as of the last look */
	struct hf_watch member_watch, workshop_watch;
	struct hf_timer retry_timer, valid_timer, work_timer;
	uint64_t work_at_ns;
	uint64_t generation; /* of the last valid membership; 0: none since our start */
	bool is_valid; /* as was told */
	bool is_scan_wanted; /* somebody asks for one of our leases */
	char trouble[HF_ERR_MAX]; /* why there is no member */
	struct hf_neighbour neighbours[HF_LEASE_HOSTS_MAX + 1];

	/* jobs.c */
	struct hf_job *jobs;
	struct hf_timer job_timer;
};
