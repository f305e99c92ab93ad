#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""FROZEN is attacked: by every way in to QEMU, by thawing it, by the death of whoever guards it at
any moment, by storage that fails, fills or hangs, and by a reboot. What must hold whatever is done:
it never runs again where it was, nothing that it did reaches a disk or the network after the
certificate's time, and nobody starts it again unasked.

usage: test-frozen.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from checks import Skip, chance, check, expect, main, poll, say

# pylint: disable=wrong-import-position
from frozenvm import (HOST, Guarded, GuestVm, cli, expect_discarded, expect_frozen,  # noqa: E402
                      expect_ram, expect_refused, guest_vm, ram_path, tiny_vm)
from lab import Guest, Lab, LabError  # noqa: E402
from labdisk import Disk  # noqa: E402
from labfreeze import (COUNTS, MARKER, MARKER_ADDRESS, Instance, LoneDaemon,  # noqa: E402
                       MonitorGone, TinyVm, Tracer, Watcher, instances, is_alive,
                       is_cgroup_frozen, monitor, remove_cgroups)
from protected import Control  # noqa: E402

REFUSED = (1, 5)  # exit codes of a start
STILL_S = 1.0


@contextlib.contextmanager
def tiny(name: str, *options: str, **more: Any) -> Iterator[Guarded]:
    """One that counts in its memory: its content tells whether it runs."""
    more.setdefault("mode", COUNTS)
    with Lab((HOST,)) as lab, Guarded(tiny_vm(lab, name, *options, **more)) as g:
        yield g


def freeze(g: Guarded) -> Instance:
    g.keeper.ask("Freeze", 60.0, reason="a test")
    g.wait_frozen()
    return g.instance()


def digest(instance: Instance) -> str:
    """Of its memory."""
    return hashlib.sha256(ram_path(instance).read_bytes()).hexdigest()


def expect_still_frozen(g: Guarded, before: str) -> None:
    """It is kept, and has not run since."""
    instance = g.instance()
    expect(instance.is_certified(), instance.certificate)
    expect(digest(instance) == before, "its memory has changed")


def is_qemu_harmless(instance: Instance) -> bool:
    c = instance.certificate
    pid = c["qemu"]["pid"]
    return not is_alive(pid) or (is_cgroup_frozen(c["cgroup"])
                                 and f"0::{cgroup_of(c['cgroup'])}" in cgroups_of(pid))


def cgroup_of(path: str) -> str:
    """As /proc names it."""
    return "/" + path.split("/sys/fs/cgroup/", 1)[1].split("unified/", 1)[-1]


def cgroups_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


# --- through QEMU's own doors --------------------------------------------------------------------

@check
def orders_to_qemu_are_not_obeyed() -> None:
    """QMP, HMP in QMP, and a human's monitor: sent before they are looked at by anybody."""
    extra = ("-monitor", "unix:hmp,server=on,wait=off")
    with tiny("orders", extra=extra) as g:
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


def unix_socket(g: Guarded, name: str) -> Any:
    import socket  # pylint: disable=import-outside-toplevel
    sock = socket.socket(socket.AF_UNIX)
    path = g.lab.host_dir(g.host) / name
    poll(path.exists, f"{path}")
    sock.connect(str(path))
    return sock


# --- by waking it --------------------------------------------------------------------------------

def thaw(instance: Instance) -> None:
    (Path(instance.certificate["cgroup"]) / "cgroup.freeze").write_text("0")


def move_out(instance: Instance) -> None:
    top = Path(instance.certificate["cgroup"]).parent
    (top / "cgroup.procs").write_text(str(instance.certificate["qemu"]["pid"]))


def expect_waking_kills(name: str, wake: Callable[[Instance], None]) -> None:
    with tiny(name) as g:
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
    with tiny("pending") as g:
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
    with tiny("signals") as g:
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


