/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "cluster/hello.h"

static struct hf_wire_hello plain(enum hf_wire_role role)
{
	struct hf_wire_hello h = {
		.version_min = 1,
		.version_max = 3,
		.role = (uint8_t)role,
		.instance = { .hi = 7, .lo = role },
		.ram_bytes = UINT64_C(256) << 20,
		.page_bytes = HF_WIRE_PAGE_BYTES,
		.vcpus = 2,
		.holdfast = "0.1.0",
		.vm = "web",
		.machine = "pc-q35-7.2",
		.qemu = "7.2.22 (Debian 1:7.2+dfsg-7)",
		.lockspace = "",
		.devices = { .n = 3,
			     .item = { "net0 virtio-net-pci", "net0 virtio-net-pci", "v vga" } },
		.netdevs = { .n = 2, .item = { "lan", "wan" } },
		.disks = { .n = 2, .item = { "root replicated raw 1048576", "d shared qcow2 9" } },
	};

	return h;
}

/* Checked from both sides, which have to agree, and the sentence must fit into a REFUSE. */
static void check_refused(const struct hf_wire_hello *a, const struct hf_wire_hello *b,
			  enum hf_wire_refusal want, const char *first, const char *second)
{
	enum hf_wire_refusal code = 0;
	struct hf_err err;
	struct hf_wire_msg msg = { .type = HF_WIRE_REFUSE };
	uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	size_t len;

	CHECK_EQ(hf_hello_check(b, a, &code, &err), HF_HELLO_REFUSED);
	CHECK_EQ(code, want);
	code = 0;
	CHECK_EQ(hf_hello_check(a, b, &code, &err), HF_HELLO_REFUSED);
	CHECK_EQ(code, want);
	CHECK_CONTAINS(err.text, first);
	CHECK_CONTAINS(err.text, second);
	CHECK(strlen(err.text) < HF_WIRE_REASON_TEXT_MAX);
	msg.reason.code = (uint32_t)code;
	msg.reason.text = err.text;
	CHECK_EQ(hf_wire_encode(&msg, buf, sizeof(buf), &len, &err), 0);
}

static void check_fits(const struct hf_wire_hello *a, const struct hf_wire_hello *b)
{
	enum hf_wire_refusal code = 99;
	struct hf_err err = { "" };

	CHECK_EQ(hf_hello_check(a, b, &code, &err), 0);
	CHECK_EQ(hf_hello_check(b, a, &code, &err), 0);
	CHECK_EQ(code, 99);
	CHECK_STR(err.text, "");
}

TEST(equal_ones_fit)
{
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY), b = plain(HF_WIRE_ROLE_STANDBY);

	check_fits(&a, &b);
}

TEST(what_may_differ)
{
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY), b = plain(HF_WIRE_ROLE_STANDBY);

	b.version_min = 3;
	b.version_max = 9;
	b.qemu = "7.2.1";
	b.holdfast = "9.9";
	b.state = HF_WIRE_VM_WAITING;
	b.session.hi = 5;
	b.epoch = 6;
	/* The same devices, listed in another order. */
	b.devices.item[0] = "v vga";
	b.devices.item[2] = "net0 virtio-net-pci";
	check_fits(&a, &b);
}

TEST(two_primaries_are_not_its_matter)
{
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY), b = plain(HF_WIRE_ROLE_PRIMARY);

	b.instance.hi = 8;
	check_fits(&a, &b);
	b.vcpus = 4;
	check_refused(&a, &b, HF_WIRE_REFUSE_SIZE, "one side has 2", "the other has 4");
}

