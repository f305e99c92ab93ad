#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""holdfastd and the VMs of its host: definitions, orders, keepers that die, daemons that are killed,
stopped and started again, a boot, users who may only look.

usage: test-supervise.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

from checks import check, expect, main, poll, say

# pylint: disable=wrong-import-position
from lab import Lab, LabError  # noqa: E402
from labhost import TINY, VmHost  # noqa: E402
from lablease import Call, CallError  # noqa: E402
from labnet import tool  # noqa: E402

MANY = 30
NOBODY = 65534
GROUP = "games"  # some group that each Debian has


@contextmanager
def host(*vms: str, group: str = "none", **settings: str) -> Iterator[VmHost]:
    with Lab(("hostA",)) as lab:
        it = VmHost(lab, group=group)
        for vm in vms:
            it.define(vm, **settings)
        try:
            it.start()
            yield it
        except BaseException:
            if it.daemon:
                say(it.daemon.log_tail())
            raise


def error_of(call: Callable[..., object], *args: Any, **parameters: Any) -> tuple[str, str]:
    try:
        call(*args, **parameters)
    except CallError as error:
        return error.name, str(error.parameters.get("reason") or error.parameters.get("parameter"))
    return "", ""


def pids(it: VmHost) -> dict[str, tuple[int, int]]:
    return {name: (vm["keeper_pid"], vm["qemu_pid"]) for name, vm in it.vms().items()}


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def is_up(it: VmHost, vm: str) -> bool:
    return bool(it.vm(vm)["supervision"] == "up")


def is_replaced(it: VmHost, vm: str, keeper_pid: int) -> bool:
    now = it.vm(vm)
    return bool(now["supervision"] == "up" and now["keeper_pid"] != keeper_pid)


# --- orders --------------------------------------------------------------------------------------

@check
def a_vm_is_started_and_stopped() -> None:
    with host("vm1", "vm2") as it:
        vm = it.vm("vm1")
        expect((vm["life"], vm["desired"], vm["supervision"]) == ("shut-off", "stopped", "off"), vm)
        events = it.events()
        vm = it.start_vm("vm1")
        expect((vm["role"], vm["desired"], vm["host"]) == ("primary", "started", "hostA"), vm)
        expect(is_alive(vm["keeper_pid"]) and is_alive(vm["qemu_pid"]), vm)
        started = events.wait("started", match=lambda e: e.get("vm") == "vm1")
        expect(started["keeper_pid"] == vm["keeper_pid"] and started["host"] == "hostA", started)
        name, reason = error_of(it.call, "Start", vm="vm1")
        expect(name == "NotPossible" and "already" in reason, (name, reason))
        late = it.events(after=2 ** 63 - 1)  # a number that has not come yet: from now on
        expect(it.vm("vm1")["supervision"] == "up", it.vm("vm1"))
        it.stop_vm("vm1")
        events.wait("keeper-ended", match=lambda e: e["vm"] == "vm1" and e["code"] == 0)
        late.wait("keeper-ended", match=lambda e: e["vm"] == "vm1")
        expect("started" not in [e["event"] for e in late.seen], late.seen)
        after = it.vm("vm1")
        expect((after["desired"], after["supervision"]) == ("stopped", "off"), after)
        expect(not is_alive(vm["qemu_pid"]), "QEMU lives on")
        expect(it.vm("vm2")["keeper_pid"] == 0, "the wrong one was started")
        name, reason = error_of(it.call, "Start", vm="vm3")
        expect(name == "NoVm" and "vm3.conf" in reason, (name, reason))
        it.stop_vm("vm2")  # what is down may be stopped


