/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program that runs only while this host owns a lease: the generic keeper. Layer: cli.
 *
 * The command is in a process group of its own. It is killed by the kernel if this process dies, and
 * stopped (SIGSTOP, its whole group) when the lease page says that the host lease has run out,
 * whatever has become of the daemon; it goes on if the lease is then claimed again, and is killed if
 * that is lost. What it starts in sessions of their own is its own affair.
 */
#pragma once

#include "cli/client.h"
#include "sys/leasepage.h"

struct hf_guard_job {
	const char *run_dir;
	const char *vm;
	char **command;
	struct hf_client *client; /* that owns the lease; may be replaced meanwhile */
	const struct hf_lease_page *page;
	uint64_t lver;
	uint64_t tenure;
};

/* Runs the command to its end, then releases the lease. Return: its exit status, 128 + signal, or
 * HF_HOST_EXIT_LOST; 127, 126: it could not be found, or run. */
int hf_guard_run(const struct hf_guard_job *job);
