/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A cluster's configuration, with all that is asked of it; and corosync.conf. What is refused is refused with a
 * reason; what is taken can be asked anything, and answers stay within what the header promises.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "clustercheck/cib.h"
#include "clustercheck/corosync.h"

static void count(void *data, struct hf_cib_value v)
{
	FUZZ_CHECK(v.text);
	(*(size_t *)data)++;
}

static void check_ops(const struct hf_cib *c, const struct hf_cib_rsc *r)
{
	static struct hf_cib_op ops[HF_CIB_OPS_MAX];
	size_t n = hf_cib_rsc_ops(c, r, ops);

	FUZZ_CHECK(n <= HF_CIB_OPS_MAX);
	for (size_t i = 0; i < n; i++) {
		FUZZ_CHECK(ops[i].id && ops[i].name);
		FUZZ_CHECK(ops[i].interval_ms <= 366ull * 24 * 3600 * 1000);
		FUZZ_CHECK(!ops[i].role || strlen(ops[i].role) >= strlen("Started"));
	}
	(void)hf_cib_default_timeout_ms(c, r, "stop");
}

static void check_resource(const struct hf_cib *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c, r, HF_CIB_PARAMS, "vm");
	size_t n = 0;

	FUZZ_CHECK(r->id && r->primitive);
	FUZZ_CHECK((r->shape == HF_CIB_PLAIN || r->shape == HF_CIB_BUNDLE) == !r->clone);
	hf_cib_each_param(c, r, count, &n);
	FUZZ_CHECK(!v.id || v.text);
	(void)hf_cib_rsc_value(c, r, HF_CIB_META, "migration-threshold");
	(void)hf_cib_clone_value(c, r, "clone-max");
	(void)hf_cib_rsc_type(r);
	check_ops(c, r);
	for (size_t i = 0; i < 4 && hf_cib_node(c, i); i++)
		(void)hf_cib_may_be_on(c, r, hf_cib_node(c, i));
}

static void check(const struct hf_cib *c)
{
	struct hf_cib_rsc *r = NULL;
	size_t n = 0, nodes = hf_cib_count_nodes(c);
	int result = hf_cib_resources(c, "ocf", "holdfast", "vm", &r, &n);

	FUZZ_CHECK(result == 0 || result == -E2BIG || result == -ENOMEM);
	FUZZ_CHECK(!nodes || hf_cib_has_node(c, hf_cib_node(c, 0)));
	FUZZ_CHECK(!hf_cib_node(c, nodes));
	(void)hf_cib_property(c, "stonith-enabled");
	for (size_t i = 0; result == 0 && i < n && i < 16; i++)
		check_resource(c, &r[i]);
	if (result == 0)
		free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + !size);
	struct hf_err err = { "" };
	struct hf_corosync q;
	struct hf_cib c;
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	hf_corosync_parse(text, size, &q);
	r = hf_cib_parse(text, size, &c, &err);
	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -EFBIG || r == -ENOMEM);
	FUZZ_CHECK(r != -EINVAL || err.text[0]);
	if (r == 0) {
		check(&c);
		hf_cib_fini(&c);
	}
	free(text);
	return 0;
}