@check
def progress_and_failures_are_told() -> None:
    with host("vm1") as it:
        with Call(it.control) as call:
            call.send("Start", is_more=True, vm="vm1")
            texts = []
            while "role" not in (said := call.reply()):
                texts.append(said["text"])
            expect(texts == ["is starting"], texts)
        it.define("bad", args=TINY + " -device no-such-thing")
        it.define("net", args=TINY + " -netdev tap,id=n0,ifname=absent0,script=no,downscript=no "
                  "-device virtio-net,netdev=n0")
        expect(it.call("Reload")["errors"] == [], "definitions")
        for vm in ("bad", "net"):
            name, reason = error_of(it.call, "Start", vm=vm)
            expect(name == "NotPossible" and "not started" in reason, (name, reason))
            shown = it.vm(vm)
            expect((shown["life"], shown["supervision"]) == ("failed", "failed"), shown)
            expect(shown["keeper_pid"] == 0 and shown["reason"], shown)
        it.define("bad")  # as it should have been
        poll(lambda: error_of(it.call, "Start", vm="bad") == ("", ""), "it is started")


@check
def what_ends_by_itself_or_past_the_daemon_stays_down() -> None:
    with host("vm1") as it:
        it.start_vm("vm1")
        events = it.events()
        it.keeper_call("vm1", "Stop", force=True)
        events.wait("keeper-ended", match=lambda e: e["code"] == 0)
        poll(lambda: it.vm("vm1")["supervision"] == "off", "it is down")
        expect(it.vm("vm1")["desired"] == "stopped", it.vm("vm1"))


# --- keepers that die ------------------------------------------------------------------------------

@check
def a_dead_keeper_is_replaced_until_it_is_too_often() -> None:
    with host("vm1", restarts="2") as it:
        it.start_vm("vm1")
        for n in (1, 2):
            before = it.vm("vm1")
            os.kill(before["keeper_pid"], signal.SIGKILL)
            poll(lambda b=before: is_replaced(it, "vm1", b["keeper_pid"]), "it is started again")
            poll(lambda b=before: not is_alive(b["qemu_pid"]), "the old QEMU is gone")
            expect(it.vm("vm1")["restarts"] == n, it.vm("vm1"))
        events = it.events()
        it.kill_keeper("vm1")
        events.wait("vm-failed", match=lambda e: e["vm"] == "vm1")
        vm = it.vm("vm1")
        expect((vm["life"], vm["desired"]) == ("failed", "started"), vm)
        expect("too often" in vm["reason"], vm)
        name, reason = error_of(it.call, "Start", vm="vm1")
        expect(name == "NotPossible" and "clear" in reason, (name, reason))
        it.call("Clear", vm="vm1")
        poll(lambda: is_up(it, "vm1"), "it runs again")


@check
def who_is_faster_is_followed() -> None:
    """A keeper that somebody else has started at the same moment; ours finds its place taken."""
    with host("vm1") as it:
        it.stop()
        real, first = it.program, f"{it.lab.self_dir}/first"
        script = it.here / "holdfast"
        script.write_text(f'#!/bin/sh\n[ -e {first} ] && rm {first} &&\n'
                          f'env -u HOLDFAST_WHY_FD {real} "$@" --detach >{first}.log 2>&1\n'
                          f'exec {real} "$@"\n')
        script.chmod(0o755)
        (it.here / "first").touch()
        it.program = f"{it.lab.self_dir}/holdfast"
        it.start()
        it.start_vm("vm1")
        pid = int((it.here / "run" / "vm1" / "lock").read_text())
        poll(lambda: it.vm("vm1")["keeper_pid"] == pid and is_up(it, "vm1"), "it is followed")
        expect(it.keeper_call("vm1", "Status")["status"]["role"] == "primary", "it runs")
        expect(it.vm("vm1")["restarts"] == 0, it.vm("vm1"))
        it.keeper_call("vm1", "Stop", force=True)
        poll(lambda: it.vm("vm1")["supervision"] == "off", "its end in order is believed")


