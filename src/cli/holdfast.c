/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * holdfast: the command line. `run` and `standby` become the keeper; everything else asks one.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/client.h"
#include "cli/host-call.h"
#include "cli/lease-verbs.h"
#include "cli/pki-verbs.h"
#include "cli/show.h"
#include "codec/json.h"

#define DEFAULT_RUN_DIR "/run/holdfast"

/* docs/man/holdfast.1 promises these. */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_KEEPER = 3,
};

struct options {
	const char *run_dir;
	bool is_json;
	bool is_forced;
};

struct verb {
	const char *name;
	const char *help;
	bool wants_name;
	bool has_json;
	bool has_force;
	int (*run)(const struct options *o, const char *vm);
};

static int complain(int r, const struct hf_err *err)
{
	(void)fprintf(stderr, "holdfast: %s\n", err->text);
	return r == -ESRCH ? EXIT_NO_KEEPER : EXIT_FAILED;
}

static int ask(const struct options *o, const char *vm, const char *method,
	       struct json_object *parameters, struct json_object **ret)
{
	struct hf_err err = { "" };
	struct hf_client c;
	int r = hf_client_open(o->run_dir, vm, &c, &err);

	if (r < 0)
		return complain(r, &err);
	r = hf_client_call(&c, method, parameters, /* is_more= */ false, &err);
	if (!r)
		r = hf_client_reply(&c, ret, &err);
	hf_client_close(&c);
	return r < 0 ? complain(r, &err) : EXIT_DONE;
}

static void print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int get_status(const struct options *o, const char *vm, struct json_object **ret)
{
	struct json_object *reply = NULL;
	struct json_object *status;
	struct hf_err err;
	int code = ask(o, vm, "Status", NULL, &reply);

	if (code != EXIT_DONE)
		return code;
	if (hf_json_obj(reply, "status", &status, &err) < 0) {
		json_object_put(reply);
		return complain(-EBADMSG, &err);
	}
	*ret = json_object_get(status);
	json_object_put(reply);
	return EXIT_DONE;
}

static int do_status(const struct options *o, const char *vm)
{
	struct json_object *status;
	int code = get_status(o, vm, &status);

	if (code != EXIT_DONE)
		return code;
	if (o->is_json)
		print_json(status);
	else
		hf_show_status(status);
	json_object_put(status);
	return EXIT_DONE;
}

/* A keeper that ended between the look into the folder and the question is no error. */
static struct json_object *status_if_running(const struct options *o, const char *vm)
{
	struct json_object *status = NULL;
	struct hf_client c;

	if (hf_client_open(o->run_dir, vm, &c, NULL) < 0)
		return NULL;
	hf_client_close(&c);
	return get_status(o, vm, &status) == EXIT_DONE ? status : NULL;
}

