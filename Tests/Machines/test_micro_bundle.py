# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""OCI bundles that run in micro machines, as an engine would call for them, and the networks that engines make."""

import json
import os
import shutil
import subprocess

import pytest
from leaks import read, until
from networks import Namespace, page

APPLETS = ("sh", "ip", "cat", "httpd", "sleep", "wget", "ls", "touch")
STATION = "02:00:00:00:66:05"


@pytest.fixture
def bundles(net_host, busybox):
    return Bundles(net_host, busybox)


class Bundles:
    """Bundles of busybox, and a container's network as an engine makes one: a namespace with a link whose other end is a bridge's."""

    def __init__(self, host, busybox):
        self.host = host
        self._busybox = busybox
        self._count = 0

    def make(self, *command, network=None, annotations=None, hooks=None, **process):
        """`network`: the path of a namespace; None: a new one; False: the host's."""
        self._count += 1
        folder = self.host.directory(f"bundle{self._count}")
        os.chmod(folder, 0o755)
        self.host.run("spec", "-b", folder).ok()
        programs = self.host.directory(f"bundle{self._count}/rootfs/bin")
        for place in ("tmp", "etc"):
            self.host.directory(f"bundle{self._count}/rootfs/{place}")
        with open(f"{programs}/busybox", "wb") as file:
            file.write(self._busybox)
        os.chmod(f"{programs}/busybox", 0o755)
        for name in APPLETS:
            os.symlink("busybox", f"{programs}/{name}")
        path = os.path.join(folder, "config.json")
        config = json.loads(read(path))
        config["process"].update(terminal=False, args=list(command), rlimits=[], **process)
        config["root"]["readonly"] = False
        config["annotations"] = {"zone.type": "vm"} if annotations is None else annotations
        namespaces = [space for space in config["linux"]["namespaces"] if space["type"] != "network"]
        if network is not False:
            namespaces.append({"type": "network", **({"path": network} if network else {})})
        config["linux"]["namespaces"] = namespaces
        if hooks:
            config["hooks"] = hooks
        with open(path, "w") as file:
            json.dump(config, file)
        return folder

    def name(self):
        name = self.host.name(f"bundle{self._count}")
        self.host.defer(self.host.run, "delete", "--force", name)
        return name

    def connected(self):
        """A container's network: its namespace. The host is 10.66.0.1 in it."""
        space = Namespace()
        self.host.defer(space.close)
        run = self.host.namespace.run
        run("ip", "link", "add", "br0", "type", "bridge")
        self.host.defer(run, "ip", "link", "del", "br0")
        run("ip", "link", "add", "port0", "type", "veth", "peer", "name", "eth0", "address", STATION, "netns", space.process.pid)
        run("ip", "link", "set", "port0", "master", "br0", "up")
        run("ip", "link", "set", "br0", "up")
        run("ip", "addr", "add", "10.66.0.1/24", "dev", "br0")
        run("ip", "addr", "add", "fd00:66::1/64", "dev", "br0", "nodad")
        for words in (("link", "set", "eth0", "mtu", "1400", "up"), ("addr", "add", "10.66.0.5/24", "dev", "eth0"),
                      ("addr", "add", "fd00:66::5/64", "dev", "eth0", "nodad"), ("route", "add", "198.51.100.1", "dev", "eth0"),
                      ("route", "add", "203.0.113.0/24", "via", "198.51.100.1", "dev", "eth0"),
                      ("route", "add", "default", "via", "10.66.0.1")):  # fmt: skip
            space.run("ip", *words)
        return space


def links(space):
    return {line.split()[0].split("@")[0] for line in space.run("ip", "-br", "link").splitlines()}


