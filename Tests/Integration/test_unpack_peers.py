# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images that umoci and buildah have made, and others, unpack to the very tree that `umoci unpack` gives."""

import gzip
import hashlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import time

import hostile
import layouts
import pytest


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed (Debian package {program})")
    return program


def execute(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=500, check=False, **options)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def mtree(root, begin):
    """What mtree(5) tells of each entry: type, mode, owner, size, time, link, device, digest, attributes; and which are one file.
    Times after `begin` are those of unpacking: no layer says any."""
    entries, files = {}, {}
    for top, folders, names in os.walk(root):
        for name in [*folders, *names, *(["."] if top == str(root) else [])]:
            path = os.path.join(top, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            entry = {"type": stat.filemode(status.st_mode), "mode": status.st_mode, "uid": status.st_uid, "gid": status.st_gid,
                     "time": status.st_mtime_ns // 1000 if not begin < status.st_mtime < begin + 1000 else "now"}
            if kind == stat.S_IFREG:
                entry["size"] = status.st_size
                with open(path, "rb") as file:
                    entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
                files.setdefault(status.st_ino, []).append(os.path.relpath(path, root))
            elif kind == stat.S_IFLNK:
                entry["link"] = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                entry["device"] = status.st_rdev
            entry["attributes"] = {key: os.getxattr(path, key, follow_symlinks=False)
                                   for key in os.listxattr(path, follow_symlinks=False)
                                   if not key.startswith(("trusted.overlay.", "system.", "security.selinux"))}
            entries[os.path.relpath(path, root)] = entry
    for names in files.values():
        for name in names:
            entries[name]["names"] = sorted(names)
    return entries


def differences(ours, theirs):
    found = [f"only here: {name}" for name in sorted(ours.keys() - theirs.keys())]
    found += [f"only umoci has: {name}" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        for key in sorted({*ours[name], *theirs[name]}):
            if ours[name].get(key) != theirs[name].get(key):
                found.append(f"{name}: {key} {ours[name].get(key)!r} here, {theirs[name].get(key)!r} umoci's")
    return found


def named(layout, name="t"):
    """Names a layout's first image as umoci finds it."""
    path = pathlib.Path(layout) / "index.json"
    index = json.loads(path.read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": name}
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": index["manifests"][:1]}))


def compare(host, layout, test_folder, same=None):
    """Unpacks a layout's image here and by umoci, and compares. Returns how many entries there are. `same`: the same layers
    in a form that umoci reads."""
    need("umoci")
    for folder in (layout, same or layout):
        named(folder)
    bundle = test_folder / "bundle"
    begin = time.time() - 1
    execute("umoci", "unpack", "--keep-dirlinks", "--image", f"{same or layout}:t", bundle)
    host.import_image(layout, "t").exits(0)
    detail = host.run("image", "inspect", "t").ok().json[0]
    chain = []
    for layer in detail["layers"]:
        chain.append(layer["diffID"] if not chain else
                     "sha256:" + hashlib.sha256(f"{chain[-1]} {layer['diffID']}".encode()).hexdigest())
    folders = [f"{host.store}/layers/{digest[7:]}" for digest in reversed(chain)]
    root = folders[0]
    if len(folders) > 1:
        root = host.directory("merged")
        # Names in a store's path hold no ':'.
        execute("mount", "-t", "overlay", "-o", f"ro,lowerdir={':'.join(folders)}", "overlay", root)
        host.defer(execute, "umount", root)
    ours, theirs = mtree(root, begin), mtree(bundle / "rootfs", begin)
    shutil.rmtree(bundle)
    # Of no weight, and umoci's changes with what lies in it: what a zone sees is the time of its own upper layer.
    for tree in (ours, theirs):
        tree["."].pop("time")
    found = differences(ours, theirs)
    assert not found, "\n".join(found[:12])
    return len(ours)


def test_busybox(plain_host, busybox_layout, test_folder):
    copy = test_folder / "copy"
    shutil.copytree(busybox_layout, copy)
    assert compare(plain_host, copy, test_folder) > 100


def everything():
    """Three layers with every type of entry, and everything that one layer can do to another."""
    m, t = hostile.member, hostile.tar
    xattr = "SCHILY.xattr."
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    first = t(
        hostile.folder("./", mtime=1), hostile.folder("etc"), m("etc/passwd", "root:x:0:0::/:/bin/sh\n", uid=1, gid=2),
        m("tmp", b"", b"5", mode=0o1777),
        m("group", b"", b"5", mode=0o2775, uid=1000, gid=1001), m("empty"), m("big", os.urandom(300001)),
        m("su", "x" * 100, mode=0o6755), m("capable", "x", mode=0o755, pax={xattr + "security.capability": capability}),
        m("noted", "x", pax={xattr + "user.note": "n\0b", "mtime": "1234567890.987654321"}),
        hostile.symlink("link", "etc/passwd"), hostile.symlink("dangling", "/no/such"), hostile.symlink("folderlink", "etc"),
        m("fifo", b"", b"6", mode=0o622), m("null", b"", b"3", mode=0o666, device=(1, 3)), m("disk", b"", b"4", device=(254, 9)),
        hostile.hardlink("etc/passwd2", "etc/passwd"), m("n" * 200, "long"), m("d/" * 60 + "deep", "x"),
        m("gr\u00fc\u00df \u4f60\u597d", "x"), m("space and\ttab", "x"), m("uid", "x", uid=2097152, gid=2097153),
        m("old", "x", mtime=0), m("late", "x", mtime=4102444800),
        m("gone", "x"), hostile.folder("gonefolder"), m("gonefolder/a", "x"), hostile.folder("opaque"), m("opaque/below", "x"),
        hostile.folder("was-folder"), m("was-folder/a", "x"), m("was-file", "x"), hostile.symlink("was-link", "etc"),
        m("changed", "first"), m("mode", "x", mode=0o600), hostile.folder("kept"), m("kept/a", "x"),
        m("sparse", "x" * 1024, pax={"GNU.sparse.size": 1 << 20, "GNU.sparse.numblocks": 1, "GNU.sparse.map": "524288,1024"}),
    )
    second = t(
        m(".wh.gone"), m(".wh.gonefolder"), hostile.folder("opaque"), m("opaque/.wh..wh..opq"), m("opaque/above", "y"),
        m(".wh.was-folder") + m("was-folder", "now a file"), m(".wh.was-file") + hostile.folder("was-file"), m("was-file/a", "y"),
        m(".wh.was-link") + hostile.folder("was-link"), m("was-link/a", "y"), m("changed", "second"), m("mode", "x", mode=0o4711),
        hostile.folder("kept"), m("kept/b", "y"), hostile.folder("etc"), m("etc/.wh.passwd2"),
    )
    third = t(m("gone", "again"), hostile.folder("gonefolder"), m("gonefolder/b", "z"), hostile.folder("opaque"),
              m("opaque/.wh.above"), m("opaque/below", "again"), m("changed", "third"), hostile.hardlink("changed2", "changed"))
    return first, second, third


@pytest.mark.parametrize("packed", ["tar", "gzip", "zstd"])
def test_every_type_of_entry(plain_host, test_folder, packed):
    pack = {"tar": None, "gzip": gzip.compress, "zstd": hostile.with_zstd}[packed]
    if packed == "zstd":
        need("zstd")
    media = hostile.LAYER + ("" if packed == "tar" else f"+{packed}")
    layers = everything()
    layout = hostile.Image(test_folder / "layout").whole(*layers, media=media, packed=pack)
    # Debian 12's umoci reads no zstd.
    same = hostile.Image(test_folder / "same").whole(*layers) if packed == "zstd" else None
    assert compare(plain_host, layout, test_folder, same) > 90


def test_made_by_umoci(plain_host, busybox, test_folder):
    """umoci's own layers: repacked after changes to an unpacked image."""
    need("umoci")
    base = layouts.Layout(test_folder / "layout").image("t", [layouts.archive(layouts.rootfs(busybox))])
    bundle = test_folder / "work"
    execute("umoci", "unpack", "--image", f"{base.path}:t", bundle)
    root = bundle / "rootfs"
    (root / "etc/passwd").unlink()
    (root / "etc/new").write_text("new")
    shutil.rmtree(root / "tmp")
    (root / "tmp").write_text("now a file")
    os.mkfifo(root / "etc/fifo")
    os.link(root / "etc/new", root / "etc/new2")
    os.setxattr(root / "etc/new", "user.note", b"note")
    os.chown(root / "etc/group", 12, 13)
    execute("umoci", "repack", "--image", f"{base.path}:u", bundle)
    index = json.loads((pathlib.Path(base.path) / "index.json").read_text())
    index["manifests"] = [each for each in index["manifests"] if each["annotations"]["org.opencontainers.image.ref.name"] == "u"]
    (pathlib.Path(base.path) / "index.json").write_text(json.dumps(index))
    assert compare(plain_host, base.path, test_folder) > 25


def test_made_by_buildah(plain_host, busybox, test_folder):
    """buildah's own layers: from nothing, with copies, changes and removals."""
    need("buildah")
    storage = ("buildah", "--storage-driver", "vfs", "--root", test_folder / "storage", "--runroot", test_folder / "run")
    plain_host.defer(shutil.rmtree, test_folder / "storage", True)
    (test_folder / "root.tar").write_bytes(layouts.archive(layouts.rootfs(busybox)))
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(test_folder)}
    made = execute(*storage, "from", "scratch", env=environment).strip()
    execute(*storage, "add", made, test_folder / "root.tar", "/", env=environment)
    policy = test_folder / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    execute(*storage, "commit", "--signature-policy", policy, made, "first", env=environment)
    second = execute(*storage, "from", "--signature-policy", policy, "--pull-never", "first", env=environment).strip()
    mounted = pathlib.Path(execute(*storage, "mount", second, env=environment).strip())
    (mounted / "etc/passwd").unlink()
    (mounted / "etc/new").write_text("new")
    shutil.rmtree(mounted / "root")
    os.link(mounted / "etc/new", mounted / "etc/new2")
    os.chmod(mounted / "etc/group", 0o640)
    execute(*storage, "umount", second, env=environment)
    layout = test_folder / "layout"
    execute(*storage, "commit", "--signature-policy", policy, "--format", "oci", second, f"oci:{layout}:t", env=environment)
    assert compare(plain_host, layout, test_folder) > 25


def test_debian(plain_host, test_folder):
    """A whole system; it takes a minute and a mirror of Debian, so only where somebody asks for it."""
    if not os.environ.get("ZONECTL_TEST_DEBIAN"):
        pytest.skip("Debian is fetched and compared only with ZONECTL_TEST_DEBIAN=1")
    need("mmdebstrap")
    tar = test_folder / "debian.tar"
    execute("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", tar)
    content = tar.read_bytes()
    with tarfile.open(tar) as opened:
        assert sum(1 for _ in opened) > 5000
    layout = hostile.Image(test_folder / "layout").whole(content)
    tar.unlink()
    del content
    assert compare(plain_host, layout, test_folder) > 5000
