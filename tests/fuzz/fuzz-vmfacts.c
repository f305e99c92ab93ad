/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a daemon says of a VM, as the bridge to a cluster takes it: whatever it is, what is told is short and printable. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "codec/json.h"
#include "pacemaker/vmfacts.h"

static void check_reason(const struct hf_vmfacts *v)
{
	char reason[HF_VMFACTS_REASON_MAX + 1];
	const char *c;

	(void)hf_vmfacts_reason(v, reason, sizeof(reason));
	FUZZ_CHECK(memchr(reason, 0, sizeof(reason)));
	FUZZ_CHECK(!reason[0] == (!hf_vmfacts_trouble(v) && !v->id[0]));
	for (c = reason; *c; c++)
		FUZZ_CHECK(*c >= 0x20 && *c < 0x7f);
}

static void check_facts(const struct hf_vmfacts *v, enum hf_place_assigned place)
{
	struct hf_assignment a = { .place = place, .is_promotable = true, .time_ns = 1 };
	struct hf_announce_links links = { true, true };
	struct hf_announce machine = { 0 };
	struct hf_announce_facts f;

	hf_vmfacts_announce(v, &a, 0, &f);
	FUZZ_CHECK(f.trouble < HF_TROUBLE_COUNT && !f.reason == (!f.trouble && !v->id[0]));
	FUZZ_CHECK(hf_announce_next(&machine, &f, &links) < HF_ANNOUNCE_ACTION_COUNT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_vmfacts v = { .state = HF_VM_STATE_COUNT };
	struct json_object *o = NULL;
	struct hf_err err = { "" };
	int r;

	if (hf_json_parse((const char *)data, size, &o, &err) < 0)
		return 0;
	err.text[0] = '\0';
	r = hf_vmfacts_read(o, &v, &err);
	json_object_put(o);
	FUZZ_CHECK(r == 0 || r == -EINVAL);
	FUZZ_CHECK((r == 0) == (v.state < HF_VM_STATE_COUNT));
	FUZZ_CHECK((r == 0) == !err.text[0]);
	if (r < 0)
		return 0;
	FUZZ_CHECK(hf_is_valid_name(v.vm));
	check_reason(&v);
	for (int i = 0; i < HF_ASSIGNED_COUNT; i++)
		check_facts(&v, (enum hf_place_assigned)i);
	return 0;
}
