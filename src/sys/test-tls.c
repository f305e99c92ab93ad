/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is let in over TLS, what is said to who is not, and the folder's files. */
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "sys/test-tls-world.h"

static const char *const hosta[] = { "hosta", NULL };

/* Both ends of a meeting that comes to nothing: the acceptor's reason, and what the dialler is told. */
static void refused(const char *a_folder, const char *b_folder, const char *at_b, const char *at_a)
{
	struct pair p;
	int fds[2], a, b;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	p = pair_of(fds, a_folder, b_folder);
	shake(p, &a, &b);
	CHECK_EQ(b, -EPROTO);
	CHECK_EQ(a, -EPROTO);
	CHECK(!hf_stream_is_ready(p.b));
	CHECK(!hf_stream_peer_name(p.b));
	CHECK_CONTAINS(hf_stream_error(p.b), at_b);
	CHECK_CONTAINS(hf_stream_error(p.a), at_a);
	free_pair(p);
}

static void flawed_host(struct flaws flaws)
{
	make_hosts();
	make_host("flawed", hosta, flaws);
}

/* ---- who is let in ---- */

TEST(each_side_knows_the_other)
{
	struct pair p = ready_pair();

	CHECK_STR(hf_stream_peer_name(p.a), "hostb");
	CHECK(hf_stream_peer_has_name(p.a, "10.0.0.2"));
	CHECK(hf_stream_peer_has_name(p.a, "fd00::2"));
	CHECK(hf_stream_peer_has_name(p.a, "HOSTB"));
	CHECK(!hf_stream_peer_has_name(p.a, "hosta"));
	CHECK(!hf_stream_peer_has_name(p.a, "hostb.example"));
	CHECK(!hf_stream_peer_has_name(p.a, ""));
	free_pair(p);
}

TEST(any_of_several_names_will_do)
{
	const char *const names[] = { "hostc", "10.0.0.1", "hosta", NULL };
	struct hf_tls *tls;
	struct pair p;
	int fds[2], a, b;

	make_hosts();
	tls = tls_of("b");
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	p.a = tls_stream(fds[0], "a", HF_STREAM_DIALLED, "fd00::2");
	CHECK_EQ(hf_stream_new_tls(fds[1], tls, HF_STREAM_ACCEPTED, names, &p.b, NULL), 0);
	hf_tls_free(tls); /* the connection goes on */
	shake(p, &a, &b);
	CHECK_STR(hf_stream_peer_name(p.b), "10.0.0.1");
	CHECK_STR(hf_stream_peer_name(p.a), "fd00::2");
	free_pair(p);
}

TEST(names_are_needed)
{
	static const char *many[HF_STREAM_NAMES_MAX + 2];
	struct hf_tls *tls;
	struct hf_stream *s;
	struct hf_err err;
	int fds[2];

	make_hosts();
	tls = tls_of("a");
	for (int i = 0; i <= HF_STREAM_NAMES_MAX; i++)
		many[i] = "x";
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK_EQ(hf_stream_new_tls(fds[0], tls, HF_STREAM_DIALLED, many, &s, &err), -E2BIG);
	CHECK_CONTAINS(err.text, "too many");
	many[0] = NULL;
	CHECK_EQ(hf_stream_new_tls(fds[0], tls, HF_STREAM_DIALLED, many, &s, &err), -EINVAL);
	close(fds[0]); /* still ours */
	close(fds[1]);
	hf_tls_free(tls);
}

TEST(another_authority)
{
	flawed_host((struct flaws){ .signer = authority(1) });
	/* It does not trust us either, and is the first to see. */
	refused("flawed", "b", "another authority is trusted there", "its certificate (hostb");
	/* One that trusts us, and shows what another authority has signed: */
	CHECK_EQ(hf_pki_write_certificate(path_in("flawed", "all.pem"), authority(0)->cert, true,
					  NULL),
		 0);
	CHECK_EQ(system("cd /tmp/hf-tls-*/flawed && cat all.pem >> ca-cert.pem"), 0);
	refused("flawed", "b", "is not accepted: ", "another authority is trusted there");
}

