#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The freeze simulator under random faults; with --planted: its observer against bugs on purpose.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes and for ten million schedules at least, from a seed taken
from the time, which is printed.
"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simkit"))
import simtest  # noqa: E402
from simtest import Tap  # noqa: E402

RUNS = 200000
RUNS_SOAK = 10000000
RUNS_PLANTED = 100000
# How runs end, what comes of each step, which attacks hit; each has to have been seen.
ENDS = {"certified", "certified after it was stuck", "certified by the next keeper",
        "found certified by the next keeper", "crashed before anything was written"}
STEPS = {
    "latch done", "latch fell-back", "latch failed", "stop done", "stop fell-back", "stop skipped",
    "nets done", "nets skipped", "state done", "state skipped", "state failed", "disks done",
    "disks fell-back", "disks skipped", "cgroup done", "cgroup fell-back", "cgroup skipped",
    "verify done", "lease done", "lease skipped", "lease failed", "certify done",
}
ATTACKS = {"cont", "thaw", "SIGCONT", "start it", "resume it"}
RULES = {str(n) for n in range(1, 9)}


def check_random(sim: str) -> int:
    tap = Tap(3)
    code, out = simtest.run_random(sim, RUNS, RUNS_SOAK)
    tap.point(code == 0, "all rules hold under random faults and attacks", out)
    never = ENDS - set(re.findall(r"^end (.*): [1-9]\d*$", out, re.M))
    never |= STEPS - set(re.findall(r"^step (.*): [1-9]\d*$", out, re.M))
    hits = re.findall(r"^attack: (.*): [1-9]\d* before the certificate, [1-9]\d* after$", out, re.M)
    never |= ATTACKS - set(hits)
    tap.point(not never, "each end, each result of a step and each attack is seen",
              "".join(f"never: {what}\n" for what in sorted(never)))
    simtest.check_twice(sim, tap)
    return tap.status()


def main() -> int:
    args = simtest.parser(__doc__).parse_args()
    if args.planted:
        return simtest.check_planted(args.sim, RUNS_PLANTED, RULES, shrunk_verdict=r"^rule \d+ at ")
    return check_random(args.sim)


if __name__ == "__main__":
    sys.exit(main())
