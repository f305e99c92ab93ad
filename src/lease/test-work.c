/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two and three hosts at leases in one file. */
#include "lease/test-work-world.h"

#include <pthread.h>
#include <stdatomic.h>

static struct hf_ballot_want transfer(uint64_t lver, unsigned int to, uint64_t to_generation)
{
	return (struct hf_ballot_want){
		.op = HF_BALLOT_TRANSFER, .lver = lver, .to = to, .to_generation = to_generation
	};
}

static uint64_t generation_of(unsigned int id)
{
	struct hf_lease_state s;

	CHECK(hf_lease_page_read(world_host[id].page, &s));
	CHECK(s.generation != 0);
	return s.generation;
}

static void expect_leader(uint64_t offset, unsigned int owner, uint64_t lver)
{
	struct hf_lease_leader l = world_leader(offset);

	CHECK_EQ(l.owner, owner);
	CHECK_EQ(l.lver, lver);
	CHECK_EQ(l.write_id, owner);
	CHECK_EQ(l.generation, generation_of(owner));
	CHECK_EQ(l.write_generation, generation_of(owner));
	CHECK(l.timestamp_s != 0);
}

TEST(made_acquired_refused_given_released)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_PREPARE };
	struct hf_work_result res;
	uint64_t at;

	world_begin(2);
	CHECK_EQ(world_read(1, "vm").r, -ENOENT);
	res = world_create(1, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	at = res.offset;
	CHECK_EQ(at, world_offset(3));
	res = world_create(2, "vm");
	WORLD_EXPECT(res, HF_BALLOT_OWNED);
	CHECK_EQ(res.offset, at);

	res = world_acquire(1, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	CHECK_EQ(res.owner, 1);
	CHECK_EQ(res.lver, 1);
	CHECK_EQ(res.generation, generation_of(1));
	CHECK(hf_lease_page_is_valid(world_host[1].page, res.tenure));
	expect_leader(at, 1, 1);
	res = world_acquire(2, "vm");
	WORLD_EXPECT(res, HF_BALLOT_OWNED);
	CHECK_EQ(res.owner, 1);
	CHECK_EQ(res.life, HF_LEASE_LIFE_ALIVE);
	res = world_read(2, "vm");
	CHECK_EQ(res.r, 0);
	CHECK_EQ(res.owner, 1);
	CHECK_EQ(res.lver, 1);
	CHECK(res.timestamp_s != 0);

	WORLD_EXPECT(world_do(2, "vm", &want), HF_BALLOT_PREPARED);
	want = transfer(1, 1, generation_of(1));
	WORLD_EXPECT(world_do(2, "vm", &want), HF_BALLOT_NOT_OWNER);
	want = transfer(1, 2, generation_of(2));
	res = world_do(1, "vm", &want);
	WORLD_EXPECT(res, HF_BALLOT_GIVEN);
	CHECK_EQ(res.owner, 2);
	CHECK_EQ(res.lver, 2);
	expect_leader(at, 2, 2);
	WORLD_EXPECT(world_acquire(1, "vm"), HF_BALLOT_OWNED);

	world_release(2, "vm", 2);
	CHECK_EQ(world_leader(at).timestamp_s, 0);
	CHECK_EQ(world_read(1, "vm").timestamp_s, 0);
	want = (struct hf_ballot_want){ .op = HF_BALLOT_ACQUIRE, .lver = 1 };
	WORLD_EXPECT(world_do(1, "vm", &want), HF_BALLOT_MOVED_ON);
	world_end();
}

/* The vote of a protected pair: both claim at the lver that one owns. */
TEST(of_two_who_claim_one_wins)
{
	uint64_t lver;

	world_begin(2);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	lver = world_acquire(1, "vm").lver;
	for (unsigned int n = 0; n < 40; n++) {
		struct hf_ballot_want want = { .op = HF_BALLOT_CLAIM, .lver = lver };
		struct world_op a, b;

		world_start(1 + n % 2, "vm", &want, &a);
		world_start(2 - n % 2, "vm", &want, &b);
		world_wait(&a);
		world_wait(&b);
		CHECK_EQ(a.res.r, 0);
		CHECK_EQ(b.res.r, 0);
		CHECK(a.res.result == HF_BALLOT_WON || b.res.result == HF_BALLOT_WON);
		CHECK(a.res.result == HF_BALLOT_LOST || b.res.result == HF_BALLOT_LOST);
		CHECK_EQ(a.res.lver, lver + 1);
		CHECK_EQ(b.res.lver, lver + 1);
		CHECK_EQ(a.res.owner, b.res.owner);
		lver++;
		CHECK_EQ(world_leader(world_offset(3)).owner, a.res.owner);
	}
	world_end();
}

TEST(of_three_who_want_a_free_lease_one_gets_it)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };

	world_begin(3);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	for (unsigned int n = 0; n < 40; n++) {
		struct world_op op[WORLD_HOSTS_MAX + 1];
		unsigned int winner = 0, winners = 0;

		for (unsigned int id = 1; id <= 3; id++)
			world_start(1 + (id + n) % 3, "vm", &want, &op[1 + (id + n) % 3]);
		for (unsigned int id = 1; id <= 3; id++)
			world_wait(&op[id]);
		for (unsigned int id = 1; id <= 3; id++) {
			CHECK_EQ(op[id].res.r, 0);
			if (op[id].res.result == HF_BALLOT_WON) {
				winner = id;
				winners++;
			}
		}
		CHECK_EQ(winners, 1);
		CHECK_EQ(world_leader(world_offset(3)).owner, winner);
		world_release(winner, "vm", op[winner].res.lver);
	}
	world_end();
}

