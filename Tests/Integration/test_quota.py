# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`--storage`: a zone's own files kept within a size, by an image file here, by a project quota where there is one."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import layouts
import pytest
from leaks import alive, loops, until

MB = 1 << 20
FILL = "dd if=/dev/zero of=/big bs=1M 2>&1; rm -f /big.more; echo x > /big.more; sync"


def folder(host, name):
    return pathlib.Path(host.store) / "zones" / name


@pytest.fixture
def host(zone_host):
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("this machine has no loop devices (/dev/loop-control)")
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed (Debian package e2fsprogs)")
    return zone_host


def mine(host):
    """Loop devices of this test's files."""
    prefixes = [os.path.join(host.store, "zones", host.prefix), os.path.join(host.store, "volumes"), str(host.folder)]
    return [name for name, path in loops() if any(path.startswith(prefix) for prefix in prefixes)]


def definition(host, name):
    return host.inspect(name)["definition"]


def sizes(text):
    """Total and available kilobytes of `df -k`."""
    fields = text.splitlines()[-1].split()
    return int(fields[-5]), int(fields[-3])


def full(host, suffix="f", size="32M", *options):
    """A zone in the background whose storage is full."""
    name = host.detached(suffix, options=("--storage", size, "--stop-timeout", "1", *options))
    said = host.run("exec", name, "sh", "-c", FILL)
    assert "No space left on device" in said.stdout or "quota exceeded" in said.stdout.lower(), said
    return name


# An image file: this machine's file systems have no project quota


def test_a_zone_is_kept_within_its_storage_and_df_is_honest(host):
    other = host.detached("o", options=("--storage", "32M"))
    name = full(host)
    found = definition(host, name)
    assert found["storage"] == 32 * MB and found["storageKind"] == "image" and "storageProject" not in found
    total, _ = sizes(host.run("exec", name, "df", "-k", "/").ok().stdout)
    assert 24 * 1024 < total <= 32 * 1024
    written = int(host.run("exec", name, "stat", "-c", "%s", "/big").ok().stdout)
    assert 16 * MB < written < 32 * MB
    # What is removed is there again, for the zone and for the host.
    image = folder(host, name) / "storage.img"
    assert image.stat().st_blocks * 512 > 16 * MB and image.stat().st_size == 32 * MB
    host.run("exec", name, "sh", "-c", "rm /big; sync; echo again > /again; sync").ok()
    assert sizes(host.run("exec", name, "df", "-k", "/").ok().stdout)[1] > 16 * 1024
    assert until(lambda: image.stat().st_blocks * 512 < 8 * MB, seconds=8), image.stat()
    listed = {use["name"]: use for use in host.run("df", "--json").ok().json}
    assert listed[name]["type"] == "zone" and listed[name]["kind"] == "image" and listed[name]["size"] == 32 * MB
    assert listed[other]["used"] < MB < 20 * MB < listed[other]["available"] and len(mine(host)) == 2
    assert any(line.split()[:5] == ["zone", name, "image", "32", "MiB"] for line in host.run("df").ok().lines)
    # The other one has its own.
    host.run("exec", other, "sh", "-c", "dd if=/dev/zero of=/x bs=1M count=10 && sync").exits(0)


def test_a_sparse_file_takes_no_room_at_first(host):
    name = host.name("s")
    host.defer(host.remove, name)
    host.run("create", "--storage", "8G", "--name", name, host.image).ok()
    status = (folder(host, name) / "storage.img").stat()
    assert status.st_size == 8 << 30 and status.st_blocks * 512 < 12 * MB
    assert not (folder(host, name) / "upper").exists() and not mine(host)


def test_a_full_zone_still_does_what_zones_do(host):
    name = full(host)
    host.run("exec", name, "true").ok()
    target = host.path("copy")
    host.run("cp", f"{name}:/big", target).ok()
    assert os.path.getsize(target) > 16 * MB
    host.run("snapshot", "create", name, "s").ok()
    host.run("stop", "-t", "0", name).ok()
    host.run("cp", f"{name}:/etc/passwd", host.path("passwd")).ok()
    host.run("diff", name).ok().check(True, "")
    host.run("snapshot", "rm", name, "s").ok()
    host.run("start", name).ok()
    assert int(host.run("exec", name, "stat", "-c", "%s", "/big").ok().stdout) == os.path.getsize(target)
    host.run("rm", "-f", name).ok()
    assert until(lambda: not mine(host))


