# SPDX-License-Identifier: LGPL-2.1-or-later
"""A protected VM with disks: images on both hosts or on storage that both reach, the guest's jobs
on them, and what must hold at the end."""

import os
import signal
import time
from pathlib import Path
from typing import Any, Optional, Sequence

from checks import expect, poll, say
from lab import Disk, DiskLoad, Lab, LabError, Proc
from labdisk import argv_of, check_ext4, expect_same
from protected import HOSTS, Keeper, Pair

STORAGE = "storage"
NBD_PORT = 10809
SETTLE_S = 60.0
# ext4 on the first disk, numbered blocks on the second.
USUAL = ({"name": "files", "content": "ext4"}, {"name": "blocks", "mib": 16})


class Server:
    """nbdkit of a host in front of a file there, with filters."""

    def __init__(self, lab: Lab, host: str, path: Path, *arguments: str, port: int = 0,
                 filters: Sequence[str] = ()):
        """port: 0 is a unix socket in the host's own folder; else TCP, for everybody."""
        self.lab, self.host, self.path = lab, host, path
        self.socket = lab.host_dir(host) / f"{path.name}.nbd"
        self.trigger = lab.host_dir(host) / f"{path.name}.trigger"
        where = ["-p", str(port), "-i", lab.repl_addr(host)] if port else [
            "-U", f"{lab.self_dir}/{self.socket.name}"]
        self.uri = f"nbd://{lab.repl_addr(host)}:{port}" if port else (
            f"nbd+unix:///?socket={lab.self_dir}/{self.socket.name}")
        self._argv = ["nbdkit", "-f", *where, *(f"--filter={name}" for name in filters), "file",
                      str(path), *arguments]
        self.proc = self.start()

    def start(self) -> Proc:
        self.socket.unlink(missing_ok=True)
        proc = self.lab.spawn(self.host, self._argv, name=f"nbdkit-{self.path.name}")
        uri = self.uri.replace(str(self.lab.self_dir), str(self.lab.host_dir(self.host)))
        ask = ["nbdinfo", "--size", uri]
        poll(lambda: self.lab.run(self.host, ask, check=False).returncode == 0,
             f"nbdkit for {self.path} answers")
        return proc


