# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`diff`, snapshots and clones: by content and metadata, interrupted, with bad input."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from contents import seen

CHANGE = (
    "echo one > /one; mkdir -p /d/e; echo two > /d/e/two; ln -s one /link; ln /one /hard; chown 5:6 /one; chmod 4711 /one;"
    "rm /bin/vi; rm -r /usr/share 2>/dev/null; rm -rf /root; mkdir /root; echo new > /root/new; mkfifo /fifo; echo x >> /etc/passwd"
)


def zone_folder(zone_host, name):
    return pathlib.Path(zone_host.store) / "zones" / name


@pytest.fixture
def zone(zone_host):
    """A zone that has changed much and runs."""
    name = zone_host.detached("s", options=("--stop-timeout", "1"))
    zone_host.run("exec", name, "sh", "-c", CHANGE).ok()
    return name


def stop(zone_host, name):
    zone_host.run("stop", "-t", "0", name).ok()


def sh(zone_host, name, script):
    zone_host.run("start", name).ok()
    return zone_host.run("exec", name, "sh", "-c", script).ok().stdout


# diff


def test_diff_tells_added_changed_and_deleted(zone_host, zone):
    lines = zone_host.run("diff", zone).ok().lines
    for line in ("A /one", "A /d", "A /d/e", "A /d/e/two", "A /link", "A /hard", "A /fifo", "A /root/new", "C /root",
                 "C /etc", "C /etc/passwd", "C /bin", "D /bin/vi"):
        assert line in lines, lines
    assert [line[2:] for line in lines] == sorted(line[2:] for line in lines)
    assert not any("hosts" in line or "/proc" in line for line in lines)
    changes = zone_host.run("diff", "--json", zone).ok().json
    assert {"path": "/bin/vi", "change": "deleted"} in changes and len(changes) == len(lines)
    stop(zone_host, zone)
    assert zone_host.run("diff", zone).ok().lines == lines


def test_diff_of_what_was_removed_and_made_again(zone_host, zone):
    assert "D /etc/group" not in zone_host.run("diff", zone).ok().lines
    zone_host.run("exec", zone, "sh", "-c", "rm -rf /etc/group; echo new > /etc/group; rm /bin/sh; mkdir /bin/sh").ok()
    lines = zone_host.run("diff", zone).ok().lines
    assert "C /etc/group" in lines and "C /bin/sh" in lines


def test_diff_of_a_zone_that_never_ran(zone_host):
    name = zone_host.name("n")
    zone_host.defer(zone_host.remove, name)
    zone_host.run("create", "--name", name, "busybox").ok()
    zone_host.run("diff", name).ok(stdout="")
    zone_host.run("diff", "--json", name).ok(stdout="[]\n")
    zone_host.run("diff", "none").fails(125, "none")
    zone_host.run("diff").fails(125, "one zone")


# Snapshots


def test_a_snapshot_brings_back_files_and_settings(zone_host, zone):
    stop(zone_host, zone)
    before = seen(zone_host, zone)
    zone_host.run("set", zone, "--memory", "64M").ok()
    zone_host.run("snapshot", "create", zone, "good").ok(stdout="good\n")
    zone_host.run("set", zone, "--memory", "32M").ok()
    sh(zone_host, zone, "rm -rf /d /one /bin/ls; echo bad > /link; rm -r /home 2>/dev/null; echo more > /more")
    zone_host.run("snapshot", "restore", zone, "good").fails(125, "running", "--stop")
    assert "bad" in sh(zone_host, zone, "cat /link")
    zone_host.run("snapshot", "restore", "--stop", zone, "good").ok(stdout="")
    assert zone_host.status(zone) == "stopped" and seen(zone_host, zone) == before
    assert zone_host.inspect(zone)["definition"]["resources"]["memory"]["limit"] == 64 << 20
    said = sh(zone_host, zone, "cat /d/e/two /hard; stat -c %u:%g:%a:%h /one; test -e /bin/vi || echo gone; ls /root; ls -d /bin/ls")
    assert said == "two\none\n5:6:4711:2\ngone\nnew\n/bin/ls\n"
    # The snapshot itself is as it was.
    stop(zone_host, zone)
    folder = zone_folder(zone_host, zone)
    assert sorted(os.listdir(folder / "snapshots")) == ["good"] and not (folder / ".restore").exists()


