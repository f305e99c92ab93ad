/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an earlier daemon wrote down. Whatever is taken over is whole and has a name of its own; of
 * what is damaged nothing is.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "daemon/heldfile.h"

/* No process is watched here: whose it would be is not the file's matter. */
int hf_watch_add(struct hf_watch *w, struct hf_loop *loop, int fd, enum hf_priority priority,
		 uint32_t (*wanted)(void *ctx), void (*ready)(void *ctx, uint32_t revents),
		 void *ctx)
{
	(void)w;
	(void)loop;
	(void)fd;
	(void)priority;
	(void)wanted;
	(void)ready;
	(void)ctx;
	return -ENOTSUP;
}

void hf_watch_remove(struct hf_watch *w)
{
	(void)w;
}

static void check(const struct hf_held_table *t)
{
	unsigned int n = 0;

	for (const struct hf_held *h = t->first; h; h = h->next) {
		FUZZ_CHECK(hf_is_valid_name(h->vm));
		FUZZ_CHECK(hf_held_find(t, h->vm) == h);
		FUZZ_CHECK(h->is_unverified);
		FUZZ_CHECK(!h->conn);
		FUZZ_CHECK(h->n_pids <= HF_HELD_PIDS_MAX);
		n++;
	}
	FUZZ_CHECK(n == t->count && n <= HF_HELD_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct hf_held_table t;
	struct hf_err err = { "" };
	int r;

	FUZZ_CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	hf_held_table_init(&t, NULL, NULL, NULL);
	r = hf_heldfile_parse(&t, text, &err);
	FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -ENOMEM);
	FUZZ_CHECK(r == 0 || err.text[0]);
	if (r == 0)
		check(&t);
	else
		FUZZ_CHECK(!t.first);
	hf_held_table_fini(&t);
	free(text);
	return 0;
}
