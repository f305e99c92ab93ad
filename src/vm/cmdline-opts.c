/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Measured, not copied: each name was tried on QEMU 7.2 and 10.0 (x86_64) as the last word of
 * "-version -NAME": QEMU says of it "requires an argument" or "invalid option", or goes on.
 */
#include "vm/cmdline-opts.h"

#include <stdlib.h>
#include <string.h>

#define INHERITED "passed on: QEMU opens its memory and sockets before that"

#define FLAG(n, k)                                                                                 \
	{                                                                                          \
		.name = (n), .kind = HF_OPT_##k                                                    \
	}
#define WORD(n, k)                                                                                 \
	{                                                                                          \
		.name = (n), .kind = HF_OPT_##k, .has_arg = true                                   \
	}
#define KEYS(n, k, i)                                                                              \
	{                                                                                          \
		.name = (n), .kind = HF_OPT_##k, .has_arg = true, .is_keyval = true,               \
		.implied = (i)                                                                     \
	}
#define TEXT(n, k, a, t)                                                                           \
	{                                                                                          \
		.name = (n), .kind = HF_OPT_##k, .has_arg = (a), .text = (t)                       \
	}

/* Sorted by strcmp(), so that it can be searched by halves; a test checks that. */
static const struct hf_cmdline_opt opts[] = {
	WORD("D", PLAIN),
	WORD("L", PLAIN),
	KEYS("M", MACHINE, "type"),
	FLAG("S", PAUSED),
	WORD("accel", PLAIN),
	WORD("acpitable", PLAIN),
	WORD("action", PLAIN),
	WORD("add-fd", PLAIN),
	WORD("append", PLAIN),
	FLAG("async-teardown", PLAIN),
	WORD("audio", PLAIN),
	FLAG("audio-help", PLAIN),
	WORD("audiodev", PLAIN),
	WORD("bios", PLAIN),
	KEYS("blockdev", BLOCKDEV, "driver"),
	WORD("boot", PLAIN),
	WORD("cdrom", PLAIN),
	KEYS("chardev", CHARDEV, "backend"),
	TEXT("chroot", NOTED, true, INHERITED),
	WORD("compat", PLAIN),
	WORD("cpu", CPU),
	WORD("d", PLAIN),
	TEXT("daemonize", REFUSED, false,
	     "QEMU must stay a child of its keeper; start the keeper with --detach instead"),
	WORD("debugcon", PLAIN),
	KEYS("device", DEVICE, "driver"),
	WORD("dfilter", PLAIN),
	WORD("display", PLAIN),
	KEYS("drive", DRIVE, NULL),
	WORD("dtb", PLAIN),
	WORD("dump-vmstate", PLAIN),
	WORD("echr", PLAIN),
	FLAG("enable-kvm", PLAIN),
	FLAG("enable-sync-profile", PLAIN),
	WORD("fda", DISK_FILE),
	WORD("fdb", DISK_FILE),
	KEYS("fsdev", FILES, "fsdriver"),
	FLAG("full-screen", PLAIN),
	WORD("fw_cfg", PLAIN),
	WORD("g", PLAIN),
	WORD("gdb", PLAIN),
	WORD("global", PLAIN),
	FLAG("h", PLAIN),
	WORD("hda", DISK_FILE),
	WORD("hdb", DISK_FILE),
	WORD("hdc", DISK_FILE),
	WORD("hdd", DISK_FILE),
	FLAG("help", PLAIN),
	WORD("icount", PLAIN),
	TEXT("incoming", REFUSED, true, "holdfast itself decides where the guest state comes from"),
	WORD("initrd", PLAIN),
	WORD("iscsi", PLAIN),
	FLAG("jitdump", PLAIN),
	WORD("k", PLAIN),
	WORD("kernel", PLAIN),
	WORD("loadvm", LOADVM),
	KEYS("m", MEMORY, "size"),
	KEYS("machine", MACHINE, "type"),
	WORD("mem-path", MEM_PATH),
	FLAG("mem-prealloc", MEM_PREALLOC),
	WORD("mon", PLAIN),
	WORD("monitor", PLAIN),
	WORD("msg", PLAIN),
	WORD("mtdblock", DISK_FILE),
	WORD("name", PLAIN),
	KEYS("net", NET, "type"),
	KEYS("netdev", NETDEV, "type"),
	KEYS("nic", NIC, "type"),
	FLAG("no-acpi", PLAIN),
	FLAG("no-fd-bootchk", PLAIN),
	FLAG("no-hpet", PLAIN),
	FLAG("no-reboot", PLAIN),
	FLAG("no-shutdown", PLAIN),
	FLAG("no-user-config", PLAIN),
	FLAG("nodefaults", NODEFAULTS),
	FLAG("nographic", PLAIN),
	KEYS("numa", NUMA, "type"),
	KEYS("object", OBJECT, "qom-type"),
	FLAG("old-param", PLAIN),
	FLAG("one-insn-per-tb", PLAIN),
	FLAG("only-migratable", PLAIN),
	WORD("option-rom", PLAIN),
	WORD("overcommit", PLAIN),
	WORD("parallel", PLAIN),
	FLAG("perfmap", PLAIN),
	WORD("pflash", DISK_FILE),
	WORD("pidfile", PLAIN),
	WORD("plugin", PLAIN),
	FLAG("portrait", PLAIN),
	TEXT("preconfig", REFUSED, false,
	     "QEMU would wait for commands before it makes the machine; leave it out"),
	WORD("prom-env", PLAIN),
	WORD("qmp", PLAIN),
	WORD("qmp-pretty", PLAIN),
	WORD("qtest", PLAIN),
	WORD("qtest-log", PLAIN),
	TEXT("readconfig", REFUSED, true,
	     "it reads options from a file, where holdfast cannot check them; write them here"),
	WORD("rotate", PLAIN),
	WORD("rtc", PLAIN),
	TEXT("run-with", NOTED, true, INHERITED),
	TEXT("runas", NOTED, true, INHERITED),
	FLAG("s", PLAIN),
	WORD("sandbox", PLAIN),
	WORD("sd", DISK_FILE),
	WORD("seed", PLAIN),
	FLAG("semihosting", PLAIN),
	WORD("semihosting-config", PLAIN),
	WORD("serial", PLAIN),
	WORD("set", SET),
	WORD("shim", PLAIN),
	FLAG("singlestep", PLAIN),
	WORD("smbios", PLAIN),
	WORD("smp", PLAIN),
	FLAG("snapshot", SNAPSHOT),
	WORD("spice", PLAIN),
	WORD("tpmdev", PLAIN),
	WORD("trace", PLAIN),
	FLAG("usb", PLAIN),
	WORD("usbdevice", PLAIN),
	WORD("uuid", PLAIN),
	FLAG("version", PLAIN),
	WORD("vga", PLAIN),
	KEYS("virtfs", FILES, "fsdriver"),
	WORD("vnc", PLAIN),
	WORD("watchdog-action", PLAIN),
	FLAG("win2k-hack", PLAIN),
	FLAG("xen-attach", PLAIN),
	WORD("xen-domid", PLAIN),
	FLAG("xen-domid-restrict", PLAIN),
};

const struct hf_cmdline_opt hf_cmdline_opt_image = { .name = "hda", .kind = HF_OPT_DISK_FILE };

size_t hf_cmdline_opt_count(void)
{
	return sizeof(opts) / sizeof(opts[0]);
}

const struct hf_cmdline_opt *hf_cmdline_opt_at(size_t i)
{
	return &opts[i];
}

static int compare(const void *key, const void *opt)
{
	return strcmp(key, ((const struct hf_cmdline_opt *)opt)->name);
}

const struct hf_cmdline_opt *hf_cmdline_opt_find(const char *name)
{
	return bsearch(name, opts, sizeof(opts) / sizeof(opts[0]), sizeof(opts[0]), compare);
}