static int do_list(const struct options *o, const char *vm __attribute__((unused)))
{
	struct json_object *all = json_object_new_array();
	struct dirent **names;
	int n = scandir(o->run_dir, &names, NULL, alphasort);

	if (n < 0 && errno != ENOENT) {
		(void)fprintf(stderr, "holdfast: cannot read %s: %s\n", o->run_dir,
			      strerror(errno));
		json_object_put(all);
		return EXIT_FAILED;
	}
	if (!o->is_json)
		hf_show_row(NULL);
	for (int i = 0; i < n; i++) {
		struct json_object *status = NULL;

		if (hf_is_valid_name(names[i]->d_name))
			status = status_if_running(o, names[i]->d_name);
		if (status && !o->is_json)
			hf_show_row(status);
		if (status)
			json_object_array_add(all, status);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	if (o->is_json)
		print_json(all);
	json_object_put(all);
	return EXIT_DONE;
}

static int do_events(const struct options *o, const char *vm)
{
	struct hf_err err = { "" };
	struct json_object *reply;
	struct json_object *event;
	struct hf_client c;
	int r = hf_client_open(o->run_dir, vm, &c, &err);

	if (r < 0)
		return complain(r, &err);
	r = hf_client_call(&c, "Events", NULL, /* is_more= */ true, &err);
	while (!r && (r = hf_client_reply(&c, &reply, &err)) == 0) {
		if (hf_json_obj(reply, "event", &event, &err) == 0)
			puts(json_object_to_json_string_ext(
				event, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(reply);
		if (fflush(stdout))
			break;
	}
	hf_client_close(&c);
	/* Following ends when the keeper does, and that is the end of the story, not a fault. */
	return r == -ECONNRESET || !r ? EXIT_DONE : complain(r, &err);
}

static int order(const struct options *o, const char *vm, const char *method)
{
	struct json_object *parameters = json_object_new_object();
	struct json_object *reply = NULL;
	int code;

	json_object_object_add(parameters, "force", json_object_new_boolean(o->is_forced));
	code = ask(o, vm, method, parameters, &reply);
	json_object_put(parameters);
	json_object_put(reply);
	return code;
}

static int do_promote(const struct options *o, const char *vm)
{
	return order(o, vm, "Promote");
}

static int do_stop(const struct options *o, const char *vm)
{
	return order(o, vm, "Stop");
}

static int do_resume(const struct options *o, const char *vm)
{
	struct json_object *reply = NULL;
	int code = ask(o, vm, "Resume", NULL, &reply);

	json_object_put(reply);
	return code;
}

static const struct verb verbs[] = {
	{ .name = "list",
	  .help = "the VMs that have a keeper on this host",
	  .has_json = true,
	  .run = do_list },
	{ .name = "status",
	  .help = "role, protection, epochs and their cost",
	  .wants_name = true,
	  .has_json = true,
	  .run = do_status },
	{ .name = "events",
	  .help = "follow state changes as JSON lines, oldest kept first",
	  .wants_name = true,
	  .run = do_events },
	{ .name = "promote",
	  .help = "make the standby go live; --force if the primary is known to be dead",
	  .wants_name = true,
	  .has_force = true,
	  .run = do_promote },
	{ .name = "resume",
	  .help = "let a guest go on that stands still, as one whose disk failed",
	  .wants_name = true,
	  .run = do_resume },
	{ .name = "stop",
	  .help = "ask the guest to shut down, or end a standby; --force: at once",
	  .wants_name = true,
	  .has_force = true,
	  .run = do_stop },
};

static void usage(FILE *to)
{
	(void)fputs("usage: holdfast run NAME [options] [-- qemu-system-x86_64 ...]\n"
		    "       holdfast standby NAME [options] [-- qemu-system-x86_64 ...]\n"
		    "       holdfast lease VERB ...\n"
		    "       holdfast pki VERB ...\n"
		    "       holdfast VERB [NAME] [--json] [--force] [--run-dir DIR]\n\n"
		    "  run       run a VM here, protected by a standby on another host\n"
		    "  standby   stand by for a VM that runs on another host\n",
		    to);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		(void)fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].help);
	(void)fputs("  hosts     the hosts of the lockspace, and this one's place in it\n"
		    "  lease     leases on shared storage; `holdfast lease help` tells more\n"
		    "  pki       certificates of hosts; `holdfast pki help` tells more\n"
		    "  version   of this program\n"
		    "  help      this text; `holdfast help VERB` for one of them\n\n"
		    "See holdfast(1), holdfast-keeper(8) and holdfast.conf(5).\n",
		    to);
}

/* The keeper lies beside this program in a build folder's layout, and in the libexec folder installed. */
static int become_keeper(char **argv)
{
	const char *path = getenv("HOLDFAST_KEEPER");
	char beside[4096];
	ssize_t n = readlink("/proc/self/exe", beside, sizeof(beside) - 64);

	argv[0] = (char[]){ "holdfast-keeper" };
	if (path) {
		(void)execv(path, argv);
	} else {
		if (n > 0) {
			beside[n] = '\0';
			(void)snprintf(strrchr(beside, '/') + 1, 64, "../keeper/holdfast-keeper");
			(void)execv(beside, argv);
		}
		path = HF_LIBEXECDIR "/holdfast-keeper";
		(void)execv(path, argv);
	}
	(void)fprintf(stderr, "holdfast: cannot start the keeper %s: %s\n", path, strerror(errno));
	return EXIT_FAILED;
}

static void print_usage(FILE *to, const struct verb *v)
{
	(void)fprintf(to, "usage: holdfast %s%s%s%s [--run-dir DIR]\n", v->name,
		      v->wants_name ? " NAME" : "", v->has_json ? " [--json]" : "",
		      v->has_force ? " [--force]" : "");
}

/* Return: 0; 1: help is wanted; -1: said what is wrong. */
static int parse_options(const struct verb *v, int argc, char **argv, struct options *o)
{
	static const struct option table[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "force", no_argument, NULL, 'f' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (c == 'h')
			return 1;
		if (c == 'j' && v->has_json) {
			o->is_json = true;
		} else if (c == 'f' && v->has_force) {
			o->is_forced = true;
		} else if (c == 'r') {
			o->run_dir = optarg;
		} else {
			(void)fprintf(stderr, "holdfast %s: %s: %s\n", v->name, argv[optind - 1],
				      c == ':' ? "needs a value" : "no such option");
			return -1;
		}
	}
	return 0;
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	const char *run_dir = getenv("HOLDFAST_RUN_DIR");
	struct options o = { .run_dir = run_dir ? run_dir : DEFAULT_RUN_DIR };
	int r = parse_options(v, argc, argv, &o);

	if (r > 0) {
		print_usage(stdout, v);
		puts(v->help);
		return EXIT_DONE;
	}
	if (r < 0 || argc - optind != (v->wants_name ? 1 : 0)) {
		print_usage(stderr, v);
		return EXIT_USAGE;
	}
	if (v->wants_name && !hf_is_valid_name(argv[optind])) {
		(void)fprintf(stderr,
			      "holdfast: '%s' cannot be the name of a VM: up to 63 letters, digits "
			      "and ._-, not first a . or -\n",
			      argv[optind]);
		return EXIT_USAGE;
	}
	return v->run(&o, v->wants_name ? argv[optind] : NULL);
}

static bool is_keepers(const char *verb)
{
	return strcmp(verb, "run") == 0 || strcmp(verb, "standby") == 0;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static int complain_no_verb(const char *name)
{
	if (*name)
		(void)fprintf(stderr, "holdfast: no such command '%s'\n\n", name);
	usage(stderr);
	return EXIT_USAGE;
}

static int run_hosts(int argc, char **argv)
{
	static const char arguments[] = "usage: holdfast hosts [--json] [--events] [--run-dir DIR]";
	int code = hf_host_hosts_run(argc, argv);

	if (code < 0) {
		puts(arguments);
		puts("the hosts of the lockspace, and this one's place in it; --events: what "
		     "happens "
		     "there, as JSON lines");
		return EXIT_DONE;
	}
	if (code == EXIT_USAGE)
		(void)fprintf(stderr, "%s\n", arguments);
	return code;
}

static int help_on(const char *name)
{
	char self[] = "", run[] = "run", help[] = "--help";
	const struct verb *v = find_verb(name);

	if (is_keepers(name))
		return become_keeper((char *[]){ self, run, help, NULL });
	if (strcmp(name, "lease") == 0)
		return hf_lease_command(2, (char *[]){ self, help, NULL });
	if (strcmp(name, "hosts") == 0)
		return run_hosts(2, (char *[]){ self, help, NULL });
	if (!v)
		return complain_no_verb(name);
	print_usage(stdout, v);
	puts(v->help);
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct verb *v = find_verb(name);

	if (v)
		return run_verb(v, argc - 1, argv + 1);
	if (is_keepers(name))
		return become_keeper(argv);
	if (strcmp(name, "lease") == 0)
		return hf_lease_command(argc - 1, argv + 1);
	if (strcmp(name, "pki") == 0)
		return hf_pki_command(argc - 1, argv + 1);
	if (strcmp(name, "hosts") == 0)
		return run_hosts(argc - 1, argv + 1);
	if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
		puts("holdfast " HF_VERSION);
		return EXIT_DONE;
	}
	if (strcmp(name, "help") == 0 && argc > 2)
		return help_on(argv[2]);
	if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		usage(stdout);
		return EXIT_DONE;
	}
	return complain_no_verb(name);
}