@pytest.mark.parametrize("victims", ["keeper", "zone", "both"])
def test_nothing_is_left_of_mount_and_device_whoever_is_killed(host, victims):
    name = host.detached("k", options=("--storage", "32M"))
    host.run("exec", name, "sh", "-c", "echo kept > /kept; sync").ok()
    assert len(mine(host)) == 1 and folder(host, name).name not in open("/proc/self/mountinfo").read()
    pids = {"keeper": [host.keeper(name)], "zone": [host.pid(name)]}
    for pid in pids.get(victims) or pids["keeper"] + pids["zone"]:
        os.kill(pid, signal.SIGKILL)
    if victims == "keeper":
        os.kill(pids["zone"][0], signal.SIGKILL)
    assert until(lambda: not alive(pids["zone"][0]) and not mine(host)), mine(host)
    until(lambda: host.status(name) == "stopped")
    host.run("start", name).ok()
    host.run("exec", name, "cat", "/kept").ok(stdout="kept\n")


def test_in_the_foreground_and_removed_with_its_end(host):
    said = host.zone("df -k / | tail -1; echo x > /x; dd if=/dev/zero of=/y bs=1M 2>&1 | grep -c space", "--storage", "32M").ok()
    assert sizes("\n".join(said.lines[:-1]))[0] <= 32 * 1024 and said.lines[-1] == "1"
    assert until(lambda: not mine(host))


def test_verbs_read_and_write_a_stopped_zones_files(host, own_store):
    # A commit leaves layers in the store.
    host = own_store
    name = host.detached("v", options=("--storage", "32M", "--stop-timeout", "1"))
    host.run("exec", name, "sh", "-c", "echo one > /one; rm /bin/vi; chown 5:6 /one; chmod 4711 /one; sync").ok()
    lines = host.run("diff", name).ok().lines
    assert "A /one" in lines and "D /bin/vi" in lines
    host.run("stop", "-t", "0", name).ok()
    assert host.run("diff", name).ok().lines == lines
    host.run("cp", host.path("two", "two\n"), f"{name}:/two").ok()
    assert host.run("cp", f"{name}:/two", "-").status == 0 and "A /two" in host.run("diff", name).ok().lines
    image = "committed"
    host.run("commit", name, image).exits(0)
    said = host.run("run", "--rm", image, "sh", "-c", "cat /one /two; stat -c %u:%g:%a /one; ls /bin/vi || echo gone")
    assert said.stdout == "one\ntwo\n5:6:4711\ngone\n", said
    host.run("rename", name, host.name("w")).ok()
    host.defer(host.remove, host.name("w"))
    host.run("start", host.name("w")).ok()
    host.run("exec", host.name("w"), "cat", "/two").ok(stdout="two\n")


def test_snapshot_restore_clone_export_and_import_keep_files_and_size(host):
    name = host.detached("c", options=("--storage", "32M", "--stop-timeout", "1"))
    host.run("exec", name, "sh", "-c", "echo one > /one; mkdir /d; ln -s one /link; rm /bin/vi").ok()
    host.run("snapshot", "create", name, "good").ok()
    host.run("exec", name, "sh", "-c", "echo two > /one; rm -r /d; echo more > /more").ok()
    host.run("snapshot", "restore", "--stop", name, "good").ok()
    assert sorted(os.listdir(folder(host, name) / "snapshots")) == ["good"]
    left = [entry for entry in os.listdir(folder(host, name)) if entry.startswith(".") or entry == "upper"]
    assert not left, left
    check = "cat /link; ls -d /d; ls /bin/vi /more 2>/dev/null || echo gone; df -k / | tail -1"
    archive = host.path("zone.tar")
    host.run("export", "-o", archive, name).ok()
    made = {name: (), host.name("full"): ("clone", name), host.name("linked"): ("clone", "--linked", "--snapshot", "good", name),
            host.name("in"): ("import", archive)}
    for zone, verb in made.items():
        if verb:
            host.defer(host.remove, zone)
            host.run(*verb, zone).exits(0)
        host.run("start", zone).ok()
        said = host.run("exec", zone, "sh", "-c", check).ok()
        assert said.lines[:3] == ["one", "/d", "gone"] and sizes(said.stdout)[0] <= 32 * 1024, said
        found = definition(host, zone)
        assert found["storage"] == 32 * MB and found["storageKind"] == "image"
        host.run("exec", zone, "sh", "-c", "echo own > /own").ok()
    assert len(mine(host)) == len(made)
    host.run("rm", "-f", host.name("linked")).ok()


