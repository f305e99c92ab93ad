/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "core/hostlease.h"

#define MS_NS 1000000ULL
#define S_NS 1000000000ULL
#define FENCE_NS (3000 * MS_NS)
#define VALID_NS (2400 * MS_NS)

/* One host and its slot. Each I/O takes io_ns; the slot may be changed by others in between. */
struct world {
	struct hf_host h;
	struct hf_lease_slot slot;
	bool is_slot_damaged;
	uint64_t now_ns, io_ns, wake_ns, issued_ns;
	enum hf_host_action_kind io; /* HF_HOST_DO_REPORT: none */
	struct hf_lease_slot writing;
	unsigned int published, reports;
	uint64_t valid_ns, fence_ns; /* as published */
};

static struct hf_host_config config(void)
{
	return (struct hf_host_config){ .host_id = 3,
					.name = "alpha",
					.io_timeout_s = 10,
					.renew_ms = 500,
					.fence_ms = 3000,
					.stop_ms = 600,
					.instance = 77 };
}

static void world_init(struct world *w)
{
	struct hf_host_config c = config();

	memset(w, 0, sizeof(*w));
	w->now_ns = 1000 * S_NS;
	w->io_ns = MS_NS;
	w->io = HF_HOST_DO_REPORT;
	w->wake_ns = UINT64_MAX;
	hf_host_init(&w->h, &c);
}

static void step(struct world *w, struct hf_host_event ev)
{
	struct hf_host_actions out;

	ev.now_ns = w->now_ns;
	ev.now_s = w->now_ns / S_NS;
	hf_host_step(&w->h, &ev, &out);
	for (unsigned int i = 0; i < out.n; i++) {
		const struct hf_host_action *a = &out.a[i];

		if (a->kind == HF_HOST_DO_WAKE) {
			w->wake_ns = a->at_ns;
		} else if (a->kind == HF_HOST_DO_PUBLISH) {
			w->published++;
			w->valid_ns = a->valid_ns;
			w->fence_ns = a->fence_ns;
		} else if (a->kind == HF_HOST_DO_REPORT) {
			w->reports++;
		} else {
			CHECK_EQ(w->io, HF_HOST_DO_REPORT);
			w->io = a->kind;
			w->writing = a->slot;
			w->issued_ns = w->now_ns;
		}
	}
}

static void start(struct world *w)
{
	step(w, (struct hf_host_event){ .kind = HF_HOST_START });
}

static void end_io(struct world *w, bool is_ok)
{
	bool is_read = w->io == HF_HOST_DO_READ;
	struct hf_host_event ev = { .issued_ns = w->issued_ns, .slot = w->slot };

	CHECK(w->io != HF_HOST_DO_REPORT);
	ev.is_slot_damaged = is_read && w->is_slot_damaged;
	if (!is_read && is_ok) {
		w->slot = w->writing;
		w->is_slot_damaged = false;
	}
	ev.kind = is_read ? (is_ok ? HF_HOST_READ : HF_HOST_READ_FAILED)
			  : (is_ok ? HF_HOST_WRITTEN : HF_HOST_WRITE_FAILED);
	w->io = HF_HOST_DO_REPORT;
	step(w, ev);
}

/* The next I/O's end, or the next wake-up. */
static void turn(struct world *w)
{
	if (w->io != HF_HOST_DO_REPORT) {
		w->now_ns += w->io_ns;
		end_io(w, true);
		return;
	}
	CHECK(w->wake_ns != UINT64_MAX);
	if (w->now_ns < w->wake_ns)
		w->now_ns = w->wake_ns;
	w->wake_ns = UINT64_MAX;
	step(w, (struct hf_host_event){ .kind = HF_HOST_WAKE });
}

static void run_to(struct world *w, enum hf_host_state state)
{
	for (int i = 0; w->h.state != state; i++) {
		CHECK(i < 10000);
		turn(w);
	}
}

static void run_until_io(struct world *w, enum hf_host_action_kind io)
{
	for (int i = 0; w->io != io; i++) {
		CHECK(i < 10000);
		turn(w);
	}
}

static void join(struct world *w)
{
	world_init(w);
	start(w);
	run_to(w, HF_HOST_MEMBER);
}

static struct hf_lease_slot stranger(uint64_t generation, uint64_t timestamp_s, uint32_t fence_ms)
{
	struct hf_lease_slot s;

