# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Machines that boot a disk or a CD: what is decided and why, how they run, and how they end."""

import json
import os
import random
import signal
import subprocess
import time

import pytest
from full import (  # noqa: F401
    INSTALLER_UP, blank, debian, digest, ends, full_host, installer, machine, needs, nodes, preview, program, quiet, shows,
    windows,
)
from leaks import alive

needs("swtpm", "xorriso", "sgdisk", "mformat")


# What SeaBIOS says before it boots.
POST = "Booting from DVD/CD"


# What is decided


def test_preview_of_debian(full_host, debian):
    said = preview(full_host, debian)
    for line in (
        f"disk {debian}: raw, 1 GiB, by its header",
        f"{debian}: GPT with 3 partitions",
        f"{debian}: partition 2 is an EFI system partition",
        f"{debian}: EFI/BOOT/BOOTX64.EFI is on partition 2",
        f"{debian}: the MBR has boot code, and partition 1 is a BIOS boot partition",
        "firmware uefi (OVMF): it boots both ways, and this is the newer one",
        "disk model virtio, network model virtio",
        "clock utc, TPM no, secure boot no",
        "display: none",
    ):
        said.check(line in said.lines, f"no line {line!r}")
    assert full_host.listed() == {}


def test_preview_of_windows(full_host, windows):
    said = preview(full_host, windows)
    for line in (
        f"disk {windows}: raw, 64 MiB, by its header",
        f"{windows}: Windows: EFI/Microsoft/Boot/bootmgfw.efi is on partition 1",
        "firmware uefi (OVMF): there is something for it to boot",
        "disks by SATA: Windows has no driver for virtio of its own",
        "disk model sata, network model e1000e",
        "clock localtime, TPM yes, secure boot no",
    ):
        said.check(line in said.lines, f"no line {line!r}")


def test_preview_of_an_installer(full_host, installer):
    said = preview(full_host, installer)
    for line in (
        f"{installer}: a CD, as it holds an ISO 9660 file system",
        f"{installer}: a CD's image with the name 'INSTALLER'",
        f"{installer}: the disc has an entry for BIOSes (El Torito)",
        f"{installer}: the disc has an entry for EFI (El Torito)",
        "boots from CDs",
    ):
        said.check(line in said.lines, f"no line {line!r}")


@pytest.mark.parametrize(
    "words, line",
    [
        (("--firmware", "bios"), "firmware bios: as it was said"),
        (("--disk-model", "nvme"), "disk model nvme, network model virtio"),
        (("--network-model", "rtl8139"), "disk model virtio, network model rtl8139"),
        (("--boot", "nc"), "boots from the network, then disks"),
        (("--tpm",), "clock utc, TPM yes, secure boot no"),
        (("--clock", "localtime"), "clock localtime, TPM no, secure boot no"),
        (("--vcpus", "1"), "virtual CPUs: 1 (1 sockets, 1 cores, 1 threads)"),
        (("-m", "300M"), "memory: 300 MiB"),
        (("--disk-format", "raw"), "disk {disk}: raw, 1 MiB, as it was said"),
        (("--disk", "new:1G"), "disk new: made new, 1 GiB, qcow2"),
    ],
)
def test_choices_hold(full_host, words, line):
    path = blank(full_host)
    said = preview(full_host, *words, path)
    said.check(line.format(disk=path) in said.lines, f"no line {line!r}")


