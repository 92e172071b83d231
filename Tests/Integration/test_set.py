# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`set`: limits of zones that run are changed, seen by their effect; what fails changes nothing."""

import json
import os
import resource
import signal

import pytest
from leaks import read, until
from limits import SPIN, has_controller, memory, quota, rate, value

DD = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]


def resources(host, name):
    return host.inspect(name)["definition"].get("resources", {})


def state(host, name):
    """All that a change touches: the groups, what the zone runs with, what it is."""
    zone = host.inspect(name)
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.max"]
    names += ["memory.swap.max", "memory.low", "cpu.shares", "cpu.weight", "cpu.cfs_quota_us", "cpu.cfs_burst_us"]
    names += ["cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems", "pids.max"]
    files = {os.path.join(group, name): None for group in zone["cgroups"] for name in names}
    return {path: read(path) for path in files if os.path.exists(path)}, zone["cgroups"], zone["config"], zone["definition"]


# By effect


def test_memory(zone_host):
    name = zone_host.start(options=["--memory", "512M"])
    zone_host.run("exec", name, *DD).exits(0)
    zone_host.run("set", name, "--memory", "48M").ok(stdout=f"{name}\n")
    assert memory(zone_host, name) == str(48 << 20)
    zone_host.run("exec", name, *DD).exits(137)
    # Up again, where the limit of memory and swap is in the way of the first of the two.
    zone_host.run("set", name, "-m", "512M").ok()
    zone_host.run("exec", name, *DD).exits(0)
    zone_host.run("set", name, "-m", "0").ok()
    assert not memory(zone_host, name).startswith(str(512 << 20))
    assert "memory" not in resources(zone_host, name)


def test_cpus_down_and_away(zone_host):
    name = zone_host.start(command=SPIN)
    before = rate(zone_host, name)
    zone_host.run("set", name, "--cpus", "0.1").ok()
    capped = rate(zone_host, name)
    assert capped < 0.16 and capped < before, (before, capped)
    zone_host.run("set", name, "--cpus", "0").ok()
    assert quota(zone_host, name) == -1
    # Others want the CPU, too; twice the cap is more than the cap.
    assert until(lambda: rate(zone_host, name, 0.5) > 0.2)


def test_pids(zone_host):
    # With --init what has ended is reaped, and counts no more.
    name = zone_host.start(options=["--init"])
    script = "for i in 1 2 3 4 5 6; do sleep 3 & done; echo all"
    zone_host.run("exec", name, "sh", "-c", script).ok(stdout="all\n")
    assert until(lambda: value(zone_host, name, "pids.current") == "2")
    zone_host.run("set", name, "--pids-limit", "5").ok()
    result = zone_host.run("exec", name, "sh", "-c", script).says("fork")
    result.check("all" not in result.stdout, "there was no limit")
    zone_host.run("set", name, "--pids-limit", "-1").ok()
    assert value(zone_host, name, "pids.max") == "max"


def test_cpuset_of_a_zone_that_had_none(zone_host):
    """On version 1 the zone moves into a group that it did without until now."""
    if os.cpu_count() < 2 or not has_controller("cpuset"):
        pytest.skip("this machine has one CPU, or no cpuset controller")
    name = zone_host.start(command=["sh", "-c", "while :; do nproc; sleep 0.1; done"])
    zone_host.run("exec", name, "nproc").ok(stdout=f"{len(os.sched_getaffinity(0))}\n")
    zone_host.run("set", name, "--cpuset-cpus", "1").ok()
    zone_host.run("exec", name, "grep", "Cpus_allowed_list", "/proc/1/status").ok(stdout="Cpus_allowed_list:\t1\n")
    zone_host.run("exec", name, "nproc").ok(stdout="1\n")
    pid = str(zone_host.pid(name))
    groups = zone_host.inspect(name)["cgroups"]
    assert all(pid in read(os.path.join(group, "cgroup.procs")).split() for group in groups), groups
    zone_host.run("set", name, "--cpuset-cpus", "all").ok()
    zone_host.run("exec", name, "nproc").ok(stdout=f"{len(os.sched_getaffinity(0))}\n")
    zone_host.run("stop", "-t", "0", name).exits(0)
    assert not any(os.path.isdir(group) for group in groups), "the added group was left"


