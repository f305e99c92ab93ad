/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast-pacemaker: tells Pacemaker what becomes of this host's VMs, and holdfastd what becomes of nodes. Started by
 * holdfastd, and ends with it.
 *
 * It is a process of its own since Pacemaker's libraries wait: what hangs in them is this, and nothing else. It keeps
 * nothing that could not be found out again: it may be killed at any time.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "pacemaker/herald.h"
#include "pacemaker/hostlink.h"
#include "pacemaker/links.h"
#include "pacemaker/pcmk.h"
#include "service/journal.h"
#include "service/loop.h"

#define HISTORY_NS (3600 * 1000000000ull) /* what was fenced earlier is nobody's news */

/* docs/man/holdfast-pacemaker.8 promises these, and HF_PCMK_EXIT_STUCK. */
enum hf_bridge_exit { HF_BRIDGE_DONE = 0, HF_BRIDGE_FAILED = 1, HF_BRIDGE_USAGE = 2 };

struct options {
	const char *run_dir;
	bool is_proof; /* what is fenced is dead */
	enum hf_log_level log_level;
};

struct bridge {
	struct options options;
	struct hf_loop loop;
	struct hf_journal journal;
	struct hf_links links;
	struct hf_herald *herald;
	struct hf_hostlink *host;
	uint64_t fenced_ns; /* all until then is told */
};

/* ---- who was fenced ---- */

static int tell_fenced(void *ctx, const struct hf_fencelink_fact *fact)
{
	struct bridge *b = ctx;
	int r = hf_hostlink_fenced(b->host, fact);

	if (r < 0)
		return 1; /* when the daemon is there again */
	hf_log(&b->journal, HF_LOG_INFO, "%s was fenced: %s", fact->node, fact->text);
	b->fenced_ns = fact->time_ns;
	return 0;
}

static void on_fenced(void *ctx)
{
	struct bridge *b = ctx;
	int r;

	if (!b->links.fencer)
		return;
	r = hf_fencelink_list(b->links.fencer, b->fenced_ns, tell_fenced, b);
	if (r < 0)
		hf_links_drop(&b->links, HF_LINKS_FENCER, r);
}

/* ---- connections ---- */

static void on_up(void *ctx, enum hf_links_which which)
{
	struct bridge *b = ctx;

	if (which == HF_LINKS_FENCER)
		on_fenced(b);
	else
		hf_herald_up(b->herald);
}

static void on_down(void *ctx, enum hf_links_which which)
{
	struct bridge *b = ctx;

	hf_herald_down(b->herald, which);
}

static const struct hf_links_ops links_ops = { on_up, on_down, on_fenced };

static void on_vm(void *ctx, const struct json_object *vm, uint64_t event_ns)
{
	struct bridge *b = ctx;

	hf_herald_take_vm(b->herald, vm, event_ns);
}

static void on_gone(void *ctx, const char *vm)
{
	struct bridge *b = ctx;

	hf_herald_take_gone(b->herald, vm);
}

static void on_all(void *ctx, struct json_object *vms)
{
	struct bridge *b = ctx;

	hf_herald_take_all(b->herald, vms);
}

static const struct hf_hostlink_ops host_ops = { on_vm, on_gone, on_all, on_fenced };

/* ---- the program ---- */

static int on_signal(sd_event_source *source __attribute__((unused)),
		     const struct signalfd_siginfo *si __attribute__((unused)), void *data)
{
	struct bridge *b = data;

	hf_loop_exit(&b->loop, HF_BRIDGE_DONE);
	return 0;
}

static int take_signals(struct bridge *b)
{
	sigset_t set;
	int r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(b->loop.event, NULL, SIGTERM, on_signal, b);
	if (r >= 0)
		r = sd_event_add_signal(b->loop.event, NULL, SIGINT, on_signal, b);
	return r < 0 ? r : 0;
}

