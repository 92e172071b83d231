# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images as files, by other names, and off the disk: save, load, tag, inspect, prune, verify, df."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import threading

import layouts
import pytest


def names(host):
    return host.run("image", "ls", "-q").ok().lines


@pytest.fixture
def host(plain_host, busybox_layout):
    """A host with busybox alone."""
    plain_host.import_image(busybox_layout, "busybox").exits(0)
    return plain_host


def docker_archive(busybox, tags, linked=False):
    """An archive as docker wrote it before version 25: layers wherever manifest.json says."""
    layers = [layouts.archive(layouts.rootfs(busybox)), layouts.archive([layouts.entry("note", "works\n")])]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {
        "architecture": machine,
        "os": "linux",
        "config": {"Cmd": ["cat", "/note"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
    }
    text = json.dumps(config).encode()
    name = hashlib.sha256(text).hexdigest() + ".json"
    folders = [hashlib.sha256(data).hexdigest() for data in layers]
    members = [layouts.entry(name, text, mode=0o644)]
    for folder, data in zip(folders, layers):
        members += [layouts.folder(folder), layouts.entry(f"{folder}/VERSION", "1.0", mode=0o644)]
        if linked:
            members += [layouts.entry(f"{folder}.tar", data), layouts.symlink(f"{folder}/layer.tar", f"../{folder}.tar")]
        else:
            members.append(layouts.entry(f"{folder}/layer.tar", data))
    entries = [{"Config": name, "RepoTags": tags, "Layers": [f"{folder}/layer.tar" for folder in folders]}]
    members += [layouts.entry("manifest.json", json.dumps(entries)), layouts.entry("repositories", "{}")]
    return layouts.archive(members)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_saved_images_are_loaded(host, test_folder, form):
    host.run("image", "tag", "busybox", "example.com/team/tool:v1").ok()
    file = test_folder / "saved.tar"
    host.run("image", "save", "--format", form, "-o", file, "busybox", "example.com/team/tool:v1").ok(stdout="")
    before = {image["name"]: image["digest"] for image in host.run("image", "ls", "--json").ok().json}
    host.use_folders(test_folder / "root2", test_folder / "store2")
    result = host.run("image", "load", "-i", file).ok()
    after = {image["name"]: image["digest"] for image in host.run("image", "ls", "--json").ok().json}
    result.check(before == after, "not the same names and digests")
    host.run("run", "--rm", "example.com/team/tool:v1", "echo", "works").ok(stdout="works\n")


def test_archives_in_pipes(host, test_folder):
    with open(test_folder / "saved.tar", "wb") as file:
        subprocess.run(host.command("image", "save", "busybox"), stdout=file, check=True, timeout=60)
    host.run("image", "rm", "busybox").ok()
    with open(test_folder / "saved.tar", "rb") as file:
        # A pipe, which cannot be read twice.
        feed = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        subprocess.run(host.command("image", "load"), stdin=feed.stdout, check=True, timeout=60, capture_output=True)
        feed.stdout.close()
        feed.wait()
    assert names(host) == ["busybox:latest"]
    assert os.listdir(pathlib.Path(host.store) / "pulls") == []


def test_others_read_our_archives(host, test_folder):
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed (Debian package skopeo)")
    file = test_folder / "saved.tar"
    host.run("image", "save", "-o", file, "busybox").ok()
    for form in ("docker-archive", "oci-archive"):
        copy = test_folder / form
        subprocess.run(
            ["skopeo", "copy", "-q", f"{form}:{file}:busybox:latest", f"oci:{copy}:busybox:latest"], check=True, timeout=60
        )
        host.import_image(copy, form).exits(0)
        host.run("run", "--rm", form, "echo", "works").ok(stdout="works\n")


@pytest.mark.parametrize("linked", [False, True], ids=["files", "links"])
@pytest.mark.parametrize("verb", ["load", "import"])
def test_archives_of_docker(plain_host, busybox, test_folder, linked, verb):
    file = test_folder / "docker.tar"
    file.write_bytes(docker_archive(busybox, ["team/tool:v1"], linked))
    words = ["load", "-i", file] if verb == "load" else ["import", file]
    plain_host.run("image", *words).exits(0)
    assert names(plain_host) == ["team/tool:v1"]
    plain_host.run("run", "--rm", "team/tool:v1").ok(stdout="works\n")
    plain_host.run("image", "verify").ok()


def test_archives_that_are_none(plain_host, busybox, test_folder):
    whole = docker_archive(busybox, ["team/tool:v1"])
    file = test_folder / "bad.tar"

    def refuse(data, *words):
        file.write_bytes(data)
        plain_host.run("image", "load", "-i", file).fails(125, str(file), *words)

    refuse(b"")
    refuse(whole[: len(whole) // 2])
    refuse(layouts.archive(layouts.rootfs(busybox)), "import")
    refuse(layouts.archive([layouts.entry("manifest.json", "[]")]), "manifest.json")
    refuse(layouts.archive([layouts.entry("manifest.json", '[{"Config":"a","Layers":["../../etc/passwd"]}]')]), "missing")
    # A layer that is another one than the configuration says.
    file.write_bytes(whole.replace(b"works\n", b"wrong\n"))
    plain_host.run("image", "load", "-i", file).fails(125, "unpacks to")
    plain_host.run("image", "load", "-i", test_folder / "missing").fails(125, "no such file")
    plain_host.run("image", "load", "-i", test_folder).fails(125, "regular file")
    assert names(plain_host) == []


def test_a_failed_save_leaves_no_file(host, test_folder):
    file = test_folder / "out" / "saved.tar"
    host.run("image", "save", "-o", file, "busybox").fails(125, "out")
    file.parent.mkdir()
    host.run("image", "save", "-o", file, "busybox", "no-such").fails(125, "no-such")
    host.run("image", "save", "--format", "zip", "busybox").fails(125, "zip")
    assert os.listdir(file.parent) == []
    host.run("image", "save", "-o", "/dev/full", "busybox").fails(125, "no space")


def test_inspect(host):
    host.run("image", "tag", "busybox", "other:v2").ok()
    (image,) = host.run("image", "inspect", "other:v2").ok().json
    assert image["name"] == "other:v2" and image["names"] == ["busybox:latest", "other:v2"], image
    assert image["layers"][0]["digest"].startswith("sha256:") and image["config"]["Cmd"] == ["sh"], image
    host.run("image", "inspect", "no-such").fails(125, "no-such", stdout="[]\n")
    host.run("image", "rm", "busybox").ok()
    host.run("run", "--rm", "other:v2", "true").ok()


def test_prune(host, busybox, test_folder):
    for text in ("old", "new"):
        file = test_folder / "rootfs.tar"
        file.write_bytes(layouts.archive(layouts.rootfs(busybox, layouts.entry("note", text))))
        host.import_image(file, "tool", ["cat", "/note"]).exits(0)
        if text == "old":
            zone = host.run("create", "--name", host.name(), "tool").ok().stdout.strip()
            host.defer(host.remove, zone)
    assert len(names(host)) == 3
    # The old one has no name any more, but a zone.
    host.run("image", "prune").ok()
    assert len(names(host)) == 3
    host.run("image", "prune", "--all").ok()
    left = names(host)
    assert len(left) == 1 and left[0].startswith("sha256:"), left
    host.run("start", zone).ok()
    host.run("wait", zone).exits(0)
    assert host.run("logs", zone).exits(0).stdout == "old\n"
    host.run("rm", zone).ok()
    result = host.run("image", "prune").ok()
    result.check(names(host) == [] and left[0] in result.lines, "it stays")
    assert os.listdir(pathlib.Path(host.store) / "layers") == []


def test_prune_beside_runs(host):
    """Either the image is gone and the run says so, or the zone runs whole; never half of one."""
    archive = host.path("busybox.tar")
    host.run("image", "save", "-o", archive, "busybox").ok()
    stop = threading.Event()
    pruned = []

    def prune():
        while not stop.is_set():
            host.run("image", "prune", "--all").ok()
            result = host.run("image", "load", "-i", archive).exits(0)
            pruned.append(result)

    thread = threading.Thread(target=prune)
    thread.start()
    good = 0
    try:
        for _ in range(25):
            result = host.run("run", "--rm", "--pull", "never", "busybox", "sh", "-c", "ls /bin/sh && echo whole")
            if result.status == 0:
                result.check(result.lines[-1] == "whole", "not whole")
                good += 1
            else:
                result.fails(125, "busybox", ("not in the store", "removed"))
    finally:
        stop.set()
        thread.join()
    assert pruned
    host.run("image", "verify").ok()


@pytest.mark.parametrize("damage", ["altered", "cut", "gone", "layer"])
def test_verify(host, damage):
    host.run("image", "verify").ok(stdout="1 image, 0 faults\n")
    (image,) = host.run("image", "inspect", "busybox").ok().json
    layer = image["layers"][0]
    blob = pathlib.Path(host.store) / "images/blobs/sha256" / layer["digest"][7:]
    if damage == "gone":
        blob.unlink()
    elif damage == "layer":
        shutil.rmtree(pathlib.Path(host.store) / "layers" / layer["diffID"][7:])
    else:
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + (bytes([data[-1] ^ 1]) if damage == "altered" else b""))
    result = host.run("image", "verify").exits(1)
    result.says("busybox:latest", layer["diffID"][7:] if damage == "layer" else layer["digest"])


def test_df(host):
    rows = {row["type"]: row for row in host.run("image", "df", "--json").ok().json}
    assert rows["images"]["total"] == 1 and rows["images"]["active"] == 0, rows
    assert rows["layers"]["bytes"] > rows["images"]["bytes"] > 0, rows
    assert rows["images"]["reclaimable"] == rows["images"]["bytes"], rows
    name = host.run("create", "--name", host.name(), "busybox").ok().stdout.strip()
    host.defer(host.remove, name)
    rows = {row["type"]: row for row in host.run("image", "df", "--json").ok().json}
    assert rows["images"]["active"] == 1 and rows["layers"]["reclaimable"] == 0, rows
    assert host.run("image", "df").ok().lines[0].split()[0] == "TYPE"
