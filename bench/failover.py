# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the death of the primary to the guest's life on the standby, many times, to and fro.

Moments of each failover: the kill; the death becomes visible; the guest runs on the other host (the
keeper's event "live", which comes with QEMU's RESUME); a client has its first answer to a question
that it asked after the kill. All on the machine's one real-time clock.

Visible is a death from its first sign on: the process can be waited for (QEMU when only that was
killed, the keeper when all of the host were), or the standby's journal says so. A process with much
memory closes its sockets long before it can be waited for, so both are needed.
"""

import os
import random
import select
import signal
import struct
import time
from dataclasses import dataclass

from measures import Plan, Row, timing
from stage import PLAIN_HOST, LabError, Proc, Side, Stage

PORT_PING = 7004
PING_BYTES = 64
ASK_EVERY_S = 0.001
DEADLINE_S = 30.0


@dataclass
class Times:
    """Of one failover."""
    killed_ns: int
    dead_ns: int
    live_ns: int
    seen_ns: int


class Asker:
    """Asks the guest for a sign of life."""

    def __init__(self, side: Side):
        self._sock = side.lab.socket("client")
        self._sock.setblocking(False)
        self._sock.connect((side.vm.addr, PORT_PING))
        self._nonce = random.getrandbits(48)

    def _ask(self) -> None:
        self._nonce += 1
        try:
            self._sock.send(struct.pack("<Q", self._nonce).ljust(PING_BYTES, b"\0"))
        except OSError:
            pass

    def _answer(self) -> int:
        """The nonce of an answer, 0 if none is there."""
        try:
            return int(struct.unpack_from("<Q", self._sock.recv(65536))[0])
        except OSError:
            return 0

    def busy(self, seconds: float) -> None:
        """Traffic, so that the death comes in the middle of something."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._ask()
            select.select([self._sock], [], [], 0.01)
            self._answer()

    def wait_alive(self, pidfd: int) -> tuple[int, int]:
        """When the process could be waited for, and when the first answer to a question asked from
        now on came, in ns of the real time."""
        first, until = self._nonce + 1, time.monotonic() + DEADLINE_S
        waitable_ns = seen_ns = 0
        while time.monotonic() < until:
            self._ask()
            ready = select.select([self._sock, *([] if waitable_ns else [pidfd])], [], [],
                                  ASK_EVERY_S)[0]
            if pidfd in ready:
                waitable_ns = time.time_ns()
            if self._sock in ready and not seen_ns and self._answer() >= first:
                seen_ns = time.time_ns()
            if waitable_ns and seen_ns:
                return waitable_ns, seen_ns
        raise LabError("the guest did not come back")

    def close(self) -> None:
        self._sock.close()


def kill_all(pids: list[int], witness: int) -> tuple[int, int]:
    """When the first was killed, and the witness for its death: a pidfd."""
    fd = os.pidfd_open(witness)
    killed_ns = time.time_ns()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return killed_ns, fd


def first_sign_ns(journal: Proc, killed_ns: int, waitable_ns: int) -> int:
    told = [event["time_ns"] for event in journal.events if event["time_ns"] >= killed_ns]
    return min([waitable_ns, *told])


def fail_over(side: Side, front: str, back: str, is_host: bool) -> Times:
    status = side.status(front)
    keeper, qemu = status["pid"], status["qemu_pid"]
    journal = side.vm.events(back)
    asker = Asker(side)
    try:
        asker.busy(random.uniform(0.1, 0.4))
        killed_ns, fd = kill_all(side.lab.pids(front) if is_host else [qemu],
                                 keeper if is_host else qemu)
        waitable_ns, seen_ns = asker.wait_alive(fd)
        os.close(fd)
        live = journal.wait_event("live", DEADLINE_S, lambda event: "took_ns" in event)
    finally:
        asker.close()
        journal.kill()
    dead_ns = first_sign_ns(journal, killed_ns, waitable_ns)
    return Times(killed_ns, dead_ns, live["time_ns"], seen_ns)


def renew(stage: Stage, side: Side, dead: str, front: str) -> None:
    """The other host comes back, empty, and protects the guest's new place."""
    side.lab.kill_host(dead)
    side.lab.boot_host(dead)
    side.vm.standby(dead, front, *stage.options)
    side.wait_protected(front)


def measure_failovers(stage: Stage, plan: Plan) -> list[Row]:
    """Every other time QEMU alone is killed, and everything on its host."""
    side, front, back = stage.protected, "a", "b"
    stage.lab.kill_host(PLAIN_HOST)
    random.seed(plan.seed)
    runs: list[Times] = []
    for i in range(plan.failovers):
        runs.append(fail_over(side, front, back, is_host=i % 2 == 1))
        if i + 1 < plan.failovers:
            renew(stage, side, front, back)
        front, back = back, front
    return rows_of(runs)


def rows_of(runs: list[Times]) -> list[Row]:
    def row(name: str, part: list[Times], begin: str, end: str) -> Row:
        return timing(name, [(getattr(t, end) - getattr(t, begin)) / 1e6 for t in part])

    return [row("failover", runs, "dead_ns", "live_ns"),
            row("failover_qemu", runs[0::2], "dead_ns", "live_ns"),
            row("failover_host", runs[1::2], "dead_ns", "live_ns"),
            row("failover_seen", runs, "dead_ns", "seen_ns"),
            row("failover_from_kill", runs, "killed_ns", "live_ns"),
            row("failover_kill_to_seen", runs, "killed_ns", "seen_ns")]
