#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator sees and orders, when all is well and when something does not answer: the
command line tool against services of this test's own (fakes.py). No QEMU, no root needed.

usage: test-admin.py HOLDFAST [PATTERN]"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "static"))
import tap  # noqa: E402
from fakes import Host, certificate  # noqa: E402

HOLDFAST = os.path.abspath(sys.argv[1])
NO_DAEMON_S = 2.0
SLACK_S = 3.0  # of a loaded machine, for starting and ending a process
STATUS = {"running": 0, "migrating": 0, "shut-off": 3, "standby": 10, "starting": 11,
          "incoming": 11, "paused": 12, "freezing": 13, "frozen": 14, "saved": 15,
          "crashed": 16, "failed": 16}


def host() -> Host:
    return Host(HOLDFAST)


def rows(on: Host) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in on.json("list")}


def wrong(what: str, is_right: object, seen: object) -> list[str]:
    return [] if is_right else [f"{what}: {seen}"]


def lacks(text: str, *words: str) -> list[str]:
    squeezed = " ".join(text.split())
    return [f"no '{word}' in: {text}" for word in words if word not in squeezed]


def exits(done: subprocess.CompletedProcess, code: int, *words: str) -> list[str]:
    return wrong(f"exit status, want {code}", done.returncode == code, done) + \
        lacks(done.stdout + done.stderr, *words)


def list_knows_all_kinds() -> list[str]:
    """list: defined, running, standby, frozen, saved, failed; sorted; aligned"""
    with host() as h:
        h.define("asleep")
        h.define("broken")
        h.keeper("web")
        h.keeper("db", {"role": "standby", "life": "standby", "state": "ready"})
        h.freeze("web", "3fa20c11")
        (h.state_dir / "mail/saved").mkdir(parents=True)
        (h.state_dir / "mail/saved/save.json").write_text("{}")
        h.daemon([{"vm": "broken", "life": "failed", "role": "", "defined": True,
                   "desired": "started", "definition_error": "broken.conf:3: no such key",
                   "reason": "", "host": "",
                   "keeper_pid": 0}])
        got = rows(h)
        lives = {name: row["life"] for name, row in got.items()}
        want = {"asleep": "shut-off", "broken": "failed", "db": "standby", "mail": "saved",
                "web": "running", "web@3fa20c11": "frozen"}
        text = h.run("list").stdout.splitlines()
        starts = {line.index(word) for line, word in
                  zip(text, ["STATE"] + [want[name] for name in sorted(want)])}
        bare = h.run("list", "--no-legend").stdout.splitlines()
        return wrong("lives", lives == want, lives) + \
            wrong("order", list(got) == sorted(got), got) + \
            wrong("aligned", len(starts) == 1, text) + wrong("legend", bare == text[1:], bare) + \
            wrong("frozen", got["web"]["frozen"] == ["3fa20c11"], got["web"]) + \
            wrong("reasons", got["broken"]["reason"] == "broken.conf:3: no such key" and
                  got["web@3fa20c11"]["cause"] == "guest-panic", got)


def list_without_a_daemon() -> list[str]:
    """a dead daemon is told about, and the rest is listed; a host without one says nothing"""
    with host() as h:
        h.keeper("web")
        h.freeze("old", "00c0ffee")
        done = h.run("list")
        problems = exits(done, 0, "web running", "old@00c0ffee frozen") + \
            wrong("nothing is wrong here", not done.stderr, done)
        h.daemon().kill()
        return problems + exits(h.run("list"), 0, "web running", "no holdfastd is running")


