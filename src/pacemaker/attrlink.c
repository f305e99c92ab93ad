/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pacemaker/attrlink.h"

#include <crm/common/ipc.h>
#include <crm/common/xml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pacemaker/pcmk.h"

struct hf_attrlink {
	crm_ipc_t *ipc;
};

int hf_attrlink_open(struct hf_attrlink **ret)
{
	struct hf_attrlink *l = calloc(1, sizeof(*l));
	bool is_connected;

	if (!l)
		return -ENOMEM;
	hf_pcmk_begin();
	l->ipc = crm_ipc_new(HF_ATTRLINK_SERVER, 0);
	is_connected = l->ipc && crm_ipc_connect(l->ipc);
	hf_pcmk_end();
	if (!is_connected) {
		hf_attrlink_close(l);
		return -ENOTCONN;
	}
	*ret = l;
	return 0;
}

void hf_attrlink_close(struct hf_attrlink *l)
{
	if (!l)
		return;
	if (l->ipc) {
		crm_ipc_close(l->ipc);
		crm_ipc_destroy(l->ipc);
	}
	free(l);
}

int hf_attrlink_fd(const struct hf_attrlink *l)
{
	return crm_ipc_get_fd(l->ipc);
}

int hf_attrlink_take(struct hf_attrlink *l)
{
	for (unsigned int i = 0; i < 64 && crm_ipc_ready(l->ipc) > 0; i++)
		if (crm_ipc_read(l->ipc) <= 0)
			break;
	return crm_ipc_connected(l->ipc) ? 0 : -ENOTCONN;
}

static xmlNode *new_request(const char *task)
{
	xmlNode *request = create_xml_node(NULL, "holdfast");

	crm_xml_add(request, "t", "attrd");
	crm_xml_add(request, "src", "holdfast-pacemaker");
	crm_xml_add(request, "task", task);
	crm_xml_add(request, "attr_is_remote", "0");
	return request;
}

/* @request is taken over. */
static int call(struct hf_attrlink *l, xmlNode *request, xmlNode **ret)
{
	int r;

	hf_pcmk_begin();
	r = crm_ipc_send(l->ipc, request, crm_ipc_client_response, HF_PCMK_ANSWER_MS, ret);
	hf_pcmk_end();
	free_xml(request);
	if (r == 0)
		return -EIO;
	return r < 0 ? r : 0;
}

int hf_attrlink_write(struct hf_attrlink *l, const char *name, const char *value)
{
	xmlNode *request = new_request("update");

	crm_xml_add(request, "attr_name", name);
	crm_xml_add(request, "attr_value", value);
	crm_xml_add(request, "attr_is_private", "0");
	return call(l, request, NULL);
}

int hf_attrlink_forgive(struct hf_attrlink *l, const char *resource, const char *node)
{
	xmlNode *request = new_request("clear-failure");

	crm_xml_add(request, "attr_host", node);
	crm_xml_add(request, "attr_resource", resource);
	return call(l, request, NULL);
}

static bool is_text(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

static int copy_value(const char *value, char *ret, size_t size)
{
	if (!value || !value[0])
		return -ENOENT;
	if (strlen(value) >= size)
		return -EMSGSIZE;
	(void)snprintf(ret, size, "%s", value);
	return 0;
}

int hf_attrlink_read_answer(xmlNode *answer, const char *name, const char *node, char *ret,
			    size_t size)
{
	if (!answer || !is_text(crm_element_value(answer, "t"), "attrd"))
		return -EBADMSG;
	if (!is_text(crm_element_value(answer, "attr_name"), name))
		return -ENOENT; /* there is no such attribute */
	for (xmlNode *n = answer->children; n; n = n->next)
		if (n->type == XML_ELEMENT_NODE && is_text(crm_element_value(n, "attr_host"), node))
			return copy_value(crm_element_value(n, "attr_value"), ret, size);
	return -ENOENT;
}

int hf_attrlink_ask(struct hf_attrlink *l, const char *name, const char *node, char *ret,
		    size_t size)
{
	xmlNode *request = new_request("query");
	xmlNode *answer = NULL;
	int r;

	crm_xml_add(request, "attr_name", name);
	crm_xml_add(request, "attr_host", node);
	r = call(l, request, &answer);
	if (!r)
		r = hf_attrlink_read_answer(answer, name, node, ret, size);
	free_xml(answer);
	return r;
}
