/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pacemaker's client libraries, as this program uses them. Layer: pacemaker. Main thread only.
 *
 * They wait for the daemon at the other end, some of them without a limit (libqb's connect does). So nobody connects
 * to a daemon that has not just answered a child that knocked (knock.h), each answer is waited for HF_PCMK_ANSWER_MS at
 * most, and what hangs all the same ends the program: holdfastd starts it again, and all is told anew.
 */
#pragma once

#include "base/error.h"

#define HF_PCMK_ANSWER_MS 4000
#define HF_PCMK_STUCK_S 10 /* a call that takes so long never ends */
#define HF_PCMK_EXIT_STUCK 3

/* Once: what libraries would log goes nowhere. */
void hf_pcmk_init(void);

/* Around calls into the libraries. */
void hf_pcmk_begin(void);
void hf_pcmk_end(void);
