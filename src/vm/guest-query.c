/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What QEMU says of itself once it runs, and its migration set up for checkpoints.
 *
 * Answers are held against limits: they go to the other side, whose decoder has the same ones.
 * Source: QEMU's qapi/{migration,machine,qom,block-core}.json, 7.2 and 10.0.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "codec/json.h"
#include "codec/wire-msg.h"
#include "sys/fd.h"
#include "vm/guest-internal.h"
#include "vm/mtree.h"

#define STATE_FD_NAME "holdfast-in"

static int bad_answer(const char *command, struct hf_err *err, const char *what)
{
	hf_err_set(err, "QEMU's answer to %s is not what it must be: %s", command, what);
	return -EPROTO;
}

/* The user could let it pass only at the price of a first checkpoint that fails. */
static int check_migratable(struct hf_guest *g, struct hf_err *err)
{
	struct json_object *answer, *reasons = NULL;
	const char *reason;
	int r = hf_guest_ask(g, "query-migrate", NULL, &answer, err);

	if (r < 0)
		return r;
	if (hf_json_has(answer, "blocked-reasons"))
		r = hf_json_array(answer, "blocked-reasons", &reasons, err) < 0 ? -EPROTO : 0;
	if (reasons && json_object_array_length(reasons) > 0) {
		reason = json_object_get_string(json_object_array_get_idx(reasons, 0));
		hf_err_set(err, "the guest cannot be protected: QEMU says: %.300s",
			   reason ? reason : "?");
		r = -EPERM;
	}
	json_object_put(answer);
	return r;
}

static int query_machine(struct hf_guest *g, struct hf_err *err)
{
	static const char suffix[] = "-machine";
	struct json_object *answer;
	const char *type;
	size_t n;
	int r = hf_guest_ask(g, "qom-get", "{\"path\":\"/machine\",\"property\":\"type\"}", &answer,
			     err);

	if (r < 0)
		return r;
	type = json_object_is_type(answer, json_type_string) ? json_object_get_string(answer) : "";
	n = strlen(type);
	if (n > sizeof(suffix) - 1 && strcmp(type + n - (sizeof(suffix) - 1), suffix) == 0)
		n -= sizeof(suffix) - 1;
	if (n == 0 || n >= sizeof(g->identity.machine)) {
		r = bad_answer("qom-get", err, "the type of the machine is missing or too long");
	} else {
		memcpy(g->identity.machine, type, n);
		g->identity.machine[n] = '\0';
	}
	json_object_put(answer);
	return r;
}

static int query_vcpus(struct hf_guest *g, struct hf_err *err)
{
	struct json_object *answer;
	size_t n = 0;
	int r = hf_guest_ask(g, "query-cpus-fast", NULL, &answer, err);

	if (r < 0)
		return r;
	if (json_object_is_type(answer, json_type_array))
		n = json_object_array_length(answer);
	json_object_put(answer);
	if (n == 0 || n > HF_WIRE_VCPUS_MAX)
		return bad_answer("query-cpus-fast", err, "there must be 1 to 4096 processors");
	g->identity.vcpus = (uint32_t)n;
	return 0;
}