TEST(expired)
{
	char today[HF_X509_DATE_TEXT], expected[64];

	flawed_host((struct flaws){ .from_s = -10 * DAY, .until_s = -1 * DAY });
	(void)snprintf(expected, sizeof(expected), "its certificate (hosta) has expired: on %s",
		       hf_x509_date(time(NULL) - DAY, today));
	refused("flawed", "b", expected, "client-cert.pem: expired");
}

TEST(not_yet_valid)
{
	flawed_host((struct flaws){ .from_s = 2 * DAY, .until_s = 10 * DAY });
	refused("flawed", "b", "is not valid yet", "refuses this host's certificate");
}

/* The common name is "hosta" in each of them. */
TEST(another_name)
{
	static const char *const none[] = { NULL };
	static const char *const names[][3] = {
		{ "hostc", "10.0.0.9" },
		{ "hosta.example" },
		{ "xhosta" },
		{ "host" },
	};

	make_hosts();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		make_host("flawed", names[i], (struct flaws){ 0 });
		refused("flawed", "b", "not of hosta", "it carries another name");
	}
	make_host("flawed", none, (struct flaws){ 0 });
	refused("flawed", "b", "it shows a certificate of no name, not of hosta",
		"it carries another name");
}

TEST(the_acceptor_has_another_name)
{
	struct pair p;
	int fds[2], a, b;

	make_hosts();
	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	p.a = tls_stream(fds[0], "a", HF_STREAM_DIALLED, "10.0.0.3");
	p.b = tls_stream(fds[1], "b", HF_STREAM_ACCEPTED, "hosta");
	shake(p, &a, &b);
	CHECK_EQ(a, -EPROTO);
	CHECK_EQ(b, -EPROTO);
	CHECK_CONTAINS(hf_stream_error(p.a),
		       "it shows a certificate of hostb, 10.0.0.2, fd00::2, not of 10.0.0.3");
	CHECK_CONTAINS(hf_stream_error(p.b), "server-cert.pem: it carries another name");
	free_pair(p);
}

/* A client's certificate does not make a server, nor the reverse. */
TEST(the_wrong_purpose)
{
	struct hf_err err;
	struct hf_tls *tls;

	flawed_host((struct flaws){ .is_swapped = true });
	CHECK_EQ(hf_tls_new(path_in("flawed", ""), &tls, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "server-cert.pem: does not fit ca-cert.pem: ");
}

static void revoke_for(const char *folder, const char *cert_file, const char *list_of)
{
	X509_CRL *crl;
	X509 *cert;

	CHECK_EQ(hf_x509_read(path_in(folder, cert_file), &cert, NULL), 0);
	CHECK_EQ(hf_pki_revoke(authority(0)->cert, authority(0)->key, NULL, cert, &crl, NULL), 0);
	CHECK_EQ(hf_pki_write_crl(path_in(list_of, "ca-crl.pem"), crl, true, NULL), 0);
	X509_CRL_free(crl);
	X509_free(cert);
}

TEST(revoked)
{
	make_hosts();
	make_host("flawed", hosta, (struct flaws){ 0 });
	revoke_for("flawed", "client-cert.pem", "b");
	refused("flawed", "b", "its certificate (hosta) has been revoked",
		"client-cert.pem: revoked");
	free_pair(ready_pair()); /* others are let in all the same */
	CHECK_EQ(unlink(path_in("b", "ca-crl.pem")), 0);
}

/* ---- who speaks otherwise ---- */

static struct hf_stream *acceptor(int fd)
{
	make_hosts();
	return tls_stream(fd, "b", HF_STREAM_ACCEPTED, "hosta");
}

static void spoken_to(const void *words, size_t len, const char *error)
{
	uint8_t byte;
	struct hf_stream *s;
	int fds[2];
	size_t n;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	s = acceptor(fds[1]);
	CHECK_EQ(write(fds[0], words, len), len);
	CHECK_EQ(hf_stream_read(s, &byte, 1, &n), -EPROTO);
	CHECK_CONTAINS(hf_stream_error(s), error);
	hf_stream_free(s);
	close(fds[0]);
}

TEST(other_protocols)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
	static const uint8_t ours[64] = { 0x48, 0x46, 0x52, 0x31, 1 };
	static const uint8_t long_record[64] = { 22, 3, 1, 0xff, 0xff };

	spoken_to(http, sizeof(http), "does not speak TLS");
	spoken_to(ours, sizeof(ours), "does not speak TLS");
	spoken_to(long_record, sizeof(long_record), "TLS");
}

