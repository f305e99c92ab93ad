#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Death at every step, exhaustively for a short run: before each half of each write to a file, each
sync, each answer to the client and each word to the keeper, the disk process is killed. Then

  - a successor on the same memory: nothing that was acknowledged is missing
  - the host's power is gone, too: recovery from what is on its disks, with unsynced writes lost,
    torn or kept, gives exactly the end of an epoch, and none older than the last one journaled
  - on the standby: goes on, or is promoted there and then, to exactly the last whole epoch
"""

import contextlib
import hashlib
import itertools
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Callable, Iterator, Optional

import crashlog
from diskworld import (DIRECT, HELD, HOLD, PARTIAL, REPLICA, REPLICATED, SHIM, WATCHER, Died, Side,
                       World, check, expect, main, say)
from nbdclient import Nbd, NbdClosed

SIZE = 1 << 20
DISKS = 2
BLOCK = 4096
WORKERS = 2
END_AFTER = 3  # runs in a row that nobody died in: there is no such step
SESSION = 7

State = tuple[bytes, ...]


@dataclass
class Step:
    """Of the workload."""
    verb: str
    disk: int = 0
    offset: int = 0
    length: int = 0
    is_fua: bool = False
    data: bytes = b""


def requests(rng: random.Random, n: int) -> Iterator[Step]:
    """Writes of all sizes, many of them over each other; zeroes, trims, flushes."""
    for _ in range(n):
        verb = rng.choices(("write", "zero", "trim", "flush"), (12, 2, 2, 2))[0]
        length = rng.choice((512, BLOCK, BLOCK, 3 * BLOCK, 65536))
        step = Step(verb, rng.randrange(DISKS), rng.randrange(48) * BLOCK, length,
                    rng.random() < 0.1)
        if verb == "write":
            step.data = rng.randbytes(length)
        yield step


def workload(rng: random.Random) -> list[Step]:
    """Two epochs that are waited for, three that pile up; then past the log; then two more."""
    steps: list[Step] = []
    for waits in ("journal", "apply", "", "", "journal"):
        steps += [*requests(rng, 5), Step("epoch"), *requests(rng, 1), Step("commit")]
        if waits:
            steps.append(Step(waits))
    steps += [Step("epoch"), Step("commit"), Step("drain"), *direct_steps(rng), Step("hold")]
    for _ in range(2):
        steps += [*requests(rng, 3), Step("epoch"), Step("commit")]
    return steps


def direct_steps(rng: random.Random) -> list[Step]:
    data = [rng.randbytes(2 * BLOCK) for _ in range(DISKS)]
    return [*(Step("write", i, 60 * BLOCK, 2 * BLOCK, data=data[i]) for i in range(DISKS)),
            *(Step("flush", i) for i in range(DISKS))]


STEPS = workload(random.Random(20))
INITIAL: State = tuple(random.Random(i).randbytes(SIZE) for i in range(DISKS))


@dataclass
class Model:
    """What the disks hold, now and at the end of each epoch."""
    now: list[bytearray] = field(default_factory=lambda: [bytearray(d) for d in INITIAL])
    ends: dict[int, State] = field(default_factory=lambda: {0: INITIAL})
    # Written past the log, and not yet flushed: disk, offset, length.
    loose: list[tuple[int, int, int]] = field(default_factory=list)

    def do(self, step: Step, is_direct: bool) -> None:
        if step.verb == "flush":
            self.loose = [entry for entry in self.loose if entry[0] != step.disk]
            return
        data = step.data or bytes(step.length)
        self.now[step.disk][step.offset:step.offset + step.length] = data
        if is_direct:
            self.loose.append((step.disk, step.offset, step.length))

    def state(self) -> State:
        return tuple(bytes(disk) for disk in self.now)


@dataclass
class Death:
    """What the keeper's memory said, and what the host's disks had seen."""
    journaled: int
    captured: int
    is_direct: bool
    loose: list[tuple[int, int, int]]
    now: State
    changes: list[crashlog.Change]
    is_filling: bool  # a copy that is of no epoch yet
    at_drain: State  # before anything was written past the log


class Run:
    """The workload on an owner, with what a VM and a keeper would do about a death."""

    def __init__(self, world: World, mortal: Side, crash_at: int) -> None:
        self.world = world
        self.owner = world.a
        self.mortal = mortal
        self.crash_at = crash_at
        self.model = Model()
        self.clients: list[Nbd] = []
        self.death: Optional[Death] = None
        self.epoch = 0
        self.is_direct = False
        self.at_drain = INITIAL  # when the log was last drained
        self.trace = world.folder / "trace"
        self.crash_dir = mortal.folder
        self.steps = STEPS
        self.has_copy = True

    def env(self) -> list[str]:
        return [f"LD_PRELOAD={SHIM}", f"HF_CRASH_AT={self.crash_at}",
                f"HF_CRASH_TRACE={self.trace}", f"HF_CRASH_DIR={self.crash_dir}"]

    def make(self, side: Side) -> None:
        side.wipe()
        side.make_images(*[SIZE] * DISKS)
        for i, content in enumerate(INITIAL):
            side.image(i).write_bytes(content)
        side.redo_area = "4M"
        side.threads = 4
        side.make_memory(soft_mib=4, reserve_mib=4)

    def start(self, side: Side) -> None:
        """The first time with the shim; after a death, without."""
        is_marked = side is self.mortal and not self.death
        try:
            side.start(self.env() if is_marked else (), may_die=is_marked)
        except Died:
            self.on_death()

    # --- death ---

    def on_death(self) -> None:
        """Only once, and only as ordered."""
        side = self.mortal
        ended = side.wait_exit()
        expect("(Killed)" in ended["how"] and not self.death, ended)
        words = side.words()
        self.death = Death(words["journaled"], words["captured"], self.is_direct,
                           list(self.model.loose), self.model.state(), crashlog.read(self.trace),
                           not self.has_copy, self.at_drain)
        self.revive()

    def revive(self) -> None:
        self.mortal.start()
        if self.mortal is self.owner and self.clients:
            self.connect()

    def insist(self, function: Callable[[], object]) -> None:
        """Again, if the death came in between: as QEMU sends again what was not answered."""
        try:
            function()
        except (Died, NbdClosed, ConnectionError):
            self.on_death()
            function()

    def connect(self) -> None:
        self.clients = [self.owner.connect(i) for i in range(DISKS)]

    # --- steps ---

    def begin(self) -> None:
        self.trace.unlink(missing_ok=True)
        self.make(self.owner)
        self.start(self.owner)
        self.insist(lambda: self.owner.set_state(HELD, SESSION))
        self.owner.order("hold 1")
        self.insist(lambda: self.owner.wait_is("state", HOLD))

    def play(self) -> None:
        self.insist(self.connect)
        for step in self.steps:
            self.play_step(step)

    def play_step(self, step: Step) -> None:
        if step.verb not in ("write", "zero", "trim", "flush"):
            getattr(self, "do_" + step.verb)()
            return
        if self.is_direct and step.verb != "flush":
            self.model.do(step, True)  # nobody knows how far it gets
        self.insist(lambda: self.request(step))
        if not self.is_direct or step.verb == "flush":
            self.model.do(step, False)

    def request(self, step: Step) -> None:
        client = self.clients[step.disk]
        if step.verb == "write":
            client.write(step.offset, step.data, step.is_fua)
        elif step.verb == "zero":
            client.zero(step.offset, step.length, fua=step.is_fua)
        elif step.verb == "trim":
            client.trim(step.offset, step.length, step.is_fua)
        else:
            client.flush()

    def do_epoch(self) -> None:
        self.model.ends[self.epoch + 1] = self.model.state()
        self.epoch = self.owner.capture()

    def do_commit(self) -> None:
        self.owner.commit(self.epoch)
        self.owner.put(urgent=self.epoch)

    def do_journal(self) -> None:
        self.insist(lambda: self.owner.wait_reaches("journaled", self.epoch))

    def do_apply(self) -> None:
        self.insist(lambda: self.owner.wait_reaches("applied", self.epoch))

    def do_drain(self) -> None:
        self.at_drain = self.model.state()
        self.owner.drain_begin()
        self.insist(lambda: self.owner.wait_is("state", DIRECT))
        self.is_direct = True

    def do_hold(self) -> None:
        """From direct: all is in the image, so this is the end of an epoch, too."""
        self.epoch = int(self.owner.words()["open_epoch"])
        self.model.ends[self.epoch] = self.model.state()
        self.owner.order(f"hold {self.epoch + 1}")
        self.insist(lambda: self.owner.wait_is("state", HOLD))
        self.is_direct = False

    def compare(self, what: str) -> None:
        for i, want in enumerate(self.model.now):
            expect(self.clients[i].read_all() == want, f"{what}: disk{i} is wrong")

    def finish(self) -> None:
        """All that was acknowledged is there; to the images, and end in order."""
        self.insist(lambda: self.compare("before the end"))
        self.do_drain()
        for client in self.clients:
            with contextlib.suppress(NbdClosed):
                client.disconnect()
        self.clients = []
        self.owner.order("signal 15")
        ended = self.owner.wait_exit()
        if "(Killed)" in ended["how"] and not self.death:
            self.on_death()
            ended = self.owner.end()
        expect(ended["how"] == "exited with status 0", ended)
        for i, want in enumerate(self.model.now):
            expect(self.owner.image(i).read_bytes() == want, f"the image of disk{i} is wrong")

    def acceptable(self) -> list[State]:
        """What the disks may hold after the loss of power at the time of the death."""
        death = self.death
        assert death
        if death.is_direct:
            return [death.now]
        first = min(death.journaled, self.epoch)
        return [state for epoch, state in self.model.ends.items() if epoch >= first]


class StandbyRun(Run):
    """The workload on an owner that stays well, and the death of its standby's disk process."""

    def __init__(self, world: World, crash_at: int, is_promoted_there: bool) -> None:
        super().__init__(world, world.b, crash_at)
        self.is_promoted_there = is_promoted_there
        self.steps = STEPS[:[step.verb for step in STEPS].index("drain")]
        self.has_copy = False
        self.shipped = 0

    def make(self, side: Side) -> None:
        super().make(side)
        side.is_standby = side is self.mortal
        if side.is_standby:
            side.put(role=REPLICA)

    def begin(self) -> None:
        super().begin()
        self.make(self.mortal)
        self.start(self.mortal)
        self.insist(lambda: self.mortal.set_state(PARTIAL, SESSION))
        self.insist(lambda: self.mortal.set_state(REPLICATED, SESSION))
        self.has_copy = True

    def play_step(self, step: Step) -> None:
        if not (self.death and self.is_promoted_there):
            super().play_step(step)

    def do_commit(self) -> None:
        self.ship()
        super().do_commit()
        self.mortal.put(urgent=self.epoch)

    def ship(self) -> None:
        since = self.owner.order("ship")
        self.world.driver.wait("b", "shipped", since=since)
        self.shipped = self.epoch

    def do_journal(self) -> None:
        super().do_journal()
        self.insist(lambda: self.mortal.wait_reaches("journaled", self.epoch))

    def do_apply(self) -> None:
        super().do_apply()
        self.insist(lambda: self.mortal.wait_reaches("applied", self.epoch))

    def finish(self) -> None:
        """The owner's host is lost; what was shipped is what the VM goes on with."""
        self.owner.end_now()
        self.mortal.promote_begin()
        self.insist(self.mortal.wait_promoted)
        self.insist(lambda: self.compare_promoted(self.mortal))
        self.mortal.end_now()
        images = tuple(self.mortal.image(i).read_bytes() for i in range(DISKS))
        expect(images == self.model.ends[self.shipped], "the images are not what was read")

    def compare_promoted(self, side: Side) -> None:
        got = tuple(side.read_all(i) for i in range(DISKS))
        expect(got == self.model.ends[self.shipped],
               f"promoted, the disks are not as at the end of epoch {self.shipped}"
               + describe(got, self.model))

    def acceptable(self) -> list[State]:
        death = self.death
        assert death
        if death.is_filling:
            return []
        return [state for epoch, state in self.model.ends.items()
                if death.journaled <= epoch <= self.shipped]


