# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""A disk with Windows' boot manager: its screen, keyboard and TPM, and what QEMU and swtpm may do (P18, P20)."""

import os
import socket
import stat
import time

import pytest
from full import (  # noqa: F401
    WINDOWS_UP, blank, copy, devices, digest, ends, full_host, installer, log, machine, needs, png, processes, program,
    quiet, shows, windows,
)
from leaks import read, until

needs("swtpm", "sgdisk", "mformat")

# Nothing else may be on a command line: each is there because a guest needs it, or was asked for.
ALWAYS = {"virtio-rng-pci", "virtio-balloon-pci", "pvpanic-pci", "pcie-root-port"}
SCREEN = {"VGA", "qemu-xhci", "usb-kbd", "usb-tablet"}
AGENT = {"virtio-serial-pci", "virtserialport"}
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def fields(pid):
    return {key: text.split() for key, _, text in (line.partition(":") for line in read(f"/proc/{pid}/status").splitlines())}


def test_windows_from_power_on_to_power_off(full_host, windows):
    disk = copy(full_host, windows, "windows.img")
    before = digest(disk)
    name = machine(full_host, "win", boots=disk)
    refused = machine(full_host, "secure", "--secure-boot", "--rm", boots=windows)
    pid, words = program(full_host, name)
    assert devices(words) == ALWAYS | SCREEN | {"ide-hd", "tpm-crb"}
    assert "base=localtime,driftfix=slew" in words
    check_confinement(full_host, name, words)
    shows(full_host, name, WINDOWS_UP)
    told = full_host.inspect(name)
    assert told["definition"]["type"] == "vm" and told["definition"]["machine"]["kind"] == "full"
    unit = full_host.run("unit", name).ok()
    unit.check(f"start --foreground {name}" in unit.stdout, "the unit does not start it")
    full_host.run("exec", name, "true").fails(125, "no agent", "console")
    # Its screen: text of one colour on black, and the firmware's picture.
    picture = full_host.path("screen.png")
    full_host.run("screenshot", name, picture).ok()
    with open(picture, "rb") as file:
        width, height, colours = png(file.read())
    assert width >= 640 and height >= 400 and len(colours) > 1
    script = '"$@" | head -c 8 | od -An -tx1'
    again = full_host.execute(("sh", "-c", script, "sh", *full_host.command("screenshot", name, "-")))
    assert again.stdout.split() == ["89", "50", "4e", "47", "0d", "0a", "1a", "0a"]
    assert os.listdir(f"{full_host.root}/{name}/machine").count("vnc.sock") == 1
    assert not [entry for entry in os.listdir(f"{full_host.root}/{name}/machine") if entry.endswith(".png")]
    check_socket(f"{full_host.root}/{name}/machine/vnc.sock")
    full_host.run("sendkey", name, "nosuchkey").fails(125, "nosuchkey")
    full_host.run("sendkey", name, "ret").ok()
    shows(full_host, name, "EFI-GUEST-OFF")
    ends(full_host, name, 0)
    assert os.listdir(f"{full_host.store}/zones/{name}/tpm"), "the TPM has kept nothing"
    assert digest(disk) == before, "it has written nothing"
    # By now the one that only boots what is signed would have been up.
    said = until(lambda: "Denied" in log(full_host, refused) or "Violation" in log(full_host, refused), 15, step=0.2)
    assert said and WINDOWS_UP not in log(full_host, refused), log(full_host, refused)[-500:]
    # Nobody there knows ACPI.
    begun = time.monotonic()
    full_host.run("stop", "-t", "2", refused).ok()
    assert time.monotonic() - begun < 5


