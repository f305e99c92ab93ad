# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a disk adds to the pause of an epoch: about a thousand writes in each, on a real pair.

The same guest does the same writes, in turns, to a disk that is protected and to one that QEMU
throws away (null-co): whatever the guest's own work costs is in both, and the difference is the
disk path's: QEMU's draining of requests over NBD, and the boundary in the log."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Iterator

from measures import Plan, Row, median, quantile
from stage import START_DEADLINE_S, LabError, Side, make_vm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "lab"))
# pylint: disable=wrong-import-position
from lab import Disk, Lab  # noqa: E402

INTERVAL_MS = 200
WRITES_PER_EPOCH = 1000
BATCH = 50
MIB = 16
WARM_UP_S = 0.5


@contextlib.contextmanager
def disk_side() -> Iterator[Side]:
    """A protected VM: vda is a protected disk, vdb swallows what is written."""
    with Lab(("a", "b")) as lab:
        vm = make_vm(lab, "held", 10)
        disk = Disk(lab, "disk0", mib=MIB)
        vm.extra = (*vm.extra, *disk.argv(),
                    "-drive", f"driver=null-co,size={MIB}M,if=none,id=swallow",
                    "-device", "virtio-blk-pci,drive=swallow")
        for host in ("a", "b"):
            disk.make(host)
        options = ("--epoch-interval", f"{INTERVAL_MS}ms", "--state-dir", f"{lab.self_dir}/state")
        vm.standby("b", "a", *options)
        vm.run("a", "b", *options)
        side = Side(lab, vm, ("a", "b"))
        side.guest.wait_up(START_DEADLINE_S)
        side.watch("a")
        side.wait_protected("a")
        yield side


def pauses_with(side: Side, device: str, seconds: float) -> tuple[list[float], float]:
    """The pauses, and how many writes there were per epoch."""
    rate = WRITES_PER_EPOCH * 1000 // INTERVAL_MS
    side.guest.ask(f"raw {device} {MIB} {BATCH} {rate}")
    time.sleep(WARM_UP_S)
    assert side.monitor
    before = side.guest.stat()["raw"]
    found = side.monitor.pauses_ms(seconds)
    writes = side.guest.stat()["raw"] - before
    side.guest.ask(f"raw {device} {MIB}")
    if not found or not writes:
        raise LabError(f"{device}: {len(found)} pauses, {writes} writes")
    return found, writes / len(found)


def measure_disk_pause(plan: Plan) -> Iterator[Row]:
    """pause_disk_extra: the difference of the medians; p99: that of the 99th percentiles;
    reference: the median without."""
    found: dict[str, list[float]] = {"vda": [], "vdb": []}
    per_epoch: dict[str, list[float]] = {"vda": [], "vdb": []}
    with disk_side() as side:
        for _ in range(plan.rounds):
            for device in found:
                pauses, writes = pauses_with(side, device, plan.pause_s)
                found[device] += pauses
                per_epoch[device].append(writes)
    held, swallowed = found["vda"], found["vdb"]
    print(f"writes per epoch: {median(per_epoch['vda']):.0f} protected, "
          f"{median(per_epoch['vdb']):.0f} swallowed", file=sys.stderr)
    extra = median(held) - median(swallowed)
    yield Row("pause_disk_extra", extra, "ms", quantile(held, 0.99) - quantile(swallowed, 0.99),
              len(held), median(swallowed))
