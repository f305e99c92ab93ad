/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is the other end the host that it should be? And if not, in words. */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "sys/tls-internal.h"
#include "sys/x509.h"

int hf_tls_peer_init(struct hf_tls_peer *peer, const char *const *names)
{
	*peer = (struct hf_tls_peer){ .n_names = 0 };
	for (size_t i = 0; names[i]; i++) {
		if (i == HF_STREAM_NAMES_MAX)
			return -E2BIG;
		peer->names[i] = strdup(names[i]);
		if (!peer->names[i])
			return -ENOMEM;
		peer->n_names++;
	}
	return peer->n_names > 0 ? 0 : -EINVAL;
}

void hf_tls_peer_fini(struct hf_tls_peer *peer)
{
	for (unsigned int i = 0; i < peer->n_names; i++)
		free(peer->names[i]);
	peer->n_names = 0;
	peer->name = NULL;
}

/* ---- while its certificates are verified ---- */

static void explain_chain(struct hf_tls_peer *peer, X509_STORE_CTX *check, int error)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(check);
	const char *whose = X509_STORE_CTX_get_error_depth(check) > 0
				    ? "an authority of its certificate"
				    : "its certificate";
	char names[HF_X509_NAMES_TEXT], date[HF_X509_DATE_TEXT];

	if (!cert) {
		hf_err_set(&peer->error, "its certificate is not accepted: %s",
			   X509_verify_cert_error_string(error));
		return;
	}
	(void)hf_x509_names(cert, names, sizeof(names));
	if (error == X509_V_ERR_CERT_HAS_EXPIRED)
		hf_err_set(&peer->error, "%s (%s) has expired: on %s", whose, names,
			   hf_x509_date(hf_x509_until_s(cert), date));
	else if (error == X509_V_ERR_CERT_NOT_YET_VALID)
		hf_err_set(&peer->error,
			   "%s (%s) is not valid yet: from %s on; is this host's clock right?",
			   whose, names, hf_x509_date(hf_x509_from_s(cert), date));
	else if (error == X509_V_ERR_CERT_REVOKED)
		hf_err_set(&peer->error, "%s (%s) has been revoked", whose, names);
	else
		hf_err_set(&peer->error, "%s (%s) is not accepted: %s", whose, names,
			   X509_verify_cert_error_string(error));
}

/* The chain is good down to @cert, the peer's own. */
static bool check_name(struct hf_tls_peer *peer, X509 *cert)
{
	char names[HF_X509_NAMES_TEXT];

	for (unsigned int i = 0; i < peer->n_names; i++) {
		if (!hf_x509_has_name(cert, peer->names[i]))
			continue;
		peer->name = peer->names[i];
		return true;
	}
	(void)hf_x509_names(cert, names, sizeof(names));
	hf_err_set(&peer->error, "it shows a certificate of %s, not of %s%s", names, peer->names[0],
		   peer->n_names > 1 ? " or another host that is expected" : "");
	return false;
}

static struct hf_tls_peer *peer_of(const SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

static int on_certificate(int is_good, X509_STORE_CTX *check)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(check, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct hf_tls_peer *peer = peer_of(ssl);

	if (!is_good) {
		explain_chain(peer, check, X509_STORE_CTX_get_error(check));
		return 0;
	}
	if (X509_STORE_CTX_get_error_depth(check) > 0 ||
	    check_name(peer, X509_STORE_CTX_get_current_cert(check)))
		return 1;
	X509_STORE_CTX_set_error(check, X509_V_ERR_HOSTNAME_MISMATCH);
	return 0;
}

void hf_tls_verify_by_peer(SSL_CTX *ctx)
{
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_certificate);
}

void hf_tls_set_peer(SSL *ssl, struct hf_tls_peer *peer)
{
	(void)SSL_set_app_data(ssl, peer);
}

/* ---- afterwards ---- */

/* TLS 1.3 tells a client that its certificate is refused only after its handshake is done. */
static const char *refusal_of(int alert)
{
	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
		return "it carries another name than is expected there";
	case SSL_AD_CERTIFICATE_REVOKED:
		return "revoked";
	case SSL_AD_CERTIFICATE_EXPIRED:
		return "expired";
	case SSL_AD_UNKNOWN_CA:
		return "another authority is trusted there";
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REQUIRED:
		return "not accepted";
	default:
		return NULL;
	}
}

static void explain_alert(struct hf_tls_peer *peer, int alert)
{
	const char *why = refusal_of(alert);

	if (why)
		hf_err_set(&peer->error, "it refuses this host's certificate %s: %s",
			   peer->own_file, why);
	else if (alert == SSL_AD_PROTOCOL_VERSION)
		hf_err_set(&peer->error, "it does not speak TLS 1.3");
	else
		hf_err_set(&peer->error, "it ended TLS: %s", SSL_alert_desc_string_long(alert));
}

static void explain_failure(struct hf_tls_peer *peer, int reason)
{
	if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255)
		explain_alert(peer, reason - SSL_AD_REASON_OFFSET);
	else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
		 reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG)
		hf_err_set(&peer->error,
			   "it does not speak TLS; if it is the peer: is its encryption=plain?");
	else if (reason == SSL_R_UNSUPPORTED_PROTOCOL)
		hf_err_set(&peer->error, "it does not speak TLS 1.3");
	else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		hf_err_set(&peer->error, "it shows no certificate");
}

void hf_tls_explain(struct hf_tls_peer *peer)
{
	unsigned long e = ERR_peek_error();

	if (!peer->error.text[0] && ERR_GET_LIB(e) == ERR_LIB_SSL)
		explain_failure(peer, ERR_GET_REASON(e));
	if (!peer->error.text[0])
		hf_err_set(&peer->error, "TLS failed: %s", hf_x509_reason());
	ERR_clear_error();
}