	memset(&s, 0, sizeof(s));
	s.owner = 3;
	s.generation = generation;
	s.timestamp_s = timestamp_s;
	s.io_timeout_s = 10;
	memcpy(s.host_name, "beta", 4);
	s.extra.is_present = fence_ms != 0;
	s.extra.fence_ms = fence_ms;
	s.extra.renew_ms = fence_ms / 6;
	s.extra.instance = 5;
	return s;
}

static struct hf_lease_slot twin(uint64_t generation, uint64_t timestamp_s, uint32_t fence_ms)
{
	struct hf_lease_slot s = stranger(generation, timestamp_s, fence_ms);

	memcpy(s.host_name, "alpha", 5);
	return s;
}

/* ---- joining ---- */

TEST(a_free_slot_is_joined_after_a_fence_time)
{
	struct world w;
	uint64_t begun_ns;

	world_init(&w);
	w.slot.generation = 8; /* free, used before */
	begun_ns = w.now_ns;
	start(&w);
	turn(&w);
	CHECK_EQ(w.io, HF_HOST_DO_WRITE);
	CHECK_EQ(w.writing.generation, 9);
	CHECK_EQ(w.writing.extra.instance, 77);
	CHECK_EQ(w.published, 0);
	run_to(&w, HF_HOST_MEMBER);
	CHECK(w.now_ns - begun_ns > FENCE_NS);
	CHECK(w.now_ns - begun_ns < FENCE_NS + 2 * S_NS);
	CHECK_EQ(w.h.generation, 9);
	CHECK_EQ(w.h.tenure, 1);
	CHECK_EQ(w.published, 1);
	CHECK(hf_host_is_valid(&w.h, w.now_ns));
}

TEST(the_name_of_a_sanlock_host_waits_as_sanlock_does)
{
	struct world w;
	uint64_t begun_ns;

	world_init(&w);
	w.slot = twin(4, 5000, 0);
	begun_ns = w.now_ns;
	start(&w);
	run_to(&w, HF_HOST_MEMBER);
	CHECK(w.now_ns - begun_ns >= 20 * S_NS);
	CHECK_EQ(w.h.generation, 5);
}

TEST(another_names_slot_is_taken_when_it_is_dead)
{
	struct world w;
	uint64_t begun_ns;

	for (int is_sanlock = 0; is_sanlock < 2; is_sanlock++) {
		world_init(&w);
		w.slot = stranger(4, 5000, is_sanlock ? 0 : 6000);
		begun_ns = w.now_ns;
		start(&w);
		run_to(&w, HF_HOST_CLAIMING);
		CHECK(w.now_ns - begun_ns >= (is_sanlock ? 140 * S_NS : 6475 * MS_NS));
		CHECK(w.now_ns - begun_ns < (is_sanlock ? 142 * S_NS : 8 * S_NS));
		run_to(&w, HF_HOST_MEMBER);
		CHECK_EQ(w.h.generation, 5);
	}
}

TEST(a_slot_that_somebody_renews_is_not_taken)
{
	for (int is_twin = 0; is_twin < 2; is_twin++) {
		struct world w;

		world_init(&w);
		w.slot = is_twin ? twin(4, 5000, 3000) : stranger(4, 5000, 3000);
		start(&w);
		for (int i = 0; i < 100 && w.h.state != HF_HOST_LOST; i++) {
			turn(&w);
			w.slot.extra.sequence++;
			CHECK_EQ(w.writing.generation, 0); /* nothing was written */
		}
		CHECK_EQ(w.h.state, HF_HOST_LOST);
		CHECK_EQ(w.h.why, HF_HOST_WHY_TAKEN);
		CHECK_EQ(w.published, 0);
	}
}

TEST(one_late_write_of_the_dead_does_not_keep_us_out)
{
	struct world w;

	world_init(&w);
	w.slot = stranger(4, 5000, 3000);
	start(&w);
	turn(&w);
	w.slot.timestamp_s++;
	run_to(&w, HF_HOST_MEMBER);
}

TEST(two_that_claim_one_slot_are_one_in_the_end)
{
	struct world w;

	world_init(&w);
	start(&w);
	run_to(&w, HF_HOST_CONFIRMING);
	w.slot = stranger(1, 5000, 3000);
	run_to(&w, HF_HOST_LOST);
	CHECK_EQ(w.h.why, HF_HOST_WHY_TAKEN);
	CHECK_EQ(w.published, 0);
}

