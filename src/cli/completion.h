/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `holdfast completion INDEX WORD...`: what the shell's completion asks. Layer: cli.
 * WORD... is the command line so far, INDEX which of them is being typed (0 is the program). Prints the
 * candidates, one a line; "\001files" means: names of files. Takes no longer than half a second.
 */
#pragma once

#include "cli/verb.h"

int hf_completion_run(int argc, char **argv);
