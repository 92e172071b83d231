# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""seccomp: actions, arguments, flags, architectures, and the listener that answers in the kernel's place."""

import array
import errno
import fcntl
import json
import os
import socket
import struct

import pytest
from engine import needs
from leaks import read, until

MKDIR = ["mkdir", "mkdirat"]
# ioctl(2) numbers of seccomp_unotify(2).
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


def _profile(*rules, **fields):
    return {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **fields}}


def _rule(names, action, **fields):
    return {"names": names, "action": action, **fields}


@pytest.mark.parametrize(
    "fields, text",
    [
        ({}, "Operation not permitted"),
        ({"errnoRet": errno.ENOSYS}, "Function not implemented"),
        ({"errnoRet": errno.EACCES}, "Permission denied"),
        ({"errnoRet": errno.EXDEV}, "Invalid cross-device link"),
    ],
)
def test_errno(oci, fields, text):
    result = oci.go(("mkdir", "/tmp/new"), _profile(_rule(MKDIR, "SCMP_ACT_ERRNO", **fields)))
    assert result.status != 0
    result.says(text)


def test_default_errno(oci):
    """A list of what is allowed: all else fails with the number that the profile names."""
    settings = {
        "linux.seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": errno.ENOSYS,
            "syscalls": [_rule(ALL_BUT_MKDIR, "SCMP_ACT_ALLOW")],
        }
    }
    if oci.runtime.kind == "crun":
        pytest.skip("what crun itself calls behind the filter differs")
    result = oci.go(("mkdir", "/tmp/new"), settings)
    assert result.status != 0
    result.says("Function not implemented")


# What a small program and a runtime's last steps call.
ALL_BUT_MKDIR = """
access arch_prctl brk capget capset chdir clock_gettime clone clone3 close close_range dup dup2 dup3 epoll_create1
epoll_ctl epoll_pwait eventfd2 execve execveat exit exit_group faccessat faccessat2 fchdir fchown fcntl fstat fstatfs
futex getcwd getdents64 getegid geteuid getgid getpgrp getpid getppid getrandom getrlimit gettid getuid ioctl keyctl
lseek lstat madvise mmap mprotect mremap munmap nanosleep newfstatat open openat openat2 pipe pipe2 poll prctl pread64
prlimit64 read readlink readlinkat recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield
seccomp sendmsg sendto set_robust_list set_tid_address setgid setgroups setresgid setresuid setrlimit setsid setuid
sigaltstack stat statfs statx sysinfo tgkill tkill umask uname wait4 write writev
""".split()


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_kill(oci, action):
    result = oci.go("mkdir /tmp/new; echo status $?", _profile(_rule(MKDIR, action)))
    assert "status 159" in result.stdout


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_what_is_allowed(oci, action):
    default = "SCMP_ACT_ALLOW" if action == "SCMP_ACT_LOG" else "SCMP_ACT_LOG"
    settings = _profile(_rule(MKDIR, action), defaultAction=default)
    assert oci.text("mkdir /tmp/new && echo made", settings) == "made"


def test_first_process_is_filtered_too(oci):
    assert "Seccomp:\t2" in oci.text(("cat", "/proc/self/status"), _profile(_rule(MKDIR, "SCMP_ACT_ERRNO")))


def test_no_filter_if_none_is_asked_for(oci):
    assert "Seccomp:\t0" in oci.text(("cat", "/proc/self/status"))


# The operator, the value, the second value; which modes of chmod fail.
OPERATORS = [
    ("SCMP_CMP_EQ", 0o700, None, {"700"}),
    ("SCMP_CMP_NE", 0o700, None, {"600", "755"}),
    ("SCMP_CMP_LT", 0o700, None, {"600"}),
    ("SCMP_CMP_LE", 0o700, None, {"600", "700"}),
    ("SCMP_CMP_GT", 0o700, None, {"755"}),
    ("SCMP_CMP_GE", 0o700, None, {"700", "755"}),
    ("SCMP_CMP_MASKED_EQ", 0o100, 0o100, {"700", "755"}),
]


@pytest.mark.parametrize("operator, value, second, fails", OPERATORS, ids=[o[0] for o in OPERATORS])
def test_argument(oci, operator, value, second, fails):
    def argument(index):
        made = {"index": index, "value": value, "op": operator}
        if second is not None:
            made["valueTwo"] = second
        return [made]

    settings = _profile(
        _rule(["chmod"], "SCMP_ACT_ERRNO", args=argument(1)),
        _rule(["fchmodat", "fchmodat2"], "SCMP_ACT_ERRNO", args=argument(2)),
    )
    script = "touch /tmp/f; for m in 600 700 755; do chmod $m /tmp/f 2>/dev/null || echo $m; done"
    assert set(oci.text(script, settings).split()) == fails


def test_rules_of_one_call_are_alternatives(oci):
    def rule(mode):
        return _rule(["chmod"], "SCMP_ACT_ERRNO", args=[{"index": 1, "value": mode, "op": "SCMP_CMP_EQ"}])

    settings = _profile(rule(0o700), rule(0o600))
    script = "touch /tmp/f; for m in 600 700 755; do chmod $m /tmp/f 2>/dev/null || echo $m; done"
    assert set(oci.text(script, settings).split()) == {"600", "700"}


