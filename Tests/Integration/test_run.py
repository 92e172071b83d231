# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`zonectl run`: statuses, streams, arguments, environment, users, names, and that nothing stays."""

import os
import re
import signal
import tarfile
import time

import layouts
import pytest


@pytest.mark.parametrize("status", [0, 1, 3, 42, 255])
def test_status_is_the_programs_own(zone_host, status):
    zone_host.zone(f"exit {status}").exits(status)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_status_after_a_signal_is_128_more(zone_host, number):
    # As pid 1 a program cannot kill itself by a signal without a handler; below init it can.
    result = zone_host.run("run", "--rm", "--init", "busybox", "sh", "-c", f"kill -{int(number)} $$")
    result.exits(128 + number)


def test_pid_one_that_is_killed_gives_137(zone_host):
    name = zone_host.start()
    os.kill(zone_host.pid(name), signal.SIGKILL)
    zone_host.finish(name).exits(137)


@pytest.mark.parametrize("command", [["nothing-of-that-name"], ["/no/such/file"], ["./relative"]])
def test_unknown_command_is_127(zone_host, command):
    zone_host.run("run", "--rm", "busybox", *command).fails(127, command[0], ("not found", "no such file"))


@pytest.mark.parametrize("command", ["/etc/passwd", "/etc", "/"])
def test_command_that_cannot_be_executed_is_126(zone_host, command):
    zone_host.run("run", "--rm", "busybox", command).fails(126, command, "permission denied")


def test_command_for_another_machine_is_126(zone_host):
    path = zone_host.path("odd", "\x7fELF nonsense", 0o755)
    zone_host.run("run", "--rm", "-v", f"{path}:/odd:ro", "busybox", "/odd").fails(126, "/odd", "format")


def test_the_images_own_command_runs_without_one(zone_host):
    # Its shell reads the end of /dev/null at once.
    zone_host.run("run", "--rm", "busybox").ok(stdout="")


def test_stdin_is_empty_without_i(zone_host):
    zone_host.run("run", "--rm", "busybox", "cat", stdin="not for you\n").ok(stdout="")


def test_stdin_passes_with_i(zone_host):
    zone_host.run("run", "--rm", "-i", "busybox", "cat", stdin="one\ntwo\n").ok(stdout="one\ntwo\n")


def test_much_data_passes_through_both_ways(zone_host):
    text = "0123456789abcdef" * 65536
    result = zone_host.run("run", "--rm", "-i", "busybox", "cat", stdin=text)
    assert result.status == 0 and result.stdout == text, f"status {result.status}, {len(result.stdout)} bytes"


def test_stdout_and_stderr_stay_apart(zone_host):
    result = zone_host.zone("echo out; echo err >&2; exit 4").exits(4)
    result.check((result.stdout, result.stderr) == ("out\n", "err\n"), "streams are mixed up")


def test_arguments_arrive_unchanged(zone_host):
    words = ["a b", "", "$HOME", "-x", "--", "--rm", "ü\n", "'\"\\", "*"]
    result = zone_host.run("run", "--rm", "busybox", "printf", "[%s]", *words).exits(0)
    result.check(result.stdout == "".join(f"[{word}]" for word in words), "arguments differ")


def test_options_end_at_the_image(zone_host):
    zone_host.run("run", "--rm", "busybox", "echo", "--name", "x", "-t").ok(stdout="--name x -t\n")


def test_combined_and_assigned_options(zone_host):
    name = zone_host.name()
    zone_host.run("run", "--rm=true", f"--name={name}", "-ie", "A=1", "busybox", "sh", stdin="echo $A").ok(stdout="1\n")
    zone_host.run("run", "--rm=false", "--name", name, "busybox", "true").ok()
    assert zone_host.status(name) == "stopped"
    zone_host.run("rm", name).exits(0)


def test_environment(zone_host):
    result = zone_host.run(
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "EMPTY=",
        "--env",
        "B=x=y z",
        "-e",
        "FROM_HERE",
        "-e",
        "NOT_SET_HERE",
        "busybox",
        "env",
        env={"FROM_HERE": "host value", "SECRET": "no"},
    ).exits(0)
    values = dict(line.split("=", 1) for line in result.lines)
    expected = {"A": "1", "EMPTY": "", "B": "x=y z", "FROM_HERE": "host value"}
    result.check({key: values.get(key) for key in expected} == expected, f"not {expected}")
    result.check("SECRET" not in values and "NOT_SET_HERE" not in values, "too much is in the environment")
    result.check("/bin" in values.get("PATH", "") and values.get("HOME") == "/root", "PATH or HOME is missing")
    result.check("HOSTNAME" in values, "HOSTNAME is missing")


def test_later_environment_wins(zone_host):
    zone_host.zone("echo $A", "-e", "A=1", "-e", "A=2").ok(stdout="2\n")


