# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images from registries and to them: pull, push, what `run` fetches, and everything that can go wrong between."""

import base64
import hashlib
import json
import os
import pathlib
import signal
import subprocess

import layouts
import pytest
from leaks import read, until
from registry import PASSWORD, USER, Gate, Registry

PLAIN = "--tls-verify=false"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def registry(test_folder):
    """A plain registry: HTTP, without passwords."""
    made = Registry(test_folder / "registry")
    yield made
    made.stop()


@pytest.fixture
def secure_registry(test_folder):
    """A registry with TLS and a password."""
    made = Registry(test_folder / "registry", secure=True)
    yield made
    made.stop()


@pytest.fixture
def gate(registry):
    """A door before the registry."""
    made = Gate(registry)
    yield made
    made.close()


@pytest.fixture
def host(plain_host):
    """A host without images, where nobody's credentials but the test's own are found."""
    home = plain_host.directory("home")
    plain_host.environment = {
        name: value for name, value in plain_host.environment.items() if "proxy" not in name.lower()
    } | {"HOME": home, "XDG_RUNTIME_DIR": home}
    return plain_host


@pytest.fixture
def tool(test_folder, busybox, registry):
    """An image of two layers in the registry, as team/tool:1; returns its layout."""
    first = layouts.archive(layouts.rootfs(busybox))
    second = layouts.archive([layouts.entry("note", "first\n"), layouts.entry("noise", os.urandom(300000))])
    layout = layouts.Layout(test_folder / "tool").image("tool", [first, second], compress=True, Cmd=["cat", "/note"])
    registry.put(layout.path, "team/tool:1", "tool")
    return layout


def names(host):
    return host.run("image", "ls", "-q").ok().lines


def blobs_of(layout):
    """Digests of the layers of a layout's first image, base first."""
    return [f"sha256:{os.path.basename(path)}" for path in layouts.layer_files(layout.path)]


def leftovers(host):
    """What there is in the folder of pulls."""
    folder = pathlib.Path(host.store) / "pulls"
    return sorted(folder.rglob("*")) if folder.exists() else []


