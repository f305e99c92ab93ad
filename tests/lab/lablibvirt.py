# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt on a node of a cluster: what a VM under ocf:heartbeat:VirtualDomain needs.

The node's /etc and /var/lib are its own already (labnode); what else libvirtd writes gets a place
of its own here. Its configuration is as plain as it can be: no authentication, no cgroups, no security
driver, and QEMU runs as root, for a node has neither users nor udev nor systemd. What a domain's
monitor or a stop does is not touched by any of it. host_uuid has to be told: each node would take
the machine's.
"""

import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Optional
from xml.sax.saxutils import escape, quoteattr

from lablease import wait_until
from labnet import LabError
from labnode import CLUSTER_PATH, Node

AGENT = Path("/usr/lib/ocf/resource.d/heartbeat/VirtualDomain")
URI = "qemu:///system"
PROGRAMS = ("libvirtd", "virsh")
START_S = 60.0

LIBVIRTD_CONF = """listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
host_uuid = "{uuid}"
"""

QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
cgroup_controllers = [ ]
namespaces = [ ]
seccomp_sandbox = 0
stdio_handler = "file"
clear_emulator_capabilities = 0
set_process_name = 0
"""

PLACES = """set -e
mkdir -p /run/libvirt /var/log/libvirt/qemu
mountpoint -q /var/cache || mount -t tmpfs tmpfs /var/cache
mkdir -p /var/cache/libvirt
"""


def lacks() -> str:
    """Why there can be no VirtualDomain here, or ""."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=CLUSTER_PATH)]
    if not AGENT.exists():
        missing.append(str(AGENT))
    return f"not installed: {' '.join(missing)}" if missing else ""


class Libvirt:
    """libvirtd on one node; to be started again after each boot of it."""

    def __init__(self, node: Node):
        self.node = node
        self.popen: Optional[subprocess.Popen] = None

    def start(self) -> None:
        """It answers when this returns."""
        self.node.sh(["sh", "-c", PLACES])
        self._write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
        self._write("/etc/libvirt/qemu.conf", QEMU_CONF)
        self.popen = self.node.spawn(["libvirtd"], "libvirtd.out")
        wait_until(self._answers, f"libvirtd on {self.node.name}", START_S)

    def _write(self, path: str, text: str) -> None:
        self.node.sh(["tee", path], stdin=text)

    def _answers(self) -> bool:
        assert self.popen
        if self.popen.poll() is not None:
            raise LabError(f"libvirtd ended: {self.node.log_tail('libvirtd.out')}")
        return self.node.sh(["virsh", "-q", "-c", URI, "version"], check=False).returncode == 0

    def pid(self) -> int:
        """The node's own."""
        return int((self.node.run_dir / "libvirtd.pid").read_text())

    def virsh(self, *argv: str, check: bool = True) -> str:
        return self.node.sh(["virsh", "-q", "-c", URI, *argv], check=check).stdout


def domain(name: str, *, bios: Path, nbd_socket: Path, args: list[str], mem_mib: int = 8) -> str:
    """The XML of a domain for tests/guest/tiny.S. args: more options of QEMU. A failing disk stops
    the guest instead of being its own problem; what a crash does is libvirt's default."""
    more = "".join(f"    <qemu:arg value={quoteattr(word)}/>\n" for word in args)
    return f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{escape(name)}</name>
  <memory unit='MiB'>{mem_mib}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <loader type='rom'>{escape(str(bios))}</loader>
  </os>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='none' error_policy='stop' rerror_policy='stop'/>
      <source protocol='nbd' name=''>
        <host transport='unix' socket={quoteattr(str(nbd_socket))}/>
      </source>
      <target dev='hda' bus='ide'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <panic model='isa'/>
  </devices>
  <qemu:commandline>
{more}  </qemu:commandline>
</domain>
"""
