# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Fixtures of the engine face's suite. `RUNTIME` names another OCI runtime than zonectl."""

import array
import os
import shutil
import socket
import subprocess
import tempfile

import pytest
from engine import EngineHost, Runtime
from leaks import until


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(runtimes, why): only these runtimes can pass")


@pytest.fixture(scope="session")
def runtime(request):
    """What is tested: `RUNTIME`, a name or a path, else zonectl."""
    named = os.environ.get("RUNTIME")
    if not named:
        return Runtime.at(str(request.getfixturevalue("executable")))
    found = shutil.which(named)
    if not found:
        pytest.exit(f"RUNTIME: {named} is not there", 4)
    return Runtime.at(found)


@pytest.fixture(scope="session")
def static_busybox(session_folder):
    """A busybox that stands for itself, and the names that it answers to."""
    source = shutil.which("busybox")
    if not source:
        pytest.exit("busybox is not installed (Debian package busybox-static)", 4)
    # By another name it would look for a program of that name in itself.
    path = session_folder / "static/busybox"
    path.parent.mkdir()
    shutil.copy(source, path)
    path.chmod(0o755)
    applets = subprocess.run([path, "--list"], capture_output=True, text=True, timeout=20).stdout.split()
    # A link of its own name would stand in place of the program.
    return path, [name for name in applets if name != "busybox"]


@pytest.fixture(autouse=True)
def _only_what_it_can(request):
    mark = request.node.get_closest_marker("needs")
    if mark and not request.getfixturevalue("runtime").can(mark.args[0]):
        runtime = request.getfixturevalue("runtime")
        pytest.skip(f"{runtime.kind} {runtime.version} cannot: {mark.args[1]}")


@pytest.fixture
def oci(runtime, static_busybox, session_folder, test_folder):
    """The runtime with a state folder of the test's own. Whatever the test leaves behind fails it."""
    host = EngineHost(runtime, test_folder, *static_busybox)
    yield host
    left = host.close()
    shutil.rmtree(test_folder, ignore_errors=True)
    if left:
        report = pytest.fail if runtime.kind == "zonectl" else pytest.skip
        report("left behind (and now removed):\n  " + "\n  ".join(left))


@pytest.fixture
def short_folder():
    """A folder with a short name: a socket's address has 107 bytes."""
    path = tempfile.mkdtemp(prefix="zs-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def joined_network():
    """The path of a network namespace that is not the host's."""
    process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    path = f"/proc/{process.pid}/ns/net"
    assert until(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino)
    yield path
    process.kill()
    process.wait()


class Console:
    """An engine's end of --console-socket."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        self.listener.settimeout(20)

    def accept(self):
        connection, _ = self.listener.accept()
        with connection:
            numbers = array.array("i")
            _, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_LEN(4))
            numbers.frombytes(ancillary[0][2][:4])
        return numbers[0]


@pytest.fixture
def console(short_folder):
    console = Console(f"{short_folder}/console")
    yield console
    console.listener.close()
