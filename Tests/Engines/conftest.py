# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Fixtures of the engine suite. `engine` is each engine in turn; a test must leave nothing of it but the engine."""

import fcntl
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Tests/Integration"))

from leaks import read  # noqa: E402

import traces  # noqa: E402
from containerd import Containerd  # noqa: E402
from engine import Docker, Podman, missing  # noqa: E402

ENGINES = {kind.name: kind for kind in (Podman, Docker, Containerd)}


def find_runtime():
    """RUNTIME names another runtime than zonectl, to try the suite itself."""
    named = os.environ.get("RUNTIME") or os.environ.get("ZONECTL") or str(REPOSITORY / ".build/zonectl")
    found = shutil.which(named)
    return os.path.abspath(found) if found else None


def pytest_report_header():
    return f"runtime: {find_runtime()}"


@pytest.fixture(scope="session")
def alone():
    """Keeps two runs apart, this suite's and the integration suite's: each would take the other's things for leftovers."""
    path = os.path.join(tempfile.gettempdir(), "zonectl-test.lock")
    lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


@pytest.fixture(scope="session")
def host(alone):
    """The host must be the same at the end: nothing that an engine does may get out of its lab."""
    if os.geteuid() != 0:
        pytest.skip("needs root: engines make networks and control groups")
    before = traces.host()
    yield
    changes = traces.settled(traces.host, before)
    assert not changes, "changed on the host:\n  " + "\n  ".join(changes)


@pytest.fixture(scope="session")
def runtime(host):
    found = find_runtime()
    if not found:
        pytest.exit("no runtime: run `make build` first, or name the executable in ZONECTL", 4)
    # A copy: it stays the same when somebody builds meanwhile, and must be the same at the end.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-runtime-"))
    folder.chmod(0o755)
    copy = folder / os.path.basename(found)
    shutil.copy(found, copy)
    (folder / "zonectl-vm").symlink_to(copy.name)
    before = copy.read_bytes()
    yield copy
    after = copy.read_bytes()
    shutil.rmtree(folder, ignore_errors=True)
    assert after == before, f"{found} was changed by a zone"


@pytest.fixture(scope="session")
def image(host):
    """busybox as an image layout, and as a plain tar archive of its files."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-image-"))
    layout = folder / "layout"
    build = REPOSITORY / "images/busybox/build"
    made = subprocess.run([build, layout], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, f"{build} failed with {made.returncode}: {made.stdout}{made.stderr}"

    def blob(digest):
        return layout / "blobs" / digest.replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    archive = folder / "rootfs.tar"
    archive.write_bytes(gzip.decompress(blob(manifest["layers"][0]["digest"]).read_bytes()))
    yield layout, archive
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=list(ENGINES))
def running_engine(request, runtime, image):
    kind = ENGINES[request.param]
    why = missing(kind)
    if why:
        pytest.skip(f"{kind.name}: {why}")
    engine = kind(runtime, *image)
    engine.broken = ""
    try:
        try:
            engine.launch()
            first = engine.run("true")
            first.check(first.status == 0, f"no first zone with {runtime}")
            # What the first zones make and leave belongs to the engine.
            engine.warm_up()
        except AssertionError as error:
            log = engine.lab.folder / f"{engine.name}.log"
            engine.broken = f"{error}\n{read(log)[-1500:]}"
        engine.before = traces.lab(engine)
        yield engine
    finally:
        left = engine.close()
    assert not left, f"left by {kind.name} when it ended (and now removed):\n  " + "\n  ".join(left)


@pytest.fixture
def engine(running_engine):
    """An engine without zones. What a test leaves is removed by the engine's own means, and then nothing may be left."""
    if running_engine.broken:
        why, running_engine.broken = running_engine.broken, "see the first failure"
        # Said once, and red; the other tests cannot run.
        (pytest.skip if why == running_engine.broken else pytest.fail)(f"{running_engine.name}: {why}")
    yield running_engine
    running_engine.clear()
    changes = traces.settled(lambda: traces.lab(running_engine), running_engine.before)
    if changes:
        # The next test shall not answer for it.
        running_engine.before = traces.lab(running_engine)
        pytest.fail("left behind:\n  " + "\n  ".join(changes), pytrace=False)
