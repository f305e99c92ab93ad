# SPDX-License-Identifier: LGPL-2.1-or-later
"""What leases cost, and how soon a dead host's are another's: holdfast's daemons and sanlock's on
the same disk, in the same area, in turns. holdfast is asked over its socket, sanlock by its own
library, both by Python, whose part is in the times of both.

acquire, release      of a free lease
handover              from the order to the source until the destination knows that it is the owner;
                      sanlock: released here, then acquired there
handover_prepared     the same with what the destination does beforehand, while the VM still runs
handover_free_window  how long the lease was nobody's on the disk meanwhile, as somebody who reads
                      the leader all the time sees it
idle_cpu_*            CPU time of the daemon in a minute in which nothing happens, at the defaults:
                      a renewal each 0.5 s; sanlock: T=10, each 20 s
idle_cpu_*_20s        a renewal each 20 s here, too
failover_host_death   a host dies without a word, another one waits for its lease; reference:
                      sanlock with T=1, which is too short for its watchdog
failover_host_death_t3  the same, held against the shortest that its watchdog allows
sim_schedules_per_s   of the lease machines in their simulator
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Sequence

from measures import LabError, Plan, Row, median, timing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "lab"))
# pylint: disable=wrong-import-position
from lab import Lab, Proc, tool  # noqa: E402
from lablease import Call, HoldfastHost, LeaseArea, SanlockClient, SanlockHost  # noqa: E402
from lablease import lacks_sanlock  # noqa: E402

NAMES = ("acquire", "release", "handover", "handover_free_window", "idle_cpu_1vm",
         "idle_cpu_100vm", "failover_host_death", "sim_schedules_per_s")
COSTS = {"acquire", "release", "handover", "handover_free_window"}
IDLE = {"idle_cpu_1vm", "idle_cpu_100vm"}
MANY = 100
SETTLE_S = 1.0
DEATH_DEADLINE_S = 180.0


class Ours:
    """A connection to a holdfastd, and a lease of its own."""

    def __init__(self, host: HoldfastHost, vm: str):
        self.host, self.vm = host, vm
        self.call: Call = host.connect()

    def acquire(self) -> int:
        return int(self.call("Acquire", vm=self.vm, create=True)["lver"])

    def release(self) -> None:
        self.call("Release", vm=self.vm)


class Theirs:
    """A process that is a client of a sanlock daemon."""

    def __init__(self, host: SanlockHost, lease: str):
        self.client: SanlockClient = host.holder()
        self.lease = lease

    def _do(self, what: str) -> tuple[int, int]:
        """Begin and end."""
        self.client.order(do=what, lease=self.lease)
        answer = self.client.answer()
        if answer["rv"] < 0:
            raise LabError(f"sanlock does not {what} {self.lease}: {answer['rv']}")
        return answer["begin_ns"], answer["end_ns"]

    def acquire(self) -> tuple[int, int]:
        return self._do("acquire")

    def release(self) -> tuple[int, int]:
        return self._do("release")


def span_ms(begin_end: tuple[int, int]) -> float:
    return (begin_end[1] - begin_end[0]) / 1e6


def timed_ms(what: Callable[[], object]) -> float:
    begin_ns = time.monotonic_ns()
    what()
    return (time.monotonic_ns() - begin_ns) / 1e6


class Field:
    """Two hosts of each kind on one area."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.area = LeaseArea(lab, "bench", leases=8)
        self.area.init()
        self.ours = [HoldfastHost(lab, host, self.area, n)
                     for n, host in enumerate(("holdfastA", "holdfastB"), 1)]
        self.theirs = [SanlockHost(lab, host, self.area, n)
                       for n, host in enumerate(("sanlockA", "sanlockB"), 3)]

    def start(self) -> None:
        for host in (*self.ours, *self.theirs):
            host.start(*([False] if isinstance(host, HoldfastHost) else []))
        for sanlock, joining in [(host, host.begin_join()) for host in self.theirs]:
            sanlock.finish_join(joining)
        for holdfast in self.ours:
            holdfast.wait_joined()

    def lease(self, vm: str) -> str:
        return self.ours[0].create(vm)


# --- acquire, release, hand over -----------------------------------------------------------------

