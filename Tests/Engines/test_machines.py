# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""An engine's zone that is a micro virtual machine: as its other zones, but under a kernel of its own."""

import os
import pathlib
import shutil

import pytest
from engine import GUEST
from leaks import until
from test_networks import SERVE, fetch

KERNEL = ("cat", "/proc/sys/kernel/osrelease")


@pytest.fixture
def machines(engine):
    """An engine that can make machines."""
    if not pathlib.Path(GUEST, "amd64/vmlinux").exists():
        pytest.skip(f"{GUEST} holds no kernel for amd64: run `make guest-kernel`")
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("virtiofsd", "virtiofsd")):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/lib/qemu:/usr/libexec"):
            pytest.skip(f"{program} is not installed (Debian package {package})")
    return engine


def test_a_machine_in_the_place_of_a_zone(machines):
    """Its output and status, and another kernel than the host's."""
    done = machines.run("sh", "-c", "cat /proc/sys/kernel/osrelease; exit 7", machine=True)
    assert done.status == 7 and done.stdout.strip() not in ("", os.uname().release), done
    assert machines.run(*KERNEL).stdout.strip() == os.uname().release


def test_a_machine_in_the_engines_network(machines):
    """Reached by the address that the engine gave it, and by a published port."""
    publish = {} if "publish" in machines.cannot else {"publish": (18082, 80)}
    server = machines.start("sh", "-c", SERVE.format("from a machine"), machine=True, **publish)
    assert until(lambda: fetch(machines, f"{machines.address(server)}/word") == "from a machine\n", 20)
    if publish:
        assert until(lambda: fetch(machines, "127.0.0.1:18082/word") == "from a machine\n", 5)
    # A zone of the same network reaches it, too.
    neighbour = machines.start("sleep", "1000")
    words = ("wget", "-qO-", f"http://{machines.address(server)}/word")
    assert until(lambda: machines.exec(neighbour, *words).stdout == "from a machine\n", 5)
    # netavark forgets the chain of a port where another zone goes last.
    machines.remove_by_force(neighbour)
    machines.kill(server, "KILL")
    assert machines.exit_code(server) == 137
