#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shell scripts: that they are clean, and need no more than a POSIX shell where they say so. The
resource agent and the alert agent: what they advertise, what they do, and what their pages say.

usage: test-scripts.py AGENT HOLDFAST    the resource agent and the command of the build"""
import difflib
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parent))
import manpage  # noqa: E402
import tap  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
AGENT = Path(sys.argv[1])
HOLDFAST = sys.argv[2]
OCF_ROOT = Path("/usr/lib/ocf")
DTD_DIR = Path("/usr/share/resource-agents")  # where ocf-tester has its DTD
RELAX_NG = Path("/usr/share/pcs/data/ocf-1.1.rng")
SHEBANG = re.compile(rb"#! ?/(?:usr/)?bin/(?:env )?(sh|bash)\b")
UNADVERTISED = {"status", "usage", "help"}
PACEMAKERS_OWN = re.compile(r"CRM_meta_")


def run(*words: str, stdin: str = "", folder: Optional[Path] = None,
        env: Optional[dict[str, str]] = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60,
                          cwd=folder, env={**os.environ, **(env or {})}, check=False)


def needs(program: str) -> str:
    path = shutil.which(program)
    if not path:
        raise tap.Skip(f"{program} is not installed")
    return path


def scripts() -> dict[Path, str]:
    """Each with the shell that it wants."""
    git = run("git", "-C", str(ROOT), "ls-files", "-z")
    paths = [ROOT / name for name in git.stdout.split("\0") if name] if git.returncode == 0 else \
        [p for p in ROOT.rglob("*") if not p.relative_to(ROOT).parts[0].startswith("build")]
    found = {}
    for path in paths:
        if path.is_file() and (shebang := SHEBANG.match(path.open("rb").read(40))):
            found[path] = shebang[1].decode()
    assert len(found) > 5, "this test does not find the scripts"
    return {**found, AGENT: "sh"}


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def shellcheck_is_content() -> list[str]:
    """shellcheck has nothing to say against any script"""
    return lines(run(needs("shellcheck"), "-f", "gcc", *map(str, scripts())))


def posix_is_enough() -> list[str]:
    """scripts for sh are understood by dash, and by bash as POSIX wants it"""
    plain = [str(path) for path, shell in scripts().items() if shell == "sh"]
    return [line for path in plain for shell in (["dash"], ["bash", "--posix"])
            for line in lines(run(needs(shell[0]), *shell[1:], "-n", path))]


# --- the resource agent --------------------------------------------------------------------------

def agent(action: str, **env: str) -> subprocess.CompletedProcess[str]:
    if not (OCF_ROOT / "lib/heartbeat/ocf-shellfuncs").exists():
        raise tap.Skip("resource-agents is not installed")
    return run(str(AGENT), action, env={"OCF_ROOT": str(OCF_ROOT), **env})


def meta_data() -> str:
    done = agent("meta-data")
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def meta_data_is_valid() -> list[str]:
    """the agent's meta-data is valid for ocf-tester's DTD and for pcs's schema"""
    lint, text = needs("xmllint"), meta_data()
    problems = lines(run(lint, "--noout", "-", stdin=text))
    if not (DTD_DIR / "ra-api-1.dtd").exists():
        raise tap.Skip(f"{DTD_DIR} has no DTD")
    problems += lines(run(lint, "--noout", "--valid", "-", stdin=text, folder=DTD_DIR))
    if RELAX_NG.exists():
        problems += lines(run(lint, "--noout", "--relaxng", str(RELAX_NG), "-", stdin=text,
                              folder=DTD_DIR))
    return problems


def incomplete(what: ET.Element, name: str) -> list[str]:
    """Each description is there, once, and in English."""
    problems = []
    for kind in ("longdesc", "shortdesc"):
        found = what.findall(kind)
        if [d.get("lang") for d in found] != ["en"] or not (found[0].text or "").strip():
            problems.append(f"{name} needs a {kind} in English")
    return problems


def defaults_of_script() -> dict[str, str]:
    """What is taken for a parameter that is not given; the folders are holdfast's affair."""
    found: dict[str, str] = {}
    for name, default in re.findall(r'^: "\$\{OCF_RESKEY_(\w+):=(.*)\}"$', AGENT.read_text(), re.M):
        if not PACEMAKERS_OWN.match(name):
            found[name] = default
    assert "vm" in found and "program" in found, "this test does not find the parameters"
    return found


def parameters_are_complete() -> list[str]:
    """each parameter has type, default and descriptions, and is the one that the agent reads"""
    root = ET.fromstring(meta_data())
    problems = incomplete(root, "the agent")
    if root.findtext("version") != "1.1":
        problems.append(f"OCF version {root.findtext('version')}")
    read = set(re.findall(r"\$\{?OCF_RESKEY_(\w+)", AGENT.read_text()))
    read = {name for name in read if not PACEMAKERS_OWN.match(name)}
    told: dict[str, str] = {}
    for parameter in root.iter("parameter"):
        name = str(parameter.get("name"))
        problems += incomplete(parameter, name)
        content = parameter.find("content")
        if content is None or content.get("type") not in ("string", "integer", "boolean"):
            problems.append(f"{name} has no type")
        elif parameter.get("required") == "1":
            told[name] = ""
        elif content.get("default") is None:
            problems.append(f"{name} has no default")
        else:
            told[name] = str(content.get("default"))
    problems += [f"{name} is read, but not described, or the other way round"
                 for name in sorted(read ^ set(told))]
    script = defaults_of_script()
    return problems + [f"{name}: default {told[name]!r} is told, {script[name]!r} is taken"
                       for name in script if name in told and told[name] != script[name]]


