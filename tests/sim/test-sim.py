#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulator under random faults; with --planted: its checkers against bugs on purpose.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes, from a seed taken from the time, which is printed.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

RUNS = 60000
RUNS_TWICE = 3000
# With HF_SOAK_MINUTES: schedules in which lease, commit and failover come together.
RUNS_LEASE = 100000
# Each bug ends its search when it is found.
RUNS_PLANTED = 120000
# (state, event) pairs that no driver produces; core/test-commit-walk.c feeds these, too.
UNSEEN_MAX = {"primary": 88, "standby": 90}
RULES = {str(n) for n in range(1, 16)}
# A row of a table of transitions: | from | event | to | ... |. Those with "unreached" in them must
# not be taken, those with "rare" may or may not be.
ROW = re.compile(r"^\| ([a-z-]+) \| `([a-z-]+)` \| ([a-z-]+) \|(.*)\|$")


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


Transition = tuple[str, str, str, str]


def documented(path: pathlib.Path) -> dict[str, set[Transition]]:
    """The transitions that the page lists, by whether they are to be seen."""
    found: dict[str, set[Transition]] = {"always": set(), "rare": set(), "unreached": set()}
    role = ""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            role = line.split()[-1]
        row = ROW.match(line)
        if row and role in UNSEEN_MAX:
            kind = next((kind for kind in found if f"*{kind}*" in row[4]), "always")
            found[kind].add((role, row[1], row[2], row[3]))
    return found


def check_transitions(tap: Tap, listing: str, page: pathlib.Path) -> None:
    known = documented(page)
    took = {Transition(line.split()[1:5]) for line in listing.splitlines()
            if line.startswith("took ")}
    lines = [f"documented, never taken: {' '.join(t)}" for t in sorted(known["always"] - took)]
    lines += [f"taken, documented as unreached: {' '.join(t)}"
              for t in sorted(known["unreached"] & took)]
    new = took - known["always"] - known["rare"] - known["unreached"]
    lines += [f"taken, not documented: {' '.join(t)}" for t in sorted(new)]
    n = len(known["always"])
    tap.point(not lines and n > 40, f"each of {n} documented transitions is taken, and no other",
              "\n".join(lines))


def check_pairs(tap: Tap, listing: str) -> None:
    for role, most in UNSEEN_MAX.items():
        unseen = [line for line in listing.splitlines() if line.startswith(f"unseen {role} ")]
        tap.point(len(unseen) <= most, f"{role}: {len(unseen)} (state, event) pairs unseen, "
                  f"at most {most} may be", "\n".join(unseen))


def check_random(sim: str, page: pathlib.Path) -> int:
    minutes = os.environ.get("HF_SOAK_MINUTES")
    amount = ["--runs", str(RUNS)]
    first = 0
    if minutes:
        first = time.time_ns() // 1000
        print(f"# seeds from {first}")
        amount = ["--first-seed", str(first), "--seconds", str(int(minutes) * 60)]
    tap = Tap(6 if minutes else 5)
    code, out = simulate(sim, *amount, "--list")
    told = [line for line in out.splitlines() if not line.startswith(("took ", "unseen "))]
    tap.point(code == 0, "all invariants hold under random faults", "\n".join(told))
    check_transitions(tap, out, page)
    check_pairs(tap, out)
    if minutes:
        code, lease = simulate(sim, "--lease", "--first-seed", str(first), "--runs", str(RUNS_LEASE))
        tap.point(code == 0, f"all invariants hold in {RUNS_LEASE} schedules with a lease", lease)
    code, out = simulate(sim, "--runs", str(RUNS_TWICE), "--twice")
    tap.point(code == 0, "the same seeds run the same way", out)
    return 1 if tap.failed else 0


def check_planted(sim: str) -> int:
    plants = [line.split(" ", 2) for line in simulate(sim, "--plants")[1].splitlines()]
    tap = Tap(len(plants) + 1)
    broken: set[str] = set()
    for name, rules, what in plants:
        code, out = simulate(sim, "--plant", name, "--runs", str(RUNS_PLANTED))
        found = re.search(r"^seed \d+: invariant (\d+) .*", out, re.M)
        is_ok = code == 1 and found is not None and found[1] in rules.split(",")
        tap.point(is_ok, f"{name}: {what}", found[0] if found else out)
        broken |= {found[1]} if found else set()
    tap.point(broken == RULES, "each invariant was broken by some bug",
              "broken: " + " ".join(sorted(broken)))
    return 1 if tap.failed else 0


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--planted", action="store_true")
    p.add_argument("sim")
    p.add_argument("page", type=pathlib.Path, help="docs/replication.md")
    args = p.parse_args()
    return check_planted(args.sim) if args.planted else check_random(args.sim, args.page)


if __name__ == "__main__":
    sys.exit(main())
