# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Images made by attackers: each is one clear error or is unpacked to something harmless; never is anything written outside."""

import os
import pathlib
import resource
import stat

import hostile
import layouts
import pytest

# Of one import: no case is larger than 105 MB.
MEMORY = 384 << 20
SECONDS = 20


def bounded():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


@pytest.fixture
def outside(test_folder):
    """A folder of the host's that must stay as it is."""
    made = test_folder / "outside"
    made.mkdir()
    (made / "kept").write_text("as it was")
    made.chmod(0o750)
    return made


def store_is_empty(host):
    """No blob, no layer, nothing half done."""
    store = pathlib.Path(host.store)
    blobs, layers = store / "images/blobs/sha256", store / "layers"
    left = [path for folder in (blobs, layers) if folder.exists() for path in folder.iterdir()]
    left += [path for path in (store / "images/.staging", store / "layers/.staging") if path.exists()]
    return not left, left


def test_there_are_as_many_as_were_promised():
    names = [case.name for case in hostile.CASES]
    assert len(set(names)) == len(names) >= 150, len(names)


@pytest.mark.parametrize("case", hostile.CASES, ids=[case.name for case in hostile.CASES])
def test_hostile_image(plain_host, test_folder, outside, case):
    host = plain_host
    path = case.build(test_folder, str(outside))
    before = (sorted(os.listdir(test_folder)), layouts.tree_digest(outside))
    result = host.import_image(path, "evil", preexec=bounded)
    result.check(result.status in (0, 125), "it ended badly")
    assert (sorted({*os.listdir(test_folder)} - {"store"}), layouts.tree_digest(outside)) == before, result
    assert (outside / "kept").stat().st_nlink == 1 and (outside / "kept").read_text() == "as it was"
    for name in ("/evil", "/etc/evil", "/tmp/evil"):
        assert not os.path.lexists(name), f"{name} was made{result}"
    if case.outcome != hostile.EITHER:
        result.exits(125 if case.outcome == hostile.REFUSED else 0)
    if result.status == 0:
        check_accepted(host, result)
    else:
        check_refused(host, result, case)
    # Whatever was refused, a sound image can be imported afterwards.
    host.run("image", "verify").ok()


def check_refused(host, result, case):
    lines = result.stderr.splitlines()
    result.check([line[:9] for line in lines[:1]] == ["zonectl: "], "no error")
    result.check(len(lines) == 1 or len(lines) == 2 and lines[1].startswith("  hint: "), "not one error")
    result.check(all(32 <= ord(letter) for line in lines for letter in line), "a control character")
    result.check(len(result.stderr) < 12000, "too long for people")
    result.says(case.says)
    assert host.run("image", "ls", "--json").ok().json == []
    empty, left = store_is_empty(host)
    assert empty, left


def check_accepted(host, result):
    assert len(host.run("image", "ls", "--json").ok().json) == 1
    store = pathlib.Path(host.store)
    for folder in (store / "layers", store / "images"):
        # Set-id programs and devices of an image are behind a door that only root opens.
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    host.run("image", "inspect", "evil").ok()
    used = sum(path.lstat().st_blocks * 512 for path in store.rglob("*"))
    assert used < 1 << 30, f"{used} bytes of disk{result}"
    host.run("image", "rm", "evil").exits(0)
    empty, left = store_is_empty(host)
    assert empty, left
