/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plays QEMU for test-tracker: maps the RAM file and writes to it on command.
 * Usage: test-tracker-child SOCKET_FD RAM_FD BYTES OFFSET
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm/test-tracker-child.h"

#define PAGE 4096u
#define MAX_THREADS 8

static uint8_t *ram;
static size_t ram_bytes;
static off_t ram_offset;
static int ram_fd = -1;

static volatile uint64_t *word_at(uint64_t page, uint64_t offset)
{
	return (volatile uint64_t *)(ram + page * PAGE + offset);
}

struct write_job {
	pthread_t thread;
	const struct child_command *command;
	uint32_t index;
};

static void *write_main(void *arg)
{
	const struct write_job *job = arg;
	const struct child_command *c = job->command;

	for (uint64_t i = job->index; i < c->n; i += c->threads)
		*word_at(c->first + i * c->stride, c->value % 500 * 8) = c->value;
	return NULL;
}

static int64_t do_write(const struct child_command *c)
{
	struct write_job jobs[MAX_THREADS];

	for (uint32_t i = 0; i < c->threads; i++) {
		jobs[i] = (struct write_job){ .command = c, .index = i };
		if (pthread_create(&jobs[i].thread, NULL, write_main, &jobs[i]))
			return -EAGAIN;
	}
	for (uint32_t i = 0; i < c->threads; i++)
		pthread_join(jobs[i].thread, NULL);
	return 0;
}

static int64_t do_read_into(const struct child_command *c)
{
	int fds[2];
	int64_t r = -EIO;

	if (pipe(fds) < 0)
		return -errno;
	if (write(fds[1], &c->value, sizeof(c->value)) == (ssize_t)sizeof(c->value) &&
	    read(fds[0], ram + c->first * PAGE, sizeof(c->value)) == (ssize_t)sizeof(c->value))
		r = 0;
	close(fds[0]);
	close(fds[1]);
	return r;
}

static int64_t do_touch(const struct child_command *c)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < c->n; i++)
		sum += *(volatile uint8_t *)(ram + (c->first + i) * PAGE);
	return (int64_t)(sum & 0xff);
}

/*
 * The race: threads that write each page of RAM exactly once, in no simple order, and can be told to
 * stand still in between. Once, because the mark of a second write would hide that the first was lost.
 */
static struct {
	pthread_t threads[MAX_THREADS];
	uint32_t n;
	uint64_t value;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t n_parked;
	uint32_t n_done;
	atomic_bool is_paused;
} race = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void race_park(void)
{
	pthread_mutex_lock(&race.lock);
	race.n_parked++;
	pthread_cond_broadcast(&race.changed);
	while (race.is_paused)
		pthread_cond_wait(&race.changed, &race.lock);
	race.n_parked--;
	pthread_cond_broadcast(&race.changed);
	pthread_mutex_unlock(&race.lock);
}

static void race_finish(void)
{
	pthread_mutex_lock(&race.lock);
	race.n_done++;
	pthread_cond_broadcast(&race.changed);
	pthread_mutex_unlock(&race.lock);
}

static void *race_main(void *arg)
{
	uint64_t n_pages = ram_bytes / PAGE, step = 7919; /* prime: reaches each page once */

	for (uint64_t i = (uintptr_t)arg; i < n_pages; i += race.n) {
		if (race.is_paused)
			race_park();
		*word_at(i * step % n_pages, race.value % 500 * 8) = race.value;
	}
	race_finish();
	return NULL;
}

static int64_t race_start(const struct child_command *c)
{
	race.is_paused = false;
	race.n_done = 0;
	race.n = c->threads;
	race.value = c->value;
	for (uint32_t i = 0; i < race.n; i++)
		if (pthread_create(&race.threads[i], NULL, race_main, (void *)(uintptr_t)i))
			return -EAGAIN;
	return 0;
}

static int64_t race_pause(void)
{
	pthread_mutex_lock(&race.lock);
	race.is_paused = true;
	while (race.n_parked + race.n_done != race.n)
		pthread_cond_wait(&race.changed, &race.lock);
	pthread_mutex_unlock(&race.lock);
	return race.n_done == race.n;
}

static int64_t race_resume(void)
{
	pthread_mutex_lock(&race.lock);
	race.is_paused = false;
	pthread_cond_broadcast(&race.changed);
	while (race.n_parked != 0)
		pthread_cond_wait(&race.changed, &race.lock);
	pthread_mutex_unlock(&race.lock);
	return 0;
}

static int64_t race_end(void)
{
	for (uint32_t i = 0; i < race.n; i++)
		pthread_join(race.threads[i], NULL);
	return 0;
}

static int64_t look_at_environment(void)
{
	int64_t r = 0;

	if (getenv("HOLDFAST_RAM") || getenv("HOLDFAST_REPORT_FD") || getenv("HOLDFAST_LD_PRELOAD"))
		r += 1;
	if (getenv("LD_PRELOAD"))
		r += 2;
	return r;
}

static void *map_ram(void)
{
	return mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, ram_offset);
}

static int64_t fork_and_map(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(map_ram() == MAP_FAILED);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static int64_t close_fds(int sock)
{
	for (int fd = 3; fd < 256; fd++)
		if (fd != sock)
			(void)close(fd);
	return 0;
}

static int64_t run_race_op(const struct child_command *c)
{
	if (c->op == OP_RACE_START)
		return race_start(c);
	if (c->op == OP_RACE_PAUSE)
		return race_pause();
	return c->op == OP_RACE_RESUME ? race_resume() : race_end();
}

static int64_t run(int sock, const struct child_command *c)
{
	switch ((enum child_op)c->op) {
	case OP_ADDRESS:
		return (int64_t)(uintptr_t)ram;
	case OP_WRITE:
		return do_write(c);
	case OP_READ_INTO:
		return do_read_into(c);
	case OP_TOUCH:
		return do_touch(c);
	case OP_DISCARD:
		return madvise(ram + c->first * PAGE, c->n * PAGE, MADV_DONTNEED) ? -errno : 0;
	case OP_RACE_START:
	case OP_RACE_PAUSE:
	case OP_RACE_RESUME:
	case OP_RACE_END:
		return run_race_op(c);
	case OP_CLOSE_FDS:
		return close_fds(sock);
	case OP_ENVIRONMENT:
		return look_at_environment();
	case OP_FORK_MAP:
		return fork_and_map();
	case OP_UNMAP:
		return munmap(ram, ram_bytes) ? -errno : 0;
	case OP_COUNT:
		break;
	}
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct child_command command;
	int sock;

	if (argc != 5) {
		(void)fprintf(stderr, "usage: %s SOCKET_FD RAM_FD BYTES OFFSET\n", argv[0]);
		return 2;
	}
	sock = atoi(argv[1]);
	ram_fd = atoi(argv[2]);
	ram_bytes = strtoull(argv[3], NULL, 10);
	ram_offset = strtoll(argv[4], NULL, 10);
	ram = map_ram();
	if (ram == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	while (recv(sock, &command, sizeof(command), 0) == (ssize_t)sizeof(command)) {
		int64_t answer = run(sock, &command);

		if (send(sock, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			return 1;
	}
	return 0;
}
