# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a micro machine cannot be: one sentence that says what, why and what to do, and nothing made."""

import os
import shutil

import layouts
import pytest

UNUSABLE_KVM = "this machine's KVM can be used"


@pytest.mark.parametrize("options, words", [
    (["--vm=nonsense"], ["--vm=nonsense", "--vm=micro", "--vm=full"]),
    (["--memory", "1M"], ["1 MiB", "--memory"]),
    (["--memory", "10000G"], ["9.8 TiB", "the host has", "--memory"]),
    (["--vcpus", "999"], ["999", "the host has", "--vcpus"]),
    (["--vcpus", "0"], ['"0"']),
    (["--vcpus", "-1"], ["-1"]),
    (["--vcpus", "sockets=70000,cores=70000,threads=70000"], ["--vcpus"]),
    (["--vcpu-pin", "0=99999"], ["--vcpu-pin"]),
    (["--accel", "nonsense"], ['"nonsense"', "kvm", "tcg"]),
    (["--arch", "nonsense"], ['"nonsense"', "amd64"]),
    (["--balloon", "maybe"], ["--balloon", "maybe"]),
    (["--device", "/dev/null"], ["--device", "virtual machine", "--disk"]),
    (["--network", "host"], ["--network host", "zone0"]),
    (["--cdrom", "/etc/hostname"], ["--cdrom", "micro", "--vm=full"]),
    (["--disk", "new:1G"], ["--disk", "micro", "--vm=full"]),
    (["--vnc"], ["--vnc", "micro", "--vm=full"]),
    (["--tpm"], ["--tpm", "micro", "--vm=full"]),
    (["--hugepages=3M"], ["3 MiB", "page"]),
    (["-v", "/nonexistent:/x"], ["/nonexistent", "no such file"]),
])
def test_options(host, options, words):
    kind = [] if options[0].startswith("--vm=") else ["--vm=micro"]
    name = host.name("bad")
    result = host.run("run", "-d", "--name", name, *kind, *options, "busybox", "true").fails(125, *words)
    result.check("hint: " in result.stderr or len(words) < 3, "nothing is said of what to do")
    assert host.listed() == {}


@pytest.mark.parametrize("options", [["--vcpus", "1"], ["--accel", "tcg"], ["--balloon", "off"], ["--cdrom", "/x"]])
def test_options_of_machines_for_a_container(host, options):
    host.run("run", "--rm", *options, "busybox", "true").fails(125, options[0], "virtual machine", "--vm")


def test_kvm_where_there_is_none(host):
    if "tcg" not in host.kind:
        pytest.skip(UNUSABLE_KVM)
    host.run("run", "--rm", "--vm", "--accel", "kvm", "busybox", "true").fails(125, "KVM cannot be used", "auto or tcg")
    assert host.listed() == {}


def test_image_that_is_not_there(plain):
    plain.run("run", "--rm", *plain.kind, "localhost:1/nonsense", "true").fails(125, "localhost:1/nonsense")
    assert plain.listed() == {}


def test_no_kernel(host):
    host.environment["ZONECTL_GUEST"] = host.directory("empty")
    name = host.name("bare")
    for words in (("run", "-d"), ("run",), ("run", "--rm")):
        host.defer(host.remove, name)
        host.run(*words, "--name", name, *host.kind, "busybox", "true").fails(
            125, "no kernel", host.path("empty"), "make guest-kernel", "ZONECTL_GUEST")
        # What was not begun is not there.
        assert host.listed() == {}, words




def hidden(host, path):
    """Words before a command that make a program of the host's one that cannot be executed, in a mount namespace of its own."""
    script = f'mount --bind {host.path("nothing", "", 0o644)} {os.path.realpath(path)} && exec "$@"'
    return ("unshare", "-m", "sh", "-c", script, "sh")


def test_program_is_missing_that_makes_the_disk(own_store):
    """A host on which only the first use is impossible: the image's disk is not made yet."""
    wrap = hidden(own_store, "/usr/bin/mkfs.erofs")
    own_store.run("run", "--rm", *own_store.kind, "busybox", "true", wrap=wrap).fails(125, "mkfs.erofs", "erofs-utils")
    assert own_store.listed() == {}


def test_qemu_is_missing(host):
    wrap = hidden(host, shutil.which(f"qemu-system-{os.uname().machine}"))
    host.run("run", "--rm", *host.kind, "busybox", "true", wrap=wrap).fails(125, "qemu-system", "install")
    assert host.listed() == {}


