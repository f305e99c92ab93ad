# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts for tests: network namespaces, the cables between them, and the processes in them.

Theory of operation. A lab is one namespace per host, one for the client, and one that is the
switch room. Every host has two cables, each a veth pair whose far end is a port of a bridge in the
switch room, one bridge per network:

    guest network 10.77.0.0/24  bridge "guest"   host: bridge br0 with the uplink up0 inside
    replication   10.78.0.0/24  bridge "repl"    host: interface repl0

The client has a cable to the guest network only, eth0. To cut a cable its port is taken out of the
bridge: frames vanish and the carrier stays, as when a switch in the middle dies. To make a cable
slow, lab-wire is put between port and bridge; netem would do the same, but many kernels lack it.

Nothing may stay behind. All of a lab's processes live in its namespaces, so the namespaces say what
has to be killed, whoever started it. Each process sees a /dev/shm of its host, and self_dir, a path
that leads to its host's own folder, so that two hosts can be given the same command line. The lab
cleans up when it is left, by return, exception or signal; a janitor process does it if the lab
itself is killed.
"""

import atexit
import ctypes
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Sequence

SOURCE = Path(__file__).resolve().parent.parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NETNS_DIR = Path("/run/netns")
GUEST_NET = "10.77.0"
REPL_NET = "10.78.0"
CLIENT_ADDR = f"{GUEST_NET}.100"
CLONE_NEWNET = 0x40000000
KILL_DEADLINE_S = 20.0
# A client that reports must not be stopped by a test that looks at other things for a minute.
PIPE_BYTES = 1 << 20
SWITCH = "switch"
NOWHERE = "02:00:00:00:00:fe"  # nobody has this address
CLIENT = "client"

# Mounts in the process's own mount namespace, which "ip netns exec" has made a slave of the
# machine's: they end with the process.
ENTER = 'mount --bind "$0" /dev/shm && mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'
CGROUP = Path("/sys/fs/cgroup")


class LabError(Exception):
    """Something the test asked for could not be done, or did not come in time."""


class LabInterrupted(SystemExit):
    """A signal ended the test; leaving the lab cleans up."""


def build_dir() -> Path:
    return Path(os.environ.get("HF_BUILD_DIR", SOURCE / "build"))


def tool(relative: str) -> str:
    """The absolute path of a program of the build."""
    path = build_dir() / relative
    if not path.exists():
        raise LabError(f"{path} is not built: run ninja, or set HF_BUILD_DIR")
    return str(path)


def command(*argv: str) -> str:
    """Run a short system command that must succeed; its standard output."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def cgroup_mount() -> Optional[Path]:
    """Where this machine has the cgroups of version 2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and CGROUP in (Path(place), *Path(place).parents):
            return Path(place)
    return None


def own_cgroup() -> Optional[Path]:
    """Of this process, in version 2."""
    place = cgroup_mount()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if place and line.startswith("0::/"):
            return place / line.removeprefix("0::/")
    return None


def enter_script(group: str) -> str:
    """With the cgroups where they are outside: "ip netns exec" has put an empty /sys over them. The
    process enters one of its own of that name, so that what is made beneath can be found again."""
    place, own = cgroup_mount(), own_cgroup()
    if place is None or own is None:
        return ENTER
    room = f"mount -t tmpfs -o mode=755 hf {CGROUP} && mkdir -p {place} && "
    enter = f"{{ mkdir -p {own / group} && echo $$ >{own / group}/cgroup.procs; }} && "
    return f"{room if place != CGROUP else ''}mount -t cgroup2 hf {place} && {enter}{ENTER}"


def remove_cgroups(prefix: str) -> None:
    """Those of a lab, which nothing is in any more. A process that has just died may take a moment
    to leave."""
    own = own_cgroup()
    deadline = time.monotonic() + KILL_DEADLINE_S
    for group in own.glob(f"{prefix}*") if own else []:
        for folder, _, _ in os.walk(group, topdown=False):
            while time.monotonic() < deadline:
                try:
                    os.rmdir(folder)
                except OSError as error:
                    if error.errno == errno.EBUSY:
                        time.sleep(0.01)
                        continue
                break


# --- death ---------------------------------------------------------------------------------------

def namespace_id(path: Path | str) -> Optional[tuple[int, int]]:
    try:
        st = os.stat(path)
    except OSError:
        return None
    return st.st_dev, st.st_ino


def open_pids_in(namespace: tuple[int, int]) -> list[int]:
    """pidfds of all processes in a namespace. The pidfd comes before the look at the namespace, so
    a pid that is reused in between is not taken for the one that was looked at."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            fd = os.pidfd_open(int(entry))
        except OSError:
            continue
        if namespace_id(f"/proc/{entry}/ns/net") == namespace:
            found.append(fd)
        else:
            os.close(fd)
    return found


