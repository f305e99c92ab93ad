# SPDX-License-Identifier: LGPL-2.1-or-later
"""How soon a failed VM is recovered by Pacemaker: under ocf:holdfast:vm, and, as the reference,
under ocf:heartbeat:VirtualDomain with libvirt, side by side on the same two nodes, where both are
installed.

For each cause, from its moment on:
CAUSE_first_action    until Pacemaker has the agent stop, or start, the VM
CAUSE_running_again   until the guest has written to its disk on the other node
stop_failed_vm        how long the agent's stop of a failed VM takes: of ours, all of them; of
                      VirtualDomain, of one that is paused by an I/O error
hang_detected_first_action  from where holdfast says that QEMU hangs; when it says so is a setting
                      (hang-timeout, here 2 s)
clone_kill_running_again  with a synchronised standby (promotable clone), until its guest runs;
                      reference: as kill_running_again, for VirtualDomain has none
daemon_hung_fenced    1 if a node was fenced because holdfastd was stopped (SIGSTOP), while its VM
                      is well; reference: libvirtd, only with --long

CAUSE: kill (of QEMU), panic (of the guest), ioerror (QEMU pauses the guest: werror=stop), hang (of
QEMU: SIGSTOP), nodeloss. VirtualDomain is given its best: a monitor each 10 s as its metadata
recommends, force_stop=true but for stop_failed_vm, libvirt's own on_crash=destroy, failures evenly
over the phases of the monitor. What it does not recover from has no reference; the note says how
long it was watched.
"""

import os
import random
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Iterator, Optional, Sequence

import clusterstage
import lablibvirt
import labnode
from clusterstage import ClusterStage, ClusterVm, Failure, HoldfastVm, LibvirtVm, PairVm
from labwitness import Tick
from measures import LabError, Plan, Row, median, quantile
from stage import poll_until

CAUSES = ("kill", "panic", "ioerror", "hang", "nodeloss")
POLLED = ("kill", "panic")  # what VirtualDomain's monitor sees
UNSEEN = ("ioerror", "hang")
QUICK_PHASE = 0.8
TICKS_PER_S = 20  # tests/guest/tiny.S
RAN_ON = 0.8  # of its ticks, on a machine that has other work
STOP_S = 120.0
FENCED_S = 200.0
OTHER_STOP = "VirtualDomain: force_stop=false (its default), stop timeout 90 s"
NAMES = (*(f"{cause}_{what}" for cause in CAUSES for what in ("first_action", "running_again")),
         "stop_failed_vm", "hang_detected_first_action", "clone_kill_running_again",
         "daemon_hung_fenced")


@dataclass
class NotedRow(Row):
    """note: what the numbers do not say."""
    note: Optional[str] = None


@dataclass
class Found:
    """Of one side, by cause."""
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    stops_ms: list[float] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    clone_ms: list[float] = field(default_factory=list)
    fenced_s: Optional[float] = None  # after which a node was fenced for a daemon's silence

    def times(self, cause: str, moment: str) -> list[float]:
        return [f.ms(moment) for f in self.failures.get(cause, [])]


def lacks() -> str:
    """Why nothing can be measured here, or ""."""
    return labnode.lacks()


def fail_and_mend(stage: ClusterStage, vm: ClusterVm, cause: str) -> Failure:
    """A failure that is recovered."""
    node = vm.node()
    failure = vm.fail(cause)
    if not failure.running_ns or not failure.first_ns:
        raise LabError(f"{vm.name} was not recovered after {cause} on {node}: {failure}")
    if cause == "hang" and isinstance(vm, HoldfastVm):
        failure.detected_ns = vm.fault_ns(node, failure.time_ns)
    if cause == "nodeloss":
        stage.boot(node)
    vm.mend(node)
    return failure


def expect_unfenced(stage: ClusterStage) -> None:
    if stage.cluster.fenced:
        raise LabError(f"fenced for the failure of a VM: {stage.cluster.fenced}")


def lose_nodes(stage: ClusterStage, vm: ClusterVm, count: int) -> list[Failure]:
    expect_unfenced(stage)
    found = [fail_and_mend(stage, vm, "nodeloss") for _ in range(count)]
    stage.cluster.fenced.clear()
    return found


# --- VirtualDomain -------------------------------------------------------------------------------

def last_start_ns(vm: ClusterVm) -> int:
    """The end of it; 0: of none yet."""
    return max((a.ended_ns for a in vm.log.since(vm.name, 0) if a.name == "start"), default=0)