/* An object of QEMU's is typed "child<TYPE>"; its other properties are not. */
static int add_device(struct hf_guest_identity *id, struct json_object *item, struct hf_err *err)
{
	static const char prefix[] = "child<";
	char text[HF_WIRE_DEVICE_TEXT_MAX + 1];
	const char *name, *type;
	size_t n;
	int len;

	if (hf_json_str(item, "name", &name, err) < 0 || hf_json_str(item, "type", &type, err) < 0)
		return -EPROTO;
	if (strncmp(type, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	type += sizeof(prefix) - 1;
	n = strcspn(type, ">");
	len = snprintf(text, sizeof(text), "%s %.*s", name, (int)n, type);
	if (len < 0 || (size_t)len >= sizeof(text) || id->device_count == HF_WIRE_DEVICES_MAX) {
		hf_err_set(err,
			   "device '%.100s' is one too many, or its id is too long: at most %d "
			   "devices, with ids and types of %d characters together",
			   name, HF_WIRE_DEVICES_MAX, HF_WIRE_DEVICE_TEXT_MAX - 1);
		return -E2BIG;
	}
	id->devices[id->device_count] = strdup(text);
	if (!id->devices[id->device_count])
		return -ENOMEM;
	id->device_count++;
	return 0;
}

static int query_devices_at(struct hf_guest *g, const char *arguments, struct hf_err *err)
{
	struct json_object *answer;
	int r = hf_guest_ask(g, "qom-list", arguments, &answer, err);

	if (r < 0)
		return r;
	if (!json_object_is_type(answer, json_type_array))
		r = bad_answer("qom-list", err, "not a list");
	for (size_t i = 0; r == 0 && i < json_object_array_length(answer); i++)
		r = add_device(&g->identity, json_object_array_get_idx(answer, i), err);
	json_object_put(answer);
	return r;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int query_devices(struct hf_guest *g, struct hf_err *err)
{
	int r;

	g->identity.devices = calloc(HF_WIRE_DEVICES_MAX + 1, sizeof(*g->identity.devices));
	if (!g->identity.devices)
		return -ENOMEM;
	r = query_devices_at(g, "{\"path\":\"/machine/peripheral\"}", err);
	if (r == 0)
		r = query_devices_at(g, "{\"path\":\"/machine/peripheral-anon\"}", err);
	if (r == 0)
		qsort(g->identity.devices, g->identity.device_count, sizeof(*g->identity.devices),
		      compare_texts);
	return r;
}

/* A drive without a medium has nothing "inserted"; one may come later, but not behind our back. */
static int query_disks(struct hf_guest *g, struct hf_err *err)
{
	struct json_object *answer, *inserted;
	bool is_read_only;
	int r = hf_guest_ask(g, "query-block", NULL, &answer, err);

	if (r < 0)
		return r;
	if (!json_object_is_type(answer, json_type_array))
		r = bad_answer("query-block", err, "not a list");
	for (size_t i = 0; r == 0 && i < json_object_array_length(answer); i++) {
		struct json_object *drive = json_object_array_get_idx(answer, i);

		if (!hf_json_has(drive, "inserted"))
			continue;
		if (hf_json_obj(drive, "inserted", &inserted, err) < 0 ||
		    hf_json_bool(inserted, "ro", &is_read_only, err) < 0)
			r = -EPROTO;
		else if (!is_read_only)
			g->has_disks = true;
	}
	json_object_put(answer);
	return r;
}

/*
 * x-ignore-shared leaves RAM out of the stream, so that it is nothing but the device state. What is
 * left of a "RAM" (a display's memory) must not be sent in rounds: with any bandwidth and 2000
 * seconds allowed, the highest there is, QEMU stops the guest at once.
 */
static int set_up_migration(struct hf_guest *g, struct hf_err *err)
{
	int r = hf_guest_ask(
		g, "migrate-set-capabilities",
		"{\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":true},"
		"{\"capability\":\"events\",\"state\":true}]}",
		NULL, err);

	if (r == 0)
		r = hf_guest_ask(g, "migrate-set-parameters",
				 "{\"max-bandwidth\":1099511627776,\"downtime-limit\":2000000}",
				 NULL, err);
	return r;
}

static int query_version(struct hf_guest *g, struct hf_err *err)
{
	/* QEMU answers from its main loop, so once it does its memory has been mapped. */
	int r = hf_guest_ask(g, "query-version", NULL, NULL, err);

	if (r == 0)
		(void)snprintf(g->identity.qemu_version, sizeof(g->identity.qemu_version), "%s",
			       hf_qmp_version(g->qmp));
	return r;
}

/* For who looks into the memory of a dead guest. Not to know it is no reason to refuse a VM: the answer is
 * text for people, and a machine may be of a kind that was never seen. */
static int query_ram_parts(struct hf_guest *g, const char *ram_id, struct hf_err *err)
{
	struct json_object *answer;
	struct hf_err unused;
	int r = hf_guest_ask(g, "human-monitor-command", "{\"command-line\":\"info mtree\"}",
			     &answer, err);

	if (r < 0)
		return r == -EREMOTEIO ? 0 : r;
	if (json_object_is_type(answer, json_type_string) &&
	    hf_mtree_parse(json_object_get_string(answer),
			   (size_t)json_object_get_string_len(answer), ram_id,
			   g->identity.ram_bytes, g->ram_part, HF_CERTIFICATE_RAM_PARTS_MAX,
			   &g->ram_parts, &unused) < 0)
		g->ram_parts = 0;
	json_object_put(answer);
	return 0;
}

int hf_guest_examine(struct hf_guest *g, const struct hf_guest_config *config, struct hf_err *err)
{
	static int (*const steps[])(struct hf_guest *, struct hf_err *) = {
		query_version, check_migratable, query_machine,    query_vcpus,
		query_devices, query_disks,      set_up_migration, hf_guest_read_report,
	};
	int r = 0;

	g->identity.ram_bytes = config->cmdline->ram_bytes;
	for (size_t i = 0; r == 0 && i < sizeof(steps) / sizeof(steps[0]); i++)
		r = steps[i](g, err);
	return r < 0 ? r : query_ram_parts(g, config->cmdline->ram_id, err);
}

void hf_guest_identity_fini(struct hf_guest_identity *id)
{
	for (size_t i = 0; i < id->device_count; i++)
		free(id->devices[i]);
	free(id->devices);
	*id = (struct hf_guest_identity){ .vcpus = 0 };
}

/* What came is QEMU's word, which may be anything; a replica of other memory would be worthless. */
static int check_report(const struct hf_guest *g, const struct hf_report *report,
			struct hf_err *err)
{
	if ((pid_t)report->pid != g->process.pid)
		hf_err_set(err, "guest memory was mapped by process %u, not by QEMU itself (%d)",
			   report->pid, (int)g->process.pid);
	else if (report->file_offset_bytes != 0 || report->length_bytes != g->ram.size_bytes)
		hf_err_set(err,
			   "QEMU has mapped %llu bytes of guest memory from byte %llu on, not all "
			   "%llu "
			   "of them at once",
			   (unsigned long long)report->length_bytes,
			   (unsigned long long)report->file_offset_bytes,
			   (unsigned long long)g->ram.size_bytes);
	else
		return 0;
	return -EPROTO;
}

/* Return: 0 with the number of reports, or -errno. */
static int read_reports(struct hf_guest *g, struct hf_report *report, unsigned int *ret_n,
			struct hf_err *err)
{
	uint8_t buf[HF_REPORT_BYTES];
	size_t n;
	int r;

	*ret_n = 0;
	while ((r = hf_fd_read(g->report_fd, buf, sizeof(buf), &n)) == 0) {
		if (!hf_report_decode(buf, n, report)) {
			hf_err_set(err, "the preloaded library's report of %zu bytes is none", n);
			return -EPROTO;
		}
		if ((*ret_n)++ > 0) {
			hf_err_set(err,
				   "QEMU has mapped guest memory more than once: writes could not "
				   "be told from both places");
			return -EPROTO;
		}
	}
	return r < 0 ? r : 0; /* EAGAIN, or EOF when the library is not there to keep it open */
}

int hf_guest_read_report(struct hf_guest *g, struct hf_err *err)
{
	struct hf_report report = { .pid = (uint32_t)g->process.pid, .tracking_errno = ENOSYS };
	unsigned int n = 0;
	int r = g->report_fd >= 0 ? read_reports(g, &report, &n, err) : 0;

	if (r == 0 && n == 0)
		r = hf_guest_find_ram(g, &report, err);
	if (r == 0)
		r = check_report(g, &report, err);
	if (r == 0)
		g->report = report;
	return r;
}

int hf_guest_await_state(struct hf_guest *g, struct hf_err *err)
{
	struct hf_qmp_command getfd = { .name = "getfd",
					.arguments_text = "{\"fdname\":\"" STATE_FD_NAME "\"}",
					.has_fd = true };
	int pair[2], r;

	r = hf_fd_pair(SOCK_STREAM, pair);
	if (r < 0)
		return r;
	g->incoming_fd = pair[0];
	getfd.fd = pair[1];
	r = hf_qmp_submit(g->qmp, &getfd);
	hf_fd_close(&pair[1]); /* the session has its own */
	if (r == 0)
		r = hf_guest_ask(g, "migrate-incoming", "{\"uri\":\"fd:" STATE_FD_NAME "\"}", NULL,
				 err);
	return r;
}
