/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations of several hosts on one disk, in every order of their steps, with writes that fail: they
 * never land, have landed, or land later. A step is one I/O: in between a host does nothing, so
 * that orders within one do not matter. Time stands still; a wait may end at any moment.
 */
#include "core/test-ballot.h"

#define PLAYERS 3
#define LATE_MAX 3
#define LVERS 16

struct late {
	bool is_block, is_leader;
	uint64_t host;
	struct hf_lease_block block;
	struct hf_lease_leader leader;
};

/* No padding matters: all is zeroed at first and copied whole. */
struct node {
	struct disk disk;
	struct hf_ballot b[PLAYERS];
	struct hf_ballot_action a[PLAYERS];
	struct late late[LATE_MAX];
	bool is_old[PLAYERS]; /* restarted */
	uint64_t decided[LVERS]; /* whom the first leader written for an lver named */
	uint64_t won[LVERS];
	unsigned int faults;
};

struct search {
	uint64_t *seen;
	size_t size, n, ends;
	unsigned int players, attempts, faults;
	bool may_be_dead[HOSTS + 1];
	bool is_restarting;
	bool is_leader_late; /* the first one lands once more, at any time */
};

#define SEEN_SIZE ((size_t)1 << 22)

static bool is_new(struct search *q, const struct node *n)
{
	const uint8_t *p = (const uint8_t *)n;
	uint64_t h = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i + 8 <= sizeof(*n); i += 8) {
		uint64_t v;

		memcpy(&v, p + i, 8);
		h = (h ^ v) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	h |= 1;
	for (i = h % q->size; q->seen[i]; i = (i + 1) % q->size)
		if (q->seen[i] == h)
			return false;
	CHECK(++q->n < q->size / 2);
	q->seen[i] = h;
	return true;
}

static bool is_restarted(const struct node *n, uint64_t host)
{
	for (unsigned int i = 0; i < PLAYERS; i++)
		if (n->is_old[i] && n->b[i].want.host_id == host)
			return true;
	return false;
}

/* Whoever won in a new tenure was not dead since, and has consented to nothing. */
static void check_decided(struct node *n, uint64_t lver, uint64_t owner)
{
	CHECK(lver < LVERS);
	CHECK(owner != 0);
	for (uint64_t below = 0; below < lver; below++)
		CHECK(!n->won[below] || n->won[below] == owner || !is_restarted(n, n->won[below]));
	if (!n->decided[lver])
		n->decided[lver] = owner;
	CHECK_EQ(n->decided[lver], owner);
}

/* A victory of a host that others may have found dead counts for nothing: it has run out. */
static void check_result(const struct search *q, struct node *n, unsigned int i)
{
	const struct hf_ballot_action *a = &n->a[i];
	uint64_t me = n->b[i].want.host_id;

	if (a->result == HF_BALLOT_WON) {
		CHECK_EQ(a->owner, me);
		CHECK_EQ(n->decided[a->lver], me);
		CHECK(!n->won[a->lver]);
		n->won[a->lver] = me;
		if (q->may_be_dead[me] && !is_restarted(n, me))
			return;
		for (uint64_t lver = a->lver + 1; lver < LVERS; lver++)
			CHECK(!n->decided[lver] || n->decided[lver] == me);
	} else if (a->result == HF_BALLOT_GIVEN) {
		CHECK_EQ(n->decided[a->lver], n->b[i].want.to);
	} else if (a->result == HF_BALLOT_LOST) {
		CHECK(a->owner != me);
		CHECK_EQ(n->decided[a->lver], a->owner);
	}
}

static void explore(struct search *q, const struct node *n);

static void feed(struct search *q, struct node *n, unsigned int i, struct hf_ballot_event ev)
{
	const struct hf_ballot_action *a = &n->a[i];

	ev.now_ns = ev.issued_ns = 1000 * S_NS;
	ev.now_s = 1000;
	ev.leader = &n->disk.leader;
	ev.blocks = n->disk.blocks;
	ev.n_blocks = HOSTS;
	hf_ballot_step(&n->b[i], &ev, &n->a[i]);
	if (n->b[i].attempts > q->attempts)
		return;
	if (a->kind == HF_BALLOT_DO_WRITE_LEADER)
		check_decided(n, a->leader.lver, a->leader.owner);
	if (a->kind == HF_BALLOT_DONE)
		check_result(q, n, i);
	explore(q, n);
}

