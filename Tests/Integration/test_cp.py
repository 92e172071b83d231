# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`cp` between zones and the host: docker's rules for names, content and metadata, and zones that lie."""

import io
import os
import subprocess
import tarfile

import pytest


@pytest.fixture(params=["running", "stopped"])
def zone(request, zone_host):
    """A zone with some files, in both states in which it can be copied from and to."""
    script = (
        "mkdir -p /d/sub /empty; echo one > /d/one; echo two > /d/sub/two; ln -s one /d/link; ln -s /d /to-d;"
        "ln /d/one /d/hard; echo file > /f; chown 7:8 /f; chmod 4755 /f; mkfifo /d/fifo"
    )
    name = zone_host.detached("cp")
    zone_host.run("exec", name, "sh", "-c", script).ok()
    if request.param == "stopped":
        zone_host.run("stop", "-t", "0", name).ok()
    return name


def read(path):
    with open(path) as file:
        return file.read()


def look(zone_host, name, script):
    """What a script says in the zone, which is started for it if it does not run."""
    zone_host.run("start", name).ok()
    return zone_host.run("exec", name, "sh", "-c", script).ok().stdout


def test_files_come_out(zone_host, zone):
    out = zone_host.directory("out")
    zone_host.run("cp", f"{zone}:/f", out).ok(stdout="")
    zone_host.run("cp", f"{zone}:d/one", f"{out}/new").ok()
    zone_host.run("cp", f"{zone}:/d/one", f"{out}/f").ok()
    assert read(f"{out}/new") == "one\n" and read(f"{out}/f") == "one\n"
    # Another's set-id program is not to become the caller's.
    zone_host.run("cp", f"{zone}:/f", f"{out}/g").ok()
    status = os.stat(f"{out}/g")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o755)
    zone_host.run("cp", "-a", f"{zone}:/f", f"{out}/h").ok()
    status = os.stat(f"{out}/h")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (7, 8, 0o4755)


def test_directories_come_out(zone_host, zone):
    out = zone_host.directory("out")
    zone_host.run("cp", f"{zone}:/d", out).ok()
    assert sorted(os.listdir(f"{out}/d")) == ["fifo", "hard", "link", "one", "sub"]
    assert os.readlink(f"{out}/d/link") == "one" and read(f"{out}/d/sub/two") == "two\n"
    assert os.stat(f"{out}/d/one").st_ino == os.stat(f"{out}/d/hard").st_ino
    zone_host.run("cp", f"{zone}:/d", f"{out}/new").ok()
    zone_host.run("cp", f"{zone}:/d/.", f"{out}/other").ok()
    assert sorted(os.listdir(f"{out}/new")) == sorted(os.listdir(f"{out}/other")) == sorted(os.listdir(f"{out}/d"))
    zone_host.run("cp", f"{zone}:/d/.", out).ok()
    assert read(f"{out}/sub/two") == "two\n"
    # Again: what is there is replaced.
    zone_host.run("cp", f"{zone}:/d", out).ok()
    # A link is copied as it is, unless it is to be followed.
    zone_host.run("cp", f"{zone}:/to-d", f"{out}/as-link").ok()
    assert os.readlink(f"{out}/as-link") == "/d"
    zone_host.run("cp", "-L", f"{zone}:/to-d", f"{out}/followed").ok()
    assert read(f"{out}/followed/one") == "one\n"


def test_files_and_directories_go_in(zone_host, zone):
    source = zone_host.directory("in")
    zone_host.path("in/a", "a text", mode=0o640)
    zone_host.path("in/deep/er/b", "b text")
    os.chown(f"{source}/a", 5, 6)
    os.utime(f"{source}/a", (1_000_000_000, 1_000_000_000))
    zone_host.run("cp", f"{source}/a", f"{zone}:/empty").ok()
    zone_host.run("cp", f"{source}/a", f"{zone}:/empty/kept", "-a").ok()
    zone_host.run("cp", source, f"{zone}:/to-d").ok()
    zone_host.run("cp", f"{source}/.", f"{zone}:/brand-new").ok()
    zone_host.run("cp", f"{source}/a", f"{zone}:/d/link").ok()
    said = look(zone_host, zone, "cat /d/in/deep/er/b /brand-new/a /d/one; stat -c '%n %u:%g %a %Y' /empty/*")
    assert said == (
        "b texta texta text/empty/a 0:0 640 1000000000\n/empty/kept 5:6 640 1000000000\n"
    )


