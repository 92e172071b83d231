# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Networks of zones: chosen addresses, changes while zones run, shared ones, rates, the one that is there by default."""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from leaks import until
from networks import (BOTH, OUTSIDE, PEER, WEB, Server, addresses, ask, call, family, host, inside, make, outside, page, reaches,
                      reaches_once, receive, refused, sh, zone)

MAC = "02:00:5e:00:53:01"


def leases(host, network):
    """What is given out of a network, and to whom."""
    folder = pathlib.Path(host.store) / "networks" / network / "leases"
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def networks(host, name):
    return [item["name"] for item in host.inspect(name)["definition"].get("networks", [])]


def links(host, name):
    return set(re.findall(r"^\d+: ([^:@]+)", sh(host, name, "ip -o link"), re.M)) - {"lo"}


def default_routes(host, name):
    """By which links a zone reaches everything else, IPv4 and IPv6."""
    both = (sh(host, name, f"ip -{family} route") for family in (4, 6))
    return [re.findall(r"^default via (\S+) dev (\S+)", text, re.M) for text in both]


def state(host, name):
    """All that a change could have changed."""
    return (host.inspect(name)["definition"], sh(host, name, "ip -o addr | sed 's/valid_lft.*//'"),
            default_routes(host, name), sh(host, name, "cat /etc/hosts /etc/resolv.conf"))


def test_chosen_addresses(host):
    make(host, "net", *BOTH)
    name = zone(host, "a", "net", command=WEB, options=("--ip", "10.77.0.7", "--ip", "fd00:77::7", "--mac", MAC))
    other = zone(host, "b", "net")
    assert addresses(host, name) == ["10.77.0.7", "fd00:77::7"]
    assert sh(host, name, "cat /sys/class/net/eth0/address").strip() == MAC
    for address in ("10.77.0.7", "fd00:77::7", name):
        assert reaches(host, other, address, six=":" in address)
        assert page(inside(host, other), address if address != name else "10.77.0.7", 80) == name
    assert MAC in sh(host, other, "ip neigh")
    # It is not given out again, however it is asked for.
    for wish in (("--ip", "10.77.0.7"), ("--ip", "fd00:77::7"), ("--ip", "fd00:77:0:0::7"), ("--mac", MAC),
                 ("--mac", MAC.upper())):
        host.run("run", "--rm", "--network", "net", *wish, "busybox", "true").fails(125, wish[0], f"zone {name}")
    # Nor has who asked for it anything left.
    assert set(leases(host, "net").values()) == {name, other}
    # One of a family alone leaves the other to zonectl.
    third = zone(host, "c", "net,ip=10.77.0.9")
    assert addresses(host, third)[0] == "10.77.0.9" and len(addresses(host, third)) == 2
    assert reaches(host, third, name)
    host.run("rm", "-f", name).ok()
    name = zone(host, "d", "net", options=("--ip", "10.77.0.7", "--mac", MAC))
    assert reaches(host, other, "10.77.0.7")
    assert set(leases(host, "net").values()) == {other, third, name}


@pytest.mark.parametrize(
    "options, said",
    [
        (("--ip", "10.77.0.1"), "gateway"),
        (("--ip", "fd00:77::1"), "gateway"),
        (("--ip", "10.77.0.0"), "10.77.0.0/24"),
        (("--ip", "10.77.0.255"), "10.77.0.0/24"),
        (("--ip", "fd00:77::"), "fd00:77::/64"),
        (("--ip", "10.78.0.7"), "10.77.0.0/24"),
        (("--ip", "fd00:78::7"), "fd00:77::/64"),
        (("--ip", "10.77.0.7", "--ip", "10.77.0.8"), "one address"),
        (("--ip", "10.77.0.256"), "not an address"),
        (("--ip", "web"), "not an address"),
        (("--mac", "01:00:5e:00:53:01"), "one station"),
        (("--mac", "00:00:00:00:00:00"), "one station"),
        (("--mac", "02:5a:0a:4d:00:07"), "02:5a"),
        (("--mac", "02:00:5e:00:53"), "one station"),
    ],
)
def test_addresses_that_no_zone_can_have(host, options, said):
    make(host, "net", *BOTH)
    host.run("run", "--rm", "--network", "net", *options, "busybox", "true").fails(125, said)
    assert not host.listed() and leases(host, "net") == {}
    # Nor can one that runs.
    name = zone(host, "a")
    before = state(host, name)
    host.run("network", "connect", *options, "net", name).fails(125, said)
    assert state(host, name) == before and leases(host, "net") == {}


