# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as a resource of a real Pacemaker cluster, and what must be true of it whatever befalls it.

All checks share one cluster, which the first one starts. ClusteredVm brings a VM of its own, with an
image that both nodes reach and a witness that watches it from the first moment; when it is left,
nobody has ever run the VM twice, and the cluster is as it was."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from checks import Skip, expect, say
# pylint: disable=wrong-import-order
from labcluster import Cluster
from labfreeze import Monitor, MonitorGone
from labnode import lacks
from labwitness import Witness, tick_argv

A, B = "hostA", "hostB"
IDS = {A: 1, B: 2}
MARKER = b"HOLDFAST TINY GUEST MARKER"
# What the agent calls: holdfast, and a record of how that ended.
RECORDER = """#!/bin/sh
began=$(date +%s%N)
holdfast "$@"
rc=$?
echo "$began $(date +%s%N) $rc $*" >>/var/log/agent.log
exit $rc
"""
HANG_TIMEOUT = "1s"

_cluster: Optional[Cluster] = None


def the_cluster() -> Cluster:
    """Of two nodes. When they fence each other, hostB wins."""
    global _cluster  # pylint: disable=global-statement
    if _cluster is None:
        if why := lacks():
            raise Skip(why)
        cluster = Cluster(fence_delay={B: 6})
        cluster.__enter__()
        _cluster = cluster
        try:
            say(f"the cluster is up in {cluster.up():.1f} s")
        except BaseException:
            cluster.tell()
            end_the_cluster()
            raise
    return _cluster


def end_the_cluster() -> None:
    global _cluster  # pylint: disable=global-statement
    if _cluster:
        _cluster.close()
        _cluster = None


@dataclass(frozen=True)
class Action:
    """One call of holdfast by the resource agent."""
    action: str
    rc: int
    ms: float


