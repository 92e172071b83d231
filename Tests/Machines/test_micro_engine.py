# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Engines' bundles in micro machines: `exec` as conmon and containerd's shim call it."""

import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

import pytest
from leaks import alive, read, until
from machines import TIMEOUT

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Integration/oci"))

from engine import EngineHost, Runtime  # noqa: E402

# An engine: it adopts the process that zonectl leaves behind, and reaps it by the number in the pid file. What zonectl and the
# program say goes to descriptor 3. One line of JSON after zonectl has ended, one after the process.
_ENGINE = """
import ctypes, json, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
output, file, words = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
done = subprocess.run(words, stdin=0, stdout=output, stderr=output)
os.close(output)
try:
    pid = int(open(file).read())
except OSError:
    pid = None
print(json.dumps([done.returncode, pid]), flush=True)
try:
    _, status = os.waitpid(pid or -1, 0)
except ChildProcessError:
    status = None
print(json.dumps(status if status is None else os.waitstatus_to_exitcode(status)), flush=True)
"""


class MachineEngine(EngineHost):
    """An engine whose containers are micro machines."""

    def __init__(self, executable, folder, busybox, applets, guest):
        super().__init__(Runtime.at(str(executable)), folder, busybox, applets)
        self.environment["ZONECTL_GUEST"] = str(guest)
        self.container = None

    def run(self, *arguments, timeout=TIMEOUT, **keywords):
        return super().run(*arguments, timeout=timeout, **keywords)

    def machine(self, args=("sleep", "1000"), settings=None, **keywords):
        """A container that is a machine, created and started; returns its id."""
        return self.started(args, {"annotations": {"zone.type": "vm"}, **(settings or {})}, **keywords)

    def detached(self, container, args, *options, stdin=subprocess.DEVNULL):
        """`exec --detach` as an engine calls it. A text for `args` is a script for the shell."""
        args = ("sh", "-c", args) if isinstance(args, str) else args
        process = Added(self, container, args, options, stdin)
        self.defer(process.close)
        return process

    def inside(self, container):
        """What runs in a container, as its guest shows it."""
        return self.run("exec", container, "ps", "-o", "args").exits(0).stdout


class Added:
    """A program that is added to a container, and what the engine sees of it."""

    def __init__(self, engine, container, args, options, stdin):
        self.file = engine.path(f"pid-{time.monotonic_ns()}")
        words = engine.command("exec", "--detach", "--pid-file", self.file, *options, container, *args)
        self._output, ours = os.pipe()
        self._engine = subprocess.Popen(
            [sys.executable, "-c", _ENGINE, str(ours), self.file, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            pass_fds=[ours],
            env=engine.environment,
            start_new_session=True,
        )
        os.close(ours)
        self.status, self.pid = json.loads(self._engine.stdout.readline())
        self.said = b""

    def hears(self, text, seconds=20):
        """Waits until the program has said this."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.said:
            ready, _, _ = select.select([self._output], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self._output, 65536) if ready else b""
            assert part, f"{text!r} is not said but {self.said!r}{'' if ready else ', and no more'}"
            self.said += part

    def rest(self):
        """All that is said until nobody can say anything more."""
        while True:
            ready, _, _ = select.select([self._output], [], [], 20)
            assert ready, f"nobody says more than {self.said!r}, and somebody could"
            part = os.read(self._output, 65536)
            if not part:
                return self.said.decode()
            self.said += part

    def ends(self):
        """How the process ends: its status, or the negative number of a signal."""
        ready, _, _ = select.select([self._engine.stdout], [], [], 20)
        assert ready, f"process {self.pid} does not end; it said {self.said!r}"
        return json.loads(self._engine.stdout.readline())

    def close(self):
        if self.pid and alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        self._engine.wait(20)
        self._engine.stdout.close()
        os.close(self._output)


class Console:
    """The socket by which an engine gets a terminal."""

    def __init__(self, folder):
        self.path = f"{folder}/console"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(20)
        self.master = -1
        self._said = b""

    def accept(self):
        connection, _ = self._listener.accept()
        with connection:
            _, (self.master, *_), _, _ = socket.recv_fds(connection, 64, 4)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def types(self, text):
        os.write(self.master, text.encode())

    def shows(self, text, seconds=20):
        """Waits for a text, and returns what came up to it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self._said:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self.master, 4096) if ready else b""
            assert part, f"{text!r} is not shown but {self._said!r}"
            self._said += part
        before, _, self._said = self._said.partition(text.encode())
        return before.decode()

    def hang_up(self):
        os.close(self.master)
        self.master = -1

    def close(self):
        if self.master >= 0:
            self.hang_up()
        self._listener.close()


