# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Limits: read back from the control groups (v1 and v2), and seen in effect."""

import os

import pytest
from leaks import cgroup_hierarchies, parent_name, read, until


def has_controller(name):
    """Whether the machine offers a controller to zones, on a v1 hierarchy or on v2."""
    for line in read("/proc/self/mountinfo").splitlines():
        kind, _, options = line.split(" - ")[1].split(" ")
        if kind == "cgroup" and name in options.split(","):
            return True
    return any(name in read(os.path.join(top, "cgroup.controllers")).split() for top in cgroup_hierarchies())


def value(host, name, *files):
    """What a zone's group holds in the first of these files; skips where the machine has no such controller."""
    controller = files[0].split(".")[0]
    if not has_controller(controller):
        pytest.skip(f"this machine has no {controller} controller")
    path = host.cgroup_file(name, *files)
    assert path, f"none of {files} in {host.inspect(name)['cgroups']}"
    return read(path).strip()


def test_zone_has_groups_below_its_parent(zone_host):
    name = zone_host.start()
    groups = zone_host.inspect(name)["cgroups"]
    assert groups and all(os.path.basename(path) == name and os.path.isdir(path) for path in groups), groups
    # What the leak check relies on.
    assert {os.path.basename(os.path.dirname(path)) for path in groups} == {parent_name(zone_host.root)}, groups
    pid = str(zone_host.pid(name))
    assert all(pid in read(os.path.join(path, "cgroup.procs")).split() for path in groups), groups


