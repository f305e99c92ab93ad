/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hostconf.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "codec/conf.h"
#include "daemon/conffile.h"

#define MS 1000000ull
#define SECOND 1000000000ull
#define COLUMNS 79
#define TEXT_COLUMN 26

enum type {
	TYPE_NAME,
	TYPE_ID,
	TYPE_AREA,
	TYPE_PATH,
	TYPE_DURATION,
	TYPE_LOG,
	TYPE_GROUP,
	TYPE_ADDR,
	TYPE_TLS,
	TYPE_AUTO,
	TYPE_FENCING
};

static const struct row {
	const char *section;
	const char *key;
	const char *option;
	enum type type;
	size_t offset;
	uint64_t min_ns, max_ns;
	const char *def;
	const char *metavar;
	const char *help;
} table[] = {
#define FIELD(f) .offset = offsetof(struct hf_hostconf, f)
	{ "host", "name", "host-name", TYPE_NAME, FIELD(name), .metavar = "NAME",
	  .help = "of this host, the same for ever; if not given, the machine's" },
	{ "host", "id", "host-id", TYPE_ID, FIELD(id), .metavar = "N",
	  .help = "number of this host's slot, 1 to 2000; no other host may have it" },
	{ "host", "log-level", "log-level", TYPE_LOG, FIELD(log_level), .def = "info",
	  .metavar = "error|info|debug", .help = "how much to say" },
	{ "host", "group", "group", TYPE_GROUP, FIELD(group), .def = "holdfast", .metavar = "NAME",
	  .help = "whose members may look at everything and change nothing; none: nobody" },
	{ "lease", "area", "area", TYPE_AREA, FIELD(area), .metavar = "PATH|URI",
	  .help = "the lease area: a file or block device that all hosts reach, or an NBD export" },
	{ "lease", "lockspace", "lockspace", TYPE_NAME, FIELD(lockspace), .metavar = "NAME",
	  .help = "name of the lockspace in the area" },
	{ "lease", "io-timeout", "io-timeout", TYPE_DURATION, FIELD(io_timeout_ns), SECOND,
	  255 * SECOND, .def = "10s", .metavar = "TIME",
	  .help = "whole seconds; hosts that run sanlock take this one for dead after 8 of it "
		  "and 60 s" },
	{ "lease", "renew", "renew", TYPE_DURATION, FIELD(renew_ns), 100 * MS, 20 * SECOND,
	  .def = "500ms", .metavar = "TIME", .help = "how often the host lease is renewed" },
	{ "lease", "fence", "fence", TYPE_DURATION, FIELD(fence_ns), 300 * MS, 600 * SECOND,
	  .def = "3s", .metavar = "TIME",
	  .help = "all VMs of this host stand still for good so long after the last renewal" },
	{ "lease", "stop", "stop", TYPE_DURATION, FIELD(stop_ns), 10 * MS, 300 * SECOND,
	  .def = "600ms", .metavar = "TIME",
	  .help = "of the fence, what stopping the VMs may take" },
	{ "lease", "watchdog", "watchdog", TYPE_PATH, FIELD(watchdog), .metavar = "DEVICE",
	  .help = "armed as long as leases are held; if not given, none" },
	{ "paths", "run-dir", "run-dir", TYPE_PATH, FIELD(run_dir), .def = "/run/holdfast",
	  .metavar = "DIR", .help = "folder for sockets and state, the same as the keepers'" },
	{ "paths", "vms", "vms", TYPE_PATH, FIELD(vms), .def = "/etc/holdfast/vms",
	  .metavar = "DIR", .help = "folder of the VMs' definitions" },
	{ "paths", "state-dir", "state-dir", TYPE_PATH, FIELD(state_dir),
	  .def = "/var/lib/holdfast", .metavar = "DIR",
	  .help = "folder for what has to survive a reboot" },
	{ "peers", "listen", "peers-listen", TYPE_ADDR, FIELD(peers_listen), .def = ":7399",
	  .metavar = "ADDR[:PORT]",
	  .help = "where the daemons of hosts with which VMs are shared may connect" },
	{ "peers", "encryption", "peers-encryption", TYPE_TLS, FIELD(is_plain), .def = "tls",
	  .metavar = "tls|plain",
	  .help = "plain: whoever is in the network between them can give orders for these VMs" },
	{ "peers", "pki-dir", "pki-dir", TYPE_PATH, FIELD(pki_dir), .def = "/etc/pki/holdfast",
	  .metavar = "DIR",
	  .help = "folder with ca-cert.pem and this host's certificates and keys" },
	{ "pacemaker", "enabled", "pacemaker", TYPE_AUTO, FIELD(bridge), .def = "auto",
	  .metavar = "auto|yes|no",
	  .help = "tell Pacemaker on this host what becomes of VMs that it manages, and take its "
		  "word of fenced nodes; auto: where it is installed" },
	{ "pacemaker", "fencing", "pacemaker-fencing", TYPE_FENCING, FIELD(is_fencing_ignored),
	  .def = "proof", .metavar = "proof|ignore",
	  .help = "proof: a node that Pacemaker has fenced was switched off; ignore: or only cut "
		  "off from its storage or network" },
#undef FIELD
};

