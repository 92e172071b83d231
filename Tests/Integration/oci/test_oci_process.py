# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""The process: user, groups, directory, environment, capabilities, limits, priorities; programs that cannot be run."""

import os
import re
import resource

import pytest
from bundle import CAPABILITIES, UNSET
from engine import needs

# User


@pytest.mark.parametrize(
    "uid, gid",
    [
        (0, 0),
        (1000, 1000),
        (1000, 0),
        (0, 1000),
        (65534, 65534),
        pytest.param(4294967294, 7, marks=needs("zonectl", "crun", why="no user beyond 31 bits")),
    ],
)
def test_user(oci, uid, gid):
    settings = {"process.user": {"uid": uid, "gid": gid}}
    assert oci.text("id -u; id -g", settings).split() == [str(uid), str(gid)]


def test_additional_groups(oci):
    settings = {"process.user": {"uid": 1000, "gid": 1000, "additionalGids": [2000, 5, 2000]}}
    shown = oci.text("grep Groups /proc/self/status", settings).split()[1:]
    assert set(shown) >= {"2000", "5"} and set(shown) <= {"2000", "5", "1000"}


def test_groups_of_the_caller_are_dropped(oci):
    # setgroups by the caller needs no more than root.
    shown = oci.text("grep Groups /proc/self/status", {"process.user": {"uid": 0, "gid": 0}}, preexec=_more_groups)
    assert "4321" not in shown


def _more_groups():
    os.setgroups([0, 4321])


@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_umask(oci, umask):
    assert int(oci.text("umask", {"process.user.umask": umask}), 8) == umask


def test_umask_is_022_if_not_given(oci):
    assert int(oci.text("umask", preexec=lambda: os.umask(0o027)), 8) in (0o022, 0o027)


# Directory, environment, arguments


def test_cwd(oci):
    assert oci.text("pwd", {"process.cwd": "/tmp"}) == "/tmp"


def test_cwd_that_is_not_there(oci):
    """Every runtime makes it: images name folders that nobody made."""
    assert oci.text("pwd", {"process.cwd": "/new/place"}) == "/new/place"


def test_cwd_that_is_a_file(oci):
    name = oci.name()
    result = oci.create(oci.bundle(settings={"process.cwd": "/etc/passwd"}), name)
    if result.status == 0:
        result = oci.run("start", name)
        oci.run("delete", "--force", name)
    oci.refused(result, "/etc/passwd", name=name)


def test_cwd_that_only_the_user_may_enter(oci):
    def prepare(bundle):
        os.mkdir(bundle.rootfs / "own", 0o700)
        os.chown(bundle.rootfs / "own", 1000, 1000)

    settings = {"process.cwd": "/own", "process.user": {"uid": 1000, "gid": 1000}}
    assert oci.text("pwd", settings, prepare=prepare) == "/own"


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10])
def test_cwd_by_a_descriptor_is_refused(oci, number):
    """P5, CVE-2024-21626."""
    if oci.runtime.kind == "runc":
        pytest.skip("runc 1.1.5 has the hole where the descriptor happens to be open")
    result = oci.go("cat ../../../etc/hostname; pwd", {"process.cwd": f"/proc/self/fd/{number}"})
    assert result.status != 0, f"it runs{result}"


def test_environment_is_only_what_is_given(oci):
    settings = {"process.env": ["PATH=/bin", "A=1", "B=with space", "C=", "D=a=b"]}
    shown = oci.text(("env",), settings, env={"LEAK": "leak"}).split("\n")
    shown = [line for line in shown if not line.startswith("HOME=")]
    assert sorted(shown) == ["A=1", "B=with space", "C=", "D=a=b", "PATH=/bin"]


def test_home_is_set_for_programs_that_want_it(oci):
    """Not in the specification, but what every runtime does."""
    settings = {"process.user": {"uid": 1000, "gid": 1000}}
    assert oci.text("echo $HOME", settings) == "/home/ann"


def test_home_that_is_given_stays(oci):
    assert oci.text("echo $HOME", {"process.env": ["PATH=/bin", "HOME=/given"]}) == "/given"


def test_arguments_come_as_they_are(oci):
    words = ["printf", "%s|", "a b", "", "*", "$HOME", "'", '"', "ü", "\n", "-x"]
    assert oci.go(words).exits(0).stdout == "|".join(words[2:]) + "|"


def test_long_argument(oci):
    assert oci.text(["sh", "-c", "echo ${#1}", "sh", "x" * 100000]) == "100000"


