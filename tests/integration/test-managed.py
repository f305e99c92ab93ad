#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that a cluster manager decides about (manager = pacemaker), without one: the test writes what it
would have assigned, as the resource agent does, and gives its orders. The daemon starts what is
assigned and nothing else, ends nothing by itself, and refuses what operators order.

usage: test-managed.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from checks import check, expect, main, poll, say

# pylint: disable=wrong-import-position
from labhost import VmHost  # noqa: E402
from lablease import Call, CallError  # noqa: E402
from labnet import Lab, tool  # noqa: E402
from labpeers import PeerHost, PeerPair  # noqa: E402

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
REFUSED = 7
NOT_RUNNING = 7  # of OCF


def assign(host: VmHost, vm: str, place: str, **members: Any) -> None:
    """As `holdfast ocf` does before it does anything else."""
    folder = host.here / "run" / ".assigned"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = {"place": place, "boot_id": BOOT_ID, "manager": "pacemaker", "resource": f"rsc-{vm}",
            "instance": f"rsc-{vm}", "node": host.host, "promotable": False,
            "time_ns": time.time_ns(), **members}
    new = folder / f".new.{vm}"
    new.write_text(json.dumps(said), encoding="ascii")
    new.rename(folder / vm)


def start(host: VmHost, vm: str, place: str = "", **parameters: Any) -> dict[str, Any]:
    if place:
        assign(host, vm, place)
    reply = host.call("Start", vm=vm, manager="pacemaker", **parameters)
    return {**host.vm(vm), "answered": reply["role"]}


def stop(host: VmHost, vm: str, place: str = "none") -> None:
    """By force: there is no guest that would shut down."""
    assign(host, vm, place)
    host.call("Stop", vm=vm, force=True, manager="pacemaker")


def refusal(asked: VmHost, method: str, /, **parameters: Any) -> str:
    try:
        reply = asked.call(method, **parameters)
    except CallError as error:
        return str(error.parameters.get("reason", error))
    raise AssertionError(f"{method}({parameters}) was not refused: {reply}")


def cli(host: VmHost, *words: str) -> subprocess.CompletedProcess:
    # pylint: disable=subprocess-run-check
    return subprocess.run([tool("src/cli/holdfast"), *words, "--run-dir", str(host.here / "run")],
                          capture_output=True, text=True, timeout=60)


def wait(host: VmHost, vm: str, what: str, **members: Any) -> dict[str, Any]:
    """Until these members of the VM are so."""
    last: dict[str, Any] = {}

    def look() -> bool:
        last.clear()
        last.update(host.vm(vm))
        return all(last[key] == value for key, value in members.items())
    try:
        poll(look, what, 60.0)
    except AssertionError as error:
        raise AssertionError(f"{host.host}: {error}; it is {last}") from None
    return dict(last)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def settle(host: VmHost, *vms: str) -> None:
    """Whatever the daemon would do next, it has had two turns and the delay of a restart for it."""
    pids = {vm: host.vm(vm)["keeper_pid"] for vm in vms}
    time.sleep(2.5)
    host.call("Reload")
    expect(pids == {vm: host.vm(vm)["keeper_pid"] for vm in vms}, host.vms())


@contextmanager
def lone_host(*vms: str, **settings: str) -> Iterator[VmHost]:
    with Lab(("hostA",)) as lab:
        it = VmHost(lab)
        for vm in vms:
            it.define(vm, manager="pacemaker", **settings)
        try:
            it.start()
            yield it
        except BaseException:
            if it.daemon:
                say(it.daemon.log_tail())
            raise


# ---- one host ----


@check
def operators_are_refused_and_told_whom_to_ask() -> None:
    with lone_host("web") as it:
        it.define("plain")
        it.define("both", manager="pacemaker", autostart="yes")
        poll(lambda: "plain" in it.vms() and it.vms()["both"]["definition_error"], "definitions")
        expect("both.conf:5:13: autostart: with manager = pacemaker" in
               it.vm("both")["definition_error"], it.vm("both"))
        shown = it.vm("web")
        expect((shown["manager"], shown["resource"], shown["assigned"], shown["life"])
               == ("pacemaker", "", "", "shut-off"), shown)
        said = refusal(it, "Start", vm="web")
        expect("'web' is managed by pacemaker: use crm or pcs, or --manager pacemaker" in said,
               said)
        for parameters, want in ((dict(vm="web", manager="chef"), "'chef' is none that is known"),
                                 (dict(vm="plain", manager="pacemaker"), "lacks manager ="),
                                 (dict(vm="both", manager="pacemaker"), "both.conf:5:13"),
                                 (dict(vm="web", manager="pacemaker"), "has assigned nothing")):
            said = refusal(it, "Start", **parameters)
            expect(want in said, said)
        events = it.events()
        expect(start(it, "web", "run")["answered"] == "primary", it.vm("web"))
        told = events.wait("assigned", match=lambda e: e["vm"] == "web")
        expect((told["assigned"], told["resource"]) == ("run", "rsc-web"), told)
        events.close()
        commands_are_refused(it)
        stop(it, "web")
        wait(it, "web", "stopped", life="shut-off", keeper_pid=0, assigned="none")


