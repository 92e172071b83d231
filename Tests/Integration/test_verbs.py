# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""The other verbs: ls, inspect, exec, kill, stop, rm, version, help; prefixes; --init; forwarded signals."""

import os
import re
import signal

import pytest
from leaks import alive, read, until

TRAP = ["sh", "-c", "trap 'echo got TERM; exit 5' TERM; echo ready; while :; do usleep 20000; done"]
ENGINE_FIELDS = {"ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"}


def zombies_below(pid):
    """Numbers of the zombie children of a process."""
    children = read(f"/proc/{pid}/task/{pid}/children").split()
    return [child for child in children if read(f"/proc/{child}/stat").rpartition(")")[2][1:2] == "Z"]


def test_ls_is_empty_at_first(zone_host):
    assert zone_host.run("ls", "--json").ok().json == []
    zone_host.run("ls", "-q").ok(stdout="")
    assert len(zone_host.run("ls").ok().lines) == 1


def test_ls_table(zone_host):
    name = zone_host.start(command=["sleep", "1234"])
    result = zone_host.run("ls").ok()
    head, row = result.lines
    result.check(head.split() == ["NAME", "STATUS", "PID", "IMAGE", "CREATED", "COMMAND"], "not the columns")
    result.check(row.split()[:4] == [name, "running", str(zone_host.pid(name)), "busybox:latest"], "not the values")
    result.check("sleep 1234" in row, "the command is missing")
    result.check(
        row.index(name) == head.index("NAME") and row.index("running") == head.index("STATUS"),
        "columns are not aligned",
    )


def test_ls_quiet(zone_host):
    names = [zone_host.start("b"), zone_host.start("a")]
    result = zone_host.run("ls", "-q").ok()
    result.check(sorted(result.lines) == sorted(names), "not the names")


def test_ls_json(zone_host):
    name = zone_host.start()
    zone = zone_host.listed()[name]
    assert ENGINE_FIELDS | {"name", "image", "command"} <= set(zone), zone
    assert (zone["id"], zone["status"], zone["image"], zone["owner"]) == (
        name,
        "running",
        "busybox:latest",
        "root",
    ), zone
    assert isinstance(zone["pid"], int) and alive(zone["pid"]) and isinstance(zone["command"], list), zone
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", zone["created"]), zone
    assert re.fullmatch(r"1\.\d+\.\d+", zone["ociVersion"]), zone
    assert "exitCode" not in zone, zone


def test_inspect(zone_host):
    name = zone_host.start(options=["--hostname", "inspected", "--memory", "64M"])
    zone = zone_host.inspect(name)
    assert ENGINE_FIELDS | {"cgroups", "config", "definition"} <= set(zone), zone
    config = zone["config"]
    assert config["hostname"] == "inspected" and config["process"]["args"] == ["sleep", "1000"], config
    assert config["linux"]["resources"]["memory"]["limit"] == 64 << 20, config
    assert {"pid", "mount", "network", "ipc", "uts", "cgroup"} <= {
        n["type"] for n in config["linux"]["namespaces"]
    }, config


def test_inspect_several(zone_host):
    names = [zone_host.start("a"), zone_host.start("b")]
    assert [zone["name"] for zone in zone_host.run("inspect", *names).ok().json] == names


def test_inspect_unknown(zone_host):
    zone_host.run("inspect", "nothing").fails(125, "nothing", ("no zone", "not found", "no such"), stdout=None)


def test_exec(zone_host):
    name = zone_host.start()
    zone_host.run("exec", name, "echo", "-n", "a  b").ok(stdout="a  b")
    zone_host.run("exec", name, "sh", "-c", "echo err >&2; exit 6").exits(6).says("err")
    zone_host.run("exec", name, "hostname").ok(stdout=name + "\n")
    zone_host.run("exec", name, "sh", "-c", "kill -9 $$").exits(137)


def test_exec_sees_the_zones_processes_and_environment(zone_host):
    name = zone_host.start(options=["-e", "A=zone", "-w", "/etc"])
    zone_host.run("exec", name, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo $A; pwd").ok(
        stdout="sleep 1000 zone\n/etc\n"
    )


def test_exec_options(zone_host):
    name = zone_host.start(options=["-e", "A=zone"])
    result = zone_host.run(
        "exec",
        "-e",
        "A=mine",
        "-e",
        "B=2",
        "-w",
        "/tmp",
        "-u",
        "7:8",
        name,
        "sh",
        "-c",
        "echo $A $B $(pwd) $(id -u) $(id -g)",
    )
    result.ok(stdout="mine 2 /tmp 7 8\n")