@check
def what_is_done_about_a_dead_qemu_is_the_policys() -> None:
    with host() as it:
        it.define("again", on_killed="restart")
        it.define("left", on_killed="leave")
        it.define("alone", on_killed="failover")
        poll(lambda: len(it.vms()) == 3, "the definitions are read")
        before = {vm: it.start_vm(vm) for vm in ("again", "left", "alone")}
        for vm in before.values():
            os.kill(vm["qemu_pid"], signal.SIGKILL)
        for vm in ("again", "alone"):  # which has nobody to go to
            poll(lambda v=vm: is_replaced(it, v, before[v]["keeper_pid"]), f"{vm} is started again")
            expect(it.vm(vm)["restarts"] == 1, it.vm(vm))
        poll(lambda: it.vm("left")["supervision"] == "failed", "it is left")
        left = it.vm("left")
        expect((left["life"], left["cause"]) == ("crashed", "qemu-killed"), left)
        name, reason = error_of(it.call, "Start", vm="left")
        expect(name == "NotPossible" and "clear" in reason, (name, reason))
        it.call("Clear", vm="left")
        poll(lambda: is_up(it, "left"), "it is started once it is cleared")


@check
def what_is_frozen_is_not_started_beside() -> None:
    with host("vm1") as it:
        frozen = it.start_vm("vm1")
        events = it.events()
        identity = it.keeper_call("vm1", "Freeze", reason="a test")["id"]
        event = events.wait("frozen", match=lambda e: e["vm"] == "vm1")
        expect(event["id"] == identity, event)
        time.sleep(0.5)  # for one that would come twice
        expect([e["event"] for e in told(it)].count("frozen") == 1, "it is told once")
        poll(lambda: it.vm("vm1")["supervision"] == "held", "it is not started again")
        vm = it.vm("vm1")
        expect((vm["life"], vm["frozen"], vm["keeper_pid"]) == ("frozen", [identity], 0), vm)
        name, reason = error_of(it.call, "Start", vm="vm1")
        expect(name == "NotPossible" and "--fresh" in reason, (name, reason))
        it.kill()
        it.start()
        expect(it.vm("vm1")["supervision"] == "held", it.vm("vm1"))
        fresh = it.start_vm("vm1", fresh=True)
        expect(fresh["role"] == "primary" and fresh["frozen"] == [identity], fresh)
        it.stop_vm("vm1")
        expect(is_alive(frozen["keeper_pid"]), "who guards it has ended")
        it.keeper_call(f"vm1@{identity}", "Release")
        poll(lambda: not it.vm("vm1")["frozen"], "it is discarded")
        expect(it.vm("vm1")["life"] == "shut-off", it.vm("vm1"))
        it.start_vm("vm1")


@check
def a_keeper_that_hangs_blocks_nobody() -> None:
    with host("vm1", "vm2") as it:
        hung = it.start_vm("vm1")
        it.start_vm("vm2")
        os.kill(hung["keeper_pid"], signal.SIGSTOP)
        try:
            poll(lambda: it.vm("vm1")["silent_ms"] > 0, "its silence is told")
            expect(it.vm("vm1")["qemu_pid"] == hung["qemu_pid"], "what was known is forgotten")
            begun = time.monotonic()
            for _ in range(20):
                it.vms()
            expect(time.monotonic() - begun < 10.0, "Vms() waits for it")
            it.stop_vm("vm2")
        finally:
            os.kill(hung["keeper_pid"], signal.SIGCONT)
        poll(lambda: it.vm("vm1")["silent_ms"] == 0, "it answers again")
        os.kill(hung["keeper_pid"], signal.SIGSTOP)
        it.stop_vm("vm1")  # with force: it is killed in the end
        expect(not is_alive(hung["keeper_pid"]), "the keeper lives on")
        expect(it.vm("vm1")["desired"] == "stopped", it.vm("vm1"))


