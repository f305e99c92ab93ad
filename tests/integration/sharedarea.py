# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real daemons of holdfast and of sanlock on one lease area, for test-lease-sanlock.py.

Hosts (ids): holdfastA (1), holdfastB (2), sanlockV (3), sanlockW (4); when the world begins,
holdfastX (5) and sanlockX (6) die and holdfastZ (7) is stopped, while they own leases. T is 1 s."""

import contextlib
import os
import signal
import threading
import time
from typing import Any, Optional

from checks import Skip, expect, poll
# pylint: disable=wrong-import-order
from lab import Lab, LabError
from lablease import (Call, CallError, HoldfastHost, LeaseArea, SanlockClient, SanlockHost, give,
                      lacks_sanlock)
from leaseformat import RawLease

A, B, V, W, X, Y, Z = range(1, 8)
T_S = 1
DEAD_S = 8 * T_S + 60
OWNED, OTHER_CHOSEN = -243, -245
DEATH_DEADLINE_S = 300.0
# No false alarms on a machine that is busy; sanlock's T=1 leaves room up to 8 s.
FENCE = {"fence": "6s", "stop": "1s"}


class World:
    """The lab with its daemons, and two that are dying."""

    def __init__(self) -> None:
        if why := lacks_sanlock():
            raise Skip(why)
        self.lab = Lab(("holdfastA", "holdfastB", "sanlockV", "sanlockW", "holdfastX", "sanlockX",
                        "holdfastZ", "watcher"))
        self.area: LeaseArea
        self.a: HoldfastHost
        self.b: HoldfastHost
        self.v: SanlockHost
        self.w: SanlockHost
        self.deaths: "Deaths"

    def open(self) -> "World":
        lab = self.lab
        lab.__enter__()
        self.area = LeaseArea(lab, leases=40, io_timeout_s=T_S)
        self.area.init()
        self.a, self.b, x, z = (HoldfastHost(lab, f"holdfast{letter}", self.area, n, **FENCE)
                                for letter, n in (("A", A), ("B", B), ("X", X), ("Z", Z)))
        self.v, self.w, y = (SanlockHost(lab, f"sanlock{letter}", self.area, n)
                             for letter, n in (("V", V), ("W", W), ("X", Y)))
        for sanlock in (self.v, self.w, y):
            sanlock.start()
        joining = [(sanlock, sanlock.begin_join()) for sanlock in (self.v, self.w, y)]
        for holdfast in (self.a, self.b, x, z):
            holdfast.start(is_joined=False)
        for sanlock, proc in joining:
            sanlock.finish_join(proc)
        for holdfast in (self.a, self.b, x, z):
            holdfast.wait_joined()
        self._see_each_other()
        self.deaths = Deaths(self, x, y, z)
        return self

    def _see_each_other(self) -> None:
        hosts = (self.a, self.b, self.v, self.w)
        for host in hosts:
            for other in range(A, Z + 1):
                poll(lambda h=host, o=other: h.sees_alive(o), f"{host.host} sees {other} alive")

    def close(self) -> None:
        self.lab.close()


class Heir(threading.Thread):
    """Waits for a lease by a daemon of ours. The end of its waiting is dated when it comes."""

    def __init__(self, host: HoldfastHost, vm: str):
        super().__init__(daemon=True)
        self.call = host.connect()
        self.call.send("Acquire", vm=vm, wait_ms=int(DEATH_DEADLINE_S * 1000))
        self.answer: dict[str, Any] = {}
        self.error: Optional[LabError] = None
        self.end_ns = 0
        self.start()

    def run(self) -> None:
        try:
            self.answer = self.call.reply(DEATH_DEADLINE_S)
        except LabError as error:
            self.error = error
        self.end_ns = time.monotonic_ns()


class Deaths:
    """Two hosts die, and one is stopped, while they hold leases that others wait for."""

    def __init__(self, world: World, x: HoldfastHost, y: SanlockHost, z: HoldfastHost):
        """x owns one that it has acquired, and one that was handed to it."""
        self.own, self.given, self.theirs, self.stopped = (world.a.create(f"death-{n}")
                                                           for n in range(4))
        self.z = z
        self.guarded = z.hold("death-3", "/bin/sleep", "600")
        poll(lambda: world.v.read(self.stopped).owner == Z, "a command holds the lease")
        self._keep: list[Call] = [x.connect(), world.a.connect()]
        self._keep[0]("Acquire", vm="death-0")
        lver = self._keep[1]("Acquire", vm="death-1")["lver"]
        give(self._keep[1], self._keep[0], "death-1", lver, x, x.generation)
        expect(y.holder().acquire(self.theirs) == 0, "sanlockX does not get a free lease")
        self.heirs = {lease: host.holder() for lease, host in ((self.own, world.v),
                                                               (self.given, world.w),
                                                               (self.stopped, world.w))}
        for lease, heir in self.heirs.items():
            expect(heir.acquire(lease) == OWNED, f"{lease} is not defended")
            heir.await_lease(lease, DEATH_DEADLINE_S)
        self.our_heir = Heir(world.a, "death-2")
        self.killed_ns = time.monotonic_ns()
        x.die()
        y.die()
        signal_all(z, signal.SIGSTOP)


def signal_all(host: HoldfastHost, number: int) -> None:
    """All that runs on it, at about the same time."""
    for pid in host.lab.pids(host.host):
        with contextlib.suppress(ProcessLookupError):  # woken ones end others
            os.kill(pid, number)


_world: Optional[World] = None


def the_world() -> World:
    """The same for all checks; the first one starts it."""
    global _world  # pylint: disable=global-statement
    if _world is None:
        world = World()
        try:
            _world = world.open()
        except BaseException:
            world.close()
            raise
    return _world


def end_the_world() -> None:
    if _world:
        _world.close()


def refused(call: Call, method: str, **parameters: object) -> CallError:
    """It must be."""
    try:
        answer = call(method, **parameters)
    except CallError as error:
        return error
    raise AssertionError(f"{method} {parameters} was not refused: {answer}")


class Lease:
    """A new lease, with a connection to each of our daemons, and a client of each of sanlock's."""

    _clients: dict[int, SanlockClient] = {}

    def __init__(self, vm: str):
        self.world = the_world()
        self.vm = vm
        self.name = self.world.a.create(vm)
        self.offset = int(self.name.rsplit(":", 1)[1])
        self.a, self.b = self.world.a.connect(), self.world.b.connect()
        self.raw = RawLease(self.world.area.file, self.offset)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *unused: object) -> None:
        self.raw.close()
        for call in (self.a, self.b):
            call.close()

    @property
    def v(self) -> SanlockClient:
        return self._client(self.world.v)

    def _client(self, host: SanlockHost) -> SanlockClient:
        if host.host_id not in self._clients:
            self._clients[host.host_id] = host.holder()
        return self._clients[host.host_id]

    def acquire(self, call: Call) -> int:
        return int(call("Acquire", vm=self.vm)["lver"])

    def hand_over(self, lver: int) -> int:
        """From A to B."""
        return give(self.a, self.b, self.vm, lver, self.world.b, self.world.b.generation)

    def expect_owner(self, owner: int, lver: int) -> None:
        """All see the same: both daemons of sanlock, ours, and the bare bytes."""
        world, generations = self.world, {A: self.world.a, B: self.world.b}
        generation = generations[owner].generation if owner in generations else None
        for who, seen in (("sanlockV", world.v.read(self.name)),
                          ("sanlockW", world.w.read(self.name))):
            expect((seen.owner, seen.lver) == (owner, lver), f"{who}: {seen}")
            expect(generation in (None, seen.generation), f"{who}: {seen}, not {generation}")
        for host in (world.a, world.b):
            found = host.read(self.vm)
            expect((found.owner, found.lver) == (owner, lver), f"{host.host}: {found}")
        leader = self.raw.leader()
        expect(leader.is_free == (owner == 0) and leader.lver == lver, leader)
        expect(owner in (0, leader.owner), leader)

    def expect_theft(self, what: str) -> None:
        """The trap is there: sanlock takes it at once, though its owner is alive."""
        expect(self.v.acquire(self.name) == 0, f"{what}: sanlock does not fall into this trap")
        self.v.release(self.name)

    def expect_defended(self, what: str, rv: int = OWNED) -> None:
        got = self.v.acquire(self.name)
        expect(got == rv, f"{what}: sanlock gets {got}, not {rv}")
