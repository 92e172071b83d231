# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Snapshots of stopped zones where files cannot share blocks: nothing is copied, and nobody sees how."""

import json
import os
import pathlib
import subprocess

import pytest
from contents import seen
from test_crash_images import kill_everywhere
from test_snapshots import CHANGE

# What a zone does between its snapshots; each hides, replaces or uncovers something of the one before.
STEPS = {
    "s1": CHANGE,
    "s2": "rm -rf /d; mkdir /d; echo again > /d/again; rm /hard; echo x > /bin/vi; touch -d @1000000000 /d",
    "s3": "mkdir -p /new/deep; echo a > /new/deep/a; mv /new /renamed; rm /link; mkdir /link; echo in > /link/in; ln /one /two",
    "s4": "rm -r /link; ln -s target /link; rm -rf /renamed/deep; mkdir /renamed/deep; echo b > /renamed/deep/b; chmod 751 /; chown 9:9 /d",
    "s5": "rm /fifo; echo file > /fifo; rm -rf /d; echo plain > /d; rm /bin/vi; rm -rf /root; chmod 600 /one",
}


@pytest.fixture
def host(own_store):
    """`own_store` on a file system that copies blocks."""
    probe = pathlib.Path(own_store.store) / "probe"
    probe.write_text("x")
    shared = subprocess.run(("cp", "--reflink=always", probe, f"{probe}2"), capture_output=True).returncode == 0
    for path in (probe, pathlib.Path(f"{probe}2")):
        path.unlink(missing_ok=True)
    if shared:
        place = own_store.directory("tmpfs")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        own_store.defer(lambda: subprocess.run(["umount", "-l", place], check=True))
        subprocess.run(["cp", "-a", own_store.store, f"{place}/store"], check=True)
        own_store.use_folders(own_store.root, f"{place}/store")
    return own_store


@pytest.fixture
def zone(host):
    """A stopped zone without changes."""
    name = host.name("l")
    host.defer(host.remove, name)
    host.run("create", "--name", name, "busybox", "sleep", "1000").ok()
    return name


def change(host, zone, script):
    host.run("start", zone).ok()
    host.run("exec", zone, "sh", "-c", script).exits(0)
    host.run("stop", "-t", "0", zone).ok()


def put(host, zone, name, text):
    """A file of a stopped zone's."""
    host.run("cp", "-q", host.path("put", text), f"{zone}:{name}").ok()


def folder(host, zone):
    return pathlib.Path(host.store) / "zones" / zone


def layers(host, zone):
    place = folder(host, zone) / "layers"
    names = sorted(os.listdir(place)) if place.exists() else []
    assert all(name.isdigit() for name in names), names
    return names


def snapshots(host, zone):
    return host.run("snapshot", "ls", "-q", zone).ok().lines


@pytest.fixture
def chain(host, zone):
    """Five snapshots, and what the zone was at each."""
    states = {}
    for name, script in STEPS.items():
        change(host, zone, script)
        before, listed = seen(host, zone), host.run("diff", zone).ok().lines
        host.run("snapshot", "create", zone, name).ok()
        assert seen(host, zone) == before
        # Of what has changed since the image, not since the snapshot.
        assert host.run("diff", zone).ok().lines == listed
        states[name] = before
    return states


def test_nothing_is_copied(host, zone):
    change(host, zone, CHANGE)
    upper = folder(host, zone) / "upper"
    before, inode = seen(host, zone), (upper / "one").stat().st_ino
    host.run("snapshot", "create", zone, "s").ok()
    assert layers(host, zone) == ["1"] and os.listdir(upper) == []
    # How it is kept is nobody's matter.
    assert "base" not in host.inspect(zone)["definition"]
    assert (folder(host, zone) / "layers/1/upper/one").stat().st_ino == inode
    # Nothing has changed since: no second layer.
    host.run("snapshot", "create", zone, "t").ok()
    assert layers(host, zone) == ["1"]
    put(host, zone, "/one", "other")
    host.run("snapshot", "restore", zone, "s").ok()
    assert seen(host, zone) == before and os.listdir(upper) == []
    host.run("snapshot", "rm", zone, "s", "t").ok()
    assert layers(host, zone) == [] and (upper / "one").stat().st_ino == inode
    assert seen(host, zone) == before
    assert "base" not in json.loads((folder(host, zone) / "definition.json").read_text())
    host.run("rm", zone).ok()
    assert not folder(host, zone).exists()


