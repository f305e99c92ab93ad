/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../../tests/test.h"
#include "base/bytes.h"
#include "codec/wire-disk.h"
#include "codec/wire-msg.h"

static const struct hf_id some_id = { .hi = 0x0123456789abcdef, .lo = 0xfedcba9876543210 };

static struct hf_wire_msg sample(enum hf_wire_type type)
{
	struct hf_wire_msg m = { .type = type };

	if (type == HF_WIRE_HELLO)
		m.hello = (struct hf_wire_hello){
			.version_min = 1,
			.version_max = 3,
			.role = HF_WIRE_ROLE_PRIMARY,
			.state = HF_WIRE_VM_HOLDING,
			.instance = some_id,
			.session = { 1, 2 },
			.epoch = 77,
			.disk_condition = HF_WIRE_DISKS_HELD,
			.disk_session = { 3, 4 },
			.ram_bytes = (uint64_t)256 << 20,
			.page_bytes = 4096,
			.vcpus = 2,
			.holdfast = "0.1.0",
			.vm = "web-1",
			.machine = "pc-q35-7.2",
			.qemu = "7.2.22 (Debian \xc3\xa9)",
			.lockspace = "cluster1",
			.devices = { 2, { "net0 virtio-net-pci", "disk0 virtio-blk-pci" } },
			.netdevs = { 1, { "n0" } },
			.disks = { 2, { "disk0 replicated raw 1073741824", "d1 shared qcow2 9" } },
		};
	else if (type == HF_WIRE_SYNC_BEGIN)
		m.sync_begin = (struct hf_wire_sync_begin){ .session = some_id,
							    .ram_bytes = 65536,
							    .pages = 9,
							    .disks = HF_WIRE_SYNC_DISKS_DELTA,
							    .lver = 31 };
	else if (type == HF_WIRE_EPOCH_BEGIN)
		m.epoch_begin = (struct hf_wire_epoch_begin){ 5, 1, 1, 123456789 };
	else if (type == HF_WIRE_EPOCH_END)
		m.epoch_end = (struct hf_wire_epoch_end){ 5,      6,          7, 8,  9,
							  300000, 0xdeadbeef, 4, 10, 11 };
	else if (type == HF_WIRE_PING || type == HF_WIRE_PONG)
		m.ping = (struct hf_wire_ping){ UINT64_MAX, 42 };
	else if (type == HF_WIRE_REFUSE || type == HF_WIRE_ERROR || type == HF_WIRE_DEAD ||
		 type == HF_WIRE_ENDED)
		m.reason = (struct hf_wire_reason){ 2, "the other VM is called \"db\"" };
	else if (type == HF_WIRE_ACK || type == HF_WIRE_HANDOVER_REQUEST)
		m.mark.epoch = 12;
	else if (type == HF_WIRE_SETTLED)
		m.mark.epoch = 11;
	else if (type == HF_WIRE_SYNC_MARK || type == HF_WIRE_SYNC_DONE)
		m.mark.sync_mark = 0x0102030405060708;
	else if (type == HF_WIRE_LEASE)
		m.mark = (struct hf_wire_mark){ .lver = 32, .session = some_id };
	else if (type == HF_WIRE_ABANDON)
		m.mark.session = some_id;
	else if (type == HF_WIRE_DISCARDED)
		m.mark = (struct hf_wire_mark){ .session = some_id, .lver = 33 };
	else
		m.mark = (struct hf_wire_mark){ .epoch = 12, .session = some_id };
	return m;
}

static size_t encoded(const struct hf_wire_msg *m, uint8_t *buf, struct hf_wire_view *view)
{
	struct hf_err err = { "" };
	size_t len = 0;

	if (hf_wire_encode(m, buf, HF_WIRE_CONTROL_BUFFER, &len, &err) != 0)
		hf_test_fail(__FILE__, __LINE__, "%s", err.text);
	*view = (struct hf_wire_view){ m->type, buf + HF_WIRE_HEADER_BYTES,
				       len - HF_WIRE_HEADER_BYTES };
	return len;
}

