# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Stores where overlayfs cannot work: zones whose root is a copy of their image, compared with zones that have an overlay."""

import os
import pathlib
import shutil
import subprocess

import layouts
import pytest
import test_updates
from contents import seen
from fixture import ZoneHost
from leaks import until

NOTICE = "overlayfs cannot work here"
CHANGE = (
    "echo one > /one; mkdir -p /d/e; echo two > /d/e/two; ln -s one /link; ln /one /hard; chown 5:6 /one; chmod 4711 /one;"
    "rm /bin/vi; rm -rf /root; mkdir /root; echo new > /root/new; mkfifo /fifo; echo x >> /etc/passwd;"
    "rm -rf /opt/all; mkdir /opt/all; echo own > /opt/all/own; rm -r /opt/tree; echo file > /opt/tree;"
    "rm /opt/file; mkdir -p /opt/file/inner; touch -r /opt/kept /tmp/t; echo b > /opt/kept; touch -r /tmp/t /opt/kept;"
    "rm /tmp/t; chmod 1711 /opt; mv /opt/moved /opt/elsewhere"
)


@pytest.fixture(params=["overlay", "fuse"])
def kind(request):
    return request.param


def image(folder, busybox):
    """Three layers with everything that one can say about those below it."""
    base = layouts.rootfs(busybox)
    base += [layouts.folder(f"opt/{name}") for name in ("all", "tree", "gone", "again", "hidden", "moved")]
    base += [layouts.entry(f"opt/{name}", "a", mode=0o644) for name in (
        "file", "first", "kept", "all/a", "all/b", "tree/a", "gone/a", "again/a", "hidden/a", "hidden/b", "moved/a", "removed")]
    base += [layouts.hardlink("opt/second", "opt/first"), layouts.symlink("bin/rm", "busybox")]
    base += [layouts.symlink(f"bin/{name}", "busybox") for name in ("vi", "ln", "mkfifo", "mv", "chown")]
    second = [layouts.entry("opt/.wh.gone", ""), layouts.entry("opt/.wh.again", ""), layouts.entry("opt/.wh.removed", ""),
              layouts.folder("opt/hidden"), layouts.entry("opt/hidden/.wh..wh..opq", ""),
              layouts.entry("opt/hidden/c", "c", mode=0o600)]
    third = [layouts.folder("opt/again"), layouts.entry("opt/again/new", "n", mode=0o644),
             layouts.entry("opt/removed", "back", mode=0o640)]
    made = layouts.Layout(folder)
    return made.image("base", [layouts.archive(part) for part in (base, second, third)], Cmd=["sleep", "1000"])


@pytest.fixture
def layout(test_folder, busybox):
    return image(test_folder / "layout", busybox)


def mount(kind, folder):
    """Mounts a file system that overlayfs takes no changes in, and returns its place with what undoes that."""
    place = folder / "mount"
    for name in ("mount", "lower", "upper", "work"):
        (folder / name).mkdir()
    if kind == "overlay":
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place], check=True, timeout=20)
    else:
        if not shutil.which("bindfs"):
            pytest.skip("bindfs is not installed (Debian package bindfs)")
        if not os.path.exists("/dev/fuse"):
            pytest.skip("this machine has no /dev/fuse")
        subprocess.run(["bindfs", "-o", "attr_timeout=0,entry_timeout=0", folder / "lower", place], check=True, timeout=20)

    def undo():
        def done():
            return subprocess.run(["umount", place], capture_output=True).returncode == 0
        assert until(done, seconds=5), "cannot be unmounted"

    return place, undo


@pytest.fixture
def host(kind, plain_host, layout, test_folder):
    """zonectl with a store on such a file system, with the image `base` in it."""
    plain_host.image = "base"
    place, undo = mount(kind, test_folder)
    plain_host.defer(undo)
    plain_host.use_folders(plain_host.root, place / "store")
    plain_host.import_image(layout.path, "base").exits(0)
    return plain_host


@pytest.fixture
def other(executable, host, layout, test_folder):
    """The same with a store where overlayfs works."""
    made = ZoneHost(executable, test_folder / "other", test_folder / "other-store", "base")
    made.import_image(layout.path, "base").exits(0)
    host.defer(lambda: host_is_clean(made))
    return made


def host_is_clean(made):
    left = made.close()
    assert not left, left


def zone(host, suffix="z", options=()):
    """A zone in the background; its first start says that it is a copy where it is one."""
    name = host.name(suffix)
    host.defer(host.remove, name)
    said = host.run("run", "-d", "--name", name, "--stop-timeout", "0", "--network", "none", *options, "base").exits(0)
    assert said.stdout == name + "\n"
    return name, said.stderr


