# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk path of a VM without the VM: disk-driver plays the keeper, nbdkit with the plugin is the
real one. A Side is a host: images, journal and maps in a folder, one disk process.

Environment: HF_DISK_PLUGIN names another plugin than the build's, HF_DISK_ENV holds NAME=VALUE words
for the disk processes: a plugin with a sanitizer needs its library preloaded."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
# pylint: disable=wrong-import-position
from checks import chance, check, expect, main, poll, say  # noqa: E402
from nbdclient import Nbd  # noqa: E402

__all__ = ["DEADLINE_S", "DIRECT", "DRAIN", "Died", "Driver", "FRESH", "HELD", "HOLD", "MIB",
           "OWNED", "OWNER", "PARTIAL", "REPLICA", "REPLICATED", "SHIM", "Side", "WATCHER", "World",
           "chance", "check", "expect", "main", "poll", "run", "say"]

BUILD = Path(os.environ.get("HF_BUILD_DIR", "build")).resolve()
PLUGIN = os.environ.get("HF_DISK_PLUGIN", str(BUILD / "src/plugin/nbdkit-holdfast-plugin.so"))
DRIVER = BUILD / "tests/disk/disk-driver"
SHIM = BUILD / "tests/disk/libcrash-shim.so"

DIRECT, HOLD, DRAIN = range(3)
OWNER, REPLICA, WATCHER = range(3)
FRESH, OWNED, HELD, REPLICATED, PARTIAL = range(5)

DEADLINE_S = 60.0
MIB = 1 << 20

Event = dict[str, Any]


def any_event(_: Event) -> bool:
    return True


class Died(Exception):
    """The disk process ended while something was waited for."""