class SharedRun(Run):
    """One image for both hosts: the owner's disk process dies, and the standby, which has kept all
    that is not settled, brings the image to the end of the last whole epoch."""

    def __init__(self, world: World, crash_at: int, mortal: Optional[Side] = None) -> None:
        super().__init__(world, mortal or world.a, crash_at)
        self.crash_dir = world.a.folder  # where all there is of it lies
        self.steps = STEPS[:[step.verb for step in STEPS].index("drain")]
        self.shipped = 0

    def begin(self) -> None:
        watcher, owner = self.world.b, self.owner
        owner.is_shared = watcher.is_shared = watcher.is_standby = True
        self.make(watcher)
        super().begin()
        watcher.locations = owner.locations
        watcher.redo = owner.redo
        watcher.put(role=WATCHER)
        self.start(watcher)

    def revive(self) -> None:
        """Nobody does."""

    def insist(self, function: Callable[[], object]) -> None:
        if self.death:
            return
        try:
            function()
        except (Died, NbdClosed, ConnectionError):
            self.on_death()

    def play_step(self, step: Step) -> None:
        if not self.death:
            super().play_step(step)

    def do_commit(self) -> None:
        since = self.owner.order("ship")
        self.world.driver.wait("b", "shipped", since=since)
        self.shipped = self.epoch
        super().do_commit()

    def finish(self) -> None:
        watcher = self.world.b
        if not self.death and self.owner.is_dead():
            self.on_death()
        self.owner.end_now()
        watcher.promote_begin()
        self.until_done(watcher.wait_promoted)
        self.until_done(self.compare_taken_over)
        watcher.end_now()
        images = tuple(self.owner.image(i).read_bytes() for i in range(DISKS))
        expect(images == self.model.ends[self.shipped], "the images are not what was read")

    def until_done(self, function: Callable[[], object]) -> None:
        """Of the watcher's; here it is not the one that dies."""
        function()

    def compare_taken_over(self) -> None:
        got = tuple(self.world.b.read_all(i) for i in range(DISKS))
        expect(got == self.model.ends[self.shipped],
               f"taken over, the disks are not as at the end of epoch {self.shipped}"
               + describe(got, self.model))


