/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../tests/test.h"

#include <errno.h>

#include "codec/wire-msg.h"
#include "codec/words.h"
#include "vm/cmdline-opts.h"
#include "vm/cmdline.h"

#define M (UINT64_C(1) << 20)
#define ADDED_QMP " -chardev socket,id=holdfast-qmp,fd=10 -mon chardev=holdfast-qmp,mode=control"
#define ADDED_RAM(size)                                                                            \
	" -object memory-backend-file,id=holdfast-ram,size=" size                                  \
	",mem-path=/proc/self/fd/11,share=on"                                                      \
	" -machine memory-backend=holdfast-ram,suppress-vmdesc=on"

/* /hp-* is a hugetlbfs, /shm is in memory, /gone is not there, all else is on a disk. */
static int probe(const char *path, uint64_t *ret_page_bytes)
{
	*ret_page_bytes = strncmp(path, "/hp-1g", 6) == 0   ? 1024 * M
			  : strncmp(path, "/hp-2m", 6) == 0 ? 2 * M
							    : 0;
	if (strncmp(path, "/gone", 5) == 0)
		return -ENOENT;
	return *ret_page_bytes || strncmp(path, "/shm", 4) == 0 ? 0 : HF_CMDLINE_E_ON_DISK;
}

struct setup {
	char **argv;
	char **hold;
	char **unprotected;
	struct hf_cmdline *cmd;
	struct hf_err err;
	int result;
};

static char **split(const char *text)
{
	char **words = NULL;
	size_t offset;

	CHECK_EQ(hf_words_split(text, &words, &offset, NULL), 0);
	return words;
}

static void run(struct setup *s, const char *line, const char *hold, const char *unprotected,
		bool is_standby)
{
	struct hf_cmdline_want want = { .is_standby = is_standby, .probe = probe };

	*s = (struct setup){ .argv = split(line),
			     .hold = split(hold),
			     .unprotected = split(unprotected) };
	want.hold_net = s->hold;
	want.unprotected = s->unprotected;
	s->result = hf_cmdline_parse(s->argv, &want, &s->cmd, &s->err);
	if (s->result < 0)
		CHECK(s->cmd == NULL);
}

