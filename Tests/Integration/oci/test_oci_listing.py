# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""list, ps, spec, features, --version, --log: what a runtime tells of itself and its containers."""

import json
import os
import re
import subprocess

import pytest
from engine import needs
from leaks import until

# list


def test_list_of_nothing(oci):
    oci.run("list", "-q").ok("")
    assert not oci.run("list", "-f", "json").ok().json


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_list_quiet(oci, option):
    names = {oci.created(name=oci.name("one")), oci.started(name=oci.name("two"))}
    assert set(oci.run("list", option).ok().lines) == names


@pytest.mark.parametrize("options", [("-f", "json"), ("--format", "json"), ("--format=json",)])
def test_list_json(oci, options):
    name = oci.started(settings={"annotations": {"key": "value"}})
    (entry,) = oci.run("list", *options).ok().json
    assert entry["id"] == name
    assert entry["status"] == "running"
    assert entry["pid"] == oci.pid(name)
    assert entry["bundle"] == oci.path(f"bundle-{name}")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", entry["created"])
    assert entry["owner"] in ("root", "0")
    if oci.runtime.kind != "crun":
        assert entry["rootfs"] == oci.path(f"bundle-{name}/rootfs")
        assert entry["annotations"] == {"key": "value"}


def test_list_table(oci):
    name = oci.started()
    head, line = oci.run("list").ok().lines
    assert head.split()[:4] == ["ID", "PID", "STATUS", "BUNDLE"] or head.split()[0] in ("NAME", "ID")
    assert line.split()[0] == name
    assert "running" in line
    assert str(oci.pid(name)) in line.split()


def test_list_format_table(oci):
    name = oci.started()
    assert name in oci.run("list", "--format", "table").ok().stdout


def test_list_of_unknown_format(oci):
    result = oci.run("list", "--format", "xml")
    oci.strict(result)
    oci.refused(result, "xml")


@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped"])
def test_list_status(oci, status):
    if status == "paused":
        name = oci.started()
        oci.run("pause", name).exits(0)
        oci.defer(oci.run, "resume", name)
    else:
        name = {"created": oci.created, "running": oci.started, "stopped": oci.stopped}[status]()
    (entry,) = oci.run("list", "-f", "json").exits(0).json
    assert (entry["id"], entry["status"]) == (name, status)


# ps


def _two(oci):
    name = oci.started("sleep 4321 & echo up; wait")
    oci.said(name, "up")
    return name


def test_ps_table(oci):
    name = _two(oci)
    head, *lines = oci.run("ps", name).exits(0).lines
    assert "PID" in head
    if oci.runtime.kind != "crun":
        assert any("sleep 4321" in line for line in lines)
    assert any(str(oci.pid(name)) in line.split() for line in lines)


@pytest.mark.parametrize("options", [("--format", "json"), ("-f", "json"), ("--format=json",)])
def test_ps_json(oci, options):
    name = _two(oci)
    # The verb's options stand before the id, those of ps(1) behind it.
    pids = oci.run("ps", *options, name).ok().json
    assert oci.pid(name) in pids
    assert len(pids) == 2 and all(isinstance(pid, int) for pid in pids)


@needs("zonectl", "runc", why="ps takes no options")
@pytest.mark.parametrize("options, head", [(("-o", "pid,comm"), ["PID", "COMMAND"]), (("-ef",), ["UID", "PID"])])
def test_ps_with_options_of_ps(oci, options, head):
    name = _two(oci)
    first, *lines = oci.run("ps", name, *options).exits(0).lines
    assert first.split()[: len(head)] == head
    assert len(lines) == 2


@needs("zonectl", "runc", why="ps takes no options")
def test_ps_without_pid_column_is_refused(oci):
    name = oci.started()
    oci.refused(oci.run("ps", name, "-o", "comm"), "pid")


def test_ps_of_a_stopped_container(oci):
    name = oci.stopped()
    result = oci.run("ps", "--format", "json", name)
    if result.status == 0:
        assert result.stdout.strip() in ("[]", "null")


# spec


