#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers that lie, babble, fall silent, or stop reading. The keeper says what is wrong, the guest is
not harmed, protection goes on or comes back, and nothing is leaked."""

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Callable

from checks import chance, check, expect, main, poll, say
from labpki import PLAIN
from protected import Keeper, Load, Pair
from wirepeer import (ACK, DEAD, DISCARDED, DISK, DISK_FLUSH, DISK_SYNC, DISK_WRITE, DISK_ZERO,
                      EPOCH_BEGIN, EPOCH_END, ERROR, HELLO, PAGES, PING, PRIMARY, PROMOTED, REFUSE,
                      STANDBY, STATE, SYNC_BEGIN, SYNC_DONE, Hello, Link, accept, crc32c, dial,
                      disk_payload, disk_record, inquire, listen, message)

PAGE = 4096
LEAK_MAX_KIB = 8 << 10


def descriptors(keeper: Keeper) -> int:
    return len(os.listdir(f"/proc/{keeper.pid}/fd"))


def private_kib(keeper: Keeper) -> int:
    """Memory of the keeper alone; guest RAM is shared with QEMU."""
    lines = Path(f"/proc/{keeper.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


class Unharmed:
    """with Unharmed(keeper): whatever happens inside leaves it with what it had before."""

    def __init__(self, *keepers: Keeper):
        self.before = [(keeper, descriptors(keeper), private_kib(keeper)) for keeper in keepers]

    def __enter__(self) -> "Unharmed":
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        if kind is not None:
            return
        for keeper, count, kib in self.before:
            poll(lambda: descriptors(keeper) <= count,
                 f"{keeper.host}: {count} descriptors again, not {descriptors(keeper)}")
            grown = private_kib(keeper) - kib
            expect(grown < LEAK_MAX_KIB, f"{keeper.host}: grown by {grown} KiB")


def pages(first: int, count: int, kind: int = 1) -> bytes:
    """A PAGES payload of one run; kind 1: zeros."""
    return struct.pack("<II24xQII", 1, 0, first, count, kind)


# --- strangers at the door -----------------------------------------------------------------------

def rude_words(good: Hello) -> dict[str, bytes]:
    """What a stranger may say first."""
    hello = good.as_role(PRIMARY if good.role == STANDBY else STANDBY).encode()
    right = message(HELLO, hello)
    return {
        "random bytes": chance.randbytes(5000),
        "HTTP": b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "half a header": right[:17],
        "half a HELLO": right[:100],
        "wrong header checksum": message(HELLO, hello, header_crc=1),
        "wrong payload checksum": message(HELLO, hello, payload_crc=1),
        "an oversized length": message(HELLO, hello, length=0x7FFFFFFF),
        "an unknown type": message(77),
        "no HELLO": message(PING, bytes(16)),
        "an empty HELLO": message(HELLO),
        "a long HELLO": message(HELLO, hello + bytes(100)),
        "version 99": message(HELLO, struct.pack("<HH", 99, 99) + hello[4:]),
        "another name": message(HELLO, hello.replace(b"vm1", b"vm9")),
        "the same role": message(HELLO, good.as_role(good.role).encode()),
    }


def refusal_of(said: list[tuple[int, bytes]]) -> int:
    codes = [struct.unpack_from("<I", payload)[0] for kind, payload in said if kind == REFUSE]
    return codes[0] if codes else 0


def be_rude_to(pair: Pair, source: str, keeper: Keeper, good: Hello) -> None:
    # One of the same role is not refused: of two primaries one may have to be told who is live.
    refusals = {"version 99": 1, "another name": 2}
    for what, words in rude_words(good).items():
        with dial(pair.lab, source, keeper.host) as link:
            link.send(words)
            link.sock.shutdown(socket.SHUT_WR)
            said = link.wait_end()
        expect(refusal_of(said) == refusals.get(what, 0), f"{what}: answered {said}")


def crowd_the_door(pair: Pair, source: str, keeper: Keeper) -> None:
    """More than it lets stand there; all are sent away in the end, though they never say a word."""
    links = [dial(pair.lab, source, keeper.host) for _ in range(20)]
    for link in links:
        expect(link.wait_end() == [], "words to one who has not said any")
        link.sock.close()


@check
def strangers_at_the_door() -> None:
    with Pair(PLAIN) as pair:
        load = Load(pair)
        # A first message to learn the form from: that of the primary to a stranger's inquiry is
        # needed to make one, so it is composed from what `status` says.
        with dial(pair.lab, "hostB", "hostA") as link:
            link.send(message(HELLO, compose(pair).encode()))
            good = Hello.decode(link.until(HELLO))
        with Unharmed(pair.primary, pair.standby):
            for source, keeper, role in (("hostB", pair.primary, PRIMARY),
                                         ("hostA", pair.standby, STANDBY)):
                be_rude_to(pair, source, keeper, inquire(pair.lab, source, keeper.host, good))
                crowd_the_door(pair, source, keeper)
                expect(inquire(pair.lab, source, keeper.host, good).role == role, "its role")
                for words in ("turned away: it does not speak", "checksum", "versions", "name"):
                    expect(words in keeper.log(), f"\"{words}\" is not in: {keeper.log()}")
        expect(pair.primary.seen("conflict"), "another primary was not worth an event")
        load.wait_progress()
        for keeper, words in ((pair.primary, ("alone", "holding")), (pair.standby, ("lost",))):
            expect(not any(keeper.seen(word) for word in words), keeper.log())
        pair.failover("host")
        load.wait_progress()
        load.finish()


def compose(pair: Pair) -> Hello:
    """An inquirer's HELLO, made from nothing but the document."""
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value)) + value.encode() + b"\0"

    rest = struct.pack("<QII", 0, PAGE, 0) + text("0.1") + text(pair.vm.name) + text("") + text("") + \
        text("") + struct.pack("<HHH", 0, 0, 0)
    return Hello(1, 1, 3, 0, os.urandom(16), bytes(16), 0, rest)