static int set_up(struct bridge *b, struct hf_err *err)
{
	int r = hf_loop_init(&b->loop);

	if (!r)
		r = take_signals(b);
	if (!r)
		r = hf_herald_new(&b->loop, &b->journal, b->options.run_dir, &b->links, &b->herald,
				  err);
	if (!r)
		r = hf_hostlink_new(&b->loop, &b->journal, b->options.run_dir, &host_ops, b,
				    &b->host);
	if (!r)
		hf_links_begin(&b->links, &b->loop, &b->journal, b->options.is_proof, &links_ops,
			       b);
	return r;
}

static int run(struct bridge *b)
{
	uint64_t now_ns = hf_now_real_ns();
	struct utsname node;
	struct hf_err err = { "" };
	int r;

	(void)uname(&node);
	hf_journal_init(&b->journal, "holdfast-pacemaker", "host", node.nodename,
			b->options.log_level);
	hf_pcmk_init();
	b->fenced_ns = now_ns > HISTORY_NS ? now_ns - HISTORY_NS : 0;
	r = set_up(b, &err);
	if (r < 0)
		hf_log(&b->journal, HF_LOG_ERROR, "%s", err.text[0] ? err.text : strerror(-r));
	else
		r = hf_loop_run(&b->loop);
	hf_links_end(&b->links);
	hf_hostlink_free(b->host);
	hf_herald_free(b->herald);
	hf_loop_fini(&b->loop);
	hf_journal_fini(&b->journal);
	return r < 0 ? HF_BRIDGE_FAILED : r;
}

static int refuse(const char *what, const char *text)
{
	(void)fprintf(stderr, "holdfast-pacemaker: %s '%.80s': try --help\n", what, text);
	return HF_BRIDGE_USAGE;
}

static int take_level(struct options *o, const char *text)
{
	static const char *const words[] = { "error", "info", "debug" };

	for (unsigned int i = 0; i < 3; i++) {
		if (strcmp(words[i], text) != 0)
			continue;
		o->log_level = (enum hf_log_level)i;
		return -1;
	}
	return refuse("--log-level takes error, info or debug, not", text);
}

static int take_fencing(struct options *o, const char *text)
{
	o->is_proof = strcmp(text, "proof") == 0;
	if (o->is_proof || strcmp(text, "ignore") == 0)
		return -1;
	return refuse("--fencing takes proof or ignore, not", text);
}

static int say(const char *text)
{
	(void)fputs(text, stdout);
	return HF_BRIDGE_DONE;
}

static const char help[] =
	"Usage: holdfast-pacemaker [--run-dir DIR] [--fencing proof|ignore]\n"
	"                          [--log-level error|info|debug]\n\n"
	"Tells Pacemaker on this node at once what has become of VMs that it manages, and why.\n"
	"holdfastd starts it: see holdfast-pacemaker(8) and [pacemaker] in holdfastd.conf(5).\n";

/* -1: go ahead; else the exit status. */
static int take_option(struct options *o, int option)
{
	switch (option) {
	case 'r':
		o->run_dir = optarg;
		return optarg[0] == '/' ? -1
					: refuse("--run-dir takes an absolute path, not", optarg);
	case 'f':
		return take_fencing(o, optarg);
	case 'l':
		return take_level(o, optarg);
	case 'h':
		return say(help);
	case 'v':
		return say("holdfast-pacemaker " HF_VERSION "\n");
	default:
		return HF_BRIDGE_USAGE;
	}
}

static int take_options(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{ "run-dir", required_argument, NULL, 'r' },
		{ "fencing", required_argument, NULL, 'f' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option, verdict = -1;

	while (verdict < 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0)
		verdict = take_option(o, option);
	if (verdict < 0 && optind < argc)
		verdict = refuse("only options are taken, not", argv[optind]);
	return verdict;
}

int main(int argc, char **argv)
{
	static struct bridge b = { .options = { "/run/holdfast", true, HF_LOG_INFO } };
	int verdict = take_options(&b.options, argc, argv);

	return verdict >= 0 ? verdict : run(&b);
}