def test_restart_updated_moves_a_zone_with_storage(own_store, import_rootfs):
    image = import_rootfs("base", layouts.entry("etc/version", "1\n"))
    name = own_store.detached("u", image=image, options=("--storage", "32M", "--stop-timeout", "1"))
    own_store.run("exec", name, "sh", "-c", "echo own > /own").ok()
    import_rootfs("base", layouts.entry("etc/version", "2\n"))
    own_store.run("restart", "--updated", name).exits(0)
    own_store.run("exec", name, "cat", "/etc/version", "/own").ok(stdout="2\n" + "own\n")


# Changes


def test_storage_grows_while_a_zone_is_stopped(host):
    name = full(host)
    before = host.run("exec", name, "sha256sum", "/big").ok().stdout

    capability = int(next(line for line in open("/proc/self/status") if line.startswith("CapEff")).split()[1], 16)
    if not capability >> 24 & 1:
        host.run("set", name, "--storage", "64M").fails(125, "running", "CAP_SYS_RESOURCE", "stop it first")
        assert definition(host, name)["storage"] == 32 * MB
        host.run("stop", "-t", "0", name).ok()
    host.run("set", name, "--storage", "64M", "--memory", "64M").ok()
    found = definition(host, name)
    assert found["storage"] == 64 * MB and found["resources"]["memory"]["limit"] == 64 * MB
    host.run("start", name).ok()
    assert host.run("exec", name, "sha256sum", "/big").ok().stdout == before
    assert sizes(host.run("exec", name, "df", "-k", "/").ok().stdout)[0] > 48 * 1024
    host.run("exec", name, "sh", "-c", "dd if=/dev/zero of=/more bs=1M count=20 && sync").exits(0)
    host.run("set", name, "--storage", "32M").fails(125, "shrink", "64 MiB")
    host.run("stop", "-t", "0", name).ok()
    host.run("set", name, "--storage", "32M").fails(125, "shrink")


def test_storage_comes_and_goes_while_a_zone_is_stopped(host):
    name = host.detached("g", options=("--stop-timeout", "1"))
    host.run("exec", name, "sh", "-c", "echo one > /one; rm /bin/vi; dd if=/dev/zero of=/big bs=1M count=20").exits(0)
    host.run("set", name, "--storage", "64M").fails(125, "running", "stop it first")
    host.run("stop", "-t", "0", name).ok()
    host.run("set", name, "--storage", "16M").fails(125, "need more than 16 MiB")
    assert "storage" not in definition(host, name) and (folder(host, name) / "upper/one").exists()
    for size in ("64M", "0"):
        host.run("set", name, "--storage", size).ok()
        assert ("storage" in definition(host, name)) == (size != "0")
        assert (folder(host, name) / "upper").exists() == (size == "0")
        assert (folder(host, name) / "storage.img").exists() == (size != "0")
        host.run("start", name).ok()
        host.run("exec", name, "sh", "-c", "cat /one; ls /bin/vi 2>/dev/null || echo gone").ok(stdout="one\ngone\n")
        host.run("stop", "-t", "0", name).ok()


@pytest.mark.parametrize("size", ["32M", "64M"])
def test_a_change_that_is_killed_leaves_the_zone_before_or_after(host, strace, size):
    """`size`: of a zone that has none, and of one that has 32M already."""
    options = ("--storage", "32M") if size == "64M" else ()
    name = host.name("x")
    host.defer(host.remove, name)
    host.run("create", "--name", name, *options, host.image, "sleep", "1000").ok()
    host.run("cp", host.path("one", "one\n"), f"{name}:/one").ok()
    seen = set()
    for number in range(1, 12):
        before = definition(host, name).get("storage", 0)
        killed = host.run(
            "set", name, "--storage", size, timeout=60,
            wrap=(strace, "-f", "-o", "/dev/null", "-e", "trace=renameat2", "-e", f"inject=renameat2:signal=SIGKILL:when={number}"),
        )
        host.run("cp", f"{name}:/one", host.path("back")).ok()
        assert pathlib.Path(host.path("back")).read_text() == "one\n"
        after = definition(host, name).get("storage", 0)
        assert after in (before, 32 * MB if size == "32M" else 64 * MB)
        seen.add(after != before)
        if killed.status == 0 or after != before:
            break
    assert seen == {False, True}, "it was never killed, or never done"
    host.run("start", name).ok()
    host.run("exec", name, "cat", "/one").ok(stdout="one\n")


