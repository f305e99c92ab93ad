/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each single I/O of each operation fails, or does not come back. The store's calls are replaced at
 * link time (--wrap); what the plan does not name goes to the real ones. Host 1 reaches the area by
 * a link of its own, so that its I/O can be told from host 2's.
 */
#include "lease/test-work-world.h"

#include <pthread.h>

#include "lease/store-internal.h"

enum fault {
	FAULT_NONE,
	FAULT_FAILS, /* it is not done, and says so */
	FAULT_LIES, /* a write is done, and says that it failed */
	FAULT_LATE, /* a write says that it may still land, and does */
	FAULT_HANGS, /* until released, then it is done */
	FAULT_COUNT
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t from; /* host 1's I/O at this offset or behind counts */
	unsigned int n; /* of them so far */
	unsigned int nth; /* which one fails, from 1 */
	bool is_for_good; /* and all behind it */
	enum fault fault;
	unsigned int n_hanging;
	bool is_released;
	pthread_t late; /* writes what lands late */
	bool has_late;
} plan = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static char link_path[96];

int __real_hf_store_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
			 struct hf_err *err);
int __wrap_hf_store_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
			 struct hf_err *err);
int __real_hf_store_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
			  struct hf_err *err);
int __wrap_hf_store_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
			  struct hf_err *err);

static void hang(void)
{
	plan.n_hanging++;
	while (!plan.is_released)
		CHECK_EQ(pthread_cond_wait(&plan.changed, &plan.lock), 0);
	plan.n_hanging--;
}

static enum fault next_fault(const struct hf_store *s, uint64_t offset)
{
	enum fault fault = FAULT_NONE;

	(void)pthread_mutex_lock(&plan.lock);
	if (strcmp(s->path, link_path) == 0 && offset >= plan.from) {
		plan.n++;
		if (plan.n == plan.nth || (plan.n > plan.nth && plan.is_for_good && plan.nth))
			fault = plan.fault;
		if (fault == FAULT_HANGS)
			hang();
	}
	(void)pthread_mutex_unlock(&plan.lock);
	return fault;
}

int __wrap_hf_store_read(struct hf_store *s, void *buf, size_t bytes, uint64_t offset,
			 struct hf_err *err)
{
	enum fault fault = next_fault(s, offset);

	if (fault == FAULT_NONE || fault == FAULT_HANGS)
		return __real_hf_store_read(s, buf, bytes, offset, err);
	hf_err_set(err, "%s: planned", s->path);
	return -EIO;
}

struct late {
	uint64_t offset;
	size_t bytes;
	uint8_t data[];
};

/* Within the time that a write of unknown fate is given. */
static void *land(void *arg)
{
	struct late *l = arg;

	(void)usleep(500000);
	world_pwrite(l->data, l->bytes, l->offset);
	free(l);
	return NULL;
}

static void wait_for_late(void)
{
	if (plan.has_late)
		CHECK_EQ(pthread_join(plan.late, NULL), 0);
	plan.has_late = false;
}

static void land_later(const void *buf, size_t bytes, uint64_t offset)
{
	struct late *l = malloc(sizeof(*l) + bytes);

	CHECK(l);
	l->offset = offset;
	l->bytes = bytes;
	memcpy(l->data, buf, bytes);
	wait_for_late();
	CHECK_EQ(pthread_create(&plan.late, NULL, land, l), 0);
	plan.has_late = true;
}

int __wrap_hf_store_write(struct hf_store *s, const void *buf, size_t bytes, uint64_t offset,
			  struct hf_err *err)
{
	enum fault fault = next_fault(s, offset);

	if (fault == FAULT_NONE || fault == FAULT_HANGS)
		return __real_hf_store_write(s, buf, bytes, offset, err);
	hf_err_set(err, "%s: planned", s->path);
	if (fault == FAULT_LIES)
		CHECK_EQ(__real_hf_store_write(s, buf, bytes, offset, NULL), 0);
	if (fault == FAULT_LATE) {
		land_later(buf, bytes, offset);
		return HF_STORE_UNSETTLED;
	}
	return -EIO;
}

/* ---- planning ---- */

static void make_plan(uint64_t from, unsigned int nth, enum fault fault, bool is_for_good)
{
	(void)pthread_mutex_lock(&plan.lock);
	plan.from = from;
	plan.n = 0;
	plan.nth = nth;
	plan.fault = fault;
	plan.is_for_good = is_for_good;
	plan.is_released = false;
	(void)pthread_mutex_unlock(&plan.lock);
}

/* How many I/Os there were since. */
static unsigned int end_plan(void)
{
	unsigned int n;

	(void)pthread_mutex_lock(&plan.lock);
	n = plan.n;
	plan.nth = 0;
	plan.is_released = true;
	(void)pthread_cond_broadcast(&plan.changed);
	(void)pthread_mutex_unlock(&plan.lock);
	return n;
}

