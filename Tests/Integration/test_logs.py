# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""logs: files as a zone's keeper leaves them, read by all the options, followed through rotation."""

import os
import signal
import time

import pytest
from leaks import until

HEAD = "2026-11-21T10:00:{:02d}.000000001Z"


@pytest.fixture
def zone(zone_host):
    """A zone that has ended."""
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "--name", name, zone_host.image, "true").ok()
    return name


def log(zone_host, name, *lines, file="log"):
    """Appends to a log's file as the keeper does."""
    with open(os.path.join(zone_host.store, "zones", name, file), "a") as out:
        out.write("".join(line + "\n" for line in lines))


def line(second, text, stream="stdout", tag="F"):
    return f"{HEAD.format(second)} {stream} {tag} {text}"


def test_a_zone_in_the_foreground_has_none(zone_host, zone):
    zone_host.run("logs", zone).fails(125, "no log", "run -d")
    zone_host.run("logs", "nosuch").fails(125, "no zone")
    zone_host.run("logs").fails(125, "name of one zone")


def test_streams_are_kept_apart(zone_host, zone):
    log(zone_host, zone, line(1, "out"), line(2, "err", "stderr"), line(3, "a ", tag="P"), line(4, "b"))
    result = zone_host.run("logs", zone)
    assert (result.status, result.stdout, result.stderr) == (0, "out\na b\n", "err\n")


def test_times(zone_host, zone):
    log(zone_host, zone, line(1, "a", tag="P"), line(2, "b"), line(3, "c"))
    assert zone_host.run("logs", "-t", zone).ok().stdout == f"{HEAD.format(1)} ab\n{HEAD.format(3)} c\n"


@pytest.mark.parametrize(
    "options, wanted",
    [
        (["--tail", "1"], "8"),
        (["-n", "2"], "78"),
        (["-n0"], ""),
        (["-n", "all"], "012345678"),
        (["-n", "-1"], "012345678"),
        (["-n", "100"], "012345678"),
        (["--since", "2026-11-21T10:00:07Z"], "78"),
        (["--until", "2026-11-21T10:00:01Z"], "0"),
        (["--since", "2026-11-21T11:00:03+01:00", "--until", "1795255205"], "34"),
        (["--since", "2026-11-21T10:00:03Z", "-n", "2"], "78"),
    ],
)
def test_some_lines(zone_host, zone, options, wanted):
    log(zone_host, zone, *[line(i, i) for i in range(3)], file="log.2")
    log(zone_host, zone, *[line(i, i) for i in range(3, 6)], file="log.1")
    log(zone_host, zone, *[line(i, i) for i in range(6, 9)])
    assert zone_host.run("logs", *options, zone).ok().stdout == "".join(c + "\n" for c in wanted)


def test_a_clock_that_was_set_back(zone_host, zone):
    """Lines stay in the file's order, and each is judged by its own time."""
    log(zone_host, zone, line(30, "late"), line(1, "early"), line(31, "later"))
    assert zone_host.run("logs", zone).ok().stdout == "late\nearly\nlater\n"
    assert zone_host.run("logs", "--since", "2026-11-21T10:00:20Z", zone).ok().stdout == "late\nlater\n"


def test_damage_is_shown(zone_host, zone):
    path = os.path.join(zone_host.store, "zones", zone, "log")
    with open(path, "wb") as out:
        out.write(b"\0\0\0\n" + line(1, "fine").encode() + b"\nnonsense\n2026-99-01T00:00:00Z stdout F x\nhalf a li")
    shown = zone_host.run("logs", zone).ok()
    shown.check(shown.stdout == "\0\0\0\nfine\nnonsense\n2026-99-01T00:00:00Z stdout F x\nhalf a li\n", "not all of it")
    # A line without a time belongs to the one before it.
    assert zone_host.run("logs", "--since", "2026-11-21T00:00:00Z", zone).ok().lines[0] == "fine"


@pytest.mark.parametrize("text", ["", "x", "10y", "2026-13-01", "-5m"])
def test_no_time(zone_host, zone, text):
    log(zone_host, zone, line(1, "a"))
    zone_host.run("logs", f"--since={text}", zone).fails(125, "--since", "no point in time", "10m")


