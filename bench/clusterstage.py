# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs under a real Pacemaker, to be failed and watched: the same guest under ocf:holdfast:vm and
under ocf:heartbeat:VirtualDomain, on the same nodes.

Theory of operation. All clocks are the machine's CLOCK_REALTIME. The guest (tests/guest/tiny.S,
mode 5) writes to a disk that both nodes reach, a record at once when it begins and then 20 times a
second: so "runs again" is the first record of a new boot, looked for every 2 ms. What Pacemaker did
is what its executor says in its log, with time stamps that are up to 4 ms early. When a failure
happened is when the signal was sent, or QEMU's own time stamp of its event.
"""

import contextlib
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from stage import LabError, poll_until

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS / "lab")]
# pylint: disable=wrong-import-position
import lablibvirt  # noqa: E402
from labcluster import Cluster  # noqa: E402
from labfreeze import Monitor, MonitorGone, event_ns  # noqa: E402
from labnet import SWITCH, build_dir  # noqa: E402
from labwitness import (MODE_ADDRESS, TAG_ADDRESS, TICKS, Image, Tick,  # noqa: E402
                        tick_argv)  # noqa: E402

LOOK_EVERY_S = 0.002
STAMP_EARLY_NS = 5_000_000
RECOVERY_S = 60.0
SETTLE_S = 60.0
HANG_TIMEOUT_S = 2
MONITOR_S = 10.0
PAIR_PORT = 7400
PAIR_S = 90.0
LOG = "/var/log/pacemaker/pacemaker.log"
STAMP = r"(\w{3} \d\d \d\d:\d\d:\d\d\.\d{3}) (\S+) pacemaker-execd\s.*"
BEGUN = re.compile(STAMP + r"executing - rsc:([^\s:]+)\S* action:(\w+) call_id:(\d+)")
DONE = re.compile(STAMP + r"info: ([^\s:]+)\S* (\w+) \(call (\d+), PID \d+\) (.*)")
RECOVERY = ("stop", "start", "demote", "promote")
SO_PEERCRED = struct.Struct("3i")


# --- the disk ------------------------------------------------------------------------------------

class TickDisk:
    """An NBD export that both nodes reach, whose requests fail while fail() says so."""

    def __init__(self, cluster: Cluster, name: str):
        self.cluster = cluster
        path = cluster.shared / f"{name}.raw"
        self.image = Image(path)
        self.socket = cluster.shared / f"{name}.sock"
        self._trigger = cluster.shared / f"{name}.fails"
        self.proc = cluster.lab.spawn(SWITCH, [
            "nbdkit", "-f", "-U", str(self.socket), "--filter=error", "file", str(path),
            "error=EIO", "error-rate=100%", f"error-file={self._trigger}"], name=f"{name}-nbdkit")
        poll_until("nbdkit", self.socket.exists, 30.0)

    def close(self) -> None:
        self.image.close()

    def fail(self, is_failing: bool) -> None:
        if is_failing:
            self._trigger.touch()
        else:
            self._trigger.unlink(missing_ok=True)

    def boot_ns(self, last: Optional[Tick], timeout_s: float) -> int:
        """When the first record of a new boot was there; 0: none came."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            now = self.image.head()
            if now and (not last or now.tag != last.tag or now.tick < last.tick):
                return time.time_ns()
            last = now or last
            time.sleep(LOOK_EVERY_S)
        return 0

    def is_ticking(self) -> bool:
        before = self.image.head()
        time.sleep(0.2)
        return before is not None and self.image.head() != before


# --- what Pacemaker did --------------------------------------------------------------------------