def programs(word):
    """Processes that have this word in their command."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and word in read(f"/proc/{pid}/cmdline")]


def test_pull_and_run(host, registry, tool):
    name = f"{registry.host}/team/tool:1"
    digest = tool.manifests[0]["digest"]
    result = host.run("image", "pull", PLAIN, name).exits(0)
    result.check(result.stdout == f"{name} {digest}\n", "not the name and the registry's own digest")
    assert names(host) == [name] and leftovers(host) == []
    host.run("run", "--rm", "--pull", "never", name).ok(stdout="first\n")
    host.run("run", "--rm", "--pull", "never", f"{registry.host}/team/tool@{digest}").ok(stdout="first\n")


def test_what_is_there_is_not_fetched_again(host, gate, tool, registry):
    host.run("image", "pull", "-q", PLAIN, f"{gate.host}/team/tool:1").ok()
    before = dict(gate.counts)
    host.run("image", "pull", "-q", PLAIN, f"{gate.host}/team/tool:1").ok()
    again = {digest: count - before.get(digest, 0) for digest, count in gate.counts.items()}
    assert not any(again[digest] for digest in blobs_of(tool)), again
    # The same layers under another name.
    registry.put(tool.path, "team/other:1", "tool")
    host.run("image", "pull", "-q", PLAIN, f"{gate.host}/team/other:1").ok()
    assert [gate.counts[digest] for digest in blobs_of(tool)] == [1, 1], gate.counts


def test_image_for_several_machines(host, registry, tool, test_folder):
    other = layouts.Layout(test_folder / "arm")
    other.image("arm", [layouts.archive([layouts.entry("note", "arm\n")])])
    manifest = json.loads((pathlib.Path(other.path) / "blobs/sha256" / other.manifests[0]["digest"][7:]).read_text())
    config = json.loads((pathlib.Path(other.path) / "blobs/sha256" / manifest["config"]["digest"][7:]).read_text())
    config["architecture"] = "s390x"
    manifest["config"] = other.blob(json.dumps(config).encode(), layouts.CONFIG)
    foreign = other.blob(json.dumps(manifest).encode(), layouts.MANIFEST)
    other.manifests = [{**foreign, "annotations": {"org.opencontainers.image.ref.name": "arm"}}]
    other._write("index.json", json.dumps({"schemaVersion": 2, "manifests": other.manifests}).encode())
    registry.put(other.path, "team/tool:arm", "arm")
    ours = {name: tool.manifests[0][name] for name in ("mediaType", "digest", "size")}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {**foreign, "platform": {"architecture": "s390x", "os": "linux"}},
            {**ours, "platform": {"architecture": machine, "os": "linux"}},
        ],
    }
    text = json.dumps(index).encode()
    registry.put_document("team/tool", "all", text, INDEX)
    host.run("image", "pull", "-q", PLAIN, f"{registry.host}/team/tool:all").ok()
    host.run("run", "--rm", f"{registry.host}/team/tool:all").ok(stdout="first\n")
    # By the digest of the list, as registries show it.
    digest = hashlib.sha256(text).hexdigest()
    host.run("run", "--rm", "--pull", "never", f"{registry.host}/team/tool@sha256:{digest}").ok(stdout="first\n")
    host.run("image", "pull", "-q", PLAIN, "--platform", "linux/s390x", f"{registry.host}/team/tool:all").ok()
    assert [i["architecture"] for i in host.run("image", "ls", "--json").ok().json].count("s390x") == 1
    # The name is the other machine's now: who says for which one gets that.
    result = host.run("run", "--rm", PLAIN, "--platform", f"linux/{machine}", f"{registry.host}/team/tool:all").exits(0)
    result.check(result.stdout == "first\n", "is not this machine's")
    host.run("image", "pull", "-q", PLAIN, "--platform", "linux/s390x", f"{registry.host}/team/tool:all").ok()
    host.run("image", "pull", PLAIN, "--platform", "linux/mips", f"{registry.host}/team/tool:all").fails(
        125, "linux/mips", "s390x"
    )
    host.run("image", "pull", "-q", PLAIN, f"{registry.host}/team/tool:arm").fails(125, "s390x")


def test_certificates_and_passwords(host, secure_registry, busybox_layout, test_folder):
    secure_registry.put(busybox_layout, "busybox:1", "busybox:latest")
    name = f"{secure_registry.host}/busybox:1"
    host.run("image", "pull", name).fails(125, "certificate", "hint")
    host.run("image", "pull", PLAIN, name).fails(125, "credentials", "--creds")
    host.run("image", "pull", PLAIN, "--creds", f"{USER}:wrong", name).fails(125, "refuses these credentials")
    host.run("image", "pull", PLAIN, "--creds", USER, name).fails(125, "password")
    host.run("image", "pull", PLAIN, "--authfile", "/no/such", name).fails(125, "/no/such")
    assert names(host) == []
    host.run("image", "pull", "-q", PLAIN, "--creds", f"{USER}:{PASSWORD}", name).ok()
    host.run("image", "rm", name).ok()
    # As `podman login` writes it, and with the registry's own authority.
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    file = host.path("auth.json", json.dumps({"auths": {secure_registry.host: {"auth": auth}}}))
    trusted = {"SSL_CERT_FILE": str(secure_registry.certificate)}
    host.run("run", "--rm", "--authfile", file, name, "echo", "works", env=trusted).exits(0).check(
        names(host) == [name], "run has not pulled it"
    )


@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_damaged_blob(host, registry, tool, damage):
    blob = registry.blob(blobs_of(tool)[1])
    data = blob.read_bytes()
    if damage == "gone":
        blob.unlink()
    else:
        middle = len(data) // 2
        blob.write_bytes(data[:middle] + (b"\0" + data[middle + 1 :] if damage == "altered" else b""))
    name = f"{registry.host}/team/tool:1"
    result = host.run("image", "pull", "-q", PLAIN, name).fails(125, "team/tool:1")
    if damage == "altered":
        result.says("damaged", "did not match")
    assert names(host) == []
    # What came whole may be kept for the next try, unless something came that is damaged.
    assert damage != "altered" or leftovers(host) == []
    blob.write_bytes(data)
    host.run("image", "pull", "-q", PLAIN, name).ok()
    host.run("run", "--rm", name).ok(stdout="first\n")


def test_killed_pull_goes_on(host, gate, tool):
    small, big = blobs_of(tool)
    gate.held.add(big)
    name = f"{gate.host}/team/tool:1"
    process = host.popen("image", "pull", PLAIN, name)
    whole = pathlib.Path(host.store) / "pulls"
    assert until(lambda: list(whole.glob(f"*/blobs/sha256/{small[7:]}")) and gate.counts[big]), leftovers(host)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert until(lambda: not programs(f"{gate.host}/team/tool")), "skopeo goes on without its zonectl"
    assert names(host) == []
    gate.open()
    host.run("image", "pull", "-q", PLAIN, name).ok()
    assert gate.counts[small] == 1 and gate.counts[big] == 2, gate.counts
    assert leftovers(host) == []
    host.run("run", "--rm", name).ok(stdout="first\n")


def test_two_pulls_at_once_fetch_once(host, gate, tool):
    big = blobs_of(tool)[1]
    gate.held.add(big)
    name = f"{gate.host}/team/tool:1"
    first = host.popen("image", "pull", PLAIN, name)
    assert until(lambda: gate.counts[big])
    second = host.popen("image", "pull", PLAIN, name)
    # While the network is waited for, the store is free for others.
    host.run("image", "rm", "no-such").fails(125, "no-such")
    assert until(lambda: len(programs(name)) >= 2)
    gate.open()
    for process in (first, second):
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    assert [gate.counts[digest] for digest in blobs_of(tool)] == [1, 1], gate.counts
    assert names(host) == [name] and leftovers(host) == []


def test_run_pulls_what_is_missing(host, registry, tool, test_folder, busybox):
    name = f"{registry.host}/team/tool:1"
    host.run("run", "--rm", "--pull", "never", PLAIN, name).fails(125, "not in the store")
    result = host.run("run", "--rm", PLAIN, name).exits(0)
    result.check(result.stdout == "first\n", "the zone's own output is not all")
    made = host.run("create", PLAIN, "--name", host.name(), name).ok(stdout=host.name() + "\n")
    host.defer(host.remove, made.stdout.strip())
    # The tag moves on: only `always` looks.
    next_layer = layouts.archive([*layouts.rootfs(busybox), layouts.entry("note", "next\n")])
    moved = layouts.Layout(test_folder / "moved").image("tool", [next_layer], Cmd=["cat", "/note"])
    registry.put(moved.path, "team/tool:1", "tool")
    host.run("run", "--rm", PLAIN, name).ok(stdout="first\n")
    result = host.run("run", "--rm", PLAIN, "--pull", "always", name).exits(0)
    result.check(result.stdout == "next\n", "it has not pulled")
    host.run("run", "--rm", "--pull", "sometimes", name).fails(125, "sometimes", "never")
    # The zone that was made before keeps what it was made from.
    host.run("start", host.name()).exits(0)


def test_apply_pulls_what_is_missing(host, registry, tool, test_folder):
    name, image = host.name("applied"), f"{registry.host}/team/tool:1"
    host.defer(host.remove, name)
    file = test_folder / "zone.json"
    file.write_text(json.dumps({"name": name, "image": image}))
    host.run("apply", "-f", file, "--dry-run", PLAIN).ok()
    assert names(host) == []
    host.run("apply", "-f", file, "--pull", "never", PLAIN).fails(125, "not in the store")
    result = host.run("apply", "-f", file, PLAIN).exits(0)
    result.check(result.stdout == f"{name}: created\n", "is not created")
    assert names(host) == [image]


def test_bars_on_a_terminal(host, registry, tool):
    """Each layer has one there; elsewhere each has a line."""
    name = f"{registry.host}/team/tool:1"
    terminal = host.terminal("image", "pull", PLAIN, name)
    assert terminal.wait() == 0, terminal
    for digest in blobs_of(tool):
        assert f"Copying blob {digest.removeprefix('sha256:')[:12]}" in terminal.screen, terminal
    assert f"{name} {tool.manifests[0]['digest']}" in terminal.screen, terminal
    host.run("image", "rm", name).ok()
    result = host.run("image", "pull", PLAIN, name).exits(0)
    for digest in blobs_of(tool):
        result.check(f"fetched layer {digest.removeprefix('sha256:')[:12]}" in result.stderr, "has no line for a layer")


def test_what_cannot_be_pulled(host, registry):
    for name, words in {
        f"{registry.host}/no/such": ["not in the registry"],
        "127.0.0.1:1/team/tool": ["127.0.0.1:1", "cannot be reached"],
        "no-such-host.invalid/tool": ["no-such-host.invalid", "cannot be reached"],
        "Bad/Name": ["lower-case"],
        "team/tool:a:b": ["tag"],
        "sha256:" + "0" * 64: ["digest", "repository"],
        "ftp.example.com:99999/x": ["host name"],
    }.items():
        host.run("image", "pull", PLAIN, name).fails(125, *words)
    host.run("image", "pull").fails(125, "needs the name")
    host.run("run", "127.0.0.1:1/team/tool").fails(125, "not in the store", "cannot be reached")
    host.run("image", "pull", "--platform", "amd64", "x").fails(125, "OS/ARCH")
    assert names(host) == [] and leftovers(host) == []


def test_without_skopeo(host, test_folder):
    script = "for d in /usr/bin /bin; do [ -e $d/skopeo ] && mount --bind /dev/null $d/skopeo; done; exec \"$@\""
    words = ("unshare", "--mount", "sh", "-c", script, "sh")
    host.run("image", "pull", "busybox", wrap=words).fails(125, "skopeo", "package skopeo")
    host.run("run", "busybox", wrap=words).fails(125, "not in the store", "skopeo")


def test_full_disk(host, registry, tool):
    folder = host.directory("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], check=True)
    host.defer(subprocess.run, ["umount", folder])
    host.store = folder + "/store"
    host.run("image", "pull", "-q", PLAIN, f"{registry.host}/team/tool:1").fails(125, "no space", "hint")
    assert names(host) == [] and leftovers(host) == []


def test_push(host, registry, secure_registry_beside, busybox_layout):
    host.import_image(busybox_layout, "busybox").exits(0)
    name = f"{registry.host}/new/tool:v1"
    result = host.run("image", "push", PLAIN, "busybox", name).ok()
    host.run("image", "tag", "busybox", name).ok(stdout=name + "\n")
    result.check(result.stdout.startswith(f"{name} sha256:"), "no name and digest")
    digest = result.stdout.split()[1]
    for image in names(host):
        host.run("image", "rm", image).ok()
    host.run("run", "--rm", PLAIN, f"{registry.host}/new/tool@{digest}", "echo", "works").exits(0)
    host.run("image", "push", PLAIN, "no-such", name).fails(125, "no-such")
    # By a digest alone it has no name to go by.
    host.run("image", "push", PLAIN, digest).fails(125, "digest")
    host.run("image", "tag", digest, "tool").ok()
    host.run("image", "push", PLAIN, "tool", "127.0.0.1:1/tool").fails(125, "cannot be reached")
    other = f"{secure_registry_beside.host}/tool"
    host.run("image", "push", PLAIN, "tool", other).fails(125, "credentials")
    host.run("image", "push", PLAIN, "--creds", f"{USER}:wrong", "tool", other).fails(125, "credentials")
    host.run("image", "push", PLAIN, "--creds", f"{USER}:{PASSWORD}", "tool", other).ok()
    assert leftovers(host) == []


@pytest.fixture
def secure_registry_beside(test_folder):
    """A second registry, with TLS and a password."""
    made = Registry(test_folder / "secure", secure=True)
    yield made
    made.stop()


def test_ordinary_user(host, registry, tool):
    """Nothing of root's is needed: neither folders nor rights."""
    folder = host.directory("user")
    os.chown(folder, 65534, 65534)
    home = {"HOME": folder, "XDG_RUNTIME_DIR": folder}
    host.use_folders(folder + "/root", folder + "/store")
    name = f"{registry.host}/team/tool:1"
    result = host.user("image", "pull", "-q", PLAIN, name, env=home)
    if "user namespace" in result.stderr:
        pytest.skip(f"ordinary users have no namespaces here: {result.stderr.strip()}")
    # Without subordinate ids zonectl says so, which is no error.
    result.exits(0).check(result.stdout.startswith(name), "not the name")
    saved = host.user("image", "save", name, env=home, stdout=subprocess.PIPE, text=None)
    saved.exits(0).check("manifest.json" in saved.stdout, "no archive")
