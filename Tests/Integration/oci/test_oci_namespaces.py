# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Namespaces: new ones, ones joined by path, and what is set up in them."""

import os
import subprocess

import pytest
from bundle import change, namespaces
from engine import needs
from leaks import until

FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "user": "user"}
FIVE = ("pid", "network", "ipc", "uts", "mount")
MAPS = {
    "linux.uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    "linux.gidMappings": [{"containerID": 0, "hostID": 200000, "size": 65536}],
}


def _own(kind, pid="self"):
    return os.readlink(f"/proc/{pid}/ns/{FILES.get(kind, kind)}")


def _shown(oci, kind, settings=None, **keywords):
    """The namespace that a container's process is in."""
    return oci.text(("readlink", f"/proc/self/ns/{FILES.get(kind, kind)}"), settings, **keywords)


@pytest.mark.parametrize("kind", [*FIVE, "cgroup"])
def test_new_namespace(oci, kind):
    kinds = dict.fromkeys((*FIVE, kind))
    assert _shown(oci, kind, {"linux.namespaces": namespaces(*kinds)}) != _own(kind)


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "user"])
def test_namespace_that_is_not_asked_for_is_the_callers(oci, kind):
    kinds = [other for other in FIVE if other != kind]
    settings = {"linux.namespaces": namespaces(*kinds)}
    if kind == "network":
        # sysfs shows a network: another user's could not be mounted, the host's can.
        settings["mounts.4.options"] = ["ro"]
    assert _shown(oci, kind, settings) == _own(kind)


@pytest.fixture
def other(oci):
    """A process of the host in new namespaces, as the pause container of a pod; returns its pid."""
    made = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup", "sleep", "1000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def child():
        with open(f"/proc/{made.pid}/task/{made.pid}/children") as file:
            return file.read().split()

    until(child)
    (pid,) = child()

    def end():
        os.kill(int(pid), 9)
        made.kill()
        made.wait()

    oci.defer(end)
    return int(pid)


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_namespace_joined_by_path(oci, other, kind):
    kinds = [own for own in FIVE if own != kind]
    settings = {"linux.namespaces": namespaces(*kinds, **{kind: f"/proc/{other}/ns/{FILES[kind]}"})}
    assert _shown(oci, kind, settings) == _own(kind, other) != _own(kind)


def test_proc_shows_the_joined_pid_namespace(oci, other):
    settings = {"linux.namespaces": namespaces(*FIVE[1:], pid=f"/proc/{other}/ns/pid")}
    shown = oci.text("cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$", settings).split("\n")
    assert shown[0].strip() == "sleep 1000"
    assert int(shown[1]) > 1


def test_all_joined_at_once(oci, other):
    paths = {kind: f"/proc/{other}/ns/{FILES[kind]}" for kind in ("pid", "network", "ipc", "uts", "cgroup")}
    settings = {"linux.namespaces": namespaces("mount", **paths)}
    shown = oci.text("for n in pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done", settings).split()
    assert shown == [_own(kind, other) for kind in ("pid", "net", "ipc", "uts", "cgroup")]


def test_namespaces_of_another_container(oci):
    """As the second container of a pod joins those of the first."""
    first = oci.started(settings={"hostname": "first"})
    pid = oci.pid(first)
    paths = {kind: f"/proc/{pid}/ns/{FILES[kind]}" for kind in ("network", "ipc", "uts")}
    settings = {"linux.namespaces": namespaces("pid", "mount", **paths)}
    assert oci.text("hostname; readlink /proc/self/ns/net", settings).split() == ["first", _own("net", pid)]


def test_first_process_is_number_1(oci):
    assert oci.text("echo $$") == "1"


def test_loopback_is_up_in_a_new_network(oci):
    """Not in the specification, but what every runtime does."""
    shown = oci.text("ip -o addr show lo; ip -o link show")
    assert "127.0.0.1/8" in shown
    assert "UP" in shown
    assert len([line for line in shown.splitlines() if "link/" in line]) == 1


def test_joined_network_is_left_as_it_is(oci, other):
    settings = {"linux.namespaces": namespaces(*[k for k in FIVE if k != "network"], network=f"/proc/{other}/ns/net")}
    assert "127.0.0.1" not in oci.text("ip -o addr show lo", settings)


def test_hostname(oci):
    before = os.uname().nodename
    assert oci.text("hostname", {"hostname": "some-host"}) == "some-host"
    assert os.uname().nodename == before


@needs("zonectl", "crun-1.21", why="no domainname")
def test_domainname(oci):
    shown = oci.text("cat /proc/sys/kernel/domainname; hostname", {"domainname": "example.org", "hostname": "h"})
    assert shown.split() == ["example.org", "h"]


def test_hostname_in_a_joined_namespace(oci, other):
    """config.md: hostname needs a uts namespace in the list, new or joined."""
    kinds = [kind for kind in FIVE if kind != "uts"]
    settings = {"hostname": "joined", "linux.namespaces": namespaces(*kinds, uts=f"/proc/{other}/ns/uts")}
    result = oci.go("hostname", settings)
    oci.strict(result)
    assert result.exits(0).stdout.strip() == "joined"


# Time


@needs("zonectl", "crun-1.21", why="no time namespace")
def test_time_namespace(oci):
    assert _shown(oci, "time", {"linux.namespaces": namespaces("time", *FIVE)}) != _own("time")


