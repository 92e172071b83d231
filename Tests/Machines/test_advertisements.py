# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a network tells machines that boot their own disks of IPv6, and who beside them does not listen."""

import re
import socket
import struct
import subprocess

import pytest
from full import SMALL, blank, needs, quiet
from leaks import read, until
from networks import BOTH, Namespace, addresses, inside, make, sh, within, zone
from test_micro_network import machine

needs()
ETH_P_IPV6, PACKET_MULTICAST = 0x86DD, 2
SOLICIT, REPLY = 1, 7
SETTINGS = "ip -6 route; ip -o -6 addr"


def boots(host, suffix, network, *options):
    """A machine of its own disk, on which there is nothing, and which does nothing."""
    name = host.name(suffix)
    host.defer(host.remove, name)
    words = ("--vm", "--firmware", "bios", *SMALL, "--network", network, *options, blank(host, f"{suffix}.img"))
    quiet(host.run("run", "-d", "--name", name, *words)).ok()
    host.run("pause", name).ok()
    return name


def advertiser(host):
    """The process that advertises, and its words."""
    found = [(pid, read(f"/proc/{pid}/cmdline").split("\0")) for pid in host.dnsmasq()]
    return [(pid, words) for pid, words in found if "--enable-ra" in words]


def solicit(ear):
    """An advertisement that a namespace hears by its link eth0, as it asks for one: the router's lifetime in seconds, and the rest."""

    def once():
        asking = struct.pack("!BBHI", 133, 0, 0, 0)
        with within(ear, socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as made:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            made.settimeout(1)
            index = within(ear, socket.if_nametoindex, "eth0")
            try:
                made.sendto(asking, ("ff02::2", 0, 0, index))
                while True:
                    said = made.recv(1500)
                    if said[0] == 134:
                        return struct.unpack("!H", said[6:8])[0], said[16:]
            except (TimeoutError, OSError):
                return None

    return until(once, seconds=15)


def test_zones_beside_a_machine_have_what_they_had(net_host):
    """Its network advertises itself from then on; containers and micro machines have their routes from us."""
    host = net_host
    make(host, "web", *BOTH)
    one, micro = zone(host, "one", "web", options=("--cap-add", "NET_RAW")), machine(host, "m", "web")
    assert not advertiser(host)
    before = [sh(host, name, SETTINGS) for name in (one, micro)]
    name = boots(host, "full", "web")
    assert len(advertiser(host)) == 1
    lifetime, rest = solicit(inside(host, one))
    assert lifetime > 0 and socket.inet_pton(socket.AF_INET6, "fd00:77::") in rest
    # One that came up before it, and one that comes now.
    two = zone(host, "two", "web")
    assert solicit(inside(host, two))
    assert [sh(host, name, SETTINGS) for name in (one, micro)] == before
    for other in (one, two):
        assert sh(host, other, "ip -6 route").count("default") == 1
        assert re.findall(r"inet6 (\S+)/\d+ scope global", sh(host, other, "ip -o -6 addr")) == [addresses(host, other)[1]]
        assert host.run("exec", other, "nslookup", "-type=AAAA", name).stdout.count(addresses(host, name)[1]) == 1
    # It is there again when one that was killed is missed, and gone with the network.
    subprocess.run(["kill", "-9", advertiser(host)[0][0]], check=True)
    assert until(lambda: not advertiser(host))
    assert solicit(inside(host, zone(host, "three", "web"))) and len(advertiser(host)) == 1


@pytest.mark.parametrize("options, leads", [(("--internal", *BOTH), False), (("--subnet", "fd00:77::/48"), True), (("--subnet", "fd00:77::/112", "--mtu", "1400"), True)])
def test_networks_of_other_kinds(net_host, options, leads):
    """One that leads nowhere, one of a prefix that DHCPv6 is not told of, and one of IPv6 alone."""
    host = net_host
    make(host, "web", *options)
    one = zone(host, "one", "web")
    name = boots(host, "full", "web")
    lifetime, rest = solicit(inside(host, one))
    assert (lifetime > 0) == leads
    mtu = rest.find(b"\x05\x01\0\0\0\0\x05\x78")
    assert (mtu >= 0) == ("1400" in options)
    own = addresses(host, name)[-1]
    assert lease(host, name, "web", b"one") == own
    assert host.run("exec", one, "nslookup", "-type=AAAA", name).stdout.count(own) == 1


def test_without_ipv6_nothing_is_advertised(net_host):
    host = net_host
    make(host, "web", "--subnet", "10.77.0.0/24")
    boots(host, "full", "web")
    assert len(host.dnsmasq()) == 1 and not advertiser(host)


def option(kind, text):
    return struct.pack("!HH", kind, len(text)) + text


def options(text):
    found = {}
    while len(text) >= 4:
        kind, length = struct.unpack("!HH", text[:4])
        found[kind], text = text[4 : 4 + length], text[4 + length :]
    return found


def lease(host, name, network, identity, mac=None):
    """The address of IPv6 that a system gets in a machine's place, by its station and any name for itself."""
    system = Namespace()
    try:
        mac = mac or host.inspect(name)["definition"]["networks"][0]["mac"]
        bridge = host.run("network", "inspect", network).json[0]["bridge"]
        host.namespace.run("ip", "link", "add", "own0", "type", "veth", "peer", "name", "eth0", "address", mac, "netns", str(system.process.pid))
        host.namespace.run("ip", "link", "set", "own0", "master", bridge, "up")
        system.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
        system.run("ip", "link", "set", "eth0", "up")
        # RFC 8415: with rapid commit (14), in one turn. DUID-EN (2).
        client = option(1, struct.pack("!HI", 2, 43793) + identity)
        asking = struct.pack("!I", SOLICIT << 24 | 77) + client + option(14, b"") + option(3, struct.pack("!III", 1, 0, 0))

        def once():
            with within(system.path, socket.socket, socket.AF_INET6, socket.SOCK_DGRAM) as made:
                made.settimeout(1)
                try:
                    made.bind(("::", 546))
                    made.sendto(asking, ("ff02::1:2", 547, 0, within(system.path, socket.if_nametoindex, "eth0")))
                    said = made.recv(1500)
                except (TimeoutError, OSError):
                    return None
            return said

        said = until(once, seconds=15)
        if not said:
            return None
        found = options(said[4:])
        given = options(found.get(3, b"")[12:]).get(5, b"")
        return socket.inet_ntop(socket.AF_INET6, given[:16]) if said[0] == REPLY and given else None
    finally:
        system.close()
        until(lambda: "own0" not in host.links())


def test_an_address_is_the_machines_whatever_its_system_calls_itself(net_host):
    """A system that was killed has not given back what it had, and the next one has made up a name of its own."""
    host = net_host
    make(host, "web", *BOTH)
    name = boots(host, "full", "web")
    own = addresses(host, name)[1]
    assert lease(host, name, "web", b"first") == own and lease(host, name, "web", b"first") == own
    assert lease(host, name, "web", b"x", mac="02:5a:00:00:00:99") is None
    other = boots(host, "other", "web")
    assert lease(host, name, "web", b"second") == own and lease(host, other, "web", b"first") == addresses(host, other)[1]
    for _ in range(2):
        host.run("stop", "-t", "0", name).ok()
        quiet(host.run("start", name)).ok()
        host.run("pause", name).ok()
    assert lease(host, name, "web", b"third") == own


def test_it_has_no_rights_of_roots(net_host):
    host = net_host
    make(host, "web", *BOTH)
    boots(host, "full", "web")
    ((pid, words),) = advertiser(host)
    status = dict(line.split(":\t") for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split() and status["NoNewPrivs"] == "1" and "--port=0" in words
    assert int(status["CapBnd"], 16) & ~(1 << 10 | 1 << 12 | 1 << 13) == 0
