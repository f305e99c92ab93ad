/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/client.h"

#define SECOND UINT64_C(1000000000)
#define TERMINAL_NS (SECOND / 5)
#define FILE_NS (5 * SECOND)

void hf_progress_begin(struct hf_progress *p, const char *verb)
{
	*p = (struct hf_progress){ .what = verb,
				   .is_terminal = isatty(STDERR_FILENO),
				   .began_ns = hf_client_now_ns() };
	p->told_ns = p->began_ns;
}

void hf_progress_text(struct hf_progress *p, const char *text)
{
	uint64_t now = hf_client_now_ns();
	uint64_t pause_ns = p->is_terminal ? TERMINAL_NS : FILE_NS;

	if (now - p->began_ns < SECOND || now - p->told_ns < pause_ns)
		return;
	p->told_ns = now;
	(void)fprintf(stderr, "%sholdfast %s: %s (%" PRIu64 " s)%s", p->is_terminal ? "\r" : "",
		      p->what, text, (uint64_t)((now - p->began_ns) / SECOND),
		      p->is_terminal ? "\033[K" : "\n");
	(void)fflush(stderr);
	p->is_line_open = p->is_terminal;
}

void hf_progress_bytes(struct hf_progress *p, uint64_t done_bytes, uint64_t total_bytes)
{
	char done[HF_TEXT_QUANTITY], total[HF_TEXT_QUANTITY];
	char text[128];

	(void)snprintf(text, sizeof(text), "%s of %s, %.0f%%",
		       hf_format_size(done_bytes, done, sizeof(done)),
		       hf_format_size(total_bytes, total, sizeof(total)),
		       total_bytes ? 100.0 * (double)done_bytes / (double)total_bytes : 0.0);
	hf_progress_text(p, text);
}

void hf_progress_end(struct hf_progress *p)
{
	if (p->is_line_open)
		(void)fputs("\r\033[K", stderr);
	p->is_line_open = false;
}
