# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""SIGKILL of zonectl at any moment: the next zonectl shows the truth and cleans up."""

import os
import random
import signal
import subprocess
import time

import pytest
from leaks import alive, read, until


def kill_hard(process):
    """Kills only zonectl itself and reaps it."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)


def processes_of(host, name):
    """Live processes in a zone's control groups, by what the host says."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if f"/{name}" in read(f"/proc/{pid}/cgroup") and alive(pid):
            found.add(int(pid))
    return found


def truth(host, name):
    """Checks that what is listed is what there is, and returns the status."""
    seen = []

    def agrees():
        # Nothing holds the zone still between the two looks, so a disagreement counts when it lasts.
        zone, processes = host.listed().get(name), processes_of(host, name)
        seen[:] = [zone, processes]
        if zone is None or zone["status"] == "stopped":
            return not processes and (zone is None or zone["pid"] == 0)
        return zone["status"] != "running" or zone["pid"] in processes

    assert until(agrees, 3), f"listed is {seen[0]}, but its processes are {seen[1]}"
    return seen[0] and seen[0]["status"]


@pytest.mark.parametrize("options", [[], ["--rm"], ["--init"]], ids=["kept", "rm", "init"])
def test_killed_while_the_zone_runs(zone_host, options):
    name = zone_host.start(options=options)
    kill_hard(zone_host.process(name))
    assert truth(zone_host, name) in ("running", "stopped")
    zone_host.run("rm", "-f", name).exits(0)
    assert truth(zone_host, name) is None
    zone_host.run("run", "--rm", "--name", name, "busybox", "echo", "again").ok(stdout="again\n")


def test_killed_zone_can_still_be_used_if_it_runs(zone_host):
    name = zone_host.start()
    kill_hard(zone_host.process(name))
    if truth(zone_host, name) == "running":
        zone_host.run("exec", name, "echo", "x").ok(stdout="x\n")
        zone_host.run("kill", name).ok()
    assert until(lambda: truth(zone_host, name) == "stopped", 5)
    zone_host.run("rm", name).exits(0)


def test_first_process_that_dies_afterwards_is_seen(zone_host):
    name = zone_host.start()
    pid = zone_host.pid(name)
    kill_hard(zone_host.process(name))
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: truth(zone_host, name) == "stopped", 5)
    zone_host.run("exec", name, "true").fails(125, name)
    zone_host.run("rm", name).exits(0)


def test_another_process_with_the_old_number_is_not_the_zone(zone_host):
    """A state file that names a living process which is not the zone's must not make it running, nor kill it."""
    name = zone_host.start()
    pid = zone_host.pid(name)
    kill_hard(zone_host.process(name))
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: truth(zone_host, name) == "stopped", 5)
    stranger = subprocess.Popen(["sleep", "1000"])
    zone_host.defer(lambda: (stranger.kill(), stranger.wait()))
    for folder, _, files in os.walk(zone_host.root):
        for file in files:
            path = os.path.join(folder, file)
            text = read(path)
            if f'"pid":{pid}' in text.replace(" ", ""):
                with open(path, "w") as out:
                    out.write(text.replace(str(pid), str(stranger.pid)))
    assert zone_host.status(name) == "stopped"
    zone_host.run("rm", "-f", name).exits(0)
    assert alive(stranger.pid), "rm -f killed a process that is not the zone's"


def test_exec_that_is_killed_leaves_the_zone(zone_host):
    name = zone_host.start()
    process = zone_host.popen("exec", name, "sleep", "1000")
    until(lambda: len(processes_of(zone_host, name)) == 2, 5)
    kill_hard(process)
    assert truth(zone_host, name) == "running"
    zone_host.run("rm", "-f", name).exits(0)


def clean_up(host, name):
    """What a person does after a crash; every step must work."""
    if truth(host, name) is not None:
        host.run("rm", "-f", name).exits(0)
    assert truth(host, name) is None
    groups = [path for path in host.leaks.find() if "process" in path or "group" in path]
    assert not groups, groups


