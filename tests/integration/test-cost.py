#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What protection costs while nothing happens, how much memory it takes while much does, and what
the network is told about the guest's new place."""

import os
import re
import socket
import sys
import time
from pathlib import Path

from checks import check, expect, main, poll, say
from lab import SWITCH
from protected import Keeper, Pair

MIB = 1 << 20
IDLE_S = 10.0
IDLE_SHARE_MAX = 0.05
OWN_MAX_BYTES = 32 * MIB
ETH_P_ALL = 3
RARP = b"\x80\x35"
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_bytes(keeper: Keeper) -> int:
    """Proportional share of all that the keeper has mapped, but for guest RAM."""
    total, is_ram = 0, False
    for line in Path(f"/proc/{keeper.pid}/smaps").read_text().splitlines():
        if found := MAPPING.match(line):
            is_ram = "memfd:" in found[1]
        elif line.startswith("Pss:") and not is_ram:
            total += int(line.split()[1]) << 10
    return total


@check
def idle_guest_costs_little() -> None:
    with Pair() as pair:
        pids = {"the primary's keeper": pair.primary.pid, "the standby's keeper": pair.standby.pid,
                "the primary's QEMU": pair.primary.qemu_pid}
        epochs = pair.primary.status()["epochs"]["committed"]
        before = {who: cpu_s(pid) for who, pid in pids.items()}
        time.sleep(IDLE_S)
        used = {who: (cpu_s(pid) - before[who]) / IDLE_S for who, pid in pids.items()}
        status = pair.primary.status()
        epochs = status["epochs"]["committed"] - epochs
        say(f"{epochs} epochs in {IDLE_S:g} s; " +
            ", ".join(f"{who} {share:.1%}" for who, share in used.items()))
        expect(status["protected"] and epochs >= IDLE_S, status)
        expect(epochs <= 3 * IDLE_S / 0.5, f"{epochs} epochs in {IDLE_S:g} s of a quiet guest")
        for who in ("the primary's keeper", "the standby's keeper"):
            expect(used[who] < IDLE_SHARE_MAX, f"{who} uses {used[who]:.1%} of a core")


@check
def memory_is_bounded() -> None:
    """A bound of 16 MiB and epochs of 64 MiB: the primary holds the bound, the standby the epoch."""
    with Pair(options=("--epoch-memory", "16M", "--epoch-interval", "100ms")) as pair:
        peak = {pair.primary: 0, pair.standby: 0}
        pair.guest.ask("dirty max 64")
        end = time.monotonic() + 6
        while time.monotonic() < end:
            peak = {keeper: max(most, own_bytes(keeper)) for keeper, most in peak.items()}
        epochs = pair.primary.status()["epochs"]
        pair.guest.ask("dirty 0")
        say(f"at most {peak[pair.primary] / MIB:.1f} MiB on the primary, "
            f"{peak[pair.standby] / MIB:.1f} MiB on the standby, "
            f"{epochs['dirty_pages']} pages in the last epoch")
        expect(epochs["dirty_pages"] * 4096 > 32 * MIB, f"no epoch beyond the bound: {epochs}")
        expect(peak[pair.primary] <= OWN_MAX_BYTES + 16 * MIB, "the primary's keeper")
        # One epoch, with its frames and state, however long it was: all of the buffer at most.
        expect(peak[pair.standby] <= OWN_MAX_BYTES + 80 * MIB, "the standby's keeper")
        for keeper in peak:
            poll(lambda: own_bytes(keeper) <= OWN_MAX_BYTES,
                 f"{keeper.host} gives back what it had; {own_bytes(keeper) / MIB:.1f} MiB", 60)
        pair.failover("keeper")
        pair.guest.memcheck()


@check
def switches_learn_the_new_place() -> None:
    with Pair() as pair, pair.lab.socket(SWITCH, socket.SOCK_RAW, socket.AF_PACKET,
                                         socket.htons(ETH_P_ALL)) as sniffer:
        mac = bytes.fromhex(pair.vm.mac.replace(":", ""))
        sniffer.bind((pair.lab.cables["hostB", "guest"].port, ETH_P_ALL))
        sniffer.settimeout(20)
        pair.failover("keeper")
        deadline, is_told = time.monotonic() + 20, False
        while not is_told and time.monotonic() < deadline:
            frame, (_, _, kind, *_) = sniffer.recvfrom(2048)
            is_inward = kind != socket.PACKET_OUTGOING
            is_told = is_inward and frame[:14] == b"\xff" * 6 + mac + RARP
        expect(is_told, "no RARP of the guest from its new host")
        # A bridge that has learnt it sends what is for the guest to its new host, and only there.
        fdb = pair.lab.run(SWITCH, ["bridge", "fdb", "show", "br", "guest"]).stdout
        line = next(one for one in fdb.splitlines() if one.startswith(pair.vm.mac))
        expect(pair.lab.cables["hostB", "guest"].port in line, line)


if __name__ == "__main__":
    sys.exit(main())
