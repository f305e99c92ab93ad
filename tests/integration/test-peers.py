#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemons of two hosts, and the VMs that both may run: one definition file, started on either,
stopped on either; the standby comes by itself, also after a failover; strangers are turned away.

usage: test-peers.py [PATTERN]    only the checks whose name contains PATTERN
Environment: HF_BUILD_DIR; HF_SEED. Exit status: 0, 1, or 77 when not root."""

import os
import signal
import sys
import time
from typing import Any

from checks import check, expect, main, poll, say

# pylint: disable=wrong-import-position
from labpeers import PeerHost, PeerPair  # noqa: E402


def is_primary(vm: dict[str, Any]) -> bool:
    return bool(vm["role"] == "primary" and vm["supervision"] == "up")


def is_protected(vm: dict[str, Any]) -> bool:
    return is_primary(vm) and bool(vm["protected"])


def is_standby(vm: dict[str, Any]) -> bool:
    return bool(vm["role"] == "standby" and vm["supervision"] == "up")


def is_off(vm: dict[str, Any]) -> bool:
    return bool(vm["supervision"] == "off" and not vm["keeper_pid"])


def tell(pair: PeerPair) -> None:
    for host in pair.hosts.values():
        if host.daemon:
            say(f"--- {host.host}")
            say(host.daemon.log_tail())


@check
def one_definition_protects_a_vm_on_two_hosts() -> None:
    """Started on one, stopped on the other, started there; a failover; protected again."""
    with PeerPair() as pair:
        one, two = pair.both()
        pair.define("web")
        try:
            pair.start()
            pair.wait_up()
            began = time.monotonic()
            one.start_vm("web")
            two.wait_vm("web", is_standby, "the standby has come by itself")
            shown = one.wait_vm("web", is_protected, "protected")
            say(f"start to protected: {time.monotonic() - began:.1f} s")
            expect((shown["host"], shown["peer_host"], shown["peer_life"])
                   == ("hostA", "hostB", "standby"), shown)
            expect(two.vm("web")["host"] == "hostA", two.vm("web"))

            two.stop_vm("web")  # by force, which reaches the other host, too
            one.wait_vm("web", is_off, "stopped where it ran")
            two.wait_vm("web", is_off, "and the standby with it")

            one.call("Start", vm="web", host="hostB")  # by the other one's daemon
            shown = two.wait_vm("web", is_protected, "runs on hostB, protected")
            expect(shown["host"] == "hostB", shown)
            expect(is_standby(one.vm("web")), one.vm("web"))

            os.kill(shown["qemu_pid"], signal.SIGKILL)
            one.wait_vm("web", is_primary, "the standby has gone live")
            one.wait_vm("web", is_protected, "and is protected again, by hostB")
            expect(is_standby(two.vm("web")), two.vm("web"))
            one.stop_vm("web")
            two.wait_vm("web", is_off, "the standby has ended")
        except BaseException:
            tell(pair)
            raise


if __name__ == "__main__":
    sys.exit(main())