def commands_are_refused(it: VmHost) -> None:
    before = it.vm("web")
    for words in (("start", "web"), ("stop", "web"), ("stop", "web", "--force"),
                  ("promote", "web"), ("save", "web")):
        done = cli(it, *words)
        expect(done.returncode == REFUSED, (words, done))
        expect("'web' is managed by pacemaker (resource rsc-web): use crm or pcs" in done.stderr,
               (words, done.stderr))
    done = cli(it, "start", "web", "--manager", "chef")
    expect(done.returncode == 2 and "--manager: 'chef'" in done.stderr, done)
    for words in (("start", "web", "--manager", "pacemaker"), ("resume", "web"), ("pause", "web")):
        done = cli(it, *words)
        expect(done.returncode == 0, (words, done))
    expect("managed by pacemaker (rsc-web)" in cli(it, "list").stdout, cli(it, "list"))
    done = cli(it, "status", "web")
    expect("managed by pacemaker (rsc-web); assigned to this host: run" in done.stdout, done)
    expect(it.vm("web")["keeper_pid"] == before["keeper_pid"], (before, it.vm("web")))
    hung = it.daemon_pid()  # then it is what was assigned that tells
    os.kill(hung, signal.SIGSTOP)
    try:
        for words in (("stop", "web"), ("promote", "web"), ("save", "web")):
            done = cli(it, *words)
            expect(done.returncode == REFUSED and "(resource rsc-web)" in done.stderr, done)
    finally:
        os.kill(hung, signal.SIGCONT)
    expect(is_alive(before["keeper_pid"]), "it was stopped all the same")


@check
def nobody_starts_one_by_hand() -> None:
    """`holdfast run`, past the daemon; whoever says to be the manager may."""
    with lone_host("web") as it:
        inside = it.lab.self_dir
        for verb in ("run", "standby"):
            argv = [it.program, verb, "web", "--run-dir", f"{inside}/run",
                    "--config", f"{inside}/vms/web.conf"]
            argv += ["--listen", "127.0.0.1:7999"] if verb == "standby" else []
            done = it.lab.spawn(it.host, argv, name=f"by-hand-{verb}")
            expect(done.wait(60.0) == 1, done.log_tail())
            expect("'web' is managed by pacemaker: use crm or pcs" in done.log_tail(),
                   done.log_tail())
        expect(not it.vm("web")["keeper_pid"], it.vm("web"))
        it.lab.spawn(it.host, [it.program, "run", "web", "--run-dir", f"{inside}/run", "--config",
                               f"{inside}/vms/web.conf", "--manager", "pacemaker"], name="manager")
        wait(it, "web", "it runs", supervision="up", life="paused", assigned="")
        stop(it, "web")


@check
def a_stop_is_answered_when_it_has_ended() -> None:
    """Also if the daemon reads what is assigned only then: that is news, but no end."""
    with lone_host("web") as it:
        running = start(it, "web", "run")
        path = it.here / "run" / ".assigned" / "web"
        said = json.loads(path.read_text())
        path.write_text(json.dumps({**said, "place": "none"}))  # in place: nobody is told
        expect(it.vm("web")["assigned"] == "run", it.vm("web"))
        it.call("Stop", vm="web", force=True, manager="pacemaker")
        expect(not is_alive(running["keeper_pid"]), "answered before the end")
        expect(it.vm("web")["assigned"] == "none", it.vm("web"))


