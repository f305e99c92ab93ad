#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`holdfast ocf`, what a cluster's resource agent calls: each state of a VM and its code, stops of
what has failed or hangs, starts beside what is frozen, and the roles of a pair. Without a cluster.

Who is to hang is stopped by SIGSTOP, one after the other. That nothing lives after a stop is looked
at in /proc, not asked. Times are measured and printed; what is asserted of them is that the
deadline holds.

usage: test-ocf.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

from checks import Skip, check, expect, main, poll, say
from fakes import Host

# pylint: disable=wrong-import-position
from lab import Lab  # noqa: E402
from labfreeze import (COUNTS, PANICS_LATER, TinyVm, Tracer, instances,  # noqa: E402
                       is_alive, remove_cgroups)
from labhost import VmHost  # noqa: E402
from labnet import tool  # noqa: E402
from labpeers import PeerHost, PeerPair  # noqa: E402
from labwitness import IMAGE_BYTES, tick_argv  # noqa: E402

OK, FAILED, ARGS, UNIMPLEMENTED, INSTALLED, CONFIGURED, STOPPED, PROMOTED, PROMOTED_FAILED = (
    0, 1, 2, 3, 5, 6, 7, 8, 9)
HOST = "hostA"
LATE_S = 4.0  # what a busy machine may add to a deadline
MEMBERS = {"action", "vm", "code", "name", "reason", "state", "cause", "severity", "assigned",
           "frozen_id", "ms"}


@dataclass
class Answer:
    code: int
    reason: str
    told: dict[str, Any]
    seconds: float


def ocf(host: VmHost, action: str, vm: str, *options: str, timeout_s: float = 30.0) -> Answer:
    begun = time.monotonic()
    done = subprocess.run(
        [tool("src/cli/holdfast"), "ocf", action, vm, "--json", "--timeout",
         f"{int(timeout_s * 1000)}ms", "--resource", "rsc", "--node", host.host,
         "--run-dir", str(host.here / "run"), "--state-dir", str(host.here / "state"),
         "--vms", str(host.vms_dir), *options],
        capture_output=True, text=True, timeout=timeout_s + 60.0, check=False)
    seconds = time.monotonic() - begun
    told = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    reason = done.stderr.strip()
    if told:
        expect(told["code"] == done.returncode and told["action"] == action, done)
        # A value that is not taken is said first, and has a line of its own.
        lines = [line for line in reason.splitlines() if not line.startswith("holdfast ocf: --")]
        expect(lines == ([f"{vm}: {told['reason']}"] if told["reason"] else []), done)
    return Answer(done.returncode, reason, told, seconds)


def expect_code(host: VmHost, action: str, vm: str, code: int, *options: str,
                reason: str = "", timeout_s: float = 30.0) -> Answer:
    answer = ocf(host, action, vm, *options, timeout_s=timeout_s)
    expect(answer.code == code and reason in answer.reason, (action, vm, code, reason, answer))
    expect(answer.seconds < timeout_s + LATE_S, answer)
    return answer


def poll_code(host: VmHost, vm: str, code: int, *options: str) -> None:
    poll(lambda: ocf(host, "monitor", vm, *options).code == code, f"{vm} answers {code}", 60.0)


# --- one host -----------------------------------------------------------------------------------

