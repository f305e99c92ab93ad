#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keepers talk over TLS. Whoever is not the peer is turned away, told once, and keeps nobody out:
strangers of every kind against a protected VM, which then fails over; and what an administrator gets
wrong with certificates."""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Callable, Optional

from checks import check, expect, main, poll
from labpki import PLAIN, Authority, authority, copy, holdfast, host_folder, names, pki
from labvm import KEEPER_PORT
from protected import Keeper, Load, Pair
from wirepeer import HELLO, MAGIC, REFUSE, Hello, Link, message

ETH_P_ALL = 3
PAST = ("--valid-from", "2020-01-01", "--days", "30")
FUTURE = ("--valid-from", "2090-01-01", "--days", "30")
TIMES = 3  # that each stranger knocks
HALF_OPEN = 12  # more than a keeper lets stand in its door


def connect(pair: Pair, source: str, target: str) -> socket.socket:
    sock = pair.lab.socket(source, socket.SOCK_STREAM)
    sock.settimeout(15)
    sock.connect((pair.lab.repl_addr(target), KEEPER_PORT))
    return sock


def wait_closed(sock: socket.socket) -> bytes:
    """What the keeper still says before it closes."""
    said = b""
    try:
        while data := sock.recv(65536):
            said += data
    except OSError:
        pass
    return said


def context(folder: Optional[Path]) -> ssl.SSLContext:
    """A client that shows what is in a folder and accepts whatever it is shown."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    if folder:
        found.load_cert_chain(folder / "client-cert.pem", folder / "client-key.pem")
    return found


def knock(pair: Pair, source: str, target: str, ctx: ssl.SSLContext, words: bytes = b"") -> bytes:
    """All that a keeper says to a stranger over TLS: a keeper's HELLO if it lets it in."""
    with connect(pair, source, target) as sock:
        try:
            with ctx.wrap_socket(sock) as tls:
                tls.sendall(words)
                return wait_closed(tls)
        except OSError:
            return b""


def turned_away(keeper: Keeper, why: str) -> int:
    return sum("turned away" in line and why in line for line in keeper.log().splitlines())


def compose(pair: Pair, vm: str) -> bytes:
    """An inquirer's HELLO, made from nothing but the document."""
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value)) + value.encode() + b"\0"

    rest = struct.pack("<QII", 0, 4096, 0) + text("0.1") + text(vm) + text("") + text("") + \
        text("") + struct.pack("<HHH", 0, 0, 0)
    return message(HELLO, Hello(1, 1, 3, 0, os.urandom(16), bytes(16), 0, rest).encode())


# --- strangers -----------------------------------------------------------------------------------

def bad_folders(pair: Pair) -> dict[str, Path]:
    """What strangers show, by the reason for which they are to be turned away."""
    ours, work = authority(pair.lab), pair.lab.work
    like = ("hostA", names(pair.lab, "hostA"))
    found = {
        "is not accepted": Authority(work / "other-ca").host(*like, work / "other"),
        "has expired: on 2020-01-31": ours.host(*like, work / "expired", *PAST),
        "is not valid yet: from 2090-01-01": ours.host(*like, work / "future", *FUTURE),
        "shows a certificate of vm1, 10.9.9.9, not of": ours.host("vm1", ["10.9.9.9"],
                                                                    work / "name"),
        "has been revoked": ours.host(*like, ours.folder / "revoked"),
    }
    pki("revoke", "revoked", "--dir", str(ours.folder))
    return found