@check
def what_was_wanted_before_does_not_come_back() -> None:
    """It was started by an operator, then managed, stopped by the manager, and is managed no more."""
    with lone_host() as it:
        it.define("web")
        poll(lambda: "web" in it.vms(), "defined")
        first = it.start_vm("web")
        it.define("web", manager="pacemaker")
        wait(it, "web", "managed", manager="pacemaker")
        stop(it, "web")
        expect(not is_alive(first["keeper_pid"]), "it runs on")
        it.stop()
        it.define("web")
        it.start()
        settle(it, "web")
        expect((it.vm("web")["keeper_pid"], it.vm("web")["desired"]) == (0, "stopped"),
               it.vm("web"))
        it.define("web", manager="pacemaker")
        wait(it, "web", "managed again", manager="pacemaker")
        running = start(it, "web", "run")
        it.define("web")  # what runs is wanted, now by an operator's word
        wait(it, "web", "managed no more", manager="", keeper_pid=running["keeper_pid"],
             desired="started")
        it.stop_vm("web")
        wait(it, "web", "down", keeper_pid=0, desired="stopped")


@check
def a_definition_that_is_gone_for_a_while_changes_nothing() -> None:
    with lone_host("web") as it:
        running = start(it, "web", "run")
        path = it.vms_dir / "web.conf"
        for _ in range(2):
            path.rename(it.vms_dir / "web.old")
            poll(lambda: not it.vm("web")["defined"], "the definition is gone")
            (it.vms_dir / "web.old").rename(path)
            wait(it, "web", "it is back", manager="pacemaker", assigned="run", defined=True)
        expect(it.vm("web")["keeper_pid"] == running["keeper_pid"], it.vm("web"))
        path.rename(it.vms_dir / "other.conf")  # renamed while it runs
        poll(lambda: "other" in it.vms() and not it.vm("web")["defined"], "another name")
        stop(it, "web")
        expect(not is_alive(running["keeper_pid"]), "it runs on")
        expect(start(it, "other", "run")["answered"] == "primary", it.vm("other"))
        stop(it, "other")


@check
def two_orders_at_once_end_as_the_last_one_said() -> None:
    with lone_host("web") as it:
        for _ in range(3):
            assign(it, "web", "run")
            with Call(it.control) as begun, Call(it.control) as ended:
                begun.send("Start", vm="web", manager="pacemaker")
                assign(it, "web", "none")
                ended("Stop", vm="web", force=True, manager="pacemaker")
                try:
                    begun.reply()
                except CallError:
                    pass
            wait(it, "web", "down", keeper_pid=0, assigned="none")
            expect(start(it, "web", "run")["answered"] == "primary", it.vm("web"))
            with Call(it.control) as ended, Call(it.control) as begun:
                assign(it, "web", "none")
                ended.send("Stop", vm="web", force=True, manager="pacemaker")
                assign(it, "web", "run")
                begun("Start", vm="web", manager="pacemaker")
            wait(it, "web", "up again, or still", supervision="up", role="primary")
            stop(it, "web")


@check
def what_has_died_waits_for_the_manager() -> None:
    """QEMU, then the keeper, is killed; the daemon is started anew meanwhile; its own policy to
    restart it is obeyed, though."""
    with lone_host("web") as it:
        it.define("again", manager="pacemaker", on_killed="restart")
        poll(lambda: "again" in it.vms(), "defined")
        first = start(it, "web", "run")
        again = start(it, "again", "run")
        expect(start(it, "web")["keeper_pid"] == first["keeper_pid"], "a second Start")
        it.kill()
        it.start()
        wait(it, "web", "it is found", keeper_pid=first["keeper_pid"], supervision="up",
             assigned="run", resource="rsc-web")
        os.kill(first["qemu_pid"], signal.SIGKILL)
        os.kill(again["qemu_pid"], signal.SIGKILL)
        poll(lambda: it.vm("again")["keeper_pid"] not in (0, again["keeper_pid"]), "restarted", 60)
        shown = wait(it, "web", "it is over", life="crashed", keeper_pid=0)
        expect((shown["cause"], shown["assigned"], shown["desired"])
               == ("qemu-killed", "run", "started"), shown)
        expect(shown["severity"] and shown["cause_text"], shown)
        it.call("Clear", vm="web")
        wait(it, "web", "forgotten", life="shut-off", keeper_pid=0)
        settle(it, "web")
        it.kill()
        it.start()
        settle(it, "web")
        expect(it.vm("web")["keeper_pid"] == 0, it.vm("web"))

        second = start(it, "web")  # the same assignment, a new order
        expect(second["answered"] == "primary", second)
        os.kill(second["keeper_pid"], signal.SIGKILL)
        wait(it, "web", "it is over", life="crashed", keeper_pid=0)
        stop(it, "web")
        wait(it, "web", "and is shown", life="crashed", assigned="none")
        third = start(it, "web", "run")  # cures it
        expect(third["answered"] == "primary", third)
        for vm in ("web", "again"):
            stop(it, vm)


