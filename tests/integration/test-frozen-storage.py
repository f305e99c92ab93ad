#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real guest at work is frozen, with all that it can reach watched from outside: nothing gets
to a disk or the network after the certificate's time, whatever is done then. And freezing where
storage fails, fills or hangs: what cannot be proven is not certified.

usage: test-frozen-storage.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from checks import Skip, check, expect, main, poll, say

# pylint: disable=wrong-import-position
from frozenvm import (HOST, Guarded, GuestVm, debug, expect_frozen, freeze,  # noqa: E402
                      guest_vm, kill, thaw)
from lab import Guest, Lab  # noqa: E402
from labdisk import Disk  # noqa: E402
from labfreeze import COUNTS, MonitorGone, TinyVm, Tracer, Watcher, is_alive  # noqa: E402

STILL_S = 1.0


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
    with open(folder / "filler", "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(4096))


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
            path = next(folder.glob(f"{g.vm.name}/frozen/*/certificate.json"))
            certificate = json.loads(path.read_text())
            results = {step["step"]: step["result"] for step in certificate["steps"]}
            expect(certificate["device_state"] == "none" and results["state"] == "failed",
                   certificate)


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
    """Its server does not answer, so QEMU cannot stop in order, and the disk process is killed."""
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
            expect(instance.step("stop") == "fell-back", instance.steps())
            expect(not is_alive(instance.certificate["disks"]["pid"]), "the disk process lives")
            expect(not instance.bad_checks(), instance.certificate["checks"])
            server.signal(signal.SIGCONT)
            v.expect_still()
        finally:
            v.close()


if __name__ == "__main__":
    sys.exit(main())