@check
def a_disk_that_hangs_blocks_nobody() -> None:
    """The one that what is wanted is written to: a pipe that nobody reads stands for it."""
    with host("vm1") as it:
        poll(it.wanted_file.exists, "it is written at first")
        pipe = it.wanted_file.with_name(it.wanted_file.name + ".new")
        poll(lambda: not pipe.exists(), "and whole")
        os.mkfifo(pipe)
        it.start_vm("vm1")
        for _ in range(20):
            expect(is_up(it, "vm1"), it.vm("vm1"))
        expect('"started":true' not in wanted_text(it), "it is written past the pipe")
        with open(pipe, "rb") as reader:
            reader.read()
        pipe.unlink()
        it.stop_vm("vm1")
        it.start_vm("vm1")
        poll(lambda: '"started":true' in wanted_text(it), "it is written in the end")
        os.mkfifo(pipe)
        it.stop_vm("vm1")
        expect(it.stop() == 0, "its end does not wait for ever")
        pipe.unlink()


def wanted_text(it: VmHost) -> str:
    return it.wanted_file.read_text().replace(" ", "")


# --- daemons that come and go ------------------------------------------------------------------------

def told(it: VmHost, after: int = 0) -> list[dict[str, Any]]:
    """All events that are kept."""
    with Call(it.control) as call:
        call.send("Events", is_more=True, after=after)
        seen = []
        while True:
            try:
                seen.append(call.reply(1.0)["event"])
            except LabError:  # no more
                return seen


def numbers(it: VmHost, after: int = 0) -> list[int]:
    return [event["seq"] for event in told(it, after)]


@check
def a_daemon_that_is_replaced_changes_nothing() -> None:
    with host("vm1", "vm2", "vm3") as it:
        for vm in ("vm1", "vm2"):
            it.start_vm(vm)
        before = pids(it)
        for end in (it.kill, it.stop):
            seen = numbers(it)
            end()
            expect(all(is_alive(pid) for pid in (*before["vm1"], *before["vm2"])), "VMs ended")
            it.start()
            poll(lambda: is_up(it, "vm1") and is_up(it, "vm2"), "they are found")
            expect(pids(it) == before, (before, pids(it)))
            expect(it.vm("vm1")["desired"] == "started", it.vm("vm1"))
            expect(it.vm("vm3")["desired"] == "stopped", it.vm("vm3"))
            again = numbers(it)
            expect(again[:len(seen)] == seen and again == list(range(again[0], again[-1] + 1)),
                   (seen, again))
            expect(numbers(it, seen[-1]) == again[len(seen):], "replay from a given point")
        it.stop_vm("vm1")
        expect(not is_alive(before["vm1"][1]), "one that was found is not stopped")


@check
def what_died_meanwhile_is_started_by_the_next_daemon() -> None:
    with host("vm1", "vm2") as it:
        dead, other = it.start_vm("vm1"), it.start_vm("vm2")
        it.kill()
        os.kill(dead["keeper_pid"], signal.SIGKILL)
        it.start()
        poll(lambda: is_replaced(it, "vm1", dead["keeper_pid"]), "it is started again")
        poll(lambda: is_up(it, "vm2"), "the other is found")
        expect(it.vm("vm2")["keeper_pid"] == other["keeper_pid"], "the other was disturbed")
        it.stop_vm("vm2")  # an order that the next daemon still knows
        it.kill()
        it.start()
        expect(it.vm("vm2")["supervision"] == "off", it.vm("vm2"))


@check
def who_is_started_by_hand_is_found() -> None:
    with host("vm1") as it:
        keeper = it.lab.spawn(it.host, [
            tool("src/cli/holdfast"), "run", "vm1", "--run-dir", f"{it.lab.self_dir}/run",
            "--config", f"{it.lab.self_dir}/vms/vm1.conf"], name="by-hand")
        poll(lambda: is_up(it, "vm1"), "it is found")
        vm = it.vm("vm1")
        expect(vm["keeper_pid"] == keeper.pid and vm["desired"] == "started", (keeper.pid, vm))


# --- definitions -------------------------------------------------------------------------------------