def test_chosen_addresses_go_with_the_zone(host):
    make(host, "net", *BOTH)
    chosen = ["10.77.0.7", "fd00:77::7"]
    name = zone(host, "a", "net", options=("--ip", chosen[0], "--ip", chosen[1], "--mac", MAC))
    for verbs in (("restart",), ("stop", "start")):
        for verb in verbs:
            host.run(verb, name).exits(0)
        assert addresses(host, name) == chosen and chosen[1] in sh(host, name, "ip addr")
    host.run("stop", name).ok()
    renamed = host.name("r")
    host.defer(host.remove, renamed)
    host.run("rename", name, renamed).ok()
    assert set(leases(host, "net").values()) == {renamed}
    for linked in ("--full", "--linked"):
        clone = host.name("c" + linked[2])
        host.defer(host.remove, clone)
        host.run("clone", linked, renamed, clone).ok()
        assert not set(addresses(host, clone)) & set(chosen)
        host.run("start", clone).exits(0)
        assert sh(host, clone, "cat /sys/class/net/eth0/address").strip() != MAC
        assert f"{chosen[0]}/" not in sh(host, clone, "ip addr")
    host.run("start", renamed).exits(0)
    assert chosen[0] in sh(host, renamed, "ip addr") and MAC in sh(host, renamed, "ip link")
    assert reaches(host, clone, renamed)
    host.run("rm", "-f", clone).ok()
    host.run("run", "--rm", "--network", "net", "--ip", chosen[0], "busybox", "true").fails(125, renamed)


def test_connecting_and_disconnecting(host, outside):
    make(host, "one")
    make(host, "two", *BOTH)
    name = zone(host, "a", "one")
    near, far = zone(host, "n", "one"), zone(host, "f", "two")
    Server(host, inside(host, far), 80)
    pid = host.pid(name)
    assert not reaches_once(host, name, addresses(host, far)[0])
    host.run("network", "connect", "--ip", "10.77.0.7", "two", name).ok()
    assert networks(host, name) == ["one", "two"] and links(host, name) == {"eth0", "eth1"}
    assert host.run("network", "inspect", "two").json[0]["name"] == "two"
    for target in addresses(host, far):
        assert reaches(host, name, target, six=":" in target), target
    assert reaches(host, far, name) and reaches(host, far, "10.77.0.7") and reaches(host, near, name)
    first = default_routes(host, name)
    assert [route[0][1] for route in first] == ["eth0", "eth0"]
    host.run("network", "connect", "two", name).fails(125, "two", "already")
    # The first network is left: everything else is reached by the second one, and what is open there goes on.
    with call(inside(host, name), addresses(host, far)[0], 80) as connection:
        while receive(connection, 1) != b" ":
            pass
        host.run("network", "disconnect", "one", name).ok()
        connection.sendall(b"after")
        assert receive(connection, 5) == b"after"
    assert networks(host, name) == ["two"] and links(host, name) == {"eth1"}
    assert default_routes(host, name) == [[("10.77.0.1", "eth1")], [("fd00:77::1", "eth1")]]
    for address in PEER:
        assert reaches(host, name, address, six=":" in address), address
    assert reaches(host, name, far) and not reaches_once(host, name, addresses(host, near)[0])
    assert until(lambda: host.run("exec", near, "nslookup", name).status == 1), "its name is known where it is not"
    assert name not in leases(host, "one").values()
    host.run("network", "disconnect", "one", name).fails(125, "one")
    assert host.pid(name) == pid
    host.run("restart", name).exits(0)
    assert networks(host, name) == ["two"] and "10.77.0.7" in sh(host, name, "ip addr")
    # None at all, and one again.
    host.run("network", "disconnect", "two", name).ok()
    assert links(host, name) == set() and default_routes(host, name) == [[], []]
    host.run("network", "connect", "one", name).ok()
    assert reaches(host, name, near) and links(host, name) == {"eth0"}
    assert reaches(host, name, PEER[0])


