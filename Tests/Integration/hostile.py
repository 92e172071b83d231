# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Hostile layers, archives and manifests, made byte by byte: what no tool would write, and what attackers have written."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
from dataclasses import dataclass

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)

# What must become of it: an error, an image, or either of the two.
REFUSED, LAWFUL, EITHER = "refused", "lawful", "either"


@dataclass(frozen=True)
class Case:
    """One hostile image. `build(folder, out)` returns what to import; `out` is a folder of the host's to break into."""

    name: str
    outcome: str
    build: object
    says: str = ""


CASES = []


def case(name, outcome, build, says=""):
    CASES.append(Case(name, outcome, build, says))


# Tar


def number(value, width):
    """A number of a tar header: octal, or base 256 where that is too small or the number negative."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    data = (value & (1 << (8 * width)) - 1).to_bytes(width, "big")
    return bytes([data[0] | 0x80]) + data[1:]


def header(name, kind=b"0", size=0, link=b"", mode=0o644, uid=0, gid=0, mtime=1, device=(0, 0), checksum=None, **raw):
    block = bytearray(512)

    def put(at, data, width):
        block[at : at + min(width, len(data))] = data[:width]

    put(0, name, 100)
    put(100, number(mode, 8), 8)
    put(108, raw.get("uid_field", number(uid, 8)), 8)
    put(116, number(gid, 8), 8)
    put(124, raw.get("size_field", number(size, 12)), 12)
    put(136, raw.get("mtime_field", number(mtime, 12)), 12)
    put(156, kind, 1)
    put(157, link, 100)
    put(257, raw.get("magic", b"ustar\x0000"), 8)
    put(329, number(device[0], 8), 8)
    put(337, number(device[1], 8), 8)
    block[148:156] = b" " * 8
    total = sum(block) if checksum is None else checksum
    block[148:156] = b"%06o\0 " % (total & 0o777777)
    return bytes(block)


def padded(data):
    return data + bytes(-len(data) % 512)


def member(name, data=b"", kind=b"0", link=b"", pax=None, size=None, **rest):
    """A member; names too long for its header go into one of GNU's before it, `pax` into another."""
    name, link = (text.encode() if isinstance(text, str) else text for text in (name, link))
    data = data.encode() if isinstance(data, str) else data
    out = b""
    if pax is not None:
        out += member("pax", pax if isinstance(pax, bytes) else records(pax), b"x")
    for text, letter in ((name, b"L"), (link, b"K")):
        if len(text) > 100:
            out += member("././@LongLink", text + b"\0", letter)
    return out + header(name, kind, len(data) if size is None else size, link, **rest) + padded(data)


def records(values):
    """Records of a pax header: b"12 name=value\\n"."""
    out = b""
    for name, value in values.items():
        body = b" %s=%s\n" % (name.encode(), value if isinstance(value, bytes) else str(value).encode())
        length = len(body)
        while len(b"%d" % length) + len(body) != length:
            length = len(b"%d" % length) + len(body)
        out += b"%d" % length + body
    return out


def folder(name, **rest):
    return member(name, b"", b"5", mode=0o755, **rest)


def symlink(name, target, **rest):
    return member(name, b"", b"2", target, mode=0o777, **rest)


def hardlink(name, target, **rest):
    return member(name, b"", b"1", target, **rest)


def tar(*members):
    return b"".join(members) + bytes(1024)


# Images


