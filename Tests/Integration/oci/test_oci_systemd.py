# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""--systemd-cgroup: control groups as scopes of a real systemd's, and the group that they are."""

import json
import os
import subprocess

import pytest
from bundle import UNSET, Bundle
from engine import group_of, needs
from leaks import read, until

HAS_SYSTEMD = os.path.isdir("/run/systemd/system") and os.path.exists("/sys/fs/cgroup/cgroup.controllers")
with_systemd = pytest.mark.skipif(
    not HAS_SYSTEMD, reason="systemd with cgroup version 2 does not run here; `make test-vm` has it"
)
MIB = 1 << 20


@pytest.fixture
def scopes(oci):
    """The runtime with systemd as its driver. Whatever unit the test leaves behind fails it."""
    oci.options = ("--systemd-cgroup",)
    oci.defer(_nothing_is_left, oci.prefix)
    return oci


def _nothing_is_left(prefix):
    # systemd keeps slices, of which nobody knows whose they are.
    _systemctl("stop", f"{prefix}.slice")
    gone = until(lambda: prefix not in _systemctl("list-units", "--all", "--no-legend", "--plain", f"*{prefix}*"))
    assert gone, "units are left: " + _systemctl("list-units", "--all", "--no-legend", "--plain", f"*{prefix}*")


def _systemctl(*words):
    done = subprocess.run(["systemctl", "--no-pager", *words], capture_output=True, text=True, timeout=30)
    return done.stdout


def _shown(unit, *names):
    """What systemd says of a unit."""
    lines = _systemctl("show", *[f"--property={name}" for name in names], unit).splitlines()
    return dict(line.split("=", 1) for line in lines)


def _unit(name):
    return f"zonectl-{name}.scope"


def _settings(oci, settings=None, slice_name="system.slice", suffix="z"):
    """Settings with the cgroupsPath that engines give, and the container's name."""
    name = oci.name(suffix)
    return name, {"linux.cgroupsPath": f"{slice_name}:zonectl:{name}", **(settings or {})}


def _started(oci, args=("sleep", "1000"), settings=None, **keywords):
    name, settings = _settings(oci, settings, **keywords)
    return oci.started(args, settings, name=name)


def _group(name):
    return f"/sys/fs/cgroup/system.slice/{_unit(name)}"


def _values(group, names):
    return {name: read(f"{group}/{name}").strip() for name in names}


# A scope's life


@with_systemd
def test_life(scopes):
    name, settings = _settings(scopes)
    scopes.created(settings=settings, name=name)
    assert _shown(_unit(name), "ActiveState", "Slice", "ControlGroup", "Delegate", "SubState") == {
        "ActiveState": "active",
        "SubState": "running",
        "Slice": "system.slice",
        "ControlGroup": f"/system.slice/{_unit(name)}",
        "Delegate": "yes",
    }
    assert read(f"/proc/{scopes.pid(name)}/cgroup") == f"0::/system.slice/{_unit(name)}\n"
    scopes.run("start", name).ok("")
    scopes.run("kill", name, "KILL").ok("")
    scopes.wait_for(name, "stopped")
    scopes.run("delete", name).ok("")
    assert _shown(_unit(name), "LoadState") == {"LoadState": "not-found"}
    assert not os.path.exists(_group(name))


@with_systemd
@pytest.mark.parametrize("path", [None, ""])
def test_without_a_path(scopes, path):
    name = scopes.started(settings={"linux.cgroupsPath": UNSET if path is None else path})
    assert group_of(scopes.pid(name), "").startswith("/sys/fs/cgroup/system.slice/")
    assert name in group_of(scopes.pid(name), "")


@with_systemd
def test_in_the_root_slice(scopes):
    name = _started(scopes, slice_name="-.slice")
    assert group_of(scopes.pid(name), "") == f"/sys/fs/cgroup/{_unit(name)}"


@with_systemd
def test_in_a_slice_of_slices(scopes):
    top = scopes.prefix
    name = _started(scopes, slice_name=f"{top}-a-b.slice")
    place = f"/sys/fs/cgroup/{top}.slice/{top}-a.slice/{top}-a-b.slice/{_unit(name)}"
    assert group_of(scopes.pid(name), "") == place


@with_systemd
def test_run_in_the_foreground(scopes):
    name, settings = _settings(scopes)
    bundle = scopes.bundle("cat /proc/self/cgroup; exit 3", settings)
    result = scopes.run("run", "--bundle", bundle, scopes.owned(name)).exits(3)
    assert result.stdout == f"0::/system.slice/{_unit(name)}\n"
    assert not os.path.exists(_group(name))