# --- a false standby -----------------------------------------------------------------------------

def become_standby(listener: socket.socket) -> Link:
    """Greets like a standby would."""
    while True:
        link, theirs = accept(listener)
        if theirs.role == PRIMARY:
            link.send(message(HELLO, theirs.as_role(STANDBY).encode()))
            return link
        link.sock.close()


def take_first_epoch(link: Link) -> int:
    """From the greeting to the state of being the standby: its first epoch, acknowledged."""
    link.until(SYNC_BEGIN)
    epoch = struct.unpack_from("<Q", link.until(EPOCH_END))[0]
    link.send(message(ACK, struct.pack("<Q", epoch)))
    return epoch


def says_nonsense(words: bytes) -> Callable[[Link], None]:
    def act(link: Link) -> None:
        link.until(SYNC_BEGIN)
        link.send(words)
        link.wait_end()
    return act


def says_nonsense_when_protected(link: Link) -> None:
    take_first_epoch(link)
    link.send(message(ACK, bytes(8), payload_crc=5))
    link.wait_end()


def acknowledges_what_it_has_not(link: Link) -> None:
    """Numbers of epochs that were never sent are no acknowledgement: nothing may leave by them."""
    epoch = take_first_epoch(link)
    for number in range(epoch + 1000, epoch + 1010):
        link.send(message(ACK, struct.pack("<Q", number)))
    link.until(EPOCH_END)


def falls_silent(link: Link) -> None:
    """Before it holds anything: not worth to wait for."""
    link.until(SYNC_BEGIN)


def stops_reading(link: Link) -> None:
    """In the middle of an epoch, a small buffer full, the connection open."""
    take_first_epoch(link)
    link.until(EPOCH_BEGIN)


SILENT = (acknowledges_what_it_has_not, stops_reading)
MISBEHAVIOURS: dict[str, Callable[[Link], None]] = {
    "pages from a standby": says_nonsense(message(PAGES, pages(0, 1))),
    "disk writes from a standby": says_nonsense(message(
        DISK, disk_payload(disk_record(DISK_FLUSH, 0, 0, 0)))),
    "a cut SYNC_DONE": says_nonsense(message(SYNC_DONE, bytes(7))),
    "random bytes": says_nonsense(bytes(range(256)) * 8),
    "wrong checksum": says_nonsense(message(ACK, struct.pack("<Q", 1), payload_crc=1)),
    "an oversized length": says_nonsense(message(ACK, bytes(8), length=1 << 30)),
    "an unknown type": says_nonsense(message(99)),
    "ACK of epoch 0": says_nonsense(message(ACK, bytes(8))),
    "REFUSE, with reason": says_nonsense(message(REFUSE, struct.pack("<II", 9, 0) +
                                                 struct.pack("<H", 4) + b"busy\0")),
    "nonsense when protected": says_nonsense_when_protected,
    "false acknowledgements": acknowledges_what_it_has_not,
    "falls silent": falls_silent,
    "stops reading": stops_reading,
}


