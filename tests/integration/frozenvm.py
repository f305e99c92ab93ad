# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM on one host under a keeper, that is to be frozen; and what must be true of it then.

Theory of operation. What a keeper says is not believed: that a certificate is on disk when its
event comes, that QEMU's threads stand still, that the disk process is dead, that the TAP is let go
and that the memory is there is looked at here, in files, /proc and /sys.
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

from checks import expect, poll, say
from lab import Lab, LabError, Proc, Vm
from labfreeze import (COUNTS, Instance, Monitor, TinyVm, cgroup_pids, cpu_ms, instances, is_alive,
                       is_cgroup_frozen, is_tap_held, monitor, monitor_argv, remove_cgroups)
from protected import Control, Keeper

HOST = "hostA"
FROZEN_S = 60.0
STATE_MAGIC = b"QEVM"  # docs/devel/migration: QEMU_VM_FILE_MAGIC


@dataclass
class GuestVm(Vm):
    """The real guest, with a monitor of its user's, without a peer. QEMU has no file open."""
    serial: str = "null"
    options: Sequence[str] = ()
    has_net: bool = True

    def argv(self, *options: str) -> list[str]:
        argv = [*self.qemu_argv(), *monitor_argv(self.lab, self.name)]
        return [self.holdfast(), "run", self.name, "--run-dir", self.run_dir, "--state-dir",
                f"{self.lab.self_dir}/state", "--lease", "no", "--hold-net", "net0",
                *self.options, *options, "--", *argv]

    def spawn(self, host: str, *options: str) -> Proc:
        return self.lab.spawn(host, self.argv(*options), name=f"{self.name}-run")


def guest_vm(lab: Lab, name: str, number: int, **options: Any) -> GuestVm:
    """With a card of its own: several may be on one host."""
    return GuestVm(lab, name=name, addr=f"10.77.0.{10 + number}", tap=f"hft{number}",
                   mac=f"52:54:00:77:00:{10 + number:02x}", **options)


def tiny_vm(lab: Lab, name: str, *options: str, **more: Any) -> TinyVm:
    """Its name is no other test's, as its cgroup is the machine's."""
    return TinyVm(lab, f"{lab.prefix}{name}", options=("--lease", "no", *options), **more)


class GuardingKeeper(Keeper):
    """One that may have frozen its VM before anybody asks: its folder has another name then."""

    def _connect(self) -> Control:
        deadline = time.monotonic() + 60.0
        while self.proc.is_running() and time.monotonic() < deadline:
            for path in (self.path, *self.path.parent.parent.glob(f"{self.vm.name}@*/control")):
                control = self._connect_to(path)
                if control:
                    return control
            time.sleep(0.02)
        raise LabError(f"keeper on {self.host} did not start: {self.log()}")

    def _connect_to(self, path: Path) -> Optional[Control]:
        """If it is this keeper's, and not one's that guards an older instance."""
        try:
            control = Control(path)
        except OSError:
            return None
        with contextlib.suppress(EOFError, OSError):
            control.send("Status")
            reply = control.receive(20.0)
            if reply and reply["status"]["pid"] == self.proc.pid:
                self.path = path
                return control
        control.close()
        return None


