/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How two keepers come together: listening, dialling, greeting. Layer: keeper. Main thread only.
 *
 * A keeper listens on its address from before it takes part in a session until it dies, whatever its
 * role: that its port is closed is what proves to others that it is dead (docs/adr/0002). The primary
 * dials; a standby dials only to inquire. First comes TLS, unless plain connections are wanted by name:
 * both prove to be the host that the other one expects. The dialler speaks first (HELLO), the other
 * answers with its own or with REFUSE. What comes of it is told through the callbacks; a connection that nobody
 * takes over is closed after a while.
 */
#pragma once

#include <json-c/json_object.h>
#include <stdbool.h>

#include "cluster/link.h"
#include "codec/wire-msg.h"
#include "service/journal.h"
#include "service/loop.h"
#include "settings/settings.h"
#include "sys/addr.h"

/* Strangers that may stand in the door at once; each has HF_MEETING_PATIENCE_NS to introduce itself, TLS
 * included. One more, and the oldest goes that has not proven who it is. */
#define HF_MEETING_GUESTS_MAX 8
#define HF_MEETING_PATIENCE_NS HF_STREAM_HANDSHAKE_NS
/* A silent connection is given up after so many times the peer's time-out: by a primary always, by a
 * standby while it holds nothing that could be promoted. */
#define HF_MEETING_SILENCE_MAX 5
/* How long a dial may take before it counts as unanswered. */
#define HF_MEETING_DIAL_NS 2000000000ull

enum hf_meeting_miss {
	HF_MEETING_REFUSED_PORT, /* that host says: nobody listens there. Proof of death. */
	HF_MEETING_NO_ANSWER, /* nothing is known */
	HF_MEETING_TURNED_AWAY, /* somebody answered, and the two do not fit: nothing is known */
};

struct hf_meeting_ops {
	/* Our HELLO as of now. Strings stay valid until the next call. */
	void (*describe)(void *ctx, struct hf_wire_hello *ret);
	/*
	 * Greetings were exchanged and fit. Return true to take @link over: it is out of the loop, and
	 * messages may wait in it, so dispatch it once. @theirs has no strings. Not called for
	 * inquirers.
	 */
	bool (*met)(void *ctx, struct hf_link *link, const struct hf_wire_hello *theirs,
		    bool we_dialled);
	/* A dial came to nothing. */
	void (*missed)(void *ctx, enum hf_meeting_miss why, const char *text);
	/* The answer to hf_meeting_inquire(). */
	void (*learnt)(void *ctx, const struct hf_wire_hello *theirs);
	/* PROMOTED or ABANDON arrived on a connection that nobody took over. */
	void (*told)(void *ctx, enum hf_wire_type what, const struct hf_wire_mark *mark);
};

struct hf_meetings;

/**
 * hf_meetings_new() - listen
 * @set: borrowed for the call: where to listen, where to dial, the certificates and whose name the
 *	other's has to carry
 * Blocks for name resolution and for reading the certificates. Return: 0 or -errno with @err.
 */
int hf_meetings_new(struct hf_loop *loop, struct hf_journal *journal, const struct hf_settings *set,
		    const struct hf_meeting_ops *ops, void *ctx, struct hf_meetings **ret,
		    struct hf_err *err) HF_MUST_CHECK;

void hf_meetings_free(struct hf_meetings *m);

/* Replaces the callbacks' context and table: the role has changed. Meetings under way go on. */
void hf_meetings_set_ops(struct hf_meetings *m, const struct hf_meeting_ops *ops, void *ctx);

/* Dial the peer. One at a time: does nothing while a dial is under way. Ends in met() or missed(). */
void hf_meetings_dial(struct hf_meetings *m);

/* Ask the peer how it stands. As hf_meetings_dial(); ends in learnt() or missed(). */
void hf_meetings_inquire(struct hf_meetings *m);

/* Stays the meetings' own. Whoever else holds it keeps the port open. */
int hf_meetings_listen_fd(const struct hf_meetings *m);

bool hf_meetings_is_dialling(const struct hf_meetings *m);

/* "10.0.0.2:7400" or "-". */
const char *hf_meetings_peer_text(const struct hf_meetings *m);

/* Adds the members peer, encryption and notes: @notes, and what the certificates give cause to say.
 * @m: NULL: there is no other host. */
void hf_meetings_add_status(struct hf_meetings *m, struct json_object *status,
			    struct json_object *notes);
