/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `holdfast check-cluster`: for verb.h's table. Layer: cli. */
#pragma once

/* Exit status: 0, 1 mistakes were found, 2 usage, 3 or 9 there is no configuration to be looked at; -1: help is wanted. */
int hf_check_cluster_command(int argc, char **argv);
