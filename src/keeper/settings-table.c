/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keeper/settings-table.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "codec/words.h"
#include "core/disk.h"
#include "vm/tracker.h"

static const char *const lease_words[] = {
	[HF_LEASE_USE_AUTO] = "auto", [HF_LEASE_USE_YES] = "yes", [HF_LEASE_USE_NO] = "no", NULL
};
static const char *const tracking_words[] = { [HF_TRACKER_AUTO] = "auto",
					      [HF_TRACKER_PAGEMAP_SCAN] = "pagemap-scan",
					      [HF_TRACKER_SOFT_DIRTY] = "soft-dirty",
					      NULL };
static const char *const layout_words[] = {
	[HF_DISK_LAYOUT_REPLICATED] = "replicated", [HF_DISK_LAYOUT_SHARED] = "shared", NULL
};
static const char *const durability_words[] = {
	[HF_DURABILITY_DISK] = "disk", [HF_DURABILITY_MEMORY] = "memory", NULL
};
static const char *const log_words[] = {
	[HF_LOG_ERROR] = "error", [HF_LOG_INFO] = "info", [HF_LOG_DEBUG] = "debug", NULL
};

#define FIELD(f) .offset = offsetof(struct hf_settings, f)
#define EVERYWHERE (HF_IN_OPTIONS | HF_IN_VM | HF_IN_HOST)