class Guarded:
    """with Guarded(vm) as g: ... A VM under a keeper on hostA."""

    def __init__(self, vm: TinyVm | GuestVm, *options: str, host: str = HOST):
        self.vm, self.lab, self.host = vm, vm.lab, host
        self.options = options
        self.proc = vm.spawn(host, *options)
        self.keeper = GuardingKeeper(vm, host, self.proc)  # type: ignore[arg-type]
        poll(lambda: self.keeper.seen("vm-starting"), "its events are followed")
        self.qemu_pid = self.keeper.qemu_pid

    def __enter__(self) -> "Guarded":
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        if kind is not None:
            say(f"--- keeper {self.keeper.pid} of {self.vm.name}\n{self.keeper.log()[-3000:]}")
            say(self.told())
        self.close()

    def close(self) -> None:
        """Everything of it, in whatever state."""
        self.keeper.close()
        for pid in self.pids():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        poll(lambda: not self.pids(), f"processes of {self.vm.name}: {self.pids()}")
        remove_cgroups(self.vm.name)

    def pids(self) -> list[int]:
        """Of this VM: by the name in their command line, or their cgroup."""
        found = []
        for pid in self.lab.pids(self.host):
            try:
                text = Path(f"/proc/{pid}/cmdline").read_bytes() + \
                    Path(f"/proc/{pid}/cgroup").read_bytes()
            except OSError:
                continue
            if self.vm.name.encode() in text and is_alive(pid):
                found.append(pid)
        return found

    # --- what it says ---

    def status(self) -> dict[str, Any]:
        return self.keeper.status()

    def told(self) -> list[str]:
        """The names of its events so far."""
        self.keeper.seen("")
        return [event["event"] for event in self.keeper.events]

    def expect_told_in_order(self, *names: str) -> None:
        told = self.told()
        at = -1
        for name in names:
            expect(name in told[at + 1:], f"no {name} after the first {at + 1} of {told}")
            at = told.index(name, at + 1)

    def monitor(self) -> Monitor:
        return monitor(self.lab, self.host, self.vm.name)

    def wait_frozen(self, timeout_s: float = FROZEN_S) -> dict[str, Any]:
        """The event, and at that moment the certificate is there."""
        event = self.keeper.wait("frozen", timeout_s=timeout_s)
        certified = [i.id for i in self.instances() if i.is_certified()]
        expect(event["id"] in certified, f"told {event}, certified are {certified}")
        return event

    def instances(self) -> list[Instance]:
        return instances(self.lab, self.host, self.vm.name)

    def instance(self) -> Instance:
        found = self.instances()
        expect(len(found) == 1, f"instances of {self.vm.name}: {found}")
        return found[0]

    def wait_life(self, life: str, timeout_s: float = 30.0) -> dict[str, Any]:
        poll(lambda: self.status()["life"] == life,
             f"{self.vm.name} is {life}, not {self.status().get('life')}", timeout_s)
        return self.status()

    def exit_code(self) -> int:
        return self.keeper.exit_code()


# --- what must be true ---------------------------------------------------------------------------

def expect_times(instance: Instance) -> None:
    c = instance.certificate
    expect(0 < c["cause_time_ns"] <= c["frozen_time_ns"] <= time.time_ns(), c)
    expect(c["frozen_time_ns"] >= max(x["time_ns"] for x in c["checks"]), c)
    for step in c["steps"]:
        if step["result"] in ("done", "fell-back"):
            expect(step["began_us"] <= step["ended_us"], step)


def is_thread_still(pid: int) -> bool:
    """Not running on any processor, for a moment at least."""
    before = cpu_ms(pid)
    time.sleep(0.1)
    return cpu_ms(pid) == before


def expect_qemu(instance: Instance, is_kept: bool) -> None:
    c = instance.certificate
    expect(c["qemu_fate"] == ("process" if is_kept else "none"), c["qemu_fate"])
    pid = c["qemu"]["pid"]
    if is_kept:
        expect(is_alive(pid), f"QEMU {pid} is dead")
        expect(is_cgroup_frozen(c["cgroup"]), f"{c['cgroup']} is not frozen")
        expect(cgroup_pids(c["cgroup"]) == [pid], cgroup_pids(c["cgroup"]))
        expect(is_thread_still(pid), f"QEMU {pid} takes processor time")
    else:
        expect(not is_alive(pid) or pid == 0, f"QEMU {pid} lives")


def ram_path(instance: Instance) -> Path:
    """Where its memory can be read."""
    c = instance.certificate
    if c["ram"] == "file":
        return instance.folder / "ram"
    expect(c["ram"] == "process", f"memory: {c['ram']}")
    return Path(f"/proc/{c['ram_holder']['pid']}/fd/{c['ram_fd']}")