@needs("zonectl", "crun-1.21", why="no time namespace")
@pytest.mark.parametrize("seconds", [86400 * 1000, 5, 0])
def test_time_offsets(oci, seconds):
    settings = {
        "linux.namespaces": namespaces("time", *FIVE),
        "linux.timeOffsets": {"boottime": {"secs": seconds}, "monotonic": {"secs": seconds, "nanosecs": 500}},
    }
    with open("/proc/uptime") as file:
        here = float(file.read().split()[0])
    there = float(oci.text("cat /proc/uptime", settings).split()[0])
    assert seconds - 1 < there - here < seconds + 30


@needs("zonectl", why="it says nothing")
@pytest.mark.parametrize(
    "offsets", [{"realtime": {"secs": 1}}, {"boottime": {"nanosecs": 1000000000}}, {"boottime": {"secs": -(1 << 50)}}]
)
def test_bad_time_offsets(oci, offsets):
    settings = {"linux.namespaces": namespaces("time", *FIVE), "linux.timeOffsets": offsets}
    name = oci.name()
    oci.refused(oci.create(oci.bundle(settings=settings), name), "timeOffsets", name=name)


# Users


def _readable(bundle):
    """The mapped root is an ordinary user outside: it must own the mount points."""
    for folder, _, _ in os.walk(bundle.rootfs):
        os.chown(folder, 100000, 200000)


USER = {"linux.namespaces": namespaces("user", *FIVE), **MAPS}


def test_user_namespace_with_maps(oci):
    script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; readlink /proc/self/ns/user"
    shown = oci.text(script, USER, prepare=_readable).split()
    assert shown[:2] == ["0", "0"]
    assert shown[2:8] == ["0", "100000", "65536", "0", "200000", "65536"]
    assert shown[8] != _own("user")


def test_user_namespace_on_the_host(oci):
    name = oci.name()
    bundle = oci.bundle(("sleep", "1000"), {**USER, "process.user": {"uid": 5, "gid": 7}})
    _readable(bundle)
    oci.create(bundle, name).exits(0)
    oci.run("start", name).exits(0)

    def ids():
        with open(f"/proc/{oci.pid(name)}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return fields["Uid"].split()[0], fields["Gid"].split()[0]

    assert until(lambda: ids() == ("100005", "200007")), ids()


def test_several_maps(oci):
    settings = {
        **USER,
        "linux.uidMappings": [
            {"containerID": 0, "hostID": 100000, "size": 10},
            {"containerID": 1000, "hostID": 300000, "size": 5},
        ],
    }
    shown = oci.text("cat /proc/self/uid_map", settings, prepare=_readable).split()
    assert shown == ["0", "100000", "10", "1000", "300000", "5"]


def test_user_that_is_not_mapped(oci):
    name = oci.name()
    bundle = oci.bundle(settings={**USER, "process.user": {"uid": 70000, "gid": 0}})
    _readable(bundle)
    result = oci.create(bundle, name)
    if result.status == 0:
        result = oci.run("start", name)
    oci.strict(result)
    oci.run("delete", "--force", name)
    oci.refused(result, ("user", "uid", "70000"), name=name)


def test_capabilities_in_a_user_namespace_do_not_reach_out(oci):
    script = (
        "mount -t tmpfs none /tmp 2>/dev/null && echo mounted; mknod /tmp/null c 1 3 2>/dev/null && echo made; echo end"
    )
    shown = oci.text(script, {**USER, **_all_capabilities()}, prepare=_readable)
    assert "made" not in shown and "end" in shown


def _all_capabilities():
    names = ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_CHOWN"]
    return {"process.capabilities": {"bounding": names, "effective": names, "permitted": names}}


def test_user_namespace_joined_by_path(oci):
    """The maps are those of the namespace; none may be given."""
    made = subprocess.Popen(["unshare", "--user", "sleep", "1000"])
    oci.defer(made.wait)
    oci.defer(made.kill)
    assert until(lambda: _own("user", made.pid) != _own("user"))
    for kind in ("uid", "gid"):
        with open(f"/proc/{made.pid}/{kind}_map", "w") as file:
            file.write("0 100000 65536")
    settings = {"linux.namespaces": namespaces(*FIVE, user=f"/proc/{made.pid}/ns/user")}

    def prepare(bundle):
        for folder, _, _ in os.walk(bundle.rootfs):
            os.chown(folder, 100000, 100000)

    if oci.runtime.kind == "runc":
        pytest.skip("runc 1.1.5 wants maps for a joined user namespace")
    script = "readlink /proc/self/ns/user; id -u"
    assert oci.text(script, settings, prepare=prepare).split() == [_own("user", made.pid), "0"]


def test_cgroup_namespace_hides_the_host(oci):
    settings = {"linux.namespaces": namespaces("cgroup", *FIVE)}
    shown = oci.text("cat /proc/self/cgroup", settings)
    assert {line.split(":", 2)[2] for line in shown.splitlines()} <= {"/", "/../.."} | {
        line.split(":", 2)[2] for line in shown.splitlines() if line.startswith("0::")
    }


def test_namespace_paths_are_opened_before_anything_is_joined(oci, other):
    """A path may lead through /proc, which is another one after the first join."""
    paths = {kind: f"/proc/{other}/ns/{FILES[kind]}" for kind in ("pid", "network")}
    for order in (("pid", "network"), ("network", "pid")):
        config = {"linux.namespaces": [*namespaces("mount", "ipc", "uts")]}
        listed = [{"type": kind, "path": paths[kind]} for kind in order]
        change(config, "linux.namespaces", listed)
        settings = {"linux.namespaces": [*listed, *namespaces("mount", "ipc", "uts")]}
        assert _shown(oci, "network", settings) == _own("network", other)
