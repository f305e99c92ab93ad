#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as a plain resource of a real Corosync and Pacemaker with STONITH: what befalls it, its
processes, its daemon, its node and the network, and what operators do. After each: where it runs,
that it ran at most once at any time, that no node was fenced for a VM's failure, and that what was
frozen is there to be dumped.

usage: test-pacemaker.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, QEMU. Exit status: 0, 1, or 77 when not root."""

import shlex
import signal
import sys
import time

from checks import check, expect, main, poll, say

# pylint: disable=wrong-import-position
from clustered import A, B, ClusteredVm, end_the_cluster, the_cluster  # noqa: E402
from labwitness import Witness, tick_argv  # noqa: E402

# --- the lab itself ------------------------------------------------------------------------------


@check
def the_witness_can_fail() -> None:
    """Two QEMUs on one image, which no lease keeps apart: it sees that."""
    c = the_cluster()
    image = c.shared / "twice.raw"
    with Witness(image) as witness:
        for number, node in enumerate((A, B), 1):
            argv = tick_argv(f"file={image},file.locking=off", str(number))
            c.nodes[node].spawn(["qemu-system-x86_64", *shlex.split(argv)], "twice.log")
            poll(lambda n=number: n in witness.hosts(), f"the QEMU on {node} ticks")
        poll(lambda: witness.faults, "the witness sees two")
        expect([boot.tag for boot in witness.boots][:2] == [1, 2], witness.boots)
        for node in (A, B):
            c.sh(node, ["pkill", "-KILL", "-f", "twice.raw"])
    image.unlink()


# --- the VM fails --------------------------------------------------------------------------------

def fails_over(vm: ClusteredVm) -> None:
    """From hostA to hostB, for a fault of the VM alone."""
    began = time.monotonic()
    vm.wait_runs(B)
    stops = [f"{action.ms:.0f} ms" for action in vm.actions(A, "stop")]
    say(f"runs again after {time.monotonic() - began:.1f} s; stop: {stops}")
    vm.expect_boots(A, B)
    vm.expect_nobody_fenced()


def is_forgotten_after_release(vm: ClusteredVm, ident: str) -> None:
    vm.c.cli(A, "release", f"{vm.name}@{ident}")
    vm.wait_untold(A)
    expect(not vm.frozen(A), vm.frozen(A))
    vm.expect_ticking()  # it has stayed where it is
    vm.expect_boots(A, B)


@check
def a_killed_qemu() -> None:
    with ClusteredVm("killed") as vm:
        vm.signal_qemu(A)
        fails_over(vm)


@check
def a_panic() -> None:
    with ClusteredVm("panic") as vm:
        vm.panic(A)
        fails_over(vm)
        vm.wait_told(A, "frozen", "guest-panic")
        is_forgotten_after_release(vm, vm.expect_dump(A, "guest-panic"))


@check
def an_io_error() -> None:
    """The guest stands still, and is a failure: it is frozen, and goes on elsewhere."""
    with ClusteredVm("ioerror", has_failing_disk=True) as vm:
        vm.fail_disk(A)
        fails_over(vm)
        ident = vm.expect_dump(A, "io-error")
        vm.wait_told(A, "frozen", "io-error")
        is_forgotten_after_release(vm, ident)


@check
def a_hung_qemu() -> None:
    with ClusteredVm("hung") as vm:
        vm.signal_qemu(A, signal.SIGSTOP)
        fails_over(vm)
        vm.wait_told(A, "frozen", "hang")
        is_forgotten_after_release(vm, vm.expect_dump(A, "hang"))


@check
def a_hung_keeper() -> None:
    """Nobody answers for the VM, so it is ended, and that is proven, before it starts elsewhere."""
    with ClusteredVm("keeper", monitor=("3s", "5s")) as vm:
        pids = [vm.view(A)[which] for which in ("keeper_pid", "qemu_pid")]
        vm.signal_keeper(A, signal.SIGSTOP)
        fails_over(vm)
        alive = [pid for pid in pids if vm.c.nodes[A].is_alive(pid)]
        expect(not alive, f"still there on {A}: {alive} of {pids}")


# --- the daemon fails ----------------------------------------------------------------------------

def expect_untouched(vm: ClusteredVm) -> None:
    """It runs where it ran, and Pacemaker has seen nothing wrong."""
    vm.expect_ticking()
    expect(vm.c.instances(vm.name) == {A: "Started"}, vm.c.instances(vm.name))
    expect(not vm.c.failures(vm.name), vm.c.failures(vm.name))
    vm.expect_boots(A)
    vm.expect_nobody_fenced()


@check
def a_killed_daemon() -> None:
    """It is started again at once, as by systemd, well before the lease runs out."""
    with ClusteredVm("killeddaemon", monitor=("1s", "10s")) as vm:
        for _ in range(3):
            vm.c.kill_daemon(A)
            vm.c.restart_daemon(A)
        vm.c.wait(lambda: vm.view(A)["life"] == "running", "it knows its VM")
        vm.wait_monitors(A)
        expect_untouched(vm)


@check
def a_hung_and_a_missing_daemon() -> None:
    """For longer than a monitor may take, and nobody starts it again. The VM has no lease, which
    nobody would renew."""
    with ClusteredVm("hungdaemon", monitor=("1s", "3s"), has_lease=False) as vm:
        vm.c.signal_daemon(A, signal.SIGSTOP)
        try:
            vm.wait_monitors(A, 3)
            time.sleep(4.0)  # what hangs has been given up
            expect_untouched(vm)
        finally:
            vm.c.signal_daemon(A, signal.SIGCONT)
        vm.c.wait(lambda: vm.view(A)["life"] == "running", "the daemon answers again")
        vm.c.kill_daemon(A)
        vm.wait_monitors(A, 4)
        expect_untouched(vm)


@check
def a_daemon_that_stays_away() -> None:
    """The lease runs out, which stops the VM, and nobody can give the lease back: the start on the
    other node waits until it is free."""
    with ClusteredVm("away", monitor=("1s", "10s")) as vm:
        vm.c.kill_daemon(A)
        fails_over(vm)
        vm.c.restart_daemon(A)
        vm.wait_told(A, "frozen")
        is_forgotten_after_release(vm, vm.frozen(A)[0])


# --- the node fails, and the network ------------------------------------------------------------

@check
def a_lost_node() -> None:
    """It is fenced, which proves its death: nobody waits for its lease to run out."""
    with ClusteredVm("lost") as vm:
        began = time.monotonic()
        vm.c.fail_power(A)
        vm.wait_runs(B)
        say(f"runs again after {time.monotonic() - began:.1f} s")
        vm.expect_boots(A, B)
        expect(set(vm.c.fenced_nodes()) == {A}, vm.c.fenced)
        told = vm.c.events(B)
        expect("taken over" in told.wait("host-fenced")["lease"], told.seen[-1])
        told.close()
        vm.c.boot(A)
        vm.expect_ticking()
        vm.expect_boots(A, B)


@check
def a_split_network() -> None:
    """Both would fence each other; the one that runs the VM loses."""
    with ClusteredVm("split") as vm:
        vm.c.lab.cut(A)
        vm.wait_runs(B)
        vm.expect_boots(A, B)
        expect(set(vm.c.fenced_nodes()) == {A}, vm.c.fenced)


# --- operators -----------------------------------------------------------------------------------

def expect_refused_by_holdfast(vm: ClusteredVm) -> None:
    """What is Pacemaker's to decide."""
    for verb in ("stop", "start"):
        done = vm.c.nodes[A].sh(["holdfast", verb, vm.name], check=False)
        expect(done.returncode == 7 and "pacemaker" in done.stderr.lower(),
               f"{verb}: {done.returncode} {done.stderr}")