TEST(noise)
{
	uint32_t state = 7;

	make_hosts();
	for (int i = 0; i < 200; i++) {
		uint8_t noise[2000], byte;
		struct hf_stream *s;
		int fds[2], r;
		size_t n;

		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);
		if (i % 2)
			memcpy(noise, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
		CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
		s = tls_stream(fds[1], "b", HF_STREAM_ACCEPTED, "hosta");
		CHECK_EQ(write(fds[0], noise, sizeof(noise)), sizeof(noise));
		close(fds[0]);
		do
			r = hf_stream_read(s, &byte, 1, &n);
		while (r == HF_FD_AGAIN);
		CHECK(r == -EPROTO || r == HF_FD_EOF);
		CHECK(hf_stream_error(s)[0]);
		CHECK(!hf_stream_is_ready(s));
		hf_stream_free(s);
	}
}

TEST(stops_in_the_middle)
{
	static const uint8_t start[] = { 22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3 };
	struct hf_stream *s;
	uint8_t byte;
	int fds[2];
	size_t n;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	s = acceptor(fds[1]);
	CHECK_EQ(hf_stream_events(s, true, true), EPOLLIN); /* not a busy loop */
	CHECK_EQ(write(fds[0], start, sizeof(start)), sizeof(start));
	CHECK_EQ(hf_stream_read(s, &byte, 1, &n), HF_FD_AGAIN);
	CHECK_EQ(hf_stream_writev(s, &(struct iovec){ &byte, 1 }, 1, &n), HF_FD_AGAIN);
	CHECK(!hf_stream_is_ready(s));
	close(fds[0]);
	CHECK_EQ(hf_stream_read(s, &byte, 1, &n), HF_FD_EOF);
	CHECK_CONTAINS(hf_stream_error(s), "in the middle of the TLS handshake");
	hf_stream_free(s);
}

/* A client made by hand: @version 0: any. @has_cert: it shows hosta's. */
static void other_client(int version, bool has_cert, const char *error)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct hf_stream *s;
	SSL *ssl;
	uint8_t byte;
	int fds[2], r = HF_FD_AGAIN;
	size_t n;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	s = acceptor(fds[1]);
	CHECK_EQ(SSL_CTX_set_max_proto_version(ctx, version), 1);
	if (has_cert)
		CHECK(SSL_CTX_use_certificate_chain_file(ctx, path_in("a", "client-cert.pem")) ==
			      1 &&
		      SSL_CTX_use_PrivateKey_file(ctx, path_in("a", "client-key.pem"),
						  SSL_FILETYPE_PEM) == 1);
	ssl = SSL_new(ctx);
	CHECK_EQ(SSL_set_fd(ssl, fds[0]), 1);
	for (int i = 0; i < 10 && r == HF_FD_AGAIN; i++) {
		(void)SSL_connect(ssl);
		r = hf_stream_read(s, &byte, 1, &n);
	}
	if (error) {
		CHECK_EQ(r, -EPROTO);
		CHECK_CONTAINS(hf_stream_error(s), error);
	} else {
		CHECK_EQ(r, HF_FD_AGAIN);
		CHECK(hf_stream_is_ready(s));
		CHECK(SSL_session_reused(ssl) == 0);
		CHECK_EQ(SSL_version(ssl), TLS1_3_VERSION);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fds[0]);
	hf_stream_free(s);
}