static unsigned int count(void)
{
	unsigned int n;

	(void)pthread_mutex_lock(&plan.lock);
	n = plan.n;
	(void)pthread_mutex_unlock(&plan.lock);
	return n;
}

static void wait_until_hanging(void)
{
	uint64_t end = storage_now_ns() + WORLD_GENEROUS_NS;
	unsigned int n = 0;

	while (n == 0) {
		CHECK(storage_now_ns() < end);
		world_turn();
		(void)pthread_mutex_lock(&plan.lock);
		n = plan.n_hanging;
		(void)pthread_mutex_unlock(&plan.lock);
	}
}

/* Host 1 by its link, host 2 by the real name; both members. */
static void begin(void)
{
	const char *const paths[] = { link_path, world_area };

	if (world_area[0] == '\0') {
		world_make_lockspace();
		(void)storage_path(link_path, sizeof(link_path), "link");
		CHECK_EQ(symlink(world_area, link_path), 0);
	}
	world_begin_by(2, paths);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
}

static uint64_t generation_of(unsigned int id)
{
	struct hf_lease_state s;

	CHECK(hf_lease_page_read(world_host[id].page, &s));
	return s.generation;
}

/* ---- one I/O fails ---- */

struct round {
	enum hf_ballot_op op;
	enum hf_ballot_result want; /* the only one that is right, with nobody else about */
	unsigned int owner; /* and who owns it then; 0: nobody */
};

static const struct round rounds[] = {
	{ HF_BALLOT_ACQUIRE, HF_BALLOT_WON, 1 },      { HF_BALLOT_CLAIM, HF_BALLOT_WON, 1 },
	{ HF_BALLOT_TRANSFER, HF_BALLOT_GIVEN, 2 },   { HF_BALLOT_RELEASE, HF_BALLOT_RELEASED, 0 },
	{ HF_BALLOT_PREPARE, HF_BALLOT_PREPARED, 2 },
};

static struct hf_ballot_want want_of(const struct round *r, uint64_t lver)
{
	return (struct hf_ballot_want){ .op = r->op,
					.lver = r->op == HF_BALLOT_ACQUIRE ? 0 : lver,
					.to = 2,
					.to_generation = generation_of(2) };
}

/* The lease is free before an ACQUIRE, else host 1's; before a PREPARE host 2's, and host 1's
 * block has the mark of a release. Returns its lver. */