@pytest.mark.parametrize(
    "words, line",
    [
        (("--virtio-win", "{cd}"), "disk model virtio, network model virtio"),
        (("--disk-model", "nvme"), "disk model nvme, network model e1000e"),
        (("--clock", "utc"), "clock utc, TPM yes, secure boot no"),
        (("--tpm=false",), "clock localtime, TPM no, secure boot no"),
        (("--firmware", "bios"), "firmware bios: as it was said"),
    ],
)
def test_choices_hold_for_windows(full_host, windows, installer, words, line):
    said = preview(full_host, *[word.format(cd=installer) for word in words], windows)
    said.check(line in said.lines, f"no line {line!r}")


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_formats_are_known_by_their_headers(full_host, windows, kind):
    path = full_host.path(f"disk.{kind}")
    more = ("-o", "force_size=on") if kind == "vpc" else ()
    subprocess.run(["qemu-img", "convert", "-O", kind, *more, windows, path], check=True, timeout=60)
    said = preview(full_host, path)
    said.check(f"disk {path}: {kind}, 64 MiB, by its header" in said.lines, "another format")
    said.check("Windows: EFI/Microsoft/Boot/bootmgfw.efi is on partition 1" in said.stdout, "it was not looked into")


# The format is recorded once (P19)


def secret_behind(path, secret):
    """Turns a disk into a qcow2 image that shows another file, as a guest could."""
    made = path + ".made"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", made], check=True, timeout=20)
    size = os.path.getsize(path)
    with open(made, "rb") as source, open(path, "r+b") as target:
        target.write(source.read())
        target.truncate(max(size, target.tell()) // 512 * 512)
    os.unlink(made)


def test_a_raw_disk_stays_raw(full_host):
    disk, secret = blank(full_host), blank(full_host, "secret")
    name = machine(full_host, "m", boots=disk)
    quiet(full_host.run("stop", "-t", "0", name)).exits(0)
    secret_behind(disk, secret)
    quiet(full_host.run("start", name)).ok()
    pid, words = program(full_host, name)
    assert [node["driver"] for node in nodes(words)] == ["raw"]
    opened = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    assert disk in opened and secret not in opened
    assert full_host.inspect(name)["definition"]["machine"]["disks"] == [{"path": disk, "format": "raw"}]


def test_a_qcow2_disk_that_shows_another_file_since_is_refused(full_host):
    disk, secret = full_host.path("disk"), blank(full_host, "secret")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True, timeout=20)
    name = machine(full_host, "m", boots=disk)
    full_host.run("stop", "-t", "0", name).exits(0)
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", secret, "-F", "raw", disk], check=True, timeout=20)
    before = digest(disk)
    quiet(full_host.run("start", name)).fails(125, "shows the content of another file")
    assert full_host.status(name) == "stopped" and digest(disk) == before


# Installers


def test_an_installer_boots_both_ways_and_is_reset_paused_and_restarted(full_host, installer):
    efi = machine(full_host, "efi", boots=installer)
    bios = machine(full_host, "bios", "--firmware", "bios", boots=installer)
    shows(full_host, bios, f"{INSTALLER_UP} pc")
    pid, _ = program(full_host, bios)
    shows(full_host, bios, POST)
    full_host.run("reset", bios).ok()
    shows(full_host, bios, POST, 2)
    assert program(full_host, bios)[0] == pid, "a reset is no restart"
    shows(full_host, efi, f"{INSTALLER_UP} efi")
    # The CPUs of what is paused stand still.
    full_host.run("pause", efi).ok()
    assert full_host.status(efi) == "paused"
    pid, _ = program(full_host, efi)
    used = ticks(pid)
    time.sleep(0.5)
    assert ticks(pid) - used <= 5
    full_host.run("reset", efi)
    full_host.run("resume", efi).ok()
    assert full_host.status(efi) == "running"
    # Nobody in it hears of the power button, and what is paused hears nothing anyway.
    full_host.run("pause", efi).ok()
    begun = time.monotonic()
    full_host.run("stop", "-t", "2", efi).ok()
    assert time.monotonic() - begun < 5 and full_host.status(efi) == "stopped"
    quiet(full_host.run("restart", "-t", "1", bios)).ok()
    shows(full_host, bios, POST, 3)


def test_stop_waits_as_long_as_it_is_told(full_host):
    """Of what is on this disk nothing hears the power button; a system that shuts down slowly must not be cut off."""
    name = machine(full_host, "m", "--stop-timeout", "1", boots=blank(full_host))
    begun = time.monotonic()
    full_host.run("stop", "-t", "4", name).ok()
    assert 3 < time.monotonic() - begun < 6