#define ROWS (sizeof(table) / sizeof(table[0]))
#define SECTIONS 5

struct file {
	const char *name;
	struct hf_hostconf *conf;
	unsigned int key_lines[ROWS]; /* 0: not given */
	unsigned int section_lines[SECTIONS];
	unsigned int address_line; /* of the [peer] that is open */
};

static const char *const sections[SECTIONS] = { "host", "lease", "paths", "peers", "pacemaker" };

static int set_name(char *field, const char *text, struct hf_err *err)
{
	if (!hf_is_valid_name(text) || strlen(text) > HF_LEASE_NAME_BYTES) {
		hf_err_set(err,
			   "'%.80s' is not a name: 1 to %d of letters, digits, '.', '_' and '-'",
			   text, HF_LEASE_NAME_BYTES);
		return -EINVAL;
	}
	(void)snprintf(field, HF_LEASE_NAME_BYTES + 1, "%s", text);
	return 0;
}

static int set_id(uint64_t *field, const char *text, struct hf_err *err)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : 0;
	if (errno || n < 1 || n > HF_LEASE_HOSTS_MAX || *end) {
		hf_err_set(err, "'%.80s' is given, but a number from 1 to %d is needed", text,
			   HF_LEASE_HOSTS_MAX);
		return -EINVAL;
	}
	*field = n;
	return 0;
}

static bool is_uri(const char *text)
{
	return strncmp(text, "nbd://", 6) == 0 || strncmp(text, "nbds://", 7) == 0 ||
	       strncmp(text, "nbd+unix://", 11) == 0;
}

