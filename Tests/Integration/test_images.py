# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images: import of layouts and root file systems, listing, removal, hostile archives."""

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import layouts
import pytest


def images(host):
    """The images of a store by name, without the tag that every name gets."""
    return {image["name"].removesuffix(":latest"): image for image in host.run("image", "ls", "--json").ok().json}


def zstd(data):
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed (Debian package zstd)")
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True, timeout=60).stdout


def test_layout(plain_host, busybox_layout):
    plain_host.import_image(busybox_layout).exits(0)
    assert any(name.split(":")[0] == "busybox" for name in images(plain_host)), images(plain_host)
    plain_host.zone("echo works").ok(stdout="works\n")


def test_layout_with_a_name(plain_host, busybox_layout):
    plain_host.import_image(busybox_layout, "mine").exits(0)
    assert list(images(plain_host)) == ["mine"]
    plain_host.run("run", "--rm", "mine", "echo", "works").ok(stdout="works\n")


def test_layout_in_an_archive(plain_host, busybox_layout, test_folder):
    path = test_folder / "layout.tar"
    subprocess.run(["tar", "-C", busybox_layout, "-cf", path, "."], check=True, timeout=60)
    plain_host.import_image(path, "packed").exits(0)
    plain_host.run("run", "--rm", "packed", "echo", "works").ok(stdout="works\n")


def test_import_twice_is_no_error(plain_host, busybox_layout):
    for _ in range(2):
        plain_host.import_image(busybox_layout, "mine").exits(0)
    assert list(images(plain_host)) == ["mine"]


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstd, bz2.compress, lzma.compress], ids=["plain", "gzip", "zstd", "bzip2", "xz"]
)
def test_rootfs_archive(plain_host, busybox, test_folder, pack):
    path = test_folder / "rootfs.tar"
    path.write_bytes(pack(layouts.archive(layouts.rootfs(busybox))))
    result = plain_host.import_image(path, "root", ["sh", "-c", "echo default"])
    if pack in (bz2.compress, lzma.compress) and result.status != 0:
        result.fails(125, ("compress", "format"))
        pytest.skip(f"this zonectl was built without that compression: {result.stderr.strip()}")
    result.exits(0)
    plain_host.run("run", "--rm", "root").ok(stdout="default\n")
    plain_host.run("run", "--rm", "root", "echo", "given").ok(stdout="given\n")


def test_rootfs_keeps_modes_owners_links(plain_host, busybox, test_folder):
    more = [
        layouts.entry("etc/shadow", "secret", mode=0o640, uid=0, gid=42),
        layouts.entry("bin/su2", "x", mode=0o4755),
        layouts.folder("var/deep/er", mode=0o1777),
        layouts.hardlink("etc/shadow2", "etc/shadow"),
        layouts.entry("usr/made/parents", "x"),
        layouts.entry("pipe", kind=tarfile.FIFOTYPE, mode=0o600),
    ]
    path = test_folder / "rootfs.tar"
    path.write_bytes(layouts.archive(layouts.rootfs(busybox, *more)))
    plain_host.import_image(path, "root").exits(0)
    plain_host.run("run", "--rm", "root", "stat", "-c", "%a %g %h", "/etc/shadow", "/etc/shadow2").ok(
        stdout="640 42 2\n640 42 2\n"
    )
    plain_host.run("run", "--rm", "root", "stat", "-c", "%a %F", "/bin/su2", "/var/deep/er", "/pipe").ok(
        stdout="4755 regular file\n1777 directory\n600 fifo\n"
    )
    plain_host.run("run", "--rm", "root", "readlink", "/bin/sh").ok(stdout="busybox\n")


def test_layers_with_whiteouts(plain_host, busybox, test_folder):
    lower = layouts.rootfs(
        busybox, layouts.entry("a", "1"), layouts.entry("dir/old", "1"), layouts.entry("gone/x", "1")
    )
    upper = [
        layouts.entry(".wh.a"),
        layouts.entry("dir/.wh..wh..opq"),
        layouts.entry("dir/new", "2"),
        layouts.entry(".wh.gone"),
    ]
    layout = layouts.Layout(test_folder / "layout")
    layout.image("two", [layouts.archive(lower), layouts.archive(upper)], compress=True, Cmd=["ls", "/", "/dir"])
    plain_host.import_image(layout.path).exits(0)
    result = plain_host.run("run", "--rm", "two").exits(0)
    words = result.stdout.split()
    result.check("new" in words and not {"a", "old", "gone", ".wh.a"} & set(words), "the whiteouts have no effect")


