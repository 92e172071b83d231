# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Zones that boot as machines, with busybox's init; logging in."""

import os
import re
import time

import pytest
from leaks import alive, until

INITTAB = """::sysinit:/bin/echo machine is up
::sysinit:/bin/sh -c 'echo $$ >>/boots'
::once:/bin/sleep 4321
::shutdown:/bin/sh -c 'echo down >>/boots'
"""


@pytest.fixture
def boot(zone_host):
    """Starts a machine in the background and returns its name once it is up."""

    def start(*options, suffix="z", command=("init",), inittab=INITTAB):
        name = zone_host.name(suffix)
        table = zone_host.path(f"inittab-{suffix}", inittab)
        zone_host.defer(zone_host.remove, name)
        result = zone_host.run(
            "run", "-d", "--name", name, "-v", f"{table}:/etc/inittab:ro", *options, zone_host.image, *command
        )
        result.ok(stdout=f"{name}\n")
        assert until(lambda: boots(zone_host, name) >= 1), f"{name} does not boot"
        return name

    return start


def upper(host, name, path):
    return os.path.join(host.store, "zones", name, "upper", path.lstrip("/"))


def boots(host, name):
    """How often the machine has booted, by the file that it writes; it is on the disk."""
    try:
        with open(upper(host, name, "/boots"), encoding="ascii") as file:
            return sum(1 for line in file if line.strip() != "down")
    except FileNotFoundError:
        return 0


def inside(host, name, script):
    return host.run("exec", name, "sh", "-c", script).ok().stdout


@pytest.mark.parametrize("command", [("init",), ("/sbin/init",), ("busybox", "init"), ("/bin/busybox", "init")])
def test_an_init_is_found_out(zone_host, boot, command):
    name = boot(command=command)
    assert zone_host.inspect(name)["definition"]["initSystem"] == "busybox"
    assert inside(zone_host, name, "tr '\\0' '\\n' </proc/1/environ | grep ^container=") == "container=zone\n"


def test_what_is_no_init_is_none(zone_host):
    for options, command in ((["--systemd=false"], ["init"]), ([], ["sleep", "99"]), ([], ["sh", "-c", "sleep 99"])):
        name = zone_host.name("n")
        zone_host.run("create", "--name", name, *options, zone_host.image, *command).ok()
        assert "initSystem" not in zone_host.inspect(name)["definition"], command
        zone_host.run("rm", name).ok()
    name = zone_host.name("a")
    zone_host.run("create", "--name", name, "--systemd=always", zone_host.image, "sh").ok()
    assert zone_host.inspect(name)["definition"]["initSystem"] == "systemd"
    zone_host.run("rm", name).ok()


def test_bad_options(zone_host):
    image = zone_host.image
    zone_host.run("create", "--systemd=maybe", image, "init").fails(125, "--systemd", "always")
    zone_host.run("create", "--init", "--systemd=always", image, "init").fails(125, "--init", "contradict")
    for text in ("0", "-1", "many", "99999999999999999999"):
        zone_host.run("create", f"--max-users={text}", image, "init").fails(125, "--max-users", text)


def test_folders_of_a_machine(zone_host, boot):
    name = boot()
    mounts = {line.split()[1]: line.split() for line in inside(zone_host, name, "cat /proc/mounts").splitlines()}
    for path in ("/run", "/run/lock", "/tmp"):
        assert mounts[path][2] == "tmpfs" and "nosuid" in mounts[path][3] and "rw" in mounts[path][3].split(",")
    assert inside(zone_host, name, "stat -c %a /run /run/lock /tmp").split() == ["755", "1777", "1777"]
    assert inside(zone_host, name, "cat /run/host/container-manager") == "zonectl\n"
    machine = inside(zone_host, name, "cat /run/host/container-uuid").strip()
    assert re.fullmatch("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", machine), machine
    other = boot(suffix="other")
    assert inside(zone_host, other, "cat /run/host/container-uuid").strip() != machine


def test_the_console_is_the_log_and_a_terminal(zone_host, boot):
    name = boot(inittab=INITTAB + "console::respawn:-/bin/sh\n")
    terminal = zone_host.terminal("attach", name)
    terminal.line("tty; echo $((40+2))end")
    assert "/dev/console" in terminal.expect("42end") or "/dev/pts/0" in terminal.screen
    # Of the session, and not of the init: the shell has control of the terminal.
    terminal.line("cut -d' ' -f7 /proc/self/stat /proc/1/stat | tr '\\n' ' '; echo $((40+3))end")
    numbers = [int(word) for word in re.findall(r"(?m)\b\d+\b", terminal.expect("43end").splitlines()[-1])]
    assert numbers[0] != 0 and numbers[1] == 0, numbers


