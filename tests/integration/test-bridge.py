#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""holdfast-pacemaker with a real Corosync and Pacemaker: how soon a failure is told, that it is told
once and cleared, and that the news arrives whoever was killed, hung or away in between: the bridge,
the host's daemon, daemons of Pacemaker, Pacemaker itself. Nothing in holdfastd waits for any of
them. What is fenced is told to the daemon.

usage: test-bridge.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, QEMU; HF_ROUNDS: failures to be timed, instead of 6.
Exit status: 0, 1, or 77 when not root."""

import os
import signal
import statistics
import sys
import time
from contextlib import contextmanager
from typing import Iterator

from checks import check, expect, main, say

# pylint: disable=wrong-import-position
from clustered import A, B, ClusteredVm, end_the_cluster, the_cluster  # noqa: E402

ROUNDS = int(os.environ.get("HF_ROUNDS", "6"))
FIRST_ACTION_MS = 2000.0  # of a loaded machine; the median is some tens
BRIDGE = "holdfast-pacema"  # as the kernel cuts it
SEEN_S = 30.0
BEGUN = time.monotonic()
YOUNG_S = 540.0  # a node joined not much before that: safely below the bridge's ten minutes


def other(node: str) -> str:
    return B if node == A else A


def pid_of(node: str, name: str) -> int:
    """In its own namespace, where signals are sent from, too. The name as the kernel cuts it."""
    words = the_cluster().sh(node, ["pgrep", "-x", name], check=False).split()
    return int(words[0]) if words else 0


def send(node: str, name: str, number: int) -> None:
    c = the_cluster()
    c.wait(lambda: pid_of(node, name), f"{name} on {node}")
    c.sh(node, ["pkill", f"-{number}", "-x", name])


@contextmanager
def hung(node: str, *names: str) -> Iterator[None]:
    """They do not run for a while."""
    for name in names:
        send(node, name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:  # one that was killed meanwhile may not be there again
            the_cluster().sh(node, ["pkill", "-CONT", "-x", name], check=False)


def holdfastd_answers(node: str) -> None:
    """At once: nobody makes it wait."""
    began = time.monotonic()
    the_cluster().call(node, "Vms", timeout_s=2.0)
    expect(time.monotonic() - began < 2.0, "the daemon was slow")


def first_action_ns(node: str, vm: str, after_ns: int) -> int:
    """When a stop or demote began there, by what the agent calls."""
    log = the_cluster().nodes[node].disk("/var/log/agent.log")
    for line in log.read_text().splitlines():
        began, _, _, _, action, name, *_ = line.split()
        if name == vm and action in ("stop", "demote") and int(began) >= after_ns:
            return int(began)
    return 0


def told(vm: ClusteredVm, node: str, word: str, *reasons: str) -> None:
    vm.wait_told(node, word, *reasons)


def release(vm: ClusteredVm, node: str) -> None:
    for ident in vm.frozen(node):
        vm.c.cli(node, "release", f"{vm.name}@{ident}")


def simulated(vm: ClusteredVm, node: str) -> int:
    """So many failures of it that were announced reached the controller there."""
    log = the_cluster().nodes[node].disk("/var/log/pacemaker/pacemaker.log").read_text()
    return sum("Result of asyncmon operation for " + vm.name in line
               for line in log.splitlines())


# --- how soon -------------------------------------------------------------------------------------

def fail_and_time(vm: ClusteredVm, node: str, at: int) -> float:
    """From the certificate to the agent's first action, ms; it goes on at the other node."""
    before = simulated(vm, node)
    vm.c.wait(vm.c.is_idle, "what the last round has left is done")
    since_ns = time.time_ns()
    vm.panic(node)
    vm.wait_runs(other(node))
    frozen_ns = newest_frozen_ns(node, vm.name, since_ns)
    began_ns = first_action_ns(node, vm.name, since_ns)
    expect(began_ns, f"no stop of {vm.name} on {node}")
    told(vm, node, "frozen", "guest-panic", "severity=fatal", f"id={vm.frozen(node)[-1]}")
    expect(simulated(vm, node) == before + 1, f"round {at}: announced more than once")
    release(vm, node)
    vm.wait_untold(node)
    return (began_ns - frozen_ns) / 1e6


