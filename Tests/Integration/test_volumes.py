# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Volumes: made, mounted, filled, shared, copied; interrupted, and with bad input."""

import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import time

import layouts
import pytest


@pytest.fixture
def host(zone_host):
    """A `ZoneHost` whose volumes are removed at the end, when its zones are."""
    zone_host.defer(check_and_clean, zone_host)
    return zone_host


def folder(host):
    return pathlib.Path(host.store) / "volumes"


def check_and_clean(host):
    """Nothing half-made may be left; what is listed goes."""
    names = host.run("volume", "ls", "-q").ok().lines
    left = [name for name in (os.listdir(folder(host)) if folder(host).exists() else []) if name not in names]
    if names:
        host.run("volume", "rm", *names).ok()
    shutil.rmtree(folder(host), ignore_errors=True)
    assert not left, left


def data(host, name):
    return folder(host) / name / "data"


def volumes(host):
    return {volume["name"]: volume for volume in host.run("volume", "ls", "--json").ok().json}


@pytest.fixture(scope="session")
def image(session_folder, session_store, executable, busybox_layout):
    """An image with a folder that a volume takes over: owners, modes, links, a set-id program."""
    busybox = layouts.find_busybox(busybox_layout)
    path = session_folder / "volume-image.tar"
    path.write_bytes(
        layouts.archive(layouts.rootfs(
            busybox,
            layouts.folder("srv", 0o755),
            layouts.entry("srv/data", kind=tarfile.DIRTYPE, mode=0o2750, uid=7, gid=8),
            layouts.entry("srv/data/file", b"from the image\n", mode=0o640, uid=7, gid=8),
            layouts.entry("srv/data/tool", b"#!/bin/sh\n", mode=0o4755, uid=9, gid=9),
            layouts.symlink("srv/data/link", "file"),
            layouts.hardlink("srv/data/second", "srv/data/file"),
            layouts.symlink("behind", "srv/data"),
            layouts.entry("srv/empty", kind=tarfile.DIRTYPE, mode=0o1777, uid=3, gid=4),
        ))
    )
    command = (executable, "--root", session_folder / "volume-root", "--store", session_store)
    subprocess.run((*command, "image", "import", "--name=volumes", path, "/bin/sh"), check=True, capture_output=True)
    yield "volumes"
    subprocess.run((*command, "image", "rm", "volumes"), check=True, capture_output=True)


# Made and removed


def test_create_list_inspect_remove(host):
    host.run("volume", "ls", "-q").ok(stdout="")
    host.run("volume", "create", "b", "--label", "team=web").ok(stdout="b\n")
    host.run("volume", "create", "b").ok(stdout="b\n")
    anonymous = host.run("volume", "create").ok().stdout.strip()
    assert len(anonymous) == 32
    found = host.run("volume", "inspect", "b").ok().json[0]
    assert found["labels"] == {"team": "web"} and found["mountpoint"] == str(data(host, "b")) and found["zones"] == []
    assert os.path.isdir(found["mountpoint"]) and "T" in found["created"]
    assert host.run("volume", "ls", "--json").ok().json[[*sorted(["b", anonymous])].index("b")] == found
    assert host.run("volume", "ls").ok().lines[0].split() == ["NAME", "CREATED", "ZONES", "SNAPSHOT", "OF"]
    host.run("volume", "prune").ok(stdout=anonymous + "\n")
    host.run("volume", "rm", "none", "b").exits(125).says("none", "volume ls")
    host.run("volume", "rm", "none").fails(125, "none")
    host.run("volume", "rm", "-f", "none").ok(stdout="none\n")
    assert volumes(host) == {}


def test_bad_input(host):
    for name in ("a/b", "..", ".new-1", "", "x" * 64):
        host.run("volume", "create", "--", name).fails(125, "volume name")
        host.run("volume", "rm", "--", name).fails(125, "volume name")
    for words in (("create", "a", "b"), ("rm",), ("inspect",), ("clone",), ("snapshot", "a", "b", "c"), ("export",),
                  ("import",), ("clone", "none"), ("snapshot", "none"), ("export", "none"), ()):
        host.run("volume", *words).fails(125)
    host.run("volume", "inspect", "none").exits(125).says("none")
    host.zone("true", "-v", "a/b:/v").fails(125, "a/b", "neither a path nor a name")
    host.zone("true", "-v", "a:/v:odd").fails(125, "odd")
    assert volumes(host) == {}


# Mounted


