#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""holdfast and sanlock on one lease area: real daemons of both respect each other, hand over to
each other what they release, and take over from each other's dead hosts, no sooner than sanlock's
rule has it. A lease that holdfast hands over is never free and never stolen, whatever a contender
of sanlock's does; the records that would make it so are written by hand, to show that the traps are
there and that we do not step into them.

One lab serves all checks, see sharedarea.py; some of its hosts die when the first check begins, and
what becomes of their leases is looked at by the last ones.

usage: test-lease-sanlock.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR. Exit status: 0, 1, or 77 when not root."""

import signal
import sys
import threading
import time
from dataclasses import replace

from checks import Skip, check, expect, main, poll, say
# pylint: disable=wrong-import-order
from lab import Lab
from lablease import Call, CallError, HoldfastHost, LeaseArea, Owner, SanlockHost, give
from lablease import lacks_sanlock
from leaseformat import RawLease, Record, read_slot
from sharedarea import (DEAD_S, DEATH_DEADLINE_S, FENCE, OTHER_CHOSEN, OWNED, T_S, A, B, Lease, V,
                        W, X, Y, Z, end_the_world, refused, signal_all, the_world)

HANDOVERS = 300
NOBODY = 9  # a host id that was never used


# --- each respects the other ---------------------------------------------------------------------

@check
def each_sees_the_other_alive_and_is_refused() -> None:
    with Lease("respect") as lease:
        lver = lease.acquire(lease.a)
        lease.expect_owner(A, lver)
        lease.expect_defended("held by holdfast")
        lease.a("Release", vm=lease.vm)
        lease.expect_owner(0, lver)
        expect(lease.v.acquire(lease.name) == 0, "sanlock does not get what holdfast has released")
        lease.expect_owner(V, lver + 1)
        for call in (lease.a, lease.b):
            error = refused(call, "Acquire", vm=lease.vm)
            expect(error.name == "Owned" and error.parameters["owner_id"] == V, error)
        lease.expect_owner(V, lver + 1)
        expect(lease.v.release(lease.name) == 0, "sanlock does not release")
        lver = lease.acquire(lease.b)
        lease.expect_owner(B, lver)
        lease.b("Release", vm=lease.vm)


@check
def a_waiting_one_gets_what_the_other_releases() -> None:
    with Lease("waiting") as lease:
        lver = lease.acquire(lease.a)
        lease.v.await_lease(lease.name, 60.0)
        lease.a("Release", vm=lease.vm)
        expect(lease.v.answer(70.0)["rv"] == 0, "sanlock")
        lease.expect_owner(V, lver + 1)
        lease.b.send("Acquire", vm=lease.vm, wait_ms=60000)
        expect(lease.v.release(lease.name) == 0, "sanlock does not release")
        expect(lease.b.reply(70.0)["lver"] == lver + 2, "holdfast")
        lease.expect_owner(B, lver + 2)
        lease.b("Release", vm=lease.vm)


# --- the table of records ------------------------------------------------------------------------

@check
def a_handed_over_lease_is_the_destinations_for_everybody() -> None:
    with Lease("given") as lease:
        lver = lease.hand_over(lease.acquire(lease.a))
        lease.expect_owner(B, lver)
        leader = lease.raw.leader()
        expect((leader.write_id, leader.write_generation) == (B, lease.world.b.generation), leader)
        expect(lease.raw.block(A).is_released and not lease.raw.block(B).is_released, "blocks")
        lease.expect_defended("handed over")
        error = refused(lease.a, "Acquire", vm=lease.vm)
        expect(error.name == "Owned" and error.parameters["owner_id"] == B, error)
        lease.expect_owner(B, lver)
        lease.b("Release", vm=lease.vm)
        lease.expect_owner(0, lver)
        expect(lease.v.acquire(lease.name) == 0, "sanlock does not get what was released")
        lease.v.release(lease.name)


@check
def the_source_cannot_undo_it() -> None:
    """What it holds no longer it does not release, however it ends."""
    with Lease("undo") as lease:
        lver = lease.hand_over(lease.acquire(lease.a))
        before = lease.raw.leader()
        refused_or_nothing(lease.a, lease.vm)
        lease.a.close()
        time.sleep(0.5)
        expect(lease.raw.leader() == before, lease.raw.leader())
        lease.expect_owner(B, lver)
        lease.b("Release", vm=lease.vm)


def refused_or_nothing(call: Call, vm: str) -> None:
    try:
        call("Release", vm=vm)
    except CallError as error:
        say(f"releasing what was given away: {error}")


@check
def a_stale_mark_of_a_release_is_a_trap_that_we_avoid() -> None:
    """By the writer's id, and by the destination's clean block."""
    with Lease("stale") as lease:
        lver = lease.acquire(lease.b)
        lease.b("Release", vm=lease.vm)
        expect(lease.raw.block(B).is_released, "the block of a host that has released")
        lver = lease.acquire(lease.a)
        lease.b("Prepare", vm=lease.vm)
        expect(not lease.raw.block(B).is_released, "prepared, but still marked")
        lver = lease.hand_over(lver)
        lease.expect_defended("after an earlier release of the destination")
        stale = replace(lease.raw.block(B), flags=1)
        good = lease.raw.leader()
        lease.raw.write_block(B, stale)
        lease.expect_defended("our record, were the block marked by mistake")
        lease.raw.write_leader(replace(good, write_id=A))
        lease.expect_theft("another one's record, and the mark")


@check
def another_writers_record_is_safe_with_a_clean_block() -> None:
    with Lease("clean") as lease:
        lver = lease.acquire(lease.a)
        lease.raw.write_block(B, None)
        lease.raw.name_owner(B, lease.world.b.generation, lver=lver + 1, write_id=A)
        lease.expect_defended("no block of the owner's")
        lease.expect_owner(B, lver + 1)


@check
def the_same_lver_is_taken_for_good_as_well() -> None:
    with Lease("same") as lease:
        lver = lease.acquire(lease.a)
        lease.raw.name_owner(B, lease.world.b.generation, lver=lver)
        lease.expect_owner(B, lver)
        lease.expect_defended("another owner at the same lver")


@check
def a_wrong_generation_is_a_trap_that_we_avoid() -> None:
    world = the_world()
    with Lease("generation") as lease:
        lver = lease.acquire(lease.a)
        for to, generation in ((B, world.b.generation - 1), (B, world.b.generation + 1),
                               (NOBODY, 1)):
            error = refused(lease.a, "Transfer", vm=lease.vm, lver=lver, to=to,
                            to_generation=generation)
            say(f"to {to}, generation {generation}: {error}")
            lease.expect_owner(A, lver)
            lease.expect_defended("after a refused hand-over")
        for owner, generation in ((B, world.b.generation - 1), (NOBODY, 1)):
            lver = lease.raw.leader().lver + 1
            lease.raw.name_owner(owner, generation, lver=lver)
            lease.expect_theft(f"owner {owner}, generation {generation}")
        lease.raw.name_owner(B, world.b.generation + 1, lver=lease.raw.leader().lver + 1)
        lease.expect_defended("a generation that is still to come")


@check
def what_sanlocks_own_tool_writes_is_a_record_for_us() -> None:
    world = the_world()
    with Lease("tool") as lease:
        lver = lease.acquire(lease.a)
        lease.a("Release", vm=lease.vm)
        path = world.lab.work / "leader"
        path.write_text(f"owner_id {B}\nowner_generation {world.b.generation}\nlver {lver + 1}\n"
                        f"timestamp {int(time.monotonic())}\nwrite_id {B}\n"
                        f"write_generation {world.b.generation}\n")
        world.lab.run("sanlockV", ["sanlock", "direct", "write_leader", "-r", lease.name, "-F",
                                   str(path)])
        lease.expect_owner(B, lver + 1)
        lease.expect_defended("written by sanlock's tool")
        expect(refused(lease.a, "Acquire", vm=lease.vm).name == "Owned", "not respected by us")


def late_commit(lver: int, generation: int, lease: Lease) -> Record:
    """What a contender who had found A's value in a ballot for that lver writes at last."""
    return replace(lease.raw.leader(), owner=A, generation=generation, lver=lver,
                   timestamp=int(time.monotonic()), write_id=W, write_generation=1)


