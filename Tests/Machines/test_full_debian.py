# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""A Debian as clouds have it: two boots at once, one of which cloud-init prepares, beside a container in the same network.

Tests use both in the order in which they stand here, as each boot takes half a minute where all is emulated."""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from full import debian, digest, ends, log, needs, program, quiet  # noqa: F401
from leaks import until
from networks import BOTH, Namespace, NetHost, addresses, ask, inside, make, reaches, sh, zone
from terminal import plain

needs("sgdisk")
for tool, package in (("nft", "nftables"), ("dnsmasq", "dnsmasq-base"), ("ip", "iproute2"), ("e2fsck", "e2fsprogs")):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed (Debian package {package})", allow_module_level=True)

USER_DATA = """#cloud-config
hostname: cloudy
users:
  - name: tester
    plain_text_passwd: geheim
    lock_passwd: false
    shell: /bin/bash
write_files:
  - path: /srv/hostname
    content: "a word for those who ask\\n"
runcmd:
  - [sh, -c, "cd /srv && exec python3 -m http.server 80 >/dev/null 2>&1 &"]
  - [sh, -c, "echo cloud-init has run >/run/it"]
"""
# Two at once, each with a CPU that is translated, on a machine that others use as well.
BOOT = 300
SIZE = ("--vcpus", "1", "-m", "512M", "--stop-timeout", "60")


class Pair:
    """`cloud` boots by BIOS at a terminal, from the disk as it is; `plain` by UEFI in the background, and writes."""

    def __init__(self, host, source):
        self.host, self.source = host, source
        self.before = digest(source)
        self.disk = host.path("plain.qcow2")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", source, self.disk], check=True, timeout=120)
        self.plain_before = digest(self.disk)
        make(host, "web", *BOTH)
        self.container = zone(host, "c", "web")
        self.cloud, self.plain = host.name("cloud"), host.name("plain")
        data = host.path("user-data", USER_DATA)
        host.defer(host.remove, self.cloud)
        host.defer(host.remove, self.plain)
        words = ("--network", "web", *SIZE)
        self.terminal = host.terminal(
            "run", "-it", "--rm", "--name", self.cloud, "--vm", "--firmware", "bios", "--user-data", data, *words, source
        )
        quiet(host.run("run", "-dit", "--name", self.plain, "--vm", *words, self.disk)).ok(stdout=self.plain + "\n")
        self.begun = time.monotonic()
        self.is_in = False

    def login(self):
        """A shell at the terminal, by the user of cloud-init's."""
        if self.is_in:
            return
        self.terminal.expect("cloudy login: ", BOOT)
        self.terminal.line("tester")
        self.terminal.expect("Password: ", 30)
        self.terminal.line("geheim")
        self.terminal.expect(r"\$ ", 30)
        self.is_in = True

    def ask(self, command, timeout=20):
        """What a command says there, which changes nothing: the system prints on the same line when it likes to. What does not come
        through whole is asked for again."""
        script = f"said=$( ({command}) 2>&1 | base64 -w0); echo begin$((40+1)) $(echo $said | md5sum | cut -c-8) $said $((40+2))end"
        for last in (False, False, True):
            self.terminal.line(script)
            try:
                answer = plain(self.terminal.expect("42end", timeout)).rpartition("begin41")[2].split()
                digits, text = answer if len(answer) == 2 else (*answer, "")
                if hashlib.md5(f"{text}\n".encode()).hexdigest()[:8] == digits:
                    return base64.b64decode(text).decode().strip()
            except (AssertionError, ValueError):
                if last:
                    raise
        raise AssertionError(f"no answer to {command!r} is whole: {answer}")


@pytest.fixture(scope="module")
def pair(executable, session_store, debian):  # noqa: F811
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-case-"))
    folder.chmod(0o755)
    subprocess.run(["cp", "-a", session_store, folder / "store"], check=True, timeout=60)
    host = NetHost(executable, folder, folder / "store")
    host.namespace = Namespace()
    host.defer(host.namespace.close)
    host.defer(lambda: [host.run("network", "rm", name).ok() for name in host.run("network", "ls", "-q").lines])
    try:
        yield Pair(host, debian)
    finally:
        left = host.close()
        shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


