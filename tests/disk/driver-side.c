/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver.h"
#include "sys/fd.h"

/* Descriptors in the disk process; 3 is the socket of socket activation. */
enum { LISTEN_FD = 3, SHM_FD, KICK_FD, NOTICE_FD, CONTROL_FD };

struct word {
	const char *name;
	size_t at;
	bool is_wide;
};

#define WORD(member, is_wide)                                                                      \
	{                                                                                          \
#member, offsetof(struct hf_diskshm_words, member), is_wide                        \
	}

static const struct word words[] = {
	WORD(mode, false),         WORD(role, false),           WORD(is_draining, false),
	WORD(open_epoch, true),    WORD(captured, true),        WORD(committed, true),
	WORD(permit_ns, true),     WORD(peer_settled, true),    WORD(urgent, true),
	WORD(state, false),        WORD(reached_role, false),   WORD(error, false),
	WORD(in_done, true),       WORD(copy_done, true),       WORD(journaled, true),
	WORD(applied, true),       WORD(settled, true),         WORD(flushed, true),
	WORD(n_flush_us, false),   WORD(logged_bytes, true),    WORD(epoch_bytes, true),
	WORD(is_over_soft, false), WORD(sync_left_bytes, true), WORD(sync_total_bytes, true),
	WORD(is_sync_done, false), WORD(direct_writes, true),   WORD(n_writes, true),
	WORD(n_reads, true),       WORD(n_flushes, true),       WORD(written_bytes, true),
	WORD(read_bytes, true),    WORD(journal_bytes, true),   WORD(applied_bytes, true),
	WORD(merged_bytes, true),  WORD(redo_ns, true),
};

#define N_WORDS (sizeof(words) / sizeof(words[0]))

/* ---- life ---- */

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	(void)unlink(path);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, 64) < 0)
		driver_die("cannot listen at %s: %s", path, strerror(errno));
	return fd;
}

void side_init(struct side *s, char name, const char *folder)
{
	*s = (struct side){
		.name = name,
		.shm = HF_DISKSHM_NONE,
		.process = HF_PROCESS_NONE,
		.control_fd = -1,
	};
	(void)snprintf(s->socket_path, sizeof(s->socket_path), "%s/%c.sock", folder, name);
	s->listen_fd = listen_at(s->socket_path);
}

static void end_process(struct side *s)
{
	struct hf_process_exit e;

	if (s->process.pid >= 0 && hf_process_kill(&s->process, SIGKILL) == 0) {
		while (hf_process_reap(&s->process, &e) == HF_PROCESS_RUNNING)
			(void)usleep(1000);
	}
	hf_process_close(&s->process);
	hf_fd_close(&s->control_fd);
}

void side_fini(struct side *s)
{
	end_process(s);
	hf_diskshm_close(&s->shm);
	hf_fd_close(&s->listen_fd);
	(void)unlink(s->socket_path);
	for (size_t i = 0; i < s->n_args; i++)
		free(s->args[i]);
	for (size_t i = 0; i < s->n_env; i++)
		free(s->env[i]);
}

void side_make(struct side *s, uint32_t n_disks, uint64_t soft_bytes, uint64_t reserve_bytes)
{
	struct hf_err err = { "" };

	if (s->process.pid >= 0)
		driver_die("%c: new memory while a disk process uses the old", s->name);
	hf_diskshm_close(&s->shm);
	s->shm = HF_DISKSHM_NONE;
	if (hf_diskshm_create(n_disks, soft_bytes, reserve_bytes, &s->shm, &err) < 0)
		driver_die("%c: %s", s->name, err.text);
	atomic_store(&s->shm.words->permit_ns, UINT64_MAX);
	s->epoch = s->shipped = s->sync_shipped = 0;
	s->n_waits = 0;
}

void side_start(struct side *s)
{
	static const char *const common[] = { "shm-fd=4", "kick-fd=5", "notice-fd=6",
					      "control-fd=7" };
	const char *argv[ARGS_MAX + 8], *env[ENV_MAX + 2];
	struct hf_process_fd fds[5];
	struct hf_process_spec spec = {
		.argv = argv, .env_set = env, .env_pid = "LISTEN_PID", .fds = fds, .n_fds = 5
	};
	struct hf_err err = { "" };
	int pair[2];

	if (s->process.pid >= 0 || s->shm.fd < 0 || s->n_args == 0)
		driver_die("%c: nothing to start, or started already", s->name);
	memcpy(argv, s->args, s->n_args * sizeof(argv[0]));
	memcpy(argv + s->n_args, common, sizeof(common));
	argv[s->n_args + sizeof(common) / sizeof(common[0])] = NULL;
	memcpy(env, s->env, s->n_env * sizeof(env[0]));
	env[s->n_env] = "LISTEN_FDS=1";
	env[s->n_env + 1] = NULL;
	hf_fd_close(&s->control_fd);
	if (hf_fd_pair(SOCK_SEQPACKET, pair) < 0)
		driver_die("no socket pair: %s", strerror(errno));
	fds[0] = (struct hf_process_fd){ s->listen_fd, LISTEN_FD };
	fds[1] = (struct hf_process_fd){ s->shm.fd, SHM_FD };
	fds[2] = (struct hf_process_fd){ s->shm.kick_fd, KICK_FD };
	fds[3] = (struct hf_process_fd){ s->shm.notice_fd, NOTICE_FD };
	fds[4] = (struct hf_process_fd){ pair[1], CONTROL_FD };
	if (hf_process_spawn(&spec, &s->process, &err) < 0)
		driver_die("%c: %s", s->name, err.text);
	hf_fd_close(&pair[1]);
	s->control_fd = pair[0];
	driver_event(s, "started", ", \"pid\": %d", (int)s->process.pid);
}

