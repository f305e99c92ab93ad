#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of rewritten command lines, on a real QEMU and with nbdkit's own file plugin as the server.

Does QEMU take what becomes of each form of a disk, does a guest boot from it and write to it, can a
standby's QEMU wait with an image that has no contents yet and find them when the state has come, and does
QEMU keep requests as long as nobody serves the socket?

usage: test-cmdline-disk.py RENDER_PROGRAM
QEMU, QEMU_DATA   the QEMU to use, see rendered.py (default qemu-system-x86_64)
Prints TAP; a plan of nothing with the reason when a program is missing.
"""
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from rendered import QEMU, Disk, Line, Started, started  # noqa: E402

MIB = 1 << 20
PROGRAMS = [QEMU[0], "nbdkit", "qemu-img"]
# Becomes nbdkit, with the listening socket as systemd would hand it over.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp("nbdkit", ["nbdkit", "-f", "--exit-with-parent"] + sys.argv[2:])
"""
# Reads sector 2 with the firmware, writes it to sector 3, and says its first byte on port 0xe9; '!'
# when the firmware reports an error.
BOOT = bytes.fromhex(
    "31c0" "8ec0" "8ed8" "bb007e"      # es = ds = 0, bx = 0x7e00
    "b80102" "b90200" "b600" "cd13"    # read one sector, cylinder 0, sector 2, head 0
    "720f"
    "b80103" "b90300" "cd13"           # write it to sector 3
    "7205"
    "a0007e" "eb02" "b021"             # al = what was read, or '!'
    "e6e9" "f4" "ebfd")                # out; halt


class Server:
    """nbdkit on a socket that outlives it: exports are the files of a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = str(folder) + ".sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.process: subprocess.Popen | None = None

    def start(self, filters: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> None:
        fd = self.listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(fd), *(f"--filter={name}" for name in filters),
             "file", f"dir={self.folder}", *options], pass_fds=[fd])

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        self.listener.close()


@contextlib.contextmanager
def served(name: str) -> Iterator[Server]:
    """A folder of exports, disk0 and so on, in the current folder."""
    folder = Path(name).resolve()
    folder.mkdir()
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


def expect(what: str, got: object, want: object) -> None:
    if got != want:
        raise AssertionError(f"{what} is {got!r}, want {want!r}")


def make_raw(path: Path, size: int = MIB) -> None:
    with open(path, "wb") as image:
        image.truncate(size)


def make_qcow2(path: Path, virtual_bytes: int) -> None:
    """Empty, in a file that has room to grow, as holdfast exports it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(virtual_bytes)], check=True)
    os.truncate(path, 4 * virtual_bytes)


def hmp(vm: Started, line: str) -> str:
    return str(vm.command("human-monitor-command", **{"command-line": line}))


def qemu_io(vm: Started, target: str, line: str) -> None:
    """@target: id of a drive, or "-d DEVICE". What comes of it is said on QEMU's stdout."""
    before = len(vm.said())
    said = hmp(vm, f'qemu-io {target} "{line}"')
    said += vm.said()[before:]
    if "bytes at offset" not in said or "ailed" in said or "rror" in said:
        raise AssertionError(f"qemu-io {line}: {said}")


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within two minutes")
        time.sleep(0.02)