def wait_pidfds(fds: Iterable[int], deadline: float) -> None:
    for fd in fds:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LabError("a killed process does not end")


def kill_namespace(path: Path) -> int:
    """SIGKILL all that is in a namespace, and all that these have started meanwhile, and wait for
    their end. How many there were."""
    deadline, count = time.monotonic() + KILL_DEADLINE_S, 0
    namespace = namespace_id(path)
    while namespace:
        fds = open_pids_in(namespace)
        try:
            for fd in fds:
                try:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_pidfds(fds, deadline)
        finally:
            for fd in fds:
                os.close(fd)
        if not fds:
            break
        count += len(fds)
    return count


def destroy(prefix: str, paths: Sequence[str]) -> None:
    """Remove all that a lab of this prefix may have left. May be called again."""
    names = [p.name for p in NETNS_DIR.glob(f"{prefix}*")] if NETNS_DIR.is_dir() else []
    for name in names:
        kill_namespace(NETNS_DIR / name)
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
    remove_cgroups(prefix)
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def janitor_main(prefix: str, *paths: str) -> None:
    """Wait for the end of stdin, which is the end of the lab however it came, and clean up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    destroy(prefix, paths)


# --- processes -----------------------------------------------------------------------------------

class Proc:
    """A process on a host. Its standard output is read as JSON lines when it was spawned so."""

    def __init__(self, name: str, popen: subprocess.Popen, log: Path):
        self.name = name
        self.popen = popen
        self.log = log
        self.events: list[dict[str, Any]] = []
        self._next = 0
        self._buffer = b""
        self._is_eof = popen.stdout is None

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_eof(self) -> bool:
        """Nothing more will come on its standard output."""
        return self._is_eof

    def take_events(self) -> None:
        """Add to self.events what has come; does not wait."""
        assert self.popen.stdout is not None
        while not self._is_eof and select.select([self.popen.stdout], [], [], 0)[0]:
            self._read(0)

    def is_running(self) -> bool:
        return self.popen.poll() is None

    def _read(self, timeout_s: float) -> None:
        """Take what comes within the time, at most one chunk."""
        assert self.popen.stdout is not None
        fd = self.popen.stdout.fileno()
        if not select.select([fd], [], [], max(0.0, timeout_s))[0]:
            return
        data = os.read(fd, 65536)
        self._is_eof = not data
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                event = {"event": "text", "text": line.decode(errors="replace")}
            self.events.append(event)

    def wait_event(self, name: Optional[str] = None, timeout_s: float = 10.0,
                   match: Callable[[dict[str, Any]], bool] = lambda event: True) -> dict[str, Any]:
        """The next event of that name for which match() holds. Events before it are passed over,
        but stay in self.events."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._next < len(self.events):
                event = self.events[self._next]
                self._next += 1
                if (name is None or event.get("event") == name) and match(event):
                    return event
            if self._is_eof:
                raise LabError(f"{self.name} ended without event {name!r}: {self.log_tail()}")
            if time.monotonic() >= deadline:
                raise LabError(f"{self.name}: no event {name!r} within {timeout_s:g} s")
            self._read(deadline - time.monotonic())

    def log_tail(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-2000:].strip() or "(nothing on stderr)"
        except OSError:
            return "(no log)"

    def wait(self, timeout_s: float = 10.0) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {timeout_s:g} s") from None

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL this one process, and wait for its end."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """SIGTERM; the "result" event that it ends with, {} if it prints none."""
        self.popen.terminate()
        while not self._is_eof:
            before = len(self.events)
            self._read(timeout_s)
            if not self._is_eof and len(self.events) == before and not self._buffer:
                break
        self.wait(timeout_s)
        results = [event for event in self.events if event.get("event") == "result"]
        return results[-1] if results else {}

    def close(self) -> None:
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                stream.close()


# --- cables --------------------------------------------------------------------------------------

@dataclass
class Cable:
    """From a host to a bridge of the switch room."""
    port: str
    bridge: str
    wire: Optional[Proc] = None
    is_cut: bool = False

    @property
    def wire_ends(self) -> tuple[str, str]:
        return f"{self.port}-w", f"{self.port}-b"

    @property
    def bridge_port(self) -> str:
        return self.wire_ends[1] if self.wire else self.port


class Lab:
    """with Lab() as lab: ... Hosts are hostA, hostB and "client" unless told otherwise."""

    _count = 0

    def __init__(self, hosts: Sequence[str] = ("hostA", "hostB")):
        if os.geteuid() != 0:
            raise LabError("network namespaces need root")
        Lab._count += 1
        self.hosts = tuple(hosts)
        self.prefix = f"hf{os.getpid()}x{Lab._count}-"
        self.work = Path(f"/tmp/{self.prefix}lab")
        self.shm = Path(f"/dev/shm/{self.prefix}lab")
        self.self_dir = self.work / "self"
        self.cables: dict[tuple[str, str], Cable] = {}
        self.procs: list[Proc] = []
        self._janitor: Optional[subprocess.Popen] = None
        self._handlers: dict[int, Any] = {}
        self._is_open = False
        self._enter = enter_script(f"{self.prefix}lab")

    # --- life ---

    def __enter__(self) -> "Lab":
        self._catch_signals()
        try:
            self._is_open = True
            atexit.register(self.close)
            self._start_janitor()
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _catch_signals(self) -> None:
        def interrupt(number: int, frame: object) -> None:
            if self._is_open:
                raise LabInterrupted(128 + number)

        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._handlers[number] = signal.signal(number, interrupt)

    def _start_janitor(self) -> None:
        self._janitor = subprocess.Popen(
            ["/usr/bin/python3", __file__, "--janitor", self.prefix, str(self.work), str(self.shm)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)

    def close(self) -> None:
        """End all processes of the lab and remove every trace. May be called again."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            destroy(self.prefix, (str(self.work), str(self.shm)))
        finally:
            for proc in self.procs:
                proc.popen.wait()
                proc.close()
            if self._janitor:
                assert self._janitor.stdin is not None
                self._janitor.stdin.close()
                self._janitor.wait()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            atexit.unregister(self.close)

    # --- construction ---

    def netns(self, host: str) -> str:
        return self.prefix + host

    def ip(self, host: str, *argv: str) -> str:
        """ip(8) in the namespace of a host."""
        return command("ip", "-n", self.netns(host), *argv)

    def host_dir(self, host: str) -> Path:
        """What processes on that host see as self_dir."""
        return self.work / host

    def guest_addr(self, host: str) -> str:
        return f"{GUEST_NET}.{self.hosts.index(host) + 1}"

    def repl_addr(self, host: str) -> str:
        return f"{REPL_NET}.{self.hosts.index(host) + 1}"

    def _build(self) -> None:
        self.self_dir.mkdir(parents=True)
        self.shm.mkdir()
        for host in (SWITCH, CLIENT, *self.hosts):
            self._add_namespace(host)
        for bridge in ("guest", "repl"):
            self._add_bridge(SWITCH, bridge)
        self._add_cable(CLIENT, "guest", "eth0")
        self.ip(CLIENT, "addr", "add", f"{CLIENT_ADDR}/24", "dev", "eth0")
        for host in self.hosts:
            self._add_host(host)

    def _add_namespace(self, host: str) -> None:
        command("ip", "netns", "add", self.netns(host))
        (self.work / host / "run").mkdir(parents=True)
        (self.shm / host).mkdir()
        # What the kernel would say by itself over IPv6 disturbs a test that wants a quiet network.
        self.run(host, ["sh", "-c", "for f in all default; do "
                                    "echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done"])
        self.ip(host, "link", "set", "lo", "up")

    def _add_bridge(self, host: str, name: str) -> None:
        self.ip(host, "link", "add", name, "type", "bridge", "forward_delay", "0",
                "mcast_snooping", "0")
        self.ip(host, "link", "set", name, "up")

    def _add_cable(self, host: str, net: str, interface: str) -> None:
        cable = Cable(port=f"{net[0]}-{host}", bridge=net)
        self.ip(SWITCH, "link", "add", cable.port, "type", "veth", "peer", "name", interface,
                "netns", self.netns(host))
        self.ip(SWITCH, "link", "set", cable.port, "master", net, "up")
        self.ip(host, "link", "set", interface, "up")
        self.cables[host, net] = cable

    def _add_host(self, host: str) -> None:
        self._add_cable(host, "guest", "up0")
        self._add_bridge(host, "br0")
        self.ip(host, "link", "set", "up0", "master", "br0")
        self.ip(host, "addr", "add", f"{self.guest_addr(host)}/24", "dev", "br0")
        self._add_cable(host, "repl", "repl0")
        self.ip(host, "addr", "add", f"{self.repl_addr(host)}/24", "dev", "repl0")

    # --- processes ---

    def _argv(self, host: str, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.netns(host), "sh", "-c", self._enter,
                str(self.shm / host), str(self.host_dir(host)), str(self.self_dir), *argv]

    def run(self, host: str, argv: Sequence[str], timeout_s: float = 30.0,
            check: bool = True) -> subprocess.CompletedProcess:
        """Run a command on a host to its end."""
        done = subprocess.run(self._argv(host, argv), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=timeout_s, check=False)
        if check and done.returncode != 0:
            raise LabError(f"{host}: {' '.join(argv)}: exit {done.returncode}: "
                           f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def spawn(self, host: str, argv: Sequence[str], name: Optional[str] = None,
              is_json: bool = False, has_stdin: bool = False,
              env: Optional[dict[str, str]] = None) -> Proc:
        """Start a command on a host, in a session of its own. Its working folder is self_dir;
        stderr goes to host_dir/NAME.log, and stdout too unless is_json."""
        name = name or f"{Path(argv[0]).name}-{len(self.procs)}"
        log = self.host_dir(host) / f"{name}.log"
        with open(log, "ab") as f:
            popen = subprocess.Popen(
                self._argv(host, argv), stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_json else f, stderr=f, start_new_session=True,
                env={**os.environ, **(env or {})})
        if popen.stdout is not None:
            fcntl.fcntl(popen.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        proc = Proc(name, popen, log)
        self.procs.append(proc)
        return proc

    def client(self, kind: str, addr: str, *options: str) -> Proc:
        """lab-client in the client's namespace; waits until a TCP one is connected."""
        argv = [tool("tests/lab/lab-client"), kind, addr, *options]
        proc = self.spawn(CLIENT, argv, is_json=True)
        if kind in ("stream", "echo"):
            proc.wait_event("connected", timeout_s=15)
        return proc

    def pids(self, host: str) -> list[int]:
        """All processes on a host, whoever started them."""
        out = command("ip", "netns", "pids", self.netns(host))
        return [int(pid) for pid in out.split()]

    def kill_host(self, host: str, is_silent: bool = False) -> int:
        """The host's death: every process on it is killed at once, and what it had in memory is
        gone (/dev/shm, run). With is_silent its cables are cut first, so that not even the reset of
        a TCP connection gets out, as when the power fails; boot_host() heals them. How many
        processes there were."""
        if is_silent:
            self.cut(host, "guest")
            self.cut(host, "repl")
        count = kill_namespace(NETNS_DIR / self.netns(host))
        for path in (self.shm / host, self.host_dir(host) / "run"):
            shutil.rmtree(path)
            path.mkdir()
        for link in json.loads(self.ip(host, "-j", "link", "show", "type", "tun") or "[]"):
            if link:
                self.ip(host, "link", "del", link["ifname"])
        return count

    def boot_host(self, host: str) -> None:
        """After kill_host(): cables in, memory empty, nothing running."""
        self.heal(host, "guest")
        self.heal(host, "repl")

    def socket(self, host: str, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET,
               proto: int = 0) -> socket.socket:
        """A socket of this process in the network of a host: a socket stays where it was made."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as home, \
                open(NETNS_DIR / self.netns(host), "rb") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")
            try:
                return socket.socket(family, kind, proto)
            finally:
                if libc.setns(home.fileno(), CLONE_NEWNET) != 0:
                    os.abort()

    # --- cables ---

    def cut(self, host: str, net: str = "repl") -> None:
        """Frames of this cable vanish, both ways; the carrier stays. net: "repl" or "guest"."""
        cable = self.cables[host, net]
        self.ip(SWITCH, "link", "set", cable.bridge_port, "nomaster")
        cable.is_cut = True

    def heal(self, host: str, net: str = "repl") -> None:
        cable = self.cables[host, net]
        self.ip(SWITCH, "link", "set", cable.bridge_port, "master", cable.bridge)
        cable.is_cut = False

    def part(self, a: str, b: str) -> None:
        """Frames between these two vanish, both ways; each still reaches all others."""
        self._neighbours("replace", a, b, "lladdr", NOWHERE, "nud", "permanent")

    def rejoin(self, a: str, b: str) -> None:
        self._neighbours("del", a, b)

    def _neighbours(self, verb: str, a: str, b: str, *words: str) -> None:
        for host, other in ((a, b), (b, a)):
            self.ip(host, "neigh", verb, self.repl_addr(other), *words, "dev", "repl0")

    def set_cable(self, host: str, net: str = "repl", delay_ms: float = 0.0, rate_mbit: float = 0.0,
                  loss_permille: int = 0, queue_bytes: int = 4 << 20) -> None:
        """Delay each way, rate each way (0: none) and random loss of a cable. No argument: a plain
        cable again. Frames under way are lost."""
        cable = self.cables[host, net]
        self._remove_wire(cable)
        if delay_ms or rate_mbit or loss_permille:
            self._insert_wire(cable, ["--delay-us", str(int(delay_ms * 1000)),
                                      "--rate", str(int(rate_mbit * 1e6)),
                                      "--loss-permille", str(loss_permille),
                                      "--queue", str(queue_bytes)])
        if not cable.is_cut:
            self.ip(SWITCH, "link", "set", cable.bridge_port, "master", cable.bridge)

    def set_delay(self, host: str, delay_ms: float, net: str = "repl") -> None:
        self.set_cable(host, net, delay_ms=delay_ms)

    def set_rate(self, host: str, rate_mbit: float, net: str = "repl") -> None:
        self.set_cable(host, net, rate_mbit=rate_mbit)

    def _remove_wire(self, cable: Cable) -> None:
        if cable.wire:
            cable.wire.kill()
            self.ip(SWITCH, "link", "del", cable.wire_ends[0])
            cable.wire = None

    def _insert_wire(self, cable: Cable, options: list[str]) -> None:
        near, far = cable.wire_ends
        # Not before the port has left the bridge: every frame would go both ways, twice.
        self.ip(SWITCH, "link", "set", cable.port, "nomaster")
        self.ip(SWITCH, "link", "add", near, "type", "veth", "peer", "name", far)
        self.ip(SWITCH, "link", "set", near, "up")
        self.ip(SWITCH, "link", "set", far, "up")
        cable.wire = self.spawn(SWITCH, [tool("tests/lab/lab-wire"), *options, cable.port, near],
                                name=f"wire-{cable.port}", is_json=True)
        cable.wire.wait_event("ready")


if __name__ == "__main__" and sys.argv[1:2] == ["--janitor"]:
    janitor_main(*sys.argv[2:])
