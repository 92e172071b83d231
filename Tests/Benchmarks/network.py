#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Networks of zones, beside podman's bridge (netavark) and docker's.

    network.py [--rounds N] [--seconds S] [--starts N] [throughput] [ports] [run]

  throughput  iperf3 from a zone to another one of its network, and from a zone to the host, beside podman's containers
  ports       iperf3 from the host to a port published on its loopback, where a process of ours passes on what podman's rules
              rewrite
  run         `zonectl run --rm busybox true` in the default network, beside itself with --network none, `podman run --rm` and
              `docker run --rm` with their default bridges

All are run in turn, round by round, in one network namespace of their own, where nothing else is; read the ratios, not the
figures. Zones and containers find iperf3 in the host's own folders.
"""

import argparse
import gzip
import json
import os
import pathlib
import signal
import statistics
import subprocess
import time

from images import Podman
from surroundings import REPOSITORY, ZONECTL, Failed, Meter, disk, enter_mount_namespace, installed, run, show_table

GROUP = "/zonectl-bench-network"
IMAGE = "localhost/busybox"
PORTS = {"zonectl": 15201, "podman": 15202}
# Of ours to theirs: throughput at least, time at most; and milliseconds that a network may add.
THROUGHPUT, TIME, ADDED = 0.95, 0.1, 3


def isolate():
    """What engines write to fixed places stays in this mount namespace; the network has a loopback and no more."""
    run("ip", "link", "set", "lo", "up")
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    os.mkdir("/run/lock")
    for name in ("etc", "var"):
        upper, work = (pathlib.Path(f"/run/overlay/{name}/{part}") for part in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        run("mount", "-t", "overlay", "-o", f"lowerdir=/{name},upperdir={upper},workdir={work}", "overlay", f"/{name}")


def eventually(action, what, seconds=20):
    """Tries until it does not fail."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except (Failed, subprocess.CalledProcessError) as error:
            if time.monotonic() > deadline:
                raise Failed(f"{what}: {error} {getattr(error, 'stderr', None) or ''}") from None
            time.sleep(0.1)


def quiet(*words):
    return run(*map(str, words), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


def make_images(folder):
    """busybox as an image layout, and its files as an archive."""
    layout, archive = folder / "image", folder / "rootfs.tar"
    run(str(REPOSITORY / "images/busybox/build"), str(layout))

    def blob(digest):
        return layout / "blobs" / digest.replace(":", "/")

    manifest = json.loads(blob(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]).read_text())
    archive.write_bytes(gzip.decompress(blob(manifest["layers"][0]["digest"]).read_bytes()))
    return layout, archive


def host_folders():
    """Options by which a zone and a container have the host's programs."""
    words = []
    for target in ("/usr", "/lib", "/lib64"):
        if os.path.isdir(target):
            words += ["-v", f"{os.path.realpath(target)}:{target}:ro"]
    return words


class Zones:
    name = "zonectl"

    def __init__(self, folder, layout):
        self.words = self.plain = [ZONECTL, "--store", str(folder / "store")]
        quiet(*self.words, "image", "import", "--name", IMAGE, layout)
        self.once = [*self.words, "run", "--rm", IMAGE, "true"]
        self.once_without = [*self.words, "run", "--rm", "--network", "none", IMAGE, "true"]

    def start(self, name, *command, options=()):
        quiet(*self.words, "run", "-d", "--name", name, "--stop-timeout", "0", *options, *host_folders(), IMAGE, *command)

    def addresses(self, name):
        """A zone's own, and the host's in its network."""
        (zone,) = json.loads(quiet(*self.words, "inspect", name))
        attachment = zone["definition"]["networks"][0]
        (network,) = json.loads(quiet(*self.words, "network", "inspect", attachment["name"]))
        return attachment["addresses"][0], network["gateways"][0]

    def remove(self, *names):
        quiet(*self.words, "rm", "-f", *names)

    def close(self):
        # Names are answered by a process, which ends with the network.
        for name in quiet(*self.words, "network", "ls", "-q").split():
            quiet(*self.words, "network", "rm", name)


class Containers(Podman):
    name = "podman"

    def __init__(self, folder, archive):
        super().__init__(folder)
        # crun refuses a hybrid host unless that is hidden, which is done where it is measured.
        self.plain = [*self.words, "--runtime=runc"]
        quiet(*self.plain, "import", archive, IMAGE)
        self.once = [*self.words, "run", "--rm", f"--cgroup-parent={GROUP}", IMAGE, "true"]

    def start(self, name, *command, options=()):
        quiet(*self.plain, "run", "-d", "--name", name, f"--cgroup-parent={GROUP}", *options, *host_folders(), IMAGE, *command)

    def addresses(self, name):
        (settings,) = json.loads(quiet(*self.plain, "inspect", "--format", "[{{json .NetworkSettings}}]", name))
        return settings["IPAddress"], settings["Gateway"]

    def remove(self, *names):
        quiet(*self.plain, "rm", "--force", "--time", "0", *names)

    def close(self):
        self.forget()


