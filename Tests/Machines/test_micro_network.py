# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Micro machines in networks: with each other, with containers, and from the host's side."""

import os
import re
import signal

from leaks import until
from networks import addresses, inside, make, page, ports, reaches, reaches_once, refused, relay, sh, zone

WEB = ("httpd", "-f", "-h", "/etc")


def machine(host, suffix, *networks, command=("sleep", "1000"), options=()):
    words = [word for network in networks for word in ("--network", network)]
    return host.boot(suffix, command, ("--stop-timeout", "0", *words, *options))


def test_machines_and_a_container_in_one_network(net_host):
    host = net_host
    make(host, "web")
    first = machine(host, "one", "web", command=WEB, options=("-p", "8080:80"))
    second = machine(host, "two", "web")
    third = zone(host, "three", "web", command=WEB)
    # By name and by address, in both families, and both ways.
    for asker, target in ((second, first), (third, first), (first, third), (second, third)):
        for name in (target, f"{target}.web", *addresses(host, target)):
            assert reaches(host, asker, name, six=":" in name), (asker, name)
        assert sh(host, asker, f"wget -q -O - http://{target}/hostname").strip() == target
    # What it is told of itself.
    shown = sh(host, second, "ip -o addr show eth0; cat /etc/hosts /etc/resolv.conf; ip -o link show eth0")
    for address in addresses(host, second):
        assert f" {address}/" in shown and re.search(rf"^{re.escape(address)}\s", shown, re.MULTILINE), shown
    definition = host.inspect(second)["definition"]["networks"][0]
    assert definition["mac"] in shown, (definition, shown)
    gateway = re.search(r"nameserver (\S+)", shown)[1]
    assert reaches(host, second, gateway, six=":" in gateway)
    # A published port, from the host's side; and none once the machine is gone.
    assert page(host.namespace.path, "127.0.0.1", 8080) == first
    host.run("stop", first).ok()
    assert until(lambda: refused(host.namespace.path, "127.0.0.1", 8080), 8)
    host.run("start", first).ok()
    assert page(host.namespace.path, "127.0.0.1", 8080) == first
    for name in (first, second, third):
        host.run("rm", "-f", name).ok()
    host.run("network", "rm", "web").ok(stdout="web\n")
    assert until(lambda: host.links() == {"lo"}) and host.nft("list", "tables") == "" and not host.dnsmasq()


def test_a_machine_cannot_speak_for_others(net_host):
    """An address or a MAC that is not its own leads to nobody (P15)."""
    host = net_host
    make(host, "web", "--subnet", "10.77.0.0/24")
    liar = machine(host, "liar", "web", options=("--cap-add", "NET_ADMIN"))
    other = zone(host, "other", "web")
    target = addresses(host, other)[0]
    assert reaches(host, liar, target)
    sh(host, liar, "ip addr add 10.77.0.200/24 dev eth0")
    assert host.run("exec", liar, "ping", "-c", "1", "-W", "1", "-I", "10.77.0.200", target).status != 0
    sh(host, liar, "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up")
    assert not reaches_once(host, liar, target)


def test_no_network(net_host):
    host = net_host
    result = host.run("run", "--rm", *host.kind, "--network", "none", "busybox", "sh", "-c", "ip -o link; ip route").ok()
    assert re.findall(r"^\d+: (\S+?)[:@]", result.stdout, re.MULTILINE) == ["lo"], result
    assert len(result.lines) == 1, result
    assert host.links() == {"lo"}


def test_qemu_is_killed_in_a_network(net_host):
    """Its link, rules and ports go with it, and come back with it."""
    host = net_host
    make(host, "web")
    name = machine(host, "lost", "web", command=WEB, options=("-p", "8081:80"))
    before = addresses(host, name)
    assert page(host.namespace.path, "127.0.0.1", 8081) == name and ports(host, name)
    assert relay(host, name) and inside(host, name)
    os.kill(host.qemu(name), signal.SIGKILL)
    assert host.ended(name)["status"].startswith("stopped")
    assert until(lambda: refused(host.namespace.path, "127.0.0.1", 8081), 8)
    assert until(lambda: not any(link.startswith("zv") for link in host.links()), 5), host.links()
    host.run("start", name).ok()
    assert addresses(host, name) == before
    assert page(host.namespace.path, "127.0.0.1", 8081) == name