static const struct hf_setting table[] = {
	{ .name = "listen",
	  FIELD(listen),
	  .type = HF_SETTING_ADDR,
	  .metavar = "ADDR[:PORT]",
	  .places = HF_IN_OPTIONS,
	  .group = HF_GROUP_HOSTS,
	  .help = "where this host waits for the other one; port 7400 unless given" },
	{ .name = "peer",
	  FIELD(peer),
	  .type = HF_SETTING_ADDR,
	  .metavar = "ADDR[:PORT]",
	  .places = HF_IN_OPTIONS,
	  .group = HF_GROUP_HOSTS,
	  .help = "where the other host waits; port 7400 unless given" },
	{ .name = "lease",
	  FIELD(lease),
	  .type = HF_SETTING_WORD,
	  .words = lease_words,
	  .def = "auto",
	  .metavar = "auto|yes|no",
	  .places = HF_IN_OPTIONS | HF_IN_VM,
	  .group = HF_GROUP_HOSTS,
	  .help = "run the VM only while this host owns its lease on shared storage, and let that "
		  "lease decide who goes on when the two hosts lose each other; auto: if this "
		  "host runs holdfastd(8); no: they wait until one is proven dead" },
	{ .name = "peer-timeout",
	  FIELD(peer_timeout_ns),
	  .type = HF_SETTING_DURATION,
	  .def = "1s",
	  .min = "50ms",
	  .max = "10min",
	  .metavar = "TIME",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_HOSTS,
	  .help = "silence after which the other host counts as lost" },

	{ .name = "hold-net",
	  FIELD(hold_net),
	  .type = HF_SETTING_IDS,
	  .metavar = "ID",
	  .places = HF_IN_OPTIONS | HF_IN_VM,
	  .group = HF_GROUP_GUEST,
	  .is_repeatable = true,
	  .help = "hold the frames of this netdev until the state that sent them is safe" },
	{ .name = "unprotected",
	  FIELD(unprotected),
	  .type = HF_SETTING_IDS,
	  .metavar = "ID",
	  .places = HF_IN_OPTIONS | HF_IN_VM,
	  .group = HF_GROUP_GUEST,
	  .is_repeatable = true,
	  .help = "let this disk, netdev or device go on although it cannot be protected" },
	{ .name = "hugepages",
	  FIELD(hugepage_bytes),
	  .type = HF_SETTING_PAGES,
	  .def = "no",
	  .metavar = "no|2M|1G",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_GUEST,
	  .help = "pages of guest memory; no: as QEMU's command line says" },

	{ .name = "epoch-interval",
	  FIELD(epoch_interval_ns),
	  .type = HF_SETTING_DURATION,
	  .def = "500ms",
	  .min = "10ms",
	  .max = "10s",
	  .metavar = "TIME",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_EPOCHS,
	  .help = "the largest time between two epochs; an output starts one at once" },
	{ .name = "stop-share",
	  FIELD(stop_share_percent),
	  .type = HF_SETTING_PERCENT,
	  .def = "33%",
	  .min = "1%",
	  .max = "90%",
	  .metavar = "SHARE",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_EPOCHS,
	  .help = "the largest share of time that the guest may stand still for its epochs" },
	{ .name = "epoch-memory",
	  FIELD(epoch_memory_bytes),
	  .type = HF_SETTING_SIZE,
	  .def = "256M",
	  .min = "4M",
	  .max = "64G",
	  .metavar = "SIZE",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_EPOCHS,
	  .help = "memory for one epoch's pages; an epoch that outgrows it is committed early" },
	{ .name = "resend",
	  FIELD(may_resend),
	  .type = HF_SETTING_BOOL,
	  .def = "yes",
	  .metavar = "yes|no",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_EPOCHS,
	  .help = "after a failover send the frames of the last epochs again: some may arrive "
		  "twice, "
		  "none is missing" },
	{ .name = "tracking",
	  FIELD(tracking),
	  .type = HF_SETTING_WORD,
	  .words = tracking_words,
	  .def = "auto",
	  .metavar = "auto|pagemap-scan|soft-dirty",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_EPOCHS,
	  .help = "how written pages are found; auto: the best this kernel has" },
	{ .name = "threads",
	  FIELD(thread_count),
	  .type = HF_SETTING_COUNT,
	  .def = "0",
	  .min = "0",
	  .max = "64",
	  .metavar = "N",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_EPOCHS,
	  .help = "threads that look for pages and copy them; 0: as fits" },

	{ .name = "disk-layout",
	  FIELD(disk_layout),
	  .type = HF_SETTING_WORD,
	  .words = layout_words,
	  .def = "replicated",
	  .metavar = "replicated|shared",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_DISKS,
	  .help = "replicated: each host has images of its own, and the standby's follow; shared: "
		  "both "
		  "hosts reach the same images" },
	{ .name = "durability",
	  FIELD(durability),
	  .type = HF_SETTING_WORD,
	  .words = durability_words,
	  .def = "disk",
	  .metavar = "disk|memory",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_DISKS,
	  .help = "what a flush of the guest waits for before anything outside can know of it: "
		  "that its "
		  "writes are on a disk, or only that two hosts have them in memory, which the "
		  "loss of "
		  "both at once does not survive" },
	{ .name = "disk-buffer",
	  FIELD(disk_buffer_bytes),
	  .type = HF_SETTING_SIZE,
	  .def = "64M",
	  .min = "8M",
	  .max = "4G",
	  .metavar = "SIZE",
	  .places = HF_IN_OPTIONS | HF_IN_PROTECTION,
	  .group = HF_GROUP_DISKS,
	  .help = "memory for what the guest wrote until it is on the disks; an epoch that takes "
		  "half of "
		  "it is committed early" },
	{ .name = "redo-journal",
	  FIELD(redo_journal),
	  .type = HF_SETTING_IMAGE,
	  .metavar = "PATH|URI",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_DISKS,
	  .help = "where writes are made durable before they go to the images: a file, block "
		  "device or "
		  "NBD export; needed if disk-layout is shared, else by default a file in "
		  "state-dir" },
	{ .name = "state-dir",
	  FIELD(state_dir),
	  .type = HF_SETTING_PATH,
	  .def = "/var/lib/holdfast",
	  .metavar = "DIR",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_DISKS,
	  .help = "folder for what must survive a restart: redo journals, and maps of what the "
		  "other "
		  "host's images lack" },
	{ .name = "disk-plugin",
	  FIELD(disk_plugin),
	  .type = HF_SETTING_PATH,
	  .metavar = "FILE",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_DISKS,
	  .help = "where nbdkit-holdfast-plugin.so is; default: where it was installed, or beside "
		  "the "
		  "keeper" },
	{ .name = "nbdkit",
	  FIELD(nbdkit),
	  .type = HF_SETTING_TEXT,
	  .def = "nbdkit",
	  .metavar = "PROGRAM",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_DISKS,
	  .help = "the nbdkit that serves the disks to QEMU" },

	{ .name = "config",
	  FIELD(config),
	  .type = HF_SETTING_TEXT,
	  .metavar = "FILE",
	  .places = HF_IN_OPTIONS,
	  .group = HF_GROUP_KEEPER,
	  .help = "definition of the VM, the same file on both hosts; default: " HF_SETTINGS_FOLDER
		  "/NAME.conf, unless QEMU's command line is given" },
	{ .name = "host",
	  FIELD(host),
	  .type = HF_SETTING_NAME,
	  .metavar = "NAME",
	  .places = HF_IN_OPTIONS,
	  .group = HF_GROUP_KEEPER,
	  .help = "which [host] of the definition this one is; default: by the machine's name" },
	{ .name = "run-dir",
	  FIELD(run_dir),
	  .type = HF_SETTING_PATH,
	  .def = "/run/holdfast",
	  .metavar = "DIR",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_KEEPER,
	  .help = "folder for sockets and state" },
	{ .name = "preload",
	  FIELD(preload),
	  .type = HF_SETTING_PATH,
	  .metavar = "FILE",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_KEEPER,
	  .help = "where libholdfast-qemu.so is; default: where it was installed, or beside the "
		  "keeper" },
	{ .name = "log-level",
	  FIELD(log_level),
	  .type = HF_SETTING_WORD,
	  .words = log_words,
	  .def = "info",
	  .metavar = "error|info|debug",
	  .places = EVERYWHERE,
	  .group = HF_GROUP_KEEPER,
	  .help = "how much to say" },
	{ .name = "detach",
	  FIELD(is_detached),
	  .type = HF_SETTING_FLAG,
	  .places = HF_IN_OPTIONS,
	  .group = HF_GROUP_KEEPER,
	  .help = "go into the background once the guest is there" },
	{ .name = "force",
	  FIELD(is_forced),
	  .type = HF_SETTING_FLAG,
	  .places = HF_IN_OPTIONS,
	  .group = HF_GROUP_KEEPER,
	  .help = "start without asking the other host whether the VM runs there" },

	{ .name = "name",
	  FIELD(file_name),
	  .type = HF_SETTING_NAME,
	  .metavar = "NAME",
	  .places = HF_IN_VM,
	  .group = HF_GROUP_FILE,
	  .help = "of the VM, as a check" },
	{ .name = "qemu",
	  FIELD(file_qemu),
	  .type = HF_SETTING_TEXT,
	  .def = "qemu-system-x86_64",
	  .metavar = "PROGRAM",
	  .places = HF_IN_VM | HF_IN_HOST,
	  .group = HF_GROUP_FILE,
	  .help = "the QEMU to run" },
	{ .name = "args",
	  FIELD(file_args),
	  .type = HF_SETTING_ARGS,
	  .metavar = "WORDS",
	  .places = HF_IN_VM | HF_IN_HOST,
	  .group = HF_GROUP_FILE,
	  .is_repeatable = true,
	  .help = "QEMU's options, quoted as in a shell; those of a [host] are added for it "
		  "alone" },
	/* For holdfastd, which reads them by itself (src/daemon/vmfile.c). */
	{ .name = "takeover",
	  FIELD(is_taken_over),
	  .type = HF_SETTING_BOOL,
	  .def = "no",
	  .metavar = "yes|no",
	  .places = HF_IN_VM,
	  .group = HF_GROUP_FILE,
	  .help = "start the VM on a preferred host when its host has died; not for one with two "
		  "hosts" },
	{ .name = "prefer",
	  FIELD(prefer),
	  .type = HF_SETTING_TEXT,
	  .metavar = "HOST,...",
	  .places = HF_IN_VM,
	  .group = HF_GROUP_FILE,
	  .help = "the hosts that may take it over, the best first" },
	/* Read for each host alike: that of the other host becomes the peer. */
	{ .name = "address",
	  FIELD(listen),
	  .type = HF_SETTING_ADDR,
	  .metavar = "ADDR[:PORT]",
	  .places = HF_IN_HOST,
	  .group = HF_GROUP_FILE,
	  .help = "where this host waits for the other" },
};

