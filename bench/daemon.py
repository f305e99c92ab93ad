# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the life of VMs costs: small guests without a kernel (tests/guest/tiny.S), one at a time,
and a herd of 200 on one host under holdfastd.

freeze                from the order until its answer, which comes after the certificate is durable
panic_to_event        from the guest's write to its panic device, as QEMU stamps it, until a
                      subscriber has the event "frozen"
panic_to_certificate  the same until the time in the certificate
idle_cpu_200vm        CPU time of the daemon and all keepers in a minute in which nothing happens;
                      reference: that of as many QEMUs with nobody around them
idle_cpu_200vm_qemu   of their QEMUs meanwhile; the same reference
rss_per_vm            memory of a keeper (PSS: what it shares counts by the number of its sharers)
rss_daemon_per_vm     of the daemon, by the number of VMs
start_200vm           from the first order to the daemon until the last one runs; reference: as many
                      QEMUs started by hand until each one's monitor says that it runs
status_200vm          a list of all from the daemon
freeze_200vm          from the first order until the last one is certified
"""

import contextlib

import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from measures import LabError, Plan, Row, median, quantile, timing
from stage import poll_until

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS / "lab"), str(TESTS / "integration")]
# pylint: disable=wrong-import-position
from lab import Lab, Proc  # noqa: E402
from labfreeze import (LoneDaemon, TinyVm, cpu_ms, event_ns, instances, pss_kib,  # noqa: E402
                       remove_cgroups)
from protected import Control  # noqa: E402

NAMES = ("freeze", "panic_to_event", "panic_to_certificate", "idle_cpu_200vm", "rss_per_vm",
         "start_200vm", "status_200vm", "freeze_200vm")
SINGLE = {"freeze", "panic_to_event", "panic_to_certificate"}
HOST = "hostA"
START_S = 60.0
HERD_S = 600.0
SETTLE_S = 3.0
HANDS = 4  # orders under way at a time
FILES_MAX = 16384


# --- one at a time -------------------------------------------------------------------------------

class One:
    """A VM under a keeper that nobody but us knows of."""

    def __init__(self, lab: Lab, name: str):
        self.lab = lab
        self.vm = TinyVm(lab, name, options=("--lease", "no"))
        self.proc = self.vm.spawn(HOST)
        self.control = self._connect()
        self.events = self._connect()
        self.events.send("Events", is_more=True)

    def _connect(self) -> Control:
        path = self.lab.host_dir(HOST) / "run" / self.vm.name / "control"

        def attempt() -> Any:
            if not self.proc.is_running():
                raise SystemExit(f"{self.vm.name}: {self.proc.log_tail()}")
            with contextlib.suppress(OSError):
                return Control(path)
            return None

        return poll_until(f"{self.vm.name}'s keeper", attempt, START_S)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.control.send(method, **parameters)
        reply = self.control.receive(START_S)
        if reply is None:
            raise LabError(f"{self.vm.name} does not answer {method}")
        return reply

    def wait(self, name: str) -> int:
        """When the event was here, CLOCK_REALTIME."""
        while True:
            reply = self.events.receive(START_S)
            now_ns = time.time_ns()
            if reply is None:
                raise LabError(f"{self.vm.name}: no event {name}: {self.proc.log_tail()}")
            if reply["event"]["event"] == name:
                return now_ns

    def wait_running(self) -> None:
        poll_until("the guest runs", lambda: self.ask("Status")["status"]["life"] == "running",
                   START_S)

    def end(self) -> None:
        """Frozen, it is released."""
        self.ask("Release")
        self.proc.wait(START_S)
        self.control.close()
        self.events.close()
        remove_cgroups(self.vm.name)


def freeze_once(lab: Lab, name: str) -> float:
    one = One(lab, name)
    one.wait_running()
    began_ns = time.monotonic_ns()
    one.ask("Freeze", reason="bench")
    took_ms = (time.monotonic_ns() - began_ns) / 1e6
    one.end()
    return took_ms


def panic_once(lab: Lab, name: str) -> tuple[float, float]:
    """To the event, to the certificate's time."""
    one = One(lab, name)
    one.wait_running()
    monitor = one.vm.monitor(HOST)
    monitor.send("inject-nmi")
    told_ns = one.wait("frozen")
    panicked_ns = event_ns(monitor.wait_event("GUEST_PANICKED"))
    monitor.close()
    certificate = instances(lab, HOST, one.vm.name)[0].certificate
    one.end()
    return (told_ns - panicked_ns) / 1e6, (certificate["frozen_time_ns"] - panicked_ns) / 1e6


