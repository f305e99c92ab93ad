/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A -drive or -blockdev with one node of its graph exchanged for an NBD client.
 *
 * Everything else stays as the user wrote it, so that nodes above keep their child, and the keys that
 * any node may have (node-name, cache.*, discard, detect-zeroes, read-only, auto-read-only, force-share) keep
 * their meaning. JSON stays JSON: its null and its types cannot be said in the other form.
 */
#include <errno.h>
#include <json-c/json_object.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "vm/cmdline-internal.h"

/*
 * Seconds for which QEMU keeps requests while nobody serves the socket. Its greatest (uint32): the
 * keeper brings the disk process back, however long that takes, and a guest must not see an error of a
 * disk that is well. QEMU computes with it in 64 bits of nanoseconds, where it has room. Tried on 7.2 and 10.0.
 */
#define RECONNECT_DELAY 4294967295u

/* Keys of the node that say what it was; with a note when one of them asked for something. */
static const struct {
	const char *key;
	bool is_noted;
} left_out[] = {
	{ "driver", false },
	{ "filename", false },
	{ "aio", true },
	{ "aio-max-batch", true },
	{ "locking", true },
	{ "pr-manager", true },
	{ "drop-cache", true },
	{ "x-check-cache-dropped", true },
	{ "server", false },
	{ "export", false },
	{ "tls-creds", false },
	{ "tls-hostname", false },
	{ "reconnect-delay", false },
	{ "open-timeout", true },
	{ "x-dirty-bitmap", true },
	{ "host", false },
	{ "port", false },
	{ "path", false },
};

#define LEFT_OUT_COUNT (sizeof(left_out) / sizeof(left_out[0]))

static bool is_drive(const struct hf_cmdline_entry *e)
{
	return e->opt->kind == HF_OPT_DRIVE;
}

static bool is_noted(const struct hf_cmdline_entry *e, const char *key)
{
	const char *own = key + strlen(e->leaf);

	/* aio= of a drive stands beside its format, not at the file. */
	if (is_drive(e) && strcmp(key, "aio") == 0)
		return true;
	if (strncmp(key, e->leaf, strlen(e->leaf)) != 0)
		return false;
	for (size_t i = 0; i < LEFT_OUT_COUNT; i++)
		if (left_out[i].is_noted && strcmp(own, left_out[i].key) == 0)
			return true;
	return false;
}

void hf_cmdline_note_swap(struct hf_cmdline *cmd, const struct hf_cmdline_entry *e)
{
	const struct hf_cmdline_disk *disk = &cmd->disk[e->disk];

	hf_cmdline_note(cmd,
			"disk '%s': becomes NBD export " HF_CMDLINE_EXPORT "%zu: holdfast opens %s "
			"itself, and writes there what the guest wrote once that is safe",
			disk->id, e->disk, disk->location);
	for (size_t i = 0; i < e->kv.count; i++)
		if (is_noted(e, e->kv.pairs[i].key))
			hf_cmdline_note(cmd, "disk '%s': %s=%s is left out: QEMU does not open it",
					disk->id, e->kv.pairs[i].key, e->kv.pairs[i].value);
}

static bool is_at(const char *key, const char *prefix, const char *name)
{
	size_t n = strlen(prefix);
	size_t m = strlen(name);

	return strncmp(key, prefix, n) == 0 && strncmp(key + n, name, m) == 0 &&
	       (key[n + m] == '\0' || key[n + m] == '.');
}

static bool stays(const struct hf_cmdline_entry *e, const char *key)
{
	if (is_drive(e) && (strcmp(key, "file") == 0 || strcmp(key, "aio") == 0))
		return false;
	if (is_drive(e) && !*e->leaf && strcmp(key, "format") == 0)
		return false;
	for (size_t i = 0; i < LEFT_OUT_COUNT; i++)
		if (is_at(key, e->leaf, left_out[i].key))
			return false;
	return true;
}

static int add(struct hf_keyval *kv, const char *prefix, const char *key, const char *value)
{
	char full[2 * HF_CMDLINE_PREFIX_MAX];

	(void)snprintf(full, sizeof(full), "%s%s", prefix, key);
	return hf_keyval_add(kv, full, value);
}