def misbehave(pair: Pair, load: Load, what: str) -> None:
    act = MISBEHAVIOURS[what]
    seen = len(pair.primary.log())
    with listen(pair.lab, "hostB") as listener:
        with become_standby(listener) as link:
            pair.primary.wait("syncing")
            act(link)
            if act in SILENT:
                pair.primary.wait("holding")
            elif act is falls_silent:
                pair.primary.wait("alone")
                return
    # Its port is closed now, which is the proof that a false standby can give as well as any.
    pair.primary.wait("alone")
    load.wait_progress()
    expect(len(pair.primary.log()) > seen, f"{what}: nothing in the log")


@check
def false_standbys() -> None:
    with Pair(PLAIN) as pair:
        load = Load(pair)
        pair.standby.ask("Stop", force=True)
        pair.standby.exit_code()
        pair.primary.wait("alone")
        misbehave(pair, load, "random bytes")
        with Unharmed(pair.primary):
            for what in MISBEHAVIOURS:
                misbehave(pair, load, what)
        text = pair.primary.log()
        for word in ("nonsense", "checksum", "busy"):
            expect(word in text, f"\"{word}\" is not in the log: {text}")
        pair.standby = pair.start_standby("hostB", "hostA")
        pair.wait_protected()
        pair.failover("qemu")
        load.wait_progress()
        load.finish()


@check
def a_false_standby_says_that_it_is_live() -> None:
    """PROMOTED and DISCARDED of a session that is not ours mean nothing."""
    with Pair(PLAIN) as pair:
        load = Load(pair)
        pair.standby.ask("Stop", force=True)
        pair.standby.exit_code()
        pair.primary.wait("alone")
        with listen(pair.lab, "hostB") as listener, become_standby(listener) as link:
            take_first_epoch(link)
            link.send(message(PROMOTED, struct.pack("<Q", 7) + os.urandom(16)))
            link.send(message(DISCARDED, os.urandom(16) + bytes(8)))
        pair.primary.wait("alone")
        load.wait_progress()
        expect(not pair.primary.seen("superseded"), pair.primary.log())
        load.finish()


# --- a false primary -----------------------------------------------------------------------------

def become_primary(pair: Pair) -> Link:
    link = dial(pair.lab, "hostA", "hostB")
    inquirer = Hello.decode(compose(pair).encode())
    theirs = inquire(pair.lab, "hostA", "hostB", inquirer)
    link.send(message(HELLO, theirs.as_role(PRIMARY).encode()))
    link.until(HELLO)
    return link


def session(ram_bytes: int) -> bytes:
    return message(SYNC_BEGIN, os.urandom(16) + struct.pack("<QQB7xQ", ram_bytes, 1, 0, 0))


def epoch_begin(number: int) -> bytes:
    return message(EPOCH_BEGIN, struct.pack("<QBB6xQ", number, 1, 1, 0))


def epoch_end(number: int, state: bytes, crc: int, pages_messages: int = 0) -> bytes:
    return message(EPOCH_END, struct.pack("<QQQQQQI4xQQQ", number, pages_messages, 0,
                                          pages_messages, 0, len(state), crc, 0, 0, 0))


def state_of(data: bytes) -> bytes:
    return message(STATE, struct.pack("<QQB7x", len(data), 0, 0) + data)