/* Each row changes one thing in the standby's HELLO. */
static void set_version(struct hf_wire_hello *h)
{
	h->version_min = 4;
	h->version_max = 6;
}
static void set_vm(struct hf_wire_hello *h)
{
	h->vm = "db";
}
static void set_self(struct hf_wire_hello *h)
{
	h->instance.lo = HF_WIRE_ROLE_PRIMARY;
}
static void set_ram(struct hf_wire_hello *h)
{
	h->ram_bytes += 4096;
}
static void set_page(struct hf_wire_hello *h)
{
	h->page_bytes = 65536;
}
static void set_vcpus(struct hf_wire_hello *h)
{
	h->vcpus = 4;
}
static void set_machine(struct hf_wire_hello *h)
{
	h->machine = "pc-i440fx-7.2";
}
static void set_qemu_minor(struct hf_wire_hello *h)
{
	h->qemu = "7.20.2";
}
static void set_qemu_major(struct hf_wire_hello *h)
{
	h->qemu = "17.2.22";
}
static void set_qemu_odd(struct hf_wire_hello *h)
{
	h->qemu = "unknown";
}
static void set_device_more(struct hf_wire_hello *h)
{
	h->devices.item[h->devices.n++] = "usb0 qemu-xhci";
}
static void set_device_less(struct hf_wire_hello *h)
{
	h->devices.n = 2;
}
static void set_device_twice(struct hf_wire_hello *h)
{
	h->devices.item[0] = "v vga";
}
static void set_netdev_order(struct hf_wire_hello *h)
{
	h->netdevs.item[0] = "wan";
	h->netdevs.item[1] = "lan";
}
static void set_netdev_less(struct hf_wire_hello *h)
{
	h->netdevs.n = 1;
}
static void set_netdev_more(struct hf_wire_hello *h)
{
	h->netdevs.item[h->netdevs.n++] = "dmz";
}
static void set_disk_less(struct hf_wire_hello *h)
{
	h->disks.n = 1;
}
static void set_disk_more(struct hf_wire_hello *h)
{
	h->disks.item[h->disks.n++] = "swap shared raw 4096";
}
static void set_disk_order(struct hf_wire_hello *h)
{
	h->disks.item[0] = "d shared qcow2 9";
	h->disks.item[1] = "root replicated raw 1048576";
}
static void set_disk_layout(struct hf_wire_hello *h)
{
	h->disks.item[1] = "d replicated qcow2 9";
}
static void set_disk_format(struct hf_wire_hello *h)
{
	h->disks.item[1] = "d shared raw 9";
}
static void set_disk_size(struct hf_wire_hello *h)
{
	h->disks.item[0] = "root replicated raw 1048577";
}
static void set_disk_longer(struct hf_wire_hello *h)
{
	h->disks.item[1] = "d shared qcow2 90";
}
static void set_disk_odd(struct hf_wire_hello *h)
{
	h->disks.item[1] = "d shared";
}

static const struct {
	void (*change)(struct hf_wire_hello *h);
	enum hf_wire_refusal code;
	const char *first, *second;
	bool for_inquirer; /* refused also when it only asks */
} rows[] = {
	{ set_version, HF_WIRE_REFUSE_VERSION, "1 to 3", "4 to 6", true },
	{ set_vm, HF_WIRE_REFUSE_NAME, "the primary has 'web'", "has 'db'", true },
	{ set_self, HF_WIRE_REFUSE_ROLE, "is this keeper itself", "00000007", false },
	{ set_ram, HF_WIRE_REFUSE_SIZE, "(268435456 bytes)", "(268439552 bytes)", false },
	{ set_page, HF_WIRE_REFUSE_SIZE, "page size", "65536", false },
	{ set_vcpus, HF_WIRE_REFUSE_SIZE, "primary has 2", "standby has 4", false },
	{ set_machine, HF_WIRE_REFUSE_MACHINE, "'pc-q35-7.2'", "'pc-i440fx-7.2'", false },
	{ set_qemu_minor, HF_WIRE_REFUSE_QEMU, "7.2.22", "7.20.2", false },
	{ set_qemu_major, HF_WIRE_REFUSE_QEMU, "7.2.22", "17.2.22", false },
	{ set_qemu_odd, HF_WIRE_REFUSE_QEMU, "7.2.22", "unknown", false },
	{ set_device_more, HF_WIRE_REFUSE_DEVICES, "only the standby", "usb0 qemu-xhci", false },
	{ set_device_less, HF_WIRE_REFUSE_DEVICES, "only the primary", "'v vga'", false },
	{ set_device_twice, HF_WIRE_REFUSE_DEVICES, "only the primary has 'net0 virtio-net-pci'",
	  "only the standby has 'v vga'", false },
	{ set_netdev_order, HF_WIRE_REFUSE_DEVICES, "number 1", "the standby has 'wan'", false },
	{ set_netdev_less, HF_WIRE_REFUSE_DEVICES, "primary has 'wan'", "(none)", false },
	{ set_netdev_more, HF_WIRE_REFUSE_DEVICES, "number 3", "standby has 'dmz'", false },
	{ set_disk_less, HF_WIRE_REFUSE_DISKS, "disk number 2 differs",
	  "only the primary has 'd shared qcow2 9'", false },
	{ set_disk_more, HF_WIRE_REFUSE_DISKS, "disk number 3 differs",
	  "only the standby has 'swap shared raw 4096'", false },
	{ set_disk_order, HF_WIRE_REFUSE_DISKS, "disk number 1 differs",
	  "its id is 'root' on the primary, 'd' on the standby", false },
	{ set_disk_layout, HF_WIRE_REFUSE_DISKS, "disk number 2 differs",
	  "its layout is 'shared' on the primary, 'replicated' on the standby", false },
	{ set_disk_format, HF_WIRE_REFUSE_DISKS, "disk number 2 differs",
	  "its format is 'qcow2' on the primary, 'raw' on the standby", false },
	{ set_disk_size, HF_WIRE_REFUSE_DISKS, "disk number 1 differs",
	  "its size in bytes is '1048576' on the primary, '1048577' on the standby", false },
	{ set_disk_longer, HF_WIRE_REFUSE_DISKS, "disk number 2 differs",
	  "its size in bytes is '9' on the primary, '90' on the standby", false },
	{ set_disk_odd, HF_WIRE_REFUSE_DISKS, "disk number 2 differs",
	  "its format is 'qcow2' on the primary, '' on the standby", false },
};

