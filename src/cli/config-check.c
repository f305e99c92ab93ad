/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/config-check.h"

#include <dirent.h>
#include <errno.h>
#include <json-c/json_object.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/look-verbs.h"
#include "cli/programs.h"

#define SUFFIX ".conf"
#define DAEMONS_FILE "holdfastd.conf"
#define DAEMONS_PATH "/etc/holdfast/" DAEMONS_FILE

struct checking {
	const struct hf_verb_options *o;
	struct json_object *found; /* [{file, ok, text}] */
	int code;
};

static bool has_suffix(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(SUFFIX) && strcmp(name + n - strlen(SUFFIX), SUFFIX) == 0;
}

/* The name of the VM is that of its file. */
static int set_name(const char *file, char *ret, size_t size)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;

	if (!has_suffix(base) || (size_t)snprintf(ret, size, "%s", base) >= size)
		return -EINVAL;
	ret[strlen(base) - strlen(SUFFIX)] = '\0';
	return hf_is_valid_name(ret) ? 0 : -EINVAL;
}

static void take_result(struct checking *c, const char *file, int code, const char *text)
{
	struct json_object *one = json_object_new_object();
	size_t n = strlen(text);

	while (n && text[n - 1] == '\n')
		n--;
	if (code)
		c->code = code == -ETIMEDOUT ? HF_EXIT_TIMED_OUT : HF_EXIT_FAILED;
	json_object_object_add(one, "file", json_object_new_string(file));
	json_object_object_add(one, "ok", json_object_new_boolean(code == 0));
	json_object_object_add(one, "text",
			       json_object_new_string_len(code ? text : "", code ? (int)n : 0));
	json_object_array_add(c->found, one);
	if (c->o->is_json || c->o->is_quiet)
		return;
	if (code)
		(void)fprintf(stderr, "%.*s\n", (int)n, text);
	else
		printf("%s: ok\n", file);
}

static void run_check(struct checking *c, const char *file, char *const *argv)
{
	char *text = NULL;
	int r = hf_program_run(argv, c->o->deadline_ns, &text);
	char why[PATH_MAX + 128];

	if (r >= 0) {
		take_result(c, file, r, text);
		free(text);
		return;
	}
	(void)snprintf(why, sizeof(why), "holdfast check-config: %s: %s: %s", file, argv[0],
		       strerror(-r));
	take_result(c, file, r, why);
}

static void check_file(struct checking *c, const char *file)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	char name[HF_NAME_MAX + sizeof(SUFFIX) + 1];
	char program[PATH_MAX], path[PATH_MAX], why[PATH_MAX + 128];
	bool is_daemons = strcmp(base, DAEMONS_FILE) == 0;

	(void)snprintf(path, sizeof(path), "%s", file);
	if (!is_daemons && set_name(file, name, sizeof(name)) < 0) {
		(void)snprintf(why, sizeof(why),
			       "holdfast check-config: %s: the file of a VM is called NAME" SUFFIX
			       ", with a name of up to %d letters, digits and ._-",
			       file, HF_NAME_MAX);
		take_result(c, file, 1, why);
		return;
	}
	(void)hf_program_path(is_daemons ? HF_PROGRAM_DAEMON : HF_PROGRAM_KEEPER, program,
			      sizeof(program));
	if (is_daemons)
		run_check(c, file,
			  (char *[]){ program, (char[]){ "--check-config" }, (char[]){ "--config" },
				      path, NULL });
	else
		run_check(c, file,
			  (char *[]){ program, (char[]){ "check" }, name, (char[]){ "--config" },
				      path, NULL });
}

static void check_all(struct checking *c)
{
	struct dirent **names;
	char path[PATH_MAX];
	int n = scandir(c->o->vms_dir, &names, NULL, alphasort);

	if (n < 0 && errno != ENOENT) {
		(void)fprintf(stderr, "holdfast check-config: cannot read %s: %s\n", c->o->vms_dir,
			      strerror(errno));
		c->code = HF_EXIT_FAILED;
	}
	if (access(DAEMONS_PATH, F_OK) == 0)
		check_file(c, DAEMONS_PATH);
	for (int i = 0; i < n; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", c->o->vms_dir, names[i]->d_name);
		if (names[i]->d_name[0] != '.' && has_suffix(names[i]->d_name))
			check_file(c, path);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

int hf_config_check(const struct hf_verb_options *o)
{
	struct checking c = { .o = o, .found = json_object_new_array() };

	for (int i = 0; i < o->n_words; i++)
		check_file(&c, o->words[i]);
	if (!o->n_words)
		check_all(&c);
	if (o->is_json)
		hf_look_print_json(c.found);
	json_object_put(c.found);
	return c.code;
}
