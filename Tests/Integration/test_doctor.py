# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""`zonectl doctor`: what it finds on this machine, on one that lacks something, and for an ordinary user."""

import os
import pathlib
import shutil

import layouts
import pytest

VERDICTS = {"ok", "warning", "problem", "skipped"}


def examine(host, run=None, **keywords):
    """The report, which must be well-formed, and its findings by name."""
    result = (run or host.run)("doctor", "--json", **keywords)
    report = result.json
    findings = {finding["check"]: finding for finding in report["findings"]}
    assert set(report) == {"schema", "uid", "problems", "warnings", "findings"} and report["schema"] == 1
    assert len(findings) == len(report["findings"]), "a check is there twice"
    for finding in report["findings"]:
        trouble = finding["verdict"] in ("warning", "problem")
        wanted = {"check", "verdict", "found"} | ({"affects", "fix"} if trouble else set())
        assert set(finding) == wanted and finding["verdict"] in VERDICTS, finding
        assert all(finding.values()), finding
    assert report["problems"] == sum(finding["verdict"] == "problem" for finding in report["findings"])
    assert report["warnings"] == sum(finding["verdict"] == "warning" for finding in report["findings"])
    assert result.stderr == "" and result.status == (1 if report["problems"] else 0), result
    return report, findings


def test_a_machine_that_runs_zones_has_no_problem(zone_host):
    report, findings = examine(zone_host)
    assert report["problems"] == 0 and report["uid"] == 0
    for check in ("kernel.version", "kernel.calls", "kernel.executable", "kernel.overlay", "storage.overlay"):
        assert findings[check]["verdict"] == "ok", findings[check]
    assert zone_host.folder.name in findings["storage.root"]["found"]


def test_the_text_says_what_the_json_says(zone_host):
    report, findings = examine(zone_host)
    text = zone_host.run("doctor").ok().stdout
    quiet = zone_host.run("doctor", "-q").ok().stdout
    for finding in report["findings"]:
        assert f"{finding['check']} " in text
        if finding["verdict"] in ("warning", "problem"):
            assert finding["fix"] in text and finding["fix"] in quiet
        else:
            assert f"{finding['check']} " not in quiet
    assert text.splitlines()[-1] == quiet.splitlines()[-1]
    assert text.splitlines()[-1].startswith("no problems, ")


def test_nothing_is_changed(plain_host):
    before = layouts.tree_digest(plain_host.folder)
    examine(plain_host)
    assert layouts.tree_digest(plain_host.folder) == before
    assert not os.path.exists(plain_host.store)


def test_it_takes_no_words(plain_host):
    plain_host.run("doctor", "all").fails(125, "all")


def test_an_ordinary_user_is_told_of_the_own_zones(plain_host):
    folder = plain_host.directory("own")
    os.chown(folder, 65534, 65534)
    plain_host.use_folders(f"{folder}/root", f"{folder}/store")
    report, findings = examine(plain_host, plain_host.user)
    assert report["uid"] == 65534
    assert findings["kernel.executable"]["verdict"] == "skipped"
    assert findings["storage.store"]["verdict"] == "ok"
    assert findings["users.ids"]["verdict"] == "warning"
    assert "usermod --add-subuids" in findings["users.ids"]["fix"]


def test_a_store_that_cannot_be_written_is_a_problem(plain_host):
    report, findings = examine(plain_host, plain_host.user)
    assert findings["storage.store"]["verdict"] == "problem"
    assert "--store" in findings["storage.store"]["fix"]
    plain_host.user("doctor").exits(1)


def test_a_store_that_others_may_write_is_a_problem(plain_host):
    os.mkdir(plain_host.store)
    os.chmod(plain_host.store, 0o777)
    _, findings = examine(plain_host)
    assert findings["storage.store"]["verdict"] == "problem"
    assert findings["storage.store"]["fix"] == f"chmod go-w {plain_host.store}"


def test_a_damaged_zone_is_named(zone_host):
    name = zone_host.name("z")
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, "busybox", "true").ok()
    state = pathlib.Path(zone_host.root, name, "state.json")
    state.write_text("{")
    _, findings = examine(zone_host)
    assert findings["zones.damaged"]["verdict"] == "problem"
    assert name in findings["zones.damaged"]["found"]
    zone_host.run(*findings["zones.damaged"]["fix"].split()[1:]).exits(0)
    _, findings = examine(zone_host)
    assert findings["zones.damaged"]["verdict"] == "ok"


def test_groups_that_no_zone_has_are_named(zone_host):
    name = zone_host.start("z")
    parents = {os.path.dirname(group) for group in zone_host.inspect(name)["cgroups"]}
    left = os.path.join(sorted(parents)[0], "left-behind")
    os.mkdir(left)
    zone_host.defer(lambda: os.path.exists(left) and os.rmdir(left))
    _, findings = examine(zone_host)
    assert findings["zones.leftovers"]["verdict"] == "warning"
    assert left in findings["zones.leftovers"]["found"] and name not in findings["zones.leftovers"]["found"]


@pytest.mark.parametrize(
    "check, program, package",
    [
        ("network.nftables", "nft", "nftables"),
        ("users.newuidmap", "newuidmap", "uidmap"),
        ("tools.skopeo", "skopeo", "skopeo"),
        ("tools.igzip", "igzip", "isal"),
        ("tools.criu", "criu", "criu"),
        ("machines.qemu-img", "qemu-img", "qemu-utils"),
    ],
)
def test_a_missing_tool_names_its_package(plain_host, check, program, package):
    """Hidden from the test's own mount namespace, where it is installed at all."""
    places = [f"{folder}/{program}" for folder in
              ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")]
    hide = "".join(f"mount --bind /dev/null {path}; " for path in places if os.path.exists(path))
    wrap = ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{hide}exec "$@"', "sh")
    _, findings = examine(plain_host, wrap=wrap)
    assert findings[check]["verdict"] == "warning"
    assert package in findings[check]["fix"]


def test_switched_off_user_namespaces_are_named(plain_host):
    """In a user namespace of its own, whose limit is nobody else's."""
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed (Debian package util-linux)")
    # The sysctl is of the caller's user namespace.
    wrap = ("unshare", "--user", "--map-root-user", "sh", "-c",
            'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh")
    _, findings = examine(plain_host, wrap=wrap)
    assert findings["users.namespaces"]["verdict"] == "warning"
    assert "sysctl -w user.max_user_namespaces" in findings["users.namespaces"]["fix"]
