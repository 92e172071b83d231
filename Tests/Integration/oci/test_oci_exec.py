# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""exec: every option, process files, statuses, and the states that it is refused in."""

import json
import os
import signal

import pytest
from engine import group_of, needs
from leaks import alive, read, until

PROCESS = {
    "args": ["sh", "-c", "echo $A; pwd; id -u; id -g"],
    "env": ["PATH=/bin", "A=from file"],
    "cwd": "/tmp",
    "user": {"uid": 5, "gid": 7},
}


@pytest.fixture
def name(oci):
    """A container that sleeps."""
    return oci.started()


def _file(oci, process):
    return oci.path("process.json", process if isinstance(process, str) else json.dumps(process))


def test_streams_and_status(oci, name):
    result = oci.run("exec", name, "sh", "-c", "read l; echo got $l; echo bad >&2; exit 3", stdin="hello\n")
    assert (result.status, result.stdout, result.stderr) == (3, "got hello\n", "bad\n")


@pytest.mark.parametrize("status", [0, 1, 2, 126, 127, 254, 255])
def test_status(oci, name, status):
    oci.run("exec", name, "sh", "-c", f"exit {status}").exits(status)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_status_of_a_killed_process(oci, name, number):
    oci.run("exec", name, "sh", "-c", f"kill -{int(number)} $$").exits(128 + number)


def test_status_255_if_the_runtime_fails(oci, name):
    if oci.runtime.kind == "crun":
        pytest.skip("crun has the shell's statuses")
    oci.run("exec", name, "/no/such/program").exits(255)


def test_it_is_in_the_containers_namespaces(oci, name):
    pid = oci.pid(name)
    shown = oci.run("exec", name, "sh", "-c", "for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done").lines
    assert shown == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "net", "ipc", "uts", "mnt")]


@pytest.mark.parametrize("controller", ["pids", "memory", "cpu", "devices", "freezer"])
def test_it_is_in_the_containers_group(oci, name, controller):
    file = oci.path("pid")
    oci.quietly("exec", "exec", "-d", "--pid-file", file, name, "sleep", "1000").exits(0)
    assert group_of(int(read(file)), controller) == group_of(oci.pid(name), controller)


@needs("zonectl", "runc", why="only what is said at exec counts")
def test_it_has_the_containers_process_for_default(oci):
    settings = {"process.cwd": "/tmp", "process.env": ["PATH=/bin", "A=1"], "process.user": {"uid": 5, "gid": 7}}
    name = oci.started(settings=settings)
    shown = oci.run("exec", name, "sh", "-c", "pwd; echo $A; id -u; id -g").exits(0).lines
    assert shown == ["/tmp", "1", "5", "7"]


@needs("zonectl", "runc", why="only what is said at exec counts")
@pytest.mark.parametrize("option", ["-e", "--env"])
def test_environment(oci, name, option):
    shown = oci.run("exec", option, "A=1", option, "B=two words", name, "sh", "-c", 'echo "$A,$B"')
    assert shown.exits(0).stdout == "1,two words\n"


@needs("zonectl", "runc", why="only what is said at exec counts")
def test_environment_replaces(oci):
    name = oci.started(settings={"process.env": ["PATH=/bin", "A=old"]})
    assert oci.run("exec", "-e", "A=new", name, "sh", "-c", "echo $A; env | grep -c ^A=").lines == ["new", "1"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("5", ["5", "0"]),
        ("5:7", ["5", "7"]),
        ("0", ["0", "0"]),
        ("0:0", ["0", "0"]),
        ("4294967294:5", ["4294967294", "5"]),
    ],
)
@pytest.mark.parametrize("option", ["-u", "--user"])
def test_user(oci, name, option, text, expected):
    if oci.runtime.kind == "runc" and text.startswith("42"):
        pytest.skip("runc has no user beyond 31 bits")
    shown = oci.run("exec", option, text, name, "sh", "-c", "id -u; id -g").exits(0).lines
    if ":" in text or oci.runtime.kind == "zonectl":
        assert shown == expected
    else:
        assert shown[0] == expected[0]


@pytest.mark.parametrize(
    "text", ["", ":", "1:", "-1", "4294967295", "1:4294967295", "0x0", "99999999999999999999", "1:2:3"]
)
def test_bad_user(oci, name, text):
    """P9, CVE-2026-30892: never root by mistake."""
    result = oci.run("exec", "--user", text, name, "id", "-u")
    if oci.runtime.kind == "zonectl":
        oci.refused(result, "user", status=255)
    else:
        oci.strict(result)


@pytest.mark.parametrize("option", ["-g", "--additional-gids"])
def test_additional_groups(oci, name, option):
    if oci.runtime.kind == "crun":
        pytest.skip("crun has no such option")
    shown = oci.run("exec", option, "2000", option, "3000", name, "grep", "Groups", "/proc/self/status")
    assert {"2000", "3000"} <= set(shown.exits(0).stdout.split())