def test_memory_is_read_back(zone_host):
    name = zone_host.start(options=["--memory", "64M"])
    assert value(zone_host, name, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    # Without this a zone would only be slowed down by swapping.
    swap = zone_host.cgroup_file(name, "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert swap is None or read(swap).strip() in (str(64 << 20), "0", str(128 << 20)), read(swap)


@pytest.mark.parametrize(
    "size, expected",
    [
        ("64m", 64 << 20),
        ("64MiB", 64 << 20),
        ("65536k", 64 << 20),
        ("67108864", 64 << 20),
        ("1G", 1 << 30),
        ("=1g", 1 << 30),
    ],
)
def test_sizes(zone_host, size, expected):
    options = [f"--memory{size}"] if size.startswith("=") else ["--memory", size]
    name = zone_host.start(options=options)
    assert value(zone_host, name, "memory.limit_in_bytes", "memory.max") == str(expected)


def test_process_over_memory_is_killed_and_the_reason_is_printed(zone_host):
    name = zone_host.name()
    result = zone_host.run(
        "run",
        "--rm",
        "--name",
        name,
        "--memory",
        "32M",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=200M",
        "count=1",
    )
    result.exits(137).says(f"zonectl: zone {name}: out of memory", "killed at the limit of")


def test_child_over_memory_is_killed_and_the_reason_is_printed(zone_host):
    script = "dd if=/dev/zero of=/dev/null bs=200M count=1; echo after=$?"
    result = zone_host.zone(script, "--memory", "32M").exits(0).says("out of memory", "1 process")
    result.check(result.stdout == "after=137\n", "the shell did not go on")


def test_under_memory_nothing_is_printed(zone_host):
    zone_host.zone("dd if=/dev/zero of=/dev/null bs=1M count=1 2>/dev/null", "--memory", "64M").ok()


@pytest.mark.parametrize("cpus, quota", [("0.5", 50000), ("2", 200000), ("1.25", 125000)])
def test_cpus(zone_host, cpus, quota):
    name = zone_host.start(options=["--cpus", cpus])
    text = value(zone_host, name, "cpu.cfs_quota_us", "cpu.max")
    period = zone_host.cgroup_file(name, "cpu.cfs_period_us")
    assert (text, read(period).strip()) == (str(quota), "100000") if period else text == f"{quota} 100000", text


def test_cpus_have_effect(zone_host):
    name = zone_host.start(command=["sh", "-c", "while :; do :; done"], options=["--cpus", "0.1"])
    path = zone_host.cgroup_file(name, "cpu.stat")
    if not path or "nr_throttled" not in read(path):
        pytest.skip("this machine does not count throttling in cpu.stat")

    def throttled():
        return int(dict(line.split() for line in read(path).splitlines())["nr_throttled"])

    assert until(lambda: throttled() > 0, 10), read(path)


def test_cpu_shares(zone_host):
    name = zone_host.start(options=["--cpu-shares", "512"])
    text = value(zone_host, name, "cpu.shares", "cpu.weight")
    # v2 has weights; the old linear conversion gives 20, the newer logarithmic one 59.
    assert text in ("512", "20", "59"), text


def test_cpuset(zone_host):
    name = zone_host.start(options=["--cpuset-cpus", "0"])
    assert value(zone_host, name, "cpuset.cpus") == "0"
    zone_host.run("exec", name, "nproc").ok(stdout="1\n")
    zone_host.run("exec", name, "grep", "Cpus_allowed_list", "/proc/self/status").ok(stdout="Cpus_allowed_list:\t0\n")


@pytest.mark.parametrize("cpus", ["4000", "a", "1-", "", "-1"])
def test_bad_cpuset(zone_host, cpus):
    zone_host.zone("true", "--cpuset-cpus", cpus).fails(125, "cpuset")


def test_pids_limit_is_read_back(zone_host):
    name = zone_host.start(options=["--pids-limit", "50"])
    assert value(zone_host, name, "pids.max") == "50"


def test_unlimited_pids(zone_host):
    name = zone_host.start(options=["--pids-limit", "-1"])
    assert value(zone_host, name, "pids.max") == "max"


def test_fork_bomb_stops_at_the_limit(zone_host):
    script = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; echo all"
    result = zone_host.zone(script, "--pids-limit", "20")
    result.check("all" not in result.stdout and result.status != 0, "there was no limit").says("fork")


def test_limits_hold_for_exec_too(zone_host):
    name = zone_host.start(options=["--memory", "32M"])
    zone_host.run("exec", name, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1").exits(137)
    assert zone_host.status(name) == "running"


@pytest.mark.parametrize(
    "limit, script, expected",
    [
        ("nofile=100:200", "ulimit -n; ulimit -Hn", "100\n200\n"),
        ("nofile=64", "ulimit -n; ulimit -Hn", "64\n64\n"),
        ("core=0", "ulimit -c; ulimit -Hc", "0\n0\n"),
        ("cpu=7:9", "ulimit -t; ulimit -Ht", "7\n9\n"),
        ("stack=1048576:2097152", "ulimit -s; ulimit -Hs", "1024\n2048\n"),
    ],
)
def test_ulimit(zone_host, limit, script, expected):
    zone_host.zone(script, "--ulimit", limit).ok(stdout=expected)


def test_ulimit_has_effect(zone_host):
    result = zone_host.zone(
        "dd if=/dev/zero of=/big bs=64k count=64; test $(stat -c %s /big) -le 65536", "--ulimit", "fsize=65536"
    )
    result.exits(0)


@pytest.mark.parametrize(
    "limit", ["nofile", "nofile=", "nofile=x", "nofile=20:10", "nofile=-5", "speed=3", "=3", "nofile=1:2:3"]
)
def test_bad_ulimit(zone_host, limit):
    zone_host.zone("true", "--ulimit", limit).fails(125, "ulimit")


def test_ulimit_beyond_the_kernels_limit(zone_host):
    zone_host.zone("true", "--ulimit", "nofile=4000000000").fails(125, "nofile", ("not permitted", "limit"))


def test_sysctl_is_set_in_the_zone_only(zone_host):
    path = "/proc/sys/net/ipv4/ip_default_ttl"
    before = read(path)
    result = zone_host.zone(
        f"cat {path} /proc/sys/kernel/shm_rmid_forced",
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--sysctl",
        "kernel.shm_rmid_forced=1",
    )
    result.ok(stdout="77\n1\n")
    assert read(path) == before, "the host's value was changed"


@pytest.mark.parametrize(
    "name",
    [
        "kernel.panic",
        "vm.swappiness",
        "fs.file-max",
        "kernel.core_pattern",
        "kernel/../vm/swappiness",
        "net/../vm/swappiness",
        "net.ipv4./../../vm/swappiness",
    ],
)
def test_sysctl_outside_the_namespaces_is_refused(zone_host, name):
    before = read("/proc/sys/vm/swappiness"), read("/proc/sys/kernel/panic")
    zone_host.zone("true", "--sysctl", f"{name}=5").fails(125, "sysctl", name)
    assert (read("/proc/sys/vm/swappiness"), read("/proc/sys/kernel/panic")) == before


def test_sysctl_of_the_hosts_network_is_refused(zone_host):
    before = read("/proc/sys/net/ipv4/ip_default_ttl")
    zone_host.zone("true", "--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=77").fails(125, "sysctl")
    assert read("/proc/sys/net/ipv4/ip_default_ttl") == before


@pytest.mark.parametrize(
    "setting", ["net.ipv4.no_such_thing=1", "net.ipv4.ip_default_ttl=banana", "net.ipv4.ip_default_ttl", "=1"]
)
def test_bad_sysctl(zone_host, setting):
    zone_host.zone("true", "--sysctl", setting).fails(125, "sysctl")


@pytest.mark.parametrize(
    "option, text",
    [
        ("--memory", "banana"),
        ("--memory", ""),
        ("--memory", "-1M"),
        ("--memory", "0"),
        ("--memory", "1Q"),
        ("--memory", "99999999999999999999G"),
        ("--memory", "1e3"),
        ("--cpus", "x"),
        ("--cpus", "-1"),
        ("--cpus", "0"),
        ("--cpus", "1.2.3"),
        ("--cpus", "nan"),
        ("--cpus", "1e99"),
        ("--cpu-shares", "x"),
        ("--cpu-shares", "1"),
        ("--pids-limit", "many"),
        ("--pids-limit", "99999999999999999999"),
    ],
)
def test_bad_limit(zone_host, option, text):
    zone_host.zone("true", option, text).fails(125, option.lstrip("-"))


def test_memory_too_small_to_start_is_explained(zone_host):
    # The kernel kills the first process while it is set up, or the limit is refused: never a hang or a bare 137.
    result = zone_host.zone("true", "--memory", "4k")
    result.check(result.status in (125, 137), "unexpected status").says("memory")
