#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The oracle of disks tested by itself: the guest runs under plain QEMU, without holdfast. What the
integration tests rest on is shown disks that have lost or changed something, and must see it.

usage: test-labdisk.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU, QEMU_DATA. Exit status: 0, 1, or 77 when not root."""

import mmap
import os
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
from checks import check, expect, main, poll  # noqa: E402  pylint: disable=wrong-import-position
# pylint: disable=wrong-import-position
from lab import Broken, Disk, DiskLoad, Guest, GuestError, Lab, Proc, Vm  # noqa: E402
from labdisk import argv_of, check_ext4, expect_same  # noqa: E402

FILE_MAGIC = struct.pack("<Q", 0x31454C4946464821)
RAW_MAGIC = struct.pack("<Q", 0x31574152664821)
HOST = "hostA"


class Running:
    """A guest with two disks on hostA, and its jobs. boot() as often as one likes."""

    def __init__(self, image_format: str = "raw", drive_options: str = "discard=unmap"):
        self.lab = Lab()
        self.disks = [Disk(self.lab, "files", format=image_format, content="ext4"),
                      Disk(self.lab, "blocks", mib=16, drive_options=drive_options)]
        self.vm = Vm(self.lab, smp=2)

    def __enter__(self) -> "Running":
        self.lab.__enter__()
        try:
            self.vm.extra = argv_of(self.disks)
            for disk in self.disks:
                disk.make(HOST)
            self.guest = Guest(self.lab)
            self.load = DiskLoad(self.lab, self.guest, raw_on="vdb", rate=100)
            self.qemu: Proc = self.vm.start_plain(HOST)
            self.guest.wait_up()
            self.load.mount()
        except BaseException:
            self.lab.close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.load.close()
        self.guest.close()
        self.lab.close()

    def boot(self) -> None:
        """After the death of the last one; the file system is mounted."""
        self.qemu = self.lab.spawn(HOST, self.vm.qemu_argv(",script=no,downscript=no"))
        self.guest.wait_up()
        self.load.mount()

    def path(self, number: int) -> Path:
        return self.disks[number].path(HOST)

    def snapshot(self) -> list[Path]:
        """Copies of the images as they are at one moment."""
        self.qemu.signal(signal.SIGSTOP)
        copies = [Path(shutil.copy(self.path(n), f"{self.path(n)}.old")) for n in range(2)]
        self.qemu.signal(signal.SIGCONT)
        return copies


def expect_broken(what: Callable[[], None], *words: str) -> None:
    """It must be told, with one of these words."""
    try:
        what()
    except (Broken, GuestError) as error:
        expect(any(word in str(error) for word in words), error)
    else:
        raise AssertionError("nothing was noticed")


def places(image: Path, magic: bytes) -> Iterator[int]:
    """Blocks of the image that begin so."""
    with open(image, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        for at in range(0, len(m), 4096):
            if m[at:at + len(magic)] == magic:
                yield at


def flip(image: Path, at: int) -> None:
    with open(image, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


@check
def what_was_told_is_there_after_a_crash() -> None:
    for image_format in ("raw", "qcow2"):
        with Running(image_format) as r:
            for _ in range(2):
                r.load.start()
                r.load.wait_progress()
                r.qemu.kill()
                r.boot()
                r.load.check()
            r.load.unmount()
            r.qemu.kill()
            check_ext4(r.path(0), image_format)
            expect(r.load.durable.answers > 10, "the outside was told next to nothing")


@check
def a_word_is_durable_when_put() -> None:
    with Running() as r:
        for word in ("first", "second"):
            r.guest.ask(f"put note {word}")
            expect(r.guest.ask("get note")["word"] == word, "another word")
        r.qemu.kill()
        r.boot()
        expect(r.guest.ask("get note")["word"] == "second", "forgotten")


@check
def a_boot_knows_exactly_what_it_wrote() -> None:
    with Running() as r:
        r.load.start()
        poll(lambda: min(r.load.durable.progress()) > 100, "a hundred of each")
        r.load.check()
        blocks = list(places(r.path(1), RAW_MAGIC))
        expect(len(blocks) > 100, "blocks are not found in the image")
        flip(r.path(1), blocks[50] + 2000)
        expect_broken(r.load.check, "rawcheck")
        flip(r.path(1), blocks[50] + 2000)
        r.load.check()
        for at in places(r.path(0), FILE_MAGIC):
            flip(r.path(0), at + 30)
        expect_broken(r.load.check, "filecheck")


@check
def an_older_disk_is_seen() -> None:
    """In the same boot, and in the next."""
    with Running() as r:
        r.load.start()
        r.load.wait_progress()
        old = r.snapshot()
        for _ in range(3):
            r.load.wait_progress()
        r.qemu.kill()
        new = [Path(shutil.copy(r.path(n), f"{r.path(n)}.new")) for n in range(2)]
        shutil.copy(old[0], r.path(0))
        r.boot()
        expect_broken(r.load.check, "told durable, but not found")
        r.qemu.kill()
        shutil.copy(new[0], r.path(0))
        shutil.copy(old[1], r.path(1))
        r.boot()
        expect_broken(r.load.check, "rawcheck")
        r.qemu.kill()
        shutil.copy(new[0], r.path(0))
        shutil.copy(new[1], r.path(1))
        r.boot()
        r.load.check()


@check
def damaged_file_systems_and_copies_are_seen() -> None:
    with Running() as r:
        r.load.start()
        r.load.check()
        r.load.unmount()
        r.qemu.kill()
        check_ext4(r.path(0))
        copy = Path(shutil.copy(r.path(0), f"{r.path(0)}.copy"))
        expect_same(r.path(0), copy)
        os.truncate(copy, 128 << 20)
        expect_same(r.path(0), copy)
        flip(copy, 5 << 20)
        expect_broken(lambda: expect_same(r.path(0), copy), f"from byte {5 << 20} on")
        with open(r.path(0), "r+b") as f:
            f.seek(4096)
            f.write(bytes(4096))
        expect_broken(lambda: check_ext4(r.path(0)), "e2fsck")


@check
def errors_of_a_disk_are_seen() -> None:
    """QEMU lets writes fail, and tells the guest so."""
    failing = "file.driver=blkdebug,file.inject-error.0.event=write_aio,file.inject-error.0.errno=5"
    with Running() as r:
        r.qemu.kill()
        r.vm.extra = [word.replace("file=", f"{failing},file.image.driver=file,"
                                   "file.image.filename=", 1) if "id=blocks" in word else word
                      for word in r.vm.extra]
        r.boot()
        r.guest.ask(r.load.raw_order)
        poll(lambda: r.guest.stat()["io_errors"], "the guest's first error")
        expect_broken(r.load.check, "I/O errors", "rawcheck")
        expect(r.guest.stat()["io_errno"] == 5, r.guest.stat())


if __name__ == "__main__":
    sys.exit(main())
