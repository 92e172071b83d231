# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Networks of zones: in a network namespace that plays the host, beside another one that plays the outside."""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess

import pytest
from leaks import until
from networks import OUTSIDE, addresses, host, inside, make, outside, reaches, reaches_once, sh, within, zone


def test_zones_find_each_other_by_name(host):
    network = make(host, "web")
    one = zone(host, "one", "web", command=("httpd", "-f", "-h", "/etc"))
    two = zone(host, "two", "web")
    for name in (one, f"{one}.web", *addresses(host, one)):
        assert reaches(host, two, name, six=":" in name), name
        shown = f"[{name}]" if ":" in name else name
        assert sh(host, two, f"wget -q -O - http://{shown}/hostname") == one + "\n"
    # Its own name is its own address; nobody else is asked for names without a dot, or of the network's.
    assert addresses(host, two)[0] in sh(host, two, "cat /etc/hosts")
    for name in ("nobody", "nobody.web"):
        host.run("exec", two, "nslookup", name).exits(1)
    assert host.links() == {"lo", network["bridge"]} | {link for link in host.links() if link.startswith("zv")}
    host.run("rm", "-f", one).ok()
    assert until(lambda: host.run("exec", two, "nslookup", one).status == 1), "the name of a zone that is gone"
    assert until(lambda: len(host.links()) == 3), host.links()
    host.run("network", "rm", "web").fails(125, two)
    host.run("rm", "-f", two).ok()
    host.run("network", "rm", "web").ok(stdout="web\n")
    assert until(lambda: host.links() == {"lo"}) and host.nft("list", "tables") == "" and not host.dnsmasq()


def test_the_outside_is_reached_and_reaches_nobody(host, outside):
    make(host, "web")
    make(host, "deep", "--internal")
    name = zone(host, "z", "web")
    hidden = zone(host, "h", "deep")
    four, six = (address.split("/")[0] for address in OUTSIDE["peer"])
    assert reaches(host, name, four) and reaches(host, name, six, six=True)
    assert not reaches_once(host, hidden, four) and not reaches_once(host, hidden, six, six=True)
    # As the host: else the answer would not have come back. From outside there is a way, and it is shut.
    inner = addresses(host, name)
    outside.run("ip", "route", "add", inner[0], "via", OUTSIDE["host"][0].split("/")[0])
    outside.run("ip", "route", "add", inner[1], "via", OUTSIDE["host"][1].split("/")[0])
    for address in inner:
        done = subprocess.run(outside.words("busybox", "ping", "-c", "1", "-W", "1", address), capture_output=True)
        assert done.returncode == 1, done


def test_networks_are_kept_apart(host):
    make(host, "one")
    make(host, "two")
    first, second = zone(host, "a", "one"), zone(host, "b", "two")
    both = zone(host, "c", "one", "two")
    assert not reaches_once(host, first, addresses(host, second)[0])
    assert not reaches_once(host, second, addresses(host, first)[1], six=True)
    assert reaches(host, both, addresses(host, first)[0]) and reaches(host, both, addresses(host, second)[1], six=True)
    assert reaches(host, second, addresses(host, both, 1)[0])
    assert re.findall(r"eth\d", sh(host, both, "ip -o link")) == ["eth0", "eth1"]
    # Nor is another network's end, and who answers there.
    gateway = re.search(r"nameserver (\S+)", sh(host, first, "cat /etc/resolv.conf"))[1]
    other = re.search(r"nameserver (\S+)", sh(host, second, "cat /etc/resolv.conf"))[1]
    assert reaches(host, first, gateway) and not reaches_once(host, first, other)
    assert host.run("exec", first, "nslookup", second, other).status != 0


@pytest.mark.parametrize("options", [(), ("--internal",)])
def test_who_asks_gets_the_address_that_it_has(host, options):
    network = make(host, "web", *options)
    name = zone(host, "a", "web", options=("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"))
    own = addresses(host, name)[0]
    script = "echo '#!/bin/sh' >/tmp/s; echo '[ $1 = bound ] && echo got $ip $router $dns' >>/tmp/s; chmod 755 /tmp/s"
    ask = "udhcpc -i eth0 -n -q -t 5 -T 1 -s /tmp/s 2>/dev/null"
    said = sh(host, name, f"mkdir -p /tmp; {script}; {ask}").split()
    gateway = network["gateways"][0]
    assert said == ["got", own, *([] if options else [gateway]), gateway]
    # Another station is nobody.
    host.run("network", "connect", "--mac", "02:00:5e:00:53:09", make(host, "two")["name"], name).ok()
    assert "got" not in sh(host, name, f"ip addr flush dev eth0; ip link set eth0 address 02:11:22:33:44:55; {ask}; true")


