/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The other programs of holdfast: in a build folder's layout they lie beside this one, installed where
 * the build was told to put them. Layer: cli. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum hf_program { HF_PROGRAM_KEEPER, HF_PROGRAM_DAEMON };

/* HOLDFAST_KEEPER and HOLDFASTD of the environment come first. Returns @buf. */
const char *hf_program_path(enum hf_program which, char *buf, size_t size);

/**
 * hf_program_run() - run one, and take what it says on both outputs
 * @argv: [0] is the path
 * @ret_text: the caller's to free()
 * Return: its exit status, 128 and more: ended by a signal; -ETIMEDOUT: it was killed; -errno.
 */
int hf_program_run(char *const *argv, uint64_t deadline_ns, char **ret_text);

/* `holdfast run`, `standby`: become the keeper. argv[1]: the verb. Returns only if that fails. */
int hf_program_become_keeper(char **argv);