def test_large_logs_are_read_from_the_end(zone_host, zone):
    lines = [line(i % 60, "x" * 80 + str(i)) for i in range(200_000)]
    log(zone_host, zone, *lines)
    started = time.monotonic()
    assert zone_host.run("logs", "-n", "2", zone).ok().lines == ["x" * 80 + "199998", "x" * 80 + "199999"]
    taken = time.monotonic() - started
    assert taken < 1, f"took {taken:.2f} s"


def test_follow_through_rotation(zone_host):
    name = zone_host.start()
    log(zone_host, name, line(1, "old"), line(2, "first"))
    process = zone_host.popen("logs", "-f", "-n", "1", name)
    assert process.stdout.readline() == b"first\n"
    folder = os.path.join(zone_host.store, "zones", name)
    wanted = []
    for number in range(30):
        log(zone_host, name, line(3, f"a{number}"), line(3, f"b{number}", "stderr"))
        wanted.append(f"a{number}\n")
        if number % 10 == 5:
            if os.path.exists(f"{folder}/log.1"):
                os.replace(f"{folder}/log.1", f"{folder}/log.2")
            os.replace(f"{folder}/log", f"{folder}/log.1")
        time.sleep(0.01)
    # The zone's end is the log's end.
    zone_host.run("kill", name).ok()
    out, err = process.communicate(timeout=20)
    assert out.decode() == "".join(wanted)
    assert len(err.decode().splitlines()) == 30
    assert process.returncode == 0


def test_follow_ends_with_a_removed_zone(zone_host):
    name = zone_host.start()
    log(zone_host, name, line(1, "first"))
    process = zone_host.popen("logs", "-f", name)
    assert process.stdout.readline() == b"first\n"
    assert process.poll() is None
    zone_host.run("rm", "-f", name).ok()
    assert process.wait(timeout=20) == 0


def test_follow_is_interrupted(zone_host):
    name = zone_host.start()
    log(zone_host, name, line(1, "first"))
    process = zone_host.popen("logs", "-f", name)
    assert process.stdout.readline() == b"first\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) == 130


def test_follow_until(zone_host):
    name = zone_host.start()
    log(zone_host, name, line(1, "first"))
    result = zone_host.run("logs", "-f", "--until", str(time.time() + 0.5), name).ok()
    assert result.stdout == "first\n"


def test_json(zone_host, zone):
    log(zone_host, zone, line(1, 'a"b', tag="P"), line(2, "é", "stderr"), "nonsense")
    lines = zone_host.run("logs", "--json", zone).ok().stdout.splitlines()
    assert lines == [
        f'{{"time":"{HEAD.format(1)}","stream":"stdout","message":"a\\"b","partial":true}}',
        f'{{"time":"{HEAD.format(2)}","stream":"stderr","message":"é"}}',
        '{"stream":"stdout","message":"nonsense"}',
    ]


def test_a_reader_that_goes_away(zone_host, zone):
    log(zone_host, zone, *[line(1, "x" * 100) for _ in range(10_000)])
    process = zone_host.popen("logs", zone)
    process.stdout.readline()
    process.stdout.close()
    assert until(lambda: process.poll() is not None)
    assert (process.returncode, process.stderr.read()) == (141, b"")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--log-driver", "syslog"], ["--log-driver", "syslog", "file and none"]),
        (["--log-opt", "max-size=x"], ["max-size=x", "not a size"]),
        (["--log-opt", "max-file=0"], ["max-file=0", "1 to 1000"]),
        (["--log-opt", "mode=non-blocking"], ["mode=non-blocking", "not known"]),
    ],
)
def test_options_of_run(zone_host, options, words):
    zone_host.run("run", *options, zone_host.image, "true").fails(125, *words)


def test_the_definition_keeps_them(zone_host):
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    options = ["--log-driver", "json-file", "--log-opt", "max-size=2m", "--log-opt", "max-file=5"]
    zone_host.run("run", "--name", name, *options, zone_host.image, "true").ok()
    assert zone_host.inspect(name)["definition"]["log"] == {"driver": "file", "maximumSize": 2 << 20, "files": 5}