def newest_frozen_ns(node: str, vm: str, since_ns: int) -> int:
    events = the_cluster().events(node)
    try:
        return int(events.wait("frozen", match=lambda e: (
            e.get("vm") == vm and int(e["time_ns"]) >= since_ns))["time_ns"])
    finally:
        events.close()


@check
def a_failure_is_told_at_once_and_cleared() -> None:
    """Again and again, to and fro: a node whose failure is cleared is used again."""
    with ClusteredVm("soon", monitor=("120s", "60s")) as vm:
        node, times = A, []
        for at in range(ROUNDS):
            times.append(fail_and_time(vm, node, at))
            node = other(node)
        say(f"frozen to first action, ms: median {statistics.median(times):.0f}, "
            f"{min(times):.0f} to {max(times):.0f}: {[round(t) for t in times]}")
        expect(statistics.median(times) < FIRST_ACTION_MS, times)
        vm.expect_nobody_fenced()


# --- who is away ----------------------------------------------------------------------------------

@check
def the_bridge_is_killed_and_hangs() -> None:
    """No monitor would find the failure: so it is the bridge that tells, when it is back."""
    with ClusteredVm("away", monitor=("600s", "60s")) as vm:
        with hung(A, BRIDGE):
            vm.panic(A)
            vm.c.wait(lambda: vm.frozen(A), "it is frozen")
            holdfastd_answers(A)
            expect(not vm.attribute(A), "told by whom?")
        vm.wait_runs(B)
        told(vm, A, "frozen", "guest-panic")
        first = pid_of(A, BRIDGE)
        send(A, BRIDGE, signal.SIGKILL)
        vm.c.wait(lambda: pid_of(A, BRIDGE) not in (0, first), "another bridge")
        release(vm, A)
        vm.wait_untold(A)  # it knows by the attribute that there was something to clear
        expect(simulated(vm, A) == 1, "announced again, of what was ended here")
        vm.expect_boots(A, B)
        vm.expect_nobody_fenced()


@check
def the_daemon_is_killed() -> None:
    """And the bridge with it; what happened meanwhile is told."""
    with ClusteredVm("orphan", monitor=("600s", "60s")) as vm:
        vm.c.kill_daemon(A)
        vm.c.wait(lambda: not pid_of(A, BRIDGE), "the bridge has died with its daemon")
        vm.panic(A)
        vm.c.wait(lambda: any(vm.c.nodes[A].disk(
            f"/var/lib/holdfast/{vm.name}/frozen").glob("*/certificate.json")), "it is frozen")
        vm.c.restart_daemon(A)
        vm.wait_runs(B)
        told(vm, A, "frozen", "guest-panic")
        vm.c.kill_daemon(A)  # now with nothing assigned here; what was told is lost, too
        vm.c.sh(A, ["attrd_updater", "-D", "-n", f"holdfast-{vm.name}"])
        vm.c.restart_daemon(A)
        told(vm, A, "frozen", "guest-panic")
        expect(simulated(vm, A) == 1, "announced again, of what was ended here")
        vm.expect_boots(A, B)
        vm.expect_nobody_fenced()


@check
def the_attribute_manager_dies_and_hangs() -> None:
    """What it has forgotten is written again; what it could not be told is told when it can."""
    with ClusteredVm("attrd", monitor=("600s", "60s")) as vm:
        vm.panic(A)
        vm.wait_runs(B)
        told(vm, A, "frozen", "guest-panic")
        first = pid_of(A, "pacemaker-attrd")
        send(A, "pacemaker-attrd", signal.SIGKILL)
        vm.c.wait(lambda: pid_of(A, "pacemaker-attrd") not in (0, first), "another one")
        told(vm, A, "frozen", "guest-panic")
        with hung(A, "pacemaker-attrd"):
            release(vm, A)
            vm.c.wait(lambda: not vm.frozen(A), "it is released")
            holdfastd_answers(A)
        vm.wait_untold(A)
        expect(simulated(vm, A) == 1, "announced more than once")
        vm.expect_nobody_fenced()