def advertise(host, bridge, ear):
    """A router's advertisement on a bridge, of a prefix in which to make up addresses; returns once a namespace has heard it."""
    prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:9::")
    option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 1800, 1800, 0) + prefix
    text = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option

    def once():
        with (within(host.namespace.path, socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as mouth,
              within(ear, socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as heard):
            heard.settimeout(1)
            mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            mouth.sendto(text, ("ff02::1", 0, 0, within(host.namespace.path, socket.if_nametoindex, bridge)))
            try:
                # Its sum is the kernel's to make.
                while (said := heard.recvfrom(1500))[0][4:] != text[4:]:
                    pass
            except TimeoutError:
                return False
            # Another one is nobody's, as it is while the bridge has none that is settled.
            return said[1][0].startswith("fe80:")

    assert until(once, seconds=10)


@pytest.mark.parametrize("live", [False, True])
def test_routers_are_not_listened_to(host, live):
    """Whatever its network advertises, a zone has its addresses and routes from us."""
    network = make(host, "web")
    name = zone(host, "a", *([] if live else ["web"]))
    if live:
        host.run("network", "connect", "web", name).ok()
    shown = "ip -6 route; ip -o -6 addr"
    assert until(lambda: "tentative" not in sh(host, name, shown))
    before = sh(host, name, shown)
    assert before.count("default") == 1 and addresses(host, name)[1] in before
    advertise(host, network["bridge"], inside(host, name))
    assert sh(host, name, shown) == before
    # One that listens has more.
    path = "/proc/sys/net/ipv6/conf/eth0/accept_ra"
    subprocess.run(["nsenter", f"--net={inside(host, name)}", "sh", "-c", f"echo 1 >{path}"], check=True)
    advertise(host, network["bridge"], inside(host, name))
    assert until(lambda: "2001:db8:9:" in sh(host, name, shown))


def test_an_internal_network_asks_nobody_else(host, outside):
    """Port 53 of the host's other addresses may be a way out: another resolver's."""
    network = make(host, "deep", "--internal")
    name = zone(host, "a", "deep", options=("--cap-add", "NET_ADMIN"))
    heard = []
    with within(host.namespace.path, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("198.51.100.1", 53))
        ear.settimeout(1)
        sh(host, name, f"ip route add default via {network['gateways'][0]}")
        with within(inside(host, name), socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(b"tunnel", ("198.51.100.1", 53))
            mouth.sendto(b"names", (network["gateways"][0], 53))
        try:
            heard.append(ear.recv(100))
        except TimeoutError:
            pass
    assert not heard and not reaches_once(host, name, "198.51.100.1")
    assert reaches(host, name, network["gateways"][0]) and reaches(host, name, f"{name}.deep")


def test_a_bridge_of_somebody_elses_is_left_alone(host):
    network = make(host, "web")
    host.namespace.run("ip", "link", "add", network["bridge"], "type", "bridge")
    host.namespace.run("ip", "link", "set", network["bridge"], "up")
    host.run("run", "--rm", "--network", "web", "busybox", "true").fails(125, network["bridge"])
    host.run("network", "rm", "web").ok()
    assert network["bridge"] in host.links()
    host.namespace.run("ip", "link", "del", network["bridge"])


def test_an_address_is_one_zones_whatever_a_file_says(host):
    make(host, "web")
    name = zone(host, "a", "web")
    wanted = host.run("inspect", "--as-definition", name).ok().json
    assert [network["name"] for network in wanted["networks"]] == ["web"]
    copy = host.name("b")
    host.defer(host.remove, copy)
    # What was given out is no part of it, and cannot be had by writing it down.
    taken = host.inspect(name)["definition"]["networks"]
    path = host.path("zone.json", json.dumps({**wanted, "name": copy, "networks": taken}))
    host.run("apply", "-f", path).fails(125, name)
    host.run("apply", "-f", host.path("zone.json", json.dumps({**wanted, "name": copy}))).exits(0)
    assert not set(addresses(host, copy)) & set(addresses(host, name))
    host.run("apply", "-f", host.path("again.json", json.dumps({**wanted, "name": copy, "networks": []}))).exits(0)
    assert "networks" not in host.inspect(copy)["definition"]


def test_a_zone_without_ipv6(host):
    make(host, "web")
    name = zone(host, "a", "web", options=("--sysctl", "net.ipv6.conf.all.disable_ipv6=1"))
    assert reaches(host, name, addresses(host, name)[0])


def test_the_programs_own_error_is_told(host):
    make(host, "web")
    for _ in range(5):
        said = host.run("run", "--rm", "--network", "web", "--workdir", "/etc/passwd/x", "busybox", "true").fails(125)
        assert "/etc/passwd" in said.stderr, said


def test_nobody_is_somebody_else(host):
    make(host, "web")
    rights = ("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW")
    honest, liar = zone(host, "h", "web"), zone(host, "l", "web", options=rights)
    target = addresses(host, honest)[0]
    prefix = host.run("network", "inspect", "web").json[0]["subnets"][0].split("/")[0].rsplit(".", 1)[0]
    assert reaches(host, liar, target)
    mac = sh(host, liar, "cat /sys/class/net/eth0/address").strip()
    # Another address, another MAC, and an answer to who asks for somebody else's address.
    sh(host, liar, f"ip addr add {prefix}.250/20 dev eth0")
    assert host.run("exec", liar, "ping", "-I", f"{prefix}.250", "-c", "1", "-W", "1", target).status != 0
    assert not reaches_once(host, honest, f"{prefix}.250")
    sh(host, liar, "ip link set eth0 address 02:11:22:33:44:55")
    assert not reaches_once(host, liar, target)
    sh(host, liar, f"ip link set eth0 address {mac}")
    assert reaches(host, liar, target)
    sh(host, liar, "ip -6 addr add fd00:bad::1/64 dev eth0 nodad 2>/dev/null; true")
    assert host.run("exec", liar, "ping", "-6", "-I", "fd00:bad::1", "-c", "1", "-W", "1",
                    addresses(host, honest)[1]).status != 0


def test_rules_come_back_whole(host, outside):
    make(host, "web")
    one = zone(host, "one", "web")
    before = host.nft("list", "ruleset")
    host.nft("flush", "ruleset")
    two = zone(host, "two", "web")
    assert host.nft("list", "ruleset") == before
    assert reaches(host, one, OUTSIDE["peer"][0].split("/")[0]) and reaches(host, one, two)
    host.run("rm", "-f", two).ok()
    assert host.nft("list", "ruleset") == before


def test_addresses_are_given_out_once(host):
    make(host, "web")
    names = [host.name(f"m{number}") for number in range(24)]
    for name in names:
        host.defer(host.remove, name)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda name: host.run("run", "-d", "--name", name, "--network", "web", "--stop-timeout", "0",
                                                   "busybox", "sleep", "1000"), names))
    assert not [result for result in done if result.status != 0], [str(result) for result in done if result.status != 0]
    given = [tuple(addresses(host, name)) for name in names]
    assert len(set(given)) == len(names)
    assert reaches(host, names[0], names[-1]) and reaches(host, names[-1], names[5], six=True)
    # They stay with the zone, and are not the clone's.
    host.run("restart", names[0]).exits(0)
    assert tuple(addresses(host, names[0])) == given[0]
    clone = host.name("c")
    host.defer(host.remove, clone)
    host.run("clone", "--full", names[0], clone).ok()
    assert tuple(addresses(host, clone)) not in given
    host.run("stop", names[1]).ok()
    renamed = host.name("r")
    host.defer(host.remove, renamed)
    host.run("rename", names[1], renamed).ok()
    assert tuple(addresses(host, renamed)) == given[1]
    again = host.name("m1")
    host.run("run", "-d", "--name", again, "--network", "web", "busybox", "sleep", "1000").exits(0)
    assert tuple(addresses(host, again)) not in given
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda name: host.run("rm", "-f", name), [*names, renamed, clone]))
    assert not [result for result in done if result.status != 0], [str(result) for result in done if result.status != 0]
    # The kernel clears namespaces up a moment after the last process.
    assert until(lambda: len(host.links()) == 2), host.links()
    leases = pathlib.Path(host.store) / "networks/web/leases"
    # Of `again`.
    assert len(os.listdir(leases)) <= 2


