# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`Lab`: a network and mount namespace in which an engine may do what it likes without the host seeing it.

Engines write to fixed places (`/run`, `/dev/shm/libpod_lock`, `/etc/cni`, `/var/lib/containers/cache`), switch on
forwarding and leave chains in iptables. In here `/run` and `/dev/shm` are empty, `/etc`, `/opt` and `/var` are overlays,
and the network has nothing but its loopback. Control groups and process numbers are the host's own.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from leaks import read, until
from result import Result

TIMEOUT = 40

_SETUP = """
set -eu
for folder in etc opt var; do
    mkdir -p "$1/overlay/$folder/upper" "$1/overlay/$folder/work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=$1/overlay/$folder/upper,workdir=$1/overlay/$folder/work" lab "/$folder"
done
mount -t tmpfs -o mode=755 lab /run
mount -t tmpfs -o mode=1777 lab /dev/shm
mkdir -p /run/lock
ip link set lo up
[ -z "$2" ] || umount "$2"
echo ready
exec sleep infinity
"""


class Lab:
    """The namespaces of one engine, and the commands in them. `close` ends everything that is in there."""

    def __init__(self, name, hide_unified=False):
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"zonectl-lab-{name}-"))
        self.folder.chmod(0o755)
        for part in ("tmp", "home", "work"):
            (self.folder / part).mkdir()
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LC_ALL": "C.UTF-8",
            # Kernels of machines, which engines hand on to the runtime.
            "ZONECTL_GUEST": os.environ.get("ZONECTL_GUEST") or str(pathlib.Path(__file__).resolve().parents[2] / ".build/guest"),
        }
        hybrid = "/sys/fs/cgroup/unified"
        hide = hybrid if hide_unified and os.path.ismount(hybrid) else ""
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _SETUP, "lab", str(self.folder), hide],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            # conmon leaves files in the folder where its caller stands.
            cwd=self.folder / "work",
            start_new_session=True,
        )
        if self._holder.stdout.readline() != b"ready\n":
            why = self._holder.stderr.read().decode(errors="replace").strip()
            self.close()
            raise RuntimeError(f"no namespaces for {name}: {why}")
        self.namespaces = {kind: os.readlink(f"/proc/{self._holder.pid}/ns/{kind}") for kind in ("net", "mnt")}

    # Commands

    def command(self, *words):
        """The command line that runs these words in the lab."""
        return ("nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--wd", "--", *map(str, words))

    def run(self, *words, stdin=None, timeout=TIMEOUT, env=None):
        """Runs a command to its end. `stdin` is text; without it, /dev/null."""
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = subprocess.Popen(
            self.command(*words),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environment, **(env or {})},
            start_new_session=True,
        )
        try:
            out, err = process.communicate(None if stdin is None else stdin.encode(), timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            try:
                out, err = process.communicate(timeout=2)
            except subprocess.TimeoutExpired:
                # What it started holds the pipes.
                out, err = b"", b""
            result = Result(tuple(map(str, words)), -1, out.decode(errors="replace"), err.decode(errors="replace"))
            raise AssertionError(f"killed: not finished after {timeout} s{result}") from None
        return Result(
            tuple(map(str, words)), process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def popen(self, *words, log=None):
        """Starts a command in the background; its output goes to a file in the lab's folder."""
        with open(self.folder / (log or "background.log"), "ab") as out:
            return subprocess.Popen(
                self.command(*words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment,
                start_new_session=True,
            )

    def path(self, name, text=None, mode=None):
        """A path in the lab's folder; with a text, a file there."""
        path = self.folder / name
        if text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if mode is not None:
            path.chmod(mode)
        return str(path)

    # What is in it

    def mounts(self):
        """Mount points in the lab's mount namespace."""
        return [line.split(" ")[4] for line in read(f"/proc/{self._holder.pid}/mountinfo").splitlines()]

    def processes(self):
        """{number: command line} of what runs in one of the lab's namespaces or names its folder."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) in (self._holder.pid, os.getpid()) or not _alive(pid):
                continue
            words = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
            if self._is_here(pid) or str(self.folder) in words:
                found[int(pid)] = words
        return found

    def _is_here(self, pid):
        for kind, name in self.namespaces.items():
            try:
                if os.readlink(f"/proc/{pid}/ns/{kind}") == name:
                    return True
            except OSError:
                pass
        # A zone has namespaces of its own, and our folder below its mounts.
        return str(self.folder) in read(f"/proc/{pid}/mountinfo")

    def close(self):
        """Kills what is left in the lab, then the lab; returns what had to be killed."""
        left = []
        if self._holder.poll() is None:
            for _ in range(20):
                processes = self.processes()
                if not processes:
                    break
                left += [f"process {pid}: {words}" for pid, words in processes.items()]
                for pid in processes:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                until(lambda: not self.processes(), seconds=1)
            self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return sorted(set(left))


def _alive(pid):
    return read(f"/proc/{pid}/stat").rpartition(")")[2][1:2] not in ("", "Z", "X")
