/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest without a kernel: a PC's firmware that is at work within a millisecond, and costs nothing
 * while it halts. For tests and benches that need many guests, or one soon: qemu -bios tiny.bin
 *
 * What it does is the byte at TINY_MODE, set by -device loader,addr=0x500,data=N,data-len=1:
 *   0  halts; at an NMI (QMP inject-nmi) it panics
 *   1  counts at TINY_COUNTER, and writes a dot to the debug port (-device isa-debugcon) at each
 *      2^20th; at an NMI it panics
 *   2  panics at once
 *   3  halts; at an NMI it shuts down, by q35's ACPI
 *   4  halts; at an NMI it meets a triple fault, which resets the machine
 *   5  writes a record to its disk at once and then 20 times a second; at an NMI it panics
 * To panic is to write to the port of pvpanic (-device pvpanic; docs/specs/pvpanic.txt of QEMU) and
 * then to halt for good.
 *
 * Mode 5 needs the first IDE disk at the ports of old (-machine pc), of 1 MiB or more. A record is a
 * sector, little-endian: u64 TICK_MAGIC; u32 the tag that stands at TINY_TAG (a loader's, as the
 * mode); u32 the number of the tick in this boot, from 0; u32 its number on this disk. The last one
 * is in sector 0, and those before it are in sector 1 + number % TICK_SECTORS: it goes on from the
 * number that it finds in sector 0. So the records of one boot are in a row, unless somebody else
 * has written to the disk meanwhile.
 *
 * For who examines it: a text at TINY_MARKER, and always "HOLD" in ebp and "FAST" in edi.
 *
 * 64 KiB that end where the processor begins, at 0xfffffff0; they are at SHADOW, too.
 */
#define TINY_MODE 0x500
#define TINY_TAG 0x504
#define TINY_COUNTER 0x600
#define TINY_MARKER 0x200000
#define IDT 0x1000
#define SECTOR 0x4000
#define STACK 0x8000
#define SHADOW 0xf0000
#define AT(label) (SHADOW + label - begin)

#define CODE_SELECTOR 8
#define DATA_SELECTOR 16
#define NMI 2
#define APIC_SPURIOUS 0xfee000f0
#define APIC_EOI 0xfee000b0
#define APIC_TIMER 0xfee00320
#define APIC_LINT1 0xfee00360
#define APIC_COUNT 0xfee00380
#define APIC_DIVISOR 0xfee003e0
#define APIC_NMI 0x400 /* delivery mode, not masked */
#define APIC_PERIODIC 0x20000
#define APIC_BY_1 0xb
#define TICK_VECTOR 0x30
#define TICK 50000000 /* of the APIC's 1 GHz */
#define PANIC_PORT 0x505
#define DEBUG_PORT 0xe9
/* ATA, PIO: the first disk. */
#define DISK_DATA 0x1f0
#define DISK_COUNT 0x1f2
#define DISK_DEVICE 0x1f6
#define DISK_COMMAND 0x1f7 /* read: status */
#define DISK_CONTROL 0x3f6
#define DISK_BUSY 0x80
#define DISK_HAS_DATA 8
#define DISK_READ 0x20
#define DISK_WRITE 0x30
#define TICK_MAGIC_LOW 0x444c4f48 /* "HOLDTICK" */
#define TICK_MAGIC_HIGH 0x4b434954
#define TICK_SECTORS 2047
/* q35's LPC bridge, which nobody has set up before us: base of its ACPI ports, and their switch. */
#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define LPC_PMBASE 0x8000f840
#define LPC_ACPI_CNTL 0x8000f844
#define PM_BASE 0x600
#define PM_CONTROL (PM_BASE + 4)
#define PM_S5 0x2000

	.text
	.code16
begin:
	cli
	lgdtl %cs:(gdt_pointer - begin)
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $CODE_SELECTOR, $AT(flat)

	.code32
flat:
	mov $DATA_SELECTOR, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $STACK, %esp
	mov $AT(marker), %esi
	mov $TINY_MARKER, %edi
	mov $(marker_end - marker), %ecx
	cld
	rep movsb
	mov $AT(on_nmi), %eax
	mov $(IDT + NMI * 8), %edi
	call set_gate
	mov $AT(on_tick), %eax
	mov $(IDT + TICK_VECTOR * 8), %edi
	call set_gate
	lidt AT(idt_pointer)
	movl $0x1ff, APIC_SPURIOUS
	movl $APIC_NMI, APIC_LINT1
	mov $0x484f4c44, %ebp
	mov $0x46415354, %edi
	cmpb $1, TINY_MODE
	je count
	cmpb $2, TINY_MODE
	je panic
	cmpb $5, TINY_MODE
	je tick
