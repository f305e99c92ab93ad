# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts of a lab whose daemons know of each other, and VMs that both may run. Their QEMU boots a
machine without a disk: its firmware finds nothing to start, and goes on looking."""

from pathlib import Path
from typing import Any, Callable, Optional

from labhost import VmHost
from lablease import LeaseArea, wait_until
from labnet import Lab
from labpki import pki_dir

SMALL = "-machine q35 -accel tcg -m 16 -nodefaults -display none -device pvpanic"
KEEPER_PORT = 7400


class PeerHost(VmHost):
    """peers: lines of the section [peers], and [peer NAME] sections. area: of its leases."""

    def __init__(self, lab: Lab, host: str, peers: str = "", area: Optional[LeaseArea] = None,
                 host_id: int = 0):
        super().__init__(lab, host)
        self.peers, self.area, self.host_id = peers, area, host_id

    def argv(self, *options: str) -> list[str]:
        if not self.area:
            return super().argv(*options)
        lease = {"host-id": str(self.host_id), "area": self.area.location,
                 "lockspace": self.area.space, "io-timeout": f"{self.area.io_timeout_s}s",
                 "renew": "500ms", "fence": "6s", "stop": "1500ms"}
        return super().argv(*options, *(f"--{key}={value}" for key, value in lease.items()))

    def is_member(self) -> bool:
        status = self.call("Status")["host"]
        return bool(status["state"] == "member" and status["valid_ms"] > 0)

    def write_config(self) -> None:
        super().write_config()
        with open(self.here / "holdfastd.conf", "a", encoding="ascii") as f:
            f.write(f"[peers]\npki-dir = {pki_dir(self.lab)}\n{self.peers}")

    def peer(self) -> dict[str, Any]:
        """What it says of the only other one."""
        peers = self.call("Status")["host"].get("peers") or [{}]
        return dict(peers[0])

    def wait_vm(self, vm: str, what: Callable[[dict[str, Any]], object], text: str,
                timeout_s: float = 60.0) -> dict[str, Any]:
        """Until what Vm() says is so."""
        last: dict[str, Any] = {}

        def look() -> bool:
            last.clear()
            last.update(self.vm(vm))
            return bool(what(last))
        try:
            wait_until(look, text, timeout_s)
        except Exception as error:
            raise type(error)(f"{self.host}: {error}; {vm} is {last}") from None
        return last


class PeerPair:
    """with PeerPair() as pair: ... pair["hostA"] is a PeerHost whose daemon runs."""

    def __init__(self, hosts: tuple[str, str] = ("hostA", "hostB"), is_told: bool = False,
                 has_leases: bool = False):
        """is_told: each other's address is in holdfastd.conf."""
        self.has_leases = has_leases
        self.names = hosts
        self.lab = Lab(hosts)
        self.is_told = is_told
        self.hosts: dict[str, PeerHost] = {}

    def __enter__(self) -> "PeerPair":
        self.lab.__enter__()
        area = LeaseArea(self.lab) if self.has_leases else None
        if area:
            area.init()
        for number, host in enumerate(self.names, 1):
            self.hosts[host] = PeerHost(self.lab, host, self.told(host), area, number)
        return self

    def told(self, host: str) -> str:
        return "".join(f"[peer {name}]\naddress = {self.lab.repl_addr(name)}\n"
                       for name in self.names if name != host and self.is_told)

    def __exit__(self, *unused: object) -> None:
        self.lab.close()

    def __getitem__(self, host: str) -> PeerHost:
        return self.hosts[host]

    def both(self) -> tuple[PeerHost, PeerHost]:
        first, second = self.names
        return self.hosts[first], self.hosts[second]

    def start(self) -> None:
        for host in self.hosts.values():
            host.start()

    def wait_up(self, timeout_s: float = 60.0) -> None:
        if self.has_leases:
            wait_until(lambda: all(h.is_member() for h in self.hosts.values()), "all join",
                       timeout_s)
        wait_until(lambda: all(h.peer().get("is_up") for h in self.hosts.values()),
                   "the daemons know of each other", timeout_s)

    def define(self, vm: str, args: str = SMALL, port: int = KEEPER_PORT,
               hosts: Optional[tuple[str, ...]] = None, extra: str = "") -> list[Path]:
        """The same file on both hosts. extra: more lines of [vm]."""
        text = (f"[vm]\nargs = {args}\nstate-dir = {self.lab.self_dir}/state\n"
                f"pki-dir = {pki_dir(self.lab)}\nrun-dir = {self.lab.self_dir}/run\n{extra}"
                "[protection]\npeer-timeout = 2s\n")
        text += "".join(f"[host {name}]\naddress = {self.lab.repl_addr(name)}:{port}\n"
                        for name in self.names)
        return [self.write(host, vm, text) for host in hosts or self.names]

    def define_single(self, vm: str, args: str = SMALL, extra: str = "") -> None:
        """Without a standby; another host goes on with it when it is frozen."""
        text = (f"[vm]\nargs = {args}\nstate-dir = {self.lab.self_dir}/state\n"
                f"run-dir = {self.lab.self_dir}/run\ntakeover = yes\n"
                f"prefer = {' '.join(self.names)}\n{extra}")
        for host in self.names:
            self.write(host, vm, text)

    def write(self, host: str, vm: str, text: str) -> Path:
        path = self.hosts[host].vms_dir / f"{vm}.conf"
        new = path.with_name(f".{vm}.new")
        new.write_text(text)
        new.rename(path)
        return path
