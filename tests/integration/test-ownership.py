#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An unprotected VM under a lease, and who owns it: one host; another one when that has died, or
stands still; nobody when it has ended."""

import hashlib
import os
import shlex
import signal
import sys
import time
from contextlib import suppress

from checks import check, expect, main, poll, say
from lab import DiskLoad
from leased import Leased, Wire
from protected import HOSTS, Keeper


def define(leased: Leased) -> None:
    """The same file on both hosts: it may run on either."""
    qemu, *args = leased.vm.qemu_argv()
    for host in HOSTS:
        (leased.lab.host_dir(host) / "vms" / f"{leased.vm.name}.conf").write_text(
            f"[vm]\nqemu = {qemu}\nargs = {shlex.join(args)}\nhold-net = net0\n"
            f"takeover = yes\nprefer = {' '.join(HOSTS)}\n")


def digest(leased: Leased) -> str:
    assert leased.disk
    return hashlib.sha256(leased.disk.path("hostA").read_bytes()).hexdigest()


@check
def the_vm_of_a_dead_host_is_started_elsewhere() -> None:
    """And that of a host that ended it in order is not."""
    with Leased() as leased:
        define(leased)
        events = leased.daemons["hostB"].events()
        began = time.monotonic()
        leased.lab.kill_host("hostA", is_silent=True)
        events.wait("takeover-started", 60)
        leased.keeper.close()
        daemon = leased.daemons["hostB"].daemon
        assert daemon  # which has started it, and whose log is its log
        leased.keeper = Keeper(leased.vm, "hostB", daemon)
        say(f"dead to running: {time.monotonic() - began:.1f} s")
        leased.guest.wait_up()
        expect(leased.owner() == "hostB", leased.owner())
        expect(leased.keeper.status()["lease"]["state"] == "owned", leased.keeper.status())
        leased.keeper.ask("Stop", force=True)
        poll(lambda: leased.owner() == "", "the lease is released")
        leased.lab.boot_host("hostA")
        leased.daemons["hostA"].start()
        events.close()
        time.sleep(1.0)
        expect(not leased.lab.pids("hostA")[1:], "something was started though it was stopped")


@check
def a_lease_has_one_owner() -> None:
    with Leased() as leased:
        expect(leased.owner() == "hostA", leased.owner())
        second = leased.spawn("hostB")
        expect(second.wait(60) == 6, second.log_tail())
        expect("hostA" in second.log_tail(), second.log_tail())
        leased.expect_goes_on()
        leased.keeper.ask("Stop", force=True)
        expect(leased.keeper.exit_code() == 0, leased.keeper.log())
        poll(lambda: leased.owner() == "", "the lease is released")
        leased.keeper.close()
        leased.keeper = leased.run("hostB")
        leased.guest.wait_up()
        expect(leased.owner() == "hostB", leased.owner())


@check
def a_keeper_that_dies_gives_the_lease_back() -> None:
    with Leased() as leased:
        os.kill(leased.keeper.pid, signal.SIGKILL)
        poll(lambda: leased.owner() == "", "released by the daemon")
        leased.keeper.close()
        leased.keeper = leased.run("hostA")  # the same host may have it again, too
        expect(leased.owner() == "hostA", leased.owner())
        os.kill(leased.keeper.pid, signal.SIGKILL)
        leased.keeper.exit_code()
        leased.keeper.close()
        leased.keeper = leased.run("hostA")  # also while its QEMU is still being killed
        leased.guest.wait_up()


@check
def a_host_that_wakes_up_finds_itself_replaced() -> None:
    """All of it stands still in the middle of its work, and its VM is started elsewhere. When it
    goes on it sends no frame, writes nothing, and ends."""
    with Leased(has_disk=True) as leased:
        old, wire = leased.keeper, Wire(leased, "hostA")
        load = DiskLoad(leased.lab, leased.guest, files_on="", raw_on="vda")
        load.start()
        stopped = leased.lab.pids("hostA")
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        poll(lambda: not leased.daemons["hostB"].sees_alive(1), "hostB knows that hostA is dead")
        leased.keeper = leased.run("hostB")
        leased.guest.wait_up()
        expect(leased.owner() == "hostB", leased.owner())
        wire.count()
        before = digest(leased)
        for pid in stopped:
            with suppress(ProcessLookupError):  # the first to wake up ends the others
                os.kill(pid, signal.SIGCONT)
        expect(old.exit_code(60) == 6, old.log())
        time.sleep(0.2)  # what had been sent is on the wire by now
        expect(wire.count() == 0, "a frame of a VM that runs elsewhere")
        expect(digest(leased) == before, "a write of a VM that runs elsewhere")
        leased.expect_goes_on()
        wire.close()
        load.close()
        old.close()


if __name__ == "__main__":
    sys.exit(main())