halt:
	hlt
	jmp halt

	/* A 32-bit interrupt gate at edi, to eax. */
set_gate:
	mov %ax, (%edi)
	movw $CODE_SELECTOR, 2(%edi)
	movw $0x8e00, 4(%edi)
	shr $16, %eax
	mov %ax, 6(%edi)
	ret

count:
	mov $DEBUG_PORT, %dx
	mov $'.', %al
1:	incl TINY_COUNTER
	testl $0xfffff, TINY_COUNTER
	jnz 1b
	out %al, %dx
	jmp 1b

tick:
	movl $APIC_BY_1, APIC_DIVISOR
	movl $(APIC_PERIODIC | TICK_VECTOR), APIC_TIMER
	movl $TICK, APIC_COUNT
	mov $2, %al
	mov $DISK_CONTROL, %dx
	out %al, %dx
	xor %ebx, %ebx
	call read_sector
	cmpl $TICK_MAGIC_LOW, SECTOR
	jne 1f
	cmpl $TICK_MAGIC_HIGH, SECTOR + 4
	je 2f
1:	movl $-1, SECTOR + 16
2:	movl $TICK_MAGIC_LOW, SECTOR
	movl $TICK_MAGIC_HIGH, SECTOR + 4
	mov TINY_TAG, %eax
	mov %eax, SECTOR + 8
	movl $0, SECTOR + 12
3:	incl SECTOR + 16
	mov SECTOR + 16, %eax
	xor %edx, %edx
	mov $TICK_SECTORS, %ecx
	div %ecx
	lea 1(%edx), %ebx
	call write_sector
	xor %ebx, %ebx
	call write_sector
	incl SECTOR + 12
	sti
	hlt
	cli
	jmp 3b

on_tick:
	movl $0, APIC_EOI
	iret

	/* Sector ebx and the 512 bytes at SECTOR. */
read_sector:
	mov $DISK_READ, %ah
	call command_disk
	mov $SECTOR, %edi
	mov $DISK_DATA, %dx
	mov $256, %ecx
	rep insw
	ret

write_sector:
	mov $DISK_WRITE, %ah
	call command_disk
	mov $SECTOR, %esi
	mov $DISK_DATA, %dx
	mov $256, %ecx
	rep outsw
	call wait_disk
	ret

	/* Command ah, until the disk wants to move the data. */
command_disk:
	call wait_disk
	mov $DISK_DEVICE, %dx
	mov $0xe0, %al
	out %al, %dx
	mov $DISK_COUNT, %dx
	mov $1, %al
	out %al, %dx
	inc %dx
	mov %bl, %al
	out %al, %dx
	inc %dx
	mov %bh, %al
	out %al, %dx
	inc %dx
	xor %al, %al
	out %al, %dx
	mov $DISK_COMMAND, %dx
	mov %ah, %al
	out %al, %dx
1:	in %dx, %al
	and $(DISK_BUSY | DISK_HAS_DATA), %al
	cmp $DISK_HAS_DATA, %al
	jne 1b
	ret

wait_disk:
	mov $DISK_COMMAND, %dx
1:	in %dx, %al
	test $DISK_BUSY, %al
	jnz 1b
	ret

on_nmi:
	cmpb $3, TINY_MODE
	je shut_down
	cmpb $4, TINY_MODE
	je fault
panic:
	mov $PANIC_PORT, %dx
	mov $1, %al
	out %al, %dx
	jmp halt

shut_down:
	mov $LPC_PMBASE, %eax
	mov $(PM_BASE | 1), %ecx
	call set_pci
	mov $LPC_ACPI_CNTL, %eax
	mov $0x80, %ecx
	call set_pci
	mov $PM_CONTROL, %dx
	mov $PM_S5, %ax
	out %ax, %dx
	jmp halt

	/* The register eax of a PCI device becomes ecx. */
set_pci:
	mov $PCI_ADDRESS, %dx
	out %eax, %dx
	mov %ecx, %eax
	mov $PCI_DATA, %dx
	out %eax, %dx
	ret

fault:
	lidt AT(no_idt)
	ud2

	.balign 8
gdt:	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.long AT(gdt)
idt_pointer:
	.word TICK_VECTOR * 8 + 7
	.long IDT
no_idt:	.word 0
	.long 0
marker:	.asciz "HOLDFAST TINY GUEST MARKER"
marker_end:

	.org 0xfff0
	.code16
	jmp begin
	.org 0x10000
