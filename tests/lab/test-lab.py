#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab tested by itself: the guest runs under plain QEMU, without holdfast. Each oracle that the
integration tests rest on is also shown a broken promise, and must see it.

usage: test-lab.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU, QEMU_DATA. Exit status: 0, 1, or 77 when not root."""

import json
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Callable, Iterator, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import CLIENT, Guest, GuestError, Lab, LabError, Vm  # noqa: E402

PAGE = 4096
Check = Callable[[], None]
checks: list[Check] = []


def check(function: Check) -> Check:
    checks.append(function)
    return function


def expect(is_right: bool, what: object) -> None:
    if not is_right:
        raise AssertionError(what)


class Running:
    """A lab with the guest up on hostA, its RAM in a file that the test can reach."""

    def __init__(self, smp: int = 1, machine: str = "q35"):
        self.lab = Lab()
        self.vm = Vm(self.lab, smp=smp, machine=f"{machine},memory-backend=ram", extra=[
            "-object", "memory-backend-file,id=ram,size=256M,mem-path=/dev/shm/ram,share=on",
            "-qmp", f"unix:{self.lab.self_dir}/run/qmp,server=on,wait=off"])

    def __enter__(self) -> "Running":
        self.lab.__enter__()
        try:
            self.qemu = self.vm.start_plain("hostA")
            self.guest = Guest(self.lab)
            self.guest.wait_up()
        except BaseException:
            self.lab.close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.guest.close()
        self.lab.close()

    def client(self, kind: str, *options: str) -> dict:
        """A client's result."""
        return self.lab.client(kind, self.vm.addr, *options).wait_event("result", timeout_s=30)

    def ram(self) -> mmap.mmap:
        with open(self.lab.shm / "hostA" / "ram", "r+b") as f:
            return mmap.mmap(f.fileno(), 0)


def pages_of_buffer(ram: mmap.mmap) -> Iterator[int]:
    """Where the pages of the guest's "mem" buffer lie: their words 2, 3, 4 count up."""
    for at in range(0, len(ram), PAGE):
        a, b, c, d = struct.unpack_from("<4Q", ram, at + 16)
        if a > 1 << 32 and (b - a, c - b, d - c) == (1, 1, 1):
            yield at


# --- the guest -----------------------------------------------------------------------------------

@check
def services_answer() -> None:
    for smp, machine in ((1, "q35"), (4, "pc")):
        with Running(smp, machine) as r:
            stream = r.client("stream", "--bytes", "30000000", "--seed", "77")
            expect(stream["ok"] and stream["bytes"] >= 30000000, stream)
            echo = r.client("echo", "--bytes", "10000000")
            expect(echo["ok"] and echo["bytes"] == 10000000, echo)
            counter = r.client("counter", "--time", "1000", "--interval", "2000")
            expect(counter["ok"] and counter["replies"] > 100, counter)
            ping = r.client("ping", "--time", "1000", "--interval", "2000", "--size", "1400")
            expect(ping["ok"] and ping["replies"] > 100 and ping["reordered"] == 0, ping)
            stat = r.guest.stat()
            expect(stat["counter"] >= counter["highest"] and stat["violated"] == 0, stat)
            expect(stat["streamed"] >= 30000000 and stat["echoed"] >= 10000000, stat)
            expect("GUEST UP" in r.vm.console("hostA"), r.vm.console("hostA"))


@check
def stream_keeps_its_limit() -> None:
    with Running() as r:
        result = r.client("stream", "--limit", "4000000", "--time", "2000")
        expect(result["ok"] and 6e6 < result["bytes"] < 8.1e6, result)


@check
def load_runs_and_stops() -> None:
    with Running(smp=2) as r:
        r.guest.ask("mem 32")
        r.guest.ask("dirty 5")
        r.guest.ask("spin 2")
        before = r.guest.stat()
        counter = r.client("counter", "--time", "1500")
        after = r.guest.stat()
        expect(counter["ok"], counter)
        ms = (after["uptime_ns"] - before["uptime_ns"]) / 1e6
        rate = (after["dirtied"] - before["dirtied"]) / ms
        expect(2.5 < rate < 5.5, f"dirty 5 gave {rate:.1f} pages per ms")
        expect(after["spun"] > before["spun"], after)
        r.guest.memcheck()
        r.guest.ask("dirty max 32")
        r.guest.memcheck()
        r.guest.ask("dirty 0")
        r.guest.ask("spin 0")
        one = r.guest.stat()
        two = r.guest.stat()
        expect(one["dirtied"] == two["dirtied"], (one, two))
        numbers = r.guest.burst(3000, 200)
        expect(numbers == list(range(3000)), f"{len(numbers)} of 3000 datagrams")


