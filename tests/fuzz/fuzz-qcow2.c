/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a file begins that may be a qcow2 image. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "disk/image-internal.h"
#include "disk/qcow2-internal.h"

/* No files, no exports here. */
int hf_image_file_open(const struct hf_image_config *config, struct hf_image **ret,
		       struct hf_err *err)
{
	(void)config;
	(void)ret;
	(void)err;
	return -ENOENT;
}

int hf_image_nbd_open(const struct hf_image_config *config, struct hf_image **ret,
		      struct hf_err *err)
{
	return hf_image_file_open(config, ret, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_qcow2_info info = { 0 };
	struct hf_err err = { "" };
	int r;

	if (size > HF_QCOW2_HEAD_BYTES)
		return 0;
	r = hf_qcow2_parse(data, size, &info, &err);
	FUZZ_CHECK(r == 0 || r == -EBADMSG);
	FUZZ_CHECK((r < 0) == (err.text[0] != '\0'));
	if (r < 0 || !info.is_qcow2)
		return 0;
	/* All of the disk fits in, and the size is one that an export can have. */
	FUZZ_CHECK(info.room_bytes % 65536 == 0);
	FUZZ_CHECK(info.room_bytes / 2 > info.virtual_bytes);
	FUZZ_CHECK(info.room_bytes <= INT64_MAX);
	FUZZ_CHECK(info.has_backing_file == (info.backing_file[0] != '\0'));
	FUZZ_CHECK(memchr(info.backing_file, 0, sizeof(info.backing_file)));
	return 0;
}
