/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any packet between a keeper and its disk process: what is accepted says the same when it is sent on. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "disk/diskctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[HF_DISKCTL_PACKET_MAX];
	struct hf_diskctl_msg msg;
	struct hf_err err = { "" };
	int r = hf_diskctl_decode(data, size, &msg, &err);

	FUZZ_CHECK(r == 0 || r == -EBADMSG);
	FUZZ_CHECK((r == 0) == (err.text[0] == '\0'));
	if (r == 0) {
		FUZZ_CHECK(hf_diskctl_encode(&msg, buf) == size);
		FUZZ_CHECK(memcmp(buf, data, size) == 0);
	}
	return 0;
}
