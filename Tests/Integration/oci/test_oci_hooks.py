# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Hooks: order, place, state, environment, arguments, timeout, and what a failure of each kind does."""

import json
import os
import time

import pytest
from bundle import bind
from engine import needs
from leaks import read, until

KINDS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]

SCRIPT = """#!/bin/sh
# KIND FOLDER: writes down that it ran, where, and what it was told.
cat >"$2/$1.json"
echo "$1" >>"$2/order"
readlink /proc/self/ns/mnt >"$2/$1.mnt"
readlink /proc/self/ns/net >"$2/$1.net"
"""


class Hooks:
    """A folder of notes that hooks write into, on the host and inside."""

    def __init__(self, oci):
        self.folder = oci.directory("hooks")
        self.script = oci.path("hooks/hook", SCRIPT, mode=0o755)
        self.mounts = [bind(self.folder, "/hooks")]

    def entry(self, kind, name=None, **fields):
        """A hook of this kind that writes its note."""
        inside = kind == "startContainer"
        path, folder = ("/hooks/hook", "/hooks") if inside else (self.script, self.folder)
        env = ["PATH=/usr/bin:/bin"]
        return {"path": path, "args": ["hook", name or kind, folder], "env": env, **fields}

    def order(self):
        return read(f"{self.folder}/order").split()

    def note(self, kind, end):
        return read(f"{self.folder}/{kind}.{end}").strip()

    def state(self, kind):
        return json.loads(self.note(kind, "json"))


@pytest.fixture
def hooks(oci):
    return Hooks(oci)


def _all(hooks):
    return {"hooks": {kind: [hooks.entry(kind)] for kind in KINDS}}


@needs("zonectl", "crun", why="it runs poststart hooks after create")
def test_order(oci, hooks):
    name = oci.created(settings=_all(hooks), mounts=hooks.mounts)
    assert hooks.order() == KINDS[:3]
    oci.run("start", name).exits(0)
    assert until(lambda: hooks.order() == KINDS[:5]), hooks.order()
    oci.run("delete", "--force", name).exits(0)
    assert hooks.order() == KINDS


def test_order_of_run(oci, hooks):
    oci.go(settings=_all(hooks), mounts=hooks.mounts).exits(0)
    # The program may have ended before poststart's turn; that it comes is certain.
    assert sorted(hooks.order()) == sorted(KINDS)
    assert hooks.order()[-1] == "poststop"


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_of_one_kind_run_in_order(oci, hooks, kind):
    entries = [hooks.entry(kind, f"{kind}{number}") for number in range(3)]
    oci.go(settings={"hooks": {kind: entries}}, mounts=hooks.mounts).exits(0)
    assert hooks.order() == [f"{kind}{number}" for number in range(3)]


STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}


