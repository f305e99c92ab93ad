/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "codec/wire-disk.h"
#include "codec/words.h"
#include "vm/cmdline.h"

#define CLIENT(prefix, n)                                                                          \
	prefix "driver=nbd," prefix "server.type=unix," prefix "server.path=/run/d," prefix        \
	       "export=disk" n "," prefix "reconnect-delay=4294967295"
#define JSON_CLIENT(n)                                                                             \
	"\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"/run/d\"},\"export\":"        \
	"\"disk" n "\",\"reconnect-delay\":4294967295"

struct setup {
	char **argv;
	char **unprotected;
	struct hf_cmdline *cmd;
	struct hf_err err;
};

static char **split(const char *text)
{
	char **words = NULL;
	size_t offset;

	CHECK_EQ(hf_words_split(text, &words, &offset, NULL), 0);
	return words;
}

static void run(struct setup *s, const char *options, const char *unprotected)
{
	struct hf_cmdline_want want = { 0 };
	char line[16384];

	(void)snprintf(line, sizeof(line), "qemu -nodefaults %s", options);
	*s = (struct setup){ .argv = split(line), .unprotected = split(unprotected) };
	want.unprotected = s->unprotected;
	(void)!hf_cmdline_parse(s->argv, &want, &s->cmd, &s->err);
	CHECK_STR(s->err.text, "");
}

static void done(struct setup *s)
{
	hf_cmdline_free(s->cmd);
	hf_words_free(s->argv);
	hf_words_free(s->unprotected);
}

static char *join(char *const *words)
{
	char *text = calloc(1, 65536);
	size_t n = 0;

	CHECK(text);
	for (size_t i = 0; words && words[i]; i++)
		n += (size_t)snprintf(text + n, 65536 - n, "%s%s", i ? " " : "", words[i]);
	return text;
}

static char *rendered(const struct hf_cmdline *cmd)
{
	const struct hf_cmdline_fds fds = { .qmp = 10, .ram = 11, .disk_socket = "/run/d" };
	struct hf_err err = { "" };
	char **words = NULL;
	char *text;

	(void)!hf_cmdline_render(cmd, &fds, &words, &err);
	CHECK_STR(err.text, "");
	text = join(words);
	hf_words_free(words);
	return text;
}

