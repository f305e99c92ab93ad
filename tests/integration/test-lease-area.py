#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`holdfast lease init`, `dump` and `check` against sanlock's own tools: each reads what the other
has made, byte for byte where that is meant; damage is found where it is, and nothing is written by
those who only look; what breaks off in the middle leaves no lease area behind."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from checks import Skip, chance, check, expect, main, say
from labnet import command, tool
from leaseformat import LOCKSPACE_MAGIC, RESOURCE_MAGIC, Block, Record, checksum

MIB = 1 << 20
LEASES = 4  # areas behind the index's lease
EXTRA = struct.Struct("<IIQQII")
REQUEST_TAIL = slice(20, 24)  # sanlock leaves there what its memory held


@dataclass(frozen=True)
class Geometry:
    sector: int
    align_mib: int
    hosts: int

    @property
    def align(self) -> int:
        return self.align_mib * MIB

    @property
    def options(self) -> list[str]:
        return ["--sector", str(self.sector), "--align", f"{self.align_mib}M"]

    @property
    def sanlocks(self) -> list[str]:
        return ["-Z", str(self.sector), "-A", f"{self.align_mib}M"]


GEOMETRIES = [Geometry(512, 1, 2000), Geometry(4096, 1, 250), Geometry(4096, 2, 500),
              Geometry(4096, 4, 1000), Geometry(4096, 8, 2000)]
SMALL = GEOMETRIES[0]


