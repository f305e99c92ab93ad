# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM whose two hosts share a lease area on a third machine, the witness: protected by a standby
(LeasedPair), or on its own (Leased).

The area is an export of a real nbdkit; each host runs holdfastd. The link between the hosts can be
cut by itself, or a host's whole cable, which takes the witness away, too.
"""

import socket
from typing import Any

from checks import expect, say
from lab import Disk, Guest, Lab, LabError, Proc, Vm
from lablease import HoldfastHost, WitnessArea
from labnet import SWITCH
from protected import HOSTS, Keeper, Pair

WITNESS = "witness"
# The fast profile, a little wider: two loaded processors are slow to renew.
PROFILE = {"renew": "500ms", "fence": "6s", "stop": "1500ms"}
PEER_TIMEOUT = ("--peer-timeout", "1s")
ETH_P_ALL = 3


class LeasedPair(Pair):
    """with LeasedPair() as pair: ... profile: the daemons' settings in [lease]."""

    def __init__(self, profile: dict[str, str] = PROFILE, options: tuple[str, ...] = PEER_TIMEOUT,
                 is_waiting: bool = True, **vm_options: Any):
        super().__init__(options, is_waiting=is_waiting, **vm_options)
        self.profile = profile
        self.lab = Lab((*HOSTS, WITNESS))
        self.vm = Vm(self.lab, **vm_options)
        self.daemons: dict[str, HoldfastHost] = {}

    def start(self) -> None:
        self.area = WitnessArea(self.lab, WITNESS)
        self.area.init()
        for number, host in enumerate(HOSTS):
            self.daemons[host] = HoldfastHost(self.lab, host, self.area, number + 1, **self.profile)
            self.daemons[host].start(is_joined=False)
        for daemon in self.daemons.values():
            daemon.wait_joined()
        super().start()

    def boot_host(self, host: str) -> None:
        """After its death: cables in, its daemon a member again."""
        self.lab.boot_host(host)
        self.daemons[host].start()

    def processes(self, host: str) -> list[int]:
        """But its daemon's."""
        daemon = self.daemons[host].daemon
        return [pid for pid in self.lab.pids(host) if not daemon or pid != daemon.pid]

    # --- the network between the two, not to the witness ---

    def split(self) -> None:
        """The two lose each other, and both reach the witness."""
        self.lab.part(*HOSTS)

    def unsplit(self) -> None:
        self.lab.rejoin(*HOSTS)

    # --- who owns the VM ---

    def owner(self) -> str:
        """By the area, as read through a daemon that can."""
        lease = self.daemons[HOSTS[0]].lease(self.vm.name)
        return "" if lease["free"] else str(lease["owner"])

    def lver(self) -> int:
        return int(self.daemons[HOSTS[0]].lease(self.vm.name)["lver"])

    def keeper_on(self, host: str) -> Keeper:
        return self.primary if self.primary.host == host else self.standby


class Leased:
    """with Leased() as leased: ... A VM on hostA under a lease, without a standby. has_disk: a raw
    disk on a path that both hosts reach. options: of `holdfast run`."""

    def __init__(self, has_disk: bool = False, options: tuple[str, ...] = (), **vm_options: Any):
        self.options = options
        self.lab = Lab((*HOSTS, WITNESS))
        self.disk = Disk(self.lab, "blocks", mib=16,
                         location=str(self.lab.work / "common.raw")) if has_disk else None
        self.vm = Vm(self.lab, extra=self.disk.argv() if self.disk else (), **vm_options)
        self.daemons: dict[str, HoldfastHost] = {}

    def __enter__(self) -> "Leased":
        self.lab.__enter__()
        try:
            if self.disk:
                self.disk.make("hostA")
            self.area = WitnessArea(self.lab, WITNESS)
            self.area.init()
            for number, host in enumerate(HOSTS):
                self.daemons[host] = HoldfastHost(self.lab, host, self.area, number + 1, **PROFILE)
                self.daemons[host].start(is_joined=False)
            for daemon in self.daemons.values():
                daemon.wait_joined()
            self.guest = Guest(self.lab)
            self.keeper = self.run("hostA")
            self.guest.wait_up()
        except BaseException:
            self.lab.close()
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        if kind is not None:
            say(self.keeper.log()[-3000:])
        self.guest.close()
        self.keeper.close()
        self.lab.close()

    @property
    def daemon(self) -> HoldfastHost:
        return self.daemons["hostA"]

    def argv(self, *options: str) -> list[str]:
        redo = ["--disk-layout", "shared", "--redo-journal", f"{self.lab.work}/common.redo"]
        state = ["--state-dir", f"{self.lab.self_dir}/state"]
        return [self.vm.holdfast(), "run", self.vm.name, "--run-dir", self.vm.run_dir,
                "--hold-net", "net0", *state, *(redo if self.disk else []), *self.options, *options, "--",
                *self.vm.qemu_argv()]

    def spawn(self, host: str, *options: str) -> Proc:
        return self.lab.spawn(host, self.argv(*options), name=f"{self.vm.name}-run")

    def run(self, host: str) -> Keeper:
        return Keeper(self.vm, host, self.spawn(host))

    def owner(self) -> str:
        lease = self.daemons["hostB"].lease(self.vm.name)
        return "" if lease["free"] else str(lease["owner"])

    def expect_goes_on(self) -> None:
        self.guest.stat()

    def expect_stands_still(self) -> None:
        expect(self.keeper.status()["guest"] == "stopped", self.keeper.status())
        try:
            self.guest.ask("stat", timeout_s=1.0)
        except LabError:
            return
        raise LabError("a VM without a lease answers")


class Wire:
    """Counts the frames of the VM's card that come from one host."""

    def __init__(self, leased: Leased, host: str):
        self._sock = leased.lab.socket(SWITCH, socket.SOCK_RAW, socket.AF_PACKET,
                                       socket.htons(ETH_P_ALL))
        self._sock.bind((leased.lab.cables[host, "guest"].bridge_port, 0))
        self._sock.setblocking(False)
        self._mac = bytes.fromhex(leased.vm.mac.replace(":", ""))

    def count(self) -> int:
        """Since the last question."""
        n = 0
        while True:
            try:
                frame = self._sock.recv(65536)
            except BlockingIOError:
                return n
            n += frame[6:12] == self._mac

    def close(self) -> None:
        self._sock.close()
