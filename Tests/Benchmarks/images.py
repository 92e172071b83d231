#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images from a registry, beside skopeo with umoci, and podman.

    images.py [--rounds N] [--starts N] [--megabytes M] [pull] [run]

  pull  an image of M megabytes in three compressed layers is fetched from a registry on loopback and unpacked, each time
        into a store that has nothing: `zonectl image pull`; `skopeo copy` and `umoci unpack`; `podman pull`
  run   `zonectl run --rm --network none busybox true` beside `podman run --rm --network none busybox true` with crun

All are run in turn, round by round, so that whatever the machine does meanwhile hits all of them; read the ratios, not the
milliseconds. Between two, what was written is on the disk. Hybrid control groups are hidden from podman and its crun.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile

from surroundings import REPOSITORY, ZONECTL, Meter, disk, enter_mount_namespace, installed, run, show_table

sys.path.insert(0, str(REPOSITORY / "Tests/Integration"))
from registry import Registry  # noqa: E402

LAYERS = 3
MEDIA = "application/vnd.oci.image"


def files_of_the_host():
    """Programs, libraries and texts, as an image has them."""
    for top in ("/usr/lib", "/usr/share", "/usr/bin"):
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path


class Hashed:
    """Writes to a file, and knows the digest of what went through."""

    def __init__(self, file):
        self.file, self.sum = file, hashlib.sha256()

    def write(self, data):
        self.sum.update(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()

    @property
    def digest(self):
        return f"sha256:{self.sum.hexdigest()}"


def make_image(layout, size):
    """An OCI layout with the image `big`: layers of the host's files that are `size` bytes together when compressed."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def keep(document):
        data = json.dumps(document).encode()
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    source, layers, contents = files_of_the_host(), [], []
    for _ in range(LAYERS):
        with open(layout / "new", "wb") as raw:
            outer = Hashed(raw)
            with gzip.GzipFile(fileobj=outer, mode="wb", compresslevel=6, mtime=0) as packed:
                inner = Hashed(packed)
                with tarfile.open(fileobj=inner, mode="w|") as tar:
                    for file in source:
                        tar.add(file, recursive=False)
                        if raw.tell() > size // LAYERS:
                            break
            length = raw.tell()
        (layout / "new").rename(blobs / outer.digest.removeprefix("sha256:"))
        layers.append({"mediaType": f"{MEDIA}.layer.v1.tar+gzip", "digest": outer.digest, "size": length})
        contents.append(inner.digest)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {"architecture": machine, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": contents}}
    manifest = {
        "schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": {"mediaType": f"{MEDIA}.config.v1+json", **keep(config)}, "layers": layers}
    named = {
        "mediaType": f"{MEDIA}.manifest.v1+json", **keep(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "big"}}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return sum(layer["size"] for layer in layers)


class Podman:
    """podman with folders of its own."""

    def __init__(self, folder):
        self.folder = folder
        configuration = folder / "containers.conf"
        configuration.write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "crun"\n')
        self.words = ["env", f"CONTAINERS_CONF={configuration}", "podman"]
        for option in ("root", "runroot", "tmpdir"):
            self.words.append(f"--{option}={folder / option}")
        self.words.append("--storage-driver=overlay")

    def forget(self):
        """Empties its store."""
        run(*self.words, "system", "reset", "--force", stderr=subprocess.DEVNULL)


def settle():
    """Nobody writes for somebody else."""
    os.sync()


def bench_pull(folder, meter, registry, rounds):
    reference = f"{registry.host}/bench/big"
    store, layout, bundle = folder / "store-pull", folder / "copied", folder / "bundle"
    podman = Podman(folder)
    ours = [ZONECTL, "--store", str(store), "image", "pull", "-q", "--tls-verify=false", reference]
    copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"oci:{layout}:big"]
    unpack = ["umoci", "unpack", "--image", f"{layout}:big", str(bundle)]
    results = {"zonectl": [], "skopeo and umoci": []}
    if list(installed(["podman"])):
        results["podman"] = []
    for number in range(rounds + 1):
        for name, values in results.items():
            settle()
            if name == "zonectl":
                value = meter(ours)
                shutil.rmtree(store)
            elif name == "podman":
                value = meter([*podman.words, "pull", "-q", "--tls-verify=false", reference], hides_unified=True)
                podman.forget()
            else:
                value = meter([*copy, "::", *unpack])
                shutil.rmtree(layout)
                shutil.rmtree(bundle)
            # The first fills the caches.
            if number:
                values.append(value)
    show_table(f"pull and unpack, {rounds} rounds, each in turn", results, "skopeo and umoci")


def bench_run(folder, meter, registry, rounds):
    if not list(installed(["podman"])):
        return
    reference = f"{registry.host}/bench/busybox"
    podman = Podman(folder)
    zonectl = [ZONECTL, "--store", str(folder / "store-run")]
    run(*zonectl, "image", "pull", "-q", "--tls-verify=false", reference)
    subprocess.run([*podman.words, "pull", "-q", "--tls-verify=false", reference], check=True, stdout=subprocess.DEVNULL)
    words = ["run", "--rm", "--network", "none", reference, "true"]
    results = {"podman": [], "zonectl": []}
    for number in range(rounds + 2):
        for name, command in (("zonectl", [*zonectl, *words]), ("podman", [*podman.words, *words])):
            value = meter(command, hides_unified=name == "podman")
            if number > 1:
                results[name].append(value)
    podman.forget()
    show_table(f"run --rm, {rounds} rounds, each in turn", results, "podman")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", choices=[[], "pull", "run"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=100)
    options = parser.parse_args()
    enter_mount_namespace()
    what = options.what or ["pull", "run"]
    with disk(4096) as folder:
        meter = Meter(folder)
        registry = Registry(folder / "registry")
        try:
            if "pull" in what:
                layout = folder / "layout"
                size = make_image(layout, options.megabytes << 20)
                registry.put(layout, "bench/big", "big")
                print(f"{LAYERS} layers, {size >> 20} MiB compressed")
                shutil.rmtree(layout)
                bench_pull(folder, meter, registry, options.rounds)
            if "run" in what:
                run(str(REPOSITORY / "images/busybox/build"), str(folder / "image"))
                registry.put(folder / "image", "bench/busybox", "busybox:latest")
                bench_run(folder, meter, registry, options.starts)
        finally:
            registry.stop()


if __name__ == "__main__":
    main()
