#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that writes memory as fast as it can, and dies so. After each failover every page of its
buffer must be of the generation that the guest itself has counted: no page lost, old or torn."""

import sys
import time

from checks import chance, check, expect, main, poll, say
from protected import Load, Pair

PAGE_BYTES = 4096
DEATHS = ("qemu", "keeper", "host")


def dirtied_in(pair: Pair, seconds: float) -> int:
    before = pair.guest.stat()["dirtied"]
    time.sleep(seconds)
    return pair.guest.stat()["dirtied"] - before


def die_busily(pair: Pair, work: str, times: int) -> None:
    """Each death comes while the guest works and is protected; the work goes on across it."""
    load = Load(pair, 1_000_000)
    pair.guest.ask(work)
    for i in range(times):
        how = chance.choice(DEATHS)
        time.sleep(chance.uniform(0.2, 1.2))
        pages = dirtied_in(pair, 0.5)
        expect(pages > 0, "the guest is starved: it has not written a page in half a second")
        epochs = pair.primary.status()["epochs"]
        pair.failover(how)
        load.wait_progress()
        answer = pair.guest.memcheck()
        say(f"{work}, {how}: {2 * pages} pages/s, {epochs['dirty_pages']} in the last epoch, "
            f"pause p50 {epochs['pause']['p50_ns'] / 1e6:.1f} ms; memcheck {answer}")
        if i + 1 < times:
            pair.renew()
    load.finish()


@check
def writes_as_fast_as_it_can() -> None:
    with Pair(smp=2) as pair:
        die_busily(pair, "dirty max 64", 4)


@check
def computes_on_all_vcpus() -> None:
    with Pair(smp=2) as pair:
        pair.guest.ask("mem 32")
        pair.guest.ask("spin 4")
        die_busily(pair, "dirty 20", 2)


@check
def epochs_larger_than_their_bound() -> None:
    """With a bound far below the working set an epoch is sent in pieces, and is still one."""
    with Pair(options=("--epoch-memory", "4M")) as pair:
        die_busily(pair, "dirty max 64", 3)


@check
def growing_epochs_are_committed_early() -> None:
    """1 page per ms for up to 10 s would be ten times the bound: it must be looked at before."""
    bound_pages = (4 << 20) // PAGE_BYTES
    with Pair(options=("--epoch-memory", "4M", "--epoch-interval", "10s")) as pair:
        pair.guest.ask("dirty 1")
        start = pair.primary.status()["epochs"]
        poll(lambda: pair.primary.status()["epochs"]["committed"] > start["committed"] + 5,
             "epochs come early although nothing is sent")
        epochs = pair.primary.status()["epochs"]
        expect(epochs["early_commits"] > start["early_commits"], epochs)
        expect(0 < epochs["dirty_pages"] <= bound_pages, epochs)
        pair.failover("qemu")
        pair.guest.memcheck()


if __name__ == "__main__":
    sys.exit(main())