def holdfast(*words: str, code: int = 0) -> str:
    """`holdfast lease ...`; what it has said, on both outputs."""
    done = subprocess.run([tool("src/cli/holdfast"), "lease", *words], capture_output=True,
                          text=True, timeout=120, check=False)
    expect(done.returncode == code,
           f"{' '.join(words)}: exit {done.returncode}, want {code}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def sanlock(*words: str) -> str:
    if not shutil.which("sanlock"):
        raise Skip("sanlock is not installed")
    return command("sanlock", "direct", *words)


def expect_text(text: str, *parts: str) -> None:
    squeezed = " ".join(text.split())
    for part in parts:
        expect(part in squeezed, f"no \"{part}\" in: {text}")


class Area:
    """A file in a folder of its own, which goes with it."""

    def __init__(self, g: Geometry = SMALL):
        self.g = g
        # Not on tmpfs, where there is no O_DIRECT before Linux 6.6.
        self._folder = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.folder = Path(self._folder.name)
        self.file = self.folder / "leases"

    def __enter__(self) -> "Area":
        return self

    def __exit__(self, *unused: object) -> None:
        self._folder.cleanup()

    def zeros(self, name: str = "leases") -> Path:
        path = self.folder / name
        with open(path, "wb") as f:
            f.truncate((3 + LEASES) * self.g.align)
        return path

    def init(self, *options: str, hosts: int = 0) -> None:
        holdfast("init", "--lockspace", "tt", "--hosts", str(hosts or self.g.hosts), "--leases",
                 str(LEASES), *self.g.options, *options, str(self.file))

    def by_sanlock(self, path: Path, io_timeout_s: int = 10) -> None:
        sanlock("init", "-s", f"tt:0:{path}:0", "-o", str(io_timeout_s), *self.g.sanlocks)
        sanlock("format", "-x", self.index_name(path), *self.g.sanlocks)

    def index_name(self, path: Path) -> str:
        return f"tt:{path}:{self.g.align}"

    def at(self, number: int) -> int:
        """Of a lease, number from 0."""
        return (3 + number) * self.g.align

    def lease(self, name: str, number: int) -> str:
        return f"tt:{name}:{self.file}:{self.at(number)}"

    def add(self, name: str, number: int, hosts: int = 8) -> None:
        """A lease with its entry, by sanlock."""
        sanlock("update", "-x", self.index_name(self.file), "-e", f"{name}:{self.at(number)}")
        sanlock("init", "-r", self.lease(name, number), "-n", str(hosts), *self.g.sanlocks)

    def digest(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        with open(self.file, "rb") as f:
            f.seek(offset)
            return f.read(length)

    def write(self, offset: int, data: bytes) -> None:
        with open(self.file, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def leader(self, number: int) -> Record:
        return Record.decode(self.read(self.at(number), self.g.sector), RESOURCE_MAGIC)

    def block_at(self, number: int, host_id: int) -> int:
        return self.at(number) + (1 + host_id) * self.g.sector

    def dump(self) -> dict:
        before = self.digest()
        dumped = json.loads(holdfast("dump", "--json", str(self.file)))
        expect(self.digest() == before, "dump has written")
        return dumped

    def problems(self) -> list[dict]:
        """As check finds them, in both forms; and it writes nothing."""
        before = self.digest()
        done = subprocess.run([tool("src/cli/holdfast"), "lease", "check", "--json",
                               str(self.file)], capture_output=True, text=True, timeout=120,
                              check=False)
        found = json.loads(done.stdout)["problems"] if done.stdout else []
        expect(done.returncode == (1 if found else 0), f"{done.returncode}: {done.stderr}")
        text = holdfast("check", str(self.file), code=done.returncode)
        for one in found[:100]:
            expect(f"offset {one['offset']} (sector {one['sector']}): {one['what']}" in text, text)
        expect(self.digest() == before, "check has written")
        return found

    def expect_problem(self, what: str, offset: int, sector_bytes: int = 0) -> None:
        found = self.problems()
        expect(any(what in one["what"] and one["offset"] == offset and
                   one["sector"] == offset // (sector_bytes or self.g.sector) for one in found),
               f"want \"{what}\" at {offset}: {len(found)}, first {found[:4]}")


# --- each reads the other's ----------------------------------------------------------------------

def without_rest(data: bytes, g: Geometry) -> bytes:
    """An area of a lease, without what sanlock does not care for."""
    masked = bytearray(data)
    masked[g.sector + REQUEST_TAIL.start:g.sector + REQUEST_TAIL.stop] = bytes(4)
    return bytes(masked)


@check
def areas_are_sanlocks_byte_for_byte() -> None:
    for g in GEOMETRIES:
        with Area(g) as area:
            area.init("--io-timeout", "3s")
            other = area.zeros("sanlocks")
            area.by_sanlock(other, 3)
            ours, theirs = area.file.read_bytes(), other.read_bytes()
            for number, what in enumerate(["lockspace", "index", "the index's lease"]):
                part = slice(number * g.align, (number + 1) * g.align)
                a, b = ours[part], theirs[part]
                if number == 2:
                    a, b = without_rest(a, g), without_rest(b, g)
                first = next((i for i in range(len(a)) if a[i] != b[i]), None) if a != b else None
                expect(a == b, f"{g}: {what} differs at {first}")
            expect(len(ours) == (3 + LEASES) * g.align, f"{g}: {len(ours)} bytes")


@check
def hosts_of_the_index_lease() -> None:
    for g in GEOMETRIES:
        with Area(g) as area:
            area.init(hosts=8)
            other = area.zeros("sanlocks")
            sanlock("init", "-r", f"tt:rindex_lease:{other}:{2 * g.align}", "-n", "8", *g.sanlocks)
            part = slice(2 * g.align, 3 * g.align)
            expect(without_rest(area.file.read_bytes()[part], g) ==
                   without_rest(other.read_bytes()[part], g), f"{g}")


@check
def sanlock_reads_ours() -> None:
    for g in GEOMETRIES:
        with Area(g) as area:
            area.init("--io-timeout", "7s")
            expect_text(sanlock("read_leader", "-s", f"tt:1:{area.file}:0"), "io_timeout 7",
                        f"sector_size {g.sector}", "space_name tt", "timestamp 0")
            expect_text(sanlock("read_leader", "-r", f"tt:rindex_lease:{area.file}:{2 * g.align}"),
                        f"max_hosts {g.hosts}", "resource_name rindex_lease", "lver 0")
            expect_text(sanlock("dump", f"{area.file}:0:{area.file.stat().st_size}"),
                        f"rindex_header 0x{g.align_mib} {g.sector} 4096 {g.align}", "rindex_lease")
            expect_text(sanlock("lookup", "-x", area.index_name(area.file)),
                        f"offset {area.at(0)}")
            area.add("vm1", 0)
            expect_text(sanlock("lookup", "-x", area.index_name(area.file), "-e", "vm1"),
                        f"name vm1 offset {area.at(0)}")
            expect(area.problems() == [], "check")


@check
def we_read_sanlocks() -> None:
    for g in GEOMETRIES:
        with Area(g) as area:
            area.by_sanlock(area.zeros(), 9)
            area.add("vm1", 0)
            area.add("vm3", 2, hosts=g.hosts)
            expect(area.problems() == [], "check")
            dumped = area.dump()
            (space,), (index,) = dumped["lockspaces"], dumped["indexes"]
            expect((space["name"], space["sector_bytes"], space["align_bytes"], space["max_hosts"])
                   == ("tt", g.sector, g.align, g.hosts), space)
            expect(index["entries"] == [{"name": "vm1", "offset": area.at(0)},
                                        {"name": "vm3", "offset": area.at(2)}], index)
            expect([(one["name"], one["num_hosts"], one["free"]) for one in dumped["leases"]] ==
                   [("rindex_lease", g.hosts, True), ("vm1", 8, True), ("vm3", g.hosts, True)],
                   dumped["leases"])
            expect_text(holdfast("dump", str(area.file)), f"lockspace \"tt\" at 0: sectors of "
                        f"{g.sector} bytes, areas of {g.align_mib} MiB", f"vm3 at {area.at(2)}")


@check
def old_areas_do_not_say_their_size() -> None:
    """Before sanlock 3.7 there were no flags."""
    with Area() as area:
        area.by_sanlock(area.zeros())
        for number in range(SMALL.hosts):
            old = Record.decode(area.read(512 * number, 512), LOCKSPACE_MAGIC)
            area.write(512 * number, Record(**{**old.__dict__, "flags": 0}).encode())
        expect(area.problems() == [], "check")
        expect(area.dump()["lockspaces"][0]["align_bytes"] == MIB, "dump")


@check
def a_lease_in_use() -> None:
    """Acquired, asked for and let go by sanlock itself, without a daemon."""
    with Area() as area:
        area.init("--io-timeout", "1s")
        area.add("vm1", 1)
        sanlock("acquire_id", "-s", f"tt:3:{area.file}:0", "-o", "1")
        sanlock("acquire", "-i", "3", "-g", "1", "-r", area.lease("vm1", 1))
        expect(area.problems() == [], "check")
        dumped = area.dump()
        (slot,) = dumped["lockspaces"][0]["slots"]
        expect((slot["host_id"], slot["generation"], slot["kind"], slot["io_timeout_s"],
                slot["free"]) == (3, 1, "sanlock", 1, False), slot)
        lease = dumped["leases"][1]
        expect((lease["owner_id"], lease["generation"], lease["lver"], lease["free"],
                lease["write_id"]) == (3, 1, 1, False, 3), lease)
        (block,) = lease["blocks"]
        expect((block["host_id"], block["owner_id"], block["lver"], block["released"]) ==
               (3, 3, 1, False), block)
        expect_text(holdfast("dump", str(area.file)), "owned by host 3 generation 1, lver 1")


@check
def what_holdfast_adds_to_a_slot() -> None:
    with Area() as area:
        area.init()
        area.write(512, holdfast_slot(2))
        expect(area.problems() == [], "check")
        (slot,) = area.dump()["lockspaces"][0]["slots"]
        expect((slot["kind"], slot["host"], slot["instance"], slot["sequence"], slot["renew_ms"],
                slot["fence_ms"], slot["requests_to"]) ==
               ("holdfast", "alpha", 77, 5, 500, 3000, [1, 3]), slot)
        expect_text(sanlock("read_leader", "-s", f"tt:2:{area.file}:0"), "resource_name alpha",
                    "owner_generation 4")


def plain_crc32c(data: bytes) -> int:
    """By what is known of sanlock's, which starts one lower and is not inverted: inverting the
    lowest bit of the first byte makes up for the start."""
    return checksum(bytes([data[0] ^ 1]) + data[1:]) ^ 0xFFFFFFFF


def holdfast_slot(host_id: int, fence_ms: int = 3000) -> bytes:
    """docs/lease-format.md, written down once more."""
    slot = bytearray(Record(LOCKSPACE_MAGIC, host_id, 4, 0, "tt", "alpha", 1000, 0, 1,
                            io_timeout_s=10).encode())
    slot[200:232] = EXTRA.pack(0x58464C48, 1, 77, 5, 500, fence_ms)
    slot[256] = 0b101
    covered = bytes(slot[:168] + slot[172:252])
    slot[252:256] = struct.pack("<I", plain_crc32c(covered))
    return bytes(slot)


@check
def who_only_looks_opens_for_reading() -> None:
    """In a mount namespace where the file's folder is read-only."""
    with Area() as area:
        area.init()
        for verb, code in (("check", 0), ("dump", 0), ("init --lockspace tt --force", 4)):
            script = (f"mount --bind {area.folder} {area.folder} && "
                      f"mount -o remount,bind,ro {area.folder} && "
                      f"exec {tool('src/cli/holdfast')} lease {verb} {area.file}")
            done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True,
                                  text=True, timeout=60, check=False)
            if "mount" in done.stderr or "unshare" in done.stderr:
                raise Skip(f"no mount namespace: {done.stderr.strip()}")
            expect(done.returncode == code, f"{verb}: {done.returncode}: {done.stderr}")


# --- damage --------------------------------------------------------------------------------------

def damaged(change: Callable[[Area], None], what: str, offset: int) -> None:
    with Area() as area:
        area.by_sanlock(area.zeros())
        area.add("vm1", 0)
        area.add("vm2", 1)
        change(area)
        area.expect_problem(what, offset)
        area.dump()


def flip(offset: int) -> Callable[[Area], None]:
    return lambda area: area.write(offset, bytes([area.read(offset, 1)[0] ^ 0x40]))


def put(offset: int, data: bytes) -> Callable[[Area], None]:
    return lambda area: area.write(offset, data)


def put_leader(**others: object) -> Callable[[Area], None]:
    def change(area: Area) -> None:
        area.write(area.at(0), Record(**{**area.leader(0).__dict__, **others}).encode())
    return change


@check
def damage_to_a_lockspace_is_found() -> None:
    damaged(flip(512 * 6 + 48), "slot of host 7: the checksum is", 512 * 6)
    damaged(put(512 * 6, b"LUKS"), "slot of host 7: the magic is 0x534b554c", 512 * 6)
    damaged(flip(512 * 6 + 6), "slot of host 7: version", 512 * 6)
    damaged(put(512 * 6, holdfast_slot(8)), "slot of host 7: it is held for host 8", 512 * 6)
    damaged(put(512 * 6, holdfast_slot(7)[:255] + b"x"), "what holdfast adds is damaged",
            512 * 6 + 200)
    damaged(put(512 * 6, holdfast_slot(7, 80000)), "what holdfast adds is damaged", 512 * 6 + 200)
    damaged(put(512 * 2040, b"x"), "something behind the slots", 512 * 2000)
    damaged(put(0, bytes(512)), "there is an index, but no lockspace", 0)
    damaged(put(0, b"something else"), "belong to no lease area", 0)


@check
def damage_to_an_index_is_found() -> None:
    entry = MIB + 512
    lost = struct.pack("<QQ48s", 3 * MIB, 0, b"vm1")
    far = struct.pack("<QQ48s", 1003 * MIB, 0, b"far")
    damaged(flip(MIB + 13), "index: its sector and area sizes are impossible", MIB)
    damaged(put(MIB + 16, struct.pack("<I", 20000)), "index: 20000 entries", MIB)
    damaged(put(MIB + 24, struct.pack("<Q", 2 * MIB)), "index: it says that it is at 2097152", MIB)
    damaged(put(MIB + 32, b"uu"), "index: of a lockspace that is not here", MIB)
    damaged(put(entry + 64, lost), "entry 1 says offset 3145728", entry + 64)
    damaged(put(entry, bytes(64)), "lease \"vm1\": it is not in the index", 3 * MIB)
    damaged(put(entry + 64 * 1000, far), "lease \"far\" would be at 1051721728", entry + 64 * 1000)
    damaged(put(entry + 16, b"vm2"), "lease \"vm2\" is not at 3145728", entry)
    damaged(put(entry + 16, b"vm2"), "lease \"vm2\" has two entries", entry + 64)
    damaged(put(entry + 16, bytes(3)), "entry 0 is in use but has no name", entry)
    damaged(put(2 * MIB, bytes(512)), "the lease that guards it (\"rindex_lease\")", 2 * MIB)


@check
def damage_to_a_lease_is_found() -> None:
    at = 3 * MIB
    beyond = Block(2001, 2001, 9, 1, 5, 1).encode()
    damaged(flip(at + 50), "leader: the checksum is", at)
    damaged(put_leader(owner=9, timestamp=5), "leader: its owner is host 9 of 8", at)
    damaged(put_leader(timestamp=5), "leader: it is held, but by host 0", at)
    damaged(put_leader(num_hosts=2001), "leader: 2001 hosts take part", at)
    damaged(put_leader(max_hosts=250), "leader: it is for 250 hosts at most", at)
    damaged(put_leader(name="vm2"), "lease \"vm1\" is not at 3145728", MIB + 512)
    damaged(put_leader(name="vm2"), "a second one of that name, the first is at 3145728", 4 * MIB)
    damaged(put_leader(space="uu"), "of a lockspace that is not here", at)
    damaged(put_leader(sector_bytes=4096), "one overlaps the other", at)
    damaged(put(at + 512, b"x"), "request: the magic is", at + 512)
    damaged(put(at + 512 + 16, b"\7"), "request: force mode 7", at + 512)
    damaged(put(at + 512 * 5, flipped(Block(4).encode())), "block of host 4: its checksum is wrong",
            at + 512 * 5)
    damaged(put(at + 512 * 5, beyond), "block of host 4: names host 9 of 8", at + 512 * 5)
    damaged(put(at + 512 * 21, beyond), "block of host 20: in use, but only hosts 1 to 8",
            at + 512 * 21)
    damaged(put(at + 512 * 5, Block(4, lver=7).encode()), "a ballot for lver 7, but the leader is "
            "at 0", at + 512 * 5)
    damaged(put(at + 512, b"\0" * 512), "request: the magic is", at + 512)


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@check
def the_trap_of_write_id_is_found() -> None:
    """docs/lease-format.md: a leader written by S for D, and an old release of D's."""
    def change(write_id: int, is_released: bool) -> Callable[[Area], None]:
        def write(area: Area) -> None:
            put_leader(owner=2, generation=1, lver=6, timestamp=9, write_id=write_id,
                       write_generation=1)(area)
            area.write(area.block_at(0, 2), Block(2, 2, 2, 1, 3, 4, int(is_released)).encode())
        return write

    damaged(change(1, True), "any host can take it from a live owner", 3 * MIB)
    for write_id, is_released in ((2, True), (1, False)):
        with Area() as area:
            area.by_sanlock(area.zeros())
            area.add("vm1", 0)
            change(write_id, is_released)(area)
            expect(area.problems() == [], f"{write_id} {is_released}")


@check
def overlapping_lockspaces_are_found() -> None:
    large = GEOMETRIES[4]
    with Area(large) as area:
        area.by_sanlock(area.zeros())
        sanlock("init", "-s", f"other:0:{area.file}:{2 * MIB}", "-Z", "512", "-A", "1M")
        area.expect_problem("a lockspace (lockspace \"other\") overlaps with the lockspace at 0, "
                            "which reaches to 8388608", 2 * MIB)
        area.expect_problem("slot of host 513: it is made for sectors of 512", 2 * MIB)
    with Area(large) as area:  # the later one took the place of the first one's beginning
        area.by_sanlock(area.zeros())
        sanlock("init", "-s", f"other:0:{area.file}:0", "-Z", "512", "-A", "1M")
        area.expect_problem("one overlaps the other", MIB, sector_bytes=512)
    with Area() as area:
        area.by_sanlock(area.zeros())
        sanlock("init", "-s", f"tt:0:{area.file}:{5 * MIB}")
        area.expect_problem("a second one of that name, the first is at 0", 5 * MIB)
        area.expect_problem("lockspace \"tt\": it is not in the index", 5 * MIB)


@check
def short_files_are_found() -> None:
    with Area() as area:
        area.by_sanlock(area.zeros())
        area.add("vm1", 0)
        for size, what, offset in ((3 * MIB + 4096, "lease: the storage ends at", 3 * MIB),
                                   (2 * MIB + 4096, "lease: the storage ends at", 2 * MIB),
                                   (MIB + 700, "index: the storage ends at", MIB),
                                   (100 * 512, "lockspace: the storage ends at", 0),
                                   (600, "lockspace: the storage ends at", 0),
                                   (300, "there is no lease area", 0),
                                   (0, "there is no lease area", 0)):
            os.truncate(area.file, size)
            area.expect_problem(what, offset)
            if size >= 512:
                area.dump()
            else:
                expect_text(holdfast("dump", str(area.file), code=1), "there is no lease area")


@check
def any_damage_is_survived() -> None:
    """Random bytes, sectors and whole areas: an answer, no crash, no write."""
    with Area() as area:
        area.by_sanlock(area.zeros())
        area.add("vm1", 0)
        whole = area.file.read_bytes()
        n_found = 0
        for _ in range(25):
            area.file.write_bytes(whole)
            for _ in range(chance.randint(1, 8)):
                at = chance.choice([0, 1, 2, 3]) * MIB + 512 * chance.choice(
                    [0, 0, 1, 2, 9, chance.randrange(2048)])
                length = chance.choice([1, 4, 64, 512, 5000])
                area.write(at + chance.randrange(256), chance.randbytes(length))
            found = area.problems()
            n_found += bool(found)
            holdfast("dump", str(area.file), code=dump_code(area))
        expect(n_found >= 20, f"damage found in {n_found} of 25 areas")


def dump_code(area: Area) -> int:
    done = subprocess.run([tool("src/cli/holdfast"), "lease", "dump", "--json", str(area.file)],
                          capture_output=True, text=True, timeout=60, check=False)
    expect(done.returncode in (0, 1), f"{done.returncode}: {done.stderr}")
    expect(done.returncode == 1 or json.loads(done.stdout), "no object")
    return done.returncode


# --- init ----------------------------------------------------------------------------------------

def refused(area: Area, reason: str, *options: str, code: int = 1) -> None:
    before = area.digest() if area.file.exists() else None
    said = holdfast("init", "--lockspace", "tt", *options, str(area.file), code=code)
    expect_text(said, reason)
    after = area.digest() if area.file.exists() else None
    expect(before == after, "a refusal has changed the file")


@check
def init_refuses_what_is_in_use() -> None:
    with Area() as area:
        area.by_sanlock(area.zeros())
        area.add("vm1", 0)
        refused(area, "not empty: lockspace (lockspace \"tt\") at offset 0")
        area.write(0, bytes(MIB))
        refused(area, "not empty: index at offset 1048576")
        area.write(MIB, bytes(2 * MIB))
        refused(area, "not empty: lease (lockspace \"tt\") at offset 3145728")
        area.init("--force")
        expect(area.problems() == [], "what was there before")
        for at in (0, 511, 5000, 2 * MIB - 1, 3 * MIB - 1, 3 * MIB + 100, 5 * MIB + 4000):
            area.zeros()
            area.write(at, b"x")
            refused(area, "other than zero")
        area.zeros()
        area.init()
        expect(area.problems() == [], "zeros are free")


@check
def init_says_what_does_not_fit() -> None:
    with Area() as area:
        for options, reason in (
                (["--sector", "512", "--align", "2M"], "there are 512 with 1 MiB"),
                (["--sector", "1024"], "there are 512 with 1 MiB"),
                (["--align", "3M"], "there are 512 with 1 MiB"),
                (["--sector", "4096", "--hosts", "251"], "there is room for 250"),
                (["--sector", "512", "--leases", "20000"], "the index has room for 16376")):
            refused(area, reason, *options)
        for options, reason in (
                (["--hosts", "0"], "--hosts 0: a number from 1 to 2000"),
                (["--hosts", "9x"], "--hosts 9x"), (["--io-timeout", "10"], "--io-timeout"),
                (["--io-timeout", "1500ms"], "whole seconds"), (["--io-timeout", "256s"], "255s"),
                (["--align", "16M"], "--align"), (["--lockspace", "a/b"], "--lockspace 'a/b'"),
                (["--lockspace", "x" * 49], "--lockspace"), (["--wrong"], "no such option")):
            refused(area, reason, *options, code=2)
        with open(area.file, "wb") as f:
            f.truncate(3 * MIB + 5000)
        refused(area, "lockspace, index and 1 lease of 1 MiB each need 4194304")
        refused(area, "3 leases of 1 MiB each need 6291456", "--leases", "3", "--force")
    with Area() as area:
        expect_text(holdfast("init", "--lockspace", "tt", str(area.folder), code=4),
                    str(area.folder))
        expect_text(holdfast("check", str(area.file), code=4), "No such file")
        expect_text(holdfast("dump", "nbd+unix:///?socket=/nonexistent/socket", code=4),
                    "nonexistent")
        expect_text(holdfast("init", str(area.file), code=2), "--lockspace NAME is missing")


@check
def init_makes_files() -> None:
    with Area() as area:
        holdfast("init", "--lockspace", "tt", str(area.file))
        expect(area.file.stat().st_size == 67 * MIB, "room for 64 leases")
        expect(area.file.stat().st_blocks * 512 >= 67 * MIB, "its blocks are there")
        expect(area.problems() == [], "check")
        area.file.write_bytes(b"")
        area.init()
        expect(area.file.stat().st_size == (3 + LEASES) * MIB, "an empty one has grown")
        holdfast("init", "--lockspace", "tt", "--leases", "5000", "--force", "--sector", "4096",
                 str(area.folder / "many"))
        dumped = json.loads(holdfast("dump", "--json", str(area.folder / "many")))
        expect(dumped["indexes"][0]["max_resources"] == 5000, dumped["indexes"])


SERVER = """
case "$1" in
  get_size) stat -L -c %s "$file" ;;
  can_write) exit 0 ;;
  pread) dd if="$file" iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=1M status=none ;;
  pwrite) n=$(cat "$left")
          if [ "$n" -le 0 ]; then cat >/dev/null; echo EIO no more >&2; exit 1; fi
          echo $((n - 1)) >"$left"
          dd of="$file" oflag=seek_bytes seek=$4 bs=1M conv=notrunc status=none ;;
  flush|can_flush|can_fua) [ "$1" = can_fua ] && echo emulate; exit 0 ;;
  thread_model) echo serialize_all_requests ;;
  *) exit 2 ;;
esac
"""


def init_with_writes(area: Area, n: int) -> int:
    """--force on an export that fails for good after @n writes. The exit status."""
    script, left = area.folder / "server", area.folder / "left"
    left.write_text(str(n))
    script.write_text(f"#!/bin/sh\nfile='{area.file}' left='{left}'\n{SERVER}")
    script.chmod(0o755)
    # nbdkit puts the address in $uri, and ends with the command.
    run = (f"{tool('src/cli/holdfast')} lease init --force --lockspace new --leases {LEASES} "
           "--sector 512 \"$uri\"")
    done = subprocess.run(["nbdkit", "-U", "-", "sh", str(script), "--run", run],
                          capture_output=True, text=True, timeout=120, check=False)
    return done.returncode


@check
def init_that_breaks_off_leaves_no_lease_area() -> None:
    if not shutil.which("nbdkit"):
        raise Skip("nbdkit is not installed")
    with Area() as area:
        area.by_sanlock(area.zeros())
        area.add("vm1", 0)
        old = area.file.read_bytes()
        for n in range(30):
            area.file.write_bytes(old)
            code = init_with_writes(area, n)
            dumped = area.dump() if code == 0 or dump_code(area) == 0 else {"lockspaces": []}
            names = [one["name"] for one in dumped["lockspaces"]]
            if code == 0:
                break
            expect(code == 4, f"{n} writes: exit {code}")
            expect(names == ([] if n else ["tt"]), f"{n} writes: {names}")
            expect(n == 0 or area.problems(), f"{n} writes: nothing is wrong?")
        say(f"{n} writes make a lease area")
        expect(names == ["new"] and n >= 6 and area.problems() == [], f"{n} writes: {names}")


@check
def block_devices() -> None:
    for g in (SMALL, GEOMETRIES[1]):
        with Area(g) as area:
            area.zeros()
            with loop_device(area) as device:
                expect_block_device(area, device)


@contextmanager
def loop_device(area: Area) -> Iterator[str]:
    done = subprocess.run(["losetup", "-f", "--show", "-b", str(area.g.sector),
                           str(area.file)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f"no loop device: {done.stderr.strip()}")
    try:
        yield done.stdout.strip()
    finally:
        command("losetup", "-d", done.stdout.strip())


def expect_block_device(area: Area, device: str) -> None:
    g = area.g
    if g.sector == 4096:
        expect_text(holdfast("init", "--lockspace", "tt", "--sector", "512", device, code=1),
                    "it is written in sectors of 4096 bytes")
    expect_text(holdfast("init", "--lockspace", "tt", "--leases", str(LEASES + 1), device, code=1),
                "need")
    holdfast("init", "--lockspace", "tt", device)
    expect_text(sanlock("read_leader", "-s", f"tt:1:{device}:0"), f"sector_size {g.sector}")
    expect_text(holdfast("check", device), "0 problems")
    expect_text(holdfast("init", "--lockspace", "tt", device, code=1), "--force destroys it")
    dumped = json.loads(holdfast("dump", "--json", device))
    expect(dumped["lockspaces"][0]["sector_bytes"] == g.sector, dumped)


if __name__ == "__main__":
    sys.exit(main())
