# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""The Debian package: installed, upgraded, removed and purged on a copy of this machine that ends with the test."""

import os
import pathlib
import shutil
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# Packing is most of the time.
FAST = {**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}

# In a mount namespace of its own, with an overlay over the machine's root as root: what is written is gone afterwards.
MACHINE = r"""
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root" "$1/packages"
cp "$2"/*.deb "$1/packages"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for tree in /proc /sys /dev; do mount --rbind "$tree" "$1/root$tree"; done
for folder in /tmp /run; do mount -t tmpfs tmpfs "$1/root$folder"; done
mkdir "$1/root/tmp/packages" "$1/root/tmp/upper" "$1/root/tmp/lower"
mount --bind "$1/packages" "$1/root/tmp/packages"
mount --bind "$1/upper" "$1/root/tmp/upper"
mount --bind / "$1/root/tmp/lower"
cp -a "$3" "$1/root/tmp/bundle"
# The machine's own zones are not what is tried.
rm -rf "$1/root/var/lib/zonectl"
cd "$1/root"
mkdir tmp/old
pivot_root . tmp/old
umount -l /tmp/old
rmdir /tmp/old
exec sh -eu -c "$4"
"""

# What was written, but for what dpkg and its triggers keep for themselves.
FILES = r"""
changes() {
    cd /tmp/upper
    find . -mindepth 1 | while read -r path; do
        # A folder is there when something in it was; the machine's own store is hidden by a mark.
        if [ -d "$path" ] && [ -d "/tmp/lower/$path" ]; then continue; fi
        if [ "$path" = ./var/lib/zonectl ] && [ -c "$path" ]; then continue; fi
        echo "$path"
    done | grep -vE '^[.]/var/(lib/dpkg|log|cache/(man|debconf|ldconfig))(/|$)' || true
}
# Triggers are other packages' work, and most of the time.
dpkg() { command dpkg --force-unsafe-io --no-triggers "$@"; }
install() { dpkg --path-include='/usr/share/*' --install "$1" >/tmp/dpkg.out 2>&1 || { cat /tmp/dpkg.out >&2; exit 1; }; }
"""


