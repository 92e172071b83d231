# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Folders and files of the host's in micro machines, and how little of the host a machine's processes have (P18)."""

import hashlib
import os
import stat

from leaks import read
from machines import status_of


def test_folders_files_and_volumes(shared):
    name = shared.machine
    assert shared.sh(name, "cat /ro/word /one") == "from the host\none file\n"
    shared.run("exec", name, "sh", "-c", "echo x >/ro/new").exits(1).says("read-only")
    shared.run("exec", name, "sh", "-c", "rm /ro/word").exits(1)
    shared.sh(name, "echo changed >/one; echo deep >/named/word; mkdir -p /rw/a/b; ln -s ../x /rw/a/link")
    assert read(shared.path("single")) == "changed\n"
    assert os.readlink(shared.path("writable/a/link")) == "../x"
    (volume,) = shared.run("volume", "inspect", shared.name("volume")).ok().json
    folder = next(value for key, value in volume.items() if isinstance(value, str) and os.path.isdir(value))
    assert any(read(os.path.join(top, "word")) == "deep\n" for top, _, _ in os.walk(folder)), folder
    # What the host does is seen as well.
    shared.path("writable/a/late", "later\n")
    assert shared.sh(name, "cat /rw/a/late") == "later\n"
    shared.path("single", "one file\n")


def test_owner_and_mode_are_those_of_the_guest(shared):
    shared.sh(shared.machine, "umask 0; cd /rw; mkdir mine; touch mine/f; chmod 2750 mine; chmod 640 mine/f; chown -R 12:34 mine")
    shared.sh(shared.machine, "umask 077; echo x >/rw/other", "-u", "1:2")
    for path, mode, uid, gid in (("mine", 0o2750, 12, 34), ("mine/f", 0o640, 12, 34), ("other", 0o600, 1, 2)):
        status = os.lstat(shared.path(f"writable/{path}"))
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, uid, gid), path
    # Who may not, may not.
    shared.run("exec", "-u", "5:5", shared.machine, "cat", "/rw/other").exits(1).says("permission denied")


def test_links_lead_nowhere_on_the_host(shared):
    """The host's own links, and the guest's, are looked up in the guest."""
    for link, target in (("abs", "/etc/machine-id"), ("up", "../../../../../../etc/machine-id")):
        os.symlink(target, shared.path(f"writable/{link}"))
    shared.path("outside", "secret\n")
    os.symlink("../outside", shared.path("writable/near"))
    for link in ("abs", "up", "near"):
        shared.run("exec", shared.machine, "cat", f"/rw/{link}").exits(1).says("no such file")
    assert shared.sh(shared.machine, "cd /rw/..; ls -d lower upper 2>/dev/null; cat /rw/../outside 2>/dev/null || echo none") == "none\n"


def test_many_bytes_and_names(shared):
    name = shared.machine
    shared.sh(name, "dd if=/dev/urandom of=/rw/big bs=1M count=8 2>/dev/null; sha256sum </rw/big >/rw/sum; mkdir /rw/many")
    with open(shared.path("writable/big"), "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == read(shared.path("writable/sum")).split()[0]
    shared.sh(name, "i=0; while [ $i -lt 200 ]; do echo $i >/rw/many/$i; i=$((i+1)); done; rm /rw/many/7; mv /rw/many/8 /rw/many/eight")
    assert len(os.listdir(shared.path("writable/many"))) == 199 and read(shared.path("writable/many/eight")) == "8\n"


def test_devices_in_a_share_are_none(shared):
    """Nobody on the host gets a device node for which somebody in a machine has chosen the mode."""
    shared.run("exec", shared.machine, "mknod", "/rw/disk", "b", "254", "0")
    path = shared.path("writable/disk")
    if os.path.lexists(path):
        made = stat.S_ISBLK(os.lstat(path).st_mode)
        os.unlink(path)
        assert not made, "the guest has made a device of the host's, for everybody there"
    shared.run("exec", shared.machine, "sh", "-c", "mkfifo /rw/pipe && test -p /rw/pipe && rm /rw/pipe").ok()


# The processes on the host


def confined(pid, capabilities):
    status = status_of(pid)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
    for each in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[each], 16) & ~capabilities == 0, (each, status[each])
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0, status
    assert set(status["Groups"].split()) <= {status["Gid"].split()[0]}, status
    for space in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}"), space
    return status


def test_qemu_and_its_monitor_have_nothing(shared):
    first, second = shared.machine, shared.boot("second")
    users = []
    for name in (first, second):
        for pid in (shared.qemu(name), shared.pid(name)):
            status = confined(pid, 0)
            ids = set(status["Uid"].split()) | set(status["Gid"].split())
            assert len(ids) == 1 and ids.isdisjoint({"0", "65534"}), ids
            users.append(ids.pop())
    assert users[0] == users[1] and users[2] == users[3] and users[0] != users[2], users
    one, other = (shared.qemu(name) for name in (first, second))
    for space in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{one}/ns/{space}") != os.readlink(f"/proc/{other}/ns/{space}"), space
    shared.run("rm", "-f", second).ok()


