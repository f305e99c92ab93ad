/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pacemaker/pcmk.h"

#include <crm/common/logging.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void on_stuck(int signo __attribute__((unused)))
{
	static const char text[] = "holdfast-pacemaker: a daemon of Pacemaker does not answer; "
				   "beginning anew\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(HF_PCMK_EXIT_STUCK);
}

void hf_pcmk_init(void)
{
	static const char *const noisy[] = { "PCMK_debug",           "PCMK_logfile",
					     "PCMK_logfacility",     "PCMK_blackbox",
					     "PCMK_stderr",          "PCMK_logpriority",
					     "PCMK_trace_functions", "PCMK_trace_files" };
	char name[] = "holdfast-pacemaker";
	char *argv[] = { name, NULL };

	for (unsigned int i = 0; i < sizeof(noisy) / sizeof(noisy[0]); i++)
		(void)unsetenv(noisy[i]);
	crm_log_preinit(name, 1, argv);
	(void)signal(SIGALRM, on_stuck);
	(void)signal(SIGPIPE, SIG_IGN);
}

void hf_pcmk_begin(void)
{
	(void)alarm(HF_PCMK_STUCK_S);
}

void hf_pcmk_end(void)
{
	(void)alarm(0);
}