static uint64_t set_up(const struct round *r)
{
	struct hf_work_result res = { .lver = world_leader(world_offset(3)).lver };

	if (r->op == HF_BALLOT_ACQUIRE)
		return res.lver;
	res = world_acquire(1, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	if (r->op != HF_BALLOT_PREPARE)
		return res.lver;
	world_release(1, "vm", res.lver);
	res = world_acquire(2, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	CHECK(world_block(world_offset(3), 1).is_released);
	return res.lver;
}

static void check_owner(const struct round *r, const struct hf_work_result *res)
{
	struct hf_lease_leader l = world_leader(world_offset(3));

	if (r->owner == 0) {
		CHECK_EQ(l.timestamp_s, 0);
		return;
	}
	CHECK_EQ(l.owner, r->owner);
	CHECK(l.timestamp_s != 0);
	if (r->op != HF_BALLOT_PREPARE)
		CHECK_EQ(l.lver, res->lver);
	else
		CHECK(!world_block(world_offset(3), 1).is_released);
	world_release(r->owner, "vm", l.lver);
}

/* False: it has fewer I/Os. */
static bool fail_once(const struct round *r, unsigned int nth, enum fault fault)
{
	uint64_t lver = set_up(r);
	struct hf_ballot_want want = want_of(r, lver);
	struct hf_work_result res;
	unsigned int n;

	make_plan(world_offset(1), nth, fault, false);
	res = world_do(1, "vm", &want);
	n = end_plan();
	wait_for_late();
	WORLD_EXPECT(res, r->want);
	check_owner(r, &res);
	return n >= nth;
}

static void fail_each(const struct round *r)
{
	/* Each one that may land late takes HF_BALLOT_SETTLE_MS. */
	bool may_be_late = r->op == HF_BALLOT_ACQUIRE || r->op == HF_BALLOT_RELEASE;
	enum fault last = may_be_late ? FAULT_LATE : FAULT_LIES;

	for (enum fault fault = FAULT_FAILS; fault <= last; fault++) {
		unsigned int nth = 1;

		while (fail_once(r, nth, fault))
			nth++;
		CHECK(nth > 3);
		printf("# %s, fault %u: %u I/Os\n", hf_ballot_op_name(r->op), fault, nth - 1);
	}
}

TEST(each_operation_gets_over_the_failure_of_each_of_its_ios)
{
	begin();
	for (unsigned int i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++)
		fail_each(&rounds[i]);
	world_end();
}

/* ---- all I/O fails from one on ---- */

/* Host 1 is cut off at its nth I/O and cancelled; host 2 wants the lease; then host 1 is back.
 * Whatever each is told then is what stands there. Returns whether host 1 got so far. */
static bool cut_off(enum hf_ballot_op op, unsigned int nth, enum fault fault, unsigned int *n_won)
{
	struct hf_ballot_want acquire = { .op = HF_BALLOT_ACQUIRE }, want = { .op = op };
	struct hf_lease_leader l;
	struct world_op a, b;
	bool is_reached;

	if (op == HF_BALLOT_CLAIM) {
		want.lver = world_acquire(1, "vm").lver;
		acquire = want;
	}
	make_plan(world_offset(1), nth, fault, true);
	world_start(1, "vm", &want, &a);
	while (!a.is_done && hf_work_trouble(a.work)[0] == '\0')
		world_turn();
	is_reached = !a.is_done;
	if (is_reached) {
		CHECK_CONTAINS(hf_work_trouble(a.work), "planned");
		CHECK(hf_work_stuck_since_ns(a.work) != 0);
		hf_work_cancel(a.work);
	}
	world_start(2, "vm", &acquire, &b);
	world_wait(&b);
	(void)end_plan();
	world_wait(&a);
	wait_for_late();
	CHECK(a.res.r == 0 || a.res.r == -ECANCELED);
	CHECK_EQ(b.res.r, 0);
	l = world_leader(world_offset(3));
	CHECK((a.res.r == 0 && a.res.result == HF_BALLOT_WON) == (l.owner == 1));
	CHECK((b.res.result == HF_BALLOT_WON) == (l.owner == 2));
	*n_won += l.owner == 1;
	world_release((unsigned int)l.owner, "vm", l.lver);
	return is_reached;
}

TEST(cut_off_at_each_io_two_hosts_never_both_win)
{
	unsigned int n_won = 0, n = 0;

	begin();
	for (enum fault fault = FAULT_FAILS; fault <= FAULT_LIES; fault++) {
		unsigned int nth = 2; /* the first is the index's */

		for (; cut_off(HF_BALLOT_ACQUIRE, nth, fault, &n_won); nth++)
			n++;
		for (nth = 2; cut_off(HF_BALLOT_CLAIM, nth, fault, &n_won); nth++)
			n++;
	}
	printf("# %u cuts, the host that was cut off won %u of them\n", n, n_won);
	CHECK(n_won > 0 && n_won < n);
	world_end();
}

/* ---- storage that does not answer ---- */

TEST(an_io_that_hangs_holds_only_its_own_lease_and_can_be_cancelled)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct world_op hung, behind;

	begin();
	WORLD_EXPECT(world_create(1, "vm2"), HF_BALLOT_WON);
	make_plan(world_offset(1), 2, FAULT_HANGS, false);
	world_start(1, "vm", &want, &hung);
	wait_until_hanging();
	world_start(1, "vm", &want, &behind);
	WORLD_EXPECT(world_acquire(1, "vm2"), HF_BALLOT_WON);
	WORLD_EXPECT(world_create(1, "vm3"), HF_BALLOT_WON);
	CHECK_EQ(world_read(1, "vm").r, 0);
	CHECK(!hung.is_done);
	CHECK(hf_work_stuck_since_ns(hung.work) != 0);
	hf_work_cancel(hung.work);
	world_wait(&hung);
	CHECK_EQ(hung.res.r, -ECANCELED);
	for (unsigned int i = 0; i < 5; i++)
		world_turn();
	CHECK(!behind.is_done); /* the disk is still at the one before */
	(void)end_plan();
	world_wait(&behind);
	WORLD_EXPECT(behind.res, HF_BALLOT_WON);
	world_end();
}

/* For who cancels it is over at once; the next one writes nothing that the late write could
 * undo. */
TEST(after_a_write_that_may_still_land_the_next_operation_waits)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct hf_lease_block landed;
	struct world_op late;
	struct hf_work_result res;
	uint64_t failed;

	begin();
	make_plan(world_offset(1), 3, FAULT_LATE, false); /* index, read, own block */
	world_start(1, "vm", &want, &late);
	while (hf_work_trouble(late.work)[0] == '\0')
		world_turn();
	failed = storage_now_ns();
	hf_work_cancel(late.work);
	world_wait(&late);
	CHECK_EQ(late.res.r, -ECANCELED);
	WORLD_EXPECT(world_acquire(2, "vm"), HF_BALLOT_WON); /* others do not wait */
	world_release(2, "vm", 1);
	res = world_acquire(1, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	CHECK(storage_now_ns() - failed >= (uint64_t)(HF_BALLOT_SETTLE_MS - 1000) * 1000000);
	(void)end_plan();
	wait_for_late();
	landed = world_block(world_offset(3), 1);
	CHECK_EQ(landed.lver, res.lver);
	CHECK_EQ(landed.owner, 1);
	CHECK(landed.bal != 0);
	world_end();
}

TEST(a_workshop_that_is_stuck_says_so)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct world_op op;

	begin();
	make_plan(world_offset(1), 2, FAULT_HANGS, false);
	world_start(1, "vm", &want, &op);
	wait_until_hanging();
	CHECK_EQ(hf_workshop_free(world_host[1].shop, 100), -ETIMEDOUT);
	(void)end_plan();
	/* It may be tried again. */
	CHECK_EQ(hf_workshop_free(world_host[1].shop, 60000), 0);
	world_host[1].shop = NULL;
	CHECK(op.is_done);
	CHECK_EQ(op.res.r, -ECANCELED);
	world_end();
}

