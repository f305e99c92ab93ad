# SPDX-License-Identifier: LGPL-2.1-or-later
"""sanlock's disk format as a second pair of eyes sees it: read, and written, by the table of
docs/lease-format.md alone. What holdfast reads and writes is held against this and against sanlock.

usage: leaseformat.py --watch PATH OFFSET    read the leader there until SIGTERM, tell each change
"""

import json
import mmap
import os
import signal
import struct
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

SECTOR = 512
MAX_HOSTS = 2000
NAME_BYTES = 48
LOCKSPACE_MAGIC, RESOURCE_MAGIC = 0x12212010, 0x06152010
VERSION = {LOCKSPACE_MAGIC: 0x00030004, RESOURCE_MAGIC: 0x00060004}
# magic version flags sector_size num_hosts max_hosts owner_id owner_generation lver
# space_name resource_name timestamp unused1 | checksum unused2 io_timeout | write_id and its
# generation and timestamp
HEAD = struct.Struct("<IIIIQQQQQ48s48sQQ")
TAIL = struct.Struct("<IHHQQQ")
# mbal bal owner generation timestamp lver | checksum flags
BLOCK = struct.Struct("<QQQQQQ")
BLOCK_TAIL = struct.Struct("<II")
# What holdfast adds to its own slots, from byte 200 on.
EXTRA_AT, EXTRA_BYTES = HEAD.size + TAIL.size, 56
BITMAP_AT, BITMAP_BYTES = 256, 256
RELEASED = 1
BLOCK_HOST_1 = 2  # the sector of host 1's block; host N's is N - 1 further on


class FormatError(Exception):
    """What stands there is not what was looked for."""


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def checksum(data: bytes) -> int:
    """CRC-32C that starts at ~1 and is not inverted at the end."""
    crc = 0xFFFFFFFE
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def _name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode()


@dataclass(frozen=True)
class Record:
    """A host's slot in a lockspace (name: the host's), or the leader of a resource."""
    magic: int
    owner: int
    generation: int
    lver: int
    space: str
    name: str
    timestamp: int
    num_hosts: int
    max_hosts: int = MAX_HOSTS
    flags: int = 0x10
    sector_bytes: int = SECTOR
    io_timeout_s: int = 0
    write_id: int = 0
    write_generation: int = 0
    write_timestamp: int = 0

    @property
    def is_free(self) -> bool:
        return self.timestamp == 0

    @property
    def tenure(self) -> tuple[int, int, int]:
        """Owner, generation, lver: one tenure for ever; 0, 0, lver when it is free."""
        return (0, 0, self.lver) if self.is_free else (self.owner, self.generation, self.lver)

    @staticmethod
    def decode(sector: bytes, magic: int) -> "Record":
        found = HEAD.unpack_from(sector)
        crc, _unused, io_timeout, *write = TAIL.unpack_from(sector, HEAD.size)
        if found[0] != magic or found[1] >> 16 != VERSION[magic] >> 16:
            raise FormatError(f"magic {found[0]:#x}, version {found[1]:#x}")
        if crc != checksum(sector[:HEAD.size]):
            raise FormatError(f"checksum {crc:#x}, not {checksum(sector[:HEAD.size]):#x}")
        return Record(magic, found[6], found[7], found[8], _name(found[9]), _name(found[10]),
                      found[11], found[4], found[5], found[2], found[3], io_timeout, *write)

    def encode(self) -> bytes:
        """As a whole sector, zeros behind the record."""
        head = HEAD.pack(self.magic, VERSION[self.magic], self.flags, self.sector_bytes,
                         self.num_hosts, self.max_hosts, self.owner, self.generation, self.lver,
                         self.space.encode(), self.name.encode(), self.timestamp, 0)
        tail = TAIL.pack(checksum(head), 0, self.io_timeout_s, self.write_id,
                         self.write_generation, self.write_timestamp)
        return (head + tail).ljust(self.sector_bytes, b"\0")


@dataclass(frozen=True)
class Block:
    """A host's block in a resource."""
    mbal: int = 0
    bal: int = 0
    owner: int = 0
    generation: int = 0
    timestamp: int = 0
    lver: int = 0
    flags: int = 0

    @property
    def is_released(self) -> bool:
        return bool(self.flags & RELEASED)

    @staticmethod
    def decode(sector: bytes) -> "Block":
        numbers = BLOCK.unpack_from(sector)
        crc, flags = BLOCK_TAIL.unpack_from(sector, BLOCK.size)
        if any(sector[:BLOCK.size + BLOCK_TAIL.size]) and crc != checksum(sector[:BLOCK.size]):
            raise FormatError(f"block's checksum {crc:#x}")
        return Block(*numbers, flags)

    def encode(self) -> bytes:
        head = BLOCK.pack(self.mbal, self.bal, self.owner, self.generation, self.timestamp,
                          self.lver)
        return (head + BLOCK_TAIL.pack(checksum(head), self.flags)).ljust(SECTOR, b"\0")


