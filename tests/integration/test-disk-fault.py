#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What fails below a protected VM's disks, and around them: storage with errors, full or slow; a
disk process that dies or hangs, on either side; and images that cannot be right."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

from checks import check, expect, main, poll, say
from diskpair import USUAL, DiskPair, Server, refusal
from lab import Lab, LabError, Vm
from labdisk import Disk, argv_of
from protected import HOSTS, Keeper

MIB = 1 << 20
PEER_TIMEOUT_S = 2.0


class ServedPair(DiskPair):
    """Images that nbdkit serves on their own host, with something wrong in between."""

    def __init__(self, filters: Sequence[str], *arguments: str, **options: Any):
        super().__init__(**options)
        self.filters, self.arguments = filters, arguments

    def serve(self, host: str, path: Path) -> Server:
        trigger = f"{self.lab.self_dir}/{path.name}.trigger"
        arguments = [word.replace("TRIGGER", trigger) for word in self.arguments]
        return Server(self.lab, host, path, *arguments, filters=self.filters)

    def prepare(self) -> None:
        super().prepare()
        for host in HOSTS:
            self.servers[host] = [self.serve(host, disk.path(host)) for disk in self.disks]
        for disk, server in zip(self.disks, self.servers[HOSTS[0]]):
            disk.location = server.uri

    def path(self, host: str, number: int) -> Path:
        return self.lab.host_dir(host) / self.disks[number].file_name

    @contextlib.contextmanager
    def fault(self, host: str) -> Iterator[None]:
        """The disks of that host fail for as long as this lasts."""
        for server in self.servers[host]:
            server.trigger.touch()
        try:
            yield
        finally:
            for server in self.servers[host]:
                server.trigger.unlink(missing_ok=True)


def failing(error: str, **options: Any) -> ServedPair:
    return ServedPair(("error",), f"error={error}", "error-pwrite-rate=100%",
                      "error-zero-rate=100%", "error-trim-rate=100%", "error-file=TRIGGER",
                      **options)


def is_still(pair: DiskPair) -> bool:
    """The guest says nothing for a while."""
    try:
        pair.guest.ask("stat", timeout_s=1.0)
    except LabError:
        return True
    return False


STAYS = ("--on-io-error", "leave")


def stops_and_resumes(error: str) -> None:
    with failing(error, smp=2, options=STAYS) as pair:
        for _ in range(2):
            pair.load.start()
            with pair.fault(pair.primary.host):
                pair.primary.wait("disk-error")
                poll(lambda: pair.disks_of(pair.primary)["error"], "the disk fails")
                poll(lambda: is_still(pair), "the guest stands still")
                say(pair.disks_of(pair.primary)["error"])
            pair.primary.wait("disk-well")
            poll(lambda: not pair.disks_of(pair.primary)["error"], "the disk is well")
            pair.primary.ask("Resume")
            pair.load.wait_progress()
            pair.load.check()
        pair.load.start()
        pair.failover("host")
        pair.load.wait_progress()
        pair.load.check()


@check
def storage_with_errors_stops_the_vm() -> None:
    stops_and_resumes("EIO")


@check
def full_storage_stops_the_vm() -> None:
    stops_and_resumes("ENOSPC")


@check
def fails_over_while_its_storage_fails() -> None:
    """The standby's storage is well: what was committed is there."""
    with failing("EIO", smp=2, options=STAYS) as pair:
        pair.load.start()
        with pair.fault(pair.primary.host):
            pair.primary.wait("disk-error")
            pair.failover("host")
            pair.load.wait_progress()
            pair.load.check()


@check
def goes_on_where_the_storage_is_well() -> None:
    """By itself, as there is a standby: frozen where the storage fails."""
    with failing("EIO", smp=2) as pair:
        pair.load.start()
        failed = pair.primary
        with pair.fault(failed.host):
            failed.wait("disk-error")
            expect(failed.wait("frozen", timeout_s=60)["cause"] == "io-error", failed.log())
            pair.standby.wait("live", timeout_s=60)
            pair.primary = pair.standby
            pair.load.wait_progress()
            pair.load.check()