@check
def a_late_commit_is_a_trap_that_we_avoid() -> None:
    """Of the ballot before the hand-over: with a ballot, whoever comes finds the new owner."""
    world = the_world()
    with Lease("bare") as lease:
        lver = lease.acquire(lease.a)
        late = late_commit(lver, world.a.generation, lease)
        lease.raw.name_owner(B, world.b.generation, lver=lver + 1)
        lease.raw.write_block(A, replace(lease.raw.block(A), flags=1))
        lease.raw.write_leader(late)
        lease.expect_theft("a hand-over without a ballot, and a late commit")
    with Lease("balloted") as lease:
        lver = lease.acquire(lease.a)
        late = late_commit(lver, world.a.generation, lease)
        given = lease.hand_over(lver)
        expect(given == lver + 1, f"{lver}, then {given}")
        for _ in range(3):
            lease.raw.write_leader(late)
            lease.expect_defended("a hand-over by ballot, and a late commit", OTHER_CHOSEN)
            lease.expect_owner(B, given)
        lease.raw.write_leader(late)
        lease.b("Release", vm=lease.vm)
        lease.expect_owner(0, given)
        expect(lease.v.acquire(lease.name) == 0, "released, but not free")
        lease.v.release(lease.name)


# --- under fire ----------------------------------------------------------------------------------