def test_what_kills_leave_is_taken_back(host):
    make(host, "web")
    name = zone(host, "k", "web", options=("-p", "0.0.0.0:8080:80"))
    assert "8080" in host.nft("list", "ruleset")
    os.kill(host.keeper(name), signal.SIGKILL)
    os.kill(host.pid(name), signal.SIGKILL)
    assert until(lambda: host.status(name) == "stopped")
    assert until(lambda: len(host.links()) == 2)
    host.run("start", name).exits(0)
    assert reaches(host, name, name)
    os.kill(host.keeper(name), signal.SIGKILL)
    host.run("rm", "-f", name).ok()
    assert "8080" not in host.nft("list", "ruleset")
    # A bridge that is gone, and a dnsmasq with it, are there again with the next zone.
    (pid,) = host.dnsmasq()
    os.kill(int(pid), signal.SIGKILL)
    left = zone(host, "n1", "web")
    assert len(host.dnsmasq()) == 1 and reaches(host, left, f"{left}.web")
    host.namespace.run("ip", "link", "del", host.run("network", "inspect", "web").json[0]["bridge"])
    name = zone(host, "n", "web")
    assert reaches(host, name, f"{name}.web") and len(host.dnsmasq()) == 1
    # Who ran meanwhile is connected again.
    assert reaches(host, left, name) and reaches(host, name, left)


