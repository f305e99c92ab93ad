/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How far something is that takes long, on stderr: one line that is written over on a terminal, else a
 * line each few seconds. Layer: cli. One thread. Nothing is said of what is done within a second.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hf_progress {
	const char *what; /* "holdfast offload" */
	bool is_terminal;
	bool is_line_open; /* on a terminal */
	uint64_t began_ns, told_ns;
};

void hf_progress_begin(struct hf_progress *p, const char *verb);
/* @text: of what is being done; told again with the seconds if it lasts. */
void hf_progress_text(struct hf_progress *p, const char *text);
void hf_progress_bytes(struct hf_progress *p, uint64_t done_bytes, uint64_t total_bytes);
void hf_progress_end(struct hf_progress *p);
