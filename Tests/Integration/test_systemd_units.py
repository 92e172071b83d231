# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""Units, enable and disable, definitions and the generator, as far as they need no systemd; Tests/VM/units has it."""

import json
import os
import pathlib
import signal
import socket

import pytest
from leaks import until

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WANTS = "multi-user.target.wants"
FOREVER = ("sh", "-c", "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done")


class Notifications:
    """The socket that a supervisor listens on."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(20)
        self.address = address

    def fields(self):
        """The next message, by names."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())


@pytest.fixture
def units(zone_host):
    """A folder of units that every command takes for systemd's."""
    folder = zone_host.directory("units")
    zone_host.environment["ZONECTL_SYSTEMD_DIR"] = folder
    return pathlib.Path(folder)


def make(host, suffix="web", *options, command=("sleep", "1000")):
    """A stopped zone that is removed when the test ends."""
    name = host.name(suffix)
    host.run("create", "--name", name, *options, host.image, *command).ok(name + "\n")
    host.defer(host.remove, name)
    return name


def entries(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# Units


def test_unit_of_a_zone(zone_host):
    name = make(zone_host, "web", "--restart", "on-failure:2")
    text = zone_host.run("unit", name).ok().stdout
    assert f"ExecStart={zone_host.executable} --root {zone_host.root} --store {zone_host.store} start --foreground {name}\n" in text
    for line in ("Type=notify", "Delegate=yes", "KillMode=mixed", "Restart=on-failure", "StartLimitBurst=3"):
        assert line in text.splitlines(), line
    zone_host.run("unit", "nobody").fails(125, "no zone is named")


def test_template_is_what_is_packaged(zone_host):
    packaged = REPOSITORY / "packaging/systemd/zone@.service"
    if not packaged.is_file():
        pytest.skip(f"{packaged} is not there: this is no checkout")
    command = (zone_host.executable, "unit", "--template")
    text = zone_host.execute(command).ok().stdout
    assert packaged.read_text() == text.replace(zone_host.executable, "/usr/bin/zonectl")


def test_enable_and_disable(zone_host, units):
    name = make(zone_host, "web", "--restart", "always")
    unit = f"zone@{name}.service"
    zone_host.run("enable", name).ok(name + "\n")
    assert entries(units) == sorted([f"{WANTS}/{unit}", unit])
    assert (units / WANTS / unit).resolve() == (units / unit).resolve()
    assert "Restart=always" in (units / unit).read_text().splitlines()
    zone_host.run("enable", name).ok(name + "\n")
    # What would leave a unit without a zone.
    zone_host.run("rm", name).fails(125, "is started with the host", "disable")
    zone_host.run("rename", name, zone_host.name("other")).fails(125, "is started with the host", "disable")
    zone_host.run("disable", name).ok(name + "\n")
    assert entries(units) == []
    zone_host.run("disable", name).ok(name + "\n")
    zone_host.run("rm", name).ok(name + "\n")
    zone_host.run("disable", name).fails(125, "no zone is named")
    zone_host.run("enable", name).fails(125, "no zone is named")


def test_rm_force_disables(zone_host, units):
    name = make(zone_host)
    zone_host.run("enable", name).ok()
    zone_host.run("rm", "-f", name).ok()
    assert entries(units) == []


def test_enable_for_an_image_that_is_built(zone_host):
    name = make(zone_host)
    folder = pathlib.Path(zone_host.directory("image")) / "etc/systemd/system"
    zone_host.run("enable", "--systemd-dir", folder, name).ok()
    link = folder / WANTS / f"zone@{name}.service"
    assert not os.readlink(link).startswith("/") and link.exists()
    zone_host.run("enable", "--systemd-dir", folder, "--now", name).fails(125, "--now", "systemd")
    zone_host.run("disable", "--systemd-dir", folder, name).ok()
    assert entries(folder) == []


def test_units_of_others_are_left_alone(zone_host, units):
    name = make(zone_host)
    path = units / f"zone@{name}.service"
    path.write_text("[Service]\nExecStart=/usr/bin/zonectl start --foreground other\n")
    zone_host.run("enable", name).fails(125, "another zone's unit")
    assert path.read_text().endswith("other\n")
    zone_host.run("rm", name).ok()


def test_what_cannot_be_enabled(zone_host, units):
    name = make(zone_host, "web", "--rm")
    zone_host.run("enable", name).fails(125, "--rm", "only once")
    zone_host.run("unit", name).fails(125, "--rm")
    assert entries(units) == []


def test_enable_undoes_what_it_did(zone_host, units):
    name = make(zone_host)
    # A folder where the link is to be.
    os.makedirs(units / WANTS / f"zone@{name}.service")
    zone_host.run("enable", name).fails(125, "write the unit")
    assert entries(units) == []
    os.rmdir(units / WANTS / f"zone@{name}.service")


# The service


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_supervisor_is_told(zone_host, kind):
    name = make(zone_host, command=FOREVER)
    listener = Notifications(zone_host.path("notify") if kind == "path" else f"@{zone_host.name('notify')}")
    zone_host.environment["NOTIFY_SOCKET"] = listener.address
    keeper = zone_host.popen("start", "--foreground", name)
    told = listener.fields()
    del zone_host.environment["NOTIFY_SOCKET"]
    assert told["READY"] == "1" and told["MAINPID"] == str(keeper.pid)
    assert name in told["STATUS"] and str(zone_host.pid(name)) in told["STATUS"]
    zone_host.run("exec", name, "env").check("NOTIFY_SOCKET" not in zone_host.run("exec", name, "env").stdout, "told")
    # Not twice.
    zone_host.run("start", "--foreground", name).fails(125, "runs already")
    zone_host.run("start", name).ok(name + "\n")
    keeper.send_signal(signal.SIGTERM)
    told = listener.fields()
    assert told["STOPPING"] == "1" and int(told["EXTEND_TIMEOUT_USEC"]) >= 10_000_000
    out, _ = keeper.communicate(timeout=20)
    # What a supervisor wanted is no failure; how the zone took it is recorded.
    assert keeper.returncode == 0
    assert out.decode().splitlines() == ["hello", "bye"]
    assert zone_host.listed()[name]["exitCode"] == 3


def test_a_supervisor_that_is_gone_is_no_matter(zone_host):
    name = make(zone_host, command=("sh", "-c", "exit 7"))
    result = zone_host.run("start", "--foreground", name, env={"NOTIFY_SOCKET": zone_host.path("nobody")})
    result.exits(7)


def test_a_zone_that_is_gone_is_not_started_again(zone_host):
    zone_host.run("start", "--foreground", "nobody").fails(254, "no zone is named")


def test_a_zone_that_was_killed_is_not_started_again(zone_host):
    name = make(zone_host, "web", "--restart", "always")
    keeper = zone_host.popen("start", "--foreground", name)
    until(lambda: zone_host.status(name) == "running")
    zone_host.run("kill", name).ok()
    assert keeper.wait(20) == 254


def test_restarts_are_the_supervisors(zone_host):
    name = make(zone_host, "web", "--restart", "always", command=("sh", "-c", "exit 5"))
    zone_host.run("start", "--foreground", name).exits(5)
    assert zone_host.status(name) == "stopped"


def test_boot(zone_host, units):
    always = make(zone_host, "always", "--restart", "always")
    stopped = make(zone_host, "stopped", "--restart", "unless-stopped")
    zone_host.run("start", stopped).ok()
    zone_host.run("stop", "-t", "0", stopped).ok()
    no = make(zone_host, "no")
    enabled = make(zone_host, "enabled", "--restart", "always")
    zone_host.run("enable", enabled).ok()
    broken = make(zone_host, "broken", "--restart", "always", command=("/nothing",))
    zone_host.run("start", "--boot").fails(127, broken, stdout=f"{always}\n")
    states = {name: zone_host.status(name) for name in (always, stopped, no, enabled)}
    assert states == {always: "running", stopped: "stopped", no: "stopped", enabled: "stopped"}
    pid = zone_host.pid(always)
    zone_host.run("start", "--boot").exits(127)
    assert zone_host.pid(always) == pid


# Definitions


def write(host, name, definition):
    text = definition if isinstance(definition, str) else json.dumps(definition, indent=1)
    return host.path(name, text)


def test_apply(zone_host):
    name = zone_host.name("web")
    zone_host.defer(zone_host.remove, name)
    wanted = {"name": name, "image": "busybox", "command": ["sleep", "1000"], "memory": "32M", "stopTimeout": 0}
    file = write(zone_host, "web.json", wanted)
    zone_host.run("apply", "-f", file, "--dry-run").ok(f"{name}: would be created\n")
    assert zone_host.status(name) is None
    zone_host.run("apply", "-f", file).ok(f"{name}: created\n")
    zone_host.run("apply", "-f", file).ok(f"{name}: unchanged\n")
    assert zone_host.inspect(name)["definition"]["resources"]["memory"]["limit"] == 32 << 20
    write(zone_host, "web.json", {**wanted, "memory": "48M", "restart": "always"})
    zone_host.run("apply", "-f", file, "--dry-run").ok(f"{name}: would be changed: resources, restart\n")
    zone_host.run("apply", "-f", file).ok(f"{name}: changed: resources, restart\n")
    zone_host.run("apply", "-f", file).ok(f"{name}: unchanged\n")
    zone_host.run("start", name).ok()
    limit = zone_host.cgroup_file(name, "memory.limit_in_bytes", "memory.max")
    assert int(open(limit).read()) == 48 << 20
    # While it runs: what its keeper reads again, and what it does not.
    pid = zone_host.pid(name)
    write(zone_host, "web.json", {**wanted, "memory": "64M", "cpus": 0.5, "labels": {"a": "b"}})
    zone_host.run("apply", "-f", file).ok(f"{name}: changed: resources, labels, restart\n")
    assert int(open(limit).read()) == 64 << 20
    assert zone_host.inspect(name)["config"]["annotations"]["a"] == "b"
    write(zone_host, "web.json", {**wanted, "memory": "8K"})
    zone_host.run("apply", "-f", file).fails(125)
    write(zone_host, "web.json", {key: value for key, value in wanted.items() if key != "memory"})
    zone_host.run("apply", "-f", file).ok(f"{name}: changed: resources, labels\n")
    assert open(limit).read().strip() in ("max", str((1 << 63) - 4096))
    assert "a" not in zone_host.inspect(name)["config"].get("annotations", {})
    zone_host.run("apply", "-f", file).ok(f"{name}: unchanged\n")
    assert zone_host.pid(name) == pid
    write(zone_host, "web.json", {**wanted, "hostname": "other"})
    zone_host.run("apply", "-f", file).fails(125, "is running", "hostname")
    assert zone_host.pid(name) == pid
    zone_host.run("apply", "-f", file, "--restart").exits(0)
    assert zone_host.run("exec", name, "hostname").ok().stdout == "other\n"


def test_round_trip(zone_host):
    name = make(
        zone_host, "web", "-e", "A=b c", "-v", "/etc:/host:ro", "--tmpfs", "/t:size=1M", "--memory", "64M", "--cpus", "0.5",
        "--cap-add", "net_admin", "--ulimit", "nofile=64", "--label", "x.y=z", "--restart", "on-failure:2", "--stop-timeout", "1",
        "--health-cmd", "true", "--device", "/dev/null", "--sysctl", "net.ipv4.ip_forward=1", "--user", "1:2", "-w", "/tmp",
        "--entrypoint", "/bin/sh", "--pids-limit", "20", "--security-opt", "seccomp=unconfined", command=("-c", "sleep 1000"),
    )
    text = zone_host.run("inspect", "--as-definition", name).ok().stdout
    assert "imageDigest" not in text and "created" not in json.loads(text)
    zone_host.run("apply", "-f", "-", stdin=text).ok(f"{name}: unchanged\n")
    other = zone_host.name("copy")
    zone_host.defer(zone_host.remove, other)
    zone_host.run("apply", "-f", "-", stdin=text.replace(f'"{name}"', f'"{other}"')).ok(f"{other}: created\n")
    copies = json.loads(zone_host.run("inspect", "--as-definition", name, other).ok().stdout)
    assert {**copies[0], "name": ""} == {**copies[1], "name": ""}


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"name": "NAME", "image": "busybox",\n "memorx": 1}', ('line 2: "memorx": unknown key', 'did you mean "memory"?')),
        ('{"name": "NAME",\n "image": "busybox",\n "image": "x"}', ("line 3", "duplicate name")),
        ('{"name": "NAME", "image": "busybox", "autoRemove": true,\n"restart": "always"}', ("line 2", "contradict")),
        ('{"name": "NAME", "image": "busybox", "cpus": 1,\n"burst": "1s"}', ('line 2: "burst"', "above the quota")),
        ('{"name": "NAME", "image": "busybox",\n"mounts": ["/nothing-there:/x"]}', ('line 2: "mounts[0]"', "No such file")),
        ('[{"name": "NAME", "image": "busybox"},\n{"name": "NAME-2", "imag": "busybox"}]', ("line 2", '"image"?')),
        ('{"name": "NAME", "image": "nothing"}', ("not in the store",)),
        ("\x00", ("line 1",)),
        ('{"name": "NAME", "image": "busybox", "health": {"command": "x", "retires": 1}}', ('"health.retires"', '"retries"')),
    ],
)
def test_bad_definitions_change_nothing(zone_host, text, words):
    name = zone_host.name("web")
    zone_host.defer(zone_host.remove, name)
    zone_host.defer(zone_host.remove, name + "-2")
    file = write(zone_host, "web.json", text.replace("NAME", name))
    zone_host.run("apply", "-f", file).fails(125, *words)
    assert zone_host.status(name) is None


