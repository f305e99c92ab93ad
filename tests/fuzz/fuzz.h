/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all fuzz targets share. A target defines LLVMFuzzerTestOneInput(); libFuzzer's main() calls
 * it with ever new inputs, replay.c's with the files of the corpus.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for every input. */
#define FUZZ_CHECK(cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(void)fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__,     \
				      #cond);                                                      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