/* What becomes of one disk. */
static const struct {
	const char *line;
	const char *becomes; /* the words up to what is always added */
	const char *id;
	const char *location;
	const char *format;
	bool is_direct;
} disks[] = {
	{ "-drive file=/a.img,format=raw", "-drive format=raw," CLIENT("file.", "0"), "drive0",
	  "/a.img", "raw", false },
	{ "-drive file=a,,b.qcow2,if=virtio,driver=qcow2,id=d,cache=none,discard=unmap,aio=native,"
	  "werror=stop",
	  "-drive if=virtio,driver=qcow2,id=d,cache=none,discard=unmap,werror=stop," CLIENT("file.",
											    "0"),
	  "d", "a,b.qcow2", "qcow2", true },
	{ "-drive file=file:/a:b,format=raw,id=d,cache=directsync",
	  "-drive format=raw,id=d,cache=directsync," CLIENT("file.", "0"), "d", "/a:b", "raw",
	  true },
	{ "-drive if=pflash,format=raw,file=/code,readonly=on -drive "
	  "if=pflash,format=raw,file=/vars",
	  "-drive if=pflash,format=raw,file=/code,readonly=on -drive "
	  "if=pflash,format=raw," CLIENT("file.", "0"),
	  "drive1", "/vars", "raw", false },
	{ "-drive "
	  "file.driver=host_device,file.filename=/dev/sdb,file.locking=off,file.aio=io_uring,"
	  "file.cache.direct=on,format=raw,id=d,detect-zeroes=unmap",
	  "-drive file.cache.direct=on,format=raw,id=d,detect-zeroes=unmap," CLIENT("file.", "0"),
	  "d", "/dev/sdb", "raw", true },
	{ "-drive file.filename=/a,format=raw,id=d", "-drive format=raw,id=d," CLIENT("file.", "0"),
	  "d", "/a", "raw", false },
	{ "-drive driver=qcow2,file.driver=raw,file.file.driver=file,file.file.filename=/a,id=d,"
	  "backing.driver=raw,backing.file.driver=file,backing.file.filename=/base",
	  "-drive driver=qcow2,file.driver=raw,id=d,backing.driver=raw,backing.file.driver=file,"
	  "backing.file.filename=/base," CLIENT("file.file.", "0"),
	  "d", "/a", "qcow2", false },
	{ "-drive driver=file,filename=/a,id=d", "-drive id=d," CLIENT("", "0"), "d", "/a", "raw",
	  false },
	{ "-drive format=host_device,file=/dev/a,id=d", "-drive id=d," CLIENT("", "0"), "d",
	  "/dev/a", "raw", false },
	{ "-drive file=nbd://h:1/e,format=raw,id=d", "-drive format=raw,id=d," CLIENT("file.", "0"),
	  "d", "nbd://h:1/e", "raw", false },
	{ "-drive file=nbd+tcp://h/e,format=qcow2,id=d",
	  "-drive format=qcow2,id=d," CLIENT("file.", "0"), "d", "nbd://h/e", "qcow2", false },
	{ "-drive file.driver=nbd,file.host=h,file.port=7,file.export=e,format=raw,id=d",
	  "-drive format=raw,id=d," CLIENT("file.", "0"), "d", "nbd://h:7/e", "raw", false },
	{ "-blockdev nbd,node-name=n,server.type=inet,server.host=::1,server.port=10809,"
	  "reconnect-delay=9,tls-hostname=x",
	  "-blockdev node-name=n," CLIENT("", "0"), "n", "nbd://[::1]:10809/", "raw", false },
	{ "-blockdev 'driver=nbd,node-name=n,server.type=unix,server.path=/run/my s?,export=a/b c'",
	  "-blockdev node-name=n," CLIENT("", "0"), "n",
	  "nbd+unix:///a/b%20c?socket=/run/my%20s%3F", "raw", false },
	{ "-blockdev file,node-name=f,filename=/a,aio=io_uring,locking=on,discard=unmap,"
	  "auto-read-only=on,cache.no-flush=on,force-share=off",
	  "-blockdev node-name=f,discard=unmap,auto-read-only=on,cache.no-flush=on,"
	  "force-share=off," CLIENT("", "0"),
	  "f", "/a", "raw", false },
	{ "-blockdev file,node-name=f,filename=/a -blockdev qcow2,node-name=q,file=f,"
	  "cache.direct=on",
	  "-blockdev node-name=f," CLIENT("", "0") " -blockdev qcow2,node-name=q,file=f,"
						   "cache.direct=on",
	  "q", "/a", "qcow2", true },
	/* A filter and a chain: only the leaf that is written to. */
	{ "-blockdev file,node-name=bf,filename=/base -blockdev qcow2,node-name=b,file=bf "
	  "-blockdev qcow2,node-name=q,file.driver=file,file.filename=/top,backing=b "
	  "-blockdev throttle,node-name=t,throttle-group=g,file=q -device virtio-blk-pci,drive=t",
	  "-blockdev file,node-name=bf,filename=/base -blockdev qcow2,node-name=b,file=bf "
	  "-blockdev qcow2,node-name=q,backing=b," CLIENT(
		  "file.", "0") " -blockdev throttle,node-name=t,throttle-group=g,file=q "
				"-device virtio-blk-pci,drive=t",
	  "t", "/top", "qcow2", false },
	/* Two devices, also of a node and one below it: one disk. */
	{ "-blockdev file,node-name=f,filename=/a -blockdev raw,node-name=r,file=f "
	  "-device virtio-blk-pci,drive=r,share-rw=on -device virtio-blk-pci,drive=r,share-rw=on "
	  "-device virtio-blk-pci,drive=f",
	  "-blockdev node-name=f," CLIENT(
		  "",
		  "0") " -blockdev raw,node-name=r,file=f -device "
		       "virtio-blk-pci,drive=r,share-rw=on "
		       "-device virtio-blk-pci,drive=r,share-rw=on -device virtio-blk-pci,drive=f",
	  "f", "/a", "raw", false },
	{ "-blockdev "
	  "'{\"driver\":\"qcow2\",\"node-name\":\"q\",\"backing\":null,\"lazy-refcounts\":true,"
	  "\"file\":{\"driver\":\"file\",\"filename\":\"/"
	  "a\",\"aio\":\"native\",\"cache\":{\"direct\":"
	  "true}}}'",
	  "-blockdev {\"driver\":\"qcow2\",\"node-name\":\"q\",\"backing\":null,"
	  "\"lazy-refcounts\":true,\"file\":{\"cache\":{\"direct\":true}," JSON_CLIENT("0") "}}",
	  "q", "/a", "qcow2", true },
	/* What is part of a qcow2 format's file is no qcow2 file. */
	{ "-blockdev "
	  "raw,node-name=r,offset=4096,file.driver=file,file.filename=/a -blockdev "
	  "qcow2,node-name=q,"
	  "file=r",
	  "-blockdev raw,node-name=r,offset=4096," CLIENT(
		  "file.", "0") " -blockdev qcow2,node-name=q,file=r",
	  "q", "/a", "raw", false },
	/* A node cannot stand on a later one: this names a file of that name. */
	{ "-blockdev file,node-name=q,filename=f,read-only=on -blockdev "
	  "file,node-name=f,filename=q",
	  "-blockdev file,node-name=q,filename=f,read-only=on -blockdev "
	  "node-name=f," CLIENT("", "0"),
	  "f", "q", "raw", false },
	/* The format is not written to, but what it stands on is. */
	{ "-blockdev file,node-name=f,filename=/a -blockdev qcow2,node-name=q,file=f,read-only=on "
	  "-device virtio-blk-pci,drive=f",
	  "-blockdev node-name=f," CLIENT("",
					  "0") " -blockdev qcow2,node-name=q,file=f,read-only=on "
					       "-device virtio-blk-pci,drive=f",
	  "f", "/a", "raw", false },
	{ "-snapshot -blockdev file,node-name=f,filename=/a",
	  "-snapshot -blockdev node-name=f," CLIENT("", "0"), "f", "/a", "raw", false },
};