static int set_path(char **field, const char *text, bool may_be_uri, struct hf_err *err)
{
	char *copy;

	if (text[0] != '/' && !(may_be_uri && is_uri(text))) {
		hf_err_set(err, "'%.80s' is given, but an absolute path%s is needed", text,
			   may_be_uri ? ", nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH"
				      : "");
		return -EINVAL;
	}
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_duration(const struct row *row, uint64_t *field, const char *text,
			struct hf_err *err)
{
	char low[HF_TEXT_QUANTITY], high[HF_TEXT_QUANTITY];
	uint64_t ns;
	int r = hf_parse_duration_ns(text, &ns, err);

	if (r < 0)
		return -EINVAL;
	if (ns < row->min_ns || ns > row->max_ns) {
		hf_err_set(err, "'%.80s' is given, but it has to be from %s to %s", text,
			   hf_format_duration(row->min_ns, low, sizeof(low)),
			   hf_format_duration(row->max_ns, high, sizeof(high)));
		return -EINVAL;
	}
	*field = ns;
	return 0;
}

static int set_group(char **field, const char *text, struct hf_err *err)
{
	char *copy;

	if (!hf_is_valid_name(text)) {
		hf_err_set(err, "'%.80s' cannot be the name of a group", text);
		return -EINVAL;
	}
	copy = strdup(strcmp(text, "none") == 0 ? "" : text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_log(enum hf_log_level *field, const char *text, struct hf_err *err)
{
	static const char *const words[] = { "error", "info", "debug" };

	for (unsigned int i = 0; i < 3; i++) {
		if (strcmp(text, words[i]) != 0)
			continue;
		*field = (enum hf_log_level)i;
		return 0;
	}
	hf_err_set(err, "'%.80s' is given, but it is one of error, info, debug", text);
	return -EINVAL;
}

static int set_addr(struct hf_addr *field, const char *text, struct hf_err *err)
{
	return hf_addr_parse(text, HF_HOSTCONF_PEER_PORT, field, err) < 0 ? -EINVAL : 0;
}

static int set_tls(bool *is_plain, const char *text, struct hf_err *err)
{
	*is_plain = strcmp(text, "plain") == 0;
	if (*is_plain || strcmp(text, "tls") == 0)
		return 0;
	hf_err_set(err, "'%.80s' is given, but it is one of tls, plain", text);
	return -EINVAL;
}

static int set_auto(enum hf_hostconf_auto *field, const char *text, struct hf_err *err)
{
	bool is_yes;

	if (strcmp(text, "auto") == 0) {
		*field = HF_HOSTCONF_AUTO;
		return 0;
	}
	if (hf_parse_bool(text, &is_yes, NULL) < 0) {
		hf_err_set(err, "'%.80s' is given, but it is one of auto, yes, no", text);
		return -EINVAL;
	}
	*field = is_yes ? HF_HOSTCONF_YES : HF_HOSTCONF_NO;
	return 0;
}

static int set_fencing(bool *is_ignored, const char *text, struct hf_err *err)
{
	*is_ignored = strcmp(text, "ignore") == 0;
	if (*is_ignored || strcmp(text, "proof") == 0)
		return 0;
	hf_err_set(err, "'%.80s' is given, but it is one of proof, ignore", text);
	return -EINVAL;
}

static int set(const struct row *row, struct hf_hostconf *c, const char *text, struct hf_err *err)
{
	void *field = (char *)c + row->offset;

	switch (row->type) {
	case TYPE_NAME:
		return set_name(field, text, err);
	case TYPE_ID:
		return set_id(field, text, err);
	case TYPE_AREA:
	case TYPE_PATH:
		return set_path(field, text, row->type == TYPE_AREA, err);
	case TYPE_DURATION:
		return set_duration(row, field, text, err);
	case TYPE_GROUP:
		return set_group(field, text, err);
	case TYPE_LOG:
		return set_log(field, text, err);
	case TYPE_ADDR:
		return set_addr(field, text, err);
	case TYPE_TLS:
		return set_tls(field, text, err);
	case TYPE_AUTO:
		return set_auto(field, text, err);
	case TYPE_FENCING:
		return set_fencing(field, text, err);
	}
	return -EINVAL;
}

static int apply_defaults(struct hf_hostconf *c, const char *nodename, struct hf_err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < ROWS; i++)
		if (table[i].def)
			r = set(&table[i], c, table[i].def, err);
	if (!r && hf_is_valid_name(nodename) && strlen(nodename) <= HF_LEASE_NAME_BYTES)
		r = set_name(c->name, nodename, err);
	return r;
}

/* ---- the file ---- */

static int open_peer(struct file *f, const struct hf_conf_item *it, struct hf_err *err)
{
	struct hf_hostconf *c = f->conf;
	struct hf_hostconf_peer *grown;

	if (!hf_is_valid_name(it->name))
		hf_err_set(err, "%s:%u:1: a peer is written [peer NAME]", f->name, it->line);
	else if (hf_hostconf_find_peer(c, it->name))
		hf_err_set(err, "%s:%u:1: [peer %s] again", f->name, it->line, it->name);
	else if (c->n_peers == HF_HOSTCONF_PEERS_MAX)
		hf_err_set(err, "%s:%u:1: more than %d peers", f->name, it->line,
			   HF_HOSTCONF_PEERS_MAX);
	else {
		grown = realloc(c->peers, (c->n_peers + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		c->peers = grown;
		f->address_line = 0;
		memset(&grown[c->n_peers], 0, sizeof(*grown));
		(void)snprintf(grown[c->n_peers++].name, sizeof(grown->name), "%s", it->name);
		return 0;
	}
	return -EINVAL;
}

/* The only key of a [peer NAME]. */
static int take_peer_key(struct file *f, const struct hf_conf_item *it, struct hf_err *err)
{
	struct hf_hostconf_peer *peer = &f->conf->peers[f->conf->n_peers - 1];
	struct hf_err why = { "" };

	if (strcmp(it->key, "address") != 0)
		hf_err_set(err, "%s:%u:1: [peer %s] takes only 'address', not '%.64s'", f->name,
			   it->line, peer->name, it->key);
	else if (f->address_line)
		hf_err_set(err, "%s:%u:1: 'address' again: it is already in line %u", f->name,
			   it->line, f->address_line);
	else if (set_addr(&peer->addr, it->value, &why) < 0 || !peer->addr.host[0])
		hf_err_set(err, "%s:%u:%u: address: %s", f->name, it->line, it->value_column,
			   why.text[0] ? why.text : "a host is needed");
	else {
		f->address_line = it->line;
		return 0;
	}
	return -EINVAL;
}

static int open_section(struct file *f, const struct hf_conf_item *it, struct hf_err *err)
{
	if (strcmp(it->kind, "peer") == 0)
		return open_peer(f, it, err);
	for (unsigned int i = 0; i < SECTIONS; i++) {
		if (strcmp(it->kind, sections[i]) != 0)
			continue;
		if (it->name[0])
			hf_err_set(err, "%s:%u:1: [%s] has no name of its own, so not '%.64s'",
				   f->name, it->line, it->kind, it->name);
		else if (f->section_lines[i])
			hf_err_set(err, "%s:%u:1: [%s] again: it is already in line %u", f->name,
				   it->line, it->kind, f->section_lines[i]);
		else
			f->section_lines[i] = it->line;
		return f->section_lines[i] == it->line ? 0 : -EINVAL;
	}
	hf_err_set(err,
		   "%s:%u:1: no section is called [%.64s]: there are [host], [lease], [paths], "
		   "[peers], [pacemaker] and [peer NAME]",
		   f->name, it->line, it->kind);
	return -EINVAL;
}

static const struct row *find_key(const struct file *f, const struct hf_conf_item *it,
				  struct hf_err *err)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (strcmp(table[i].key, it->key) != 0)
			continue;
		if (strcmp(table[i].section, it->kind) == 0)
			return &table[i];
		hf_err_set(err, "%s:%u:1: '%s' belongs into [%s], not into [%s]", f->name, it->line,
			   it->key, table[i].section, it->kind);
		return NULL;
	}
	hf_err_set(err, "%s:%u:1: no setting is called '%.64s'", f->name, it->line, it->key);
	return NULL;
}

/* hf_conf_fn */
static int take(void *data, const struct hf_conf_item *it, struct hf_err *err)
{
	struct file *f = data;
	const struct row *row;
	unsigned int *line;
	struct hf_err why;
	int r;

	if (!it->key)
		return open_section(f, it, err);
	if (strcmp(it->kind, "peer") == 0)
		return take_peer_key(f, it, err);
	row = find_key(f, it, err);
	if (!row)
		return -EINVAL;
	line = &f->key_lines[row - table];
	if (*line) {
		hf_err_set(err, "%s:%u:1: '%s' again: it is already in line %u", f->name, it->line,
			   it->key, *line);
		return -EINVAL;
	}
	*line = it->line;
	if (strchr(it->value, '\n')) {
		hf_err_set(err,
			   "%s:%u:1: '%s' takes one line: this one is indented and so goes on "
			   "with it",
			   f->name, it->line + 1, it->key);
		return -EINVAL;
	}
	r = set(row, f->conf, it->value, &why);
	if (r == -EINVAL)
		hf_err_set(err, "%s:%u:%u: %s: %s", f->name, it->line, it->value_column, it->key,
			   why.text);
	return r;
}

int hf_hostconf_apply_text(struct hf_hostconf *c, const char *file, const char *text, size_t len,
			   struct hf_err *err)
{
	struct file f = { .name = file, .conf = c };

	return hf_conf_parse(file, text, len, take, &f, err);
}

static int apply_file(struct hf_hostconf *c, const char *path, bool is_optional, struct hf_err *err)
{
	char *text;
	size_t len;
	int r = hf_conffile_read(path, &text, &len, err);

	if (r == -ENOENT && is_optional)
		return 0;
	if (r < 0)
		return r;
	r = hf_hostconf_apply_text(c, path, text, len, err);
	free(text);
	return r;
}

/* ---- options ---- */

struct options {
	const char *file;
	bool is_check;
	const char *values[ROWS];
};

static int find_option(const char *name, size_t len)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(table[i].option) == len && strncmp(table[i].option, name, len) == 0)
			return (int)i;
	return -1;
}

