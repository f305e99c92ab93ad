/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the image of a disk is: QEMU's ways to say it, read into a path or an NBD URI.
 *
 * Source: QEMU, block.c (path_has_protocol()), block/file-posix.c, block/nbd.c; the URI is that of
 * the NBD project's doc/uri.md.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/cmdline-internal.h"

#define DEFAULT_PORT "10809"

const char *hf_cmdline_node_get(const struct hf_cmdline_node *node, const char *key)
{
	char full[2 * HF_CMDLINE_PREFIX_MAX];

	(void)snprintf(full, sizeof(full), "%s%s", node->prefix, key);
	return hf_keyval_get(&node->e->kv, full);
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

char *hf_cmdline_image_of_file(struct hf_cmdline *cmd, const char *id, const char *path)
{
	if (*path == '\0')
		hf_cmdline_problem(cmd, "disk", id, "the name of its image is empty");
	else if (has_prefix(path, "/dev/fdset/"))
		hf_cmdline_problem(
			cmd, "disk", id,
			"its image is a descriptor given to QEMU (%s), but holdfast opens "
			"it itself; name it by its path",
			path);
	else
		return hf_cmdline_dup(cmd, path);
	return NULL;
}

static char *of_nbd_name(struct hf_cmdline *cmd, const char *id, const char *name)
{
	if (has_prefix(name, "nbd://") || has_prefix(name, "nbd+unix://"))
		return hf_cmdline_dup(cmd, name);
	if (has_prefix(name, "nbd+tcp://"))
		return hf_cmdline_text(cmd, "nbd://%s", name + strlen("nbd+tcp://"));
	hf_cmdline_problem(cmd, "disk", id,
			   "holdfast does not read the form '%s'; write it as "
			   "nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH",
			   name);
	return NULL;
}

char *hf_cmdline_image_of_name(struct hf_cmdline *cmd, const char *id, const char *name)
{
	size_t n = strcspn(name, ":/");

	if (name[n] != ':')
		return hf_cmdline_image_of_file(cmd, id, name);
	if (has_prefix(name, "file:") || has_prefix(name, "host_device:"))
		return hf_cmdline_image_of_file(cmd, id, name + n + 1);
	if (has_prefix(name, "nbd"))
		return of_nbd_name(cmd, id, name);
	if (has_prefix(name, "json:"))
		hf_cmdline_problem(
			cmd, "disk", id,
			"holdfast does not look into a name that is json:...; write it as "
			"-blockdev");
	else
		hf_cmdline_problem(
			cmd, "disk", id,
			"%.*s: is not a file, block device or NBD export, and nothing else "
			"can be protected; copy the image into one with qemu-img convert",
			(int)n, name);
	return NULL;
}

/* RFC 3986: what is not unreserved is written as %XX; a slash may stand in a path and in a query. */
static char *escape(struct hf_cmdline *cmd, const char *text)
{
	char *out = malloc(3 * strlen(text) + 1);
	size_t n = 0;

	if (!out) {
		cmd->has_failed = true;
		return NULL;
	}
	for (; *text; text++)
		if (isalnum((unsigned char)*text) || strchr("-._~/", *text))
			out[n++] = *text;
		else
			n += (size_t)sprintf(out + n, "%%%02X", (unsigned char)*text);
	out[n] = '\0';
	return out;
}

static char *format_uri(struct hf_cmdline *cmd, const char *path, const char *host,
			const char *port, const char *export)
{
	char *safe_export = escape(cmd, export);
	char *safe_path = path ? escape(cmd, path) : NULL;
	bool is_v6 = host && strchr(host, ':');
	char *uri = NULL;

	if (safe_export && safe_path)
		uri = hf_cmdline_text(cmd, "nbd+unix:///%s?socket=%s", safe_export, safe_path);
	else if (safe_export && host)
		uri = hf_cmdline_text(cmd, "nbd://%s%s%s:%s/%s", is_v6 ? "[" : "", host,
				      is_v6 ? "]" : "", port, safe_export);
	free(safe_export);
	free(safe_path);
	return uri;
}

/* The keys of 2.8 and before ("host", "path") are still taken by QEMU. */
static const char *old_or_new(const struct hf_cmdline_node *node, const char *new, const char *old)
{
	const char *v = hf_cmdline_node_get(node, new);

	return v ? v : hf_cmdline_node_get(node, old);
}

char *hf_cmdline_image_of_nbd(struct hf_cmdline *cmd, const char *id,
			      const struct hf_cmdline_node *node)
{
	const char *path = old_or_new(node, "server.path", "path");
	const char *host = old_or_new(node, "server.host", "host");
	const char *port = old_or_new(node, "server.port", "port");
	const char *type = hf_cmdline_node_get(node, "server.type");
	const char *export = hf_cmdline_node_get(node, "export");
	const char *reason = NULL;

	if (hf_cmdline_node_get(node, "tls-creds"))
		reason = "holdfast does not speak TLS to its server; reach it over a unix socket "
			 "or a "
			 "network of its own, without tls-creds=";
	else if (type && strcmp(type, "inet") != 0 && strcmp(type, "unix") != 0)
		reason = "its server must be of type inet or unix";
	else if (!path == !host)
		reason = "where its server is must be said by server.host= or by server.path=";
	if (!reason)
		return format_uri(cmd, path, host, port ? port : DEFAULT_PORT,
				  export ? export : "");
	hf_cmdline_problem(cmd, "disk", id, "%s", reason);
	return NULL;
}