class WatcherRun(SharedRun):
    """The same, but what dies is the standby's disk process: while it watches, and while it brings
    the image up to date. Its successor does the rest."""

    def __init__(self, world: World, crash_at: int) -> None:
        super().__init__(world, crash_at, world.b)

    def revive(self) -> None:
        Run.revive(self)

    def insist(self, function: Callable[[], object]) -> None:
        Run.insist(self, function)

    def until_done(self, function: Callable[[], object]) -> None:
        self.insist(function)

    def play_step(self, step: Step) -> None:
        Run.play_step(self, step)


def is_as(got: State, want: State, old: State, loose: list[tuple[int, int, int]]) -> bool:
    """Equal, but for sectors that were written past the log and not flushed: these may be old."""
    mixed = [bytearray(disk) for disk in want]
    for disk, offset, length in loose:
        for at in range(offset, offset + length, 512):
            if got[disk][at:at + 512] == old[disk][at:at + 512]:
                mixed[disk][at:at + 512] = old[disk][at:at + 512]
    return all(bytes(a) == b for a, b in zip(mixed, got))


def describe(got: State, model: Model) -> str:
    same = [epoch for epoch, state in model.ends.items() if state == got]
    return f"; they are as at the end of {same}" if same else "; nor of any other"


def left_behind(death: Death, rng: Optional[random.Random]) -> dict[str, bytes]:
    """The files that a host finds when its power comes back, as chance left them."""
    before = {f"disk{i}.img": content for i, content in enumerate(INITIAL)}
    files = crashlog.after_power_loss(before, death.changes, rng)
    return {name: bytes(content) for name, content in files.items() if not name.endswith(".map")}