@check
def definitions_change_and_what_runs_goes_on() -> None:
    with host("vm1", "vm2") as it:
        running = it.start_vm("vm1")
        events = it.events()
        path = it.define("vm1", autostart="yes")
        events.wait("definition-changed", match=lambda e: e["vm"] == "vm1")
        expect(it.vm("vm1")["autostart"], it.vm("vm1"))
        path.write_text(path.read_text() + "turbo = yes\n")
        error = events.wait("definition-error", match=lambda e: e["vm"] == "vm1")
        expect("vm1.conf:5:1: no setting is called 'turbo'" in error["text"], error)
        shown = it.vm("vm1")
        expect(shown["defined"] and "turbo" in shown["definition_error"], shown)
        (it.vms_dir / "vm3.conf").write_text("[vm]\nargs =\n")
        (it.vms_dir / "no name.conf").write_text("[vm]\n")
        expect(len(it.call("Reload")["errors"]) == 2, it.call("Reload"))
        path.unlink()
        events.wait("definition-removed", match=lambda e: e["vm"] == "vm1")
        shown = it.vm("vm1")
        expect(not shown["defined"] and shown["keeper_pid"] == running["keeper_pid"], shown)
        os.kill(running["keeper_pid"], signal.SIGKILL)
        poll(lambda: it.vm("vm1")["supervision"] == "held", "it is not started again")
        it.define("vm1")
        poll(lambda: is_up(it, "vm1"), "it is, once it is defined again")
        assert it.daemon
        it.define("vm4")
        it.daemon.signal(signal.SIGHUP)
        poll(lambda: "vm4" in it.vms(), "reload by signal")


@check
def check_config_reads_all_definitions() -> None:
    with Lab(("hostA",)) as lab:
        it = VmHost(lab)
        it.write_config()
        it.define("good")
        done = lab.run("hostA", it.argv("--check-config"), check=False)
        expect(done.returncode == 0, done.stderr)
        it.define("bad", autostart="perhaps")
        it.define("worse", restarts="many")
        done = lab.run("hostA", it.argv("--check-config"), check=False)
        expect(done.returncode == 2 and "bad.conf:4:13: autostart" in done.stderr
               and "worse.conf:4:12: restarts" in done.stderr, done.stderr)


# --- booting -----------------------------------------------------------------------------------------

@check
def a_boot_starts_what_is_to_be_started() -> None:
    with host("auto", "stopped", autostart="yes") as it:
        it.define("manual")
        poll(lambda: is_up(it, "auto") and is_up(it, "stopped"), "the first boot")
        poll(lambda: "manual" in it.vms(), "the definition is read")
        it.start_vm("manual")
        it.stop_vm("stopped")
        it.define("late", autostart="yes")
        poll(lambda: "late" in it.vms(), "the definition is read")
        it.stop()
        it.start()
        expect(it.vm("late")["supervision"] == "off", "autostart is for boots")
        it.stop()
        it.forget_boot()
        it.start()
        poll(lambda: is_up(it, "auto") and is_up(it, "late"), "autostart")
        for vm in ("manual", "stopped"):
            expect(it.vm(vm)["supervision"] == "off", it.vm(vm))


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@check
def many_vms() -> None:
    names = [f"vm{i}" for i in range(MANY)]
    with host(*names, autostart="yes") as it:
        poll(lambda: all(vm["supervision"] == "up" for vm in it.vms().values()),
             "all are up", 240.0)
        before = pids(it)
        expect(len({pid for pair in before.values() for pid in pair}) == 2 * MANY, before)
        idle = cpu_ticks(it.daemon_pid())
        time.sleep(3.0)
        used = cpu_ticks(it.daemon_pid()) - idle
        say(f"{MANY} VMs idle: {used} ticks of 10 ms in 3 s")
        expect(used <= 10, f"the daemon is busy: {used} ticks")
        it.kill()
        it.start()
        poll(lambda: pids(it) == before, "all are found")
        for name in names:
            it.kill_keeper(name)
        poll(lambda: all(vm["supervision"] == "up" for vm in it.vms().values()) and
             not {k for k, _ in pids(it).values()} & {k for k, _ in before.values()},
             "all are started again", 240.0)


# --- who may do what ---------------------------------------------------------------------------------

