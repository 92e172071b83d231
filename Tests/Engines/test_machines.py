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


# Ends at once when it is told to: what is PID 1 has no default handlers.
IDLE = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")


def test_exec(machines):
    """Also at once: the machine of a zone that was started still boots."""
    zone = machines.start(*IDLE, machine=True)
    assert machines.exec(zone, *KERNEL).exits(0).stdout.strip() != os.uname().release
    done = machines.exec(zone, "sh", "-c", "head -n 20000; echo bad >&2; exit 4", stdin="line\n" * 20_000)
    assert (done.status, done.stdout, "bad\n" in done.stderr) == (4, "line\n" * 20_000, True), done
    assert machines.exec(zone, "sh", "-c", "kill -9 $$").status == 137
    missing, not_executable = machines.exec_errors
    assert machines.exec(zone, "/no/such").status == missing
    assert machines.exec(zone, "/tmp").status == not_executable


def test_exec_at_a_terminal(machines):
    zone = machines.start(*IDLE, machine=True)
    terminal = machines.at_terminal(machines.exec_line(zone, "sh", terminal=True, interactive=True), rows=33, columns=111)
    try:
        terminal.prompt()
        assert terminal.ask("tty") == "/dev/pts/0"
        # Engines tell the size when the program runs already.
        assert until(lambda: terminal.ask("stty size") == "33 111", 10)
        terminal.resize(40, 120)
        assert until(lambda: terminal.ask("stty size") == "40 120", 10)
        terminal.line("exit 5")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_exec_in_the_background_ends_with_its_machine(machines):
    machines.needs("exec in the background")
    zone = machines.start(*IDLE, machine=True)
    machines.must("exec", "--detach", zone, "sh", "-c", "echo made >/made; exec sleep 1000")
    assert until(lambda: machines.exec(zone, "cat", "/made").stdout == "made\n", 20, 0.2)
    assert _added(machines)
    machines.kill(zone, "TERM")
    assert machines.exit_code(zone) == 3
    assert until(lambda: not _added(machines)), machines.lab.processes()


def _added(machines):
    """What stands on the host for programs that were added to machines."""
    return [words for words in machines.lab.processes().values() if words.startswith("zonectl: exec in ")]