def test_five_snapshots_are_restored_and_removed(host, zone, chain):
    assert layers(host, zone) == ["1", "2", "3", "4", "5"]
    for name in ("s2", "s5", "s1", "s4", "s3", "s5"):
        host.run("snapshot", "restore", zone, name).ok()
        assert seen(host, zone) == chain[name]
    change(host, zone, "echo last > /last; rm /renamed/deep/b; mkdir /d2")
    now, listed = seen(host, zone), host.run("diff", zone).ok().lines
    assert "A /last" in listed and "A /d" in listed and "D /bin/vi" in listed and "C /root" not in listed
    # In the middle, at the ends.
    left = list(STEPS)
    for name in ("s3", "s1", "s5", "s4"):
        host.run("snapshot", "rm", zone, name).ok()
        left.remove(name)
        assert snapshots(host, zone) == left and seen(host, zone) == now
        assert host.run("diff", zone).ok().lines == listed
    assert len(layers(host, zone)) == 1
    host.run("snapshot", "restore", zone, "s2").ok()
    assert seen(host, zone) == chain["s2"]
    host.run("snapshot", "rm", zone, "s2").ok()
    assert layers(host, zone) == [] and seen(host, zone) == chain["s2"]
    change(host, zone, "cat /d/again && test $(stat -c %h /one) = 1")


def test_branches(host, zone, chain):
    """Snapshots that stand on one layer side by side."""
    host.run("snapshot", "restore", zone, "s2").ok()
    put(host, zone, "/side", "side")
    side = seen(host, zone)
    host.run("snapshot", "create", zone, "side").ok()
    host.run("snapshot", "rm", zone, "s2").ok()
    for name, state in (("s3", chain["s3"]), ("side", side), ("s5", chain["s5"])):
        host.run("snapshot", "restore", zone, name).ok()
        assert seen(host, zone) == state
    # A name is free again at once.
    host.run("snapshot", "create", zone, "s2").ok()
    host.run("snapshot", "rm", zone, "side", "s2", "s1", "s3", "s4").ok()
    assert layers(host, zone) == ["5"] or len(layers(host, zone)) == 1
    assert seen(host, zone) == chain["s5"]


def test_linked_clones_stand_on_the_middle(host, zone, chain):
    first, second = host.name("a"), host.name("b")
    for name in (first, second):
        host.defer(host.remove, name)
    host.run("clone", "--linked", "--snapshot", "s3", zone, first).ok()
    assert seen(host, first) == chain["s3"]
    host.run("snapshot", "rm", zone, "s3").fails(125, first, "linked clone")
    host.run("diff", first).ok(stdout="")
    host.run("start", first).ok()
    host.run("exec", first, "sh", "-c", "rm /one; echo mine > /mine").ok()
    # What is below is mounted: the snapshot goes, its layer stays.
    for name in ("s2", "s5", "s1"):
        host.run("snapshot", "rm", zone, name).ok()
    said = host.run("exec", first, "sh", "-c", "cat /mine /link/in /d/again; ls /one 2>/dev/null; true").ok()
    assert said.lines == ["mine", "in", "again"]
    host.run("stop", "-t", "0", first).ok()
    assert seen(host, zone) == chain["s5"]
    # A snapshot of the clone, and a clone of that; the clone's own changes are what diff tells.
    listed = host.run("diff", first).ok().lines
    assert listed == ["A /mine", "D /one"]
    mine = seen(host, first)
    host.run("snapshot", "create", first, "own").ok()
    assert host.run("diff", first).ok().lines == listed and seen(host, first) == mine
    assert host.inspect(first)["definition"]["base"] == f"{zone}/s3"
    host.run("clone", "--linked", "--snapshot", "own", first, second).ok()
    assert seen(host, second) == mine
    host.run("rm", "-f", zone).fails(125, first)
    # A full one of the linked one stands on nothing.
    full = host.name("f")
    host.defer(host.remove, full)
    host.run("clone", "--full", second, full).ok()
    host.run("rm", second).ok()
    host.run("snapshot", "rm", first, "own").ok()
    assert seen(host, first) == mine and layers(host, first) == []
    host.run("rm", first).ok()
    host.run("snapshot", "rm", zone, "s3", "s4").ok()
    assert layers(host, zone) == [] and seen(host, zone) == chain["s5"]
    assert seen(host, full) == mine


def test_a_zone_that_runs_keeps_its_layers_until_it_stops(host, zone, chain):
    host.run("snapshot", "restore", zone, "s4").ok()
    host.run("start", zone).ok()
    host.run("exec", zone, "sh", "-c", "echo x > /x").ok()
    host.run("snapshot", "create", zone, "copied").ok()
    host.run("exec", zone, "sh", "-c", "rm /x").ok()
    host.run("snapshot", "rm", zone, *STEPS).ok()
    assert snapshots(host, zone) == ["copied"]
    host.run("exec", zone, "sh", "-c", "cat /renamed/deep/b; ls -d /x 2>/dev/null; true").ok(stdout="b\n")
    host.run("stop", "-t", "0", zone).ok()
    before = seen(host, zone)
    host.run("snapshot", "create", zone, "other").ok()
    assert seen(host, zone) == before
    host.run("snapshot", "restore", zone, "copied").ok()
    assert {name for name in seen(host, zone) if not name.endswith("/x")} == chain["s4"].keys()
    host.run("snapshot", "rm", zone, "copied", "other").ok()
    assert layers(host, zone) == []


