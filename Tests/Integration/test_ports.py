# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Published ports: from the host's loopback and from outside, while zones run, change and die."""

import concurrent.futures
import hashlib
import os
import re
import signal
import socket
import struct
import threading
import time

import pytest
from leaks import read, until
from networks import (HOST, LOOPBACK, PEER, WEB, Server, addresses, ask, ask_udp, call, echoes, family, host, inside,
                      make, outside, page, ports, published, receive, refused, relay, serving, sh, within, zone)


def test_loopback_alone_is_the_default(host, outside):
    make(host, "web")
    name = published(host, "z", "8080:80", command=WEB)
    own = host.namespace.path
    for address in LOOPBACK:
        assert page(own, address, 8080) == name
    for address in HOST:
        assert refused(outside.path, address, 8080), address
        assert refused(own, address, 8080), address
    # Nor is it a zone's: what it calls is the host's end of the network.
    other = zone(host, "o", "web")
    end = re.search(r"nameserver (\S+)", sh(host, other, "cat /etc/resolv.conf"))[1]
    assert refused(inside(host, other), end, 8080)
    host.run("rm", "-f", name).ok()
    assert until(lambda: all(refused(own, address, 8080) for address in LOOPBACK))


@pytest.mark.parametrize(
    "place, works",
    [("0.0.0.0", 0), ("[::]", 1), (HOST[0], 0), (f"[{HOST[1]}]", 1)],
    ids=["any4", "any6", "one4", "one6"],
)
def test_ports_of_addresses(host, outside, place, works):
    make(host, "web")
    # Another address of the host's is another matter.
    further = ("198.51.100.9", "2001:db8:5::9")[works]
    host.namespace.run("ip", "addr", "add", f"{further}/{(24, 64)[works]}", "dev", "up0", *(["nodad"] if works else []))
    name = published(host, "z", f"{place}:8080:80")
    Server(host, inside(host, name), 80)
    assert ask(outside.path, HOST[works], 8080) == f"{PEER[works]} word end".encode()
    assert refused(outside.path, HOST[1 - works], 8080)
    # The host's own programs get there, too.
    assert ask(host.namespace.path, HOST[works], 8080).endswith(b" word end")
    if place in ("0.0.0.0", "[::]"):
        assert ask(outside.path, further, 8080) == f"{PEER[works]} word end".encode()
        assert ask(host.namespace.path, LOOPBACK[works], 8080).endswith(b" word end")
    else:
        assert refused(outside.path, further, 8080)
        assert refused(host.namespace.path, LOOPBACK[works], 8080)
    host.run("stop", name).ok()
    assert until(lambda: refused(outside.path, HOST[works], 8080))


def test_udp(host, outside):
    make(host, "web")
    name = published(host, "z", "8053:53/udp", "0.0.0.0:9053:53/udp", "[::]:9053:53/udp")
    Server(host, inside(host, name), 53, kind=socket.SOCK_DGRAM)
    own = host.namespace.path
    for address in LOOPBACK:
        assert ask_udp(own, address, 8053).endswith(b" word")
        assert ask_udp(own, address, 9053).endswith(b" word")
    for address, peer in zip(HOST, PEER):
        assert ask_udp(outside.path, address, 9053) == f"{peer} word".encode()
        assert ask_udp(outside.path, address, 8053, tries=1) is None
    # Answers come to who asked.
    clients = [call(own, "127.0.0.1", 8053, socket.SOCK_DGRAM) for _ in range(50)]
    try:
        for number, client in enumerate(clients):
            client.send(b"%d" % number)
        for number, client in reversed(list(enumerate(clients))):
            assert client.recv(100).split()[1] == b"%d" % number
    finally:
        for client in clients:
            client.close()
    # Not by TCP.
    assert refused(own, "127.0.0.1", 8053) and refused(outside.path, HOST[0], 9053)


def test_large_packets_of_udp(host, outside):
    make(host, "web")
    name = published(host, "z", "8053:53/udp", "0.0.0.0:9053:53/udp")
    Server(host, inside(host, name), 53, kind=socket.SOCK_DGRAM)
    text = os.urandom(32_000)
    assert ask_udp(host.namespace.path, "127.0.0.1", 8053, text).endswith(text)
    # In fragments on the way.
    assert ask_udp(outside.path, HOST[0], 9053, text) == f"{PEER[0]} ".encode() + text