static void done(struct setup *s)
{
	hf_cmdline_free(s->cmd);
	hf_words_free(s->argv);
	hf_words_free(s->hold);
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

static void check_rendered(const struct hf_cmdline *cmd, const char *want)
{
	static const int nets[] = { 20, 21, 22 };
	const struct hf_cmdline_fds fds = {
		.qmp = 10, .ram = 11, .net = nets, .disk_socket = "/run/d"
	};
	char **words = NULL;
	struct hf_err err = { "" };
	char *text;

	(void)!hf_cmdline_render(cmd, &fds, &words, &err);
	CHECK_STR(err.text, "");
	text = join(words);
	CHECK_STR(text, want);
	free(text);
	hf_words_free(words);
}

static void check_becomes(const char *line, const char *hold, const char *unprotected,
			  const char *want)
{
	struct setup s;

	run(&s, line, hold, unprotected, false);
	CHECK_STR(s.err.text, "");
	CHECK_EQ(s.result, 0);
	check_rendered(s.cmd, want);
	done(&s);
}

/* The line is readable, but refused, and these are the words of it. */
static void check_refused(const char *line, const char *hold, const char *unprotected,
			  const char *what)
{
	struct hf_cmdline_fds fds = { -1, -1, NULL, NULL };
	char **words = NULL;
	char *text = NULL;
	struct setup s;

	run(&s, line, hold, unprotected, false);
	CHECK_STR(s.err.text, "");
	CHECK_EQ(s.result, 0);
	CHECK_EQ(hf_cmdline_refusal(s.cmd, &text), 0);
	CHECK_CONTAINS(text, what);
	CHECK(s.cmd->refused_count > 0);
	CHECK_EQ(hf_cmdline_render(s.cmd, &fds, &words, &s.err), -EPERM);
	CHECK(words == NULL);
	free(text);
	done(&s);
}

static void check_error(const char *line, const char *hold, const char *unprotected,
			const char *what)
{
	struct setup s;

	run(&s, line, hold, unprotected, false);
	CHECK_EQ(s.result, -EINVAL);
	CHECK_CONTAINS(s.err.text, what);
	done(&s);
}

TEST(smallest_line)
{
	check_becomes("qemu -nodefaults", "", "",
		      "qemu -nodefaults" ADDED_RAM("134217728") ADDED_QMP " -S");
	check_becomes("qemu --nodefaults -S -m 1G", "", "",
		      "qemu --nodefaults -S -m 1G" ADDED_RAM("1073741824") ADDED_QMP);
}

TEST(standby_waits_for_a_state)
{
	struct setup s;

	run(&s, "qemu -nodefaults", "", "", true);
	CHECK_EQ(s.result, 0);
	check_rendered(s.cmd,
		       "qemu -nodefaults" ADDED_RAM("134217728") ADDED_QMP " -incoming defer");
	done(&s);
	run(&s, "qemu -nodefaults -loadvm x", "", "", true);
	CHECK_EQ(s.cmd->refused_count, 1);
	CHECK_CONTAINS(s.cmd->problem[0].text, "takes its state from the other host");
	done(&s);
}

TEST(remembers_the_users_pause)
{
	struct setup s;

	run(&s, "qemu -nodefaults", "", "", false);
	CHECK(!s.cmd->is_paused);
	done(&s);
	run(&s, "qemu -nodefaults --S", "", "", false);
	CHECK(s.cmd->is_paused);
	done(&s);
}

static const struct {
	const char *line;
	uint64_t ram_bytes;
	uint64_t page_bytes;
	const char *part; /* of the rendered line */
} rams[] = {
	{ "-m 512", 512 * M, 0, "size=536870912,mem" },
	{ "-m 1.5G", 1536 * M, 0, "size=1610612736,mem" },
	{ "-m size=2g,maxmem=4g", 2048 * M, 0, "size=2147483648,mem" },
	{ "-m 1G -m slots=0", 1024 * M, 0, "size=1073741824,mem" },
	{ "-m 0", 128 * M, 0, "size=134217728,mem" },
	{ "-m 5000b", 8192, 0, "size=8192,mem" },
	{ "-m 1G -mem-path /hp-2m/x -mem-prealloc", 1024 * M, 2 * M,
	  "-m 1G -object "
	  "memory-backend-file,id=holdfast-ram,size=1073741824,prealloc=on,mem-path=/proc" },
	{ "-m 4G -mem-path /hp-1g", 4096 * M, 1024 * M, "size=4294967296,mem" },
	{ "-m 4G -mem-path /shm", 4096 * M, 0, "size=4294967296,mem" },
	{ "-machine q35,memory-backend=ram0 -object "
	  "memory-backend-memfd,id=ram0,size=1G,hugetlb=on",
	  1024 * M, 2 * M,
	  "-object memory-backend-file,id=ram0,size=1073741824,mem-path=/proc/self/fd/11,share=on "
	  "-m" },
	{ "-M memory-backend=a -object memory-backend-memfd,id=a,size=2G,hugetlb=on,hugetlbsize=1G,"
	  "prealloc=on,policy=bind,host-nodes=0 -m 2G",
	  2048 * M, 1024 * M,
	  "-object "
	  "memory-backend-file,id=a,size=2147483648,prealloc=on,policy=bind,host-nodes=0,mem-p" },
	{ "-machine memory-backend=x -machine memory-backend=pc.ram -object "
	  "memory-backend-ram,id=x,size=1M"
	  " -object "
	  "'{\"qom-type\":\"memory-backend-file\",\"id\":\"pc.ram\",\"mem-path\":\"/shm/a\","
	  "\"x-use-canonical-path-for-ramblock-id\":false,\"host-nodes\":[0,1],\"size\":1073741824}"
	  "'",
	  1024 * M, 0,
	  "id=pc.ram,size=1073741824,x-use-canonical-path-for-ramblock-id=off,host-nodes.0=0,"
	  "host-nodes.1=1,mem-path=" },
	{ "-m 1G -object memory-backend-ram,id=n0,size=1G,merge=off -numa node,memdev=n0", 1024 * M,
	  0, "-machine suppress-vmdesc=on" },
};

TEST(ram)
{
	static const int nets[] = { 20 };
	const struct hf_cmdline_fds fds = {
		.qmp = 10, .ram = 11, .net = nets, .disk_socket = "/run/d"
	};
	char line[1024];
	char **words;
	struct setup s;
	char *text;

	for (size_t i = 0; i < sizeof(rams) / sizeof(rams[0]); i++) {
		words = NULL;
		(void)snprintf(line, sizeof(line), "qemu -nodefaults %s", rams[i].line);
		run(&s, line, "", "", false);
		CHECK_STR(s.err.text, "");
		CHECK_EQ(s.cmd->ram_bytes, rams[i].ram_bytes);
		CHECK_EQ(s.cmd->page_bytes, rams[i].page_bytes);
		CHECK_EQ(hf_cmdline_render(s.cmd, &fds, &words, &s.err), 0);
		text = join(words);
		CHECK_CONTAINS(text, rams[i].part);
		CHECK(!strstr(text, "-mem-path") && !strstr(text, "-mem-prealloc"));
		free(text);
		hf_words_free(words);
		done(&s);
	}
}

TEST(page_size_can_be_asked_for)
{
	char **argv = split("qemu -nodefaults -m 2G");
	struct hf_cmdline_want want = { .page_bytes = 1024 * M };
	struct hf_cmdline *cmd = NULL;
	char **odd;

	CHECK_EQ(hf_cmdline_parse(argv, &want, &cmd, NULL), 0);
	CHECK_EQ(cmd->page_bytes, 1024 * M);
	CHECK_EQ(cmd->refused_count, 0);
	hf_cmdline_free(cmd);
	hf_words_free(argv);
	odd = split("qemu -nodefaults -m 1.5G");
	CHECK_EQ(hf_cmdline_parse(odd, &want, &cmd, NULL), 0);
	CHECK_EQ(cmd->refused_count, 1);
	CHECK_CONTAINS(cmd->problem[0].text, "does not divide into pages");
	hf_cmdline_free(cmd);
	hf_words_free(odd);
}

static const struct {
	const char *line;
	const char *reason;
} bad_rams[] = {
	{ "-m 2GiB", "'2GiB' is not a size" },
	{ "-m 99999T", "more than 64T" },
	{ "-m 1G,slots=4,maxmem=8G", "memory hot-plug is not tracked (slots=4)" },
	{ "-m 1G -mem-path /var/x", "'/var/x' is on a disk" },
	{ "-m 1G -mem-path /gone/x", "cannot tell what '/gone/x' lies on" },
	{ "-machine memory-backend=r",
	  "memory 'r': the machine's memory is to be this, but no -object" },
	{ "-machine memory-backend=r -object rng-random,id=r", "cannot be the guest's RAM" },
	{ "-machine memory-backend=r -object memory-backend-ram,id=r", "size=: it is missing" },
	{ "-machine memory-backend=r -object memory-backend-ram,id=r,size=0", "cannot be empty" },
	{ "-machine memory-backend=r -object memory-backend-ram,id=r,size=1G -m 2G",
	  "but -m says" },
	{ "-machine memory-backend=r -object memory-backend-file,id=r,size=1G,mem-path=/var/r",
	  "'/var/r' is on a disk" },
	{ "-machine memory-backend=r -object "
	  "memory-backend-file,id=r,size=1G,mem-path=/shm/r,pmem=on",
	  "persistent" },
	{ "-machine memory-backend=r -object memory-backend-ram,id=r,size=1G -mem-path /shm",
	  "does not take it together" },
	{ "-m 2G -object memory-backend-ram,id=a,size=1G -object memory-backend-ram,id=b,size=1G "
	  "-numa node,memdev=a -numa node,memdev=b",
	  "several nodes" },
	{ "-numa node,mem=512M", "given up" },
	{ "-machine q35,memory-encryption=sev0", "encrypts" },
	{ "-machine memory.size=2G", "give the memory with -m" },
	{ "-device pc-dimm,id=d0,memdev=x",
	  "memory 'd0': memory of a pc-dimm device is not tracked" },
	{ "-device '{\"driver\":\"virtio-mem-pci\",\"memdev\":\"x\"}'", "virtio-mem-pci device" },
};

TEST(ram_that_is_refused)
{
	char line[1024];

	for (size_t i = 0; i < sizeof(bad_rams) / sizeof(bad_rams[0]); i++) {
		(void)snprintf(line, sizeof(line), "qemu -nodefaults %s", bad_rams[i].line);
		check_refused(line, "", "", bad_rams[i].reason);
	}
	check_error("qemu -nodefaults -m 2GiB", "", "-m", "--unprotected -m: nothing of that id");
}

TEST(held_nets)
{
	struct setup s;

	run(&s,
	    "qemu -m 1G -netdev "
	    "tap,id=net0,ifname=tap0,script=no,downscript=no,vhost=off,vnet_hdr=on "
	    "-device virtio-net-pci,netdev=net0 -netdev bridge,id=net1 "
	    "-netdev '{\"type\":\"tap\",\"id\":\"net2\",\"br\":\"br7\"}' -netdev tap,id=net3",
	    "net3 net0 net1 net2", "", false);
	CHECK_STR(s.err.text, "");
	CHECK_EQ(s.cmd->refused_count, 0);
	CHECK_EQ(s.cmd->net_count, 4);
	CHECK_STR(s.cmd->net[0].id, "net0");
	CHECK_STR(s.cmd->net[0].ifname, "tap0");
	CHECK(!s.cmd->net[0].script && !s.cmd->net[0].downscript && !s.cmd->net[0].bridge);
	CHECK_STR(s.cmd->net[1].bridge, "br0");
	CHECK(!s.cmd->net[1].script && !s.cmd->net[1].ifname);
	CHECK_STR(s.cmd->net[2].bridge, "br7");
	CHECK(!s.cmd->net[2].script);
	CHECK_STR(s.cmd->net[3].script, "/etc/qemu-ifup");
	CHECK_STR(s.cmd->net[3].downscript, "/etc/qemu-ifdown");
	done(&s);
	check_becomes(
		"qemu -m 1G -netdev tap,id=a,ifname=t -device e1000,netdev=a -netdev tap,id=b",
		"a b", "",
		"qemu -m 1G -netdev stream,id=a,server=off,addr.type=fd,addr.str=20 "
		"-device e1000,netdev=a -netdev "
		"stream,id=b,server=off,addr.type=fd,addr.str=21" ADDED_RAM("1073741824") ADDED_QMP
		" -S");
}

static const struct {
	const char *line;
	const char *hold;
	const char *reason;
} bad_nets[] = {
	{ "", "", "netdev 'default-nic'" },
	{ "-netdev tap,id=n,vhost=on", "n", "takes frames past holdfast" },
	{ "-netdev tap,id=n,fd=7", "n", "cannot take over fd=" },
	{ "-netdev tap,id=n,queues=4", "n", "one queue" },
	{ "-netdev bridge,id=n,helper=/x", "n", "without a helper" },
	{ "-netdev tap,id=n,colour=red", "n", "does not know what 'colour=' should do" },
	{ "-netdev user,id=n", "n", "only netdevs of type tap and bridge can be held" },
	{ "-netdev user,id=n", "", "frames of type user cannot be held" },
	{ "-netdev tap,id=n", "", "hold them with --hold-net n" },
	{ "-netdev 'tap,id=a,,b'", "a,b", "QEMU does not take this id" },
	{ "-nic user", "", "netdev 'nic0': '-nic user' cannot be held" },
	{ "-nic none -nic tap,id=n,br=br0", "n",
	  "cannot be held in this form; write it as -netdev tap,id=" },
	{ "-net nic -net user", "", "netdev 'net1': '-net user' cannot be held" },
};

TEST(nets_that_are_refused)
{
	char line[512];

	for (size_t i = 0; i < sizeof(bad_nets) / sizeof(bad_nets[0]); i++) {
		(void)snprintf(line, sizeof(line), "qemu %s", bad_nets[i].line);
		check_refused(line, bad_nets[i].hold, "", bad_nets[i].reason);
	}
	check_error("qemu -nodefaults", "net0", "", "--hold-net net0: there is no -netdev");
	check_error("qemu -netdev tap,id=n", "n", "n", "one or the other");
}

TEST(not_more_nets_than_the_wire_can_name)
{
	char line[2048] = "qemu";
	char hold[256] = "";
	size_t n = strlen(line), h = 0;

	for (int i = 0; i <= HF_WIRE_NETDEVS_MAX; i++) {
		n += (size_t)snprintf(line + n, sizeof(line) - n, " -netdev tap,id=n%d", i);
		h += (size_t)snprintf(hold + h, sizeof(hold) - h, "n%d ", i);
	}
	check_refused(line, hold, "", "'n16' is one too many: up to 16 netdevs can be held");
}

TEST(nets_that_go_on)
{
	check_becomes("qemu -nic none", "", "",
		      "qemu -nic none" ADDED_RAM("134217728") ADDED_QMP " -S");
	check_becomes("qemu -netdev user,id=n", "", "n",
		      "qemu -netdev user,id=n" ADDED_RAM("134217728") ADDED_QMP " -S");
	check_becomes("qemu -smp 2", "", "default-nic",
		      "qemu -smp 2" ADDED_RAM("134217728") ADDED_QMP " -S");
	check_becomes("qemu -netdev hubport,id=h,hubid=0 -net nic,model=e1000", "", "",
		      "qemu -netdev hubport,id=h,hubid=0 -net nic,model=e1000" ADDED_RAM(
			      "134217728") ADDED_QMP " -S");
}

TEST(all_problems_are_listed)
{
	struct setup s;
	char *text = NULL;

	run(&s, "qemu -hda /a -hdb /b -netdev user,id=n -daemonize", "", "hdb", false);
	CHECK_EQ(s.cmd->problem_count, 4);
	CHECK_EQ(s.cmd->refused_count, 3);
	CHECK_EQ(hf_cmdline_refusal(s.cmd, &text), 0);
	CHECK_CONTAINS(text, "option '-daemonize': ");
	CHECK_CONTAINS(text, "disk 'hda': ");
	CHECK_CONTAINS(text, "netdev 'n': ");
	CHECK(!strstr(text, "hdb"));
	free(text);
	done(&s);
}

TEST(devices_and_options)
{
	check_refused("qemu -nodefaults -device vfio-pci,host=1:0.0", "", "",
		      "device 'vfio-pci': ");
	check_refused("qemu -nodefaults -device vhost-user-fs-pci,id=fs", "", "", "device 'fs': ");
	check_refused("qemu -nodefaults -virtfs local,path=/x,mount_tag=t,security_model=none", "",
		      "", "files 't': ");
	check_refused("qemu -nodefaults -incoming defer", "", "", "option '-incoming'");
	check_refused("qemu -nodefaults -readconfig x", "", "", "write them here");
	check_refused("qemu -nodefaults --preconfig", "", "", "option '--preconfig'");
	check_refused("qemu -nodefaults -set drive.d.readonly=off", "", "",
		      "behind holdfast's back");
	check_refused("qemu -nodefaults -chardev null,id=holdfast-qmp", "", "", "holdfast's own");
	check_becomes("qemu -nodefaults -set device.x.y=z -device vfio-pci,id=v", "", "v",
		      "qemu -nodefaults -set device.x.y=z -device vfio-pci,id=v" ADDED_RAM(
			      "134217728") ADDED_QMP " -S");
}

TEST(unreadable_lines)
{
	char *none[] = { NULL };
	const struct hf_cmdline_want want = { 0 };
	struct hf_cmdline *cmd = NULL;

	CHECK_EQ(hf_cmdline_parse(none, &want, &cmd, NULL), -EINVAL);
	check_error("-m 1G", "", "", "must begin with its program");
	check_error("qemu -nodefaults -m", "", "", "'-m', at the end");
	check_error("qemu --", "", "", "word 2");
	check_error("qemu -", "", "", "no option");
	check_error("qemu -device virtio-net-pci,=x", "", "",
		    "word 3 of QEMU's command line (after -device): ");
	check_error("qemu -device '{\"driver\":}'", "", "", "after -device");
	check_error("qemu -nodefaults", "", "disk0", "--unprotected disk0: nothing of that id");
}

TEST(unknown_options_pass)
{
	struct setup s;
	char *notes;

	run(&s, "qemu -nodefaults -brandnew x,y -other -m 1G", "", "", false);
	check_rendered(s.cmd, "qemu -nodefaults -brandnew x,y -other -m 1G" ADDED_RAM("1073741824")
				      ADDED_QMP " -S");
	notes = join(s.cmd->notes);
	CHECK_CONTAINS(
		notes,
		"-brandnew: not known to holdfast: passed on as it is, with its argument x,y");
	CHECK_CONTAINS(notes, "-other: not known");
	CHECK_CONTAINS(notes, "-S: added");
	free(notes);
	done(&s);
}

/* As libvirt 9 writes it, shortened only in repeated devices. */
static const char libvirt_line[] =
	"/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S "
	"-object "
	"'{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":\"/v/"
	"k.aes\"}' "
	"-blockdev '{\"driver\":\"file\",\"filename\":\"/usr/share/OVMF/OVMF_CODE_4M.fd\","
	"\"node-name\":\"libvirt-pflash0-storage\",\"auto-read-only\":true,\"discard\":\"unmap\"}' "
	"-blockdev "
	"'{\"node-name\":\"libvirt-pflash0-format\",\"read-only\":true,\"driver\":\"raw\","
	"\"file\":\"libvirt-pflash0-storage\"}' "
	"-machine pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram,"
	"pflash0=libvirt-pflash0-format -accel kvm -cpu host,migratable=on -m 4096 "
	"-object '{\"qom-type\":\"memory-backend-memfd\",\"id\":\"pc.ram\",\"share\":true,"
	"\"x-use-canonical-path-for-ramblock-id\":false,\"size\":4294967296}' "
	"-overcommit mem-lock=off -smp 2,sockets=2,cores=1,threads=1 -uuid "
	"2f4b3c1a-8d1e-4a53-b9ae-7e5d2f1c0a9b -display none -no-user-config -nodefaults "
	"-chardev socket,id=charmonitor,path=/v/monitor.sock,server=on,wait=off "
	"-mon chardev=charmonitor,id=monitor,mode=control -rtc base=utc,driftfix=slew "
	"-global kvm-pit.lost_tick_policy=delay -no-shutdown -boot strict=on "
	"-device "
	"'{\"driver\":\"pcie-root-port\",\"port\":16,\"chassis\":1,\"id\":\"pci.1\",\"bus\":\"pcie."
	"0\","
	"\"multifunction\":true,\"addr\":\"0x2\"}' "
	"-blockdev "
	"'{\"driver\":\"file\",\"filename\":\"/v/web.qcow2\",\"node-name\":\"libvirt-1-storage\","
	"\"auto-read-only\":true,\"discard\":\"unmap\"}' "
	"-blockdev '{\"node-name\":\"libvirt-1-format\",\"read-only\":false,\"driver\":\"qcow2\","
	"\"file\":\"libvirt-1-storage\",\"backing\":null}' "
	"-device '{\"driver\":\"virtio-blk-pci\",\"bus\":\"pci.1\",\"drive\":\"libvirt-1-format\","
	"\"id\":\"virtio-disk0\",\"bootindex\":1}' "
	"-netdev '{\"type\":\"tap\",\"ifname\":\"vnet0\",\"script\":\"no\",\"id\":\"hostnet0\"}' "
	"-device '{\"driver\":\"virtio-net-pci\",\"netdev\":\"hostnet0\",\"id\":\"net0\","
	"\"mac\":\"52:54:00:11:22:33\"}' "
	"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny "
	"-msg timestamp=on";

TEST(a_line_of_libvirt)
{
	static const int nets[] = { 20 };
	const struct hf_cmdline_fds fds = {
		.qmp = 10, .ram = 11, .net = nets, .disk_socket = "/run/d"
	};
	char **words = NULL;
	struct setup s;
	char *text;

	run(&s, libvirt_line, "hostnet0", "", false);
	CHECK_STR(s.err.text, "");
	CHECK_EQ(s.cmd->problem_count, 0);
	CHECK_EQ(s.cmd->refused_count, 0);
	CHECK_EQ(s.cmd->ram_bytes, 4096 * M);
	CHECK(s.cmd->is_paused);
	CHECK_EQ(hf_cmdline_render(s.cmd, &fds, &words, &s.err), 0);
	text = join(words);
	CHECK_CONTAINS(text, "-m 4096 -object memory-backend-file,id=pc.ram,size=4294967296,"
			     "x-use-canonical-path-for-ramblock-id=off,mem-path=/proc/self/fd/11,"
			     "share=on -overcommit");
	CHECK_CONTAINS(text,
		       "-netdev stream,id=hostnet0,server=off,addr.type=fd,addr.str=20 -device");
	CHECK_CONTAINS(text, "\"backing\":null}");
	CHECK_EQ(s.cmd->disk_count, 1);
	CHECK_STR(s.cmd->disk[0].id, "libvirt-1-format");
	CHECK_STR(s.cmd->disk[0].location, "/v/web.qcow2");
	CHECK_STR(s.cmd->disk[0].format, "qcow2");
	CHECK_CONTAINS(text,
		       "-blockdev {\"node-name\":\"libvirt-1-storage\",\"auto-read-only\":true,"
		       "\"discard\":\"unmap\",\"driver\":\"nbd\",\"server\":{\"type\":\"unix\","
		       "\"path\":\"/run/d\"},\"export\":\"disk0\","
		       "\"reconnect-delay\":4294967295}");
	CHECK_CONTAINS(text, "/usr/share/OVMF/OVMF_CODE_4M.fd");
	CHECK_CONTAINS(text, "-machine memory-backend=pc.ram,suppress-vmdesc=on");
	free(text);
	hf_words_free(words);
	done(&s);
}

/* As quickemu writes it. */
TEST(a_line_of_quickemu)
{
	struct setup s;
	char *text = NULL;

	run(&s,
	    "qemu-system-x86_64 -name ubuntu,process=ubuntu -pidfile u.pid -enable-kvm "
	    "-machine q35,smm=off,vmport=off -no-hpet -global kvm-pit.lost_tick_policy=discard "
	    "-cpu host,kvm=on,+invtsc -smp cores=2,threads=1,sockets=1 -m 4G -device "
	    "virtio-balloon "
	    "-display none -vga none -device virtio-vga,xres=1280,yres=800 "
	    "-device virtio-rng-pci,rng=rng0 -object rng-random,id=rng0,filename=/dev/urandom "
	    "-device qemu-xhci,id=spicepass -chardev spicevmc,id=usbredirchardev1,name=usbredir "
	    "-device virtio-net,netdev=nic "
	    "-netdev user,hostname=u,hostfwd=tcp::22220-:22,smb=/home/x/Public,id=nic "
	    "-drive if=pflash,format=raw,unit=0,file=/usr/share/OVMF/OVMF_CODE.fd,readonly=on "
	    "-drive if=pflash,format=raw,unit=1,file=u/OVMF_VARS.fd "
	    "-drive media=cdrom,index=0,file=u/ubuntu.iso "
	    "-device virtio-blk-pci,drive=SystemDisk "
	    "-drive id=SystemDisk,if=none,format=qcow2,file=u/disk.qcow2 "
	    "-fsdev local,id=fsdev0,path=/home/x/Public,security_model=mapped-xattr "
	    "-device virtio-9p-pci,fsdev=fsdev0,mount_tag=Public "
	    "-monitor unix:u.monitor,server,nowait -serial unix:u.serial,server,nowait",
	    "", "", false);
	CHECK_STR(s.err.text, "");
	CHECK_EQ(s.cmd->refused_count, 2);
	CHECK_EQ(hf_cmdline_refusal(s.cmd, &text), 0);
	CHECK_CONTAINS(text, "files 'fsdev0'");
	CHECK_CONTAINS(text, "netdev 'nic': frames of type user");
	CHECK_EQ(s.cmd->disk_count, 2);
	CHECK_STR(s.cmd->disk[0].id, "drive1");
	CHECK_STR(s.cmd->disk[0].location, "u/OVMF_VARS.fd");
	CHECK_STR(s.cmd->disk[1].id, "SystemDisk");
	free(text);
	done(&s);
}

TEST(option_table_is_sorted)
{
	static const char *const flags[] = { "S", "nodefaults", "snapshot", "usb", "xen-attach" };
	static const char *const words[] = {
		"D", "M", "m", "netdev", "xen-domid", "fw_cfg", "vnc"
	};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		CHECK(hf_cmdline_opt_find(flags[i]));
		CHECK(!hf_cmdline_opt_find(flags[i])->has_arg);
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		CHECK(hf_cmdline_opt_find(words[i]));
		CHECK(hf_cmdline_opt_find(words[i])->has_arg);
	}
	for (size_t i = 1; i < hf_cmdline_opt_count(); i++)
		CHECK(strcmp(hf_cmdline_opt_at(i - 1)->name, hf_cmdline_opt_at(i)->name) < 0);
	CHECK(!hf_cmdline_opt_find(""));
	CHECK(!hf_cmdline_opt_find("hda1"));
}

TEST(free_takes_null)
{
	hf_cmdline_free(NULL);
}
