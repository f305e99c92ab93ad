#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""holdfastd and its commands: two hosts with one lease area, commands that run under leases, and
daemons that are killed, stopped, restarted, or cannot reach their storage.

usage: test-daemon.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import json
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Iterator

from checks import check, expect, main, poll

# pylint: disable=wrong-import-position
from lab import Lab  # noqa: E402
from lablease import CallError, HoldfastHost, LeaseArea, WitnessArea  # noqa: E402
from leaseformat import RawDisk, read_slot  # noqa: E402
from labnet import Proc, tool  # noqa: E402

FENCE_S = 6.0
PROFILE = {"renew": "500ms", "fence": "6s", "stop": "1500ms"}
OWNED, LOST, STORAGE, NO_DAEMON, FAILED, USAGE = 5, 6, 4, 3, 1, 2
TICK = 'while :; do echo x >>ticks; sleep 0.05; done'


@contextmanager
def hosts(n: int = 2, is_started: bool = True, area_of: type = LeaseArea) -> \
        Iterator[tuple[HoldfastHost, ...]]:
    names = ("hostA", "hostB", "witness")
    with Lab(names) as lab:
        area = area_of(lab, "witness") if area_of is WitnessArea else area_of(lab)
        area.init()
        all_of_them = tuple(HoldfastHost(lab, name, area, i, **PROFILE)
                            for i, name in enumerate(names[:n], 1))
        if is_started:
            for host in all_of_them:
                host.start(is_joined=False)
            for host in all_of_them:
                host.wait_joined()
        yield all_of_them


def run(host: HoldfastHost, *argv: str, timeout_s: float = 60.0) -> tuple[int, str]:
    """holdfast ARGV on a host: its exit status, and all that it says."""
    done = host.lab.run(host.host, ["env", f"HOLDFAST_RUN_DIR={host.run_dir}",
                                    tool("src/cli/holdfast"), *argv], timeout_s, check=False)
    return done.returncode, done.stdout + done.stderr


def ticks(host: HoldfastHost) -> int:
    path = host.lab.host_dir(host.host) / "ticks"
    return path.stat().st_size if path.exists() else 0


def is_running(host: HoldfastHost) -> bool:
    """Does the command that ticks get on?"""
    before = ticks(host)
    time.sleep(0.5)
    return ticks(host) > before


def hold_ticking(host: HoldfastHost, vm: str) -> Proc:
    holder = host.hold(vm, "sh", "-c", TICK)
    poll(lambda: ticks(host), f"the command of {vm} runs")
    return holder


def spawn_await(host: HoldfastHost, vm: str, *argv: str) -> tuple[Proc, str]:
    """A running `lease await`, and the generation that it has printed."""
    proc = host.lab.spawn(host.host, [tool("src/cli/holdfast"), "lease", "await", vm, "--json",
                                      "--run-dir", host.run_dir, "--", *argv], name="await")
    poll(lambda: "host_id" in proc.log.read_text(), "await is ready")
    line = next(x for x in proc.log.read_text().splitlines() if "host_id" in x)
    ready = json.loads(line)
    expect(ready["host_id"] == host.host_id, ready)
    return proc, str(ready["generation"])


def error_of(host: HoldfastHost, method: str, **parameters: object) -> str:
    try:
        host.call(method, **parameters)
    except CallError as error:
        return error.name
    return ""


# --- owning --------------------------------------------------------------------------------------

@check
def a_lease_has_one_owner() -> None:
    with hosts() as (a, b):
        expect(run(a, "lease", "acquire", "vm1", "--", "true")[0] == FAILED, "there was no lease")
        expect(run(a, "lease", "create", "vm1") == (0, ""), "no lease was made")
        holder = a.hold("vm1", "sleep", "1000")
        poll(lambda: a.lease("vm1")["held"], "it is held")
        for host in (a, b):
            code, said = run(host, "lease", "acquire", "vm1", "--", "touch", "stolen")
            expect(code == OWNED, (host.host, code, said))
        listed = json.loads(run(b, "lease", "list", "--json")[1])
        expect([(x["vm"], x["owner"], x["free"], x["held"]) for x in listed]
               == [("vm1", "hostA", False, False)], listed)
        expect(len(a.lease("vm1")["pids"]) == 2, a.lease("vm1"))
        holder.signal(signal.SIGTERM)
        expect(holder.wait(30.0) == 128 + signal.SIGTERM, holder.log_tail())
        code, said = run(b, "lease", "acquire", "vm1", "--", "sh", "-c", "echo it runs; exit 7")
        expect((code, said) == (7, "it runs\n"), (code, said))
        poll(lambda: b.lease("vm1")["free"], "it is free again")
        expect(not (a.lab.host_dir("hostA") / "stolen").exists(), "it ran without its lease")