@check
def a_daemon_that_slept_undoes_nothing() -> None:
    """The agent has stopped the VMs past it: one that would be restarted by its own policy, too."""
    with lone_host("web", on_killed="restart") as it:
        it.define("left", manager="pacemaker")
        poll(lambda: "left" in it.vms(), "defined")
        web, left = start(it, "web", "run"), start(it, "left", "run")
        hung = it.daemon_pid()
        os.kill(hung, signal.SIGSTOP)
        try:
            for vm in ("web", "left"):
                assign(it, vm, "none")
            os.kill(web["qemu_pid"], signal.SIGKILL)
            it.keeper_call("left", "Stop", force=True)
            poll(lambda: not is_alive(web["keeper_pid"]) and not is_alive(left["keeper_pid"]),
                 "both are over", 60.0)
        finally:
            os.kill(hung, signal.SIGCONT)
        for vm in ("web", "left"):
            wait(it, vm, "it knows", keeper_pid=0, assigned="none")
        settle(it, "web", "left")


@check
def a_keeper_that_comes_too_late_does_not_begin() -> None:
    """The agent looked for one before it was there; what it had written by then is found."""
    with Lab(("hostA",)) as lab:
        it = VmHost(lab)
        it.define("web", manager="pacemaker")
        gate = lab.work / "gate"
        slow = lab.work / "slow-holdfast"
        slow.write_text(f"#!/bin/sh\nread -r go < {gate}\nexec {it.program} \"$@\"\n")
        slow.chmod(0o755)
        os.mkfifo(gate)
        it.program = str(slow)
        it.start()
        assign(it, "web", "run")
        with Call(it.control) as call:
            call.send("Start", vm="web", manager="pacemaker")
            wait(it, "web", "it is being started", supervision="starting")
            assign(it, "web", "none")
            gate.write_text("go\n")
            try:
                raise AssertionError(f"it was started: {call.reply()}")
            except CallError as error:
                expect("has decided otherwise meanwhile" in str(error), error)
        expect(not it.vm("web")["keeper_pid"], it.vm("web"))


@check
def only_a_whole_assignment_of_this_boot_counts() -> None:
    with lone_host("web") as it:
        assign(it, "web", "run", boot_id="00000000-0000-0000-0000-000000000000")
        expect("has assigned nothing" in refusal(it, "Start", vm="web", manager="pacemaker"), "")
        assign(it, "web", "run")
        wait(it, "web", "it is seen", assigned="run")
        settle(it, "web")  # seen, and not started without an order
        expect(not it.vm("web")["keeper_pid"], it.vm("web"))
        assign(it, "web", "sideways")
        said = refusal(it, "Start", vm="web", manager="pacemaker")
        expect("has assigned nothing" in said and "'sideways'" in said, said)
        expect("'sideways'" in it.vm("web")["reason"], it.vm("web"))
        assign(it, "web", "standby")
        said = refusal(it, "Start", vm="web", manager="pacemaker")
        expect("it has no second host" in said, said)

        running = start(it, "web", "run")
        (it.here / "run" / ".assigned" / "web").unlink()
        wait(it, "web", "none is there", assigned="")
        settle(it, "web")  # nor is anything ended
        assign(it, "web", "none")
        settle(it, "web")
        expect(it.vm("web")["keeper_pid"] == running["keeper_pid"], it.vm("web"))
        (it.vms_dir / "web.conf").unlink()
        poll(lambda: not it.vm("web")["defined"], "the definition is gone")
        stop(it, "web")  # what has no definition any more can be ended all the same
        expect(not is_alive(running["keeper_pid"]), "it runs on")