def test_start_follows_the_administrators_file(zone_host):
    name = zone_host.name("web")
    zone_host.defer(zone_host.remove, name)
    folder = pathlib.Path(zone_host.directory("zones"))
    zone_host.environment["ZONECTL_DEFINITIONS"] = str(folder)
    (folder / f"{name}.json").write_text('{"image": "busybox", "command": ["sh", "-c", "exit 4"]}')
    zone_host.run("start", "--foreground", name).exits(4)
    (folder / f"{name}.json").write_text('{"image": "busybox", "command": ["sh", "-c", "exit 6"]}')
    zone_host.run("start", "--foreground", name).exits(6)
    (folder / f"{name}.json").write_text('{"image": "busybox"\n "command": 7}')
    zone_host.run("start", "--foreground", name).fails(125, f"{name}.json: line 2")
    assert zone_host.status(name) == "stopped"


def test_generator(zone_host, test_folder):
    zones = pathlib.Path(zone_host.directory("zones"))
    output = pathlib.Path(zone_host.directory("normal"))
    generator = test_folder / "zonectl-generator"
    generator.symlink_to(zone_host.executable)
    environment = {"ZONECTL_DEFINITIONS": str(zones)}
    (zones / "fine.json").write_text('{"image": "busybox", "restart": "always", "mounts": ["/not-mounted-yet:/x"]}')
    (zones / "no.json").write_text('{"image": "busybox", "boot": false}')
    (zones / "broken.json").write_text('{"image": "busybox",\n "restarx": "no"}')
    (zones / "bad name.json").write_text('{"image": "busybox"}')
    (zones / "README").write_text("not a definition")
    result = zone_host.execute([generator, output, output / "early", output / "late"], env=environment).exits(0)
    assert 'broken.json: line 2: "restarx": unknown key' in result.stderr and "bad name" in result.stderr
    assert "zone@fine.service" in os.listdir(output / WANTS)
    assert os.listdir(output / WANTS) == ["zone@fine.service"]
    made = [path for path in entries(output) if not path.startswith(WANTS)]
    text = "".join((output / path).read_text() for path in made)
    assert "Restart=always" in text
    # No definitions: nothing to do.
    zone_host.execute([generator, output], env={"ZONECTL_DEFINITIONS": "/nothing"}).ok("")