def test_spec_is_valid_and_runs(oci):
    bundle = oci.bundle()
    os.unlink(bundle.path / "config.json")
    oci.run("spec", "--bundle", bundle).ok("")
    config = json.loads((bundle.path / "config.json").read_text())
    assert re.match(r"1\.\d+\.\d+", config["ociVersion"])
    assert config["root"]["path"] == "rootfs"
    assert config["process"]["cwd"] == "/"
    assert {n["type"] for n in config["linux"]["namespaces"]} >= {"pid", "network", "ipc", "uts", "mount"}
    assert {m["destination"] for m in config["mounts"]} >= {"/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"}
    assert "/proc/kcore" in config["linux"]["maskedPaths"]
    assert "/proc/sys" in config["linux"]["readonlyPaths"]
    assert config["process"]["noNewPrivileges"] is True
    config["process"].update(terminal=False, args=["echo", "in"])
    bundle.write(json.dumps(config))
    assert oci.text(None, bundle=bundle) == "in"


def test_spec_in_the_working_directory(oci):
    folder = oci.directory("here")
    oci.run("spec", cwd=folder).ok("")
    assert os.path.exists(os.path.join(folder, "config.json"))


def test_spec_refuses_to_overwrite(oci):
    bundle = oci.bundle()
    before = (bundle.path / "config.json").read_text()
    oci.refused(oci.run("spec", "--bundle", bundle), "config.json", ("exist", "overwrite"))
    assert (bundle.path / "config.json").read_text() == before


def test_spec_in_no_folder(oci):
    oci.refused(oci.run("spec", "--bundle", oci.path("nowhere")), "nowhere")


def test_spec_rootless(oci):
    folder = oci.directory("here")
    oci.run("spec", "--rootless", "--bundle", folder).ok("")
    with open(os.path.join(folder, "config.json")) as file:
        linux = json.load(file)["linux"]
    kinds = {n["type"] for n in linux["namespaces"]}
    assert "user" in kinds
    # An ordinary user could not give a network of its own any link.
    assert "network" not in kinds or oci.runtime.kind == "crun"
    assert linux["uidMappings"] and linux["uidMappings"][0]["containerID"] == 0
    assert "limit" not in json.dumps(linux.get("resources", {}))


# features


@needs("zonectl", "runc", "crun-1.21", why="no such verb")
def test_features(oci):
    told = oci.run("features").ok().json
    assert told["ociVersionMin"].startswith("1.0")
    assert [int(n) for n in told["ociVersionMax"].split("-")[0].split("+")[0].split(".")] >= [1, 0, 2]
    assert set(told["hooks"]) == {
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    }
    assert {"bind", "rbind", "ro", "nosuid", "tmpcopyup", "rro", "rslave"} <= set(told["mountOptions"])
    linux = told["linux"]
    assert {"cgroup", "ipc", "mount", "network", "pid", "user", "uts"} <= set(linux["namespaces"])
    assert {"CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"} <= set(linux["capabilities"])
    assert linux["cgroup"]["v1"] is True and linux["cgroup"]["v2"] is True
    seccomp = linux["seccomp"]
    assert seccomp["enabled"] is True
    assert {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_ACT_KILL_PROCESS"} <= set(seccomp["actions"])
    assert "SCMP_CMP_MASKED_EQ" in seccomp["operators"]
    assert "SCMP_ARCH_X86_64" in seccomp["archs"]


@needs("zonectl", why="it is older than version 1.2")
def test_features_of_version_1_2(oci):
    told = oci.run("features").ok().json
    assert told["ociVersionMax"].startswith("1.2.")
    linux = told["linux"]
    assert "time" in linux["namespaces"]
    assert {"idmap", "ridmap"} <= set(told["mountOptions"])
    assert linux["mountExtensions"]["idmap"]["enabled"] is True
    assert "SECCOMP_FILTER_FLAG_TSYNC" in linux["seccomp"]["knownFlags"]
    assert set(linux["seccomp"]["supportedFlags"]) <= set(linux["seccomp"]["knownFlags"])
    assert linux["intelRdt"]["enabled"] is False
    assert isinstance(told.get("potentiallyUnsafeConfigAnnotations", []), list)


@needs("zonectl", why="what it names and what it takes differ")
def test_every_mount_option_of_features_is_taken(oci):
    told = oci.run("features").ok().json
    # A mount has one propagation, and what binds or remounts is another matter.
    alone = {"bind", "rbind", "remount", "idmap", "ridmap", "mand", "rmand", "unbindable", "runbindable"}
    for number, option in enumerate(sorted(set(told["mountOptions"]) - alone)):
        source = oci.source(f"source{number}", f="text")
        mount = {"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", option]}
        if option in ("tmpcopyup", "acl", "noacl", "iversion", "noiversion", "lazytime", "nolazytime"):
            mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option]}
        oci.go(("true",), mounts=[mount]).exits(0)