@check
def who_waits_gets_it() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        for waiting, holding in ((b, a), (a, a)):
            holder = holding.hold("vm1", "sleep", "1000")
            poll(lambda: holding.lease("vm1")["held"], "it is held")
            waiter = waiting.lab.spawn(
                waiting.host, [tool("src/cli/holdfast"), "lease", "acquire", "vm1", "--wait", "60",
                               "--run-dir", waiting.run_dir, "--", "true"], name="waiter")
            time.sleep(1.0)
            expect(waiter.is_running(), waiter.log_tail())
            holder.signal(signal.SIGTERM)
            expect(waiter.wait(60.0) == 0, waiter.log_tail())
            expect(holder.wait(30.0) == 128 + signal.SIGTERM, holder.log_tail())


@check
def a_killed_holder_gives_it_back() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        events = a.events()
        holder.kill()
        events.wait("keeper-died")
        events.wait("lease-released")
        expect(not is_running(a), "the command lives on")
        expect(run(b, "lease", "acquire", "vm1", "--", "true")[0] == 0, "it is not free")


@check
def a_lease_that_is_pledged_is_not_given_back() -> None:
    with hosts() as (a, b):
        with a.connect() as keeper:
            lver = keeper("Acquire", vm="vm1", create=True)["lver"]
            keeper("Hold", vm="vm1", lver=lver, pids=[])
            keeper("Pledge", vm="vm1", is_pledged=True)
            expect(a.lease("vm1")["pledged"], a.lease("vm1"))
            expect(error_of(b, "Acquire", vm="vm1", wait_ms=0) == "Owned", "it was taken")
        with b.connect() as standby:  # which was told lver as its consent
            standby.send("Claim", is_more=True, vm="vm1", lver=lver)
            while (said := standby.reply())["state"] == "pending":
                pass
            expect((said["state"], said["lver"]) == ("won", lver + 1), said)
            with a.connect() as late:
                late.send("Claim", is_more=True, vm="vm1", lver=lver)
                while (said := late.reply())["state"] == "pending":
                    pass
                expect((said["state"], said["owner"]) == ("lost", "hostB"), said)
            standby("Release", vm="vm1")


# --- giving --------------------------------------------------------------------------------------

@check
def a_lease_is_given_to_who_awaits_it() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        before = a.read("vm1")
        waiter, generation = spawn_await(b, "vm1", "sh", "-c", TICK)
        to = ("--to", "hostB", "--generation", generation)
        code, said = run(a, "lease", "transfer", "vm1", *to)
        expect(code == FAILED and "is held by process" in said, (code, said))
        expect(is_running(a), "the holder was disturbed")
        code, said = run(a, "lease", "transfer", "vm1", "--to", "2", "--generation", "77")
        expect(code == FAILED and "living member" in said, (code, said))
        expect(ticks(b) == 0, "it ran before it owned the lease")
        code, said = run(a, "lease", "transfer", "vm1", *to, "--from-held", "--json")
        expect(code == 0 and json.loads(said)["lver"] == before.lver + 1, (code, said))
        poll(lambda: ticks(b), "the command runs on the other host")
        expect(holder.wait(30.0) == 128 + signal.SIGTERM, holder.log_tail())
        expect(not is_running(a) and is_running(b), "where it runs")
        expect(b.read("vm1").owner == 2, b.read("vm1"))
        waiter.signal(signal.SIGTERM)
        expect(waiter.wait(30.0) == 128 + signal.SIGTERM, waiter.log_tail())
        poll(lambda: b.lease("vm1")["free"], "it is free at the end")


@check
def who_is_given_nothing_is_told() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        code, said = run(b, "lease", "await", "vm1", "--timeout", "1", "--", "touch", "stolen")
        expect(code == FAILED and "was not given to this host" in said, (code, said))
        code, said = run(a, "lease", "transfer", "vm1", "--to", "nobody", "--generation", "1")
        expect(code == FAILED and "no host 'nobody'" in said, (code, said))
        code, said = run(a, "lease", "transfer", "vm1", "--to", "2", "--generation",
                         str(b.generation))
        expect(code == FAILED and "nobody owns" in said, (code, said))


