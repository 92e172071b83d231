# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""ps, stats, top, metrics, events, and the schemas of all JSON."""

import json
import os
import re
import signal
import time

import jsonschema
import pytest
from leaks import until
from terminal import CTRL_C, CTRL_D

SPIN = ["sh", "-c", "while :; do :; done"]


def strict(schema):
    """The same schema, which also refuses fields that it does not name."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema:
            schema["additionalProperties"] = False
    elif isinstance(schema, list):
        schema = [strict(value) for value in schema]
    return schema


@pytest.fixture
def schema(zone_host):
    """Checks a value against one of zonectl's own schemas."""

    def check(name, value):
        text = zone_host.run("schema", *name.split()).ok().json
        jsonschema.Draft202012Validator.check_schema(text)
        jsonschema.validate(value, strict(text), cls=jsonschema.Draft202012Validator)

    return check


# ps


def test_ps_lists_what_runs(zone_host):
    running = zone_host.start()
    stopped = zone_host.name("stopped")
    zone_host.defer(zone_host.remove, stopped)
    zone_host.run("run", "--name", stopped, zone_host.image, "true").ok()
    assert zone_host.run("ps", "-q").ok().lines == [running]
    assert sorted(zone_host.run("ps", "-aq").ok().lines) == sorted([running, stopped])
    assert [zone["name"] for zone in zone_host.run("ps", "--json").ok().json] == [running]
    assert zone_host.run("ps").ok().lines[0].split() == zone_host.run("ls").ok().lines[0].split()


# stats


def test_stats_of_a_busy_zone(zone_host, schema):
    name = zone_host.start(command=SPIN, options=["--memory", "64M", "--pids-limit", "50"])
    (usage,) = zone_host.run("stats", "--no-stream", "--json", name).ok().json
    schema("stats", [usage])
    assert usage["name"] == name
    # As much as a machine that does other things leaves it.
    assert 10 < usage["cpuPercent"] < 110
    assert usage["memoryLimitBytes"] == 64 << 20
    assert 0 < usage["memoryBytes"] < 8 << 20
    assert usage["pidsLimit"] == 50
    assert usage["pids"] == 1
    assert usage["networkReceivedBytes"] == 0
    before = usage["cpuNanoseconds"]
    assert before > 0
    head, row = zone_host.run("stats", "--no-stream", "--interval", "200ms").ok().lines
    assert re.split(r"\s{2,}", head) == [
        "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS", "PSI %",
    ]  # fmt: skip
    assert row.split()[0] == name
    assert "/ 64 MiB" in row


def test_stats_go_on(zone_host, schema):
    name = zone_host.start()
    process = zone_host.popen("stats", "--json", "--interval", "100ms")
    looks = [json.loads(process.stdout.readline()) for _ in range(3)]
    for look in looks:
        schema("stats", look)
        assert [usage["name"] for usage in look] == [name]
    # A zone that goes away between two looks is left out.
    zone_host.run("rm", "-f", name).ok()
    assert until(lambda: json.loads(process.stdout.readline()) == [])
    process.terminate()


def test_stats_of_what_does_not_run(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, zone_host.image, "true").ok()
    assert zone_host.run("stats", "--no-stream", "--json").ok().json == []
    (usage,) = zone_host.run("stats", "--no-stream", "--json", "-a", "--interval", "100ms").ok().json
    assert usage == {"name": name, "type": "container", "status": "stopped"}
    zone_host.run("stats", "nosuch").fails(125, "no zone")
    zone_host.run("stats", "--interval", "1ms").fails(125, "--interval")


# top


def test_top_for_scripts(zone_host):
    busy = zone_host.start("busy", SPIN)
    idle = zone_host.start("idle")
    summary, head, *rows = zone_host.run("top", "--once").ok().lines
    assert re.search(r"CPU [\d.]+% of \d+ .*zones 2, 2 running", summary)
    assert head.split()[:4] == ["NAME", "TYPE", "STATUS", "CPU%"]
    assert [row.split()[0] for row in rows] == [busy, idle]
    assert [row.split()[0] for row in zone_host.run("top", "--once", "-r").ok().lines[2:]] == [idle, busy]
    twice = zone_host.run("top", "-b", "-n", "2", "-d", "100ms", "--sort", "name").ok().lines
    assert len(twice) == 9
    zone_host.run("top").fails(125, "no terminal", "--once")
    zone_host.run("top", "--sort", "x").fails(125, "--sort", "cpu")