/* ---- a host lease that runs out meanwhile ---- */

/* Its first own value is not written any more: nothing was decided, and another one may. */
TEST(no_value_is_proposed_under_a_host_lease_that_has_run_out)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct hf_lease_state state;
	struct world_op op;

	begin();
	make_plan(world_offset(1), 4, FAULT_HANGS, false); /* index, read, own block: the read */
	world_start(1, "vm", &want, &op);
	wait_until_hanging();
	CHECK(world_block(world_offset(3), 1).mbal != 0);
	world_stop_renewing(1, false);
	CHECK(hf_lease_page_read(world_host[1].page, &state));
	while (hf_lease_page_is_valid(world_host[1].page, state.tenure))
		world_turn();
	(void)end_plan();
	world_wait(&op);
	CHECK_EQ(op.res.r, -ESHUTDOWN);
	CHECK_EQ(world_block(world_offset(3), 1).bal, 0);
	CHECK_EQ(world_leader(world_offset(3)).timestamp_s, 0);
	WORLD_EXPECT(world_acquire(2, "vm"), HF_BALLOT_WON);
	world_end();
}

/* The index is not touched any more. */
TEST(no_lease_is_made_under_a_host_lease_that_has_run_out)
{
	static uint8_t index[1 << 20], after[1 << 20];
	struct world_op op = { .is_done = false };
	struct hf_lease_state state;
	unsigned int n;

	begin();
	make_plan(world_offset(1), 0, FAULT_NONE, false);
	WORLD_EXPECT(world_create(1, "vm2"), HF_BALLOT_WON);
	n = end_plan();
	world_pread(index, sizeof(index), world_offset(1));
	CHECK(n > 10);
	/* The last ones: the entry's read and write, and four of the release. */
	make_plan(world_offset(1), n - 5, FAULT_HANGS, false);
	CHECK_EQ(hf_work_create(world_host[1].shop, "vm3", world_on_done, &op, &op.work), 0);
	wait_until_hanging();
	CHECK_EQ(count(), n - 5);
	world_stop_renewing(1, false);
	CHECK(hf_lease_page_read(world_host[1].page, &state));
	while (hf_lease_page_is_valid(world_host[1].page, state.tenure))
		world_turn();
	(void)end_plan();
	world_wait(&op);
	CHECK_EQ(op.res.r, -ESHUTDOWN);
	world_pread(after, sizeof(after), world_offset(1));
	CHECK(memcmp(index, after, sizeof(index)) == 0);
	CHECK_EQ(world_leader(world_offset(2)).timestamp_s, 0); /* given back */
	world_end();
}

/* ---- making leases ---- */

TEST(a_lease_is_made_over_the_failure_of_each_io)
{
	unsigned int nth = 1, n_failed = 0, n;
	char name[16];

	begin();
	for (bool is_reached = true; is_reached; nth++) {
		struct hf_work_result res;
		uint8_t none[HF_LEASE_INDEX_ENTRY_BYTES] = { 0 };
		enum fault fault = FAULT_FAILS + nth % 3;

		(void)snprintf(name, sizeof(name), "vm%u", nth);
		make_plan(world_offset(1), nth, fault, false);
		res = world_create(1, name);
		n = end_plan();
		wait_for_late();
		is_reached = n >= nth;
		/* Only the first look may fail it. */
		CHECK(res.r == 0 || (nth == 1 && res.r == -EIO));
		n_failed += res.r != 0;
		if (res.r == 0) {
			WORLD_EXPECT(world_acquire(2, name), HF_BALLOT_WON);
			CHECK_EQ(res.offset, world_offset(4));
			world_release(2, name, 1);
		}
		CHECK_EQ(world_leader(world_offset(2)).timestamp_s, 0);
		world_pwrite(none, sizeof(none),
			     world_offset(1) + world_geometry.sector_bytes + sizeof(none));
	}
	CHECK_EQ(n_failed, 1);
	printf("# %u I/Os\n", n);
	world_end();
}
