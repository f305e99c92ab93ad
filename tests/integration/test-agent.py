#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The resource agent ocf:holdfast:vm: what it says to `holdfast ocf` and passes on of its answers, by a
stand-in that writes both down; and ocf-tester of resource-agents on real VMs with a real holdfastd, on
two nodes where everything is installed. No cluster runs. With dash, and with bash as a POSIX shell.

usage: test-agent.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, QEMU. Exit status: 0, 1, or 77 when not root."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

from checks import Skip, check, expect, main, say

# pylint: disable=wrong-import-position
from labcluster import Cluster  # noqa: E402
from labnet import build_dir  # noqa: E402
from labnode import lacks  # noqa: E402
from labpeers import SMALL  # noqa: E402

OCF_ROOT = Path("/usr/lib/ocf")
SHELLS = (["dash"], ["bash", "--posix"])
COOKIE = "ocf-exit-reason:"
STAND_IN = """#!/usr/bin/python3
import json, os, sys
with open(os.environ["RECORD"], "w") as f:
    json.dump([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith("HOLDFAST_")}], f)
print("this is for nobody")
sys.stderr.write(os.environ.get("SAYS", ""))
if os.environ["ANSWER"] == "dies":
    os.kill(os.getpid(), 9)
sys.exit(int(os.environ["ANSWER"]))
"""
AGENT = "/usr/lib/ocf/resource.d/holdfast/vm"  # on a node
A, B = "hostA", "hostB"


class Outcome(NamedTuple):
    code: int
    said: str

    @property
    def reasons(self) -> list[str]:
        """What Pacemaker shows."""
        return [line.removeprefix(COOKIE) for line in self.said.splitlines()
                if line.startswith(COOKIE)]


# --- what it says and passes on ------------------------------------------------------------------

class StandIn:
    """A program in holdfast's place. options: what it was called with, by name; a flag is ""."""

    def __init__(self, folder: Path, shell: list[str]):
        self.program, self.record, self.shell = folder / "hold fast", folder / "record", shell
        self.program.write_text(STAND_IN)
        self.program.chmod(0o755)
        self.words: list[str] = []
        self.env: dict[str, str] = {}

    def __call__(self, action: str, answer: object = 0, says: str = "", instance: str = "web",
                 vm: Optional[str] = "web", **variables: str) -> Outcome:
        """variables: of Pacemaker, or parameters, without OCF_RESKEY_."""
        env = {"PATH": os.environ["PATH"], "OCF_ROOT": str(OCF_ROOT), "RECORD": str(self.record),
               "OCF_RESOURCE_INSTANCE": instance, "ANSWER": str(answer), "SAYS": says,
               "HA_LOGFACILITY": "none", "OCF_RESKEY_program": str(self.program)}
        env.update({f"OCF_RESKEY_{key}": value for key, value in variables.items()})
        if vm is not None:
            env["OCF_RESKEY_vm"] = vm
        self.record.unlink(missing_ok=True)
        done = subprocess.run([*self.shell, str(build_dir() / "data/ocf/vm"), action], env=env,
                              capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)
        expect(action in ("usage", "meta-data") or not done.stdout, done.stdout)
        self.words, self.env = json.loads(self.record.read_text()) if self.is_called() else ([], {})
        return Outcome(done.returncode, done.stderr)

    def is_called(self) -> bool:
        return self.record.exists()

    @property
    def options(self) -> dict[str, str]:
        found: dict[str, str] = {}
        words = self.words[3:]
        while words:
            name = words.pop(0)
            expect(name.startswith("--") and name not in found, self.words)
            found[name] = words.pop(0) if words and not words[0].startswith("--") else ""
        return found


@contextmanager
def stand_ins() -> Iterator[list[StandIn]]:
    """One for each shell."""
    if not (OCF_ROOT / "lib/heartbeat/ocf-shellfuncs").exists():
        raise Skip("resource-agents is not installed")
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, shell in enumerate(SHELLS):
            if shutil.which(shell[0]):
                place = Path(folder) / str(number)
                place.mkdir()
                found.append(StandIn(place, shell))
        yield found


