# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Terminals by --console-socket, descriptors by --preserve-fds and --pidfd-socket."""

import array
import fcntl
import os
import select
import socket
import struct
import termios
import time

import pytest
from engine import needs

TERMINAL = {"process.terminal": True}


class Receiver:
    """The engine's end of a socket that gets one descriptor."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(10)

    def descriptor(self):
        """The descriptor that came, and the text with it."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(10)
            data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4 * 4))
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[: len(content) - len(content) % 4])
        assert len(descriptors) == 1, f"{len(descriptors)} descriptors came, with {data!r}"
        return descriptors[0], data

    def close(self):
        self.listener.close()


def read_until(master, text, seconds=10):
    """What comes out of a terminal until this does."""
    seen = b""
    deadline = time.monotonic() + seconds
    while text.encode() not in seen:
        ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{text!r} does not appear but {seen!r}"
        try:
            part = os.read(master, 4096)
        except OSError:
            part = b""
        assert part, f"{text!r} does not appear but {seen!r}, then the end"
        seen += part
    return seen.decode(errors="replace")


def window(master):
    return struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, b"\0" * 8))[:2]


@pytest.fixture
def receiver(oci, short_folder):
    receiver = Receiver(f"{short_folder}/console")
    oci.defer(receiver.close)
    return receiver


def _take(oci, receiver):
    master, _ = receiver.descriptor()
    oci.defer(os.close, master)
    return master


def test_create_with_a_console_socket(oci, receiver):
    name = oci.created("tty; echo $((40+2))", TERMINAL, options=("--console-socket", receiver.path))
    master = _take(oci, receiver)
    assert os.isatty(master)
    oci.run("start", name).exits(0)
    seen = read_until(master, "42")
    # Of the container's own devpts.
    assert "/dev/pts/0" in seen or "/dev/console" in seen


def test_detached_run_with_a_console_socket(oci, receiver):
    oci.create(
        oci.bundle("echo $((40+2)); cat", TERMINAL), oci.name(), "-d", "--console-socket", receiver.path, verb="run"
    ).exits(0)
    master = _take(oci, receiver)
    read_until(master, "42")
    os.write(master, b"hello\n")
    read_until(master, "hello\r\nhello")


def test_console_is_the_controlling_terminal(oci, receiver):
    script = "trap 'echo int' INT; echo up; while :; do sleep 0.05; done"
    name = oci.created(script, TERMINAL, options=("--console-socket", receiver.path))
    master = _take(oci, receiver)
    oci.run("start", name).exits(0)
    read_until(master, "up")
    os.write(master, b"\x03")
    read_until(master, "int")


def test_dev_console_is_the_terminal(oci, receiver):
    script = "echo $((40+2)) >/dev/console; ls -l /dev/console; stat -c %t:%T /dev/console; echo done"
    name = oci.created(script, TERMINAL, options=("--console-socket", receiver.path))
    master = _take(oci, receiver)
    oci.run("start", name).exits(0)
    seen = read_until(master, "done")
    assert "42" in seen and "88:0" in seen


@pytest.mark.parametrize("size", [(33, 111), (1, 1), (65535, 65535)])
def test_console_size(oci, receiver, size):
    settings = {**TERMINAL, "process.consoleSize": {"height": size[0], "width": size[1]}}
    name = oci.created("stty size; echo done", settings, options=("--console-socket", receiver.path))
    master = _take(oci, receiver)
    assert window(master) == size
    oci.run("start", name).exits(0)
    seen = read_until(master, "done")
    # busybox doubts extremes.
    assert f"{size[0]} {size[1]}" in seen or size != (33, 111)


def test_console_size_without_terminal_is_ignored(oci):
    """config.md "Process": a runtime must ignore consoleSize if terminal is false or unset."""
    assert oci.text("echo in", {"process.consoleSize": {"height": 5, "width": 5}}) == "in"


def test_console_belongs_to_the_user(oci, receiver):
    settings = {**TERMINAL, "process.user": {"uid": 1000, "gid": 1000}}
    name = oci.created(
        "stat -L -c '%u' /proc/self/fd/0; echo done", settings, options=("--console-socket", receiver.path)
    )
    master = _take(oci, receiver)
    oci.run("start", name).exits(0)
    assert "1000" in read_until(master, "done")


def test_terminal_without_a_console_socket_is_refused(oci):
    name = oci.name()
    oci.refused(oci.create(oci.bundle(settings=TERMINAL), name), "console", name=name)


def test_console_socket_without_a_terminal(oci, receiver):
    """runc refuses it, crun does not; conmon never asks for it. A socket that gets nothing would be a trap."""
    name = oci.name()
    result = oci.create(oci.bundle(), name, "--console-socket", receiver.path)
    oci.strict(result)
    oci.refused(result, ("console-socket", "terminal"), name=name)


