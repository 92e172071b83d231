# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Mounts: every option, propagation, recursion, id maps, sources and destinations, and where they may not lead."""

import os
import socket
import subprocess

import pytest
from bundle import bind, namespaces, tmpfs
from engine import needs

NEWER = ("zonectl", "crun-1.21")


def _mountinfo(text, point):
    """Options of the mount, its optional fields and those of its file system, as the container shows them."""
    for line in reversed(text.splitlines()):
        fields = line.split(" ")
        if len(fields) > 6 and fields[4] == point:
            end = fields.index("-")
            return set(fields[5].split(",")), fields[6:end], set(fields[end + 3].split(",")), fields[end + 1]
    raise AssertionError(f"no mount at {point} in {text!r}")


def _shown(oci, mounts, point, settings=None, **keywords):
    return _mountinfo(oci.text("cat /proc/self/mountinfo", settings, mounts, **keywords), point)


# The option, and what the mount then has and has not.
OPTIONS = [
    ("ro", {"ro"}, {"rw"}),
    ("rw", {"rw"}, {"ro"}),
    ("nosuid", {"nosuid"}, set()),
    ("suid", set(), {"nosuid"}),
    ("nodev", {"nodev"}, set()),
    ("dev", set(), {"nodev"}),
    ("noexec", {"noexec"}, set()),
    ("exec", set(), {"noexec"}),
    ("noatime", {"noatime"}, {"relatime"}),
    ("relatime", {"relatime"}, {"noatime"}),
    ("strictatime", set(), {"relatime", "noatime"}),
    ("nodiratime", {"nodiratime"}, set()),
    ("diratime", set(), {"nodiratime"}),
    ("nosymfollow", {"nosymfollow"}, set()),
    ("symfollow", set(), {"nosymfollow"}),
    ("defaults", {"rw"}, {"ro"}),
]


@pytest.mark.parametrize("option, has, has_not", OPTIONS, ids=[o[0] for o in OPTIONS])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_option(oci, kind, option, has, has_not):
    mount = tmpfs("/mnt", option) if kind == "tmpfs" else bind(oci.source(f="text"), "/mnt", option)
    if option in ("nosymfollow", "symfollow") and oci.runtime.kind != "zonectl":
        pytest.skip("older runtimes do not know it")
    if option == "defaults" and oci.runtime.kind == "runc":
        pytest.skip("runc gives it to the kernel")
    options, *_ = _shown(oci, [mount], "/mnt")
    assert has <= options and not has_not & options


@pytest.mark.parametrize("option, expected", [("sync", "sync"), ("dirsync", "dirsync"), ("async", "")])
def test_option_of_the_file_system(oci, option, expected):
    # Of the super block, so not of a bind.
    _, _, options, _ = _shown(oci, [tmpfs("/mnt", option)], "/mnt")
    assert (expected in options) if expected else "sync" not in options


@needs("zonectl", "runc", why="the stricter option wins")
def test_later_option_wins(oci):
    options, *_ = _shown(oci, [tmpfs("/mnt", "ro", "nosuid", "rw", "suid")], "/mnt")
    assert "rw" in options and "nosuid" not in options


def test_several_options(oci):
    options, *_ = _shown(oci, [bind(oci.source(f="x"), "/mnt", "ro", "nosuid", "nodev", "noexec", "noatime")], "/mnt")
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= options


def test_read_only_bind_has_effect(oci):
    source = oci.source(f="text")
    result = oci.go("cat /mnt/f; echo new >/mnt/f", mounts=[bind(source, "/mnt", "ro")])
    assert result.status != 0 and result.stdout == "text"
    with open(f"{source}/f") as file:
        assert file.read() == "text"


def test_writable_bind_has_effect(oci):
    source = oci.source(f="text")
    oci.text("echo new >/mnt/f", mounts=[bind(source, "/mnt")])
    with open(f"{source}/f") as file:
        assert file.read() == "new\n"


