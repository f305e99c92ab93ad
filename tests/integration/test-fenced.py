#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host is fenced by somebody who can, and that is proof of its death: what waited for one goes on at once. A word that
comes too late, or about a host that was heard since, proves nothing."""

import re
import sys
import time
from typing import Any, Callable, Union

from checks import check, expect, main, say
from leased import LeasedPair
from protected import FAILOVER_S, HOSTS, Keeper, Load, Pair, Refused

# pylint: disable=wrong-import-position
from lablease import CallError, wait_until  # noqa: E402
from labpeers import PeerHost, PeerPair  # noqa: E402

HOUR_NS = 3600 * 10**9


def refused(call: Callable[[], Any], reason: str) -> None:
    try:
        answer = call()
    except (Refused, CallError) as refusal:
        expect(re.search(reason, str(refusal)), f"want \"{reason}\": {refusal}")
        return
    raise AssertionError(f"not refused ({reason}): {answer}")


def peer_died(keeper: Keeper, host: str, time_ns: int) -> dict[str, Any]:
    return keeper.ask("PeerDied", host=host, time_ns=time_ns, text="reboot by a test")


def power_off(pair: Union[Pair, PeerPair], host: str) -> int:
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
        before_ns = time.time_ns() - HOUR_NS
        refused(lambda: peer_died(standby, old, before_ns), "was made after that")
        refused(lambda: peer_died(standby, old, 0), "none at all")
        refused(lambda: peer_died(standby, old, time.time_ns() + HOUR_NS), "ahead of")
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


@check
def with_a_lease_the_vote_is_held_at_once() -> None:
    """Without the word the standby would ask a quarter of the time-out later."""
    with LeasedPair(options=("--peer-timeout", "4s")) as pair:
        load = Load(pair)
        lver, old, new = pair.lver(), pair.primary, pair.standby
        fenced_ns = power_off(pair, old.host)
        new.wait("lost")
        begun = time.monotonic()
        expect(peer_died(new, old.host, fenced_ns)["is_dead"], new.log())
        new.wait("live", timeout_s=FAILOVER_S)
        say(f"fenced to live: {(time.monotonic() - begun) * 1e3:.0f} ms")
        expect(new.seen("primary-dead"), f"by proof, and by the vote: {new.log()}")
        pair.primary = new
        lease = pair.daemons[new.host].lease(pair.vm.name)
        expect(lease["lver"] == lver + 1 and lease["owner"] == new.host, lease)
        load.wait_progress()
        load.finish()


# --- by the daemons ---

def is_primary(vm: dict[str, Any]) -> bool:
    return bool(vm["role"] == "primary" and vm["supervision"] == "up")


def is_protected(vm: dict[str, Any]) -> bool:
    return is_primary(vm) and bool(vm["protected"])


def fenced(at: PeerHost, host: str, time_ns: int) -> dict[str, Any]:
    return at.call("Fenced", host=host, time_ns=time_ns, text="off by a test")


@check
def the_daemon_tells_whom_it_concerns() -> None:
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        pair.start()
        pair.wait_up()
        one.start_vm("web")
        one.wait_vm("web", is_protected, "protected")
        now_ns = time.time_ns()
        refused(lambda: fenced(two, "hostC", now_ns), "no host 'hostC' is known here: hostA")
        refused(lambda: fenced(two, "hostB", now_ns), "is this host")
        refused(lambda: fenced(two, "hostA", now_ns + HOUR_NS), "ahead of")
        refused(lambda: fenced(two, "../etc", now_ns), "not a name")
        refused(lambda: two.call("Fenced", host="hostA", time_ns=now_ns, text="x" * 256), "text: ")
        expect(is_protected(one.vm("web")), "nothing has come of these")
        events = two.events()
        fenced_ns = power_off(pair, "hostA")
        expect(fenced(two, "hostA", fenced_ns)["keepers"] == 1, "its standby is told")
        event = events.wait("host-fenced")
        expect((event["host"], event["keepers"]) == ("hostA", 1), event)
        events.wait("peer-down")  # not only when its silence has lasted
        two.wait_vm("web", is_primary, "the standby is live")


@check
def what_a_fenced_host_owned_is_taken_over_at_once() -> None:
    """A VM with a standby, and one without, under leases; the host comes back, and is fenced again."""
    with PeerPair(has_leases=True) as pair:
        one, two = pair.both()
        pair.define("web")
        pair.define_single("solo")
        pair.start()
        pair.wait_up()
        one.start_vm("web")
        one.start_vm("solo")
        one.wait_vm("web", is_protected, "protected")
        first_ns = power_off(pair, "hostA")
        begun = time.monotonic()
        answer = fenced(two, "hostA", first_ns)
        expect("taken over" in answer["lease"], answer)
        two.wait_vm("solo", is_primary, "started where its host is not dead")
        took_s = time.monotonic() - begun
        say(f"fenced to started elsewhere: {took_s:.2f} s")
        dead_ms = next(h["dead_after_ms"] for h in two.call("Hosts")["hosts"]
                       if h["host"] == "hostA")
        expect(took_s < dead_ms / 1e3 - 1, f"{took_s} s: no sooner than by the timers, {dead_ms} ms")
        two.wait_vm("web", is_primary, "the standby is live")
        it_comes_back(pair, first_ns)
        fenced(two, "hostA", power_off(pair, "hostA"))
        two.wait_vm("web", lambda vm: vm["state"] == "alone", "goes on without its standby")


@check
def a_reboot_may_be_over_after_the_host_has_booted() -> None:
    """Its agent has waited on: who joined after the beginning is not known to be dead."""
    with PeerPair(has_leases=True) as pair:
        one, two = pair.both()
        before_ns = time.time_ns() - 10 * 10**9  # more than clocks may differ by
        pair.start()
        wait_until(one.is_member, "hostA has joined", 60)
        wait_until(lambda: life_of_a(two) == "alive", "hostA is seen", 60)
        time.sleep(6.0)  # the same for the joining
        now_ns = time.time_ns()
        answer = two.call("Fenced", host="hostA", time_ns=now_ns, begun_ns=before_ns, text="reboot")
        expect("after that" in answer["lease"], answer)
        refused(lambda: two.call("Fenced", host="hostA", time_ns=now_ns, begun_ns=now_ns + 1),
                "begun_ns")
        answer = two.call("Fenced", host="hostA", time_ns=now_ns, begun_ns=now_ns, text="off")
        expect("taken over" in answer["lease"], f"that would have been believed: {answer}")


@check
def another_hosts_death_is_none_of_a_keepers() -> None:
    """A definition may be given another second host while its keepers run on as they were."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        pair.start()
        pair.wait_up()
        one.start_vm("web")
        two.wait_vm("web", lambda vm: vm["connected"], "stands by")
        refused(lambda: two.keeper_call("web", "PeerDied", host="hostC", time_ns=time.time_ns()),
                "other host .* is hostA")
        refused(lambda: two.keeper_call("web", "PeerDied", host="hostA", time_ns=1), "after that")


def life_of_a(at: PeerHost) -> str:
    return next((h["life"] for h in at.call("Hosts")["hosts"] if h["host"] == "hostA"), "")


def it_comes_back(pair: PeerPair, fenced_ns: int) -> None:
    """The word of before proves nothing about who has booted since."""
    one, two = pair.both()
    pair.lab.boot_host("hostA")
    one.forget_boot()
    one.start()
    two.wait_vm("web", is_protected, "hostA stands by", timeout_s=90)
    wait_until(one.is_member, "hostA has joined anew", 60)
    answer = fenced(two, "hostA", fenced_ns)
    expect("after that" in answer["lease"], answer)
    expect(is_protected(two.wait_vm("web", is_protected, "still protected")), "hostA lives")
    expect(life_of_a(two) == "alive", two.call("Hosts"))
    expect(two.vm("solo")["role"] == "primary" and one.vm("solo")["role"] != "primary", "once")


if __name__ == "__main__":
    sys.exit(main())
