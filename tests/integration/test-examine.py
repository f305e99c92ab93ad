#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frozen VMs are looked into: `holdfast dump` and `holdfast inspect`. What they give is read by a
parser of our own, and by gdb where it is; the frozen instance's memory and images are compared byte
by byte before and after.

usage: test-examine.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import hashlib
import itertools
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any, Iterator, Optional

from checks import Skip, check, expect, main, poll

# pylint: disable=wrong-import-position
from frozenvm import (HOST, Guarded, cli, counting, digest, freeze, guest_vm,  # noqa: E402
                      ram_path, tiny_vm)
from lab import Guest, Lab, Proc  # noqa: E402
from labfreeze import (COUNTER_ADDRESS, COUNTS, MARKER, MARKER_ADDRESS,  # noqa: E402
                       Instance, cgroup_pids, is_alive)

ET_CORE, EM_386, EM_X86_64 = 4, 3, 62  # by the mode that the processor was in
PT_LOAD, PT_NOTE, NT_PRSTATUS = 1, 4, 1


# --- what reads a dump ---------------------------------------------------------------------------

class Core:
    """An ELF core file."""

    def __init__(self, path: Path):
        self.file = open(path, "rb")
        head = self.file.read(64)
        expect(head[:6] == b"\x7fELF\x02\x01", head)
        kind, machine = struct.unpack_from("<HH", head, 16)
        expect(kind == ET_CORE and machine in (EM_386, EM_X86_64), (kind, machine))
        offset, = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        self.loads: list[tuple[int, int, int]] = []
        self.notes: list[tuple[bytes, int, bytes]] = []
        for i in range(count):
            self._take(os.pread(self.file.fileno(), size, offset + i * size))

    def _take(self, header: bytes) -> None:
        kind, _, offset, _, address, size = struct.unpack_from("<IIQQQQ", header)
        if kind == PT_LOAD:
            self.loads.append((address, size, offset))
        elif kind == PT_NOTE:
            self._take_notes(os.pread(self.file.fileno(), size, offset))

    def _take_notes(self, data: bytes) -> None:
        at = 0
        while at + 12 <= len(data):
            name, desc, kind = struct.unpack_from("<III", data, at)
            at += 12
            text = data[at:at + name].rstrip(b"\0")
            at += (name + 3) & ~3
            self.notes.append((text, kind, data[at:at + desc]))
            at += (desc + 3) & ~3

    def read(self, address: int, size: int) -> bytes:
        """Guest-physical."""
        for start, length, offset in self.loads:
            if start <= address and address + size <= start + length:
                return os.pread(self.file.fileno(), size, offset + address - start)
        raise AssertionError(f"{address:#x} is not in {self.loads}")

    def registers(self) -> list[bytes]:
        return [desc for name, kind, desc in self.notes if (name, kind) == (b"CORE", NT_PRSTATUS)]