def test_noexec_has_effect(oci):
    source = oci.source()
    path = oci.path("source/run", "#!/bin/sh\necho ran\n", mode=0o755)
    assert os.access(path, os.X_OK)
    assert oci.text("/mnt/run", mounts=[bind(source, "/mnt")]) == "ran"
    assert oci.go("/mnt/run", mounts=[bind(source, "/mnt", "noexec")]).status == 126


def test_bind_of_a_file(oci):
    file = oci.path("file", "text")
    assert oci.text("cat /etc/given; test -f /etc/given && echo file", mounts=[bind(file, "/etc/given")]) == "textfile"


def test_bind_over_a_file(oci):
    assert oci.text("cat /etc/passwd", mounts=[bind(oci.path("file", "other"), "/etc/passwd", "ro")]) == "other"


def test_bind_makes_missing_folders(oci):
    assert oci.text("cat /a/b/c/f", mounts=[bind(oci.source(f="text"), "/a/b/c")]) == "text"


def test_bind_of_a_device(oci):
    assert oci.text("echo x >/dev/mine && echo written", mounts=[bind("/dev/null", "/dev/mine")]) == "written"


def test_bind_of_a_socket(oci, short_folder):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short_folder}/s")
        assert oci.text("test -S /run/s && echo socket", mounts=[bind(f"{short_folder}/s", "/run/s")]) == "socket"


def test_source_is_relative_to_the_bundle(oci):
    bundle = oci.bundle("cat /mnt/f", mounts=[bind("given", "/mnt")])
    (bundle.path / "given").mkdir()
    (bundle.path / "given/f").write_text("text")
    assert oci.text(None, bundle=bundle) == "text"


def test_source_by_a_link(oci):
    os.symlink(oci.source(f="text"), oci.path("link"))
    assert oci.text("cat /mnt/f", mounts=[bind(oci.path("link"), "/mnt")]) == "text"


def test_mounts_are_made_in_order(oci):
    mounts = [tmpfs("/mnt"), bind(oci.source(f="text"), "/mnt/a"), tmpfs("/mnt/a/b", "size=64k")]
    source = oci.directory("source/b")
    assert os.path.isdir(source)
    assert oci.text("cat /mnt/a/f; ls /mnt", mounts=mounts).split() == ["texta"]


def test_later_mount_hides_an_earlier_one(oci):
    mounts = [bind(oci.source(f="text"), "/mnt"), tmpfs("/mnt")]
    assert oci.text("ls /mnt", mounts=mounts) == ""


@pytest.mark.parametrize("kind", ["bind", "none", "", None])
def test_type_of_a_bind_does_not_matter(oci, kind):
    """config.md: bind and rbind in the options make the bind; type is a dummy then."""
    mount = bind(oci.source(f="text"), "/mnt")
    mount["type"] = kind
    if kind is None:
        del mount["type"]
    assert oci.text("cat /mnt/f", mounts=[mount]) == "text"


# Recursion


@pytest.fixture
def tree(oci):
    """A folder with a mount below it, in a mount namespace that only the runtime is started in."""
    top = oci.source("tree", f="top")
    oci.directory("tree/sub")
    script = 'mount -t tmpfs tmpfs "$0/sub" && echo sub >"$0/sub/f" && exec "$@"'
    return top, ("unshare", "-m", "sh", "-c", script, top)


def test_bind_is_not_recursive(oci, tree):
    top, wrap = tree
    assert oci.text("ls /mnt/sub; cat /mnt/f", mounts=[bind(top, "/mnt")], wrap=wrap) == "top"


def test_rbind_is_recursive(oci, tree):
    top, wrap = tree
    mount = {**bind(top, "/mnt"), "options": ["rbind"]}
    assert oci.text("cat /mnt/sub/f", mounts=[mount], wrap=wrap) == "sub"


def test_ro_is_not_recursive(oci, tree):
    top, wrap = tree
    mount = {**bind(top, "/mnt"), "options": ["rbind", "ro"]}
    text = oci.text("cat /proc/self/mountinfo", mounts=[mount], wrap=wrap)
    assert "ro" in _mountinfo(text, "/mnt")[0]
    assert "rw" in _mountinfo(text, "/mnt/sub")[0]


