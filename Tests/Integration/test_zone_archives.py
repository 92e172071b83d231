# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`export` and `import` of zones: by content, settings and snapshots; interrupted, cut short, altered, and with bad input."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile

import layouts
import pytest

CHANGE = (
    "echo one > /one; mkdir -p /d/e; echo two > /d/e/two; ln -s one /link; ln /one /hard; chown 5:6 /one; chmod 4711 /one;"
    "rm /bin/vi; rm -rf /root; mkdir /root; echo new > /root/new; mkfifo /fifo; echo x >> /etc/passwd;"
    "dd if=/dev/zero of=/holes bs=1k count=1 seek=999 2>/dev/null; chmod 1711 /"
)


@pytest.fixture
def zone(own_store):
    """A zone that has changed much, with a snapshot of before, stopped."""
    name = own_store.detached("e", options=("--label", "team=web", "--memory", "64M", "--stop-timeout", "1"))
    own_store.run("exec", name, "sh", "-c", "echo first > /first").ok()
    own_store.run("snapshot", "create", name, "early").ok()
    own_store.run("exec", name, "sh", "-c", CHANGE).ok()
    own_store.run("stop", "-t", "0", name).ok()
    return name


def folder(host, name):
    return pathlib.Path(host.store) / "zones" / name


def marks(path):
    """What overlayfs has noted, and times: what the digest of a tree does not know of."""
    found = []
    for top, folders, files in os.walk(path):
        for name in sorted([*folders, *files]):
            full = os.path.join(top, name)
            status = os.lstat(full)
            opaque = [key for key in os.listxattr(full, follow_symlinks=False) if "opaque" in key]
            # What says that something is gone has no time of its own, and overlayfs makes many of one by links.
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            time = 0 if stat.S_ISCHR(status.st_mode) else int(status.st_mtime)
            found.append((os.path.relpath(full, path), opaque, status.st_rdev, links,
                          time, status.st_size if name in files else 0))
    return sorted(found)


def same(one, other):
    assert layouts.tree_digest(one) == layouts.tree_digest(other)
    assert [] == [pair for pair in zip(marks(one), marks(other)) if pair[0] != pair[1]]
    assert os.lstat(one).st_mode == os.lstat(other).st_mode


def definition(host, name):
    made = host.inspect(name)["definition"]
    return {key: value for key, value in made.items() if key not in ("name", "created")}


def store_state(host):
    """All names in the store but caches."""
    return sorted(
        os.path.relpath(os.path.join(top, name), host.store)
        for part in ("images", "layers", "zones")
        for top, folders, files in os.walk(os.path.join(host.store, part))
        for name in folders + files
        if name not in (".lock", ".resolved", ".index.json.new") and os.path.basename(top) != ".resolved"
    )


def export(host, name, file="zone.tar"):
    path = host.path(file)
    host.run("export", "-o", path, name).ok(stdout="")
    return path


def test_there_and_back(own_store, zone):
    path = export(own_store, zone)
    new = own_store.name("new")
    own_store.defer(own_store.remove, new)
    own_store.run("import", path).fails(125, zone, "taken", "zonectl import FILE NEW")
    own_store.run("import", path, new).ok(stdout=new + "\n")
    assert own_store.status(new) == "stopped"
    same(folder(own_store, zone) / "upper", folder(own_store, new) / "upper")
    same(folder(own_store, zone) / "snapshots/early/upper", folder(own_store, new) / "snapshots/early/upper")
    assert definition(own_store, new) == definition(own_store, zone)
    assert own_store.inspect(new)["snapshots"] == own_store.inspect(zone)["snapshots"]
    own_store.run("start", new).ok()
    script = "cat /hard; test -e /bin/vi || echo gone; ls /root; stat -c %u:%g:%a:%h /one; stat -c %a /; hostname"
    own_store.run("exec", new, "sh", "-c", script).ok(stdout=f"one\ngone\nnew\n5:6:4711:2\n1711\n{new}\n")
    own_store.run("snapshot", "restore", "--stop", new, "early").ok()
    own_store.run("start", new).ok()
    own_store.run("exec", new, "sh", "-c", "cat /first; ls /one /bin/vi").says("/one: no such file")
    # The archive of the copy is the archive of the zone, as far as names and times allow.
    own_store.run("rm", "-f", new).ok()
    own_store.run("export", "none").fails(125, "none")


def test_into_a_store_that_has_nothing(own_store, zone):
    path = export(own_store, zone)
    own_store.run("stop", "-t", "0", zone)
    before = layouts.tree_digest(folder(own_store, zone) / "upper")
    digest = own_store.inspect(zone)["definition"]["imageDigest"]
    own_store.run("rm", zone).ok()
    other = own_store.directory("other")
    own_store.use_folders(own_store.root, other)
    own_store.run("import", "-", stdin="").fails(125, "archive")
    with open(path, "rb") as file:
        done = subprocess.run(own_store.command("import", "-"), stdin=file, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, zone + "\n", "")
    own_store.defer(own_store.remove, zone)
    assert layouts.tree_digest(folder(own_store, zone) / "upper") == before
    assert own_store.run("image", "ls", "-q").ok().lines == ["busybox:latest"]
    assert own_store.inspect(zone)["definition"]["imageDigest"] == digest
    own_store.run("image", "prune", "--all").ok()
    own_store.run("image", "verify").ok()
    own_store.run("start", zone).ok()
    own_store.run("exec", zone, "cat", "/one").ok(stdout="one\n")


