# SPDX-License-Identifier: LGPL-2.1-or-later
"""A protected VM on two hosts of a lab, as the integration tests use it.

Theory of operation. A Pair has a primary and a standby; a failover swaps them, and renew() starts a
new standby on the side that died, so that one boot of the guest serves many failovers. A Keeper is
one keeper process: it is asked over its control socket, and its events are followed from its start
over a second connection, so that none is missed and nothing has to be slept for.

What a test knows about the guest comes from outside of it: the clients of tests/lab see each byte
of a TCP stream, and each value of a counter that the guest holds in RAM.
"""

import json
import os
import select
import signal
import socket
import time
from pathlib import Path
from typing import Any, Callable, Optional

from checks import expect, poll, say
from lab import Guest, Lab, LabError, Proc, Vm

HOSTS = ("hostA", "hostB")
INTERFACE = "org.holdfast.Keeper"
START_S = 60.0
READY_S = 90.0
FAILOVER_S = 30.0


class Refused(LabError):
    """The keeper answered an order with an error; the text is the reason."""


class Control:
    """A connection to a keeper's control socket (Varlink)."""

    def __init__(self, path: Path):
        self._sock = socket.socket(socket.AF_UNIX)
        self._buffer = b""
        try:
            self._sock.connect(str(path))
        except OSError:
            self._sock.close()
            raise

    def close(self) -> None:
        self._sock.close()

    def send(self, method: str, is_more: bool = False, **parameters: Any) -> None:
        call: dict[str, Any] = {"method": f"{INTERFACE}.{method}", "parameters": parameters}
        if is_more:
            call["more"] = True
        self._sock.sendall(json.dumps(call).encode() + b"\0")

    def receive(self, timeout_s: float) -> Optional[dict[str, Any]]:
        """The next reply, or None when none came in time. EOFError when there will be none."""
        deadline = time.monotonic() + timeout_s
        while b"\0" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._sock], [], [], left)[0]:
                return None
            try:
                data = self._sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        reply = json.loads(line)
        if "error" in reply:
            raise Refused(json.dumps(reply))
        return reply.get("parameters", {})


class Keeper:
    """One keeper process, from its start to its end."""

    def __init__(self, vm: Vm, host: str, proc: Proc):
        self.vm, self.host, self.proc = vm, host, proc
        self.path = vm.lab.host_dir(host) / "run" / vm.name / "control"
        self.events: list[dict[str, Any]] = []
        self._next = 0
        self._log_start = proc.log.stat().st_size
        self._control = self._connect()
        self._follow = Control(self.path)
        self._follow.send("Events", is_more=True)
        self.qemu_pid = int(self.status()["qemu_pid"])

    def _connect(self) -> Control:
        """A socket left by a keeper that was killed answers nobody, so this finds the new one."""
        deadline = time.monotonic() + START_S
        while self.proc.is_running() and time.monotonic() < deadline:
            try:
                return Control(self.path)
            except OSError:
                time.sleep(0.02)
        raise LabError(f"keeper on {self.host} did not start: {self.log()}")

    def close(self) -> None:
        self._control.close()
        self._follow.close()

    @property
    def pid(self) -> int:
        return self.proc.pid

    def log(self) -> str:
        """What this keeper and its QEMU have said."""
        with open(self.proc.log, "rb") as f:
            f.seek(getattr(self, "_log_start", 0))
            return f.read().decode(errors="replace")

    def ask(self, method: str, timeout_s: float = 20.0, **parameters: Any) -> dict[str, Any]:
        self._control.send(method, **parameters)
        reply = self._control.receive(timeout_s)
        if reply is None:
            raise LabError(f"the keeper on {self.host} does not answer {method}")
        return reply

    def status(self) -> dict[str, Any]:
        return self.ask("Status")["status"]

    def _take_event(self, timeout_s: float) -> bool:
        reply = self._follow.receive(timeout_s)
        if reply is None:
            return False
        self.events.append(reply["event"])
        return True

    def seen(self, name: str) -> bool:
        """Has it told this event, ever? Takes what has come by now."""
        try:
            while self._take_event(0):
                pass
        except EOFError:
            pass
        return any(event["event"] == name for event in self.events)

    def wait(self, *names: str, timeout_s: float = READY_S,
             match: Callable[[dict[str, Any]], bool] = lambda event: True) -> dict[str, Any]:
        """The next event of one of these names. Those before it are passed over."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._next < len(self.events):
                event = self.events[self._next]
                self._next += 1
                if event["event"] in names and match(event):
                    return event
            try:
                is_more = self._take_event(deadline - time.monotonic())
            except EOFError:
                raise LabError(f"{self.host}: the keeper ended before {names}: "
                               f"{self.log()}") from None
            if not is_more:
                raise LabError(f"{self.host}: none of {names} within {timeout_s:g} s; "
                               f"state {self.status()['state']}: {self.log()}")

    def exit_code(self, timeout_s: float = 30.0) -> int:
        return self.proc.wait(timeout_s)


class Pair:
    """with Pair(smp=2) as pair: ... The VM runs on hostA, protected by hostB. Options are
    `holdfast`'s, for both sides, or for one of them. is_waiting=False: not until it is protected."""

    def __init__(self, options: tuple[str, ...] = (), run: tuple[str, ...] = (),
                 standby: tuple[str, ...] = (), is_waiting: bool = True, **vm_options: Any):
        self.is_waiting = is_waiting
        self.lab = Lab(HOSTS)
        self.vm = Vm(self.lab, **vm_options)
        self.options, self.run_options, self.standby_options = options, run, standby
        self.keepers: list[Keeper] = []

    def __enter__(self) -> "Pair":
        self.lab.__enter__()
        try:
            self.guest = Guest(self.lab)
            self.start()
        except BaseException:
            self.tell()
            self.lab.close()
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        if kind is not None:
            self.tell()
        self.guest.close()
        for keeper in self.keepers:
            keeper.close()
        self.lab.close()

    def tell(self) -> None:
        """All logs, for the one who has to find out."""
        for keeper in self.keepers[-4:]:
            say(f"--- keeper {keeper.pid} on {keeper.host}")
            say(keeper.log()[-3000:])

    # --- life ---

    def _keeper(self, host: str, proc: Proc) -> Keeper:
        keeper = Keeper(self.vm, host, proc)
        self.keepers.append(keeper)
        return keeper

    def start_standby(self, host: str, peer: str) -> Keeper:
        proc = self.vm.standby(host, peer, *self.options, *self.standby_options)
        keeper = self._keeper(host, proc)
        keeper.wait("idle")
        return keeper

    def start_primary(self, host: str, peer: str) -> Keeper:
        return self._keeper(host, self.vm.run(host, peer, *self.options, *self.run_options))

    def start(self) -> None:
        a, b = HOSTS
        self.standby = self.start_standby(b, a)
        self.primary = self.start_primary(a, b)
        self.guest.wait_up()
        if self.is_waiting:
            self.wait_protected()

    def wait_protected(self, timeout_s: float = READY_S) -> None:
        """Until the standby could take over, and both sides say so."""
        self.standby.wait("ready", timeout_s=timeout_s)
        poll(lambda: self.primary.status()["protected"], "the primary says protected")

    def renew(self) -> None:
        """A standby on the dead side: protection must come back by itself."""
        self.standby = self.start_standby(self.dead_host, self.primary.host)
        self.wait_protected()

    @property
    def dead_host(self) -> str:
        return HOSTS[1] if self.primary.host == HOSTS[0] else HOSTS[0]

    # --- deaths ---

    def kill_primary(self, how: str) -> None:
        """how: "qemu", "keeper" or "host"."""
        if how == "host":
            self.lab.kill_host(self.primary.host)
        else:
            pid = self.primary.qemu_pid if how == "qemu" else self.primary.pid
            os.kill(pid, signal.SIGKILL)

    def failover(self, how: str) -> dict[str, Any]:
        """Kill the primary; when the standby is live it is the primary. Its event "live"."""
        dead = self.primary
        self.kill_primary(how)
        live = self.standby.wait("live", timeout_s=FAILOVER_S)
        expect(dead.exit_code() == (4 if how == "qemu" else -signal.SIGKILL),
               f"exit code {dead.exit_code()} after death of {how}: {dead.log()}")
        poll(lambda: not self.processes(dead.host), f"processes on {dead.host} after its death")
        self.primary = self.standby
        return live

    def hand_over(self) -> dict[str, Any]:
        """By order, with both sides alive. Event "live"."""
        old = self.primary
        self.standby.ask("Promote", force=False)
        live = self.standby.wait("live", timeout_s=FAILOVER_S)
        expect(old.exit_code() == 0, f"exit code of {old.host} after the hand-over: {old.log()}")
        self.primary = self.standby
        return live

    def processes(self, host: str) -> list[int]:
        return self.lab.pids(host)


