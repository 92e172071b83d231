# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`--without`: zonectl as on a kernel that lacks some system calls. Either another way works, or the error is clear.

A case that fails then must have heard zonectl name what is missing; it is skipped as refused. All others are failures.
"""

import pathlib
import re
import shutil
import subprocess

import pytest

CALLS = {
    "openat2": ("openat2",),
    "clone3": ("clone3",),
    "mount": ("fsopen", "fsconfig", "fsmount", "open_tree", "move_mount", "mount_setattr"),
    "pidfd": ("pidfd_open", "pidfd_send_signal"),
}

# Both name calls, the second those that the read-only executable takes.
_CLEAR = re.compile(r"(\S+.*): this kernel lacks the system call|a kernel with open_tree and mount_setattr")
_heard = []


def heard(text):
    """Remembers what zonectl said on stderr in this case."""
    _heard.append(text)


def refusal():
    """The clear error that was heard in this case, if any."""
    return next((found.group() for found in map(_CLEAR.search, _heard) if found), None)


def launcher(executable, folder, lacks):
    """A program that stands in the executable's place and takes the calls away; by the same name."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler is installed (Debian package gcc)")
    folder.mkdir()
    path = folder / pathlib.Path(executable).name
    numbers = ",".join(f"SYS_{call}" for call in CALLS[lacks])
    source = pathlib.Path(__file__).with_name("without.c")
    options = (f'-DPROGRAM="{executable}"', f"-DCALLS={numbers}")
    subprocess.run(["cc", "-O1", *options, "-o", path, source], check=True, timeout=60)
    return path


class Refusals:
    """Turns a failure after a clear refusal into a skip."""

    def __init__(self, lacks):
        self.lacks = lacks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self):
        _heard.clear()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item):
        report = (yield).get_result()
        if self.lacks and report.failed and refusal():
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: refused clearly: {refusal()}")