def test_an_engines_network_is_the_machines(bundles):
    space = bundles.connected()
    host = bundles.host
    show = "for what in addr route; do ip $what; ip -6 $what; done; ls /sys/class/net; cat /proc/version; exec httpd -f -h /etc"
    name = bundles.name()
    folder = bundles.make("sh", "-c", show, network=space.path)
    host.path(f"{os.path.basename(folder)}/rootfs/etc/hostname", "a machine\n")
    log = host.path("log")
    with open(log, "w") as out:
        host.run("create", "-b", folder, "--pid-file", host.path("pid"), name, stdout=out, stderr=out).exits(0)
        # Engines may do their part as late as here.
        space.run("ip", "addr", "add", "10.66.0.6/24", "dev", "eth0")
        host.run("start", name).ok()
    assert json.loads(host.run("state", name).ok().stdout)["status"] == "running"
    for address in ("10.66.0.5", "10.66.0.6", "fd00:66::5"):
        assert until(lambda: page(host.namespace.path, address, 80) == "a machine", 15), read(log)
    shown = read(log)
    kernel = os.uname().release
    assert kernel not in shown and STATION in shown and "mtu 1400" in shown
    for line in ("inet 10.66.0.5/24", "inet6 fd00:66::5/64", "default via 10.66.0.1", "198.51.100.1 dev eth0",
                 "203.0.113.0/24 via 198.51.100.1", "eth0\nlo\n"):  # fmt: skip
        assert line in shown, (line, shown)

    # Another one there would be the second with the same address.
    other = bundles.name()
    rival = bundles.make("true", network=space.path)
    host.run("create", "-b", rival, other, stdout=None, stderr=None).exits(0)
    host.run("start", other).fails(1, "eth0", "another machine's")
    assert page(host.namespace.path, "10.66.0.5", 80) == "a machine"
    # What ends takes nothing else along, and the namespace's link serves the next one.
    host.run("delete", "--force", other).ok()
    host.run("kill", name, "KILL").ok()
    assert until(lambda: json.loads(host.run("state", name).ok().stdout)["status"] == "stopped", 15)
    host.run("delete", name).ok()
    assert until(lambda: links(space) == {"lo", "eth0"}, 5), links(space)
    again = bundles.name()
    assert "10.66.0.6/24" in host.run("run", "-b", bundles.make("ip", "-4", "addr", network=space.path), again).exits(0).stdout


def test_the_network_that_a_hook_makes(bundles):
    """As docker's daemon does it: the namespace is new, and a hook brings the link."""
    host = bundles.host
    script = (
        'pid=$(sed -n \'s/.*"pid": *\\([0-9]*\\).*/\\1/p\'); ip link add eth0 type veth peer name port1; ip link set port1 up;'
        " ip addr add 10.67.0.1/24 dev port1; ip link set eth0 netns $pid;"
        " nsenter --net=/proc/$pid/ns/net sh -c 'ip link set eth0 up; ip addr add 10.67.0.5/24 dev eth0'"
    )
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"tr -d '\\n' | {{ {script}; }}"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    name = bundles.name()
    folder = bundles.make("sh", "-c", "ip -4 -o addr show eth0", hooks={"createRuntime": [hook]})
    assert "inet 10.67.0.5/24" in host.run("run", "-b", folder, name).exits(0).stdout


def test_no_network_and_the_hosts(bundles):
    host = bundles.host
    assert host.run("run", "-b", bundles.make("ls", "/sys/class/net"), bundles.name()).exits(0).stdout == "lo\n"
    host.run("run", "-b", bundles.make("true", network=False), bundles.name()).fails(1, "host's network")


def test_what_a_pods_sandbox_is(bundles):
    """It only holds the pod's namespaces: as a container, whatever the pod is."""
    for key in ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"):
        folder = bundles.make("cat", "/proc/sys/kernel/osrelease", annotations={"zone.type": "vm", key: "sandbox"})
        assert bundles.host.run("run", "-b", folder, bundles.name()).exits(0).stdout.strip() == os.uname().release


def test_by_the_programs_name(bundles, executable):
    """`zonectl-vm` makes a machine of each bundle; status and output are its program's."""
    host = bundles.host
    folder = bundles.make("sh", "-c", "cat /proc/sys/kernel/osrelease; touch /tmp/made; exit 7", annotations={})
    link = host.path("zonectl-vm")
    os.symlink(os.path.realpath(shutil.which(str(executable))), link)
    words = [link if word == str(executable) else word for word in host.command("run", "-b", folder, bundles.name())]
    assert link in words
    done = subprocess.run(words, env={**os.environ, **host.environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7 and done.stdout.strip() not in ("", os.uname().release), done
    # Its root is the bundle's own.
    assert os.path.exists(f"{folder}/rootfs/tmp/made")
    folder = bundles.make("true", annotations={"zone.type": "jail"})
    host.run("run", "-b", folder, bundles.name()).fails(1, "zone.type", "jail")


def test_limits_without_end(bundles):
    """Engines write the largest number for none."""
    folder = bundles.make("sh", "-c", "echo here")
    path = os.path.join(folder, "config.json")
    config = json.loads(read(path))
    config["linux"].setdefault("resources", {})["memory"] = {"limit": 2**63 - 1, "swap": 2**63 - 1}
    with open(path, "w") as file:
        json.dump(config, file)
    assert bundles.host.run("run", "-b", folder, bundles.name()).exits(0).stdout == "here\n"
