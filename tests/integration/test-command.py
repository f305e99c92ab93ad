#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator does: looking, handing over, stopping, signals, and mistakes. A mistake is
refused with a reason, and does no harm to a guest that runs. What needs no QEMU is in
test-admin.py."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from checks import check, expect, main, poll
from frozenvm import Guarded, tiny_vm
from lab import Lab, Vm
from protected import Load, Pair, expect_nothing_left


def cli(pair: Pair, host: str, *words: str) -> subprocess.CompletedProcess:
    """The command line tool on a host, whatever its exit status."""
    argv = [pair.vm.holdfast(), *words, "--run-dir", pair.vm.run_dir]
    return pair.lab.run(host, argv, check=False)


REFUSED = 7  # of the command line tool
UNKNOWN = 9  # what was asked does not answer


def expect_refused(done: subprocess.CompletedProcess, reason: str, code: int = REFUSED) -> None:
    expect(done.returncode == code, f"exit {done.returncode}, want {code}: {done.stderr}")
    expect(reason in done.stderr, f"want \"{reason}\": {done.stderr}")


@check
def status_list_and_events() -> None:
    with Pair() as pair:
        follower = pair.vm.events("hostA")
        follower.wait_event("protected")
        text = cli(pair, "hostA", "status", "vm1").stdout
        for word in ("vm1: primary, protected", "life running", "committed of", "pause", "commit",
                     "held"):
            expect(word in " ".join(text.split()), f"no \"{word}\" in: {text}")
        done = cli(pair, "hostB", "status", "vm1")
        expect("vm1: standby, ready" in done.stdout and done.returncode == 10, done)
        status = json.loads(cli(pair, "hostA", "status", "vm1", "--json").stdout)
        expect(status["role"] == "primary" and status["protected"] is True, status)
        for key in ("pause", "commit"):
            expect({"n", "p50_ns", "p99_ns"} <= set(status["epochs"][key]), status)
        listed = json.loads(cli(pair, "hostB", "list", "--json").stdout)
        expect([(one["vm"], one["life"]) for one in listed] == [("vm1", "standby")], listed)
        expect("vm1 running primary yes" in
               " ".join(cli(pair, "hostA", "status").stdout.split()), "status of the host")
        expect_refused(cli(pair, "hostA", "status", "vm2"), "vm2", 3)
        expect_refused(cli(pair, "hostA", "status", "../vm1"), "cannot be the name", 2)
        pair.standby.ask("Stop", force=True)
        follower.wait_event("alone")
        pair.primary.ask("Stop", force=True)
        expect(follower.wait() == 0, "exit code of `events` at the keeper's end")
        seqs = [event["seq"] for event in follower.events]
        expect(seqs == list(range(1, len(seqs) + 1)), f"events are missing: {seqs}")


@check
def hands_over() -> None:
    with Pair() as pair:
        load = Load(pair)
        expect_refused(cli(pair, pair.primary.host, "promote", "vm1"), "this is the primary")
        for act in ("promote", "promote", "SIGTERM"):
            old = pair.primary
            if act == "SIGTERM":
                old.proc.signal(signal.SIGTERM)
            else:
                done = cli(pair, pair.standby.host, "promote", "vm1")
                expect(done.returncode == 0, done.stderr)
            pair.standby.wait("live")
            expect(old.exit_code() == 0, f"exit code {old.exit_code()} of the old primary")
            expect("another host" not in old.log(), f"a hand-over is no fault: {old.log()}")
            expect("]: migrating\n" in old.log() and "]: shut-off\n" in old.log(), old.log())
            expect_nothing_left(pair, old.host)
            pair.primary = pair.standby
            load.wait_progress()
            pair.renew()
        load.finish()


@check
def promotes_by_force_only() -> None:
    """The primary's host has lost its power: nobody but the operator can know that."""
    with Pair() as pair:
        load = Load(pair)
        expect_refused(cli(pair, "hostB", "status", "vm1", "--nonsense"), "usage", 2)
        pair.lab.kill_host("hostA", is_silent=True)
        pair.standby.wait("lost")
        expect_refused(cli(pair, "hostB", "promote", "vm1"), "--force")
        expect_refused(cli(pair, "hostB", "stop", "vm1"), "only copy")
        expect(pair.standby.status()["state"] == "lost", pair.standby.status())
        done = cli(pair, "hostB", "promote", "vm1", "--force")
        expect(done.returncode == 0, done.stderr)
        pair.standby.wait("live")
        pair.primary = pair.standby
        load.wait_progress()
        pair.lab.boot_host("hostA")
        pair.renew()
        load.finish()


