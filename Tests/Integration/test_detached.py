# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Zones in the background: run -d, create, start, stop, restart, attach, wait, rename, pause; their keepers."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest
from leaks import alive, read, until

COUNT = "i=0; while :; do echo line $i; i=$((i+1)); usleep 50000; done"


def ended(zone_host, name, seconds=10.0):
    """Waits until the zone is stopped, and returns how `ls --json` shows it."""
    assert until(lambda: zone_host.status(name) == "stopped", seconds), zone_host.listed()
    return zone_host.listed()[name]


# Making and starting


def test_run_in_the_background(zone_host):
    name = zone_host.detached()
    assert zone_host.status(name) == "running"
    keeper = zone_host.keeper(name)
    assert keeper, "no keeper"
    # In a session of its own, with nothing of the caller's.
    assert os.getsid(keeper) == keeper
    assert os.readlink(f"/proc/{keeper}/cwd") == "/"
    assert {os.readlink(f"/proc/{keeper}/fd/{number}") for number in range(3)} == {"/dev/null"}
    zone_host.run("exec", name, "true").ok()


def test_the_caller_is_not_held_up(zone_host):
    """`x=$(zonectl run -d …)` returns, though the keeper lives on."""
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    command = zone_host.command("run", "-d", "--name", name, zone_host.image, "sleep", "1000")
    result = subprocess.run(
        ["sh", "-c", 'x=$("$@"); echo "$x"', "sh", *command], capture_output=True, text=True, timeout=20
    )
    assert result.stdout == name + "\n" and result.stderr == "", result


def test_a_secret_is_in_no_command_line(zone_host):
    name = zone_host.detached(options=["-e", "PASSWORD=swordfish"])
    lines = [read(f"/proc/{pid}/cmdline") + read(f"/proc/{pid}/environ") for pid in [zone_host.keeper(name)]]
    assert not any("swordfish" in line for line in lines), lines


def test_a_keeper_is_small(zone_host):
    name = zone_host.detached()
    keeper = zone_host.keeper(name)

    def size():
        fields = dict(line.split(":", 1) for line in read(f"/proc/{keeper}/smaps_rollup").splitlines()[1:])
        return int(fields["Pss"].split()[0])

    assert until(lambda: size() <= 2048, 5), f"{size()} KiB"


def test_what_cannot_start_leaves_nothing(zone_host):
    name = zone_host.name()
    result = zone_host.run("run", "-d", "--name", name, zone_host.image, "no-such-program")
    result.exits(127).says("no-such-program", "not found")
    assert zone_host.listed() == {}
    assert zone_host.keeper(name) is None
    zone_host.run("run", "-d", "--name", name, "no-such-image").exits(125).says("no-such-image")
    assert zone_host.listed() == {}


