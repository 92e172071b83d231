# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Full machines that are asked for wrongly, or of which this host lacks something: one clear error, and nothing is left."""

import os
import shutil
import socket
import subprocess

import pytest
from full import (  # noqa: F401
    SMALL, blank, copy, digest, full_host, installer, machine, needs, preview, program, quiet, refused, windows,
)

needs("swtpm", "sgdisk", "mformat")


@pytest.mark.parametrize(
    "words, says",
    [
        (("--boot", "x"), ("--boot", "c disks, d CDs, n network")),
        (("--boot=",), ("--boot",)),
        (("--firmware", "coreboot"), ("--firmware", "bios, uefi")),
        (("--secure-boot", "--firmware", "bios"), ("secure-boot", "UEFI")),
        (("--disk-model", "floppy"), ("--disk-model", "virtio, sata, nvme, scsi")),
        (("--network-model", "ne2k"), ("--network-model", "e1000e")),
        (("--clock", "moon"), ("--clock", "utc, localtime")),
        (("--accel", "hvf"), ("--accel", "auto, kvm or tcg")),
        (("--arch", "z80"), ("--arch", "amd64")),
        (("--vcpus", "0"), ("--vcpus",)),
        (("--vcpus", "two"), ("--vcpus",)),
        (("--vcpus", "4096"), ("virtual CPUs are more than",)),
        (("--vcpus", "sockets=4096,cores=4096,threads=4096"), ("virtual CPUs are more than",)),
        (("--vcpus", "legs=2"), ("--vcpus",)),
        (("--vcpu-pin", "0"), ("--vcpu-pin",)),
        (("--vcpu-pin", "0=4095"), ("--vcpu-pin", "no CPU 4095")),
        (("--vcpu-pin", "0=x"), ("--vcpu-pin",)),
        (("--vcpus", "1", "--vcpu-pin", "7=0"), ("--vcpu-pin", "7")),
        (("-m", "100T"), ("memory", "more than")),
        (("-m", "16M"), ("too little",)),
        (("--balloon", "maybe"), ("--balloon", "on or off")),
        (("--vnc=0.0.0.0:5901",), ("--vnc", "loopback")),
        (("--vnc=[::]:5901",), ("--vnc", "loopback")),
        (("--vnc=192.0.2.1:5901",), ("--vnc", "loopback")),
        (("--vnc=127.0.0.1:0",), ("--vnc",)),
        (("--vnc=127.0.0.1:65536",), ("--vnc",)),
        (("--vnc=127.0.0.1",), ("--vnc",)),
        (("--disk", "new:1K"), ("1M at least",)),
        (("--disk", "new:"), ("--disk",)),
        (("--disk", "new:1M,colour=red"), ("colour=red",)),
        (("--disk", "new:9999999P"), ("--disk",)),
        (("--disk", "/no/such/disk"), ("/no/such/disk", "No such file")),
        (("--cdrom", "/no/such/disc"), ("/no/such/disc", "No such file")),
        (("--virtio-win", "/no/such/disc"), ("/no/such/disc", "No such file")),
        (("--disk-format", "floppy"), ("floppy", "raw, qcow2")),
        (("--disk-format", "qcow2"), ("does not begin as", "qcow2")),
        (("--user-data", "/no/such/file"), ("--user-data", "No such file")),
        (("--user-data", "/"), ("--user-data", ("directory", "no file"))),
        (("--user-data", "/dev/zero"), ("--user-data",)),
        (("--usb", "keyboard"), ("--usb", "lsusb")),
        (("--usb", "046d:c31c,leg=2"), ("leg=2",)),
        (("--usb", "046d:c31c:ffff"), ("--usb",)),
        (("--usb", "fffe:fffe"), ("fffe:fffe", "no such device")),
        (("--user-data", "{folder}/fifo"), ("--user-data",)),
        (("--user-data", "{folder}/large"), ("--user-data", "large")),
        (("--user-data", "{folder}/binary"), ("--user-data", "UTF-8")),
        (("--disk", "new:1M,format=vmdk"), ("format",)),
        (("--disk", "new:1500000"), ("512",)),
        (("--disk", "new:1M,serial=" + "x" * 21), ("serial",)),
        (("--disk", "{folder}/blank.img"), ("twice",)),
        (("--disk", "new:1M") * 9, ("room for", "disks")),
        (("--disk-model", "sata") + ("--disk", "new:1M") * 6, ("room for", "SATA")),
    ],
)
def test_options_with_wrong_values(full_host, words, says):
    os.mkfifo(full_host.path("fifo"))
    full_host.path("large", "#" * ((1 << 20) + 1))
    with open(full_host.path("binary"), "wb") as file:
        file.write(b"\xff\xfe")
    path = blank(full_host)
    before = digest(path)
    refused(full_host, *[word.format(folder=full_host.folder) for word in words], boots=path, says=says)
    assert digest(path) == before


