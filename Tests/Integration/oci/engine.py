# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`EngineHost`: an OCI runtime as engines drive it: zonectl, or another one that the cases are proved on."""

import json
import os
import re
import subprocess
from dataclasses import dataclass

import bundle as bundles
import pytest
import without
from fixture import TIMEOUT, ZoneHost
from leaks import LeakCheck, cgroup_hierarchies, read, until
from result import Result

# crun refuses hybrid control groups; without the unified part they are none.
_WITHOUT_UNIFIED = 'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"'


def needs(*runtimes, why):
    """Marks a case that only these runtimes can pass. A name may carry a version: `crun-1.21`.

    zonectl must be one of them: nothing is ever skipped there.
    """
    assert "zonectl" in runtimes, f"a case that zonectl is excused from: {runtimes}"
    return pytest.mark.needs(runtimes, why)


@dataclass(frozen=True)
class Runtime:
    """The program under test."""

    path: str
    kind: str
    version: str

    @classmethod
    def at(cls, path):
        """Asks a program what it is."""
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout
        found = re.match(r"(\S+) version (\S+)", told)
        name = os.path.basename(path)
        kind = next((kind for kind in ("zonectl", "crun", "runc") if name.startswith(kind)), name)
        return cls(str(path), kind, found.group(2) if found else "")

    def can(self, names):
        """Whether one of the names, with or without a version, is this program's."""
        return self.kind in names or f"{self.kind}-{self.version}" in names

    def words(self, options, verb, rest, user):
        """The whole command line for a verb; as another user if one is given."""
        drop = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups") if user is not None else ()
        words = (self.path, *options, verb, *rest)
        if self.kind == "zonectl" and verb not in ("create", "run"):
            # A bundle's options make the engine face; all other verbs need the word.
            words = (self.path, *options, "oci", verb, *rest)
        if self.kind == "crun":
            return ("unshare", "-m", "sh", "-c", _WITHOUT_UNIFIED, "sh", *drop, *words)
        return (*drop, *words)


class EngineLeaks(LeakCheck):
    """As for zones, but an engine puts a group anywhere, and says its name itself."""

    def _groups(self):
        found = []
        # The innermost first: a group goes only when it is empty.
        for top in cgroup_hierarchies():
            for folder, _, _ in os.walk(top, topdown=False):
                if any(name.startswith(self.prefix) for name in folder.split("/")):
                    found.append((f"control group {folder}", lambda folder=folder: _remove(folder)))
        known = {text for text, _ in found}
        return found + [item for item in super()._groups() if item[0] not in known]


def _remove(group):
    for pid in read(os.path.join(group, "cgroup.procs")).split():
        os.kill(int(pid), 9)
    until(lambda: not os.path.isdir(group) or _rmdir(group), seconds=3)


def _rmdir(group):
    try:
        os.rmdir(group)
        return True
    except OSError:
        return False


