#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The descriptions of the Varlink interfaces against the tables of their methods, and against the
errors that the sources answer with."""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tap  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ROOT / "data" / "varlink"
# The interface, its name in the sources, the file of its table, and those that answer with errors.
SERVED = (
    ("org.holdfast.Host", "HF_HOST_INTERFACE", "src/daemon/hostctl.c", "src/daemon/*.c"),
    ("org.holdfast.Peer", "HF_PEER_INTERFACE", "src/daemon/peers-serve.c", "src/daemon/peers*.c"),
    ("org.holdfast.Keeper", "INTERFACE", "src/keeper/control.c", "src/keeper/*.c"),
)


def text_of(interface: str) -> str:
    return (TEXTS / f"{interface}.varlink").read_text(encoding="ascii")


def described(interface: str, what: str) -> set[str]:
    return set(re.findall(rf"(?m)^{what} (\w+)", text_of(interface)))


def methods() -> list[str]:
    """each method that is served is described, and the reverse"""
    problems = []
    for interface, macro, table, _ in SERVED:
        source = (ROOT / table).read_text()
        served = set(re.findall(rf'\.name = {macro} "\.(\w+)"', source))
        if len(served) < 5:
            problems.append(f"{table}: no table of methods was found")
        for name in sorted(served ^ described(interface, "method")):
            problems.append(f"{interface}.{name}: only in the "
                            f"{'source' if name in served else 'description'}")
    return problems


def errors() -> list[str]:
    """each error that is answered is described"""
    problems = []
    for interface, macro, _, sources in SERVED:
        known = described(interface, "error") | described(interface, "method")
        for path in sorted(ROOT.glob(sources)):
            for name in re.findall(rf'\b{macro} "\.(\w+)"', path.read_text()):
                if interface == "org.holdfast.Keeper" and path.name == "ownership.c":
                    continue  # its calls are of another interface
                if name not in known:
                    problems.append(f"{path.relative_to(ROOT)}: {interface}.{name}")
    return problems


def members() -> list[str]:
    """each member of a VM is described, and the reverse"""
    body = re.search(r"(?s)^type Vm \((.*?)^\)", text_of("org.holdfast.Host"), re.M)
    if not body:
        return ["type Vm is not described"]
    told = set(re.findall(r"(?m)^  (\w+):", body.group(1)))
    source = (ROOT / "src/daemon/vms-view.c").read_text()
    shown = set(re.findall(r'(?:add_\w+|json_object_object_add)\(o, "(\w+)"', source))
    peers = re.search(r"(?ms)^static void on_view\(.*?^}", (ROOT / "src/daemon/peers.c").read_text())
    shown |= set(re.findall(r'\(\s*o, "(\w+)"', peers.group(0) if peers else ""))
    return [f"{name}: only in the {'source' if name in shown else 'description'}"
            for name in sorted(told ^ shown)]


def grammar() -> list[str]:
    """each description names its interface, and its brackets close"""
    problems = []
    for path in sorted(TEXTS.glob("*.varlink")):
        text = re.sub(r"(?m)#.*$", "", path.read_text(encoding="ascii"))
        if not re.match(rf"\s*interface {re.escape(path.stem)}\s", text):
            problems.append(f"{path.name}: does not begin with its interface")
        if text.count("(") != text.count(")"):
            problems.append(f"{path.name}: brackets")
        for line in re.findall(r"(?m)^method .*", text):
            if not re.match(r"method [A-Z]\w*\(.*\) -> \(", line):
                problems.append(f"{path.name}: {line}")
    return problems


if __name__ == "__main__":
    sys.exit(tap.run([methods, errors, members, grammar]))