def test_by_bios_to_a_login_that_cloud_init_made(pair):
    pair.login()
    assert pair.ask("hostname") == "cloudy"
    assert pair.ask("cat /srv/hostname") == "a word for those who ask"
    # Its last stage, which ends well behind the login where CPUs are shared.
    assert until(lambda: pair.ask("cat /run/it") == "cloud-init has run", 120, step=1), pair.ask("cat /run/it; systemctl list-jobs")
    assert pair.ask("test -d /sys/firmware/efi || echo none") == "none"
    uuid = pair.host.inspect(pair.cloud)["definition"]["machine"]["uuid"]
    assert pair.ask("cat /var/lib/cloud/data/instance-id") == uuid


def test_its_address_comes_from_the_network(pair):
    pair.login()
    own = next(text.split("/")[0] for text in addresses(pair.host, pair.cloud) if "." in text)
    assert f" {own}/24 " in pair.ask("ip -o -4 addr show scope global")
    assert "default via 10.77.0.1 " in pair.ask("ip route")
    # Nothing in this Debian writes /etc/resolv.conf, but it was told who answers for names.
    assert "DNS=10.77.0.1" in pair.ask("cat /run/systemd/netif/leases/*")
    mac = pair.host.inspect(pair.cloud)["definition"]["networks"][0]["mac"]
    assert mac in pair.ask("cat /sys/class/net/e*/address")


def test_its_address_of_ipv6_as_well(pair):
    """By DHCPv6, which it asks once the network's router is there: this address and no other."""
    pair.login()
    own = addresses(pair.host, pair.cloud)[1]
    shown = "ip -o -6 addr show scope global"
    assert until(lambda: f" {own}/" in pair.ask(shown), 30, step=1), pair.ask(shown)
    assert re.findall(r"inet6 (\S+)/", pair.ask(shown)) == [own], pair.ask(shown)
    routes = pair.ask("ip -6 route")
    assert re.findall(r"^default via (fe80::\S+)", routes, re.MULTILINE) and re.search(r"^fd00:77::/64 dev", routes, re.MULTILINE), routes
    assert "fd00:77::1" in pair.ask("cat /run/systemd/netif/links/*")
    assert pair.host.run("exec", pair.container, "nslookup", "-type=AAAA", pair.cloud).stdout.count(own) == 1
    assert reaches(pair.host, pair.container, pair.cloud, six=True)
    back = addresses(pair.host, pair.container)[1]
    assert " 0% packet loss" in pair.ask(f"ping -6 -c 1 -W 5 {back}")
    # The container beside it has what it had: it was heard by the same.
    assert len(re.findall("inet6 ", sh(pair.host, pair.container, "ip -o -6 addr show scope global"))) == 1
    assert sh(pair.host, pair.container, "ip -6 route").count("default") == 1


def test_a_container_reaches_it_by_name(pair):
    pair.login()
    assert reaches(pair.host, pair.container, pair.cloud)
    address = addresses(pair.host, pair.cloud)[0].split("/")[0]
    answer = until(lambda: served(pair, address), 30, step=0.5)
    assert answer and answer.endswith(b"a word for those who ask\n")
    assert address in sh(pair.host, pair.container, f"nslookup {pair.cloud} || true")
    back = addresses(pair.host, pair.container)[0].split("/")[0]
    assert " 0% packet loss" in pair.ask(f"ping -c 1 -W 5 {back}")
    for words in (("screenshot", "-"), ("sendkey", "ret"), ("reset",)):
        pair.host.run(words[0], pair.container, *words[1:]).fails(125, words[0], "is a container")


def test_stats_from_the_guest_and_the_host(pair):
    """The balloon's driver tells the guest's memory; what its card has carried is counted from the machine's side."""

    def look():
        (values,) = json.loads(pair.host.run("stats", "--no-stream", "--json", pair.cloud).ok().stdout)
        return values

    assert until(lambda: "guestMemoryBytes" in look(), 15), look()
    values = look()
    said = {key: int(value.split()[0]) << 10 for key, value in (line.split(":") for line in pair.ask("cat /proc/meminfo").splitlines() if ":" in line)}
    assert values["guestMemoryBytes"] == said["MemTotal"], (values, said["MemTotal"])
    assert abs(values["guestMemoryAvailableBytes"] - said["MemAvailable"]) < said["MemTotal"] // 4, (values, said["MemAvailable"])
    assert values["type"] == "vm" and values["memoryBytes"] > 100 << 20
    before = values["networkReceivedBytes"], values["networkSentBytes"]
    assert pair.host.run("exec", pair.container, "ping", "-c", "1", "-s", "1400", pair.cloud).status == 0
    after = look()
    assert after["networkReceivedBytes"] - before[0] >= 1400 and after["networkSentBytes"] - before[1] >= 1400, (values, after)


