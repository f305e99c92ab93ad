#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`holdfast check-cluster` as a command: what it reads and from where, what it prints, and how it
ends; with configurations that crmsh and pcs have written, and a cibadmin that hangs, fails, and never
stops talking. No cluster: test-docs-pacemaker.py has real ones.

usage: test-check-cluster.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR. Exit status: 0, 1."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from checks import Skip, check, expect, main

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["HF_BUILD_DIR"])
HOLDFAST = BUILD / "src/cli/holdfast"
EMPTY = ('<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" epoch="1" num_updates="0" '
         'admin_epoch="0"><configuration><crm_config/><nodes><node id="1" uname="hostA"/>'
         '<node id="2" uname="hostB"/></nodes><resources/><constraints/></configuration><status/>'
         '</cib>')
BARE = EMPTY.replace(
    "<resources/>", '<resources><primitive id="web" class="ocf" provider="holdfast" type="vm">'
    '<instance_attributes id="i"><nvpair id="n" name="vm" value="web"/></instance_attributes>'
    '</primitive></resources>')
DEFINITION = "[vm]\nmanager = pacemaker\nargs = -m 64\n"
PATIENCE_S = 60


class World:
    """Folders and programs of one check."""

    def __init__(self) -> None:
        self.temp = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        self.here = Path(self.temp.name)
        self.bin, self.vms, self.run_dir = (self.here / name for name in ("bin", "vms", "run"))
        for folder in (self.bin, self.vms, self.run_dir):
            folder.mkdir()
        self.env = {**os.environ, "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin"}

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *unused: object) -> None:
        self.temp.cleanup()

    def cib(self, text: str = BARE) -> str:
        path = self.here / "cib.xml"
        path.write_text(text)
        return str(path)

    def cibadmin(self, script: str) -> None:
        path = self.bin / "cibadmin"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def check(self, *options: str, stdin: str = "") -> subprocess.CompletedProcess:
        return subprocess.run([HOLDFAST, "check-cluster", *options], env=self.env, input=stdin,
                              capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def live(self, *options: str) -> subprocess.CompletedProcess:
        return self.check("--vms", str(self.vms), "--run-dir", str(self.run_dir), *options)

    def codes(self, *options: str) -> dict[str, dict[str, Any]]:
        found = json.loads(self.check("--json", *options).stdout)["findings"]
        return {f["code"]: f for f in found}

    def edit(self, argv: list[str], stdin: str = "") -> None:
        """crm or pcs, on the file, with --force: the agent need not be installed."""
        env = {**self.env, "CIB_file": str(self.here / "cib.xml"), "HOME": str(self.here)}
        done = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True,
                              timeout=PATIENCE_S, check=False)
        expect(done.returncode == 0, (argv, done.stdout, done.stderr))


# --- what it says --------------------------------------------------------------------------------

@check
def findings_as_text_and_as_json() -> None:
    with World() as w:
        path = w.cib()
        text = w.check("--cib", path)
        expect(text.returncode == 1 and not text.stderr, text)
        expect(re.search(r"^error: web: web: there is no monitor operation.* \[monitor-missing\]\n"
                         r"    pcs resource op add web monitor ", text.stdout, re.M), text.stdout)
        done = w.check("--cib", path, "--json")
        expect(done.returncode == 1, done)
        said = json.loads(done.stdout)
        found = said["findings"]
        expect(said["resources"] == 1 and said["left_out"] == 0, said)
        for severity in ("error", "warning", "note"):
            number = sum(f["severity"] == severity for f in found)
            expect(said[f"{severity}s"] == number, said)
            expect(text.stdout.count(f"{severity}: ") == number, text.stdout)
        expect(len(re.findall(r" \[[a-z-]+\]$", text.stdout, re.M)) == len(found), text.stdout)
        order = [["error", "warning", "note"].index(f["severity"]) for f in found]
        expect(order == sorted(order), order)
        for f in found:
            expect(f["what"] and f["where"] and f["mend"], f)


