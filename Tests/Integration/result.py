# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a command did, and the checks that every test makes on it."""

import json
import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """Status and output of a finished command. Printed whole by every failed check."""

    command: tuple
    status: int
    stdout: str
    stderr: str

    def __iter__(self):
        return iter((self.status, self.stdout, self.stderr))

    def __str__(self):
        return (
            f"\n  command: {shlex.join(self.command)}\n  status:  {self.status}"
            f"\n  stdout:  {self.stdout!r}\n  stderr:  {self.stderr!r}"
        )

    @property
    def lines(self):
        return self.stdout.splitlines()

    @property
    def json(self):
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"stdout is not JSON ({error}){self}") from None

    def check(self, condition, why):
        """Fails with the sentence and the whole result unless the condition holds."""
        assert condition, f"{why}{self}"
        return self

    def ok(self, stdout=None):
        """The command must have succeeded, silently on stderr; optionally with exactly this output."""
        self.check(self.status == 0, "status is not 0")
        self.check(self.stderr == "", "stderr is not empty")
        if stdout is not None:
            self.check(self.stdout == stdout, f"stdout is not {stdout!r}")
        return self

    def exits(self, status):
        """The command must have ended with this status."""
        return self.check(self.status == status, f"status is not {status}")

    def says(self, *words):
        """Each of the words must be on stderr, whatever their case. A tuple lists alternatives."""
        text = self.stderr.lower()
        for word in words:
            choices = word if isinstance(word, tuple) else (word,)
            self.check(any(choice.lower() in text for choice in choices), f"stderr does not say {' or '.join(choices)}")
        return self

    def fails(self, status, *words, stdout=""):
        """The command must have failed with this status and exactly one clear error (hints are indented)."""
        self.exits(status)
        lines = self.stderr.splitlines()
        errors = [line for line in lines if line.startswith("zonectl: ")]
        self.check(len(errors) == 1, f"{len(errors)} errors instead of one")
        self.check(lines[0] == errors[0], "the first line is not the error")
        self.check(all(line.startswith("  ") for line in lines[1:]), "a line after the error is not indented")
        self.check(not errors[0].endswith("."), "the error ends with a full stop")
        for trap in ("Fatal error", "Sources/", "SystemError(", "ZoneError("):
            self.check(trap not in self.stderr, f"the error shows {trap!r}")
        if stdout is not None:
            self.check(self.stdout == stdout, f"stdout is not {stdout!r}")
        return self.says(*words)