def what_hangs_delays_nothing() -> list[str]:
    """daemon and a keeper stopped: within 2 s, told as seen from outside, exit status 9"""
    with host() as h:
        h.keeper("web")
        stopped = h.keeper("db")
        daemon = h.daemon()
        stopped.stop()
        daemon.stop()
        began = time.monotonic()
        done = h.run("list")
        took = time.monotonic() - began
        problems = exits(done, 9, "web running", "db unknown",
                         f"its process {stopped.proc.pid} is stopped", "holdfastd does not answer")
        began = time.monotonic()
        done = h.run("status", "db", "--timeout", "1")
        problems += exits(done, 9, "db: unknown", "is stopped")
        problems += wrong("status in time", time.monotonic() - began < 1 + SLACK_S, took)
        problems += exits(h.run("status", "web", "--quiet"), 0)
        return problems + wrong("list in time", took < NO_DAEMON_S + SLACK_S, took)


def a_full_backlog_delays_nothing() -> list[str]:
    """a stopped keeper whose socket takes no more connections"""
    import socket
    with host() as h:
        stopped = h.keeper("web")
        stopped.stop()
        waiting = []
        for _ in range(64):
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            if one.connect_ex(str(stopped.folder / "control")):
                one.close()
                break
            waiting.append(one)
        began = time.monotonic()
        problems = exits(h.run("status", "web"), 9, "web: unknown") + \
            exits(h.run("pause", "web", "--timeout", "1"), 9, "does not answer") + \
            wrong("it could be filled", len(waiting) < 64, len(waiting)) + \
            wrong("in time", time.monotonic() - began < 3 + 2 * SLACK_S, began)
        for one in waiting:
            one.close()
        return problems


def a_pipe_delays_nothing() -> list[str]:
    """a pipe in the place of a certificate: what runs is told all the same"""
    with host() as h:
        h.keeper("web")
        folder = h.freeze("old", "00c0ffee")
        (folder / "certificate.json").unlink()
        os.mkfifo(folder / "certificate.json")  # whoever opens it waits, unless he takes care
        began = time.monotonic()
        done = h.run("status", "web")
        return exits(done, 0, "web: primary") + \
            wrong("in time", time.monotonic() - began < NO_DAEMON_S + SLACK_S, done)


def states_have_their_status() -> list[str]:
    """status NAME: an exit status for each state, also with --quiet, which says nothing"""
    problems = []
    with host() as h:
        for life in STATUS:
            if life not in ("frozen", "saved", "shut-off"):
                h.keeper(f"vm-{life}", {"life": life})
        h.freeze("vm-frozen", "12345678")
        h.define("vm-shut-off")
        (h.state_dir / "vm-saved/saved").mkdir(parents=True)
        (h.state_dir / "vm-saved/saved/save.json").write_text("{}")
        for life, code in STATUS.items():
            done = h.run("status", f"vm-{life}", "--quiet")
            problems += exits(done, code) + wrong("quiet", done.stdout == "", done)
            problems += exits(h.run("status", f"vm-{life}"), code, life)
        problems += exits(h.run("status", "nobody"), 3, "nobody")
        problems += exits(h.run("status", "no/body"), 2, "cannot be the name")
        problems += exits(h.run("status", "web@xyz"), 2, "0-9 a-f")
    return problems


def certificate_is_told() -> list[str]:
    """status of a frozen instance: cause, steps, fallbacks, checks, what is kept, what to do"""
    with host() as h:
        whole = certificate("web", "3fa20c11")
        whole["steps"][4] |= {"result": "fell-back", "text": "the disk process was killed"}
        whole["checks"].append({"what": "taps-closed", "ok": False, "time_ns": 1, "text": "hft0"})
        folder = h.freeze("web", "3fa20c11", whole)
        done = h.run("status", "web")
        again = h.run("status", "web@3f")
        problems = exits(done, 14, "web@3fa20c11: frozen on alpha, 2023-11-14 22:13:20.012 UTC",
                         "guest-panic (fatal): the guest's kernel has panicked",
                         "frozen after 12.0 ms", "never here: 1 of 2 checks hold",
                         "disks fell-back 4.0 ms 500 us the disk process was killed",
                         "yes qemu-dead", "NO taps-closed hft0",
                         f"memory 256.0 MiB, in {folder}/ram", "QEMU dead", "lease released",
                         "holdfast dump web@3fa20c11", "holdfast release web@3fa20c11")
        problems += wrong("the same by its id", again.stdout == done.stdout, again)
        shown = json.loads(h.run("status", "web@3fa20c11", "--json").stdout)
        problems += wrong("--json has it whole", shown["certificate"] == whole, shown)
        h.freeze("db", "aaaaaaaa", state="freezing", frozen_time_ns=0)
        problems += exits(h.run("status", "db@a"), 14, "NOT PROVEN YET", "no keeper guards it")
        guard = h.keeper("db@aaaaaaaa")
        guard.stop()
        return problems + exits(h.run("status", "db@a"), 14, f"process {guard.proc.pid} is stopped")