static void check_hello(const struct hf_wire_hello *h)
{
	CHECK_EQ(h->version_min, 1);
	CHECK_EQ(h->version_max, 3);
	CHECK_EQ(h->role, HF_WIRE_ROLE_PRIMARY);
	CHECK_EQ(h->state, HF_WIRE_VM_HOLDING);
	CHECK(hf_id_is_equal(h->instance, some_id));
	CHECK_EQ(h->session.hi, 1);
	CHECK_EQ(h->session.lo, 2);
	CHECK_EQ(h->epoch, 77);
	CHECK_EQ(h->disk_condition, HF_WIRE_DISKS_HELD);
	CHECK_EQ(h->disk_session.hi, 3);
	CHECK_EQ(h->disk_session.lo, 4);
	CHECK_EQ(h->ram_bytes, 256 << 20);
	CHECK_EQ(h->page_bytes, 4096);
	CHECK_EQ(h->vcpus, 2);
	CHECK_STR(h->holdfast, "0.1.0");
	CHECK_STR(h->vm, "web-1");
	CHECK_STR(h->machine, "pc-q35-7.2");
	CHECK_STR(h->qemu, "7.2.22 (Debian \xc3\xa9)");
	CHECK_STR(h->lockspace, "cluster1");
	CHECK_EQ(h->devices.n, 2);
	CHECK_STR(h->devices.item[0], "net0 virtio-net-pci");
	CHECK_STR(h->devices.item[1], "disk0 virtio-blk-pci");
	CHECK_EQ(h->netdevs.n, 1);
	CHECK_STR(h->netdevs.item[0], "n0");
	CHECK_EQ(h->disks.n, 2);
	CHECK_STR(h->disks.item[0], "disk0 replicated raw 1073741824");
	CHECK_STR(h->disks.item[1], "d1 shared qcow2 9");
}

static void check_sync_begin(const struct hf_wire_sync_begin *b)
{
	CHECK(hf_id_is_equal(b->session, some_id));
	CHECK_EQ(b->ram_bytes, 65536);
	CHECK_EQ(b->pages, 9);
	CHECK_EQ(b->disks, HF_WIRE_SYNC_DISKS_DELTA);
	CHECK_EQ(b->lver, 31);
}

static void check_fixed(enum hf_wire_type type, const struct hf_wire_msg *in,
			const struct hf_wire_msg *out)
{
	if (type == HF_WIRE_SYNC_BEGIN)
		check_sync_begin(&out->sync_begin);
	else if (type == HF_WIRE_EPOCH_BEGIN)
		CHECK(memcmp(&in->epoch_begin, &out->epoch_begin, sizeof(in->epoch_begin)) == 0);
	else if (type == HF_WIRE_EPOCH_END)
		CHECK(memcmp(&in->epoch_end, &out->epoch_end, sizeof(in->epoch_end)) == 0);
	else if (type == HF_WIRE_PING || type == HF_WIRE_PONG)
		CHECK(memcmp(&in->ping, &out->ping, sizeof(in->ping)) == 0);
	else
		CHECK(memcmp(&in->mark, &out->mark, sizeof(in->mark)) == 0);
}

TEST(every_message_comes_back)
{
	unsigned int n = 0;

	for (unsigned int i = 1; i < HF_WIRE_TYPE_COUNT; i++) {
		static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
		enum hf_wire_type type = (enum hf_wire_type)i;
		struct hf_wire_msg out, in = sample(type);
		struct hf_wire_view view;

		if (!hf_wire_is_control(type))
			continue;
		n++;
		encoded(&in, buf, &view);
		CHECK_EQ(hf_wire_decode(&view, &out, NULL), 0);
		CHECK_EQ(out.type, type);
		if (type == HF_WIRE_HELLO) {
			check_hello(&out.hello);
		} else if (type == HF_WIRE_REFUSE || type == HF_WIRE_ERROR ||
			   type == HF_WIRE_DEAD || type == HF_WIRE_ENDED) {
			CHECK_EQ(out.reason.code, 2);
			CHECK_STR(out.reason.text, in.reason.text);
		} else {
			check_fixed(type, &in, &out);
		}
	}
	CHECK_EQ(n, 20);
}

/* Copied to memory of exactly that size, so that a sanitizer sees any read beyond the end. */
TEST(every_truncation_is_refused)
{
	for (unsigned int i = 1; i < HF_WIRE_TYPE_COUNT; i++) {
		static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
		struct hf_wire_msg out, in = sample((enum hf_wire_type)i);
		struct hf_wire_view view;
		size_t full;

		if (!hf_wire_is_control(in.type))
			continue;
		encoded(&in, buf, &view);
		full = view.len;
		for (size_t len = 0; len < full; len++) {
			uint8_t *exact = malloc(len + !len);
			struct hf_err err = { "" };

			CHECK(exact);
			memcpy(exact, view.payload, len);
			CHECK_EQ(hf_wire_decode(&(struct hf_wire_view){ in.type, exact, len }, &out,
						&err),
				 -EBADMSG);
			CHECK_CONTAINS(err.text, "it ends inside ");
			free(exact);
		}
		buf[HF_WIRE_HEADER_BYTES + full] = 0;
		view.len = full + 1;
		CHECK_EQ(hf_wire_decode(&view, &out, NULL), -EBADMSG);
	}
}