TEST(other_clients)
{
	other_client(0, /* has_cert= */ true, NULL);
	other_client(TLS1_2_VERSION, /* has_cert= */ true, "does not speak TLS 1.3");
	other_client(0, /* has_cert= */ false, "shows no certificate");
}

/* ---- the folder ---- */

static void damaged(const char *file, const char *content, mode_t mode, const char *error)
{
	struct hf_err err = { "" };
	struct hf_tls *tls;
	int fd;

	make_host("flawed", hosta, (struct flaws){ 0 });
	fd = open(path_in("flawed", file), O_WRONLY | O_CLOEXEC | (content ? O_TRUNC | O_CREAT : 0),
		  0600);
	CHECK(fd >= 0);
	if (content)
		CHECK_EQ(write(fd, content, strlen(content)), strlen(content));
	CHECK_EQ(fchmod(fd, mode), 0);
	close(fd);
	CHECK(hf_tls_new(path_in("flawed", ""), &tls, &err) < 0);
	CHECK_CONTAINS(err.text, path_in("flawed", file));
	CHECK_CONTAINS(err.text, error);
	CHECK_EQ(unlink(path_in("flawed", file)), 0);
}

TEST(files_that_are_no_good)
{
	static const char pem[] = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

	make_hosts();
	damaged("server-cert.pem", "", 0644, "holds no certificate");
	damaged("server-cert.pem", "no PEM at all\n", 0644, "holds no certificate");
	damaged("client-cert.pem", pem, 0644, "certificate number 1 is damaged");
	damaged("ca-cert.pem", pem, 0644, "certificate number 1 is damaged");
	damaged("ca-crl.pem", pem, 0644, "holds no revocation list");
	damaged("client-key.pem", "", 0600, "no private key can be read");
	damaged("server-key.pem", NULL, 0644, "others can read or change");
	damaged("client-key.pem", NULL, 0620, "others can read or change");
	damaged("client-key.pem", NULL, 0602, "others can read or change");
}

TEST(a_file_that_is_missing)
{
	static const char *const files[] = { "ca-cert.pem", "server-cert.pem", "server-key.pem",
					     "client-cert.pem", "client-key.pem" };
	struct hf_err err;
	struct hf_tls *tls;

	for (size_t i = 0; i < 5; i++) {
		make_host("flawed", hosta, (struct flaws){ 0 });
		CHECK_EQ(unlink(path_in("flawed", files[i])), 0);
		CHECK_EQ(hf_tls_new(path_in("flawed", ""), &tls, &err), -ENOENT);
		CHECK_CONTAINS(err.text, files[i]);
	}
	CHECK_EQ(hf_tls_new("/nowhere/at/all", &tls, &err), -ENOENT);
}

