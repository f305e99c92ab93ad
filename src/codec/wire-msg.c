/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation
 *
 * Each message is a table of its fields in wire order: where in the struct, what form, which
 * limits. One encoder and one decoder walk the tables and check the same limits on both sides, so
 * the two directions cannot differ and docs/wire-format.md can be read off here. What concerns
 * several fields together is in check_hello().
 *
 * A string is its length (u16), its bytes and a NUL, so that a decoded message can point to it.
 */
#include "codec/wire-msg.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "codec/utf8.h"
#include "codec/wire-disk.h"

enum kind {
	KIND_END,
	KIND_U8,
	KIND_U16,
	KIND_U32,
	KIND_U64,
	KIND_ID,
	KIND_TEXT,
	KIND_LIST,
	KIND_ZERO,
};

struct field {
	enum kind kind;
	uint16_t at; /* in struct hf_wire_msg */
	uint16_t count_max; /* LIST */
	uint64_t min, max; /* of the number, of a text's bytes; ZERO: max bytes */
	const char *name;
};

#define AT(member) (uint16_t) offsetof(struct hf_wire_msg, member)
#define NUMBER(kind, member, min, max, name)                                                       \
	{                                                                                          \
		kind, AT(member), 0, min, max, name                                                \
	}
#define U64(member, name) NUMBER(KIND_U64, member, 0, UINT64_MAX, name)
#define ID(member, name)                                                                           \
	{                                                                                          \
		KIND_ID, AT(member), 0, 0, 0, name                                                 \
	}
#define TEXT(member, min, max, name)                                                               \
	{                                                                                          \
		KIND_TEXT, AT(member), 0, min, max, name                                           \
	}
#define LIST(member, count, max, name)                                                             \
	{                                                                                          \
		KIND_LIST, AT(member), count, 1, max, name                                         \
	}
#define ZERO(bytes)                                                                                \
	{                                                                                          \
		KIND_ZERO, 0, 0, 0, bytes, "a reserved field"                                      \
	}
#define END                                                                                        \
	{                                                                                          \
		KIND_END, 0, 0, 0, 0, NULL                                                         \
	}

static const struct field hello_fields[] = {
	NUMBER(KIND_U16, hello.version_min, 1, UINT16_MAX, "the lowest version"),
	NUMBER(KIND_U16, hello.version_max, 1, UINT16_MAX, "the highest version"),
	NUMBER(KIND_U8, hello.role, 1, HF_WIRE_ROLE_COUNT - 1, "the role"),
	ZERO(1),
	NUMBER(KIND_U8, hello.disk_condition, 0, HF_WIRE_DISKS_CONDITION_COUNT - 1,
	       "the disks' condition"),
	ZERO(1),
	NUMBER(KIND_U32, hello.state, 0, HF_WIRE_STATE_MAX, "the state"),
	ZERO(4),
	ID(hello.instance, "the instance"),
	ID(hello.session, "the session"),
	U64(hello.epoch, "the epoch"),
	ID(hello.disk_session, "the disks' session"),
	NUMBER(KIND_U64, hello.ram_bytes, 0, HF_WIRE_RAM_BYTES_MAX, "the RAM size"),
	NUMBER(KIND_U32, hello.page_bytes, HF_WIRE_PAGE_BYTES, HF_WIRE_PAGE_BYTES, "the page size"),
	NUMBER(KIND_U32, hello.vcpus, 0, HF_WIRE_VCPUS_MAX, "the number of vCPUs"),
	TEXT(hello.holdfast, 1, HF_WIRE_VERSION_TEXT_MAX, "the holdfast version"),
	TEXT(hello.vm, 1, HF_NAME_MAX, "the VM's name"),
	TEXT(hello.machine, 0, HF_WIRE_MACHINE_TEXT_MAX, "the machine type"),
	TEXT(hello.qemu, 0, HF_WIRE_QEMU_TEXT_MAX, "the QEMU version"),
	TEXT(hello.lockspace, 0, HF_WIRE_LOCKSPACE_TEXT_MAX, "the lockspace"),
	LIST(hello.devices, HF_WIRE_DEVICES_MAX, HF_WIRE_DEVICE_TEXT_MAX, "the device list"),
	LIST(hello.netdevs, HF_WIRE_NETDEVS_MAX, HF_WIRE_NETDEV_TEXT_MAX, "the netdev list"),
	LIST(hello.disks, HF_WIRE_DISKS_MAX, HF_WIRE_DISK_TEXT_MAX, "the disk list"),
	END,
};

