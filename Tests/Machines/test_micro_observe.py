# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What `ls`, `inspect`, `ps`, `stats`, `top` and `events` say of micro machines."""

import json
import time

from leaks import until


def test_ls_and_inspect(shared):
    zone = shared.listed()[shared.machine]
    assert (zone["status"], zone["image"]) == ("running", "busybox:latest"), zone
    assert zone["pid"] == shared.pid(shared.machine)
    shown = shared.inspect(shared.machine)
    assert shown["definition"]["type"] == "vm" and shown["definition"]["machine"]["kind"] == "micro", shown["definition"]
    assert shown["type"] == "vm", "inspect calls a machine a container"


def test_ps_shows_what_the_machine_is_to_the_host(shared):
    """The monitor and QEMU; programs in the guest are its own kernel's, and `exec ps` shows them."""
    result = shared.run("ps", shared.machine).ok()
    result.check("qemu-system" in result.stdout and "zonectl: machine" in result.stdout, "the machine is not shown")


def test_processes_tell_what_they_are(shared):
    """In the host's own `ps`, too."""
    with open(f"/proc/{shared.pid(shared.machine)}/cmdline") as file:
        words = file.read().replace("\0", " ").split()
    # There may be no room for all of a name.
    assert words[:2] == ["zonectl:", "machine"] and shared.machine.startswith(words[2]), words


def test_stats(shared):
    text = shared.run("stats", "--no-stream", "--json", shared.machine).ok().stdout
    (values,) = json.loads(text)
    assert (values["name"], values["type"]) == (shared.machine, "vm"), values
    # What the guest's kernel keeps for itself is not told; the host's part is more than the guest's.
    assert 128 << 20 < values["guestMemoryBytes"] <= 256 << 20, values
    assert 0 < values["guestMemoryAvailableBytes"] < values["guestMemoryBytes"], values
    shown = shared.run("stats", "--no-stream", shared.machine).ok().stdout
    assert shared.machine in shown and "GUEST MEM" in shown
    assert f'zonectl_zone_guest_memory_bytes{{name="{shared.machine}"' in shared.run("metrics").ok().stdout
    assert shared.machine in shared.run("top", "--once").ok().stdout
    assert shared.machine in shared.run("metrics").ok().stdout


def test_events(shared):
    shared.run("exec", shared.machine, "true").ok()
    text = shared.run("events", "--since", "10m", "--until", "0s", shared.machine).ok().stdout
    assert f" start {shared.machine} " in text, text
    assert "(command=true)" in text, text


def test_time_and_randomness_are_the_hosts(shared):
    assert abs(int(shared.sh(shared.machine, "date +%s")) - time.time()) < 5
    one, two = (shared.sh(shared.machine, "cat /proc/sys/kernel/random/uuid") for _ in range(2))
    assert one != two
    assert until(lambda: shared.sh(shared.machine, "cat /proc/uptime").split()[0] != "0.00")