@pytest.mark.parametrize("key, status", [("q", 0), (CTRL_C, 0), (CTRL_D, 0)])
def test_top_quits(zone_host, key, status):
    name = zone_host.start()
    terminal = zone_host.terminal("top", "-d", "100ms")
    terminal.expect(re.escape("\x1b[?1049h"))
    terminal.expect(name)
    terminal.send(key)
    terminal.expect(re.escape("\x1b[?1049l"))
    assert terminal.wait() == status
    assert terminal.attributes() == terminal.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_top_leaves_the_terminal_as_it_was(zone_host, number):
    terminal = zone_host.terminal("top")
    terminal.expect("NAME")
    os.kill(terminal.pid, number)
    terminal.expect(re.escape("\x1b[?25h\x1b[?1049l"))
    assert terminal.wait() == (0 if number == signal.SIGINT else 128 + number)
    assert terminal.attributes() == terminal.before


def test_top_follows_the_window(zone_host):
    names = sorted(zone_host.start(f"z{i}") for i in range(4))
    terminal = zone_host.terminal("top", "-d", "100ms", "--sort", "name", rows=5, columns=40)
    terminal.expect(names[0])
    terminal.expect(names[2])
    # Three zones fit; the fourth is below.
    terminal.send("\x1b[B")
    terminal.expect(names[3])
    terminal.resize(24, 120)
    terminal.expect("q quit")
    terminal.expect("TYPE")
    zone_host.run("rm", "-f", *names).ok()
    terminal.expect("zones 0")
    terminal.send("q")
    assert terminal.wait() == 0


# metrics

LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)$')


