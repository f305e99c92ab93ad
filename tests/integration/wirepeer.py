# SPDX-License-Identifier: LGPL-2.1-or-later
"""The replication protocol (docs/wire-format.md) spoken by hand, written a second time: for peers
that say what no keeper would say."""

import secrets
import select
import socket
import struct
import time
from dataclasses import dataclass, field, replace
from typing import Optional

from checks import expect
from lab import Lab
from labvm import KEEPER_PORT

HELLO, REFUSE, SYNC_BEGIN, PAGES, EPOCH_BEGIN, STATE, FRAMES, EPOCH_END, ACK, PING = range(1, 11)
PONG, DEAD, ENDED, PROMOTED, HANDOVER_REQUEST, HANDOVER, ABANDON, DISCARDED, ERROR = range(11, 20)
DISK, DISK_SYNC, SYNC_MARK, SYNC_DONE, SETTLED, LEASE = range(20, 26)
DISK_WRITE, DISK_ZERO, DISK_TRIM, DISK_FLUSH = range(1, 5)
PRIMARY, STANDBY, INQUIRER = 1, 2, 3
HEADER = struct.Struct("<IHHII8xII")
MAGIC = 0x31524648


def _crc_table() -> list[int]:
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def message(kind: int, payload: bytes = b"", length: Optional[int] = None,
            payload_crc: Optional[int] = None, header_crc: Optional[int] = None) -> bytes:
    """A message, right unless something wrong is asked for."""
    crc = crc32c(payload) if payload_crc is None else payload_crc
    head = HEADER.pack(MAGIC, kind, 0, len(payload) if length is None else length, crc, 0, 0)[:28]
    return head + struct.pack("<I", crc32c(head) if header_crc is None else header_crc) + payload


@dataclass(frozen=True)
class Hello:
    """The numbers, and the rest as it came."""
    version_min: int
    version_max: int
    role: int
    state: int
    instance: bytes
    session: bytes
    epoch: int
    rest: bytes
    disk_condition: int = 0
    disk_session: bytes = bytes(16)

    FORM = struct.Struct("<HHBBBxI4x16s16sQ16s")

    @classmethod
    def decode(cls, payload: bytes) -> "Hello":
        low, high, role, _, condition, state, instance, session, epoch, disk_session = \
            cls.FORM.unpack_from(payload)
        return cls(low, high, role, state, instance, session, epoch, payload[cls.FORM.size:],
                   condition, disk_session)

    def encode(self) -> bytes:
        return self.FORM.pack(self.version_min, self.version_max, self.role, 0,
                              self.disk_condition, self.state, self.instance, self.session,
                              self.epoch, self.disk_session) + self.rest

    def as_role(self, role: int, session: bytes = bytes(16), epoch: int = 0) -> "Hello":
        """Another keeper that fits the one that said this, with the same disks, of which it has no
        copy. States: alone, waiting, starting."""
        state = {PRIMARY: 1, STANDBY: 11, INQUIRER: 0}[role]
        return replace(self, role=role, state=state, session=session, epoch=epoch,
                       instance=secrets.token_bytes(16), disk_condition=0, disk_session=bytes(16))


def disk_record(kind: int, disk: int, offset: int, length: int, data: bytes = b"",
                flags: int = 0) -> bytes:
    """One record of DISK or DISK_SYNC."""
    return struct.pack("<QQBBB5x", offset, length, kind, disk, flags) + data + \
        bytes(-len(data) % 8)


def disk_payload(*records: bytes) -> bytes:
    return struct.pack("<II", len(records), 0) + b"".join(records)


@dataclass
class Link:
    """One connection to a keeper."""
    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *unused: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """A keeper that has closed is told of by receive()."""
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def _fill(self, count: int, deadline: float) -> bool:
        while len(self.buffer) < count:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError
            try:
                data = self.sock.recv(1 << 18)
            except OSError:
                return False
            if not data:
                return False
            self.buffer += data
        return True

    def receive(self, timeout_s: float = 10.0) -> Optional[tuple[int, bytes]]:
        """The next message; None at the end of the connection, TimeoutError if neither comes."""
        deadline = time.monotonic() + timeout_s
        if not self._fill(HEADER.size, deadline):
            return None
        magic, kind, _, length, _, _, _ = HEADER.unpack_from(self.buffer)
        expect(magic == MAGIC, f"the keeper sent {bytes(self.buffer[:32])!r}")
        if not self._fill(HEADER.size + length, deadline):
            return None
        payload = bytes(self.buffer[HEADER.size:HEADER.size + length])
        del self.buffer[:HEADER.size + length]
        return kind, payload

    def until(self, kind: int, timeout_s: float = 30.0) -> bytes:
        """The payload of the next message of that kind; PINGs are answered meanwhile."""
        deadline = time.monotonic() + timeout_s
        while True:
            got = self.receive(deadline - time.monotonic())
            if got is None:
                raise AssertionError(f"the connection ended before message {kind}")
            if got[0] == PING:
                self.send(message(PONG, got[1]))
            if got[0] == kind:
                return got[1]

    def wait_end(self, timeout_s: float = 15.0) -> list[tuple[int, bytes]]:
        """What the keeper still says before it closes the connection."""
        deadline, said = time.monotonic() + timeout_s, []
        while (got := self.receive(deadline - time.monotonic())) is not None:
            said.append(got)
        return said


def dial(lab: Lab, source: str, target: str) -> Link:
    sock = lab.socket(source, socket.SOCK_STREAM)
    sock.settimeout(10)
    sock.connect((lab.repl_addr(target), KEEPER_PORT))
    return Link(sock)


def listen(lab: Lab, host: str) -> socket.socket:
    """The place of a keeper on that host, where there is none."""
    sock = lab.socket(host, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(15)
    sock.bind((lab.repl_addr(host), KEEPER_PORT))
    sock.listen()
    return sock


def accept(listener: socket.socket) -> tuple[Link, Hello]:
    """A keeper that dials, and what it says of itself."""
    sock, _ = listener.accept()
    sock.settimeout(10)
    link = Link(sock)
    return link, Hello.decode(link.until(HELLO))


def inquire(lab: Lab, source: str, target: str, like: Hello) -> Hello:
    with dial(lab, source, target) as link:
        link.send(message(HELLO, like.as_role(INQUIRER).encode()))
        return Hello.decode(link.until(HELLO))
