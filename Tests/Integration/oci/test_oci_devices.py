# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Devices, their rules in effect, masked and read-only paths, a read-only root."""

import os
import stat

import pytest
from bundle import namespaces
from engine import needs

MKNOD = {"process.capabilities": {k: ["CAP_MKNOD"] for k in ("bounding", "effective", "permitted")}}


def _device(**fields):
    return {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0, **fields}


@pytest.mark.parametrize(
    "path, numbers",
    [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ],
)
def test_default_device(oci, path, numbers):
    """config-linux.md "Default Devices"."""
    shown = oci.text(f"stat -c '%t:%T %a %u:%g' /dev/{path}; test -c /dev/{path} && echo char").split()
    assert shown == [numbers, "666", "0:0", "char"]


def test_default_ptmx(oci):
    assert oci.text("cd /dev; readlink ptmx || stat -c %t:%T ptmx") in ("pts/ptmx", "/dev/pts/ptmx", "5:2")


@pytest.mark.parametrize(
    "link, target",
    [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ],
)
def test_default_link(oci, link, target):
    """runtime-linux.md "Dev symbolic links"."""
    assert oci.text(("readlink", f"/dev/{link}")) == target


def test_default_devices_work(oci):
    script = (
        "head -c 4 /dev/zero | wc -c; echo x >/dev/null; head -c 4 /dev/urandom | wc -c; echo x >/dev/full || echo full"
    )
    assert oci.text(script).split() == ["4", "4", "full"]


@pytest.mark.parametrize("kind, letter", [("c", "c"), ("u", "c"), ("b", "b"), ("p", "p")])
def test_device_of_each_type(oci, kind, letter):
    if kind == "b":
        device = _device(type="b", major=7, minor=0)
    elif kind == "p":
        device = {"path": "/dev/mine", "type": "p", "fileMode": 0o666}
    else:
        device = _device(type=kind)
    shown = oci.text("ls -l /dev/mine", {"linux.devices": [device]})
    assert shown[0] == letter


def test_device_mode_and_owner(oci):
    device = _device(fileMode=0o640, uid=5, gid=7)
    assert oci.text("stat -c '%a %u:%g %t:%T' /dev/mine", {"linux.devices": [device]}) == "640 5:7 1:5"


def test_device_mode_is_not_cut_by_the_umask(oci):
    settings = {"linux.devices": [_device(fileMode=0o622)]}
    assert oci.text("stat -c %a /dev/mine", settings, preexec=lambda: os.umask(0o077)) == "622"


def test_device_in_a_new_folder(oci):
    assert (
        oci.text("test -c /dev/new/place && echo there", {"linux.devices": [_device(path="/dev/new/place")]}) == "there"
    )


def test_device_outside_dev(oci):
    assert oci.text("test -c /etc/device && echo there", {"linux.devices": [_device(path="/etc/device")]}) == "there"


@needs("zonectl", "crun", why="it wants to open it before the rules allow it")
def test_device_that_is_a_default_one(oci):
    device = _device(path="/dev/null", minor=3, fileMode=0o666)
    assert oci.text("echo x >/dev/null && echo written", {"linux.devices": [device]}) == "written"


def test_device_path_through_a_link_stays_inside(oci):
    outside = oci.directory("outside")
    bundle = oci.bundle(settings={"linux.devices": [_device(path="/link/mine")]})
    os.symlink(outside, bundle.rootfs / "link")
    oci.run("run", "--bundle", bundle, oci.owned(oci.name()))
    assert os.listdir(outside) == []


def test_devices_in_a_user_namespace_are_those_of_the_host(oci):
    """mknod(2) is not allowed there: the host's nodes are bound."""
    settings = {
        "linux.namespaces": namespaces("user", "pid", "network", "ipc", "uts", "mount"),
        "linux.uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "linux.gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    }

    def prepare(bundle):
        for folder, _, _ in os.walk(bundle.rootfs):
            os.chown(folder, 100000, 100000)

    shown = oci.text("stat -c %t:%T /dev/null; echo x >/dev/null && echo written", settings, prepare=prepare)
    assert shown.split() == ["1:3", "written"]


# Rules. The device is FUSE's, 10:229: any user may open it, and no runtime allows it unasked.
FUSE = {"major": 10, "minor": 229}