class Image:
    """An OCI image layout whose parts can be anything."""

    def __init__(self, place):
        self.place = pathlib.Path(place)
        (self.place / "blobs/sha256").mkdir(parents=True)
        self.write("oci-layout", {"imageLayoutVersion": "1.0.0"})

    def write(self, name, content):
        (self.place / name).write_bytes(text(content))

    def blob(self, content, media, **more):
        data = text(content)
        digest = hashlib.sha256(data).hexdigest()
        self.write(f"blobs/sha256/{digest}", data)
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}

    def config(self, diff_ids, config=None, **more):
        body = {"architecture": MACHINE, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        return self.blob({**body, "config": config or {"Cmd": ["/bin/sh"]}, **more}, CONFIG)

    def manifest(self, layers, config, **more):
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return self.blob({**body, **more}, MANIFEST)

    def index(self, *manifests, **more):
        self.write("index.json", {"schemaVersion": 2, "manifests": list(manifests), **more})
        return self.place

    def whole(self, *layers, media=LAYER, packed=None, **more):
        """A sound image of these layers' bytes."""
        blobs = [self.blob(packed(data) if packed else data, media) for data in layers]
        return self.index(self.manifest(blobs, self.config([digest_of(data) for data in layers], **more)))


def text(content):
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


BASE = tar(folder("etc"), member("etc/passwd", "root:x:0:0::/:/bin/sh\n"), folder("d"), member("d/inner", "x"))


def layer(name, outcome, make, says=""):
    """A hostile layer upon a sound one; `make(out)` returns its bytes, or its members."""

    def build(place, out):
        made = make(out)
        return Image(place / "image").whole(BASE, made if isinstance(made, bytes) else tar(*made))

    case(f"layer-{name}", outcome, build, says)


def rootfs(name, outcome, make, says=""):
    """A hostile archive of a root file system; `make()` returns its bytes."""

    def build(place, _):
        (place / "image.tar").write_bytes(make())
        return place / "image.tar"

    case(f"rootfs-{name}", outcome, build, says)


def layout(name, outcome, make, says=""):
    """A hostile layout; `make(image, out)` fills it."""

    def build(place, out):
        image = Image(place / "image")
        make(image, out)
        return image.place

    case(f"layout-{name}", outcome, build, says)


def archive(name, outcome, make, says=""):
    """A hostile archive of a layout, or one of docker's; `make(out)` returns its members."""

    def build(place, out):
        (place / "image.tar").write_bytes(tar(*make(out)))
        return place / "image.tar"

    case(f"archive-{name}", outcome, build, says)


# Layers: ways out

layer("parent", REFUSED, lambda out: [member("../evil", "x")], "leads out")
layer("parent-inside", REFUSED, lambda out: [member("etc/../../evil", "x")], "leads out")
layer("absolute-parent", REFUSED, lambda out: [member(f"/../../../../../..{out}/evil", "x")], "leads out")
layer("absolute", LAWFUL, lambda out: [member(f"{out}/evil", "x")])
layer("through-link", REFUSED, lambda out: [symlink("way", out), member("way/evil", "x")])
layer("through-relative-link", REFUSED, lambda out: [symlink("way", "../" * 20 + out[1:]), member("way/evil", "x")])
layer("through-chain", REFUSED, lambda out: [symlink("a", "b"), symlink("b", out), folder("a/evil")])
layer("through-loop", REFUSED, lambda out: [symlink("a", "b"), symlink("b", "a"), member("a/evil", "x")])
layer("through-magic-link", REFUSED, lambda out: [symlink("way", f"/proc/self/root{out}"), member("way/evil", "x")])
layer("folder-becomes-link", REFUSED, lambda out: [folder("way"), symlink("way", out), member("way/evil", "x")])
layer("link-becomes-folder", LAWFUL, lambda out: [symlink("way", out), folder("way"), member("way/evil", "x")])
layer("link-to-folder-with-mode", LAWFUL, lambda out: [symlink("way", out), folder("way", uid=7)])
layer("file-over-link", LAWFUL, lambda out: [symlink("kept", f"{out}/kept"), member("kept", "overwritten")])
layer("link-over-folder-of-base", REFUSED, lambda out: [symlink("d", out), member("d/inner", "x")])
layer("fifo-as-folder", REFUSED, lambda out: [member("way", b"", b"6"), member("way/evil", "x")])
layer("fifo-then-file", LAWFUL, lambda out: [member("way", b"", b"6"), member("way", "x")])
layer("root-as-link", REFUSED, lambda out: [symlink("./", out), member("evil", "x")])
layer("root-as-file", REFUSED, lambda out: [member(".", "x")])
layer("no-name", REFUSED, lambda out: [member("", "x")])


def link_of_lower_layer(place, out):
    first = tar(folder("etc"), symlink("way", out), symlink("etc/way", "../.." + out))
    second = tar(member("way/evil", "x"), member("etc/way/evil", "x"), member("way/.wh.kept"))
    return Image(place / "image").whole(first, second)


case("layer-through-link-of-lower-layer", LAWFUL, link_of_lower_layer)

# Layers: hard links

layer("hardlink-to-host", REFUSED, lambda out: [hardlink("a", f"{out}/kept"), member("a", "overwritten")])
layer("hardlink-out", REFUSED, lambda out: [hardlink("a", "../" * 20 + f"{out[1:]}/kept")], "leads out")
layer("hardlink-through-link", REFUSED, lambda out: [symlink("w", out), hardlink("a", "w/kept"), member("a", "x")])
layer("hardlink-to-link", LAWFUL, lambda out: [symlink("s", f"{out}/kept"), hardlink("a", "s"), member("a", "x")])
layer("hardlink-to-itself", REFUSED, lambda out: [member("a", "x"), hardlink("a", "a")])
layer("hardlink-to-folder", REFUSED, lambda out: [folder("f"), hardlink("a", "f")])
layer("hardlink-to-root", REFUSED, lambda out: [hardlink("a", ".")])
layer("hardlink-with-data", EITHER, lambda out: [member("a", "x"), member("b", "y" * 600, b"1", "a")])

# Layers: whiteouts, and what overlayfs would obey

layer("whiteout-of-parent", REFUSED, lambda out: [member("d/.wh...", b"")])
layer("whiteout-of-nothing", REFUSED, lambda out: [member("d/.wh.", b"")])
layer("whiteout-out", REFUSED, lambda out: [member(f"../../../../../..{out}/.wh.kept", b"")])
layer("whiteout-through-link", REFUSED, lambda out: [symlink("way", out), member("way/.wh..wh..opq", b"")])
layer("whiteout-as-folder", REFUSED, lambda out: [folder(".wh.d"), member(".wh.d/evil", "x")])
layer("whiteouts-of-aufs", LAWFUL, lambda out: [folder(".wh..wh.plnk"), member(".wh..wh.aufs", b"")])
layer("whiteout-as-device", LAWFUL, lambda out: [member("d", b"", b"3", device=(0, 0))])
for name in ("trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.overlay.opaque", "user.overlay.opaque"):
    layer(f"attribute-{name}", REFUSED, lambda out, name=name: [
        member("d", b"", b"5", pax={f"SCHILY.xattr.{name}": out})], "overlayfs")
layer("attribute-of-host", LAWFUL, lambda out: [
    member("a", "x", pax={"SCHILY.xattr.security.selinux": "u:r:t", "SCHILY.xattr.security.ima": "x"})])
layer("attribute-broken-capability", REFUSED, lambda out: [member("a", "x", pax={"SCHILY.xattr.security.capability": b"abc"})])
layer("attribute-of-300-bytes", REFUSED, lambda out: [member("a", "x", pax={"SCHILY.xattr.user." + "n" * 300: "x"})])
layer("attribute-of-70000-bytes", REFUSED, lambda out: [member("a", "x", pax={"SCHILY.xattr.user.n": "x" * 70000})])

# Layers: devices and rights

layer("disk", LAWFUL, lambda out: [member("disk", b"", b"4", device=(254, 0), mode=0o666)])
layer("device-out-of-range", REFUSED, lambda out: [member("a", b"", b"3", device=(70000, 1 << 21))])
layer("setuid", LAWFUL, lambda out: [member("su", "x", mode=0o6777)])

# Layers: numbers and names

layer("owner-nobody-has", REFUSED, lambda out: [member("a", "x", pax={"uid": 4294967295})])
layer("owner-negative", REFUSED, lambda out: [member("a", "x", uid_field=number(-5, 8))])
layer("size-negative", REFUSED, lambda out: [member("a", "x", size_field=number(-1, 12))])
layer("size-huge", REFUSED, lambda out: [member("a", "x", size_field=number(1 << 62, 12))])
layer("size-beyond-end", REFUSED, lambda out: [member("a", "x", size=1 << 30)])
layer("size-no-number", EITHER, lambda out: [member("a", "x", size_field=b"9z8y7x\0\0\0\0\0\0")])
layer("size-two-ways", EITHER, lambda out: [member("a", "x" * 1024, pax={"size": 512}), member("b", "y")])
layer("time-huge", EITHER, lambda out: [member("a", "x", pax={"mtime": "9" * 400})])
layer("time-negative", EITHER, lambda out: [member("a", "x", mtime_field=number(-(1 << 60), 12))])
layer("name-of-300-bytes", REFUSED, lambda out: [member("n" * 300, "x")])
layer("path-of-5000-bytes", REFUSED, lambda out: [member("nnnn/" * 1000, b"", b"5")])
layer("600-deep", REFUSED, lambda out: [member("d/" * 600, b"", b"5")])
layer("link-of-5000-bytes", REFUSED, lambda out: [symlink("a", "l" * 5000)])
layer("link-of-nothing", REFUSED, lambda out: [symlink("a", "")])
layer("name-for-terminals", LAWFUL, lambda out: [member("\x1b[2J\x1b]0;evil\x07\n\r\u202etxt", "x")])
layer("name-for-terminals-refused", REFUSED, lambda out: [member("../\x1b[2J\x1b]0;evil\x07\n\r\u202etxt", "x")])
layer("name-no-utf8", LAWFUL, lambda out: [member(b"\xff\xfe\x80", "x"), member("a", "x", pax={"path": b"\xff\xc0"})])
layer("name-in-pax-leads-out", REFUSED, lambda out: [member("a", "x", pax={"path": f"../../..{out}/evil"})])
layer("name-in-global-pax", EITHER, lambda out: [member("g", records({"path": f"../..{out}/evil"}), b"g"), member("a", "x")])
layer("link-in-pax-through", REFUSED, lambda out: [symlink("w", "a", pax={"linkpath": out}), member("w/evil", "x")])
layer("long-names-without-end", EITHER, lambda out: [member("././@LongLink", "n" * 90 + "\0", b"L")] * 200 + [member("a")])
layer("pax-wrong-length", REFUSED, lambda out: [member("a", "x", pax=b"999 path=a\n")])
layer("pax-no-record", REFUSED, lambda out: [member("a", "x", pax=b"-3 =\n\n\n")])
layer("sparse-beyond-end", REFUSED, lambda out: [
    member("a", "x", pax={"GNU.sparse.size": 10, "GNU.sparse.map": "100,1"})])
layer("sparse-exabytes", REFUSED, lambda out: [
    member("a", "", pax={"GNU.sparse.size": 9 << 60, "GNU.sparse.map": "0,0"})])
layer("sparse-terabyte", LAWFUL, lambda out: [member("a", "", pax={"GNU.sparse.size": 1 << 40, "GNU.sparse.map": "0,0"})])
layer("sparse-overlapping", EITHER, lambda out: [
    member("a", "x" * 20, pax={"GNU.sparse.size": 30, "GNU.sparse.map": "10,10,5,10"})])
for kind in (b"Z", b"V", b"M", b"D", b"N", b"7", b"X"):
    layer(f"kind-{kind.decode()}", EITHER, lambda out, kind=kind: [member("a", "x", kind), member("b", "y")])

# Layers: what is no archive, or another one for each who reads it

layer("checksum", REFUSED, lambda out: [member("a", "x", checksum=1)])
layer("cut-short", REFUSED, lambda out: tar(member("a", "x" * 5000))[:1500])
layer("empty-blob", REFUSED, lambda out: b"")
layer("noise", REFUSED, lambda out: hashlib.shake_128(b"seed").digest(20000))
layer("zip", REFUSED, lambda out: b"PK\x03\x04" + bytes(600))
layer("second-archive-behind-the-end", EITHER, lambda out: tar(member("a", "x")) + tar(member("../evil", "x")))
layer("noise-behind-the-end", EITHER, lambda out: tar(member("a", "x")) + b"\xff" * 4096)
layer("cpio", REFUSED, lambda out: b"070701" + b"00000000" * 13 + bytes(600))


def packed(name, outcome, pack, says=""):
    """A layer whose compression is hostile: `pack()` returns the blob and what it says that it unpacks to."""

    def build(place, _):
        blob, content = pack()
        image = Image(place / "image")
        config = image.config([digest_of(BASE), digest_of(content)])
        return image.index(image.manifest([image.blob(BASE, LAYER), image.blob(blob, LAYER + "+gzip")], config))

    case(f"layer-{name}", outcome, build, says)


SMALL = tar(member("a", "x" * 2000))


def with_zstd(data, *options):
    """None where there is no zstd."""
    program = shutil.which("zstd")
    return program and subprocess.run([program, "-q", "-c", *options], input=data, capture_output=True, check=True).stdout


def zeros(count):
    """A gzip of an archive with a file of so many MiB of zeros."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(header(b"zeros", size=count << 20))
        for _ in range(count):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))
    return buffer.getvalue()


packed("gzip-cut-short", REFUSED, lambda: (gzip.compress(SMALL)[:-20], SMALL))
packed("gzip-wrong-sum", EITHER, lambda: (gzip.compress(SMALL)[:-8] + b"\0" * 8, SMALL))
packed("gzip-noise-behind", EITHER, lambda: (gzip.compress(SMALL) + b"\xff" * 100, SMALL))
packed("gzip-two-in-one", EITHER, lambda: (gzip.compress(SMALL[:512]) + gzip.compress(SMALL[512:]), SMALL))
packed("gzip-in-gzip", REFUSED, lambda: (gzip.compress(gzip.compress(SMALL)), SMALL), "more than once")
packed("unpacks-to-something-else", REFUSED, lambda: (gzip.compress(tar(member("evil", "x"))), SMALL), "unpacks to")
packed("gzip-header-without-end", REFUSED, lambda: (b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 100000, SMALL))
rootfs("zeros-gzip", LAWFUL, lambda: zeros(64))
rootfs("pax-of-32-MiB", REFUSED, lambda: gzip.compress(tar(member("a", "x", pax={"comment": b"c" * (32 << 20)}))))
rootfs("name-of-20-MiB", REFUSED, lambda: gzip.compress(tar(member("././@LongLink", b"n" * (20 << 20), b"L"), member("a"))))
rootfs("20000-folders", LAWFUL, lambda: tar(*(folder(f"{n:06}") for n in range(20000))))
rootfs("10000-attributes", EITHER, lambda: tar(member("a", "x", pax={f"SCHILY.xattr.user.{n}": "v" for n in range(10000)})))
rootfs("sparse-of-many-pieces", EITHER, lambda: tar(member(
    "a", "x", pax={"GNU.sparse.size": 1 << 30, "GNU.sparse.map": ",".join(f"{n},0" for n in range(200000))})))
if shutil.which("zstd"):
    rootfs("zstd-window-of-2-GiB", EITHER, lambda: with_zstd(SMALL, "--ultra", "-22", "--long=31"))
    rootfs("zstd-zeros", LAWFUL, lambda: with_zstd(gzip.decompress(zeros(64))))
    rootfs("zstd-cut-short", REFUSED, lambda: with_zstd(SMALL)[:-10])

# Manifests

SOUND = tar(member("a", "x"))


def document(name, outcome, content, says="", file="index.json"):
    layout(name, outcome, lambda image, out: (image.whole(SOUND), image.write(file, content)), says)


for name, content in {
    "empty": b"", "null": b"null", "array": b"[]", "object": b"{}", "open": b"{", "noise": b"\xff\xfe\x00",
    "no-images": {"schemaVersion": 2, "manifests": []}, "deep": b"[" * 200000,
    "deep-objects": b'{"a":' * 100000, "17-MB": b'"' + b"x" * (17 << 20) + b'"',
    "twice": b'{"schemaVersion":2,"manifests":[],"manifests":[]}', "nul": b'{"schemaVersion":2,"manifests":["\\u0000"]}',
    "numbers": b'{"schemaVersion":1e999,"manifests":[{"size":-0.5e-999}]}',
    "100000-images": {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": digest_of(b""), "size": 0}] * 100000},
}.items():
    document(f"index-{name}", REFUSED, content)
document("version", REFUSED, {"imageLayoutVersion": "9.0.0"}, "version", file="oci-layout")


def descriptor(name, outcome, says="", **change):
    """The index's own descriptor is sound but for this."""

    def make(image, out):
        config = image.config([digest_of(SOUND)])
        image.index({**image.manifest([image.blob(SOUND, LAYER)], config), **change})

    layout(f"descriptor-{name}", outcome, make, says)


for name, digest in {
    "traversal": "sha256:../../../../../../etc/passwd", "short": "sha256:00", "other": "sha512:" + "0" * 128,
    "upper-case": "sha256:" + "A" * 64, "slash": "sha256/" + "0" * 64, "missing": "sha256:" + "0" * 64, "number": 7,
}.items():
    descriptor(f"digest-{name}", REFUSED, digest=digest)
for name, size in {"negative": -1, "wrong": 1, "huge": (1 << 63) - 1, "wraps": 1 << 64, "text": "12", "fraction": 0.5}.items():
    descriptor(f"size-{name}", REFUSED, size=size)
descriptor("media-type", REFUSED, mediaType="text/html")
descriptor("as-index", REFUSED, mediaType=INDEX)
descriptor("platform", REFUSED, "s390x", platform={"os": "linux", "architecture": "s390x"})
descriptor("name-traversal", LAWFUL, annotations={"org.opencontainers.image.ref.name": "../../../etc/passwd"})
descriptor("name-for-terminals", LAWFUL, annotations={"org.opencontainers.image.ref.name": "\x1b[2Jevil\n"})
descriptor("name-of-a-megabyte", LAWFUL, annotations={"org.opencontainers.image.ref.name": "n" * (1 << 20)})


def manifest(name, outcome, change, says=""):
    """A sound manifest but for what `change(body, image)` does to it."""

    def make(image, out):
        blob = image.blob(SOUND, LAYER)
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": image.config([digest_of(SOUND)]), "layers": [blob]}
        image.index(image.blob(change(body, image), MANIFEST))

    layout(f"manifest-{name}", outcome, make, says)


manifest("two-kinds", REFUSED, lambda body, image: {**body, "manifests": []}, "both")
manifest("other-kind", REFUSED, lambda body, image: {**body, "mediaType": INDEX}, "calls itself")
manifest("no-layers", REFUSED, lambda body, image: {**body, "layers": []})
manifest("no-config", REFUSED, lambda body, image: {name: value for name, value in body.items() if name != "config"})
manifest("config-is-layer", REFUSED, lambda body, image: {**body, "config": {**body["layers"][0], "mediaType": CONFIG}})
manifest("layer-is-config", REFUSED, lambda body, image: {**body, "layers": [{**body["config"], "mediaType": LAYER}]})
manifest("config-size-negative", REFUSED, lambda body, image: {**body, "config": {**body["config"], "size": -1}}, "instead of -1")
manifest("artifact", REFUSED, lambda body, image: {**body, "config": {**body["config"], "mediaType": "application/x"}})
manifest("layer-type", REFUSED, lambda body, image: {**body, "layers": [{**body["layers"][0], "mediaType": "text/x"}]})
manifest("layer-encrypted", REFUSED, lambda body, image: {
    **body, "layers": [{**body["layers"][0], "mediaType": LAYER + "+gzip+encrypted"}]})
manifest("layer-elsewhere", REFUSED, lambda body, image: {**body, "layers": [
    {**body["layers"][0], "digest": "sha256:" + "1" * 64, "urls": ["file:///etc/passwd"]}]})
manifest("sizes-wrap", REFUSED, lambda body, image: {**body, "layers": [{**body["layers"][0], "size": (1 << 63) - 1}]})
manifest("more-layers-than-ids", REFUSED, lambda body, image: {**body, "layers": body["layers"] * 2})
manifest("401-layers", REFUSED, lambda body, image: {
    **body, "layers": body["layers"] * 401, "config": image.config([digest_of(SOUND)] * 401)}, "401")
manifest("60-times-one-layer", LAWFUL, lambda body, image: {
    **body, "layers": body["layers"] * 60, "config": image.config([digest_of(SOUND)] * 60)})
manifest("100000-annotations", EITHER, lambda body, image: {**body, "annotations": {str(n): "v" for n in range(100000)}})
manifest("config-of-17-MB", REFUSED, lambda body, image: {
    **body, "config": image.config([digest_of(SOUND)], comment="c" * (17 << 20))}, "too big")


def config(name, outcome, says="", **change):
    layout(f"config-{name}", outcome, lambda image, out: image.whole(SOUND, **change), says)


config("wrong-id", REFUSED, "unpacks to", rootfs={"type": "layers", "diff_ids": ["sha256:" + "2" * 64]})
config("no-ids", REFUSED, rootfs={"type": "layers", "diff_ids": []})
config("id-traversal", REFUSED, rootfs={"type": "layers", "diff_ids": ["sha256:../../../../etc"]})
config("other-machine", REFUSED, "s390x", architecture="s390x")
config("words-are-numbers", REFUSED, config={"Cmd": [1, 2]})
config("nul", REFUSED, config={"Env": ["A=\0B"]})
config("odd-words", LAWFUL, config={
    "Cmd": ["../../../bin/sh", "\x1b[2J"], "Env": ["=", "no-equals", "LD_PRELOAD=/evil"], "WorkingDir": "../../../..",
    "User": "4294967295:-1", "StopSignal": "SIG\x1b", "Labels": {"": ""}, "Volumes": {"../..": {}},
    "Healthcheck": {"Test": [], "Interval": -1, "Retries": -(1 << 63)}})


def nested(image, depth):
    """An index in an index in an index."""
    blob = image.manifest([image.blob(SOUND, LAYER)], image.config([digest_of(SOUND)]))
    for _ in range(depth):
        blob = image.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": [blob]}, INDEX)
    image.index(blob)


layout("indexes-100-deep", REFUSED, lambda image, out: nested(image, 100), "deep")
layout("index-of-an-index-of-many", REFUSED, lambda image, out: image.index(image.blob({
    "schemaVersion": 2, "manifests": [{"mediaType": INDEX, "digest": digest_of(b""), "size": 0}] * 1000}, INDEX)))


# Layouts: files that are something else


def swapped(name, make, file=None):
    """One of a layout's files is replaced by what `make(path, data, out)` makes; the first layer's blob unless named."""

    def fill(image, out):
        image.whole(SOUND)
        path = image.place / (file or f"blobs/sha256/{digest_of(SOUND)[7:]}")
        data = path.read_bytes()
        path.unlink()
        make(path, data, out)

    layout(name, REFUSED, fill)


def elsewhere(path, data, out):
    other = pathlib.Path(out).parent / "elsewhere"
    other.write_bytes(data)
    path.symlink_to(other)


for file in (None, "index.json", "oci-layout"):
    what = file or "blob"
    swapped(f"{what}-is-fifo", lambda path, data, out: os.mkfifo(path), file)
    swapped(f"{what}-is-folder", lambda path, data, out: path.mkdir(), file)
    swapped(f"{what}-is-endless", lambda path, data, out: path.symlink_to("/dev/zero"), file)
    swapped(f"{what}-is-elsewhere", elsewhere, file)
swapped("blob-has-other-content", lambda path, data, out: path.write_bytes(data[:-1] + b"\1"))
layout("blobs-are-elsewhere", REFUSED, lambda image, out: (
    image.whole(SOUND), shutil.move(image.place / "blobs", pathlib.Path(out).parent / "blobs"),
    (image.place / "blobs").symlink_to(pathlib.Path(out).parent / "blobs")))


# Archives of layouts and of docker's


def parts(place):
    """Members of a sound layout, by name."""
    image = Image(place)
    image.whole(SOUND)
    found = {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
    shutil.rmtree(place)
    return found


def whole(out, change=lambda name, data: member(name, data)):
    found = parts(pathlib.Path(out).parent / "parts")
    return [change(name, data) for name, data in found.items()]


archive("blob-has-other-content", REFUSED, lambda out: whole(out, lambda name, data: member(
    name, b"evil" if name.startswith("blobs") else data)), "damaged")
archive("blob-is-link", REFUSED, lambda out: whole(out, lambda name, data: symlink(name, f"{out}/kept")
    if name.startswith("blobs") else member(name, data)))
archive("index-is-hardlink", REFUSED, lambda out: whole(out, lambda name, data: hardlink(name, "/etc/passwd")
    if name == "index.json" else member(name, data)))
archive("blob-leads-out", REFUSED, lambda out: [*whole(out), member(f"blobs/sha256/../../../../..{out}/evil", "x")])
archive("blobs-through-link", EITHER, lambda out: [symlink("blobs", out), *whole(out)])
archive("index-twice", EITHER, lambda out: [*whole(out), member("index.json", '{"schemaVersion":2,"manifests":[]}')])
archive("index-missing", REFUSED, lambda out: whole(out)[:-2] + [member("oci-layout", '{"imageLayoutVersion":"1.0.0"}')])
archive("index-cut-short", REFUSED, lambda out: whole(out, lambda name, data: member(name, data[:20] if name == "index.json" else data)))


# As docker names configurations and folders, which tells its archives from root file systems.
HEX = "0" * 64


def docker(entries):
    """An archive of docker's whose list is hostile."""
    body = {"architecture": MACHINE, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(SOUND)]}}
    return [member(f"{HEX}.json", json.dumps(body)), folder(HEX), member(f"{HEX}/layer.tar", SOUND),
            member("manifest.json", text(entries))]