void side_on_process(struct side *s)
{
	char text[HF_PROCESS_EXIT_TEXT];
	struct hf_process_exit e;

	if (s->process.pid < 0 || hf_process_reap(&s->process, &e) != 0)
		return;
	side_on_control(s); /* what it said last */
	hf_process_close(&s->process);
	hf_fd_close(&s->control_fd);
	driver_event(s, "exit", ", \"how\": \"%s\"",
		     hf_process_exit_format(&e, text, sizeof(text)));
}

/* ---- control ---- */

void side_order(struct side *s, struct hf_diskctl_msg *msg)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	size_t len;

	if (msg->type == HF_DISKCTL_SET_STATE || msg->type == HF_DISKCTL_FLUSH_SYNC ||
	    msg->type == HF_DISKCTL_PING)
		msg->number = ++s->last_number;
	len = hf_diskctl_encode(msg, buf);
	if (s->control_fd < 0 ||
	    send(s->control_fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
		driver_event(s, "unsent", ", \"type\": %d", (int)msg->type);
	else
		driver_event(s, "ordered", ", \"number\": %u", msg->number);
}

static void print_ready(const struct side *s, const struct hf_diskctl_msg *m)
{
	driver_event(s, "ready",
		     ", \"condition\": \"%s\", \"session\": %llu, \"map_session\": %llu"
		     ", \"is_map_trusted\": %d, \"recovered\": %llu, \"bytes\": %llu"
		     ", \"block\": %u",
		     hf_disk_condition_name(m->ready.condition),
		     (unsigned long long)m->ready.session.lo,
		     (unsigned long long)m->ready.map_session.lo, m->ready.is_map_trusted,
		     (unsigned long long)m->ready.recovered_epochs,
		     (unsigned long long)m->ready.disk[0].size_bytes, m->ready.disk[0].block_bytes);
}

static void print_packet(const struct side *s, const struct hf_diskctl_msg *m)
{
	switch ((int)m->type) {
	case HF_DISKCTL_READY:
		print_ready(s, m);
		return;
	case HF_DISKCTL_DONE:
		driver_event(s, "done", ", \"number\": %u, \"error\": %d, \"text\": \"%s\"",
			     m->number, m->done.error, driver_quote(m->done.text));
		return;
	case HF_DISKCTL_FAULT:
	case HF_DISKCTL_WELL:
		driver_event(s, m->type == HF_DISKCTL_FAULT ? "fault" : "well",
			     ", \"error\": %d, \"disk\": %u, \"text\": \"%s\"", m->fault.error,
			     m->fault.disk, driver_quote(m->fault.text));
		return;
	case HF_DISKCTL_PONG:
		driver_event(s, "pong", ", \"number\": %u", m->number);
		return;
	default:
		driver_die("%c: the disk process sent an order", s->name);
	}
}

void side_on_control(struct side *s)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX + 1];
	struct hf_diskctl_msg msg;
	struct hf_err err = { "" };
	ssize_t n;

	while (s->control_fd >= 0 &&
	       (n = recv(s->control_fd, buf, sizeof(buf), MSG_DONTWAIT)) != -1) {
		if (n == 0) {
			hf_fd_close(&s->control_fd);
			return;
		}
		if (hf_diskctl_decode(buf, (size_t)n, &msg, &err) < 0)
			driver_die("%c: %s", s->name, err.text);
		print_packet(s, &msg);
	}
}

/* ---- words ---- */

static const struct word *find_word(const char *name)
{
	for (size_t i = 0; i < N_WORDS; i++) {
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	}
	return NULL;
}

static uint64_t load_word(const struct side *s, const struct word *w)
{
	uint8_t *at = (uint8_t *)s->shm.words + w->at;

	return w->is_wide ? atomic_load((_Atomic uint64_t *)(void *)at)
			  : atomic_load((_Atomic uint32_t *)(void *)at);
}

bool side_get(const struct side *s, const char *name, uint64_t *ret)
{
	const struct word *w = find_word(name);

	if (w && s->shm.words)
		*ret = load_word(s, w);
	return w && s->shm.words;
}