@pytest.fixture(scope="module")
def engine(executable, machine_store, guest):
    """An engine, and `engine.container`: a machine that tests leave as it was."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zonectl-case-"))
    folder.chmod(0o755)
    busybox = folder / "static/busybox"
    busybox.parent.mkdir()
    shutil.copy(shutil.which("busybox"), busybox)
    busybox.chmod(0o755)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, timeout=20).stdout.split()
    made = MachineEngine(executable, folder, busybox, [name for name in applets if name != "busybox"], guest)
    made.container = made.machine()
    yield made
    left = made.close()
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind (and now removed):\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def console():
    folder = tempfile.mkdtemp(prefix="zs-")
    made = Console(folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_foreground(engine):
    """Also at once: the machine of a container that is started still boots."""
    container = engine.machine()
    file = engine.path("pid-foreground")
    done = engine.run("exec", "--pid-file", file, container, "sh", "-c", "cat; echo bad >&2; exit 3", stdin="text\n")
    assert (done.status, done.stdout, done.stderr) == (3, "text\n", "bad\n"), done
    assert int(read(file)) > 1


def test_detached(engine):
    added = engine.detached(engine.container, "echo out; echo err >&2; exit 7")
    assert added.status == 0 and added.pid, added.rest()
    assert added.ends() == 7
    assert sorted(added.rest().split()) == ["err", "out"]


@pytest.mark.parametrize("options", [("--process",), ()])
def test_detached_reads_its_input(engine, options):
    text = "".join(f"line {number}\n" for number in range(100_000))
    source = engine.path("input", text)
    args = ["sh", "-c", "cat; exit 5"]
    if options:
        process = {"args": args, "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
        options, args = ("--process", engine.path("process.json", json.dumps(process))), ()
    with open(source) as file:
        added = engine.detached(engine.container, args, *options, stdin=file)
    assert added.status == 0
    assert added.rest() == text
    assert added.ends() == 5


@pytest.mark.parametrize("word, sentence", [("/no/such", "no such file"), ("none-such", "executable file not found in"), ("/tmp", "permission denied")])
def test_what_cannot_be_started(engine, word, sentence):
    """The caller's own error, as with containers; and nobody is left."""
    added = engine.detached(engine.container, (word,))
    assert (added.status, added.pid) == (255, None)
    assert sentence in added.rest(), added.said
    assert added.ends() is None


def test_pid_file_that_cannot_be_written(engine):
    """Nobody could know the process: it ends, and so does the program."""
    file = engine.path("no/such/folder/pid")
    engine.run("exec", "-d", "--pid-file", file, engine.container, "sleep", "987").exits(255)
    assert until(lambda: "sleep 987" not in engine.inside(engine.container), 10, 0.2)


@pytest.mark.parametrize("option", [("--preserve-fds", "1"), ("--cgroup", "below")])
def test_what_leads_into_no_machine(engine, option):
    done = engine.run("exec", *option, engine.container, "true").exits(255)
    done.check(option[0] in done.stderr and "virtual machine" in done.stderr, "the reason is missing")


def test_not_started(engine):
    container = engine.created(settings={"annotations": {"zone.type": "vm"}})
    added = engine.detached(container, ("true",))
    assert (added.status, added.pid) == (255, None)
    assert "not started" in added.rest()


def test_interrupted_while_the_machine_boots(engine):
    """Nobody waits for the program then, and it never runs."""
    container = engine.machine()
    file = engine.path("pid-interrupted")
    process = engine.popen("exec", "-d", "--pid-file", file, container, "sleep", "982")
    # It has what it passes on signals by.
    assert until(lambda: "signalfd" in " ".join(_descriptors(process.pid)))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    if process.returncode == 0:
        pytest.skip("the machine had booted before")
    assert process.returncode == 255 and b"stopped by signal 15" in said, said
    assert "sleep 982" not in engine.inside(container) and not os.path.exists(file)


def _descriptors(pid):
    try:
        return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGWINCH, signal.SIGRTMIN + 5])
def test_signals_are_passed_on(engine, number):
    added = engine.detached(engine.container, f"trap 'echo caught; exit 9' {int(number)}; echo up; while :; do sleep 0.05; done")
    added.hears("up")
    os.kill(added.pid, number)
    assert added.ends() == 9
    assert added.rest() == "up\ncaught\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL])
def test_killed_in_the_guest_it_is_killed_here(engine, number):
    added = engine.detached(engine.container, f"kill -{int(number)} $$")
    assert added.ends() == -number


def test_a_status_like_a_signals_is_a_status(engine):
    assert engine.detached(engine.container, "exit 137").ends() == 137


def test_killed_here_it_is_killed_in_the_guest(engine):
    added = engine.detached(engine.container, "trap '' TERM HUP INT; echo up; sleep 986")
    added.hears("up")
    assert "sleep 986" in engine.inside(engine.container)
    os.kill(added.pid, signal.SIGKILL)
    assert added.ends() == -signal.SIGKILL
    assert until(lambda: "sleep 986" not in engine.inside(engine.container), 10, 0.2)