def test_cwd(oci, name):
    assert oci.run("exec", "--cwd", "/tmp", name, "pwd").ok().stdout == "/tmp\n"


@pytest.mark.parametrize("number", [3, 5, 7, 9])
def test_cwd_by_a_descriptor_is_refused(oci, name, number):
    """P5, CVE-2024-21626."""
    if oci.runtime.kind == "runc":
        pytest.skip("runc 1.1.5 has the hole")
    assert oci.run("exec", "--cwd", f"/proc/self/fd/{number}", name, "pwd").status != 0


@pytest.mark.parametrize("option", ["-p", "--process"])
def test_process_file(oci, name, option):
    shown = oci.run("exec", option, _file(oci, PROCESS), name).exits(0).lines
    assert shown == ["from file", "/tmp", "5", "7"]


def test_process_file_with_capabilities_and_limits(oci, name):
    caps = ["CAP_CHOWN"]
    process = {
        **PROCESS,
        "user": {"uid": 0, "gid": 0, "umask": 0o077, "additionalGids": [2000]},
        "args": [
            "sh",
            "-c",
            "umask; grep -E '^(Groups|CapBnd|NoNewPrivs|CapInh)' /proc/self/status; ulimit -n; ulimit -Hn",
        ],
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}],
        "oomScoreAdj": 500,
    }
    shown = oci.run("exec", "--process", _file(oci, process), name).exits(0).stdout.split()
    # runc 1.1.5 forgets the umask in exec.
    assert shown[0] == "0077" or oci.runtime.kind == "runc"
    fields = dict(zip(shown[1:], shown[2:]))
    assert "2000" in shown
    assert fields["CapBnd:"] == "0000000000000001" and fields["CapInh:"] == "0" * 16
    assert fields["NoNewPrivs:"] == "1"
    assert shown[-2:] == ["64", "128"]


