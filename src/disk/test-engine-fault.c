/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Storage that fails: images and the journal are NBD exports of an nbdkit whose error filter fails while a file
 * exists, or of one that forgets what was written when a flush fails, as a kernel does.
 */
#include "disk/test-engine-world.h"

#include <signal.h>
#include <sys/wait.h>

struct server {
	pid_t pid;
	char socket[96];
	char file[96]; /* what it serves */
	char flag[96]; /* while it exists, writes (or flushes) fail */
};

static void run_server(const char *const *argv)
{
	int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)dup2(quiet, STDERR_FILENO); /* it tells of each error that it was asked for */
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

static void await_socket(struct server *s)
{
	struct stat st;

	AWAIT(NULL, stat(s->socket, &st) == 0 || waitpid(s->pid, NULL, WNOHANG) != 0);
	CHECK_EQ(stat(s->socket, &st), 0);
}

static void name_server(struct server *s, const struct world *w, const char *name)
{
	(void)snprintf(s->socket, sizeof(s->socket), "%s/%s.sock", w->folder, name);
	(void)snprintf(s->file, sizeof(s->file), "%s/%s.data", w->folder, name);
	(void)snprintf(s->flag, sizeof(s->flag), "%s/%s.flag", w->folder, name);
}

/* @error: what writes, zeros and trims end with while the flag is there. */
static void start_failing(struct server *s, const struct world *w, const char *name,
			  const char *error, uint64_t bytes)
{
	char what[32], pwrite_flag[128], zero_flag[128], trim_flag[128];
	int fd;

	name_server(s, w, name);
	fd = open(s->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
	(void)snprintf(what, sizeof(what), "error=%s", error);
	(void)snprintf(pwrite_flag, sizeof(pwrite_flag), "error-pwrite-file=%s", s->flag);
	(void)snprintf(zero_flag, sizeof(zero_flag), "error-zero-file=%s", s->flag);
	(void)snprintf(trim_flag, sizeof(trim_flag), "error-trim-file=%s", s->flag);
	(void)fflush(stdout);
	s->pid = fork();
	if (s->pid == 0)
		run_server((const char *const[]){ "nbdkit", "-f", "--exit-with-parent", "-U",
						  s->socket, "--filter=error", "file", s->file,
						  what, "error-pwrite-rate=100%", pwrite_flag,
						  "error-zero-rate=100%", zero_flag,
						  "error-trim-rate=100%", trim_flag, NULL });
	await_socket(s);
}

/* A flush that fails gives back what there was at the last one that did not. */
static void start_forgetful(struct server *s, const struct world *w)
{
	char pread[512], pwrite[512], flush[1024], command[512];

	name_server(s, w, "forgetful");
	(void)snprintf(command, sizeof(command), "truncate -s %llu '%s' && cp '%s' '%s.good'",
		       (unsigned long long)DISK_BYTES, s->file, s->file, s->file);
	CHECK_EQ(system(command), 0);
	(void)snprintf(pread, sizeof(pread),
		       "pread=dd if=%s skip=$4 count=$3 iflag=count_bytes,skip_bytes 2>/dev/null",
		       s->file);
	(void)snprintf(pwrite, sizeof(pwrite),
		       "pwrite=dd of=%s conv=notrunc seek=$4 oflag=seek_bytes 2>/dev/null",
		       s->file);
	(void)snprintf(
		flush, sizeof(flush),
		"flush=if [ -e %s ]; then cp %s.good %s; echo EIO a bad disk >&2; exit 1; fi; "
		"cp %s %s.good",
		s->flag, s->file, s->file, s->file, s->file);
	(void)fflush(stdout);
	s->pid = fork();
	if (s->pid == 0)
		run_server((const char *const[]){
			"nbdkit", "-f", "--exit-with-parent", "-U", s->socket, "eval",
			"get_size=echo 4194304", pread, pwrite, flush, "can_write=exit 0",
			"can_flush=exit 0", "thread_model=echo serialize_all_requests", NULL });
	await_socket(s);
}

static void stop_server(struct server *s)
{
	CHECK_EQ(kill(s->pid, SIGTERM), 0);
	CHECK_EQ(waitpid(s->pid, NULL, 0), s->pid);
}

static void uri_of(const struct server *s, char *buf)
{
	(void)snprintf(buf, 128, "nbd+unix:///?socket=%s", s->socket);
}

static void set_flag(const struct server *s, bool is_set)
{
	if (is_set)
		close(open(s->flag, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	else
		CHECK_EQ(unlink(s->flag), 0);
}

static int file_block(const struct server *s, uint64_t block)
{
	uint8_t buf[BLOCK];
	int fd = open(s->file, O_RDONLY | O_CLOEXEC);

	CHECK_EQ(pread(fd, buf, BLOCK, (off_t)(block * BLOCK)), (ssize_t)BLOCK);
	close(fd);
	return value_of(buf);
}

static bool has_nbdkit(void)
{
	bool has = system("nbdkit --version >/dev/null 2>&1") == 0;

	if (!has)
		printf("# SKIP nbdkit is not installed\n");
	return has;
}

static void begin(struct world *w)
{
	world_files(w, 1, "/tmp");
	world_memory(w, (uint64_t)8 << 20, (uint64_t)8 << 20);
}

static void image_fails(const char *error, int want)
{
	struct world w;
	struct server s;
	struct hf_diskctl_msg msg;
	struct hf_diskshm_words *words;
	uint8_t buf[BLOCK] = { 1 };

	begin(&w);
	start_failing(&s, &w, "image", error, DISK_BYTES);
	uri_of(&s, w.image[0]);
	start(&w);
	words = w.keeper.words;
	set_flag(&s, true);
	/* Past the log QEMU hears of it, and does what its werror says. */
	CHECK_EQ(hf_engine_write(w.engine, 0, buf, BLOCK, 0, false), -want);
	CHECK_EQ(atomic_load(&words->error), 0);
	set_flag(&s, false);
	hold(&w, 1);
	set_flag(&s, true);
	for (uint64_t b = 0; b < 300; b++)
		write_block(&w, b, (uint8_t)(b % 99 + 1));
	capture(&w, 1);
	commit(&w, 1);
	msg = await_msg(&w, HF_DISKCTL_FAULT);
	CHECK_EQ(msg.fault.error, want);
	CHECK_EQ(msg.fault.disk, 0);
	CHECK_CONTAINS(msg.fault.text, "disk 0");
	CHECK_EQ(atomic_load(&words->error), (uint32_t)want);
	CHECK_EQ(read_block(&w, 7), 8); /* it is all still there */
	write_block(&w, 7, 200);
	CHECK_EQ(atomic_load(&words->applied), 0);
	set_flag(&s, false);
	(void)await_msg(&w, HF_DISKCTL_WELL);
	AWAIT(&w, atomic_load(&words->settled) == 1);
	CHECK_EQ(atomic_load(&words->error), 0);
	CHECK_EQ(file_block(&s, 7), 8);
	CHECK_EQ(file_block(&s, 299), 299 % 99 + 1);
	CHECK_EQ(read_block(&w, 7), 200);
	stop(&w);
	stop_server(&s);
	world_end(&w);
}

TEST(an_image_that_fails_is_tried_again_and_nothing_is_lost)
{
	if (has_nbdkit())
		image_fails("EIO", EIO);
}

TEST(an_image_that_is_full_is_tried_again_and_nothing_is_lost)
{
	if (has_nbdkit())
		image_fails("ENOSPC", ENOSPC);
}

TEST(a_journal_that_is_full_is_tried_again_and_nothing_is_applied)
{
	struct world w;
	struct server s;
	struct hf_diskctl_msg msg;
	struct hf_diskshm_words *words;

	if (!has_nbdkit())
		return;
	begin(&w);
	start_failing(&s, &w, "redo", "ENOSPC", 2 * AREA_BYTES + (1 << 20));
	uri_of(&s, w.redo);
	start(&w);
	words = w.keeper.words;
	hold(&w, 1);
	set_flag(&s, true);
	write_block(&w, 1, 1);
	capture(&w, 1);
	commit(&w, 1);
	msg = await_msg(&w, HF_DISKCTL_FAULT);
	CHECK_EQ(msg.fault.error, ENOSPC);
	CHECK_EQ(msg.fault.disk, HF_WIRE_DISKS_MAX);
	CHECK_EQ(atomic_load(&words->journaled), 0);
	CHECK_EQ(image_block(&w, 1), 0);
	write_block(&w, 1, 2);
	set_flag(&s, false);
	(void)await_msg(&w, HF_DISKCTL_WELL);
	AWAIT(&w, atomic_load(&words->applied) == 1);
	CHECK_EQ(image_block(&w, 1), 1);
	/* A drain waits for it, too. */
	set_flag(&s, true);
	atomic_store(&words->mode, HF_DISKSHM_DRAIN);
	hf_diskshm_kick(&w.keeper);
	(void)await_msg(&w, HF_DISKCTL_FAULT);
	CHECK_EQ(atomic_load(&words->state), HF_DISKSHM_DRAIN);
	set_flag(&s, false);
	AWAIT(&w, atomic_load(&words->state) == HF_DISKSHM_DIRECT);
	CHECK_EQ(image_block(&w, 1), 2);
	stop(&w);
	stop_server(&s);
	world_end(&w);
}

/* Also by a successor: it must not believe a flush after one that has failed. */
TEST(what_a_failed_flush_lost_is_written_again)
{
	struct world w;
	struct server s;
	struct hf_diskshm_words *words;

	if (!has_nbdkit())
		return;
	begin(&w);
	start_forgetful(&s, &w);
	uri_of(&s, w.image[0]);
	start(&w);
	words = w.keeper.words;
	hold(&w, 1);
	for (int round = 0; round < 2; round++) {
		uint64_t epoch = (uint64_t)round + 1;

		set_flag(&s, true);
		write_block(&w, 1, (uint8_t)(10 * epoch));
		write_block(&w, 1 + epoch, (uint8_t)epoch);
		capture(&w, epoch);
		commit(&w, epoch);
		(void)await_msg(&w, HF_DISKCTL_FAULT);
		CHECK_EQ(atomic_load(&words->applied), epoch);
		CHECK_EQ(atomic_load(&words->settled), epoch - 1);
		CHECK_EQ(file_block(&s, 1 + epoch), 0); /* gone */
		if (round == 1)
			stop(&w);
		set_flag(&s, false);
		if (round == 1)
			start(&w);
		AWAIT(&w, atomic_load(&words->settled) == epoch);
		CHECK_EQ(file_block(&s, 1), (int)(10 * epoch));
		CHECK_EQ(file_block(&s, 1 + epoch), (int)epoch);
	}
	stop(&w);
	stop_server(&s);
	world_end(&w);
}

/* The area is a few epochs large: it is emptied again and again while writes go on. */
TEST(a_small_journal_is_emptied_in_time)
{
	static uint8_t buf[1 << 20];
	struct world w;
	struct hf_diskshm_words *words;

	begin(&w);
	start(&w);
	words = w.keeper.words;
	hold(&w, 1);
	for (uint64_t epoch = 1; epoch <= 60; epoch++) {
		memset(buf, (int)epoch, sizeof(buf));
		for (uint64_t i = 0; i < 2; i++)
			CHECK_EQ(hf_engine_write(w.engine, 0, buf, sizeof(buf), i << 20, false), 0);
		capture(&w, epoch);
		put(&w, &words->urgent, epoch);
		commit(&w, epoch);
	}
	AWAIT(&w, atomic_load(&words->journaled) == 60);
	AWAIT(&w, atomic_load(&words->settled) == 60);
	CHECK(atomic_load(&words->journal_bytes) > 3 * AREA_BYTES);
	CHECK_EQ(image_block(&w, 0), 60);
	CHECK_EQ(image_block(&w, 511), 60);
	world_end(&w);
}