def test_docker_s_errors(zone_host, zone):
    source = zone_host.directory("in")
    file = zone_host.path("in/a", "text")
    zone_host.run("cp", f"{zone}:/none", source).fails(125, "/none", zone)
    zone_host.run("cp", f"{source}/none", f"{zone}:/").fails(125, "none")
    zone_host.run("cp", file, f"{zone}:/missing/").fails(125, "/missing/")
    zone_host.run("cp", file, f"{zone}:/missing/below").fails(125, "/missing")
    zone_host.run("cp", source, f"{zone}:/f").fails(125, "/f", "file")
    zone_host.run("cp", f"{zone}:/f/", source).fails(125, "/f/")
    zone_host.run("cp", f"{zone}:/f/.", source).fails(125, "/f/.")
    zone_host.run("cp", f"{zone}:/d", file).fails(125, file)
    os.mkdir(f"{source}/f")
    zone_host.run("cp", f"{source}/a", f"{zone}:/d/sub").ok()
    zone_host.run("cp", f"{zone}:/d/.", f"{zone}:/e").fails(125, "both are in zone")
    zone_host.run("cp", source, file).fails(125, "ZONE:PATH")
    zone_host.run("cp", "no-such:/x", source).fails(125, "no-such")
    zone_host.run("cp", file).fails(125, "source and a target")
    # A file does not replace a directory that has its name.
    zone_host.run("cp", f"{zone}:/f", source).fails(125, "directory")
    assert look(zone_host, zone, "cat /f") == "file\n"


def test_archives(zone_host, zone):
    result = subprocess.run(zone_host.command("cp", f"{zone}:/d", "-"), capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as tar:
        assert sorted(tar.getnames()) == ["d", "d/fifo", "d/hard", "d/link", "d/one", "d/sub", "d/sub/two"]
        assert tar.extractfile("d/sub/two").read() == b"two\n"
        assert {tar.getmember("d/one").type, tar.getmember("d/hard").type} == {tarfile.LNKTYPE, tarfile.REGTYPE}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, text in [("x/y/new", b"new"), ("./one", b"replaced"), ("to/z", b"z")]:
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mode = len(text), 9, 10, 0o604
            tar.addfile(info, io.BytesIO(text))
    done = subprocess.run(zone_host.command("cp", "-", f"{zone}:/d"), input=data.getvalue(), capture_output=True)
    assert done.returncode == 0, done.stderr
    said = look(zone_host, zone, "cat /d/x/y/new /d/one /d/to/z; stat -c %u:%g:%a /d/x/y/new")
    assert said == "newreplacedz9:10:604\n"
    for broken in (data.getvalue()[:-30], b"no archive at all" * 100, b""):
        done = subprocess.run(zone_host.command("cp", "-", f"{zone}:/d"), input=broken, capture_output=True, text=False)
        assert done.returncode == 125 and done.stderr.count(b"zonectl: ") == 1
    zone_host.run("cp", "-", f"{zone}:/none", stdin="x").fails(125, "/none")
    zone_host.run("cp", "-", f"{zone}:/f", stdin="x").fails(125, "directory")


def test_holes_attributes_and_odd_names(zone_host, zone):
    source = zone_host.directory("in")
    with open(f"{source}/sparse", "wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"middle")
    os.setxattr(f"{source}/sparse", "user.note", b"kept")
    odd = os.fsencode(source) + b"/\xff\n name"
    with open(odd, "wb") as file:
        file.write(b"odd")
    zone_host.run("cp", source, f"{zone}:/empty/s").ok()
    back = zone_host.directory("back")
    zone_host.run("cp", f"{zone}:/empty/s/.", back).ok()
    status = os.stat(f"{back}/sparse")
    assert status.st_size == 64 << 20 and status.st_blocks < 2000
    with open(f"{back}/sparse", "rb") as file:
        file.seek((32 << 20) - 3)
        assert file.read(12) == b"\0\0\0middle\0\0\0"
    assert os.getxattr(f"{back}/sparse", "user.note") == b"kept"
    assert b"\xff\n name" in os.listdir(os.fsencode(back))


def test_what_is_mounted_is_what_the_zone_sees(zone_host):
    volume = zone_host.directory("volume")
    zone_host.path("volume/inside", "v")
    file = zone_host.path("a", "text")
    name = zone_host.name("v")
    zone_host.defer(zone_host.remove, name)
    zone_host.run("create", "--name", name, "-v", f"{volume}:/data", "--tmpfs", "/scratch", "busybox", "sleep", "1000").ok()
    # Never started: the mount points are not there yet.
    zone_host.run("cp", file, f"{name}:/data/first").ok()
    assert read(f"{volume}/first") == "text"
    zone_host.run("start", name).ok()
    out = zone_host.directory("out")
    zone_host.run("cp", file, f"{name}:/scratch").ok()
    zone_host.run("cp", file, f"{name}:/etc/hosts").ok()
    zone_host.run("cp", f"{name}:/scratch/a", out).ok()
    assert zone_host.run("exec", name, "cat", "/etc/hosts").ok().stdout == "text"
    zone_host.run("stop", "-t", "0", name).ok()
    zone_host.run("cp", file, f"{name}:/data/second").ok()
    zone_host.run("cp", f"{name}:/data", f"{out}/data").ok()
    assert read(f"{volume}/second") == "text" and read(f"{out}/data/inside") == "v"
    # Not into itself without end.
    zone_host.run("cp", f"{name}:/data", f"{volume}/copy").ok()
    assert sorted(os.listdir(f"{volume}/copy")) == ["first", "inside", "second"]


def test_the_kernel_s_files_stay_there(zone_host):
    name = zone_host.detached("root")
    out = zone_host.directory("out")
    zone_host.run("cp", "-q", f"{name}:/", f"{out}/root").ok()
    assert os.path.exists(f"{out}/root/bin/busybox") and os.listdir(f"{out}/root/proc") == []
    zone_host.run("cp", f"{name}:/proc/1/cmdline", out).ok()
    assert read(f"{out}/cmdline").startswith("sleep")


def test_read_only_roots_stay_as_they_are(zone_host):
    file = zone_host.path("a", "text")
    name = zone_host.detached("ro", options=("--read-only",))
    zone_host.run("cp", file, f"{name}:/a").fails(125, "read-only")
    zone_host.run("stop", "-t", "0", name).ok()
    zone_host.run("cp", file, f"{name}:/a").fails(125, "read-only")


def test_links_of_a_zone_s_never_lead_out(zone_host):
    secret = zone_host.path("secret", "host")
    name = zone_host.detached("evil")
    folder = zone_host.directory("host")
    above = "../" * 20
    script = (
        f"mkdir -p /e; ln -s {secret} /e/abs; ln -s {above}{secret} /e/rel; ln -s {folder} /e/dir; ln -s /proc/1/root /e/magic"
    )
    zone_host.run("exec", name, "sh", "-c", script).ok()
    out = zone_host.directory("out")
    for link in ("abs", "rel"):
        zone_host.run("cp", "-L", f"{name}:/e/{link}", f"{out}/x").fails(125)
    zone_host.run("cp", f"{name}:/e/magic/etc/passwd", f"{out}/x").fails(125)
    zone_host.run("cp", secret, f"{name}:/e/dir/planted").fails(125)
    # A link that leads nowhere in the zone is not followed to the host.
    zone_host.run("exec", name, "ln", "-s", f"{folder}/planted", "/e/nowhere").ok()
    zone_host.run("cp", secret, f"{name}:/e/nowhere").fails(125)
    assert os.listdir(folder) == []
    # Links that were copied out are not followed when something is copied over them.
    zone_host.run("cp", f"{name}:/e", out).ok()
    zone_host.run("exec", name, "sh", "-c", "rm /e/dir; mkdir /e/dir; echo planted > /e/dir/planted").ok()
    zone_host.run("cp", f"{name}:/e", out).ok()
    assert os.listdir(folder) == [] and read(f"{out}/e/dir/planted") == "planted\n"


def test_a_zone_that_swaps_links_meanwhile(zone_host):
    """A directory becomes a link to the host's folder, back and forth, while files are copied through it."""
    name = zone_host.detached("swap")
    secret = zone_host.directory("secret")
    zone_host.path("secret/data", "host")
    # The same path in the zone: where a link is followed as the zone means it, this is found.
    script = (
        f"mkdir -p {secret} /real; echo zone > {secret}/data; echo zone > /real/data; ln -s {secret} /link; cp -r /real /spare;"
        " while :; do mv /spare /tmp/a; mv /link /spare 2>/dev/null; mv /tmp/a /link; mv /link /tmp/b; mv /spare /link; mv /tmp/b /spare; done"
    )
    process = zone_host.popen("exec", name, "sh", "-c", script)
    source = zone_host.path("planted", "planted")
    out = zone_host.directory("out")
    copied = 0
    for number in range(60):
        target = f"{out}/{number}"
        if zone_host.run("cp", f"{name}:/link/data", target).status == 0:
            copied += 1
            assert read(target) == "zone\n"
        zone_host.run("cp", "-q", source, f"{name}:/link/planted")
        assert os.listdir(secret) == ["data"] and read(f"{secret}/data") == "host"
    assert process.poll() is None and copied > 0


def test_a_device_in_a_file_s_place_is_not_opened(zone_host):
    """What is a device node is left out by itself, and told; nothing reads from it."""
    name = zone_host.detached("dev")
    zone_host.run("exec", name, "sh", "-c", "mkdir /n; mknod /n/zero c 1 5; echo x > /n/file").ok()
    out = zone_host.directory("out")
    result = zone_host.run("cp", f"{name}:/n", out).exits(0)
    assert "zero" in result.stderr and os.listdir(f"{out}/n") == ["file"]


def test_a_full_disk_is_one_error_and_replaces_nothing(zone_host):
    small = zone_host.directory("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    zone_host.defer(lambda: subprocess.run(["umount", "-l", small], check=True))
    name = zone_host.detached("big")
    zone_host.run("exec", name, "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3").exits(0)
    with open(f"{small}/big", "w") as file:
        file.write("old")
    result = zone_host.run("cp", f"{name}:/big", small).fails(125, "No space left")
    assert read(f"{small}/big") == "old" and os.listdir(small) == ["big"], result


def test_from_zone_to_zone(zone_host, zone):
    other = zone_host.detached("other")
    stopped = zone_host.name("stopped")
    zone_host.defer(zone_host.remove, stopped)
    zone_host.run("create", "--name", stopped, "busybox", "sleep", "1000").ok()
    for target in (other, stopped):
        zone_host.run("cp", f"{zone}:/d", f"{target}:/copy").ok(stdout="")
        zone_host.run("cp", f"{zone}:/f", f"{target}:/tmp/").ok()
        zone_host.run("cp", "-a", f"{zone}:/f", f"{target}:/kept").ok()
        said = look(zone_host, target, "ls /copy; cat /copy/hard; stat -c %u:%a /tmp/f /kept")
        assert said == "fifo\nhard\nlink\none\nsub\none\n0:755\n7:4755\n"
        # And the other way round.
        zone_host.run("stop", "-t", "0", target).ok()
        zone_host.run("cp", f"{target}:/copy/one", f"{zone}:/back").ok()
    assert look(zone_host, zone, "cat /back") == "one\n"
    zone_host.run("cp", f"{zone}:/f", f"{zone}:/g").fails(125, "both are in zone")
    zone_host.run("cp", f"{zone}:/none", f"{other}:/g").fails(125, "none")
    zone_host.run("cp", f"{zone}:/f", "none:/g").fails(125, "none")
