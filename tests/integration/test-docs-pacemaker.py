#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/pacemaker.md, as it is written: its configurations are loaded by crm and by pcs into real
clusters of two and of three nodes. `holdfast check-cluster` finds nothing in them, the VMs run, and
what the text says of a lost node comes true. Then mistakes are made, and found.

In place of the management boards stands the lab's power switch, under the name of the agent that
the document uses; in place of the document's big guests a tiny one.

usage: test-docs-pacemaker.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, QEMU. Exit status: 0, 1, or 77 when not root."""

import itertools
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Optional

from checks import Skip, check, expect, main, say

# pylint: disable=wrong-import-position,wrong-import-order
from labcluster import Cluster  # noqa: E402
from labnet import LabError  # noqa: E402
from labnode import lacks  # noqa: E402
from labwitness import Tick, tick_argv  # noqa: E402
from leaseformat import SECTOR  # noqa: E402

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "pacemaker.md"
# "<!-- crm: 2 -->", then the block itself.
BLOCK = re.compile(r"^<!-- ([a-z-]+)(?:: (\S+))? -->\n```\w*\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"^<!-- .* -->$", re.M)
KINDS = {"file", "corosync", "crm", "pcs", "check", "crm-alert", "pcs-alert", "do"}
PORT = 7400
VOTEQUORUM = re.compile(r"quorum \{.*?\n\}\n", re.S)
# The agent that the document names: its own parameters, the lab's deeds.
FENCE_AGENT = """#!/bin/sh
case $1 in
-o | --action) action=$2 ;;
*) input=$(cat) && action=$(echo "$input" | sed -n s/^action=//p) ;;
esac
case $action in
metadata | meta-data) ;;
*) echo "$input" | grep -E '^(action|nodename)=' | exec /usr/sbin/fence_holdfast_lab; exit ;;
esac
parameter() {
	echo "<parameter name='$1' unique='0' required='0'><getopt mixed='--$1=[x]'/>"
	echo "<content type='string'/><shortdesc lang='en'>$1</shortdesc></parameter>"
}
echo "<?xml version='1.0'?><resource-agent name='fence_ipmilan' shortdesc='IPMI'>"
echo "<longdesc>IPMI</longdesc><parameters>"
for name in action ip username password_script lanplus; do parameter $name; done
echo "</parameters><actions><action name='on'/><action name='off'/><action name='reboot'/>"
echo "<action name='status'/><action name='monitor'/><action name='metadata'/></actions>"
echo "</resource-agent>"
"""

SENDMAIL = """#!/bin/sh
cat >{folder}/$$.new && mv {folder}/$$.new {folder}/$$.mail
"""


def blocks(kind: str) -> dict[str, str]:
    """Of one kind, by what stands behind its colon."""
    found = [(key, text) for found_kind, key, text in BLOCK.findall(DOCUMENT.read_text())
             if found_kind == kind]
    expect(found, f"the document has no block of the kind {kind}")
    return dict(found)


class DocumentedCluster:
    """with DocumentedCluster(2) as d: ... Without resources, and fenced by nobody yet."""

    def __init__(self, count: int):
        if why := lacks() or next((f"not installed: {tool}" for tool in ("crm", "pcs")
                                   if not shutil.which(tool, path="/usr/sbin:/usr/bin")), ""):
            raise Skip(why)
        self.count = count
        self.c = Cluster(nodes=count, stonith=False)
        self.mails: Path

    def __enter__(self) -> "DocumentedCluster":
        self.c.__enter__()
        self.mails = self.c.shared / "mails"
        try:
            self.mails.mkdir()
            self.mails.chmod(0o777)  # alerts are hacluster's
            for node in self.c.nodes.values():
                self._prepare(node.tree)
            say(f"{self.count} nodes are up in {self.c.up():.1f} s")
        except BaseException:
            self.c.tell()
            self.c.close()
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        self.c.__exit__(kind, *unused)

    def _prepare(self, tree: Path) -> None:
        for name, text in (("fence_ipmilan", FENCE_AGENT),
                           ("sendmail", SENDMAIL.format(folder=self.mails))):
            (tree / "usr/sbin" / name).write_text(text)
            (tree / "usr/sbin" / name).chmod(0o755)
        conf = tree / "etc/corosync/corosync.conf"
        quorum = blocks("corosync")[str(self.count)]
        text, number = VOTEQUORUM.subn(quorum, conf.read_text())
        expect(number == 1, conf.read_text())
        conf.write_text(text)

    # --- the VMs ---

    def define(self) -> None:
        """The document's VMs, with a guest that the lab can run."""
        for name, hosts in (("wiki", ()), ("web", ("hostA", "hostB"))):
            image = self.c.shared / f"{name}.raw"
            with open(image, "wb") as f:
                f.truncate(2048 * 512)
            text = (f"[vm]\nmanager = pacemaker\n"
                    f"args = {tick_argv(f'file={image},file.locking=off', '1')}\n")
            if hosts:
                text += f"redo-journal = {self.c.shared / name}.redo\n"
                text += "".join(f"[host {host}]\naddress = {self.c.lab.repl_addr(host)}:{PORT}\n"
                                for host in hosts)
                text += "[protection]\npeer-timeout = 2s\ndisk-layout = shared\n"
            for node in self.c.names:
                if not hosts or node in hosts:
                    self.c.define(name, text, [node])
            leases = self.c.call("hostA", "Leases")["leases"]
            if not any(lease["vm"] == name for lease in leases):
                self.c.call("hostA", "Create", vm=name)

    def wait_runs(self) -> None:
        """Both VMs, the one of them protected, and all fence devices."""
        self.c.wait(lambda: list(self.c.instances("wiki").values()) == ["Started"], "wiki runs", 90)
        self.wait_protected()
        self.c.wait(lambda: all(self.c.instances(f"fence-{node}") for node in self.c.names),
                    "fence devices are started")

    def wait_protected(self) -> None:
        self.c.wait(lambda: sorted(self.c.instances("web").values()) == ["Promoted", "Unpromoted"],
                    "web is a pair", 90)
        self.c.wait(lambda: self.c.vm(self.live("web"), "web")["protected"], "web is protected", 60)

    def live(self, vm: str) -> str:
        """Where it runs, as Pacemaker sees it."""
        return next(node for node, role in self.c.instances(vm).items()
                    if role in ("Promoted", "Started"))

    def findings(self, node: str, *options: str) -> list[dict[str, Any]]:
        text = self.c.cli(node, "check-cluster", "--json", *options, check=False)
        return list(json.loads(text)["findings"])

    def codes(self, node: str) -> set[str]:
        return {finding["code"] for finding in self.findings(node)}

    # --- the document's words ---

    def load_crm(self) -> None:
        self.load(blocks("crm")[str(self.count)])

    def load(self, text: str) -> None:
        said = self.c.sh("hostA", ["crm", "configure", "load", "update", "-"], 60.0, stdin=text)
        expect("ERROR" not in said, said)

    def run_pcs(self) -> None:
        self.c.sh("hostA", ["sh", "-e", "-x", "-c", blocks("pcs")[str(self.count)]], 120.0)

    def do(self, key: str, target: str = "hostB") -> None:
        """target: instead of hostB."""
        text = blocks("do")[key].replace("hostB", target)
        self.c.sh("hostA", ["sh", "-e", "-x", "-c", text], 120.0)

    def birth(self, vm: str) -> int:
        """The number of the first thing that its guest has written since it was booted."""
        with open(self.c.shared / f"{vm}.raw", "rb") as f:
            last = Tick.decode(f.read(SECTOR))
        if last is None:
            raise LabError(f"{vm} has not ticked yet")
        return last.number - last.tick

    def is_as_written(self, load: Callable[[], None]) -> None:
        self.define()
        load()
        self.wait_runs()
        for node in self.c.names:
            expect(not self.findings(node, "--strict"), self.findings(node))
            for command in blocks("check").values():
                self.c.sh(node, ["sh", "-e", "-c", command])
        expect(not self.c.failures(), self.c.failures())
        expect(not self.c.fenced, self.c.fenced)

    def _are_stopped(self) -> bool:
        """The guest hears no power button, and the document gives it a minute: it is ended by hand."""
        for vm in ("web", "wiki"):
            for node in self.c.instances(vm):
                self.c.cli(node, "stop", vm, "--force", "--manager", "pacemaker", "--no-wait",
                           check=False)
        return not self.c.instances("web") and not self.c.instances("wiki")

    def begin_anew(self) -> None:
        """What runs is stopped first, as crm and pcs see to, too."""
        for resource in ("web-clone", "wiki"):
            self.c.sh("hostA", ["crm_resource", "-r", resource, "--meta", "-p", "target-role", "-v",
                                "Stopped"])
        self.c.wait(self._are_stopped, "the VMs are stopped", 90)
        self.c.reset()