class EngineHost(ZoneHost):
    """One test's own view of the runtime: bundles, containers, clean-up, leak check."""

    def __init__(self, runtime, folder, busybox, applets):
        super().__init__(runtime.path, folder, folder / "store")
        self.leaks = EngineLeaks(folder, self.prefix, [self.root], [])
        self.runtime = runtime
        self.busybox = busybox
        self.applets = applets
        # Words before the verb, and the user that calls it.
        self.options = ()
        self.user_id = None
        self._ids = set()

    def command(self, verb, *rest):
        """The whole command line for a verb."""
        options = ("--root", self.root, *self.options)
        words = self.runtime.words(options, str(verb), rest, self.user_id)
        return tuple(str(word) for word in words)

    # Bundles

    def bundle(self, args=("true",), settings=None, mounts=(), name="bundle", **keywords):
        """A new bundle; see `bundle.configuration`."""
        config = bundles.configuration(args, settings, mounts)
        return bundles.Bundle(self.path(name), config, self.busybox, self.applets, **keywords)

    def source(self, name="source", **files):
        """A folder to be bound, with files named by keywords (`_` for the dot) and their texts."""
        path = self.directory(name)
        for file, text in files.items():
            self.path(f"{name}/{file.replace('_', '.')}", text)
        return path

    # Containers

    def go(self, args=("true",), settings=None, mounts=(), prepare=None, options=(), bundle=None, **keywords):
        """`run` of a new bundle to its end, and what it printed."""
        if bundle is None:
            bundle = self.bundle(args, settings, mounts, name=f"bundle-{len(self._ids)}")
        if prepare:
            prepare(bundle)
        name = self.owned(self.name(f"go{len(self._ids)}"))
        return self.run("run", "--bundle", bundle, *options, name, **keywords)

    def text(self, args, settings=None, mounts=(), **keywords):
        """What a container prints that must end well."""
        return self.go(args, settings, mounts, **keywords).exits(0).stdout.strip()

    def create(self, bundle=None, name=None, *options, verb="create", **keywords):
        """`create`; the container's streams go to files that `output` reads, as nobody waits for its end."""
        bundle = bundle or self.bundle(("sleep", "1000"))
        name = self.owned(name or self.name())
        result = self.quietly(name, verb, "--bundle", bundle, *options, name, **keywords)
        return result

    def quietly(self, stream, *arguments, **keywords):
        """Runs a verb that leaves a process behind, whose output would keep a pipe open for ever."""
        with open(self.path(f"{stream}.out"), "a+") as out, open(self.path(f"{stream}.err"), "a+") as err:
            at = err.seek(0, os.SEEK_END)
            result = self.run(*arguments, **{"stdout": out, "stderr": err, **keywords})
            err.seek(at)
            said = err.read()
            without.heard(said)
            return Result(result.command, result.status, "", said)

    def created(self, args=("sleep", "1000"), settings=None, mounts=(), name=None, options=(), **keywords):
        """A created container; returns its id."""
        name = name or self.name(f"z{len(self._ids)}")
        bundle = self.bundle(args, settings, mounts, name=f"bundle-{name}")
        self.create(bundle, name, *options, **keywords).exits(0)
        return name

    def started(self, args=("sleep", "1000"), settings=None, mounts=(), **keywords):
        """A running container; returns its id."""
        name = self.created(args, settings, mounts, **keywords)
        self.run("start", name).exits(0)
        return name

    def stopped(self, args=("true",), settings=None, **keywords):
        """A container whose process has ended; returns its id."""
        name = self.started(args, settings, **keywords)
        assert until(lambda: self.status(name) == "stopped"), f"it does not stop but is {self.status(name)}"
        return name

    def owned(self, name):
        """Has this id's container deleted when the test ends."""
        if name not in self._ids:
            self._ids.add(name)
            self.defer(self._delete, name)
        return name

    def _delete(self, name):
        if self.exists(name):
            self.run("delete", "--force", name).exits(0)

    def output(self, name):
        """What a container in the background has printed so far."""
        return read(self.path(f"{name}.out"))

    def said(self, name, text, seconds=10):
        """Waits until a container in the background has printed this."""
        assert until(lambda: text in self.output(name), seconds), (
            f"{text!r} is not printed but {self.output(name)!r}, {read(self.path(f'{name}.err'))!r}"
        )
        return self.output(name)

    # What the runtime says

    def state(self, name):
        """The state as `state` gives it."""
        return self.run("state", name).exits(0).json

    def status(self, name):
        """The status, `None` where there is no such container."""
        result = self.run("state", name)
        return result.json["status"] if result.status == 0 else None

    def exists(self, name):
        """Whether `list` knows the container."""
        return name in self.run("list", "-q").lines

    def pid(self, name):
        """The host's number of the container's first process."""
        return self.state(name)["pid"]

    def wait_for(self, name, status):
        """Waits until a container has this status."""
        assert until(lambda: self.status(name) == status), f"the status is {self.status(name)!r}, not {status!r}"

    def refused(self, result, *words, name=None, status=1):
        """The verb must have failed with one clear error, and left no container of that name."""
        if self.runtime.kind == "zonectl":
            result.exits(status)
        result.check(result.status != 0, "the status is 0")
        result.check(result.stderr.strip() != "", "nothing is said about the error")
        if self.runtime.kind == "zonectl":
            for trap in ("Fatal error", "Sources/", "SystemError(", "ZoneError(", "panic:"):
                result.check(trap not in result.stderr, f"the error shows {trap!r}")
            errors = [line for line in result.stderr.splitlines() if re.match(r"(zonectl|zonectl-oci): ", line)]
            result.check(
                len([e for e in errors if ": warning: " not in e]) == 1, f"{len(errors)} errors instead of one"
            )
            # Other runtimes have words of their own.
            result.says(*words)
        if name:
            result.check(not self.exists(name), "the container is listed nevertheless")
        return result

    def strict(self, result):
        """Goes on only if the verb failed; zonectl must fail, of other runtimes it is no concern."""
        if result.status == 0 and self.runtime.kind != "zonectl":
            pytest.skip(f"{self.runtime.kind} {self.runtime.version} lets it pass")

    def group(self, name, controller, *files):
        """The value in the first of these files that a container's group has (v1's name, v2's name)."""
        folder = group_of(self.pid(name), controller)
        for file in files:
            path = os.path.join(folder, file)
            if os.path.exists(path):
                return read(path).strip()
        return None

    def logged(self, path):
        """The lines of a log in JSON."""
        return [json.loads(line) for line in read(path).splitlines()]


def group_of(pid, controller):
    """The folder of a process's group for a controller, on version 1 or 2."""
    unified = None
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            unified = path
        elif controller in controllers.split(","):
            top = next(top for top in cgroup_hierarchies() if os.path.basename(top) in (controller, controllers))
            return top + path
    if unified is None:
        return None
    top = next((t for t in cgroup_hierarchies() if os.path.exists(f"{t}/cgroup.controllers")), "")
    return top + unified


def has_legacy(controller):
    """Whether a controller stands on a version 1 hierarchy."""
    return any(
        f":{controller}:" in line or f",{controller}" in line or f":{controller}," in line
        for line in read("/proc/self/cgroup").splitlines()
    )


__all__ = ["EngineHost", "Runtime", "TIMEOUT", "group_of", "has_legacy", "needs"]
