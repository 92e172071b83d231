# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""The engine face as an ordinary user."""

import json
import os
import shutil
import subprocess
import uuid

import pytest
from bundle import UNSET
from engine import needs
from leaks import until

USER = 54321


@pytest.fixture
def user(oci):
    """The runtime as called by a user who owns a folder and nothing else; the numbers are that user's."""
    os.chown(oci.folder, USER, USER)
    for name in ("root", "run"):
        os.chown(oci.directory(name), USER, USER)
    oci.user_id = USER
    oci.environment["XDG_RUNTIME_DIR"] = oci.path("run")
    return USER


def _rootless(oci, args, settings=None, name="bundle"):
    """A bundle with the configuration that `spec --rootless` writes."""
    bundle = oci.bundle(name=name)
    os.unlink(bundle.path / "config.json")
    _own(bundle)
    oci.run("spec", "--rootless", "--bundle", bundle).exits(0)
    config = json.loads((bundle.path / "config.json").read_text())
    words = ["sh", "-c", args] if isinstance(args, str) else list(args)
    config["process"].update(terminal=False, args=words)
    # The machine may allow less than spec asks for.
    config["process"].pop("rlimits", None)
    config["root"]["readonly"] = False
    if oci.runtime.kind == "crun":
        # It writes a network of its own, for which sysfs would have to be mounted anew, and the ids of the caller only.
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup"]
    bundle.config = config
    for path, value in (settings or {}).items():
        bundle.change(**{path.replace(".", "__"): value})
    bundle.write()
    _own(bundle)
    return bundle


def _own(bundle):
    for folder, folders, files in os.walk(bundle.path):
        os.chown(folder, USER, USER)
        for name in folders + files:
            # Not the program itself, which all bundles share.
            if name != "busybox":
                os.chown(os.path.join(folder, name), USER, USER, follow_symlinks=False)


@pytest.fixture
def maps(oci):
    """A user of the system with subordinate ids."""
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap is not installed (Debian package uidmap)")
    name = f"zt{uuid.uuid4().hex[:8]}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", "--uid", str(USER), name], check=True)
    oci.defer(subprocess.run, ["userdel", name])
    for kind in ("--add-subuids", "--add-subgids"):
        subprocess.run(["usermod", kind, "700000-765535", name], check=True)
    return 700000


def test_run(oci, user):
    result = oci.run("run", "--bundle", _rootless(oci, "id -u"), oci.owned(oci.name()))
    assert result.exits(0).stdout.split() == ["0"]


def _map(oci, name):
    """As seen from the host: runtimes may have namespaces of their own between."""
    with open(f"/proc/{oci.pid(name)}/uid_map") as file:
        return file.read().split()


def test_life(oci, user):
    name = oci.name()
    oci.create(_rootless(oci, ("sleep", "1000")), name).exits(0)
    assert oci.status(name) == "created"
    oci.run("start", name).exits(0)
    assert oci.status(name) == "running"
    assert os.stat(f"/proc/{oci.pid(name)}").st_uid == USER
    assert _map(oci, name) == ["0", str(USER), "1"]
    oci.run("kill", name, "KILL").exits(0)
    oci.wait_for(name, "stopped")
    oci.run("delete", name).exits(0)
    assert not oci.exists(name)


def test_exec(oci, user):
    name = oci.name()
    oci.create(_rootless(oci, ("sleep", "1000")), name).exits(0)
    oci.run("start", name).exits(0)
    assert oci.run("exec", name, "sh", "-c", "id -u; exit 3").exits(3).stdout == "0\n"


def test_delete_force(oci, user):
    name = oci.name()
    oci.create(_rootless(oci, ("sleep", "1000")), name).exits(0)
    oci.run("start", name).exits(0)
    oci.run("delete", "--force", name).exits(0)
    assert not oci.exists(name)


def test_list(oci, user):
    name = oci.name()
    oci.create(_rootless(oci, ("sleep", "1000")), name).exits(0)
    (entry,) = oci.run("list", "--format", "json").exits(0).json
    assert (entry["id"], entry["status"]) == (name, "created")