def strangers(pair: Pair, target: str) -> dict[str, Callable[[], bytes]]:
    """Reason to be turned away -> what knocks once."""
    def old() -> bytes:
        ctx = context(host_folder(pair.lab, "hostA"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ctx.maximum_version = ssl.TLSVersion.TLSv1_2
        return knock(pair, "hostA", target, ctx)

    def says(words: bytes) -> Callable[[], bytes]:
        def act() -> bytes:
            with connect(pair, "hostA", target) as sock:
                sock.sendall(words)
                said = wait_closed(sock)
                return said if said[:1] != b"\x15" else b""  # an alert says nothing of the VM
        return act

    def shows(folder: Optional[Path]) -> Callable[[], bytes]:
        return lambda: knock(pair, "hostA", target, context(folder))

    return {
        **{why: shows(folder) for why, folder in bad_folders(pair).items()},
        "shows no certificate": shows(None),
        "does not speak TLS 1.3": old,
        "does not speak TLS; if it is the peer": says(compose(pair, "vm1")),
    }


def knock_at(pair: Pair, keeper: Keeper) -> None:
    everybody = strangers(pair, keeper.host)
    for host in ("hostA", "hostB"):
        copy_list(pair, host)
    for why, stranger in everybody.items():
        for _ in range(TIMES):
            said = stranger()
            expect(said == b"", f"told to one who {why}: {said!r}")
        poll(lambda reason=why: turned_away(keeper, reason) > 0, f"\"{why}\" in the log", 20)
        expect(turned_away(keeper, why) == 1, f"{why}: {keeper.log()}")


def copy_list(pair: Pair, host: str) -> None:
    """As an administrator would who has revoked something."""
    new = host_folder(pair.lab, host) / "ca-crl.new"
    new.write_bytes((authority(pair.lab).folder / "ca-crl.pem").read_bytes())
    new.rename(new.with_suffix(".pem"))


def another_vm(pair: Pair, keeper: Keeper) -> None:
    """The right host, with a VM that is not this one."""
    for _ in range(TIMES):
        folder = host_folder(pair.lab, "hostA")
        with connect(pair, "hostA", keeper.host) as sock, context(folder).wrap_socket(sock) as tls:
            tls.sendall(compose(pair, "another"))
            with Link(tls) as link:
                kind = (link.receive() or (0, b""))[0]
            expect(kind == REFUSE, f"message {kind} for another VM")
    expect(turned_away(keeper, "another") == 1, keeper.log())


class HalfOpen:
    """Connections that stop in the middle of the handshake, again and again, as many as there may
    be and more, until the end of the with."""

    def __init__(self, pair: Pair, source: str, target: str):
        self.pair, self.source, self.target = pair, source, target
        self.socks: list[socket.socket] = []

    def refill(self) -> None:
        for sock in self.socks:
            sock.close()
        self.socks = [connect(self.pair, self.source, self.target) for _ in range(HALF_OPEN)]
        for i, sock in enumerate(self.socks):
            sock.sendall(bytes([22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]) if i % 2 else b"")

    def __enter__(self) -> "HalfOpen":
        self.refill()
        return self

    def __exit__(self, *unused: object) -> None:
        for sock in self.socks:
            sock.close()


def protected_in_a_crowd(pair: Pair) -> None:
    """The standby dies, and another is filled while others stand half open in both doors."""
    pair.standby.proc.kill()
    pair.standby.exit_code()
    pair.primary.wait("alone")
    pair.standby = pair.start_standby("hostB", "hostA")
    with HalfOpen(pair, "hostB", "hostA") as a, HalfOpen(pair, "hostA", "hostB") as b:
        until = time.monotonic() + 60
        while not pair.standby.seen("ready"):
            expect(time.monotonic() < until, f"not protected: {pair.standby.log()}")
            a.refill()
            b.refill()
            time.sleep(0.3)
        poll(lambda: turned_away(pair.standby, "in the middle of the TLS handshake") > 0,
             "the half-open ones in the log")
    pair.wait_protected()


class Sniffer:
    """All frames on a host's replication interface, from now on."""

    def __init__(self, pair: Pair, host: str):
        self.sock = pair.lab.socket(host, socket.SOCK_RAW, socket.AF_PACKET, socket.htons(ETH_P_ALL))
        self.sock.bind(("repl0", 0))
        self.sock.setblocking(False)

    def frames(self) -> bytes:
        found = []
        try:
            while True:
                found.append(self.sock.recv(1 << 17))
        except BlockingIOError:
            return b"".join(found)


def nothing_readable(pair: Pair) -> None:
    """Not a word of the protocol on the wire, of which each message begins with the same bytes."""
    sniffer = Sniffer(pair, "hostA")
    seen = b""
    until = time.monotonic() + 30
    while len(seen) < 300_000 and time.monotonic() < until:
        time.sleep(0.2)
        seen += sniffer.frames()
    expect(len(seen) >= 300_000, f"only {len(seen)} bytes between the hosts")
    expect(struct.pack("<I", MAGIC) not in seen, "a message in the clear")
    sniffer.sock.close()


@check
def strangers_and_a_failover() -> None:
    with Pair() as pair:
        load = Load(pair)
        expect(pair.primary.status()["encryption"] == "tls", pair.primary.status())
        nothing_readable(pair)
        knock_at(pair, pair.standby)
        another_vm(pair, pair.standby)
        expect(pair.primary.status()["protected"], "strangers have cost the protection")
        expect(not pair.primary.seen("alone"), pair.primary.log())
        load.wait_progress()
        protected_in_a_crowd(pair)
        load.wait_progress()
        pair.failover("keeper")
        load.wait_progress()
        pair.renew()
        pair.failover("host")
        load.wait_progress()
        load.finish()


# --- administrators ------------------------------------------------------------------------------

def fails(pair: Pair, host: str, folder: Path, *reasons: str) -> None:
    """A start with these certificates is refused, with words."""
    argv = pair.vm.side("standby", host, "hostA", ())
    argv[argv.index("--pki-dir") + 1] = str(pair.lab.self_dir / folder.name)
    done = pair.lab.run(host, argv, check=False)
    expect(done.returncode == 1, done)
    for reason in reasons:
        expect(reason in done.stderr, f"{reason} is not in: {done.stderr}")


def spoilt(pair: Pair, name: str, act: Callable[[Path], None]) -> Path:
    folder = pair.lab.host_dir("hostB") / name
    copy(host_folder(pair.lab, "hostB"), folder)
    act(folder)
    return folder


def folders_that_are_refused(pair: Pair) -> None:
    def swap(folder: Path) -> None:
        (folder / "server-key.pem").replace(folder / "client-key.pem")
        copied = (folder / "client-key.pem").read_bytes()
        key = folder / "server-key.pem"
        key.write_bytes(copied)
        key.chmod(0o600)

    fails(pair, "hostB", spoilt(pair, "gone", lambda f: (f / "server-cert.pem").unlink()),
          "server-cert.pem", "No such file", "holdfast-pki(1)")
    fails(pair, "hostB", spoilt(pair, "open", lambda f: (f / "client-key.pem").chmod(0o644)),
          "client-key.pem", "others can read")
    fails(pair, "hostB", spoilt(pair, "swapped", swap), "client-key.pem", "does not belong")


def lose_standby(pair: Pair) -> None:
    pair.standby.proc.kill()
    pair.standby.exit_code()
    pair.primary.wait("alone")


def log_of(keeper: Keeper, words: str) -> int:
    return sum(words in line for line in keeper.log().splitlines())


def one_side_is_plain(pair: Pair) -> None:
    """Neither way do they come together, and both say why, once, though they try every second."""
    at_primary, at_standby = "as one with encryption=plain would", "is its encryption=tls?"
    before = log_of(pair.primary, at_primary)  # a keeper that is being killed may look like it, too
    keeper = Keeper(pair.vm, "hostB", pair.vm.standby("hostB", "hostA", *PLAIN))
    poll(lambda: log_of(pair.primary, at_primary) > before, "the primary's reason")
    poll(lambda: turned_away(keeper, at_standby) > 0, "the standby's reason")
    time.sleep(2.5)  # two more attempts
    expect(log_of(pair.primary, at_primary) == before + 1, pair.primary.log())
    expect(turned_away(keeper, at_standby) == 1, keeper.log())
    expect(keeper.status()["encryption"] == "plain" and not keeper.seen("ready"), keeper.log())
    keeper.proc.kill()
    keeper.exit_code()
    keeper.close()


def an_expired_certificate(pair: Pair) -> None:
    """Refused by the peer, told by both; renewed in place, and all is well without a restart."""
    place = host_folder(pair.lab, "hostB")
    authority(pair.lab).host("hostB", names(pair.lab, "hostB"), place, *PAST)
    pair.standby = pair.start_standby("hostB", "hostA")
    poll(lambda: log_of(pair.primary, "has expired: on 2020-01-31") > 0, "the primary's reason")
    notes = pair.standby.status()["notes"]
    expect(any("expired" in note and "server-cert.pem" in note for note in notes), notes)
    time.sleep(2.5)
    expect(log_of(pair.primary, "has expired: on 2020-01-31") == 1, pair.primary.log())
    expect(not pair.standby.seen("ready"), "protected by an expired certificate")
    authority(pair.lab).host("hostB", names(pair.lab, "hostB"), place)
    pair.wait_protected()
    expect(not any("expired" in note for note in pair.standby.status()["notes"]), "an old note")


@check
def administrators_mistakes() -> None:
    with Pair() as pair:
        lose_standby(pair)
        folders_that_are_refused(pair)
        one_side_is_plain(pair)
        an_expired_certificate(pair)
        pair.failover("keeper")


# --- holdfast pki --------------------------------------------------------------------------------

def shows(folder: Path, *problems: str) -> None:
    """holdfast pki show, for people and as JSON."""
    for options in ((), ("--json",)):
        done = subprocess.run([holdfast(), "pki", "show", str(folder), *options],
                              stdout=subprocess.PIPE, text=True, check=False)
        expect(done.returncode == (1 if problems else 0), done)
        for problem in problems:
            expect(problem in done.stdout, f"{problem} is not in: {done.stdout}")
    seen = json.loads(done.stdout)
    expect(len(seen["problems"]) >= len(problems) and seen["certificates"], seen)
    for certificate in seen["certificates"]:
        expect(len(certificate["sha256"]) == 64 and certificate["until"], certificate)


@check
def folders_are_shown() -> None:
    with tempfile.TemporaryDirectory() as work:
        ca = Authority(Path(work) / "ca")
        good = ca.host("hosta", ["10.0.0.1", "fd00::1"], Path(work) / "good")
        shows(ca.folder)
        shows(good)
        expect("hosta, 10.0.0.1, fd00::1" in pki("show", str(good)), "its names")
        shows(ca.host("hosta", [], Path(work) / "old", *PAST), "server-cert.pem expired on",
              "client-cert.pem expired on")
        shows(ca.host("hosta", [], Path(work) / "early", *FUTURE), "not valid yet")
        shows(ca.host("hosta", [], Path(work) / "soon", "--days", "20"), "expires in 19 days")
        (good / "client-key.pem").chmod(0o640)
        shows(good)  # its group may read it
        (good / "client-key.pem").chmod(0o644)
        shows(good, "client-key.pem: others can read")
        again = subprocess.run([holdfast(), "pki", "init", str(ca.folder)],
                               stderr=subprocess.PIPE, text=True, check=False)
        expect(again.returncode == 1 and "exists already" in again.stderr, again)


if __name__ == "__main__":
    sys.exit(main())
