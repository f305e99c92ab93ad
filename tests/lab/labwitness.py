# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has run a VM, and that never two did at once: by its disk and its lease, by nobody's word.

Theory of operation. The guest is tiny.S in mode 5: 20 times a second it writes a record to its
disk, which all hosts share. A record has the tag of its host, the number of the tick in this boot
and the number on this disk; a boot goes on from the last one that it finds. So of one that runs
alone each record is the next of the same boot, or the first of a new one. Another that runs
meanwhile breaks that: it goes on from the same number, so numbers are written twice, and the boots
alternate.

The witness reads head and history of the disk some hundred times a second, and the leader of the
lease before and after. A new record is by somebody who owned the lease at one of the looks around
it. An order of things is held against, never a time.
"""

import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from labnet import LabError, build_dir
from leaseformat import RESOURCE_MAGIC, SECTOR, RawDisk, Record

TICKS = 5  # tests/guest/tiny.S
MODE_ADDRESS, TAG_ADDRESS = 0x500, 0x504
TICK = struct.Struct("<8sIII")
MAGIC = b"HOLDTICK"
HISTORY = 2047  # sectors of the ring
IMAGE_BYTES = 2 << 20
PAUSE_S = 0.004
KEPT = 64  # records that are looked at again each time
NO_OWNER = 0


def tick_argv(drive: str, tag: str, more: str = "") -> str:
    """QEMU's arguments for the guest that ticks. drive: options of -drive, but for what must be; no
    lock of the image may keep two QEMUs apart: that is what is watched."""
    return (f"-machine pc -accel tcg,tb-size=1 -m 8 -nodefaults -display none -device pvpanic "
            f"-bios {build_dir()}/tests/guest/tiny.bin "
            f"-device loader,addr={MODE_ADDRESS:#x},data={TICKS},data-len=1 "
            f"-device loader,addr={TAG_ADDRESS:#x},data={tag},data-len=4 "
            f"-drive if=ide,format=raw,werror=stop,rerror=stop,{drive} {more}")


@dataclass(frozen=True)
class Tick:
    tag: int  # the host's id
    tick: int  # in this boot
    number: int  # on this disk

    @staticmethod
    def decode(sector: bytes) -> Optional["Tick"]:
        magic, tag, tick, number = TICK.unpack_from(sector)
        return Tick(tag, tick, number) if magic == MAGIC else None

    def follows(self, last: Optional["Tick"]) -> bool:
        """The next record of the same boot, or the first of a new one."""
        number, tag, tick = (last.number, last.tag, last.tick) if last else (-1, 0, -1)
        return self.number == number + 1 and (
            self.tick == 0 or (self.tag == tag and self.tick == tick + 1))


@dataclass
class Boot:
    """What one QEMU has written. Times are the witness's, CLOCK_MONOTONIC."""
    tag: int
    ticks: int
    first_ns: int
    last_ns: int


class Image:
    """The guest's disk, as it is on the shared storage."""

    def __init__(self, path: Path):
        self.path = path
        with open(path, "wb") as f:
            f.write(bytes(IMAGE_BYTES))
        self._fd = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self._fd)

    def head(self) -> Optional[Tick]:
        return Tick.decode(os.pread(self._fd, SECTOR, 0))

    def record(self, number: int) -> Optional[Tick]:
        at = (1 + number % HISTORY) * SECTOR
        return Tick.decode(os.pread(self._fd, SECTOR, at))


class Witness:
    """with Witness(path) as w: ... area and offset: where the VM's lease is, if it has one."""

    def __init__(self, path: Path, area: Optional[Path] = None, offset: int = 0):
        self.image = Image(path)
        self.faults: list[str] = []
        self.boots: list[Boot] = []
        self.owners: list[int] = []  # that the lease has had, NO_OWNER when it was free
        self._lease = RawDisk(area) if area else None
        self._offset = offset
        self._known: dict[int, Tick] = {}
        self._last: Optional[Tick] = None
        self._around: list[int] = []  # owners at the looks around what is read next
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Witness":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.image.close()
        if self._lease:
            self._lease.close()

    # --- looking ---

    def _run(self) -> None:
        while not self._is_over.wait(PAUSE_S):
            try:
                self.look()
            except (OSError, ValueError, LabError) as error:
                self.faults.append(f"the witness cannot see: {error}")
                return

    def look(self) -> None:
        """Now, too."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        self._look_at_lease()
        head = self.image.head()
        if head and head != self._last:
            self._take(head)
        self._look_again()

    def _owner(self) -> int:
        assert self._lease
        leader = Record.decode(self._lease.read(self._offset), RESOURCE_MAGIC)
        return NO_OWNER if leader.is_free else leader.owner

    def _look_at_lease(self) -> None:
        if not self._lease:
            return
        owner = self._owner()
        self._around = [*self._around[-2:], owner]
        if self.owners[-1:] != [owner]:
            self.owners.append(owner)

    def _take(self, head: Tick) -> None:
        """All records up to the head: the guest writes history first."""
        self._look_at_lease()
        first = self._last.number + 1 if self._last else max(0, head.number - HISTORY + 1)
        if head.number < first:
            self._blame(f"{head} after {self._last}")
        for number in range(max(first, head.number - HISTORY + 1), head.number + 1):
            self._take_one(self.image.record(number) if number != head.number else head, number)

    def _take_one(self, tick: Optional[Tick], number: int) -> None:
        if tick is None or tick.number != number:
            self._blame(f"record {number} is {tick}")
            return
        if not tick.follows(self._last):
            self._blame(f"{tick} after {self._last}")
        if self._lease and tick.tag not in self._around:
            self._blame(f"{tick} by host {tick.tag}, but the lease was owned by {self._around}")
        self._count(tick)
        self._last = self._known[number] = tick
        self._known.pop(number - KEPT, None)

    def _count(self, tick: Tick) -> None:
        now_ns = time.monotonic_ns()
        if tick.tick == 0 or not self.boots:
            self.boots.append(Boot(tick.tag, 0, now_ns, now_ns))
        self.boots[-1].ticks += 1
        self.boots[-1].last_ns = now_ns

    def _look_again(self) -> None:
        """What has been read stays as it is."""
        for number, tick in self._known.items():
            found = self.image.record(number)
            if found != tick and found and found.number <= number:
                self._blame(f"{tick} has become {found}")
                self._known[number] = found
                return

    def _blame(self, what: str) -> None:
        if len(self.faults) < 20:
            self.faults.append(what)

    # --- saying ---

    def hosts(self) -> list[int]:
        """The tag of each boot, in order."""
        self.look()
        return [boot.tag for boot in self.boots]

    def ticks(self) -> int:
        """Of the last boot."""
        self.look()
        return self.boots[-1].ticks if self.boots else 0

    def expect_once(self) -> None:
        """It has never run twice at once, nor without its lease."""
        self.look()
        if self.faults:
            raise LabError(f"it has run twice at once: {self.faults}; boots: {self.boots}; "
                           f"owners: {self.owners}")
