# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Fixtures of the machines' suite: those of the integration suite, and zones that are virtual machines."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
INTEGRATION = REPOSITORY / "Tests/Integration"
sys.path.insert(0, str(INTEGRATION))


def _integration():
    """The other suite's conftest.py, under a name that is not this file's."""
    spec = importlib.util.spec_from_file_location("integration_fixtures", INTEGRATION / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_base = _integration()
pytest_configure, pytest_addoption = _base.pytest_configure, _base.pytest_addoption
pytest_collection_modifyitems = _base.pytest_collection_modifyitems
alone, session_folder, executable = _base.alone, _base.session_folder, _base.executable
busybox_layout, busybox, session_store = _base.busybox_layout, _base.busybox, _base.session_store
test_folder, import_rootfs, strace = _base.test_folder, _base.import_rootfs, _base.strace

from machines import MachineHost, MachineNetHost, lacking  # noqa: E402
from networks import Namespace  # noqa: E402


@pytest.fixture(scope="session")
def guest():
    """The folder with kernels for micro machines."""
    folder = pathlib.Path(os.environ.get("ZONECTL_GUEST", REPOSITORY / ".build/guest"))
    reason = lacking(folder)
    if reason:
        pytest.skip(f"MACHINES ARE NOT TESTED: {reason}")
    return folder


@pytest.fixture(scope="session")
def machine_store(guest, executable, session_store, session_folder):
    """The shared store, in which the first machine has left its disk of the image's files; and how machines are asked for."""
    host = MachineHost(executable, session_folder / "first", session_store, guest)
    try:
        said = host.run("run", "--rm", "--vm=micro", "busybox", "true", timeout=120).exits(0).stderr
    except AssertionError as error:
        pytest.exit(f"the first machine does not run: {error}", 1)
    finally:
        left = host.close()
    assert not left, "left by the first machine:\n  " + "\n  ".join(left)
    # What is emulated says so, each time; chosen, it has nothing to say.
    MachineHost.kind = ("--vm=micro", "--accel", "tcg") if "emulated" in said else ("--vm=micro",)
    return session_store


def _finish(host, folder):
    left = host.close()
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def host(executable, machine_store, guest, test_folder):
    """zonectl with a root of the test's own and the shared store."""
    made = MachineHost(executable, test_folder, machine_store, guest)
    yield made
    _finish(made, test_folder)


@pytest.fixture
def own_store(executable, machine_store, guest):
    """The same, with a root and a copy of the store that the test may change or break; also beside `host`. No image has a disk
    there yet, and the first machine of each tells that it makes one."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-case-"))
    folder.chmod(0o755)
    store = folder / "store"
    subprocess.run(["cp", "-a", machine_store, store], check=True, timeout=60)
    shutil.rmtree(store / "machines")
    made = MachineHost(executable, folder, store, guest)
    yield made
    _finish(made, folder)


@pytest.fixture(scope="module")
def shared(executable, machine_store, guest):
    """As `host`, for all tests of a module; `shared.machine` is one that runs, for tests that leave it as it was."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-case-"))
    folder.chmod(0o755)
    made = MachineHost(executable, folder, machine_store, guest)
    made.prepare_shared()
    yield made
    _finish(made, folder)


@pytest.fixture
def net_host(executable, machine_store, guest, test_folder):
    """zonectl on a host whose network is a namespace of the test's."""
    for program, package in (("nft", "nftables"), ("dnsmasq", "dnsmasq-base"), ("ip", "iproute2")):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian package {package})")
    made = MachineNetHost(executable, test_folder, machine_store, guest)
    made.namespace = Namespace()
    made.defer(made.namespace.close)
    # Zones are gone by then.
    made.defer(lambda: [made.run("network", "rm", name).ok() for name in made.run("network", "ls", "-q").lines])
    yield made
    _finish(made, test_folder)
