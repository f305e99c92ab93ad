#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The primary dies at random moments under network load, again and again, in both directions: its
QEMU, its keeper, or all of its host's processes. 30 times in a normal run; with HF_SOAK_MINUTES
500 times, or until that time is over."""

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, Optional

from checks import Skip, chance, check, expect, main, poll, say, soak_s
from lab import Guest, LabError
from protected import Load, Pair

DEATHS = ("qemu", "keeper", "host")
NORMAL_COUNT = 30
SOAK_COUNT = 500
BOOTS = 3
# From the very moment of being protected to somewhere between two idle epochs.
MOMENT_MAX_S = 0.6


class BurstReader(threading.Thread):
    """The guest's "burst", seen by a client of its own."""

    def __init__(self, pair: Pair, count: int):
        super().__init__(daemon=True)
        self.guest, self.count = Guest(pair.lab), count
        self.numbers: list[int] = []
        self.error: Optional[LabError] = None

    def seen(self) -> int:
        return len(self.numbers)

    def run(self) -> None:
        try:
            self.guest.burst(self.count, 200, 60, into=self.numbers)
        except LabError as error:
            self.error = error
        self.guest.close()


def rounds() -> tuple[int, float]:
    """How many failovers a boot has to stand, and within which time."""
    seconds = soak_s()
    if seconds is None:
        return NORMAL_COUNT // BOOTS, float("inf")
    return -(-SOAK_COUNT // BOOTS), seconds / BOOTS


def fail_over_many(machine: str, smp: int) -> None:
    count, seconds = rounds()
    deadline = time.monotonic() + seconds
    took_ms: list[float] = []
    with Pair(machine=machine, smp=smp) as pair:
        load = Load(pair)
        while len(took_ms) < count and time.monotonic() < deadline:
            how = chance.choice(DEATHS)
            time.sleep(chance.uniform(0, MOMENT_MAX_S))
            live = pair.failover(how)
            load.wait_progress()
            took_ms.append(live["took_ns"] / 1e6)
            say(f"{machine}, {smp} vCPUs, death {len(took_ms)} ({how}): live from epoch "
                f"{live['epoch']}, {took_ms[-1]:.1f} ms after the decision")
            pair.renew()
        results = load.finish()
    say(f"{len(took_ms)} failovers, {sorted(took_ms)[len(took_ms) // 2]:.1f} ms p50, "
        f"{results['counter']['highest']} values, {results['stream']['bytes']} bytes")


@check
def pc_with_one_vcpu() -> None:
    fail_over_many("pc", 1)


@check
def q35_with_two_vcpus() -> None:
    fail_over_many("q35", 2)


@check
def q35_with_four_vcpus() -> None:
    fail_over_many("q35", 4)


@check
def no_datagram_is_missing() -> None:
    """What was sent in the last epochs is sent again: some may come twice, none is missing, and
    nothing is overtaken but by its own repetition."""
    count = 30000
    with Pair() as pair:
        for how in (*DEATHS, "promote"):
            reader = BurstReader(pair, count)
            reader.start()
            poll(lambda: reader.seen() > 200, "datagrams of the burst")
            time.sleep(chance.uniform(0, 0.2))
            before = reader.seen()
            if how == "promote":
                pair.hand_over()
            else:
                pair.failover(how)
            reader.join()
            expect(reader.error is None, reader.error)
            expect(set(reader.numbers) == set(range(count)),
                   f"{count - len(set(reader.numbers))} of {count} datagrams are missing")
            back = [(a, b) for a, b in zip(reader.numbers, reader.numbers[1:]) if b < a]
            say(f"{how}, after {before} datagrams: {len(reader.numbers) - count} came twice, "
                f"steps back: {back[:10]}")
            expect(len(back) <= 1, f"{len(back)} times a number came after a higher one")
            pair.renew()


@contextlib.contextmanager
def huge_pages(count: int) -> Iterator[None]:
    """So many free ones of 2 MiB, for as long as this lasts."""
    setting = Path("/proc/sys/vm/nr_hugepages")
    before = int(setting.read_text())
    setting.write_text(str(before + count))
    try:
        if int(setting.read_text()) < before + count:
            raise Skip(f"no memory for {count} huge pages of 2 MiB")
        yield
    finally:
        setting.write_text(str(before))


@check
def huge_pages_as_guest_memory() -> None:
    with huge_pages(300), Pair(options=("--hugepages", "2M")) as pair:
        load = Load(pair)
        for how in DEATHS:
            pair.failover(how)
            load.wait_progress()
            pair.renew()
        load.finish()


@check
def dies_before_it_is_protected() -> None:
    """A standby that has only a part of the VM must not promote it."""
    with Pair() as pair:
        pair.standby.ask("Stop", force=True)
        pair.standby.exit_code()
        pair.primary.wait("alone")
        pair.lab.set_rate("hostB", 100)
        pair.standby = pair.start_standby("hostB", "hostA")
        pair.standby.wait("syncing")
        time.sleep(chance.uniform(0, 1))
        pair.kill_primary("host")
        pair.standby.wait("idle")
        time.sleep(1)
        expect(not pair.standby.seen("promoting"), pair.standby.log())
        expect(pair.standby.status()["state"] == "idle", pair.standby.status())


if __name__ == "__main__":
    sys.exit(main())