@check
def pacemakers_words_become_options() -> None:
    with stand_ins() as shells:
        for run in shells:
            expect(run("start") == (0, ""), "a start")
            expect(run.words[:3] == ["ocf", "start", "web"], run.words)
            expect(run.options == {
                "--timeout": "18000ms", "--resource": "web", "--instance": "web",
                "--node": os.uname().nodename, "--paused": "running",
                "--when-frozen": "definition", "--stop-failed": "freeze", "--promote-to": "",
                "--stop-on": ""}, run.options)
            expect(not run.env, run.env)
            run("demote", instance="db:1", vm="data base", paused="failed", when_frozen="fresh",
                stop_failed="kill", shutdown_timeout="30", run_dir="/a b", state_dir="/c",
                vms_dir="/d", CRM_meta_timeout="90000", CRM_meta_on_node="node 1",
                CRM_meta_promotable="true", CRM_meta_interval="0", CRM_meta_role="Promoted",
                CRM_meta_notify_promote_uname="  node2 ", CRM_meta_notify_stop_uname=" node1 node3")
            expect(run.words[:3] == ["ocf", "demote", "data base"], run.words)
            expect(run.options == {
                "--timeout": "87000ms", "--resource": "db", "--instance": "db:1",
                "--node": "node 1", "--paused": "failed", "--when-frozen": "fresh",
                "--stop-failed": "kill", "--promote-to": "node2", "--stop-on": "node1 node3",
                "--shutdown-timeout": "30s", "--role": "Promoted", "--promotable": ""}, run.options)
            expect(run.env == {"HOLDFAST_RUN_DIR": "/a b", "HOLDFAST_STATE_DIR": "/c",
                               "HOLDFAST_VMS_DIR": "/d"}, run.env)


@check
def actions_and_times_are_translated() -> None:
    with stand_ins() as shells:
        for run in shells:
            for action, wanted in (("start", "start"), ("stop", "stop"), ("monitor", "monitor"),
                                   ("promote", "promote"), ("demote", "demote"),
                                   ("notify", "notify"), ("status", "monitor"),
                                   ("validate-all", "validate")):
                expect(run(action).code == 0 and run.words[1] == wanted, (action, run.words))
            for timeout, wanted in (("1000", "900ms"), ("30000", "27000ms"), ("", "18000ms"),
                                    ("600000", "597000ms"), ("soon", "18000ms")):
                run("monitor", CRM_meta_timeout=timeout)
                expect(run.options["--timeout"] == wanted, (timeout, run.options))
            for time_, wanted in (("30", "30s"), ("2min", "2min"), ("500ms", "500ms")):
                run("stop", shutdown_timeout=time_)
                expect(run.options["--shutdown-timeout"] == wanted, (time_, run.options))
            for interval, is_probe in (("0", True), ("10000", False)):
                run("monitor", CRM_meta_interval=interval)
                expect(("--probe" in run.options) == is_probe, (interval, run.options))
            for name, value in (("promotable", "true"), ("master_max", "1")):
                run("start", **{f"CRM_meta_{name}": value})
                expect("--promotable" in run.options, (name, run.options))
            run("start", CRM_meta_promotable="false", CRM_meta_clone_max="2")
            expect("--promotable" not in run.options, run.options)


@check
def answers_and_reasons_are_passed_on() -> None:
    """A reason is shown for what is not as it should be; a probe that finds nothing is no news."""
    with stand_ins() as shells:
        for run in shells:
            for code in range(10):
                done = run("monitor", code, "it is 100% \"so\" \\n `id`\n",
                           CRM_meta_interval="10000")
                wanted = [] if code in (0, 8) else ['it is 100% "so" \\n `id`']
                expect(done.code == code and done.reasons == wanted, (code, done))
                expect(run("monitor", code).reasons == [], "no reason")
            expect(not run("monitor", 7, "it is off\n", CRM_meta_interval="0").reasons, "a probe")
            for action in ("start", "stop", "promote", "demote", "validate-all"):
                expect(run(action, 1, "no\n").reasons == ["no"], action)
                expect(not run(action, 0, "done\n").reasons, action)


@check
def a_holdfast_that_cannot_say_is_a_failure() -> None:
    """It is not there, it is killed, it ends in a way that nobody knows: never success, and never
    "not running"."""
    with stand_ins() as shells:
        for run in shells:
            done = run("stop", "dies")
            expect(done.code == 1 and "137" in done.reasons[0], done)
            done = run("stop", 77, "what\n")
            expect(done.code == 1 and "77: what" in done.reasons[0], done)
            for program in ("/no/such/program", "no-such-program", "/etc/passwd"):
                for action in ("monitor", "stop"):
                    done = run(action, program=program, CRM_meta_interval="0")
                    expect(done.code == 5 and program in done.reasons[0], done)


