# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`MachineHost`: a `ZoneHost` whose zones are virtual machines, and looks at their processes on the host."""

import os
import platform
import shutil

from fixture import ZoneHost
from leaks import alive, read, until
from networks import NetHost

# A boot takes two seconds where all is emulated, and a loaded machine may need many times that.
TIMEOUT = 60
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}


def lacking(guest):
    """What this machine lacks for micro machines, in a sentence; `None` if nothing."""
    processor = platform.machine()
    qemu = f"qemu-system-{processor}"
    for program, package in ((qemu, "qemu-system-x86 or its like"), ("mkfs.erofs", "erofs-utils")):
        if not shutil.which(program):
            return f"{program} is not installed (Debian package {package})"
    kernel = guest / ARCHITECTURES.get(processor, processor) / "vmlinux"
    if not kernel.exists():
        return f"{kernel} does not exist: run `make guest-kernel`, or name its folder in ZONECTL_GUEST"
    return None


class MachineHost(ZoneHost):
    """One test's view of zonectl, in which zones are micro machines."""

    kind = ("--vm=micro",)
    # Ends at once when it is told to: what is PID 1 has no default handlers.
    idle = ("sh", "-c", "trap 'exit 0' TERM; echo ready; echo careful >&2; while :; do sleep 0.1; done")

    def __init__(self, executable, folder, store, guest):
        super().__init__(executable, folder, store)
        self.environment["ZONECTL_GUEST"] = str(guest)
        self.machine = None

    def run(self, *arguments, timeout=TIMEOUT, **keywords):
        return super().run(*arguments, timeout=timeout, **keywords)

    def micro(self, *words, options=(), **keywords):
        """Runs a command in a machine of its own that is removed afterwards."""
        return self.run("run", "--rm", *self.kind, *options, self.image, *words, **keywords)

    def boot(self, suffix="m", command=None, options=(), image=None):
        """Starts a machine in the background, and returns its name. Removed when the test ends."""
        return self.detached(suffix, command or self.idle, (*self.kind, *options), image)

    def prepare_shared(self):
        """The machine that tests of a module share, with folders of the host's."""
        writable, readable = self.directory("writable"), self.directory("readable")
        os.chmod(writable, 0o777)
        self.path("readable/word", "from the host\n", 0o644)
        self.path("single", "one file\n", 0o644)
        self.run("volume", "create", self.name("volume")).ok()
        self.defer(lambda: self.run("volume", "rm", self.name("volume")).ok())
        shares = ("-v", f"{writable}:/rw", "-v", f"{readable}:/ro:ro", "-v", f"{self.path('single')}:/one")
        shares += ("-v", f"{self.name('volume')}:/named")
        self.machine = self.boot("shared", options=(*shares, "--memory", "256M", "--vcpus", "1", "-e", "COLOUR=green"))

    def sh(self, name, script, *options, **keywords):
        """What a shell in a machine says."""
        return self.run("exec", *options, name, "sh", "-c", script, **keywords).exits(0).stdout

    # Its processes on the host

    def processes(self, name):
        """Every process in a machine's control groups, by its program's name."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if any(line.endswith(f"/{name}") for line in read(f"/proc/{pid}/cgroup").splitlines()) and alive(pid):
                words = read(f"/proc/{pid}/cmdline").split("\0")
                found.setdefault(os.path.basename(words[0]), []).append(int(pid))
        return found

    def qemu(self, name):
        """The host's number of a machine's QEMU."""
        for program, pids in self.processes(name).items():
            if program.startswith("qemu-system-"):
                return pids[0]
        return None

    def ended(self, name):
        """Waits until a machine is stopped; what its zone is then listed as."""
        until(lambda: (self.status(name) or "").startswith("stopped"), 20)
        return self.listed().get(name)


class MachineNetHost(MachineHost, NetHost):
    """The same on a host whose network is a namespace of the test's."""


def status_of(pid):
    """/proc/PID/status, by field."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in read(f"/proc/{pid}/status").splitlines())}
