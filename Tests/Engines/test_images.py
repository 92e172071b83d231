# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What engines do with images by means of a zone: builds, commits, an image as a mount."""

from engine import IMAGE

SLEEP = ("sleep", "1000")


def build(engine, *lines):
    folder = engine.lab.folder / engine.new_name()
    folder.mkdir()
    (folder / "Dockerfile").write_text("\n".join((f"FROM {IMAGE}", *lines, "")))
    # buildah, within podman, does not ask for podman's runtime.
    own = ["--runtime", engine.runtime, "--isolation=oci", "--layers=false"] if engine.name == "podman" else []
    words = engine.client("build", *own, "--tag", "localhost/built", folder)
    # docker's other builder is a program of its own that Debian 12 does not have.
    return engine.lab.run(*words, env={"DOCKER_BUILDKIT": "0"})


def test_build(engine):
    engine.needs("images")
    done = build(engine, "RUN echo from the build >/made && id -u", 'RUN ["cat", "/made"]', 'CMD ["cat", "/made"]')
    done.exits(0)
    assert "zonectl: warning" not in done.stderr, str(done)
    try:
        shown = engine.do("run", "--rm", "--name", engine.new_name(), *engine.start_options(), "localhost/built")
        assert shown.stdout == "from the build\n", str(shown)
    finally:
        engine.must("rmi", "localhost/built")


def test_build_that_fails(engine):
    engine.needs("images")
    done = build(engine, "RUN exit 3")
    assert done.status != 0 and ("status 3" in done.stderr or "code: 3" in done.stderr), str(done)


def test_commit(engine):
    engine.needs("images")
    zone = engine.start("sh", "-c", "echo kept >/file; exec sleep 1000")
    assert engine.exec(zone, "cat", "/file").stdout == "kept\n"
    engine.must("commit", zone, "localhost/kept")
    try:
        shown = engine.do("run", "--rm", "--name", engine.new_name(), *engine.start_options(), "localhost/kept", "cat", "/file")
        assert shown.stdout == "kept\n", str(shown)
    finally:
        engine.must("rmi", "localhost/kept")


def test_an_image_as_a_mount(engine):
    """Its layers are two paths of more than a hundred bytes each, and fsconfig(2) takes 255."""
    engine.needs("image mounts")
    done = engine.run("ls", "/image", more=["--mount", f"type=image,source={IMAGE},destination=/image"])
    assert "bin" in done.lines, str(done)
    refused = engine.run("touch", "/image/file", more=["--mount", f"type=image,source={IMAGE},destination=/image"])
    assert refused.status == 1 and "Read-only file system" in refused.stderr, str(refused)