def test_env_file(zone_host):
    path = zone_host.path("env", "# comment\n\nA=from file\nB=2\nFROM_HERE\n")
    result = zone_host.zone("echo $A,$B,$FROM_HERE", "--env-file", path, "-e", "B=3", env={"FROM_HERE": "h"})
    result.ok(stdout="from file,3,h\n")


def test_env_file_errors(zone_host):
    missing = zone_host.path("no-such-env")
    zone_host.zone("true", "--env-file", missing).fails(125, missing, "no such file")
    bad = zone_host.path("bad-env", "=value\n")
    zone_host.zone("true", "--env-file", bad).fails(125, bad)


def test_workdir(zone_host):
    zone_host.zone("pwd", "-w", "/etc").ok(stdout="/etc\n")


def test_workdir_is_made_where_absent(zone_host):
    zone_host.zone("pwd; ls -ld . | cut -c1-10", "-w", "/new/deep/one").ok(stdout="/new/deep/one\ndrwxr-xr-x\n")


def test_workdir_must_be_absolute_and_a_directory(zone_host):
    zone_host.zone("pwd", "-w", "relative").fails(125, "relative")
    zone_host.zone("pwd", "-w", "/etc/passwd").fails(125, "/etc/passwd", "not a directory")


@pytest.mark.parametrize(
    "user, expected",
    [
        ("0", "0 0"),
        ("root", "0 0"),
        ("1000", "1000 1000"),
        ("1234", "1234 0"),
        ("1000:1000", "1000 1000"),
        ("1234:5678", "1234 5678"),
        ("ann", "1000 1000"),
        ("ann:club", "1000 2000"),
        ("ann:7", "1000 7"),
        ("5:club", "5 2000"),
    ],
)
def test_user(own_store, import_rootfs, user, expected):
    own_store.image = import_rootfs("users")
    own_store.zone("echo $(id -u) $(id -g)", "-u", user).ok(stdout=expected + "\n")


def test_user_gets_groups_and_home(own_store, import_rootfs):
    own_store.image = import_rootfs("users", layouts.folder("home/ann"))
    own_store.zone("echo $(id -G) $HOME", "-u", "ann").ok(stdout="1000 2000 /home/ann\n")


@pytest.mark.parametrize("target", ["fifo", "/dev/zero", "/proc/self/fd/0", "passwd"])
def test_user_of_an_image_with_a_hostile_passwd(own_store, busybox, target):
    """Looking up a user must neither wait nor read without end."""
    members = [member for member in layouts.rootfs(busybox) if member[0].name not in ("etc/passwd", "etc/group")]
    for name in ("etc/passwd", "etc/group"):
        fifo = layouts.entry(name, kind=tarfile.FIFOTYPE)
        members.append(fifo if target == "fifo" else layouts.symlink(name, target))
    path = own_store.folder / "hostile.tar"
    path.write_bytes(layouts.archive(members))
    own_store.import_image(path, "hostile").exits(0)
    for user in ("ann", "0:club"):
        result = own_store.run("run", "--rm", "-u", user, "hostile", "true", timeout=10)
        result.fails(125, user)
    result = own_store.run("run", "--rm", "-u", "0:0", "hostile", "true", timeout=10)
    result.check(result.status == 0 or result.fails(125, "0:0"), "neither started nor refused")


@pytest.mark.parametrize(
    "user",
    [
        "nobody-knows",
        "root:nogroup-knows",
        "",
        ":",
        "1:",
        ":1",
        "-1",
        "4294967295",
        "4294967296",
        "0x0",
        "99999999999999999999",
        "1000:-1",
        "1 2",
    ],
)
def test_bad_user(zone_host, user):
    zone_host.zone("id", "--user", user).fails(125, "user")


def test_hostname(zone_host):
    result = zone_host.zone("hostname", "--hostname", "Box-1").ok(stdout="Box-1\n")
    result.check(os.uname().nodename != "Box-1", "the host's name was changed")


def test_hostname_is_the_zones_name_by_default(zone_host):
    zone_host.zone("hostname", "--name", zone_host.name("abc")).ok(stdout=zone_host.name("abc") + "\n")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a/b"])
def test_bad_hostname(zone_host, name):
    zone_host.zone("hostname", "--hostname", name).fails(125, "hostname")


def test_entrypoint(zone_host):
    zone_host.run("run", "--rm", "--entrypoint", "/bin/echo", "busybox", "a", "b").ok(stdout="a b\n")
    zone_host.run("run", "--rm", "--entrypoint", "pwd", "busybox").ok(stdout="/\n")


def test_image_config_is_applied_and_can_be_overridden(own_store, busybox, test_folder):
    layer = layouts.archive(layouts.rootfs(busybox))
    config = {"Entrypoint": ["echo", "E"], "Cmd": ["C"], "Env": ["A=image"], "WorkingDir": "/srv/app", "User": "ann"}
    layout = layouts.Layout(test_folder / "layout").image("configured", [layer], **config)
    own_store.import_image(layout.path).exits(0)
    own_store.run("run", "--rm", "configured").ok(stdout="E C\n")
    own_store.run("run", "--rm", "configured", "X").ok(stdout="E X\n")
    script = ["--entrypoint", "sh", "configured", "-c", "echo $A $(pwd) $(id -u)"]
    own_store.run("run", "--rm", *script).ok(stdout="image /srv/app 1000\n")
    own_store.run("run", "--rm", "-e", "A=me", "-w", "/", "-u", "0", *script).ok(stdout="me / 0\n")


