/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include <errno.h>

#include "codec/json.h"
#include "core/ocf.h"
#include "pacemaker/vmfacts.h"

static struct hf_vmfacts read_text(const char *text)
{
	struct hf_vmfacts v;
	struct json_object *o;
	struct hf_err err = { "" };

	CHECK_EQ(hf_json_parse(text, strlen(text), &o, &err), 0);
	CHECK_EQ(hf_vmfacts_read(o, &v, &err), 0);
	json_object_put(o);
	return v;
}

static void check_refused(const char *text, const char *part)
{
	struct hf_vmfacts v;
	struct json_object *o;
	struct hf_err err = { "" };

	CHECK_EQ(hf_json_parse(text, strlen(text), &o, &err), 0);
	CHECK_EQ(hf_vmfacts_read(o, &v, &err), -EINVAL);
	CHECK_CONTAINS(err.text, part);
	json_object_put(o);
}

static const char *reason_of(const struct hf_vmfacts *v)
{
	static char buf[HF_VMFACTS_REASON_MAX + 1];

	return hf_vmfacts_reason(v, buf, sizeof(buf));
}

#define PANIC                                                                                      \
	"{\"vm\":\"web\",\"life\":\"frozen\",\"cause\":\"guest-panic\",\"severity\":\"fatal\","    \
	"\"frozen\":[\"00000001\",\"ab12cd34\"]"

TEST(a_frozen_vm)
{
	struct hf_vmfacts v = read_text(PANIC ",\"topology\":\"DIMM_A1\",\"cause_text\":\"bad\"}");

	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_FROZEN);
	CHECK_STR(reason_of(&v), "guest-panic severity=fatal topology=DIMM_A1 id=ab12cd34: bad");
	v.since_ns = 1769860800123000000;
	CHECK_STR(reason_of(&v), "guest-panic severity=fatal topology=DIMM_A1 id=ab12cd34 "
				 "at 2026-01-31T12:00:00Z: bad");
}

TEST(a_frozen_instance_that_is_kept)
{
	struct hf_vmfacts v = read_text("{\"vm\":\"web\",\"life\":\"standby\",\"role\":\"standby\","
					"\"frozen\":[\"ab12cd34\"]}");
	struct hf_assignment a = { .place = HF_ASSIGNED_STANDBY };
	struct hf_announce_facts f;

	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_NONE);
	CHECK_STR(reason_of(&v), "frozen id=ab12cd34"); /* it was frozen before anybody looked */
	(void)snprintf(v.kept, sizeof(v.kept), "guest-panic id=ab12cd34");
	CHECK_STR(reason_of(&v), "guest-panic id=ab12cd34");
	hf_vmfacts_announce(&v, &a, 0, &f);
	CHECK(f.trouble == HF_TROUBLE_NONE && f.reason);
	v.state = HF_VM_FROZEN; /* the standby has ended, and took what was said with it */
	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_FROZEN);
	CHECK_STR(reason_of(&v), "guest-panic id=ab12cd34");
	v.state = HF_VM_STANDBY;
	v.id[0] = v.kept[0] = '\0';
	CHECK_STR(reason_of(&v), "");
	hf_vmfacts_announce(&v, &a, 0, &f);
	CHECK_EQ(f.reason, 0);
}

TEST(texts_are_printable_and_short)
{
	struct hf_vmfacts v = read_text(
		PANIC ",\"cause_text\":\"a \\\"quoted\\\" 'one'\\nl\\u00e9 \\u4e16\\u0007 <&>\"}");
	char longest[600];

	CHECK_CONTAINS(reason_of(&v), ": a \"quoted\" 'one' l? ?  <&>");
	(void)snprintf(longest, sizeof(longest), PANIC ",\"cause_text\":\"%0400d\"}", 1);
	v = read_text(longest);
	CHECK_EQ(strlen(reason_of(&v)), HF_VMFACTS_REASON_MAX);
	for (const char *c = reason_of(&v); *c; c++)
		CHECK(*c >= ' ' && *c <= '~');
}

TEST(a_text_that_is_cut_within_a_letter)
{
	char text[600], letters[199];
	struct hf_vmfacts v;

	for (unsigned int i = 0; i < 198; i++)
		letters[i] = i % 2 ? '\xa9' : '\xc3';
	letters[198] = '\0';
	(void)snprintf(text, sizeof(text), PANIC ",\"cause_text\":\"%s\"}", letters);
	v = read_text(text);
	CHECK_CONTAINS(reason_of(&v), ": ???");
	CHECK(strlen(reason_of(&v)) <= HF_VMFACTS_REASON_MAX);
}

TEST(members_that_are_missing_or_foreign)
{
	struct hf_vmfacts v = read_text("{\"vm\":\"a\",\"life\":\"running\"}");

	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_NONE);
	CHECK_STR(reason_of(&v), "");
	v = read_text("{\"vm\":\"a\",\"life\":\"crashed\",\"cause\":17,\"severity\":null,"
		      "\"frozen\":[null,[]],\"pause\":{},\"silent_ms\":\"x\"}");
	CHECK_STR(reason_of(&v), "unknown");
	v = read_text("{\"vm\":\"a\",\"life\":\"frozen\",\"frozen\":[3]}");
	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_FROZEN);
}

