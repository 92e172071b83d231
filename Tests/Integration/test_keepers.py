# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a soak has found once of keepers: the moments that it needed are made here on purpose."""

import json
import os
import signal
import subprocess
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


def test_start_of_a_zone_that_ends_under_its_eyes_starts_it_again(zone_host, strace):
    """Between the look that sees it run without a keeper and the new keeper's hold on it."""
    name = zone_host.detached("gone")
    keeper, first = zone_host.keeper(name), zone_host.pid(name)
    os.kill(keeper, signal.SIGKILL)
    assert until(lambda: not alive(keeper))
    inject = ["-e", "trace=pidfd_open", "-e", "inject=pidfd_open:error=ESRCH:when=1"]
    # It stays with the keeper: told to end, it lets go of it.
    tracer = zone_host.popen("start", name, wrap=[strace, "-f", "-I1", "-qq", "-o", "/dev/null", *inject])
    try:
        assert until(lambda: zone_host.keeper(name) and zone_host.pid(name) not in (None, first), 20), "is not started"
    finally:
        tracer.terminate()
        tracer.wait(10)
    assert not alive(first), "what ran before is still there"
    assert until(lambda: zone_host.status(name) == "running")


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


def test_a_name_that_is_free_again_is_not_the_renamed_zones(zone_host):
    """The groups of a zone whose keeper was killed have the old name still, which is another zone's soon."""
    old, new = zone_host.detached("old"), zone_host.name("new")
    zone_host.defer(zone_host.remove, new)
    for pid in (zone_host.keeper(old), zone_host.pid(old)):
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: not alive(pid))
    assert record(zone_host, old)["cgroups"]
    zone_host.run("rename", old, new).ok()
    zone_host.run("run", "-d", "--name", old, "busybox", "sleep", "1000").ok()
    pid = zone_host.pid(old)
    zone_host.run("rm", "-f", new).ok()
    assert zone_host.pid(old) == pid and alive(pid)


def test_a_rename_that_was_killed_half_way_leaves_nothing_for_ever(zone_host):
    name, new = zone_host.detached("half"), zone_host.name("whole")
    zone_host.defer(zone_host.remove, new)
    zone_host.run("stop", "-t", "0", name).ok()
    os.rename(f"{zone_host.store}/zones/{name}", f"{zone_host.store}/zones/{new}")
    assert {name, new} <= set(zone_host.run("ls", "-q").ok().lines)
    zone_host.run("rm", name).ok()
    assert not os.path.exists(f"{zone_host.root}/{name}") and zone_host.status(name) is None
    zone_host.run("start", new).ok()


def test_what_a_killed_removal_left_does_not_keep_the_old_name(zone_host):
    name, new = zone_host.detached("old"), zone_host.name("new")
    zone_host.defer(zone_host.remove, new)
    zone_host.run("stop", "-t", "0", name).ok()
    os.remove(f"{zone_host.root}/{name}/state.json")
    zone_host.run("rename", name, new).ok()
    assert zone_host.run("ls", "-q").ok().lines == [new]
    zone_host.run("start", new).ok()


def test_two_stores_with_one_root(zone_host, busybox_layout):
    """Their control groups would be the same: a name is one store's."""
    other = zone_host.directory("other-store")

    def run_there(*words):
        return zone_host.execute((zone_host.executable, "--root", zone_host.root, "--store", other, *words))

    run_there("image", "import", "--name", "busybox", str(busybox_layout)).exits(0)
    both = zone_host.name("both")
    zone_host.defer(zone_host.remove, both)
    zone_host.run("create", "--name", both, "busybox", "sleep", "1000").ok()
    zone_host.defer(lambda: run_there("rm", "-f", both).exits(0))
    run_there("run", "-d", "--name", both, "busybox", "sleep", "1000").ok()
    pid = record(zone_host, both)["process"]["pid"]
    assert zone_host.status(both) == "stopped"
    zone_host.run("exec", both, "true").fails(125, "is not running")
    zone_host.run("start", both).fails(125, "taken by a zone of the store")
    zone_host.run("rm", "-f", both).ok()
    assert alive(pid) and record(zone_host, both)["process"]["pid"] == pid
    zone_host.run("create", "--name", both, "busybox", "true").fails(125, "taken")