@pytest.mark.parametrize(
    "words, names",
    [
        (("-e", "A=b"), "--env"), (("-v", "/tmp:/x"), "-v"), (("--tmpfs", "/x"), "--tmpfs"), (("--user", "5"), "--user"),
        (("--workdir", "/x"), "--workdir"), (("--entrypoint", "sh"), "--entrypoint"), (("--init",), "--init"),
        (("--sysctl", "net.ipv4.ip_forward=1"), "--sysctl"), (("--network", "host"), "--network"),
        (("--security-opt", "seccomp=unconfined"), "--security-opt"), (("--device", "/dev/null"), "--device"),
        (("--max-users", "5"), "--max-users"), (("--cap-add", "SYS_ADMIN"), "--cap-add"),
        (("--cap-drop", "ALL"), "--cap-drop"), (("--read-only",), "--read-only"), (("--health-cmd", "true"), "health"),
        (("--security-opt", "no-new-privileges"), "--security-opt"), (("--systemd", "always"), "--systemd"),
        (("--storage", "1G"), "--storage"),
    ],
)
def test_options_of_containers_are_refused(full_host, words, names):
    refused(full_host, *words, boots=blank(full_host), says=(names, "machine"))


def test_a_cd_makes_it_a_full_machine(full_host, installer):
    said = preview(full_host, "--cdrom", installer, "-")
    said.check("boots from CDs" in said.lines, "it boots something else")


def test_options_of_machines_are_refused_for_containers(full_host):
    for words in (("--tpm",), ("--disk", "new:1G"), ("--vnc",), ("--vcpus", "1"), ("--user-data", "x")):
        result = full_host.run("run", *words, "busybox", "true")
        result.fails(125, words[0], "virtual machines", "--vm")


def test_a_command_is_refused(full_host):
    path = blank(full_host)
    full_host.run("run", "--vm", path, "sh").fails(125, "command")
    assert full_host.listed() == {}


def test_a_name_of_no_disk_is_asked_of_no_registry(full_host):
    """It ends as disks' names do."""
    for name in ("debian.img", "windows.qcow2", "installer.iso"):
        full_host.run("run", "--vm", name, timeout=10).fails(125, name, ("no such file", "no file of a disk"))


NO_DISKS = ["missing", "directory", "fifo", "device", "socket", "empty", "zeros", "odd", "gzip", "tar", "cut"]


@pytest.mark.parametrize("kind", NO_DISKS)
def test_what_is_no_disk(full_host, windows, kind):
    path = full_host.path("it")
    content = {
        "empty": b"", "zeros": bytes(1 << 20), "odd": bytes(510) + b"\x55\xaa" + bytes(99),
        "gzip": b"\x1f\x8b\x08" + bytes(4093), "tar": bytes(257) + b"ustar" + bytes(4096),
    }
    neither = "neither a file nor a block device"
    says = {
        "missing": "no such file", "directory": neither, "fifo": neither, "device": neither,
        "socket": (neither, "no such device"), "empty": "empty", "zeros": "nothing in it is known",
        "odd": "no whole number of sectors", "gzip": "gunzip", "tar": "archive",
        "cut": ("truncated", "cut off", "beyond the end"),
    }[kind]
    if kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/null"
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(path)
    elif kind == "cut":
        copy(full_host, windows, "it")
        os.truncate(path, 20 << 20)
    elif kind in content:
        with open(path, "wb") as file:
            file.write(content[kind])
    before = digest(path) if os.path.isfile(path) else None
    refused(full_host, boots=path, says=(says,))
    refused(full_host, "--disk", path, boots=blank(full_host), says=(says,))
    assert before is None or digest(path) == before


# What this host lacks, or has in use


def test_no_kvm_that_can_be_used(full_host):
    said = preview(full_host, blank(full_host)).stdout
    if "accelerator kvm" in said:
        pytest.skip("KVM can be used here")
    refused(full_host, "--accel", "kvm", boots=blank(full_host), says=("KVM cannot be used", "auto or tcg"))