def damaged_certificates_are_told() -> list[str]:
    """what cannot be read counts as frozen, and says what is wrong"""
    with host() as h:
        folder = h.freeze("web", "3fa20c11")
        (folder / "certificate.json").write_text("{")
        return exits(h.run("status", "web"), 14, "must not run here", "certificate.json") + \
            wrong("listed", rows(h)["web@3fa20c11"]["life"] == "frozen", rows(h))


def names_are_resolved() -> list[str]:
    """NAME: what runs, else the only frozen one; NAME@ID: shortened; ambiguous: lists them"""
    with host() as h:
        h.freeze("web", "3fa20c11")
        h.freeze("web", "3fb00000")
        problems = exits(h.run("status", "web"), 14, "web@3fa20c11, web@3fb00000")
        problems += exits(h.run("status", "web@3f"), 14, "web@3fa20c11, web@3fb00000")
        problems += exits(h.run("status", "web@3fa"), 14, "web@3fa20c11: frozen")
        problems += exits(h.run("status", "web@4"), 3, "web@4")
        problems += exits(h.run("release", "web"), 2, "web@3fa20c11, web@3fb00000")
        h.keeper("web")
        problems += exits(h.run("status", "web"), 0, "web: primary", "holdfast status web@3fa20c11")
        guard = h.keeper("web@3fa20c11", {"life": "frozen", "role": "frozen"}, Release={},
                         ends_after=["Release"])
        problems += exits(h.run("release", "web@3fa"), 0)
        called = [call["method"] for call in guard.calls()]
        return problems + wrong("its keeper was asked", called[-1] == "org.holdfast.Keeper.Release",
                                called)


def released_without_a_keeper() -> list[str]:
    """release: what nobody guards any more is removed, one that lives is not"""
    with host() as h:
        folder = h.freeze("web", "3fa20c11")
        stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        keeper = {"pid": os.getpid(), "start_ticks": int(stat[19])}
        guarded = h.freeze("db", "aaaaaaaa", keeper=keeper)
        problems = exits(h.run("release", "web@3fa20c11"), 0) + \
            wrong("removed", not folder.exists(), folder) + \
            exits(h.run("release", "web@3fa20c11"), 3) + \
            exits(h.run("release", "db"), 7, str(os.getpid())) + \
            wrong("kept", guarded.exists(), guarded)
        h.define("idle")
        return problems + exits(h.run("release", "idle"), 7, "idle@ID")


def orders_reach_the_keeper() -> list[str]:
    """pause, resume, promote, freeze, offload: with their parameters, and their refusals' status"""
    no = {"error": "@.NotPossible", "parameters": {"reason": "not now"}}
    with host() as h:
        web = h.keeper("web", Pause={}, Resume=no, Promote={}, Freeze=[
            {"step": "stop", "result": "done", "us": 1, "text": ""},
            {"id": "3fa20c11", "certificate": {}}])
        old = h.keeper("old@00c0ffee", {"life": "frozen"}, Offload=[
            {"done_bytes": 1, "total_bytes": 2}, {}])
        problems = exits(h.run("pause", "web"), 0) + exits(h.run("resume", "web"), 7, "not now")
        problems += exits(h.run("promote", "web", "--force"), 0)
        problems += exits(h.run("freeze", "web", "--reason", "DIMM 3", "--cause", "hardware-error",
                                "--severity", "fatal", "--topology", "node0", "--kill"), 0,
                          "web@3fa20c11")
        problems += exits(h.run("offload", "old"), 0)
        problems += exits(h.run("freeze", "web", "--cause", "bad-luck"), 2, "bad-luck")
        problems += exits(h.run("pause", "nobody"), 3, "nobody")
        called = {call["method"].rpartition(".")[2]: call for call in web.calls() + old.calls()}
        problems += wrong("force", called["Promote"]["parameters"] == {"force": True}, called)
        problems += wrong("freeze", called["Freeze"]["parameters"] == {
            "reason": "DIMM 3", "cause": "hardware-error", "severity": "fatal", "topology": "node0",
            "kill": True} and called["Freeze"]["more"], called)
        return problems + wrong("offload", called["Offload"]["more"], called)


