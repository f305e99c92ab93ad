# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks that return what is wrong, reported as TAP."""
import traceback
from typing import Callable, Optional

Check = Callable[[], list[str]]


class Skip(Exception):
    pass


def outcome(check: Check) -> tuple[list[str], Optional[str]]:
    try:
        return check(), None
    except Skip as e:
        return [], str(e)
    except Exception:  # a check that breaks has failed
        return traceback.format_exc().splitlines(), None


def run(checks: list[Check]) -> int:
    """Each check is named by the first line of its docstring."""
    failed = 0
    print(f"1..{len(checks)}")
    for number, check in enumerate(checks, 1):
        name = (check.__doc__ or check.__name__).splitlines()[0].rstrip(".")
        problems, skip = outcome(check)
        failed += bool(problems)
        result = "not ok" if problems else "ok"
        print(f"{result} {number} - {name}" + (f" # skip {skip}" if skip else ""))
        for problem in problems:
            print(f"# {problem}")
    return 1 if failed else 0