class Docker:
    name = "docker"

    def __init__(self, folder, archive):
        self.words = ["docker", "--host", f"unix://{folder}/docker.sock"]
        file = folder / "daemon.json"
        file.write_text(json.dumps({
            "data-root": f"{folder}/docker", "exec-root": "/run/docker-exec", "pidfile": f"{folder}/docker.pid",
            "hosts": [self.words[2]], "exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": GROUP}))
        with open(folder / "dockerd.log", "wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", "--config-file", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually(lambda: quiet(*self.words, "version"), "dockerd does not start")
            quiet(*self.words, "import", archive, IMAGE)
        except Exception:
            self.close()
            raise
        self.once = [*self.words, "run", "--rm", IMAGE, "true"]

    def close(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(20)


# --- Throughput -----------------------------------------------------------------------------------------------------


def iperf(prefix, address, seconds, port=5201):
    """Gigabits a second that arrived."""
    command = [*prefix, "iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-J"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9
    except (ValueError, KeyError):
        raise Failed(f"{' '.join(map(str, command))} failed: {done.stdout[-300:]}{done.stderr[-300:]}") from None


def bench_traffic(kinds, what, rounds, seconds):
    listener = subprocess.Popen(["iperf3", "-s"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    ways = {}
    try:
        for kind in kinds:
            kind.start("server", "iperf3", "-s", options=["-p", f"127.0.0.1:{PORTS[kind.name]}:5201"])
            kind.start("client", "sleep", "1000")
            inner, gateway = kind.addresses("server")
            inside = [*kind.plain, "exec", "client"]
            if "throughput" in what:
                ways[f"to a neighbour, {kind.name}"] = (inside, inner)
                ways[f"to the host, {kind.name}"] = (inside, gateway)
            if "ports" in what:
                ways[f"by the loopback, {kind.name}"] = ([], "127.0.0.1", PORTS[kind.name])
        results = {name: [] for name in ways}
        for way in ways.values():
            # Servers are there a moment after their zones; and the first fills the caches.
            eventually(lambda way=way: iperf(way[0], way[1], 1, *way[2:]), "no server")
        for number in range(rounds):
            # Who is first is so half of the time.
            for name, way in list(ways.items())[:: -1 if number % 2 else 1]:
                results[name].append(iperf(way[0], way[1], seconds, *way[2:]))
    finally:
        listener.kill()
        listener.wait()
        for kind in kinds:
            try:
                kind.remove("server", "client")
            except subprocess.CalledProcessError as error:
                print(f"{kind.name}: {error.stderr.strip()}")
    show_throughput(f"TCP, {rounds} rounds of {seconds} s, each in turn", results)


def show_throughput(title, results):
    """`results`: name and whose → list of Gbit/s. The ratio is the median of each round's own."""
    print(f"\n{title}\nmedian (best), Gbit/s; ratio to podman's of the same round, median")
    for name, values in results.items():
        way, whose = name.split(", ")
        line = f"{name:30} {statistics.median(values):7.2f} ({max(values):6.2f})"
        theirs = results.get(f"{way}, podman")
        if whose == "zonectl" and theirs:
            ratio = statistics.median(ours / other for ours, other in zip(values, theirs))
            # A relay copies what rules only rewrite: there is no target for that.
            target = "" if way == "by the loopback" else "  ok" if ratio >= THROUGHPUT else f"  less than {THROUGHPUT}"
            line += f" {ratio:6.2f}{target}"
        print(line)


# --- Starts ---------------------------------------------------------------------------------------------------------


def bench_run(zones, podman, docker, meter, rounds):
    commands = {"zonectl none": zones.once_without, "zonectl zone0": zones.once}
    for engine in (podman, docker):
        if engine:
            commands[f"{engine.name} bridge"] = engine.once
    results = {name: [] for name in commands}
    for number in range(rounds + 3):
        for name, command in list(commands.items())[:: -1 if number % 2 else 1]:
            value = meter(command, hides_unified=name.startswith("podman"))
            # The first make the bridges.
            if number > 2:
                results[name].append(value)
    show_table(f"run --rm, {rounds} rounds, each in turn (docker: of its client alone)", results, "zonectl none")
    walls = {name: statistics.median(value[0] for value in values) * 1000 for name, values in results.items()}
    added = statistics.median(
        (with_it[0] - without[0]) * 1000 for with_it, without in zip(results["zonectl zone0"], results["zonectl none"]))
    print(f"zone0 adds {added:.2f} ms: {'ok' if added <= ADDED else f'more than {ADDED} ms'}")
    for name in commands:
        if not name.startswith("zonectl"):
            ratio = walls["zonectl zone0"] / walls[name]
            print(f"zone0 to {name}: {ratio:.3f}: {'ok' if ratio <= TIME else f'more than {TIME}'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", choices=[[], "throughput", "ports", "run"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--starts", type=int, default=25)
    options = parser.parse_args()
    os.environ.pop("ZONECTL_NETWORK", None)
    # Debian's engines, whatever else is installed.
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    enter_mount_namespace("--net")
    isolate()
    what = options.what or ["throughput", "ports", "run"]
    print(f"load of the machine: {pathlib.Path('/proc/loadavg').read_text().split()[0]}")
    present = list(installed(["podman", "dockerd", "iperf3"]))
    with disk(2048) as folder:
        made = []
        try:
            layout, archive = make_images(folder)
            made.append(zones := Zones(folder, layout))
            podman = docker = None
            if "podman" in present:
                made.append(podman := Containers(folder, archive))
            if "iperf3" in present and ("throughput" in what or "ports" in what):
                bench_traffic([kind for kind in (zones, podman) if kind], what, options.rounds, options.seconds)
            if "run" in what:
                if "dockerd" in present:
                    made.append(docker := Docker(folder, archive))
                bench_run(zones, podman, docker, Meter(folder), options.starts)
        finally:
            for one in reversed(made):
                one.close()


if __name__ == "__main__":
    main()