def test_unknown_call_is_no_error(oci):
    """Profiles name the calls of all kernels and machines."""
    settings = _profile(_rule(["no_such_call", *MKDIR], "SCMP_ACT_ERRNO"))
    result = oci.go(("mkdir", "/tmp/new"), settings)
    assert result.status != 0
    result.says("Operation not permitted")


@pytest.mark.parametrize(
    "flags", [[], ["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_TSYNC"], ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]]
)
def test_flags(oci, flags):
    if oci.runtime.kind == "runc" and flags:
        pytest.skip("runc 1.1.5 takes no flags")
    result = oci.go(("mkdir", "/tmp/new"), _profile(_rule(MKDIR, "SCMP_ACT_ERRNO"), flags=flags))
    assert result.status != 0
    result.says("Operation not permitted")


@pytest.mark.parametrize(
    "architectures",
    [
        ["SCMP_ARCH_X86_64"],
        ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    ],
)
def test_architectures(oci, architectures):
    settings = _profile(_rule(MKDIR, "SCMP_ACT_ERRNO"), architectures=architectures)
    result = oci.go(("mkdir", "/tmp/new"), settings)
    assert result.status != 0
    result.says("Operation not permitted")


@pytest.mark.parametrize("value", [True, False])
def test_with_and_without_new_privileges(oci, value):
    settings = {**_profile(_rule(MKDIR, "SCMP_ACT_ERRNO")), "process.noNewPrivileges": value}
    settings["process.user"] = {"uid": 1000, "gid": 1000}
    result = oci.go(("mkdir", "/tmp/new"), settings)
    assert result.status != 0
    result.says("Operation not permitted")


def test_exec_is_filtered_too(oci):
    name = oci.started(settings=_profile(_rule(MKDIR, "SCMP_ACT_ERRNO")))
    result = oci.run("exec", name, "mkdir", "/tmp/new")
    assert result.status == 1
    result.says("Operation not permitted")


# The listener


@pytest.fixture
def listener(oci, short_folder):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(f"{short_folder}/notify")
    server.listen(2)
    server.settimeout(10)
    oci.defer(server.close)
    return server


def _accept(oci, server):
    """What the runtime sends: the descriptors, and the container process state."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(10)
        data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % 4])
    for descriptor in descriptors:
        oci.defer(os.close, descriptor)
    return list(descriptors), json.loads(data)


def _answer(descriptor, number):
    """Waits for one call and lets it fail with this errno; returns the pid of the caller."""
    call = bytearray(80)
    fcntl.ioctl(descriptor, NOTIF_RECV, call)
    identity, pid = struct.unpack_from("QI", call)
    fcntl.ioctl(descriptor, NOTIF_SEND, struct.pack("QqiI", identity, 0, -number, 0))
    return pid


def test_listener(oci, listener):
    settings = _profile(
        _rule(MKDIR, "SCMP_ACT_NOTIFY"), listenerPath=listener.getsockname(), listenerMetadata="some metadata"
    )
    settings["annotations"] = {"key": "value"}
    # The specification does not say whether create or start sends it.
    name = oci.started("mkdir /tmp/new; sleep 1000", settings)
    descriptors, state = _accept(oci, listener)
    # config-linux.md "The Container Process State".
    assert state["ociVersion"].startswith("1.") or oci.runtime.kind == "crun"
    assert state["fds"] == ["seccompFd"]
    assert len(descriptors) == 1
    assert state["metadata"] == "some metadata"
    assert state["pid"] == oci.pid(name)
    assert state["state"]["id"] == name
    assert state["state"]["status"] in ("creating", "created") or oci.runtime.kind == "crun"
    assert state["state"]["pid"] == oci.pid(name)
    assert state["state"]["bundle"] == oci.path(f"bundle-{name}")
    assert state["state"].get("annotations") == {"key": "value"} or oci.runtime.kind == "crun"
    assert _answer(descriptors[0], errno.ENOMEDIUM) > 0
    assert until(lambda: "No medium found" in read(oci.path(f"{name}.err")))


def test_listener_of_exec(oci, listener):
    settings = _profile(_rule(MKDIR, "SCMP_ACT_NOTIFY"), listenerPath=listener.getsockname())
    name = oci.started(settings=settings)
    _accept(oci, listener)
    process = oci.popen("exec", name, "mkdir", "/tmp/new")
    descriptors, state = _accept(oci, listener)
    assert state["state"]["id"] == name
    if oci.runtime.kind != "crun":
        assert state["state"]["status"] == "running"
    _answer(descriptors[0], errno.ENOMEDIUM)
    _, err = process.communicate(timeout=10)
    assert b"No medium found" in err and process.returncode == 1


@needs("zonectl", "runc", why="it lets it pass")
def test_listener_without_notify_is_of_no_use(oci, listener):
    """config-linux.md: without SCMP_ACT_NOTIFY the listener is not used; nothing is sent."""
    settings = _profile(_rule(MKDIR, "SCMP_ACT_ERRNO"), listenerPath=listener.getsockname())
    name = oci.name()
    result = oci.create(oci.bundle(("sleep", "1000"), settings), name)
    if result.status == 0:
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