class Load:
    """The clients that see whether the guest keeps its promises. One of each, for a guest's life."""

    def __init__(self, pair: Pair, limit_bytes_per_s: int = 4_000_000):
        self.pair = pair
        addr, lab = pair.vm.addr, pair.lab
        self.counter = lab.client("counter", addr, "--report", "50", "--interval", "5000")
        self.stream = lab.client("stream", addr, "--report", "50", "--limit",
                                 str(limit_bytes_per_s))
        self.boot = pair.guest.stat()["boot"]
        self.wait_progress()

    def wait_progress(self, timeout_s: float = 30.0) -> None:
        """Both get something new from the guest after now."""
        now_ns = time.monotonic_ns()
        for proc, key in ((self.counter, "highest"), (self.stream, "bytes")):
            first = proc.wait_event("progress", timeout_s, lambda e: e["mono_ns"] > now_ns)
            proc.wait_event("progress", timeout_s, lambda e: e[key] > first[key])

    def finish(self) -> dict[str, dict[str, Any]]:
        """All promises kept? The clients' results."""
        counter, stream = self.counter.stop(), self.stream.stop()
        expect(counter.get("ok"), f"counter: {counter}")
        expect(stream.get("ok") and stream["bytes"] > 0, f"stream: {stream}")
        stat = self.pair.guest.stat()
        expect(stat["boot"] == self.boot, "the guest has started anew")
        expect(not stat["violated"] and stat["counter"] >= counter["highest"],
               f"the guest knows less than the outside has seen: {stat}, {counter}")
        return {"counter": counter, "stream": stream}


def expect_nothing_left(pair: Pair, host: str) -> None:
    """A keeper that ended in order leaves no process, file or device on its host."""
    lab = pair.lab
    poll(lambda: not pair.processes(host), f"processes on {host}: {pair.processes(host)}")
    run, shm = lab.host_dir(host) / "run", lab.shm / host
    expect(not list(run.rglob("*")), f"in the run folder: {list(run.rglob('*'))}")
    expect(not list(shm.iterdir()), f"in /dev/shm: {list(shm.iterdir())}")
    expect(pair.vm.tap not in lab.ip(host, "link"), "the TAP device is still there")
