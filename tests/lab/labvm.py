# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest of tests/guest as seen from outside, and the command lines that run it."""

import itertools
import json
import os
import select
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Sequence

from labnet import CLIENT, GUEST_NET, Lab, LabError, Proc, build_dir, tool
from labpki import pki_dir

PORT_CONTROL = 7003
KEEPER_PORT = 7100
SO_RCVBUFFORCE = 33  # socket(7); root may have more than net.core.rmem_max


class GuestError(LabError):
    """The guest answered "error"."""


class Guest:
    """The control service of a guest (tests/guest/control.c), spoken to from the client's place."""

    _tokens = itertools.count(1)  # the guest tells a repeated question from a new one by them

    def __init__(self, lab: Lab, addr: str = f"{GUEST_NET}.10", host: str = CLIENT):
        self.addr = addr
        self._sock = lab.socket(host)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self._sock.connect((addr, PORT_CONTROL))

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _receive(self, until: float) -> Optional[bytes]:
        """The next datagram, or None when the time is over. An ICMP error is no datagram."""
        while True:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._sock], [], [], left)[0]:
                return None
            try:
                return self._sock.recv(65536)
            except OSError:
                continue

    def _send(self, data: bytes) -> None:
        try:
            self._sock.send(data)
        except OSError:
            pass  # no route to a guest that is not up: the retry will find it

    def ask(self, text: str, timeout_s: float = 10.0, retry_s: float = 0.25) -> dict[str, str]:
        """One command; the answer's key=value words. GuestError for an "error" answer."""
        token = f"{os.getpid()}.{next(self._tokens)}"
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._send(f"{token} {text}".encode())
            until = min(deadline, time.monotonic() + retry_s)
            while (data := self._receive(until)) is not None:
                words = data.decode(errors="replace").split()
                if words[:1] == [token]:
                    return self._parse(text, words[1:])
        raise LabError(f"the guest did not answer {text!r} within {timeout_s:g} s")

    @staticmethod
    def _parse(text: str, words: list[str]) -> dict[str, str]:
        if words[:1] != ["ok"]:
            raise GuestError(f"{text}: {' '.join(words)}")
        return dict(word.split("=", 1) for word in words[1:] if "=" in word)

    def wait_up(self, timeout_s: float = 60.0) -> dict[str, str]:
        return self.ask("stat", timeout_s, retry_s=0.05)

    def stat(self) -> dict[str, int]:
        return {key: int(value) for key, value in self.ask("stat").items()}

    def memcheck(self, timeout_s: float = 60.0) -> dict[str, str]:
        """GuestError when a page of the buffer of "mem" or "dirty" is not what it must be."""
        return self.ask("memcheck", timeout_s, retry_s=2.0)

    def burst(self, count: int, size_bytes: int, timeout_s: float = 30.0,
              into: Optional[list[int]] = None) -> list[int]:
        """The numbers of the datagrams that came, in the order in which they came. into: a list to
        put them in, for another thread to look at."""
        token = f"{os.getpid()}.{next(self._tokens)}"
        numbers = [] if into is None else into
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            # Asked again, the guest only repeats its last word, which its full socket may have lost.
            self._send(f"{token} burst {count} {size_bytes}".encode())
            if self._collect_burst(token, size_bytes, min(until, time.monotonic() + 2), numbers):
                return numbers
        raise LabError(f"burst: no end within {timeout_s:g} s, {len(numbers)} datagrams came")

    def _collect_burst(self, token: str, size_bytes: int, until: float,
                       numbers: list[int]) -> bool:
        """Has the guest said that it is done?"""
        while (data := self._receive(until)) is not None:
            if data.startswith(token.encode() + b" "):
                self._parse("burst", data.decode().split()[1:])
                return True
            if len(data) == size_bytes:
                numbers.append(int.from_bytes(data[:8], "little"))
        return False