def changed(host, suffix="z"):
    name, _ = zone(host, suffix)
    host.run("exec", name, "sh", "-ec", CHANGE).ok()
    return name


def folder(host, name):
    return pathlib.Path(host.store) / "zones" / name


def stop(host, name):
    host.run("stop", "-t", "0", name).ok()


def test_zones_run_and_keep_their_changes(host, kind):
    name, said = zone(host)
    assert said.count(NOTICE) == 1 and said.count("\n") == 1, said
    logs = host.run("logs", name).exits(0)
    assert NOTICE in logs.stdout + logs.stderr
    assert (folder(host, name) / "root/bin/busybox").exists() and not (folder(host, name) / "upper").exists()
    host.run("exec", name, "sh", "-c", "echo mine > /mine; rm /opt/kept").ok()
    # The image is nobody's to change, nor another zone's.
    second, _ = zone(host, "y")
    assert host.run("exec", second, "cat", "/opt/kept").ok().stdout == "a"
    stop(host, name)
    host.run("start", name).ok()
    assert host.run("exec", name, "sh", "-c", "cat /mine; ls /opt/kept 2>/dev/null; true").ok().stdout == "mine\n"
    assert host.inspect(name)["rootKind"] == "copy"
    removed = host.run("run", "--rm", "--read-only", "base", "sh", "-c", "echo x > /x; id -u")
    assert removed.exits(0).stdout == "0\n" and "Read-only" in removed.stderr and NOTICE in removed.stderr
    assert sorted(os.listdir(folder(host, name).parent)) == sorted([name, second])


def test_a_copy_is_what_an_overlay_shows(host, other):
    ours, theirs = zone(host)[0], zone(other)[0]
    assert other.inspect(theirs)["rootKind"] == "overlay"
    stop(host, ours)
    stop(other, theirs)
    assert of_image(seen(host, ours)) == of_image(seen(other, theirs))
    for made, name in ((host, ours), (other, theirs)):
        made.run("start", name).ok()
        made.run("exec", name, "sh", "-ec", CHANGE).ok()
    running = [made.run("diff", name).ok().lines for made, name in ((host, ours), (other, theirs))]
    assert running[0] == running[1] and "C /opt/kept" in running[0], set(running[0]) ^ set(running[1])
    stop(host, ours)
    stop(other, theirs)
    assert host.run("diff", ours).ok().lines == running[0]
    assert strip(seen(host, ours, times=False)) == strip(seen(other, theirs, times=False))


PLACES = ("./etc/hosts", "./etc/hostname", "./etc/resolv.conf")


def of_image(files):
    """Without what is made when the zone is."""
    return {name: entry for name, entry in files.items() if name not in (".", *PLACES)}


def strip(files):
    """Without times, and without the places of what is mounted in zones."""
    return {name: entry[:4] + entry[5:] for name, entry in files.items() if name not in PLACES}


def test_commit_export_and_import(host, other, test_folder):
    name = changed(host)
    host.run("snapshot", "create", name, "then").ok()
    host.run("exec", name, "sh", "-c", "echo later > /later").ok()
    host.run("commit", name, "made").ok()
    assert host.status(name) == "running" and not (folder(host, name) / ".changes").exists()
    archive = test_folder / "zone.tar"
    host.run("export", name, "-o", archive).exits(0)
    stop(host, name)
    whole = strip(seen(host, name))
    # An image made of it, here and where overlayfs works.
    host.run("image", "save", "-o", test_folder / "image.tar", "made").exits(0)
    other.run("image", "load", "-i", test_folder / "image.tar").exits(0)
    for made in (host, other):
        copy = made.name("c")
        made.defer(made.remove, copy)
        made.run("create", "--name", copy, "made").ok()
        assert strip(seen(made, copy)) == whole
    # The zone itself, back and forth.
    moved = other.name("m")
    other.defer(other.remove, moved)
    other.run("import", archive, moved).exits(0)
    assert strip(seen(other, moved)) == whole
    assert [item["name"] for item in other.run("snapshot", "ls", "--json", moved).ok().json] == ["then"]
    other.run("start", moved).ok()
    assert other.run("exec", moved, "cat", "/one", "/later").ok().stdout == "one\nlater\n"
    other.run("snapshot", "restore", "--stop", moved, "then").ok()
    other.run("start", moved).ok()
    other.run("exec", moved, "sh", "-c", "cat /hard; test ! -e /later && test ! -e /bin/vi").ok(stdout="one\n")
    again = test_folder / "again.tar"
    other.run("export", moved, "-o", again).exits(0)
    back = host.name("b")
    host.defer(host.remove, back)
    host.run("import", again, back).exits(0)
    assert NOTICE in host.run("start", back).exits(0).stderr
    host.run("exec", back, "sh", "-c", "cat /hard /opt/elsewhere/a; ls -d /opt/file/inner; test ! -e /bin/vi").ok(
        stdout="one\na/opt/file/inner\n")
    wanted = set(other.run("diff", moved).ok().lines)
    assert set(host.run("diff", back).ok().lines) == wanted