TEST(files_that_do_not_fit)
{
	struct hf_err err;
	struct hf_tls *tls;

	make_hosts();
	make_host("flawed", hosta, (struct flaws){ 0 });
	CHECK_EQ(rename(path_in("flawed", "server-key.pem"), path_in("flawed", "client-key.pem")),
		 0);
	make_pair("flawed", /* is_server= */ true, hosta, &(struct flaws){ 0 });
	CHECK_EQ(hf_tls_new(path_in("flawed", ""), &tls, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "this key does not belong to client-cert.pem");

	make_host("flawed", hosta, (struct flaws){ .signer = authority(1) });
	CHECK_EQ(hf_pki_write_certificate(path_in("flawed", "ca-cert.pem"), authority(0)->cert,
					  true, NULL),
		 0);
	CHECK_EQ(hf_tls_new(path_in("flawed", ""), &tls, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "server-cert.pem: does not fit ca-cert.pem");

	make_host("flawed", hosta, (struct flaws){ 0 });
	CHECK_EQ(rename(path_in("flawed", "client-cert.pem"), path_in("flawed", "ca-cert.pem")), 0);
	CHECK_EQ(hf_tls_new(path_in("flawed", ""), &tls, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "not that of an authority");
}

TEST(a_key_with_a_passphrase)
{
	struct hf_err err;
	EVP_PKEY *key;
	FILE *f;

	CHECK_EQ(mkdir(path_in("key", ""), 0700), 0);
	CHECK_EQ(hf_pki_new_key(&key, NULL), 0);
	f = fopen(path_in("key", "key.pem"), "w");
	CHECK(f && fchmod(fileno(f), 0600) == 0);
	CHECK_EQ(PEM_write_PKCS8PrivateKey(f, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
	(void)fclose(f);
	EVP_PKEY_free(key);
	CHECK_EQ(hf_x509_read_key(path_in("key", "key.pem"), &key, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "passphrase");
}

/* Not asked of the files' owner: root may read all, and the tests may run as root. */
TEST(a_file_without_end)
{
	struct hf_err err;
	X509 *cert;

	CHECK_EQ(hf_x509_read("/dev/zero", &cert, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "is no file");
}

/* ---- time ---- */

TEST(days_that_are_left)
{
	struct hf_tls *tls;
	struct hf_err err;

	make_host("flawed", hosta, (struct flaws){ 0 });
	tls = tls_of("flawed");
	CHECK(!hf_tls_note(tls, &err));
	CHECK(hf_tls_days_left(tls) >= 364);
	make_pair("flawed", /* is_server= */ false, hosta,
		  &(struct flaws){ .until_s = 12 * DAY + 60 });
	CHECK(hf_tls_note(tls, &err));
	CHECK_CONTAINS(err.text, "client-cert.pem expires in 12 days");
	hf_tls_free(tls);

	make_host("flawed", hosta, (struct flaws){ .from_s = -9 * DAY, .until_s = -3 * DAY + 60 });
	tls = tls_of("flawed"); /* what runs is not stopped by it */
	CHECK(hf_tls_note(tls, &err));
	CHECK_CONTAINS(err.text, "server-cert.pem expired 3 days ago");
	hf_tls_free(tls);
}

/* A stream of @tls to b, which tells the day on which the certificate that it shows ends. */
static int shown_days(struct hf_tls *tls)
{
	const char *const names[] = { "hostb", NULL };
	struct pair p;
	int fds[2], a, b;

	CHECK_EQ(hf_fd_pair(SOCK_STREAM, fds), 0);
	CHECK_EQ(hf_stream_new_tls(fds[0], tls, HF_STREAM_DIALLED, names, &p.a, NULL), 0);
	p.b = tls_stream(fds[1], "b", HF_STREAM_ACCEPTED, "hosta");
	shake(p, &a, &b);
	a = hf_stream_is_ready(p.b) ? hf_tls_days_left(tls) : -1;
	free_pair(p);
	return a;
}

TEST(a_renewal_needs_no_restart)
{
	struct hf_tls *tls;
	struct hf_err err;

	make_hosts();
	make_host("renewed", hosta, (struct flaws){ .until_s = 5 * DAY + 60 });
	tls = tls_of("renewed");
	CHECK_EQ(shown_days(tls), 5);
	make_host("renewed", hosta, (struct flaws){ .until_s = 50 * DAY + 60 });
	CHECK_EQ(shown_days(tls), 50);
	CHECK(!hf_tls_note(tls, &err));

	/* Half of a renewal, as if the other half were still being copied. */
	make_pair("renewed", /* is_server= */ true, hosta, &(struct flaws){ .until_s = 90 * DAY });
	CHECK_EQ(rename(path_in("renewed", "server-cert.pem"), path_in("renewed", "new.pem")), 0);
	CHECK_EQ(shown_days(tls), 50);
	CHECK(hf_tls_note(tls, &err));
	CHECK_CONTAINS(err.text, "server-cert.pem: No such file");
	CHECK_CONTAINS(err.text, "what was read before stays in force");
	CHECK(hf_tls_note(tls, &err)); /* and goes on saying so */
	CHECK_EQ(rename(path_in("renewed", "new.pem"), path_in("renewed", "server-cert.pem")), 0);
	CHECK(!hf_tls_note(tls, &err));
	CHECK_EQ(shown_days(tls), 50);
	hf_tls_free(tls);
}