@with_systemd
def test_exec_joins_the_scope(scopes):
    name = _started(scopes)
    assert scopes.run("exec", name, "cat", "/proc/self/cgroup").ok().stdout == f"0::/system.slice/{_unit(name)}\n"
    scopes.run("exec", "--detach", name, "sleep", "1000", stdout=None, stderr=None).exits(0)
    assert len(read(f"{_group(name)}/cgroup.procs").split()) == 2
    assert len(scopes.run("ps", "--format", "json", name).ok().json) == 2


@with_systemd
@needs("zonectl", "crun", why="other words for it")
def test_groups_below_are_the_zones(scopes):
    """Delegated: the zone makes groups of its own below, and they go with it."""
    name, settings = _settings(scopes)
    kinds = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    settings["linux.namespaces"] = [{"type": kind} for kind in kinds]
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}
    script = "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/own && echo $$ >/sys/fs/cgroup/own/cgroup.procs; exec sleep 1000"
    scopes.started(script, settings, [mount], name=name)
    assert until(lambda: read(f"{_group(name)}/own/cgroup.procs").strip() == str(scopes.pid(name)))
    assert scopes.said(name, "0::/\n")
    scopes.run("delete", "--force", name).exits(0)
    assert not os.path.exists(_group(name))


@with_systemd
def test_scope_that_ends_by_itself(scopes):
    name, settings = _settings(scopes)
    scopes.stopped(("true",), settings, name=name)
    assert until(lambda: _shown(_unit(name), "ActiveState")["ActiveState"] == "inactive")
    scopes.run("delete", name).ok("")


@with_systemd
def test_scope_that_is_stopped_from_outside(scopes):
    name = _started(scopes, ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"))
    _systemctl("stop", _unit(name))
    scopes.wait_for(name, "stopped")
    scopes.run("delete", name).ok("")


@with_systemd
def test_kill_of_all(scopes):
    name = _started(scopes, ("sh", "-c", "sleep 1000 & sleep 1000"))
    assert until(lambda: len(read(f"{_group(name)}/cgroup.procs").split()) >= 2)
    scopes.run("kill", "--all", name, "KILL").exits(0)
    scopes.wait_for(name, "stopped")
    assert until(lambda: not read(f"{_group(name)}/cgroup.procs"))


@with_systemd
@needs("zonectl", why="other words for it")
def test_name_that_a_living_unit_has(scopes):
    name, settings = _settings(scopes)
    other = subprocess.Popen(["systemd-run", "--quiet", "--scope", f"--unit=zonectl-{name}", "sleep", "1000"])
    try:
        assert until(lambda: os.path.isdir(_group(name)))
        result = scopes.create(scopes.bundle(("sleep", "1000"), settings), name)
        scopes.refused(result, _unit(name), name=name)
        # It is somebody else's, and lives on.
        assert other.poll() is None
        assert _shown(_unit(name), "ActiveState") == {"ActiveState": "active"}
    finally:
        other.kill()
        other.wait()


@with_systemd
@needs("zonectl", why="other words for it")
@pytest.mark.parametrize("path", ["/absolute", "only-a-name", "a:b", "system:zonectl:x", "a--b.slice:x:y", "a/b.slice::x"])
def test_bad_paths(scopes, path):
    result = scopes.create(scopes.bundle(settings={"linux.cgroupsPath": path}), scopes.name())
    scopes.refused(result, ("cgroupsPath", "name unit"), name=scopes.name())


@with_systemd
def test_create_that_fails_leaves_no_unit(scopes):
    name, settings = _settings(scopes, {"process.args": ["/not/there"]})
    result = scopes.create(scopes.bundle(settings=settings), name)
    assert result.status != 0
    assert _shown(_unit(name), "LoadState") == {"LoadState": "not-found"}
    assert not os.path.exists(_group(name))


@with_systemd
def test_annotations_are_properties(scopes):
    told = {"Description": "'a zone of mine'", "TimeoutStopUSec": "uint64 7000000", "CollectMode": "'inactive'"}
    name = _started(scopes, settings={"annotations": {f"org.systemd.property.{k}": v for k, v in told.items()}})
    assert _shown(_unit(name), "Description", "TimeoutStopUSec", "CollectMode") == {
        "Description": "a zone of mine",
        "TimeoutStopUSec": "7s",
        "CollectMode": "inactive",
    }


# Limits

RESOURCES = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 128 * MIB},
    "cpu": {"shares": 512, "quota": 50000, "period": 200000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 33},
    "unified": {"memory.high": str(48 * MIB), "memory.oom.group": "1"},
    "devices": [{"allow": False, "access": "rwm"}],
}
PROPERTIES = {
    "MemoryMax": str(64 * MIB),
    "MemoryLow": str(32 * MIB),
    "MemorySwapMax": str(64 * MIB),
    "MemoryHigh": str(48 * MIB),
    "CPUWeight": "59",
    "CPUQuotaPerSecUSec": "250ms",
    "CPUQuotaPeriodUSec": "200ms",
    "AllowedCPUs": "0",
    "AllowedMemoryNodes": "0",
    "TasksMax": "33",
}
FILES = {
    "memory.max": str(64 * MIB),
    "memory.low": str(32 * MIB),
    "memory.swap.max": str(64 * MIB),
    "memory.high": str(48 * MIB),
    "memory.oom.group": "1",
    "cpu.weight": "59",
    "cpu.max": "50000 200000",
    "cpuset.cpus": "0",
    "cpuset.mems": "0",
    "pids.max": "33",
}


