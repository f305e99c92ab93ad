# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the simulators have in common: they run one under random faults; with
--planted: its checkers against bugs on purpose. The results are TAP.

Seeds are the same in each run, so that a failure is everybody's failure. With HF_SOAK_MINUTES set
the random runs go on for so many minutes, from a seed taken from the time, which is printed."""
import argparse
import os
import re
import subprocess
import time

RUNS_TWICE = 3000


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

    def status(self) -> int:
        return 1 if self.failed else 0


def simulate(sim: str, *args: str) -> tuple[int, str]:
    r = subprocess.run([sim, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return r.returncode, r.stdout


def soak_minutes() -> int | None:
    minutes = os.environ.get("HF_SOAK_MINUTES")
    return int(minutes) if minutes else None


def new_seed() -> int:
    first = time.time_ns() // 1000
    print(f"# seeds from {first}")
    return first


def run_random(sim: str, runs: int, runs_soak: int) -> tuple[int, str]:
    """So many schedules, and a list of what was seen; a soak has more, and goes on for its time."""
    minutes = soak_minutes()
    if minutes is None:
        return simulate(sim, "--runs", str(runs), "--list")
    first = new_seed()
    code, out = simulate(sim, "--first-seed", str(first), "--runs", str(runs_soak), "--list")
    if code:
        return code, out
    code, more = simulate(sim, "--first-seed", str(first + runs_soak), "--seconds",
                          str(minutes * 60))
    return code, out + more


def check_twice(sim: str, tap: Tap) -> None:
    code, out = simulate(sim, "--runs", str(RUNS_TWICE), "--twice")
    tap.point(code == 0, "the same seeds run the same way", out)


def check_shrinks(sim: str, tap: Tap, found: dict[str, str], verdict: str) -> None:
    """What is left of a failing plan still fails. found: the seed by the bug that is planted."""
    unshrunk = []
    for name, seed in found.items():
        code, out = simulate(sim, "--plant", name, "--seed", seed, "--shrink")
        if code != 1 or re.search(verdict, out, re.M) is None:
            unshrunk.append(name)
    tap.point(not unshrunk, "what was found can be shrunk", " ".join(unshrunk))


def check_planted(sim: str, runs: int, rules: set[str], noun: str = "rule",
                  shrunk_verdict: str = "") -> int:
    """Each bug is found within so many schedules, by a rule that it names; each rule finds one."""
    plants = [line.split(" ", 2) for line in simulate(sim, "--plants")[1].splitlines()]
    tap = Tap(len(plants) + 1 + bool(shrunk_verdict))
    broken: set[str] = set()
    seeds: dict[str, str] = {}
    for name, expected, what in plants:
        code, out = simulate(sim, "--plant", name, "--runs", str(runs))
        found = re.search(rf"^seed (\d+): {noun} (\d+) .*", out, re.M)
        is_ok = code == 1 and found is not None and found[2] in expected.split(",")
        tap.point(is_ok, f"{name}: {what}", found[0] if found else out)
        if found:
            broken.add(found[2])
            seeds[name] = found[1]
    tap.point(broken == rules, f"each {noun} was broken by some bug",
              "broken: " + " ".join(sorted(broken)))
    if shrunk_verdict:
        check_shrinks(sim, tap, seeds, shrunk_verdict)
    return tap.status()


def parser(doc: str | None) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=doc)
    p.add_argument("--planted", action="store_true")
    p.add_argument("sim")
    return p