def order(vm: ClusteredVm, *words: str) -> None:
    """What crm and pcs do in the end, in a tenth of their time."""
    vm.c.sh(A, ["crm_resource", "-r", vm.name, *words])


@check
def operators_have_their_way() -> None:
    """Stop, start, move, standby of a node."""
    with ClusteredVm("ordered") as vm:
        c = vm.c
        expect_refused_by_holdfast(vm)
        order(vm, "--meta", "-p", "target-role", "-v", "Stopped")
        c.wait(lambda: not c.instances(vm.name) and c.is_idle(), "stopped")
        expect(not vm.view(A)["keeper_pid"], vm.view(A))
        order(vm, "--meta", "-p", "target-role", "-v", "Started")
        vm.wait_runs(A)
        # Counts from the next action on; nothing is restarted for it.
        order(vm, "-p", "shutdown_timeout", "-v", "7s")
        log = c.nodes[A].disk("/var/log/pacemaker/pacemaker.log")
        c.wait(lambda: f"rsc:{vm.name} action:reload-agent" in log.read_text(errors="replace"),
               "reloaded")
        c.wait(c.is_idle, "idle")
        vm.expect_boots(A, A)
        order(vm, "--move", "-N", B)
        vm.wait_runs(B)
        order(vm, "--clear")
        c.sh(A, ["crm_standby", "-N", B, "-v", "on"])
        vm.wait_runs(A)
        c.sh(A, ["crm_standby", "-N", B, "-D"])
        c.wait_online()
        vm.expect_boots(A, A, B, A)
        expect(not c.failures(), c.failures())
        vm.expect_nobody_fenced()


@check
def a_failure_in_maintenance() -> None:
    """Pacemaker does nothing about it then, and nor does holdfast."""
    with ClusteredVm("maintained", monitor=("1s", "10s")) as vm:
        c = vm.c
        c.set_property("maintenance-mode", "true")
        c.wait(c.is_idle, "Pacemaker is idle")
        vm.panic(A)
        vm.wait_told(A, "frozen", "guest-panic")
        c.wait(lambda: c.failures(vm.name), "Pacemaker has seen it")
        c.wait(c.is_idle, "Pacemaker is idle")
        vm.expect_boots(A)
        expect(not vm.view(B)["keeper_pid"], vm.view(B))
        c.set_property("maintenance-mode", "false")
        fails_over(vm)
        vm.expect_dump(A, "guest-panic")


@check
def a_cluster_that_restarts() -> None:
    """In maintenance: Pacemaker and Corosync end on both nodes and come back; the VM runs on."""
    with ClusteredVm("restart") as vm:
        c = vm.c
        c.set_property("maintenance-mode", "true")
        c.wait(c.is_idle, "Pacemaker is idle")
        for node in c.names:
            c.nodes[node].stop_cluster()
        vm.expect_ticking()
        for node in c.names:
            c.nodes[node].start_cluster()
        c.wait_online()
        c.set_property("maintenance-mode", "false")
        c.wait(c.is_idle, "Pacemaker is idle")
        vm.wait_runs(A)
        expect_untouched(vm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        end_the_cluster()
