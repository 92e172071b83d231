# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""zonectl's own networks beside those of docker and podman: one host with the rules of all, and somebody outside."""

import concurrent.futures
import contextlib
import os
import re
import shutil
import subprocess
import sys

import pytest
from engine import Docker, Podman, missing
from fixture import ZoneHost
from lab import Lab
from leaks import until

KINDS = {"docker": Docker, "podman": Podman}
# Of each, on all of the host's addresses.
PORTS = {"zones": 8080, "docker": 9090, "podman": 9191}
HOST, OUTSIDE = ("198.51.100.1", "2001:db8:5::1"), ("198.51.100.2", "2001:db8:5::2")
SERVE = "mkdir -p /tmp && echo {0} >/tmp/word; exec httpd -f -p 80 -h /tmp"
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=2).read().decode(), end='')"


class LabHost(ZoneHost):
    """zonectl in a lab, with networks."""

    lab = None

    def command(self, *arguments):
        return self.lab.command(*super().command(*arguments))


class Street:
    """A host with zones and engines, in any order, and the other end of its only link to elsewhere."""

    def __init__(self, runtime, image):
        self.runtime, self.image = runtime, image
        self.lab = Lab("street")
        self.engines, self.published, self.hidden, self.ended = {}, {}, {}, []
        self.zones, self.bridge, self.warning = [], "", ""
        folder = self.lab.folder / "zones"
        self.host = LabHost(runtime, folder, folder / "store")
        self.host.lab = self.lab
        self.host.import_image(image[0], "busybox").exits(0)
        # What an image's first zone leaves in caches is nobody's trace.
        self.host.run("run", "--rm", "busybox", "true").ok()
        self._peers = [subprocess.Popen(["unshare", "-n", "sleep", "1000"])]

    def open(self):
        """Makes the outside, where a word is served."""
        peer = self._peers[0].pid
        assert until(lambda: os.readlink(f"/proc/{peer}/ns/net") != os.readlink("/proc/self/ns/net"))
        # As on a host that has just booted: a new namespace has what the machine has, and docker drops only what it lets begin.
        self.must("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
        self.must("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", peer)
        self.outside("ip", "link", "set", "lo", "up")
        for run, link, addresses in ((self.must, "up0", HOST), (self.outside, "eth0", OUTSIDE)):
            run("ip", "addr", "add", f"{addresses[0]}/24", "dev", link)
            run("ip", "addr", "add", f"{addresses[1]}/64", "dev", link, "nodad")
            run("ip", "link", "set", link, "up")
        self.must("ip", "route", "add", "default", "via", OUTSIDE[0])
        served = self.lab.folder / "served"
        served.mkdir()
        (served / "word").write_text("outside\n")
        words = (sys.executable, "-m", "http.server", "-b", "::", "-d", served, "80")
        self._peers.append(subprocess.Popen(self._words(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        assert until(lambda: self.fetch_outside(f"[{OUTSIDE[1]}]") == "outside\n")

    def must(self, *words):
        return self.lab.run(*words).exits(0).stdout

    def _words(self, *words):
        return ("nsenter", f"--net=/proc/{self._peers[0].pid}/ns/net", "--", *map(str, words))

    def outside(self, *words):
        return subprocess.run(self._words(*words), check=True, capture_output=True, text=True, timeout=20).stdout

    # Who is on the host

    def start(self, who):
        if who == "zones":
            self.start_zones()
        else:
            self.start_engine(who)

    def start_engine(self, name):
        engine = self.engines.get(name)
        if not engine:
            engine = KINDS[name](self.runtime, *self.image, lab=self.lab)
            engine.launch()
            self.engines[name] = engine
        self.start_containers(name)

    def start_containers(self, name):
        """One that publishes a port, and one that does not."""
        engine, script = self.engines[name], ("sh", "-c", SERVE.format(name))
        self.published[name] = engine.start(*script, more=[f"--publish={PORTS[name]}:80"])
        self.hidden[name] = engine.start(*script)

    def stop_containers(self, name):
        self.engines[name].clear()
        self.published.pop(name)
        self.hidden.pop(name)

    def end_engine(self, name):
        """Its containers end, and its daemon, if it has one; what rules it leaves then stay."""
        self.stop_containers(name)
        self.ended.append(self.engines.pop(name))
        self.ended[-1].end()

    def start_zones(self):
        self.host.run("network", "create", "web").ok()
        self.bridge = self.host.run("network", "inspect", "web").ok().json[0]["bridge"]
        publish = ("-p", f"0.0.0.0:{PORTS['zones']}:80", "-p", f"[::]:{PORTS['zones']}:80")
        self.warning = self.start_zone("one", *publish).stderr
        self.start_zone("two")

    def start_zone(self, suffix, *options):
        name = self.host.name(suffix)
        done = self.host.run("run", "-d", "--name", name, "--network", "web", "--stop-timeout", "0", *options,
                             "busybox", "sh", "-c", SERVE.format("zones")).exits(0)
        self.zones.append(name)
        return done

    def stop_zones(self):
        if self.zones:
            self.host.run("rm", "-f", *self.zones).exits(0)
            self.zones = []
            self.host.run("network", "rm", "web").ok()

    def address(self, number):
        return self.host.inspect(self.zones[number])["definition"]["networks"][0]["addresses"][0]

    # What the packet filter has

    def tables(self):
        """{family and name: rules} of all tables, without counters."""
        listed = "\n".join(line for line in self.must("nft", "-s", "list", "ruleset").splitlines() if line[:1] != "#")
        return {part.split(" {", 1)[0]: part.strip() for part in re.split(r"^table ", listed, flags=re.M)[1:]}

    def theirs(self):
        return {name: text for name, text in self.tables().items() if not name.startswith("inet zonectl")}

    def ours(self):
        return {name: text for name, text in self.tables().items() if name.startswith("inet zonectl")}

    def drops(self):
        """Whether IPv4 that nobody knows is not passed on."""
        return "policy drop" in self.theirs().get("ip filter", "").partition("chain FORWARD {")[2].partition("}")[0]

    @contextlib.contextmanager
    def untouched(self, look):
        """What these tables are when it begins they are when it ends."""
        before = look()
        yield
        assert look() == before

    # What gets through. Each of these is "" where nothing comes back

    def fetch_outside(self, target):
        done = subprocess.run(
            self._words(sys.executable, "-c", FETCH, f"http://{target}/word"), capture_output=True, text=True, timeout=20)
        return done.stdout

    def fetch_host(self, target):
        return self.lab.run(sys.executable, "-c", FETCH, f"http://{target}/word").stdout

    def fetch_zone(self, number, target):
        # Debian's wget has an option for that, and crashes with it.
        return self.host.run("exec", self.zones[number], "timeout", "2", "wget", "-q", "-O", "-", f"http://{target}/word").stdout

    def fetch_container(self, name, target):
        zone = self.hidden[name]
        return self.engines[name].exec(zone, "timeout", "2", "wget", "-q", "-O", "-", f"http://{target}/word").stdout

    def ways(self):
        """{what for: (what is to come, how to ask)} of everything that is to work."""
        found = {}
        if self.zones:
            door = PORTS["zones"]
            found["zone to zone"] = ("zones\n", lambda: self.fetch_zone(1, self.address(0)))
            found["zone to zone by name"] = ("zones\n", lambda: self.fetch_zone(0, self.zones[1]))
            found["zone to outside"] = ("outside\n", lambda: self.fetch_zone(1, OUTSIDE[0]))
            found["zone to outside, IPv6"] = ("outside\n", lambda: self.fetch_zone(1, f"[{OUTSIDE[1]}]"))
            found["outside to zone"] = ("zones\n", lambda: self.fetch_outside(f"{HOST[0]}:{door}"))
            found["outside to zone, IPv6"] = ("zones\n", lambda: self.fetch_outside(f"[{HOST[1]}]:{door}"))
            found["host to zone"] = ("zones\n", lambda: self.fetch_host(f"{HOST[0]}:{door}"))
            found["host to zone by loopback"] = ("zones\n", lambda: self.fetch_host(f"127.0.0.1:{door}"))
            found["zone to another's published port"] = ("zones\n", lambda: self.fetch_zone(1, f"{HOST[0]}:{door}"))
            found["zone to its own published port"] = ("zones\n", lambda: self.fetch_zone(0, f"{HOST[0]}:{door}"))
        for name, container in self.published.items():
            port = PORTS[name]
            inner = self.engines[name].address(container)
            found[f"{name} to outside"] = ("outside\n", lambda name=name: self.fetch_container(name, OUTSIDE[0]))
            found[f"outside to {name}"] = (f"{name}\n", lambda port=port: self.fetch_outside(f"{HOST[0]}:{port}"))
            found[f"host to {name}"] = (f"{name}\n", lambda port=port: self.fetch_host(f"{HOST[0]}:{port}"))
            found[f"{name} to {name}"] = (f"{name}\n", lambda name=name, inner=inner: self.fetch_container(name, inner))
            if self.zones:
                found[f"zone to {name}"] = (f"{name}\n", lambda port=port: self.fetch_zone(1, f"{HOST[0]}:{port}"))
                found[f"{name} to zone"] = ("zones\n", lambda name=name: self.fetch_container(name, f"{HOST[0]}:{door}"))
        return found

    def shut(self):
        """Ways that nobody has opened."""
        if not self.zones:
            return {}
        inner = self.address(0)
        self.outside("ip", "route", "replace", inner, "via", HOST[0])
        found = {"outside to a zone's own address": lambda: self.fetch_outside(inner)}
        for name in self.hidden:
            found[f"{name} to a zone's own address"] = lambda name=name: self.fetch_container(name, inner)
        return found

    def check(self):
        """What is open passes, and nothing else does."""
        ways = self.ways()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            # Servers and names are there a moment after their zones.
            passing = {what: pool.submit(until, lambda ask=ask, word=word: ask() == word, 8, 0.1)
                       for what, (word, ask) in ways.items()}
            shut = {what: pool.submit(ask) for what, ask in self.shut().items()}
        stopped = [what for what, one in passing.items() if not one.result()]
        leaking = [what for what, one in shut.items() if one.result()]
        assert not stopped and not leaking, f"does not pass: {stopped}; passes: {leaking}\n{self.must('nft', 'list', 'ruleset')}"

    def remedy(self):
        """The commands that zonectl advises."""
        return re.findall(r"iptables -[IA] DOCKER-USER [^;&`'\"\n]+", self.warning)

    def close(self):
        left = []
        try:
            self.stop_zones()
            for name in list(self.engines):
                self.end_engine(name)
        finally:
            for process in self._peers:
                process.kill()
                process.wait()
            until(lambda: not self.lab.processes(), seconds=3)
            left += self.host.close()
            # The first one to close takes the lab with it.
            for engine in self.ended:
                engine.end = lambda: None
                left += engine.close()
            left += self.lab.close()
        return left


@pytest.fixture
def street(runtime, image):
    if "RUNTIME" in os.environ:
        pytest.skip("RUNTIME names another runtime, and these are zonectl's own networks")
    for program, package in (("nft", "nftables"), ("dnsmasq", "dnsmasq-base")):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian package {package})")
    made = Street(runtime, image)
    try:
        made.open()
        yield made
    finally:
        left = made.close()
    assert not left, "left behind (and now removed):\n  " + "\n  ".join(left)


def needs(*names):
    for name in names:
        why = missing(KINDS[name])
        if why:
            pytest.skip(f"{name}: {why}")


@pytest.mark.parametrize("order", ["podman zones", "zones podman docker", "podman docker zones"])
def test_nobody_is_in_anybodys_way(street, order):
    everybody = order.split()
    engines = [who for who in everybody if who != "zones"]
    needs(*engines)
    for who in everybody:
        with street.untouched(street.theirs if who == "zones" else street.ours):
            street.start(who)
        street.check()
    # The host passed on already when dockerd came, so that it changed no policy; there is nothing to be said.
    assert not street.drops() and street.warning == ""
    with street.untouched(street.ours):
        for name in engines:
            street.stop_containers(name)
        street.check()
        for name in engines:
            street.start_containers(name)
    street.check()
    with street.untouched(street.theirs):
        street.stop_zones()
        street.check()
        assert street.ours() == {}
        street.start_zones()
    street.check()
    # A daemon that ends leaves its rules.
    with street.untouched(street.ours):
        for name in engines:
            street.end_engine(name)
    street.check()


def test_zones_pass_a_docker_that_was_first(street):
    needs("docker")
    street.start("docker")
    street.check()
    assert street.drops()
    with street.untouched(street.theirs):
        street.start("zones")
    # That it is told must be true: this does not pass, and docker knows nothing of IPv6.
    ways = street.ways()
    for what in ("zone to outside, IPv6", "outside to zone, IPv6", "outside to docker", "docker to outside"):
        assert until(lambda: ways[what][1]() == ways[what][0], seconds=6, step=0.1), what
    assert [what for what in ("zone to outside", "outside to zone") if ways[what][1]()] == []
    lines = [line for line in street.warning.splitlines() if line.startswith("zonectl: ")]
    assert len(lines) == 1 and "FORWARD" in lines[0] and "web" in lines[0], street.warning
    assert "DOCKER-USER" in street.warning, street.warning
    # What is advised helps at once, as it stands there, ...
    remedy = street.remedy()
    assert remedy, street.warning
    for command in remedy:
        street.must("sh", "-c", command)
    street.check()
    # ... opens nothing of docker's, ...
    inner = street.engines["docker"].address(street.hidden["docker"])
    assert street.fetch_host(inner) == "docker\n" and street.fetch_zone(1, inner) == ""
    # ... and is not advised any more.
    with street.untouched(street.theirs):
        assert street.start_zone("three").stderr == ""
        street.check()
        street.stop_zones()
    street.check()
    street.end_engine("docker")
    assert street.drops()


def test_rules_that_help_without_advice(street):
    """What an administrator would do whom the manual told, before there is any zone."""
    needs("docker")
    street.start("docker")
    assert street.drops()
    street.host.run("network", "create", "web").ok()
    bridge = street.host.run("network", "inspect", "web").ok().json[0]["bridge"]
    street.host.run("network", "rm", "web").ok()
    street.must("iptables", "-I", "DOCKER-USER", "-o", bridge, "-j", "ACCEPT")
    street.must("iptables", "-I", "DOCKER-USER", "-i", bridge, "-o", "up0", "-j", "ACCEPT")
    with street.untouched(street.theirs):
        street.start("zones")
        assert street.bridge == bridge and street.warning == ""
        street.check()
    with street.untouched(street.ours):
        street.end_engine("docker")
    # Its policy and the rules stay.
    assert street.drops()
    street.check()
