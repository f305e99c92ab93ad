# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cluster of real Corosync and Pacemaker, with real STONITH and holdfast as it is installed.

    with Cluster() as c:
        c.up()
        c.define("web", text)                   # the same definition on all nodes
        c.configure("primitive web ocf:holdfast:vm params vm=web op monitor interval=10s")
        c.wait_running("web", "hostA")
        c.fail_power("hostA")                   # then c.boot("hostA")

Nodes are labnode's, named hostA, hostB, hostC, with the same names for Corosync, Pacemaker and
holdfast. Corosync and the replication of holdfast use the lab's network "repl", so c.lab.cut(node)
splits both. The fence agent reaches the lab by a way of its own, as a management board would be
reached, and each request is in c.fenced. The lease area and c.shared, a folder for images, are seen
by all nodes by the same path.

A cluster takes some seconds to form, so checks share one: reset() brings it back to its first
state.
"""

import json
import re
import shlex
import signal
import socket
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Sequence

import labnode
import labpki
from lablease import Call, Events, LeaseArea, wait_until
from labnet import Lab, LabError
from labnode import Node

UP_S = 60.0
POLL_S = 0.1  # each look is a process or two
LEASE = {"renew": "500ms", "fence": "6s", "stop": "1500ms", "io-timeout": "1s"}
OLD_FEATURE_SET = "3.0.14"  # one that no Pacemaker of today refuses
SCHEMA = "pacemaker-3.7"  # knows roles Promoted and Unpromoted
LOGS = ("holdfastd.log", "pacemaker/pacemaker.log", "corosync/corosync.log", "start-cluster.log")


@dataclass(frozen=True)
class Fencing:
    """What the lab's fence agent was asked for."""
    time_ns: int  # CLOCK_REALTIME when it was done
    action: str
    node: str
    by: str


class PowerSwitch(threading.Thread):
    """Answers the nodes' fence agents."""

    def __init__(self, path: Path, cluster: "Cluster"):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.fails: set[str] = set()  # nodes whose power it does not reach
        self.lies = False  # says that it is done, and does nothing
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        self._sock.listen(8)
        self.start()

    def close(self) -> None:
        self._sock.close()

    def run(self) -> None:
        while True:
            try:
                conn, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn:
            words = conn.makefile().readline().split()
            try:
                answer = self._answer(*words)
            except (LabError, TypeError, OSError) as error:
                answer = f"error {error}"
            conn.sendall(answer.encode() + b"\n")

    def _answer(self, action: str, node: str, by: str) -> str:
        nodes = self.cluster.nodes
        if action == "list":
            return f"ok {' '.join(nodes)}"
        if action == "monitor":
            return "ok"
        if node not in nodes:
            return f"error no node {node}"
        if node in self.fails:
            return "error no answer"
        if self.lies:
            return "ok"
        if action == "status":
            return "ok" if nodes[node].is_on else "is off"
        if action in ("off", "reboot"):
            self.cluster.cut_power(node)
            self.cluster.fenced.append(Fencing(time.time_ns(), action, node, by))
        return "ok"


