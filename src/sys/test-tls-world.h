/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Authorities, hosts' folders and pairs of streams for the tests of TLS. */
#pragma once

#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "sys/fd.h"
#include "sys/pki.h"
#include "sys/stream.h"
#include "sys/x509.h"

#define DAY ((int64_t)86400)

struct authority {
	EVP_PKEY *key;
	X509 *cert;
};

/* What is wrong with a host's folder; all zero: nothing. */
struct flaws {
	const struct authority *signer; /* instead of the one in ca-cert.pem */
	int64_t from_s, until_s; /* relative to now; 0: an hour ago, in a year */
	bool is_swapped; /* the server's certificate is a client's, and the reverse */
};

__attribute__((unused)) static char world_dir[64];

__attribute__((unused)) static void world_end(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", world_dir);
	CHECK_EQ(system(command), 0);
}

/* A folder for the whole program, gone when it ends. */
__attribute__((unused)) static const char *world(void)
{
	if (world_dir[0])
		return world_dir;
	(void)snprintf(world_dir, sizeof(world_dir), "/tmp/hf-tls-XXXXXX");
	CHECK(mkdtemp(world_dir));
	CHECK_EQ(atexit(world_end), 0);
	return world_dir;
}

__attribute__((unused)) static const char *path_in(const char *folder, const char *file)
{
	static char paths[8][256];
	static unsigned int next;
	char *path = paths[next++ % 8];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s%s%s", world(), folder, *file ? "/" : "",
		       file);
	return path;
}

__attribute__((unused)) static const struct authority *authority(int which)
{
	static struct authority all[2];
	struct hf_pki_request rq = { .kind = HF_PKI_AUTHORITY,
				     .common_name = which ? "another" : "ours",
				     .from_s = time(NULL) - DAY,
				     .until_s = time(NULL) + 3650 * DAY };
	struct authority *a = &all[which];

	if (!a->key) {
		CHECK_EQ(hf_pki_new_key(&a->key, NULL), 0);
		CHECK_EQ(hf_pki_sign(&rq, a->key, NULL, NULL, &a->cert, NULL), 0);
	}
	return a;
}

__attribute__((unused)) static void make_pair(const char *folder, bool is_server,
					      const char *const *names, const struct flaws *flaws)
{
	const struct authority *ca = flaws->signer ? flaws->signer : authority(0);
	struct hf_pki_request rq = {
		.kind = is_server != flaws->is_swapped ? HF_PKI_SERVER : HF_PKI_CLIENT,
		.common_name = "hosta", /* which counts for nothing */
		.names = names,
		.from_s = time(NULL) + (flaws->from_s ? flaws->from_s : -3600),
		.until_s = time(NULL) + (flaws->until_s ? flaws->until_s : 365 * DAY),
	};
	EVP_PKEY *key;
	X509 *cert;

	CHECK_EQ(hf_pki_new_key(&key, NULL), 0);
	CHECK_EQ(hf_pki_sign(&rq, key, ca->cert, ca->key, &cert, NULL), 0);
	CHECK_EQ(hf_pki_write_key(path_in(folder, is_server ? "server-key.pem" : "client-key.pem"),
				  key, true, NULL),
		 0);
	CHECK_EQ(hf_pki_write_certificate(
			 path_in(folder, is_server ? "server-cert.pem" : "client-cert.pem"), cert,
			 true, NULL),
		 0);
	EVP_PKEY_free(key);
	X509_free(cert);
}

/* Makes, or makes anew, all that a host needs. */
__attribute__((unused)) static void make_host(const char *folder, const char *const *names,
					      struct flaws flaws)
{
	const struct authority *trusted = flaws.signer ? flaws.signer : authority(0);

	CHECK(mkdir(path_in(folder, ""), 0700) == 0 || errno == EEXIST);
	make_pair(folder, /* is_server= */ true, names, &flaws);
	make_pair(folder, /* is_server= */ false, names, &flaws);
	CHECK_EQ(
		hf_pki_write_certificate(path_in(folder, "ca-cert.pem"), trusted->cert, true, NULL),
		0);
}

__attribute__((unused)) static struct hf_tls *tls_of(const char *folder)
{
	struct hf_err err = { "" };
	struct hf_tls *tls;

	if (hf_tls_new(path_in(folder, ""), &tls, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	return tls;
}

/* hosta and hostb, who trust each other. */
__attribute__((unused)) static void make_hosts(void)
{
	make_host("a", (const char *const[]){ "hosta", "10.0.0.1", NULL }, (struct flaws){ 0 });
	make_host("b", (const char *const[]){ "hostb", "10.0.0.2", "fd00::2", NULL },
		  (struct flaws){ 0 });
}

/* ---- streams ---- */

struct pair {
	struct hf_stream *a, *b; /* a has dialled */
};

__attribute__((unused)) static struct hf_stream *tls_stream(int fd, const char *folder,
							    enum hf_stream_side side,
							    const char *expected)
{
	const char *const names[] = { expected, NULL };
	struct hf_tls *tls = tls_of(folder);
	struct hf_stream *s;

	CHECK_EQ(hf_stream_new_tls(fd, tls, side, names, &s, NULL), 0);
	hf_tls_free(tls);
	return s;
}

__attribute__((unused)) static struct pair pair_of(const int fds[2], const char *a_folder,
						   const char *b_folder)
{
	return (struct pair){ tls_stream(fds[0], a_folder, HF_STREAM_DIALLED, "hostb"),
			      tls_stream(fds[1], b_folder, HF_STREAM_ACCEPTED, "hosta") };
}

__attribute__((unused)) static void free_pair(struct pair p)
{
	hf_stream_free(p.a);
	hf_stream_free(p.b);
}

/* Reads, which does the handshake, until nothing more moves: what the last reads have returned. */
__attribute__((unused)) static void shake(struct pair p, int *ret_a, int *ret_b)
{
	uint8_t byte;
	size_t n;

	for (int turn = 0; turn < 10; turn++) {
		*ret_b = hf_stream_read(p.b, &byte, 1, &n);
		*ret_a = hf_stream_read(p.a, &byte, 1, &n);
	}
}

/* A pair that has shaken hands, over unix sockets: what one side sends is there at once. */
__attribute__((unused)) static struct pair ready_pair(void)
{
	int fds[2], a, b;
	struct pair p;

	make_hosts();
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	p = pair_of(fds, "a", "b");
	CHECK(!hf_stream_is_ready(p.a));
	shake(p, &a, &b);
	CHECK_EQ(a, HF_FD_AGAIN);
	CHECK_EQ(b, HF_FD_AGAIN);
	CHECK(hf_stream_is_ready(p.a) && hf_stream_is_ready(p.b));
	return p;
}