@check
def what_is_wrong_or_unknown_is_said() -> None:
    with stand_ins() as shells:
        for run in shells:
            for vm in (None, ""):
                for action in ("start", "promote", "validate-all"):
                    done = run(action, vm=vm)
                    expect(done.code == 6 and "vm" in done.reasons[0] and not run.is_called(), done)
                for action in ("stop", "demote", "monitor", "notify"):  # of one that was removed
                    expect(run(action, vm=vm).code == 0, action)
                    expect(run.words[1:4] == [action, "--timeout", "18000ms"], run.words)
            expect(run("reload-agent").code == 0 and not run.is_called(), "nothing is kept")
            for action in ("migrate_to", "migrate_from", "reload", "nonsense"):
                done = run(action)
                expect(done.code == 3 and not run.is_called() and "usage" in done.said, done)
            expect(run("meta-data", vm=None).code == 0 and not run.is_called(), "meta-data")
            expect(run("usage").code == 0 and not run.is_called(), "usage")


# --- real VMs ------------------------------------------------------------------------------------

class Nodes:
    """Two nodes with holdfastd, and with no cluster; all checks share them."""

    def __init__(self) -> None:
        if why := lacks() or ("" if shutil.which("ocf-tester") else "ocf-tester is not installed"):
            raise Skip(why)
        self.c = Cluster()
        self.c.__enter__()
        try:
            self.c.boot(A, B, has_cluster=False)
            self.c.define("plain", f"[vm]\nargs = {SMALL}\nmanager = pacemaker\nlease = no\n")
            self.c.define("pair", self.pair())
        except BaseException:
            self.c.tell()
            self.c.close()
            raise

    def pair(self) -> str:
        hosts = "".join(f"[host {name}]\naddress = {self.c.lab.repl_addr(name)}:7400\n"
                        for name in (A, B))
        return (f"[vm]\nargs = {SMALL}\nmanager = pacemaker\nlease = no\n{hosts}"
                "[protection]\npeer-timeout = 2s\n")

    def agent(self, action: str, vm: str, node: str = A, timeout_ms: int = 20000,
              **variables: str) -> Outcome:
        env = {"OCF_ROOT": str(OCF_ROOT), "OCF_RESOURCE_INSTANCE": vm, "OCF_RESKEY_vm": vm,
               "OCF_RESKEY_shutdown_timeout": "1s", "OCF_RESKEY_CRM_meta_timeout": str(timeout_ms),
               "OCF_RESKEY_CRM_meta_on_node": node, "HA_LOGFACILITY": "none",
               **{f"OCF_RESKEY_{key}": value for key, value in variables.items()}}
        done = self.c.nodes[node].sh(
            ["env", *(f"{key}={value}" for key, value in env.items()), AGENT, action], 90.0,
            check=False)
        return Outcome(done.returncode, done.stderr)

    def test(self, vm: str, **variables: str) -> str:
        """ocf-tester's words, of which none may be a complaint."""
        env = [f"OCF_RESKEY_{key}={value}" for key, value in variables.items()]
        done = self.c.nodes[A].sh(
            ["env", "HA_LOGFACILITY=none", *env, "ocf-tester", "-v", "-n", vm, "-o", f"vm={vm}",
             "-o", "shutdown_timeout=500ms", AGENT], 240.0, check=False)
        said = str(done.stdout + done.stderr)
        expect(done.returncode == 0 and f"{AGENT} passed all tests" in said, said)
        expect("rc=" not in said, said)
        return said


_nodes: Optional[Nodes] = None


def nodes() -> Nodes:
    global _nodes  # pylint: disable=global-statement
    _nodes = _nodes or Nodes()
    return _nodes


@contextmanager
def shell_of_scripts(n: Nodes, shell: str) -> Iterator[None]:
    """What /bin/sh is on the first node."""
    target = n.c.sh(A, ["readlink", "-f", "/bin/sh"]).strip()
    program = n.c.sh(A, ["sh", "-c", f"readlink -f $(command -v {shell})"]).strip()
    if target == program:
        yield
        return
    n.c.sh(A, ["mount", "--bind", program, target])
    try:
        yield
    finally:
        n.c.sh(A, ["umount", target])