TEST(a_claim_that_failed_may_have_landed)
{
	for (int lands = 0; lands < 2; lands++) {
		struct world w;
		uint64_t failed_ns;

		world_init(&w);
		w.slot = stranger(4, 0, 3000);
		start(&w);
		turn(&w);
		if (lands)
			w.slot = w.writing;
		failed_ns = w.now_ns;
		end_io(&w, false);
		CHECK_EQ(w.h.state, HF_HOST_LOOKING);
		run_to(&w, HF_HOST_MEMBER);
		CHECK_EQ(w.h.generation, 5);
		CHECK(w.now_ns - failed_ns > FENCE_NS);
	}
}

TEST(a_claim_that_slept_over_another_one_begins_again_above_it)
{
	struct world w;

	world_init(&w);
	start(&w);
	run_to(&w, HF_HOST_CONFIRMING);
	run_until_io(&w, HF_HOST_DO_READ);
	run_until_io(&w, HF_HOST_DO_WRITE);
	CHECK_EQ(w.writing.generation, 1);
	w.now_ns += 60 * S_NS; /* a host of generation 2 may have come, and gone again */
	end_io(&w, true);
	CHECK_EQ(w.h.state, HF_HOST_LOOKING);
	run_to(&w, HF_HOST_MEMBER);
	CHECK_EQ(w.h.generation, 3);
}

TEST(a_claim_waits_for_the_last_holder_and_so_do_those_who_see_it)
{
	struct world w;
	uint64_t claimed_ns;

	world_init(&w);
	w.slot = stranger(4, 5000, 9000);
	start(&w);
	run_to(&w, HF_HOST_CONFIRMING);
	claimed_ns = w.now_ns;
	while (w.h.state != HF_HOST_MEMBER) {
		if (w.now_ns < claimed_ns + 9 * S_NS)
			CHECK_EQ(w.slot.extra.fence_ms, 9000);
		turn(&w);
	}
	CHECK(w.now_ns - claimed_ns > 9 * S_NS);
	CHECK_EQ(w.slot.extra.fence_ms, 3000);
}

TEST(a_record_of_our_name_that_is_older_makes_a_claim_wait_again)
{
	struct world w;
	uint64_t seen_ns;

	world_init(&w);
	w.slot = twin(4, 5000, 9000);
	start(&w);
	run_to(&w, HF_HOST_CONFIRMING);
	run_until_io(&w, HF_HOST_DO_READ);
	w.slot = twin(4, 5001, 9000); /* it had been asleep, and writes over us */
	seen_ns = w.now_ns;
	run_to(&w, HF_HOST_MEMBER);
	CHECK(w.now_ns - seen_ns > 9 * S_NS);
}

TEST(what_is_about_to_leave_is_not_valid)
{
	struct world w;

	join(&w);
	run_until_io(&w, HF_HOST_DO_WRITE);
	CHECK(hf_host_is_valid(&w.h, w.now_ns));
	step(&w, (struct hf_host_event){ .kind = HF_HOST_LEAVE });
	CHECK(!hf_host_is_valid(&w.h, w.now_ns));
}

/* ---- renewing ---- */

TEST(validity_counts_from_the_issue_of_the_write)
{
	struct world w;
	uint64_t issued_ns;

	join(&w);
	run_until_io(&w, HF_HOST_DO_WRITE);
	issued_ns = w.now_ns;
	w.io_ns = S_NS;
	turn(&w);
	CHECK_EQ(w.valid_ns, issued_ns + VALID_NS);
	CHECK_EQ(w.fence_ns, issued_ns + FENCE_NS);
	CHECK_EQ(w.h.tenure, 1);
}

TEST(each_renewal_is_a_read_and_a_write_with_a_new_number)
{
	struct world w;
	uint64_t sequence, begun_ns;
	unsigned int published;

	join(&w);
	begun_ns = w.now_ns;
	published = w.published;
	sequence = w.slot.extra.sequence;
	for (int i = 0; i < 20; i++) {
		run_until_io(&w, HF_HOST_DO_READ);
		run_until_io(&w, HF_HOST_DO_WRITE);
		turn(&w);
		CHECK_EQ(w.slot.extra.sequence, ++sequence);
		CHECK_EQ(w.slot.timestamp_s, w.now_ns / S_NS);
	}
	CHECK_EQ(w.published, published + 20);
	CHECK(w.now_ns - begun_ns <= 10500 * MS_NS);
	CHECK_EQ(w.h.tenure, 1);
}