# Name, user's words, what holdfast is to understand, and by which names qemu-io finds the disks.
FORMS: list[tuple[str, str, list[Disk], list[str]]] = [
    ("drives of several kinds",
     "-drive file=/a,format=raw,if=virtio,id=v,cache=none,aio=native,discard=unmap "
     "-drive file=/b,format=raw,if=ide,detect-zeroes=on,copy-on-read=on "
     "-device virtio-scsi-pci -drive file=/c,format=raw,if=none,id=s,cache=writethrough,"
     "file.locking=off,werror=stop,rerror=stop -device scsi-hd,drive=s",
     [Disk("v", "raw", True, "/a"), Disk("drive0", "raw", False, "/b"),
      Disk("s", "raw", False, "/c")], ["v", "ide0-hd0", "s"]),
    ("drives of a protocol",
     "-drive driver=host_device,filename=/dev/a,if=none,id=p -device virtio-blk-pci,drive=p "
     "-drive file.driver=nbd,file.host=h,file.port=1,file.export=x,format=raw,if=virtio,id=q",
     [Disk("p", "raw", False, "/dev/a"), Disk("q", "raw", False, "nbd://h:1/x")], ["p", "q"]),
    ("a drive for firmware variables",
     "-M q35 -drive if=pflash,format=raw,file=/vars,unit=0",
     [Disk("drive0", "raw", False, "/vars")], ["pflash0"]),
    ("nodes",
     "-object throttle-group,id=g "
     "-blockdev file,node-name=f,filename=/a,aio=threads,cache.direct=on,auto-read-only=on "
     "-blockdev raw,node-name=r,file=f,cache.direct=on "
     "-blockdev throttle,node-name=t,throttle-group=g,file=r "
     "-device virtio-blk-pci,drive=t,share-rw=on -device virtio-blk-pci,drive=t,share-rw=on",
     [Disk("t", "raw", True, "/a")], ["t"]),
    ("nodes in JSON",
     """-blockdev '{"driver":"host_device","filename":"/dev/a","node-name":"f","discard":"unmap",
     "auto-read-only":true,"cache":{"direct":true,"no-flush":false}}'
     -blockdev '{"driver":"raw","node-name":"r","read-only":false,"file":"f"}'
     -device '{"driver":"virtio-blk-pci","drive":"r","write-cache":"on","id":"x"}'
     -blockdev '{"driver":"raw","node-name":"n","file":{"driver":"nbd","server":{"type":"inet",
     "host":"h","port":"1"},"export":"x"}}' -device ide-hd,drive=n,id=y""",
     [Disk("r", "raw", True, "/dev/a"), Disk("n", "raw", False, "nbd://h:1/x")],
     ["-d /machine/peripheral/x/virtio-backend", "-d y"]),
]


def takes_form(render: str, words: str, disks: list[Disk], targets: list[str]) -> None:
    with served("images") as server:
        for i in range(len(disks)):
            make_raw(server.folder / f"disk{i}")
        line = Line(["-nodefaults", "-m", "64"] + shlex.split(words), disk_socket=server.path)
        with started(render, line) as vm:
            expect("disks", vm.disks, disks)
            for i, target in enumerate(targets):
                qemu_io(vm, target, f"write -P {i + 1} 4096 512")
            vm.command("quit")
            expect("exit code", vm.process.wait(60), 0)
        for i in range(len(disks)):
            content = (server.folder / f"disk{i}").read_bytes()
            expect(f"disk{i}", content[4096:4608], bytes([i + 1]) * 512)


def guest_boots(render: str) -> None:
    """a guest boots from its disk and writes to it"""
    image = bytearray(MIB)
    image[0:len(BOOT)] = BOOT
    image[510:512] = b"\x55\xaa"
    image[512:1024] = b"K" * 512
    for words in ("-drive file=/a,format=raw,if=ide", "-drive file=/a,format=raw,if=virtio"):
        with served(f"boot-{words[-3:]}") as server:
            disk = server.folder / "disk0"
            disk.write_bytes(image)
            console = Path(server.path + ".console")
            line = Line(["-nodefaults", "-m", "64", "-debugcon", f"file:{console}"] +
                        words.split(), disk_socket=server.path)
            with started(render, line) as vm:
                vm.command("cont")
                wait_until("the guest's word", lambda: console.read_bytes()[-1:] in (b"K", b"!"))
                expect("the guest's word", console.read_bytes()[-1:], b"K")
                vm.command("quit")
                vm.process.wait(60)
            expect("written sector", disk.read_bytes()[1024:1536], b"K" * 512)


