# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""For tests of networks: a network namespace that plays the host, one that plays the outside, servers and clients in either."""

import concurrent.futures
import ctypes
import os
import shutil
import socket
import subprocess
import threading

import pytest
from fixture import ZoneHost
from leaks import alive, read, until

OUTSIDE = {"host": ("198.51.100.1/24", "2001:db8:5::1/64"), "peer": ("198.51.100.2/24", "2001:db8:5::2/64")}
LOOPBACK = ("127.0.0.1", "::1")
HOST = [address.split("/")[0] for address in OUTSIDE["host"]]
PEER = [address.split("/")[0] for address in OUTSIDE["peer"]]
BOTH = ("--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64")
WEB = ("httpd", "-f", "-h", "/etc")


class Namespace:
    """A network namespace, for as long as a process of ours is in it."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        own = os.readlink("/proc/self/ns/net")
        assert until(lambda: os.readlink(self.path) != own)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self):
        return f"/proc/{self.process.pid}/ns/net"

    def words(self, *words):
        return ("nsenter", f"--net={self.path}", "--", *map(str, words))

    def run(self, *words, **keywords):
        return subprocess.run(self.words(*words), check=True, capture_output=True, text=True, timeout=20, **keywords).stdout

    def close(self):
        self.process.kill()
        self.process.wait()


class NetHost(ZoneHost):
    """zonectl on a host whose network is a namespace of the test's."""

    namespace = None

    def command(self, *arguments):
        return self.namespace.words(*super().command(*arguments))

    def nft(self, *words):
        return self.namespace.run("nft", *words)

    def links(self):
        return {line.split()[0].split("@")[0] for line in self.namespace.run("ip", "-br", "link").splitlines()}

    def dnsmasq(self):
        """Processes that answer for names on this host's networks."""
        own = f"--pid-file={self.root}/"
        return [pid for pid in filter(str.isdigit, os.listdir("/proc"))
                if own in read(f"/proc/{pid}/cmdline") and alive(pid)]


