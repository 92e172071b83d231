# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a zone of the soak is, what must hold of it, and what is found of it on the host."""

import json
import os
import re
import subprocess

from leaks import read

# Counts lines across starts, so that a lost one shows; does as it is told by files.
PROGRAM = """
rm -f /sick
trap 'exit 0' TERM
n=$(cat /n 2>/dev/null || echo 0)
while :; do
    n=$((n + 1))
    echo "line $n"
    echo "$n" >/n.new && mv /n.new /n
    if [ -f /quit ]; then c=$(cat /quit); rm -f /quit; exit "$c"; fi
    sleep 0.2
done
"""
POLICIES = ["no", "on-failure", "on-failure:3", "always", "unless-stopped"]
ALIVE = ("running", "paused")


class Violation(Exception):
    """Something that must hold does not."""


def expect(condition, sentence):
    if not condition:
        raise Violation(sentence)


def status_of(driver, zone):
    found = driver.listed().get(zone.name)
    expect(found, "is not listed")
    return found["status"]


class Driver:
    """Calls zonectl."""

    def __init__(self, executable, folder):
        self.folder = folder
        self.root, self.store = str(folder / "root"), str(folder / "store")
        os.mkdir(self.root, 0o700)
        self.words = [str(executable), "--root", self.root, "--store", self.store]

    def start(self, *words):
        return subprocess.Popen(
            [*self.words, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True)

    def call(self, *words, seconds=60):
        """Exit status, output and errors."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Violation(f"zonectl {' '.join(words)}: not finished after {seconds} s") from None
        if process.returncode < 0:
            raise Violation(f"zonectl {' '.join(words)} died of signal {-process.returncode}: {err.strip()}")
        return process.returncode, out, err.strip()

    def must(self, *words):
        status, out, err = self.call(*words)
        if status != 0:
            raise Violation(f"zonectl {' '.join(words)}: status {status}: {err}")
        return out

    def listed(self):
        return {zone["name"]: zone for zone in json.loads(self.must("ls", "--json"))}

    def record(self, name):
        """What is recorded of the zone's run; empty where nothing is."""
        text = read(f"{self.root}/{name}/state.json")
        return json.loads(text) if text else {}


class Zone:
    """What is known of one zone. `name` is None where there is none."""

    def __init__(self, number, prefix):
        self.number = number
        self.mark = f"{prefix}-mark-{number}-end"
        self.prefix = prefix
        self.generation = 0
        self.history = []
        self.forget()

    def forget(self):
        self.name = None
        # "running": it runs or comes back; "stopped": somebody wanted so; None: either is right.
        self.wanted = None
        self.policy, self.has_terminal, self.has_health = "no", False, False
        # Whether a keeper stays with it, as far as we know.
        self.has_keeper = False
        # How often output may have been lost: each kill of a keeper may cost what it had just read.
        self.interruptions = 0
        # Whether a `stop` that was itself killed, or quarrelled with others, may have sent its signal to what runs.
        self.may_end = False
        # What its files hold that the soak has written, and what they held at each of its snapshots.
        self.files, self.snapshots = {}, {}

    def new_name(self):
        self.generation += 1
        return f"{self.prefix}-{self.number}-{self.generation}"

    def note(self, words):
        self.history.append(words)

    def first_processes(self):
        """The first processes of this zone that live on the host, by the mark in their command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            words = read(f"/proc/{pid}/cmdline")
            if self.mark in words and "trap 'exit 0' TERM" in words and not words.startswith("/"):
                status = read(f"/proc/{pid}/status")
                inner = re.search(r"^NSpid:.*\t(\d+)$", status, re.M)
                state = re.search(r"^State:\t(\S)", status, re.M)
                # Not a subshell of it, and not one that has ended.
                if inner and inner[1] == "1" and state and state[1] not in "ZX":
                    found.append(int(pid))
        return found

    def comes_back(self, exit_code):
        """Whether its keeper starts it again after it ended by itself."""
        if not self.has_keeper:
            return False
        if self.policy == "no":
            return False
        if self.policy.startswith("on-failure"):
            # How often it was started again already is the keeper's to know.
            return None if exit_code != 0 and ":" in self.policy else exit_code != 0
        return True


def lost_lines(text, has_overlap):
    """Gaps in the numbers of a zone's lines. `has_overlap`: a start may repeat the last number."""
    gaps, last = [], None
    for match in re.finditer(r"^line (\d+)\s*$", text, re.M):
        number = int(match[1])
        if last is not None and number != last + 1 and not (has_overlap and number == last):
            gaps.append((last, number))
        last = number
    return gaps, last