@check
def full_storage_of_a_vm_that_is_alone() -> None:
    """There is no log to keep the write: QEMU stops by its own werror=enospc, and keeps it."""
    with failing("ENOSPC", smp=2) as pair:
        pair.lab.run(pair.standby.host, ["kill", "-9", str(pair.standby.pid)])
        pair.standby.exit_code()
        pair.primary.wait("alone")
        pair.load.start()
        with pair.fault(pair.primary.host):
            pair.primary.wait("disk-error")
            poll(lambda: is_still(pair), "the guest stands still")
        pair.primary.ask("Resume")
        pair.load.wait_progress()
        pair.load.check()


@check
def link_breaks_and_heals() -> None:
    """What was sent of an epoch that did not arrive is sent again, before what came after it."""
    with DiskPair(smp=2, load={"raw_rate": 0}) as pair:
        pair.load.start()
        for how in ("reset", "cut", "reset", "cut"):
            pair.load.wait_progress()
            if how == "reset":
                pair.lab.run(pair.primary.host,
                             ["ss", "-K", "dst", pair.lab.repl_addr(pair.standby.host)])
            else:
                pair.lab.cut(pair.standby.host)
                pair.primary.wait("holding")
                time.sleep(0.5)
                pair.lab.heal(pair.standby.host)
            pair.primary.wait("protected")
        pair.load.check()
        pair.round("host")
        pair.finish()


@check
def storage_of_a_standby_fails() -> None:
    """It ends, and the primary goes on alone."""
    with failing("EIO", smp=2) as pair:
        pair.load.start()
        with pair.fault(pair.standby.host):
            pair.standby.wait("disk-error")
            code = pair.standby.exit_code()
            expect(code == 1, f"exit code {code}: {pair.standby.log()}")
            pair.primary.wait("alone")
            pair.load.wait_progress()
        pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
        pair.wait_protected()
        pair.failover("qemu")
        pair.load.wait_progress()
        pair.load.check()


@check
def slow_storage_slows_the_guest() -> None:
    """The log does not grow over its bound, and nothing is lost."""
    bound = 16 * MIB
    with ServedPair(("delay",), "delay-write=5ms", "delay-fast-zero=false",
                    options=("--disk-buffer", str(bound)), smp=2, load={"raw_rate": 0}) as pair:
        pair.load.start()
        most, deadline = 0, time.monotonic() + 8
        while time.monotonic() < deadline:
            most = max(most, *(pair.disks_of(k)["logged_bytes"]
                               for k in (pair.primary, pair.standby)))
            time.sleep(0.02)
        say(f"at most {most / MIB:.1f} MiB in the log")
        expect(most < bound + 32 * MIB, f"{most} bytes were logged")
        pair.load.wait_progress()
        pair.failover("host")
        pair.load.wait_progress(120)
        pair.load.check(120)


# --- the disk process ----------------------------------------------------------------------------

@check
def disk_process_dies() -> None:
    """On either side, again and again: nobody notices but the keeper."""
    with DiskPair(smp=2) as pair:
        pair.load.start()
        for _ in range(3):
            for keeper in (pair.primary, pair.standby):
                pair.signal_disk_process(keeper, signal.SIGKILL)
                keeper.wait("disk-path-restarted")
                pair.load.wait_progress()
        pair.load.check()
        expect(not pair.primary.seen("alone"), pair.primary.log())
        pair.round("keeper")
        pair.finish()


@check
def disk_process_hangs() -> None:
    """It is killed when it has not answered for peer-timeout, and started again."""
    with DiskPair(smp=2, options=("--peer-timeout", f"{PEER_TIMEOUT_S:g}s")) as pair:
        pair.load.start()
        for keeper in (pair.primary, pair.standby):
            pair.signal_disk_process(keeper, signal.SIGSTOP)
            keeper.wait("disk-path-hung")
            keeper.wait("disk-path-restarted")
            pair.load.wait_progress()
        pair.load.check()
        pair.round("host")
        pair.finish()


@check
def disk_process_dies_while_the_vm_is_alone() -> None:
    with DiskPair(smp=2) as pair:
        pair.lab.kill_host(pair.standby.host)
        pair.standby.exit_code()
        pair.primary.wait("alone")
        pair.load.start()
        for _ in range(2):
            pair.signal_disk_process(pair.primary, signal.SIGKILL)
            pair.primary.wait("disk-path-restarted")
            pair.load.wait_progress()
        pair.load.check()
        pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
        pair.wait_protected()
        pair.finish()