@pytest.fixture
def host(executable, session_store, test_folder):
    for program, package in (("nft", "nftables"), ("dnsmasq", "dnsmasq-base"), ("ip", "iproute2")):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian package {package})")
    store = test_folder / "store"
    subprocess.run(["cp", "-a", session_store, store], check=True, timeout=60)
    made = NetHost(executable, test_folder, store)
    made.namespace = Namespace()
    made.defer(made.namespace.close)
    # Zones are gone by then.
    made.defer(lambda: [made.run("network", "rm", name).ok() for name in made.run("network", "ls", "-q").lines])
    yield made
    left = made.close()
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def outside(host):
    """The other end of the host's only link to elsewhere."""
    peer = Namespace()
    host.defer(peer.close)
    host.namespace.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", str(peer.process.pid))
    for namespace, link, side in ((host.namespace, "up0", "host"), (peer, "eth0", "peer")):
        for address in OUTSIDE[side]:
            namespace.run("ip", "addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
        namespace.run("ip", "link", "set", link, "up")
    # Before its own addresses are settled a host asks for no neighbours.
    for namespace in (host.namespace, peer):
        assert until(lambda: "tentative" not in namespace.run("ip", "-6", "addr"), seconds=8)
    return peer


def make(host, name, *options):
    host.run("network", "create", *options, name).ok(stdout=name + "\n")
    return host.run("network", "inspect", name).ok().json[0]


def zone(host, suffix, *networks, command=("sleep", "1000"), options=()):
    words = [word for network in networks for word in ("--network", network)]
    return host.detached(suffix, command, ("--stop-timeout", "0", *words, *options))


def addresses(host, name, number=0):
    return host.inspect(name)["definition"]["networks"][number]["addresses"]


def sh(host, name, script):
    return host.run("exec", name, "sh", "-c", script).exits(0).stdout


def reaches_once(host, name, target, six=False):
    return host.run("exec", name, "ping", "-6" if six else "-4", "-c", "1", "-W", "1", target).status == 0


def reaches(host, name, target, six=False):
    """Names and neighbours are found a moment after they are there, and machines are slow at times."""
    return until(lambda: reaches_once(host, name, target, six), seconds=8)


# Sockets in namespaces. They are the test's own, so it needs no program in a zone to see what comes and goes.

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def within(namespace, action, *arguments):
    """Does something in a network namespace, given by its path: a socket that is made there stays there."""

    def enter():
        with open(namespace) as file:
            if _libc.setns(file.fileno(), CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
        return action(*arguments)

    # Only a thread of its own enters.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


def inside(host, name):
    """The network namespace of a zone that runs."""
    return f"/proc/{host.pid(name)}/ns/net"


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def call(namespace, address, port, kind=socket.SOCK_STREAM, timeout=10):
    """A connection that begins in a namespace."""
    made = within(namespace, socket.socket, family(address), kind)
    made.settimeout(timeout)
    try:
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def receive(connection, count=None):
    """So many bytes, or all up to the end."""
    got = bytearray()
    while count is None or len(got) < count:
        part = connection.recv(1 << 16 if count is None else min(1 << 16, count - len(got)))
        if not part:
            break
        got += part
    return bytes(got)


def ask(namespace, address, port, text=b"word"):
    """What a server says to a client that sends a text and is then silent for good."""
    with call(namespace, address, port) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return receive(connection)


def ask_udp(namespace, address, port, text=b"word", tries=4):
    """The answer to one packet, `None` if there is none."""
    with call(namespace, address, port, socket.SOCK_DGRAM, timeout=1.5) as connection:
        for _ in range(tries):
            try:
                connection.send(text)
                return connection.recv(1 << 16)
            except (TimeoutError, ConnectionRefusedError):
                pass
    return None


def refused(namespace, address, port):
    """Whether nobody is there, which is said at once."""
    try:
        call(namespace, address, port, timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # By who was there to take the call, and found nobody behind.
        pass
    return False


def page(namespace, address, port):
    """/hostname of a web server that may have begun just now, `None` if there is none."""

    def once():
        try:
            answer = ask(namespace, address, port, b"GET /hostname HTTP/1.0\r\n\r\n")
        except OSError:
            return None
        return answer.rpartition(b"\r\n\r\n")[2].decode().strip()

    return until(once, seconds=8)


def greet(connection, peer):
    """Tells clients who they are, and repeats what they say to the end."""
    connection.sendall(f"{peer} ".encode())
    while part := connection.recv(1 << 16):
        connection.sendall(part)
    connection.sendall(b" end")


class Server:
    """Answers in a namespace, in both families, each client by a thread of the test's."""

    def __init__(self, host, namespace, port, answer=greet, kind=socket.SOCK_STREAM):
        self.answer, self.kind, self.open, self.failed = answer, kind, [], []
        self.socket = within(namespace, socket.socket, socket.AF_INET6, kind)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("::", port))
        host.defer(self.close)
        if kind == socket.SOCK_STREAM:
            self.socket.listen(512)
        threading.Thread(target=self._accept if kind == socket.SOCK_STREAM else self._receive, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, name = self.socket.accept()
            except OSError:
                return
            connection.settimeout(30)
            self.open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self._peer(name)), daemon=True).start()

    def _serve(self, connection, peer):
        try:
            with connection:
                self.answer(connection, peer)
        except OSError as error:
            self.failed.append(error)

    def _receive(self):
        while True:
            try:
                text, name = self.socket.recvfrom(1 << 16)
                # None: it is shut.
                if name is None:
                    return
                self.socket.sendto(f"{self._peer(name)} ".encode() + text, name)
            except OSError:
                return

    @staticmethod
    def _peer(name):
        return name[0].removeprefix("::ffff:")

    def close(self):
        """Lets go of the namespace, too, which would stay with a socket in it."""
        for made in (self.socket, *self.open):
            try:
                made.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            made.close()


def published(host, suffix, *ports, network="web", command=("sleep", "1000"), options=()):
    words = [word for port in ports for word in ("-p", port)]
    return zone(host, suffix, network, command=command, options=(*words, *options))


def relay(host, name):
    """The process that serves a zone's ports, `None` if there is none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if read(f"/proc/{pid}/cmdline").replace("\0", "") == f"zonectl: ports of {name}" and alive(pid):
            return int(pid)
    return None


def serving(host, name):
    """The same, once it has settled: who starts it does not wait for it."""
    process = until(lambda: relay(host, name), seconds=5)
    assert process and until(lambda: "NoNewPrivs:\t1" in read(f"/proc/{process}/status"), seconds=5)
    return process


def ports(host, name):
    return host.inspect(name)["definition"].get("ports", [])


def echoes(connection, text):
    """Whether a connection to a greeting server goes on."""
    connection.sendall(text)
    return receive(connection, len(text)) == text
