# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host as the command line tool meets it, without any QEMU: keepers and a daemon that answer what
a test wants, or do not answer, and frozen instances on the disk.

Each service is a process of its own, called holdfast-fake, so that it can be stopped like the real
one; it ends with its Host."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

STEPS = ("latch", "stop", "nets", "state", "disks", "cgroup", "verify", "lease", "certify")
T0_NS = 1_700_000_000_000_000_000


def certificate(vm: str, fid: str, **changes: Any) -> dict[str, Any]:
    """A valid one, of a guest that has panicked, as far as nothing else is said."""
    nobody = {"pid": 0, "start_ticks": 0}
    it: dict[str, Any] = {
        "version": 1, "state": "frozen", "vm": vm, "id": fid, "host": "alpha",
        "instance": fid + "0" * 23 + "1",
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "cause": "guest-panic", "severity": "fatal",
        "cause_text": "the guest's kernel has panicked", "topology": "",
        "cause_time_ns": T0_NS, "frozen_time_ns": T0_NS + 12_000_000,
        "awakenings": 0, "keeper": nobody, "qemu": nobody, "disks": nobody, "qemu_fate": "none",
        "cgroup": "", "cgroup_id": 0, "cwd": "/", "lease": "released", "lver": 3, "ram": "file",
        "ram_holder": nobody, "ram_fd": 0, "ram_bytes": 256 << 20, "page_bytes": 0,
        "device_state": "file", "device_state_bytes": 300_000, "qemu_version": "7.2.9",
        "machine": "pc-q35-7.2", "argv": ["qemu-system-x86_64"], "hold_net": None,
        "unprotected": None, "nets": ["hft0"],
        "steps": [{"step": step, "result": "done", "began_us": 1000 * i, "ended_us": 1000 * i + 500,
                   "text": ""} for i, step in enumerate(STEPS)],
        "checks": [{"what": "qemu-dead", "ok": True, "time_ns": T0_NS + 11_000_000, "text": ""}],
        "ram_parts": [{"address": 0, "bytes": 256 << 20, "offset": 0}],
    }
    return {**it, **changes}


class Service:
    """Answers calls by the last part of their method's name: with an object, with a list of them of
    which the last one is the last reply (null: it never comes), or with {"error": ...,
    "parameters": ...}; null: never. What is asked for is written to the log, a line each."""

    def __init__(self, folder: Path, answers: dict[str, Any]):
        folder.mkdir(mode=0o700, parents=True)
        self.folder = folder
        self.log = folder / "log"
        self.proc = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, text=True)
        assert self.proc.stdin
        self.proc.stdin.write(json.dumps(answers))
        self.proc.stdin.close()
        deadline = time.monotonic() + 60
        while not (folder / "lock").exists():
            if self.proc.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the service of {folder} did not start")
            time.sleep(0.01)

    def calls(self) -> list[dict[str, Any]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def stop(self) -> None:
        os.kill(self.proc.pid, signal.SIGSTOP)

    def kill(self) -> None:
        self.proc.kill()
        self.proc.wait(60)


class Host:
    """Run, state and definition folders, and what runs there."""

    def __init__(self, holdfast: str):
        self.holdfast = holdfast
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name)
        self.run_dir, self.state_dir, self.vms_dir = (
            self.path / name for name in ("run", "state", "vms"))
        for folder in (self.run_dir, self.state_dir, self.vms_dir):
            folder.mkdir()
        self.services: list[Service] = []

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *unused: object) -> None:
        for service in self.services:
            service.kill()
        self._folder.cleanup()

    def _serve(self, name: str, answers: dict[str, Any]) -> Service:
        self.services.append(Service(self.run_dir / name, answers))
        return self.services[-1]

    def keeper(self, name: str, status: Optional[dict[str, Any]] = None, **answers: Any) -> Service:
        full = {"vm": name.split("@")[0], "role": "primary", "state": "protected", "pid": 5,
                "protected": True, "protection": "yes", "peer": "10.0.0.2:7400", "guest": "running",
                "life": "running", "cause": "none", "qemu_pid": 6, **(status or {})}
        return self._serve(name, {"Status": {"status": full}, **answers})

    def daemon(self, vms: Optional[list[dict[str, Any]]] = None, **answers: Any) -> Service:
        return self._serve(".host", {
            "Vms": {"vms": vms or []}, "Hosts": {"hosts": []}, "Leases": {"leases": []},
            "Status": {"host": {"host": "alpha", "version": "1", "pid": 9}}, **answers})

    def freeze(self, vm: str, fid: str, whole: Optional[dict[str, Any]] = None,
               **changes: Any) -> Path:
        folder = self.state_dir / vm / "frozen" / fid
        folder.mkdir(parents=True)
        content = json.dumps(whole or certificate(vm, fid, **changes))
        (folder / "certificate.json").write_text(content)
        return folder

    def define(self, vm: str, text: str = "[vm]\nargs = -m 64M -nodefaults\n") -> Path:
        path = self.vms_dir / f"{vm}.conf"
        path.write_text(text)
        return path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOLDFAST_RUN_DIR": str(self.run_dir),
                "HOLDFAST_STATE_DIR": str(self.state_dir), "HOLDFAST_VMS_DIR": str(self.vms_dir),
                "TZ": "UTC"}

    def run(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.holdfast, *words], capture_output=True, text=True, timeout=120,
                              check=False, env=self.environment(), stdin=subprocess.DEVNULL)

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        return json.loads(done.stdout)


# --- the process of a service ---

def _answer(client: socket.socket, call: dict[str, Any], answers: dict[str, Any]) -> None:
    interface, _, method = call["method"].rpartition(".")
    answer = answers.get(method, {"error": "org.varlink.service.MethodNotFound", "parameters": {
        "method": call["method"]}})
    if answer is None:
        return
    is_open = isinstance(answer, list) and answer[-1:] == [None]  # the last one never comes
    replies = answer if isinstance(answer, list) else [answer]
    for i, reply in enumerate(replies[:-1] if is_open else replies):
        if "error" in reply:
            reply = {**reply, "error": reply["error"].replace("@", interface)}
        else:
            reply = {"parameters": reply}
        if i + 1 < len(replies):
            reply["continues"] = True
        client.sendall(json.dumps(reply).encode() + b"\0")


def _serve_client(client: socket.socket, answers: dict[str, Any], log: Path) -> bool:
    """False: this service is to end now."""
    text = b""
    while part := client.recv(4096):
        text += part
        while b"\0" in text:
            line, text = text.split(b"\0", 1)
            call = json.loads(line)
            with log.open("a") as out:
                out.write(json.dumps(call) + "\n")
            _answer(client, call, answers)
            if call["method"].rpartition(".")[2] in answers.get("ends_after", []):
                return False
    return True


def _main() -> None:
    import threading
    folder = Path(sys.argv[1])
    Path("/proc/self/comm").write_text("holdfast-fake")
    answers = json.loads(sys.stdin.read())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "control"))
    listener.listen(16)
    (folder / "lock.new").write_text(f"{os.getpid()}\n")
    (folder / "lock.new").rename(folder / "lock")

    def serve(client: socket.socket) -> None:
        with client:
            try:
                if not _serve_client(client, answers, folder / "log"):
                    os._exit(0)
            except OSError:
                pass  # it did not want to hear more

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    _main()
