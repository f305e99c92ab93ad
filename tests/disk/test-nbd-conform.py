#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Others' NBD programs on the plugin: past the log, and with everything logged while epochs are
committed every 20 ms. What they wrote is compared with what the image holds in the end."""

import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Iterator

import diskworld
from diskworld import HOLD, MIB, Side, World, chance, check, expect, main, run

SIZE = 48 * MIB


class Case:
    """A side that serves, direct or held; settle() brings all to the image."""

    def __init__(self, world: World, is_held: bool) -> None:
        self.side: Side = world.a
        self.folder = world.folder
        self.is_held = is_held
        self.uri = self.side.uri()

    def settle(self) -> bytes:
        """What the image holds; it must be what clients read before."""
        before = self.side.read_all()
        if self.is_held:
            self.side.automatic(0)
            words = self.side.words()
            expect(words["state"] == HOLD, words)
            self.side.drain()
        else:
            nbd = self.side.connect()
            nbd.flush()
            nbd.disconnect()
        data = self.side.image().read_bytes()
        expect(len(data) == SIZE, f"the image has {len(data)} bytes")
        expect(data == before, "what is read before and after the drain differs "
               + first_difference(data, before))
        if self.is_held:
            self.side.hold(int(self.side.words()["open_epoch"]) + 1)
            self.side.automatic(20)
        return data


def first_difference(a: bytes, b: bytes) -> str:
    for at in range(0, min(len(a), len(b)), 512):
        if a[at:at + 512] != b[at:at + 512]:
            return f"at {at}: {a[at:at + 8].hex()} {b[at:at + 8].hex()}"
    return "nowhere"


@contextlib.contextmanager
def served(is_held: bool) -> Iterator[Case]:
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        side.make_memory(soft_mib=8)
        side.start()
        if is_held:
            side.hold(1)
            side.automatic(20)
        yield Case(world, is_held)
        if is_held:
            side.automatic(0)  # nbdkit waits for its clients to go, and the driver is one
        ended = side.end()
        expect(ended["how"] == "exited with status 0", ended)


def both(function):  # type: ignore[no-untyped-def]
    """Two checks of one: direct and held."""
    for is_held in (False, True):
        def run_one(is_held: bool = is_held) -> None:
            with served(is_held) as case:
                function(case)
        run_one.__name__ = f"{function.__name__}_{'held' if is_held else 'direct'}"
        check(run_one)
    return function


def make_sparse(path: Path) -> bytes:
    """Data, holes, and zeros that are data."""
    rng = random.Random(chance.randrange(1 << 32))
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for _ in range(30):
            f.seek(rng.randrange(SIZE // 512 - 2048) * 512)
            f.write(rng.randbytes(rng.randrange(1, 512) * 512))
        f.seek(SIZE // 2)
        f.write(bytes(MIB))
    return path.read_bytes()


@both
def nbdinfo(case: Case) -> None:
    info = json.loads(run("nbdinfo", "--json", case.uri))
    export = info["exports"][0]
    expect(export["export-size"] == SIZE and not export["is_read_only"], export)
    for can in ("can_flush", "can_fua", "can_trim", "can_zero", "can_cache", "can_multi_conn"):
        expect(export[can], f"{can}: {export}")
    expect("base:allocation" in export["contexts"], export)
    names = [e["export-name"] for e in json.loads(run("nbdinfo", "--list", "--json",
                                                      case.uri))["exports"]]
    expect(names == ["disk0"], names)
    nbd = case.side.connect()
    nbd.write(3 * MIB, b"x" * 65536)
    nbd.disconnect()
    extents = json.loads(run("nbdinfo", "--map", "--json", case.uri))
    expect(sum(e["length"] for e in extents) == SIZE, extents)
    data = [(e["offset"], e["offset"] + e["length"]) for e in extents if e["type"] == 0]
    expect(any(a <= 3 * MIB and b >= 3 * MIB + 65536 for a, b in data), extents)
    expect(sum(b - a for a, b in data) < MIB, f"holes are not seen: {extents}")
    case.settle()


@both
def nbdcopy(case: Case) -> None:
    source, out = case.folder / "source", case.folder / "out"
    want = make_sparse(source)
    run("nbdcopy", "--flush", source, case.uri)
    run("nbdcopy", case.uri, out)
    expect(out.read_bytes() == want, "it came back different")
    expect(case.settle() == want, "the image differs")
    blocks = case.side.image().stat().st_blocks * 512
    expect(blocks < SIZE // 2, f"holes became {blocks} bytes")
    run("nbdcopy", "--allocated", "--requests=3", "--connections=4", source, case.uri)
    expect(case.settle() == want, "the image differs after --allocated")


@both
def qemu_img(case: Case) -> None:
    source, out = case.folder / "source", case.folder / "out"
    want = make_sparse(source)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-W", source, case.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, case.uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", case.uri, out)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, out)
    extents = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", case.uri))
    expect(sum(e["length"] for e in extents) == SIZE, extents)
    expect(any(e["zero"] for e in extents), "no hole is reported")
    expect(case.settle() == want, "the image differs")


@both
def qcow2_on_it(case: Case) -> None:
    source = case.folder / "source"
    want = make_sparse(source)
    run("qemu-img", "create", "-f", "qcow2", case.uri, SIZE)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", source, case.uri)
    run("qemu-img", "check", "-f", "qcow2", case.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, case.uri)
    run("qemu-img", "snapshot", "-c", "one", case.uri)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 2M", "-c", "discard 8M 4M", case.uri)
    run("qemu-img", "snapshot", "-a", "one", case.uri)
    run("qemu-img", "check", "-f", "qcow2", case.uri)
    case.settle()
    side = case.side
    out = case.folder / "out"
    run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", side.image(), out)
    expect(out.read_bytes() == want, "the disk in the image differs")


@both
def qemu_io(case: Case) -> None:
    """Patterns, whole and unaligned; zeroes with and without unmap; discard; FUA; flush."""
    model = bytearray(SIZE)

    def fill(at: int, n: int, value: int) -> str:
        model[at:at + n] = bytes([value]) * n
        return f"{at} {n}"

    orders = [
        f"write -P 1 {fill(0, MIB, 1)}",
        f"write -P 2 {fill(4097, 8191, 2)}",
        f"write -f -P 3 {fill(MIB - 512, 4096, 3)}",
        f"write -P 4 {fill(10 * MIB, 4 * MIB, 4)}",
        f"write -z {fill(10 * MIB + 100, MIB, 0)}",
        f"write -z -u {fill(12 * MIB, MIB, 0)}",
        "flush",
        f"discard {fill(13 * MIB, 65536, 0)}",
        f"writev -P 5 {fill(20 * MIB, 512, 5).split()[0]} 512",
        f"aio_write -P 6 {fill(21 * MIB, 3 * MIB, 6)}",
        f"aio_write -f -P 8 {fill(30 * MIB, 32768, 8)}",
        "aio_flush",
        f"write -P 9 {fill(SIZE - 513, 513, 9)}",
    ]
    checks = [
        "read -P 1 0 4097", "read -P 2 4097 8191", f"read -P 3 {MIB - 512} 4096",
        f"read -P 0 {10 * MIB + 100} {MIB}", f"read -P 4 {11 * MIB + 100} {MIB - 100}",
        f"read -P 0 {12 * MIB} {MIB}", f"read -P 6 {21 * MIB} {3 * MIB}",
        f"read -P 9 {SIZE - 513} 513",
    ]
    words = [word for order in orders + checks for word in ("-c", order)]
    said = run("qemu-io", "-f", "raw", "-d", "unmap", "-t", "none", *words, case.uri)
    expect("Pattern verification failed" not in said and "failed" not in said, said)
    data = case.settle()
    expect(data == bytes(model), "the image differs " + first_difference(data, bytes(model)))


def fio(case: Case, *options: str) -> None:
    run("fio", "--name=job", "--ioengine=nbd", f"--uri={case.uri}", f"--size={SIZE}",
        f"--randseed={chance.randrange(1 << 32)}", "--group_reporting", "--output-format=terse",
        "--verify_state_save=0",
        *options)


@both
def fio_verify(case: Case) -> None:
    verify = ("--verify=crc32c", "--verify_fatal=1")
    fio(case, "--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=1", "--iodepth=16",
        "--io_size=48M", "--verify_backlog=64", "--fsync=50", *verify)
    case.settle()
    fio(case, "--rw=randrw", "--bs=4k", "--iodepth=32", "--io_size=24M", *verify)
    case.settle()


@both
def fio_trim(case: Case) -> None:
    """What fio trims and writes anew: the image must be what was read."""
    fio(case, "--rw=trimwrite", "--bs=64k", "--iodepth=8", "--io_size=32M")
    case.settle()
    fio(case, "--rw=randtrim", "--bs=4k", "--iodepth=16", "--io_size=8M")
    case.settle()


if __name__ == "__main__":
    assert diskworld.DRIVER.exists(), f"{diskworld.DRIVER} is not built"
    sys.exit(main())
