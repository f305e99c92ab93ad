/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A line becomes an examination's: the machine stays, what leads outside does not. */
#include "vm/cmdline.h"

#include "../../tests/test.h"

#include <errno.h>
#include <stdbool.h>

#include "codec/words.h"

static int probe(const char *path __attribute__((unused)), uint64_t *ret_page_bytes)
{
	*ret_page_bytes = 0;
	return 0;
}

static struct hf_err err;

static struct hf_cmdline *parse(const char *line, const char *hold, const char *unprotected)
{
	struct hf_cmdline_want want = { .is_inspection = true, .probe = probe };
	struct hf_cmdline *cmd = NULL;
	char **argv, **held = NULL, **passed = NULL;
	size_t at;

	err.text[0] = '\0';
	CHECK_EQ(hf_words_split(line, &argv, &at, &err), 0);
	if (hold)
		CHECK_EQ(hf_words_split(hold, &held, &at, &err), 0);
	if (unprotected)
		CHECK_EQ(hf_words_split(unprotected, &passed, &at, &err), 0);
	want.hold_net = held;
	want.unprotected = passed;
	if (hf_cmdline_parse(argv, &want, &cmd, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s: %s", line, err.text);
	hf_words_free(argv);
	hf_words_free(held);
	hf_words_free(passed);
	return cmd;
}

/* The whole line that comes of it, to be freed. */
static char *render(const struct hf_cmdline *cmd, int console, int gdb)
{
	static const int net[] = { 20, 21 };
	static const char *const sockets[] = { "/w/disk0", "/w/disk1" };
	const struct hf_cmdline_fds fds = { .qmp = 3,
					    .ram = 4,
					    .net = net,
					    .disk_sockets = sockets,
					    .console = console,
					    .gdb = gdb };
	char **words = NULL, *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	CHECK(f);
	if (hf_cmdline_render(cmd, &fds, &words, &err) < 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	for (char **w = words; *w; w++)
		(void)fprintf(f, "%s ", *w);
	(void)fclose(f);
	hf_words_free(words);
	return text;
}

#define BASE "qemu-system-x86_64 -nodefaults -m 64 "

static bool has(const char *text, const char *part)
{
	return strstr(text, part) != NULL;
}

TEST(it_waits_for_its_state_on_a_private_copy)
{
	struct hf_cmdline *cmd = parse(BASE "-S -mem-prealloc", NULL, NULL);
	char *text = render(cmd, 0, 0);

	CHECK(has(text, "mem-path=/proc/self/fd/4,share=off"));
	CHECK(!has(text, "prealloc"));
	CHECK(has(text, "-S -incoming defer -display none -monitor none -sandbox on"));
	CHECK(!has(text, "-gdb") && !has(text, "-snapshot"));
	free(text);
	hf_cmdline_free(cmd);
	cmd = parse(BASE, NULL, NULL);
	text = render(cmd, 5, 6);
	CHECK(has(text, "socket,id=holdfast-console,fd=5"));
	CHECK(has(text,
		  "socket,id=holdfast-gdb,fd=6,server=on,wait=off -gdb chardev:holdfast-gdb"));
	free(text);
	hf_cmdline_free(cmd);
}

/* A line, and what must and must not be in what comes of it; NULL: nothing. */
static const struct {
	const char *line, *unprotected, *want, *bad;
} exchanged[] = {
	{ BASE "-chardev file,id=log,path=/var/log/x -serial chardev:log", NULL,
	  "-chardev null,id=log -serial chardev:holdfast-console", "/var/log" },
	{ BASE "-serial file:/x -serial pty", NULL, "-serial chardev:holdfast-console -serial null",
	  "pty" },
	{ BASE "-serial none -serial /dev/ttyS0", NULL, "-serial none -serial chardev:holdfast",
	  "ttyS0" },
	{ BASE "-chardev socket,id=c,path=/s -device isa-serial,chardev=c", NULL,
	  "-chardev null,id=c ", "path=/s" },
	{ BASE "-chardev pty,id=m,mux=on -mon chardev=m", NULL, "null,id=m,mux=on",
	  "-mon chardev=m" },
	{ BASE "-chardev ringbuf,id=r,size=64", NULL, "-chardev ringbuf,id=r,size=64", NULL },
	{ BASE "-qmp unix:/q,server=on -monitor stdio -pidfile /p -D /l -d int", NULL, NULL, "/q" },
	{ BASE "-pidfile /p -D /log -trace x -plugin y", NULL, NULL, "-pidfile" },
	{ BASE "-gdb tcp::1 -vnc :1 -spice port=1 -nographic", NULL, NULL, "tcp::1" },
	{ BASE "-vnc :7 -nographic", NULL, NULL, "-vnc" },
	{ BASE "-parallel /dev/parport0 -debugcon file:/x", NULL, "-parallel null -debugcon null",
	  "parport" },
	{ BASE "-audiodev alsa,id=a -device ich9-intel-hda", NULL, "-audiodev none,id=a", "alsa" },
	{ BASE "-audio driver=pa,model=hda", NULL, "-audio none,model=hda", "driver=pa" },
	{ BASE "-sandbox off -runas nobody -overcommit mem-lock=on", NULL, NULL, "sandbox off" },
	{ BASE "-semihosting -iscsi x=y", NULL, NULL, "-semihosting" },
	{ BASE "-netdev user,id=u,hostfwd=tcp::22-:22,net=10.1.0.0/24", "u",
	  "-netdev user,id=u,net=10.1.0.0/24,restrict=on", "hostfwd" },
	{ BASE "-netdev tap,id=t,ifname=tap7,vhost=on,vnet_hdr=on", "t",
	  "-netdev tap,id=t,vnet_hdr=on,script=no", "tap7" },
	{ BASE "-netdev bridge,id=b,br=br7", "b", "-netdev tap,script=no,downscript=no,id=b",
	  "br7" },
	{ BASE "-netdev socket,id=s,listen=:1", "s", "-netdev hubport,id=s,hubid=", "listen" },
	{ BASE "-object filter-dump,id=f,netdev=n,file=/x -netdev socket,id=n,listen=:1", "n", NULL,
	  "filter-dump" },
	{ BASE "-object rng-random,id=r,filename=/dev/urandom", NULL, "-object rng-random", NULL },
	{ BASE "-drive file=/d,format=raw,if=none,id=d", "d", "-snapshot", NULL },
	{ BASE "-drive file=/d,format=raw,if=none,id=d", NULL, "server.path=/w/disk0",
	  "/d,format" },
	{ BASE "-usbdevice tablet", NULL, "-usbdevice tablet", NULL },
	{ BASE "-kernel /k -append quiet -fw_cfg name=opt/x,string=y", NULL,
	  "-kernel /k -append quiet -fw_cfg name=opt/x,string=y", NULL },
};

TEST(what_leads_outside_leads_nowhere)
{
	for (size_t i = 0; i < sizeof(exchanged) / sizeof(exchanged[0]); i++) {
		struct hf_cmdline *cmd = parse(exchanged[i].line, NULL, exchanged[i].unprotected);
		char *text = render(cmd, 0, 0);

		if (exchanged[i].want && !has(text, exchanged[i].want))
			hf_test_fail(__FILE__, __LINE__, "%s lacks %s", text, exchanged[i].want);
		if (exchanged[i].bad && has(text, exchanged[i].bad))
			hf_test_fail(__FILE__, __LINE__, "%s has %s", text, exchanged[i].bad);
		free(text);
		hf_cmdline_free(cmd);
	}
}

TEST(what_cannot_be_isolated_is_refused)
{
	static const struct {
		const char *line, *unprotected;
	} bad[] = {
		{ BASE "-virtfs local,path=/home,mount_tag=h,security_model=none,id=h", "h" },
		{ BASE "-device vfio-pci,host=01:00.0,id=v", "v" },
		{ BASE "-device usb-host,id=u", "u" },
		{ BASE "-tpmdev passthrough,id=t", NULL },
		{ BASE "-add-fd fd=9,set=1", NULL },
		{ BASE "-usbdevice braille", NULL },
		{ BASE "-nic socket,listen=:1,id=n", "n" },
		{ BASE "-blockdev driver=raw,node-name=d,file.driver=file,file.filename=/d", "d" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hf_cmdline *cmd = parse(bad[i].line, NULL, bad[i].unprotected);
		struct hf_cmdline_fds fds = { .qmp = 3 };
		char **words, *text;

		CHECK_EQ(hf_cmdline_render(cmd, &fds, &words, &err), -EPERM);
		CHECK_EQ(hf_cmdline_refusal(cmd, &text), 0);
		if (!has(text, "isolation"))
			hf_test_fail(__FILE__, __LINE__, "%s: %s", bad[i].line, text);
		free(text);
		hf_cmdline_free(cmd);
	}
}

TEST(held_networks_stay_what_they_were)
{
	struct hf_cmdline *cmd = parse(BASE "-netdev tap,id=n0,ifname=t0,script=no,downscript=no",
				       "n0", NULL);
	char *text = render(cmd, 0, 0);

	CHECK(has(text, "-netdev stream,id=n0,server=off,addr.type=fd,addr.str=20"));
	CHECK(!cmd->has_tap && cmd->net_count == 1);
	free(text);
	hf_cmdline_free(cmd);
	cmd = parse(BASE "-netdev tap,id=n0", NULL, "n0");
	CHECK(cmd->has_tap);
	hf_cmdline_free(cmd);
}

TEST(the_default_port_is_the_console_too)
{
	struct hf_cmdline *cmd = parse("qemu-system-x86_64 -nic none -m 64", NULL, NULL);
	char *text = render(cmd, 5, 0);

	CHECK(has(text, "-serial chardev:holdfast-console"));
	free(text);
	hf_cmdline_free(cmd);
	cmd = parse(BASE "-chardev pty,id=c -device isa-serial,chardev=c", NULL, NULL);
	text = render(cmd, 5, 0);
	CHECK(has(text, "socket,id=c,fd=5") && !has(text, "pty"));
	free(text);
	hf_cmdline_free(cmd);
}

TEST(a_saved_vm_waits_and_stands_still)
{
	struct hf_cmdline_want want = { .is_resumed = true, .probe = probe };
	char program[] = "qemu-system-x86_64", word[] = "-nodefaults";
	char *argv[] = { program, word, NULL };
	struct hf_cmdline *cmd;
	char *text;

	CHECK_EQ(hf_cmdline_parse(argv, &want, &cmd, &err), 0);
	text = render(cmd, 0, 0);
	CHECK(has(text, "-S ") && has(text, "-incoming defer") && has(text, "share=on"));
	free(text);
	hf_cmdline_free(cmd);
}