size_t hf_setting_count(void)
{
	return sizeof(table) / sizeof(table[0]);
}

const struct hf_setting *hf_setting_at(size_t i)
{
	assert(i < hf_setting_count());
	return &table[i];
}

int hf_setting_find(const char *name, size_t len)
{
	for (size_t i = 0; i < hf_setting_count(); i++)
		if (strncmp(table[i].name, name, len) == 0 && table[i].name[len] == '\0')
			return (int)i;
	return -1;
}

static int parse_count(const char *text, unsigned int *ret, struct hf_err *err)
{
	unsigned long long n = 0;
	char *end = NULL;

	errno = 0;
	if (isdigit((unsigned char)text[0]))
		n = strtoull(text, &end, 10);
	if (!end || *end || errno || n > UINT_MAX) {
		hf_err_set(err, "'%s' is not a number", text);
		return -EINVAL;
	}
	*ret = (unsigned int)n;
	return 0;
}

/* Anything with a range, as one number. */
static int parse_number(const struct hf_setting *row, const char *text, uint64_t *ret,
			struct hf_err *err)
{
	unsigned int n = 0;
	int r;

	if (row->type == HF_SETTING_DURATION)
		return hf_parse_duration_ns(text, ret, err);
	if (row->type == HF_SETTING_SIZE)
		return hf_parse_size_bytes(text, ret, err);
	r = row->type == HF_SETTING_PERCENT ? hf_parse_percent(text, &n, err)
					    : parse_count(text, &n, err);
	if (!r)
		*ret = n;
	return r;
}