TEST(each_difference_is_named)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY);
		struct hf_wire_hello b = plain(HF_WIRE_ROLE_STANDBY);

		rows[i].change(&b);
		check_refused(&a, &b, rows[i].code, rows[i].first, rows[i].second);
	}
}

TEST(inquirer_may_be_anything_else)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY);
		struct hf_wire_hello b = plain(HF_WIRE_ROLE_INQUIRER);

		rows[i].change(&b);
		if (rows[i].for_inquirer)
			check_refused(&a, &b, rows[i].code, rows[i].first, rows[i].second);
		else
			check_fits(&a, &b);
	}
}

/* Who goes on is decided by one lease, or by none. */
TEST(lockspaces_are_the_same)
{
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY), b = plain(HF_WIRE_ROLE_STANDBY);

	a.lockspace = b.lockspace = "one";
	check_fits(&a, &b);
	b.lockspace = "two";
	check_refused(&a, &b, HF_WIRE_REFUSE_SETTINGS, "'one'", "'two'");
	b.lockspace = "";
	check_refused(&a, &b, HF_WIRE_REFUSE_SETTINGS, "'one'", "none");
	b.role = HF_WIRE_ROLE_INQUIRER;
	check_fits(&a, &b);
}

TEST(other_version_has_nothing_but_versions)
{
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY);
	struct hf_wire_hello b = { .version_min = 7, .version_max = 8 };

	check_refused(&a, &b, HF_WIRE_REFUSE_VERSION, "1 to 3", "7 to 8");
}