def expect_stopped(pair: Pair) -> None:
    expect(pair.primary.exit_code(60) == 0, pair.primary.log())
    pair.standby.wait("vm-ended")
    pair.standby.wait("idle")
    expect_nothing_left(pair, pair.primary.host)


@check
def stops() -> None:
    with Pair() as pair:
        expect_refused(cli(pair, "hostA", "stop", "vm7"), "vm7", 3)
        expect(cli(pair, "hostA", "stop", "vm1").returncode == 0, "stop")  # the power button
        expect_stopped(pair)
        expect_refused(cli(pair, "hostB", "promote", "vm1"), "nothing to promote")
        pair.primary = pair.start_primary("hostA", "hostB")
        pair.guest.wait_up()
        pair.wait_protected()
        expect(cli(pair, "hostA", "stop", "vm1", "--force").returncode == 0, "stop --force")
        expect_stopped(pair)
        pair.primary = pair.start_primary("hostA", "hostB")
        pair.guest.wait_up()
        pair.wait_protected()
        pair.primary.proc.signal(signal.SIGINT)  # Ctrl-C: the VM is to end, not to move
        expect_stopped(pair)
        pair.standby.proc.signal(signal.SIGINT)
        expect(pair.standby.exit_code() == 0, pair.standby.log())
        expect_nothing_left(pair, "hostB")


@check
def second_keepers_are_refused() -> None:
    with Pair() as pair:
        load = Load(pair)
        vm, lab = pair.vm, pair.lab
        again = lab.run("hostA", vm.side("run", "hostA", "hostB", ()), check=False)
        expect_refused(again, "running already", 1)
        again = lab.run("hostB", vm.side("standby", "hostB", "hostA", ()), check=False)
        expect_refused(again, "running already", 1)
        load.wait_progress()
        pair.failover("host")
        load.wait_progress()
        # The dead host comes back and its administrator, or an init script, starts the VM there.
        done = lab.run("hostA", vm.side("run", "hostA", "hostB", ()), check=False)
        expect_refused(done, "runs on", 5)
        expect_nothing_left(pair, "hostA")
        load.wait_progress()
        pair.renew()
        load.finish()


@check
def wrong_standbys_are_refused() -> None:
    with Pair() as pair:
        load = Load(pair)
        pair.standby.ask("Stop", force=True)
        pair.standby.exit_code()
        pair.primary.wait("alone")
        wrong = {"RAM size": Vm(pair.lab, mem_mib=192), "machine": Vm(pair.lab, machine="pc"),
                 "name": Vm(pair.lab, name="vm2"), "vCPU": Vm(pair.lab, smp=2),
                 "device": Vm(pair.lab, extra=("-device", "virtio-rng-pci"))}
        for reason, vm in wrong.items():
            seen = len(pair.primary.log())
            proc = vm.standby("hostB", "hostA")
            poll(lambda: reason in pair.primary.log()[seen:],
                 f"the primary says that the {reason} differs")
            expect(proc.is_running(), f"the standby has ended: {proc.log_tail()}")
            expect("turned away" in proc.log_tail(), proc.log_tail())
            expect(pair.primary.status()["state"] == "alone", pair.primary.status())
            proc.signal(signal.SIGTERM)
            expect(proc.wait() == 0, proc.log_tail())
            load.wait_progress()
        pair.standby = pair.start_standby("hostB", "hostA")
        pair.wait_protected()
        load.finish()


@check
def impossible_command_lines_are_refused() -> None:
    with Pair(is_waiting=False) as pair:
        pair.standby.ask("Stop", force=True)
        pair.primary.ask("Stop", force=True)
        pair.primary.exit_code()
        pair.standby.exit_code()
        side = pair.vm.side("run", "hostA", "hostB", ())
        for more, reason in ((["-mem-path", "/nowhere"], "nowhere"), (["-nonsense"], ""),
                             (["-netdev", "user,id=u", "-device", "e1000,netdev=u"], "u")):
            done = pair.lab.run("hostA", side + more, check=False)
            expect(done.returncode == 1 and reason in done.stderr, (more, done))
            expect_nothing_left(pair, "hostA")
        for options in (["--epoch-interval", "1h"], ["--hold-net"], ["--nonsense"]):
            done = pair.lab.run("hostA", [pair.vm.holdfast(), "run", "vm1", *options, "--",
                                          "qemu-system-x86_64"], check=False)
            expect(done.returncode == 2 and done.stderr, (options, done))


