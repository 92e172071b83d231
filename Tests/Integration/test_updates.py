# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Patch once: zones that move to the image that a name means now, each with its own files."""

import json
import os
import pathlib

import layouts
import pytest
from leaks import until
from registry import Registry

PLAIN = "--tls-verify=false"

OLD = {"etc/app.conf": "old\n", "etc/other.conf": "old\n", "etc/gone.conf": "old\n", "etc/same.conf": "same\n",
       "usr/doc/a": "old\n", "usr/more/a": "old\n", "usr/fixed/a": "old\n"}
NEW = {"etc/app.conf": "new\n", "etc/other.conf": "new\n", "etc/fresh.conf": "new\n", "etc/same.conf": "same\n",
       "usr/doc/a": "new\n", "usr/more/a": "new\n", "usr/fixed/a": "old\n"}
# What a zone has made its own: a changed, an added, a removed file, a directory gone and one made again.
OWN = (
    "echo mine > /etc/app.conf; echo mine > /etc/fresh.conf; echo mine > /etc/gone.conf; echo mine > /etc/same.conf;"
    "echo mine > /only; rm -rf /usr/doc /usr/fixed; rm -rf /usr/more; mkdir /usr/more; echo mine > /usr/more/b"
)
KEPT = [
    ("/etc/app.conf", "changed", "changed"),
    ("/etc/fresh.conf", "changed", "added"),
    ("/etc/gone.conf", "changed", "deleted"),
    ("/usr/doc", "deleted", "changed"),
    ("/usr/more", "changed", "changed"),
]


def layout(folder, busybox, files, **config):
    """An image of two layers; the first is the same for all."""
    base = [item for item in layouts.rootfs(busybox) if item[0].name not in files]
    base.append(layouts.symlink("bin/rm", "busybox"))
    top = [layouts.folder(name) for name in ("usr", "usr/doc", "usr/more", "usr/fixed")]
    top += [layouts.entry(name, text, mode=0o644) for name, text in files.items()]
    made = layouts.Layout(folder)
    return made.image("base", [layouts.archive(base), layouts.archive(top)], **{"Cmd": ["sleep", "1000"], **config})


@pytest.fixture
def images(busybox, test_folder):
    """Layouts of an image before and after its patch."""
    return [layout(test_folder / name, busybox, files) for name, files in (("old", OLD), ("new", NEW))]


@pytest.fixture
def host(plain_host, images):
    plain_host.image = "base"
    plain_host.import_image(images[0].path, "base").exits(0)
    return plain_host


def patch(host, images):
    host.import_image(images[1].path, "base").exits(0)
    return digest(images[1])


def digest(layout):
    return layout.manifests[0]["digest"]


def kept(update):
    return [(entry["path"], entry["zone"], entry["image"]) for entry in update["kept"]]


def sh(host, name, script):
    return host.run("exec", name, "sh", "-c", script).ok().stdout


def restart(host, *words):
    return {update["zone"]: update for update in host.run("restart", "--updated", "--json", *words).ok().json}


def layers(host):
    return set(os.listdir(pathlib.Path(host.store) / "layers"))


def test_all_zones_follow_and_keep_their_own(host, images):
    host.run("restart", "--updated").ok(stdout="all zones are up to date\n")
    one, two = (host.detached(suffix, command=(), options=("--stop-timeout", "0")) for suffix in ("one", "two"))
    still = host.name("still")
    host.defer(host.remove, still)
    host.run("create", "--name", still, "base").ok()
    sh(host, one, OWN)
    pids = {name: host.pid(name) for name in (one, two)}
    host.run("restart", "--updated").ok(stdout="all zones are up to date\n")
    assert {name: host.pid(name) for name in (one, two)} == pids and "imageUpdate" not in host.inspect(one)
    new = patch(host, images)
    assert host.inspect(one)["imageUpdate"] == new == host.inspect(still)["imageUpdate"]
    assert sh(host, two, "cat /etc/app.conf /etc/gone.conf") == "old\nold\n"
    done = restart(host)
    assert set(done) == {one, two, still}
    assert [done[name]["restarted"] for name in (one, two, still)] == [True, True, False]
    assert kept(done[one]) == KEPT and done[two]["kept"] == done[still]["kept"] == []
    assert {update["to"] for update in done.values()} == {new}
    assert {update["from"] for update in done.values()} == {digest(images[0])}
    assert host.status(one) == host.status(two) == "running" and host.status(still) == "stopped"
    assert "imageUpdate" not in host.inspect(one)
    script = "cd /etc; cat app.conf other.conf fresh.conf gone.conf same.conf /only; ls /usr /usr/more"
    assert sh(host, one, script) == "mine\nnew\nmine\nmine\nmine\nmine\n/usr:\nmore\n\n/usr/more:\nb\n"
    assert sh(host, two, "cd /etc; cat app.conf other.conf fresh.conf /usr/doc/a; ls gone.conf 2>&1; true").startswith(
        "new\nnew\nnew\nnew\nls:"
    )
    host.run("start", still).ok()
    assert sh(host, still, "cat /etc/app.conf") == "new\n"
    host.run("restart", "--updated").ok(stdout="all zones are up to date\n")