@pytest.fixture
def import_second(own_store, busybox):
    path = own_store.folder / "second.tar"
    path.write_bytes(layouts.archive(layouts.rootfs(busybox, layouts.entry("etc/word", "second\n"))))
    own_store.import_image(path, "second", ["sh"]).exits(0)
    return "second"


@pytest.fixture
def plain(own_store):
    """A store of the test's own: what is pulled cannot end in that of all."""
    return own_store


def test_verbs_that_only_full_machines_have(shared):
    name = shared.machine
    shared.run("sendkey", name, "a").fails(125, name, "no display")
    shared.run("screenshot", name, shared.path("x.png")).fails(125, name, "no display")


def test_reset_does_not_end_a_machine(host):
    """Without firmware, there is nothing to begin again with but a start: that is `restart`, and is said."""
    name = host.boot("reset")
    host.run("reset", name).fails(125, name, "restart")
    assert host.status(name) == "running" and host.sh(name, "echo on") == "on\n", "it has ended"


def test_second_image(own_store, import_second):
    """The disk of one image is there already when that of another is made."""
    own_store.run("run", "--rm", *own_store.kind, "busybox", "true").exits(0)
    result = own_store.run("run", "--rm", *own_store.kind, import_second, "cat", "/etc/word").exits(0)
    assert result.stdout == "second\n"
    own_store.run("image", "rm", import_second).exits(0)
    assert len([name for name in os.listdir(f"{own_store.store}/machines") if name.endswith(".erofs")]) <= 1


def test_what_a_changed_file_means_to_verbs_that_look_at_files(shared, busybox):
    """Each either sees what the guest has written, or says that it cannot: none may be wrong in silence."""
    name = shared.machine
    shared.sh(name, "echo new >/root/changed; sync")
    result = shared.run("diff", name)
    result.check(result.status != 0 or "/root/changed" in result.stdout, "what was changed is not shown")
    if result.status != 0:
        result.fails(125, name)
    result = shared.run("cp", f"{name}:/root/changed", shared.path("copied"))
    if result.status == 0:
        assert open(shared.path("copied")).read() == "new\n"
    else:
        result.fails(125, name).check("no such file" not in result.stderr, "it looks in the wrong place")
    shared.path("given", "given\n")
    result = shared.run("cp", shared.path("given"), f"{name}:/root/given")
    if result.status == 0:
        assert shared.sh(name, "cat /root/given") == "given\n"
    else:
        result.fails(125, name)


@pytest.mark.parametrize("running", [True, False])
def test_copies_have_what_the_guest_has_written(host, running):
    """`commit`, `clone` and `snapshot`: each has the files, or says why it cannot."""
    name = host.boot("source", ("sh", "-c", "echo new >/root/changed; sync; echo done; while :; do sleep 1; done"))
    host.defer(host.remove, host.name("copy"))
    assert host.sh(name, "while ! test -s /root/changed; do sleep 0.1; done; sync; echo $?") == "0\n"
    if not running:
        host.run("stop", "-t", "0", name).ok()
    wrong = []
    look = ("sh", "-c", "cat /root/changed")
    image = host.name("made")
    result = host.run("commit", name, image)
    if result.status == 0:
        host.defer(lambda: host.run("image", "rm", image).exits(0))
        if host.run("run", "--rm", image, *look).stdout != "new\n":
            wrong.append("commit: an image without what was changed")
    else:
        result.fails(125, name)
    result = host.run("clone", name, host.name("copy"))
    if result.status == 0:
        first, second = host.inspect(name)["definition"], host.inspect(host.name("copy"))["definition"]
        for key in ("uuid", "user"):
            if first["machine"][key] == second["machine"][key]:
                wrong.append(f"clone: has the same {key}")
        if host.listed()[host.name("copy")]["image"] != "busybox:latest":
            wrong.append("clone: ls does not show its image")
        host.run("start", host.name("copy")).ok()
        if host.run("exec", host.name("copy"), *look).stdout != "new\n":
            wrong.append("clone: without what was changed")
    else:
        result.fails(125, name)
    result = host.run("snapshot", "create", name, "kept")
    if result.status == 0:
        if not running:
            host.run("start", name).ok()
        host.sh(name, "echo newer >/root/changed; sync")
        host.run("stop", "-t", "0", name).ok()
        host.run("snapshot", "restore", name, "kept").exits(0)
        host.run("start", name).ok()
        if "new\n" != host.run("exec", name, *look).stdout:
            wrong.append("snapshot: what was changed later is there after restore")
    else:
        result.fails(125, name)
    assert not wrong, wrong