# --- the document by itself ----------------------------------------------------------------------

@check
def every_block_that_is_marked_is_used() -> None:
    text = DOCUMENT.read_text()
    expect(len(BLOCK.findall(text)) == len(MARK.findall(text)), MARK.findall(text))
    expect({kind for kind, _, _ in BLOCK.findall(text)} == KINDS, BLOCK.findall(text))
    for kind in ("corosync", "crm", "pcs"):
        expect(set(blocks(kind)) == {"2", "3"}, blocks(kind).keys())


_two: Optional[DocumentedCluster] = None


def two() -> DocumentedCluster:
    """Shared by the checks that follow; the last one ends it."""
    global _two  # pylint: disable=global-statement
    if _two is None:
        _two = DocumentedCluster(2).__enter__()
    return _two


def two_running() -> DocumentedCluster:
    """With the document's VMs."""
    d = two()
    if not d.c.instances("web"):
        d.is_as_written(d.load_crm)
    return d


def end_two() -> None:
    global _two  # pylint: disable=global-statement
    if _two:
        _two.__exit__(None)
        _two = None


# --- two nodes -----------------------------------------------------------------------------------

@check
def definitions_are_right() -> None:
    c = two().c
    for name, text in blocks("file").items():
        path = c.nodes["hostA"].write(f"/etc/holdfast/{name}", text)
        said = c.cli("hostA", "check-config", f"/etc/holdfast/{name}")
        expect(said.strip().endswith("ok"), said)
        path.unlink()