def test_what_is_told(host, images):
    name = host.detached(command=(), options=("--stop-timeout", "0"))
    sh(host, name, OWN + "; for n in 1 2 3; do echo mine > /etc/x$n; done")
    for number in (1, 2, 3):
        NEW[f"etc/x{number}"] = "new\n"
    try:
        more = layout(pathlib.Path(images[1].path).parent / "more", layouts.find_busybox(images[0].path), NEW)
    finally:
        for number in (1, 2, 3):
            del NEW[f"etc/x{number}"]
    host.run("restart", "--updated", name).ok(stdout=f"{name}: up to date (base:latest)\n")
    host.import_image(more.path, "base").exits(0)
    lines = host.run("restart", "--updated").ok().lines
    assert lines[0] == f"{name}: moved from {digest(images[0])[7:19]} to {digest(more)[7:19]} (base:latest), restarted"
    assert lines[1] == f"zone {name} keeps its own /etc/app.conf" and len(lines) == 7
    assert "3 more" in lines[-1] and "--verbose" in lines[-1]
    host.run("image", "tag", digest(images[0]), "base").ok()
    lines = host.run("restart", "--updated", "--verbose", name).ok().lines
    assert len(lines) == 9 and f"zone {name} has removed /usr/doc, which the new image has otherwise" in lines
    assert f"zone {name} keeps its own /etc/x1, which the new image has no more" in lines
    host.run("stop", name).ok()
    # Both ways: what the name means is what counts.
    patch(host, images)
    assert kept(restart(host)[name]) == KEPT
    assert host.status(name) == "stopped"


def test_changes_in_several_layers_are_one(host, images):
    """Snapshots of a stopped zone may keep its changes apart: what the zone has is told, not what it had meanwhile."""
    name = host.detached(command=(), options=("--stop-timeout", "0"))
    sh(host, name, "echo early > /etc/app.conf; echo mine > /etc/other.conf; mkdir -p /usr/doc; echo early > /usr/doc/a; rm -r /usr/fixed")
    for number, script in enumerate((OWN.partition(";")[2], "rm /etc/other.conf; echo old > /etc/other.conf; echo mine > /etc/app.conf")):
        host.run("stop", name).ok()
        host.run("snapshot", "create", name, f"s{number}").ok()
        host.run("start", name).ok()
        sh(host, name, script.replace("rm -rf /usr/doc /usr/fixed", "rm -rf /usr/doc"))
    patch(host, images)
    done = restart(host)[name]
    assert kept(done) == sorted([*KEPT, ("/etc/other.conf", "changed", "changed")])
    script = "cd /etc; cat app.conf other.conf fresh.conf gone.conf same.conf /only; ls /usr /usr/more"
    assert sh(host, name, script) == "mine\nold\nmine\nmine\nmine\nmine\n/usr:\nmore\n\n/usr/more:\nb\n"
    # Back on the image of that time, with what the zone had then.
    host.run("snapshot", "restore", "--stop", name, "s0").ok()
    host.run("start", name).ok()
    assert sh(host, name, "cat /etc/app.conf /etc/gone.conf /usr/doc/a") == "early\nold\nearly\n"


