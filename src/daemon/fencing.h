/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Word that another host was fenced: Host.Fenced. Layer: daemon. Main thread only; nothing waits for anybody.
 *
 * It is passed on to whom it concerns, and each judges for itself whether it is a proof: the keepers of VMs whose other
 * host that is (core/fenced.h), the lease layer (core/lease.h), and what this daemon settles with that of the other host.
 */
#pragma once

#include "daemon/daemon.h"
#include "service/varlink-server.h"

/* (host, time_ns, text) -> (keepers, lease, text). */
void hf_fencing_do(struct hf_daemon *d, struct hf_varlink_request *rq, struct json_object *p);