def single_rows(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    with Lab((HOST,)) as lab:
        if "freeze" in wanted:
            yield timing("freeze", [freeze_once(lab, f"{lab.prefix}f{i}")
                                    for i in range(plan.freezes)])
        if wanted & SINGLE - {"freeze"}:
            found = [panic_once(lab, f"{lab.prefix}p{i}") for i in range(plan.freezes)]
            yield timing("panic_to_event", [event for event, _ in found])
            yield timing("panic_to_certificate", [certified for _, certified in found])


# --- many ----------------------------------------------------------------------------------------

def in_parallel(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(HANDS) as pool:
        return list(pool.map(work, items))


def spent_ms(pids: Sequence[int], seconds: float) -> float:
    """CPU time in a minute."""
    before, began = {pid: cpu_ms(pid) for pid in pids}, time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - began) / 60
    return sum(cpu_ms(pid) - ms for pid, ms in before.items()) / minutes


class Bare:
    """The same QEMUs, and nobody around them."""

    def __init__(self, lab: Lab, count: int):
        self.vms = [TinyVm(lab, f"{lab.prefix}bare{i}") for i in range(count)]
        self.lab = lab
        self.procs: list[Proc] = []

    def start(self) -> float:
        began = time.monotonic()
        self.procs = in_parallel(self._start, self.vms)
        return (time.monotonic() - began) * 1e3

    def _start(self, vm: TinyVm) -> Proc:
        proc = self.lab.spawn(HOST, vm.qemu_argv(), name=vm.name)
        monitor = vm.monitor(HOST)
        while not monitor.call("query-status")["running"]:
            time.sleep(0.01)
        monitor.close()
        return proc

    def idle_ms(self, seconds: float) -> float:
        time.sleep(SETTLE_S)
        return spent_ms([proc.pid for proc in self.procs], seconds)

    def end(self) -> None:
        for proc in self.procs:
            proc.kill()


class Herd:
    """VMs that holdfastd knows by their definitions."""

    def __init__(self, lab: Lab, count: int):
        self.lab = lab
        self.vms = [TinyVm(lab, f"{lab.prefix}vm{i}") for i in range(count)]
        self.daemon = LoneDaemon(lab, HOST)
        for vm in self.vms:
            self.daemon.define(vm, autostart="no")
        self.daemon.start()
        poll_until("all are known", lambda: len(self.view()) == count, START_S)

    @property
    def daemon_pid(self) -> int:
        return self.daemon.proc.pid

    def view(self) -> list[dict[str, Any]]:
        return self.daemon.vms(HERD_S)

    def start(self) -> float:
        began = time.monotonic()
        in_parallel(self._start, self.vms)
        poll_until("all run", lambda: all(vm["life"] == "running" for vm in self.view()), HERD_S)
        return (time.monotonic() - began) * 1e3

    def _start(self, vm: TinyVm) -> None:
        self.daemon.call("Start", HERD_S, vm=vm.name)

    def status_ms(self) -> float:
        began_ns = time.monotonic_ns()
        self.view()
        return (time.monotonic_ns() - began_ns) / 1e6

    def freeze_ms(self, vm: TinyVm) -> float:
        control = Control(self.lab.host_dir(HOST) / "run" / vm.name / "control")
        began_ns = time.monotonic_ns()
        control.send("Freeze", reason="bench")
        if control.receive(HERD_S) is None:
            raise LabError(f"{vm.name} is not frozen")
        took_ms = (time.monotonic_ns() - began_ns) / 1e6
        control.close()
        return took_ms

    def freeze(self) -> tuple[float, list[float]]:
        began = time.monotonic()
        times = in_parallel(self.freeze_ms, self.vms)
        return (time.monotonic() - began) * 1e3, times


def herd_rows(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    n = plan.herd
    with Lab((HOST,)) as lab:
        bare = Bare(lab, n)
        bare_start_ms = bare.start()
        bare_idle_ms = bare.idle_ms(plan.idle_s) if "idle_cpu_200vm" in wanted else 0.0
        bare.end()
        herd = Herd(lab, n)
        try:
            yield from herd_parts(herd, plan, wanted, bare_start_ms, bare_idle_ms)
        finally:
            kill_all(herd)


def herd_parts(herd: Herd, plan: Plan, wanted: set[str], bare_start_ms: float,
               bare_idle_ms: float) -> Iterator[Row]:
    n = plan.herd
    start_ms = herd.start()
    yield Row("start_200vm", start_ms, "ms", start_ms, n, bare_start_ms)
    keepers = [int(vm["keeper_pid"]) for vm in herd.view()]
    qemus = [int(vm["qemu_pid"]) for vm in herd.view()]
    if "idle_cpu_200vm" in wanted:
        yield from idle_rows(herd, plan, keepers, qemus, bare_idle_ms)
    if "rss_per_vm" in wanted:
        sizes = [pss_kib(pid) / 1024 for pid in keepers]
        yield Row("rss_per_vm", median(sizes), "MiB", quantile(sizes, 0.99), n)
        daemon = pss_kib(herd.daemon_pid) / 1024 / n
        yield Row("rss_daemon_per_vm", daemon, "MiB", daemon, n)
    if "status_200vm" in wanted:
        yield timing("status_200vm", [herd.status_ms() for _ in range(plan.freezes)])
    if "freeze_200vm" in wanted:
        total_ms, times = herd.freeze()
        yield Row("freeze_200vm", total_ms, "ms", total_ms, n)
        yield timing("freeze_200vm_each", times)


def idle_rows(herd: Herd, plan: Plan, keepers: list[int], qemus: list[int],
              bare_idle_ms: float) -> Iterator[Row]:
    time.sleep(SETTLE_S)
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(spent_ms, [herd.daemon_pid, *keepers], plan.idle_s)
        theirs = pool.submit(spent_ms, qemus, plan.idle_s)
        for name, found in (("idle_cpu_200vm", ours), ("idle_cpu_200vm_qemu", theirs)):
            value = found.result()
            yield Row(name, value, "ms", value, plan.herd, bare_idle_ms)


def kill_all(herd: Herd) -> None:
    """Before the lab, so that their cgroups can be removed."""
    herd.lab.kill_host(HOST)
    remove_cgroups(f"{herd.lab.prefix}vm")


def measure_daemon(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(FILES_MAX, hard)), hard))
    if wanted & SINGLE:
        yield from single_rows(plan, wanted)
    if wanted - SINGLE:
        yield from herd_rows(plan, wanted)