static void check_disk(size_t i)
{
	char want[4096];
	struct setup s;
	char *text;

	run(&s, disks[i].line, "");
	CHECK_EQ(s.cmd->problem_count, 0);
	CHECK_EQ(s.cmd->disk_count, 1);
	CHECK_STR(s.cmd->disk[0].id, disks[i].id);
	CHECK_STR(s.cmd->disk[0].location, disks[i].location);
	CHECK_STR(s.cmd->disk[0].format, disks[i].format);
	CHECK_EQ(s.cmd->disk[0].is_direct, disks[i].is_direct);
	text = rendered(s.cmd);
	(void)snprintf(want, sizeof(want), "qemu -nodefaults %s -object ", disks[i].becomes);
	if (strncmp(text, want, strlen(want)) != 0)
		CHECK_STR(text, want);
	free(text);
	done(&s);
}

TEST(disks_become_exports)
{
	for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++)
		check_disk(i);
}

static const char *const untouched[] = {
	"-drive file=/a.iso,media=cdrom",
	"-drive file=/a.img,readonly=on",
	"-drive file=/a.img,read-only=on,if=none,id=d",
	"-drive if=none,id=empty",
	"-drive file=null-co://,if=virtio,id=d",
	"-drive driver=raw,file.driver=null-co,file.size=1M,id=d",
	"-cdrom /a.iso",
	"-blockdev file,node-name=f,filename=/a,read-only=on",
	"-blockdev null-co,node-name=f",
	"-blockdev file,node-name=f,filename=/a -blockdev qcow2,node-name=q,file=f,read-only=on",
	"-blockdev https,node-name=h,url=https://x/y,read-only=on",
};

TEST(what_is_not_written_to_stays)
{
	char want[1024];
	struct setup s;
	char *text;

	for (size_t i = 0; i < sizeof(untouched) / sizeof(untouched[0]); i++) {
		run(&s, untouched[i], "");
		CHECK_EQ(s.cmd->problem_count, 0);
		CHECK_EQ(s.cmd->disk_count, 0);
		text = rendered(s.cmd);
		(void)snprintf(want, sizeof(want), "qemu -nodefaults %s -object ", untouched[i]);
		CHECK_CONTAINS(text, want);
		free(text);
		done(&s);
	}
}

TEST(several_disks)
{
	struct setup s;
	char *text;

	run(&s,
	    "-blockdev file,node-name=b,filename=/b -drive file=/a,format=raw,if=virtio -drive "
	    "file=/c,format=qcow2,if=virtio,id=c -drive file=/d,format=raw",
	    "");
	CHECK_EQ(s.cmd->problem_count, 0);
	CHECK_EQ(s.cmd->disk_count, 4);
	CHECK_STR(s.cmd->disk[0].id, "drive0");
	CHECK_STR(s.cmd->disk[1].id, "c");
	CHECK_STR(s.cmd->disk[2].id, "drive1");
	CHECK_STR(s.cmd->disk[3].id, "b");
	text = rendered(s.cmd);
	CHECK_CONTAINS(
		text,
		"-blockdev node-name=b," CLIENT("", "3") " -drive format=raw,if=virtio," CLIENT(
			"file.",
			"0") " -drive format=qcow2,if=virtio,id=c," CLIENT("file.",
									   "1") " -drive "
										"format="
										"raw," CLIENT("file"
											      ".",
											      "2"));
	free(text);
	done(&s);
}

