/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A certificate of anyone's. What is taken makes sense (names fit for paths, parts inside the RAM), and is
 * written again as what reads the same.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "codec/certificate.h"

static void check(const struct hf_certificate *c)
{
	FUZZ_CHECK(hf_is_valid_name(c->vm));
	FUZZ_CHECK(strlen(c->id) == HF_CERTIFICATE_ID);
	FUZZ_CHECK(strspn(c->id, "0123456789abcdef") == HF_CERTIFICATE_ID);
	FUZZ_CHECK(c->n_checks <= HF_CERTIFICATE_CHECKS_MAX);
	FUZZ_CHECK(c->n_nets <= HF_CERTIFICATE_NETS_MAX);
	FUZZ_CHECK(c->n_ram_parts <= HF_CERTIFICATE_RAM_PARTS_MAX);
	FUZZ_CHECK(c->keeper.pid >= 0 && c->qemu.pid >= 0 && c->disks.pid >= 0 && c->ram_fd >= 0);
	FUZZ_CHECK(c->cause < HF_VM_CAUSE_COUNT);
	for (unsigned int i = 0; i < c->n_nets; i++)
		FUZZ_CHECK(c->net[i][0] && !strchr(c->net[i], '/'));
	for (unsigned int i = 0; i < c->n_ram_parts; i++)
		FUZZ_CHECK(c->ram_part[i].offset + c->ram_part[i].bytes <= c->ram_bytes);
}

static struct json_object *encode(const struct hf_certificate *c, const char **ret)
{
	struct json_object *o = hf_certificate_encode(c);

	FUZZ_CHECK(o);
	*ret = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	FUZZ_CHECK(*ret);
	return o;
}

static void check_again(const struct hf_certificate *c)
{
	static struct hf_certificate again;
	struct json_object *first, *second;
	const char *text, *same;
	struct hf_err err = { "" };

	first = encode(c, &text);
	if (strlen(text) <= HF_CERTIFICATE_MAX_BYTES) { /* escapes may make it longer */
		FUZZ_CHECK(hf_certificate_decode("again", text, strlen(text), &again, &err) == 0);
		second = encode(&again, &same);
		FUZZ_CHECK(strcmp(text, same) == 0);
		json_object_put(second);
		hf_certificate_fini(&again);
	}
	json_object_put(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hf_certificate c;
	struct hf_err err = { "" };
	int r = hf_certificate_decode("fuzz", (const char *)data, size, &c, &err);

	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -E2BIG || r == -ENOMEM);
	FUZZ_CHECK(r == 0 || err.text[0]);
	if (r < 0)
		return 0;
	check(&c);
	check_again(&c);
	hf_certificate_fini(&c);
	return 0;
}