def test_snapshots_of_a_running_zone(zone_host):
    # Two files that are always written one after the other: a snapshot never has the second without the first.
    script = "n=0; while :; do n=$((n+1)); echo $n > /a; echo $n > /b; done"
    name = zone_host.detached("w", command=("sh", "-c", script))
    for number in range(1, 4):
        zone_host.run("snapshot", "create", name).ok(stdout=f"snap{number}\n")
        assert zone_host.status(name) == "running"
        top = zone_folder(zone_host, name) / "snapshots" / f"snap{number}" / "upper"
        a, b = ((top / letter).read_text() if (top / letter).exists() else "" for letter in "ab")
        assert a == "" or b == "" or 0 <= int(a) - int(b) <= 1
    listed = zone_host.run("snapshot", "ls", "--json", name).ok().json
    assert [entry["name"] for entry in listed] == ["snap1", "snap2", "snap3"] and listed[0]["wasRunning"]
    assert zone_host.inspect(name)["snapshots"] == listed
    assert zone_host.run("snapshot", "ls", "-q", name).ok().lines == ["snap1", "snap2", "snap3"]
    zone_host.run("snapshot", "rm", name, "snap2").ok(stdout="snap2\n")
    zone_host.run("pause", name).ok()
    zone_host.run("snapshot", "create", name, "paused").ok()
    assert zone_host.status(name) == "paused"


def test_bad_input_about_snapshots(zone_host, zone):
    zone_host.run("snapshot", "create", zone, "s").ok()
    zone_host.run("snapshot", "create", zone, "s").fails(125, "\"s\"", "already")
    for name in ("../x", ".new", "a/b", "", "-x" * 40):
        assert zone_host.run("snapshot", "create", zone, "--", name).status == 125
    zone_host.run("snapshot", "create", "none").fails(125, "none")
    for verb in (("restore",), ("restore", "--stop"), ("rm",)):
        zone_host.run("snapshot", *verb, zone, "none").fails(125, "none")
        zone_host.run("snapshot", *verb, zone, "../s").fails(125, "not valid")
    assert zone_host.status(zone) == "running"
    zone_host.run("snapshot", "restore", zone).fails(125, "snapshot")
    zone_host.run("snapshot", "rm", zone).fails(125, "snapshot")
    zone_host.run("snapshot").fails(125, "needs a verb")
    # Its image stays as long as a snapshot needs it.
    zone_host.run("image", "rm", "busybox").fails(125, "used by zone")
    assert sorted(os.listdir(zone_folder(zone_host, zone) / "snapshots")) == ["s"]


