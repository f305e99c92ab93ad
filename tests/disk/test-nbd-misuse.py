#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What no NBD client should do: a guest that has taken over its QEMU may. After each attempt others
are served as before, and the disk holds exactly what was rightly written. Past the log, and held
while epochs are committed."""

import contextlib
import random
import struct
import sys
from typing import Callable, Iterator

import nbdclient as nbd
from diskworld import MIB, Side, World, chance, check, expect, main, say
from nbdclient import Handshake, Nbd, NbdClosed, NbdError, Wire

SIZE = 16 * MIB
SCRATCH = SIZE - MIB  # from here on writes go that are never answered
BLOCK = 4096


class Victim:
    """The server, and what its disk must hold."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.rng = random.Random(chance.randrange(1 << 32))
        self.model = bytearray(SIZE)
        self.old = bytes(SIZE)  # before the writes that are never answered
        self.client = side.connect()
        self.may_die = False
        self.deaths = 0
        self.seen = side.driver.count()

    def write(self, client: Nbd, at: int, n: int) -> None:
        data = self.rng.randbytes(n)
        client.write(at, data, fua=self.rng.random() < 0.2)
        self.model[at:at + n] = data

    def work(self) -> None:
        """As a client should; if the server dies, what is not known to be done is done again."""
        plan = []
        for _ in range(8):
            n = self.rng.randrange(1, 9) * 512
            at = self.rng.randrange((SCRATCH - n) // 512) * 512
            plan.append((at, self.rng.randbytes(n)))
            self.model[at:at + n] = plan[-1][1]
        self.insist(lambda: self.carry_out(plan))

    def carry_out(self, plan: list[tuple[int, bytes]]) -> None:
        for at, data in plan:
            self.client.write(at, data, fua=data[0] < 50)
        self.client.flush()

    def insist(self, function: Callable[[], None]) -> None:
        while True:
            try:
                return function()
            except (NbdClosed, ConnectionError):
                self.revive()

    def revive(self) -> None:
        """nbdkit up to 1.32 at least may not survive a client that goes while answers are on their
        way to it, whatever the plugin: an assertion in raw_send_socket. Then there is another, as
        the keeper sees to."""
        expect(self.may_die, "the connection broke")
        ended = self.side.driver.wait("a", "exit", since=self.seen)
        expect("(Aborted)" in ended["how"], ended)
        self.seen = self.side.driver.count()
        self.side.start()
        self.client = self.side.connect()
        self.deaths += 1

    def verify(self) -> None:
        self.work()
        self.insist(self.compare)

    def compare(self) -> None:
        client = self.side.connect()
        got = client.read_all()
        client.disconnect()
        for at in range(0, SIZE, BLOCK):
            piece = got[at:at + BLOCK]
            may_be_old = at >= SCRATCH and piece == self.old[at:at + BLOCK]
            expect(may_be_old or piece == self.model[at:at + BLOCK], f"the block at {at} is wrong")

    def settle_scratch(self) -> None:
        data = self.rng.randbytes(MIB)
        self.model[SCRATCH:] = data
        self.insist(lambda: self.client.write(SCRATCH, data))
        self.old = bytes(self.model)


@contextlib.contextmanager
def served(is_held: bool) -> Iterator[Victim]:
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        side.make_memory(soft_mib=4)
        side.start()
        if is_held:
            side.hold(1)
            side.automatic(10)
        victim = Victim(side)
        yield victim
        victim.settle_scratch()
        victim.verify()
        victim.client.disconnect()
        if is_held:
            side.automatic(0)
            side.drain()
        expect(side.end()["how"] == "exited with status 0", "it did not end in order")
        expect(side.image().read_bytes() == victim.model, "the image differs from the model")


def both(function: Callable[[Victim], None]) -> Callable[[Victim], None]:
    for is_held in (False, True):
        def run_one(is_held: bool = is_held) -> None:
            with served(is_held) as victim:
                function(victim)
                victim.verify()
        run_one.__name__ = f"{function.__name__}_{'held' if is_held else 'direct'}"
        check(run_one)
    return function


def refused(client: Nbd, command: int, offset: int, length: int, flags: int = 0,
            data: bytes = b"") -> int:
    """The error; it must be one."""
    try:
        client.call(command, offset, length, flags, data)
    except NbdError as error:
        expect(error.error > 0, error)
        return error.error
    raise AssertionError(f"command {command} at {offset}+{length}, flags {flags}, was accepted")


@both
def out_of_range(v: Victim) -> None:
    data = v.rng.randbytes(BLOCK)
    for offset in (SIZE, SIZE - 512, SIZE + BLOCK, 1 << 40, (1 << 63) - 1, (1 << 64) - BLOCK,
                   (1 << 64) - 1):
        for command in (nbd.READ, nbd.WRITE_ZEROES, nbd.TRIM, nbd.CACHE):
            refused(v.client, command, offset, BLOCK)
        error = refused(v.client, nbd.WRITE, offset, BLOCK, 0, data)
        expect(error in (nbd.EINVAL, nbd.ENOSPC), error)
    refused(v.client, nbd.READ, 0, 0xFFFFFFFF)
    refused(v.client, nbd.TRIM, SIZE - 512, 0xFFFFFFFF)
    refused(v.client, nbd.WRITE_ZEROES, 1, 0xFFFFFFFF)


@both
def bad_flags_and_commands(v: Victim) -> None:
    data = v.rng.randbytes(BLOCK)
    for flags in (0x20, 0x100, 0x8000, 0xFFFF):
        refused(v.client, nbd.READ, 0, BLOCK, flags)
        refused(v.client, nbd.WRITE, 0, BLOCK, flags, data)
        refused(v.client, nbd.TRIM, 0, BLOCK, flags)
        refused(v.client, nbd.FLUSH, 0, 0, flags)
    refused(v.client, nbd.WRITE, 0, BLOCK, nbd.FLAG_NO_HOLE, data)
    refused(v.client, nbd.BLOCK_STATUS, 0, BLOCK)  # nobody has agreed on a context
    for command in (8, 9, 100, 0xFFFF):
        refused(v.client, command, 0, 0)
    refused(v.client, nbd.FLUSH, 0, BLOCK)
    for command in (nbd.READ, nbd.TRIM, nbd.WRITE_ZEROES):
        with contextlib.suppress(NbdError):  # the protocol leaves it open
            v.client.call(command, 0, 0)


@both
def too_large(v: Victim) -> None:
    """More than a server takes at once: an error, or the end of this connection."""
    for length in (33 * MIB, 65 * MIB, 0xFFFFFFFF):
        client = v.side.connect()
        with contextlib.suppress(NbdError, NbdClosed, OSError):
            client.sock.settimeout(5)
            client.request(nbd.WRITE, 0, length, 0, b"\xee" * MIB)
            client.close()
    refused(v.client, nbd.READ, 0, 65 * MIB)


@both
def not_aligned_to_anything(v: Victim) -> None:
    for _ in range(200):
        n = v.rng.randrange(1, 20000)
        at = v.rng.randrange(SCRATCH - n)
        if v.rng.random() < 0.5:
            v.write(v.client, at, n)
        elif v.rng.random() < 0.5:
            v.client.zero(at, n, no_hole=v.rng.random() < 0.5)
            v.model[at:at + n] = bytes(n)
        else:
            expect(v.client.read(at, n) == v.model[at:at + n], f"{at}+{n} reads wrong")


@both
def wrong_magic_ends_a_connection(v: Victim) -> None:
    for magic in (0, 0x25609514, 0xFFFFFFFF, nbd.SIMPLE_REPLY):
        client = v.side.connect()
        client.request(nbd.READ, 0, 512, magic=magic)
        try:
            client.receive(512)
        except NbdClosed:
            continue
        except NbdError:
            continue
        raise AssertionError(f"a request with magic {magic:x} was answered")


@both
def same_cookie_twice(v: Victim) -> None:
    client = v.side.connect()
    for _ in range(16):
        client.send(struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.READ, 7, 0, 512))
    want = bytes(v.model[:512])
    for _ in range(16):
        reply = client.receive(512)
        expect(reply.cookie == 7 and reply.data == want, reply)
    client.disconnect()