@pytest.mark.parametrize("live", [False, True], ids=["start", "connect"])
def test_names_of_all_networks_are_known(host, live):
    make(host, "one")
    make(host, "two")
    near, far = zone(host, "n", "one"), zone(host, "f", "two")
    name = zone(host, "a", *(["one"] if live else ["one", "two"]))
    if live:
        host.run("network", "connect", "two", name).ok()
    for target in (near, far, f"{near}.one", f"{far}.two"):
        assert reaches(host, name, target), target


def test_a_stopped_zone_is_connected(host):
    make(host, "one")
    make(host, "two", *BOTH)
    name, far = zone(host, "a", "one"), zone(host, "f", "two")
    host.run("stop", name).ok()
    host.run("network", "connect", "--ip", "10.77.0.7", "two", name).ok()
    assert leases(host, "two")["10.77.0.7"] == name
    host.run("network", "disconnect", "one", name).ok()
    host.run("start", name).exits(0)
    assert networks(host, name) == ["two"] and reaches(host, name, far) and reaches(host, far, "10.77.0.7")
    host.run("stop", name).ok()
    host.run("network", "disconnect", "two", name).ok()
    assert "10.77.0.7" not in leases(host, "two")
    host.run("start", name).exits(0)
    assert links(host, name) == set()


@pytest.mark.parametrize("renames", [False, True])
def test_who_is_taken_out_is_out(host, renames):
    """Whatever the zone calls its links: it may rename them."""
    make(host, "one")
    make(host, "two")
    name, other = zone(host, "a", "one", "two", options=("--cap-add", "NET_ADMIN")), zone(host, "b", "two")
    assert reaches(host, name, addresses(host, other)[0])
    if renames:
        sh(host, name, "ip link set eth1 down && ip link set eth1 name x && ip link set x up")
    host.run("network", "disconnect", "two", name).exits(0)
    assert len(links(host, name)) == 1 and not reaches_once(host, name, addresses(host, other)[0])
    assert reaches(host, name, addresses(host, name)[0])


def test_a_network_stays_while_a_zone_is_in_it(host):
    make(host, "one")
    make(host, "two")
    name = zone(host, "a", "one")
    host.run("network", "connect", "two", name).ok()
    host.run("network", "rm", "two").fails(125, name)
    host.run("network", "disconnect", "two", name).ok()
    host.run("network", "rm", "two").ok()
    assert until(lambda: len([link for link in host.links() if link.startswith("zb")]) == 1), host.links()
    host.run("network", "connect", "two", name).fails(125, "two")
    host.run("network", "connect", "one", host.name("nobody")).fails(125, "nobody")
    assert networks(host, name) == ["one"]


def test_one_change_of_several_networks(host):
    make(host, "one")
    make(host, "two")
    make(host, "three")
    name = zone(host, "a", "one", "two", options=("-p", "8080:80"))
    Server(host, inside(host, name), 80)
    far = zone(host, "f", "three")
    host.run("set", "--network", "three", "--disconnect", "one", "--publish", "8081:80", name).ok()
    assert networks(host, name) == ["two", "three"] and links(host, name) == {"eth1", "eth0"}
    assert reaches(host, name, addresses(host, far)[0]) and reaches(host, far, name)
    # Ports lead to where the zone is now.
    assert ask(host.namespace.path, "127.0.0.1", 8080).endswith(b" word end")
    assert ask(host.namespace.path, "127.0.0.1", 8081).endswith(b" word end")
    host.run("restart", name).exits(0)
    assert reaches(host, far, name)