def test_snapshots_and_clones(host):
    name = changed(host)
    host.run("snapshot", "create", name, "one").ok()
    stop(host, name)
    first = seen(host, name)
    host.run("start", name).ok()
    host.run("exec", name, "sh", "-c", "echo later > /later; rm /one").ok()
    host.run("clone", "--linked", name, host.name("l")).fails(125, "copy of all its image's files")
    assert host.status(host.name("l")) is None
    clones = {}
    for suffix, words in (("f", ("--full", name)), ("n", (name,)), ("s", ("--snapshot", "one", name))):
        clones[suffix] = host.name(suffix)
        host.defer(host.remove, clones[suffix])
        host.run("clone", *words, clones[suffix]).ok()
    stop(host, name)
    second = seen(host, name)
    assert seen(host, clones["f"]) == seen(host, clones["n"]) == second
    assert strip(seen(host, clones["s"])) == strip(first)
    host.run("start", clones["f"]).ok()
    host.run("exec", clones["f"], "sh", "-c", "rm -r /opt").ok()
    assert seen(host, name) == second
    host.run("snapshot", "restore", name, "one").ok()
    assert strip(seen(host, name)) == strip(first)
    assert "A /one" in host.run("diff", name).ok().lines and "A /later" not in host.run("diff", name).ok().lines
    host.run("snapshot", "rm", name, "one").ok()
    host.run("start", name).ok()
    host.run("exec", name, "cat", "/one").ok(stdout="one\n")
    # Renamed and made again, it is the same zone still.
    new = host.name("r")
    host.defer(host.remove, new)
    stop(host, name)
    host.run("rename", name, new).ok()
    assert strip(seen(host, new)) == strip(first)


def test_patch_once(kind, plain_host, busybox, test_folder):
    place, undo = mount(kind, test_folder)
    plain_host.defer(undo)
    plain_host.use_folders(plain_host.root, place / "store")
    plain_host.image = "base"
    images = [test_updates.layout(test_folder / name, busybox, files)
              for name, files in (("old", test_updates.OLD), ("new", test_updates.NEW))]
    plain_host.import_image(images[0].path, "base").exits(0)
    one, _ = zone(plain_host, "one")
    two, _ = zone(plain_host, "two")
    test_updates.sh(plain_host, one, test_updates.OWN)
    stop(plain_host, two)
    plain_host.import_image(images[1].path, "base").exits(0)
    done = test_updates.restart(plain_host)
    # A directory that was removed and made again is one in which some files were removed: which was which shows only overlayfs.
    wanted = test_updates.KEPT[:-1] + [("/usr/more/a", "deleted", "changed")]
    assert test_updates.kept(done[one]) == wanted and done[two]["kept"] == []
    assert plain_host.status(one) == "running" and plain_host.status(two) == "stopped"
    script = "cd /etc; cat app.conf other.conf fresh.conf gone.conf same.conf /only; ls /usr /usr/more"
    assert test_updates.sh(plain_host, one, script) == (
        "mine\nnew\nmine\nmine\nmine\nmine\n/usr:\nmore\n\n/usr/more:\nb\n")
    plain_host.run("start", two).exits(0)
    assert test_updates.sh(plain_host, two, "cd /etc; cat app.conf fresh.conf; ls gone.conf 2>/dev/null; true") == (
        "new\nnew\n")
    plain_host.run("restart", "--updated").ok(stdout="all zones are up to date\n")


