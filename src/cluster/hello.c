/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/hello.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Device names cut so that two lists of them fit into one REFUSE. */
#define DEVICE_SHOWN_MAX 60
#define DEVICES_SHOWN_SIZE 96

/* The two keepers and what to call them. */
struct pair {
	const struct hf_wire_hello *mine, *theirs;
	const char *me, *them;
};

static const char *role_name(uint8_t role)
{
	switch (role) {
	case HF_WIRE_ROLE_PRIMARY:
		return "the primary";
	case HF_WIRE_ROLE_STANDBY:
		return "the standby";
	default:
		return "the inquirer";
	}
}

static struct pair pair_of(const struct hf_wire_hello *mine, const struct hf_wire_hello *theirs)
{
	bool is_same = mine->role == theirs->role;

	return (struct pair){ .mine = mine,
			      .theirs = theirs,
			      .me = is_same ? "one side" : role_name(mine->role),
			      .them = is_same ? "the other" : role_name(theirs->role) };
}

static bool is_inquiry(const struct pair *p)
{
	return p->mine->role == HF_WIRE_ROLE_INQUIRER || p->theirs->role == HF_WIRE_ROLE_INQUIRER;
}

static enum hf_wire_refusal check_version(const struct hf_wire_hello *mine,
					  const struct hf_wire_hello *theirs, struct hf_err *err)
{
	if (mine->version_min <= theirs->version_max && theirs->version_min <= mine->version_max)
		return 0;
	hf_err_set(err,
		   "no common version of the replication protocol: one side speaks %u to %u, the "
		   "other %u to %u",
		   mine->version_min, mine->version_max, theirs->version_min, theirs->version_max);
	return HF_WIRE_REFUSE_VERSION;
}

static enum hf_wire_refusal check_text(const struct pair *p, const char *what, const char *mine,
				       const char *theirs, enum hf_wire_refusal code,
				       struct hf_err *err)
{
	if (strcmp(mine, theirs) == 0)
		return 0;
	hf_err_set(err, "the %s differs: %s has '%s', %s has '%s'", what, p->me, mine, p->them,
		   theirs);
	return code;
}

static enum hf_wire_refusal check_number(const struct pair *p, const char *what, uint64_t mine,
					 uint64_t theirs, struct hf_err *err)
{
	if (mine == theirs)
		return 0;
	hf_err_set(err, "the %s differs: %s has %" PRIu64 ", %s has %" PRIu64, what, p->me, mine,
		   p->them, theirs);
	return HF_WIRE_REFUSE_SIZE;
}

/* In bytes too: two sizes that differ may look the same when they are rounded. */
static enum hf_wire_refusal check_ram(const struct pair *p, struct hf_err *err)
{
	char mine[HF_TEXT_QUANTITY], theirs[HF_TEXT_QUANTITY];

	if (p->mine->ram_bytes == p->theirs->ram_bytes)
		return 0;
	hf_err_set(err,
		   "the RAM size differs: %s has %s (%" PRIu64 " bytes), %s has %s (%" PRIu64
		   " bytes)",
		   p->me, hf_format_size(p->mine->ram_bytes, mine, sizeof(mine)),
		   p->mine->ram_bytes, p->them,
		   hf_format_size(p->theirs->ram_bytes, theirs, sizeof(theirs)),
		   p->theirs->ram_bytes);
	return HF_WIRE_REFUSE_SIZE;
}

static enum hf_wire_refusal check_sizes(const struct pair *p, struct hf_err *err)
{
	enum hf_wire_refusal code = check_ram(p, err);

	if (!code)
		code = check_number(p, "page size in bytes", p->mine->page_bytes,
				    p->theirs->page_bytes, err);
	if (!code)
		code = check_number(p, "number of vCPUs", p->mine->vcpus, p->theirs->vcpus, err);
	return code;
}

static enum hf_wire_refusal check_self(const struct pair *p, struct hf_err *err)
{
	if (!hf_id_is_equal(p->mine->instance, p->theirs->instance))
		return 0;
	hf_err_set(err,
		   "that address is this keeper itself: both have the instance id %016" PRIx64
		   "%016" PRIx64,
		   p->mine->instance.hi, p->mine->instance.lo);
	return HF_WIRE_REFUSE_ROLE;
}

/* Length of "7.2" in "7.2.22 (Debian ...)"; 0 for another form. */
static size_t release_len(const char *version)
{
	size_t major = strspn(version, "0123456789"), minor;

	if (major == 0 || version[major] != '.')
		return 0;
	minor = strspn(version + major + 1, "0123456789");
	return minor == 0 ? 0 : major + 1 + minor;
}

/* The device state of another release of QEMU need not load; a bug-fix release of the same does. */
static enum hf_wire_refusal check_qemu(const struct pair *p, struct hf_err *err)
{
	size_t mine = release_len(p->mine->qemu), theirs = release_len(p->theirs->qemu);

