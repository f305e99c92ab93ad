#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Primary and standby lose each other, and the VM's lease decides who goes on: exactly one, at once,
and whoever talks to the guest notices nothing but a pause."""

import os
import signal
import sys

from checks import chance, check, expect, main, poll, say
from leased import LeasedPair
from labfreeze import instances
from protected import HOSTS, FAILOVER_S, Load

ROUNDS = int(os.environ.get("HF_VOTE_ROUNDS", "50"))


def primary_wins(pair: LeasedPair, load: Load) -> None:
    """Both are alive, and both reach the storage: the primary asks first, and the standby throws
    away what it holds. When the link is back it is filled anew."""
    lver = pair.lver()
    pair.split()
    pair.primary.wait("alone", timeout_s=FAILOVER_S)
    pair.standby.wait("idle", timeout_s=FAILOVER_S)
    expect(pair.lver() == lver + 1 and pair.owner() == pair.primary.host,
           f"{pair.owner()} owns lver {pair.lver()} after {lver}")
    load.wait_progress()
    pair.unsplit()
    pair.wait_protected()


def standby_wins(pair: LeasedPair, load: Load) -> None:
    """The primary is cut off from everybody: the standby goes live, and the primary learns that it
    has lost as soon as it can ask."""
    old, new = pair.primary, pair.standby
    lver = pair.lver()
    pair.lab.cut(old.host)
    new.wait("live", timeout_s=FAILOVER_S)
    pair.primary = new
    load.wait_progress()
    pair.lab.heal(old.host)
    expect(old.exit_code() == 5, f"exit code of the side that lost: {old.log()}")
    expect(pair.lver() == lver + 1 and pair.owner() == new.host,
           f"{pair.owner()} owns lver {pair.lver()} after {lver}")
    load.wait_progress()
    pair.renew()


def standby_is_cut_off(pair: LeasedPair, load: Load) -> None:
    pair.lab.cut(pair.standby.host)
    pair.primary.wait("alone", timeout_s=FAILOVER_S)
    load.wait_progress()
    pair.lab.heal(pair.standby.host)
    pair.standby.wait("idle", timeout_s=FAILOVER_S)
    pair.wait_protected()


@check
def split_brain() -> None:
    """Again and again: exactly one goes on."""
    with LeasedPair() as pair:
        load = Load(pair)
        ways = [primary_wins, standby_wins, standby_is_cut_off]
        for n in range(ROUNDS):
            way = ways[n] if n < len(ways) else chance.choice(ways)
            way(pair, load)
        load.finish()


@check
def a_freeze_says_what_became_of_the_lease() -> None:
    """With a standby it is that one's to claim; without one it is let go, and told once."""
    with LeasedPair() as pair:
        old, vm = pair.primary, pair.vm.name
        old.ask("Freeze", 30.0, reason="a test")
        pair.standby.wait("live", timeout_s=FAILOVER_S)
        poll(lambda: "is guarded" in old.log(), "it only guards now")
        frozen = instances(pair.lab, old.host, vm)[0].certificate
        expect(frozen["lease"] == "pledged", frozen)
        expect(pair.owner() == pair.standby.host, pair.owner())
        last = pair.standby
        last.ask("Freeze", 30.0, reason="a test")
        poll(lambda: "is guarded" in last.log(), "it only guards now")
        frozen = instances(pair.lab, last.host, vm)[0].certificate
        expect(frozen["lease"] == "released" and pair.owner() == "", (frozen, pair.owner()))
        expect("could not be released" not in last.log(), last.log())


@check
def death_is_failed_over_by_the_lease() -> None:
    """With a proof the standby does not wait for anything but the ballot."""
    with LeasedPair() as pair:
        load = Load(pair)
        for how in ("qemu", "keeper"):
            lver = pair.lver()
            live = pair.failover(how)
            say(f"{how}: {live['took_ns'] / 1e6:.1f} ms")
            expect(pair.lver() == lver + 1 and pair.owner() == pair.primary.host, pair.owner())
            load.wait_progress()
            pair.renew()
        pair.hand_over()
        expect(pair.owner() == pair.primary.host, pair.owner())
        load.wait_progress()
        load.finish()


@check
def silent_death_of_the_primarys_host() -> None:
    """No proof, no word: what only an operator could decide without a lease."""
    with LeasedPair() as pair:
        load = Load(pair)
        old = pair.primary
        pair.lab.kill_host(old.host, is_silent=True)
        pair.standby.wait("live", timeout_s=FAILOVER_S)
        pair.primary = pair.standby
        load.wait_progress()
        pair.boot_host(old.host)
        pair.renew()
        load.wait_progress()
        load.finish()


@check
def without_storage_nobody_goes_on() -> None:
    with LeasedPair() as pair:
        load = Load(pair)
        pair.area.pause()
        poll(lambda: pair.daemons[HOSTS[0]].status()["storage"] != "ok", "the storage is missed")
        load.wait_progress()  # what is protected does not need it
        pair.split()
        pair.primary.wait("holding", timeout_s=FAILOVER_S)
        pair.standby.wait("lost", timeout_s=FAILOVER_S)
        for keeper in (pair.primary, pair.standby):
            poll(lambda: "lease" in keeper.status()["protection"], "the status says why")
        pair.primary.wait("fenced", timeout_s=FAILOVER_S)
        poll(lambda: pair.primary.status()["guest"] == "stopped", "it stands still without a lease")
        expect(not pair.standby.seen("promoting") and not pair.primary.seen("alone"),
               "somebody went on without a verdict")
        pair.area.resume()
        pair.primary.wait("unfenced", "superseded", timeout_s=FAILOVER_S)
        live = [keeper for keeper in (pair.primary, pair.standby)
                if keeper.seen("alone") or keeper.seen("live")]
        poll(lambda: [k for k in (pair.primary, pair.standby) if k.seen("alone") or k.seen("live")],
             "one goes on")
        say(f"{[keeper.host for keeper in live]}")
        load.wait_progress()
        pair.unsplit()
        load.wait_progress()
        load.finish()


@check
def a_cut_that_heals_before_the_verdict() -> None:
    """The storage is slow: touch is regained while the votes are under way. Whatever they decide,
    one goes on, and is protected again."""
    with LeasedPair() as pair:
        load = Load(pair)
        for _ in range(3):
            pair.area.pause()
            pair.split()
            pair.primary.wait("holding", timeout_s=FAILOVER_S)
            pair.unsplit()
            pair.area.resume()
            poll(lambda: pair.primary.status()["protected"] or not pair.primary.proc.is_running(),
                 "protected, or superseded")
            if not pair.primary.proc.is_running():
                expect(pair.primary.exit_code() == 5, pair.primary.log())
                pair.primary = pair.standby
                pair.renew()
            load.wait_progress()
        pair.primary.proc.signal(signal.SIGCONT)
        load.finish()


if __name__ == "__main__":
    sys.exit(main())