@check
def ocf_tester_is_content() -> None:
    """With a plain resource, under both shells."""
    n = nodes()
    for shell in ("dash", "bash"):
        with shell_of_scripts(n, shell):
            began = time.monotonic()
            said = n.test("plain")
            say(f"{shell}: {time.monotonic() - began:.1f} s")
            expect("does not support promotable clones" in said, said)
    expect(not n.c.vm(A, "plain")["keeper_pid"], n.c.vm(A, "plain"))


@check
def ocf_tester_is_content_with_a_clone() -> None:
    """All roles of the first of two instances, which is promoted and demoted."""
    n = nodes()
    began = time.monotonic()
    said = n.test("pair", CRM_meta_promotable="true", CRM_meta_clone_max="2")
    say(f"{time.monotonic() - began:.1f} s")
    expect("does not support" not in re.sub(r"support the (migrate|reload) action", "", said), said)
    expect(not n.c.vm(A, "pair")["keeper_pid"], n.c.vm(A, "pair"))


@check
def tools_of_clusters_read_the_meta_data() -> None:
    n = nodes()
    shown = n.c.sh(A, ["crm_resource", "--show-metadata", "ocf:holdfast:vm"])
    expect('<resource-agent name="vm"' in shown and 'name="stop_failed"' in shown, shown)
    for argv in (["crm", "ra", "info", "ocf:holdfast:vm"],
                 ["pcs", "resource", "describe", "ocf:holdfast:vm", "--full"]):
        if not shutil.which(argv[0]):
            raise Skip(f"{argv[0]} is not installed")
        said = n.c.sh(A, argv, 60.0)
        for word in ("when_frozen", "shutdown_timeout", "Name of the VM", "promote", "Unpromoted"):
            expect(word in said, (argv[0], word, said))


@check
def validation_finds_what_is_wrong() -> None:
    n = nodes()
    for vm, promotable in (("plain", "false"), ("pair", "true")):
        done = n.agent("validate-all", vm, CRM_meta_promotable=promotable)
        expect(done == (0, ""), (vm, done))
    n.c.define("free", f"[vm]\nargs = {SMALL}\n", [A])
    n.c.nodes[A].write("/etc/holdfast/vms/wrong.conf", "[vm]\nargs = -m\nmanager = pacemaker\nnonsense = 1\n")
    for vm, codes, words, variables in (
            ("nobody", (5,), ("nobody",), {}),
            ("free", (5,), ("manager", "pacemaker"), {}),
            ("wrong", (5,), ("wrong.conf", "nonsense"), {}),
            ("no/name", (6,), ("no/name",), {}),
            ("plain", (6,), ("sometimes",), {"paused": "sometimes"}),
            ("plain", (6,), ("maybe",), {"when_frozen": "maybe"}),
            ("plain", (6,), ("melt",), {"stop_failed": "melt"}),
            ("plain", (6,), ("soon",), {"shutdown_timeout": "soon"}),
            ("plain", (5,), ("host",), {"CRM_meta_promotable": "true"})):
        done = n.agent("validate-all", vm, **variables)
        expect(done.code in codes and done.reasons, (vm, variables, done))
        expect(all(word in done.reasons[0] for word in words), (vm, variables, done))
        say(f"{done.code} {done.reasons[0]}")


@check
def who_is_silent_is_named_in_time() -> None:
    """QEMU's keeper and the daemon stand still: a monitor answers within Pacemaker's time, that it
    does not know, and a stop ends the VM all the same."""
    n = nodes()
    expect(n.agent("start", "plain").code == 0, "start")
    view = n.c.vm(A, "plain")
    n.c.signal_daemon(A, signal.SIGSTOP)
    try:
        n.c.nodes[A].signal(view["keeper_pid"], signal.SIGSTOP)
        began = time.monotonic()
        done = n.agent("monitor", "plain", timeout_ms=4000, CRM_meta_interval="10000")
        took_s = time.monotonic() - began
        say(f"monitor: {took_s:.1f} s: {done.reasons}")
        expect(done.code == 1 and done.reasons and took_s < 15.0, (took_s, done))
        began = time.monotonic()
        done = n.agent("stop", "plain")
        say(f"stop: {time.monotonic() - began:.1f} s: {done}")
        expect(done.code == 0, done)
        for pid in (view["keeper_pid"], view["qemu_pid"]):
            expect(not n.c.nodes[A].is_alive(pid), f"{pid} of {view}")
    finally:
        n.c.signal_daemon(A, signal.SIGCONT)
    n.c.wait(lambda: n.agent("monitor", "plain").code == 7, "the daemon sees that, too")


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        if _nodes:
            _nodes.c.close()