@pytest.mark.parametrize("size, kilobytes", [("2M", 2048), ("1G", 1 << 20), ("3M", 3072)])
def test_no_pool_of_huge_pages(full_host, size, kilobytes):
    free = f"/sys/kernel/mm/hugepages/hugepages-{kilobytes}kB/free_hugepages"
    if os.path.exists(free) and int(open(free).read()):
        pytest.skip("the host has a pool of huge pages")
    refused(full_host, "-m", "1G", f"--hugepages={size}", boots=blank(full_host), says=("pages",))


def hiding(*places):
    """Words for zonectl in a mount namespace in which folders are empty and programs are not there."""
    script = "".join(
        f"mount -t tmpfs none {place}; " if os.path.isdir(place) else f"mount --bind /dev/null {place}; " for place in places
    )
    return ("unshare", "-m", "sh", "-c", f'set -e; {script} exec "$@"', "sh")


@pytest.mark.parametrize(
    "hidden, words, says",
    [
        (("/usr/share/OVMF", "/usr/share/qemu"), ("--firmware", "uefi"), ("firmware", "ovmf")),
        (("/usr/share/OVMF", "/usr/share/qemu"), ("--secure-boot",), ("secure boot", "ovmf")),
        (("/usr/share/AAVMF", "/usr/share/qemu"), ("--arch", "arm64"), ("firmware", "qemu-efi-aarch64")),
        (("/usr/bin/swtpm",), ("--tpm",), ("swtpm",)),
        (("/usr/bin/qemu-system-x86_64",), (), ("qemu-system-x86_64", "qemu-system-x86")),
        (("/usr/bin/genisoimage", "/usr/bin/xorriso"), ("--user-data", "/dev/null"), ("xorriso",)),
        (("/usr/bin/qemu-img",), ("--disk", "new:1G"), ("qemu-img", "qemu-utils")),
    ],
)
def test_what_is_not_installed(full_host, hidden, words, says):
    hidden = [place for place in hidden if os.path.exists(place)]
    if "arm64" in words and not shutil.which("qemu-system-aarch64"):
        pytest.skip("qemu-system-aarch64 is not installed (Debian package qemu-system-arm)")
    name = full_host.name("no")
    full_host.defer(full_host.remove, name)
    path = blank(full_host)
    user = full_host.path("user-data", "#cloud-config\n")
    words = [user if word == "/dev/null" else word for word in words]
    result = quiet(full_host.run("run", "-d", "--name", name, "--vm", *SMALL, *words, path, wrap=hiding(*hidden)))
    result.fails(125, *says, ("install", "package"))
    assert name not in full_host.listed()


def test_an_arm_has_no_bios(full_host):
    refused(full_host, "--arch", "arm64", "--firmware", "bios", boots=blank(full_host), says=("bios", "arm64"))


@pytest.fixture
def block_device(full_host):
    """A block device with a file system, and its folder for mounting."""
    path = full_host.path("blocks.img")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path, "8M"], check=True, timeout=20)
    made = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, timeout=20)
    if made.returncode != 0:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    full_host.defer(subprocess.run, ["losetup", "-d", device])
    return device, path


def test_a_device_that_the_host_has_mounted_is_not_taken(full_host, block_device):
    device, path = block_device
    folder = full_host.directory("mounted")
    subprocess.run(["mount", device, folder], check=True, timeout=20)
    full_host.defer(subprocess.run, ["umount", folder])
    refused(full_host, boots=device, says=("the host uses it", "mounted"))
    refused(full_host, "--disk", device, boots=blank(full_host), says=("the host uses it", "mounted"))


def test_a_device_that_is_free_is_taken_once(full_host, block_device):
    device, _ = block_device
    name = machine(full_host, "m", "--firmware", "bios", boots=device)
    pid, _ = program(full_host, name)
    assert device in [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    refused(full_host, boots=device, says=(("is in use by", "the host uses it"),))
    # The host cannot mount it meanwhile.
    folder = full_host.directory("mounted")
    mounted = subprocess.run(["mount", device, folder], capture_output=True, timeout=20)
    if mounted.returncode == 0:
        subprocess.run(["umount", folder])
    assert mounted.returncode != 0, "the host has mounted the disk of a machine that runs"
