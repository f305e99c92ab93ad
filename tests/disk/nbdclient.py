# SPDX-License-Identifier: LGPL-2.1-or-later
"""An NBD client that does what it is told, also what no client should: docs/proto.md of the NBD
project is what it follows where it is told nothing else. Blocks; one thread a connection."""

import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Callable, Optional

NBDMAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
OPTION_REPLY = 0x3E889045565A9
REQUEST = 0x25609513
SIMPLE_REPLY = 0x67446698
STRUCTURED_REPLY = 0x668E33EF

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT = 8, 9, 10
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
REP_ERROR_BIT = 1 << 31

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF, FLAG_REQ_ONE, FLAG_FAST_ZERO = 1, 2, 4, 8, 16

CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS = 0, 1, 2, 5
CHUNK_ERROR_BIT = 1 << 15
CHUNK_DONE = 1

EIO, EINVAL, ENOSPC, ENOTSUP = 5, 22, 28, 95

TIMEOUT_S = 60.0
TICK_S = 0.1

# Says that nobody will ever answer: a server that dies before it has accepted a connection on a
# socket that others keep open leaves no trace there.
IsGone = Callable[[], bool]


class NbdError(Exception):
    """The server answered with an error."""

    def __init__(self, error: int, what: str) -> None:
        super().__init__(f"{what}: error {error}")
        self.error = error


class NbdClosed(Exception):
    """The connection ended, in order or not."""


@dataclass
class Reply:
    cookie: int
    error: int
    data: bytes = b""
    extents: list[tuple[int, int]] = field(default_factory=list)  # length, flags


