#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemons of two hosts, and the VMs that both may run: one definition file, started on either,
stopped on either; the standby comes by itself, also after a failover; strangers are turned away.

usage: test-peers.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import json
import os
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from checks import check, expect, main, poll, say

# pylint: disable=wrong-import-position
from lablease import CallError  # noqa: E402
from labpeers import PeerPair  # noqa: E402
from labpki import authority, host_folder, names  # noqa: E402

PORT = 7399


def is_primary(vm: dict[str, Any]) -> bool:
    return bool(vm["role"] == "primary" and vm["supervision"] == "up")


def is_protected(vm: dict[str, Any]) -> bool:
    return is_primary(vm) and bool(vm["protected"])


def is_standby(vm: dict[str, Any]) -> bool:
    return bool(vm["role"] == "standby" and vm["supervision"] == "up")


def is_off(vm: dict[str, Any]) -> bool:
    return bool(vm["supervision"] == "off" and not vm["keeper_pid"])


def tell(pair: PeerPair) -> None:
    for host in pair.hosts.values():
        if host.daemon:
            say(f"--- {host.host}")
            say(host.daemon.log_tail())


@check
def one_definition_protects_a_vm_on_two_hosts() -> None:
    """Started on one, stopped on the other, started there; a failover; protected again."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        try:
            pair.start()
            pair.wait_up()
            began = time.monotonic()
            one.start_vm("web")
            two.wait_vm("web", is_standby, "the standby has come by itself")
            shown = one.wait_vm("web", is_protected, "protected")
            say(f"start to protected: {time.monotonic() - began:.1f} s")
            expect((shown["host"], shown["peer_host"], shown["peer_life"])
                   == ("hostA", "hostB", "standby"), shown)
            expect(two.vm("web")["host"] == "hostA", two.vm("web"))

            two.stop_vm("web")  # by force, which reaches the other host, too
            one.wait_vm("web", is_off, "stopped where it ran")
            two.wait_vm("web", is_off, "and the standby with it")

            one.call("Start", vm="web", host="hostB")  # by the other one's daemon
            shown = two.wait_vm("web", is_protected, "runs on hostB, protected")
            expect(shown["host"] == "hostB", shown)
            expect(is_standby(one.vm("web")), one.vm("web"))

            os.kill(shown["qemu_pid"], signal.SIGKILL)
            one.wait_vm("web", is_primary, "the standby has gone live")
            one.wait_vm("web", is_protected, "and is protected again, by hostB")
            expect(is_standby(two.vm("web")), two.vm("web"))
            one.stop_vm("web")
            two.wait_vm("web", is_off, "the standby has ended")
        except BaseException:
            tell(pair)
            raise


@check
def a_host_that_comes_back_protects_again() -> None:
    """Both boot at once: it is started once. A host dies: the other goes on. Back from the dead it
    finds its VM running elsewhere, and stands by for it, without anybody's word."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web", extra="autostart = yes\n")
        try:
            for host in (one, two):  # neither waits for the other
                host.begin()
            for host in (one, two):
                host.wait_answers()
            one.wait_vm("web", is_protected, "the first host runs it")
            two.wait_vm("web", is_standby, "the second one does not")
            events = two.events()
            pair.lab.kill_host("hostA")
            two.wait_vm("web", is_primary, "the standby has gone live")
            events.wait("peer-down", match=lambda e: e["peer"] == "hostA")
            pair.lab.boot_host("hostA")
            one.forget_boot()
            one.start()
            one.wait_vm("web", is_standby, "it stands by where it ran")
            shown = two.wait_vm("web", is_protected, "protected again")
            expect(shown["host"] == "hostB" == one.vm("web")["host"], shown)
            events.wait("peer-up", match=lambda e: e["peer"] == "hostA")
            events.close()
        except BaseException:
            tell(pair)
            raise