def test_a_change_is_made_whole_or_not_at_all(host, outside):
    make(host, "one")
    make(host, "good")
    make(host, "taken", *BOTH)
    holder = zone(host, "h", "taken", options=("--ip", "10.77.0.7"))
    name = zone(host, "a", "one", options=("-p", "0.0.0.0:8080:80"))
    Server(host, inside(host, name), 80)
    before, given = state(host, name), leases(host, "good")
    host.run("set", "--network", "good", "--network", "taken,ip=10.77.0.7", "--disconnect", "one", "--publish", "8081:80",
             "--unpublish", "0.0.0.0:8080:80", name).fails(125, holder)
    assert state(host, name) == before and leases(host, "good") == given
    # What shows only once it is tried: somebody else's link is in the way.
    bridge = make(host, "bad")["bridge"]
    host.namespace.run("ip", "link", "add", bridge, "type", "bridge")
    host.run("set", "--network", "good", "--network", "bad", "--disconnect", "one", "--publish", "8081:80", "--unpublish",
             "0.0.0.0:8080:80", name).fails(125, bridge)
    host.namespace.run("ip", "link", "del", bridge)
    after = state(host, name)
    assert [after[0], *after[2:]] == [before[0], *before[2:]]
    assert set(re.findall(r"inet6? \S+", after[1])) == set(re.findall(r"inet6? \S+", before[1]))
    assert name not in leases(host, "good").values() and name not in leases(host, "bad").values()
    assert ask(outside.path, OUTSIDE["host"][0].split("/")[0], 8080) == f"{PEER[0]} word end".encode()
    assert refused(host.namespace.path, "127.0.0.1", 8081) and reaches(host, name, PEER[0])
    assert reaches(host, name, name)
    host.run("restart", name).exits(0)
    assert state(host, name)[0] == before[0]


def test_a_definition_is_applied_whole_or_not_at_all(host):
    make(host, "one")
    make(host, "two")
    name = zone(host, "a", "one", options=("-m", "256M"))
    sh(host, name, "head -c 32m /dev/zero >/dev/shm/full")
    wanted = host.run("inspect", "--as-definition", name).ok().json
    before = state(host, name)
    wanted["networks"].append({"name": "two"})
    wanted["ports"] = [{"hostPort": 8123, "zonePort": 80}]
    wanted["resources"]["memory"] = {"limit": 8 << 20, "swap": 8 << 20}
    said = host.run("apply", "-f", host.path("zone.json", json.dumps(wanted))).fails(125, "in use")
    assert state(host, name) == before and links(host, name) == {"eth0"}, said
    assert refused(host.namespace.path, "127.0.0.1", 8123)
    assert list(leases(host, "two")) == []


def test_definitions_change_networks_of_zones_that_run(host):
    make(host, "one")
    make(host, "two", *BOTH)
    name, far = zone(host, "a", "one", options=("-p", "8080:80")), zone(host, "f", "two")
    Server(host, inside(host, name), 80)
    pid = host.pid(name)
    wanted = host.run("inspect", "--as-definition", name).ok().json
    wanted["networks"] = [{"name": "two", "addresses": ["10.77.0.7"]}]
    wanted["ports"] = [{"hostPort": 9090, "zonePort": 80}]
    host.run("apply", "-f", host.path("zone.json", json.dumps(wanted))).exits(0)
    assert host.pid(name) == pid and networks(host, name) == ["two"] and addresses(host, name)[0] == "10.77.0.7"
    assert reaches(host, far, name) and reaches(host, name, far)
    assert ask(host.namespace.path, "127.0.0.1", 9090).endswith(b" word end")
    assert refused(host.namespace.path, "127.0.0.1", 8080)
    # Again is nothing new.
    before = state(host, name)
    host.run("apply", "-f", host.path("zone.json")).exits(0)
    assert state(host, name) == before and host.pid(name) == pid