def test_added_group_goes_with_a_zone_that_removes_itself(zone_host):
    if not has_controller("cpuset"):
        pytest.skip("this machine has no cpuset controller")
    name = zone_host.start(options=["--rm"])
    zone_host.run("set", name, "--cpuset-cpus", "0").ok()
    groups = zone_host.inspect(name)["cgroups"]
    zone_host.run("kill", name).ok()
    assert until(lambda: zone_host.status(name) is None)
    assert not any(os.path.isdir(group) for group in groups), groups


def test_burst(zone_host):
    name = zone_host.start(options=["--cpus", "0.5"])
    burst = ("cpu.cfs_burst_us", "cpu.max.burst")
    if not zone_host.cgroup_file(name, *burst):
        pytest.skip("this kernel has no burst (Linux 5.14)")
    zone_host.run("set", name, "--burst", "50ms").ok()
    assert value(zone_host, name, *burst) == "50000"
    # Lower together and higher together: either order of the two is refused by the kernel once.
    zone_host.run("set", name, "--cpus", "0.1", "--burst", "10ms").ok()
    assert (quota(zone_host, name), value(zone_host, name, *burst)) == (10000, "10000")
    zone_host.run("set", name, "--cpus", "2", "--burst", "200ms").ok()
    assert (quota(zone_host, name), value(zone_host, name, *burst)) == (200000, "200000")
    zone_host.run("set", name, "--cpus", "0").ok()
    assert (quota(zone_host, name), value(zone_host, name, *burst)) == (-1, "0")


def test_shares_and_weight(zone_host):
    name = zone_host.start(options=["--cpu-shares", "512"])
    zone_host.run("set", name, "--cpu-shares", "2048").ok()
    assert value(zone_host, name, "cpu.shares", "cpu.weight") in ("2048", "174")
    zone_host.run("set", name, "--cpu-shares", "0").ok()
    assert value(zone_host, name, "cpu.shares", "cpu.weight") in ("1024", "100")


def test_reservation(zone_host):
    name = zone_host.start(options=["--memory", "64M"])
    files = ("memory.soft_limit_in_bytes", "memory.low")
    zone_host.run("set", name, "--memory-reservation", "32M").ok()
    assert value(zone_host, name, *files) == str(32 << 20)
    zone_host.run("set", name, "--memory-reservation", "0").ok()
    none = value(zone_host, name, *files)
    # No soft limit is the largest number on version 1, and no protection on version 2.
    assert none == "0" if zone_host.cgroup_file(name, "memory.low") else int(none) > 1 << 60


# What stays


def test_what_is_not_named_stays(zone_host):
    name = zone_host.start(options=["--memory", "64M", "--pids-limit", "50", "--cpus", "1"])
    zone_host.run("set", name, "--pids-limit", "60").ok()
    assert (memory(zone_host, name), quota(zone_host, name)) == (str(64 << 20), 100000)
    zone = zone_host.inspect(name)
    for kept in (zone["definition"]["resources"], zone["config"]["linux"]["resources"]):
        assert (kept["pids"]["limit"], kept["memory"]["limit"], kept["cpu"]["quota"]) == (60, 64 << 20, 100000), kept
    assert zone["config"]["linux"]["resources"]["devices"], "the device rules are gone"


