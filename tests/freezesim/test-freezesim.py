#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The freeze simulator under random faults; with --planted: its observer against bugs on purpose.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes and for ten million schedules at least, from a seed taken
from the time, which is printed.
"""
import argparse
import os
import re
import subprocess
import sys
import time

RUNS = 200000
RUNS_SOAK = 10000000
RUNS_PLANTED = 100000
RUNS_TWICE = 3000
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


class Tap:
    def __init__(self, planned: int) -> None:
        print(f"1..{planned}")
        self.n = 0
        self.failed = 0

    def point(self, is_ok: bool, name: str, why: str = "") -> None:
        self.n += 1
        self.failed += not is_ok
        for line in why.splitlines():
            print(f"# {line}")
        print(f"{'ok' if is_ok else 'not ok'} {self.n} - {name}", flush=True)


def simulate(sim: str, *args: str) -> tuple[int, str]:
    r = subprocess.run([sim, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return r.returncode, r.stdout


def soak(sim: str, minutes: int) -> tuple[int, str]:
    first = time.time_ns() // 1000
    print(f"# seeds from {first}")
    code, out = simulate(sim, "--first-seed", str(first), "--runs", str(RUNS_SOAK), "--list")
    if code:
        return code, out
    code, more = simulate(sim, "--first-seed", str(first + RUNS_SOAK), "--seconds",
                          str(minutes * 60))
    return code, out + more


def check_random(sim: str) -> int:
    minutes = os.environ.get("HF_SOAK_MINUTES")
    tap = Tap(3)
    code, out = soak(sim, int(minutes)) if minutes else simulate(sim, "--runs", str(RUNS), "--list")
    tap.point(code == 0, "all rules hold under random faults and attacks", out)
    never = ENDS - set(re.findall(r"^end (.*): [1-9]\d*$", out, re.M))
    never |= STEPS - set(re.findall(r"^step (.*): [1-9]\d*$", out, re.M))
    hits = re.findall(r"^attack: (.*): [1-9]\d* before the certificate, [1-9]\d* after$", out, re.M)
    never |= ATTACKS - set(hits)
    tap.point(not never, "each end, each result of a step and each attack is seen",
              "".join(f"never: {what}\n" for what in sorted(never)))
    code, out = simulate(sim, "--runs", str(RUNS_TWICE), "--twice")
    tap.point(code == 0, "the same seeds run the same way", out)
    return 1 if tap.failed else 0


def check_shrinks(sim: str, name: str, seed: str) -> bool:
    """What is left of a failing plan still fails."""
    code, out = simulate(sim, "--plant", name, "--seed", seed, "--shrink")
    return code == 1 and re.search(r"^rule \d+ at ", out, re.M) is not None


def check_planted(sim: str) -> int:
    plants = [line.split(" ", 2) for line in simulate(sim, "--plants")[1].splitlines()]
    tap = Tap(len(plants) + 2)
    broken: set[str] = set()
    unshrunk: list[str] = []
    for name, rules, what in plants:
        code, out = simulate(sim, "--plant", name, "--runs", str(RUNS_PLANTED))
        found = re.search(r"^seed (\d+): rule (\d+) .*", out, re.M)
        is_ok = code == 1 and found is not None and found[2] in rules.split(",")
        tap.point(is_ok, f"{name}: {what}", found[0] if found else out)
        if found is None:
            continue
        broken.add(found[2])
        if not check_shrinks(sim, name, found[1]):
            unshrunk.append(name)
    tap.point(broken == RULES, "each rule was broken by some bug",
              "broken: " + " ".join(sorted(broken)))
    tap.point(not unshrunk, "what was found can be shrunk", " ".join(unshrunk))
    return 1 if tap.failed else 0


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--planted", action="store_true")
    p.add_argument("sim")
    args = p.parse_args()
    return check_planted(args.sim) if args.planted else check_random(args.sim)


if __name__ == "__main__":
    sys.exit(main())
