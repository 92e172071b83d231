#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Snapshot, restore and clones of a stopped zone that has written 10 MB and of one that has written 1 GB, on each file
system that this machine can make: none may depend on the size, but for full clones where blocks cannot be shared.

SIZES= in megabytes, FILES= how many files they are in, ROUNDS=
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from surroundings import REPOSITORY, ZONECTL, enter_mount_namespace, run

SIZES = [int(size) for size in os.environ.get("SIZES", "10 1000").split()]
FILES = int(os.environ.get("FILES", "10"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SYSTEMS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}
# Of the big over the small zone, in what is to be independent of the size; and a difference in ms that is nobody's matter.
LIMIT, NOISE = 3, 20


def measure(*words):
    begin = time.monotonic()
    run(*words)
    return (time.monotonic() - begin) * 1000


def bench(system, folder):
    zonectl = [ZONECTL, "--root", "/run/zonectl", "--store", str(folder / "store")]
    run(str(REPOSITORY / "images/busybox/build"), str(folder / "image"))
    run(*zonectl, "image", "import", str(folder / "image"))
    times = {}
    for size in SIZES:
        zone = f"z{size}"
        run(*zonectl, "create", "--name", zone, "busybox")
        # As the zone would have written it; random, so that nothing is saved by chance.
        upper = folder / "store/zones" / zone / "upper"
        upper.mkdir()
        for number in range(FILES):
            with open(upper / f"file{number}", "wb") as file:
                for _ in range(size // FILES):
                    file.write(os.urandom(1 << 20))
        os.sync()
        for number in range(ROUNDS):
            for what, make, remove in (
                ("snapshot", ["snapshot", "create", zone, "s"], []),
                ("restore", ["snapshot", "restore", zone, "s"], []),
                ("snapshot rm", ["snapshot", "rm", zone, "s"], []),
                ("clone", ["clone", zone, "c"], ["rm", "c"]),
                ("clone --full", ["clone", "--full", zone, "c"], ["rm", "c"]),
            ):
                times.setdefault((what, size), []).append(measure(*zonectl, *make))
                if remove:
                    run(*zonectl, *remove)
            # What a linked clone stood on.
            if (folder / "store/zones" / zone / "snapshots/clone-c").exists():
                run(*zonectl, "snapshot", "rm", zone, "clone-c")
        run(*zonectl, "snapshot", "create", zone, "base")
        for number in range(ROUNDS):
            words = ["clone", "--linked", "--snapshot", "base", zone, "c"]
            times.setdefault(("clone --linked", size), []).append(measure(*zonectl, *words))
            run(*zonectl, "rm", "c")
        run(*zonectl, "snapshot", "rm", zone, "base")
        run(*zonectl, "rm", zone)
    failed = False
    for what in ("snapshot", "restore", "snapshot rm", "clone", "clone --full", "clone --linked"):
        medians = [statistics.median(times[what, size]) for size in SIZES]
        ratio = medians[-1] / medians[0]
        shares = what != "clone --full" or system in ("xfs", "btrfs")
        verdict = "" if not shares else "ok" if ratio <= LIMIT or medians[-1] - medians[0] < NOISE else f"more than {LIMIT}"
        failed |= verdict.startswith("more")
        figures = "  ".join(f"{size:5} MB {median:8.1f} ms" for size, median in zip(SIZES, medians))
        print(f"{system:6} {what:15} {figures}  x {ratio:5.2f}  {verdict}", flush=True)
    return failed


def main():
    enter_mount_namespace()
    failed = False
    for system, make in SYSTEMS.items():
        if not shutil.which(make[0]):
            print(f"{system:6} is left out: {make[0]} is not installed")
            continue
        folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-bench-"))
        with tempfile.NamedTemporaryFile(prefix="zonectl-bench-disk-") as file:
            file.truncate((max(SIZES) * 4 + 1000) << 20)
            run(*make, file.name)
            if subprocess.run(("mount", "-t", system, "-o", "loop", file.name, str(folder)), stderr=subprocess.DEVNULL).returncode:
                print(f"{system:6} is left out: this kernel does not mount it")
                folder.rmdir()
                continue
            try:
                failed |= bench(system, folder)
            finally:
                run("umount", str(folder))
                folder.rmdir()
    sys.exit(failed)


if __name__ == "__main__":
    main()