def test_an_image_of_that_name_keeps_it(own_store, zone, busybox_layout):
    path = export(own_store, zone)
    own_store.run("rm", zone).ok()
    # Another image has taken the name since.
    rootfs = own_store.path("r.tar")
    pathlib.Path(rootfs).write_bytes(layouts.archive(layouts.rootfs(layouts.find_busybox(busybox_layout))))
    own_store.run("image", "rm", "busybox").ok()
    own_store.import_image(rootfs, "busybox").ok()
    mine = own_store.run("image", "inspect", "busybox").ok().json[0]["digest"]
    own_store.run("import", path).ok()
    own_store.defer(own_store.remove, zone)
    assert own_store.run("image", "inspect", "busybox").ok().json[0]["digest"] == mine
    own_store.run("start", zone).ok()
    own_store.run("exec", zone, "cat", "/one").ok(stdout="one\n")


def test_the_archive_is_a_layout(own_store, zone):
    path = export(own_store, zone)
    with tarfile.open(path) as tar:
        names = tar.getnames()
        index = json.load(tar.extractfile("index.json"))
        assert names[0] == "oci-layout" and names[-1] == "index.json" and len(names) == len(set(names))
        manifest = json.load(tar.extractfile("blobs/sha256/" + index["manifests"][-1]["digest"].split(":")[1]))
    assert manifest["config"]["mediaType"] == "application/vnd.zoneruntime.zone.v1+json" and len(manifest["layers"]) == 2
    # To whoever wants images it is an archive of images.
    own_store.run("rm", zone).ok()
    own_store.use_folders(own_store.root, own_store.directory("images-only"))
    assert "busybox:latest" in own_store.run("image", "load", "-i", path).ok().stdout
    if shutil.which("skopeo"):
        subprocess.run(("skopeo", "inspect", f"oci-archive:{path}:busybox:latest"), check=True, capture_output=True)


def test_running_and_linked_zones(own_store):
    script = "n=0; while :; do n=$((n+1)); echo $n > /a; echo $n > /b; done"
    origin = own_store.detached("o", command=("sh", "-c", script))
    clone = own_store.name("clone")
    own_store.defer(own_store.remove, clone)
    own_store.run("clone", "--linked", origin, clone).ok()
    own_store.run("cp", export(own_store, origin, "running.tar"), f"{clone}:/tar").ok()
    own_store.run("cp", own_store.path("text", "changed\n"), f"{clone}:/a").ok()
    assert own_store.status(origin) == "running"
    for source, file in ((origin, "running.tar"), (clone, "clone.tar")):
        path = export(own_store, source, file)
        new = own_store.name(f"from-{file[:5]}")
        own_store.defer(own_store.remove, new)
        own_store.run("import", path, new).ok()
        a, b = ((folder(own_store, new) / "upper" / letter).read_text() for letter in "ab")
        # A file may just have been emptied.
        assert a == "" or b == "" or 0 <= int(a) - int(b) <= 1 if source == origin else a == "changed\n"
        assert "base" not in own_store.inspect(new)["definition"]


def test_what_never_ran_and_what_is_not_in_it(own_store):
    name = own_store.name("n")
    own_store.defer(own_store.remove, name)
    own_store.run("create", "--name", name, "-v", "data:/data", "-v", "/own", "busybox").ok()
    path = own_store.path("n.tar")
    done = own_store.run("export", "-o", path, name)
    assert done.status == 0 and "zonectl volume export data" in done.stderr
    own_store.run("export", "-q", "-o", path, name).ok()
    own = own_store.inspect(name)["definition"]["mounts"][1]["source"]
    own_store.run("import", path, name + "2").ok()
    own_store.defer(own_store.remove, name + "2")
    mounts = own_store.inspect(name + "2")["definition"]["mounts"]
    assert mounts[0]["source"] == "data" and mounts[1]["source"] != own
    own_store.run("start", name + "2").ok()