@pytest.mark.parametrize(
    "process",
    [
        "",
        "{",
        "[]",
        {},
        {"args": [], "cwd": "/"},
        {"args": "true", "cwd": "/"},
        {"args": ["true"], "cwd": "tmp"},
        {"args": ["true"]},
        {"args": ["true"], "cwd": "/", "user": {"uid": -1, "gid": 0}},
        {"args": ["true"], "cwd": "/", "env": [1]},
        {"args": ["true"], "cwd": "/", "rlimits": [{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]},
    ],
)
def test_bad_process_file(oci, name, process):
    result = oci.run("exec", "--process", _file(oci, process), name)
    oci.strict(result)
    if oci.runtime.kind == "crun" and not result.stderr:
        pytest.skip("crun dies of it")
    oci.refused(result, status=255)
    assert oci.status(name) == "running"


def test_process_file_that_is_not_there(oci, name):
    oci.refused(oci.run("exec", "--process", oci.path("none"), name), "none", status=255)


@pytest.mark.parametrize("option", ["-d", "--detach"])
def test_detached(oci, name, option):
    file = oci.path("pid")
    oci.quietly("exec", "exec", option, "--pid-file", file, name, "sh", "-c", "echo up; sleep 1000").exits(0)
    oci.said("exec", "up")
    pid = int(read(file))
    assert alive(pid)
    assert pid in oci.run("ps", "--format", "json", name).json
    oci.run("kill", name, "KILL").exits(0)
    # With the first process of its pid namespace all others end.
    assert until(lambda: not alive(pid))


def test_pid_file_in_the_foreground(oci, name):
    file = oci.path("pid")
    oci.run("exec", "--pid-file", file, name, "true").exits(0)
    assert int(read(file)) > 1


def test_as_conmon_calls_it(oci, name):
    file = oci.path("pid")
    process = _file(oci, {**PROCESS, "args": ["sh", "-c", "echo $A; sleep 1000"]})
    oci.quietly("exec", "exec", "--pid-file", file, "--process", process, "--detach", name).exits(0)
    oci.said("exec", "from file")
    assert alive(int(read(file)))


def test_terminal(oci, name):
    terminal = oci.terminal("exec", "-t", name, "sh", "-c", "tty; echo $((40+2)); read l; echo got $l; exit 5")
    seen = terminal.expect("42")
    assert "/dev/pts/" in seen
    terminal.line("hello")
    terminal.expect("got hello")
    assert terminal.wait() == 5


@pytest.mark.parametrize("option", ["-c", "--cap"])
def test_capability(oci, name, option):
    """Added to the container's own."""
    if oci.runtime.kind == "crun":
        pytest.skip("crun sets where runc adds")
    shown = oci.run("exec", option, "CAP_SYS_PTRACE", name, "grep", "CapBnd", "/proc/self/status").exits(0)
    bits = int(shown.stdout.split()[1], 16)
    assert bits & 1 << 19 and bits & 1 << 0


def test_unknown_capability_warns(oci, name):
    result = oci.run("exec", "--cap", "CAP_NO_SUCH", name, "echo", "in")
    if oci.runtime.kind == "crun":
        pytest.skip("crun takes it for an error")
    assert result.exits(0).stdout == "in\n"


def test_no_new_privileges(oci, name):
    assert oci.run("exec", name, "grep", "NoNewPrivs", "/proc/self/status").stdout.split()[1] == "0"
    shown = oci.run("exec", "--no-new-privs", name, "grep", "NoNewPrivs", "/proc/self/status")
    assert shown.exits(0).stdout.split()[1] == "1"


def test_inheritable_is_empty(oci, name):
    """P4, CVE-2022-29162."""
    shown = oci.run("exec", name, "grep", "CapInh", "/proc/self/status").exits(0).stdout.split()
    assert int(shown[1], 16) == 0


@needs("zonectl", "runc", why="exec into a paused container waits there")
def test_paused_container_refuses(oci, name):
    oci.run("pause", name).exits(0)
    result = oci.run("exec", name, "true", timeout=10)
    oci.run("resume", name).exits(0)
    oci.refused(result, "paused", status=255)


@needs("zonectl", "runc", why="no --ignore-paused")
def test_ignore_paused(oci, name):
    oci.run("pause", name).exits(0)
    process = oci.popen("exec", "--ignore-paused", name, "echo", "in")
    with pytest.raises(Exception):
        process.wait(0.3)
    oci.run("resume", name).exits(0)
    out, _ = process.communicate(timeout=10)
    assert out == b"in\n"


def test_created_container(oci):
    """Not started, but its namespaces are there: runc and crun run it; engines copy files that way."""
    name = oci.created()
    assert oci.run("exec", name, "echo", "in").exits(0).stdout == "in\n"
    assert oci.status(name) == "created"


def test_stopped_container_refuses(oci):
    name = oci.stopped()
    result = oci.run("exec", name, "true")
    assert result.status != 0
    if oci.runtime.kind == "zonectl":
        oci.refused(result, "not running", status=255)


def test_without_a_command(oci, name):
    result = oci.run("exec", name)
    assert result.status != 0 and result.stderr


def test_options_behind_the_id_are_the_programs(oci, name):
    assert oci.run("exec", name, "echo", "-e", "A=1", "--user", "5").exits(0).stdout == "A=1 --user 5\n"


def test_rules_of_devices_hold(oci):
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
    name = oci.started(settings={"linux.devices": [device]})
    assert oci.run("exec", name, "sh", "-c", "exec 3</dev/fuse").status != 0


def test_descriptors_are_not_passed(oci, name):
    """P5."""
    words = ("sh", "-c", 'exec 3<"$0"; exec 4<"$0"; exec "$@"', oci.path("secret", "secret"))
    shown = oci.execute((*words, *oci.command("exec", name, "ls", "/proc/self/fd"))).exits(0).stdout.split()
    assert shown == ["0", "1", "2", "3"]


def test_two_at_once(oci, name):
    first = oci.popen("exec", name, "sh", "-c", "echo up; sleep 0.3; echo one")
    assert first.stdout.readline() == b"up\n"
    assert oci.run("exec", name, "echo", "two").exits(0).stdout == "two\n"
    assert first.communicate(timeout=10)[0] == b"one\n"


def test_end_of_the_container_ends_it(oci, name):
    process = oci.popen("exec", name, "sh", "-c", "echo up; sleep 1000")
    assert process.stdout.readline() == b"up\n"
    oci.run("kill", name, "KILL").exits(0)
    assert process.wait(10) == 137


def test_signals_are_forwarded(oci, name):
    process = oci.popen(
        "exec", name, "sh", "-c", "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    )
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7


def test_long_output(oci, name):
    assert len(oci.run("exec", name, "head", "-c", "3000000", "/dev/zero").exits(0).stdout) == 3000000


@needs("zonectl", "crun-1.21", why="no such option, or one for version 2 only")
def test_group_below_the_containers(oci, name):
    controller = "pids"
    inner = os.path.join(group_of(oci.pid(name), controller), "inner")
    os.mkdir(inner)
    file = oci.path("pid")
    option = "pids:inner" if inner.startswith("/sys/fs/cgroup/pids") else "inner"
    if oci.runtime.kind == "crun":
        pytest.skip("crun knows it on version 2")
    oci.quietly("exec", "exec", "-d", "--cgroup", option, "--pid-file", file, name, "sleep", "1000").exits(0)
    assert group_of(int(read(file)), controller) == inner