@check
def the_controller_hangs() -> None:
    """So long that the bridge gives up waiting. The news that it dropped is not told late."""
    with ClusteredVm("ctrl", monitor=("600s", "60s")) as vm:
        with hung(A, "pacemaker-contr"):
            vm.panic(A)
            vm.c.wait(lambda: vm.frozen(A), "it is frozen")
            holdfastd_answers(A)
            time.sleep(6.0)
            expect(pid_of(A, BRIDGE), "the bridge is there")
        vm.wait_runs(B)
        told(vm, A, "frozen", "guest-panic")
        expect(simulated(vm, A) == 1, f"announced {simulated(vm, A)} times")
        vm.expect_boots(A, B)


@check
def pacemaker_is_started_again() -> None:
    """The VM fails while Pacemaker is down here, and runs on as far as that knows."""
    with ClusteredVm("restart", monitor=("600s", "60s")) as vm:
        vm.c.set_property("maintenance-mode", "true")
        vm.c.wait(vm.c.is_idle, "maintenance")
        vm.c.nodes[A].stop_cluster()
        vm.panic(A)
        vm.c.wait(lambda: vm.frozen(A), "it is frozen")
        holdfastd_answers(A)
        vm.c.nodes[A].start_cluster()
        vm.c.wait_online()
        told(vm, A, "frozen", "guest-panic")
        vm.c.set_property("maintenance-mode", "false")
        vm.wait_runs(B)
        vm.expect_boots(A, B)
        vm.expect_nobody_fenced()


# --- fencing --------------------------------------------------------------------------------------

def wait_fenced_told(since_ns: int, how: str, lease: str) -> None:
    """hostA's daemon was told that hostB is dead, and what follows for its leases."""
    c = the_cluster()
    events = c.events(A)
    try:
        event = events.wait("host-fenced", SEEN_S, lambda e: int(e["time_ns"]) >= since_ns)
        expect("hostB" in event["text"] and event["by"].startswith(f"{how} by "), event)
        expect(lease in event["lease"], event)
    finally:
        events.close()


@check
def a_fenced_node_is_told() -> None:
    """By the fencer's word, and by its history when nobody listened. A reboot that is over says
    nothing about who joined in the last minutes: that may be who has booted."""
    c = the_cluster()
    c.set_property("stonith-action", "reboot")
    since_ns = time.time_ns()
    c.kill(B)
    is_young = time.monotonic() - BEGUN < YOUNG_S
    wait_fenced_told(since_ns, "reboot", "after that" if is_young else "")
    since_ns = time.time_ns()
    with hung(A, BRIDGE):
        c.sh(A, ["stonith_admin", "--fence", B, "--timeout", "30"], 60.0)  # once more
        holdfastd_answers(A)
        send(A, BRIDGE, signal.SIGKILL)
    wait_fenced_told(since_ns, "off", "taken over")
    c.reset()


# --- names and words ------------------------------------------------------------------------------

@check
def odd_names_and_texts() -> None:
    """Of a VM and its resource; a reason with all that XML and shells make much of."""
    with ClusteredVm("odd.na-me_1", monitor=("600s", "60s")) as vm:
        vm.c.cli(A, "freeze", vm.name, "--reason", 'a "b" \'c\' <d> &e; $(f)\nz\u00e9 \u4e16')
        vm.wait_runs(B)
        told(vm, A, "frozen", """: a "b" 'c' <d> &e; $(f) z? ?""")
        release(vm, A)
        vm.wait_untold(A)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        end_the_cluster()