/* Codes are for people; one of a later minor release must not break the connection. */
static const struct field reason_fields[] = {
	NUMBER(KIND_U32, reason.code, 1, 255, "the code"),
	ZERO(4),
	TEXT(reason.text, 0, HF_WIRE_REASON_TEXT_MAX, "the text"),
	END,
};

static const struct field sync_begin_fields[] = {
	ID(sync_begin.session, "the session"),
	NUMBER(KIND_U64, sync_begin.ram_bytes, HF_WIRE_PAGE_BYTES, HF_WIRE_RAM_BYTES_MAX,
	       "the RAM size"),
	NUMBER(KIND_U64, sync_begin.pages, 0, HF_WIRE_RAM_BYTES_MAX / HF_WIRE_PAGE_BYTES,
	       "the number of pages"),
	NUMBER(KIND_U8, sync_begin.disks, 0, HF_WIRE_SYNC_DISKS_COUNT - 1, "the kind of disk copy"),
	ZERO(7),
	U64(sync_begin.lver, "the lease's version"),
	END,
};

static const struct field epoch_begin_fields[] = {
	NUMBER(KIND_U64, epoch_begin.epoch, 1, UINT64_MAX, "the epoch"),
	NUMBER(KIND_U8, epoch_begin.is_vm_running, 0, 1, "the running flag"),
	NUMBER(KIND_U8, epoch_begin.is_first, 0, 1, "the first flag"),
	ZERO(6),
	U64(epoch_begin.time_ns, "the time"),
	END,
};

static const struct field epoch_end_fields[] = {
	NUMBER(KIND_U64, epoch_end.epoch, 1, UINT64_MAX, "the epoch"),
	U64(epoch_end.pages_messages, "the number of PAGES"),
	U64(epoch_end.data_pages, "the number of data pages"),
	U64(epoch_end.zero_pages, "the number of zero pages"),
	U64(epoch_end.frames, "the number of frames"),
	NUMBER(KIND_U64, epoch_end.state_bytes, 0, HF_WIRE_STATE_BYTES_MAX, "the state's length"),
	NUMBER(KIND_U32, epoch_end.state_crc32c, 0, UINT32_MAX, "the state's checksum"),
	ZERO(4),
	U64(epoch_end.released, "the released epoch"),
	U64(epoch_end.disk_messages, "the number of DISK messages"),
	U64(epoch_end.disk_records, "the number of disk records"),
	END,
};

static const struct field ping_fields[] = {
	U64(ping.token, "the token"),
	U64(ping.time_ns, "the time"),
	END,
};

static const struct field ack_fields[] = {
	NUMBER(KIND_U64, mark.epoch, 1, UINT64_MAX, "the epoch"),
	END,
};

static const struct field handover_request_fields[] = {
	U64(mark.epoch, "the epoch"),
	END,
};

static const struct field go_live_fields[] = {
	NUMBER(KIND_U64, mark.epoch, 1, UINT64_MAX, "the epoch"),
	ID(mark.session, "the session"),
	END,
};

static const struct field session_fields[] = {
	ID(mark.session, "the session"),
	END,
};

static const struct field discarded_fields[] = {
	ID(mark.session, "the session"),
	U64(mark.lver, "the lease's version"),
	END,
};

static const struct field sync_mark_fields[] = {
	U64(mark.sync_mark, "the mark"),
	END,
};

static const struct field lease_fields[] = {
	NUMBER(KIND_U64, mark.lver, 1, UINT64_MAX, "the lease's version"),
	ID(mark.session, "the session"),
	END,
};

static const struct field *const fields[HF_WIRE_TYPE_COUNT] = {
	[HF_WIRE_HELLO] = hello_fields,
	[HF_WIRE_REFUSE] = reason_fields,
	[HF_WIRE_SYNC_BEGIN] = sync_begin_fields,
	[HF_WIRE_EPOCH_BEGIN] = epoch_begin_fields,
	[HF_WIRE_EPOCH_END] = epoch_end_fields,
	[HF_WIRE_ACK] = ack_fields,
	[HF_WIRE_PING] = ping_fields,
	[HF_WIRE_PONG] = ping_fields,
	[HF_WIRE_DEAD] = reason_fields,
	[HF_WIRE_ENDED] = reason_fields,
	[HF_WIRE_PROMOTED] = go_live_fields,
	[HF_WIRE_HANDOVER_REQUEST] = handover_request_fields,
	[HF_WIRE_HANDOVER] = go_live_fields,
	[HF_WIRE_ABANDON] = session_fields,
	[HF_WIRE_DISCARDED] = discarded_fields,
	[HF_WIRE_ERROR] = reason_fields,
	[HF_WIRE_SYNC_MARK] = sync_mark_fields,
	[HF_WIRE_SYNC_DONE] = sync_mark_fields,
	[HF_WIRE_SETTLED] = ack_fields,
	[HF_WIRE_LEASE] = lease_fields,
};