def acquire_rows(field: Field, plan: Plan) -> Iterator[Row]:
    """The two take turns on leases of their own."""
    field.lease("one")
    ours = Ours(field.ours[0], "one")
    theirs = Theirs(field.theirs[0], field.lease("two"))
    found: dict[str, list[float]] = {"acquire": [], "release": []}
    reference: dict[str, list[float]] = {"acquire": [], "release": []}
    for _ in range(plan.leases):
        for name in found:
            reference[name].append(span_ms(getattr(theirs, name)()))
            found[name].append(timed_ms(getattr(ours, name)))
    ours.call.close()
    for name, values in found.items():
        yield timing(name, values, median(reference[name]))


class Handover:
    """Of our lease, there and back."""

    def __init__(self, field: Field, vm: str):
        self.vm = vm
        self.sides = [(host, host.connect()) for host in field.ours]
        self.generations = {host.host_id: host.generation for host in field.ours}
        self.lver = int(self.sides[0][1]("Acquire", vm=vm, create=True)["lver"])

    def prepare(self) -> None:
        """While the source still runs its VM."""
        self.sides[1][1]("Prepare", vm=self.vm)

    def give(self) -> None:
        """As between hosts that speak with each other: the destination is told, and looks itself."""
        (_, source), (host, destination) = self.sides
        given = source("Transfer", vm=self.vm, lver=self.lver, to=host.host_id,
                       to_generation=self.generations[host.host_id])
        if given["state"] != "given":
            raise LabError(f"not handed over: {given}")
        self.lver = int(destination("Await", vm=self.vm, lver=self.lver, timeout_ms=30000)["lver"])
        self.sides.reverse()


class TheirHandover:
    """Released here, acquired there."""

    def __init__(self, field: Field, lease: str):
        self.sides = [Theirs(host, lease) for host in field.theirs]
        self.sides[0].acquire()

    def give_ms(self) -> float:
        begin_ns, _ = self.sides[0].release()
        _, end_ns = self.sides[1].acquire()
        self.sides.reverse()
        return (end_ns - begin_ns) / 1e6


def handover_rows(field: Field, plan: Plan) -> Iterator[Row]:
    ours = Handover(field, "three")
    theirs = TheirHandover(field, field.lease("four"))
    times: list[float] = []
    with_prepare: list[float] = []
    reference: list[float] = []
    for _ in range(plan.leases):
        reference.append(theirs.give_ms())
        prepare_ms = timed_ms(ours.prepare)
        times.append(timed_ms(ours.give))
        with_prepare.append(prepare_ms + times[-1])
    yield timing("handover", times, median(reference))
    yield timing("handover_prepared", with_prepare, median(reference))


def free_spans_ms(watch: Proc) -> list[float]:
    """What the watcher saw."""
    watch.stop()
    leaders = [event for event in watch.events if event["event"] == "leader"]
    return [(after["at_ns"] - event["at_ns"]) / 1e6
            for event, after in zip(leaders, leaders[1:]) if event["free"]]


def watched_spans(field: Field, lease: str, count: int,
                  give: Callable[[], object]) -> tuple[list[float], float]:
    """How long the lease was free in each hand-over, and how often the watcher looked."""
    watch = field.area.watch("watcher", int(lease.rsplit(":", 1)[1]))
    time.sleep(0.1)
    for _ in range(count):
        give()
    spans = free_spans_ms(watch)
    result = watch.events[-1]
    changes = [event for event in watch.events if event["event"] == "leader"]
    if len(changes) < count / 2:
        raise LabError(f"the watcher saw {len(changes)} changes in {count} hand-overs")
    every_ms = (result["at_ns"] - changes[0]["at_ns"]) / 1e6 / result["reads"]
    return sorted(spans + [0.0] * (count - len(spans))), every_ms


def free_window_row(field: Field, plan: Plan) -> Row:
    lease, other = field.lease("five"), field.lease("six")
    handover, theirs = Handover(field, "five"), TheirHandover(field, other)

    def give() -> None:
        handover.prepare()
        handover.give()

    spans, every_ms = watched_spans(field, lease, plan.leases_watched, give)
    reference, their_every_ms = watched_spans(field, other, plan.leases_watched, theirs.give_ms)
    print(f"the leader was read each {every_ms:.3f} and {their_every_ms:.3f} ms", file=sys.stderr)
    return timing("handover_free_window", spans, median(reference))


