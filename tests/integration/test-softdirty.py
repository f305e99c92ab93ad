#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The soft-dirty fallback of the write tracker, in a guest whose kernel has it.

Boots Debian's kernel under QEMU (TCG) with the static unit tests of the tracker as process 1, and
passes their TAP on. The same sources run here as on the host; on a kernel before 6.7 they have to
fall back by themselves.

usage: test-softdirty.py TEST_PROGRAM CHILD_PROGRAM

HF_GUEST_DIR  folder that holds the kernel, "vmlinuz" or "vmlinuz-*"
QEMU          the QEMU to use (default qemu-system-x86_64)
Exit code: 0 passed, 1 failed, 77 skipped with the reason.
"""
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile

TIMEOUT_S = 240


def skip(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


def find_kernel():
    folder = os.environ.get("HF_GUEST_DIR")
    if not folder:
        skip("HF_GUEST_DIR is not set")
    found = sorted(glob.glob(os.path.join(folder, "vmlinuz")) +
                   glob.glob(os.path.join(folder, "vmlinuz-*")))
    if not found:
        skip(f"no vmlinuz in {folder}")
    return found[-1]


def cpio_entry(name, mode, data=b"", device=(0, 0)):
    """One file in the 'newc' format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0]
    header = b"070701" + b"".join(b"%08X" % f for f in fields)
    entry = header + path
    entry += b"\0" * (-len(entry) % 4) + data
    return entry + b"\0" * (-len(entry) % 4)


def build_initramfs(test, child):
    archive = cpio_entry("dev", 0o040755)
    archive += cpio_entry("dev/console", 0o020600, device=(5, 1))
    for name, source in (("init", test), ("child", child)):
        with open(source, "rb") as f:
            archive += cpio_entry(name, 0o100755, f.read())
    archive += cpio_entry("TRAILER!!!", 0)
    return gzip.compress(archive, 1)


def run_guest(qemu, kernel, initrd):
    # Unknown words with '=' on the kernel's command line become process 1's environment.
    append = ("console=ttyS0 quiet panic=-1 HOLDFAST_TEST_CHILD=/child "
              "HOLDFAST_TEST_MODE=soft-dirty")
    command = [qemu, "-accel", "tcg", "-M", "q35", "-cpu", "max", "-smp", "2", "-m", "1024",
               "-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot",
               "-kernel", kernel, "-initrd", initrd, "-append", append]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as vm:
        try:
            output, _ = vm.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            vm.kill()
            output, _ = vm.communicate()
            print(f"# no end after {TIMEOUT_S} s")
    return output.decode(errors="replace").replace("\r", "").splitlines()


def judge(lines):
    plan = next((int(m[1]) for m in (re.search(r"1\.\.(\d+)$", x) for x in lines) if m), None)
    passed = [x for x in lines if re.match(r"ok \d+ - ", x)]
    ended = any(x.startswith("# init: tests ended with status 0") for x in lines)
    for line in lines:
        print(line if re.match(r"(not )?ok |# |1\.\.", line) else f"# guest: {line}")
    if plan is None or len(passed) != plan or not ended:
        print(f"# wanted {plan} tests passed and a clean end, have {len(passed)}")
        return 1
    return 0


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    qemu = os.environ.get("QEMU", "qemu-system-x86_64")
    if not shutil.which(qemu):
        skip(f"{qemu} is not installed")
    kernel = find_kernel()
    with tempfile.NamedTemporaryFile(suffix=".img") as initrd:
        initrd.write(build_initramfs(sys.argv[1], sys.argv[2]))
        initrd.flush()
        lines = run_guest(qemu, kernel, initrd.name)
    sys.exit(judge(lines))


if __name__ == "__main__":
    main()