@check
def what_is_frozen_here_is_started_as_was_said() -> None:
    with lone_host("web") as it:
        start(it, "web", "run")
        it.keeper_call("web", "Freeze", reason="a test", topology="dimm 3", severity="fatal")
        shown = wait(it, "web", "it is frozen", life="frozen", keeper_pid=0)
        expect((shown["severity"], shown["topology"]) == ("fatal", "dimm 3"), shown)
        expect(shown["cause"] == "order" and "a test" in shown["cause_text"], shown)
        settle(it, "web")
        identity = shown["frozen"][0]
        said = refusal(it, "Start", vm="web", manager="pacemaker")
        expect(f"holdfast release web@{identity}" in said, said)
        stop(it, "web")
        expect(it.vm("web")["frozen"] == [identity], it.vm("web"))
        it.kill()
        it.start()
        shown = wait(it, "web", "why is known to a new daemon", topology="dimm 3")
        expect(start(it, "web", "run", fresh=True)["answered"] == "primary", it.vm("web"))
        it.keeper_call(f"web@{identity}", "Release")
        poll(lambda: not it.vm("web")["frozen"], "it is released")
        stop(it, "web")


@check
def what_becomes_managed_is_not_started_by_what_was_wanted() -> None:
    with lone_host() as it:
        it.define("web")
        poll(lambda: "web" in it.vms(), "defined")
        first = it.start_vm("web")
        it.define("web", manager="pacemaker")
        wait(it, "web", "managed", manager="pacemaker")
        os.kill(first["qemu_pid"], signal.SIGKILL)
        wait(it, "web", "over", keeper_pid=0)
        it.kill()
        it.start()
        settle(it, "web")
        expect(not it.vm("web")["keeper_pid"], it.vm("web"))


# ---- two hosts ----


def tell(pair: PeerPair) -> None:
    for host in pair.hosts.values():
        if host.daemon:
            say(f"--- {host.host}")
            say(host.daemon.log_tail())


@contextmanager
def managed_pair(has_leases: bool = False) -> Iterator[PeerPair]:
    with PeerPair(has_leases=has_leases) as pair:
        pair.define("web", extra="manager = pacemaker\n")
        try:
            pair.start()
            pair.wait_up()
            yield pair
        except BaseException:
            tell(pair)
            raise


def wait_protected(host: VmHost, other: VmHost, vm: str = "web") -> dict[str, Any]:
    wait(other, vm, "it stands by", role="standby", supervision="up", has_epoch=True)
    return wait(host, vm, "it is protected", role="primary", supervision="up", protected=True,
                connected=True)


def pids(*hosts: VmHost) -> list[int]:
    return [int(host.vm("web")["keeper_pid"]) for host in hosts]


@check
def standbys_wait_and_one_is_promoted() -> None:
    """Then it is handed over by an operator, fails over by the vote, and is demoted: at each step
    nothing happens here that was not said here."""
    with managed_pair() as pair:
        one, two = pair.both()
        two_standbys_and_nothing_runs(one, two)
        cold_promotion(one, two)
        handed_over_by_an_operator(one, two)
        failed_over_by_the_vote(one, two)
        demoted(one, two)
        for host in (one, two):
            stop(host, "web")
            wait(host, "web", "down", keeper_pid=0, supervision="off")
        settle(one, "web")


def two_standbys_and_nothing_runs(one: PeerHost, two: PeerHost) -> None:
    for host in (one, two):
        expect(start(host, "web", "standby")["answered"] == "standby", host.vm("web"))
    settle(two, "web")
    for host in (one, two):
        shown = host.vm("web")
        expect((shown["life"], shown["has_epoch"], shown["connected"])
               == ("standby", False, False), shown)
    gone = one.vm("web")["keeper_pid"]
    os.kill(gone, signal.SIGKILL)  # a standby comes back by itself
    one.wait_vm("web", lambda vm: vm["role"] == "standby" and vm["keeper_pid"] != gone, "again")


def cold_promotion(one: PeerHost, two: PeerHost) -> None:
    """The empty standby makes room; the other one follows what runs now."""
    before = pids(one, two)
    shown = start(one, "web", "run")
    expect(shown["answered"] == "primary", shown)
    shown = wait_protected(one, two)
    expect(pids(two) == before[1:] and pids(one) != before[:1], (before, shown))
    expect(shown["has_run_last"] and not two.vm("web")["has_run_last"], two.vm("web"))
    # In touch with a primary, a standby is no place to run it: it is left as it is, and that is said.
    shown = start(two, "web", "run")
    expect((shown["answered"], shown["keeper_pid"]) == ("standby", before[1]), shown)
    assign(two, "web", "standby")
    expect("managed by pacemaker" in refusal(one, "Start", vm="web", host="hostB"), "host=")
    for host in (one, two):  # a new daemon finds both, and starts nothing
        host.kill()
        host.start()
    wait_protected(one, two)
    expect(pids(two) == before[1:], "another standby")