def check_confinement(host, name, words):
    """P18: of QEMU and of swtpm beside it."""
    assert ("-nodefaults" in words and "-no-user-config" in words) and words[words.index("-sandbox") + 1] == SANDBOX
    found = {text[0].rpartition("/")[2]: (pid, text) for pid, text in processes(host, name)}
    assert {"swtpm", "qemu-system-x86_64"} < set(found) and len(found) == 3, found
    user = host.inspect(name)["definition"]["machine"]["user"]
    assert user >= 1 << 30
    allowed = (
        f"{host.root}/{name}/", f"{host.store}/zones/{name}/", str(host.folder), "/usr/share/OVMF/", "socket:", "pipe:", "/dev/pts/",
        "anon_inode:", "/dev/null", "/run/machine/tpm", "/memfd:ram",
    )
    for pid, _ in found.values():
        status = fields(pid)
        assert status["Uid"] == [str(user)] * 4 and status["Gid"] == [str(user)] * 4 and status["Groups"] == []
        for sort in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[sort][0], 16) == 0, (pid, sort)
        assert status["NoNewPrivs"] == ["1"] and status["Seccomp"] == ["2"]
        for space in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}"), space
        for number in os.listdir(f"/proc/{pid}/fd"):
            place = os.readlink(f"/proc/{pid}/fd/{number}")
            # The monitor has the executable that it is, by a mount that nobody writes to.
            own = place == os.readlink(f"/proc/{pid}/exe") and pid == host.pid(name)
            assert own or place.startswith(allowed), f"descriptor {number} of {pid} is {place}"
        for line in read(f"/proc/{pid}/mountinfo").splitlines():
            point, options = line.split()[4:6]
            writable = point in ("/dev", "/dev/pts", "/dev/console", "/proc", "/tmp", "/run/machine", "/run/machine/tpm")
            assert writable or "ro" in options.split(",") or point.startswith("/proc/"), line
        assert "/net/" not in "".join(os.listdir(f"/proc/{pid}/root/usr")) and not os.path.exists(f"/proc/{pid}/root/root")
    addresses = read(f"/proc/{found['qemu-system-x86_64'][0]}/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in addresses] == ["lo"]


def check_socket(path):
    """P20: root alone reaches the screen."""
    assert stat.S_ISSOCK(os.stat(path).st_mode) and stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as viewer:
        viewer.settimeout(10)
        folder = os.open(os.path.dirname(path), os.O_PATH)
        viewer.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        os.close(folder)
        assert viewer.recv(12).startswith(b"RFB 003.")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_viewers_by_tcp_are_on_loopback_only(full_host):
    port = free_port()
    name = machine(full_host, "m", f"--vnc=127.0.0.1:{port}", boots=blank(full_host))
    first, second = (socket.create_connection(("127.0.0.1", port), 10) for _ in range(2))
    with first, second:
        assert first.recv(12).startswith(b"RFB 003.") and second.recv(12).startswith(b"RFB 003.")
    sockets = [line.split() for file in ("tcp", "tcp6") for line in read(f"/proc/net/{file}").splitlines()[1:]]
    listening = [words[1] for words in sockets if words[3] == "0A" and words[1].endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]
    other = full_host.path("other.img")
    os.rename(full_host.path("blank.img"), other)
    words = ("run", "-d", "--name", full_host.name("x"), "--vm", f"--vnc=127.0.0.1:{port}")
    quiet(full_host.run(*words, blank(full_host))).fails(125, "in use", str(port))
    assert list(full_host.listed()) == [name]
    full_host.run("rm", "-f", name).ok()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10)


def test_without_a_screen_there_is_none(full_host):
    name = machine(full_host, "m", boots=blank(full_host))
    _, words = program(full_host, name)
    assert devices(words) == ALWAYS | AGENT | {"virtio-blk-pci"} and words[words.index("-display") + 1] == "none"
    full_host.run("screenshot", name, full_host.path("x.png")).fails(125, "no display", "--vnc")
    full_host.run("sendkey", name, "ret").fails(125, "no display", "--vnc")
    assert not os.path.exists(full_host.path("x.png"))


@pytest.mark.parametrize(
    "words, drivers",
    [
        (("--disk-model", "nvme"), {"nvme"}),
        (("--disk-model", "scsi"), {"virtio-scsi-pci", "scsi-hd"}),
        (("--disk-model", "sata"), {"ide-hd"}),
        (("--vnc", "--balloon", "off"), {"virtio-blk-pci"} | SCREEN),
        (("--cdrom", "{cd}"), {"virtio-blk-pci", "ide-cd"}),
        (("--tpm",), {"virtio-blk-pci", "tpm-crb"}),
    ],
)
def test_devices_are_those_that_were_asked_for(full_host, installer, words, drivers):
    name = machine(full_host, "m", *[word.format(cd=installer) for word in words], boots=blank(full_host))
    _, line = program(full_host, name)
    without = {"virtio-balloon-pci"} if "--balloon" in words else set()
    assert devices(line) == (ALWAYS | AGENT | drivers) - without


@pytest.mark.parametrize("options", [("-i", "-t"), ()], ids=["terminal", "plain"])
def test_the_console_takes_what_is_typed(full_host, options):
    """A disk with nothing to boot leads to the firmware's own shell, by which the machine is switched off."""
    name = machine(full_host, "m", "--firmware", "uefi", *options, boots=blank(full_host))
    shows(full_host, name, "startup.nsh")
    terminal = full_host.terminal("attach", name)
    terminal.send("\x1b")
    shows(full_host, name, "Shell>")
    terminal.line("echo to-be-%cwd%-seen")
    terminal.expect("to-be--seen")
    terminal.line("reset -s")
    assert terminal.wait() == 0
    ends(full_host, name, 0)


def test_a_console_that_is_hung_up_ends_no_machine(full_host):
    name = machine(full_host, "m", "-i", "-t", "--stop-timeout", "1", boots=blank(full_host))
    terminal = full_host.terminal("attach", name)
    # What is shown to it has come through the connection.
    terminal.expect("Booting from")
    terminal.hang_up()
    until(lambda: full_host.status(name) != "running", 8)
    assert full_host.status(name) == "running"


def test_a_machine_is_listed_as_one(full_host):
    name = machine(full_host, "m", boots=blank(full_host))
    assert full_host.inspect(name)["type"] == "vm" and full_host.listed()[name]["type"] == "vm"
    assert name in full_host.run("ls").ok().stdout and full_host.run("stats", "--no-stream", name).status == 0


def test_verbs_of_machines_and_containers(full_host):
    name = machine(full_host, "m", boots=blank(full_host))
    full_host.run("stop", "-t", "0", name).ok()
    for words in (("screenshot", name, "-"), ("sendkey", name, "ret"), ("reset", name)):
        full_host.run(*words).fails(125, "is not running")
    for verb in ("screenshot", "sendkey", "reset"):
        full_host.run(verb, full_host.name("none"), "-").fails(125)
