# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a soak has found once of keepers: the moments that it needed are made here on purpose."""

import json
import os
import signal
import time

from leaks import alive, until


def record(host, name):
    with open(f"{host.root}/{name}/state.json") as file:
        return json.load(file)


def test_a_second_keeper_knows_how_the_zone_ended(zone_host):
    """Its zone is not its child, and the parent may be slow to reap."""
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    script = "trap 'exit 5' TERM; while :; do sleep 0.1; done"
    zone_host.run("run", "-d", "--name", name, "busybox", "sh", "-c", script).ok()
    keeper = record(zone_host, name)["keeper"]["pid"]
    os.kill(keeper, signal.SIGKILL)
    assert until(lambda: not alive(keeper))
    zone_host.run("start", name).ok()
    zone_host.run("stop", name).ok()
    assert until(lambda: record(zone_host, name).get("exitCode") is not None, 5)
    assert record(zone_host, name)["exitCode"] == 5


def test_start_of_a_running_zone_takes_back_that_it_is_to_stay_stopped(zone_host):
    """A `kill` that came too late leaves its note; the next end must be followed by a start again."""
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "-d", "--name", name, "--restart", "always", "busybox", "sleep", "1000").ok()
    mark = f"{zone_host.store}/zones/{name}/stopped"
    with open(mark, "w"):
        pass
    zone_host.run("start", name).ok()
    assert not os.path.exists(mark)
    first = record(zone_host, name)["process"]["pid"]
    os.kill(first, signal.SIGKILL)
    assert until(lambda: record(zone_host, name)["process"]["pid"] not in (0, first)), "it was not started again"


def test_stop_of_a_zone_that_is_just_started_again_waits_and_stops_it(zone_host):
    """A zone that ends at once is `creating` again and again for a moment each; `stop` must never refuse."""
    for number in range(8):
        name = zone_host.name(f"again{number}")
        zone_host.defer(zone_host.remove, name)
        zone_host.run("run", "-d", "--name", name, "--restart", "always", "busybox", "true").ok()
        until(lambda: record(zone_host, name)["phase"] == "creating", 3, 0)
        zone_host.run("stop", name).ok()
        assert zone_host.status(name) == "stopped"


def test_restart_of_a_paused_zone_starts_it(zone_host):
    """Though its keeper is slow to record the end."""
    name = zone_host.name()
    zone_host.defer(zone_host.remove, name)
    zone_host.run("run", "-d", "--name", name, "busybox", "sleep", "1000").ok()
    zone_host.run("pause", name).ok()
    first = record(zone_host, name)
    os.kill(first["keeper"]["pid"], signal.SIGSTOP)
    try:
        restart = zone_host.popen("restart", "-t", "0", name)
        assert until(lambda: not alive(first["process"]["pid"]))
        time.sleep(0.3)
    finally:
        os.kill(first["keeper"]["pid"], signal.SIGCONT)
    _, errors = restart.communicate(timeout=20)
    assert restart.returncode == 0, errors
    assert zone_host.status(name) == "running"
    assert record(zone_host, name)["process"]["pid"] != first["process"]["pid"]