@pytest.mark.parametrize("path, found", [("/bin", True), ("/nowhere:/bin", True), ("/nowhere", False), ("", False)])
def test_program_is_looked_for_in_the_containers_path(oci, path, found):
    result = oci.go(("echo", "in"), {"process.env": [f"PATH={path}"]})
    assert (result.status == 0) == found


def test_program_by_a_relative_path(oci):
    assert oci.text(("./echo", "in"), {"process.cwd": "/bin"}) == "in"


# The status podman makes of the text: 127 where it says one of the first, 126 where one of the others.
NOT_FOUND = r"executable file not found in|no such file or directory"
NOT_ALLOWED = r"permission denied|operation not permitted"


@pytest.mark.parametrize(
    "program, pattern",
    [
        ("nosuchprogram", NOT_FOUND),
        ("/nosuchprogram", NOT_FOUND),
        ("./nosuchprogram", NOT_FOUND),
        ("/bin/missing-interpreter", NOT_FOUND),
        ("/etc/passwd", NOT_ALLOWED),
        ("/etc", NOT_ALLOWED),
        ("/noexec", NOT_ALLOWED),
    ],
)
@pytest.mark.parametrize("verb", ["run", "create", "exec"])
def test_program_that_cannot_be_run(oci, verb, program, pattern):
    def prepare(bundle):
        bundle.file("/bin/missing-interpreter", "#!/no/such/interpreter\n", 0o755)
        bundle.file("/noexec", "#!/bin/sh\n", 0o644)

    if verb == "run":
        result = oci.go((program,), prepare=prepare)
    elif verb == "create":
        name = oci.name()
        bundle = oci.bundle((program,))
        prepare(bundle)
        result = oci.create(bundle, name)
        if result.status == 0:
            result = oci.quietly("start", "start", name)
    else:
        name = oci.name()
        bundle = oci.bundle(("sleep", "1000"))
        prepare(bundle)
        oci.create(bundle, name).exits(0)
        oci.run("start", name).exits(0)
        result = oci.run("exec", name, program)
    oci.strict(result)
    assert result.status != 0
    if oci.runtime.kind == "zonectl":
        assert result.status == (255 if verb == "exec" else 1), f"another status{result}"
    if program == "/etc" and oci.runtime.kind != "zonectl":
        pattern += "|is a directory"
    assert re.search(pattern, result.stderr.lower()), f"no word for it{result}"
    if pattern == NOT_ALLOWED:
        assert not re.search(NOT_FOUND, result.stderr.lower()), f"podman takes it for 127{result}"


def test_format_of_a_program(oci):
    def prepare(bundle):
        bundle.file("/bin/garbage", "\x7fnot a program", 0o755)

    result = oci.go(("/bin/garbage",), prepare=prepare)
    assert result.status != 0
    result.says("exec format error")


# Capabilities

_SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


def _bits(*names):
    numbers = {
        "CAP_CHOWN": 0,
        "CAP_DAC_OVERRIDE": 1,
        "CAP_KILL": 5,
        "CAP_SETUID": 7,
        "CAP_NET_BIND_SERVICE": 10,
        "CAP_MKNOD": 27,
        "CAP_SYS_ADMIN": 21,
    }
    return sum(1 << numbers[name] for name in names)


def _shown_sets(text):
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}


def test_five_sets(oci):
    some = ["CAP_CHOWN", "CAP_KILL"]
    settings = {
        "process.user": {"uid": 0, "gid": 0},
        "process.capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": some,
            "inheritable": ["CAP_CHOWN"],
            "ambient": ["CAP_CHOWN"],
        },
    }
    shown = _shown_sets(oci.text("grep ^Cap /proc/$$/status", settings))
    assert shown["CapBnd"] == _bits("CAP_CHOWN", "CAP_KILL", "CAP_MKNOD")
    assert shown["CapAmb"] == shown["CapInh"] == _bits("CAP_CHOWN")
    # exec(2) as root takes the whole bounding set.
    assert shown["CapPrm"] & _bits("CAP_CHOWN") and not shown["CapPrm"] & _bits("CAP_SYS_ADMIN")


def test_ambient_capability_reaches_an_ordinary_user(oci):
    some = ["CAP_NET_BIND_SERVICE"]
    settings = {
        "process.user": {"uid": 1000, "gid": 1000},
        "process.capabilities": {set_: some for set_ in _SETS.values()},
    }
    shown = _shown_sets(oci.text("grep ^Cap /proc/$$/status", settings))
    assert shown == dict.fromkeys(_SETS, _bits(*some))


def test_ordinary_user_has_no_capability(oci):
    settings = {"process.user": {"uid": 1000, "gid": 1000}}
    shown = _shown_sets(oci.text("grep ^Cap /proc/$$/status", settings))
    assert shown["CapEff"] == shown["CapPrm"] == shown["CapAmb"] == shown["CapInh"] == 0