def test_create_then_start(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("create", "--name", name, zone_host.image, "sh", "-c", "echo hello; exit 3").ok(stdout=name + "\n")
    assert zone_host.status(name) == "stopped"
    assert zone_host.keeper(name) is None
    zone_host.run("start", name).ok(stdout=name + "\n")
    assert ended(zone_host, name)["exitCode"] == 3
    zone_host.run("logs", name).ok(stdout="hello\n")
    zone_host.run("rm", name).ok()


def test_create_finds_what_would_fail(zone_host):
    name = zone_host.name()
    zone_host.run("create", "--name", name, "-w", "relative", zone_host.image).exits(125).says("working directory")
    assert zone_host.listed() == {}


def test_a_started_zone_keeps_its_files(zone_host):
    name = zone_host.detached(command=["sh", "-c", "echo x >>/file; cat /file; sleep 1000"])
    # Else it may be stopped before it has written anything.
    assert until(lambda: zone_host.run("exec", name, "cat", "/file").stdout == "x\n")
    zone_host.run("stop", "-t", "0", name).ok()
    zone_host.run("start", name).ok()
    assert until(lambda: zone_host.run("exec", name, "cat", "/file").stdout == "x\nx\n")


def test_starting_what_runs_changes_nothing(zone_host):
    name = zone_host.detached()
    before = (zone_host.pid(name), zone_host.keeper(name))
    zone_host.run("start", name).ok()
    assert (zone_host.pid(name), zone_host.keeper(name)) == before


def test_none_is_started_twice(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("create", "--name", name, zone_host.image, "sleep", "4711").ok()
    racers = [zone_host.popen("start", name) for _ in range(8)]
    for racer in racers:
        out, err = racer.communicate(timeout=30)
        assert racer.returncode == 0, err
    programs = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if read(f"/proc/{pid}/cmdline") == "sleep\0004711\0"]
    assert len(programs) == 1, programs


# Ending


def test_stop_and_exit_status(zone_host):
    name = zone_host.detached(command=["sh", "-c", "trap 'echo bye; exit 5' TERM; while :; do usleep 20000; done"])
    keeper = zone_host.keeper(name)
    time.sleep(0.2)
    zone_host.run("stop", name).ok(stdout=name + "\n")
    zone = zone_host.listed()[name]
    assert (zone["status"], zone["exitCode"]) == ("stopped", 5)
    assert until(lambda: not alive(keeper)), "the keeper stays"
    zone_host.run("logs", name).ok(stdout="bye\n")
    zone_host.run("stop", name).ok()


def test_the_zones_own_stop_signal_and_timeout(zone_host):
    name = zone_host.detached(
        command=["sh", "-c", "trap 'exit 9' USR1; while :; do usleep 20000; done"],
        options=["--stop-signal", "USR1", "--stop-timeout", "20"],
    )
    time.sleep(0.2)
    zone_host.run("stop", name).ok()
    assert zone_host.listed()[name]["exitCode"] == 9
    name = zone_host.detached("deaf", ["sleep", "1000"], ["--stop-timeout", "1"])
    start = time.monotonic()
    zone_host.run("stop", name).ok()
    assert 0.9 < time.monotonic() - start < 5
    assert zone_host.listed()[name]["exitCode"] == 137


def test_a_terminated_keeper_stops_its_zone(zone_host):
    name = zone_host.detached(
        command=["sh", "-c", "trap 'exit 6' TERM; while :; do usleep 20000; done"], options=["--restart", "always"]
    )
    time.sleep(0.2)
    os.kill(zone_host.keeper(name), signal.SIGTERM)
    assert ended(zone_host, name)["exitCode"] == 6


def test_rm_after_the_end(zone_host):
    name = zone_host.detached(command=["sh", "-c", "sleep 0.3"], options=["--rm"])
    assert until(lambda: name not in zone_host.listed()), "still listed"


def test_restart(zone_host):
    name = zone_host.detached()
    before = zone_host.pid(name)
    zone_host.run("restart", "-t", "0", name).ok(stdout=name + "\n")
    assert zone_host.status(name) == "running" and zone_host.pid(name) != before


def test_remove_in_the_background(zone_host):
    name = zone_host.detached(options=["--restart", "always"])
    zone_host.run("rm", name).exits(125).says("running", "rm -f")
    zone_host.run("rm", "-f", name).ok()
    assert name not in zone_host.listed() and until(lambda: zone_host.keeper(name) is None)


# Restart policies


def starts(zone_host, name):
    return zone_host.run("logs", name).ok().stdout.count("start\n")


@pytest.mark.parametrize(
    "policy, status, expected",
    [("no", 1, 1), ("on-failure", 0, 1), ("on-failure:2", 4, 3)],
)
def test_policies_that_end(zone_host, policy, status, expected):
    name = zone_host.detached(
        command=["sh", "-c", f"echo start; exit {status}"], options=["--restart", policy]
    )
    assert ended(zone_host, name)["exitCode"] == status
    time.sleep(0.5)
    assert starts(zone_host, name) == expected


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_policies_that_go_on(zone_host, policy):
    name = zone_host.detached(command=["sh", "-c", "echo start; usleep 50000; exit 1"], options=["--restart", policy])
    assert until(lambda: starts(zone_host, name) >= 3)
    zone_host.run("stop", "-t", "0", name).ok()
    assert zone_host.status(name) == "stopped"
    count = starts(zone_host, name)
    time.sleep(1)
    assert starts(zone_host, name) == count, "started again after a stop"
    zone_host.run("start", name).ok()
    assert until(lambda: starts(zone_host, name) > count + 1), "the policy is forgotten"


def test_a_killed_program_is_started_again(zone_host):
    name = zone_host.detached(options=["--restart", "on-failure"])
    first = zone_host.pid(name)
    os.kill(first, signal.SIGKILL)
    assert until(lambda: zone_host.status(name) == "running" and zone_host.pid(name) not in (0, first))


def test_a_restart_loop_slows_down(zone_host):
    name = zone_host.detached(command=["sh", "-c", "echo start; exit 1"], options=["--restart", "always"])
    time.sleep(3)
    # 0, 0.1, 0.3, 0.7, 1.5 s and so on.
    assert 3 <= starts(zone_host, name) <= 6
    assert until(lambda: zone_host.status(name) == "restarting", 5), "the loop is not shown"
    zone_host.run("exec", name, "true").exits(125).says("about to be started again")
    zone_host.run("rm", name).exits(125).says("about to be started again")
    zone_host.run("stop", name).ok()
    assert zone_host.status(name) == "stopped"


def test_a_start_that_fails_later_is_told(zone_host):
    """The zone's own folder is in the way of the second start."""
    folder = zone_host.directory("data")
    name = zone_host.detached(
        command=["sh", "-c", "echo start; sleep 0.3; exit 1"],
        options=["--restart", "on-failure:2", "-v", f"{folder}:/data"],
    )
    os.rmdir(folder)
    ended(zone_host, name)
    zone_host.run("logs", name).says(folder)


def test_contradictions(zone_host):
    for words, said in [
        (["-d", "--rm", "--restart", "always"], "contradict"),
        (["-d", "--restart", "sometimes"], "not a restart policy"),
        (["-d", "--restart", "on-failure:0"], "not a restart policy"),
        (["--restart", "always"], "needs -d"),
        (["-d", "--health-interval", "3s"], "--health-cmd"),
        (["-d", "--health-cmd", "true", "--no-healthcheck"], "contradict"),
        (["-d", "--health-cmd", "true", "--health-interval", "soon"], "not a time"),
        (["-d", "--stop-signal", "LOUD"], "not a signal"),
        (["-d", "--stop-timeout", "-1"], "not a number"),
    ]:
        zone_host.run("run", *words, zone_host.image, "true").exits(125).says(said)
    assert zone_host.listed() == {}


def test_set_changes_the_policy(zone_host):
    name = zone_host.detached(command=["sh", "-c", "echo start; sleep 0.5; exit 1"])
    zone_host.run("set", "--restart", "always", name).ok()
    assert until(lambda: starts(zone_host, name) >= 2)
    zone_host.run("set", "--restart", "no", name).ok()
    ended(zone_host, name)


# Health


def health(zone_host, name):
    return json.loads(read(f"{zone_host.root}/{name}/health.json") or "{}").get("status")


def test_health(zone_host):
    name = zone_host.detached(
        options=["--health-cmd", "test -e /ok && echo fine", "--health-interval", "100ms", "--health-retries", "2"]
    )
    assert until(lambda: health(zone_host, name) == "unhealthy")
    assert zone_host.status(name) == "running", "without a policy it is left alone"
    zone_host.run("exec", name, "touch", "/ok").ok()
    assert until(lambda: health(zone_host, name) == "healthy")
    assert "running (healthy)" in zone_host.run("ls").ok().stdout
    shown = zone_host.inspect(name)
    assert shown["health"]["status"] == "healthy" and "fine" in shown["health"]["output"]
    assert shown["restarts"] == 0 and shown["started"] and "finished" not in shown
    metrics = zone_host.run("metrics").ok().stdout
    assert f'zonectl_zone_health{{name="{name}",status="healthy"}} 1' in metrics
    assert f'zonectl_zone_restarts_total{{name="{name}"}} 0' in metrics
    zone_host.run("stop", name).ok()
    shown = zone_host.inspect(name)
    assert "health" not in shown and shown["finished"] >= shown["started"]


def test_an_unhealthy_zone_is_started_again(zone_host):
    name = zone_host.detached(
        command=["sh", "-c", "rm -f /bad; trap 'exit 0' TERM; while :; do usleep 20000; done"],
        options=["--restart", "on-failure", "--health-cmd", "test ! -e /bad", "--health-interval", "100ms",
                 "--health-retries", "1"],
    )
    assert until(lambda: health(zone_host, name) == "healthy")
    first = zone_host.pid(name)
    zone_host.run("exec", name, "touch", "/bad").ok()
    assert until(lambda: zone_host.status(name) == "running" and zone_host.pid(name) not in (0, first), 20)
    assert until(lambda: health(zone_host, name) == "healthy")


def test_a_check_that_hangs(zone_host):
    name = zone_host.detached(
        options=["--health-cmd", "sleep 1000", "--health-interval", "100ms", "--health-timeout", "300ms",
                 "--health-retries", "1"]
    )
    assert until(lambda: health(zone_host, name) == "unhealthy")
    assert "no answer" in read(f"{zone_host.root}/{name}/health.json")


# Attaching


def test_attach_shows_what_is_said(zone_host):
    name = zone_host.detached(command=["sh", "-c", COUNT])
    process = zone_host.popen("attach", "--no-stdin", name)
    line = process.stdout.readline()
    assert line.startswith(b"line "), line
    zone_host.run("stop", "-t", "0", name).ok()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 137, err
    lines = (line + out).decode().split("\n")[:-1]
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers


def test_attach_keeps_the_streams_apart(zone_host):
    name = zone_host.detached(command=["sh", "-c", "read x; echo out $x; echo err $x >&2; exit 4"], options=["-i"])
    zone_host.run("attach", name, stdin="hello\n").exits(4)
    result = zone_host.run("logs", name)
    assert (result.stdout, result.stderr) == ("out hello\n", "err hello\n")


def test_input_ends_with_the_callers(zone_host):
    name = zone_host.detached(command=["cat"], options=["-i"])
    zone_host.run("attach", name, stdin="one\ntwo\n").ok(stdout="one\ntwo\n")


def test_attach_at_a_terminal(zone_host):
    name = zone_host.detached(command=["sh"], options=["-it"])
    terminal = zone_host.terminal("attach", name, rows=31, columns=99)
    terminal.send("stty size\r")
    terminal.expect("31 99")
    terminal.send("\x10\x11")
    assert terminal.wait() == 0
    assert zone_host.status(name) == "running"
    terminal = zone_host.terminal("attach", name)
    terminal.send("exit 8\r")
    assert terminal.wait() == 8
    assert "31 99" in zone_host.run("logs", name).ok().stdout


def test_a_client_that_takes_nothing_is_cut_off(zone_host):
    name = zone_host.detached(command=["sh", "-c", "yes 0123456789012345678901234567890123456789 | head -n 40000; echo end"])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zone_host.defer(connection.close)
    folder = os.open(f"{zone_host.root}/{name}", os.O_PATH)
    zone_host.defer(os.close, folder)
    try:
        connection.connect(f"/proc/self/fd/{folder}/attach.sock")
    except OSError:
        pytest.skip("the zone was faster")
    assert ended(zone_host, name, 20)["exitCode"] == 0


def test_others_may_not_attach(zone_host):
    name = zone_host.detached()
    assert os.stat(f"{zone_host.root}/{name}/attach.sock").st_mode & 0o777 == 0o600


def test_nonsense_on_the_socket_harms_nobody(zone_host):
    name = zone_host.detached(options=["-i"], command=["cat"])
    folder = os.open(f"{zone_host.root}/{name}", os.O_PATH)
    zone_host.defer(os.close, folder)
    for packet in [b"", b"\0", b"\xff" * 1000, b"\x03", b"\x03\1\2\3\4\5", b"\x10\1\1", b"\x13\1\0\0\0\0", b"\1" * 60000]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(f"/proc/self/fd/{folder}/attach.sock")
        connection.send(packet)
        connection.close()
    zone_host.run("exec", name, "true").ok()
    assert zone_host.keeper(name)


def test_attach_needs_a_keeper(zone_host):
    name = zone_host.start()
    zone_host.run("attach", name).exits(125).says("foreground")


# Waiting


def test_wait(zone_host):
    name = zone_host.detached(command=["sh", "-c", "sleep 0.5; exit 21"])
    zone_host.run("wait", name).ok(stdout="21\n")
    zone_host.run("wait", name).ok(stdout="21\n")


def test_wait_for_what_is_removed(zone_host):
    name = zone_host.detached(command=["sh", "-c", "sleep 0.5; exit 22"], options=["--rm"])
    zone_host.run("wait", name).ok(stdout="22\n")


def test_wait_for_the_last_end(zone_host):
    name = zone_host.detached(
        command=["sh", "-c", "echo start; usleep 300000; exit 23"], options=["--restart", "on-failure:2"]
    )
    zone_host.run("wait", name).ok(stdout="23\n")
    assert starts(zone_host, name) == 3


def test_wait_in_the_foreground(zone_host):
    name = zone_host.start(command=["sh", "-c", "sleep 0.7; exit 24"])
    zone_host.run("wait", name).ok(stdout="24\n")


# Keepers that are killed


def test_a_zone_survives_its_keeper(zone_host):
    name = zone_host.detached(command=["sh", "-c", COUNT])
    pid = zone_host.pid(name)
    os.kill(zone_host.keeper(name), signal.SIGKILL)
    assert until(lambda: zone_host.keeper(name) is None)
    time.sleep(0.5)
    assert zone_host.status(name) == "running"
    zone_host.run("exec", name, "true").ok()
    zone_host.run("attach", name).exits(125).says("start")
    zone_host.run("start", name).ok()
    assert zone_host.keeper(name) and zone_host.pid(name) == pid
    # Nothing was lost meanwhile.
    lines = until(lambda: zone_host.run("logs", name).lines if len(zone_host.run("logs", name).lines) > 15 else None)
    assert [line.split()[1] for line in lines] == [str(index) for index in range(len(lines))]
    zone_host.run("stop", "-t", "0", name).ok()
    assert zone_host.status(name) == "stopped"


def test_stop_without_a_keeper(zone_host):
    name = zone_host.detached()
    os.kill(zone_host.keeper(name), signal.SIGKILL)
    assert until(lambda: zone_host.keeper(name) is None)
    zone_host.run("stop", "-t", "0", name).ok()
    assert zone_host.status(name) == "stopped"
    zone_host.run("start", name).ok()
    assert zone_host.status(name) == "running"


def test_both_are_killed(zone_host):
    name = zone_host.detached(options=["--restart", "always"])
    pid = zone_host.pid(name)
    os.kill(zone_host.keeper(name), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    zone = ended(zone_host, name)
    assert "exitCode" not in zone
    zone_host.run("start", name).ok()
    assert zone_host.status(name) == "running"
    zone_host.run("stop", "-t", "0", name).ok()
    zone_host.run("rm", name).ok()


def test_an_adopting_keeper_goes_on_with_the_policy(zone_host):
    name = zone_host.detached(options=["--restart", "always"])
    os.kill(zone_host.keeper(name), signal.SIGKILL)
    zone_host.run("start", name).ok()
    first = zone_host.pid(name)
    os.kill(first, signal.SIGKILL)
    assert until(lambda: zone_host.status(name) == "running" and zone_host.pid(name) not in (0, first))


# Rename, pause


def test_rename(zone_host):
    name = zone_host.detached(command=["sh", "-c", "echo x >/file; sleep 1000"])
    other = zone_host.name("other")
    zone_host.defer(zone_host.remove, other)
    zone_host.run("rename", name, other).exits(125).says("running", "stop")
    assert until(lambda: zone_host.run("exec", name, "cat", "/file").stdout == "x\n")
    zone_host.run("stop", "-t", "0", name).ok()
    zone_host.run("rename", name, other).ok(stdout="")
    assert set(zone_host.listed()) == {other} and zone_host.listed()[other]["exitCode"] == 137
    zone_host.run("start", other).ok()
    zone_host.run("exec", other, "cat", "/file").ok(stdout="x\n")
    third = zone_host.detached("third")
    zone_host.run("stop", "-t", "0", third).ok()
    zone_host.run("rename", third, other).exits(125).says("taken")
    zone_host.run("rename", third, "a/b").exits(125)
    assert set(zone_host.listed()) == {other, third}


def test_pause(zone_host):
    name = zone_host.detached(command=["sh", "-c", COUNT])
    time.sleep(0.3)
    zone_host.run("pause", name).ok()
    assert zone_host.status(name) == "paused"
    time.sleep(0.3)
    count = len(zone_host.run("logs", name).lines)
    time.sleep(0.5)
    assert len(zone_host.run("logs", name).lines) == count
    zone_host.run("pause", name).exits(125).says("paused")
    zone_host.run("resume", name).ok()
    assert until(lambda: len(zone_host.run("logs", name).lines) > count)
    zone_host.run("resume", name).exits(125).says("running, not paused")


def test_a_paused_zone_can_be_stopped_and_removed(zone_host):
    name = zone_host.detached()
    zone_host.run("pause", name).ok()
    zone_host.run("stop", "-t", "1", name).ok()
    zone_host.run("start", name).ok()
    zone_host.run("pause", name).ok()
    zone_host.run("rm", "-f", name).ok()


# The log


def test_the_log_of_both_streams(zone_host):
    name = zone_host.detached(command=["sh", "-c", "echo out; echo err >&2; printf rest; sleep 1000"])
    assert until(lambda: "rest" in zone_host.run("logs", name).stdout)
    result = zone_host.run("logs", name)
    assert (result.stdout.split(), result.stderr) == (["out", "rest"], "err\n")


def test_any_user_writes_to_its_stdout(zone_host):
    name = zone_host.detached(command=["sh", "-c", "echo again >/dev/stdout; echo e >/dev/stderr"], options=["-u", "1000:1000"])
    ended(zone_host, name)
    result = zone_host.run("logs", name)
    assert (result.stdout, result.stderr) == ("again\n", "e\n")


def test_much_output(zone_host):
    name = zone_host.detached(command=["sh", "-c", "seq 1 100000"], options=["--log-opt", "max-size=100m"])
    ended(zone_host, name, 30)
    assert zone_host.run("logs", name).ok().lines == [str(number) for number in range(1, 100001)]