def handed_over_by_an_operator(one: PeerHost, two: PeerHost) -> None:
    """`run` of what was handed over: a standby for it, with nobody's order."""
    before = pids(one, two)
    one.keeper_call("web", "HandOver")
    wait_protected(two, one)
    expect(pids(two) == before[1:], "it is the standby that has gone live")
    shown = one.vm("web")
    expect((shown["assigned"], shown["role"], shown["has_run_last"]) == ("run", "standby", False),
           shown)
    shown = start(two, "web", "standby")  # one that has gone live is left alone
    expect((shown["answered"], shown["keeper_pid"]) == ("primary", before[1]), shown)
    assign(one, "web", "standby")
    assign(two, "web", "run")
    settle(one, "web")
    wait_protected(two, one)


def failed_over_by_the_vote(one: PeerHost, two: PeerHost) -> None:
    """The side that lost it waits for Pacemaker's stop and start; only then does it stand by."""
    os.kill(two.vm("web")["qemu_pid"], signal.SIGKILL)
    one.wait_vm("web", lambda vm: vm["role"] == "primary" and vm["life"] == "running", "live")
    shown = wait(two, "web", "it is over", life="crashed", keeper_pid=0)
    expect((shown["assigned"], shown["cause"]) == ("run", "qemu-killed"), shown)
    settle(two, "web")
    expect(two.vm("web")["keeper_pid"] == 0, two.vm("web"))
    assign(two, "web", "standby")  # the demotion of what has failed: a stop follows
    settle(two, "web")
    expect(two.vm("web")["keeper_pid"] == 0, two.vm("web"))
    stop(two, "web")
    expect(start(two, "web", "standby")["answered"] == "standby", two.vm("web"))
    assign(one, "web", "run")
    shown = wait_protected(one, two)
    expect(shown["has_run_last"], shown)


def demoted(one: PeerHost, two: PeerHost) -> None:
    """Without a hand-over it is ended, and stands by; it runs nowhere then."""
    stop(one, "web", "standby")
    wait(one, "web", "it stands by", role="standby", supervision="up", has_epoch=False)
    wait(two, "web", "so does the other one", role="standby", supervision="up", has_epoch=False)
    settle(one, "web")
    expect(start(two, "web", "run")["answered"] == "primary", two.vm("web"))
    wait_protected(two, one)
    stop(two, "web")
    wait(two, "web", "down", keeper_pid=0)
    wait(one, "web", "left alone", role="standby", supervision="up")


def monitor(host: VmHost) -> int:
    """What Pacemaker hears of the promotable clone's instance here."""
    return cli(host, "ocf", "monitor", "web", "--promotable", "--resource", "rsc-web", "--node",
               host.host, "--timeout", "30s", "--state-dir", str(host.here / "state"), "--vms",
               str(host.vms_dir)).returncode


@check
def a_new_daemon_waits_for_the_manager_to_see_that_nothing_runs() -> None:
    """It is to run here, has died, and then been frozen; and knows of neither but by what is there."""
    with managed_pair() as pair:
        one = pair["hostA"]
        os.kill(start(one, "web", "run")["qemu_pid"], signal.SIGKILL)
        wait(one, "web", "it is over", life="crashed", keeper_pid=0)
        started_anew_it_starts_nothing(one)
        expect(start(one, "web")["answered"] == "primary", one.vm("web"))
        one.keeper_call("web", "Freeze", reason="a test")
        wait(one, "web", "it is frozen", life="frozen", keeper_pid=0)
        started_anew_it_starts_nothing(one)
        said = refusal(one, "Start", vm="web", manager="pacemaker")
        expect(f"holdfast release web@{one.vm('web')['frozen'][0]}" in said, said)
        expect(start(one, "web", "standby")["answered"] == "standby", one.vm("web"))
        stop(one, "web")


def started_anew_it_starts_nothing(host: PeerHost) -> None:
    host.kill()
    host.start()
    wait(host, "web", "the other host is heard", peer_up=True, assigned="run")
    settle(host, "web")
    expect(not host.vm("web")["keeper_pid"], host.vm("web"))
    expect(monitor(host) == NOT_RUNNING, monitor(host))


