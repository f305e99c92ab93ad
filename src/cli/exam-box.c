/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "cli/exam.h"
#include "cli/exit.h"
#include "vm/revive-box.h"

int hf_exam_box(int argc, char **argv)
{
	bool has_tap = argc > 2 && strcmp(argv[2], "--tap") == 0;
	int at = has_tap ? 3 : 2;
	struct hf_err err = { "" };

	if (argc < at + 2 || argv[1][0] != '/' || strcmp(argv[at], "--") != 0) {
		(void)fprintf(stderr,
			      "holdfast exam-box: this is `holdfast inspect`'s own command\n");
		return HF_EXIT_USAGE;
	}
	(void)!hf_revive_box(argv[1], has_tap, argv + at + 1, &err);
	(void)fprintf(stderr, "holdfast: %s\n", err.text);
	return HF_EXIT_FAILED;
}