TEST(not_more_disks_than_the_wire_can_name)
{
	char line[4096] = "";
	struct setup s;
	size_t n = 0;

	for (int i = 0; i <= HF_WIRE_DISKS_MAX; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "-drive file=/%d,format=raw ", i);
	run(&s, line, "");
	CHECK_EQ(s.cmd->disk_count, HF_WIRE_DISKS_MAX);
	CHECK_EQ(s.cmd->refused_count, 1);
	CHECK_CONTAINS(s.cmd->problem[0].text,
		       "disk 'drive16': it is one too many: up to 16 disks can be protected");
	done(&s);
}

static const struct {
	const char *line;
	const char *id;
	const char *reason;
} refused[] = {
	{ "-drive file=/a.img", "drive0", "add format=raw or format=qcow2" },
	{ "-drive file=/a,read-only=off,id=d", "d", "its format is not stated" },
	{ "-hda /a.img", "hda",
	  "write it as -drive file=/a.img,format=raw,index=0,media=disk (or format=qcow2)" },
	{ "/a.img", "hda", "-drive file=/a.img,format=raw,index=0" },
	{ "-sd /a", "sd", "if=sd" },
	{ "-fdb /a", "fdb", "if=floppy,index=1" },
	{ "-pflash /a", "pflash", "if=pflash" },
	{ "-hda /a -snapshot", "hda", "temporary file" },
	{ "-snapshot -drive file=/a,format=raw,id=d", "d", "temporary file" },
	{ "-drive file=/a,format=raw,id=d,snapshot=on", "d", "make it read-only" },
	{ "-drive file=/a,format=vmdk,id=d", "d", "of format vmdk cannot be protected" },
	{ "-blockdev luks,node-name=l,file.driver=file,file.filename=/a", "l", "of format luks" },
	{ "-drive file=fat:rw:/x,format=raw,id=d", "d",
	  "fat: is not a file, block device or NBD export" },
	{ "-drive file=rbd:p/i,format=raw,id=d", "d", "rbd: is not" },
	{ "-drive file=https://x/y,format=raw,id=d", "d", "https: is not" },
	{ "-drive 'file=json:{\"driver\":\"file\"},format=raw,id=d'", "d",
	  "write it as -blockdev" },
	{ "-drive file=nbd:h:1:exportname=x,format=raw,id=d", "d", "nbd://HOST:PORT/EXPORT" },
	{ "-drive file=nbds://h/x,format=raw,id=d", "d", "does not read the form" },
	{ "-drive file=,format=raw,id=d", "d", "is empty" },
	{ "-drive file=/dev/fdset/1,format=raw,id=d", "d", "name it by its path" },
	{ "-drive driver=qcow2,file.driver=gluster,id=d", "d", "gluster is not" },
	{ "-drive driver=qcow2,id=d,file.cache.direct=on", "d", "driver= of a node" },
	{ "-drive driver=qcow2,id=d", "d", "its file= is missing" },
	{ "-drive driver=file,id=d", "d", "its filename= is missing" },
	{ "-blockdev vvfat,node-name=v,dir=/x,rw=on", "v", "vvfat is not" },
	{ "-blockdev quorum,node-name=v,children.0=a", "v", "what the driver quorum does" },
	{ "-blockdev raw,node-name=r,file=x", "r", "a node 'x', and there is none" },
	{ "-blockdev raw,node-name=r,file=r -device ide-hd,drive=r", "r", "too many nodes" },
	{ "-blockdev node-name=x,filename=ssh://h/x", "x", "ssh: is not" },
	{ "-blockdev node-name=x", "x", "the driver= of a node" },
	{ "-blockdev nbd,node-name=n,server.type=vsock", "n", "inet or unix" },
	{ "-blockdev nbd,node-name=n,server.type=inet", "n", "where its server is" },
	{ "-blockdev nbd,node-name=n,server.type=unix,server.path=/s,tls-creds=t", "n", "TLS" },
	{ "-blockdev qcow2,node-name=q,data-file.driver=file,file.driver=file,file.filename=/a",
	  "q", "data file of its own" },
	{ "-blockdev '{\"driver\":\"raw\",\"node-name\":\"r\",\"file.driver\":\"file\","
	  "\"file.filename\":\"/a\"}'",
	  "r", "members of JSON have no dots" },
	{ "-drive file=/a,format=raw,id=.d", ".d", "give it another id" },
	{ "-drive file=/a,format=raw,id=x -drive file=/a,format=raw,id=d", "d",
	  "another disk has the same image" },
	{ "-drive file=/a,format=raw,id=drive0 -drive file=/b,format=raw", "drive0",
	  "another disk has this id" },
	/* Inside of an option there may be another disk. */
	{ "-blockdev qcow2,node-name=q,file.driver=file,file.filename=/a,backing.driver=file,"
	  "backing.filename=/b,backing.node-name=d -device ide-hd,drive=d",
	  "d", "has another disk in it" },
};

