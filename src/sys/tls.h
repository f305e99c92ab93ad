/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who this host is and whom it trusts: a folder of X.509 files, as QEMU names them. Layer: sys. Main
 * thread. Connections over it: sys/stream.h; for people: docs/tls.md.
 *
 *   ca-cert.pem                        who signs the certificates of all hosts; may hold several
 *   ca-crl.pem                         what has been revoked; optional
 *   server-cert.pem, server-key.pem    what this host shows to those who connect to it
 *   client-cert.pem, client-key.pem    what it shows to those to whom it connects
 *
 * TLS 1.3 only. Both sides show a certificate. The name in it (subjectAltName, DNS or IP address; the
 * common name counts for nothing, and a wildcard matches nothing) has to be the one that is expected.
 *
 * The files are looked at again for each new connection, so a renewed certificate or a new revocation
 * list needs no restart. What was in force stays in force while the new files are no good; that is
 * told by hf_tls_note(). A certificate of our own that has expired is shown all the same: the peer
 * refuses it, and what runs is not stopped by it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define HF_TLS_FOLDER "/etc/pki/holdfast"
/* From so many days before the end on hf_tls_note() tells. */
#define HF_TLS_WARN_DAYS 30

struct hf_tls;

/**
 * hf_tls_new() - read the folder
 * @dir: copied
 * Blocks for reading some small files. Return: 0; -errno with @err, which names the file and what is
 * wrong with it: missing, no PEM, a key that does not belong to the certificate, a certificate that
 * ca-cert.pem did not sign, a key that others can read.
 */
int hf_tls_new(const char *dir, struct hf_tls **ret, struct hf_err *err) HF_MUST_CHECK;

/* Connections made with it go on. Takes NULL. */
void hf_tls_free(struct hf_tls *tls);

const char *hf_tls_folder(const struct hf_tls *tls);

/**
 * hf_tls_note() - what an administrator should know now
 * Looks at the files again. @ret: "DIR/server-cert.pem expires in 12 days", "... expired 3 days ago:
 * no peer accepts it", "DIR/client-key.pem ...: what was read before stays in force", ...
 * Return: true if there is something to tell.
 */
bool hf_tls_note(struct hf_tls *tls, struct hf_err *ret);

/* Days until the first of the own certificates and of those in ca-cert.pem ends; negative: since. */
int hf_tls_days_left(const struct hf_tls *tls);
