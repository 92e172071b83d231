# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Micro machines are used as containers are: what a zone is told to be, its status, its life."""

import os
import signal
import time

import pytest
from leaks import alive, read, until


def test_streams_are_apart_and_the_status_comes_back(host):
    result = host.micro("sh", "-c", "echo out; echo err >&2; exit 7").exits(7)
    assert (result.stdout, result.stderr) == ("out\n", "err\n"), result
    assert host.listed() == {}


def test_what_it_is_told_to_be(host):
    options = ["-e", "A=b c", "-w", "/var", "-u", "1:2", "--hostname", "other", "--read-only", "--cap-drop", "ALL"]
    options += ["--tmpfs", "/scratch:size=1m", "--ulimit", "nofile=123:456", "--memory", "128M", "--vcpus", "2"]
    script = """
        echo "$A"; pwd; id -u; id -g; hostname; uname -n; ulimit -n; ulimit -Hn; nproc
        touch /x 2>/dev/null && echo writable || echo read-only
        touch /scratch/x 2>/dev/null; df -k /scratch | tail -n 1 | awk '{print $2}'
        grep CapBnd /proc/self/status; grep MemTotal /proc/meminfo; echo $$; uname -r
    """
    lines = host.micro("sh", "-c", script, options=options).ok().lines
    assert lines[:11] == ["b c", "/var", "1", "2", "other", "other", "123", "456", "2", "read-only", "1024"][:11], lines
    assert lines[11].split() == ["CapBnd:", "0000000000000000"], lines
    memory = int(lines[12].split()[1])
    assert 80 << 10 < memory <= 128 << 10, lines
    assert lines[13] == "1", "the program is not the first one"
    assert lines[14] != os.uname().release, "the kernel is the host's"


def test_program_that_is_not_there(host):
    host.micro("nonsense").fails(127, '"nonsense"', "not found", "$path")
    assert host.listed() == {}


def test_life_in_the_background(host):
    """Logs, wait, stop with a handler, files that stay, restart, rm."""
    script = "trap 'echo ending; exit 5' TERM; echo began $(cat /n 2>/dev/null); echo x >>/n; sync; while :; do sleep 0.1; done"
    name = host.boot("life", ("sh", "-c", script))
    zone = host.listed()[name]
    assert zone["status"] == "running" and zone["pid"] > 0, zone
    follow = host.popen("logs", "-f", name)
    waiting = host.popen("wait", name)
    host.run("rm", name).fails(125, name, "running")
    # Before its handler is there it would hear nothing.
    assert until(lambda: host.run("logs", name).stdout == "began\n")
    began = time.monotonic()
    host.run("stop", name).ok()
    assert time.monotonic() - began < 8, "stop waited for a program that ends by itself"
    assert host.ended(name)["exitCode"] == 5
    assert waiting.communicate(timeout=10)[0].decode().split() == ["5"]
    assert follow.communicate(timeout=10)[0] == b"began\nending\n"
    host.run("start", name).ok()
    assert host.status(name) == "running"
    assert until(lambda: host.run("logs", name).stdout.endswith("began x\n")), host.run("logs", name)
    host.run("restart", name).ok()
    assert until(lambda: host.run("logs", name).stdout.endswith("began x x\n")), host.run("logs", name)
    host.run("rm", "-f", name).ok()
    assert host.listed() == {} and not os.path.exists(f"{host.store}/zones/{name}")