def recover(fresh: World, files: dict[str, bytes]) -> State:
    """What is on the disks once that host has started the VM's disk process with new memory."""
    side = fresh.a
    side.wipe()
    side.make_images(*[SIZE] * DISKS)
    side.redo_area = "4M"
    side.threads = 4
    for name, content in files.items():
        (side.folder / name).write_bytes(content)
    side.make_memory(soft_mib=4, reserve_mib=4)
    side.start()
    got = tuple(side.read_all(i) for i in range(DISKS))
    side.end_now()
    return got


class Recoveries:
    """Of files that were seen before the outcome is known."""

    def __init__(self) -> None:
        self.known: dict[str, State] = {}

    def outcome(self, fresh: World, files: dict[str, bytes]) -> State:
        digest = hashlib.sha256()
        for name in sorted(files):
            digest.update(name.encode() + hashlib.sha256(files[name]).digest())
        key = digest.hexdigest()
        if key not in self.known:
            self.known[key] = recover(fresh, files)
        return self.known[key]


def check_power_loss(run: Run, fresh: World, recoveries: Recoveries) -> None:
    death = run.death
    want = run.acceptable() if death else []
    if not death or not want:
        return
    for rng in (None, random.Random(run.crash_at)):
        got = recoveries.outcome(fresh, left_behind(death, rng))
        expect(any(is_as(got, state, death.at_drain, death.loose) for state in want),
               f"after the loss of power the disks are as at the end of none of the last "
               f"{len(want)} epochs, journaled {death.journaled}, captured {death.captured}"
               + describe(got, run.model))