def standby_waits_with_an_empty_image(render: str) -> None:
    """a standby waits with an empty qcow2, and has the contents once the state has come"""
    words = shlex.split("-M q35 -nodefaults -m 64 "
                        "-drive file=/a,format=qcow2,if=none,id=d,cache=none "
                        "-device virtio-blk-pci,drive=d -drive if=pflash,format=raw,file=/v")
    state = Path("state").resolve()
    with served("one") as one, served("two") as two:
        for server in (one, two):
            make_qcow2(server.folder / "disk0", 16 * MIB)
            make_raw(server.folder / "disk1")
        (one.folder / "disk1").write_bytes(b"V" * MIB)
        with started(render, Line(words, disk_socket=one.path)) as primary, \
                started(render, Line(words, "standby", disk_socket=two.path)) as standby:
            expect("disks", primary.disks, [Disk("d", "qcow2", True, "/a"),
                                            Disk("drive0", "raw", False, "/v")])
            qemu_io(primary, "d", "write -P 90 1M 64k")
            primary.command("migrate", uri=f"exec:cat > {shlex.quote(str(state))}")
            await_migration(primary)
            # What replication does; the standby's QEMU has had the image open all the time.
            shutil.copyfile(one.folder / "disk0", two.folder / "disk0.new")
            overwrite(two.folder / "disk0", two.folder / "disk0.new")
            expect("status", standby.command("query-status")["status"], "inmigrate")
            standby.command("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
            await_migration(standby)
            standby.command("cont")
            qemu_io(standby, "d", "read -P 90 1M 64k")
            qemu_io(standby, "d", "write -P 91 8M 64k")
            standby.command("quit")
            expect("exit code", standby.process.wait(60), 0)
        check = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", two.folder / "disk0"],
                               check=False)
        expect("qemu-img check", check.returncode, 0)
        # Firmware variables are memory of the guest: QEMU itself writes them when it takes over.
        expect("variables", (two.folder / "disk1").read_bytes(), b"V" * MIB)


def overwrite(path: Path, source: Path) -> None:
    """In place: the server has it open."""
    with open(path, "r+b") as out:
        out.write(source.read_bytes())


def await_migration(vm: Started) -> None:
    def is_over() -> bool:
        status = vm.command("query-migrate").get("status")
        if status == "failed":
            raise AssertionError(f"migration failed: {vm.command('query-migrate')}")
        return status == "completed"
    wait_until("migration", is_over)


def requests_wait_for_the_server(render: str) -> None:
    """requests wait while nobody serves the socket, also those under way when it died"""
    words = ["-nodefaults", "-m", "64", "-drive", "file=/a,format=raw,if=virtio,id=d"]
    with served("images") as server:
        make_raw(server.folder / "disk0")
        with started(render, Line(words, disk_socket=server.path)) as vm:
            qemu_io(vm, "d", "write -P 7 0 4096")
            server.kill()
            with waiting(lambda: qemu_io(vm, "d", "read -P 7 0 4096")):
                # Served, but never answered: it is under way, then it must be asked for again.
                server.start(("delay",), ("rdelay=3600",))
                time.sleep(1)
                server.kill()
                time.sleep(1)
                server.start()
            qemu_io(vm, "d", "write -P 8 4096 4096")
            vm.command("quit")
            expect("exit code", vm.process.wait(60), 0)


@contextlib.contextmanager
def waiting(what: Callable[[], None]) -> Iterator[None]:
    """While the block runs this is not done, and afterwards it is."""
    failures: list[BaseException] = []
    thread = threading.Thread(target=attempt, daemon=True, args=(failures, what))
    thread.start()
    thread.join(1)
    expect("the request waits", thread.is_alive(), True)
    yield
    thread.join(120)
    expect("the request waits", thread.is_alive(), False)
    if failures:
        raise failures[0]


def attempt(failures: list[BaseException], what: Callable[[], None]) -> None:
    try:
        what()
    except Exception as error:  # told by the main thread
        failures.append(error)


def cases(render: str) -> list[tuple[str, Callable[[], None]]]:
    def form(words: str, disks: list[Disk], targets: list[str]) -> Callable[[], None]:
        return lambda: takes_form(render, words, disks, targets)

    def whole(function: Callable[[str], None]) -> tuple[str, Callable[[], None]]:
        return function.__doc__ or "", lambda: function(render)

    return [(f"QEMU takes: {name}", form(words, disks, targets))
            for name, words, disks, targets in FORMS] + \
        [whole(f) for f in (guest_boots, standby_waits_with_an_empty_image,
                            requests_wait_for_the_server)]


def is_passed(run: Callable[[], None]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run()
            return True
        except Exception:  # each case says for itself what went wrong
            print("# " + traceback.format_exc().strip().replace("\n", "\n# "))
            return False
        finally:
            os.chdir("/")


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    missing = [p for p in PROGRAMS if not shutil.which(p)]
    if missing:
        print(f"1..0 # SKIP no {', no '.join(missing)}")
        return 0
    todo = cases(os.path.abspath(sys.argv[1]))
    print(f"1..{len(todo)}")
    failed = 0
    for number, (name, run) in enumerate(todo, 1):
        is_good = is_passed(run)
        failed += not is_good
        print(f"{'ok' if is_good else 'not ok'} {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