def gdb(*words: str) -> str:
    if not shutil.which("gdb"):
        raise Skip("gdb is not installed")
    done = subprocess.run(["gdb", "-nx", "-q", "-batch", *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="holdfast-examine-test-") as path:
        yield Path(path)


def files_sum(instance: Instance) -> str:
    """Everything that is kept, but for the memory."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()
               for path in sorted(instance.folder.iterdir()) if path.name != "ram"]
    return " ".join(digests)


@contextlib.contextmanager
def unchanged(g: Guarded, image: Optional[Path] = None) -> Iterator[Instance]:
    """The frozen instance is the same before and after."""
    def look() -> tuple[str, str, str]:
        instance = g.instance()
        return (digest(instance), files_sum(instance),
                hashlib.sha256(image.read_bytes()).hexdigest() if image else "")
    before = look()
    yield g.instance()
    expect(look() == before, "the frozen instance has changed")


def work_folders() -> list[str]:
    return [str(path) for path in Path("/var/tmp").glob("holdfast-*")
            if re.match(r"holdfast-(dump|inspect)\.", path.name)]


FOREIGN = work_folders()  # somebody was killed here before


def leftovers() -> list[str]:
    return [path for path in work_folders() if path not in FOREIGN]


# --- dump ----------------------------------------------------------------------------------------

@check
def a_dump_has_memory_and_registers() -> None:
    """All formats; one file, of mode 0600, under its name when it is whole."""
    with scratch() as to, counting("dump") as g:
        freeze(g)
        with unchanged(g) as instance:
            for form in ("elf", "kdump-zlib", "raw"):
                done = cli(g, "dump", f"{g.vm.name}@{instance.id[:3]}", str(to / form), "--format",
                           form, timeout_s=90)
                expect(done.returncode == 0 and not done.stderr, done)
                mode = (to / form).stat().st_mode & 0o7777
                expect(mode == 0o600, oct(mode))
            expect(sorted(path.name for path in to.iterdir()) == ["elf", "kdump-zlib", "raw"],
                   list(to.iterdir()))
            expect((to / "raw").read_bytes() == ram_path(instance).read_bytes(), "raw is not RAM")
        core = Core(to / "elf")
        expect(core.read(MARKER_ADDRESS, len(MARKER)) == MARKER, "the marker is not in its place")
        expect(len(core.registers()) == 1, core.notes)
        expect((to / "kdump-zlib").read_bytes()[:8] in (b"makedump", b"KDUMP   "), "no kdump")
        expect(not leftovers(), leftovers())


@check
def gdb_opens_a_dump() -> None:
    with scratch() as to, counting("gdb") as g:
        freeze(g)
        expect(cli(g, "dump", g.vm.name, str(to / "core"), timeout_s=90).returncode == 0, g.told())
        text = gdb("-c", str(to / "core"), "-ex",
                   f"x/s {MARKER_ADDRESS:#x}")
        expect(MARKER.decode() in text and re.search(r"#0 +0x[0-9a-f]+", text), text)


@check
def without_device_state_memory_is_written() -> None:
    """QEMU was killed for the freeze, or hung: no registers, and that is said."""
    with scratch() as to, counting("nostate") as g:
        os.kill(g.qemu_pid, signal.SIGSTOP)
        g.keeper.ask("Freeze", 60.0, reason="a test", kill=True)
        g.wait_frozen()
        expect(g.instance().certificate["device_state"] == "none", g.instance().certificate)
        with unchanged(g):
            done = cli(g, "dump", g.vm.name, str(to / "core"), timeout_s=90)
            expect(done.returncode == 0 and "registers are missing" in done.stderr, done)
            bad = cli(g, "dump", g.vm.name, str(to / "kdump"), "--format", "kdump-zlib")
            expect(bad.returncode == 1 and "needs QEMU" in bad.stderr, bad)
            bad = cli(g, "inspect", g.vm.name)
            expect(bad.returncode == 1 and "device state" in bad.stderr, bad)
        expect([path.name for path in to.iterdir()] == ["core"], list(to.iterdir()))
        core = Core(to / "core")
        expect(core.read(MARKER_ADDRESS, len(MARKER)) == MARKER, "the marker is not in its place")
        name, _, text = core.notes[0]
        expect(name == b"holdfast" and g.vm.name.encode() in text and not core.registers(), text)
        expect((to / "core").stat().st_blocks * 512 < 8 << 20, "the file is not sparse")


def expect_no_dump(g: Guarded, to: Path, code: int, what: str, *words: str) -> None:
    before = sorted(to.rglob("*"))
    done = cli(g, "dump", *words)
    expect(done.returncode == code and what in done.stderr, done)
    expect(sorted(to.rglob("*")) == before, sorted(to.rglob("*")))


@check
def a_dump_that_cannot_be_is_refused() -> None:
    """And leaves nothing. A file that is there is only overwritten by force."""
    with scratch() as to, counting("bad") as g:
        name = g.vm.name
        freeze(g)
        expect_no_dump(g, to, 2, "--format", name, str(to / "x"), "--format", "pdf")
        expect_no_dump(g, to, 2, "are wanted", name)
        expect_no_dump(g, to, 3, "nobody", "nobody", str(to / "x"))
        expect_no_dump(g, to, 3, "ffffffff", f"{name}@ffffffff", str(to / "x"))
        expect_no_dump(g, to, 1, "no file", name, "/dev/null", "--force")
        (to / "there").write_text("mine")
        expect_no_dump(g, to, 1, "--force", name, str(to / "there"))
        expect((to / "there").read_text() == "mine", "it was overwritten")
        expect_no_dump(g, to, 1, "No such file", name, str(to / "no" / "folder"))
        done = cli(g, "dump", name, str(to / "there"), "--force", timeout_s=90)
        expect(done.returncode == 0 and Core(to / "there").registers(), done)
        (to / "small").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", to / "small"], check=True)
        try:
            expect_no_dump(g, to, 1, "are needed", name, str(to / "small" / "core"))
        finally:
            subprocess.run(["umount", to / "small"], check=True)


@check
def a_vm_that_runs_is_dumped_by_its_keeper() -> None:
    """It stands still for that, and goes on."""
    with scratch() as to, counting("live") as g:
        done = cli(g, "dump", g.vm.name, str(to / "core"), timeout_s=90)
        expect(done.returncode == 0, done)
        core = Core(to / "core")
        expect(core.read(MARKER_ADDRESS, len(MARKER)) == MARKER, "the marker is not in its place")
        expect(len(core.registers()) == 1, core.notes)
        expect((to / "core").stat().st_mode & 0o7777 == 0o600, "its mode")
        g.expect_told_in_order("dumping", "dumped")
        g.wait_life("running")
        bad = cli(g, "dump", g.vm.name, str(to / "core"))
        expect(bad.returncode != 0 and "--force" in bad.stderr, bad)
        bad = cli(g, "dump", g.vm.name, str(to / "raw"), "--format", "raw")
        expect(bad.returncode != 0 and "raw" in bad.stderr, bad)
        expect([path.name for path in to.iterdir()] == ["core"], list(to.iterdir()))


# --- inspect -------------------------------------------------------------------------------------

class Stub:
    """QEMU's gdb stub, spoken to by hand. As long as one is connected the machine stands still."""

    def __init__(self, path: str):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(60)
        self._sock.connect(path)
        self._buffer = b""

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *unused: object) -> None:
        self._sock.close()

    def _packet(self) -> str:
        while not (found := re.search(rb"\$([^#]*)#..", self._buffer)):
            data = self._sock.recv(4096)
            expect(data, "the stub has ended")
            self._buffer += data
        self._buffer = self._buffer[found.end():]
        self._sock.sendall(b"+")
        return found[1].decode()

    def ask(self, text: str) -> str:
        data = text.encode()
        self._sock.sendall(b"$%s#%02x" % (data, sum(data) & 255))
        while (answer := self._packet()).startswith("T"):  # that it stands still now
            continue
        return answer

    def memory(self, address: int, size: int) -> bytes:
        return bytes.fromhex(self.ask(f"m{address:x},{size:x}"))

    def monitor(self, command: str) -> str:
        """QEMU's own: somebody who would break out uses it."""
        answer, text = self.ask("qRcmd," + command.encode().hex()), b""
        while answer != "OK":
            expect(answer.startswith("O"), answer)
            text += bytes.fromhex(answer[1:])
            answer = self._packet()
        return text.decode()

    def detach(self) -> None:
        """The machine goes on."""
        self.ask("D")