@pytest.fixture(scope="module")
def packages(executable, session_folder):
    """Two versions of the package."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed: this is no Debian")
    folder = session_folder / "packages"
    for version in ("0.1.0", "0.1.0+1"):
        made = subprocess.run(
            [REPOSITORY / "scripts/deb", executable, folder, version],
            env=FAST,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == 0, made.stderr
        path = pathlib.Path(made.stdout.strip())
        assert path.is_file() and path.parent == folder
        path.rename(folder / ("new.deb" if "+" in version else "old.deb"))
    return folder


@pytest.fixture
def machine(test_folder, packages):
    """Runs a script as root of a copy of this machine; returns what it printed."""
    probe = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", "zonectl"], capture_output=True, text=True)
    if "ok installed" in probe.stdout:
        pytest.skip("the package zonectl is installed on this machine, whose copy would have it, too")
    bundle = test_folder / "bundle"
    bundle.mkdir()

    def run(script):
        place = test_folder / "machine"
        place.mkdir()
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MACHINE, "sh", place, packages, bundle]
        done = subprocess.run(
            [*command, FILES + script], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout, done.stderr

    run.bundle = bundle
    return run


def test_the_package_holds_what_it_should(packages):
    listed = subprocess.run(["dpkg-deb", "-c", packages / "old.deb"], capture_output=True, text=True, check=True).stdout
    entries = {line.split()[5]: line.split() for line in listed.splitlines()}
    for path in (
        "./usr/bin/zonectl",
        "./usr/share/man/man1/zonectl.1.gz",
        "./usr/share/man/man1/zonectl-run.1.gz",
        "./usr/share/man/man1/zonectl-image-ls.1.gz",
        "./usr/share/man/man1/zonectl-oci.1.gz",
        "./usr/share/bash-completion/completions/zonectl",
        "./usr/share/zsh/vendor-completions/_zonectl",
        "./usr/share/fish/vendor_completions.d/zonectl.fish",
        "./usr/share/doc/zonectl/copyright",
        "./usr/share/doc/zonectl/changelog.gz",
        "./etc/zonectl/zones/",
    ):
        assert path in entries, path
        assert entries[path][1] == "root/root", path
    for unit in (REPOSITORY / "packaging").glob("systemd/*"):
        folder = "system-generators" if unit.name.endswith("generator") else "system"
        assert f"./usr/lib/systemd/{folder}/{unit.name}" in entries, unit
    # Data is made by zones only: a package that owned these folders would remove them.
    assert not any(path.startswith(("./var", "./run")) for path in entries)
    fields = subprocess.run(
        ["dpkg-deb", "-f", packages / "old.deb", "Depends", "Version"], capture_output=True, text=True, check=True
    ).stdout
    assert "Depends" not in fields and "Version: 0.1.0\n" in fields


def test_lintian_finds_no_errors(packages):
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed (Debian package lintian)")
    result = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", packages / "old.deb"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_same_commit_gives_the_same_package(packages, executable, test_folder):
    command = [REPOSITORY / "scripts/deb", executable, test_folder, "0.1.0"]
    subprocess.run(command, env=FAST, check=True, capture_output=True)
    (again,) = test_folder.glob("*.deb")
    assert again.read_bytes() == (packages / "old.deb").read_bytes()


def test_install_upgrade_remove_and_purge_leave_nothing(machine):
    out, _ = machine(
        r"""
        install /tmp/packages/old.deb
        zonectl version
        ! command -v man >/dev/null || man -w zonectl-run
        test "$(stat -c %a /usr/bin/zonectl)" = 755
        mkdir -p /var/lib/zonectl/zones /run/zonectl && echo kept >/var/lib/zonectl/zones/data
        echo '{}' >/etc/zonectl/zones/web.json
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -s /usr/lib/systemd/system/zone@.service /etc/systemd/system/multi-user.target.wants/zone@web.service
        install /tmp/packages/new.deb
        dpkg-query -W -f '${Version}\n' zonectl
        dpkg --remove zonectl >/dev/null
        test ! -e /usr/bin/zonectl
        test -e /etc/zonectl/zones/web.json
        cat /var/lib/zonectl/zones/data
        dpkg --purge zonectl >/dev/null
        rmdir --ignore-fail-on-non-empty -p /etc/systemd/system/multi-user.target.wants 2>/dev/null || true
        echo ==
        changes
        """
    )
    lines = out.splitlines()
    assert lines[0] == "zonectl version 0.1.0"
    if shutil.which("man"):
        assert "/usr/share/man/man1/zonectl-run.1.gz" in lines
    assert lines[-3:] == ["0.1.0+1", "kept", "=="], out


def test_zones_go_on_through_an_upgrade_and_keep_their_data_from_a_purge(machine, busybox):
    root = machine.bundle / "rootfs/bin"
    root.mkdir(parents=True)
    (root / "busybox").write_bytes(busybox)
    (root / "busybox").chmod(0o755)
    os.symlink("busybox", root / "sleep")
    out, err = machine(
        r"""
        install /tmp/packages/old.deb
        zonectl oci spec --bundle /tmp/bundle
        sed -i -e 's/"terminal": *true/"terminal": false/' -e '/"args"/,/\]/c "args": ["sleep", "60"],' /tmp/bundle/config.json
        mkdir -p /var/lib/zonectl && echo kept >/var/lib/zonectl/data
        zonectl oci create --bundle /tmp/bundle package-test </dev/null >/dev/null 2>&1
        trap 'zonectl oci delete --force package-test 2>/dev/null || kill -9 $pid' EXIT
        pid=$(zonectl oci state package-test | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
        zonectl oci start package-test
        install /tmp/packages/new.deb
        zonectl oci state package-test | grep -o '"status": *"running"'
        dpkg --remove zonectl >/dev/null
        kill -0 $pid && echo runs
        dpkg --purge zonectl >/dev/null
        kill -0 $pid && echo still runs
        cat /var/lib/zonectl/data
        test -e /run/zonectl/package-test/state.json
        install /tmp/packages/new.deb
        zonectl oci delete --force package-test
        trap - EXIT
        dpkg --purge zonectl >/dev/null
        echo ==
        changes
        """
    )
    assert out.splitlines() == ['"status": "running"', "runs", "still runs", "kept", "=="], out
    assert "zones still run: /var/lib/zonectl and /run/zonectl are left" in err
