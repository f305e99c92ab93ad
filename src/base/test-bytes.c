/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include "base/bytes.h"

TEST(order_of_bytes)
{
	uint8_t b[8];

	hf_le64_put(b, 0x0807060504030201u);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(b[i], i + 1);
	CHECK(hf_le64_get(b) == 0x0807060504030201u);
	CHECK_EQ(hf_le32_get(b + 1), 0x05040302);
	CHECK_EQ(hf_le16_get(b + 6), 0x0807);
	hf_be32_put(b, 0x01020304);
	CHECK_EQ(b[0], 1);
	CHECK_EQ(hf_be32_get(b), 0x01020304);
	hf_be32_put(b, 0xfffefdfc);
	CHECK(hf_be32_get(b) == 0xfffefdfcu);
}
