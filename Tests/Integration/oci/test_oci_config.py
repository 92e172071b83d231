# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""config.json that is broken, or asks for what cannot be: one clear error with the key, nothing left behind."""

import json
import os

import pytest
from bundle import UNSET, bind, configuration, namespaces, tmpfs
from engine import has_legacy, needs

FIVE = ("pid", "network", "ipc", "uts", "mount")

TEXTS = {
    "empty": "",
    "blank": " \n\t",
    "brace": "{",
    "null": "null",
    "list": "[]",
    "number": "42",
    "string": '"text"',
    "object": "{}",
    "trailing": "{} {}",
    "comma": '{"ociVersion": "1.0.2",}',
    "comment": "{} // text",
    "unquoted": '{ociVersion: "1.0.2"}',
    "single quotes": "{'ociVersion': '1.0.2'}",
    "bad escape": '{"ociVersion": "\\q"}',
    "lone surrogate": '{"ociVersion": "1.0.2", "hostname": "\\ud800"}',
    "control character": '{"ociVersion": "1\n0"}',
    "bad number": '{"ociVersion": "1.0.2", "linux": {"resources": {"pids": {"limit": 01}}}}',
    "nested": "[" * 100000,
    "nested objects": '{"a":' * 100000,
    "cut": json.dumps(configuration(("true",)))[:-20],
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_config_that_is_no_configuration(oci, text):
    bundle = oci.bundle()
    bundle.write(text)
    result = oci.create(bundle, oci.name())
    oci.strict(result)
    oci.refused(result, "config.json", name=oci.name())


@pytest.mark.parametrize("data", [b"\xff\xfe{\0}\0", b"\0" * 1000, b'{"ociVersion": "1.0.2\xff"}', os.urandom(4096)])
def test_config_that_is_no_text(oci, data):
    bundle = oci.bundle()
    (bundle.path / "config.json").write_bytes(data)
    result = oci.create(bundle, oci.name())
    oci.refused(result, "config.json", name=oci.name())


@needs("zonectl", why="it reads whatever there is")
def test_config_without_end(oci):
    """A file of a gigabyte, most of it a hole, must not be read into memory."""
    bundle = oci.bundle()
    os.truncate(bundle.path / "config.json", 1 << 30)
    oci.refused(oci.create(bundle, oci.name(), timeout=10), "config.json", name=oci.name())


_LATER = needs("zonectl", "runc", "crun-1.21", why="it is older than version 1.2")


def test_unknown_keys_are_ignored(oci):
    """spec.md "Extensibility": a runtime must not fail on properties that it does not know."""
    settings = {"future": {"a": [1]}, "process.future": 1, "linux.future": "x", "root.future": None}
    assert oci.text("echo in", settings) == "in"


def test_keys_of_other_systems_are_ignored(oci):
    settings = {"windows": {"layerFolders": ["a"]}, "solaris": {"milestone": "b"}}
    assert oci.text("echo in", settings) == "in"


@pytest.mark.parametrize(
    "version",
    [
        "1.0.0",
        "1.0.2-dev",
        "1.1.0",
        *(pytest.param(later, marks=_LATER) for later in ("1.2.0", "1.2.1+dev", "1.9.0")),
    ],
)
def test_versions_that_are_taken(oci, version):
    assert oci.text("echo in", {"ociVersion": version}) == "in"


EMPTY = {
    "hooks": {},
    "annotations": {},
    "linux.devices": [],
    "linux.sysctl": {},
    "linux.maskedPaths": [],
    "linux.readonlyPaths": [],
    "linux.resources": {},
    "linux.cgroupsPath": "",
    "linux.rootfsPropagation": "",
    "linux.mountLabel": "",
    "process.env": [],
    "process.rlimits": [],
    "process.apparmorProfile": "",
    "process.capabilities": {},
}


_PLAIN = ("zonectl", "runc")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=needs(*_PLAIN, why="it takes the empty text for a value"))
        if key in ("linux.cgroupsPath", "process.apparmorProfile")
        else key
        for key in EMPTY
    ],
)
def test_empty_values_say_nothing(oci, key):
    assert oci.text(("/bin/echo", "in"), {key: EMPTY[key]}) == "in"


