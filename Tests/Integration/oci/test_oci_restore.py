# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""checkpoint and restore with the real criu."""

import os
import pathlib
import signal
import subprocess

import pytest
from bundle import bind, namespaces
from engine import needs
from leaks import alive, read, until

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
COUNT = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done"
ONLY = needs("zonectl", why="the case is about zonectl's own way to criu")


@pytest.fixture(scope="session")
def criu():
    """criu 4.1.1, which knows newer kernels' vDSO; `CRIU` names another."""
    path = os.environ.get("CRIU")
    if not path:
        folder = REPOSITORY / ".build/peers"
        got = subprocess.run([REPOSITORY / "scripts/peers", folder, "criu"], capture_output=True, text=True, timeout=300)
        if got.returncode:
            pytest.skip(f"no criu to test with: {got.stderr.strip()}")
        path = got.stdout.split()[-1]
    checked = subprocess.run([path, "check"], capture_output=True, text=True, timeout=60)
    if "Looks good" not in checked.stdout:
        pytest.skip(f"criu cannot work on this machine: {checked.stdout}{checked.stderr}")
    return path


class Saved:
    """A container that counts, for checkpoints."""

    def __init__(self, oci, criu):
        self.oci = oci
        self.criu = criu

    def run(self, *words, **keywords):
        return self.oci.run("--criu", self.criu, *words, **keywords)

    def started(self, args=COUNT, settings=None, mounts=(), **keywords):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self.oci.started(args, settings, mounts, **{**silent, **keywords})

    def count(self, name):
        return int(read(self.oci.path(f"bundle-{name}/rootfs/tmp/count")) or 0)

    def counts(self, name, beyond=0):
        assert until(lambda: self.count(name) > beyond + 2), f"it does not count on from {beyond}: {self.count(name)}"

    def dump(self, name, *options, image="image"):
        return self.run("checkpoint", "--image-path", self.oci.path(image), *options, name)

    def restore(self, name, *options, image="image", bundle=None, **keywords):
        bundle = bundle or self.oci.path(f"bundle-{name}")
        words = ("restore", "-d", "-b", bundle, "--image-path", self.oci.path(image), *options, self.oci.owned(name))
        return self.oci.quietly(f"restore-{name}", "--criu", self.criu, *words, **keywords)


@pytest.fixture
def saved(oci, criu):
    return Saved(oci, criu)


@ONLY
def test_it_goes_on_counting(oci, saved):
    name = saved.started()
    saved.counts(name)
    pid = oci.pid(name)
    saved.dump(name).ok("")
    assert oci.status(name) == "stopped"
    assert not alive(pid)
    last = saved.count(name)
    pid_file = oci.path("pid")
    saved.restore(name, "--pid-file", pid_file).exits(0)
    assert oci.status(name) == "running"
    assert int(read(pid_file)) == oci.pid(name)
    saved.counts(name, beyond=last)
    assert oci.run("exec", name, "cat", "/proc/1/comm").exits(0).stdout == "sh\n"
    oci.run("pause", name).exits(0)
    oci.run("resume", name).exits(0)
    oci.run("kill", name, "KILL").exits(0)
    oci.wait_for(name, "stopped")
    oci.run("delete", name).exits(0)


@ONLY
def test_leave_running(oci, saved):
    name = saved.started()
    saved.counts(name)
    pid = oci.pid(name)
    saved.dump(name, "--leave-running").ok("")
    assert (oci.status(name), oci.pid(name)) == ("running", pid)
    saved.counts(name, beyond=saved.count(name))
    # It is there: another of the same name cannot be.
    oci.strict(saved.restore(name))
    oci.refused(saved.restore(name), "exists")


