# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Makes rootfs archives and OCI image layouts for tests, good and hostile ones."""

import gzip
import hashlib
import io
import json
import os
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def entry(name, data=None, kind=tarfile.REGTYPE, link="", mode=0o755, uid=0, gid=0, device=(0, 0)):
    """One member of an archive and its bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, mode, uid, gid
    info.devmajor, info.devminor = device
    content = data.encode() if isinstance(data, str) else data or b""
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def folder(name, mode=0o755):
    """A directory member."""
    return entry(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name, target):
    """A symbolic link member."""
    return entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name, target):
    """A hard link member."""
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def archive(entries):
    """The bytes of a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def rootfs(busybox, *more, without=()):
    """Members of a small root file system around a busybox; `without` leaves directories out."""
    directories = ("bin", "dev", "etc", "proc", "root", "sys", "tmp")
    entries = [folder(name) for name in directories if name not in without]
    entries.append(entry("bin/busybox", busybox))
    applets = "sh cat chmod echo head id ls mknod mkdir mount pwd readlink sleep stat test touch true whoami".split()
    entries += [symlink(f"bin/{name}", "busybox") for name in applets]
    entries.append(
        entry("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n", mode=0o644)
    )
    entries.append(entry("etc/group", "root:x:0:\nann:x:1000:\nclub:x:2000:ann\n", mode=0o644))
    return [*entries, *more]


class Layout:
    """An OCI image layout below a folder."""

    def __init__(self, path):
        self.path = str(path)
        os.makedirs(os.path.join(self.path, "blobs", "sha256"), exist_ok=True)
        self.manifests = []
        self._write("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())

    def _write(self, name, data):
        with open(os.path.join(self.path, name), "wb") as file:
            file.write(data)

    def blob(self, data, media):
        """Stores bytes and returns their descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self._write(f"blobs/sha256/{digest}", data)
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    def image(self, name, layers, compress=False, **config):
        """Adds an image whose layers are archives' bytes; `config` goes into the image's process part."""
        media = LAYER + ("+gzip" if compress else "")
        descriptors = [self.blob(gzip.compress(data) if compress else data, media) for data in layers]
        body = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(body).encode(), CONFIG),
            "layers": descriptors,
        }
        descriptor = self.blob(json.dumps(manifest).encode(), MANIFEST)
        self.manifests.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}})
        self._write("index.json", json.dumps({"schemaVersion": 2, "manifests": self.manifests}).encode())
        return self


def layer_files(layout):
    """Paths of the layer blobs of a layout's first image."""

    def blob(digest):
        return os.path.join(layout, "blobs", *digest.split(":"))

    with open(os.path.join(layout, "index.json")) as file:
        descriptor = json.load(file)["manifests"][0]
    with open(blob(descriptor["digest"])) as file:
        manifest = json.load(file)
    return [blob(layer["digest"]) for layer in manifest["layers"]]


def find_busybox(layout):
    """The bytes of the busybox in an image."""
    for path in layer_files(layout):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and os.path.basename(member.name) == "busybox":
                    return tar.extractfile(member).read()
    raise AssertionError(f"no busybox in {layout}")


def tree_digest(path, skip=()):
    """One digest over names, kinds, modes, owners and contents of everything below a folder."""
    digest = hashlib.sha256()
    for top, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in skip)
        for name in sorted(folders + files):
            full = os.path.join(top, name)
            status = os.lstat(full)
            digest.update(
                f"{os.path.relpath(full, path)} {status.st_mode:o} {status.st_uid} {status.st_gid}\n".encode()
            )
            if os.path.islink(full):
                digest.update(os.readlink(full).encode())
            elif name in files and os.path.isfile(full):
                with open(full, "rb") as file:
                    digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()