RECURSIVE = [
    ("rro", "ro"),
    ("rnosuid", "nosuid"),
    ("rnodev", "nodev"),
    ("rnoexec", "noexec"),
    ("rnoatime", "noatime"),
    ("rnodiratime", "nodiratime"),
    ("rnosymfollow", "nosymfollow"),
    ("rrelatime", "relatime"),
]


@pytest.mark.parametrize("option, expected", RECURSIVE, ids=[r[0] for r in RECURSIVE])
def test_recursive_option(oci, tree, option, expected):
    if option == "rnosymfollow" and oci.runtime.kind != "zonectl":
        pytest.skip("older runtimes do not know it")
    if option in ("rnoatime", "rnodiratime") and oci.runtime.kind == "crun":
        pytest.skip("crun does not clear the other kinds of time, which the kernel wants")
    top, wrap = tree
    mount = {**bind(top, "/mnt"), "options": ["rbind", option]}
    text = oci.text("cat /proc/self/mountinfo", mounts=[mount], wrap=wrap)
    assert expected in _mountinfo(text, "/mnt")[0]
    assert expected in _mountinfo(text, "/mnt/sub")[0]


@pytest.mark.parametrize(
    "option, unexpected", [("rrw", "ro"), ("rsuid", "nosuid"), ("rexec", "noexec"), ("rdev", "nodev")]
)
def test_recursive_option_that_takes_away(oci, tree, option, unexpected):
    top, _ = tree
    script = 'mount -t tmpfs -o "$1" tmpfs "$0/sub" && shift && exec "$@"'
    wrap = ("unshare", "-m", "sh", "-c", script, top, unexpected)
    for options, expected in (["rbind"], True), (["rbind", option], False):
        mount = {**bind(top, "/mnt"), "options": options}
        text = oci.text("cat /proc/self/mountinfo", mounts=[mount], wrap=wrap)
        assert (unexpected in _mountinfo(text, "/mnt/sub")[0]) == expected


def test_rro_has_effect(oci, tree):
    top, wrap = tree
    mount = {**bind(top, "/mnt"), "options": ["rbind", "rro"]}
    result = oci.go("echo new >/mnt/sub/f", mounts=[mount], wrap=wrap)
    result.says("read-only file system").check(result.status != 0, "it is written")


# Propagation


@pytest.mark.parametrize(
    "option", ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"]
)
def test_propagation_of_a_mount(oci, option):
    top = oci.source("shared", f="text")
    # What is shared outside can be a slave inside.
    wrap = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount --make-shared "$0" && exec "$@"', top)
    if oci.runtime.kind == "crun":
        pytest.skip("the wrapper for crun makes everything private")
    mount = {**bind(top, "/mnt"), "options": ["rbind", option]}
    _, fields, _, _ = _shown(oci, [mount], "/mnt", wrap=wrap)
    kinds = {field.split(":")[0] for field in fields}
    expected = {"private": set(), "slave": {"master"}, "shared": {"shared"}, "unbindable": {"unbindable"}}
    wanted = next(value for key, value in expected.items() if option.endswith(key))
    assert wanted <= kinds and ("shared" in kinds) == (wanted == {"shared"})


