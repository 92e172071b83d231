# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""P22: SIGKILL at any system call of a verb, of zonectl itself or of the child that sets a container up.

Whatever is left is listed, can be removed, and then nothing is left. Each verb is killed at ten calls that are spread
evenly over its life; at every one with ZONECTL_TEST_EVERY_CALL=1.
"""

import json
import os
import re
import signal
import subprocess

import pytest
from leaks import read

# Of the program's start and of its memory: nothing has changed between one and the next.
_DULL = {"execve", "exit_group", "mmap", "munmap", "mprotect", "brk", "rt_sigaction", "madvise", "arch_prctl"}
_SLEEP = ("sleep", "1000")


@pytest.fixture(autouse=True)
def _zonectl_only(runtime):
    if runtime.kind != "zonectl":
        pytest.skip("a property of zonectl's")


class Victim:
    """A container in the state that a verb wants, and what is checked after the verb was killed."""

    def __init__(self, oci, verb):
        self.oci = oci
        self.verb = verb
        self.name = oci.owned(oci.name())
        self.bundle = oci.bundle(("true",) if verb == "run" else _SLEEP)
        self.points = self.killed = 0

    @property
    def words(self):
        return {
            "run": ("run", "--bundle", self.bundle, self.name),
            "create": ("create", "--bundle", self.bundle, self.name),
            "start": ("start", self.name),
            "exec": ("exec", self.name, "true"),
            "update": ("update", "--pids-limit", "77", "--cpu-share", "512", self.name),
            "delete": ("delete", "--force", self.name),
        }[self.verb]

    def prepare(self):
        """Makes the container, unless a verb that it survives has left it as it should be."""
        if self.verb in ("run", "create") or self.oci.exists(self.name):
            return
        self.oci.create(self.bundle, self.name).exits(0)
        if self.verb in ("exec", "update"):
            self.oci.run("start", self.name).exits(0)

    def strike(self, *options):
        """Runs the verb under strace; the tracer is not its parent, and may outlive it with a container."""
        words = ("strace", "-D", "-qq", *options, *self.oci.command(*self.words))
        result = self.oci.execute(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.killed += result.status == -signal.SIGKILL
        return result

    def people(self, *words):
        """The people's face on the same root."""
        return self.oci.execute((self.oci.executable, "--root", self.oci.root, *words))

    def check(self):
        """What must hold after any death."""
        self.points += 1
        listed = {zone["name"]: zone for zone in json.loads(self.people("ls", "--json").exits(0).stdout)}
        assert (self.name in listed) == self.oci.exists(self.name), "ls and list do not agree"
        if self.name not in listed:
            # A process that has just lost its parent ends by itself.
            left = self.oci.leaks.find()
            assert not left, f"not listed, but there is {left}"
        if self.verb in ("exec", "update"):
            assert listed[self.name]["status"] == "running", f"the container is {listed[self.name]['status']}"
            self.oci.run(*self.words).exits(0)
            if self.verb == "update":
                assert self.oci.group(self.name, "pids", "pids.max") == "77"
            return
        self.remove()

    def remove(self):
        """By the one face and by the other."""
        if self.oci.exists(self.name):
            if self.points % 2:
                self.people("rm", "-f", self.name).exits(0)
            else:
                self.oci.run("delete", "--force", self.name).exits(0)
        assert not self.oci.exists(self.name)
        left = self.oci.leaks.find()
        assert not left, f"left after it was removed: {left}"


def _calls(trace):
    """What a trace of several processes holds, as (name, how many-th of that name in its process), each once.

    A process that executes the container's program is no longer ours.
    """
    counts, gone, found = {}, set(), {}
    first = None
    for line in read(trace).splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if not match:
            continue
        pid, name, rest = match.groups()
        first = first or pid
        if pid in gone:
            continue
        if name == "execve" and pid != first and rest.rstrip().endswith("= 0"):
            gone.add(pid)
            continue
        counts[pid, name] = counts.get((pid, name), 0) + 1
        if name not in _DULL:
            found[name, counts[pid, name]] = True
    return list(found)


@pytest.mark.parametrize("whom", ["zonectl", "both"])
@pytest.mark.parametrize("verb", ["run", "create", "start", "exec", "update", "delete"])
def test_killed_at_system_calls(oci, strace, verb, whom):
    """`both`: whichever process comes first to the call, zonectl or the one that becomes the container."""
    if whom == "both" and verb in ("start", "update", "delete"):
        pytest.skip("it makes no processes")
    victim = Victim(oci, verb)
    trace = oci.path("trace")
    follow = ("-f",) if whom == "both" else ()
    victim.prepare()
    victim.strike("-f", "-o", trace).exits(0)
    if whom == "zonectl":
        # The same, seen alone: the names and numbers of its own calls.
        first = re.match(r"\d+", read(trace)).group()
        with open(trace) as file:
            lines = [line for line in file if line.startswith(first + " ")]
        with open(trace, "w") as file:
            file.writelines(lines)
    calls = _calls(trace)
    assert len(calls) > 20, calls
    victim.check()
    step = 1 if os.environ.get("ZONECTL_TEST_EVERY_CALL") else max(1, len(calls) // 10)
    # From an odd place, so that the two kinds of victims do not die at the same calls.
    chosen = calls[0 if step == 1 else step // 2 + len(follow) :: step]
    for call, number in chosen:
        victim.prepare()
        victim.strike(*follow, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
        try:
            victim.check()
        except AssertionError as error:
            raise AssertionError(f"after SIGKILL at {call} number {number}: {error}") from None
    # How often a call is made differs a little from time to time; of `both` it may be the child that dies.
    wanted = len(chosen) * 0.9 if whom == "zonectl" else 1
    assert victim.killed >= wanted, f"of {len(chosen)} only {victim.killed} were killed: the test shows nothing"
    victim.remove()
