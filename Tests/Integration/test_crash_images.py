# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""SIGKILL of zonectl while it changes the store: every image is sound afterwards, and what is left goes away."""

import os
import pathlib

import layouts
import pytest
from leaks import read, until
from registry import Registry
from test_crash import calls_of

PLAIN = "--tls-verify=false"
# Every so many system calls; all with ZONECTL_TEST_EVERY_CALL=1.
STEP = 1 if os.environ.get("ZONECTL_TEST_EVERY_CALL") else 10
# Not the calls of the program's start, before it can have done anything.
START = ("execve", "exit_group", "mmap", "munmap", "mprotect", "brk")


def image(folder, busybox, note):
    """A layout of two layers; the first is the same for all notes."""
    layers = [layouts.archive(layouts.rootfs(busybox)), layouts.archive([layouts.entry("note", note)])]
    return layouts.Layout(folder).image("tool", layers, Cmd=["sleep", "1000"])


def skopeos(host):
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and "skopeo" in read(f"/proc/{pid}/cmdline")
            and host.store in read(f"/proc/{pid}/cmdline")]


def kill_everywhere(host, strace, words, prepare, check):
    """Kills `words` at every tenth of its calls. Returns how often it was killed."""
    trace = host.path("trace")
    prepare()
    host.run(*words, wrap=[strace, "-qq", "-o", trace]).exits(0)
    # How often it looks whether something has come is not the same twice.
    calls = [call for call in calls_of(trace) if call[0] not in START and call[0] != "poll"]
    kills = 0
    for call, number in calls[::STEP]:
        prepare()
        inject = (strace, "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                  f"inject={call}:signal=SIGKILL:when={number}")
        killed = host.run(*words, wrap=inject).status != 0
        kills += killed
        try:
            assert until(lambda: not skopeos(host)), "skopeo goes on without its zonectl"
            host.run("image", "verify").ok()
            check(killed)
            store_is_tidy(host)
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL at {call} number {number}: {error}") from None
    prepare()
    host.run(*words).exits(0)
    assert kills >= 5, f"killed {kills} times at {len(calls)} calls"
    return kills


def store_is_tidy(host):
    """After a prune there is nothing half done, nothing that no image needs, and all is sound still."""
    host.run("image", "prune").ok()
    host.run("image", "verify").ok()
    store = pathlib.Path(host.store)
    left = [*store.glob("images/.staging"), *store.glob("layers/.staging"), *store.glob("pulls/*")]
    assert not left, left
    details = host.run("image", "inspect", *host.run("image", "ls", "-q").ok().lines).ok().json
    needed = {layer["digest"][7:] for image in details for layer in image["layers"]}
    blobs = {path.name for path in (store / "images/blobs/sha256").iterdir()}
    # A manifest and a configuration for each digest.
    extra = 2 * len({image["digest"] for image in details})
    assert needed <= blobs and len(blobs) == len(needed) + extra, (blobs, needed)


def listed(host):
    return {entry["name"]: entry["digest"] for entry in host.run("image", "ls", "--json").ok().json}


def test_pull(own_store, strace, busybox, test_folder):
    host = own_store
    registry = Registry(test_folder / "registry")
    host.defer(registry.stop)
    environment = {name: value for name, value in host.environment.items() if "proxy" not in name.lower()}
    host.environment = environment | {"HOME": str(test_folder), "XDG_RUNTIME_DIR": str(test_folder)}
    layout = image(test_folder / "tool", busybox, os.urandom(200000).hex())
    registry.put(layout.path, "team/tool:1", "tool")
    name = f"{registry.host}/team/tool:1"

    def prepare():
        if name in listed(host):
            host.run("image", "rm", name).ok()

    def check(killed):
        # It is there whole, or not at all, and pulling it again always helps.
        assert killed or name in listed(host)
        host.run("image", "pull", "-q", PLAIN, name).ok()
        assert listed(host)[name] == layout.manifests[0]["digest"]

    kill_everywhere(host, strace, ("image", "pull", "-q", PLAIN, name), prepare, check)


def test_commit(own_store, strace):
    host = own_store
    zone = host.detached(options=("--stop-timeout", "0"))
    host.run("exec", zone, "sh", "-c", "mkdir /d; echo x > /d/x; rm /bin/vi; ln /d/x /y; dd if=/dev/zero of=/z bs=64k count=8 2>&-").exits(0)

    def prepare():
        if host.status(zone) == "paused":
            host.run("resume", zone).ok()
        if "made:latest" in listed(host):
            host.run("image", "rm", "made").ok()

    def check(killed):
        assert killed or "made:latest" in listed(host)
        assert host.status(zone) in ("running", "paused")
        if "made:latest" in listed(host):
            host.run("run", "--rm", "made", "cat", "/d/x", "/y").ok(stdout="x\nx\n")

    kill_everywhere(host, strace, ("commit", zone, "made"), prepare, check)
    host.run("run", "--rm", "made", "cat", "/d/x").ok(stdout="x\n")


def test_snapshot(own_store, strace):
    host = own_store
    zone = host.detached(options=("--stop-timeout", "0"))
    host.run("exec", zone, "sh", "-c", "mkdir /d; echo x > /d/x; rm /bin/vi; ln /d/x /y").exits(0)
    folder = pathlib.Path(host.store) / "zones" / zone / "snapshots"

    def snapshots():
        return host.run("snapshot", "ls", "-q", zone).ok().lines

    def prepare():
        if host.status(zone) == "paused":
            host.run("resume", zone).ok()
        if snapshots():
            host.run("snapshot", "rm", zone, "s").ok()

    def check(killed):
        assert killed or snapshots() == ["s"]
        assert host.status(zone) in ("running", "paused")
        if snapshots():
            assert (folder / "s/upper/d/x").read_text() == "x\n" and (folder / "s/upper/y").stat().st_nlink == 2

    kill_everywhere(host, strace, ("snapshot", "create", zone, "s"), prepare, check)
    assert snapshots() == ["s"] and os.listdir(folder) == ["s"]
    host.run("rm", "-f", zone).ok()
    assert not folder.parent.exists()


def test_prune(own_store, strace, busybox, test_folder):
    host = own_store
    old, new = (image(test_folder / note, busybox, note * 1000).path for note in ("old", "new"))
    before = set(os.listdir(pathlib.Path(host.store) / "layers"))

    def prepare():
        for path in (old, new):
            host.import_image(path, "tool").exits(0)

    def check(killed):
        assert set(listed(host)) >= {"busybox:latest", "tool:latest"}
        host.run("run", "--rm", "tool", "cat", "/note").ok(stdout="new" * 1000)

    kill_everywhere(host, strace, ("image", "prune"), prepare, check)
    host.run("image", "rm", "tool").ok()
    assert set(os.listdir(pathlib.Path(host.store) / "layers")) == before
