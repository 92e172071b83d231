# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Terminals: a shell with job control, line editing, resize, Ctrl-C, Ctrl-Z, and the terminal as it was before."""

import hashlib
import os
import re
import threading

import pytest

pytest.importorskip("pexpect", reason="pexpect is not installed (Debian package python3-pexpect)")

from leaks import alive, read, until  # noqa: E402
from terminal import BACKSPACE, CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, LEFT, UP, plain  # noqa: E402


@pytest.fixture
def shell(zone_host):
    """A shell in a zone at a terminal, at its prompt. Both -i and -t are implied."""
    terminal = zone_host.terminal("run", "--rm", "--name", zone_host.name(), "busybox")
    terminal.prompt()
    return terminal


def start_job(shell, seconds):
    """Runs `sleep` in the shell and waits until it has the terminal: a key pressed earlier is the shell's."""
    shell.line(f"sleep {seconds}")

    def in_foreground():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if read(f"/proc/{pid}/cmdline") == f"sleep\0{seconds}\0":
                # After the name: state, ppid, pgrp, session, tty, tpgid.
                fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                return len(fields) > 5 and fields[2] == fields[5]
        return False

    assert until(in_foreground, 5), f"sleep does not get the terminal{shell}"


def leave(terminal, status=0):
    """Ends the shell and checks status and line settings."""
    terminal.line(f"exit {status}")
    assert terminal.wait() == status, terminal
    assert terminal.attributes() == terminal.before, f"the terminal is not as it was{terminal}"


@pytest.mark.parametrize("status", [0, 3])
def test_shell_and_its_status(shell, status):
    leave(shell, status)


def test_it_is_a_terminal_of_the_zones_own(shell):
    assert re.fullmatch(r"/dev/(pts/\d+|console)", shell.ask("tty")), shell
    assert shell.ask("test -t 0 && test -t 1 && test -t 2 && echo yes") == "yes", shell
    assert shell.ask("stat -c %F /dev/console") == "character special file", shell
    leave(shell)


def test_it_and_t_given(zone_host):
    for options in (["-it"], ["-i", "-t"], ["--interactive", "--tty"]):
        terminal = zone_host.terminal("run", "--rm", *options, "busybox", "sh")
        terminal.prompt()
        leave(terminal, 5)


def test_output_of_a_command_without_a_shell(zone_host):
    terminal = zone_host.terminal("run", "--rm", "busybox", "echo", "seen")
    assert terminal.wait() == 0, terminal
    assert terminal.screen == "seen\n", terminal
    assert terminal.attributes() == terminal.before, terminal


def test_much_output_arrives_whole(zone_host):
    terminal = zone_host.terminal("run", "--rm", "busybox", "seq", "20000")
    assert terminal.wait() == 0, terminal.wait()
    assert terminal.screen.split() == [str(number) for number in range(1, 20001)], terminal.screen[-200:]


def test_control_c_interrupts_the_command_and_not_the_shell(shell):
    start_job(shell, 1001)
    shell.send(CTRL_C)
    shell.prompt()
    assert shell.ask("echo $?") == "130", shell
    leave(shell)


def test_control_c_at_the_prompt_does_nothing(shell):
    shell.send("half a line" + CTRL_C)
    shell.prompt()
    assert shell.ask("echo still here") == "still here", shell
    leave(shell)


def test_control_c_ends_a_program_that_is_pid_one_with_init(zone_host):
    terminal = zone_host.terminal("run", "--rm", "--init", "busybox", "sh", "-c", "echo start; exec sleep 1000")
    terminal.expect("start")
    terminal.send(CTRL_C)
    assert terminal.wait() == 130, terminal
    assert terminal.attributes() == terminal.before, terminal


def test_control_backslash(shell):
    start_job(shell, 1002)
    shell.send(CTRL_BACKSLASH)
    shell.prompt()
    assert shell.ask("echo $?") == "131", shell
    leave(shell)


def test_control_d_ends_the_shell(shell):
    shell.send(CTRL_D)
    assert shell.wait() == 0, shell


def test_job_control(shell):
    start_job(shell, 1003)
    shell.send(CTRL_Z)
    shell.expect("Stopped")
    shell.prompt()
    assert "Stopped" in shell.ask("jobs"), shell
    shell.line("bg")
    shell.prompt()
    assert "Running" in shell.ask("jobs"), shell
    # The shell names the job before it gives it the terminal: what is typed in between is the shell's own.
    for _ in range(3):
        shell.line("fg")
        shell.expect("sleep 1003\r\n")
        shell.send(CTRL_C)
        shell.prompt()
        if (left := shell.ask("jobs")) == "":
            break
    assert left == "", shell
    assert "job control turned off" not in shell.screen, shell
    leave(shell)


def test_size_at_the_start(zone_host):
    terminal = zone_host.terminal("run", "--rm", "busybox", "stty", "size", rows=33, columns=111)
    assert terminal.wait() == 0, terminal
    assert terminal.screen == "33 111\n", terminal


