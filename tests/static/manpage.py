# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manual pages in man(7) macros, read far enough to hold them against the programs."""
import re
from dataclasses import dataclass, field
from pathlib import Path

FONTS = {"B", "I", "BI", "BR", "IB", "IR", "RB", "RI"}
ESCAPES = (
    (r"\\f(\[[^]]*\]|\([^ ]{2}|.)", ""), (r"\\-", "-"), (r"\\~", " "), (r"\\\(aq", "'"),
    (r"\\[|&]", ""), (r"\\e", "\\\\"),
)


@dataclass
class Item:
    """A tagged paragraph: what it is about, and what it says."""

    section: str
    tag: str
    text: str = ""


@dataclass
class Page:
    items: list[Item] = field(default_factory=list)
    text: str = ""

    def tags(self, section: str) -> list[str]:
        return [i.tag for i in self.items if i.section == section and i.tag]


def plain(text: str) -> str:
    for pattern, replacement in ESCAPES:
        text = re.sub(pattern, replacement, text)
    return text


def arguments(line: str) -> list[str]:
    """A macro's arguments: separated by blanks, quoted with double quotes."""
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', line)]


def text_of(line: str) -> str:
    """What a line puts on the page; nothing for a macro that is not about fonts."""
    macro = re.match(r"\.\s*([A-Z]+)\s*(.*)", line)
    if line.startswith('.\\"') or (macro and macro[1] not in FONTS):
        return ""
    if not macro:
        return plain(line)
    joint = " " if macro[1] in ("B", "I") else ""
    return plain(joint.join(arguments(macro[2])))


def read(path: Path) -> Page:
    page = Page()
    section, is_tag_next = "", False
    for line in path.read_text().splitlines():
        heading = re.match(r"\.S[HS]\s+(.*)", line)
        if heading:
            # Subsections are a matter of layout: what counts is the section.
            section = " ".join(arguments(heading[1])) if line.startswith(".SH") else section
            page.items.append(Item(section, ""))
            continue
        if line in (".TP", ".TQ"):
            is_tag_next = True
            continue
        text = text_of(line)
        if is_tag_next:
            page.items.append(Item(section, text))
            is_tag_next = False
        elif page.items:
            page.items[-1].text += text + " "
        page.text += text + "\n"
    return page