class Driver:
    """A disk-driver: orders in, events out."""

    def __init__(self, folder: Path) -> None:
        self._popen = subprocess.Popen([DRIVER, folder], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True, bufsize=1)
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._has_ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            with self._changed:
                self._events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def order(self, text: str) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(text + "\n")

    def count(self) -> int:
        with self._changed:
            return len(self._events)

    def has(self, side: str, name: str, since: int) -> bool:
        with self._changed:
            return self.find(side, [name], since) is not None

    def find(self, side: str, names: Sequence[str], since: int,
             is_meant: Callable[[Event], bool] = any_event) -> Optional[Event]:
        for event in self._events[since:]:
            if event["side"] == side and event["event"] in names and is_meant(event):
                return event
        return None

    def wait(self, side: str, *names: str, since: int, timeout_s: float = DEADLINE_S,
             born: Optional[int] = None, is_meant: Callable[[Event], bool] = any_event) -> Event:
        """The first such event after the first @since ones. Died: there is none, but an exit after
        the first @born ones."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = self.find(side, names, since, is_meant)
                if found:
                    return found
                if born is not None and self.find(side, ["exit"], born):
                    raise Died(side)
                left = deadline - time.monotonic()
                expect(left > 0 and not self._has_ended,
                       f"{side}: no {'/'.join(names)}; last: {self._events[-5:]}")
                self._changed.wait(left)

    def close(self) -> None:
        assert self._popen.stdin
        self._popen.stdin.close()
        self._popen.wait(DEADLINE_S)
        self._thread.join(DEADLINE_S)
        assert self._popen.stdout
        self._popen.stdout.close()


class Side:
    """One host's disk path."""

    def __init__(self, driver: Driver, name: str, folder: Path) -> None:
        self.driver = driver
        self.name = name
        self.folder = folder / f"host-{name}"
        self.folder.mkdir(exist_ok=True)
        self.socket = str(folder / f"{name}.sock")
        self.pid = 0
        self._born = 0  # events before the last start
        self.threads = 16
        self.redo = str(self.folder / "redo")
        self.redo_area = "64M"
        self.is_standby = False
        self.is_shared = False
        self.locations: list[str] = []
        self.options: list[str] = []  # of the disks and beyond
        self.env = os.environ.get("HF_DISK_ENV", "").split()

    # --- orders ---

    def order(self, text: str) -> int:
        """Where to look for what comes of it."""
        since = self.driver.count()
        self.driver.order(f"{self.name} {text}")
        return since

    def ask(self, text: str, *answers: str, timeout_s: float = DEADLINE_S) -> Event:
        """What the driver says to it by itself."""
        return self.driver.wait(self.name, *answers, since=self.order(text), timeout_s=timeout_s)

    def ask_process(self, text: str, *answers: str, timeout_s: float = DEADLINE_S) -> Event:
        """What comes of it when the disk process does its part. Died: it cannot any more."""
        return self.driver.wait(self.name, *answers, since=self.order(text), timeout_s=timeout_s,
                                born=self._born)

    def put(self, **words: int) -> None:
        self.ask("put " + " ".join(f"{name} {value}" for name, value in words.items()), "put")

    def words(self) -> Event:
        return self.ask("words", "words")

    def _wait_word(self, text: str, timeout_s: float, is_meant: Callable[[Event], bool]) -> None:
        """Not the answer to an earlier wait, whose process died before it could be given."""
        self.driver.wait(self.name, "reached", since=self.order(text), timeout_s=timeout_s,
                         born=self._born, is_meant=is_meant)

    def wait_is(self, name: str, value: int, timeout_s: float = DEADLINE_S) -> None:
        self._wait_word(f"wait {name} is {value}", timeout_s,
                        lambda e: e["word"] == name and e["value"] == value)

    def wait_reaches(self, name: str, value: int, timeout_s: float = DEADLINE_S) -> None:
        self._wait_word(f"wait {name} reaches {value}", timeout_s,
                        lambda e: e["word"] == name and e["value"] >= value)

    # --- life ---

    def image(self, i: int = 0) -> Path:
        return self.folder / f"disk{i}.img"

    def make_images(self, *sizes: int) -> None:
        """Empty ones, of these sizes."""
        self.locations = []
        for i, size in enumerate(sizes):
            with open(self.image(i), "wb") as f:
                f.truncate(size)
            self.locations.append(str(self.image(i)))

    def make_memory(self, soft_mib: int = 16, reserve_mib: int = 16) -> None:
        self.ask(f"make {len(self.locations)} {soft_mib} {reserve_mib}", "made")

    def _command(self) -> str:
        words = ["nbdkit", "-f", "-t", str(self.threads), PLUGIN, "vm=test", f"redo={self.redo}",
                 f"redo-area={self.redo_area}", f"standby={int(self.is_standby)}",
                 f"shared={int(self.is_shared)}"]
        for i, location in enumerate(self.locations):
            words.append(f"disk={location}")
            if not self.is_shared:
                words.append(f"map={self.folder / f'disk{i}.map'}")
        return " ".join(words + self.options)

    def start(self, env: Sequence[str] = (), may_die: bool = False) -> Event:
        """Until it is ready."""
        self.driver.order(f"{self.name} nbdkit {self._command()}")
        self.driver.order(" ".join((self.name, "env", *self.env, *env)))
        since = self._born = self.order("start")
        self.pid = self.driver.wait(self.name, "started", since=since)["pid"]
        event = self.driver.wait(self.name, "ready", "exit", since=since)
        if event["event"] == "exit" and may_die:
            raise Died(self.name)
        expect(event["event"] == "ready", f"{self.name}: {event}")
        return event

    def is_dead(self) -> bool:
        return self.driver.has(self.name, "exit", self._born)

    def wait_exit(self) -> Event:
        return self.driver.wait(self.name, "exit", since=self._born)

    def kill(self, number: signal.Signals) -> None:
        self.order(f"signal {int(number)}")
        if number == signal.SIGSTOP: # each thread stops when the scheduler comes to it
            poll(self._is_stopped, "the disk process stands still")

    def _is_stopped(self) -> bool:
        states = [path.read_text().rsplit(")", 1)[1].split()[0]
                  for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        return all(state in "Tt" for state in states)

    def end(self, number: signal.Signals = signal.SIGTERM) -> Event:
        self.kill(number)
        return self.wait_exit()

    def end_now(self) -> None:
        self.end(signal.SIGKILL)

    # --- modes ---

    def hold(self, epoch: int) -> None:
        self.order(f"hold {epoch}")
        self.wait_is("state", HOLD)

    def capture(self) -> int:
        return int(self.ask("capture", "captured")["epoch"])

    def commit(self, epoch: int) -> None:
        self.ask(f"commit {epoch}", "committed")

    def epoch(self) -> int:
        """An epoch, captured and committed; the guest stands still."""
        number = self.capture()
        self.commit(number)
        return number

    def drain(self, timeout_s: float = DEADLINE_S) -> None:
        """Log to image, then past the log. What is logged counts as captured and committed."""
        self.drain_begin()
        self.wait_is("state", DIRECT, timeout_s)

    def drain_begin(self) -> None:
        self.put(mode=DRAIN)

    def promote_begin(self) -> None:
        self.ask("promote", "promoting")

    def wait_promoted(self) -> None:
        """A role is reached after the state that it begins with."""
        self.wait_is("reached_role", OWNER)
        self.wait_is("state", DIRECT)

    def set_state(self, condition: int, session: int) -> None:
        event = self.ask_process(f"set-state {condition} {session}", "done")
        expect(event["error"] == 0, event)

    def wipe(self) -> None:
        """A host that has never seen this VM."""
        for path in self.folder.iterdir():
            path.unlink()

    def automatic(self, ms: int) -> None:
        if ms:
            self.order(f"auto {ms}")
        else:
            self.ask("auto 0", "auto-off")

    # --- clients ---

    def connect(self, disk: int = 0, structured: bool = False) -> Nbd:
        born = self._born
        return Nbd(self.socket, f"disk{disk}", structured,
                   lambda: self.driver.has(self.name, "exit", born))

    def uri(self, disk: int = 0) -> str:
        return f"nbd+unix:///disk{disk}?socket={self.socket}"

    def read_all(self, disk: int = 0) -> bytes:
        nbd = self.connect(disk)
        data = nbd.read_all()
        nbd.disconnect()
        return data


class World:
    """A folder with a driver and its two sides; gone at the end."""

    def __init__(self) -> None:
        self._temp = tempfile.TemporaryDirectory(prefix="hf-disk-")
        self.folder = Path(self._temp.name)
        self.driver = Driver(self.folder)
        self.a = Side(self.driver, "a", self.folder)
        self.b = Side(self.driver, "b", self.folder)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *unused: object) -> None:
        self.driver.close()
        self._temp.cleanup()


def run(*words: object, timeout_s: float = 120.0) -> str:
    """A program that is to succeed; what it printed."""
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False)
    expect(done.returncode == 0, f"{words[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout
