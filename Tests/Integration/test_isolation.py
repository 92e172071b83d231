# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a zone sees and may do: namespaces, capabilities, seccomp, masks, devices, descriptors, hostile images."""

import ctypes
import hashlib
import os
import pathlib
import re
import threading

import layouts
import pytest
from leaks import read

# Docker's default set of 14, as a mask.
DEFAULT_CAPABILITIES = 0x00000000A80425FB
DEVICES_REQUIRED = {
    "full",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "tty",
    "urandom",
    "zero",
    "fd",
    "stdin",
    "stdout",
    "stderr",
}
DEVICES_ALLOWED = DEVICES_REQUIRED | {"console", "core", "mqueue"}


def status_fields(result):
    """The fields of a /proc/PID/status on stdout."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in result.exits(0).lines)}


def host_disk():
    """Major and minor number of a disk of the host."""
    for line in read("/proc/partitions").splitlines()[2:]:
        major, minor, _, name = line.split()
        if not name.startswith(("loop", "ram", "zram")):
            return int(major), int(minor)
    pytest.skip("this machine has no disk in /proc/partitions")


def test_own_pid_one(zone_host):
    zone_host.zone("echo $$").ok(stdout="1\n")


def test_ps_shows_only_its_own(zone_host):
    # Between fork and exec the child is still called sh.
    script = "sleep 50 & until test $(cat /proc/$!/comm) = sleep; do :; done; ps -o pid,comm; true"
    result = zone_host.zone(script).exits(0)
    names = sorted(line.split()[1] for line in result.lines[1:])
    result.check(names == ["ps", "sh", "sleep"], "other processes are seen")


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "pid", "uts"])
def test_namespace_is_its_own(zone_host, kind):
    result = zone_host.zone(f"readlink /proc/self/ns/{kind}").exits(0)
    result.check(result.stdout.startswith(f"{kind}:["), "no namespace")
    result.check(result.stdout.strip() != os.readlink(f"/proc/self/ns/{kind}"), "it is the host's")


def test_network_is_only_loopback_and_up(zone_host):
    result = zone_host.zone("ls /sys/class/net; ip -o addr; cat /proc/net/route; ping -c1 -w5 127.0.0.1").exits(0)
    result.check(result.lines[0] == "lo" and "127.0.0.1/8" in result.stdout, "no loopback address")
    result.check(
        "state UP" in zone_host.zone("ip link").stdout or "LOOPBACK,UP" in zone_host.zone("ip link").stdout,
        "lo is down",
    )
    if os.path.exists("/proc/net/if_inet6"):
        result.check("::1/128" in result.stdout, "no IPv6 loopback address")
    others = [line for line in result.lines if re.match(r"\d+: (?!lo)", line)]
    result.check(not others, "there are other links")


def test_ipc_is_its_own(zone_host):
    result = zone_host.zone("cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -vc key; ls -A /dev/shm")
    result.check(result.stdout == "0\n", "objects of others are seen")


def test_mounts_show_no_host_path(zone_host):
    result = zone_host.zone("cat /proc/self/mountinfo").exits(0)
    for line in result.lines:
        left = line.split(" - ")[0].split(" ")
        root, point = left[3], left[4]
        result.check(zone_host.store not in point and zone_host.root not in point, f"host path in {line!r}")
        # Three files come from the zone's own folder on the host; everything else is a file system of the zone's own.
        own = point in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
        result.check(own or str(zone_host.folder) not in root, f"folder of the host in {line!r}")
        result.check("shared:" not in line and "master:" not in line, f"propagation to or from the host: {line!r}")
        kind = line.split(" - ")[1].split(" ")[0]
        kinds = ("overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2")
        result.check(own or kind in kinds, f"file system of the host: {line!r}")


def test_cgroup_view_is_its_own(zone_host):
    result = zone_host.zone("cat /proc/self/cgroup").exits(0)
    result.check(
        result.lines and all(line.endswith(":/") for line in result.lines), "paths of the host's groups are seen"
    )


def test_cgroup_tree_is_read_only(zone_host):
    make = "cd /sys/fs/cgroup 2>/dev/null || exit 0; mkdir x */x; find . -name x -type d"
    result = zone_host.zone(make)
    result.check(result.stdout == "", "a group could be made")


def test_exec_joins_the_same_groups(zone_host):
    name = zone_host.start()
    groups = read(f"/proc/{zone_host.pid(name)}/cgroup")
    process = zone_host.popen("exec", name, "sleep", "777")
    zone_host.run("exec", name, "sh", "-c", "until pidof sleep | grep -q ' '; do usleep 10000; done").exits(0)
    mine = [
        pid for pid in filter(str.isdigit, os.listdir("/proc")) if read(f"/proc/{pid}/cmdline") == "sleep\x00777\x00"
    ]
    assert len(mine) == 1 and read(f"/proc/{mine[0]}/cgroup") == groups, (mine, groups)
    zone_host.run("kill", name).exits(0)
    process.wait(20)
    assert process.returncode == 137


def test_default_capabilities(zone_host):
    fields = status_fields(zone_host.zone("cat /proc/self/status"))
    expected = DEFAULT_CAPABILITIES & int(status_fields(zone_host.execute(["cat", "/proc/self/status"]))["CapBnd"], 16)
    values = {key: int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert values == {"CapInh": 0, "CapPrm": expected, "CapEff": expected, "CapBnd": expected, "CapAmb": 0}, values


def test_ordinary_user_has_no_capabilities(zone_host):
    fields = status_fields(zone_host.zone("cat /proc/self/status", "-u", "1000"))
    assert [int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0], fields


@pytest.mark.parametrize("name", ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin"])
def test_cap_add(zone_host, name):
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--cap-add", name))
    assert int(fields["CapEff"], 16) & 1 << 12 and int(fields["CapInh"], 16) == 0, fields


def test_cap_drop_and_add(zone_host):
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--cap-drop", "ALL"))
    assert [int(fields[key], 16) for key in ("CapPrm", "CapEff", "CapBnd")] == [0, 0, 0], fields
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--cap-drop", "ALL", "--cap-add", "CHOWN"))
    assert [int(fields[key], 16) for key in ("CapPrm", "CapEff", "CapBnd")] == [1, 1, 1], fields
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--cap-drop", "chown"))
    assert int(fields["CapEff"], 16) & 1 == 0, fields


def test_cap_add_all_gives_what_the_host_has(zone_host):
    bounding = status_fields(zone_host.execute(["cat", "/proc/self/status"]))["CapBnd"]
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--cap-add", "ALL"))
    assert (fields["CapEff"], fields["CapBnd"], int(fields["CapInh"], 16)) == (bounding, bounding, 0), fields


def test_dropped_capability_has_effect(zone_host):
    zone_host.zone("chown 5 /tmp").ok()
    zone_host.zone("chown 5 /tmp", "--cap-drop", "CHOWN").exits(1).says("not permitted")


def test_seccomp_and_no_new_privileges(zone_host):
    fields = status_fields(zone_host.zone("cat /proc/self/status"))
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1"), fields
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--security-opt", "no-new-privileges=false"))
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "0"), fields
    fields = status_fields(zone_host.zone("cat /proc/self/status", "--security-opt", "seccomp=unconfined"))
    assert fields["Seccomp"] == "0", fields


@pytest.mark.parametrize("init", [[], ["--init"]], ids=["plain", "init"])
@pytest.mark.parametrize("user", ["0", "1000"])
def test_seccomp_without_no_new_privileges_for_any_user(zone_host, user, init):
    # Loading a filter without no_new_privs takes CAP_SYS_ADMIN, which the program's user does not have.
    options = ["--security-opt", "no-new-privileges=false"]
    fields = status_fields(zone_host.zone("cat /proc/self/status", *options, *init, "-u", user))
    assert (fields["Seccomp"], fields["NoNewPrivs"], fields["Uid"].split()[0]) == ("2", "0", user), fields
    name = zone_host.start(options=[*options, *init])
    fields = status_fields(zone_host.run("exec", "-u", user, name, "cat", "/proc/self/status"))
    assert (fields["Seccomp"], fields["NoNewPrivs"], fields["Uid"].split()[0]) == ("2", "0", user), fields


def test_exec_has_the_same_confinement(zone_host):
    name = zone_host.start()
    keys = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs")
    first = status_fields(zone_host.run("exec", name, "cat", "/proc/1/status"))
    second = status_fields(zone_host.run("exec", name, "cat", "/proc/self/status"))
    assert [second[key] for key in keys] == [first[key] for key in keys], (first, second)


def test_seccomp_denies_what_zones_do_not_need(zone_host):
    result = zone_host.zone("unshare -U true; echo $?; unshare -m true; echo $?; mount -t tmpfs x /tmp; echo $?")
    result.check("0" not in result.lines, "a call was allowed")


def test_seccomp_profile_from_a_file(zone_host):
    profile = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
    path = zone_host.path("profile.json", profile)
    zone_host.zone("echo x > /f && mkdir /d", "--security-opt", f"seccomp={path}").exits(1).says("not permitted")


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"])
def test_masked_file_is_empty(zone_host, path):
    result = zone_host.zone(f"if test -e {path}; then head -c 16 {path} | wc -c; else echo 0; fi")
    result.check(result.stdout == "0\n", "something can be read")


@pytest.mark.parametrize("path", ["/proc/acpi", "/proc/scsi", "/sys/firmware", "/proc/asound"])
def test_masked_directory_is_empty_and_read_only(zone_host, path):
    result = zone_host.zone(f"test -d {path} || exit 0; ls -A {path}; touch {path}/x 2>/dev/null && echo written")
    result.check(result.stdout == "", "something is there")


@pytest.mark.parametrize("path", ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"])
def test_read_only_path(zone_host, path):
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    zone_host.zone(f"echo x > {path}").exits(1).says("read-only")


def test_sys_is_read_only(zone_host):
    zone_host.zone("echo 1 > /sys/kernel/mm/ksm/run || echo x > /sys/power/state").exits(1).says(
        ("read-only", "no such")
    )
    zone_host.zone("grep ' /sys ' /proc/mounts | grep -q '[ ,]ro,'").exits(0)


def test_dev_holds_only_the_default_devices(zone_host):
    found = set(zone_host.zone("ls -A /dev").exits(0).lines)
    assert DEVICES_REQUIRED <= found <= DEVICES_ALLOWED, (DEVICES_REQUIRED - found, found - DEVICES_ALLOWED)
    zone_host.zone("echo x > /dev/null; head -c4 /dev/zero | wc -c; head -c4 /dev/urandom | wc -c").ok(stdout="4\n4\n")
    zone_host.zone("stat -c '%t %T %a' /dev/null").ok(stdout="1 3 666\n")


def test_disk_of_the_host_cannot_be_opened(zone_host):
    major, minor = host_disk()
    result = zone_host.zone(
        f"mknod /tmp/disk b {major} {minor}; head -c1 /tmp/disk | wc -c; dd if=/dev/zero of=/tmp/disk count=0"
    )
    result.check(result.lines[:1] == ["0"], "the disk can be read").says("not permitted")


def test_kernel_memory_cannot_be_opened(zone_host):
    for minor in (1, 2, 4, 11):
        zone_host.zone(f"mknod /tmp/m c 1 {minor} && head -c1 /tmp/m").exits(1).says("not permitted")


def test_only_three_descriptors(zone_host):
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    zone_host.defer(os.close, folder)
    result = zone_host.zone("ls /proc/1/fd; true", pass_fds=[folder])
    result.ok(stdout="0\n1\n2\n")
    name = zone_host.start(pass_fds=[folder])
    zone_host.run("exec", name, "sh", "-c", "ls /proc/$$/fd; true", pass_fds=[folder]).ok(stdout="0\n1\n2\n")


def test_closed_streams_give_no_host_descriptor(zone_host):
    def close():
        os.close(0)
        os.close(1)

    result = zone_host.zone("for f in 0 1 2; do readlink /proc/1/fd/$f >&2; done; true", preexec=close)
    targets = result.exits(0).stderr.split()
    result.check(
        all(re.match(r"/dev/null|pipe:|/$", target) for target in targets), "a descriptor of the host is there"
    )


@pytest.mark.parametrize("number", range(3, 14))
def test_working_directory_is_never_a_descriptor(zone_host, number):
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    zone_host.defer(os.close, folder)
    path = f"/proc/self/fd/{number}"
    result = zone_host.zone("pwd; ls -a", "-w", path, pass_fds=[folder])
    result.fails(125, "working directory")


def test_exec_working_directory_is_never_a_descriptor(zone_host):
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    zone_host.defer(os.close, folder)
    name = zone_host.start()
    for number in range(3, 12):
        result = zone_host.run("exec", "-w", f"/proc/self/fd/{number}", name, "ls", pass_fds=[folder])
        result.check(result.status in (125, 126, 127) and result.stdout == "", "it was allowed")


def test_link_to_a_descriptor_is_no_working_directory(own_store, import_rootfs):
    own_store.image = import_rootfs("links", *[layouts.symlink(f"cwd{n}", f"/proc/self/fd/{n}") for n in range(3, 12)])
    for number in range(3, 12):
        own_store.zone("ls -a", "-w", f"/cwd{number}").fails(125)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def test_own_executable_as_command_cannot_be_overwritten(zone_host):
    before = digest(zone_host.executable)
    # Below --init there is one more process of ours to attack, for as long as the zone runs.
    name = zone_host.start(options=["--init", "--cap-add", "SYS_PTRACE"])
    # Keeps descriptors of every executable that is not the image's, and writes through them, also once their
    # processes have ended. In subshells: a redirection that fails ends a shell.
    attack = (
        "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in /bin/*|'') ;; *)"
        " (exec 3<$p/exe && echo held && for i in 1 2 3; do (true > /proc/self/fd/3) && echo WRITTEN; usleep 1000; done)"
        " ;; esac; done; done"
    )
    attacker = zone_host.popen("exec", name, "sh", "-c", attack)
    script = zone_host.path("script", "#!/proc/self/exe\n", 0o755)
    for _ in range(10):
        zone_host.run("exec", name, "/proc/self/exe")
        zone_host.run("run", "--rm", "-v", f"{script}:/script", "busybox", "/script")
        zone_host.run("run", "--rm", "busybox", "/proc/self/exe")
    zone_host.run("exec", name, "touch", "/stop").exits(0)
    out, err = attacker.communicate(timeout=20)
    assert b"held" in out, ("the attack never had a chance", out, err)
    assert b"WRITTEN" not in out and b"busy" not in err.lower(), (out, err)
    assert digest(zone_host.executable) == before, "zonectl was overwritten from inside"


def test_own_executable_is_on_a_read_only_mount(zone_host):
    before = digest(zone_host.executable)
    # Pid 1 below --init is zonectl itself. Truncating makes the kernel look at the mount before the running program.
    script = "(exec 3</proc/1/exe && : > /proc/self/fd/3); (: > /proc/1/exe)"
    options = ["--init", "--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"]
    result = zone_host.zone(script, *options)
    result.check(result.status != 0, "the executable could be opened for writing")
    result.says(("read-only", "permission denied", "not permitted"))
    result.check("busy" not in result.stderr.lower(), "only the running program protects the file")
    assert digest(zone_host.executable) == before, "zonectl was overwritten from inside"


@pytest.mark.parametrize("path", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["tmp", "/tmp", "/"])
def test_rootfs_with_a_symlink_is_refused(own_store, import_rootfs, path, target):
    own_store.image = import_rootfs("evil", layouts.symlink(path, target), without=(path,))
    own_store.zone("true").fails(125, f"/{path}", "symbolic link")


def test_rootfs_with_a_file_for_a_directory_is_refused(own_store, import_rootfs):
    own_store.image = import_rootfs("odd", layouts.entry("proc", "text"), without=("proc",))
    own_store.zone("true").fails(125, "/proc")


def test_rootfs_without_the_usual_directories_works(own_store, import_rootfs):
    own_store.image = import_rootfs("bare", without=("dev", "proc", "sys", "tmp", "root"))
    own_store.zone("test -c /dev/null && test -r /proc/self/status && echo works").ok(stdout="works\n")


def test_volume_through_a_symlink_stays_inside(own_store, import_rootfs, test_folder):
    outside = own_store.directory("outside")
    own_store.image = import_rootfs(
        "links", layouts.symlink("out", "../../../../.." + outside), layouts.symlink("abs", outside)
    )
    source = own_store.directory("source")
    own_store.path("source/file", "text")
    for target in ("/out/x", "/abs/y"):
        own_store.zone(f"cat {target}/file", "-v", f"{source}:{target}").check(
            os.listdir(outside) == [], "the host was changed"
        )
    assert not os.path.ismount(outside)


def test_workdir_through_a_symlink_stays_inside(own_store, import_rootfs):
    outside = own_store.directory("outside")
    own_store.image = import_rootfs("links", layouts.symlink("out", "../../../../.." + outside))
    own_store.zone("pwd", "-w", "/out/deep").check(os.listdir(outside) == [], "the host was changed")


def exchange(folder, stop, swaps):
    """Swaps "swap" and "link" in a folder again and again, as a hostile zone that shares the volume would, and counts."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, two = os.fsencode(f"{folder}/swap"), os.fsencode(f"{folder}/link")
    while not stop.is_set():
        swaps[0] += libc.renameat2(-100, one, -100, two, 2) == 0


def test_symlinks_that_are_swapped_while_zones_start(zone_host):
    outside, volume, source = (zone_host.directory(name) for name in ("outside", "volume", "source"))
    zone_host.path("source/file", "text")
    os.mkdir(f"{volume}/swap")
    os.symlink("../" * 20 + outside, f"{volume}/link")
    stop, swaps = threading.Event(), [0]
    swapper = threading.Thread(target=exchange, args=(volume, stop, swaps))
    zone_host.defer(swapper.join)
    zone_host.defer(stop.set)
    swapper.start()
    number = worked = 0
    while number < 40 or swaps[0] < 100_000:
        number += 1
        assert number < 1000, f"only {swaps[0]} swaps: the test shows nothing"
        target = f"/volume/swap/{number}"
        options = ["-v", f"{volume}:/volume", "-v", f"{source}:{target}", "--tmpfs", f"{target}-t", "-w", f"{target}-w"]
        result = zone_host.zone("true", *options)
        result.check(result.status in (0, 125), "unexpected status")
        worked += result.status == 0
        result.check(os.listdir(outside) == [], "a path outside was made")
    assert worked, "the race was never won by the zone either: the test shows nothing"


def test_zone_cannot_trace_or_signal_the_host(zone_host):
    result = zone_host.zone("kill -0 -1; ls -d /proc/[0-9]* | wc -l")
    result.check(int(result.lines[-1]) <= 3, "processes of the host are seen")
