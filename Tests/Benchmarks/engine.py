#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""zonectl as engines call it, beside crun 1.21 (scripts/peers), the machine's crun and runc: the bundle that `crun spec`
writes, with `true` as its program and no filter, in five namespaces.

    engine.py [--rounds N] [--zones N] [run] [cycle] [limit] [crowd]

  run     wall and CPU time and peak memory of `run`
  cycle   the same of `create`, `start`, the program's end and `delete`
  limit   the smallest linux.resources.memory.limit under which `run` succeeds
  crowd   many zones living at once: start time of the last against the first, memory of each

All runtimes are run in turn, round by round, so that whatever the machine does meanwhile hits all of them; read the
ratios, not the milliseconds. Hybrid control groups: crun refuses them, so the version 2 hierarchy is hidden from crun
(from crun alone, and before the clock starts).
"""

import argparse
import copy
import json
import os
import pathlib
import shutil
import signal
import statistics
import sys
import time

from surroundings import (
    REPOSITORY, ZONECTL, Failed, Meter, compile_tool, disk, enter_mount_namespace, forget, installed, run, show_table)

REFERENCE = "crun 1.21"
FLOOR = pathlib.Path(os.environ.get("LAUNCH_FLOOR", REPOSITORY.parent / "shared/machine/launch-floor.c"))


class Runtime:
    def __init__(self, name, words, meter):
        self.name, self.meter = name, meter
        self.is_crun = name.startswith("crun")
        state = pathlib.Path("/run") / name.replace(" ", "-")
        state.mkdir()
        self.words = [*words, "--root", str(state)]
        self.id = f"bench-{state.name}"
        self.pid_file = state.parent / f"{state.name}.pid"

    def measure(self, *commands, **options):
        words = [w for index, c in enumerate(commands) for w in [*(["::"] if index else []), *self.words, *c]]
        return self.meter(words, hides_unified=self.is_crun, **options)

    def run(self, bundle):
        return self.measure(["run", "-b", str(bundle), self.id])

    def cycle(self, bundle):
        return self.measure(
            ["create", "-b", str(bundle), "--pid-file", str(self.pid_file), self.id], ["start", self.id],
            ["delete", self.id], pid_file=self.pid_file)

    def remove_left_over(self, name=None):
        try:
            self.measure(["delete", "--force", name or self.id])
        except Failed:
            pass


class Floor:
    """The system calls of a start and nothing else."""

    name = "floor"

    def __init__(self, tool, meter):
        self.tool, self.meter = str(tool), meter

    def run(self, bundle):
        return self.meter([self.tool, str(bundle / "rootfs")])


def runtimes(folder, meter):
    result = [Runtime("zonectl", [ZONECTL], meter)]
    peer = pathlib.Path(run(str(REPOSITORY / "scripts/peers")).strip())
    argv = (peer.parent / "argv").read_text().split("\n")[:-1]
    result.append(Runtime(REFERENCE, argv, meter))
    for program in [pathlib.Path(ZONECTL), *peer.parent.iterdir(), *(peer.parent / "lib").iterdir()]:
        if program.is_file():
            forget(program)
    for name in installed(["crun", "runc"]):
        version = run(name, "--version").split("\n")[0].split()[-1]
        result.append(Runtime(f"{name} {version}", [name], meter))
        forget(shutil.which(name))
    floor = []
    if FLOOR.exists():
        floor = [Floor(compile_tool(FLOOR, folder), meter)]
    else:
        print(f"{FLOOR} is not there: the floor is NOT MEASURED (LAUNCH_FLOOR=FILE names it)")
    return result, floor


def make_bundle(folder):
    """The bundle's folder and its configuration."""
    run(str(REPOSITORY / "images/busybox/build"), str(folder / "image"))
    run(ZONECTL, "--store", str(folder / "store"), "image", "import", str(folder / "image"))
    bundle = folder / "bundle"
    bundle.mkdir()
    shutil.copytree(next((folder / "store/layers").iterdir()), bundle / "rootfs", symlinks=True)
    run("crun", "spec", cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["true"]
    config["linux"].pop("seccomp", None)
    write_bundle(bundle, config)
    return bundle, config


def write_bundle(bundle, config):
    (bundle / "config.json").write_text(json.dumps(config))


def interleaved(rounds, candidates, what):
    results = {c.name: [] for c in candidates}
    for number in range(rounds + 5):
        for candidate in candidates:
            value = what(candidate)
            if number >= 5:
                results[candidate.name].append(value)
    return results


# --- The smallest limit ----------------------------------------------------------------------------------------------


def smallest_limit(runtime, bundle, config, page=4096):
    """In bytes. Succeeding means three times in a row: how much is charged when is not the same each time."""
    config = copy.deepcopy(config)

    def suffices(pages):
        config["linux"]["resources"]["memory"] = {"limit": pages * page}
        write_bundle(bundle, config)
        for _ in range(3):
            try:
                runtime.run(bundle)
            except Failed:
                runtime.remove_left_over()
                return False
        return True

    low, high = 0, 16384
    while high - low > 4:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high * page


def limits(candidates, bundle, config):
    print("\nThe smallest memory limit under which `run` of `true` succeeds (KiB, of three searches)")
    found = {c.name: [] for c in candidates}
    for _ in range(3):
        for candidate in candidates:
            found[candidate.name].append(smallest_limit(candidate, bundle, config) // 1024)
    write_bundle(bundle, config)
    for name, values in found.items():
        print(f"{name:20} {statistics.median(values):7.0f}  (of {sorted(values)})")


# --- Many at once ----------------------------------------------------------------------------------------------------


def available():
    """KiB of memory that the machine could still give."""
    words = pathlib.Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemAvailable:") + 1])


def crowd(runtime, bundle, config, count):
    config = copy.deepcopy(config)
    config["process"]["args"] = ["sleep", "3600"]
    write_bundle(bundle, config)
    names = [f"{runtime.id}-{number}" for number in range(count)]
    before, starts, ends = available(), [], []
    try:
        for name in names:
            starts.append(detached(runtime, bundle, name))
        memory = before - available()
    finally:
        for name in names[: len(starts)]:
            begin = time.monotonic()
            runtime.remove_left_over(name)
            ends.append(time.monotonic() - begin)
    few = max(1, count // 10)
    first, last = statistics.median(starts[:few]), statistics.median(starts[-few:])
    print(
        f"{runtime.name:20} first {few}: {first * 1000:6.2f} ms, last {few}: {last * 1000:6.2f} ms,"
        f" ratio {last / first:5.2f}; {memory / count:6.0f} KiB each; delete --force {statistics.median(ends) * 1000:6.2f} ms")


def detached(runtime, bundle, name):
    """Seconds that `run --detach` took."""
    return runtime.measure(["run", "--detach", "-b", str(bundle), name])[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "150")))
    parser.add_argument("--zones", type=int, default=300)
    parser.add_argument("what", nargs="*", default=["run", "cycle", "limit", "crowd"])
    options = parser.parse_args()
    enter_mount_namespace()
    # Ended from outside, it still takes its zones away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with disk() as folder:
        bench(folder, options)


def bench(folder, options):
    meter = Meter(folder)
    candidates, floor = runtimes(folder, meter)
    bundle, config = make_bundle(folder)
    print(f"{options.rounds} rounds, each runtime in turn; load {os.getloadavg()[0]:.1f}")
    if "run" in options.what:
        results = interleaved(options.rounds, [*candidates, *floor], lambda c: c.run(bundle))
        show_table("run", results, REFERENCE)
    if "cycle" in options.what:
        results = interleaved(options.rounds, candidates, lambda c: c.cycle(bundle))
        show_table("create, start, wait, delete", results, REFERENCE)
    if "limit" in options.what:
        limits(candidates, bundle, config)
    if "crowd" in options.what:
        print(f"\n{options.zones} zones of `sleep` living at once, one runtime after the other, twice")
        for _ in range(2):
            for candidate in candidates[:2]:
                crowd(candidate, bundle, config, options.zones)
        write_bundle(bundle, config)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