# --- what cannot be right ------------------------------------------------------------------------

class Hosts:
    """Two hosts and a VM with one disk, of which nothing runs yet."""

    def __init__(self, **spec: Any):
        self.lab = Lab(HOSTS)
        self.disk = Disk(self.lab, **{"name": "disk0", "mib": 16, **spec})

    def __enter__(self) -> "Hosts":
        self.lab.__enter__()
        self.vm = Vm(self.lab, extra=argv_of([self.disk]))
        return self

    def __exit__(self, *unused: object) -> None:
        self.lab.close()

    def argv(self, verb: str, host: str, *options: str) -> list[str]:
        peer = HOSTS[1] if host == HOSTS[0] else HOSTS[0]
        state = f"{self.lab.self_dir}/state"
        return self.vm.side(verb, host, peer, ("--state-dir", state, *options))

    def refused(self, verb: str, *words: str, options: Sequence[str] = ()) -> None:
        text = refusal(self, HOSTS[0], self.argv(verb, HOSTS[0], *options))
        for word in words:
            expect(word in text, f"no word of {word!r}: {text}")


@check
def images_that_cannot_be_right() -> None:
    with Hosts() as h:
        for verb in ("run", "standby"):
            h.refused(verb, h.disk.file_name, "No such file")
    with Hosts(format="qcow2") as h:
        path = h.disk.make(HOSTS[0])
        base = path.with_name("base.raw")
        base.write_bytes(bytes(16 * MIB))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path],
                       check=True)
        h.refused("run", "backing", h.disk.file_name)
    with Hosts() as h:
        h.disk.make(HOSTS[0])
        h.vm.extra = [word.replace("format=raw,", "") for word in h.vm.extra]
        h.refused("run", "format=raw", "format=qcow2")


@check
def a_standby_with_another_size_is_refused() -> None:
    with DiskPair(is_waiting=False, smp=2) as pair:
        pair.load.start()
        pair.wait_protected()
        pair.standby.ask("Stop", force=True)
        pair.standby.exit_code()
        forget_state(pair, pair.standby.host)
        os.truncate(pair.path(pair.standby.host, 1), 8 * MIB)
        pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
        poll(lambda: "blocks" in pair.primary.log() + pair.standby.log() and
             str(8 * MIB) in pair.primary.log() + pair.standby.log(),
             "somebody names the disk and its size")
        expect(not pair.standby.status()["protected"], pair.standby.status())
        pair.load.wait_progress()


def forget_state(pair: DiskPair, host: str) -> None:
    """What holdfast keeps about the disks there."""
    shutil.rmtree(pair.lab.host_dir(host) / "state")


def partial_copy(pair: DiskPair) -> Keeper:
    """A standby that dies while it is filled."""
    pair.standby.ask("Stop", force=True)
    pair.standby.exit_code()
    pair.primary.wait("alone")
    with open(pair.path(pair.primary.host, 1), "r+b") as f:
        f.seek(16 * MIB)
        f.write(os.urandom(48 * MIB))
    forget_state(pair, pair.standby.host)
    pair.lab.set_rate(pair.standby.host, 100)
    pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
    poll(lambda: pair.disks_of(pair.primary)["sync"]["total_bytes"] > 0, "the copy has begun")
    time.sleep(1)
    pair.lab.kill_host(pair.standby.host)
    pair.standby.exit_code()
    pair.lab.set_cable(pair.standby.host)
    return pair.standby


@check
def a_partial_copy_does_not_run() -> None:
    disks = (USUAL[0], {"name": "blocks", "mib": 64})
    with DiskPair(disks, smp=2) as pair:
        dead = partial_copy(pair)
        pair.lab.kill_host(pair.primary.host)
        argv = pair.vm.side("run", dead.host, pair.primary.host, pair.options)
        text = refusal(pair, dead.host, argv)
        expect("copy that was being made" in text, text)


if __name__ == "__main__":
    sys.exit(main())