def test_cp_and_volumes(host, kind, test_folder):
    name = host.name("n")
    host.defer(host.remove, name)
    host.run("create", "--name", name, "-v", "data:/opt/all", "base").ok()
    said = host.run("cp", f"{name}:/opt/again/new", test_folder / "new")
    # To be read, overlays of layers alone do on the other one.
    assert said.status == 0 and (NOTICE in said.stderr) == (kind == "overlay"), said
    assert (test_folder / "new").read_text() == "n"
    said = host.run("cp", test_folder / "new", f"{name}:/opt/put")
    assert said.status == 0 and (NOTICE in said.stderr) == (kind == "fuse"), said
    host.run("start", name).ok()
    host.run("exec", name, "sh", "-c", "cat /opt/put; ls /opt/all; ls -a /opt/all/..").exits(0)
    assert sorted(os.listdir(pathlib.Path(host.store) / "volumes/data/data")) == ["a", "b"]
    hidden = host.name("h")
    host.defer(host.remove, hidden)
    host.run("run", "-d", "--name", hidden, "-v", "hid:/opt/hidden", "base").exits(0)
    assert sorted(os.listdir(pathlib.Path(host.store) / "volumes/hid/data")) == ["c"]
    host.run("rm", "-f", name, hidden).ok()
    host.run("volume", "rm", "data", "hid").ok()


@pytest.mark.parametrize("make", ["mknod /opt/gone-too c 0 0", "touch /opt/.wh.mine"])
def test_marks_that_a_zone_makes_itself_are_refused(host, kind, make):
    if kind == "overlay" and "mknod" in make:
        pytest.skip("the store's own overlay refuses that node")
    name, _ = zone(host, options=("--cap-add", "MKNOD"))
    before = host.run("diff", name).ok().lines
    host.run("exec", name, "sh", "-c", make).ok()
    path = make.split()[1]
    assert f"A {path}" in set(host.run("diff", name).ok().lines) - set(before)
    assert path in host.run("commit", name, "made").fails(125).stderr
    assert path in host.run("export", name, "-o", host.folder / "out").fails(125).stderr
    assert host.status(name) == "running" and not (folder(host, name) / ".changes").exists()


def test_names_as_long_as_they_can_be(host):
    name, _ = zone(host)
    long = "n" * 255
    host.run("exec", name, "sh", "-c", f"echo long > /opt/{long}").ok()
    assert f"A /opt/{long}" in host.run("diff", name).ok().lines
    host.run("commit", name, "made").ok()
    assert host.run("run", "--rm", "--network", "none", "made", "cat", f"/opt/{long}").exits(0).stdout == "long\n"


def test_a_right_that_zonectl_lacks_is_no_reason(plain_host, layout):
    plain_host.import_image(layout.path, "base", wrap=("setpriv", "--bounding-set=-sys_admin")).exits(125)
    assert not (plain_host.folder / "store/marks").exists()
    plain_host.import_image(layout.path, "base").exits(0)
    plain_host.run("run", "--rm", "--network", "none", "base", "true").ok()
    plain_host.run("image", "tag", "base", "other", wrap=("setpriv", "--bounding-set=-sys_admin")).exits(0)
    store = plain_host.folder / "store"
    assert not (store / "marks").exists() and (store / "skeleton").exists()


@pytest.mark.parametrize("kind", ["overlay"], indirect=True)
def test_kernels_that_take_few_layers_at_once(host, kind):
    if not shutil.which("setarch"):
        pytest.skip("setarch is not installed (Debian package util-linux)")
    # Before Linux 6.8 a child mounts what is too long for one option.
    said = host.run("run", "--rm", "--network", "none", "base", "cat", "/opt/again/new", wrap=("setarch", "--uname-2.6"))
    assert said.exits(0).stdout == "n" and NOTICE in said.stderr


@pytest.mark.parametrize("kind", ["overlay"], indirect=True)
def test_what_overlayfs_has_left_elsewhere_is_not_lost(plain_host, kind, layout):
    host = plain_host
    host.image = "base"
    host.import_image(layout.path, "base").exits(0)
    name, said = zone(host)
    assert said == ""
    stop(host, name)
    upper = folder(host, name) / "upper"
    (upper / "moved").mkdir()
    os.setxattr(upper / "moved", "trusted.overlay.redirect", b"/etc")
    # As if the store had been moved to where overlayfs does not work.
    (host.folder / "store/marks").write_text("names\n")
    shutil.rmtree(host.folder / "store/skeleton")
    assert "redirect_dir" in host.run("start", name).exits(125).stderr
    assert (upper / "moved").is_dir() and not (folder(host, name) / "root").exists()
    assert not (folder(host, name) / ".root.new").exists()