bool hf_wire_is_control(enum hf_wire_type type)
{
	return (unsigned int)type < HF_WIRE_TYPE_COUNT && fields[type];
}

/* ---- limits, the same for both directions ---- */

static int check_number(const struct field *f, uint64_t value, struct hf_err *err)
{
	if (value >= f->min && value <= f->max)
		return 0;
	hf_err_set(err, "%s is %" PRIu64 ", possible is %" PRIu64 " to %" PRIu64, f->name, value,
		   f->min, f->max);
	return -EINVAL;
}

static int check_text(const struct field *f, const char *text, size_t len, struct hf_err *err)
{
	if (len < f->min || len > f->max) {
		hf_err_set(err, "%s has a text of %zu bytes, possible is %" PRIu64 " to %" PRIu64,
			   f->name, len, f->min, f->max);
		return -EINVAL;
	}
	if (hf_utf8_is_printable(text, len))
		return 0;
	hf_err_set(err, "%s has a text that is not printable UTF-8", f->name);
	return -EINVAL;
}

static int check_count(const struct field *f, unsigned int n, struct hf_err *err)
{
	if (n <= f->count_max)
		return 0;
	hf_err_set(err, "%s has %u entries, at most %u are possible", f->name, n, f->count_max);
	return -EINVAL;
}

static int check_vm(const struct hf_wire_hello *h, struct hf_err *err)
{
	if (h->ram_bytes == 0 || h->ram_bytes % HF_WIRE_PAGE_BYTES != 0)
		hf_err_set(err, "the RAM size of %" PRIu64 " bytes is not a number of whole pages",
			   h->ram_bytes);
	else if (h->vcpus == 0)
		hf_err_set(err, "the VM has no vCPU");
	else if (h->machine[0] == '\0')
		hf_err_set(err, "the machine type is missing");
	else
		return 0;
	return -EINVAL;
}

static int check_hello(const struct hf_wire_hello *h, struct hf_err *err)
{
	if (h->version_min > h->version_max)
		hf_err_set(err, "the lowest version, %u, is above the highest, %u", h->version_min,
			   h->version_max);
	else if (!hf_is_valid_name(h->vm))
		hf_err_set(err, "\"%s\" is not a possible name of a VM", h->vm);
	else if (hf_id_is_none(h->instance))
		hf_err_set(err, "the instance is all zero");
	else if (hf_id_is_none(h->session) && h->epoch != 0)
		hf_err_set(err, "epoch %" PRIu64 " of no session", h->epoch);
	else if (h->role != HF_WIRE_ROLE_INQUIRER)
		return check_vm(h, err);
	else
		return 0;
	return -EINVAL;
}

static int check_message(const struct hf_wire_msg *msg, struct hf_err *err)
{
	if (msg->type == HF_WIRE_HELLO)
		return check_hello(&msg->hello, err);
	if (msg->type == HF_WIRE_SYNC_BEGIN &&
	    msg->sync_begin.ram_bytes % HF_WIRE_PAGE_BYTES != 0) {
		hf_err_set(err, "the RAM size is not a number of whole pages");
		return -EINVAL;
	}
	return 0;
}

/* ---- encoding ---- */

struct out {
	uint8_t *at, *end;
};

static uint8_t *put(struct out *out, size_t n)
{
	uint8_t *at = out->at;

	if ((size_t)(out->end - at) < n)
		return NULL;
	out->at += n;
	return at;
}

static size_t number_bytes(enum kind kind)
{
	switch (kind) {
	case KIND_U8:
		return 1;
	case KIND_U16:
		return 2;
	case KIND_U32:
		return 4;
	case KIND_U64:
	case KIND_ID:
	case KIND_TEXT:
	case KIND_LIST:
	case KIND_ZERO:
	case KIND_END:
	default:
		return 8;
	}
}

static uint64_t load_number(enum kind kind, const uint8_t *member)
{
	switch (number_bytes(kind)) {
	case 1:
		return *member;
	case 2:
		return *(const uint16_t *)(const void *)member;
	case 4:
		return *(const uint32_t *)(const void *)member;
	default:
		return *(const uint64_t *)(const void *)member;
	}
}

