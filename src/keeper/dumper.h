/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory and registers of a VM that runs, into a file: QEMU's dump-guest-memory. Layer: keeper. Main thread; what
 * blocks on storage is done by QEMU and by a worker.
 *
 * The guest stands still for as long as QEMU writes. No epoch is begun meanwhile, so what a protected guest sends is
 * held for that long, too: that is refused unless it is forced.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>

struct hf_keeper;
struct hf_dumper; /* hf_keeper.dumper; NULL: none is under way */
struct hf_varlink_request;

/*
 * The method Dump(): {"file": absolute path, "format": "elf" | "kdump-zlib" | "kdump-lzo" | "kdump-snappy", "force":
 * ?bool (also: overwrite the file)}. With "more": {"done_bytes", "total_bytes"} now and then; at the end {}.
 * Errors: NotPossible(reason), InvalidParameter. The client's end calls it off as far as QEMU can: the guest goes on
 * when QEMU is through.
 */
void hf_dumper_order(struct hf_keeper *k, struct hf_varlink_request *rq,
		     struct json_object *parameters);

/* To be given each of QEMU's events, and its end. Take a k->dumper of NULL. */
void hf_dumper_qmp_event(struct hf_keeper *k, const char *name, struct json_object *data);
void hf_dumper_guest_gone(struct hf_keeper *k);

/* The VM is not to go on. A dump that QEMU has written already is kept. */
void hf_dumper_call_off(struct hf_keeper *k, const char *why);

/* Is the guest's standstill this dump's? Then STOP is nobody's pause. */
bool hf_dumper_is_at_work(const struct hf_keeper *k);

void hf_dumper_free(struct hf_keeper *k);