@ONLY
@pytest.mark.parametrize("mode", ["soft", "ignore"])
def test_another_id_has_other_groups(oci, saved, mode):
    name = saved.started(
        COUNT + " & sleep 1000", settings={"linux.resources.memory": {"limit": 64 << 20}, "linux.resources.pids": {"limit": 50}}
    )
    saved.counts(name)
    saved.dump(name).exits(0)
    other = oci.name("other")
    bundle = oci.path(f"bundle-{name}")
    saved.restore(other, "--manage-cgroups-mode", mode, bundle=bundle).exits(0)
    saved.counts(name, beyond=saved.count(name))
    assert oci.group(other, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert oci.group(other, "pids", "pids.max") == "50"
    processes = oci.run("ps", "--format", "json", other).exits(0).json
    assert len(processes) >= 3
    for pid in processes:
        assert other in read(f"/proc/{pid}/cgroup") or not alive(pid)
    assert oci.status(name) == "stopped"


@ONLY
def test_root_file_system_of_another_place(oci, saved):
    source = oci.source(hello="world")
    name = saved.started("sleep 1000 & wait", mounts=[bind(source, "/deep/data"), bind(f"{source}/hello", "/deep/file")])
    saved.dump(name).exits(0)
    oci.run("delete", name).exits(0)
    # A fresh root without any of the places that were mounted upon.
    other = oci.source("elsewhere", hello="moved")
    bundle = oci.bundle(
        ("sleep", "1000"), mounts=[bind(other, "/deep/data"), bind(f"{other}/hello", "/deep/file")], name="fresh"
    )
    saved.restore(name, bundle=bundle).exits(0)
    assert oci.run("exec", name, "cat", "/deep/data/hello").exits(0).stdout == "moved"
    assert oci.run("exec", name, "cat", "/deep/file").exits(0).stdout == "moved"
    with open(f"/proc/{oci.pid(name)}/mountinfo") as file:
        assert [line.split(" ")[4] for line in file].count("/") == 1


@ONLY
def test_masked_and_read_only_paths_stay(oci, saved):
    settings = {"linux.maskedPaths": ["/proc/keys", "/proc/acpi"], "linux.readonlyPaths": ["/proc/sys"]}
    name = saved.started(settings=settings)
    saved.dump(name).exits(0)
    saved.restore(name).exits(0)
    assert oci.run("exec", name, "cat", "/proc/keys").exits(0).stdout == ""
    assert oci.run("exec", name, "sh", "-c", "echo 1 > /proc/sys/vm/drop_caches").status != 0


@ONLY
def test_control_groups_are_mounted_again(oci, saved):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    name = saved.started(mounts=[mount])
    before = oci.run("exec", name, "find", "/sys/fs/cgroup", "-maxdepth", "1").exits(0).lines
    saved.dump(name).exits(0)
    other = oci.name("other")
    saved.restore(other, bundle=oci.path(f"bundle-{name}")).exits(0)
    assert sorted(oci.run("exec", other, "find", "/sys/fs/cgroup", "-maxdepth", "1").exits(0).lines) == sorted(before)
    own = oci.run("exec", other, "sh", "-c", "cat /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/cgroup.procs")
    assert "1" in own.stdout.split()


@ONLY
def test_joined_network(oci, saved, joined_network):
    settings = {"linux.namespaces": namespaces("pid", "ipc", "uts", "mount", network=joined_network)}
    name = saved.started(settings=settings)
    saved.dump(name).exits(0)
    saved.restore(name).exits(0)
    assert os.stat(f"/proc/{oci.pid(name)}/ns/net").st_ino == os.stat(joined_network).st_ino


@ONLY
def test_foreground_pipes(oci, saved):
    """Whoever restores gets the output, and the status."""
    bundle = oci.bundle("i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done", name="bundle-z")
    name = oci.owned(oci.name())
    words = oci.command("run", "-b", bundle, name)
    first = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "1\n"
    saved.dump(name, "--image-path", oci.path("image")).exits(0)
    told = first.stdout.read().split()
    first.wait(timeout=10)
    # `run` deletes what has ended.
    words = oci.command("--criu", saved.criu, "restore", "-b", bundle, "--image-path", oci.path("image"), name)
    second = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        following = int(second.stdout.readline())
        assert following >= int(told[-1] if told else 1)
        assert int(second.stdout.readline()) == following + 1
        oci.run("kill", name, "KILL").exits(0)
        second.stdout.read()
        assert second.wait(timeout=10) == 128 + signal.SIGKILL
    finally:
        second.kill()
    assert not oci.exists(name)


@ONLY
def test_terminal(oci, saved, console):
    bundle = oci.bundle("i=0; while read line; do i=$((i+1)); echo $line=$i; done", {"process.terminal": True})
    name = oci.name()
    oci.create(bundle, name, "--console-socket", console.path).exits(0)
    master = console.accept()
    oci.run("start", name).exits(0)
    os.write(master, b"first\n")
    assert _until_said(master, b"first=1")
    saved.dump(name).exits(0)
    os.close(master)
    saved.restore(name, "--console-socket", console.path, bundle=bundle).exits(0)
    master = console.accept()
    os.write(master, b"second\n")
    assert _until_said(master, b"second=2")
    os.close(master)


@ONLY
def test_pre_dump_and_parent(oci, saved):
    checked = subprocess.run([saved.criu, "check", "--feature", "mem_dirty_track"], capture_output=True, text=True)
    if checked.returncode:
        pytest.skip("this kernel does not track memory (CONFIG_MEM_SOFT_DIRTY): criu has no pre-dump here")
    name = saved.started()
    saved.counts(name)
    saved.dump(name, "--pre-dump", image="first").exits(0)
    assert oci.status(name) == "running"
    saved.dump(name, "--parent-path", "../first").exits(0)
    assert os.readlink(oci.path("image/parent")) == "../first"
    last = saved.count(name)
    saved.restore(name).exits(0)
    saved.counts(name, beyond=last)


@ONLY
def test_killed_while_saving(oci, saved):
    """Whatever becomes of zonectl, the container is all right or can be removed."""
    name = saved.started()
    saved.counts(name)
    for delay in (0.02, 0.1, 0.2):
        words = oci.command("--criu", saved.criu, "checkpoint", "--image-path", oci.path("image"), name)
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if oci.status(name) != "running" or process.returncode == 0:
            break
        assert until(lambda: _is_free(oci.pid(name)))
        saved.counts(name, beyond=saved.count(name))
    oci.run("delete", "--force", name).exits(0)


@ONLY
@pytest.mark.parametrize("delay", [0.02, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3])
def test_killed_while_restoring(oci, saved, delay):
    """What criu has made by then goes with it, or is the container's."""
    name = saved.started()
    bundle = oci.path(f"bundle-{name}")
    saved.dump(name).exits(0)
    words = oci.command("--criu", saved.criu, "restore", "-d", "-b", bundle, "--image-path", oci.path("image"), name)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        process.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if oci.status(name) is not None:
        oci.run("delete", "--force", name).exits(0)
    # And the fixture looks for groups, mounts and processes that are left.
    log = oci.path("image/restore.log")
    assert until(lambda: not any(log in text for text in _open_files()))


def _open_files():
    """What criu processes have open."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if "criu" in read(f"/proc/{pid}/comm"):
            for number in os.listdir(f"/proc/{pid}/fd") if alive(int(pid)) else ():
                try:
                    yield os.readlink(f"/proc/{pid}/fd/{number}")
                except OSError:
                    pass


def _is_free(pid):
    """Whether nobody traces the process."""
    return "TracerPid:\t0\n" in read(f"/proc/{pid}/status")


@ONLY
def test_hooks(oci, saved):
    log = oci.path("hooks.log")
    hook = oci.path("hook", f"#!/bin/sh\nread state\necho $1 >> {log}\n")
    os.chmod(hook, 0o755)
    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    settings = {"hooks": {kind: [{"path": hook, "args": ["hook", kind]}] for kind in kinds}}
    name = saved.started(settings=settings)
    saved.dump(name).exits(0)
    os.unlink(log)
    saved.restore(name).exits(0)
    # What was saved ends for good, then those for the network of what comes back.
    assert read(log).split() == ["poststop", "prestart", "createRuntime", "poststart"]


@ONLY
def test_status_of_what_ends_later(oci, saved):
    name = saved.started("trap 'exit 7' TERM; while :; do sleep 0.05; done")
    saved.dump(name).exits(0)
    bundle = oci.path(f"bundle-{name}")
    words = oci.command("--criu", saved.criu, "restore", "-b", bundle, "--image-path", oci.path("image"), name)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    oci.wait_for(name, "running")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 7
    assert not oci.exists(name)


# Surroundings


def _until_said(master, text):
    os.set_blocking(master, False)
    said = b""

    def look():
        nonlocal said
        try:
            said += os.read(master, 4096)
        except OSError:
            pass
        return text in said

    return until(look)
