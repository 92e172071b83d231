# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""create, start, state, kill, delete, run: the life of a container, and each verb in each state."""

import os
import signal
import subprocess
import time

import pytest
from bundle import UNSET, namespaces
from engine import needs
from leaks import alive, read, until

WITHOUT_PID = namespaces("network", "ipc", "uts", "mount")

# The life


def test_create_waits_for_start(oci):
    name = oci.created("echo ran; sleep 1000")
    assert oci.status(name) == "created"
    time.sleep(0.1)
    assert oci.output(name) == ""
    oci.run("start", name).exits(0)
    oci.said(name, "ran")
    assert oci.status(name) == "running"


def test_whole_life(oci):
    name = oci.created()
    pid = oci.pid(name)
    assert alive(pid)
    oci.run("start", name).ok("")
    assert oci.pid(name) == pid
    oci.run("kill", name, "KILL").ok("")
    oci.wait_for(name, "stopped")
    assert oci.exists(name)
    oci.run("delete", name).ok("")
    assert not oci.exists(name)
    assert not alive(pid)


def test_state_has_the_specified_fields(oci):
    name = oci.started(settings={"annotations": {"org.example.key": "value", "empty": ""}})
    state = oci.state(name)
    assert state["ociVersion"].count(".") >= 2
    assert state["id"] == name
    assert state["status"] == "running"
    assert alive(state["pid"])
    assert state["bundle"] == oci.path(f"bundle-{name}")
    assert state["annotations"] == {"org.example.key": "value", "empty": ""}


def test_state_of_a_created_container(oci):
    state = oci.state(oci.created())
    assert state["status"] == "created"
    assert alive(state["pid"])


def test_state_of_a_stopped_container(oci):
    name = oci.stopped()
    state = oci.state(name)
    assert state["status"] == "stopped"
    assert state.get("pid", 0) == 0
    assert state["bundle"]


def test_bundle_path_is_absolute_in_the_state(oci):
    oci.bundle(("sleep", "1000"), name="relative")
    name = oci.name()
    oci.create("relative", name, cwd=oci.folder).exits(0)
    assert oci.state(name)["bundle"] == oci.path("relative")


@pytest.mark.parametrize("option", ["-b", "--bundle", "-bundle"])
def test_spellings_of_bundle(oci, option):
    if oci.runtime.kind == "crun" and option == "-bundle":
        pytest.skip("crun takes long options with two dashes only")
    bundle = oci.bundle(("sleep", "1000"))
    name = oci.owned(oci.name())
    oci.quietly(name, "create", option, bundle, name).exits(0)
    assert oci.status(name) == "created"


@needs("zonectl", why="options end at the first word; Slurm writes some behind it")
def test_options_may_stand_behind_the_id(oci):
    bundle = oci.bundle(("sleep", "1000"))
    name = oci.owned(oci.name())
    oci.quietly(name, "create", name, "--bundle", bundle).exits(0)
    assert oci.status(name) == "created"


def test_bundle_is_the_working_directory_if_not_given(oci):
    bundle = oci.bundle("echo here")
    name = oci.owned(oci.name())
    if oci.runtime.kind == "zonectl":
        words = (oci.runtime.path, "--root", oci.root, "oci", "run", name)
    else:
        words = oci.command("run", name)
    oci.execute(words, cwd=str(bundle)).ok("here\n")


@pytest.mark.parametrize("status", [0, 1, 42, 126, 127, 255])
def test_run_gives_the_processs_status(oci, status):
    oci.go(f"exit {status}").exits(status)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_run_gives_128_and_the_signal(oci, number):
    # Without a pid namespace, as the first process in one is deaf to what it has no handler for.
    name = oci.owned(oci.name())
    bundle = oci.bundle("echo up; exec sleep 1000", {"linux.namespaces": WITHOUT_PID})
    process = oci.popen("run", "--bundle", bundle, name)
    assert process.stdout.readline() == b"up\n"
    assert until(lambda: read(f"/proc/{oci.pid(name)}/comm") == "sleep\n")
    os.kill(oci.pid(name), number)
    assert process.wait(20) == 128 + number


def test_run_deletes_the_container(oci):
    name = oci.owned(oci.name())
    bundle = oci.bundle()
    oci.run("run", "--bundle", bundle, name).ok("")
    assert not oci.exists(name)
    # The same id again, at once.
    oci.run("run", "--bundle", bundle, name).ok("")


@needs("zonectl", "crun-1.21", why="no --keep")
def test_run_keep_leaves_it_stopped(oci):
    name = oci.owned(oci.name())
    oci.run("run", "--keep", "--bundle", oci.bundle("exit 3"), name).exits(3)
    assert oci.status(name) == "stopped"
    oci.run("delete", name).ok("")


