#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree itself: licences, links between the documents, the targets of make."""
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tap  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SPDX = "SPDX-License-Identifier: LGPL-2.1-or-later"
# Prose, the licence, and what has no comments.
WITHOUT_SPDX = re.compile(r"\.md$|^LICENSES/|^\.gitignore$|^tests/fuzz/corpus/|\.json$")


def files() -> list[Path]:
    """What belongs to the project; of an unpacked archive, all."""
    git = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True,
                         check=False)
    if git.returncode == 0 and git.stdout:
        names = [ROOT / name for name in git.stdout.split("\0") if name]
    else:
        names = [p for p in ROOT.rglob("*") if not p.relative_to(ROOT).parts[0].startswith("build")]
    return [p for p in names if p.is_file()]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def licences() -> list[str]:
    """each file names its licence in its first line, or in the one after #! or #compdef"""
    problems = []
    for path in files():
        if WITHOUT_SPDX.search(relative(path)):
            continue
        head = path.read_text(errors="replace").splitlines()[:2]
        first = head[1:] if head and head[0].startswith(("#!", "#compdef ")) else head[:1]
        if not first or SPDX not in first[0]:
            problems.append(f"{relative(path)}: no '{SPDX}' in its first line")
    return problems


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def anchors(path: Path) -> set[str]:
    """As the usual web views make them of headings."""
    headings = re.findall(r"^#+ +(.*?) *$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def wrong_with(source: Path, link: str) -> str:
    if re.match(r"https?://|mailto:", link):
        return ""
    if link.startswith(("/", "file:")):
        return "is a place on one machine"
    name, _, anchor = link.partition("#")
    target = (source.parent / name).resolve() if name else source
    if not target.exists():
        return "leads nowhere"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "names a heading that is not there"
    return ""


def links() -> list[str]:
    """each link in a document leads to something in the tree"""
    problems = []
    for path in files():
        if path.suffix != ".md":
            continue
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
            wrong = wrong_with(path, link)
            if wrong:
                problems.append(f"{relative(path)}: {link} {wrong}")
    return problems


def targets() -> list[str]:
    """`make help` lists each target"""
    text = (ROOT / "Makefile").read_text()
    defined = set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.M))
    phony = set(re.findall(r"^\.PHONY:(.*)$", text, re.M)[0].split())
    out = subprocess.run(["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True,
                         check=True).stdout
    listed = set(re.findall(r"^  make (\S+) +\S", out, re.M))
    return [f"{name} is not listed" for name in sorted(defined - listed)] + \
        [f"{name} is listed, but there is none" for name in sorted(listed - defined)] + \
        [f"{name} is not .PHONY, or not defined" for name in sorted(defined ^ phony)]


if __name__ == "__main__":
    sys.exit(tap.run([licences, links, targets]))