/* ---- no free moment ---- */

struct watch {
	atomic_bool is_ending;
	uint64_t offset;
	uint64_t reads, changes;
};

static void *watch_main(void *arg)
{
	struct hf_store_config config = { .path = world_area, .is_read_only = true };
	struct watch *w = arg;
	struct hf_lease_leader leader;
	struct hf_store *s;
	uint64_t lver = 0;
	uint8_t *buf;

	CHECK_EQ(hf_store_open(&config, &s, NULL), 0);
	buf = hf_store_buffer(s, world_geometry.sector_bytes);
	CHECK(buf);
	while (!atomic_load(&w->is_ending)) {
		CHECK_EQ(hf_store_read(s, buf, world_geometry.sector_bytes, w->offset, NULL), 0);
		CHECK_EQ(hf_lease_leader_decode(buf, &world_geometry, "space", "vm", &leader, NULL),
			 0);
		CHECK(leader.timestamp_s != 0);
		CHECK(leader.owner == 1 || leader.owner == 2);
		CHECK_EQ(leader.write_id, leader.owner);
		CHECK(leader.lver >= lver);
		w->changes += leader.lver != lver;
		lver = leader.lver;
		w->reads++;
	}
	hf_store_close(s);
	return NULL;
}

TEST(there_and_back_two_hundred_times_and_never_free)
{
	struct watch w = { .is_ending = false };
	uint64_t lver, begun;
	pthread_t thread;

	world_begin(2);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	lver = world_acquire(1, "vm").lver;
	w.offset = world_offset(3);
	CHECK_EQ(pthread_create(&thread, NULL, watch_main, &w), 0);
	begun = storage_now_ns();
	for (unsigned int n = 0; n < 200; n++) {
		unsigned int from = 1 + n % 2, to = 2 - n % 2;
		struct hf_ballot_want prepare = { .op = HF_BALLOT_PREPARE };
		struct hf_ballot_want give = transfer(lver, to, generation_of(to));
		struct hf_work_result res;

		WORLD_EXPECT(world_do(to, "vm", &prepare), HF_BALLOT_PREPARED);
		res = world_do(from, "vm", &give);
		WORLD_EXPECT(res, HF_BALLOT_GIVEN);
		CHECK_EQ(res.lver, ++lver);
		expect_leader(w.offset, to, lver);
	}
	begun = storage_now_ns() - begun;
	atomic_store(&w.is_ending, true);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(w.changes > 1);
	printf("# %.2f ms each (with PREPARE), leader read %" PRIu64
	       " times, seen to change %" PRIu64 " times\n",
	       (double)begun / 200e6, w.reads, w.changes);
	world_end();
}

/* ---- dead owners ---- */

TEST(a_dead_owners_lease_is_taken_over_by_one_of_two)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE, .patience_ms = 100000 };
	struct world_op a, b;
	uint64_t died;

	world_begin(3);
	WORLD_EXPECT(world_create(3, "vm"), HF_BALLOT_WON);
	WORLD_EXPECT(world_acquire(3, "vm"), HF_BALLOT_WON);
	world_end_shop(3);
	world_stop_renewing(3, false);
	died = storage_now_ns();
	WORLD_EXPECT(world_acquire(1, "vm"), HF_BALLOT_OWNED);
	world_start(1, "vm", &want, &a);
	world_start(2, "vm", &want, &b);
	while (!a.is_done && !b.is_done)
		world_turn();
	died = storage_now_ns() - died;
	CHECK(died > (uint64_t)(WORLD_FENCE_MS - 1000) * 1000000);
	printf("# %.2f s after the last renewal at most\n", (double)died / 1e9);
	WORLD_EXPECT(a.is_done ? a.res : b.res, HF_BALLOT_WON);
	hf_work_cancel(a.is_done ? b.work : a.work);
	world_wait(&a);
	world_wait(&b);
	CHECK((a.res.r == -ECANCELED) != (b.res.r == -ECANCELED));
	world_end();
}