def test_a_volume_outlives_its_zones(host):
    host.zone("echo one > /data/f", "-v", "v:/data").ok()
    host.zone("cat /data/f; echo x > /data/f", "-v", "v:/data:ro").exits(1).says("read-only")
    assert host.zone("cat /else/f", "--mount", "type=volume,source=v,target=/else").ok().stdout == "one\n"
    assert (data(host, "v") / "f").read_text() == "one\n"
    # A set-id program there is the zone's and not the host's users'.
    assert os.stat(folder(host)).st_mode & 0o777 == 0o700


def test_two_zones_share_one(host):
    first = host.detached("a", options=("-v", "v:/data"))
    second = host.detached("b", options=("-v", "v:/mnt"))
    host.run("exec", first, "sh", "-c", "echo hello > /data/f").ok()
    host.run("exec", second, "cat", "/mnt/f").ok(stdout="hello\n")
    assert volumes(host)["v"]["zones"] == sorted([first, second])
    host.run("volume", "rm", "v").fails(125, first, second, "used by zones").says("zonectl rm")
    host.run("volume", "rm", "-f", "v").fails(125, first)
    host.run("volume", "prune", "--all").ok(stdout="")
    host.run("rm", "-f", first).ok()
    host.run("stop", "-t", "0", second).ok()
    host.run("volume", "rm", "v").fails(125, f"used by zone {second}")
    host.run("start", second).ok()
    host.run("exec", second, "cat", "/mnt/f").ok(stdout="hello\n")
    host.run("rm", "-f", second).ok()
    host.run("volume", "prune", "--all").ok(stdout="v\n")


def test_create_makes_it_and_definitions_name_it(host):
    name = host.name("c")
    host.defer(host.remove, name)
    host.run("create", "--name", name, "-v", "v:/data", "busybox", "sleep", "1000").ok()
    assert volumes(host)["v"]["zones"] == [name]
    path = host.path("def.json", host.run("inspect", "--as-definition", name).ok().stdout)
    host.run("apply", "-f", path).ok()
    host.run("rm", name).ok()
    host.run("volume", "rm", "v").ok()
    host.run("apply", "-f", path).ok()
    assert list(volumes(host)) == ["v"]
    host.run("cp", path, f"{name}:/data/def").ok()
    assert (data(host, "v") / "def").exists()
    host.run("rm", name).ok()
    text = '{"name": "%s", "image": "busybox", "mounts": ["v:/data:ro", "/own"]}' % name
    path = host.path("def.json", text)
    host.run("apply", "-f", path).ok()
    before = volumes(host)
    assert len(before) == 2
    host.run("apply", "-f", path).ok()
    assert volumes(host) == before
    host.run("rm", "-v", name).ok()
    assert list(volumes(host)) == ["v"]


def test_volumes_without_a_name(host):
    host.zone("echo x > /data/f; grep -c ' /data ' /proc/mounts", "-v", "/data").ok(stdout="1\n")
    assert volumes(host) == {}
    name = host.detached("a", options=("--rm", "-v", "/data", "-v", "named:/named"))
    (own,) = [volume for volume in volumes(host) if volume != "named"]
    assert volumes(host)[own]["anonymous"] and not volumes(host)["named"]["anonymous"]
    host.run("rm", "-f", name).ok()
    assert list(volumes(host)) == ["named"]
    name = host.detached("b", options=("-v", "/data"))
    host.run("exec", name, "touch", "/data/kept").ok()
    host.run("restart", "-t", "0", name).ok()
    host.run("exec", name, "ls", "/data").ok(stdout="kept\n")
    host.run("rm", "-f", name).ok()
    (own,) = [volume for volume in volumes(host) if volume != "named"]
    # A zone that names it keeps it.
    name = host.detached("c", options=("--rm", "-v", f"{own}:/data"))
    host.run("rm", "-f", name).ok()
    assert own in volumes(host)
    host.run("volume", "prune").ok(stdout=own + "\n")
    # Of a zone that could not start nothing is left.
    host.run("run", "-v", "/data", "busybox", "none").exits(127)
    assert list(volumes(host)) == ["named"]


# Filled