def test_udp_that_nobody_hears(host):
    make(host, "web")
    name = published(host, "z", "8053:53/udp")
    with call(host.namespace.path, "127.0.0.1", 8053, socket.SOCK_DGRAM, timeout=0.5) as client:
        client.send(b"early")
        with pytest.raises(OSError):
            client.recv(100)
        # The same client is heard once there is somebody.
        Server(host, inside(host, name), 53, kind=socket.SOCK_DGRAM)

        def answered():
            try:
                client.send(b"late")
                return client.recv(100).endswith(b"late")
            except OSError:
                return False

        assert until(answered, seconds=5)


def test_one_port_of_both_protocols(host):
    make(host, "web")
    name = published(host, "z", "8053:53", "8053:54/udp")
    Server(host, inside(host, name), 53)
    Server(host, inside(host, name), 54, kind=socket.SOCK_DGRAM)
    assert ask(host.namespace.path, "::1", 8053).endswith(b" word end")
    assert ask_udp(host.namespace.path, "::1", 8053).endswith(b" word")
    host.run("set", "--unpublish", "8053:53", name).ok()
    assert refused(host.namespace.path, "::1", 8053)
    assert ask_udp(host.namespace.path, "::1", 8053).endswith(b" word")


def test_ranges(host, outside):
    make(host, "web")
    name = published(host, "z", "7000-7003:8000-8003", "0.0.0.0:7100-7103:8000-8003")
    for port in range(8000, 8004):
        Server(host, inside(host, name), port, lambda connection, peer, port=port: connection.sendall(b"%d" % port))
    for step in range(4):
        assert ask(host.namespace.path, "127.0.0.1", 7000 + step, b"") == b"%d" % (8000 + step)
        assert ask(outside.path, HOST[0], 7100 + step, b"") == b"%d" % (8000 + step)
    for port in (6999, 7004):
        assert refused(host.namespace.path, "127.0.0.1", port)
    for port in (7099, 7104, 7000):
        assert refused(outside.path, HOST[0], port)
    host.run("set", "--unpublish", "7000-7003:8000-8003", name).ok()
    assert all(refused(host.namespace.path, "127.0.0.1", port) for port in range(7000, 7004))
    assert ask(outside.path, HOST[0], 7103, b"") == b"8003"


def test_any_port_stays(host):
    make(host, "web")
    name = published(host, "z", "80", command=WEB)
    other = published(host, "o", "80", ":80/udp", command=WEB)
    (port,) = [port["hostPort"] for port in ports(host, name)]
    assert port >= 1024 and port != ports(host, other)[0]["hostPort"]
    assert {page(host.namespace.path, "127.0.0.1", port), page(host.namespace.path, "::1", port)} == {name}
    assert page(host.namespace.path, "127.0.0.1", ports(host, other)[0]["hostPort"]) == other
    host.run("stop", name).ok()
    assert until(lambda: refused(host.namespace.path, "127.0.0.1", port))
    host.run("start", name).exits(0)
    assert ports(host, name)[0]["hostPort"] == port and page(host.namespace.path, "127.0.0.1", port) == name
    host.run("restart", name).exits(0)
    assert page(host.namespace.path, "::1", port) == name


def test_large_transfers(host):
    make(host, "web")
    name = published(host, "z", "8080:80")
    up, down = os.urandom(50 << 20), os.urandom(50 << 20)
    got = {}

    def both_ways(connection, _):
        sender = threading.Thread(target=connection.sendall, args=(down,))
        sender.start()
        digest = hashlib.sha256()
        count = 0
        while count < len(up) and (part := connection.recv(1 << 18)):
            digest.update(part)
            count += len(part)
        got["up"] = digest.hexdigest()
        sender.join()

    server = Server(host, inside(host, name), 80, both_ways)
    with call(host.namespace.path, "127.0.0.1", 8080, timeout=25) as client:
        sender = threading.Thread(target=client.sendall, args=(up,))
        sender.start()
        assert hashlib.sha256(receive(client, len(down))).digest() == hashlib.sha256(down).digest()
        sender.join()
        assert receive(client) == b"" and not server.failed
    assert until(lambda: got.get("up")) == hashlib.sha256(up).hexdigest()