def test_the_root_is_the_images(plain_host, busybox, test_folder):
    root = layouts.entry("./", kind=tarfile.DIRTYPE, mode=0o1711, uid=5, gid=6)
    layout = layouts.Layout(test_folder / "layout")
    layout.image("own", [layouts.archive([root, *layouts.rootfs(busybox)]), layouts.archive([layouts.entry("x", "1")])])
    plain_host.import_image(layout.path).exits(0)
    plain_host.run("run", "--rm", "own", "stat", "-c", "%a %u %g", "/").ok(stdout="1711 5 6\n")
    # What the zone makes of it stays.
    name = plain_host.name()
    plain_host.defer(plain_host.remove, name)
    plain_host.run("run", "--name", name, "own", "sh", "-c", "chmod 755 /; chown 0:7 /").ok()
    plain_host.run("commit", name, "changed").ok()
    plain_host.run("run", "--rm", "changed", "stat", "-c", "%a %u %g", "/").ok(stdout="755 0 7\n")


def test_layer_order(plain_host, busybox, test_folder):
    stack = [layouts.archive(layouts.rootfs(busybox))] + [
        layouts.archive([layouts.entry("n", f"{n}\n")]) for n in range(12)
    ]
    layout = layouts.Layout(test_folder / "layout").image("many", stack)
    plain_host.import_image(layout.path).exits(0)
    plain_host.run("run", "--rm", "many", "cat", "/n").ok(stdout="11\n")


def test_image_ls(zone_host):
    result = zone_host.run("image", "ls").ok()
    result.check(
        result.lines[0].startswith("NAME") and result.lines[1].split()[0] == "busybox:latest", "not a table of images"
    )
    zone_host.run("image", "ls", "-q").ok(stdout="busybox:latest\n")
    image = images(zone_host)["busybox"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"]) and image["size"] > 100000, image


def test_image_ls_of_an_empty_store(plain_host):
    assert plain_host.run("image", "ls", "--json").ok().json == []
    plain_host.run("image", "ls", "-q").ok(stdout="")


def test_image_rm(own_store):
    own_store.run("image", "rm", "busybox").exits(0)
    assert images(own_store) == {}
    own_store.zone("true").fails(125, "busybox")
    left = [
        path
        for part in ("images/blobs", "layers")
        for path in (pathlib.Path(own_store.store) / part).rglob("*")
        if path.is_file()
    ]
    assert not left, f"blobs or layers of no image stay: {left[:5]}"


def test_image_rm_keeps_what_others_use(own_store, busybox_layout):
    own_store.import_image(busybox_layout, "second").exits(0)
    own_store.run("image", "rm", "second").exits(0)
    own_store.zone("echo works").ok(stdout="works\n")


def test_image_rm_of_an_image_in_use(own_store):
    name = own_store.start()
    own_store.run("image", "rm", "busybox").fails(125, "busybox", name)
    own_store.run("exec", name, "ls", "/bin/sh").exits(0)


def test_image_rm_unknown(zone_host):
    zone_host.run("image", "rm", "no-such").fails(125, "no-such")


@pytest.mark.parametrize("name", ["", "../x", "a b", "a\nb", "-x"])
def test_bad_image_name(plain_host, busybox_layout, name):
    plain_host.import_image(busybox_layout, name).fails(125, "name")
    assert images(plain_host) == {}


def test_import_of_what_is_not_there_or_no_image(plain_host, test_folder):
    missing = test_folder / "missing"
    plain_host.import_image(missing, "x").fails(125, str(missing), "no such file")
    empty = test_folder / "empty"
    empty.mkdir()
    plain_host.import_image(empty, "x").fails(125, str(empty))
    for data in (
        b"",
        b"text\n" * 500,
        b"\x1f\x8b" + bytes(100),
        os.urandom(5000),
        b"\x28\xb5\x2f\xfd" + os.urandom(50),
    ):
        junk = test_folder / "junk.tar"
        junk.write_bytes(data)
        plain_host.import_image(junk, "x").fails(125, str(junk))
    assert images(plain_host) == {}


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "longer"])
def test_layout_with_a_corrupt_layer(plain_host, busybox_layout, test_folder, damage):
    copy = test_folder / "copy"
    shutil.copytree(busybox_layout, copy)
    path = pathlib.Path(layouts.layer_files(str(copy))[0])
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        data[middle] ^= 0xFF
        path.write_bytes({"flipped": data, "cut": data[:middle], "longer": bytes(data) + b"more"}[damage])
    plain_host.import_image(copy, "x").fails(125, path.name[:12])
    assert images(plain_host) == {}


