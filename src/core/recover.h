/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who runs a VM that more than one host may run, as the hosts' daemons settle it among themselves.
 * Layer: core; pure, any thread, no allocation, no clock.
 *
 * None of this is what keeps two instances from running: that is the lease, or the keepers' question
 * to each other. This only sees to it that the right host tries, and that the others do not.
 *
 * Three things. *Wanted*: what the operators want of a VM, one register that all of its hosts share
 * and of which the newest value wins. *Place*: what one of a VM's two hosts should do now, from what
 * it knows of itself and of the other one; asked again whenever something changes. *Recover*: a VM
 * without a standby that is frozen, or has failed for good, on its host: which other host is asked
 * to start it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

/* ---- wanted ---- */

/* @host: where it is to run, "": on the first of its hosts. @version: + 1 with each order. @by: the
 * host that was ordered; of two orders with one version that of the greater name counts. All zero: nobody
 * has wanted anything yet. */
struct hf_wanted {
	bool is_started;
	char host[HF_NAME_MAX + 1];
	uint64_t version;
	char by[HF_NAME_MAX + 1];
	bool is_forced; /* stopped at once, without asking the guest */
};

#define HF_WANTED_VERSION_MAX (UINT64_C(1) << 53) /* JSON keeps it */

/* A new order, newer than what was known; not forced. @host may be "". */
void hf_wanted_order(struct hf_wanted *w, bool is_started, const char *host, const char *by);

/* What another host says. True: it is newer, and @w is that now. */
bool hf_wanted_take(struct hf_wanted *w, const struct hf_wanted *theirs);

/* ---- place ---- */

#define HF_PLACE_PATIENCE_NS 10000000000ull /* for a host that cannot be asked */

/* What of the VM is on a host. */
enum hf_place_have {
	HF_HAVE_NOTHING, /* that could run: also if an instance is frozen */
	HF_HAVE_RUNNING, /* or whatever might still run: starting, paused, freezing */
	HF_HAVE_EMPTY_STANDBY, /* has no whole epoch */
	HF_HAVE_STANDBY, /* can go live */
	HF_HAVE_COUNT
};

enum hf_place {
	HF_PLACE_NOTHING, /* leave it as it is */
	HF_PLACE_RUN, /* run it; an empty standby ends for that */
	HF_PLACE_STANDBY,
	HF_PLACE_WAIT, /* another look at again_ns, or when something changes */
	HF_PLACE_END, /* end what is here, in order */
	HF_PLACE_COUNT
};

enum hf_place_why {
	HF_PLACE_IN_ORDER,
	HF_PLACE_NOT_WANTED,
	HF_PLACE_PEER_RUNS, /* it runs there */
	HF_PLACE_PEER_STARTS, /* there it is wanted, and can be */
	HF_PLACE_PEER_HOLDS, /* the standby there holds its state, and goes live or is promoted */
	HF_PLACE_PEER_ENDS, /* not wanted, and it has not ended there yet */
	HF_PLACE_PEER_CANNOT, /* it cannot run there: it is run here */
	HF_PLACE_PEER_SILENT, /* cannot be asked; patience, or for good without a lease */
	HF_PLACE_PEER_GONE, /* cannot be asked for too long: tried here */
	HF_PLACE_PEER_LACKS, /* the other host has no definition of it */
	HF_PLACE_DIFFERS, /* the definitions differ */
	HF_PLACE_CANNOT, /* may_run, may_stand_by say so */
	HF_PLACE_ASSIGNED, /* is_managed: a standby, whatever the other host does */
	HF_PLACE_WHY_COUNT
};

struct hf_place_facts {
	/* of this host */
	bool is_wanted;
	bool is_wanted_here;
	bool is_ordered; /* to this very daemon, by somebody who waits: no patience */
	bool may_run; /* not frozen here, not FAILED, definition in force */
	bool may_stand_by;
	bool has_run_last; /* as far as this host knows */
	bool has_lease; /* a lease decides who may run it */
	/* A cluster manager decides: is_wanted: something is assigned to this host; is_wanted_here: to run it. Then
	 * END is never the verdict, and RUN only if it is_wanted_here. */
	bool is_managed;
	bool is_in_touch; /* is_managed: as a standby, with its primary */
	enum hf_place_have here;
	/* of the other one */
	bool is_peer_up; /* connected, and has told all it has to tell */
	uint64_t peer_since_ns; /* it has been up, or not, since then */
	bool has_peer_definition;
	bool is_same_definition;
	bool may_peer_run;
	enum hf_place_have there; /* as it said last */
	uint64_t now_ns;
};

struct hf_place_verdict {
	enum hf_place place;
	enum hf_place_why why;
	uint64_t again_ns; /* of WAIT; UINT64_MAX: only when something changes */
};

/*
 * What this one of the two hosts should do. With facts that agree, and both hosts up, at most one of
 * the two is told to RUN what runs nowhere, and one is if it is wanted and may run somewhere.
 */
void hf_place(const struct hf_place_facts *f, struct hf_place_verdict *ret);

/* "run", "standby", ...; a sentence's end for people: "the definitions differ". */
const char *hf_place_name(enum hf_place place);
const char *hf_place_text(enum hf_place_why why);

/* ---- recover ---- */

#define HF_RECOVER_HOSTS_MAX 16
#define HF_RECOVER_ANSWER_NS 30000000000ull /* a host that was asked has so long to say */
#define HF_RECOVER_AGAIN_NS 60000000000ull /* who refused is asked again after */

enum hf_recover_state {
	HF_RECOVER_IDLE,
	HF_RECOVER_WAITING, /* no host can be asked now */
	HF_RECOVER_ASKING,
	HF_RECOVER_UNSURE, /* without a lease: the one that was asked has not said, and may run it */
	HF_RECOVER_DONE, /* it runs, or is being started, elsewhere */
};

enum hf_recover_event_kind {
	HF_RECOVER_EV_BEGIN, /* n_hosts (in the order of preference), has_lease */
	HF_RECOVER_EV_UP, /* host */
	HF_RECOVER_EV_DOWN, /* host: also what it was asked may be lost */
	HF_RECOVER_EV_STARTED, /* host: says that it starts it, or that it runs there already */
	HF_RECOVER_EV_REFUSED, /* host: says that it does not */
	HF_RECOVER_EV_CANCEL, /* started here again, stopped, released: nobody is to start it */
	HF_RECOVER_EV_TIME,
	HF_RECOVER_EVENT_COUNT
};

struct hf_recover_event {
	enum hf_recover_event_kind kind;
	unsigned int host;
	unsigned int n_hosts;
	bool has_lease;
	uint64_t now_ns;
};

struct hf_recover {
	enum hf_recover_state state;
	bool has_lease;
	unsigned int n_hosts;
	unsigned int asked; /* in ASKING, UNSURE; in DONE: who has it */
	uint64_t asked_ns;
	struct {
		bool is_up;
		bool has_refused; /* or, with a lease, not answered */
		uint64_t refused_ns;
	} host[HF_RECOVER_HOSTS_MAX];
};

/* Nobody is up, until told. */
void hf_recover_init(struct hf_recover *r);

/*
 * Return: -1, or the host that is to be asked now. Without a lease no second host is asked while one
 * that was may have started it; with one they may contend, and one wins.
 */
int hf_recover_step(struct hf_recover *r, const struct hf_recover_event *ev);

/* When TIME is wanted; UINT64_MAX: never. */
uint64_t hf_recover_deadline_ns(const struct hf_recover *r);