@check
def a_request_ends_the_holder() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        for options, ended_by in (([], signal.SIGTERM), (["--force"], signal.SIGKILL)):
            holder = hold_ticking(a, "vm1")
            events = a.events()
            expect(run(b, "lease", "request", "vm1", *options)[0] == 0, "not asked")
            events.wait("lease-requested")
            events.wait("lease-released")
            code = holder.wait(30.0)
            expect(code in (128 + ended_by, -ended_by), (code, holder.log_tail()))
            (a.lab.host_dir("hostA") / "ticks").unlink()
        code, said = run(b, "lease", "request", "vm1")
        expect(code == FAILED and "nobody owns" in said, (code, said))


# --- daemons that go and come --------------------------------------------------------------------

@check
def a_killed_daemon_is_resumed() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        before, generation = a.read("vm1"), a.generation
        for _ in range(3):
            a.kill()
            a.start()
            poll(lambda: a.lease("vm1")["held"], "its holder has come back")
            expect(error_of(b, "Acquire", vm="vm1", wait_ms=0) == "Owned", "it was taken")
        expect((a.generation, a.read("vm1")) == (generation, before), a.read("vm1"))
        expect(is_running(a), "the command was disturbed")
        expect("stopped" not in holder.log.read_text(), holder.log_tail())
        holder.signal(signal.SIGTERM)
        expect(holder.wait(30.0) == 128 + signal.SIGTERM, holder.log_tail())
        poll(lambda: a.lease("vm1")["free"], "it is free at the end")


@check
def a_holder_that_ends_while_there_is_no_daemon() -> None:
    with hosts() as (a, b):
        for vm in ("vm1", "vm2"):
            a.create(vm)
        lives, dies = a.hold("vm2", "sleep", "1000"), a.hold("vm1", "sleep", "1000")
        for vm in ("vm1", "vm2"):
            poll(lambda: len(a.lease(vm)["pids"]) == 2, "it is held")
        generation = a.generation
        a.kill()
        dies.kill()
        a.start()
        poll(lambda: a.lease("vm1")["free"], "what nobody holds any more is given back")
        poll(lambda: a.lease("vm2")["held"], "the other holder has come back")
        expect(a.generation == generation, "it has joined anew")
        expect(error_of(b, "Acquire", vm="vm2", wait_ms=0) == "Owned", "it was taken")
        lives.signal(signal.SIGTERM)
        lives.wait(30.0)


@check
def a_daemon_that_ends_keeps_the_place_of_what_runs() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        generation = a.generation
        holder = hold_ticking(a, "vm1")
        expect(a.stop() == 0, a.daemon.log_tail() if a.daemon else "")
        expect("is kept" in a.daemon.log.read_text(), a.daemon.log_tail())
        a.start()
        poll(lambda: a.lease("vm1")["held"], "its holder has come back")
        expect(a.generation == generation and is_running(a), "it was disturbed")
        holder.signal(signal.SIGTERM)
        holder.wait(30.0)
        poll(lambda: a.lease("vm1")["free"], "it is free")
        events = b.events()
        expect(a.stop() == 0, "it does not end")
        events.wait("host-left")
        a.start()
        expect(a.generation == generation + 1, "it had not left")


@check
def a_daemon_that_hangs_stops_the_command_in_time() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        before = a.read("vm1")
        assert a.daemon
        a.daemon.signal(signal.SIGSTOP)
        hung = time.monotonic()
        poll(lambda: "is stopped" in holder.log.read_text(), "the command is stopped")
        expect(time.monotonic() - hung < FENCE_S, "it was stopped too late")
        expect(not is_running(a), "it runs on")
        a.daemon.signal(signal.SIGCONT)
        poll(lambda: "goes on" in holder.log.read_text(), "the lease is claimed again")
        expect(is_running(a), "it does not go on")
        expect(a.read("vm1").lver == before.lver + 1, a.read("vm1"))
        expect(b.read("vm1").owner == 1, b.read("vm1"))
        holder.signal(signal.SIGTERM)
        holder.wait(30.0)


@check
def a_command_whose_lease_is_lost_is_killed() -> None:
    with hosts() as (a, b):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        events = b.events()
        assert a.daemon
        a.daemon.signal(signal.SIGSTOP)
        # Whoever waits gets it once the host is dead; nothing runs there by then.
        winner = b.lab.spawn(b.host, [tool("src/cli/holdfast"), "lease", "acquire", "vm1",
                                      "--wait", "60", "--run-dir", b.run_dir, "--", "sh", "-c",
                                      TICK], name="winner")
        poll(lambda: ticks(b), "the other host takes over", 60.0)
        seen = ticks(a)
        events.wait("host-dead")
        a.daemon.signal(signal.SIGCONT)
        expect(holder.wait(30.0) == LOST, holder.log_tail())
        expect(ticks(a) == seen, "it ran while another host owned the lease")
        expect(is_running(b), winner.log_tail())
        winner.signal(signal.SIGTERM)
        winner.wait(30.0)


