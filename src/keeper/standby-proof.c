/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is the primary dead? Its host is asked, by an inquiry to its port: refused, or answered by another
 * instance, is the proof that promotes. An inquiry is made also while all is well, right after the
 * primary has come: if its address does not lead to the very keeper that we are connected to, then a
 * closed port there would prove nothing, and is not taken for a proof.
 */
#include "keeper/standby-side.h"

#define INQUIRE_SOON_NS 2000000ull
#define INQUIRE_AGAIN_NS 1000000000ull

static void on_inquiry_timer(void *ctx)
{
	struct hf_standby_side *s = ctx;

	if (s->machine.state == HF_STANDBY_LOST || s->machine.state == HF_STANDBY_READY ||
	    s->machine.state == HF_STANDBY_SYNCING)
		hf_meetings_inquire(s->k->meetings);
}

static void inquire_in(struct hf_standby_side *s, uint64_t wait_ns)
{
	hf_timer_set(&s->inquiry_timer, &s->k->loop, hf_now_ns() + wait_ns, on_inquiry_timer, s);
}

/* Soon at first: a dying process may close its connection a little before its port. */
static void inquire_again(struct hf_standby_side *s)
{
	inquire_in(s, s->inquiry_wait_ns);
	s->inquiry_wait_ns = s->inquiry_wait_ns * 2 < INQUIRE_AGAIN_NS ? s->inquiry_wait_ns * 2
								       : INQUIRE_AGAIN_NS;
}

static void on_proof(struct hf_standby_side *s, const char *what)
{
	if (s->machine.state != HF_STANDBY_LOST)
		return;
	if (!s->is_address_verified) {
		if (!s->has_told_unverified)
			hf_event(&s->k->journal, "no-proof", NULL,
				 "%s, but that address never led to our primary, so it proves "
				 "nothing; if the "
				 "primary is dead, order `holdfast promote --force`",
				 what);
		s->has_told_unverified = true;
		return;
	}
	hf_event(&s->k->journal, "primary-dead", NULL, "the primary is dead: %s", what);
	hf_standby_feed(s, HF_STANDBY_PEER_DEAD, 0);
}

/* That of another run of the VM, or of none, is nothing to this one. */
bool hf_standby_see_peer(void *role, struct hf_fenced_sight *ret)
{
	const struct hf_standby_side *s = role;

	if (s->machine.state != HF_STANDBY_SYNCING && s->machine.state != HF_STANDBY_READY &&
	    s->machine.state != HF_STANDBY_LOST)
		return false;
	*ret = (struct hf_fenced_sight){
		.established_ns = s->established_ns,
		.heard_ns = s->word_ns,
		.is_in_touch = s->link && !s->is_silent,
	};
	return true;
}

/* A connection that still stands is one to nobody. Its host is named by who fenced it, so it does not matter where
 * the primary's address leads. */
void hf_standby_peer_dead(void *role, const char *why)
{
	struct hf_standby_side *s = role;

	hf_event(&s->k->journal, "primary-dead", NULL, "the primary is dead: %s", why);
	hf_standby_drop_link(s, "the primary is dead");
	hf_standby_feed(s, HF_STANDBY_PEER_DEAD, 0);
}

void hf_standby_proof_missed(void *ctx, enum hf_meeting_miss why, const char *text)
{
	struct hf_standby_side *s = ctx;

	if (s->machine.state == HF_STANDBY_LOST) {
		if (why == HF_MEETING_REFUSED_PORT)
			on_proof(s, "its host says that nothing listens on its port");
		else if (why == HF_MEETING_NO_ANSWER)
			hf_log(&s->k->journal, HF_LOG_DEBUG, "the primary's host: %s", text);
	} else if (s->link && !s->is_address_verified && !s->has_told_unverified) {
		s->has_told_unverified = true;
		hf_event(&s->k->journal, "unverified", NULL,
			 "the primary cannot be reached at %s (%s): its death could not be proven, "
			 "so there "
			 "would be no failover by itself",
			 hf_meetings_peer_text(s->k->meetings), text);
	}
	inquire_again(s);
}

void hf_standby_proof_learnt(void *ctx, const struct hf_wire_hello *theirs)
{
	struct hf_standby_side *s = ctx;
	bool is_ours = hf_id_is_equal(theirs->instance, s->primary);

	if (s->machine.state == HF_STANDBY_LOST && !is_ours) {
		on_proof(s, "another keeper has its port now");
	} else if (is_ours && s->link) {
		s->is_address_verified = true;
		return;
	} else if (is_ours && s->machine.state == HF_STANDBY_LOST) {
		hf_log(&s->k->journal, HF_LOG_DEBUG,
		       "the primary lives: waiting for it to connect again");
	}
	inquire_again(s);
}

void hf_standby_proof_met(struct hf_standby_side *s, struct hf_id instance)
{
	if (!hf_id_is_equal(s->primary, instance))
		s->is_address_verified = s->has_told_unverified = false;
	s->primary = instance;
	s->inquiry_wait_ns = INQUIRE_AGAIN_NS / 4;
	if (!s->is_address_verified)
		hf_meetings_inquire(s->k->meetings);
}

static void on_verdict(void *ctx, enum hf_claim_end end, uint64_t lver)
{
	static const enum hf_standby_event_kind kinds[] = {
		[HF_CLAIM_WON] = HF_STANDBY_ARBITER_GRANTED,
		[HF_CLAIM_LOST] = HF_STANDBY_ARBITER_DENIED,
		[HF_CLAIM_CANCELLED] = HF_STANDBY_ARBITER_CANCELLED,
	};

	struct hf_standby_side *s = ctx;

	hf_standby_feed_verdict(s, kinds[end], lver, hf_ownership_lver(s->k->ownership));
}

/* The primary has just been lost: with a lease or without, its death may be there to see. */
void hf_standby_proof_look(struct hf_standby_side *s)
{
	s->inquiry_wait_ns = INQUIRE_SOON_NS;
	hf_meetings_inquire(s->k->meetings);
}

/* A quarter later than the primary asks: if that lives, and only the link is cut, no failover is
 * needed. */
void hf_standby_proof_ask(struct hf_standby_side *s, uint64_t lver)
{
	bool is_decided = s->machine.state == HF_STANDBY_PROMOTING;
	uint64_t at_ns = is_decided ? 0 : s->heard_ns + s->k->set->peer_timeout_ns / 4 * 5;

	hf_arbiter_ask(&s->arbiter, lver, at_ns, on_verdict, s);
}
