# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Zones of an ordinary user: with the own id only, and with subordinate ids (subuid(5))."""

import os
import shutil
import subprocess
import uuid

import layouts
import pytest
from contents import seen
from fixture import ZoneHost
from leaks import until

USER = 54322
SUBORDINATE = 1_000_000


class UserHost(ZoneHost):
    """zonectl as the user calls it."""

    def command(self, *arguments):
        words = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")
        return (*words, *super().command(*arguments))


@pytest.fixture(params=["one-id", "subordinate"])
def ids(request):
    """How many ids the user has: the size of the second range."""
    if request.param == "one-id":
        yield 0
        return
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap is not installed (Debian package uidmap)")
    name = f"zt{uuid.uuid4().hex[:8]}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", "--uid", str(USER), name], check=True)
    last = SUBORDINATE + 65535
    for kind in ("--add-subuids", "--add-subgids"):
        # What useradd gave is put aside, so that the numbers are known.
        current = open(f"/etc/sub{kind[9:12]}").read()
        for line in current.splitlines():
            if line.startswith(name + ":"):
                first, count = map(int, line.split(":")[1:])
                subprocess.run(["usermod", kind.replace("add", "del"), f"{first}-{first + count - 1}", name], check=True)
        subprocess.run(["usermod", kind, f"{SUBORDINATE}-{last}", name], check=True)
    yield 65536
    subprocess.run(["userdel", name], check=True)


@pytest.fixture
def users(executable, test_folder, busybox_layout, ids):
    """zonectl of a user who owns a folder and nothing else."""
    host = UserHost(executable, test_folder, test_folder / "store")
    shutil.copytree(busybox_layout, test_folder / "layout", symlinks=True)
    for path in (test_folder, host.root, host.directory("store"), host.directory("volume")):
        os.chown(path, USER, USER)
    host.import_image(host.path("layout"), "busybox").exits(0)
    yield host
    left = host.close()
    # Files of the user's subordinate ids lie there too.
    shutil.rmtree(test_folder, ignore_errors=True)
    assert not left, "left behind (and now removed):\n  " + "\n  ".join(left)


def test_first_zone(users, ids):
    shown = users.zone("id -u; cat /proc/self/uid_map").ok().stdout.split()
    assert shown[:4] == ["0", "0", str(USER), "1"]
    assert shown[4:] == (["1", str(SUBORDINATE), str(ids)] if ids else [])


def test_life(users):
    name = users.start()
    assert users.listed()[name]["status"] == "running"
    assert os.stat(f"/proc/{users.pid(name)}").st_uid == USER
    assert users.run("exec", name, "sh", "-c", "id -u; exit 3").exits(3).stdout == "0\n"
    users.run("stop", "-t", "0", name).ok()
    users.run("rm", name).ok()
    assert users.listed() == {}


def test_removed_by_force(users):
    name = users.start()
    users.run("rm", "-f", name).ok()
    assert users.listed() == {}


def test_files(users, ids):
    """What the zone's root makes is the user's, on the host and in its own changes."""
    users.zone("echo text >/mnt/new; echo more >/new", "-v", users.path("volume") + ":/mnt").ok()
    status = os.stat(users.path("volume/new"))
    assert (status.st_uid, status.st_gid) == (USER, USER)
    changed = users.zone("touch /x; chown 5:6 /x /mnt/new && stat -c %u:%g /x", "-v", users.path("volume") + ":/mnt")
    if ids:
        assert changed.ok().stdout == "5:6\n"
        assert os.stat(users.path("volume/new")).st_uid == SUBORDINATE + 4
    else:
        assert "Invalid argument" in changed.stderr


def test_another_user_in_it(users, ids):
    if not ids:
        users.zone("true", "--user", "5").fails(125, "user")
        return
    name = users.start(options=("--user", "5:6"))
    status = os.stat(f"/proc/{users.pid(name)}")
    assert (status.st_uid, status.st_gid) == (SUBORDINATE + 4, SUBORDINATE + 5)


def test_whiteouts(users, busybox, test_folder):
    """Layers hide what is below them, by the attributes that a user may write."""
    below = layouts.rootfs(busybox, layouts.entry("a", "old"), layouts.folder("dir"), layouts.entry("dir/old", "old"))
    above = [layouts.entry(".wh.a"), layouts.entry("dir/.wh..wh..opq"), layouts.entry("dir/new", "new")]
    layout = layouts.Layout(test_folder / "layers").image("two", [layouts.archive(below), layouts.archive(above)])
    users.import_image(layout.path).exits(0)
    result = users.run("run", "--rm", "two", "sh", "-c", "ls / /dir")
    assert "new" in result.ok().stdout.split()
    assert not {"a", "old"} & set(result.stdout.split())


def test_limits_are_refused_by_name(users):
    users.zone("true", "--memory", "32M").fails(125, "memory", "delegated")
    users.zone("true", "--pids-limit", "10").fails(125, "pids", "delegated")


def test_terminal(users):
    terminal = users.terminal("run", "--rm", "-it", "busybox", "sh", "-c", "tty; stty size")
    terminal.expect("/dev/pts/0")
    terminal.expect("24 80")
    assert terminal.wait() == 0, terminal


