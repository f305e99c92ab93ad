/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfastd: the host's daemon. It runs the host's VMs by their definitions, and holds this host's place
 * in a lockspace, if there is one, and the leases of its VMs.
 *
 * It may be killed, stopped and restarted at any time: what runs under the host's lease looks at the
 * lease page by itself, and a daemon that comes back before that has run out goes on where the last
 * one stopped. Keepers are found again, and nothing that runs ends with the daemon.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/bridge.h"
#include "daemon/eventstore.h"
#include "daemon/heldfile.h"
#include "daemon/hostctl.h"
#include "daemon/jobs.h"
#include "daemon/membership.h"
#include "daemon/peers.h"
#include "daemon/survey.h"
#include "daemon/takeover.h"
#include "daemon/vms.h"

/* docs/man/holdfastd.8 promises these. */
enum hf_daemon_exit {
	HF_DAEMON_DONE = 0,
	HF_DAEMON_FAILED = 1,
	HF_DAEMON_USAGE = 2,
};

static int on_signal(sd_event_source *source __attribute__((unused)),
		     const struct signalfd_siginfo *si, void *data)
{
	struct hf_daemon *d = data;

	if (si->ssi_signo == SIGHUP) {
		hf_log(&d->journal, HF_LOG_INFO, "definitions are read anew");
		(void)sd_notify(0, "RELOADING=1");
		hf_vms_reload(d);
		(void)sd_notify(0, "READY=1");
		return 0;
	}
	hf_log(&d->journal, HF_LOG_INFO, "%s: ending", strsignal((int)si->ssi_signo));
	hf_loop_exit(&d->loop, HF_DAEMON_DONE);
	return 0;
}

static int take_signals(struct hf_daemon *d)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	sigset_t set;
	int r = 0;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < 3; i++)
		(void)sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	for (size_t i = 0; r >= 0 && i < 3; i++)
		r = sd_event_add_signal(d->loop.event, NULL, signals[i], on_signal, d);
	return r < 0 ? r : 0;
}

/* Its members reach the sockets of the daemon and of all keepers, to look: sys/rundir.h. Where there is
 * no such group, root alone does. */
static void admit_group(struct hf_daemon *d)
{
	const struct group *g = d->conf.group[0] ? getgrnam(d->conf.group) : NULL;
	gid_t gid = g ? g->gr_gid : 0;

	if (geteuid() != 0)
		return;
	if (mkdir(d->conf.run_dir, 0755) < 0 && errno != EEXIST)
		return; /* is said by who needs it */
	if (chown(d->conf.run_dir, (uid_t)-1, gid) < 0)
		hf_log(&d->journal, HF_LOG_ERROR, "%s cannot be given to the group %s: %s",
		       d->conf.run_dir, d->conf.group, strerror(errno));
}

static int open_run_dir(struct hf_daemon *d, struct hf_err *err)
{
	char path[PATH_MAX + sizeof(HF_LEASE_PAGE_FILE) + 1];
	int r;

	admit_group(d);
	r = hf_rundir_open(d->conf.run_dir, HF_RUNDIR_HOST, &d->rundir, err);
	if (!r)
		r = hf_eventstore_open(&d->journal, d->rundir.path, &d->eventstore, err);
	if (!r)
		r = hf_rundir_listen(&d->rundir, err);
	(void)snprintf(path, sizeof(path), "%s/" HF_LEASE_PAGE_FILE, d->rundir.path);
	if (!r && d->conf.area)
		r = hf_lease_page_create(path, &d->page, err);
	else if (!r) /* or keepers would wait for leases */
		(void)unlink(path);
	return r;
}

/* A file that is of no use is no reason not to serve those that come back by themselves. */
static void load_held(struct hf_daemon *d)
{
	struct hf_err err = { "" };

	if (hf_heldfile_load(&d->held, d->rundir.path, &err) < 0)
		hf_log(&d->journal, HF_LOG_ERROR, "what an earlier holdfastd held is not known: %s",
		       err.text);
	else if (d->held.count)
		hf_log(&d->journal, HF_LOG_INFO, "%u leases were held by an earlier holdfastd",
		       d->held.count);
}