def switches(pid: int) -> int:
    """How often a process has gone to sleep, until now."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines()
                if line.startswith("voluntary_ctxt_switches"))


@check
def nothing_is_said_where_nothing_changes() -> None:
    """Also of a VM that one of two peers has no definition of. A certificate that ends soon is told
    of once."""
    with PeerPair() as pair:
        one, two = pair.both()
        authority(pair.lab).host("hostB", names(pair.lab, "hostB"),
                                 host_folder(pair.lab, "hostB"), "--days", "5")
        pair.define("web")
        pair.define("lone", port=7402, hosts=("hostA",))
        try:
            pair.start()
            pair.wait_up()
            pids = [host.daemon.pid for host in (one, two)]
            poll(lambda: is_quiet(pids), "both are quiet", 30)
            told = [host.daemon.log.read_text().count("expires in") for host in (one, two)]
            expect(told == [0, 1], told)
        except BaseException:
            tell(pair)
            raise


def is_quiet(pids: list[int]) -> bool:
    before = [switches(pid) for pid in pids]
    time.sleep(1)
    return all(switches(pid) - was < 50 for pid, was in zip(pids, before))


@check
def definitions_that_differ_are_told() -> None:
    """No standby of something else; once they are equal it comes."""
    with PeerPair() as pair:
        one, two = pair.both()
        path, other = pair.define("web")
        text = other.read_text()
        pair.write("hostB", "web", text.replace("-m 16", "-m 24"))
        try:
            pair.start()
            pair.wait_up()
            one.start_vm("web")
            shown = two.wait_vm("web", lambda vm: vm["host"] == "hostA", "hostB knows")
            expect(shown["definitions_differ"] and not shown["keeper_pid"], shown)
            expect("differ" in shown["place_text"], shown)
            pair.write("hostB", "web", path.read_text())
            two.wait_vm("web", is_standby, "the standby has come")
            expect(not two.vm("web")["definitions_differ"], two.vm("web"))
            pair.write("hostA", "web", "nonsense\n")  # is told, and changes nothing
            one.wait_vm("web", lambda vm: vm["definition_error"], "the error is told")
            one.wait_vm("web", is_protected, "it runs on")
            expect(is_standby(two.vm("web")), two.vm("web"))
            one.stop_vm("web")
        except BaseException:
            tell(pair)
            raise


@check
def a_frozen_vm_goes_on_elsewhere() -> None:
    """Frozen under protection: the standby goes on, and where it was a new standby comes. Without one:
    the other host is the one that starts it."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        try:
            pair.start()
            pair.wait_up()
            events = two.events()
            one.start_vm("web")
            one.wait_vm("web", is_protected, "protected")
            one.keeper_call("web", "Freeze", reason="a test")
            shown = two.wait_vm("web", is_protected, "goes on on hostB, protected by hostA")
            expect(shown["host"] == "hostB" and shown["peer_frozen"] == 1, shown)
            frozen = one.vm("web")
            expect(is_standby(frozen) and len(frozen["frozen"]) == 1, frozen)
            seen = events.wait("peer-frozen", match=lambda e: e["vm"] == "web")
            expect(seen["peer"] == "hostA" and seen["id"] == frozen["frozen"][0], seen)

            os.kill(frozen["keeper_pid"], signal.SIGSTOP)  # no standby is in step now
            two.wait_vm("web", lambda vm: not vm["protected"], "unprotected")
            os.kill(frozen["keeper_pid"], signal.SIGKILL)
            events.close()
        except BaseException:
            tell(pair)
            raise


@check
def a_frozen_vm_without_a_standby_goes_on_elsewhere() -> None:
    """Its host asks the next one that it prefers, by name and once; and takes it back no more."""
    goes_on_elsewhere(has_leases=False)


@check
def and_so_it_does_under_a_lease() -> None:
    goes_on_elsewhere(has_leases=True)


def goes_on_elsewhere(has_leases: bool) -> None:
    with PeerPair(is_told=True, has_leases=has_leases) as pair:
        one, two = pair.both()
        pair.define_single("db")
        try:
            pair.start()
            pair.wait_up()
            one.start_vm("db")
            poll(lambda: two.vm("db")["host"] == "hostA", "hostB knows where it runs")
            try:
                two.call("Start", vm="db")
                raise AssertionError("it was started twice")
            except CallError as error:
                expect("hostA" in str(error), error)
            events = one.events()
            one.keeper_call("db", "Freeze", reason="a test")
            told = events.wait("recovered", match=lambda e: e["vm"] == "db")
            expect(told["peer"] == "hostB", told)
            two.wait_vm("db", is_primary, "runs on hostB")
            if has_leases:
                lease = one.call("Read", vm="db")["lease"]
                expect((lease["free"], lease["owner"]) == (False, "hostB"), lease)
            shown = one.wait_vm("db", lambda vm: vm["host"] == "hostB", "hostA knows")
            expect(shown["desired"] == "stopped" and len(shown["frozen"]) == 1, shown)
            one.kill()
            one.start()  # and asks nobody again
            pair.wait_up()
            expect(is_primary(two.vm("db")) and one.vm("db")["host"] == "hostB", one.vm("db"))
            expect([e["event"] for e in events.seen].count("recover-asked") == 1, events.seen)
            events.close()
        except BaseException:
            tell(pair)
            raise