@pytest.mark.parametrize("options", [["--rm"], []], ids=["rm", "kept"])
def test_killed_at_random_moments_of_the_start(zone_host, options):
    chance = random.Random(2)
    name = zone_host.name()
    words = ["run", "--name", name, *options, "busybox", "true"]
    zone_host.defer(zone_host.remove, name)
    begin = time.monotonic()
    zone_host.run(*words).exits(0)
    whole = time.monotonic() - begin
    zone_host.remove(name)
    for _ in range(30):
        process = zone_host.popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The moment is the point of the test, so this waits without a condition.
        time.sleep(chance.uniform(0, whole * 1.2))
        kill_hard(process)
        clean_up(zone_host, name)
    zone_host.run("run", "--rm", "--name", name, "busybox", "echo", "again").ok(stdout="again\n")


def calls_of(trace):
    """The system calls in a trace as (name, how many-th of that name)."""
    count, calls = {}, []
    for line in read(trace).splitlines():
        name = line.split("(")[0].strip()
        if name.isidentifier():
            count[name] = count.get(name, 0) + 1
            calls.append((name, count[name]))
    return calls


# What is killed, after what: {name} is the zone's, {other} a free one, {layout} an image's.
WORDS = {
    "run": ((), "run --rm --name {name} busybox true"),
    "rm": (("run --name {name} busybox true",), "rm {name}"),
    "image import": ((), "image import --name again {layout}"),
    "run -d": ((), "run -d --name {name} busybox sleep 1000"),
    "start": (("create --name {name} busybox sleep 1000",), "start {name}"),
    "stop": (("run -d --name {name} busybox sleep 1000",), "stop -t 0 {name}"),
    "restart": (("run -d --name {name} --stop-timeout 0 busybox sleep 1000",), "restart {name}"),
    "rename": (("run --name {name} busybox true",), "rename {name} {other}"),
    "set": (("run -d --name {name} busybox sleep 1000",), "set --memory 64M --cpus 0.5 {name}"),
}


@pytest.mark.parametrize("verb", WORDS)
def test_killed_at_system_calls(own_store, strace, verb, busybox_layout):
    """Kills zonectl at some calls spread evenly over its life, or at all with ZONECTL_TEST_EVERY_CALL=1."""
    name, other = own_store.name(), own_store.name("other")
    trace = own_store.path("trace")
    before, command = WORDS[verb]
    fill = {"name": name, "other": other, "layout": busybox_layout}
    words = [word.format(**fill) for word in command.split()]

    def prepare():
        for line in before:
            own_store.run(*(word.format(**fill) for word in line.split())).exits(0)

    for each in (name, other):
        own_store.defer(own_store.remove, each)
    prepare()
    own_store.run(*words, wrap=[strace, "-qq", "-o", trace]).exits(0)
    for each in (name, other):
        own_store.remove(each)
    calls = calls_of(trace)
    # Not the calls of the program's start, before it can have done anything, and not each of the many writes.
    calls = [
        call
        for call in calls
        if call[0] not in ("execve", "exit_group", "mmap", "munmap", "mprotect", "brk") and call[1] < 100
    ]
    most = 20 if verb in ("run", "rm", "image import") else 8
    step = 1 if os.environ.get("ZONECTL_TEST_EVERY_CALL") else max(1, len(calls) // most)
    for call, number in calls[::step]:
        prepare()
        inject = [
            strace,
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:signal=SIGKILL:when={number}",
        ]
        own_store.run(*words, wrap=inject)
        try:
            if verb == "rename":
                listed = own_store.run("ls", "-q").ok().lines
                assert listed in ([name], [other]), f"a zone with one name is listed as {listed}"
            for each in (name, other):
                clean_up(own_store, each)
            if not before:
                own_store.run(*words).exits(0)
                own_store.remove(name)
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL at {call} number {number}: {error}") from None
    own_store.run("run", "--rm", "--name", name, "busybox", "echo", "again").ok(stdout="again\n")
