#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An unprotected VM under a lease: its host's lease runs out, the daemon dies, stands still or is
started anew, the storage fails. The VM runs only while that is safe, and nothing of it is lost that
need not be."""

import hashlib
import os
import shlex
import signal
import socket
import sys
import time
from typing import Any

from checks import check, expect, main, poll, say
from lab import Disk, DiskLoad, Guest, Lab, LabError, Proc, Vm
from lablease import HoldfastHost, WitnessArea
from labnet import SWITCH
from protected import HOSTS, Keeper

WITNESS = "witness"
PROFILE = {"renew": "500ms", "fence": "6s", "stop": "1500ms"}
ETH_P_ALL = 3


class Leased:
    """with Leased() as leased: ... A VM on hostA under a lease, without a standby. has_disk: a raw
    disk on a path that both hosts reach."""

    def __init__(self, has_disk: bool = False, **vm_options: Any):
        self.lab = Lab((*HOSTS, WITNESS))
        self.disk = Disk(self.lab, "blocks", mib=16,
                         location=str(self.lab.work / "common.raw")) if has_disk else None
        self.vm = Vm(self.lab, extra=self.disk.argv() if self.disk else (), **vm_options)
        self.daemons: dict[str, HoldfastHost] = {}

    def __enter__(self) -> "Leased":
        self.lab.__enter__()
        try:
            if self.disk:
                self.disk.make("hostA")
            self.area = WitnessArea(self.lab, WITNESS)
            self.area.init()
            for number, host in enumerate(HOSTS):
                self.daemons[host] = HoldfastHost(self.lab, host, self.area, number + 1, **PROFILE)
                self.daemons[host].start(is_joined=False)
            for daemon in self.daemons.values():
                daemon.wait_joined()
            self.guest = Guest(self.lab)
            self.keeper = self.run("hostA")
            self.guest.wait_up()
        except BaseException:
            self.lab.close()
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        if kind is not None:
            say(self.keeper.log()[-3000:])
        self.guest.close()
        self.keeper.close()
        self.lab.close()

    @property
    def daemon(self) -> HoldfastHost:
        return self.daemons["hostA"]

    def argv(self) -> list[str]:
        redo = ["--disk-layout", "shared", "--redo-journal", f"{self.lab.work}/common.redo"]
        state = ["--state-dir", f"{self.lab.self_dir}/state"]
        return [self.vm.holdfast(), "run", self.vm.name, "--run-dir", self.vm.run_dir,
                "--hold-net", "net0", *(redo + state if self.disk else []), "--",
                *self.vm.qemu_argv()]

    def spawn(self, host: str) -> Proc:
        return self.lab.spawn(host, self.argv(), name=f"{self.vm.name}-run")

    def run(self, host: str) -> Keeper:
        return Keeper(self.vm, host, self.spawn(host))

    def owner(self) -> str:
        lease = self.daemons["hostB"].lease(self.vm.name)
        return "" if lease["free"] else str(lease["owner"])

    def expect_goes_on(self) -> None:
        self.guest.stat()

    def expect_stands_still(self) -> None:
        expect(self.keeper.status()["guest"] == "stopped", self.keeper.status())
        try:
            self.guest.ask("stat", timeout_s=1.0)
        except LabError:
            return
        raise LabError("a VM without a lease answers")


class Wire:
    """Counts the frames of the VM's card that come from one host."""

    def __init__(self, leased: Leased, host: str):
        self._sock = leased.lab.socket(SWITCH, socket.SOCK_RAW, socket.AF_PACKET,
                                       socket.htons(ETH_P_ALL))
        self._sock.bind((leased.lab.cables[host, "guest"].bridge_port, 0))
        self._sock.setblocking(False)
        self._mac = bytes.fromhex(leased.vm.mac.replace(":", ""))

    def count(self) -> int:
        """Since the last question."""
        n = 0
        while True:
            try:
                frame = self._sock.recv(65536)
            except BlockingIOError:
                return n
            n += frame[6:12] == self._mac

    def close(self) -> None:
        self._sock.close()


def define(leased: Leased) -> None:
    """The same file on both hosts: it may run on either."""
    qemu, *args = leased.vm.qemu_argv()
    for host in HOSTS:
        (leased.lab.host_dir(host) / "vms" / f"{leased.vm.name}.conf").write_text(
            f"[vm]\nqemu = {qemu}\nargs = {shlex.join(args)}\nhold-net = net0\n"
            f"takeover = yes\nprefer = {' '.join(HOSTS)}\n")


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
        expect(second.wait(60) == 1, second.log_tail())
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


def digest(leased: Leased) -> str:
    assert leased.disk
    return hashlib.sha256(leased.disk.path("hostA").read_bytes()).hexdigest()


@check
def a_host_that_wakes_up_finds_itself_replaced() -> None:
    """All of it stands still in the middle of its work, and its VM is started elsewhere. When it goes
    on it sends no frame, writes nothing, and ends."""
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
