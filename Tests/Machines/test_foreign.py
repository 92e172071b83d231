# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images for another processor: in a virtual machine that is emulated whole, and as a container whose programs are."""

import os
import pathlib
import platform
import shutil
import tempfile
import time

import pytest
from leaks import until
from machines import MachineHost

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GUEST = pathlib.Path(os.environ.get("ZONECTL_GUEST", REPOSITORY / ".build/guest"))
LAYOUT = pathlib.Path(os.environ.get("ZONECTL_ARM64_IMAGE", REPOSITORY / ".build/machines/arm64-busybox"))
FORMATS = pathlib.Path(__file__).with_name("own-formats")
NAME = "busybox-arm64"
ARM64 = ("--vm=micro", "--arch", "arm64", "--memory", "256M")
# All of it is emulated, on a machine that may be loaded.
BOOT = 180


@pytest.fixture(scope="module")
def foreign(executable):
    """zonectl with a store of its own, which holds an arm64 busybox."""
    if platform.machine() != "x86_64":
        pytest.skip("FOREIGN IMAGES ARE NOT TESTED: arm64 is foreign to x86_64 only")
    if not (LAYOUT / "index.json").exists():
        pytest.skip(f"FOREIGN IMAGES ARE NOT TESTED: {LAYOUT} does not exist: Tests/Machines/arm64-busybox makes it")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-case-"))
    folder.chmod(0o755)
    host = MachineHost(executable, folder, folder / "store", GUEST)
    host.image = NAME
    host.run("image", "import", f"--name={NAME}", LAYOUT).fails(125, "linux/amd64", "linux/arm64", "--arch arm64")
    host.run("image", "import", "--arch", "arm64", f"--name={NAME}", LAYOUT).exits(0)
    yield host
    left = host.close()
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="module")
def machine(foreign):
    """A machine of the foreign image, which runs."""
    for program, package in (("qemu-system-aarch64", "qemu-system-arm"), ("mkfs.erofs", "erofs-utils")):
        if not shutil.which(program):
            pytest.skip(f"FOREIGN MACHINES ARE NOT TESTED: {program} is not installed (Debian package {package})")
    for name, make in (("vmlinux", "images/guest-kernel/build"), ("agent", "images/guest-agent/build")):
        if not (GUEST / "arm64" / name).exists():
            pytest.skip(f"FOREIGN MACHINES ARE NOT TESTED: {GUEST}/arm64/{name} does not exist: {make} FOLDER arm64")
    name = foreign.name("arm")
    foreign.defer(foreign.remove, name)
    script = "trap 'echo ending; exit 9' TERM; echo up; while :; do sleep 0.1; done"
    volume = foreign.directory("shared")
    foreign.path("shared/word", "from the host\n", 0o644)
    os.chmod(volume, 0o777)
    # As a program that nobody attends to.
    words = ("run", "-d", "--name", name, *ARM64, "-v", f"{volume}:/shared", "-e", "COLOUR=green", "--read-only=false")
    foreign.run(*words, NAME, "sh", "-c", script, timeout=BOOT).exits(0)
    return name


# The machine


def test_machine_executes_foreign_programs(foreign, machine):
    assert foreign.sh(machine, "uname -m; id -u; echo $COLOUR; hostname; echo $$ >/dev/null").split()[:4] == [
        "aarch64", "0", "green", machine,
    ]  # fmt: skip
    assert foreign.run("logs", machine).stdout == "up\n"
    assert foreign.sh(machine, "cat /proc/1/cmdline").startswith("sh\0-c\0trap")
    capabilities = foreign.sh(machine, "grep -E 'CapBnd|NoNewPrivs' /proc/self/status").split()
    assert capabilities == ["CapBnd:", "00000000a80425fb", "NoNewPrivs:", "1"]


def test_machine_streams(foreign, machine):
    data = "".join(f"line {number}\n" for number in range(60_000))
    foreign.run("exec", "-i", machine, "cat", stdin=data, timeout=BOOT).ok(stdout=data)
    result = foreign.run("exec", machine, "sh", "-c", "echo out; echo err >&2; exit 7").exits(7)
    assert (result.stdout, result.stderr) == ("out\n", "err\n"), result
    foreign.run("exec", machine, "sh", "-c", "kill -9 $$").exits(137)