def test_the_first_zone_fills_it_from_the_image(host, image):
    host.run("volume", "create", "v").ok()
    script = "stat -c %u:%g:%a:%h . file tool; readlink link; cat second"
    want = "7:8:2750:2\n7:8:640:2\n9:9:4755:1\nfile\nfrom the image\n"
    host.run("run", "--rm", "-w", "/srv/data", "-v", "v:/srv/data", image, "sh", "-c", script).ok(stdout=want)
    # Once: what is gone stays gone.
    host.run("run", "--rm", "-v", "v:/srv/data", image, "sh", "-c", "busybox rm -r /srv/data/*; chmod 700 /srv/data").ok()
    host.run("run", "--rm", "-v", "v:/srv/data", image, "sh", "-c", "ls -A /srv/data; stat -c %a /srv/data").ok(stdout="700\n")
    # Through a link of the image's, of an empty folder, of none, and not at all.
    host.run("run", "--rm", "-v", "w:/behind", image, "cat", "/behind/file").ok(stdout="from the image\n")
    host.run("run", "--rm", "-v", "e:/srv/empty", image, "stat", "-c", "%u:%g:%a", "/srv/empty").ok(stdout="3:4:1777\n")
    host.run("run", "--rm", "-v", "n:/nothing", image, "ls", "-A", "/nothing").ok(stdout="")
    host.run("run", "--rm", "-v", "no:/srv/data:nocopy", image, "ls", "-A", "/srv/data").ok(stdout="")
    # What somebody has put there stays alone.
    host.run("volume", "create", "mine").ok()
    (data(host, "mine") / "mine").write_text("")
    host.run("run", "--rm", "-v", "mine:/srv/data", image, "ls", "-A", "/srv/data").ok(stdout="mine\n")
    # The image is as it was.
    host.run("run", "--rm", image, "ls", "/srv/data").ok(stdout="file\nlink\nsecond\ntool\n")


def killed_at(host, syscall, count, *arguments, **options):
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    inject = f"inject={syscall}:signal=KILL:when={count}"
    words = (strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syscall}", "-e", inject)
    return host.run(*arguments, wrap=words, **options).status != 0


@pytest.mark.parametrize("syscall", ["renameat2", "mkdirat", "openat2", "fchownat"])
def test_killed_while_it_is_filled(host, image, syscall):
    count = 1
    while True:
        name = host.name("k")
        was = killed_at(host, syscall, count, "create", "--name", name, "-v", "v:/srv/data", image)
        listed = host.run("volume", "ls", "-q").ok().lines
        assert listed in ([], ["v"])
        # The next zone gets all of it.
        host.run("run", "--rm", "-v", "v:/srv/data", image, "ls", "/srv/data").ok(stdout="file\nlink\nsecond\ntool\n")
        assert os.listdir(folder(host)) == ["v"] and sorted(os.listdir(folder(host) / "v")) == ["data", "volume.json"]
        host.run("rm", "-f", name)
        host.run("volume", "rm", "v").ok()
        if not was:
            break
        count += 3
    assert count > 1


@pytest.mark.parametrize("verb", ["create", "clone", "rm", "import"])
def test_killed_volumes_are_there_or_not(host, verb):
    host.run("volume", "create", "a").ok()
    (data(host, "a") / "f").write_text("x" * 5000)
    (data(host, "a") / "d").mkdir()
    archive = host.path("a.tar")
    host.run("volume", "export", "-o", archive, "a").ok()
    whole = layouts.tree_digest(data(host, "a"))
    words = {"create": ("create", "b"), "clone": ("clone", "a", "b"), "rm": ("rm", "b"), "import": ("import", archive, "b")}[verb]
    for syscall in ("renameat2", "mkdirat", "unlinkat", "flock"):
        count, was = 1, True
        while was:
            if verb == "rm":
                host.run("volume", "clone", "a", "b").exits(0)
            was = killed_at(host, syscall, count, "volume", *words)
            listed = host.run("volume", "ls", "-q").ok().lines
            assert listed in (["a"], ["a", "b"])
            if "b" in listed and verb != "create":
                assert layouts.tree_digest(data(host, "b")) == whole
            host.run("volume", "create", "a").ok()
            assert sorted(os.listdir(folder(host))) == listed
            host.run("volume", "rm", "-f", "b").ok()
            count += 1


def test_two_zones_at_once_fill_it_once(host, image):
    words = ("run", "--rm", "-v", "v:/srv/data", image, "sh", "-c", "ls /srv/data")
    running = [host.popen(*words) for _ in range(6)]
    for process in running:
        out, err = process.communicate(timeout=30)
        assert (out, err) == (b"file\nlink\nsecond\ntool\n", b"")


