#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of a protected VM: its QEMU, its keeper or its host die at random moments under work that
flushes all the time, again and again; every byte that the outside was told is durable is there, and
no file system has a fault. 20 times in a normal run; with HF_SOAK_MINUTES 300 times, or until that
time is over. Also the first copy and the one after an outage, both layouts, and both hosts' end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from checks import Skip, chance, check, expect, main, poll, say, soak_s
from diskpair import NBD_PORT, STORAGE, USUAL, DiskPair, Server, copied_bytes
from lab import LabError
from labdisk import make_image
from protected import HOSTS

DEATHS = ("qemu", "keeper", "host")
WAYS = (*DEATHS, "promote")
NORMAL_COUNT = 20
SOAK_COUNT = 300
# Epochs are short, so this meets each point of several.
MOMENT_MAX_S = 0.6
QCOW2 = ({"name": "files", "content": "ext4", "format": "qcow2"},
         {"name": "blocks", "mib": 16, "format": "qcow2"})
MIXED = ({"name": "files", "content": "ext4", "device": "virtio-blk-pci"},
         {"name": "blocks", "mib": 16, "format": "qcow2"})
KINDS: dict[str, dict[str, Any]] = {
    "raw": {"disks": USUAL, "smp": 2},
    "qcow2": {"disks": QCOW2, "machine": "pc"},
    "memory": {"disks": MIXED, "durability": "memory", "smp": 2},
    "shared": {"disks": USUAL, "is_shared": True, "smp": 2},
}