@pytest.mark.parametrize("option", ["-d", "--detach"])
def test_run_detached_returns_at_once(oci, option):
    name = oci.name()
    oci.create(oci.bundle("echo up; sleep 1000"), name, option, verb="run").exits(0)
    assert oci.status(name) == "running"
    oci.said(name, "up")


def test_run_detached_leaves_a_stopped_container(oci):
    name = oci.name()
    oci.create(oci.bundle(), name, "-d", verb="run").exits(0)
    oci.wait_for(name, "stopped")
    oci.run("delete", name).ok("")


@pytest.mark.parametrize("verb", ["create", "run"])
def test_pid_file(oci, verb):
    name = oci.name()
    file = oci.path("pid")
    oci.create(oci.bundle(("sleep", "1000")), name, "--pid-file", file, *(["-d"] if verb == "run" else []), verb=verb)
    with open(file) as stream:
        text = stream.read()
    # Engines parse the whole file as a number.
    assert text == str(oci.pid(name))


def test_pid_file_that_cannot_be_written(oci):
    name = oci.name()
    result = oci.create(None, name, "--pid-file", oci.path("missing/pid"))
    oci.refused(result, "pid", name=name)


def test_streams_are_passed(oci):
    result = oci.go('read line; echo "got $line"; echo bad >&2', stdin="hello\n").exits(0)
    assert result.stdout == "got hello\n"
    assert "bad\n" in result.stderr


@pytest.mark.parametrize("verb", ["create", "start"])
def test_process_is_not_the_runtimes_child_for_ever(oci, verb):
    name = oci.created() if verb == "create" else oci.started()
    with open(f"/proc/{oci.pid(name)}/status") as file:
        parent = next(line for line in file if line.startswith("PPid:")).split()[1]
    with open(f"/proc/{parent}/cmdline") as file:
        assert oci.root not in file.read(), "a runtime process stays with a detached container"


def test_foreground_run_forwards_signals(oci):
    name = oci.owned(oci.name())
    bundle = oci.bundle("trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.05; done")
    process = oci.popen("run", "--bundle", bundle, name)
    assert process.stdout.readline() == b"up\n"
    # The wrapper of one runtime replaces itself, so the pid is the runtime's.
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (7, b"term\n"), err


# Each verb in each state

WRONG = [
    ("start", "running"),
    ("start", "stopped"),
    ("start", "paused"),
    ("kill", "stopped"),
    ("delete", "running"),
    ("delete", "paused"),
    ("exec", "stopped"),
    ("pause", "stopped"),
    ("pause", "paused"),
    ("resume", "running"),
    ("resume", "stopped"),
]


@pytest.mark.parametrize("verb, status", WRONG)
def test_wrong_state(oci, verb, status):
    if oci.runtime.kind == "crun" and (verb, status) in (("resume", "running"), ("pause", "paused")):
        pytest.skip("crun lets it pass")
    name = in_state(oci, status)
    words = ("exec", name, "true") if verb == "exec" else (verb, name)
    result = oci.run(*words)
    if verb == "exec":
        assert result.status in ((255,) if oci.runtime.kind == "zonectl" else (1, 255))
        result.says(("not running", "stopped", "running"))
    else:
        oci.refused(result, status)
    assert oci.status(name) == status
    if status == "paused":
        oci.run("resume", name).exits(0)


def in_state(oci, status):
    """A container in this state; returns its id."""
    if status == "created":
        return oci.created()
    if status == "stopped":
        return oci.stopped()
    name = oci.started()
    if status == "paused":
        oci.run("pause", name).exits(0)
        oci.defer(oci.run, "resume", name)
    return name


VERBS = ["state", "start", "kill", "delete", "exec", "ps", "pause", "resume", "update", "events"]


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_container(oci, verb):
    name = oci.name("none")
    more = {"exec": ("true",), "kill": ("TERM",), "update": ("--pids-limit", "5")}.get(verb, ())
    first = ("--stats",) if verb == "events" else ()
    result = oci.run(verb, *first, name, *more)
    status = 255 if verb == "exec" and oci.runtime.kind != "crun" else 1
    oci.refused(result, name, ("does not exist", "not found", "no container", "no such"), status=status)


def test_delete_of_a_stopped_container(oci):
    oci.run("delete", oci.stopped()).ok("")


def test_delete_force_of_a_running_container(oci):
    name = oci.started()
    pid = oci.pid(name)
    oci.run("delete", "--force", name).ok("")
    assert not oci.exists(name)
    assert not alive(pid)


def test_delete_force_short(oci):
    name = oci.started()
    oci.run("delete", "-f", name).ok("")
    assert not oci.exists(name)


def test_delete_force_of_a_created_container(oci):
    name = oci.created()
    oci.run("delete", "--force", name).ok("")
    assert not oci.exists(name)


