#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Zones under random use: started, stopped, renamed, changed, paused, copied, restored, removed; and their processes, keepers
and zonectl itself killed at any moment.

    soak.py [--minutes M] [--zones N] [--workers N] [--seed S]

Meanwhile and at the end must hold: a zone that was made and not removed is listed; its first process runs at most once;
what was stopped stays so, and what is to run runs or comes back as its restart policy says; exit codes are right where
somebody saw the end; no line of a log is lost but for what a killed keeper had in its hands. At the end all is removed, and
nothing may be left on the host.

Each zone is one worker's at a time, so what must hold of it is known; zones differ, and work goes on in all of them at
once. The same seed gives the same commands, though not the same moments.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

# Nothing is to be made in the network of the machine.
os.environ.setdefault("ZONECTL_NETWORK", "none")
HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPOSITORY / "Tests/Integration")]

from actions import ACTIONS, check, settle_all  # noqa: E402
from leaks import LeakCheck, until  # noqa: E402
from model import Driver, Violation, Zone  # noqa: E402


class Soak:
    def __init__(self, driver, options, prefix):
        self.driver = driver
        self.zones = [Zone(number, prefix) for number in range(options.zones)]
        self.locks = [threading.Lock() for _ in self.zones]
        self.violations, self.counts = [], collections.Counter()
        self.end = time.monotonic() + options.minutes * 60
        self.seed = options.seed

    def work(self, number):
        chance = random.Random(f"{self.seed} {number}")
        names, weights = list(ACTIONS), [weight for _, weight in ACTIONS.values()]
        while time.monotonic() < self.end:
            place = chance.randrange(len(self.zones))
            action = chance.choices(names, weights)[0]
            inner = random.Random(chance.random())
            with self.locks[place]:
                self.one(self.zones[place], action, inner)

    def one(self, zone, action, chance):
        zone.note(f"{time.strftime('%T')} {action}")
        try:
            if ACTIONS[action][0](self.driver, zone, chance) is False:
                zone.history.pop()
                return
            self.counts[action] += 1
            check(self.driver, zone)
        except (Violation, OSError, ValueError, KeyError) as error:
            self.report(zone, action, error)

    def report(self, zone, action, error):
        sentence = f"zone {zone.name} ({zone.policy}{', tty' if zone.has_terminal else ''}) after {action}: {error}"
        record = self.driver.record(zone.name) if zone.name else {}
        about = {k: record.get(k) for k in ("phase", "process", "keeper", "restarts", "exitCode")}
        print(f"VIOLATION {sentence}\n    record {about}\n    before: {'; '.join(zone.history[-8:])}", flush=True)
        self.violations.append(sentence)
        # From here on it is anew: one fault is told once.
        if zone.name:
            self.driver.call("rm", "-f", zone.name)
        zone.forget()

    def run(self, workers):
        threads = [threading.Thread(target=self.work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        next_look = time.monotonic() + 10
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            if time.monotonic() >= next_look:
                next_look += 10
                self.look()
        for thread in threads:
            thread.join()

    def look(self):
        """What must hold of all at once: all are listed, and none that is nobody's."""
        for lock in self.locks:
            lock.acquire()
        try:
            listed = set(self.driver.listed())
            known = {zone.name for zone in self.zones if zone.name}
            for name in known - listed:
                self.violations.append(f"zone {name} is not listed")
                print(f"VIOLATION {self.violations[-1]}", flush=True)
            for name in listed - known:
                self.violations.append(f"zone {name} is listed, but was removed or never made")
                print(f"VIOLATION {self.violations[-1]}", flush=True)
                self.driver.call("rm", "-f", name)
        finally:
            for lock in self.locks:
                lock.release()

    def finish(self):
        """Stops and removes all, and looks once more whether nothing was lost."""
        self.look()
        for zone in self.zones:
            try:
                settle_all(self.driver, zone)
            except (Violation, OSError, ValueError, KeyError) as error:
                self.report(zone, "the end", error)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", "30")))
    parser.add_argument("--zones", type=int, default=40)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options = parser.parse_args()
    # Ended from outside, it still takes its zones away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-soak-"))
    folder.chmod(0o755)
    try:
        status = soak(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


def soak(folder, options):
    source = os.environ.get("ZONECTL", str(REPOSITORY / ".build/zonectl"))
    # The same to the end, though somebody builds meanwhile.
    executable = shutil.copy(source, folder / "zonectl")
    prefix = f"soak{options.seed}"
    driver = Driver(executable, folder)
    subprocess.run([REPOSITORY / "images/busybox/build", folder / "image"], check=True, stdout=subprocess.DEVNULL)
    driver.must("image", "import", str(folder / "image"))
    driver.must("run", "--rm", "busybox", "true")
    leaks = LeakCheck(folder, prefix, [driver.root], [driver.store])
    print(
        f"soak: seed {options.seed}, {options.minutes:g} minutes, {options.zones} zones, {options.workers} at a time",
        flush=True)
    run = Soak(driver, options, prefix)
    try:
        run.run(options.workers)
        run.finish()
        # With ZONECTL_NETWORK=zone0, in a network namespace of one's own, zones have had a network.
        for network in driver.must("network", "ls", "-q").split():
            driver.must("network", "rm", network)
    finally:
        # Keepers end a moment after their zones.
        until(lambda: not leaks.find(), seconds=10, step=0.2)
        left = leaks.find()
        leaks.clean()
        leaks.remove_parents()
    print(", ".join(f"{count} {name}" for name, count in sorted(run.counts.items())))
    for sentence in left:
        print(f"LEFT BEHIND {sentence}")
    print(f"seed {options.seed}: {sum(run.counts.values())} actions, {len(run.violations)} violations, {len(left)} left behind")
    return 1 if run.violations or left else 0


if __name__ == "__main__":
    main()
