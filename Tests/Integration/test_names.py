# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Who has a name: commands that meet over one, and folders that could mean something else."""

import shutil
import time

import pytest

from leaks import until


def delayed_lock(milliseconds):
    """Holds a zonectl before each lock that it takes."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    return (strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e",
            f"inject=flock:delay_enter={milliseconds * 1000}")


def test_a_slow_rm_does_not_remove_the_next_zone_of_the_name(zone_host):
    name = zone_host.name("z")
    zone_host.run("run", "--name", name, "busybox", "true").ok()
    slow = zone_host.popen("rm", name, wrap=delayed_lock(2000))
    time.sleep(0.7)
    zone_host.run("rm", name).ok()
    zone_host.start("z")
    slow.wait(20)
    assert slow.returncode == 125 and zone_host.status(name) == "running"


def test_a_slow_start_does_not_remove_the_next_zone_of_the_name(zone_host):
    name = zone_host.name("z")
    slow = zone_host.popen("run", "--name", name, "--rm", "busybox", "true", wrap=delayed_lock(2000))
    assert until(lambda: zone_host.status(name) is not None, 10)
    zone_host.run("rm", "-f", name).ok()
    zone_host.start("z")
    slow.wait(20)
    assert slow.returncode == 125 and zone_host.status(name) == "running"


def test_another_store_cannot_take_the_name(zone_host, busybox_layout):
    name = zone_host.start("z")
    other = zone_host.path("other-store")
    zone_host.run("--store", other, "image", "import", busybox_layout).ok()
    zone_host.run("--store", other, "run", "--rm", "--name", name, "busybox", "true").fails(125, name, "taken")
    assert zone_host.status(name) == "running"
    zone_host.run("exec", name, "true").ok()


@pytest.mark.parametrize("root, store", [("{0}", "{0}"), ("{0}", "{0}/zones"), ("{0}/run", "{0}"), ("/", "{0}"), ("{0}", "/")])
def test_folders_inside_one_another_are_refused(zone_host, root, store):
    folder = zone_host.path("folder")
    zone_host.run("--root", root.format(folder), "--store", store.format(folder), "ls").fails(125, "--root", "--store")


def test_rm_with_force_wants_the_whole_name(zone_host):
    name = zone_host.start("web-production")
    zone_host.run("rm", "-f", zone_host.name("web")).fails(125, name)
    assert zone_host.status(name) == "running"