TEST(every_short_buffer_is_reported)
{
	for (unsigned int i = 1; i < HF_WIRE_TYPE_COUNT; i++) {
		static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
		struct hf_wire_msg in = sample((enum hf_wire_type)i);
		struct hf_wire_view view;
		size_t full, len = 99;

		if (!hf_wire_is_control(in.type))
			continue;
		full = encoded(&in, buf, &view);
		for (size_t size = 0; size < full; size++)
			CHECK_EQ(hf_wire_encode(&in, buf, size, &len, NULL), -ENOBUFS);
		CHECK_EQ(len, 99);
		CHECK_EQ(hf_wire_encode(&in, buf, full, &len, NULL), 0);
	}
}

struct patch {
	enum hf_wire_type type;
	unsigned int at; /* in the payload */
	unsigned int bytes;
	uint64_t value;
	const char *says;
};

/* Offsets are docs/wire-format.md's. */
static const struct patch patches[] = {
	{ HF_WIRE_HELLO, 0, 2, 0, "the lowest version is 0" },
	{ HF_WIRE_HELLO, 0, 2, 4, "the lowest version, 4, is above the highest, 3" },
	{ HF_WIRE_HELLO, 4, 1, 0, "the role is 0, possible is 1 to 3" },
	{ HF_WIRE_HELLO, 4, 1, 4, "the role is 4" },
	{ HF_WIRE_HELLO, 5, 1, 1, "a reserved field is not zero" },
	{ HF_WIRE_HELLO, 6, 1, 5, "the disks' condition is 5, possible is 0 to 4" },
	{ HF_WIRE_HELLO, 7, 1, 1, "a reserved field is not zero" },
	{ HF_WIRE_HELLO, 8, 4, 32, "the state is 32" },
	{ HF_WIRE_HELLO, 15, 1, 1, "a reserved field is not zero" },
	{ HF_WIRE_HELLO, 72, 8, 0, "not a number of whole pages" },
	{ HF_WIRE_HELLO, 72, 8, 4097, "not a number of whole pages" },
	{ HF_WIRE_HELLO, 72, 8, UINT64_MAX, "the RAM size is" },
	{ HF_WIRE_HELLO, 80, 4, 8192, "the page size is 8192" },
	{ HF_WIRE_HELLO, 84, 4, 0, "the VM has no vCPU" },
	{ HF_WIRE_HELLO, 84, 4, 4097, "the number of vCPUs is 4097" },
	{ HF_WIRE_HELLO, 88, 2, 0, "the holdfast version has a text" },
	{ HF_WIRE_HELLO, 88, 2, 65535, "it ends inside the holdfast version" },
	{ HF_WIRE_HELLO, 90, 1, 7, "not printable UTF-8" },
	{ HF_WIRE_HELLO, 90, 1, 0xff, "not printable UTF-8" },
	{ HF_WIRE_HELLO, 90, 1, 0, "not printable UTF-8" },
	{ HF_WIRE_HELLO, 95, 1, 'x', "the holdfast version has a text without its NUL" },
	{ HF_WIRE_HELLO, 98, 1, '.', "is not a possible name of a VM" },
	{ HF_WIRE_HELLO, 98, 1, '/', "is not a possible name of a VM" },
	{ HF_WIRE_REFUSE, 0, 4, 0, "the code is 0" },
	{ HF_WIRE_REFUSE, 0, 4, 256, "the code is 256" },
	{ HF_WIRE_REFUSE, 4, 4, 1, "a reserved field" },
	{ HF_WIRE_ERROR, 10, 1, 27, "the text has a text that is not printable" },
	{ HF_WIRE_SYNC_BEGIN, 16, 8, 4095, "the RAM size is 4095" },
	{ HF_WIRE_SYNC_BEGIN, 16, 8, 4097, "not a number of whole pages" },
	{ HF_WIRE_SYNC_BEGIN, 24, 8, UINT64_MAX, "the number of pages" },
	{ HF_WIRE_SYNC_BEGIN, 32, 1, 3, "the kind of disk copy is 3, possible is 0 to 2" },
	{ HF_WIRE_SYNC_BEGIN, 33, 1, 1, "a reserved field" },
	{ HF_WIRE_SYNC_BEGIN, 39, 1, 1, "a reserved field" },
	{ HF_WIRE_EPOCH_BEGIN, 0, 8, 0, "the epoch is 0" },
	{ HF_WIRE_EPOCH_BEGIN, 8, 1, 2, "the running flag is 2" },
	{ HF_WIRE_EPOCH_BEGIN, 9, 1, 255, "the first flag is 255" },
	{ HF_WIRE_EPOCH_BEGIN, 10, 1, 1, "a reserved field" },
	{ HF_WIRE_EPOCH_END, 0, 8, 0, "the epoch is 0" },
	{ HF_WIRE_EPOCH_END, 40, 8, 67108865, "the state's length is 67108865" },
	{ HF_WIRE_EPOCH_END, 52, 1, 1, "a reserved field" },
	{ HF_WIRE_ACK, 0, 8, 0, "the epoch is 0" },
	{ HF_WIRE_PROMOTED, 0, 8, 0, "the epoch is 0" },
	{ HF_WIRE_HANDOVER, 0, 8, 0, "the epoch is 0" },
	{ HF_WIRE_SETTLED, 0, 8, 0, "the epoch is 0" },
	{ HF_WIRE_LEASE, 0, 8, 0, "the lease's version is 0" },
};

