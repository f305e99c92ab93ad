# SPDX-License-Identifier: LGPL-2.1-or-later
"""What TLS between the hosts costs: two keepers' links over TCP on the loopback (bench/tlscost.c).

tls_cost        what it adds to an epoch of 1000 pages, from the first byte until the standby's
                answer; reference: the same epoch without TLS
tls_round_trip  a message and its answer; reference: without TLS
tls_mib         a mebibyte of guest memory in a stream of them; reference: without TLS
tls_handshake   from the connected socket until both sides know each other
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "lab"))
# pylint: disable=wrong-import-position
from labpki import Authority  # noqa: E402
from measures import LabError, Plan, Row, median, quantile, timing  # noqa: E402
from stage import tool  # noqa: E402

Times = dict[tuple[str, str], list[float]]


def run(rounds: int) -> Times:
    """Milliseconds by (what, "tls" or "plain")."""
    with tempfile.TemporaryDirectory() as work:
        ca = Authority(Path(work) / "ca")
        folders = [str(ca.host(name, [], Path(work) / name)) for name in ("hosta", "hostb")]
        done = subprocess.run([tool("bench/bench-tls"), *folders, str(rounds)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"bench-tls: {done.stderr.strip()}")
    found: Times = {}
    for line in done.stdout.splitlines():
        name, kind, ms = line.split()
        found.setdefault((name, kind), []).append(float(ms))
    return found


def added(times: Times, name: str) -> Row:
    """By how much the median and the p99 are longer."""
    tls, plain = times[name, "tls"], times[name, "plain"]
    return Row("tls_cost", median(tls) - median(plain), "ms",
               quantile(tls, 0.99) - quantile(plain, 0.99), len(tls), median(plain))


def measure_tls(plan: Plan) -> Iterator[Row]:
    times = run(2 * plan.rounds)
    yield added(times, "epoch")
    for row, name in (("tls_round_trip", "round-trip"), ("tls_mib", "mib")):
        yield timing(row, times[name, "tls"], median(times[name, "plain"]))
    yield timing("tls_handshake", times["handshake", "tls"])
