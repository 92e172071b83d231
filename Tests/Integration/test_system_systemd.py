# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Zones that boot with systemd. Their programs are the host's own /usr, so that no system need be fetched; what is in the
image is the rest of a small Debian."""

import os
import shutil
import subprocess
import time

import pytest
from leaks import until

# Booting takes half a second; under emulation half a minute.
PATIENCE = 120
USERS = ("ann", "bob", "carl")


def system_users():
    """Lines of the host's users and groups that its programs expect."""
    lines = {}
    for file in ("passwd", "group"):
        with open(f"/etc/{file}", encoding="utf-8") as source:
            lines[file] = [line for line in source if int(line.split(":")[2]) < 1000 and not line.startswith("root:")]
    return lines


@pytest.fixture(scope="module")
def machine_tar(tmp_path_factory):
    """A root file system without /usr, but for what tells that there is systemd."""
    for path in ("/usr/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/login"):
        found = path if os.path.exists(path) else path.removeprefix("/usr")
        if not os.path.exists(found):
            pytest.skip(f"this machine has no {path}, which the zone would boot with (Debian packages systemd, login)")
    if not os.path.islink("/bin"):
        pytest.skip("this machine's /bin is not in /usr, so that its /usr is no whole system")
    root = tmp_path_factory.mktemp("machine") / "root"
    for folder in ("usr/sbin", "usr/lib/systemd", "etc/systemd/system", "var/log", "var/lib", "run", "tmp", "root",
                   "home/ann", "home/bob", "home/carl"):
        (root / folder).mkdir(parents=True)
    for link in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{link}"):
            (root / link).symlink_to(f"usr/{link}")
    (root / "usr/sbin/init").symlink_to("../lib/systemd/systemd")
    (root / "usr/lib/systemd/systemd").write_text("")
    (root / "var/run").symlink_to("../run")
    etc = root / "etc"
    for folder in ("pam.d", "security", "dbus-1", "ld.so.conf.d", "alternatives"):
        if os.path.isdir(f"/etc/{folder}"):
            shutil.copytree(f"/etc/{folder}", etc / folder, symlinks=True)
    for file in ("ld.so.cache", "login.defs", "nsswitch.conf", "os-release", "profile"):
        if os.path.exists(f"/etc/{file}"):
            shutil.copy(f"/etc/{file}", etc / file, follow_symlinks=False)
    users = system_users()
    people = [f"{name}:x:{2000 + index}:{2000 + index}::/home/{name}:/bin/bash\n" for index, name in enumerate(USERS)]
    (etc / "passwd").write_text("".join(["root:x:0:0:root:/root:/bin/bash\n", *users["passwd"], *people]))
    (etc / "group").write_text("".join(
        ["root:x:0:\n", *users["group"], *(f"{name}:x:{2000 + index}:\n" for index, name in enumerate(USERS))]))
    # Without a password: nobody but this test can reach the console.
    (etc / "shadow").write_text("".join(f"{name}::19000::::::\n" for name in ("root", *USERS)))
    (etc / "shadow").chmod(0o640)
    # Empty, but there: an id of its own, and no first boot, machine-id(5).
    (etc / "machine-id").write_text("")
    # What a host has for itself, and its network.
    for unit in ("systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"):
        (etc / "systemd/system" / unit).symlink_to("/dev/null")
    archive = root.parent / "machine.tar"
    subprocess.run(["tar", "-C", root, "--owner=0", "--group=0", "-cf", archive, "."], check=True, timeout=60)
    return archive


@pytest.fixture
def machine(own_store, machine_tar):
    """Boots a machine and returns its name once it is up."""
    own_store.import_image(machine_tar, "machine", ["/sbin/init"], timeout=PATIENCE).exits(0)

    def boot(*options):
        name = own_store.name("m")
        own_store.defer(own_store.remove, name)
        own_store.run(
            "run", "-d", "--name", name, "-v", "/usr:/usr:ro", *options, "machine", timeout=PATIENCE
        ).ok(stdout=f"{name}\n")
        if own_store.inspect(name)["definition"]["initSystem"] != "systemd":
            raise AssertionError("systemd is not found out")
        is_up(own_store, name)
        return name

    return boot


def is_up(host, name):
    """Waits until the machine has booted."""

    def state():
        result = host.run("exec", name, "systemctl", "is-system-running")
        return result.stdout.strip() if result.stdout.strip() in ("running", "degraded") else None

    if not until(state, PATIENCE, 0.2):
        raise AssertionError(f"it does not come up: {host.run('exec', name, 'systemctl', 'list-jobs')}")


def has_groups(host, name):
    return host.run("exec", name, "stat", "-fc", "%T", "/sys/fs/cgroup").stdout.strip() == "cgroup2fs"


def test_boots_and_runs_services(own_store, machine):
    name = machine()
    if not has_groups(own_store, name):
        pytest.skip("this host has no control groups of version 2, which systemd needs")
    identity = own_store.run("exec", name, "cat", "/etc/machine-id", "/run/host/container-uuid").ok().lines
    assert len(identity) == 2 and identity[0] == identity[1], identity
    unit = ("systemd-run", "--wait", "--pipe", "--quiet", "-p", "MemoryMax=64M", "sh", "-c")
    own_store.run("exec", name, *unit, "grep ^0: /proc/self/cgroup", timeout=PATIENCE).exits(0)
    own_store.run("exec", name, *unit, "exit 7", timeout=PATIENCE).exits(7)
    own_store.run("shell", "-u", "ann", name, "id -un").ok(stdout="ann\n")


def test_stop_reboot_and_power_off(own_store, machine):
    name = machine("--restart", "on-failure")
    boot = own_store.run("exec", name, "cat", "/proc/1/stat").ok().stdout.split()[21]
    own_store.run("exec", name, "systemctl", "reboot", timeout=PATIENCE)

    def again():
        result = own_store.run("exec", name, "cat", "/proc/1/stat")
        return result.status == 0 and result.stdout.split()[21] != boot

    assert until(again, PATIENCE, 0.2), "it does not boot again"
    is_up(own_store, name)
    own_store.run("stop", name, timeout=PATIENCE).ok()
    assert own_store.listed()[name]["exitCode"] == 0
    own_store.run("start", name, timeout=PATIENCE).ok()
    is_up(own_store, name)
    own_store.run("exec", name, "systemctl", "poweroff", timeout=PATIENCE)
    assert until(lambda: own_store.status(name) == "stopped", PATIENCE, 0.2)
    time.sleep(1)
    assert own_store.listed()[name]["status"] == "stopped" and own_store.listed()[name]["exitCode"] == 0


def log_in(host, name, user):
    terminal = host.terminal("exec", "-it", name, "login", user)
    terminal.expect(r"[$#] |too many logins|Permission denied", timeout=PATIENCE)
    return terminal


def test_max_users_where_pam_counts(own_store, machine):
    if not os.path.exists("/etc/pam.d/login"):
        pytest.skip("this machine has no /etc/pam.d/login")
    name = machine("--max-users", "2")
    own_store.run("exec", name, "sh", "-c", "test -e /run/utmp || : >/run/utmp").ok()
    inside = [log_in(own_store, name, user) for user in USERS[:2]]
    assert not any("too many" in terminal.screen for terminal in inside), [str(terminal) for terminal in inside]
    assert "too many logins" in log_in(own_store, name, USERS[2]).screen
    # Those inside count for logins from outside, too; root is never kept out by PAM.
    own_store.run("shell", name, "true").fails(125, "of at most 2")
    assert "too many" not in log_in(own_store, name, "root").screen