def test_stop_is_clean_and_quick(zone_host, boot):
    name = boot()
    begin = time.monotonic()
    zone_host.run("stop", name).ok()
    # busybox's init waits a second between TERM and KILL.
    assert time.monotonic() - begin < 6
    assert zone_host.listed()[name]["status"] == "stopped"
    assert zone_host.listed()[name]["exitCode"] == 0
    with open(upper(zone_host, name, "/boots"), encoding="ascii") as file:
        assert file.read().endswith("down\n"), "services were not shut down"


def test_restart(zone_host, boot):
    name = boot()
    zone_host.run("restart", name).ok()
    assert until(lambda: boots(zone_host, name) == 2)
    assert zone_host.status(name) == "running"


@pytest.mark.parametrize("policy", ["no", "on-failure", "unless-stopped"])
def test_reboot_inside(zone_host, boot, policy):
    name = boot("--restart", policy)
    first = zone_host.pid(name)
    zone_host.run("exec", name, "reboot").exits(0)
    assert until(lambda: boots(zone_host, name) == 2 and zone_host.status(name) == "running", 15)
    assert zone_host.pid(name) != first and not alive(first)
    zone_host.run("stop", name).ok()
    time.sleep(0.5)
    assert zone_host.status(name) == "stopped" and boots(zone_host, name) == 2


def test_power_off_inside(zone_host, boot):
    name = boot("--restart", "on-failure")
    zone_host.run("exec", name, "poweroff").exits(0)
    assert until(lambda: zone_host.status(name) == "stopped", 15)
    assert zone_host.listed()[name]["exitCode"] == 0
    time.sleep(0.5)
    assert zone_host.status(name) == "stopped" and boots(zone_host, name) == 1


def test_in_the_foreground(zone_host):
    table = zone_host.path("inittab", "::once:/sbin/poweroff\n")
    result = zone_host.run("run", "--rm", "-v", f"{table}:/etc/inittab:ro", zone_host.image, "init")
    result.exits(0)
    table = zone_host.path("inittab-again", "::once:/sbin/reboot\n")
    result = zone_host.run("run", "--rm", "-v", f"{table}:/etc/inittab:ro", zone_host.image, "init")
    result.exits(133).says("boot again")


def test_signals_of_the_foreground_stop_it(zone_host):
    table = zone_host.path("inittab", "::sysinit:/bin/echo machine is up\n::once:/bin/sleep 99\n")
    process = zone_host.popen("run", "--rm", "-v", f"{table}:/etc/inittab:ro", zone_host.image, "init")
    while b"machine is up" not in (line := process.stdout.readline()):
        assert line, "it does not boot"
    process.terminate()
    assert process.wait(20) == 0


def test_who_leaves_the_console_leaves_it_running(zone_host, boot):
    name = boot()
    attached = zone_host.popen("attach", name)
    time.sleep(0.3)
    attached.terminate()
    assert attached.wait(10) == 0
    assert zone_host.status(name) == "running" and boots(zone_host, name) == 1


# Control groups


