/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A keeper that was started for what a cluster manager has assigned. Layer: keeper. Main thread. */
#pragma once

#include "base/error.h"

struct hf_keeper;

/* Set by holdfastd: the place (vm/assignment.h) that it starts this for. */
#define HF_ASSIGNED_ENVIRONMENT "HOLDFAST_ASSIGNED"

/**
 * hf_assigned_check_order() - is this start holdfastd's, or the manager's (--manager), if the VM has one?
 * To be called before anything is touched.
 * Return: 0; -EPERM with @err: it is by hand.
 */
int hf_assigned_check_order(const struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;

/**
 * hf_assigned_check() - is what this was started for still assigned?
 * To be called once the run folder's lock is held: whoever ends the VM here writes that down first and looks for a
 * keeper then. So it finds this one, or this one finds what was written; a daemon that slept between its
 * look and the start does no harm. Without the variable: 0. Reads a file.
 * Return: 0; -ECANCELED with @err: it is not.
 */
int hf_assigned_check(const struct hf_keeper *k, struct hf_err *err) HF_MUST_CHECK;