@dataclass
class Vm:
    """A VM of the lab: composes command lines that are the same on every host.

    Environment: QEMU (binary), QEMU_DATA (its -L folders, ":" between them), QEMU_ACCEL (tcg),
    HF_GUEST_DIR (where tools/build-guest built), HOLDFAST (the command line tool).
    """
    lab: Lab
    name: str = "vm1"
    mem_mib: int = 256
    smp: int = 1
    machine: str = "q35"
    addr: str = f"{GUEST_NET}.10"
    mac: str = "52:54:00:77:00:0a"
    tap: str = "hft0"
    append: str = ""
    port: int = KEEPER_PORT
    extra: Sequence[str] = ()
    serial: str = ""  # instead of a file, which a frozen QEMU may not have open
    qemu: str = field(default_factory=lambda: os.environ.get("QEMU", "qemu-system-x86_64"))

    @property
    def guest_dir(self) -> Path:
        return Path(os.environ.get("HF_GUEST_DIR", build_dir() / "guest"))

    @property
    def run_dir(self) -> str:
        return str(self.lab.self_dir / "run")

    def console(self, host: str) -> str:
        """What the guest has printed on that host."""
        path = self.lab.host_dir(host) / f"{self.name}.console"
        return path.read_text(errors="replace") if path.exists() else ""

    def qemu_argv(self, netdev_options: str = ",br=br0,script=no,downscript=no") -> list[str]:
        for name in ("vmlinuz", "guest.img"):
            if not (self.guest_dir / name).exists():
                raise LabError(f"{self.guest_dir} lacks {name}: run tools/build-guest on it")
        data = [word for path in os.environ.get("QEMU_DATA", "").split(":") if path
                for word in ("-L", path)]
        append = f"console=ttyS0 quiet panic=1 hf.ip={self.addr}/24 {self.append}".strip()
        return [self.qemu, *data, "-accel", os.environ.get("QEMU_ACCEL", "tcg"),
                "-machine", self.machine, "-m", str(self.mem_mib), "-smp", str(self.smp),
                "-nodefaults", "-display", "none",
                "-serial", self.serial or f"file:{self.lab.self_dir}/{self.name}.console",
                "-kernel", str(self.guest_dir / "vmlinuz"),
                "-initrd", str(self.guest_dir / "guest.img"), "-append", append,
                "-netdev", f"tap,id=net0,ifname={self.tap}{netdev_options}",
                "-device", f"virtio-net-pci,netdev=net0,mac={self.mac},romfile=", *self.extra]

    def start_plain(self, host: str) -> Proc:
        """Without holdfast: QEMU alone, on a tap of its own in br0."""
        self.lab.ip(host, "tuntap", "add", "dev", self.tap, "mode", "tap")
        self.lab.ip(host, "link", "set", self.tap, "master", "br0", "up")
        return self.lab.spawn(host, self.qemu_argv(",script=no,downscript=no"),
                              name=f"{self.name}-qemu")

    # --- holdfast ---

    def holdfast(self) -> str:
        return os.environ.get("HOLDFAST") or tool("src/cli/holdfast")

    def side(self, verb: str, host: str, peer: str, options: Sequence[str]) -> list[str]:
        """holdfast run or standby, for a host. They talk over TLS, unless options say otherwise."""
        state = () if "--state-dir" in options else ("--state-dir", f"{self.lab.self_dir}/state")
        return [self.holdfast(), verb, self.name,
                "--listen", f"{self.lab.repl_addr(host)}:{self.port}",
                "--peer", f"{self.lab.repl_addr(peer)}:{self.port}",
                "--pki-dir", pki_dir(self.lab), "--run-dir", self.run_dir, "--hold-net", "net0",
                *state, *options, "--", *self.qemu_argv()]

    def run(self, host: str, peer: str, *options: str) -> Proc:
        """holdfast run: the VM starts here, protected by the peer."""
        return self.lab.spawn(host, self.side("run", host, peer, options), name=f"{self.name}-run")

    def standby(self, host: str, peer: str, *options: str) -> Proc:
        return self.lab.spawn(host, self.side("standby", host, peer, options),
                              name=f"{self.name}-standby")

    def _cli(self, host: str, verb: str, *options: str, timeout_s: float = 30.0) -> str:
        return self.lab.run(host, [self.holdfast(), verb, self.name, "--run-dir", self.run_dir,
                                   *options], timeout_s).stdout

    def status(self, host: str) -> dict[str, Any]:
        return json.loads(self._cli(host, "status", "--json"))

    def status_text(self, host: str) -> str:
        """What a person reads."""
        return self._cli(host, "status")

    def events(self, host: str) -> Proc:
        """holdfast events, for Proc.wait_event()."""
        return self.lab.spawn(host, [self.holdfast(), "events", self.name, "--run-dir",
                                     self.run_dir], name=f"{self.name}-events", is_json=True)

    def promote(self, host: str) -> str:
        return self._cli(host, "promote")

    def stop(self, host: str, is_forced: bool = False) -> str:
        return self._cli(host, "stop", *(["--force"] if is_forced else []))
