# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""cgroupsPath, resources in effect, pause, resume, update."""

import json
import os
import time

import pytest
from bundle import UNSET
from engine import group_of, has_legacy, needs
from leaks import cgroup_hierarchies, read, until

LEGACY = has_legacy("memory")
LIMITS = {
    "memory": ({"memory": {"limit": 1 << 26}}, "memory", "memory.limit_in_bytes", str(1 << 26), "memory.max", None),
    "reservation": (
        {"memory": {"limit": 1 << 26, "reservation": 1 << 25}},
        "memory",
        "memory.soft_limit_in_bytes",
        str(1 << 25),
        "memory.low",
        None,
    ),
    "swap": (
        {"memory": {"limit": 1 << 26, "swap": 1 << 27}},
        "memory",
        "memory.memsw.limit_in_bytes",
        str(1 << 27),
        "memory.swap.max",
        str(1 << 26),
    ),
    "no swap": (
        {"memory": {"limit": 1 << 26, "swap": 1 << 26}},
        "memory",
        "memory.memsw.limit_in_bytes",
        str(1 << 26),
        "memory.swap.max",
        "0",
    ),
    "shares": ({"cpu": {"shares": 512}}, "cpu", "cpu.shares", "512", "cpu.weight", "59"),
    "quota": (
        {"cpu": {"quota": 50000, "period": 100000}},
        "cpu",
        "cpu.cfs_quota_us",
        "50000",
        "cpu.max",
        "50000 100000",
    ),
    "period": (
        {"cpu": {"quota": 50000, "period": 200000}},
        "cpu",
        "cpu.cfs_period_us",
        "200000",
        "cpu.max",
        "50000 200000",
    ),
    "no quota": ({"cpu": {"quota": -1}}, "cpu", "cpu.cfs_quota_us", "-1", "cpu.max", "max 100000"),
    "cpus": ({"cpu": {"cpus": "0"}}, "cpuset", "cpuset.cpus", "0", "cpuset.cpus", None),
    "mems": ({"cpu": {"mems": "0"}}, "cpuset", "cpuset.mems", "0", "cpuset.mems", None),
    "pids": ({"pids": {"limit": 33}}, "pids", "pids.max", "33", "pids.max", None),
    "no pids": ({"pids": {"limit": -1}}, "pids", "pids.max", "max", "pids.max", None),
}


@pytest.mark.parametrize("resources, controller, v1, value1, v2, value2", LIMITS.values(), ids=LIMITS.keys())
def test_limit(oci, resources, controller, v1, value1, v2, value2):
    if oci.runtime.kind == "crun" and -1 in next(iter(resources.values())).values():
        pytest.skip("crun 1.8.1 writes -1 as it is")
    settings = {f"linux.resources.{key}": value for key, value in resources.items()}
    name = oci.started(settings=settings)
    value, expected = (
        (oci.group(name, controller, v1), value1)
        if LEGACY
        else (
            oci.group(name, controller, v2),
            value2 or value1,
        )
    )
    if value is None:
        pytest.skip(f"this kernel has no {v1 if LEGACY else v2}")
    assert value == expected