bool side_put(struct side *s, const char *name, uint64_t value)
{
	const struct word *w = find_word(name);
	uint8_t *at;

	if (!w || !s->shm.words)
		return false;
	at = (uint8_t *)s->shm.words + w->at;
	if (w->is_wide)
		atomic_store((_Atomic uint64_t *)(void *)at, value);
	else
		atomic_store((_Atomic uint32_t *)(void *)at, (uint32_t)value);
	hf_diskshm_kick(&s->shm);
	return true;
}

void side_print_words(const struct side *s)
{
	char text[4096];
	size_t n = 0;

	for (size_t i = 0; s->shm.words && i < N_WORDS; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ", \"%s\": %llu", words[i].name,
				      (unsigned long long)load_word(s, &words[i]));
	for (int pool = 0; s->shm.words && pool < HF_DISKSHM_POOLS; pool++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ", \"pool%d\": %llu", pool,
				      (unsigned long long)hf_diskshm_in_use(
					      &s->shm, (enum hf_diskshm_pool_id)pool));
	driver_event(s, "words", "%s", n ? text : "");
}

void side_wait(struct side *s, const char *name, bool is_equal, uint64_t value)
{
	const struct word *w = find_word(name);

	if (!w || !s->shm.words || s->n_waits == WAITS_MAX)
		driver_die("%c: cannot wait for '%s'", s->name, name);
	s->waits[s->n_waits++] = (struct wait){ w->name, is_equal, value };
	side_check_waits(s);
}

void side_check_waits(struct side *s)
{
	for (size_t i = 0; i < s->n_waits;) {
		const struct wait *w = &s->waits[i];
		uint64_t now = load_word(s, find_word(w->name));

		if (w->is_equal ? now != w->value : now < w->value) {
			i++;
			continue;
		}
		driver_event(s, "reached", ", \"word\": \"%s\", \"value\": %llu", w->name,
			     (unsigned long long)now);
		s->waits[i] = s->waits[--s->n_waits];
	}
}

/* ---- epochs ---- */

void side_capture(struct side *s)
{
	s->epoch++;
	atomic_store(&s->shm.words->open_epoch, s->epoch + 1);
	atomic_store(&s->shm.words->captured, s->epoch);
	hf_diskshm_kick(&s->shm);
	driver_event(s, "captured", ", \"epoch\": %llu", (unsigned long long)s->epoch);
}

static bool put_chunk(struct side *to, enum hf_diskshm_pool_id pool,
		      const struct hf_diskshm_view *v)
{
	side_reclaim(to);
	return hf_diskshm_put(&to->shm, pool, pool == HF_DISKSHM_IN ? v->epoch : 0, v->records,
			      v->used, v->n_records);
}

void side_ship(struct side *from, struct side *to)
{
	uint64_t head = hf_diskshm_head(&from->shm, HF_DISKSHM_OUT);
	struct hf_diskshm_view v;

	for (; from->shipped < head; from->shipped++) {
		if (!hf_diskshm_look(&from->shm, HF_DISKSHM_OUT, from->shipped, &v))
			driver_die("%c: chunk %llu makes no sense", from->name,
				   (unsigned long long)from->shipped);
		if (v.epoch > from->epoch)
			break;
		if (v.n_records && !put_chunk(to, HF_DISKSHM_IN, &v)) {
			driver_event(to, "full", "%s", "");
			return;
		}
	}
	to->epoch = from->epoch;
	atomic_store(&to->shm.words->captured, from->epoch);
	atomic_store(&to->shm.words->committed, from->epoch);
	hf_diskshm_kick(&to->shm);
	driver_event(to, "shipped", ", \"epoch\": %llu", (unsigned long long)from->epoch);
}

void side_pump(struct side *from, struct side *to)
{
	struct hf_diskshm_view v;

	while (from->is_pumping &&
	       from->sync_shipped < hf_diskshm_head(&from->shm, HF_DISKSHM_SYNC)) {
		if (!hf_diskshm_look(&from->shm, HF_DISKSHM_SYNC, from->sync_shipped, &v))
			driver_die("%c: a piece of the copy makes no sense", from->name);
		if (v.n_records && !put_chunk(to, HF_DISKSHM_COPY, &v))
			return;
		from->sync_shipped++;
		hf_diskshm_free_oldest(&from->shm, HF_DISKSHM_SYNC);
		hf_diskshm_kick(&from->shm);
		hf_diskshm_kick(&to->shm);
	}
}

/* What the other host's images have for good. */
static void tell_settled(const struct side *from, const struct side *to)
{
	uint64_t settled = atomic_load(&from->shm.words->settled);

	if (settled <= atomic_load(&to->shm.words->peer_settled))
		return;
	atomic_store(&to->shm.words->peer_settled, settled);
	hf_diskshm_kick(&to->shm);
}

void side_meet(struct side *a, struct side *b)
{
	if (!a->is_pumping || !a->shm.words || !b->shm.words || b->process.pid < 0)
		return;
	tell_settled(a, b);
	tell_settled(b, a);
}

void side_reclaim(struct side *s)
{
	if (s->shm.words)
		hf_diskshm_reclaim(&s->shm);
}