def cost_rows(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    with Lab(("holdfastA", "holdfastB", "sanlockA", "sanlockB", "watcher")) as lab:
        field = Field(lab)
        field.start()
        if wanted & {"acquire", "release"}:
            yield from acquire_rows(field, plan)
        if "handover" in wanted:
            yield from handover_rows(field, plan)
        if "handover_free_window" in wanted:
            yield free_window_row(field, plan)


# --- doing nothing -------------------------------------------------------------------------------

def cpu_ms(pid: int) -> float:
    """All threads, dead ones too: the clock of a process, see clock_getcpuclockid(3)."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6


class Idlers:
    """One daemon of each kind, with leases that nobody does anything with. sanlock's is at T=10, as
    its users have it."""

    def __init__(self, lab: Lab):
        self.area = LeaseArea(lab, "idle", leases=3 * MANY + 1, io_timeout_s=10)
        self.area.init()
        self.fast = HoldfastHost(lab, "holdfastI", self.area, 1)
        self.slow = HoldfastHost(lab, "holdfastJ", self.area, 2, renew="20s", fence="70s",
                                 stop="10s")
        self.sanlock = SanlockHost(lab, "sanlockI", self.area, 3)
        self._joining: Proc
        self.calls: list[Call] = []
        self.client: SanlockClient

    def begin(self) -> None:
        self.sanlock.start()
        self._joining = self.sanlock.begin_join()
        self.fast.start(False)
        self.slow.start(False)

    def finish(self) -> None:
        self.sanlock.finish_join(self._joining)
        self.fast.wait_joined()
        self.slow.wait_joined()
        self.client = self.sanlock.holder()

    def add_vms(self, first: int, end: int) -> None:
        for n in range(first, end):
            for host in (self.fast, self.slow):
                self.calls.append(host.connect())
                self.calls[-1]("Acquire", vm=f"{host.host}-{n}", create=True)
        leases = [self.fast.create(f"sanlock-{n}") for n in range(first, end)]
        self.client.order(do="hold", leases=leases)
        answer = self.client.answer(120.0)
        if answer["rv"] < 0:
            raise LabError(f"sanlock does not take {len(leases)} leases: {answer['rv']}")

    def rows(self, name: str, seconds: float) -> list[Row]:
        pids = [host.daemon.pid for host in (self.fast, self.slow, self.sanlock) if host.daemon]
        time.sleep(SETTLE_S)
        before, began = [cpu_ms(pid) for pid in pids], time.monotonic()
        time.sleep(seconds)
        minutes = (time.monotonic() - began) / 60
        fast, slow, reference = ((cpu_ms(pid) - ms) / minutes for pid, ms in zip(pids, before))
        return [Row(name, fast, "ms", fast, 1, reference),
                Row(f"{name}_20s", slow, "ms", slow, 1, reference)]


# --- the death of a host -------------------------------------------------------------------------

class SanlockDeath:
    """A host of sanlock's dies while other things are measured."""

    def __init__(self, lab: Lab, io_timeout_s: int):
        self.io_timeout_s = io_timeout_s
        self.area = LeaseArea(lab, f"t{io_timeout_s}", leases=1, io_timeout_s=io_timeout_s)
        self.area.init_by_sanlock()
        self.lease = self.area.init_lease("vm", 0)
        self.hosts = [SanlockHost(lab, f"t{io_timeout_s}{letter}", self.area, n)
                      for n, letter in enumerate("ab", 1)]
        self._joining: list[Proc] = []
        self._heir: SanlockClient
        self._killed_ns = 0

    def begin(self) -> None:
        for host in self.hosts:
            host.start()
        self._joining = [host.begin_join() for host in self.hosts]

    def kill(self) -> None:
        """After a while of living together, as a watching host has it."""
        for host, joining in zip(self.hosts, self._joining):
            host.finish_join(joining)
        if self.hosts[0].holder().acquire(self.lease) < 0:
            raise LabError("sanlock does not take a free lease")
        self._heir = self.hosts[1].holder()
        self._heir.await_lease(self.lease, DEATH_DEADLINE_S)
        time.sleep(3 * self.io_timeout_s)
        self._killed_ns = time.monotonic_ns()
        self.hosts[0].die()

    def wait_ms(self) -> float:
        answer = self._heir.answer(DEATH_DEADLINE_S + 60.0)
        if answer["rv"] < 0:
            raise LabError(f"sanlock's heir: {answer['rv']}")
        return (answer["end_ns"] - self._killed_ns) / 1e6


class OurDeaths:
    """The same of ours, to and fro: the dead host comes back each time."""

    def __init__(self, lab: Lab):
        area = LeaseArea(lab, "death", leases=1)
        area.init()
        self.hosts = [HoldfastHost(lab, host, area, n)
                      for n, host in enumerate(("holdfastD", "holdfastE"), 1)]

    def once_ms(self, owner: HoldfastHost, heir: HoldfastHost) -> float:
        holder, waiter = owner.connect(), heir.connect()
        holder("Acquire", vm="vm", create=True)
        waiter.send("Acquire", vm="vm", wait_ms=int(DEATH_DEADLINE_S * 1000))
        time.sleep(SETTLE_S)
        killed_ns = time.monotonic_ns()
        owner.die()
        waiter.reply(DEATH_DEADLINE_S)
        took_ms = (time.monotonic_ns() - killed_ns) / 1e6
        waiter("Release", vm="vm")
        for call in (holder, waiter):
            call.close()
        return took_ms

    def measure(self, count: int) -> list[float]:
        for host in self.hosts:
            host.start(False)
        found = []
        for _ in range(count):
            for host in self.hosts:
                host.wait_joined()
            owner, heir = self.hosts
            found.append(self.once_ms(owner, heir))
            owner.lab.boot_host(owner.host)
            owner.start(False)
            self.hosts.reverse()
        return found


def quiet_rows(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    """sanlock's hosts lie dead for a minute and a half: meanwhile the idle ones are looked at."""
    hosts = ("holdfastI", "holdfastJ", "sanlockI", "holdfastD", "holdfastE", "t1a", "t1b", "t3a",
             "t3b")
    with Lab(hosts) as lab:
        is_deadly = "failover_host_death" in wanted
        deaths = [SanlockDeath(lab, t) for t in plan.sanlock_deaths if is_deadly]
        idlers = Idlers(lab) if wanted & IDLE else None
        for part in (*deaths, *([idlers] if idlers else [])):
            part.begin()
        for death in deaths:
            death.kill()
        if idlers:
            idlers.finish()
            idlers.add_vms(0, 1)
            yield from idlers.rows("idle_cpu_1vm", plan.idle_s)
            idlers.add_vms(1, MANY)
            yield from idlers.rows("idle_cpu_100vm", plan.idle_s)
        if is_deadly:
            yield from death_rows(lab, plan, deaths)


def death_rows(lab: Lab, plan: Plan, deaths: Sequence[SanlockDeath]) -> Iterator[Row]:
    theirs = {death.io_timeout_s: death.wait_ms() for death in deaths}
    ours = OurDeaths(lab).measure(plan.host_deaths)
    yield timing("failover_host_death", ours, theirs.get(1))
    if 3 in theirs:
        yield timing("failover_host_death_t3", ours, theirs[3])


# --- the simulator -------------------------------------------------------------------------------

def simulate(first_seed: int, runs: int) -> float:
    """Schedules per second, on one CPU."""
    begin_ns = time.monotonic_ns()
    done = subprocess.run([tool("tests/leasesim/holdfast-leasesim"), "--first-seed",
                           str(first_seed), "--runs", str(runs)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise LabError(f"the simulator: {done.stdout[-2000:]}")
    return runs / (time.monotonic_ns() - begin_ns) * 1e9


def sim_row(plan: Plan) -> Row:
    """Each round has other schedules."""
    rates = [simulate(1 + n * plan.schedules, plan.schedules) for n in range(plan.rounds)]
    return Row("sim_schedules_per_s", median(rates), "1/s", min(rates), len(rates))


def measure_lease(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    if why := lacks_sanlock():
        raise LabError(f"{why}: it is what leases are held against")
    if wanted & COSTS:
        yield from cost_rows(plan, wanted)
    if wanted & (IDLE | {"failover_host_death"}):
        yield from quiet_rows(plan, wanted)
    if "sim_schedules_per_s" in wanted:
        yield sim_row(plan)