/* "--option value" and "--option=value". Return: how many words it took, or -EINVAL. */
static int take_option(struct options *o, char **words, struct hf_err *err)
{
	const char *name = words[0] + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] ? name + len + 1 : words[1];
	bool is_config = len == 6 && strncmp(name, "config", 6) == 0;
	int row = find_option(name, len);

	if (row < 0 && !is_config) {
		hf_err_set(err, "%.80s: no such option", words[0]);
		return -EINVAL;
	}
	if (!value) {
		hf_err_set(err, "%.80s needs a value", words[0]);
		return -EINVAL;
	}
	if (is_config)
		o->file = value;
	else
		o->values[row] = value;
	return name[len] ? 1 : 2;
}

static int take_options(struct options *o, char **words, struct hf_err *err)
{
	int verdict = HF_HOSTCONF_RUN;
	int r;

	while (*words) {
		r = 1;
		if (strcmp(*words, "--help") == 0 || strcmp(*words, "-h") == 0) {
			return HF_HOSTCONF_HELP;
		} else if (strcmp(*words, "--version") == 0) {
			return HF_HOSTCONF_VERSION;
		} else if (strcmp(*words, "--check-config") == 0) {
			verdict = HF_HOSTCONF_CHECK;
		} else if (strncmp(*words, "--", 2) == 0) {
			r = take_option(o, words, err);
		} else {
			hf_err_set(err, "'%.80s': only options are taken", *words);
			r = -EINVAL;
		}
		if (r < 0)
			return r;
		words += r;
	}
	return verdict;
}

