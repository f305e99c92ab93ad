#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does a real QEMU take the command lines that holdfast makes, and do they mean what they should?

Each line is rewritten by render-cmdline, started with inherited descriptors, and asked over QMP:
is the machine's RAM of the right size, in the file handed over and shared, does the guest stand
still (or wait for a state, on a standby), are the held netdevs streams.

usage: test-cmdline.py RENDER_PROGRAM
QEMU, QEMU_DATA   the QEMU to use, see rendered.py (default qemu-system-x86_64)
Prints TAP; a plan of nothing with the reason when there is no such QEMU.
"""
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from rendered import QEMU, Line, started  # noqa: E402

MIB = 1 << 20

# name, role, user's words, held, let through, RAM in MiB, path of the backend, other checks
CASES = [
    ("smallest", "run", ["-nodefaults"], [], [], 128, "holdfast-ram", {}),
    ("pc", "run", ["-M", "pc", "-m", "64", "-nic", "none"], [], [], 64, "holdfast-ram", {}),
    ("default-nic", "run", ["-m", "64"], [], ["default-nic"], 64, "holdfast-ram", {}),
    ("q35-net", "run",
     ["-machine", "q35", "-m", "size=0.25G,maxmem=1G", "-S", "-nodefaults", "-netdev",
      "tap,id=net0,ifname=tap9,script=no,downscript=no,vnet_hdr=off", "-device",
      "virtio-net-pci,netdev=net0", "-netdev", "bridge,id=net1", "-device", "e1000,netdev=net1"],
     ["net1", "net0"], [], 256, "holdfast-ram", {"nets": ["net0", "net1"]}),
    ("standby", "standby",
     ["-machine", "q35", "-m", "128M", "--nodefaults", "-netdev", "tap,id=n", "-device",
      "virtio-net-pci,netdev=n"],
     ["n"], [], 128, "holdfast-ram", {"nets": ["n"]}),
    ("mem-path", "run", ["-nodefaults", "-m", "64", "-mem-path", "/dev/shm", "-mem-prealloc"],
     [], [], 64, "holdfast-ram", {"prealloc": True}),
    ("backend", "run",
     ["-nodefaults", "-machine", "pc,memory-backend=m", "-object",
      "memory-backend-memfd,id=m,size=64M,merge=off,prealloc=on,seal=on"],
     [], [], 64, "m", {"prealloc": True, "merge": False}),
    ("backend-json", "standby",
     ["-nodefaults", "-machine", "q35,memory-backend=pc.ram", "-m", "64", "-object",
      '{"qom-type":"memory-backend-ram","id":"pc.ram","size":67108864,"dump":false,'
      '"x-use-canonical-path-for-ramblock-id":false}'],
     [], [], 64, "pc.ram", {"dump": False}),
    ("numa", "run",
     ["-nodefaults", "-m", "64M", "-smp", "2", "-object", "memory-backend-ram,id=n0,size=64M",
      "-numa", "node,nodeid=0,cpus=0-1,memdev=n0"],
     [], [], 64, "n0", {}),
    ("unprotected-disks", "run",
     ["-nodefaults", "-m", "64", "-blockdev",
      '{"driver":"file","filename":"disk.img","node-name":"f","auto-read-only":true}',
      "-blockdev", '{"driver":"raw","node-name":"r","file":"f","read-only":false}',
      "-device", '{"driver":"virtio-blk-pci","drive":"r"}', "-drive",
      "file=a,,b.img,format=raw,if=none,id=d,readonly=on", "-device", "virtio-blk-pci,drive=d",
      "-cdrom", "cd.iso", "-chardev", "null,id=c", "-serial", "chardev:c"],
     [], ["r"], 64, "holdfast-ram", {}),
]


def expect(what, got, want):
    if got != want:
        raise AssertionError(f"{what} is {got!r}, want {want!r}")


def check_vm(command, process, ram_inode, role, ram_mib, backend, extra):
    status = command("query-status")["status"]
    expect("status", status, "inmigrate" if role == "standby" else "prelaunch")
    expect("RAM", command("query-memory-size-summary")["base-memory"], ram_mib * MIB)
    path = f"/objects/{backend}"
    expect("share", command("qom-get", path=path, property="share"), True)
    expect("size", command("qom-get", path=path, property="size"), ram_mib * MIB)
    for name in ("prealloc", "merge", "dump"):
        if name in extra:
            expect(name, command("qom-get", path=path, property=name), extra[name])
    # The guest's RAM is that file, all of it, mapped shared.
    size = 0
    with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            span, mode, _, _, inode = line.split()[:5]
            if int(inode) == ram_inode:
                first, last = (int(x, 16) for x in span.split("-"))
                expect("mode of the mapping", mode, "rw-s")
                size += last - first
    expect("mapped", size, ram_mib * MIB)
    network = command("human-monitor-command", **{"command-line": "info network"})
    for net in extra.get("nets", []):
        if f"{net}: index=0,type=stream" not in network:
            raise AssertionError(f"{net} is no stream netdev: {network}")


def run_case(render, case):
    _, role, words, held, passed, ram_mib, backend, extra = case
    with started(render, Line(words, role, tuple(held), tuple(passed))) as vm:
        check_vm(vm.command, vm.process, os.fstat(vm.ram_fd).st_ino, role, ram_mib, backend, extra)
        vm.command("quit")
        expect("exit code", vm.process.wait(60), 0)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not shutil.which(QEMU[0]):
        print(f"1..0 # SKIP no {QEMU[0]}")
        sys.exit(0)
    render = os.path.abspath(sys.argv[1])
    print(f"1..{len(CASES)}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("disk.img", "a,b.img", "cd.iso"):
            with open(name, "wb") as image:
                image.truncate(MIB)
        for number, case in enumerate(CASES, 1):
            try:
                run_case(render, case)
                print(f"ok {number} - {case[0]}", flush=True)
            except Exception as error:  # each case says for itself what went wrong
                failed += 1
                print(f"not ok {number} - {case[0]}: {error}", flush=True)
        os.chdir("/")
    sys.exit(1 if failed else 0)


main()