class Exhaustion:
    """Runs with every step as the last one, by several workers, until there are no more steps."""

    def __init__(self, make: Callable[[World, int], Run], has_power_loss: bool) -> None:
        self.make = make
        self.has_power_loss = has_power_loss
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.recoveries = Recoveries()
        self.unharmed = 0
        self.deaths = 0

    def go(self) -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            for done in [pool.submit(self.work) for _ in range(WORKERS)]:
                done.result()
        say(f"{self.deaths} deaths, {len(self.recoveries.known)} recoveries after a loss of power")
        expect(self.deaths > 20, "there are more steps than that")

    def work(self) -> None:
        try:
            with World() as world, World() as fresh:
                while self.unharmed < END_AFTER:
                    self.one(world, fresh)
        except BaseException:
            self.unharmed = END_AFTER  # the others may stop, too
            raise

    def one(self, world: World, fresh: World) -> None:
        with self.lock:
            number = next(self.numbers)
        run = self.make(world, number)
        try:
            run.begin()
            run.play()
            run.finish()
            if self.has_power_loss:
                check_power_loss(run, fresh, self.recoveries)
        except Exception as error:
            raise AssertionError(f"death at step {number}") from error
        with self.lock:
            self.deaths += run.death is not None
            self.unharmed = 0 if run.death else self.unharmed + 1


@check
def owner_dies() -> None:
    Exhaustion(lambda world, n: Run(world, world.a, n), True).go()


@check
def owner_dies_and_is_taken_over() -> None:
    Exhaustion(SharedRun, False).go()


@check
def watcher_dies() -> None:
    Exhaustion(WatcherRun, False).go()


@check
def standby_dies_and_goes_on() -> None:
    Exhaustion(lambda world, n: StandbyRun(world, n, False), True).go()


@check
def standby_dies_and_is_promoted() -> None:
    Exhaustion(lambda world, n: StandbyRun(world, n, True), False).go()


if __name__ == "__main__":
    sys.exit(main())
