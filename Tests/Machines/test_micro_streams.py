# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What goes into micro machines and comes out of them: pipes, terminals, logs, and commands beside the zone's own."""

import hashlib
import os
import re
import subprocess
import threading

import pytest

pytest.importorskip("pexpect", reason="pexpect is not installed (Debian package python3-pexpect)")

from leaks import until  # noqa: E402
from terminal import CTRL_C  # noqa: E402

LARGE = 5 << 20
# Says so itself once it has the terminal: a key pressed earlier is the shell's.
WAITING = "sh -c 'echo w$((1+1))iting; exec sleep 1000'"


def through(host, words, data):
    """Feeds bytes to a command of zonectl's and returns what comes out, as bytes."""
    process = host.popen(*words, stdin=subprocess.PIPE)
    out, err = process.communicate(data, timeout=90)
    assert process.returncode == 0 and err == b"", (process.returncode, err)
    return out


def test_input_of_many_bytes_there_and_back(host):
    data = os.urandom(LARGE)
    script = "tee /tmp/data; sha256sum </tmp/data >&2"
    process = host.popen("run", "--rm", "-i", *host.kind, "busybox", "sh", "-c", script, stdin=subprocess.PIPE)
    out, err = process.communicate(data, timeout=90)
    digest = hashlib.sha256(data).hexdigest()
    assert process.returncode == 0 and err.decode().split() == [digest, "-"], (process.returncode, err[-500:])
    assert hashlib.sha256(out).hexdigest() == digest, len(out)


def test_terminal(host):
    """-it: a shell with the window's size, job control's keys, and the line settings as they were afterwards."""
    name = host.name("term")
    host.defer(host.remove, name)
    shell = host.terminal("run", "--rm", "--name", name, "-it", *host.kind, "busybox", "sh", rows=33, columns=99)
    shell.expect("# ", timeout=60)
    assert shell.ask("stty size") == "33 99", shell
    assert shell.ask("test -t 0 && test -t 1 && test -t 2 && echo yes") == "yes", shell
    assert re.fullmatch(r"/dev/(pts/\d+|console)", shell.ask("tty")), shell
    shell.resize(41, 123)
    assert until(lambda: shell.ask("stty size") == "41 123", 5), shell
    shell.line(WAITING)
    shell.expect("w2iting")
    shell.send(CTRL_C)
    shell.prompt()
    assert shell.ask("echo $?") == "130", shell
    shell.line("exit 9")
    assert shell.wait() == 9, shell
    assert shell.attributes() == shell.before, f"the terminal is not as it was{shell}"
    assert host.listed() == {}


def test_terminal_that_goes_away(host):
    """Closing the window is the end of the shell in it, and of the zone."""
    name = host.name("window")
    host.defer(host.remove, name)
    shell = host.terminal("run", "--rm", "--name", name, "-it", *host.kind, "busybox", "sh")
    shell.expect("# ", timeout=60)
    shell.hang_up()
    assert until(lambda: host.listed() == {}, 15), host.listed()


def test_attach_to_a_terminal_in_the_background(host):
    name = host.boot("term", ("sh",), ("-it",))
    shell = host.terminal("attach", name, rows=20, columns=70)
    shell.line("")
    shell.prompt()
    assert until(lambda: shell.ask("stty size") == "20 70", 5), shell
    # Ctrl-P Ctrl-Q lets go of it.
    shell.send("\x10\x11")
    assert shell.wait() == 0, shell
    assert host.status(name) == "running"
    again = host.terminal("attach", name)
    again.line("exit 4")
    assert again.wait() == 4, again


def test_attach_to_streams_in_the_background(host):
    name = host.boot("cat", ("sh", "-c", "while read -r line; do echo \"got $line\"; echo oh >&2; done; exit 6"), ("-i",))
    process = host.popen("attach", name, stdin=subprocess.PIPE)
    out, err = process.communicate(b"one\ntwo\n", timeout=30)
    assert (process.returncode, out, err) == (6, b"got one\ngot two\n", b"oh\noh\n")
    assert host.ended(name)["exitCode"] == 6