@pytest.mark.parametrize(
    "name, text",
    [
        ("index.json", "{"),
        ("index.json", "null"),
        ("index.json", '{"schemaVersion":2,"manifests":[]}'),
        (
            "index.json",
            '{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../../../etc/passwd","size":1}]}',
        ),
        (
            "index.json",
            '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",'
            '"digest":"sha256:' + "0" * 64 + '","size":-1}]}',
        ),
        ("index.json", "[" * 200000),
        ("oci-layout", "{"),
        ("oci-layout", '{"imageLayoutVersion":"9.0.0"}'),
    ],
    ids=range(8),
)
def test_layout_with_corrupt_json(plain_host, busybox_layout, test_folder, name, text):
    copy = test_folder / "copy"
    shutil.copytree(busybox_layout, copy)
    (copy / name).write_text(text)
    plain_host.import_image(copy, "x").fails(125)
    assert images(plain_host) == {}


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "layer"])
@pytest.mark.parametrize("kind", ["fifo", "endless", "outside", "folder"])
def test_layout_with_something_else_for_a_file(plain_host, busybox_layout, test_folder, name, kind):
    copy = test_folder / "copy"
    shutil.copytree(busybox_layout, copy)
    path = pathlib.Path(layouts.layer_files(str(copy))[0]) if name == "layer" else copy / name
    data = path.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (test_folder / "elsewhere").write_bytes(data)
        path.symlink_to("/dev/zero" if kind == "endless" else test_folder / "elsewhere")
    plain_host.import_image(copy, "x", timeout=10).fails(125)
    assert images(plain_host) == {}


def test_layout_for_another_machine(plain_host, busybox, test_folder):
    layout = layouts.Layout(test_folder / "layout").image("other", [layouts.archive(layouts.rootfs(busybox))])
    for path in pathlib.Path(layout.path).rglob("*"):
        if path.is_file() and b'"architecture"' in path.read_bytes()[:200]:
            config = json.loads(path.read_bytes())
            config["architecture"] = "s390x"
            replacement = layout.blob(json.dumps(config).encode(), layouts.CONFIG)
            old = path.name
    manifest = json.loads((pathlib.Path(layout.path) / "blobs/sha256" / layout.manifests[0]["digest"][7:]).read_text())
    assert manifest["config"]["digest"].endswith(old)
    manifest["config"] = replacement
    layout.manifests = [layout.blob(json.dumps(manifest).encode(), layouts.MANIFEST)]
    layout._write("index.json", json.dumps({"schemaVersion": 2, "manifests": layout.manifests}).encode())
    result = plain_host.import_image(layout.path, "other")
    if result.status == 0:
        result = plain_host.run("run", "--rm", "other", "true")
    result.fails(125, "s390x")


