#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lease simulator under random faults; with --planted: its checkers against bugs on purpose.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes and for a million schedules at least, from a seed taken
from the time, which is printed.
"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simkit"))
import simtest  # noqa: E402
from simtest import Tap  # noqa: E402

RUNS = 150000
RUNS_SOAK = 1000000
RUNS_PLANTED = 100000
# What operations come to; each has to have been seen.
RESULTS = {
    "acquire: this host owns it", "acquire: owned by a host that is not known to be dead",
    "acquire: another host was chosen", "acquire: it has moved on to another version",
    "acquire: cancelled", "acquire: damaged",
    "claim: this host owns it", "claim: another host was chosen", "claim: cancelled",
    "transfer: the other host owns it", "transfer: another host was chosen",
    "transfer: this host does not own it at that version", "transfer: cancelled",
    "release: released", "release: cancelled", "prepare: prepared", "prepare: cancelled",
}
RULES = {str(n) for n in range(1, 9)}


def check_random(sim: str) -> int:
    tap = Tap(4)
    code, out = simtest.run_random(sim, RUNS, RUNS_SOAK)
    tap.point(code == 0, "all rules hold under random faults", out)
    seen = set(re.findall(r"^result ([a-z]+: .*): \d+$", out, re.M))
    tap.point(RESULTS <= seen, "each result of each operation is seen",
              "".join(f"never: {r}\n" for r in sorted(RESULTS - seen)))
    found = re.search(r"^fenced: \d+ words believed, (\d+) looks", out, re.M)
    tap.point(found is not None and int(found[1]) > 100, "owners are found dead by being fenced", out)
    simtest.check_twice(sim, tap)
    return tap.status()


def main() -> int:
    args = simtest.parser(__doc__).parse_args()
    if args.planted:
        return simtest.check_planted(args.sim, RUNS_PLANTED, RULES)
    return check_random(args.sim)


if __name__ == "__main__":
    sys.exit(main())