def test_labels_are_kept(zone_host):
    name = zone_host.start(options=["--label", "a=b", "--label", "org.example.x=1 2"])
    text = str(zone_host.inspect(name))
    assert "org.example.x" in text and "1 2" in text, text


def test_names_are_made_up(zone_host):
    names = []
    for _ in range(3):
        zone_host.run("run", "busybox", "true").ok()
        names = list(zone_host.listed())
        for name in names:
            zone_host.defer(zone_host.remove, name)
    mine = [name for name in names if re.fullmatch(r"[a-z]+-[a-z]+(-?[0-9]+)?", name)]
    assert len(mine) == len(set(mine)) == 3, names


def test_name_that_is_taken(zone_host):
    name = zone_host.start()
    zone_host.run("run", "--rm", "--name", name, "busybox", "true").fails(125, name, ("taken", "exists", "in use"))
    assert zone_host.status(name) == "running", "the first zone was touched"


def test_name_of_a_stopped_zone_is_taken_too(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, "busybox", "sh", "-c", "exit 7").exits(7)
    zone_host.run("run", "--rm", "--name", name, "busybox", "true").fails(125, name)
    assert zone_host.listed()[name]["exitCode"] == 7


@pytest.mark.parametrize("name", ["a", "A.b_c-1", "0", "x" * 63])
def test_good_names(zone_host, name):
    zone_host.run("run", "--rm", "--name", name, "busybox", "true").ok()


def test_rm_leaves_nothing(zone_host):
    zone_host.zone("echo x > /file", "--name", zone_host.name()).ok()
    zone_host.run("ls", "-q").ok(stdout="")


def test_without_rm_it_stays_as_stopped(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, "busybox", "sh", "-c", "exit 9").exits(9)
    zone = zone_host.listed()[name]
    assert (zone["status"], zone["exitCode"], zone["pid"]) == ("stopped", 9, 0), zone
    zone_host.run("rm", name).exits(0)
    assert name not in zone_host.listed()


def test_twenty_zones_at_once(zone_host):
    names = [zone_host.name(f"n{number}") for number in range(20)]
    # Each waits for the file "go", so that all of them run at one moment.
    folder = zone_host.directory("shared")
    wait = "while [ ! -e /shared/go ]; do usleep 20000; done; hostname"
    running = [
        zone_host.popen("run", "--rm", "--name", name, "-v", f"{folder}:/shared", "busybox", "sh", "-c", wait)
        for name in names
    ]
    deadline = time.monotonic() + 30
    while sum(zone["status"] == "running" for zone in zone_host.listed().values()) < 20:
        assert time.monotonic() < deadline, zone_host.listed()
    zone_host.path("shared/go", "")
    for name, process in zip(names, running):
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out.decode(), err.decode()) == (0, name + "\n", ""), (
            name,
            process.returncode,
            out,
            err,
        )
    zone_host.run("ls", "-q").ok(stdout="")


def test_the_image_stays_clean(zone_host):
    layers = os.path.join(zone_host.store, "layers")
    before = layouts.tree_digest(layers)
    script = (
        "rm -rf /bin/vi /etc/passwd; echo x > /new; echo x >> /etc/group; chmod 777 /etc; mkdir -p /a/b/c;"
        " mv /root /moved; chown 5:5 /etc/group; ln -s /x /link; touch -d @0 /bin;"
        " for d in /*; do echo x > $d/written; done 2>/dev/null; true"
    )
    zone_host.zone(script).exits(0)
    assert layouts.tree_digest(layers) == before, "the image was changed"
    zone_host.zone("test -e /bin/vi && test ! -e /new && id -un").ok(stdout="root\n")


def test_zones_do_not_see_each_others_files(zone_host):
    first = zone_host.start("one", ["sh", "-c", "echo mine > /file; exec sleep 1000"])
    second = zone_host.start("two")
    zone_host.run("exec", second, "cat", "/file").exits(1)
    zone_host.run("exec", first, "cat", "/file").ok(stdout="mine\n")


def test_orphans_end_with_the_zone(zone_host):
    zone_host.zone("sleep 1000 & setsid sleep 1000 & true").exits(0)


def test_network_host(zone_host):
    links = " ".join(sorted(os.listdir("/sys/class/net")))
    zone_host.zone("echo $(ls /sys/class/net)", "--network", "host").ok(stdout=links + "\n")


def test_environment_gives_the_folders(zone_host):
    env = {"ZONECTL_ROOT": zone_host.root, "ZONECTL_STORE": zone_host.store}
    zone_host.execute([zone_host.executable, "run", "--rm", "busybox", "echo", "x"], env=env).ok(stdout="x\n")
