/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clustercheck/rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *hf_clustercheck_vm_name(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	struct hf_cib_value v = hf_cib_rsc_value(c->cib, r, HF_CIB_PARAMS, "vm");

	return v.text ? v.text : "";
}

const struct hf_definition *hf_clustercheck_find_definition(const struct hf_clustercheck *c,
							    const char *vm)
{
	for (size_t i = 0; c->definitions && i < c->n_definitions; i++)
		if (strcmp(c->definitions[i].name, vm) == 0)
			return &c->definitions[i];
	return NULL;
}

struct hf_finding *hf_clustercheck_tell(const struct hf_clustercheck *c, const struct hf_cib_rsc *r,
					enum hf_found severity, const char *code, const char *where,
					const char *format, ...)
{
	struct hf_finding *f = hf_findings_add(c->found, severity, code, where ? where : r->id,
					       " ");
	va_list ap;

	(void)snprintf(f->resource, sizeof(f->resource), "%s", r->id);
	(void)snprintf(f->vm, sizeof(f->vm), "%s", hf_clustercheck_vm_name(c, r));
	va_start(ap, format);
	(void)vsnprintf(f->what, sizeof(f->what), format, ap);
	va_end(ap);
	return f;
}

static void check_vm(const struct hf_clustercheck *c, const struct hf_cib_rsc *r)
{
	hf_clustercheck_params(c, r);
	hf_clustercheck_meta(c, r);
	hf_clustercheck_ops(c, r);
	hf_clustercheck_clone(c, r);
	hf_clustercheck_definition(c, r);
}

int hf_clustercheck_run(struct hf_clustercheck *c)
{
	int r = hf_cib_resources(c->cib, "ocf", "holdfast", "vm", &c->vms, &c->n_vms);

	if (!r)
		r = hf_cib_resources(c->cib, "stonith", NULL, NULL, &c->fences, &c->n_fences);
	if (r < 0)
		return r;
	if (c->n_vms) {
		hf_clustercheck_cluster(c);
		hf_clustercheck_corosync(c);
		hf_clustercheck_daemon(c);
	}
	for (size_t i = 0; i < c->n_vms; i++)
		check_vm(c, &c->vms[i]);
	hf_clustercheck_unused(c);
	hf_findings_sort(c->found);
	return 0;
}

void hf_clustercheck_fini(struct hf_clustercheck *c)
{
	free(c->vms);
	free(c->fences);
	c->vms = c->fences = NULL;
	c->n_vms = c->n_fences = 0;
}