@pytest.mark.parametrize("kind", KINDS)
def test_state_on_stdin(oci, hooks, kind):
    settings = {**_all(hooks), "annotations": {"key": "value"}}
    name = oci.started(settings=settings, mounts=hooks.mounts)
    pid = oci.pid(name)
    until(lambda: "poststart" in hooks.order())
    if kind == "poststop":
        oci.run("delete", "--force", name).exits(0)
    state = hooks.state(kind)
    assert state["ociVersion"].startswith("1.")
    assert state["id"] == name
    assert state["annotations"] == {"key": "value"}
    if oci.runtime.kind == "zonectl":
        assert state["bundle"] == oci.path(f"bundle-{name}")
        # Of prestart older texts say that the container is created.
        assert state["status"] == STATUS[kind] or (kind, state["status"]) == ("prestart", "created")
    else:
        assert state["status"] in (STATUS[kind], "created", "creating")
    if kind in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == pid
    if kind in ("createContainer", "startContainer") and oci.runtime.kind != "crun":
        # runtime.md "State": as the container sees it; crun writes none.
        assert state["pid"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_namespace_of(oci, hooks, kind):
    """config.md: createContainer and startContainer run in the container, the others where the runtime does."""
    name = oci.started(settings=_all(hooks), mounts=hooks.mounts)
    pid = oci.pid(name)
    inside = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink(f"/proc/{pid}/ns/net")
    until(lambda: "poststart" in hooks.order())
    oci.run("delete", "--force", name).exits(0)
    shown = hooks.note(kind, "mnt"), hooks.note(kind, "net")
    if kind in ("createContainer", "startContainer"):
        assert shown == inside
    else:
        assert shown[1] == os.readlink("/proc/self/ns/net")
        assert shown[0] != inside[0]


def test_create_container_is_found_on_the_host(oci, hooks):
    """It runs in the container's namespaces, before pivot_root: its path is the host's."""
    entry = hooks.entry("createContainer")
    oci.created(settings={"hooks": {"createContainer": [entry]}})
    assert hooks.order() == ["createContainer"]


def test_create_container_may_mount_for_the_container(oci):
    script = oci.path("mount-it", f'#!/bin/sh\nmount -t tmpfs tmpfs "{oci.folder}/bundle-0/rootfs/tmp"\n', mode=0o755)
    hook = {"path": script, "env": ["PATH=/usr/bin:/bin"]}
    shown = oci.text("grep -c ' /tmp tmpfs' /proc/mounts; true", {"hooks": {"createContainer": [hook]}})
    assert shown in ("0", "1")


def test_start_container_is_found_inside(oci, hooks):
    def prepare(bundle):
        bundle.file("/only-here", "#!/bin/sh\necho ran >/note\n", 0o755)

    hook = {"path": "/only-here", "env": ["PATH=/bin"]}
    assert oci.text("cat /note", {"hooks": {"startContainer": [hook]}}, prepare=prepare) == "ran"


def test_start_container_runs_at_start_not_at_create(oci, hooks):
    name = oci.created(settings={"hooks": {"startContainer": [hooks.entry("startContainer")]}}, mounts=hooks.mounts)
    time.sleep(0.1)
    assert hooks.order() == []
    oci.run("start", name).exits(0)
    assert until(lambda: hooks.order() == ["startContainer"])


@pytest.mark.parametrize("kind", ["createRuntime", "poststart", "poststop"])
def test_environment_is_only_what_is_given(oci, kind):
    out = oci.path("out")
    script = oci.path("env", f"#!/bin/sh\nexec /usr/bin/env >{out}\n", mode=0o755)
    hook = {"path": script, "env": ["A=1", "B=two words"]}
    oci.go(settings={"hooks": {kind: [hook]}}, env={"LEAK": "leak"}).exits(0)
    lines = read(out).split("\n")
    assert {"A=1", "B=two words"} <= set(lines)
    # The shell itself adds these.
    assert {line.split("=")[0] for line in lines if line} <= {"A", "B", "PWD", "OLDPWD", "SHLVL", "_"}


@needs("zonectl", why="it gives a hook its own environment then")
def test_no_environment_is_none(oci):
    out = oci.path("out")
    script = oci.path("env", f"#!/bin/sh\nexec /usr/bin/env >{out}\n", mode=0o755)
    oci.go(settings={"hooks": {"createRuntime": [{"path": script}]}}, env={"LEAK": "leak"}).exits(0)
    assert "LEAK" not in read(out)


def test_arguments(oci):
    out = oci.path("out")
    script = oci.path("args", f'#!/bin/sh\nprintf "%s|" "$@" >{out}\n', mode=0o755)
    hook = {"path": script, "args": ["name of its own", "a b", "", "*"]}
    oci.go(settings={"hooks": {"createRuntime": [hook]}}).exits(0)
    assert read(out) == "a b||*|"


def test_a_hook_that_does_not_read_its_state(oci):
    settings = {"annotations": {f"key{n}": "x" * 1000 for n in range(200)}}
    settings["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "poststart", "poststop")}
    assert oci.text("echo in", settings) == "in"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_before_start(oci, hooks, kind):
    """An error; the container is stopped and removed, and poststop hooks run."""
    script = oci.path("fail", "#!/bin/sh\necho reason of failure >&2\nexit 3\n", mode=0o755)
    settings = {"hooks": {kind: [{"path": script}, hooks.entry(kind, "next")], "poststop": [hooks.entry("poststop")]}}
    name = oci.name()
    result = oci.create(oci.bundle(settings=settings), name)
    oci.refused(result, kind, script, name=name)
    if oci.runtime.kind == "zonectl":
        assert hooks.order() == ["poststop"]
    assert "next" not in hooks.order()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_failure_of_run(oci, kind):
    def prepare(bundle):
        bundle.file("/fail", "#!/bin/sh\nexit 3\n", 0o755)

    script = "/fail" if kind == "startContainer" else oci.path("fail", "#!/bin/sh\nexit 3\n", mode=0o755)
    result = oci.go("echo ran", {"hooks": {kind: [{"path": script}]}}, prepare=prepare)
    assert result.stdout == ""
    oci.refused(result, kind)


def test_failure_of_start_container(oci, hooks):
    """The program does not run, and the container is stopped."""

    def prepare(bundle):
        bundle.file("/fail", "#!/bin/sh\nexit 3\n", 0o755)

    name = oci.name()
    bundle = oci.bundle("echo ran; sleep 1000", {"hooks": {"startContainer": [{"path": "/fail"}]}})
    prepare(bundle)
    oci.create(bundle, name).exits(0)
    result = oci.run("start", name)
    if oci.runtime.kind == "zonectl":
        oci.refused(result, "startContainer")
    assert until(lambda: oci.status(name) in (None, "stopped"))
    assert oci.output(name) == ""


@needs("zonectl", why="it stops the container, as an older version wants it or none")
def test_failure_of_poststart_warns(oci, hooks):
    """runtime.md 1.2: a warning is logged, the other hooks and the life go on."""
    entries = [{"path": "/bin/false"}, hooks.entry("poststart")]
    name = oci.created(settings={"hooks": {"poststart": entries}})
    result = oci.run("start", name)
    assert result.status == 0
    result.says("poststart")
    assert hooks.order() == ["poststart"]
    assert oci.status(name) == "running"


def test_failure_of_poststop_warns(oci, hooks):
    """runtime.md: a warning is logged, the other hooks and the life go on."""
    entries = [{"path": "/bin/false"}, hooks.entry("poststop")]
    name = oci.stopped(settings={"hooks": {"poststop": entries}})
    oci.run("delete", name).exits(0)
    assert not oci.exists(name)
    if oci.runtime.kind == "zonectl":
        assert hooks.order() == ["poststop"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_timeout_kills(oci, kind):
    script = oci.path("slow", "#!/bin/sh\nexec sleep 30\n", mode=0o755)
    settings = {"hooks": {kind: [{"path": script, "timeout": 1, "env": ["PATH=/usr/bin:/bin"]}]}}
    name = oci.name()
    before = time.monotonic()
    result = oci.create(oci.bundle(settings=settings), name)
    assert time.monotonic() - before < 10
    oci.refused(result, kind, ("timeout", "1 s", "time"), name=name)


def test_within_the_timeout(oci, hooks):
    oci.go(settings={"hooks": {"createRuntime": [hooks.entry("createRuntime", timeout=20)]}}).exits(0)
    assert hooks.order() == ["createRuntime"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_hook_that_is_not_there(oci, kind):
    name = oci.name()
    settings = {"hooks": {kind: [{"path": "/no/such/hook"}]}}
    oci.refused(oci.create(oci.bundle(settings=settings), name), "/no/such/hook", name=name)


def test_hook_that_is_no_program(oci):
    name = oci.name()
    settings = {"hooks": {"createRuntime": [{"path": "/etc/passwd"}]}}
    oci.refused(oci.create(oci.bundle(settings=settings), name), "/etc/passwd", name=name)


def test_create_runtime_sees_the_new_network(oci):
    """This is what network plug-ins need: the pid, and a network namespace that already is."""
    out = oci.path("out")
    text = f"""#!/bin/sh
pid=$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/;t;d' | head -n 1)
readlink /proc/$pid/ns/net >{out}
"""
    script = oci.path("net", text, mode=0o755)
    name = oci.created(settings={"hooks": {"createRuntime": [{"path": script, "env": ["PATH=/usr/bin:/bin"]}]}})
    assert read(out).strip() == os.readlink(f"/proc/{oci.pid(name)}/ns/net") != os.readlink("/proc/self/ns/net")