@needs("zonectl", "crun-1.21", why="no burst")
def test_burst(oci):
    name = oci.started(settings={"linux.resources.cpu": {"quota": 50000, "period": 100000, "burst": 20000}})
    assert oci.group(name, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == "20000"


@needs("zonectl", "crun-1.21", why="no idle")
def test_idle(oci):
    name = oci.started(settings={"linux.resources.cpu": {"idle": 1}})
    value = oci.group(name, "cpu", "cpu.idle")
    if value is None:
        pytest.skip("this kernel has no cpu.idle")
    assert value == "1"


@pytest.mark.skipif(not has_legacy("blkio"), reason="blkio is of version 1")
def test_throttle(oci):
    device = os.stat("/").st_dev
    rate = {"major": os.major(device), "minor": 0, "rate": 1 << 20}
    name = oci.created(settings={"linux.resources.blockIO": {"throttleReadBpsDevice": [rate]}})
    shown = oci.group(name, "blkio", "blkio.throttle.read_bps_device")
    assert shown == f"{os.major(device)}:0 {1 << 20}"


def test_memory_limit_has_effect(oci):
    memory = {"limit": 24 << 20, "swap": 24 << 20}
    result = oci.go(("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"), {"linux.resources.memory": memory})
    # The kernel's killer, or the program's own word.
    assert result.status in (137, 1)


def test_pids_limit_has_effect(oci):
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo end"
    result = oci.go(script, {"linux.resources.pids": {"limit": 4}})
    result.says(("fork", "resource temporarily"))


def test_cpu_quota_has_effect(oci):
    name = oci.started("while :; do :; done", {"linux.resources.cpu": {"quota": 10000, "period": 100000}})

    def throttled():
        words = dict(line.split() for line in (oci.group(name, "cpu", "cpu.stat") or "").splitlines())
        return int(words.get("nr_throttled", 0)) > 0

    assert until(throttled)


def test_cpus_have_effect(oci):
    shown = oci.text("grep Cpus_allowed_list /proc/self/status", {"linux.resources.cpu": {"cpus": "0"}})
    assert shown.split()[1] == "0"


# The others are made when a limit asks for them.
@pytest.mark.parametrize("controller", ["memory", "cpu", "pids", "devices", "blkio"])
def test_group_of_its_own(oci, controller):
    name = oci.started(settings={"linux.cgroupsPath": UNSET})
    assert group_of(oci.pid(name), controller) != group_of(os.getpid(), controller)


def test_group_of_its_own_where_the_engine_looks(oci):
    path = f"/{oci.prefix}-named"
    name = oci.started(settings={"linux.cgroupsPath": path})
    for controller in ["memory", "cpu", "cpuacct", "cpuset", "pids", "devices", "freezer", "blkio"]:
        assert group_of(oci.pid(name), controller) != group_of(os.getpid(), controller), controller


def test_absolute_cgroups_path(oci):
    path = f"/{oci.prefix}-top/inner"
    name = oci.started(settings={"linux.cgroupsPath": path, "linux.resources.pids": {"limit": 33}})
    assert group_of(oci.pid(name), "pids").endswith(path)
    oci.run("delete", "--force", name).exits(0)
    # What it made above its own group is not the container's: engines put pods there.
    for top in _tops(f"{oci.prefix}-top"):
        os.rmdir(top)


def _tops(name):
    """Groups of this name in all hierarchies, at any depth."""
    found = []
    for hierarchy in cgroup_hierarchies():
        for folder, folders, _ in os.walk(hierarchy):
            found += [os.path.join(folder, entry) for entry in folders if entry == name]
    return found


def test_relative_cgroups_path(oci):
    path = f"{oci.prefix}-top/inner"
    name = oci.started(settings={"linux.cgroupsPath": path})
    assert group_of(oci.pid(name), "pids").endswith("/" + path)
    oci.run("delete", "--force", name).exits(0)
    for top in _tops(f"{oci.prefix}-top"):
        os.rmdir(top)


def test_same_relative_path_is_the_same_place(oci):
    """config-linux.md: the same value must lead to the same place."""
    places = []
    for number in range(2):
        name = oci.started(settings={"linux.cgroupsPath": f"{oci.prefix}-same"})
        places.append(group_of(oci.pid(name), "pids"))
        oci.run("delete", "--force", name).exits(0)
    assert places[0] == places[1]


def test_groups_are_removed(oci):
    name = oci.started()
    groups = {group_of(oci.pid(name), c) for c in ("memory", "cpu", "pids", "blkio", "devices")}
    assert all(os.path.isdir(group) for group in groups)
    oci.run("delete", "--force", name).exits(0)
    assert not any(os.path.isdir(group) for group in groups)


@needs("zonectl", why="it goes up in the tree, or takes it as it is")
@pytest.mark.parametrize("path", ["../../outside", "/a/../../outside"])
def test_cgroups_path_that_leads_out(oci, path):
    name = oci.name()
    result = oci.create(oci.bundle(("sleep", "1000"), {"linux.cgroupsPath": path}), name)
    if result.status == 0:
        # Cleaned, it may stay below the hierarchy.
        assert group_of(oci.pid(name), "pids").startswith("/sys/fs/cgroup/")
        assert ".." not in group_of(oci.pid(name), "pids")
        oci.run("delete", "--force", name).exits(0)
        for top in _tops("outside"):
            os.rmdir(top)
    else:
        oci.refused(result, "cgroupsPath", name=name)


# Pause and resume

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"


def test_pause_and_resume(oci):
    name = oci.started(COUNT)
    oci.said(name, "3\n")
    oci.run("pause", name).ok("")
    assert oci.status(name) == "paused"
    before = oci.output(name)
    time.sleep(0.2)
    assert oci.output(name) == before
    oci.run("resume", name).ok("")
    assert oci.status(name) == "running"
    assert until(lambda: oci.output(name) != before)


def test_pause_of_a_created_container(oci):
    """The specification does not know the verb; runc refuses what does not run."""
    name = oci.created()
    result = oci.run("pause", name)
    if oci.runtime.kind == "zonectl":
        assert result.status == 1
        assert oci.status(name) == "created"
    else:
        oci.run("resume", name)


def test_ps_of_a_paused_container(oci):
    name = oci.started()
    oci.run("pause", name).exits(0)
    assert oci.run("ps", "--format", "json", name).exits(0).json == [oci.pid(name)]
    oci.run("resume", name).exits(0)


# Update

FLAGS = [
    (("--memory", str(1 << 27)), "memory", "memory.limit_in_bytes", "memory.max", str(1 << 27), None),
    (("--memory-reservation", str(1 << 25)), "memory", "memory.soft_limit_in_bytes", "memory.low", str(1 << 25), None),
    (("--cpu-share", "256"), "cpu", "cpu.shares", "cpu.weight", "256", "35"),
    (("--cpu-quota", "30000"), "cpu", "cpu.cfs_quota_us", "cpu.max", "30000", "30000 100000"),
    (("--cpu-quota", "30000", "--cpu-period", "50000"), "cpu", "cpu.cfs_period_us", "cpu.max", "50000", "30000 50000"),
    (("--cpuset-cpus", "0"), "cpuset", "cpuset.cpus", "cpuset.cpus", "0", None),
    (("--cpuset-mems", "0"), "cpuset", "cpuset.mems", "cpuset.mems", "0", None),
    (("--pids-limit", "44"), "pids", "pids.max", "pids.max", "44", None),
]


@pytest.mark.parametrize("flags, controller, v1, v2, value1, value2", FLAGS, ids=[" ".join(f[0]) for f in FLAGS])
def test_update_by_flags(oci, flags, controller, v1, v2, value1, value2):
    name = oci.started()
    oci.run("update", *flags, name).ok("")
    assert oci.group(name, controller, v1 if LEGACY else v2) == (value1 if LEGACY else value2 or value1)


@needs("zonectl", why="no such flag")
def test_update_of_the_burst(oci):
    name = oci.started(settings={"linux.resources.cpu": {"quota": 50000, "period": 100000}})
    oci.run("update", "--cpu-burst", "10000", name).ok("")
    assert oci.group(name, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == "10000"


@pytest.mark.parametrize("source", ["-", "file"])
@pytest.mark.parametrize("option", ["-r", "--resources"])
def test_update_by_json(oci, source, option):
    name = oci.started()
    text = json.dumps({"pids": {"limit": 55}, "cpu": {"shares": 512}})
    if source == "-":
        oci.run("update", option, "-", name, stdin=text).ok("")
    else:
        oci.run("update", option, oci.path("resources.json", text), name).ok("")
    assert oci.group(name, "pids", "pids.max") == "55"
    assert oci.group(name, "cpu", "cpu.shares", "cpu.weight") in ("512", "59")


def test_update_leaves_the_rest(oci):
    name = oci.started(settings={"linux.resources.pids": {"limit": 33}, "linux.resources.memory": {"limit": 1 << 27}})
    oci.run("update", "--memory", str(1 << 26), name).ok("")
    assert oci.group(name, "pids", "pids.max") == "33"
    assert oci.group(name, "memory", "memory.limit_in_bytes", "memory.max") == str(1 << 26)


def test_update_keeps_devices_ruled(oci):
    name = oci.started(settings={"linux.devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]})
    oci.run("update", "--pids-limit", "50", name).ok("")
    assert oci.run("exec", name, "sh", "-c", "exec 3</dev/fuse").status != 0


@pytest.mark.parametrize("memory", [1 << 25, 1 << 28])
def test_memory_and_swap_up_and_down(oci, memory):
    """The kernel wants one written before the other, depending on the direction."""
    name = oci.started(settings={"linux.resources.memory": {"limit": 1 << 26, "swap": 1 << 26}})
    oci.run("update", "--memory", str(memory), "--memory-swap", str(memory), name).ok("")
    assert oci.group(name, "memory", "memory.limit_in_bytes", "memory.max") == str(memory)


def test_update_of_a_created_container(oci):
    name = oci.created()
    oci.run("update", "--pids-limit", "44", name).ok("")
    assert oci.group(name, "pids", "pids.max") == "44"


def test_update_of_a_paused_container(oci):
    name = oci.started()
    oci.run("pause", name).exits(0)
    oci.run("update", "--pids-limit", "44", name).exits(0)
    assert oci.group(name, "pids", "pids.max") == "44"
    assert oci.status(name) == "paused"
    oci.run("resume", name).exits(0)


@pytest.mark.parametrize(
    "flags",
    [
        ("--memory", "lots"),
        ("--pids-limit", "x"),
        ("--cpu-quota", ""),
        ("--cpuset-cpus", "4000"),
        ("--cpu-share", "-1"),
        ("--memory", "99999999999999999999999"),
    ],
)
def test_update_by_bad_flags(oci, flags):
    name = oci.started()
    result = oci.run("update", *flags, name)
    oci.strict(result)
    oci.refused(result, flags[0].lstrip("-").split("-")[-1])
    assert oci.status(name) == "running"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pids": {"limit": "x"}}', "null"])
def test_update_by_bad_json(oci, text):
    name = oci.started(settings={"linux.resources.pids": {"limit": 33}})
    result = oci.run("update", "--resources", "-", name, stdin=text)
    oci.strict(result)
    oci.refused(result, ("resources", "json"))
    assert oci.group(name, "pids", "pids.max") == "33"


def test_update_that_fails_leaves_the_old_limits(oci):
    name = oci.started(settings={"linux.resources.pids": {"limit": 33}, "linux.resources.cpu": {"shares": 512}})
    before = oci.group(name, "cpu", "cpu.shares", "cpu.weight")
    result = oci.run("update", "--cpuset-cpus", "4000", name)
    oci.strict(result)
    assert oci.group(name, "cpu", "cpu.shares", "cpu.weight") == before
    assert oci.group(name, "pids", "pids.max") == "33"


def test_machine_itself_is_not_limited(oci):
    before = read("/sys/fs/cgroup/pids/pids.max"), read("/sys/fs/cgroup/cpu/cpu.shares")
    oci.go(settings={"linux.resources.pids": {"limit": 5}, "linux.resources.cpu": {"shares": 2}}).exits(0)
    assert (read("/sys/fs/cgroup/pids/pids.max"), read("/sys/fs/cgroup/cpu/cpu.shares")) == before
