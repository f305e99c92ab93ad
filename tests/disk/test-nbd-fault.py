#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storage that fails, fills up, is slow or hangs below the disk process, and disk processes that
hang or die under load. Images and journal are NBD exports of a second nbdkit with its own error and
delay filters."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

from diskload import Load
from diskworld import DIRECT, MIB, Side, World, chance, check, expect, main, poll, run, say
from nbdclient import EIO, ENOSPC, Nbd, NbdError

SIZE = 32 * MIB
NO_DISK = 16  # a fault's disk: the journal


class Below:
    """A second nbdkit, on a file. fail(): requests fail from now on."""

    def __init__(self, folder: Path, name: str, size: int, *options: str) -> None:
        self.file = folder / f"{name}.below"
        self.trigger = folder / f"{name}.fails"
        socket = folder / f"{name}.sock"
        with open(self.file, "wb") as f:
            f.truncate(size)
        self.uri = f"nbd+unix:///?socket={socket}"
        self._popen = subprocess.Popen(
            ["nbdkit", "-f", "-U", socket, *[o for o in options if o.startswith("--")], "file",
             self.file, *[o for o in options if not o.startswith("--")]],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        poll(socket.exists, "the server below")

    def fail(self, is_failing: bool) -> None:
        if is_failing:
            self.trigger.touch()
        else:
            self.trigger.unlink()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()


@contextlib.contextmanager
def below(world: World, name: str, *options: str, size: int = SIZE) -> Iterator[Below]:
    server = Below(world.folder, name, size, *[o.replace("@", str(world.folder / f"{name}.fails"))
                                               for o in options])
    try:
        yield server
    finally:
        server.close()


def failing(error: str) -> list[str]:
    """Reads and writes of the server below fail with it, once it is told to."""
    return ["--filter=error", "error-file=@", f"error={error}", "error-rate=100%"]


def start(side: Side, location: str, soft_mib: int = 8, reserve_mib: int = 8) -> None:
    side.locations = [location]
    side.make_memory(soft_mib, reserve_mib)
    side.start()


def error_of(client: Nbd) -> int:
    try:
        client.write(0, b"x" * 4096)
    except NbdError as error:
        return error.error
    raise AssertionError("a write to storage that fails was acknowledged")


def direct_gives_the_error(error: str, number: int) -> None:
    with World() as world, below(world, "image", *failing(error)) as image:
        start(world.a, image.uri)
        load = Load(world.a, SIZE)
        for _ in range(20):
            load.write()
        image.fail(True)
        expect(error_of(load.client) == number, "not the error that the storage gave")
        image.fail(False)
        load.client.write(0, bytes(4096))
        load.model[0:4096] = bytes(4096)
        load.client.flush()
        load.verify()
        load.image_is_right(image.file)


@check
def direct_eio() -> None:
    direct_gives_the_error("EIO", EIO)


@check
def direct_enospc() -> None:
    direct_gives_the_error("ENOSPC", ENOSPC)


def held_keeps_all(error: str, number: int) -> None:
    """The VM notices nothing; the keeper is told; when the storage is well again all gets there."""
    with World() as world, below(world, "image", *failing(error)) as image:
        side = world.a
        start(side, image.uri)
        side.hold(1)
        load = Load(side, SIZE)
        image.fail(True)
        since = side.driver.count()
        for _ in range(20):
            load.write()
        side.epoch()
        fault = side.driver.wait("a", "fault", since=since)
        expect(fault["error"] == number and fault["disk"] == 0, fault)
        for _ in range(20):
            load.write()
        words = side.words()
        expect(words["error"] == number and words["applied"] == 0, words)
        image.fail(False)
        side.driver.wait("a", "well", since=since)
        load.verify()
        side.epoch()
        side.drain()
        load.verify()
        load.image_is_right(image.file)
        expect(side.words()["error"] == 0, "the error is still shown")


@check
def held_eio() -> None:
    held_keeps_all("EIO", 5)


@check
def held_enospc() -> None:
    held_keeps_all("ENOSPC", 28)


@check
def journal_fails() -> None:
    """Nothing may get to the image that is not in the journal."""
    with World() as world, below(world, "redo", *failing("EIO"), size=160 * MIB) as redo:
        side = world.a
        side.make_images(SIZE)
        side.redo = redo.uri
        start(side, str(side.image()))
        side.hold(1)
        load = Load(side, SIZE)
        redo.fail(True)
        since = side.driver.count()
        for _ in range(20):
            load.write()
        epoch = side.epoch()
        side.put(urgent=epoch)
        fault = side.driver.wait("a", "fault", since=since)
        expect(fault["disk"] == NO_DISK and "journal" in fault["text"], fault)
        words = side.words()
        expect(words["journaled"] == words["applied"] == 0, words)
        expect(side.image().read_bytes() == bytes(SIZE), "the image was written to")
        redo.fail(False)
        side.driver.wait("a", "well", since=since)
        side.wait_reaches("journaled", epoch)
        side.drain()
        load.verify()
        load.image_is_right(side.image())


@check
def slow_image() -> None:
    """Writers wait for room, memory stays bounded, nothing is lost."""
    with World() as world, below(world, "image", "--filter=delay", "wdelay=10ms") as image:
        side = world.a
        start(side, image.uri, soft_mib=8, reserve_mib=24)
        side.hold(1)
        side.automatic(50)
        load = Load(side, SIZE)
        load.begin()
        side.wait_is("is_over_soft", 1)
        most = 0
        for _ in range(20):
            most = max(most, side.words()["pool0"])
            load.progress(5)
        say(f"at most {most} chunks in use")
        expect(most <= 8 + 24 - 4, f"{most} chunks are in use: the reserve is used up")
        load.end()
        side.automatic(0)
        side.drain()
        load.verify()
        load.image_is_right(image.file)


@check
def full_log() -> None:
    """Over the soft limit a writer waits for a commit; while QEMU is drained it takes of the
    reserve; when that is full, too: no space, which QEMU keeps for a retry."""
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        start(side, str(side.image()), soft_mib=2, reserve_mib=2)
        side.hold(1)
        load = Load(side, SIZE)
        load.begin()
        side.wait_is("is_over_soft", 1)
        before = load.done
        time.sleep(0.3)
        expect(load.done <= before + 1, "writes go on over the soft limit")
        side.put(is_draining=1)
        load.progress(1)
        client = side.connect()
        error = 0
        for at in range(0, 16 * MIB, MIB):
            try:
                client.write(SIZE - MIB, b"y" * MIB)
            except NbdError as refused:
                error = refused.error
                break
        expect(error == ENOSPC, f"error {error} when even the reserve is full")


@check
def killed_under_load() -> None:
    """SIGKILL, and SIGSTOP before it; the load connects to the successor and goes on."""
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        start(side, str(side.image()))
        side.hold(1)
        side.automatic(10)
        load = Load(side, SIZE)
        load.begin()
        for number in range(8):
            load.progress()
            if number % 2:
                side.kill(signal.SIGSTOP)
                time.sleep(0.05)
            side.end_now()
            side.start()
        load.progress()
        load.end()
        say(f"{load.done} writes, {load.reconnects} reconnects")
        load.verify()
        side.automatic(0)
        side.drain()
        load.image_is_right(side.image())


@check
def killed_while_direct() -> None:
    """Past the log a successor is as good; what was not answered is sent again."""
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        start(side, str(side.image()))
        load = Load(side, SIZE)
        load.begin()
        for _ in range(5):
            load.progress()
            side.end_now()
            side.start()
        load.progress()
        load.end()
        load.verify()
        expect(side.words()["state"] == DIRECT, "it is not past the log")
        load.image_is_right(side.image())


@check
def stopped_and_continued() -> None:
    """A process that hangs does not answer a ping; it goes on where it was."""
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        start(side, str(side.image()))
        side.hold(1)
        side.automatic(10)
        load = Load(side, SIZE)
        load.begin()
        load.progress()
        side.ask_process("ping", "pong")
        side.kill(signal.SIGSTOP)
        since = side.order("ping")
        time.sleep(0.5)
        expect(not side.driver.has("a", "pong", since), "a stopped process answers")
        side.kill(signal.SIGCONT)
        side.driver.wait("a", "pong", since=since)
        load.progress()
        load.end()
        side.automatic(0)
        side.drain()
        load.verify()
        load.image_is_right(side.image())


@check
def storage_hangs() -> None:
    """In HOLD the VM goes on while an image hangs; and the process answers to a ping."""
    with World() as world, below(world, "image") as image:
        side = world.a
        start(side, image.uri, soft_mib=16)
        side.hold(1)
        load = Load(side, SIZE)
        image.signal(signal.SIGSTOP)
        for _ in range(20):
            load.write()
        side.epoch()
        side.ask_process("ping", "pong")
        for _ in range(20):
            load.write()
        image.signal(signal.SIGCONT)
        side.epoch()
        side.drain()
        load.verify()
        load.image_is_right(image.file)


@check
def no_permit() -> None:
    """A shared image is written to only as long as the keeper permits: not after, by a successor
    neither, and again once it does."""
    with World() as world:
        side = world.a
        side.is_shared = True
        side.make_images(SIZE)
        start(side, str(side.image()))
        side.hold(1)
        load = Load(side, SIZE)
        side.put(permit_ns=time.monotonic_ns())
        for _ in range(20):
            load.write()
        epoch = side.epoch()
        side.put(urgent=epoch)
        side.wait_reaches("journaled", epoch)
        side.end_now()
        side.start()
        time.sleep(0.5)
        expect(side.words()["applied"] == 0, "it was applied without a permit")
        expect(side.image().read_bytes() == bytes(SIZE), "the image was written to")
        side.put(permit_ns=time.monotonic_ns() + (1 << 40))
        side.wait_reaches("settled", epoch)
        load.client = side.connect()
        load.verify()
        load.image_is_right(side.image())


def kill_often(side: Side, is_over: threading.Event) -> int:
    kills = 0
    while not is_over.wait(0.3):
        side.end_now()
        side.start()
        kills += 1
    return kills


@check
def qemu_io_reconnects() -> None:
    """QEMU's own client, with reconnect-delay, over a disk process that dies all the time."""
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        start(side, str(side.image()))
        side.hold(1)
        side.automatic(20)
        options = (f"driver=nbd,server.type=unix,server.path={side.socket},export=disk0,"
                   "reconnect-delay=60")
        orders = []
        for number in range(120):
            at = chance.randrange(SIZE // 65536) * 65536
            orders += [f"write -P {number % 250 + 1} {at} 65536", "sleep 10",
                       f"read -P {number % 250 + 1} {at} 65536"]
        is_over = threading.Event()
        said: list[str] = []

        def work() -> None:
            try:
                said.append(run("qemu-io", "--image-opts", options,
                                *[word for order in orders for word in ("-c", order)]))
            finally:
                is_over.set()

        thread = threading.Thread(target=work)
        thread.start()
        kills = kill_often(side, is_over)
        thread.join()
        say(f"{kills} kills")
        expect(said and kills > 1, "qemu-io failed, or nobody was killed")
        expect("failed" not in said[0] and "error" not in said[0].lower(), said[0][-2000:])
        before = side.read_all()
        side.automatic(0)
        side.drain()
        expect(side.image().read_bytes() == before, "the image differs from what was read")


@check
def fio_verifies_over_deaths() -> None:
    """fio cannot reconnect; nbdkit's nbd plugin with its retry filter does it for it."""
    with World() as world:
        side = world.a
        side.make_images(SIZE)
        start(side, str(side.image()))
        side.hold(1)
        side.automatic(20)
        front = world.folder / "front.sock"
        retry = subprocess.Popen(["nbdkit", "-f", "-U", front, "--filter=retry", "nbd",
                                  f"uri={side.uri()}", "retries=100", "retry-delay=1",
                                  "retry-exponential=no", "retry=100"],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        poll(front.exists, "the front")
        is_over = threading.Event()
        said: list[str] = []

        def work() -> None:
            try:
                said.append(run("fio", "--name=job", "--ioengine=nbd",
                                f"--uri=nbd+unix:///?socket={front}", f"--size={SIZE}",
                                "--rw=randwrite", "--bs=4k", "--iodepth=8", "--verify=crc32c",
                                "--verify_fatal=1", "--verify_state_save=0",
                                "--rate_iops=1500", "--io_size=20M"))
            finally:
                is_over.set()

        thread = threading.Thread(target=work)
        thread.start()
        kills = 0
        while not is_over.wait(1.5):
            side.end_now()
            side.start()
            kills += 1
        thread.join()
        retry.kill()
        retry.wait()
        say(f"{kills} kills")
        expect(said and kills > 0, "fio failed, or nobody was killed")


if __name__ == "__main__":
    sys.exit(main())