def test_inheritable_is_empty_for_root(oci):
    """P4, CVE-2022-29162."""
    shown = _shown_sets(oci.text("grep ^Cap /proc/$$/status"))
    assert shown["CapInh"] == 0 and shown["CapAmb"] == 0


def test_no_capabilities_named(oci):
    shown = _shown_sets(oci.text("grep ^Cap /proc/$$/status", {"process.capabilities": UNSET}))
    if oci.runtime.kind == "runc":
        pytest.skip("runc leaves all of its own if the key is not there")
    assert shown == dict.fromkeys(_SETS, 0)


def test_capabilities_have_effect(oci):
    assert oci.go("chown 5 /tmp").status == 0
    less = [name for name in CAPABILITIES if name != "CAP_CHOWN"]
    settings = {"process.capabilities": {k: less for k in ("bounding", "effective", "permitted")}}
    assert oci.go("chown 5 /tmp", settings).status != 0


def test_unknown_capability_warns(oci):
    """config.md "capabilities": what cannot be granted must not fail but warn."""
    names = ["CAP_KILL", "CAP_NO_SUCH_THING"]
    log = oci.path("log")
    oci.options = ("--log", log, "--log-format", "json")
    result = oci.go("echo in", {"process.capabilities": {k: names for k in ("bounding", "effective", "permitted")}})
    if oci.runtime.kind == "crun":
        pytest.skip("crun takes it for an error")
    assert result.exits(0).stdout == "in\n"
    assert any(line["level"] == "warning" and "CAP_NO_SUCH_THING" in line["msg"] for line in oci.logged(log))


def test_capability_that_the_machine_lacks_warns(oci):
    lacking = "CAP_SYS_RESOURCE"
    with open("/proc/self/status") as file:
        own = int(next(line for line in file if line.startswith("CapBnd")).split()[1], 16)
    if own & 1 << 24:
        pytest.skip("this machine grants every capability")
    result = oci.go("echo in", {"process.capabilities": {k: [lacking] for k in ("bounding", "effective", "permitted")}})
    if oci.runtime.kind != "zonectl":
        pytest.skip("older runtimes take it for an error")
    assert result.exits(0).stdout == "in\n"


# No new privileges


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(oci, value):
    shown = oci.text("grep NoNewPrivs /proc/self/status", {"process.noNewPrivileges": value})
    assert shown.split()[1] == str(int(value))


def test_no_new_privileges_has_effect(oci):
    def prepare(bundle):
        # A copy: the linked file is everybody's.
        data = (bundle.rootfs / "bin/busybox").read_bytes()
        path = bundle.rootfs / "id"
        path.write_bytes(data)
        path.chmod(0o4755)

    settings = {"process.user": {"uid": 1000, "gid": 1000}}
    assert oci.text(("/id", "-u"), {**settings, "process.noNewPrivileges": True}, prepare=prepare) == "1000"


# Limits and priorities

RLIMITS = {
    "RLIMIT_NOFILE": ("open files", 64, 128),
    "RLIMIT_CORE": ("core file size", 0, 0),
    "RLIMIT_CPU": ("cpu time", 100, 200),
    "RLIMIT_FSIZE": ("file size", 1 << 20, 1 << 21),
    "RLIMIT_STACK": ("stack size", 1 << 20, 1 << 21),
    "RLIMIT_AS": ("address space", 1 << 30, 1 << 30),
    "RLIMIT_DATA": ("data size", 1 << 29, 1 << 30),
    "RLIMIT_NPROC": ("processes", 50, 60),
    "RLIMIT_MEMLOCK": ("locked memory", 4096, 8192),
    "RLIMIT_SIGPENDING": ("pending signals", 10, 20),
    "RLIMIT_MSGQUEUE": ("msgqueue size", 1000, 2000),
    "RLIMIT_NICE": ("nice priority", 0, 0),
    "RLIMIT_RTPRIO": ("realtime priority", 0, 0),
    "RLIMIT_RTTIME": ("realtime timeout", 1000, 2000),
    "RLIMIT_LOCKS": ("file locks", 10, 20),
    "RLIMIT_RSS": ("resident set", 1 << 20, 1 << 20),
}


@pytest.mark.parametrize("kind", RLIMITS)
def test_rlimit(oci, kind):
    words, soft, hard = RLIMITS[kind]
    settings = {"process.rlimits": [{"type": kind, "soft": soft, "hard": hard}]}
    shown = oci.text("cat /proc/self/limits", settings)
    line = next(line for line in shown.splitlines() if line.lower().startswith(f"max {words}"))
    assert line.split()[len(words.split()) + 1 :][:2] == [str(soft), str(hard)]


