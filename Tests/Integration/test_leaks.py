# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""The leak check itself: each kind of leftover, planted by hand, is named and removed."""

import os
import shutil
import subprocess

import pytest
from leaks import alive, cgroup_hierarchies, parent_name, until


def test_nothing_is_found_where_nothing_is(plain_host):
    assert plain_host.leaks.find() == []


def test_file(plain_host):
    plain_host.path("root/zone/state.json", "{}")
    plain_host.path("store/zones/zone/config.json", "{}")
    found = plain_host.close()
    assert len(found) == 4 and all("file " in sentence for sentence in found), found
    assert plain_host.leaks.find() == []


def test_process(plain_host):
    process = subprocess.Popen(["tail", "-f", "/dev/null", plain_host.path("file", "")])
    found = plain_host.close()
    assert any(f"process {process.pid}" in sentence for sentence in found), found
    process.wait(10)
    assert plain_host.leaks.find() == []


def test_mount(plain_host):
    path = plain_host.directory("mounted")
    subprocess.run(["mount", "-t", "tmpfs", "zonectl-test", path], check=True)
    found = plain_host.close()
    assert len(found) == 1 and path in found[0], found
    assert not os.path.ismount(path)


def test_mount_in_another_namespace(plain_host):
    path = plain_host.directory("mounted")
    words = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs x "$0" && cd / && exec env -i sleep 1000', path]
    process = subprocess.Popen(words)
    # Only its mounts tell whose it is.
    assert until(lambda: open(f"/proc/{process.pid}/cmdline").read() == "sleep\x001000\x00", 5)
    found = plain_host.close()
    assert len(found) == 1 and f"process {process.pid}: mounts" in found[0], found
    process.wait(10)


def test_control_group(plain_host):
    top = next((top for top in cgroup_hierarchies() if os.access(top, os.W_OK)), None)
    if not top:
        pytest.skip("this machine has no control group hierarchy that can be written")
    path = os.path.join(top, parent_name(plain_host.root), plain_host.name())
    os.makedirs(path)
    process = subprocess.Popen(["sleep", "1000"])
    with open(os.path.join(path, "cgroup.procs"), "w") as file:
        file.write(str(process.pid))
    found = plain_host.close()
    assert len(found) == 2 and path in found[1] and f"process {process.pid}" in found[0], found
    assert not os.path.exists(os.path.dirname(path)) and not alive(process.pid)
    process.wait(10)


def test_network_link(plain_host):
    if not shutil.which("ip"):
        pytest.skip("ip is not installed (Debian package iproute2)")
    link = plain_host.prefix
    made = subprocess.run(["ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}p"], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"this machine makes no veth links: {made.stderr.decode().strip()}")
    found = plain_host.close()
    assert any(f"network link {link}" in sentence for sentence in found), found
    assert not os.path.exists(f"/sys/class/net/{link}")


def test_clean_up_is_last_in_first_out_and_goes_on(plain_host):
    order = []
    for word in ("first", "second"):
        plain_host.defer(order.append, word)
    plain_host.defer(lambda: 1 // 0)
    found = plain_host.close()
    assert order == ["second", "first"] and len(found) == 1 and "division" in found[0], (order, found)


def test_command_that_hangs_is_killed_and_reported(plain_host):
    with pytest.raises(AssertionError, match="(?s)not finished after 0.2 s.*said"):
        plain_host.execute(["sh", "-c", "echo said; sleep 1000"], timeout=0.2)