def test_console_socket_that_is_not(oci):
    name = oci.name()
    result = oci.create(oci.bundle(settings=TERMINAL), name, "--console-socket", oci.path("nowhere"))
    oci.refused(result, "nowhere", name=name)


def test_console_socket_that_is_a_file(oci):
    name = oci.name()
    result = oci.create(oci.bundle(settings=TERMINAL), name, "--console-socket", oci.path("file", "text"))
    oci.refused(result, "file", name=name)


def test_exec_with_a_console_socket(oci, receiver):
    name = oci.started()
    oci.quietly(
        "exec", "exec", "-d", "-t", "--console-socket", receiver.path, name, "sh", "-c", "tty; echo $((40+2)); cat"
    ).exits(0)
    master = _take(oci, receiver)
    read_until(master, "42")
    os.write(master, b"hello\n")
    read_until(master, "hello\r\nhello")


def test_run_at_a_terminal(oci):
    name = oci.owned(oci.name())
    bundle = oci.bundle("tty; stty size; echo $((40+2)); read line; echo got $line; exit 5", TERMINAL)
    terminal = oci.terminal("run", "--bundle", bundle, name)
    terminal.expect("42")
    terminal.line("hello")
    terminal.expect("got hello")
    assert terminal.wait() == 5


# Descriptors

_OPEN = 'exec 3<"$0"; exec 4<"$0"; exec "$@"'


def test_descriptors_are_not_passed(oci):
    """P5: not even those that the caller left open."""
    file = oci.path("secret", "secret")
    shown = oci.go("ls /proc/self/fd", wrap=("sh", "-c", _OPEN, file)).exits(0).stdout.split()
    # The last is the folder that ls itself reads.
    assert shown == ["0", "1", "2", "3"]


def test_preserved_descriptors(oci):
    file = oci.path("given", "given text")
    wrap = ("sh", "-c", _OPEN, file)
    assert oci.go("cat <&3", options=("--preserve-fds", "1"), wrap=wrap).exits(0).stdout == "given text"
    assert oci.go("cat <&4", options=("--preserve-fds=2",), wrap=wrap).exits(0).stdout == "given text"


def test_only_so_many_descriptors_are_preserved(oci):
    file = oci.path("given", "given text")
    result = oci.go("cat <&4", options=("--preserve-fds", "1"), wrap=("sh", "-c", _OPEN, file))
    assert result.status != 0 and result.stdout == ""


def test_preserved_descriptors_of_create_and_exec(oci):
    file = oci.path("given", "given text")
    wrap = ("sh", "-c", _OPEN, file)
    name = oci.started("cat <&3; sleep 1000", options=("--preserve-fds", "1"), wrap=wrap)
    oci.said(name, "given text")
    words = oci.command("exec", "--preserve-fds", "1", name, "sh", "-c", "cat <&3")
    assert oci.execute((*wrap, *words)).exits(0).stdout == "given text"


def test_preserved_descriptors_that_are_not_open(oci):
    name = oci.name()
    result = oci.create(oci.bundle(), name, "--preserve-fds", "900")
    oci.strict(result)
    oci.refused(result, "preserve", name=name)


@pytest.mark.parametrize("number", ["-1", "many", "99999999999999999999"])
def test_preserve_no_number(oci, number):
    name = oci.name()
    result = oci.create(oci.bundle(), name, f"--preserve-fds={number}")
    oci.strict(result)
    oci.refused(result, "preserve-fds", name=name)


@needs("zonectl", why="no --pidfd-socket")
@pytest.mark.parametrize("verb", ["create", "exec"])
def test_pidfd_socket(oci, receiver, verb):
    if verb == "create":
        name = oci.created(options=("--pidfd-socket", receiver.path))
        pid = oci.pid(name)
    else:
        name = oci.started()
        file = oci.path("pid")
        oci.quietly(
            "exec", "exec", "-d", "--pid-file", file, "--pidfd-socket", receiver.path, name, "sleep", "1000"
        ).exits(0)
        with open(file) as stream:
            pid = int(stream.read())
    handle, _ = receiver.descriptor()
    oci.defer(os.close, handle)
    with open(f"/proc/self/fdinfo/{handle}") as file:
        fields = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
    assert int(fields["Pid"]) == pid


@pytest.mark.parametrize("option", ["--no-pivot", "--no-new-keyring"])
def test_option_of_create_is_taken(oci, option):
    assert oci.text("echo in", options=(option,)) == "in"


def test_no_subreaper_is_taken(oci):
    option = "-no-subreaper" if oci.runtime.kind == "zonectl" else "--no-subreaper"
    assert oci.text("echo in", options=(option,)) == "in"


def test_no_pivot_still_confines(oci):
    secret = oci.path("secret", "secret")
    script = f"cat {secret} /../{secret}; cd ..; pwd; ls /"
    shown = oci.go(script, options=("--no-pivot",)).stdout
    assert "secret" not in shown