@check
def a_host_that_has_lost_its_place_joins_anew_when_nothing_runs() -> None:
    with hosts(1) as (a,):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        generation = a.generation
        # Somebody else's machine comes with our id; a renewal under way may write over it.
        with RawDisk(a.area.file, is_writable=True) as disk:
            while a.status()["state"] != "lost":
                slot, _ = read_slot(a.area.file, 1)
                disk.write(0, replace(slot, generation=slot.generation + 1).encode())
                time.sleep(1.0)
        expect(holder.wait(60.0) == LOST, holder.log_tail())
        expect(not is_running(a), "it runs on")
        poll(a.is_valid, "it joins anew", 60.0)
        expect(a.generation > generation and a.status()["held"] == 0, a.status())
        expect(run(a, "lease", "acquire", "vm1", "--", "true")[0] == 0, "not acquired anew")


@check
def systemd_is_told() -> None:
    with hosts(1, is_started=False) as (a,):
        a.write_config()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(a.lab.host_dir(a.host) / "notify"))
            manager.settimeout(60.0)
            daemon = a.lab.spawn(
                a.host, [tool("src/daemon/holdfastd"), "--config",
                         str(a.lab.self_dir / "holdfastd.conf")], name="holdfastd",
                env={"NOTIFY_SOCKET": f"{a.lab.self_dir}/notify", "WATCHDOG_USEC": "2000000"})
            said = [manager.recv(4096).decode() for _ in range(3)]
            expect("READY=1" in said and "WATCHDOG=1" in said, said)
            daemon.signal(signal.SIGTERM)
            while manager.recv(4096) != b"STOPPING=1":
                pass
            expect(daemon.wait(30.0) == 0, daemon.log_tail())


@check
def there_is_one_daemon() -> None:
    with hosts(1) as (a,):
        done = a.lab.run(a.host, [tool("src/daemon/holdfastd"), "--config",
                                  str(a.lab.self_dir / "holdfastd.conf")], check=False)
        expect(done.returncode == FAILED and "holdfastd is running already" in done.stderr,
               done)
        expect(a.is_valid(), "the first one was disturbed")
        # It is no VM.
        expect(json.loads(run(a, "list", "--json")[1]) == [], run(a, "list"))


# --- storage -------------------------------------------------------------------------------------

@check
def a_storage_that_comes_late_is_waited_for() -> None:
    with hosts(1, is_started=False, area_of=WitnessArea) as (a,):
        a.area.kill()
        a.start(is_joined=False)
        poll(lambda: a.status()["error"], "the daemon says what is wrong")
        status = a.status()
        expect((status["valid"], status["storage"]) == (False, "unreachable"), status)
        expect(run(a, "lease", "acquire", "vm1", "--", "true")[0] == STORAGE, "it was acquired")
        expect(run(a, "lease", "list")[0] == STORAGE, "it was listed")
        a.area.start()
        a.wait_joined()
        expect(run(a, "lease", "acquire", "vm1", "--create", "--", "true")[0] == 0, "not acquired")


@check
def a_storage_that_goes_stops_the_command() -> None:
    with hosts(1, area_of=WitnessArea) as (a,):
        a.create("vm1")
        holder = hold_ticking(a, "vm1")
        events = a.events()
        a.area.kill()
        events.wait("expired")
        poll(lambda: "is stopped" in holder.log.read_text(), "the command is stopped")
        expect(not is_running(a), "it runs on")
        expect(a.status()["storage"] == "unreachable", a.status())
        with a.connect() as asker:
            asker.send("Claim", is_more=True, vm="vm2", lver=1)
            said = asker.reply()
            expect(said["state"] == "pending" and said["reason"], said)
        a.area.start()
        events.wait("valid")
        poll(lambda: "goes on" in holder.log.read_text(), "the lease is claimed again")
        expect(is_running(a), "it does not go on")
        holder.signal(signal.SIGTERM)
        holder.wait(30.0)


# --- what is written -----------------------------------------------------------------------------

