#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Many zones in the background at once, beside crun with conmon, as podman starts them.

    detached.py [--zones N] [--workers N] [one] [many]

  one   N zones one after another: rate, the last against the first, memory of each, `ls` over all of them, `rm -f`
  many  the same count, several at a time: how many a second are made and removed

Both live at the same time, made and removed in turns of a tenth each, so that whatever the machine does meanwhile hits
both; read the ratios, not the milliseconds. In crun's favour: its containers share one plain folder as their root, where
each zone has an overlay of its own, and they have no system call filter. Hybrid control groups are hidden from crun, and
from conmon, by a mount namespace that all of them share and that is entered before the clock starts.

At the end nothing may be left of zonectl's: processes, control groups, mounts, files. Something left is an error.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

from engine import available, make_bundle
from surroundings import REPOSITORY, ZONECTL, Failed, Meter, disk, enter_mount_namespace, installed, run

sys.path.insert(0, str(REPOSITORY / "Tests/Integration"))
from leaks import LeakCheck, read, until  # noqa: E402

# Nothing is to be made in the network of the machine.
os.environ.setdefault("ZONECTL_NETWORK", "none")
BLOCKS = 10
SLEEP = ["sleep", "100000"]
# Of the issue: seconds for `ls`, and for each zone besides.
LS_BASE, LS_EACH = 0.020, 0.000_010


def share(pids):
    """KiB that processes hold, each page divided by how many have it: their sum is what ending all of them gives back."""
    found = (re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.M) for pid in pids)
    return [int(match[1]) for match in found if match]