def test_a_paused_zone_is_not_unhealthy(zone_host):
    name = zone_host.detached(
        options=["--restart", "always", "--health-cmd", "true", "--health-interval", "50ms", "--health-timeout", "200ms",
                 "--health-retries", "1"])
    pid = zone_host.pid(name)
    assert until(lambda: zone_host.inspect(name)["health"]["status"] == "healthy")
    zone_host.run("pause", name).ok()
    time.sleep(1)
    assert zone_host.status(name) == "paused"
    assert zone_host.inspect(name)["health"]["status"] == "healthy"
    zone_host.run("resume", name).ok()
    assert zone_host.pid(name) == pid


def test_a_policy_that_was_set_later_counts_for_health(zone_host):
    name = zone_host.detached(
        command=["sh", "-c", "rm -f /sick; trap 'exit 0' TERM; while :; do usleep 20000; done"],
        options=["--health-cmd", "test ! -e /sick", "--health-interval", "50ms", "--health-retries", "1"])
    zone_host.run("set", "--restart", "always", name).ok()
    pid = zone_host.pid(name)
    zone_host.run("exec", name, "touch", "/sick").ok()
    assert until(lambda: zone_host.pid(name) not in (0, pid)), "it was not started again"


def test_a_check_that_hangs_leaves_no_processes(zone_host):
    name = zone_host.detached(
        options=["--health-cmd", "exec sleep 12345", "--health-interval", "50ms", "--health-timeout", "50ms"])
    assert until(lambda: zone_host.inspect(name)["health"]["failingStreak"] >= 5)
    # Nor what nobody has reaped: the first process here is none that does.
    left = [line for line in zone_host.run("exec", name, "ps").ok().lines if "[sleep]" in line or "sleep 12345" in line]
    assert len(left) <= 1, f"checks are left: {left}"


def test_who_attaches_late_to_read_gets_the_end(zone_host):
    """More than the socket holds, and nobody reads for a while: the last words and the status wait."""
    name = zone_host.detached(
        command=["sh", "-c", "until [ -e /go ]; do usleep 10000; done; i=0; while [ $i -lt 4000 ]; do"
                 " echo $i-----------------------------------------------------------------; i=$((i+1)); done; exit 7"])
    attached = subprocess.Popen(
        zone_host.command("attach", "--no-stdin", name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(0.3)
    zone_host.run("exec", name, "touch", "/go").ok()
    time.sleep(1.5)
    output, _ = attached.communicate(timeout=30)
    assert attached.returncode == 7, output[-300:]
    assert output.rstrip().splitlines()[-1].startswith("3999-")


def test_many_zones_are_listed_as_they_are(zone_host):
    """From a hundred on `ls` looks at the keepers' locks instead of the processes."""
    names = [zone_host.name(f"n{number}") for number in range(100)]
    zone_host.defer(lambda: zone_host.run("rm", "-f", *names).ok())
    for name in names:
        zone_host.run("create", "--name", name, "busybox", "true").ok()
    running, paused, orphan, gone = (zone_host.detached(suffix) for suffix in ("running", "paused", "orphan", "gone"))
    zone_host.run("pause", paused).ok()
    for pid in (zone_host.keeper(orphan), zone_host.keeper(gone), zone_host.pid(gone)):
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: not alive(pid))
    listed = {zone["name"]: zone["status"] for zone in json.loads(zone_host.run("ls", "--json").ok().stdout)}
    assert [listed[name] for name in (running, paused, orphan, gone)] == ["running", "paused", "running", "stopped"]
    assert all(listed[name] == "stopped" for name in names)


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
