# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs to be frozen, and what stands outside of them: QEMU's own monitor, certificates, and a
watcher that proves that a frozen VM changes nothing.

Theory of operation. TinyVm is a guest without a kernel (tests/guest/tiny.S), at work within a
fraction of a second: for all that does not need one. Its orders are NMIs, sent through a QMP socket
that the user's own command line has, as any user's might. Real guests get the same monitor by
monitor_argv(). Watcher holds images and the network against the time in the certificate: an image's
last change and a frame's time stamp are the kernel's, not ours.
"""

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Sequence

from lablease import Call
from labnet import SWITCH, Lab, LabError, Proc, build_dir, cgroup_mount, tool

# tests/guest/tiny.S
PANICS_LATER, COUNTS, PANICS, SHUTS_DOWN, RESETS = range(5)
MODE_ADDRESS = 0x500
COUNTER_ADDRESS = 0x600
MARKER = b"HOLDFAST TINY GUEST MARKER"
MARKER_ADDRESS = 0x200000

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35
ATTACH_TRIES = 5


# --- QEMU's monitor -------------------------------------------------------------------------------

class MonitorGone(LabError):
    """QEMU has closed the connection, or there is none."""


class Monitor:
    """A QMP monitor of the user's, beside holdfast's own."""

    def __init__(self, path: Path, timeout_s: float = 30.0):
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        self._sock = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._sock.connect(str(path))
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    self._sock.close()
                    raise MonitorGone(f"{path}: {error}") from None
                time.sleep(0.02)

    def greet(self, timeout_s: float = 30.0) -> "Monitor":
        self._line(timeout_s)
        self.call("qmp_capabilities")
        return self

    def close(self) -> None:
        self._sock.close()

    def _line(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._sock], [], [], left)[0]:
                raise LabError(f"QEMU says nothing within {timeout_s:g} s")
            try:
                data = self._sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise MonitorGone("QEMU has gone")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def send(self, command: str, **arguments: Any) -> None:
        text = json.dumps({"execute": command, "arguments": arguments})
        try:
            self._sock.sendall(text.encode() + b"\n")
        except OSError as error:
            raise MonitorGone(str(error)) from None

    def answer(self, timeout_s: float = 30.0) -> Any:
        while True:
            reply = self._line(timeout_s)
            if "event" in reply:
                self.events.append(reply)
            elif "error" in reply:
                raise LabError(f"QEMU: {reply['error']}")
            else:
                return reply["return"]

    def call(self, command: str, timeout_s: float = 30.0, **arguments: Any) -> Any:
        self.send(command, **arguments)
        return self.answer(timeout_s)

    def wait_event(self, name: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The first of this name, ever."""
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self.events:
                if event["event"] == name:
                    return event
            reply = self._line(max(0.0, deadline - time.monotonic()))
            if "event" in reply:
                self.events.append(reply)


def event_ns(event: dict[str, Any]) -> int:
    """QEMU's time stamp, CLOCK_REALTIME."""
    at = event["timestamp"]
    return at["seconds"] * 10**9 + at["microseconds"] * 1000


def monitor_argv(lab: Lab, name: str) -> list[str]:
    return ["-qmp", f"unix:{lab.self_dir}/{name}.qmp,server=on,wait=off"]


def monitor(lab: Lab, host: str, name: str) -> Monitor:
    return Monitor(lab.host_dir(host) / f"{name}.qmp").greet()


# --- the guest without a kernel -------------------------------------------------------------------

@dataclass
class TinyVm:
    """holdfast run, without a peer, a network or a disk."""
    lab: Lab
    name: str
    mode: int = PANICS_LATER
    mem_mib: int = 8
    extra: Sequence[str] = ()
    has_monitor: bool = True
    options: Sequence[str] = ()
    qemu: str = field(default_factory=lambda: os.environ.get("QEMU", "qemu-system-x86_64"))

    @property
    def run_dir(self) -> str:
        return str(self.lab.self_dir / "run")

    @property
    def state_dir(self) -> str:
        return str(self.lab.self_dir / "state")

    def holdfast(self) -> str:
        return os.environ.get("HOLDFAST") or tool("src/cli/holdfast")

    def qemu_argv(self) -> list[str]:
        data = [word for path in os.environ.get("QEMU_DATA", "").split(":") if path
                for word in ("-L", path)]
        return [self.qemu, *data, "-accel", "tcg,tb-size=1", "-machine", "q35", "-m",
                str(self.mem_mib), "-nodefaults", "-display", "none",
                "-bios", str(build_dir() / "tests/guest/tiny.bin"), "-device", "pvpanic",
                "-device", f"loader,addr={MODE_ADDRESS:#x},data={self.mode},data-len=1",
                *(monitor_argv(self.lab, self.name) if self.has_monitor else []), *self.extra]

    def argv(self, *options: str) -> list[str]:
        return [self.holdfast(), "run", self.name, "--run-dir", self.run_dir, "--state-dir",
                self.state_dir, *self.options, *options, "--", *self.qemu_argv()]

    def spawn(self, host: str, *options: str) -> Proc:
        return self.lab.spawn(host, self.argv(*options), name=f"{self.name}-run")

    def monitor(self, host: str) -> Monitor:
        return monitor(self.lab, host, self.name)

    def nmi(self, host: str) -> None:
        """The order that its mode waits for. It may be its last."""
        m = self.monitor(host)
        try:
            m.call("inject-nmi")
        except MonitorGone:
            pass
        finally:
            m.close()


def definition(vm: TinyVm, **settings: str) -> str:
    """Its file for holdfastd."""
    program, *args = vm.qemu_argv()
    words = " ".join(f'"{word}"' for word in args)
    rows = {"name": vm.name, "qemu": program, "lease": "no", "run-dir": vm.run_dir,
            "state-dir": vm.state_dir, "args": words,
            **{key.replace("_", "-"): value for key, value in settings.items()}}
    return "[vm]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items())


class LoneDaemon:
    """holdfastd on a host without lease storage, and with VMs that it knows by their files."""

    def __init__(self, lab: Lab, host: str):
        self.lab, self.host = lab, host
        self.folder = lab.host_dir(host)
        (self.folder / "vms").mkdir()
        (self.folder / "holdfastd.conf").write_text(
            f"[host]\nname = {host}\nid = 1\n[pacemaker]\nenabled = no\n"
            f"[paths]\nrun-dir = {lab.self_dir}/run\n"
            f"state-dir = {lab.self_dir}/state\nvms = {lab.self_dir}/vms\n")
        self.path = self.folder / "run" / ".host" / "control"
        self.proc: Proc

    def define(self, vm: TinyVm, **settings: str) -> None:
        (self.folder / "vms" / f"{vm.name}.conf").write_text(definition(vm, **settings))

    def start(self, timeout_s: float = 60.0) -> None:
        self.proc = self.lab.spawn(self.host, [tool("src/daemon/holdfastd"), "--config",
                                               f"{self.lab.self_dir}/holdfastd.conf"],
                                   name="holdfastd")
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if time.monotonic() > deadline or not self.proc.is_running():
                raise LabError(f"holdfastd: {self.proc.log_tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            self.vms()
        except LabError:
            return False
        return True

    def call(self, method: str, timeout_s: float = 60.0, **parameters: Any) -> dict[str, Any]:
        with Call(self.path) as call:
            return call(method, timeout_s, **parameters)

    def vms(self, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        return self.call("Vms", timeout_s)["vms"]

    def vm(self, name: str) -> dict[str, Any]:
        """What it says of one; {} if it knows none of that name."""
        return next((vm for vm in self.vms() if vm["vm"] == name), {})


# --- certificates ---------------------------------------------------------------------------------

@dataclass
class Instance:
    """What is kept of a frozen VM, in its folder."""
    folder: Path
    certificate: dict[str, Any]

    @property
    def id(self) -> str:
        return self.folder.name

    def step(self, name: str) -> str:
        """How it ended."""
        return self.steps()[name]

    def steps(self) -> dict[str, str]:
        return {step["step"]: step["result"] for step in self.certificate["steps"]}

    def bad_checks(self) -> list[dict[str, Any]]:
        return [c for c in self.certificate["checks"] if not c["ok"]]

    def is_certified(self) -> bool:
        return self.certificate["state"] == "frozen"


def state_folder(lab: Lab, host: str, vm: str) -> Path:
    """As this process sees it."""
    return lab.host_dir(host) / "state" / vm


def instances(lab: Lab, host: str, vm: str) -> list[Instance]:
    """All of a VM, the oldest first. One without a readable certificate is an error. Folders with a
    dot are on their way in or out."""
    found = []
    for path in state_folder(lab, host, vm).glob("frozen/[!.]*/certificate.json"):
        found.append(Instance(path.parent, json.loads(path.read_text())))
    return sorted(found, key=lambda i: i.certificate["cause_time_ns"])


# --- cgroups --------------------------------------------------------------------------------------

def cgroup_events(path: str) -> dict[str, int]:
    lines = (Path(path) / "cgroup.events").read_text().splitlines()
    return {word: int(value) for word, value in (line.split() for line in lines)}


def is_cgroup_frozen(path: str) -> bool:
    return cgroup_events(path).get("frozen") == 1


def cgroup_pids(path: str) -> list[int]:
    try:
        return [int(word) for word in (Path(path) / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def remove_cgroups(vm: str) -> None:
    """What keepers that were killed have left of this VM. Its processes may still be ending."""
    place = cgroup_mount()
    for folder, names, _ in os.walk(place) if place else ():
        for name in names:
            if name.startswith(f"holdfast-{vm}"):
                _remove_cgroup(Path(folder) / name)


def _remove_cgroup(path: Path, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Any thread of it: the first one may be a zombie while another hangs in the kernel."""
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                return True
    return False


def cpu_ms(pid: int) -> float:
    """All threads, dead ones too: the clock of a process, see clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e6
    except OSError:
        return 0.0


def pss_kib(pid: int) -> int:
    """Proportional: what is shared counts by the number of those who share it."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


# --- debuggers ------------------------------------------------------------------------------------

class Tracer:
    """strace on one process: its system calls are delayed or met by a signal. close() lets go.
    The trace itself is what read() gives."""

    def __init__(self, lab: Lab, pid: int, *options: str, is_following: bool = True):
        self._log = lab.work / f"strace-{pid}-{time.monotonic_ns()}"
        follow = ["-f"] if is_following else []
        self._argv = ["strace", *follow, "-o", str(self._log), *options, "-p", str(pid)]
        line = ""
        for _ in range(ATTACH_TRIES):
            line = self._attach()
            if "attached" in line:
                return
        raise LabError(line)

    def _attach(self) -> str:
        """What strace says first. A thread that is just ending cannot be attached to."""
        self._popen = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self._popen.stderr
        line = self._popen.stderr.readline().decode(errors="replace").strip()
        if "attached" not in line:
            self.close()
        return line

    def read(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def close(self) -> None:
        """SIGTERM would wait for a tracee that is being delayed, and a killed tracer detaches."""
        self._popen.kill()
        self._popen.wait()
        assert self._popen.stderr
        self._popen.stderr.close()

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def gdb_call(pid: int, *expressions: str) -> str:
    """A debugger attaches, has the process call its own functions, and lets go. What gdb said."""
    words = [word for e in expressions for word in ("-ex", e)]
    done = subprocess.run(["gdb", "-nx", "-batch", "-p", str(pid), *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    return done.stdout


def exports(program: Path, symbol: str) -> bool:
    """Can a debugger find this function without debug symbols?"""
    text = subprocess.run(["nm", "-D", str(program)], stdout=subprocess.PIPE, text=True,
                          check=False).stdout
    return any(line.split()[-1:] == [symbol] for line in text.splitlines())


# --- the watcher ----------------------------------------------------------------------------------

@dataclass
class ImageState:
    mtime_ns: int
    digest: str
    blocks: int

    @classmethod
    def of(cls, path: Path) -> "ImageState":
        st, digest = os.stat(path), hashlib.sha256()
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
        return cls(st.st_mtime_ns, digest.hexdigest(), st.st_blocks)


class Frames:
    """The frames of a card (its MAC address) that reach a port of the switch, with the time at
    which the kernel saw each."""

    def __init__(self, lab: Lab, host: str, mac: str):
        self._sock = lab.socket(SWITCH, socket.SOCK_RAW, socket.AF_PACKET, socket.htons(ETH_P_ALL))
        self._sock.bind((lab.cables[host, "guest"].bridge_port, 0))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.setblocking(False)
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self.times_ns: list[int] = []

    def take(self) -> None:
        while True:
            try:
                frame, ancillary, _, _ = self._sock.recvmsg(2048, 256)
            except BlockingIOError:
                return
            if frame[6:12] == self._mac:
                self.times_ns.append(self._time_ns(ancillary))

    @staticmethod
    def _time_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("@ll", data[:16])
                return int(seconds * 10**9 + nanoseconds)
        raise LabError("a frame without a time stamp")

    def close(self) -> None:
        self._sock.close()


class Watcher:
    """Who says that nothing has changed since a time. Images by their last change and content, the
    network by its frames. expect_still() may be asked as often as one likes."""

    def __init__(self, lab: Lab, host: str, macs: Sequence[str] = (), images: Sequence[Path] = ()):
        self.frames = [Frames(lab, host, mac) for mac in macs]
        self.images = list(images)
        self._first: dict[Path, ImageState] = {}

    def close(self) -> None:
        for frames in self.frames:
            frames.close()

    def expect_still(self, since_ns: int) -> None:
        for frames in self.frames:
            frames.take()
            late = [t for t in frames.times_ns if t > since_ns]
            if late:
                raise LabError(f"{len(late)} frames after the certificate's time, the first "
                               f"{(late[0] - since_ns) / 1e6:.3f} ms")
        for path in self.images:
            self._expect_image(path, since_ns)

    def _expect_image(self, path: Path, since_ns: int) -> None:
        now = ImageState.of(path)
        first = self._first.setdefault(path, now)
        if now.mtime_ns > since_ns:
            raise LabError(f"{path} has changed {(now.mtime_ns - since_ns) / 1e6:.3f} ms after the "
                           f"certificate's time")
        if now != first:
            raise LabError(f"{path} has changed: {first}, then {now}")

    def frame_count(self) -> int:
        for frames in self.frames:
            frames.take()
        return sum(len(frames.times_ns) for frames in self.frames)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT in the end if it is still there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def is_tap_held(lab: Lab, host: str, ifname: str) -> bool:
    """Does a process have this TAP interface open? Without one it has no carrier, or is gone."""
    try:
        return "NO-CARRIER" not in lab.ip(host, "-j", "link", "show", ifname)
    except LabError:
        return False
