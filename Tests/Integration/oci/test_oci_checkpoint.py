# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""checkpoint and restore: what is asked of criu, by one that only notes it. The real one: test_oci_restore.py."""

import json
import os
import pathlib
import socket
import sys

import pytest
from bundle import bind, namespaces
from engine import needs
from leaks import read

ONLY = needs("zonectl", why="the case is about zonectl's own way to criu")

# Speaks the socket protocol of `criu swrk`: notes the request, asks back, and says what it is told to.
FAKE = '''#!{python}
import json, os, socket, sys

def fields(data):
    at, found = 0, []
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]; at += 1
            value |= (byte & 127) << shift; shift += 7
            if byte < 128: return value
    while at < len(data):
        key = varint()
        if key & 7 == 0: found.append((key >> 3, varint()))
        else:
            size = varint()
            found.append((key >> 3, bytes(data[at:at + size]).decode("latin-1"))); at += size
    return found

channel = socket.socket(fileno=int(sys.argv[2]))
request = dict(fields(channel.recv(1 << 20)))
options = [[n, v] for n, v in fields(request[2].encode("latin-1"))]
numbers = dict((n, v) for n, v in options)
links = {{n: os.readlink("/proc/%d/fd/%d" % (os.getppid(), numbers[n])) for n in (1, 17)}}
log = os.path.join(links[17], numbers[10])
plan = json.load(open({plan!r}))
json.dump({{"argv": sys.argv[1:], "type": request[1], "options": options, "links": links}}, open({noted!r}, "w"))
if "log" in plan: open(log, "w").write(plan["log"])
if "stderr" in plan: sys.stderr.write(plan["stderr"]); sys.exit(1)
answers = []
for script in plan.get("scripts", []):
    name = script.encode()
    body = bytes([10, len(name)]) + name
    channel.send(bytes([8, 6, 16, 1, 42, len(body)]) + body)
    answers.append(dict(fields(channel.recv(1 << 16))))
json.dump(answers, open({noted!r} + ".answers", "w"))
channel.send(bytes([8, request[1], 16, 1 if plan.get("success", True) else 0]))
'''


class Fake:
    """A criu that does nothing, and what it was asked."""

    def __init__(self, oci):
        self.oci = oci
        self.noted = oci.path("criu-noted")
        self.plan = oci.path("criu-plan", "{}")
        text = FAKE.format(python=sys.executable, plan=str(self.plan), noted=str(self.noted))
        self.path = oci.path("fake-criu", text)
        os.chmod(self.path, 0o755)

    def says(self, **plan):
        pathlib.Path(self.plan).write_text(json.dumps(plan))
        return self

    def run(self, *words, **keywords):
        return self.oci.run("--criu", self.path, *words, **keywords)

    @property
    def request(self):
        return json.loads(read(self.noted))

    def option(self, number):
        return [value for name, value in self.request["options"] if name == number]


@pytest.fixture
def fake(oci):
    return Fake(oci)


def _dump(fake, name, *options):
    return fake.run("checkpoint", "--leave-running", "--image-path", fake.oci.path("image"), *options, name)


# What is asked of criu


@ONLY
def test_request(oci, fake):
    name = oci.started()
    _dump(fake, name).exits(0)
    request = fake.request
    assert request["argv"] == ["swrk", "3"]
    assert request["type"] == 1
    assert request["links"] == {"1": oci.path("image"), "17": oci.path("image")}
    assert fake.option(2) == [oci.pid(name)]
    assert fake.option(3) == [1]
    assert fake.option(13) == [oci.path(f"bundle-{name}/rootfs")]
    assert fake.option(34) == [3]
    for absent in (4, 5, 7, 8, 11, 14, 15, 16, 18, 38, 46, 48, 49, 50):
        assert fake.option(absent) == [], absent


FLAGS = [
    ("--tcp-established", 5, 1),
    ("--ext-unix-sk", 4, 1),
    ("--shell-job", 7, 1),
    ("--file-locks", 8, 1),
    ("--link-remap", 18, 1),
    ("--auto-dedup", 16, 1),
    ("--tcp-skip-in-flight", 46, 1),
    ("--empty-ns=network", 38, 0x40000000),
    ("--manage-cgroups-mode=soft", 34, 3),
    ("--manage-cgroups-mode=full", 34, 4),
    ("--manage-cgroups-mode=strict", 34, 5),
    ("--manage-cgroups-mode=ignore", 34, 0),
    ("-tcp-established", 5, 1),
]


