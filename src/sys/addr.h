/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host and a port as people write them, and what the kernel wants instead. Layer: sys. Any
 * thread. Only hf_addr_resolve() may block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

/* A host name (RFC 1035 allows 253 characters), an IPv4 or an IPv6 address without its brackets;
 * "" stands for every address of this host and makes sense only for listening. */
struct hf_addr {
	char host[256];
	uint16_t port;
};

struct hf_sockaddr {
	struct sockaddr_storage storage;
	socklen_t len;
};

/**
 * hf_addr_parse() - read "HOST", "HOST:PORT", "[IPV6]", "[IPV6]:PORT" or ":PORT"
 * @default_port: used when the text has none; 0 means that the port must be written
 * A bare IPv6 address is refused, because "::1:7000" could mean two things.
 * Does not block, resolve or allocate. Return: 0, or -EINVAL with @err saying what is wrong.
 */
int hf_addr_parse(const char *text, uint16_t default_port, struct hf_addr *ret,
		  struct hf_err *err) HF_MUST_CHECK;

/* "host:port", or "[host]:port" for an IPv6 address; what hf_addr_parse() reads back. Returns @buf,
 * which should have HF_ADDR_TEXT bytes. */
#define HF_ADDR_TEXT 272
const char *hf_addr_format(const struct hf_addr *addr, char *buf, size_t size);

/**
 * hf_addr_resolve() - the first address that the system's resolver gives
 * @is_listening: accept the empty host, which becomes the IPv6 wildcard (or IPv4's, on a host
 *	without IPv6)
 * BLOCKS for as long as the resolver takes: at start-up only. Allocates and frees.
 * Return: 0; -EINVAL for an empty host to connect to; -EHOSTUNREACH when the name cannot be
 * resolved; -ENOMEM. @err says which name and why.
 */
int hf_addr_resolve(const struct hf_addr *addr, bool is_listening, struct hf_sockaddr *ret,
		    struct hf_err *err) HF_MUST_CHECK;

/* "192.0.2.1:7000", "[2001:db8::1]:7000" or "unix"; for messages. Same size as hf_addr_format(). */
const char *hf_sockaddr_format(const struct hf_sockaddr *sa, char *buf, size_t size);