def test_all_addresses_of_its_name_lead_to_it(pair):
    pair.login()
    said = sh(pair.host, pair.container, f"nslookup {pair.cloud} || true").partition("Name:")[2]
    found = set(re.findall(r"Address: (\S+)", said))
    assert found, said
    for address in sorted(found):
        assert reaches(pair.host, pair.container, address, ":" in address), f"{address} of {found} does not answer"


def served(pair, address):
    try:
        return ask(inside(pair.host, pair.container), address, 80, b"GET /hostname HTTP/1.0\r\n\r\n")
    except OSError:
        return None


def test_by_uefi_to_a_login(pair):
    left = BOOT - (time.monotonic() - pair.begun)
    until(lambda: "login: " in log(pair.host, pair.plain) or pair.host.status(pair.plain) != "running", left, step=0.5)
    said = log(pair.host, pair.plain)
    assert "login: " in said, said[-600:]
    terminal = pair.host.terminal("attach", pair.plain)
    terminal.line("")
    terminal.expect("login: ")
    terminal.line("nobody-here")
    terminal.expect("Password: ")
    terminal.line("x")
    terminal.expect("Login incorrect")
    terminal.send("\x10\x11")
    assert terminal.wait() == 0 and pair.host.status(pair.plain) == "running"
    _, words = program(pair.host, pair.plain)
    assert any("OVMF_CODE" in word for word in words)


def test_paused_it_answers_nobody(pair):
    pair.login()
    assert reaches(pair.host, pair.container, pair.cloud)
    pair.host.run("pause", pair.cloud).ok()
    assert pair.host.run("exec", pair.container, "ping", "-c", "1", "-W", "1", pair.cloud).status != 0
    pair.host.run("resume", pair.cloud).ok()
    assert reaches(pair.host, pair.container, pair.cloud)


def test_stop_lets_it_shut_down_in_good_order(pair):
    pair.login()
    begun = time.monotonic()
    pair.host.run("stop", pair.cloud, timeout=70).ok()
    status = pair.terminal.wait()
    took = time.monotonic() - begun
    assert "Power down" in pair.terminal.screen, pair.terminal.screen[-600:]
    assert status == 0 and took < 25, (status, took)
    # The disk is as it was: all that it has written was in a layer that is gone.
    assert pair.cloud not in pair.host.listed() and not os.path.exists(f"{pair.host.store}/zones/{pair.cloud}")
    assert digest(pair.source) == pair.before


def test_killed_it_leaves_a_disk_that_is_whole(pair):
    os.kill(program(pair.host, pair.plain)[0], signal.SIGKILL)
    ends(pair.host, pair.plain, 128 + signal.SIGKILL)
    assert digest(pair.disk) != pair.plain_before, "it has written nothing"
    checked = subprocess.run(["qemu-img", "check", pair.disk], capture_output=True, text=True, timeout=60)
    # 3: clusters that are counted and not used, which costs room.
    assert checked.returncode in (0, 3), checked.stdout + checked.stderr
    # Its journal is replayed; nothing else is to be repaired.
    files = pair.host.path("files")
    raw = pair.host.path("raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", pair.disk, raw], check=True, timeout=60)
    words = ["dd", f"if={raw}", f"of={files}", "bs=1M", "skip=8", "conv=sparse", "status=none"]
    subprocess.run(words, check=True, timeout=60)
    replayed = subprocess.run(["e2fsck", "-p", files], capture_output=True, text=True, timeout=120)
    assert replayed.returncode in (0, 1), replayed.stdout + replayed.stderr
    checked = subprocess.run(["e2fsck", "-fn", files], capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    quiet(pair.host.run("start", pair.plain)).ok()
    assert pair.host.status(pair.plain) == "running"
    pair.host.run("rm", "-f", pair.plain).ok()
    assert os.path.exists(pair.disk), "a disk of the host's went with the zone"