@check
def a_bad_file_is_refused() -> None:
    with hosts(1, is_started=False) as (a,):
        a.write_config()
        good = a.config.read_text()
        for text, said in ((good.replace("id = 1", "id = 0"), ":3:6: id: '0' is given"),
                           (good + "[lease]\n", "[lease] again"),
                           (good.replace("fence = 6s", "fence = 60s"), "8 times io-timeout"),
                           (good, "")):
            a.config.write_text(text)
            done = a.lab.run(a.host, [tool("src/daemon/holdfastd"), "--check-config", "--config",
                                      str(a.lab.self_dir / "holdfastd.conf")], check=False)
            expect(done.returncode == (USAGE if said else 0) and said in done.stderr,
                   (done.returncode, done.stderr))
        a.config.write_text(good.replace("lockspace = lab", "lockspace = other"))
        daemon = a.lab.spawn(a.host, [tool("src/daemon/holdfastd"), "--config",
                                      str(a.lab.self_dir / "holdfastd.conf")], name="other")
        poll(lambda: "cannot be opened" in daemon.log.read_text(), "another lockspace is told")
        expect(error_of(a, "Acquire", vm="vm1", wait_ms=0) == "NotMember", "it was acquired")


@check
def wrong_calls_are_answered() -> None:
    with hosts(1) as (a,):
        for method, parameters in (("Acquire", {}), ("Acquire", {"vm": "../x"}),
                                   ("Acquire", {"vm": "x" * 49}), ("Acquire", {"vm": 7}),
                                   ("Acquire", {"vm": "v", "wait_ms": -1}),
                                   ("Hold", {"vm": "v", "pids": [0]}),
                                   ("Hold", {"vm": "v", "pids": list(range(1, 20))}),
                                   ("Pledge", {"vm": "v"}), ("Transfer", {"vm": "v"})):
            expect(error_of(a, method, **parameters) == "org.varlink.service.InvalidParameter",
                   (method, parameters))
        expect(error_of(a, "Claim", vm="v", lver=1) == "org.varlink.service.ExpectedMore", "Claim")
        expect(error_of(a, "Release", vm="v") == "NotPossible", "what is not held was released")
        expect(error_of(a, "Hold", vm="v", lver=3, pids=[1]) == "NoLease", "a lease was made up")
        a.create("vm1")
        expect(error_of(a, "Hold", vm="vm1", lver=3, pids=[1]) == "Lost", "what is free was held")
        expect(a.status()["held"] == 0, a.status())
        expect(run(a, "lease", "acquire", "vm1")[0] == USAGE, "without a command")
        expect(run(a, "hosts", "x")[0] == USAGE, "hosts of what?")


@check
def without_a_daemon_that_is_said() -> None:
    with hosts(1, is_started=False) as (a,):
        for argv in (["hosts"], ["lease", "list"], ["lease", "acquire", "v", "--", "true"]):
            code, said = run(a, *argv)
            expect(code == NO_DAEMON and "no holdfastd is running" in said, (argv, code, said))


# --- VMs of dead hosts ---------------------------------------------------------------------------

FAKE = """#!/bin/sh
echo "$@" >>started
shift
exec {holdfast} lease acquire "$1" --run-dir "$3" -- sh -c '{tick}'
"""


@check
def the_vm_of_a_dead_host_is_started_where_it_is_preferred() -> None:
    with hosts(3, is_started=False) as (a, b, c):
        fake = a.lab.work / "holdfast"
        fake.write_text(FAKE.format(holdfast=tool("src/cli/holdfast"), tick=TICK))
        fake.chmod(0o755)
        os.environ["HOLDFAST"] = str(fake)
        for host in (a, b, c):
            host.start(is_joined=False)
            for vm, takeover in (("vm1", "yes"), ("vm2", "yes"), ("vm3", "no")):
                (host.lab.host_dir(host.host) / "vms" / f"{vm}.conf").write_text(
                    f"[vm]\nargs = -m 1G\ntakeover = {takeover}\nprefer = witness, hostB\n")
        for host in (a, b, c):
            host.wait_joined()
        for vm in ("vm1", "vm2", "vm3"):
            a.create(vm)
        with a.connect() as holder:
            for vm in ("vm1", "vm2", "vm3"):
                holder("Acquire", vm=vm)
            holder("Release", vm="vm2")  # in order: it stays down
            events = c.events()
            a.die()
            events.wait("takeover-started", match=lambda e: e["vm"] == "vm1")
        poll(lambda: ticks(c), "it runs")
        poll(lambda: c.lease("vm1")["held"], "its keeper holds the lease")
        started = (c.lab.host_dir(c.host) / "started").read_text().split()
        expect(started[:2] == ["run", "vm1"], started)
        time.sleep(1.5)  # longer than the next one waits
        expect(not (b.lab.host_dir(b.host) / "started").exists(), "it was started twice")
        expect((b.read("vm1").owner, b.lease("vm2")["free"], b.read("vm3").owner) == (3, True, 1),
               b.call("Leases"))


if __name__ == "__main__":
    sys.exit(main())
