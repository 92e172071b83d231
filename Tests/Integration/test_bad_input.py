# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Bad input: each has exactly one clear error and the right status, and leaves nothing (the fixture looks)."""

import json
import os
import pathlib
import subprocess

import pytest
from leaks import alive

RUN = ["run", "--rm"]


@pytest.mark.parametrize(
    "words, says",
    [
        (["frobnicate"], ["frobnicate", ("verb", "command")]),
        (["image", "frobnicate"], ["frobnicate"]),
        (["image"], ["image"]),
        (["--frobnicate", "ls"], ["--frobnicate"]),
        (["ls", "--frobnicate"], ["--frobnicate", "option"]),
        (["ls", "-z"], ["-z", "option"]),
        (["ls", "surplus"], ["surplus"]),
        (["--root"], ["--root"]),
        (["run"], ["image"]),
        (["run", "--rm"], ["image"]),
        (["exec"], ["name"]),
        (["inspect"], ["name"]),
        (["kill"], ["name"]),
        (["stop"], ["name"]),
        (["rm"], ["name"]),
        (["image", "import"], ["path"]),
        (["image", "rm"], ["name"]),
        (["help", "frobnicate"], ["frobnicate"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None,
)
def test_wrong_usage(zone_host, words, says):
    zone_host.run(*words).fails(125, *says)


def test_no_verb(zone_host):
    zone_host.run().fails(125, "verb", "zonectl help")


@pytest.mark.parametrize(
    "options, says",
    [
        (["--frobnicate"], ["--frobnicate", "option"]),
        (["-Z"], ["-Z", "option"]),
        (["--rm=maybe"], ["rm", "maybe"]),
        (["--cap-add", "FLY"], ["FLY", "capability"]),
        (["--cap-add", ""], ["capability"]),
        (["--cap-drop", "CAP_"], ["capability"]),
        (["--network", "moon"], ["moon", "network"]),
        (["--security-opt", "seccomp=/no/such/profile"], ["/no/such/profile", "no such file"]),
        (["--security-opt", "seccomp="], ["seccomp"]),
        (["--security-opt", "colour=red"], ["colour"]),
        (["--security-opt", "no-new-privileges=maybe"], ["no-new-privileges"]),
        (["-e", "=value"], ["--env"]),
        (["-e", ""], ["--env"]),
        (["--label", "=value"], ["label"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_option(zone_host, options, says):
    zone_host.zone("true", *options).fails(125, *says)


@pytest.mark.parametrize(
    "option",
    [
        "--name",
        "--hostname",
        "-e",
        "--env-file",
        "-w",
        "-u",
        "-v",
        "--mount",
        "--tmpfs",
        "--memory",
        "--cpus",
        "--cpuset-cpus",
        "--pids-limit",
        "--cap-add",
        "--security-opt",
        "--ulimit",
        "--sysctl",
        "--device",
        "--entrypoint",
        "--label",
        "--network",
    ],
)
def test_option_without_its_value(zone_host, option):
    zone_host.run(*RUN, option).fails(125, option)


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a/b", ".", "..", "", "-x", "_x", "x" * 64, "a b", "a\nb", "ü", "a:b"]
)
def test_bad_name(zone_host, name):
    zone_host.run(*RUN, f"--name={name}", "busybox", "true").fails(125, "name")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "x" * 200])
def test_bad_name_of_an_existing_zone(zone_host, name):
    for verb in (["inspect"], ["kill"], ["rm", "-f"], ["stop"]):
        zone_host.run(*verb, name).fails(125, stdout=None)


@pytest.mark.parametrize("image", ["no-such-image", "../busybox", "/", "", "busybox:no-such-tag", "sha256:" + "0" * 64])
def test_unknown_image(zone_host, image):
    zone_host.run(*RUN, image, "true").fails(125, "image")


def test_seccomp_profile_that_is_no_profile(zone_host):
    for text in (
        "",
        "{",
        "[]",
        '{"defaultAction":"SCMP_ACT_NOPE"}',
        '{"defaultAction":5}',
        "\x00\xff" * 50,
        "[" * 100000,
    ):
        path = zone_host.path("profile", text)
        zone_host.zone("true", "--security-opt", f"seccomp={path}").fails(125, path)


def blobs(host):
    return sorted((pathlib.Path(host.store) / "images" / "blobs" / "sha256").iterdir())


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "empty"])
def test_corrupt_manifest_or_config(own_store, damage):
    small = [path for path in blobs(own_store) if path.stat().st_size < 10000]
    assert len(small) >= 2, small
    for path in small:
        data = path.read_bytes()
        path.chmod(0o644)
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(
                {"flipped": data.replace(b"sha256", b"sha25x"), "cut": data[: len(data) // 2], "empty": b""}[damage]
            )
        result = own_store.zone("true").fails(125)
        result.says((path.name[:12], "busybox"))
        path.write_bytes(data)
    own_store.zone("true").ok()


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '{"schemaVersion":2}', '{"manifests":5}', '{"manifests":[{}]}', "[" * 100000]
)
def test_corrupt_image_index(own_store, text):
    (pathlib.Path(own_store.store) / "images" / "index.json").write_text(text)
    own_store.zone("true").fails(125)
    result = own_store.run("image", "ls")
    result.check(result.status == 0 or result.fails(125, "index.json"), "neither listed nor refused")


def state_files(host, name):
    """The JSON files that describe a zone."""
    found = []
    for top in (host.root, os.path.join(host.store, "zones")):
        for folder, _, files in os.walk(top):
            if name in os.path.relpath(folder, top).split(os.sep)[:1]:
                found += [os.path.join(folder, file) for file in files if file.endswith(".json")]
    return found


@pytest.mark.parametrize("text", ["", "{", "null", '{"pid":-1}', '{"pid":"x"}', "[" * 100000, "\x00"])
def test_corrupt_state(zone_host, text):
    good, bad = zone_host.start("good"), zone_host.start("bad")
    pid = zone_host.pid(bad)
    files = state_files(zone_host, bad)
    assert files, "the zone has no JSON file"
    for file in files:
        pathlib.Path(file).write_text(text)
    # One broken zone must not hide the others, and can be removed with everything it has.
    result = zone_host.run("ls")
    result.check(good in result.stdout, "the good zone is hidden")
    assert zone_host.inspect(bad).get("damage"), "inspect does not say what is broken"
    zone_host.run("exec", bad, "true").fails(125, bad)
    zone_host.run("rm", "-f", bad).exits(0)
    zone_host.run("run", "--rm", "--name", bad, "busybox", "true").ok()
    assert zone_host.status(good) == "running"
    assert not alive(pid), "the broken zone's process still runs"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--rm", "busybox", "true"],
        ["exec", "x", "true"],
        ["rm", "x"],
        ["kill", "x"],
        ["stop", "x"],
        ["image", "rm", "x"],
    ],
    ids=lambda words: words[0] + " " + words[1],
)
def test_ordinary_user_is_told_what_to_do(zone_host, words):
    zone_host.user(*words).fails(125, "root", "sudo")


