# SPDX-License-Identifier: LGPL-2.1-or-later
"""A protected VM whose two hosts share a lease area on a third machine, the witness.

The area is an export of a real nbdkit; each host runs holdfastd. The link between the hosts can be
cut by itself, or a host's whole cable, which takes the witness away, too.
"""

from typing import Any

from lab import Lab, Vm
from lablease import HoldfastHost, WitnessArea
from protected import HOSTS, Keeper, Pair

WITNESS = "witness"
# The fast profile, a little wider: two loaded processors are slow to renew.
PROFILE = {"renew": "500ms", "fence": "6s", "stop": "1500ms"}
PEER_TIMEOUT = ("--peer-timeout", "1s")


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
