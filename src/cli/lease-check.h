/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of `holdfast lease check` share. Layer: cli.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/lease-scan.h"

/* A lockspace or lease that was found. */
struct hf_check_found {
	enum hf_lease_kind kind;
	uint64_t offset;
	bool is_in_index;
	char space[HF_LEASE_NAME_BYTES + 1];
	char name[HF_LEASE_NAME_BYTES + 1]; /* "": a lockspace */
};

struct hf_check_problem {
	uint64_t offset;
	uint32_t sector_bytes;
	char text[HF_ERR_MAX];
};

struct hf_check {
	uint64_t size_bytes;
	struct hf_lease_geometry geometry; /* of what stands first; sectors are counted by it */
	struct hf_check_found *found;
	size_t n_found, room_found;
	struct hf_check_problem *problems;
	size_t n_problems, room_problems;
	struct hf_lease_index index;
	uint8_t *index_bytes; /* of its area; NULL: there is none */
};

__attribute__((noreturn)) void hf_check_no_memory(void);

/* No memory ends the program. */
void hf_check_problem(struct hf_check *c, uint64_t offset, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void hf_check_note_found(struct hf_check *c, const struct hf_check_found *found);

/* One area by itself. */
void hf_check_area(struct hf_check *c, const struct hf_scan_area *a);

/* All that was found, against each other. */
void hf_check_together(struct hf_check *c);

void hf_check_fini(struct hf_check *c);