def test_who_reads_late_gets_all(host):
    """What a side does not take waits, and does not fill the relay up."""
    make(host, "web")
    name = published(host, "z", "8080:80")
    text = os.urandom(30 << 20)
    Server(host, inside(host, name), 80, lambda connection, _: connection.sendall(text))
    with call(host.namespace.path, "::1", 8080, timeout=20) as client:
        time.sleep(1)
        resident = int(read(f"/proc/{serving(host, name)}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < 24 << 20, resident
        assert hashlib.sha256(receive(client)).digest() == hashlib.sha256(text).digest()


@pytest.mark.parametrize("from_outside", [False, True], ids=["loopback", "outside"])
def test_half_closed_connections(host, outside, from_outside):
    make(host, "web")
    name = published(host, "z", "0.0.0.0:8080:80", "0.0.0.0:8081:81")
    heard = []

    def closes_first(connection, _):
        connection.sendall(b"all")
        connection.shutdown(socket.SHUT_WR)
        heard.append(receive(connection))

    Server(host, inside(host, name), 80)
    Server(host, inside(host, name), 81, closes_first)
    place = (outside.path, HOST[0]) if from_outside else (host.namespace.path, "127.0.0.1")
    # `ask` shuts its side, and `greet` says its last word after that.
    assert ask(*place, 8080, b"x" * 100_000).endswith(b"x end")
    with call(*place, 8081) as client:
        assert receive(client) == b"all"
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert until(lambda: heard) == [b"late"]


def test_a_long_answer_comes_to_its_end(host):
    """The zone has hung up while most of it waits: more than the relay passes on at once."""
    make(host, "web")
    name = published(host, "z", "8080:80")
    answer = os.urandom(3 << 20)
    gone = []

    def answers(connection, _):
        connection.sendall(receive(connection) and answer)
        connection.close()
        gone.append(True)

    Server(host, inside(host, name), 80, answers)
    with call(host.namespace.path, "127.0.0.1", 8080) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        # As on a loaded machine: all is said before the relay looks again.
        process = serving(host, name)
        os.kill(process, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(process, signal.SIGCONT)
        assert hashlib.sha256(receive(client)).digest() == hashlib.sha256(answer).digest()
    assert gone


def test_resets_are_passed_on(host):
    make(host, "web")
    name = published(host, "z", "8080:80", "8081:81")
    at_once = struct.pack("ii", 1, 0)

    def breaks_off(connection, _):
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)

    Server(host, inside(host, name), 80, breaks_off)
    server = Server(host, inside(host, name), 81)
    with call(host.namespace.path, "127.0.0.1", 8080) as client:
        client.send(b"word")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    client = call(host.namespace.path, "127.0.0.1", 8081)
    assert receive(client, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    client.close()
    # The zone does not go on to wait for one that is gone, however that is told.
    assert until(lambda: server.failed or all(connection.fileno() < 0 for connection in server.open))


def test_many_at_once(host):
    make(host, "web")
    name = published(host, "z", "8080:80")
    Server(host, inside(host, name), 80)
    assert ask(host.namespace.path, "127.0.0.1", 8080)
    process = serving(host, name)
    before = len(os.listdir(f"/proc/{process}/fd"))
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        clients = list(pool.map(lambda number: call(host.namespace.path, LOOPBACK[number % 2], 8080), range(200)))
    try:
        for number, client in enumerate(clients):
            client.sendall(b"client %03d" % number)
        for number, client in reversed(list(enumerate(clients))):
            greeting = bytearray()
            while not greeting.endswith(b" "):
                greeting += receive(client, 1)
            assert receive(client, 10) == b"client %03d" % number
    finally:
        for client in clients:
            client.close()
    # Nothing is left of them.
    assert until(lambda: len(os.listdir(f"/proc/{process}/fd")) <= before), (before, os.listdir(f"/proc/{process}/fd"))
    ticks = read(f"/proc/{process}/stat").split()[13:15]
    time.sleep(0.5)
    assert sum(map(int, read(f"/proc/{process}/stat").split()[13:15])) - sum(map(int, ticks)) < 10, "it goes round"


def test_the_silent_stop_nobody(host):
    make(host, "web")
    name = published(host, "z", "8080:80", "8081:81")
    Server(host, inside(host, name), 80)
    # Who calls 81 gets no answer at all, not even a refusal.
    host.namespace.run("nsenter", f"--net={inside(host, name)}", "nft", "-f", "-",
                       input="table inet t { chain c { type filter hook input priority 0; tcp dport 81 drop; }; }")
    silent = [call(host.namespace.path, "127.0.0.1", port) for port in (8080, 8081) * 40]
    try:
        began = time.monotonic()
        assert ask(host.namespace.path, "127.0.0.1", 8080).endswith(b" word end")
        assert ask(host.namespace.path, "::1", 8080).endswith(b" word end")
        assert time.monotonic() - began < 3
    finally:
        for client in silent:
            client.close()


def test_a_port_that_nobody_listens_at(host, outside):
    make(host, "web")
    name = published(host, "z", "0.0.0.0:8080:80", "[::]:8080:80")
    for address in LOOPBACK:
        with pytest.raises(ConnectionResetError), call(host.namespace.path, address, 8080, timeout=5) as client:
            client.recv(1)
    for address in HOST:
        assert refused(outside.path, address, 8080)
    # And as soon as somebody does, it is served.
    Server(host, inside(host, name), 80)
    assert ask(host.namespace.path, "127.0.0.1", 8080).endswith(b" word end")
    assert ask(outside.path, HOST[1], 8080).endswith(b" word end")


@pytest.mark.parametrize(
    "address, kind, words",
    [
        ("127.0.0.1", socket.SOCK_STREAM, ("8080:80",)),
        ("::1", socket.SOCK_STREAM, ("8080:80",)),
        ("::", socket.SOCK_STREAM, ("0.0.0.0:8080:80",)),
        ("0.0.0.0", socket.SOCK_DGRAM, ("8080:80/udp",)),
        ("127.0.0.1", socket.SOCK_STREAM, ("9000:90", "8078-8081:78-81")),
    ],
)
def test_a_port_that_is_taken(host, address, kind, words):
    make(host, "web")
    other = within(host.namespace.path, socket.socket, family(address), kind)
    host.defer(other.close)
    other.bind((address, 8080))
    if kind == socket.SOCK_STREAM:
        other.listen()
    name = host.name("z")
    host.defer(host.remove, name)
    options = [word for port in words for word in ("-p", port)]
    host.run("run", "-d", "--name", name, "--network", "web", *options, "busybox", *WEB).fails(125, "8080", "taken")
    assert host.status(name) != "running" and relay(host, name) is None
    assert host.keeper(name) is None
    # Those that were free are so again.
    assert refused(host.namespace.path, "127.0.0.1", 9000)
    other.close()
    host.run("rm", "-f", name)
    host.run("run", "-d", "--name", name, "--network", "web", *options, "busybox", *WEB).ok()
    if kind == socket.SOCK_STREAM:
        assert not refused(host.namespace.path, "127.0.0.1", 8080)


@pytest.mark.parametrize("first, second", [("8080:80", "8080:81"), ("0.0.0.0:8080:80", "127.0.0.1:8080:80"),
                                           ("[::1]:8080:80", "[::]:8080:80"), ("8080:80/udp", "0.0.0.0:8079-8081:1-3/udp")])
def test_a_port_of_another_zone(host, first, second):
    make(host, "web")
    holder = published(host, "a", first)
    name = host.name("b")
    host.defer(host.remove, name)
    run = ("run", "-d", "--name", name, "--network", "web", "-p", second, "busybox", *WEB)
    host.run(*run).fails(125, "8080", holder)
    assert host.status(name) != "running" and serving(host, holder)
    # While it runs, too, and nothing has changed then.
    third = zone(host, "c", "web", options=("-p", "9999:99"))
    host.run("set", "--publish", "7000:80", "--publish", second, third).fails(125, "8080", holder)
    assert [port["hostPort"] for port in ports(host, third)] == [9999]
    assert refused(host.namespace.path, "127.0.0.1", 7000)
    Server(host, inside(host, third), 99)
    assert ask(host.namespace.path, "127.0.0.1", 9999).endswith(b" word end")
    # Who has ended holds nothing.
    host.run("stop", holder).ok()
    host.run("rm", "-f", name)
    host.run(*run).ok()
    host.run("start", holder).fails(125, "8080", name)


@pytest.mark.parametrize("who", ["itself", "near", "far"])
def test_zones_call_published_ports(host, outside, who):
    """Their own, a neighbour's, and one in another network: by the host's addresses."""
    make(host, "web")
    make(host, "far")
    name = published(host, "z", "0.0.0.0:8080:80", "[::]:8080:80", "0.0.0.0:8053:53/udp", "9090:80")
    Server(host, inside(host, name), 80)
    Server(host, inside(host, name), 53, kind=socket.SOCK_DGRAM)
    caller = name if who == "itself" else zone(host, "c", "far" if who == "far" else "web")
    # The host's end of its network is such an address, too.
    via = re.search(r"nameserver (\S+)", sh(host, caller, "cat /etc/resolv.conf"))[1]
    for address in (*HOST, via):
        assert ask(inside(host, caller), address, 8080).endswith(b" word end"), address
        # What is the loopback's is not theirs.
        assert refused(inside(host, caller), address, 9090)
    assert ask_udp(inside(host, caller), HOST[0], 8053).endswith(b" word")
    if who == "far":
        # Past what is published there is no way.
        for address in addresses(host, name):
            with pytest.raises(OSError):
                call(inside(host, caller), address, 80, timeout=1).close()


def test_an_internal_network_has_no_ports_outside(host, outside):
    make(host, "deep", "--internal")
    name = published(host, "z", "0.0.0.0:8080:80", network="deep")
    Server(host, inside(host, name), 80)
    assert ask(host.namespace.path, "127.0.0.1", 8080).endswith(b" word end")
    with pytest.raises(OSError):
        call(outside.path, HOST[0], 8080, timeout=1.5).close()


def test_changes_while_connections_go_on(host, outside):
    make(host, "web")
    name = published(host, "z", "8080:80", "0.0.0.0:8081:80", "8082:80")
    Server(host, inside(host, name), 80)
    own, pid = host.namespace.path, host.pid(name)
    with call(own, "127.0.0.1", 8080) as near, call(outside.path, HOST[0], 8081) as far, call(own, "::1", 8082) as last:
        for connection in (near, far, last):
            while receive(connection, 1) != b" ":
                pass
            assert echoes(connection, b"before")
        host.run("set", "--publish", "9090:80", "--publish", "0.0.0.0:9091:80", "--unpublish", "8082:80", name).ok()
        assert ask(own, "127.0.0.1", 9090).endswith(b" word end")
        assert ask(outside.path, HOST[0], 9091) == f"{PEER[0]} word end".encode()
        assert all(refused(own, address, 8082) for address in LOOPBACK)
        for connection in (near, far, last):
            assert echoes(connection, b"between")
        # The port alone names it, too; what is open goes on.
        host.run("set", "--unpublish", "8080", "--unpublish", "0.0.0.0:8081:80", name).ok()
        assert refused(own, "127.0.0.1", 8080) and refused(outside.path, HOST[0], 8081)
        for connection in (near, far, last):
            assert echoes(connection, b"after" * 1000)
    assert sorted(port["hostPort"] for port in ports(host, name)) == [9090, 9091]
    assert host.pid(name) == pid
    host.run("set", "--unpublish", "8080", name).fails(125, "8080")
    host.run("set", "--publish", "9090:81", name).fails(125, "9090", "already")
    host.run("set", "--unpublish", "9090", "--unpublish", "0.0.0.0:9091:80", name).ok()
    assert refused(own, "127.0.0.1", 9090) and ports(host, name) == []
    host.run("set", "--publish", "80", name).ok()
    assert ask(own, "::1", ports(host, name)[0]["hostPort"]).endswith(b" word end")


def test_ports_of_a_stopped_zone(host):
    make(host, "web")
    name = zone(host, "z", "web", command=WEB)
    host.run("stop", name).ok()
    host.run("set", "--publish", "8080:80", name).ok()
    assert refused(host.namespace.path, "127.0.0.1", 8080)
    host.run("start", name).exits(0)
    assert page(host.namespace.path, "127.0.0.1", 8080) == name
    host.run("restart", name).exits(0)
    assert page(host.namespace.path, "::1", 8080) == name


@pytest.mark.parametrize(
    "options, said",
    [
        (("--network", "none", "-p", "8080:80"), "network of zones"),
        (("--network", "host", "-p", "8080:80"), "host's"),
        (("-p", "8080:80", "-p", "8080:81"), "8080"),
        (("-p", "8080:80", "-p", "0.0.0.0:8079-8081:79-81"), "8080"),
        (("-p", "198.51.100.77:8080:80"), "198.51.100.77"),
        (("-p", "0:80"), "8080:80"),
        (("-p", "65536:80"), "8080:80"),
        (("-p", "8080:80/sctp"), "8080:80"),
        (("-p", "8000-8003:80-82"), "8080:80"),
        (("-p", "65530-65540:1-11"), "8080:80"),
        (("-p", "1-5000:1-5000"), "4096"),
        (("-p", "::1:8080:80"), "8080:80"),
        (("-p", "localhost:8080:80"), "localhost"),
        (("-p", ""), "8080:80"),
        (("-p", "[::1]"), "8080:80"),
    ],
)
def test_bad_input(host, options, said):
    make(host, "web")
    network = () if "--network" in options else ("--network", "web")
    host.run("run", "--rm", *network, *options, "busybox", "true").fails(125, said)
    assert not host.listed() and refused(host.namespace.path, "127.0.0.1", 8080)
