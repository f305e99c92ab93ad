/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asking this host's daemon. Layer: cli. Blocks, except for what the guard does.
 */
#pragma once

#include <stdbool.h>

#include "cli/client.h"
#include "cli/lease-verbs.h"

/* Beside enum hf_lease_exit; holdfast(1) promises these, too. */
enum hf_host_exit {
	HF_HOST_EXIT_NO_DAEMON = 3, /* no holdfastd runs here */
	HF_HOST_EXIT_OWNED = 5, /* another host, or another process, owns the lease */
	HF_HOST_EXIT_LOST = 6, /* the lease was lost, and the command has been ended */
};

/* What the verbs take; which of them is each verb's. */
struct hf_host_options {
	const char *run_dir;
	const char *vm;
	bool is_json;
	bool is_forced;
	bool is_from_held;
	bool is_creating;
	bool is_following;
	uint64_t wait_ms; /* UINT64_MAX: not given */
	const char *to;
	uint64_t generation; /* 0: not given */
	char **command; /* NULL: none */
};

/**
 * hf_host_parse() - the options that @allowed names, by their short letters
 * j --json, f --force, h --from-held, c --create, e --events, w --wait, t --timeout, T --to,
 * g --generation; --run-dir always. @wants_vm: one name is needed; @wants_command: and a command.
 * Return: 0; 1: help is wanted; -EINVAL: has said what is wrong.
 */
int hf_host_parse(const char *verb, int argc, char **argv, const char *allowed, bool wants_vm,
		  bool wants_command, struct hf_host_options *ret) HF_MUST_CHECK;

/* The exit status for an error of a call to @c, which is told. */
int hf_host_complain(const char *verb, const struct hf_client *c, int r, const struct hf_err *err);

/* One call with one answer. @parameters is taken over. Return: an exit status, told if not 0; then
 * *ret (may be NULL) is the caller's. */
int hf_host_ask(const char *verb, const struct hf_host_options *o, const char *method,
		struct json_object *parameters, struct json_object **ret);

/* {vm: ...} */
struct json_object *hf_host_about(const struct hf_host_options *o);

/* `holdfast hosts`; argv[0]: the verb. */
int hf_host_hosts_run(int argc, char **argv);

/* `holdfast lease VERB` that ask the daemon: struct hf_lease_verb. */
int hf_host_list_run(int argc, char **argv);
int hf_host_show_run(int argc, char **argv);
int hf_host_create_run(int argc, char **argv);
int hf_host_request_run(int argc, char **argv);
int hf_host_transfer_run(int argc, char **argv);
int hf_host_acquire_run(int argc, char **argv);
int hf_host_await_run(int argc, char **argv);