def test_exec_stdin(zone_host):
    name = zone_host.start()
    zone_host.run("exec", name, "cat", stdin="no\n").ok(stdout="")
    zone_host.run("exec", "-i", name, "cat", stdin="yes\n").ok(stdout="yes\n")


def test_exec_errors(zone_host):
    name = zone_host.start()
    zone_host.run("exec", name, "no-such-command").fails(127, "no-such-command", "not found")
    zone_host.run("exec", name, "/etc/passwd").fails(126, "/etc/passwd", "permission denied")
    zone_host.run("exec", "-u", "no-such-user", name, "id").fails(125, "no-such-user")
    zone_host.run("exec", "-w", "/no/such/folder", name, "id").fails(125, "/no/such/folder")
    zone_host.run("exec", name).fails(125, "command")
    zone_host.run("exec", "nothing", "true").fails(125, "nothing")


def test_exec_in_a_stopped_zone(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, "busybox", "true").ok()
    zone_host.run("exec", name, "true").fails(125, name, ("stopped", "not running"))


def test_exec_ends_when_the_zone_ends(zone_host):
    name = zone_host.start()
    process = zone_host.popen("exec", name, "sleep", "1000")
    zone_host.run("exec", name, "sh", "-c", "until pidof sleep | grep -q ' '; do usleep 10000; done").exits(0)
    zone_host.run("kill", name).exits(0)
    assert process.wait(20) == 137
    zone_host.finish(name).exits(137)


@pytest.mark.parametrize("word", ["USR1", "SIGUSR1", "usr1", "10"])
def test_kill_with_a_signal(zone_host, word):
    script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do usleep 20000; done"
    name = zone_host.start(command=["sh", "-c", script])
    assert zone_host.process(name).stdout.readline() == b"ready\n"
    zone_host.run("kill", "-s", word, name).ok()
    result = zone_host.finish(name).exits(5)
    result.check("got it" in result.stdout, "the signal did not arrive")


def test_kill_is_sigkill_by_default(zone_host):
    name = zone_host.start(command=TRAP)
    zone_host.run("kill", name).ok()
    zone_host.finish(name).exits(137)
    assert until(lambda: zone_host.status(name) == "stopped", 5)


@pytest.mark.parametrize("word", ["NOPE", "", "0x9", "65", "-1", "0", "SIGSIGTERM"])
def test_kill_with_a_bad_signal(zone_host, word):
    name = zone_host.start()
    zone_host.run("kill", "-s", word, name).fails(125, "signal")
    assert zone_host.status(name) == "running"


def test_kill_a_stopped_zone(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, "busybox", "true").ok()
    zone_host.run("kill", name).fails(125, name, ("stopped", "not running"))


def test_stop_is_graceful(zone_host):
    name = zone_host.start(command=TRAP)
    assert zone_host.process(name).stdout.readline() == b"ready\n"
    zone_host.run("stop", name).exits(0)
    result = zone_host.finish(name).exits(5)
    result.check("got TERM" in result.stdout, "TERM did not arrive")
    assert zone_host.listed()[name]["exitCode"] == 5


def test_stop_kills_after_the_timeout(zone_host):
    # A pid 1 without a handler ignores TERM.
    name = zone_host.start()
    zone_host.run("stop", "-t", "1", name).exits(0)
    zone_host.finish(name).exits(137)


def test_stop_at_once(zone_host):
    name = zone_host.start(command=["sh", "-c", "trap '' TERM; sleep 1000; sleep 1000"])
    zone_host.run("stop", "-t", "0", name).exits(0)
    zone_host.finish(name).exits(137)


def test_stop_a_stopped_zone_is_nothing_to_do(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, "busybox", "true").ok()
    result = zone_host.run("stop", name)
    result.check(result.status == 0 or result.fails(125, name), "neither done nor refused")


@pytest.mark.parametrize("seconds", ["x", "-5", "", "1e9"])
def test_stop_with_a_bad_timeout(zone_host, seconds):
    name = zone_host.start()
    zone_host.run("stop", "-t", seconds, name).fails(125)
    assert zone_host.status(name) == "running"


def test_rm_of_a_running_zone_is_refused(zone_host):
    name = zone_host.start()
    zone_host.run("rm", name).fails(125, name, "running", "-f")
    assert zone_host.status(name) == "running"


def test_rm_with_force(zone_host):
    name = zone_host.start()
    zone_host.run("rm", "-f", name).exits(0)
    zone_host.finish(name).exits(137)
    assert name not in zone_host.listed()