class RawDisk:
    """Sectors past the page cache, as those who use leases read and write them."""

    def __init__(self, path: Path | str, is_writable: bool = False):
        self._fd = os.open(path, (os.O_RDWR | os.O_DSYNC if is_writable else os.O_RDONLY)
                           | os.O_DIRECT)
        self._buffer = mmap.mmap(-1, 1 << 16)

    def close(self) -> None:
        os.close(self._fd)
        self._buffer.close()

    def __enter__(self) -> "RawDisk":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def read(self, offset: int, sectors: int = 1) -> bytes:
        with memoryview(self._buffer)[:sectors * SECTOR] as view:
            if os.preadv(self._fd, [view], offset) != len(view):
                raise FormatError(f"the area ends before byte {offset + len(view)}")
            return bytes(view)

    def write(self, offset: int, data: bytes) -> None:
        self._buffer[:len(data)] = data
        with memoryview(self._buffer)[:len(data)] as view:
            if os.pwritev(self._fd, [view], offset) != len(data):
                raise OSError(f"short write at {offset}")


class RawLease(RawDisk):
    """One resource of 512-byte sectors, without any rule: tests write with it what no program that
    keeps the rules would."""

    def __init__(self, path: Path | str, offset: int):
        super().__init__(path, is_writable=True)
        self.offset = offset

    def leader(self) -> Record:
        return Record.decode(self.read(self.offset), RESOURCE_MAGIC)

    def write_leader(self, leader: Record) -> None:
        self.write(self.offset, leader.encode())

    def name_owner(self, owner: int, generation: int, **others: int) -> Record:
        """The leader as it is, but for the owner and what is given; written by the new owner."""
        leader = replace(self.leader(), owner=owner, generation=generation,
                         timestamp=int(time.monotonic()),
                         **{"write_id": owner, "write_generation": generation, **others})
        self.write_leader(leader)
        return leader

    def _block_at(self, host_id: int) -> int:
        return self.offset + (BLOCK_HOST_1 + host_id - 1) * SECTOR

    def block(self, host_id: int) -> Block:
        return Block.decode(self.read(self._block_at(host_id)))

    def write_block(self, host_id: int, block: Optional[Block]) -> None:
        """None: zeros."""
        self.write(self._block_at(host_id), block.encode() if block else bytes(SECTOR))


def read_slot(path: Path | str, host_id: int, offset: int = 0) -> tuple[Record, bytes]:
    """A host's slot, and the bytes that holdfast adds."""
    with RawDisk(path) as disk:
        sector = disk.read(offset + (host_id - 1) * SECTOR)
    return (Record.decode(sector, LOCKSPACE_MAGIC), sector[EXTRA_AT:EXTRA_AT + EXTRA_BYTES])


def watch(path: str, offset: int) -> None:
    """Reads the leader as often as it can. Each change is an event, dated by the end of the read
    that showed it; the last event says how many reads there were and the longest time between."""
    is_over = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, stop)
    reads, gap_ns, last_ns = 0, 0, time.monotonic_ns()
    before = b""
    with RawDisk(path) as disk:
        print(json.dumps({"event": "ready"}), flush=True)
        while not is_over:
            sector = disk.read(offset)
            now_ns = time.monotonic_ns()
            reads, gap_ns, last_ns = reads + 1, max(gap_ns, now_ns - last_ns), now_ns
            if sector != before:
                leader, before = Record.decode(sector, RESOURCE_MAGIC), sector
                print(json.dumps({"event": "leader", "at_ns": now_ns, "free": leader.is_free,
                                  "owner": leader.owner, "generation": leader.generation,
                                  "lver": leader.lver, "write_id": leader.write_id}), flush=True)
    print(json.dumps({"event": "result", "reads": reads, "longest_gap_ns": gap_ns,
                      "at_ns": last_ns}), flush=True)


if __name__ == "__main__" and sys.argv[1:2] == ["--watch"]:
    watch(sys.argv[2], int(sys.argv[3]))