def test_qemu_sees_no_files_of_the_host(shared):
    pid = shared.qemu(shared.machine)
    # Of file systems that have a disk: what is shown to it, and where.
    places = {line.split()[4]: line.split() for line in read(f"/proc/{pid}/mountinfo").splitlines()}
    shown = {place for place, fields in places.items() if fields[fields.index("-") + 1] not in
             ("proc", "tmpfs", "devpts", "mqueue", "sysfs")}
    assert shown == {"/", "/usr", "/run/machine", "/run/machine/kernel", "/run/machine/initrd"}, shown
    for place in shown - {"/run/machine"}:
        assert "ro" in places[place][5].split(","), places[place]
    for place in places:
        assert place == "/" or "nosuid" in places[place][5].split(","), places[place]
    assert sorted(os.listdir(f"/proc/{pid}/root/etc")) == [], "files of the host's /etc"
    devices = {name for name in os.listdir(f"/proc/{pid}/root/dev")
               if not os.path.islink(f"/proc/{pid}/root/dev/{name}")}
    assert devices <= {"full", "null", "random", "tty", "urandom", "zero", "pts", "kvm", "shm", "console"}, devices


def test_qemu_holds_only_its_own_files(shared):
    pid = shared.qemu(shared.machine)
    allowed = (f"{shared.store}/zones/{shared.machine}/", f"{shared.store}/machines/", f"{shared.root}/{shared.machine}/")
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{number}"
        try:
            target, kind = os.readlink(path), os.stat(path)
        except FileNotFoundError:
            continue
        assert not stat.S_ISDIR(kind.st_mode), f"{number} is a folder: {target}"
        if stat.S_ISFIFO(kind.st_mode) and target.startswith(allowed):
            continue
        if stat.S_ISREG(kind.st_mode):
            assert target.startswith(allowed) or target.startswith("/memfd:"), target
        elif stat.S_ISCHR(kind.st_mode):
            assert target in ("/dev/null", "/dev/kvm", "/dev/net/tun"), target
        else:
            assert target.split(":")[0] in ("socket", "pipe", "anon_inode"), target
        # The image is everybody's: nobody writes to it.
        if target.startswith(f"{shared.store}/machines/"):
            flags = int(read(f"/proc/{pid}/fdinfo/{number}").split("flags:")[1].split()[0], 8)
            assert flags & os.O_ACCMODE == os.O_RDONLY, target


def test_qemu_has_only_what_was_asked_for(shared):
    words = read(f"/proc/{shared.qemu(shared.machine)}/cmdline").split("\0")
    assert "-nodefaults" in words and "-no-user-config" in words
    denied = words[words.index("-sandbox") + 1].split(",")
    assert {"on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny"} <= set(denied)
    devices = {words[at + 1].split(",")[0] for at, word in enumerate(words) if word == "-device"}
    ours = ("virtio-serial", "virtserialport", "virtio-blk", "virtio-rng", "virtio-balloon", "vhost-user-fs", "pcie-root-port")
    assert all(device.startswith(ours) for device in devices), devices
    assert not any(word.startswith(("-vnc", "-monitor", "-gdb", "-vga", "-usb", "-soundhw")) for word in words), words


def test_virtiofsd_sees_only_the_shares(shared):
    (pid,) = shared.processes(shared.machine)["virtiofsd"][:1]
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETPCAP, SYS_CHROOT, MKNOD, SETFCAP
    allowed = sum(1 << bit for bit in (0, 1, 3, 4, 6, 7, 8, 18, 27, 31))
    confined(pid, allowed)
    mounts = [line.split() for line in read(f"/proc/{pid}/mountinfo").splitlines()]
    hosts = [fields for fields in mounts if fields[fields.index("-") + 1] not in ("proc", "tmpfs", "devpts")]
    shown = [fields[3] for fields in hosts]
    wanted = {shared.path("writable"), shared.path("readable"), shared.path("single")}
    for path in wanted:
        assert any(path.endswith(place) for place in shown if place != "/"), (path, shown)
    assert len([place for place in shown if "/zonectl-case-" in place or "volume" in place]) <= 6, shown
    for fields in hosts:
        if fields[3].endswith("/readable"):
            assert "ro" in fields[5].split(","), fields


def test_the_control_group_is_above_the_guest(shared):
    """--memory is what the guest has; QEMU's own needs come on top, and all has an end."""
    memory = int(shared.sh(shared.machine, "grep MemTotal /proc/meminfo").split()[1]) << 10
    assert 200 << 20 < memory <= 256 << 20
    path = shared.cgroup_file(shared.machine, "memory.max", "memory.limit_in_bytes")
    assert path and 256 << 20 < int(read(path)) < 2 << 30, path and read(path)
    inside = [pid for pids in shared.processes(shared.machine).values() for pid in pids]
    assert {shared.qemu(shared.machine), shared.pid(shared.machine)} <= set(inside)


def test_sockets_are_for_root(shared):
    folder = f"{shared.root}/{shared.machine}"
    for top, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(top, name))
            if stat.S_ISSOCK(status.st_mode):
                assert stat.S_IMODE(status.st_mode) & 0o077 == 0, os.path.join(top, name)
    for verb in (("exec", shared.machine, "true"), ("stop", shared.machine), ("rm", "-f", shared.machine)):
        assert shared.user(*verb).status != 0, verb
    assert shared.status(shared.machine) == "running"
