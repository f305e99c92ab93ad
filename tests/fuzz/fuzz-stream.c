/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes from a stranger at a keeper's door, over TLS, in any pieces (first byte). Nobody gets in
 * without a certificate, and whatever comes of it has a reason that is fit for a log.
 */
#include "fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/pki.h"
#include "sys/stream.h"

static char folder[64];

static void remove_folder(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", folder);
	FUZZ_CHECK(system(command) == 0);
}

static void write_pair(EVP_PKEY *key, X509 *cert, const char *kind)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s-cert.pem", folder, kind);
	FUZZ_CHECK(hf_pki_write_certificate(path, cert, true, NULL) == 0);
	(void)snprintf(path, sizeof(path), "%s/%s-key.pem", folder, kind);
	FUZZ_CHECK(hf_pki_write_key(path, key, true, NULL) == 0);
}

static struct hf_tls *make_host(void)
{
	int64_t now_s = (int64_t)time(NULL);
	struct hf_pki_request rq = { .kind = HF_PKI_AUTHORITY,
				     .common_name = "ca",
				     .from_s = now_s - 3600,
				     .until_s = now_s + 10000000 };
	EVP_PKEY *ca_key, *key;
	struct hf_tls *tls;
	X509 *ca, *cert;

	(void)snprintf(folder, sizeof(folder), "/tmp/hf-fuzz-XXXXXX");
	FUZZ_CHECK(mkdtemp(folder) != NULL);
	FUZZ_CHECK(atexit(remove_folder) == 0);
	FUZZ_CHECK(hf_pki_new_key(&ca_key, NULL) == 0 && hf_pki_new_key(&key, NULL) == 0);
	FUZZ_CHECK(hf_pki_sign(&rq, ca_key, NULL, NULL, &ca, NULL) == 0);
	rq.kind = HF_PKI_BOTH;
	FUZZ_CHECK(hf_pki_sign(&rq, key, ca, ca_key, &cert, NULL) == 0);
	write_pair(ca_key, ca, "ca");
	write_pair(key, cert, "server");
	write_pair(key, cert, "client");
	FUZZ_CHECK(hf_tls_new(folder, &tls, NULL) == 0);
	X509_free(ca);
	X509_free(cert);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
	return tls;
}

static void check_text(const char *text)
{
	FUZZ_CHECK(text[0]);
	for (; *text; text++)
		FUZZ_CHECK(*text >= ' ' && *text < 0x7f);
}

static int feed(struct hf_stream *s, int fd, const uint8_t *data, size_t size, size_t chunk)
{
	int r = HF_FD_AGAIN;
	uint8_t byte;
	size_t n;

	for (size_t at = 0; at < size && r == HF_FD_AGAIN; at += chunk) {
		size_t len = chunk < size - at ? chunk : size - at;

		if (send(fd, data + at, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		r = hf_stream_read(s, &byte, 1, &n);
		FUZZ_CHECK(!hf_stream_is_ready(s));
	}
	(void)shutdown(fd, SHUT_WR);
	for (int i = 0; i < 3 && r == HF_FD_AGAIN; i++)
		r = hf_stream_read(s, &byte, 1, &n);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *const names[] = { "hosta", NULL };
	static struct hf_tls *tls;
	struct hf_stream *s;
	int fds[2], r;

	if (size < 1 || size > 65536)
		return 0;
	if (!tls)
		tls = make_host();
	FUZZ_CHECK(hf_fd_pair(SOCK_STREAM, fds) == 0);
	FUZZ_CHECK(hf_stream_new_tls(fds[0], tls, HF_STREAM_ACCEPTED, names, &s, NULL) == 0);
	r = feed(s, fds[1], data + 1, size - 1, data[0] ? (size_t)data[0] * 8 : size);
	FUZZ_CHECK(r == HF_FD_EOF || r == -EPROTO || r == -ECONNRESET);
	FUZZ_CHECK(!hf_stream_peer_name(s));
	check_text(hf_stream_error(s));
	hf_stream_free(s);
	close(fds[1]);
	return 0;
}
