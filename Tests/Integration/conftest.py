# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Fixtures of the integration suite. What a test asks for is in `fixture.ZoneHost`."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import layouts
import pytest
import without
from fixture import ZoneHost

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# Nothing is to be made in the network of the machine that tests, whoever calls zonectl; tests of networks have one of their own.
os.environ["ZONECTL_NETWORK"] = "none"


def pytest_configure(config):
    config.addinivalue_line("markers", "anyone: does not need root")
    config.pluginmanager.register(without.Refusals(config.getoption("without")), "refusals")


def pytest_addoption(parser):
    parser.addoption(
        "--without", choices=sorted(without.CALLS), help="run zonectl as on a kernel that lacks these system calls"
    )


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        reason = pytest.mark.skip(reason="needs root: the suite looks into zones from outside; run it with sudo")
        for item in items:
            if not item.get_closest_marker("anyone"):
                item.add_marker(reason)


def _digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def alone():
    """Keeps two runs of the suite apart: each would take the other's groups and links for leftovers."""
    path = os.path.join(tempfile.gettempdir(), "zonectl-test.lock")
    lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


@pytest.fixture(scope="session")
def session_folder(alone):
    """A folder that everybody may enter, so that ordinary users reach the executable in it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def executable(session_folder, request):
    """A copy of zonectl: it stays the same when somebody builds meanwhile, and must be the same at the end."""
    source = pathlib.Path(os.environ.get("ZONECTL", REPOSITORY / ".build/zonectl"))
    if not source.is_file():
        pytest.exit(f"{source} does not exist: run `make build` first, or name the executable in ZONECTL", 4)
    copy = session_folder / "zonectl"
    shutil.copy(source, copy)
    copy.chmod(0o755)
    before = _digest(copy)
    lacks = request.config.getoption("without")
    yield without.launcher(copy, session_folder / "without", lacks) if lacks else copy
    assert _digest(copy) == before, f"{copy} was changed by a zone"


@pytest.fixture(scope="session")
def busybox_layout(session_folder):
    """The busybox image as images/busybox/build makes it."""
    output = session_folder / "busybox"
    build = REPOSITORY / "images/busybox/build"
    made = subprocess.run([build, output], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, f"{build} failed with {made.returncode}: {made.stdout}{made.stderr}"
    return output


@pytest.fixture(scope="session")
def busybox(busybox_layout):
    """The bytes of a static busybox, for images of the tests' own."""
    return layouts.find_busybox(busybox_layout)


@pytest.fixture(scope="session")
def session_store(session_folder, executable, busybox_layout):
    """A store that holds busybox, imported once. Its images must be the same at the end."""
    host = ZoneHost(executable, session_folder / "import", session_folder / "store")
    try:
        host.import_image(busybox_layout, "busybox").exits(0)
        # Fills the caches, so that no test finds their files new.
        host.run("run", "--rm", "busybox", "true").ok()
        left = host.close()
        assert not left, "left by the first zone:\n  " + "\n  ".join(left)
    except AssertionError as error:
        # Nearly every test needs this, and would only repeat the sentence.
        pytest.exit(f"the first zone does not run: {error}", 1)
    layers = session_folder / "store" / "layers"
    before = layouts.tree_digest(layers)
    yield session_folder / "store"
    assert layouts.tree_digest(layers) == before, f"the image's layers in {layers} were changed"


def _finish(host, folder):
    left = host.close()
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def test_folder():
    """A folder of the test's own, which everybody may enter."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-case-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def zone_host(executable, session_store, test_folder):
    """zonectl with a root of the test's own and the shared store; images are only read."""
    host = ZoneHost(executable, test_folder, session_store)
    yield host
    _finish(host, test_folder)


@pytest.fixture
def own_store(executable, session_store, test_folder):
    """As `zone_host`, with a copy of the store that the test may change or break."""
    store = test_folder / "store"
    subprocess.run(["cp", "-a", session_store, store], check=True, timeout=60)
    host = ZoneHost(executable, test_folder, store)
    yield host
    _finish(host, test_folder)


@pytest.fixture
def plain_host(executable, test_folder):
    """zonectl with an empty store and no image: for what needs neither root nor zones."""
    host = ZoneHost(executable, test_folder, test_folder / "store")
    yield host
    _finish(host, test_folder)


@pytest.fixture
def import_rootfs(own_store, busybox, test_folder):
    """Makes an image of the test's own: busybox with more members; returns its name."""

    def make(name, *more, without=(), command="sh"):
        path = test_folder / f"{name}.tar"
        path.write_bytes(layouts.archive(layouts.rootfs(busybox, *more, without=without)))
        own_store.import_image(path, name, [command]).exits(0)
        return name

    return make


@pytest.fixture(scope="session")
def strace():
    """The path of strace, for tests that watch or break system calls."""
    found = shutil.which("strace")
    if not found:
        pytest.skip("strace is not installed (Debian package strace)")
    probe = subprocess.run([found, "-o", "/dev/null", "true"], capture_output=True, text=True, timeout=20)
    if probe.returncode != 0:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")
    return found