class Cluster:
    """with Cluster(nodes=2) as c: c.up(). stonith: is enabled. fence_delay: seconds that a node is
    given before it is fenced, so that of two that fence each other it is the one that wins."""

    def __init__(self, nodes: int = 2, stonith: bool = True,
                 fence_delay: Optional[dict[str, int]] = None):
        self.names = tuple(f"host{letter}" for letter in "ABC"[:nodes])
        self.stonith, self.fence_delay = stonith, fence_delay or {}
        self.lab = Lab(self.names)
        self.nodes: dict[str, Node] = {}
        self.fenced: list[Fencing] = []
        self.area: LeaseArea
        self.switch: Optional[PowerSwitch] = None
        self._power = threading.Lock()

    # --- life ---

    def __enter__(self) -> "Cluster":
        self.lab.__enter__()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        if kind is not None:
            self.tell()
        self.close()

    def close(self) -> None:
        if self.switch:
            self.switch.close()
        self.lab.close()

    def _build(self) -> None:
        self.shared = self.lab.work / "shared"
        self.shared.mkdir()
        self.area = LeaseArea(self.lab)
        self.area.init()
        installed, install_prefix = labnode.install(), labnode.prefix()
        authority = labpki.authority(self.lab)
        for number, name in enumerate(self.names, 1):
            node = Node(self.lab, name, installed, install_prefix)
            self.nodes[name] = node
            authority.host(name, labpki.names(self.lab, name), node.disk("/etc/pki/holdfast"))
            node.write("/etc/holdfast/holdfastd.conf", self._host_conf(name, number))
            self._write_etc(node)
            self._seed_cib(node)
        self.switch = PowerSwitch(self.lab.work / labnode.FENCE_SOCKET, self)

    def up(self) -> float:
        """Everything runs, on all nodes. How long it took, in seconds."""
        began = time.monotonic()
        self.boot(*self.names)
        return time.monotonic() - began

    def boot(self, *names: str, has_cluster: bool = True, has_daemon: bool = True) -> None:
        """Those that are off, until they are members of all."""
        for name in names:
            self.lab.boot_host(name)
            self.nodes[name].boot()
        for name in names:
            node = self.nodes[name]
            node.wait_booted()
            if has_cluster:
                node.start_cluster()
            if has_daemon:
                node.start_daemon()
        for name in names:
            if has_daemon:
                self.wait_daemon(name)
        if has_cluster:
            self.wait_online()

    # --- files ---

    def _host_conf(self, name: str, number: int) -> str:
        lease = {"area": self.area.location, "lockspace": self.area.space, **LEASE}
        lines = [f"[host]\nname = {name}\nid = {number}\n[lease]\n"]
        lines += [f"{key} = {value}\n" for key, value in lease.items()]
        lines += [f"[peer {other}]\naddress = {self.lab.repl_addr(other)}\n"
                  for other in self.names if other != name]
        return "".join(lines)

    def _write_etc(self, node: Node) -> None:
        etc = node.tree / "etc"
        (etc / "corosync").mkdir()
        (etc / "corosync/corosync.conf").write_text(self._corosync_conf())
        (etc / "hostname").write_text(f"{node.name}\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n" + "".join(
            f"{self.lab.repl_addr(name)} {name}\n" for name in self.names))

    def _corosync_conf(self) -> str:
        nodes = "".join(f"  node {{\n    ring0_addr: {self.lab.repl_addr(name)}\n"
                        f"    name: {name}\n    nodeid: {number}\n  }}\n"
                        for number, name in enumerate(self.names, 1))
        two = "  two_node: 1\n  wait_for_all: 0\n" if len(self.names) == 2 else ""
        return ("totem {\n  version: 2\n  cluster_name: lab\n  transport: knet\n"
                "  crypto_cipher: none\n  crypto_hash: none\n  token: 2000\n}\n"
                f"nodelist {{\n{nodes}}}\n"
                f"quorum {{\n  provider: corosync_votequorum\n{two}}}\n"
                "system {\n  sched_rr: no\n  move_to_root_cgroup: no\n}\n"
                "logging {\n  to_syslog: no\n  to_stderr: no\n  to_logfile: yes\n"
                "  logfile: /var/log/corosync/corosync.log\n  timestamp: hires\n}\n")

    def properties(self) -> dict[str, str]:
        """Of the cluster, when it begins and after reset(). A reboot proves little about leases of
        nodes that joined minutes ago, as all do here."""
        return {"stonith-enabled": str(self.stonith).lower(), "dc-deadtime": "2s",
                "stonith-action": "off",
                "no-quorum-policy": "ignore" if len(self.names) == 2 else "stop"}

    def _crm_config(self) -> str:
        pairs = "".join(f'<nvpair id="lab-{name}" name="{name}" value="{value}"/>'
                        for name, value in self.properties().items())
        return ('<crm_config><cluster_property_set id="cib-bootstrap-options">'
                f"{pairs}</cluster_property_set></crm_config>")

    def _fence_device(self, node: str) -> str:
        params = {"pcmk_host_list": node}
        if node in self.fence_delay:
            params["pcmk_delay_base"] = f"{self.fence_delay[node]}s"
        pairs = "".join(f'<nvpair id="fence-{node}-{name}" name="{name}" value="{value}"/>'
                        for name, value in params.items())
        return (f'<primitive id="fence-{node}" class="stonith" type="fence_holdfast_lab">'
                f'<instance_attributes id="fence-{node}-params">{pairs}</instance_attributes>'
                "</primitive>")

    def _resources(self) -> str:
        devices = "".join(map(self._fence_device, self.names)) if self.stonith else ""
        return f"<resources>{devices}</resources>"

    def _seed_cib(self, node: Node) -> None:
        """The first configuration: without it the cluster takes 20 s to form."""
        path = node.disk("/var/lib/pacemaker/cib/cib.xml")
        path.write_text(
            f'<cib crm_feature_set="{OLD_FEATURE_SET}" validate-with="{SCHEMA}" epoch="1" '
            f'num_updates="0" admin_epoch="0"><configuration>{self._crm_config()}<nodes/>'
            f"{self._resources()}<constraints/></configuration><status/></cib>")
        node.lab.run(node.name, ["chown", "hacluster:haclient", str(path)])
        path.chmod(0o600)

    def define(self, vm: str, text: str, nodes: Iterable[str] = ()) -> None:
        """Its definition, on all nodes unless told otherwise; {host} becomes the node's name. It is
        known to the daemons when this returns."""
        for name in tuple(nodes) or self.names:
            self.nodes[name].write(f"/etc/holdfast/vms/{vm}.conf", text.replace("{host}", name))
            if self.nodes[name].has_daemon():
                wait_until(lambda n=name: vm in self.vms(n), f"{name} knows {vm}")  # type: ignore

    # --- commands ---

    def some_node(self) -> str:
        """One that is on."""
        return next(name for name in self.names if self.nodes[name].is_on)

    def sh(self, node: str, argv: Sequence[str], timeout_s: float = 30.0, check: bool = True,
           stdin: str = "") -> str:
        """Run a command on a node to its end; what it says."""
        return self.nodes[node].sh(argv, timeout_s, check, stdin).stdout

    def cib(self, section: str, xml: str) -> None:
        """Add to a section of the configuration, or change it: resources, constraints..."""
        self.sh(self.some_node(), ["cibadmin", "--modify", "--allow-create", "-o", section, "-X",
                                   xml])

    def crm(self, line: str, node: str = "") -> str:
        """crm(8), with the words of a line as the shell would split them."""
        return self.sh(node or self.some_node(), ["crm", "-w", *shlex.split(line)], 120.0)

    def configure(self, text: str) -> None:
        """Lines of `crm configure`, all at once; nothing waits for what they bring about."""
        self.sh(self.some_node(), ["crm", "--force", "configure", "load", "update", "-"], 60.0,
                stdin=text)

    def set_property(self, name: str, value: str) -> None:
        """Of the cluster."""
        self.sh(self.some_node(), ["crm_attribute", "-t", "crm_config", "-n", name, "-v", value])

    def cli(self, node: str, *argv: str, timeout_s: float = 60.0, check: bool = True) -> str:
        """holdfast ARGV."""
        return self.sh(node, ["holdfast", *argv], timeout_s, check)

    # --- what Pacemaker says ---

    def status(self, node: str = "") -> ET.Element:
        """crm_mon's view. LabError: it does not answer."""
        text = self.sh(node or self.some_node(), ["timeout", "10", "crm_mon", "-1", "-r", "-A",
                                                  "-f", "--output-as=xml"])
        return ET.fromstring(text)

    def is_online(self, node: str) -> bool:
        """All nodes that are on, as that one sees it, and nobody else."""
        try:
            found = self.status(node).findall("./nodes/node")
        except (LabError, ET.ParseError):
            return False
        online = {n.get("name") for n in found if n.get("online") == "true"
                  and n.get("pending") != "true" and n.get("unclean") != "true"}
        return online == {name for name in self.names if self.nodes[name].is_on}

    def wait_online(self) -> None:
        on = [name for name in self.names if self.nodes[name].is_on]
        self.wait(lambda: all(map(self.is_online, on)), f"{on} form a cluster", UP_S)

    def instances(self, resource: str, node: str = "") -> dict[str, str]:
        """Where it is active, and in what role: {"hostA": "Promoted"}."""
        roles = {}
        for found in self.status(node).iter("resource"):
            if str(found.get("id")).split(":")[0] == resource and found.get("active") == "true":
                for where in found.findall("node"):
                    roles[str(where.get("name"))] = str(found.get("role"))
        return roles

    def is_idle(self) -> bool:
        """Pacemaker has nothing under way."""
        done = self.nodes[self.some_node()].sh(["crmadmin", "-t", "5000", "-D"], check=False)
        words = done.stdout.split()
        if done.returncode != 0 or words[-1] not in self.nodes:
            return False
        state = self.sh(self.some_node(), ["crmadmin", "-t", "5000", "-S", words[-1]], check=False)
        return "S_IDLE" in state

    def attributes(self, node: str) -> dict[str, str]:
        """A node's, the transient ones with the others."""
        found = self.status().findall(f"./node_attributes/node[@name='{node}']/attribute")
        return {str(a.get("name")): str(a.get("value")) for a in found}

    def fail_count(self, resource: str, node: str) -> int:
        """What migration-threshold is held against."""
        history = self.status().findall(f"./node_history/node[@name='{node}']/resource_history")
        found = [str(h.get("fail-count", 0)) for h in history if h.get("id") == resource]
        return sum(1000000 if count == "INFINITY" else int(count) for count in found)

    def failures(self, resource: str = "") -> list[dict[str, str]]:
        """Failed actions, of one resource or all."""
        return [dict(f.attrib) for f in self.status().iter("failure")
                if resource in ("", str(f.get("op_key", "")).split("_")[0].split(":")[0])]

    def wait(self, is_true: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Commands that fail meanwhile count as no."""
        deadline, last = time.monotonic() + timeout_s, ""
        while time.monotonic() < deadline:
            try:
                if is_true():
                    return
                last = ""
            except (LabError, ET.ParseError) as error:
                last = f"; {error}"
            time.sleep(POLL_S)
        raise LabError(f"not within {timeout_s:g} s: {what}{last}")

    def wait_role(self, resource: str, node: str, roles: Sequence[str] = ("Started", "Promoted"),
                  timeout_s: float = 60.0) -> None:
        """Until Pacemaker says so, of that node."""
        self.wait(lambda: self.instances(resource).get(node) in roles,
                  f"{resource} on {node} as {'|'.join(roles)}", timeout_s)

    def wait_running(self, resource: str, node: str, timeout_s: float = 60.0) -> None:
        """There and nowhere else."""
        self.wait(lambda: self.instances(resource) in ({node: "Started"}, {node: "Promoted"}),
                  f"{resource} runs on {node} alone", timeout_s)

    # --- what holdfast says ---

    def call(self, node: str, method: str, timeout_s: float = 60.0, **parameters: Any
             ) -> dict[str, Any]:
        """The daemon's."""
        with Call(self.nodes[node].control) as call:
            return call(method, timeout_s, **parameters)

    def vms(self, node: str) -> dict[str, dict[str, Any]]:
        return {vm["vm"]: vm for vm in self.call(node, "Vms")["vms"]}

    def vm(self, node: str, name: str) -> dict[str, Any]:
        return dict(self.call(node, "Vm", vm=name)["vm"])

    def events(self, node: str, after: int = 0) -> Events:
        return Events(self.nodes[node].control, after)

    def is_ready(self, node: str) -> bool:
        """Its daemon answers, and has the right to hold leases."""
        host = self.call(node, "Status")["host"]
        return bool(host["state"] == "member" and host["valid_ms"] > 0)

    def wait_daemon(self, node: str) -> None:
        if not self.nodes[node].has_daemon():
            raise LabError(f"{node}: {self.nodes[node].log_tail('holdfastd.log')}")
        self.wait(lambda: self.nodes[node].has_daemon() and self.is_ready(node),
                  f"holdfastd on {node} is a member", UP_S)

    # --- trouble ---

    def cut_power(self, node: str) -> None:
        """At once, and all the others hear is silence. Off already: nothing."""
        with self._power:
            if self.nodes[node].is_on:
                self.nodes[node].power_off()

    fail_power = cut_power
    kill = cut_power

    def signal_daemon(self, node: str, number: int) -> None:
        self.nodes[node].signal_daemon(number)

    def kill_daemon(self, node: str) -> None:
        self.signal_daemon(node, signal.SIGKILL)
        self.nodes[node].daemon_exit()

    def restart_daemon(self, node: str) -> None:
        """After its death."""
        self.nodes[node].start_daemon()
        self.wait_daemon(node)

    def fenced_nodes(self) -> list[str]:
        return [request.node for request in self.fenced]

    # --- the first state again ---

    def reset(self) -> None:
        """All nodes on and members; no resources, constraints, failures, VMs and frozen instances;
        nothing is fenced."""
        self._mend()
        self._stop_resources()
        for section, xml in (("constraints", "<constraints/>"), ("resources", self._resources()),
                             ("crm_config", self._crm_config())):
            self.sh(self.some_node(), ["cibadmin", "--replace", "-o", section, "-X", xml])
        self.wait(self._is_clear, "all resources are stopped", 120.0)
        self._mend()  # one that could not be stopped has cost its node
        for node in self.names:
            self._clear_node(node)
        self.sh(self.some_node(), ["crm_resource", "--cleanup"], check=False)
        self.wait(self.is_idle, "Pacemaker is idle")
        self.fenced.clear()

    def _stop_resources(self) -> None:
        """First, and then they are removed: Pacemaker may have to stop one that was removed without
        its parameters."""
        for kind in ("primitive", "clone", "group"):
            found = self.sh(self.some_node(), ["cibadmin", "-Q", "-A", f"//resources/{kind}"],
                            check=False)
            for name in re.findall(rf'<{kind} id="([^"]+)"(?! class="stonith")', found):
                self.sh(self.some_node(), ["crm_resource", "-r", name, "--meta", "-p",
                                           "target-role", "-v", "Stopped"])
        self.wait(self._is_clear, "all resources are stopped", 120.0)

    def _mend(self) -> None:
        for name, node in self.nodes.items():
            if node.is_on:
                for net in ("repl", "guest"):
                    self.lab.heal(name, net)
        if self.switch:
            self.switch.fails.clear()
            self.switch.lies = False
        off = [name for name in self.names if not self.nodes[name].is_on]
        if off:
            self.boot(*off)
        for name, node in self.nodes.items():
            if node.has_daemon():
                node.signal_daemon(signal.SIGCONT)
            else:
                self.restart_daemon(name)
        self.wait_online()

    def _is_clear(self) -> bool:
        active = {str(r.get("id")) for r in self.status().iter("resource")
                  if r.get("active") == "true"}
        return self.is_idle() and not active - {f"fence-{name}" for name in self.names}

    def _clear_node(self, node: str) -> None:
        self.sh(node, ["crm_attribute", "-t", "nodes", "-N", node, "-n", "standby", "-D"],
                check=False)
        for name, vm in self.vms(node).items():
            for instance in vm.get("frozen") or []:
                self.cli(node, "release", f"{name}@{instance}", check=False)
            self.nodes[node].disk(f"/etc/holdfast/vms/{name}.conf").unlink(missing_ok=True)

    # --- what happened ---

    def tell(self, lines: int = 40) -> None:
        """The ends of all logs, as remarks in the TAP output."""
        for name, node in self.nodes.items():
            for log in LOGS:
                tail = node.log_tail(log, lines)
                print(f"# --- {name} {log}\n" + "".join(f"#   {t}\n" for t in tail.splitlines()),
                      end="")
        print("".join(f"# fenced: {json.dumps(vars(f))}\n" for f in self.fenced), end="",
              flush=True)