def stop_waits_for_the_end() -> list[str]:
    """stop: until the keeper ends; in time or with status 9; by the daemon if that knows the VM"""
    with host() as h:
        h.keeper("web", Stop={}, ends_after=["Stop"])
        h.keeper("slow", Stop={})
        problems = exits(h.run("stop", "web"), 0)
        problems += exits(h.run("stop", "slow", "--timeout", "1"), 9, "--force")
        problems += exits(h.run("stop", "slow", "--no-wait"), 0)
        h.freeze("old", "00c0ffee")
        h.keeper("old@00c0ffee", {"life": "frozen"})
        problems += exits(h.run("stop", "old"), 7, "is frozen")
        daemon = h.daemon(Vm={"vm": {"vm": "slow"}}, Stop=[{"text": "is asked"}, {}])
        problems += exits(h.run("stop", "slow", "--force"), 0)
        last = daemon.calls()[-1]
        return problems + wrong("the daemon was asked", last == {
            "method": "org.holdfast.Host.Stop", "more": True,
            "parameters": {"vm": "slow", "force": True}}, last)


def stop_by_the_daemon_takes_its_time() -> list[str]:
    """a guest that does not shut down: status 9, how far it is, and what ends it at once"""
    with host() as h:
        h.daemon(Vm={"vm": {"vm": "web"}}, Stop=[{"text": "the guest is asked"}, None])
        return exits(h.run("stop", "web", "--timeout", "1"), 9, "goes on: the guest is asked",
                     "--force")


def orders_reach_the_daemon() -> list[str]:
    """start, clear, reload: parameters, refusals; without a daemon: what to do"""
    no = {"error": "@.NoVm", "parameters": {"reason": "no VM is called so"}}
    with host() as h:
        problems = exits(h.run("start", "web"), 3, "systemctl start holdfastd", "holdfast run")
        daemon = h.daemon(Start=[{"text": "is starting"}, {"role": "run"}], Clear=no,
                          Reload={"errors": ["/etc/x.conf:1: no"]})
        problems += exits(h.run("start", "web", "--fresh", "--host", "beta"), 0)
        problems += exits(h.run("clear", "web"), 3, "no VM is called so")
        problems += exits(h.run("reload"), 1, "/etc/x.conf:1: no")
        problems += exits(h.run("start", "web@3fa20c11"), 7, "--fresh")
        call = next(c for c in daemon.calls() if c["method"].endswith(".Start"))
        problems += wrong("start", call == {
            "method": "org.holdfast.Host.Start", "more": True,
            "parameters": {"vm": "web", "fresh": True, "host": "beta"}}, call)
        daemon.stop()
        return problems + exits(h.run("start", "web", "--timeout", "1"), 9, "does not answer")


