# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of a guest, and the oracle of them: what the client outside was told is durable.

Theory of operation. The guest (tests/guest/files.c, raw.c) writes versions of files and numbered
blocks, and says which are durable only when its kernel has said so. Durable asks it for that all
the time, over UDP, from the client's place: what has come here has left the VM, so it must be on
its disks for ever after, whatever dies. The guest verifies contents; that what it finds is not
older than what was told is verified here.
"""

import os
import select
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from labnet import CLIENT, Lab, LabError
from labvm import Guest

PORT_DURABLE = 7005
FILES = 64
HEAD = struct.Struct("<QIIQQ")
BLOCK = 1 << 20
SECTOR = 512


class Broken(LabError):
    """A disk has lost or invented something."""


@dataclass
class Disk:
    """A disk of a VM, with an image of the same path on each host. content: "ext4" or "": zeros."""
    lab: Lab
    name: str
    mib: int = 64
    format: str = "raw"
    content: str = ""
    device: str = "virtio-blk-pci"
    drive_options: str = "discard=unmap"
    location: str = ""  # instead of a file of the host: a path that both reach, or a URI

    @property
    def file_name(self) -> str:
        return f"{self.name}.{self.format}"

    def path(self, host: str) -> Path:
        """As this process sees it."""
        return Path(self.location) if self.location else self.lab.host_dir(host) / self.file_name

    def argv(self) -> list[str]:
        where = self.location or f"{self.lab.self_dir}/{self.file_name}"
        drive = f"file={where},format={self.format},if=none,id={self.name}"
        return ["-drive", ",".join(filter(None, (drive, self.drive_options))),
                "-device", f"{self.device},drive={self.name}"]

    def make(self, host: str, is_empty: bool = False) -> Path:
        """With its content, or as a standby needs it."""
        make_image(self.path(host), self.mib, self.format, "" if is_empty else self.content)
        return self.path(host)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def make_image(path: Path, mib: int, image_format: str = "raw", content: str = "") -> None:
    path.unlink(missing_ok=True)
    raw = path if image_format == "raw" else path.with_suffix(".tmp")
    with open(raw, "wb") as f:
        os.ftruncate(f.fileno(), mib << 20)
    if content == "ext4":
        _run("mkfs.ext4", "-q", "-F", str(raw))
    if raw != path:
        _run("qemu-img", "convert", "-f", "raw", "-O", image_format, str(raw), str(path))
        raw.unlink()


def flat(path: Path, image_format: str) -> Path:
    """The guest's view of an image, as a raw file; the image itself when it is one."""
    if image_format == "raw":
        return path
    raw = path.with_suffix(".flat")
    _run("qemu-img", "convert", "-f", image_format, "-O", "raw", str(path), str(raw))
    return raw


def check_ext4(path: Path, image_format: str = "raw") -> None:
    """An unmounted file system must be without a fault."""
    raw = flat(path, image_format)
    try:
        _run("e2fsck", "-fn", str(raw))
    except LabError as error:
        raise Broken(str(error)) from None
    finally:
        if raw != path:
            raw.unlink()


def first_difference(a: Path, b: Path) -> Optional[int]:
    """Offset of the first byte that differs; what is behind the end of a file counts as zeros."""
    with open(a, "rb") as fa, open(b, "rb") as fb:
        size = max(os.fstat(fa.fileno()).st_size, os.fstat(fb.fileno()).st_size)
        for at in range(0, size, BLOCK):
            da, db = fa.read(BLOCK).ljust(BLOCK, b"\0"), fb.read(BLOCK).ljust(BLOCK, b"\0")
            if da != db:
                return at + next(i for i in range(BLOCK) if da[i] != db[i])
    return None


def expect_same(a: Path, b: Path) -> None:
    at = first_difference(a, b)
    if at is not None:
        raise Broken(f"{a} and {b} differ from byte {at} on (block {at // 4096})")