/* What it had under way may land until then, and its block would change behind our back. */
TEST(after_a_daemon_that_died_no_ballot_begins_for_a_while)
{
	struct hf_work_result res;
	uint64_t begun;

	world_begin(1);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	world_end_shop(1);
	world_stop_renewing(1, false);
	begun = storage_now_ns();
	world_ensure(1, world_area, world_area);
	world_wait_member(1);
	CHECK_EQ(world_read(1, "vm").r, 0);
	res = world_acquire(1, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	CHECK(storage_now_ns() - begun >= (uint64_t)HF_BALLOT_SETTLE_MS * 1000000);
	world_end();
}

/* ---- waiting and cancelling ---- */

TEST(one_at_a_time_in_order_and_cancelled)
{
	struct hf_ballot_want patient = { .op = HF_BALLOT_ACQUIRE, .patience_ms = 100000 };
	struct world_op first, second, other;
	uint64_t lver;

	world_begin(2);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	WORLD_EXPECT(world_create(1, "vm2"), HF_BALLOT_WON);
	lver = world_acquire(1, "vm").lver;
	world_start(2, "vm", &patient, &first);
	world_start(2, "vm", &patient, &second);
	world_start(2, "vm2", &patient, &other);
	world_wait(&other);
	WORLD_EXPECT(other.res, HF_BALLOT_WON);
	CHECK(!first.is_done && !second.is_done);
	CHECK_EQ(world_read(2, "vm").owner, 1); /* does not wait behind them */
	hf_work_cancel(first.work);
	hf_work_cancel(first.work);
	CHECK(!first.is_done); /* only from a dispatch */
	world_wait(&first);
	CHECK_EQ(first.res.r, -ECANCELED);
	CHECK(!second.is_done);
	world_release(1, "vm", lver);
	world_wait(&second);
	WORLD_EXPECT(second.res, HF_BALLOT_WON);
	world_end();
}

TEST(there_is_a_limit)
{
	struct hf_ballot_want patient = { .op = HF_BALLOT_ACQUIRE, .patience_ms = 100000 };
	struct hf_lease_ref ref = world_ref("vm");
	static struct world_op op[1000];
	unsigned int n = 0;

	world_begin(2);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	WORLD_EXPECT(world_acquire(1, "vm"), HF_BALLOT_WON);
	while (n < 1000 && hf_work_start(world_host[2].shop, &ref, &patient, world_on_done, &op[n],
					 &op[n].work) == 0)
		n++;
	CHECK_EQ(n, 256);
	CHECK_EQ(hf_work_read(world_host[2].shop, &ref, world_on_done, &op[n], NULL), -EBUSY);
	for (unsigned int i = n; i > 0; i--)
		hf_work_cancel(op[i - 1].work);
	for (unsigned int i = 0; i < n; i++) {
		world_wait(&op[i]);
		CHECK_EQ(op[i].res.r, -ECANCELED);
	}
	CHECK_EQ(world_read(2, "vm").owner, 1);
	world_end();
}

TEST(a_workshop_that_goes_calls_those_back_that_it_can_cancel)
{
	struct hf_ballot_want patient = { .op = HF_BALLOT_ACQUIRE, .patience_ms = 100000 };
	struct world_op waiting, queued;

	world_begin(2);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	WORLD_EXPECT(world_acquire(1, "vm"), HF_BALLOT_WON);
	world_start(2, "vm", &patient, &waiting);
	world_start(2, "vm", &patient, &queued);
	world_end_shop(2);
	CHECK(waiting.is_done && queued.is_done);
	CHECK_EQ(waiting.res.r, -ECANCELED);
	CHECK_EQ(queued.res.r, -ECANCELED);
	world_end();
}

/* ---- who may ---- */

TEST(without_a_valid_host_lease_nothing_begins)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct hf_lease_ref ref = world_ref("vm"), bad = world_ref("");
	struct hf_workshop *shop;
	struct world_op op;

	world_begin(2);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
	shop = world_host[1].shop;
	CHECK_EQ(hf_work_start(shop, &bad, &want, world_on_done, &op, NULL), -EINVAL);
	bad = world_ref(HF_LEASE_INDEX_LEASE_NAME);
	CHECK_EQ(hf_work_start(shop, &bad, &want, world_on_done, &op, NULL), -EINVAL);
	bad = world_ref("vm");
	bad.offset = 512;
	CHECK_EQ(hf_work_start(shop, &bad, &want, world_on_done, &op, NULL), -EINVAL);
	want = transfer(1, 1, 1); /* to itself */
	CHECK_EQ(hf_work_start(shop, &ref, &want, world_on_done, &op, NULL), -EINVAL);
	want = transfer(1, 2001, 1);
	CHECK_EQ(hf_work_start(shop, &ref, &want, world_on_done, &op, NULL), -EINVAL);
	want.op = HF_BALLOT_ACQUIRE;
	world_stop_renewing(1, true);
	CHECK_EQ(hf_work_start(shop, &ref, &want, world_on_done, &op, NULL), -ESHUTDOWN);
	CHECK_EQ(hf_work_create(shop, "vm2", world_on_done, &op, NULL), -ESHUTDOWN);
	CHECK_EQ(hf_work_request(shop, &ref, HF_LEASE_FORCE_KILL, world_on_done, &op, NULL),
		 -ESHUTDOWN);
	world_end();
}