TEST(an_older_record_of_ours_landed_late)
{
	struct world w;
	struct hf_lease_slot old;

	join(&w);
	old = w.slot;
	for (int i = 0; i < 10; i++)
		turn(&w);
	w.slot = old;
	for (int i = 0; i < 10; i++)
		turn(&w);
	CHECK_EQ(w.h.state, HF_HOST_MEMBER);
	CHECK(w.slot.extra.sequence > old.extra.sequence);
	/* also one of an earlier generation, and even that of leaving */
	w.slot = twin(w.h.generation - 1, 0, 3000);
	w.slot.generation = 0;
	w.h.generation = 2;
	w.slot.generation = 1;
	for (int i = 0; i < 10; i++)
		turn(&w);
	CHECK_EQ(w.h.state, HF_HOST_MEMBER);
	CHECK_EQ(w.slot.generation, 2);
}

TEST(a_slot_that_is_anothers_ends_it_at_once)
{
	for (int what = 0; what < 5; what++) {
		struct world w;

		join(&w);
		run_until_io(&w, HF_HOST_DO_READ);
		if (what == 0)
			w.slot = stranger(w.h.generation + 1, 1, 3000);
		w.slot.generation += what == 1;
		w.slot.extra.instance += what == 2;
		w.slot.extra.sequence += what == 3; /* a second one with our instance */
		if (what == 4)
			memset(&w.slot, 0, sizeof(w.slot)); /* initialised anew */
		turn(&w);
		CHECK_EQ(w.h.state, HF_HOST_LOST);
		CHECK_EQ(w.h.why, HF_HOST_WHY_CHANGED);
		CHECK_EQ(w.io, HF_HOST_DO_REPORT); /* nothing is written any more */
		CHECK_EQ(w.valid_ns, 0);
		CHECK(w.fence_ns > w.now_ns); /* that was promised to whoever waits for it */
		CHECK(!hf_host_is_valid(&w.h, w.now_ns));
	}
}

TEST(errors_are_tried_again_until_the_deadline_and_then_also)
{
	struct world w;
	uint64_t valid_ns;
	unsigned int published;

	join(&w);
	valid_ns = w.valid_ns;
	published = w.published;
	while (w.now_ns < valid_ns + 10 * S_NS) {
		if (w.io == HF_HOST_DO_REPORT)
			turn(&w);
		else
			end_io(&w, false);
		CHECK_EQ(w.h.state == HF_HOST_EXPIRED, w.now_ns >= valid_ns);
	}
	CHECK_EQ(w.published, published);
	CHECK_EQ(w.h.tenure, 1);
	run_to(&w, HF_HOST_MEMBER);
	CHECK_EQ(w.h.tenure, 2);
	CHECK_EQ(w.h.generation, 1);
}

TEST(a_deadline_that_passes_while_the_disk_hangs_is_told)
{
	struct world w;

	join(&w);
	run_until_io(&w, HF_HOST_DO_WRITE);
	CHECK_EQ(w.wake_ns, w.valid_ns);
	w.now_ns = w.wake_ns;
	step(&w, (struct hf_host_event){ .kind = HF_HOST_WAKE });
	CHECK_EQ(w.h.state, HF_HOST_EXPIRED);
	CHECK_EQ(w.io, HF_HOST_DO_WRITE); /* still under way */
	/* it comes to its end: valid anew, but what was verified is so no more */
	w.now_ns += 100 * MS_NS;
	end_io(&w, true);
	CHECK_EQ(w.h.tenure, 2);
	CHECK_EQ(w.h.state, HF_HOST_MEMBER);
	CHECK_EQ(w.valid_ns, w.issued_ns + VALID_NS);
}

TEST(a_renewal_after_the_deadline_is_a_new_tenure_whether_anybody_looked_or_not)
{
	struct world w;

	join(&w);
	run_until_io(&w, HF_HOST_DO_READ);
	w.now_ns = w.valid_ns;
	end_io(&w, true);
	CHECK_EQ(w.io, HF_HOST_DO_WRITE);
	turn(&w);
	CHECK_EQ(w.h.state, HF_HOST_MEMBER);
	CHECK_EQ(w.h.tenure, 2);
}

