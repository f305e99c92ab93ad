# SPDX-License-Identifier: LGPL-2.1-or-later
"""holdfastd on a host of a lab without a lease area, and the VMs that it runs: tiny ones, of which many
fit on a machine. Their QEMU has no guest to run: it stands still at its first instruction (-S)."""

import json
import os
import signal
from pathlib import Path
from typing import Any, Optional

from lablease import Call, Events, wait_until
from labnet import Lab, LabError, Proc, tool

TINY = "-machine q35 -accel tcg -m 4 -nodefaults -display none -S"


class VmHost:
    """settings: keys of [vm] in all definitions, unless one is given its own."""

    def __init__(self, lab: Lab, host: str = "hostA", group: str = "none"):
        self.lab, self.host, self.group = lab, host, group
        self.daemon: Optional[Proc] = None
        self.program = tool("src/cli/holdfast")  # that starts keepers
        self.here = lab.host_dir(host)
        self.vms_dir.mkdir(exist_ok=True)

    @property
    def vms_dir(self) -> Path:
        return self.here / "vms"

    @property
    def control(self) -> Path:
        return self.here / "run" / ".host" / "control"

    @property
    def wanted_file(self) -> Path:
        return self.here / "state" / ".host" / "wanted.json"

    # --- definitions ---

    def define(self, vm: str, args: str = TINY, **settings: str) -> Path:
        lines = [f"{key.replace('_', '-')} = {value}\n" for key, value in settings.items()]
        path = self.vms_dir / f"{vm}.conf"
        new = self.vms_dir / f".{vm}.new"
        new.write_text(f"[vm]\nargs = {args}\nstate-dir = {self.lab.self_dir}/state\n"
                       + "".join(lines))
        new.rename(path)
        return path

    # --- the daemon ---

    def argv(self, *options: str) -> list[str]:
        inside = self.lab.self_dir
        return [tool("src/daemon/holdfastd"), "--config", f"{inside}/holdfastd.conf", *options]

    def write_config(self) -> None:
        inside = self.lab.self_dir
        (self.here / "holdfastd.conf").write_text(
            f"[host]\nname = {self.host}\ngroup = {self.group}\n[pacemaker]\nenabled = no\n"
            f"[paths]\nrun-dir = {inside}/run\nvms = {inside}/vms\nstate-dir = {inside}/state\n")

    def start(self) -> None:
        self.begin()
        self.wait_answers()

    def begin(self) -> None:
        self.write_config()
        self.daemon = self.lab.spawn(self.host, self.argv(), name="holdfastd",
                                     env={"HOLDFAST": self.program})

    def wait_answers(self) -> None:
        wait_until(self._answers, "holdfastd's socket", 60.0)

    def _answers(self) -> bool:
        assert self.daemon
        if not self.daemon.is_running():
            raise LabError(f"holdfastd: {self.daemon.log_tail()}")
        try:
            return bool(self.call("Status")["host"]["pid"] == self.daemon_pid())
        except (LabError, OSError):
            return False

    def daemon_pid(self) -> int:
        return int((self.here / "run" / ".host" / "lock").read_text())

    def stop(self) -> int:
        assert self.daemon
        self.daemon.signal(signal.SIGTERM)
        return self.daemon.wait(60.0)

    def kill(self) -> None:
        assert self.daemon
        self.daemon.kill()

    def forget_boot(self) -> None:
        """As after a reboot: the run folder is gone, and what is wanted was written by another kernel."""
        self.lab.kill_host(self.host)
        for path in sorted((self.here / "run").rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
        wanted = json.loads(self.wanted_file.read_text())
        wanted["boot_id"] = "00000000-0000-0000-0000-000000000000"
        self.wanted_file.write_text(json.dumps(wanted))

    # --- asking ---

    def call(self, method: str, timeout_s: float = 60.0, **parameters: Any) -> dict[str, Any]:
        with Call(self.control) as call:
            return call(method, timeout_s, **parameters)

    def vms(self) -> dict[str, dict[str, Any]]:
        return {vm["vm"]: vm for vm in self.call("Vms")["vms"]}

    def vm(self, name: str) -> dict[str, Any]:
        return self.call("Vm", vm=name)["vm"]

    def events(self, after: int = 0) -> Events:
        return Events(self.control, after)

    def start_vm(self, name: str, **parameters: Any) -> dict[str, Any]:
        self.call("Start", vm=name, **parameters)
        return self.vm(name)

    def stop_vm(self, name: str) -> None:
        """By force: there is no guest that would shut down."""
        self.call("Stop", vm=name, force=True)

    def keeper_call(self, vm: str, method: str, **parameters: Any) -> dict[str, Any]:
        """Past the daemon."""
        path = self.here / "run" / vm / "control"
        with Call(path, interface="org.holdfast.Keeper") as call:
            return call(method, **parameters)

    def kill_keeper(self, vm: str) -> None:
        pid = int(self.vm(vm)["keeper_pid"])
        if not pid:
            raise LabError(f"{vm} has no keeper")
        os.kill(pid, signal.SIGKILL)