def wait_phase(vm: ClusterVm, share: float) -> None:
    """Until so much of the monitor's interval is over. It begins with the end of a start."""
    started_ns = poll_until(f"{vm.name} has started", lambda: last_start_ns(vm), STOP_S)
    period_ns = int(clusterstage.MONITOR_S * 1e9)
    over_ns = (time.time_ns() - started_ns) % period_ns
    time.sleep((int(share * period_ns) - over_ns) % period_ns / 1e9)


def phases(plan: Plan) -> list[float]:
    """Moments that are evenly spread over the monitor's interval, as shares of it."""
    if plan.is_quick:
        return [QUICK_PHASE] * plan.failures
    shares = [(i + random.random()) / plan.failures for i in range(plan.failures)]
    random.shuffle(shares)
    return shares


def polled(stage: ClusterStage, vm: ClusterVm, cause: str, plan: Plan) -> list[Failure]:
    found = []
    for share in phases(plan):
        wait_phase(vm, share)
        found.append(fail_and_mend(stage, vm, cause))
    return found


def unseen(vm: ClusterVm, cause: str, watch_s: float) -> Failure:
    node = vm.node()
    failure = vm.fail(cause, watch_s)
    if cause == "hang" and not failure.running_ns:
        os.kill(vm.qemu_pid(node), signal.SIGCONT)
    return failure


def stop_paused(stage: ClusterStage, vm: ClusterVm) -> float:
    """How long, in ms."""
    since_ns = time.time_ns()
    stage.cluster.sh(stage.cluster.some_node(), [
        "crm_resource", "-r", vm.name, "--meta", "-p", "target-role", "-v", "Stopped"])
    stop = vm.log.wait_done(vm.name, "stop", since_ns, STOP_S)
    if not stop:
        raise LabError(f"{vm.name} is not stopped within {STOP_S:g} s")
    return stop.took_ms


def hang_libvirtd(stage: ClusterStage, vm: ClusterVm) -> Optional[float]:
    """After how many seconds a node was fenced; None: none was."""
    node, began = vm.node(), time.monotonic()
    fenced = stage.cluster.fenced
    fenced.clear()
    stage.cluster.nodes[node].signal(stage.libvirt[node].pid(), signal.SIGSTOP)
    while not fenced and time.monotonic() < began + FENCED_S:
        time.sleep(0.2)
    took_s = time.monotonic() - began if fenced else None
    if took_s is None:
        stage.cluster.nodes[node].signal(stage.libvirt[node].pid(), signal.SIGCONT)
    else:
        stage.boot(node)
    fenced.clear()
    vm.mend(node)
    return took_s


def measure_theirs(stage: ClusterStage, plan: Plan) -> Found:
    """One VM per cause, all at once: most of the time is spent waiting for monitors."""
    found = Found()
    causes = POLLED[:1] if plan.is_quick else POLLED + UNSEEN
    vms = {cause: LibvirtVm(stage.cluster, stage.log, f"vd-{cause}", cause != "ioerror")
           for cause in causes}
    with stage.running(*vms.values()):
        with ThreadPoolExecutor(len(causes)) as pool:
            series = {cause: pool.submit(polled, stage, vms[cause], cause, plan)
                      for cause in causes if cause in POLLED}
            watched = {cause: pool.submit(unseen, vms[cause], cause, plan.watch_s)
                       for cause in causes if cause in UNSEEN}
        found.failures = {cause: future.result() for cause, future in series.items()}
        take_watched(found, watched, plan.watch_s)
        if "ioerror" in vms and not found.failures.get("ioerror"):
            found.stops_ms = [stop_paused(stage, vms["ioerror"])]
    return found


def take_watched(found: Found, watched: "dict[str, Future[Failure]]", watch_s: float) -> None:
    for cause, future in watched.items():
        failure = future.result()
        if failure.running_ns and failure.first_ns:
            found.failures[cause] = [failure]
        else:
            found.notes[cause] = f"VirtualDomain: nothing was done within {watch_s:g} s"


def lose_theirs(stage: ClusterStage, plan: Plan, found: Found) -> None:
    vm = LibvirtVm(stage.cluster, stage.log, "vd-node")
    with stage.running(vm):
        found.failures["nodeloss"] = lose_nodes(stage, vm, plan.node_losses)
        if plan.is_long:
            found.fenced_s = hang_libvirtd(stage, vm)
            said = f"{found.fenced_s:.0f} s" if found.fenced_s else f"never in {FENCED_S:g} s"
            found.notes["daemon"] = f"VirtualDomain, libvirtd stopped: node fenced after: {said}"


# --- holdfast ------------------------------------------------------------------------------------

