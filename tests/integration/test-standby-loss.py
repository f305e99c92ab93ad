#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The standby dies, the link is slow, or cut without a word. The guest must not notice more than a
pause, nothing may leave that is not safe, and protection must come back by itself."""

import os
import signal
import sys
import time

from checks import chance, check, expect, main, poll, say
from protected import Load, Pair

DEATHS = ("qemu", "keeper", "host")


def kill_standby(pair: Pair, how: str) -> None:
    dead = pair.standby
    if how == "host":
        pair.lab.kill_host(dead.host)
    else:
        os.kill(dead.qemu_pid if how == "qemu" else dead.pid, signal.SIGKILL)
    code = dead.exit_code()
    expect(code == (1 if how == "qemu" else -signal.SIGKILL), f"exit code {code} of {how}")
    poll(lambda: not pair.processes(dead.host), f"processes on {dead.host} after its death")


def wait_alone(pair: Pair) -> None:
    pair.primary.wait("alone")
    status = pair.primary.status()
    expect(status["state"] == "alone" and not status["protected"], status)
    expect("unprotected" in status["protection"], status)


@check
def standby_dies_in_an_epoch() -> None:
    with Pair() as pair:
        load = Load(pair)
        for how in DEATHS:
            time.sleep(chance.uniform(0, 0.3))
            kill_standby(pair, how)
            wait_alone(pair)
            load.wait_progress()
            pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
            pair.wait_protected()
            load.wait_progress()
        pair.failover("host")
        load.wait_progress()
        load.finish()


@check
def standby_dies_in_a_synchronisation() -> None:
    with Pair() as pair:
        load = Load(pair)
        kill_standby(pair, "keeper")
        wait_alone(pair)
        pair.guest.ask("mem 64")
        pair.guest.ask("dirty 1")
        pair.lab.set_rate("hostB", 150)
        for how in DEATHS:
            pair.standby = pair.start_standby("hostB", "hostA")
            pair.primary.wait("syncing")
            time.sleep(chance.uniform(0.2, 2))
            expect(not pair.standby.seen("ready"), "the synchronisation was too fast to die in")
            sync = pair.primary.status()["sync"]
            expect(0 < sync["done_bytes"] < sync["total_bytes"] * sync["round"] and
                   sync["rate_bytes_per_s"] > 0 and sync["remaining_ns"] > 0, sync)
            kill_standby(pair, how)
            wait_alone(pair)
            load.wait_progress()
        pair.lab.set_cable("hostB")
        pair.standby = pair.start_standby("hostB", "hostA")
        pair.wait_protected()
        pair.failover("qemu")
        pair.guest.memcheck()
        load.wait_progress()
        load.finish()


@check
def slow_link() -> None:
    """The guest writes as much as the link can carry, and more than it can while it is first
    filled: held back, it still goes on, and dies well."""
    with Pair() as pair:
        load = Load(pair, 200_000)
        pair.lab.set_cable("hostB", rate_mbit=100, delay_ms=2)
        pair.guest.ask("dirty max 12")
        load.wait_progress()
        say({k: v for k, v in pair.primary.status()["epochs"].items()})
        pair.failover("host")
        load.wait_progress()
        pair.guest.memcheck()
        pair.renew()
        pair.guest.memcheck()
        load.finish()


def outside_hears(load: Load, seconds: float) -> int:
    """Values and bytes that came from the guest within that time."""
    total = 0
    for proc, key in ((load.counter, "replies"), (load.stream, "bytes")):
        now_ns = time.monotonic_ns()
        first = proc.wait_event("progress", 30, lambda e: e["mono_ns"] > now_ns)
        last = proc.wait_event("progress", 30,
                               lambda e: e["mono_ns"] > now_ns + seconds * 1e9)
        total += last[key] - first[key]
    return total


@check
def cut_link_waits_and_heals() -> None:
    with Pair() as pair:
        load = Load(pair)
        for is_long in (False, True):
            pair.lab.cut("hostB")
            pair.primary.wait("holding")
            pair.standby.wait("lost")
            expect(outside_hears(load, 1.5) == 0, "a frame left that no standby knows of")
            primary, standby = pair.primary.status(), pair.standby.status()
            expect(primary["state"] == "holding" and not primary["protected"], primary)
            expect("held" in primary["protection"], primary)
            expect(standby["state"] == "lost" and not standby["protected"], standby)
            expect("not proven" in standby["protection"], standby)
            if is_long:  # what TCP has given up to repeat often is made anew
                poll(lambda: not pair.primary.status()["connected"], "the silent link is given up")
            pair.lab.heal("hostB")
            pair.primary.wait("protected")
            pair.standby.wait("ready")
            load.wait_progress()
        expect(not pair.standby.seen("live"), "the standby went live")
        pair.failover("qemu")
        load.wait_progress()
        load.finish()


@check
def dead_host_behind_a_cut_is_not_proven_dead() -> None:
    """Power failure: the cables die with the host. Only the operator can know."""
    with Pair() as pair:
        load = Load(pair)
        pair.lab.kill_host("hostA", is_silent=True)
        pair.standby.wait("lost")
        expect(outside_hears(load, 1.5) == 0, "somebody answers for a dead guest")
        expect(pair.standby.status()["state"] == "lost", "promoted without proof")
        pair.lab.boot_host("hostA")  # the host is back, and says that nobody listens there
        pair.standby.wait("live")
        pair.primary = pair.standby
        load.wait_progress()
        pair.renew()
        load.finish()


@check
def frozen_behind_a_cut_is_released_and_still_told() -> None:
    """What was kept may go before the standby has heard of the freeze; that it hears of it stays."""
    with Pair() as pair:
        load = Load(pair)
        frozen = pair.primary
        pair.lab.part(*pair.lab.hosts)
        frozen.wait("holding")
        frozen.ask("Freeze")
        frozen.wait("frozen")
        frozen.ask("Release")
        frozen.wait("released")
        pair.lab.rejoin(*pair.lab.hosts)
        pair.standby.wait("live", timeout_s=60)
        expect(frozen.exit_code() == 4, f"{frozen.exit_code()}: {frozen.log()}")
        pair.primary = pair.standby
        load.wait_progress()
        load.finish()


@check
def broken_connection_decides_nothing() -> None:
    """It is made anew at once."""
    with Pair() as pair:
        load = Load(pair)
        pair.lab.run("hostA", ["ss", "-K", "dst", pair.lab.repl_addr("hostB")])
        pair.standby.wait("lost")
        pair.standby.wait("ready")
        load.wait_progress()
        expect(not pair.standby.seen("promoting"), pair.standby.log())
        expect(not pair.primary.seen("alone"), pair.primary.log())
        load.finish()


@check
def frozen_primary_thaws() -> None:
    """A keeper that stood still while its VM was promoted elsewhere: its QEMU has run all the time,
    and of what that has sent nothing may get out when the keeper goes on."""
    with Pair() as pair:
        load = Load(pair)
        old = pair.primary
        old.proc.signal(signal.SIGSTOP)
        pair.standby.wait("lost")
        pair.standby.ask("Promote", force=True)
        pair.standby.wait("live")
        pair.primary = pair.standby
        load.wait_progress()
        old.proc.signal(signal.SIGCONT)
        expect(old.exit_code() == 5, f"exit code of a superseded primary: {old.log()}")
        load.wait_progress()
        pair.renew()
        load.finish()


@check
def frozen_standby_thaws() -> None:
    with Pair() as pair:
        load = Load(pair)
        pair.standby.proc.signal(signal.SIGSTOP)
        pair.primary.wait("holding")
        expect(outside_hears(load, 1.5) == 0, "a frame left that no standby knows of")
        pair.standby.proc.signal(signal.SIGCONT)
        pair.primary.wait("protected")
        load.wait_progress()
        pair.failover("host")
        load.wait_progress()
        load.finish()


if __name__ == "__main__":
    sys.exit(main())
