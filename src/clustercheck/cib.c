/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clustercheck/cib.h"

#include <errno.h>
#include <libxml/hash.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <stdlib.h>
#include <string.h>

#include "clustercheck/cib-internal.h"

#define TEXT(s) ((const xmlChar *)(s))
#define NODES_MAX 1024 /* of a cluster; further ones are not looked at */
#define REFS_MAX 2 /* an id-ref points to the thing itself */

/* ---- elements ---- */

const char *hf_cib_attr(const xmlNode *n, const char *name)
{
	for (const xmlAttr *a = n->properties; a; a = a->next)
		if (strcmp((const char *)a->name, name) == 0)
			return a->children && a->children->content
				       ? (const char *)a->children->content
				       : "";
	return NULL;
}

bool hf_cib_is_called(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0;
}

static xmlNode *element_from(xmlNode *n, const char *name)
{
	for (; n; n = n->next)
		if (n->type == XML_ELEMENT_NODE && (!name || hf_cib_is_called(n, name)))
			return n;
	return NULL;
}

xmlNode *hf_cib_child(const xmlNode *n, const char *name)
{
	return n ? element_from(n->children, name) : NULL;
}

xmlNode *hf_cib_next(const xmlNode *after, const char *name)
{
	return element_from(after->next, name);
}

const xmlNode *hf_cib_by_id(const struct hf_cib *c, const char *id)
{
	return xmlHashLookup(c->ids, TEXT(id));
}

const xmlNode *hf_cib_deref(const struct hf_cib *c, const xmlNode *n)
{
	const xmlNode *found = n;
	const char *ref;

	for (int i = 0; i < REFS_MAX && found; i++) {
		ref = hf_cib_attr(found, "id-ref");
		if (!ref)
			return found;
		found = hf_cib_by_id(c, ref);
		if (found && !hf_cib_is_called(found, (const char *)n->name))
			return NULL;
	}
	return NULL;
}

/* ---- the document ---- */

/* In the order of the document, without recursion: how deep it is was not ours to say. */
static xmlNode *next_in_document(xmlNode *n)
{
	if (n->children)
		return n->children;
	while (n && !n->next)
		n = n->parent;
	return n ? n->next : NULL;
}

static int index_ids(struct hf_cib *c)
{
	const char *id;

	c->ids = xmlHashCreate(256);
	if (!c->ids)
		return -ENOMEM;
	for (xmlNode *n = xmlDocGetRootElement(c->doc); n; n = next_in_document(n)) {
		id = n->type == XML_ELEMENT_NODE ? hf_cib_attr(n, "id") : NULL;
		if (id) /* of two the first counts: that is refused by Pacemaker itself */
			(void)xmlHashAddEntry(c->ids, TEXT(id), n);
	}
	return 0;
}

static int take_parts(struct hf_cib *c, struct hf_err *err)
{
	const xmlNode *root = xmlDocGetRootElement(c->doc);
	const xmlNode *conf;

	if (!root || !hf_cib_is_called(root, "cib")) {
		hf_err_set(err, "this is no CIB: its first element is <%.40s>, not <cib>",
			   root ? (const char *)root->name : "");
		return -EINVAL;
	}
	conf = hf_cib_child(root, "configuration");
	if (!conf) {
		hf_err_set(err, "this CIB has no <configuration>");
		return -EINVAL;
	}
	c->has_watchdog = hf_cib_is_true(hf_cib_attr(root, "have-watchdog"));
	c->crm_config = hf_cib_child(conf, "crm_config");
	c->nodes = hf_cib_child(conf, "nodes");
	c->resources = hf_cib_child(conf, "resources");
	c->constraints = hf_cib_child(conf, "constraints");
	c->rsc_defaults = hf_cib_child(conf, "rsc_defaults");
	c->op_defaults = hf_cib_child(conf, "op_defaults");
	return 0;
}

static int complain_xml(struct hf_err *err)
{
	const xmlError *e = xmlGetLastError();

	if (e && e->code == XML_ERR_NO_MEMORY)
		return -ENOMEM;
	hf_err_set(err, "line %d is no XML: %.*s", e ? e->line : 1,
		   e && e->message ? (int)strcspn(e->message, "\n") : 0,
		   e && e->message ? e->message : "");
	return -EINVAL;
}

static int parse(const char *text, size_t len, struct hf_cib *c, struct hf_err *err)
{
	int r;

	/* Nothing of it may fetch or expand anything. */
	if (memmem(text, len, "<!DOCTYPE", 9)) {
		hf_err_set(err, "a CIB has no <!DOCTYPE>");
		return -EINVAL;
	}
	xmlResetLastError();
	c->doc = xmlReadMemory(text, (int)len, "cib.xml", NULL,
			       XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
				       XML_PARSE_NOCDATA);
	if (!c->doc)
		return complain_xml(err);
	r = take_parts(c, err);
	return r < 0 ? r : index_ids(c);
}

int hf_cib_parse(const char *text, size_t len, struct hf_cib *ret, struct hf_err *err)
{
	struct hf_cib c = { 0 };
	int r;

	if (len > HF_CIB_BYTES_MAX) {
		hf_err_set(err, "a CIB of more than %u MiB", HF_CIB_BYTES_MAX >> 20);
		return -EFBIG;
	}
	r = parse(text, len, &c, err);
	if (r < 0)
		hf_cib_fini(&c);
	else
		*ret = c;
	return r;
}

void hf_cib_fini(struct hf_cib *c)
{
	if (c->ids)
		xmlHashFree(c->ids, NULL);
	if (c->doc)
		xmlFreeDoc(c->doc);
	*c = (struct hf_cib){ 0 };
}

/* ---- nodes and properties ---- */

struct hf_cib_value hf_cib_property(const struct hf_cib *c, const char *name)
{
	return hf_cib_find(c, c->crm_config, "cluster_property_set", name,
			   &(struct hf_cib_ctx){ 0 });
}

const char *hf_cib_node(const struct hf_cib *c, size_t i)
{
	const xmlNode *n = hf_cib_child(c->nodes, "node");

	if (i >= NODES_MAX)
		return NULL;
	for (; n; n = hf_cib_next(n, "node"))
		if (hf_cib_attr(n, "uname") && i-- == 0)
			return hf_cib_attr(n, "uname");
	return NULL;
}

size_t hf_cib_count_nodes(const struct hf_cib *c)
{
	size_t n = 0;

	while (hf_cib_node(c, n))
		n++;
	return n;
}

bool hf_cib_has_node(const struct hf_cib *c, const char *name)
{
	const char *node;

	for (size_t i = 0; (node = hf_cib_node(c, i)); i++)
		if (strcmp(node, name) == 0)
			return true;
	return false;
}