AS_USER = """
import json, os, socket, sys
path, uid, gid, groups, calls = sys.argv[1], *json.loads(sys.argv[2])
s = [socket.socket(socket.AF_UNIX) for _ in calls]
os.setgroups(groups); os.setgid(gid); os.setuid(uid)
said = []
for one, method in zip(s, calls):
    try:
        one.connect(path)
        one.sendall(json.dumps({"method": method, "parameters": {"vm": "vm1"}}).encode() + b"\\0")
        data = b""
        while b"\\0" not in data:
            got = one.recv(65536)
            if not got:
                break
            data += got
        reply = json.loads(data[:-1]) if data else {"error": "closed"}
        said.append(reply.get("error") or "ok")
    except OSError as error:
        said.append(type(error).__name__)
print(json.dumps(said))
"""


def as_user(path: Path, uid: int, gid: int, groups: list[int], calls: list[str]) -> list[str]:
    done = subprocess.run([sys.executable, "-c", AS_USER, str(path),
                           json.dumps([uid, gid, groups, calls])],
                          capture_output=True, text=True, timeout=60.0, check=True)
    return list(json.loads(done.stdout))


@check
def who_may_look_may_not_touch() -> None:
    host_if, keeper_if = "org.holdfast.Host", "org.holdfast.Keeper"
    gid = int(subprocess.run(["getent", "group", GROUP], capture_output=True, text=True,
                             check=True).stdout.split(":")[2])
    looking = [f"{host_if}.{m}" for m in ("Status", "Vms", "Vm", "Hosts")]
    touching = [f"{host_if}.{m}" for m in ("Start", "Stop", "Clear", "Reload", "Acquire",
                                                   "Release", "Fenced")]
    with host("vm1", group=GROUP) as it:
        vm = it.start_vm("vm1")
        for groups in ([], [gid]):
            said = as_user(it.control, NOBODY, gid if not groups else NOBODY, groups,
                           looking + touching)
            expect(said[:len(looking)] == ["ok"] * len(looking), said)
            expect(set(said[len(looking):]) == {f"{host_if}.PermissionDenied"}, said)
        for path in (it.control, it.here / "run" / "vm1" / "control"):
            said = as_user(path, NOBODY, NOBODY, [], [f"{host_if}.Status"])
            expect(said == ["PermissionError"], said)
        said = as_user(it.here / "run" / "vm1" / "control", NOBODY, gid, [],
                       [f"{keeper_if}.Status", f"{keeper_if}.Stop"])
        expect(said == ["ok", f"{keeper_if}.PermissionDenied"], said)
        expect(it.vm("vm1")["keeper_pid"] == vm["keeper_pid"], "somebody has stopped it")
        assert it.daemon
        log = it.daemon.log.read_text()
        refusals = [line for line in log.splitlines()
                    if line.startswith("holdfastd") and f"user {NOBODY} " in line]
        expect(len(refusals) == 1, refusals)
        said = as_user(it.control, NOBODY, gid, [], looking[:1] * 40)
        expect("ok" in said and set(said) - {"ok"}, f"connections without end: {said}")
        it.vms()  # root is still served


@check
def without_a_group_root_alone_is_served() -> None:
    with host("vm1") as it:
        expect(as_user(it.control, NOBODY, NOBODY, [], ["org.holdfast.Host.Status"])
               == ["PermissionError"], "a stranger is served")
        expect(as_user(it.control, 0, 0, [], ["org.holdfast.Host.Status"]) == ["ok"], "root")


@check
def it_describes_itself() -> None:
    with host() as it:
        with Call(it.control, interface="org.varlink.service") as call:
            info = call("GetInfo")
            expect("org.holdfast.Host" in info["interfaces"], info)
            text = call("GetInterfaceDescription", interface="org.holdfast.Host")["description"]
            expect("method Vms() -> (vms: []Vm)" in text, text)
            name, _ = error_of(call, "GetInterfaceDescription", interface="org.example.None")
            expect(name == "org.varlink.service.InterfaceNotFound", name)


if __name__ == "__main__":
    sys.exit(main())