def test_resize(shell):
    assert shell.ask("stty size") == "24 80", shell
    shell.resize(40, 132)
    assert until(lambda: shell.ask("stty size") == "40 132", 5), shell
    leave(shell)


def test_line_editing_and_history(shell):
    shell.send("echo abX" + BACKSPACE + "d" + LEFT + "c\r")
    shell.expect("\nabcd\r\n")
    shell.prompt()
    shell.send(UP + "\r")
    shell.expect("\nabcd\r\n")
    shell.prompt()
    leave(shell)


def test_input_of_any_bytes_arrives(zone_host):
    terminal = zone_host.terminal(
        "run", "--rm", "busybox", "sh", "-c", "stty raw -echo; echo ready; head -c 6 | od -An -tx1"
    )
    terminal.expect("ready")
    terminal.send("\x03\x1a\x04\x11\x13\x1c")
    terminal.expect("03 1a 04 11 13 1c")
    assert terminal.wait() == 0, terminal
    assert terminal.attributes() == terminal.before, terminal


def test_output_is_not_changed_twice(zone_host):
    terminal = zone_host.terminal("run", "--rm", "busybox", "printf", r"a\nb\r\n")
    assert terminal.wait() == 0, terminal
    assert terminal._all == "a\r\nb\r\r\n", terminal


def test_terminal_is_restored_when_the_zone_is_removed(zone_host, shell):
    zone_host.run("rm", "-f", zone_host.name()).exits(0)
    assert shell.wait() == 137, shell
    assert shell.attributes() == shell.before, f"the terminal is not as it was{shell}"


def test_terminal_is_restored_after_an_error(zone_host):
    terminal = zone_host.terminal("run", "--rm", "busybox", "no-such-command")
    assert terminal.wait() == 127, terminal
    assert terminal.screen.startswith("zonectl: ") and len(terminal.screen.splitlines()) <= 2, terminal
    assert terminal.attributes() == terminal.before, terminal


def test_hang_up_ends_an_interactive_zone(zone_host, shell):
    pid = zone_host.pid(zone_host.name())
    shell.hang_up()
    assert until(lambda: not alive(pid) and zone_host.status(zone_host.name()) is None, 10), zone_host.listed()


def test_exec_at_a_terminal(zone_host):
    name = zone_host.start()
    for options in (["-it"], []):
        terminal = zone_host.terminal("exec", *options, name, "sh")
        terminal.prompt()
        assert re.fullmatch(r"/dev/(pts/\d+|console)", terminal.ask("tty")), terminal
        assert terminal.ask("stty size") == "24 80", terminal
        terminal.resize(30, 90)
        assert until(lambda: terminal.ask("stty size") == "30 90", 5), terminal
        leave(terminal, 4)
    assert zone_host.status(name) == "running"


def test_terminal_of_zone_and_of_exec_are_apart(zone_host, shell):
    mine = shell.ask("tty")
    other = zone_host.terminal("exec", "-it", zone_host.name(), "tty")
    assert other.wait() == 0, other
    assert plain(other.screen).strip() != mine, other
    leave(shell)


def test_stdin_only_at_a_terminal_and_stdout_to_a_pipe(zone_host):
    # stdout is no terminal, so nothing is implied: plain output, no carriage returns.
    zone_host.run("run", "--rm", "busybox", "echo", "x").ok(stdout="x\n")


def test_t_without_a_terminal(zone_host):
    result = zone_host.run("run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && echo tty")
    if result.status == 0:
        result.check(result.stdout.strip() == "tty", "no terminal was made")
    else:
        result.fails(125, "terminal")


def test_a_big_paste_arrives_whole(zone_host):
    script = "stty raw -echo; echo ready; head -c 200000 | md5sum"
    terminal = zone_host.terminal("run", "--rm", "busybox", "sh", "-c", script)
    terminal.expect("ready")
    text = "".join(f"line {number}\n" for number in range(20000))[:200000]
    # From a thread: nothing is echoed, but a program that stops reading must not hang the test.
    typist = threading.Thread(target=terminal.send, args=(text,), daemon=True)
    typist.start()
    terminal.expect(hashlib.md5(text.encode()).hexdigest())
    typist.join(5)
    assert terminal.wait() == 0, terminal


def test_exec_ends_though_a_background_process_holds_the_terminal(zone_host):
    name = zone_host.start()
    terminal = zone_host.terminal("exec", "-it", name, "sh", "-c", "trap '' HUP; sleep 1000 & echo started")
    assert terminal.wait(5) == 0, terminal
    assert "started" in terminal.screen, terminal
    assert zone_host.status(name) == "running"


def test_i_alone_at_a_terminal_makes_no_terminal_in_the_zone(zone_host):
    terminal = zone_host.terminal(
        "run", "--rm", "-i", "busybox", "sh", "-c", "ls /dev/pts | grep -c 0; read line; echo got $line"
    )
    terminal.expect("0\r\n")
    terminal.line("text")
    terminal.expect("got text")
    assert terminal.wait() == 0, terminal
