#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages against the programs and the sources: whatever exists is documented, whatever is
documented exists, with the same default.

usage: test-manpages.py KEEPER HOLDFAST DAEMON"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import manpage  # noqa: E402
import tap  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "docs/man"
KEEPER, HOLDFAST, DAEMON = sys.argv[1:4]
OPTION = re.compile(r"^  (?:--)?([a-z-]+)( = | |$)")
DEFAULT = re.compile(r"Default: ([^\s,]+?)[.,]?(?:\s|$)")
SECTIONS = {"[vm]": "vm", "[host NAME]": "host h", "[protection]": "protection"}

command_page = manpage.read(MAN / "holdfast.1")
keeper_page = manpage.read(MAN / "holdfast-keeper.8")
file_page = manpage.read(MAN / "holdfast.conf.5")
daemon_page = manpage.read(MAN / "holdfastd.8")
daemon_file_page = manpage.read(MAN / "holdfastd.conf.5")
plugin_page = manpage.read(MAN / "nbdkit-holdfast-plugin.1")


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def settings(program: str = KEEPER) -> dict[str, dict[str, str]]:
    """Of `--help`: name to its kind (option or key) and default, "" for none."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for line in run(program, "--help").stdout.splitlines():
        row = OPTION.match(line)
        if row:
            name = row[1]
            found[name] = {"kind": "key" if row[2] == " = " else "option", "help": ""}
        if name and line.startswith(" "):
            found[name]["help"] += " " + line.strip()
    for setting in found.values():
        default = re.search(r"\(default: ([^)]*)\)", setting["help"])
        setting["default"] = default[1] if default else ""
    return found


def may_stand(key: str, section: str, folder: str) -> bool:
    """What a keeper says to a file with this key there. The value is wrong: nothing is started."""
    path = Path(folder) / "probe.conf"
    path.write_text(f'[{section}]\n{key} = "\n')
    said = run(KEEPER, "run", "probe", "--config", str(path)).stderr
    assert said, "the keeper took a wrong value"
    return not re.search("no setting is called|only be given on the command|belongs into", said)


def places(keys: list[str]) -> dict[str, set[str]]:
    with tempfile.TemporaryDirectory() as folder:
        return {key: {title for title, name in SECTIONS.items() if may_stand(key, name, folder)}
                for key in keys}


def differ(what: str, real: set[str], written: set[str]) -> list[str]:
    return [f"{what} {name} is not documented" for name in sorted(real - written)] + \
        [f"{what} {name} is documented, but there is none" for name in sorted(written - real)]


def wrong_defaults(items: list[tuple[str, str]], real: dict[str, dict[str, str]]) -> list[str]:
    problems = []
    for name, text in items:
        said = DEFAULT.search(text)
        if name in real and (said[1] if said else "") != real[name]["default"]:
            problems.append(f"{name}: default '{real[name]['default']}', documented is "
                            f"'{said[1] if said else ''}'")
    return problems


def options_are_documented() -> list[str]:
    """each option is in holdfast(1) with its default, and no other"""
    real = {name: s for name, s in settings().items() if s["kind"] == "option"}
    assert len(real) > 10, "the help text has another form than this test knows"
    items = [(i.tag.split()[0][2:], i.text) for i in command_page.items
             if i.section == "OPTIONS OF RUN AND STANDBY" and i.tag]
    return differ("option", set(real), {name for name, _ in items}) + wrong_defaults(items, real)


def keys_are_documented() -> list[str]:
    """each key of the definition file is in holdfast.conf(5), in each section where it may stand"""
    real = settings()
    allowed = places([name for name in real if name not in ("help", "version")])
    problems = []
    for title in SECTIONS:
        items = [(i.tag.split(" = ")[0], i.text) for i in file_page.items
                 if i.section == title and i.tag]
        problems += differ(f"{title} key", {k for k, where in allowed.items() if title in where},
                           {name for name, _ in items})
        # Of a host's keys only its own are told in full, the others are told with [vm].
        if title != "[host NAME]":
            problems += wrong_defaults(items, real)
    return problems


def commands() -> set[str]:
    """Of the summary of `holdfast help`."""
    listed = set(re.findall(r"^  ([a-z-]+) {2,}", run(HOLDFAST, "help").stdout, re.M))
    assert {"run", "status", "check-config"} <= listed, "the summary has an unknown form"
    return listed


def commands_are_documented() -> list[str]:
    """each command is in holdfast(1), and no other; each has help and is completed"""
    listed = commands()
    problems = differ("command", listed,
                      {tag.split()[0] for tag in command_page.tags("COMMANDS")})
    offered = set(run(HOLDFAST, "completion", "1", "holdfast", "").stdout.split())
    problems += [f"the completion offers no {name}" for name in sorted(listed - offered)]
    for name in sorted(listed):
        for words in ((name, "--help"), ("help", name)):
            if words[0] in ("help", "version"):
                continue
            done = run(HOLDFAST, *words)
            if done.returncode != 0 or f"holdfast {name}" not in done.stdout.replace("-keeper", ""):
                problems.append(f"`holdfast {' '.join(words)}` is no help: {done}")
    return problems


def verb_options() -> dict[str, str]:
    """Name to letter, of the table of all commands that do not read their options themselves."""
    source = (ROOT / "src/cli/verb-options.c").read_text()
    found = re.findall(r"\{ '(\w)', \"([a-z-]+)\", (?:NULL|\")", source)
    assert len(found) > 10, "this test does not find the options"
    return {name: letter for letter, name in found}


def command_options_are_documented() -> list[str]:
    """each option of the other commands is in holdfast(1), and no other, and is completed"""
    tags = command_page.tags("OPTIONS OF THE OTHER COMMANDS")
    problems = differ("option", {*verb_options(), "help"},
                      set(re.findall(r"--([a-z-]+)", " ".join(tags))))
    taken: set[str] = set()
    for name in sorted(commands()):
        usage = set(re.findall(r"\[--([a-z-]+)[] ]", run(HOLDFAST, name, "--help").stdout))
        offered = set(run(HOLDFAST, "completion", "2", "holdfast", name, "--").stdout.split())
        problems += [f"the completion of {name} offers no --{option}" for option in sorted(usage)
                     if f"--{option}" not in offered and name not in ("run", "standby", "lease",
                                                                      "pki")]
        taken |= usage
    return problems + [f"no command takes --{option}" for option in sorted(set(verb_options()) -
                                                                           taken)]


def rows_are_documented() -> list[str]:
    """each member of what list prints is in holdfast(1)"""
    source = (ROOT / "src/cli/rows.c").read_text()
    names = set(re.findall(r'(?:set|copy|set_if_missing|json_object_object_add)\('
                           r'row, (?:frozen, |vm, )?"(\w+)"', source))
    for table in re.findall(r"const keys\[\] = \{(.*?)\};", source, re.S):
        names |= set(re.findall(r'"(\w+)"', table))
    assert {"life", "definition_error", "qemu_pid"} <= names, "this test does not find the members"
    said = " ".join(command_page.tags("LIST")).replace(",", " ").split()
    return [f"member {name} of list is not documented"
            for name in sorted(names - set(said) - {"status", "certificate"})]


def options_of(path: str) -> set[str]:
    """Of a table for getopt_long()."""
    source = (ROOT / path).read_text()
    return set(re.findall(r'\{ "([a-z-]+)", (?:no|required)_argument', source)) - {"help"}


def lease_commands_are_documented() -> list[str]:
    """each command of `holdfast lease` is in holdfast(1), and so are init's options"""
    listed = set(re.findall(r"^  ([a-z]+) {2,}", run(HOLDFAST, "lease", "help").stdout, re.M))
    assert "init" in listed, "the summary has another form than this test knows"
    tags, asking = command_page.tags("LEASE AREAS"), command_page.tags("LEASES")
    real = options_of("src/cli/lease-init.c")
    return differ("lease", {f"lease {verb}" for verb in listed},
                  {tag for tag in tags + asking if tag.startswith("lease ")}) + \
        differ("option of lease init:", real | {"json"},
               set(re.findall(r"--([a-z-]+)", " ".join(tags)))) + \
        differ("option about leases:", options_of("src/cli/host-call.c"),
               set(re.findall(r"--([a-z-]+)", " ".join(asking))))