# What every verb knows


@pytest.mark.parametrize("option", ["--version", "-v"])
def test_version(oci, option):
    if oci.runtime.kind == "crun" and option == "-v":
        pytest.skip("crun has the long form only")
    path = oci.runtime.path
    if oci.runtime.kind == "zonectl":
        # Without a verb only the name tells the faces apart.
        path = oci.path("zonectl-oci")
        os.symlink(oci.runtime.path, path)
    words = (path, option)
    lines = oci.execute(words).ok().lines
    assert re.fullmatch(r"\S+ version \S+", lines[0])
    assert lines[1].startswith("commit: ")
    spec = next(line for line in lines if line.startswith("spec: "))
    assert re.fullmatch(r"spec: 1\.\d+\.\d+\S*", spec)
    if oci.runtime.kind == "zonectl":
        # go-runc counts them.
        assert len(lines) == 3


@needs("zonectl", why="it goes by one name")
@pytest.mark.parametrize("called", ["runc", "crun"])
def test_version_by_the_name_of_another(oci, called):
    """dockerd wants the first line to begin with the name that it calls."""
    link = oci.path(called)
    os.symlink(oci.runtime.path, link)
    assert oci.execute((link, "--version")).ok().lines[0].startswith(f"{called} version ")


@needs("zonectl", why="it goes by one name")
@pytest.mark.parametrize("called", ["runc", "crun", "zonectl-oci"])
def test_other_names_are_the_engine_face(oci, called):
    link = oci.path(called)
    os.symlink(oci.runtime.path, link)
    bundle = oci.bundle("echo in")
    name = oci.owned(oci.name())
    oci.execute((link, "--root", oci.root, "run", name), cwd=str(bundle)).ok("in\n")


def test_unknown_verb(oci):
    result = oci.run("frobnicate")
    oci.strict(result)
    oci.refused(result, "frobnicate")


@pytest.mark.parametrize("verb", ["create", "run", "exec", "kill", "delete", "list", "ps", "update"])
def test_unknown_option(oci, verb):
    name = oci.started()
    result = oci.run(verb, "--no-such-option", name)
    assert result.status != 0
    result.says("no-such-option")
    assert oci.status(name) == "running"


@pytest.mark.parametrize("verb", ["start", "state", "kill", "delete", "exec", "ps", "pause", "resume", "update"])
def test_missing_id(oci, verb):
    result = oci.run(verb)
    assert result.status != 0 and result.stderr + result.stdout


@pytest.mark.parametrize("option", [("--systemd-cgroup=false",), ("--rootless", "false"), ("--debug",)])
def test_global_options_are_taken(oci, option):
    if oci.runtime.kind == "crun" and "debug" not in option[0]:
        pytest.skip("crun spells it otherwise")
    oci.options = option
    assert oci.go("echo in").exits(0).stdout == "in\n"


# The log


@needs("zonectl", "runc", why="it opens the log only after the bundle")
def test_log_in_json(oci):
    log = oci.path("log")
    oci.options = ("--log", log, "--log-format", "json")
    result = oci.create(oci.path("nowhere"), oci.name())
    assert result.status == 1
    errors = [line for line in oci.logged(log) if line.get("level") == "error"]
    assert len(errors) == 1
    assert errors[0]["msg"] and re.match(r"\d{4}-\d\d-\d\dT", errors[0]["time"])
    if oci.runtime.kind == "zonectl":
        assert "nowhere" in errors[0]["msg"]