def test_the_old_image_stays_as_long_as_it_is_needed(host, images):
    first = layers(host)
    name = host.detached(command=(), options=("--stop-timeout", "0"))
    sh(host, name, "echo before > /own")
    host.run("snapshot", "create", name, "before").ok()
    host.run("clone", "--linked", "--snapshot", "before", name, host.name("linked")).ok()
    host.defer(host.remove, host.name("linked"))
    patch(host, images)
    done = restart(host, name)
    assert set(done) == {name}
    # The snapshot and the clone are on the old image still.
    host.run("image", "prune").ok()
    assert layers(host) > first
    host.run("start", host.name("linked")).ok()
    assert sh(host, host.name("linked"), "cat /etc/other.conf /own") == "old\nbefore\n"
    # A linked clone keeps what it stands on, too.
    sh(host, host.name("linked"), "echo mine > /etc/other.conf")
    assert kept(restart(host, host.name("linked"))[host.name("linked")]) == [("/etc/other.conf", "changed", "changed")]
    assert sh(host, host.name("linked"), "cat /etc/other.conf /own /etc/app.conf") == "mine\nbefore\nnew\n"
    host.run("image", "prune").ok()
    assert layers(host) > first
    # A snapshot brings its image back.
    host.run("snapshot", "restore", "--stop", name, "before").ok()
    assert host.inspect(name)["definition"]["imageDigest"] == digest(images[0])
    host.run("start", name).ok()
    assert sh(host, name, "cat /etc/other.conf /own") == "old\nbefore\n"
    host.run("restart", "--updated").exits(0)
    host.run("rm", "-f", host.name("linked")).ok()
    host.run("snapshot", "rm", name, "before").ok()
    host.run("image", "prune").ok()
    assert len(layers(host)) == 2 and host.run("image", "verify").ok()
    assert sh(host, name, "cat /etc/other.conf /own") == "new\nbefore\n"


def test_zones_that_do_not_move(host, images):
    pinned, passing = host.name("pinned"), host.name("passing")
    for name in (pinned, passing):
        host.defer(host.remove, name)
    host.run("create", "--name", pinned, f"base@{digest(images[0])}").ok()
    host.run("run", "-d", "--rm", "--name", passing, "--stop-timeout", "0", "base").ok()
    foreign = host.name("foreign")
    host.defer(host.remove, foreign)
    host.run("create", "--name", foreign, "base").ok()
    patch(host, images)
    host.run("restart", "--updated", pinned).ok(stdout=f"{pinned}: up to date (base@{digest(images[0])})\n")
    host.run("restart", "--updated", passing).fails(125, "--rm", passing)
    assert host.status(passing) == "running"
    host.run("restart", "--updated", "no-such").fails(125, "no-such")
    host.run("restart", "--verbose", foreign).fails(125, "--updated")
    host.run("restart").fails(125, "name of a zone")
    # One that cannot be moved keeps no other back.
    host.run("restart", "--updated", passing, foreign).exits(125).check(
        host.inspect(foreign)["definition"]["imageDigest"] == digest(images[1]), "the other has not moved"
    )
    # A name that is gone leads nowhere.
    host.run("image", "tag", "base", "kept").ok()
    host.run("image", "rm", "base").ok()
    host.run("restart", "--updated", foreign).ok(stdout=f"{foreign}: up to date (base:latest)\n")


def test_an_image_that_does_not_work_is_refused_or_told(host, images, busybox, test_folder):
    name = host.detached(command=(), options=("--stop-timeout", "0"))
    pid = host.pid(name)
    foreign = layout(test_folder / "s390x", busybox, NEW)
    manifest = json.loads((pathlib.Path(foreign.path) / "blobs/sha256" / digest(foreign)[7:]).read_text())
    config = json.loads((pathlib.Path(foreign.path) / "blobs/sha256" / manifest["config"]["digest"][7:]).read_text())
    config["config"]["Cmd"] = ["/no/such/program"]
    manifest["config"] = foreign.blob(json.dumps(config).encode(), layouts.CONFIG)
    entry = foreign.blob(json.dumps(manifest).encode(), layouts.MANIFEST)
    foreign.manifests = [{**entry, "annotations": {"org.opencontainers.image.ref.name": "base"}}]
    foreign._write("index.json", json.dumps({"schemaVersion": 2, "manifests": foreign.manifests}).encode())
    host.import_image(foreign.path, "base").exits(0)
    host.run("restart", "--updated", name).fails(127, "does not start", "image tag", digest(images[0]))
    assert host.status(name) == "stopped" and pid
    host.run("image", "tag", digest(images[0]), "base").ok()
    host.run("restart", "--updated", name).exits(0)
    host.run("start", name).ok()
    assert sh(host, name, "cat /etc/app.conf") == "old\n"