static int parse_in_range(const struct hf_setting *row, const char *text, uint64_t *ret,
			  struct hf_err *err)
{
	uint64_t n = 0;
	uint64_t min = 0;
	uint64_t max = 0;
	int r = parse_number(row, text, &n, err);

	if (r < 0)
		return r;
	r = parse_number(row, row->min, &min, NULL);
	assert(r == 0);
	r = parse_number(row, row->max, &max, NULL);
	assert(r == 0);
	if (n < min || n > max) {
		hf_err_set(err, "%s is out of range: it goes from %s to %s", text, row->min,
			   row->max);
		return -EINVAL;
	}
	*ret = n;
	return 0;
}

static int parse_word(const struct hf_setting *row, const char *text, unsigned int *ret,
		      struct hf_err *err)
{
	for (unsigned int i = 0; row->words[i]; i++) {
		if (strcmp(row->words[i], text) != 0)
			continue;
		*ret = i;
		return 0;
	}
	hf_err_set(err, "'%s' is none of %s", text, row->metavar);
	return -EINVAL;
}

static int parse_pages(const char *text, uint64_t *ret, struct hf_err *err)
{
	if (strcmp(text, "no") == 0)
		*ret = 0;
	else if (strcmp(text, "2M") == 0)
		*ret = UINT64_C(2) << 20;
	else if (strcmp(text, "1G") == 0)
		*ret = UINT64_C(1) << 30;
	else {
		hf_err_set(err, "'%s' is none of no, 2M and 1G", text);
		return -EINVAL;
	}
	return 0;
}

static int check_text(enum hf_setting_type type, const char *text, struct hf_err *err)
{
	const char *expected = NULL;

	if (type == HF_SETTING_NAME && !hf_is_valid_name(text))
		expected = "a name (up to 63 letters, digits and ._-, not first a . or -)";
	else if (type == HF_SETTING_PATH && text[0] != '/')
		expected = "an absolute path";
	else if (type == HF_SETTING_IMAGE && text[0] != '/' && strncmp(text, "nbd://", 6) != 0 &&
		 strncmp(text, "nbd+unix://", 11) != 0)
		expected = "an absolute path, nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH";
	else if (text[0] == '\0')
		expected = "something";
	if (!expected)
		return 0;
	hf_err_set(err, "'%s' is given, but %s is expected", text, expected);
	return -EINVAL;
}

