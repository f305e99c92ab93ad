#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first copy of an owner's disks into a standby's, while the owner's are written to;
interrupted by the death of either disk process; and the delta after an outage. Then epochs, and the
death of the owner: the standby's disks must be the owner's as of the last epoch."""

import contextlib
import signal
import sys
from typing import Iterator

from diskload import Load
from diskworld import (HELD, HOLD, MIB, PARTIAL, REPLICA, REPLICATED, Side, World, check, expect,
                       main, poll, say)

SIZE = 48 * MIB
DATA = 24 * MIB  # the rest is a hole
SOFT_MIB = 256  # nobody commits while the copy ends: all that is written meanwhile is to fit


class Pair:
    """What the keepers of both hosts do about a session."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.owner: Side = world.a
        self.standby: Side = world.b
        self.session = 0
        self.owner.make_images(SIZE)
        self.standby.make_images(SIZE)
        for side in (self.owner, self.standby):
            side.make_memory(soft_mib=SOFT_MIB, reserve_mib=64)
        self.standby.is_standby = True
        self.standby.put(role=REPLICA)
        self.owner.start()
        self.standby.start()
        self.load = Load(self.owner, SIZE, pause_s=0.002)
        for at in range(0, DATA, MIB):
            data = self.load.rng.randbytes(MIB)
            self.load.client.write(at, data)
            self.load.model[at:at + MIB] = data

    # --- the copy ---

    def begin_copy(self, is_full: bool) -> int:
        """How much there is to be sent."""
        self.session += 1
        self.standby.set_state(PARTIAL, self.session)
        self.owner.ask("pump 1", "pump")
        self.order_copy(is_full)
        self.owner.wait_reaches("sync_total_bytes", 1)
        return int(self.owner.words()["sync_total_bytes"])

    def order_copy(self, is_full: bool) -> None:
        self.owner.put(sync_total_bytes=0)
        self.owner.ask_process(f"sync-start {int(is_full)} {self.session}", "ordered")

    def confirm(self) -> None:
        """What has gone over is durable there."""
        event = self.standby.ask_process("flush-sync", "done")
        expect(event["error"] == 0, event)
        self.owner.ask_process("sync-confirmed", "ordered")

    def is_sent(self) -> bool:
        words = self.owner.words()
        self.confirm()
        return bool(words["is_sync_done"] and not words["pool2"])

    def end_copy(self) -> None:
        """Outputs are held from now on; what is left goes, then the first epoch."""
        poll(self.is_sent, "the copy gets near its end", 60.0)
        self.owner.set_state(HELD, self.session)
        epoch = int(self.owner.words()["open_epoch"]) + 1
        self.owner.order(f"hold {epoch}")
        self.owner.wait_is("state", HOLD)

    def first_epoch(self) -> None:
        """While the guest stands still."""
        poll(self.is_sent, "the copy ends", 60.0)
        self.confirm()
        self.owner.ask_process("sync-stop", "ordered")
        self.epoch()
        self.standby.set_state(REPLICATED, self.session)
        self.standby.wait_reaches("applied", self.last_epoch)

    def epoch(self) -> None:
        self.last_epoch = self.owner.capture()
        since = self.owner.order("ship")
        self.world.driver.wait("b", "shipped", since=since)
        self.owner.commit(self.last_epoch)

    def protect(self, is_full: bool) -> int:
        """The whole of it, with writes all the time. Bytes that were to be copied."""
        self.load.begin()
        to_copy = self.begin_copy(is_full)
        self.load.progress()
        self.end_copy()
        self.load.progress()
        self.load.end()
        self.first_epoch()
        return to_copy

    def work_in_epochs(self, n: int = 200) -> None:
        self.owner.automatic(20)
        for _ in range(n):
            self.load.write()
        self.owner.automatic(0)
        self.owner.wait_reaches("settled", 1)
        self.last_epoch = int(self.owner.words()["captured"])

    def fail_over(self) -> None:
        """All that was written until the last epoch is there, on the standby's disk."""
        self.epoch()
        self.owner.end_now()
        self.standby.promote_begin()
        self.standby.wait_promoted()
        expect(self.standby.read_all() == self.load.model, "the standby's disk is not the owner's")
        self.standby.end_now()
        self.load.image_is_right(self.standby.image())

    def lose_standby(self) -> None:
        """The owner goes on alone, having heard of what the standby's disk has for good: the log is
        drained, then past it."""
        for _ in range(3):  # a map forgets in generations
            self.epoch()
            self.standby.wait_reaches("settled", self.last_epoch)
            self.owner.wait_reaches("peer_settled", self.last_epoch)
        self.standby.end_now()
        self.owner.drain()


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    with World() as world:
        yield Pair(world)


@check
def full_copy_under_load() -> None:
    with pair() as p:
        copied = p.protect(is_full=True)
        expect(copied >= DATA, f"only {copied} bytes were to be copied")
        p.work_in_epochs()
        p.fail_over()
        blocks = p.standby.image().stat().st_blocks * 512
        expect(blocks <= p.owner.image().stat().st_blocks * 512 + 8 * MIB, "holes were filled")


@check
def delta_after_an_outage() -> None:
    """Only what was written while the standby was away is copied."""
    with pair() as p:
        p.protect(is_full=True)
        p.work_in_epochs()
        p.lose_standby()
        for _ in range(20):
            p.load.write()
        p.load.client.flush()
        p.standby.make_memory(soft_mib=SOFT_MIB, reserve_mib=64)
        p.standby.put(role=REPLICA)
        p.standby.start()
        copied = p.protect(is_full=False)
        say(f"{copied} bytes of {SIZE} in the delta")
        expect(copied < DATA // 2, f"{copied} bytes are no delta")
        p.work_in_epochs(50)
        p.fail_over()


@check
def owner_dies_during_the_copy() -> None:
    """Its disk process is killed at once, and again and again: what was to be sent still is."""
    with pair() as p:
        p.load.begin()
        p.session = 1
        p.standby.set_state(PARTIAL, 1)
        p.owner.ask("pump 1", "pump")
        p.order_copy(is_full=True)
        for _ in range(4):
            p.owner.end_now()
            has_begun = p.owner.words()["sync_total_bytes"] > 0
            p.owner.start()
            p.order_copy(is_full=not has_begun)
            p.load.progress(5)
        p.end_copy()
        p.load.progress()
        p.load.end()
        p.first_epoch()
        p.work_in_epochs(50)
        p.fail_over()


@check
def standby_dies_during_the_copy() -> None:
    """Its disk process is killed; the successor goes on with what the keeper has kept."""
    with pair() as p:
        p.load.begin()
        p.begin_copy(is_full=True)
        for _ in range(4):
            p.load.progress(5)
            p.standby.end(signal.SIGKILL)
            p.standby.start()
        p.end_copy()
        p.load.progress()
        p.load.end()
        p.first_epoch()
        p.work_in_epochs(50)
        p.fail_over()


if __name__ == "__main__":
    sys.exit(main())
