# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What people ask of an engine all day: run, exec, logs, stop, rm."""

import hashlib
import os
import re
import signal
import subprocess

import pytest
from leaks import alive, until

SLEEP = ("sleep", "1000")


def test_run_shows_output_and_status(engine):
    done = engine.script("echo out; echo err >&2; exit 7")
    assert (done.stdout, done.status) == ("out\n", 7), str(done)
    assert "err" in done.stderr


def test_run_reads_stdin(engine):
    engine_input = "".join(f"line {number}\n" for number in range(2000))
    done = engine.run("sh", "-c", "head -n 2000 | md5sum; exit 6", stdin=engine_input)
    assert done.stdout.split()[:1] == [hashlib.md5(engine_input.encode()).hexdigest()] and done.status == 6, str(done)


def test_run_reads_stdin_to_its_end(engine):
    engine.needs("end of stdin")
    text = "".join(f"line {number}\n" for number in range(2000))
    done = engine.run("md5sum", stdin=text)
    assert done.stdout.split()[0] == hashlib.md5(text.encode()).hexdigest(), str(done)


def test_run_at_a_terminal(engine):
    name = engine.new_name()
    terminal = engine.at_terminal(engine.run_line("sh", name=name, terminal=True, interactive=True))
    try:
        terminal.prompt()
        assert terminal.ask("tty") == "/dev/pts/0"
        assert terminal.ask("echo $((6*7))") == "42"
        terminal.line("exit 5")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_environment_and_folder(engine):
    done = engine.script('echo "$WORD"; pwd', env={"WORD": "a b"}, workdir="/tmp")
    assert done.lines == ["a b", "/tmp"], str(done)


def test_user(engine):
    engine.needs("run user")
    assert engine.script("id -u; id -g; id -G", user="33:8").lines == ["33", "8", "8"]


def test_hostname(engine):
    engine.needs("hostname")
    assert engine.run("hostname", hostname="somewhere").stdout == "somewhere\n"


def test_read_only_root(engine):
    done = engine.script("touch /file", read_only=True)
    assert done.status == 1 and "Read-only file system" in done.stderr, str(done)


def test_volumes(engine):
    folder = engine.lab.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "given").write_text("from the host\n")
    done = engine.script("cat /a/given; echo made >/a/made; touch /b/x", volumes=[(str(folder), "/a", "rw"), (str(folder), "/b", "ro")])
    assert done.stdout == "from the host\n" and done.status == 1 and "Read-only" in done.stderr, str(done)
    assert (folder / "made").read_text() == "made\n"


def test_temporary_file_system_with_a_size(engine):
    engine.needs("tmpfs size")
    done = engine.script("df -k /scratch | tail -n 1", tmpfs="/scratch:size=1m,noexec")
    assert done.stdout.split()[1] == "1024", str(done)


def test_a_program_that_is_not_there(engine):
    done = engine.run("no-such-program")
    done.exits(engine.run_errors[0]).says(("not found", "no such file"))


def test_a_program_without_a_name(engine):
    engine.run("").exits(engine.run_errors[0]).says("executable file not found")


def test_a_program_that_may_not_be_executed(engine):
    done = engine.run("/etc/passwd")
    done.exits(engine.run_errors[1]).says("permission denied")


def test_logs(engine):
    zone = engine.start("sh", "-c", "echo one; echo two")
    assert engine.exit_code(zone) == 0
    assert engine.logs(zone) == "one\ntwo\n"


def test_exec(engine):
    zone = engine.start(*SLEEP)
    done = engine.exec(zone, "sh", "-c", "echo inside; exit 9")
    assert (done.stdout, done.status) == ("inside\n", 9), str(done)
    assert engine.exec(zone, "cat", stdin="through\n").stdout == "through\n"
    # It is in the zone: it sees the zone's first process as number 1.
    assert engine.exec(zone, "cat", "/proc/1/cmdline").stdout == "sleep\x001000\x00"


def test_exec_in_another_folder_as_another_user(engine):
    zone = engine.start(*SLEEP)
    done = engine.exec(zone, "sh", "-c", "pwd; id -u", workdir="/tmp", user="33")
    assert done.lines == ["/tmp", "33"], str(done)


def test_exec_with_environment(engine):
    engine.needs("exec env")
    zone = engine.start(*SLEEP)
    assert engine.exec(zone, "sh", "-c", "echo $WORD", env={"WORD": "said"}).stdout == "said\n"


def test_exec_at_a_terminal(engine):
    zone = engine.start(*SLEEP)
    terminal = engine.at_terminal(engine.exec_line(zone, "sh", terminal=True, interactive=True), rows=31, columns=101)
    try:
        terminal.prompt()
        assert terminal.ask("test -t 0 && test -t 1 && echo yes") == "yes"
        assert until(lambda: terminal.ask("stty size") == "31 101", 3)
        terminal.resize(41, 111)
        assert until(lambda: terminal.ask("stty size") == "41 111", 3)
        terminal.line("exit 4")
        assert terminal.wait() == 4
    finally:
        terminal.close()
    assert engine.status(zone) == "running"