TEST(a_write_long_after_its_read_and_the_deadline_is_not_believed)
{
	struct world w;
	uint64_t woken_ns;

	join(&w);
	run_until_io(&w, HF_HOST_DO_WRITE);
	w.now_ns += 60 * S_NS; /* the machine slept; another one may have had the slot meanwhile */
	woken_ns = w.now_ns;
	end_io(&w, true);
	CHECK_EQ(w.h.state, HF_HOST_EXPIRED);
	run_to(&w, HF_HOST_MEMBER);
	CHECK(w.now_ns - woken_ns > FENCE_NS);
	CHECK_EQ(w.h.tenure, 2);
}

TEST(after_writes_that_may_still_land_the_own_record_proves_nothing)
{
	for (int is_settled = 0; is_settled < 2; is_settled++) {
		struct hf_host_event ev = { .kind = HF_HOST_WRITE_FAILED };
		struct world w;
		uint64_t span_ns;

		join(&w);
		run_until_io(&w, HF_HOST_DO_WRITE);
		w.io = HF_HOST_DO_REPORT;
		w.now_ns = w.valid_ns;
		ev.is_settled = is_settled;
		step(&w, ev);
		span_ns = w.now_ns;
		run_to(&w, HF_HOST_MEMBER);
		span_ns = w.now_ns - span_ns;
		CHECK_EQ(span_ns > FENCE_NS, !is_settled);
		CHECK_EQ(w.h.tenure, 2);
		CHECK_EQ(w.h.generation, 1);
	}
}

TEST(damage_is_mended_while_nobody_else_may_have_done_it)
{
	struct world w;

	join(&w);
	w.is_slot_damaged = true;
	for (int i = 0; i < 6; i++)
		turn(&w);
	CHECK(!w.is_slot_damaged);
	CHECK_EQ(w.h.state, HF_HOST_MEMBER);
	CHECK_EQ(w.h.tenure, 1);
	/* after the deadline it may be another's */
	run_until_io(&w, HF_HOST_DO_READ);
	w.now_ns = w.valid_ns;
	w.is_slot_damaged = true;
	for (int i = 0; i < 20; i++)
		turn(&w);
	CHECK(w.is_slot_damaged);
	CHECK_EQ(w.h.why, HF_HOST_WHY_DAMAGED);
	w.is_slot_damaged = false;
	run_to(&w, HF_HOST_MEMBER);
	CHECK_EQ(w.h.why, HF_HOST_WHY_NONE);
	CHECK_EQ(w.h.tenure, 2);
}

TEST(a_damaged_slot_is_not_joined)
{
	struct world w;

	world_init(&w);
	w.is_slot_damaged = true;
	start(&w);
	for (int i = 0; i < 50; i++)
		turn(&w);
	CHECK_EQ(w.h.state, HF_HOST_LOOKING);
	CHECK_EQ(w.h.why, HF_HOST_WHY_DAMAGED);
	CHECK_EQ(w.writing.generation, 0);
}

/* ---- resuming ---- */

static void resume(struct world *w, uint64_t valid_ns)
{
	struct hf_host_event ev = { .kind = HF_HOST_START,
				    .resume_generation = 4,
				    .resume_instance = 5,
				    .resume_tenure = 6,
				    .resume_valid_ns = valid_ns,
				    .resume_fence_ns = valid_ns + 600 * MS_NS };

	world_init(w);
	w->slot = twin(4, 5000, 3000);
	w->slot.extra.sequence = 40;
	step(w, ev);
}

TEST(a_restarted_daemon_goes_on_with_its_generation)
{
	for (int is_late = 0; is_late < 2; is_late++) {
		struct world w;

		resume(&w, 1000 * S_NS + (is_late ? MS_NS : S_NS));
		turn(&w);
		CHECK_EQ(w.published, 0);
		CHECK_EQ(w.io, HF_HOST_DO_WRITE);
		CHECK_EQ(w.writing.generation, 4);
		CHECK_EQ(w.writing.extra.instance, 5);
		CHECK(w.writing.extra.sequence > 100); /* the last one's may yet land */
		turn(&w);
		CHECK_EQ(w.h.state, HF_HOST_MEMBER);
		CHECK_EQ(w.h.generation, 4);
		CHECK_EQ(w.h.tenure, is_late ? 7 : 6);
		/* the predecessor's last write */
		w.slot = twin(4, 5000, 3000);
		w.slot.extra.sequence = 41;
		for (int i = 0; i < 10; i++)
			turn(&w);
		CHECK_EQ(w.h.state, HF_HOST_MEMBER);
	}
}