def test_logs(shared):
    assert until(lambda: "careful" in shared.run("logs", shared.machine).stderr)
    result = shared.run("logs", shared.machine).exits(0)
    result.check((result.stdout, result.stderr) == ("ready\n", "careful\n"), "the log is not what the program has said")


@pytest.mark.parametrize("options, script, expected", [
    ((), "echo $COLOUR; id -u; pwd", "green\n0\n/\n"),
    (("-e", "COLOUR=red", "-e", "B=1"), "echo $COLOUR$B", "red1\n"),
    (("-u", "1:2"), "echo $(id -u) $(id -g)", "1 2\n"),
    (("-u", "nobody"), "id -un", "nobody\n"),
    (("-w", "/var"), "pwd", "/var\n"),
])
def test_exec_with_words_of_its_own(shared, options, script, expected):
    shared.run("exec", *options, shared.machine, "sh", "-c", script).ok(stdout=expected)


@pytest.mark.parametrize("words, status, said", [
    (("sh", "-c", "exit 0"), 0, None),
    (("sh", "-c", "exit 7"), 7, None),
    (("sh", "-c", "kill -9 $$"), 137, None),
    (("nonsense",), 127, ('"nonsense"', "not found")),
    (("/etc",), 126, ('"/etc"', "permission denied")),
])
def test_exec_and_its_status(shared, words, status, said):
    result = shared.run("exec", shared.machine, *words).exits(status)
    if said:
        result.fails(status, *said)
    else:
        assert (result.stdout, result.stderr) == ("", ""), result


def test_exec_refuses_what_is_not_there(shared):
    shared.run("exec", "-u", "nosuch", shared.machine, "id").fails(125, "nosuch")
    shared.run("exec", "-w", "/nowhere", shared.machine, "pwd").fails((125), "/nowhere", "no such file")
    shared.run("exec", shared.name("nobody"), "id").fails(125, shared.name("nobody"))


def test_exec_passes_many_bytes_both_ways(shared):
    data = os.urandom(LARGE)
    out = through(shared, ("exec", "-i", shared.machine, "cat"), data)
    assert hashlib.sha256(out).hexdigest() == hashlib.sha256(data).hexdigest(), len(out)


def test_exec_many_at_once(shared):
    """Each hears only its own, although one reads nothing at all for a while."""
    slow = shared.popen("exec", shared.machine, "sh", "-c", "dd if=/dev/zero bs=64k count=40 2>/dev/null; exit 3")
    results = [None] * 8

    def one(number):
        script = f"i=0; while [ $i -lt 2000 ]; do echo word{number}; i=$((i+1)); done; exit {number}"
        results[number] = shared.run("exec", shared.machine, "sh", "-c", script)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, result in enumerate(results):
        result.exits(number)
        assert result.stdout == f"word{number}\n" * 2000 and result.stderr == "", (number, len(result.stdout))
    assert len(slow.communicate(timeout=30)[0]) == 40 << 16 and slow.returncode == 3


def test_exec_at_a_terminal(shared):
    shell = shared.terminal("exec", "-it", shared.machine, "sh", rows=31, columns=77)
    shell.prompt()
    assert until(lambda: shell.ask("stty size") == "31 77", 5), shell
    shell.line(WAITING)
    shell.expect("w2iting")
    shell.send(CTRL_C)
    shell.prompt()
    shell.line("exit 8")
    assert shell.wait() == 8, shell
    assert shell.attributes() == shell.before, f"the terminal is not as it was{shell}"


def test_exec_that_nobody_hears_any_more_is_hung_up(shared):
    """Who asked was killed: the program must not go on for good."""
    process = shared.popen("exec", "-i", shared.machine, "sh", "-c", "echo up; exec sleep 4321", stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    assert until(lambda: "sleep 4321" not in shared.sh(shared.machine, "ps | grep -v grep"), 5), "it goes on"


def test_pause(shared):
    name = shared.machine
    shared.run("pause", name).ok()
    assert shared.status(name) == "paused"
    process = shared.popen("exec", name, "true")
    shared.run("resume", name).ok()
    assert shared.status(name) == "running"
    process.communicate(timeout=20)
    assert shared.sh(name, "echo on") == "on\n"
    shared.run("resume", name).fails(125, name)