def test_removal_beside_zones_that_are_being_made(host):
    """Either a zone is seen and the volume stays, or the zone makes it anew."""
    for _ in range(8):
        host.run("volume", "create", "v").exits(0)
        run = host.popen("run", "--rm", "-v", "v:/data", "busybox", "true")
        done = host.run("volume", "rm", "v")
        out, err = run.communicate(timeout=30)
        assert run.returncode == 0, err
        assert done.status == 0 or "used by zone" in done.stderr
        assert not [name for name in os.listdir(folder(host)) if name.startswith(".")]


# Copies


def test_clone_and_snapshot(host, image):
    zone = host.detached("z", options=("-v", "v:/srv/data"), image=image)
    host.run("volume", "clone", "v", "w").ok(stdout="w\n")
    host.run("volume", "snapshot", "v").ok(stdout="v-snap1\n")
    host.run("volume", "snapshot", "v", "kept").ok(stdout="kept\n")
    assert host.status(zone) == "running"
    digest = layouts.tree_digest(data(host, "v"))
    for name in ("w", "v-snap1", "kept"):
        assert layouts.tree_digest(data(host, name)) == digest
    assert volumes(host)["kept"]["snapshotOf"] == "v" and "snapshotOf" not in volumes(host)["w"]
    host.run("exec", zone, "sh", "-c", "echo later > /srv/data/file").ok()
    assert layouts.tree_digest(data(host, "v")) != digest == layouts.tree_digest(data(host, "kept"))
    host.zone("true", "-v", "kept:/s").fails(125, "snapshot of v").says(":ro")
    host.zone("cat /s/file", "-v", "kept:/s:ro").ok(stdout="from the image\n")
    host.run("volume", "snapshot", "kept").fails(125, "snapshot of v")
    host.run("volume", "clone", "v", "w").fails(125, "\"w\" already")
    host.run("volume", "clone", "kept", "again").ok()
    host.zone("echo more >> /s/file; cat /s/file", "-v", "again:/s").ok(stdout="from the image\nmore\n")
    host.run("rm", "-f", zone).ok()
    assert set(host.run("volume", "prune", "--all").ok().lines) == {"v", "w", "again"}
    assert sorted(volumes(host)) == ["kept", "v-snap1"]


def test_a_copy_is_of_one_moment(host):
    script = "n=0; while :; do n=$((n+1)); echo $n > /v/a; echo $n > /v/b; done"
    host.detached("w", command=("sh", "-c", script), options=("-v", "v:/v"))
    other = host.detached("o", options=("-v", "v:/v:ro"))
    for number in range(1, 4):
        host.run("volume", "snapshot", "v").ok(stdout=f"v-snap{number}\n")
        a, b = ((data(host, f"v-snap{number}") / letter) for letter in "ab")
        a, b = (path.read_text() if path.exists() else "" for path in (a, b))
        assert a == "" or b == "" or 0 <= int(a) - int(b) <= 1
        time.sleep(0.05)
    assert host.status(other) == "running"


def test_export_and_import(host, image):
    host.run("run", "--rm", "-v", "v:/srv/data", image, "sh", "-c", "busybox mkfifo /srv/data/fifo; touch -d @99 /srv/data/file").ok()
    archive = host.path("v.tar")
    host.run("volume", "export", "-o", archive, "v").ok(stdout="")
    with tarfile.open(archive) as tar:
        assert "./file" in tar.getnames() and tar.getmember("./tool").mode == 0o4755
    assert host.run("volume", "import", archive).fails(125, "\"v\" already")
    host.run("volume", "import", archive, "w", "--label", "a=b").ok(stdout="w\n")
    assert layouts.tree_digest(data(host, "w")) == layouts.tree_digest(data(host, "v"))
    status = os.stat(data(host, "w"))
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (7, 8, 0o2750)
    subprocess.run(("gzip", archive), check=True)
    piped = subprocess.run(host.command("volume", "import", "-", "piped"), stdin=open(archive + ".gz", "rb"), capture_output=True)
    assert piped.returncode == 0, piped.stderr
    assert layouts.tree_digest(data(host, "piped")) == layouts.tree_digest(data(host, "v"))
    # A new volume that came from an archive is not filled.
    host.run("run", "--rm", "-v", "w:/srv/empty", image, "stat", "-c", "%u", "/srv/empty").ok(stdout="7\n")