static int apply_options(struct hf_hostconf *c, const struct options *o, struct hf_err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < ROWS; i++) {
		if (!o->values[i])
			continue;
		r = set(&table[i], c, o->values[i], err);
		if (r == -EINVAL)
			hf_err_prefix(err, "--%s: ", table[i].option);
	}
	return r;
}

/* ---- all of it ---- */

static int lacks(struct hf_err *err, const char *what, const char *section, const char *option)
{
	hf_err_set(err, "the %s is not given: in [%s] of the configuration, or by --%s", what,
		   section, option);
	return -EINVAL;
}

/* Without an area there is nothing that the rest could be about. */
static int check_no_area(const struct hf_hostconf *c, struct hf_err *err)
{
	if (!c->lockspace[0])
		return 0;
	hf_err_set(err, "a lockspace is given, but no lease area that it would be in");
	return -EINVAL;
}

int hf_hostconf_check(const struct hf_hostconf *c, struct hf_err *err)
{
	uint64_t sanlock_ns = 8 * c->io_timeout_ns;

	if (!c->name[0])
		return lacks(err, "host's name", "host", "host-name");
	if (!c->area)
		return check_no_area(c, err);
	if (!c->id)
		return lacks(err, "host's id", "host", "host-id");
	if (!c->lockspace[0])
		return lacks(err, "lockspace", "lease", "lockspace");
	if (c->io_timeout_ns % SECOND)
		hf_err_set(err, "io-timeout has to be whole seconds");
	else if (c->fence_ns < 3 * c->renew_ns)
		hf_err_set(err, "fence has to be three times renew at least: one renewal may fail");
	else if (c->stop_ns >= c->fence_ns / 2)
		hf_err_set(err, "stop has to be less than half of fence");
	else if (c->fence_ns >= sanlock_ns)
		hf_err_set(err,
			   "fence has to be less than 8 times io-timeout, when sanlock's hosts "
			   "take what is this host's");
	else
		return 0;
	return -EINVAL;
}