class Operator:
    """The command line tool on the host of one VM."""

    def __init__(self, guarded: Guarded):
        self.guarded = guarded
        self.vm = guarded.vm.name
        self.options = ("--run-dir", guarded.vm.run_dir,
                        "--state-dir", f"{guarded.lab.self_dir}/state")

    def run(self, *words: str) -> subprocess.CompletedProcess:
        argv = [self.guarded.vm.holdfast(), *words, *self.options]
        return self.guarded.lab.run(self.guarded.host, argv, check=False)

    def does(self, *words: str, code: int = 0) -> str:
        """What it prints; the exit status must be that."""
        done = self.run(*words)
        expect(done.returncode == code, f"{words}: exit {done.returncode}, want {code}: {done}")
        return done.stdout

    def row(self, name: str) -> dict[str, Any]:
        listed = {row["name"]: row for row in json.loads(self.run("list", "--json").stdout)}
        expect(name in listed, listed)
        return listed[name]


@check
def freezes_and_releases() -> None:
    """From running to frozen, looked at, moved to a file, discarded: without a daemon."""
    with Lab(("hostA",)) as lab, Guarded(tiny_vm(lab, "op")) as g:
        by, vm = Operator(g), g.vm.name
        by.does("status", vm, "--quiet")
        by.does("pause", vm)
        g.wait_life("paused")
        by.does("status", vm, "--quiet", code=12)
        by.does("resume", vm)
        g.wait_life("running")
        expect_refused(by.run("release", vm), "froz")
        name = by.does("freeze", vm, "--reason", "to be looked at").strip()
        expect(name == f"{vm}@{g.instance().id}", name)
        text = by.does("status", vm, code=14)
        for word in (f"{name}: frozen on", "to be looked at", "certify", "never here",
                     f"holdfast release {name}"):
            expect(word in text, f"no \"{word}\" in: {text}")
        expect(" NO " not in text, f"a check does not hold: {text}")
        by.does("status", name[:-3], "--quiet", code=14)
        expect(by.row(name)["life"] == "frozen", by.row(name))
        for verb in ("stop", "resume", "pause", "promote"):
            expect_refused(by.run(verb, name), "froz")
        by.does("offload", name)
        kept = g.instance()
        expect((kept.folder / "ram").stat().st_size == kept.certificate["ram_bytes"], kept)
        by.does("release", name)
        expect(not g.instances(), g.instances())
        by.does("status", name, code=3)


@check
def answers_beside_what_hangs() -> None:
    """Keeper or QEMU stopped: status is there in time, and says so; a dead keeper is no riddle."""
    with Lab(("hostA",)) as lab, Guarded(tiny_vm(lab, "hung")) as g:
        by, vm = Operator(g), g.vm.name
        os.kill(g.qemu_pid, signal.SIGSTOP)
        by.does("status", vm, "--quiet", "--timeout", "2")
        os.kill(g.keeper.pid, signal.SIGSTOP)
        began = time.monotonic()
        done = by.run("status", vm, "--timeout", "2")
        took = time.monotonic() - began
        expect(done.returncode == UNKNOWN and f"process {g.keeper.pid} is stopped" in done.stdout
               and f"QEMU, {g.qemu_pid}, is stopped" in done.stdout, done)
        expect(took < 5, f"it took {took:.1f} s")  # 2 s, and what a loaded machine adds
        os.kill(g.qemu_pid, signal.SIGCONT)
        os.kill(g.keeper.pid, signal.SIGCONT)
        name = by.does("freeze", vm).strip()
        os.kill(g.keeper.pid, signal.SIGKILL)
        poll(lambda: g.keeper.pid not in g.pids(), "the keeper dies")
        expect(by.row(name)["answers"] is False, by.row(name))
        text = by.does("status", vm, code=14)
        expect("no keeper guards it" in text, text)
        by.does("release", name)
        expect(not g.instances() and not g.pids(), (g.instances(), g.pids()))


if __name__ == "__main__":
    sys.exit(main())