@check
def where_no_other_host_can_be_asked_it_is_started_again() -> None:
    with PeerPair(is_told=True) as pair:
        one, two = pair.both()
        pair.define_single("db", extra="on-killed = failover\n")
        try:
            one.start()  # hostB is down
            before = one.start_vm("db")
            os.kill(before["qemu_pid"], signal.SIGKILL)
            after = one.wait_vm("db", lambda vm: vm["keeper_pid"] not in (0, before["keeper_pid"])
                                and is_primary(vm), "it runs again")
            expect(after["host"] == "hostA", after)
            two.start()
            pair.wait_up()
            expect(not two.vm("db")["keeper_pid"], "hostB starts it, too")
        except BaseException:
            tell(pair)
            raise


@check
def nothing_waits_for_a_daemon_that_hangs() -> None:
    """It is told; VMs are started meanwhile; and it is in touch again when it goes on."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        try:
            pair.start()
            pair.wait_up()
            events = one.events()
            hung = two.daemon_pid()
            os.kill(hung, signal.SIGSTOP)
            try:
                began = time.monotonic()
                one.start_vm("web")
                expect(time.monotonic() - began < 10.0, "the start has waited")
                events.wait("peer-down", 60.0, match=lambda e: e["peer"] == "hostB")
                expect(is_primary(one.vm("web")), one.vm("web"))
            finally:
                os.kill(hung, signal.SIGCONT)
            events.wait("peer-up", 60.0, match=lambda e: e["peer"] == "hostB")
            one.wait_vm("web", is_protected, "protected once the other daemon goes on")
            events.close()
            one.stop_vm("web")
        except BaseException:
            tell(pair)
            raise


@check
def strangers_are_turned_away_and_told_of_once() -> None:
    """One with a certificate of nobody's peer, one with another name than its certificate, one that
    gives orders for a VM that is not shared, one that speaks plainly."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        try:
            pair.start()
            pair.wait_up()
            two.stop()  # it would take its place back from who speaks in its name
            for _ in range(3):
                strangers(pair)
            assert one.daemon
            log = one.daemon.log_tail()
            for what in ("certificate of hostC", "is not that one's", "does not speak TLS",
                         "'db' is not shared"):
                expect(log.count(what) == 1, f"{what}: {log.count(what)} times in {log}")
            two.start()
            pair.wait_up()
        except BaseException:
            tell(pair)
            raise


def talk(pair: PeerPair, cert: Path, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """To hostA's daemon, from hostB's network, with the certificate of that folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cert / "ca-cert.pem")
    context.load_cert_chain(cert / "client-cert.pem", cert / "client-key.pem")
    context.check_hostname = False
    replies = []
    with pair.lab.socket("hostB", socket.SOCK_STREAM, socket.AF_INET) as raw:
        raw.settimeout(20.0)
        raw.connect((pair.lab.repl_addr("hostA"), PORT))
        with context.wrap_socket(raw) as sock:
            for method, parameters in calls:
                sock.sendall(json.dumps({"method": f"org.holdfast.Peer.{method}",
                                         "parameters": parameters}).encode() + b"\0")
                data = b""
                while not data.endswith(b"\0"):
                    more = sock.recv(65536)
                    if not more:
                        return replies
                    data += more
                replies.append(json.loads(data[:-1]))
    return replies


def hello(host: str, to: str = "hostA") -> tuple[str, dict[str, Any]]:
    return "Hello", {"version": 1, "host": host, "to": to, "instance": 7, "after": 0}


def strangers(pair: PeerPair) -> None:
    good = host_folder(pair.lab, "hostB")
    other = pair.lab.work / "hostC"
    if not other.exists():
        authority(pair.lab).host("hostC", [], other)
    for cert, calls in ((other, [hello("hostC")]),  # signed, and nobody's peer
                        (good, [hello("hostC")])):  # another name than its certificate
        try:
            replies = talk(pair, cert, *calls)
        except OSError:
            replies = []
        expect(all(r.get("error") for r in replies), replies)
    order = {"vm": "db", "is_fresh": False, "lver": 0, "id": "", "cause": ""}
    replies = talk(pair, good, hello("hostB"), ("Start", order), ("Ping", {}))
    expect(replies[1]["error"] == "org.holdfast.Peer.NotShared", replies)
    expect("error" not in replies[2], replies)
    expect(talk(pair, good, ("Ping", {}))[0]["error"] == "org.holdfast.Peer.Unknown", "no Hello")
    with pair.lab.socket("hostB", socket.SOCK_STREAM, socket.AF_INET) as raw:
        raw.settimeout(20.0)
        raw.connect((pair.lab.repl_addr("hostA"), PORT))
        raw.sendall(b'{"method":"org.holdfast.Peer.Ping"}\0')
        try:
            expect(b"parameters" not in raw.recv(4096), "an answer without TLS")
        except OSError:
            pass


if __name__ == "__main__":
    sys.exit(main())
