# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What answers for names: with which rights it does, and what it sees of the host."""

import os
import pathlib
import pwd
import shutil
import socket
import struct
import subprocess

import pytest
from leaks import read, until
from networks import addresses, host, make, reaches, sh, within, zone

NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13
NOBODY = 65534
PLACE = ".networks/web"


def rights(pid):
    return dict(line.split(":\t") for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)


def is_unprivileged(pid, capabilities):
    """Whether a process has an ordinary user, no way to another one, and no more capabilities than these."""
    status = rights(pid)
    try:
        user = pwd.getpwnam("dnsmasq").pw_uid
    except KeyError:
        user = NOBODY
    assert status["Uid"].split() == [str(user)] * 4 and "0" not in status["Gid"].split(), status
    assert status["Groups"].strip() == "" and status["NoNewPrivs"] == "1", status
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        assert int(status[kind], 16) & ~capabilities == 0, (kind, status)
    return True


def as_other(*words):
    """Whether an ordinary user can do something."""
    return subprocess.run(["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "--", *map(str, words)],
                          capture_output=True).returncode == 0


def attempt(pid, *words):
    """What a program of the host's may do in the place of a process: its root, its user, its capabilities."""
    status = rights(pid)
    uid, gid = status["Uid"].split()[0], status["Gid"].split()[0]
    return subprocess.run(
        ["nsenter", "-t", str(pid), "-m", "-r", "-w", "--", "setpriv", "--reuid", uid, "--regid", gid, "--clear-groups",
         "--inh-caps=-all", "--", *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_it_has_no_rights_of_roots(host, umask):
    make(host, "web")
    former = os.umask(umask)
    try:
        one = zone(host, "one", "web")
        (pid,) = host.dnsmasq()
        assert is_unprivileged(pid, NET_BIND_SERVICE | NET_ADMIN | NET_RAW)
        assert reaches(host, one, f"{one}.web")
        # Read after the start, so with the rights that it has now; also what is told to look again.
        two = zone(host, "two", "web")
        assert reaches(host, one, two) and reaches(host, two, one, six=True)
        host.run("rm", "-f", two).ok()
        assert until(lambda: host.run("exec", one, "nslookup", f"{two}.web").status == 1) and reaches(host, one, one)
    finally:
        os.umask(former)
    assert host.dnsmasq() == [pid] and is_unprivileged(pid, NET_BIND_SERVICE | NET_ADMIN | NET_RAW)


def test_its_files_are_nobody_elses(host):
    make(host, "web")
    name = zone(host, "a", "web")
    folder = pathlib.Path(host.root) / PLACE
    # Even where ROOT is open to all.
    for opened in (pathlib.Path(host.root), folder.parent):
        opened.chmod(0o755)
    assert as_other("ls", folder.parent)
    assert not as_other("ls", folder) and not as_other("ls", folder / "hosts")
    assert not as_other("cat", folder / "hosts" / name) and not as_other("cat", folder / "dnsmasq.pid")


def test_it_sees_little_and_writes_nowhere(host):
    make(host, "web")
    name = zone(host, "a", "web", options=("-v", "data:/data"))
    (pid,) = host.dnsmasq()
    folder = pathlib.Path(host.root) / PLACE
    own = "".join(f"{address} {name}\n" for address in addresses(host, name))
    assert attempt(pid, "cat", folder / "hosts" / name).stdout == own
    for place in (folder / "hosts" / name, folder / "new", folder / "hosts/new", f"{host.root}/x", "/tmp/x", "/x", "/etc/x",
                  "/run/x", "/dev/x"):
        assert attempt(pid, "sh", "-c", f": >>{place}").returncode != 0, place
    assert attempt(pid, "ls", host.root).stdout == "" and attempt(pid, "ls", folder.parent).stdout == "web\n"
    for hidden in ("/root", "/home", "/var/lib", host.store, "/sys", "/boot"):
        assert attempt(pid, "ls", hidden).returncode != 0, hidden
    assert attempt(pid, "cat", "/dev/null").returncode == 0 and attempt(pid, "cat", folder / "dnsmasq.pid").returncode != 0


def test_it_gets_there_where_others_have_no_way(host, test_folder):
    """As with XDG_RUNTIME_DIR: in /run, which it sees, below a folder that is shut to it."""
    closed = pathlib.Path("/run") / test_folder.name
    closed.mkdir(mode=0o700)
    host.use_folders(closed / "deep/root", host.store)
    try:
        make(host, "web")
        one, two = zone(host, "one", "web"), zone(host, "two", "web")
        assert reaches(host, two, one) and closed.stat().st_mode & 0o777 == 0o700
        (pid,) = host.dnsmasq()
        assert attempt(pid, "ls", closed).stdout == "deep\n" and attempt(pid, "ls", "-A", host.root).stdout == ".networks\n"
    finally:
        host.run("rm", "-f", one, two).ok()
        host.run("network", "rm", "web").ok()
        shutil.rmtree(closed)


def test_its_own_error_is_told_and_it_starts_once_it_can(host):
    network = make(host, "web")
    # Whoever has the port of the host's address has it.
    host.namespace.run("ip", "link", "add", "else0", "type", "bridge")
    gateway = network["gateways"][0]
    host.namespace.run("ip", "addr", "add", f"{gateway}/32", "dev", "else0")
    host.namespace.run("ip", "link", "set", "else0", "up")
    with within(host.namespace.path, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((gateway, 53))
        said = host.run("run", "--rm", "--network", "web", "busybox", "true").fails(125, "web")
        assert "in use" in said.stderr and not host.dnsmasq(), said
    host.namespace.run("ip", "link", "del", "else0")
    assert reaches(host, zone(host, "a", "web"), gateway) and len(host.dnsmasq()) == 1


def question(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


class Upstream:
    """A server that answers all with one address."""

    def __init__(self, host, address, answer):
        host.namespace.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
        self.socket = within(host.namespace.path, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.socket.settimeout(0.2)
        self.answer = socket.inet_aton(answer)
        host.defer(self.socket.close)

    def serve(self):
        try:
            text, client = self.socket.recvfrom(512)
        except TimeoutError:
            return
        end = text.index(b"\0", 12) + 5
        head = text[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        self.socket.sendto(head + text[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + self.answer, client)


def asked(host, gateway, *servers):
    """The address that a name of the outside has."""
    with within(host.namespace.path, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        for _ in range(20):
            client.sendto(question("example.org"), (gateway, 53))
            for server in servers:
                server.serve()
            try:
                answer = client.recv(512)
            except TimeoutError:
                continue
            if answer[3] & 15 == 0:
                return socket.inet_ntoa(answer[-4:])
    return None


@pytest.mark.parametrize("way", ["file", "written", "link", "elsewhere", "mount"])
def test_it_follows_whom_the_host_asks(host, test_folder, way):
    """As /etc/resolv.conf changes: written, replaced by a rename, or what it leads to is."""
    gateway = make(host, "web")["gateways"][0]
    one, two = Upstream(host, "192.0.2.1", "203.0.113.1"), Upstream(host, "192.0.2.2", "203.0.113.2")
    etc, place = test_folder / "etc", test_folder / "run"
    etc.mkdir(), place.mkdir()
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache", "protocols", "services"):
        if os.path.exists(f"/etc/{name}"):
            (etc / name).write_bytes(pathlib.Path(f"/etc/{name}").read_bytes())
    own = {"link": place / "deep/resolv.conf", "elsewhere": place / "resolv.conf", "mount": place / "resolv.conf"}.get(
        way, etc / "resolv.conf")
    own.parent.mkdir(exist_ok=True)
    own.write_text("nameserver 192.0.2.1\n")
    more = ""
    if way == "link":
        (etc / "resolv.conf").symlink_to("../run/deep/resolv.conf")
        more = f"mount --bind {place} /run &&"
    elif way == "elsewhere":
        (etc / "resolv.conf").symlink_to(own)
    elif way == "mount":
        (etc / "resolv.conf").touch()
        more = f"mount --bind {own} /etc/resolv.conf &&"
    wrap = ("unshare", "-m", "--propagation", "private", "sh", "-c", f'mount --bind {etc} /etc && {more} exec "$@"', "sh")
    name = host.name("a")
    host.defer(host.remove, name)
    host.run("run", "-d", "--name", name, "--network", "web", "--stop-timeout", "0", "busybox", "sleep", "1000", wrap=wrap).exits(0)
    assert asked(host, gateway, one, two) == "203.0.113.1"
    # dnsmasq hears of no change of a file that is mounted there, wherever it runs.
    if way == "mount":
        return
    if way == "written":
        own.write_text("nameserver 192.0.2.2\n")
    else:
        new = own.with_name("new")
        new.write_text("nameserver 192.0.2.2\n")
        new.rename(own)
    assert until(lambda: asked(host, gateway, one, two) == "203.0.113.2", seconds=10)


def test_the_resolver_of_a_zone_has_none_either(host):
    for network in ("one", "two", "three"):
        make(host, network)
    other, third = zone(host, "o", "two"), zone(host, "t", "three")
    name = zone(host, "a", "one", "two", options=("--cap-add", "NET_ADMIN"))
    assert reaches(host, name, f"{other}.two")
    # Beside those of the networks.
    path = f"--pid-file={host.root}/{name}/"
    (pid,) = [pid for pid in host.dnsmasq() if path in read(f"/proc/{pid}/cmdline")]
    assert is_unprivileged(pid, NET_BIND_SERVICE)
    assert attempt(pid, "ls", host.root).stdout == name + "\n"
    assert attempt(pid, "ls", f"{host.root}/{name}").stdout == "names\n"
    assert attempt(pid, "ls", "-A", "/etc", "/run").stdout.split() == ["/etc:", "passwd"]
    host.run("network", "connect", "three", name).ok()
    assert reaches(host, name, f"{third}.three")
    host.run("network", "disconnect", "two", name).ok()
    assert until(lambda: host.run("exec", name, "nslookup", f"{other}.two").status != 0)
    assert [pid] == [pid for pid in host.dnsmasq() if path in read(f"/proc/{pid}/cmdline")]
    host.run("rm", "-f", name).ok()
    assert until(lambda: not os.path.exists(f"/proc/{pid}"))