def test_it_has_only_what_it_needs(engine):
    """Its own words, session and streams; no right, and nothing else of its caller's."""
    added = engine.detached(engine.container, "echo up; sleep 985")
    added.hears("up")
    words = read(f"/proc/{added.pid}/cmdline").replace("\0", "").split()
    assert words[:3] == ["zonectl:", "exec", "in"] and engine.container.startswith(words[3]), words
    kinds = sorted(kind.split(":")[0] for kind in _descriptors(added.pid))
    assert kinds == ["/dev/null", "anon_inode", "pipe", "pipe", "socket"], kinds
    status = dict(line.split(":", 1) for line in read(f"/proc/{added.pid}/status").splitlines())
    assert status["Uid"].split()[0] != "0" and int(status["CapEff"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
    assert os.getsid(added.pid) == added.pid and os.readlink(f"/proc/{added.pid}/cwd") == "/"
    os.kill(added.pid, signal.SIGKILL)
    added.ends()


def test_many_at_once(engine):
    all_added = [engine.detached(engine.container, f"sleep 1; echo {number}; exit {number}") for number in range(8)]
    assert [added.ends() for added in all_added] == list(range(8))
    assert [added.rest() for added in all_added] == [f"{number}\n" for number in range(8)]


def _terminal(engine, console, args, size=None):
    """A process at a terminal whose master the engine has; as conmon, which names everything in a file."""
    process = {"terminal": True, "args": args, "env": ["PATH=/bin", "TERM=xterm"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    if size:
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    file = engine.path("process.json", json.dumps(process))
    added = engine.detached(engine.container, (), "--process", file, "--console-socket", console.path)
    if added.status == 0:
        console.accept()
    return added


def test_terminal(engine, console):
    added = _terminal(engine, console, ["sh"], size=(33, 111))
    console.shows("# ")
    for rows, columns in ((33, 111), (24, 80), (50, 132)):
        if rows != 33:
            console.resize(rows, columns)
        # The shell may be faster than the signal.
        console.types("until [ \"$(stty size)\" = \"%d %d\" ]; do sleep 0.05; done; tty; echo is$((6*7))\n" % (rows, columns))
        assert "/dev/pts/" in console.shows("is42")
        console.shows("# ")
    # A key that the guest's terminal understands, not the host's.
    console.types("sleep 984\n")
    console.shows("sleep 984")
    until(lambda: "sleep 984" in engine.inside(engine.container).replace("args", ""), 10, 0.2)
    console.types("\x03")
    console.shows("# ")
    console.types("exit 6\n")
    assert added.ends() == 6
    with pytest.raises(OSError):
        # The last end of it is closed.
        while os.read(console.master, 4096):
            pass


def test_terminal_that_is_hung_up(engine, console):
    added = _terminal(engine, console, ["sh", "-c", "echo up; sleep 983"])
    console.shows("up")
    console.hang_up()
    assert added.ends() == -signal.SIGHUP
    assert until(lambda: "sleep 983" not in engine.inside(engine.container), 10, 0.2)


def test_terminal_of_what_cannot_be_started(engine, console):
    added = _terminal(engine, console, ["/no/such"])
    assert (added.status, added.pid) == (255, None)
    assert "no such file" in added.rest()


def test_terminal_in_the_foreground(engine, console):
    """The caller stays, and the terminal is the engine's all the same."""
    file = engine.path("pid-console")
    process = engine.popen("exec", "-t", "--console-socket", console.path, "--pid-file", file, engine.container, "sh", "-c", "tty; read x; exit $x")
    console.accept()
    console.shows("/dev/pts/")
    assert until(lambda: read(file)) and int(read(file)) != process.pid
    console.types("4\n")
    assert process.wait(20) == 4


def test_terminal_without_a_socket(engine):
    done = engine.run("exec", "-d", "-t", engine.container, "true").exits(255)
    done.check("--console-socket" in done.stderr, "the option is not named")


@pytest.mark.parametrize("kind", ["KILL", "machine"])
def test_the_machine_ends_meanwhile(engine, kind):
    container = engine.machine()
    added = engine.detached(container, "echo up; sleep 1000")
    added.hears("up")
    if kind == "KILL":
        engine.run("kill", container, "KILL").exits(0)
    else:
        os.kill(engine.pid(container), signal.SIGKILL)
    assert added.ends() == -signal.SIGKILL
    engine.wait_for(container, "stopped")


def test_the_containers_program_ends_meanwhile(engine):
    container = engine.machine("read x </dev/null; sleep 4")
    added = engine.detached(container, "echo up; sleep 1000")
    added.hears("up")
    assert added.ends() == -signal.SIGKILL
    engine.wait_for(container, "stopped")