	if (mine > 0 && mine == theirs && memcmp(p->mine->qemu, p->theirs->qemu, mine) == 0)
		return 0;
	return check_text(p, "QEMU release", p->mine->qemu, p->theirs->qemu, HF_WIRE_REFUSE_QEMU,
			  err);
}

static unsigned int count_of(const struct hf_wire_list *list, unsigned int n, const char *item)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < n; i++)
		count += strcmp(list->item[i], item) == 0;
	return count;
}

/* Also when a device is there twice on one side and once on the other. */
static bool is_missing(const struct hf_wire_list *have, unsigned int i,
		       const struct hf_wire_list *other)
{
	return count_of(have, i + 1, have->item[i]) > count_of(other, other->n, have->item[i]);
}

/* Cuts in front of a character, never inside one: a REFUSE has to be valid UTF-8. */
static int shown_len(const char *text)
{
	size_t n = strnlen(text, DEVICE_SHOWN_MAX + 1);

	if (n <= DEVICE_SHOWN_MAX)
		return (int)n;
	n = DEVICE_SHOWN_MAX;
	while (n > 0 && ((uint8_t)text[n] & 0xc0) == 0x80)
		n--;
	return (int)n;
}

/* As many names as fit and the number of the others: "'a virtio-net-pci', 'b vga' and 3 more". */
static unsigned int name_missing(const struct hf_wire_list *have, const struct hf_wire_list *other,
				 char *buf)
{
	size_t room = DEVICES_SHOWN_SIZE - sizeof(" and 256 more"), used = 0;
	unsigned int missing = 0, shown = 0;

	buf[0] = '\0';
	for (unsigned int i = 0; i < have->n; i++) {
		const char *item = have->item[i];
		size_t len = (size_t)shown_len(item) + strlen(", ''");

		if (!is_missing(have, i, other))
			continue;
		if (missing++ == shown && used + len < room) {
			used += (size_t)snprintf(buf + used, room - used, "%s'%.*s'",
						 shown++ > 0 ? ", " : "", shown_len(item), item);
		}
	}
	if (missing > shown)
		(void)snprintf(buf + used, DEVICES_SHOWN_SIZE - used, " and %u more",
			       missing - shown);
	return missing;
}

static enum hf_wire_refusal check_devices(const struct pair *p, struct hf_err *err)
{
	char mine[DEVICES_SHOWN_SIZE], theirs[DEVICES_SHOWN_SIZE];
	unsigned int n_mine = name_missing(&p->mine->devices, &p->theirs->devices, mine);
	unsigned int n_theirs = name_missing(&p->theirs->devices, &p->mine->devices, theirs);

	if (n_mine == 0 && n_theirs == 0)
		return 0;
	if (n_theirs == 0)
		hf_err_set(err, "the devices differ: only %s has %s", p->me, mine);
	else if (n_mine == 0)
		hf_err_set(err, "the devices differ: only %s has %s", p->them, theirs);
	else
		hf_err_set(err, "the devices differ: only %s has %s, only %s has %s", p->me, mine,
			   p->them, theirs);
	return HF_WIRE_REFUSE_DEVICES;
}

static const char *item_or_none(const struct hf_wire_list *list, unsigned int i)
{
	return i < list->n ? list->item[i] : "(none)";
}

/* In order, because a held frame names its netdev by its index. */
static enum hf_wire_refusal check_netdevs(const struct pair *p, struct hf_err *err)
{
	const struct hf_wire_list *mine = &p->mine->netdevs, *theirs = &p->theirs->netdevs;

	for (unsigned int i = 0; i < mine->n || i < theirs->n; i++) {
		const char *a = item_or_none(mine, i), *b = item_or_none(theirs, i);

		if (i < mine->n && i < theirs->n && strcmp(a, b) == 0)
			continue;
		hf_err_set(err, "the held netdev number %u differs: %s has '%s', %s has '%s'",
			   i + 1, p->me, a, p->them, b);
		return HF_WIRE_REFUSE_DEVICES;
	}
	return 0;
}

static const char *skip_word(const char *text)
{
	text += strcspn(text, " ");
	return text + strspn(text, " ");
}

static bool is_same_word(const char *a, const char *b)
{
	size_t n = strcspn(a, " ");

	return n == strcspn(b, " ") && memcmp(a, b, n) == 0;
}

static int shown_word_len(const char *word)
{
	size_t n = strcspn(word, " ");

	return n > DEVICE_SHOWN_MAX ? shown_len(word) : (int)n;
}

/* "ID LAYOUT FORMAT BYTES", word by word; what comes behind the last word counts as the last. */
static void name_disk_difference(const struct pair *p, unsigned int i, const char *a, const char *b,
				 struct hf_err *err)
{
	static const char *const names[] = { "id", "layout", "format", "size in bytes" };
	size_t word = 0;