@check
def nothing_to_find() -> None:
    with World() as w:
        done = w.check("--cib", w.cib(EMPTY))
        expect(done.returncode == 0 and not done.stderr, done)
        expect(done.stdout == "0 resources of ocf:holdfast:vm: 0 errors, 0 warnings, 0 notes\n",
               done.stdout)


@check
def warnings_alone_count_only_if_strict() -> None:
    with World() as w:
        (w.vms / "web.conf").write_text(DEFINITION)
        path = w.cib(EMPTY)  # a definition that no resource names
        done = w.check("--cib", path, "--vms", str(w.vms))
        expect(done.returncode == 0 and "[no-resource]" in done.stdout, done)
        expect(w.check("--cib", path, "--vms", str(w.vms), "--strict").returncode == 1, "strict")


@check
def every_finding_is_in_the_manual() -> None:
    code = re.compile(r'HF_FOUND_\w+,\s*"([a-z-]+)"|"(promoted-max|clone-node-max)"')
    text = "".join(p.read_text() for p in sorted((ROOT / "src/clustercheck").glob("rules-*.c")))
    real = {a or b for a, b in code.findall(text)}
    page = (ROOT / "docs/man/holdfast.1").read_text().split(".SH WHAT CHECK")[1].split(".SH ")[0]
    written = {m.replace("\\-", "-") for m in re.findall(r'^\.BR (\S+) " \(', page, re.M)}
    expect(len(real) > 40 and real == written, (real - written, written - real))


# --- where it looks ------------------------------------------------------------------------------

@check
def definitions_only_where_told() -> None:
    with World() as w:
        path = w.cib()
        expect("definition-missing" not in w.codes("--cib", path), "no folder was given")
        found = w.codes("--cib", path, "--vms", str(w.vms))
        expect(found["definition-missing"]["where"] == str(w.vms / "web.conf"), found)
        (w.vms / "web.conf").write_text("[vm]\nargs = -m 64\nnonsense = 1\n")
        found = w.codes("--cib", path, "--vms", str(w.vms))
        expect("web.conf:3:1:" in found["definition-invalid"]["what"], found)
        (w.vms / "web.conf").write_text(DEFINITION)
        found = w.codes("--cib", path, "--vms", str(w.vms))
        expect(not [code for code in found if code.startswith("definition")], found)


@check
def the_cluster_of_this_host() -> None:
    with World() as w:
        w.cib()
        w.cibadmin(f'[ "$*" = --query ] && cat {w.here}/cib.xml')
        (w.vms / "web.conf").write_text(DEFINITION)
        done = w.live("--json")
        codes = {f["code"] for f in json.loads(done.stdout)["findings"]}
        expect(done.returncode == 1 and "monitor-missing" in codes, done)
        expect("daemon" in codes, codes)  # in that run-dir there is none


@check
def the_standard_input() -> None:
    with World() as w:
        done = w.check("--cib", "-", stdin=BARE)
        expect(done.returncode == 1 and "[monitor-missing]" in done.stdout, done)


# --- what others write ---------------------------------------------------------------------------

def needs(program: str) -> None:
    if not shutil.which(program, path="/usr/sbin:/usr/bin"):
        raise Skip(f"not installed: {program}")


@check
def what_pcs_writes_is_understood() -> None:
    needs("pcs")
    with World() as w:
        path = w.cib(EMPTY)
        pcs = ["pcs", "-f", path]
        w.edit([*pcs, "resource", "create", "--force", "web", "ocf:holdfast:vm", "vm=web", "op",
                "start", "timeout=90s", "stop", "timeout=90s", "promote", "timeout=60s", "demote",
                "timeout=90s", "monitor", "interval=10s", "timeout=20s", "role=Promoted",
                "on-fail=restart", "monitor", "interval=11s", "timeout=20s", "role=Unpromoted",
                "on-fail=restart", "meta", "priority=1", "promotable", "notify=true",
                "clone-max=2"])
        w.edit([*pcs, "property", "set", "--force", "priority-fencing-delay=15s"])
        found = w.codes("--cib", path)
        expect(set(found) == {"stonith-none"}, found)
        w.edit([*pcs, "resource", "op", "defaults", "update", "on-fail=ignore"])
        w.edit([*pcs, "resource", "create", "--force", "db", "ocf:holdfast:vm", "vm=db",
                "promotable", "clone-max=1"])
        found = w.codes("--cib", path)
        expect({"monitor-on-fail", "notify", "clone-max"} < set(found), found)


