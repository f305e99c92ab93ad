/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of commands. docs/man/holdfast.1 says more about each, and in this order. */
#include <string.h>

#include "cli/check-cluster.h"
#include "cli/completion.h"
#include "cli/config-check.h"
#include "cli/exam.h"
#include "cli/host-call.h"
#include "cli/lease-verbs.h"
#include "cli/look-verbs.h"
#include "cli/ocf-call.h"
#include "cli/order-verbs.h"
#include "cli/pki-verbs.h"
#include "cli/verb.h"

#define S HF_VERB_SECOND

static const struct hf_verb verbs[] = {
	{ .name = "list",
	  .arguments = "",
	  .help = "the VMs of this host: defined, running, standing by, frozen, saved",
	  .options = "jLtsV",
	  .timeout_ns = 2 * S,
	  .run = hf_look_list },
	{ .name = "status",
	  .arguments = "[NAME[@ID]]",
	  .help = "a VM, what protects it and what that costs; of a frozen one, the certificate; "
		  "without a name, the whole host",
	  .more = "With a name the exit status tells the state: 0 runs here, 3 shut off, 10 "
		  "standby, "
		  "11 starting,\n12 paused, 13 freezing, 14 frozen, 15 saved, 16 crashed or "
		  "failed, "
		  "9 not known.",
	  .options = "jqtsV",
	  .words = HF_VERB_VM,
	  .words_max = 1,
	  .timeout_ns = 2 * S,
	  .run = hf_look_status },
	{ .name = "events",
	  .arguments = "[NAME[@ID]]",
	  .help = "follow what happens, as JSON lines, oldest kept first; without a name, on the "
		  "whole host",
	  .options = "At",
	  .words = HF_VERB_VM,
	  .words_max = 1,
	  .run = hf_look_events },
	{ .name = "start",
	  .arguments = "NAME",
	  .help = "have a defined VM run, by holdfastd",
	  .options = "FHMWt",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 120 * S,
	  .run = hf_order_start },
	{ .name = "stop",
	  .arguments = "NAME",
	  .help = "ask the guest to shut down, or end a standby; --force: at once",
	  .options = "fMWts",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 120 * S,
	  .run = hf_order_stop },
	{ .name = "pause",
	  .arguments = "NAME",
	  .help = "let the guest stand still",
	  .options = "ts",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 20 * S,
	  .run = hf_order_pause },
	{ .name = "resume",
	  .arguments = "NAME",
	  .help = "let a guest go on that is paused, whose disk failed, or that is saved",
	  .options = "ts",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 60 * S,
	  .run = hf_order_resume },
	{ .name = "promote",
	  .arguments = "NAME",
	  .help = "make the standby go live; --force if the primary is known to be dead",
	  .options = "fMWts",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 60 * S,
	  .run = hf_order_promote },
	{ .name = "freeze",
	  .arguments = "NAME",
	  .help = "end a VM here for good and keep it for examination; it goes on elsewhere",
	  .options = "jRCSPkts",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 60 * S,
	  .run = hf_order_freeze },
	{ .name = "release",
	  .arguments = "NAME@ID",
	  .help = "discard a frozen instance for good",
	  .options = "ts",
	  .words = HF_VERB_FROZEN,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 60 * S,
	  .run = hf_order_release },
	{ .name = "offload",
	  .arguments = "NAME@ID",
	  .help = "move a frozen instance's memory to a file",
	  .options = "ts",
	  .words = HF_VERB_FROZEN,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 3600 * S,
	  .run = hf_order_offload },
	{ .name = "clear",
	  .arguments = "NAME",
	  .help = "forget that a VM has crashed or failed, so that it may be started again",
	  .options = "t",
	  .words = HF_VERB_VM,
	  .words_min = 1,
	  .words_max = 1,
	  .timeout_ns = 20 * S,
	  .run = hf_order_clear },
	{ .name = "reload",
	  .arguments = "",
	  .help = "have holdfastd read the definitions again; what runs is not touched",
	  .options = "jt",
	  .timeout_ns = 20 * S,
	  .run = hf_order_reload },
	{ .name = "check-config",
	  .arguments = "[FILE...]",
	  .help = "say what is wrong with definitions of VMs, or with holdfastd's file",
	  .options = "jqtV",
	  .words = HF_VERB_FILES,
	  .words_max = -1,
	  .timeout_ns = 60 * S,
	  .run = hf_config_check },
	{ .name = "check-cluster",
	  .arguments = "[--cib FILE] [--vms DIR] [--json] [--strict] [--timeout TIME]\n"
		       "       [--run-dir DIR]",
	  .help = "find the usual mistakes in Pacemaker's configuration of this host's VMs",
	  .words = HF_VERB_NO_WORDS,
	  .raw_options = "--cib --vms --json --strict --timeout --run-dir",
	  .run_raw = hf_check_cluster_command },
	{ .name = "save",
	  .arguments = "NAME [--manager NAME] [--run-dir DIR]",
	  .help = "put a VM's state into files and end it; `holdfast start` resumes it from there",
	  .words = HF_VERB_VM,
	  .raw_options = "--manager --run-dir",
	  .run_raw = hf_exam_save },
	{ .name = "dump",
	  .arguments =
		  "NAME[@ID] FILE [--format elf|kdump-zlib|kdump-lzo|kdump-snappy|raw] [--force] "
		  "[--state-dir DIR] [--run-dir DIR]",
	  .help = "a VM's memory and registers as a file that gdb and crash open",
	  .words = HF_VERB_VM,
	  .raw_options = "--format --force --state-dir --run-dir",
	  .run_raw = hf_exam_dump },
	{ .name = "inspect",
	  .arguments = "NAME[@ID] [--gdb[=ADDRESS:PORT|PATH]] [--paused] [--run] [--state-dir DIR]",
	  .help = "bring a frozen VM to life on a private copy, cut off from everything",
	  .words = HF_VERB_FROZEN,
	  .raw_options = "--gdb --paused --run --state-dir",
	  .run_raw = hf_exam_inspect },
	{ .name = "exam-box",
	  .arguments = "WORK_DIR [--tap] -- PROGRAM...",
	  .help = "become a program behind walls: what `holdfast inspect` starts QEMU with",
	  .run_raw = hf_exam_box,
	  .is_hidden = true },
	{ .name = "hosts",
	  .arguments = "[--json] [--events] [--run-dir DIR]",
	  .help = "the hosts of the lockspace, and this one's place in it",
	  .raw_options = "--json --events --run-dir",
	  .run_raw = hf_host_hosts_run },
	{ .name = "lease",
	  .arguments = "VERB ...",
	  .help = "leases on shared storage; `holdfast lease help` tells more",
	  .words = HF_VERB_VM,
	  .subverbs = "init dump check list show create acquire await transfer request help",
	  .raw_options = "--json --run-dir --wait --create --timeout --to --generation --from-held "
			 "--force --lockspace --hosts --sector --align --io-timeout --leases",
	  .run_raw = hf_lease_command },
	{ .name = "pki",
	  .arguments = "VERB ...",
	  .help = "certificates of hosts; `holdfast pki help` tells more",
	  .words = HF_VERB_FILES,
	  .subverbs = "init host revoke show help",
	  .raw_options = "--name --address --dir --into --days --valid-from --force --json",
	  .run_raw = hf_pki_command },
	{ .name = "ocf",
	  .arguments = "ACTION NAME [--promotable] [--probe] [--timeout TIME] ...",
	  .help = "what a cluster's resource agent calls; ends with OCF's return codes",
	  .words = HF_VERB_VM,
	  .subverbs = "monitor start stop promote demote notify score validate table",
	  .raw_options = "--promotable --probe --timeout --paused --when-frozen --stop-failed "
			 "--shutdown-timeout --role --resource --instance --node --promote-to "
			 "--stop-on --json --run-dir --state-dir --vms",
	  .run_raw = hf_ocf_run },
	{ .name = "completion",
	  .arguments = "INDEX WORD...",
	  .help = "what a shell's completion offers",
	  .run_raw = hf_completion_run },
};

const struct hf_verb *hf_verb_at(size_t i)
{
	return i < sizeof(verbs) / sizeof(verbs[0]) ? &verbs[i] : NULL;
}

const struct hf_verb *hf_verb_find(const char *name)
{
	for (size_t i = 0; hf_verb_at(i); i++)
		if (strcmp(hf_verb_at(i)->name, name) == 0)
			return hf_verb_at(i);
	return NULL;
}