def codes(path: str, enum: str) -> set[str]:
    body = re.search(rf"enum {enum} \{{(.*?)\}};", (ROOT / path).read_text(), re.S)
    assert body, f"{path} has no enum {enum}"
    return set(re.findall(r"= (\d+)", body[1]))


def exit_codes_are_documented() -> list[str]:
    """each exit status is documented, and no other"""
    return differ("status of holdfast:", codes("src/cli/exit.h", "hf_exit") |
                  codes("src/cli/lease-verbs.h", "hf_lease_exit") |
                  codes("src/cli/host-call.h", "hf_host_exit"),
                  set(command_page.tags("EXIT STATUS"))) + \
        differ("status of the keeper:", codes("src/keeper/keeper.h", "hf_keeper_exit"),
               set(keeper_page.tags("EXIT STATUS"))) + \
        differ("status of the daemon:", codes("src/daemon/holdfastd.c", "hf_daemon_exit"),
               set(daemon_page.tags("EXIT STATUS")))


def daemon_settings_are_documented() -> list[str]:
    """each option of holdfastd is in holdfastd(8), each key in holdfastd.conf(5)"""
    real = settings(DAEMON)
    items = [(i.tag.split()[0][2:], i.text) for i in daemon_page.items
             if i.section == "OPTIONS" and i.tag]
    problems = differ("holdfastd's option", set(real), {name for name, _ in items})
    table = (ROOT / "src/daemon/hostconf.c").read_text()
    rows = {(f"[{section}]", key): option for section, key, option in re.findall(
        r'\{\s*"(host|lease|paths|pacemaker)",\s*"([a-z-]+)",\s*"([a-z-]+)",\s*TYPE', table)}
    assert len(rows) > 10, "this test does not find the keys"
    for section in ("[host]", "[lease]", "[paths]", "[pacemaker]"):
        items = [(i.tag.split(" = ")[0], i.text) for i in daemon_file_page.items
                 if i.section == section and i.tag]
        keys = {key: option for (where, key), option in rows.items() if where == section}
        problems += differ(f"{section} key", set(keys), {name for name, _ in items})
        problems += wrong_defaults(items, {key: real[option] for key, option in keys.items()})
    return problems


