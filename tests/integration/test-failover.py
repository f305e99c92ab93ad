#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The primary dies at random moments under network load, again and again, in both directions: its
QEMU, its keeper, or all of its host's processes. 30 times in a normal run; with HF_SOAK_MINUTES
500 times, or until that time is over."""

import sys
import time

from checks import chance, check, main, say, soak_s
from protected import Load, Pair

DEATHS = ("qemu", "keeper", "host")
NORMAL_COUNT = 30
SOAK_COUNT = 500
BOOTS = 3
# From the very moment of being protected to somewhere between two idle epochs.
MOMENT_MAX_S = 0.6


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


if __name__ == "__main__":
    sys.exit(main())
