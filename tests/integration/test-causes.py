#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can befall a VM, each provoked for real, under each policy: the state that it ends in, the
cause, the events, the exit code of its keeper, and what is kept.

Most guests have no kernel (tests/guest/tiny.S); what takes one has its VMs booted side by side.

usage: test-causes.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator

from checks import Skip, check, expect, main, poll

# pylint: disable=wrong-import-position
from frozenvm import (HOST, Guarded, GuestVm, expect_discarded, expect_frozen,  # noqa: E402
                      expect_frozen_status, expect_ram, guest_vm, tiny_vm)
from lab import Guest, Lab, Proc, tool  # noqa: E402
from labdisk import Disk  # noqa: E402
from labfreeze import (COUNTS, MARKER, MARKER_ADDRESS, PANICS, RESETS, SHUTS_DOWN,  # noqa: E402
                       Tracer, exports, gdb_call, instances, is_alive)
from leased import Leased  # noqa: E402

DONE = ("done",)
HARDER = ("fell-back", "failed", "skipped")
NOT_HAD = ("skipped",)
ORDERLY = {"stop": ("done", "skipped"), "nets": NOT_HAD, "state": DONE, "disks": NOT_HAD,
           "cgroup": DONE, "lease": NOT_HAD}
DEAD = {"stop": NOT_HAD, "state": ("skipped", "failed"), "cgroup": NOT_HAD}
EXIT_DIED, EXIT_LEASE, EXIT_RESTART = 4, 6, 7


@contextlib.contextmanager
def tiny(name: str, *options: str, **more: Any) -> Iterator[Guarded]:
    with Lab((HOST,)) as lab, Guarded(tiny_vm(lab, name, *options, **more)) as g:
        yield g


def is_running(g: Guarded) -> bool:
    m = g.monitor()
    try:
        return bool(m.call("query-status")["running"])
    finally:
        m.close()


def frozen_by(provoke: Callable[[Guarded], Any], cause: str, *options: str,
              steps: dict[str, tuple[str, ...]], is_qemu_kept: bool = True,
              is_state_kept: bool = True, **more: Any) -> None:
    """The default of most causes, from the beginning to the release."""
    with tiny(cause, *options, **more) as g:
        provoke(g)
        event = g.wait_frozen()
        expect(event["cause"] == cause, event)
        instance = expect_frozen(g, cause, is_qemu_kept, is_state_kept, steps)
        expect_ram(instance, MARKER, MARKER_ADDRESS)
        expect_frozen_status(g, cause)
        expect_discarded(g)
        g.expect_told_in_order("frozen", "released")


# --- the guest's panic ---------------------------------------------------------------------------

def panic(g: Guarded) -> None:
    g.vm.nmi(g.host)


@check
def a_panic_freezes() -> None:
    frozen_by(panic, "guest-panic", steps=ORDERLY)


@check
def a_panic_at_once_freezes() -> None:
    """Before anybody can have looked."""
    frozen_by(lambda g: None, "guest-panic", steps=ORDERLY, mode=PANICS)


@check
def a_panic_leaves() -> None:
    with tiny("leaves", "--on-panic", "leave", extra=("-action", "panic=pause")) as g:
        panic(g)
        g.wait_life("paused")
        status = g.status()
        expect((status["cause"], status["pause"]) == ("guest-panic", "fault"), status)
        expect(not is_running(g) and not g.instances(), "it runs, or was frozen")
        g.keeper.ask("Freeze")
        expect_frozen(g, status["cause"] if g.instance().certificate["cause"] != "order"
                      else "order", steps={"stop": ("done", "skipped")},
                      severity=g.instance().certificate["severity"])
        expect_discarded(g)


@check
def a_panic_is_left_to_qemu() -> None:
    """Which ends by default."""
    with tiny("lefttoqemu", "--on-panic", "leave") as g:
        panic(g)
        expect(g.exit_code() == EXIT_DIED, f"exit {g.proc.popen.returncode}: {g.keeper.log()}")
        expect(not g.instances() and not is_alive(g.qemu_pid), "something is left of it")


@check
def a_panic_boots_anew() -> None:
    """In the same QEMU; and more often than is good for it, it has failed."""
    with tiny("anew", "--on-panic", "restart", "--restarts", "2") as g:
        for _ in range(2):
            monitor = g.monitor()
            monitor.call("inject-nmi")
            monitor.wait_event("GUEST_PANICKED")
            monitor.wait_event("RESET")
            monitor.wait_event("RESUME")
            monitor.close()
            g.wait_life("running")
            expect(is_alive(g.qemu_pid) and g.status()["qemu_pid"] == g.qemu_pid, g.status())
        panic(g)
        g.keeper.wait("vm-failed")
        expect(not g.instances(), g.instances())