int hf_hostconf_load(int argc, char **argv, const char *nodename, struct hf_hostconf *ret,
		     struct hf_err *err)
{
	struct options o = { .file = NULL };
	int verdict;
	int r;

	memset(ret, 0, sizeof(*ret));
	verdict = take_options(&o, argv + (argc > 0), err);
	if (verdict < 0 || verdict == HF_HOSTCONF_HELP || verdict == HF_HOSTCONF_VERSION)
		return verdict;
	r = apply_defaults(ret, nodename, err);
	if (!r)
		r = apply_file(ret, o.file ? o.file : HF_HOSTCONF_FILE, !o.file, err);
	if (!r)
		r = apply_options(ret, &o, err);
	if (!r)
		r = hf_hostconf_check(ret, err);
	return r < 0 ? r : verdict;
}

const struct hf_hostconf_peer *hf_hostconf_find_peer(const struct hf_hostconf *c, const char *name)
{
	for (unsigned int i = 0; i < c->n_peers; i++)
		if (strcmp(c->peers[i].name, name) == 0)
			return &c->peers[i];
	return NULL;
}

void hf_hostconf_fini(struct hf_hostconf *c)
{
	free(c->area);
	free(c->watchdog);
	free(c->run_dir);
	free(c->vms);
	free(c->state_dir);
	free(c->group);
	free(c->pki_dir);
	free(c->peers);
	memset(c, 0, sizeof(*c));
}

/* ---- help ---- */

/* Breaks at blanks; the pen stands at TEXT_COLUMN. */
static void put_wrapped(FILE *to, const char *text)
{
	size_t column = TEXT_COLUMN;
	size_t n;

	while (*text) {
		n = strcspn(text, " ");
		if (column > TEXT_COLUMN && column + 1 + n > COLUMNS) {
			(void)fprintf(to, "\n%*s", TEXT_COLUMN, "");
			column = TEXT_COLUMN;
		}
		column += (size_t)fprintf(to, "%s%.*s", column > TEXT_COLUMN ? " " : "", (int)n,
					  text);
		text += n + (text[n] == ' ');
	}
	(void)fputc('\n', to);
}

static void put_option(FILE *to, const char *option, const char *metavar, const char *help,
		       const char *def)
{
	char text[512];
	int n = fprintf(to, "  --%s%s%s", option, metavar[0] ? " " : "", metavar);

	if (n + 2 > TEXT_COLUMN)
		(void)fprintf(to, "\n%*s", TEXT_COLUMN, "");
	else
		(void)fprintf(to, "%*s", TEXT_COLUMN - n, "");
	(void)snprintf(text, sizeof(text), "%s%s%s%s", help, def ? " (default: " : "",
		       def ? def : "", def ? ")" : "");
	put_wrapped(to, text);
}

void hf_hostconf_help(FILE *to)
{
	const char *section = "";

	(void)fputs(
		"Usage: holdfastd [OPTION...]\n\n"
		"Runs this host's VMs by their definitions, and holds its place in a lockspace on\n"
		"shared storage, if there is one, and the leases of the VMs. Each option is also a "
		"key of the configuration file, and counts more.\n",
		to);
	for (size_t i = 0; i < ROWS; i++) {
		if (strcmp(section, table[i].section) != 0)
			(void)fprintf(to, "\n[%s]\n", table[i].section);
		section = table[i].section;
		put_option(to, table[i].option, table[i].metavar, table[i].help, table[i].def);
	}
	(void)fputs("\nOthers\n", to);
	put_option(to, "config", "FILE", "the configuration file", HF_HOSTCONF_FILE);
	put_option(to, "check-config", "", "say what is wrong with it, and end", NULL);
	put_option(to, "version", "", "of this program", NULL);
	put_option(to, "help", "", "this text", NULL);
}