def debug(pid: int) -> None:
    """gdb attaches, and would have it run on."""
    if not shutil.which("gdb"):
        say("no gdb")
        return
    gdb = subprocess.Popen(["gdb", "-nx", "-batch", "-p", str(pid), "-ex", "continue"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    try:
        gdb.wait(5.0)
    except subprocess.TimeoutExpired:
        gdb.kill()
        gdb.wait()


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


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@check
def its_keepers_death_ends_qemu_and_keeps_the_rest() -> None:
    with tiny("guard") as g:
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
    with tiny("beside") as g:
        instance = freeze(g)
        before = digest(instance)
        expect_start_refused(g)
        expect_fresh_runs_beside(g)
        expect_still_frozen(g, before)
        expect(is_qemu_harmless(instance), "QEMU is awake")
        expect_discarded(g)


def expect_fresh_runs_beside(g: Guarded) -> None:
    """While the guard of the frozen one lives."""
    proc = g.vm.spawn(g.host, "--when-frozen", "fresh")
    path = g.lab.host_dir(g.host) / "run" / g.vm.name / "control"
    poll(path.exists, f"the fresh copy runs: {proc.log_tail()}")
    poll(lambda: monitor(g.lab, g.host, g.vm.name).call("query-status")["running"], "it runs")
    proc.signal(signal.SIGTERM)
    expect(proc.wait(30.0) == 0, proc.log_tail())


@check
def a_reboot_finds_it_frozen() -> None:
    """The run directory and everything that is no file is gone."""
    with tiny("reboot") as g:
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
    with tiny("halfway") as g:
        with Tracer(g.lab, g.keeper.pid, "-e", "trace=renameat2,renameat,rename", "-e",
                    "inject=renameat2,renameat,rename:delay_exit=2000000"):
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
            with Tracer(lab, pid, "-e", "trace=fsync,fdatasync", "-e",
                        "inject=fsync,fdatasync:signal=KILL:when=3"), \
                    contextlib.closing(Control(path)) as control, contextlib.suppress(EOFError):
                owned.daemon.proc.signal(signal.SIGSTOP)
                control.send("Freeze", reason="a test")
                control.receive(30.0)
            owned.daemon.proc.kill()
            folder = lab.host_dir(HOST) / "state" / owned.vm.name / "frozen"
            expect(list(folder.glob("*/certificate.json")), "nothing was latched")
            owned.daemon.start()
            poll(lambda: all(i.is_certified() for i in instances(lab, HOST, owned.vm.name)),
                 "the freeze is brought to its end", 60.0)
            owned.wait_life("frozen")
        finally:
            lab.kill_host(HOST)
            remove_cgroups(owned.vm.name)


# --- death at each step --------------------------------------------------------------------------

CALLS = {
    "fsync": "fsync,fdatasync", "rename": "rename,renameat,renameat2",
    "openat": "openat,mkdir,mkdirat", "write": "write,writev,pwrite64",
    "message": "sendmsg,sendto", "signal": "kill,pidfd_send_signal,tgkill", "wait": "waitid,wait4",
    "fork": "clone,clone3,fork,vfork", "wake": "epoll_wait,epoll_pwait,epoll_pwait2",
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
    if os.environ.get("HF_SOAK_MINUTES"):
        return list(range(1, 41))
    first = 1 if kind in ("fsync", "rename") else 2
    return sorted({first, chance.randrange(1, 6), chance.randrange(1, 25)})


def kill_at(lab: Lab, kind: str, at: int) -> str:
    """What had become of it: "unfrozen", "latched", "frozen", or "finished" when it was not hit."""
    g = Guarded(tiny_vm(lab, f"{kind}{at}", mode=COUNTS))
    try:
        with Tracer(lab, g.keeper.pid, "-e", f"trace={CALLS[kind]}", "-e",
                    f"inject={CALLS[kind]}:signal=KILL:when={at}"):
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
    found = list((g.lab.host_dir(g.host) / "state" / g.vm.name / "frozen").glob("*"))
    if not found:
        return "unfrozen"
    expect_start_refused(g)
    return "frozen" if all(i.is_certified() for i in g.instances()) else "latched"


# --- storage that fails --------------------------------------------------------------------------

@contextlib.contextmanager
def small_state(lab: Lab, kib: int, *options: str) -> Iterator[Path]:
    """A state directory of its own file system, seen by what is started from here on."""
    path = lab.work / "smallstate"
    path.mkdir()
    mount(["-t", "tmpfs", "-o", ",".join((f"size={kib}k", *options)), "tmpfs", str(path)])
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def mount(argv: Sequence[str]) -> None:
    subprocess.run(["mount", *argv], check=True)


class ElsewhereVm(TinyVm):
    """With another state directory."""
    folder = ""

    @property
    def state_dir(self) -> str:
        return self.folder


def tiny_elsewhere(lab: Lab, name: str, folder: Path) -> ElsewhereVm:
    vm = ElsewhereVm(lab, f"{lab.prefix}{name}", mode=COUNTS, options=("--lease", "no"))
    vm.folder = str(folder)
    return vm


def certified_in(folder: Path, vm: str) -> bool:
    return any('"frozen"' in path.read_text()
               for path in folder.glob(f"{vm}/frozen/*/certificate.json"))


def storage_fails(name: str, spoil: Callable[[Path], None], mend: Callable[[Path], None]) -> None:
    """Nothing can be written: then there is no latch, so QEMU must die; and no certificate, so no
    event, until it can be written."""
    with Lab((HOST,)) as lab, small_state(lab, 1024) as folder:
        with Guarded(tiny_elsewhere(lab, name, folder)) as g:
            spoil(folder)
            g.keeper._control.send("Freeze", reason="a test")  # pylint: disable=protected-access
            poll(lambda: not is_alive(g.qemu_pid), "QEMU dies, since nothing can be written")
            time.sleep(STILL_S)
            expect(not g.keeper.seen("frozen") and not certified_in(folder, g.vm.name),
                   "it was told frozen without a certificate")
            mend(folder)
            g.keeper.wait("frozen", timeout_s=60.0)
            expect(certified_in(folder, g.vm.name), "there is no certificate")


def fill(folder: Path) -> None:
    with open(folder / "filler", "wb") as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(4096))
            f.flush()


@check
def a_full_disk_delays_the_certificate() -> None:
    storage_fails("full", fill, lambda folder: (folder / "filler").unlink())


@check
def a_read_only_disk_delays_the_certificate() -> None:
    storage_fails("readonly", lambda folder: mount(["-o", "remount,ro", str(folder)]),
                  lambda folder: mount(["-o", "remount,rw", str(folder)]))


@check
def a_small_disk_takes_the_certificate_without_the_state() -> None:
    """The latch fits in 64 KiB, the device state does not: that is lost, nothing else."""
    with Lab((HOST,)) as lab, small_state(lab, 64) as folder:
        with Guarded(tiny_elsewhere(lab, "small", folder)) as g:
            g.keeper.ask("Freeze", 60.0, reason="a test")
            g.keeper.wait("frozen")
            expect(certified_in(folder, g.vm.name), "there is no certificate")
            poll(lambda: g.status()["life"] == "frozen", g.status())


# --- a real guest, with all that it can reach ----------------------------------------------------

class Victim:
    """A real guest that writes to its disk and answers a client all the time, and who watches."""

    def __init__(self, lab: Lab, name: str = "victim", image: str = "", **options: Any):
        self.lab = lab
        self.disk = Disk(lab, "d0", mib=16, location=image)
        if not image:
            self.disk.make(HOST)
        self.vm: GuestVm = guest_vm(lab, f"{lab.prefix}{name}", 0, extra=self.disk.argv(),
                                    **options)
        self.g = Guarded(self.vm)
        self.guest = Guest(lab, self.vm.addr)
        self.guest.wait_up()
        self.guest.ask("raw vda 8 4 200")
        self.client = lab.client("ping", self.vm.addr, "--interval", "5000")
        self.watcher = Watcher(lab, HOST, [self.vm.mac],
                               [] if image else [self.disk.path(HOST)])
        poll(lambda: self.watcher.frame_count() > 50, "the guest answers")
        poll(lambda: self.guest.stat()["raw"] > 50, "the guest writes")

    def close(self) -> None:
        self.watcher.close()
        self.guest.close()
        self.client.kill()
        self.g.close()

    def expect_still(self) -> None:
        self.watcher.expect_still(self.g.instance().certificate["frozen_time_ns"])


@contextlib.contextmanager
def victim(**options: Any) -> Iterator[Victim]:
    with Lab((HOST,)) as lab:
        v = Victim(lab, **options)
        try:
            yield v
        except BaseException:
            say(v.g.keeper.log()[-3000:])
            raise
        finally:
            v.close()


@check
def nothing_changes_after_the_certificates_time() -> None:
    """Neither when it is frozen, nor when it is attacked afterwards, one way after the other."""
    with victim() as v:
        qmp = v.g.monitor()
        instance = freeze(v.g)
        expect_frozen(v.g, "order", severity=instance.certificate["severity"],
                      steps={"nets": ("done",), "disks": ("done",), "cgroup": ("done",)})
        qemu = instance.certificate["qemu"]["pid"]
        attacks: list[Callable[[], Any]] = [
            lambda: None, lambda: qmp.send("cont"), lambda: os.kill(qemu, signal.SIGCONT),
            lambda: debug(qemu), lambda: qmp.send("system_reset"), lambda: thaw(instance),
            lambda: kill(v.g.keeper.pid)]
        for attack in attacks:
            with contextlib.suppress(MonitorGone, ProcessLookupError):
                attack()
            time.sleep(0.3)
            v.expect_still()
        poll(lambda: not is_alive(qemu), "QEMU is dead in the end")
        v.expect_still()


@check
def nothing_changes_after_a_hard_freeze() -> None:
    """QEMU does not answer, while its guest is at work."""
    with victim(options=("--hang-timeout", "1s")) as v:
        with Tracer(v.lab, v.g.qemu_pid, "-e", "trace=ppoll", "-e",
                    "inject=ppoll:delay_enter=60000000", is_following=False):
            v.g.wait_frozen()
            time.sleep(STILL_S)
            v.expect_still()
        time.sleep(STILL_S)
        v.expect_still()


# --- what cannot be killed -----------------------------------------------------------------------

@contextlib.contextmanager
def file_system(lab: Lab) -> Iterator[Path]:
    """One that can be suspended: who writes to it then waits in the kernel, and no signal helps."""
    image, place = lab.work / "fs.img", lab.work / "fs"
    place.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=False).returncode:
        raise Skip("no loop device can be had")
    try:
        yield place
    finally:
        suspend(place, False)
        subprocess.run(["umount", "-l", str(place)], check=True)


def suspend(place: Path, is_suspended: bool) -> None:
    subprocess.run(["fsfreeze", "-f" if is_suspended else "-u", str(place)],
                   check=is_suspended, stderr=subprocess.DEVNULL)


def is_in_kernel(pid: int) -> bool:
    """Does one of its threads wait there for longer than a disk takes, deaf to signals?"""
    def waiting() -> set[str]:
        return {path.parent.name for path in Path(f"/proc/{pid}/task").glob("*/stat")
                if letter(path) == "D"}

    found = waiting()
    for _ in range(10):
        time.sleep(0.03)
        found &= waiting()
    return bool(found)


def letter(path: Path) -> str:
    try:
        return path.read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


@check
def what_cannot_be_killed_is_never_certified() -> None:
    """The disk process hangs in the kernel: no event and no certificate, until it is dead."""
    with Lab((HOST,)) as lab, file_system(lab) as place:
        image = place / "d0.raw"
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        v = Victim(lab, "stuck", image=str(image))
        try:
            attack_storage(v, place)
        finally:
            suspend(place, False)
            v.close()


def attack_storage(v: Victim, place: Path) -> None:
    disks = int(v.g.status()["disks"]["pid"])
    suspend(place, True)
    poll(lambda: is_in_kernel(disks), "the disk process hangs in the kernel")
    v.g.keeper._control.send("Freeze", reason="a test")  # pylint: disable=protected-access
    v.g.keeper.wait("freeze-stuck", timeout_s=60.0)
    time.sleep(STILL_S)
    expect(not v.g.keeper.seen("frozen"), "told frozen while a process of it may write")
    expect(not any(i.is_certified() for i in v.g.instances()), v.g.instances())
    suspend(place, False)
    v.g.wait_frozen()
    expect(not v.g.instance().bad_checks() and not is_alive(disks), v.g.instance())
    time.sleep(STILL_S)
    expect(os.stat(place / "d0.raw").st_mtime_ns
           <= v.g.instance().certificate["frozen_time_ns"], "the image has changed afterwards")
    v.expect_still()


@check
def hung_storage_is_left_behind() -> None:
    """Its server does not answer: the disk process is killed, and that is proof enough."""
    with Lab((HOST,)) as lab:
        folder = lab.host_dir(HOST)
        with open(folder / "far.raw", "wb") as f:
            f.truncate(16 << 20)
        server = lab.spawn(HOST, ["nbdkit", "-f", "-U", f"{lab.self_dir}/far.sock", "file",
                                  f"{lab.self_dir}/far.raw"], name="far")
        poll((folder / "far.sock").exists, "nbdkit")
        v = Victim(lab, "far", image=f"nbd+unix:///?socket={lab.self_dir}/far.sock")
        try:
            server.signal(signal.SIGSTOP)
            time.sleep(0.5)
            instance = freeze(v.g)
            expect(instance.step("disks") == "fell-back", instance.steps())
            expect(not instance.bad_checks(), instance.certificate["checks"])
            server.signal(signal.SIGCONT)
            v.expect_still()
        finally:
            v.close()


if __name__ == "__main__":
    sys.exit(main())