@check
def two_nodes_by_pcs() -> None:
    two().is_as_written(two().run_pcs)
    two().begin_anew()


@check
def two_nodes_by_crm() -> None:
    two().is_as_written(two().load_crm)


def is_told_why(d: DocumentedCluster) -> None:
    """Who has set up the alert hears of a VM's failure why it failed. Pacemaker's attribute manager
    takes a moment to know of a new alert."""
    name, why = "holdfast-wiki-reason", "hardware-error severity=fatal topology=dimm=A2"
    numbers = itertools.count()

    def is_told() -> bool:
        d.c.sh("hostB", ["attrd_updater", "-n", name, "-U", f"{why} id={next(numbers):08x}"])
        return any(f"Subject: east: wiki on hostB: {why} id=" in mail.read_text()
                   for mail in d.mails.glob("*.mail"))

    for mail in d.mails.glob("*.mail"):
        mail.unlink()
    try:
        d.c.wait(is_told, f"a mail says: {why}")
    finally:
        d.c.sh("hostB", ["attrd_updater", "-n", name, "-D"])


@check
def alerts_tell_why() -> None:
    d = two_running()
    path = re.search(r'"(/\S+holdfast-alert)"', blocks("crm-alert")[""])
    expect(path, blocks("crm-alert"))
    d.c.sh("hostA", ["test", "-x", path.group(1) if path else ""])
    d.load(blocks("crm-alert")[""])
    expect(not d.findings("hostA"), d.findings("hostA"))
    is_told_why(d)
    d.c.sh("hostA", ["crm", "configure", "delete", "holdfast-tells"])
    d.c.sh("hostA", ["sh", "-e", "-c", blocks("pcs-alert")[""]])
    expect(not d.findings("hostA"), d.findings("hostA"))
    is_told_why(d)
    d.c.sh("hostA", ["pcs", "alert", "remove", "holdfast-tells"])


def is_on(d: DocumentedCluster, node: str) -> None:
    d.c.wait(lambda: d.c.instances("web").get(node) == "Promoted", f"web is promoted on {node}")
    d.wait_protected()


def back_to_a(d: DocumentedCluster) -> None:
    """By crm_resource, whoever is documented."""
    if d.live("web") != "hostA":
        d.do("move", "hostA")
        is_on(d, "hostA")