def test_machine_failures(foreign, machine):
    foreign.run("exec", machine, "nonsense").fails(127, '"nonsense"', "not found")
    foreign.run("exec", machine, "/etc").fails(126, '"/etc"')
    foreign.run("exec", "-u", "nobody-here", machine, "id").fails(125, "nobody-here", "not found")
    result = foreign.run("cp", f"{machine}:/etc", foreign.path("copy")).exits(125)
    assert "machines of a foreign architecture cannot copy files" in result.stderr, result


def test_machine_folders(foreign, machine):
    assert foreign.sh(machine, "cat /shared/word; echo back >/shared/answer") == "from the host\n"
    assert pathlib.Path(foreign.path("shared/answer")).read_text() == "back\n"
    assert foreign.sh(machine, "test -c /dev/null && test -d /dev/pts && cat /etc/hostname") == f"{machine}\n"
    assert foreign.sh(machine, "echo x >/proc/sys/kernel/hostname || echo protected", "-u", "0") == "protected\n"


def test_machine_is_stopped_by_its_program(foreign, machine):
    began = time.monotonic()
    foreign.run("stop", machine).ok()
    assert time.monotonic() - began < 9, "stop waited for a program that ends by itself"
    assert foreign.ended(machine)["exitCode"] == 9
    assert until(lambda: foreign.run("logs", machine).stdout == "up\nending\n")


def test_machine_that_is_not_for_its_image(foreign):
    foreign.run("run", "--rm", "--vm=micro", NAME, "true").fails(125, "linux/arm64", "--arch arm64")
    foreign.run("run", "--rm", "--vm=micro", "--arch", "pdp11", NAME, "true").fails(125, "pdp11", "arm64")


# The container


# As Debian registers it: the program gets the name that it was called by.
INTERPRETER = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"


def _formats(flags="PF"):
    """What executes zonectl with a handler of its own for arm64 programs."""
    interpreter = INTERPRETER
    if not os.path.exists(interpreter):
        pytest.skip(f"FOREIGN CONTAINERS ARE NOT TESTED: {interpreter} is missing (Debian package qemu-user-static)")
    if os.spawnv(os.P_WAIT, FORMATS, [str(FORMATS), "-", interpreter, "true"]) == 77:
        pytest.skip("FOREIGN CONTAINERS ARE NOT TESTED: this kernel has one binfmt_misc for all (Linux before 6.7)")
    return (FORMATS, flags, interpreter)


@pytest.fixture
def contained(foreign, test_folder):
    """The same image in a store that belongs to the namespace that own-formats makes."""
    host = MachineHost(foreign.executable, test_folder, test_folder / "store", GUEST)
    host.image = NAME
    host.run("image", "import", "--arch", "arm64", f"--name={NAME}", LAYOUT, wrap=_formats()).exits(0)
    yield host
    left = host.close()
    assert not left, left


def test_container_by_an_emulator(contained):
    script = "uname -m; cat; exit 5"
    words = ("run", "--rm", "-i", "--arch", "arm64", NAME, "sh", "-c", script)
    result = contained.run(*words, wrap=_formats(), stdin="word\n").exits(5)
    assert result.stdout == "aarch64\nword\n", result
    # The image says what it is for.
    contained.run("run", "--rm", NAME, "uname", "-m", wrap=_formats()).ok(stdout="aarch64\n")


def test_container_without_an_emulator(contained):
    words = ("run", "--rm", NAME, "true")
    contained.run(*words, wrap=_formats("-")).fails(125, "linux/arm64", "qemu-user-static", "--vm")
    contained.run(*words, wrap=_formats("P")).fails(125, "linux/arm64", "flag F")
    contained.run("create", NAME, "true", wrap=_formats("-")).fails(125, "qemu-user-static")


def test_names_and_architectures(contained):
    never = ("run", "--rm", "--pull", "never", "--arch")
    contained.run(*never, "riscv64", NAME, "true", wrap=_formats()).fails(125, NAME, "linux/arm64")
    contained.run("run", "--rm", "--arch", "aarch64", "--pull", "never", NAME, "true", wrap=_formats()).ok()
    contained.run(*never, "arm64", "--platform", "linux/amd64", NAME, "true", wrap=_formats()).fails(125, "differ")
    shown = contained.run("image", "ls", "--json", wrap=_formats()).ok().json
    assert [(image["name"], image["architecture"]) for image in shown] == [(f"{NAME}:latest", "arm64")]