TEST(every_limit_is_enforced)
{
	for (size_t i = 0; i < sizeof(patches) / sizeof(*patches); i++) {
		static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
		const struct patch *p = &patches[i];
		struct hf_wire_msg out, in = sample(p->type);
		struct hf_wire_view view;
		struct hf_err err = { "accepted" };
		uint8_t le[8];

		encoded(&in, buf, &view);
		hf_le64_put(le, p->value);
		memcpy(buf + HF_WIRE_HEADER_BYTES + p->at, le, p->bytes);
		if (hf_wire_decode(&view, &out, &err) != -EBADMSG)
			hf_test_fail(__FILE__, __LINE__, "accepted: %s", p->says);
		CHECK_CONTAINS(err.text, p->says);
		CHECK_CONTAINS(err.text, hf_wire_type_name(p->type));
	}
}

static void refuse_hello(const struct hf_wire_msg *m, const char *says)
{
	static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	struct hf_err err = { "" };
	size_t len = 99;

	CHECK_EQ(hf_wire_encode(m, buf, sizeof(buf), &len, &err), -EINVAL);
	CHECK_CONTAINS(err.text, "cannot send a HELLO: ");
	CHECK_CONTAINS(err.text, says);
	CHECK_EQ(len, 99);
}

TEST(the_encoder_has_the_same_limits)
{
	char text[HF_WIRE_DEVICE_TEXT_MAX + 2];
	struct hf_wire_msg m = sample(HF_WIRE_HELLO);

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	m.hello.devices.item[1] = text;
	refuse_hello(&m, "the device list has a text of 129 bytes");
	m.hello.devices.item[1] = "tab\t";
	refuse_hello(&m, "not printable");
	m = sample(HF_WIRE_HELLO);
	m.hello.devices.n = HF_WIRE_DEVICES_MAX + 1;
	refuse_hello(&m, "the device list has 257 entries");
	m = sample(HF_WIRE_HELLO);
	m.hello.netdevs.n = HF_WIRE_NETDEVS_MAX + 1;
	refuse_hello(&m, "the netdev list has 17 entries");
	m = sample(HF_WIRE_HELLO);
	m.hello.disks.n = HF_WIRE_DISKS_MAX + 1;
	refuse_hello(&m, "the disk list has 17 entries");
	m = sample(HF_WIRE_HELLO);
	m.hello.session = (struct hf_id){ 0, 0 };
	refuse_hello(&m, "epoch 77 of no session");
	m.hello.instance = (struct hf_id){ 0, 0 };
	refuse_hello(&m, "the instance is all zero");
}