@check
def managed_no_more_two_standbys_are_no_order_to_boot() -> None:
    """One after the other, as definitions are changed; what runs goes on to do so, and is wanted."""
    with managed_pair() as pair:
        one, two = pair.both()
        for host in (one, two):
            expect(start(host, "web", "standby")["answered"] == "standby", host.vm("web"))
        text = (one.vms_dir / "web.conf").read_text()
        plain = text.replace("manager = pacemaker\n", "")
        for host in ("hostA", "hostB"):
            pair.write(host, "web", plain)
            wait(pair[host], "web", "not managed", manager="")
        settle_pair(one, two)
        expect([host.vm("web")["host"] for host in (one, two)] == ["", ""], one.vm("web"))
        for host in ("hostA", "hostB"):
            pair.write(host, "web", text)
            wait(pair[host], "web", "managed again", manager="pacemaker")
        expect(start(one, "web", "run")["answered"] == "primary", one.vm("web"))
        expect(start(two, "web", "standby")["answered"] == "standby", two.vm("web"))
        wait_protected(one, two)
        before = pids(one, two)
        for host in ("hostB", "hostA"):
            pair.write(host, "web", plain)
            wait(pair[host], "web", "not managed", manager="")
            settle_pair(one, two)
        expect(pids(one, two) == before, (before, one.vm("web"), two.vm("web")))
        wait(two, "web", "it has heard", desired="started")
        one.stop_vm("web")
        wait(two, "web", "both have ended", keeper_pid=0, desired="stopped")


def settle_pair(*hosts: VmHost) -> None:
    time.sleep(2.5)
    for host in hosts:
        host.call("Reload")


@check
def definitions_that_differ_in_who_decides_are_told() -> None:
    with managed_pair() as pair:
        one, two = pair.both()
        text = (two.vms_dir / "web.conf").read_text()
        pair.write("hostB", "web", text.replace("manager = pacemaker\n", ""))
        wait(two, "web", "not managed there", manager="")
        start(one, "web", "run")
        shown = two.wait_vm("web", lambda vm: vm["host"] == "hostA", "hostB knows")
        expect(shown["definitions_differ"] and not shown["keeper_pid"], shown)
        expect("lacks manager = pacemaker" in
               refusal(two, "Start", vm="web", manager="pacemaker"), shown)
        assign(one, "web", "standby")
        stop(one, "web")
        pair.write("hostB", "web", text)
        wait(two, "web", "managed there", manager="pacemaker")
        settle(two, "web")
        expect(not two.vm("web")["keeper_pid"], two.vm("web"))


@check
def under_a_lease_one_owns_it() -> None:
    """Assigned to run on both hosts, which no Pacemaker does: the lease decides."""
    with managed_pair(has_leases=True) as pair:
        one, two = pair.both()
        text = (f"[vm]\nargs = {' '.join(TINY_ARGS)}\nstate-dir = {pair.lab.self_dir}/state\n"
                f"run-dir = {pair.lab.self_dir}/run\nmanager = pacemaker\n")
        for host in ("hostA", "hostB"):
            pair.write(host, "db", text)
        poll(lambda: all("db" in host.vms() for host in (one, two)), "defined")
        expect(start(one, "db", "run")["answered"] == "primary", one.vm("db"))
        said = refusal_of_start(two, "db", "run")
        expect("another host owns it" in said, said)
        expect(not two.vm("db")["keeper_pid"], two.vm("db"))
        settle(two, "db")
        stop(one, "db")
        expect(start(two, "db")["answered"] == "primary", two.vm("db"))  # tried again: it is free
        stop(two, "db")

        shown = start(one, "web", "run")  # the protected one
        expect(shown["answered"] == "primary", shown)
        expect(start(two, "web", "run")["answered"] == "standby", two.vm("web"))
        wait_protected(one, two)
        os.kill(one.vm("web")["keeper_pid"], signal.SIGKILL)
        two.wait_vm("web", lambda vm: vm["role"] == "primary" and vm["life"] == "running",
                    "live by the vote")
        shown = wait(one, "web", "it is over", keeper_pid=0)
        settle(one, "web")
        for host in (one, two):
            stop(host, "web")


TINY_ARGS = ("-machine", "q35", "-accel", "tcg", "-m", "4", "-nodefaults", "-display", "none", "-S")


def refusal_of_start(host: VmHost, vm: str, place: str) -> str:
    assign(host, vm, place)
    return refusal(host, "Start", vm=vm, manager="pacemaker")


if __name__ == "__main__":
    sys.exit(main())