class Wire:
    """Bytes in and out."""

    def __init__(self, path: str, is_gone: IsGone = lambda: False) -> None:
        self.is_gone = is_gone
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(path)

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise NbdClosed(str(error)) from error

    def recv(self, n: int) -> bytes:
        parts = []
        while n > 0:
            self._wait_readable()
            try:
                part = self.sock.recv(min(n, 1 << 20))
            except ConnectionResetError as error:
                raise NbdClosed(str(error)) from error
            if not part:
                raise NbdClosed("the server closed the connection")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def _wait_readable(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not select.select([self.sock], [], [], TICK_S)[0]:
            if self.is_gone():
                raise NbdClosed("the server is gone")
            if time.monotonic() > deadline:
                raise NbdError(0, f"no answer within {TIMEOUT_S:g} s")


class Handshake(Wire):
    """A connection before transmission: options."""

    def __init__(self, path: str, flags: int = 3, is_gone: IsGone = lambda: False) -> None:
        super().__init__(path, is_gone)
        magic, option_magic, self.server_flags = struct.unpack(">QQH", self.recv(18))
        if (magic, option_magic) != (NBDMAGIC, IHAVEOPT):
            raise NbdError(0, f"greeting {magic:x} {option_magic:x}")
        self.send(struct.pack(">I", flags))

    def option(self, option: int, data: bytes = b"", length: Optional[int] = None) -> None:
        self.send(struct.pack(">QII", IHAVEOPT, option, len(data) if length is None else length)
                  + data)

    def reply(self) -> tuple[int, bytes]:
        magic, _, kind, length = struct.unpack(">QIII", self.recv(20))
        if magic != OPTION_REPLY or length > 1 << 20:
            raise NbdError(0, f"option reply {magic:x} of {length} bytes")
        return kind, self.recv(length)

    def ask(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """All replies, up to the acknowledgement or error."""
        self.option(option, data)
        found = []
        while True:
            kind, body = self.reply()
            found.append((kind, body))
            if kind == REP_ACK or kind & REP_ERROR_BIT:
                return found


class Nbd(Handshake):
    """A connection to one export, in transmission."""

    def __init__(self, path: str, export: str = "disk0", structured: bool = False,
                 is_gone: IsGone = lambda: False) -> None:
        super().__init__(path, is_gone=is_gone)
        self.size = 0
        self.flags = 0
        self.is_structured = structured
        self._cookie = 0
        try:
            self._negotiate(export.encode())
        except BaseException:
            self.close()
            raise

    def _negotiate(self, name: bytes) -> None:
        if self.is_structured:
            self._expect_ack(OPT_STRUCTURED_REPLY, b"")
            context = b"base:allocation"
            self._expect_ack(OPT_SET_META_CONTEXT, struct.pack(">I", len(name)) + name
                             + struct.pack(">II", 1, len(context)) + context)
        body = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        for kind, info in self._expect_ack(OPT_GO, body):
            if kind == REP_INFO and info[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", info[2:12])

    def _expect_ack(self, option: int, data: bytes) -> list[tuple[int, bytes]]:
        found = self.ask(option, data)
        if found[-1][0] != REP_ACK:
            raise NbdError(found[-1][0] & 0xFFFF, f"option {option}: {found[-1][1]!r}")
        return found

    # --- requests ---

    def request(self, command: int, offset: int = 0, length: int = 0, flags: int = 0,
                data: bytes = b"", magic: int = REQUEST) -> int:
        """Sends one; nothing is checked. Its cookie."""
        self._cookie += 1
        self.send(struct.pack(">IHHQQI", magic, flags, command, self._cookie, offset, length)
                  + data)
        return self._cookie

    def receive(self, read_length: int = 0) -> Reply:
        """The next reply, whole. read_length: what a simple reply to a READ carries."""
        magic = struct.unpack(">I", self.recv(4))[0]
        if magic == SIMPLE_REPLY:
            error, cookie = struct.unpack(">IQ", self.recv(12))
            return Reply(cookie, error, b"" if error else self.recv(read_length))
        if magic != STRUCTURED_REPLY:
            raise NbdError(0, f"reply magic {magic:x}")
        return self._receive_chunks(read_length)

    def _receive_chunks(self, read_length: int) -> Reply:
        data = bytearray(read_length)
        base: Optional[int] = None
        reply = Reply(0, 0)
        while True:
            flags, kind, reply.cookie, length = struct.unpack(">HHQI", self.recv(16))
            body = self.recv(length)
            if kind & CHUNK_ERROR_BIT:
                reply.error = struct.unpack(">I", body[:4])[0]
            elif kind in (CHUNK_DATA, CHUNK_HOLE):
                at = struct.unpack(">Q", body[:8])[0]
                base = at if base is None else base
                if kind == CHUNK_DATA:
                    data[at - base:at - base + length - 8] = body[8:]
            elif kind == CHUNK_STATUS:
                reply.extents = [struct.unpack(">II", body[i:i + 8])
                                 for i in range(4, len(body), 8)]
            if flags & CHUNK_DONE:
                break
            magic = struct.unpack(">I", self.recv(4))[0]
            if magic != STRUCTURED_REPLY:
                raise NbdError(0, f"chunk magic {magic:x}")
        reply.data = bytes(data)
        return reply

    def call(self, command: int, offset: int = 0, length: int = 0, flags: int = 0,
             data: bytes = b"") -> Reply:
        cookie = self.request(command, offset, length, flags, data)
        reply = self.receive(length if command == READ else 0)
        if reply.cookie != cookie:
            raise NbdError(0, f"cookie {reply.cookie}, not {cookie}")
        if reply.error:
            raise NbdError(reply.error, f"command {command} at {offset}+{length}")
        return reply

    def read(self, offset: int, length: int) -> bytes:
        return self.call(READ, offset, length).data

    def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        self.call(WRITE, offset, len(data), FLAG_FUA if fua else 0, data)

    def zero(self, offset: int, length: int, no_hole: bool = False, fua: bool = False) -> None:
        self.call(WRITE_ZEROES, offset, length,
                  (FLAG_NO_HOLE if no_hole else 0) | (FLAG_FUA if fua else 0))

    def trim(self, offset: int, length: int, fua: bool = False) -> None:
        self.call(TRIM, offset, length, FLAG_FUA if fua else 0)

    def flush(self) -> None:
        self.call(FLUSH)

    def status(self, offset: int, length: int) -> list[tuple[int, int]]:
        return self.call(BLOCK_STATUS, offset, length).extents

    def read_all(self, piece: int = 1 << 20) -> bytes:
        return b"".join(self.read(at, min(piece, self.size - at))
                        for at in range(0, self.size, piece))

    def disconnect(self) -> None:
        self.request(DISC)
        self.close()
