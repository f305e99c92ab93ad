# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU started with a command line that holdfast has rewritten, and asked over its own channel."""
import contextlib
import json
import os
import shlex
import socket
import subprocess
import tempfile
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass

QEMU = shlex.split(os.environ.get("QEMU", "qemu-system-x86_64"))
TCG = ["-accel", "tcg", "-display", "none"]
# QEMU of another place may need to be told where its firmware is: a list of folders.
DATA = [word for folder in os.environ.get("QEMU_DATA", "").split(":") if folder
        for word in ("-L", folder)]

Command = Callable[..., object]


@dataclass
class Line:
    """What the user asks for. The role is run or standby."""

    words: list[str]
    role: str = "run"
    held: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    disk_socket: str = "/nowhere/disks"


@dataclass
class Disk:
    """A disk as holdfast has understood it."""

    name: str
    format: str
    is_direct: bool
    location: str


@dataclass
class Started:
    """A QEMU that runs."""

    command: Command
    process: subprocess.Popen
    ram_fd: int
    argv: list[str]
    disks: list[Disk]
    log: typing.BinaryIO

    def said(self) -> str:
        """All that QEMU has said so far, on stdout and stderr."""
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")


def qmp_connect(sock: socket.socket) -> Command:
    stream = sock.makefile("rw", encoding="utf-8", newline="\n")

    def read() -> dict:
        line = stream.readline()
        if not line:
            raise EOFError("QEMU closed QMP")
        return json.loads(line)

    def command(name: str, **arguments: object) -> object:
        stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        stream.flush()
        while True:
            reply = read()
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise RuntimeError(f"{name}: {reply['error']['desc']}")

    assert "QMP" in read()
    command("qmp_capabilities")
    return command


def rewrite(render: str, line: Line, qmp_fd: int, ram_fd: int,
            nets: list[socket.socket]) -> tuple[list[str], list[Disk]]:
    hold = ",".join(f"{i}={s.fileno()}" for i, s in zip(line.held, nets)) or "-"
    out = subprocess.run(
        [render, line.role, str(qmp_fd), str(ram_fd), hold, ",".join(line.passed) or "-",
         line.disk_socket, "--"] + QEMU + DATA + TCG + line.words,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[ram_fd], check=False)
    said = out.stderr.decode()
    if out.returncode != 0:
        raise AssertionError("refused: " + said.strip())
    rows = (row.split(" ", 4) for row in said.splitlines())
    disks = [Disk(row[1], row[2], row[3] == "direct", row[4]) for row in rows if row[0] == "disk"]
    return [os.fsdecode(w) for w in out.stdout.split(b"\0")[:-1]], disks


@contextlib.contextmanager
def started(render: str, line: Line) -> Iterator[Started]:
    """QEMU with this line; what it said is printed when something goes wrong."""
    with contextlib.ExitStack() as stack:
        mine, theirs = (stack.enter_context(s) for s in socket.socketpair())
        nets = [socket.socketpair() for _ in line.held]
        for pair in nets:
            for end in pair:
                stack.enter_context(end)
        ram_fd = os.memfd_create("test-ram")
        stack.callback(os.close, ram_fd)
        mine.settimeout(120)
        ends = [pair[1] for pair in nets]
        argv, disks = rewrite(render, line, theirs.fileno(), ram_fd, ends)
        log = stack.enter_context(tempfile.TemporaryFile())
        fds = [theirs.fileno(), ram_fd] + [end.fileno() for end in ends]
        process = subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log)
        theirs.close()
        vm = Started(lambda _, **__: None, process, ram_fd, argv, disks, log)
        try:
            vm.command = qmp_connect(mine)
            yield vm
        except Exception:
            print("# " + vm.said().strip().replace("\n", "\n# "))
            print("# " + shlex.join(argv))
            raise
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