def daemon_interface_is_documented() -> list[str]:
    """each method, error, event and member of holdfastd is in holdfastd(8)"""
    sources = {path.name: path.read_text() for path in (ROOT / "src/daemon").glob("*.c")
               if not path.name.startswith("test-")}
    methods = set(re.findall(r'\.name = HF_HOST_INTERFACE "\.(\w+)"', sources["hostctl.c"]))
    everything = "".join(sources.values())
    errors = set(re.findall(r'HF_HOST_INTERFACE "\.(\w+)"', everything)) - methods | set(
        re.findall(r'hf_job_fail(?:_owner)?\(j,\s*"(\w+)"', everything))
    service = (ROOT / "src/service/varlink-server.c").read_text()
    errors |= set(re.findall(r'"%\.\*s\.(\w+)"', service))  # of every interface
    members = set(re.findall(r'(?:json_object_object_add|add_\w+)\(\w+, "(\w+)"', everything))
    assert "Acquire" in methods and "Owned" in errors and "valid_ms" in members, "nothing found"
    said = [tag.split("(")[0] for tag in daemon_page.tags("METHODS")]
    names: set[str] = set(re.findall(r'hf_event\(&\w+(?:->\w+)*,\s*"([a-z-]+)"', everything))
    names |= set(re.findall(r'\{ "(host-[a-z]+)", "', everything)) | {"joined", "valid"}
    return differ("method", methods, set(said)) + \
        differ("error", errors, set(daemon_page.tags("ERRORS"))) + \
        differ("event of the daemon:", names, set(daemon_page.tags("EVENTS"))) + \
        [f"member {name} is not documented" for name in sorted(members)
         if not re.search(rf"\b{name}\b", daemon_page.text)]


def plugin_parameters_are_documented() -> list[str]:
    """the plugin's parameters are those of its page"""
    source = (ROOT / "src/plugin/plugin-options.c").read_text()
    real = set(re.findall(r'^\s*OF_(?:ALL|DISK)\("([a-z-]+)"', source, re.M))
    written = {name for tag in plugin_page.tags("PARAMETERS")
               for name in re.findall(r"([a-z-]+)=", tag)}
    return differ("parameter", real, written) or ([] if real else ["no parameter was found"])


