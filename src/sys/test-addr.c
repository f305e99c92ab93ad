/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>
#include <netinet/in.h>

#include "sys/addr.h"

TEST(good_addresses)
{
	static const struct {
		const char *text, *host, *formatted;
		uint16_t default_port, port;
	} table[] = {
		{ "alpha:7000", "alpha", "alpha:7000", 0, 7000 },
		{ "alpha", "alpha", "alpha:7001", 7001, 7001 },
		{ "192.0.2.7:65535", "192.0.2.7", "192.0.2.7:65535", 0, 65535 },
		{ "[2001:db8::1]:9", "2001:db8::1", "[2001:db8::1]:9", 1, 9 },
		{ "[::1]", "::1", "[::1]:22", 22, 22 },
		{ "[fe80::1%eth0]:5", "fe80::1%eth0", "[fe80::1%eth0]:5", 0, 5 },
		{ ":7000", "", ":7000", 0, 7000 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct hf_err err = { "" };
		struct hf_addr addr;
		char buf[HF_ADDR_TEXT];

		if (hf_addr_parse(table[i].text, table[i].default_port, &addr, &err) != 0)
			hf_test_fail(__FILE__, __LINE__, "%s: %s", table[i].text, err.text);
		CHECK_STR(addr.host, table[i].host);
		CHECK_EQ(addr.port, table[i].port);
		CHECK_STR(hf_addr_format(&addr, buf, sizeof(buf)), table[i].formatted);
	}
}

TEST(bad_addresses)
{
	static const struct {
		const char *text, *part;
	} table[] = {
		{ "", "not an address" },          { "alpha", "lacks a port" },
		{ "alpha:", "not a port" },        { "alpha:0", "not a port" },
		{ "alpha:65536", "not a port" },   { "alpha:99999999999999999999", "not a port" },
		{ "alpha:7x", "not a port" },      { "::1", "in brackets" },
		{ "[::1", "closing bracket" },     { "[alpha]:7", "not an IPv6 address" },
		{ "[::1]7", "not an address" },    { "[::1%]:7", "not an IPv6 address" },
		{ "al pha:7", "not a host name" }, { "tcp/alpha:7", "not a host name" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct hf_addr addr = { .host = "untouched", .port = 1 };
		struct hf_err err = { "" };

		CHECK_EQ(hf_addr_parse(table[i].text, 0, &addr, &err), -EINVAL);
		CHECK_CONTAINS(err.text, table[i].part);
		CHECK_STR(addr.host, "untouched");
	}
}

TEST(a_host_name_that_is_too_long)
{
	char text[400];
	struct hf_addr addr;
	struct hf_err err;

	memset(text, 'a', sizeof(text));
	memcpy(text + 300, ":7", 3);
	CHECK_EQ(hf_addr_parse(text, 0, &addr, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "too long");
}

TEST(resolving)
{
	struct hf_addr addr = { .host = "127.0.0.1", .port = 7000 };
	struct hf_sockaddr sa;
	struct hf_err err;
	char buf[HF_ADDR_TEXT];

	CHECK_EQ(hf_addr_resolve(&addr, false, &sa, &err), 0);
	CHECK_STR(hf_sockaddr_format(&sa, buf, sizeof(buf)), "127.0.0.1:7000");
	CHECK_EQ(sa.storage.ss_family, AF_INET);
	CHECK_EQ(sa.len, sizeof(struct sockaddr_in));

	addr.host[0] = '\0';
	CHECK_EQ(hf_addr_resolve(&addr, false, &sa, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "lacks a host");
	CHECK_EQ(hf_addr_resolve(&addr, true, &sa, &err), 0);
	CHECK(sa.storage.ss_family == AF_INET6 || sa.storage.ss_family == AF_INET);

	(void)snprintf(addr.host, sizeof(addr.host), "no-such-host.invalid");
	CHECK_EQ(hf_addr_resolve(&addr, false, &sa, &err), -EHOSTUNREACH);
	CHECK_CONTAINS(err.text, "no-such-host.invalid");
}
