#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keepers that die at chosen epochs and at chosen points of a disk's way, with a real guest: in the
first epochs of a session, at each tenth of an epoch, while the log is written out because the
standby has gone, while a promoted standby redoes, while a copy is made, and several in a row. What
happens to a disk process at each single write is tests/disk's."""

import os
import signal
import sys
import time
from typing import Any, Callable

from checks import check, expect, main, poll, say
from diskpair import DiskPair, Server
from protected import HOSTS, Keeper

INTERVAL_MS = 100


def epoch_of(pair: DiskPair) -> int:
    return int(pair.primary.status()["epochs"]["captured"])


def wait_epoch(pair: DiskPair, epoch: int) -> None:
    """Looked for without sleeping, so that the end comes early in the next."""
    deadline = time.monotonic() + 30
    while epoch_of(pair) < epoch:
        expect(time.monotonic() < deadline, f"epoch {epoch} does not come")


def die_and_verify(pair: DiskPair) -> None:
    live = pair.failover("keeper")
    pair.load.wait_progress()
    pair.load.check()
    say(f"died at epoch {live['epoch']}")


@check
def at_chosen_epochs() -> None:
    """The first ones of a session, and then at each tenth of the way through one."""
    options = ("--epoch-interval", f"{INTERVAL_MS}ms")
    with DiskPair(options=options, smp=2) as pair:
        for after in (1, 2, 3):
            pair.load.start()
            wait_epoch(pair, epoch_of(pair) + after)
            die_and_verify(pair)
            pair.load.start()
            pair.renew()
        for tenth in range(0, 10, 3):
            pair.load.start()
            wait_epoch(pair, epoch_of(pair) + 1)
            time.sleep(tenth * INTERVAL_MS / 10 / 1e3)
            die_and_verify(pair)
            pair.renew()
        pair.finish()


class SlowPair(DiskPair):
    """Images that take their time, so that there is much to be caught in the middle of."""

    def prepare(self) -> None:
        super().prepare()
        self.servers = {
            host: [Server(self.lab, host, disk.path(host), "delay-write=5ms", filters=("delay",))
                   for disk in self.disks] for host in HOSTS}
        for disk, server in zip(self.disks, self.servers[HOSTS[0]]):
            disk.location = server.uri

    def path(self, host: str, number: int) -> Any:
        return self.lab.host_dir(host) / self.disks[number].file_name


def die_and_run_again(pair: SlowPair, is_there: Callable[[], object], what: str,
                      *options: str, is_told_kept: bool = True) -> None:
    """The VM that is alone dies at that point, and starts again on the same host."""
    last = pair.primary
    poll(is_there, what)
    os.kill(last.pid, signal.SIGKILL)
    last.exit_code()
    poll(lambda: not pair.processes(last.host), "the VM's processes are gone")
    pair.run_again(last.host, *options)
    pair.load.check(is_told_kept=is_told_kept)


@check
def while_the_log_is_written_out() -> None:
    """The standby has gone, outputs are to pass: the keeper dies before all is on the disk."""
    with SlowPair(smp=2, load={"raw_rate": 0}) as pair:
        for _ in range(2):
            pair.load.start()
            poll(lambda: pair.disks_of(pair.primary)["logged_bytes"] > 1 << 20, "much in the log")
            gone = pair.standby
            os.kill(gone.pid, signal.SIGKILL)
            gone.exit_code()
            # Until it is, the disks say that a standby may be ahead of them: whoever knows better.
            die_and_run_again(pair, lambda: pair.disks_of(pair.primary)["mode"] == "drain" or
                              pair.primary.seen("alone"), "the log is being written out", "--force")
            pair.standby = pair.start_standby(gone.host, pair.primary.host)
            pair.wait_protected()
        pair.load.start()
        pair.load.check()


def behind(keeper: Keeper) -> int:
    """So many committed epochs are not yet in the images."""
    status = keeper.status()
    return int(status["epochs"]["committed"]) - int(status["disks"]["applied"])


@check
def while_a_promoted_standby_redoes() -> None:
    with SlowPair(smp=2, load={"raw_rate": 0}) as pair:
        pair.load.start()
        poll(lambda: behind(pair.standby) > 3, "much in its log")
        pair.kill_primary("keeper")
        pair.standby.wait("live")
        pair.primary = pair.standby
        # Until all is redone it is a standby's copy; whoever knows that the other host is dead can
        # go on from it. What was told lay on the dead owner's disk, and in this one's memory.
        die_and_run_again(pair, lambda: True, "live", "--force", is_told_kept=False)


@check
def while_a_copy_is_made() -> None:
    """The owner dies in it, starts again, and the copy goes on or begins anew, but is right."""
    with DiskPair(smp=2) as pair:
        pair.load.start()
        pair.lab.kill_host(pair.standby.host)
        pair.standby.exit_code()
        pair.primary.wait("alone")
        pair.lab.set_rate(pair.standby.host, 50)
        pair.load.wait_progress()
        pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
        pair.primary.wait("syncing")
        time.sleep(0.5)
        host = pair.primary.host
        pair.lab.kill_host(host)
        pair.primary.exit_code()
        pair.lab.set_cable(pair.standby.host)
        pair.run_again(host)
        pair.load.check()
        pair.wait_protected()
        pair.load.start()
        pair.load.wait_progress()
        pair.round("host")
        pair.finish()


if __name__ == "__main__":
    sys.exit(main())