static void land(struct disk *d, const struct hf_ballot_action *a, uint64_t host)
{
	if (a->kind == HF_BALLOT_DO_WRITE_BLOCK)
		d->blocks[host - 1] = a->block;
	if (a->kind == HF_BALLOT_DO_WRITE_LEADER)
		d->leader = a->leader;
}

/* Its write fails: it never lands, has landed, or may land at any later time. */
static void go_wrong(struct search *q, const struct node *n, unsigned int i)
{
	const struct hf_ballot_action *a = &n->a[i];
	uint64_t host = n->b[i].want.host_id;

	for (int how = 0; how < 3; how++) {
		struct node next = *n;

		next.faults++;
		if (how == 1)
			land(&next.disk, a, host);
		if (how == 2) {
			struct late *l = &next.late[n->faults];

			l->host = host;
			l->is_block = a->kind == HF_BALLOT_DO_WRITE_BLOCK;
			l->is_leader = !l->is_block;
			l->block = a->block;
			l->leader = a->leader;
		}
		feed(q, &next, i, (struct hf_ballot_event){ .kind = HF_BALLOT_IO_FAILED });
	}
}

/* It has waited for its block: what has not landed by now never will. */
static void settle(struct node *n, uint64_t host)
{
	for (unsigned int i = 0; i < LATE_MAX; i++)
		if (n->late[i].is_block && n->late[i].host == host)
			memset(&n->late[i], 0, sizeof(n->late[i]));
}

/* Its tenure is over, or its daemon is killed, and another one begins the operation anew: the write under way has landed, or
 * not, or (a leader) may land at any later time. It waits for blocks as the first one would have. */
static void restart(struct search *q, const struct node *n, unsigned int i)
{
	const struct hf_ballot_action *a = &n->a[i];
	uint64_t host = n->b[i].want.host_id;

	for (int how = 0; how < 3; how++) {
		struct node next = *n;

		next.faults++;
		next.is_old[i] = true;
		settle(&next, host);
		if (how == 1)
			land(&next.disk, a, host);
		if (how == 2 && a->kind == HF_BALLOT_DO_WRITE_LEADER) {
			next.late[n->faults].host = host;
			next.late[n->faults].is_leader = true;
			next.late[n->faults].leader = a->leader;
		}
		hf_ballot_begin(&next.b[i], &n->b[i].want, 1000 * S_NS, &next.a[i]);
		explore(q, &next);
	}
}

static void play(struct search *q, const struct node *n, unsigned int i)
{
	const struct hf_ballot_action *a = &n->a[i];
	struct hf_ballot_event ev = { .kind = HF_BALLOT_READ };
	struct node next = *n;
	bool is_write = a->kind == HF_BALLOT_DO_WRITE_BLOCK || a->kind == HF_BALLOT_DO_WRITE_LEADER;

	if (a->kind == HF_BALLOT_DO_WAIT) {
		ev.kind = HF_BALLOT_WAKE;
		settle(&next, next.b[i].want.host_id);
	}
	if (is_write) {
		land(&next.disk, a, n->b[i].want.host_id);
		ev.kind = HF_BALLOT_WRITTEN;
	}
	if (a->kind == HF_BALLOT_DO_LOOK) {
		ev.kind = HF_BALLOT_OWNER_LIFE;
		ev.life = q->may_be_dead[a->owner] && !is_restarted(n, a->owner)
				  ? HF_LEASE_LIFE_DEAD
				  : HF_LEASE_LIFE_ALIVE;
	}
	feed(q, &next, i, ev);
	if (is_write && n->faults < q->faults)
		go_wrong(q, n, i);
	if (q->is_restarting && !n->is_old[i] && n->faults < q->faults)
		restart(q, n, i);
}

static void explore(struct search *q, const struct node *n)
{
	bool is_end = true;

	if (!is_new(q, n))
		return;
	for (unsigned int i = 0; i < q->players; i++) {
		if (n->a[i].kind == HF_BALLOT_DONE)
			continue;
		is_end = false;
		play(q, n, i);
	}
	q->ends += is_end;
	for (unsigned int i = 0; i < LATE_MAX; i++) {
		const struct late *l = &n->late[i];
		struct node next;

		if (!l->is_block && !l->is_leader)
			continue;
		next = *n;
		if (l->is_block)
			next.disk.blocks[l->host - 1] = l->block;
		else
			next.disk.leader = l->leader;
		memset(&next.late[i], 0, sizeof(next.late[i]));
		explore(q, &next);
	}
}