@with_systemd
@needs("zonectl", why="each has its own rounding")
def test_limits_and_reload(scopes):
    """What systemd knows of the limits is what the group has, also after it has read everything anew."""
    name = _started(scopes, settings={"linux.resources": RESOURCES})
    assert _values(_group(name), FILES) == FILES
    assert _shown(_unit(name), *PROPERTIES) == PROPERTIES
    _systemctl("daemon-reload")
    # systemd 252 has no property for it that a scope may have, and takes it back.
    kept = {file: value for file, value in FILES.items() if file != "memory.oom.group"}
    assert _values(_group(name), kept) == kept
    scopes.run("update", "--memory", str(80 * MIB), "--cpu-share", "256", "--pids-limit", "44", name).ok("")
    files = {**kept, "memory.max": str(80 * MIB), "cpu.weight": "35", "pids.max": "44"}
    # The swap that the container may have together with its memory was not changed.
    del files["memory.swap.max"]
    assert _values(_group(name), files) == files
    changed = {"MemoryMax": str(80 * MIB), "CPUWeight": "35", "TasksMax": "44"}
    assert _shown(_unit(name), *changed) == changed
    _systemctl("daemon-reload")
    assert _values(_group(name), files) == files


@with_systemd
def test_quota_that_is_no_whole_percent(scopes):
    name = _started(scopes, settings={"linux.resources.cpu": {"quota": 12345, "period": 100000}})
    exact = read(f"{_group(name)}/cpu.max").strip()
    if scopes.runtime.kind == "zonectl":
        assert exact == "12345 100000"
    # systemd has whole percents; less than asked for it must never be.
    _systemctl("daemon-reload")
    quota, period = read(f"{_group(name)}/cpu.max").split()
    assert 12345 <= int(quota) <= 13000 and period == "100000"


@with_systemd
def test_block_io(scopes):
    device = os.stat("/").st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    rate = {"major": os.major(device), "minor": os.minor(device), "rate": MIB}
    name = _started(scopes, settings={"linux.resources.blockIO": {"throttleReadBpsDevice": [rate]}})
    line = f"{numbers} rbps={MIB} wbps=max riops=max wiops=max"
    assert read(f"{_group(name)}/io.max").strip() == line
    _systemctl("daemon-reload")
    assert read(f"{_group(name)}/io.max").strip() == line


