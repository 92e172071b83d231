# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Zones in networks of the host's, with addresses of the DHCP there; what others' rules do; and many zones at once."""

import concurrent.futures
import ipaddress
import json
import os
import random
import re
import shutil
import signal
import subprocess

import pytest
from leaks import alive, read, until
from networks import Namespace, addresses, host, make, outside, reaches, reaches_once, sh, zone  # noqa: F401

LAN = "192.0.2.0/24"


@pytest.fixture
def router(host):  # noqa: F811
    """A network with a DHCP server in another namespace; its link on the host is lan0."""
    peer = Namespace()
    host.defer(peer.close)
    host.namespace.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", str(peer.process.pid))
    host.namespace.run("ip", "link", "set", "lan0", "up")
    peer.run("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
    peer.run("ip", "link", "set", "eth0", "up")
    server = subprocess.Popen(
        peer.words(
            "dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--pid-file=", "--bind-interfaces", "--interface=eth0",
            "--except-interface=lo", "--port=0", "--dhcp-range=192.0.2.50,192.0.2.99,1h", "--no-ping", "--domain=lan.example",
            "--dhcp-option=option:dns-server,192.0.2.7", "--leasefile-ro", "--user=root"),
        stderr=subprocess.DEVNULL)
    host.defer(server.wait)
    host.defer(server.kill)
    return peer


@pytest.fixture
def bridge(host, router):  # noqa: F811
    """lan0 as a port of br0, a bridge of the host's own."""
    if not shutil.which("udhcpc") and "udhcpc" not in subprocess.run(
            ["busybox"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("there is no udhcpc (Debian package busybox-static or udhcpc)")
    host.namespace.run("ip", "link", "add", "br0", "type", "bridge")
    host.namespace.run("ip", "link", "set", "lan0", "master", "br0")
    host.namespace.run("ip", "link", "set", "br0", "up")
    return router


def clients(host):  # noqa: F811
    """Processes that keep addresses of this test's zones."""
    return [pid for pid in filter(str.isdigit, os.listdir("/proc"))
            if alive(pid) and (str(host.root) in read(f"/proc/{pid}/cmdline") and "udhcpc" in read(f"/proc/{pid}/cmdline"))]


def leased(host, name, link="eth0"):  # noqa: F811
    found = re.search(r"inet ([0-9.]+)/24", sh(host, name, f"ip -4 addr show {link}"))
    return found and found[1]


def test_a_bridge_of_the_hosts(host, bridge):  # noqa: F811
    one = zone(host, "one", "bridge:br0", options=("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"))
    two = zone(host, "two", "bridge:br0")
    first, second = leased(host, one), leased(host, two)
    assert ipaddress.ip_address(first) in ipaddress.ip_network(LAN) and first != second
    assert "default via 192.0.2.1" in sh(host, one, "ip route")
    assert sh(host, one, "cat /etc/resolv.conf").split("\n")[:2] == ["search lan.example", "nameserver 192.0.2.7"]
    assert reaches(host, one, "192.0.2.1") and reaches(host, one, second)
    host.run("set", "--network-out", "100mbit", one).exits(0)
    assert "nameserver 192.0.2.7" in sh(host, one, "cat /etc/resolv.conf") and reaches(host, one, second)
    # It has this address, and no other one.
    mac = sh(host, one, "cat /sys/class/net/eth0/address").strip()
    sh(host, one, "ip addr add 192.0.2.222/24 dev eth0")
    assert host.run("exec", one, "ping", "-I", "192.0.2.222", "-c", "1", "-W", "1", "192.0.2.1").status != 0
    sh(host, one, "ip link set eth0 address 02:11:22:33:44:55")
    assert not reaches_once(host, one, second)
    sh(host, one, f"ip link set eth0 address {mac}")
    # Its client is the host's process: the zone does not see it, and it ends with the zone.
    assert len(clients(host)) == 2 and "udhcpc" not in sh(host, one, "ps")
    host.run("stop", one).ok()
    assert until(lambda: len(clients(host)) == 1)
    host.run("start", one).exits(0)
    assert until(lambda: leased(host, one)) and reaches(host, one, "192.0.2.1")
    # The same station: so the same address.
    assert sh(host, one, "cat /sys/class/net/eth0/address").strip() == mac and leased(host, one) == first
    os.kill(host.keeper(two), signal.SIGKILL)
    os.kill(host.pid(two), signal.SIGKILL)
    assert until(lambda: len(clients(host)) == 1)
    assert "br0" in host.links()


def test_a_bridge_joined_and_left_while_a_zone_runs(host, bridge):  # noqa: F811
    make(host, "web")
    lonely = zone(host, "l", "none")
    host.run("network", "connect", "bridge:br0", lonely).exits(0)
    assert leased(host, lonely) and "nameserver 192.0.2.7" in sh(host, lonely, "cat /etc/resolv.conf")
    host.run("rm", "-f", lonely).ok()
    name = zone(host, "a", "web")
    assert leased(host, name, "eth1") is None if "eth1" in sh(host, name, "ip -o link") else True
    host.run("network", "connect", "bridge:br0", name).exits(0)
    assert leased(host, name, "eth1") and reaches(host, name, "192.0.2.1")
    # The network of zones goes on to be the way to everything else, and to know names.
    assert "default via 10." in sh(host, name, "ip route") and "search web" in sh(host, name, "cat /etc/resolv.conf")
    host.run("network", "disconnect", "bridge:br0", name).ok()
    assert "eth1" not in sh(host, name, "ip -o link") and reaches(host, name, name)
    assert until(lambda: not clients(host), seconds=20)


def test_macvlan(host, router):  # noqa: F811
    one, two = zone(host, "one", "macvlan:lan0"), zone(host, "two", "macvlan:lan0,mac=02:00:5e:00:53:07")
    assert reaches(host, one, "192.0.2.1") and reaches(host, one, leased(host, two))
    assert sh(host, two, "cat /sys/class/net/eth0/address").strip() == "02:00:5e:00:53:07"
    # Nothing of it is on the host.
    assert not [link for link in host.links() if link.startswith("zv")]


def test_a_network_of_the_hosts_without_dhcp(host):  # noqa: F811
    host.namespace.run("ip", "link", "add", "br9", "type", "bridge")
    host.namespace.run("ip", "link", "set", "br9", "up")
    said = host.run("run", "--rm", "--network", "bridge:br9", "busybox", "true").exits(0)
    assert "no DHCP server has answered" in said.stderr


@pytest.mark.parametrize("network, said", [
    ("bridge:nothing", "no bridge nothing"), ("bridge:lo", "macvlan:lo"), ("macvlan:nothing", "no link nothing"),
    ("bridge:", "not a network"), ("bridge:a/b", "not a network"), ("bridge:name-of-16-bytes", "not a network"),
    ("macvlan:lo,ip=192.0.2.9", "DHCP"),
])
def test_bad_networks_of_the_hosts(host, network, said):  # noqa: F811
    host.run("run", "--rm", "--network", network, "busybox", "true").fails(125, said)
    assert not host.listed()


def test_rules_are_healed_while_zones_run(host, outside):  # noqa: F811
    make(host, "web")
    name = zone(host, "a", "web", options=("-p", "0.0.0.0:8080:80"), command=("httpd", "-f", "-h", "/etc"))
    before = host.nft("list", "ruleset")
    assert "tcp . 8080" in before
    # As 'systemctl restart nftables' does; and one table alone.
    table = re.search(r"table inet (zonectl\S*)", before)[1]
    for words in (("flush", "ruleset"), ("delete", "table", "inet", table)):
        host.nft(*words)
        assert until(lambda: host.nft("list", "ruleset") == before)
    assert reaches(host, name, "198.51.100.2")
    assert outside.run("busybox", "wget", "-q", "-O", "-", "http://198.51.100.1:8080/hostname").strip() == name
    # The rules of others are theirs.
    host.nft("add", "table", "ip", "others")
    host.nft("delete", "table", "ip", "others")
    assert host.nft("list", "ruleset") == before


def test_rules_that_drop_are_told(host, outside):  # noqa: F811
    network = make(host, "web")
    host.nft("add", "table", "ip", "strict")
    host.nft("add", "chain", "ip", "strict", "gate", "{ type filter hook forward priority 0; policy drop; }")
    name = host.name("a")
    host.defer(host.remove, name)
    said = host.run("run", "-d", "--stop-timeout", "0", "--name", name, "--network", "web", "busybox", "sleep", "1000").exits(0)
    assert "chain gate of table ip strict" in said.stderr and network["bridge"] in said.stderr
    assert not reaches_once(host, name, "198.51.100.2")
    (told,) = host.run("network", "inspect", "web").json[0]["obstacles"]
    assert "chain gate" in host.run("doctor").stdout
    # What it says helps.
    for command in told.split("what lets it pass: ")[1].split("; "):
        host.namespace.run(*command.split())
    assert reaches(host, name, "198.51.100.2")
    assert "obstacles" not in host.run("network", "inspect", "web").json[0]


def test_two_hundred_zones(host):  # noqa: F811
    """A hundred start together, on a network that is not there yet, and a hundred more: each has an address of its own."""
    names = [host.name(f"n{number}") for number in range(200)]
    for name in names:
        host.defer(host.remove, name)

    def start(name):
        return host.run(
            "run", "-d", "--stop-timeout", "0", "--name", name, "--network", "zone0", "busybox", "sleep", "1000", timeout=240)

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        for result in pool.map(start, names):
            result.exits(0)
    leases = [address for name in names for address in addresses(host, name)]
    assert len(leases) == 400 and len(set(leases)) == 400
    macs = {host.inspect(name)["definition"]["networks"][0]["mac"] for name in names}
    assert len(macs) == 200 and len(host.dnsmasq()) == 1
    for name, other in zip(random.sample(names, 5), random.sample(names, 5)):
        assert reaches(host, name, other)
    # Killed at random: keepers, first processes, both.
    for name in random.sample(names, 80):
        keeper, process = host.keeper(name), host.pid(name)
        for pid in random.choice([(keeper,), (process,), (keeper, process), (process, keeper)]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    for start in range(0, 200, 25):
        host.run("rm", "-f", *names[start:start + 25], timeout=120).exits(0)
    assert until(lambda: not [link for link in host.links() if link.startswith("zv")])
    assert os.listdir(os.path.join(host.store, "networks", "zone0", "leases")) == []
    host.run("network", "rm", "zone0").ok()
    assert host.links() == {"lo"} and not host.dnsmasq()
    assert json.loads(host.nft("-j", "list", "ruleset"))["nftables"][1:] == []
