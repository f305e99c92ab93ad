# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the disk path costs: fio through our plugin and through nbdkit's own file plugin, on the
same image, in turns. tests/disk's driver plays the keeper: no VM, no network.

tap_*                past the log, as without a standby: the dirty map is kept
protected_seq_write  logged, an epoch committed every 20 ms, and written to journal and image behind
redo                 a log of 64 MiB to an image, as before a promoted VM's writes go past the log
"""

import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, Sequence

from measures import LabError, Plan, Row, median, quantile, timing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "disk"))
# pylint: disable=wrong-import-position
from diskworld import MIB, Side, World, poll  # noqa: E402

IMAGE_MIB = 256
LOG_MIB = 64
EPOCH_MS = 20
PIECE = 65536

JOBS = {
    "tap_seq_write": ("--rw=write", "--bs=128k", "--iodepth=8"),
    "tap_rand_write": ("--rw=randwrite", "--bs=4k", "--iodepth=16"),
    "tap_seq_read": ("--rw=read", "--bs=128k", "--iodepth=8"),
    "protected_seq_write": ("--rw=write", "--bs=128k", "--iodepth=8"),
}
NAMES = (*JOBS, "redo")


class Pair:
    """Both servers on one image, which holds data all over."""

    def __init__(self, world: World) -> None:
        self.side = world.a
        self.side.make_images(IMAGE_MIB * MIB)
        self.image = self.side.image()
        with open(self.image, "wb") as f:
            for _ in range(IMAGE_MIB):
                f.write(os.urandom(MIB))
        self.side.redo_area = "1G"
        self.side.make_memory(soft_mib=LOG_MIB, reserve_mib=256)
        self.side.start()
        socket = world.folder / "file.sock"
        self._file = subprocess.Popen(
            ["nbdkit", "-f", "-t", "16", "-U", socket, "file", self.image],
            stdin=subprocess.DEVNULL)
        poll(socket.exists, "nbdkit file")
        self.reference_uri = f"nbd+unix:///?socket={socket}"

    def close(self) -> None:
        self._file.kill()
        self._file.wait()

    def settle(self) -> None:
        """Nothing of one turn is left to be written in the next."""
        with open(self.image, "rb") as f:
            os.fsync(f.fileno())


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    with World() as world:
        both = Pair(world)
        try:
            yield both
        finally:
            both.close()


def fio(uri: str, seconds: float, options: Sequence[str]) -> float:
    """MiB/s."""
    done = subprocess.run(["fio", "--name=job", "--ioengine=nbd", f"--uri={uri}", *options,
                           f"--size={IMAGE_MIB}M", "--time_based", f"--runtime={seconds:g}",
                           "--output-format=json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LabError(f"fio: {done.stderr[-500:]}")
    job = json.loads(done.stdout[done.stdout.index("\n{"):])["jobs"][0]
    return (job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / MIB


def direct(side: Side, seconds: float, options: Sequence[str]) -> float:
    return fio(side.uri(), seconds, options)


def held(side: Side, seconds: float, options: Sequence[str]) -> float:
    side.hold(int(side.words()["open_epoch"]) + 1)
    side.automatic(EPOCH_MS)
    rate = fio(side.uri(), seconds, options)
    side.automatic(0)
    side.drain()
    return rate


def rate_row(both: Pair, plan: Plan, name: str) -> Row:
    """Throughput, so more is better; reference: nbdkit file."""
    run: Callable[[Side, float, Sequence[str]], float] = held if name.startswith("p") else direct
    ours, theirs = [], []
    for _ in range(plan.rounds):
        theirs.append(fio(both.reference_uri, plan.disk_s, JOBS[name]))
        both.settle()
        ours.append(run(both.side, plan.disk_s, JOBS[name]))
        both.settle()
    return Row(name, median(ours), "MiB/s", quantile(ours, 0.99), len(ours), median(theirs))


def fill_log(side: Side) -> None:
    """Pieces in no order, none twice: nothing can be left out, little can be joined."""
    nbd = side.connect()
    places = random.Random(1).sample(range(IMAGE_MIB * MIB // PIECE), LOG_MIB * MIB // PIECE)
    data = os.urandom(PIECE)
    for place in places:
        nbd.write(place * PIECE, data)
    nbd.disconnect()


def redo_row(side: Side, plan: Plan) -> Row:
    found = []
    for _ in range(plan.rounds):
        side.hold(int(side.words()["open_epoch"]) + 1)
        side.put(is_draining=1)  # the last few may use the reserve
        fill_log(side)
        side.put(is_draining=0)
        side.drain()
        found.append(side.words()["redo_ns"] / 1e6)
    return timing("redo", found)


def measure_disk(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    with pair() as both:
        for name in JOBS:
            if name in wanted:
                yield rate_row(both, plan, name)
        if "redo" in wanted:
            yield redo_row(both.side, plan)