def test_devices(users):
    shown = users.zone("echo x >/dev/null; head -c 3 /dev/zero | wc -c; mknod /sda b 8 0; ls /sda; mknod /dev/kmsg c 1 11")
    assert shown.stdout.split() == ["3"]
    assert shown.stderr.count("Operation not permitted") == 2


def test_no_rights_on_the_host(users, test_folder):
    """Root of the zone is the user: what the user may not, it may not."""
    secret = test_folder / "volume/secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    mount = users.path("volume") + ":/mnt"
    shown = users.zone("cat /mnt/secret; chown 0 /mnt/secret; chmod 666 /mnt/secret", "-v", mount)
    assert "secret" not in shown.stdout and shown.status != 0
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (0, 0o600)
    hidden = users.directory("hidden")
    os.chmod(hidden, 0o700)
    assert os.stat(hidden).st_uid == 0
    users.zone("true", "-v", f"{hidden}/x:/mnt").fails(125, "denied")


@pytest.mark.parametrize("network", ["none", "host"])
def test_networks(users, network):
    shown = users.zone("ls /sys/class/net; cat /proc/net/dev | wc -l; ls /sys/kernel >/dev/null", "--network", network)
    assert "lo" in shown.ok().stdout.split()


def test_files_of_ids_that_the_user_lacks(users, ids, busybox, test_folder):
    """An image with other users' files needs subordinate ids, and the error says so."""
    image = test_folder / "others"
    layer = layouts.archive(layouts.rootfs(busybox, layouts.entry("theirs", "x", uid=7, gid=7)))
    result = users.import_image(layouts.Layout(image).image("others", [layer]).path)
    if ids:
        result.exits(0)
        assert users.run("run", "--rm", "others", "stat", "-c", "%u:%g", "/theirs").ok().stdout == "7:7\n"
    else:
        result.fails(125, "subuid")


def test_roots_zones_are_out_of_reach(users, zone_host):
    name = zone_host.start()
    pid = zone_host.pid(name)
    other = UserHost(zone_host.executable, users.folder, zone_host.store)
    other.root = zone_host.root
    for words in (["ls"], ["exec", name, "true"], ["kill", name], ["rm", "-f", name], ["image", "rm", "busybox"]):
        result = other.run(*words)
        assert result.status != 0 or name not in result.stdout
    assert zone_host.pid(name) == pid
    assert until(lambda: zone_host.status(name) == "running")


def test_volumes(users, ids):
    """Owners in a volume are the same in each of the user's zones."""
    users.run("volume", "create", "v").ok(stdout="v\n")
    users.zone("echo x > /v/f; chown 5:6 /v/f" if ids else "echo x > /v/f", "-v", "v:/v").ok()
    users.zone("stat -c %u:%g /v/f", "-v", "v:/v").ok(stdout="5:6\n" if ids else "0:0\n")
    users.zone("ls /etc/passwd", "-v", "etc:/etc").ok(stdout="/etc/passwd\n")
    users.run("volume", "snapshot", "v").ok(stdout="v-snap1\n")
    archive = users.path("volume/v.tar")
    users.run("volume", "export", "-o", archive, "v-snap1").ok()
    users.run("volume", "import", archive, "again").ok(stdout="again\n")
    users.zone("cat /v/f; stat -c %u /v/f", "-v", "again:/v").ok(stdout=f"x\n{5 if ids else 0}\n")
    users.zone("true", "-v", "v:/v:idmap=uids=0-1-1;gids=0-1-1").fails(125, "id-mapped")
    users.run("volume", "rm", "v", "etc", "again", "v-snap1").ok()
    assert os.listdir(os.path.join(users.store, "volumes")) == []


def test_snapshots_of_stopped_zones(users):
    """An ordinary user's overlays have their marks in user.*, also when layers are frozen and folded."""
    name = users.name("s")
    users.defer(users.remove, name)
    users.run("run", "--name", name, "busybox", "sh", "-c", "mkdir -p /d; echo one > /d/one; rm -rf /x; echo x > /x; rm -f /bin/vi").ok()
    states = [seen(users, name)]
    users.run("snapshot", "create", name, "s0").ok()
    files = (("/y", "y"), ("/x", "other"))
    for number, (path, text) in enumerate(files, 1):
        users.run("cp", "-q", users.path("put", text), f"{name}:{path}").ok()
        states.append(seen(users, name))
        users.run("snapshot", "create", name, f"s{number}").ok()
    linked = users.name("c")
    users.defer(users.remove, linked)
    users.run("clone", "--linked", "--snapshot", "s1", name, linked).ok()
    users.run("start", linked).ok()
    users.run("wait", linked).ok(stdout="0\n")
    assert users.run("diff", linked).ok().lines == ["C /d", "C /d/one", "C /x"]
    users.run("rm", linked).ok()
    for number in (2, 0, 1):
        users.run("snapshot", "restore", name, f"s{number}").ok()
        assert seen(users, name) == states[number]
    users.run("snapshot", "rm", name, "s0", "s1", "s2").ok()
    assert seen(users, name) == states[1] and "D /bin/vi" in users.run("diff", name).ok().lines


def test_storage_is_refused_by_name(users):
    users.run("create", "--storage", "32M", "--name", users.name(), "busybox").fails(125, "--storage", "ordinary user")
    assert users.status(users.name()) is None
    users.run("volume", "create", "--size", "32M", "data").fails(125, "--size", "ordinary user")
    assert users.run("volume", "ls", "-q").ok().stdout == ""