@dataclass
class Action:
    """Of a resource agent."""
    began_ns: int
    node: str
    resource: str
    name: str
    ended_ns: int = 0
    result: str = ""

    @property
    def took_ms(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e6


def stamp_ns(text: str) -> int:
    """The log does not say the year."""
    at = datetime.strptime(f"{datetime.now().year} {text}", "%Y %b %d %H:%M:%S.%f")
    return round(at.timestamp() * 1000) * 10**6


class ActionLog:
    """The executors' of all nodes. Any thread."""

    def __init__(self, cluster: Cluster):
        self._paths = [cluster.nodes[name].disk(LOG) for name in cluster.names]
        self._at = {path: 0 for path in self._paths}
        self._lock = threading.Lock()
        self._actions: list[Action] = []
        self._open: dict[tuple[str, str, str, str], Action] = {}

    def since(self, resource: str, time_ns: int) -> list[Action]:
        """In the order of their beginning."""
        with self._lock:
            for path in self._paths:
                self._read(path)
            return sorted((a for a in self._actions
                           if a.resource == resource and a.began_ns >= time_ns - STAMP_EARLY_NS),
                          key=lambda a: a.began_ns)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        with open(path, "rb") as f:
            f.seek(self._at[path])
            data = f.read()
        whole = data[:data.rfind(b"\n") + 1]
        self._at[path] += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        if found := BEGUN.search(line):
            stamp, node, resource, name, call = found.groups()
            action = Action(stamp_ns(stamp), node, resource, name)
            self._actions.append(action)
            self._open[node, resource, name, call] = action
        elif found := DONE.search(line):
            stamp, node, resource, name, call, result = found.groups()
            done = self._open.pop((node, resource, name, call), None)
            if done:
                done.ended_ns, done.result = stamp_ns(stamp), result

    def wait_done(self, resource: str, name: str, since_ns: int, timeout_s: float
                  ) -> Optional[Action]:
        """The first of that name that has ended; None: none has."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for action in self.since(resource, since_ns):
                if action.name == name and action.ended_ns:
                    return action
            time.sleep(0.05)
        return None


# --- VMs -----------------------------------------------------------------------------------------

@dataclass
class Failure:
    """What came of one; 0: did not happen while it was watched."""
    time_ns: int
    detected_ns: int = 0
    first_ns: int = 0
    running_ns: int = 0
    stop_ms: float = 0.0
    actions: list[Action] = field(default_factory=list)

    def ms(self, moment: str) -> float:
        """From the failure until "first", "running"..., which must have come."""
        at_ns = int(getattr(self, f"{moment}_ns"))
        if not at_ns:
            raise LabError(f"not {moment}")
        return (at_ns - self.time_ns) / 1e6


def peer_pid(path: Path) -> int:
    """Who listens there, as this process counts pids."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, SO_PEERCRED.size)
    return int(SO_PEERCRED.unpack(data)[0])


class ClusterVm:
    """A resource on two nodes."""
    agent = ""

    def __init__(self, cluster: Cluster, log: ActionLog, name: str):
        self.cluster, self.log, self.name = cluster, log, name
        self.disk = TickDisk(cluster, name)

    def close(self) -> None:
        self.disk.close()

    # --- what runs ---

    def monitor_args(self) -> list[str]:
        """Of QEMU, on both sides."""
        return ["-qmp", f"unix:/run/{self.name}.qmp,server=on,wait=off"]

    def parameters(self) -> str:
        raise NotImplementedError

    def primitive(self) -> str:
        return (f"primitive {self.name} {self.agent} params {self.parameters()} "
                f"op monitor interval={MONITOR_S:g}s timeout=30s op start interval=0 timeout=90s "
                "op stop interval=0 timeout=90s meta migration-threshold=1 "
                "resource-stickiness=1000\n")

    def node(self) -> str:
        """Where it has run last, by its own word."""
        record = self.disk.image.head()
        if record is None:
            raise LabError(f"{self.name} has never run")
        return self.cluster.names[record.tag - 1]

    def qmp_path(self, node: str) -> Path:
        return self.cluster.nodes[node].run_dir / f"{self.name}.qmp"

    def qemu_pid(self, node: str) -> int:
        return peer_pid(self.qmp_path(node))

    def wait_ticking(self) -> None:
        poll_until(f"{self.name} runs", self.disk.is_ticking, SETTLE_S)

    # --- trouble; each returns when it happened ---

    def kill(self, node: str) -> int:
        pid = self.qemu_pid(node)
        now = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        return now

    def hang(self, node: str) -> int:
        pid = self.qemu_pid(node)
        now = time.time_ns()
        os.kill(pid, signal.SIGSTOP)
        return now

    def panic(self, node: str) -> int:
        return self._until_event(node, "GUEST_PANICKED", lambda m: m.send("inject-nmi"))

    def ioerror(self, node: str) -> int:
        """The disk is in order again as soon as the guest stands."""
        try:
            return self._until_event(node, "BLOCK_IO_ERROR", lambda m: self.disk.fail(True))
        finally:
            self.disk.fail(False)

    def nodeloss(self, node: str) -> int:
        now = time.time_ns()
        self.cluster.cut_power(node)
        return now

    def _until_event(self, node: str, name: str, provoke: Callable[[Monitor], Any]) -> int:
        monitor = Monitor(self.qmp_path(node)).greet()
        try:
            provoke(monitor)
            return event_ns(monitor.wait_event(name))
        except MonitorGone:
            raise LabError(f"{self.name}: QEMU is gone before it has told {name}") from None
        finally:
            monitor.close()

    # --- one failure ---

    def fail(self, cause: str, watch_s: float = RECOVERY_S) -> Failure:
        """Provokes it, and sees what comes of it."""
        node, last = self.node(), self.disk.image.head()
        failure = Failure(getattr(self, cause)(node))
        failure.running_ns = self.disk.boot_ns(last, watch_s)
        self._look(failure, node)
        return failure

    def _look(self, failure: Failure, node: str) -> None:
        failure.actions = [a for a in self.log.since(self.name, failure.time_ns)
                           if a.name in RECOVERY]
        if failure.actions:
            failure.first_ns = max(failure.time_ns, failure.actions[0].began_ns)
        stops = [a for a in failure.actions if a.name == "stop" and a.node == node and a.ended_ns]
        failure.stop_ms = stops[0].took_ms if stops else 0.0

    def mend(self, node: str) -> None:
        """After a failure on that node: it may run there again."""
        self.cluster.sh(self.cluster.some_node(), ["crm_resource", "--cleanup", "-r", self.name],
                        60.0)
        self.cluster.wait(self.cluster.is_idle, "Pacemaker is idle")
        self.wait_ticking()


class HoldfastVm(ClusterVm):
    """ocf:holdfast:vm: a VM with a lease on the shared storage, without a standby. Its guest does
    not listen when it is asked to shut down."""
    agent = "ocf:holdfast:vm"

    def __init__(self, cluster: Cluster, log: ActionLog, name: str, **settings: str):
        super().__init__(cluster, log, name)
        rows = {"manager": "pacemaker", "unprotected": "disk0", "on-io-error": "freeze",
                "hang-timeout": f"{HANG_TIMEOUT_S}s",
                **{key.replace("_", "-"): value for key, value in settings.items()}}
        for tag, node in enumerate(cluster.names, 1):
            text = "".join(f"{key} = {value}\n" for key, value in rows.items())
            text = f"[vm]\nargs = {self.qemu_args(tag)}\n{text}"
            cluster.define(name, text, nodes=[node])

    def qemu_args(self, tag: int) -> str:
        drive = f"file=nbd+unix:///?socket={self.disk.socket},id=disk0,cache=none"
        return tick_argv(drive, str(tag), " ".join(self.monitor_args()))

    def parameters(self) -> str:
        return f"vm={self.name} shutdown_timeout=1s"

    def fault_ns(self, node: str, since_ns: int) -> int:
        """When holdfast has noticed; 0: it does not say."""
        events = self.cluster.events(node)
        try:
            return int(events.wait("vm-fault", 5.0, lambda e: bool(
                e.get("vm") == self.name and e["time_ns"] >= since_ns))["time_ns"])
        except LabError:
            return 0
        finally:
            events.close()

    def mend(self, node: str) -> None:
        self.release(node)
        super().mend(node)

    def release(self, node: str) -> None:
        for frozen in self.cluster.vm(node, self.name).get("frozen") or []:
            self.cluster.cli(node, "release", f"{self.name}@{frozen}")


class PairVm:
    """ocf:holdfast:vm as a promotable clone: the same guest with a synchronised standby, and its
    disk on storage that both reach."""

    def __init__(self, cluster: Cluster, name: str):
        self.cluster, self.name = cluster, name
        image = cluster.shared / f"{name}.raw"
        Image(image).close()
        hosts = "".join(f"[host {node}]\naddress = {cluster.lab.repl_addr(node)}:{PAIR_PORT}\n"
                        for node in cluster.names)
        monitor = f"-qmp unix:/run/{name}.qmp,server=on,wait=off"
        cluster.define(name, f"""[vm]
args = {tick_argv(f'file={image},file.locking=off', '0', monitor)}
manager = pacemaker
redo-journal = {cluster.shared}/{name}.redo
{hosts}[protection]
disk-layout = shared
""")

    def start(self) -> None:
        """It runs, and is protected."""
        self.cluster.configure(
            f"primitive {self.name} ocf:holdfast:vm params vm={self.name} shutdown_timeout=1s "
            f"op monitor interval={MONITOR_S:g}s timeout=20s role=Promoted "
            "op monitor interval=11s timeout=20s role=Unpromoted "
            "op start interval=0 timeout=90s op stop interval=0 timeout=90s "
            "op promote interval=0 timeout=60s op demote interval=0 timeout=90s\n"
            f"clone {self.name}-pair {self.name} meta promotable=true notify=true clone-max=2 "
            "interleave=true\n")
        self.wait_protected()

    def promoted(self) -> str:
        """Where; "": nowhere yet."""
        roles = self.cluster.instances(self.name)
        return next((node for node, role in roles.items() if role == "Promoted"), "")

    def wait_protected(self) -> None:
        """Where Pacemaker has it promoted."""
        def is_protected() -> bool:
            node = self.promoted()
            return bool(node and len(self.cluster.instances(self.name)) == 2
                        and self.cluster.vm(node, self.name).get("protected"))
        self.cluster.wait(is_protected, f"{self.name} is protected", PAIR_S)

    def kill(self) -> float:
        """Until the standby's guest runs, in ms."""
        node = self.promoted()
        other = next(name for name in self.cluster.names if name != node)
        pid = peer_pid(self.cluster.nodes[node].run_dir / f"{self.name}.qmp")
        now_ns = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        events = self.cluster.events(other)
        try:
            live = events.wait("live", RECOVERY_S, lambda e: bool(
                e.get("vm") == self.name and e["time_ns"] >= now_ns))
        finally:
            events.close()
        self.cluster.wait(lambda: self.promoted() == other, f"{self.name} is followed", PAIR_S)
        self.wait_protected()
        return float(live["time_ns"] - now_ns) / 1e6


def loader_args(address: int, value: int, size_bytes: int) -> list[str]:
    return ["-device", f"loader,addr={address:#x},data={value},data-len={size_bytes}"]


class LibvirtVm(ClusterVm):
    """ocf:heartbeat:VirtualDomain. force_stop: stops without asking the guest, which does not
    listen; the quickest that it has."""
    agent = "ocf:heartbeat:VirtualDomain"

    def __init__(self, cluster: Cluster, log: ActionLog, name: str, force_stop: bool = True):
        super().__init__(cluster, log, name)
        self.force_stop = force_stop
        bios = build_dir() / "tests/guest/tiny.bin"
        for tag, node in enumerate(cluster.names, 1):
            args = [*loader_args(MODE_ADDRESS, TICKS, 1), *loader_args(TAG_ADDRESS, tag, 4),
                    *self.monitor_args()]
            path = cluster.lab.host_dir(node) / f"{name}.xml"
            path.write_text(lablibvirt.domain(name, bios=bios, nbd_socket=self.disk.socket,
                                              args=args))

    def parameters(self) -> str:
        return (f"config={self.cluster.lab.self_dir}/{self.name}.xml "
                f"hypervisor={lablibvirt.URI} force_stop={str(self.force_stop).lower()}")


# --- the stage -----------------------------------------------------------------------------------

class ClusterStage:
    """with ClusterStage(has_libvirt) as s: two nodes, with both kinds of management."""

    def __init__(self, has_libvirt: bool):
        self.cluster = Cluster()
        self.libvirt: dict[str, lablibvirt.Libvirt] = {}
        self.has_libvirt = has_libvirt
        self.vms: list[ClusterVm] = []
        self.log: ActionLog

    def __enter__(self) -> "ClusterStage":
        self.cluster.__enter__()
        try:
            self.cluster.up()
            self.log = ActionLog(self.cluster)
            for name in self.cluster.names if self.has_libvirt else ():
                self.libvirt[name] = lablibvirt.Libvirt(self.cluster.nodes[name])
                self.libvirt[name].start()
        except BaseException:
            self.cluster.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for vm in self.vms:
            vm.close()
        self.cluster.__exit__(*error)  # type: ignore[arg-type]

    def boot(self, node: str) -> None:
        """One that was lost."""
        self.cluster.boot(node)
        if node in self.libvirt:
            self.libvirt[node].start()

    @contextlib.contextmanager
    def running(self, *vms: ClusterVm) -> Iterator[None]:
        """They are resources, and run; in the end they are none any more."""
        self.vms += vms
        self.cluster.configure("".join(vm.primitive() for vm in vms))
        for vm in vms:
            vm.wait_ticking()
        yield
        for vm in vms:
            self.cluster.sh(self.cluster.some_node(), ["cibadmin", "-D", "-o", "resources", "-X",
                                                       f'<primitive id="{vm.name}"/>'])
        self.cluster.wait(self.cluster.is_idle, "Pacemaker is idle")