def test_killed_at_any_moment(host, images, strace):
    """Kills a move at calls spread over its life: the zone is on the old image or on the new one, whole."""
    name = host.detached(command=(), options=("--stop-timeout", "0"))
    sh(host, name, OWN)
    targets = [digest(layout) for layout in images]
    for layout_ in images:
        host.import_image(layout_.path, "base").exits(0)
    seen = set()
    for call, numbers in {
        "renameat2": (1, 2), "openat2": (5, 60, 140), "unlinkat": (1, 3), "fsync": (1,), "flock": (1, 2, 3),
        "pidfd_send_signal": (1,), "clone3": (1,), "mkdirat": (1, 2), "move_mount": (1,), "fsmount": (1, 2, 3),
    }.items():
        for number in numbers:
            # The other image than the one that it is on.
            current = host.inspect(name)["definition"]["imageDigest"]
            goal = targets[1 - targets.index(current)]
            host.run("image", "tag", goal, "base").ok()
            inject = (strace, "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                      f"inject={call}:signal=KILL:when={number}")
            host.run("restart", "--updated", name, wrap=inject)
            assert until(lambda: host.status(name) in ("running", "stopped")), host.status(name)
            on = host.inspect(name)["definition"]["imageDigest"]
            assert on in targets
            seen.add(on == goal)
            host.run("start", name).exits(0)
            expected = "old" if on == targets[0] else "new"
            assert sh(host, name, "cat /etc/other.conf /etc/app.conf /only") == f"{expected}\nmine\nmine\n"
            host.run("restart", "--updated", name).exits(0)
            assert host.inspect(name)["definition"]["imageDigest"] == goal
    assert seen == {True, False}
    host.run("image", "verify").ok()


def test_image_update(host, images, test_folder):
    registry = Registry(test_folder / "registry")
    host.defer(registry.stop)
    environment = {name: value for name, value in host.environment.items() if "proxy" not in name.lower()}
    host.environment = environment | {"HOME": str(test_folder), "XDG_RUNTIME_DIR": str(test_folder)}
    registry.put(images[0].path, "team/base:1", "base")
    tag = f"{registry.host}/team/base:1"
    host.run("image", "update", PLAIN, tag).fails(125, "not in the store", "image pull")
    host.run("image", "update", PLAIN, f"{tag.rsplit(':', 1)[0]}@{digest(images[0])}").fails(125, "digest")
    host.run("image", "update").fails(125, "needs the name")
    host.run("image", "pull", "-q", PLAIN, tag).ok()
    name = host.detached(image=tag, command=(), options=("--stop-timeout", "0"))
    sh(host, name, OWN)
    old, new = (digest(layout)[7:19] for layout in images)
    host.run("image", "update", "-q", PLAIN, tag).ok(stdout=f"{tag}: up to date ({old})\n")
    registry.put(images[1].path, "team/base:1", "base")
    result = host.run("image", "update", "-q", PLAIN, tag).ok()
    assert result.lines[0] == f"{tag}: updated from {old} to {new}"
    assert "1 zone " in result.lines[1] and "restart --updated" in result.lines[1]
    again = host.run("image", "update", "-q", "--json", PLAIN, tag).ok().json
    assert again == [{"name": tag, "from": digest(images[1]), "to": digest(images[1]), "zones": [name]}]
    assert kept(restart(host)[name]) == KEPT
    assert sh(host, name, "cat /etc/other.conf") == "new\n"
    registry.stop()
    host.run("image", "update", "-q", PLAIN, tag).fails(125, "cannot be reached")
    assert sh(host, name, "cat /etc/other.conf") == "new\n"
