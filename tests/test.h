/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The unit tests' harness: TEST(name) { ... } registers itself; main() runs all and prints TAP.
 * A failed check prints both values and ends that program: nothing after it would be trustworthy.
 */
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hf_test {
	const char *name;
	void (*run)(void);
};

#define TEST(name)                                                                                 \
	static void test_##name(void);                                                             \
	static const struct hf_test entry_##name                                                   \
		__attribute__((used, section("hf_tests"), aligned(sizeof(void *)))) = { #name,     \
											test_##name }; \
	static void test_##name(void)

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			hf_test_fail(__FILE__, __LINE__, "%s", #cond);                             \
	} while (0)

#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		int64_t got_ = (int64_t)(got), want_ = (int64_t)(want);                            \
		if (got_ != want_)                                                                 \
			hf_test_fail(__FILE__, __LINE__, "%s is %" PRId64 ", want %s = %" PRId64,  \
				     #got, got_, #want, want_);                                    \
	} while (0)

#define CHECK_STR(got, want)                                                                       \
	do {                                                                                       \
		const char *got_ = (got), *want_ = (want);                                         \
		if (!got_ || strcmp(got_, want_) != 0)                                             \
			hf_test_fail(__FILE__, __LINE__, "%s is \"%s\", want \"%s\"", #got,        \
				     got_ ? got_ : "(null)", want_);                               \
	} while (0)

#define CHECK_CONTAINS(got, part)                                                                  \
	do {                                                                                       \
		const char *got_ = (got), *part_ = (part);                                         \
		if (!strstr(got_, part_))                                                          \
			hf_test_fail(__FILE__, __LINE__, "%s is \"%s\", which lacks \"%s\"", #got, \
				     got_, part_);                                                 \
	} while (0)

__attribute__((noreturn, format(printf, 3, 4))) static inline void
hf_test_fail(const char *file, int line, const char *format, ...)
{
	__builtin_va_list ap;

	printf("# %s:%d: ", file, line);
	__builtin_va_start(ap, format);
	(void)vprintf(format, ap);
	__builtin_va_end(ap);
	printf("\nnot ok - check failed\n");
	(void)fflush(stdout);
	exit(1);
}

extern const struct hf_test __start_hf_tests[];
extern const struct hf_test __stop_hf_tests[];

int main(void)
{
	int n = 0;

	printf("1..%d\n", (int)(__stop_hf_tests - __start_hf_tests));
	(void)fflush(stdout); /* or a test's child would print it again */
	for (const struct hf_test *t = __start_hf_tests; t < __stop_hf_tests; t++) {
		t->run();
		printf("ok %d - %s\n", ++n, t->name);
		(void)fflush(stdout);
	}
	return 0;
}
