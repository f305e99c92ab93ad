/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "base/crc32c.h"

TEST(known_values)
{
	uint8_t zeros[32] = { 0 };
	uint8_t ones[32];

	memset(ones, 0xff, sizeof(ones));
	/* RFC 3720 B.4 */
	CHECK_EQ(hf_crc32c(0, zeros, 32), 0x8a9136aau);
	CHECK_EQ(hf_crc32c(0, ones, 32), 0x62a8ab43u);
	CHECK_EQ(hf_crc32c(0, "123456789", 9), 0xe3069283u);
}

TEST(instruction_and_table_agree_and_chain)
{
	uint8_t buf[301];

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 167 + 13);
	for (size_t n = 0; n < sizeof(buf); n++) {
		uint32_t whole = hf_crc32c(0, buf, n);

		CHECK_EQ(whole, hf_crc32c_table(0, buf, n));
		CHECK_EQ(whole, hf_crc32c(hf_crc32c(0, buf, n / 3), buf + n / 3, n - n / 3));
	}
}
