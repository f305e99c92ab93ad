/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The events that an earlier daemon has kept. What comes back ascends, and has its number and name. */
#include "fuzz.h"

#include <string.h>

#include "codec/json.h"
#include "daemon/eventstore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + !size);
	struct json_object *event;
	struct hf_journal j;
	const char *name;
	uint64_t seq = 0, own;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	hf_journal_init(&j, "fuzz", "host", "h", HF_LOG_ERROR);
	hf_eventstore_parse(&j, text, size);
	/* From the oldest that can be there: numbers may be far apart. */
	for (unsigned int i = 0; i < 2 * HF_EVENTS_KEPT; i++) {
		event = hf_journal_next(&j, seq, &seq);
		if (!event)
			break;
		FUZZ_CHECK(hf_json_u64(event, "seq", &own, NULL) == 0 && own == seq);
		FUZZ_CHECK(hf_json_str(event, "event", &name, NULL) == 0);
		FUZZ_CHECK(seq <= j.seq);
	}
	hf_journal_fini(&j);
	free(text);
	return 0;
}