def actions_are_handled() -> list[str]:
    """each action that is advertised is handled, and no other but those that are aliases"""
    handled = {word for words in re.findall(r"^([a-z| -]+)\)", AGENT.read_text().rsplit(
        "case $__OCF_ACTION in", 1)[1], re.M) for word in words.split(" | ")}
    actions = list(ET.fromstring(meta_data()).iter("action"))
    told = {str(action.get("name")) for action in actions}
    problems = [f"{name} is handled, but not advertised, or the other way round"
                for name in sorted((handled - UNADVERTISED) ^ told)]
    problems += [f"{a.get('name')} has no timeout" for a in actions if not a.get("timeout")]
    problems += [f"role {a.get('role')}" for a in actions
                 if a.get("role") not in (None, "Promoted", "Unpromoted")]
    for action in ("migrate_to", "migrate_from", "reload", "nonsense", ""):
        done = agent(action, OCF_RESOURCE_INSTANCE="web")
        if done.returncode != 3:
            problems.append(f"{action} ends with {done.returncode}")
    return problems


# --- their pages ---------------------------------------------------------------------------------

def differ(what: str, real: set[str], written: set[str]) -> list[str]:
    return [f"{what} {name} is not documented" for name in sorted(real - written)] + \
        [f"{what} {name} is documented, but there is none" for name in sorted(written - real)]


def wrong_default(item: manpage.Item, default: str) -> list[str]:
    """Of what is not told where it was installed."""
    said = re.search(r"Default: (\S+)\. $", item.text)
    if default == (said[1] if said else "") or (not said and item.tag.startswith("program")):
        return []
    return [f"{item.tag}: the default is '{default}'"]


def resource_agents_page() -> list[str]:
    """ocf_holdfast_vm(7) has the agent's parameters with their defaults, and its actions"""
    page, root = manpage.read(ROOT / "docs/man/ocf_holdfast_vm.7"), ET.fromstring(meta_data())
    items = {i.tag.split(" = ")[0]: i for i in page.items if i.section == "PARAMETERS" and i.tag}
    real = {str(p.get("name")): str(p.find("content").get("default") or "")  # type: ignore
            for p in root.iter("parameter")}
    problems = differ("parameter", set(real), set(items))
    for name in set(real) & set(items):
        problems += wrong_default(items[name], real[name])
    actions = {str(a.get("name")): str(a.get("timeout")) for a in root.iter("action")}
    tags = {tag.split(" ")[0]: tag for tag in page.tags("ACTIONS")}
    problems += differ("action", set(actions), set(tags))
    return problems + [f"{tag}: the timeout is {actions[name]}" for name, tag in tags.items()
                       if f"({actions.get(name)}" not in tag]


def table_is_documented() -> list[str]:
    """ocf_holdfast_vm(7) has the table of `holdfast ocf table`, word for word"""
    source = (ROOT / "docs/man/ocf_holdfast_vm.7").read_text()
    told = re.search(r"^\.SH STATES AND ANSWERS$.*?^\.EX\n(.*?)^\.EE$", source, re.M | re.S)
    real = run(HOLDFAST, "ocf", "table")
    assert told and real.returncode == 0, real
    return list(difflib.unified_diff(told[1].replace("\\-", "-").splitlines(),
                                     real.stdout.splitlines(), "page", "program", lineterm=""))


def alert_agents_page() -> list[str]:
    """holdfast-alert(7) has the alert agent's settings with their defaults, and its members"""
    page = manpage.read(ROOT / "docs/man/holdfast-alert.7")
    script = (ROOT / "data/pacemaker/holdfast-alert").read_text()
    real = dict(re.findall(r'"\$\{([a-z_]+):=(\w*)\}"', script))
    assert "events" in real, "this test does not find the settings"
    items = {i.tag.split(" = ")[0]: i for i in page.items if i.section == "SETTINGS" and i.tag}
    problems = differ("setting", set(real), set(items))
    for name in set(real) & set(items):
        problems += wrong_default(items[name], real[name])
    members = set(re.findall(r'add\("(\w+)"', script)) | set(re.findall(r"\b(\w+)=\w+[ \"]", script[
        script.index("kind=kind"):script.index("keys)", script.index("kind=kind"))]))
    told = "".join(i.text for i in page.items if i.section == "THE OBJECT")
    return problems + [f"member {name} is not documented" for name in sorted(members)
                       if not re.search(rf"\b{name}\b", told)]


if __name__ == "__main__":
    sys.exit(tap.run([shellcheck_is_content, posix_is_enough, meta_data_is_valid,
                      parameters_are_complete, actions_are_handled, resource_agents_page,
                      table_is_documented, alert_agents_page]))