def test_apply_gives_and_changes_storage(host):
    name = host.name("a")
    host.defer(host.remove, name)
    file = host.path("a.json", json.dumps({"name": name, "image": host.image, "command": ["sleep", "1000"], "storage": "32M"}))
    host.run("apply", "-f", file).exits(0)
    assert definition(host, name)["storage"] == 32 * MB
    host.run("apply", "-f", file).exits(0).check(True, "")
    host.run("start", name).ok()
    host.path("a.json", pathlib.Path(file).read_text().replace("32M", "64M"))
    host.run("apply", "-f", file).fails(125, "storage", "--restart", stdout=None)
    host.run("apply", "--restart", "-f", file).exits(0)
    assert sizes(host.run("exec", name, "df", "-k", "/").ok().stdout)[0] > 48 * 1024
    host.path("a.json", pathlib.Path(file).read_text().replace("64M", "many"))
    host.run("apply", "-f", file).fails(125, "storage", "many", stdout=None)


# Bad input


@pytest.mark.parametrize("size, words", [
    ("x", ["not a size", "2G"]), ("-5M", ["not a size"]), ("1M", ["less than 16 MiB"]), ("1", ["less than"]),
    ("1000000T", ["more than"]), ("", ["not a size"]),
])
def test_sizes_that_make_no_sense(host, size, words):
    for verb in (("run", "--rm"), ("create",), ("run", "-d")):
        host.run(*verb, f"--storage={size}", "--name", host.name("b"), host.image, "true").fails(125, "--storage", *words)
    assert host.status(host.name("b")) is None


def test_without_e2fsprogs_it_says_so(host):
    hidden = "mount -t tmpfs none /usr/sbin && mount -t tmpfs none /sbin 2>/dev/null; exec \"$@\""
    wrap = ("unshare", "-m", "--propagation", "private", "sh", "-c", hidden, "sh")
    host.run("create", "--storage", "32M", "--name", host.name("b"), host.image, wrap=wrap).fails(
        125, "mkfs.ext4 is not installed", "e2fsprogs")
    assert host.status(host.name("b")) is None


def test_without_loop_devices_it_says_so(host):
    wrap = ("unshare", "-m", "--propagation", "private", "sh", "-c", 'mount --bind /dev/null /dev/loop-control && exec "$@"', "sh")
    host.run("create", "--storage", "32M", "--name", host.name("b"), host.image, wrap=wrap).fails(125, "loop")
    assert host.status(host.name("b")) is None


def test_a_lost_image_file_is_one_clear_error(host):
    name = host.name("l")
    host.defer(host.remove, name)
    host.run("create", "--storage", "32M", "--name", name, host.image).ok()
    (folder(host, name) / "storage.img").unlink()
    for verb in (("start",), ("diff",)):
        host.run(*verb, name).fails(125, "storage.img", "no such file")
    assert host.run("df").status == 125
    host.run("rm", name).ok()


def test_a_zone_without_storage_has_none_of_it(host):
    name = host.detached("n")
    assert not [key for key in definition(host, name) if key.startswith("storage")]
    assert sorted(entry for entry in os.listdir(folder(host, name)) if entry.startswith("storage")) == [] and not mine(host)


# Project quota


def quota_disk(host, system):
    """A file system with project quota on a loop disk; skips where the kernel has none."""
    disk, point = host.path(f"{system}.disk"), host.directory(f"{system}.mount")
    make = {"ext4": ["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"], "xfs": ["mkfs.xfs", "-q", "-f"]}
    if not shutil.which(make[system][0]):
        pytest.skip(f"{make[system][0]} is not installed")
    with open(disk, "w") as file:
        file.truncate(400 * MB)
    subprocess.run([*make[system], disk], check=True)
    words = ["mount", "-o", "loop,prjquota", disk, point]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this kernel has no project quota on {system} (CONFIG_QFMT_V2, CONFIG_XFS_QUOTA): {mounted.stderr.strip()}")
    host.defer(subprocess.run, ["umount", point])
    return point


