# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Large gzip layers are decompressed by igzip where it is installed, and nothing else is different."""

import gzip
import random
import shutil

import hostile
import pytest

MB = 1 << 20
NOISE = random.Random(1).randbytes(3 * MB)
LAYER = hostile.tar(hostile.member("noise", NOISE), hostile.member("small", "text"))


@pytest.fixture(autouse=True)
def igzip():
    if not shutil.which("igzip"):
        pytest.skip("igzip is not installed (Debian package isal)")


def layout_of(folder, packed, layer=LAYER):
    return hostile.Image(folder).whole(layer, media=hostile.LAYER + "+gzip", packed=lambda data: packed)


def noise(host):
    (layer,) = [path for path in (host.folder / "store/layers").iterdir()]
    assert (layer / "small").read_text() == "text"
    return (layer / "noise").read_bytes()


@pytest.mark.parametrize("members", [1, 3])
def test_it_is_called_for_large_layers_only(plain_host, test_folder, strace, members):
    size = len(LAYER) // members + 1
    parts = [gzip.compress(LAYER[at:at + size]) for at in range(0, len(LAYER), size)]
    layout = layout_of(test_folder / "large", b"".join(parts))
    trace = test_folder / "trace"
    wrap = (strace, "-f", "-qq", "-e", "trace=execve", "-o", trace)
    plain_host.import_image(layout, "large", wrap=wrap).exits(0)
    assert "/igzip" in trace.read_text() and noise(plain_host) == NOISE
    small = hostile.tar(hostile.member("small", "text"))
    layout = layout_of(test_folder / "small", gzip.compress(small), small)
    plain_host.import_image(layout, "small", wrap=wrap).exits(0)
    assert "/igzip" not in trace.read_text()


def whole():
    return gzip.compress(LAYER)


@pytest.mark.parametrize(
    "packed, words",
    [
        (lambda: whole()[:-2 * MB], "truncated"),
        (lambda: whole()[:-3], "gzip"),
        (lambda: whole()[:MB] + bytes(100) + whole()[MB + 100:], "decompress"),
        (lambda: gzip.compress(whole()), "compressed more than once"),
        (lambda: gzip.compress(random.Random(2).randbytes(3 * MB)), ""),
    ],
    ids=["cut", "trailer", "damaged", "twice", "no-tar"],
)
def test_faults_are_told_as_without_it(plain_host, test_folder, packed, words, strace):
    layout = layout_of(test_folder / "layout", packed())
    said = plain_host.import_image(layout, "bad").fails(125)
    # The program cannot be started; what is left is libarchive.
    without = (strace, "-f", "-qq", "-o", "/dev/null", "--inject=execve:error=ENOENT:when=2+")
    other = plain_host.import_image(layout, "bad", wrap=without).fails(125)
    assert said.stderr == other.stderr, (said.stderr, other.stderr)
    plain_host.run("image", "ls", "-q").ok(stdout="")
    assert not list((plain_host.folder / "store/layers").iterdir())


def test_what_follows_the_data_is_part_of_the_blob(plain_host, test_folder):
    layout = layout_of(test_folder / "layout", whole() + bytes(4096))
    plain_host.import_image(layout, "padded").exits(0)
    assert noise(plain_host) == NOISE
    plain_host.run("image", "verify").exits(0)

