/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/fencedword.h"

#include "../../tests/test.h"

#include <errno.h>

#include "codec/json.h"

/* What hf_fencedword_read() returns; the error is in @err. The word's texts are gone. */
static int read_it(const char *text, struct hf_fencedword *w, struct hf_err *err)
{
	struct json_object *o = NULL;
	int r;

	CHECK_EQ(hf_json_parse(text, strlen(text), &o, err), 0);
	r = hf_fencedword_read(o, w, err);
	json_object_put(o);
	return r;
}

TEST(a_word_is_read)
{
	struct json_object *o = NULL;
	struct hf_err err = { "" };
	struct hf_fencedword w;
	static const char text[] = "{\"host\":\"hostB\",\"time_ns\":12,\"text\":\"off by hostC\"}";

	CHECK_EQ(hf_json_parse(text, strlen(text), &o, &err), 0);
	CHECK_EQ(hf_fencedword_read(o, &w, &err), 0);
	CHECK_STR(w.host, "hostB");
	CHECK_EQ(w.time_ns, 12);
	CHECK_STR(w.text, "off by hostC");
	CHECK_EQ(w.begun_ns, 12);
	json_object_put(o);
	CHECK_EQ(read_it("{\"host\":\"hostB\",\"time_ns\":12,\"begun_ns\":0}", &w, &err), 0);
	CHECK_EQ(w.time_ns, 12);
	CHECK_EQ(w.begun_ns, 0);
	CHECK_EQ(read_it("{\"host\":\"hostB\",\"time_ns\":12}", &w, &err), 0);
	CHECK_STR(w.text, "");
}

TEST(what_makes_no_word_is_refused_by_name)
{
	static const struct {
		const char *text, *about;
	} bad[] = {
		{ "{\"time_ns\":12}", "host" },
		{ "{\"host\":12,\"time_ns\":12}", "host" },
		{ "{\"host\":\"\",\"time_ns\":12}", "host" },
		{ "{\"host\":\"../x\",\"time_ns\":12}", "host" },
		{ "{\"host\":\"hostB\"}", "time_ns" },
		{ "{\"host\":\"hostB\",\"time_ns\":-1}", "time_ns" },
		{ "{\"host\":\"hostB\",\"time_ns\":1.5}", "time_ns" },
		{ "{\"host\":\"hostB\",\"time_ns\":1,\"begun_ns\":2}", "begun_ns" },
		{ "{\"host\":\"hostB\",\"time_ns\":1,\"begun_ns\":\"0\"}", "begun_ns" },
		{ "{\"host\":\"hostB\",\"time_ns\":1,\"text\":{}}", "text" },
		{ "{\"host\":\"hostB\",\"time_ns\":1,\"text\":\"a\\nb\"}", "text" },
	};
	struct hf_fencedword w;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hf_err err = { "" };

		CHECK_EQ(read_it(bad[i].text, &w, &err), -EINVAL);
		CHECK(strstr(err.text, bad[i].about));
	}
}

TEST(a_text_has_a_limit)
{
	char text[400], words[300];
	struct hf_err err = { "" };
	struct hf_fencedword w;

	memset(words, 'x', sizeof(words));
	for (int over = 0; over < 2; over++) {
		words[HF_FENCEDWORD_TEXT_MAX] = 'x';
		words[HF_FENCEDWORD_TEXT_MAX + over] = '\0';
		(void)snprintf(text, sizeof(text), "{\"host\":\"b\",\"time_ns\":1,\"text\":\"%s\"}",
			       words);
		CHECK_EQ(read_it(text, &w, &err), over ? -EINVAL : 0);
	}
}
