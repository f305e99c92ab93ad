/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../tests/test.h"
#include "daemon/eventstore.h"
#include "daemon/wantedfile.h"

#define ENTRY(vm, more)                                                                            \
	"{\"vm\":\"" vm "\",\"started\":true,\"host\":\"\",\"version\":3,\"by\":\"a\","            \
	"\"stopped_by_order\":false" more "}"

static int parse(const char *text, struct hf_wanted_all *all, struct hf_err *err)
{
	return hf_wantedfile_parse(text, strlen(text), all, err);
}

TEST(what_was_saved_is_loaded)
{
	struct hf_wanted_entry vms[2] = {
		{ .vm = "web",
		  .wanted = { .is_started = true, .host = "b", .version = 7, .by = "a" } },
		{ .vm = "db",
		  .wanted = { .version = HF_WANTED_VERSION_MAX },
		  .was_stopped_by_order = true },
	};
	struct hf_wanted_all all = { .boot_id = "0f", .vms = vms, .n = 2 };
	char folder[] = "/tmp/test-wanted-XXXXXX";
	char below[64], path[96];
	struct hf_err err;

	CHECK(mkdtemp(folder));
	(void)snprintf(below, sizeof(below), "%s/state/.host", folder);
	(void)snprintf(path, sizeof(path), "%s/" HF_WANTED_FILE, below);
	CHECK_EQ(hf_wantedfile_load(below, &all, &err), -ENOENT);
	all = (struct hf_wanted_all){ .boot_id = "0f", .vms = vms, .n = 2 };
	CHECK_EQ(hf_wantedfile_save(below, &all, &err), 0);
	CHECK_EQ(hf_wantedfile_load(below, &all, &err), 0);
	CHECK_EQ(all.n, 2);
	CHECK_STR(all.boot_id, "0f");
	CHECK_STR(all.vms[0].vm, "web");
	CHECK_STR(all.vms[0].wanted.host, "b");
	CHECK_STR(all.vms[0].wanted.by, "a");
	CHECK_EQ(all.vms[0].wanted.version, 7);
	CHECK(all.vms[0].wanted.is_started && !all.vms[0].was_stopped_by_order);
	CHECK_EQ(all.vms[1].wanted.version, HF_WANTED_VERSION_MAX);
	CHECK(!all.vms[1].wanted.is_started && all.vms[1].was_stopped_by_order);
	hf_wantedfile_fini(&all);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(rmdir(below), 0);
	*strrchr(below, '/') = '\0';
	CHECK_EQ(rmdir(below), 0);
	CHECK_EQ(rmdir(folder), 0);
}

TEST(what_is_damaged_is_refused)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"{\"boot_id\":\"x\"}",
		"{\"boot_id\":1,\"vms\":[]}",
		"{\"boot_id\":\"0123456789012345678901234567890123456\",\"vms\":[]}",
		"{\"boot_id\":\"x\",\"vms\":[1]}",
		"{\"boot_id\":\"x\",\"vms\":[" ENTRY("web", "") "," ENTRY("web", "") "]}",
		"{\"boot_id\":\"x\",\"vms\":[" ENTRY("../web", "") "]}",
		"{\"boot_id\":\"x\",\"vms\":[" ENTRY("", "") "]}",
		"{\"boot_id\":\"x\",\"vms\":[" ENTRY("web", ",\"vm\":\"x\"") "]}",
	};
	struct hf_wanted_all all;
	struct hf_err err;

	CHECK_EQ(parse("{\"boot_id\":\"x\",\"vms\":[" ENTRY("web", "") "]}", &all, &err), 0);
	CHECK_EQ(all.n, 1);
	hf_wantedfile_fini(&all);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		err.text[0] = '\0';
		CHECK_EQ(parse(texts[i], &all, &err), -EBADMSG);
		CHECK(err.text[0]);
		CHECK(!all.vms && all.n == 0);
	}
}

