/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work in a thread: it ends in the loop, or is abandoned while it blocks, or just when it is through. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "service/worker.h"
#include "sys/fd.h"

struct job {
	struct hf_loop *loop;
	int gate[2]; /* run() reads a byte from it */
	int result;
	_Atomic int drops;
	unsigned int done;
};

static int run(void *ctx)
{
	struct job *j = ctx;
	char c;

	return read(j->gate[0], &c, 1) == 1 ? j->result : -1;
}

static void done(void *ctx, int result)
{
	struct job *j = ctx;

	j->done++;
	hf_loop_exit(j->loop, result);
}

static void drop(void *ctx)
{
	struct job *j = ctx;

	atomic_fetch_add(&j->drops, 1);
}

static void open_gate(struct job *j)
{
	CHECK(write(j->gate[1], "x", 1) == 1);
}

static void await_drop(struct job *j)
{
	for (int i = 0; i < 60000 && !atomic_load(&j->drops); i++)
		(void)usleep(1000);
	CHECK(atomic_load(&j->drops) == 1);
}

TEST(it_ends_in_the_loop)
{
	struct hf_loop loop;
	struct hf_worker *w;
	struct job j = { .loop = &loop, .result = 7 };

	CHECK(hf_loop_init(&loop) == 0);
	CHECK(pipe(j.gate) == 0);
	CHECK(hf_worker_start(&loop, run, done, drop, &j, &w) == 0);
	CHECK(j.done == 0);
	open_gate(&j);
	CHECK(hf_loop_run(&loop) == 7);
	CHECK(j.done == 1 && j.drops == 0);
	hf_fd_close(&j.gate[0]);
	hf_fd_close(&j.gate[1]);
	hf_loop_fini(&loop);
}

TEST(one_that_blocks_can_be_abandoned)
{
	struct hf_loop loop;
	struct hf_worker *w;
	struct job j = { .loop = &loop };

	CHECK(hf_loop_init(&loop) == 0);
	CHECK(pipe(j.gate) == 0);
	CHECK(hf_worker_start(&loop, run, done, drop, &j, &w) == 0);
	hf_worker_abandon(w);
	CHECK(atomic_load(&j.drops) == 0); /* the thread still uses it */
	open_gate(&j);
	await_drop(&j);
	CHECK(j.done == 0);
	hf_fd_close(&j.gate[0]);
	hf_fd_close(&j.gate[1]);
	hf_loop_fini(&loop);
}

TEST(one_that_is_just_through_can_be_abandoned)
{
	struct hf_loop loop;
	struct hf_worker *w;

	CHECK(hf_loop_init(&loop) == 0);
	for (int i = 0; i < 200; i++) {
		struct job j = { .loop = &loop };

		CHECK(pipe(j.gate) == 0);
		CHECK(hf_worker_start(&loop, run, done, drop, &j, &w) == 0);
		open_gate(&j);
		(void)usleep((unsigned int)(i % 20) * 10);
		hf_worker_abandon(w);
		await_drop(&j);
		hf_fd_close(&j.gate[0]);
		hf_fd_close(&j.gate[1]);
	}
	hf_loop_fini(&loop);
}
