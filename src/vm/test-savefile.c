/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/savefile.h"

#include "../../tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM_BYTES ((uint64_t)8 << 20)

static char dir[64];
static struct hf_err err;

static int remove_one(const char *path, const struct stat *st __attribute__((unused)),
		      int kind __attribute__((unused)), struct FTW *ftw __attribute__((unused)))
{
	return remove(path);
}

static void begin(void)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/holdfast-test-save.XXXXXX");
	CHECK(mkdtemp(dir));
	err.text[0] = '\0';
}

static void end(void)
{
	CHECK_EQ(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static char *in(const char *name)
{
	static char path[4][256];
	static unsigned int i;

	(void)snprintf(path[++i % 4], sizeof(path[0]), "%s/%s", dir, name);
	return path[i % 4];
}

static int memory(const char *text, uint64_t at)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)RAM_BYTES), 0);
	if (text)
		CHECK_EQ(pwrite(fd, text, strlen(text), (off_t)at), (ssize_t)strlen(text));
	return fd;
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	CHECK(f);
	(void)fputs(text, f);
	CHECK_EQ(fclose(f), 0);
}

static const uint8_t state[] = "device state";

static void save(struct hf_savenote *n)
{
	int ram = memory("marker", 5 << 20);

	*n = (struct hf_savenote){ .vm = "web", .machine = "m", .ram_bytes = RAM_BYTES };
	CHECK_EQ(hf_savefile_prepare(dir, "web", RAM_BYTES, &err), 0);
	CHECK_EQ(hf_savefile_write(dir, n, ram, state, sizeof(state), NULL, NULL, &err), 0);
	CHECK_EQ(hf_savefile_commit(dir, "web", &err), 0);
	close(ram);
}

TEST(what_was_saved_is_loaded)
{
	static struct hf_savenote n, found;
	char text[7] = "";
	uint8_t *back;
	struct stat st;
	size_t len;
	int ram;

	begin();
	CHECK_EQ(hf_savefile_find(dir, "web", &found, &err), -ENOENT);
	save(&n);
	CHECK_EQ(hf_savefile_find(dir, "web", &found, &err), 0);
	CHECK_EQ(found.device_state_bytes, sizeof(state));
	CHECK(!found.is_settled);
	CHECK_EQ(stat(in("web/saved/ram"), &st), 0);
	CHECK_EQ(st.st_size, RAM_BYTES);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK(st.st_blocks * 512 < 65536); /* a page of 8 MiB was written */
	ram = memory(NULL, 0);
	CHECK_EQ(hf_savefile_load(dir, &found, ram, &back, &len, &err), 0);
	CHECK_EQ(len, sizeof(state));
	CHECK(memcmp(back, state, len) == 0);
	CHECK_EQ(pread(ram, text, 6, 5 << 20), 6);
	CHECK_STR(text, "marker");
	free(back);
	close(ram);
	end();
}

TEST(it_is_used_once)
{
	static struct hf_savenote n;

	begin();
	save(&n);
	CHECK_EQ(hf_savefile_use(dir, "web", &err), 0);
	CHECK_EQ(hf_savefile_find(dir, "web", &n, &err), -ENOENT);
	CHECK(hf_savefile_has_used(dir, "web"));
	CHECK(hf_savefile_use(dir, "web", &err) < 0);
	CHECK_EQ(hf_savefile_give_back(dir, "web", &err), 0);
	CHECK(!hf_savefile_has_used(dir, "web"));
	CHECK_EQ(hf_savefile_find(dir, "web", &n, &err), 0);
	CHECK_EQ(hf_savefile_use(dir, "web", &err), 0);
	hf_savefile_remove_used(dir, "web");
	CHECK(!hf_savefile_has_used(dir, "web"));
	CHECK(rmdir(in("web")) == 0); /* nothing is left */
	end();
}

TEST(a_save_that_is_not_whole_is_none)
{
	static struct hf_savenote n, found;
	int ram = memory("x", 0);

	begin();
	n = (struct hf_savenote){ .vm = "web", .ram_bytes = RAM_BYTES };
	CHECK_EQ(hf_savefile_prepare(dir, "web", RAM_BYTES, &err), 0);
	CHECK_EQ(hf_savefile_write(dir, &n, ram, state, sizeof(state), NULL, NULL, &err), 0);
	CHECK_EQ(hf_savefile_find(dir, "web", &found, &err), -ENOENT);
	hf_savefile_drop_new(dir, "web");
	CHECK(rmdir(in("web")) == 0);
	CHECK_EQ(hf_savefile_prepare(dir, "web", UINT64_C(1) << 62, &err), -ENOSPC);
	close(ram);
	end();
}

TEST(damage_is_seen)
{
	static struct hf_savenote n;
	int ram = memory(NULL, 0);
	uint8_t *back = NULL;
	size_t len;

	begin();
	save(&n);
	CHECK_EQ(truncate(in("web/saved/ram"), 4096), 0);
	CHECK_EQ(hf_savefile_load(dir, &n, ram, &back, &len, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "ram");
	save(&n);
	put_file(in("web/saved/device-state"), "device statf");
	CHECK(hf_savefile_load(dir, &n, ram, &back, &len, &err) < 0);
	CHECK_CONTAINS(err.text, "device-state");
	CHECK(!back);
	save(&n);
	put_file(in("web/saved/save.json"), "{\"version\": 1");
	CHECK(hf_savefile_find(dir, "web", &n, &err) < 0);
	CHECK_CONTAINS(err.text, "save.json");
	CHECK_EQ(hf_savefile_discard(dir, "web", &err), 0);
	CHECK_EQ(hf_savefile_find(dir, "web", &n, &err), -ENOENT);
	CHECK_EQ(hf_savefile_discard(dir, "web", &err), 0);
	close(ram);
	end();
}

TEST(another_vms_state_is_not_taken)
{
	static struct hf_savenote n;

	begin();
	save(&n);
	CHECK_EQ(rename(in("web"), in("db")), 0);
	CHECK_EQ(hf_savefile_find(dir, "db", &n, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "web");
	end();
}

TEST(images_that_changed_are_seen)
{
	static struct hf_savenote n, found;

	begin();
	save(&n);
	CHECK_EQ(hf_savefile_check_images(&n, &err), -ESTALE); /* not settled */
	put_file(in("disk.img"), "one");
	(void)snprintf(n.image[0].location, PATH_MAX, "%s", in("disk.img"));
	(void)snprintf(n.image[1].location, PATH_MAX, "nbd://san/x");
	n.n_images = 2;
	CHECK_EQ(hf_savefile_settle(dir, &n, &err), 0);
	CHECK_EQ(hf_savefile_find(dir, "web", &found, &err), 0);
	CHECK(found.is_settled && found.image[0].is_file && !found.image[1].is_file);
	CHECK_EQ(hf_savefile_check_images(&found, &err), 0);
	put_file(in("disk.img"), "two");
	CHECK_EQ(hf_savefile_check_images(&found, &err), -ESTALE);
	CHECK_CONTAINS(err.text, "disk.img");
	CHECK_EQ(unlink(in("disk.img")), 0);
	CHECK(hf_savefile_check_images(&found, &err) < 0);
	end();
}
