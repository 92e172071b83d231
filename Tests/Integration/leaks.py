# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Looks on the host for what a test left behind, names it and cleans it up."""

import glob
import json
import os
import shutil
import signal
import subprocess
import time


def read(path):
    """Text of a file, empty if it is gone or unreadable."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def until(condition, seconds=10.0, step=0.01):
    """Polls until the condition gives something true, and returns that; after the deadline what it gave last."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(step)


def alive(pid):
    """Whether a process exists and is no zombie."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2][1:2] not in ("", "Z", "X")


def cgroup_hierarchies():
    """Mount points of all control group hierarchies, v1 and v2."""
    found = []
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split(" ")
        if fields[fields.index("-") + 1] in ("cgroup", "cgroup2") and fields[4] not in found:
            found.append(fields[4])
    return found


def parent_name(root):
    """The group that stands above all zones of a root: FNV-1a of the path, so that roots never meet."""
    digest = 0xCBF29CE484222325
    for byte in root.encode():
        digest = (digest ^ byte) * 0x100000001B3 % (1 << 64)
    return f"zonectl-{(digest ^ digest >> 32) % (1 << 32):08x}"


def loops():
    """Loop devices that have a file, with its path, as long as anybody has them open."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        text = read(path).strip()
        if text:
            found.append(("/dev/" + path.split("/")[3], text))
    return found


def _links():
    return set(os.listdir("/sys/class/net"))


def _tables():
    """nftables tables of ours, nothing where the machine has no nft."""
    if not shutil.which("nft"):
        return set()
    listed = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, text=True, timeout=20)
    if listed.returncode != 0 or not listed.stdout:
        return set()
    tables = (item.get("table") for item in json.loads(listed.stdout)["nftables"])
    return {f"{t['family']} {t['name']}" for t in tables if t and "zone" in t["name"]}


class LeakCheck:
    """Remembers what the host had before a test, and compares afterwards."""

    def __init__(self, folder, prefix, roots, stores):
        self.folder = str(folder)
        self.prefix = prefix
        self.roots = roots
        self.stores = stores
        # Only groups of our own: other roots' zones may run meanwhile.
        self.parents = {parent_name(root) for root in roots}
        self.before = {"links": _links(), "tables": _tables()}
        self.entries = {path: self._tree(path) for path in [*roots, *stores]}
        self.own_namespace = self._namespace("self")

    def find(self):
        """Names everything that is left, after giving what is just ending a moment to end."""
        until(lambda: not self._processes(), seconds=1)
        # A device goes a moment after the zone that had it mounted.
        until(lambda: not self._loops(), seconds=2)
        return [sentence for sentence, _ in self._all()]

    def clean(self):
        """Removes what `find` names, as well as it can."""
        for _, undo in self._all():
            try:
                undo()
            except OSError:
                pass

    def remove_parents(self):
        """Removes the parent groups that the test's zones stood in; they stay by design."""
        for path in self._parent_paths():
            try:
                os.rmdir(path)
            except OSError:
                pass

    def _parent_paths(self):
        paths = [os.path.join(top, name) for top in cgroup_hierarchies() for name in self.parents]
        return [path for path in paths if os.path.isdir(path)]

    def _all(self):
        return [
            *self._processes(), *self._groups(), *self._mounts(), *self._loops(), *self._network(), *self._files()
        ]

    @staticmethod
    def _namespace(pid):
        try:
            return os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            return ""

    def _belongs(self, pid):
        """Why a process belongs to the test, empty if it does not."""
        cmdline = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        # Keepers, and what stays with a program in a machine.
        if self.folder in cmdline or cmdline.startswith("zonectl: ") and f" {self.prefix}" in cmdline:
            return f"command line {cmdline!r}"
        groups = read(f"/proc/{pid}/cgroup")
        if f"/{self.prefix}" in groups or any(f"/{parent}/" in groups for parent in self.parents):
            return f"in a group of the test, command {cmdline!r}"
        try:
            if os.readlink(f"/proc/{pid}/root").startswith(self.folder):
                return f"root below the test's folder, command {cmdline!r}"
        except OSError:
            pass
        if self._namespace(pid) not in ("", self.own_namespace) and self.folder in read(f"/proc/{pid}/mountinfo"):
            return f"mounts of the test, command {cmdline!r}"
        return ""

    def _processes(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            # A zombie holds nothing; it is its parent's to reap.
            if int(pid) == os.getpid() or not alive(pid):
                continue
            why = self._belongs(pid)
            if why:
                found.append((f"process {pid}: {why}", lambda pid=int(pid): os.kill(pid, signal.SIGKILL)))
        return found

    def _groups(self):
        found = []
        for parent in self._parent_paths():
            for path, _, _ in os.walk(parent, topdown=False):
                if path != parent:
                    found.append((f"control group {path}", lambda path=path: _remove_group(path)))
        # A zone's group must stand nowhere else.
        for top in cgroup_hierarchies():
            for path in glob.glob(f"{glob.escape(top)}/{self.prefix}*") + glob.glob(
                f"{glob.escape(top)}/*/{self.prefix}*"
            ):
                if os.path.basename(os.path.dirname(path)) not in self.parents:
                    found.append((f"control group {path}", lambda path=path: _remove_group(path)))
        return found

    def _mounts(self):
        found = []
        for line in reversed(read("/proc/self/mountinfo").splitlines()):
            if self.folder in line:
                point = line.split(" ")[4]
                found.append((f"mount on the host: {line}", lambda p=point: subprocess.run(["umount", "-l", p])))
        return found

    def _loops(self):
        found = []
        for device, path in loops():
            # In a shared store only what has the test's name is the test's.
            if path.startswith(self.folder) or any(f"{store}/zones/{self.prefix}" in path for store in self.stores):
                found.append((f"loop device {device} of {path}", lambda d=device: subprocess.run(["losetup", "-d", d])))
        return found

    def _network(self):
        found = []
        for link in _links() - self.before["links"]:
            # Somebody else's link is named, so that a person may judge, but never removed.
            words = ["ip", "link", "del", link] if self.prefix in link else ["true"]
            found.append((f"network link {link}", lambda words=words: subprocess.run(words)))
        for table in _tables() - self.before["tables"]:
            words = ["nft", "delete", "table", *table.split(" ")]
            found.append((f"nftables table {table}", lambda words=words: subprocess.run(words)))
        return found

    def _tree(self, path):
        """Everything below a state folder that a zone may own: in the store only zones/, the rest are images."""
        top = os.path.join(path, "zones") if path in self.stores else path
        entries = set()
        for folder, folders, files in os.walk(top):
            entries.update(os.path.join(folder, name) for name in folders + files)
        return entries

    def _files(self):
        found = []
        for path, before in self.entries.items():
            for entry in sorted(self._tree(path) - before, reverse=True):
                # The events of the whole root and its lock file stay by design, as the parent group does.
                if os.path.dirname(entry) == path and os.path.basename(entry) in (".events", ".events.1"):
                    continue
                if os.path.isfile(entry) and os.path.dirname(entry) == path and os.path.getsize(entry) == 0:
                    continue
                found.append((f"file {entry}", lambda entry=entry: _remove_file(entry)))
        return found


def _remove_group(path):
    for file in ("tasks", "cgroup.procs"):
        for pid in read(os.path.join(path, file)).split():
            os.kill(int(pid), signal.SIGKILL)
    until(lambda: not os.path.isdir(path) or _try_rmdir(path), seconds=3)


def _try_rmdir(path):
    try:
        os.rmdir(path)
        return True
    except OSError:
        return False


def _remove_file(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