def killed_at(zone_host, syscall, count, *arguments):
    """Runs zonectl until its `count`th call of this kind, which kills it; whether it got so far."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    done = zone_host.run(
        *arguments,
        wrap=(strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=KILL:when={count}"),
    )
    return done.status != 0


@pytest.mark.parametrize("syscall", ["renameat2", "openat2", "mkdirat", "unlinkat"])
def test_a_restore_that_is_killed_is_complete_or_not_at_all(zone_host, zone, syscall):
    stop(zone_host, zone)
    zone_host.run("snapshot", "create", zone, "good").ok()
    good = seen(zone_host, zone)
    kills = 0
    for count in (1, 2, 3, 4, 5, 7, 9, 12, 15, 18, 22):
        sh(zone_host, zone, "rm -rf /one /d; echo bad > /bad")
        stop(zone_host, zone)
        bad = seen(zone_host, zone)
        killed = killed_at(zone_host, syscall, count, "snapshot", "restore", zone, "good")
        kills += killed
        # Whoever touches it next finds one of the two, and nothing in between.
        zone_host.run("cp", "-q", f"{zone}:/etc/passwd", zone_host.path("passwd")).ok()
        assert seen(zone_host, zone) in ((good, bad) if killed else (good,))
        left = {entry for entry in os.listdir(zone_folder(zone_host, zone)) if entry.startswith(".restore")}
        assert left <= {".restore.new"}
        if not killed:
            break
    assert kills > 0
    zone_host.run("snapshot", "restore", zone, "good").ok()
    assert seen(zone_host, zone) == good
    assert not any(entry.startswith(".restore") for entry in os.listdir(zone_folder(zone_host, zone)))


def test_a_snapshot_that_is_killed_leaves_none(zone_host, zone):
    for count in (2, 6, 12):
        assert killed_at(zone_host, "openat2", count, "snapshot", "create", zone, "half")
        assert zone_host.run("snapshot", "ls", "-q", zone).ok().stdout == ""
        if zone_host.status(zone) == "paused":
            zone_host.run("resume", zone).ok()
        assert zone_host.status(zone) == "running"
    zone_host.run("snapshot", "create", zone, "whole").ok()
    assert sorted(os.listdir(zone_folder(zone_host, zone) / "snapshots")) == ["whole"]


def test_a_full_disk_loses_nothing(zone_host, busybox_layout):
    small = zone_host.directory("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", small], check=True)
    zone_host.defer(lambda: subprocess.run(["umount", "-l", small], check=True))
    zone_host.use_folders(zone_host.root, f"{small}/store")
    zone_host.import_image(busybox_layout, "busybox").exits(0)
    name = zone_host.detached("f")
    zone_host.run("exec", name, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=14 2>/dev/null; echo x > /x").ok()
    zone_host.run("snapshot", "create", name, "one").ok()
    zone_host.run("snapshot", "create", name, "two").fails(125, "No space left")
    zone_host.run("clone", name, zone_host.name("c")).fails(125, "No space left")
    assert zone_host.status(name) == "running" and zone_host.status(zone_host.name("c")) is None
    stop(zone_host, name)
    before = seen(zone_host, name)
    with pytest.raises(OSError), open(f"{small}/rest", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    zone_host.run("snapshot", "restore", name, "one").fails(125, "No space left")
    zone_host.run("snapshot", "create", name, "two").fails(125, "No space left")
    assert seen(zone_host, name) == before
    os.unlink(f"{small}/rest")
    # This file system shares no blocks: nothing is copied.
    zone_host.run("snapshot", "restore", name, "one").ok()
    assert seen(zone_host, name) == before
    assert sorted(os.listdir(zone_folder(zone_host, name) / "snapshots")) == ["one"]
    zone_host.run("rm", "-f", name).ok()


# Clones


@pytest.mark.parametrize("kind", [(), ("--full",), ("--linked",)], ids=["default", "full", "linked"])
@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_a_clone_is_the_same_and_its_own(zone_host, zone, kind, runs):
    if not runs:
        stop(zone_host, zone)
    new = zone_host.name("c")
    zone_host.defer(zone_host.remove, new)
    zone_host.run("clone", *kind, zone, new).ok(stdout=new + "\n")
    assert zone_host.status(zone) == ("running" if runs else "stopped") and zone_host.status(new) == "stopped"
    script = "cat /d/e/two; stat -c %u:%g:%a /one; test -e /bin/vi || echo gone; ls /root; tail -n 1 /etc/passwd"
    assert sh(zone_host, new, script) == "two\n5:6:4711\ngone\nnew\nx\n"
    sh(zone_host, new, "echo mine > /one; rm -r /d; echo only > /only")
    assert sh(zone_host, zone, "cat /one /d/e/two; ls /only 2>/dev/null; true") == "one\ntwo\n"
    sh(zone_host, zone, "echo theirs > /one; rm -r /root")
    assert sh(zone_host, new, "cat /one /only; ls /root") == "mine\nonly\nnew\n"
    stop(zone_host, new)
    if "--linked" in kind:
        assert "A /only" in zone_host.run("diff", new).ok().lines
        zone_host.run("rm", "-f", zone).fails(125, new, "linked clone")
        zone_host.run("snapshot", "rm", zone, f"clone-{new}").fails(125, new)
        assert zone_host.status(zone) == "running"
        stop(zone_host, zone)
        zone_host.run("rename", zone, zone_host.name("other")).fails(125, new)
        zone_host.run("rm", new).ok()
        zone_host.run("snapshot", "rm", zone, f"clone-{new}").ok()


def test_clones_of_snapshots_and_of_clones(zone_host, zone):
    zone_host.run("snapshot", "create", zone, "golden").ok()
    sh(zone_host, zone, "echo later > /one")
    names = [zone_host.name(suffix) for suffix in ("full", "a", "b", "c")]
    for name in names:
        zone_host.defer(zone_host.remove, name)
    full, a, b, c = names
    zone_host.run("clone", "--full", "--snapshot", "golden", zone, full).ok()
    zone_host.run("clone", "--linked", "--snapshot", "golden", zone, a).ok()
    zone_host.run("clone", "--linked", "--snapshot", "golden", zone, b).ok()
    for name in (full, a, b):
        assert sh(zone_host, name, "cat /one") == "one\n"
    sh(zone_host, a, "echo a > /a; rm -r /d")
    zone_host.run("clone", "--linked", a, c).ok()
    assert sh(zone_host, c, "cat /a /one; ls -d /d 2>/dev/null; true") == "a\none\n"
    # A linked clone that is restored, or changed by a definition, goes on to stand on its base.
    zone_host.run("snapshot", "restore", "--stop", a, f"clone-{c}").ok()
    assert sh(zone_host, a, "cat /a /one") == "a\none\n"
    definition = json.loads(zone_host.run("inspect", "--as-definition", b).ok().stdout)
    assert "base" not in definition
    definition["labels"] = {"x": "y"}
    zone_host.run("apply", "-f", zone_host.path("b.json", json.dumps(definition))).exits(0)
    assert sh(zone_host, b, "cat /one") == "one\n"
    # A full clone of a linked one stands on nothing, and is the same.
    sh(zone_host, c, "rm -r /root; mkdir /root; echo c > /root/c; rm /one; mkdir /one; echo file > /etc/new; rm /bin/ls")
    script = "ls -R /root /one /d 2>/dev/null; cat /a /etc/new; test -e /bin/ls || echo none; test -e /bin/vi || echo gone"
    expected = sh(zone_host, c, script.replace("ls -R", "busybox ls -R"))
    alone = zone_host.name("alone")
    zone_host.defer(zone_host.remove, alone)
    zone_host.run("clone", "--full", c, alone).ok()
    for name in (c, b, a, full, zone):
        zone_host.run("rm", "-f", name).ok()
    assert sh(zone_host, alone, script.replace("ls -R", "busybox ls -R")) == expected
    assert "none" in expected and "gone" in expected and "new" not in expected.split()


def test_bad_input_about_clones(zone_host, zone):
    new = zone_host.name("c")
    zone_host.run("clone", "none", new).fails(125, "none")
    zone_host.run("clone", zone, zone).fails(125, "taken")
    zone_host.run("clone", zone, "no/name").fails(125, "not valid")
    zone_host.run("clone", "--snapshot", "none", zone, new).fails(125, "none")
    zone_host.run("clone", "--full", "--linked", zone, new).fails(125, "contradict")
    zone_host.run("clone").fails(125, "a zone")
    assert zone_host.status(new) is None


def test_a_clone_that_is_killed_can_be_removed(zone_host, zone):
    new = zone_host.name("c")
    zone_host.defer(zone_host.remove, new)
    assert killed_at(zone_host, "openat2", 15, "clone", "--full", zone, new)
    if zone_host.status(zone) == "paused":
        zone_host.run("resume", zone).ok()
    if zone_host.status(new) is not None:
        zone_host.run("start", new).fails(125, "interrupted")
        zone_host.run("rm", "-f", new).ok()
    zone_host.run("clone", zone, new).ok()
    assert sh(zone_host, new, "cat /one") == "one\n"


def test_a_machine_s_clone_has_an_id_of_its_own(zone_host):
    first, second = zone_host.name("m"), zone_host.name("n")
    for name in (first, second):
        zone_host.defer(zone_host.remove, name)
    zone_host.run("create", "--name", first, "--systemd=always", "busybox", "/sbin/init").ok()
    zone_host.run("clone", first, second).ok()
    ids = [zone_host.inspect(name)["definition"]["machineID"] for name in (first, second)]
    assert ids[0] != ids[1]


def test_shared_blocks_make_snapshots_cheap(zone_host, busybox_layout):
    """On a file system with reflinks (btrfs here) a snapshot takes no room, whatever the zone has written."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("mkfs.btrfs is not installed (Debian package btrfs-progs)")
    image, folder = zone_host.path("disk"), zone_host.directory("btrfs")
    with open(image, "wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
        pytest.skip("this kernel mounts no btrfs, or has no loop devices")
    zone_host.defer(lambda: subprocess.run(["umount", "-l", folder], check=True))
    zone_host.use_folders(zone_host.root, f"{folder}/store")
    zone_host.import_image(busybox_layout, "busybox").exits(0)
    name = zone_host.detached("r")
    zone_host.run("exec", name, "sh", "-c", "head -c 60000000 /dev/urandom > /big").ok()
    os.sync()
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize
    for number in range(5):
        zone_host.run("snapshot", "create", name).ok()
    os.sync()
    assert free - os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize < 20 << 20
    zone_host.run("rm", "-f", name).ok()


# Images of zones


def test_a_committed_image_is_the_zone(zone_host, zone):
    image = f"{zone_host.prefix}-committed"
    zone_host.defer(lambda: zone_host.run("image", "rm", image))
    zone_host.run("exec", zone, "sh", "-c", "mknod /null c 1 3; touch -d @1000000000 /one").ok()
    made = zone_host.run("commit", "-m", "a note", "-a", "ann", zone, image).ok().stdout.split()
    assert made[0] == f"{image}:latest" and made[1].startswith("sha256:")
    assert zone_host.status(zone) == "running"
    script = (
        "cat /d/e/two; stat -c %u:%g:%a:%h:%Y /one; stat -c %F /null /fifo; readlink /link; test -e /bin/vi || echo gone;"
        "ls /root; tail -n 1 /etc/passwd"
    )
    expected = sh(zone_host, zone, script)
    assert "gone" in expected
    zone_host.run("run", "--rm", image, "sh", "-c", script).ok(stdout=expected)
    # What the image says besides is as before.
    blobs = pathlib.Path(zone_host.store) / "images/blobs/sha256"
    manifest = json.loads((blobs / made[1][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) and config["author"] == "ann"
    assert config["history"][-1]["comment"] == "a note" and config["config"]
    zone_host.run("image", "rm", image).ok()


def test_a_linked_clone_is_committed_with_what_it_stands_on(zone_host, zone):
    new, image = zone_host.name("c"), f"{zone_host.prefix}-linked"
    for action in (lambda: zone_host.remove(new), lambda: zone_host.run("image", "rm", image)):
        zone_host.defer(action)
    zone_host.run("clone", "--linked", zone, new).ok()
    sh(zone_host, new, "rm -r /d; echo mine > /mine")
    stop(zone_host, new)
    zone_host.run("commit", new, image).exits(0)
    zone_host.run("run", "--rm", image, "sh", "-c", "cat /one /mine; ls -d /d 2>/dev/null; true").ok(stdout="one\nmine\n")


def test_bad_input_about_commit(zone_host, zone):
    before = zone_host.run("image", "ls", "-q").ok().stdout
    zone_host.run("commit", "none", "x").fails(125, "none")
    zone_host.run("commit", zone).fails(125, "a zone")
    zone_host.run("commit", zone, "Not A Name").fails(125)
    zone_host.run("exec", zone, "touch", "/.wh.odd").ok()
    zone_host.run("commit", zone, f"{zone_host.prefix}-x").fails(125, ".wh.odd")
    assert zone_host.run("image", "ls", "-q").ok().stdout == before and zone_host.status(zone) == "running"