def test_several_networks_from_the_start(host, outside):
    make(host, "one", "--subnet", "10.76.0.0/24", "--gateway", "10.76.0.200", "--subnet", "fd00:76::/64",
         "--gateway", "fd00:76::200")
    make(host, "two", *BOTH)
    name = zone(host, "a", "one,ip=10.76.0.1,mac=02:00:5e:00:53:07", "two,ip=fd00:77::99,link=inner0")
    assert links(host, name) == {"eth0", "inner0"}
    assert addresses(host, name)[0] == "10.76.0.1" and addresses(host, name, 1)[1] == "fd00:77::99"
    assert sh(host, name, "cat /sys/class/net/eth0/address").strip() == "02:00:5e:00:53:07"
    assert default_routes(host, name) == [[("10.76.0.200", "eth0")], [("fd00:76::200", "eth0")]]
    bridge = host.run("network", "inspect", "one").json[0]["bridge"]
    shown = host.namespace.run("ip", "-o", "addr", "show", "dev", bridge)
    assert "10.76.0.200/24" in shown and "fd00:76::200/64" in shown
    for address in (*PEER, "10.76.0.200", "10.77.0.1", "fd00:76::200"):
        assert reaches(host, name, address, six=":" in address), address
    # Names are asked of the network's end, wherever that is.
    assert reaches(host, zone(host, "b", "one"), name)
    host.run("run", "--rm", "--network", "one", "--ip", "10.76.0.200", "busybox", "true").fails(125, "gateway")
    for gateway in ("10.75.0.1", "10.75.1.1", "10.75.0.255", "fd00::1", "x"):
        if gateway != "10.75.0.1":
            host.run("network", "create", "--subnet", "10.75.0.0/24", "--gateway", gateway, "x").fails(125, gateway)


def test_vlan(host, outside):
    for words in (("--vlan", "20"), ("--parent", "up0"), ("--vlan", "20", "--parent", "nothing0"),
                  ("--vlan", "4095", "--parent", "up0"), ("--vlan", "0", "--parent", "up0")):
        host.run("network", "create", *words, "x").fails(125)
    assert host.run("network", "ls", "-q").ok().lines == []
    probe = ("ip", "link", "add", "link", "eth0", "name", "tagged", "type", "vlan", "id", "20")
    if subprocess.run(outside.words(*probe), capture_output=True).returncode != 0:
        make(host, "tagged", "--vlan", "20", "--parent", "lo")
        before = host.links()
        host.run("run", "--rm", "--network", "tagged", "busybox", "true").fails(125, "VLAN", "8021q")
        assert host.links() == before and not host.listed()
        return
    outside.run("ip", "addr", "add", "10.77.0.200/24", "dev", "tagged")
    outside.run("ip", "link", "set", "tagged", "up")
    make(host, "tagged", *BOTH, "--vlan", "20", "--parent", "up0")
    name = zone(host, "a", "tagged", options=("--ip", "10.77.0.7"))
    assert reaches(host, name, "10.77.0.200")
    # Without the tag nobody is there.
    outside.run("ip", "addr", "del", "10.77.0.200/24", "dev", "tagged")
    outside.run("ip", "addr", "add", "10.77.0.201/24", "dev", "eth0")
    assert not reaches_once(host, name, "10.77.0.201")


def test_a_network_that_zones_share(host):
    make(host, "net")
    name = zone(host, "a", "net", command=WEB)
    guest = zone(host, "g", f"zone:{name}")
    assert addresses(host, name)[0] in sh(host, guest, "ip addr")
    assert os.readlink(inside(host, guest)) == os.readlink(inside(host, name))
    assert until(lambda: host.run("exec", guest, "wget", "-q", "-O", "-", "http://127.0.0.1/hostname").status == 0)
    assert sh(host, guest, "wget -q -O - http://localhost/hostname").strip() == name
    assert sh(host, guest, "wget -q -O - http://127.0.0.1/hostname").strip() == name
    other = zone(host, "o", "net")
    assert reaches(host, guest, other)
    # What is the network's is the other zone's to change.
    host.run("network", "connect", "net", guest).fails(125, guest)
    host.run("set", "--publish", "8080:80", guest).fails(125)
    host.run("run", "--rm", "--network", f"zone:{name}", "-p", "8080:80", "busybox", "true").fails(125)
    host.run("run", "--rm", "--network", f"zone:{name}", "--network", "net", "busybox", "true").fails(125, "no other")
    host.run("run", "--rm", "--network", f"zone:{host.name('nobody')}", "busybox", "true").fails(125, host.name("nobody"))
    host.run("stop", name).ok()
    host.run("run", "--rm", "--network", f"zone:{name}", "busybox", "true").fails(125, name)
    host.run("restart", guest).fails(125, name, stdout=None)
    host.run("start", name).exits(0)
    host.run("start", guest).exits(0)
    assert addresses(host, name)[0] in sh(host, guest, "ip addr")


