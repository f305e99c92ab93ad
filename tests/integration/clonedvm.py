# SPDX-License-Identifier: LGPL-2.1-or-later
"""A protected VM as a promotable clone of a real Pacemaker cluster, and who watches it.

Theory of operation. The guest is the one that ticks onto its disk (tests/guest/tiny.S). It carries
its count along when its standby goes on with it, so the disk tells an epoch that was lost, done
twice, or run by two: then a number is missing, or a record changes after it was there. And a boot
begins to count anew, so the disk tells whether the guest has been rebooted. Two copies that run from
the same state would write the same, though. So the eyes ask both QEMUs some 50 times a second, past
holdfast, whether their guest runs: what is answered "running" was so at a moment after the question
and before the answer, and from the first such moment to the last in a row it runs. Those times of
two nodes must not overlap.
"""

import threading
import time
from pathlib import Path
from typing import Optional

from checks import expect, say
# pylint: disable=wrong-import-order
from clustered import A, B, HANG_TIMEOUT, IDS, ClusteredVm
from labfreeze import Monitor
from labnet import LabError
from labwitness import HISTORY, Image, Tick, tick_argv
from leaseformat import RESOURCE_MAGIC, SECTOR, RawDisk, Record

LOOK_S = 0.02
RING_S = 0.25
PORT = 7400
SETTLE_S = 60.0


class Eye(threading.Thread):
    """Asks one node's QEMU, over a monitor of its own."""

    def __init__(self, path: Path):
        super().__init__(daemon=True)
        self.path = path
        self.times: list[list[int]] = []  # [first, last] ns, CLOCK_MONOTONIC, that it was running
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(LOOK_S):
            try:
                monitor = Monitor(self.path, timeout_s=0)
            except (LabError, OSError):
                continue
            try:
                monitor.greet(timeout_s=2.0)
                self._watch(monitor)
            except (LabError, OSError, ValueError):
                pass  # it has gone, or stands still: another one will come
            finally:
                monitor.close()

    def _watch(self, monitor: Monitor) -> None:
        span: Optional[list[int]] = None
        while not self.is_over.wait(LOOK_S):
            asked_ns = time.monotonic_ns()
            is_running = bool(monitor.call("query-status", timeout_s=2.0)["running"])
            if not is_running:
                span = None
            elif span is None:
                span = [time.monotonic_ns()] * 2
                self.times.append(span)
            else:
                span[1] = max(span[1], asked_ns)

    def overlaps(self, other: "Eye") -> list[tuple[list[int], list[int]]]:
        return [(mine, its) for mine in self.times for its in other.times
                if max(mine[0], its[0]) < min(mine[1], its[1])]


