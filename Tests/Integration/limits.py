# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What limits do, measured on the groups: the same for version 1, version 2 and both."""

import os
import time

import pytest
from leaks import cgroup_hierarchies, read

SPIN = ["sh", "-c", "while :; do :; done"]


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
    if not has_controller(controller) and not has_controller(files[-1].split(".")[0]):
        pytest.skip(f"this machine has no {controller} controller")
    path = host.cgroup_file(name, *files)
    assert path, f"none of {files} in {host.inspect(name)['cgroups']}"
    return read(path).strip()


def memory(host, name):
    return value(host, name, "memory.limit_in_bytes", "memory.max")


def quota(host, name):
    """Microseconds, -1 for none."""
    text = value(host, name, "cpu.cfs_quota_us", "cpu.max").split()[0]
    return -1 if text == "max" else int(text)


def statistics(host, name, field):
    """A number of cpu.stat, `None` where no group of the zone has it."""
    for group in host.inspect(name)["cgroups"]:
        for line in read(os.path.join(group, "cpu.stat")).splitlines():
            if line.split()[0] == field:
                return int(line.split()[1])
    return None


def used(host, name):
    """Seconds of CPU time that a zone has used."""
    microseconds = statistics(host, name, "usage_usec")
    if microseconds is not None:
        return microseconds / 1e6
    path = host.cgroup_file(name, "cpuacct.usage")
    if not path:
        pytest.skip("this machine counts no CPU time of groups")
    return int(read(path)) / 1e9


def rates(host, names, seconds):
    """CPUs that zones use on average for a while, all at the same time."""
    before, start = [used(host, name) for name in names], time.monotonic()
    time.sleep(seconds)
    after, end = [used(host, name) for name in names], time.monotonic()
    return [(last - first) / (end - start) for first, last in zip(before, after)]


def rate(host, name, seconds=1.5):
    return rates(host, [name], seconds)[0]