static int put_number(struct out *out, const struct field *f, const uint8_t *member,
		      struct hf_err *err)
{
	uint64_t value = load_number(f->kind, member);
	size_t n = number_bytes(f->kind);
	uint8_t le[8], *p;

	if (check_number(f, value, err) < 0)
		return -EINVAL;
	p = put(out, n);
	if (!p)
		return -ENOBUFS;
	hf_le64_put(le, value);
	memcpy(p, le, n);
	return 0;
}

static int put_id(struct out *out, const uint8_t *member)
{
	const struct hf_id *id = (const void *)member;
	uint8_t *p = put(out, 16);

	if (!p)
		return -ENOBUFS;
	hf_le64_put(p, id->hi);
	hf_le64_put(p + 8, id->lo);
	return 0;
}

static int put_text(struct out *out, const struct field *f, const char *text, struct hf_err *err)
{
	size_t len;
	uint8_t *p;

	assert(text);
	len = strlen(text);
	if (check_text(f, text, len, err) < 0)
		return -EINVAL;
	p = put(out, 2 + len + 1);
	if (!p)
		return -ENOBUFS;
	hf_le16_put(p, (uint16_t)len);
	memcpy(p + 2, text, len + 1);
	return 0;
}

static int put_list(struct out *out, const struct field *f, const uint8_t *member,
		    struct hf_err *err)
{
	const struct hf_wire_list *list = (const void *)member;
	int r = check_count(f, list->n, err);
	uint8_t *p;

	if (r < 0)
		return r;
	p = put(out, 2);
	if (!p)
		return -ENOBUFS;
	hf_le16_put(p, list->n);
	for (unsigned int i = 0; r == 0 && i < list->n; i++)
		r = put_text(out, f, list->item[i], err);
	return r;
}

static int put_zero(struct out *out, size_t n)
{
	uint8_t *p = put(out, n);

	if (!p)
		return -ENOBUFS;
	memset(p, 0, n);
	return 0;
}

static int put_field(struct out *out, const struct field *f, const struct hf_wire_msg *msg,
		     struct hf_err *err)
{
	const uint8_t *member = (const uint8_t *)msg + f->at;

	switch (f->kind) {
	case KIND_ID:
		return put_id(out, member);
	case KIND_TEXT:
		return put_text(out, f, *(const char *const *)(const void *)member, err);
	case KIND_LIST:
		return put_list(out, f, member, err);
	case KIND_ZERO:
		return put_zero(out, (size_t)f->max);
	case KIND_U8:
	case KIND_U16:
	case KIND_U32:
	case KIND_U64:
	case KIND_END:
	default:
		return put_number(out, f, member, err);
	}
}

int hf_wire_encode(const struct hf_wire_msg *msg, uint8_t *buf, size_t size, size_t *ret_len,
		   struct hf_err *err)
{
	struct out out = { .at = buf, .end = buf + size };
	int r = 0;

	assert(hf_wire_is_control(msg->type));
	if (!put(&out, HF_WIRE_HEADER_BYTES))
		return -ENOBUFS;
	for (const struct field *f = fields[msg->type]; r == 0 && f->kind != KIND_END; f++)
		r = put_field(&out, f, msg, err);
	if (r == 0)
		r = check_message(msg, err);
	if (r == -EINVAL)
		hf_err_prefix(err, "cannot send a %s: ", hf_wire_type_name(msg->type));
	if (r < 0)
		return r;
	hf_wire_put_header(buf, msg->type, (size_t)(out.at - buf) - HF_WIRE_HEADER_BYTES);
	*ret_len = hf_wire_seal(buf);
	return 0;
}

/* ---- decoding ---- */

struct in {
	const uint8_t *at, *end;
};

static const uint8_t *take(struct in *in, const struct field *f, size_t n, struct hf_err *err)
{
	const uint8_t *at = in->at;

	if ((size_t)(in->end - at) < n) {
		hf_err_set(err, "it ends inside %s", f->name);
		return NULL;
	}
	in->at += n;
	return at;
}

static void store_number(enum kind kind, uint64_t value, uint8_t *member)
{
	switch (number_bytes(kind)) {
	case 1:
		*member = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)(void *)member = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)(void *)member = (uint32_t)value;
		break;
	default:
		*(uint64_t *)(void *)member = value;
		break;
	}
}