RULES = [
    ("nothing is said", None, False, False),
    ("all denied", [{"allow": False, "access": "rwm"}], False, False),
    ("all allowed", [{"allow": True, "access": "rwm"}], True, True),
    ("this allowed", [{"allow": False, "access": "rwm"}, ("c", 10, 229, "rw")], True, True),
    ("this allowed to be read", [{"allow": False, "access": "rwm"}, ("c", 10, 229, "r")], True, False),
    ("all of its kind allowed", [{"allow": False, "access": "rwm"}, ("c", 10, None, "rw")], True, True),
    ("another allowed", [{"allow": False, "access": "rwm"}, ("c", 10, 228, "rw")], False, False),
    ("a block device allowed", [{"allow": False, "access": "rwm"}, ("b", 10, 229, "rw")], False, False),
]


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this machine has no FUSE")
@pytest.mark.parametrize("rules, reads, writes", [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_rules_in_effect(oci, rules, reads, writes):
    settings = {"linux.devices": [_device(**FUSE)], "linux.resources.devices": []}
    for rule in rules or []:
        if isinstance(rule, tuple):
            kind, major, minor, access = rule
            rule = {"allow": True, "type": kind, "major": major, "access": access}
            if minor is not None:
                rule["minor"] = minor
        settings["linux.resources.devices"].append(rule)
    if rules is None and oci.runtime.kind != "zonectl":
        pytest.skip("what holds when nothing is said is the runtime's")
    script = "(exec 3</dev/mine) 2>/dev/null && echo read; (exec 3>/dev/mine) 2>/dev/null && echo write; true"
    assert oci.text(script, settings).split() == ["read"] * reads + ["write"] * writes


def test_making_nodes_is_ruled_too(oci):
    """Default rules let nodes be made, not opened: archives with devices can be unpacked."""
    script = "mknod /tmp/fuse c 10 229 && echo made; (exec 3</tmp/fuse) 2>/dev/null && echo opened; true"
    shown = oci.text(script, MKNOD)
    assert "opened" not in shown


@pytest.mark.parametrize("path", ["null", "zero", "full", "random", "urandom", "ptmx"])
def test_default_devices_are_always_allowed(oci, path):
    assert oci.text(f"(exec 3</dev/{path}) && echo opened") == "opened"


# Masks


def test_masked_file_reads_empty(oci):
    def prepare(bundle):
        bundle.file("/secret", "secret")

    assert oci.text("cat /secret; wc -c </secret", {"linux.maskedPaths": ["/secret"]}, prepare=prepare) == "0"


def test_masked_folder_is_empty_and_read_only(oci):
    def prepare(bundle):
        bundle.file("/hidden/secret", "secret")

    script = "ls -A /hidden; touch /hidden/new 2>/dev/null && echo made; echo end"
    assert oci.text(script, {"linux.maskedPaths": ["/hidden"]}, prepare=prepare) == "end"


def test_masked_path_that_is_not_there(oci):
    assert oci.text("echo in", {"linux.maskedPaths": ["/no/such", "/proc/no_such"]}) == "in"


def test_masks_of_proc(oci):
    settings = {"linux.maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"]}
    script = "for p in kcore keys timer_list; do head -c 1 /proc/$p | wc -c; done; ls /sys/firmware | wc -l"
    assert oci.text(script, settings).split() == ["0", "0", "0", "0"]


def test_mask_cannot_be_taken_away(oci):
    def prepare(bundle):
        bundle.file("/secret", "secret")

    script = "umount /secret 2>/dev/null; cat /secret"
    assert oci.text(script, {"linux.maskedPaths": ["/secret"]}, prepare=prepare) == ""


def test_mask_through_a_link_stays_inside(oci):
    """Only that the host's file is not covered: the link leads out of the root."""
    outside = oci.path("outside", "text")
    bundle = oci.bundle(settings={"linux.maskedPaths": ["/link"]})
    os.symlink(outside, bundle.rootfs / "link")
    oci.run("run", "--bundle", bundle, oci.owned(oci.name()))
    with open(outside) as file:
        assert file.read() == "text"


def test_read_only_paths(oci):
    def prepare(bundle):
        bundle.file("/data/f", "text")

    script = "cat /data/f; (echo x >/data/f) 2>&1 | grep -o 'Read-only'; echo x >/tmp/f && echo written"
    assert oci.text(script, {"linux.readonlyPaths": ["/data"]}, prepare=prepare).split() == ["textRead-only", "written"]


def test_read_only_paths_of_proc(oci):
    settings = {"linux.readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]}
    # Of the network's own namespace, so that only the path keeps it from being written; the trigger is only opened.
    script = """
    (exec 3>/proc/sysrq-trigger) 2>/dev/null && echo bad
    (echo 1 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo bad
    cat /proc/sys/kernel/ostype
    """
    assert oci.text(script, settings) == "Linux"


def test_read_only_path_that_is_not_there(oci):
    assert oci.text("echo in", {"linux.readonlyPaths": ["/no/such"]}) == "in"


def test_read_only_root(oci):
    script = (
        "touch /new 2>/dev/null && echo bad; touch /bin/new 2>/dev/null && echo bad; echo x >/dev/shm/f && echo written"
    )
    assert oci.text(script, {"root.readonly": True}) == "written"


def test_writable_root(oci):
    bundle = oci.bundle("echo text >/new")
    oci.text(None, bundle=bundle)
    assert (bundle.rootfs / "new").read_text() == "text\n"


def test_root_on_the_host_stays_writable(oci):
    bundle = oci.bundle("true", {"root.readonly": True})
    oci.text(None, bundle=bundle)
    bundle.file("/new", "text")
    assert stat.S_ISREG(os.stat(bundle.rootfs / "new").st_mode)


@needs("zonectl", "runc", why="it leaves the nodes of /dev in the root file system's folder")
def test_dev_without_a_mount_of_its_own(oci):
    """Without a tmpfs at /dev the nodes go into the root file system, which is the bundle's."""
    bundle = oci.bundle("echo x >/dev/null && echo written")
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    bundle.write()
    assert oci.text(None, bundle=bundle) == "written"
