#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's own doing under protection: reboot, power off, panic; and QEMU ended by its user. A
VM that ended in order must not come to life again on the standby."""

import os
import signal
import sys
import time
from typing import Callable

from checks import chance, check, expect, main, poll
from lab import GuestError, LabError
from protected import Keeper, Load, Pair, expect_nothing_left


def wait_new_boot(pair: Pair, before: int) -> None:
    def has_new() -> bool:
        try:
            return int(pair.guest.ask("stat", timeout_s=1)["boot"]) != before
        except (LabError, GuestError):
            return False

    poll(has_new, "the guest has booted anew", 90)


def reboots_under_protection(command: str) -> None:
    with Pair() as pair:
        lenient = pair.lab.client("counter", pair.vm.addr, "--may-reboot")
        before = pair.guest.stat()["boot"]
        pair.guest.ask(command)
        wait_new_boot(pair, before)
        expect(not pair.primary.seen("alone") and not pair.primary.seen("holding"),
               pair.primary.log())
        expect(pair.primary.status()["protected"], "not protected after the reboot")
        load = Load(pair)
        pair.failover("host")
        load.wait_progress()
        load.finish()
        result = lenient.stop()
        expect(result["ok"] and result["reboots"] == 1, result)


@check
def reboots() -> None:
    reboots_under_protection("reboot")


@check
def reboots_by_panic() -> None:
    reboots_under_protection("panic")


@check
def dies_while_it_boots() -> None:
    with Pair() as pair:
        before = pair.guest.stat()["boot"]
        pair.guest.ask("reboot")
        time.sleep(chance.uniform(0.1, 1.0))
        pair.failover("keeper")
        wait_new_boot(pair, before)
        pair.renew()
        pair.failover("qemu")
        expect(pair.guest.stat()["boot"] != before, "the old boot is back")


def expect_end(pair: Pair, why: str) -> None:
    """The primary is gone; the standby knows why, and has discarded what it held."""
    primary, standby = pair.primary, pair.standby
    expect(primary.exit_code() == 0, f"exit code {primary.exit_code()}: {primary.log()}")
    expect_nothing_left(pair, primary.host)
    event = standby.wait("vm-ended")
    expect(why in event["text"], event)
    standby.wait("idle")
    expect(standby.status()["epochs"]["committed"] == 0, standby.status())
    expect(not standby.seen("promoting"), "the standby has promoted a VM that ended in order")


def end(act: Callable[[Pair], object], why: str, **options: object) -> None:
    """After the end the standby serves the VM's next start, and ends by order."""
    with Pair(**options) as pair:
        act(pair)
        expect_end(pair, why)
        pair.primary = pair.start_primary("hostA", "hostB")
        pair.guest.wait_up()
        pair.wait_protected()
        pair.failover("keeper")
        load = Load(pair)
        load.finish()
        stop_alone(pair, pair.primary)


def stop_alone(pair: Pair, keeper: Keeper) -> None:
    keeper.ask("Stop", force=True)
    expect(keeper.exit_code() == 0, keeper.log())
    expect_nothing_left(pair, keeper.host)


@check
def powers_off() -> None:
    end(lambda pair: pair.guest.ask("poweroff"), "shut down")


@check
def resets_with_no_reboot() -> None:
    end(lambda pair: pair.guest.ask("reboot"), "shut down", extra=("-no-reboot",))


@check
def panics_for_good() -> None:
    """The kernel resets the machine one second after its panic; QEMU ends with that."""
    end(lambda pair: pair.guest.ask("panic"), "shut down", extra=("-no-reboot",))


@check
def user_ends_qemu() -> None:
    end(lambda pair: os.kill(pair.primary.qemu_pid, signal.SIGTERM), "operator")


@check
def powers_off_unprotected() -> None:
    with Pair() as pair:
        pair.standby.ask("Stop", force=True)
        expect(pair.standby.exit_code() == 0, pair.standby.log())
        expect_nothing_left(pair, "hostB")
        pair.primary.wait("alone")
        pair.guest.ask("poweroff")
        expect(pair.primary.exit_code() == 0, pair.primary.log())
        expect_nothing_left(pair, "hostA")


@check
def powers_off_behind_a_cut_link() -> None:
    """The standby holds a state that it must not use, and cannot be told: the primary waits until
    it can."""
    with Pair() as pair:
        pair.lab.cut("hostB")
        pair.standby.wait("lost")
        pair.primary.wait("holding")
        os.kill(pair.primary.qemu_pid, signal.SIGTERM)
        pair.primary.wait("ending")
        expect(pair.standby.status()["state"] == "lost", pair.standby.status())
        pair.lab.heal("hostB")
        expect_end(pair, "operator")


if __name__ == "__main__":
    sys.exit(main())
