# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes with a model of what they leave behind."""

import random
import threading
import time
from pathlib import Path
from typing import Optional

from diskworld import DEADLINE_S, Side, chance, expect, poll
from nbdclient import NbdClosed


class Load:
    """Writes with a model of what they leave; in the foreground, or by a thread that survives the
    death of the server as QEMU does: it connects again and repeats what was not answered."""

    def __init__(self, side: Side, size: int, pause_s: float = 0.0) -> None:
        """pause_s: after each write in the background."""
        self.pause_s = pause_s
        self.side = side
        self.size = size
        self.rng = random.Random(chance.randrange(1 << 32))
        self.model = bytearray(size)
        self.client = side.connect()
        self.done = 0
        self.reconnects = 0
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[BaseException] = None

    def pick(self) -> tuple[int, bytes]:
        n = self.rng.choice((512, 4096, 65536))
        return self.rng.randrange((self.size - n) // 512) * 512, self.rng.randbytes(n)

    def write(self) -> None:
        at, data = self.pick()
        self.client.write(at, data)
        self.model[at:at + len(data)] = data

    def verify(self) -> None:
        expect(self.client.read_all() == self.model, "what is read differs from the model")

    def image_is_right(self, path: Path) -> None:
        expect(path.read_bytes() == self.model, f"{path.name} differs from the model")

    # --- in the background ---

    def _insist(self, at: int, data: bytes) -> None:
        is_connected = True
        while True:
            try:
                if not is_connected:
                    self.client = self.side.connect()
                    self.reconnects += 1
                self.client.write(at, data)
                if self.done % 16 == 0:
                    self.client.flush()
                return
            except (NbdClosed, ConnectionError):
                self.client.close()
                is_connected = False
                time.sleep(0.01)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                at, data = self.pick()
                self._insist(at, data)
                self.model[at:at + len(data)] = data
                self.done += 1
                time.sleep(self.pause_s)
        except BaseException as error:  # the foreground is told
            self._error = error

    def begin(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def progress(self, n: int = 50) -> None:
        before = self.done
        poll(lambda: self.done >= before + n or self._error, "the load goes on", DEADLINE_S)

    def end(self) -> None:
        assert self._thread
        self._stop.set()
        self._thread.join(DEADLINE_S)
        expect(not self._thread.is_alive() and not self._error, f"the load broke: {self._error!r}")
