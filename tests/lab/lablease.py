# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lease areas and the daemons that use them: holdfast's, and sanlock's own.

Theory of operation. An area is a file in the lab's folder, which all hosts reach by the same path,
or an export of a real nbdkit on a host of its own (the witness), which can be made to fail, hang,
die and come back. A daemon runs on a host of the lab, so it ends with the host or the lab, with all
that it has started. sanlock's daemons need no watchdog and no privilege here: SANLOCK_RUN_DIR gives
each a place of its own, -w 0 goes without wdmd.

Requests to a daemon go over its socket by path, from this process, over connections that are kept:
a lease that is held belongs to the connection.
"""

import json
import select
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from labnet import Lab, LabError, Proc, command, tool

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
NBD_PORT = 10809
INTERFACE = "org.holdfast.Host"
FIRST_LEASE = 3  # areas before it: the lockspace, the index, the lease of the index


def wait_until(is_true: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() >= deadline:
            raise LabError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


def lacks_sanlock() -> str:
    """Why there can be no daemon of sanlock here, or ""."""
    return "" if shutil.which("sanlock") else "sanlock is not installed"


# --- areas ---------------------------------------------------------------------------------------

class LeaseArea:
    """A file; of 512-byte sectors and 1 MiB areas, unless told otherwise."""

    def __init__(self, lab: Lab, space: str = "lab", leases: int = 16, io_timeout_s: int = 1,
                 hosts: int = 0, sector: int = 512, align_mib: int = 1):
        self.lab, self.space, self.leases = lab, space, leases
        self.sector, self.align_mib, self.align = sector, align_mib, align_mib << 20
        self.io_timeout_s, self.hosts = io_timeout_s, hosts
        self.file = lab.work / f"{space}.area"
        with open(self.file, "wb") as f:
            # Written, not sparse: nobody's lease waits for blocks to be found for it.
            for _ in range(FIRST_LEASE + leases):
                f.write(bytes(self.align))

    @property
    def location(self) -> str:
        """As a daemon on a host is told."""
        return str(self.file)

    @property
    def _geometry(self) -> tuple[str, ...]:
        return ("-Z", str(self.sector), "-A", f"{self.align_mib}M")

    def offset(self, number: int) -> int:
        """Of a lease that no index knows; number from 0."""
        assert number < self.leases
        return (FIRST_LEASE + number) * self.align

    def init(self) -> None:
        """By holdfast, with its index."""
        command(tool("src/cli/holdfast"), "lease", "init", "--lockspace", self.space,
                "--io-timeout", f"{self.io_timeout_s}s", "--sector", str(self.sector),
                "--align", f"{self.align_mib}M",
                *(["--hosts", str(self.hosts)] if self.hosts else []), str(self.file))

    def init_by_sanlock(self) -> None:
        """The lockspace alone."""
        command("sanlock", "direct", "init", "-s", f"{self.space}:0:{self.file}:0",
                "-o", str(self.io_timeout_s), *self._geometry)

    def init_lease(self, name: str, number: int) -> str:
        """By sanlock, at a place that no index knows; the lease as sanlock names it."""
        hosts = ["-n", str(self.hosts)] if self.hosts else []
        command("sanlock", "direct", "init", "-r", self.sanlock_name(name, self.offset(number)),
                *hosts, *self._geometry)
        return self.sanlock_name(name, self.offset(number))

    def sanlock_name(self, name: str, offset: int) -> str:
        return f"{self.space}:{name}:{self.file}:{offset}"

    def dump(self) -> str:
        """By sanlock."""
        size = self.file.stat().st_size
        return command("sanlock", "direct", "dump", f"{self.file}:0:{size}")

    def watch(self, host: str, offset: int) -> Proc:
        """Somebody who reads a leader all the time; see leaseformat.watch()."""
        proc = self.lab.spawn(host, [PYTHON, str(HERE / "leaseformat.py"), "--watch",
                                     str(self.file), str(offset)], is_json=True)
        proc.wait_event("ready", 30.0)
        return proc


class WitnessArea(LeaseArea):
    """The same behind an nbdkit on a host of the lab. fail(): every request is an error; pause():
    it is not answered; kill(): nobody is there. A delay holds from the next start() on. What
    sanlock and this process do to the file goes past nbdkit."""

    def __init__(self, lab: Lab, host: str, space: str = "lab", **options: int):
        super().__init__(lab, space, **options)
        self.host = host
        self._trigger = lab.work / f"{space}.fails"
        self._pidfile = lab.work / f"{space}.pid"
        self._control = lab.work / f"{space}.pause"
        self._proc: Optional[Proc] = None
        self.start()

    @property
    def location(self) -> str:
        return f"nbd://{self.lab.repl_addr(self.host)}:{NBD_PORT}/"

    def start(self, delay_ms: int = 0) -> None:
        """Before and after anything else: all is well again."""
        self.kill()
        self.fail(False)
        for path in (self._pidfile, self._control):
            path.unlink(missing_ok=True)
        delay = [f"rdelay={delay_ms}ms", f"wdelay={delay_ms}ms"] if delay_ms else []
        self._proc = self.lab.spawn(self.host, [
            "nbdkit", "-f", "-t", "16", "-P", str(self._pidfile), "-p", str(NBD_PORT),
            "-i", self.lab.repl_addr(self.host), *(["--filter=delay"] if delay else []),
            "--filter=error", "--filter=pause", "--filter=fua", "file", str(self.file), *delay,
            # The witness's disk may be a busy one; it never loses power here.
            "fuamode=discard", "error=EIO",
            "error-rate=100%", f"error-file={self._trigger}", f"pause-control={self._control}"],
            name=f"{self.space}-nbdkit")
        wait_until(self._pidfile.exists, "nbdkit")

    def fail(self, is_failing: bool) -> None:
        """From the next request on."""
        if is_failing:
            self._trigger.touch()
        else:
            self._trigger.unlink(missing_ok=True)

    def _order(self, letter: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30.0)
            sock.connect(str(self._control))
            sock.sendall(letter)
            if sock.recv(1) != letter.upper():
                raise LabError(f"nbdkit does not obey {letter!r}")

    def pause(self) -> None:
        """What is under way is done; what comes then waits for resume()."""
        self._order(b"p")

    def resume(self) -> None:
        self._order(b"r")

    def freeze(self) -> None:
        """In the middle of what is under way, until thaw()."""
        assert self._proc
        self._proc.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._proc
        self._proc.signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._proc:
            self._proc.kill()
            self._proc = None


# --- sanlock -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Owner:
    """What a program says of a lease. owner 0: it is free."""
    lver: int
    owner: int = 0
    generation: int = 0


class SanlockClient:
    """A process on a sanlock host; what it acquires it holds (sanlockclient.py)."""

    def __init__(self, host: "SanlockHost"):
        self.proc = host.lab.spawn(host.host, [PYTHON, str(HERE / "sanlockclient.py")],
                                   is_json=True, has_stdin=True, env=host.env)
        self.answer()

    def order(self, **order: Any) -> None:
        self._write(json.dumps(order))

    def _write(self, line: str) -> None:
        stdin = self.proc.popen.stdin
        assert stdin is not None
        stdin.write(f"{line}\n".encode())
        stdin.flush()

    def answer(self, timeout_s: float = 60.0) -> dict[str, Any]:
        return self.proc.wait_event("answer", timeout_s)

    def do(self, what: str, lease: str, **others: Any) -> int:
        """What sanlock says: 0, or negative."""
        self.order(do=what, lease=lease, **others)
        return int(self.answer()["rv"])

    def acquire(self, lease: str) -> int:
        return self.do("acquire", lease)

    def release(self, lease: str) -> int:
        return self.do("release", lease)

    def await_lease(self, lease: str, patience_s: float) -> None:
        """Until it is free or its owner is dead; the next word is answer()."""
        self.order(do="acquire", lease=lease, patience_s=patience_s)

    def contend(self, lease: str, gap_ms: float = 0.5, at_least: int = 1) -> None:
        """Tries all the time, until end_contest(), and so often anyway."""
        self.order(do="contend", lease=lease, gap_ms=gap_ms, at_least=at_least)

    def end_contest(self) -> dict[str, Any]:
        self._write("")
        return self.answer()

    def kill(self) -> None:
        self.proc.kill()


class SanlockHost:
    """sanlock's daemon on a host of the lab."""

    def __init__(self, lab: Lab, host: str, area: LeaseArea, host_id: int):
        self.lab, self.host, self.area, self.host_id = lab, host, area, host_id
        self.run_dir = lab.host_dir(host) / "run" / "sanlock"
        self.env = {"SANLOCK_RUN_DIR": str(self.run_dir), "SANLOCK_PRIVILEGED": "0"}
        self.daemon: Optional[Proc] = None

    def start(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.daemon = self.lab.spawn(
            self.host, ["sanlock", "daemon", "-D", "-w", "0", "-l", "0", "-h", "0", "-U", "root",
                        "-G", "root", "-L", "-1", "-S", "-1", "-e", self.host],
            name="sanlock", env=self.env)
        wait_until(lambda: self.client("status", check=False) is not None, "sanlock's daemon")

    def _argv(self, *argv: str) -> list[str]:
        return ["env", f"SANLOCK_RUN_DIR={self.run_dir}", "sanlock", "client", *argv]

    def client(self, *argv: str, check: bool = True, timeout_s: float = 120.0) -> Optional[str]:
        """What it prints; None if it fails and may."""
        done = self.lab.run(self.host, self._argv(*argv), timeout_s, check)
        return done.stdout if done.returncode == 0 else None

    def begin_join(self) -> Proc:
        """Takes 2T + 1 s; the next word is finish_join()."""
        return self.lab.spawn(self.host, self._argv(
            "add_lockspace", "-s", f"{self.area.space}:{self.host_id}:{self.area.file}:0",
            "-o", str(self.area.io_timeout_s)), name="sanlock-join")

    def finish_join(self, joining: Proc) -> None:
        # The area may have been made with T=10, or the id may have been a dead host's.
        if joining.wait(240.0) != 0:
            raise LabError(f"{self.host} does not join: {joining.log_tail()}")

    def join(self) -> None:
        self.finish_join(self.begin_join())

    def read(self, lease: str) -> Owner:
        """By sanlock's own reading: "r LEASE:LVER", and "h ID gen G timestamp S" unless free."""
        words = (self.client("read", "-r", lease, "-h", "1") or "").split()
        lver = int(words[1].rsplit(":", 1)[1])
        if "h" not in words[2:]:
            return Owner(lver)
        at = words.index("h", 2)
        return Owner(lver, int(words[at + 1]), int(words[at + 3]))

    def sees_alive(self, host_id: int) -> bool:
        """By "ID timestamp S" and its flags: LIVE, FAIL, DEAD."""
        text = self.client("gets", "-h", "1", check=False) or ""
        return any(line.split()[1:2] == [str(host_id)] and "LIVE" in line
                   for line in text.splitlines())

    def holder(self) -> SanlockClient:
        return SanlockClient(self)

    def command(self, lease: str, *argv: str) -> Proc:
        """sanlock client command: a program that runs as long as it holds the lease."""
        return self.lab.spawn(self.host, self._argv("command", "-r", lease, "-c", *argv),
                              name="sanlock-command")

    def _index(self, verb: str, name: str) -> Optional[int]:
        text = self.client(verb, "-x", f"{self.area.space}:{self.area.file}:{self.area.align}", "-e", name,
                           check=False)
        return int(text.split("offset")[1].split()[0]) if text and "offset" in text else None

    def create(self, name: str) -> Optional[int]:
        """A lease by sanlock's use of the index: its offset; None: somebody else is using it."""
        return self._index("create", name)

    def lookup(self, name: str) -> Optional[int]:
        return self._index("lookup", name)

    def request(self, lease: str, force_mode: int) -> None:
        """Asks the present owner to give it up: 1 FORCE, 2 GRACEFUL. It looks at that with its next
        renewal."""
        next_lver = self.read(lease).lver + 1
        self.client("request", "-r", f"{lease}:{next_lver}", "-f", str(force_mode))

    def die(self) -> None:
        """Everything on its host."""
        self.lab.kill_host(self.host)


# --- holdfast ------------------------------------------------------------------------------------

class CallError(LabError):
    """The daemon's error: its name without the interface, and what it says."""

    def __init__(self, name: str, parameters: dict[str, Any]):
        super().__init__(f"{name}: {parameters}")
        self.name = name.removeprefix(f"{INTERFACE}.")
        self.parameters = parameters


class Call:
    """A connection to a daemon. A call may be left open: send() it, and take its replies later."""

    def __init__(self, path: Path, timeout_s: float = 10.0, interface: str = INTERFACE):
        self._interface = interface
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout_s)
        self._buffer = b""
        try:
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise LabError(f"{path}: {error}") from None

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def send(self, method: str, is_more: bool = False, **parameters: Any) -> None:
        call: dict[str, Any] = {"method": f"{self._interface}.{method}",
                                "parameters": parameters}
        if is_more:
            call["more"] = True
        self._sock.sendall(json.dumps(call).encode() + b"\0")

    def reply(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The next one's parameters; CallError."""
        deadline = time.monotonic() + timeout_s
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._sock], [], [], left)[0]:
                raise LabError(f"holdfastd does not answer within {timeout_s:g} s")
            data = self._sock.recv(1 << 20)
            if not data:
                raise LabError("holdfastd has closed the connection")
            self._buffer += data
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(raw)
        if message.get("error"):
            raise CallError(message["error"], message.get("parameters") or {})
        return message.get("parameters") or {}

    def __call__(self, method: str, timeout_s: float = 60.0, **parameters: Any) -> dict[str, Any]:
        self.send(method, **parameters)
        return self.reply(timeout_s)