def test_cut_short_or_altered(own_store, zone):
    path = pathlib.Path(export(own_store, zone))
    own_store.run("rm", zone).ok()
    whole = path.read_bytes()
    before = store_state(own_store)
    bad = pathlib.Path(own_store.path("bad.tar"))

    def refused(content):
        bad.write_bytes(content)
        own_store.run("import", bad).fails(125, "import: ")
        assert set(store_state(own_store)) ^ set(before) == set()
        assert own_store.run("ls", "-q").ok().stdout == ""

    for size in (0, 1, 511, 512, 700, 1536, 10240, len(whole) // 3, len(whole) // 2, len(whole) * 3 // 4, len(whole) - 10240 - 4096):
        refused(whole[:size])
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]
        for member in tar.getmembers():
            # A byte in the middle of each blob, and in each header.
            for place in (member.offset_data + member.size // 2, member.offset_data - 512 + 3):
                altered = bytearray(whole)
                altered[place] ^= 1
                if member.name in ("oci-layout", "index.json") and place >= member.offset_data:
                    continue
                refused(bytes(altered))

    def rebuilt(change):
        """The archive with another document, and digests that are right again."""
        blobs = {member.name: content for member, content in members}
        index = json.loads(blobs.pop("index.json"))
        manifest = json.loads(blobs["blobs/sha256/" + index["manifests"][-1]["digest"].split(":")[1]])
        document = json.loads(blobs["blobs/sha256/" + manifest["config"]["digest"].split(":")[1]])
        change(document, manifest, index)
        for holder, value in ((manifest["config"], document), (index["manifests"][-1], manifest)):
            text = json.dumps(value).encode()
            holder["digest"] = f"sha256:{layouts.hashlib.sha256(text).hexdigest()}"
            holder["size"] = len(text)
            blobs["blobs/sha256/" + holder["digest"].split(":")[1]] = text
        blobs["index.json"] = json.dumps(index).encode()
        return layouts.archive([layouts.entry(name, content, mode=0o644) for name, content in blobs.items()])

    def renamed(name):
        return lambda document, manifest, index: document["zone"]["definition"].update(name=name)

    bad.write_bytes(rebuilt(lambda *_: None))
    own_store.run("import", bad).ok(stdout=zone + "\n")
    own_store.run("rm", zone).ok()
    for name in ("../evil", "", "a/b"):
        refused(rebuilt(renamed(name)))
    refused(rebuilt(lambda document, *_: document["snapshots"][0]["snapshot"].update(name="../../evil")))
    refused(rebuilt(lambda document, *_: document["zone"].update(changes=["sha256:" + "0" * 64])))
    refused(rebuilt(lambda document, *_: document["zone"]["definition"].update(imageDigest="sha256:" + "0" * 64)))
    refused(rebuilt(lambda document, *_: document["zone"]["definition"].update(base="other/snap")))
    refused(rebuilt(lambda document, *_: document.update(version=2)))
    refused(rebuilt(lambda document, *_: document["zone"]["definition"].update(mounts=[{"destination": "/proc"}])))
    refused(rebuilt(lambda document, manifest, index: manifest["config"].update(mediaType="text/plain")))
    refused(rebuilt(lambda document, manifest, index: index.update(manifests=index["manifests"][-1:])))


def test_other_archives_are_not_zones(own_store, busybox_layout):
    path = own_store.path("image.tar")
    own_store.run("image", "save", "-o", path, "busybox").ok()
    own_store.run("import", path).fails(125, "not an archive of a zone", "zonectl image load")
    rootfs = pathlib.Path(own_store.path("r.tar"))
    rootfs.write_bytes(layouts.archive(layouts.rootfs(layouts.find_busybox(busybox_layout))))
    own_store.run("import", rootfs).fails(125, "not an archive of a zone", "zonectl image import")
    own_store.run("import", own_store.path("none.tar")).fails(125, "none.tar")
    own_store.run("import", own_store.directory("d")).fails(125)
    own_store.run("import").fails(125, "file")
    own_store.run("import", path, "a/b").fails(125, "a/b")
    own_store.run("export").fails(125, "one zone")


def test_an_export_that_fails_leaves_no_file(own_store, zone):
    target = pathlib.Path(own_store.directory("out"))
    own_store.run("export", "-o", target / "none" / "x.tar", zone).fails(125, "x.tar")
    layer = own_store.run("image", "inspect", "busybox").ok().json[0]["layers"][0]["digest"]
    blob = pathlib.Path(own_store.store) / "images/blobs/sha256" / layer.split(":")[1]
    blob.rename(target / "aside")
    own_store.run("export", "-o", target / "x.tar", zone).fails(125)
    assert os.listdir(target) == ["aside"]
    (target / "aside").rename(blob)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(own_store.command("export", zone), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 125 and "no space" in done.stderr.lower()


@pytest.mark.parametrize("syscall", ["renameat2", "mkdirat", "fchownat", "flock"])
def test_an_import_that_is_killed_is_complete_or_can_be_removed(own_store, zone, syscall):
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    path = export(own_store, zone)
    own_store.run("rm", zone).ok()
    before = store_state(own_store)
    count = 1
    while True:
        inject = f"inject={syscall}:signal=KILL:when={count}"
        wrap = (strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syscall}", "-e", inject)
        done = own_store.run("import", path, wrap=wrap)
        listed = own_store.run("ls", "-q").ok().lines
        if listed:
            shown = own_store.run("start", zone)
            assert shown.status == 0 or "interrupted" in shown.stderr
            if shown.status == 0:
                own_store.run("exec", zone, "cat", "/root/new").ok(stdout="new\n")
            own_store.run("rm", "-f", zone).ok()
        # The next change of the store clears up.
        own_store.run("image", "prune").ok()
        own_store.run("image", "verify").ok()
        assert set(store_state(own_store)) ^ set(before) == set()
        if done.status == 0:
            break
        count += 5 if syscall == "fchownat" else 3
    assert count > 1