class DiskPair(Pair):
    """with DiskPair() as pair: ... pair.load are the guest's jobs, mounted and not yet started.

    disks: arguments of lab.Disk. shared: images on a path that both hosts reach. load: arguments of
    lab.DiskLoad."""

    def __init__(self, disks: Sequence[dict[str, Any]] = USUAL, is_shared: bool = False,
                 durability: str = "disk", hosts: Sequence[str] = HOSTS,
                 options: tuple[str, ...] = (), load: Optional[dict[str, Any]] = None,
                 **pair_options: Any):
        super().__init__(options=options, **pair_options)
        self.lab = self.vm.lab = Lab(hosts)
        self.is_shared = is_shared
        self.durability = durability
        self.disks = [Disk(self.lab, **spec) for spec in disks]
        self.load_options = load or {}
        self.common = self.lab.work / "common"
        self.redo = ""
        self.servers: dict[str, list[Server]] = {}
        self.load: DiskLoad

    def prepare(self) -> None:
        """Images as the VM's first start finds them. Overridden by what puts something below."""
        for disk in self.disks:
            if self.is_shared:
                disk.location = disk.location or str(self.common / disk.file_name)
                disk.make(HOSTS[0])
            else:
                disk.make(HOSTS[0])
                disk.make(HOSTS[1], is_empty=True)
        if self.is_shared:
            self.redo = self.redo or str(self.common / "redo")

    def start(self) -> None:
        self.common.mkdir()
        self.prepare()
        self.vm.extra = (*self.vm.extra, *argv_of(self.disks))
        settings = ["--state-dir", f"{self.lab.self_dir}/state", "--durability", self.durability]
        if self.is_shared:
            settings += ["--disk-layout", "shared", "--redo-journal", self.redo]
        elif self.redo:
            settings += ["--redo-journal", self.redo]
        self.options = (*settings, *self.options)
        super().start()
        if not hasattr(self, "load"):
            options: dict[str, Any] = {"raw_on": "vdb" if len(self.disks) > 1 else ""}
            self.load = DiskLoad(self.lab, self.guest, **{**options, **self.load_options})
            self.load.mount()

    def __exit__(self, kind: object, *unused: object) -> None:
        if hasattr(self, "load"):
            self.load.close()
        super().__exit__(kind, *unused)

    # --- looking ---

    def processes(self, host: str) -> list[int]:
        """The VM's; what serves its images is the host's own."""
        servers = {server.proc.pid for server in self.servers.get(host, [])}
        return [pid for pid in super().processes(host) if pid not in servers]

    def disks_of(self, keeper: Keeper) -> dict[str, Any]:
        return keeper.status()["disks"]

    def signal_disk_process(self, keeper: Keeper, number: int) -> int:
        pid = int(self.disks_of(keeper)["pid"])
        os.kill(pid, number)
        return pid

    def path(self, host: str, number: int) -> Path:
        return self.disks[number].path(host)

    def wait_settled(self) -> None:
        """All that the guest has written by now is durable in both hosts' images."""
        epoch = self.primary.status()["epochs"]["captured"] + 1
        for keeper in (self.primary, self.standby):
            if not self.is_shared or keeper is self.primary:
                poll(lambda k=keeper: self.disks_of(k)["settled"] >= epoch,
                     f"epoch {epoch} settled on {keeper.host}: {self.disks_of(keeper)}", SETTLE_S)

    # --- ends ---

    def kill_both(self) -> None:
        """At once, as far as that goes: neither sees the other's end."""
        for keeper in (self.primary, self.standby):
            for pid in self.lab.pids(keeper.host):
                os.kill(pid, signal.SIGSTOP)
        for keeper in (self.primary, self.standby):
            self.lab.kill_host(keeper.host)
            keeper.exit_code()

    def run_again(self, host: str, *options: str) -> None:
        """After both have died: the VM starts anew on that host."""
        other = HOSTS[1] if host == HOSTS[0] else HOSTS[0]
        proc = self.vm.run(host, other, *self.options, *self.run_options, *options)
        self.primary = self._keeper(host, proc)
        self.guest.wait_up()
        self.load.mount()

    def finish(self) -> None:
        """The last check, from within and from outside: every image is sound, and they are the
        same."""
        self.load.check()
        self.load.unmount()
        self.wait_settled()
        for keeper in (self.primary, self.standby):
            keeper.ask("Stop", force=True, timeout_s=60)
            code = keeper.exit_code(60)
            expect(code == 0, f"exit code {code} of {keeper.host}: {keeper.log()}")
        for disk in self.disks:
            paths = [disk.path(host) for host in HOSTS]
            if disk.content == "ext4":
                check_ext4(paths[0], disk.format)
            if not self.is_shared:
                expect_same(*paths)

    # --- going round ---

    def round(self, how: str, after_s: float = 0.0) -> dict[str, Any]:
        """A failover under load (how: "promote" is a hand-over), everything verified, and
        protection back. Event "live"."""
        self.load.start()
        time.sleep(after_s)
        live = self.hand_over() if how == "promote" else self.failover(how)
        self.load.wait_progress()
        self.load.check()
        self.renew()
        return live


def copied_bytes(keeper: Keeper) -> int:
    """What the last copy has sent of the disks' contents. Holes cost next to nothing."""
    sync = keeper.status()["disks"]["sync"]
    expect(not sync["active"], sync)
    return int(sync["sent_bytes"])


def refusal(pair: Pair, host: str, argv: Sequence[str], timeout_s: float = 60.0) -> str:
    """What a start that must not succeed says on stderr."""
    done = pair.lab.run(host, argv, timeout_s, check=False)
    expect(done.returncode != 0, f"{argv} was let through")
    say(f"{host}: exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stderr


__all__ = ["DiskPair", "LabError", "NBD_PORT", "STORAGE", "Server", "USUAL", "copied_bytes",
           "refusal"]