def expect_ram(instance: Instance, marker: bytes = b"", address: int = 0) -> None:
    path = ram_path(instance)
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        expect(size == instance.certificate["ram_bytes"] > 0, f"{path}: {size} bytes")
        if marker:
            found = os.pread(f.fileno(), len(marker), address)
            expect(found == marker, f"{found!r} at {address:#x}")


def expect_state(instance: Instance, is_kept: bool) -> None:
    path = instance.folder / "device-state"
    expect(instance.certificate["device_state"] == ("file" if is_kept else "none"),
           instance.certificate["device_state"])
    expect(path.exists() == is_kept, path)
    if is_kept:
        data = path.read_bytes()
        expect(len(data) == instance.certificate["device_state_bytes"], len(data))
        expect(data[:4] == STATE_MAGIC, data[:16])


def expect_frozen(g: Guarded, cause: str, is_qemu_kept: bool = True, is_state_kept: bool = True,
                  steps: Optional[dict[str, tuple[str, ...]]] = None,
                  severity: str = "fatal") -> Instance:
    """After wait_frozen(). What the certificate says, and whether that is so."""
    instance = g.instance()
    c = instance.certificate
    expect(instance.is_certified() and c["vm"] == g.vm.name, c)
    expect((c["cause"], c["severity"]) == (cause, severity), (c["cause"], c["severity"]))
    expect(c["checks"] and not instance.bad_checks(), c["checks"])
    expect_times(instance)
    expect_qemu(instance, is_qemu_kept)
    expect_state(instance, is_state_kept)
    expect_ram(instance)
    for name, allowed in (steps or {}).items():
        expect(instance.step(name) in allowed, f"{name}: {c['steps']}")
    for name in ("latch", "verify", "certify"):
        expect(instance.step(name) == "done", f"{name}: {instance.steps()}")
    expect(not c["disks"]["pid"] or not is_alive(c["disks"]["pid"]), "the disk process lives")
    for net in c["nets"]:
        expect(not is_tap_held(g.lab, g.host, net), f"{net} is held by somebody")
    g.expect_told_in_order("freezing", "freeze-step", "frozen")
    return instance


def expect_frozen_status(g: Guarded, cause: str) -> None:
    """As long as its keeper lives."""
    status = g.status()
    expect((status["life"], status["cause"]) == ("frozen", cause), status)
    expect(status["frozen"]["id"] == g.instance().id, status["frozen"])


def expect_discarded(g: Guarded) -> None:
    """Release has left nothing, and ends the keeper in order."""
    instance = g.instance()
    holder = instance.certificate["ram_holder"]["pid"]
    g.keeper.ask("Release")
    expect(g.exit_code() == 0, g.keeper.log())
    expect(not g.instances(), g.instances())
    poll(lambda: not g.pids(), f"processes are left: {g.pids()}")
    poll(lambda: not is_alive(holder), "the memory's process ends")
    cgroup = instance.certificate["cgroup"]
    expect(not cgroup or not Path(cgroup).exists(), f"{cgroup} is left")


def cli(g: Guarded, *argv: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess:
    """holdfast ARGV on the VM's host."""
    return g.lab.run(g.host, [g.vm.holdfast(), *argv, "--run-dir", g.vm.run_dir, "--state-dir",
                              f"{g.lab.self_dir}/state"], timeout_s, check=False)


def expect_refused(run: Callable[[], Any], pattern: str) -> None:
    """An error, which says what."""
    try:
        done = run()
    except LabError as error:
        expect(re.search(pattern, str(error)), error)
        return
    raise AssertionError(f"not refused: {done}")


# --- attacks -------------------------------------------------------------------------------------

@contextlib.contextmanager
def counting(name: str, *options: str, **more: Any) -> Iterator[Guarded]:
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


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def thaw(instance: Instance) -> None:
    (Path(instance.certificate["cgroup"]) / "cgroup.freeze").write_text("0")


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