@ONLY
@pytest.mark.parametrize("option, field, value", FLAGS)
def test_flag(oci, fake, option, field, value):
    _dump(fake, oci.started(), option).exits(0)
    assert fake.option(field) == [value]


@ONLY
def test_page_server_and_lazy_pages(oci, fake):
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer):
        words = ("--lazy-pages", "--page-server", "127.0.0.1:4711", "--status-fd", str(writer))
        fake.run("checkpoint", "--image-path", oci.path("image"), *words, oci.started(), pass_fds=[writer]).exits(0)
        assert fake.option(48) == [1]
        assert fake.option(49) == [writer]
        assert fake.option(11) == ["\n\t127.0.0.1\x10\xe7$"]


@ONLY
def test_pre_dump(oci, fake):
    name = oci.started()
    fake.run("checkpoint", "--pre-dump", "--image-path", oci.path("image"), name).exits(0)
    assert (fake.request["type"], fake.option(15), fake.option(3)) == (4, [1], [1])
    assert oci.status(name) == "running"
    _dump(fake, name, "--image-path", oci.path("second"), "--parent-path", "../image").exits(0)
    assert (fake.request["type"], fake.option(14), fake.option(15)) == (1, ["../image"], [1])


@ONLY
def test_work_path_is_made(oci, fake):
    _dump(fake, oci.started(), "--work-path", oci.path("deep/work")).exits(0)
    assert fake.request["links"]["17"] == oci.path("deep/work")
    assert os.stat(oci.path("image")).st_mode & 0o777 == 0o700


@ONLY
def test_image_path_is_relative_to_the_working_directory(oci, fake):
    name = oci.started()
    fake.run("checkpoint", "--leave-running", name, cwd=oci.folder).exits(0)
    assert fake.request["links"]["1"] == oci.path("checkpoint")


@ONLY
def test_bind_mounts_are_external(oci, fake):
    source = oci.source(hello="world")

    def prepare(bundle):
        os.symlink("/run", bundle.rootfs / "linked")
        (bundle.rootfs / "run").mkdir()

    bundle = oci.bundle(("sleep", "1000"), mounts=[bind(source, "/data"), bind(f"{source}/hello", "/linked/file")])
    prepare(bundle)
    name = oci.name()
    oci.create(bundle, name).exits(0)
    oci.run("start", name).exits(0)
    _dump(fake, name).exits(0)
    external = fake.option(37)
    assert "mnt[/data]:/data" in external
    # Where the mount is, not where the configuration has it.
    assert "mnt[/run/file]:/run/file" in external
    assert not any("/proc" in text or "/dev" in text for text in external)


@ONLY
def test_joined_network_is_external(oci, fake, joined_network):
    name = oci.started(settings={"linux.namespaces": namespaces("pid", "ipc", "uts", "mount", network=joined_network)})
    _dump(fake, name).exits(0)
    inode = os.stat(joined_network).st_ino
    assert f"net[{inode}]:extRootNetNS" in fake.option(37)


@ONLY
def test_notices_are_answered(oci, fake):
    fake.says(scripts=["pre-dump", "network-lock", "post-dump"])
    _dump(fake, oci.started()).exits(0)
    assert json.loads(read(f"{fake.noted}.answers")) == [{"1": 6, "3": 1}] * 3


@ONLY
def test_terminal_of_the_container(oci, fake, console):
    name = oci.name()
    bundle = oci.bundle(("sleep", "1000"), {"process.terminal": True})
    oci.create(bundle, name, "--console-socket", console.path).exits(0)
    oci.run("start", name).exits(0)
    _dump(fake, name).exits(0)
    assert fake.option(50) == [1]


# Errors