@check
def a_panic_ends_here() -> None:
    with tiny("elsewhere", "--on-panic", "failover") as g:
        panic(g)
        expect(g.exit_code() == EXIT_DIED, g.keeper.log())
        expect(not g.instances() and not is_alive(g.qemu_pid), "something is left of it")
        last = g.keeper.events[-1] if g.told() else {}
        expect((last.get("event"), last.get("cause")) == ("ended", "guest-panic"), last)


# --- QEMU's death --------------------------------------------------------------------------------

def kill_qemu(number: int) -> Callable[[Guarded], None]:
    return lambda g: os.kill(g.qemu_pid, number)


@check
def a_killed_qemu_freezes() -> None:
    """Its memory is there, though it is not."""
    frozen_by(kill_qemu(signal.SIGKILL), "qemu-killed", "--on-killed", "freeze", steps=DEAD,
              is_qemu_kept=False, is_state_kept=False)


@check
def an_aborted_qemu_freezes() -> None:
    frozen_by(kill_qemu(signal.SIGABRT), "qemu-aborted", steps=DEAD, is_qemu_kept=False,
              is_state_kept=False)


@check
def a_crashed_qemu_freezes() -> None:
    frozen_by(kill_qemu(signal.SIGSEGV), "qemu-aborted", steps=DEAD, is_qemu_kept=False,
              is_state_kept=False)


def killed_under(policy: str, code: int, is_restart: bool) -> None:
    with tiny(policy, "--on-killed", policy) as g:
        kill_qemu(signal.SIGKILL)(g)
        expect(g.exit_code() == code, f"exit code {g.proc.popen.returncode}: {g.keeper.log()}")
        expect(not g.instances(), g.instances())
        g.told()
        last = g.keeper.events[-1]
        expect((last["event"], last["cause"], last["code"]) == ("ended", "qemu-killed", code), last)
        expect(bool(last["restart"]) == is_restart, last)


@check
def a_killed_qemu_is_to_be_started_again() -> None:
    killed_under("restart", EXIT_RESTART, True)


@check
def a_killed_qemu_goes_on_elsewhere() -> None:
    killed_under("failover", EXIT_DIED, False)


@check
def a_killed_qemu_is_left() -> None:
    killed_under("leave", EXIT_DIED, False)


# --- hangs ---------------------------------------------------------------------------------------

HANG = ("--hang-timeout", "1s")


@check
def a_stopped_qemu_freezes() -> None:
    """It answers nothing, so nothing is orderly; the cgroup stops it, whatever it is doing."""
    frozen_by(kill_qemu(signal.SIGSTOP), "hang", *HANG, mode=COUNTS, is_state_kept=False,
              steps={"stop": HARDER, "state": HARDER, "cgroup": DONE})


@check
def a_stuck_main_loop_freezes() -> None:
    """QEMU's main thread hangs in a system call, while the guest runs on."""
    if not shutil.which("strace"):
        raise Skip("no strace")
    with tiny("stuck", *HANG, mode=COUNTS) as g:
        with Tracer(g.lab, g.qemu_pid, "-e", "trace=ppoll", "-e",
                    "inject=ppoll:delay_enter=60000000", is_following=False):
            g.wait_frozen()
            instance = g.instance()
            expect(instance.is_certified() and not instance.bad_checks(), instance.certificate)
            expect(instance.certificate["cause"] == "hang", instance.certificate["cause"])
            expect(instance.step("stop") in HARDER, instance.steps())
        expect_ram(instance, MARKER, MARKER_ADDRESS)
        expect_discarded(g)