@check
def hand_overs_under_a_contender_are_never_free_and_never_stolen() -> None:
    world = the_world()
    with Lease("contended") as lease:
        lver = first = lease.acquire(lease.a)
        sides = [(lease.a, world.a, world.a.generation), (lease.b, world.b, world.b.generation)]
        contender = world.v.holder()
        watch = world.area.watch("watcher", lease.offset)
        contender.contend(lease.name)
        for _ in range(HANDOVERS):
            source, destination = sides
            lver = give(source[0], destination[0], lease.vm, lver, *destination[1:])
            sides.reverse()
        contest = contender.end_contest()
        result = watch.stop()
        say(f"the contender's tries: {contest}; the watcher's: {result}")
        expect(lver == first + HANDOVERS, f"{lver} after {HANDOVERS} from {first} on")
        expect(contest["won"] == 0 and contest["tries"] >= HANDOVERS / 4, contest)
        seen = [event for event in watch.events if event["event"] == "leader"]
        expect(not [event for event in seen if event["free"]], "the lease was free on the disk")
        expect(len(seen) > HANDOVERS / 2, f"the watcher saw {len(seen)} changes only")
        for event in seen:
            owner = (A, B)[(event["lver"] - first) % 2]
            expect(event["owner"] == owner and event["write_id"] == owner, event)
        sides[0][0]("Release", vm=lease.vm)


@check
def releases_under_the_same_contender_are_seen_free() -> None:
    """The judge of the check before can say no: a lease that is released and acquired."""
    world = the_world()
    with Lease("released") as lease:
        contender = world.v.holder()
        watch = world.area.watch("watcher", lease.offset)
        lease.acquire(lease.a)
        contender.contend(lease.name)
        stolen = 0
        for _ in range(30):
            lease.a("Release", vm=lease.vm)
            try:
                lease.b("Acquire", vm=lease.vm, wait_ms=0)
                lease.b("Release", vm=lease.vm)
            except CallError:
                stolen += 1
            lease.a("Acquire", vm=lease.vm, wait_ms=30000)
        contest = contender.end_contest()
        watch.stop()
        free = [event for event in watch.events if event.get("free")]
        say(f"{stolen} of 30 stolen, seen free {len(free)} times, {contest}")
        expect(free, "the watcher sees no free moment")
        lease.a("Release", vm=lease.vm)


@check
def a_restarted_daemon_has_given_nothing_away() -> None:
    """sanlock's own would have: it comes back with another generation."""
    world = the_world()
    with Lease("restarted") as lease:
        command = world.b.hold(lease.vm, "/bin/sleep", "600")
        poll(lambda: world.a.read(lease.vm).owner == B, "the command holds the lease")
        before = world.b.read(lease.vm)
        contender = world.v.holder()
        contender.contend(lease.name, at_least=HANDOVERS)
        world.b.kill()
        world.b.start()
        contest = contender.end_contest()
        expect(contest["won"] == 0, contest)
        expect(command.is_running(), "the command did not live on")
        after = world.b.read(lease.vm)
        expect((after.owner, after.generation) == (before.owner, before.generation), after)
        command.signal(signal.SIGTERM)
        command.wait(60.0)
        poll(lambda: world.a.read(lease.vm).owner == 0, "the lease is free")


# --- requests ------------------------------------------------------------------------------------

@check
def holdfast_obeys_a_request_of_sanlocks() -> None:
    """FORCE (1) and GRACEFUL (2); the asker gets the lease then."""
    world = the_world()
    for mode in (1, 2):
        with Lease(f"asked-{mode}") as lease:
            command = world.a.hold(lease.vm, "/bin/sleep", "600")
            poll(lambda: world.a.read(lease.vm).owner == A, "the command holds the lease")
            lease.v.await_lease(lease.name, 60.0)
            world.v.request(lease.name, mode)
            command.wait(60.0)
            expect(lease.v.answer(70.0)["rv"] == 0, "the asker gets it")
            lease.expect_owner(V, lease.raw.leader().lver)
            lease.v.release(lease.name)