def test_bad_archives(host):
    host.run("volume", "create", "v").ok()
    for index in range(20):
        (data(host, "v") / f"f{index}").write_text(str(index) * 3000)
    archive = pathlib.Path(host.path("v.tar"))
    host.run("volume", "export", "-o", archive, "v").ok()
    whole = archive.read_bytes()
    bad = pathlib.Path(host.path("bad.tar"))
    for size in (0, 100, 512, 5000, len(whole) // 2, len(whole) // 2 // 512 * 512, len(whole) - 10240 - 512):
        bad.write_bytes(whole[:size])
        host.run("volume", "import", bad, "w").fails(125, "volume import")
    bad.write_bytes(b"no archive at all" * 1000)
    host.run("volume", "import", bad, "w").fails(125, "volume import")
    for name in ("../evil", "a/../../evil", "/../evil"):
        bad.write_bytes(layouts.archive([layouts.entry(name, b"x")]))
        host.run("volume", "import", bad, "w").fails(125)
    evil = [layouts.symlink("out", "/"), layouts.entry("out/evil-volume", b"x")]
    bad.write_bytes(layouts.archive(evil))
    host.run("volume", "import", bad, "w")
    assert not os.path.exists("/evil-volume")
    host.run("volume", "rm", "-f", "w")
    host.run("volume", "import", host.path("none.tar")).fails(125, "none.tar")
    host.run("volume", "import", host.directory("d"), "w").fails(125, "directory")
    host.run("volume", "import", "-", stdin="").fails(125, "name")
    host.run("volume", "export", "-o", host.path("no/such/file"), "v").fails(125, "no/such")
    assert list(volumes(host)) == ["v"] and os.listdir(folder(host)) == ["v"]


# Owners


def test_id_mapped(host):
    path = pathlib.Path(host.directory("home"))
    (path / "file").write_text("")
    os.chown(path, 1000, 1000)
    os.chown(path / "file", 1000, 1000)
    script = "stat -c %u:%g /v/file; touch /v/new"
    host.zone(script, "-v", f"{path}:/v:idmap=uids=1000-0-1;gids=1000-0-1").ok(stdout="0:0\n")
    status = os.stat(path / "new")
    assert (status.st_uid, status.st_gid) == (1000, 1000)
    host.zone("touch /v/f; chown 7:7 /v/f", "-v", "v:/v").ok()
    said = host.zone("stat -c %u:%g /v/f", "--mount", "type=volume,src=v,dst=/v,idmap=uids=7-70-1;gids=7-80-1")
    said.ok(stdout="70:80\n")
    host.zone("true", "-v", f"{path}:/v:idmap=uids=1").fails(125, "idmap")


def test_volumes_of_an_image(own_store, busybox, test_folder):
    """Its VOLUME lines: each gets a volume without a name, unless something is mounted there."""
    host = own_store
    host.defer(check_and_clean, host)
    layer = layouts.archive(layouts.rootfs(busybox, layouts.folder("data", 0o750), layouts.entry("data/seed", "of the image")))

    def made(name, **wanted):
        layout = layouts.Layout(test_folder / name).image(name, [layer], Volumes={path: {} for path in wanted["paths"]})
        host.import_image(layout.path).exits(0)

    made("keeps", paths=["/data/", "/new/deep"])
    host.run("run", "--rm", "keeps", "sh", "-c", "cat /data/seed; grep -cE ' /(data|new/deep) ' /proc/mounts").ok(
        stdout="of the image2\n")
    assert volumes(host) == {}
    name = host.detached("a", image="keeps", options=("-v", "mine:/data", "--tmpfs", "/new/deep/tmp"))
    host.run("exec", name, "sh", "-c", "touch /data/here /new/deep/there; stat -f -c %T /new/deep/tmp").ok(stdout="tmpfs\n")
    (own,) = [volume for volume in volumes(host) if volume != "mine"]
    assert (data(host, "mine") / "here").exists() and (data(host, own) / "there").exists()
    # A definition without them is the same zone.
    document = host.run("inspect", "--as-definition", name).ok().json
    document = document[0] if isinstance(document, list) else document
    document["mounts"] = [mount for mount in document["mounts"] if "/new/deep" != (
        mount if isinstance(mount, str) else mount["destination"])]
    host.run("apply", "-f", host.path("same.json", json.dumps(document))).ok(stdout=f"{name}: unchanged\n")
    assert sorted(volumes(host)) == sorted([own, "mine"])
    host.run("rm", "-f", "-v", name).ok()
    assert list(volumes(host)) == ["mine"]
    made("odd", paths=["../etc"])
    host.run("run", "--rm", "odd", "true").fails(125, "odd", "../etc", "not an absolute path")
    made("proc", paths=["/proc/x"])
    host.run("create", "proc", "true").fails(125, "proc", "/proc/x")