static void search(struct search *q, const struct disk *disk, const struct hf_ballot_want *wants)
{
	struct node n;

	memset(&n, 0, sizeof(n));
	n.disk = *disk;
	if (disk->leader.owner)
		n.decided[disk->leader.lver] = disk->leader.owner;
	for (unsigned int i = 0; i < q->players; i++)
		hf_ballot_begin(&n.b[i], &wants[i], 1000 * S_NS, &n.a[i]);
	if (q->is_leader_late) {
		n.late[LATE_MAX - 1].is_leader = true;
		n.late[LATE_MAX - 1].leader = disk->leader;
	}
	q->size = SEEN_SIZE;
	q->seen = calloc(q->size, sizeof(*q->seen));
	CHECK(q->seen != NULL);
	explore(q, &n);
	printf("# %zu states, %zu ends\n", q->n, q->ends);
	CHECK(q->ends > 0);
	free(q->seen);
}

TEST(vote_in_every_order)
{
	struct search q = { .players = 2, .attempts = 3, .faults = 1 };
	const struct hf_ballot_want wants[] = { want(HF_BALLOT_CLAIM, 1, 5),
						want(HF_BALLOT_CLAIM, 2, 5) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	own(&disk, 1, 11, 5);
	search(&q, &disk, wants);
}

TEST(three_contenders_in_every_order)
{
	struct search q = { .players = 3, .attempts = 1 };
	const struct hf_ballot_want wants[] = { want(HF_BALLOT_ACQUIRE, 1, 0),
						want(HF_BALLOT_ACQUIRE, 2, 0),
						want(HF_BALLOT_ACQUIRE, 3, 0) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	search(&q, &disk, wants);
}

TEST(transfer_against_a_takeover_in_every_order)
{
	struct search q = { .players = 2, .attempts = 2, .faults = 1 };
	const struct hf_ballot_want wants[] = { transfer(1, 5, 2), want(HF_BALLOT_ACQUIRE, 3, 0) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	own(&disk, 1, 11, 5);
	q.may_be_dead[1] = true;
	search(&q, &disk, wants);
}

TEST(release_against_a_vote_in_every_order)
{
	struct search q = { .players = 2, .attempts = 2, .faults = 1 };
	const struct hf_ballot_want wants[] = { want(HF_BALLOT_RELEASE, 1, 5),
						want(HF_BALLOT_CLAIM, 2, 5) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	own(&disk, 1, 11, 5);
	search(&q, &disk, wants);
}

TEST(vote_with_restarts_in_every_order)
{
	struct search q = { .players = 2, .attempts = 1, .faults = 2, .is_restarting = true };
	const struct hf_ballot_want wants[] = { want(HF_BALLOT_CLAIM, 1, 5),
						want(HF_BALLOT_CLAIM, 2, 5) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	own(&disk, 1, 11, 5);
	search(&q, &disk, wants);
}

TEST(transfer_with_restarts_in_every_order)
{
	struct search q = { .players = 2, .attempts = 1, .faults = 1, .is_restarting = true };
	const struct hf_ballot_want wants[] = { transfer(1, 5, 2), want(HF_BALLOT_ACQUIRE, 3, 0) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	own(&disk, 1, 11, 5);
	q.may_be_dead[1] = true;
	search(&q, &disk, wants);
}

TEST(a_takeover_against_an_owner_that_comes_back_in_every_order)
{
	struct search q = { .players = 2, .attempts = 1, .faults = 1, .is_restarting = true };
	struct hf_ballot_want wants[] = { want(HF_BALLOT_CLAIM, 1, 5),
					  want(HF_BALLOT_ACQUIRE, 3, 0) };
	struct disk disk = { .leader = { .num_hosts = HOSTS } };

	own(&disk, 1, 11, 5);
	wants[1].patience_ms =
		1; /* goes on when it has brought the owner's own ballot to its end */
	q.may_be_dead[1] = true;
	q.is_leader_late = true;
	search(&q, &disk, wants);
}