def test_delete_force_of_a_paused_container(oci):
    name = in_state(oci, "paused")
    oci.run("delete", "--force", name).exits(0)
    assert not oci.exists(name)


def test_delete_force_of_none_is_no_error(oci):
    oci.run("delete", "--force", oci.name("none")).exits(0)


def test_delete_takes_all_processes_with_it(oci):
    name = oci.started("sleep 1001 & sleep 1002 & echo up; wait", {"linux.namespaces": WITHOUT_PID})
    oci.said(name, "up")
    oci.run("delete", "--force", name).exits(0)
    # The leak check finds a survivor by its control group or root.


def test_delete_keeps_what_is_not_the_runtimes(oci):
    name = oci.stopped()
    before = sorted(os.listdir(oci.path(f"bundle-{name}")))
    oci.run("delete", name).ok("")
    assert sorted(os.listdir(oci.path(f"bundle-{name}"))) == before == ["config.json", "rootfs"]


def test_config_is_read_at_create_only(oci):
    name = oci.created("echo first; sleep 1000")
    config = os.path.join(oci.path(f"bundle-{name}"), "config.json")
    with open(config) as file:
        text = file.read()
    with open(config, "w") as file:
        file.write(text.replace("first", "second"))
    oci.run("start", name).exits(0)
    assert "second" not in oci.said(name, "first")


def test_state_survives_the_loss_of_the_bundles_config(oci):
    name = oci.started()
    os.unlink(os.path.join(oci.path(f"bundle-{name}"), "config.json"))
    assert oci.status(name) == "running"
    oci.run("delete", "--force", name).exits(0)
    assert not oci.exists(name)


# Signals