@pytest.mark.parametrize(
    "words, said",
    [
        (("network", "create"), "one name"),
        (("network", "create", "a/b"), "not valid"),
        (("network", "create", "none"), "not valid"),
        (("network", "create", "n" * 64), "not valid"),
        (("network", "create", "web"), "already"),
        (("network", "create", "--subnet", "10.0.0.0/33", "x"), "no subnet"),
        (("network", "create", "--subnet", "10.0.0.0/31", "x"), "no subnet"),
        (("network", "create", "--subnet", "10.1.0.0/16", "--subnet", "10.2.0.0/16", "x"), "one subnet of each"),
        (("network", "create", "--mtu", "9", "x"), "1280"),
        (("network", "rm", "nothing"), "nothing"),
        (("network", "inspect"), "name of a network"),
        (("run", "--rm", "--network", "nothing", "busybox", "true"), "nothing"),
        (("run", "--rm", "--network", "host", "--network", "web", "busybox", "true"), "no other"),
    ],
)
def test_bad_input(host, words, said):
    network = make(host, "web")
    host.run(*words).fails(125, said)
    assert [item["name"] for item in host.run("network", "ls", "--json").json] == ["web"]
    for subnet in network["subnets"]:
        host.run("network", "create", "--subnet", subnet, "x").fails(125, "web")
    assert not host.listed()


def test_no_address_is_left(host):
    make(host, "small", "--subnet", "10.77.0.0/30")
    name = zone(host, "a", "small")
    assert addresses(host, name) == ["10.77.0.2"]
    host.run("run", "-d", "--network", "small", "busybox", "true").fails(125, "10.77.0.0/30")
    host.run("rm", "-f", name).ok()
    name = zone(host, "b", "small")
    assert addresses(host, name) == ["10.77.0.2"]


def test_a_subnet_of_the_hosts_is_nobodys(host, outside):
    host.run("network", "create", "--subnet", "198.51.0.0/16", "x").fails(125, "198.51.100.0/24")
    host.run("network", "create", "--subnet", "2001:db8::/32", "x").fails(125, "2001:db8:5::/64")


def test_programs_that_are_missing_are_named(host):
    make(host, "web")
    for program in ("nft", "dnsmasq"):
        script = f'mount --bind /dev/null {shutil.which(program)} && exec "$@"'
        wrap = ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh")
        host.run("run", "--rm", "--network", "web", "busybox", "true", wrap=wrap).fails(125, program)
    host.run("run", "--rm", "--network", "web", "busybox", "true").ok()
