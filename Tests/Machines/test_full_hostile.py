# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images of disks that somebody made in bad faith, or that are damaged (P13, P19)."""

import os
import struct
import subprocess

import pytest
from full import blank, digest, full_host, needs, quiet, refused  # noqa: F401

needs("sgdisk", "mformat")

CLUSTER = 65536
# Fields of qcow2's header: where each is, and how it is packed.
FIELDS = {
    "magic": (0, ">I"), "version": (4, ">I"), "backing": (8, ">Q"), "backing length": (16, ">I"), "cluster bits": (20, ">I"),
    "size": (24, ">Q"), "crypt": (32, ">I"), "l1 size": (36, ">I"), "l1": (40, ">Q"), "refcounts": (48, ">Q"),
    "refcount clusters": (56, ">I"), "snapshot count": (60, ">I"), "snapshots": (64, ">Q"), "incompatible": (72, ">Q"),
    "compatible": (80, ">Q"), "autoclear": (88, ">Q"), "refcount order": (96, ">I"), "header length": (100, ">I"),
}


def qcow2(changes=(), extensions=b"", at=()):
    """An image of 1 MiB with a cluster of content; `changes` to its header, bytes `at` places."""
    fields = {
        "magic": 0x514649FB, "version": 3, "cluster bits": 16, "size": 1 << 20, "l1 size": 1, "l1": 3 * CLUSTER,
        "refcounts": CLUSTER, "refcount clusters": 1, "refcount order": 4, "header length": 104,
    }
    fields.update(changes)
    image = bytearray(6 * CLUSTER)
    for name, number in fields.items():
        place, form = FIELDS[name]
        struct.pack_into(form, image, place, number)
    image[104 : 104 + len(extensions)] = extensions
    struct.pack_into(">Q", image, CLUSTER, 2 * CLUSTER)
    for cluster in range(6):
        struct.pack_into(">H", image, 2 * CLUSTER + 2 * cluster, 1)
    struct.pack_into(">Q", image, 3 * CLUSTER, 1 << 63 | 4 * CLUSTER)
    struct.pack_into(">Q", image, 4 * CLUSTER, 1 << 63 | 5 * CLUSTER)
    image[5 * CLUSTER + 510 : 5 * CLUSTER + 512] = b"\x55\xaa"
    for place, part in at:
        image[place : place + len(part)] = part
    return bytes(image)


def extension(kind, data=b"", length=None):
    padded = data + bytes(-len(data) % 8)
    return struct.pack(">II", kind, len(data) if length is None else length) + padded