@check
def bad_requests_are_refused() -> None:
    with Running() as r:
        for text in ("nonsense", "mem 100000", "mem 18446744073709551615", "mem x", "mem -1", "mem",
                     "dirty 1000000", "dirty max 0", "spin 99", "burst 1 4", "burst 99999999 8"):
            try:
                r.guest.ask(text)
            except GuestError:
                continue
            raise AssertionError(f"{text!r} was accepted")
        expect(r.guest.stat()["pages"] == 0, "a refused request changed something")


@check
def lost_pages_are_seen() -> None:
    with Running() as r, r.ram() as ram:
        r.guest.ask("mem 16")
        pages = list(pages_of_buffer(ram))
        expect(len(pages) == 16 * 256, f"found {len(pages)} pages")
        at = pages[1234]
        old = ram[at:at + PAGE]
        r.guest.ask("dirty 100")
        while r.guest.stat()["dirtied"] < 2 * len(pages):
            pass
        r.guest.ask("dirty 0")
        r.guest.memcheck()
        new = ram[at:at + PAGE]
        for what, data in (("an old page", old), ("a zero page", bytes(PAGE)),
                           ("a wrong byte", new[:999] + bytes([new[999] ^ 1]) + new[1000:])):
            ram[at:at + PAGE] = data
            try:
                r.guest.memcheck()
            except GuestError as error:
                expect("bad=1 " in str(error), error)
            else:
                raise AssertionError(f"{what} was not seen")
            ram[at:at + PAGE] = new
        r.guest.memcheck()


@check
def forgotten_outputs_are_seen() -> None:
    with Running() as r:
        boot = r.guest.stat()["boot"]
        with r.lab.socket(CLIENT) as sock:
            sock.settimeout(5)
            sock.connect((r.vm.addr, 7002))
            sock.send(struct.pack("<QQI", 1, 0, boot))
            nonce, value, flags, got_boot = struct.unpack("<QQII", sock.recv(64))
            expect((nonce, value, flags, got_boot) == (1, 1, 0, boot), (nonce, value, flags))
            sock.send(struct.pack("<QQI", 2, 1000, boot ^ 1))
            expect(struct.unpack("<QQII", sock.recv(64))[2] == 0, "blamed for another boot")
            sock.send(struct.pack("<QQI", 3, 1000, boot))
            expect(struct.unpack("<QQII", sock.recv(64))[2] == 1, "not seen by the guest")
        result = r.client("counter", "--time", "300")
        expect(not result["ok"] and result["violations"] > 0, result)
        expect("VIOLATION" in r.vm.console("hostA"), r.vm.console("hostA"))


@check
def reboot_is_told_from_rollback() -> None:
    with Running() as r:
        strict = r.lab.client("counter", r.vm.addr, "--report", "100")
        lenient = r.lab.client("counter", r.vm.addr, "--report", "100", "--may-reboot")
        first = r.guest.stat()["boot"]
        strict.wait_event("progress", match=lambda e: e["replies"] > 0)
        r.guest.ask("reboot")
        for proc in (strict, lenient):
            proc.wait_event("progress", 30, match=lambda e: e["reboots"] > 0)
        expect(r.guest.stat()["boot"] != first, "the same boot id")
        result = lenient.stop()
        expect(result["ok"] and result["reboots"] == 1 and result["violations"] == 0, result)
        expect(not strict.stop()["ok"], "a reboot passed for continuity")


@check
def guest_switches_off() -> None:
    with Running() as r:
        r.guest.ask("poweroff")
        expect(r.qemu.wait(20) == 0, "QEMU's exit status")
    with Running() as r, socket.socket(socket.AF_UNIX) as qmp:
        qmp.connect(str(r.lab.host_dir("hostA") / "run/qmp"))
        for name in ("qmp_capabilities", "system_powerdown"):
            qmp.send(json.dumps({"execute": name}).encode())
        expect(r.qemu.wait(20) == 0, "QEMU's exit status")
        expect("button" in r.vm.console("hostA"), r.vm.console("hostA"))


# --- the clients ---------------------------------------------------------------------------------