def parse(text):
    """Prometheus' text format 0.0.4, strictly: metric → {labels: value}."""
    assert text.endswith("\n")
    types, helps, samples, current = {}, set(), {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in helps, f"{current} in two places"
            helps.add(current)
            assert len(line.split(" ", 3)[3]) > 5
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and name not in types and kind in ("gauge", "counter")
            types[name] = kind
        else:
            match = LINE.match(line)
            assert match, line
            name, labels, value = match.groups()
            assert name == current and name in types, f"{name} outside of its family"
            assert (types[name] == "counter") == name.endswith("_total"), name
            number = float(value)
            family = samples.setdefault(name, {})
            assert labels not in family, f"{line} twice"
            family[labels] = number
    return samples


def test_metrics(zone_host):
    running = zone_host.start(options=["--memory", "64M"])
    stopped = zone_host.name("stopped")
    zone_host.defer(zone_host.remove, stopped)
    zone_host.run("run", "--name", stopped, zone_host.image, "sh", "-c", "exit 3")
    samples = parse(zone_host.run("metrics").ok().stdout)
    assert samples["zonectl_zones"] == {None: 2}
    assert samples["zonectl_zone_info"][f'name="{running}",type="container",image="busybox:latest"'] == 1
    assert samples["zonectl_zone_state"][f'name="{running}",state="running"'] == 1
    assert samples["zonectl_zone_state"][f'name="{running}",state="stopped"'] == 0
    assert samples["zonectl_zone_memory_limit_bytes"] == {f'name="{running}"': 64 << 20}
    assert 0 < samples["zonectl_zone_cpu_seconds_total"][f'name="{running}"'] < 60
    assert samples["zonectl_zone_exit_code"] == {f'name="{stopped}"': 3}
    assert samples["zonectl_zone_pids"] == {f'name="{running}"': 1}


def test_metrics_into_a_file(zone_host):
    path = zone_host.path("zones.prom", "old\n")
    before = os.stat(path).st_ino
    zone_host.run("metrics", "--output", path).ok(stdout="")
    with open(path) as file:
        assert parse(file.read())["zonectl_zones"] == {None: 0}
    assert os.stat(path).st_ino != before
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert [name for name in os.listdir(zone_host.folder) if "zones.prom" in name] == ["zones.prom"]
    zone_host.run("metrics", "--output", "/nonexistent/x").fails(125, "/nonexistent")


# events


def kinds(zone_host, *options):
    lines = zone_host.run("events", "--no-follow", "--json", *options).ok().stdout.splitlines()
    return [(event["zone"], event["event"]) for event in map(json.loads, lines)]


def test_events_of_the_past(zone_host, schema):
    name = zone_host.start()
    zone_host.run("exec", name, "true").ok()
    zone_host.run("kill", "-s", "KILL", name).ok()
    zone_host.finish(name)
    zone_host.run("rm", name).ok()
    assert kinds(zone_host, name) == [(name, kind) for kind in ("start", "exec", "kill", "die", "remove")]
    assert kinds(zone_host, "-f", "event=die", "--filter", f"zone={name}") == [(name, "die")]
    assert kinds(zone_host, "nosuch") == []
    assert kinds(zone_host, "--until", "1m") == []
    assert len(kinds(zone_host, "--since", "1m")) == 5
    for line in zone_host.run("events", "--no-follow", "--json").ok().lines:
        schema("events", json.loads(line))
    text = zone_host.run("events", "--no-follow", "-f", "event=die").ok().stdout
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT[\d:.]+Z container die {name} \(exitCode=137\)\n", text)
    zone_host.run("events", "-f", "event=x").fails(125, "no such event", "die")
    zone_host.run("events", "-f", "x").fails(125, "--filter")
    assert zone_host.run("ls", "-q").ok().stdout == ""


def test_events_that_come(zone_host):
    old = zone_host.start("old")
    process = zone_host.popen("events", "--json")
    # It watches as soon as it sleeps.
    until(lambda: "poll" in open(f"/proc/{process.pid}/wchan").read())
    name = zone_host.start("new")
    event = json.loads(process.stdout.readline())
    assert (event["zone"], event["event"], event["attributes"]["image"]) == (name, "start", "busybox:latest")
    zone_host.run("stop", "-t", "0", name).ok()
    assert [json.loads(process.stdout.readline())["event"] for _ in range(2)] == ["stop", "die"]
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert old in zone_host.listed()


def test_events_until(zone_host):
    started = time.monotonic()
    zone_host.run("events", "--until", str(time.time() + 0.5)).ok(stdout="")
    assert time.monotonic() - started < 5


def test_events_do_not_fail_verbs(zone_host):
    os.makedirs(os.path.join(zone_host.root, ".events"))
    zone_host.zone("true").ok()
    os.rmdir(os.path.join(zone_host.root, ".events"))


# Schemas


def test_all_json_is_as_its_schema_says(zone_host, schema):
    name = zone_host.start(options=["--memory", "64M", "-e", "A=B", "-l", "a=b", "--log-opt", "max-file=2"])
    stopped = zone_host.name("stopped")
    zone_host.defer(zone_host.remove, stopped)
    zone_host.run("run", "--name", stopped, zone_host.image, "false")
    schema("ls", zone_host.run("ls", "--json").ok().json)
    schema("ls", zone_host.run("ps", "--json").ok().json)
    zones = zone_host.run("inspect", name, stopped).ok().json
    schema("inspect", zones)
    schema("definition", zones[0]["definition"])
    schema("image ls", zone_host.run("image", "ls", "--json").ok().json)
    with open(os.path.join(zone_host.store, "zones", name, "log"), "w") as out:
        out.write("2026-11-21T10:00:00Z stdout P x\nnonsense\n")
    for line in zone_host.run("logs", "--json", name).ok().lines:
        schema("logs", json.loads(line))


def test_schemas_are_listed(zone_host):
    names = zone_host.run("schema").ok().lines
    assert {"ls", "inspect", "stats", "events", "logs"} <= set(names)
    for name in names:
        text = zone_host.run("schema", *name.split()).ok().json
        assert text["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    zone_host.run("schema", "nosuch").fails(125, "no schema", "inspect")