def test_name_servers_and_hosts(host):
    make(host, "net")
    name = zone(host, "a", "net", options=("--dns", "192.0.2.53", "--dns", "2001:db8::53", "--add-host", "db:10.20.0.7",
                                           "--add-host", "db6:fd00:20::7"))
    servers = re.findall(r"^nameserver (\S+)$", sh(host, name, "cat /etc/resolv.conf"), re.M)
    assert servers == ["192.0.2.53", "2001:db8::53"]
    lines = [line.split() for line in sh(host, name, "cat /etc/hosts").splitlines()]
    assert ["10.20.0.7", "db"] in lines and ["fd00:20::7", "db6"] in lines
    assert [addresses(host, name)[0], name] in [line[:2] for line in lines]
    # They stay, also where a change writes these files anew.
    make(host, "more")
    host.run("network", "connect", "more", name).ok()
    for verb in (None, "restart"):
        if verb:
            host.run(verb, name).exits(0)
        assert "10.20.0.7" in sh(host, name, "cat /etc/hosts") and "192.0.2.53" in sh(host, name, "cat /etc/resolv.conf")
    for option, value in (("--dns", "web"), ("--add-host", "db"), ("--add-host", "db:web"), ("--add-host", "a b:10.0.0.1")):
        host.run("run", "--rm", "--network", "net", option, value, "busybox", "true").fails(125, value)


def seconds(host, name, count, incoming):
    """How long so much takes between the host and a zone."""

    def take(connection, _):
        receive(connection, count)
        connection.sendall(b"!")

    def give(connection, _):
        connection.sendall(bytes(count))

    server = Server(host, inside(host, name), 80, take if incoming else give)
    try:
        with call(host.namespace.path, addresses(host, name)[0], 80, timeout=25) as connection:
            began = time.monotonic()
            if incoming:
                connection.sendall(bytes(count))
            assert len(receive(connection, 1 if incoming else count)) == (1 if incoming else count)
            return time.monotonic() - began
    finally:
        server.close()


def test_rates(host):
    probe = subprocess.run(host.namespace.words("ip", "link", "add", "probe", "type", "ifb"), capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"the kernel has no ifb: {probe.stderr.strip()}")
    host.namespace.run("ip", "link", "del", "probe")
    make(host, "net")
    name = zone(host, "a", "net", options=("--network-in", "8mbit"))
    # 3 MB at 1 MB a second.
    count = 3_000_000
    assert 1.5 < seconds(host, name, count, True) < 6
    assert seconds(host, name, count, False) < 1
    host.run("set", "--network-in", "0", "--network-out", "8mbit", name).ok()
    assert seconds(host, name, count, True) < 1
    assert 1.5 < seconds(host, name, count, False) < 6
    brakes = [link for link in host.links() if link.startswith("zi")]
    assert len(brakes) == 1
    host.run("set", "--network-in", "16mbit", name).ok()
    assert 0.75 < seconds(host, name, count, True) < 3
    assert 1.5 < seconds(host, name, count, False) < 6
    host.run("restart", name).exits(0)
    assert 0.75 < seconds(host, name, count, True) < 3
    assert 1.5 < seconds(host, name, count, False) < 6
    assert [link for link in host.links() if link.startswith("zi")] == brakes
    # The guard stays in front.
    mac = sh(host, name, "cat /sys/class/net/eth0/address").strip()
    host.namespace.run("nsenter", f"--net={inside(host, name)}", "ip", "link", "set", "eth0", "address", "02:11:22:33:44:55")
    other = zone(host, "b", "net")
    assert not reaches_once(host, other, addresses(host, name)[0])
    host.namespace.run("nsenter", f"--net={inside(host, name)}", "ip", "link", "set", "eth0", "address", mac)
    assert reaches(host, other, addresses(host, name)[0])
    host.run("set", "--network-in", "0", "--network-out", "0", name).ok()
    assert seconds(host, name, count, True) < 1 and seconds(host, name, count, False) < 1
    assert not [link for link in host.links() if link.startswith("zi")]
    # It goes with the zone, and with its place in the network.
    host.run("set", "--network-out", "8mbit", name).ok()
    host.run("network", "disconnect", "net", name).ok()
    assert not [link for link in host.links() if link.startswith("zi")]
    host.run("network", "connect", "net", name).ok()
    host.run("set", "--network-out", "8mbit", name).ok()
    assert [link for link in host.links() if link.startswith("zi")] == brakes
    host.run("rm", "-f", name).ok()
    assert not [link for link in host.links() if link.startswith("zi")]


