/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/addr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int parse_port(const char *text, uint16_t *ret, struct hf_err *err)
{
	unsigned int value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && value <= UINT16_MAX; p++)
		value = value * 10 + (unsigned int)(*p - '0');
	if (p == text || *p != '\0' || value == 0 || value > UINT16_MAX) {
		hf_err_set(err, "'%.64s' is not a port: a number from 1 to 65535 is expected",
			   text);
		return -EINVAL;
	}
	*ret = (uint16_t)value;
	return 0;
}

/* "fe80::1%eth0" is an address too; inet_pton() does not know the scope after the '%'. */
static bool is_ipv6(const char *host)
{
	struct in6_addr ignored;
	char bare[INET6_ADDRSTRLEN];
	size_t n = strcspn(host, "%");

	if (n >= sizeof(bare) || (host[n] == '%' && host[n + 1] == '\0'))
		return false;
	memcpy(bare, host, n);
	bare[n] = '\0';
	return inet_pton(AF_INET6, bare, &ignored) == 1;
}

static int check_name(const char *host, struct hf_err *err)
{
	for (const char *p = host; *p; p++) {
		if (isalnum((unsigned char)*p) || *p == '-' || *p == '.' || *p == '_')
			continue;
		hf_err_set(err, "'%.64s' is not a host name: it contains '%c'", host,
			   isprint((unsigned char)*p) ? *p : '?');
		return -EINVAL;
	}
	return 0;
}

/* Sets *ret_rest to what follows the host: "" or ":PORT". */
static int parse_host(const char *text, struct hf_addr *addr, const char **ret_rest,
		      struct hf_err *err)
{
	bool has_brackets = text[0] == '[';
	const char *start = has_brackets ? text + 1 : text;
	size_t n = strcspn(start, has_brackets ? "]" : ":");

	if (has_brackets && start[n] != ']') {
		hf_err_set(err, "'%.64s' lacks the closing bracket: write [IPV6]:PORT", text);
		return -EINVAL;
	}
	if (n >= sizeof(addr->host)) {
		hf_err_set(err, "'%.64s...' is too long for a host name", text);
		return -EINVAL;
	}
	memcpy(addr->host, start, n);
	addr->host[n] = '\0';
	*ret_rest = start + n + (has_brackets ? 1 : 0);
	if (!has_brackets)
		return check_name(addr->host, err);
	if (is_ipv6(addr->host))
		return 0;
	hf_err_set(err, "'%.64s' is not an IPv6 address: only those go in brackets", addr->host);
	return -EINVAL;
}

int hf_addr_parse(const char *text, uint16_t default_port, struct hf_addr *ret, struct hf_err *err)
{
	struct hf_addr addr = { .port = default_port };
	const char *rest;
	int r;

	if (text[0] != '[' && strchr(text, ':') != strrchr(text, ':')) {
		hf_err_set(err, "'%.64s' is ambiguous: write an IPv6 address in brackets, [%.64s]",
			   text, text);
		return -EINVAL;
	}
	r = parse_host(text, &addr, &rest, err);
	if (r < 0)
		return r;
	if (*rest == ':') {
		r = parse_port(rest + 1, &addr.port, err);
		if (r < 0)
			return r;
	} else if (*rest != '\0' || *text == '\0') {
		hf_err_set(err, "'%.64s' is not an address: HOST:PORT or [IPV6]:PORT is expected",
			   text);
		return -EINVAL;
	}
	if (addr.port == 0) {
		hf_err_set(err, "'%.64s' lacks a port: write HOST:PORT", text);
		return -EINVAL;
	}
	*ret = addr;
	return 0;
}

const char *hf_addr_format(const struct hf_addr *addr, char *buf, size_t size)
{
	bool wants_brackets = strchr(addr->host, ':') != NULL;

	(void)snprintf(buf, size, wants_brackets ? "[%s]:%u" : "%s:%u", addr->host,
		       (unsigned int)addr->port);
	return buf;
}

/* A host may run without IPv6 altogether. */
static bool has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	(void)close(fd);
	return true;
}

static void set_wildcard(uint16_t port, struct hf_sockaddr *ret)
{
	*ret = (struct hf_sockaddr){ 0 };
	if (has_ipv6()) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ret->storage;

		in6->sin6_family = AF_INET6;
		in6->sin6_addr = in6addr_any;
		in6->sin6_port = htons(port);
		ret->len = sizeof(*in6);
	} else {
		struct sockaddr_in *in = (struct sockaddr_in *)&ret->storage;

		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_ANY);
		in->sin_port = htons(port);
		ret->len = sizeof(*in);
	}
}

int hf_addr_resolve(const struct hf_addr *addr, bool is_listening, struct hf_sockaddr *ret,
		    struct hf_err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	char port[8];
	int r;

	if (addr->host[0] == '\0') {
		if (is_listening) {
			set_wildcard(addr->port, ret);
			return 0;
		}
		hf_err_set(err, "the address ':%u' to connect to lacks a host",
			   (unsigned int)addr->port);
		return -EINVAL;
	}
	(void)snprintf(port, sizeof(port), "%u", (unsigned int)addr->port);
	r = getaddrinfo(addr->host, port, &hints, &list);
	if (r != 0) {
		hf_err_set(err, "the host '%s' cannot be resolved: %s", addr->host,
			   r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
		return r == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
	}
	*ret = (struct hf_sockaddr){ .len = list->ai_addrlen };
	memcpy(&ret->storage, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	return 0;
}

const char *hf_sockaddr_format(const struct hf_sockaddr *sa, char *buf, size_t size)
{
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE], port[8];

	if (sa->storage.ss_family == AF_UNIX) {
		(void)snprintf(buf, size, "unix");
		return buf;
	}
	if (getnameinfo((const struct sockaddr *)&sa->storage, sa->len, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		(void)snprintf(buf, size, "unknown");
	else
		(void)snprintf(buf, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	return buf;
}