@check
def a_short_silence_is_no_hang() -> None:
    with tiny("silent", "--hang-timeout", "20s") as g:
        os.kill(g.qemu_pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(g.qemu_pid, signal.SIGCONT)
        poll(lambda: is_running(g), "it runs on")
        expect(g.status()["life"] == "running" and not g.instances(), g.status())


# --- what QEMU itself cannot go on with ----------------------------------------------------------

INTERNAL_ERROR = 2  # RunState of qapi/run-state.json


@check
def an_internal_error_freezes() -> None:
    """No guest can bring one about without KVM, so a debugger has QEMU ask for it as a vCPU's
    thread does when KVM gives up."""
    if not shutil.which("gdb"):
        raise Skip("no gdb")

    def fail(g: Guarded) -> None:
        program = Path(os.readlink(f"/proc/{g.qemu_pid}/exe"))
        if not exports(program, "qemu_system_vmstop_request"):
            raise Skip(f"{program} does not say where its functions are")
        said = gdb_call(g.qemu_pid, f"call (void)qemu_system_vmstop_request({INTERNAL_ERROR})")
        expect("detached" in said, said)

    frozen_by(fail, "internal-error", steps={"state": DONE, "cgroup": DONE})


# --- orders, and what is no fault ----------------------------------------------------------------

@check
def an_order_freezes() -> None:
    with tiny("order", mode=COUNTS) as g:
        reply = g.keeper.ask("Freeze", reason="DIMM 3 is failing", severity="recoverable",
                             topology="memory controller 1, DIMM 3")
        event = g.wait_frozen()
        expect(reply["id"] == event["id"], (reply, event))
        instance = expect_frozen(g, "order", steps=ORDERLY, severity="recoverable")
        c = instance.certificate
        expect("DIMM 3 is failing" in c["cause_text"], c["cause_text"])
        expect(c["topology"] == "memory controller 1, DIMM 3", c["topology"])
        expect(reply["certificate"]["frozen_time_ns"] == c["frozen_time_ns"], reply)
        expect_discarded(g)


@check
def an_order_kills_and_freezes() -> None:
    with tiny("kill") as g:
        g.keeper.ask("Freeze", kill=True)
        expect_frozen(g, "order", is_qemu_kept=False,
                      is_state_kept=g.instance().certificate["device_state"] == "file",
                      severity=g.instance().certificate["severity"])
        expect_discarded(g)


def ends_in_order(g: Guarded, *causes: str) -> None:
    expect(g.exit_code() == 0, f"exit code {g.proc.popen.returncode}: {g.keeper.log()}")
    expect(not g.instances(), g.instances())
    g.told()
    last = g.keeper.events[-1]
    expect(last["event"] == "ended" and last["code"] == 0 and last["cause"] in causes, last)
    expect(not g.pids(), f"processes are left: {g.pids()}")


@check
def a_shutdown_is_no_fault() -> None:
    with tiny("shutdown", mode=SHUTS_DOWN) as g:
        g.vm.nmi(g.host)
        ends_in_order(g, "guest-shutdown")


@check
def a_reset_is_no_fault() -> None:
    with tiny("reset", mode=RESETS) as g:
        for _ in range(6):
            monitor = g.monitor()
            monitor.call("inject-nmi")
            monitor.wait_event("RESET")
            monitor.close()
        expect(is_running(g) and g.status()["life"] == "running", g.status())
        expect(g.proc.is_running() and not g.instances(), g.keeper.log())


@check
def an_operator_stops_it() -> None:
    with tiny("stop") as g:
        g.keeper.ask("Stop", force=True)
        ends_in_order(g, "order")


@check
def its_user_stops_and_continues_it() -> None:
    """By QEMU's own monitor: a pause, and no fault."""
    with tiny("paused") as g:
        monitor = g.monitor()
        monitor.call("stop")
        g.wait_life("paused")
        expect(g.status()["pause"] == "user", g.status())
        monitor.call("cont")
        g.wait_life("running")
        monitor.close()
        g.keeper.ask("Pause")
        g.wait_life("paused")
        expect(not is_running(g), "it runs")
        g.keeper.ask("Resume")
        g.wait_life("running")
        expect(is_running(g), "it does not run")


# --- real guests ---------------------------------------------------------------------------------

FAILS = "fails"  # file whose being there lets requests fail


class Fleet:
    """Real guests that boot side by side, each for one check."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.guarded: list[Guarded] = []

    def start(self, vms: list[GuestVm]) -> list[tuple[Guarded, Guest]]:
        with ThreadPoolExecutor(len(vms)) as pool:
            self.guarded = list(pool.map(Guarded, vms))
        guests = [Guest(self.lab, vm.addr) for vm in vms]
        for guest in guests:
            guest.wait_up(120.0)
        return list(zip(self.guarded, guests))


@contextlib.contextmanager
def fleet(lab: Lab, *vms: GuestVm) -> Iterator[list[tuple[Guarded, Guest]]]:
    them = Fleet(lab)
    try:
        pairs = them.start(list(vms))
        yield pairs
    finally:
        for g in them.guarded:
            g.close()


PVPANIC = ("-device", "pvpanic")


@check
def real_guests_panic_hang_and_end() -> None:
    """sysrq's crash, over pvpanic; a guest that feeds its watchdog no more: nothing in it gets
    to run; and one that boots anew, then switches itself off."""
    with Lab((HOST,)) as lab:
        vms = (guest_vm(lab, f"{lab.prefix}panic", 0, extra=PVPANIC),
               guest_vm(lab, f"{lab.prefix}hang", 1, extra=("-device", "i6300esb")),
               guest_vm(lab, f"{lab.prefix}left", 2,
                        extra=("-device", "i6300esb", "-action", "watchdog=pause"),
                        options=("--on-watchdog", "leave")),
               guest_vm(lab, f"{lab.prefix}end", 3, extra=PVPANIC))
        with fleet(lab, *vms) as ((panics, panics_guest), (hangs, hangs_guest),
                                  (left, left_guest), (ends, ends_guest)):
            panics_guest.ask("marker causes")
            panics_guest.ask("panic")
            for guest in (hangs_guest, left_guest):
                guest.ask("watchdog 1000")
                guest.ask("hang")
            boot = ends_guest.stat()["boot"]
            ends_guest.ask("reboot")
            expect_real_panic(panics)
            expect_real_hang(hangs, left)
            poll(lambda: new_boot(ends_guest) not in (0, boot), "it has booted anew", 90)
            expect(ends.status()["life"] == "running", ends.status())
            ends_guest.ask("poweroff")
            ends_in_order(ends, "guest-shutdown")


def new_boot(guest: Guest) -> int:
    with contextlib.suppress(Exception):
        return int(guest.ask("stat", timeout_s=1)["boot"])
    return 0


def expect_real_panic(g: Guarded) -> None:
    g.wait_frozen()
    instance = expect_frozen(g, "guest-panic", steps={"stop": DONE, "nets": DONE, "state": DONE,
                                                      "disks": NOT_HAD, "cgroup": DONE})
    found = b"HOLDFAST-MARKER:causes" in ram_bytes(instance)
    expect(found, "the guest's marker is not in its memory")
    expect_discarded(g)


def ram_bytes(instance: Any) -> bytes:
    c = instance.certificate
    return Path(f"/proc/{c['ram_holder']['pid']}/fd/{c['ram_fd']}").read_bytes()


def expect_real_hang(frozen: Guarded, left: Guarded) -> None:
    frozen.wait_frozen(120.0)
    expect_frozen(frozen, "watchdog", steps={"stop": DONE, "state": DONE, "cgroup": DONE})
    expect_discarded(frozen)
    status = left.wait_life("paused", 120.0)
    expect((status["cause"], status["pause"]) == ("watchdog", "fault"), status)
    expect(not left.instances(), left.instances())


# --- disks that fail -----------------------------------------------------------------------------

class FailingDisk(Disk):
    """An NBD export whose requests fail while fail() says so."""

    def export(self, host: str, error: str) -> Proc:
        folder = self.lab.host_dir(host)
        backing = folder / f"{self.name}.raw"
        with open(backing, "wb") as f:
            f.truncate(self.mib << 20)
        place = f"{self.lab.self_dir}/{self.name}"
        proc = self.lab.spawn(host, [
            "nbdkit", "-f", "-U", f"{place}.sock", "--filter=error", "file", f"{place}.raw",
            f"error={error}", "error-rate=100%", f"error-file={place}.{FAILS}"],
            name=f"{self.name}-nbdkit")
        poll((folder / f"{self.name}.sock").exists, "nbdkit")
        self.location = f"nbd+unix:///?socket={place}.sock"
        return proc

    def fail(self, host: str, is_failing: bool) -> None:
        trigger = self.lab.host_dir(host) / f"{self.name}.{FAILS}"
        if is_failing:
            trigger.touch()
        else:
            trigger.unlink(missing_ok=True)


WERROR = "werror=stop,rerror=stop"


def disk_vm(lab: Lab, number: int, name: str, error: str, *options: str) -> \
        tuple[GuestVm, FailingDisk]:
    disk = FailingDisk(lab, f"d{number}", mib=16, drive_options=WERROR)
    disk.export(HOST, error)
    return guest_vm(lab, f"{lab.prefix}{name}", number, extra=disk.argv(), options=options), disk


@check
def disks_fail() -> None:
    """EIO and ENOSPC under werror=stop, of a disk that QEMU opens itself and of one that it
    reaches through the disk process. Nobody else can go on, so by default it waits."""
    with Lab((HOST,)) as lab:
        own, own_disk = disk_vm(lab, 0, "own", "EIO", "--unprotected", "d0")
        full, full_disk = disk_vm(lab, 1, "full", "ENOSPC")
        gone, gone_disk = disk_vm(lab, 2, "gone", "EIO", "--on-io-error", "freeze")
        both, both_disk = disk_vm(lab, 3, "both", "ENOSPC", "--on-io-error", "freeze",
                                  "--unprotected", "d3")
        disks = (own_disk, full_disk, gone_disk, both_disk)
        with fleet(lab, own, full, gone, both) as guests:
            for _, guest in guests:
                guest.ask("raw vda 8 4 50")
            for (_, guest), disk in zip(guests, disks):
                poll(lambda: guest.stat()["raw"] > 10, "the guest writes")
                disk.fail(HOST, True)
            for (g, guest), disk in zip(guests[:2], disks):
                expect_waits(g, guest, disk)
            expect_disk_frozen(guests[2][0], gone_disk, has_disk_process=True)
            expect_disk_frozen(guests[3][0], both_disk, has_disk_process=False)


def expect_waits(g: Guarded, guest: Guest, disk: FailingDisk) -> None:
    """auto, without a standby: paused until somebody has mended the disk and says so."""
    status = g.wait_life("paused", 60.0)
    expect((status["cause"], status["pause"]) == ("io-error", "fault"), status)
    expect(not g.instances(), g.instances())
    disk.fail(HOST, False)
    g.keeper.ask("Resume")
    g.wait_life("running")
    before = guest.stat()["raw"]
    poll(lambda: guest.stat()["raw"] > before, "the guest writes on")
    expect(guest.stat()["io_errors"] == 0, guest.stat())


def expect_disk_frozen(g: Guarded, disk: FailingDisk, has_disk_process: bool) -> None:
    g.wait_frozen()
    c = g.instance().certificate
    expect((c["cause"], c["qemu_fate"] in ("process", "none")) == ("io-error", True), c)
    expect(disk.name in c["topology"] + c["cause_text"], (c["topology"], c["cause_text"]))
    expect(bool(c["disks"]["pid"]) == has_disk_process, c["disks"])
    expect_frozen(g, "io-error", is_qemu_kept=c["qemu_fate"] == "process",
                  is_state_kept=c["device_state"] == "file", severity=c["severity"])
    expect_discarded(g)


# --- the lease -----------------------------------------------------------------------------------

class Freezing(Leased):
    """Under the other policy than the default."""

    def argv(self, *options: str) -> list[str]:
        return super().argv("--on-lease-lost", "freeze", *options)


def lose_lease(leased: Leased) -> None:
    """The host is cut off, its lease runs out, the VM stands still; another host takes it. When the
    host is back it learns that the VM is not its own any more."""
    keeper = leased.keeper
    leased.lab.cut("hostA")
    poll(lambda: keeper.status()["guest"] == "stopped", "it stands still without a lease", 60)
    expect(keeper.status()["pause"] == "lease", keeper.status())
    expect(take_lease(leased) == 0, "hostB cannot have the lease")
    leased.lab.heal("hostA")


@check
def a_lost_lease_freezes() -> None:
    with Freezing(serial="null") as leased:
        lose_lease(leased)
        leased.keeper.wait("frozen", timeout_s=120.0)
        found = instances(leased.lab, "hostA", leased.vm.name)
        expect(len(found) == 1 and found[0].is_certified(), found)
        c = found[0].certificate
        expect(c["cause"] == "lease-lost" and not found[0].bad_checks(), c)
        expect(c["lease"] != "held", c["lease"])


@check
def a_lost_lease_ends_it() -> None:
    """By default: it goes on elsewhere, and no fault of its own is to be looked into."""
    with Leased(serial="null") as leased:
        lose_lease(leased)
        expect(leased.keeper.exit_code(120.0) == EXIT_LEASE, leased.keeper.log())
        expect(not instances(leased.lab, "hostA", leased.vm.name), "it was frozen")
        expect(leased.keeper.seen("ended"), leased.keeper.events[-1])
        expect(leased.keeper.events[-1]["cause"] == "lease-lost", leased.keeper.events[-1])


def take_lease(leased: Leased) -> int:
    """By the other host, once that is allowed; it keeps it."""
    other = leased.daemons["hostB"]
    holder = leased.lab.spawn("hostB", [
        tool("src/cli/holdfast"), "lease", "acquire", leased.vm.name, "--wait", "120", "--run-dir",
        other.run_dir, "--", "sh", "-c", "touch owned; sleep 1000"], name="taker")
    poll((leased.lab.host_dir("hostB") / "owned").exists, "hostB owns the lease", 150)
    return 0 if holder.is_running() else holder.wait()


if __name__ == "__main__":
    sys.exit(main())