class Inspection:
    """with Inspection(g, "--paused") as i: ... holdfast inspect, with a gdb stub."""

    _count = itertools.count(1)

    def __init__(self, g: Guarded, *options: str):
        self.g, lab = g, g.lab
        self.gdb_path = f"/var/tmp/{g.vm.name}.gdb"
        self.proc: Proc = lab.spawn(g.host, [
            g.vm.holdfast(), "inspect", g.vm.name, "--state-dir", f"{lab.self_dir}/state",
            f"--gdb={self.gdb_path}", *options], name=f"{g.vm.name}-inspect{next(self._count)}")
        poll(lambda: not self.proc.is_running() or "ends this" in self.text(), "inspect is there",
             90)
        expect(self.proc.is_running(), self.text())

    def text(self) -> str:
        return self.proc.log.read_text(errors="replace")

    def __enter__(self) -> "Inspection":
        return self

    def __exit__(self, *unused: object) -> None:
        if self.proc.is_running():
            os.kill(self.proc.pid, signal.SIGKILL)
            self.proc.wait(30)
        Path(self.gdb_path).unlink(missing_ok=True)
        for path in leftovers():
            shutil.rmtree(path, ignore_errors=True)

    def children(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(path.read_text().rsplit(")", 1)[1].split()[1]) == self.proc.pid:
                    found.append(int(path.parent.name))
        return found

    def qemu(self) -> int:
        for pid in self.children():
            if b"-incoming" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError(f"no QEMU among {self.children()}: {self.text()}")

    def stub(self) -> Stub:
        return Stub(self.gdb_path)

    def end(self, number: int = signal.SIGINT) -> None:
        children = self.children()
        os.kill(self.proc.pid, number)
        expect(self.proc.wait(30) == 0, self.text())
        poll(lambda: not any(map(is_alive, children)), f"{children} are left")
        expect(not os.path.exists(self.gdb_path) and not leftovers(), leftovers())


def counter(stub: Stub) -> int:
    return int.from_bytes(stub.memory(COUNTER_ADDRESS, 4), "little")


@check
def a_frozen_vm_lives_on_a_private_copy() -> None:
    """It counts on there, and not in what is kept; it cannot reach anything."""
    with counting("inspect") as g:
        freeze(g)
        with unchanged(g) as instance, Inspection(g, "--run") as i:
            kept = ram_path(instance).read_bytes()[COUNTER_ADDRESS:][:4]
            frozen_at = int.from_bytes(kept, "little")
            with i.stub() as stub:
                first = counter(stub)
                expect(first >= frozen_at, (first, frozen_at))
                expect(stub.memory(MARKER_ADDRESS, len(MARKER)) == MARKER, "no marker")
                stub.detach()
            time.sleep(0.2)
            with i.stub() as stub:
                expect(counter(stub) > first, f"it does not count on from {first}")
                stub.detach()
            expect_walls(i)
            i.end()
        expect(is_alive(instance.certificate["qemu"]["pid"]), "the frozen QEMU is gone")
        expect(cgroup_pids(instance.certificate["cgroup"]) == [instance.certificate["qemu"]["pid"]],
               "somebody moved into its cgroup")


def expect_walls(i: Inspection) -> None:
    pid = i.qemu()
    status = dict(line.split(":\t") for line in
                  Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    expect(int(status["CapEff"], 16) == 1 << 2, f"capabilities {status['CapEff']}")
    expect(status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", status)
    for kind in ("net", "mnt", "ipc"):
        own, ours = (os.readlink(f"/proc/{p}/ns/{kind}") for p in (pid, i.proc.pid))
        expect(own != ours, f"its {kind} namespace is not its own")
    devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    expect([line.split(":")[0].strip() for line in devices] == ["lo"], devices)
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    writable = [m[4] for m in mounts if "rw" in m[5].split(",")]
    expect(len(writable) == 1 and "/holdfast-inspect." in writable[0], writable)


@check
def it_stands_still_if_it_is_to() -> None:
    """--paused; and it ends by any way in which a terminal can."""
    with counting("still") as g:
        freeze(g)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with unchanged(g), Inspection(g, "--paused") as i:
                expect("stands still" in i.text(), i.text())
                with i.stub() as stub:
                    expect("paused" in stub.monitor("info status"), stub.monitor("info status"))
                i.end(number)


@check
def nothing_it_writes_reaches_a_disk() -> None:
    """What is written goes to an overlay, whoever writes; a balloon punches no holes."""
    with Lab((HOST,)) as lab:
        image = lab.host_dir(HOST) / "disk.img"
        image.write_bytes(b"\x11" * (1 << 20))
        vm = tiny_vm(lab, "disk", mode=COUNTS, extra=(
            "-drive", f"file={lab.self_dir}/disk.img,format=raw,if=none,id=d0",
            "-device", "virtio-blk-pci,drive=d0", "-device", "virtio-balloon-pci"))
        with Guarded(vm) as g:
            freeze(g)
            with unchanged(g, image), Inspection(g, "--run") as i, i.stub() as stub:
                for words in ("write -P 0x22 0 64k", "read -P 0x22 0 64k", "read -P 0x11 64k 64k"):
                    stub.monitor(f'qemu-io d0 "{words}"')
                # It says that on its standard output.
                poll(lambda: i.text().count("64 KiB") == 3, "three transfers")
                expect("failed" not in i.text(), i.text())
                text = stub.monitor(f'memsave 0 16 "{lab.self_dir}/escaped"')
                expect("ead-only" in text, text)
                i.end()
            expect(not (lab.host_dir(HOST) / "escaped").exists(), "it has written a file")


@check
def nonsense_is_refused() -> None:
    with counting("nonsense") as g:
        for words, code, what in (((g.vm.name,), 3, "frozen"), (("../x",), 2, "name"),
                                  ((g.vm.name, "-m", "1G"), 2, "no such option"),
                                  ((g.vm.name, "extra"), 2, "options of QEMU")):
            done = cli(g, "inspect", *words)
            expect(done.returncode == code and what in done.stderr, (words, done))
        freeze(g)
        done = cli(g, "inspect", g.vm.name, "--gdb=/no/such/folder")
        expect(done.returncode == 1 and "--gdb" in done.stderr, done)


@check
def its_console_is_the_terminal() -> None:
    """What the guest says is seen, Ctrl-A x leaves, and the terminal is as it was before."""
    with Lab((HOST,)) as lab:
        vm = guest_vm(lab, f"{lab.prefix}console", 0)
        with Guarded(vm) as g:
            with Guest(lab, vm.addr) as guest:
                guest.wait_up(120.0)
            freeze(g)
            ours, theirs = os.openpty()
            before = termios.tcgetattr(theirs)
            with unchanged(g):
                proc = subprocess.Popen(
                    [vm.holdfast(), "inspect", vm.name, "--state-dir",
                     str(lab.host_dir(HOST) / "state")],
                    stdin=theirs, stdout=theirs, stderr=theirs)
                try:
                    text = read_until(ours, rb"Ctrl-A x ends this")
                    poll(lambda: termios.tcgetattr(theirs) != before, "the terminal is raw")
                    text += read_until(ours, rb"tick \d+\r+\n")
                    os.write(ours, b"\x01x")
                    expect(proc.wait(30) == 0, text)
                finally:
                    proc.kill()
                    proc.wait()
            expect(termios.tcgetattr(theirs) == before, "the terminal is not as it was")
            os.close(ours)
            os.close(theirs)


def read_until(fd: int, pattern: bytes, timeout_s: float = 90.0) -> bytes:
    text, deadline = b"", time.monotonic() + timeout_s
    while not re.search(pattern, text):
        left = deadline - time.monotonic()
        expect(left > 0 and select.select([fd], [], [], left)[0], f"no {pattern!r} in {text!r}")
        text += os.read(fd, 4096)
    return text


# --- a real guest --------------------------------------------------------------------------------

def find_all(core: Core, what: bytes) -> list[int]:
    found, step = [], 1 << 20
    for start, size, _ in core.loads:
        for at in range(0, size, step):
            data = core.read(start + at, min(step + len(what), size - at))
            if (i := data.find(what)) >= 0:
                found.append(start + at + i)
    return found


def rip_of(prstatus: bytes) -> int:
    """elf_prstatus of x86_64: pr_reg begins at 112, rip is its 17th."""
    return int(struct.unpack_from("<Q", prstatus, 112 + 16 * 8)[0])


@check
def a_panicked_guests_dump_tells() -> None:
    """The marker that a process of the guest held, registers of both vCPUs, in the kernel."""
    with scratch() as to, Lab((HOST,)) as lab:
        vm = guest_vm(lab, f"{lab.prefix}panicked", 0, smp=2, extra=("-device", "pvpanic"))
        with Guarded(vm) as g:
            with Guest(lab, vm.addr) as guest:
                guest.wait_up(120.0)
                guest.ask("marker examined")
                with contextlib.suppress(Exception):
                    guest.ask("panic", 5.0)
            g.wait_frozen()
            with unchanged(g):
                done = cli(g, "dump", vm.name, str(to / "core"), timeout_s=120)
                expect(done.returncode == 0 and not done.stderr, done)
                with Inspection(g) as i:
                    expect("stands still" in i.text(), i.text())
                    i.end()
            core = Core(to / "core")
            expect(find_all(core, b"HOLDFAST-MARKER:examined"), "the marker is nowhere")
            rips = [rip_of(registers) for registers in core.registers()]
            expect(len(rips) == 2 and all(rip >> 40 == 0xffffff for rip in rips),
                   [hex(rip) for rip in rips])
            text = gdb("-c", str(to / "core"), "-ex", "info threads")
            expect(len(re.findall(r"LWP [12]", text)) >= 2, text)


if __name__ == "__main__":
    sys.exit(main())