TEST(a_resumed_host_whose_slot_is_anothers_is_out_for_good)
{
	for (int what = 0; what < 3; what++) {
		struct world w;

		resume(&w, 1001 * S_NS);
		w.slot.generation += what == 0;
		w.slot.extra.instance += what == 1;
		if (what == 2)
			w.slot = stranger(5, 5000, 3000);
		turn(&w);
		CHECK_EQ(w.h.state, HF_HOST_LOST);
		CHECK_EQ(w.h.why, HF_HOST_WHY_NOT_RESUMED);
		CHECK_EQ(w.io, HF_HOST_DO_REPORT);
		CHECK_EQ(w.valid_ns, 0);
	}
}

TEST(resuming_survives_errors)
{
	struct world w;

	resume(&w, 1001 * S_NS);
	end_io(&w, false);
	turn(&w);
	turn(&w);
	CHECK_EQ(w.io, HF_HOST_DO_WRITE);
	end_io(&w, false);
	run_to(&w, HF_HOST_MEMBER);
	CHECK_EQ(w.h.generation, 4);
	CHECK_EQ(w.h.tenure, 6);
}

TEST(a_machine_that_came_back_joins_anew_at_once_if_it_knows_what_it_was)
{
	for (int is_known = 0; is_known < 2; is_known++) {
		struct hf_host_event ev = { .kind = HF_HOST_START };
		struct world w;
		uint64_t span_ns;

		world_init(&w);
		w.slot = twin(4, 5000, 3000);
		ev.resume_instance = is_known ? w.slot.extra.instance : 0;
		span_ns = w.now_ns;
		step(&w, ev);
		turn(&w);
		CHECK_EQ(w.h.state, is_known ? HF_HOST_CLAIMING : HF_HOST_WAITING);
		run_to(&w, HF_HOST_MEMBER);
		span_ns = w.now_ns - span_ns;
		CHECK_EQ(w.h.generation, 5);
		CHECK(span_ns > FENCE_NS * (is_known ? 1 : 2));
		CHECK(span_ns < FENCE_NS * (is_known ? 1 : 2) + 2 * S_NS);
	}
}

/* ---- leaving ---- */

TEST(leaving_frees_the_slot)
{
	for (int when = 0; when < 3; when++) {
		struct world w;
		uint64_t generation;

		join(&w);
		generation = w.h.generation;
		if (when)
			run_until_io(&w, when == 1 ? HF_HOST_DO_READ : HF_HOST_DO_WRITE);
		step(&w, (struct hf_host_event){ .kind = HF_HOST_LEAVE });
		run_until_io(&w, HF_HOST_DO_READ);
		if (when == 1)
			turn(&w);
		CHECK(when == 1 || w.valid_ns == 0);
		step(&w, (struct hf_host_event){ .kind = HF_HOST_LEAVE }); /* twice */
		run_to(&w, HF_HOST_OUT);
		CHECK_EQ(w.slot.timestamp_s, 0);
		CHECK_EQ(w.slot.generation, generation);
		CHECK_EQ(w.valid_ns, 0);
		CHECK_EQ(w.h.generation, 0);
	}
}

TEST(leaving_does_not_free_what_is_anothers)
{
	struct world w;

	join(&w);
	w.slot = stranger(2, 5000, 3000);
	step(&w, (struct hf_host_event){ .kind = HF_HOST_LEAVE });
	run_to(&w, HF_HOST_LOST);
	CHECK_EQ(w.slot.timestamp_s, 5000);
}

TEST(leaving_before_anything_was_written)
{
	struct world w;

	world_init(&w);
	w.slot = stranger(2, 5000, 0);
	start(&w);
	step(&w, (struct hf_host_event){ .kind = HF_HOST_LEAVE });
	turn(&w);
	CHECK_EQ(w.h.state, HF_HOST_OUT);
	CHECK_EQ(w.io, HF_HOST_DO_REPORT);
	CHECK_EQ(w.slot.timestamp_s, 5000);
}