def test_other_verbs_see_one_zone(host, zone, chain):
    new, full, image = host.name("i"), host.name("f"), f"{host.prefix}-chain"
    for name in (new, full):
        host.defer(host.remove, name)
    path = host.path("zone.tar")
    put(host, zone, "/last", "last")
    now = seen(host, zone)
    host.run("export", "-q", "-o", path, zone).ok()
    host.run("import", path, new).exits(0)
    assert seen(host, new) == now and snapshots(host, new) == list(STEPS)
    for name in ("s2", "s4"):
        host.run("snapshot", "restore", new, name).ok()
        assert seen(host, new) == chain[name]
    host.run("clone", "--full", "--snapshot", "s3", zone, full).ok()
    assert seen(host, full) == chain["s3"]
    host.run("commit", zone, image).exits(0)
    script = "cat /last /fifo /d /renamed/deep/b; readlink /link; ls -d /root /bin/vi 2>/dev/null; stat -c %a /one"
    host.run("run", "--rm", image, "sh", "-c", script).ok(stdout="last" + "file\nplain\nb\ntarget\n600\n")
    host.run("rename", zone, zone + "2").ok()
    host.defer(host.remove, zone + "2")
    assert seen(host, zone + "2") == now
    host.run("snapshot", "restore", zone + "2", "s1").ok()
    assert seen(host, zone + "2") == chain["s1"]


def test_many_snapshots(host, zone):
    """More than may lie upon one another: the rest is copied."""
    for number in range(40):
        put(host, zone, f"/f{number}", str(number))
        host.run("snapshot", "create", zone, f"s{number}").ok()
    assert len(layers(host, zone)) <= 32
    change(host, zone, "for n in $(seq 0 39); do test $(cat /f$n) = $n || exit 1; done")
    for number in (39, 35, 12):
        host.run("snapshot", "restore", zone, f"s{number}").ok()
        files = seen(host, zone)
        assert f"./f{number}" in files and f"./f{number + 1}" not in files
    host.run("snapshot", "rm", zone, *(f"s{number}" for number in range(40))).ok()
    assert layers(host, zone) == [] and seen(host, zone) == files


@pytest.mark.parametrize("verb", ["create", "rm", "restore"])
def test_killed_anywhere(host, zone, strace, verb):
    """Whatever is interrupted, the zone is what it was, and so are its snapshots."""
    change(host, zone, CHANGE)
    first = seen(host, zone, times=False)
    host.run("snapshot", "create", zone, "first").ok()
    change(host, zone, "rm -rf /d; mkdir /d; echo new > /d/new; echo more >> /one; rm /link")
    second = seen(host, zone, times=False)
    words = {"create": ("create", zone, "s"), "rm": ("rm", zone, "s"), "restore": ("restore", zone, "first")}[verb]

    def prepare():
        if verb == "restore":
            host.run("snapshot", "restore" if "kept" in snapshots(host, zone) else "create", zone, "kept").ok()
            put(host, zone, "/bad", "bad")
        elif verb == "create":
            if "s" in snapshots(host, zone):
                host.run("snapshot", "rm", zone, "s").ok()
            put(host, zone, "/again", "again")
        else:
            if "s" not in snapshots(host, zone):
                put(host, zone, "/again", "again")
                host.run("snapshot", "create", zone, "s").ok()
            put(host, zone, "/later", "later")

    def check(killed):
        now = seen(host, zone, times=False)
        if verb == "restore":
            assert now == first or killed and now == {**second, **{name: now[name] for name in now if name.endswith("/bad")}}
            return
        extra = {"create": ("again",), "rm": ("again", "later")}[verb]
        assert {name: what for name, what in now.items() if not name.endswith(extra)} == second
        assert len(now) == len(second) + len(extra)
        listed = snapshots(host, zone)
        assert killed or ("s" in listed) == (verb == "create")
        assert [name for name in listed if name != "s"] == ["first"]

    kill_everywhere(host, strace, ("snapshot", *words), prepare, check)
    for name in snapshots(host, zone):
        if name != "first":
            host.run("snapshot", "rm", zone, name).ok()
    change(host, zone, "true")
    host.run("snapshot", "restore", zone, "first").ok()
    assert seen(host, zone, times=False) == first
    host.run("snapshot", "rm", zone, "first").ok()
    assert layers(host, zone) == [] and seen(host, zone, times=False) == first