def test_files_that_it_makes_are_the_users(oci, user):
    bundle = _rootless(oci, "echo text >/tmp/new")
    oci.run("run", "--bundle", bundle, oci.owned(oci.name())).exits(0)
    assert os.stat(bundle.rootfs / "tmp/new").st_uid == USER


def test_it_gains_nothing(oci, user):
    script = "cat /etc/shadow 2>&1; mknod /tmp/sda b 8 0 2>&1; chown 5 /tmp 2>&1; echo end"
    shown = oci.run("run", "--bundle", _rootless(oci, script), oci.owned(oci.name())).exits(0).stdout
    assert "root:" not in shown
    assert "end" in shown
    assert not os.path.exists(oci.path("bundle/rootfs/tmp/sda"))


@needs("zonectl", why="it leaves limits out, or says so in other words")
def test_limits_that_are_not_delegated(oci, user):
    """Limits only where delegated, and said so plainly: an error that names the limit."""
    name = oci.name()
    result = oci.create(_rootless(oci, ("true",), {"linux.resources": {"memory": {"limit": 1 << 26}}}), name)
    oci.refused(result, "memory", ("delegat", "permission", "ordinary user", "root"), name=name)


def test_no_limits_no_word(oci, user):
    bundle = _rootless(oci, ("echo", "in"), {"linux.resources": UNSET})
    result = oci.run("run", "--bundle", bundle, oci.owned(oci.name())).exits(0)
    assert result.stdout == "in\n"
    # crun lets newuidmap speak.
    assert result.stderr == "" or oci.runtime.kind == "crun"


@needs("zonectl", "crun", why="it wants to be told")
def test_without_a_user_namespace(oci, user):
    name = oci.name()
    bundle = _rootless(oci, ("true",))
    kinds = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "user"]
    bundle.change(linux__namespaces=kinds, linux__uidMappings=UNSET, linux__gidMappings=UNSET)
    _own(bundle)
    oci.create(bundle, name).exits(0)
    assert _map(oci, name) == ["0", str(USER), "1"]


def test_foreign_map(oci, user):
    """Ids that nobody gave to the user."""
    name = oci.name()
    maps = [{"containerID": 0, "hostID": 0, "size": 1}]
    bundle = _rootless(oci, ("true",), {"linux.uidMappings": maps, "linux.gidMappings": maps})
    oci.refused(oci.create(bundle, name), ("map", "newuidmap"), name=name)


def test_foreign_container(oci, user):
    """Another's container can neither be seen nor touched."""
    oci.user_id = None
    mine = oci.root
    oci.root = oci.directory("roots")
    os.chmod(oci.root, 0o700)
    name = oci.started()
    pid = oci.pid(name)
    oci.user_id = user
    for words in (("state", name), ("kill", name, "KILL"), ("exec", name, "true"), ("delete", "--force", name)):
        result = oci.run(*words)
        assert result.status != 0 or words[0] == "delete"
    oci.user_id = None
    assert oci.pid(name) == pid
    oci.run("delete", "--force", name).exits(0)
    oci.root = mine


def test_subordinate_ids(oci, user, maps):
    both = [{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": maps, "size": 1000}]
    name = oci.name()
    oci.create(_rootless(oci, ("true",), {"linux.uidMappings": both, "linux.gidMappings": both}), name).exits(0)
    assert _map(oci, name) == ["0", str(USER), "1", "1", str(maps), "1000"]


def test_subordinate_user(oci, user, maps):
    both = [{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": maps, "size": 1000}]
    settings = {"linux.uidMappings": both, "linux.gidMappings": both, "process.user": {"uid": 5, "gid": 7}}
    name = oci.name()
    oci.create(_rootless(oci, ("sleep", "1000"), settings), name).exits(0)
    oci.run("start", name).exits(0)
    assert until(lambda: os.stat(f"/proc/{oci.pid(name)}").st_uid == maps + 4)
