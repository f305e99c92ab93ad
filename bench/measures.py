# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured on a stage, and the rows that come of it."""

import json
import math
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

from stage import LabError, Side, Stage, tool

PAUSE_INTERVAL_MS = 100
DIRTY_MIB = 64
WARM_UP_S = 0.5


@dataclass
class Plan:
    """How often and how long: rounds of turns, seconds of each."""
    rounds: int = 5
    pause_s: float = 6.0
    ping_s: float = 6.0
    job_s: float = 6.0
    disk_s: float = 4.0
    failovers: int = 50
    scans: int = 300
    seed: int = 1
    leases: int = 200
    leases_watched: int = 100
    idle_s: float = 60.0
    host_deaths: int = 5
    sanlock_deaths: tuple[int, ...] = (1, 3)  # by T; each takes 8T + 60 s
    schedules: int = 10000
    freezes: int = 50
    herd: int = 200
    failures: int = 6  # of each cause under Pacemaker
    node_losses: int = 3
    watch_s: float = 45.0  # what is perhaps never recovered
    hung_s: float = 45.0
    is_quick: bool = False
    is_long: bool = False


QUICK = Plan(rounds=1, pause_s=1.5, ping_s=1.0, job_s=1.5, disk_s=1.0, failovers=2, scans=20,
             leases=10, leases_watched=5, idle_s=2.0, host_deaths=1, sanlock_deaths=(),
             schedules=200, freezes=5, herd=6, failures=1, node_losses=1, hung_s=10.0,
             is_quick=True)


@dataclass
class Row:
    """One object of replication.json. reference: what value is to be held against, in the same
    unit; ratio: value by reference, or both absent where there is nothing to compare."""
    name: str
    value: float
    unit: str
    p99: float
    n: int
    reference: Optional[float] = None
    ratio: Optional[float] = field(init=False)

    def __post_init__(self) -> None:
        self.ratio = self.value / self.reference if self.reference else None

    def as_dict(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value
                for key, value in self.__dict__.items()}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so many are not above."""
    if not values:
        raise LabError("nothing was measured")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def timing(name: str, values_ms: Sequence[float], reference: Optional[float] = None) -> Row:
    return Row(name, median(values_ms), "ms", quantile(values_ms, 0.99), len(values_ms), reference)


# --- pauses --------------------------------------------------------------------------------------

def set_load(side: Side, pages: int) -> None:
    """So many distinct pages in each interval."""
    if pages:
        side.guest.ask(f"dirty {pages // PAUSE_INTERVAL_MS}")
    else:
        side.guest.ask("dirty 0")
    time.sleep(WARM_UP_S)


def pauses(stage: Stage, plan: Plan, pages: int) -> dict[Side, list[float]]:
    found: dict[Side, list[float]] = {stage.protected: [], stage.plain: []}
    for side in stage.turns(plan.rounds):
        set_load(side, pages)
        if side is stage.plain:
            stage.order(f"loop {PAUSE_INTERVAL_MS}")
        assert side.monitor
        found[side] += side.monitor.pauses_ms(plan.pause_s)
        if side is stage.plain:
            stage.order("rest")
        set_load(side, 0)
    return found


def pause_rows(stage: Stage, plan: Plan, name: str, pages: int) -> list[Row]:
    """name: protected by bare, of the medians. name_ms: the times behind it."""
    found = pauses(stage, plan, pages)
    ours, bare = found[stage.protected], found[stage.plain]
    ratio = Row(name, median(ours) / median(bare), "ratio",
                quantile(ours, 0.99) / quantile(bare, 0.99), len(ours), 1.0)
    return [ratio, timing(f"{name}_ms", ours, median(bare))]


def measure_pauses(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    loads = {"pause_idle": 0, "pause_1k": 1000, "pause_10k": 10000}
    with Stage("--epoch-interval", f"{PAUSE_INTERVAL_MS}ms") as stage:
        for side in (stage.protected, stage.plain):
            side.guest.ask(f"mem {DIRTY_MIB}", 60.0, retry_s=5.0)
        for name in (name for name in loads if name in wanted):
            yield from pause_rows(stage, plan, name, loads[name])


# --- what the guest and its clients feel ---------------------------------------------------------

def client_result(side: Side, kind: str, seconds: float, *options: str) -> dict[str, Any]:
    client = side.lab.client(kind, side.vm.addr, "--time", str(int(seconds * 1000)), *options)
    result = client.wait_event("result", seconds + 30.0)
    client.wait()
    if not result["ok"]:
        raise LabError(f"{kind}: {result}")
    return result


def ping_rows(stage: Stage, plan: Plan) -> list[Row]:
    """Medians of rounds of medians: the client reports quantiles."""
    p50: dict[Side, list[float]] = {stage.protected: [], stage.plain: []}
    p99: dict[Side, list[float]] = {stage.protected: [], stage.plain: []}
    count: dict[Side, int] = {stage.protected: 0, stage.plain: 0}
    for side in stage.turns(plan.rounds):
        result = client_result(side, "ping", plan.ping_s, "--interval", "10000")
        p50[side].append(result["latency_p50_ns"] / 1e6)
        p99[side].append(result["latency_p99_ns"] / 1e6)
        count[side] += result["replies"]
    plain = median(p50[stage.plain])
    rows = []
    for name, side, reference in (("ping_protected", stage.protected, plain),
                                  ("ping_plain", stage.plain, None)):
        rows.append(Row(name, median(p50[side]), "ms", median(p99[side]), count[side], reference))
    return rows


def commit_rows(stage: Stage) -> list[Row]:
    """As the keeper counts it, over the whole life of the stage: from the standstill (the device
    state is complete) to the release of the epoch's outputs."""
    with stage.only(stage.protected) as side:
        client_result(side, "ping", WARM_UP_S)
        commit = side.status("a")["epochs"]["commit"]
    return [Row("commit_latency", commit["p50_ns"] / 1e6, "ms", commit["p99_ns"] / 1e6,
                commit["n"])]


