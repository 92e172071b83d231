# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Cases beside those of test_oci_safety.py, each for a defence whose removal nothing else would notice."""

import os
import stat

import pytest
from engine import needs
from leaks import until
from test_oci_console import TERMINAL, Receiver

_GROUPS = {
    "destination": "/sys/fs/cgroup",
    "type": "cgroup",
    "source": "cgroup",
    "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
}


# P4: the control groups that are seen.


@needs("zonectl", "runc", why="it refuses some hierarchies")
def test_control_groups_are_the_containers_own(oci):
    """Neither those beside it nor those above: a level too high, and its own group is a directory in there."""
    shown = oci.text("cd /sys/fs/cgroup; for d in */; do find -L $d -mindepth 1 -type d; done; echo end", mounts=[_GROUPS])
    assert shown.split() == ["end"], f"groups can be seen: {shown.splitlines()[:5]}"


# P6: masks.


def test_mask_is_not_what_a_hook_leaves_at_null(oci):
    """The node was right when it was made; a mask is made of what is there when it is needed."""
    bundle = oci.bundle("cat /secret", {"linux.maskedPaths": ["/secret"]})
    bundle.change(mounts=[{"destination": "/proc", "type": "proc", "source": "proc"}])
    bundle.file("/secret", "inside")
    null = bundle.rootfs / "dev/null"
    words = ["sh", "-c", f"rm -f {null}; echo EVIL > {null}"]
    bundle.change(hooks={"createContainer": [{"path": "/bin/sh", "args": words}]})
    result = oci.go(bundle=bundle)
    assert null.read_text() == "EVIL\n", "the hook did not run"
    result.check("EVIL" not in result.stdout, "the mask is the hook's file")
    result.check("inside" not in result.stdout, "nothing is masked")
    if oci.runtime.kind == "zonectl":
        result.check(result.status != 0, "it runs without a mask")


def test_mask_of_a_directory_is_read_only(oci):
    """All masked directories may share one file system: nothing may be written there, nor its looks be changed."""
    script = "chmod 0700 /one; grep -c ' /one ro[, ]' /proc/self/mountinfo; grep -c ' /two ro[, ]' /proc/self/mountinfo"
    bundle = oci.bundle(script, {"linux.maskedPaths": ["/one", "/two"]})
    bundle.file("/one/file", "inside")
    bundle.file("/two/file", "inside")
    assert oci.go(bundle=bundle).exits(0).says("read-only").stdout.split() == ["1", "1"]


# P7: the terminal is of a devpts.


@needs("zonectl", why="it opens what is there")
@pytest.mark.parametrize("place", ["folder", "link"])
def test_terminal_is_not_of_a_node_that_the_image_brings(oci, short_folder, place):
    """The kernel takes a terminal for a node 5:2 from whatever devpts is mounted at `pts` beside it."""
    receiver = Receiver(f"{short_folder}/console")
    oci.defer(receiver.close)
    bundle = oci.bundle("true", TERMINAL)
    kept = [mount for mount in bundle.config["mounts"] if mount["destination"] in ("/proc", "/sys")]
    pts = next(mount for mount in bundle.config["mounts"] if mount["destination"] == "/dev/pts")
    if place == "folder":
        (bundle.rootfs / "dev/pts").mkdir()
        os.mknod(bundle.rootfs / "dev/pts/ptmx", 0o666 | stat.S_IFCHR, os.makedev(5, 2))
        pts["destination"] = "/dev/pts/pts"
    else:
        os.symlink("/dev/other", bundle.rootfs / "dev/pts")
        pts["destination"] = "/dev/other"
    bundle.change(mounts=[*kept, pts])
    name = oci.name()
    oci.refused(oci.create(bundle, name, "--console-socket", receiver.path), ("console", "terminal"), name=name)


# P14: who may start a created container.


@needs("zonectl", why="it has no socket")
def test_only_its_maker_starts_a_created_container(oci):
    """Even where the file's mode lets another user in: the process looks at who has connected."""
    name = oci.created()
    found = [os.path.join(f, n) for f, _, files in os.walk(oci.root) for n in files]
    path = next(path for path in found if stat.S_ISSOCK(os.lstat(path).st_mode))
    folder, file = os.path.split(path)
    os.chmod(folder, 0o711)
    os.chmod(path, 0o666)
    # The folder by a descriptor that root has opened: those above it stay closed. The end of the stream is the answer
    # to who is turned away, and also to who has started the program.
    code = (
        "import os, socket, sys; number = os.open(sys.argv[1], os.O_PATH); os.setgroups([]); os.setresuid(*[65534] * 3);"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(10);"
        "s.connect(f'/proc/self/fd/{number}/{sys.argv[2]}'); print('answer', s.recv(64))"
    )
    result = oci.execute(("/usr/bin/python3", "-c", code, folder, file)).exits(0)
    result.check(result.stdout.startswith("answer"), "no connection was made")
    assert not until(lambda: oci.status(name) != "created", 1), "another user has started it"
    # It still waits for its maker.
    oci.run("start", name).exits(0)
    assert oci.status(name) == "running"
