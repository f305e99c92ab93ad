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
 * To panic is to write to the port of pvpanic (-device pvpanic; docs/specs/pvpanic.txt of QEMU) and
 * then to halt for good.
 *
 * For who examines it: a text at TINY_MARKER, and always "HOLD" in ebp and "FAST" in edi.
 *
 * 64 KiB that end where the processor begins, at 0xfffffff0; they are at SHADOW, too.
 */
#define TINY_MODE 0x500
#define TINY_COUNTER 0x600
#define TINY_MARKER 0x200000
#define IDT 0x1000
#define STACK 0x8000
#define SHADOW 0xf0000
#define AT(label) (SHADOW + label - begin)

#define CODE_SELECTOR 8
#define DATA_SELECTOR 16
#define NMI 2
#define APIC_SPURIOUS 0xfee000f0
#define APIC_LINT1 0xfee00360
#define APIC_NMI 0x400 /* delivery mode, not masked */
#define PANIC_PORT 0x505
#define DEBUG_PORT 0xe9
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
	/* The only gate: a 32-bit interrupt gate for the NMI. */
	mov $AT(on_nmi), %eax
	mov %ax, IDT + NMI * 8
	movw $CODE_SELECTOR, IDT + NMI * 8 + 2
	movw $0x8e00, IDT + NMI * 8 + 4
	shr $16, %eax
	mov %ax, IDT + NMI * 8 + 6
	lidt AT(idt_pointer)
	movl $0x1ff, APIC_SPURIOUS
	movl $APIC_NMI, APIC_LINT1
	mov $0x484f4c44, %ebp
	mov $0x46415354, %edi
	cmpb $1, TINY_MODE
	je count
	cmpb $2, TINY_MODE
	je panic
halt:
	hlt
	jmp halt

count:
	mov $DEBUG_PORT, %dx
	mov $'.', %al
1:	incl TINY_COUNTER
	testl $0xfffff, TINY_COUNTER
	jnz 1b
	out %al, %dx
	jmp 1b

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
	.word NMI * 8 + 7
	.long IDT
no_idt:	.word 0
	.long 0
marker:	.asciz "HOLDFAST TINY GUEST MARKER"
marker_end:

	.org 0xfff0
	.code16
	jmp begin
	.org 0x10000