def test_what_cannot_be_a_layer_is_kept_by_snapshots(host):
    name, _ = zone(host)
    host.run("exec", name, "sh", "-c", "echo x > /opt/.wh.mine").ok()
    assert "A /opt/.wh.mine" in host.run("diff", name).ok().lines
    host.run("snapshot", "create", name, "s").ok()
    host.run("exec", name, "rm", "/opt/.wh.mine").ok()
    host.run("snapshot", "restore", "--stop", name, "s").ok()
    host.run("start", name).ok()
    host.run("exec", name, "cat", "/opt/.wh.mine").ok(stdout="x\n")


@pytest.mark.parametrize("kind", ["overlay"], indirect=True)
def test_killed_while_copying(host, strace):
    name = host.name("k")
    host.defer(host.remove, name)
    calls = ("mkdirat", "openat2", "fchownat", "renameat2", "linkat", "symlinkat", "utimensat", "syncfs")
    killed = 0
    for call in calls:
        for number in (1, 3, 7, 20, 60):
            host.run("create", "--name", name, "base").ok()
            wrap = (strace, "-f", "-qq", "-o", "/dev/null", f"--inject={call}:signal=SIGKILL:when={number}")
            done = host.run("cp", f"{name}:/opt/removed", "-", wrap=wrap)
            killed += done.status != 0
            host.run("start", name).exits(0)
            host.run("exec", name, "cat", "/opt/again/new", "/opt/removed").ok(stdout="nback")
            host.run("diff", name).ok(stdout="")
            left = os.listdir(folder(host, name))
            assert "root" in left and not [entry for entry in left if entry in (".root.new", ".probe", "upper")], left
            host.run("rm", "-f", name).ok()
    assert killed > len(calls)


@pytest.mark.parametrize("kind", ["overlay"], indirect=True)
def test_a_full_disk(kind, plain_host, layout, test_folder):
    disk = test_folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    plain_host.defer(lambda: subprocess.run(["umount", disk], check=True))
    place, undo = mount(kind, disk)
    plain_host.defer(undo)
    plain_host.use_folders(plain_host.root, place / "store")
    plain_host.image = "base"
    plain_host.import_image(layout.path, "base").exits(0)
    subprocess.run(["dd", "if=/dev/zero", f"of={place}/fill", "bs=1M"], capture_output=True)
    filled = os.stat(place / "fill").st_size
    os.truncate(place / "fill", filled - (1 << 20))
    name = plain_host.name("f")
    plain_host.defer(plain_host.remove, name)
    said = plain_host.run("run", "--name", name, "base", "true").exits(125)
    assert "copy the image's files" in said.stderr and "No space left" in said.stderr
    assert plain_host.status(name) is None
    os.unlink(place / "fill")
    plain_host.run("run", "--rm", "base", "true").exits(0)


@pytest.mark.parametrize("kind", ["overlay"], indirect=True)
def test_marks_are_names_where_overlayfs_marks_cannot_be(host, layout):
    store = pathlib.Path(host.store)
    assert (store / "marks").read_text() == "names\n" and not (store / "skeleton").exists()
    found = [entry for _, _, files in os.walk(store / "layers") for entry in files if entry.startswith(".wh.")]
    assert ".wh.gone" in found and ".wh..wh..opq" in found
    host.run("image", "verify").exits(0)
    host.run("image", "rm", "base").ok()
    assert os.listdir(store / "layers") == []


def test_doctor_says_what_that_means(host, kind):
    findings = {finding["check"]: finding for finding in host.run("doctor", "--json").json["findings"]}
    found = findings["storage.overlay"]
    if kind == "overlay":
        assert found["verdict"] == "warning" and "cop" in found["affects"], found
    else:
        assert found["verdict"] == "warning", found


def test_a_kernel_without_overlayfs(plain_host, layout, strace):
    """What fsopen(2) says where the kernel knows no overlayfs: once to the mount, once to the trial."""
    plain_host.import_image(layout.path, "base").exits(0)
    name = plain_host.name("k")
    plain_host.defer(plain_host.remove, name)
    # Without -f: the zone's own mounts are not touched.
    wrap = (strace, "-qq", "-o", "/dev/null", "--inject=fsopen:error=ENODEV:when=1..2")
    words = ("run", "--name", name, "--network", "none", "base", "sh", "-c", "cat /opt/again/new; echo x > /y")
    said = plain_host.run(*words, wrap=wrap).exits(0)
    assert said.stdout == "n" and said.stderr.count(NOTICE) == 1
    assert "A /y" in plain_host.run("diff", name).ok().lines and plain_host.inspect(name)["rootKind"] == "copy"
