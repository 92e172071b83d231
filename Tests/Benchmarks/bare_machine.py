# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""A virtual machine as a person makes it by hand: one command of QEMU, and an /init of a few lines of shell that mounts an
image below a disk of changes, as zonectl does."""

import contextlib
import os
import pathlib
import re
import select
import subprocess
import time

from surroundings import REPOSITORY, Failed

GUEST = pathlib.Path(os.environ.get("ZONECTL_GUEST", REPOSITORY / ".build/guest")).absolute()
# Seconds: of a whole emulated boot on a loaded machine.
PATIENCE = 120
TAP, BRIDGE = "tap-bare", "br-bare"
ADDRESSES = {"host": "10.78.0.1", "guest": "10.78.0.2"}

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
load() {
    for file in $(sed -n "s/^$1: //p" /modules/order); do
        case $file in
            # There is no PCI here.
            virtio_pci*) ;;
            *) insmod "/modules/$file" ;;
        esac
    done
}
load base
image=vda changes=vdb
grep -qx image "/sys/block/$image/serial" || image=vdb changes=vda
mount -t erofs -o ro,noatime "/dev/$image" /lower
mount -t ext4 -o noatime "/dev/$changes" /upper
mkdir -p /upper/upper /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work overlay /root
if [ -n "$address" ]; then
    load net
    ip addr add "$address/24" dev eth0
    ip link set eth0 up
    ip route add default via "$gateway"
fi
if [ "$way" = boot ]; then
    chroot /root /bin/true
    echo "status: $?"
else
    mount -t proc proc /root/proc
    mount -t devtmpfs devtmpfs /root/dev
    mkdir -p /dev/shm
    mount -t tmpfs tmpfs /dev/shm
    stty -echo
    echo "status: 0"
    chroot /root /bin/sh -c 'while read -r line; do eval "$line"; echo "status: $?"; done'
fi
umount /root
umount /upper
reboot -f
"""


def quiet(*words, **options):
    """What a command says; of one that fails, why."""
    words = [str(word) for word in words]
    done = subprocess.run(
        words, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=PATIENCE, **options)
    if done.returncode:
        raise Failed(f"{' '.join(words)} failed ({done.returncode}): {done.stderr.strip()}{done.stdout[-300:]}")
    return done.stdout


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


class Bare:
    """QEMU with the words that zonectl starts one with, as far as they say what the machine is."""

    def __init__(self, folder, zones):
        self.folder, self.zones = folder, zones
        with zones.machine("first", "--network", "none"):
            words = read(f"/proc/{zones.processes('first')[-1]}/cmdline").split("\0")
            self.program = words[0]
            value = {word: words[words.index(word) + 1] for word in ("-accel", "-cpu", "-smp", "-m", "-append")}
            zones.stop("first")
            self.empty = self.copy("first", "empty.img")
        # Nobody types the tuning that may follow.
        self.accelerator, cpus = value["-accel"].split(",")[0], value["-smp"].split(",")[0]
        self.append, self.memory = value["-append"], value["-m"]
        self.machine = ["-accel", self.accelerator, "-cpu", value["-cpu"], "-smp", cpus, "-m", self.memory]
        self.image = next((zones.store / "machines").glob("root-*.erofs"))
        self.kernel = next(place for place in (GUEST / "amd64", GUEST) if (place / "vmlinux").exists())
        self.initrd = self.pack()
        # Where the kernel can forward packets itself, everybody lets it.
        self.vhost = ",vhost=on" if os.path.exists("/dev/vhost-net") else ""

    def copy(self, name, target):
        """Of a stopped machine's disk."""
        result = self.folder / target
        quiet("cp", "--sparse=always", self.zones.changes(name), result)
        return result

    def pack(self):
        init, initrd = self.folder / "init", self.folder / "initrd"
        init.write_text(INIT)
        entries = [f"dir 755 {name}" for name in ("bin", "dev", "lower", "proc", "root", "sys", "upper")]
        entries += ["node 600 dev/console 5 1", "file 755 bin/busybox /bin/busybox", f"file 755 init {init}"]
        with open(initrd, "wb") as file:
            file.write((self.kernel / "modules.cpio").read_bytes())
            more = subprocess.run(
                [REPOSITORY / "images/guest-kernel/archive"], input="\n".join([*entries, ""]).encode(), check=True,
                stdout=subprocess.PIPE)
            file.write(more.stdout)
        return initrd

    def command(self, way, disk_file, cache, net=False):
        append, card = f"{self.append} way={way}", []
        if net:
            append += f" address={ADDRESSES['guest']} gateway={ADDRESSES['host']}"
            card = ["-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no{self.vhost}",
                    "-device", "virtio-net-device,netdev=net"]
        return [
            self.program, "-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on", *self.machine, "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(self.kernel / "vmlinux"),
            "-initrd", str(self.initrd), "-append", append,
            "-drive", f"if=none,id=image,file={self.image},format=raw,readonly=on",
            "-device", "virtio-blk-device,drive=image,serial=image",
            "-drive", f"if=none,id=changes,file={disk_file},format=raw,cache={cache}",
            "-device", "virtio-blk-device,drive=changes,serial=changes", *card]

    def new_disk(self, source=None):
        """A disk for one start."""
        target = self.folder / "changes.img"
        quiet("cp", "--sparse=always", source or self.empty, target)
        return target

    @contextlib.contextmanager
    def booted(self, source=None, net=False):
        """One that does what it is told on its serial line."""
        machine = Shell(self.command("shell", self.new_disk(source), "writeback", net))
        try:
            machine.wait()
            yield machine
        finally:
            machine.close()


class Shell:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = b""

    def __call__(self, script):
        """What a script, made into a line, says."""
        line = "; ".join(each.strip() for each in script.strip().splitlines())
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self.wait()

    def wait(self):
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(rb"^status: (\d+)\r?\n", self.said, re.M)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not more:
                why = "ended" if ready else "does not answer"
                raise Failed(f"the bare machine {why}: {self.said.decode(errors='replace')}")
            self.said += more
        text, self.said = self.said[: match.start()].decode(errors="replace"), self.said[match.end() :]
        if match[1] != b"0":
            raise Failed(f"the bare machine: status {match[1].decode()}: {text}")
        return text.replace("\r", "")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def make_bridge():
    for words in (
        f"link add {BRIDGE} type bridge", f"addr add {ADDRESSES['host']}/24 dev {BRIDGE}", f"link set {BRIDGE} up",
        f"tuntap add {TAP} mode tap", f"link set {TAP} master {BRIDGE} up",
    ):
        quiet("ip", *words.split())