def test_groups_are_the_zones_own(zone_host, boot):
    name = boot("--memory", "200M", "--pids-limit", "100")
    other = boot(suffix="other")
    if inside(zone_host, name, "stat -f -c %T /sys/fs/cgroup").strip() not in ("cgroup2fs", "UNKNOWN"):
        pytest.skip("this host has no control groups of version 2")
    assert inside(zone_host, name, "grep ^0: /proc/self/cgroup") == "0::/\n"
    assert other not in inside(zone_host, name, "find /sys/fs/cgroup -type d")
    # A group of its own, with a process in it.
    inside(zone_host, name, "mkdir /sys/fs/cgroup/own && echo $$ >/sys/fs/cgroup/own/cgroup.procs")
    assert inside(zone_host, name, "sh -c 'echo $$ >/sys/fs/cgroup/own/cgroup.procs; grep ^0: /proc/self/cgroup'") == (
        "0::/own\n"
    )
    # Its limits are where it cannot see them.
    limit = zone_host.cgroup_file(name, "memory.max", "memory.limit_in_bytes")
    for file in ("memory.max", "pids.max"):
        zone_host.run("exec", name, "sh", "-c", f"echo max >/sys/fs/cgroup/{file}")
    with open(limit, encoding="ascii") as file:
        assert int(file.read()) == 200 << 20
    # What an init does: then nothing can be put into the root of its groups, and exec still works.
    inside(zone_host, name, "mkdir /sys/fs/cgroup/all; for p in $(cat /sys/fs/cgroup/cgroup.procs); do"
           " echo $p >/sys/fs/cgroup/all/cgroup.procs; done 2>/dev/null; for c in $(cat /sys/fs/cgroup/cgroup.controllers); do"
           " echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done; true")
    assert inside(zone_host, name, "grep ^0: /proc/self/cgroup") == "0::/all\n"
    # Whatever groups it makes, the zone can be removed: names that are no text, paths longer than a path, threads.
    inside(zone_host, name, r"cd /sys/fs/cgroup; mkdir $(printf '\377\376') t t/u; echo threaded >t/u/cgroup.type;"
           " d=$(printf %0250d 1); for i in $(seq 16); do mkdir $d; cd $d || exit; done;"
           " mkdir $(printf %070d 1)")
    deep = zone_host.run("exec", name, "sh", "-c", "cd /sys/fs/cgroup; for i in $(seq 70); do mkdir d && cd d || exit 9; done")
    deep.exits(9).says("temporarily unavailable")
    zone_host.run("rm", "-f", name).ok()
    # Of a zone that is no machine they are read-only.
    zone_host.zone("mkdir /sys/fs/cgroup/own || mkdir /sys/fs/cgroup/unified/own").says("read-only")


# Logging in

PASSWD = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/nowhere:/bin/rc\n"


@pytest.fixture
def users(zone_host):
    return ["-v", zone_host.path("passwd", PASSWD) + ":/etc/passwd:ro", "--tmpfs", "/home/ann"]


def test_shell_logs_in(zone_host, boot, users):
    name = boot(*users, "-e", "SECRET=1")
    result = zone_host.run("shell", name, "echo $HOME $USER $SHELL $(pwd) $SECRET $0; id -un").ok()
    assert result.lines == ["/root root /bin/sh /root /bin/sh", "root"]
    zone_host.run("shell", "-u", "ann", name, "echo", "$HOME $LOGNAME $(pwd)").ok(
        stdout="/home/ann ann /home/ann\n"
    )
    zone_host.run("shell", "-u", "1000", name, "id -u").ok(stdout="1000\n")
    zone_host.run("shell", name, stdin="echo one; exit 7\n").exits(7)
    zone_host.run("shell", "-u", "carl", name).fails(125, "no user", "carl")
    zone_host.run("shell", "-u", "bob", name).fails(127, "no /bin/rc", "exec")
    zone_host.run("shell", "-u", "ann:users", name).fails(125, "group")


def test_shell_at_a_terminal(zone_host, boot, users):
    terminal = zone_host.terminal("shell", "-u", "ann", boot(*users))
    terminal.expect(r"\$ ")
    terminal.line("tty; echo $TERM$((40+2))end")
    assert "/dev/pts/" in terminal.expect("xterm42end")
    terminal.line("exit 5")
    assert terminal.wait() == 5


def test_shell_in_any_zone(zone_host):
    name = zone_host.start()
    zone_host.run("shell", name, "echo in").ok(stdout="in\n")
    zone_host.run("shell", zone_host.name("none"), "true").fails(125, "no zone")


def test_max_users(zone_host, boot):
    name = boot("--max-users", "2")
    assert inside(zone_host, name, "cat /etc/security/limits.d/zonectl.conf").split()[-4:] == [
        "*", "-", "maxsyslogins", "2",
    ]
    sessions = [zone_host.popen("shell", name, "echo in; sleep 999") for _ in range(2)]
    for session in sessions:
        assert session.stdout.readline() == b"in\n"
    zone_host.run("shell", name, "true").fails(125, "2 of at most 2", "exec")
    zone_host.run("exec", name, "true").ok()
    # However a session ends, its place is free.
    sessions[0].kill()
    sessions[0].wait()
    third = zone_host.popen("shell", name, "echo in; sleep 999")
    assert third.stdout.readline() == b"in\n"
    zone_host.run("shell", name, "true").fails(125, "2 of at most 2")