/* The longest texts that a HELLO may have, and characters that must not be cut in two. */
TEST(long_texts_still_fit_into_a_refusal)
{
	static char text[HF_WIRE_DEVICES_MAX][HF_WIRE_DEVICE_TEXT_MAX];
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY), b = plain(HF_WIRE_ROLE_STANDBY);
	char machine[2][HF_WIRE_MACHINE_TEXT_MAX], qemu[2][HF_WIRE_QEMU_TEXT_MAX];
	char disk[2][HF_WIRE_DISK_TEXT_MAX];
	char name[2][64], netdev[2][HF_WIRE_NETDEV_TEXT_MAX];

	for (int i = 0; i < 2; i++) {
		memset(machine[i], 'a' + i, sizeof(machine[i]) - 1);
		machine[i][sizeof(machine[i]) - 1] = '\0';
		memset(qemu[i], 'a' + i, sizeof(qemu[i]) - 1);
		qemu[i][sizeof(qemu[i]) - 1] = '\0';
		memset(name[i], 'a' + i, sizeof(name[i]) - 1);
		name[i][sizeof(name[i]) - 1] = '\0';
		memset(netdev[i], 'a' + i, sizeof(netdev[i]) - 1);
		netdev[i][sizeof(netdev[i]) - 1] = '\0';
	}
	for (int i = 0; i < 2; i++) {
		memset(disk[i], 'a' + i, 61);
		(void)snprintf(disk[i] + 61, 99, " replicated raw 1%s", "\xc3\xa9");
	}
	a.disks.item[0] = disk[0];
	b.disks.item[0] = disk[1];
	check_refused(&a, &b, HF_WIRE_REFUSE_DISKS, "its id is 'aaaaaaa", "'bbbbbbb");
	a.disks.n = 0;
	memset(disk[1], 'b', 59);
	memcpy(disk[1] + 59, "\xc3\xa9", 2); /* the 60 bytes shown end inside it */
	check_refused(&a, &b, HF_WIRE_REFUSE_DISKS, "only the standby has 'bbbb", "bbbb'");
	a.netdevs.item[0] = netdev[0];
	b.netdevs.item[0] = netdev[1];
	check_refused(&a, &b, HF_WIRE_REFUSE_DEVICES, netdev[0], netdev[1]);
	for (unsigned int i = 0; i < HF_WIRE_DEVICES_MAX; i++) {
		(void)snprintf(text[i], sizeof(text[i]), "%.*s%u", (int)(i % 3), "xyz", i);
		while (strlen(text[i]) + 2 < sizeof(text[i]))
			strcat(text[i], "\xc3\xa9");
		(i % 2 ? &a : &b)->devices.item[i / 2] = text[i];
	}
	a.devices.n = b.devices.n = HF_WIRE_DEVICES_MAX / 2;
	check_refused(&a, &b, HF_WIRE_REFUSE_DEVICES, "only the primary has 'x1", "and 127 more");
	a.qemu = qemu[0];
	b.qemu = qemu[1];
	check_refused(&a, &b, HF_WIRE_REFUSE_QEMU, qemu[0], qemu[1]);
	a.machine = machine[0];
	b.machine = machine[1];
	check_refused(&a, &b, HF_WIRE_REFUSE_MACHINE, machine[0], machine[1]);
	a.vm = name[0];
	b.vm = name[1];
	check_refused(&a, &b, HF_WIRE_REFUSE_NAME, name[0], name[1]);
}

TEST(copy_outlives_its_message)
{
	static struct hf_hello_own own;
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY);
	char vm[] = "web", device[] = "v vga", disk[] = "d shared qcow2 9";

	a.vm = vm;
	a.devices.item[2] = device;
	a.disks.item[1] = disk;
	a.qemu = NULL;
	CHECK_EQ(hf_hello_copy(&a, &own), 0);
	vm[0] = device[0] = disk[0] = 'X';
	CHECK_STR(own.hello.vm, "web");
	CHECK_STR(own.hello.devices.item[2], "v vga");
	CHECK_STR(own.hello.netdevs.item[1], "wan");
	CHECK_STR(own.hello.disks.item[1], "d shared qcow2 9");
	CHECK_STR(own.hello.machine, "pc-q35-7.2");
	CHECK_STR(own.hello.holdfast, "0.1.0");
	CHECK_STR(own.hello.qemu, "");
	CHECK_EQ(own.hello.ram_bytes, a.ram_bytes);
	CHECK_EQ(own.hello.devices.n, 3);
}

TEST(copy_of_too_much_changes_nothing)
{
	static struct hf_hello_own own;
	static char text[256];
	struct hf_wire_hello a = plain(HF_WIRE_ROLE_PRIMARY);

	CHECK_EQ(hf_hello_copy(&a, &own), 0);
	memset(text, 'x', sizeof(text) - 1);
	a.devices.n = HF_WIRE_DEVICES_MAX;
	for (unsigned int i = 0; i < HF_WIRE_DEVICES_MAX; i++)
		a.devices.item[i] = text;
	CHECK_EQ(hf_hello_copy(&a, &own), -EMSGSIZE);
	CHECK_EQ(own.hello.devices.n, 3);
	CHECK_STR(own.hello.devices.item[2], "v vga");
}