class PairWitness:
    """with PairWitness(image, area, offset) as w: ... What the disk, the lease and the eyes say."""

    def __init__(self, image: Path, area: Path, offset: int):
        self.image, self.lease, self.offset = Image(image), RawDisk(area), offset
        self.known: dict[int, Tick] = {}
        self.faults: list[str] = []
        self.owners: list[int] = []
        self.eyes: list[Eye] = []
        self._path = image
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "PairWitness":
        self._thread.start()
        return self

    def look_at(self, *sockets: Path) -> None:
        self.eyes = [Eye(path) for path in sockets]
        for eye in self.eyes:
            eye.start()

    def __exit__(self, *unused: object) -> None:
        self._is_over.set()
        for eye in self.eyes:
            eye.is_over.set()
        for thread in (self._thread, *self.eyes):
            thread.join()
        self.image.close()
        self.lease.close()

    # --- looking ---

    def _run(self) -> None:
        next_s = 0.0
        while not self._is_over.wait(LOOK_S):
            leader = Record.decode(self.lease.read(self.offset), RESOURCE_MAGIC)
            owner = 0 if leader.is_free else leader.owner
            if self.owners[-1:] != [owner]:
                self.owners.append(owner)
            if time.monotonic() >= next_s:
                self.look()
                next_s = time.monotonic() + RING_S

    def look(self) -> None:
        with self._lock:
            data = self._path.read_bytes()[SECTOR:(1 + HISTORY) * SECTOR]
            for at in range(0, len(data), SECTOR):
                tick = Tick.decode(data[at:at + SECTOR])
                if tick and self.known.setdefault(tick.number, tick) != tick:
                    self._blame(f"{self.known[tick.number]} has become {tick}")
                    self.known[tick.number] = tick

    def _blame(self, what: str) -> None:
        if len(self.faults) < 20:
            self.faults.append(what)

    # --- saying ---

    def ticks(self) -> int:
        """How many there have been, of all boots."""
        self.look()
        return len(self.known)

    def boots(self) -> int:
        self.look()
        return sum(1 for tick in list(self.known.values()) if tick.tick == 0)

    def gaps(self, end: int) -> list[str]:
        """Up to that record. Writes of one epoch reach the disk in no order."""
        self.look()
        found: list[str] = []
        last: Optional[Tick] = None
        for number in range(end + 1):
            tick = self.known.get(number)
            if tick is None:
                found.append(f"no record {number}")
            elif (last or number == 0) and not tick.follows(last):
                found.append(f"{tick} after {last}")
            last = tick
        return found

    def expect_once(self) -> None:
        """It has never run twice at once, and nothing of what it did was lost or done twice."""
        overlaps = self.eyes[0].overlaps(self.eyes[1]) if self.eyes else []
        if self.faults or overlaps:
            raise LabError(f"it has run twice at once: {self.faults} {overlaps[:3]}; "
                           f"owners: {self.owners}")
        self._expect_whole()

    def _expect_whole(self) -> None:
        """What is there now has nothing missing below it, in a moment: who runs on has always
        something on its way."""
        self.look()
        last = max(self.known, default=-1)
        deadline = time.monotonic() + SETTLE_S
        while (gaps := self.gaps(last)) and time.monotonic() < deadline:
            time.sleep(RING_S)
        expect(not gaps, f"the disk lacks what the guest has written: {gaps[:5]}")