def test_stop_kills_what_does_not_end(host):
    name = host.boot("deaf", ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"))
    assert until(lambda: host.run("logs", name).stdout == "up\n")
    began = time.monotonic()
    host.run("stop", "-t", "1", name).ok()
    assert 0.9 < time.monotonic() - began < 8
    assert host.ended(name)["exitCode"] == 137
    assert not host.processes(name)


@pytest.mark.parametrize("how", [("stop", "-t", "0"), ("kill", "-s", "KILL")])
def test_what_was_written_stays_when_it_is_killed(host, how):
    """A program is killed, not the host: what others have written before is no worse for it, as in a container."""
    name = host.boot("writer", ("sleep", "1000"))
    host.sh(name, "echo precious >/root/kept")
    host.run(*how, name).ok()
    assert host.ended(name)["exitCode"] == 137
    host.run("start", name).ok()
    assert host.sh(name, "cat /root/kept") == "precious\n"


def test_least_memory(host):
    """What is not refused boots."""
    refused = host.micro("true", options=("--memory", "64M"))
    if refused.status != 0:
        refused.fails(125, "memory", "at least")
        host.micro("true", options=("--memory", refused.stderr.split("at least ")[1].split()[0])).ok()


def test_limit_of_processes(host):
    """It is for the programs in the machine, and neither for QEMU nor without effect."""
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 3 & done 2>/dev/null; ps | grep -c '[s]leep 3'"
    result = host.micro("sh", "-c", script, options=("--pids-limit", "5"))
    if result.status == 125:
        result.fails(125, "--pids-limit", "hint")
    else:
        result.check("QEMU" not in result.stderr and int(result.stdout or 0) < 9, "no limit")


def test_signals(host):
    script = "trap 'echo usr1' USR1; trap 'echo hup' HUP; echo up; while :; do sleep 0.1; done"
    name = host.boot("signals", ("sh", "-c", script))
    assert until(lambda: host.run("logs", name).stdout == "up\n")
    for word in ("USR1", "SIGHUP"):
        host.run("kill", "-s", word, name).ok()
    assert until(lambda: sorted(host.run("logs", name).lines) == ["hup", "up", "usr1"]), host.run("logs", name)
    host.run("kill", name).ok()
    assert host.ended(name)["exitCode"] == 137
    host.run("kill", name).fails(125, name)


def test_restarts_when_it_fails(host):
    script = "echo try; echo x >>/n; test $(wc -l </n) -ge 2 && exit 0; exit 3"
    name = host.boot("again", ("sh", "-c", script), ("--restart", "on-failure:3"))
    assert until(lambda: host.run("logs", name).stdout == "try\ntry\n", 30), host.run("logs", name)
    assert host.ended(name)["exitCode"] == 0
    assert host.inspect(name)["restarts"] == 1


def test_definition_limits_and_name(host):
    """`set` and `rename`; and what `inspect --as-definition` says makes the same machine again."""
    name = host.name("first")
    host.defer(host.remove, name)
    script = "echo $A; grep MemTotal /proc/meminfo"
    host.run("create", "--name", name, *host.kind, "--memory", "128M", "-e", "A=b", "busybox", "sh", "-c", script).ok()
    host.run("set", "--memory", "192M", name).exits(0)
    other = host.name("second")
    host.defer(host.remove, other)
    host.run("rename", name, other).ok()
    text = host.run("inspect", "--as-definition", other).ok().stdout
    host.run("rm", other).ok()
    assert host.listed() == {}
    host.run("apply", "-f", host.path("definition.json", text)).exits(0)
    assert host.inspect(other)["definition"]["machine"]["kind"] == "micro"
    host.run("start", other).ok()
    assert until(lambda: len(host.run("logs", other).lines) == 2, 20), host.run("logs", other)
    word, memory = host.run("logs", other).lines
    assert word == "b" and 130 << 10 < int(memory.split()[1]) <= 192 << 10, memory


def test_a_process_of_its_own_is_killed(host):
    """Whichever it is: the zone is stopped, nothing stays, and it starts again with its files."""
    name = host.boot("killed", ("sh", "-c", "echo x >>/n; sync; wc -l </n; while :; do sleep 1; done"))
    for count, victim in enumerate((host.qemu, host.pid, host.keeper), 1):
        assert until(lambda: host.run("logs", name).lines[-1:] == [str(count)], 20), host.run("logs", name)
        mine = [pid for pids in host.processes(name).values() for pid in pids]
        assert len(mine) >= 2, mine
        os.kill(victim(name), signal.SIGKILL)
        if victim == host.keeper:
            # What runs goes on without it, as a container does.
            assert host.status(name) == "running"
            host.run("stop", "-t", "0", name).ok()
        zone = host.ended(name)
        assert zone and zone["status"].startswith("stopped"), zone
        if victim == host.pid:
            assert zone["exitCode"] == 137, zone
        assert until(lambda: not any(alive(pid) for pid in mine), 5), "a process is left"
        assert name not in read("/proc/self/mountinfo")
        host.run("start", name).ok()
    assert until(lambda: host.run("logs", name).lines[-1:] == ["4"], 20), host.run("logs", name)


def test_zonectl_in_the_foreground_is_killed(host):
    name = host.start("front", host.idle, host.kind)
    assert until(lambda: host.qemu(name))
    mine = [pid for pids in host.processes(name).values() for pid in pids]
    process = host.process(name)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    host.run("rm", "-f", name).ok()
    assert until(lambda: not any(alive(pid) for pid in mine), 5), "a process is left"
    assert host.listed() == {}


def test_removal_while_it_boots(host):
    name = host.name("young")
    process = host.popen("run", "--name", name, *host.kind, "busybox", *host.idle)
    host.defer(host.remove, name)
    assert until(lambda: host.qemu(name)), "QEMU does not start"
    host.run("rm", "-f", name).exits(0)
    assert process.wait(20) != 0
    assert until(lambda: not host.processes(name), 5)
    assert host.listed() == {}


def test_interrupted_while_it_boots(host):
    name = host.name("young")
    process = host.popen("run", "--rm", "--name", name, *host.kind, "busybox", *host.idle)
    host.defer(host.remove, name)
    assert until(lambda: host.qemu(name)), "QEMU does not start"
    process.terminate()
    assert process.wait(20) != 0
    assert until(lambda: not host.processes(name), 5)
    assert host.listed() == {}


def test_an_ordinary_user(host):
    """Either it works, or it is said in one sentence that it does not."""
    folder = host.directory("home")
    os.chmod(folder, 0o777)
    host.environment["HOME"] = folder
    words = ("--root", f"{folder}/root", "--store", f"{folder}/store")
    layout = os.path.join(os.path.dirname(host.executable), "busybox")
    as_user = {"user": 65534, "group": 65534, "extra_groups": []}
    if host.execute((host.executable, *words, "image", "import", "--name", "busybox", layout), **as_user).status != 0:
        pytest.skip("no zones for ordinary users here")
    result = host.execute((host.executable, *words, "run", "--rm", *host.kind, "busybox", "echo", "hi"), timeout=60, **as_user)
    if result.status != 0:
        result.exits(125).check("hint: " in result.stderr and "Invalid argument" not in result.stderr, "no clear error")
    else:
        result.check(result.stdout == "hi\n", "no output")


def test_two_roots_and_stores_at_once(host, own_store):
    """The same name twice, in worlds that know nothing of each other."""
    name = host.name("same")
    for each, word in ((host, "one"), (own_store, "two")):
        each.defer(each.remove, name)
        each.run("run", "-d", "--name", name, *each.kind, "busybox", "sh", "-c", f"echo {word}; sleep 1000").exits(0)
    assert until(lambda: host.run("logs", name).stdout == "one\n")
    assert until(lambda: own_store.run("logs", name).stdout == "two\n")
    host.run("rm", "-f", name).ok()
    assert own_store.status(name) == "running"
    # Before the other host looks for what is left: each has the name's prefix in its groups.
    own_store.run("rm", "-f", name).ok()