@pytest.mark.parametrize("system", ["ext4", "xfs"])
def test_project_quota(own_store, system):
    host = own_store
    point = quota_disk(host, system)
    store = os.path.join(point, "store")
    subprocess.run(["cp", "-a", host.store, store], check=True)
    host.use_folders(host.root, store)
    word = "No space left on device" if system == "xfs" else "quota exceeded"
    name = full(host, "p")
    found = definition(host, name)
    assert found["storageKind"] == "project" and found["storageProject"] >= 1 << 30
    total, available = sizes(host.run("exec", name, "df", "-k", "/").ok().stdout)
    assert total == 32 * 1024 and available < 1024
    assert word.lower() in host.run("exec", name, "dd", "if=/dev/zero", "of=/m", "bs=1M", "count=1").stderr.lower()
    host.run("set", name, "--storage", "64M").ok()
    host.run("exec", name, "sh", "-c", "rm /big; dd if=/dev/zero of=/big bs=1M count=40; sync").exits(0)
    host.run("set", name, "--storage", "32M").fails(125, "shrink")
    host.run("snapshot", "create", name, "s").ok()
    clone = host.name("q")
    host.defer(host.remove, clone)
    host.run("clone", name, clone).ok()
    assert definition(host, clone)["storageProject"] != found["storageProject"]
    host.run("snapshot", "restore", "--stop", name, "s").ok()
    assert definition(host, name)["storageProject"] not in (found["storageProject"], definition(host, clone)["storageProject"])
    for zone in (name, clone):
        host.run("start", zone).ok()
        said = host.run("exec", zone, "sh", "-c", "stat -c %s /big; mv /big /moved; ln -s a /b; mv /b /c; dd if=/dev/zero of=/big bs=1M")
        assert said.lines[0] == str(40 * MB) and word.lower() in said.stderr.lower(), said
        host.run("rm", "-f", zone).ok()


# Volumes


@pytest.fixture
def volumes(host):
    def clean():
        names = host.run("volume", "ls", "-q").ok().lines
        if names:
            host.run("volume", "rm", *names).ok()
        shutil.rmtree(pathlib.Path(host.store) / "volumes", ignore_errors=True)

    host.defer(clean)
    return host


def test_a_volume_is_kept_within_its_size(volumes):
    host = volumes
    host.run("volume", "create", "--size", "32M", "data").ok(stdout="data\n")
    host.run("volume", "create", "--size", "32M", "data").ok(stdout="data\n")
    host.run("volume", "create", "--size", "64M", "data").fails(125, "already", "32 MiB")
    found = host.run("volume", "inspect", "data").ok().json[0]
    assert found["storage"] == 32 * MB and found["storageKind"] == "image"
    one = host.detached("one", options=("-v", "data:/data"))
    two = host.detached("two", options=("-v", "data:/data:ro"))
    assert len(mine(host)) == 1
    host.run("exec", one, "sh", "-c", "echo one > /data/one").ok()
    assert [use["type"] for use in host.run("df", "--json").ok().json if use["name"] == "data"] == ["volume"]
    host.run("exec", two, "cat", "/data/one").ok(stdout="one\n")
    assert sizes(host.run("exec", two, "df", "-k", "/data").ok().stdout)[0] <= 32 * 1024
    said = host.run("exec", one, "sh", "-c", "dd if=/dev/zero of=/data/big bs=1M 2>&1; dd if=/dev/zero of=/own bs=1M count=40 2>&1 && echo free")
    assert "No space left" in said.stdout and said.lines[-1] == "free", said
    host.run("exec", one, "rm", "/data/big").ok()
    host.run("volume", "clone", "data", "copy").exits(0)
    archive = host.run("volume", "export", "data", timeout=60)
    assert archive.status == 0 and "one" in archive.stdout
    host.run("cp", f"{one}:/data/one", host.path("one")).ok()
    host.run("rm", "-f", one, two).ok()
    assert until(lambda: not mine(host))
    three = host.detached("three", options=("-v", "copy:/data", "--stop-timeout", "0"))
    host.run("exec", three, "cat", "/data/one").ok(stdout="one\n")
    assert sizes(host.run("exec", three, "df", "-k", "/data").ok().stdout)[0] <= 32 * 1024
    host.run("stop", three).ok()
    host.run("cp", host.path("two", "two\n"), f"{three}:/data/two").ok()
    host.run("start", three).ok()
    host.run("exec", three, "cat", "/data/two").ok(stdout="two\n")
    host.run("rm", "-f", three).ok()


def test_sizes_of_volumes_that_make_no_sense(volumes):
    for size, word in (("x", "not a size"), ("1M", "less than"), ("1000000T", "more than")):
        volumes.run("volume", "create", "--size", size, "bad").fails(125, "--size", word)
    assert volumes.run("volume", "ls", "-q").ok().stdout == ""
    volumes.run("volume", "create", "plain").ok()
    volumes.run("volume", "create", "--size", "32M", "plain").fails(125, "already", "without a size")