class ClonedVm(ClusteredVm):
    """with ClonedVm("web") as vm: ... Promoted on hostA, with a synchronised standby on hostB."""

    witness: PairWitness  # type: ignore[assignment]

    def __init__(self, name: str, promote_s: int = 60):
        super().__init__(name)
        self.promote_s = promote_s
        self.clone = f"{name}-pair"
        self.redo = self.c.shared / f"{name}.redo"

    def __enter__(self) -> "ClonedVm":
        try:
            self.witness = self._watch()
            self.witness.__enter__()
            self.c.define(self.name, self.definition())
            self.c.configure(self.configuration())
            self.wait_runs(A)
        except BaseException:
            self._leave(is_failed=True)
            raise
        return self

    def _watch(self) -> PairWitness:  # type: ignore[override]
        self.c.call(A, "Create", vm=self.name)
        lease = self.c.call(A, "Read", vm=self.name)["lease"]
        witness = PairWitness(self.image, self.c.area.file, int(lease["offset"]))
        witness.look_at(*(self.c.nodes[node].run_dir / f"{self.name}.eye" for node in (A, B)))
        return witness

    def _leave(self, is_failed: bool) -> None:
        try:
            super()._leave(is_failed)
        finally:
            self.redo.unlink(missing_ok=True)

    def tell(self) -> None:
        self.c.tell()
        say(f"boots {self.witness.boots()} ticks {self.witness.ticks()}\n"
            f"owners {self.witness.owners}\nfaults {self.witness.faults}")
        for node in self.c.names:
            if self.c.nodes[node].is_on:
                say(f"{node}: {self.view(node)}")

    # --- what it is ---

    def definition(self, node: str = "") -> str:
        monitors = " ".join(f"-qmp unix:/run/{self.name}.{kind},server=on,wait=off"
                            for kind in ("qmp", "eye"))
        hosts = "".join(f"[host {name}]\naddress = {self.c.lab.repl_addr(name)}:{PORT}\n"
                        for name in (A, B))
        return (f"[vm]\nargs = {tick_argv(f'file={self.image},file.locking=off', '0', monitors)}\n"
                f"manager = pacemaker\nhang-timeout = {HANG_TIMEOUT}\nlease = yes\n"
                f"redo-journal = {self.redo}\n{hosts}"
                "[protection]\npeer-timeout = 1s\ndisk-layout = shared\n")

    def configuration(self) -> str:
        """As crmsh takes it."""
        return (f"primitive {self.name} ocf:holdfast:vm params vm={self.name} shutdown_timeout=1s "
                "op monitor interval=10s timeout=20s role=Promoted "
                "op monitor interval=11s timeout=20s role=Unpromoted "
                "op start timeout=60s interval=0 op stop timeout=60s interval=0 "
                f"op promote timeout={self.promote_s}s interval=0 op demote timeout=60s interval=0\n"
                f"clone {self.clone} {self.name} meta promotable=true notify=true clone-max=2 "
                "interleave=true\n"
                f"location prefer-{self.name} {self.clone} rule $role=Promoted 50: #uname eq {A}\n")

    # --- what becomes of it ---

    def is_running(self, node: str) -> bool:
        """There, by the QEMU's own word just now, and it gets on."""
        eye = self.witness.eyes[IDS[node] - 1]
        now_ns = time.monotonic_ns()
        return bool(eye.times) and now_ns - eye.times[-1][1] < 10 ** 9

    def wait_runs(self, node: str, timeout_s: float = 90.0) -> None:
        """There, protected by the other one: by Pacemaker, by the daemons, and by the disk."""
        other = B if node == A else A
        roles = {node: "Promoted", other: "Unpromoted"}
        self.c.wait(lambda: self.c.instances(self.name) == roles,
                    f"{self.name} is {roles}", timeout_s)
        self.c.wait(lambda: self.is_running(node), f"{self.name} runs on {node}", timeout_s)
        self.c.wait(lambda: self.view(node).get("protected"), f"{self.name} is protected",
                    timeout_s)
        self.c.wait(lambda: self.score(node) > self.score(other) > 0,
                    f"scores {self.score(node)}, {self.score(other)}", timeout_s)

    def wait_live(self, node: str, timeout_s: float = 60.0) -> None:
        """The guest runs there, whatever Pacemaker thinks."""
        self.c.wait(lambda: self.is_running(node), f"{self.name} runs on {node}", timeout_s)

    def expect_boots(self, *nodes: str) -> None:
        """How often the guest has been booted; where is not what counts here."""
        found = self.witness.boots()
        expect(found == len(nodes), f"booted {found} times, not {len(nodes)}")
        self.witness.expect_once()

    def expect_ticking(self, count: int = 20) -> None:
        boots, ticks = self.witness.boots(), self.witness.ticks()
        self.c.wait(lambda: self.witness.ticks() >= ticks + count, f"{self.name} ticks on")
        expect(self.witness.boots() == boots, "it was booted anew")

    def score(self, node: str) -> int:
        return int(self.c.attributes(node).get(f"master-{self.name}", "0"))

    def _log(self, node: str) -> str:
        return self.c.nodes[node].disk("/var/log/pacemaker/pacemaker.log").read_text(
            errors="replace")

    def is_ordered(self, node: str, action: str) -> bool:
        """Has Pacemaker ever called the agent there for this?"""
        return f"executing - rsc:{self.name} action:{action} " in self._log(node)

    def wait_kept(self, node: str, reason: str) -> None:
        """A new standby is in order, and why there is a frozen one beside it is still to be seen."""
        def look() -> bool:
            said = self.c.attributes(node)
            name = f"holdfast-{self.name}"
            return name not in said and reason in said.get(f"{name}-reason", "")
        self.c.wait(look, f"the reason {reason} on {node}, and nothing that is wrong")

    def wait_untold(self, node: str) -> None:
        self.c.wait(lambda: not any(name.startswith(f"holdfast-{self.name}")
                                    for name in self.c.attributes(node)),
                    f"nothing is told of {node} any more")