static int set_up(struct hf_daemon *d, struct hf_err *err)
{
	int r = hf_loop_init(&d->loop);

	if (!r)
		r = take_signals(d);
	if (!r)
		r = sd_event_set_watchdog(d->loop.event, true);
	hf_held_table_init(&d->held, &d->loop, hf_jobs_held_ended, d);
	if (r >= 0)
		r = open_run_dir(d, err);
	if (!r)
		load_held(d);
	if (!r && d->conf.area)
		r = hf_survey_new(&d->loop, d->conf.area, d->conf.lockspace, &d->survey, err);
	if (!r)
		r = hf_takeover_new(d, &d->takeover);
	if (!r)
		r = hf_vms_new(d, err);
	if (!r)
		r = hf_peers_new(d, err);
	if (!r)
		r = hf_hostctl_new(d, &d->control);
	if (!r)
		r = hf_bridge_new(d, &d->bridge);
	return r;
}

/* The clients go last: they see how it ends by the end of their connections. */
static int tear_down(struct hf_daemon *d)
{
	int r;

	d->is_ending = true;
	r = hf_membership_end(d);
	if (!r && d->survey)
		r = hf_survey_free(d->survey);
	if (r < 0) {
		hf_log(&d->journal, HF_LOG_ERROR, "the lease storage hangs; ending all the same");
		hf_rundir_close(&d->rundir);
		_Exit(HF_DAEMON_FAILED);
	}
	hf_bridge_free(d->bridge);
	hf_peers_free(d);
	hf_vms_free(d);
	hf_hostctl_free(d->control);
	hf_jobs_fini(d);
	hf_takeover_free(d->takeover);
	hf_held_table_fini(&d->held);
	hf_timer_fini(&d->valid_timer);
	hf_timer_fini(&d->work_timer);
	hf_lease_page_close(d->page);
	hf_eventstore_close(d->eventstore);
	hf_rundir_close(&d->rundir);
	hf_loop_fini(&d->loop);
	return 0;
}

static void tell_started(struct hf_daemon *d)
{
	if (d->conf.area)
		hf_event(&d->journal, "started", NULL, "host id %d in lockspace %s on %s",
			 (int)d->conf.id, d->conf.lockspace, d->conf.area);
	else
		hf_event(&d->journal, "started", NULL, "without a lease area");
}

static int run(struct hf_daemon *d)
{
	struct hf_err err = { "" };
	int r;

	hf_journal_init(&d->journal, "holdfastd", "host", d->conf.name, d->conf.log_level);
	d->rundir = HF_RUNDIR_NONE;
	r = set_up(d, &err);
	if (r < 0) {
		hf_log(&d->journal, HF_LOG_ERROR, "%s", err.text[0] ? err.text : strerror(-r));
		(void)tear_down(d);
		hf_journal_fini(&d->journal);
		return HF_DAEMON_FAILED;
	}
	tell_started(d);
	hf_membership_begin(d);
	hf_vms_begin(d);
	(void)sd_notify(0, "READY=1");
	r = hf_loop_run(&d->loop);
	(void)sd_notify(0, "STOPPING=1");
	(void)tear_down(d);
	hf_journal_fini(&d->journal);
	return r < 0 ? HF_DAEMON_FAILED : r;
}

int main(int argc, char **argv)
{
	static struct hf_daemon d;
	struct hf_err err = { "" };
	struct utsname host;
	int verdict;
	int code;

	(void)uname(&host);
	host.nodename[strcspn(host.nodename, ".")] = '\0';
	verdict = hf_hostconf_load(argc, argv, host.nodename, &d.conf, &err);
	if (verdict == HF_HOSTCONF_RUN) {
		code = run(&d);
	} else if (verdict == HF_HOSTCONF_CHECK) {
		code = hf_vms_check_files(&d.conf, stderr) ? HF_DAEMON_USAGE : HF_DAEMON_DONE;
	} else if (verdict == HF_HOSTCONF_HELP) {
		hf_hostconf_help(stdout);
		code = HF_DAEMON_DONE;
	} else if (verdict == HF_HOSTCONF_VERSION) {
		puts("holdfastd " HF_VERSION);
		code = HF_DAEMON_DONE;
	} else {
		(void)fprintf(stderr, "holdfastd: %s\n",
			      err.text[0] ? err.text : strerror(-verdict));
		code = HF_DAEMON_USAGE;
	}
	hf_hostconf_fini(&d.conf);
	return code;
}