NAME = b"json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}"
TOP = (1 << 64) - 1
REFUSED = {
    "version 0": (qcow2({"version": 0}), "version"),
    "version 1": (qcow2({"version": 1}), "version"),
    "version 99": (qcow2({"version": 99}), "version"),
    "version 2^32-1": (qcow2({"version": (1 << 32) - 1}), "version"),
    "a backing file": (qcow2({"backing": 512, "backing length": 11}, at=[(512, b"/etc/shadow")]), "another file"),
    "a backing file by json:": (qcow2({"backing": 512, "backing length": len(NAME)}, at=[(512, NAME)]), "another file"),
    "a backing file by nbd:": (qcow2({"backing": 512, "backing length": 15}, at=[(512, b"nbd:127.0.0.1:1")]), "another file"),
    "a backing file beyond the end": (qcow2({"backing": TOP, "backing length": 1023}), "another file"),
    "a backing file without a length": (qcow2({"backing": 512}), "another file"),
    "a backing format": (qcow2(extensions=extension(0xE2792ACA, b"raw")), "backing"),
    "a data file": (qcow2({"incompatible": 4}), "another file"),
    "the name of a data file": (qcow2(extensions=extension(0x44415441, b"/etc/shadow")), "data file"),
    "the name of a data file after others": (
        qcow2(extensions=extension(0x6803F857, bytes(48)) + extension(0x44415441, NAME)), "data file"),
    "AES": (qcow2({"crypt": 1}), "encrypted"),
    "LUKS": (qcow2({"crypt": 2}, extension(0x0537BE77, bytes(16))), "encrypted"),
    "crypt method 2^32-1": (qcow2({"crypt": (1 << 32) - 1}), "encrypted"),
    "the corrupt bit": (qcow2({"incompatible": 2}), "corrupt"),
    "an unknown feature": (qcow2({"incompatible": 1 << 40}), "features"),
    "all features": (qcow2({"incompatible": TOP}), ""),
    "clusters of a byte": (qcow2({"cluster bits": 0}), "clusters"),
    "clusters of 2^63": (qcow2({"cluster bits": 63}), "clusters"),
    "clusters of 2^(2^32)": (qcow2({"cluster bits": (1 << 32) - 1}), "clusters"),
    "no size": (qcow2({"size": 0}), "size is 0"),
    "a size of 2^63": (qcow2({"size": 1 << 63}), "size"),
    "a size of 2^64-1": (qcow2({"size": TOP}), "size"),
    "a size that L1 does not reach": (qcow2({"size": 1 << 40}), "L1"),
    "no L1": (qcow2({"l1 size": 0}), "L1"),
    "an L1 of 2^32 entries": (qcow2({"l1 size": (1 << 32) - 1}), "L1"),
    "an L1 of 32 MiB beyond the end": (qcow2({"l1 size": 4 << 20}), "L1"),
    "L1 at 0": (qcow2({"l1": 0}), "L1"),
    "L1 beyond the end": (qcow2({"l1": 1 << 40}), "L1"),
    "L1 at the end of the world": (qcow2({"l1": TOP & ~0xFFFF}), "L1"),
    "L1 not at a cluster": (qcow2({"l1": 3 * CLUSTER + 8}), "L1"),
    "refcounts at 0": (qcow2({"refcounts": 0}), "reference counts"),
    "refcounts beyond the end": (qcow2({"refcounts": 1 << 40}), "reference counts"),
    "refcounts at the end of the world": (qcow2({"refcounts": TOP & ~0xFFFF}), "reference counts"),
    "no refcounts": (qcow2({"refcount clusters": 0}), "reference counts"),
    "refcounts of 2^32 clusters": (qcow2({"refcount clusters": (1 << 32) - 1}), "reference counts"),
    "refcounts of 2^64 bits": (qcow2({"refcount order": 64}), "reference counts"),
    "2^32 snapshots": (qcow2({"snapshot count": (1 << 32) - 1, "snapshots": CLUSTER}), "snapshots"),
    "snapshots beyond the end": (qcow2({"snapshot count": 5, "snapshots": 1 << 40}), "snapshots"),
    "a header of 0 bytes": (qcow2({"header length": 0}), "header"),
    "a header of 105 bytes": (qcow2({"header length": 105}), "header"),
    "a header of 2^32 bytes": (qcow2({"header length": (1 << 32) - 8}), "header"),
    "an extension of 2^32 bytes": (qcow2(extensions=extension(0x6803F857, length=(1 << 32) - 1)), "extension"),
    "extensions without an end": (qcow2(extensions=extension(0x12345678) * 8000), "extension"),
    "a LUKS volume": (b"LUKS\xba\xbe\x00\x01" + bytes(1 << 16), "encrypted"),
    "a VMDK that names a device": (
        b'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="fullDevice"\n'
        b'RW 2048 FLAT "/etc/shadow" 0\n'.ljust(512, b"\n"), ""),
    "a VMDK that names files": (
        b'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        b'RW 2048 FLAT "../../etc/shadow" 0\n'.ljust(512, b"\n"), ""),
    "QED with a backing file": (
        struct.pack("<4sIIIQQQQQII", b"QED\0", 65536, 4, 1, 1, 0, 0, 65536, 1 << 20, 64, 11) + b"/etc/shadow"
        + bytes(1 << 19),
        "another file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(full_host, name):
    content, says = REFUSED[name]
    path = full_host.path("it.img")
    with open(path, "wb") as file:
        file.write(content)
    before = digest(path)
    full_host.run("run", "--dry-run", "--vm", path, timeout=2).fails(125, says)
    refused(full_host, boots=path, says=(says,))
    assert digest(path) == before


# QEMU reads these, and must see them through, or say no. What the header says of itself is in order.
PERHAPS = {
    "in order": qcow2(),
    "dirty": qcow2({"incompatible": 1}),
    "L2 beyond the end": qcow2(at=[(3 * CLUSTER, struct.pack(">Q", 1 << 63 | 1 << 40))]),
    "L2 is the header": qcow2(at=[(3 * CLUSTER, struct.pack(">Q", 1 << 63))]),
    "L2 is L1": qcow2(at=[(3 * CLUSTER, struct.pack(">Q", 1 << 63 | 3 * CLUSTER))]),
    "L2 not at a cluster": qcow2(at=[(3 * CLUSTER, struct.pack(">Q", 1 << 63 | 4 * CLUSTER + 512))]),
    "content beyond the end": qcow2(at=[(4 * CLUSTER, struct.pack(">Q", 1 << 63 | 1 << 50))]),
    "content is compressed nonsense": qcow2(at=[(4 * CLUSTER, struct.pack(">Q", 1 << 62 | (1 << 62) - 1))]),
    "refcounts count themselves as 0": qcow2(at=[(CLUSTER, bytes(8))]),
    "refcounts all the same": qcow2(at=[(CLUSTER, struct.pack(">Q", 3 * CLUSTER) * 8192)]),
    "refcounts of 2^16-1": qcow2(at=[(2 * CLUSTER, b"\xff" * CLUSTER)]),
    "65536 snapshots": qcow2({"snapshot count": 6000, "snapshots": 4 * CLUSTER}),
    "all at the same place": qcow2({"l1": CLUSTER, "refcounts": CLUSTER}),
    "L1 is the header": qcow2({"l1": 0, "l1 size": 0, "size": 512}),
    "zstd": qcow2({"incompatible": 8}, at=[(104, b"\x01")]),
    "content is missing": qcow2()[: 4 * CLUSTER],
    "autoclear": qcow2({"autoclear": TOP, "compatible": TOP}),
    "bitmaps": qcow2({"autoclear": 1}, extension(0x23852875, struct.pack(">IIQQ", (1 << 32) - 1, 0, TOP, TOP))),
}


@pytest.mark.parametrize("name", PERHAPS)
def test_it_is_refused_or_runs_and_never_hangs(full_host, name):
    path = full_host.path("it.img")
    with open(path, "wb") as file:
        file.write(PERHAPS[name])
    started = full_host.name("m")
    full_host.defer(full_host.remove, started)
    words = ("run", "-d", "--name", started, "--vm", "--firmware", "bios", "-m", "64M", "--vcpus", "1")
    result = quiet(full_host.run(*words, path, timeout=5))
    if result.status == 0:
        full_host.run("stop", "-t", "0", started, timeout=5).exits(0)
        full_host.run("rm", "-f", started, timeout=5).exits(0)
    else:
        result.fails(125)
        assert started not in full_host.listed()


def test_cut_off_at_many_places(full_host):
    whole = qcow2()
    places = sorted({0, 1, 3, 4, 8, 71, 72, 103, 104, 511, 512, 4095, 4096, *range(CLUSTER, 3 * CLUSTER, CLUSTER // 2 + 1)})
    path = full_host.path("it.img")
    for place in places:
        with open(path, "wb") as file:
            file.write(whole[:place])
        full_host.run("run", "--dry-run", "--vm", path, timeout=2).fails(125)
        full_host.run("run", "--dry-run", "--vm", "--disk-format", "qcow2", path, timeout=2).fails(125)


@pytest.mark.parametrize("options", [("-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10")])
def test_encrypted_by_qemu_img(full_host, options):
    path = full_host.path("it.qcow2")
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=word", *options, path, "1M"]
    made = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if made.returncode != 0:
        pytest.skip(f"qemu-img makes no such image here: {made.stderr.strip()}")
    before = digest(path)
    refused(full_host, boots=path, says=("encrypted",))
    assert digest(path) == before


def test_a_data_file_by_qemu_img(full_host):
    path = full_host.path("it.qcow2")
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={full_host.path('data')}", path, "1M"]
    subprocess.run(words, check=True, timeout=20)
    refused(full_host, boots=path, says=("another file",))


def test_names_that_mean_something_to_qemu(full_host, monkeypatch):
    """They are files like others, or are not there; nothing is ever taken for a protocol, an option or JSON."""
    monkeypatch.chdir(full_host.folder)
    for name in ("json:{}", "nbd:localhost:1", "fd:0", "a,b=c", "a:b", "file:x", "-drive", "%s%n", "ä ö"):
        path = os.path.join(full_host.folder, name)
        os.rename(blank(full_host), path)
        started = full_host.name("m")
        full_host.defer(full_host.remove, started)
        # Beside it a layer of its own, whose base has that name.
        result = quiet(full_host.run("run", "-d", "--rm", "--name", started, "--vm", "-m", "64M", "--vcpus", "1", path))
        result.check(result.status == 0, f"a disk called {name!r} is not taken")
        full_host.run("rm", "-f", started).ok()
    full_host.run("run", "--vm=full", "json:{\"driver\":\"null-co\"}").fails(125, "no file of a disk")
    full_host.run("run", "--vm=full", "nbd://127.0.0.1/x").fails(125)
    refused(full_host, "--disk", "nbd:127.0.0.1:1", boots=blank(full_host), says=("no such file",))
