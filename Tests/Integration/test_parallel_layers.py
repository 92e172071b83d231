# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Layers are unpacked by several processes at a time, and come out as if one had done them in order."""

import gzip
import os
import pathlib
import re
import shutil
import signal
import time

import hostile
import layouts
import pytest
from leaks import read, until
from test_unpack_peers import everything

BEGIN = time.time_ns()


@pytest.fixture
def processors():
    """Skips where there is nothing to share."""
    count = len(os.sched_getaffinity(0))
    if count < 2:
        pytest.skip("this machine has one processor: layers are unpacked one after another")
    return count


def layout_of(folder, layers):
    return hostile.Image(folder).whole(*layers, media=hostile.LAYER + "+gzip", packed=gzip.compress)


def layers_of(host):
    """A digest of each unpacked layer, with what overlayfs and the times of directories are to be."""
    found = {}
    for layer in sorted(pathlib.Path(host.store, "layers").iterdir()):
        marks = []
        for top, folders, files in os.walk(layer):
            folders.sort()
            for name in ["."] + sorted(folders + files):
                path = os.path.join(top, name)
                status = os.lstat(path)
                # What no layer lists has the time at which it was made.
                then = status.st_mtime_ns if status.st_mtime_ns < BEGIN else None
                marks.append((os.path.relpath(path, layer), then, status.st_rdev,
                              [(a, os.getxattr(path, a, follow_symlinks=False))
                               for a in sorted(os.listxattr(path, follow_symlinks=False))]))
        found[layer.name] = (layouts.tree_digest(layer), sorted(marks))
    return found


def test_same_as_in_order(plain_host, test_folder, processors):
    """Whiteouts, opaque directories and directories that a layer does not list need the layers below."""
    layers = everything()
    implied = hostile.tar(*[hostile.member(f"{name}/implied", "x") for name in ("etc", "kept", "group/new", "opaque")])
    layout = layout_of(test_folder / "layout", (*layers, implied, hostile.tar(hostile.member(".wh.kept"))))
    plain_host.import_image(layout, "many").exits(0)
    together = layers_of(plain_host)
    plain_host.run("image", "rm", "many").ok()
    assert not list(pathlib.Path(plain_host.store, "layers").glob("[0-9a-f]*"))
    plain_host.import_image(layout, "many", wrap=["taskset", "-c", str(min(os.sched_getaffinity(0)))]).exits(0)
    assert len(together) == 5
    assert layers_of(plain_host) == together


def children_traced(path):
    """How many children a trace of `strace -f` has."""
    return len(set(re.findall(r"^(\d+) ", pathlib.Path(path).read_text(), re.M))) - 1


def test_processes(plain_host, test_folder, strace, processors):
    layout = layout_of(test_folder / "layout", everything())
    trace = plain_host.path("trace")
    plain_host.import_image(layout, "three",
                   wrap=[strace, "-f", "-qq", "-o", trace, "-e", "trace=mkdirat,symlinkat"]).exits(0)
    assert children_traced(trace) == 3
    # The rest of what the parent makes are folders of the store.
    parent = pathlib.Path(trace).read_text().split()[0]
    assert not [line for line in pathlib.Path(trace).read_text().splitlines()
                if line.startswith(parent) and "symlinkat" in line]


def test_a_worker_that_fails(plain_host, test_folder, strace, processors):
    """What cannot be shared is done by zonectl itself: here its children believe that it has ended."""
    layers = everything()
    layout = layout_of(test_folder / "layout", layers)
    trace = plain_host.path("trace")
    plain_host.import_image(layout, "three",
                   wrap=[strace, "-f", "-qq", "-o", trace, "-e", "trace=getppid,symlinkat", "-e",
                         "inject=getppid:retval=1"]).exits(0)
    lines = [line.split(maxsplit=1) for line in pathlib.Path(trace).read_text().splitlines()]
    deceived = {pid for pid, call in lines if "INJECTED" in call}
    makers = {pid for pid, call in lines if "symlinkat" in call}
    assert deceived and len(makers) == 1 and not deceived & makers, (deceived, makers)
    plain_host.run("image", "verify").ok()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_layer_that_is_not_what_it_should_be(plain_host, test_folder, which):
    """One clear error, whichever layer it is; the others' are gone with it."""
    layers = [hostile.tar(hostile.member(f"n{n}", os.urandom(100000).hex())) for n in range(3)]
    layers[which] = hostile.tar(hostile.member("../evil", "x"))
    layout = layout_of(test_folder / "layout", layers)
    plain_host.import_image(layout, "odd").fails(125, "leads out")
    assert [path.name for path in pathlib.Path(plain_host.store, "layers").iterdir()] == []


def test_killed_workers_end_with_their_zonectl(plain_host, test_folder, processors):
    """What a killed zonectl had begun does not go on behind the back of the next one."""
    random = os.urandom(1 << 20)
    # What packs well and takes a while to unpack.
    layers = [hostile.tar(*[hostile.member(f"{n}/{i}", random) for i in range(40)]) for n in range(2)]
    layout = layout_of(test_folder / "layout", layers)
    running = plain_host.popen("image", "import", "--name=big", layout)
    staging = pathlib.Path(plain_host.store, "layers/.staging")

    def workers():
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and plain_host.store in read(f"/proc/{pid}/cmdline")
                and "import" in read(f"/proc/{pid}/cmdline")]

    assert until(lambda: staging.is_dir() and len(list(staging.glob("*/*"))) >= 2), "two layers were not begun"
    assert len(workers()) == 3, workers()
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert until(lambda: not workers()), "workers go on"
    time.sleep(0.1)
    plain_host.import_image(layout, "big").exits(0)
    plain_host.run("image", "verify").ok()
    shutil.rmtree(test_folder / "layout")
