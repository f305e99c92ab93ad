# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test, a bench or the demo imports: labnet (hosts, cables, processes), labvm (guests),
labdisk (their disks)."""

from labdisk import Broken, Disk, DiskLoad, Durable
from labnet import CLIENT, SWITCH, Cable, Lab, LabError, LabInterrupted, Proc, tool
from labvm import Guest, GuestError, Vm

__all__ = ["CLIENT", "SWITCH", "Broken", "Cable", "Disk", "DiskLoad", "Durable", "Guest",
           "GuestError", "Lab", "LabError", "LabInterrupted", "Proc", "Vm", "tool"]
