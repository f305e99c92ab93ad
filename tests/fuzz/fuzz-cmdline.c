/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole command line, a word a line; words "hold:ID" and "pass:ID" are the user's wishes. A line
 * without refused problems renders, with memory shared, QMP and the disks in it, and no refused one
 * does.
 */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "codec/words.h"
#include "vm/cmdline.h"

static int probe(const char *path, uint64_t *ret_page_bytes)
{
	*ret_page_bytes = path[0] == 'h' ? 2 << 20 : 0;
	return path[0] == 'd' ? HF_CMDLINE_E_ON_DISK : 0;
}

struct input {
	char **argv;
	char **hold;
	char **pass;
};

static void take_word(struct input *in, const char *word)
{
	char ***list = strncmp(word, "hold:", 5) == 0   ? &in->hold
		       : strncmp(word, "pass:", 5) == 0 ? &in->pass
							: &in->argv;

	FUZZ_CHECK(hf_words_append(list, list == &in->argv ? word : word + 5) == 0);
}

/* At most 200 words: longer lines find nothing new and take long. */
static void read_input(struct input *in, char *text)
{
	char *end;

	take_word(in, "qemu");
	for (int i = 0; text && i < 200; i++) {
		end = strchr(text, '\n');
		if (end)
			*end++ = '\0';
		take_word(in, text);
		text = end;
	}
}

static bool has_word_with(char *const *words, const char *part)
{
	for (; *words; words++)
		if (strstr(*words, part))
			return true;
	return false;
}

/* Each disk is served to one node of QEMU's, under its number. */
static void check_disk(char *const *words, const struct hf_cmdline_disk *disk, size_t i)
{
	char as_key[64];
	char as_json[64];

	FUZZ_CHECK(disk->location[0]);
	(void)snprintf(as_key, sizeof(as_key), "export=disk%zu,", i);
	(void)snprintf(as_json, sizeof(as_json), "\"export\":\"disk%zu\"", i);
	FUZZ_CHECK(has_word_with(words, as_key) || has_word_with(words, as_json));
}

static void check_rendered(const struct hf_cmdline *cmd)
{
	static const int nets[256];
	const struct hf_cmdline_fds fds = {
		.qmp = 10, .ram = 11, .net = nets, .disk_socket = "/run/fuzz,d"
	};
	struct hf_err err = { "" };
	char **words = NULL;
	int r = hf_cmdline_render(cmd, &fds, &words, &err);

	FUZZ_CHECK((r == 0) == (cmd->refused_count == 0));
	if (r < 0) {
		FUZZ_CHECK(err.text[0]);
		return;
	}
	FUZZ_CHECK(has_word_with(words, ",mem-path=/proc/self/fd/11,share=on"));
	FUZZ_CHECK(has_word_with(words, "chardev=holdfast-qmp,mode=control"));
	for (size_t i = 0; i < cmd->disk_count; i++)
		check_disk(words, &cmd->disk[i], i);
	FUZZ_CHECK(cmd->ram_bytes > 0);
	FUZZ_CHECK(cmd->ram_bytes % (cmd->page_bytes ? cmd->page_bytes : 4096) == 0);
	hf_words_free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_cmdline_want want = { .is_standby = size % 2, .probe = probe };
	struct hf_cmdline *cmd = NULL;
	struct hf_err err = { "" };
	struct input in = { 0 };
	char *text = malloc(size + 1);
	char *refusal = NULL;
	int r;

	FUZZ_CHECK(text);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	read_input(&in, text);
	want.hold_net = in.hold;
	want.unprotected = in.pass;
	r = hf_cmdline_parse(in.argv, &want, &cmd, &err);
	FUZZ_CHECK((r == 0) == (cmd != NULL));
	FUZZ_CHECK(r == 0 || err.text[0]);
	if (cmd) {
		FUZZ_CHECK(hf_cmdline_refusal(cmd, &refusal) == 0);
		FUZZ_CHECK((refusal[0] == '\0') == (cmd->refused_count == 0));
		check_rendered(cmd);
	}
	free(refusal);
	hf_cmdline_free(cmd);
	hf_words_free(in.argv);
	hf_words_free(in.hold);
	hf_words_free(in.pass);
	free(text);
	return 0;
}