@pytest.mark.parametrize("word", ["TERM", "SIGTERM", "15", "term", "sigterm"])
def test_kill_takes_names_and_numbers(oci, word):
    if oci.runtime.kind == "crun" and word in ("term", "sigterm"):
        pytest.skip("crun wants capital letters")
    name = oci.started("trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    oci.said(name, "up")
    oci.run("kill", name, word).ok("")
    oci.said(name, "got")


def test_kill_sends_term_if_nothing_is_said(oci):
    name = oci.started("trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    oci.said(name, "up")
    oci.run("kill", name).ok("")
    oci.said(name, "got")


@pytest.mark.parametrize("word", ["RTMIN+1", "USR1", "10", "SIGHUP", "WINCH"])
def test_kill_with_other_signals(oci, word):
    if oci.runtime.kind == "runc" and word == "RTMIN+1":
        pytest.skip("runc 1.1.5 knows the real-time signals by number only")
    number = {"RTMIN+1": signal.SIGRTMIN + 1, "SIGHUP": 1, "WINCH": 28}.get(word, 10)
    name = oci.started(f"trap 'echo got' {number}; echo up; while :; do sleep 0.05; done")
    oci.said(name, "up")
    oci.run("kill", name, word).ok("")
    oci.said(name, "got")


@pytest.mark.parametrize("word", ["NOSUCH", "SIG", "0x9", "99999", "-1", "", "9 "])
def test_kill_with_no_signal(oci, word):
    name = oci.started()
    result = oci.run("kill", name, word)
    oci.strict(result)
    oci.refused(result, "signal")
    assert oci.status(name) == "running"


@pytest.mark.parametrize("option", ["--all", "-a"])
def test_kill_all(oci, option):
    name = oci.started("sleep 1001 & sleep 1002 & echo up; wait", {"linux.namespaces": WITHOUT_PID})
    oci.said(name, "up")
    oci.run("kill", option, name, "KILL").exits(0)
    oci.wait_for(name, "stopped")
    oci.run("delete", name).exits(0)


def test_kill_of_a_created_container(oci):
    name = oci.created()
    oci.run("kill", name, "KILL").ok("")
    oci.wait_for(name, "stopped")
    oci.run("delete", name).ok("")


@needs("zonectl", "runc", why="kill of a paused container is left to the freezer")
def test_kill_of_a_paused_container_ends_it(oci):
    name = oci.started()
    oci.run("pause", name).exits(0)
    oci.run("kill", name, "KILL").exits(0)
    if oci.runtime.kind == "runc":
        oci.run("resume", name)
    oci.wait_for(name, "stopped")


# Names and bundles


def test_id_is_taken_once(oci):
    name = oci.created()
    pid = oci.pid(name)
    other = oci.bundle(name="other")
    result = oci.quietly("second", "create", "--bundle", other, name)
    oci.refused(result, name, ("exists", "in use"))
    assert (oci.status(name), oci.pid(name)) == ("created", pid)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", "a\nb", "ä", "-", "a" * 5000, "a\\b", "/"])
def test_bad_id(oci, name):
    bundle = oci.bundle()
    result = oci.quietly("bad", "create", "--bundle", bundle, name)
    if result.status == 0 and name:
        oci.defer(oci.run, "delete", "--force", name)
    oci.strict(result)
    oci.refused(result)


@pytest.mark.parametrize("suffix", ["a.b", "a_b", "a+b", "A9", "0", "x" * 200])
def test_good_id(oci, suffix):
    name = oci.name(suffix)
    oci.create(oci.bundle(("sleep", "1000")), name).exits(0)
    assert oci.state(name)["id"] == name


def test_missing_id(oci):
    result = oci.quietly("none", "create", "--bundle", oci.bundle())
    oci.refused(result)


def test_missing_bundle(oci):
    name = oci.name()
    oci.refused(oci.create(oci.path("nowhere"), name), "nowhere", name=name)


def test_bundle_without_config(oci):
    name = oci.name()
    oci.refused(oci.create(oci.directory("empty"), name), "config.json", name=name)


def test_bundle_that_is_a_file(oci):
    name = oci.name()
    oci.refused(oci.create(oci.path("file", "text"), name), "file", name=name)


def test_config_that_is_a_folder(oci):
    name = oci.name()
    oci.directory("odd/config.json")
    oci.refused(oci.create(oci.path("odd"), name), "config.json", name=name)


@needs("zonectl", why="it waits for a writer for ever")
def test_config_that_is_a_fifo_does_not_hang(oci):
    os.mkfifo(os.path.join(oci.directory("odd"), "config.json"))
    name = oci.name()
    oci.refused(oci.create(oci.path("odd"), name, timeout=10), "config.json", name=name)


def test_missing_rootfs(oci):
    name = oci.name()
    bundle = oci.bundle(settings={"root.path": "nowhere"})
    oci.refused(oci.create(bundle, name), "nowhere", name=name)


def test_absolute_rootfs(oci):
    other = oci.bundle(name="other")
    assert oci.text("echo in", {"root.path": str(other.rootfs)}) == "in"


@needs("zonectl", "crun", why="it wants no link there")
def test_rootfs_by_a_link(oci):
    bundle = oci.bundle("echo in", {"root.path": "link"})
    os.symlink("rootfs", bundle.path / "link")
    assert oci.text(None, bundle=bundle) == "in"


@needs("zonectl", "runc", "crun-1.8.1", why="it says that it has started nothing")
def test_container_without_a_process_cannot_start(oci):
    """config.md: `process` is REQUIRED when start is called, not before."""
    name = oci.name()
    result = oci.create(oci.bundle(settings={"process": UNSET}), name)
    if result.status == 0:
        oci.refused(oci.run("start", name), "process")
    else:
        oci.refused(result, "process", name=name)


def test_two_containers_of_one_bundle(oci):
    bundle = oci.bundle(("sleep", "1000"))
    first, second = oci.name("one"), oci.name("two")
    oci.create(bundle, first).exits(0)
    oci.create(bundle, second).exits(0)
    assert oci.pid(first) != oci.pid(second)


def test_many_at_once(oci):
    bundle = oci.bundle(("sleep", "1000"))
    names = [oci.owned(oci.name(f"n{number}")) for number in range(8)]
    with open(os.devnull, "w") as sink:
        running = [
            subprocess.Popen(
                oci.command("run", "-d", "--bundle", bundle, name), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
            for name in names
        ]
        assert [process.wait(30) for process in running] == [0] * len(names)
    assert {oci.status(name) for name in names} == {"running"}


def test_same_id_at_once_gives_one_container(oci):
    bundle = oci.bundle(("sleep", "1000"))
    name = oci.owned(oci.name())
    with open(os.devnull, "w") as sink:
        running = [
            subprocess.Popen(
                oci.command("create", "--bundle", bundle, name), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
            for _ in range(4)
        ]
        assert sorted(process.wait(30) for process in running).count(0) == 1
    assert oci.status(name) == "created"


@needs("zonectl", "runc", "crun", why="every runtime can")
def test_others_may_change_what_runs_in_the_foreground(oci):
    bundle = oci.bundle(("sleep", "1000"))
    name = oci.owned(oci.name())
    process = subprocess.Popen(oci.command("run", "--bundle", bundle, name), stdin=subprocess.DEVNULL)
    try:
        oci.wait_for(name, "running")
        oci.run("pause", name, timeout=10).exits(0)
        assert oci.status(name) == "paused"
        oci.run("resume", name, timeout=10).exits(0)
        oci.run("update", "--pids-limit", "50", name, timeout=10).exits(0)
        oci.run("kill", name, "KILL").exits(0)
        assert process.wait(timeout=10) == 128 + signal.SIGKILL
    finally:
        process.kill()
        process.wait()