@check
def sanlock_obeys_a_request_of_holdfasts() -> None:
    world = the_world()
    with Lease("asking") as lease:
        command = world.v.command(lease.name, "/bin/sleep", "600")
        poll(lambda: world.v.read(lease.name).owner == V, "the command holds the lease")
        lease.a.send("Acquire", vm=lease.vm, wait_ms=60000)
        lease.b("Request", vm=lease.vm, force=True)
        command.wait(60.0)
        lease.expect_owner(A, lease.a.reply(70.0)["lver"])
        lease.a("Release", vm=lease.vm)


# --- the index -----------------------------------------------------------------------------------

def create_by_sanlock(names: list[str], found: dict[str, int]) -> None:
    """sanlock gives up when another one is at the index."""
    for name in names:
        while (offset := the_world().v.create(name)) is None:
            time.sleep(0.02)
        found[name] = offset


@check
def leases_are_made_by_both_at_once_and_found_by_both() -> None:
    world = the_world()
    ours, theirs = ([f"{who}-{n}" for n in range(4)] for who in ("ours", "theirs"))
    made: dict[str, int] = {}
    thread = threading.Thread(target=create_by_sanlock, args=(theirs, made), daemon=True)
    thread.start()
    for name in ours:
        made[name] = int(world.a.create(name).rsplit(":", 1)[1])
    thread.join(120.0)
    expect(set(made) == {*ours, *theirs}, made)
    expect(len(set(made.values())) == len(made), made)
    for name, offset in made.items():
        expect(world.v.lookup(name) == offset, f"sanlock does not find {name} at {offset}")
        for host in (world.a, world.b):
            expect(host.lease(name)["offset"] == offset, f"{host.host} finds {name} elsewhere")
    with Lease(theirs[0]) as lease:
        expect(lease.acquire(lease.b) == 1, "a lease that sanlock has made")
        lease.expect_owner(B, 1)
        lease.b("Release", vm=lease.vm)
    with Lease(ours[0]) as lease:
        expect(lease.v.acquire(lease.name) == 0, "a lease that holdfast has made")
        lease.expect_owner(V, 1)
        lease.v.release(lease.name)


# --- sanlock's view of the whole -----------------------------------------------------------------

@check
def sanlocks_dump_shows_what_is_there() -> None:
    world = the_world()
    with Lease("dumped") as lease:
        lver = lease.acquire(lease.a)
        lines = [line.split() for line in world.area.dump().splitlines()]
        leader = next(line for line in lines if line[2:3] == [lease.vm])
        expect(leader[0] == f"{lease.offset:08d}" and leader[1] == world.area.space, leader)
        expect([int(word) for word in leader[4:7]] == [A, world.a.generation, lver], leader)
        for host in (world.a, world.b):
            slot = next(line for line in lines if line[2:3] == [host.host])
            expect([int(word) for word in slot[4:6]] == [host.host_id, host.generation], slot)
            record, extra = read_slot(world.area.file, host.host_id)
            expect(record.io_timeout_s == T_S and any(extra), record)
        expect(not any(read_slot(world.area.file, V)[1]), "sanlock's slot with our bytes")
        lease.a("Release", vm=lease.vm)


# --- other geometries ----------------------------------------------------------------------------

class Trio:
    """Two hosts of ours and one of sanlock's on an area of some geometry."""

    def __init__(self, lab: Lab, name: str, sector: int, align_mib: int):
        self.area = LeaseArea(lab, name, leases=2, io_timeout_s=T_S, sector=sector,
                              align_mib=align_mib)
        self.area.init()
        self.ours = [HoldfastHost(lab, f"{name}-{n}", self.area, n, **FENCE) for n in (A, B)]
        self.theirs = SanlockHost(lab, f"{name}-{V}", self.area, V)
        for holdfast in self.ours:
            holdfast.start(is_joined=False)
        self.theirs.start()
        self.joining = self.theirs.begin_join()

    def check(self) -> None:
        self.theirs.finish_join(self.joining)
        for holdfast in self.ours:
            holdfast.wait_joined()
            poll(lambda h=holdfast: self.theirs.sees_alive(h.host_id), "sanlock sees ours alive")
        first, second = self.ours
        a, b, v = first.connect(), second.connect(), self.theirs.holder()
        name = first.create("vm")
        lver = give(a, b, "vm", a("Acquire", vm="vm")["lver"], second, second.generation)
        expect(v.acquire(name) == OWNED, "sanlock is not refused")
        expect(self.theirs.read(name) == Owner(lver, B, second.generation), "sanlock's view")
        b("Release", vm="vm")
        expect(v.acquire(name) == 0, "sanlock does not get what was released")
        expect(refused(a, "Acquire", vm="vm").parameters["owner_id"] == V, "not sanlock's")
        expect(v.release(name) == 0, "sanlock does not release")
        expect(a("Acquire", vm="vm")["lver"] == lver + 2, "not got back")


