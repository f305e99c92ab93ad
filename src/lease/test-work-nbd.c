/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations by way of an NBD server that fails, is slow, stops, dies and comes back. The hosts'
 * own leases go to the file behind it, so that they are renewed all the time.
 */
#include "lease/test-work-world.h"

static char sock[96], uri[160], trigger[96], error_file[128];

/* False: there is no nbdkit; the test is skipped. */
static bool serve(const char *const *words, pid_t *ret)
{
	if (world_area[0] == '\0') {
		world_make_lockspace();
		(void)storage_path(sock, sizeof(sock), "sock");
		(void)storage_path(trigger, sizeof(trigger), "trigger");
		(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
		(void)snprintf(error_file, sizeof(error_file), "error-file=%s", trigger);
	}
	*ret = storage_serve(sock, words);
	return *ret >= 0;
}

static void begin(void)
{
	const char *const paths[] = { uri, uri };

	world_begin_by(2, paths);
	WORLD_EXPECT(world_create(1, "vm"), HF_BALLOT_WON);
}

static void finish(pid_t server)
{
	world_end();
	storage_end(server);
}

static const char *const plain[] = { "file", world_area, NULL };

static void expect_owner(const struct world_op *op, unsigned int id)
{
	struct hf_lease_leader l = world_leader(world_offset(3));

	CHECK_EQ(op->res.r, 0);
	CHECK((op->res.result == HF_BALLOT_WON) == (l.owner == id && l.lver == op->res.lver));
}

TEST(some_reads_and_writes_fail)
{
	static const char *const words[] = {
		"--filter=error",        "file", world_area, error_file, "error-pread-rate=15%",
		"error-pwrite-rate=15%", NULL
	};
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	unsigned int troubles = 0;
	pid_t server;

	if (!serve(words, &server))
		return;
	begin();
	storage_toggle(trigger, true);
	for (unsigned int n = 0; n < 4; n++) {
		struct hf_lease_ref ref = world_ref("vm");
		struct world_op a, b;

		ref.offset = world_offset(3);
		memset(&a, 0, sizeof(a));
		memset(&b, 0, sizeof(b));
		CHECK_EQ(hf_work_start(world_host[1].shop, &ref, &want, world_on_done, &a, &a.work),
			 0);
		CHECK_EQ(hf_work_start(world_host[2].shop, &ref, &want, world_on_done, &b, &b.work),
			 0);
		while (!a.is_done || !b.is_done) {
			troubles += !a.is_done && hf_work_trouble(a.work)[0] != '\0';
			troubles += !b.is_done && hf_work_trouble(b.work)[0] != '\0';
			world_turn();
		}
		expect_owner(&a, 1);
		expect_owner(&b, 2);
		CHECK((a.res.result == HF_BALLOT_WON) != (b.res.result == HF_BALLOT_WON));
		world_release(a.res.result == HF_BALLOT_WON ? 1 : 2, "vm",
			      world_leader(world_offset(3)).lver);
	}
	CHECK(troubles > 0);
	storage_toggle(trigger, false);
	finish(server);
}

TEST(slow_storage_is_only_slow)
{
	static const char *const words[] = { "--filter=delay", "file",         world_area,
					     "rdelay=100ms",   "wdelay=100ms", NULL };
	struct hf_ballot_want give = { .op = HF_BALLOT_TRANSFER, .to = 2 };
	struct hf_lease_state state;
	struct hf_work_result res;
	pid_t server;

	if (!serve(words, &server))
		return;
	begin();
	CHECK(hf_lease_page_read(world_host[2].page, &state));
	res = world_acquire(1, "vm");
	WORLD_EXPECT(res, HF_BALLOT_WON);
	printf("# acquired in %.2f s\n", (double)res.duration_ns / 1e9);
	CHECK(res.duration_ns >= 600000000);
	give.lver = res.lver;
	give.to_generation = state.generation;
	res = world_do(1, "vm", &give);
	WORLD_EXPECT(res, HF_BALLOT_GIVEN);
	printf("# given in %.2f s\n", (double)res.duration_ns / 1e9);
	world_release(2, "vm", res.lver);
	finish(server);
}

TEST(a_server_that_dies_and_comes_back_is_waited_for)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct world_op op;
	pid_t server;

	if (!serve(plain, &server))
		return;
	begin();
	storage_end(server);
	world_start(1, "vm", &want, &op);
	while (hf_work_trouble(op.work)[0] == '\0')
		world_turn();
	CHECK_CONTAINS(hf_work_trouble(op.work), uri);
	CHECK(hf_work_stuck_since_ns(op.work) != 0);
	CHECK(world_read(1, "vm").r < 0); /* this one does not wait */
	CHECK(!op.is_done);
	CHECK(serve(plain, &server));
	world_wait(&op);
	WORLD_EXPECT(op.res, HF_BALLOT_WON);
	world_release(1, "vm", op.res.lver);
	finish(server);
}

TEST(a_server_that_stops_can_be_waited_for_or_not)
{
	struct hf_ballot_want want = { .op = HF_BALLOT_ACQUIRE };
	struct world_op first, second;
	pid_t server;

	if (!serve(plain, &server))
		return;
	begin();
	storage_stop(server);
	world_start(1, "vm", &want, &first);
	world_start(1, "vm", &want, &second);
	for (unsigned int i = 0; i < 10; i++)
		world_turn();
	CHECK(!first.is_done && !second.is_done);
	hf_work_cancel(first.work);
	world_wait(&first);
	CHECK_EQ(first.res.r, -ECANCELED);
	CHECK(!second.is_done);
	CHECK_EQ(kill(server, SIGCONT), 0);
	world_wait(&second);
	WORLD_EXPECT(second.res, HF_BALLOT_WON);
	world_release(1, "vm", second.res.lver);
	finish(server);
}
