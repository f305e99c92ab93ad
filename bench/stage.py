# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two guests side by side: one protected, one plain, of which only one at a time may run.

Theory of operation. A ratio says something only when both of its sides were measured under the same
conditions, and the machine's change from one minute to the next. So both guests are there all the
time, from the same image and command line, and rounds alternate between them; whoever is not
measured is stopped by SIGSTOP, QEMU and keepers alike, and takes no processor time. The protected
one has hosts a and b, the plain one host c.

Pauses are read from QEMU's own STOP and RESUME events, on a QMP monitor of the benchmark's that
both have beside holdfast's: so both sides are measured by the same means, and neither the time that
this program takes nor that of the keeper's statistics is in it.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "lab"))
# pylint: disable=wrong-import-position
from lab import Guest, Lab, LabError, Proc, Vm, tool  # noqa: E402

PROTECTED_HOSTS = ("a", "b")
PLAIN_HOST = "c"
SETTLE_S = 0.5
START_DEADLINE_S = 120.0


def poll_until(what: str, probe: Callable[[], Any], timeout_s: float) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(LabError):
            answer = probe()
            if answer:
                return answer
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.05)


class Monitor:
    """A QMP monitor that only listens."""

    def __init__(self, path: Path):
        self._sock = socket.socket(socket.AF_UNIX)
        poll_until("the monitor", lambda: self._connect(path), 30.0)
        self._sock.sendall(b'{"execute":"qmp_capabilities"}\n')
        self._rest = b""

    def _connect(self, path: Path) -> bool:
        try:
            self._sock.connect(str(path))
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._sock.close()

    def events(self) -> list[dict[str, Any]]:
        """Those that have come."""
        data = [self._rest]
        with contextlib.suppress(BlockingIOError):
            while chunk := self._sock.recv(65536, socket.MSG_DONTWAIT):
                data.append(chunk)
        *lines, self._rest = b"".join(data).split(b"\n")
        return [message for message in map(json.loads, lines) if "event" in message]

    def pauses_ms(self, seconds: float) -> list[float]:
        """Of the checkpoints of that time. Looked at rarely, so as not to disturb."""
        self.events()
        events, deadline = [], time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            events += self.events()
        return list(pauses_in(events))


def pauses_in(events: list[dict[str, Any]]) -> Iterator[float]:
    """From STOP over a completed migration to RESUME; other stops are not checkpoints."""
    stopped: Optional[float] = None
    is_checkpoint = False
    for event in events:
        at = event["timestamp"]
        now_ms = at["seconds"] * 1e3 + at["microseconds"] / 1e3
        if event["event"] == "STOP":
            stopped, is_checkpoint = now_ms, False
        elif event["event"] == "MIGRATION" and event["data"]["status"] == "completed":
            is_checkpoint = True
        elif event["event"] == "RESUME" and stopped is not None:
            if is_checkpoint:
                yield now_ms - stopped
            stopped = None


class Side:
    """One of the two guests, and the hosts that it needs."""

    def __init__(self, lab: Lab, vm: Vm, hosts: tuple[str, ...]):
        self.lab = lab
        self.vm = vm
        self.hosts = hosts
        self.guest = Guest(lab, vm.addr)
        self.monitor: Optional[Monitor] = None

    def watch(self, host: str) -> Monitor:
        """The monitor of the QEMU on this host; of the last one that was asked for."""
        if self.monitor:
            self.monitor.close()
        self.monitor = Monitor(self.lab.host_dir(host) / f"{self.vm.name}.qmp")
        return self.monitor

    def signal(self, number: int) -> None:
        for host in self.hosts:
            for pid in self.lab.pids(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def status(self, host: str) -> dict[str, Any]:
        return self.vm.status(host)

    def wait_protected(self, host: str) -> None:
        poll_until("protection", lambda: self.status(host)["protected"], START_DEADLINE_S)


def make_vm(lab: Lab, name: str, number: int) -> Vm:
    return Vm(lab, name=name, addr=f"10.77.0.{number}", mac=f"52:54:00:77:00:{number:02x}",
              extra=("-qmp", f"unix:{lab.self_dir}/{name}.qmp,server=on,wait=off"))


class Stage:
    """with Stage(options for holdfast) as stage: ..."""

    def __init__(self, *options: str):
        # A side that is stopped for the other's turn must not be taken for lost.
        self.options = ("--peer-timeout", "10min", *options)
        self.lab = Lab((*PROTECTED_HOSTS, PLAIN_HOST))
        self.protected: Side
        self.plain: Side
        self._bare: Proc

    def __enter__(self) -> "Stage":
        self.lab.__enter__()
        try:
            self._start()
        except BaseException as error:
            self._tell(error)
            self.lab.close()
            raise
        return self

    def __exit__(self, unused: object, error: Optional[BaseException], trace: object) -> None:
        self._tell(error)
        self.lab.close()

    def _tell(self, error: Optional[BaseException]) -> None:
        """What is known, when something went wrong."""
        if not isinstance(error, LabError):
            return
        for proc in self.lab.procs:
            print(f"--- {proc.name}: {proc.events[-2:]}\n{proc.log_tail()}", file=sys.stderr)
        for host in PROTECTED_HOSTS:
            with contextlib.suppress(LabError, ValueError):
                print(f"--- status on {host}: {self.protected.status(host)}", file=sys.stderr)

    def _start(self) -> None:
        self.protected = Side(self.lab, make_vm(self.lab, "held", 10), PROTECTED_HOSTS)
        self.plain = Side(self.lab, make_vm(self.lab, "plain", 11), (PLAIN_HOST,))
        self.protected.vm.standby("b", "a", *self.options)
        self.protected.vm.run("a", "b", *self.options)
        self._start_plain()
        self._bare.wait_event("ready", START_DEADLINE_S)
        for side in (self.protected, self.plain):
            side.guest.wait_up(START_DEADLINE_S)
            side.watch(side.hosts[0])
        self.protected.wait_protected("a")

    def _start_plain(self) -> None:
        vm = self.plain.vm
        self.lab.ip(PLAIN_HOST, "tuntap", "add", "dev", vm.tap, "mode", "tap")
        self.lab.ip(PLAIN_HOST, "link", "set", vm.tap, "master", "br0", "up")
        argv = vm.qemu_argv(",script=no,downscript=no")
        self._bare = self.lab.spawn(PLAIN_HOST, [tool("bench/bench-bare"), "net0", "--", *argv],
                                    is_json=True, has_stdin=True)

    def order(self, text: str) -> None:
        """To the plain guest's driver (bench/bare.c)."""
        stdin = self._bare.popen.stdin
        assert stdin is not None
        stdin.write(f"{text}\n".encode())
        stdin.flush()
        self._bare.wait_event("looping" if text.startswith("loop") else "resting")

    @contextlib.contextmanager
    def only(self, side: Side) -> Iterator[Side]:
        """Nothing but this side runs."""
        other = self.plain if side is self.protected else self.protected
        other.signal(signal.SIGSTOP)
        try:
            time.sleep(SETTLE_S)
            yield side
        finally:
            other.signal(signal.SIGCONT)

    def turns(self, rounds: int) -> Iterator[Side]:
        """A, B, A, B, ..., each alone."""
        for _ in range(rounds):
            for side in (self.protected, self.plain):
                with self.only(side):
                    yield side
