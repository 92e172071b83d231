# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What the soak does to a zone's files, and what it then expects: copies in and out, snapshots, restores, clones."""

import itertools
import json
import os
import time

from leaks import read
from model import expect, status_of

PATHS = ("/mark-1", "/mark-2", "/mark-3")
MOST_SNAPSHOTS = 4
numbers = itertools.count()


def is_between(error):
    """Whether a verb was refused as the zone is between its end and its next start."""
    return any(words in error for words in ("about to be started again", "has just ended", "is just being created"))


def succeeds(driver, *words):
    """Whether a verb worked; there is one reason only not to."""
    status, _, error = driver.call(*words)
    expect(status == 0 or is_between(error), f"{words[0]}: {error}")
    return status == 0


def contents(driver, name):
    """What the marks hold in a zone; a path that is not there is left out."""
    found = {}
    for path in PATHS:
        place = driver.folder / f"out-{next(numbers)}"
        status, _, error = driver.call("cp", "-q", f"{name}:{path}", str(place))
        if status == 0:
            found[path] = place.read_text()
            place.unlink()
        elif is_between(error):
            return None
        else:
            expect("no such file" in error.lower(), f"cp out of {name}: {error}")
    return found


def compare(driver, zone):
    found = contents(driver, zone.name)
    expect(found in (zone.files, None), f"has the marks {found}, not {zone.files}")


def snapshots(driver, zone):
    return driver.must("snapshot", "ls", "-q", zone.name).split()


def write(driver, zone, chance):
    """Changes a mark by `cp`; its content is as large as it is random."""
    if not zone.name:
        return False
    path = chance.choice(PATHS)
    place = driver.folder / f"in-{next(numbers)}"
    text = f"{chance.random()} " * chance.choice([1, 1, 2000])
    place.write_text(text)
    if succeeds(driver, "cp", "-q", str(place), f"{zone.name}:{path}"):
        zone.files[path] = text
    place.unlink()
    compare(driver, zone)
    return True


def snapshot(driver, zone, chance):
    if not zone.name or len(zone.snapshots) >= MOST_SNAPSHOTS:
        return False
    name = f"s{next(numbers)}"
    if succeeds(driver, "snapshot", "create", zone.name, name):
        zone.snapshots[name] = dict(zone.files)
    expect(sorted(snapshots(driver, zone)) == sorted(zone.snapshots), "does not list the snapshots that it has")
    compare(driver, zone)
    return True


def forget(driver, zone, chance):
    if not zone.name or not zone.snapshots:
        return False
    name = chance.choice(sorted(zone.snapshots))
    driver.must("snapshot", "rm", zone.name, name)
    del zone.snapshots[name]
    compare(driver, zone)
    return True


def restore(driver, zone, chance):
    if not zone.name or not zone.snapshots or zone.wanted != "stopped":
        return False
    name = chance.choice(sorted(zone.snapshots))
    driver.must("snapshot", "restore", zone.name, name)
    restored(driver, zone, name)
    compare(driver, zone)
    return True


def restored(driver, zone, name):
    zone.files = dict(zone.snapshots[name])
    # It counts lines from an earlier number on, with settings of that time.
    zone.interruptions += 1
    zone.policy = json.loads(read(f"{driver.store}/zones/{zone.name}/definition.json")).get("restart", "no")


def clone(driver, zone, chance):
    """A second zone with the same files, or those of a snapshot; it is gone again at the end."""
    if not zone.name:
        return False
    kind, new = chance.choice(["--full", "--linked"]), zone.new_name()
    words, wanted = [], zone.files
    if zone.snapshots and chance.random() < 0.6:
        name = chance.choice(sorted(zone.snapshots))
        words, wanted = ["--snapshot", name], zone.snapshots[name]
    if not succeeds(driver, "clone", kind, *words, zone.name, new):
        return True
    found = contents(driver, new)
    expect(found == wanted, f"was cloned, and the clone has the marks {found}, not {wanted}")
    if kind == "--linked":
        status, _, _ = driver.call("rm", zone.name) if zone.wanted == "stopped" else (1, "", "")
        expect(status != 0, "was removed though a linked clone stands on it")
    driver.must("rm", "-f", new)
    for name in set(snapshots(driver, zone)) - set(zone.snapshots):
        driver.must("snapshot", "rm", zone.name, name)
    compare(driver, zone)
    return True


def interrupt(driver, zone, chance):
    """One of these verbs, whose zonectl is killed while it works."""
    if not zone.name:
        return False
    verb = chance.choice(["create", "rm", "restore"])
    if verb == "create":
        name = f"s{next(numbers)}"
    elif zone.snapshots and (verb == "rm" or zone.wanted == "stopped"):
        name = chance.choice(sorted(zone.snapshots))
    else:
        return False
    process = driver.start("snapshot", verb, zone.name, name)
    time.sleep(chance.choice([0.002, 0.005, 0.01, 0.02, 0.05]) * chance.random() * 2)
    process.kill()
    process.communicate()
    zone.note(f"(killed snapshot {verb})")
    # A zone that was frozen for a moment stays so.
    if zone.wanted == "running" and status_of(driver, zone) == "paused":
        driver.must("resume", zone.name)
    left = set(snapshots(driver, zone))
    if verb == "create" and name in left:
        zone.snapshots[name] = dict(zone.files)
    if verb == "rm" and name not in left:
        del zone.snapshots[name]
    expect(left == set(zone.snapshots), f"has the snapshots {sorted(left)}, not {sorted(zone.snapshots)}")
    if verb == "restore" and contents(driver, zone.name) == zone.snapshots[name]:
        restored(driver, zone, name)
    compare(driver, zone)
    return True


ACTIONS = {
    "cp": (write, 6), "snapshot": (snapshot, 5), "snapshot rm": (forget, 3), "restore": (restore, 5), "clone": (clone, 3),
    "kill snapshot": (interrupt, 4),
}