@pytest.mark.parametrize("rate", ["fast", "-1", "1kbit", "200gbit", "8mbits"])
def test_rates_that_are_none(host, rate):
    make(host, "net")
    host.run("run", "--rm", "--network", "net", "--network-in", rate, "busybox", "true").fails(125, rate)
    name = zone(host, "a", "net")
    host.run("set", "--network-out", rate, name).fails(125, rate)


def test_the_default_network(host, outside):
    del host.environment["ZONECTL_NETWORK"]
    assert host.run("network", "ls", "-q").lines == []
    name = zone(host, "a", command=WEB)
    assert networks(host, name) == ["zone0"] and host.run("network", "ls", "-q").lines == ["zone0"]
    other = zone(host, "b")
    assert reaches(host, other, name) and reaches(host, other, PEER[0])
    assert sh(host, other, f"wget -q -O - http://{name}.zone0/hostname").strip() == name
    lonely = zone(host, "c", "none")
    assert links(host, lonely) == set()
    for made in (name, other, lonely):
        host.run("rm", "-f", made).ok()
    host.run("network", "rm", "zone0").ok()
    # There again with the next zone.
    host.run("run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", PEER[0]).ok(stdout=None)


def test_zones_that_start_together_make_the_default_network_once(host):
    names = [host.name(f"m{number}") for number in range(8)]
    for name in names:
        host.defer(host.remove, name)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda name: host.run("run", "-d", "--name", name, "--stop-timeout", "0", "busybox", "sleep", "1000",
                                                   env={"ZONECTL_NETWORK": "zone0"}), names))
    assert not [str(result) for result in done if result.status != 0]
    assert [item["name"] for item in host.run("network", "ls", "--json").json] == ["zone0"]
    assert len({addresses(host, name)[0] for name in names}) == 8
    assert reaches(host, names[0], names[7]) and reaches(host, names[7], names[0])
    assert len(host.dnsmasq()) == 1 and len([link for link in host.links() if link.startswith("zb")]) == 1


def test_links_of_the_hosts(host, outside):
    """bridge:LINK and macvlan:LINK, where somebody else gives out addresses, or nobody does."""
    host.namespace.run("ip", "link", "add", "br9", "type", "bridge")
    host.namespace.run("ip", "link", "set", "br9", "up")
    name, other = host.name("a"), host.name("b")
    for made, words in ((name, ("--network", "bridge:br9", "--network", "macvlan:up0")), (other, ("--network", "bridge:br9"))):
        host.defer(host.remove, made)
        host.run("run", "-d", "--name", made, "--stop-timeout", "0", *words, "--cap-add", "NET_ADMIN", "busybox", "sleep",
                 "1000").exits(0)
    sh(host, name, "ip addr add 10.99.0.1/24 dev eth0; ip addr add 198.51.100.50/24 dev eth1")
    sh(host, other, "ip addr add 10.99.0.2/24 dev eth0")
    assert reaches(host, name, "10.99.0.2") and reaches(host, name, PEER[0])
    host.run("network", "disconnect", "bridge:br9", name).ok()
    assert links(host, name) == {"eth1"} and reaches(host, name, PEER[0])
    host.run("network", "connect", "bridge:br9", name).ok()
    assert links(host, name) == {"eth0", "eth1"}
    for words in (("bridge:up0",), ("bridge:nothing0",), ("macvlan:nothing0",)):
        host.run("network", "connect", *words, other).fails(125, words[0].split(":")[1])
    host.run("network", "connect", "--ip", "10.99.0.3", "macvlan:up0", other).fails(125, "DHCP")
    assert links(host, other) == {"eth0"}
    host.run("rm", "-f", name).ok()
    host.run("rm", "-f", other).ok()
    assert "br9" in host.links()