@check
def what_crm_writes_is_understood() -> None:
    needs("crm")
    with World() as w:
        path = w.cib(EMPTY)
        w.edit(["crm", "--force", "configure", "load", "update", "-"], stdin="""\
rsc_template plain ocf:holdfast:vm \\
	op start timeout=90s interval=0s op stop timeout=90s interval=0s \\
	op monitor interval=10s timeout=20s on-fail=restart meta migration-threshold=1 priority=1
primitive web @plain params vm=web
property stonith-enabled=true priority-fencing-delay=15s
rsc_defaults resource-stickiness=100
""")
        found = w.codes("--cib", path)
        expect(set(found) == {"stonith-none"}, found)
        w.edit(["crm", "--force", "configure", "load", "update", "-"], stdin="""\
clone web-clone web
""")
        found = w.codes("--cib", path)
        expect(set(found) == {"stonith-none", "not-promotable"}, found)


# --- trouble -------------------------------------------------------------------------------------

def refuses(done: subprocess.CompletedProcess, status: int, text: str) -> None:
    expect(done.returncode == status and not done.stdout, done)
    expect(done.stderr.startswith("holdfast check-cluster: ") and text in done.stderr, done.stderr)


@check
def files_that_cannot_be_read() -> None:
    with World() as w:
        refuses(w.check("--cib", str(w.here / "none")), 3, "No such file")
        refuses(w.check("--cib", str(w.here)), 3, "Is a directory")
        refuses(w.check("--cib", w.cib("<cib>\n<configuration>\n")), 3, "cib.xml: line 3 is no XML")
        refuses(w.check("--cib", w.cib("<html/>")), 3, "<html>")
        refuses(w.check("--cib", w.cib("<!DOCTYPE a>" + EMPTY)), 3, "DOCTYPE")
        refuses(w.check("--cib", w.cib(), "--vms", str(w.here / "none")), 3, "cannot read")
        with open(w.cib(), "r+b") as f:
            f.truncate((16 << 20) + 1)
        refuses(w.check("--cib", str(w.here / "cib.xml")), 3, "too large")


@check
def a_fifo_without_a_writer_is_not_waited_for() -> None:
    with World() as w:
        os.mkfifo(w.here / "fifo")
        refuses(w.check("--cib", str(w.here / "fifo"), "--timeout", "1"), 9, "in time")


@check
def a_cluster_that_is_down() -> None:
    with World() as w:
        w.cibadmin("echo 'Could not connect' >&2; echo 'Init failed' >&2; exit 102")
        refuses(w.live(), 3, "cibadmin: Could not connect (exit status 102)")
        w.cibadmin("kill -KILL $$")
        refuses(w.live(), 3, "signal 9")
        w.env["PATH"] = str(w.vms)
        refuses(w.live(), 3, "cannot run cibadmin: No such file")


@check
def a_cibadmin_that_hangs_or_does_not_stop() -> None:
    with World() as w:
        w.cibadmin("exec sleep 100")
        began = time.monotonic()
        refuses(w.live("--timeout", "1s"), 9, "in time")
        expect(time.monotonic() - began < 30, "it was waited for longer")
        w.cibadmin("exec yes '<cib>'")
        refuses(w.live(), 3, "too large")


@check
def mistakes_on_the_command_line() -> None:
    with World() as w:
        for words in (["--nonsense"], ["--cib"], ["web"], ["--timeout", "never"],
                      ["--timeout", "0"], ["--timeout", "2h"]):
            done = w.check(*words)
            expect(done.returncode == 2 and "usage: holdfast check-cluster" in done.stderr, done)
        expect(w.check("--help").returncode == 0, "--help")


if __name__ == "__main__":
    sys.exit(main())