	while (word < sizeof(names) / sizeof(names[0]) - 1 && is_same_word(a, b)) {
		a = skip_word(a);
		b = skip_word(b);
		word++;
	}
	hf_err_set(err, "disk number %u differs: its %s is '%.*s' on %s, '%.*s' on %s", i + 1,
		   names[word], shown_word_len(a), a, p->me, shown_word_len(b), b, p->them);
}

/* In order, because a disk record names its disk by its index. */
static enum hf_wire_refusal check_disks(const struct pair *p, struct hf_err *err)
{
	const struct hf_wire_list *mine = &p->mine->disks, *theirs = &p->theirs->disks;

	for (unsigned int i = 0; i < mine->n || i < theirs->n; i++) {
		bool is_mine = i < mine->n, is_theirs = i < theirs->n;
		const char *some = is_mine ? mine->item[i] : theirs->item[i];

		if (is_mine && is_theirs && strcmp(some, theirs->item[i]) == 0)
			continue;
		if (is_mine && is_theirs)
			name_disk_difference(p, i, some, theirs->item[i], err);
		else
			hf_err_set(err, "disk number %u differs: only %s has '%.*s'", i + 1,
				   is_mine ? p->me : p->them, shown_len(some), some);
		return HF_WIRE_REFUSE_DISKS;
	}
	return 0;
}

static enum hf_wire_refusal check_settings(const struct pair *p, struct hf_err *err)
{
	const char *mine = p->mine->lockspace;
	const char *theirs = p->theirs->lockspace;

	if (strcmp(mine, theirs) == 0)
		return 0;
	hf_err_set(err,
		   "the two hosts do not use the same lease: %s has its in lockspace %s%s%s, %s in "
		   "%s%s%s",
		   p->me, *mine ? "'" : "", *mine ? mine : "none", *mine ? "'" : "", p->them,
		   *theirs ? "'" : "", *theirs ? theirs : "none", *theirs ? "'" : "");
	return HF_WIRE_REFUSE_SETTINGS;
}

static enum hf_wire_refusal check_pair(const struct pair *p, struct hf_err *err)
{
	enum hf_wire_refusal code = check_text(p, "VM's name", p->mine->vm, p->theirs->vm,
					       HF_WIRE_REFUSE_NAME, err);

	if (code || is_inquiry(p))
		return code;
	code = check_self(p, err);
	if (!code)
		code = check_sizes(p, err);
	if (!code)
		code = check_text(p, "machine type", p->mine->machine, p->theirs->machine,
				  HF_WIRE_REFUSE_MACHINE, err);
	if (!code)
		code = check_qemu(p, err);
	if (!code)
		code = check_devices(p, err);
	if (!code)
		code = check_netdevs(p, err);
	if (!code)
		code = check_disks(p, err);
	return code ? code : check_settings(p, err);
}

int hf_hello_check(const struct hf_wire_hello *mine, const struct hf_wire_hello *theirs,
		   enum hf_wire_refusal *ret_code, struct hf_err *err)
{
	enum hf_wire_refusal code = check_version(mine, theirs, err);

	if (!code) {
		struct pair pair = pair_of(mine, theirs);

		code = check_pair(&pair, err);
	}
	if (!code)
		return 0;
	*ret_code = code;
	return HF_HELLO_REFUSED;
}

/* ---- keeping one ---- */

static size_t text_bytes(const char *s)
{
	return s ? strlen(s) + 1 : 1;
}

static size_t list_bytes(const struct hf_wire_list *list)
{
	size_t n = 0;

	assert(list->n <= HF_WIRE_DEVICES_MAX);
	for (unsigned int i = 0; i < list->n; i++)
		n += text_bytes(list->item[i]);
	return n;
}

static size_t hello_bytes(const struct hf_wire_hello *h)
{
	return text_bytes(h->holdfast) + text_bytes(h->vm) + text_bytes(h->machine) +
	       text_bytes(h->qemu) + text_bytes(h->lockspace) + list_bytes(&h->devices) +
	       list_bytes(&h->netdevs) + list_bytes(&h->disks);
}

static void keep_text(const char **text, char **at)
{
	size_t n = text_bytes(*text);

	memcpy(*at, *text ? *text : "", n);
	*text = *at;
	*at += n;
}

static void keep_list(struct hf_wire_list *list, char **at)
{
	for (unsigned int i = 0; i < list->n; i++)
		keep_text(&list->item[i], at);
}

int hf_hello_copy(const struct hf_wire_hello *from, struct hf_hello_own *ret)
{
	struct hf_wire_hello *h = &ret->hello;
	char *at = ret->text;

	assert(from != h);
	if (hello_bytes(from) > sizeof(ret->text))
		return -EMSGSIZE;
	*h = *from;
	keep_text(&h->holdfast, &at);
	keep_text(&h->vm, &at);
	keep_text(&h->machine, &at);
	keep_text(&h->qemu, &at);
	keep_text(&h->lockspace, &at);
	keep_list(&h->devices, &at);
	keep_list(&h->netdevs, &at);
	keep_list(&h->disks, &at);
	return 0;
}