def test_exec_of_what_cannot_run(engine):
    zone = engine.start(*SLEEP)
    assert engine.exec(zone, "no-such-program").status == engine.exec_errors[0]
    assert engine.exec(zone, "/etc/passwd").status == engine.exec_errors[1]
    assert engine.exec(zone, "true").status == 0


def test_thirty_execs_at_once(engine):
    zone = engine.start(*SLEEP)
    lines = [engine.lab.command(*engine.exec_line(zone, "echo", number)) for number in range(30)]
    started = [
        subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=engine.lab.environment)
        for line in lines
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert [out for out, _ in said] == [f"{number}\n" for number in range(30)], said
    assert not any(process.returncode for process in started)


def test_stop_by_a_signal_that_the_zone_handles(engine):
    zone = engine.start("sh", "-c", 'trap "echo told; exit 3" TERM; echo ready; while :; do sleep 0.05; done')
    engine.wait_for_log(zone, "ready")
    engine.stop(zone, 10)
    assert engine.exit_code(zone) == 3
    assert engine.logs(zone) == "ready\ntold\n"


def test_stop_kills_what_does_not_listen(engine):
    zone = engine.start("sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done')
    engine.wait_for_log(zone, "ready")
    pid = engine.pid(zone)
    engine.stop(zone, 1)
    assert engine.exit_code(zone) == 128 + signal.SIGKILL
    assert not alive(pid)


@pytest.mark.parametrize("name", ["USR1", "HUP"])
def test_kill_by_name(engine, name):
    zone = engine.start("sh", "-c", f'trap "echo told" {name}; echo ready; while :; do sleep 0.05; done')
    engine.wait_for_log(zone, "ready")
    engine.kill(zone, name)
    engine.wait_for_log(zone, "told")
    assert engine.status(zone) == "running"


def test_all_processes_end_with_the_first(engine):
    zone = engine.start("sh", "-c", "sleep 1001 & sleep 1002 & echo ready; exec sleep 1003")
    engine.wait_for_log(zone, "ready")
    groups = engine.groups(zone)
    folder = groups.get("pids") or groups["unified"]
    pids = [int(pid) for pid in open(f"{folder}/cgroup.procs").read().split()]
    assert len(pids) == 3, pids
    engine.kill(zone, "KILL")
    assert engine.exit_code(zone) == 137
    assert until(lambda: not any(alive(pid) for pid in pids), 5)


def test_rm(engine):
    zone = engine.start(*SLEEP)
    folders = set(engine.groups(zone).values())
    assert engine.remove(zone).status != 0, "a running zone was removed without force"
    assert engine.status(zone) == "running"
    engine.kill(zone, "KILL")
    engine.exit_code(zone)
    engine.remove(zone).exits(0)
    assert engine.status(zone) == "absent"
    assert not [folder for folder in folders if os.path.exists(folder)]


def test_rm_by_force(engine):
    zone = engine.start("sh", "-c", 'trap "" TERM; while :; do sleep 0.05; done')
    pid, folders = engine.pid(zone), set(engine.groups(zone).values())
    engine.remove_by_force(zone).exits(0)
    assert engine.status(zone) == "absent" and not alive(pid)
    assert not [folder for folder in folders if os.path.exists(folder)]


def test_restart(engine):
    zone = engine.start("sh", "-c", "echo started; exec sleep 1000")
    first = engine.pid(zone)
    engine.wait_for_log(zone, "started")
    engine.restart(zone)
    assert until(lambda: engine.status(zone) == "running") and engine.pid(zone) != first
    engine.wait_for_log(zone, "started\nstarted")
    assert engine.exec(zone, "true").status == 0


def test_restart_policy(engine):
    engine.needs("restart policy")
    zone = engine.start("sh", "-c", "echo started; exit 5", restart="on-failure:2")
    engine.wait_for_log(zone, "started\nstarted\nstarted\n", 20)
    assert engine.exit_code(zone) == 5
    assert engine.inspect(zone, ".RestartCount") == 2


def test_top(engine):
    zone = engine.start("sh", "-c", "sleep 1001 & exec sleep 1002")
    pid = engine.pid(zone)
    shown = until(lambda: (text := engine.top(zone)).count("\n") >= 3 and text, 5)
    assert shown, engine.top(zone)
    if engine.name == "podman":
        # Its numbers are those in the zone, and it does not ask the runtime.
        assert "sleep 1001" in shown and "sleep 1002" in shown, shown
    else:
        assert re.search(rf"\b{pid}\b", shown), shown


def test_health_check(engine):
    engine.needs("health")
    zone = engine.start(*SLEEP, more=["--health-cmd=test -e /etc/passwd", "--health-interval=1s"])
    assert until(lambda: engine.inspect(zone, ".State.Health.Status") == "healthy", 10, 0.2)
