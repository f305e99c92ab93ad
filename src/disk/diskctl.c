/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A packet is u32 type, u32 number, and the fields of its type in the order in which walk_body() goes
 * through them. The one walk serves both directions, so that they cannot differ. Flags are u32; a text fills
 * its room up with zeros.
 */
#include "disk/diskctl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "codec/utf8.h"

#define ERRNO_MAX 4095
#define BLOCK_BYTES_MAX 65536u
#define TEXT_ROOM_BYTES 208

static_assert(TEXT_ROOM_BYTES > HF_DISKCTL_TEXT_MAX, "a text and its end fit into its room");

struct walk {
	uint8_t *out; /* NULL: reading */
	const uint8_t *in;
	size_t len; /* room for writing, or what there is to read */
	size_t at;
	const char *fault; /* what is wrong, of a reader; the first fault counts */
};

static void complain(struct walk *w, const char *fault)
{
	assert(!w->out); /* what we send ourselves is right */
	if (!w->fault)
		w->fault = fault;
}

/* Where the next @n bytes are, or NULL. */
static const uint8_t *take(struct walk *w, size_t n)
{
	if (w->fault)
		return NULL;
	if (w->len - w->at < n) {
		complain(w, "it is too short for its type");
		return NULL;
	}
	w->at += n;
	return w->in + w->at - n;
}

static uint8_t *give(struct walk *w, size_t n)
{
	assert(w->len - w->at >= n);
	w->at += n;
	return w->out + w->at - n;
}

static void walk_u32(struct walk *w, uint32_t *v, uint32_t min, uint32_t max, const char *fault)
{
	const uint8_t *p;

	if (w->out) {
		assert(*v >= min && *v <= max);
		hf_le32_put(give(w, 4), *v);
		return;
	}
	p = take(w, 4);
	*v = p ? hf_le32_get(p) : min;
	if (*v < min || *v > max)
		complain(w, fault);
}

static void walk_u64(struct walk *w, uint64_t *v, uint64_t min, uint64_t max, const char *fault)
{
	const uint8_t *p;

	if (w->out) {
		assert(*v >= min && *v <= max);
		hf_le64_put(give(w, 8), *v);
		return;
	}
	p = take(w, 8);
	*v = p ? hf_le64_get(p) : min;
	if (*v < min || *v > max)
		complain(w, fault);
}

static void walk_reserved(struct walk *w)
{
	uint32_t zero = 0;

	walk_u32(w, &zero, 0, 0, "a reserved field is not zero");
}

static void walk_bool(struct walk *w, bool *v, const char *fault)
{
	uint32_t n = *v;

	walk_u32(w, &n, 0, 1, fault);
	*v = n == 1;
}

/* Between @min and @max, either of which may be negative. */
static void walk_error(struct walk *w, int32_t *v, int32_t min, int32_t max)
{
	uint32_t n = (uint32_t)*v;

	assert(!w->out || (*v >= min && *v <= max));
	walk_u32(w, &n, 0, UINT32_MAX, "");
	*v = (int32_t)n;
	if (!w->out && !w->fault && (*v < min || *v > max))
		complain(w, "the error is none");
}

static void walk_id(struct walk *w, struct hf_id *id)
{
	walk_u64(w, &id->hi, 0, UINT64_MAX, "");
	walk_u64(w, &id->lo, 0, UINT64_MAX, "");
}

static void walk_condition(struct walk *w, enum hf_disk_condition *c)
{
	uint32_t n = *c;

	walk_u32(w, &n, 0, HF_DISK_CONDITION_COUNT - 1, "there is no such condition");
	*c = (enum hf_disk_condition)n;
}

/* What comes from a file name or a server may be anything: the other side shows it to a person. */
static void put_text(uint8_t *room, const char *text)
{
	size_t n = strnlen(text, HF_DISKCTL_TEXT_MAX);
	bool is_fit = hf_utf8_is_printable(text, n);

	memset(room, 0, TEXT_ROOM_BYTES);
	for (size_t i = 0; i < n; i++)
		room[i] = is_fit || (text[i] >= ' ' && text[i] <= '~') ? (uint8_t)text[i] : '?';
}

static void walk_text(struct walk *w, char text[HF_DISKCTL_TEXT_MAX + 1])
{
	static const uint8_t zeros[TEXT_ROOM_BYTES];
	const uint8_t *p;
	size_t n;

	if (w->out) {
		put_text(give(w, TEXT_ROOM_BYTES), text);
		return;
	}
	p = take(w, TEXT_ROOM_BYTES);
	if (!p)
		return;
	n = strnlen((const char *)p, HF_DISKCTL_TEXT_MAX + 1);
	if (n > HF_DISKCTL_TEXT_MAX || memcmp(p + n, zeros, TEXT_ROOM_BYTES - n) != 0 ||
	    !hf_utf8_is_printable((const char *)p, n)) {
		complain(w, "the text is none");
		return;
	}
	memcpy(text, p, n + 1);
}

