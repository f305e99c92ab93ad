/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The few lines of corosync.conf(5) that decide what a node that is left alone does. Layer: clustercheck. Any thread.
 * Nothing allocates or blocks. Corosync is the judge of its file; what is not understood here is passed over.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HF_COROSYNC_BYTES_MAX (1u << 20)

struct hf_corosync {
	unsigned int n_nodes; /* of the nodelist */
	bool has_quorum_provider;
	bool is_two_node;
	bool has_wait_for_all, is_wait_for_all; /* given; what it says */
	bool has_qdevice;
};

void hf_corosync_parse(const char *text, size_t len, struct hf_corosync *ret);
