# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as a resource of a real Pacemaker cluster, and what must be true of it whatever befalls it.

All checks share one cluster, which the first one starts. ClusteredVm brings a VM of its own, with
an image that both nodes reach and a witness that watches it from the first moment; when it is left,
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
    """with ClusteredVm("web") as vm: ... It runs on hostA, where Pacemaker has started it.
    monitor: its interval and timeout. has_failing_disk: see fail_disk()."""

    def __init__(self, name: str, monitor: tuple[str, str] = ("10s", "20s"),
                 has_lease: bool = True, has_failing_disk: bool = False):
        self.c = the_cluster()
        self.name, self.monitor_op = name, monitor
        self.has_lease = has_lease
        self.has_failing_disk = has_failing_disk
        self.image = self.c.shared / f"{name}.raw"
        self.witness: Witness

    # --- life ---

    def __enter__(self) -> "ClusteredVm":
        recorder = self.c.shared / "holdfast"
        if not recorder.exists():
            recorder.write_text(RECORDER)
            recorder.chmod(0o755)
        self.witness = self._watch()
        self.witness.__enter__()
        try:
            for node in self.c.names:
                if self.has_failing_disk:
                    self._export(node)
                self.c.define(self.name, self.definition(node), [node])
            self.c.cib("resources", f"<resources>{self.resource()}</resources>")
            self.c.cib("constraints", self.constraint())
            self.wait_runs(A)
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *unused: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self._leave(is_failed=kind is not None)
        else:  # a signal: everything ends now
            self.witness.__exit__()

    def _leave(self, is_failed: bool) -> None:
        if is_failed:
            self.tell()
        try:
            self.c.reset()
            if not is_failed:
                self.witness.expect_once()
        except Exception:
            if not is_failed:
                self.tell()
            end_the_cluster()  # who knows what it is like: the next check has a new one
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
        drive = f"file={self.image},file.locking=off"
        if self.has_failing_disk:
            drive = f"file=nbd+unix:///?socket={self._export_path(node)}.sock"
        qmp = f"-qmp unix:/run/{self.name}.qmp,server=on,wait=off"
        args = tick_argv(drive, str(IDS[node]), qmp)
        return (f"[vm]\nargs = {args}\nmanager = pacemaker\nhang-timeout = {HANG_TIMEOUT}\n"
                f"lease = {'yes' if self.has_lease else 'no'}\n")

    def resource(self) -> str:
        """As an operator would have it; the guest has no kernel that could shut down."""
        params = {"vm": self.name, "shutdown_timeout": "1s", "program": f"{self.c.shared}/holdfast"}
        meta = {"migration-threshold": "1", "resource-stickiness": "200"}
        ops = "".join(f'<op id="{self.name}-{op}" name="{op}" interval="{interval}" '
                      f'timeout="{timeout}"/>' for op, interval, timeout in (
                          ("monitor", *self.monitor_op), ("start", "0", "60s"),
                          ("stop", "0", "60s")))
        return (f'<primitive id="{self.name}" class="ocf" provider="holdfast" type="vm">'
                f'{self._set("instance_attributes", params)}{self._set("meta_attributes", meta)}'
                f"<operations>{ops}</operations></primitive>")

    def _set(self, kind: str, pairs: dict[str, str]) -> str:
        inside = "".join(f'<nvpair id="{self.name}-{kind}-{name}" name="{name}" value="{value}"/>'
                         for name, value in pairs.items())
        return f'<{kind} id="{self.name}-{kind}">{inside}</{kind}>'

    def constraint(self) -> str:
        return (f'<constraints><rsc_location id="prefer-{self.name}" rsc="{self.name}" '
                f'node="{A}" score="100"/></constraints>')

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

    def _export_path(self, node: str) -> str:
        return f"{self.c.shared}/{self.name}.{node}"

    def _export(self, node: str) -> None:
        """The image as that node sees it."""
        place = self._export_path(node)
        self.c.nodes[node].spawn(
            ["nbdkit", "-f", "-U", f"{place}.sock", "--filter=error", "file", str(self.image),
             "error=EIO", "error-rate=100%", f"error-file={place}.fails"], "nbdkit.log")
        self.c.wait(Path(f"{place}.sock").exists, "nbdkit")

    def fail_disk(self, node: str) -> None:
        """Each request from there is an error from now on."""
        Path(f"{self._export_path(node)}.fails").touch()

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
        return self.c.fail_count(self.name, node)