def how_it_went(first: Optional[Tick], last: Optional[Tick], seconds: float) -> str:
    assert first and last
    if last.tag != first.tag:
        return "went on elsewhere, as nobody renewed its lease"
    share = (last.number - first.number) / (seconds * TICKS_PER_S)
    return "ran on" if share > RAN_ON else "stood still, as nobody renewed its lease"


def hang_holdfastd(stage: ClusterStage, vm: HoldfastVm, watch_s: float) -> Found:
    """Is a node fenced for it? The VM may stand still or go on elsewhere: nobody renews its lease."""
    node, found, fenced = vm.node(), Found(), stage.cluster.fenced
    first = vm.disk.image.head()
    began = time.monotonic()
    stage.cluster.signal_daemon(node, signal.SIGSTOP)
    while not fenced and time.monotonic() < began + watch_s:
        time.sleep(0.2)
    went = how_it_went(first, vm.disk.image.head(), time.monotonic() - began)
    if fenced:
        found.fenced_s = time.monotonic() - began
        stage.boot(node)
        fenced.clear()
    else:
        stage.cluster.signal_daemon(node, signal.SIGCONT)
    vm.wait_ticking()
    said = f"node fenced after {found.fenced_s:.0f} s" if found.fenced_s else "nobody was fenced"
    found.notes["daemon"] = f"holdfastd stopped for {watch_s:g} s: {said}; the VM {went}"
    vm.mend(node)
    return found


def measure_ours(stage: ClusterStage, plan: Plan, vm: HoldfastVm, found: Found) -> None:
    for cause in CAUSES[:-1]:
        found.failures[cause] = []
        for _ in range(plan.failures):
            vm.wait_ticking()
            found.failures[cause].append(fail_and_mend(stage, vm, cause))
        found.stops_ms += [f.stop_ms for f in found.failures[cause] if f.stop_ms]
    found.failures["nodeloss"] = lose_nodes(stage, vm, plan.node_losses)


def kill_pairs(stage: ClusterStage, count: int) -> list[float]:
    """Leaves the last one in the cluster, which ends with it."""
    vm = PairVm(stage.cluster, "pair")
    vm.start()
    return [vm.kill() for _ in range(count)]


# --- both ----------------------------------------------------------------------------------------

def noted(name: str, values: Sequence[float], theirs: Sequence[float], note: Optional[str]
          ) -> NotedRow:
    return NotedRow(name, median(values), "ms", quantile(values, 0.99), len(values),
                    median(theirs) if theirs else None, note)


def rows_of(ours: Found, theirs: Found) -> Iterator[Row]:
    for cause in CAUSES:
        for what, moment in (("first_action", "first"), ("running_again", "running")):
            yield noted(f"{cause}_{what}", ours.times(cause, moment), theirs.times(cause, moment),
                        theirs.notes.get(cause))
    yield noted("stop_failed_vm", ours.stops_ms, theirs.stops_ms,
                OTHER_STOP if theirs.stops_ms else None)
    detected = [(f.first_ns - f.detected_ns) / 1e6 for f in ours.failures["hang"] if f.detected_ns]
    yield noted("hang_detected_first_action", detected, (),
                f"hang-timeout is {clusterstage.HANG_TIMEOUT_S} s")
    yield noted("clone_kill_running_again", ours.clone_ms, theirs.times("kill", "running"), None)
    yield fenced_row(ours, theirs)


def fenced_row(ours: Found, theirs: Found) -> Row:
    value = float(ours.fenced_s is not None)
    other = theirs.notes.get("daemon")
    return NotedRow("daemon_hung_fenced", value, "count", value, 1,
                    float(theirs.fenced_s is not None) if other else None,
                    "; ".join(filter(None, (ours.notes.get("daemon"), other))))


def measure_pacemaker(plan: Plan, wanted: set[str]) -> Iterator[Row]:
    """All rows at once: they share a cluster."""
    has_libvirt = not lablibvirt.lacks()
    random.seed(plan.seed)
    with ClusterStage(has_libvirt) as stage:
        vm = HoldfastVm(stage.cluster, stage.log, "hf")
        with stage.running(vm), ThreadPoolExecutor(1) as pool:
            hung = pool.submit(hang_holdfastd, stage, vm, plan.hung_s)
            theirs = measure_theirs(stage, plan) if has_libvirt else Found()
            ours = hung.result()
            measure_ours(stage, plan, vm, ours)
        if has_libvirt and not plan.is_quick:
            lose_theirs(stage, plan, theirs)
        ours.clone_ms = kill_pairs(stage, plan.node_losses)
    if not has_libvirt:
        theirs.notes = {cause: f"VirtualDomain: {lablibvirt.lacks()}" for cause in CAUSES}
    for row in rows_of(ours, theirs):
        if row.name in wanted:
            yield row
