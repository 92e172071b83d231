# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What can be seen of zones and engines, in a lab and on the host, and how two looks differ."""

import os
import re
import subprocess
import time

from leaks import cgroup_hierarchies, read

# Counters in square brackets, and the comment lines with the time.
_COUNTERS = re.compile(r"\[\d+:\d+\]")
# Lines that end by themselves, or are there only while somebody looks.
_PASSING = ("nsenter", "ctr ", "docker ", "podman ")


def _rules(wrap=()):
    """Rules of iptables, without counters."""
    try:
        told = subprocess.run([*wrap, "iptables-save"], capture_output=True, text=True, timeout=20).stdout
    except FileNotFoundError:
        return []
    return [_COUNTERS.sub("", line) for line in told.splitlines() if not line.startswith("#")]


def _links(wrap=()):
    told = subprocess.run([*wrap, "ip", "-o", "link"], capture_output=True, text=True, timeout=20).stdout
    return [line.split(": ")[1].partition("@")[0] for line in told.splitlines()]


def _tree(folder, depth):
    """Entries below a folder, some levels deep; mount points are looked into as any folder."""
    found = []
    if depth and os.path.isdir(folder):
        with os.scandir(folder) as entries:
            for entry in entries:
                found.append(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    found += _tree(entry.path, depth - 1)
    return found


def lab(engine):
    """{what: list} of everything in an engine's lab that a zone could have left."""
    wrap = engine.lab.command()
    root = f"/proc/{wrap[1].partition('=')[2]}/root"
    run = [path.removeprefix(root) for path in _tree(f"{root}/run", 4)]
    return {
        "process": [words for words in engine.lab.processes().values() if not words.startswith(_PASSING)],
        "mount": engine.lab.mounts(),
        "link": _links(wrap),
        "rule": _rules(wrap),
        "control group": engine.below_group(),
        "file": [path for path in run if not path.endswith((".lock", ".log"))],
    }


def host():
    """As `lab`, of the host itself: everybody's, so only what does not come and go by itself."""
    groups = []
    for top in cgroup_hierarchies():
        groups += [f"{top}/{name}" for name in os.listdir(top) if name.startswith(("zone-engines-", "docker", "libpod", "machine.slice"))]
    return {
        "mount": [line.split(" ")[4] for line in read("/proc/self/mountinfo").splitlines()],
        "link": [link for link in _links() if not link.startswith("z")],
        "rule": _rules(),
        "control group": groups,
        "setting": [f"{name}={read(f'/proc/sys/{name}').strip()}" for name in ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding")],
        "file": _tree("/", 1) + _tree("/etc/cni", 3) + _tree("/opt/cni", 1) + _tree("/run/docker", 1) + _tree("/run/containerd", 1),
    }


def differences(before, now):
    """What is in the second look and not in the first, or the other way round, as sentences."""
    found = []
    for what, entries in now.items():
        rest = list(before.get(what, []))
        for entry in entries:
            if entry in rest:
                rest.remove(entry)
            else:
                found.append(f"{what} is new: {entry}")
        found += [f"{what} is gone: {entry}" for entry in rest]
    return found


def settled(look, before, seconds=4.0):
    """The differences, after what is just ending had time to end."""
    deadline = time.monotonic() + seconds
    while True:
        changes = differences(before, look())
        if not changes or not before or time.monotonic() > deadline:
            return changes
        time.sleep(0.1)
