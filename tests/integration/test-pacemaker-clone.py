#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A protected VM as a promotable clone of a real Corosync and Pacemaker with STONITH. Its standby goes
live by itself, and Pacemaker follows; Pacemaker moves the promoted role, and the VM is handed over. After
each: where the VM runs, that it never ran twice and lost nothing, whether the guest was booted anew,
and that nobody was fenced for a VM's failure.

usage: test-pacemaker-clone.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, QEMU. Exit status: 0, 1, or 77 when not root."""

import signal
import sys
import time

from checks import check, expect, main, say

# pylint: disable=wrong-import-position
from clonedvm import ClonedVm  # noqa: E402
from clustered import A, B, end_the_cluster  # noqa: E402

MAINTENANCE = "configure property maintenance-mode="


def expect_undisturbed(vm: ClonedVm) -> None:
    """Nothing has failed, and nobody was fenced."""
    expect(not vm.c.failures(vm.name), vm.c.failures(vm.name))
    vm.expect_nobody_fenced()


def prefer(vm: ClonedVm, node: str) -> None:
    """As `crm resource move` and `pcs resource move` do it for a promoted role."""
    vm.c.configure(f"location moved-{vm.name} {vm.clone} rule $role=Promoted inf: #uname eq {node}")


def prefer_no_more(vm: ClonedVm) -> None:
    vm.c.crm(f"configure delete moved-{vm.name}")


# --- the VM fails --------------------------------------------------------------------------------

@check
def a_killed_qemu() -> None:
    """The standby goes on with the guest; where it died a new standby is started."""
    with ClonedVm("killed") as vm:
        expect_undisturbed(vm)
        vm.expect_boots(A)
        began = time.monotonic()
        vm.signal_qemu(A)
        vm.wait_live(B)
        say(f"runs again after {time.monotonic() - began:.2f} s")
        vm.wait_runs(B)
        say(f"promoted and protected after {time.monotonic() - began:.2f} s")
        vm.expect_ticking()
        vm.expect_boots(A)
        vm.expect_nobody_fenced()


@check
def a_panic() -> None:
    """The standby boots the guest anew; what panicked is kept, beside a new standby."""
    with ClonedVm("panic") as vm:
        vm.panic(A)
        vm.wait_runs(B)
        vm.expect_ticking()
        vm.expect_boots(A, B)
        vm.expect_nobody_fenced()
        ident = vm.expect_dump(A, "guest-panic")
        vm.wait_kept(A, f"guest-panic severity=fatal id={ident}")
        vm.c.cli(A, "release", f"{vm.name}@{ident}")
        vm.wait_untold(A)
        expect(not vm.frozen(A), vm.frozen(A))
        vm.wait_runs(B)
        vm.expect_boots(A, B)


@check
def a_hung_qemu() -> None:
    with ClonedVm("hung") as vm:
        vm.signal_qemu(A, signal.SIGSTOP)
        vm.wait_runs(B)
        vm.expect_ticking()
        vm.expect_boots(A)
        ident = vm.expect_dump(A, "hang")
        vm.wait_kept(A, f"id={ident}")
        vm.expect_nobody_fenced()


@check
def a_killed_standby() -> None:
    """The VM runs on, and has another standby soon."""
    with ClonedVm("standby") as vm:
        vm.signal_qemu(B)
        vm.c.wait(lambda: not vm.view(A).get("protected"), "it is unprotected")
        vm.wait_runs(A)
        vm.expect_ticking()
        vm.expect_boots(A)
        vm.expect_nobody_fenced()


# --- the node fails ------------------------------------------------------------------------------

@check
def a_lost_node() -> None:
    """The standby goes live; the node is fenced, comes back, and stands by."""
    with ClonedVm("lost") as vm:
        began = time.monotonic()
        vm.c.fail_power(A)
        vm.wait_live(B)
        say(f"runs again after {time.monotonic() - began:.2f} s")
        vm.c.wait(lambda: vm.c.instances(vm.name, B).get(B) == "Promoted", "Pacemaker follows")
        vm.expect_ticking()
        expect(set(vm.c.fenced_nodes()) == {A}, vm.c.fenced)
        vm.c.boot(A)
        vm.wait_runs(B)
        vm.expect_boots(A)


@check
def a_promotion_that_the_vote_refuses() -> None:
    """The network is split, and the power switch says of each node that it is off, which is a lie. So
    Pacemaker has the standby promoted while the VM runs: it stays as it is, and nothing is lost."""
    with ClonedVm("refused", promote_s=10) as vm:
        assert vm.c.switch
        vm.c.switch.lies = True
        vm.c.lab.cut(A)
        vm.c.wait(lambda: vm.is_ordered(B, "promote"), "the promotion is ordered")
        vm.expect_ticking(100)
        vm.expect_boots(A)
        expect(vm.is_running(A) and not vm.is_running(B), "it runs where it ran")
        vm.c.switch.lies = False
        vm.c.lab.heal(A)
        vm.c.wait_online()
        vm.c.sh(A, ["crm_resource", "--cleanup"], check=False)
        vm.wait_runs(A)
        vm.expect_ticking()
        vm.expect_boots(A)


# --- operators -----------------------------------------------------------------------------------

@check
def operators_have_their_way() -> None:
    """Move of the role, holdfast's own hand-over, standby of a node, stop of all: no reboot until the
    last."""
    with ClonedVm("ordered") as vm:
        c = vm.c
        prefer(vm, B)
        vm.wait_runs(B)
        prefer_no_more(vm)
        vm.wait_runs(B)
        vm.expect_boots(A)
        c.cli(A, "promote", vm.name, "--manager", "pacemaker")
        vm.wait_runs(A)
        vm.expect_boots(A)
        expect_undisturbed(vm)
        c.crm(f"node standby {A}")
        vm.wait_live(B)
        c.wait(lambda: c.instances(vm.name) == {B: "Promoted"} and c.is_idle(), "it runs alone")
        vm.expect_ticking()
        c.crm(f"node online {A}")
        vm.wait_runs(B)
        vm.expect_boots(A)
        expect_undisturbed(vm)
        c.crm(f"resource stop {vm.clone}")
        c.wait(lambda: not c.instances(vm.name) and c.is_idle(), "all is stopped")
        for node in (A, B):
            expect(not vm.view(node)["keeper_pid"], vm.view(node))
        c.crm(f"resource start {vm.clone}")
        c.wait(lambda: sorted(c.instances(vm.name).values()) == ["Promoted", "Unpromoted"],
               "it is started again")
        vm.expect_ticking()
        vm.expect_boots(A, A)
        expect_undisturbed(vm)


@check
def a_cluster_that_restarts() -> None:
    """In maintenance: Pacemaker and Corosync end on both nodes. The VM runs on; its QEMU is killed, and
    the standby goes live; the cluster comes back, and finds what there is."""
    with ClonedVm("restart") as vm:
        c = vm.c
        c.crm(f"{MAINTENANCE}true")
        c.wait(c.is_idle, "Pacemaker is idle")
        for node in c.names:
            c.nodes[node].stop_cluster()
        vm.expect_ticking()
        vm.signal_qemu(A)
        vm.wait_live(B)
        for node in c.names:
            c.nodes[node].start_cluster()
        c.wait_online()
        c.crm(f"{MAINTENANCE}false")
        vm.wait_runs(B)
        vm.expect_ticking()
        vm.expect_boots(A)
        vm.expect_nobody_fenced()


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        end_the_cluster()
