# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates for a lab's hosts, made by `holdfast pki`: one authority, one folder per host."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Sequence

from labnet import CLIENT, Lab, LabError, tool

PLAIN = ("--encryption", "plain")
FOLDER = "pki"


def holdfast() -> str:
    return os.environ.get("HOLDFAST") or tool("src/cli/holdfast")


def pki(*argv: str) -> str:
    """holdfast pki, which must succeed."""
    done = subprocess.run([holdfast(), "pki", *argv], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"holdfast pki {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


class Authority:
    """A folder of `holdfast pki init`."""

    def __init__(self, folder: Path, *options: str):
        self.folder = folder
        pki("init", str(folder), *options)

    def host(self, name: str, addresses: Sequence[str], into: Path, *options: str) -> Path:
        """A host's folder, of what it needs."""
        words = [word for address in addresses for word in ("--address", address)]
        pki("host", name, *words, "--dir", str(self.folder), "--into", str(into), "--force",
            *options)
        return into


def names(lab: Lab, host: str) -> list[str]:
    """What a certificate of that host names besides itself."""
    return [lab.repl_addr(host), lab.guest_addr(host)]


def host_folder(lab: Lab, host: str) -> Path:
    """Where the lab keeps what `host` sees as pki_dir()."""
    return lab.host_dir(host) / FOLDER


def authority(lab: Lab) -> Authority:
    """The lab's own; made, with all hosts' folders, when it is first asked for."""
    found = getattr(lab, "authority", None)
    if found is None:
        found = Authority(lab.work / "authority", "--name", "lab")
        for host in lab.hosts:
            if host != CLIENT:
                found.host(host, names(lab, host), host_folder(lab, host))
        setattr(lab, "authority", found)
    return found


def pki_dir(lab: Lab) -> str:
    """What to give as pki-dir: the same path on all hosts, which leads to each one's own folder."""
    authority(lab)
    return f"{lab.self_dir}/{FOLDER}"


def copy(source: Path, to: Path) -> None:
    """A folder of certificates in the place of another, one file after the other."""
    to.mkdir(mode=0o700, exist_ok=True)
    for path in sorted(source.glob("*.pem")):
        new = to / f"{path.name}.new"
        shutil.copy2(path, new)
        new.rename(to / path.name)