TEST(the_largest_hello_fits)
{
	static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	char device[HF_WIRE_DEVICE_TEXT_MAX + 1], disk[HF_WIRE_DISK_TEXT_MAX + 1], text[65];
	struct hf_wire_msg out, m = sample(HF_WIRE_HELLO);
	struct hf_wire_view view;

	memset(device, 'd', sizeof(device) - 1);
	device[sizeof(device) - 1] = '\0';
	memset(disk, 'k', sizeof(disk) - 1);
	disk[sizeof(disk) - 1] = '\0';
	memset(text, 't', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	m.hello.holdfast = text + 64 - HF_WIRE_VERSION_TEXT_MAX;
	m.hello.vm = text + 1;
	m.hello.machine = m.hello.qemu = text;
	m.hello.devices.n = HF_WIRE_DEVICES_MAX;
	for (unsigned int i = 0; i < HF_WIRE_DEVICES_MAX; i++)
		m.hello.devices.item[i] = device;
	m.hello.netdevs.n = HF_WIRE_NETDEVS_MAX;
	for (unsigned int i = 0; i < HF_WIRE_NETDEVS_MAX; i++)
		m.hello.netdevs.item[i] = text;
	m.hello.disks.n = HF_WIRE_DISKS_MAX;
	for (unsigned int i = 0; i < HF_WIRE_DISKS_MAX; i++)
		m.hello.disks.item[i] = disk;
	encoded(&m, buf, &view);
	CHECK(view.len <= HF_WIRE_HELLO_MAX);
	CHECK_EQ(hf_wire_decode(&view, &out, NULL), 0);
	CHECK_STR(out.hello.devices.item[HF_WIRE_DEVICES_MAX - 1], device);
	CHECK_STR(out.hello.netdevs.item[HF_WIRE_NETDEVS_MAX - 1], text);
	CHECK_STR(out.hello.disks.item[HF_WIRE_DISKS_MAX - 1], disk);
}

TEST(the_longest_reason_fits)
{
	static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	char text[HF_WIRE_REASON_TEXT_MAX + 2];
	struct hf_wire_msg m = { .type = HF_WIRE_REFUSE, .reason = { 255, text + 1 } };
	struct hf_wire_view view;
	size_t len;

	memset(text, 'r', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	encoded(&m, buf, &view);
	CHECK(view.len <= HF_WIRE_CONTROL_MAX);
	m.reason.text = text;
	CHECK_EQ(hf_wire_encode(&m, buf, sizeof(buf), &len, NULL), -EINVAL);
}

/* An inquirer has no VM: it only names the one that it asks about. */
TEST(an_inquirer_needs_no_vm)
{
	static uint8_t buf[HF_WIRE_CONTROL_BUFFER];
	struct hf_wire_msg out, m = { .type = HF_WIRE_HELLO };
	struct hf_wire_view view;

	m.hello = (struct hf_wire_hello){ .version_min = 1,
					  .version_max = 1,
					  .role = HF_WIRE_ROLE_INQUIRER,
					  .page_bytes = 4096,
					  .instance = some_id,
					  .holdfast = "0.1.0",
					  .vm = "web-1",
					  .machine = "",
					  .qemu = "",
					  .lockspace = "" };
	encoded(&m, buf, &view);
	CHECK_EQ(hf_wire_decode(&view, &out, NULL), 0);
	CHECK_STR(out.hello.machine, "");
	m.hello.role = HF_WIRE_ROLE_STANDBY;
	refuse_hello(&m, "the RAM size of 0 bytes");
}

TEST(versions_are_read_from_a_strange_hello)
{
	static const uint8_t strange[] = { 2, 0, 7, 0, 0xff, 0xff, 0xff };
	struct hf_wire_view view = { HF_WIRE_HELLO, strange, sizeof(strange) };
	unsigned int min = 0, max = 0;
	struct hf_err err;

	CHECK_EQ(hf_wire_hello_versions(&view, &min, &max, &err), 0);
	CHECK_EQ(min, 2);
	CHECK_EQ(max, 7);
	view.len = 3;
	CHECK_EQ(hf_wire_hello_versions(&view, &min, &max, &err), -EBADMSG);
	view = (struct hf_wire_view){ HF_WIRE_HELLO, (const uint8_t *)"\2\0\1\0", 4 };
	CHECK_EQ(hf_wire_hello_versions(&view, &min, &max, &err), -EBADMSG);
	CHECK_CONTAINS(err.text, "versions 2 to 1 make no sense");
}

TEST(names_of_numbers)
{
	CHECK_STR(hf_wire_vm_state_name(HF_WIRE_VM_STARTING), "starting");
	CHECK_STR(hf_wire_vm_state_name(HF_WIRE_VM_READY), "ready");
	CHECK_STR(hf_wire_vm_state_name(HF_WIRE_VM_FAILED), "failed");
	CHECK_STR(hf_wire_vm_state_name(HF_WIRE_STATE_MAX), "?");
	CHECK_STR(hf_wire_refusal_name(HF_WIRE_REFUSE_PROTOCOL), "protocol");
	CHECK_STR(hf_wire_refusal_name(HF_WIRE_REFUSE_DISKS), "disks");
	CHECK_STR(hf_wire_refusal_name(0), "?");
	CHECK_STR(hf_wire_death_name(HF_WIRE_DEATH_FROZEN), "frozen");
	CHECK_STR(hf_wire_ending_name(HF_WIRE_ENDING_GUEST_PANIC), "guest panicked");
	CHECK_STR(hf_wire_ending_name(200), "?");
}