@both
def structured_replies(v: Victim) -> None:
    client = v.side.connect(structured=True)
    v.write(client, 8 * MIB, 70000)
    client.zero(9 * MIB, MIB)
    v.model[9 * MIB:10 * MIB] = bytes(MIB)
    for flags in (0, nbd.FLAG_DF):
        got = client.call(nbd.READ, 7 * MIB, 4 * MIB, flags).data
        expect(got == v.model[7 * MIB:11 * MIB], "a structured read differs")
    extents = client.status(0, SIZE)
    expect(sum(n for n, _ in extents) <= SIZE and extents, extents)
    at = 0
    for length, flags in extents:
        if flags & 2:
            expect(not any(v.model[at:at + length]), f"{at}+{length} is called zero")
        at += length
    one = client.call(nbd.BLOCK_STATUS, 5 * MIB, 8 * MIB, nbd.FLAG_REQ_ONE).extents
    expect(len(one) == 1, one)
    refused(client, nbd.BLOCK_STATUS, SIZE, 512)
    refused(client, nbd.READ, SIZE, 512)
    expect(client.read(8 * MIB, 70000) == v.model[8 * MIB:8 * MIB + 70000], "after errors")
    client.disconnect()


def unanswered_write(v: Victim, client: Nbd, n_blocks: int) -> None:
    """Some blocks of the scratch area; whether they get there is open."""
    for _ in range(n_blocks):
        at = SCRATCH + v.rng.randrange(MIB // BLOCK) * BLOCK
        if v.model[at:at + BLOCK] != v.old[at:at + BLOCK]:
            continue
        data = v.rng.randbytes(BLOCK)
        v.model[at:at + BLOCK] = data
        client.request(nbd.WRITE, at, BLOCK, 0, data)


def leave_in_the_middle(v: Victim) -> None:
    client = v.side.connect()
    client.send(struct.pack(">IHH", nbd.REQUEST, 0, nbd.WRITE)[:v.rng.randrange(1, 8)])
    client.close()
    client = v.side.connect()
    client.request(nbd.WRITE, 0, MIB, 0, b"\xdd" * v.rng.randrange(1, MIB))
    client.close()
    client = v.side.connect()
    unanswered_write(v, client, 8)
    for _ in range(8):
        client.request(nbd.READ, 0, 4 * MIB)  # far more than a socket holds
    client.close()


@both
def gone_in_the_middle(v: Victim) -> None:
    """The connection ends within a request, within its data, with requests under way."""
    v.settle_scratch()
    v.may_die = True
    for _ in range(20):
        try:
            leave_in_the_middle(v)
        except (NbdClosed, ConnectionError):
            v.revive()
        v.verify()
    say(f"nbdkit died {v.deaths} times of its assertion")


@both
def many_connections(v: Victim) -> None:
    clients = [v.side.connect() for _ in range(200)]
    for client in clients:
        v.write(client, v.rng.randrange(SCRATCH // 512 - 8) * 512, 512)
    for client in clients[::2]:
        client.close()
    for client in clients[1::2]:
        v.write(client, v.rng.randrange(SCRATCH // 512 - 8) * 512, 512)
        client.flush()
        client.disconnect()


def garbage(v: Victim, path: str) -> None:
    wire = Wire(path)
    with contextlib.suppress(NbdClosed):
        wire.send(v.rng.randbytes(v.rng.randrange(1, 5000)))
    wire.close()


def bad_options(path: str) -> None:
    for option, data, length in (
            (nbd.OPT_GO, struct.pack(">I", 0xFFFFFFFF) + b"disk0", None),
            (nbd.OPT_GO, b"", None),
            (nbd.OPT_GO, struct.pack(">I", 5) + b"disk0" + struct.pack(">H", 60000), None),
            (nbd.OPT_SET_META_CONTEXT, struct.pack(">III", 0, 0xFFFFFFFF, 4) + b"base", None),
            (nbd.OPT_STRUCTURED_REPLY, b"surplus", None),
            (nbd.OPT_LIST, b"surplus", None),
            (0x7FFFFFFF, b"what", None)):
        shake = Handshake(path)
        shake.option(option, data, length)
        with contextlib.suppress(NbdClosed):
            kind, _ = shake.reply()
            expect(kind & nbd.REP_ERROR_BIT, f"option {option} got {kind}")
        shake.close()
    shake = Handshake(path)
    shake.option(nbd.OPT_GO, b"disk0", 0xFFFFFFFF)
    shake.close()


@both
def garbage_instead_of_a_handshake(v: Victim) -> None:
    for _ in range(50):
        garbage(v, v.side.socket)
    bad_options(v.side.socket)
    for flags in (0xFFFFFFFF, 0x80000000):
        with contextlib.suppress(NbdClosed):
            shake = Handshake(v.side.socket, flags)
            shake.option(nbd.OPT_ABORT)
            shake.close()
    for name in ("disk1", "disk00", "disk-1", "../disk0", "x" * 4000, "disk0\0"):
        try:
            v.side.connect()
            Nbd(v.side.socket, name)
        except (NbdError, NbdClosed):
            continue
        raise AssertionError(f"there is an export {name[:20]!r}")
    idle = [Handshake(v.side.socket) for _ in range(20)]  # these never say anything
    v.verify()
    for shake in idle:
        shake.close()


if __name__ == "__main__":
    sys.exit(main())