class Events:
    """A daemon's journal since number @after."""

    def __init__(self, path: Path, after: int = 0):
        self._call = Call(path)
        self.seen: list[dict[str, Any]] = []
        self._call.send("Events", is_more=True, after=after)

    def wait(self, name: str, timeout_s: float = 30.0,
             match: Callable[[dict[str, Any]], bool] = lambda event: True) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            event = self._call.reply(max(0.0, deadline - time.monotonic()))
            event = event.get("event", event)
            self.seen.append(event)
            if event.get("event") == name and match(event):
                return event

    def close(self) -> None:
        self._call.close()


class HoldfastHost:
    """holdfastd on a host of the lab. settings: keys of the section [lease] in its file."""

    def __init__(self, lab: Lab, host: str, area: LeaseArea, host_id: int, **settings: str):
        self.lab, self.host, self.area, self.host_id = lab, host, area, host_id
        self.settings = {"area": area.location, "lockspace": area.space,
                         "io-timeout": f"{area.io_timeout_s}s",
                         **{key.replace("_", "-"): value for key, value in settings.items()}}
        self.daemon: Optional[Proc] = None

    @property
    def run_dir(self) -> str:
        """As processes on the host see it."""
        return str(self.lab.self_dir / "run")

    @property
    def config(self) -> Path:
        return self.lab.host_dir(self.host) / "holdfastd.conf"

    @property
    def control(self) -> Path:
        """As this process sees it."""
        return self.lab.host_dir(self.host) / "run" / ".host" / "control"

    def write_config(self) -> None:
        (self.lab.host_dir(self.host) / "vms").mkdir(exist_ok=True)
        lease = "".join(f"{key} = {value}\n" for key, value in self.settings.items())
        self.config.write_text(f"[host]\nname = {self.host}\nid = {self.host_id}\n"
                               f"[lease]\n{lease}"
                               f"[paths]\nrun-dir = {self.run_dir}\n"
                               f"vms = {self.lab.self_dir}/vms\n"
                               f"state-dir = {self.lab.self_dir}/state\n"
                               f"[peers]\npki-dir = {self.lab.self_dir}/pki\n"
                               "[pacemaker]\nenabled = no\n")

    def start(self, is_joined: bool = True) -> None:
        self.write_config()
        self.daemon = self.lab.spawn(
            self.host, [tool("src/daemon/holdfastd"), "--config",
                        str(self.lab.self_dir / self.config.name)], name="holdfastd")
        wait_until(lambda: self._answers(), "holdfastd's socket")
        if is_joined:
            self.wait_joined()

    def _answers(self) -> bool:
        assert self.daemon
        if not self.daemon.is_running():
            raise LabError(f"holdfastd on {self.host}: {self.daemon.log_tail()}")
        try:
            self.status()
        except LabError:
            return False
        return True

    def wait_joined(self, timeout_s: float = 240.0) -> None:
        """Takes 2T s, and what its rule asks if the id was another's."""
        wait_until(self.is_valid, f"{self.host} joins", timeout_s)

    def is_valid(self) -> bool:
        status = self.status()
        return status["state"] == "member" and status["valid_ms"] > 0

    def connect(self) -> Call:
        return Call(self.control)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One question on a connection of its own."""
        with self.connect() as call:
            return call(method, **parameters)

    def status(self) -> dict[str, Any]:
        return self.call("Status")["host"]

    @property
    def generation(self) -> int:
        return int(self.status()["generation"])

    def lease(self, vm: str) -> dict[str, Any]:
        return self.call("Read", vm=vm)["lease"]

    def read(self, vm: str) -> Owner:
        lease = self.lease(vm)
        if lease["free"]:
            return Owner(lease["lver"])
        return Owner(lease["lver"], lease["owner_id"], lease.get("generation", 0))

    def create(self, vm: str) -> str:
        """The lease as sanlock names it."""
        self.call("Create", vm=vm)
        return self.area.sanlock_name(vm, self.lease(vm)["offset"])

    def sees_alive(self, host_id: int) -> bool:
        return any(host["host_id"] == host_id and host["life"] == "alive"
                   for host in self.call("Hosts")["hosts"])

    def events(self) -> Events:
        return Events(self.control)

    def cli(self, *argv: str, timeout_s: float = 60.0) -> str:
        """holdfast ARGV on this host."""
        return self.lab.run(self.host, [tool("src/cli/holdfast"), *argv, "--run-dir",
                                        self.run_dir], timeout_s).stdout

    def hold(self, vm: str, *argv: str) -> Proc:
        """holdfast lease acquire: a program that runs as long as it holds the lease."""
        return self.lab.spawn(self.host, [tool("src/cli/holdfast"), "lease", "acquire", vm,
                                          "--run-dir", self.run_dir, "--", *argv],
                              name=f"hold-{vm}")

    def stop(self) -> int:
        """In order; its exit status."""
        assert self.daemon
        self.daemon.signal(signal.SIGTERM)
        return self.daemon.wait(60.0)

    def kill(self) -> None:
        """The daemon alone."""
        assert self.daemon
        self.daemon.kill()

    def die(self) -> None:
        """Everything on its host."""
        self.lab.kill_host(self.host)


def give(source: Call, destination: Call, vm: str, lver: int, to: HoldfastHost,
         generation: int, timeout_s: float = 60.0) -> int:
    """A hand-over of @vm at @lver: prepared, given, awaited; the new lver."""
    destination("Prepare", vm=vm)
    given = source("Transfer", vm=vm, lver=lver, to=to.host_id, to_generation=generation)
    if given.get("state") != "given":
        raise LabError(f"{vm} was not given: {given}")
    return int(destination("Await", timeout_s, vm=vm, lver=lver,
                           timeout_ms=int(timeout_s * 1000))["lver"])