def ticks(pid):
    """CPU time that a process has used, in hundredths of a second."""
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_new_disks_are_the_zones_own(full_host, installer):
    options = ("--firmware", "bios", "--disk", "new:1G", "--disk", "new:64M,serial=second")
    name = machine(full_host, "m", *options, boots=installer)
    folder = f"{full_host.store}/zones/{name}"
    for index, size in enumerate((1 << 30, 64 << 20)):
        path = f"{folder}/disk-{index}.qcow2"
        status = os.stat(path)
        assert status.st_mode & 0o777 == 0o600 and status.st_blocks * 512 < 1 << 20, "it is sparse"
        words = ["qemu-img", "info", "-U", "--output=json", path]
        told = json.loads(subprocess.run(words, capture_output=True, timeout=20).stdout)
        assert (told["format"], told["virtual-size"]) == ("qcow2", size)
    disks = full_host.inspect(name)["definition"]["machine"]["disks"]
    assert [(disk["path"], disk["format"]) for disk in disks] == [("disk-0.qcow2", "qcow2"), ("disk-1.qcow2", "qcow2")]
    _, words = program(full_host, name)
    assert any("serial=second" in word for word in words)
    # The CD is tried first, as the disk is empty.
    shows(full_host, name, f"{INSTALLER_UP} pc")
    full_host.run("rm", "-f", name).ok()
    assert not os.path.exists(folder)


# One disk, one machine


def test_a_disk_has_one_machine_at_a_time(full_host):
    disk = blank(full_host)
    first = machine(full_host, "first", boots=disk)
    name = full_host.name("second")
    full_host.defer(full_host.remove, name)
    words = ("run", "-d", "--name", name, "--vm", "-m", "128M", "--vcpus", "1")
    quiet(full_host.run(*words, disk)).fails(125, f"is in use by zone {first}")
    assert name not in full_host.listed()
    # By another name it is the same disk.
    link = full_host.path("link")
    os.link(disk, link)
    quiet(full_host.run(*words, link)).fails(125, f"is in use by zone {first}")
    quiet(full_host.run(*words, "--rm", disk)).fails(125, f"is in use by zone {first}")
    full_host.run("stop", "-t", "0", first).ok()
    quiet(full_host.run(*words, disk)).exits(0)
    quiet(full_host.run("start", first)).fails(125, f"is in use by zone {name}")


def test_a_disk_that_is_only_read_may_have_several(full_host, windows):
    before = digest(windows)
    for suffix in ("a", "b"):
        machine(full_host, suffix, "--rm", "--firmware", "bios", boots=windows)
    machine(full_host, "c", "--disk", f"{windows},ro", boots=blank(full_host))
    assert digest(windows) == before


# Violent ends


def test_killed_at_any_moment_it_can_be_started_again(full_host, installer):
    name = machine(full_host, "m", "--firmware", "bios", "--disk", "new:1G", boots=installer)
    disk = f"{full_host.store}/zones/{name}/disk-0.qcow2"
    for delay in (0, random.uniform(0.05, 0.4), random.uniform(0.4, 1.2)):
        time.sleep(delay)
        os.kill(program(full_host, name)[0], signal.SIGKILL)
        ends(full_host, name, 128 + signal.SIGKILL)
        checked = subprocess.run(["qemu-img", "check", "-q", disk], capture_output=True, text=True, timeout=20)
        assert checked.returncode == 0, f"after {delay} s: {checked.stdout}{checked.stderr}"
        quiet(full_host.run("start", name)).ok()
    shows(full_host, name, f"{INSTALLER_UP} pc")
    # What is above QEMU goes, and takes it along.
    qemu = program(full_host, name)[0]
    os.kill(full_host.pid(name), signal.SIGKILL)
    ends(full_host, name, 128 + signal.SIGKILL)
    assert not alive(qemu)
    quiet(full_host.run("start", name)).ok()
