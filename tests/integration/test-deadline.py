#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An unprotected VM under a lease: the daemon dies, stands still or is started anew, the storage
fails, and with that its host's lease runs out. The VM runs only while that is safe, and nothing of
it is lost that need not be."""

import os
import signal
import sys
import time

from checks import check, expect, main, poll
from leased import Leased

# pylint: disable=wrong-import-position
from labdisk import DiskLoad  # noqa: E402


@check
def the_daemon_dies_and_comes_back() -> None:
    """Nobody notices: the same generation, the same tenure."""
    with Leased() as leased:
        before = leased.daemon.status()
        lver = leased.keeper.status()["lease"]["lver"]
        for _ in range(3):
            leased.daemon.kill()
            leased.daemon.start()
            leased.expect_goes_on()
        after = leased.daemon.status()
        expect(after["generation"] == before["generation"], f"{before} {after}")
        expect(after["tenure"] == before["tenure"], f"{before} {after}")
        status = leased.keeper.status()
        expect(status["lease"]["state"] == "owned" and status["lease"]["lver"] == lver, status)
        expect(not leased.keeper.seen("lease-lapsed"), leased.keeper.log())
        poll(lambda: leased.keeper.status()["lease"]["connected"], "the keeper is back in touch")
        leased.keeper.ask("Stop", force=True)
        expect(leased.keeper.exit_code() == 0, leased.keeper.log())
        poll(lambda: leased.owner() == "", "the new daemon releases what it was told of")


def lapse(leased: Leased) -> None:
    leased.keeper.wait("fenced", timeout_s=60)
    poll(lambda: leased.keeper.status()["guest"] == "stopped", "the guest stands still")
    leased.expect_stands_still()


def recover(leased: Leased) -> None:
    leased.keeper.wait("unfenced", timeout_s=60)
    poll(lambda: leased.keeper.status()["guest"] == "running", "the guest runs on")
    leased.expect_goes_on()
    expect(leased.owner() == "hostA", leased.owner())


@check
def a_start_that_outlasts_the_lease_is_no_start() -> None:
    """The disk process takes its time, and meanwhile the daemon hangs."""
    with Leased(has_disk=True) as leased:
        leased.keeper.ask("Stop", force=True)
        leased.keeper.exit_code()
        gate, slow = leased.lab.work / "gate", leased.lab.work / "nbdkit-slow"
        slow.write_text(f"#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.1; done\n"
                        'exec nbdkit "$@"\n')
        slow.chmod(0o755)
        start = leased.spawn("hostA", "--nbdkit", str(slow))
        poll(lambda: leased.owner() == "hostA", "it owns the lease")
        assert leased.daemon.daemon
        leased.daemon.daemon.signal(signal.SIGSTOP)
        poll(lambda: not leased.daemons["hostB"].sees_alive(1), "the lease has run out")
        gate.touch()
        expect(start.wait(60) == 1, start.log_tail())
        expect("ran out" in start.log_tail(), start.log_tail())
        leased.daemon.daemon.signal(signal.SIGCONT)
        poll(lambda: leased.owner() == "", "what was not started does not keep the lease")


@check
def the_daemon_hangs_or_is_gone_for_too_long() -> None:
    with Leased() as leased:
        boot = leased.guest.stat()["boot"]
        assert leased.daemon.daemon
        leased.daemon.daemon.signal(signal.SIGSTOP)
        lapse(leased)
        leased.daemon.daemon.signal(signal.SIGCONT)
        recover(leased)
        generation = leased.daemon.generation
        leased.daemon.kill()
        lapse(leased)
        leased.daemon.start()
        recover(leased)
        expect(leased.daemon.generation == generation, "a new generation under a VM")
        expect(leased.guest.stat()["boot"] == boot, "the guest was started anew")


@check
def a_guest_in_the_middle_of_its_writes_says_that_it_stands_still() -> None:
    """Its writes wait for the lease, and so does QEMU, which answers nobody then: it is not hung."""
    with Leased(has_disk=True, options=("--hang-timeout", "1s")) as leased:
        load = DiskLoad(leased.lab, leased.guest, files_on="", raw_on="vda")
        load.start()
        leased.daemon.kill()
        leased.keeper.wait("fenced", timeout_s=60)
        poll(lambda: leased.keeper.status().get("pause") == "lease",
             "the status says why it stands still")
        expect(leased.keeper.status()["life"] == "paused", leased.keeper.status())
        time.sleep(4)  # for as long as it takes to be taken for hung
        expect(not leased.keeper.seen("vm-fault"), leased.keeper.log())
        leased.daemon.start()
        recover(leased)
        load.wait_progress()
        poll(lambda: leased.keeper.status()["life"] == "running", "it runs")
        expect(not leased.keeper.seen("vm-fault"), leased.keeper.log())
        load.close()


@check
def a_vm_that_froze_without_the_daemon_gives_its_lease_back() -> None:
    """Its guard lives on, and tells the next daemon: else nobody could run the VM elsewhere."""
    with Leased() as leased:
        leased.daemon.kill()
        leased.keeper.ask("Freeze", 60.0, reason="a test")
        poll(lambda: "could not be released yet" in leased.keeper.log(), "nobody is there to ask")
        expect(leased.owner() == "hostA", leased.owner())
        leased.daemon.start()
        poll(lambda: leased.owner() == "", "the lease is free", 60)
        expect(leased.keeper.status()["life"] == "frozen", leased.keeper.status())


@check
def the_storage_fails() -> None:
    with Leased() as leased:
        leased.area.fail(True)
        lapse(leased)
        expect(leased.daemon.status()["storage"] != "ok", leased.daemon.status())
        leased.area.fail(False)
        recover(leased)
        leased.area.pause()
        lapse(leased)
        leased.area.resume()
        recover(leased)


@check
def slow_storage_is_storage() -> None:
    """Each request takes longer than a quick disk's thousand; and the server is started anew."""
    with Leased() as leased:
        leased.area.start(delay_ms=150)
        poll(lambda: leased.daemon.status()["io_max_ns"] > 150e6, "the delay is felt")
        before = leased.daemon.status()["renewals"]
        poll(lambda: leased.daemon.status()["renewals"] > before + 10, "renewals go on")
        leased.expect_goes_on()
        expect(not leased.keeper.seen("lease-lapsed"), leased.keeper.log())


@check
def a_qemu_that_does_not_stop_is_killed() -> None:
    with Leased() as leased:
        os.kill(leased.keeper.qemu_pid, signal.SIGSTOP)
        leased.area.fail(True)
        leased.keeper.wait("fence-kill", timeout_s=60)
        expect(leased.keeper.exit_code() == 4, leased.keeper.log())
        leased.area.fail(False)
        poll(lambda: leased.owner() == "", "a dead VM's lease is released")




if __name__ == "__main__":
    sys.exit(main())