static int set_text(enum hf_setting_type type, char **field, const char *text, struct hf_err *err)
{
	char *copy;
	int r = check_text(type, text, err);

	if (r < 0)
		return r;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int add_words(enum hf_setting_type type, char ***field, char *const *words,
		     struct hf_err *err)
{
	int r = 0;

	for (; !r && *words; words++) {
		/* An option of QEMU's may well be empty, an id not. */
		if (type == HF_SETTING_IDS && **words == '\0') {
			hf_err_set(err, "an id cannot be empty");
			return -EINVAL;
		}
		r = hf_words_append(field, *words);
	}
	if (r == -E2BIG)
		hf_err_set(err, "more than %d words", HF_WORDS_MAX);
	return r == -E2BIG ? -EINVAL : r;
}

static int set_list(enum hf_setting_type type, char ***field, const char *text, bool is_file,
		    size_t *ret_offset, struct hf_err *err)
{
	char *copy[] = { NULL, NULL };
	char **words = NULL;
	int r;

	if (is_file) {
		r = hf_words_split(text, &words, ret_offset, err);
		if (!r)
			r = add_words(type, field, words, err);
		hf_words_free(words);
		return r == -E2BIG ? -EINVAL : r;
	}
	copy[0] = strdup(text);
	r = copy[0] ? add_words(type, field, copy, err) : -ENOMEM;
	free(copy[0]);
	return r;
}

static int set_addr(struct hf_settings_addr *field, const char *text, struct hf_err *err)
{
	int r = hf_addr_parse(text, HF_SETTINGS_PORT, &field->addr, err);

	if (!r)
		field->is_set = true;
	return r;
}

static int set_number(const struct hf_setting *row, void *field, const char *text,
		      struct hf_err *err)
{
	bool is_wide = row->type == HF_SETTING_DURATION || row->type == HF_SETTING_SIZE;
	uint64_t n = 0;
	int r = parse_in_range(row, text, &n, err);

	if (r < 0)
		return -EINVAL;
	if (is_wide)
		*(uint64_t *)field = n;
	else
		*(unsigned int *)field = (unsigned int)n;
	return 0;
}

int hf_setting_apply(const struct hf_setting *row, struct hf_settings *s, const char *text,
		     bool is_file, size_t *ret_offset, struct hf_err *err)
{
	void *field = (char *)s + row->offset;

	*ret_offset = 0;
	switch (row->type) {
	case HF_SETTING_FLAG:
		*(bool *)field = true;
		return 0;
	case HF_SETTING_BOOL:
		return hf_parse_bool(text, field, err);
	case HF_SETTING_WORD:
		return parse_word(row, text, field, err);
	case HF_SETTING_PAGES:
		return parse_pages(text, field, err);
	case HF_SETTING_DURATION:
	case HF_SETTING_SIZE:
	case HF_SETTING_PERCENT:
	case HF_SETTING_COUNT:
		return set_number(row, field, text, err);
	case HF_SETTING_ADDR:
		return set_addr(field, text, err);
	case HF_SETTING_NAME:
	case HF_SETTING_TEXT:
	case HF_SETTING_PATH:
	case HF_SETTING_IMAGE:
		return set_text(row->type, field, text, err);
	case HF_SETTING_IDS:
	case HF_SETTING_ARGS:
		return set_list(row->type, field, text, is_file, ret_offset, err);
	}
	return -EINVAL;
}

static bool is_text(enum hf_setting_type type)
{
	return type == HF_SETTING_NAME || type == HF_SETTING_TEXT || type == HF_SETTING_PATH ||
	       type == HF_SETTING_IMAGE;
}

static bool is_list(enum hf_setting_type type)
{
	return type == HF_SETTING_IDS || type == HF_SETTING_ARGS;
}

void hf_setting_clear(const struct hf_setting *row, struct hf_settings *s)
{
	void *field = (char *)s + row->offset;

	if (is_text(row->type)) {
		free(*(char **)field);
		*(char **)field = NULL;
	} else if (is_list(row->type)) {
		hf_words_free(*(char ***)field);
		*(char ***)field = NULL;
	}
}

int hf_setting_apply_defaults(struct hf_settings *s)
{
	size_t offset;
	int r = 0;

	for (size_t i = 0; !r && i < hf_setting_count(); i++)
		if (table[i].def)
			r = hf_setting_apply(&table[i], s, table[i].def, /* is_file= */ false,
					     &offset, NULL);
	assert(r == 0 || r == -ENOMEM);
	return r;
}