@pytest.mark.parametrize("value", ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"])
def test_rootfs_propagation(oci, value):
    if oci.runtime.kind == "runc" and value.endswith(("shared", "unbindable")):
        pytest.skip("runc 1.1.5 does not, or fails")
    text = oci.text("cat /proc/self/mountinfo", {"linux.rootfsPropagation": value})
    _, fields, _, _ = _mountinfo(text, "/")
    kinds = {field.split(":")[0] for field in fields}
    if value.endswith("shared"):
        assert "shared" in kinds
    elif value == "unbindable":
        assert "unbindable" in kinds
    else:
        assert "shared" not in kinds


def test_mounts_in_the_zone_do_not_come_out(oci):
    """With the default propagation, and with one that is shared inside only."""
    settings = {"process.capabilities": {k: ["CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}}
    for value in ({}, {"linux.rootfsPropagation": "rprivate"}):
        oci.text("mount -t tmpfs tmpfs /tmp && grep -c ' /tmp ' /proc/self/mountinfo", {**settings, **value})
    # The leak check looks at the host's table.


# Id maps

_MAPS = {
    "uidMappings": [{"containerID": 0, "hostID": 5000, "size": 1000}],
    "gidMappings": [{"containerID": 0, "hostID": 6000, "size": 1000}],
}


def _idmapped(oci, option="idmap", maps=None, kind="bind", top=None):
    mount = {**bind(top or oci.source(f="text"), "/mnt"), "options": [kind, option]}
    mount.update(_MAPS if maps is None else maps)
    return mount


@needs(*NEWER, why="no id-mapped mounts by uidMappings")
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmap_mount(oci, option):
    # Of a file owned by 0 outside, the owner inside is what 0 is mapped to.
    result = oci.go("stat -c %u:%g /mnt/f", mounts=[_idmapped(oci, option, kind="rbind")])
    if oci.runtime.kind == "crun" and result.status != 0:
        pytest.skip("crun wants a user namespace for it")
    assert result.exits(0).stdout.strip() == "5000:6000"


@needs("zonectl", why="it writes otherwise")
def test_idmap_mount_is_mapped_in_both_ways(oci):
    source = oci.source(f="text")
    os.chown(source, 0, 0)
    settings = {"process.user": {"uid": 5000, "gid": 6000}}
    oci.text("echo x >/mnt/new", settings, [_idmapped(oci, top=source)])
    status = os.stat(f"{source}/new")
    assert (status.st_uid, status.st_gid) == (0, 0)


@needs("zonectl", why="no idmap without mappings of its own")
def test_idmap_without_maps_takes_those_of_the_container(oci):
    settings = {
        "linux.namespaces": namespaces("user", "pid", "network", "ipc", "uts", "mount"),
        "linux.uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "linux.gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    }

    def prepare(bundle):
        for folder, _, _ in os.walk(bundle.rootfs):
            os.chown(folder, 100000, 100000)

    shown = oci.text("stat -c %u:%g /mnt/f", settings, [_idmapped(oci, maps={})], prepare=prepare)
    assert shown == "0:0"


@needs("zonectl", why="idmap is not recursive there or unknown")
@pytest.mark.parametrize("option, expected", [("idmap", "0:0"), ("ridmap", "5000:6000")])
def test_ridmap_is_recursive(oci, tree, option, expected):
    top, wrap = tree
    mount = _idmapped(oci, option, kind="rbind", top=top)
    assert oci.text("stat -c %u:%g /mnt/sub/f", mounts=[mount], wrap=wrap) == expected


@needs("zonectl", why="it lets it pass or says little")
@pytest.mark.parametrize(
    "maps",
    [
        {"uidMappings": _MAPS["uidMappings"]},
        {"uidMappings": [], "gidMappings": []},
        {k: [{"containerID": 0, "hostID": 0, "size": 0}] for k in _MAPS},
    ],
)
def test_bad_idmap(oci, maps):
    name = oci.name()
    result = oci.create(oci.bundle(mounts=[_idmapped(oci, maps=maps)]), name)
    oci.refused(result, ("idmap", "Mappings"), name=name)


# tmpfs


def test_tmpfs_size(oci):
    assert oci.text("df -k /mnt | tail -1 | awk '{print $2}'", mounts=[tmpfs("/mnt", "size=1024k")]) == "1024"


@pytest.mark.parametrize("mode", ["0700", "1777", "755"])
def test_tmpfs_mode(oci, mode):
    assert int(oci.text("stat -c %a /mnt", mounts=[tmpfs("/mnt", f"mode={mode}")]), 8) == int(mode, 8)


def test_tmpfs_owner(oci):
    assert oci.text("stat -c %u:%g /mnt", mounts=[tmpfs("/mnt", "uid=5", "gid=7")]) == "5:7"


def test_tmpfs_takes_the_mode_of_what_it_hides(oci):
    def prepare(bundle):
        (bundle.rootfs / "mnt").mkdir(mode=0o750)

    result = oci.go("stat -c %a /mnt", mounts=[tmpfs("/mnt")], prepare=prepare).exits(0)
    # runc does so, which images rely upon; a mode of its own wins.
    if oci.runtime.kind == "crun":
        pytest.skip("crun keeps the kernel's 1777")
    assert result.stdout.strip() in ("750", "1777")


def test_tmpcopyup(oci):
    def prepare(bundle):
        bundle.file("/data/sub/f", "text", 0o640)
        os.chown(bundle.rootfs / "data/sub/f", 5, 7)
        os.symlink("sub/f", bundle.rootfs / "data/link")

    script = "cat /data/link; stat -c %a:%u:%g /data/sub/f; echo new >/data/sub/f; mount | grep -c ' /data '"
    shown = oci.text(script, mounts=[tmpfs("/data", "tmpcopyup")], prepare=prepare).split()
    assert shown == ["text640:5:7", "1"]


def test_tmpcopyup_changes_nothing_outside(oci):
    bundle = oci.bundle("echo new >/data/f; rm /data/g", mounts=[tmpfs("/data", "tmpcopyup")])
    bundle.file("/data/f", "old")
    bundle.file("/data/g", "old")
    oci.text(None, bundle=bundle)
    assert (bundle.rootfs / "data/f").read_text() == "old"
    assert (bundle.rootfs / "data/g").read_text() == "old"


@pytest.mark.parametrize("mount", ["proc", "sysfs", "devpts", "mqueue"])
def test_file_systems_of_the_kernel(oci, mount):
    point = {"proc": "/proc", "sysfs": "/sys", "devpts": "/dev/pts", "mqueue": "/dev/mqueue"}[mount]
    more = [{"destination": point, "type": mount, "source": mount, "options": ["nosuid", "noexec", "nodev"]}]
    options, _, _, kind = _shown(oci, more if mount == "mqueue" else [], point)
    assert kind == mount


# Destinations


@needs("zonectl", "crun", why="destinations must be absolute")
def test_relative_destination(oci):
    """config.md since 1.2: a relative destination is taken from /."""
    assert oci.text("cat /mnt/f", mounts=[bind(oci.source(f="text"), "mnt")]) == "text"


@pytest.mark.parametrize("destination", ["/../../mnt", "/tmp/../mnt", "//mnt/", "/mnt/./"])
def test_destination_is_cleaned(oci, destination):
    assert oci.text("cat /mnt/f", mounts=[bind(oci.source(f="text"), destination)]) == "text"


@pytest.mark.parametrize(
    "target", ["{outside}", "../../../../../../../..{outside}", "/proc/self/root{outside}", "/loop"]
)
def test_linked_destination_stays_inside(oci, target):
    """P3: the link is taken inside the root, or refused; the host's tree stays as it is."""
    outside = oci.directory("outside")
    bundle = oci.bundle("cat /link/f", mounts=[bind(oci.source(f="text"), "/link")])
    os.symlink(target.format(outside=outside), bundle.rootfs / "link")
    if target == "/loop":
        os.symlink("link", bundle.rootfs / "loop")
    name = oci.owned(oci.name())
    result = oci.run("run", "--bundle", bundle, name)
    assert os.listdir(outside) == []
    if result.status == 0:
        assert result.stdout == "text"


def test_linked_parent_stays_inside(oci):
    outside = oci.directory("outside")
    bundle = oci.bundle("cat /link/new/f", mounts=[bind(oci.source(f="text"), "/link/new")])
    os.symlink(outside, bundle.rootfs / "link")
    result = oci.run("run", "--bundle", bundle, oci.owned(oci.name()))
    assert os.listdir(outside) == []
    assert result.status != 0 or result.stdout == "text"


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_may_be_no_links(oci, name):
    """P2, CVE-2019-19921."""
    bundle = oci.bundle()
    (bundle.rootfs / name).rmdir()
    os.symlink("tmp", bundle.rootfs / name)
    own = oci.name()
    result = oci.create(bundle, own)
    if oci.runtime.kind == "crun":
        pytest.skip("crun 1.8.1 takes it inside the root")
    oci.refused(result, name, name=own)


def test_file_where_a_folder_must_be(oci):
    own = oci.name()
    bundle = oci.bundle(mounts=[tmpfs("/etc/passwd")])
    oci.refused(oci.create(bundle, own), "/etc/passwd", name=own)


def test_folder_over_a_file(oci):
    own = oci.name()
    bundle = oci.bundle(mounts=[bind(oci.source(f="x"), "/etc/passwd")])
    oci.refused(oci.create(bundle, own), "/etc/passwd", name=own)


def test_read_only_root_with_missing_mount_points(oci):
    """The points are made while the root can still be written."""
    assert oci.text("cat /new/place/f", {"root.readonly": True}, [bind(oci.source(f="text"), "/new/place")]) == "text"


def test_mounts_of_the_runtime_are_not_seen(oci):
    shown = oci.text("cat /proc/self/mountinfo")
    points = [line.split(" ")[4] for line in shown.splitlines()]
    assert sorted(points)[:1] == ["/"]
    assert points.count("/") == 1
    assert all(point == "/" or point.startswith(("/proc", "/dev", "/sys")) for point in points)


def test_cgroup_mount(oci):
    """Read-only, and the container's own (P4)."""
    mount = {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
    }
    script = """
    cat /proc/self/mountinfo
    for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks); do
        (echo 1 >$f) 2>/dev/null && echo WROTE $f
    done
    ls /sys/fs/cgroup
    """
    shown = oci.text(script, mounts=[mount])
    assert "WROTE" not in shown
    assert "pids" in shown
    for line in shown.splitlines():
        fields = line.split(" ")
        kinds = (" - tmpfs ", " - cgroup ", " - cgroup2 ") if oci.runtime.kind == "zonectl" else (" - cgroup",)
        if any(kind in line for kind in kinds) and fields[4].startswith("/sys/fs/cgroup"):
            assert "ro" in fields[5].split(",")


def test_host_mounts_stay(oci):
    def table():
        return subprocess.run(["cat", "/proc/self/mountinfo"], capture_output=True, text=True).stdout

    before = table()
    oci.go("true", mounts=[bind(oci.source(f="text"), "/mnt", "rprivate")]).exits(0)
    assert table() == before


def test_overlay_mount(oci):
    """A type with data of its own, as engines use for volumes."""
    for name in ("upper", "work"):
        oci.directory(name)
    lower = oci.source("lower", f="text")
    data = f"lowerdir={lower},upperdir={oci.path('upper')},workdir={oci.path('work')}"
    mount = {"destination": "/mnt", "type": "overlay", "source": "overlay", "options": [data]}
    assert oci.text("echo more >>/mnt/f; cat /mnt/f", mounts=[mount]) == "textmore"
    with open(f"{lower}/f") as file:
        assert file.read() == "text"


@pytest.mark.parametrize("kind", ["none", "folder", "file", "two"])
def test_nothing_of_the_host_stays_mounted(oci, kind):
    source = oci.source(hello="world")
    mounts = {
        "none": [],
        "folder": [bind(source, "/mnt")],
        "file": [bind(f"{source}/hello", "/mnt/hello")],
        "two": [bind(source, "/mnt"), bind(source, "/mnt2", "rbind")],
    }[kind]
    name = oci.started(mounts=mounts)
    with open(f"/proc/{oci.pid(name)}/mountinfo") as file:
        points = [line.split(" ")[4] for line in file]
    # Another one upon it is what `exec` would get for its root.
    assert points.count("/") == 1, f"mounts: {points}"
    assert set(point.split("/")[1] for point in points) <= {"", "dev", "mnt", "mnt2", "proc", "sys"}
    marked = oci.path(f"bundle-{name}/rootfs")
    seen = oci.run("exec", name, "/bin/busybox", "ls", "/").exits(0)
    assert set(seen.stdout.split()) == set(os.listdir(marked))
