# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a disk process did to its files (crash-shim.c), and what of it is there after the host lost
its power: all that was synced, and of the rest whatever chance leaves."""

import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

HEAD = struct.Struct("<IIQQQ")
WRITE, SYNC, PUNCH, ZERO, ALLOCATE, TRUNCATE = range(1, 7)
SECTOR = 512


@dataclass
class Change:
    kind: int
    name: str
    offset: int
    length: int
    number: int
    data: bytes = b""


def read(path: Path) -> list[Change]:
    """Whole records only: the last one may have been cut off by the death."""
    raw = path.read_bytes() if path.exists() else b""
    changes = []
    at = 0
    while at + HEAD.size <= len(raw):
        kind, n_name, offset, length, number = HEAD.unpack_from(raw, at)
        at += HEAD.size
        name = raw[at:at + n_name].decode()
        at += n_name
        data = raw[at:at + length] if kind == WRITE else b""
        if kind == WRITE:
            at += length
        if at > len(raw):
            break
        changes.append(Change(kind, name, offset, length, number, data))
    return changes


def durable(changes: list[Change]) -> list[bool]:
    """Of each: was its file synced after it was done?"""
    up_to: dict[str, int] = {}
    for change in changes:
        if change.kind == SYNC:
            up_to[change.name] = max(up_to.get(change.name, 0), change.number)
    return [i < up_to.get(change.name, 0) for i, change in enumerate(changes)]


def put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at + len(data):
        content.extend(bytes(at + len(data) - len(content)))
    content[at:at + len(data)] = data


def carry_out(content: bytearray, change: Change) -> None:
    if change.kind == WRITE:
        put(content, change.offset, change.data)
    elif change.kind in (PUNCH, ZERO):
        end = min(change.offset + change.length, len(content))
        content[change.offset:end] = bytes(max(0, end - change.offset))
    elif change.kind == TRUNCATE:
        content.extend(bytes(max(0, change.length - len(content))))
        del content[change.length:]


def tear(content: bytearray, change: Change, rng: random.Random) -> None:
    """Some of its sectors."""
    at = 0
    while at < len(change.data):
        n = SECTOR - (change.offset + at) % SECTOR
        if rng.random() < 0.5:
            put(content, change.offset + at, change.data[at:at + n])
        at += n


def after_power_loss(before: dict[str, bytes], changes: list[Change],
                     rng: Optional[random.Random]) -> dict[str, bytearray]:
    """The files. rng: of what is not durable a part is there; None: nothing of it."""
    files = {name: bytearray(content) for name, content in before.items()}
    for change, is_durable in zip(changes, durable(changes)):
        content = files.setdefault(change.name, bytearray())
        fate = 0.0 if is_durable else rng.random() if rng else 1.0
        if fate < 0.4:
            carry_out(content, change)
        elif fate < 0.7 and change.kind == WRITE:
            assert rng
            tear(content, change, rng)
    return files