def exit_codes_are_kept() -> list[str]:
    """the exit statuses that are easily had are as documented"""
    with tempfile.TemporaryDirectory() as folder:
        expected = {
            (HOLDFAST, "list", "--run-dir", folder): 0,
            (HOLDFAST,): 2,
            (HOLDFAST, "status", "--run-dir", folder, "--state-dir", folder): 0,
            (HOLDFAST, "status", "no/name"): 2,
            (HOLDFAST, "stop"): 2,
            (HOLDFAST, "stop", "nobody", "--run-dir", folder): 3,
            (HOLDFAST, "start", "nobody", "--run-dir", folder): 3,
            (HOLDFAST, "events", "--run-dir", folder): 3,
            (HOLDFAST, "start", "web@3fa20c11", "--run-dir", folder): 7,
            (HOLDFAST, "list", "--timeout", "0"): 2,
            (HOLDFAST, "status", "nobody", "--run-dir", folder): 3,
            (HOLDFAST, "hosts", "--run-dir", folder): 3,
            (HOLDFAST, "lease", "list", "--run-dir", folder): 3,
            (HOLDFAST, "lease", "acquire", "web", "--run-dir", folder): 2,
            (DAEMON, "--host-id", "0"): 2,
            (KEEPER, "run"): 2,
            (KEEPER, "run", "nobody", "--config", f"{folder}/none.conf"): 1,
        }
        return [f"`{' '.join(words)}` ends with {code}, not with {wanted}"
                for words, wanted in expected.items() if (code := run(*words).returncode) != wanted]


def call_arguments(source: str, function: str) -> list[str]:
    """The second argument of each call: it ends at a comma outside of brackets and quotes."""
    found = []
    for call in re.finditer(rf"\b{function}\(", source):
        depth, arguments = 0, [""]
        for token in re.findall(r'"(?:\\.|[^"\\])*"|[^"]', source[call.end():call.end() + 2000]):
            depth += (token in "([{") - (token in ")]}")
            if depth < 0:
                break
            if token == "," and depth == 0:
                arguments.append("")
            else:
                arguments[-1] += token
        found.append(arguments[1])
    return found


def state_names() -> set[str]:
    names: set[str] = set()
    for machine in ("primary", "standby"):
        source = (ROOT / "src/core/commit-names.c").read_text()
        names |= set(re.findall(rf'\[HF_{machine.upper()}_[A-Z_]+\]\s*=\s*"([a-z-]+)"', source))
    return names


def life_names() -> set[str]:
    """Of the states of core/vm.h."""
    source = (ROOT / "src/core/vm-names.c").read_text()
    table = re.search(r"state_names\[[^]]*\] = \{(.*?)\};", source, re.S)
    assert table, "this test does not find the names of states"
    return set(re.findall(r'"([a-z-]+)"', table[1]))


def events() -> set[str]:
    names: set[str] = set()
    for path in sorted((ROOT / "src/keeper").glob("*.c")):
        for argument in call_arguments(path.read_text(), "hf_event"):
            literals = re.findall(r'"([a-z-]+)"', argument)
            if "state_name(" in argument:
                names |= state_names()
            elif argument.strip() == "name" and path.name == "life.c":
                names |= {f"vm-{state}" for state in life_names()}
            elif literals:
                names |= set(literals)
            elif "const char" not in argument:
                raise ValueError(f"{path.name}: cannot tell the event called {argument.strip()}")
    return names


def events_are_documented() -> list[str]:
    """each event is in holdfast(1), and no other"""
    found = events()
    assert "started" in found and "protected" in found, "this test does not find the events"
    return differ("event", found, set(command_page.tags("EVENTS")))


def status_is_documented() -> list[str]:
    """each member of the status is in holdfast(1)"""
    names: set[str] = set()
    for path in sorted((ROOT / "src/keeper").glob("*.c")):
        if path.name not in ("control.c", "peer-fenced.c"):  # those are Varlink's own
            names |= set(re.findall(r'(?:json_object_object_add|add_\w+)\(\s*\w+,\s*"(\w+)"',
                                    path.read_text()))
    assert "epochs" in names and "lag_ns" in names, "this test does not find the members"
    return [f"member {name} is not documented" for name in sorted(names)
            if not re.search(rf"\b{name}\b", command_page.text)]


def pages_are_clean() -> list[str]:
    """groff has nothing to say against the pages"""
    groff = shutil.which("groff")
    if not groff:
        raise tap.Skip("groff is not installed")
    return [line for page in sorted(MAN.glob("*.[1-8]"))
            for line in run(groff, "-ww", "-z", "-man", "-Tutf8", "-K", "utf8", str(page))
            .stderr.splitlines()]


if __name__ == "__main__":
    sys.exit(tap.run([options_are_documented, keys_are_documented, commands_are_documented,
                      rows_are_documented, command_options_are_documented,
                      lease_commands_are_documented,
                      exit_codes_are_documented, exit_codes_are_kept, events_are_documented,
                      daemon_settings_are_documented, daemon_interface_is_documented,
                      status_is_documented, plugin_parameters_are_documented, pages_are_clean]))
