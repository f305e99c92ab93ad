#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""crash(8) opens the dump of a panicked guest and tells of the panic: with the symbols of Debian's
kernel, which are 283 MB to fetch, so it is part of `make soak` only.

usage: test-crash.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SOAK_MINUTES; HF_VMLINUX: of the guest's kernel,
with symbols, instead of fetching it. Exit status: 0, 1, or 77 when not root."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

from checks import Skip, check, expect, main, say, soak_s

# pylint: disable=wrong-import-position
from frozenvm import HOST, Guarded, GuestVm, cli, guest_vm  # noqa: E402
from lab import Guest, Lab  # noqa: E402

COMMANDS = "sys\nbt\nps\nlog\nquit\n"


def fetch(folder: Path, version: str) -> Path:
    """The one file that is needed, of the package with the symbols."""
    package = f"linux-image-{version}-dbg"
    got = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True,
                         text=True, timeout=1800, check=False)
    found = list(folder.glob("*.deb"))
    if got.returncode or not found:
        raise Skip(f"{package} cannot be had: {got.stderr.strip()[-200:]}")
    subprocess.run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -x --wildcards "*/vmlinux-*"',
                    found[0]], cwd=folder, timeout=600, check=True)
    found[0].unlink()
    files = [path for path in folder.rglob("vmlinux-*") if not path.is_symlink()]
    expect(len(files) == 1, files)
    return files[0]


@contextlib.contextmanager
def symbols(guest_dir: Path) -> Iterator[Path]:
    if "HF_VMLINUX" in os.environ:
        yield Path(os.environ["HF_VMLINUX"])
        return
    if soak_s() is None:
        raise Skip("only in `make soak`: the kernel's symbols are 283 MB to fetch")
    version = (guest_dir / "kernel/version").read_text().strip()
    with tempfile.TemporaryDirectory(prefix="holdfast-symbols-", dir="/var/tmp") as path:
        yield fetch(Path(path), version.removeprefix("linux-image-"))


def panicked(lab: Lab, vm: GuestVm, g: Guarded) -> None:
    with Guest(lab, vm.addr) as guest:
        guest.wait_up(120.0)
        with contextlib.suppress(Exception):
            guest.ask("panic", 5.0)
    g.wait_frozen()


@check
def crash_tells_of_the_panic() -> None:
    """The cause, the backtrace of the process that caused it, the kernel's log; of both formats."""
    if not shutil.which("crash"):
        raise Skip("crash is not installed")
    with Lab((HOST,)) as lab, tempfile.TemporaryDirectory(dir="/var/tmp") as to:
        vm = guest_vm(lab, f"{lab.prefix}crash", 0, smp=2, extra=("-device", "pvpanic"))
        with symbols(vm.guest_dir) as vmlinux, Guarded(vm) as g:
            panicked(lab, vm, g)
            for form in ("elf", "kdump-zlib"):
                done = cli(g, "dump", vm.name, f"{to}/{form}", "--format", form, timeout_s=120)
                expect(done.returncode == 0, done)
                crash = subprocess.run(["crash", "-s", vmlinux, f"{to}/{form}"], input=COMMANDS,
                                       capture_output=True, text=True, timeout=600, check=False)
                text = crash.stdout
                for words in ("PANIC: \"Kernel panic - not syncing: sysrq triggered crash\"",
                              "sysrq_handle_crash", "vfs_write", "swapper/1", "Linux version"):
                    expect(words in text, f"{form}: no {words}: {text[:3000]} {crash.stderr}")
                say(f"{form}:\n" + "\n".join(text.splitlines()[:20]))


if __name__ == "__main__":
    sys.exit(main())
