#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that holds leases of sanlock, by its own library: one order per line on standard input,
one answer per line on standard output, both JSON. It is told which daemon by SANLOCK_RUN_DIR, which
the library remembers for good: so each host needs a process of its own.

    {"do": "acquire", "lease": "SPACE:NAME:PATH:OFFSET[:LVER]", "patience_s": 0}
    {"do": "release", "lease": ...}
    {"do": "contend", "lease": ..., "gap_ms": 0.5, "at_least": 1}    until a line comes; what
    it wins it gives back
    {"do": "hold", "leases": [...]}                   each by a process of its own, until the end

Answers: {"event": "answer", "rv": of sanlock (negative: refused), "begin_ns", "end_ns"}, monotonic;
contend: also "tries", "won", "refused" (how often each rv)."""

import collections
import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any, Callable

LIBRARY = "libsanlock.so.1"
OWNER_NOWAIT = 2
RETRY_S = 0.2
PR_SET_PDEATHSIG = 1
libsanlock = ctypes.CDLL(LIBRARY)
libc = ctypes.CDLL(None)


class Lease:
    """A resource in the library's own form, and the connection that it is held by."""

    def __init__(self, text: str, sock: int):
        found = ctypes.c_void_p()
        rv = libsanlock.sanlock_str_to_res(ctypes.create_string_buffer(text.encode()),
                                           ctypes.byref(found))
        if rv < 0 or not found:
            raise ValueError(f"sanlock does not take {text!r} for a lease")
        self._array = (ctypes.c_void_p * 1)(found)
        self._sock = sock

    def acquire(self, may_wait: bool) -> int:
        return int(libsanlock.sanlock_acquire(self._sock, -1, 0 if may_wait else OWNER_NOWAIT, 1,
                                              self._array, None))

    def wait(self, patience_s: float) -> int:
        """sanlock itself waits only for an owner that it has not seen for a while."""
        deadline = time.monotonic() + patience_s
        while (rv := self.acquire(may_wait=True)) < 0 and time.monotonic() < deadline:
            time.sleep(RETRY_S)
        return rv

    def release(self) -> int:
        return int(libsanlock.sanlock_release(self._sock, -1, 0, 1, self._array))


def register() -> int:
    sock = int(libsanlock.sanlock_register())
    if sock < 0:
        raise OSError(f"sanlock_register: {sock}")
    return sock


def tell(answer: dict[str, Any]) -> None:
    print(json.dumps({"event": "answer", **answer}), flush=True)


def timed(call: Callable[[], int]) -> dict[str, Any]:
    begin_ns = time.monotonic_ns()
    rv = call()
    return {"rv": rv, "begin_ns": begin_ns, "end_ns": time.monotonic_ns()}


def contend(lease: Lease, gap_s: float, at_least: int) -> dict[str, Any]:
    """Wins what it can, as long as no line comes, and so often anyway."""
    refused: collections.Counter[int] = collections.Counter()
    won = tries = 0
    begin_ns = time.monotonic_ns()
    while tries < at_least or not select.select([sys.stdin], [], [], 0)[0]:
        time.sleep(gap_s)
        tries += 1
        rv = lease.acquire(may_wait=False)
        if rv < 0:
            refused[rv] += 1
        else:
            won += 1
            lease.release()
    sys.stdin.readline()
    return {"rv": 0, "begin_ns": begin_ns, "end_ns": time.monotonic_ns(), "tries": tries,
            "won": won, "refused": {str(rv): n for rv, n in refused.items()}}


def hold(texts: list[str]) -> int:
    """0, or the first refusal. sanlock counts leases by process, and allows 8 for each."""
    rv = 0
    for text in texts:
        receive, send = os.pipe()
        if os.fork() == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.write(send, str(Lease(text, register()).acquire(may_wait=False)).encode())
            signal.pause()
            os._exit(0)
        os.close(send)
        rv = rv or int(os.read(receive, 16))
        os.close(receive)
    return rv


def main() -> None:
    sock = register()
    leases: dict[str, Lease] = {}
    tell({"rv": 0})
    while line := sys.stdin.readline():
        order = json.loads(line)
        if order["do"] == "hold":
            tell(timed(lambda: hold(order["leases"])))
            continue
        text = order["lease"]
        lease = leases.setdefault(text, Lease(text, sock))
        if order["do"] == "contend":
            tell(contend(lease, order["gap_ms"] / 1000, order["at_least"]))
        elif order["do"] == "acquire":
            patience_s = order.get("patience_s", 0)
            tell(timed(lambda: lease.wait(patience_s) if patience_s else lease.acquire(False)))
        else:
            tell(timed(lease.release))


if __name__ == "__main__":
    main()
