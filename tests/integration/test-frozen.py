#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""FROZEN is attacked: by every way in to QEMU, by thawing it, by the death of whoever guards it at
any moment, and by a reboot. What must hold whatever is done: it never runs again where it was, and
nobody starts it again unasked. What reaches disks and network is test-frozen-storage.py's.

usage: test-frozen.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from checks import Skip, chance, check, expect, main, poll, say

# pylint: disable=wrong-import-position
from frozenvm import (HOST, Guarded, cli, counting, debug, digest, expect_discarded,  # noqa: E402
                      expect_ram, expect_refused, expect_still_frozen, freeze,
                      is_qemu_harmless, kill, thaw, tiny_vm)
from lab import Lab, LabError  # noqa: E402
from labfreeze import (COUNTS, MARKER, MARKER_ADDRESS, Instance, LoneDaemon,  # noqa: E402
                       MonitorGone, TinyVm, Tracer, instances, is_alive, is_cgroup_frozen,
                       monitor, remove_cgroups)
from protected import Control  # noqa: E402

REFUSED = (1, 5)  # exit codes of a start
STILL_S = 1.0
POINTS = 4
RENAMES = "rename,renameat,renameat2"


# --- through QEMU's own doors --------------------------------------------------------------------

@check
def orders_to_qemu_are_not_obeyed() -> None:
    """QMP, HMP in QMP, and a human's monitor: sent before they are looked at by anybody."""
    extra = ("-monitor", "unix:hmp,server=on,wait=off")
    with counting("orders", extra=extra) as g:
        qmp = g.monitor()
        with contextlib.closing(unix_socket(g, "hmp")) as hmp:
            instance = freeze(g)
            before = digest(instance)
            for command, arguments in (("cont", {}), ("system_reset", {}), ("cont", {}),
                                       ("human-monitor-command", {"command-line": "cont"})):
                with contextlib.suppress(MonitorGone):
                    qmp.send(command, **arguments)
            with contextlib.suppress(OSError):
                hmp.sendall(b"cont\n")
            time.sleep(STILL_S)
            expect_still_frozen(g, before)
            expect(is_qemu_harmless(instance), "QEMU is awake")
        expect_refused(lambda: g.keeper.ask("Resume"), "frozen")
        expect_refused(lambda: g.keeper.ask("Pause"), "frozen")
        expect_refused(lambda: g.keeper.ask("Promote", force=True), ".")
        expect(cli(g, "resume", g.vm.name).returncode != 0, "resume is not refused")
        expect_still_frozen(g, before)
        expect_discarded(g)


@check
def orders_while_it_is_being_frozen_are_refused() -> None:
    """None is said to have been obeyed, and a signal ends nothing half-way."""
    with counting("refuses") as g:
        with Tracer(g.lab, g.keeper.pid, "-e", f"trace={RENAMES}", "-e",
                    f"inject={RENAMES}:delay_exit=500000"), \
                contextlib.closing(Control(g.keeper.path)) as control:
            control.send("Freeze", reason="a test")
            g.keeper.wait("freezing")
            expect_refused(lambda: g.keeper.ask("Resume"), "being frozen")
            expect_refused(lambda: g.keeper.ask("Stop", force=True), "being frozen")
            g.proc.signal(signal.SIGTERM)
            expect(control.receive(30.0), "no answer")
        expect(g.instance().is_certified() and g.keeper.status()["life"] == "frozen", g.told())


@check
def what_is_released_while_it_is_offloaded_stays_gone() -> None:
    with counting("offloads") as g, contextlib.closing(Control(g.keeper.path)) as control:
        instance = freeze(g)
        with Tracer(g.lab, g.keeper.pid, "-e", "trace=fsync", "-e",
                    "inject=fsync:delay_enter=700000"):
            control.send("Offload")
            poll(lambda: (instance.folder / "ram.new").exists(), "the memory is being copied")
            g.keeper.ask("Release")
            expect(g.exit_code() == 0, g.keeper.log())
        expect(not g.instances() and not g.pids(), (g.instances(), g.pids()))


def unix_socket(g: Guarded, name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    path = g.lab.host_dir(g.host) / name
    poll(path.exists, f"{path}")
    sock.connect(str(path))
    return sock


# --- by waking it --------------------------------------------------------------------------------

def move_out(instance: Instance) -> None:
    top = Path(instance.certificate["cgroup"]).parent
    (top / "cgroup.procs").write_text(str(instance.certificate["qemu"]["pid"]))


def expect_waking_kills(name: str, wake: Callable[[Instance], None]) -> None:
    with counting(name) as g:
        instance = freeze(g)
        before, qemu = digest(instance), instance.certificate["qemu"]["pid"]
        expect(is_alive(qemu), "QEMU was not kept")
        wake(instance)
        poll(lambda: not is_alive(qemu), "QEMU is killed for it")
        g.keeper.wait("frozen-woken")
        expect_still_frozen(g, before)
        expect(g.instance().certificate["awakenings"] >= 1, g.instance().certificate)
        expect(g.instance().certificate["frozen_time_ns"]
               == instance.certificate["frozen_time_ns"], "it has another time")
        expect(g.status()["life"] == "frozen", g.status())
        expect_ram(g.instance(), MARKER, MARKER_ADDRESS)
        expect_discarded(g)


@check
def thawing_kills() -> None:
    expect_waking_kills("thawed", thaw)


@check
def leaving_the_cgroup_kills() -> None:
    expect_waking_kills("moved", move_out)


@check
def thawing_with_orders_pending_lets_nothing_out() -> None:
    """Orders to go on are waiting in QEMU's sockets when it is thawed. Whether it reads them before
    its death decides nothing: it has no way out of here any more."""
    with counting("pending") as g:
        qmp = g.monitor()
        instance = freeze(g)
        qemu = instance.certificate["qemu"]["pid"]
        for _ in range(20):
            with contextlib.suppress(MonitorGone):
                qmp.send("cont")
        thaw(instance)
        poll(lambda: not is_alive(qemu), "QEMU is killed for it")
        g.keeper.wait("frozen-woken")
        expect(g.instance().is_certified() and g.status()["life"] == "frozen", g.status())


@check
def signals_and_debuggers_wake_nothing() -> None:
    with counting("signals") as g:
        instance = freeze(g)
        before, qemu = digest(instance), instance.certificate["qemu"]["pid"]
        for number in (signal.SIGCONT, signal.SIGUSR1, signal.SIGIO, signal.SIGALRM):
            with contextlib.suppress(ProcessLookupError):
                os.kill(qemu, number)
        time.sleep(STILL_S)
        expect(is_qemu_harmless(instance), "QEMU is awake")
        debug(qemu)
        expect(is_qemu_harmless(instance), "QEMU is awake after a debugger")
        expect_still_frozen(g, before)
        with contextlib.suppress(ProcessLookupError):
            os.kill(qemu, signal.SIGTERM)
            os.kill(qemu, signal.SIGKILL)
        poll(lambda: not is_alive(qemu), "QEMU is killed")
        expect_still_frozen(g, before)
        expect_discarded(g)


# --- by killing who guards it --------------------------------------------------------------------

def start_again(g: Guarded, *options: str) -> tuple[int, str]:
    """holdfast run, of the same VM: refused, or None while it runs."""
    proc = g.vm.spawn(g.host, *options)
    try:
        code = proc.wait(20.0)
    except LabError:
        proc.kill()
        return 0, "it runs"
    return code, proc.log_tail()


def expect_start_refused(g: Guarded) -> None:
    code, said = start_again(g)
    expect(code in REFUSED, f"exit code {code}: {said}")
    found = g.instances()
    expect(found and any(i.id in said for i in found), f"it does not say what it finds: {said}")


def expect_fresh_runs(g: Guarded) -> None:
    """A copy of it may run beside what is kept, if that is wanted."""
    kept = {i.id for i in g.instances()}
    with Guarded(g.vm, "--when-frozen", "fresh") as fresh:
        expect(fresh.status()["life"] == "running", fresh.status())
        expect({i.id for i in g.instances()} == kept, g.instances())
        fresh.keeper.ask("Stop", force=True)
        expect(fresh.exit_code() == 0, fresh.keeper.log())
    expect({i.id for i in g.instances()} == kept, g.instances())


@check
def its_keepers_death_ends_qemu_and_keeps_the_rest() -> None:
    with counting("guard") as g:
        instance = freeze(g)
        before, qemu = digest(instance), instance.certificate["qemu"]["pid"]
        kill(g.keeper.pid)
        poll(lambda: not is_alive(qemu), "QEMU dies with its keeper")
        expect_still_frozen(g, before)
        expect_ram(instance, MARKER, MARKER_ADDRESS)
        expect_start_refused(g)
        expect_still_frozen(g, before)


@check
def a_fresh_copy_runs_beside_it() -> None:
    with counting("beside") as g:
        instance = freeze(g)
        before = digest(instance)
        expect_start_refused(g)
        expect_fresh_runs_beside(g)
        expect_still_frozen(g, before)
        expect(is_qemu_harmless(instance), "QEMU is awake")
        expect_discarded(g)


@check
def the_oldest_goes_when_there_are_too_many() -> None:
    """With its guard, its QEMU and its memory."""
    with counting("many") as g:
        oldest = freeze(g).certificate
        with Guarded(g.vm, "--when-frozen", "fresh", "--frozen-keep", "1") as second:
            second.keeper.ask("Freeze")
            second.keeper.wait("retired")
            left = g.instances()
            expect(len(left) == 1 and left[0].id != oldest["id"], left)
            expect(g.exit_code() == 0, g.keeper.log())
            for what in ("keeper", "qemu", "ram_holder"):
                expect(not is_alive(oldest[what]["pid"]), f"{what} of the oldest lives")
            expect_ram(left[0], MARKER, MARKER_ADDRESS)


def expect_fresh_runs_beside(g: Guarded) -> None:
    """While the guard of the frozen one lives."""
    proc = g.vm.spawn(g.host, "--when-frozen", "fresh")
    path = g.lab.host_dir(g.host) / "run" / g.vm.name / "control"
    poll(path.exists, f"the fresh copy runs: {proc.log_tail()}")
    poll(lambda: monitor(g.lab, g.host, g.vm.name).call("query-status")["running"], "it runs")
    with contextlib.closing(Control(path)) as control:
        control.send("Stop", force=True)
        expect(proc.wait(30.0) == 0, proc.log_tail())


@check
def a_reboot_finds_it_frozen() -> None:
    """The run directory and everything that is no file is gone."""
    with counting("reboot") as g:
        instance = freeze(g)
        g.lab.kill_host(g.host)
        g.lab.boot_host(g.host)
        poll(lambda: not g.pids(), "everything is dead")
        expect(g.instance().certificate == instance.certificate, g.instance())
        expect_start_refused(g)
        expect_fresh_runs(g)


@check
def a_reboot_in_its_middle_finds_it_frozen() -> None:
    """The host dies after the latch was written."""
    with counting("halfway") as g:
        with Tracer(g.lab, g.keeper.pid, "-e", f"trace={RENAMES}", "-e",
                    f"inject={RENAMES}:delay_exit=2000000"):
            g.keeper._control.send("Freeze", reason="a test")  # pylint: disable=protected-access
            poll(lambda: g.instances(), "the latch is written")
            g.lab.kill_host(g.host)
        g.lab.boot_host(g.host)
        expect(not g.instance().is_certified(), "it was certified already")
        expect_start_refused(g)
        expect_fresh_runs(g)


class Owned:
    """A VM that the host's daemon runs."""

    def __init__(self, lab: Lab, name: str, **settings: str):
        self.lab = lab
        self.vm = TinyVm(lab, f"{lab.prefix}{name}", mode=COUNTS)
        self.daemon = LoneDaemon(lab, HOST)
        self.daemon.define(self.vm, **settings)
        self.daemon.start()
        self.daemon.call("Start", vm=self.vm.name)
        self.wait_life("running")

    def wait_life(self, life: str) -> None:
        poll(lambda: self.daemon.vm(self.vm.name).get("life") == life,
             f"{self.vm.name} is {life}: {self.daemon.vm(self.vm.name)}", 60.0)

    def keeper_pid(self) -> int:
        return int(self.daemon.vm(self.vm.name)["keeper_pid"])

    def freeze(self) -> Instance:
        path = self.lab.host_dir(HOST) / "run" / self.vm.name / "control"
        with contextlib.closing(Control(path)) as control:
            control.send("Freeze", reason="a test")
            expect(control.receive(60.0), "no answer")
        found = instances(self.lab, HOST, self.vm.name)
        expect(len(found) == 1 and found[0].is_certified(), found)
        return found[0]

    def expect_frozen(self, before: str) -> None:
        """It is kept, the daemon knows, and started it not, though it was asked to run it."""
        found = instances(self.lab, HOST, self.vm.name)
        expect([i.is_certified() for i in found] == [True], found)
        expect(digest(found[0]) == before, "its memory has changed")
        self.wait_life("frozen")
        expect_refused(lambda: self.daemon.call("Start", 30.0, vm=self.vm.name), "frozen")
        expect([i.id for i in instances(self.lab, HOST, self.vm.name)] == [found[0].id], "more")


@check
def the_deaths_of_daemon_and_keeper_start_nothing() -> None:
    """One after the other, and both at once; and a reboot, after which the daemon starts what is to
    run: not this one."""
    with Lab((HOST,)) as lab:
        owned = Owned(lab, "owned")
        try:
            instance = owned.freeze()
            before, qemu = digest(instance), instance.certificate["qemu"]["pid"]
            owned.expect_frozen(before)
            owned.daemon.proc.kill()
            time.sleep(STILL_S)
            expect(is_alive(qemu) and is_cgroup_frozen(instance.certificate["cgroup"]),
                   "the daemon's death has changed something")
            owned.daemon.start()
            owned.expect_frozen(before)
            kill(instance.certificate["keeper"]["pid"])
            poll(lambda: not is_alive(qemu), "QEMU dies with its keeper")
            owned.expect_frozen(before)
            owned.daemon.proc.kill()
            owned.daemon.start()
            owned.expect_frozen(before)
            reboot(lab, owned)
        finally:
            lab.kill_host(HOST)
            remove_cgroups(owned.vm.name)


def reboot(lab: Lab, owned: Owned) -> None:
    lab.kill_host(HOST)
    lab.boot_host(HOST)
    owned.daemon.start()
    owned.wait_life("frozen")
    time.sleep(STILL_S)
    expect_refused(lambda: owned.daemon.call("Start", 30.0, vm=owned.vm.name), "frozen")
    expect(not owned.daemon.vm(owned.vm.name).get("qemu_pid"), owned.daemon.vm(owned.vm.name))


@check
def both_are_killed_while_it_freezes() -> None:
    """What was latched is finished by whoever comes next."""
    with Lab((HOST,)) as lab:
        owned = Owned(lab, "both")
        try:
            pid = owned.keeper_pid()
            path = lab.host_dir(HOST) / "run" / owned.vm.name / "control"
            with Tracer(lab, pid, "-e", f"trace={RENAMES}", "-e",
                        f"inject={RENAMES}:delay_exit=2000000"), \
                    contextlib.closing(Control(path)) as control:
                control.send("Freeze", reason="a test")
                poll(lambda: instances(lab, HOST, owned.vm.name), "the latch is written")
                owned.daemon.proc.kill()
                kill(pid)
            expect(not instances(lab, HOST, owned.vm.name)[0].is_certified(), "too late")
            owned.daemon.start()
            owned.wait_life("frozen")
            expect_refused(lambda: owned.daemon.call("Start", 30.0, vm=owned.vm.name), "frozen")
            poll(lambda: all(i.is_certified() for i in instances(lab, HOST, owned.vm.name)),
                 f"the freeze is brought to its end: {owned.daemon.proc.log_tail()}", 10.0)
        finally:
            lab.kill_host(HOST)
            remove_cgroups(owned.vm.name)


# --- death at each step --------------------------------------------------------------------------

# What a keeper does while it freezes, and about how often one of its threads does it.
CALLS = {
    "fsync": ("fsync,fdatasync", 6), "rename": ("rename,renameat,renameat2", 1),
    "mkdir": ("mkdir,mkdirat", 4), "openat": ("openat", 70), "read": ("read", 80),
    "write": ("write,writev,pwrite64", 16), "message": ("sendmsg,sendto", 8),
    "fork": ("clone,clone3", 5), "wake": ("epoll_wait,epoll_pwait,epoll_pwait2", 45),
}


@check
def it_is_killed_at_each_step() -> None:
    """SIGKILL to the keeper at its first, second, third... call of a kind while it freezes. Few of
    many, other ones each time; all of them in a soak."""
    if not shutil.which("strace"):
        raise Skip("no strace")
    with Lab((HOST,)) as lab:
        jobs = [(kind, at) for kind in CALLS for at in points(kind)]
        chance.shuffle(jobs)
        with ThreadPoolExecutor(3) as pool:
            ends = list(pool.map(lambda job: kill_at(lab, *job), jobs))
    say(f"{len(ends)} deaths: " + ", ".join(
        f"{ends.count(end)} {end}" for end in sorted(set(ends))))
    expect(ends.count("finished") < len(ends), "nothing was ever hit")


def points(kind: str) -> list[int]:
    """Which calls of a kind are hit."""
    most = CALLS[kind][1]
    if os.environ.get("HF_SOAK_MINUTES"):
        return list(range(1, most + 1))
    return sorted({1 + chance.randrange(most) for _ in range(POINTS)})


def kill_at(lab: Lab, kind: str, at: int) -> str:
    """How it ended: "unbegun", "latched", "certified", or "finished" when it was not hit."""
    g = Guarded(tiny_vm(lab, f"{kind}{at}", mode=COUNTS))
    try:
        with Tracer(lab, g.keeper.pid, "-e", f"trace={CALLS[kind][0]}", "-e",
                    f"inject={CALLS[kind][0]}:signal=KILL:when={at}"):
            with contextlib.suppress(LabError, EOFError, OSError):
                g.keeper.ask("Freeze", 30.0, reason=f"{kind} {at}")
            was_hit = not g.proc.is_running() or is_ending(g)
        return judge(g) if was_hit else "finished"
    finally:
        g.close()


def is_ending(g: Guarded) -> bool:
    """A killed process takes a moment."""
    with contextlib.suppress(LabError):
        g.proc.wait(1.0)
    return not g.proc.is_running()


def judge(g: Guarded) -> str:
    """Its keeper is dead. Either nothing was begun, or it never runs again."""
    poll(lambda: not is_alive(g.qemu_pid), "QEMU dies with its keeper")
    found = list((g.lab.host_dir(g.host) / "state" / g.vm.name / "frozen").glob("[!.]*"))
    if not found:
        return "unbegun"
    was_certified = g.instance().is_certified()
    expect_start_refused(g)
    expect(g.instance().is_certified() and not g.instance().bad_checks(),
           f"who came next has not proven it: {g.instance().certificate}")
    return "certified" if was_certified else "latched"


if __name__ == "__main__":
    sys.exit(main())
