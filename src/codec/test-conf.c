/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "codec/conf.h"

struct log {
	char text[1024];
	const char *refuse_key;
};

static int note(void *data, const struct hf_conf_item *item, struct hf_err *err)
{
	struct log *log = data;
	size_t n = strlen(log->text);

	if (log->refuse_key && item->key && strcmp(item->key, log->refuse_key) == 0) {
		hf_err_set(err, "refused at %u", item->line);
		return -EPERM;
	}
	if (!item->key)
		(void)snprintf(log->text + n, sizeof(log->text) - n, "%u[%s/%s] ", item->line,
			       item->kind, item->name);
	else
		(void)snprintf(log->text + n, sizeof(log->text) - n, "%u:%u %s/%s.%s=<%s> ",
			       item->line, item->value_column, item->kind, item->name, item->key,
			       item->value);
	return 0;
}

static void check_parse(const char *text, const char *want)
{
	struct log log = { "" };
	struct hf_err err = { "" };

	int r = hf_conf_parse("f", text, strlen(text), note, &log, &err);

	CHECK_STR(err.text, "");
	CHECK_EQ(r, 0);
	CHECK_STR(log.text, want);
}

static void check_refused_bytes(const char *text, size_t len, const char *want)
{
	struct log log = { "" };
	struct hf_err err = { "" };

	CHECK_EQ(hf_conf_parse("web.conf", text, len, note, &log, &err), -EINVAL);
	CHECK_CONTAINS(err.text, want);
}

static void check_refused(const char *text, const char *want)
{
	check_refused_bytes(text, strlen(text), want);
}

TEST(sections_and_keys)
{
	check_parse("", "");
	check_parse("# nothing\n\n;\n", "");
	check_parse("[vm]\nname = web\n", "1[vm/] 2:8 vm/.name=<web> ");
	check_parse("[ host  alpha-1.x ]\naddress=10.0.0.1:7400",
		    "1[host/alpha-1.x] 2:9 host/alpha-1.x.address=<10.0.0.1:7400> ");
	check_parse("[vm]\na =\nb = x = y # z \n[vm]\n",
		    "1[vm/] 2:4 vm/.a=<> 3:5 vm/.b=<x = y # z> 4[vm/] ");
	check_parse("[vm]\na = caf\xc3\xa9\n", "1[vm/] 2:5 vm/.a=<caf\xc3\xa9> ");
}

TEST(long_values)
{
	check_parse("[vm]\nargs = -m 2G\n\t-smp 2  \n  -nographic\nb = 1\n",
		    "1[vm/] 2:8 vm/.args=<-m 2G\n\t-smp 2\n  -nographic> 5:5 vm/.b=<1> ");
	check_parse("[vm]\nargs =\n  x\n# note\n  # note\n  y\n",
		    "1[vm/] 2:7 vm/.args=<\n  x\n\n\n  y> ");
	check_parse("[vm]\na = 1\n# note\n\n# note\nb = 2\n",
		    "1[vm/] 2:5 vm/.a=<1> 6:5 vm/.b=<2> ");
}

TEST(places)
{
	struct hf_conf_item item = { .value = "ab\n\n  cd", .line = 7, .value_column = 5 };
	unsigned int line;
	unsigned int column;

	hf_conf_place(&item, 0, &line, &column);
	CHECK_EQ(line, 7);
	CHECK_EQ(column, 5);
	hf_conf_place(&item, 1, &line, &column);
	CHECK_EQ(column, 6);
	hf_conf_place(&item, 7, &line, &column);
	CHECK_EQ(line, 9);
	CHECK_EQ(column, 4);
}

TEST(mistakes)
{
	check_refused("name = web\n", "web.conf:1:1: a [section] must come");
	check_refused("[vm]\nname\n", "web.conf:2:5: '=' is missing");
	check_refused("[vm]\nname web\n", "web.conf:2:6: '=' is missing");
	check_refused("[vm]\n= web\n", "web.conf:2:1: neither");
	check_refused("[vm]\n\xef\xbb\xbfx = 1\n", "web.conf:2:1: neither");
	check_refused("[vm\n", "web.conf:1:4: ']' is missing");
	check_refused("[vm a b]\n", "web.conf:1:7: ']' is missing");
	check_refused("[]\n", "web.conf:1:2: a section is written");
	check_refused("[vm] # x\n", "web.conf:1:6: nothing may follow");
	check_refused("[vm]\n  x = 1\n", "web.conf:2:1: an indented line");
	check_refused("[vm]\nx = 1\n\n  y\n", "web.conf:4:1: an indented line");
	check_refused("[vm]\r\n", "web.conf:1:5: a carriage return");
	check_refused("[vm]\na = \x1b[1m\n", "web.conf:2:5: a control character (byte 0x1b)");
	check_refused_bytes("[vm]\na = b\0c\n", 12,
			    "web.conf:2:6: a control character (byte 0x00)");
	check_refused("[abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcd]\n",
		      "at most 63");
}

TEST(limits)
{
	char *text = malloc(HF_CONF_FILE_MAX + 2);

	CHECK(text);
	memset(text, '\n', HF_CONF_FILE_MAX + 1);
	check_refused_bytes(text, HF_CONF_FILE_MAX + 1, "larger than");
	memset(text, '#', HF_CONF_LINE_MAX + 1);
	check_refused_bytes(text, HF_CONF_FILE_MAX, "web.conf:1:4097: the line is longer");
	text[HF_CONF_LINE_MAX] = '\n';
	text[HF_CONF_FILE_MAX] = '\0';
	check_parse(text, "");
	free(text);
}

TEST(callback_can_refuse)
{
	static const char text[] = "[vm]\na = 1\nb = 2\nc = 3\n";
	struct log log = { .refuse_key = "b" };
	struct hf_err err = { "" };

	CHECK_EQ(hf_conf_parse("f", text, strlen(text), note, &log, &err), -EPERM);
	CHECK_STR(err.text, "refused at 3");
	CHECK_STR(log.text, "1[vm/] 2:5 vm/.a=<1> ");
}
