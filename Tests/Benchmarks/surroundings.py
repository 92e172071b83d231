# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Where the benchmarks run, and what they measure with.

They run in a mount namespace of their own: there the state folders are on a tmpfs and the images on an ext4 with a
journal, as on any server (one without a journal goes through the inodes that were deleted in the last seconds for each
new one, which a benchmark feels and nobody else).
"""

import contextlib
import copy
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
ZONECTL = os.environ.get("ZONECTL", str(REPOSITORY / ".build/zonectl"))


class Failed(Exception):
    """A command that was to be measured did not end well."""


def run(*words, **options):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def enter_mount_namespace(*more):
    """Starts this program anew in a mount namespace of its own, with an empty /run. `more`: other options of unshare's."""
    if "ZONE_BENCH_INSIDE" not in os.environ:
        os.environ["ZONE_BENCH_INSIDE"] = "1"
        words = ["unshare", "-m", *more, "--propagation", "private", sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
        os.execvp("unshare", words)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")


@contextlib.contextmanager
def disk(megabytes=512):
    """A folder on an ext4 of its own."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-bench-"))
    folder.chmod(0o755)
    with tempfile.NamedTemporaryFile(prefix="zonectl-bench-disk-") as file:
        file.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", file.name)
        run("mount", "-o", "loop", file.name, str(folder))
        try:
            yield folder
        finally:
            run("umount", str(folder))
            for parent in pathlib.Path("/sys/fs/cgroup").glob("*/zonectl-bench*"):
                for group, _, _ in os.walk(parent, topdown=False):
                    os.rmdir(group)
            folder.rmdir()


def compile_tool(source, folder):
    result = folder / pathlib.Path(source).stem
    run("gcc", "-O2", "-static", "-o", str(result), str(source))
    return result


class Meter:
    """Measures commands."""

    def __init__(self, folder):
        self.before = []
        self.tool = str(compile_tool(HERE / "measure.c", folder))

    def behind(self, words):
        """The same, executed by a command that is not measured."""
        result = copy.copy(self)
        result.before = words
        return result

    def __call__(self, command, hides_unified=False, pid_file=None, waits_for_word=False):
        """Returns wall and CPU seconds and the peak memory in KiB of a command, or of several with `::` between."""
        options = ["-u"] if hides_unified and os.path.ismount("/sys/fs/cgroup/unified") else []
        if waits_for_word:
            options += ["-s"]
        if pid_file:
            options += ["-p", str(pid_file)]
        # Not a pipe: what the command leaves running would hold it open.
        with tempfile.TemporaryFile(mode="w+", errors="replace") as said:
            done = subprocess.run(
                [*self.before, self.tool, *options, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            said.seek(0)
            errors = said.read()
        match = re.search(r"^measured (\d+) (\d+) (\d+)$", errors, re.M)
        if done.returncode != 0 or not match:
            raise Failed(f"{' '.join(command)} failed: {errors.strip()}")
        return int(match[1]) / 1e9, int(match[2]) / 1e6, int(match[3])


def installed(names):
    """Those that are there; says which are not."""
    for name in names:
        if shutil.which(name):
            yield name
        else:
            print(f"{name} is not installed: NOT COMPARED")


def forget(path):
    """Lets go of what the kernel caches of a program. One that was just installed is cached in large pieces, each of which
    is mapped as a whole from Linux 6.18 on and counts as memory of the process; read from the disk later it is not."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def show_table(title, results, reference):
    """`results`: name → list of (wall, CPU, peak)."""
    print(f"\n{title}\nmedian (best), milliseconds and KiB; ratio to the median of {reference}")
    print(f"{'':20} {'wall':>16} {'ratio':>6} {'CPU':>16} {'ratio':>6} {'peak KiB':>9} {'ratio':>6}")
    table = {}
    for name, values in results.items():
        wall, cpu, peak = (list(v) for v in zip(*values))
        table[name] = (statistics.median(wall), min(wall), statistics.median(cpu), min(cpu), statistics.median(peak))
    base = table.get(reference) or next(iter(table.values()))
    for name, (wall, best_wall, cpu, best_cpu, peak) in table.items():
        print(
            f"{name:20} {wall * 1000:7.2f} ({best_wall * 1000:6.2f}) {wall / base[0]:6.2f}"
            f" {cpu * 1000:7.2f} ({best_cpu * 1000:6.2f}) {cpu / base[2]:6.2f} {peak:9.0f} {peak / base[4]:6.2f}")
