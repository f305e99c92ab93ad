/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Why strangers were turned away, told without filling the log: whoever knocks every second, or with
 * another wrong certificate each time, gets no more lines than this. Layer: service. Main thread only.
 */
#pragma once

#include "service/journal.h"

/* Reasons that are remembered: each is told once, until so many others have come. */
#define HF_DOORLOG_KEPT 32
/* Lines an hour; then one that says that further reasons are not told. */
#define HF_DOORLOG_LINES_PER_HOUR 32

struct hf_doorlog {
	uint32_t seen[HF_DOORLOG_KEPT]; /* checksums of reasons; 0: none */
	unsigned int next;
	unsigned int n_lines; /* in this hour */
	uint64_t hour_began_ns;
};

/* All zero is a good start. @who: an address without the port, or a name. @now_ns: any clock that only
 * goes forward. Return: was it told? */
bool hf_doorlog_tell(struct hf_doorlog *d, struct hf_journal *j, uint64_t now_ns, const char *who,
		     const char *why);