def held_by(groups):
    """KiB that control groups are charged for."""
    texts = (read(f"{group}/memory.usage_in_bytes") or read(f"{group}/memory.current") for group in groups)
    return [int(text) // 1024 for text in texts if text]


class Zones:
    """zonectl: one command a zone; a keeper stays with each."""

    name = "zonectl"

    def __init__(self, folder, meter):
        self.folder, self.meter = folder, meter
        self.root, self.store = "/run/zonectl-bench-detached", str(folder / "store")
        os.mkdir(self.root, 0o700)
        self.words = [ZONECTL, "--root", self.root, "--store", self.store]
        # Fills the caches.
        run(*self.words, "run", "--rm", "busybox", "true")
        self.leaks = LeakCheck(self.store, "bench-zone", [self.root], [self.store])

    def make(self, number):
        return self.meter([*self.words, "run", "-d", "--name", f"bench-zone-{number}", "busybox", *SLEEP])[0]

    def remove(self, number):
        return self.meter([*self.words, "rm", "-f", f"bench-zone-{number}"])[0]

    def list(self, *options):
        return self.meter([*self.words, "ls", *options])

    def records(self):
        return [json.loads(file.read_text()) for file in pathlib.Path(self.root).glob("*/state.json")]

    def keepers(self):
        return [record["keeper"]["pid"] for record in self.records()]

    def groups(self):
        return [g["path"] for r in self.records() for g in r["cgroups"] if "/memory/" in g["path"] or "hierarchy" not in g]

    def count(self):
        return sum(z["status"] == "running" for z in json.loads(run(*self.words, "ls", "--json")))

    def left(self):
        return self.leaks.find()


class Containers:
    """crun and conmon as podman calls them: conmon creates, and stays; then the container is started."""

    def __init__(self, folder, meter, config):
        self.name = f"crun {run('crun', '--version').split()[2]}, {' '.join(run('conmon', '--version').split()[:3:2])}"
        self.folder = folder / "containers"
        self.folder.mkdir()
        self.root = "/run/crun-bench-detached"
        self.config = {**config, "root": {"path": str(folder / "bundle/rootfs")}}
        # One mount namespace for all: entered by a process of its own before the one that measures.
        hide = "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; echo; exec sleep 100000"
        self.holder = subprocess.Popen(["unshare", "-m", "sh", "-c", hide], stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.meter = meter.behind(["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt"])
        self.runtime = [shutil.which("crun"), "--root", self.root]
        self.group = "zonectl-bench-crun"

    def close(self):
        # conmon ends a moment after its container.
        until(lambda: not self.left(), seconds=10)
        self.holder.kill()
        self.holder.wait()

    def bundle(self, number):
        return self.folder / str(number)

    def make(self, number):
        bundle = self.bundle(number)
        bundle.mkdir(exist_ok=True)
        config = json.loads(json.dumps(self.config))
        config["process"]["args"] = SLEEP
        config["linux"]["cgroupsPath"] = f"/{self.group}/{number}"
        (bundle / "config.json").write_text(json.dumps(config))
        name = f"bench-container-{number}"
        conmon = [
            shutil.which("conmon"), "--api-version", "1", "-c", name, "-u", name, "-n", name, "-r", self.runtime[0],
            "--runtime-arg", "--root", "--runtime-arg", self.root, "-b", bundle, "-p", bundle / "pidfile",
            "-P", bundle / "conmon.pid", "-l", f"k8s-file:{bundle}/log", "--exit-dir", bundle, "--full-attach",
            "--socket-dir-path", bundle, "--log-level", "warning"]
        return self.meter([*map(str, conmon), "::", *self.runtime, "start", name], waits_for_word=True)[0]

    def remove(self, number):
        seconds = self.meter([*self.runtime, "delete", "--force", f"bench-container-{number}"])[0]
        # conmon may still be clearing up there.
        shutil.rmtree(self.bundle(number), ignore_errors=True)
        return seconds

    def list(self, *options):
        return self.meter([*self.runtime, "list", *(["-f", "json"] if options else [])])

    def keepers(self):
        return [int(file.read_text()) for file in self.folder.glob("*/conmon.pid")]

    def groups(self):
        return list(pathlib.Path("/sys/fs/cgroup").glob(f"memory/{self.group}/*/"))

    def count(self):
        return len(list(pathlib.Path(self.root).glob("*/status")))

    def left(self):
        """Only what hinders the next run: whether crun and conmon are tidy is not ours to say."""
        command_lines = ((pid, read(f"/proc/{pid}/cmdline")) for pid in filter(str.isdigit, os.listdir("/proc")))
        return [f"process {pid}: conmon" for pid, words in command_lines if str(self.folder) in words]


def blocks(count):
    """A tenth each."""
    size = max(1, count // BLOCKS)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def rate(times):
    few = max(1, len(times) // BLOCKS)
    first, last = statistics.median(times[:few]), statistics.median(times[-few:])
    p95 = sorted(times)[min(len(times) - 1, len(times) * 95 // 100)]
    return (
        f"median {statistics.median(times) * 1000:6.2f} ms, p95 {p95 * 1000:6.2f} ms, last tenth / first {last / first:4.2f},"
        f" {len(times) / sum(times):5.0f} a second")


def one_after_another(candidates, count):
    makes, removals, memory = ({c.name: [] for c in candidates} for _ in range(3))
    for block in blocks(count):
        for candidate in candidates:
            before = available()
            makes[candidate.name] += [candidate.make(number) for number in block]
            # Keepers give memory back once they wait.
            time.sleep(0.5)
            memory[candidate.name].append(before - available())
    print(f"\n{count} in the background, one after another")
    for candidate in candidates:
        print(f"{candidate.name:26} made     {rate(makes[candidate.name])}")
    for candidate in candidates:
        show_memory(candidate, sum(memory[candidate.name]) / count, count)
    for candidate in candidates:
        show_list(candidate, count)
    for block in blocks(count):
        for candidate in candidates:
            removals[candidate.name] += [candidate.remove(number) for number in block]
    for candidate in candidates:
        print(f"{candidate.name:26} removed  {rate(removals[candidate.name])}")


def show_memory(candidate, each, count):
    lives = candidate.count()
    if lives != count:
        raise Failed(f"{candidate.name}: {lives} of {count} live")
    keepers, groups = share(candidate.keepers()), held_by(candidate.groups())
    largest = f"largest {max(keepers, default=0)}, {len(keepers)} of them"
    print(
        f"{candidate.name:26} memory   keeper {statistics.mean(keepers or [0]):5.0f} KiB ({largest}),"
        f" control group {statistics.mean(groups or [0]):5.0f} KiB, from MemAvailable {each:5.0f} KiB in all")


def show_list(candidate, count):
    limit = LS_BASE + count * LS_EACH
    for options in [], ["--json"]:
        results = [candidate.list(*options) for _ in range(15)]
        wall, cpu = (statistics.median(r[i] for r in results) for i in (0, 1))
        best = min(r[0] for r in results)
        verdict = ""
        if isinstance(candidate, Zones):
            verdict = f"; the limit is {limit * 1000:.0f} ms: {'kept' if wall <= limit else 'EXCEEDED'}"
        print(
            f"{candidate.name:26} {' '.join(['list', *options]):12} median {wall * 1000:6.2f} ms, best {best * 1000:6.2f},"
            f" CPU {cpu * 1000:6.2f}{verdict}")


def many_at_a_time(candidates, count, workers):
    print(f"\n{count} in the background, {workers} at a time")
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for what, action in ("made", lambda c: c.make), ("removed", lambda c: c.remove):
            for candidate in candidates:
                begin = time.monotonic()
                # Asked for its results, so that a failure is not overlooked.
                list(pool.map(action(candidate), range(count)))
                seconds = time.monotonic() - begin
                print(f"{candidate.name:26} {what:8} {seconds:6.2f} s, {count / seconds:5.0f} a second", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--zones", type=int, default=int(os.environ.get("ZONES", "1000")))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("what", nargs="*", default=["one", "many"])
    options = parser.parse_args()
    enter_mount_namespace()
    # Ended from outside, it still takes its zones away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with disk(2048) as folder:
        bench(folder, options)


def bench(folder, options):
    meter = Meter(folder)
    _, config = make_bundle(folder)
    with contextlib.ExitStack() as at_end:
        candidates = [Zones(folder, meter)]
        if len(list(installed(["crun", "conmon"]))) == 2:
            candidates.append(Containers(folder, meter, config))
            at_end.callback(candidates[-1].close)
        for candidate in candidates:
            at_end.callback(remove_all, candidate, options.zones)
        print(f"{len(candidates)} runtimes in turn; load {os.getloadavg()[0]:.1f}", flush=True)
        if "one" in options.what:
            one_after_another(candidates, options.zones)
        if "many" in options.what:
            many_at_a_time(candidates, options.zones, options.workers)
        print(f"load at the end {os.getloadavg()[0]:.1f}")
        left = [sentence for c in candidates for sentence in until_nothing(c)]
        if left:
            raise SystemExit("\n".join(["left behind:", *left]))
        print("nothing is left: no process, control group, mount or file")


def until_nothing(candidate):
    """What is left, after what is just ending had a moment."""
    until(lambda: not candidate.left(), seconds=5, step=0.2)
    return candidate.left()


def remove_all(candidate, count):
    """Whatever an interrupted run left."""
    if not candidate.left() and not candidate.count():
        return
    for number in range(count):
        with contextlib.suppress(Failed, OSError):
            candidate.remove(number)
    if isinstance(candidate, Zones):
        candidate.leaks.clean()


if __name__ == "__main__":
    main()
