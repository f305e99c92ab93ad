#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench/run --quick still measures all that it promises: every name, with numbers that can be true.
What they are is not looked at: a machine that runs tests is no place for that.

usage: test-quick.py BUILD [pacemaker]    without the second one, all but what is under Pacemaker"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "lab"))
# pylint: disable=wrong-import-position
from labnode import lacks as lacks_cluster  # noqa: E402

RUN = HERE / "run"
PROMISED = ("pause_idle", "pause_1k", "pause_10k", "commit_latency", "ping_protected", "ping_plain",
            "cpu_slowdown", "net_slowdown", "failover", "scan_per_gib", "tap_seq_write",
            "tap_rand_write", "tap_seq_read", "protected_seq_write", "redo", "pause_disk_extra",
            "acquire", "release", "handover", "handover_free_window", "idle_cpu_1vm",
            "idle_cpu_100vm", "failover_host_death", "sim_schedules_per_s", "freeze",
            "panic_to_event", "idle_cpu_200vm", "rss_per_vm", "start_200vm", "status_200vm",
            "freeze_200vm", "tls_cost")
UNDER_PACEMAKER = (*(f"{cause}_{what}" for cause in ("kill", "panic", "ioerror", "hang", "nodeloss")
                     for what in ("first_action", "running_again")),
                   "stop_failed_vm", "hang_detected_first_action", "clone_kill_running_again",
                   "daemon_hung_fenced")
MAY_BE_ZERO = ("pause_disk_extra", "handover_free_window", "idle_cpu_200vm", "daemon_hung_fenced")
UNITS = ("ms", "ratio", "MiB", "MiB/s", "1/s", "count")
KEYS = {"name", "value", "unit", "p99", "n", "reference", "ratio"}


def is_number(value: object, may_be_negative: bool = False) -> bool:
    return (isinstance(value, (int, float)) and math.isfinite(value)
            and (value > 0 or may_be_negative))


def fault_in(row: dict[str, object]) -> str:
    if set(row) - {"note"} != KEYS:
        return f"keys are {sorted(row)}"
    may_be_zero = row["name"] in MAY_BE_ZERO
    for key in ("value", "p99", "n"):
        if not is_number(row[key], may_be_zero):
            return f"{key} is {row[key]}"
    for key in ("reference", "ratio"):
        if row[key] is not None and not is_number(row[key], may_be_zero):
            return f"{key} is {row[key]}"
    return "" if row["unit"] in UNITS else f"unit is {row['unit']}"


def run_quick(build: str, *options: str) -> dict[str, dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "replication.json"
        done = subprocess.run([RUN, "--build", build, "--quick", "--json", path, *options],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        for line in done.stdout.splitlines():
            print(f"# {line}")
        if not path.exists():
            return {}
        return {row["name"]: row for row in json.loads(path.read_text())}


def main() -> int:
    if os.geteuid() != 0:
        print("1..0 # SKIP network namespaces need root")
        return 0
    is_pacemaker = sys.argv[2:] == ["pacemaker"]
    if is_pacemaker and (why := lacks_cluster()):
        print(f"1..0 # SKIP {why}")
        return 0
    rows = run_quick(sys.argv[1], "--only" if is_pacemaker else "--without", "pacemaker")
    promised = UNDER_PACEMAKER if is_pacemaker else PROMISED
    print(f"1..{len(promised)}")
    failed = 0
    for number, name in enumerate(promised, 1):
        fault = fault_in(rows[name]) if name in rows else "is missing"
        failed += bool(fault)
        print(f"{'not ok' if fault else 'ok'} {number} - {name}{fault and ': '}{fault}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
