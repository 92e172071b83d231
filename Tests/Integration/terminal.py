# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`Terminal`: a program at a pseudo-terminal of its own, driven as a person would."""

import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import termios
import time

import pexpect
import pexpect.fdpexpect

CTRL_C, CTRL_Z, CTRL_D, CTRL_BACKSLASH = "\x03", "\x1a", "\x04", "\x1c"
UP, LEFT, BACKSPACE = "\x1b[A", "\x1b[D", "\x7f"
PROMPT = "# "


class Terminal:
    """Runs a command as leader of a session whose controlling terminal is ours."""

    def __init__(self, command, environment, rows, columns):
        self.command = command
        self._master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = self.attributes()
        self._process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**environment, "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.pid = self._process.pid
        self._all = ""
        self._expect = pexpect.fdpexpect.fdspawn(self._master, encoding="utf-8", codec_errors="replace", timeout=20)
        # Written at once: the programs here are faster than a typist.
        self._expect.delaybeforesend = None

    def __str__(self):
        status = self._process.poll()
        rest = self._expect.buffer if isinstance(self._expect.buffer, str) else ""
        return f"\n  command: {shlex.join(self.command)}\n  status:  {status}\n  screen:  {self._all + rest!r}"

    def attributes(self):
        """The line settings of the outer terminal."""
        return termios.tcgetattr(self._slave)

    def resize(self, rows, columns):
        """Changes the window; the kernel sends SIGWINCH to the foreground group."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text):
        """Types."""
        rest = text.encode()
        while rest:
            rest = rest[os.write(self._master, rest) :]

    def line(self, text):
        """Types a line and Return."""
        self.send(text + "\r")

    def expect(self, pattern, timeout=20):
        """Waits for the pattern on the screen and returns what came before it."""
        try:
            self._expect.expect(pattern, timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF, OSError):
            raise AssertionError(f"{pattern!r} does not appear{self}") from None
        self._all += self._expect.before + self._expect.after
        return self._expect.before

    def prompt(self):
        """Waits for the shell's prompt and returns what came before it."""
        return self.expect(re.escape(PROMPT))

    def ask(self, text):
        """Runs a command in the zone's shell and returns its output without the echoed line."""
        self.line(f"{text}; echo $((40+2))end")
        out = self.expect("42end")
        self.prompt()
        return plain(out).partition("\n")[2].strip()

    def wait(self, timeout=20):
        """Waits until the program ends and returns its status."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"the program does not end{self}"
            # It may be waiting for its output to be read.
            self._drain(0.05)
        while self._drain(0):
            pass
        return self._process.returncode

    def _drain(self, seconds):
        """Takes what was written meanwhile; false when there was nothing."""
        try:
            text = self._expect.read_nonblocking(65536, timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF, OSError):
            return False
        self._all += text
        return bool(text)

    @property
    def screen(self):
        """Everything that was shown so far."""
        rest = self._expect.buffer if isinstance(self._expect.buffer, str) else ""
        return plain(self._all + rest)

    def hang_up(self):
        """Closes the terminal, as closing a window does."""
        for descriptor in (self._slave, self._master):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def close(self):
        """Hangs up, and kills what does not end by that."""
        self.hang_up()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait()


def plain(text):
    """Text without escape sequences and carriage returns."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")