def test_rlimit_beyond_the_callers_right(oci):
    if _may_raise():
        pytest.skip("this machine lets root raise hard limits")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    settings = {"process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": hard + 1}]}
    name = oci.name()
    result = oci.create(oci.bundle(settings=settings), name)
    if result.status == 0:
        result = oci.run("start", name)
    oci.run("delete", "--force", name)
    oci.refused(result, "RLIMIT_NOFILE", name=name)


def _may_raise():
    with open("/proc/self/status") as file:
        return bool(int(next(line for line in file if line.startswith("CapEff")).split()[1], 16) & 1 << 24)


def test_unlimited(oci):
    if resource.getrlimit(resource.RLIMIT_CPU)[1] != resource.RLIM_INFINITY:
        pytest.skip("the caller's own limit is lower")
    settings = {"process.rlimits": [{"type": "RLIMIT_CPU", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}]}
    shown = oci.text("grep 'cpu time' /proc/self/limits", settings)
    assert shown.split()[3:5] == ["unlimited", "unlimited"]


@pytest.mark.parametrize("value", [0, 300, 1000])
def test_oom_score_adj(oci, value):
    assert oci.text("cat /proc/self/oom_score_adj", {"process.oomScoreAdj": value}) == str(value)


def test_oom_score_adj_is_inherited_if_not_given(oci):
    with open("/proc/self/oom_score_adj") as file:
        own = file.read().strip()
    assert oci.text("cat /proc/self/oom_score_adj") == own


@needs("zonectl", "crun-1.21", why="no scheduler")
@pytest.mark.parametrize(
    "scheduler, policy",
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, 0),
        ({"policy": "SCHED_BATCH", "nice": 3}, 3),
        ({"policy": "SCHED_IDLE"}, 5),
    ],
)
def test_scheduler(oci, scheduler, policy):
    fields = oci.text("cat /proc/self/stat", {"process.scheduler": scheduler}).rpartition(")")[2].split()
    # Fields 19 and 41 of proc_pid_stat(5), counted from the state, which is 3.
    assert int(fields[38]) == policy
    assert int(fields[16]) == scheduler.get("nice", 0)


@needs("zonectl", "crun-1.21", why="no ioPriority")
@pytest.mark.parametrize(
    "kind, priority, shown",
    [
        ("IOPRIO_CLASS_BE", 3, "best-effort: prio 3"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
    ],
)
def test_io_priority(oci, kind, priority, shown):
    result = oci.go(("ionice",), {"process.ioPriority": {"class": kind, "priority": priority}})
    assert result.exits(0).stdout.strip() == shown


@pytest.mark.parametrize("domain, machine", [("LINUX", os.uname().machine), ("LINUX32", "i686")])
def test_personality(oci, domain, machine):
    if oci.runtime.kind == "runc":
        pytest.skip("runc 1.1.5 has no personality")
    if os.uname().machine != "x86_64":
        machine = os.uname().machine if domain == "LINUX" else machine
    assert oci.text("uname -m", {"linux.personality": {"domain": domain}}) == machine


# Parameters of the kernel


@pytest.mark.parametrize(
    "name, value",
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.core.somaxconn", "256"),
        ("net/ipv4/conf/lo/arp_ignore", "1"),
        ("kernel.shmmax", "65536"),
        ("kernel.msgmax", "4096"),
        ("fs.mqueue.msg_max", "20"),
    ],
)
def test_sysctl(oci, name, value):
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    if "/" in name and oci.runtime.kind == "runc":
        pytest.skip("runc 1.1.5 wants dots")
    with open(path) as file:
        before = file.read()
    assert oci.text(("cat", path), {"linux.sysctl": {name: value}}) == value
    with open(path) as file:
        assert file.read() == before


def test_several_sysctls(oci):
    sysctl = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"}
    shown = oci.text("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax", {"linux.sysctl": sysctl})
    assert shown.split() == ["1", "65536"]


def test_annotations_do_not_reach_the_process(oci):
    assert "secret" not in oci.text(("env",), {"annotations": {"key": "secret"}})


def test_session_keyring_is_its_own(oci):
    """The host's keys must not be seen."""
    shown = oci.go("cat /proc/keys 2>/dev/null | grep -c _ses; true").exits(0).stdout.strip()
    assert int(shown or 0) <= 2


def test_process_has_no_descriptor_of_the_runtime(oci):
    shown = oci.text("for f in /proc/self/fd/*; do readlink $f; done; true")
    assert oci.root not in shown and "rootfs" not in shown and "cgroup" not in shown