def test_log_with_equals_signs(oci):
    log = oci.path("log")
    oci.options = (f"--log={log}", "--log-format=json")
    oci.run("state", oci.name("none")).exits(1)
    assert [line["level"] for line in oci.logged(log)] == ["error"]


def test_log_is_appended_to(oci):
    log = oci.path("log")
    oci.options = ("--log", log, "--log-format", "json")
    oci.run("state", oci.name("none"))
    oci.run("state", oci.name("none"))
    assert len(oci.logged(log)) == 2


def test_log_in_text(oci):
    log = oci.path("log")
    oci.options = ("--log", log, "--log-format", "text")
    oci.run("state", oci.name("none")).exits(1)
    with open(log) as file:
        text = file.read()
    assert text.strip() and not text.startswith("{")
    assert oci.name("none") in text or oci.runtime.kind != "zonectl"


@needs("zonectl", "runc", why="it opens the log only after the bundle")
def test_log_with_quotes_and_lines(oci):
    log = oci.path("log")
    oci.options = ("--log", log, "--log-format", "json")
    oci.create(oci.path('no"where\n\t\\'), oci.name())
    assert any(line["level"] == "error" for line in oci.logged(log))


def test_log_of_unknown_format(oci):
    oci.options = ("--log-format", "xml")
    result = oci.run("list")
    oci.strict(result)
    oci.refused(result, "xml")


def test_log_that_cannot_be_written(oci):
    oci.options = ("--log", oci.path("missing/log"))
    result = oci.run("list")
    oci.strict(result)
    oci.refused(result, "log")


def test_good_run_logs_no_error(oci):
    log = oci.path("log")
    oci.options = ("--log", log, "--log-format", "json")
    oci.go().exits(0)
    assert [line for line in oci.logged(log) if line["level"] == "error"] == []


# Events


@needs("zonectl", "runc", why="no events")
def test_events_stats(oci):
    name = oci.started("while :; do :; done", {"linux.resources.pids": {"limit": 20}})
    until(lambda: int(oci.run("events", "--stats", name).json["data"]["cpu"]["usage"]["total"]) > 0)
    told = oci.run("events", "--stats", name).ok().json
    assert (told["type"], told["id"]) == ("stats", name)
    data = told["data"]
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["usage"]["usage"] > 0
    assert data["pids"] == {"current": 1, "limit": 20}
    assert "throttling" in data["cpu"] and "blkio" in data


@needs("zonectl", why="it goes on for ever")
def test_events_interval(oci):
    name = oci.started()
    process = oci.popen("events", "--interval", "100ms", name)
    told = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [line["type"] for line in told] == ["stats", "stats"]
    oci.run("kill", name, "KILL").exits(0)
    # When the container has ended there is nothing more to tell.
    assert process.wait(10) == 0


@needs("zonectl", "runc", why="no events")
def test_events_tells_of_memory_that_ran_out(oci):
    script = (
        "echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done; (dd if=/dev/zero of=/dev/null bs=64M count=1); sleep 100"
    )
    memory = {"limit": 24 << 20, "swap": 24 << 20}
    name = oci.started(script, {"linux.resources.memory": memory})
    oci.said(name, "up")
    process = oci.popen("events", "--interval", "300ms", name)
    assert json.loads(process.stdout.readline())["type"] == "stats"
    (open(oci.path(f"bundle-{name}/rootfs/tmp/go"), "w")).close()
    types = [json.loads(process.stdout.readline())["type"] for _ in range(4)]
    assert "oom" in types


@needs("zonectl", "runc", why="no events")
@pytest.mark.parametrize("options", [("--interval", "0s"), ("--interval", "-1s"), ("--interval", "soon")])
def test_events_of_bad_interval(oci, options):
    result = oci.run("events", *options, oci.started(), timeout=10)
    oci.refused(result, "interval")


def test_no_output_is_written_behind_a_closed_pipe(oci):
    """`list | head` must not end in a trap."""
    oci.started()
    process = subprocess.Popen(oci.command("list"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=20)
    assert b"Fatal" not in err
