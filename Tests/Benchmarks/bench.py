#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Start time, CPU time and peak memory of `zonectl run --rm --network none busybox true`, beside crun and runc with an
equal bundle and a bare clone of the same namespaces. engine.py measures zonectl as engines call it.

All are run in turn, round by round, so that whatever the machine does meanwhile hits all of them; read the ratios, not
the milliseconds. The version 2 hierarchy of a hybrid host is hidden from crun, which refuses it (from crun alone).
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from surroundings import HERE, REPOSITORY, ZONECTL, Meter, compile_tool, disk, enter_mount_namespace, installed, run, show_table

# Nothing is to be made in the network of the machine.
os.environ.setdefault("ZONECTL_NETWORK", "none")
ROUNDS = int(os.environ.get("ROUNDS", "150"))


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
    enter_mount_namespace()
    with disk() as folder:
        bench(folder)


def bench(folder):
    meter = Meter(folder)
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

    ours = [*zonectl, "run", "--rm", "--network", "none", "busybox", "true"]
    candidates = {"zonectl": ours}
    for name in installed(["crun", "runc"]):
        candidates[name] = [name, "run", "-b", str(bundle), f"bench-{name}"]
        candidates[f"{name}, no filter"] = [name, "run", "-b", str(bare_bundle), f"bench-{name}"]
    candidates["bare clone"] = [str(compile_tool(HERE / "bare-clone.c", folder)), str(bundle / "rootfs"), "/bin/true"]

    results = {name: [] for name in candidates}
    for round_number in range(ROUNDS + 5):
        for name, command in candidates.items():
            value = meter(command, hides_unified=name.startswith("crun"))
            if round_number >= 5:
                results[name].append(value)
    show_table(f"{ROUNDS} rounds, each runtime in turn", results, "crun")
    phases(ours)
    hot_spots(ours)


if __name__ == "__main__":
    main()