def serve_once(listener: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    try:
        conn, _ = listener.accept()
    except OSError:
        return  # the check failed before there was a client
    with conn:
        try:
            conn.sendall(answer(conn.recv(12)))
            conn.shutdown(socket.SHUT_WR)
            conn.settimeout(5)
            conn.recv(1)
        except OSError:
            pass  # a client that has seen enough goes without a word


def pattern(seed: int, count: int) -> bytes:
    """tests/guest/pattern.h, written a second time: the two must agree."""
    words, mask = [], (1 << 64) - 1
    for i in range((count + 7) // 8):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return struct.pack(f"<{len(words)}Q", *words)[:count]


def data_differs_at(data: bytes, right: bytes) -> int:
    return next(i for i, (a, b) in enumerate(zip(data, right)) if a != b)


@check
def wrong_bytes_are_seen() -> None:
    right = pattern(5, 40001)
    cases = {"right": (right, 0), "flipped": (right[:30003] + b"!" + right[30004:], 1),
             "lost": (right[:777] + right[778:], 1), "repeated": (right[:4096] * 2, 1),
             "short": (right[:40000], 1)}
    with Lab() as lab:
        for name, (data, want) in cases.items():
            with lab.socket("hostA", socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((lab.guest_addr("hostA"), 7000))
                listener.listen()
                server = threading.Thread(target=serve_once, args=(listener, lambda _: data))
                server.start()
                proc = lab.client("stream", lab.guest_addr("hostA"), "--seed", "5", "--bytes",
                                  "40001")
                result = proc.wait_event("result")
                server.join()
            expect(proc.wait() == want, f"{name}: {proc.events}")
            if name in ("flipped", "lost"):
                expect(result["bytes"] == data_differs_at(data, right), f"{name}: {result}")


@check
def client_sees_lying_counters() -> None:
    """Replies as a rolled-back guest would send them; the last one is legal."""
    def reply(nonce: int, value: int) -> bytes:
        return struct.pack("<QQII", nonce, value, 0, 9)

    def play(lab: Lab, values: list[int], is_twice: bool) -> dict:
        with lab.socket("hostA") as sock:
            sock.bind((lab.guest_addr("hostA"), 7002))
            sock.settimeout(5)
            proc = lab.client("counter", lab.guest_addr("hostA"), "--interval", "5000", "--retry",
                              "5000")
            for value in values:
                data, peer = sock.recvfrom(64)
                for _ in range(2 if is_twice else 1):
                    sock.sendto(reply(struct.unpack_from("<Q", data)[0], value), peer)
            sock.recvfrom(64)
            return proc.stop()

    with Lab() as lab:
        expect(play(lab, [1, 2, 3, 7, 8], False)["ok"], "an honest counter")
        twice = play(lab, [1, 2, 3], True)
        expect(twice["ok"] and twice["duplicates"] == 3, twice)
        expect(play(lab, [5, 6, 6, 7], False)["violations"] == 1, "one value twice")
        expect(play(lab, [5, 6, 2, 7], False)["violations"] == 1, "an old value")


# --- hosts and cables ----------------------------------------------------------------------------

class Pipe:
    """Datagrams from one host to the other over the replication network."""

    def __init__(self, lab: Lab):
        self.near, self.far = lab.socket("hostA"), lab.socket("hostB")
        self.near.bind((lab.repl_addr("hostA"), 9000))
        self.far.bind((lab.repl_addr("hostB"), 9000))
        self.to = (lab.repl_addr("hostB"), 9000)
        self.back = (lab.repl_addr("hostA"), 9000)

    def round_trip(self, timeout_s: float = 1.0) -> Optional[float]:
        """Seconds, or None when a datagram was lost."""
        start = time.monotonic()
        self.near.sendto(b"there", self.to)
        for sock, answer in ((self.far, True), (self.near, False)):
            if not select.select([sock], [], [], timeout_s)[0]:
                return None
            sock.recv(64)
            if answer:
                sock.sendto(b"back", self.back)
        return time.monotonic() - start

    def close(self) -> None:
        self.near.close()
        self.far.close()


def push(lab: Lab, count: int) -> float:
    """Seconds for so many bytes over TCP from hostA to hostB."""
    with lab.socket("hostB", socket.SOCK_STREAM) as listener, \
            lab.socket("hostA", socket.SOCK_STREAM) as sender:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((lab.repl_addr("hostB"), 9001))
        listener.listen()
        sender.connect((lab.repl_addr("hostB"), 9001))
        conn, _ = listener.accept()
        thread = threading.Thread(target=sender.sendall, args=(bytes(count),))
        start = time.monotonic()
        thread.start()
        with conn:
            left = count
            while left > 0:
                left -= len(conn.recv(1 << 20))
        thread.join()
        return time.monotonic() - start


@check
def cables_can_be_cut_and_slowed() -> None:
    with Lab() as lab:
        pipe = Pipe(lab)
        expect(pipe.round_trip() is not None, "no way from host to host")
        lab.cut("hostA")
        expect(pipe.round_trip(0.2) is None, "the cut cable carries")
        lab.heal("hostA")
        expect(pipe.round_trip() is not None, "the healed cable does not carry")
        lab.set_delay("hostA", 20)
        pipe.round_trip()
        slow = pipe.round_trip()
        expect(slow is not None and 0.040 <= slow < 0.060, f"20 ms each way took {slow}")
        lab.cut("hostA")
        expect(pipe.round_trip(0.2) is None, "the cut slow cable carries")
        lab.heal("hostA")
        lab.set_rate("hostA", 80)
        seconds = push(lab, 5_000_000)
        expect(0.45 < seconds < 1.0, f"5 MB at 80 Mbit/s took {seconds:.2f} s")
        lab.set_cable("hostA")
        seconds = push(lab, 5_000_000)
        expect(seconds < 0.3, f"5 MB on the plain cable took {seconds:.2f} s")
        pipe.close()


@check
def guest_network_survives_a_cut() -> None:
    with Running() as r:
        stream = r.lab.client("stream", r.vm.addr, "--limit", "20000000", "--gap", "150")
        ping = r.lab.client("ping", r.vm.addr, "--report", "50")
        ping.wait_event("progress", match=lambda e: e["replies"] > 0)
        r.lab.cut("hostA", "guest")
        ping.wait_event("progress", match=lambda e: e["unanswered"] > 30)
        r.lab.heal("hostA", "guest")
        gap = stream.wait_event("gap")
        expect(gap["gap_ns"] > 150e6, gap)
        expect(stream.stop()["ok"], stream.events)
        result = ping.stop()
        expect(result["ok"] and result["longest_gap_ns"] > 150e6, result)


@check
def a_host_dies_whole() -> None:
    with Running() as r:
        lab = r.lab
        nest = ("(setsid sh -c '(setsid sleep 1000 &) ; sleep 1000' &) ;"
                "echo '{\"event\":\"up\"}'; sleep 1000")
        lab.spawn("hostA", ["sh", "-c", nest], is_json=True).wait_event("up")
        other = lab.spawn("hostB", ["sleep", "1000"])
        deadline = time.monotonic() + 30
        while len(lab.pids("hostA")) < 4: # those in the background come when they come
            expect(time.monotonic() < deadline, lab.pids("hostA"))
            time.sleep(0.01)
        expect(lab.kill_host("hostA", is_silent=True) >= 4, "too few were killed")
        expect(lab.pids("hostA") == [], lab.pids("hostA"))
        expect(other.is_running(), "the other host died, too")
        expect(list((lab.shm / "hostA").iterdir()) == [], "the dead host's memory is there")
        expect("hft0" not in lab.ip("hostA", "link"), "the dead host's tap is there")
        lab.boot_host("hostA")
        r.qemu = r.vm.start_plain("hostA")
        r.guest.wait_up()


def traces(prefix: str) -> list[str]:
    """What a lab of that prefix has left on this machine."""
    found = [str(p) for folder in ("/run/netns", "/dev/shm", "/tmp")
             for p in Path(folder).glob(f"{prefix}*")]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if prefix in line:
            found.append(f"{pid}: {line}")
    found += [m for m in Path("/proc/mounts").read_text().splitlines() if prefix in m]
    return found


def victim() -> None:
    """A lab at work, until a signal; run as a process of its own."""
    with Running() as r:
        r.lab.set_delay("hostA", 1)
        r.lab.client("stream", r.vm.addr)
        print(r.lab.prefix, flush=True)
        if sys.argv[2] == "raise":
            raise LabError("for the test")
        signal.pause()


@check
def nothing_is_left_behind() -> None:
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, "raise"):
        with subprocess.Popen([sys.executable, __file__, "--victim", str(how)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as proc:
            assert proc.stdout is not None
            prefix = proc.stdout.readline().strip()
            expect(prefix.startswith("hf"), f"{how}: the victim did not start")
            if how != "raise":
                expect(len(traces(prefix)) > 4, f"{how}: the victim does nothing")
                proc.send_signal(how)
            proc.wait(20)
        # After SIGKILL the janitor is at it, as a process that is no child of ours.
        deadline = time.monotonic() + 10
        while traces(prefix) and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        expect(not traces(prefix), f"{how}: left: {traces(prefix)}")


def main() -> int:
    if sys.argv[1:2] == ["--victim"]:
        victim()
        return 0
    if os.geteuid() != 0:
        print("1..0 # SKIP network namespaces need root")
        return 77
    wanted = [c for c in checks if not sys.argv[1:] or sys.argv[1] in c.__name__]
    print(f"1..{len(wanted)}", flush=True)
    failed = 0
    for number, function in enumerate(wanted, 1):
        start = time.monotonic()
        try:
            function()
            word = "ok"
        except Exception:  # the other checks are still worth running
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="")
            word = "not ok"
            failed += 1
        seconds = time.monotonic() - start
        print(f"{word} {number} - {function.__name__} # {seconds:.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
