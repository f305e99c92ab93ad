#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host is fenced by somebody who can, and that is proof of its death: what waited for one goes on at once. A word that
comes too late, or about a host that was heard since, proves nothing."""

import re
import sys
import time
from typing import Any, Callable

from checks import check, expect, main, poll, say
from protected import FAILOVER_S, HOSTS, Keeper, Load, Pair, Refused


def refused(call: Callable[[], Any], reason: str) -> None:
    try:
        answer = call()
    except Refused as refusal:
        expect(re.search(reason, str(refusal)), f"want \"{reason}\": {refusal}")
        return
    raise AssertionError(f"not refused ({reason}): {answer}")


def peer_died(keeper: Keeper, host: str, time_ns: int) -> dict[str, Any]:
    return keeper.ask("PeerDied", host=host, time_ns=time_ns, text="reboot by a test")


def power_off(pair: Pair, host: str) -> int:
    """Without a word. The time at which it was done."""
    pair.lab.kill_host(host, is_silent=True)
    return time.time_ns()


@check
def a_fenced_primary_is_dead_and_its_standby_goes_live() -> None:
    """No lease, no port that could refuse: nobody but who fenced can know."""
    with Pair() as pair:
        load = Load(pair)
        old, new = pair.primary, pair.standby
        fenced_ns = power_off(pair, old.host)
        new.wait("lost")
        begun = time.monotonic()
        answer = peer_died(new, old.host, fenced_ns)
        expect(answer["is_dead"] and old.host in answer["text"], answer)
        new.wait("live", timeout_s=FAILOVER_S)
        say(f"fenced to live: {(time.monotonic() - begun) * 1e3:.0f} ms")
        pair.primary = new
        load.wait_progress()
        expect(not peer_died(new, old.host, time.time_ns())["is_dead"], "nobody is left to die")
        pair.lab.boot_host(old.host)
        pair.renew()
        load.wait_progress()
        fenced_before_it_is_missed(pair, load)
        load.finish()


def fenced_before_it_is_missed(pair: Pair, load: Load) -> None:
    """The word may be there before the silence has lasted for the time-out: it is kept until then."""
    old, new = pair.primary, pair.standby
    fenced_ns = power_off(pair, old.host)
    answer = peer_died(new, old.host, fenced_ns)
    say(f"at once: {answer}")
    new.wait("live", timeout_s=FAILOVER_S)
    pair.primary = new
    load.wait_progress()


@check
def a_primary_whose_standby_was_fenced_goes_on_alone() -> None:
    with Pair() as pair:
        load = Load(pair)
        dead = pair.standby.host
        fenced_ns = power_off(pair, dead)
        pair.primary.wait("holding")
        expect(peer_died(pair.primary, dead, fenced_ns)["is_dead"], pair.primary.log())
        pair.primary.wait("alone", timeout_s=FAILOVER_S)
        load.wait_progress()
        pair.lab.boot_host(dead)
        pair.standby = pair.start_standby(dead, pair.primary.host)
        pair.wait_protected()
        refused(lambda: peer_died(pair.primary, dead, fenced_ns), "was made after that")
        load.finish()


@check
def a_late_word_proves_nothing() -> None:
    """The link was cut, the other host was said to be fenced, but it was heard since."""
    with Pair() as pair:
        load = Load(pair)
        standby, old = pair.standby, pair.primary.host
        before_ns = time.time_ns() - 3600_000_000_000
        refused(lambda: peer_died(standby, old, before_ns), "was made after that")
        refused(lambda: peer_died(standby, old, 0), "none at all")
        refused(lambda: peer_died(standby, old, time.time_ns() + 3600_000_000_000), "ahead of")
        refused(lambda: peer_died(standby, "../" + old, time.time_ns()), "not a name")
        pair.lab.part(*HOSTS)
        standby.wait("lost")
        late_ns = time.time_ns()
        pair.lab.rejoin(*HOSTS)
        standby.wait("ready")
        refused(lambda: peer_died(standby, old, late_ns), "after that")
        pair.lab.part(*HOSTS)
        standby.wait("lost")
        refused(lambda: peer_died(standby, old, late_ns), "after that")
        expect(not standby.seen("promoting"), standby.log())
        pair.lab.rejoin(*HOSTS)
        standby.wait("ready")
        load.wait_progress()
        load.finish()


@check
def a_hand_over_is_ordered_at_the_primary() -> None:
    with Pair() as pair:
        load = Load(pair)
        old, new = pair.primary, pair.standby
        refused(lambda: new.ask("HandOver"), "standby")
        pair.lab.part(*HOSTS)
        refused(lambda: old.ask("HandOver"), "called off.*lost touch|now: lost touch")
        pair.lab.rejoin(*HOSTS)
        pair.primary.wait("protected")
        load.wait_progress()
        begun = time.monotonic()
        old.ask("HandOver")
        say(f"handed over: {(time.monotonic() - begun) * 1e3:.0f} ms")
        new.wait("live", timeout_s=FAILOVER_S)
        expect(old.exit_code() == 0, old.log())
        pair.primary = new
        load.wait_progress()
        refused(lambda: new.ask("HandOver"), "there is no standby")
        pair.renew()
        load.finish()


if __name__ == "__main__":
    sys.exit(main())