@ONLY
@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_without_criu(oci, verb):
    bundle = oci.bundle(("sleep", "1000"))
    name = oci.started() if verb == "checkpoint" else oci.name()
    words = (verb, "--image-path", oci.path("image"), *(("-b", bundle) if verb == "restore" else ()), name)
    if not any(os.path.exists(f"{folder}/criu") for folder in ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/sbin")):
        oci.refused(oci.run(*words), "criu is not installed: apt-get install criu")
    oci.refused(oci.run("--criu", "/nonexistent/criu", *words), "/nonexistent/criu", "no such file")
    assert not os.path.exists(oci.path("image"))


@ONLY
def test_failure_tells_the_log(oci, fake):
    name = oci.started()
    fake.says(
        success=False,
        log="(00.1) Warn  (criu/x.c:1): nothing\n(00.2)      1: Error (criu/y.c:9): the cause\n"
        "(00.3) Error (criu/z.c:2): Dumping FAILED.\n",
    )
    result = fake.run("checkpoint", "--image-path", oci.path("image"), name)
    result = oci.refused(result, "criu failed: the cause", oci.path("image/dump.log"))
    assert "FAILED" not in result.stderr and "nothing" not in result.stderr
    assert oci.status(name) == "running"


@ONLY
def test_criu_that_dies(oci, fake):
    name = oci.started()
    fake.says(stderr="it was a bad day\n")
    oci.refused(fake.run("checkpoint", "--image-path", oci.path("image"), name), "it was a bad day")
    assert oci.status(name) == "running"


@ONLY
@pytest.mark.parametrize(
    "words, said",
    [
        (("--manage-cgroups-mode", "hard"), "soft, full, strict"),
        (("--empty-ns", "pid"), "--empty-ns"),
        (("--page-server", "nowhere"), "ADDRESS:PORT"),
        (("--page-server", "host:70000"), "ADDRESS:PORT"),
        (("--lazy-pages",), "--page-server"),
        (("--status-fd", "77"), "--status-fd 77"),
        (("--status-fd", "x"), "--status-fd"),
        (("--parent-path", "../nothing"), "nothing"),
    ],
)
def test_wrong_option(oci, fake, words, said):
    name = oci.started()
    oci.refused(_dump(fake, name, *words), said)
    assert oci.status(name) == "running"


@ONLY
def test_states(oci, fake):
    name = oci.created()
    oci.refused(_dump(fake, name), "is created, not running")
    oci.run("start", name).exits(0)
    oci.run("pause", name).exits(0)
    oci.refused(_dump(fake, name), "is paused, not running", "resume")
    oci.run("resume", name).exits(0)
    oci.run("kill", name, "KILL").exits(0)
    oci.wait_for(name, "stopped")
    oci.refused(_dump(fake, name), "is stopped, not running")
    oci.refused(_dump(fake, "nobody"), "does not exist")


@ONLY
def test_no_checkpoint_in_the_folder(oci, fake):
    bundle = oci.bundle(("sleep", "1000"))
    name = oci.name()
    os.mkdir(oci.path("image"))
    result = fake.run("restore", "-d", "-b", bundle, "--image-path", oci.path("image"), name)
    oci.refused(result, "there is no checkpoint", name=name)


@ONLY
def test_failed_restore_leaves_nothing(oci, fake):
    bundle = oci.bundle(("sleep", "1000"))
    oci.path("image/inventory.img", "")
    fake.says(success=False, log="(00.2)      1: Error (criu/y.c:9): the cause\n")
    name = oci.owned(oci.name())
    result = fake.run("restore", "-d", "-b", bundle, "--image-path", oci.path("image"), name)
    oci.refused(result, "restore container", "the cause", oci.path("image/restore.log"), name=name)


@ONLY
def test_restore_of_a_criu_that_restores_nothing(oci, fake):
    bundle = oci.bundle(("sleep", "1000"))
    oci.path("image/inventory.img", "")
    name = oci.owned(oci.name())
    result = fake.run("restore", "-d", "-b", bundle, "--image-path", oci.path("image"), name)
    oci.refused(result, "did not say which process", name=name)


@ONLY
@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"mounts":[{"point":"/data","destination":"/data","below":"/../../../etc"}]}',
        '{"mounts":[{"point":"/data","destination":"/nothing"}]}',
        '{"mounts":[{"point":"/data","source":"/dev/../etc/shadow"}]}',
        '{"places":[{"point":"/../../escaped","isDirectory":true}]}',
    ],
)
def test_hostile_checkpoint(oci, fake, text):
    bundle = oci.bundle(("sleep", "1000"), mounts=[bind(oci.source(), "/data")])
    oci.path("image/inventory.img", "")
    oci.path("image/zonectl.json", text)
    name = oci.owned(oci.name())
    result = fake.run("restore", "-d", "-b", bundle, "--image-path", oci.path("image"), name)
    oci.refused(result, name=name)
    assert not os.path.exists(fake.noted)
    assert not os.path.exists(oci.path("escaped")) and not os.path.exists("/escaped")
