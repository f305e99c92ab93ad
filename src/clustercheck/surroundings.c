/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clustercheck/surroundings.h"

#include <stdlib.h>
#include <string.h>

#include "codec/conf.h"
#include "settings/settings-file.h"

int hf_corosync_read(const char *path, struct hf_corosync *ret, struct hf_err *err)
{
	char *text;
	size_t len;
	int r = hf_settings_read_file(path, &text, &len, err);

	if (r < 0)
		return r;
	hf_corosync_parse(text, len, ret);
	free(text);
	return 0;
}

/* hf_conf_fn */
static int take(void *data, const struct hf_conf_item *it, struct hf_err *err)
{
	(void)err;
	if (it->key && strcmp(it->kind, "pacemaker") == 0 && strcmp(it->key, "fencing") == 0)
		*(bool *)data = strcmp(it->value, "ignore") == 0;
	return 0;
}

bool hf_daemon_ignores_fencing(const char *path)
{
	bool is = false;
	char *text;
	size_t len;

	if (hf_settings_read_file(path, &text, &len, NULL) < 0)
		return false;
	if (hf_conf_parse(path, text, len, take, &is, NULL) < 0)
		is = false;
	free(text);
	return is;
}
