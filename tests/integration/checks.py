# SPDX-License-Identifier: LGPL-2.1-or-later
"""The frame of an integration test: named checks, TAP on standard output, a seed that can be set.

usage of a test: test-X.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU, QEMU_DATA; HF_SEED for what is random;
HF_SOAK_MINUTES: run that long. Exit status: 0, 1, or 77 when not root."""

import os
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))

Check = Callable[[], None]
_checks: list[Check] = []
_seed = int(os.environ.get("HF_SEED") or random.SystemRandom().randrange(1 << 32))
chance = random.Random(_seed)


class Skip(Exception):
    """This machine lacks what the check needs; the text says what."""


def check(function: Check) -> Check:
    _checks.append(function)
    return function


def expect(is_right: object, what: object) -> None:
    if not is_right:
        raise AssertionError(what)


def say(text: object) -> None:
    """A remark in the TAP output."""
    print("".join(f"# {line}\n" for line in str(text).splitlines()), end="", flush=True)


def soak_s() -> Optional[float]:
    """How long to go on, or None for a normal run."""
    minutes = os.environ.get("HF_SOAK_MINUTES")
    return float(minutes) * 60 if minutes else None


def poll(is_true: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """For what has no event to wait for."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


def _run(number: int, function: Check) -> bool:
    start, is_ok, remark = time.monotonic(), True, ""
    try:
        function()
    except Skip as skip:
        remark = f" # SKIP {skip}"
    except Exception:  # the other checks are still worth running
        say(traceback.format_exc())
        is_ok = False
    say(f"{function.__name__}: {time.monotonic() - start:.1f} s")
    print(f"{'ok' if is_ok else 'not ok'} {number} - {function.__name__}{remark}", flush=True)
    return is_ok


def main() -> int:
    if os.geteuid() != 0:
        print("1..0 # SKIP network namespaces need root")
        return 77
    wanted = [c for c in _checks if not sys.argv[1:] or sys.argv[1] in c.__name__]
    print(f"1..{len(wanted)}", flush=True)
    say(f"HF_SEED={_seed}")
    results = [_run(number, function) for number, function in enumerate(wanted, 1)]
    return 0 if all(results) else 1
