#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`holdfast save`, and the start that resumes from it: memory, devices and disks are those that
were; each state is resumed once; whatever goes wrong on the way, the VM runs on.

usage: test-save.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR, HF_GUEST_DIR, QEMU; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

from checks import check, expect, main, poll

# pylint: disable=wrong-import-position
from frozenvm import HOST, Guarded, cli, expect_refused, tiny_vm  # noqa: E402
from lab import Lab, Proc  # noqa: E402
from labfreeze import COUNTER_ADDRESS, COUNTS, Tracer, state_folder  # noqa: E402
from leased import Leased  # noqa: E402
from protected import HOSTS, Control, Pair  # noqa: E402


def saved(g: Guarded) -> Path:
    return state_folder(g.lab, g.host, g.vm.name) / "saved"


def folders(g: Guarded) -> list[str]:
    path = saved(g).parent
    return sorted(p.name for p in path.glob("saved*")) if path.exists() else []


def counter(g: Guarded) -> int:
    """Of the tiny guest, read from its memory."""
    for path in Path(f"/proc/{g.keeper.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"/memfd:holdfast-{g.vm.name} "):
                with open(path, "rb") as f:
                    return int.from_bytes(os.pread(f.fileno(), 4, COUNTER_ADDRESS), "little")
    raise AssertionError("its memory is nowhere")


def counter_in(path: Path) -> int:
    with open(path, "rb") as f:
        return int.from_bytes(os.pread(f.fileno(), 4, COUNTER_ADDRESS), "little")


def save(g: Guarded) -> int:
    """In order, to the end of the keeper. What it has counted."""
    expect(counter(g) >= 0, "it counts")
    done = cli(g, "save", g.vm.name, timeout_s=60)
    expect(done.returncode == 0, (done, g.keeper.log()))
    expect(g.exit_code() == 0, g.keeper.log())
    expect(folders(g) == ["saved"], folders(g))
    return counter_in(saved(g) / "ram")


@contextlib.contextmanager
def counting_on(lab: Lab, name: str, *options: str, **more: Any) -> Iterator[Guarded]:
    with Guarded(tiny_vm(lab, name, *options, mode=COUNTS, **more)) as g:
        yield g


@check
def a_saved_vm_goes_on_from_where_it_was() -> None:
    """Once. What is kept meanwhile is whole, takes no more than it must, and is root's alone."""
    with Lab((HOST,)) as lab:
        with counting_on(lab, "save") as g:
            poll(lambda: counter(g) > 1000, "it counts")
            at = save(g)
            expect(at > 1000, at)
            g.expect_told_in_order("saving", "saved")
            note = json.loads((saved(g) / "save.json").read_text())
            expect(note["was_running"] and note["is_settled"] and note["vm"] == g.vm.name, note)
            ram = (saved(g) / "ram").stat()
            expect(ram.st_size == 8 << 20 and ram.st_blocks * 512 < ram.st_size, ram)
            expect(all(p.stat().st_mode & 0o7777 == 0o600 for p in saved(g).iterdir()), "modes")
        with counting_on(lab, "save") as g:
            g.keeper.wait("resumed")
            expect(counter(g) >= at, (counter(g), at))
            poll(lambda: counter(g) > at + 1000, "it counts on")
            expect(not folders(g), folders(g))
            g.wait_life("running")


@check
def a_paused_vm_stays_paused() -> None:
    with Lab((HOST,)) as lab:
        with counting_on(lab, "paused") as g:
            g.keeper.ask("Pause")
            g.wait_life("paused")
            at = save(g)
        with counting_on(lab, "paused") as g:
            g.wait_life("paused")
            expect(counter(g) == at, (counter(g), at))
            g.keeper.ask("Resume")
            poll(lambda: counter(g) > at, "it counts on")


@check
def a_state_that_fits_no_more_is_refused() -> None:
    """A disk that was written to since, another machine. --discard-saved boots; --force resumes."""
    with Lab((HOST,)) as lab:
        image = lab.host_dir(HOST) / "disk.img"
        image.write_bytes(bytes(1 << 20))
        disk = ("-drive", f"file={lab.self_dir}/disk.img,format=raw,if=none,id=d0",
                "-device", "virtio-blk-pci,drive=d0")
        with counting_on(lab, "stale", extra=disk) as g:
            poll(lambda: counter(g) > 1000, "it counts")
            at = save(g)
            vm, path = g.vm, saved(g)
        os.utime(image)
        expect_no_start(vm, "disk.img")
        expect(path.exists(), "the state is gone")
        with counting_on(lab, "stale", "--force", extra=disk) as g:
            expect(counter(g) >= at, (counter(g), at))
            at = save(g)
        other = tiny_vm(lab, "stale", mode=COUNTS, mem_mib=16, extra=disk)
        expect_no_start(other, "bytes of RAM")
        with counting_on(lab, "stale", "--discard-saved", extra=disk) as g:
            expect(counter(g) < at and not folders(g), (counter(g), at, folders(g)))


def expect_no_start(vm: Any, what: str) -> None:
    proc: Proc = vm.spawn(HOST)
    code = proc.wait(60)
    text = proc.log.read_text(errors="replace")
    expect(code not in (0, None) and what in text, (code, text[-2000:]))


@check
def damage_is_seen_before_the_guest_runs() -> None:
    with Lab((HOST,)) as lab:
        with counting_on(lab, "damage") as g:
            poll(lambda: counter(g) > 1000, "it counts")
            at = save(g)
            vm, path = g.vm, saved(g)
        state = (path / "device-state").read_bytes()
        (path / "device-state").write_bytes(state[:-1] + b"?")
        expect_no_start(vm, "damaged")
        (path / "device-state").write_bytes(state)
        note = (path / "save.json").read_text()
        (path / "save.json").write_text(note[:-10])
        expect_no_start(vm, "--discard-saved")
        (path / "save.json").write_text(note)
        with counting_on(lab, "damage") as g:
            expect(counter(g) >= at, (counter(g), at))


def expect_runs_on(g: Guarded) -> None:
    at = counter(g)
    poll(lambda: counter(g) > at, "it counts on")
    g.wait_life("running")
    expect(not folders(g), folders(g))


@check
def a_save_that_fails_lets_the_vm_run_on() -> None:
    """No room; the state's folder cannot be made; a QEMU that dies in the middle takes it along."""
    with Lab((HOST,)) as lab, counting_on(lab, "full") as g:
        folder = saved(g).parent
        folder.mkdir(parents=True, exist_ok=True)
        expect_runs_on(g)
        inside = f"{lab.self_dir}/state/{g.vm.name}"
        subprocess.run(["nsenter", "-m", "-t", str(g.keeper.pid), "mount", "-t", "tmpfs", "-o",
                        "size=64k", "small", inside], check=True)
        done = cli(g, "save", g.vm.name)
        expect(done.returncode != 0 and "needed" in done.stderr, done)
        g.keeper.wait("save-failed")
        expect_runs_on(g)
        subprocess.run(["nsenter", "-m", "-t", str(g.keeper.pid), "umount", inside], check=True)
        folder.rmdir()
        folder.write_text("in the way")
        done = cli(g, "save", g.vm.name)
        expect(done.returncode != 0, done)
        at = counter(g)
        poll(lambda: counter(g) > at, "it counts on")
        folder.unlink()
        expect_runs_on(g)


@check
def a_freeze_calls_a_save_off() -> None:
    """At each step of it: what is frozen is never to be resumed here as well."""
    with Lab((HOST,)) as lab:
        for step, calls in (("saved", "rename,renameat,renameat2"), ("saved.new", "fsync")):
            with counting_on(lab, f"both-{len(step)}") as g, \
                    contextlib.closing(Control(g.keeper.path)) as saving:
                with Tracer(lab, g.keeper.pid, "-e", f"trace={calls}", "-e",
                            f"inject={calls}:delay_exit=300000"):
                    saving.send("Save")
                    poll(lambda folder=step, vm=g: folder in folders(vm), f"{step} is there")
                    g.keeper.ask("Freeze", 30.0, reason="a test")
                expect_refused(lambda c=saving: c.receive(30.0), "frozen")
                poll(lambda vm=g: not folders(vm), f"nothing to resume stays: {folders(g)}")
                instance = g.instance()
                expect(instance.is_certified() and g.keeper.status()["life"] == "frozen", instance)


@check
def an_interrupted_resume_is_not_repeated() -> None:
    """What a keeper has left that died at the worst moment is not run a second time."""
    with Lab((HOST,)) as lab:
        with counting_on(lab, "twice") as g:
            poll(lambda: counter(g) > 1000, "it counts")
            at = save(g)
            saved(g).rename(saved(g).with_name("saved.used"))
        with counting_on(lab, "twice") as g:
            expect(counter(g) < at, "it was resumed again")
            expect("saved.used" in g.keeper.log(), g.keeper.log())


@check
def a_lease_tells_whose_state_is_the_last() -> None:
    """Given back by a save. A start that failed under it changes nothing; a life elsewhere does."""
    with Leased() as leased:
        boot = leased.guest.stat()["boot"]
        leased.keeper.ask("Save", 60.0)
        expect(leased.keeper.exit_code() == 0, leased.keeper.log())
        poll(lambda: leased.owner() == "", "the lease is free")
        failed = leased.spawn("hostA", "--preload", "/no/such/file.so")
        expect(failed.wait(60) != 0, "it started")
        with contextlib.closing(leased.run("hostA")) as again:
            leased.guest.wait_up()
            expect(leased.guest.stat()["boot"] == boot, "it has booted")
            again.ask("Save", 60.0)
            expect(again.exit_code() == 0, again.log())
        with contextlib.closing(leased.run("hostB")) as other:
            other.ask("Stop", force=True)
            other.exit_code()
        stale = leased.spawn("hostA")
        code, text = stale.wait(60), stale.log.read_text(errors="replace")
        expect(code != 0 and "has run elsewhere" in text, (code, text[-2000:]))


@check
def only_what_can_be_saved_is() -> None:
    with Lab((HOST,)) as lab, counting_on(lab, "which") as g:
        done = cli(g, "save", "nobody")
        expect(done.returncode == 3, done)
        done = cli(g, "save", f"{g.vm.name}@12345678")
        expect(done.returncode == 7 and "frozen" in done.stderr, done)
        g.keeper.ask("Freeze", 60.0, reason="a test")
        g.wait_frozen()
        done = cli(g, "save", g.vm.name)
        expect(done.returncode in (3, 7), done)
        expect(not folders(g), folders(g))


@check
def a_protected_vm_is_saved_and_its_standby_hears_of_it() -> None:
    """It ends in order: the standby does not take over."""
    with Pair() as pair:
        pair.guest.ask("mem 16")
        boot, value = pair.guest.stat()["boot"], pair.guest.stat()["counter"]
        pair.primary.ask("Save", 120.0)
        expect(pair.primary.exit_code() == 0, pair.primary.log())
        pair.standby.wait("idle")
        expect(not pair.standby.seen("live"), "the standby went live")
        pair.primary = pair.start_primary(*HOSTS)
        pair.guest.wait_up()
        stat = pair.guest.stat()
        expect(stat["boot"] == boot and stat["counter"] >= value, (stat, boot, value))
        pair.guest.memcheck()


if __name__ == "__main__":
    sys.exit(main())
