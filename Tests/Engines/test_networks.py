# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Networks that engines make for a zone, and namespaces that zones share."""

import os
import sys

import pytest
from leaks import until

SLEEP = ("sleep", "1000")
SERVE = "echo {0} >/tmp/word; exec httpd -f -p 80 -h /tmp"


def fetch(engine, address):
    """What a client in the lab's own namespace gets from a server, empty while it gets nothing."""
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).read().decode(), end='')"
    done = engine.lab.run(sys.executable, "-c", script, f"http://{address}")
    return done.stdout if done.status == 0 else ""


def test_none_is_loopback_only(engine):
    network = {} if engine.name == "containerd" else {"network": "none"}
    assert os.listdir("/sys/class/net") != ["lo"]
    assert engine.run("ls", "/sys/class/net", **network).stdout == "lo\n"


def test_bridge_reaches_the_zone(engine):
    zone = engine.start("sh", "-c", SERVE.format("bridged"))
    assert until(lambda: fetch(engine, f"{engine.address(zone)}/word") == "bridged\n", 5)


def test_zone_reaches_zone_and_gateway(engine):
    server = engine.start("sh", "-c", SERVE.format("neighbour"))
    client = engine.start(*SLEEP)
    address = engine.address(server)
    assert until(lambda: engine.exec(client, "wget", "-qO-", f"http://{address}/word").stdout == "neighbour\n", 5)
    gateway = engine.exec(client, "sh", "-c", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'").stdout.strip()
    assert gateway and engine.exec(client, "ping", "-c1", "-W3", gateway).status == 0


def test_published_port(engine):
    engine.needs("publish")
    zone = engine.start("sh", "-c", SERVE.format("published"), publish=(18081, 80))
    assert until(lambda: fetch(engine, "127.0.0.1:18081/word") == "published\n", 5)
    engine.remove_by_force(zone)
    assert fetch(engine, "127.0.0.1:18081/word") == ""


def test_the_hosts_network(engine):
    engine.needs("host network")
    namespace = engine.run("readlink", "/proc/self/ns/net", network="host").stdout.strip()
    assert namespace == engine.lab.namespaces["net"]


def test_two_zones_share_a_network(engine):
    first = engine.start("sh", "-c", SERVE.format("shared"))
    second = engine.start(*SLEEP, network=f"container:{first}")
    assert until(lambda: engine.exec(second, "wget", "-qO-", "http://127.0.0.1/word").stdout == "shared\n", 5)
    namespaces = {os.readlink(f"/proc/{engine.pid(zone)}/ns/net") for zone in (first, second)}
    assert len(namespaces) == 1
    # The one goes, the other's network stays with the first.
    engine.remove_by_force(second)
    assert fetch(engine, f"{engine.address(first)}/word") == "shared\n"


def test_two_zones_share_process_numbers(engine):
    engine.needs("join pid")
    first = engine.start("sleep", "1005")
    second = engine.start("sleep", "1006", pid_of=first)
    shown = engine.exec(second, "ps").stdout
    assert "sleep 1005" in shown and "sleep 1006" in shown, shown
    engine.kill(second, "KILL")
    assert engine.exit_code(second) == 137 and engine.status(first) == "running"
    # Without a namespace of its own, a second process must not outlive the zone.
    third = engine.start("sh", "-c", "sleep 1007 & exec sleep 1008", pid_of=first)
    assert until(lambda: "sleep 1007" in engine.exec(first, "ps").stdout)
    engine.remove_by_force(third)
    assert until(lambda: "sleep 100" in (text := engine.exec(first, "ps").stdout) and "sleep 1007" not in text, 5)


def test_a_zone_with_its_own_ids(engine):
    engine.needs("id maps")
    zone = engine.start(*SLEEP, more=["--uidmap=0:100000:65536", "--gidmap=0:200000:65536"])
    assert engine.exec(zone, "id", "-u").stdout == "0\n"
    assert os.stat(f"/proc/{engine.pid(zone)}").st_uid == 100000
    assert engine.exec(zone, "sh", "-c", "touch /mine && stat -c %u /mine").stdout == "0\n"


def test_pod(engine):
    engine.needs("pods")
    done = engine.do("pod", "create", "--name", "together", "--cgroup-parent", f"/{engine.group}")
    if done.status != 0 and "catatonit" in done.stderr:
        pytest.skip(f"podman: no catatonit for the pod's first process: {done.stderr.strip()}")
    done.exits(0)
    server = engine.start("sh", "-c", SERVE.format("pod"), more=["--pod=together"])
    client = engine.start(*SLEEP, more=["--pod=together"])
    assert until(lambda: engine.exec(client, "wget", "-qO-", "http://127.0.0.1/word").stdout == "pod\n", 5)
    assert engine.status(server) == "running"
    engine.must("pod", "stop", "--time", 0, "together")
    assert engine.exit_code(client) == 137
    engine.remove_pod("together")
