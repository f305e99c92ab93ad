/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/fencedword.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "codec/json.h"
#include "codec/utf8.h"

static int read_host(const struct json_object *p, struct hf_fencedword *ret, struct hf_err *err)
{
	if (hf_json_str(p, "host", &ret->host, err) < 0)
		return -EINVAL;
	if (hf_is_valid_name(ret->host))
		return 0;
	hf_err_set(err, "host: '%.80s' is not a name", ret->host);
	return -EINVAL;
}

static int read_text(const struct json_object *p, struct hf_fencedword *ret, struct hf_err *err)
{
	size_t n;

	ret->text = "";
	if (!hf_json_has(p, "text"))
		return 0;
	if (hf_json_str(p, "text", &ret->text, err) < 0)
		return -EINVAL;
	n = strlen(ret->text);
	if (n <= HF_FENCEDWORD_TEXT_MAX && hf_utf8_is_printable(ret->text, n))
		return 0;
	hf_err_set(err, "text: more than %d bytes, or not fit to be shown", HF_FENCEDWORD_TEXT_MAX);
	return -EINVAL;
}

static int read_times(const struct json_object *p, struct hf_fencedword *ret, struct hf_err *err)
{
	int r = hf_json_u64(p, "time_ns", &ret->time_ns, err);

	ret->begun_ns = ret->time_ns;
	if (!r && hf_json_has(p, "begun_ns"))
		r = hf_json_u64(p, "begun_ns", &ret->begun_ns, err);
	if (r < 0 || ret->begun_ns <= ret->time_ns)
		return r;
	hf_err_set(err, "begun_ns: later than time_ns");
	return -EINVAL;
}

int hf_fencedword_read(const struct json_object *parameters, struct hf_fencedword *ret,
		       struct hf_err *err)
{
	if (read_host(parameters, ret, err) < 0 || read_times(parameters, ret, err) < 0)
		return -EINVAL;
	return read_text(parameters, ret, err);
}