static void check_refused(size_t i)
{
	const struct hf_cmdline_fds fds = { .disk_socket = "/run/d" };
	char start[128];
	char **words = NULL;
	struct setup s;
	char *text = NULL;

	run(&s, refused[i].line, "");
	CHECK_EQ(s.cmd->refused_count, 1);
	CHECK_EQ(hf_cmdline_refusal(s.cmd, &text), 0);
	(void)snprintf(start, sizeof(start), "disk '%s': ", refused[i].id);
	CHECK_CONTAINS(text, start);
	CHECK_CONTAINS(text, refused[i].reason);
	CHECK_CONTAINS(text, "or let it through with --unprotected");
	CHECK_EQ(hf_cmdline_render(s.cmd, &fds, &words, &s.err), -EPERM);
	free(text);
	done(&s);
}

TEST(what_cannot_be_protected_is_refused)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		check_refused(i);
}

static void check_let_through(const char *line, const char *id)
{
	char want[1024];
	struct setup s;
	char *text;

	run(&s, line, id);
	CHECK_EQ(s.cmd->refused_count, 0);
	CHECK_EQ(s.cmd->problem_count, 1);
	CHECK(s.cmd->problem[0].is_passed);
	CHECK_EQ(s.cmd->disk_count, 0);
	text = rendered(s.cmd);
	(void)snprintf(want, sizeof(want), "qemu -nodefaults %s -object ", line);
	CHECK_CONTAINS(text, want);
	free(text);
	done(&s);
}

TEST(one_may_be_let_through)
{
	check_let_through("-drive file=/a.img,format=raw,id=d", "d");
	check_let_through("-drive file=/a.img,if=virtio", "drive0");
	check_let_through("-hda /a.img", "hda");
	check_let_through("-hda /a.img -snapshot", "hda");
	check_let_through(
		"-blockdev file,node-name=f,filename=/a -blockdev qcow2,node-name=q,file=f", "q");
}

TEST(commands_past_the_disk_are_refused)
{
	struct setup s;

	run(&s,
	    "-blockdev host_device,node-name=d,filename=/dev/sdb -device scsi-block,drive=d,id=x",
	    "");
	CHECK_EQ(s.cmd->refused_count, 1);
	CHECK_CONTAINS(s.cmd->problem[0].text, "device 'x': the guest's commands go to the host's");
	done(&s);
}

TEST(what_changes_is_said)
{
	struct setup s;
	char *notes;

	run(&s,
	    "-drive file=/a,format=raw,id=d,aio=native -blockdev file,node-name=f,filename=/b,"
	    "locking=off",
	    "");
	notes = join(s.cmd->notes);
	CHECK_CONTAINS(notes, "disk 'd': becomes NBD export disk0: holdfast opens /a itself");
	CHECK_CONTAINS(notes, "disk 'd': aio=native is left out");
	CHECK_CONTAINS(notes, "disk 'f': becomes NBD export disk1: holdfast opens /b itself");
	CHECK_CONTAINS(notes, "disk 'f': locking=off is left out");
	CHECK_STR(s.cmd->disk[0].option, "-drive file=/a,format=raw,id=d,aio=native");
	free(notes);
	done(&s);
}

TEST(disks_need_somebody_who_serves_them)
{
	const struct hf_cmdline_fds fds = { .qmp = 10, .ram = 11 };
	char **words = NULL;
	struct setup s;

	run(&s, "-drive file=/a,format=raw,id=d", "");
	CHECK_EQ(hf_cmdline_render(s.cmd, &fds, &words, &s.err), -EINVAL);
	CHECK_STR(s.err.text, "disk 'd': nobody serves it");
	CHECK(words == NULL);
	done(&s);
}