class ClusteredVm:
    """with ClusteredVm("web") as vm: ... It runs on hostA, where Pacemaker has started it. settings:
    lines of [vm]; monitor: options of its operation; drive: options of its disk, {host} and {image}
    in them become what they are."""

    def __init__(self, name: str, settings: str = "", monitor: str = "interval=10s timeout=20s",
                 drive: str = "file={image},file.locking=off", params: str = "",
                 has_lease: bool = True):
        self.c = the_cluster()
        self.name, self.settings, self.monitor_op = name, settings, monitor
        self.drive, self.params, self.has_lease = drive, params, has_lease
        self.image = self.c.shared / f"{name}.raw"
        self.witness: Witness

    # --- life ---

    def __enter__(self) -> "ClusteredVm":
        recorder = self.c.shared / "holdfast"
        if not recorder.exists():
            recorder.write_text(RECORDER)
            recorder.chmod(0o755)
        try:
            self.witness = self._watch()
            self.witness.__enter__()
            for node in self.c.names:
                self.c.define(self.name, self.definition(node), [node])
            self.c.configure(self.resource())
            self.wait_runs(A)
        except BaseException:
            self._leave(is_failed=True)
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        self._leave(is_failed=kind is not None)

    def _leave(self, is_failed: bool) -> None:
        if is_failed:
            self.tell()
        try:
            self.c.reset()
            if not is_failed:
                self.witness.expect_once()
        except BaseException:
            if not is_failed:
                self.tell()
            raise
        finally:
            self.witness.__exit__()
            self.image.unlink(missing_ok=True)

    def _watch(self) -> Witness:
        if not self.has_lease:
            return Witness(self.image)
        self.c.call(A, "Create", vm=self.name)
        lease = self.c.call(A, "Read", vm=self.name)["lease"]
        return Witness(self.image, self.c.area.file, int(lease["offset"]))

    def tell(self) -> None:
        self.c.tell()
        for node in self.c.names:
            say(f"actions on {node}: {self.actions(node)[-20:]}")
        say(f"boots {self.witness.boots}\nowners {self.witness.owners}\n"
            f"faults {self.witness.faults}")

    # --- what it is ---

    def definition(self, node: str) -> str:
        drive = self.drive.format(image=self.image, host=node)
        args = tick_argv(drive, str(IDS[node]), f"-qmp unix:/run/{self.name}.qmp,server=on,wait=off")
        return (f"[vm]\nargs = {args}\nmanager = pacemaker\nhang-timeout = {HANG_TIMEOUT}\n"
                f"lease = {'yes' if self.has_lease else 'no'}\n{self.settings}")

    def resource(self) -> str:
        """As an operator would have it; the guest has no kernel that could shut down."""
        return (f"primitive {self.name} ocf:holdfast:vm params vm={self.name} shutdown_timeout=1s "
                f"program={self.c.shared}/holdfast {self.params} meta migration-threshold=1 resource-stickiness=200 "
                f"op monitor {self.monitor_op} op start timeout=60s interval=0 "
                "op stop timeout=60s interval=0\n"
                f"location prefer-{self.name} {self.name} 100: {A}\n")

    def view(self, node: str) -> dict[str, Any]:
        """What that node's daemon says of it."""
        return self.c.vm(node, self.name)

    def frozen(self, node: str) -> list[str]:
        """Ids of its frozen instances there."""
        return list(self.view(node)["frozen"])

    def is_running(self, node: str) -> bool:
        """There, by the disk; the witness has seen ten ticks of this boot."""
        return self.witness.hosts()[-1:] == [IDS[node]] and self.witness.ticks() >= 10

    def actions(self, node: str, which: str = "") -> list[Action]:
        """What Pacemaker has had done with it there, in the order in which it ended."""
        log, found = self.c.nodes[node].disk("/var/log/agent.log"), []
        for line in log.read_text().splitlines() if log.exists() else []:
            began, ended, code, _, action, name, *_ = line.split()
            if name == self.name and which in ("", action):
                found.append(Action(action, int(code), (int(ended) - int(began)) / 1e6))
        return found

    def wait_monitors(self, node: str, count: int = 2, timeout_s: float = 60.0) -> None:
        """So many more have ended there."""
        before = len(self.actions(node, "monitor"))
        self.c.wait(lambda: len(self.actions(node, "monitor")) >= before + count,
                    f"{count} monitors of {self.name} on {node}", timeout_s)

    # --- trouble ---

    def signal_qemu(self, node: str, number: int = signal.SIGKILL) -> None:
        self.c.nodes[node].signal(int(self.view(node)["qemu_pid"]), number)

    def signal_keeper(self, node: str, number: int = signal.SIGKILL) -> None:
        self.c.nodes[node].signal(int(self.view(node)["keeper_pid"]), number)

    def panic(self, node: str) -> None:
        monitor = Monitor(self.c.nodes[node].run_dir / f"{self.name}.qmp").greet()
        try:
            monitor.call("inject-nmi")
        except MonitorGone:
            pass
        finally:
            monitor.close()

    # --- what becomes of it ---

    def wait_runs(self, node: str, timeout_s: float = 90.0) -> None:
        """There and nowhere else: by Pacemaker, by the daemon, and by the disk."""
        self.c.wait_running(self.name, node, timeout_s)
        self.c.wait(lambda: self.is_running(node), f"{self.name} ticks on {node}", timeout_s)
        self.c.wait(lambda: self.view(node)["life"] == "running",
                    f"the daemon of {node} knows that {self.name} runs", timeout_s)

    def expect_boots(self, *nodes: str) -> None:
        """It has been started there, in this order, and no more often."""
        found, wanted = self.witness.hosts(), [IDS[node] for node in nodes]
        expect(found == wanted, f"booted by {found}, not {wanted}")
        self.witness.expect_once()

    def expect_nobody_fenced(self) -> None:
        expect(not self.c.fenced, f"fenced: {self.c.fenced}")

    def expect_ticking(self, count: int = 20) -> None:
        """In the same boot as before."""
        boots, ticks = len(self.witness.hosts()), self.witness.ticks()
        self.c.wait(lambda: self.witness.ticks() >= ticks + count or
                    len(self.witness.boots) != boots, f"{self.name} ticks on")
        expect(len(self.witness.boots) == boots, f"it was started anew: {self.witness.boots}")

    def expect_dump(self, node: str, cause: str) -> str:
        """The only frozen instance there is for that cause, and can be dumped; its id."""
        found = self.frozen(node)
        expect(len(found) == 1, f"frozen on {node}: {found}")
        place = f"/var/lib/holdfast/{self.name}/frozen/{found[0]}/certificate.json"
        certificate = json.loads(self.c.nodes[node].disk(place).read_text())
        expect(certificate["cause"] == cause, certificate["cause"])
        self.c.cli(node, "dump", f"{self.name}@{found[0]}", f"/var/log/{self.name}.core")
        core = self.c.nodes[node].disk(f"/var/log/{self.name}.core").read_bytes()
        expect(core[:4] == b"\x7fELF" and MARKER in core, "no core of the guest")
        self.c.nodes[node].disk(f"/var/log/{self.name}.core").unlink()
        return found[0]

    # --- attributes ---

    def attribute(self, node: str, suffix: str = "") -> str:
        return self.c.attributes(node).get(f"holdfast-{self.name}{suffix}", "")

    def wait_told(self, node: str, word: str, *reasons: str) -> None:
        """crm_mon -A shows what became of it, and why."""
        self.c.wait(lambda: self.attribute(node) == word and
                    all(r in self.attribute(node, "-reason") for r in reasons),
                    f"attributes of {node}: {word}, {reasons}")

    def wait_untold(self, node: str) -> None:
        """And the node may be used again."""
        self.c.wait(lambda: not self.attribute(node) and not self.attribute(node, "-reason"),
                    f"no attributes of {self.name} on {node}")
        self.c.wait(lambda: not self.fail_count(node), f"{self.name} is not banned from {node}")

    def fail_count(self, node: str) -> int:
        text = self.c.sh(self.c.some_node(), ["crm_failcount", "-G", "-r", self.name, "-N", node])
        value = text.rsplit("value=", 1)[1].strip()
        return 1000000 if value == "INFINITY" else int(value)


class FailingDisks:
    """One export per node of the same image, whose requests fail on one node when fail() says so."""

    def __init__(self, cluster: Cluster, name: str):
        self.c, self.name = cluster, name
        self.drive = f"file=nbd+unix:///?socket={cluster.shared}/{name}.{{host}}.sock"

    def start(self, image: Path) -> None:
        for node in self.c.names:
            place = self.c.shared / f"{self.name}.{node}"
            self.c.nodes[node].spawn(
                ["nbdkit", "-f", "-U", f"{place}.sock", "--filter=error", "file", str(image),
                 "error=EIO", "error-rate=100%", f"error-file={place}.fails"], "nbdkit.log")
            self.c.wait(Path(f"{place}.sock").exists, "nbdkit")

    def fail(self, node: str) -> None:
        (self.c.shared / f"{self.name}.{node}.fails").touch()