TEST(events_come_back_in_order_and_without_the_damaged)
{
	static const char text[] = "{\"seq\":5,\"event\":\"a\"}\n"
				   "{\"seq\":9,\"event\":\"b\"}\n"
				   "nonsense\n"
				   "{\"seq\":8,\"event\":\"older\"}\n"
				   "{\"seq\":9,\"event\":\"again\"}\n"
				   "{\"seq\":18446744073709551615,\"event\":\"last\"}\n"
				   "{\"event\":\"without\"}\n"
				   "{\"seq\":10}\n"
				   "{\"seq\":11,\"event\":\"c\"}\n"
				   "{\"seq\":12,\"event\":\"cut o";
	struct hf_journal j;
	uint64_t seq = 0;

	hf_journal_init(&j, "test", "host", "h", HF_LOG_ERROR);
	hf_eventstore_parse(&j, text, sizeof(text) - 1);
	CHECK_EQ(j.seq, 11);
	CHECK(hf_journal_next(&j, seq, &seq));
	CHECK_EQ(seq, 5);
	CHECK(hf_journal_next(&j, seq, &seq));
	CHECK_EQ(seq, 9);
	CHECK(hf_journal_next(&j, seq, &seq));
	CHECK_EQ(seq, 11);
	CHECK(!hf_journal_next(&j, seq, &seq));
	hf_event(&j, "d", NULL, "now");
	CHECK_EQ(j.seq, 12);
	hf_journal_fini(&j);
}

TEST(a_gap_tells_nothing_of_the_lap_before)
{
	const char *const lines[] = { "{\"seq\":1,\"event\":\"a\"}\n",
				      "{\"seq\":2,\"event\":\"b\"}\n",
				      "{\"seq\":7,\"event\":\"c\"}\n" };
	struct hf_journal j;
	uint64_t seq = 0;

	hf_journal_init(&j, "test", "host", "h", HF_LOG_ERROR);
	CHECK_EQ(hf_journal_keep(&j, 4), 0);
	for (size_t i = 0; i < 3; i++)
		hf_eventstore_parse(&j, lines[i], strlen(lines[i]));
	CHECK(hf_journal_next(&j, seq, &seq));
	CHECK_EQ(seq, 7);
	CHECK(!hf_journal_next(&j, seq, &seq));
	hf_journal_fini(&j);
}

static unsigned int count(const struct hf_journal *j)
{
	unsigned int n = 0;
	uint64_t seq = 0;

	while (hf_journal_next(j, seq, &seq))
		n++;
	return n;
}

TEST(a_store_outlives_its_daemon_and_its_own_limit)
{
	char folder[] = "/tmp/test-events-XXXXXX";
	char path[64], old[64];
	struct json_object *event = json_object_new_object();
	struct hf_eventstore *s;
	struct hf_journal j;
	struct hf_err err;
	struct stat st;

	json_object_object_add(event, "seq", json_object_new_int(41));
	json_object_object_add(event, "vm", json_object_new_string("web"));
	json_object_object_add(event, "event", json_object_new_string("paused"));
	CHECK(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/events", folder);
	(void)snprintf(old, sizeof(old), "%s/events.old", folder);
	hf_journal_init(&j, "test", "host", "h", HF_LOG_ERROR);
	CHECK_EQ(hf_eventstore_open(&j, folder, &s, &err), 0);
	for (unsigned int i = 0; i < 3 * HF_EVENTSTORE_KEPT; i++)
		hf_event(&j, "filler", NULL, "%0400u", i);
	hf_event_forward(&j, event, 1234);
	json_object_put(event);
	hf_eventstore_close(s);
	hf_journal_fini(&j);
	CHECK(stat(path, &st) == 0 && st.st_size <= (off_t)HF_EVENTSTORE_FILE_BYTES + 65536);
	CHECK(stat(old, &st) == 0 && st.st_size <= (off_t)HF_EVENTSTORE_FILE_BYTES + 65536);

	hf_journal_init(&j, "test", "host", "h", HF_LOG_ERROR);
	CHECK_EQ(hf_eventstore_open(&j, folder, &s, &err), 0);
	CHECK_EQ(j.seq, 3 * HF_EVENTSTORE_KEPT + 1);
	CHECK(count(&j) > HF_EVENTSTORE_KEPT / 2);
	CHECK_EQ(hf_eventstore_seen(s, "web", 1234), 41);
	CHECK_EQ(hf_eventstore_seen(s, "web", 1235), 0);
	CHECK_EQ(hf_eventstore_seen(s, "db", 1234), 0);
	hf_eventstore_close(s);
	hf_journal_fini(&j);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(unlink(old), 0);
	CHECK_EQ(rmdir(folder), 0);
}
