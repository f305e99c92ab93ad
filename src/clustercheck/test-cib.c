/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CIB's reader by itself: what is refused, and how texts are read. */
#include <errno.h>

#include "clustercheck/test-clustercheck.h"

static void refused(const char *text, const char *why)
{
	struct hf_cib c = { 0 };
	struct hf_err err = { "" };

	CHECK_EQ(hf_cib_parse(text, strlen(text), &c, &err), -EINVAL);
	CHECK_CONTAINS(err.text, why);
	CHECK(!c.doc);
}

TEST(what_is_no_cib_is_refused)
{
	refused("", "line 1");
	refused("<cib>", "line 1");
	refused("<cib>\n<configuration>\n</cib>", "line 3");
	refused("<nonsense/>", "<nonsense>");
	refused("<cib/>", "no <configuration>");
	refused("<!DOCTYPE cib [<!ENTITY a 'b'>]><cib><configuration/></cib>", "DOCTYPE");
}

TEST(what_is_too_large_is_refused)
{
	struct hf_cib c;
	struct hf_err err;

	CHECK_EQ(hf_cib_parse("<cib/>", (size_t)HF_CIB_BYTES_MAX + 1, &c, &err), -EFBIG);
}

TEST(an_empty_configuration_has_nothing)
{
	static const char text[] = "<cib><configuration/></cib>";
	struct hf_cib_rsc *r = NULL;
	struct hf_cib c;
	size_t n = 7;

	CHECK_EQ(hf_cib_parse(text, strlen(text), &c, NULL), 0);
	CHECK_EQ(hf_cib_count_nodes(&c), 0);
	CHECK(!hf_cib_property(&c, "stonith-enabled").text);
	CHECK_EQ(hf_cib_resources(&c, "ocf", "holdfast", "vm", &r, &n), 0);
	CHECK_EQ(n, 0);
	free(r);
	hf_cib_fini(&c);
	hf_cib_fini(&c);
}

TEST(references_that_go_round_end)
{
	static const char text[] = CIB(
		"<primitive id='a' class='ocf' provider='holdfast' type='vm'>"
		"<meta_attributes id='x' id-ref='y'/><meta_attributes id='y' "
		"id-ref='x'/><instance_attributes id-ref='x'/>"
		"<operations id-ref='nowhere'/></primitive>");
	struct hf_cib_rsc *r = NULL;
	struct hf_cib_op ops[HF_CIB_OPS_MAX];
	struct hf_cib c;
	size_t n;

	CHECK_EQ(hf_cib_parse(text, strlen(text), &c, NULL), 0);
	CHECK_EQ(hf_cib_resources(&c, "ocf", "holdfast", "vm", &r, &n), 0);
	CHECK_EQ(n, 1);
	CHECK(!hf_cib_rsc_value(&c, &r[0], HF_CIB_META, "is-managed").text);
	CHECK(!hf_cib_rsc_value(&c, &r[0], HF_CIB_PARAMS, "vm").text);
	CHECK_EQ(hf_cib_rsc_ops(&c, &r[0], ops), 0);
	free(r);
	hf_cib_fini(&c);
}

TEST(there_are_limits)
{
	size_t size = 256 + 80 * (size_t)(HF_CIB_VMS_MAX + 1);
	char *text = malloc(size), *at = text;
	struct hf_cib_rsc *r = NULL;
	struct hf_cib c;
	size_t n;

	CHECK(text);
	at += sprintf(at, "<cib><configuration><resources>");
	for (int i = 0; i <= HF_CIB_VMS_MAX; i++)
		at += sprintf(at, "<primitive id='%d' class='ocf' provider='holdfast' type='vm'/>",
			      i);
	at += sprintf(at, "</resources></configuration></cib>");
	CHECK((size_t)(at - text) < size);
	CHECK_EQ(hf_cib_parse(text, (size_t)(at - text), &c, NULL), 0);
	CHECK_EQ(hf_cib_resources(&c, "ocf", "holdfast", "vm", &r, &n), -E2BIG);
	hf_cib_fini(&c);
	free(text);
}

static uint64_t ms(const char *text)
{
	uint64_t v = 0;

	CHECK_EQ(hf_cib_time_ms(text, &v), 0);
	return v;
}

TEST(times_are_read_as_pacemaker_does)
{
	uint64_t v = 5;

	CHECK_EQ(ms("10"), 10000);
	CHECK_EQ(ms("10s"), 10000);
	CHECK_EQ(ms(" 10 Sec "), 10000);
	CHECK_EQ(ms("1500ms"), 1500);
	CHECK_EQ(ms("1500us"), 1);
	CHECK_EQ(ms("2min"), 120000);
	CHECK_EQ(ms("1h"), 3600000);
	CHECK_EQ(ms("PT1M30S"), 90000);
	CHECK_EQ(ms("P1DT1H"), 25 * 3600000);
	CHECK(ms("99999999999999999999999h") > 300ull * 24 * 3600 * 1000);
	CHECK_EQ(hf_cib_time_ms("", &v), -EINVAL);
	CHECK_EQ(hf_cib_time_ms("ten", &v), -EINVAL);
	CHECK_EQ(hf_cib_time_ms("-1s", &v), -EINVAL);
	CHECK_EQ(hf_cib_time_ms("10 apples", &v), -EINVAL);
	CHECK_EQ(hf_cib_time_ms("PT1X", &v), -EINVAL);
	CHECK_EQ(hf_cib_time_ms("P1S", &v), -EINVAL);
	CHECK_EQ(v, 5);
}

TEST(scores_and_words_are_read_as_pacemaker_does)
{
	CHECK_EQ(hf_cib_score(NULL), 0);
	CHECK_EQ(hf_cib_score("INFINITY"), HF_CIB_INFINITY);
	CHECK_EQ(hf_cib_score("+infinity"), HF_CIB_INFINITY);
	CHECK_EQ(hf_cib_score("-INFINITY"), -HF_CIB_INFINITY);
	CHECK_EQ(hf_cib_score("99999999999"), HF_CIB_INFINITY);
	CHECK_EQ(hf_cib_score("-17"), -17);
	CHECK(hf_cib_is_true("YES") && hf_cib_is_true("1") && hf_cib_is_true("on"));
	CHECK(!hf_cib_is_true("false") && !hf_cib_is_true("") && !hf_cib_is_true(NULL));
}

TEST(corosyncs_file_is_read_whatever_it_is)
{
	static const char odd[] =
		"}\n}\nquorum {\n two_node: 1\n a {\n b {\n c {\n d {\n e {\n f {\n g "
		"{\n h {\n i {\n}\n";
	struct hf_corosync q;
	char *longer = malloc(100000);

	hf_corosync_parse(odd, strlen(odd), &q);
	CHECK(q.is_two_node);
	hf_corosync_parse("", 0, &q);
	CHECK(!q.is_two_node && !q.n_nodes);
	CHECK(longer);
	memset(longer, '{', 100000);
	hf_corosync_parse(longer, 100000, &q);
	CHECK(!q.n_nodes);
	free(longer);
}
