# SPDX-License-Identifier: LGPL-2.1-or-later
"""A node of a cluster: a whole machine, as far as Corosync, Pacemaker and holdfast can tell.

Theory of operation. A node is a host of labnet (its network namespace, cables, memory) with mount,
host name, IPC and process namespaces besides. Process 1 is a shell that reaps; when it is killed
all the others die with it, as when the power fails. Pacemaker needs the process namespace: it looks
for its daemons in /proc. So pids in holdfast's files and answers are the node's own.

Every path has its default. /etc, /var/lib, /usr/sbin, the prefix and the folder of resource agents
are overlays: the machine's own below, above it what `meson install` has put into the build folder,
above that what is this node's; changes go to memory. What a machine has on its own disk is mounted
over that from the node's folder, and survives its death: /etc/holdfast, /etc/pki/holdfast,
/var/lib/holdfast, /var/lib/pacemaker, /var/lib/corosync, /var/log. /run and /dev/shm are memory.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Optional, Sequence

from lablease import wait_until
from labnet import Lab, LabError, Proc, build_dir, command, own_cgroup

HERE = Path(__file__).resolve().parent
FENCE_AGENT = HERE / "fence_holdfast_lab"
FENCE_SOCKET = "fence.sock"
CLUSTER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OCF_DIR = "/usr/lib/ocf/resource.d"
PERSISTENT = ("/etc/holdfast", "/etc/pki/holdfast", "/var/lib/holdfast", "/var/lib/pacemaker",
              "/var/lib/corosync", "/var/log")
MERE_INFO = re.compile(r"\tinfo:|corosync (info|notice)")
PACEMAKER_FOLDERS = ("cib", "pengine", "blackbox", "cores")

# $1: the node's name; $2: its folder; $3: the lab's folder; $4: its cgroup. Then "DIR LOWER" pairs.
INIT = r"""set -e
name=$1 here=$2 work=$3 group=$4
shift 4
mount --make-rprivate /
hostname "$name"
mkdir -p /dev/shm/run /dev/shm/upper
while [ $# -gt 0 ]; do
	up=/dev/shm/upper/$(echo "$1" | tr / _)
	mkdir -p "$up/upper" "$up/work"
	mount -t overlay -o "lowerdir=$2,upperdir=$up/upper,workdir=$up/work" overlay "$1"
	shift 2
done
for path in @PERSISTENT@; do
	mount --bind "$here/disk$path" "$path"
done
[ -z "$group" ] || { mkdir -p "$group" && echo $$ >"$group/cgroup.procs"; }
mount --bind /dev/shm/run /run
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir -p /run/lock /run/resource-agents /run/heartbeat/rsctmp
install -d -o hacluster -g haclient -m 750 /run/crm
touch /run/lab-fence
mount --bind "$work/@FENCE@" /run/lab-fence
touch "$here/booted"
sleep infinity &
while :; do wait || :; done
"""

START_CLUSTER = """set -e
corosync
until timeout 5 corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.05; done
export PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logpriority=info PCMK_logfacility=none
export HA_LOGFACILITY=none
setsid pacemakerd </dev/null >/var/log/pacemakerd.out 2>&1 &
"""


def lacks() -> str:
    """Why there can be no cluster here, or ""."""
    programs = ("corosync", "pacemakerd", "crm_mon", "cibadmin", "nsenter", "unshare")
    missing = [name for name in programs if not shutil.which(name, path=CLUSTER_PATH)]
    if missing:
        return f"not installed: {' '.join(missing)}"
    return "" if "overlay" in Path("/proc/filesystems").read_text() else "no overlay file system"


def prefix() -> str:
    text = command("meson", "introspect", "--buildoptions", str(build_dir()))
    return next(str(option["value"]) for option in json.loads(text) if option["name"] == "prefix")


def install() -> Path:
    """The build, installed into a folder of its own. Once: what is there already is not touched, so
    that nodes which have it mounted go on seeing it."""
    folder = build_dir() / "lab-install"
    folder.mkdir(exist_ok=True)
    with open(folder / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["meson", "install", "--no-rebuild", "--only-changed", "--quiet", "-C",
             str(build_dir())], env={**os.environ, "DESTDIR": str(folder)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False)
    if done.returncode != 0:
        raise LabError(f"meson install, of a build that must be complete: {done.stdout[-1000:]}")
    return folder


class Node:
    """One machine. It is off until boot()."""

    def __init__(self, lab: Lab, name: str, installed: Path, install_prefix: str):
        self.lab, self.name = lab, name
        self.installed, self.prefix = installed, install_prefix
        self.here = lab.host_dir(name)
        self.init: Optional[Proc] = None
        self._pid = 0
        self._daemon: Optional[subprocess.Popen] = None
        self._make_disk()

    # --- what is on its disk ---

    @property
    def tree(self) -> Path:
        """Files of this node that lie over the machine's."""
        return self.here / "tree"

    @property
    def run_dir(self) -> Path:
        """/run of the node, as this process sees it."""
        return self.lab.shm / self.name / "run"

    @property
    def control(self) -> Path:
        return self.run_dir / "holdfast" / ".host" / "control"

    def disk(self, path: str) -> Path:
        """A path below one of PERSISTENT, as this process sees it."""
        return self.here / f"disk{path}"

    def write(self, path: str, text: str) -> Path:
        """A file below one of PERSISTENT, replaced at once."""
        target = self.disk(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_text(text)
        new.rename(target)
        return target

    def _make_disk(self) -> None:
        for path in PERSISTENT:
            self.disk(path).mkdir(parents=True)
            (self.tree / path.removeprefix("/")).mkdir(parents=True)
        for folder in PACEMAKER_FOLDERS:
            (self.disk("/var/lib/pacemaker") / folder).mkdir()
        for folder in ("corosync", "crmsh", "pcsd"):
            (self.disk("/var/log") / folder).mkdir()
        self.disk("/var/log/pacemaker/bundles").mkdir(parents=True)
        self.disk("/etc/holdfast/vms").mkdir()
        for path in ("/var/lib/pacemaker", "/var/log/pacemaker"):
            command("chown", "-R", "hacluster:haclient", str(self.disk(path)))
            command("chmod", "-R", "u=rwX,g=rwX,o=", str(self.disk(path)))
        sbin = self.tree / "usr/sbin"
        sbin.mkdir(parents=True)
        shutil.copy(FENCE_AGENT, sbin)

    def _overlays(self) -> list[str]:
        """Mount points and what lies there, the uppermost first."""
        points = ["/etc", "/var/lib"]
        points += ["/usr"] if self.prefix == "/usr" else ["/usr/sbin", OCF_DIR, self.prefix]
        words = []
        for point in points:
            lower = [str(folder) + point for folder in (self.tree, self.installed)]
            words += [point, ":".join([*filter(os.path.isdir, lower), point])]
        return words

    # --- power ---

    @property
    def _cgroup(self) -> str:
        """Its own, below the lab's; "": the machine has none of version 2."""
        own = own_cgroup()
        return f"{own}/{self.lab.prefix}lab/{self.name}" if own else ""

    def boot(self) -> None:
        """Begins it; see wait_booted()."""
        (self.here / "booted").unlink(missing_ok=True)
        script = INIT.replace("@PERSISTENT@", " ".join(PERSISTENT)).replace("@FENCE@", FENCE_SOCKET)
        self.init = self.lab.spawn(
            self.name, ["unshare", "-m", "-u", "-i", "-p", "-f", "--kill-child", "--mount-proc",
                        "bash", "-c", script, "init", self.name, str(self.here),
                        str(self.lab.work), self._cgroup, *self._overlays()], name="init")

    def wait_booted(self) -> None:
        assert self.init
        init = self.init

        def is_booted() -> bool:
            if not init.is_running():
                raise LabError(f"{self.name} does not boot: {init.log_tail()}")
            return (self.here / "booted").exists()
        wait_until(is_booted, f"{self.name} boots")
        pid = init.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._pid = int(children[0])

    def power_off(self) -> None:
        """At once: its cables are silent, and its memory is gone."""
        self.lab.kill_host(self.name, is_silent=True)
        self._pid = 0

    @property
    def is_on(self) -> bool:
        return self._pid != 0

    # --- processes ---

    def _argv(self, argv: Sequence[str], env: Optional[dict[str, str]] = None) -> list[str]:
        if not self._pid:
            raise LabError(f"{self.name} is off")
        more = [f"{key}={value}" for key, value in (env or {}).items()]
        return ["nsenter", "-t", str(self._pid), "-m", "-u", "-i", "-n", "-p", "env",
                f"PATH={CLUSTER_PATH}", f"HOME={self.here}", *more, *argv]

    def sh(self, argv: Sequence[str], timeout_s: float = 30.0, check: bool = True,
           stdin: str = "") -> subprocess.CompletedProcess:
        """Run a command on the node to its end."""
        try:
            done = subprocess.run(self._argv(argv), input=stdin, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: {' '.join(argv)}: no end in {timeout_s:g} s") from None
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(argv)}: exit {done.returncode}: "
                           f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def spawn(self, argv: Sequence[str], log: str, env: Optional[dict[str, str]] = None
              ) -> subprocess.Popen:
        """Start a command on the node; it says what it says in /var/log/LOG. Nobody has to wait for
        it: it ends with the node."""
        enter = ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', self._cgroup]
        enter = enter if self._cgroup else []
        with open(self.disk("/var/log") / log, "ab") as f:
            popen = subprocess.Popen(self._argv([*enter, *argv], env), stdin=subprocess.DEVNULL,
                                     stdout=f, stderr=f, start_new_session=True)
        self.lab.procs.append(Proc(log, popen, self.disk("/var/log") / log))
        return popen

    def signal(self, pid: int, number: int) -> None:
        """pid: the node's own."""
        self.sh(["kill", f"-{int(number)}", str(pid)])

    def is_alive(self, pid: int) -> bool:
        """A process that is not a zombie. pid: the node's own."""
        done = self.sh(["cat", f"/proc/{pid}/stat"], check=False)
        return done.returncode == 0 and done.stdout.rsplit(")", 1)[1].split()[0] not in "ZX"

    # --- its daemons ---

    def start_cluster(self) -> None:
        """Begins it: Corosync and Pacemaker."""
        self.spawn(["bash", "-c", START_CLUSTER], "start-cluster.log")

    def stop_cluster(self, timeout_s: float = 60.0) -> None:
        """In order, as `systemctl stop pacemaker corosync` would."""
        self.sh(["pkill", "-TERM", "-x", "pacemakerd"])
        self._wait_gone("pacemakerd", timeout_s)
        self.sh(["corosync-cfgtool", "-H"], check=False)
        self._wait_gone("corosync", timeout_s)

    def _wait_gone(self, name: str, timeout_s: float) -> None:
        wait_until(lambda: self.sh(["pgrep", "-x", name], check=False).returncode != 0,
                   f"{name} ends on {self.name}", timeout_s)

    def start_daemon(self) -> None:
        """Begins it; see wait_daemon()."""
        self._daemon = self.spawn(["holdfastd"], "holdfastd.log")

    def daemon_pid(self) -> int:
        """The node's own; 0: none."""
        try:
            return int((self.run_dir / "holdfast/.host/lock").read_text())
        except (OSError, ValueError):
            return 0

    def signal_daemon(self, number: int) -> None:
        """nsenter, which waits for it, stops with it, but does not run on with it; and when it is
        told to run on, it tells the daemon, too."""
        assert self._daemon
        self.signal(self.daemon_pid(), number)
        if number != signal.SIGSTOP and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGCONT)

    def daemon_exit(self, timeout_s: float = 60.0) -> int:
        """Waits for it."""
        assert self._daemon
        return self._daemon.wait(timeout_s)

    def has_daemon(self) -> bool:
        return self._daemon is not None and self._daemon.poll() is None

    def log_tail(self, path: str, lines: int = 40) -> str:
        """Without what Pacemaker and Corosync take for mere information."""
        try:
            text = (self.disk("/var/log") / path).read_text(errors="replace")
        except OSError:
            return ""
        kept = [line for line in text.splitlines() if not MERE_INFO.search(line)]
        return "\n".join(kept[-lines:])
