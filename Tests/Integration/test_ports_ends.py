# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Published ports when relays, zones, keepers and rules end, and when zones start together."""

import concurrent.futures
import os
import signal

import pytest
from leaks import alive, read, until
from networks import (HOST, LOOPBACK, PEER, WEB, Server, ask, host, inside, make, outside, page, published, refused, relay,
                      serving, zone)


def test_the_relay_is_killed(host, outside):
    make(host, "web")
    name = published(host, "z", "0.0.0.0:8080:80", "[::]:8080:80", command=WEB)
    assert page(host.namespace.path, "127.0.0.1", 8080) == name
    os.kill(serving(host, name), signal.SIGKILL)
    assert until(lambda: relay(host, name) is None)
    assert refused(host.namespace.path, "127.0.0.1", 8080)
    for address in HOST:
        assert page(outside.path, address, 8080) == name
    # Another port brings another relay.
    host.run("set", "--publish", "8081:80", name).ok()
    assert page(host.namespace.path, "::1", 8081) == name
    host.run("restart", name).exits(0)
    for address in LOOPBACK:
        assert page(host.namespace.path, address, 8080) == name and page(host.namespace.path, address, 8081) == name
    assert page(outside.path, HOST[1], 8080) == name


@pytest.mark.parametrize("end", ["itself", "stop", "killed", "keeper first"])
def test_the_relay_ends_with_the_zone(host, end):
    make(host, "web")
    name = published(host, "z", "8080:80", command=("sh", "-c", "until test -e /end; do sleep 0.1; done"))
    process = serving(host, name)
    assert not refused(host.namespace.path, "127.0.0.1", 8080)
    if end == "itself":
        host.run("exec", name, "touch", "/end").ok()
    elif end == "stop":
        host.run("stop", name).ok()
    else:
        # Nobody is left who could tell it.
        if end == "keeper first":
            os.kill(host.keeper(name), signal.SIGKILL)
        os.kill(host.pid(name), signal.SIGKILL)
    assert until(lambda: not alive(process))
    assert refused(host.namespace.path, "127.0.0.1", 8080)


def test_the_relay_has_no_rights(host):
    make(host, "web")
    name = published(host, "z", "80:80", "0.0.0.0:81:80/udp")
    process = serving(host, name)
    status = dict(line.split(":", 1) for line in read(f"/proc/{process}/status").splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].split() == [] and status["NoNewPrivs"].split() == ["1"]
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    # Sockets, and nothing of the store's, of the root's, or of who started it.
    held = [os.readlink(f"/proc/{process}/fd/{number}") for number in os.listdir(f"/proc/{process}/fd")]
    others = {link for link in held if not link.startswith(("socket:", "anon_inode:", "pidfd:", "/dev/null"))}
    assert not others and os.readlink(f"/proc/{process}/cwd") == "/", held


def test_ports_come_back_after_a_flush(host, outside):
    make(host, "web")
    name = published(host, "z", "0.0.0.0:8080:80", "[::]:8080:80", f"{HOST[0]}:8081:80")
    Server(host, inside(host, name), 80)
    host.nft("flush", "ruleset")
    # Even then: the relay holds these ports. Who calls is then the host, for the zone.
    assert ask(outside.path, HOST[0], 8080).endswith(b" word end")
    zone(host, "n", "web")
    for address, peer in zip(HOST, PEER):
        assert ask(outside.path, address, 8080) == f"{peer} word end".encode()
    assert ask(outside.path, HOST[0], 8081) == f"{PEER[0]} word end".encode()
    # So does a change, and one that only takes away.
    host.nft("flush", "ruleset")
    host.run("set", "--publish", "0.0.0.0:8082:80", name).ok()
    for port in (8080, 8082):
        assert ask(outside.path, HOST[0], port) == f"{PEER[0]} word end".encode()
    host.nft("flush", "ruleset")
    host.run("set", "--unpublish", "0.0.0.0:8082:80", name).ok()
    assert refused(outside.path, HOST[0], 8082)


def test_what_the_killed_leave_is_in_nobodys_way(host, outside):
    make(host, "web")
    left = published(host, "l", "0.0.0.0:8080:80", f"{HOST[0]}:8081:80")
    process = serving(host, left)
    os.kill(host.keeper(left), signal.SIGKILL)
    os.kill(host.pid(left), signal.SIGKILL)
    assert until(lambda: not alive(process))
    assert "8080" in host.nft("list", "ruleset"), "nothing stale is left to be tested with"
    # Two of its elements are stale, and lead to an address where nobody is.
    name = published(host, "z", "0.0.0.0:8080:80", f"{HOST[0]}:8081:80")
    Server(host, inside(host, name), 80)
    for port in (8080, 8081):
        assert ask(outside.path, HOST[0], port) == f"{PEER[0]} word end".encode()
    host.run("rm", "-f", left).ok()
    # Its removal takes back its own alone.
    for port in (8080, 8081):
        assert ask(outside.path, HOST[0], port) == f"{PEER[0]} word end".encode()
    host.run("rm", "-f", name).ok()
    assert "8080" not in host.nft("list", "ruleset") and "8081" not in host.nft("list", "ruleset")


def test_restarts_by_policy_keep_ports(host, outside):
    make(host, "web")
    name = published(host, "z", "0.0.0.0:8080:80", command=WEB, options=("--restart", "always"))
    assert page(outside.path, HOST[0], 8080) == name
    former = host.pid(name)
    os.kill(former, signal.SIGKILL)
    assert until(lambda: host.status(name) == "running" and host.pid(name) != former)
    assert page(outside.path, HOST[0], 8080) == name
    assert page(host.namespace.path, "127.0.0.1", 8080) == name
    assert host.nft("list", "ruleset").count("tcp . 8080") == 1


def test_zones_that_start_together_have_one_port_once(host, outside):
    make(host, "web")
    names = [host.name(f"m{number}") for number in range(6)]
    for name in names:
        host.defer(host.remove, name)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda name: host.run("run", "-d", "--name", name, "--network", "web", "--stop-timeout", "0",
                                                   "-p", "0.0.0.0:8080:80", "busybox", *WEB), names))
    (winner,) = [name for name, result in zip(names, done) if result.status == 0]
    for name, result in zip(names, done):
        if name != winner:
            result.fails(125, "8080")
    assert page(outside.path, HOST[0], 8080) == winner and page(host.namespace.path, "127.0.0.1", 8080) == winner


