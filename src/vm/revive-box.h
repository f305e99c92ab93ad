/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walls around a QEMU that is only examined. Layer: vm. The only thread of a process that is about
 * to become that QEMU.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/**
 * hf_revive_box() - put up the walls, then become @argv
 * @work_dir: absolute path of the only folder that can be written to
 * @has_tap: it is to make a TAP, in a network where nothing else is
 *
 *   network		a namespace of its own, with nothing in it
 *   file systems	read-only, all but @work_dir, in a mount namespace of its own
 *   capabilities	none but to read any file (images and kernels belong to somebody), and CAP_NET_ADMIN
 *			for a TAP; no new privileges
 *   fallocate()	fails: a balloon that the guest inflates would punch holes into its RAM file, which
 *			QEMU has mapped privately but open for writing
 *
 * Return: never, or -errno with @err.
 */
int hf_revive_box(const char *work_dir, bool has_tap, char *const *argv,
		  struct hf_err *err) HF_MUST_CHECK;
