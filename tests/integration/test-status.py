#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `holdfast status` and `holdfast resume` say to a keeper and to people, with a keeper of this
test's own, whose status can be anything.

usage: test-status.py HOLDFAST"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "static"))
import tap  # noqa: E402

HOLDFAST = os.path.abspath(sys.argv[1])
DISKS: dict = {
    "layout": "replicated", "durability": "disk", "pid": 77, "mode": "hold",
    "logged_bytes": 3 << 20, "journaled": 9, "applied": 8, "settled": 7, "redo_ns": 0,
    "error": None, "disk": [{"id": "system", "bytes": 20 << 30, "format": "qcow2"},
                            {"id": "data", "bytes": 1 << 40, "format": "raw"}],
}


class Keeper:
    """Answers one call on the control socket, and remembers it."""

    def __init__(self, folder: str, answer: dict):
        (Path(folder) / "web").mkdir(mode=0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/web/control")
        self.listener.listen()
        self.listener.settimeout(60)
        self.answer = answer
        self.call: dict = {}
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        with self.listener, self.listener.accept()[0] as client:
            client.settimeout(60)
            text = b""
            while not text.endswith(b"\0"):
                part = client.recv(4096)
                if not part:
                    return
                text += part
            self.call = json.loads(text[:-1])
            client.sendall(json.dumps(self.answer).encode() + b"\0")


def ask(verb: str, answer: dict, *options: str) -> tuple[subprocess.CompletedProcess, dict]:
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(folder, answer)
        done = subprocess.run([HOLDFAST, verb, "web", "--run-dir", folder, *options],
                              capture_output=True, text=True, timeout=60, check=False)
        keeper.thread.join(60)
        return done, keeper.call


def status(disks: dict | None, *options: str) -> str:
    vm: dict = {"vm": "web", "role": "primary", "state": "protected", "pid": 5, "qemu_pid": 6}
    if disks is not None:
        vm["disks"] = disks
    done, call = ask("status", {"parameters": {"status": vm}}, *options)
    assert done.returncode == 0, done.stderr
    assert call["method"] == "org.holdfast.Keeper.Status", call
    return done.stdout


def missing(text: str, *lines: str) -> list[str]:
    squeezed = [" ".join(line.split()) for line in text.splitlines()]
    return [f"no line '{line}' in: {text}" for line in lines if line not in squeezed]


def disks_are_shown() -> list[str]:
    """each disk, the epochs that its writes have reached, and the disk process"""
    text = status(DISKS)
    return missing(text, "disks replicated, durability=disk, hold",
                   "disk system 20.0 GiB, qcow2", "disk data 1.0 TiB, raw",
                   "disk writes 3.0 MiB waiting; epochs 9 in the journal, 8 written, 7 durable",
                   "process ids keeper 5, QEMU 6, disks 77") + \
        [f"'{word}' is shown: {text}" for word in ("copying", "error", "redo") if word in text]


def a_copy_is_shown() -> list[str]:
    """how far the copy to a standby is"""
    copy = {"active": True, "total_bytes": 4 << 30, "left_bytes": 1 << 30,
            "rate_bytes_per_s": 1 << 28, "remaining_ns": 4 * 10**9}
    stalled = {**copy, "rate_bytes_per_s": 0, "left_bytes": 5 << 30}
    return missing(status({**DISKS, "sync": copy}),
                   "copying disks 3.0 GiB of 4.0 GiB, 256.0 MiB/s, 4.0 s left") + \
        missing(status({**DISKS, "sync": stalled}), "copying disks 0 B of 5.0 GiB") + \
        (["an ended copy is shown"] if "copying" in status(
            {**DISKS, "sync": {**copy, "active": False}}) else [])


def an_error_is_shown() -> list[str]:
    """what fails, and how long the last redo took"""
    text = status({**DISKS, "error": "disk data: /dev/x: No space left", "redo_ns": 20 * 10**6})
    return missing(text, "disk error disk data: /dev/x: No space left", "last redo 20.0 ms")


def json_is_the_keepers() -> list[str]:
    """--json passes everything on"""
    got = json.loads(status(DISKS, "--json"))["disks"]
    return [] if got == DISKS else [f"{got}"]


def without_disks_nothing_is_shown() -> list[str]:
    """a VM without disks has none in its status"""
    text = status(None)
    return missing(text, "process ids keeper 5, QEMU 6") + \
        ([f"'disk' is shown: {text}"] if "disk" in text else [])


def resume_asks_the_keeper() -> list[str]:
    """resume orders, and says why not"""
    done, call = ask("resume", {"parameters": {}})
    problems = [] if (done.returncode, call) == (0, {"method": "org.holdfast.Keeper.Resume"}) \
        else [f"{done}, {call}"]
    done, _ = ask("resume", {"error": "org.holdfast.Keeper.NotPossible",
                             "parameters": {"reason": "the disk still fails"}})
    if done.returncode != 7 or done.stderr != "holdfast resume: the disk still fails\n":
        problems.append(f"{done}")
    return problems


if __name__ == "__main__":
    sys.exit(tap.run([disks_are_shown, a_copy_is_shown, an_error_is_shown, json_is_the_keepers,
                      without_disks_nothing_is_shown, resume_asks_the_keeper]))
