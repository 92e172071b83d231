# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Limits as the kernel has them, pause, update, and what happens at the limit."""

import os

import pytest
from leaks import read, until

MIB = 1 << 20
SLEEP = ("sleep", "1000")


def cpu(engine, zone):
    """How many CPUs a zone may use."""
    groups = engine.groups(zone)
    if "cpu" in groups:
        return int(read(f"{groups['cpu']}/cpu.cfs_quota_us")) / int(read(f"{groups['cpu']}/cpu.cfs_period_us"))
    quota, period = read(f"{groups['unified']}/cpu.max").split()
    return int(quota) / int(period)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def removed(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def test_memory(engine):
    zone = engine.start(*SLEEP, memory=64 * MIB)
    assert engine.limit(zone, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)


def test_cpus(engine):
    assert cpu(engine, engine.start(*SLEEP, cpus=0.5)) == 0.5


def test_the_controllers_that_java_looks_for(engine):
    """Without one of them in the zone it takes the host's memory for its own."""
    engine.needs("group mounts")
    types = {line.split()[1]: line.split()[2] for line in engine.run("cat", "/proc/self/mounts").lines}
    if types.get("/sys/fs/cgroup") != "cgroup2":
        names = {name for place in types for name in place.rpartition("/sys/fs/cgroup/")[2].split(",")}
        assert {"memory", "cpuset", "cpu", "cpuacct"} <= names, types


def test_limits_of_the_group_above(engine):
    """They hold for zones that ask for none of that kind themselves."""
    engine.needs("group parent")
    top = "/sys/fs/cgroup/cpuset"
    if not os.path.isdir(top):
        pytest.skip("cpuset has no version 1 hierarchy here; in version 2 the group above always counts")
    parent = f"{engine.group}/limited"
    place = top
    for name in parent.split("/"):
        above, place = place, f"{place}/{name}"
        os.makedirs(place, exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not read(f"{place}/{file}").strip():
                write(f"{place}/{file}", read(f"{above}/{file}"))
    write(f"{place}/cpuset.cpus", "0")
    try:
        done = engine.run("grep", "Cpus_allowed_list", "/proc/self/status", more=[f"--cgroup-parent=/{parent}"])
        assert done.stdout.split()[1:] == ["0"], str(done)
    finally:
        # conmon, which podman puts there too, ends after its client.
        until(lambda: all(removed(folder) for folder in engine.below_group() if f"/{parent}" in folder), 5)


def test_pids(engine):
    engine.needs("pids limit")
    zone = engine.start(*SLEEP, pids=17)
    assert engine.limit(zone, "pids", "pids.max", "pids.max") == "17"
    done = engine.exec(zone, "sh", "-c", "for i in $(seq 30); do sleep 5 & done; echo all")
    assert "all" not in done.stdout and "can't fork" in done.stderr, str(done)


def test_exec_counts_against_the_limits(engine):
    zone = engine.start(*SLEEP, memory=64 * MIB)
    groups = engine.groups(zone)
    terminal = engine.at_terminal(engine.exec_line(zone, "sh", terminal=True, interactive=True))
    try:
        terminal.prompt()
        for controller in ("memory", "pids", "cpu"):
            folder = groups.get(controller) or groups["unified"]
            assert len(read(f"{folder}/cgroup.procs").split()) == 2, folder
        terminal.line("exit")
        terminal.wait()
    finally:
        terminal.close()


def test_update(engine):
    engine.needs("update")
    zone = engine.start(*SLEEP, memory=64 * MIB, cpus=0.5, pids=20)
    engine.update(zone, memory=96 * MIB, swap=-1)
    assert engine.limit(zone, "memory", "memory.limit_in_bytes", "memory.max") == str(96 * MIB)
    engine.update(zone, cpus=1.5)
    assert cpu(engine, zone) == 1.5
    if "update pids" not in engine.cannot:
        engine.update(zone, pids=33)
        assert engine.limit(zone, "pids", "pids.max", "pids.max") == "33"
    # What was not named stays.
    assert engine.limit(zone, "memory", "memory.limit_in_bytes", "memory.max") == str(96 * MIB)
    assert cpu(engine, zone) == 1.5 and engine.status(zone) == "running"


def test_pause(engine):
    folder = engine.lab.folder / engine.new_name()
    folder.mkdir()
    ticks = folder / "ticks"
    zone = engine.start("sh", "-c", "while :; do echo >>/ticks/ticks; sleep 0.02; done", volumes=[(str(folder), "/ticks", "rw")])

    def grows(seconds):
        before = len(read(ticks))
        return until(lambda: len(read(ticks)) > before, seconds)

    assert grows(5)
    engine.pause(zone)
    assert engine.status(zone) == "paused"
    assert not grows(0.4), "a paused zone runs"
    engine.resume(zone)
    assert engine.status(zone) == "running" and grows(5)


def test_a_paused_zone_can_be_removed(engine):
    if engine.name == "containerd":
        pytest.skip("containerd: it removes by a signal, which waits until the zone is resumed")
    zone = engine.start(*SLEEP)
    engine.pause(zone)
    engine.remove_by_force(zone).exits(0)
    assert engine.status(zone) == "absent"


def test_out_of_memory(engine):
    engine.needs("oom")
    zone = engine.start("tail", "/dev/zero", memory=16 * MIB)
    assert engine.exit_code(zone) == 137
    assert engine.killed_by_oom(zone)


def test_out_of_memory_is_an_event(engine):
    engine.needs("oom events")
    # The zone itself lives on, so that what is shown is no guess from its end.
    zone = engine.start("sh", "-c", "sleep 0.3; tail /dev/zero; exec sleep 1000", memory=16 * MIB)
    assert until(lambda: engine.oom_events(zone), 10, 0.1), "no event"
    assert engine.status(zone) == "running"


def test_no_oom_without_reason(engine):
    zone = engine.start("sh", "-c", "exit 3", memory=16 * MIB)
    assert engine.exit_code(zone) == 3
    if engine.name == "containerd":
        assert not engine.oom_events(zone)
    else:
        assert not engine.killed_by_oom(zone)


def test_resource_limit_of_a_process(engine):
    engine.needs("ulimit")
    assert engine.script("ulimit -n; ulimit -Hn", ulimit=["nofile=100:200", "nproc=1000:1000"]).lines == ["100", "200"]


def test_sysctl(engine):
    engine.needs("sysctl")
    assert engine.run("cat", "/proc/sys/net/ipv4/ip_default_ttl", sysctl={"net.ipv4.ip_default_ttl": 33}).stdout == "33\n"


def statuses(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_capabilities(engine):
    given = statuses(engine.run("cat", "/proc/self/status").stdout)
    assert 0 < int(given["CapEff"], 16) < 1 << 38
    none = statuses(engine.run("cat", "/proc/self/status", drop="ALL").stdout)
    assert {int(none[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, none


def test_seccomp_filter_of_the_engine(engine):
    engine.needs("seccomp by default")
    shown = statuses(engine.run("cat", "/proc/self/status").stdout)
    assert shown["Seccomp"] == "2", shown
    if engine.name == "podman":
        # Its filter refuses nothing that a busybox could try without a capability.
        assert statuses(engine.run("cat", "/proc/self/status", security="seccomp=unconfined").stdout)["Seccomp"] == "0"
        return
    refused = engine.run("unshare", "-U", "true")
    assert refused.status != 0 and "Operation not permitted" in refused.stderr, str(refused)
    assert engine.run("unshare", "-U", "true", security="seccomp=unconfined", user="33").status == 0


def test_no_new_privileges(engine):
    if engine.name == "containerd":
        assert statuses(engine.run("cat", "/proc/self/status").stdout)["NoNewPrivs"] == "1"
        return
    asked = engine.run("cat", "/proc/self/status", security="no-new-privileges")
    assert statuses(asked.stdout)["NoNewPrivs"] == "1"
    assert statuses(engine.run("cat", "/proc/self/status").stdout)["NoNewPrivs"] == "0"


def test_the_hosts_files_are_masked(engine):
    done = engine.script("cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo x >/proc/sys/kernel/hostname")
    assert done.lines == ["0", "0"] and "Read-only file system" in done.stderr, str(done)