def deaths_of(kind: str, normal: int) -> None:
    """So many ends of one VM, in both directions, with the copy renewed after each."""
    seconds = soak_s()
    count = normal if seconds is None else -(-SOAK_COUNT * normal // NORMAL_COUNT)
    deadline = time.monotonic() + (seconds or float("inf")) * normal / NORMAL_COUNT
    done = 0
    with DiskPair(**KINDS[kind]) as pair:
        while done < count and time.monotonic() < deadline:
            how = chance.choice(WAYS)
            live = pair.round(how, chance.uniform(0, MOMENT_MAX_S))
            done += 1
            say(f"{kind}, death {done} ({how}): live from epoch {live['epoch']}, "
                f"{live['took_ns'] / 1e6:.1f} ms, told {pair.load.durable.progress()}, copied "
                f"{copied_bytes(pair.primary) >> 10 if not pair.is_shared else 0} KiB")
        pair.finish()


@check
def deaths_with_raw_images() -> None:
    deaths_of("raw", 7)


@check
def deaths_with_qcow2_images() -> None:
    deaths_of("qcow2", 5)


@check
def deaths_with_durability_memory() -> None:
    deaths_of("memory", 3)


@check
def deaths_with_a_shared_image() -> None:
    deaths_of("shared", 5)


@check
def deaths_with_an_epoch_half_sent() -> None:
    """Large epochs on a slow link: what has come of the one under way must not count."""
    load = {"raw_rate": 0, "batch": 64}
    with DiskPair(smp=2, load=load, options=("--epoch-interval", "50ms")) as pair:
        for how in ("host", "qemu"):
            pair.lab.set_rate(HOSTS[0], 200)
            pair.round(how, chance.uniform(0.5, 1))
            pair.lab.set_cable(HOSTS[0])
        pair.finish()


class DevicePair(DiskPair):
    """Block devices that both hosts reach."""

    def prepare(self) -> None:
        super().prepare()
        for disk in self.disks:
            command = ["losetup", "--find", "--show", disk.location]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Skip(f"no loop device: {done.stderr.strip()}")
            disk.location = done.stdout.strip()

    def start(self) -> None:
        try:
            super().start()
        finally: # each goes with its last user, however that ends
            for disk in self.disks:
                if disk.location.startswith("/dev/"):
                    subprocess.run(["losetup", "--detach", disk.location], check=False)


@check
def shared_block_devices() -> None:
    with DevicePair(is_shared=True, smp=2) as pair:
        for how in DEATHS:
            pair.round(how)
        pair.load.start()
        pair.hand_over()
        pair.load.wait_progress()
        pair.load.check()


class CentralPair(DiskPair):
    """Images and journal on a third host, over NBD. Writes to the images may take their time."""

    def __init__(self, delay_ms: int = 0, **options: Any):
        super().__init__(is_shared=True, hosts=(*HOSTS, STORAGE), **options)
        self.slow = (f"delay-write={delay_ms}ms",) if delay_ms else ()

    def serve(self, path: Path, number: int, *slow: str) -> str:
        return Server(self.lab, STORAGE, path, *slow, port=NBD_PORT + number,
                      filters=("delay",) if slow else ()).uri

    def prepare(self) -> None:
        folder = self.lab.host_dir(STORAGE)
        for number, disk in enumerate(self.disks):
            make_image(folder / disk.file_name, disk.mib, disk.format, disk.content)
            disk.location = self.serve(folder / disk.file_name, number, *self.slow)
        with open(folder / "redo", "wb") as f:
            os.ftruncate(f.fileno(), 4 << 30)
        self.redo = self.serve(folder / "redo", len(self.disks))

    def path(self, host: str, number: int) -> Path:
        return self.lab.host_dir(STORAGE) / self.disks[number].file_name


@check
def shared_over_nbd() -> None:
    with CentralPair(smp=2) as pair:
        for how in WAYS:
            pair.round(how)


@check
def late_writes_do_not_land() -> None:
    """All of a host stands still while its log is far from written, the VM goes on elsewhere by
    order, and then the host goes on, its disk process first: what that had yet to write must not
    land over what is newer."""
    load = {"raw_rate": 600, "raw_mib": 1}
    with CentralPair(delay_ms=4, load=load, smp=2) as pair:
        pair.load.start()
        old = pair.primary
        disk_pid = int(pair.disks_of(old)["pid"])
        poll(lambda: pair.disks_of(old)["logged_bytes"] > 512 << 10, "much in the log")
        frozen = pair.lab.pids(old.host)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        pair.standby.wait("lost")
        pair.standby.ask("Promote", force=True)
        pair.standby.wait("live", timeout_s=60)
        pair.primary = pair.standby
        for _ in range(20):
            pair.load.wait_progress()
        pair.load.stop()  # what lands now is not written over
        poll(lambda: pair.disks_of(pair.primary)["mode"] == "direct", "all is in the images")
        os.kill(disk_pid, signal.SIGCONT)
        time.sleep(2)
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        expect(old.exit_code() == 5, f"exit code of a superseded primary: {old.log()}")
        pair.load.check(120)
        pair.renew()
        pair.round("host")


# --- copies --------------------------------------------------------------------------------------

# What was sent in the last seconds is not confirmed yet, and is sent again after an interruption.
UNCONFIRMED_MAX_BYTES = 128 << 20


def fill(path: Path, mib: int) -> None:
    """So that there is something to copy, and nothing that can be guessed."""
    with open(path, "r+b") as f:
        for _ in range(mib):
            f.write(chance.randbytes(1 << 20))


class FilledPair(DiskPair):
    """The guest writes little, so that most of what is copied is what lies there."""

    def __init__(self, mib: int = 128, **options: Any):
        self.mib = mib
        load = {"raw_mib": 2, "rate": 5, "raw_rate": 100}
        super().__init__((USUAL[0], {"name": "blocks", "mib": mib}), load=load, **options)

    def prepare(self) -> None:
        super().prepare()
        fill(self.path(HOSTS[0], 1), self.mib)


def lose_standby(pair: DiskPair) -> None:
    pair.lab.kill_host(pair.standby.host)
    pair.standby.exit_code()
    pair.primary.wait("alone")


@check
def first_copy_goes_on_where_it_stopped() -> None:
    """The standby dies in the middle of it, twice, while the guest writes."""
    with FilledPair(mib=384, is_waiting=False, smp=2) as pair:
        pair.load.start()
        pair.wait_protected()
        lose_standby(pair)
        for n in range(2):
            pair.disks[n].make(pair.standby.host, is_empty=True)
        shutil.rmtree(pair.lab.host_dir(pair.standby.host) / "state")
        pair.lab.set_rate(pair.standby.host, 400)
        lefts = []
        for share in (0.7, 0.4):
            pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
            pair.primary.wait("syncing")
            poll(lambda s=share: is_copied_but(pair, s), f"all but {share} copied", 120)
            lefts.append(pair.disks_of(pair.primary)["sync"]["left_bytes"])
            lose_standby(pair)
            pair.load.wait_progress()
        pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
        pair.wait_protected()
        total = copied_bytes(pair.primary)
        say(f"left after the first part {lefts[0] >> 20} MiB, after the second {lefts[1] >> 20} "
            f"MiB; the third copied {total >> 20} MiB")
        listed = pair.disks_of(pair.primary)["sync"]["total_bytes"]
        expect(listed < lefts[1] + UNCONFIRMED_MAX_BYTES, f"{listed} to copy, {lefts} were left")
        expect(lefts[1] < lefts[0], lefts)
        pair.lab.set_cable(pair.standby.host)
        pair.round("host")
        pair.finish()


def is_copied_but(pair: FilledPair, share: float) -> bool:
    sync = pair.disks_of(pair.primary).get("sync", {"total_bytes": 0})
    return sync["total_bytes"] > 0 and 0 < sync["left_bytes"] < share * (pair.mib << 20)


@check
def after_an_outage_only_changes_are_copied() -> None:
    with FilledPair(smp=2) as pair:
        first = copied_bytes(pair.primary)
        expect(first >= pair.mib << 20, f"the first copy was of {first} bytes")
        for how in ("standby", "primary"):
            if how == "standby":
                lose_standby(pair)
                pair.load.start()
                pair.load.wait_progress()
                pair.load.stop()
                pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
                pair.wait_protected()
            else:
                pair.load.start()
                pair.failover("host")
                pair.load.wait_progress()
                pair.load.check()
                pair.renew()
            again = copied_bytes(pair.primary)
            say(f"outage of the {how}: {again >> 10} KiB copied, {first >> 10} KiB at first")
            expect(again < 32 << 20, f"{again} bytes were copied")
        pair.finish()


@check
def a_foreign_copy_is_not_patched() -> None:
    """A standby that comes with other images and no memory of a session gets all."""
    with FilledPair(smp=2) as pair:
        lose_standby(pair)
        shutil.rmtree(pair.lab.host_dir(pair.standby.host) / "state")
        fill(pair.path(pair.standby.host, 1), 8)
        pair.standby = pair.start_standby(pair.standby.host, pair.primary.host)
        pair.wait_protected()
        expect(copied_bytes(pair.primary) >= pair.mib << 20, copied_bytes(pair.primary))
        pair.load.start()
        pair.load.wait_progress()
        pair.finish()


# --- the end of both -----------------------------------------------------------------------------

class VolatilePair(DiskPair):
    """Below the images and the journal of a host is a cache that only a flush empties, and that
    dies with the host: as when the power fails."""

    def serve(self, host: str, path: Path, *slow: str) -> Server:
        return Server(self.lab, host, path, "cache=writeback", *slow, filters=("cache", "delay"))

    def prepare(self) -> None:
        super().prepare()
        for host in HOSTS:
            redo = self.lab.host_dir(host) / "journal"
            with open(redo, "wb") as f:
                os.ftruncate(f.fileno(), 4 << 30)
            self.servers[host] = [*(self.serve(host, disk.path(host)) for disk in self.disks),
                                  self.serve(host, redo, "delay-write=30ms")]
        for disk, server in zip(self.disks, self.servers[HOSTS[0]]):
            disk.location = server.uri
        self.redo = self.servers[HOSTS[0]][-1].uri

    def path(self, host: str, number: int) -> Path:
        return self.lab.host_dir(host) / self.disks[number].file_name

    def power_on(self, host: str) -> None:
        for server in self.servers[host]:
            server.start()


@check
def both_hosts_die_at_once() -> None:
    """At the very moment when something is told to be durable: it is on the owner's disk, however
    long a flush takes. The journal is redone at the next start."""
    with VolatilePair(smp=2) as pair:
        for number in range(2):
            pair.load.start()
            pair.load.wait_progress()
            host = pair.primary.host
            pair.kill_both()
            for each in HOSTS:
                pair.power_on(each)
            # A standby that was in step may have gone live: it has to be there to say it did not.
            pair.standby = pair.start_standby(pair.standby.host, host)
            pair.run_again(host)
            pair.load.check()
            pair.wait_protected()
            say(f"end {number + 1} of both: told {pair.load.durable.progress()}")
        pair.load.start()
        pair.load.check()


def wait_new_boot(pair: DiskPair, before: int) -> None:
    def has_new() -> bool:
        try:
            return int(pair.guest.ask("stat", timeout_s=1)["boot"]) != before
        except LabError:
            return False

    poll(has_new, "the guest has booted anew", 90)


@check
def guest_reboots_and_ends() -> None:
    """In the middle of its work; nothing that was told is lost by that, on either host."""
    with DiskPair(smp=2) as pair:
        pair.load.start()
        pair.load.wait_progress()
        before = pair.guest.stat()["boot"]
        pair.guest.ask("panic")
        wait_new_boot(pair, before)
        pair.load.mount()
        pair.load.check()
        pair.round("qemu")
        pair.load.start()
        pair.load.wait_progress()
        host = pair.primary.host
        pair.guest.ask("poweroff")
        expect(pair.primary.exit_code() == 0, pair.primary.log())
        pair.standby.wait("idle")
        pair.run_again(host)
        pair.load.check()
        pair.wait_protected()
        pair.round("host")
        pair.finish()


@check
def one_dies_and_then_the_other() -> None:
    """The standby that took over dies before it has written all, and is started again."""
    with DiskPair(smp=2) as pair:
        for how in ("host", "keeper"):
            pair.load.start()
            pair.load.wait_progress()
            pair.failover(how)
            time.sleep(chance.uniform(0, 0.2))
            last = pair.primary
            pair.lab.kill_host(last.host)
            last.exit_code()
            pair.run_again(last.host)
            pair.load.check()
            pair.load.start()
            pair.load.wait_progress()
            pair.renew()
        pair.load.check()
        pair.finish()


if __name__ == "__main__":
    sys.exit(main())