TEST(a_vm_that_could_not_be_started)
{
	struct hf_vmfacts v = read_text("{\"vm\":\"a\",\"life\":\"failed\",\"cause\":\"none\","
					"\"cause_text\":\"\",\"reason\":\"no image\"}");

	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_FAILED);
	CHECK_STR(reason_of(&v), "start-failed: no image");
}

TEST(what_is_no_vm)
{
	check_refused("{}", "vm");
	check_refused("[]", "vm");
	check_refused("{\"vm\":\"a\"}", "life");
	check_refused("{\"vm\":\"a\",\"life\":\"dozing\"}", "'dozing' is no state of a VM");
	check_refused("{\"vm\":\"../a\",\"life\":\"running\"}", "name");
	check_refused("{\"vm\":\".assigned\",\"life\":\"running\"}", "name");
}

TEST(silence_is_told_but_is_no_failure_and_costs_no_score)
{
	struct hf_vmfacts v = read_text("{\"vm\":\"a\",\"life\":\"running\",\"role\":\"primary\","
					"\"silent_ms\":1500}");
	struct hf_assignment a = { .place = HF_ASSIGNED_RUN, .is_promotable = true };

	CHECK_EQ(hf_vmfacts_trouble(&v), HF_TROUBLE_SILENT);
	CHECK(!hf_trouble_is_failure(hf_vmfacts_trouble(&v)));
	CHECK_STR(reason_of(&v), "keeper-silent");
	CHECK_EQ(hf_vmfacts_score(&v, &a), HF_OCF_SCORE_LIVE);
}

TEST(scores)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_STANDBY, .is_promotable = true };
	struct hf_vmfacts v = read_text("{\"vm\":\"a\",\"life\":\"standby\",\"role\":\"standby\","
					"\"has_epoch\":true,\"connected\":true}");

	CHECK_EQ(hf_vmfacts_score(&v, &a), HF_OCF_SCORE_SYNCHRONISED);
	v.is_in_touch = false;
	CHECK_EQ(hf_vmfacts_score(&v, &a), HF_OCF_SCORE_OUT_OF_TOUCH);
	v = read_text("{\"vm\":\"a\",\"life\":\"standby\",\"role\":\"standby\",\"peer_up\":true,"
		      "\"peer_life\":\"running\"}");
	CHECK(v.is_peer_running);
	CHECK_EQ(hf_vmfacts_score(&v, &a), 0);
	v = read_text("{\"vm\":\"a\",\"life\":\"running\",\"role\":\"primary\"}");
	CHECK_EQ(hf_vmfacts_score(&v, &a), HF_OCF_SCORE_LIVE);
	v.state = HF_VM_FROZEN;
	CHECK_EQ(hf_vmfacts_score(&v, &a), 0);
}

TEST(who_is_being_started_as_a_standby_has_no_score)
{
	struct hf_assignment a = { .place = HF_ASSIGNED_STANDBY, .is_promotable = true };
	struct hf_vmfacts v = read_text("{\"vm\":\"a\",\"life\":\"starting\",\"role\":\"\"}");

	CHECK_EQ(hf_vmfacts_score(&v, &a), 0);
	a.place = HF_ASSIGNED_RUN;
	CHECK_EQ(hf_vmfacts_score(&v, &a), HF_OCF_SCORE_LIVE);
	v = read_text("{\"vm\":\"a\",\"life\":\"running\",\"role\":\"primary\"}");
	a.place = HF_ASSIGNED_STANDBY; /* it went live by the vote */
	CHECK_EQ(hf_vmfacts_score(&v, &a), HF_OCF_SCORE_LIVE);
}

TEST(facts_for_the_machine)
{
	struct hf_vmfacts v = read_text(PANIC "}");
	struct hf_assignment a = { .place = HF_ASSIGNED_RUN, .time_ns = 5 };
	struct hf_announce_facts f;
	uint32_t reason;

	hf_vmfacts_announce(&v, &a, 0, &f);
	CHECK_EQ(f.place, HF_ANNOUNCE_HERE);
	CHECK_EQ(f.placed_ns, 5);
	CHECK_EQ(f.trouble, HF_TROUBLE_FROZEN);
	CHECK(f.reason);
	reason = f.reason;
	(void)snprintf(v.id, sizeof(v.id), "ffffffff");
	hf_vmfacts_announce(&v, &a, 0, &f);
	CHECK(f.reason != reason);
	hf_vmfacts_announce(&v, &a, -ENOENT, &f);
	CHECK_EQ(f.place, HF_ANNOUNCE_AWAY);
	hf_vmfacts_announce(&v, &a, -EBADMSG, &f);
	CHECK_EQ(f.place, HF_ANNOUNCE_UNKNOWN);
	a.place = HF_ASSIGNED_NONE;
	hf_vmfacts_announce(&v, &a, 0, &f);
	CHECK_EQ(f.place, HF_ANNOUNCE_AWAY);
	hf_vmfacts_announce(NULL, &a, 0, &f);
	CHECK_EQ(f.trouble, HF_TROUBLE_NONE);
	CHECK_EQ(f.score, 0);
}
