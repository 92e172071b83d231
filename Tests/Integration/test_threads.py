# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""zonectl never has a second thread: what it clones must not inherit locks that nobody will open."""

import re

from leaks import read, until

CLONE3 = 435


def test_no_thread_is_ever_made(zone_host, strace):
    trace = zone_host.path("trace")
    words = [strace, "-f", "-qq", "-o", trace, "-e", "trace=clone,clone3,fork,vfork"]
    name = zone_host.name()
    zone_host.run("run", "--init", "--name", name, "busybox", "true", wrap=words).exits(0)
    zone_host.defer(zone_host.remove, name)
    for verb in (["ls"], ["inspect", name], ["image", "ls"], ["rm", name]):
        zone_host.run(*verb, wrap=[*words[:4], trace + verb[0], *words[5:]]).exits(0)
    calls = read(trace)
    assert "clone3" in calls, calls
    for verb in ("", "ls", "inspect", "image", "rm"):
        assert "CLONE_THREAD" not in read(trace + verb), read(trace + verb)


def test_one_thread_at_the_moment_of_clone(zone_host, strace):
    words = [strace, "-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", "inject=clone3:delay_enter=1500000"]
    process = zone_host.popen("run", "--rm", "--name", zone_host.name(), "busybox", "true", wrap=words)

    def held():
        """The zonectl that stands in clone3, as its /proc/PID/status."""
        for child in read(f"/proc/{process.pid}/task/{process.pid}/children").split():
            if read(f"/proc/{child}/syscall").startswith(f"{CLONE3} "):
                return read(f"/proc/{child}/status")
        return None

    status = until(held, 10)
    out, err = process.communicate(timeout=30)
    assert status, f"zonectl was not seen in clone3: {process.args} {process.returncode} {out} {err}"
    assert re.search(r"^Threads:\t1$", status, re.M), status
    assert (process.returncode, out, err) == (0, b"", b""), (process.args, process.returncode, out, err)