/* ---- requests ---- */

static uint64_t wait_for_request(unsigned int id)
{
	uint64_t end = storage_now_ns() + WORLD_GENEROUS_NS, from = 0;

	while (!hf_member_take_request(world_host[id].member, &from)) {
		CHECK(storage_now_ns() < end);
		world_turn();
	}
	return from;
}

TEST(the_owner_hears_of_a_request)
{
	struct hf_lease_ref ref = world_ref("vm");
	struct world_op op = { .is_done = false };
	struct hf_lease_request request;
	uint8_t sector[4096];
	uint64_t at;

	world_begin(2);
	at = world_create(1, "vm").offset;
	CHECK_EQ(hf_work_request(world_host[2].shop, &ref, HF_LEASE_FORCE_KILL, world_on_done, &op,
				 NULL),
		 0);
	world_wait(&op);
	CHECK_EQ(op.res.r, 0);
	CHECK_EQ(op.res.timestamp_s, 0); /* nobody has it, nobody is asked */
	CHECK_EQ(world_acquire(1, "vm").lver, 1);
	op.is_done = false;
	CHECK_EQ(hf_work_request(world_host[2].shop, &ref, HF_LEASE_FORCE_GRACEFUL, world_on_done,
				 &op, NULL),
		 0);
	world_wait(&op);
	CHECK_EQ(op.res.r, 0);
	CHECK_EQ(op.res.owner, 1);
	CHECK_EQ(wait_for_request(1), 2);
	world_pread(sector, world_geometry.sector_bytes, at + hf_lease_request_at(&world_geometry));
	CHECK_EQ(hf_lease_request_decode(sector, &request, NULL), 0);
	CHECK_EQ(request.lver, 2);
	CHECK_EQ(request.force, HF_LEASE_FORCE_GRACEFUL);
	world_end();
}

/* ---- making leases ---- */

TEST(three_hosts_make_the_same_leases_at_once)
{
	static const char *const names[] = { "a", "b", "c" };
	struct world_op op[WORLD_HOSTS_MAX][3];
	uint64_t offset[3];

	world_begin(3);
	memset(op, 0, sizeof(op));
	for (unsigned int n = 0; n < 3; n++)
		for (unsigned int i = 0; i < 3; i++)
			CHECK_EQ(hf_work_create(world_host[i + 1].shop, names[(n + i) % 3],
						world_on_done, &op[i][(n + i) % 3],
						&op[i][(n + i) % 3].work),
				 0);
	for (unsigned int n = 0; n < 3; n++) {
		unsigned int made = 0;

		for (unsigned int i = 0; i < 3; i++) {
			world_wait(&op[i][n]);
			if (op[i][n].res.r != 0)
				printf("# %s\n", op[i][n].res.error.text);
			CHECK_EQ(op[i][n].res.r, 0);
			made += op[i][n].res.result == HF_BALLOT_WON;
			CHECK_EQ(op[i][n].res.offset, op[0][n].res.offset);
		}
		CHECK_EQ(made, 1);
		offset[n] = op[0][n].res.offset;
		CHECK_EQ(world_leader(offset[n]).num_hosts, WORLD_NUM_HOSTS);
		WORLD_EXPECT(world_acquire(1 + n, names[n]), HF_BALLOT_WON);
	}
	CHECK(offset[0] != offset[1] && offset[1] != offset[2] && offset[0] != offset[2]);
	CHECK_EQ(world_leader(world_offset(2)).timestamp_s, 0); /* the index is free again */
	world_end();
}

