#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Start time, CPU time and peak memory of `zonectl run --rm --network none busybox true`, beside crun and runc with an
equal bundle and a bare clone of the same namespaces.

All are run in turn, round by round, so that whatever the machine does meanwhile hits all of them; read the ratios, not
the milliseconds. Runs in a mount namespace of its own: there the state folders are on a tmpfs and the images on an ext4
with a journal, as on any server (one without a journal goes through the inodes that were deleted in the last seconds
for each new one, which a benchmark feels and nobody else); and the version 2 hierarchy of a hybrid host is hidden from
crun, which refuses it (from crun alone).
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = int(os.environ.get("ROUNDS", "150"))
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
ZONECTL = os.environ.get("ZONECTL", str(REPOSITORY / ".build/zonectl"))
HERE = pathlib.Path(__file__).resolve().parent


def run(*words, **options):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def measure(tool, command):
    """Returns wall and CPU seconds and the peak memory in KiB of one call."""
    done = subprocess.run([tool, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    match = re.search(r"^measured (\d+) (\d+) (\d+)$", done.stderr, re.M)
    if done.returncode != 0 or not match:
        sys.exit(f"bench: {' '.join(command)} failed: {done.stderr.strip()}")
    return int(match[1]) / 1e9, int(match[2]) / 1e6, int(match[3])


def default_seccomp(capabilities):
    """The installed default profile as a bundle states it, so that all runtimes load an equal filter."""
    path = pathlib.Path("/usr/share/containers/seccomp.json")
    if not path.exists():
        return None
    profile = json.loads(path.read_text())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")

    def applies(rule):
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        return (
            all(c in capabilities for c in includes.get("caps", []))
            and (machine in includes["arches"] if includes.get("arches") else True)
            and not any(c in capabilities for c in excludes.get("caps", []))
            and machine not in excludes.get("arches", [])
        )

    keep = ("names", "action", "errnoRet", "args")
    rules = [{k: r[k] for k in keep if r.get(k) is not None} for r in profile["syscalls"] if applies(r)]
    architectures = {"amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "arm64": ["SCMP_ARCH_AARCH64"]}.get(machine, [])
    result = {"defaultAction": profile["defaultAction"], "architectures": architectures, "syscalls": rules}
    if "defaultErrnoRet" in profile:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result


def make_bundle(zonectl, folder):
    """The configuration that zonectl itself runs with, and the image's files as a plain folder."""
    zone = subprocess.Popen([*zonectl, "run", "--name", "bench-model", "busybox", "sleep", "60"])
    try:
        for _ in range(500):
            found = json.loads(run(*zonectl, "ls", "--json"))
            if any(z["name"] == "bench-model" and z["status"] == "running" for z in found):
                break
            time.sleep(0.01)
        config = json.loads(run(*zonectl, "inspect", "bench-model"))[0]["config"]
    finally:
        subprocess.run([*zonectl, "rm", "-f", "bench-model"], check=False, stdout=subprocess.DEVNULL)
        zone.wait()
    config["process"]["args"] = ["true"]
    config["ociVersion"] = "1.0.2"  # the newest that Debian 12's runtimes take
    config["root"] = {"path": str(folder / "rootfs")}
    # The three files of names are bind mounts of the model's folder, which is gone.
    config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/etc/")]
    # The others add the same default devices by themselves, and read fewer forms of a rule.
    config["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    config["linux"]["cgroupsPath"] = "/zonectl-bench/bundle"
    seccomp = default_seccomp(config["process"]["capabilities"]["bounding"])
    if seccomp:
        config["linux"]["seccomp"] = seccomp
    (folder / "config.json").write_text(json.dumps(config))
    return config


def hidden_unified():
    """A prefix that hides a hybrid host's version 2 hierarchy in a mount namespace of its own."""
    if os.path.ismount("/sys/fs/cgroup/unified"):
        return ["unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "-"]
    return []


def phases(command):
    """Where the time of a start goes, from a trace of only the calls that end a phase."""
    calls = "execve,execveat,flock,clone3,pivot_root,sendmsg,exit_group,waitid"
    trace = pathlib.Path("/run/bench-trace")
    rows = []
    for _ in range(20):
        words = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", f"trace={calls}", "-e", "signal=none", "-o", str(trace)]
        subprocess.run([*words, *command], check=True, stdout=subprocess.DEVNULL)
        events = []
        for line in trace.read_text().splitlines():
            match = re.match(r"(\d+)\s+([\d.]+) (<\.\.\. )?(\w+)", line)
            if match:
                events.append((int(match[1]), float(match[2]), match[4]))
        main = events[0][0]
        child = next((e[0] for e in events if e[0] != main), None)
        at = lambda pid, name, last=False: [t for p, t, n in events if p == pid and n == name][-1 if last else 0]
        marks = [
            ("execute zonectl, twice", events[0][1], at(main, "flock")),
            ("claim, record, groups, overlay, plan", at(main, "flock"), at(main, "clone3")),
            ("clone3, groups, root", at(main, "clone3"), at(child, "pivot_root")),
            ("mounts, devices, masks, user, capabilities", at(child, "pivot_root"), at(child, "sendmsg", True)),
            ("record, release, seccomp", at(child, "sendmsg", True), at(child, "execve")),
            ("the program, end of its namespaces", at(child, "execve"), at(main, "waitid")),
            ("remove everything", at(main, "waitid"), at(main, "exit_group")),
        ]
        rows.append([(name, (end - begin) * 1000) for name, begin, end in marks])
    trace.unlink()
    print("\nWhere the time goes (ms, median of 20 runs under strace, which slows the marked calls):")
    for column in zip(*rows):
        print(f"  {statistics.median(v for _, v in column):6.2f}  {column[0][0]}")


def hot_spots(command):
    """The kernel's and our own share of the CPU, and the dearest functions, where perf can count."""
    if not shutil.which("perf"):
        return
    data = "/run/bench-perf"
    loop = f"for i in $(seq 100); do {' '.join(command)}; done"
    record = subprocess.run(
        ["perf", "record", "-q", "-e", "cpu-clock", "-F", "10000", "-o", data, "sh", "-c", loop],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if record.returncode != 0:
        print("\nperf cannot record on this machine: no profile by function")
        return
    for title, key in [("CPU by place", "comm,dso"), ("CPU by function", "symbol")]:
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "-q", "--sort", key, "--percent-limit", "0.8"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        print(f"\n{title}:")
        print("\n".join(line.rstrip() for line in report.splitlines() if line.strip())[:1600])
    os.unlink(data)


def main():
    if "ZONE_BENCH_INSIDE" not in os.environ:
        os.environ["ZONE_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, __file__])
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-bench-"))
    folder.chmod(0o755)
    disk = tempfile.NamedTemporaryFile(prefix="zonectl-bench-disk-")
    disk.truncate(512 << 20)
    run("mkfs.ext4", "-q", "-F", disk.name)
    run("mount", "-o", "loop", disk.name, str(folder))
    try:
        bench(folder)
    finally:
        run("umount", str(folder))
        for parent in pathlib.Path("/sys/fs/cgroup").glob("*/zonectl-bench"):
            for group, _, _ in os.walk(parent, topdown=False):
                os.rmdir(group)
        folder.rmdir()


def bench(folder):
    zonectl = [ZONECTL, "--store", str(folder / "store")]
    run(str(REPOSITORY / "images/busybox/build"), str(folder / "image"))
    run(*zonectl, "image", "import", str(folder / "image"))
    layer = next((folder / "store/layers").iterdir())
    bundle = folder / "bundle"
    bundle.mkdir()
    shutil.copytree(layer, bundle / "rootfs", symlinks=True)
    config = make_bundle(zonectl, bundle)
    # Older runtimes compile the filter at each start, which is most of theirs: shown without it, too.
    bare_bundle = folder / "bundle-without-filter"
    bare_bundle.mkdir()
    config["linux"].pop("seccomp", None)
    (bare_bundle / "config.json").write_text(json.dumps(config))
    tools = {name: str(folder / name) for name in ("bare-clone", "measure")}
    for name, path in tools.items():
        run("gcc", "-O2", "-static", "-o", path, str(HERE / f"{name}.c"))

    ours = [*zonectl, "run", "--rm", "--network", "none", "busybox", "true"]
    candidates = {"zonectl": ours}
    for name, prefix in [("crun", hidden_unified()), ("runc", [])]:
        if not shutil.which(name):
            print(f"{name} is not installed: not compared")
            continue
        candidates[name] = [*prefix, name, "run", "-b", str(bundle), f"bench-{name}"]
        candidates[f"{name}, no filter"] = [*prefix, name, "run", "-b", str(bare_bundle), f"bench-{name}"]
    candidates["bare clone"] = [tools["bare-clone"], str(bundle / "rootfs"), "/bin/true"]

    # What the prefix itself costs is measured too, and taken off.
    overhead = [*hidden_unified(), "/bin/true"] if hidden_unified() else None
    results = {name: [] for name in candidates}
    waste = []
    for round_number in range(ROUNDS + 5):
        for name, command in candidates.items():
            value = measure(tools["measure"], command)
            if round_number >= 5:
                results[name].append(value)
        if overhead and round_number >= 5:
            waste.append(measure(tools["measure"], overhead))
    off = [statistics.median(v) for v in zip(*waste)][:2] if waste else [0, 0]

    print(f"{ROUNDS} rounds, each runtime in turn; median (best), milliseconds and KiB; ratio to crun's median")
    print(f"{'':16} {'wall':>16} {'ratio':>6} {'CPU':>16} {'ratio':>6} {'peak KiB':>9}")
    table = {}
    for name, values in results.items():
        wall, cpu, peak = (list(v) for v in zip(*values))
        if name.startswith("crun"):
            wall, cpu = [w - off[0] for w in wall], [c - off[1] for c in cpu]
        table[name] = (statistics.median(wall), min(wall), statistics.median(cpu), min(cpu), statistics.median(peak))
    reference = table.get("crun", table["zonectl"])
    for name, (wall, best_wall, cpu, best_cpu, peak) in table.items():
        print(
            f"{name:16} {wall * 1000:7.2f} ({best_wall * 1000:6.2f}) {wall / reference[0]:6.2f}"
            f" {cpu * 1000:7.2f} ({best_cpu * 1000:6.2f}) {cpu / reference[2]:6.2f} {peak:9.0f}")
    if waste:
        print(f"(crun is started through unshare -m; {off[0] * 1000:.2f} ms wall, {off[1] * 1000:.2f} ms CPU taken off for it)")
    phases(ours)
    hot_spots(ours)


if __name__ == "__main__":
    main()