static void walk_geometry(struct walk *w, struct hf_diskctl_geometry *g, bool is_there)
{
	walk_u64(w, &g->size_bytes, is_there, is_there ? HF_WIRE_DISK_BYTES_MAX : 0,
		 "the size of a disk makes no sense");
	walk_u32(w, &g->block_bytes, is_there, is_there ? BLOCK_BYTES_MAX : 0,
		 "the block size of a disk makes no sense");
	if (!w->out && (g->block_bytes & (g->block_bytes - 1)) != 0)
		complain(w, "the block size of a disk is no power of two");
	walk_bool(w, &g->can_trim, "whether a disk can trim is neither yes nor no");
	if (!w->out && !is_there && g->can_trim)
		complain(w, "a disk that is not there can trim");
}

static void walk_ready(struct walk *w, struct hf_diskctl_msg *m)
{
	walk_condition(w, &m->ready.condition);
	walk_u32(w, &m->ready.n_disks, 1, HF_WIRE_DISKS_MAX, "the number of disks makes no sense");
	walk_id(w, &m->ready.session);
	walk_id(w, &m->ready.map_session);
	walk_u64(w, &m->ready.recovered_epochs, 0, UINT64_MAX, "");
	walk_bool(w, &m->ready.is_map_trusted, "whether the map is trusted is neither yes nor no");
	walk_reserved(w);
	for (uint32_t i = 0; i < HF_WIRE_DISKS_MAX; i++)
		walk_geometry(w, &m->ready.disk[i], i < m->ready.n_disks);
}

static void walk_fault(struct walk *w, struct hf_diskctl_msg *m)
{
	uint32_t disk = m->fault.disk;

	walk_error(w, &m->fault.error, m->type == HF_DISKCTL_FAULT, ERRNO_MAX);
	walk_u32(w, &disk, 0, HF_WIRE_DISKS_MAX, "there is no such disk");
	m->fault.disk = (uint8_t)disk;
	walk_u64(w, &m->fault.offset_bytes, 0, HF_WIRE_DISK_BYTES_MAX, "the offset is too large");
	walk_text(w, m->fault.text);
}

static bool has_number(enum hf_diskctl_type type)
{
	return type == HF_DISKCTL_SET_STATE || type == HF_DISKCTL_FLUSH_SYNC ||
	       type == HF_DISKCTL_PING || type == HF_DISKCTL_DONE || type == HF_DISKCTL_PONG;
}

static void walk_body(struct walk *w, struct hf_diskctl_msg *m)
{
	switch (m->type) {
	case HF_DISKCTL_SET_STATE:
		walk_condition(w, &m->set_state.condition);
		walk_reserved(w);
		walk_id(w, &m->set_state.session);
		break;
	case HF_DISKCTL_SYNC_START:
		walk_bool(w, &m->sync_start.is_full, "whether all is to be copied is unclear");
		walk_reserved(w);
		walk_id(w, &m->sync_start.session);
		break;
	case HF_DISKCTL_SYNC_CONFIRMED:
		walk_u64(w, &m->mark, 0, UINT64_MAX, "");
		break;
	case HF_DISKCTL_READY:
		walk_ready(w, m);
		break;
	case HF_DISKCTL_DONE:
		walk_error(w, &m->done.error, -ERRNO_MAX, 0);
		walk_reserved(w);
		walk_text(w, m->done.text);
		break;
	case HF_DISKCTL_FAULT:
	case HF_DISKCTL_WELL:
		walk_fault(w, m);
		break;
	case HF_DISKCTL_SYNC_STOP:
	case HF_DISKCTL_FLUSH_SYNC:
	case HF_DISKCTL_PING:
	case HF_DISKCTL_PONG:
		break;
	default:
		complain(w, "there is no such type");
		break;
	}
}

static void walk(struct walk *w, struct hf_diskctl_msg *m)
{
	uint32_t type = m->type;

	walk_u32(w, &type, 1, HF_DISKCTL_PONG, "there is no such type");
	m->type = (enum hf_diskctl_type)type;
	walk_u32(w, &m->number, 0, w->fault || has_number(m->type) ? UINT32_MAX : 0,
		 "its type has no number");
	if (!w->fault)
		walk_body(w, m);
}

size_t hf_diskctl_encode(const struct hf_diskctl_msg *msg, uint8_t *buf)
{
	struct hf_diskctl_msg copy = *msg; /* the walk takes what it could also fill in */
	struct walk w = { .out = buf, .len = HF_DISKCTL_PACKET_MAX };

	walk(&w, &copy);
	return w.at;
}

int hf_diskctl_decode(const uint8_t *buf, size_t len, struct hf_diskctl_msg *ret,
		      struct hf_err *err)
{
	struct hf_diskctl_msg m = { 0 };
	struct walk w = { .in = buf, .len = len };

	walk(&w, &m);
	if (!w.fault && w.at != len)
		complain(&w, "it is too long for its type");
	if (w.fault) {
		hf_err_set(err, "control packet of %zu bytes, type %u: %s", len,
			   len >= 4 ? hf_le32_get(buf) : 0, w.fault);
		return -EBADMSG;
	}
	*ret = m;
	return 0;
}

const char *hf_disk_condition_name(enum hf_disk_condition condition)
{
	static const char *const names[HF_DISK_CONDITION_COUNT] = {
		[HF_DISK_FRESH] = "fresh",     [HF_DISK_OWNED] = "owned",
		[HF_DISK_HELD] = "held",       [HF_DISK_REPLICATED] = "replicated",
		[HF_DISK_PARTIAL] = "partial",
	};

	assert((unsigned int)condition < HF_DISK_CONDITION_COUNT);
	return names[condition];
}