def test_several_names_with_a_bad_one(zone_host):
    first, second = zone_host.start("first"), zone_host.start("second")
    zone_host.run("rm", "-f", first, "nothing-here", second).fails(125, "nothing-here", stdout=None)
    assert zone_host.listed() == {}


def test_unique_prefix(zone_host):
    name = zone_host.start("longname")
    short = zone_host.name("long")
    zone_host.run("exec", short, "echo", "x").ok(stdout="x\n")
    assert zone_host.run("inspect", short).ok().json[0]["name"] == name
    zone_host.run("kill", short).ok()
    zone_host.finish(name)
    zone_host.run("rm", short).exits(0)


def test_ambiguous_prefix(zone_host):
    one, two = zone_host.start("same-1"), zone_host.start("same-2")
    zone_host.run("kill", zone_host.name("same")).fails(125, zone_host.name("same"), one, two)
    assert [zone_host.status(name) for name in (one, two)] == ["running", "running"]


def test_exact_name_wins_over_a_prefix(zone_host):
    short = zone_host.start("x")
    zone_host.start("x-longer")
    zone_host.run("exec", short, "hostname").ok(stdout=short + "\n")


def test_init_is_pid_one_and_the_command_is_below(zone_host):
    zone_host.zone("exit 4", "--init").exits(4)
    result = zone_host.zone("echo $$", "--init").ok()
    result.check(result.stdout.strip() != "1", "the command is pid 1")


def test_init_reaps_zombies(zone_host):
    script = "for i in 1 2 3; do (sleep 0.01 &); done; touch /done; exec sleep 1000"
    name = zone_host.start(command=["sh", "-c", script], options=["--init"])
    pid = zone_host.pid(name)
    zone_host.run("exec", name, "sh", "-c", "until test -e /done; do usleep 10000; done").exits(0)

    def only_the_command():
        children = read(f"/proc/{pid}/task/{pid}/children").split()
        return len(children) == 1 and not zombies_below(pid)

    assert until(only_the_command, 5), (read(f"/proc/{pid}/task/{pid}/children"), zombies_below(pid))


def test_init_forwards_signals(zone_host):
    name = zone_host.start(command=TRAP, options=["--init"])
    assert zone_host.process(name).stdout.readline() == b"ready\n"
    zone_host.run("kill", "-s", "TERM", name).ok()
    result = zone_host.finish(name).exits(5)
    result.check("got TERM" in result.stdout, "the signal did not arrive")


def test_init_makes_default_signals_work(zone_host):
    name = zone_host.start(options=["--init"])
    zone_host.run("stop", "-t", "20", name, timeout=10).exits(0)
    zone_host.finish(name).exits(143)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_zonectl_forwards_signals(zone_host, name):
    script = f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do usleep 20000; done"
    zone = zone_host.start(command=["sh", "-c", script])
    process = zone_host.process(zone)
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, getattr(signal, f"SIG{name}"))
    result = zone_host.finish(zone).exits(5)
    result.check(f"got {name}" in result.stdout, "the signal did not arrive")


def test_stopped_and_continued_zonectl_goes_on(zone_host):
    name = zone_host.start(command=["sh", "-c", "until test -e /go; do usleep 10000; done; echo end; exit 6"])
    process = zone_host.process(name)
    os.kill(process.pid, signal.SIGSTOP)
    zone_host.run("exec", name, "touch", "/go").ok()
    os.kill(process.pid, signal.SIGCONT)
    zone_host.finish(name).exits(6)


@pytest.mark.anyone
def test_version(plain_host):
    result = plain_host.run("version").ok()
    lines = result.lines
    result.check(len(lines) == 3 and re.fullmatch(r"zonectl version \S+", lines[0]), "not three lines")
    result.check(lines[1].startswith("commit: ") and lines[2] == "spec: 1.2.0", "not commit and spec")
    plain_host.run("--version").ok(stdout=result.stdout)
    assert plain_host.run("version", "--json").ok().json["spec"] == "1.2.0"


@pytest.mark.anyone
@pytest.mark.parametrize(
    "verb", ["run", "ls", "inspect", "exec", "kill", "stop", "rm", "image ls", "image import", "version"]
)
def test_help(plain_host, verb):
    assert verb in plain_host.run("help").ok().stdout
    one, two = plain_host.run("help", *verb.split()).ok(), plain_host.run(*verb.split(), "--help").ok()
    one.check(verb in one.stdout and one.stdout == two.stdout, "the two forms differ")
    plain_host.run("--help").ok()