class Durable(threading.Thread):
    """What the guest has said to be durable, of all its boots: asked for all the time."""

    def __init__(self, lab: Lab, addr: str, interval_s: float = 0.005):
        super().__init__(daemon=True)
        self._sock = lab.socket(CLIENT)
        self._sock.connect((addr, PORT_DURABLE))
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._is_ending = False
        self.told = [0] * FILES
        self.raw_told = 0
        self.told_ns = 0  # when something new came
        self.answers = 0
        self.faults: list[str] = []
        self._boot = 0
        self._latest: tuple[int, list[int], int] = (0, [0] * FILES, 0)
        self.start()

    def close(self) -> None:
        self._is_ending = True
        self.join()
        self._sock.close()

    def run(self) -> None:
        nonce = time.monotonic_ns()
        while not self._is_ending:
            nonce += 1
            self._ask(nonce)
            self._take_until(time.monotonic() + self._interval_s)

    def _ask(self, nonce: int) -> None:
        try:
            self._sock.send(struct.pack("<Q", nonce))
        except OSError:
            pass  # no route to a guest that is not up

    def _take_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._sock], [], [], left)[0]:
                try:
                    self._take(self._sock.recv(65536))
                except OSError:
                    continue

    @staticmethod
    def parse(data: bytes) -> tuple[int, int, int, list[int], list[int]]:
        """Nonce, boot id, numbered blocks, durable and found versions."""
        nonce, boot, count, raw, _zero = HEAD.unpack_from(data)
        words = struct.unpack_from(f"<{2 * count}Q", data, HEAD.size)
        return nonce, boot, raw, list(words[0::2]), list(words[1::2])

    def _take(self, data: bytes) -> None:
        nonce, boot, raw, durable, _found = self.parse(data)
        with self._lock:
            self.answers += 1
            if boot != self._boot:
                self._boot, self._latest = boot, (0, [0] * FILES, 0)
            if nonce > self._latest[0]:  # else sent again, or overtaken on its way
                self._judge(durable, raw)
                self._latest = (nonce, durable, raw)
            self.told = [max(a, b) for a, b in zip(self.told, durable)]
            self.raw_told = max(self.raw_told, raw)

    def _judge(self, durable: list[int], raw: int) -> None:
        """A boot cannot forget, but by "umount" and another region, and then it says 0."""
        _nonce, old_durable, old_raw = self._latest
        if any(new and new < old for new, old in zip([*durable, raw], [*old_durable, old_raw])):
            self.faults.append(f"the guest knows less than it told: {durable}, {raw} after "
                               f"{old_durable}, {old_raw}")
        if durable != old_durable or raw != old_raw:
            self.told_ns = time.monotonic_ns()

    def snapshot(self) -> tuple[list[int], int]:
        with self._lock:
            return list(self.told), self.raw_told

    def progress(self) -> tuple[int, int]:
        """Versions of files, and numbered blocks, that were told: they grow while it works."""
        told, raw = self.snapshot()
        return sum(told), raw

    def wait_progress(self, of_files: bool = True, of_raw: bool = False,
                      timeout_s: float = 30.0) -> None:
        """Until something new is durable."""
        before, deadline = self.progress(), time.monotonic() + timeout_s
        while True:
            now = self.progress()
            if (now[0] > before[0] or not of_files) and (now[1] > before[1] or not of_raw):
                return
            if time.monotonic() > deadline:
                raise LabError(f"nothing new is durable within {timeout_s:g} s: {before}, {now}")
            time.sleep(0.01)


def found_versions(lab: Lab, addr: str, timeout_s: float = 10.0) -> list[int]:
    """What the guest's last "filecheck" has found."""
    deadline = time.monotonic() + timeout_s
    with lab.socket(CLIENT) as sock:
        sock.connect((addr, PORT_DURABLE))
        while time.monotonic() < deadline:
            try:
                sock.send(struct.pack("<Q", 1))
            except OSError:
                pass
            if select.select([sock], [], [], 0.25)[0]:
                try:
                    return Durable.parse(sock.recv(65536))[4]
                except OSError:
                    continue
    raise LabError(f"the guest does not say what it has found within {timeout_s:g} s")


class DiskLoad:
    """The guest's jobs on its disks: files on one, numbered blocks on another; either may be "".
    Both may be stopped, checked and started again as often as one likes, in any boot."""

    def __init__(self, lab: Lab, guest: Guest, files_on: str = "vda", raw_on: str = "",
                 writers: int = 4, files: int = 24, raw_mib: int = 8, batch: int = 16,
                 rate: int = 0, raw_rate: int = 1000, mount_options: str = "discard"):
        self.lab, self.guest = lab, guest
        self.files_on, self.raw_on = files_on, raw_on
        self.files_order = f"files {writers} {files} 16 {rate}"
        self.raw_region = f"{raw_on} {raw_mib}"
        self.raw_order = f"raw {self.raw_region} {batch} {raw_rate}"
        self.mount_options = mount_options
        self.durable = Durable(lab, guest.addr)

    def close(self) -> None:
        self.durable.close()

    def mount(self) -> None:
        """Once in each boot."""
        if self.files_on:
            self.guest.ask(f"mount {self.files_on} {self.mount_options}", 60)

    def start(self) -> None:
        if self.files_on:
            self.guest.ask(self.files_order)
        if self.raw_on:
            self.guest.ask(self.raw_order)
        self.wait_progress()

    def wait_progress(self, timeout_s: float = 60.0) -> None:
        self.durable.wait_progress(bool(self.files_on), bool(self.raw_on), timeout_s)

    def stop(self) -> None:
        if self.files_on:
            self.guest.ask("files 0", 60)
        if self.raw_on:
            self.guest.ask(f"raw {self.raw_region}", 60)

    def check(self, timeout_s: float = 60.0, is_told_kept: bool = True) -> None:
        """Stops the work. Everything is read from the disks and held against what was told; unless
        that is on a disk that is not used any more: then it has to be of one time."""
        self.stop()
        told, raw_told = self.durable.snapshot()
        if not is_told_kept:
            told, raw_told = [0] * len(told), 0
        if self.files_on:
            self.guest.ask("filecheck", timeout_s, retry_s=2)
            found = found_versions(self.lab, self.guest.addr)
            lost = [(i, t, f) for i, (t, f) in enumerate(zip(told, found)) if f < t]
            if lost:
                raise Broken(f"told durable, but not found (file, told, found): {lost}")
        if self.raw_on:
            self.guest.ask(f"rawcheck {self.raw_region} {raw_told}", timeout_s, retry_s=2)
        stat = self.guest.stat()
        if stat["io_errors"]:
            raise Broken(f"the guest has met {stat['io_errors']} I/O errors, "
                         f"the first: {os.strerror(stat['io_errno'])}")
        if self.durable.faults and is_told_kept:
            raise Broken(self.durable.faults[0])

    def unmount(self) -> None:
        self.stop()
        if self.files_on:
            self.guest.ask("umount", 60)


def argv_of(disks: Sequence[Disk]) -> list[str]:
    return [word for disk in disks for word in disk.argv()]