class Plain:
    """Hosts of one machine, VMs as plain resources. What hangs goes on at the end."""

    def __init__(self, lab: Lab, place: Path):
        self.lab, self.host, self.place = lab, VmHost(lab, HOST), place
        self.stopped: list[int] = []

    def define(self, name: str, mode: int = COUNTS, extra: tuple[str, ...] = (),
               **settings: str) -> str:
        """Its name is no other test's, as its cgroup is the machine's."""
        vm = TinyVm(self.lab, f"{self.lab.prefix}{name}", mode=mode, extra=extra)
        args = " ".join(f'"{word}"' for word in vm.qemu_argv()[1:])
        self.host.define(vm.name, args, manager="pacemaker", lease="no", **settings)
        return vm.name

    def nmi(self, vm: str) -> None:
        TinyVm(self.lab, vm).nmi(HOST)

    def start(self, vm: str, *options: str) -> dict[str, Any]:
        expect_code(self.host, "start", vm, OK, *options)
        return self.host.vm(vm)

    def pids(self, vm: str) -> list[int]:
        """Keeper, QEMU and disk process."""
        status = self.host.keeper_call(vm, "Status")["status"]
        disks = status.get("disks", {}).get("pid", 0)
        return [pid for pid in (status["pid"], status["qemu_pid"], disks) if pid]

    def hang(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def go_on(self) -> None:
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped.clear()

    def expect_gone(self, vm: str, pids: list[int], what: str) -> None:
        """Nothing of it lives, or it is proven that it is frozen."""
        frozen = [i for i in instances(self.lab, HOST, vm) if i.is_certified()]
        proven = {i.certificate["qemu"]["pid"] for i in frozen} | \
            {i.certificate["keeper"]["pid"] for i in frozen}
        left = [pid for pid in pids if is_alive(pid) and pid not in proven]
        expect(not left, f"{what}: processes {left} live")

    def stop(self, vm: str, pids: list[int], what: str, *options: str,
             timeout_s: float = 30.0) -> Answer:
        answer = expect_code(self.host, "stop", vm, OK, *options, timeout_s=timeout_s)
        self.expect_gone(vm, pids, what)
        say(f"stop of one that {what}: {answer.told['ms']} ms ({answer.told['reason']})")
        return answer


Storage = Callable[[Lab], contextlib.AbstractContextManager[Path]]


@contextlib.contextmanager
def no_storage(lab: Lab) -> Iterator[Path]:
    yield lab.work


@contextlib.contextmanager
def plain(storage: Storage = no_storage) -> Iterator[Plain]:
    """storage: a file system that is there before the daemon, which would not see it else."""
    with Lab((HOST,)) as lab, storage(lab) as place:
        it = Plain(lab, place)
        try:
            it.host.start()
            yield it
        except BaseException:
            if it.host.daemon:
                say(it.host.daemon.log_tail())
            raise
        finally:
            it.go_on()
            clean(it)


def clean(it: Plain) -> None:
    """Frozen instances are guarded by processes that outlive the daemon."""
    names = [path.stem for path in it.host.vms_dir.glob("*.conf")]
    for lock in (it.host.here / "run").glob("*@*/lock"):
        with contextlib.suppress(ValueError, ProcessLookupError, FileNotFoundError):
            os.kill(int(lock.read_text()), signal.SIGKILL)
    it.lab.kill_host(HOST)
    for name in names:
        remove_cgroups(name)


# --- a plain VM ---------------------------------------------------------------------------------

@check
def a_plain_vm_from_beginning_to_end() -> None:
    with plain() as it:
        vm, host = it.define("web"), it.host
        expect_code(host, "monitor", vm, STOPPED, "--probe", reason="shut off")
        expect_code(host, "stop", vm, OK)
        it.start(vm)
        pids = it.pids(vm)
        answer = expect_code(host, "monitor", vm, OK)
        expect(set(answer.told) == MEMBERS | {"score"}, answer)
        expect((answer.told["state"], answer.told["assigned"]) == ("running", "run"), answer)
        expect_code(host, "start", vm, OK)  # a second time
        expect(it.pids(vm) == pids, "it was started again")
        answer = it.stop(vm, pids, "runs, and does not shut down", "--shutdown-timeout", "500ms")
        expect(answer.seconds < 10.0 and answer.told["assigned"] == "none", answer)
        expect_code(host, "monitor", vm, STOPPED)
        expect_code(host, "stop", vm, OK)  # a second time
        time.sleep(0.5)
        expect(host.vm(vm)["keeper_pid"] == 0, "it was started behind the cluster's back")
        expect_code(host, "notify", vm, OK)


@check
def who_is_on_its_way_out_is_not_killed() -> None:
    """A keeper that has given up its place, and is not quite gone: its end was in order."""
    if not shutil.which("strace"):
        raise Skip("no strace")
    with plain() as it:
        vm = it.define("leaver")
        it.start(vm)
        keeper = it.host.vm(vm)["keeper_pid"]
        with Tracer(it.lab, keeper, "-e", "trace=exit_group",
                    "-e", "inject=exit_group:delay_enter=500000", is_following=False):
            answer = expect_code(it.host, "stop", vm, OK, "--shutdown-timeout", "1ms")
        expect(not is_alive(keeper), "success was said before its end")
        expect("killed" not in answer.reason, answer)
        expect_code(it.host, "monitor", vm, STOPPED, reason="it is shut off")


@check
def who_paused_it_makes_the_difference() -> None:
    with plain() as it:
        user, fault = it.define("user"), it.define(
            "fault", PANICS_LATER, ("-action", "panic=pause"), on_panic="leave")
        for vm in (user, fault):
            it.start(vm)
        pids = {vm: it.pids(vm) for vm in (user, fault)}
        it.host.keeper_call(user, "Pause")
        expect_code(it.host, "monitor", user, OK, "--paused", "running")
        expect_code(it.host, "monitor", user, FAILED, "--paused", "failed", reason="paused")
        it.nmi(fault)
        poll_code(it.host, fault, FAILED)
        answer = expect_code(it.host, "monitor", fault, FAILED, reason="panicked")
        expect((answer.told["state"], answer.told["cause"]) == ("paused", "guest-panic"), answer)
        it.stop(user, pids[user], "is paused by its user")
        expect(not instances(it.lab, HOST, user), "it was frozen")
        it.stop(fault, pids[fault], "is paused by a fault")
        kept = instances(it.lab, HOST, fault)
        expect([i.certificate["cause"] for i in kept] == ["guest-panic"], kept)
        expect_code(it.host, "monitor", fault, STOPPED,
                    reason=f"frozen, and never runs again here, as {kept[0].id}")


@check
def what_failed_is_killed_if_that_is_preferred() -> None:
    with plain() as it:
        vm = it.define("fault", PANICS_LATER, ("-action", "panic=pause"), on_panic="leave")
        it.start(vm)
        pids = it.pids(vm)
        it.nmi(vm)
        poll_code(it.host, vm, FAILED)
        it.stop(vm, pids, "is paused by a fault, to be killed", "--stop-failed", "kill")
        expect(not instances(it.lab, HOST, vm), "it was frozen")
        expect_code(it.host, "monitor", vm, STOPPED)


@contextlib.contextmanager
def small_file_system(lab: Lab) -> Iterator[Path]:
    """Full after a second of ticks."""
    place = lab.work / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def define_ticking(it: Plain, name: str, **settings: str) -> str:
    """With a disk at it.place, which it writes to 20 times a second."""
    with open(it.place / "disk.raw", "wb") as f:
        f.truncate(IMAGE_BYTES)
    vm = f"{it.lab.prefix}{name}"
    it.host.define(vm, tick_argv(f"file={it.place}/disk.raw", "1"), manager="pacemaker",
                   lease="no", **settings)
    return vm


@check
def an_io_error_is_a_failure() -> None:
    with plain(small_file_system) as it:
        vm = define_ticking(it, "full", on_io_error="leave")
        it.start(vm)
        pids = it.pids(vm)
        poll_code(it.host, vm, FAILED)
        answer = expect_code(it.host, "monitor", vm, FAILED, reason="paused by a fault: disk")
        expect(answer.told["cause"] == "io-error", answer)
        it.stop(vm, pids, "is paused by an I/O error")


@check
def a_forgotten_resource_is_found() -> None:
    """Pacemaker ends what was removed from its configuration without parameters."""
    with plain() as it:
        vm = it.define("web")
        expect(nameless(it, "stop") == OK and nameless(it, "monitor") == STOPPED, "there is none")
        it.start(vm)
        pids = it.pids(vm)
        expect(nameless(it, "monitor") == OK and nameless(it, "notify") == OK, "it was not found")
        expect(nameless(it, "start") == ARGS, "what is started has a name")
        expect(nameless(it, "stop", "--shutdown-timeout", "200ms") == OK, "it was not stopped")
        it.expect_gone(vm, pids, "was forgotten")
        expect(nameless(it, "monitor") == STOPPED, "it was not stopped")


def nameless(it: Plain, action: str, *options: str) -> int:
    argv = [tool("src/cli/holdfast"), "ocf", action, "--resource", "rsc", "--run-dir",
            str(it.host.here / "run"), "--node", HOST, *options]
    return subprocess.run(argv, capture_output=True, timeout=60.0, check=False).returncode


# --- what is frozen -----------------------------------------------------------------------------

@check
def frozen_is_stopped() -> None:
    with plain() as it:
        vm = it.define("web", PANICS_LATER)
        it.start(vm)
        pids = it.pids(vm)
        it.nmi(vm)
        poll_code(it.host, vm, STOPPED)
        it.stop(vm, pids, "is frozen")
        kept = instances(it.lab, HOST, vm)[0]
        expect(is_alive(kept.certificate["keeper"]["pid"]), "who guards it was killed")
        refuse(it, vm, kept.id)
        it.host.kill()
        it.host.start()
        refuse(it, vm, kept.id)
        it.start(vm, "--when-frozen", "fresh")
        pids = it.pids(vm)
        expect_code(it.host, "monitor", vm, OK)
        expect(is_alive(kept.certificate["keeper"]["pid"]), "who guards it was killed")
        it.stop(vm, pids, "runs beside a frozen one", "--shutdown-timeout", "500ms")
        expect_code(it.host, "monitor", vm, STOPPED, reason=kept.id)
        expect(is_alive(kept.certificate["keeper"]["pid"]), "who guards it was killed")
        it.host.keeper_call(f"{vm}@{kept.id}", "Release")
        poll(lambda: not it.host.vm(vm)["frozen"], "it is released")
        it.start(vm)


def refuse(it: Plain, vm: str, ident: str) -> None:
    for options in ((), ("--when-frozen", "refuse")):
        expect_code(it.host, "start", vm, INSTALLED, *options,
                    reason=f"`holdfast release {vm}@{ident}`")
    expect(ocf(it.host, "monitor", vm).told["assigned"] == "none", "it would be started later")


@check
def a_definition_may_allow_a_fresh_start() -> None:
    with plain() as it:
        vm = it.define("web", PANICS_LATER, when_frozen="fresh")
        it.start(vm)
        it.nmi(vm)
        poll_code(it.host, vm, STOPPED)
        expect_code(it.host, "stop", vm, OK)
        expect_code(it.host, "start", vm, INSTALLED, "--when-frozen", "refuse", reason="frozen")
        it.start(vm)
        expect(instances(it.lab, HOST, vm), "it was discarded")


# --- what hangs ---------------------------------------------------------------------------------

@check
def a_hung_qemu_is_frozen() -> None:
    with plain() as it:
        frozen = it.define("frozen", hang_timeout="2s")
        left = it.define("left", hang_timeout="1s", on_hang="leave")
        for vm in (frozen, left):
            it.start(vm)
        pids = {vm: it.pids(vm) for vm in (frozen, left)}
        it.hang(pids[frozen][1])
        expect_code(it.host, "monitor", frozen, OK)  # nobody can know yet
        it.hang(pids[left][1])
        poll_code(it.host, left, FAILED)
        answer = expect_code(it.host, "monitor", left, FAILED, reason="does not answer")
        expect(answer.told["cause"] == "hang", answer)
        it.stop(left, pids[left], "has a hung QEMU that was left so")
        poll_code(it.host, frozen, STOPPED)
        it.stop(frozen, pids[frozen], "had a hung QEMU")
        for vm in (frozen, left):
            expect([i.certificate["cause"] for i in instances(it.lab, HOST, vm)] == ["hang"], vm)


@check
def a_hung_qemu_is_forced_in_the_end() -> None:
    """Before anybody can have noticed that it hangs."""
    with plain() as it:
        vm = it.define("web")
        it.start(vm)
        pids = it.pids(vm)
        it.hang(pids[1])
        it.stop(vm, pids, "has a QEMU that just began to hang", timeout_s=5.0)


@check
def a_hung_keeper_is_a_failure() -> None:
    with plain() as it:
        vm = it.define("web")
        it.start(vm)
        pids = it.pids(vm)
        it.hang(pids[0])
        answer = expect_code(it.host, "monitor", vm, FAILED, timeout_s=2.0,
                             reason=f"its process {pids[0]} is stopped")
        expect(answer.told["ms"] < 2000 + LATE_S * 1000, answer)
        it.stop(vm, pids, "has a hung keeper")
        expect_code(it.host, "monitor", vm, STOPPED)


@check
def a_daemon_is_not_needed() -> None:
    with plain() as it:
        names = [it.define(name) for name in ("hung", "dead")]
        for vm in names:
            it.start(vm)
        pids = {vm: it.pids(vm) for vm in names}
        it.hang(it.host.daemon_pid())
        for vm in names:
            expect_code(it.host, "monitor", vm, OK)
        it.stop(names[0], pids[names[0]], "has a hung daemon", "--shutdown-timeout", "200ms")
        expect_code(it.host, "monitor", names[0], STOPPED)
        expect_code(it.host, "start", names[0], FAILED, reason="holdfastd does not answer",
                    timeout_s=3.0)
        it.go_on()
        poll(lambda: not it.host.vm(names[0])["keeper_pid"], "the daemon answers again")
        it.host.kill()
        expect_code(it.host, "monitor", names[1], OK)
        it.stop(names[1], pids[names[1]], "has no daemon", "--shutdown-timeout", "200ms")
        expect_code(it.host, "monitor", names[1], STOPPED)
        it.host.start()
        time.sleep(0.5)
        for vm in names:
            expect(it.host.vm(vm)["keeper_pid"] == 0, "started behind the cluster's back")


@check
def all_that_hangs_is_killed() -> None:
    with plain() as it:
        vm = it.define("web")
        it.start(vm)
        pids = it.pids(vm)
        for pid in (it.host.daemon_pid(), *pids):
            it.hang(pid)
        expect_code(it.host, "monitor", vm, FAILED, timeout_s=2.0, reason="does not answer")
        it.stop(vm, pids, "hangs, as does all around it")
        expect_code(it.host, "monitor", vm, STOPPED, timeout_s=3.0)


@check
def what_was_killed_has_stopped() -> None:
    with plain() as it:
        vm = it.define("web")
        it.start(vm)
        pids = it.pids(vm)
        it.host.kill()
        os.kill(pids[0], signal.SIGKILL)
        poll_code(it.host, vm, STOPPED)
        it.expect_gone(vm, pids, "was killed with its keeper")
        it.stop(vm, pids, "was killed with its keeper")


# The first process of a node that is a container, and the second, whose child is a keeper.
CONTAINER = """
sh -c './holdfast-keeper run web & wait' &
until grep -qs holdfast-keeper /proc/[0-9]*/comm; do sleep 0.02; done
[ "$(cat /proc/2/comm)" = sh ] || exit 1
for action in monitor stop monitor; do
	"$1" ocf $action web --run-dir run.d --timeout 20s
	echo $?
done
"""


@check
def a_node_may_be_a_container() -> None:
    """Where process 2 is not the kernel's, its children are none of the kernel's either."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copy("/bin/bash", Path(name) / "holdfast-keeper")
        os.mkfifo(Path(name) / "never")
        (Path(name) / "run").write_text("read -r _ < never\n")
        done = subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh",
                               "-c", CONTAINER, "sh", tool("src/cli/holdfast")], cwd=name,
                              capture_output=True, text=True, timeout=120.0, check=False)
    expect([int(code) for code in done.stdout.split()] == [FAILED, OK, STOPPED],
           f"{done.stdout!r} {done.stderr!r}")


@check
def without_proc_nothing_is_proven() -> None:
    script = 'mount -t tmpfs none /proc; exec "$1" ocf monitor web --run-dir /nowhere'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", tool("src/cli/holdfast")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60.0, check=False)
    expect(done.returncode == FAILED and "/proc" in done.stderr, done)


@check
def a_silent_socket_is_no_proof() -> None:
    """Somebody holds it, whoever that is: /proc may not show him."""
    with Host(tool("src/cli/holdfast")) as host:
        host.keeper("web").stop()
        for action in ("monitor", "stop"):
            done = host.run("ocf", action, "web", "--timeout", "1s")
            expect(done.returncode == FAILED, done)


@check
def a_hand_over_that_hangs_is_none() -> None:
    with Host(tool("src/cli/holdfast")) as host:
        keeper = host.keeper("web", HandOver={})
        demote = subprocess.Popen(
            [tool("src/cli/holdfast"), "ocf", "demote", "web", "--promotable", "--node", "alpha",
             "--promote-to", "beta", "--timeout", "4s"],
            env=host.environment(), stderr=subprocess.PIPE, text=True)
        poll(lambda: any(c["method"].endswith("HandOver") for c in keeper.calls()), "it was asked")
        keeper.stop()
        said = demote.communicate(timeout=60.0)[1]
        expect(demote.returncode == FAILED, f"{demote.returncode} {said!r}")


# --- what cannot be killed ----------------------------------------------------------------------

@contextlib.contextmanager
def file_system(lab: Lab) -> Iterator[Path]:
    """One of its own that can be suspended: who writes to it then waits in the kernel."""
    image, place = lab.work / "fs.img", lab.work / "fs"
    place.mkdir()
    with open(image, "wb") as f:
        f.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=False).returncode:
        raise Skip("no loop device can be had")
    try:
        yield place
    finally:
        thaw(place)
        subprocess.run(["umount", "-l", str(place)], check=True)


def thaw(place: Path) -> None:
    subprocess.run(["fsfreeze", "-u", str(place)], check=False, stderr=subprocess.DEVNULL)


def is_in_kernel(pid: int) -> bool:
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rsplit(")", 1)[1].split()[0] == "D":
                return True
    return False


@check
def a_stop_is_no_success_while_something_may_write() -> None:
    with plain(file_system) as it:
        vm = define_ticking(it, "stuck")
        it.start(vm)
        pids = it.pids(vm)
        subprocess.run(["fsfreeze", "-f", str(it.place)], check=True)
        try:
            poll(lambda: any(is_in_kernel(pid) for pid in pids[1:]), "one hangs in the kernel")
            for pid in (it.host.daemon_pid(), pids[0]):
                it.hang(pid)
            for _ in range(2):
                answer = expect_code(it.host, "stop", vm, FAILED, timeout_s=3.0,
                                     reason="has not ended in time")
                say(f"stop of one that cannot die: {answer.reason}")
                expect_code(it.host, "monitor", vm, FAILED, timeout_s=3.0)
        finally:
            thaw(it.place)
        it.stop(vm, pids, "could not be killed before")
        expect_code(it.host, "monitor", vm, STOPPED, timeout_s=3.0)


# --- a pair -------------------------------------------------------------------------------------

class Pair:
    def __init__(self, pair: PeerPair):
        self.pair, (self.a, self.b) = pair, pair.both()
        self.vm = f"{pair.lab.prefix}pair"

    def call(self, host: PeerHost, action: str, code: int, *options: str, reason: str = "",
             timeout_s: float = 30.0) -> Answer:
        return expect_code(host, action, self.vm, code, "--promotable", *options, reason=reason,
                           timeout_s=timeout_s)

    def score(self, host: PeerHost) -> int:
        return int(ocf(host, "monitor", self.vm, "--promotable").told["score"])

    def wait_protected(self, primary: PeerHost) -> None:
        primary.wait_vm(self.vm, lambda v: v["protected"], "it is protected")

    def promote_fresh(self) -> None:
        """Standbys on both, one of which is promoted."""
        for host in (self.a, self.b):
            self.call(host, "start", OK)
            self.call(host, "monitor", OK)
        for host in (self.a, self.b):
            expect(host.vm(self.vm)["role"] == "standby", host.vm(self.vm))
        self.call(self.a, "promote", OK)
        self.call(self.a, "monitor", PROMOTED)
        self.wait_protected(self.a)
        self.call(self.b, "monitor", OK)


@contextlib.contextmanager
def a_pair(has_leases: bool = False) -> Iterator[Pair]:
    with PeerPair(is_told=True, has_leases=has_leases) as pair:
        it = Pair(pair)
        pair.define(it.vm, extra="manager = pacemaker\n")
        try:
            pair.start()
            pair.wait_up()
            yield it
        except BaseException:
            for host in (it.a, it.b):
                if host.daemon:
                    say(host.daemon.log_tail())
            raise


@check
def a_pair_changes_its_roles() -> None:
    with a_pair() as it:
        it.promote_fresh()
        expect((it.score(it.a), it.score(it.b)) == (10000, 1000), (it.score(it.a), it.score(it.b)))
        it.call(it.b, "promote", FAILED, reason="runs on hostA")
        expect(ocf(it.b, "monitor", it.vm, "--promotable").told["assigned"] == "standby",
               "it was left promoted")
        events = it.b.events()
        it.call(it.a, "demote", OK, "--promote-to", "hostB", reason="handed over")
        it.call(it.b, "promote", OK)
        events.wait("promoted", match=lambda e: e.get("vm") == it.vm)
        it.call(it.b, "monitor", PROMOTED)
        it.wait_protected(it.b)
        it.call(it.a, "monitor", OK)
        expect((it.score(it.a), it.score(it.b)) == (1000, 10000), (it.score(it.a), it.score(it.b)))
        # Nobody is promoted instead: the guest is shut down, here by force.
        it.call(it.b, "demote", OK, "--shutdown-timeout", "300ms")
        for host in (it.a, it.b):
            poll(lambda h=host: ocf(h, "monitor", it.vm, "--promotable").code == OK, "a standby")
            expect(it.score(host) in (5, 100), it.score(host))
        it.call(it.b, "promote", OK)
        it.wait_protected(it.b)
        it.call(it.b, "demote", OK, "--stop-on", "hostB hostA", "--shutdown-timeout", "300ms")
        for host in (it.a, it.b):
            it.call(host, "stop", OK)
            it.call(host, "monitor", STOPPED)


@check
def a_vote_is_followed() -> None:
    """Its standby has gone live before the cluster knows, and a promote agrees."""
    with a_pair(has_leases=True) as it:
        it.promote_fresh()
        primary = it.a.vm(it.vm)
        os.kill(primary["keeper_pid"], signal.SIGKILL)
        it.call(it.a, "monitor", STOPPED)
        it.b.wait_vm(it.vm, lambda v: v["role"] == "primary", "it runs there")
        answer = it.call(it.b, "monitor", OK, reason="which the cluster does not know yet")
        expect(answer.told["score"] == 10000, answer)
        it.call(it.b, "monitor", PROMOTED, "--probe")
        it.call(it.a, "stop", OK)
        it.call(it.b, "promote", OK)
        it.call(it.b, "monitor", PROMOTED)
        it.call(it.a, "start", OK)
        it.wait_protected(it.b)
        # It hangs: its standby goes on by the vote, which a promote waits for.
        keeper = it.b.vm(it.vm)["keeper_pid"]
        os.kill(keeper, signal.SIGSTOP)
        try:
            it.call(it.a, "promote", OK, timeout_s=60.0)
            it.call(it.a, "monitor", PROMOTED)
            it.call(it.b, "stop", OK)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGCONT)
        expect(not is_alive(keeper), "it lives on")


# --- the command line --------------------------------------------------------------------------

@check
def mistakes_have_codes() -> None:
    with plain() as it:
        vm = it.define("web")
        other = f"{vm}-unmanaged"
        it.host.define(other)
        (it.host.vms_dir / f"{vm}-wrong.conf").write_text(
            "[vm]\nargs = -m 4\nmanager = pacemaker\nturbo = yes\n")
        expect_code(it.host, "start", f"{vm}-missing", INSTALLED, reason="no VM is called")
        expect_code(it.host, "start", other, INSTALLED, reason="manager = pacemaker")
        expect_code(it.host, "start", f"{vm}-wrong", INSTALLED, reason="turbo")
        expect_code(it.host, "validate", vm, OK)
        expect_code(it.host, "validate", vm, INSTALLED, "--promotable", reason="two hosts")
        expect_code(it.host, "validate", other, INSTALLED, reason="manager = pacemaker")
        expect_code(it.host, "validate", f"{vm}-wrong", INSTALLED, reason="turbo")
        expect_code(it.host, "validate", f"{vm}-missing", INSTALLED, reason="No such file")
        for action in ("promote", "demote", "migrate_to"):
            expect_code(it.host, action, vm, UNIMPLEMENTED)
        for option, value in (("--paused", "perhaps"), ("--when-frozen", "no"),
                              ("--stop-failed", "never"), ("--shutdown-timeout", "soon")):
            for action in ("start", "validate"):
                expect_code(it.host, action, vm, CONFIGURED, option, value, reason=option)
            # A typo neither ends what runs nor keeps it from being ended.
            expect_code(it.host, "monitor", vm, STOPPED, option, value, reason=option)
            expect_code(it.host, "stop", vm, OK, option, value, reason=option)
        expect_code(it.host, "monitor", vm, CONFIGURED, "--resource", "a\nb", reason="--resource")
        expect_code(it.host, "monitor", "no/name", CONFIGURED, reason="cannot be the name")
        expect_code(it.host, "monitor", vm, ARGS, "--turbo", reason="--turbo")
        expect_code(it.host, "monitor", vm, ARGS, "another")


@check
def the_answers_members_are_documented() -> None:
    page = (Path(__file__).parent.parent.parent / "docs/man/holdfast.1").read_text()
    section = page.split("\n.SH CLUSTERS\n")[1].split("\n.SH ")[0].split("prints one object")[1]
    told = set(re.findall(r"(?:^\.B |\\fB)(\w+)", section, re.M))
    expect(told == MEMBERS | {"score"}, told ^ (MEMBERS | {"score"}))


if __name__ == "__main__":
    sys.exit(main())