static int add_client(struct hf_keyval *kv, const struct hf_cmdline_entry *e, const char *socket)
{
	char export[32];
	char delay[32];
	int r;

	(void)snprintf(export, sizeof(export), HF_CMDLINE_EXPORT "%zu", e->disk);
	(void)snprintf(delay, sizeof(delay), "%u", RECONNECT_DELAY);
	r = add(kv, e->leaf, "driver", "nbd");
	if (!r)
		r = add(kv, e->leaf, "server.type", "unix");
	if (!r)
		r = add(kv, e->leaf, "server.path", socket);
	if (!r)
		r = add(kv, e->leaf, "export", export);
	return r ? r : add(kv, e->leaf, "reconnect-delay", delay);
}

static int swap_keyval(const struct hf_cmdline_entry *e, const char *socket, char **ret)
{
	struct hf_keyval kv = { 0 };
	int r = 0;

	for (size_t i = 0; !r && i < e->kv.count; i++)
		if (stays(e, e->kv.pairs[i].key))
			r = hf_keyval_add(&kv, e->kv.pairs[i].key, e->kv.pairs[i].value);
	if (!r)
		r = add_client(&kv, e, socket);
	if (!r)
		r = hf_keyval_format(&kv, e->opt->implied, ret);
	hf_keyval_fini(&kv);
	return r;
}

/* The object that holds the node; NULL when the keys were written with dots. */
static struct json_object *find_object(struct json_object *root, const char *prefix)
{
	char name[HF_CMDLINE_PREFIX_MAX];
	size_t n;

	for (; root && *prefix; prefix += n + 1) {
		n = strcspn(prefix, ".");
		(void)snprintf(name, sizeof(name), "%.*s", (int)n, prefix);
		if (hf_json_obj(root, name, &root, NULL) < 0)
			root = NULL;
	}
	return root;
}

static void put_client(struct json_object *node, const struct hf_cmdline_entry *e,
		       const char *socket)
{
	struct json_object *server = json_object_new_object();
	char export[32];

	(void)snprintf(export, sizeof(export), HF_CMDLINE_EXPORT "%zu", e->disk);
	for (size_t i = 0; i < LEFT_OUT_COUNT; i++)
		json_object_object_del(node, left_out[i].key);
	json_object_object_add(server, "type", json_object_new_string("unix"));
	json_object_object_add(server, "path", json_object_new_string(socket));
	json_object_object_add(node, "driver", json_object_new_string("nbd"));
	json_object_object_add(node, "server", server);
	json_object_object_add(node, "export", json_object_new_string(export));
	json_object_object_add(node, "reconnect-delay", json_object_new_int64(RECONNECT_DELAY));
}

static int swap_json(const struct hf_cmdline_entry *e, const char *socket, char **ret)
{
	struct json_object *root = NULL;
	struct json_object *node;
	int r = hf_json_parse(e->arg, strlen(e->arg), &root, NULL);

	if (r < 0)
		return r;
	node = find_object(root, e->leaf);
	if (node) {
		put_client(node, e, socket);
		*ret = strdup(json_object_to_json_string_ext(
			root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		r = *ret ? 0 : -ENOMEM;
	} else {
		r = -EINVAL;
	}
	json_object_put(root);
	return r;
}

bool hf_cmdline_may_swap_disk(const struct hf_cmdline_entry *e, const char *leaf)
{
	struct json_object *root = NULL;
	bool is_found;

	if (e->arg[0] != '{')
		return true;
	if (hf_json_parse(e->arg, strlen(e->arg), &root, NULL) < 0)
		return false;
	is_found = find_object(root, leaf) != NULL;
	json_object_put(root);
	return is_found;
}

int hf_cmdline_swap_disk(const struct hf_cmdline_entry *e, const char *socket, char **ret)
{
	return e->arg[0] == '{' ? swap_json(e, socket, ret) : swap_keyval(e, socket, ret);
}