def bad_sessions(ram: int) -> dict[str, bytes]:
    start, end = session(ram), ram // PAGE
    return {
        "another size": session(ram // 2),
        "pages beyond RAM": start + message(PAGES, pages(end - 1, 2)),
        "far beyond RAM": start + message(PAGES, pages(1 << 60, 1)),
        "a run of no pages": start + message(PAGES, pages(0, 0)),
        "an unknown kind of run": start + message(PAGES, pages(0, 1, kind=7)),
        "pages that are cut": start + message(PAGES, pages(0, 1)[:20]),
        "wrong checksum": start + message(PAGES, pages(0, 1), payload_crc=3),
        "a state too long": start + epoch_begin(1) + message(STATE, struct.pack(
            "<QQB7x", 1 << 40, 0, 0) + b"x"),
        "a state with a gap": start + epoch_begin(1) + message(STATE, struct.pack(
            "<QQB7x", 100, 50, 0) + b"x"),
        "a patch of nothing": start + epoch_begin(1) + message(STATE, struct.pack(
            "<QQB7x", 20, 0, 1) + bytes(20)) + epoch_end(1, b"", 0),
        "an end without a beginning": start + epoch_end(1, b"", 0),
        "too few pages": start + epoch_begin(1) + state_of(b"abc") +
        epoch_end(1, b"abc", 0xDEAD, 5),
        "wrong state checksum": start + epoch_begin(1) + state_of(b"abc") +
        epoch_end(1, b"abc", 0xDEAD),
        "disk writes of a VM without disks": start + epoch_begin(1) + message(
            DISK, disk_payload(disk_record(DISK_WRITE, 0, 0, 8, b"x" * 8))),
        "a first copy of disks that are not there": start + message(
            DISK_SYNC, disk_payload(disk_record(DISK_ZERO, 0, 0, 1 << 20))),
        "disk writes outside of an epoch": start + message(
            DISK, disk_payload(disk_record(DISK_FLUSH, 0, 0, 0))),
        "what a standby says": start + message(ACK, struct.pack("<Q", 1)),
    }


@check
def false_primaries() -> None:
    with Pair(PLAIN) as pair:
        pair.primary.ask("Stop", force=True)
        pair.primary.exit_code()
        pair.standby.wait("vm-ended")
        pair.standby.wait("idle")
        ram = pair.standby.status()["ram_bytes"]
        with Unharmed(pair.standby):
            for what, words in bad_sessions(ram).items():
                with become_primary(pair) as link:
                    link.send(words)
                    said = link.wait_end()
                expect([kind for kind, _ in said if kind == ERROR], f"{what}: answered {said}")
                poll(lambda: pair.standby.status()["state"] == "idle", f"idle after {what}")
            for words in (b"", message(PAGES, pages(0, 1)), session(ram)):
                with become_primary(pair) as link:
                    link.send(words)
                    link.wait_end()  # not for ever: it would keep the real one out
            with become_primary(pair) as link:  # one that is gone in the middle of an epoch
                link.send(session(ram) + message(PAGES, pages(0, 100)) + epoch_begin(1) +
                          message(PAGES, pages(0, 1))[:40])
                pair.standby.wait("syncing")
            pair.standby.wait("idle")
        expect("nonsense" in pair.standby.log(), pair.standby.log())
        names = [event["event"] for event in pair.standby.events]
        expect(names.count("ready") == 1, f"nonsense has made it ready: {names}")
        pair.primary = pair.start_primary("hostA", "hostB")
        pair.guest.wait_up()
        pair.wait_protected()
        pair.failover("host")
        load = Load(pair)
        load.finish()


@check
def a_state_that_qemu_does_not_take() -> None:
    """All that holdfast can check is right, and still it is no VM: the standby fails, and says so."""
    with Pair(PLAIN) as pair:
        pair.primary.ask("Stop", force=True)
        pair.primary.exit_code()
        pair.standby.wait("vm-ended")
        ram = pair.standby.status()["ram_bytes"]
        with become_primary(pair) as link:
            state = os.urandom(5000)
            link.send(session(ram) + epoch_begin(1) + state_of(state) +
                      epoch_end(1, state, crc32c(state)))
            link.until(ACK)
            link.send(message(DEAD, struct.pack("<IIH", 1, 0, 4) + b"gone\0"))
            pair.standby.wait("load-failed")
        expect(pair.standby.exit_code() == 1, pair.standby.log())
        say(pair.standby.log()[-300:])


if __name__ == "__main__":
    sys.exit(main())