@check
def operators_move_a_guest_that_does_not_notice() -> None:
    d = two_running()
    back_to_a(d)
    d.c.wait(lambda: d.birth("web") >= 0, "the guest ticks")
    born = d.birth("web")
    for words in ("move", "pcs-move"):
        back_to_a(d)
        d.do(words)
        is_on(d, "hostB")
    d.do("standby")
    d.c.wait(lambda: d.c.instances("web") == {"hostA": "Promoted"}, "hostB is empty")
    d.c.wait(lambda: d.c.instances("wiki") == {"hostA": "Started"}, "wiki is on hostA", 120)
    d.do("online")
    d.wait_protected()
    expect(d.birth("web") == born, "it was booted anew")
    expect(not d.c.fenced and not d.c.failures(), (d.c.fenced, d.c.failures()))
    for node in d.c.names:
        expect(not d.findings(node, "--strict"), d.findings(node))


def finds(d: DocumentedCluster, code: str, node: str = "hostA") -> None:
    found = [f for f in d.findings(node) if f["code"] == code]
    expect(len(found) == 1, (code, d.findings(node)))
    expect(d.c.nodes[node].sh(["holdfast", "check-cluster", "--strict"], check=False
                              ).returncode == 1, "exit status")


def mends(d: DocumentedCluster, code: str, tool: str, node: str = "hostA") -> None:
    """By the very command that is offered."""
    found = next(f for f in d.findings(node) if f["code"] == code)
    d.c.sh(node, ["sh", "-e", "-c", found["mend"][tool]])
    expect(code not in d.codes(node), d.findings(node))


@check
def mistakes_are_found_and_mended() -> None:
    d = two_running()
    for tool, spoil, code in (
            ("crm", "crm resource meta web-clone set notify false", "notify"),
            ("pcs", "pcs resource meta web-clone notify=false", "notify"),
            ("crm", "crm resource meta wiki delete migration-threshold", "threshold-missing"),
            ("pcs", "pcs resource meta wiki failure-timeout=60", "failure-timeout"),
            ("crm", "crm resource param wiki set paused maybe", "param-value"),
            ("pcs", "pcs property set startup-fencing=false", "startup-fencing"),
            ("pcs", "pcs resource update wiki op monitor interval=10s on-fail=ignore",
             "monitor-on-fail"),
            ("crm", "crm configure property priority-fencing-delay=0", "fence-race")):
        d.c.sh("hostA", ["sh", "-e", "-c", spoil])
        finds(d, code)
        mends(d, code, tool)


@check
def what_is_wrong_on_a_node_is_found_there() -> None:
    d = two_running()
    path = d.c.nodes["hostB"].disk("/etc/holdfast/vms/wiki.conf")
    text = path.read_text()
    path.unlink()
    finds(d, "definition-missing", "hostB")
    expect(not d.findings("hostA"), d.findings("hostA"))
    path.write_text(text.replace("manager = pacemaker\n", ""))
    finds(d, "definition-unmanaged", "hostB")
    path.write_text(text)
    d.c.cli("hostB", "reload")
    d.c.wait(lambda: not d.findings("hostB"), "hostB is right again")


@check
def a_daemon_that_has_died_is_found() -> None:
    d = two_running()
    d.c.kill_daemon("hostB")
    finds(d, "daemon", "hostB")
    d.c.restart_daemon("hostB")
    d.c.wait(lambda: not d.findings("hostB"), "hostB is right again")


@check
def a_lost_node_is_fenced_and_its_vms_run() -> None:
    d = two_running()
    lost, left = d.live("web"), next(n for n in d.c.names if n != d.live("web"))
    d.c.kill(lost)
    try:
        d.c.wait(lambda: d.c.instances("web", left).get(left) == "Promoted", "web goes on", 90)
        d.c.wait_running("wiki", left, 90)
    except LabError:
        d.c.tell(100)
        raise
    expect(lost in d.c.fenced_nodes(), d.c.fenced)
    expect(left not in d.c.fenced_nodes(), d.c.fenced)
    d.c.boot(lost)
    d.wait_protected()
    expect(not d.findings(left), d.findings(left))


@check
def the_two_nodes_end() -> None:
    end_two()


# --- three nodes ---------------------------------------------------------------------------------

@check
def three_nodes() -> None:
    with DocumentedCluster(3) as d:
        d.is_as_written(d.run_pcs)
        d.begin_anew()
        d.is_as_written(d.load_crm)
        expect("hostC" not in d.c.instances("web"), d.c.instances("web"))
        d.c.crm("configure delete web-on-its-hosts")
        finds(d, "node-no-host")
        mends(d, "node-no-host", "pcs")


if __name__ == "__main__":
    try:
        status = main()
    finally:
        try:
            end_two()
        except LabError as error:
            print(f"# {error}")
    sys.exit(status)