def status_of_the_host() -> list[str]:
    """status without a name: host, hosts, VMs, leases, and what is to be seen to"""
    with host() as h:
        h.keeper("web", {"protected": False, "protection": "no: there is no standby"})
        h.freeze("old", "00c0ffee")
        h.daemon(Hosts={"hosts": [{"host": "beta", "host_id": 2, "life": "dead", "age_ms": 9000}]},
                 Leases={"leases": [{"vm": "web", "owner": "alpha", "owner_id": 1, "lver": 3,
                                     "free": False, "owner_life": "alive"}]})
        problems = exits(h.run("status"), 0, "Host alpha", "beta 2 dead 9.0 s ago", "web running",
                         "web alpha 3 alive", "host beta is dead",
                         "web is not protected: there is no standby", "old@00c0ffee is frozen")
        whole = h.json("status")
        return problems + wrong("--json", set(whole) == {
            "name", "daemon", "host", "hosts", "leases", "vms", "troubles"} and
            whole["daemon"]["state"] == "answers" and len(whole["troubles"]) == 3, whole)


def events_are_followed() -> list[str]:
    """events: of a VM and of the host, --after, and the end"""
    told = [{"event": {"seq": 7, "event": "vm-frozen"}}]
    with host() as h:
        web = h.keeper("web", Events=told, ends_after=["Events"])
        daemon = h.daemon(Events=told, ends_after=["Events"])
        problems = []
        for words in (("events", "web", "--after", "6"), ("events", "--after", "now")):
            done = h.run(*words)
            problems += exits(done, 0) + wrong("a line of JSON", [
                json.loads(line) for line in done.stdout.splitlines()] == [told[0]["event"]], done)
        problems += wrong("after", web.calls()[-1]["parameters"] == {"after": 6}, web.calls())
        problems += wrong("now", daemon.calls()[-1]["parameters"] == {"after": 2**63 - 1},
                          daemon.calls())
        return problems + exits(h.run("events", "--after", "soon"), 2, "soon") + \
            exits(h.run("events", "nobody"), 3, "nobody")


def definitions_are_checked() -> list[str]:
    """check-config: by the keeper; each file by name, or all; --json"""
    with host() as h:
        good = h.define("good")
        bad = h.define("bad", "[vm]\nargs = -m 64M\nnonsense = 1\n")
        problems = exits(h.run("check-config", str(good)), 0, f"{good}: ok")
        problems += exits(h.run("check-config"), 1, f"{good}: ok", f"{bad}:3", "nonsense")
        found = {Path(one["file"]).name: one["ok"] for one in h.json("check-config", str(good),
                                                                     str(bad))}
        problems += wrong("--json", found == {"good.conf": True, "bad.conf": False}, found)
        problems += exits(h.run("check-config", "/nowhere/web.conf"), 1, "/nowhere/web.conf")
        return problems + \
            exits(h.run("check-config", "/nowhere/web"), 1, "NAME.conf")


def nobody_is_told_why_not() -> list[str]:
    """somebody without permission: status 8, and what would help"""
    if os.geteuid() != 0:
        raise tap.Skip("only root can become somebody else")
    with host() as h:
        h.keeper("web")
        h.daemon()
        for folder in (h.path, h.run_dir):
            folder.chmod(0o755)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", h.holdfast]
        if subprocess.run([*nobody, "version"], capture_output=True, check=False).returncode != 0:
            raise tap.Skip("nobody but its owner can run this build")
        problems = []
        for words in (("status", "web"), ("pause", "web"), ("start", "web"), ("events", "web")):
            done = subprocess.run([*nobody, *words], capture_output=True, text=True, timeout=120,
                                  check=False, env=h.environment())
            problems += exits(done, 8, "no permission", "be root")
        return problems


CHECKS = [list_knows_all_kinds, list_without_a_daemon, what_hangs_delays_nothing,
          a_full_backlog_delays_nothing, a_pipe_delays_nothing,
          states_have_their_status, certificate_is_told, damaged_certificates_are_told,
          names_are_resolved, released_without_a_keeper, orders_reach_the_keeper,
          stop_waits_for_the_end, stop_by_the_daemon_takes_its_time, orders_reach_the_daemon,
          status_of_the_host, events_are_followed, definitions_are_checked, nobody_is_told_why_not]

if __name__ == "__main__":
    pattern = sys.argv[2] if len(sys.argv) > 2 else ""
    sys.exit(tap.run([c for c in CHECKS if pattern in c.__name__]))
