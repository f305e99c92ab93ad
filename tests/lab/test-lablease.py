#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab of leases tested by itself, without holdfast: what the tests of leases rest on is shown
what must not be, and must see it; sanlock's own daemons and tools are the judges of the format.

usage: test-lablease.py [PATTERN]    only the checks whose name contains PATTERN
Environment: none. Exit status: 0, 1, or 77 when not root."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
from checks import Skip, check, expect, main  # noqa: E402  pylint: disable=wrong-import-position
# pylint: disable=wrong-import-position
from lab import Lab  # noqa: E402
from lablease import LeaseArea, SanlockHost, WitnessArea  # noqa: E402
from lablease import lacks_sanlock, wait_until  # noqa: E402
from leaseformat import RESOURCE_MAGIC, Block, FormatError, RawLease, Record  # noqa: E402
from leaseformat import read_slot  # noqa: E402

OWNED = -243


def area_of_sanlock(lab: Lab, **options: int) -> LeaseArea:
    if why := lacks_sanlock():
        raise Skip(why)
    area = LeaseArea(lab, leases=2, **options)
    area.init_by_sanlock()
    return area


def raises(what: object, sector: bytes) -> None:
    try:
        Record.decode(sector, RESOURCE_MAGIC)
    except FormatError:
        return
    raise AssertionError(f"nothing was noticed: {what}")


@check
def what_sanlock_writes_is_read_and_written_the_same() -> None:
    with Lab(("hostA",)) as lab:
        area = area_of_sanlock(lab, hosts=8)
        area.init_lease("vm1", 0)
        with RawLease(area.file, area.offset(0)) as raw:
            leader, sector = raw.leader(), raw.read(area.offset(0))
            expect((leader.space, leader.name, leader.is_free, leader.num_hosts)
                   == ("lab", "vm1", True, 8), leader)
            expect(leader.encode() == sector, "encoded another way")
            expect(raw.block(1) == Block(), raw.block(1))
            raises("another magic", bytes([sector[0] ^ 1]) + sector[1:])
            raises("another checksum", sector[:168] + bytes([sector[168] ^ 1]) + sector[169:])
            raises("another owner", sector[:32] + b"\1" + sector[33:])


@check
def what_we_write_sanlock_reads() -> None:
    with Lab(("hostA",)) as lab:
        area = area_of_sanlock(lab)
        area.init_lease("vm1", 0)
        with RawLease(area.file, area.offset(0)) as raw:
            raw.name_owner(7, 3, lver=41)
            line = next(line for line in area.dump().splitlines() if " vm1 " in line)
            expect(line.split()[4:7] == ["0007", "0003", "41"], line)
            raw.write_leader(replace(raw.leader(), timestamp=0))
            expect(raw.leader().is_free and raw.leader().tenure == (0, 0, 41), raw.leader())


@check
def sanlock_hosts_respect_each_other() -> None:
    with Lab() as lab:
        area = area_of_sanlock(lab)
        lease = area.init_lease("vm1", 0)
        a, b = (SanlockHost(lab, host, area, n) for n, host in enumerate(lab.hosts, 1))
        for host in (a, b):
            host.start()
        for host, joining in [(host, host.begin_join()) for host in (a, b)]:
            host.finish_join(joining)
        expect(read_slot(area.file, 1)[0].name == "hostA", "the slot of host 1")
        holder, other = a.holder(), b.holder()
        expect(holder.acquire(lease) == 0, "the first one was refused")
        expect((b.read(lease).owner, b.read(lease).generation) == (1, 1), b.read(lease))
        other.contend(lease, at_least=20)
        with RawLease(area.file, area.offset(0)) as raw:
            before = raw.leader().tenure
            contest = other.end_contest()
            expect(contest["won"] == 0, contest)
            expect(set(contest["refused"]) == {str(OWNED)}, contest)
            expect(raw.leader().tenure == before, "changed without a winner")
        holder.kill()
        wait_until(lambda: b.read(lease).owner == 0, "the lease of a dead process is free")
        expect(other.acquire(lease) == 0, "a dead process still holds it")


@check
def a_watcher_sees_every_free_moment() -> None:
    """Of twenty releases followed by an acquisition, as sanlock hands over."""
    with Lab(("hostA",)) as lab:
        area = area_of_sanlock(lab)
        lease = area.init_lease("vm1", 0)
        host = SanlockHost(lab, "hostA", area, 1)
        host.start()
        host.join()
        holder = host.holder()
        watch = area.watch("hostA", area.offset(0))
        for _ in range(20):
            expect(holder.acquire(lease) == 0 and holder.release(lease) == 0, "refused")
        result = watch.stop()
        seen = [event for event in watch.events if event["event"] == "leader"]
        owned = {event["lver"] for event in seen if not event["free"]}
        freed = {event["lver"] for event in seen if event["free"]}
        expect(len(owned) >= 15 and len(freed) >= 15, f"of 20: {len(owned)}, {len(freed)}")
        expect(result["reads"] > 40, result)


def nbd_read(lab: Lab, area: WitnessArea, host: str, timeout_s: float = 30.0) -> str:
    """What becomes of a read: "ok", "error" or "silence"."""
    try:
        done = lab.run(host, ["qemu-io", "-f", "raw", "-r", "-c", "read 0 512", area.location],
                       timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return "silence"
    return "ok" if "read 512/512" in done.stdout else "error"


@check
def a_witness_fails_hangs_dies_and_comes_back() -> None:
    with Lab(("hostA", "witness")) as lab:
        area = WitnessArea(lab, "witness", leases=1)
        expect(nbd_read(lab, area, "hostA") == "ok", "not reached")
        area.fail(True)
        expect(nbd_read(lab, area, "hostA") == "error", "does not fail")
        area.fail(False)
        area.pause()
        expect(nbd_read(lab, area, "hostA", 2.0) == "silence", "is not paused")
        area.resume()
        expect(nbd_read(lab, area, "hostA") == "ok", "not resumed")
        area.freeze()
        expect(nbd_read(lab, area, "hostA", 2.0) == "silence", "is not frozen")
        area.thaw()
        area.kill()
        expect(nbd_read(lab, area, "hostA") == "error", "is not dead")
        area.start(delay_ms=50)
        expect(nbd_read(lab, area, "hostA") == "ok", "did not come back")


if __name__ == "__main__":
    sys.exit(main())
