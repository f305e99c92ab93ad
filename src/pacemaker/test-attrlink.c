/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"
#include <errno.h>
#include <libxml/parser.h>

#include "pacemaker/attrlink.h"

static char value[16];

static int answer(const char *text)
{
	xmlDoc *doc = xmlReadMemory(text, (int)strlen(text), NULL, NULL,
				    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	int r;

	CHECK(doc);
	value[0] = '\0';
	r = hf_attrlink_read_answer(xmlDocGetRootElement(doc), "holdfast-vm1", "node1", value,
				    sizeof(value));
	xmlFreeDoc(doc);
	return r;
}

TEST(a_value)
{
	CHECK_EQ(answer("<r t='attrd' subt='query' attr_name='holdfast-vm1'>"
			"<node attr_host='node2' attr_value='crashed'/>\n"
			"<node attr_host='node1' attr_value='frozen'/></r>"),
		 0);
	CHECK_STR(value, "frozen");
}

TEST(no_value)
{
	CHECK_EQ(answer("<r t='attrd' subt='query'/>"), -ENOENT);
	CHECK_EQ(answer("<r t='attrd' attr_name='other'><node attr_host='node1' "
			"attr_value='frozen'/></r>"),
		 -ENOENT);
	CHECK_EQ(answer("<r t='attrd' attr_name='holdfast-vm1'/>"), -ENOENT);
	CHECK_EQ(answer("<r t='attrd' attr_name='holdfast-vm1'><node attr_host='node1'/></r>"),
		 -ENOENT);
	CHECK_EQ(answer("<r t='attrd' attr_name='holdfast-vm1'><node attr_host='node1' "
			"attr_value=''/></r>"),
		 -ENOENT);
	CHECK_EQ(answer("<r t='attrd' attr_name='holdfast-vm1'>text<!-- and --><node "
			"attr_value='frozen'/></r>"),
		 -ENOENT);
}

TEST(bad_answers)
{
	CHECK_EQ(answer("<ack/>"), -EBADMSG);
	CHECK_EQ(answer("<r t='crmd' attr_name='holdfast-vm1'/>"), -EBADMSG);
	CHECK_EQ(hf_attrlink_read_answer(NULL, "a", "b", value, sizeof(value)), -EBADMSG);
	CHECK_EQ(answer("<r t='attrd' attr_name='holdfast-vm1'><node attr_host='node1' "
			"attr_value='a value that is longer than any of ours'/></r>"),
		 -EMSGSIZE);
	CHECK_STR(value, "");
}
