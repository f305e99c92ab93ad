#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lease simulator under random faults; with --planted: its checkers against bugs on purpose.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes and for a million schedules at least, from a seed taken
from the time, which is printed.
"""
import argparse
import os
import re
import subprocess
import sys
import time

RUNS = 150000
RUNS_SOAK = 1000000
RUNS_PLANTED = 100000
RUNS_TWICE = 3000
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


def soak(sim: str, tap: Tap, minutes: int) -> str:
    first = time.time_ns() // 1000
    print(f"# seeds from {first}")
    code, out = simulate(sim, "--first-seed", str(first), "--runs", str(RUNS_SOAK), "--list")
    told = out
    if code == 0:
        code, more = simulate(sim, "--first-seed", str(first + RUNS_SOAK), "--seconds",
                              str(minutes * 60))
        told += more
    tap.point(code == 0, "all rules hold under random faults", told)
    return out


def check_random(sim: str) -> int:
    minutes = os.environ.get("HF_SOAK_MINUTES")
    tap = Tap(3)
    if minutes:
        out = soak(sim, tap, int(minutes))
    else:
        code, out = simulate(sim, "--runs", str(RUNS), "--list")
        tap.point(code == 0, "all rules hold under random faults", out)
    seen = set(re.findall(r"^result ([a-z]+: .*): \d+$", out, re.M))
    tap.point(RESULTS <= seen, "each result of each operation is seen",
              "".join(f"never: {r}\n" for r in sorted(RESULTS - seen)))
    code, out = simulate(sim, "--runs", str(RUNS_TWICE), "--twice")
    tap.point(code == 0, "the same seeds run the same way", out)
    return 1 if tap.failed else 0


def check_planted(sim: str) -> int:
    plants = [line.split(" ", 2) for line in simulate(sim, "--plants")[1].splitlines()]
    tap = Tap(len(plants) + 1)
    broken: set[str] = set()
    for name, rules, what in plants:
        code, out = simulate(sim, "--plant", name, "--runs", str(RUNS_PLANTED))
        found = re.search(r"^seed \d+: rule (\d+) .*", out, re.M)
        is_ok = code == 1 and found is not None and found[1] in rules.split(",")
        tap.point(is_ok, f"{name}: {what}", found[0] if found else out)
        broken |= {found[1]} if found else set()
    tap.point(broken == RULES, "each rule was broken by some bug",
              "broken: " + " ".join(sorted(broken)))
    return 1 if tap.failed else 0


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--planted", action="store_true")
    p.add_argument("sim")
    args = p.parse_args()
    return check_planted(args.sim) if args.planted else check_random(args.sim)


if __name__ == "__main__":
    sys.exit(main())