@needs("zonectl", why="it wants more than what is required")
def test_the_least_configuration(oci):
    """Only what is REQUIRED, and the namespace without which mounts would be the host's."""
    bundle = oci.bundle()
    least = {
        "ociVersion": "1.0.0",
        "process": {"cwd": "/", "args": ["/bin/echo", "in"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    }
    bundle.write(json.dumps(least))
    assert oci.text(None, bundle=bundle) == "in"


def _hook(**fields):
    return [{"path": "/bin/true", **fields}]


def _seccomp(**fields):
    return {"defaultAction": "SCMP_ACT_ALLOW", **fields}


def _rlimit(kind="RLIMIT_NOFILE", soft=64, hard=64):
    return {"type": kind, "soft": soft, "hard": hard}


# What it is called: the change, and the words that the error must have.
BAD = {
    "no version": ({"ociVersion": UNSET}, "ociVersion"),
    "version 2": ({"ociVersion": "2.0.0"}, "ociVersion"),
    "version 0": ({"ociVersion": "0.5.0"}, "ociVersion"),
    "no version at all": ({"ociVersion": "one"}, "ociVersion"),
    "version as number": ({"ociVersion": 1}, "ociVersion"),
    "no root": ({"root": UNSET}, "root"),
    "no root path": ({"root": {}}, "root.path"),
    "root path a number": ({"root.path": 5}, "root.path"),
    "empty root path": ({"root.path": ""}, "root.path"),
    "no cwd": ({"process.cwd": UNSET}, "cwd"),
    "empty cwd": ({"process.cwd": ""}, "cwd"),
    "relative cwd": ({"process.cwd": "tmp"}, "cwd"),
    "no args": ({"process.args": UNSET}, "args"),
    "empty args": ({"process.args": []}, "args"),
    "args a string": ({"process.args": "true"}, "args"),
    "args of numbers": ({"process.args": [1]}, "args"),
    "empty program": ({"process.args": [""]}, "args"),
    "nul in args": ({"process.args": ["echo", "a\0b"]}, ("args", "config.json")),
    "nul in env": ({"process.env": ["A=a\0b"]}, ("env", "config.json")),
    "env an object": ({"process.env": {"A": "1"}}, "env"),
    "negative uid": ({"process.user.uid": -1}, "uid"),
    "uid beyond 32 bits": ({"process.user.uid": 4294967296}, "uid"),
    "uid as text": ({"process.user.uid": "0"}, "uid"),
    "uid a fraction": ({"process.user.uid": 1.5}, "uid"),
    "uid that means none": ({"process.user.uid": 4294967295}, "uid"),
    "gid that means none": ({"process.user.gid": 4294967295}, "gid"),
    "negative group": ({"process.user.additionalGids": [-1]}, "additionalGids"),
    "umask beyond": ({"process.user.umask": -1}, "umask"),
    "terminal a string": ({"process.terminal": "yes"}, "terminal"),
    "unknown rlimit": ({"process.rlimits": [_rlimit("RLIMIT_FOO")]}, "RLIMIT_FOO"),
    "rlimit without type": ({"process.rlimits": [{"soft": 1, "hard": 1}]}, "type"),
    "rlimit twice": ({"process.rlimits": [_rlimit(), _rlimit()]}, "RLIMIT_NOFILE"),
    "rlimit soft over hard": ({"process.rlimits": [_rlimit(soft=65)]}, "RLIMIT_NOFILE"),
    "rlimit negative": ({"process.rlimits": [_rlimit(soft=-1)]}, "soft"),
    "capabilities a list": ({"process.capabilities": ["CAP_KILL"]}, "capabilities"),
    "oomScoreAdj too high": ({"process.oomScoreAdj": 1001}, "oomScoreAdj"),
    "oomScoreAdj too low": ({"process.oomScoreAdj": -1001}, "oomScoreAdj"),
    "unknown scheduler": ({"process.scheduler": {"policy": "SCHED_FOO"}}, "policy"),
    "unknown scheduler flag": ({"process.scheduler": {"policy": "SCHED_OTHER", "flags": ["X"]}}, "flag"),
    "unknown priority class": ({"process.ioPriority": {"class": "FOO", "priority": 1}}, "ioPriority"),
    "priority too high": ({"process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}, "ioPriority"),
    "mount without destination": ({"mounts.5": {"type": "tmpfs", "source": "tmpfs"}}, "destination"),
    "mount with empty destination": ({"mounts.5": {"destination": "", "type": "tmpfs"}}, "destination"),
    "mount options a string": ({"mounts.5": {"destination": "/tmp", "type": "tmpfs", "options": "ro"}}, "options"),
    "mounts an object": ({"mounts": {}}, "mounts"),
    "bind without source": ({"mounts.5": {"destination": "/tmp", "options": ["bind"]}}, "source"),
    "bind of nothing": ({"mounts.5": bind("/no/such/source", "/tmp")}, "/no/such/source"),
    "unknown file system": ({"mounts.5": {"destination": "/tmp", "type": "nosuchfs", "source": "x"}}, "nosuchfs"),
    "bad mount data": ({"mounts.5": tmpfs("/tmp", "size=many")}, "/tmp"),
    "unknown mount option": ({"mounts.5": tmpfs("/tmp", "nosuchoption")}, "/tmp"),
    "unknown namespace": ({"linux.namespaces": namespaces("foo", *FIVE)}, "foo"),
    "namespace without type": ({"linux.namespaces": [{}, *namespaces(*FIVE)]}, "type"),
    "namespace twice": ({"linux.namespaces": namespaces("uts", *FIVE)}, "uts"),
    "namespace of another kind": ({"linux.namespaces": namespaces(*FIVE[1:], pid="/proc/self/ns/net")}, "pid"),
    "namespace that is a file": ({"linux.namespaces": namespaces(*FIVE[1:], pid="/etc/passwd")}, "/etc/passwd"),
    "namespace that is not": ({"linux.namespaces": namespaces(*FIVE[1:], pid="/no/such/ns")}, "/no/such/ns"),
    "namespace by relative path": ({"linux.namespaces": namespaces(*FIVE[1:], pid="ns/pid")}, "pid"),
    "maps without namespace": (
        {
            "linux.uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1}],
            "linux.gidMappings": [{"containerID": 0, "hostID": 100000, "size": 1}],
        },
        "uidMappings",
    ),
    "user namespace without maps": ({"linux.namespaces": namespaces("user", *FIVE)}, "uidMappings"),
    "map of size 0": (
        {
            "linux.namespaces": namespaces("user", *FIVE),
            "linux.uidMappings": [{"containerID": 0, "hostID": 100000, "size": 0}],
            "linux.gidMappings": [{"containerID": 0, "hostID": 100000, "size": 1}],
        },
        "uidMappings",
    ),
    "maps that overlap": (
        {
            "linux.namespaces": namespaces("user", *FIVE),
            "linux.uidMappings": [
                {"containerID": 0, "hostID": 100000, "size": 10},
                {"containerID": 5, "hostID": 200000, "size": 10},
            ],
            "linux.gidMappings": [{"containerID": 0, "hostID": 100000, "size": 1}],
        },
        ("uidMappings", "uid_map"),
    ),
    "offsets without namespace": ({"linux.timeOffsets": {"boottime": {"secs": 5}}}, "timeOffsets"),
    "hostname without namespace": (
        {"hostname": "host", "linux.namespaces": namespaces("pid", "network", "ipc", "mount")},
        "hostname",
    ),
    "domain name without namespace": (
        {"domainname": "host", "linux.namespaces": namespaces("pid", "network", "ipc", "mount")},
        "domainname",
    ),
    "hostname too long": ({"hostname": "h" * 65}, ("hostname", "host name")),
    "device without path": ({"linux.devices": [{"type": "c", "major": 1, "minor": 3}]}, "path"),
    "device of no type": ({"linux.devices": [{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}]}, "type"),
    "device without numbers": ({"linux.devices": [{"path": "/dev/x", "type": "c"}]}, "major"),
    "device rule of no type": ({"linux.resources.devices": [{"allow": True, "type": "z", "access": "r"}]}, "type"),
    "device rule of no access": ({"linux.resources.devices": [{"allow": True, "access": "rz"}]}, "access"),
    "sysctl of the host": ({"linux.sysctl": {"kernel.panic": "0"}}, "kernel.panic"),
    "sysctl of the host's network": (
        {"linux.sysctl": {"net.ipv4.ip_forward": "0"}, "linux.namespaces": namespaces("pid", "ipc", "uts", "mount")},
        "net.ipv4.ip_forward",
    ),
    "sysctl that is not": ({"linux.sysctl": {"net.no_such": "0"}}, "net.no_such"),
    "sysctl with dots": ({"linux.sysctl": {"net/../kernel/panic": "0"}}, "sysctl"),
    "sysctl value refused": ({"linux.sysctl": {"net.ipv4.ip_forward": "many"}}, "net.ipv4.ip_forward"),
    "sysctl a number": ({"linux.sysctl": {"net.ipv4.ip_forward": 1}}, "sysctl"),
    "unknown propagation": ({"linux.rootfsPropagation": "sideways"}, "rootfsPropagation"),
    "unknown personality": ({"linux.personality": {"domain": "PER_SUNOS"}}, "personality"),
    "intelRdt": ({"linux.intelRdt": {"closID": "a", "l3CacheSchema": "L3:0=f"}}, "intelRdt"),
    "hook without path": ({"hooks": {"prestart": [{}]}}, "path"),
    "hook by relative path": ({"hooks": {"createRuntime": _hook(path="bin/true")}}, "path"),
    "hook with timeout 0": ({"hooks": {"poststop": _hook(timeout=0)}}, "timeout"),
    "hook with timeout -1": ({"hooks": {"startContainer": _hook(timeout=-1)}}, "timeout"),
    "hooks a list": ({"hooks": []}, "hooks"),
    "seccomp without default": ({"linux.seccomp": {"syscalls": []}}, "defaultAction"),
    "unknown seccomp action": ({"linux.seccomp": {"defaultAction": "SCMP_ACT_FOO"}}, "SCMP_ACT_FOO"),
    "unknown seccomp architecture": ({"linux.seccomp": _seccomp(architectures=["SCMP_ARCH_Z80"])}, "SCMP_ARCH_Z80"),
    "unknown seccomp flag": ({"linux.seccomp": _seccomp(flags=["SECCOMP_FILTER_FLAG_FOO"])}, "FLAG_FOO"),
    "unknown seccomp operator": (
        {
            "linux.seccomp": _seccomp(
                syscalls=[
                    {
                        "names": ["getcwd"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_FOO"}],
                    }
                ]
            )
        },
        "SCMP_CMP_FOO",
    ),
    "seccomp argument 6": (
        {
            "linux.seccomp": _seccomp(
                syscalls=[
                    {
                        "names": ["getcwd"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}],
                    }
                ]
            )
        },
        "index",
    ),
    "seccomp errno too high": ({"linux.seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}}, "rrno"),
    "seccomp without names": ({"linux.seccomp": _seccomp(syscalls=[{"action": "SCMP_ACT_ALLOW"}])}, "names"),
    "seccomp notify without listener": (
        {"linux.seccomp": _seccomp(syscalls=[{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"}])},
        "listenerPath",
    ),
    "seccomp listener that is not": (
        {
            "linux.seccomp": _seccomp(
                listenerPath="/no/such/socket", syscalls=[{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"}]
            )
        },
        "/no/such/socket",
    ),
    "memory limit a string": ({"linux.resources.memory": {"limit": "1M"}}, "limit"),
    "memory limit too small": ({"linux.resources.memory": {"limit": 4096}}, "memory"),
    "memory limit beyond 64 bits": ({"linux.resources.memory": {"limit": 1 << 64}}, "limit"),
    "memory over memory and swap": ({"linux.resources.memory": {"limit": 1 << 27, "swap": 1 << 26}}, ("swap", "memsw")),
    "cpu shares negative": ({"linux.resources.cpu": {"shares": -1}}, "shares"),
    "cpu quota too small": ({"linux.resources.cpu": {"quota": 1, "period": 100000}}, "quota"),
    "cpu period too long": ({"linux.resources.cpu": {"quota": 100000, "period": 10000000}}, ("period", "quota")),
    "cpus that are not": ({"linux.resources.cpu": {"cpus": "4000"}}, "cpus"),
    "cpus that are no list": ({"linux.resources.cpu": {"cpus": "one"}}, "cpus"),
    "pids limit a string": ({"linux.resources.pids": {"limit": "many"}}, "limit"),
    "huge pages of no size": (
        {"linux.resources.hugepageLimits": [{"pageSize": "3XB", "limit": 1}]},
        ("pageSize", "hugepageLimits"),
    ),
    "cgroupsPath a list": ({"linux.cgroupsPath": []}, "cgroupsPath"),
    "masked path relative": ({"linux.maskedPaths": ["proc/kcore"]}, "maskedPaths"),
    "read-only path relative": ({"linux.readonlyPaths": ["proc/sys"]}, "readonlyPaths"),
    "annotation a number": ({"annotations": {"a": 1}}, "annotations"),
    "annotation without a name": ({"annotations": {"": "x"}}, "annotations"),
}


# What an older runtime does not know at all, it cannot refuse; what is worse than an error on these is not tried.
_HARMFUL = {"sysctl of the host", "sysctl of the host's network", "sysctl with dots"}


@pytest.mark.parametrize("settings, words", BAD.values(), ids=BAD.keys())
def test_what_cannot_be(oci, request, settings, words):
    if request.node.callspec.id in _HARMFUL and oci.runtime.kind != "zonectl":
        pytest.skip("on another runtime it might change the host")
    name = oci.name()
    result = oci.create(oci.bundle(settings=settings), name)
    if result.status == 0:
        # What only the container's own process can find may be said at the start.
        result = oci.run("start", name)
        oci.run("delete", "--force", name)
    oci.strict(result)
    oci.refused(result, words, name=name)


@pytest.mark.skipif(not has_legacy("memory"), reason="the unified map belongs to version 2, which is here")
def test_unified_map_on_version_1(oci):
    name = oci.name()
    result = oci.create(oci.bundle(settings={"linux.resources.unified": {"memory.max": "1000000"}}), name)
    oci.strict(result)
    oci.refused(result, "unified", name=name)


@pytest.mark.skipif(os.path.isdir("/sys/kernel/security/apparmor"), reason="AppArmor is active here")
def test_apparmor_profile_without_apparmor(oci):
    name = oci.name()
    result = oci.create(oci.bundle(settings={"process.apparmorProfile": "some-profile"}), name)
    oci.strict(result)
    oci.refused(result, "apparmor", name=name)


@pytest.mark.skipif(os.path.isdir("/sys/fs/selinux"), reason="SELinux is active here")
def test_selinux_label_without_selinux(oci):
    name = oci.name()
    result = oci.create(oci.bundle(settings={"process.selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0"}), name)
    oci.strict(result)
    oci.refused(result, "selinux", name=name)