static int take_number(struct in *in, const struct field *f, uint8_t *member, struct hf_err *err)
{
	size_t n = number_bytes(f->kind);
	const uint8_t *p = take(in, f, n, err);
	uint8_t le[8] = { 0 };

	if (!p)
		return -EINVAL;
	memcpy(le, p, n);
	store_number(f->kind, hf_le64_get(le), member);
	return check_number(f, hf_le64_get(le), err);
}

static int take_id(struct in *in, const struct field *f, uint8_t *member, struct hf_err *err)
{
	struct hf_id *id = (void *)member;
	const uint8_t *p = take(in, f, 16, err);

	if (!p)
		return -EINVAL;
	id->hi = hf_le64_get(p);
	id->lo = hf_le64_get(p + 8);
	return 0;
}

static int take_text(struct in *in, const struct field *f, const char **ret, struct hf_err *err)
{
	const uint8_t *p = take(in, f, 2, err);
	size_t len;

	if (!p)
		return -EINVAL;
	len = hf_le16_get(p);
	p = take(in, f, len + 1, err);
	if (!p)
		return -EINVAL;
	if (p[len] != 0) {
		hf_err_set(err, "%s has a text without its NUL", f->name);
		return -EINVAL;
	}
	*ret = (const char *)p;
	return check_text(f, *ret, len, err);
}

static int take_list(struct in *in, const struct field *f, uint8_t *member, struct hf_err *err)
{
	struct hf_wire_list *list = (void *)member;
	const uint8_t *p = take(in, f, 2, err);
	unsigned int n;
	int r;

	if (!p)
		return -EINVAL;
	n = hf_le16_get(p);
	r = check_count(f, n, err);
	for (unsigned int i = 0; r == 0 && i < n; i++)
		r = take_text(in, f, &list->item[i], err);
	list->n = (uint16_t)n;
	return r;
}

static int take_zero(struct in *in, const struct field *f, struct hf_err *err)
{
	const uint8_t *p = take(in, f, (size_t)f->max, err);

	if (!p)
		return -EINVAL;
	for (size_t i = 0; i < f->max; i++) {
		if (p[i] != 0) {
			hf_err_set(err, "%s is not zero", f->name);
			return -EINVAL;
		}
	}
	return 0;
}

static int take_field(struct in *in, const struct field *f, struct hf_wire_msg *msg,
		      struct hf_err *err)
{
	uint8_t *member = (uint8_t *)msg + f->at;

	switch (f->kind) {
	case KIND_ID:
		return take_id(in, f, member, err);
	case KIND_TEXT:
		return take_text(in, f, (const char **)(void *)member, err);
	case KIND_LIST:
		return take_list(in, f, member, err);
	case KIND_ZERO:
		return take_zero(in, f, err);
	case KIND_U8:
	case KIND_U16:
	case KIND_U32:
	case KIND_U64:
	case KIND_END:
	default:
		return take_number(in, f, member, err);
	}
}

static int bad_message(const struct hf_wire_view *view, struct hf_err *err)
{
	hf_err_prefix(err, "replication link: a bad %s: ", hf_wire_type_name(view->type));
	return -EBADMSG;
}

int hf_wire_decode(const struct hf_wire_view *view, struct hf_wire_msg *ret, struct hf_err *err)
{
	struct in in = { .at = view->payload, .end = view->payload + view->len };
	struct hf_wire_msg msg;
	int r = 0;

	assert(hf_wire_is_control(view->type));
	memset(&msg, 0, sizeof(msg));
	msg.type = view->type;
	for (const struct field *f = fields[view->type]; r == 0 && f->kind != KIND_END; f++)
		r = take_field(&in, f, &msg, err);
	if (r == 0 && in.at != in.end) {
		hf_err_set(err, "%zu bytes follow its end", (size_t)(in.end - in.at));
		r = -EINVAL;
	}
	if (r == 0)
		r = check_message(&msg, err);
	if (r < 0)
		return bad_message(view, err);
	*ret = msg;
	return 0;
}

int hf_wire_hello_versions(const struct hf_wire_view *view, unsigned int *ret_min,
			   unsigned int *ret_max, struct hf_err *err)
{
	unsigned int min, max;

	assert(view->type == HF_WIRE_HELLO);
	if (view->len < 4) {
		hf_err_set(err, "it ends inside the versions");
		return bad_message(view, err);
	}
	min = hf_le16_get(view->payload);
	max = hf_le16_get(view->payload + 2);
	if (min == 0 || min > max) {
		hf_err_set(err, "versions %u to %u make no sense", min, max);
		return bad_message(view, err);
	}
	*ret_min = min;
	*ret_max = max;
	return 0;
}