def test_ordinary_user_gets_help_and_version(zone_host):
    zone_host.user("version").ok()
    zone_host.user("help").ok()
    zone_host.user("run", "--help").ok()


@pytest.fixture
def small_disk(own_store):
    """Mounts a tmpfs of this many KiB as the test's folder "disk" and returns its path."""

    def make(kibibytes):
        path = own_store.directory("disk")
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "zonectl-test", path], check=True, timeout=20
        )
        own_store.defer(lambda: subprocess.run(["umount", "-l", path], check=True, timeout=20))
        return path

    return make


def test_import_onto_a_full_disk(own_store, small_disk, busybox_layout):
    disk = small_disk(512)
    own_store.use_folders(own_store.root, f"{disk}/store")
    own_store.import_image(busybox_layout, "full").fails(125, "no space left")
    own_store.run("image", "ls", "-q").ok(stdout="")
    left = [path for path in pathlib.Path(disk).rglob("*") if path.is_file() and path.stat().st_size > 100]
    assert not left, f"parts of the image stay: {left}"


def test_run_on_a_full_disk(own_store, small_disk):
    disk = small_disk(16384)
    subprocess.run(["cp", "-a", own_store.store, f"{disk}/store"], check=True, timeout=30)
    own_store.use_folders(f"{disk}/root", f"{disk}/store")
    own_store.zone("true").ok()
    with open(f"{disk}/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    own_store.run("run", "--name", "full", "busybox", "true").fails(125, "no space left")
    os.unlink(f"{disk}/filler")
    own_store.run("ls", "-q").ok(stdout="")
    own_store.zone("true").ok()


LISTINGS = [["ls"], ["ls", "--json"], ["image", "ls"], ["version"], ["help"], ["run", "--help"]]


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_closed_stdout(zone_host, words):
    zone_host.run(*words, preexec=lambda: os.close(1)).fails(125, ("standard output", "stdout"))


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_stdout_to_a_full_device(zone_host, words):
    with open("/dev/full", "w") as full:
        zone_host.run(*words, stdout=full).fails(125, ("standard output", "stdout"), "no space left")


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_stdout_to_a_pipe_nobody_reads(zone_host, words):
    reader, writer = os.pipe()
    os.close(reader)
    zone_host.defer(os.close, writer)
    zone_host.run(*words, stdout=writer).fails(125, ("standard output", "stdout"), "broken pipe")


def test_run_with_a_pipe_nobody_reads(zone_host):
    reader, writer = os.pipe()
    os.close(reader)
    zone_host.defer(os.close, writer)
    # SIGPIPE is not ignored in a zone: the program ends as in any shell.
    zone_host.zone("(yes; echo status=$? >&2) | cat; true", stdout=writer).exits(0)
    zone_host.zone("yes | head -1; true").ok(stdout="y\n")


def test_all_streams_closed(zone_host):
    file = zone_host.directory("out")
    zone_host.zone("echo x > /out/done", "-v", f"{file}:/out", preexec=lambda: [os.close(n) for n in (0, 1, 2)]).exits(
        0
    )
    assert os.listdir(file) == ["done"]


@pytest.mark.parametrize(
    "call", ["clone3", "openat2", "fsopen", "move_mount", "open_tree", "mount_setattr", "pidfd_send_signal"]
)
def test_kernel_without_a_call(zone_host, strace, call):
    words = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=ENOSYS"]
    result = zone_host.run("run", "--rm", "busybox", "echo", "works", wrap=words)
    if result.status != 0:
        result.fails(125, ("kernel", "not implemented", "linux 5"))
    else:
        result.ok(stdout="works\n")


@pytest.mark.parametrize("folder", ["a-file", "/proc/none", "relative/../x"])
def test_odd_state_folders(zone_host, folder):
    zone_host.path("a-file", "text")
    path = zone_host.path(folder) if folder == "a-file" else folder
    command = [zone_host.executable, "--root", path, "--store", zone_host.store, "run", "--rm", "busybox", "true"]
    result = zone_host.execute(command, cwd=zone_host.folder)
    result.check(result.status == 0 or result.fails(125, path), "neither works nor is refused")


def test_very_long_input(zone_host):
    zone_host.zone("true", "-e", "A=" + "x" * 100000).ok()
    result = zone_host.run(*RUN, "busybox", "x" * 100000)
    result.fails(result.status if result.status in (126, 127) else 127, ("too long", "not found"))


def test_invalid_utf8_passes_through(zone_host):
    result = zone_host.run(*RUN, "busybox", "sh", "-c", 'printf %s "$0" | od -An -tx1', os.fsdecode(b"\xff\xfea"))
    if result.status != 0:
        result.fails(125, "utf-8")
    else:
        result.ok(stdout=" ff fe 61\n")


def test_json_stays_json_with_odd_values(zone_host):
    name = zone_host.start(options=["--label", 'quote="\\\n\t\x01', "-e", "X=ü\u2028"])
    zone = zone_host.inspect(name)
    assert "quote" in json.dumps(zone) and "X=ü\u2028" in zone["config"]["process"]["env"], zone