# Each would write, link or make something outside if it were unpacked as it says. OUT is a folder of the host.
HOSTILE = {
    "parent": [layouts.entry("../../../../../../..OUT/evil", "x")],
    "parent-inside": [layouts.entry("etc/../../../../../../../..OUT/evil", "x")],
    "symlink-parent": [layouts.symlink("way", "OUT"), layouts.entry("way/evil", "x")],
    "symlink-relative": [layouts.symlink("way", "../../../../../../../..OUT"), layouts.entry("way/evil", "x")],
    "symlink-chain": [layouts.symlink("one", "two"), layouts.symlink("two", "OUT"), layouts.folder("one/evil")],
    "hardlink-out": [
        layouts.hardlink("inside", "../../../../../../../..OUT/kept"),
        layouts.entry("inside", "overwritten"),
    ],
    "hardlink-through-symlink": [
        layouts.symlink("way", "OUT"),
        layouts.hardlink("inside", "way/kept"),
        layouts.entry("inside", "overwritten"),
    ],
    "file-over-symlink": [layouts.symlink("kept", "OUT/kept"), layouts.entry("kept", "overwritten")],
    "whiteout-parent": [layouts.entry("../../../../../../..OUT/.wh.kept")],
    "whiteout-through-symlink": [layouts.symlink("way", "OUT"), layouts.entry("way/.wh.kept")],
    "opaque-through-symlink": [layouts.symlink("way", "OUT"), layouts.entry("way/.wh..wh..opq")],
    "whiteout-of-parent": [layouts.entry("etc/.wh..."), layouts.entry(".wh...")],
    "directory-mode-through-symlink": [layouts.symlink("way", "OUT"), layouts.folder("way", mode=0o7777)],
    "absolute": [layouts.entry("/OUT/evil", "x")],
}
# These cannot mean anything good, so they are refused; the rest may be made harmless instead.
REFUSED = {"parent", "parent-inside", "hardlink-out", "whiteout-parent", "whiteout-of-parent"}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("form", ["rootfs", "layer"])
def test_hostile_archive_stays_inside(plain_host, busybox, test_folder, case, form):
    outside = test_folder / "outside"
    outside.mkdir()
    (outside / "kept").write_text("as it was")
    outside.chmod(0o750)
    entries = []
    for info, content in HOSTILE[case]:
        # Cases are shared by the tests, so work on copies.
        member = tarfile.TarInfo.frombuf(info.tobuf(tarfile.GNU_FORMAT), "utf-8", "strict")
        member.name = info.name.replace("OUT", str(outside))
        member.linkname = info.linkname.replace("OUT", str(outside))
        entries.append((member, content))
    first = layouts.rootfs(busybox)
    if form == "rootfs":
        path = test_folder / "hostile.tar"
        path.write_bytes(layouts.archive([*first, *entries]))
    else:
        path = (
            layouts.Layout(test_folder / "layout").image("x", [layouts.archive(first), layouts.archive(entries)]).path
        )
    result = plain_host.import_image(path, "hostile")
    if result.status != 0 or case in REFUSED:
        result.fails(125)
        assert images(plain_host) == {}
    assert sorted(os.listdir(outside)) == ["kept"], result
    assert ((outside / "kept").read_text(), (outside / "kept").stat().st_nlink) == ("as it was", 1), result
    assert outside.stat().st_mode & 0o7777 == 0o750, result
    assert set(os.listdir(test_folder)) <= {"root", "store", "outside", "hostile.tar", "layout"}, os.listdir(
        test_folder
    )


def test_device_nodes_in_an_archive_have_no_effect(plain_host, busybox, test_folder):
    nodes = [
        layouts.entry("disk", kind=tarfile.BLKTYPE, device=(254, 0)),
        layouts.entry("mem", kind=tarfile.CHRTYPE, device=(1, 1)),
    ]
    path = test_folder / "nodes.tar"
    path.write_bytes(layouts.archive(layouts.rootfs(busybox, *nodes)))
    result = plain_host.import_image(path, "nodes")
    if result.status != 0:
        result.fails(125, "device")
        return
    for node in ("/disk", "/mem"):
        result = plain_host.run("run", "--rm", "nodes", "head", "-c1", node)
        result.check(result.status != 0 and result.stdout == "", "the device can be read")


def test_archive_that_ends_early(plain_host, busybox, test_folder):
    data = layouts.archive(layouts.rootfs(busybox))
    path = test_folder / "short.tar"
    for length in (600, 5000, len(data) // 2):
        path.write_bytes(data[:length])
        plain_host.import_image(path, "short").fails(125, str(path))
    assert images(plain_host) == {}


def test_sparse_bomb_does_not_fill_memory(plain_host, test_folder):
    """A small gzip of very many zeros: an error or a file, within a bound of memory and time."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as packed:
        info = tarfile.TarInfo("zeros")
        info.size = 64 << 20
        packed.write(info.tobuf())
        for _ in range(64):
            packed.write(bytes(1 << 20))
        packed.write(bytes(1024))
    path = test_folder / "bomb.tar.gz"
    path.write_bytes(buffer.getvalue())

    def bound():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))

    result = plain_host.import_image(path, "bomb", preexec=bound)
    result.check(result.status in (0, 125), "it ended badly")


def test_an_option_behind_the_path_is_not_taken_for_a_command(own_store, busybox_layout):
    own_store.run("image", "import", busybox_layout, "--name", "misplaced").fails(125, "--name", "behind")
    assert "misplaced" not in own_store.run("image", "ls").ok().stdout