def test_stopped_zone_keeps_it_for_its_next_start(zone_host):
    name = zone_host.start()
    zone_host.run("stop", "-t", "0", name).exits(0)
    zone_host.run("set", name, "--memory", "64M", "--label", "a=b").ok(stdout=f"{name}\n")
    assert resources(zone_host, name)["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert zone_host.inspect(name)["definition"]["labels"] == {"a": "b"}
    assert zone_host.status(name) == "stopped"


def test_labels(zone_host):
    name = zone_host.start(options=["--label", "a=1", "--label", "b=2"])
    zone_host.run("set", name, "--label", "b=3", "--label", "c").ok()
    assert zone_host.inspect(name)["definition"]["labels"] == {"a": "1", "b": "3", "c": ""}
    assert zone_host.inspect(name)["config"]["annotations"]["b"] == "3"


def test_several_zones(zone_host):
    names = [zone_host.start("a"), zone_host.start("b")]
    result = zone_host.run("set", *names, "no-such-zone", "--pids-limit", "70").exits(125).says("no-such-zone")
    result.check(result.stdout.split() == names, "not the names")
    assert [value(zone_host, name, "pids.max") for name in names] == ["70", "70"]


# Showing


def test_without_options_limits_are_shown(zone_host):
    name = zone_host.start(options=["--memory", "64M", "--cpus", "1.5", "--burst", "50ms"])
    rows = {row[1]: " ".join(row[2:]) for row in map(str.split, zone_host.run("set", name).ok().lines)}
    assert rows["LIMIT"] == "VALUE"
    assert (rows["memory"], rows["cpus"], rows["burst"], rows["pids-limit"]) == ("64 MiB", "1.5", "50 ms", "-"), rows
    zone_host.run("set", name, "--pids-limit", "9").ok()
    shown = zone_host.run("set", "--json", name).ok().json
    assert shown[0]["name"] == name and "devices" not in shown[0]["resources"], shown
    assert shown[0]["resources"]["pids"] == {"limit": 9} and shown[0]["resources"]["cpu"]["burst"] == 50000, shown


# What fails changes nothing


@pytest.mark.parametrize(
    "options, words",
    [
        (["--burst", "60ms"], ["--burst", "quota", "at most"]),
        (["--cpus", "0.1", "--burst", "20ms"], ["--burst", "quota"]),
        (["--cpus", "0", "--burst", "20ms"], ["--burst", "without --cpus"]),
        (["--memory-swap", "1M"], ["--memory-swap", "below"]),
        (["--memory-reservation", "1G"], ["--memory-reservation", "above"]),
        (["--memory", "32M", "--cpuset-cpus", "4000"], ["--cpuset-cpus", "4000", "nothing was changed"]),
        (["--cpu-shares", "77", "--cpus", "2", "--cpuset-mems", "500"], ["--cpuset-mems", "nothing was changed"]),
        (["--cpus", "nan"], ["--cpus"]),
        (["--memory", "banana"], ["--memory"]),
        (["--memory", ""], ["--memory"]),
        (["--cpuset-cpus", ""], ["--cpuset-cpus"]),
        (["--device-read-bps", "/dev/null:1M"], ["--device-read-bps", "/dev/null", "not a disk"]),
        (["--env", "A=B"], ["--env", "when a zone is made"]),
        (["--network", "host"], ["--network", "when a zone is made"]),
        (["-v", "/tmp:/tmp"], ["--volume", "when a zone is made"]),
        (["--nonsense"], ["--nonsense"]),
        (["--json", "--cpus", "1"], ["--json"]),
    ],
    ids=" ".join,
)
def test_what_fails_changes_nothing(zone_host, options, words):
    name = zone_host.start(options=["--memory", "64M", "--cpus", "0.5", "--burst", "5ms", "--cpu-shares", "500"])
    before = state(zone_host, name)
    zone_host.run("set", name, *options).fails(125, *words)
    assert state(zone_host, name) == before
    assert zone_host.status(name) == "running"


def test_memory_below_what_is_in_use(zone_host):
    fill = "dd if=/dev/zero of=/dev/shm/fill bs=1M count=40 2>/dev/null; echo full >/full; sleep 1000"
    name = zone_host.start(command=["sh", "-c", fill], options=["--memory", "64M", "--memory-swap", "64M"])
    assert until(lambda: zone_host.run("exec", name, "cat", "/full").stdout == "full\n")
    before = state(zone_host, name)
    result = zone_host.run("set", name, "--memory", "20M", "--pids-limit", "50")
    result.fails(125, "--memory", "20 MiB", "in use", "--force")
    assert state(zone_host, name) == before
    assert zone_host.status(name) == "running"
    if zone_host.cgroup_file(name, "memory.limit_in_bytes"):
        # Version 1's kernel does not take it either; on version 2 it would kill.
        result = zone_host.run("set", name, "--pids-limit", "50", "--memory", "20M", "--force")
        result.fails(125, "--memory", "in use", "nothing was changed")
        assert state(zone_host, name) == before
    zone_host.run("exec", name, "rm", "/dev/shm/fill").ok()
    zone_host.run("set", name, "--memory", "20M", "--memory-swap", "20M").ok()
    assert memory(zone_host, name) == str(20 << 20)


def test_pids_below_what_is_in_use(zone_host):
    name = zone_host.start(command=["sh", "-c", "for i in 1 2 3 4 5; do sleep 1000 & done; wait"])
    assert until(lambda: int(value(zone_host, name, "pids.current")) == 6)
    zone_host.run("set", name, "--pids-limit", "3").fails(125, "--pids-limit", "6 tasks", "--force")
    assert value(zone_host, name, "pids.max") == "max"
    zone_host.run("set", name, "--pids-limit", "3", "--force").ok()
    assert value(zone_host, name, "pids.max") == "3"
    assert zone_host.status(name) == "running"


def test_definition_that_cannot_be_written(own_store):
    """The groups go back when the change cannot be kept."""
    name = own_store.start(options=["--pids-limit", "50"])
    folder = os.path.join(own_store.store, "zones", name)
    before = state(own_store, name), os.listdir(folder)

    def no_room():
        # As on a disk that is full: each write to a file fails, and the signal that tells so kills nobody.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    words = ["--pids-limit", "60", "--memory", "64M"]
    # Before the groups are changed (a group more is to be recorded first), and after that.
    for more in (["--cpuset-cpus", "0"], []):
        own_store.run("set", name, *words, *more, preexec=no_room).fails(125, name, "file too large")
        assert (state(own_store, name), os.listdir(folder)) == before
    own_store.run("set", name, *words, "--cpuset-cpus", "0").ok()


def test_zone_of_a_bundle_is_its_engines(zone_host, busybox):
    bundle = zone_host.directory("bundle")
    zone_host.run("spec", "-b", bundle).ok()
    path = os.path.join(bundle, "config.json")
    config = json.loads(read(path))
    program = os.path.join(zone_host.directory("bundle/rootfs"), "sleep")
    with open(program, "wb") as file:
        file.write(busybox)
    os.chmod(program, 0o755)
    config["process"].update(terminal=False, args=["/sleep", "1000"], rlimits=[])
    with open(path, "w") as file:
        json.dump(config, file)
    name = zone_host.name("bundle")
    zone_host.defer(zone_host.run, "delete", "--force", name)
    zone_host.run("create", "-b", bundle, name, stdout=None, stderr=None).exits(0)
    zone_host.run("set", name, "--cpus", "1").fails(125, "bundle", "zonectl update")
    zone_host.run("set", name).fails(125, "bundle")


def test_no_zone(zone_host):
    zone_host.run("set").fails(125, "name of a zone")
    zone_host.run("set", "nobody", "--cpus", "1").fails(125, "nobody")


def test_damaged_record(own_store):
    name = own_store.start()
    path = os.path.join(own_store.root, name, "state.json")
    text = read(path)
    with open(path, "w") as file:
        file.write("{")
    own_store.run("set", name, "--cpus", "1").fails(125, name, "damaged")
    with open(path, "w") as file:
        file.write(text)
