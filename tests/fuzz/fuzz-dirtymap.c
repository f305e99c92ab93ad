/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A dirty map's file. The first byte says whether its header is made right before: with a checksum,
 * and of this boot. It is trusted or begun anew, never anything else, and what is set in it
 * afterwards is found again.
 */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "disk/dirtymap-internal.h"

enum { BLOCKS = 1000, SIZE = HF_DIRTYFILE_HEADER_BYTES + 4096 };

static const uint64_t disk_bytes = (uint64_t)BLOCKS * HF_DIRTYMAP_BLOCK_BYTES - 512;

static struct hf_dirtymap *open_map(const char *path)
{
	struct hf_dirtymap *m = NULL;

	FUZZ_CHECK(hf_dirtymap_open(path, disk_bytes, &m, NULL) == 0);
	return m;
}

static void fix_header(uint8_t *buf)
{
	hf_le32_put(buf + 12, 0);
	hf_le32_put(buf + 12, hf_crc32c(0, buf, HF_DIRTYFILE_HEADER_BYTES));
}

static void check_map(const char *path)
{
	struct hf_dirtymap *m = open_map(path);
	uint64_t dirty = hf_dirtymap_dirty_bytes(m), cursor = 0, offset, length, sum = 0;
	struct hf_id session = hf_dirtymap_session(m);

	FUZZ_CHECK(dirty <= disk_bytes);
	FUZZ_CHECK(hf_dirtymap_is_trusted(m) || (dirty == disk_bytes && hf_id_is_none(session)));
	hf_dirtymap_set(m, disk_bytes - 1, 1);
	hf_dirtymap_close(m);
	m = open_map(path);
	FUZZ_CHECK(hf_dirtymap_is_trusted(m));
	FUZZ_CHECK(hf_id_is_equal(hf_dirtymap_session(m), session));
	FUZZ_CHECK(hf_dirtymap_dirty_bytes(m) >= dirty);
	dirty = hf_dirtymap_dirty_bytes(m);
	hf_dirtymap_send_begin(m, false, (struct hf_id){ 1, 2 });
	while (hf_dirtymap_send_next(m, &cursor, 1 << 20, &offset, &length)) {
		FUZZ_CHECK(offset < disk_bytes && length <= disk_bytes - offset);
		sum += length;
	}
	FUZZ_CHECK(sum == dirty);
	hf_dirtymap_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[SIZE];
	char path[64];
	int fd;

	if (size < 1)
		return 0;
	memset(buf, 0, sizeof(buf));
	memcpy(buf, data + 1, size - 1 < SIZE ? size - 1 : SIZE);
	if (data[0] & 1)
		fix_header(buf);
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0);
	/* Its real size is one of many that a map could have. */
	FUZZ_CHECK(write(fd, buf, data[0] & 2 ? size - 1 < SIZE ? size - 1 : SIZE : SIZE) >= 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	check_map(path);
	(void)close(fd);
	return 0;
}
