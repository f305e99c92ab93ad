#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulator under random faults; with --planted: its checkers against bugs on purpose.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes, from a seed taken from the time, which is printed.
"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simkit"))
import simtest  # noqa: E402
from simtest import Tap  # noqa: E402

RUNS = 60000
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
Transition = tuple[str, str, str, str]


def documented(path: Path) -> dict[str, set[Transition]]:
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


def check_transitions(tap: Tap, listing: str, page: Path) -> None:
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


def check_random(sim: str, page: Path) -> int:
    minutes = simtest.soak_minutes()
    amount = ["--runs", str(RUNS)]
    first = 0
    if minutes is not None:
        first = simtest.new_seed()
        amount = ["--first-seed", str(first), "--seconds", str(minutes * 60)]
    tap = Tap(5 if minutes is None else 6)
    code, out = simtest.simulate(sim, *amount, "--list")
    told = [line for line in out.splitlines() if not line.startswith(("took ", "unseen "))]
    tap.point(code == 0, "all invariants hold under random faults", "\n".join(told))
    check_transitions(tap, out, page)
    check_pairs(tap, out)
    if minutes is not None:
        code, lease = simtest.simulate(sim, "--lease", "--first-seed", str(first), "--runs",
                                       str(RUNS_LEASE))
        tap.point(code == 0, f"all invariants hold in {RUNS_LEASE} schedules with a lease", lease)
    simtest.check_twice(sim, tap)
    return tap.status()


def main() -> int:
    p = simtest.parser(__doc__)
    p.add_argument("page", type=Path, help="docs/replication.md")
    args = p.parse_args()
    if args.planted:
        return simtest.check_planted(args.sim, RUNS_PLANTED, RULES, noun="invariant")
    return check_random(args.sim, args.page)


if __name__ == "__main__":
    sys.exit(main())