def spin_rate(side: Side, seconds: float) -> float:
    """Work per second of a job that computes. Held output does not disturb the times: what counts
    is when the questions were asked."""
    side.guest.ask("spin 1")
    time.sleep(WARM_UP_S)
    began = time.monotonic()
    before = side.guest.stat()["spun"]
    time.sleep(seconds)
    ended = time.monotonic()
    after = side.guest.stat()["spun"]
    side.guest.ask("spin 0")
    return (after - before) / (ended - began)


def stream_rate(side: Side, seconds: float) -> float:
    result = client_result(side, "stream", seconds)
    return result["bytes"] / result["elapsed_ns"]


def slowdown_row(stage: Stage, plan: Plan, name: str,
                 rate: Callable[[Side, float], float]) -> Row:
    """Plain by protected, of each pair of turns: 1.05 is 5 % slower."""
    rates: dict[Side, list[float]] = {stage.protected: [], stage.plain: []}
    for side in stage.turns(plan.rounds):
        rates[side].append(rate(side, plan.job_s))
    ratios = [plain / ours for plain, ours in zip(rates[stage.plain], rates[stage.protected])]
    return Row(name, median(ratios), "ratio", quantile(ratios, 0.99), len(ratios), 1.0)


# --- the dirty scan ------------------------------------------------------------------------------

def measure_scan(plan: Plan) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.json"
        subprocess.run([tool("bench/bench-scan"), "--runs", str(plan.scans), "--json", str(path),
                        "--library", tool("src/preload/libholdfast-qemu.so"),
                        "--child", tool("src/vm/test-tracker-child")],
                       check=True, stdout=subprocess.DEVNULL)
        found = [json.loads(line) for line in path.read_text().splitlines()]
    return [Row(o["name"], o["value"], o["unit"], o["p99"], o["n"], o["reference"]) for o in found]