@with_systemd
def test_memory_limit_has_effect_inside_only(scopes):
    memory = {"limit": 32 * MIB, "swap": 32 * MIB}
    other = _started(scopes, suffix="other")
    name = _started(scopes, settings={"linux.resources.memory": memory})
    hog = scopes.run("exec", name, "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
    assert hog.status in (137, 1)
    assert scopes.status(other) == "running"
    events = dict(line.split() for line in read(f"{_group(name)}/memory.events").splitlines())
    assert int(events["oom"]) > 0


@with_systemd
def test_devices_stay_ruled(scopes):
    """By a device program of the kernel's, which neither systemd nor an update may take away."""
    fuse = [{"path": f"/dev/{n}", "type": "c", "major": 10, "minor": m} for n, m in (("fuse", 229), ("hpet", 228))]
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    name = _started(scopes, settings={"linux.devices": fuse, "linux.resources.devices": rules})

    def ruled():
        # What is allowed may fail for want of a driver, but not for want of a right.
        allowed = scopes.run("exec", name, "sh", "-c", "exec 3<>/dev/fuse").stderr
        refused = scopes.run("exec", name, "sh", "-c", "exec 3<>/dev/hpet").stderr
        return "not permitted" not in allowed, "not permitted" in refused

    assert ruled() == (True, True)
    scopes.run("update", "--pids-limit", "50", name).ok("")
    _systemctl("daemon-reload")
    assert ruled() == (True, True)


@with_systemd
def test_pause_and_resume(scopes):
    name = _started(scopes, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    scopes.said(name, "3\n")
    scopes.run("pause", name).ok("")
    assert scopes.status(name) == "paused"
    assert "frozen 1" in read(f"{_group(name)}/cgroup.events")
    _systemctl("daemon-reload")
    assert "frozen 1" in read(f"{_group(name)}/cgroup.events")
    before = scopes.output(name)
    scopes.run("resume", name).ok("")
    assert scopes.status(name) == "running"
    assert until(lambda: scopes.output(name) != before)


@with_systemd
def test_delete_of_a_paused_container(scopes):
    name = _started(scopes)
    scopes.run("pause", name).ok("")
    scopes.run("delete", "--force", name).exits(0)
    assert not os.path.exists(_group(name))


@with_systemd
@needs("zonectl", "runc", why="no events")
def test_statistics(scopes):
    name = _started(scopes, settings={"linux.resources.pids": {"limit": 20}})
    data = scopes.run("events", "--stats", name).ok().json["data"]
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["memory"]["usage"]["usage"] > 0
    if scopes.runtime.kind == "zonectl" and os.path.exists(f"{_group(name)}/memory.pressure"):
        for part in (data["cpu"], data["memory"], data["blkio"]):
            assert set(part["psi"]["some"]) >= {"avg10", "avg60", "avg300", "total"}


# An ordinary user's own systemd


@pytest.fixture
def ann(scopes):
    """The runtime as called by a user whose own systemd runs: root may not ask for groups in her name."""
    users = [int(name) for name in os.listdir("/run/user") if os.path.exists(f"/run/user/{name}/systemd/private")]
    users = [user for user in users if user >= 1000]
    if not users:
        pytest.skip("no ordinary user's systemd runs here (loginctl enable-linger)")
    user = users[0]
    for folder in (scopes.folder, scopes.root):
        os.chown(folder, user, user)
    scopes.user_id = user
    scopes.environment["XDG_RUNTIME_DIR"] = f"/run/user/{user}"
    scopes.environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
    return user


def _rootless(oci, user, name, args, settings):
    """A bundle of the user's, with the configuration that `spec --rootless` writes."""
    bundle = oci.bundle(name=f"bundle-{name}")
    os.unlink(bundle.path / "config.json")
    _own(bundle, user)
    oci.run("spec", "--rootless", "--bundle", bundle).exits(0)
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    bundle.config["process"].update(terminal=False, args=list(args))
    bundle.config["process"].pop("rlimits", None)
    bundle.config["root"]["readonly"] = False
    bundle.change(**{path.replace(".", "__"): value for path, value in settings.items()})
    _own(bundle, user)
    return bundle


def _own(bundle: Bundle, user):
    for folder, folders, files in os.walk(bundle.path):
        for path in [folder, *(os.path.join(folder, name) for name in folders + files if name != "busybox")]:
            os.chown(path, user, user, follow_symlinks=False)


@with_systemd
@pytest.mark.parametrize("slice_name", ["user.slice", ""])
def test_scope_of_an_ordinary_user(scopes, ann, slice_name):
    name = scopes.name()
    settings = {
        "linux.cgroupsPath": f"{slice_name}:zonectl:{name}",
        "linux.resources": {"memory": {"limit": 64 * MIB}, "pids": {"limit": 33}},
    }
    scopes.create(_rootless(scopes, ann, name, ("sleep", "1000"), settings), name).exits(0)
    scopes.run("start", name).exits(0)
    group = group_of(scopes.pid(name), "")
    assert f"/user@{ann}.service/" in group and group.endswith(f"/{_unit(name)}")
    assert _values(group, ["memory.max", "pids.max"]) == {"memory.max": str(64 * MIB), "pids.max": "33"}
    scopes.run("update", "--pids-limit", "44", name).exits(0)
    assert read(f"{group}/pids.max") == "44\n"
    scopes.run("pause", name).exits(0)
    assert "frozen 1" in read(f"{group}/cgroup.events")
    scopes.run("resume", name).exits(0)
    scopes.run("delete", "--force", name).exits(0)
    assert not os.path.exists(group)


@with_systemd
@needs("zonectl", why="each has its own way")
@pytest.mark.xfail(strict=True, reason="the user's systemd is not asked to attach the process (AttachProcessesToUnit)")
def test_exec_of_an_ordinary_user_from_outside(scopes, ann):
    """The kernel lets nobody move processes between groups whose common parent is root's."""
    name = scopes.name()
    settings = {"linux.cgroupsPath": f":zonectl:{name}"}
    scopes.create(_rootless(scopes, ann, name, ("sleep", "1000"), settings), name).exits(0)
    scopes.run("start", name).exits(0)
    assert scopes.run("exec", name, "id", "-u").exits(0).stdout == "0\n"


# Where there is no systemd


@pytest.mark.skipif(HAS_SYSTEMD, reason="systemd runs here")
@needs("zonectl", why="other words for it")
def test_without_systemd_it_says_so(oci):
    oci.options = ("--systemd-cgroup",)
    result = oci.create(oci.bundle(("sleep", "1000")), oci.name())
    oci.refused(result, ("version 2", "busctl", "systemd"), name=oci.name())