@check
def sectors_of_4096_bytes_and_larger_areas_are_shared_as_well() -> None:
    if why := lacks_sanlock():
        raise Skip(why)
    geometries = {"small": (4096, 1), "medium": (4096, 4), "large": (4096, 8)}
    with Lab([f"{name}-{n}" for name in geometries for n in (A, B, V)]) as lab:
        trios = [Trio(lab, name, *geometry) for name, geometry in geometries.items()]
        for trio in trios:
            trio.check()


# --- the dead ------------------------------------------------------------------------------------

def expect_no_sooner(what: str, begin_ns: int, end_ns: int, slack_s: float) -> None:
    """slack_s: how long before its death the host may have renewed."""
    took_s = (end_ns - begin_ns) / 1e9
    say(f"{what}: {took_s:.1f} s")
    expect(took_s >= DEAD_S - slack_s, f"{what} after {took_s:.1f} s, which is too soon")


@check
def sanlock_takes_over_from_a_dead_host_of_holdfasts() -> None:
    """What it had acquired, and what it had been given."""
    world = the_world()
    deaths = world.deaths
    for lease, heir in deaths.heirs.items():
        answer = heir.answer(DEATH_DEADLINE_S)
        expect(answer["rv"] == 0, answer)
        expect_no_sooner(lease.split(":")[1], deaths.killed_ns, answer["end_ns"], 2.0)
    expect([world.w.read(lease).owner for lease in deaths.heirs] == [V, W, W], "owners")
    for vm, owner in (("death-0", V), ("death-1", W), ("death-3", W)):
        expect(world.a.read(vm).owner == owner, world.a.read(vm))


@check
def a_stopped_host_that_wakes_too_late_leaves_everything_alone() -> None:
    """What ran there is ended; its daemon is a member again, but the lease is another's."""
    world, deaths = the_world(), the_world().deaths
    offset = int(deaths.stopped.rsplit(":", 1)[1])
    with RawLease(world.area.file, offset) as raw:
        poll(lambda: world.w.read(deaths.stopped).owner == W, "sanlock has taken it over",
             DEATH_DEADLINE_S)
        leader, block = raw.leader(), raw.block(Z)
        signal_all(deaths.z, signal.SIGCONT)
        say(f"the command's guard: {deaths.guarded.wait(60.0)}: {deaths.guarded.log_tail()}")
        poll(lambda: deaths.z.is_valid() and world.a.sees_alive(Z), "it is a member again")
        assert deaths.z.daemon
        poll(lambda: set(world.lab.pids(deaths.z.host)) == {deaths.z.daemon.pid}, "nothing runs")
        expect(deaths.z.status()["tenure"] > 1, deaths.z.status())
        with deaths.z.connect() as call:
            error = refused(call, "Acquire", vm="death-3")
        expect(error.name == "Owned" and error.parameters["owner_id"] == W, error)
        expect((raw.leader(), raw.block(Z)) == (leader, block), "the lease was written to")


@check
def holdfast_takes_over_from_a_dead_host_of_sanlocks() -> None:
    world = the_world()
    heir = world.deaths.our_heir
    heir.join(DEATH_DEADLINE_S)
    expect(not heir.is_alive() and not heir.error, heir.error)
    lver = heir.answer["lver"]
    expect_no_sooner("death-2", world.deaths.killed_ns, heir.end_ns, 4.0)
    seen = world.v.read(world.deaths.theirs)
    expect(seen == Owner(lver, A, world.a.generation), seen)


@check
def everything_else_has_stayed_as_it_was() -> None:
    """Nobody lost its slot over all this."""
    world = the_world()
    for host in (world.a, world.b):
        status = host.status()
        expect(status["state"] == "member" and status["generation"] == 1, status)
        for other in (A, B, V, W):
            expect(host.sees_alive(other), f"{host.host} does not see {other}")
    for other in (X, Y):  # holdfastB may have been restarted, and not know for so long
        expect(not world.a.sees_alive(other), f"holdfastA sees the dead {other} alive")


def run() -> int:
    try:
        return main()
    finally:
        end_the_world()


if __name__ == "__main__":
    sys.exit(run())