def named(**change):
    return [{"Config": f"{HEX}.json", "RepoTags": ["evil:1"], "Layers": [f"{HEX}/layer.tar"], **change}]


for name, entries in {
    "config-traversal": named(Config="../../../../etc/passwd"), "layer-of-host": named(Layers=["/etc/passwd"]),
    "layer-traversal": named(Layers=["../../../../../../etc/passwd"]), "tag-traversal": named(RepoTags=["../../x"]),
    "tag-for-terminals": named(RepoTags=["\x1b[2J:1"]), "no-image": [], "null": "null", "open": "[{", "layers-null": named(Layers=[None]),
    "1000-layers": named(Layers=[f"{HEX}/layer.tar"] * 1000), "17-MB": b'["' + b"x" * (17 << 20) + b'"]',
    "deep": b"[" * 100000,
}.items():
    archive(f"docker-{name}", REFUSED, lambda out, entries=entries: docker(entries))


def layered(*middle):
    """An archive of docker's whose layer is made of these members."""
    made = docker(named())
    return [*made[:2], *middle, made[-1]]


archive("docker-layer-is-link-to-host", REFUSED, lambda out: layered(symlink(f"{HEX}/layer.tar", f"{out}/kept")))
archive("docker-layer-is-loop", REFUSED, lambda out: layered(
    symlink(f"{HEX}/layer.tar", f"../{HEX}.tar"), symlink(f"{HEX}.tar", f"{HEX}/layer.tar")))
archive("docker-layer-missing", REFUSED, lambda out: layered())
archive("docker-layer-is-other", REFUSED, lambda out: layered(member(f"{HEX}/layer.tar", tar(member("../evil", "x")))))
archive("docker-sound", LAWFUL, lambda out: docker(named()))
