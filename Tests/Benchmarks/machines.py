#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Virtual machines, beside QEMU as a person starts it by hand: the same kernel, image, accelerator, CPUs and memory, and an
/init of a few lines of shell.

    machines.py [--rounds N] [--boots N] [--megabytes M] [--seconds S] [boot] [memory] [disk] [net]

  boot    `zonectl run --rm --vm=micro busybox true` beside a QEMU that runs `true` and ends, each without a network and with
          one (of QEMU's: a tap on a bridge)
  memory  what the processes of an idle machine hold, with and without the guest's own memory
  disk    M megabytes written and read back, with the host's cache as persistent machines have it. Of zeros zonectl writes none
  net     iperf3 from a guest to the host and back, over a tap on a bridge

Both are run in turn, round by round, in one network namespace of their own; read the ratios, not the figures. Emulated or
not is what zonectl chooses. ZONECTL_GUEST= names the folder with the kernel.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from bare_machine import ADDRESSES, GUEST, PATIENCE, Bare, make_bridge, quiet, read
from surroundings import REPOSITORY, ZONECTL, Failed, disk, enter_mount_namespace, installed, run

# Of ours to theirs: wall clock at most.
TIME = 1.1
# Seconds until a guest is idle.
SETTLED = 5
# MiB that fit into a zone's /dev/shm, which are not zeros.
PATTERN = 32
PORT = 15205


def eventually(find, what):
    deadline = time.monotonic() + PATIENCE
    while not (found := find()):
        if time.monotonic() > deadline:
            raise Failed(f"waited in vain for {what}")
        time.sleep(0.05)
    return found


def descendants(pid):
    """A process and all that come from it."""
    found = [pid]
    for each in found:
        found += map(int, read(f"/proc/{each}/task/{each}/children").split())
    return found


# --- Of ours --------------------------------------------------------------------------------------------------------


class Zones:
    """zonectl with folders of its own."""

    def __init__(self, folder):
        self.store, self.groups = folder / "store", set()
        self.words = [ZONECTL, "--root", str(folder / "root"), "--store", str(self.store)]
        run(str(REPOSITORY / "images/busybox/build"), str(folder / "image"))
        quiet(*self.words, "image", "import", folder / "image")

    def once(self, *options):
        return [*self.words, "run", "--rm", "--vm=micro", *options, "busybox", "true"]

    @contextlib.contextmanager
    def machine(self, name, *options):
        """One that runs in the background."""
        try:
            quiet(*self.words, "run", "-d", "--name", name, "--vm=micro", *options, "busybox", "sleep", "100000")
            # It has booted when it executes something.
            quiet(*self.words, "exec", name, "true")
            for group in self.inspect(name).get("cgroups", []):
                self.groups.add(os.path.dirname(group))
            yield lambda script: quiet(*self.words, "exec", name, "sh", "-c", script)
        finally:
            subprocess.run([*self.words, "rm", "-f", name], stdout=subprocess.DEVNULL)

    def inspect(self, name):
        return json.loads(quiet(*self.words, "inspect", name))[0]

    def stop(self, name):
        """With all that was written on its disk."""
        quiet(*self.words, "exec", name, "sync")
        quiet(*self.words, "stop", "-t", "0", name)

    def start(self, name):
        quiet(*self.words, "start", name)
        quiet(*self.words, "exec", name, "true")

    def processes(self, name):
        """Its monitor's, its keeper's and QEMU's numbers; QEMU's is the last."""
        monitor = self.inspect(name)["pid"]
        keeper = int(re.search(r"^PPid:\s+(\d+)", read(f"/proc/{monitor}/status"), re.M)[1])
        if keeper == 1:
            raise Failed(f"the keeper of machine {name} is gone")
        found = descendants(keeper)
        found.sort(key=lambda pid: "qemu-system-" in os.path.basename(read(f"/proc/{pid}/cmdline").split("\0")[0]))
        return found

    def changes(self, name):
        """The disk with a stopped machine's own files."""
        return self.store / "zones" / name / "storage.img"

    def close(self):
        with contextlib.suppress(Failed):
            # Of what was interrupted.
            for name in quiet(*self.words, "ls", "-q").split():
                quiet(*self.words, "rm", "-f", name)
            # Names are answered by a process, which ends with the network.
            for name in quiet(*self.words, "network", "ls", "-q").split():
                quiet(*self.words, "network", "rm", name)
        for group in self.groups:
            with contextlib.suppress(OSError):
                os.rmdir(group)


# --- Sections -------------------------------------------------------------------------------------------------------


def in_turn(rounds, ways, warm=1):
    """`ways`: name → what measures it once. Who is first is so half of the time; the first round fills the caches."""
    results = {name: [] for name in ways}
    for number in range(rounds + warm):
        for name, measure in list(ways.items())[:: -1 if number % 2 else 1]:
            value = measure()
            if number >= warm:
                results[name].append(value)
    return results


def show(title, unit, results, pairs, target=None):
    """`pairs`: what → ours and theirs. The ratio is the median of each round's own."""
    print(f"\n{title}\nmedian (best), {unit}; ratio of the same round, median")
    print(f"{'':22} {'zonectl':>18} {'bare QEMU':>18} {'difference':>10} {'ratio':>6}")
    best = max if unit.endswith("/s") else min
    for what, (ours, theirs) in pairs.items():
        line = f"{what:22}"
        for values in (results[ours], results[theirs]):
            line += f" {statistics.median(values):9.2f} ({best(values):6.2f})"
        both = list(zip(results[ours], results[theirs]))
        ratio = statistics.median(a / b for a, b in both)
        line += f" {statistics.median(a - b for a, b in both):10.2f} {ratio:6.3f}"
        if target:
            line += "  ok" if ratio <= target else f"  more than {target}"
        print(line, flush=True)


def elapsed(command, expected=None):
    """Wall and CPU seconds of a command and of all that it has waited for."""
    with tempfile.TemporaryFile() as said:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        timer = signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            wall = time.monotonic() - begin
            signal.setitimer(signal.ITIMER_REAL, *timer)
            if process.returncode is None:
                # Told, zonectl ends its machine too.
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
                process.wait()
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode != 0 or (expected and expected not in text):
        raise Failed(f"{' '.join(command)} failed ({process.returncode}): {text}")
    return wall, usage.ru_utime + usage.ru_stime


def bench_boot(zones, bare, options):
    def by_hand(net):
        return elapsed(bare.command("boot", bare.new_disk(), "unsafe", net), "status: 0")

    measured = in_turn(options.rounds, {
        "zonectl": lambda: elapsed(zones.once("--network", "none")), "bare": lambda: by_hand(False),
        "zonectl net": lambda: elapsed(zones.once()), "bare net": lambda: by_hand(True)})
    pairs = {"without a network": ("zonectl", "bare"), "with one": ("zonectl net", "bare net")}
    title = f"run --rm busybox true, {options.rounds} rounds, each in turn"
    for index, what in enumerate(("wall clock", "CPU")):
        results = {name: [value[index] for value in values] for name, values in measured.items()}
        show(f"{title}: {what}", "seconds", results, pairs, TIME if index == 0 else None)


def shares_of(pids, size):
    """MiB that processes hold, each page divided by how many have it; and what of that is the guest's, of `size` bytes."""
    whole = guest = 0
    for pid in pids:
        region = None
        for line in read(f"/proc/{pid}/smaps").splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                region = int(match[2], 16) - int(match[1], 16)
            elif line.startswith("Pss:"):
                held = int(line.split()[1]) / 1024
                whole += held
                guest += held if region == size else 0
    return whole, guest


def bench_memory(zones, bare, options):
    size = int(re.match(r"\d+", bare.memory)[0]) << (30 if bare.memory.endswith("G") else 20)
    results = {}
    for _ in range(options.boots):
        with zones.machine("idle", "--network", "none"), bare.booted() as other:
            time.sleep(SETTLED)
            ours = zones.processes("idle")
            for name, pids in (("zonectl", ours), ("bare", [other.process.pid])):
                whole, guest = shares_of(pids, size)
                if not guest:
                    raise Failed(f"the guest's memory of {size} bytes is not found in {name}'s QEMU")
                qemu, _ = shares_of(pids[-1:], size)
                for what, value in (("all", whole), ("guest", guest), ("beyond", whole - guest), ("qemu", qemu - guest)):
                    results.setdefault(f"{what} {name}", []).append(value)
            results.setdefault("keeping", []).append(shares_of(ours[:-1], size)[0])
    names = {"all": "all", "guest": "of it the guest's", "beyond": "beyond the guest's", "qemu": "of it QEMU's"}
    show(
        f"memory of an idle machine of {bare.memory}, {options.boots} boots each, both at the same time", "MiB", results,
        {text: (f"{what} zonectl", f"{what} bare") for what, text in names.items()})
    print(f"monitor and keeper: {statistics.median(results['keeping']):.2f} MiB")


def bench_disk(zones, bare, options):
    uptime = 'cut -d " " -f 1 /proc/uptime'
    forget = "mkdir -p /p\nmount -t proc proc /p\necho 3 >/p/sys/vm/drop_caches\numount /p"
    times = options.megabytes // PATTERN
    ways = {
        "write zeros": f"rm -f /file\nsync\n{uptime}\n"
                       f"dd if=/dev/zero of=/file bs=1M count={times * PATTERN} conv=fsync 2>/dev/null\n{uptime}",
        "write": f"rm -f /file\nsync\n{uptime}\n"
                 f"for n in $(seq 0 {times - 2}); do dd if=/dev/shm/pattern of=/file bs=1M seek=$((n * {PATTERN})) conv=notrunc"
                 f" 2>/dev/null; done\n"
                 f"dd if=/dev/shm/pattern of=/file bs=1M seek={(times - 1) * PATTERN} conv=notrunc,fsync 2>/dev/null\n{uptime}",
        "read": f"{forget}\n{uptime}\ndd if=/file of=/dev/null bs=1M 2>/dev/null\n{uptime}",
    }

    def rate(guest, script):
        begin, end = map(float, guest(script).split())
        return times * PATTERN / (end - begin)

    with zones.machine("disk", "--network", "none", "--cap-add", "SYS_ADMIN") as ours, bare.booted() as theirs:
        for guest in (ours, theirs):
            guest(f"dd if=/dev/urandom of=/dev/shm/pattern bs=1M count={PATTERN} 2>/dev/null")
        results = {f"{way} {name}": [] for way in ways for name in ("zonectl", "bare")}
        for number in range(options.rounds + 1):
            # What is read is what was written just before.
            for way, script in ways.items():
                for name, guest in (("zonectl", ours), ("bare", theirs))[:: -1 if number % 2 else 1]:
                    value = rate(guest, script)
                    if number:
                        results[f"{way} {name}"].append(value)
    show(
        f"{times * PATTERN} MiB on the disk of changes, {options.rounds} rounds, each in turn", "MiB/s", results,
        {way: (f"{way} zonectl", f"{way} bare") for way in ways})


def listens(port):
    wanted = f":{port:04X}"
    lines = [line.split() for table in ("tcp", "tcp6") for line in read(f"/proc/net/{table}").splitlines()]
    return any(words[1].endswith(wanted) and words[3] == "0A" for words in lines)


def iperf(guest, address, seconds, *options):
    """Megabits a second that arrived."""
    server = subprocess.Popen(
        ["iperf3", "-s", "-1", "-p", str(PORT)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    said = ""
    try:
        eventually(lambda: listens(PORT), "iperf3's server")
        said = guest(" ".join(["iperf3", "-J", "-c", address, "-p", str(PORT), "-t", str(seconds), *options]))
        return json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e6
    except (ValueError, KeyError):
        raise Failed(f"iperf3 says no result: {said[-300:]}") from None
    finally:
        server.kill()
        server.wait()


def put_iperf(words):
    """Into a machine, with its libraries."""
    program = shutil.which("iperf3")
    files = [program, *re.findall(r"(/\S+) \(0x", quiet("ldd", program))]
    pack = subprocess.Popen(
        ["tar", "--dereference", "-cf", "-", "-C", "/", *(file.lstrip("/") for file in files)], stdout=subprocess.PIPE)
    quiet(*words, "tar", "-xf", "-", "-C", "/", stdin=pack.stdout)
    pack.stdout.close()
    if pack.wait():
        raise Failed("iperf3 cannot be packed")
    return program


def bench_net(zones, bare, options):
    if not list(installed(["iperf3"])):
        return
    quiet(*zones.words, "network", "create", "bench")
    with zones.machine("net", "--network", "bench") as ours:
        put_iperf([*zones.words, "exec", "-i", "net"])
        zones.stop("net")
        disk_file = bare.copy("net", "net.img")
        zones.start("net")
        (network,) = json.loads(quiet(*zones.words, "network", "inspect", "bench"))
        with bare.booted(disk_file, net=True) as theirs:
            guests = {"zonectl": (ours, network["gateways"][0]), "bare": (theirs, ADDRESSES["host"])}
            ways = {"to the host": (), "from the host": ("-R",)}
            results = in_turn(options.rounds, {
                f"{way} {name}": lambda guest=guest, words=words: iperf(*guest, options.seconds, *words)
                for way, words in ways.items() for name, guest in guests.items()})
    show(
        f"TCP, {options.rounds} rounds of {options.seconds} s, each in turn", "Mbit/s", results,
        {way: (f"{way} zonectl", f"{way} bare") for way in ways})


SECTIONS = {"boot": bench_boot, "memory": bench_memory, "disk": bench_disk, "net": bench_net}


def lacking():
    """What this machine lacks, in a sentence."""
    if platform.machine() != "x86_64":
        return "the machine by hand is written down for x86_64 only"
    for program, package in (
        ("qemu-system-x86_64", "qemu-system-x86"), ("mkfs.erofs", "erofs-utils"), ("nft", "nftables"), ("ip", "iproute2"),
        ("dnsmasq", "dnsmasq-base"), ("/bin/busybox", "busybox-static"),
    ):
        if not shutil.which(program):
            return f"{program} is not installed (Debian package {package})"
    if not any((place / "vmlinux").exists() for place in (GUEST / "amd64", GUEST)):
        return f"there is no kernel in {GUEST}: run `make guest-kernel`, or name its folder in ZONECTL_GUEST"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", choices=[[], *SECTIONS])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--boots", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    if options.megabytes < 2 * PATTERN:
        parser.error(f"--megabytes: at least {2 * PATTERN}")
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    if reason := lacking():
        print(f"machines are NOT MEASURED: {reason}")
        return
    os.environ["ZONECTL_GUEST"] = str(GUEST)
    os.environ.pop("ZONECTL_NETWORK", None)
    enter_mount_namespace("--net")
    # So that all is taken down then too.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, lambda number, _: sys.exit(f"ended by signal {number}"))
    run("ip", "link", "set", "lo", "up")
    make_bridge()
    print(f"load of the machine: {read('/proc/loadavg').split()[0]}")
    with disk(4096) as folder:
        zones = Zones(folder)
        try:
            bare = Bare(folder, zones)
            print(f"accelerator: {bare.accelerator}; {' '.join(bare.machine[2:])}", flush=True)
            for what in options.what or SECTIONS:
                SECTIONS[what](zones, bare, options)
        finally:
            zones.close()


if __name__ == "__main__":
    main()