TEST(leases_until_there_is_no_room)
{
	char name[16];

	world_begin(1);
	for (unsigned int n = 0; n < WORLD_LEASES; n++) {
		(void)snprintf(name, sizeof(name), "vm%u", n);
		WORLD_EXPECT(world_create(1, name), HF_BALLOT_WON);
	}
	CHECK_EQ(world_create(1, "vm").r, -ENOSPC);
	CHECK_EQ(hf_work_create(world_host[1].shop, "", world_on_done, NULL, NULL), -EINVAL);
	CHECK_EQ(hf_work_create(world_host[1].shop, HF_LEASE_INDEX_LEASE_NAME, world_on_done, NULL,
				NULL),
		 -EINVAL);
	world_end();
}

/* ---- what others have left on the disk ---- */

static uint8_t before[(3 + WORLD_LEASES) << 20], after[sizeof(before)];

/* Everything but the lockspace. */
static void remember(uint8_t *ret)
{
	world_pread(ret, sizeof(before) - (1 << 20), 1 << 20);
}

static void flip(uint64_t offset)
{
	uint8_t byte;

	world_pread(&byte, 1, offset);
	byte ^= 0x5a;
	world_pwrite(&byte, 1, offset);
	remember(before);
}

static void expect_bad(const struct hf_work_result *res, const char *text)
{
	CHECK_EQ(res->r, -EBADMSG);
	CHECK_CONTAINS(res->error.text, text);
	CHECK_CONTAINS(res->error.text, world_area);
	remember(after);
	CHECK(memcmp(before, after, sizeof(before)) == 0);
}

TEST(damage_is_told_and_nothing_is_written)
{
	struct hf_work_result res;
	uint64_t at;

	world_begin(2);
	at = world_create(1, "vm").offset;
	WORLD_EXPECT(world_create(1, "vm2"), HF_BALLOT_WON);

	flip(at + 24); /* the leader's max_hosts: its checksum is wrong */
	res = world_acquire(1, "vm");
	expect_bad(&res, "lease \"vm\" at offset 3145728: ");
	res = world_read(1, "vm");
	expect_bad(&res, "lease \"vm\" at offset 3145728: ");
	flip(at + 24);

	flip(at); /* foreign magic */
	res = world_acquire(1, "vm");
	expect_bad(&res, "magic");
	flip(at);

	/* Another's block: not what a ballot may rest on. */
	flip(at + hf_lease_block_at(&world_geometry, 5) + 8);
	res = world_acquire(1, "vm");
	expect_bad(&res, "the block of host 5 is damaged");
	flip(at + hf_lease_block_at(&world_geometry, 5) + 8);

	flip(world_offset(1)); /* the index */
	res = world_acquire(1, "vm");
	expect_bad(&res, "index");
	res = world_create(1, "vm3");
	expect_bad(&res, "index");
	flip(world_offset(1));

	flip(world_offset(2)); /* its lease */
	res = world_create(1, "vm3");
	expect_bad(&res, "magic");
	flip(world_offset(2));

	WORLD_EXPECT(world_acquire(1, "vm"), HF_BALLOT_WON);
	WORLD_EXPECT(world_create(1, "vm3"), HF_BALLOT_WON);
	world_end();
}

TEST(an_area_that_was_cut_short_and_a_lease_that_the_index_forgot)
{
	struct hf_lease_ref ref = world_ref("vm");
	struct world_op op = { .is_done = false };
	uint8_t none[HF_LEASE_INDEX_ENTRY_BYTES] = { 0 };
	struct hf_work_result res;

	world_begin(1);
	ref.offset = world_create(1, "vm").offset;
	WORLD_EXPECT(world_acquire(1, "vm"), HF_BALLOT_WON);
	world_pwrite(none, sizeof(none), world_offset(1) + world_geometry.sector_bytes);
	res = world_create(1, "new");
	CHECK_EQ(res.r, -EBADMSG);
	CHECK_CONTAINS(res.error.text, "free by the index, is lease \"vm\", owned by host 1");
	CHECK_EQ(world_leader(ref.offset).owner, 1);

	CHECK_EQ(truncate(world_area, (off_t)(ref.offset + world_geometry.sector_bytes)), 0);
	CHECK_EQ(hf_work_read(world_host[1].shop, &ref, world_on_done, &op, NULL), 0);
	world_wait(&op);
	CHECK_EQ(op.res.r, -EBADMSG);
	CHECK_EQ(truncate(world_area, (off_t)world_offset(13)), 0);
	world_end();
}
