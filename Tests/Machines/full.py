# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""For tests of machines that boot their own disks: the disks, a machine that runs, its QEMU, its screen."""

import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import zlib

import pytest
from fixture import ZoneHost
from leaks import alive, read, until
from result import Result

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "swtpm": "swtpm", "xorriso": "xorriso",
    "sgdisk": "gdisk", "mformat": "mtools",
}
# What a machine that is emulated says of itself once.
NOTICE = "zonectl: the machine is emulated"
# Small, as the host has few CPUs and translates all that they do.
SMALL = ("--vcpus", "1", "-m", "256M")
WINDOWS_UP = "EFI-GUEST-UP"
INSTALLER_UP = "ZONECTL INSTALLER UP"


def needs(*programs):
    """Skips a module, with the reason, where this host lacks something."""
    for program in ("qemu-system-x86_64", "qemu-img", *programs):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian package {PROGRAMS[program]})", allow_module_level=True)
    if not pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd").exists():
        pytest.skip("/usr/share/OVMF is not there (Debian package ovmf)", allow_module_level=True)


def disk(name):
    """The path of a disk of the tests', made where it is missing. Nothing may write to it."""
    script = {"debian.img": "debian-disk", "windows.img": "windows-stand-in", "installer.iso": "installer-iso"}[name]
    folder = pathlib.Path(os.environ.get("ZONECTL_TEST_DISKS", HERE.parents[1] / ".build/machines"))
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = subprocess.run([HERE / script, path], capture_output=True, text=True, timeout=1200)
        if made.returncode != 0:
            pytest.skip(f"{script} makes no disk here: {made.stderr.strip()[-300:]}")
    return str(path)


@pytest.fixture
def full_host(executable, test_folder):
    """zonectl with state of the test's own. Machines that boot disks need neither an image nor a kernel of ours."""
    host = ZoneHost(executable, test_folder, test_folder / "store")
    yield host
    left = host.close()
    shutil.rmtree(test_folder, ignore_errors=True)
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def windows():
    return disk("windows.img")


@pytest.fixture(scope="session")
def installer():
    return disk("installer.iso")


@pytest.fixture(scope="session")
def debian():
    return disk("debian.img")


def copy(host, path, name):
    """A copy in the test's folder, with the holes of the original."""
    target = host.path(name)
    subprocess.run(["cp", "--sparse=always", path, target], check=True, timeout=60)
    os.chmod(target, 0o600)
    return target


def blank(host, name="blank.img", size=1 << 20):
    """A disk with nothing to boot."""
    path = host.path(name)
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(510)
        file.write(b"\x55\xaa")
    return path


def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            found.update(part)
    return found.hexdigest()


def quiet(result):
    """A result without what a machine says of how it is executed, which is no error."""
    lines = [line for line in result.stderr.splitlines(True) if not line.startswith(NOTICE)]
    return Result(result.command, result.status, result.stdout, "".join(lines))


def machine(host, suffix, *options, boots):
    """Starts a machine in the background, and returns its name."""
    name = host.name(suffix)
    host.defer(host.remove, name)
    quiet(host.run("run", "-d", "--name", name, "--vm", *SMALL, *options, boots)).ok(stdout=name + "\n")
    return name


def refused(host, *words, boots=None, says=(), status=125):
    """A machine that must not come to be: one clear error, and nothing of it is there afterwards."""
    name = host.name("no")
    host.defer(host.remove, name)
    result = quiet(host.run("run", "-d", "--name", name, "--vm", *words, *([] if boots is None else [boots])))
    result.fails(status, *says)
    assert name not in host.listed(), f"the refused machine is listed{result}"
    assert not os.path.exists(f"{host.store}/zones/{name}") and not os.path.exists(f"{host.root}/{name}")
    return result


def preview(host, *words):
    return host.run("run", "--dry-run", "--vm", *words).ok()


def log(host, name):
    return host.run("logs", name).stdout


def shows(host, name, text, times=1, seconds=120):
    """Waits until a machine has said something on its first serial line."""
    until(lambda: log(host, name).count(text) >= times or host.status(name) != "running", seconds, step=0.1)
    said = log(host, name)
    assert said.count(text) >= times, f"{name} ({host.status(name)}) does not say {text!r}: {said[-600:]!r}"


def ends(host, name, status=0, seconds=20):
    until(lambda: host.status(name) == "stopped", seconds, step=0.1)
    zone = host.listed()[name]
    assert (zone["status"], zone.get("exitCode")) == ("stopped", status), zone


def processes(host, name):
    """Programs of a machine: (pid, words) of its monitor and of all that it started."""
    first = host.pid(name)
    group = read(f"/proc/{first}/cgroup")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if read(f"/proc/{pid}/cgroup") == group and alive(pid):
            found.append((int(pid), read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")))
    return sorted(found)


def program(host, name, word="qemu-system"):
    """The pid and words of one of them."""
    return next((pid, words) for pid, words in processes(host, name) if word in words[0])


def devices(words):
    """Drivers of the devices on QEMU's command line."""
    return {words[i + 1].split(",")[0] for i, word in enumerate(words) if word == "-device"}


def nodes(words):
    return [json.loads(words[i + 1]) for i, word in enumerate(words) if word == "-blockdev"]


def png(data):
    """Width, height and the set of colours of a PNG of 8 bits per channel without an alpha."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, packed, header = 8, b"", None
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + content)
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", content)
        elif kind == b"IDAT":
            packed += content
        place += 12 + length
    width, height, depth, colour = header[:4]
    assert depth == 8 and colour == 2 and header[6] == 0, header
    raw, stride, before = zlib.decompress(packed), width * 3, bytes(width * 3)
    assert len(raw) == (stride + 1) * height
    colours = set()
    for y in range(height):
        start = y * (stride + 1)
        before = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), before)
        colours.update(before[x : x + 3] for x in range(0, stride, 3))
    return width, height, colours


def _unfiltered(kind, line, before):
    for x in range(len(line)) if kind else ():
        left, up, corner = (line[x - 3] if x > 2 else 0), before[x], (before[x - 3] if x > 2 else 0)
        if kind == 1:
            add = left
        elif kind == 2:
            add = up
        elif kind == 3:
            add = (left + up) // 2
        else:
            guess = left + up - corner
            add = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
        line[x] = (line[x] + add) & 255
    return bytes(line)
